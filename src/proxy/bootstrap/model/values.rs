//! Values that several parts of a bootstrap share.

use std::collections::BTreeMap;

use http::HeaderName;
use serde_json::{Map, Value};

use crate::proxy::access_log::Format;

/// `metadata.filter_metadata`, and a request's dynamic metadata: a protobuf Struct, as JSON, for each namespace.
pub type Metadata = BTreeMap<String, Map<String, Value>>;

/// A share of all requests, in the millionths that each of Envoy's denominators divides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FractionalPercent {
    millionths: u32,
}

/// Headers that a route configuration, virtual host or route adds and removes.
///
/// Envoy applies those of the route first, then the virtual host's, then the route configuration's.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeaderMutations {
    /// `request_headers_to_add`
    pub request_headers_to_add: Vec<HeaderValueOption>,
    /// `request_headers_to_remove`; removed after the additions of the same level.
    pub request_headers_to_remove: Vec<HeaderName>,
    /// `response_headers_to_add`
    pub response_headers_to_add: Vec<HeaderValueOption>,
    /// `response_headers_to_remove`
    pub response_headers_to_remove: Vec<HeaderName>,
}

/// One header to add.
#[derive(Clone, Debug, PartialEq)]
pub struct HeaderValueOption {
    /// Its name; never a pseudo-header and never `host`.
    pub name: HeaderName,
    /// Its value, with command operators.
    pub value: Format,
    /// What happens if it is there already. Default: [`AppendAction::AppendIfExistsOrAdd`].
    pub append_action: AppendAction,
    /// Whether it is added although its value is empty. Default: no.
    pub keep_empty_value: bool,
}

/// `append_action`, and what the older `append` means in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AppendAction {
    /// One more line of that name.
    #[default]
    AppendIfExistsOrAdd,
    /// Only if there is none of that name.
    AddIfAbsent,
    /// The only one of that name.
    OverwriteIfExistsOrAdd,
    /// The only one of that name, if there was one.
    OverwriteIfExists,
}

// === impl FractionalPercent ===

impl FractionalPercent {
    /// No request.
    pub const NONE: FractionalPercent = FractionalPercent { millionths: 0 };
    /// Every request.
    pub const ALL: FractionalPercent = FractionalPercent { millionths: 1_000_000 };

    /// `numerator` of `denominator`, which divides a million; more than all counts as all.
    #[must_use]
    pub fn of(numerator: u32, denominator: u32) -> FractionalPercent {
        let millionths = u64::from(numerator) * 1_000_000 / u64::from(denominator.max(1));
        FractionalPercent { millionths: u32::try_from(millionths).map_or(1_000_000, |share| share.min(1_000_000)) }
    }

    /// The share, 0 to 1,000,000.
    #[must_use]
    pub fn millionths(self) -> u32 {
        self.millionths
    }

    /// Whether a request falls into the share, given a random number.
    #[must_use]
    pub fn includes(self, random: u64) -> bool {
        random % 1_000_000 < u64::from(self.millionths)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn of_a_million_numbers_in_a_row_exactly_the_share_is_drawn() {
        for (numerator, denominator, drawn) in [
            (0, 100, 0),
            (1, 100, 10_000),
            (1, 10_000, 100),
            (1, 1_000_000, 1),
            (333_333, 1_000_000, 333_333),
            (100, 100, 1_000_000),
            (101, 100, 1_000_000),
            (u32::MAX, 1_000_000, 1_000_000),
        ] {
            let share = FractionalPercent::of(numerator, denominator);
            let from = u64::MAX - 1_500_000;
            let count = (from..from + 1_000_000).filter(|random| share.includes(*random)).count();
            assert_eq!(count, drawn, "{numerator} of {denominator}");
        }
    }

    proptest! {
        #[test]
        fn who_is_in_a_share_is_in_every_larger_one(
            numerators in [0..2_000_000_u32, 0..2_000_000_u32],
            denominator in prop::sample::select(vec![100_u32, 10_000, 1_000_000]),
            random: u64,
        ) {
            let [one, other] = numerators.map(|numerator| FractionalPercent::of(numerator, denominator));
            let (small, large) = (one.min(other), one.max(other));
            prop_assert!(!small.includes(random) || large.includes(random));
            prop_assert!(!FractionalPercent::NONE.includes(random) && FractionalPercent::ALL.includes(random));
        }
    }
}
