//! What a run writes down of its calls, for the arithmetic afterwards.
//!
//! Every admission is kept with its instants, as any of them may be the one too many. Of refusals it is enough to know
//! in which of the run's windows there were any.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::super::client::{Call, Outcome};
use super::super::drive::Observer;
use super::super::failures::Failures;
use super::super::progress::Progress;
use super::windows::Span;

/// Admissions and refusals that are kept, some 150 MB; the run ends when there are as many.
const ENTRIES_MAX: usize = 4_000_000;

/// What is known of the calls so far.
#[derive(Debug)]
pub struct Ledger {
    pub(super) window_ns: u64,
    duration_ns: u64,
    hits: u32,
    pub(super) keys: HashMap<u64, Account>,
    /// Windows, by key and number, that certainly refused a call.
    pub(super) refusing: HashSet<(u64, u64)>,
    entries: usize,
    pub(super) admitted: u64,
    pub(super) refused: u64,
    pub(super) unanswered: u64,
    pub(super) failures: Failures,
    /// When the last call was sent.
    pub(super) last_sent_ns: u64,
    progress: Progress,
}

/// What one key admitted.
#[derive(Clone, Debug, Default)]
pub(super) struct Account {
    /// Calls that were answered OK.
    pub(super) admitted: Vec<Span>,
    /// Calls without a verdict, which the server may have admitted.
    pub(super) unknown: Vec<Span>,
}

// === impl Ledger ===

impl Ledger {
    /// An empty ledger for a limit with that window; each call has so many hits.
    #[must_use]
    pub fn new(window: Duration, duration: Duration, hits: u32) -> Ledger {
        Ledger {
            window_ns: (window.as_nanos() as u64).max(1),
            duration_ns: duration.as_nanos() as u64,
            hits,
            keys: HashMap::new(),
            refusing: HashSet::new(),
            entries: 0,
            admitted: 0,
            refused: 0,
            unanswered: 0,
            failures: Failures::default(),
            last_sent_ns: 0,
            progress: Progress::new(),
        }
    }

    /// Calls with a verdict or an error.
    pub(super) fn answered(&self) -> u64 {
        self.admitted + self.refused + self.failures.total()
    }

    /// Whole windows, one after the other from the start, in which calls were sent to the end.
    pub(super) fn windows(&self) -> usize {
        // The last call was sent a moment before the end.
        let sent_for_ns = if self.is_full() { self.last_sent_ns } else { self.duration_ns };
        usize::try_from(sent_for_ns / self.window_ns).unwrap_or(usize::MAX).min(ENTRIES_MAX)
    }

    fn keep(&mut self, key: u64, span: Span, known: bool) {
        self.entries += 1;
        let account = self.keys.entry(key).or_default();
        if known { account.admitted.push(span) } else { account.unknown.push(span) }
    }
}

impl Observer for Ledger {
    fn ended(&mut self, call: &Call, at_ns: u64, outcome: Outcome) {
        self.last_sent_ns = self.last_sent_ns.max(call.sent_ns);
        let span = Span { sent_ns: call.sent_ns, answered_ns: at_ns, hits: self.hits };
        // A call without a verdict may be decided whenever the server comes to it.
        let unknown = Span { answered_ns: u64::MAX, ..span };
        match outcome {
            Outcome::Ok => {
                self.admitted += 1;
                self.keep(call.key, span, true);
            }
            Outcome::OverLimit => {
                self.refused += 1;
                let window = call.sent_ns / self.window_ns;
                if at_ns / self.window_ns == window && self.refusing.insert((call.key, window)) {
                    self.entries += 1;
                }
            }
            Outcome::Failed(failure) => {
                self.failures.count(failure);
                self.keep(call.key, unknown, false);
            }
            Outcome::Returned | Outcome::Unanswered => {
                self.unanswered += 1;
                self.keep(call.key, unknown, false);
            }
        }
    }

    fn unsent(&mut self, _due_ns: u64) {}

    fn progress(&mut self, now_ns: u64) {
        let answered = self.answered();
        self.progress.show("counting", now_ns, self.duration_ns, answered);
    }

    fn finished(&mut self) {
        self.progress.clear();
    }

    fn is_full(&self) -> bool {
        self.entries >= ENTRIES_MAX
    }
}
