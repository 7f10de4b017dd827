//! The one task that hands spans to the collector.
//!
//! ```text
//! every interval, or when a batch is together:  take ─ encode ─ send ─┬─ taken
//!                                                 ▲                  ├─ refused: counted, gone
//!                                                 └── wait ◄─ again ─┘  up to a minute, then counted, gone
//! ```
//!
//! One batch is under way at a time; meanwhile the queue fills and no further. Whatever happens is counted in spans
//! (exported, failed, dropped), and a change of state is one line of the log. At the end all that waits is sent within a
//! bounded time, each batch once.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

use super::collector::{Collector, Outcome};
use super::queue::Queue;
use super::span::Span;
use super::{TraceOptions, encode};
use crate::metrics::Metrics;

/// Exports spans.
#[derive(Debug)]
pub struct Exporter {
    resource: Vec<(String, String)>,
    interval: Duration,
    queue: Arc<Queue>,
    collector: Collector,
    metrics: Metrics,
    state: State,
}

/// What was told to the log last.
#[derive(Debug, Default)]
struct State {
    /// Spans cannot be exported.
    is_failing: bool,
    /// Spans that had been dropped when it was last looked at, and when more of them were last found.
    dropped: u64,
    dropping_since: Option<Instant>,
}

/// What became of a batch.
enum Sent {
    /// It is settled, one way or the other.
    Settled,
    /// The end came while it waited for another attempt.
    Interrupted(Vec<Span>),
}

/// Longest time that a batch is tried: as the exporters of OpenTelemetry's own libraries have it.
const RETRY_TIME_MAX: Duration = Duration::from_secs(60);

/// Longest wait between attempts, also where the collector asks for a longer one. The first is a second, and each is
/// twice the last.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// Shortest wait, also where the collector asks for a shorter one.
const WAIT_MIN: Duration = Duration::from_millis(100);

/// Longest time for what is left at the end, and before that for what is under way. The process waits for both.
const LAST_TIME_MAX: Duration = Duration::from_secs(5);

/// Time without a dropped span after which the next is news.
const DROP_GAP: Duration = Duration::from_secs(60);

// === impl Exporter ===

impl Exporter {
    pub(super) fn new(options: TraceOptions, queue: Arc<Queue>, metrics: Metrics) -> Exporter {
        let collector = Collector::new(options.collector);
        let (resource, interval) = (options.resource, options.export_interval);
        Exporter { resource, interval, queue, collector, metrics, state: State::default() }
    }

