//! The words of a rule file, and at which level each has its meaning.
//!
//! The reference service checks words against one flat set: a known word at a wrong level is accepted and does
//! nothing. Such files must load here too, so that is a warning. Words that only we know are new to every file, so a
//! wrong level is a mistake.

use Level::{
    BasicAuth, Bounds, Descriptor, Governed, Prometheus, Queries, RateLimit, Replaces, Root, Service, Signals, Stale,
    Subset, SubsetEntry, Targets,
};

/// A kind of map in a rule file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    /// The whole file.
    Root,
    /// An element of `descriptors`.
    Descriptor,
    /// The value of `rate_limit`.
    RateLimit,
    /// An element of `replaces`.
    Replaces,
    /// An element of `subsets`.
    Subset,
    /// An element of a subset's `entries`.
    SubsetEntry,
    /// The value of `prometheus`.
    Prometheus,
    /// The value of `basic_auth`.
    BasicAuth,
    /// An element of `services`.
    Service,
    /// An element of a service's `governs`.
    Governed,
    /// The value of a service's `bounds`.
    Bounds,
    /// The value of a service's `targets`.
    Targets,
    /// The value of a service's `stale`.
    Stale,
    /// The value of a service's `signals`.
    Signals,
    /// The value of `queries` in `signals`.
    Queries,
}

/// A word that rule files may hold.
#[derive(Debug)]
pub(super) struct Word {
    pub(super) name: &'static str,
    /// Where it has a meaning.
    pub(super) levels: &'static [Level],
    /// Whether the reference service knows it.
    pub(super) of_reference: bool,
}

const WORDS: &[Word] = &[
    reference("domain", &[Root, Governed]),
    reference("descriptors", &[Root, Descriptor]),
    reference("key", &[Descriptor, SubsetEntry]),
    reference("value", &[Descriptor, SubsetEntry]),
    reference("rate_limit", &[Descriptor, Subset]),
    reference("shadow_mode", &[Descriptor, Subset]),
    reference("quota_mode", &[Descriptor, Subset]),
    reference("detailed_metric", &[Descriptor, Subset]),
    reference("value_to_metric", &[Descriptor, Subset]),
    reference("share_threshold", &[Descriptor]),
    reference("metadata", &[Descriptor, Subset]),
    reference("unit", &[RateLimit, Signals]),
    reference("requests_per_unit", &[RateLimit]),
    reference("unlimited", &[RateLimit]),
    reference("name", &[RateLimit, Replaces, Service]),
    reference("replaces", &[RateLimit]),
    extension("algorithm", &[Root, RateLimit]),
    extension("precision", &[Root, RateLimit]),
    extension("charging", &[Root]),
    extension("subsets", &[Root]),
    extension("entries", &[Subset]),
    extension("window", &[RateLimit]),
    extension("unit_multiplier", &[RateLimit]),
    extension("burst", &[RateLimit]),
    extension("prometheus", &[Root]),
    extension("url", &[Prometheus]),
    extension("timeout", &[Prometheus]),
    extension("bearer_token", &[Prometheus]),
    extension("bearer_token_file", &[Prometheus]),
    extension("basic_auth", &[Prometheus]),
    extension("user", &[BasicAuth]),
    extension("password", &[BasicAuth]),
    extension("password_file", &[BasicAuth]),
    extension("ca_file", &[Prometheus]),
    extension("services", &[Root]),
    extension("mode", &[Service]),
    extension("governs", &[Service]),
    extension("descriptor", &[Governed]),
    extension("gate", &[Service]),
    extension("bounds", &[Service]),
    extension("min", &[Bounds]),
    extension("max", &[Bounds]),
    extension("start", &[Service]),
    extension("targets", &[Service]),
    extension("errors", &[Targets]),
    extension("latency", &[Targets]),
    extension("signals", &[Service]),
    extension("preset", &[Signals]),
    extension("cluster", &[Signals]),
    extension("limited_status", &[Signals]),
    extension("failure_mode_deny", &[Signals]),
    extension("flush", &[Signals]),
    extension("service", &[Signals]),
    extension("namespace", &[Signals]),
    extension("reporter", &[Signals]),
    extension("metric", &[Signals]),
    extension("match", &[Signals]),
    extension("error_match", &[Signals]),
    extension("queries", &[Signals]),
    extension("answered", &[Queries]),
    extension("failed", &[Queries]),
    extension("slow", &[Queries]),
    extension("latency_sum", &[Queries]),
    extension("interval", &[Service]),
    extension("scrape_interval", &[Service]),
    extension("propagation", &[Service]),
    extension("stale", &[Service]),
    extension("hold", &[Stale]),
    extension("decay", &[Stale]),
    extension("toward", &[Stale]),
    extension("brittle", &[Service]),
    extension("scale_rules", &[Service]),
    extension("law", &[Service]),
];

