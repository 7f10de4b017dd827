//! Rules that come as messages and not as files: into the same raw form, so that everything that is checked of files is
//! checked of them too, in the same words.
//!
//! Whoever knows the wire fills these types, which are plain and know nothing of it. A resource has no lines: its mistakes
//! have its name and the path of keys. It says less than a file can: the reference service's words but `share_threshold`
//! and `value_to_metric`, none of our own, and nothing of adaptive services. What applies instead are the defaults.

use serde_json::{Map, Value};

use super::compile::compile;
use super::error::{Place, Report, RuleErrors, Warning, quoted};
use super::file::{Elements, Field, Located, RawCounted, RawDescriptor, RawFile, RawLimit, RawUnit};
use super::load::Options;
use super::set::RuleSet;
use crate::limit::Unit;

/// The rules of one domain.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resource {
    /// What mistakes call it.
    pub name: String,
    /// The domain.
    pub domain: String,
    /// Its root list.
    pub descriptors: Vec<ResourceDescriptor>,
}

/// One level of a domain's tree. Texts that are empty are absent.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ResourceDescriptor {
    /// Its key.
    pub key: String,
    /// Its value; any if empty.
    pub value: String,
    /// Its limit, if it has one.
    pub rate_limit: Option<ResourceLimit>,
    /// What is below it.
    pub descriptors: Vec<ResourceDescriptor>,
    /// Whether being over changes nothing.
    pub shadow_mode: bool,
    /// Whether metrics name the values of requests.
    pub detailed_metric: bool,
    /// Whether being over refuses only if all such rules are over.
    pub quota_mode: bool,
    /// Echoed in dynamic metadata.
    pub metadata: Option<Map<String, Value>>,
}

/// A limit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ResourceLimit {
    /// The unit's name; whatever it is, if it is none.
    pub unit: String,
    /// How many in a unit.
    pub requests_per_unit: u32,
    /// Whether nothing is counted.
    pub unlimited: bool,
    /// Its name, if it has one.
    pub name: String,
    /// Names of those that it replaces.
    pub replaces: Vec<String>,
}

/// What a unit is called that was not set.
const NO_UNIT: &str = "UNKNOWN";

/// Compiles resources into one rule set. None at all is a valid, empty configuration. Where several have one domain, and
/// may, their order decides about the precedence of wildcards, as that of files does.
///
/// # Errors
/// Every mistake in every resource, if there is one.
pub fn load_resources(resources: &[Resource], options: &Options) -> Result<(RuleSet, Vec<Warning>), RuleErrors> {
    let files: Vec<RawFile> = resources.iter().map(file).collect();
    let mut report = Report::default();
    let rules = compile(&files, options, &mut report);
    let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
    report.finish_of("resource", &names).map(|warnings| (rules, warnings))
}

fn file(resource: &Resource) -> RawFile {
    let name = match resource.name.as_str() {
        "" => "xDS resource without a name".to_owned(),
        name => format!("xDS resource {}", quoted(name)),
    };
    RawFile {
        name,
        place: Place::default(),
        domain: text(&resource.domain),
        algorithm: Field::Absent,
        precision: Field::Absent,
        charging: Field::Absent,
        descriptors: elements(&resource.descriptors, descriptor),
        subsets: none(),
        prometheus: Field::Absent,
        services: none(),
        tells_of_services: false,
    }
}

fn descriptor(descriptor: &ResourceDescriptor) -> RawDescriptor {
    RawDescriptor {
        place: Place::default(),
        key: text(&descriptor.key),
        value: text(&descriptor.value),
        share_threshold: Field::Absent,
        descriptors: elements(&descriptor.descriptors, self::descriptor),
        counted: RawCounted {
            rate_limit: descriptor.rate_limit.as_ref().map_or(Field::Absent, |found| given(limit(found))),
            shadow_mode: descriptor.shadow_mode,
            quota_mode: descriptor.quota_mode,
            detailed_metric: descriptor.detailed_metric,
            value_to_metric: false,
            metadata: descriptor.metadata.clone(),
        },
    }
}

fn limit(limit: &ResourceLimit) -> RawLimit {
    let ResourceLimit { unit, requests_per_unit, unlimited, name, replaces } = limit;
    let is_set = |is_set: bool| !unlimited || is_set;
    RawLimit {
        // What can't be told from its absence is no contradiction next to `unlimited`.
        unit: match is_set(unit != NO_UNIT) {
            true => given(RawUnit { text: unit.clone(), unit: Unit::from_name(unit) }),
            false => Field::Absent,
        },
        requests_per_unit: if is_set(*requests_per_unit > 0) { given(*requests_per_unit) } else { Field::Absent },
        unlimited: given(*unlimited),
        name: text(name),
        replaces: elements(replaces, |name| Located { value: name.clone(), place: Place::default() }),
        algorithm: Field::Absent,
        window: Field::Absent,
        unit_multiplier: Field::Absent,
        burst: Field::Absent,
        precision: Field::Absent,
    }
}

fn given<T>(value: T) -> Field<T> {
    Field::Given(Located { value, place: Place::default() })
}

/// A text, of which the empty one is as good as none.
fn text(text: &str) -> Field<String> {
    if text.is_empty() { Field::Absent } else { given(text.to_owned()) }
}

fn none<R>() -> Elements<R> {
    Elements { items: Vec::new(), is_wrong: false }
}

fn elements<T, R>(items: &[T], raw: impl Fn(&T) -> R) -> Elements<R> {
    Elements { items: items.iter().map(raw).enumerate().collect(), is_wrong: false }
}

