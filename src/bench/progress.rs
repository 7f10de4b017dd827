//! The line on standard error that tells a waiting person how far a run is; nothing where nobody looks at a terminal.

use std::io::{IsTerminal, Write};

/// The line, and what it said last.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    shows: bool,
    before_ns: u64,
    before: u64,
}

// === impl Progress ===

impl Progress {
    /// A line on standard error, if that is a terminal.
    #[must_use]
    pub fn new() -> Progress {
        Progress { shows: std::io::stderr().is_terminal(), before_ns: 0, before: 0 }
    }

    /// Shows how far the run is: the instant of `end_ns`, and answers so far.
    pub fn show(&mut self, phase: &str, now_ns: u64, end_ns: u64, answered: u64) {
        if !self.shows {
            return;
        }
        let seconds = now_ns.saturating_sub(self.before_ns) as f64 / 1e9;
        let rate = if seconds > 0.0 { answered.saturating_sub(self.before) as f64 / seconds } else { 0.0 };
        (self.before_ns, self.before) = (now_ns, answered);
        let (now, end) = (now_ns as f64 / 1e9, end_ns as f64 / 1e9);
        // Progress that can't be shown is not missed.
        drop(write!(std::io::stderr(), "\r\x1b[K{phase}: {now:.1} of {end:.1} s, {rate:.0} calls a second"));
    }

    /// Removes the line.
    pub fn clear(&self) {
        if self.shows {
            drop(write!(std::io::stderr(), "\r\x1b[K"));
        }
    }
}

impl Default for Progress {
    fn default() -> Progress {
        Progress::new()
    }
}
