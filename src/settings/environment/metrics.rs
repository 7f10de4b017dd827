//! The reference service's variables of metrics that are more than another name of a key.
//!
//! There one sink is chosen and two are a mistake. Here the HTTP port has the metrics for Prometheus in any case, so
//! statsd and a listener for Prometheus may both be on.

use config::ValueKind;

use super::super::error::{Note, SettingsError};
use super::super::sources::Layer;
use super::super::text::switch;
use super::Environment;
use crate::statsd::rewrite::{ARROW, Rewrite};

const STATSD: &str = "metrics.statsd.enabled";
const PROMETHEUS: &str = "metrics.prometheus.enabled";

impl Environment {
    /// Adds what the choice of a sink means. Comes after the names that stand for one key each.
    pub(super) fn metrics(&self, layer: &mut Layer, notes: &mut Vec<Note>, errors: &mut Vec<SettingsError>) {
        let mut is_on = |name: &'static str| match self.get(name).map(|value| (value, switch(value))) {
            None => false,
            Some((_, Ok(is_on))) => is_on,
            Some((value, Err(right))) => {
                errors.push(SettingsError::Invalid { place: name.to_owned(), value: Some(value.to_owned()), right });
                false
            }
        };
        let (is_dog, is_disabled) = (is_on("USE_DOG_STATSD"), is_on("DISABLE_STATS"));
        // What is wrong with these two is found where their keys are read.
        let says_yes = |name| self.get(name).is_some_and(|value| switch(value) == Ok(true));
        let (is_statsd, is_prometheus) = (says_yes("USE_STATSD"), says_yes("USE_PROMETHEUS"));
        let word = |word: &str| ValueKind::String(word.to_owned());
        if is_disabled {
            for path in [STATSD, PROMETHEUS] {
                layer.set(path, "DISABLE_STATS", word("false"));
            }
            return;
        }
        if is_dog {
            if is_statsd {
                notes.push(Note::new(
                    "both USE_STATSD and USE_DOG_STATSD are set: there is one sender, and it speaks DogStatsD"
                        .to_owned(),
                ));
            }
            for (path, value) in
                [(STATSD, "true"), ("metrics.statsd.dialect", "dogstatsd"), ("metrics.statsd.protocol", "udp")]
            {
                layer.set(path, "USE_DOG_STATSD", word(value));
            }
        }
        if (is_statsd || is_dog) && is_prometheus {
            let statsd = if is_dog { "USE_DOG_STATSD" } else { "USE_STATSD" };
            notes.push(Note::new(format!(
                "both {statsd} and USE_PROMETHEUS are set: envoyproxy/ratelimit refuses this, here metrics are sent and \
                 shown"
            )));
        }
        if is_dog {
            self.mogrifiers(layer, errors);
        }
    }

    /// The rewrites that the names in one variable stand for, each in three variables of its own.
    fn mogrifiers(&self, layer: &mut Layer, errors: &mut Vec<SettingsError>) {
        const NAMES: &str = "USE_DOG_STATSD_MOGRIFIERS";

        let Some(names) = self.get(NAMES) else { return };
        let mut rewrites = Vec::new();
        for name in names.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            let part = |end: &str| self.get(&format!("DOG_STATSD_MOGRIFIER_{name}_{end}")).unwrap_or_default();
            let (pattern, new_name, tags) = (part("PATTERN"), part("NAME"), part("TAGS"));
            let arrows = [pattern, new_name, tags].iter().any(|part| part.contains(ARROW));
            let made = if arrows { Err(format!("without {ARROW:?}")) } else { Rewrite::new(pattern, new_name, tags) };
            match made {
                Ok(_) if tags.is_empty() => rewrites.push(format!("{pattern}{ARROW}{new_name}").into()),
                Ok(_) => rewrites.push(format!("{pattern}{ARROW}{new_name}{ARROW}{tags}").into()),
                Err(right) => errors.push(SettingsError::Invalid {
                    place: format!("DOG_STATSD_MOGRIFIER_{name}_…"),
                    value: Some([pattern, new_name, tags].join(ARROW)),
                    right,
                }),
            }
        }
        layer.set("metrics.statsd.rewrites", NAMES, ValueKind::Array(rewrites));
    }
}

#[cfg(test)]
mod tests {
    use super::Rewrite;
    use crate::settings::Settings;
    use crate::statsd::{Dialect, Protocol};

