//! Matching against the definition, for made-up rules and requests; and what a match costs.

use std::collections::HashMap;

use proptest::prelude::*;

use super::super::joined::Probe;
use super::*;

/// A descriptor of a made-up file.
#[derive(Clone, Debug)]
struct Made {
    key: String,
    value: String,
    limited: bool,
    share: bool,
    below: Vec<Made>,
}

impl Made {
    fn composite(&self) -> String {
        if self.value.is_empty() { self.key.clone() } else { format!("{}_{}", self.key, self.value) }
    }

    fn yaml(&self, indent: usize, out: &mut String) {
        let pad = " ".repeat(indent);
        out.push_str(&format!("{pad}- key: '{}'\n{pad}  value: '{}'\n", self.key, self.value));
        if self.share && self.composite().contains('*') {
            out.push_str(&format!("{pad}  share_threshold: true\n"));
        }
        if self.limited {
            out.push_str(&format!("{pad}  rate_limit: {{unit: hour, requests_per_unit: 1}}\n"));
        }
        if !self.below.is_empty() {
            out.push_str(&format!("{pad}  descriptors:\n"));
            self.below.iter().for_each(|made| made.yaml(indent + 2, out));
        }
    }
}

/// Siblings of one composite are left out: files may not have them.
fn siblings(made: Vec<Made>) -> Vec<Made> {
    let mut seen = std::collections::HashSet::new();
    made.into_iter().filter(|made| seen.insert(made.composite())).collect()
}

fn made_rules() -> impl Strategy<Value = Vec<Made>> {
    let node = |below: BoxedStrategy<Vec<Made>>| {
        ("[ab*]{1,2}|a_b", "[ab*_]{0,2}", any::<bool>(), any::<bool>(), below)
            .prop_map(|(key, value, limited, share, below)| Made { key, value, limited, share, below })
    };
    let leaves = prop::collection::vec(node(Just(Vec::new()).boxed()), 0..4).prop_map(siblings).boxed();
    let middle = prop::collection::vec(node(leaves), 0..4).prop_map(siblings).boxed();
    prop::collection::vec(node(middle), 1..6).prop_map(siblings)
}

fn made_file(made: &[Made]) -> String {
    let mut text = "domain: d\ndescriptors:\n".to_owned();
    made.iter().for_each(|made| made.yaml(0, &mut text));
    text
}

fn request() -> impl Strategy<Value = Vec<(String, String)>> {
    prop::collection::vec(("[ab]{1,2}|a_b|a_b_a", "[ab*_]{0,3}"), 1..4)
}

fn wildcard_matches(pattern: &[u8], text: &[u8]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some((b'*', rest)) => (0..=text.len()).any(|skipped| wildcard_matches(rest, &text[skipped..])),
        Some((byte, rest)) => {
            text.split_first().is_some_and(|(first, text)| first == byte && wildcard_matches(rest, text))
        }
    }
}

/// The matching rules, word for word: exact, then wildcards in order, then the key; no way back.
fn naive<'m>(mut level: &'m [Made], request: &[(String, String)]) -> Option<Vec<&'m Made>> {
    let mut walk = Vec::new();
    for (key, value) in request {
        let text = format!("{key}_{value}");
        let composite = |made: &&Made| made.composite();
        let found = level
            .iter()
            .find(|made| composite(made) == text)
            .or_else(|| {
                let is_hit = |made: &Made| {
                    made.composite().contains('*') && wildcard_matches(made.composite().as_bytes(), text.as_bytes())
                };
                level.iter().find(|made| is_hit(made))
            })
            .or_else(|| level.iter().find(|made| composite(made) == *key))?;
        walk.push(found);
        level = &found.below;
    }
    walk.last().is_some_and(|made| made.limited).then_some(walk)
}

