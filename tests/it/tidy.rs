//! The rules of the source tree that no compiler holds: which module may import which, who may do I/O, what a file
//! looks like. Each is a function from sources to complaints, so that a rule can be shown to bite.
//!
//! The readers below know Rust only as far as rustfmt writes it: good enough for rules on imports and names, and a
//! line they misread is easily written so that they don't.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The layers of the modules in `src/`, lowest first: a module imports from its own layer and those below.
const LAYERS: [&[&str]; 8] = [
    &["clock", "connect", "descriptor", "key", "limit", "pem", "plot", "rate", "tls"],
    &["signal", "window"],
    &["rules"],
    &["counters", "health", "metrics", "table"],
    &["control", "decision", "limiter"],
    &[
        "admin",
        "ask",
        "http",
        "logging",
        "prometheus",
        "proto",
        "reload",
        "rls",
        "settings",
        "simulate",
        "statsd",
        "trace",
        "web",
        "xds",
    ],
    &["app", "cli", "main", "open_files"],
    &["bench", "bin", "demo", "proxy", "shop"],
];

/// Modules without I/O and without a clock: the layers up to the rules, and the decision.
const PURE: [&str; 9] = ["clock", "descriptor", "key", "limit", "rate", "signal", "window", "rules", "decision"];
/// Parts of other modules that are pure as well.
const PURE_FOLDERS: [&str; 18] = [
    "src/shop/plant/",
    "src/control/law/",
    "src/control/doubt.rs",
    "src/control/hand.rs",
    "src/control/history.rs",
    "src/metrics/deltas.rs",
    "src/metrics/dotted.rs",
    "src/metrics/mapping/",
    "src/statsd/line.rs",
    "src/simulate/plant/",
    "src/trace/collector/answer.rs",
    "src/trace/identity.rs",
    "src/trace/propagation.rs",
    "src/trace/sampling.rs",
    "src/trace/span.rs",
    "src/xds/measure.rs",
    "src/xds/pause.rs",
    "src/xds/protocol.rs",
];
/// What a pure module must not name.
const IMPURE: [&str; 9] =
    ["std::fs", "std::net", "std::env", "std::process", "std::thread", "tokio", "SystemTime", "Instant::now", "rand"];
/// The places in pure modules where the world comes in, with what they may name.
const DOORS: [(&str, &str); 2] = [("src/clock.rs", "SystemTime"), ("src/rules/source.rs", "std::fs")];

/// Packages that only some places may name, because they will be replaced one day or because the types are the
/// outside's: (names, places).
const CONFINED: [(&[&str], &[&str]); 2] = [
    (
        &["tonic", "tonic_health", "tonic_reflection", "prost", "prost_types"],
        &["src/rls", "src/proto", "src/web", "src/ask", "src/xds", "src/trace", "src/bench", "src/proxy"],
    ),
    (&["redis"], &["src/counters/redis", "src/control/record/redis", "src/bench"]),
];

/// Parts of names that say nothing, and what to say instead.
const BANNED: [(&str, &str); 12] = [
    ("manager", "name what it does: pool, registry, watcher"),
    ("helper", "name what it does, or put the function beside its type"),
    ("util", "name the concept the functions share"),
    ("utils", "name the concept the functions share"),
    ("misc", "name the concept the items share"),
    ("mgr", "write the word out, then choose another"),
    ("cfg", "settings, or rules"),
    ("ctx", "name what it carries"),
    ("cnt", "count"),
    ("desc", "descriptor, or description"),
    ("req", "request"),
    ("resp", "response, or answer"),
];

const LINES_MAX: usize = 500;

/// A file and its text; the path is relative to the root of the checkout.
struct Source {
    path: String,
    text: String,
}

type Complaints = Vec<String>;

// === the rules ===

#[test]
fn every_rust_file_opens_with_its_idea() {
    assert_none(rust().iter().filter(|source| !source.text.starts_with("//!")).map(|source| {
        format!("{}: the first line should be `//!` and say what the file is and why it is so", source.path)
    }));
}

#[test]
fn no_rust_file_is_longer_than_500_lines() {
    assert_none(rust().iter().filter_map(|source| {
        let lines = source.text.lines().count();
        (lines > LINES_MAX).then(|| format!("{}: {lines} lines; split it by concept", source.path))
    }));
}

