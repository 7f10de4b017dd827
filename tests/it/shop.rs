//! The shop alone, without a proxy between its services.

use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use bytes::Bytes;
use http::{Request, StatusCode};
use serde_json::{Value, json};
use tidegate::demo::ports::HeldPort;
use tidegate::shop::inventory::{Inventory, LivePlant};
use tidegate::shop::plant::PlantSettings;
use tidegate::shop::{inventory, order, user};

use crate::support::client::{Answer, Http};
use crate::support::process::Process;
use crate::support::shop::{Door, Service};
use crate::support::{PATIENCE, eventually, program};

fn plant(fields: &Value) -> LivePlant {
    LivePlant::new(PlantSettings::default().changed(fields).unwrap(), 1)
}

async fn well() -> Service {
    Door::open().await.inventory(&Inventory::Capacity(plant(&json!({ "service_time_ms": 1 }))))
}

/// How one of several requests that were sent at the same time was answered.
async fn statuses(http: Http, path: &str, count: usize) -> Vec<StatusCode> {
    let requests = (0..count).map(|_| http.get(path));
    futures_util::future::join_all(requests).await.iter().map(|answer| answer.status).collect()
}

async fn put(http: Http, body: &str) -> Answer {
    let request = Request::put("/plant").body(Bytes::from(body.to_owned())).unwrap();
    http.send(request).await.unwrap()
}

// === the story's path ===

#[tokio::test]
async fn an_order_needs_its_user_and_its_item() {
    let (user, inventory) = (Door::open().await.user(), well().await);
    let order = Door::open().await.order(user.address, inventory.address);
    let answer = order.http().get("/orders/create/ann%20b/a%2Fb").await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
    let expected =
        json!({ "user": { "id": "ann b", "name": "user ann b" }, "item": { "id": "a/b", "in_stock": true } });
    assert_eq!(answer.json()["order"], expected);
    let counts = [(&user, user::PATH), (&inventory, inventory::PATH), (&order, order::PATH)];
    assert_eq!(counts.map(|(service, path)| service.traffic.answered(path, 200)), [1, 1, 1]);
}

