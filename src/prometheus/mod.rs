//! Where the numbers of adaptive services come from: a Prometheus, asked about four windows that end at one instant.
//!
//! ```text
//! query      signals, targets, a window  -> PromQL                  pure
//! client     PromQL, an instant          -> a body, bounded         TLS, who we are, deadline
//! answer     a body                      -> terms                   pure; suspicious
//! counts     terms                       -> Counts or an Absence    pure; with buckets
//! ```
//!
//! [`PrometheusSource::sample`] puts them together and never fails: what can't be had is an [`Absence`] inside the
//! [`Sample`], which is all that whoever judges the numbers sees of this. Another source of signals makes samples too.
//!
//! **Trusted is only what is fresh.** A window counts if the newest sample of its series is no older than two scrapes
//! and an interval, and if it ends later than the last one that was accepted. A late answer is dropped, never queued.
//! Doubts that don't make an answer wrong (a store that Prometheus could not reach, half of the series gone, a target
//! between two edges) are logged once when they begin.

mod advice;
mod answer;
mod buckets;
mod client;
mod counts;
mod explanation;
mod instants;
pub mod past;
mod query;
mod seen;
mod source;

use std::time::Duration;

use tokio::time::Instant;

use self::answer::{Data, Terms};
use self::client::{Connection, Question};
use self::instants::Skew;
use self::query::{Freshness, Term, selector};
use self::seen::AllSeen;
use crate::clock::Timestamp;
use crate::rules::service::{PrometheusServer, Service, SignalSpec};
use crate::signal::{Absence, AbsenceKind, Counts, Sample, Windows};

pub use advice::reports;
pub use client::SourceError;
pub use explanation::{SCRAPE_USUAL, explanation, windows_at};
pub use source::OpenPrometheus;

/// How far back scrapes are looked at to measure their interval: two of the longest, and a second.
const SCRAPES_RANGE: Duration = Duration::from_secs(121);

/// A Prometheus that is asked about services. One is made for each set of rules that names one.
#[derive(Debug)]
pub struct PrometheusSource {
    connection: Connection,
    timeout: Duration,
    /// Locked while it is measured, so that of many services one measures.
    skew: tokio::sync::Mutex<Option<Skew>>,
    seen: AllSeen,
}

/// The queries of one service, shortest window first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Queries {
    /// For [`Windows::newest`]; it asks for the newest sample besides.
    pub newest: String,
    /// For [`Windows::fast`].
    pub fast: String,
    /// For [`Windows::slow`].
    pub slow: String,
    /// For [`Windows::long`].
    pub long: String,
}

// === impl PrometheusSource ===

impl PrometheusSource {
    /// Makes connections ready; none is opened before the first question.
    ///
    /// # Errors
    /// When the server can't be asked at all: certificates that can't be read, or none to trust an https address by.
    pub fn new(server: &PrometheusServer) -> Result<PrometheusSource, SourceError> {
        Ok(PrometheusSource {
            connection: Connection::new(server)?,
            timeout: server.timeout,
            skew: tokio::sync::Mutex::new(None),
            seen: AllSeen::default(),
        })
    }

    /// What Prometheus says of the windows of `service` that end `now`, within the server's timeout: four questions at
    /// one instant. It never fails; why something is missing stands in the sample.
    pub async fn sample(&self, service: &Service, windows: &Windows, now: Timestamp) -> Sample {
        let started = Instant::now();
        let deadline = started + self.timeout;
        match self.windows(service, windows, now, started, deadline).await {
            Ok([newest, fast, slow, long]) => Sample { at: now, windows: *windows, newest, fast, slow, long },
            Err(absence) => Sample::absent(now, *windows, &absence),
        }
    }

    /// The time between two scrapes of the service's series, measured from their samples: 1 to 60 s. `None` if it
    /// can't be had: the server doesn't answer, there are fewer than two samples, or an operator's own query has no
    /// selector that could be asked for samples.
    pub async fn scrape_interval(&self, service: &Service) -> Option<Duration> {
        self.scrapes(service, None).await
    }

    async fn scrapes(&self, service: &Service, at_millis: Option<u64>) -> Option<Duration> {
        let selector = selector(service.source.as_ref()?)?;
        let range = query::length(SCRAPES_RANGE);
        let query = format!("{selector}[{range}]");
        let deadline = Instant::now() + self.timeout;
        let answer = self.connection.ask(Question { query: &query, at_millis }, deadline).await;
        if let Ok(answer) = answer {
            return instants::usual_gap(&answer.data.instants());
        }
        // Of a large fleet that is more than is read. The count is less exact, and one number.
        let query = format!("scalar(max(count_over_time({selector}[{range}])))");
        let answer = self.connection.ask(Question { query: &query, at_millis }, deadline).await;
        instants::gap_of_count(answer.ok()?.data.scalar().ok()?, SCRAPES_RANGE)
    }

    async fn windows(
        &self,
        service: &Service,
        windows: &Windows,
        now: Timestamp,
        started: Instant,
        deadline: Instant,
    ) -> Result<[Result<Counts, Absence>; 4], Absence> {
        let at_millis = self.skew(now, started, deadline).await?.server_millis(now);
        self.seen.newer(&service.name, at_millis)?;
        let read = self.windows_at(service, windows, at_millis, deadline).await?;
        if read.iter().any(Result::is_ok) {
            self.seen.accepted(&service.name, at_millis);
        }
        Ok(read)
    }

