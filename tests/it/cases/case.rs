//! A case as its file states it: rules, settings, and calls with the answers that they must get.
//!
//! ```yaml
//! settings: {algorithm: fixed_window, charging: each}   # for all cases of the file
//! rules: |                                               # for those that bring none
//!   domain: shop
//! cases:
//!   - id: D01
//!     claim: a sentence that holds if the answers do
//!     deviation: why the reference service answers otherwise, where it does
//!     clock: manual          # needs a clock that stands still: run over the memory store only
//!     at: 1790000000         # the clock at the start, in seconds
//!     calls:
//!       - 'shop: (user=a) -> OK[OK 3 2]'
//!       - {advance: 1500ms, times: 2, call: 'shop: (user=a) -> OVER[OVER 3 0]'}
//!       - {reload: 'domain: other', rejected: part of the error text}
//!     metrics: {total_hits shop user: 3}
//!     envoyproxy:            # what is otherwise with `compatibility: envoyproxy`: its own calls, metrics, deviation
//!       deviation: a section of the specification, and why we differ even there
//!       keys: {'shop_user_a_<hour>': 4}
//! ```
//!
//! **Two profiles.** A file says in which of `own` and `envoyproxy` its cases run (`profiles`, `[own]` by default), and a
//! case may say another list. In `envoyproxy` what stands under that word takes the place of its namesake, and a
//! deviation must say which section of the specification it is about; a case that has an `envoyproxy` without one
//! answers there as the reference does. What is ours alone in dynamic metadata (`/tidegate/…`) is absent there.
//! `keys` are Redis's at the end, without the prefix: the number, `4 ttl 60..359` or `none`; `<hour>` stands for the
//! start of the hour, as do the other units. `stored` are those that are there at the start, `4 ttl 60`.
//!
//! The shorthand of calls and answers is [`super::shorthand`]'s. What a call does not state must be absent: headers,
//! dynamic metadata, the name of a limit.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value as Json;

use super::shorthand::Exchange;

/// The clock at the start of a case that says nothing: no multiple of any unit, and the same as in the specification
/// of `duration_until_reset`.
const AT_SECONDS: u64 = 1_790_000_000;

/// One file of cases.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CaseFile {
    #[serde(default)]
    settings: Settings,
    #[serde(default = "own")]
    profiles: Vec<Profile>,
    rules: Option<Rules>,
    cases: Vec<Case>,
}

/// One case.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    pub(super) id: String,
    pub(super) claim: String,
    /// Why the answers differ from the reference service's.
    pub(super) deviation: Option<String>,
    #[serde(default)]
    pub(super) settings: Settings,
    /// The rules at the start; without any, none are ever loaded.
    pub(super) rules: Option<Rules>,
    #[serde(default)]
    pub(super) clock: CaseClock,
    /// The manual clock at the start, in seconds.
    pub(super) at: Option<u64>,
    pub(super) calls: Vec<Step>,
    /// What the exposition says at the end: a series, and its value; a series that is not shown has 0.
    #[serde(default)]
    pub(super) metrics: BTreeMap<String, u64>,
    /// In which profiles it runs; empty for the file's.
    #[serde(default)]
    profiles: Vec<Profile>,
    /// What is otherwise in the profile of that name.
    envoyproxy: Option<Otherwise>,
    /// What Redis holds at the start, likewise; the case is for Redis alone then.
    #[serde(default)]
    pub(super) stored: BTreeMap<String, Text>,
    /// What Redis holds at the end, by key without its prefix.
    #[serde(skip)]
    pub(super) keys: BTreeMap<String, Text>,
}

/// Whose semantics a case runs by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Profile {
    Own,
    Envoyproxy,
}

/// What of a case is otherwise in a profile.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Otherwise {
    claim: Option<String>,
    deviation: Option<String>,
    calls: Option<Vec<Step>>,
    metrics: Option<BTreeMap<String, u64>>,
    keys: BTreeMap<String, Text>,
}

/// A scalar as it is written.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "Json")]
pub(super) struct Text(pub(super) String);

