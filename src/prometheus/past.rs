//! What a Prometheus says of an instant that has passed: the same questions as at the present, dated by its own clock.
//!
//! Offered and admitted requests are our own counts, which were in the store then and are not there any more. A
//! Prometheus that scrapes Tidegate has them still. Every replica shows the sums over all of them, so the highest is
//! taken.

use std::time::Duration;

use tokio::time::Instant;

use super::query::{length, quote};
use super::{PrometheusSource, Question};
use crate::clock::Timestamp;
use crate::control::law::Admitted;
use crate::rules::service::Service;
use crate::signal::{Absence, Sample, Windows};

/// What is known of an instant.
#[derive(Clone, Debug, PartialEq)]
pub struct Past {
    /// What the service's metrics said; what there is no answer to is absent, with a reason.
    pub sample: Sample,
    /// What passed the gate, and what reached it; `None` where nobody scraped it, and why where that can't be said.
    pub own: Result<Option<OwnRates>, Absence>,
}

/// What the gate counted, in requests per second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct OwnRates {
    /// Requests that reached it lately.
    pub offered: f64,
    /// Requests that passed it lately.
    pub admitted: f64,
    /// Requests that passed it, over each window.
    pub admitted_in: Admitted,
}

/// The names under which the counts come back.
const OFFERED: &str = "offered";
const ADMITTED: &str = "admitted";
const WINDOWS: [&str; 4] = ["newest", "fast", "slow", "long"];

// === impl PrometheusSource ===

impl PrometheusSource {
    /// What Prometheus says of the windows of `service` that end at `at`, an instant of its own clock, and what the gate
    /// counted then: five questions, within the server's timeout. It never fails.
    pub async fn past(&self, service: &Service, windows: &Windows, at: Timestamp) -> Past {
        let deadline = Instant::now() + self.timeout;
        let at_millis = at.as_millis();
        let query = own_query(service, windows);
        let (read, own) = futures_util::join!(
            self.windows_at(service, windows, at_millis, deadline),
            self.connection.ask(Question { query: &query, at_millis: Some(at_millis) }, deadline)
        );
        let sample = match read {
            Ok([newest, fast, slow, long]) => Sample { at, windows: *windows, newest, fast, slow, long },
            Err(absence) => Sample::absent(at, *windows, &absence),
        };
        Past { sample, own: own.and_then(|answer| answer.data.named()).map(|named| own_rates(&named)) }
    }

    /// The time between two scrapes of the service's series before an instant of Prometheus's clock.
    pub async fn scrape_interval_before(&self, service: &Service, at: Timestamp) -> Option<Duration> {
        self.scrapes(service, Some(at.as_millis())).await
    }
}

fn own_query(service: &Service, windows: &Windows) -> String {
    let name = quote(&service.name);
    // A target's own label `service` moves ours aside.
    let both = |metric: &str, around: &dyn Fn(String) -> String| {
        let [plain, aside] = ["service", "exported_service"].map(|label| around(format!("{metric}{{{label}={name}}}")));
        format!("max({plain} or {aside})")
    };
    let labelled =
        |term: &str, expression: String| format!("label_replace({expression}, \"q\", \"{term}\", \"\", \"\")");
    let lately = [(OFFERED, "tidegate_adaptive_offered"), (ADMITTED, "tidegate_adaptive_admitted")];
    let lately = lately.map(|(term, metric)| labelled(term, both(metric, &|series| series)));
    let Windows { newest, fast, slow, long } = *windows;
    let over = WINDOWS.into_iter().zip([newest, fast, slow, long]).map(|(term, window)| {
        let mean = |series: String| format!("avg_over_time({series}[{}])", length(window));
        labelled(term, both("tidegate_adaptive_admitted", &mean))
    });
    lately.into_iter().chain(over).collect::<Vec<_>>().join("\nor ")
}

/// What an answer says; `None` unless it says all of it.
fn own_rates(named: &[(String, f64)]) -> Option<OwnRates> {
    let of = |term: &str| named.iter().find(|(name, _)| name == term).map(|(_, value)| *value);
    let [newest, fast, slow, long] = WINDOWS.map(of);
    Some(OwnRates {
        offered: of(OFFERED)?,
        admitted: of(ADMITTED)?,
        admitted_in: Admitted { newest: newest?, fast: fast?, slow: slow?, long: long? },
    })
}

/// Whether a reason speaks of the server, and not of what it said.
pub(crate) fn is_servers(absence: &Absence) -> bool {
    use crate::signal::AbsenceKind::{Empty, Implausible, Invalid, Refused, Stale, TimedOut, Unreachable};
    match absence.kind {
        Unreachable | TimedOut | Refused => true,
        Empty | Invalid | Stale | Implausible => false,
    }
}