#[tokio::test]
async fn an_order_is_504_when_one_of_them_fails_and_says_which_and_why() {
    let user = Door::open().await.user();
    let full = Inventory::Capacity(plant(&json!({ "workers": 1, "queue_max": 0, "service_time_ms": 60_000 })));
    let inventory = Door::open().await.inventory(&full);
    let order = Door::open().await.order(user.address, inventory.address);
    let (holder, http) = (inventory.http(), order.http());
    let holding = tokio::spawn(async move { holder.get("/inventory/1").await });
    is_in_service(&inventory).await;
    let refused = eventually("an order asks both in time", PATIENCE, async || {
        let answer = http.get("/orders/create/1/2").await;
        (answer.json()["error"]["status"] == 503).then_some(answer)
    })
    .await;
    assert_eq!(refused.status, StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(refused.json()["error"]["service"], "inventory");
    assert!(refused.json()["error"]["reason"].as_str().unwrap().contains("overloaded"));
    holding.abort();
}

#[tokio::test]
async fn an_order_waits_two_seconds_for_each_and_survives_who_is_not_there() {
    let user = Door::open().await.user();
    let slow = Inventory::Capacity(plant(&json!({ "service_time_ms": 60_000 })));
    let inventory = Door::open().await.inventory(&slow);
    let order = Door::open().await.order(user.address, inventory.address);
    // The user is asked first, and is late only on a machine that is held up.
    let late = eventually("the user is there in time", PATIENCE, async || {
        let late = order.http().get("/orders/create/1/2").await;
        assert_eq!(late.status, StatusCode::GATEWAY_TIMEOUT);
        (late.json()["error"]["service"] != "user").then_some(late)
    })
    .await;
    let error = json!({ "service": "inventory", "status": null, "reason": "no answer within 2 s" });
    assert_eq!(late.json()["error"], error);

    let nobody = HeldPort::any().unwrap();
    let order = Door::open().await.order(nobody.address(), inventory.address);
    let gone = order.http().get("/orders/create/1/2").await;
    assert_eq!((gone.status, &gone.json()["error"]["service"]), (StatusCode::GATEWAY_TIMEOUT, &json!("user")));
}

// === how the inventory fails ===

#[tokio::test]
async fn a_plant_serves_as_many_as_it_has_places_and_refuses_the_others_at_once() {
    let settings = json!({ "workers": 2, "queue_max": 3, "service_time_ms": 300 });
    let inventory = Door::open().await.inventory(&Inventory::Capacity(plant(&settings)));
    let statuses = statuses(inventory.http(), "/inventory/1", 40).await;
    let served = statuses.iter().filter(|status| **status == StatusCode::OK).count();
    // On a busy machine some may come when the first have been served.
    assert!((5..40).contains(&served), "{statuses:?}");
    assert!(statuses.iter().all(|status| [200, 503].contains(&status.as_u16())), "{statuses:?}");
    assert_eq!(inventory.traffic.answered(inventory::PATH, 503), 40 - served as u64);
}

#[tokio::test]
async fn a_plant_is_read_and_changed_while_it_works() {
    let plant = plant(&json!({ "workers": 1, "queue_max": 10, "service_time_ms": 60_000 }));
    let inventory = Door::open().await.inventory(&Inventory::Capacity(plant.clone()));
    let control = Door::open().await.control(&plant);
    let waiting: Vec<_> = (0..2)
        .map(|_| {
            let http = inventory.http();
            tokio::spawn(async move { http.get("/inventory/1").await.status })
        })
        .collect();
    eventually("one is in service and one waits", PATIENCE, async || {
        let now = control.http().get("/plant").await.json();
        (now["in_service"] == 1 && now["queued"] == 1).then_some(())
    })
    .await;

    let changed = put(control.http(), r#"{ "workers": 2, "service_time_ms": 1, "error_ratio": 1 }"#).await;
    assert_eq!(changed.status, StatusCode::OK);
    assert_eq!(changed.json()["capacity"], 2_000.0);
    assert_eq!(changed.json()["settings"]["queue_max"], 10, "what is not named stays");
    eventually("the one that waited is served by the new worker", PATIENCE, async || {
        waiting.iter().any(tokio::task::JoinHandle::is_finished).then_some(())
    })
    .await;
    assert_eq!(inventory.http().get("/inventory/1").await.status, StatusCode::INTERNAL_SERVER_ERROR);
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn bad_values_for_a_plant_are_answered_with_every_mistake_and_change_nothing() {
    let plant = plant(&json!({}));
    let control = Door::open().await.control(&plant);
    let before = control.http().get("/plant").await.json();
    let refused = put(control.http(), r#"{ "workers": 0, "queue_max": 5, "error_ratio": "all", "speed": 1 }"#).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    assert_eq!(refused.json()["errors"].as_array().unwrap().len(), 3, "{}", refused.text());
    for body in ["", "{", "[]", "null", &" ".repeat(20_000)] {
        assert_eq!(put(control.http(), body).await.status, StatusCode::BAD_REQUEST, "{:?}", body.get(..5));
    }
    assert_eq!(control.http().get("/plant").await.json(), before);
    assert_eq!(control.http().post("/plant", "{}").await.status, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn a_counted_inventory_has_the_same_luck_with_the_same_seed() {
    let mut runs = Vec::new();
    for _ in 0..2 {
        let inventory = Door::open().await.inventory(&Inventory::counted(7));
        let mut codes = Vec::new();
        for _ in 0..30 {
            codes.push(inventory.http().get("/inventory/1").await.status.as_u16());
        }
        assert_eq!((codes[5..15].to_vec(), codes[20..30].to_vec()), (vec![503; 10], vec![503; 10]));
        assert!(codes[..5].contains(&200));
        runs.push(codes);
    }
    assert_eq!(runs[0], runs[1]);
}

// === what each service has ===

#[tokio::test]
async fn metrics_have_the_conventional_names_and_no_label_that_a_caller_chose() {
    let inventory = well().await;
    let http = inventory.http();
    assert_eq!(http.get("/healthz").await.status, StatusCode::OK);
    for path in ["/inventory/7", "/inventory/8", "/nothing/here", "/inventory"] {
        http.get(path).await;
    }
    http.post("/inventory/7", "{}").await;
    let odd = Request::builder().method("BREW").uri("/inventory/7").body(Bytes::new()).unwrap();
    http.send(odd).await.unwrap();
    let text = http.get("/metrics").await.text();
    for line in [
        "http_requests_total{method=\"GET\",path=\"/inventory/{id}\",code=\"200\"} 2",
        "http_requests_total{method=\"POST\",path=\"/inventory/{id}\",code=\"405\"} 1",
        "http_requests_total{method=\"other\",path=\"/inventory/{id}\",code=\"405\"} 1",
        "http_requests_total{method=\"GET\",path=\"other\",code=\"404\"} 2",
        "http_request_duration_seconds_count{method=\"GET\",path=\"/inventory/{id}\"} 2",
        "shop_plant_in_service 0",
        "shop_plant_queued 0",
        "shop_plant_workers 4",
        "shop_plant_capacity 4000.0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in:\n{text}");
    }
    assert!(!text.contains("nothing") && !text.contains("BREW"), "{text}");
    let Some(promtool) = program("promtool", None, "REQUIRE_PROMETHEUS") else { return };
    let mut checking = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    checking.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let checked = checking.wait_with_output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

/// Waits until a request is in service.
async fn is_in_service(inventory: &Service) {
    eventually("it is in service", PATIENCE, async || {
        inventory.http().get("/metrics").await.text().contains("in_service 1").then_some(())
    })
    .await;
}

/// Long enough to be seen in service on a machine that is held up.
const SEEN_MS: &str = "4000";

#[tokio::test]
async fn a_service_that_is_told_to_end_answers_what_is_under_way() {
    let slow = json!({ "service_time_ms": SEEN_MS.parse::<u64>().unwrap() });
    let mut inventory = Door::open().await.inventory(&Inventory::Capacity(plant(&slow)));
    let http = inventory.http();
    let under_way = tokio::spawn(async move { http.get("/inventory/1").await.status });
    is_in_service(&inventory).await;
    inventory.shutdown.cancel();
    assert_eq!(under_way.await.unwrap(), StatusCode::OK);
    tokio::time::timeout(PATIENCE, &mut inventory.server).await.expect("it ends").unwrap();
}

// === the program ===

fn shop(arguments: &[&str]) -> Process {
    Process::spawn("tidegate-shop", Command::new(env!("CARGO_BIN_EXE_tidegate-shop")).args(arguments))
}

async fn announced(process: &mut Process, word: &str) -> SocketAddr {
    eventually(&format!("the shop says its {word} address"), PATIENCE, async || {
        let (ended, stdout) = (process.exit_status(), process.stdout());
        let lines = stdout.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        let address = lines.map(str::trim).find_map(|line| line.strip_prefix(word)?.strip_prefix(" on "));
        assert!(address.is_some() || ended.is_none(), "it ended: {}", process.stderr());
        Some(address?.parse().expect("an address"))
    })
    .await
}

#[tokio::test]
async fn the_program_prints_its_addresses_serves_and_ends_in_order() {
    let mut inventory =
        shop(&["inventory", "--listen", "127.0.0.1:0", "--control", "127.0.0.1:0", "--service-time-ms", "1"]);
    let mut user = shop(&["user", "--listen", "127.0.0.1:0"]);
    let (address, control) = (announced(&mut inventory, "listening").await, announced(&mut inventory, "control").await);
    let users = announced(&mut user, "listening").await;
    let base = |address: SocketAddr| format!("http://{address}");
    let mut order =
        shop(&["order", "--listen", "127.0.0.1:0", "--user-url", &base(users), "--inventory-url", &base(address)]);
    let orders = announced(&mut order, "listening").await;
    assert_eq!(Http::new(orders).get("/orders/create/1/2").await.status, StatusCode::OK);
    assert_eq!(Http::new(control).get("/plant").await.json()["settings"]["service_time_ms"], 1);
    for process in [&mut inventory, &mut user, &mut order] {
        process.terminate();
        let ended = process.wait(PATIENCE).await;
        assert!(ended.status.success(), "{}", ended.stderr);
    }
}

#[tokio::test]
async fn the_program_answers_what_is_under_way_before_it_ends() {
    let mut inventory =
        shop(&["inventory", "--listen", "127.0.0.1:0", "--control", "127.0.0.1:0", "--service-time-ms", SEEN_MS]);
    let (address, control) = (announced(&mut inventory, "listening").await, announced(&mut inventory, "control").await);
    let under_way = tokio::spawn(async move { Http::new(address).get("/inventory/1").await.status });
    eventually("it is in service", PATIENCE, async || {
        (Http::new(control).get("/plant").await.json()["in_service"] == 1).then_some(())
    })
    .await;
    inventory.terminate();
    assert_eq!(under_way.await.unwrap(), StatusCode::OK);
    assert!(inventory.wait(PATIENCE).await.status.success());
}

#[tokio::test]
async fn the_load_asks_for_orders_until_it_is_told_to_end() {
    let (user, inventory) = (Door::open().await.user(), well().await);
    let order = Door::open().await.order(user.address, inventory.address);
    let mut load = shop(&["load", "--url", &format!("http://{}", order.address), "--rate", "200"]);
    eventually("orders are made", PATIENCE, async || (order.traffic.answered(order::PATH, 200) > 20).then_some(()))
        .await;
    load.terminate();
    assert!(load.wait(PATIENCE).await.status.success());
}

#[tokio::test]
async fn a_port_in_use_and_wrong_flags_are_said_with_their_exit_codes() {
    let holder = Door::open().await;
    let taken = holder.address();
    let ended = shop(&["user", "--listen", &taken.to_string()]).wait(PATIENCE).await;
    assert_eq!(ended.status.code(), Some(69));
    assert!(ended.stderr.contains(&format!("cannot listen on {taken}")), "{}", ended.stderr);
    drop(holder);
    let ended = shop(&["inventory", "--workers", "0", "--slowdown-max", "0"]).wait(PATIENCE).await;
    assert_eq!(ended.status.code(), Some(64));
    assert!(ended.stderr.contains("workers: 0") && ended.stderr.contains("slowdown_max: 0"), "{}", ended.stderr);
}
