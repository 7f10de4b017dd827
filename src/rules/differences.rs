//! Where one set of rule files means another thing in the profile of envoyproxy/ratelimit than without it.
//!
//! The files are compiled twice and the two sets compared, so what is told is what holds. A reason that many rules share
//! is told once, with their number and the place of the first.
//!
//! **Keys that collide.** A key of the reference is joined text with gaps that a caller fills. Two rules share a counter
//! where both texts can be made the same, which is looked for gap by gap. Rules of the same keys, level by level, are left
//! out: a request's entries choose one of them, and its own key says which.

use std::fmt;
use std::sync::Arc;

use super::tree::Tree;
use super::{Algorithm, Compatibility, Defaults, Rule, RuleSet};
use crate::window::Charging;

/// Something that is otherwise in the profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// File and line of the first rule that it concerns.
    pub place: Arc<str>,
    /// What is otherwise.
    pub text: String,
}

/// Most rules whose keys are compared with each other: half a million pairs.
const COMPARED_MAX: usize = 1_000;

/// What a key of the reference is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Byte(u8),
    /// Anything that a caller sends, nothing too.
    Gap,
}

/// The keys that a rule can have, without prefix and window.
struct Keys<'r> {
    rule: &'r Rule,
    /// The keys of the levels, for telling rules apart.
    levels: Vec<&'r str>,
    parts: Vec<Part>,
}

/// What differs between the same files without the profile (`own`) and in it.
#[must_use]
pub fn differences(own: &RuleSet, envoyproxy: &RuleSet) -> Vec<Difference> {
    let mut found = Vec::new();
    algorithms(own, envoyproxy, &mut found);
    charging(own, envoyproxy, &mut found);
    let mut keys: Vec<Keys<'_>> = envoyproxy.domains.iter().flat_map(|domain| domain.keys()).collect();
    overrides(&keys, &mut found);
    if keys.len() > COMPARED_MAX {
        let text = format!("only the first {COMPARED_MAX} of {} rules are compared for keys that collide", keys.len());
        found.push(Difference { place: Arc::clone(&keys[0].rule.place), text });
        keys.truncate(COMPARED_MAX);
    }
    collisions(&keys, &mut found);
    found
}

fn algorithms(own: &RuleSet, envoyproxy: &RuleSet, found: &mut Vec<Difference>) {
    for algorithm in Algorithm::ALL {
        let is_other = |(own, theirs): &(&Rule, &Rule)| {
            own.algorithm() == Some(algorithm) && theirs.algorithm().is_some_and(|theirs| theirs != algorithm)
        };
        let rules: Vec<&Rule> =
            own.rules().iter().zip(envoyproxy.rules()).filter(is_other).map(|(own, _)| own).collect();
        if let Some(first) = rules.first() {
            let theirs = Algorithm::FixedWindow.name();
            let text = format!("{} {} and in the profile {theirs}", those(rules.len()), algorithm.name());
            found.push(Difference { place: Arc::clone(&first.place), text });
        }
    }
}

/// `this rule is`, or `3 rules, of which this is the first, are`.
fn those(count: usize) -> String {
    if count == 1 { "this rule is".to_owned() } else { format!("{count} rules, of which this is the first, are") }
}

fn charging(own: &RuleSet, envoyproxy: &RuleSet, found: &mut Vec<Difference>) {
    let differ = own.domains.iter().zip(&envoyproxy.domains).filter(|(own, theirs)| {
        own.charging() == Charging::AllOrNothing && theirs.charging() != Charging::AllOrNothing
    });
    let domains: Vec<(&str, &Rule)> = differ
        .filter_map(|(own, _)| {
            let mut limited = own.limited();
            let first = limited.next()?;
            // With one limit alone the two can't be told apart by what others are charged.
            limited.next().map(|_| (own.name(), first))
        })
        .collect();
    if let Some((name, first)) = domains.first() {
        let others = match domains.len() - 1 {
            0 => String::new(),
            others => format!(" (and of {others} more)"),
        };
        let text = format!(
            "a request that one of several limits of domain {name}{others} refuses is charged to none of them and in the \
             profile to each, refused hits included"
        );
        found.push(Difference { place: Arc::clone(&first.place), text });
    }
}

