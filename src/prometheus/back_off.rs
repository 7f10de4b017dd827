//! How long to wait before a Prometheus that failed is asked again.

use std::time::Duration;

/// Longest wait.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// Counts failures in a row. Pure: who asks keeps the time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackOff {
    failures: u32,
}

// === impl BackOff ===

impl BackOff {
    /// The last question was answered.
    pub fn on_answer(&mut self) {
        self.failures = 0;
    }

    /// The last question failed.
    pub fn on_failure(&mut self) {
        self.failures = self.failures.saturating_add(1);
    }

    /// The time from one question to the next: the interval, doubled for each failure after the first, and at most a
    /// minute, or the interval where that is longer.
    #[must_use]
    pub fn wait(&self, interval: Duration) -> Duration {
        let doublings = self.failures.saturating_sub(1).min(16);
        interval.saturating_mul(1 << doublings).min(WAIT_MAX.max(interval))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_in_a_row_double_the_wait_up_to_a_minute_and_an_answer_ends_it() {
        let interval = Duration::from_secs(5);
        let mut back_off = BackOff::default();
        let mut waits = vec![back_off.wait(interval).as_secs()];
        for _ in 0..7 {
            back_off.on_failure();
            waits.push(back_off.wait(interval).as_secs());
        }
        assert_eq!(waits, [5, 5, 10, 20, 40, 60, 60, 60]);
        back_off.on_answer();
        assert_eq!(back_off.wait(interval), interval);
        let mut long = BackOff { failures: u32::MAX };
        long.on_failure();
        assert_eq!(long.wait(Duration::from_secs(90)), Duration::from_secs(90));
    }
}
