//! `tidegate adaptive record` where something is away: who reads, the disk, the listener.

use std::fs::File;
use std::process::Stdio;

use tidegate::control::law::{Admitted, Law, Observation, Recorded, State};
use tokio::time::interval;

use super::*;

/// A new tick ten times a second, for ever.
async fn ticks(records: AnyRecords) {
    let service = &services()[0];
    let law = Law::of(service, Duration::from_secs(5));
    let (mut due, mut known) = (interval(Duration::from_millis(100)), 1);
    loop {
        due.tick().await;
        let now = SystemClock.now();
        let seen = Observation { sample: None, offered: 0.0, admitted: 0.0, admitted_in: Admitted::default() };
        let made_of = Recorded { now, hand: None, scrape: 5.0, state: State::start(&law, now), seen };
        let decision = DecisionRecord { made_of: Some(Box::new(made_of)), ..decided(cut()) };
        let limit = Rate::from_per_second(212.0);
        let update =
            Update { service: "inventory", known, state: "{}", limit, stale: service.stale, decision: &decision };
        if let Ok(Written::Done { generation, .. }) = records.write(Epoch::new(1), &update).await {
            known = generation;
        }
    }
}

/// The recorder of a listener, for so long.
fn recorder(admin: &Admin, lasting: &str) -> Command {
    let url = format!("http://{}", admin.address);
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.args(["adaptive", "record", "inventory", "--for", lasting, "--admin", &url]);
    command
}

/// How a recorder ended whose standard output goes there.
async fn ended(mut command: Command, stdout: Stdio) -> (Option<i32>, String) {
    let child = command.stdout(stdout).stderr(Stdio::piped()).spawn().unwrap();
    let output = tokio::task::spawn_blocking(|| child.wait_with_output()).await.unwrap().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[tokio::test]
async fn what_cannot_be_written_is_an_error_and_said_unless_nobody_reads_any_more() {
    let admin = Admin::start().await;
    let writing = tokio::spawn(ticks(admin.records.clone()));
    let full = File::options().write(true).open("/dev/full").unwrap();
    let (code, told) = ended(recorder(&admin, "10m"), full.into()).await;
    assert_eq!(code, Some(74), "{told}");
    assert!(told.starts_with("tidegate: a line cannot be written: "), "{told}");

    let ask = |act: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.args(["adaptive", "--admin", &format!("http://{}", admin.address)]).args(act);
        command
    };
    let acts: [&[&str]; 3] = [&["status"], &["why", "inventory", "--json"], &["freeze", "inventory", "--reason", "a"]];
    for act in acts {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let (code, told) = ended(ask(act), full.into()).await;
        assert!(code == Some(74) && told.starts_with("tidegate: a line cannot be written: "), "{act:?}: {told}");
    }

    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    assert_eq!(ended(ask(&["status"]), writer.try_clone().unwrap().into()).await, (Some(0), String::new()));
    assert_eq!(ended(recorder(&admin, "10m"), writer.into()).await, (Some(0), String::new()));
    writing.abort();
}

#[tokio::test]
async fn a_recorder_whose_listener_has_gone_says_so_once_and_ends_with_an_error() {
    let admin = Admin::start().await;
    let writing = tokio::spawn(ticks(admin.records.clone()));
    let mut recorder = Process::spawn("the recorder", &mut recorder(&admin, "12s"));
    eventually("a tick is recorded", PATIENCE, async || (!recorder.stdout().is_empty()).then_some(())).await;
    drop(admin);
    let ended = recorder.wait(PATIENCE).await;
    writing.abort();
    assert_eq!(ended.status.code(), Some(69), "{}", ended.stderr);
    let said = "tidegate: nothing is recorded, it is asked again each second: ";
    assert_eq!(ended.stderr.matches(said).count(), 1, "{}", ended.stderr);
}
