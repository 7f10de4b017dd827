//! The `tidegate` program: command line and settings in, exit code out. Everything else is in the library.

use std::future::Future;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use futures_util::FutureExt;
use tidegate::admin::{self, cli::Adaptive};
use tidegate::app::{App, RunError, StartError, count};
use tidegate::ask::{self, Ask, Verdict};
use tidegate::cli::{self, Command, ExitStatus};
use tidegate::clock::{Clock, SystemClock};
use tidegate::open_files;
use tidegate::prometheus::{self, PrometheusSource};
use tidegate::rules::{self, Compatibility, Difference, Options, RuleSet, Sources, read_sources};
use tidegate::settings::{self, Note, RuleSource, Settings};
use tidegate::simulate::{self, command::SimulateError};
use tokio::signal::unix::{SignalKind, signal};

/// Calls are answered with a dozen small allocations each. ARCHITECTURE.md has what this allocator gave.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Why the process ends early, and how.
struct Failure {
    status: ExitStatus,
    text: String,
}

fn main() -> ExitCode {
    let command = match cli::parse(std::env::args_os()) {
        Ok(command) => command,
        Err(error) => {
            // Help and version go to standard output, mistakes to standard error; a closed pipe is nobody's fault.
            drop(error.print());
            return cli::status_of(&error).into();
        }
    };
    let success = |()| ExitStatus::Success;
    let done = match command {
        Command::Serve { settings } => serve(settings).map(success),
        Command::Check { settings, files } => check(settings, &files).map(success),
        Command::Simulate { settings, options } => simulate(settings, options).map(success),
        Command::Adaptive { settings, asked } => adaptive(settings, &asked).map(success),
        Command::Ask { settings, asked } => ask(settings, &asked),
    };
    match done {
        Ok(status) => status.into(),
        Err(Failure { status, text }) => {
            eprintln!("tidegate: {text}");
            status.into()
        }
    }
}

/// Serves until a signal ends it.
fn serve(file: Option<PathBuf>) -> Result<(), Failure> {
    let (settings, notes) = read_settings(file)?;
    tidegate::logging::init(&settings.log).map_err(|error| failure(ExitStatus::OperatingSystem, &error))?;
    for note in notes {
        tracing::warn!("{note}");
    }
    if let Some(warning) = open_files::too_few(open_files::raise(), &settings) {
        tracing::warn!("{warning}");
    }
    // The control side: accepting, HTTP, reloading. Rate limit calls have a runtime on each core.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| failure(ExitStatus::OperatingSystem, &error))?;
    let served = runtime.block_on(async {
        let mut shutdown = pin!(shutdown().map_err(|error| failure(ExitStatus::OperatingSystem, &error))?);
        let app = tokio::select! {
            app = App::bind(settings) => app?,
            // The rules may be waited for, if need be for ever.
            () = shutdown.as_mut() => return Ok(()),
        };
        // Whether somebody reads it is no business of who serves.
        drop(write(&app.greeting()));
        Ok(app.run(shutdown).await?)
    });
    // Whatever still hangs, such as a disk, holds the end no longer.
    runtime.shutdown_timeout(Duration::from_secs(1));
    served
}

/// Checks rule files as the service would read them, and reports every mistake.
fn check(file: Option<PathBuf>, files: &[PathBuf]) -> Result<(), Failure> {
    let (settings, notes) = read_settings(file)?;
    for note in notes {
        eprintln!("note: {note}");
    }
    let options = Options { defaults: settings.rules.defaults, merge_domains: settings.rules.merge_domains };
    let sources = read_sources(files);
    let loaded = sources.load(&options);
    let (rules, warnings) = loaded.map_err(|errors| failure(ExitStatus::Configuration, &errors.all()))?;
    for warning in &warnings {
        print(&format_args!("warning: {warning}"))?;
    }
    for difference in differences(&rules, &sources, &options) {
        print(&format_args!("remark: {difference}"))?;
    }
    show_services(&rules)?;
    if let RuleSource::Xds(xds) = &settings.rules.source {
        let server = &xds.server.address;
        print(&format_args!("remark: the settings take no rules from files but from the xDS server {server}"))?;
    }
    let counts = [
        count(sources.files.len(), "file"),
        count(rules.domains().count(), "domain"),
        count(rules.rules().len(), "rule"),
        count(warnings.len(), "warning"),
    ];
    let services = Some(rules.services().len()).filter(|services| *services > 0).map(|many| count(many, "service"));
    let counts: Vec<String> = counts.into_iter().chain(services).collect();
    print(&format_args!("ok: {}", counts.join(", ")))
}

