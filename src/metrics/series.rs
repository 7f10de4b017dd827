//! Which series there are: labels made from a rule's path, and the table that holds one set of counters for each.
//!
//! A series has the whole path, as its dotted name does ([`super::dotted`]). Prometheus is shown the domain and two
//! levels ([`Shown`]): what is deeper is summed into the second. A sum must not fall when one of its series goes, since
//! a scraper would take that for a restart; so what a series had counted is kept as *departed* for as long as others are
//! shown by the same labels.
//!
//! A series is made in one of two ways, and each has its own bound:
//!
//! - **By a rule**, when rules are loaded. There are as many as rules, and one lives as long as some rule set holds
//!   its counters: [`SeriesTable::forget_unheld`] drops the rest. The table's reference count is the book-keeping, so
//!   a reload that keeps a rule keeps its counters, and one that fails half-way leaves no trace.
//! - **At run time**, by a rule that wants the caller's values in its labels. Callers choose those, so their number
//!   has a limit, beyond which hits go to the one series `key1="other"` of their domain; and a series that nobody has
//!   asked for between two calls of [`SeriesTable::forget_idle`] is dropped.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

use foldhash::quality::RandomState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use smallvec::SmallVec;

use super::rule::{RuleCounters, RuleTotals};
use crate::rules::sanitised;

/// What names a series: the domain and the levels of its path, at least one. In the order of these, series that are
/// shown by the same labels stand side by side.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Labels {
    pub(super) domain: Box<str>,
    pub(super) path: Box<[Box<str>]>,
}

/// What Prometheus is shown of [`Labels`]: the domain and the first two levels, as in the reference service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Shown<'l> {
    pub(super) domain: &'l str,
    pub(super) key1: &'l str,
    pub(super) key2: Option<&'l str>,
}

/// [`Labels`] as they are looked up: borrowed where nothing in them had to be replaced.
#[derive(Clone, Debug)]
struct Wanted<'a> {
    domain: Cow<'a, str>,
    path: SmallVec<[Cow<'a, str>; LEVELS_INLINE]>,
}

/// All series, each once.
#[derive(Debug)]
pub(super) struct SeriesTable {
    series: HashTable<Series>,
    /// Seeded at random, as callers choose some of what is hashed.
    hasher: RandomState,
    runtime_count: usize,
    runtime_max: usize,
    /// Series made so far, which is how they are numbered.
    made: u64,
    /// What dropped series had counted, by the labels that are still shown for others. No more than there are series.
    departed: BTreeMap<Labels, RuleTotals>,
}

#[derive(Debug)]
struct Series {
    /// Which it is of all that were ever made: a series that comes back after it was dropped is another.
    number: u64,
    counters: Arc<RuleCounters>,
    origin: Origin,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// Made by a rule; lives while it is held.
    Rule,
    /// Made by a request.
    Runtime {
        /// Whether it was asked for since [`SeriesTable::forget_idle`] last looked.
        touched: bool,
    },
    /// The one of its domain that takes what no longer fits; there are no more than domains.
    Other,
}

/// Where the hits of a request go.
#[derive(Debug)]
pub(super) enum RuntimeSeries {
    /// To a series of their own.
    Own(Arc<RuleCounters>),
    /// To the domain's `other`: there are as many series as there may be.
    Other(Arc<RuleCounters>),
}

/// Longest label value in bytes. Rules and statistics need a fraction of it; a caller's header may be a thousand times
/// as long, and 10,000 of those would not be statistics any more. What is longer is cut.
const LABEL_BYTES_MAX: usize = 256;

/// Longest path in bytes, with the domain and the dots between. Levels that no longer fit are summed into the last
/// that does. Two levels always fit, and the whole name fits into a statsd packet.
pub(super) const PATH_BYTES_MAX: usize = 1_024;

/// Levels that are looked up without an allocation. Few rules have more.
const LEVELS_INLINE: usize = 8;

/// The first key of the series for everything beyond the bound.
const OTHER: &str = "other";

// === impl Labels ===

impl Labels {
    #[cfg(test)]
    pub(super) fn of(domain: &str, path: &[&str]) -> Labels {
        Wanted::of(domain, path.iter().copied()).into_labels()
    }

