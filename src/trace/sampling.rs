//! Which calls are recorded: what the caller decided for its trace, and of traces that begin here a share. Pure.
//!
//! The share is taken by the last eight bytes of the trace's name, as OpenTelemetry's Go library does, so that services
//! with the same share record the same traces.

use super::identity::TraceId;
use super::propagation::Wish;

/// A share of traces, 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Share(f64);

/// Half of what eight bytes can count: names are halved before they are compared.
const HALF: f64 = (1_u64 << 63) as f64;

// === impl Share ===

impl Share {
    /// All traces.
    pub const ALL: Share = Share(1.0);

    /// That share; `None` for what is none.
    #[must_use]
    pub fn try_new(share: f64) -> Option<Share> {
        // NaN lies in no range.
        (0.0..=1.0).contains(&share).then_some(Share(share))
    }

    /// Whether the trace of that name is in the share.
    #[must_use]
    pub fn includes(self, trace: TraceId) -> bool {
        self.0 >= 1.0 || trace.low() >> 1 < (self.0 * HALF) as u64
    }

    /// Whether a call of that trace is recorded, whose caller wishes so.
    #[must_use]
    pub fn records(self, trace: TraceId, wish: Wish) -> bool {
        match wish {
            Wish::Record => true,
            Wish::Pass => false,
            Wish::Open => self.includes(trace),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn trace(low: u64) -> TraceId {
        TraceId::try_new((1_u128 << 64 | u128::from(low)).to_be_bytes()).unwrap()
    }

    #[test]
    fn a_share_is_a_number_from_0_to_1() {
        for wrong in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
            assert_eq!(Share::try_new(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn half_of_the_names_are_in_a_half() {
        let half = Share::try_new(0.5).unwrap();
        assert!(half.includes(trace(0)) && half.includes(trace(u64::MAX / 2)));
        assert!(!half.includes(trace(u64::MAX / 2 + 1)) && !half.includes(trace(u64::MAX)));
    }

    proptest! {
        #[test]
        fn nothing_is_in_none_everything_in_all_and_more_in_more(low: u64, one in 0.0..=1.0_f64, other in 0.0..=1.0_f64) {
            let includes = |share| Share::try_new(share).unwrap().includes(trace(low));
            prop_assert!(!includes(0.0) && includes(1.0));
            prop_assert!(includes(one.max(other)) || !includes(one.min(other)));
        }

        #[test]
        fn a_callers_decision_holds_whatever_the_share(low: u64, share in 0.0..=1.0_f64) {
            let share = Share::try_new(share).unwrap();
            prop_assert!(share.records(trace(low), Wish::Record) && !share.records(trace(low), Wish::Pass));
            prop_assert_eq!(share.records(trace(low), Wish::Open), share.includes(trace(low)));
        }
    }
}
