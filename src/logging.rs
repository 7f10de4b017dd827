//! The process's log: standard error, as text or as one JSON object per line.
//!
//! Standard output stays free for what a command was asked to print. At the default level the log says what the
//! process did and nothing per request. This is the only place that touches the global subscriber, and only `main`
//! calls it: tests make subscribers of their own.

use std::io::{self, IsTerminal};

use thiserror::Error;
use tracing_subscriber::fmt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::settings::{LogFormat, LogSettings};

/// The log could not be started.
#[derive(Debug, Error)]
#[error("logging is already set up in this process, it can be only once: {0}")]
pub struct LoggingError(tracing_subscriber::util::TryInitError);

/// Starts the log. Events before this call are lost.
///
/// # Errors
/// When the process has a log already.
pub fn init(settings: &LogSettings) -> Result<(), LoggingError> {
    let builder = fmt().with_env_filter(settings.filter.to_env_filter()).with_writer(io::stderr);
    match settings.format {
        // Colours are for people; a file or a collector would get escape codes.
        LogFormat::Text => builder.with_ansi(io::stderr().is_terminal()).finish().try_init(),
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init(),
    }
    .map_err(LoggingError)
}
