//! The `tidegate-proxy` program: a bootstrap file in, Envoy's behaviour out. Everything else is in the library.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, ValueEnum};
use tidegate::open_files;
use tidegate::proxy::bootstrap::{self, model::Bootstrap};
use tidegate::proxy::serve::{DRAIN_TIMEOUT, serve};
use tidegate::proxy::server::{DrainSettings, DrainStrategy};
use tokio::signal::unix::{SignalKind, signal};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A test and trial proxy that reads an Envoy v3 static bootstrap and behaves as Envoy does.
#[derive(Debug, Parser)]
#[command(name = "tidegate-proxy", version, about)]
struct CommandLine {
    /// The bootstrap, in YAML or JSON
    #[arg(short, long, value_name = "FILE")]
    config_path: PathBuf,
    /// What to do with it
    #[arg(long, value_enum, default_value_t = Mode::Serve)]
    mode: Mode,
    /// Where to write the address of the admin interface
    #[arg(long, value_name = "FILE")]
    admin_address_path: Option<PathBuf>,
    /// Threads that serve requests [default: one for each core]
    #[arg(long, value_name = "THREADS", value_parser = clap::value_parser!(u16).range(1..=1024))]
    concurrency: Option<u16>,
    /// Seconds that a graceful drain of listeners takes
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    drain_time_s: u32,
    /// Whom a graceful drain asks to go
    #[arg(long, value_enum, value_name = "STRATEGY", default_value_t = Strategy::Gradual)]
    drain_strategy: Strategy,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Strategy {
    /// More and more clients, until at the end of the time all are
    Gradual,
    /// Everybody
    Immediate,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Mode {
    /// Serve
    Serve,
    /// Say whether the file can be served, and what is wrong with it if it can't
    Validate,
}

fn main() -> ExitCode {
    let command_line = match CommandLine::try_parse() {
        Ok(command_line) => command_line,
        Err(error) => {
            // Help and version go to standard output, mistakes to standard error; a closed pipe is nobody's fault.
            drop(error.print());
            return tidegate::cli::status_of(&error).into();
        }
    };
    match run(&command_line) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tidegate-proxy: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command_line: &CommandLine) -> anyhow::Result<()> {
    let path = &command_line.config_path;
    let text = std::fs::read_to_string(path).with_context(|| format!("{} can't be read", path.display()))?;
    let bootstrap = bootstrap::read(&text, &path.display().to_string())?;
    for warning in &bootstrap.warnings {
        eprintln!("tidegate-proxy: {warning}");
    }
    if matches!(command_line.mode, Mode::Validate) {
        #[allow(clippy::print_stdout)] // what was asked for
        {
            println!("configuration {:?} OK", path.display().to_string());
        }
        return Ok(());
    }
    // As many connections as the system allows.
    open_files::raise();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env().add_directive(tracing::Level::WARN.into()))
        .init();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if let Some(threads) = command_line.concurrency {
        runtime.worker_threads(usize::from(threads));
    }
    let runtime = runtime.enable_all().build().context("the operating system refused threads or timers")?;
    runtime.block_on(serve_until_told(bootstrap, command_line))
}

async fn serve_until_told(bootstrap: Bootstrap, command_line: &CommandLine) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("signals can't be waited for")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("signals can't be waited for")?;
    let strategy = match command_line.drain_strategy {
        Strategy::Gradual => DrainStrategy::Gradual,
        Strategy::Immediate => DrainStrategy::Immediate,
    };
    let time = Duration::from_secs(command_line.drain_time_s.into());
    let proxy = serve(bootstrap, DrainSettings { time, strategy }).await?;
    if let (Some(path), Some(address)) = (&command_line.admin_address_path, proxy.admin_address()) {
        std::fs::write(path, address.to_string()).with_context(|| format!("{} can't be written", path.display()))?;
    }
    for (name, address) in proxy.listeners() {
        eprintln!("tidegate-proxy: listener {name} on {address}");
    }
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = proxy.quit() => {}
    }
    tokio::select! {
        () = proxy.drain(DRAIN_TIMEOUT) => {}
        // Who asks twice doesn't want to wait.
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}
