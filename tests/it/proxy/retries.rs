//! What each word of `retry_on` retries: every word against every way to fail, counted at the upstream.

use bytes::Bytes;
use http::Request;
use serde_json::{Value, json};

use super::config::{bootstrap, cluster, listener, route, with};
use super::stage::{Places, same};

/// Every word of Envoy's that tidegate-proxy takes.
const WORDS: [&str; 15] = [
    "5xx",
    "gateway-error",
    "reset",
    "reset-before-request",
    "connect-failure",
    "envoy-ratelimited",
    "retriable-4xx",
    "refused-stream",
    "retriable-status-codes",
    "retriable-headers",
    "cancelled",
    "deadline-exceeded",
    "resource-exhausted",
    "internal",
    "unavailable",
];

/// Ways to fail, and two not to.
const BEHAVIOURS: [&str; 16] = [
    "500", "503", "409", "418", "404", "limited", "cost", "reset", "grpc-0", "grpc-1", "grpc-4", "grpc-8", "grpc-13",
    "grpc-14", "grpc-x", "hello",
];

fn retried(prefix: &str, cluster: &str, policy: &Value) -> Value {
    let quick = json!({ "num_retries": 1, "retry_back_off": { "base_interval": "0.001s" } });
    with(route(prefix, cluster), &json!({ "route": { "retry_policy": with(quick, policy) } }))
}

fn only(word: &str) -> Value {
    json!({
        "retry_on": word,
        "retriable_status_codes": [418],
        "retriable_headers": [{ "name": "x-cost", "string_match": { "exact": "7" } }],
    })
}

#[tokio::test]
async fn each_word_retries_what_it_retries_in_envoy() {
    let config = |places: &Places<'_>| {
        let dead = WORDS.iter().map(|word| retried(&format!("/dead/{word}/"), "dead", &only(word)));
        let routes: Vec<Value> =
            dead.chain(WORDS.iter().map(|word| retried(&format!("/{word}/"), "up", &only(word)))).collect();
        bootstrap(
            &[listener("main", places.folder, &[], &routes)],
            &[cluster("up", &[places.upstream]), cluster("dead", &[places.nobody])],
        )
    };
    same(config, async |stage| {
        for word in WORDS {
            for behaviour in BEHAVIOURS {
                let path = format!("/{word}/{behaviour}");
                stage.get(&path).await;
                let count = stage.upstream.count(&path);
                stage.note(format!("{path} reached upstream {count} times"));
            }
            stage.get(&format!("/dead/{word}/")).await;
        }
    })
    .await;
}

#[tokio::test]
async fn headers_of_the_request_decide_whether_it_is_retried() {
    let config = |places: &Places<'_>| {
        let asked_for = json!({ "retry_on": "5xx", "retriable_request_headers":
            [{ "name": "x-again", "string_match": { "prefix": "y" } }, { "name": "x-too" }] });
        let early = json!({ "retry_on": "retriable-status-codes", "retriable_status_codes": [425] });
        let by_header = json!({ "retry_on": "retriable-status-codes,retriable-headers",
            "retriable_headers": [{ "name": "content-length" }] });
        let routes = [
            retried("/asked", "up", &asked_for),
            retried("/early", "up", &early),
            retried("/header", "up", &with(early.clone(), &by_header)),
        ];
        bootstrap(&[listener("main", places.folder, &[], &routes)], &[cluster("up", &[places.upstream])])
    };
    same(config, async |stage| {
        for (path, name, value) in [
            ("/asked/0/503", "x-other", "1"),
            ("/asked/1/503", "x-again", "yes"),
            ("/asked/2/503", "x-again", "no"),
            ("/asked/3/503", "x-too", "1"),
            ("/early/0/425", "x-other", "1"),
            ("/early/1/425", "early-data", "1"),
            ("/header/0/425", "early-data", "1"),
        ] {
            stage.ask("main", Request::get(path).header(name, value).body(Bytes::new()).unwrap()).await;
            let count = stage.upstream.count(path);
            stage.note(format!("{path} reached upstream {count} times"));
        }
    })
    .await;
}
