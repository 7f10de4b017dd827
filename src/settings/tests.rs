//! Claims about settings as a whole; those about one value or one source stand beside it.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::schema::{KEYS, Kind};
use super::*;
use crate::rules::{Algorithm, Compatibility};
use crate::window::{Charging, Precision};

fn load(file: &str, environment: &[(&str, &str)]) -> Result<Settings, String> {
    let settings = Settings::load(Some(("s.yaml", file)), environment.iter().copied());
    settings.map(|(settings, _)| settings).map_err(|errors| errors.to_string())
}

fn environment(environment: &[(&str, &str)]) -> Result<Settings, String> {
    load("", environment)
}

fn redis(settings: &Settings) -> &RedisSettings {
    match &settings.store.kind {
        StoreKind::Redis(redis) => redis,
        StoreKind::Memory => panic!("the store is memory"),
    }
}

// === The annotated file ===

#[test]
fn the_built_in_defaults_are_those_of_the_design() {
    let settings = Settings::default();
    assert_eq!((settings.grpc.host.as_str(), settings.grpc.port), ("0.0.0.0", 8081));
    assert_eq!((settings.http.host.as_str(), settings.http.port), ("0.0.0.0", 8080));
    assert_eq!((settings.debug.host.as_str(), settings.debug.port), ("127.0.0.1", 6070));
    assert_eq!(settings.grpc.request_bytes_max, 256 << 10);
    assert_eq!(settings.grpc.connection_age, Some(Duration::from_secs(86_400)));
    assert_eq!(settings.rules.paths, [PathBuf::from("config/rules.yaml")]);
    let defaults = Defaults {
        algorithm: Algorithm::SlidingWindow,
        precision: Precision::DEFAULT,
        charging: Charging::AllOrNothing,
        compatibility: Compatibility::Off,
    };
    assert_eq!(settings.rules.defaults, defaults);
    assert_eq!(settings.store.kind, StoreKind::Memory);
    assert_eq!(settings.store.deadline, Duration::from_millis(100));
    assert_eq!(settings.near_limit_ratio, 0.8);
    assert_eq!(settings.log.filter.to_string(), "info");
    assert_eq!(settings.runtime.workers, None);
}

/// A change counts when two looks in a row see it, so it is in force after three intervals at the latest.
#[test]
fn an_edited_rule_file_is_looked_at_often_enough_to_be_in_force_within_two_seconds() {
    assert!(Settings::default().rules.reload_interval * 3 < Duration::from_secs(2));
}

#[test]
fn the_annotated_file_has_every_key_in_the_schemas_order_and_no_other() {
    // Unknown keys are refused, so that there is no other follows from its being read.
    let mut errors = Vec::new();
    let layer = Layer::from_file("settings.yaml", DEFAULTS, &mut errors);
    assert_eq!(errors, []);
    let places = KEYS.iter().map(|key| layer.place(key.path).unwrap_or_else(|| panic!("{} is missing", key.path)));
    let lines: Vec<usize> = places.map(|place| place.split(':').nth(1).unwrap().parse().unwrap()).collect();
    assert!(lines.is_sorted(), "{lines:?}");
}

#[test]
fn the_annotated_file_explains_every_key_above_it() {
    let lines: Vec<&str> = DEFAULTS.lines().collect();
    let keys = lines.windows(2).filter(|pair| pair[1].split_once(": ").is_some_and(|(key, _)| !key.contains('#')));
    let mut explained = 0;
    for pair in keys {
        assert!(pair[0].trim_start().starts_with('#'), "nothing stands above {}", pair[1]);
        explained += 1;
    }
    assert_eq!(explained, KEYS.len());
}

#[test]
fn every_key_of_the_schema_means_something() {
    // A word that no key but a free text can have must be refused under every name, or else change the settings; with
    // everything switched on that keys belong to.
    let base = [
        ("TIDEGATE_STORE_REDIS_URL", "rediss://redis:1"),
        ("TIDEGATE_TRACING_ENABLED", "true"),
        ("TIDEGATE_TRACING_ENDPOINT", "https://collector"),
        ("TIDEGATE_GRPC_TLS_ENABLED", "true"),
        ("TIDEGATE_GRPC_TLS_CERTIFICATE_FILE", "/certificate.pem"),
        ("TIDEGATE_GRPC_TLS_KEY_FILE", "/key.pem"),
        ("TIDEGATE_GRPC_TLS_CLIENT_CA_FILE", "/ca.pem"),
        ("TIDEGATE_RULES_SOURCE", "xds"),
        ("TIDEGATE_RULES_XDS_TLS_ENABLED", "true"),
    ];
    let unchanged: BTreeSet<&str> = KEYS
        .iter()
        .filter(|key| {
            let variable = key.variable();
            let besides = base.into_iter().filter(|(name, _)| *name != variable);
            // Metadata without a value does not count.
            let text = if key.path == "rules.xds.node_metadata" { "{=" } else { "{" };
            let variables: Vec<(&str, &str)> = besides.chain([(variable.as_str(), text)]).collect();
            environment(&variables) == environment(&base)
        })
        .map(|key| key.path)
        .collect();
    assert_eq!(unchanged, BTreeSet::new());
}

