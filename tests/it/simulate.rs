//! `tidegate simulate`: the same input gives the same output, a page needs nothing else, and mistakes are told at once.

mod past;

use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

const SCENARIO: &str = "config/simulate/inventory.yaml";

fn simulate(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.arg("simulate").args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap()
}

fn text_of(arguments: &[&str]) -> String {
    let output = simulate(arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_same_seed_gives_the_same_output_in_every_form_and_another_seed_another() {
    let folder = TempDir::new().unwrap();
    let page = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    for form in [&[][..], &["--csv"], &["--json-lines"]] {
        let with = |more: &[&str]| text_of(&[&[SCENARIO], form, more].concat());
        assert_eq!(with(&["--seed", "7", "--html", &page("one")]), with(&["--seed", "7", "--html", &page("two")]));
        assert_ne!(with(&["--seed", "7"]), with(&["--seed", "8"]));
    }
    let read = |name: &str| std::fs::read_to_string(page(name)).unwrap();
    assert_eq!(read("one"), read("two"));
}

#[test]
fn the_page_needs_nothing_from_outside_and_shows_what_the_table_says() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("page.html");
    let table = text_of(&[SCENARIO, "--html", &file.to_string_lossy()]);
    let page = std::fs::read_to_string(&file).unwrap();
    for word in ["http://", "https://", "<script", "<link", "src=", "@import", "url(", "NaN"] {
        assert!(!page.contains(word), "{word}");
    }
    assert_eq!(page.matches("<svg").count(), 3);
    for line in table.lines().filter(|line| line.contains("(cut)")) {
        assert!(page.contains(line), "{line}");
    }
}

#[test]
fn capacity_that_is_lost_is_found_and_every_cut_has_its_numbers() {
    let text = text_of(&[SCENARIO, "--json-lines"]);
    let objects: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let limit = |at: f64| {
        let second =
            objects.iter().filter_map(|object| object.get("second")).find(|second| second["at"] == at).unwrap();
        second["limit"].as_f64().unwrap()
    };
    assert_eq!(limit(299.0), 1_000.0);
    assert!((200.0..=265.0).contains(&limit(580.0)), "{}", limit(580.0));
    let cuts: Vec<&Value> = objects.iter().filter(|object| object["decision"]["action"] == "cut").collect();
    assert!(!cuts.is_empty());
    for cut in cuts {
        let reason = cut["reason"].as_str().unwrap();
        assert!(reason.contains("answers in") && reason.contains("target"), "{reason}");
    }
}

#[test]
fn a_recorded_series_is_replayed_open_loop() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("series.csv");
    let mut text = "time,offered,admitted,answered,failed,slow,latency_sum".to_owned();
    let mut failed = 0;
    for row in 0..200 {
        failed += if (100..120).contains(&row) { 400 } else { 1 };
        let all = row * 2_000;
        text.push_str(&format!("\n{},{all},{all},{all},{failed},0,0", row * 5));
    }
    std::fs::write(&file, text).unwrap();
    let file = file.to_string_lossy();
    let table = text_of(&[SCENARIO, "--replay", &file]);
    assert!(table.contains("the law would set") && table.contains("no longer would the law set"), "{table}");
    let csv = text_of(&[SCENARIO, "--replay", &file, "--csv"]);
    assert!(csv.lines().any(|line| line.contains(",cut,over_target,1000,")), "{csv}");
}

#[test]
fn every_mistake_of_both_files_is_told_with_its_place() {
    let folder = TempDir::new().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_string_lossy().into_owned()
    };
    let scenario = file("s.yaml", "service: { name: inventory }\nplant: { capacity: 1 }\ndemmand: 1/s\n");
    let series = file("s.csv", "time\n");
    let output = simulate(&[&scenario, "--replay", &series]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(78), "{told}");
    for sentence in [
        "service.bounds.max is missing",
        "plant.capacity is \"1\", but must be a rate",
        "demand is missing",
        "demmand is not a key of a scenario; did you mean demand?",
        "s.csv:1: must name the columns time,offered",
    ] {
        assert!(told.contains(sentence), "{sentence}\nis not in\n{told}");
    }
    assert_eq!(simulate(&["no-such-file.yaml"]).status.code(), Some(78));
}

/// A rule file with the service `inventory`.
fn rules(folder: &TempDir, service: &str) -> String {
    let path = folder.path().join("rules.yaml");
    let text = format!(
        "domain: app_edge\ndescriptors:\n  - key: service\n    value: inventory\n    rate_limit: {{ unit: second, \
         requests_per_unit: 100000 }}\nprometheus: {{ url: \"http://127.0.0.1:9\" }}\nservices:\n  - name: inventory\n    \
         governs: [ {{ domain: app_edge, descriptor: [ {{ service: inventory }} ] }} ]\n    \
         signals: {{ preset: envoy, cluster: inventory }}\n{service}"
    );
    std::fs::write(&path, text).unwrap();
    path.to_string_lossy().into_owned()
}