fn overrides(keys: &[Keys<'_>], found: &mut Vec<Difference>) {
    if let Some(first) = keys.first() {
        let (noun, verb) = if keys.len() == 1 { ("this rule", "counts") } else { ("rules such as this", "count") };
        let text = format!(
            "{noun} {verb} in the profile together with limits that requests bring along for the same entries (K4), and \
             with limits of other units while their windows begin together (K3): {} in all",
            keys.len()
        );
        found.push(Difference { place: Arc::clone(&first.rule.place), text });
    }
}

fn collisions(keys: &[Keys<'_>], found: &mut Vec<Difference>) {
    let mut kinds: [(usize, Option<(&Rule, &Rule)>); 2] = [(0, None); 2];
    for (index, one) in keys.iter().enumerate() {
        for other in &keys[index + 1..] {
            let same_domain = one.rule.domain == other.rule.domain;
            if (same_domain && one.levels == other.levels) || !can_meet(&one.parts, &other.parts) {
                continue;
            }
            let (count, first) = &mut kinds[usize::from(!same_domain)];
            *count += 1;
            first.get_or_insert((one.rule, other.rule));
        }
    }
    for ((count, first), kind) in kinds.into_iter().zip(["K1", "K2"]) {
        let Some((one, other)) = first else { continue };
        let others = if count == 1 { String::new() } else { format!("; so can {count} pairs of rules in all") };
        let text = format!(
            "{} and {} ({}) can be made to share a counter in the profile ({kind}){others}",
            one.full_key(),
            other.full_key(),
            other.place
        );
        found.push(Difference { place: Arc::clone(&one.place), text });
    }
}

/// Whether two texts with gaps can be filled so that they are the same.
fn can_meet(one: &[Part], other: &[Part]) -> bool {
    // `reached[j]`: what was read of `one` can be the same as the first `j` parts of `other`.
    let mut reached = vec![false; other.len() + 1];
    reached[0] = true;
    for (at, part) in other.iter().enumerate() {
        reached[at + 1] = reached[at] && *part == Part::Gap;
    }
    for mine in one {
        let before = reached.clone();
        reached[0] = before[0] && *mine == Part::Gap;
        for (at, theirs) in other.iter().enumerate() {
            reached[at + 1] = match (mine, theirs) {
                (Part::Byte(mine), Part::Byte(theirs)) => mine == theirs && before[at],
                // A gap takes nothing, or one part more of the other.
                (Part::Gap, Part::Byte(_)) => before[at + 1] || reached[at],
                (Part::Byte(_), Part::Gap) => reached[at] || before[at + 1],
                (Part::Gap, Part::Gap) => before[at + 1] || reached[at],
            };
        }
        if !reached.contains(&true) {
            return false;
        }
    }
    reached[other.len()]
}

// === impl RuleSet ===

impl super::DomainRules {
    fn limited(&self) -> impl Iterator<Item = &Rule> {
        self.rules().iter().filter(|rule| rule.domain.as_ref() == self.name() && rule.is_limited())
    }

    /// The keys of the rules that count under those of the reference.
    fn keys(&self) -> impl Iterator<Item = Keys<'_>> {
        self.tree().with_rules().filter_map(|(node, rule)| {
            let rule = &self.rules()[rule];
            rule.is_shared().then(|| Keys::of(rule, self.tree(), node))
        })
    }
}

// === impl Keys ===

impl<'r> Keys<'r> {
    fn of(rule: &'r Rule, tree: &'r Tree, node: super::tree::NodeId) -> Keys<'r> {
        let mut keys = Keys { rule, levels: Vec::new(), parts: Vec::new() };
        keys.text(&rule.domain);
        for node in tree.path(node) {
            let node = tree.node(node);
            keys.levels.push(node.key());
            keys.parts.push(Part::Byte(b'_'));
            let stars = node.is_wildcard() && !node.is_shared();
            for byte in node.composite().bytes() {
                keys.parts.push(if stars && byte == b'*' { Part::Gap } else { Part::Byte(byte) });
            }
            if node.value().is_none() {
                keys.parts.extend([Part::Byte(b'_'), Part::Gap]);
            }
        }
        keys.parts.push(Part::Byte(b'_'));
        keys
    }

    fn text(&mut self, text: &str) {
        self.parts.extend(text.bytes().map(Part::Byte));
    }
}

// === impl Defaults ===