// === Layers ===

#[test]
fn the_environment_lies_over_the_file_and_the_file_over_the_defaults() {
    let file = "grpc:\n  port: 1\n  host: localhost\nhttp.port: 2\n";
    let settings = load(file, &[("TIDEGATE_GRPC_PORT", "3"), ("PORT", "4")]).unwrap();
    assert_eq!((settings.grpc.port, settings.grpc.host.as_str(), settings.http.port), (3, "localhost", 4));
    assert_eq!(settings.grpc.keepalive_timeout, Duration::from_secs(20));
}

#[test]
fn lists_replace_each_other_whole() {
    let file = "rules:\n  paths: [a.yaml, b.yaml, c.yaml]\n";
    assert_eq!(load(file, &[]).unwrap().rules.paths.len(), 3);
    assert_eq!(load(file, &[("TIDEGATE_RULES_PATHS", "d, e")]).unwrap().rules.paths, ["d", "e"].map(PathBuf::from));
    assert_eq!(load(file, &[("RUNTIME_ROOT", "/r")]).unwrap().rules.paths, [PathBuf::from("/r/config")]);
}

#[test]
fn an_empty_variable_counts_as_unset() {
    let variables = [("TIDEGATE_GRPC_PORT", ""), ("GRPC_PORT", ""), ("SHADOW_MODE", ""), ("REDIS_URL", "")];
    assert_eq!(environment(&variables), Ok(Settings::default()));
}

#[test]
fn notes_come_with_the_settings() {
    let (settings, notes) = Settings::load(None, [("PORT", "1"), ("TIDEGATE_HTTP_PORT", "0")]).unwrap();
    assert_eq!((settings.http.port, notes.len()), (0, 1));
    assert_eq!(notes[0].to_string(), "both TIDEGATE_HTTP_PORT and PORT are set: TIDEGATE_HTTP_PORT holds");
}

#[test]
fn the_file_is_found_through_the_environment() {
    assert_eq!(file_in(&as_text([("TIDEGATE_SETTINGS".into(), "a/b.yaml".into())])), Some("a/b.yaml".into()));
    assert_eq!(file_in(&as_text([("TIDEGATE_SETTINGS".into(), "".into())])), None);
}

// === Mistakes ===

#[test]
fn each_wrong_value_is_one_sentence_with_its_name_itself_and_what_would_be_right() {
    for (variable, value, right) in [
        ("TIDEGATE_GRPC_PORT", "eighty", "a whole number from 0 to 65535"),
        ("GRPC_PORT", "70000", "a whole number from 0 to 65535"),
        ("TIDEGATE_GRPC_HOST", "a b", "an IP address or a host name"),
        ("TIDEGATE_GRPC_REQUEST_BYTES_MAX", "4MB", "a size in bytes, KiB, MiB or GiB from 1024 to 67108864 bytes"),
        ("TIDEGATE_GRPC_REFLECTION", "yes", "true or false"),
        ("SHADOW_MODE", "on", "true or false"),
        ("TIDEGATE_STORE_DEADLINE", "100", "a duration with its unit (ns, us, ms, s, m, h) from 1ms to 10s"),
        ("TIDEGATE_RULES_DEFAULTS_ALGORITHM", "leaky", "sliding_window, fixed_window or token_bucket"),
        ("TIDEGATE_RULES_DEFAULTS_PRECISION", "1025", "a whole number from 1 to 1024"),
        ("TIDEGATE_RULES_DEFAULTS_CHARGING", "all", "all_or_nothing or each"),
        ("TIDEGATE_RULES_PATHS", "a,,b", "1 to 1000 paths of files or directories, none of them empty"),
        ("CACHE_KEY_PREFIX", "a{b}", "at most 64 bytes of text without braces and blanks"),
        ("NEAR_LIMIT_RATIO", "1.5", "a number from 0 to 1"),
        ("LIMIT_RESET_HEADER", "Reset Header", "a header name such as RateLimit-Limit"),
        ("LOG_FORMAT", "xml", "text or json"),
    ] {
        let expected = format!("{variable} is {value:?}, but must be {right}");
        assert_eq!(environment(&[(variable, value)]), Err(expected));
    }
    assert_eq!(
        load("store:\n  # in words\n  deadline: 100\n", &[]).unwrap_err(),
        "s.yaml:3: store.deadline is \"100\", but must be a duration with its unit (ns, us, ms, s, m, h) from 1ms to 10s"
    );
}

