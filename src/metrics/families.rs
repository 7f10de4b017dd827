//! Which families the rules' series make for Prometheus, under the reference service's names where it has them.

use super::rule::RuleTotals;

/// One family of the rules' series: its name, what it means, where its value is, and whether zeros are shown.
pub(super) type RuleFamily = (&'static str, &'static str, fn(&RuleTotals) -> u64, Zeros);

/// Whether a series that has hits is shown in a family where its value is zero.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Zeros {
    /// It is: rates can then be told from the first hit on.
    Shown,
    /// It isn't: few rules ever count here.
    Hidden,
}

/// The families, in the order in which they are shown.
pub(super) const RULE_FAMILIES: [RuleFamily; 7] = [
    (
        "ratelimit_service_rate_limit_total_hits",
        "Hits that were asked for, by rule.",
        |totals| totals.total_hits,
        Zeros::Shown,
    ),
    ("ratelimit_service_rate_limit_over_limit", "Hits above the limit.", |totals| totals.over_limit, Zeros::Shown),
    (
        "ratelimit_service_rate_limit_near_limit",
        "Hits between the near-limit threshold and the limit.",
        |totals| totals.near_limit,
        Zeros::Shown,
    ),
    (
        "ratelimit_service_rate_limit_within_limit",
        "Hits of charges that had room.",
        |totals| totals.within_limit,
        Zeros::Shown,
    ),
    (
        "ratelimit_service_rate_limit_shadow_mode",
        "Hits above the limit that shadow mode let pass.",
        |totals| totals.shadow_mode,
        Zeros::Hidden,
    ),
    (
        "ratelimit_service_rate_limit_total_negative_hits",
        "Hits given back.",
        |totals| totals.negative_hits,
        Zeros::Hidden,
    ),
    (
        "ratelimit_service_rate_limit_over_limit_with_local_cache",
        "Hits above the limit that were answered from the memory of what is over.",
        |totals| totals.remembered,
        Zeros::Hidden,
    ),
];
