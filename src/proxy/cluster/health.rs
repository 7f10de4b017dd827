//! Active health checks, the part that counts: what a result makes of a host, and when the next check is due.

use std::time::Duration;

use crate::proxy::bootstrap::model::HealthCheck;

/// The state of one host.
#[derive(Debug)]
pub(super) struct HealthTracker {
    healthy_threshold: u32,
    unhealthy_threshold: u32,
    waits: Waits,
    is_first: bool,
    is_healthy: bool,
    successes: u32,
    failures: u32,
}

#[derive(Debug)]
struct Waits {
    healthy: Duration,
    healthy_edge: Duration,
    unhealthy: Duration,
    unhealthy_edge: Duration,
    no_traffic: Duration,
}

/// What one check found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CheckResult {
    /// An expected status.
    Success,
    /// A status that is neither expected nor retriable: the host says itself that it is not well.
    Failure,
    /// A retriable status.
    Retriable,
    /// No answer, or none in time.
    NetworkFailure,
}

/// What a result changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transition {
    /// Nothing.
    Unchanged,
    /// Something, if more such results follow.
    Pending,
    /// The host is healthy now or unhealthy now.
    Changed,
}

// === impl HealthTracker ===

impl HealthTracker {
    /// A host that was never checked. It is not healthy until it was.
    #[must_use]
    pub(super) fn new(settings: &HealthCheck) -> HealthTracker {
        HealthTracker {
            healthy_threshold: settings.healthy_threshold,
            unhealthy_threshold: settings.unhealthy_threshold,
            waits: Waits {
                healthy: settings.interval,
                healthy_edge: settings.healthy_edge_interval,
                unhealthy: settings.unhealthy_interval,
                unhealthy_edge: settings.unhealthy_edge_interval,
                no_traffic: settings.no_traffic_interval,
            },
            is_first: true,
            is_healthy: false,
            successes: 0,
            failures: 0,
        }
    }

    /// Whether the host is healthy.
    #[must_use]
    pub(super) fn is_healthy(&self) -> bool {
        self.is_healthy
    }

    /// A check found this. The first success is enough, so that a start takes one check and not `healthy_threshold`.
    pub(super) fn record(&mut self, result: CheckResult) -> Transition {
        let is_first = std::mem::replace(&mut self.is_first, false);
        let is_success = result == CheckResult::Success;
        if is_success {
            self.failures = 0;
            self.successes += 1;
        } else {
            self.successes = 0;
            self.failures += 1;
        }
        if is_success == self.is_healthy {
            return Transition::Unchanged;
        }
        let is_enough = match result {
            CheckResult::Success => is_first || self.successes >= self.healthy_threshold,
            CheckResult::Failure => true,
            CheckResult::Retriable | CheckResult::NetworkFailure => self.failures >= self.unhealthy_threshold,
        };
        if !is_enough {
            return Transition::Pending;
        }
        self.is_healthy = is_success;
        (self.successes, self.failures) = (0, 0);
        Transition::Changed
    }

    /// How long to wait after a result with that consequence. A cluster that was never used is checked more rarely.
    #[must_use]
    pub(super) fn wait(&self, result: CheckResult, transition: Transition, has_traffic: bool) -> Duration {
        match (result, transition) {
            _ if !has_traffic => self.waits.no_traffic,
            (CheckResult::Success, Transition::Pending) => self.waits.healthy_edge,
            (CheckResult::Success, _) => self.waits.healthy,
            (_, Transition::Pending) => self.waits.unhealthy_edge,
            (_, _) => self.waits.unhealthy,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::test_settings::health_check;
    use super::*;

    fn after(results: &[CheckResult]) -> bool {
        let mut tracker = HealthTracker::new(&health_check());
        for result in results {
            tracker.record(*result);
        }
        tracker.is_healthy()
    }

    #[test]
    fn thresholds_count_results_in_a_row_and_the_first_success_is_enough() {
        use CheckResult::{Failure, NetworkFailure, Retriable, Success};
        // The settings ask for two failures and three successes.
        assert!(!after(&[]));
        assert!(after(&[Success]));
        assert!(!after(&[Failure, Success, Success]), "three are needed once it was unhealthy");
        assert!(after(&[Failure, Success, Success, Success]));
        assert!(!after(&[Failure, Success, Success, NetworkFailure, Success]));
        assert!(after(&[Success, NetworkFailure]));
        assert!(after(&[Success, NetworkFailure, Success, Retriable]));
        assert!(!after(&[Success, NetworkFailure, Retriable]));
        assert!(!after(&[Success, Failure]), "a host that says so itself is believed at once");
    }

    #[test]
    fn the_next_check_depends_on_traffic_and_on_what_may_change() {
        let mut tracker = HealthTracker::new(&health_check());
        let mut wait = |result, has_traffic| {
            let transition = tracker.record(result);
            tracker.wait(result, transition, has_traffic).as_secs()
        };
        assert_eq!(wait(CheckResult::Success, false), 60);
        assert_eq!(wait(CheckResult::Success, true), 1);
        assert_eq!(wait(CheckResult::NetworkFailure, true), 3, "one more and it is unhealthy");
        assert_eq!(wait(CheckResult::NetworkFailure, true), 2);
        assert_eq!(wait(CheckResult::Success, true), 4, "some more and it is healthy");
    }
}
