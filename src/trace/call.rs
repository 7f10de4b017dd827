//! A rate limit call that is recorded: what is noted while it is answered, and the spans that this makes at its end.
//!
//! The server's span tells who asked for what and what came of it; its child, how long the counters took. Only what the
//! rules and the protocol name is told: keys of descriptors, but not their values, which may be personal, unless the
//! settings say so. A call whose caller went away before the answer is recorded too, as cancelled: of those one wants to
//! know most.

use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};

use http::{Method, StatusCode};
use smallvec::SmallVec;
use tokio::time::Instant;

use super::Tracer;
use super::identity::SpanId;
use super::propagation::Parent;
use super::span::{Attribute, Kind, ParentSpan, Span, TEXTS_MAX, Value, bounded};
use crate::clock::Timestamp;
use crate::counters::timed::Timing;
use crate::decision::{Code, DescriptorStatus};
use crate::limiter::Answer;
use crate::proto::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use crate::proto::envoy::service::ratelimit::v3::RateLimitRequest;

/// A recorded call under way. Its spans are handed over by [`CallTrace::end`], or when it is dropped before.
#[derive(Debug)]
pub struct CallTrace {
    tracer: Tracer,
    place: Place,
    by: CalledBy,
    started: Instant,
    started_at: Timestamp,
    timing: Arc<Timing>,
    /// Gone when the spans are handed over.
    notes: Mutex<Option<Notes>>,
}

/// Where a call stands in its trace.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// The trace, and the call's own span in it.
    pub(super) own: Parent,
    /// The caller's span.
    pub(super) parent: Option<SpanId>,
    /// The caller's `tracestate`.
    pub(super) state: String,
}

/// How a call came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CalledBy {
    /// As `ShouldRateLimit`.
    Grpc,
    /// As a request of that method to `/json`.
    Json(Method),
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With this gRPC status, as its number.
    Grpc(i32),
    /// With this HTTP status.
    Http(StatusCode),
    /// Without an answer: its caller went away.
    Cancelled,
}

/// What is noted of a call.
#[derive(Debug, Default)]
struct Notes {
    attributes: Vec<Attribute>,
    error: Option<NotedError>,
}

/// Why there is no decision.
#[derive(Clone, Debug)]
struct NotedError {
    kind: &'static str,
    text: String,
    /// The service's fault, not the caller's.
    is_ours: bool,
}

/// The service and method of a call, as the specification has them apart.
const SERVICE: &str = "envoy.service.ratelimit.v3.RateLimitService";
const METHOD: &str = "ShouldRateLimit";

// === impl CallTrace ===

impl CallTrace {
    pub(super) fn new(tracer: Tracer, place: Place, by: CalledBy, started_at: Timestamp) -> CallTrace {
        CallTrace {
            tracer,
            place,
            by,
            started: Instant::now(),
            started_at,
            timing: Arc::default(),
            notes: Mutex::new(Some(Notes::default())),
        }
    }

    /// When the call began.
    #[must_use]
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Where the store's answer is noted.
    #[must_use]
    pub fn timing(&self) -> Arc<Timing> {
        Arc::clone(&self.timing)
    }

    /// Notes what was asked.
    pub fn asked(&self, request: &RateLimitRequest) {
        let with_values = self.tracer.options().descriptor_values;
        let descriptors = request.descriptors.iter().take(TEXTS_MAX);
        let descriptors = descriptors.map(|descriptor| described(descriptor, with_values)).collect();
        self.note(|notes| {
            notes.attributes.extend([
                Attribute::text("tidegate.domain", &request.domain),
                Attribute::number("tidegate.descriptor_count", request.descriptors.len()),
                Attribute::texts("tidegate.descriptors", descriptors),
            ]);
        });
    }

    /// Notes what was decided.
    pub fn decided(&self, answer: &Answer) {
        let decision = &answer.decision;
        let code = match decision.code {
            Code::Ok => "OK",
            Code::OverLimit => "OVER_LIMIT",
        };
        let over = decision.statuses.iter().filter(|status| status.code == Code::OverLimit);
        let over: Vec<String> = over.take(TEXTS_MAX).map(|status| rule(answer, status)).collect();
        self.note(|notes| {
            notes.attributes.push(Attribute::text("tidegate.code", code));
            if !over.is_empty() {
                notes.attributes.push(Attribute::texts("tidegate.over_limit_rules", over));
            }
            if decision.shadowed {
                notes.attributes.push(Attribute { key: "tidegate.shadow_mode", value: Value::Flag(true) });
            }
        });
    }