#[test]
fn all_mistakes_are_told_at_once() {
    let file = "grpc:\n  port: -1\n  hots: a\nhttp: 5\n";
    let errors = load(file, &[("PORT", "x"), ("LOG_LEVEL", "loud")]).unwrap_err();
    let places: Vec<&str> = errors.lines().map(|line| line.split(" is ").next().unwrap()).collect();
    let expected = ["s.yaml:3: \"grpc.hots\"", "s.yaml:4: http", "s.yaml:2: grpc.port", "PORT", "LOG_LEVEL"];
    assert_eq!(places, expected);
}

#[test]
fn a_value_that_another_source_replaces_need_not_be_right() {
    assert!(load("grpc:\n  port: -1\n", &[("GRPC_PORT", "1")]).is_ok());
}

#[test]
fn a_value_cannot_forge_a_line_of_the_log() {
    let errors = environment(&[("PORT", "1\nall is well")]).unwrap_err();
    assert_eq!(errors.lines().count(), 1);
    let (_, notes) = Settings::load(None, [("TIDEGATE_\nall is well", "1")]).unwrap();
    assert_eq!(notes.iter().map(|note| note.to_string().lines().count()).collect::<Vec<_>>(), [1]);
    let errors = environment(&[("PORT", &"1".repeat(1 << 20))]).unwrap_err();
    assert!(errors.len() < 300);
}

#[test]
fn each_pair_of_ports_that_is_one_is_told() {
    let environment =
        environment(&[("PORT", "6071"), ("TIDEGATE_GRPC_PORT", "6071"), ("DEBUG_PORT", "6071")]).unwrap_err();
    let pairs = [
        "grpc.port or http.port",
        "grpc.port or admin.port",
        "grpc.port or debug.port",
        "http.port or admin.port",
        "http.port or debug.port",
        "admin.port or debug.port",
    ];
    for pair in pairs {
        assert!(environment.contains(&format!("set {pair} to another port")), "{pair}: {environment}");
    }
    assert_eq!(environment.lines().count(), pairs.len());
}

#[test]
fn one_port_for_both_is_told_with_both_names() {
    assert_eq!(
        environment(&[("GRPC_PORT", "9000"), ("PORT", "9000")]).unwrap_err(),
        "GRPC_PORT and PORT are both 9000, on hosts that overlap; set grpc.port or http.port to another port, or to 0 \
         for any free one"
    );
    let file = "grpc.port: 8080\n";
    assert!(load(file, &[]).unwrap_err().starts_with("s.yaml:1: grpc.port and the built-in defaults:"));
    // A default that stands in for a mistake is no port that anybody asked for.
    assert_eq!(load(file, &[("PORT", "x")]).unwrap_err().lines().count(), 1);
}

#[test]
fn one_port_is_right_for_both_where_the_hosts_are_apart() {
    let is_right = |grpc: &str, http: &str, port: &str| {
        let variables = [("GRPC_HOST", grpc), ("HOST", http), ("GRPC_PORT", port), ("PORT", port)];
        environment(&variables).is_ok()
    };
    for (one, other) in [("127.0.0.1", "127.0.0.2"), ("0.0.0.0", "::1"), ("a", "b"), ("localhost", "127.0.0.1")] {
        assert!(is_right(one, other, "9000") && is_right(other, one, "9000"), "{one} {other}");
    }
    for (one, other) in
        [("0.0.0.0", "127.0.0.1"), ("::", "127.0.0.1"), ("[::]", "localhost"), ("::1", "0:0::1"), ("a", "A")]
    {
        assert!(!is_right(one, other, "9000") && !is_right(other, one, "9000"), "{one} {other}");
        assert!(is_right(one, other, "0"), "{one} {other}");
    }
}

// === Redis ===

#[test]
fn an_address_makes_the_store_redis_unless_memory_is_asked_for() {
    let settings = environment(&[("REDIS_URL", "redis:6379"), ("REDIS_SOCKET_TYPE", "tcp")]).unwrap();
    assert_eq!(redis(&settings).main.url.to_string(), "redis://redis:6379/0");
    let settings = environment(&[("REDIS_URL", "redis:6379"), ("TIDEGATE_STORE_KIND", "memory")]).unwrap();
    assert_eq!(settings.store.kind, StoreKind::Memory);
    assert_eq!(
        environment(&[("TIDEGATE_STORE_KIND", "redis")]).unwrap_err(),
        "TIDEGATE_STORE_KIND is redis, but store.redis.url is empty; set it to the address of Redis"
    );
}

