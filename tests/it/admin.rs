//! The operators' edge over real sockets, and `tidegate adaptive` as a process of its own. In the controller's place is a
//! task that carries wishes out and publishes what the store then says, over records in memory.

mod record;
mod replicas;

use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use prometheus_client::encoding::text::encode_registry;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tidegate::admin::{self, AdminState};
use tidegate::clock::{Clock, SystemClock, Timestamp};
use tidegate::control::command::commands;
use tidegate::control::law::{Action, Cause, Decision, Judged, Knee};
use tidegate::control::record::{
    AnyRecords, DecisionRecord, Epoch, MemoryRecords, RecordStore, ReplicaId, Update, Written,
};
use tidegate::control::view::{Changes, ControllerView, ServiceView};
use tidegate::counters::memory::{MemoryLimits, MemoryStore};
use tidegate::rate::Rate;
use tidegate::rules::service::{Service, ServiceMode};
use tidegate::rules::{Options, SourceFile, load};
use tidegate::signal::{AbsenceKind, Signal};
use tidegate::web::AdaptiveLimits;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::support::client::{Answer, Http};
use crate::support::process::{Ended, Process};
use crate::support::{PATIENCE, eventually};

const RULES: &str = "\
domain: shop
descriptors:
  - { key: service, value: inventory, rate_limit: { unit: second, requests_per_unit: 900 } }
  - { key: service, value: order, rate_limit: { unit: second, requests_per_unit: 900 } }
prometheus: { url: 'http://127.0.0.1:1' }
services:
  - name: inventory
    mode: enforce
    governs: [ { domain: shop, descriptor: [ { service: inventory } ] } ]
    bounds: { min: 10/s, max: 500/s }
    targets: { errors: 5%, latency: { above: 250ms, at_most: 10% } }
    signals: { preset: envoy, cluster: inventory }
  - name: order
    governs: [ { domain: shop, descriptor: [ { service: order } ] } ]
    bounds: { max: 100/s }
    signals: { preset: envoy, cluster: order }
";

const SENTENCE: &str = "500 → 212/s (cut): 31.2 % errors of 1840 answers in 15 s, target 5 %; completed 224/s";

/// An admin listener; it ends when this is dropped.
struct Admin {
    address: SocketAddr,
    records: AnyRecords,
    view: watch::Receiver<Arc<ControllerView>>,
    _stop: DropGuard,
}

fn services() -> Vec<Arc<Service>> {
    let file = SourceFile { name: "rules.yaml".to_owned(), text: RULES.to_owned() };
    let (rules, _warnings) = load(&[file], &Options::default()).unwrap();
    rules.services().iter().map(|service| Arc::new(service.clone())).collect()
}

fn cut() -> Decision {
    let judged = Judged {
        signal: Signal::Errors,
        ratio: 0.312,
        locally: 0.0,
        lower: 0.28,
        threshold: 0.05,
        normal: 0.0,
        answered: 1_840.0,
        window: 15.0,
        is_bad: true,
    };
    Decision {
        action: Action::Cut,
        cause: Cause::OverTarget,
        from: 500.0,
        to: 212.0,
        wanted: 212.0,
        would: None,
        judged: vec![judged],
        offered: 900.0,
        admitted: 500.0,
        admitted_judged: Some(500.0),
        completed: Some(224.0),
        knee: Some(Knee { rate: 500.0, age: 12.0 }),
        settle_left: Some(13.5),
        absence: None,
    }
}

async fn published(records: &AnyRecords, leads: bool) -> ControllerView {
    let services = services();
    let names: Vec<Arc<str>> = services.iter().map(|service| Arc::clone(&service.name)).collect();
    let poll = records.poll(&names).await.unwrap();
    let views = services.into_iter().zip(poll.services).map(|(service, standing)| ServiceView {
        limit: standing.gate.map_or(service.start, |gate| gate.limit_at(poll.now)),
        generation: standing.gate.map_or(0, |gate| gate.governed.generation),
        rates: None,
        hand: standing.hand,
        last: None,
        changes: Changes::default(),
        service,
    });
    ControllerView {
        at: poll.now,
        replica: ReplicaId::new("here", 1),
        leader: poll.leader,
        epoch: leads.then_some(Epoch::new(1)),
        replicas: poll.replicas,
        trouble: None,
        failed_fetches: vec![(AbsenceKind::TimedOut, 3)],
        services: views.collect(),
    }
}