    /// Notes why there is no decision: the kind of error in one word, what it says, and whether it is ours.
    pub fn failed(&self, kind: &'static str, text: &str, is_ours: bool) {
        self.note(|notes| notes.error = Some(NotedError { kind, text: bounded(text), is_ours }));
    }

    /// Notes what was answered to a request, unless [`CallTrace::failed`] has said more: then it was not even read.
    pub fn not_read(&self, text: &str) {
        self.note(|notes| {
            let error = || NotedError { kind: "request_not_read", text: bounded(text), is_ours: false };
            notes.error.get_or_insert_with(error);
        });
    }

    /// Hands the spans over. What comes later is not noted.
    pub fn end(&self, ended: Ended) {
        let Some(notes) = self.notes.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        let now = Instant::now();
        let mut spans = SmallVec::new();
        spans.extend(self.store_span(now));
        spans.push(self.server_span(notes, ended, now));
        self.tracer.finish(spans);
    }

    fn note(&self, note: impl FnOnce(&mut Notes)) {
        if let Some(notes) = self.notes.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            note(notes);
        }
    }

    fn server_span(&self, notes: Notes, ended: Ended, now: Instant) -> Span {
        let Notes { attributes: noted, error } = notes;
        let (name, mut attributes) = match &self.by {
            CalledBy::Grpc => (
                "envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit",
                vec![
                    Attribute::text("rpc.system", "grpc"),
                    Attribute::text("rpc.service", SERVICE),
                    Attribute::text("rpc.method", METHOD),
                ],
            ),
            CalledBy::Json(method) => {
                let (name, method) = known(method);
                let attributes = vec![
                    Attribute::text("http.request.method", method),
                    Attribute::text("http.route", "/json"),
                    Attribute::text("url.path", "/json"),
                    Attribute::text("url.scheme", "http"),
                ];
                (name, attributes)
            }
        };
        let status = match ended {
            Ended::Grpc(code) => Some(Attribute::number("rpc.grpc.status_code", code)),
            Ended::Http(status) => Some(Attribute::number("http.response.status_code", status.as_u16())),
            // gRPC has a status for it, even though nobody reads it any more.
            Ended::Cancelled => {
                (self.by == CalledBy::Grpc).then(|| Attribute::number("rpc.grpc.status_code", CANCELLED))
            }
        };
        attributes.extend(status);
        attributes.extend(noted);
        let kind = match (&error, ended) {
            (Some(error), _) => Some(error.kind),
            (None, Ended::Cancelled) => Some("cancelled"),
            (None, _) => None,
        };
        attributes.extend(kind.map(|kind| Attribute::text("error.type", kind)));
        let text = error.as_ref().map(|error| error.text.as_str());
        let is_error = error.as_ref().is_some_and(|error| error.is_ours) || ended.is_server_error();
        let error = match ended {
            Ended::Cancelled => Some("the caller went away before there was an answer".to_owned()),
            Ended::Grpc(_) | Ended::Http(_) => is_error.then(|| text.unwrap_or_default().to_owned()),
        };
        Span {
            trace: self.place.own.trace,
            id: self.place.own.span,
            parent: self.place.parent.map(|id| ParentSpan { id, is_remote: true }),
            state: self.place.state.clone(),
            name,
            kind: Kind::Server,
            start_unix_nanos: self.unix_nanos(self.started),
            end_unix_nanos: self.unix_nanos(now),
            attributes,
            error,
        }
    }

    /// The span of the counters, if they were asked.
    fn store_span(&self, now: Instant) -> Option<Span> {
        let asked = self.timing.asked()?;
        let answered = self.timing.answered();
        let store = self.tracer.options().store;
        let mut attributes = vec![
            Attribute::text("tidegate.store", store.name()),
            Attribute::number("tidegate.counter_count", asked.charges),
        ];
        if store == Store::Redis {
            attributes.push(Attribute::text("db.system.name", "redis"));
        }
        let error = match answered {
            Some(answered) => answered.error.as_ref().map(|error| (error.kind(), error.to_string())),
            None => Some(("cancelled", "nobody waited for the answer".to_owned())),
        };
        attributes.extend(error.as_ref().map(|(kind, _)| Attribute::text("error.type", kind)));
        Some(Span {
            trace: self.place.own.trace,
            id: self.tracer.new_span_id(),
            parent: Some(ParentSpan { id: self.place.own.span, is_remote: false }),
            state: self.place.state.clone(),
            name: "charge counters",
            kind: if store == Store::Redis { Kind::Client } else { Kind::Internal },
            start_unix_nanos: self.unix_nanos(asked.at),
            end_unix_nanos: self.unix_nanos(answered.map_or(now, |answered| answered.at)),
            attributes,
            error: error.map(|(_, text)| bounded(&text)),
        })
    }

    /// An instant of this call, told from its beginning, so that a clock that is set meanwhile bends no span.
    fn unix_nanos(&self, at: Instant) -> u64 {
        let since = u64::try_from(at.saturating_duration_since(self.started).as_nanos()).unwrap_or(u64::MAX);
        self.started_at.as_micros().saturating_mul(1_000).saturating_add(since)
    }
}

