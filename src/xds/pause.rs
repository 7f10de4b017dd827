//! How long to wait before a server is tried again.
//!
//! Each wait is longer than the one before by a factor, up to a bound, and chance takes up to half of it off, so that a
//! fleet that lost its server together doesn't come back together. The reference service's figures mean the same here,
//! except that its jitter, which lies between the first wait and the present one, has no effect with its own defaults.

use std::time::Duration;

/// The waits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pauses {
    /// The first.
    pub initial: Duration,
    /// The longest.
    pub max: Duration,
    /// By what each is longer than the one before; 1 and less for waits that are all the same.
    pub factor: f64,
    /// Whether chance shortens them.
    pub jitter: bool,
}

// === impl Pauses ===

impl Pauses {
    /// The wait after so many failures in a row, of which there is one at least. `chance` is drawn from 0 to 1.
    #[must_use]
    pub fn after(&self, failures: u32, chance: f64) -> Duration {
        let growth = self.factor.max(1.0).powi(i32::try_from(failures.saturating_sub(1)).unwrap_or(i32::MAX));
        let seconds = (self.initial.as_secs_f64() * growth).min(self.max.as_secs_f64()).max(self.initial.as_secs_f64());
        let share = if self.jitter { 1.0 - chance.clamp(0.0, 1.0) / 2.0 } else { 1.0 };
        Duration::try_from_secs_f64(seconds * share).unwrap_or(self.max)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PAUSES: Pauses =
        Pauses { initial: Duration::from_millis(500), max: Duration::from_secs(10), factor: 2.0, jitter: false };

    #[test]
    fn waits_double_up_to_the_longest() {
        let seconds: Vec<f64> = (1..=7).map(|failures| PAUSES.after(failures, 0.3).as_secs_f64()).collect();
        assert_eq!(seconds, [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]);
    }

    #[test]
    fn a_factor_below_one_leaves_waits_as_they_are() {
        let constant = Pauses { factor: 0.5, ..PAUSES };
        assert_eq!(constant.after(1, 0.0), constant.after(50, 0.0));
    }

    proptest! {
        #[test]
        fn a_wait_lies_between_half_the_first_and_the_longest(
            failures in 0_u32..,
            chance in 0.0..1.0_f64,
            factor in 0.0..1e9_f64,
            initial in 1_u64..100_000,
            jitter: bool,
        ) {
            let initial = Duration::from_millis(initial);
            let pauses = Pauses { initial, max: Duration::from_secs(60), factor, jitter };
            let wait = pauses.after(failures, chance);
            prop_assert!(wait >= initial / 2 && wait <= Duration::from_secs(60).max(initial), "{wait:?}");
        }
    }
}