    fn load(environment: &[(&str, &str)]) -> (Settings, Vec<String>) {
        let (settings, notes) = Settings::load(None, environment.iter().copied()).unwrap();
        (settings, notes.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn nothing_is_sent_unless_it_is_asked_for() {
        assert_eq!(Settings::default().metrics.statsd, None);
        assert_eq!(load(&[("STATSD_HOST", "statsd")]).0.metrics.statsd, None);
        assert_eq!(load(&[("USE_STATSD", "false")]).0.metrics.statsd, None);
    }

    #[test]
    fn the_references_variables_of_statsd_mean_what_they_mean_there() {
        let variables = [
            ("USE_STATSD", "true"),
            ("STATSD_HOST", "statsd.example"),
            ("STATSD_PORT", "0x1fbe"),
            ("STATS_FLUSH_INTERVAL", "1m"),
            ("EXTRA_TAGS", "zone:a,env:live"),
        ];
        let (settings, notes) = load(&variables);
        let statsd = settings.metrics.statsd.unwrap();
        assert_eq!((statsd.host.as_str(), statsd.port, statsd.protocol), ("statsd.example", 8126, Protocol::Tcp));
        assert_eq!((statsd.flush_interval.as_secs(), statsd.tags.len()), (60, 2));
        assert_eq!((statsd.dialect, notes), (Dialect::Statsd, vec![]));
        let (settings, _) = load(&[("USE_STATSD", "1"), ("STATSD_PROTOCOL", "udp")]);
        assert_eq!(settings.metrics.statsd.unwrap().protocol, Protocol::Udp);
    }

    #[test]
    fn dogstatsd_is_spoken_over_udp() {
        let (settings, notes) = load(&[("USE_STATSD", "false"), ("USE_DOG_STATSD", "true")]);
        let statsd = settings.metrics.statsd.unwrap();
        assert_eq!((statsd.dialect, statsd.protocol, notes.len()), (Dialect::DogStatsd, Protocol::Udp, 0));
    }

    #[test]
    fn mogrifiers_are_rewrites_and_what_is_wrong_with_one_is_told_by_its_name() {
        let dog = [
            ("USE_DOG_STATSD", "true"),
            ("USE_DOG_STATSD_MOGRIFIERS", "RULES, OTHER"),
            ("DOG_STATSD_MOGRIFIER_RULES_PATTERN", r"^(.*)\.([^.]*)$"),
            ("DOG_STATSD_MOGRIFIER_RULES_NAME", "r.$2"),
            ("DOG_STATSD_MOGRIFIER_RULES_TAGS", "rule:$1,a:b"),
            ("DOG_STATSD_MOGRIFIER_OTHER_PATTERN", "."),
            ("DOG_STATSD_MOGRIFIER_OTHER_NAME", "other"),
        ];
        let (settings, notes) = load(&dog);
        let expected = [r"^(.*)\.([^.]*)$ => r.$2 => rule:$1,a:b", ". => other"];
        let expected = expected.map(|rewrite| Rewrite::parse(rewrite).unwrap());
        assert_eq!((settings.metrics.statsd.unwrap().rewrites.as_slice(), notes), (&expected[..], vec![]));
        let errors = Settings::load(None, dog[..6].iter().copied()).unwrap_err().to_string();
        assert!(errors.starts_with("DOG_STATSD_MOGRIFIER_OTHER_… is ") && errors.contains("with a name"), "{errors}");
        let errors = Settings::load(None, [("TIDEGATE_METRICS_STATSD_REWRITES", "a")]).unwrap_err().to_string();
        assert!(errors.contains("TIDEGATE_METRICS_STATSD_REWRITES has \"a\", but each must be "), "{errors}");
    }

    #[test]
    fn two_sinks_run_together_and_a_note_says_so() {
        let (settings, notes) = load(&[("USE_STATSD", "true"), ("USE_PROMETHEUS", "true")]);
        assert!(settings.metrics.statsd.is_some() && settings.metrics.prometheus.listener.is_some());
        assert_eq!(
            notes,
            [
                "both USE_STATSD and USE_PROMETHEUS are set: envoyproxy/ratelimit refuses this, here metrics are sent and \
              shown"
            ]
        );
    }

    #[test]
    fn disabled_metrics_win_over_each_sink_but_not_over_our_own_names() {
        let all = [("DISABLE_STATS", "true"), ("USE_STATSD", "true"), ("USE_DOG_STATSD", "1"), ("USE_PROMETHEUS", "1")];
        let (settings, _) = load(&all);
        assert!(settings.metrics.statsd.is_none() && settings.metrics.prometheus.listener.is_none());
        let (settings, notes) = load(&[("DISABLE_STATS", "true"), ("TIDEGATE_METRICS_STATSD_ENABLED", "true")]);
        assert_eq!((settings.metrics.statsd.is_some(), notes.len()), (true, 1));
    }

    #[test]
    fn what_envoy_gateway_sets_makes_a_listener_with_a_mapping() {
        let (settings, notes) = load(&[
            ("USE_STATSD", "false"),
            ("USE_PROMETHEUS", "true"),
            ("PROMETHEUS_ADDR", ":19001"),
            ("PROMETHEUS_MAPPER_YAML", "/etc/statsd-exporter/conf.yaml"),
        ]);
        let prometheus = settings.metrics.prometheus;
        let listener = prometheus.listener.unwrap();
        assert_eq!((listener.host, listener.port, prometheus.path.as_str()), (None, 19_001, "/metrics"));
        assert_eq!(prometheus.mapping.unwrap().to_str(), Some("/etc/statsd-exporter/conf.yaml"));
        assert_eq!(notes, Vec::<String>::new());
    }

    #[test]
    fn each_wrong_value_is_named_with_what_is_right_and_all_at_once() {
        let variables = [
            ("USE_DOG_STATSD", "yes"),
            ("DISABLE_STATS", "no"),
            ("USE_STATSD", "maybe"),
            ("STATSD_PORT", "0"),
            ("STATSD_PROTOCOL", "sctp"),
            ("STATS_FLUSH_INTERVAL", "10"),
            ("EXTRA_TAGS", "zone"),
            ("PROMETHEUS_ADDR", "19001"),
            ("PROMETHEUS_PATH", "metrics"),
            ("PROMETHEUS_RESPONSE_TIME_AS_MILLISECONDS", "2"),
        ];
        let errors = Settings::load(None, variables).unwrap_err().to_string();
        assert_eq!(errors.lines().count(), variables.len(), "{errors}");
        for (name, value) in variables {
            assert!(errors.contains(&format!("{name} is {value:?}, but must be ")), "{name}: {errors}");
        }
    }
}
