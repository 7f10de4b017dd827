//! What was counted, a line each: `name: value`, with the reference service's names for statsd.
//!
//! The reference's documents promise these on `/stats`; its own page only has what Go knows of the process. Here are the
//! rules in force, in the order of files, whether they counted or not, and the process's totals. What callers' values
//! name (`detailed_metric`, `value_to_metric`, overrides) is in `/metrics` alone.

use std::fmt::{self, Write};

use super::rules::write_name;
use crate::metrics::{Metrics, RuleTotals};
use crate::rules::{Rule, sanitised};
use crate::table::Snapshot;

/// Writes the totals, then the rules of `snapshot` if there are any.
pub(super) fn write(f: &mut impl Write, snapshot: Option<&Snapshot>, metrics: &Metrics) -> fmt::Result {
    let totals = metrics.totals();
    for (name, value) in [
        ("call.should_rate_limit.redis_error", totals.redis_errors.get()),
        ("call.should_rate_limit.service_error", totals.service_errors.get()),
        ("config_load_error", totals.config_load_error.get()),
        ("config_load_success", totals.config_load_success.get()),
        ("global_shadow_mode", totals.global_shadow_mode.get()),
    ] {
        writeln!(f, "ratelimit.service.{name}: {value}")?;
    }
    let Some(snapshot) = snapshot else { return Ok(()) };
    snapshot.rules.rules().iter().try_for_each(|rule| write_rule(f, rule, snapshot.meter(rule).counters.totals()))
}

fn write_rule(f: &mut impl Write, rule: &Rule, totals: RuleTotals) -> fmt::Result {
    let RuleTotals { total_hits, over_limit, near_limit, within_limit, shadow_mode, negative_hits: _, remembered: _ } =
        totals;
    for (name, value) in [
        ("total_hits", total_hits),
        ("over_limit", over_limit),
        ("near_limit", near_limit),
        ("within_limit", within_limit),
        ("shadow_mode", shadow_mode),
    ] {
        f.write_str("ratelimit.service.rate_limit.")?;
        write_name(f, &sanitised(&rule.domain))?;
        for part in &rule.metric_path {
            f.write_char('.')?;
            write_name(f, part)?;
        }
        writeln!(f, ".{name}: {value}")?;
    }
    Ok(())
}