#[test]
fn modules_import_from_their_own_layer_and_below() {
    assert_none(rust().iter().flat_map(imports_upward));
}

#[test]
fn pure_modules_do_no_input_or_output_and_read_no_clock() {
    assert_none(rust().iter().flat_map(impurities));
}

#[test]
fn packages_that_may_be_replaced_are_named_in_their_place_only() {
    assert_none(rust().iter().flat_map(escapes));
}

#[test]
fn names_say_something() {
    assert_none(rust().iter().flat_map(empty_names));
}

#[test]
fn no_file_is_dead() {
    assert_none(dead_files(&files_below(&["src", "tests"])));
}

#[test]
fn tests_wait_for_conditions() {
    let (home, call) = ("tests/it/support/mod.rs", ["sleep", "("].concat());
    assert_none(rust().iter().filter(|source| source.path.starts_with("tests/")).flat_map(|source| {
        let allowed = usize::from(source.path == home);
        let sleeps = code_lines(&source.text).filter(|(_, line)| line.contains(&call)).count();
        (sleeps > allowed).then(|| format!("{}: sleeps; wait for a condition with `eventually`", source.path))
    }));
}

#[test]
fn no_file_knows_the_machine_it_was_written_on() {
    // Put together here, so that this file does not break its own rule.
    let folders = ["work", "root", "home", "Users"].map(|folder| format!("/{folder}/"));
    let texts = files_below(&["."]);
    assert_none(texts.iter().flat_map(|source| {
        let found = folders.iter().filter(|folder| source.text.contains(*folder));
        found.map(|folder| format!("{}: {folder} is a path of one machine", source.path)).collect::<Complaints>()
    }));
}

#[test]
fn the_rules_above_bite() {
    let source = |path: &str, text: &str| Source { path: path.to_owned(), text: text.to_owned() };
    let upward = [
        "use crate::rls::Service;",
        "use crate::{\n    key::CounterKey,\n    app::App,\n};",
        "let a = crate::app::run();",
    ];
    for text in upward {
        assert_eq!(imports_upward(&source("src/window/log.rs", text)).len(), 1, "{text}");
    }
    assert_eq!(imports_upward(&source("src/window/log.rs", "use crate::key::CounterKey; // not crate::app")).len(), 0);
    assert_eq!(imports_upward(&source("src/surprise.rs", "")).len(), 1, "a module must have a layer");

    assert_eq!(impurities(&source("src/window/log.rs", "use tokio::time::sleep;")).len(), 1);
    assert_eq!(impurities(&source("src/rules/source.rs", "use std::fs;")).len(), 0);
    assert_eq!(impurities(&source("src/rules/tree.rs", "use std::fs;")).len(), 1);
    assert_eq!(impurities(&source("src/rules/tree.rs", "#[cfg(test)]\nmod tests {\n    use std::fs;\n}")).len(), 0);

    assert_eq!(impurities(&source("src/shop/plant/mod.rs", "use tokio::time::Instant;")).len(), 1);
    assert_eq!(impurities(&source("src/shop/user.rs", "use tokio::time::Instant;")).len(), 0);

    assert_eq!(escapes(&source("src/limiter.rs", "use tonic::Status;")).len(), 1);
    assert_eq!(escapes(&source("src/app.rs", "let url = redis::parse_redis_url(text);")).len(), 1);
    assert_eq!(escapes(&source("src/app.rs", "use crate::counters::redis::RedisStore;")).len(), 0);
    assert_eq!(escapes(&source("src/counters/redis/pool.rs", "use redis::Script;")).len(), 0);

    assert_eq!(empty_names(&source("src/app.rs", "struct ConnectionManager {}")).len(), 1);
    assert_eq!(empty_names(&source("src/app.rs", "fn parse_req(text: &str) {}")).len(), 1);
    assert_eq!(empty_names(&source("src/app.rs", "fn required(description: &str) {}")).len(), 0);

    let tree = [source("src/lib.rs", "mod a;"), source("src/a/mod.rs", ""), source("src/a/b.rs", "")];
    assert_eq!(dead_files(&tree).len(), 1);
}

