//! Finished spans that wait to be exported: a bound, a look at it that is one short lock, and a wake-up when a batch is
//! together. What finds no room is dropped and counted; nobody waits.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use smallvec::SmallVec;
use tokio::sync::Notify;

use super::span::Span;
use crate::metrics::Metrics;

/// The spans that wait.
#[derive(Debug)]
pub(super) struct Queue {
    spans: Mutex<VecDeque<Span>>,
    spans_max: usize,
    batch: usize,
    full_batch: Notify,
    metrics: Metrics,
}

// === impl Queue ===

impl Queue {
    /// A queue of at most `spans_max` spans, which are taken in batches of `batch`.
    pub(super) fn new(spans_max: usize, batch: usize, metrics: Metrics) -> Queue {
        Queue { spans: Mutex::default(), spans_max, batch, full_batch: Notify::new(), metrics }
    }

    /// Adds the spans of one call: all of them, or none if there is no room.
    pub(super) fn push(&self, call: SmallVec<[Span; 2]>) {
        let count = call.len();
        let mut spans = self.spans();
        if spans.len() + count > self.spans_max {
            drop(spans);
            self.metrics.totals().trace_spans_dropped.add(count as u64);
            // There may be less than a batch: a call's spans are not parted.
            self.full_batch.notify_one();
            return;
        }
        let before = spans.len();
        spans.extend(call);
        let is_full = before < self.batch && spans.len() >= self.batch;
        drop(spans);
        if is_full {
            self.full_batch.notify_one();
        }
    }

    /// Takes the oldest spans, a batch at most.
    pub(super) fn take(&self) -> Vec<Span> {
        let mut spans = self.spans();
        let count = spans.len().min(self.batch);
        spans.drain(..count).collect()
    }

    /// Whether these are as many as are taken at once.
    pub(super) fn is_batch(&self, spans: &[Span]) -> bool {
        spans.len() >= self.batch
    }

    /// Waits until a batch has come together, or there was no room for more.
    pub(super) async fn full_batch(&self) {
        self.full_batch.notified().await;
    }

    /// Nothing is half done when a lock is given back.
    fn spans(&self) -> MutexGuard<'_, VecDeque<Span>> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::super::identity::{SpanId, TraceId};
    use super::super::span::Kind;
    use super::*;

    fn call(spans: usize) -> SmallVec<[Span; 2]> {
        let span = Span {
            trace: TraceId::try_new([1; 16]).unwrap(),
            id: SpanId::try_new([1; 8]).unwrap(),
            parent: None,
            state: String::new(),
            name: "call",
            kind: Kind::Server,
            start_unix_nanos: 1,
            end_unix_nanos: 2,
            attributes: Vec::new(),
            error: None,
        };
        std::iter::repeat_n(span, spans).collect()
    }

    #[test]
    fn a_call_without_room_is_dropped_as_a_whole_and_counted() {
        let metrics = Metrics::default();
        let queue = Queue::new(5, 3, metrics.clone());
        for _ in 0..4 {
            queue.push(call(2));
        }
        assert_eq!((queue.spans().len(), metrics.totals().trace_spans_dropped.get()), (4, 4));
        queue.push(call(1));
        assert_eq!((queue.spans().len(), metrics.totals().trace_spans_dropped.get()), (5, 4));
        assert_eq!((queue.take().len(), queue.take().len(), queue.take().len()), (3, 2, 0));
    }

    #[test]
    fn who_exports_is_woken_when_a_batch_is_together_and_not_before() {
        let queue = Queue::new(10, 3, Metrics::default());
        queue.push(call(2));
        assert!(queue.full_batch().now_or_never().is_none());
        queue.push(call(2));
        assert!(queue.full_batch().now_or_never().is_some());
        queue.push(call(2));
        assert!(queue.full_batch().now_or_never().is_none(), "it is awake already");
    }

    #[test]
    fn who_exports_is_woken_when_there_is_no_room_although_no_batch_is_together() {
        let queue = Queue::new(3, 3, Metrics::default());
        queue.push(call(2));
        assert!(queue.full_batch().now_or_never().is_none());
        queue.push(call(2));
        assert!(queue.full_batch().now_or_never().is_some());
    }
}
