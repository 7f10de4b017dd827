//! Where access log lines go: a thread of its own writes them, so that no request waits for a disk.
//!
//! Lines wait in a buffer with a bound. What doesn't fit is left out and counted: a log that can't keep up must not stop
//! the proxy, nor take all memory.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::proxy::access_log::{LineFormat, Record};
use crate::proxy::bootstrap::model::{AccessLog, AccessLogSink};

/// Bytes of lines that wait to be written.
const BUFFER_BYTES_MAX: usize = 4 << 20;

/// An access log of one listener.
#[derive(Debug)]
pub struct LogWriter {
    format: LineFormat,
    sink: Arc<LogSink>,
}

/// A place for lines, shared by those who write to it.
#[derive(Debug)]
pub struct LogSink {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    left_out: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    buffer: Vec<u8>,
    has_ended: bool,
}

// === impl LogWriter ===

impl LogWriter {
    /// A log that writes in that form to that place.
    #[must_use]
    pub fn new(settings: &AccessLog, sink: Arc<LogSink>) -> LogWriter {
        LogWriter { format: settings.format.clone(), sink }
    }

    /// Writes the line of a request.
    pub fn write(&self, record: &Record<'_>) {
        self.sink.write(&self.format.render_line(record));
    }
}

// === impl LogSink ===

impl LogSink {
    /// Opens a place for lines; a file is made if it isn't there, and appended to if it is.
    ///
    /// # Errors
    /// When the file can't be opened or the thread can't be started.
    pub fn open(sink: &AccessLogSink) -> io::Result<LogSink> {
        let output: Box<dyn Write + Send> = match sink {
            AccessLogSink::Stdout => Box::new(io::stdout()),
            AccessLogSink::Stderr => Box::new(io::stderr()),
            AccessLogSink::File(path) => Box::new(OpenOptions::new().create(true).append(true).open(path)?),
        };
        let shared = Arc::new(Shared::default());
        let writer = Arc::clone(&shared);
        let thread =
            std::thread::Builder::new().name("access-log".to_owned()).spawn(move || writer.write_all_to(output))?;
        Ok(LogSink { shared, thread: Mutex::new(Some(thread)) })
    }

    fn write(&self, line: &[u8]) {
        let mut state = self.shared.lock();
        if state.buffer.len() + line.len() > BUFFER_BYTES_MAX {
            drop(state);
            if self.shared.left_out.fetch_add(1, Ordering::Relaxed) == 0 {
                tracing::warn!("an access log can't be written as fast as requests come; lines are left out");
            }
            return;
        }
        state.buffer.extend_from_slice(line);
        drop(state);
        self.shared.changed.notify_one();
    }
}

impl Drop for LogSink {
    /// Writes what is left.
    fn drop(&mut self) {
        self.shared.lock().has_ended = true;
        self.shared.changed.notify_one();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the thread of an access log panicked");
        }
    }
}

// === impl Shared ===

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_all_to(&self, mut output: Box<dyn Write + Send>) {
        loop {
            let mut state = self.lock();
            while state.buffer.is_empty() && !state.has_ended {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            if state.buffer.is_empty() {
                return;
            }
            let lines = std::mem::take(&mut state.buffer);
            drop(state);
            if let Err(error) = output.write_all(&lines).and_then(|()| output.flush()) {
                tracing::warn!(%error, "an access log can't be written");
            }
        }
    }
}
