//! Counts errors by kind, and no more kinds than a report can show.

use std::collections::BTreeMap;

use super::client::Failure;

/// Kinds that are counted apart: a hostile server could make up a new one with every answer.
const KINDS_MAX: usize = 64;

/// How often each kind of error came.
#[derive(Clone, Debug, Default)]
pub struct Failures {
    kinds: BTreeMap<Failure, u64>,
    others: u64,
}

// === impl Failures ===

impl Failures {
    /// Counts one.
    pub fn count(&mut self, failure: Failure) {
        if let Some(count) = self.kinds.get_mut(&failure) {
            *count += 1;
        } else if self.kinds.len() < KINDS_MAX {
            self.kinds.insert(failure, 1);
        } else {
            self.others += 1;
        }
    }

    /// All of them together.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.kinds.values().sum::<u64>() + self.others
    }

    /// The counts by name; what came when there were too many kinds already is `OTHER`.
    #[must_use]
    pub fn named(&self) -> BTreeMap<String, u64> {
        let others = (self.others > 0).then(|| ("OTHER".to_owned(), self.others));
        self.kinds.iter().map(|(failure, count)| (failure.to_string(), *count)).chain(others).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_invents_errors_without_end_is_counted_without_growing() {
        let mut failures = Failures::default();
        for code in 0..1_000 {
            failures.count(Failure::Reset(code));
        }
        let named = failures.named();
        assert_eq!((named.len(), named["OTHER"], failures.total()), (KINDS_MAX + 1, 1_000 - KINDS_MAX as u64, 1_000));
    }
}
