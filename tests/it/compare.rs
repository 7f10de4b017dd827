//! `tidegate-bench compare`: that a whole run, however short, leaves nothing out and nothing behind. What it measures
//! is no matter here.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tidegate::bench::compare::plan::{Scale, Section};
use tidegate::bench::compare::targets::TARGETS;

use crate::support::process::{Ended, Process};
use crate::support::redis::Redis;
use crate::support::{PATIENCE, eventually};

/// A run starts a dozen servers one after the other, in a build without optimisation.
const RUN_PATIENCE: Duration = Duration::from_secs(600);

fn compare(arguments: &[&str], folder: &Path) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate-bench"));
    command.arg("compare").args(["--server", env!("CARGO_BIN_EXE_tidegate")]).args(arguments);
    command.env("TMPDIR", folder).current_dir(folder);
    Process::spawn("tidegate-bench compare", &mut command)
}

async fn run(arguments: &[&str], folder: &Path) -> Ended {
    compare(arguments, folder).wait(RUN_PATIENCE).await
}

/// (section, case) of everything that was measured.
fn cases(results: &Value) -> BTreeSet<(String, String)> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let of_section = |section: &Value| {
        let name = text(&section["name"]);
        let measured =
            |case: &Value| list(&case["rounds"]).iter().all(|round| round["load"]["answered"].as_u64() > Some(0));
        let cases = list(&section["cases"]).into_iter().filter(measured);
        cases.map(move |case| (name.clone(), text(&case["name"]))).collect::<Vec<_>>()
    };
    list(&results["sections"]).iter().flat_map(of_section).collect()
}

#[tokio::test]
async fn a_run_measures_every_case_and_writes_its_files() {
    if Redis::stopped().is_none() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let ended = run(&["--smoke", "--output", "docs/report.md", "--json", "all.json"], folder.path()).await;
    assert!(ended.status.success(), "{}", ended.stderr);

    let json = std::fs::read_to_string(folder.path().join("all.json")).unwrap();
    let results: Value = serde_json::from_str(&json).unwrap();
    let planned: BTreeSet<(String, String)> = Section::all(&Scale::smoke(), false)
        .iter()
        .flat_map(|section| section.cases.iter().map(|case| (section.name.to_owned(), case.name.to_owned())))
        .collect();
    assert_eq!(cases(&results), planned);
    let stores: Vec<&Value> = results["bytes"].as_array().unwrap().iter().map(|bytes| &bytes["store"]).collect();
    assert_eq!(stores, ["redis", "redis", "memory", "memory"]);
    assert_eq!(results["script"].as_array().unwrap().len(), 12);
    let judged = results["targets"].as_array().unwrap();
    assert_eq!(judged.len(), TARGETS.len());

    let report = std::fs::read_to_string(folder.path().join("docs/report.md")).unwrap();
    for (section, _) in &planned {
        assert!(report.contains(&format!("(`{section}`)")), "{section} is missing in:\n{report}");
    }
    let judged_as_text = judged.iter().map(|judged| judged["what"].as_str().unwrap());
    for what in judged_as_text {
        assert!(report.contains(what) && ended.stdout.contains(what), "{what} is missing");
    }
    assert!(left_behind(folder.path()).is_empty(), "{:?}", left_behind(folder.path()));
}

/// What a run has put into the folder for temporary files and not removed.
fn left_behind(folder: &Path) -> Vec<String> {
    let names =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    names.filter(|name| name.starts_with("tidegate-")).collect()
}

/// The ids of all processes whose command line names something in that folder, but for the run's own.
fn processes_of(folder: &Path, run: u32) -> Vec<u32> {
    let folder = folder.to_string_lossy().into_owned();
    let ids =
        std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let names_it = |id: &u32| {
        let read = |what: &str| std::fs::read(format!("/proc/{id}/{what}")).unwrap_or_default();
        let text = [read("cmdline"), read("environ")].concat();
        *id != run && String::from_utf8_lossy(&text).contains(&folder)
    };
    ids.filter(names_it).collect()
}

#[tokio::test]
async fn a_run_that_is_interrupted_ends_everything_that_it_started() {
    if Redis::stopped().is_none() {
        return;
    }
    let folder = TempDir::new().unwrap();
    let mut process = compare(&["--only", "throughput", "--rounds", "50"], folder.path());
    let id = process.id();
    // Redis, Tidegate over it, and the load on them.
    eventually("several processes run", PATIENCE, async || (processes_of(folder.path(), id).len() >= 3).then_some(()))
        .await;
    process.terminate();
    let ended = process.wait(PATIENCE).await;
    assert!(!ended.status.success() && ended.stderr.contains("interrupted"), "{}: {}", ended.status, ended.stderr);
    assert_eq!(processes_of(folder.path(), id), [0; 0]);
    assert!(left_behind(folder.path()).is_empty(), "{:?}", left_behind(folder.path()));
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named_with_what_would_make_it() {
    let folder = TempDir::new().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate-bench"));
    command.args(["compare", "--only", "bytes", "--server", "no/tidegate"]).current_dir(folder.path());
    let ended = Process::spawn("tidegate-bench compare", &mut command).wait(PATIENCE).await;
    assert!(!ended.status.success());
    assert!(ended.stderr.contains("no/tidegate") && ended.stderr.contains("cargo build"), "{}", ended.stderr);
}
