//! The debug port: the rules in force, what they counted, and who may see it.

use std::net::TcpListener;

use bytes::Bytes;
use http::{Method, Request, StatusCode};

use crate::support::client::{Answer, Http, request};
use crate::support::tidegate::{Launch, Tidegate};
use crate::support::{PATIENCE, eventually};

const RULES: &str = "\
domain: shop
descriptors:
  - { key: user, rate_limit: { unit: hour, requests_per_unit: 2 } }
  - { key: path, value: /cart, rate_limit: { unit: minute, requests_per_unit: 5 }, shadow_mode: true }
";

/// Counting as the reference does, so that lines are its own.
fn launch(rules: &str) -> Launch {
    Launch::new(&[("rules.yaml", rules)]).setting("TIDEGATE_RULES_DEFAULTS_ALGORITHM", "fixed_window")
}

async fn asked(tidegate: &Tidegate, method: Method, path: &str, host: &str) -> Answer {
    let request = Request::builder().method(method).uri(path).header("host", host).body(Bytes::new()).unwrap();
    Http::new(tidegate.debug_address()).send(request).await.unwrap()
}

async fn got(tidegate: &Tidegate, path: &str) -> Answer {
    asked(tidegate, Method::GET, path, "localhost").await
}

#[tokio::test]
async fn the_rules_in_force_are_shown_and_a_reload_shows() {
    let tidegate = launch(RULES).start().await;
    let answer = got(&tidegate, "/rlconfig").await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
    assert_eq!(
        answer.text(),
        "shop.user: unit=HOUR requests_per_unit=2, shadow_mode: false, quota_mode: false\n\
         shop.path_/cart: unit=MINUTE requests_per_unit=5, shadow_mode: true, quota_mode: false\n"
    );
    tidegate.rules().write("rules.yaml", &RULES.replace("requests_per_unit: 2", "requests_per_unit: 3"));
    eventually("the new rules are shown", PATIENCE, async || {
        let text = got(&tidegate, "/rlconfig").await.text();
        text.starts_with("shop.user: unit=HOUR requests_per_unit=3,").then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_was_counted_is_shown_under_the_references_names() {
    let tidegate = launch(RULES).start().await;
    for _ in 0..3 {
        tidegate.ask(request("shop", &[("user", "ada")])).await;
    }
    let text = got(&tidegate, "/stats").await.text();
    for line in [
        "ratelimit.service.rate_limit.shop.user.total_hits: 3",
        "ratelimit.service.rate_limit.shop.user.over_limit: 1",
        "ratelimit.service.rate_limit.shop.user.within_limit: 2",
        "ratelimit.service.rate_limit.shop.path_/cart.total_hits: 0",
        "ratelimit.service.config_load_success: 1",
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line} is missing:\n{text}");
    }
}

#[tokio::test]
async fn every_other_path_lists_the_paths_and_profiles_are_not_among_them() {
    let tidegate = launch(RULES).start().await;
    for path in ["/", "/rlconfig/", "/config_dump"] {
        let answer = got(&tidegate, path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
        let paths: Vec<String> =
            answer.text().lines().map(|line| line.split_once(": ").unwrap().0.to_owned()).collect();
        assert_eq!(paths, ["/rlconfig", "/stats"], "{path}");
    }
    for path in ["/debug/pprof", "/debug/pprof/", "/debug/pprof/profile", "/debug/pprof/a/b"] {
        assert_eq!(got(&tidegate, path).await.status, StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn any_method_asks_and_a_head_has_no_body() {
    let tidegate = launch(RULES).start().await;
    for method in [Method::POST, Method::PUT, Method::DELETE, Method::OPTIONS] {
        let answer = asked(&tidegate, method.clone(), "/rlconfig", "localhost").await;
        assert_eq!((answer.status, answer.text().lines().count()), (StatusCode::OK, 2), "{method}");
    }
    let head = asked(&tidegate, Method::HEAD, "/rlconfig", "localhost").await;
    assert_eq!((head.status, head.body.len()), (StatusCode::OK, 0));
}

#[tokio::test]
async fn on_loopback_a_strangers_web_page_reads_nothing() {
    let tidegate = launch(RULES).start().await;
    for path in ["/rlconfig", "/stats", "/"] {
        let answer = asked(&tidegate, Method::GET, path, "evil.example:6070").await;
        assert_eq!(answer.status, StatusCode::MISDIRECTED_REQUEST, "{path}");
        assert!(!answer.text().contains("shop"), "{}", answer.text());
    }
    let everywhere = launch(RULES).setting("DEBUG_HOST", "0.0.0.0").start().await;
    let port = everywhere.debug_address().port();
    let request = Request::get("/rlconfig").header("host", "ratelimit.ns:6070").body(Bytes::new()).unwrap();
    let answer = Http::new(([127, 0, 0, 1], port).into()).send(request).await.unwrap();
    assert_eq!(answer.status, StatusCode::OK, "who opens it to a network is called by the network's names");
}

#[tokio::test]
async fn a_port_that_another_holds_is_told_and_the_service_serves_on() {
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = held.local_addr().unwrap().port();
    let mut tidegate = launch(RULES).setting("TIDEGATE_DEBUG_PORT", port).start().await;
    let told = format!("not served: cannot listen on 127.0.0.1:{port} (debug.port)");
    assert!(tidegate.process().stdout().contains(&told), "{}", tidegate.process().stdout());
    tidegate.logs("the debug port is not served").await;
    assert_eq!(tidegate.http().get("/healthcheck").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_hundred_thousand_rules_are_shown_to_the_last() {
    let many = (0..100_000)
        .map(|rule| format!("  - {{ key: a, value: '{rule}', rate_limit: {{ unit: hour, requests_per_unit: 1 }} }}\n"));
    let rules = format!("domain: many\ndescriptors:\n{}", many.collect::<String>());
    let tidegate = launch(&rules).start().await;
    let text = got(&tidegate, "/rlconfig").await.text();
    assert_eq!(text.lines().count(), 100_000);
    assert!(text.lines().last().unwrap().starts_with("many.a_99999: "), "{:?}", text.lines().last());
}
