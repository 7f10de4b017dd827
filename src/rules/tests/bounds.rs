//! What a rule file may not be, however it is written; and reading files from disk.

use std::fs;
use std::path::Path;

use super::super::yaml::{BYTES_MAX, DEPTH_MAX};
use super::*;

#[test]
fn a_file_that_nests_too_deep_is_a_sentence() {
    let deep = format!("domain: d\nvalue: {}", "[{key: ".repeat(DEPTH_MAX));
    assert!(mistakes(&deep).contains("maps and lists nest more than 100 deep"));
    // The parser has a bound of its own for brackets.
    assert!(mistakes(&"[".repeat(100_000)).contains("recursion limit exceeded"));
    assert!(mistakes(&"- ".repeat(100_000)).contains("nest more than"));
}

#[test]
fn aliases_of_aliases_are_a_sentence_before_they_fill_the_memory() {
    let mut text = "domain: d\nvalue: &a0 [{key: x}, {key: y}]\n".to_owned();
    for level in 1..40 {
        text.push_str(&format!("value: &a{level} [{{value: *a{0}}}, {{value: *a{0}}}]\n", level - 1));
    }
    assert!(mistakes(&text).contains("more than 2000000 values after its aliases are expanded"));
}

#[test]
fn an_anchor_inside_itself_is_a_sentence() {
    assert!(mistakes("domain: d\nmetadata: &a {x: *a}\n").contains("an anchor's value contains itself"));
}

#[test]
fn a_file_that_is_too_long_is_a_sentence() {
    let long = format!("domain: d\n#{}", " ".repeat(BYTES_MAX));
    assert!(mistakes(&long).contains("at most 16777216 are read"));
}

#[test]
fn a_long_value_is_shortened_in_a_sentence() {
    let text = format!("domain: d\ndescriptors: [{{key: a, rate_limit: {{unit: {}}}}}]", "x".repeat(100_000));
    assert!(mistakes(&text).len() < 500);
}

fn write(root: &Path, name: &str, text: &str) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// The names that are read, and the warnings, relative to `root`.
fn read(root: &Path) -> (Vec<String>, Vec<String>) {
    let Sources { files, report } = read_sources(&[root.to_path_buf()]);
    assert!(report.mistakes().is_empty(), "{report:?}");
    let strip = |text: String| text.replace(&format!("{}/", root.display()), "");
    let names = files.into_iter().map(|file| strip(file.name)).collect();
    (names, report.warnings().iter().map(|warning| strip(warning.to_string())).collect())
}

#[test]
fn a_directory_is_read_in_the_order_of_names_and_rules_only() {
    let root = tempfile::tempdir().unwrap();
    for name in ["b.yaml", "a.yml", "c/x.yaml", "README.md", ".hidden.yaml", ".git/x.yaml", "a.yaml~"] {
        write(root.path(), name, "domain: d");
    }
    let (names, warnings) = read(root.path());
    assert_eq!(names, ["a.yml", "b.yaml", "c/x.yaml"]);
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert_eq!(warnings[0], "README.md: not read: only files that end in .yaml or .yml are rules");
}

#[test]
#[cfg(unix)]
fn a_config_map_s_links_are_read_once() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "..2024_01_31/rules.yaml", "domain: d");
    std::os::unix::fs::symlink("..2024_01_31", root.path().join("..data")).unwrap();
    std::os::unix::fs::symlink("..data/rules.yaml", root.path().join("rules.yaml")).unwrap();
    assert_eq!(read(root.path()), (vec!["rules.yaml".to_owned()], vec![]));
}

#[test]
#[cfg(unix)]
fn a_link_in_a_circle_is_not_followed() {
    let root = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(root.path(), root.path().join("circle")).unwrap();
    let (names, warnings) = read(root.path());
    assert!(
        names.is_empty() && warnings[0].starts_with("circle: a link to a directory is not followed"),
        "{warnings:?}"
    );
}

#[test]
fn a_file_that_is_named_is_read_whatever_its_ending() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "rules.conf", "domain: d");
    let sources = read_sources(&[root.path().join("rules.conf")]);
    assert_eq!(sources.files[0].text, "domain: d");
    assert!(sources.load(&Options::default()).unwrap().1.is_empty());
}

#[test]
fn an_empty_directory_is_a_configuration_without_rules_and_is_warned_of() {
    let root = tempfile::tempdir().unwrap();
    let (rules, warnings) = read_sources(&[root.path().to_path_buf()]).load(&Options::default()).unwrap();
    let warning = warnings[0].to_string();
    let expected = format!("{}: no rule files (.yaml, .yml) in this directory", root.path().display());
    assert!(warning.starts_with(&expected), "{warning}");
    assert!(rules.is_empty());
}

#[test]
fn what_cannot_be_read_is_all_reported() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("bytes.yaml"), b"domain: d\nkey: \xff").unwrap();
    write(root.path(), "bad.yaml", "domain: d\nzzz: 1\ndescriptors: [{}]\n");
    let missing = root.path().join("missing");
    let errors = read_sources(&[missing, root.path().to_path_buf()]).load(&Options::default()).unwrap_err().to_string();
    assert!(errors.starts_with("4 mistakes in 3 files:\n"), "{errors}");
    assert!(errors.contains("unknown key 'zzz'"), "{errors}");
    assert!(errors.contains("missing: cannot be read: "), "{errors}");
    assert!(errors.contains("bytes.yaml:2:1: a byte that is not UTF-8"), "{errors}");
}
