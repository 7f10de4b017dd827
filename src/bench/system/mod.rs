//! What a comparison or a demo needs of the machine: processes that end with it, cores to put them on, the CPU time
//! they took.
//!
//! Plain `std` and blocking, because whoever measures waits: a runtime of its own would be one more thing that uses the
//! cores. Everything that waits asks an [`interrupt::Interrupt`] now and then, so that Ctrl-C unwinds through the same `Drop`s as
//! an error does, and each of them ends its process by its id.

pub mod cores;
pub mod cpu;
pub mod folder;
pub mod http;
pub mod interrupt;
pub mod machine;
pub mod process;
pub mod program;
pub mod redis_server;

use std::io;
use std::time::Duration;

use thiserror::Error;

/// How long a server may take to start or to answer.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Why the surroundings of a measurement failed.
#[derive(Debug, Error)]
pub enum SystemError {
    /// A signal asked for the end.
    #[error("interrupted; everything that was started has been ended")]
    Interrupted,
    /// A program can't be started.
    #[error("cannot start {program}: {source}{}", advice(program))]
    Start {
        /// Its name.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// A program ended before it was told to, or with a failure.
    #[error("{program} ended with {status}: {output}")]
    Ended {
        /// Its name.
        program: String,
        /// How it ended.
        status: String,
        /// The last lines that it wrote.
        output: String,
    },
    /// A program did not get ready, or did not finish.
    #[error("{program} took longer than {} s to {what}", waited.as_secs())]
    Late {
        /// Its name.
        program: String,
        /// What it should have done.
        what: &'static str,
        /// How long it was waited for.
        waited: Duration,
    },
    /// A file or folder can't be read or written.
    #[error("cannot {what}: {source}")]
    File {
        /// What was tried, with the path.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// A server answered what can't be right.
    #[error("{program} answered {answer:?} where {wanted} was expected")]
    Answer {
        /// The server's name.
        program: String,
        /// Its answer, shortened.
        answer: String,
        /// What would have been right.
        wanted: &'static str,
    },
    /// Redis, asked directly, failed.
    #[error("redis-server: {0}")]
    Redis(#[from] ::redis::RedisError),
}

/// What to do where a program is missing that is part of no Rust toolchain.
fn advice(program: &str) -> &'static str {
    if program == "redis-server" { " (`make tools` installs it)" } else { "" }
}

// === impl SystemError ===

impl SystemError {
    /// A file error; `what` completes "cannot".
    pub(crate) fn file(what: impl Into<String>) -> impl FnOnce(io::Error) -> SystemError {
        let what = what.into();
        move |source| SystemError::File { what, source }
    }
}