    /// The windows that end at an instant of Prometheus's clock.
    async fn windows_at(
        &self,
        service: &Service,
        windows: &Windows,
        at_millis: u64,
        deadline: Instant,
    ) -> Result<[Result<Counts, Absence>; 4], Absence> {
        let Some(signals) = &service.source else {
            return Err(Absence::new(AbsenceKind::Empty, "the service names no source of signals"));
        };
        let queries = Queries::of(signals, service, windows);
        let ask = |query| self.ask(service, query, at_millis, deadline);
        let (newest, fast, slow, long) =
            futures_util::join!(ask(&queries.newest), ask(&queries.fast), ask(&queries.slow), ask(&queries.long),);
        // Without it nobody knows how old the others are.
        let newest = newest?;
        let stale = stale(&newest, service, signals, windows, at_millis)?;
        self.seen.series(&service.name, newest.single(Term::Series)?);
        let is_sampled = newest.single(Term::Newest)?.is_some();
        let read = |terms: Result<Terms, Absence>, window: Duration| {
            let terms = terms?;
            let read = counts::read(&terms, signals, &service.targets, window, is_sampled)?;
            let has_failed = terms.single(Term::Failed)?.is_some();
            self.seen.fit(service, signals, read.fit);
            // The longest window has samples of whatever still exists.
            if window == windows.long && read.counts.answered > 0.0 {
                self.seen.failures(service, has_failed);
            }
            match &stale {
                Some(absence) => Err(absence.clone()),
                None => Ok(read.counts),
            }
        };
        Ok([
            read(Ok(newest), windows.newest),
            read(fast, windows.fast),
            read(slow, windows.slow),
            read(long, windows.long),
        ])
    }

    async fn ask(&self, service: &Service, query: &str, at_millis: u64, deadline: Instant) -> Result<Terms, Absence> {
        let answer = self.connection.ask(Question { query, at_millis: Some(at_millis) }, deadline).await?;
        self.seen.warnings(&service.name, &answer.warnings);
        Terms::of(answer.data)
    }

    /// How far Prometheus's clock is ahead, measured anew when the last estimate is old.
    async fn skew(&self, now: Timestamp, started: Instant, deadline: Instant) -> Result<Skew, Absence> {
        let late = || Absence::new(AbsenceKind::TimedOut, "Prometheus did not tell its time before the deadline");
        let mut known = tokio::time::timeout_at(deadline, self.skew.lock()).await.map_err(|_| late())?;
        if let Some(skew) = known.filter(|skew| skew.holds(started, now)) {
            return Ok(skew);
        }
        // The wait for the lock is over: our clock has gone on since `started`.
        let asked = Instant::now();
        let now = now.saturating_add(asked.saturating_duration_since(started));
        let answer = self.connection.ask(Question { query: "time()", at_millis: None }, deadline).await?;
        let seconds = answer.data.scalar()?;
        if !seconds.is_finite() || seconds <= 0.0 {
            return Err(answer::invalid(format!("Prometheus says that it is {seconds} s since the epoch")));
        }
        let skew = Skew::measured(seconds, now, asked, Instant::now());
        *known = Some(skew);
        Ok(skew)
    }

    /// Asks a query at Prometheus's present, for advice.
    async fn try_out(&self, query: &str) -> Result<Data, Absence> {
        let deadline = Instant::now() + self.timeout;
        Ok(self.connection.ask(Question { query, at_millis: None }, deadline).await?.data)
    }
}

/// Oldest that the newest sample may be: two scrapes, an interval, and as late as the proxy's numbers are anyway.
fn age_max(service: &Service, windows: &Windows) -> Duration {
    windows.newest.saturating_sub(Duration::from_secs(1)) + service.interval + service.flush
}

/// Why the answer is too old; `None` if it isn't, or can't be known.
fn stale(
    newest: &Terms,
    service: &Service,
    signals: &SignalSpec,
    windows: &Windows,
    at_millis: u64,
) -> Result<Option<Absence>, Absence> {
    if selector(signals).is_none() {
        return Ok(None);
    }
    let most = age_max(service, windows).as_secs_f64();
    let reason = match newest.single(Term::Newest)? {
        Some(sample) => {
            let age = at_millis as f64 / 1e3 - sample;
            if age <= most {
                return Ok(None);
            }
            format!("the newest sample is {age:.1} s old; up to {most} s are accepted")
        }
        None => format!("there is no sample as new as {most} s"),
    };
    Ok(Some(Absence::new(AbsenceKind::Stale, reason)))
}

// === impl Queries ===

impl Queries {
    /// The queries that are sent for `windows`.
    #[must_use]
    pub fn of(signals: &SignalSpec, service: &Service, windows: &Windows) -> Queries {
        let range = age_max(service, windows) + windows.newest;
        let freshness = Freshness { range, step: (windows.newest / 4).max(Duration::from_secs(1)) };
        let query = |window, freshness| query::query(signals, &service.targets, window, freshness);
        Queries {
            newest: query(windows.newest, Some(freshness)),
            fast: query(windows.fast, None),
            slow: query(windows.slow, None),
            long: query(windows.long, None),
        }
    }
}
