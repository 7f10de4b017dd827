//! What a run of `accuracy` came to: a table for people, one JSON object for machines.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

use super::ledger::Ledger;
use super::windows::{certain_max, possible_each, possible_max};

/// Whether the limit was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kept {
    /// As far as a client can tell.
    Kept,
    /// Certainly not.
    Violated,
    /// Nothing was refused, so the limit was not put to the test.
    Untested,
}

/// The result of a run. The fields of its JSON are named as here.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The servers as they were named.
    pub targets: Vec<String>,
    /// Number of keys that were asked about, each with a limit of its own.
    pub keys: u64,
    /// Seconds from the first to the last sending.
    pub seconds: f64,
    /// The window in seconds.
    pub window_seconds: f64,
    /// Hits that a window allows.
    pub allowed: u64,
    /// Calls that were sent.
    pub sent: u64,
    /// … answered, with an error or without.
    pub answered: u64,
    /// … answered OK.
    pub ok: u64,
    /// … answered over limit.
    pub over_limit: u64,
    /// … answered with an error, by its name.
    pub errors: BTreeMap<String, u64>,
    /// … never answered.
    pub unanswered: u64,
    /// Most hits that were certainly admitted within one window, over all keys.
    pub most_admitted_certain: u64,
    /// Most hits that may have been.
    pub most_admitted_possible: u64,
    /// `most_admitted_certain` ÷ `allowed`: above 1 the limit was broken.
    pub ratio: f64,
    /// Windows, of all keys, that refused something, one after the other from the start of the run.
    pub saturated_windows: u64,
    /// Fewest hits that any of these can have admitted; `null` if there is none.
    pub least_admitted: Option<u64>,
    /// How much that is below the limit.
    pub shortfall: u64,
    /// The same ÷ `allowed`.
    pub shortfall_share: f64,
    /// Whether the limit was kept.
    pub verdict: Kept,
}

// === impl Report ===

