//! Traces of rate limit calls, exported by the OpenTelemetry protocol.
//!
//! ```text
//! headers ─ propagation ─ sampling ─ CallTrace ─ spans ─ queue ─┐   a request's part ends here
//!                                                               ▼
//!              collector ◄─ collector/{http, grpc} ◄─ encode ◄─ exporter, one background task
//! ```
//!
//! Off unless it is asked for, and then a request pays one branch. On, a call pays the look at its headers; one that is
//! recorded takes a way of its own, by the generated types, on which the store notes its times. Finished spans wait in a
//! bounded queue and are exported in batches; while the collector is away, what finds no room is dropped and counted.
//! No request waits for any of it.
//!
//! The OpenTelemetry libraries are not used: ARCHITECTURE.md says why.

pub mod call;
mod collector;
mod encode;
mod exporter;
pub mod identity;
pub mod propagation;
mod queue;
pub mod sampling;
pub mod span;

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use smallvec::SmallVec;

pub use call::{CallTrace, CalledBy, Ended, Store};
pub(crate) use collector::is_protocols_own;
pub use collector::{CollectorOptions, Protocol};
pub use exporter::Exporter;

use self::call::Place;
use self::identity::{SpanId, TraceId};
use self::propagation::Parent;
use self::queue::Queue;
use self::sampling::Share;
use self::span::Span;
use crate::clock::{Clock, SystemClock};
use crate::metrics::Metrics;

/// What is recorded, and how it is exported.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceOptions {
    /// What tells this process from others: names and values, `service.name` among them.
    pub resource: Vec<(String, String)>,
    /// The share that is recorded of traces that begin here.
    pub share: Share,
    /// Whether the values of descriptors are told.
    pub descriptor_values: bool,
    /// Most spans that wait; for one more, its call's are dropped.
    pub queue_max: usize,
    /// Most spans that are exported together.
    pub batch_max: usize,
    /// Longest time that a span waits while the collector takes them.
    pub export_interval: Duration,
    /// Where they go.
    pub collector: CollectorOptions,
}

/// Decides which calls are recorded. Clones share everything.
#[derive(Clone, Debug)]
pub struct Tracer(Arc<Shared>);

/// What holds for all calls.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TracerOptions {
    /// The share that is recorded of traces that begin here.
    pub share: Share,
    /// Whether the values of descriptors are told.
    pub descriptor_values: bool,
    /// Where counters are.
    pub store: Store,
}

#[derive(Debug)]
struct Shared {
    options: TracerOptions,
    queue: Arc<Queue>,
}

/// A tracer, and what exports its spans.
#[must_use]
pub fn start(options: TraceOptions, store: Store, metrics: &Metrics) -> (Tracer, Exporter) {
    let batch = options.batch_max.min(options.queue_max);
    let queue = Arc::new(Queue::new(options.queue_max, batch, metrics.clone()));
    let shared = TracerOptions { share: options.share, descriptor_values: options.descriptor_values, store };
    let tracer = Tracer(Arc::new(Shared { options: shared, queue: Arc::clone(&queue) }));
    (tracer, Exporter::new(options, queue, metrics.clone()))
}

// === impl Tracer ===

impl Tracer {
    /// Begins the record of a call with these headers; `None` if it is not to be recorded.
    #[must_use]
    pub fn begin(&self, headers: &HeaderMap, by: impl FnOnce() -> CalledBy) -> Option<CallTrace> {
        let carried = propagation::carried(headers);
        let trace = carried.parent.map_or_else(|| made(TraceId::try_new), |parent| parent.trace);
        if !self.0.options.share.records(trace, carried.wish) {
            return None;
        }
        let own = Parent { trace, span: self.new_span_id() };
        let parent = carried.parent.map(|parent| parent.span);
        let state = propagation::state(headers);
        Some(CallTrace::new(self.clone(), Place { own, parent, state }, by(), SystemClock.now()))
    }

    fn options(&self) -> &TracerOptions {
        &self.0.options
    }

    fn new_span_id(&self) -> SpanId {
        made(SpanId::try_new)
    }

    fn finish(&self, spans: SmallVec<[Span; 2]>) {
        self.0.queue.push(spans);
    }
}

/// A name by chance, again if that is the one that is none.
fn made<const N: usize, I>(name: impl Fn([u8; N]) -> Option<I>) -> I {
    loop {
        if let Some(name) = name(rand::random()) {
            return name;
        }
    }
}