impl Drop for CallTrace {
    fn drop(&mut self) {
        self.end(Ended::Cancelled);
    }
}

/// Where counters are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// In this process.
    Memory,
    /// In Redis.
    Redis,
}

// === impl Store ===

impl Store {
    fn name(self) -> &'static str {
        match self {
            Store::Memory => "memory",
            Store::Redis => "redis",
        }
    }
}

/// gRPC's number for a call whose caller went away.
const CANCELLED: i32 = 1;

// === impl Ended ===

impl Ended {
    /// Whether the answer says that the server is at fault, by the specification's rules for servers.
    fn is_server_error(self) -> bool {
        match self {
            // UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS.
            Ended::Grpc(code) => matches!(code, 2 | 4 | 12 | 13 | 14 | 15),
            Ended::Http(status) => status.is_server_error(),
            Ended::Cancelled => false,
        }
    }
}

/// The span's name and the method of a request, of which callers can make up any.
fn known(method: &Method) -> (&'static str, &'static str) {
    match *method {
        Method::GET => ("GET /json", "GET"),
        Method::POST => ("POST /json", "POST"),
        Method::PUT => ("PUT /json", "PUT"),
        _ => ("HTTP /json", "_OTHER"),
    }
}

/// The keys of a descriptor's entries, in their order and with commas between; with their values, if these may be told.
fn described(descriptor: &RateLimitDescriptor, with_values: bool) -> String {
    const ENTRIES_MAX: usize = 16;

    let mut text = String::new();
    for (index, entry) in descriptor.entries.iter().take(ENTRIES_MAX).enumerate() {
        let comma = if index > 0 { "," } else { "" };
        let written = match with_values {
            false => write!(text, "{comma}{}", bounded(&entry.key)),
            true => write!(text, "{comma}{}={}", bounded(&entry.key), bounded(&entry.value)),
        };
        written.expect("a string takes all that is written");
    }
    bounded(&text)
}

/// What names the rule that a descriptor is over: its own name, or its place in the file's tree.
fn rule(answer: &Answer, status: &DescriptorStatus) -> String {
    let rules = &answer.snapshot.rules;
    if let Some(service) = status.gate.and_then(|gate| rules.services().get(gate)) {
        return bounded(&service.name);
    }
    let Some(rule) = status.rule.and_then(|rule| rules.rules().get(rule)) else {
        return "brought by the request".to_owned();
    };
    match &rule.name {
        Some(name) => bounded(name),
        None => bounded(&rule.path.join(".")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::Entry;

    fn descriptor(entries: &[(&str, &str)]) -> RateLimitDescriptor {
        let entry = |(key, value): &(&str, &str)| Entry { key: (*key).to_owned(), value: (*value).to_owned() };
        RateLimitDescriptor { entries: entries.iter().map(entry).collect(), ..RateLimitDescriptor::default() }
    }

    #[test]
    fn values_of_descriptors_are_told_only_if_they_may_be() {
        let descriptor = descriptor(&[("user", "ann@example.com"), ("path", "/cart")]);
        assert_eq!(described(&descriptor, false), "user,path");
        assert_eq!(described(&descriptor, true), "user=ann@example.com,path=/cart");
    }

    #[test]
    fn a_descriptor_is_told_within_a_bound_however_long_it_is() {
        let long = "k".repeat(100_000);
        let many: Vec<(&str, &str)> = vec![(&long, &long); 1_000];
        for with_values in [false, true] {
            assert!(described(&descriptor(&many), with_values).len() <= super::super::span::TEXT_BYTES_MAX);
        }
    }
}
