//! Outlier detection: who answers badly is left out for a while.
//!
//! A state machine over the hosts of a cluster; it is told outcomes and the time, and says whom to leave out and whom to
//! take back. Two things eject a host: errors in a row, at once, and being worse than the others over an interval
//! (`rates.rs`). Every ejection of a host lasts one base time longer than the one before, up to a maximum; every
//! interval that a host survives takes one base time off again.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

use super::rates::{Rate, outliers_of};
use crate::proxy::bootstrap::model::OutlierDetection;

/// The state of all hosts of a cluster.
#[derive(Debug)]
pub(super) struct OutlierDetector {
    settings: OutlierDetection,
    hosts: HashMap<SocketAddr, HostState>,
}

/// What became of one request to a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The host answered with that status.
    Response(u16),
    /// It did not answer in time.
    Timeout,
    /// There was no connection, or it ended before the answer.
    ConnectFailed,
}

/// Why a host is noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// Too many answers of class 5 in a row.
    Consecutive5xx,
    /// Too many answers 502, 503 or 504 in a row.
    ConsecutiveGatewayFailure,
    /// Too many failures in a row that are not the host's words (with `split_external_local_origin_errors`).
    ConsecutiveLocalOriginFailure,
    /// A success rate far below the others'.
    SuccessRate,
    /// Too large a share of failures.
    FailurePercentage,
}

/// A host was noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Detection {
    /// Which.
    pub(super) host: SocketAddr,
    /// Why.
    pub(super) reason: Reason,
    /// And what follows.
    pub(super) consequence: Consequence,
}

/// What follows from being noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Consequence {
    /// The host is left out from now on.
    Ejected,
    /// Nothing: the percentage to enforce said so.
    NotEnforced,
    /// Nothing: as many hosts are left out as may be.
    Overflow,
}

#[derive(Debug, Default)]
struct HostState {
    consecutive_5xx: u32,
    consecutive_gateway_failure: u32,
    consecutive_local_origin_failure: u32,
    /// When it was ejected, if it is; and the random time on top.
    ejected: Option<(Instant, Duration)>,
    /// How many base times the next ejection but one lasts.
    backoff: u32,
    rate: Rate,
}

// === impl OutlierDetector ===

impl OutlierDetector {
    /// A detector that knows no host.
    #[must_use]
    pub(super) fn new(settings: OutlierDetection) -> OutlierDetector {
        OutlierDetector { settings, hosts: HashMap::new() }
    }

    /// The hosts of the cluster are these from now on. Who stays keeps its state.
    pub(super) fn set_hosts(&mut self, hosts: impl IntoIterator<Item = SocketAddr>) {
        let mut known = std::mem::take(&mut self.hosts);
        self.hosts = hosts.into_iter().map(|host| (host, known.remove(&host).unwrap_or_default())).collect();
    }

    /// How many hosts are left out now.
    #[must_use]
    pub(super) fn ejected(&self) -> usize {
        self.hosts.values().filter(|host| host.ejected.is_some()).count()
    }

    /// Between two sweeps.
    #[must_use]
    pub(super) fn interval(&self) -> Duration {
        self.settings.interval
    }

    /// Whether a successful health check brings a host back.
    #[must_use]
    pub(super) fn health_check_brings_back(&self) -> bool {
        self.settings.successful_active_health_check_uneject_host
    }

    /// One request to a host has ended so. `random` decides whether a detection is enforced.
    pub(super) fn report(&mut self, host: SocketAddr, outcome: Outcome, random: u64, now: Instant) -> Vec<Detection> {
        let Some(state) = self.hosts.get_mut(&host) else { return Vec::new() };
        let code = match outcome {
            Outcome::Response(code) => {
                if self.settings.split_external_local_origin_errors {
                    state.consecutive_local_origin_failure = 0;
                }
                code
            }
            Outcome::Timeout | Outcome::ConnectFailed if self.settings.split_external_local_origin_errors => {
                state.consecutive_local_origin_failure += 1;
                let is_reached =
                    state.consecutive_local_origin_failure == self.settings.consecutive_local_origin_failure;
                let reasons = is_reached.then_some(Reason::ConsecutiveLocalOriginFailure);
                return self.notice(host, reasons, random, now);
            }
            Outcome::Timeout => 504,
            Outcome::ConnectFailed => 503,
        };
        let mut reasons = Vec::new();
        state.rate.total += 1;
        if (500..600).contains(&code) {
            if (502..=504).contains(&code) {
                state.consecutive_gateway_failure += 1;
                if state.consecutive_gateway_failure == self.settings.consecutive_gateway_failure {
                    reasons.push(Reason::ConsecutiveGatewayFailure);
                }
            } else {
                state.consecutive_gateway_failure = 0;
            }
            state.consecutive_5xx += 1;
            if state.consecutive_5xx == self.settings.consecutive_5xx {
                reasons.push(Reason::Consecutive5xx);
            }
        } else {
            state.rate.success += 1;
            state.consecutive_5xx = 0;
            state.consecutive_gateway_failure = 0;
        }
        self.notice(host, reasons, random, now)
    }

