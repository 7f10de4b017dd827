//! What clients saw, by the span of time in which a request was due.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::demo::load::driver::Notes;
use crate::demo::load::outcome::Outcome;

/// Requests by span.
#[derive(Clone, Debug)]
pub struct Spans {
    /// When each ends, after the begin of all.
    ends: Vec<Duration>,
    spans: Vec<Span>,
}

#[derive(Clone, Debug)]
struct Span {
    outcomes: [u64; Outcome::ALL.len()],
    /// From due to ended, in µs, whatever became of it.
    latency_us: Histogram<u64>,
}

/// The figures of one span, or of several together. Latencies are of all requests, in ms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Requests that were due.
    pub requests: u64,
    /// Of those, answered with 429.
    pub refused: u64,
    /// Of those, answered with a 5xx or not at all.
    pub failed: u64,
    /// Half of them took no longer.
    pub p50_ms: f64,
    /// Of a hundred 99 took no longer.
    pub p99_ms: f64,
}

// === impl Spans ===

impl Spans {
    /// Spans of these lengths, one after the other, with nothing in them.
    #[must_use]
    pub fn new(lengths: &[Duration]) -> Spans {
        let mut end = Duration::ZERO;
        let ends = lengths.iter().map(|length| {
            end += *length;
            end
        });
        Spans { ends: ends.collect(), spans: vec![Span::default(); lengths.len()] }
    }

    /// The figures of these spans together.
    #[must_use]
    pub fn figures(&self, spans: impl IntoIterator<Item = usize>) -> Figures {
        let mut sum = Span::default();
        for span in spans.into_iter().filter_map(|number| self.spans.get(number)) {
            sum.outcomes.iter_mut().zip(&span.outcomes).for_each(|(sum, count)| *sum += count);
            sum.latency_us.add(&span.latency_us).expect("all histograms have the same bounds");
        }
        let requests = sum.outcomes.iter().sum();
        let [good, refused] = [Outcome::Good, Outcome::Refused].map(|outcome| sum.outcomes[outcome as usize]);
        let [p50_ms, p99_ms] = [0.5, 0.99].map(|share| sum.latency_us.value_at_quantile(share) as f64 / 1_000.0);
        Figures { requests, refused, failed: requests - good - refused, p50_ms, p99_ms }
    }
}

impl Notes for Spans {
    fn offer(&mut self, _due: Duration) {}

    fn end(&mut self, due: Duration, ended: Duration, outcome: Outcome) {
        let place = self.ends.partition_point(|end| *end <= due);
        if let Some(span) = self.spans.get_mut(place) {
            span.outcomes[outcome as usize] += 1;
            let latency = u64::try_from(ended.saturating_sub(due).as_micros()).unwrap_or(u64::MAX);
            span.latency_us.saturating_record(latency);
        }
    }
}

// === impl Span ===

impl Default for Span {
    fn default() -> Span {
        let latency_us = Histogram::new_with_bounds(1, 60_000_000, 3).expect("the bounds are in order");
        Span { outcomes: Default::default(), latency_us }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_counts_in_the_span_in_which_it_was_due() {
        let seconds = Duration::from_secs;
        let mut spans = Spans::new(&[seconds(2), seconds(3)]);
        let took = Duration::from_millis(100);
        spans.end(seconds(1), seconds(3), Outcome::Good);
        spans.end(seconds(2), seconds(2) + took, Outcome::Refused);
        spans.end(seconds(4), seconds(4) + took, Outcome::TimedOut);
        spans.end(seconds(5), seconds(5) + took, Outcome::Good);
        let of = |spans: Figures| (spans.requests, spans.refused, spans.failed);
        assert_eq!(
            [of(spans.figures([0])), of(spans.figures([1])), of(spans.figures([0, 1]))],
            [(1, 0, 0), (2, 1, 1), (3, 1, 1)]
        );
        let [slow, quick] = [spans.figures([0]).p99_ms, spans.figures([1]).p99_ms];
        assert!((slow - 2_000.0).abs() < 2.0 && (quick - 100.0).abs() < 0.2, "{slow} {quick}");
        assert_eq!(spans.figures([7]), Figures::default());
    }
}
