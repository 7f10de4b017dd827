//! What is limited: rule files, compiled into one immutable [`RuleSet`].
//!
//! The language is the reference service's (envoyproxy/ratelimit), which loads unchanged, and a few words on top;
//! `config/rules.yaml` shows all of it, and `config/adaptive.yaml` what is said of services whose limits adapt
//! ([`service`]). On the way from files to rules each step has one file and one job:
//!
//! ```text
//! source   files and directories  -> texts           the only I/O
//! yaml     text                   -> located tree    every value knows its line
//! bind     tree                   -> file (raw)      words and types: V2 to V6 of the reference's rejections
//! compile  raw files              -> RuleSet         what the words mean together: V7 to V16, and ours
//! ```
//!
//! (`resource` makes raw files of messages that came over the network)
//!
//! and a request's descriptor is matched by two indexes, each in a time that doesn't follow the number of rules:
//! `tree` (with `wildcard`) the way the reference does, `subset` for rules that ask for some entries only.
//! Nothing is built while matching but the counter's key.

mod bind;
mod compile;
mod counter;
mod differences;
mod error;
mod file;
mod identity;
mod joined;
mod limit;
mod load;
mod metric;
mod names;
mod resource;
pub(crate) mod scalar;
pub mod service;
mod set;
mod source;
mod subset;
mod tree;
mod value;
mod wildcard;
mod words;
pub(crate) mod yaml;

#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use differences::{Difference, differences};
pub use error::{AllErrors, FINDINGS_KEPT_MAX, FINDINGS_MAX, Finding, Place, RuleErrors, Warning};
pub use identity::RuleId;
pub use load::{Options, SourceFile, load};
pub use metric::sanitised;
pub use resource::{Resource, ResourceDescriptor, ResourceLimit, load_resources};
pub use set::{DomainRules, Found, RuleSet};
pub use source::{Sources, read_sources};

use crate::limit::Limit;
use crate::window::{Charging, Policy, Precision};

/// The algorithm a rule asks for by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// `sliding_window`: strict over any interval of the window's length.
    #[default]
    SlidingWindow,
    /// `fixed_window`: the reference service's windows, aligned to the epoch.
    FixedWindow,
    /// `token_bucket`: a steady rate with a burst.
    TokenBucket,
}

/// Whose counters fixed windows of the tree are, and of limits that requests bring along.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compatibility {
    /// Ours: each rule has its own, whatever callers send.
    #[default]
    Off,
    /// Those of envoyproxy/ratelimit, under its keys: a Redis can be shared with it.
    Envoyproxy,
}

/// What applies where a file or a rule says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Defaults {
    /// The algorithm of rules that name none, and of limits that requests bring along.
    pub algorithm: Algorithm,
    /// Ticks per window of sliding windows.
    pub precision: Precision,
    /// Whether a refused request is charged to none of its counters.
    pub charging: Charging,
    /// Whose counters fixed windows are.
    pub compatibility: Compatibility,
}

/// One compiled rule: a descriptor or subset of a file that carries a `rate_limit`.
///
/// What every decision reads comes first and takes two lines of a processor's cache: where rules are many, a decision
/// waits for each line that it touches.
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub struct Rule {
    /// Position in the rule set, 0 .. `RuleSet::rules().len()`: per-rule state kept elsewhere is indexed by it.
    pub index: usize,
    /// Identity of its counters. It outlives edits; the index does not.
    pub id: RuleId,
    /// What it does.
    pub action: Action,
    /// Echoed in the answer, and what `replaces` of other rules refers to.
    pub name: Option<Arc<str>>,
    /// How it is found, and what of the request its metrics name.
    form: RuleForm,
    /// The domain it belongs to.
    pub domain: Arc<str>,
    /// The composite keys on the path, without the domain: `["path_/v1/*", "m"]`; what logs call the rule.
    pub path: Box<[Box<str>]>,
    /// The same as metrics write it. Where the match says otherwise ([`Found::metric_path`]), that holds.
    pub metric_path: Box<[Box<str>]>,
    /// Names of the rules that don't count for a request that this one applies to.
    pub replaces: Box<[Arc<str>]>,
    /// Echoed in dynamic metadata.
    pub metadata: Option<serde_json::Map<String, serde_json::Value>>,
    /// File and line where it stands, for explanations.
    pub place: Arc<str>,
}

const _: () = assert!(std::mem::offset_of!(Rule, domain) <= 128, "what every decision reads takes two lines");

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Match, never count.
    Unlimited,
    /// Count.
    Limited {
        /// How many in how long.
        limit: Limit,
        /// How they are counted; holds the limit too.
        policy: Policy,
        /// Whether being over changes nothing for the caller.
        shadow_mode: bool,
        /// Whether being over refuses only if all such rules of the request are over.
        quota_mode: bool,
    },
}

/// What [`Rule`] keeps for matching.
#[derive(Clone, Debug)]
struct RuleForm {
    /// Whether all requests that it applies to are charged to one counter.
    total: bool,
    /// `detailed_metric`.
    detailed: bool,
    /// Whether its metric path has values of the request in it.
    runtime_metric: bool,
    /// For subset rules, the entries in the order of the file.
    subset: Option<Box<SubsetForm>>,
}

#[derive(Clone, Debug)]
struct SubsetForm {
    /// The keys without a value, ordered by name.
    open: Box<[Box<str>]>,
    /// Keys and whether they have a value, in the order of the file.
    entries: Box<[(Box<str>, bool)]>,
    value_to_metric: bool,
}

// === impl Algorithm ===

impl Algorithm {
    /// All algorithms.
    pub const ALL: [Algorithm; 3] = [Algorithm::SlidingWindow, Algorithm::FixedWindow, Algorithm::TokenBucket];

    /// Its name in rule files.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Algorithm::SlidingWindow => "sliding_window",
            Algorithm::FixedWindow => "fixed_window",
            Algorithm::TokenBucket => "token_bucket",
        }
    }

    /// The algorithm of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Algorithm> {
        Algorithm::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// The algorithm of a policy.
    #[must_use]
    pub fn of(policy: &Policy) -> Algorithm {
        match policy {
            Policy::SlidingWindow(_) => Algorithm::SlidingWindow,
            Policy::FixedWindow(_) | Policy::ReferenceWindow(_) => Algorithm::FixedWindow,
            Policy::TokenBucket(_) | Policy::Gate(_) => Algorithm::TokenBucket,
        }
    }
}

// === impl Defaults ===

impl Default for Defaults {
    /// Strict sliding windows, all or nothing.
    fn default() -> Defaults {
        Defaults {
            algorithm: Algorithm::default(),
            precision: Precision::DEFAULT,
            charging: Charging::default(),
            compatibility: Compatibility::default(),
        }
    }
}