    /// An interval has passed: says who comes back, then judges the interval's rates.
    pub(super) fn sweep(&mut self, random: u64, now: Instant) -> (Vec<SocketAddr>, Vec<Detection>) {
        let (base, max) = (self.settings.base_ejection_time, self.settings.max_ejection_time);
        let mut back = Vec::new();
        for (address, state) in &mut self.hosts {
            match state.ejected {
                None => state.backoff = state.backoff.saturating_sub(1),
                Some((since, jitter)) => {
                    let length = base.saturating_mul(state.backoff).min(max) + jitter;
                    if length <= now.saturating_duration_since(since) {
                        state.come_back();
                        back.push(*address);
                    }
                }
            }
        }
        let rates = self.hosts.iter_mut().map(|(address, state)| (*address, std::mem::take(&mut state.rate)));
        let noticed = outliers_of(&self.settings, &rates.collect::<Vec<_>>());
        let detections =
            noticed.into_iter().flat_map(|(host, reason)| self.notice(host, [reason], random, now)).collect();
        (back, detections)
    }

    /// Takes a host back before its time; says whether it was left out.
    pub(super) fn bring_back(&mut self, host: SocketAddr) -> bool {
        let Some(state) = self.hosts.get_mut(&host).filter(|state| state.ejected.is_some()) else { return false };
        state.come_back();
        true
    }

    fn notice(
        &mut self,
        host: SocketAddr,
        reasons: impl IntoIterator<Item = Reason>,
        random: u64,
        now: Instant,
    ) -> Vec<Detection> {
        let mut detections = Vec::new();
        for reason in reasons {
            let (ejected, all) = (self.ejected(), self.hosts.len());
            let Some(state) = self.hosts.get_mut(&host) else { continue };
            if state.ejected.is_some() {
                continue;
            }
            let fits = (ejected + 1) * 100 <= all * self.settings.max_ejection_percent.min(100) as usize
                || (self.settings.always_eject_one_host && ejected == 0);
            let consequence = if !fits {
                Consequence::Overflow
            } else if random % 100 < u64::from(self.settings.enforcing(reason)) {
                state.eject(&self.settings, random, now);
                Consequence::Ejected
            } else {
                Consequence::NotEnforced
            };
            // A further bout is noticed even if no good answer comes between.
            match reason {
                Reason::Consecutive5xx => state.consecutive_5xx = 0,
                Reason::ConsecutiveGatewayFailure => state.consecutive_gateway_failure = 0,
                Reason::ConsecutiveLocalOriginFailure => state.consecutive_local_origin_failure = 0,
                Reason::SuccessRate | Reason::FailurePercentage => {}
            }
            detections.push(Detection { host, reason, consequence });
        }
        detections
    }
}

impl OutlierDetection {
    /// The share of detections for that reason that are enforced, in per cent.
    fn enforcing(&self, reason: Reason) -> u32 {
        match reason {
            Reason::Consecutive5xx => self.enforcing_consecutive_5xx,
            Reason::ConsecutiveGatewayFailure => self.enforcing_consecutive_gateway_failure,
            Reason::ConsecutiveLocalOriginFailure => self.enforcing_consecutive_local_origin_failure,
            Reason::SuccessRate => self.enforcing_success_rate,
            Reason::FailurePercentage => self.enforcing_failure_percentage,
        }
    }
}

// === impl HostState ===

impl HostState {
    fn eject(&mut self, settings: &OutlierDetection, random: u64, now: Instant) {
        let jitter_max = u64::try_from(settings.max_ejection_time_jitter.as_millis()).unwrap_or(u64::MAX);
        let jitter = Duration::from_millis(random.checked_rem(jitter_max.saturating_add(1)).unwrap_or(0));
        self.ejected = Some((now, jitter));
        let longest = settings.max_ejection_time + settings.base_ejection_time;
        if settings.base_ejection_time.saturating_mul(self.backoff) < longest {
            self.backoff += 1;
        }
    }

