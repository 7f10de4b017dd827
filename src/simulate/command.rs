//! `tidegate simulate`: files in, text out.

use std::path::{Path, PathBuf};

use thiserror::Error;

use super::past::{self, Range, Replayed};
use super::recording::Recording;
use super::replay::{How, Series};
use super::run::run as simulated;
use super::show::{Dates, Replay};
use super::tried::{self, Over, Tried};
use super::{page, scenario, show};
use crate::clock::Timestamp;
use crate::prometheus::PrometheusSource;
use crate::rules::service::Service;
use crate::rules::{self, RuleSet, read_sources};

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The scenario file; it may be missing where a service is named.
    pub scenario: Option<PathBuf>,
    /// A service of the rule files, whose law is taken instead of the scenario's.
    pub service: Option<String>,
    /// Rule files, and directories of them; those of the settings if there are none.
    pub rules: Vec<PathBuf>,
    /// A recorded series to run the law over instead of the plant.
    pub replay: Option<PathBuf>,
    /// From when to when the service's Prometheus is asked instead, as it was written.
    pub range: Option<(String, String)>,
    /// Chance, instead of the scenario's.
    pub seed: Option<u64>,
    /// What is printed.
    pub form: Form,
    /// Where a page with plots goes.
    pub html: Option<PathBuf>,
}

/// A form of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// For people.
    Table,
    /// Comma-separated values.
    Csv,
    /// A JSON object in each line.
    JsonLines,
}

/// What is said where nothing says what the law is.
const NOTHING_NAMED: &str = "name a scenario file, or a service of the rule files with --service";

/// Most services that a sentence names.
const NAMED_MAX: usize = 20;

/// Why nothing is simulated.
#[derive(Debug, Error)]
pub enum SimulateError {
    /// A file can't be read.
    #[error("{} cannot be read: {error}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The page can't be written.
    #[error("{} cannot be written: {error}", file.display())]
    Unwritable {
        /// The file.
        file: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The service's Prometheus can't be asked.
    #[error("{0}")]
    Unavailable(String),
    /// What a file says is wrong: every mistake, one per line.
    #[error("{}", .0.join("\n"))]
    Mistakes(Vec<String>),
}

/// What is printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// What was asked for.
    pub text: String,
    /// What was assumed and doesn't stand in the text, one sentence each.
    pub notes: Vec<String>,
}

/// Does what is asked for and gives back what is to be printed. The same files and seed give the same text.
///
/// # Errors
/// A file can't be read or written, or is wrong; then all mistakes of both files are told at once.
pub fn run(options: &Options, loading: &rules::Options) -> Result<Told, SimulateError> {
    let loaded = options.service.as_ref().map(|_| load(&options.rules, loading)).transpose()?;
    let (rules, warnings) = loaded.unzip();
    let warnings = warnings.unwrap_or_default();
    let service = rules.as_ref().zip(options.service.as_deref()).map(|(rules, name)| service_of(rules, name));
    let service = service.transpose()?;
    if let Some(file) = &options.replay {
        return replayed(options, file, service, warnings);
    }
    let named = match (&options.scenario, service) {
        (Some(file), service) => {
            scenario::read(&name_of(file), &read(file)?, service.map(|service| (service, Over::Plant)))
        }
        (None, Some(service)) => Ok(tried::story(service)),
        (None, None) => Err(vec![NOTHING_NAMED.to_owned()]),
    };
    let mut named = named.map_err(SimulateError::Mistakes)?;
    named.notes.extend(warnings);
    named.scenario.seed = options.seed.unwrap_or(named.scenario.seed);
    let run = simulated(&named.scenario);
    if let Some(file) = &options.html {
        written(file, &page::page(&named, &run))?;
    }
    Ok(match options.form {
        Form::Table => Told { text: show::table(&named, &run), notes: Vec::new() },
        Form::Csv => Told { text: show::csv(&run), notes: named.notes },
        Form::JsonLines => Told { text: show::json_lines(&run), notes: named.notes },
    })
}

/// What a replay file holds.
enum Recorded {
    Counters(Series),
    Ticks(Recording),
}