/// Which clock a case can live with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum CaseClock {
    /// Any: the case's windows are an hour or longer and it states no times.
    #[default]
    Any,
    /// One that stands still, which Redis's own does not.
    Manual,
}

/// One rule file, or several.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Rules {
    One(String),
    Several(Vec<String>),
}

/// What a process is started with. Each field falls back to the file's, then to our default.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Settings {
    pub(super) algorithm: Option<String>,
    pub(super) charging: Option<String>,
    pub(super) precision: Option<u32>,
    pub(super) merge_domains: Option<bool>,
    pub(super) shadow_mode: Option<bool>,
    pub(super) quota_mode: Option<bool>,
    /// The names of the three response headers.
    pub(super) headers: Option<[String; 3]>,
    pub(super) dynamic_metadata: Option<bool>,
    pub(super) near_limit_ratio: Option<f32>,
    /// Seconds; only with `compatibility: envoyproxy`, as is the next.
    pub(super) expiry_jitter: Option<u32>,
    pub(super) stop_increment_when_over: Option<bool>,
    /// Bytes in which Redis's counters that are over are remembered.
    pub(super) over_limit_memory: Option<usize>,
}

/// One step of a case: a call, or a reload of the rules.
#[derive(Clone, Debug, Deserialize)]
#[serde(from = "RawStep")]
pub(super) struct Step {
    /// Time that passes before it.
    pub(super) advance: Duration,
    pub(super) times: usize,
    pub(super) action: Action,
}