    fn come_back(&mut self) {
        self.ejected = None;
        self.consecutive_5xx = 0;
        self.consecutive_gateway_failure = 0;
        self.consecutive_local_origin_failure = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_settings::outlier_detection;
    use super::*;

    const BASE: Duration = Duration::from_secs(30);

    fn host(port: u16) -> SocketAddr {
        ([127, 0, 0, 1], port).into()
    }

    fn detector(change: impl FnOnce(&mut OutlierDetection), hosts: u16) -> OutlierDetector {
        let mut settings = OutlierDetection { max_ejection_percent: 100, ..outlier_detection() };
        change(&mut settings);
        let mut detector = OutlierDetector::new(settings);
        detector.set_hosts((1..=hosts).map(host));
        detector
    }

    fn fail(detector: &mut OutlierDetector, times: usize, now: Instant) -> Vec<Detection> {
        (0..times).flat_map(|_| detector.report(host(1), Outcome::Response(500), 0, now)).collect()
    }

    #[test]
    fn the_fifth_error_in_a_row_ejects_and_a_success_between_starts_anew() {
        let (mut detector, now) = (detector(|_| {}, 2), Instant::now());
        assert_eq!(fail(&mut detector, 4, now), []);
        assert_eq!(detector.report(host(1), Outcome::Response(404), 0, now), []);
        assert_eq!(fail(&mut detector, 4, now), []);
        let expected = Detection { host: host(1), reason: Reason::Consecutive5xx, consequence: Consequence::Ejected };
        assert_eq!(fail(&mut detector, 1, now), [expected]);
        assert_eq!(detector.ejected(), 1);
        assert_eq!(fail(&mut detector, 20, now), [], "who is out is not noticed again");
    }

    #[test]
    fn timeouts_and_lost_connections_count_as_gateway_failures() {
        let now = Instant::now();
        let mut detector = detector(
            |settings| {
                settings.consecutive_5xx = 100;
                settings.consecutive_gateway_failure = 2;
                settings.enforcing_consecutive_gateway_failure = 100;
            },
            1,
        );
        assert_eq!(detector.report(host(1), Outcome::Timeout, 0, now), []);
        let detections = detector.report(host(1), Outcome::ConnectFailed, 0, now);
        assert_eq!(detections[0].reason, Reason::ConsecutiveGatewayFailure);
        assert_eq!(detections[0].consequence, Consequence::Ejected);
    }

    #[test]
    fn each_ejection_lasts_a_base_time_longer_and_a_good_interval_takes_one_off() {
        let mut now = Instant::now();
        let mut detector = detector(|_| {}, 1);
        for times in [1, 2, 3] {
            fail(&mut detector, 5, now);
            assert_eq!(detector.ejected(), 1);
            now += BASE * times - Duration::from_millis(1);
            assert_eq!(detector.sweep(0, now).0, []);
            now += Duration::from_millis(1);
            assert_eq!(detector.sweep(0, now).0, [host(1)]);
        }
        detector.sweep(0, now);
        detector.sweep(0, now);
        fail(&mut detector, 5, now);
        assert_eq!(detector.sweep(0, now + BASE * 2).0, [host(1)], "after 3, less 2, comes 2");
    }

    #[test]
    fn no_more_hosts_are_ejected_than_the_percentage_allows() {
        let now = Instant::now();
        let mut strict = detector(|settings| settings.max_ejection_percent = 10, 2);
        assert_eq!(fail(&mut strict, 5, now)[0].consequence, Consequence::Overflow);
        let mut one = detector(
            |settings| {
                settings.max_ejection_percent = 10;
                settings.always_eject_one_host = true;
            },
            2,
        );
        assert_eq!(fail(&mut one, 5, now)[0].consequence, Consequence::Ejected);
    }

    #[test]
    fn what_is_not_enforced_is_noticed_only_and_noticed_again() {
        let (mut detector, now) = (detector(|settings| settings.enforcing_consecutive_5xx = 40, 1), Instant::now());
        let noticed: Vec<Consequence> = (0..10)
            .flat_map(|_| detector.report(host(1), Outcome::Response(500), 40, now))
            .map(|detection| detection.consequence)
            .collect();
        assert_eq!(noticed, [Consequence::NotEnforced; 2]);
        assert_eq!(detector.ejected(), 0);
    }

    #[test]
    fn a_host_that_leaves_takes_its_state_along() {
        let (mut detector, now) = (detector(|_| {}, 2), Instant::now());
        fail(&mut detector, 5, now);
        detector.set_hosts([host(2)]);
        assert_eq!(detector.ejected(), 0);
        assert_eq!(fail(&mut detector, 9, now), []);
    }
}