fn imports_upward(source: &Source) -> Complaints {
    let Some(module) = module_of(&source.path) else { return Vec::new() };
    let Some(layer) = layer_of(module) else {
        return vec![format!("{}: say in tidy.rs to which layer `{module}` belongs", source.path)];
    };
    let upward =
        imports(&source.text).into_iter().filter(|imported| layer_of(imported).is_some_and(|other| other > layer));
    upward.map(|imported| format!("{}: layer {layer} must not import crate::{imported}", source.path)).collect()
}

fn impurities(source: &Source) -> Complaints {
    // Tests in files of their own may read a file to try a pure function on it.
    let is_test = source.path.contains("/tests/") || source.path.ends_with("/tests.rs");
    let is_pure = module_of(&source.path).is_some_and(|module| PURE.contains(&module))
        || PURE_FOLDERS.iter().any(|folder| source.path.starts_with(folder));
    if is_test || !is_pure {
        return Vec::new();
    }
    let mut complaints = Vec::new();
    for (number, line) in code_lines(before_tests(&source.text)) {
        for name in IMPURE {
            if names(line, name) && !DOORS.contains(&(&*source.path, name)) {
                complaints.push(format!("{}:{number}: a pure module must not name {name}", source.path));
            }
        }
    }
    complaints
}

fn escapes(source: &Source) -> Complaints {
    let mut complaints = Vec::new();
    for (packages, places) in CONFINED {
        let at_home = places.iter().any(|place| source.path.starts_with(place));
        if at_home || !source.path.starts_with("src/") {
            continue;
        }
        for (number, line) in code_lines(&source.text) {
            for package in packages {
                if names_package(line, package) {
                    complaints.push(format!("{}:{number}: only {places:?} may name {package}", source.path));
                }
            }
        }
    }
    complaints
}

fn empty_names(source: &Source) -> Complaints {
    const KINDS: [&str; 7] = ["struct", "enum", "trait", "type", "fn", "mod", "const"];
    let mut complaints = Vec::new();
    for (number, line) in code_lines(&source.text) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let defined = words.windows(2).find(|pair| KINDS.contains(&pair[0])).map(|pair| pair[1]).unwrap_or_default();
        let name: String = defined.chars().take_while(|letter| is_word(*letter)).collect();
        for (banned, instead) in BANNED {
            if parts(&name).any(|part| part == banned) {
                complaints.push(format!("{}:{number}: {name} says `{banned}`: {instead}", source.path));
            }
        }
    }
    complaints
}

/// Rust files that no `mod` line leads to, and other files below `src` that no Rust file names, recorded snapshots
/// excepted: their test finds them by its own name.
fn dead_files(sources: &[Source]) -> Complaints {
    let mut alive = BTreeSet::new();
    let mut next: Vec<String> = [
        "src/lib.rs",
        "src/main.rs",
        "src/bin/bench.rs",
        "src/bin/demo.rs",
        "src/bin/proxy.rs",
        "src/bin/shop.rs",
        "tests/it/main.rs",
        "tests/cost/main.rs",
    ]
    .map(str::to_owned)
    .into();
    while let Some(path) = next.pop() {
        let Some(source) = sources.iter().find(|source| source.path == path) else { continue };
        alive.insert(path.clone());
        let file = Path::new(&path);
        let folder = file.parent().expect("every source is in a folder");
        let stem = file.file_stem().and_then(|stem| stem.to_str()).expect("paths here are text");
        let below = if ["lib", "main", "mod"].contains(&stem) { folder.to_owned() } else { folder.join(stem) };
        for (_, line) in code_lines(&source.text) {
            let module = line
                .trim()
                .strip_suffix(';')
                .and_then(|line| line.split_whitespace().skip_while(|word| *word != "mod").nth(1));
            if let Some(module) = module {
                next.push(below.join(format!("{module}.rs")).to_string_lossy().into_owned());
                next.push(below.join(module).join("mod.rs").to_string_lossy().into_owned());
            }
        }
    }
    let is_named = |source: &Source| {
        let name = Path::new(&source.path).file_name().and_then(|name| name.to_str()).expect("paths here are text");
        sources.iter().any(|other| other.path.ends_with(".rs") && other.text.contains(&format!("{name}\"")))
    };
    let mut complaints = Vec::new();
    for source in sources {
        if source.path.ends_with(".rs") && !alive.contains(&source.path) {
            complaints.push(format!("{}: no `mod` line leads to it", source.path));
        }
        let included = ![".rs", ".snap"].iter().any(|end| source.path.ends_with(end));
        if included && source.path.starts_with("src/") && !is_named(source) {
            complaints.push(format!("{}: no Rust file includes it", source.path));
        }
    }
    complaints
}