impl Report {
    /// The report of a run that is over.
    #[must_use]
    pub fn new(targets: Vec<String>, keys: u64, allowed: u64, ledger: &Ledger) -> Report {
        let (window_ns, windows) = (ledger.window_ns, ledger.windows());
        let (mut certain, mut possible) = (0, 0);
        let (mut least, mut saturated): (Option<u64>, u64) = (None, 0);
        // A key that admitted nothing at all may have refused.
        let nothing = super::ledger::Account::default();
        let refusing_keys = ledger.refusing.iter().map(|(key, _)| key);
        let all: std::collections::BTreeSet<u64> = ledger.keys.keys().chain(refusing_keys).copied().collect();
        for key in all {
            let account = ledger.keys.get(&key).unwrap_or(&nothing);
            let either = || account.admitted.iter().chain(&account.unknown);
            certain = certain.max(certain_max(&account.admitted, window_ns));
            possible = possible.max(possible_max(either(), window_ns));
            for (window, admitted) in (0..).zip(possible_each(either(), window_ns, windows)) {
                if ledger.refusing.contains(&(key, window)) {
                    saturated += 1;
                    least = Some(least.map_or(admitted, |least| least.min(admitted)));
                }
            }
        }
        let verdict = if certain > allowed {
            Kept::Violated
        } else if ledger.refused == 0 {
            Kept::Untested
        } else {
            Kept::Kept
        };
        let shortfall = least.map_or(0, |least| allowed.saturating_sub(least));
        Report {
            targets,
            keys,
            seconds: ledger.last_sent_ns as f64 / 1e9,
            window_seconds: window_ns as f64 / 1e9,
            allowed,
            sent: ledger.answered() + ledger.unanswered,
            answered: ledger.answered(),
            ok: ledger.admitted,
            over_limit: ledger.refused,
            errors: ledger.failures.named(),
            unanswered: ledger.unanswered,
            most_admitted_certain: certain,
            most_admitted_possible: possible,
            ratio: certain as f64 / allowed as f64,
            saturated_windows: saturated,
            least_admitted: least,
            shortfall,
            shortfall_share: shortfall as f64 / allowed as f64,
            verdict,
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |name: &str, text: String| writeln!(formatter, "{name:<28} {text}");
        line("targets", self.targets.join(", "))?;
        line(
            "limit",
            format!("{} hits in any {} s, for each of {} keys", self.allowed, self.window_seconds, self.keys),
        )?;
        line("offered", format!("{} calls in {:.1} s", self.sent, self.seconds))?;
        line("  ok", self.ok.to_string())?;
        line("  over limit", self.over_limit.to_string())?;
        for (name, count) in &self.errors {
            line(&format!("  {name}"), count.to_string())?;
        }
        if self.unanswered > 0 {
            line("  unanswered", self.unanswered.to_string())?;
        }
        let (certain, possible) = (self.most_admitted_certain, self.most_admitted_possible);
        line("most admitted in any window", format!("{certain} for certain, {possible} possibly"))?;
        line("  of what is allowed", format!("{:.4}", self.ratio))?;
        if let Some(least) = self.least_admitted {
            let (windows, share) = (self.saturated_windows, self.shortfall_share * 100.0);
            let text = format!("{least} at least ({:.2} % short), of {windows} that refused", share);
            line("fewest in a full window", text)?;
        }
        let verdict = match self.verdict {
            Kept::Kept => "kept".to_owned(),
            Kept::Violated => format!("violated: {} hits over the limit in one window", certain - self.allowed),
            Kept::Untested => "untested: nothing was refused; offer more, or check domain, key and limit".to_owned(),
        };
        write!(formatter, "{:<28} {verdict}", "verdict")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::super::client::{Call, Failure, Outcome};
    use super::super::super::drive::Observer;
    use super::*;

    /// Ten admissions in every window of a second at its start, and refusals after them, for three windows.
    fn ledger(keys: u64, hits: u32) -> Ledger {
        let mut ledger = Ledger::new(Duration::from_secs(1), Duration::from_secs(3), hits);
        for window in 0..3_u64 {
            for index in 0..20_u64 {
                // A little more than a window apart, so that the answers of one never reach into the next.
                let sent_ns = window * 1_000_020_000 + index * 1_000_000;
                let call = Call { due_ns: sent_ns, sent_ns, key: index % keys, returns: 0 };
                let outcome = if index < 10 { Outcome::Ok } else { Outcome::OverLimit };
                ledger.ended(&call, sent_ns + 10_000, outcome);
            }
        }
        ledger
    }

    fn report(allowed: u64, ledger: &Ledger) -> Report {
        Report::new(Vec::new(), 1, allowed, ledger)
    }

    #[test]
    fn the_limit_that_was_kept_is_kept_and_one_less_is_violated() {
        let ledger = ledger(1, 1);
        let kept = report(10, &ledger);
        assert_eq!((kept.verdict, kept.most_admitted_certain, kept.most_admitted_possible), (Kept::Kept, 10, 10));
        assert_eq!((kept.saturated_windows, kept.least_admitted, kept.shortfall), (3, Some(10), 0));
        let violated = report(9, &ledger);
        assert_eq!((violated.verdict, violated.shortfall), (Kept::Violated, 0));
        let short = report(15, &ledger);
        assert_eq!((short.verdict, short.shortfall), (Kept::Kept, 5));
    }

    #[test]
    fn hits_are_counted_and_each_key_by_itself() {
        let report = report(10, &ledger(2, 3));
        assert_eq!((report.most_admitted_certain, report.saturated_windows, report.verdict), (15, 6, Kept::Violated));
    }

    #[test]
    fn a_run_that_refused_nothing_proves_nothing() {
        let ledger = Ledger::new(Duration::from_secs(1), Duration::from_secs(3), 1);
        let report = report(10, &ledger);
        assert_eq!((report.verdict, report.least_admitted), (Kept::Untested, None));
    }

    #[test]
    fn a_call_without_a_verdict_may_have_been_admitted() {
        let mut ledger = ledger(1, 1);
        let call = Call { due_ns: 0, sent_ns: 5, key: 0, returns: 0 };
        ledger.ended(&call, 100, Outcome::Failed(Failure::Grpc(14)));
        let report = report(10, &ledger);
        assert_eq!((report.most_admitted_certain, report.most_admitted_possible), (10, 11));
        assert_eq!(report.verdict, Kept::Kept);
    }
}
