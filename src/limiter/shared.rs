//! Charges of counters that are shared with envoyproxy/ratelimit, whose window is chosen here and whose numbers are
//! Redis's.
//!
//! That service hands a caller's hits to Redis as they came. Redis refuses a number beyond 2^63 - 1, and a sum beyond it;
//! the call is then an error there, while its other counters are charged. So it is here, over every store: stores count
//! to [`HITS_MAX`] only, which stands for all that is more.

use super::LimiterOptions;
use crate::clock::Timestamp;
use crate::counters::{Charge, StoreError};
use crate::descriptor::Hits;
use crate::window::{HITS_MAX, Policy, Tally};

/// The largest number that Redis reads.
const NUMBER_MAX: u64 = i64::MAX as u64;

/// Says which window a charge of a shared counter is for; other charges stay as they are.
pub(super) fn begin(charge: &mut Charge, now: impl FnOnce() -> Timestamp, options: &LimiterOptions) {
    let Policy::ReferenceWindow(window) = &mut charge.policy else { return };
    *window = window.begun_at(now(), options.expiry_jitter_max_s);
    charge.key.begin_window(window.start_s());
    if is_no_number(charge.hits) {
        charge.hits = Hits::Add(0);
    }
}

/// What Redis would have said to the charge of a shared counter, if it would have refused it.
pub(super) fn refusal(policy: &Policy, hits: Hits, tally: &Tally) -> Option<StoreError> {
    let (Policy::ReferenceWindow(_), Hits::Add(1..)) = (policy, hits) else { return None };
    let reason = match () {
        () if is_no_number(hits) => "ERR value is not an integer or out of range",
        () if !tally.charged && tally.used >= HITS_MAX => "ERR increment or decrement would overflow",
        () => return None,
    };
    Some(StoreError::Refused { reason: reason.to_owned() })
}

fn is_no_number(hits: Hits) -> bool {
    matches!(hits, Hits::Add(hits) if hits > NUMBER_MAX)
}
