//! The rules in force, a line each, as the reference service's `/rlconfig` writes them.
//!
//! ```text
//! shop.user.path_/cart: unit=MINUTE requests_per_unit=5, shadow_mode: false, quota_mode: false
//! ```
//!
//! An unlimited rule shows unit UNKNOWN and 0. What a rule has that the reference doesn't know follows at the end of its
//! line, `, name: value` each, so that a file with the reference's words and windows gives the reference's lines:
//! `unit_multiplier`, `window` (where it is no number of units), `algorithm` (unless it is `fixed_window`), `burst`, and
//! the adaptive `service` that moves the limit. Lines are in the order of files; there it is random.

use std::fmt::{self, Write};

use crate::limit::{Limit, Window};
use crate::rules::{Action, Algorithm, Rule, RuleSet};
use crate::window::Policy;

/// Writes all rules.
pub(super) fn write(f: &mut impl Write, rules: &RuleSet) -> fmt::Result {
    for rule in rules.rules() {
        write_rule(f, rule)?;
        if let Some(service) = rules.governing(rule.index) {
            write!(f, ", service: {}", service.name)?;
        }
        f.write_char('\n')?;
    }
    Ok(())
}

fn write_rule(f: &mut impl Write, rule: &Rule) -> fmt::Result {
    write_name(f, &rule.domain)?;
    for part in &rule.path {
        f.write_char('.')?;
        write_name(f, part)?;
    }
    match &rule.action {
        Action::Unlimited => f.write_str(": unit=UNKNOWN requests_per_unit=0, shadow_mode: false, quota_mode: false"),
        Action::Limited { limit: Limit { requests_per_unit, window }, policy, shadow_mode, quota_mode } => {
            let unit = window.units().map_or_else(|| "UNKNOWN".to_owned(), |(unit, _)| unit.name().to_uppercase());
            write!(f, ": unit={unit} requests_per_unit={requests_per_unit}")?;
            write!(f, ", shadow_mode: {shadow_mode}, quota_mode: {quota_mode}")?;
            write_ours(f, *window, policy)
        }
    }
}

/// What the reference has no word for.
fn write_ours(f: &mut impl Write, window: Window, policy: &Policy) -> fmt::Result {
    match window.units() {
        Some((_, 1)) => {}
        Some((_, multiplier)) => write!(f, ", unit_multiplier: {multiplier}")?,
        None => write!(f, ", window: {}ms", window.millis())?,
    }
    let algorithm = Algorithm::of(policy);
    if algorithm != Algorithm::FixedWindow {
        write!(f, ", algorithm: {}", algorithm.name())?;
    }
    match policy {
        Policy::TokenBucket(bucket) => write!(f, ", burst: {}", bucket.burst()),
        Policy::SlidingWindow(_) | Policy::FixedWindow(_) | Policy::ReferenceWindow(_) | Policy::Gate(_) => Ok(()),
    }
}

/// A name on one line, whatever the file has in it.
pub(super) fn write_name(f: &mut impl Write, name: &str) -> fmt::Result {
    for letter in name.chars() {
        if letter.is_control() {
            write!(f, "{}", letter.escape_default())?;
        } else {
            f.write_char(letter)?;
        }
    }
    Ok(())
}