    /// What Prometheus is shown of them.
    pub(super) fn shown(&self) -> Shown<'_> {
        let level = |index: usize| self.path.get(index).map(|level| &**level);
        Shown { domain: &self.domain, key1: level(0).unwrap_or_default(), key2: level(1) }
    }

    fn hash(&self, hasher: &RandomState) -> u64 {
        hash(hasher, &self.domain, self.path.iter().map(|level| &**level))
    }
}

// === impl Shown ===

impl Shown<'_> {
    fn to_labels(self) -> Labels {
        let path = [Some(self.key1), self.key2].into_iter().flatten().map(Box::from).collect();
        Labels { domain: self.domain.into(), path }
    }
}

// === impl Wanted ===

impl<'a> Wanted<'a> {
    fn of(domain: &'a str, path: impl Iterator<Item = &'a str>) -> Wanted<'a> {
        let domain = label_value(domain);
        let mut bytes = domain.len();
        let fits = |level: &Cow<'_, str>| {
            bytes += 1 + level.len();
            bytes <= PATH_BYTES_MAX
        };
        let mut path: SmallVec<_> = path.map(label_value).take_while(fits).collect();
        if path.is_empty() {
            path.push(Cow::Borrowed(""));
        }
        Wanted { domain, path }
    }

    fn matches(&self, labels: &Labels) -> bool {
        *self.domain == *labels.domain
            && self.path.len() == labels.path.len()
            && self.path.iter().zip(&labels.path).all(|(wanted, level)| **wanted == **level)
    }

    fn hash(&self, hasher: &RandomState) -> u64 {
        hash(hasher, &self.domain, self.path.iter().map(|level| &**level))
    }

    fn into_labels(self) -> Labels {
        let own = |text: Cow<'a, str>| text.into_owned().into_boxed_str();
        Labels { domain: own(self.domain), path: self.path.into_iter().map(own).collect() }
    }
}

fn hash<'l>(hasher: &RandomState, domain: &str, path: impl Iterator<Item = &'l str>) -> u64 {
    let mut state = hasher.build_hasher();
    domain.hash(&mut state);
    path.for_each(|level| level.hash(&mut state));
    state.finish()
}

/// The text as a label's value: `:` and `|` become `_`, and so do the dots of IPv4 addresses, as in the reference
/// service, whose dashboards and alerts name series that way. Other dots stay.
fn label_value(text: &str) -> Cow<'_, str> {
    sanitised(cut(text))
}