/// Where these files mean another thing in the compatibility profile than without it.
fn differences(rules: &RuleSet, sources: &Sources, options: &Options) -> Vec<Difference> {
    let present = options.defaults.compatibility;
    let other = match present {
        Compatibility::Off => Compatibility::Envoyproxy,
        Compatibility::Envoyproxy => Compatibility::Off,
    };
    let options = Options { defaults: options.defaults.in_profile(other), ..*options };
    // Only what rules call for stands in the way of a set that loads: a precision where windows are fixed by default.
    let Ok((others, _)) = sources.load(&options) else { return Vec::new() };
    match present {
        Compatibility::Off => rules::differences(rules, &others),
        Compatibility::Envoyproxy => rules::differences(&others, rules),
    }
}

/// Asks a replica's admin listener.
fn adaptive(file: Option<PathBuf>, asked: &Adaptive) -> Result<(), Failure> {
    let (settings, _notes) = read_settings(file)?;
    let user = std::env::var("USER").ok();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| failure(ExitStatus::OperatingSystem, &error))?;
    let (lines, notes) = (|line: &str| write(&line), |note: &str| eprintln!("tidegate: {note}"));
    match runtime.block_on(admin::cli::run(asked, &settings.admin, user.as_deref(), lines, notes)) {
        Ok(()) => Ok(()),
        Err(admin::cli::Failure::Wrong(text)) => Err(Failure { status: ExitStatus::Usage, text }),
        Err(admin::cli::Failure::Unavailable(text)) => Err(Failure { status: ExitStatus::Unavailable, text }),
        Err(admin::cli::Failure::Output(error)) => unwritten(&error),
    }
}

/// Makes one rate limit call.
fn ask(file: Option<PathBuf>, asked: &Ask) -> Result<ExitStatus, Failure> {
    let settings = if asked.needs_settings() { Some(read_settings(file)?.0) } else { None };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| failure(ExitStatus::OperatingSystem, &error))?;
    let grpc = settings.as_ref().map(|settings| &settings.grpc);
    match runtime.block_on(asked.run(grpc, |told| write(&told))) {
        Ok(Verdict::Ok) => Ok(ExitStatus::Success),
        Ok(Verdict::OverLimit) => Ok(ExitStatus::OverLimit),
        Err(ask::Failure::Wrong(text)) => Err(Failure { status: ExitStatus::Usage, text }),
        Err(ask::Failure::Unavailable(text)) => Err(Failure { status: ExitStatus::Unavailable, text }),
        Err(ask::Failure::Output(error)) => unwritten(&error).map(|()| ExitStatus::Success),
    }
}

/// Shows what adaptive services come to, and what their Prometheus says of them if it can be reached.
fn show_services(rules: &RuleSet) -> Result<(), Failure> {
    if rules.services().is_empty() {
        return Ok(());
    }
    let source = match rules.prometheus().map(PrometheusSource::new) {
        Some(Ok(source)) => Some(source),
        Some(Err(error)) => {
            print(&format_args!("warning: {error}"))?;
            None
        }
        None => None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| failure(ExitStatus::OperatingSystem, &error))?;
    for report in runtime.block_on(prometheus::reports(source.as_ref(), rules)) {
        print(&report)?;
    }
    Ok(())
}

