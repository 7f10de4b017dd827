//! What a run says while it lasts, on standard error: the plan, what is being done, and the time that is left.

use std::io::{IsTerminal, Write, stderr};
use std::time::Duration;

use super::plan::{OTHER_SECTIONS, Scale, Section};
use crate::bench::system::cores::Cores;

/// Tells a person, or a log, how a run goes.
#[derive(Debug)]
pub struct Progress {
    /// A terminal has one line that changes; a log gets a line for each section.
    is_terminal: bool,
    section: String,
}

// === impl Progress ===

impl Progress {
    /// Says what is going to be done.
    #[must_use]
    pub fn begin(sections: &[Section], others: &[bool; 2], time: Duration, scale: &Scale, cores: &Cores) -> Progress {
        say(&format!("{}; about {} without repeated rounds", placement(cores), minutes(time)));
        for section in sections {
            let cases: Vec<&str> = section.cases.iter().map(|case| case.title.as_str()).collect();
            let (rounds, time) = (section.rounds, minutes(section.time(scale)));
            say(&format!("  {:<12} {time:>6}  {rounds} × {}", section.name, cases.join(", ")));
        }
        for ((name, what), _) in OTHER_SECTIONS.iter().zip(others).filter(|(_, wanted)| **wanted) {
            say(&format!("  {name:<12} {:>6}  {what}", ""));
        }
        Progress { is_terminal: stderr().is_terminal(), section: String::new() }
    }

    /// Says what is done now, and what is left.
    pub fn show(&mut self, left: Duration, what: &str) {
        let section = what.split([' ', ':']).next().unwrap_or_default();
        let text = format!("[{} left] {what}", minutes(left));
        if self.is_terminal {
            // A line that can't be shown is not missed.
            drop(write!(stderr(), "\r\x1b[K{text}"));
        } else if section != self.section {
            say(&text);
        }
        section.clone_into(&mut self.section);
    }

    /// Clears the line.
    pub fn finish(&self) {
        if self.is_terminal {
            drop(write!(stderr(), "\r\x1b[K"));
        }
    }
}

/// Where everything runs.
#[must_use]
pub fn placement(cores: &Cores) -> String {
    match cores {
        Cores::Pinned { server, load } => format!("server on core {server}, generator and Redis on core {load}"),
        Cores::Free { reason } => format!("nothing is pinned to a core: {reason}"),
    }
}

fn say(text: &str) {
    eprintln!("{text}");
}

/// Minutes and seconds.
fn minutes(time: Duration) -> String {
    let seconds = time.as_secs();
    format!("{}:{:02}", seconds / 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_is_said_in_minutes_and_seconds() {
        assert_eq!(minutes(Duration::from_secs(425)), "7:05");
    }

    #[test]
    fn a_run_without_pinning_says_why() {
        assert!(placement(&Cores::Free { reason: "there is no taskset" }).contains("there is no taskset"));
    }
}