fn as_descriptor(request: &[(String, String)]) -> Descriptor<'_> {
    let entries = request.iter().map(|(key, value)| Entry { key, value }).collect();
    Descriptor { entries, hits: Hits::Add(1), limit_override: None }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn the_tree_finds_what_the_definition_says(
        made in made_rules(), requests in prop::collection::vec(request(), 1..20),
    ) {
        let rules = rules(&made_file(&made));
        let domain = rules.domain("d").unwrap();
        for request in &requests {
            let found = domain.find(&as_descriptor(request), b"");
            let found: Option<Vec<String>> =
                found.first().map(|found| found.rule.path.iter().map(ToString::to_string).collect());
            let expected = naive(&made, request).map(|walk| walk.iter().map(|made| made.composite()).collect());
            prop_assert_eq!(found, expected, "{:?}", request);
        }
    }

    #[test]
    fn two_requests_share_a_counter_only_where_a_rule_shares_it(
        made in made_rules(), requests in prop::collection::vec(request(), 2..30),
    ) {
        let rules = rules(&made_file(&made));
        let domain = rules.domain("d").unwrap();
        let mut counters: HashMap<Vec<u8>, CounterIdentity> = HashMap::new();
        for request in &requests {
            let descriptor = as_descriptor(request);
            let Some(found) = domain.find(&descriptor, b"").into_iter().next() else { continue };
            let walk = naive(&made, request).expect("both find the same");
            // What tells counters of one rule apart: every entry but those at shared wildcards.
            let open = walk.iter().zip(request).map(|(made, entry)| {
                let shared = made.share && made.composite().contains('*');
                (!shared).then(|| entry.clone())
            });
            let identity = (found.rule.index, open.collect::<Vec<_>>());
            let key = found.key.expect("the rule is limited").as_bytes().to_vec();
            if let Some(other) = counters.insert(key, identity.clone()) {
                prop_assert_eq!(other, identity);
            }
        }
        // And the other way: one identity, one key.
        let identities: std::collections::HashSet<_> = counters.values().collect();
        prop_assert_eq!(identities.len(), counters.len());
    }

    #[test]
    fn no_text_makes_loading_panic(text in ".{0,200}") {
        drop(load_texts(&[&text], true));
    }

    #[test]
    fn no_text_that_looks_like_rules_makes_loading_panic(
        parts in prop::collection::vec(prop::sample::select(PARTS.to_vec()), 0..60),
    ) {
        let text: String = parts.concat();
        drop(load_texts(&[&text, &text], true));
    }
}

/// A rule, and every entry that it tells counters apart by.
type CounterIdentity = (usize, Vec<Option<(String, String)>>);

/// What rule files are made of, and what breaks them.
const PARTS: [&str; 52] = [
    "domain: d\n",
    "descriptors:\n",
    "- key: a\n",
    "  value: 'b*'\n",
    "  rate_limit:\n",
    "    unit: hour\n",
    "    requests_per_unit: 010\n",
    "  descriptors:\n",
    "  - key: c\n",
    "&a ",
    "*a ",
    "*b",
    "<<: ",
    "<<: *a\n",
    "{",
    "}",
    "[",
    "]",
    ",",
    ": ",
    "- ",
    "\n",
    "  ",
    "    ",
    "\t",
    "'",
    "\"",
    "|\n",
    ">-\n",
    "---\n",
    "...\n",
    "!!binary ",
    "!!int ",
    "!t ",
    "? ",
    "#",
    "%YAML 1.1\n",
    "subsets:\n",
    "- entries: [{key: a}, {key: b, value: c}]\n",
    "window: 1h\n",
    "    replaces: [{name: x}]\n",
    "    name: x\n",
    "unlimited: yes\n",
    "metadata: {a: [1, .inf, ~]}\n",
    "\u{feff}",
    "\0",
    "é",
    "algorithm: ",
    "token_bucket\n",
    "burst: 3\n",
    "precision: 2000\n",
    "18446744073709551616",
];

struct Steps(usize);

impl Probe for Steps {
    fn step(&mut self) {
        self.0 += 1;
    }
}

fn steps(rules: &RuleSet, request: &str) -> usize {
    let mut steps = Steps(0);
    let mut found = Vec::new();
    rules.domain("d").unwrap().find_counting(&descriptor(request), b"", &mut steps, |one| found.push(one));
    assert_eq!(found.len(), 1, "{request}");
    steps.0
}

/// `count` rules: values, keys, wildcards and subsets in equal parts.
fn many_rules(count: usize) -> RuleSet {
    let limit = "rate_limit: {unit: hour, requests_per_unit: 1}";
    let kind = |number: usize| match number % 3 {
        0 => format!("key: user, value: u{number:06}"),
        1 => format!("key: k{number:06}"),
        _ => format!("key: path, value: /v1/{number:06}/*"),
    };
    let tree = (0..count / 4 * 3).map(|number| format!("- {{{}, {limit}}}\n", kind(number)));
    let subset = |number| format!("- {{entries: [{{key: s, value: s{number:06}}}, {{key: u}}], {limit}}}\n");
    let (tree, subsets): (String, String) = (tree.collect(), (0..count / 4).map(subset).collect());
    rules(&format!("domain: d\ndescriptors:\n{tree}subsets:\n{subsets}"))
}

#[test]
fn a_match_takes_as_many_steps_among_a_hundred_thousand_rules_as_among_a_dozen() {
    let (few, many) = (many_rules(12), many_rules(100_000));
    assert_eq!((few.rules().len(), many.rules().len()), (12, 100_000));
    for request in ["(user=u000003)", "(k000004=x)", "(path=/v1/000005/x)", "(x=y)(u=ann)(s=s000001)"] {
        assert_eq!(steps(&few, request), steps(&many, request), "{request}");
        assert!(steps(&few, request) <= 8, "{request}");
    }
}
