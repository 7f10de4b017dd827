//! Which counters belong to which rule.
//!
//! A counter must survive every edit that doesn't change what it counts: another rule is added, files are merged or
//! split, this rule gets more requests or another name. So a rule is identified by what it counts and how, not by its
//! place: the domain, the keys and values that lead to it, the algorithm and the window.

use sha2::{Digest, Sha256};

use super::Algorithm;
use crate::limit::Window;

/// Identity of a rule's counters: the first 8 bytes of a SHA-256. Two of 100,000 rules meet with a chance of one in
/// four thousand million, and an operator, who alone chooses rules, gains nothing by making them meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleId(pub u64);

/// What a rule is found by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RuleKind {
    /// The tree of descriptors.
    Tree,
    /// A subset of entries.
    Subset,
    /// The limit that a request brings along.
    Override,
}

// === impl RuleId ===

impl RuleId {
    /// The identity of a rule of `kind` at `path`, a list of keys with the values that the rule fixes. Unlimited rules
    /// have neither algorithm nor window.
    pub(super) fn of<'p>(
        kind: RuleKind,
        domain: &str,
        path: impl IntoIterator<Item = (&'p str, Option<&'p str>)>,
        counting: Option<(Algorithm, Window)>,
    ) -> RuleId {
        let mut digest = Sha256::new();
        let mut text = |text: &str| {
            digest.update((text.len() as u64).to_be_bytes());
            digest.update(text.as_bytes());
        };
        text(kind.name());
        text(domain);
        for (key, value) in path {
            text(if value.is_some() { "valued" } else { "any" });
            text(key);
            text(value.unwrap_or_default());
        }
        // The path's parts come in threes that begin with one of two words, so this one ends the path.
        text("counting");
        if let Some((algorithm, window)) = counting {
            text(algorithm.name());
            text(&window.millis().to_string());
        }
        let digest = digest.finalize();
        let mut first = [0; 8];
        first.copy_from_slice(&digest[..8]);
        RuleId(u64::from_be_bytes(first))
    }
}

// === impl RuleKind ===

impl RuleKind {
    fn name(self) -> &'static str {
        match self {
            RuleKind::Tree => "tree",
            RuleKind::Subset => "subset",
            RuleKind::Override => "override",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::Unit;

    #[test]
    fn identities_are_the_same_in_every_release() {
        // Counters live on in a store while replicas are replaced: this number must not change.
        let counting = Some((Algorithm::SlidingWindow, Unit::Minute.into()));
        let id = RuleId::of(RuleKind::Tree, "shop", [("path", Some("/v1/*")), ("user", None)], counting);
        assert_eq!(format!("{:016x}", id.0), "6ea253f6a121cd3c");
    }

    #[test]
    fn everything_that_is_counted_apart_has_its_own_identity() {
        let minute = Some((Algorithm::SlidingWindow, Unit::Minute.into()));
        let id = |kind, domain, path: &[(&'static str, Option<&'static str>)], counting| {
            RuleId::of(kind, domain, path.iter().copied(), counting)
        };
        let ids = [
            id(RuleKind::Tree, "d", &[("a", Some("b"))], minute),
            id(RuleKind::Subset, "d", &[("a", Some("b"))], minute),
            id(RuleKind::Override, "d", &[("a", Some("b"))], minute),
            id(RuleKind::Tree, "e", &[("a", Some("b"))], minute),
            id(RuleKind::Tree, "d", &[("a", None), ("b", None)], minute),
            id(RuleKind::Tree, "d", &[("a", None)], minute),
            id(RuleKind::Tree, "d", &[("a", Some(""))], minute),
            id(RuleKind::Tree, "d", &[("ab", Some(""))], minute),
            id(RuleKind::Tree, "d", &[("a", Some("b"))], Some((Algorithm::FixedWindow, Unit::Minute.into()))),
            id(RuleKind::Tree, "d", &[("a", Some("b"))], Some((Algorithm::SlidingWindow, Unit::Hour.into()))),
            id(RuleKind::Tree, "d", &[("a", Some("b"))], None),
        ];
        for (index, one) in ids.iter().enumerate() {
            assert!(!ids[index + 1..].contains(one), "number {index}");
        }
    }
}