fn decided(decision: Decision) -> DecisionRecord {
    DecisionRecord {
        at: Timestamp::default(),
        service: "inventory".to_owned(),
        generation: 0,
        epoch: Epoch::new(1),
        mode: ServiceMode::Enforce,
        decision,
        signal_at: Some(SystemClock.now()),
        prospect: "nothing is decided for 13.5 s, until the metrics can show the last change".to_owned(),
        queries: vec!["sum(increase(x[15s]))".to_owned()],
        doubts: vec!["no series of failed answers has been seen yet".to_owned()],
        made_of: None,
    }
}

// === impl Admin ===

impl Admin {
    async fn start() -> Admin {
        let store = Arc::new(MemoryStore::new(SystemClock, MemoryLimits { keys_max: 1_000 }));
        let records = AnyRecords::Memory(Arc::new(MemoryRecords::new(store, b"admin:", ReplicaId::new("here", 1))));
        let decision = decided(cut());
        let stale = services()[0].stale;
        let state = r#"{"limit":212.0}"#;
        let limit = Rate::from_per_second(212.0);
        let update = Update { service: "inventory", known: 0, state, limit, stale, decision: &decision };
        assert!(matches!(records.write(Epoch::new(1), &update).await, Ok(Written::Done { .. })));

        let (publish, view) = watch::channel(Arc::new(published(&records, true).await));
        let (commands, mut wishes) = commands();
        let stop = CancellationToken::new();
        let controlled = records.clone();
        tokio::spawn(async move {
            while let Some(wish) = wishes.recv().await {
                wish.carry_out(&controlled).await;
                publish.send_replace(Arc::new(published(&controlled, true).await));
            }
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = AdminState::new(view.clone(), commands, records.clone(), "127.0.0.1");
        tokio::spawn(admin::serve(listener, state, PATIENCE, stop.clone()));
        Admin { address, records, view, _stop: stop.drop_guard() }
    }

    async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in [("host", "127.0.0.1")].iter().chain(headers) {
            request = request.header(*name, *value);
        }
        Http::new(self.address).send(request.body(body.into()).unwrap()).await.unwrap()
    }

    async fn get(&self, path: &str) -> Value {
        let answer = self.send(Method::GET, path, &[], "").await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {}", answer.text());
        answer.json()
    }

    async fn post(&self, path: &str, body: impl Into<Bytes>) -> (u16, Value) {
        let answer = self.send(Method::POST, path, &[("content-type", "application/json")], body).await;
        (answer.status.as_u16(), answer.json())
    }

    /// What `tidegate adaptive` does with these words.
    async fn tidegate(&self, words: &[&str]) -> Ended {
        let url = format!("http://{}", self.address);
        tidegate(&[words, &["--admin", &url]].concat()).await
    }
}

async fn tidegate(words: &[&str]) -> Ended {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.arg("adaptive").args(words).env("USER", "ada");
    Process::spawn("tidegate adaptive", &mut command).wait(PATIENCE).await
}

fn errors(told: &Value) -> Vec<&str> {
    told["errors"].as_array().expect("a list of sentences").iter().map(|error| error.as_str().unwrap()).collect()
}

// === the pages ===

#[tokio::test]
async fn every_service_is_listed_with_its_limit_and_the_reason() {
    let told = Admin::start().await.get("/adaptive").await;
    assert_eq!((&told["leads"], &told["replicas"]), (&json!(true), &json!(1)));
    assert_eq!(told["failed_fetches"]["timed_out"], 3);
    let [inventory, order] = &told["services"].as_array().unwrap()[..] else { panic!("{told}") };
    assert_eq!((&inventory["name"], &inventory["mode"]), (&json!("inventory"), &json!("enforce")));
    assert_eq!(
        (&inventory["limit"], &inventory["min"], &inventory["max"]),
        (&json!(212.0), &json!(10.0), &json!(500.0))
    );
    assert_eq!(inventory["last"]["sentence"], SENTENCE, "the store remembers what this replica doesn't");
    assert!(inventory["last"]["signal_age_s"].as_f64().unwrap() < 60.0);
    assert_eq!((&order["limit"], &order["last"], &order["hand"]), (&json!(100.0), &json!(null), &json!(null)));
}

#[tokio::test]
async fn a_service_has_everything_that_led_to_its_limit() {
    let told = Admin::start().await.get("/adaptive/inventory").await;
    assert_eq!(told["state"], json!({ "limit": 212.0 }));
    assert_eq!(told["prospect"], "nothing is decided for 13.5 s, until the metrics can show the last change");
    assert_eq!(told["signals"][0]["threshold"], 0.05);
    assert_eq!(told["knee"], json!({ "rate": 500.0, "age_s": 12.0 }));
    assert_eq!((&told["settle_left_s"], &told["epoch"]), (&json!(13.5), &json!(1)));
    assert_eq!(told["targets"]["latency"], json!({ "above_s": 0.25, "at_most": 0.1 }));
    assert_eq!(told["queries"], json!(["sum(increase(x[15s]))"]));
    for entries in ["changes", "ticks"] {
        let entry = &told[entries][0];
        assert_eq!((&entry["what"], &entry["sentence"]), (&json!("decided"), &json!(SENTENCE)));
        assert_eq!((&entry["from"], &entry["to"], &entry["errors"]), (&json!(500.0), &json!(212.0), &json!(0.312)));
    }
    assert!(told["place"].as_str().unwrap().starts_with("rules.yaml:"));
}

#[tokio::test]
async fn the_page_is_whole_and_may_load_nothing_from_elsewhere() {
    let answer = Admin::start().await.send(Method::GET, "/", &[], "").await;
    let page = answer.text();
    assert_eq!(answer.status, StatusCode::OK);
    assert!(answer.header("content-security-policy").starts_with("default-src 'none'"));
    assert!(page.contains("</html>"));
    let addresses: Vec<&str> = page.split('"').filter(|text| text.starts_with("http")).collect();
    assert_eq!(addresses, ["http://www.w3.org/2000/svg"], "a name, not an address");
}

#[tokio::test]
async fn what_is_not_there_is_said() {
    let admin = Admin::start().await;
    for (method, path, status, sentence) in [
        (Method::GET, "/adaptive/nobody", 404, "no adaptive service is called \"nobody\"; there are inventory, order"),
        (Method::GET, "/nothing", 404, "there is nothing here; try / or /adaptive"),
        (Method::POST, "/adaptive/inventory/melt", 404, "the acts are freeze, override, resume, reset"),
        (Method::POST, "/adaptive/nobody/freeze", 404, "no adaptive service is called \"nobody\""),
    ] {
        let answer = admin.send(method, path, &[("content-type", "application/json")], "{}").await;
        assert_eq!(answer.status.as_u16(), status, "{path}");
        assert!(errors(&answer.json())[0].contains(sentence), "{path}: {}", answer.text());
    }
    let answer = admin.send(Method::GET, "/adaptive/inventory/freeze", &[], "").await;
    assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
}

// === the hand ===

#[tokio::test]
async fn a_hand_is_laid_shown_and_taken_off() {
    let admin = Admin::start().await;
    let wish = r#"{"reason":"the shop moves","by":"ada","for":"30m","limit":"90/s"}"#;
    let (status, told) = admin.post("/adaptive/inventory/override", wish).await;
    assert_eq!((status, &told["sentence"]), (200, &json!("inventory: set to 90/s by ada: the shop moves; for 30m")));
    eventually("the page shows it", PATIENCE, async || {
        let told = admin.get("/adaptive/inventory").await;
        (told["hand"]["limit"] == 90.0 && told["changes"][0]["what"] == "laid").then_some(())
    })
    .await;
    let (status, told) = admin.post("/adaptive/inventory/resume", "").await;
    assert_eq!((status, &told["lifted"]), (200, &json!(true)));
    let (_, told) = admin.post("/adaptive/inventory/resume", "{}").await;
    assert_eq!(told["sentence"], "inventory: there was no hand on it");
    let (status, told) = admin.post("/adaptive/inventory/reset", r#"{"by":"ada"}"#).await;
    assert_eq!((status, &told["reset"]), (200, &json!(true)));
    assert_eq!(admin.records.load("inventory").await.unwrap(), None);
    assert_eq!(admin.get("/adaptive/inventory").await["changes"][0]["sentence"], "forgotten by ada: no reason given");
}

#[tokio::test]
async fn a_wrong_wish_changes_nothing_and_is_told_in_sentences() {
    let admin = Admin::start().await;
    for (act, body, status, expected) in [
        ("freeze", "{}", 400, &["a reason is missing"][..]),
        ("freeze", "", 400, &["a reason is missing"]),
        ("freeze", "{", 400, &["the body can't be read"]),
        ("freeze", "[]", 400, &["the body can't be read"]),
        ("freeze", r#"{"reason":"a","until":"b"}"#, 400, &["unknown field `until`"]),
        ("override", r#"{"reason":"a","limit":"900/s"}"#, 400, &["outside the bounds 10/s to 500/s; force"]),
        ("override", r#"{"limit":"x","for":"90d"}"#, 400, &["\"for\" must be", "\"limit\" must be", "a reason"]),
        ("override", r#"{"reason":"a"}"#, 400, &["\"limit\" is missing"]),
        ("reset", r#"{"limit":"9/s"}"#, 400, &["reset takes no \"limit\""]),
    ] {
        let (told_status, told) = admin.post(&format!("/adaptive/inventory/{act}"), body).await;
        let sentences = errors(&told);
        assert_eq!((told_status, sentences.len()), (status, expected.len()), "{act} {body}: {told}");
        for (sentence, part) in sentences.iter().zip(expected) {
            assert!(sentence.contains(part), "{act} {body}: {sentence}");
        }
    }
    let (status, _) = admin.post("/adaptive/inventory/freeze", vec![b' '; 20 << 10]).await;
    assert_eq!(status, 413);
    assert_eq!(admin.records.remembered("inventory").await.unwrap().changes.len(), 1, "only the decision");
}

#[tokio::test]
async fn a_web_page_can_neither_act_nor_read_under_a_name_of_its_own() {
    let admin = Admin::start().await;
    let wish = r#"{"reason":"a"}"#;
    let json = ("content-type", "application/json");
    for (headers, status) in
        [(&[json, ("origin", "http://evil.example")][..], 403), (&[("content-type", "text/plain")], 415), (&[], 415)]
    {
        let answer = admin.send(Method::POST, "/adaptive/inventory/freeze", headers, wish).await;
        assert_eq!(answer.status.as_u16(), status, "{headers:?}");
        assert_eq!(errors(&answer.json()).len(), 1);
    }
    let rebound = Request::get("/adaptive").header("host", "evil.example").body(Bytes::new()).unwrap();
    assert_eq!(Http::new(admin.address).send(rebound).await.unwrap().status, StatusCode::MISDIRECTED_REQUEST);
    let (status, _) = admin.post("/adaptive/inventory/resume", "").await;
    assert_eq!(status, 200);
    assert_eq!(admin.records.remembered("inventory").await.unwrap().changes.len(), 1, "no hand was laid");
}

// === the command line ===

#[tokio::test]
async fn the_command_line_says_it_in_sentences() {
    let admin = Admin::start().await;
    let status = admin.tidegate(&["status"]).await;
    assert!(status.status.success(), "{}", status.stderr);
    assert!(status.stdout.contains("inventory: 212/s (enforce, 10/s to 500/s)"), "{}", status.stdout);
    assert!(status.stdout.contains(SENTENCE), "{}", status.stdout);

    let frozen = admin.tidegate(&["freeze", "inventory", "--reason", "the shop moves", "--for", "10m"]).await;
    assert_eq!(frozen.stdout, "inventory: frozen by ada: the shop moves; for 10m\n", "{}", frozen.stderr);
    let why = admin.tidegate(&["why", "inventory"]).await.stdout;
    for part in [
        "for the limit to rise: nothing is decided for 13.5 s",
        "errors: 31.2 % of 1840 answers in 15 s; threshold 5.0 %, normal 0.0 %; over for certain",
        "it went badly at 500/s, 12 s ago",
        "ago: frozen by ada: the shop moves; for 10m",
        "sum(increase(x[15s]))",
        "note: no series of failed answers has been seen yet",
    ] {
        assert!(why.contains(part), "{part} is missing: {why}");
    }
    let told: Value = serde_json::from_str(&admin.tidegate(&["status", "--json"]).await.stdout).unwrap();
    assert_eq!(told["services"][0]["name"], "inventory");
    assert_eq!(admin.tidegate(&["resume", "inventory"]).await.stdout, "inventory: the hand is off, the law goes on\n");
    assert!(admin.tidegate(&["reset", "inventory"]).await.stdout.contains("the limit starts anew"));
}

#[tokio::test]
async fn the_command_line_ends_with_the_code_of_what_went_wrong() {
    let admin = Admin::start().await;
    let outside = ["override", "inventory", "900/s", "--reason", "a"];
    for (words, code, sentence) in [
        (&outside[..], 64, "900/s is outside the bounds 10/s to 500/s; force sets it all the same"),
        (&["why", "nobody"], 64, "no adaptive service is called \"nobody\""),
        (&["why", "../adaptive"], 64, "a service is called by 1 to 63 of a-z, 0-9, _ and -"),
    ] {
        let ended = admin.tidegate(words).await;
        assert_eq!(ended.status.code(), Some(code), "{words:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(sentence), "{words:?}: {}", ended.stderr);
    }
    let forced = admin.tidegate(&[&outside[..], &["--force"]].concat()).await;
    assert!(forced.status.success(), "{}", forced.stderr);
    let nobody = tidegate(&["status", "--admin", "127.0.0.1:1"]).await;
    assert_eq!(nobody.status.code(), Some(69));
    assert!(nobody.stderr.contains("nobody answers at 127.0.0.1:1"), "{}", nobody.stderr);
    assert_eq!(tidegate(&["status", "--admin", "https://a:1"]).await.status.code(), Some(64));
}

// === the metrics ===

fn metrics(view: ControllerView) -> String {
    let (_publish, view) = watch::channel(Arc::new(view));
    let mut registry = Registry::default();
    registry.register_collector(Box::new(AdaptiveLimits::new(view)));
    let mut text = String::new();
    encode_registry(&mut text, &registry).unwrap();
    text
}

#[tokio::test]
async fn metrics_say_what_the_pages_say_and_only_the_leader_what_it_judged() {
    let admin = Admin::start().await;
    let mut view = (*admin.view.borrow().clone()).clone();
    let mut last = decided(cut());
    last.signal_at = Some(Timestamp::from_millis(view.at.as_millis() - 4_000));
    view.services[0].last = Some(Arc::new(last));
    view.services[0].changes.count(Action::Cut);
    let leader = metrics(view.clone());
    for line in [
        "tidegate_adaptive_limit{service=\"inventory\"} 212.0",
        "tidegate_adaptive_bound{service=\"inventory\",bound=\"max\"} 500.0",
        "tidegate_adaptive_signal{service=\"inventory\",signal=\"errors\"} 0.312",
        "tidegate_adaptive_threshold{service=\"inventory\",signal=\"errors\"} 0.05",
        "tidegate_adaptive_target{service=\"inventory\",signal=\"latency\"} 0.1",
        "tidegate_adaptive_knee{service=\"inventory\"} 500.0",
        "tidegate_adaptive_signal_age_seconds{service=\"inventory\"} 4.0",
        "tidegate_adaptive_mode{service=\"order\",mode=\"observe\"} 1.0",
        "tidegate_adaptive_override{service=\"order\"} 0.0",
        "tidegate_adaptive_changes_total{service=\"inventory\",action=\"cut\"} 1.0",
        "tidegate_adaptive_fetch_failures_total{kind=\"timed_out\"} 3",
        "tidegate_adaptive_leader 1",
    ] {
        assert!(leader.lines().any(|told| told == line), "{line} is missing:\n{leader}");
    }
    view.epoch = None;
    let follower = metrics(view.clone());
    assert!(follower.contains("tidegate_adaptive_limit{") && follower.contains("tidegate_adaptive_leader 0"));
    assert!(!follower.contains("tidegate_adaptive_signal"), "{follower}");
    view.services.clear();
    assert_eq!(metrics(view), "", "without adaptive services there are no such metrics");
}
