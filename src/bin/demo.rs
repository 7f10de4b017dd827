//! The `tidegate-demo` program: command line in, a table and a page out. Everything else is in the library.

use std::process::ExitCode;

use tidegate::cli::ExitStatus;
use tidegate::demo::cli;

fn main() -> ExitCode {
    let arguments = match cli::parse(std::env::args_os()) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version go to standard output, mistakes to standard error; a closed pipe is nobody's fault.
            drop(error.print());
            return tidegate::cli::status_of(&error).into();
        }
    };
    match arguments.run() {
        Ok(()) => ExitStatus::Success.into(),
        Err(error) => {
            eprintln!("\ntidegate-demo: {error:#}");
            // As a shell says it of a program that SIGINT ended.
            if cli::was_interrupted(&error) { ExitCode::from(130) } else { ExitStatus::Unavailable.into() }
        }
    }
}