    /// Exports until `stop`, and then what is left.
    pub async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            tokio::select! {
                () = stop.cancelled() => {}
                () = sleep(self.interval) => {}
                () = self.queue.full_batch() => {}
            }
            self.tell_drops();
            while !stop.is_cancelled() {
                let batch = self.queue.take();
                // What comes while a batch is under way waits for its own, or for the interval.
                let is_full = self.queue.is_batch(&batch);
                if batch.is_empty() {
                    break;
                }
                if let Sent::Interrupted(batch) = self.export(batch, &stop).await {
                    return self.end(Some(batch)).await;
                }
                self.tell_drops();
                if !is_full {
                    break;
                }
            }
        }
        self.end(None).await;
    }

    /// Sends a batch until it is settled.
    async fn export(&mut self, batch: Vec<Span>, stop: &CancellationToken) -> Sent {
        let message = encode::request(&self.resource, &batch);
        let give_up = Instant::now() + RETRY_TIME_MAX;
        for attempt in 0.. {
            let outcome = {
                // What is under way at the end has the end's time.
                let mut sending = pin!(self.collector.send(&message));
                tokio::select! {
                    outcome = &mut sending => Some(outcome),
                    () = stop.cancelled() => timeout_at(Instant::now() + LAST_TIME_MAX, sending).await.ok(),
                }
            };
            let (reason, after) = match outcome {
                Some(Outcome::Again { reason, after }) => (reason, after),
                Some(settled) => {
                    self.settle(settled, batch.len());
                    return Sent::Settled;
                }
                None => {
                    self.lose("the end came first", batch.len());
                    return Sent::Settled;
                }
            };
            let wait = wait(attempt, after, rand::random());
            if Instant::now() + wait > give_up {
                self.lose(&reason, batch.len());
                return Sent::Settled;
            }
            self.tell_failure(&reason);
            self.tell_drops();
            tokio::select! {
                () = stop.cancelled() => return Sent::Interrupted(batch),
                () = sleep(wait) => {}
            }
        }
        Sent::Settled
    }

    /// Sends what is left, each batch once.
    async fn end(mut self, interrupted: Option<Vec<Span>>) {
        let deadline = Instant::now() + LAST_TIME_MAX;
        let mut next = interrupted.unwrap_or_else(|| self.queue.take());
        let mut lost = 0;
        while !next.is_empty() {
            let message = encode::request(&self.resource, &next);
            match timeout_at(deadline, self.collector.send(&message)).await {
                Ok(outcome @ (Outcome::Taken { .. } | Outcome::Refused { .. })) => self.settle(outcome, next.len()),
                Ok(Outcome::Again { reason, .. }) => {
                    self.lose(&reason, next.len());
                    lost += next.len();
                    // What can't be reached now won't be reached for the others either.
                    lost += self.abandon();
                }
                Err(_) => {
                    self.metrics.totals().trace_spans_failed.add(next.len() as u64);
                    lost += next.len() + self.abandon();
                }
            }
            next = self.queue.take();
        }
        if lost > 0 {
            let collector = self.collector.name();
            tracing::warn!(collector, spans = lost, "the last spans could not be exported");
        }
    }

    /// Gives up all that waits, and says how much that is.
    fn abandon(&self) -> usize {
        let mut count = 0;
        loop {
            match self.queue.take().len() {
                0 => break,
                more => count += more,
            }
        }
        self.metrics.totals().trace_spans_failed.add(count as u64);
        count
    }

    /// Counts a batch that the collector took or refused.
    fn settle(&mut self, outcome: Outcome, spans: usize) {
        match outcome {
            Outcome::Taken { rejected, reason } => {
                let rejected = rejected.min(spans as u64);
                self.metrics.totals().trace_spans_exported.add(spans as u64 - rejected);
                self.metrics.totals().trace_spans_failed.add(rejected);
                if rejected > 0 {
                    self.tell_failure(&format!("it did not take {rejected} of {spans} spans: {reason}"));
                } else if std::mem::take(&mut self.state.is_failing) {
                    let collector = self.collector.name();
                    tracing::info!(collector, "spans are exported again");
                }
            }
            Outcome::Again { reason, .. } | Outcome::Refused { reason } => self.lose(&reason, spans),
        }
    }

    /// Counts spans that nobody will take.
    fn lose(&mut self, reason: &str, spans: usize) {
        self.metrics.totals().trace_spans_failed.add(spans as u64);
        self.tell_failure(reason);
    }

    /// Tells that spans cannot be exported: once, however long it lasts; the metrics tell the rest.
    fn tell_failure(&mut self, reason: &str) {
        if !std::mem::replace(&mut self.state.is_failing, true) {
            let collector = self.collector.name();
            tracing::warn!(collector, reason, "spans cannot be exported; told once until they are");
        }
    }

    /// Tells that spans were dropped, unless it was told a short while ago.
    fn tell_drops(&mut self) {
        let (dropped, now) = (self.metrics.totals().trace_spans_dropped.get(), Instant::now());
        if dropped == self.state.dropped {
            return;
        }
        let last = self.state.dropping_since.replace(now);
        if last.is_none_or(|last| now.saturating_duration_since(last) > DROP_GAP) {
            tracing::warn!(dropped, "spans are dropped, because more than tracing.queue_max wait to be exported");
        }
        self.state.dropped = dropped;
    }
}

/// The wait after the attempt of that number, from 0: the collector's, or a second doubled each time and, so that
/// replicas don't come back together, up to half as long again by `chance`, 0 to 1.
fn wait(attempt: u32, after: Option<Duration>, chance: f64) -> Duration {
    let own = || Duration::from_secs(1 << attempt.min(5)).mul_f64(1.0 + chance / 2.0);
    after.unwrap_or_else(own).clamp(WAIT_MIN, WAIT_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_become_rarer_up_to_a_bound() {
        let waits: Vec<u64> = (0..8).map(|attempt| wait(attempt, None, 0.0).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30, 30]);
        assert_eq!(wait(0, None, 1.0), Duration::from_millis(1_500));
        assert_eq!(wait(u32::MAX, None, 1.0), WAIT_MAX);
    }

    #[test]
    fn the_collectors_own_word_of_when_holds_within_the_bound() {
        assert_eq!(wait(5, Some(Duration::from_secs(3)), 1.0), Duration::from_secs(3));
        assert_eq!(wait(0, Some(Duration::MAX), 0.0), WAIT_MAX);
        assert_eq!(wait(0, Some(Duration::ZERO), 0.0), WAIT_MIN);
    }
}
