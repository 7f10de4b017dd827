//! `docs/environment.md`, held to what is done with each name.

use super::tests::read;
use super::{ALIASES, REFUSED, left_alone};

const PAGE: &str = include_str!("../../../docs/environment.md");

/// A row of the page: a name, and what it does.
struct Row {
    name: &'static str,
    does: Does,
}

#[derive(Debug, PartialEq)]
enum Does {
    /// It is another name of that setting.
    Sets(&'static str),
    LeftAlone,
    Refused,
}

fn rows() -> Vec<Row> {
    let cells = PAGE.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    cells
        .map(|(name, rest)| {
            let does = match rest.split(" | ").next().unwrap() {
                "left alone" => Does::LeftAlone,
                "refused" => Does::Refused,
                path => Does::Sets(path.trim_matches('`')),
            };
            Row { name, does }
        })
        .collect()
}

/// The name with a text that is right for it, or wrong where it is refused, and what it means something beside.
fn variables(name: &'static str) -> Vec<(&'static str, &'static str)> {
    let text = match name {
        "BACKEND_TYPE" => "memcache",
        "CONFIG_TYPE" => "GRPC_XDS_SOTW",
        "REDIS_PERSECOND" => "true",
        "REDIS_TYPE" | "REDIS_PERSECOND_TYPE" => "single",
        "REDIS_SOCKET_TYPE" | "REDIS_PERSECOND_SOCKET_TYPE" => "tcp",
        _ if name.ends_with("_URL") => "host:1",
        _ => "1",
    };
    let mut all = vec![(name, text)];
    match name {
        "REDIS_SOCKET_TYPE" => all.push(("REDIS_URL", "host:1")),
        "REDIS_SENTINEL_AUTH" => all.extend([("REDIS_TYPE", "sentinel"), ("REDIS_URL", "master,host:1")]),
        "REDIS_TLS_CLIENT_CERT" => all.push(("REDIS_TLS_CLIENT_KEY", "/key")),
        "REDIS_TLS_CLIENT_KEY" => all.push(("REDIS_TLS_CLIENT_CERT", "/certificate")),
        "REDIS_PERSECOND_SENTINEL_AUTH" => {
            all.extend([("REDIS_PERSECOND_TYPE", "sentinel"), ("REDIS_PERSECOND_URL", "master,host:1")]);
        }
        "REDIS_PERSECOND_SOCKET_TYPE" => all.push(("REDIS_PERSECOND_URL", "host:1")),
        "USE_DOG_STATSD_MOGRIFIERS" => all.extend([
            ("USE_DOG_STATSD", "true"),
            ("DOG_STATSD_MOGRIFIER_1_PATTERN", "a"),
            ("DOG_STATSD_MOGRIFIER_1_NAME", "b"),
        ]),
        _ => {}
    }
    if name.starts_with("REDIS_PERSECOND_") {
        all.push(("REDIS_PERSECOND", "true"));
    }
    all
}

#[test]
fn each_name_on_the_page_does_what_the_page_says() {
    for Row { name, does } in rows() {
        let path = if let Does::Sets(path) = does { path } else { "grpc.port" };
        let (value, notes, errors) = read(&variables(name), path);
        let is_told = |said: &[String]| said.len() == 1 && said[0].starts_with(name);
        match does {
            Does::Sets(_) => {
                assert!(value.is_some() && notes.is_empty() && errors.is_empty(), "{name}: {notes:?} {errors:?}")
            }
            Does::LeftAlone => assert!(is_told(&notes) && errors.is_empty(), "{name}: {notes:?} {errors:?}"),
            Does::Refused => assert!(is_told(&errors), "{name}: {errors:?}"),
        }
    }
}

#[test]
fn the_page_has_every_name_that_is_read() {
    let on_page: Vec<&str> = rows().iter().map(|row| row.name).collect();
    let aliases = ALIASES.iter().map(|alias| alias.variable);
    let refused = REFUSED.iter().map(|refused| refused.variable);
    let left_alone = left_alone::LEFT_ALONE.iter().map(|(name, _)| *name);
    // Those that are read by name.
    let others = [
        "RUNTIME_ROOT",
        "RUNTIME_SUBDIRECTORY",
        "RUNTIME_APPDIRECTORY",
        "USE_DOG_STATSD",
        "USE_DOG_STATSD_MOGRIFIERS",
        "DISABLE_STATS",
        "REDIS_URL",
        "REDIS_TYPE",
        "REDIS_SOCKET_TYPE",
        "REDIS_AUTH",
        "REDIS_SENTINEL_AUTH",
        "REDIS_TLS",
        "REDIS_TLS_CLIENT_CERT",
        "REDIS_TLS_CLIENT_KEY",
        "REDIS_PERSECOND",
        "REDIS_PERSECOND_URL",
        "REDIS_PERSECOND_TYPE",
        "REDIS_PERSECOND_SOCKET_TYPE",
        "REDIS_PERSECOND_AUTH",
        "REDIS_PERSECOND_SENTINEL_AUTH",
        "REDIS_PERSECOND_TLS",
    ];
    for name in aliases.chain(refused).chain(left_alone).chain(others) {
        assert_eq!(on_page.iter().filter(|known| **known == name).count(), 1, "{name}");
    }
}
