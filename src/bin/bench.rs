//! The `tidegate-bench` program: command line in, tables out. Everything else is in the library.

use std::process::ExitCode;

use tidegate::bench::cli::{self, Failure, Verdict};

/// The allocator of the baseline: with the system's own, it would be slower than it need be, and the ratios flattered.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let command = match cli::parse(std::env::args_os()) {
        Ok(command) => command,
        Err(error) => {
            // Help and version go to standard output, mistakes to standard error; a closed pipe is nobody's fault.
            drop(error.print());
            return tidegate::cli::status_of(&error).into();
        }
    };
    match command.run() {
        Ok(Verdict::Holds) => ExitCode::SUCCESS,
        Ok(Verdict::Fails) => ExitCode::FAILURE,
        Err(Failure { status, text }) => {
            eprintln!("tidegate-bench: {text}");
            status.into()
        }
    }
}
