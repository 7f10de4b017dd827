//! What was recorded of a run with real parts gives the recorded decisions again.

use tempfile::TempDir;
use tokio::process::Command;

use super::shop::{PATIENCE, Plan, Shop};
use super::{limit_comes_below, serves_without_overload};
use crate::support::eventually;
use crate::support::proxy::Kind;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recording_of_a_run_is_replayed_to_the_same_decisions() {
    let plan = Plan::overload(Kind::Bundled);
    let Some(shop) = Shop::open(&plan).await else { return };
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let admin = shop.tidegates[0].admin_address().to_string();
    let mut recorder = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    recorder.args(["adaptive", "record", "inventory", "--for", "10m", "--admin", &admin]);
    let recorder = recorder.stdout(std::fs::File::create(path("ticks")).unwrap()).kill_on_drop(true).spawn().unwrap();
    limit_comes_below(&shop, plan.offered).await;
    serves_without_overload(&shop, 100).await;
    let lines = eventually("a cut and a raise are recorded", PATIENCE, async || {
        let text = std::fs::read_to_string(path("ticks")).unwrap();
        // What follows the last line break is still being written.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]).to_owned();
        (whole.contains("\"action\":\"cut\"") && whole.contains("\"action\":\"raise\"")).then_some(whole)
    })
    .await;
    drop(recorder);
    std::fs::write(path("recording"), &lines).unwrap();
    let rules = std::fs::read_to_string("config/rules/adaptive.yaml").unwrap();
    let replayed = async |rules: &str| {
        std::fs::write(path("rules.yaml"), rules).unwrap();
        let (rules, recording) = (path("rules.yaml"), path("recording"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.args(["simulate", "--service", "inventory", "--rules", &rules, "--replay", &recording]);
        let output = command.output().await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let same = replayed(&rules).await;
    assert!(same.contains("each decision is as it was recorded") && !same.contains("begins anew"), "{same}");
    assert!(
        same.contains(&format!("inventory, {} decisions", lines.lines().count())) && same.contains("(cut)"),
        "{same}"
    );
    let other = replayed(&rules.replace("max: 400/s", "max: 300/s")).await;
    assert!(other.contains("this is not the law of the recording"), "{other}");
}
