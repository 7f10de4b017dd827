//! `gate: rule`: the one governed rule is the gate, instead of having one beside it.
//!
//! A gate is one counter of requests per second, which refuses what is over. So must the rule be: one that counts in
//! another way would count differently the day it adapts. In other modes than `enforce` the rule is what it was.

use super::ServiceGate;
use super::file::RawService;
use crate::limit::{Unit, Window};
use crate::rate::Rate;
use crate::rules::error::{KeyPath, Report};
use crate::rules::{Action, Rule};
use crate::window::Policy;

/// What the gate says of the highest limit.
pub(super) enum Ceiling<'r> {
    /// Nothing: it is a counter of its own.
    Open,
    /// It is this rule, which allows so much.
    Rule(&'r Rule, Rate),
    /// It would be a rule; what is wrong with that is reported.
    Unknown,
}

/// Judges what a service says of its gate. `governs` are the rules found, all of them if `is_whole`.
pub(super) fn compile<'r>(
    raw: &RawService,
    governs: &[usize],
    is_whole: bool,
    rules: &'r [Rule],
    path: &KeyPath<'_>,
    report: &mut Report,
) -> Ceiling<'r> {
    let given = match raw.gate.given() {
        Some(given) if given.value == ServiceGate::Rule => given,
        _ if raw.gate.is_wrong() => return Ceiling::Unknown,
        _ => return Ceiling::Open,
    };
    let path = path.word("gate");
    if raw.scale_rules.is_true() {
        let text = "scale_rules lowers the rules beside the gate, and there are none with gate: rule; take out either";
        report.mistake(&path, given.place, text);
    }
    let rule = match governs {
        [rule] => &rules[*rule],
        _ if !is_whole || governs.is_empty() => return Ceiling::Unknown,
        several => {
            let text = format!(
                "the gate is the one rule that is governed, and governs leads to {} ({}); name one, or write gate: bucket",
                several.len(),
                several.iter().map(|rule| &*rules[*rule].place).collect::<Vec<_>>().join(", ")
            );
            report.mistake(&path, given.place, text);
            return Ceiling::Unknown;
        }
    };
    let wrong = objections(rule);
    for (what, right) in &wrong {
        let text = format!("{} can't be the gate: {what}; {right}, or write gate: bucket", rule.place);
        report.mistake(&path, given.place, text);
    }
    match &rule.action {
        Action::Limited { limit, .. } if wrong.is_empty() => {
            Ceiling::Rule(rule, Rate::from_per_second(f64::from(limit.requests_per_unit)))
        }
        _ => Ceiling::Unknown,
    }
}

/// What keeps a rule from being a gate, and what would be right.
fn objections(rule: &Rule) -> Vec<(String, &'static str)> {
    let Action::Limited { limit, policy, shadow_mode, quota_mode } = &rule.action else {
        return vec![("it is unlimited".to_owned(), "give it a limit per second")];
    };
    let mut wrong: Vec<(String, &'static str)> = Vec::new();
    let mut object = |applies: bool, what: String, right: &'static str| {
        if applies {
            wrong.push((what, right));
        }
    };
    let second = Window::from(Unit::Second);
    object(
        limit.window != second,
        format!("it counts per {}, and a gate counts per second", limit.window),
        "write unit: second",
    );
    object(limit.requests_per_unit == 0, "it blocks everything".to_owned(), "raise its requests_per_unit");
    let burst = if let Policy::TokenBucket(bucket) = policy { bucket.burst() } else { limit.requests_per_unit };
    object(
        limit.window == second && limit.requests_per_unit > 0 && burst != limit.requests_per_unit,
        format!("it has a burst of {burst}, and a gate holds one second's worth, {}", limit.requests_per_unit),
        "take out burst",
    );
    object(
        !rule.form.total,
        "it counts each value apart, and a gate is one total".to_owned(),
        "name a value, or a wildcard with share_threshold",
    );
    object(*shadow_mode, "it is in shadow_mode, and a gate refuses".to_owned(), "take out shadow_mode");
    object(*quota_mode, "it is in quota_mode, and a gate refuses alone".to_owned(), "take out quota_mode");
    object(!rule.replaces.is_empty(), "it replaces other rules".to_owned(), "take out replaces");
    wrong
}