const fn reference(name: &'static str, levels: &'static [Level]) -> Word {
    Word { name, levels, of_reference: true }
}

const fn extension(name: &'static str, levels: &'static [Level]) -> Word {
    Word { name, levels, of_reference: false }
}

/// How alike two words must be for one to be offered for the other: 1 is the same, 0 nothing in common.
const ALIKE_MIN: f64 = 0.75;

/// The word of that name, as who writes at `level` may mean it: among rules the words of services are none.
pub(super) fn find_at(name: &str, level: Level) -> Option<&'static Word> {
    let is_meant = |word: &&Word| level.is_of_services() || !word.levels.iter().all(|level| level.is_of_services());
    find(name).filter(is_meant)
}

/// The word of that name.
pub(super) fn find(name: &str) -> Option<&'static Word> {
    WORDS.iter().find(|word| word.name == name)
}

/// What stands for `name`, which is no word, at `level`: the word that was probably meant, if one is like it, and the
/// end of a sentence. Only words that may stand there are offered.
pub(super) fn meant(name: &str, level: Level) -> (Option<&'static str>, String) {
    let here: Vec<&str> = WORDS.iter().filter(|word| word.levels.contains(&level)).map(|word| word.name).collect();
    let nearest = nearest(name, &here);
    let sentence = match nearest {
        Some(nearest) => format!("did you mean '{nearest}'?"),
        None => format!("{} knows {}", level.name(), here.join(", ")),
    };
    (nearest, sentence)
}

/// The one of `names` that is most like `name`, if any is like it.
pub(super) fn nearest<'n>(name: &str, names: &[&'n str]) -> Option<&'n str> {
    // Comparing takes time in the product of the lengths, and a word far longer than all of ours is like none.
    if name.len() > 64 {
        return None;
    }
    let name = name.to_lowercase();
    // In a short word a single slip leaves little in common.
    let slip = |other: &str| name.chars().count() > 1 && strsim::osa_distance(&name, other) == 1;
    let likeness = |other: &str| strsim::jaro_winkler(&name, other).max(if slip(other) { ALIKE_MIN } else { 0.0 });
    let compared = names.iter().map(|other| (likeness(other), *other));
    let (likeness, nearest) = compared.max_by(|a, b| a.0.total_cmp(&b.0))?;
    (likeness >= ALIKE_MIN).then_some(nearest)
}

// === impl Word ===

impl Word {
    /// Where the word belongs, as the end of a sentence.
    pub(super) fn home(&self) -> String {
        let homes: Vec<&str> = self.levels.iter().map(|level| level.name()).collect();
        homes.join(" or ")
    }
}

// === impl Level ===

impl Level {
    /// The level as it is called in a sentence.
    pub(super) fn name(self) -> &'static str {
        match self {
            Level::Root => "the root of a file",
            Level::Descriptor => "a descriptor",
            Level::RateLimit => "rate_limit",
            Level::Replaces => "an element of replaces",
            Level::Subset => "a subset",
            Level::SubsetEntry => "an entry of a subset",
            Level::Prometheus => "prometheus",
            Level::BasicAuth => "basic_auth",
            Level::Service => "a service",
            Level::Governed => "an element of governs",
            Level::Bounds => "bounds",
            Level::Targets => "targets",
            Level::Stale => "stale",
            Level::Signals => "signals",
            Level::Queries => "queries",
        }
    }

    /// Whether the level is one of services, of which rules know nothing.
    fn is_of_services(self) -> bool {
        match self {
            Root | Descriptor | RateLimit | Replaces | Subset | SubsetEntry => false,
            Prometheus | BasicAuth | Service | Governed | Bounds | Targets | Stale | Signals | Queries => true,
        }
    }

    /// Whether the level exists in our language only, where nothing needs to be forgiven.
    pub(super) fn is_extension(self) -> bool {
        !matches!(self, Level::Root | Level::Descriptor | Level::RateLimit | Level::Replaces)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_of_the_level_is_offered() {
        let meant = |name, level| meant(name, level).1;
        assert_eq!(meant("ratelimit", Level::Descriptor), "did you mean 'rate_limit'?");
        assert_eq!(meant("request_per_unit", Level::RateLimit), "did you mean 'requests_per_unit'?");
        assert_eq!(meant("qqq", Level::Replaces), "an element of replaces knows name");
    }

    #[test]
    fn a_word_of_another_level_is_not_offered() {
        assert!(meant("notakey", Level::Descriptor).1.starts_with("a descriptor knows descriptors, key, value"));
        for name in ["burts", "entrys", "domian", "subset"] {
            let (nearest, _) = meant(name, Level::Replaces);
            assert_eq!(nearest, None, "{name}");
        }
    }
}
