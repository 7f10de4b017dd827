//! The defaults of a compatibility profile: a layer over the built-in ones, under everything that an operator writes.
//!
//! So a profile changes what is said nowhere, and a setting of one's own still holds.
//!
//! Rules by xDS choose the profile of envoyproxy/ratelimit where nothing else is written. Who tells rules that way has that
//! service in mind, has no word for another algorithm, and counts on its semantics: Envoy Gateway's limits on usage charge
//! an answer's cost when it is through, and all of it, whatever is left. A limit that is never exceeded can't charge that,
//! so who is nearly over would stay so for ever.

use config::ValueKind;

use super::sources::Layer;

/// What is the default in the reference and not here, by key.
const ENVOYPROXY: [(&str, &str); 3] =
    [("rules.defaults.algorithm", "fixed_window"), ("rules.defaults.charging", "each"), ("store.key_prefix", "")];

/// The layer of the profile that the merged layers choose, if they choose one. `written` is what operators wrote.
pub(super) fn layer(merged: &Layer, written: &Layer) -> Option<Layer> {
    let is = |path: &str, words: &[&str]| match merged.value(path) {
        Some((ValueKind::String(word), _)) => words.contains(&word.as_str()),
        _ => false,
    };
    let is_implied = written.place("compatibility").is_none() && is("rules.source", &["xds", "GRPC_XDS_SOTW"]);
    if !is_implied && !is("compatibility", &["envoyproxy"]) {
        return None;
    }
    let mut layer = Layer::default();
    for (path, value) in ENVOYPROXY.into_iter().chain([("compatibility", "envoyproxy")]) {
        layer.set(path, "compatibility: envoyproxy", ValueKind::String(value.to_owned()));
    }
    Some(layer)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::{Settings, schema};
    use super::*;
    use crate::rules::{Algorithm, Compatibility};
    use crate::window::Charging;

    fn load(variables: &[(&str, &str)]) -> Settings {
        Settings::load(None, variables.iter().copied()).unwrap().0
    }

    #[test]
    fn the_profile_changes_defaults_as_a_whole() {
        assert!(ENVOYPROXY.iter().all(|(path, _)| schema::find(path).is_some()));
        let settings = load(&[("TIDEGATE_COMPATIBILITY", "envoyproxy")]);
        let defaults = settings.rules.defaults;
        assert_eq!(defaults.algorithm, Algorithm::FixedWindow);
        assert_eq!(defaults.charging, Charging::Each);
        assert_eq!(defaults.compatibility, Compatibility::Envoyproxy);
        assert_eq!((settings.store.key_prefix.as_str(), settings.store.expiry_jitter_max_s), ("", 300));
        let names =
            [settings.response.limit_header, settings.response.remaining_header, settings.response.reset_header];
        assert_eq!(names, ["RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset"]);
        assert!(!settings.response.headers_enabled);
        assert_eq!(load(&[]).rules.defaults.compatibility, Compatibility::Off);
    }

    #[test]
    fn what_an_operator_says_holds_over_the_profile() {
        let settings = load(&[
            ("TIDEGATE_COMPATIBILITY", "envoyproxy"),
            ("TIDEGATE_RULES_DEFAULTS_ALGORITHM", "sliding_window"),
            ("CACHE_KEY_PREFIX", "p:"),
            ("EXPIRATION_JITTER_MAX_SECONDS", "-1"),
        ]);
        assert_eq!(settings.rules.defaults.algorithm, Algorithm::SlidingWindow);
        assert_eq!((settings.store.key_prefix.as_str(), settings.store.expiry_jitter_max_s), ("p:", 0));
    }

    #[test]
    fn the_stop_option_spares_the_others_and_only_in_the_profile() {
        let charging = |variables: &[(&str, &str)]| {
            let all: BTreeMap<_, _> = variables.iter().copied().collect();
            Settings::load(None, all).unwrap().0.rules.defaults.charging
        };
        let stop = ("STOP_CACHE_KEY_INCREMENT_WHEN_OVERLIMIT", "true");
        assert_eq!(charging(&[("TIDEGATE_COMPATIBILITY", "envoyproxy"), stop]), Charging::OnlyOver);
        assert_eq!(charging(&[stop]), Charging::AllOrNothing);
    }

    #[test]
    fn what_is_over_is_remembered_only_in_the_profile() {
        let profile = ("TIDEGATE_COMPATIBILITY", "envoyproxy");
        let bytes = |text| ("LOCAL_CACHE_SIZE_IN_BYTES", text);
        assert_eq!(load(&[bytes("1000000")]).store.over_limit_memory, None);
        for (text, expected) in [("0", None), ("-1", None), ("1", Some(512 << 10)), ("1000000", Some(1_000_000))] {
            assert_eq!(load(&[profile, bytes(text)]).store.over_limit_memory, expected, "{text}");
        }
    }

    #[test]
    fn rules_by_xds_choose_the_profile_unless_it_is_written_otherwise() {
        let compatibility = |variables: &[(&str, &str)]| load(variables).rules.defaults.compatibility;
        let by_xds = ("CONFIG_TYPE", "GRPC_XDS_SOTW");
        assert_eq!(compatibility(&[by_xds]), Compatibility::Envoyproxy);
        assert_eq!(load(&[by_xds]).rules.defaults.algorithm, Algorithm::FixedWindow);
        assert_eq!(compatibility(&[("TIDEGATE_RULES_SOURCE", "xds")]), Compatibility::Envoyproxy);
        assert_eq!(compatibility(&[by_xds, ("TIDEGATE_COMPATIBILITY", "none")]), Compatibility::Off);
        assert_eq!(compatibility(&[("CONFIG_TYPE", "FILE")]), Compatibility::Off);
    }

    #[test]
    fn there_is_no_other_profile() {
        let errors = Settings::load(None, [("TIDEGATE_COMPATIBILITY", "lyft")]).unwrap_err().to_string();
        assert!(errors.contains("TIDEGATE_COMPATIBILITY is \"lyft\"") && errors.contains("envoyproxy"), "{errors}");
    }
}