/// Tries the law on a described service or a recorded series.
fn simulate(file: Option<PathBuf>, mut options: simulate::command::Options) -> Result<(), Failure> {
    let mut loading = Options::default();
    if options.service.is_some() {
        let (settings, notes) = read_settings(file)?;
        for note in notes {
            eprintln!("note: {note}");
        }
        loading = Options { defaults: settings.rules.defaults, merge_domains: settings.rules.merge_domains };
        if options.rules.is_empty() {
            options.rules = settings.rules.paths;
        }
    }
    let told = match &options.range {
        None => simulate::command::run(&options, &loading),
        Some(_) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|error| failure(ExitStatus::OperatingSystem, &error))?;
            runtime.block_on(simulate::command::past(&options, &loading, SystemClock.now(), progress))
        }
    };
    let told = told.map_err(|error| match error {
        SimulateError::Unavailable(text) => Failure { status: ExitStatus::Unavailable, text },
        error => failure(ExitStatus::Configuration, &error),
    })?;
    for note in &told.notes {
        eprintln!("note: {note}");
    }
    print(&told.text.trim_end())
}

/// Says on a terminal how far a long work is; nothing where nobody looks on.
fn progress(done: usize, all: usize) {
    let is_step = done == all || done.is_multiple_of((all / 100).max(1));
    if is_step && std::io::stderr().is_terminal() {
        // Over itself, and gone at the end.
        let end = if done == all { "\r\x1b[K" } else { "" };
        eprint!("\r{done} of {all} instants{end}");
    }
}

fn read_settings(file: Option<PathBuf>) -> Result<(Settings, Vec<Note>), Failure> {
    let environment = settings::as_text(std::env::vars_os());
    let text = match file.or_else(|| settings::file_in(&environment)) {
        None => None,
        Some(path) => Some((path.display().to_string(), read(&path)?)),
    };
    let named = text.as_ref().map(|(name, text)| (name.as_str(), text.as_str()));
    Settings::load(named, environment).map_err(|errors| failure(ExitStatus::Configuration, &errors))
}

fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| Failure {
        status: ExitStatus::Configuration,
        text: format!("the settings file {} cannot be read: {error}", path.display()),
    })
}

/// Ends with the first SIGTERM or SIGINT. An interrupt more than a second later ends the process at once.
fn shutdown() -> std::io::Result<impl Future<Output = ()> + Send> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tokio::spawn(async move {
            // Supervisors send a signal twice, to the process and to its group. Only somebody at a terminal who
            // presses again means it.
            tokio::time::sleep(Duration::from_secs(1)).await;
            while interrupt.recv().now_or_never().is_some() {}
            interrupt.recv().await;
            tracing::warn!("interrupted again: ending at once");
            std::process::exit(130);
        });
    })
}

fn failure(status: ExitStatus, error: &dyn std::fmt::Display) -> Failure {
    Failure { status, text: error.to_string() }
}

/// Standard output is what the user asked for: what can't be written there is told by the exit code.
fn print(text: &dyn std::fmt::Display) -> Result<(), Failure> {
    write(text).or_else(|error| unwritten(&error))
}

/// Whoever has closed the pipe has read enough; anything else is a failure.
fn unwritten(error: &std::io::Error) -> Result<(), Failure> {
    match error.kind() {
        std::io::ErrorKind::BrokenPipe => Ok(()),
        _ => Err(Failure { status: ExitStatus::Output, text: format!("a line cannot be written: {error}") }),
    }
}

fn write(text: &dyn std::fmt::Display) -> std::io::Result<()> {
    use std::io::Write;
    writeln!(std::io::stdout(), "{text}")
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Failure {
        let status = match error {
            StartError::Rules(_) | StartError::Tls(_) => ExitStatus::Configuration,
            StartError::Port { .. } | StartError::UnixSocket { .. } => ExitStatus::Unavailable,
        };
        failure(status, &error)
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Failure {
        failure(ExitStatus::OperatingSystem, &error)
    }
}