// === reading Rust ===

/// The module of the crate that a file below `src` belongs to.
fn module_of(path: &str) -> Option<&str> {
    let module = path.strip_prefix("src/")?.split('/').next()?;
    let module = module.strip_suffix(".rs").unwrap_or(module);
    (module != "lib").then_some(module)
}

fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

/// The modules of the crate that a text names, in `use` lines, in braces after `crate::` or in paths.
fn imports(text: &str) -> BTreeSet<String> {
    let code: String = code_lines(text).map(|(_, line)| format!("{line}\n")).collect();
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let Some(list) = rest.strip_prefix('{') else {
            found.insert(rest.chars().take_while(|letter| is_word(*letter)).collect());
            continue;
        };
        let (mut depth, mut item) = (0, String::new());
        for letter in list.chars() {
            match letter {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    found.insert(first_word(&item));
                    item.clear();
                }
                _ => item.push(letter),
            }
        }
        found.insert(first_word(&item));
    }
    found
}

fn first_word(text: &str) -> String {
    text.trim().chars().take_while(|letter| is_word(*letter)).collect()
}

/// The lines of a text with their numbers, without comments.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let without_comment =
        |line: &'_ str| line.find("//").filter(|at| !line[..*at].ends_with(':')).unwrap_or(line.len());
    text.lines().enumerate().map(move |(index, line)| (index + 1, &line[..without_comment(line)]))
}

/// A file's text up to its unit tests.
fn before_tests(text: &str) -> &str {
    &text[..text.find("#[cfg(test)]").unwrap_or(text.len())]
}

/// Whether a line has `name` as words of their own.
fn names(line: &str, name: &str) -> bool {
    line.match_indices(name).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + name.len()..].chars().next();
        !before.is_some_and(is_word) && !after.is_some_and(is_word)
    })
}

/// Whether a line has a path that starts with the package, as against a module of ours with the same name.
fn names_package(line: &str, package: &str) -> bool {
    line.match_indices(&format!("{package}::")).any(|(at, _)| {
        let before = &line[..at];
        !before.ends_with("::") && !before.chars().next_back().is_some_and(is_word)
    })
}

fn is_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

/// The words that a name is made of, in lower case: `HttpClient` and `http_client` are both of two.
fn parts(name: &str) -> impl Iterator<Item = String> {
    let mut spaced = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() || letter == '_' {
            spaced.push(' ');
        }
        if letter != '_' {
            spaced.extend(letter.to_lowercase());
        }
    }
    spaced.split_whitespace().map(str::to_owned).collect::<Vec<_>>().into_iter()
}

// === reading the tree ===

fn rust() -> Vec<Source> {
    let mut sources = files_below(&["src", "tests"]);
    sources.retain(|source| source.path.ends_with(".rs"));
    assert!(sources.len() > 10, "the tests run in the checkout");
    sources
}

/// The text files below these folders of the checkout, without what git ignores.
fn files_below(folders: &[&str]) -> Vec<Source> {
    const NOT_OURS: [&str; 5] = [".git", ".tools", "target", "Cargo.lock", "proptest-regressions"];
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut sources = Vec::new();
    let mut next: Vec<PathBuf> = folders.iter().map(|folder| root.join(folder)).collect();
    while let Some(path) = next.pop() {
        if path.is_dir() {
            let entries = std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap());
            next.extend(
                entries
                    .filter(|entry| !NOT_OURS.iter().any(|name| entry.file_name() == *name))
                    .map(|entry| entry.path()),
            );
        } else if let Ok(text) = std::fs::read_to_string(&path) {
            let path = path.strip_prefix(root).expect("we started there");
            let path: PathBuf = path.components().filter(|part| part.as_os_str() != ".").collect();
            sources.push(Source { path: path.to_string_lossy().into_owned(), text });
        }
    }
    sources.sort_by(|one, other| one.path.cmp(&other.path));
    sources
}

fn assert_none(complaints: impl IntoIterator<Item = String>) {
    let complaints: Vec<String> = complaints.into_iter().collect();
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}