#[test]
fn a_password_of_its_own_replaces_the_urls_user_and_password() {
    let url = ("REDIS_URL", "redis://u:one@redis:1");
    let credentials = |more: &[(&str, &str)]| {
        let settings = environment(&[&[url], more].concat()).unwrap();
        let credentials = redis(&settings).main.url.credentials().clone();
        (credentials.username, credentials.password.map(|secret| secret.expose().to_owned()))
    };
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(credentials(&[]), (some("u"), some("one")));
    assert_eq!(credentials(&[("REDIS_AUTH", "two")]), (None, some("two")));
    assert_eq!(credentials(&[("REDIS_AUTH", "v:two:3")]), (some("v"), some("two:3")));
    assert_eq!(credentials(&[("TIDEGATE_STORE_REDIS_USERNAME", "w")]), (some("w"), some("one")));
}

#[test]
fn two_passwords_are_one_too_many() {
    let file = "store:\n  redis:\n    password_file: /run/secrets/redis\n    url: redis:1\n";
    assert_eq!(redis(&load(file, &[]).unwrap()).main.password_file, Some("/run/secrets/redis".into()));
    assert_eq!(
        load(file, &[("REDIS_AUTH", "hunter2")]).unwrap_err(),
        "s.yaml:3: store.redis.password_file names a file, but there is a password besides it; keep one of the two"
    );
}

#[test]
fn secrets_are_never_shown() {
    let hidden = "hunter2";
    let right = [
        environment(&[("REDIS_URL", "redis://hunter2:hunter2@redis:1")]),
        environment(&[("REDIS_URL", "redis:1"), ("REDIS_AUTH", "hunter2:hunter2")]),
        load("store:\n  redis: {url: 'redis:1', username: hunter2, password: hunter2}\n", &[]),
    ];
    for settings in right {
        let shown = format!("{0:?} {0:#?}", settings.unwrap());
        assert!(!shown.contains(hidden), "{shown}");
    }
    let wrong = [
        environment(&[("REDIS_URL", "redis://u:hunter2/@redis:x")]),
        environment(&[("TIDEGATE_STORE_REDIS_URL", "u:hunter2@redis")]),
        load("store:\n  redis: 'redis://u:hunter2@redis'\n", &[]),
        load("store: hunter2\n", &[]),
        load("store:\n  redis:\n    url: [hunter2]\n", &[]),
        load("store:\n  redis:\n    passwrd: hunter2\n", &[]),
        load("store:\n  redis:\n    url: 'redis://u:hunter2@redis:x'\n", &[]),
    ];
    for errors in wrong {
        let shown = format!("{0} {0:?}", errors.unwrap_err());
        assert!(!shown.contains(hidden), "{shown}");
    }
    let both = [("REDIS_URL", "redis://:hunter2@a:1"), ("TIDEGATE_STORE_REDIS_URL", "redis://:hunter2@b:1")];
    let (_, notes) = Settings::load(None, both).unwrap();
    assert!(!format!("{notes:?}").contains(hidden));
    let (_, notes) = Settings::load(None, [("TIDEGATE_STORE_REDIS_PASSWRD", "hunter2")]).unwrap();
    assert!(notes.len() == 1 && !format!("{notes:?}").contains(hidden));
}

proptest! {
    #[test]
    fn any_value_of_any_variable_is_a_setting_or_a_sentence(index in 0..KEYS.len(), value in "\\PC{0,20}|[0-9a-z:/@,.\\[\\]]{0,20}") {
        let variable = KEYS[index].variable();
        // A switch alone may be right and lack what it needs: that is a sentence for each thing.
        let files = ["CERTIFICATE", "KEY"].map(|file| format!("TIDEGATE_GRPC_TLS_{file}_FILE"));
        if let Err(errors) = environment(&[(&files[0], "/c"), (&files[1], "/k"), (&variable, &value)]) {
            // Of a list each text may be wrong in its own way.
            let texts = if KEYS[index].kind == Kind::Texts { value.split(',').count() } else { 1 };
            prop_assert!((1..=texts).contains(&errors.lines().count()), "{}", errors);
            prop_assert!(errors.starts_with(&variable));
        }
    }

    #[test]
    fn any_value_in_a_file_is_a_setting_or_sentences(index in 0..KEYS.len(), value in "\\PC{0,20}|[0-9a-z:/@,.\\[\\]{}'\"&*!-]{0,20}") {
        if let Err(errors) = load(&format!("{}: {value}\n", KEYS[index].path), &[]) {
            prop_assert!(errors.lines().all(|line| line.starts_with("s.yaml")), "{}", errors);
        }
    }
}