/// The text, or as much of its start as a label may hold, whole characters only.
fn cut(text: &str) -> &str {
    if text.len() <= LABEL_BYTES_MAX {
        return text;
    }
    let end = (0..=LABEL_BYTES_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    &text[..end]
}

// === impl SeriesTable ===

impl SeriesTable {
    pub(super) fn new(runtime_max: usize) -> SeriesTable {
        SeriesTable {
            series: HashTable::new(),
            hasher: RandomState::default(),
            runtime_count: 0,
            runtime_max,
            made: 0,
            departed: BTreeMap::new(),
        }
    }

    /// The counters of a rule, made if it is new. A series that requests had made becomes the rule's.
    pub(super) fn rule(&mut self, domain: &str, path: &[&str]) -> Arc<RuleCounters> {
        let wanted = Wanted::of(domain, path.iter().copied());
        let series = self.find_or_make(wanted, Origin::Rule);
        let counters = Arc::clone(&series.counters);
        if matches!(std::mem::replace(&mut series.origin, Origin::Rule), Origin::Runtime { .. }) {
            self.runtime_count -= 1;
        }
        counters
    }

    /// The counters for a path with a caller's values in it.
    pub(super) fn runtime(&mut self, domain: &str, path: &[String]) -> RuntimeSeries {
        let wanted = Wanted::of(domain, path.iter().map(String::as_str));
        let hash = wanted.hash(&self.hasher);
        if let Some(series) = self.series.find_mut(hash, |series| wanted.matches(series.counters.labels())) {
            if let Origin::Runtime { touched } = &mut series.origin {
                *touched = true;
            }
            return RuntimeSeries::Own(Arc::clone(&series.counters));
        }
        if self.runtime_count >= self.runtime_max {
            let other = Wanted::of(domain, std::iter::once(OTHER));
            return RuntimeSeries::Other(Arc::clone(&self.find_or_make(other, Origin::Other).counters));
        }
        self.runtime_count += 1;
        RuntimeSeries::Own(Arc::clone(&self.find_or_make(wanted, Origin::Runtime { touched: true }).counters))
    }

    /// Drops the series of rules whose counters nobody else holds.
    pub(super) fn forget_unheld(&mut self) {
        self.retain(|series| match series.origin {
            Origin::Rule => Arc::strong_count(&series.counters) > 1,
            Origin::Runtime { .. } | Origin::Other => true,
        });
    }

    /// Drops the series that requests made and that none has asked for since the last call.
    pub(super) fn forget_idle(&mut self) {
        self.retain(|series| match &mut series.origin {
            Origin::Runtime { touched } => std::mem::take(touched),
            Origin::Rule | Origin::Other => true,
        });
        self.runtime_count =
            self.series.iter().filter(|series| matches!(series.origin, Origin::Runtime { .. })).count();
    }

    /// The counters of all series with their numbers, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &Arc<RuleCounters>)> {
        self.series.iter().map(|series| (series.number, &series.counters))
    }

    /// What dropped series had counted that are shown together with others.
    pub(super) fn departed(&self) -> &BTreeMap<Labels, RuleTotals> {
        &self.departed
    }

    fn retain(&mut self, mut keep: impl FnMut(&mut Series) -> bool) {
        let departed = &mut self.departed;
        self.series.retain(|series| {
            let kept = keep(series);
            let totals = series.counters.totals();
            if !kept && totals != RuleTotals::default() {
                let labels = series.counters.labels().shown().to_labels();
                let sum = departed.entry(labels).or_default();
                *sum = sum.plus(totals);
            }
            kept
        });
        if !departed.is_empty() {
            // There are few of these and many series, and requests wait for the table.
            let sums: Vec<Shown<'_>> = departed.keys().map(Labels::shown).collect();
            let mut is_shown = vec![false; sums.len()];
            for series in &self.series {
                if let Ok(at) = sums.binary_search(&series.counters.labels().shown()) {
                    is_shown[at] = true;
                }
            }
            let mut is_shown = is_shown.into_iter();
            departed.retain(|_, _| is_shown.next() == Some(true));
        }
    }

    fn find_or_make(&mut self, wanted: Wanted<'_>, origin: Origin) -> &mut Series {
        let hash = wanted.hash(&self.hasher);
        let hash_of = |series: &Series| series.counters.labels().hash(&self.hasher);
        match self.series.entry(hash, |series| wanted.matches(series.counters.labels()), hash_of) {
            Entry::Occupied(occupied) => occupied.into_mut(),
            Entry::Vacant(vacant) => {
                let counters = Arc::new(RuleCounters::new(wanted.into_labels()));
                self.made += 1;
                vacant.insert(Series { number: self.made, counters, origin }).into_mut()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(series: RuntimeSeries) -> Arc<RuleCounters> {
        match series {
            RuntimeSeries::Own(counters) => counters,
            RuntimeSeries::Other(counters) => panic!("no series of its own, but {:?}", counters.labels()),
        }
    }

    #[test]
    fn label_values_are_replaced_as_the_reference_service_does() {
        let cases = [
            ("user_a", "user_a"),
            ("host_10.0.0.1:80", "host_10_0_0_1_80"),
            ("masked_remote_address_192.0.2.0/24", "masked_remote_address_192_0_2_0/24"),
            ("1234.1.1.1", "1234_1_1_1"),
            ("1.2.3.4.5", "1_2_3_4.5"),
            ("1.2.3", "1.2.3"),
            ("1.2..3.4", "1.2..3.4"),
            ("api.example.com|x", "api.example.com_x"),
            ("ä:ö", "ä_ö"),
            ("", ""),
        ];
        for (text, value) in cases {
            assert_eq!(label_value(text), value);
        }
    }

    #[test]
    fn a_long_label_value_is_cut_between_characters() {
        let value = label_value(&"ä".repeat(1_000)).into_owned();
        assert_eq!(value, "ä".repeat(128));
        assert_eq!(label_value(&format!("x{}", "ä".repeat(1_000))).len(), 255);
    }

    #[test]
    fn each_path_has_counters_of_its_own_and_two_levels_are_shown() {
        let mut table = SeriesTable::new(10);
        let two = table.rule("d", &["a", "b"]);
        let three = table.rule("d", &["a", "b", "c"]);
        assert!(!Arc::ptr_eq(&two, &three));
        assert!(Arc::ptr_eq(&three, &table.rule("d", &["a", "b", "c"])));
        assert_eq!(two.labels().shown(), three.labels().shown());
        assert_ne!(two.labels().shown(), table.rule("d", &["a"]).labels().shown());
        assert_ne!(two.labels().shown(), table.rule("e", &["a", "b"]).labels().shown());
    }

    #[test]
    fn a_path_is_bounded_and_two_levels_always_fit() {
        let long = "x".repeat(1_000);
        let labels = Labels::of(&long, &[long.as_str(); 40]);
        assert_eq!(labels.path.len(), 2);
        let labels = Labels::of("d", &["ab"; 500]);
        let bytes = 1 + labels.path.iter().map(|level| 1 + level.len()).sum::<usize>();
        assert!((PATH_BYTES_MAX - 2..=PATH_BYTES_MAX).contains(&bytes), "{bytes}");
        assert_eq!(Labels::of("d", &[]).shown().key1, "");
    }

    #[test]
    fn what_a_dropped_series_counted_stays_while_others_are_shown_by_its_labels() {
        let mut table = SeriesTable::new(10);
        let path = |last: &str| ["a".to_owned(), "b".to_owned(), last.to_owned()];
        own(table.runtime("d", &path("x"))).record_unlimited(5);
        own(table.runtime("d", &path("y"))).record_unlimited(7);
        table.forget_idle();
        own(table.runtime("d", &path("y"))).record_unlimited(1);
        table.forget_idle();
        let departed: Vec<_> = table.departed().iter().map(|(labels, totals)| (labels, totals.total_hits)).collect();
        assert_eq!(departed, [(&Labels::of("d", &["a", "b"]), 5)]);
        table.forget_idle();
        assert_eq!((table.iter().count(), table.departed().len()), (0, 0));
    }

    #[test]
    fn a_rule_keeps_its_counters_over_a_reload_and_loses_them_when_no_rule_set_names_it() {
        let mut table = SeriesTable::new(10);
        let kept = table.rule("d", &["kept"]);
        let gone = table.rule("d", &["gone"]);
        kept.record_unlimited(3);
        gone.record_unlimited(3);

        let reloaded = table.rule("d", &["kept"]);
        drop((kept, gone));
        table.forget_unheld();

        assert_eq!(reloaded.totals().total_hits, 3);
        assert_eq!(table.iter().count(), 1);
        assert_eq!(table.rule("d", &["gone"]).totals().total_hits, 0);
    }

    #[test]
    fn series_beyond_the_bound_go_to_the_other_of_their_domain() {
        let mut table = SeriesTable::new(2);
        let path = |value: &str| [format!("user_{value}"), "m".to_owned()];
        let first = own(table.runtime("d", &path("a")));
        own(table.runtime("d", &path("b")));
        for value in 0..1_000 {
            let RuntimeSeries::Other(other) = table.runtime("d", &path(&value.to_string())) else {
                panic!("a third series was made");
            };
            assert_eq!(*other.labels(), Labels::of("d", &["other"]));
        }
        assert!(Arc::ptr_eq(&first, &own(table.runtime("d", &path("a")))));
        assert_eq!(table.iter().count(), 3);
    }

    #[test]
    fn idle_series_make_room_for_others() {
        let mut table = SeriesTable::new(2);
        own(table.runtime("d", &["a".to_owned()]));
        own(table.runtime("d", &["b".to_owned()]));
        table.forget_idle();
        own(table.runtime("d", &["b".to_owned()]));
        table.forget_idle();
        assert_eq!(table.iter().count(), 1);
        own(table.runtime("d", &["c".to_owned()]));
    }

    #[test]
    fn a_series_that_a_rule_takes_over_no_longer_counts_towards_the_bound() {
        let mut table = SeriesTable::new(1);
        let made = own(table.runtime("d", &["a".to_owned()]));
        assert!(Arc::ptr_eq(&made, &table.rule("d", &["a"])));
        own(table.runtime("d", &["b".to_owned()]));
    }
}