/// Runs the law over a recorded series.
fn replayed(
    options: &Options,
    file: &Path,
    service: Option<&Service>,
    warnings: Vec<String>,
) -> Result<Told, SimulateError> {
    let text = read(file)?;
    let over = if Recording::is_one(&text) { Over::Ticks } else { Over::Counters };
    let law = match (&options.scenario, service) {
        // Of a service of the rule files the scenario says how often it is scraped.
        (Some(file), service) => scenario::read(&name_of(file), &read(file)?, service.map(|service| (service, over)))
            .map(|named| (named.name, named.scenario.law, named.notes)),
        (None, Some(service)) => {
            let Tried { name, law, notes, .. } = Tried::of(service, None, over);
            Ok((name, law, notes))
        }
        (None, None) => Err(vec![NOTHING_NAMED.to_owned()]),
    };
    let recorded = match over {
        Over::Ticks => Recording::read(&name_of(file), &text).map(Recorded::Ticks),
        _ => Series::read(&name_of(file), &text).map(Recorded::Counters),
    };
    let ((name, law, mut notes), recorded) = match (law, recorded) {
        (Ok(law), Ok(recorded)) => (law, recorded),
        (law, recorded) => {
            let mistakes = law.err().into_iter().chain(recorded.err()).flatten();
            return Err(SimulateError::Mistakes(mistakes.collect()));
        }
    };
    notes.extend(warnings);
    let (decisions, dates, how) = match recorded {
        Recorded::Counters(series) => (series.replayed(&law), Dates::Seconds, How::OpenLoop),
        Recorded::Ticks(recording) => {
            let again = recording.again(&law);
            notes.extend(again.notes);
            (again.decisions, Dates::Utc, again.how)
        }
    };
    told(options, &Replay { name: &name, notes, decisions, dates, how })
}

/// Asks the service's own Prometheus about a past range and runs the law over the answers. `now` is the present;
/// `progress` is told how many instants of how many are done.
///
/// # Errors
/// The rules, the service or the range are wrong, or the server does not answer at all. Instants that it doesn't answer
/// are absent samples.
pub async fn past(
    options: &Options,
    loading: &rules::Options,
    now: Timestamp,
    progress: impl FnMut(usize, usize),
) -> Result<Told, SimulateError> {
    let wrong = |sentence: String| SimulateError::Mistakes(vec![sentence]);
    let (name, (from, to)) = match (&options.service, &options.range) {
        (Some(name), Some(range)) => (name, range),
        _ => return Err(wrong(NOTHING_NAMED.to_owned())),
    };
    let (rules, warnings) = load(&options.rules, loading)?;
    let service = service_of(&rules, name)?;
    let range = Range::read(from, to, now).map_err(SimulateError::Mistakes)?;
    let server = rules.prometheus().ok_or_else(|| wrong("the rule files name no Prometheus to ask".to_owned()))?;
    let source = PrometheusSource::new(server).map_err(|error| wrong(error.to_string()))?;
    let unavailable = |absence| SimulateError::Unavailable(format!("{} can't be asked: {absence}", server.url));
    source.try_server().await.map_err(unavailable)?;
    let Replayed { decisions, mut notes } = past::replayed(&source, service, range, progress).await.map_err(wrong)?;
    notes.extend(warnings);
    told(options, &Replay { name, notes, decisions, dates: Dates::Utc, how: How::OpenLoop })
}

/// A replay as it is asked for.
fn told(options: &Options, replay: &Replay<'_>) -> Result<Told, SimulateError> {
    if let Some(file) = &options.html {
        written(file, &page::replayed(replay))?;
    }
    let notes = || replay.notes.clone();
    Ok(match options.form {
        Form::Table => Told { text: show::replayed(replay), notes: Vec::new() },
        Form::Csv => Told { text: show::replayed_csv(&replay.decisions), notes: notes() },
        Form::JsonLines => Told { text: show::replayed_json_lines(&replay.decisions), notes: notes() },
    })
}

fn written(file: &Path, page: &str) -> Result<(), SimulateError> {
    std::fs::write(file, page).map_err(|error| SimulateError::Unwritable { file: file.to_owned(), error })
}

/// The rules of files, as a server would load them, and what it would warn of.
fn load(files: &[PathBuf], loading: &rules::Options) -> Result<(RuleSet, Vec<String>), SimulateError> {
    let loaded = read_sources(files).load(loading);
    let (rules, warnings) = loaded.map_err(|errors| SimulateError::Mistakes(vec![errors.all().to_string()]))?;
    Ok((rules, warnings.iter().map(ToString::to_string).collect()))
}

fn service_of<'r>(rules: &'r RuleSet, name: &str) -> Result<&'r Service, SimulateError> {
    rules.services().iter().find(|service| &*service.name == name).ok_or_else(|| {
        let mut names: Vec<&str> = rules.services().iter().map(|service| &*service.name).collect();
        let more = names.len().saturating_sub(NAMED_MAX);
        names.truncate(NAMED_MAX);
        let known = match (names.as_slice(), more) {
            ([], _) => "they have no services".to_owned(),
            (names, 0) => format!("they have {}", names.join(", ")),
            (names, more) => format!("they have {} and {more} more", names.join(", ")),
        };
        SimulateError::Mistakes(vec![format!("the rule files have no service {name:?}; {known}")])
    })
}

fn name_of(file: &Path) -> String {
    file.display().to_string()
}

fn read(file: &Path) -> Result<String, SimulateError> {
    std::fs::read_to_string(file).map_err(|error| SimulateError::Unreadable { file: file.to_owned(), error })
}
