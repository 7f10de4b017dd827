//! `tidegate simulate`: files in, text out.

use std::path::{Path, PathBuf};

use thiserror::Error;

use super::replay::Series;
use super::run::run as simulated;
use super::{page, scenario, show};

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The scenario file.
    pub scenario: PathBuf,
    /// A recorded series to run the law over instead of the plant.
    pub replay: Option<PathBuf>,
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
    /// What a file says is wrong: every mistake, one per line.
    #[error("{}", .0.join("\n"))]
    Mistakes(Vec<String>),
}

/// Does what is asked for and gives back what is to be printed. The same files and seed give the same text.
///
/// # Errors
/// A file can't be read or written, or is wrong; then all mistakes of both files are told at once.
pub fn run(options: &Options) -> Result<String, SimulateError> {
    let text = read(&options.scenario)?;
    let named = scenario::read(&options.scenario.display().to_string(), &text);
    let series = match &options.replay {
        None => None,
        Some(file) => Some(Series::read(&file.display().to_string(), &read(file)?)),
    };
    let (mut named, series) = match (named, series.transpose()) {
        (Ok(named), Ok(series)) => (named, series),
        (named, series) => {
            let mistakes = named.err().into_iter().chain(series.err()).flatten();
            return Err(SimulateError::Mistakes(mistakes.collect()));
        }
    };
    if let Some(series) = series {
        let decisions = series.replayed(&named.scenario.law);
        return Ok(match options.form {
            Form::Table => show::replayed(&named.name, &decisions),
            Form::Csv => show::replayed_csv(&decisions),
            Form::JsonLines => show::replayed_json_lines(&decisions),
        });
    }
    named.scenario.seed = options.seed.unwrap_or(named.scenario.seed);
    let run = simulated(&named.scenario);
    if let Some(file) = &options.html {
        let page = page::page(&named, &run);
        std::fs::write(file, page).map_err(|error| SimulateError::Unwritable { file: file.clone(), error })?;
    }
    Ok(match options.form {
        Form::Table => show::table(&named, &run),
        Form::Csv => show::csv(&run),
        Form::JsonLines => show::json_lines(&run),
    })
}

fn read(file: &Path) -> Result<String, SimulateError> {
    std::fs::read_to_string(file).map_err(|error| SimulateError::Unreadable { file: file.to_owned(), error })
}
