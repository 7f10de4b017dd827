//! The `tidegate-shop` program: command line in, a service out. Everything else is in the library.

use std::process::ExitCode;

use tidegate::cli::ExitStatus;
use tidegate::shop::cli;

fn main() -> ExitCode {
    let command = match cli::parse(std::env::args_os()) {
        Ok(command) => command,
        Err(error) => {
            // Help and version go to standard output, mistakes to standard error; a closed pipe is nobody's fault.
            drop(error.print());
            return tidegate::cli::status_of(&error).into();
        }
    };
    let served = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(command.run()));
    match served {
        Ok(()) => ExitStatus::Success.into(),
        Err(error) => {
            eprintln!("tidegate-shop: {error:#}");
            ExitStatus::Unavailable.into()
        }
    }
}