impl Defaults {
    /// The same defaults without a profile and with one: algorithm, charging and whose counters they are change together.
    #[must_use]
    pub fn in_profile(&self, compatibility: Compatibility) -> Defaults {
        match compatibility {
            _ if self.compatibility == compatibility => *self,
            Compatibility::Off => Defaults { precision: self.precision, ..Defaults::default() },
            Compatibility::Envoyproxy => Defaults {
                algorithm: Algorithm::FixedWindow,
                charging: Charging::Each,
                compatibility,
                precision: self.precision,
            },
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Options, SourceFile, load};
    use super::*;

    fn told(files: &[&str]) -> Vec<String> {
        let files = files.iter().enumerate();
        let files: Vec<SourceFile> =
            files.map(|(index, text)| SourceFile { name: format!("{index}.yaml"), text: (*text).to_owned() }).collect();
        let set = |compatibility| {
            let defaults = Defaults::default().in_profile(compatibility);
            load(&files, &Options { defaults, merge_domains: false }).unwrap().0
        };
        let found = differences(&set(Compatibility::Off), &set(Compatibility::Envoyproxy));
        found.iter().map(ToString::to_string).collect()
    }

    fn of_collisions(files: &[&str]) -> Vec<String> {
        let is_one = |text: &String| text.contains("(K1)") || text.contains("(K2)");
        told(files).into_iter().filter(is_one).collect()
    }

    #[test]
    fn a_reason_that_many_rules_share_is_told_once() {
        let rules = "domain: shop\ndescriptors:\n\
                     - {key: user, rate_limit: {unit: hour, requests_per_unit: 3}}\n\
                     - {key: ip, rate_limit: {unit: hour, requests_per_unit: 3}}\n\
                     - {key: host, rate_limit: {unit: hour, requests_per_unit: 3, algorithm: token_bucket}}\n";
        assert_eq!(
            told(&[rules]),
            [
                "0.yaml:3: 2 rules, of which this is the first, are sliding_window and in the profile fixed_window",
                "0.yaml:3: a request that one of several limits of domain shop refuses is charged to none of them and in \
                 the profile to each, refused hits included",
                "0.yaml:3: rules such as this count in the profile together with limits that requests bring along for the \
                 same entries (K4), and with limits of other units while their windows begin together (K3): 2 in all",
            ]
        );
    }

    #[test]
    fn files_that_say_everything_themselves_differ_in_nothing() {
        let rules = "domain: shop\ncharging: each\ndescriptors:\n\
                     - {key: user, rate_limit: {unit: hour, requests_per_unit: 3, algorithm: sliding_window}}\n\
                     - {key: free, rate_limit: {unlimited: true}}\n";
        assert_eq!(told(&[rules]), Vec::<String>::new());
        assert_eq!(told(&["domain: empty"]), Vec::<String>::new());
    }

    #[test]
    fn keys_that_can_be_made_the_same_are_named_in_pairs() {
        let limit = "rate_limit: {unit: hour, requests_per_unit: 3}";
        let k1 =
            format!("domain: d\ndescriptors:\n- {{key: a, {limit}}}\n- {{key: a_b, {limit}}}\n- {{key: c, {limit}}}\n");
        let told = of_collisions(&[&k1]);
        assert_eq!(told, ["0.yaml:3: d.a and d.a_b (0.yaml:4) can be made to share a counter in the profile (K1)"]);
        let below = format!("domain: d\ndescriptors:\n- {{key: a, {limit}, descriptors: [{{key: c, {limit}}}]}}\n");
        assert_eq!(of_collisions(&[&below]).len(), 1, "(a, b_c_d) and (a, b)(c, d)");
        let k2 = [
            format!("domain: d\ndescriptors: [{{key: x, {limit}}}]"),
            format!("domain: d_x\ndescriptors: [{{key: y, {limit}}}]"),
        ];
        let told = of_collisions(&[&k2[0], &k2[1]]);
        assert!(told[0].starts_with("0.yaml:2: d.x and d_x.y (1.yaml:2)") && told[0].contains("(K2)"), "{told:?}");
    }

    #[test]
    fn keys_that_can_never_be_the_same_are_not_named() {
        let limit = "rate_limit: {unit: hour, requests_per_unit: 3}";
        let valued = format!(
            "domain: d\ndescriptors:\n- {{key: a, value: x, {limit}}}\n- {{key: b, value: y, {limit}}}\n\
             - {{key: user, {limit}}}\n- {{key: user, value: vip, {limit}}}\n- {{key: user, value: 'v*', {limit}}}\n\
             - {{key: path, value: '/v1/*', share_threshold: true, {limit}}}\n"
        );
        assert_eq!(of_collisions(&[&valued]), Vec::<String>::new());
    }
}