#[derive(Clone, Debug)]
pub(super) enum Action {
    Call {
        /// The shorthand as it stands in the file.
        text: String,
        exchange: Box<Exchange>,
        /// `name value` of each header, `*` for any value.
        headers: Vec<String>,
        /// JSON pointers into the dynamic metadata, and what is there; null where nothing is. An empty map: no
        /// metadata at all.
        metadata: BTreeMap<String, Json>,
    },
    Reload {
        rules: Rules,
        /// Texts of which each must be part of the errors; without any, the rules must load.
        rejected: Vec<String>,
    },
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawStep {
    Short(String),
    Full(Box<FullStep>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FullStep {
    advance: Option<String>,
    #[serde(default = "once")]
    times: usize,
    call: Option<String>,
    #[serde(default)]
    headers: Vec<String>,
    #[serde(default)]
    metadata: BTreeMap<String, Json>,
    reload: Option<Rules>,
    rejected: Option<Rules>,
}

/// Reads every case of every `.yaml` file in `folder`, in name order.
pub(super) fn read(folder: &Path) -> Vec<Case> {
    let entries = folder.read_dir().unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("the folder was readable").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    paths.sort();
    let cases = paths.iter().flat_map(|path| {
        let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        parse(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    });
    cases.collect()
}

/// Reads the cases of one file.
pub(super) fn parse(text: &str) -> Result<Vec<Case>, serde_yaml::Error> {
    let CaseFile { settings, profiles, rules, cases } = serde_yaml::from_str(text)?;
    let complete = |case: Case| Case {
        settings: case.settings.over(settings.clone()),
        rules: case.rules.or_else(|| rules.clone()),
        profiles: if case.profiles.is_empty() { profiles.clone() } else { case.profiles },
        ..case
    };
    Ok(cases.into_iter().map(complete).inspect(Case::check).collect())
}

fn once() -> usize {
    1
}

fn own() -> Vec<Profile> {
    vec![Profile::Own]
}

/// `1500ms`, `10s` or `2h`.
fn duration(text: &str) -> Duration {
    let number_end = text.find(|symbol: char| !symbol.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(number_end);
    let number: u64 = number.parse().unwrap_or_else(|error| panic!("advance '{text}': {error}"));
    match unit {
        "ms" => Duration::from_millis(number),
        "s" => Duration::from_secs(number),
        "h" => Duration::from_secs(number * 3_600),
        _ => panic!("advance '{text}' ends with none of ms, s, h"),
    }
}

// === impl Case ===

impl Case {
    /// The manual clock at the start, in seconds.
    pub(super) fn starts_at(&self) -> u64 {
        self.at.unwrap_or(AT_SECONDS)
    }

    /// The case as it runs in a profile, if it does.
    pub(super) fn in_profile(&self, profile: Profile) -> Option<Case> {
        let mut case = Some(self.clone()).filter(|case| case.profiles.contains(&profile))?;
        if profile == Profile::Envoyproxy {
            for step in &mut case.calls {
                step.leave_out_what_is_ours();
            }
            if let Some(otherwise) = case.envoyproxy.take() {
                case.claim = otherwise.claim.unwrap_or(case.claim);
                case.deviation = otherwise.deviation;
                case.calls = otherwise.calls.unwrap_or(case.calls);
                case.metrics = otherwise.metrics.unwrap_or(case.metrics);
                case.keys = otherwise.keys;
            }
        }
        Some(case)
    }

    /// A case that states times can't be run where time passes by itself.
    fn check(&self) {
        let times_stated = self.calls.iter().any(Step::states_a_time) || self.at.is_some();
        let is_manual = self.clock == CaseClock::Manual;
        assert!(is_manual || !times_stated, "{}: it states a time and so needs `clock: manual`", self.id);
        assert!(!self.claim.is_empty() && !self.calls.is_empty(), "{}: it claims or does nothing", self.id);
    }
}

// === impl Text ===

impl From<Json> for Text {
    fn from(json: Json) -> Text {
        Text(json.as_str().map_or_else(|| json.to_string(), str::to_owned))
    }
}

// === impl Settings ===

impl Settings {
    fn over(self, base: Settings) -> Settings {
        Settings {
            algorithm: self.algorithm.or(base.algorithm),
            charging: self.charging.or(base.charging),
            precision: self.precision.or(base.precision),
            merge_domains: self.merge_domains.or(base.merge_domains),
            shadow_mode: self.shadow_mode.or(base.shadow_mode),
            quota_mode: self.quota_mode.or(base.quota_mode),
            headers: self.headers.or(base.headers),
            dynamic_metadata: self.dynamic_metadata.or(base.dynamic_metadata),
            near_limit_ratio: self.near_limit_ratio.or(base.near_limit_ratio),
            expiry_jitter: self.expiry_jitter.or(base.expiry_jitter),
            over_limit_memory: self.over_limit_memory.or(base.over_limit_memory),
            stop_increment_when_over: self.stop_increment_when_over.or(base.stop_increment_when_over),
        }
    }
}

// === impl Rules ===

impl Rules {
    pub(super) fn texts(&self) -> &[String] {
        match self {
            Rules::One(text) => std::slice::from_ref(text),
            Rules::Several(texts) => texts,
        }
    }
}

// === impl Step ===

impl Step {
    fn leave_out_what_is_ours(&mut self) {
        if let Action::Call { metadata, .. } = &mut self.action {
            metadata.retain(|pointer, _| !pointer.starts_with("/tidegate"));
        }
    }

    fn states_a_time(&self) -> bool {
        let in_action = match &self.action {
            Action::Call { exchange, headers, .. } => {
                let in_headers = headers.iter().any(|header| header.contains("Reset") && !header.ends_with(" *"));
                in_headers || exchange.states_a_reset()
            }
            Action::Reload { .. } => false,
        };
        in_action || !self.advance.is_zero()
    }
}

impl From<RawStep> for Step {
    fn from(raw: RawStep) -> Step {
        let full = match raw {
            RawStep::Short(call) => FullStep {
                advance: None,
                times: 1,
                call: Some(call),
                headers: Vec::new(),
                metadata: BTreeMap::new(),
                reload: None,
                rejected: None,
            },
            RawStep::Full(full) => *full,
        };
        let action = match (full.call, full.reload) {
            (Some(text), None) => {
                let exchange = Box::new(Exchange::parse(&text));
                Action::Call { text, exchange, headers: full.headers, metadata: full.metadata }
            }
            (None, Some(rules)) => {
                let rejected = full.rejected.as_ref().map(|texts| texts.texts().to_vec()).unwrap_or_default();
                Action::Reload { rules, rejected }
            }
            _ => panic!("a step is either a call or a reload"),
        };
        Step { advance: full.advance.as_deref().map(duration).unwrap_or_default(), times: full.times, action }
    }
}