/// The same law as that of the scenario.
const SAME: &str = "    bounds: { min: 50/s, max: 1000/s }\n    scrape_interval: 5s\n    \
                    targets: { errors: 5%, latency: { above: 250ms, at_most: 10% } }\n";

#[test]
fn a_service_of_the_rule_files_is_tried_with_its_own_numbers() {
    let folder = TempDir::new().unwrap();
    let rules = |service: &str| rules(&folder, service);
    let csv = |file: &str, scenario: &[&str]| {
        text_of(&[scenario, &["--csv", "--service", "inventory", "--rules", file]].concat())
    };
    let file = rules(SAME);
    assert_eq!(csv(&file, &[SCENARIO]), text_of(&[SCENARIO, "--csv"]), "the same law makes the same run");
    let table = text_of(&[SCENARIO, "--service", "inventory", "--rules", &file]);
    assert!(table.contains("its mode is observe; here its limit is enforced"), "{table}");
    assert!(table.contains("the service of config/simulate/inventory.yaml is passed over"), "{table}");

    let file = rules(&SAME.replace("max: 1000/s", "max: 300/s"));
    assert_ne!(csv(&file, &[SCENARIO]), text_of(&[SCENARIO, "--csv"]), "a change of bounds shows");
    let table = text_of(&["--service", "inventory", "--rules", &file]);
    assert!(table.contains("the service can do 150/s (half of its max)"), "{table}");
    assert!(table.lines().any(|line| line.contains("(cut)")), "{table}");

    let file = rules(&format!("{SAME}    law: {{ step: 0.3, memory: 30s }}\n"));
    assert_ne!(csv(&file, &[SCENARIO]), text_of(&[SCENARIO, "--csv"]), "and so does one of the law's own numbers");

    let file = rules("    bounds: { max: 300/s }\n");
    let table = text_of(&["--service", "inventory", "--rules", &file]);
    assert!(table.contains("scrape_interval is auto and nothing can be measured here: 15 s are taken"), "{table}");
}

#[test]
fn a_service_that_cannot_be_tried_is_refused_with_the_reason() {
    let folder = TempDir::new().unwrap();
    let file = rules(&folder, SAME);
    let refused = |arguments: &[&str]| {
        let output = simulate(arguments);
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, told) = refused(&["--service", "checkout", "--rules", &file]);
    assert_eq!(code, Some(78), "{told}");
    assert!(told.contains("the rule files have no service \"checkout\"; they have inventory"), "{told}");
    let wrong = rules(&folder, "    bounds: { min: 20/s, max: 10/s }\n");
    let (code, told) = refused(&["--service", "inventory", "--rules", &wrong]);
    assert_eq!(code, Some(78), "{told}");
    assert!(told.contains("the lowest limit 20/s is not below the highest 10/s"), "{told}");
    assert_eq!(refused(&[]).0, Some(64));
    assert_eq!(refused(&[SCENARIO, "--rules", &file]).0, Some(64), "rule files say nothing without a service");
}

#[test]
fn of_a_replayed_service_the_scenario_is_read_too_and_says_how_often_it_is_scraped() {
    let folder = TempDir::new().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_string_lossy().into_owned()
    };
    let rules = rules(&folder, "    bounds: { min: 200/s, max: 300/s }\n");
    let head = "time,offered,admitted,answered,failed,slow,latency_sum";
    let series = file("series.csv", &format!("{head}\n0,0,0,0,0,0,0\n60,6000,6000,6000,0,0,0\n"));
    let asked = ["--service", "inventory", "--rules", &rules, "--replay", &series];
    let assumed = "scrape_interval is auto and nothing can be measured here";
    let without = text_of(&asked);
    assert!(without.contains(assumed) && without.contains("; open loop: what would have been done"), "{without}");
    assert!(without.contains("200/s is more than half of 300/s"), "what rule files are warned of is told: {without}");
    let scenario = std::fs::read_to_string(SCENARIO).unwrap();
    let with = text_of(&[&[file("plant.yaml", &scenario).as_str()], &asked[..]].concat());
    assert!(!with.contains(assumed) && !with.contains("here its limit is enforced"), "{with}");

    // The mistakes of both files, whichever kind of recording it is.
    let wrong = file("wrong.yaml", &format!("{scenario}\nnonsense: 1\n"));
    for (name, text, mistake) in [
        ("wrong.csv", "time", "wrong.csv:1: must name the columns"),
        ("wrong.jsonl", "{}", "wrong.jsonl:1: is no tick as tidegate adaptive record writes it"),
    ] {
        let recorded = file(name, text);
        let output = simulate(&[&wrong, "--service", "inventory", "--rules", &rules, "--replay", &recorded]);
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(78), "{told}");
        assert!(told.contains("nonsense is not a key of a scenario") && told.contains(mistake), "{told}");
    }
}