#[cfg(test)]
mod tests {
    use super::super::load::{SourceFile, load};
    use super::*;

    fn limited(key: &str, value: &str, unit: &str, requests_per_unit: u32) -> ResourceDescriptor {
        let limit = ResourceLimit { unit: unit.to_owned(), requests_per_unit, ..ResourceLimit::default() };
        ResourceDescriptor {
            key: key.to_owned(),
            value: value.to_owned(),
            rate_limit: Some(limit),
            ..ResourceDescriptor::default()
        }
    }

    fn resource(name: &str, domain: &str, descriptors: Vec<ResourceDescriptor>) -> Resource {
        Resource { name: name.to_owned(), domain: domain.to_owned(), descriptors }
    }

    fn mistakes(resources: &[Resource]) -> String {
        load_resources(resources, &Options::default()).unwrap_err().to_string()
    }

    #[test]
    fn a_resource_means_what_a_file_of_the_same_words_means() {
        let inner = ResourceDescriptor { shadow_mode: true, ..limited("rule-0-match-0", "", "WEEK", 3) };
        let unlimited = ResourceLimit { unlimited: true, unit: NO_UNIT.to_owned(), ..ResourceLimit::default() };
        let free = ResourceDescriptor { rate_limit: Some(unlimited), ..limited("free", "", "", 0) };
        let route = ResourceDescriptor {
            key: "route".to_owned(),
            value: "a/*".to_owned(),
            descriptors: vec![inner],
            ..ResourceDescriptor::default()
        };
        let (ours, warnings) =
            load_resources(&[resource("r", "shop", vec![route, free])], &Options::default()).unwrap();
        assert_eq!(warnings, []);
        let text = "domain: shop\ndescriptors:\n  - key: route\n    value: a/*\n    descriptors:\n      - key: \
                    rule-0-match-0\n        shadow_mode: true\n        rate_limit: { unit: week, requests_per_unit: 3 }\n  \
                    - { key: free, rate_limit: { unlimited: true } }\n";
        let file = SourceFile { name: "rules.yaml".to_owned(), text: text.to_owned() };
        let (theirs, _) = load(&[file], &Options::default()).unwrap();
        let told = |rules: &RuleSet| {
            let rules = rules.rules().iter();
            rules.map(|rule| (rule.id, rule.path.clone(), rule.metric_path.clone(), rule.action)).collect::<Vec<_>>()
        };
        assert_eq!(told(&ours), told(&theirs), "the same counters, too: identities are equal");
        assert_eq!(&*ours.rules()[0].place, "xDS resource r");
    }

    #[test]
    fn all_mistakes_are_told_with_the_resource_and_the_path_of_keys() {
        let wrong = [
            resource("a", "", vec![limited("k", "v", "FORTNIGHT", 1)]),
            resource(
                "b",
                "d",
                vec![limited("k", "", "HOUR", 1), limited("k", "", "HOUR", 2), limited("", "", "HOUR", 1)],
            ),
        ];
        let told = mistakes(&wrong);
        for expected in [
            "4 mistakes in 2 resources:",
            "xDS resource a: config file cannot have empty domain",
            "xDS resource a: descriptors[0](k_v).rate_limit.unit: invalid rate limit unit 'FORTNIGHT'",
            "xDS resource b: descriptors[1](k): duplicate descriptor composite key 'd.k': xDS resource b has it already",
            "xDS resource b: descriptors[2]: descriptor has empty key",
        ] {
            assert!(told.contains(expected), "{expected} in {told}");
        }
    }

    #[test]
    fn no_name_writes_lines_of_its_own() {
        let forged = "x\n2026-11-22 ERROR\u{1b}[2J";
        let told = mistakes(&[
            resource(forged, forged, vec![limited(forged, forged, forged, 1)]),
            resource("b", forged, vec![limited("k", "", "HOUR", 1)]),
        ]);
        assert_eq!(told.lines().count(), 3, "{told}");
        assert!(told.contains(r"xDS resource x\n2026-11-22 ERROR\u{1b}[2J: "), "{told}");
        assert!(!told.contains('\u{1b}'), "{told}");
    }

    #[test]
    fn a_domain_may_come_again_only_where_domains_are_merged() {
        let twice = [
            resource("a", "d", vec![limited("k", "", "HOUR", 1)]),
            resource("b", "d", vec![limited("l", "", "HOUR", 1)]),
        ];
        let told = mistakes(&twice);
        assert!(told.contains("xDS resource b: domain: duplicate domain 'd' in config file: xDS resource a"), "{told}");
        let options = Options { merge_domains: true, ..Options::default() };
        assert_eq!(load_resources(&twice, &options).unwrap().0.rules().len(), 2);
    }

    #[test]
    fn a_limit_without_a_unit_is_refused_and_no_resources_are_an_empty_configuration() {
        let told = mistakes(&[resource("a", "d", vec![limited("k", "", NO_UNIT, 1)])]);
        assert!(told.contains("invalid rate limit unit 'UNKNOWN'"), "{told}");
        let told = mistakes(&[resource(
            "a",
            "d",
            vec![ResourceDescriptor {
                rate_limit: Some(ResourceLimit {
                    unit: "HOUR".to_owned(),
                    unlimited: true,
                    ..ResourceLimit::default()
                }),
                ..limited("k", "", "", 0)
            }],
        )]);
        assert!(told.contains("should not specify rate limit unit when unlimited"), "{told}");
        assert!(load_resources(&[], &Options::default()).unwrap().0.is_empty());
    }
}
