//! A real Envoy in front of a real Tidegate: what a client sees.

use std::net::SocketAddr;

use http::StatusCode;
use serde_json::{Value, json};
use tidegate::demo::ports::HeldPort;
use tidegate::proto::envoy::service::ratelimit::v3::RateLimitRequest;
use tokio::task::JoinSet;
use tonic_health::pb::health_check_response::ServingStatus;

use crate::support::client::{Answer, Http, descriptor, request};
use crate::support::envoy::{
    Envoy, generic_key, listener, rate_limit_filter, rate_limit_service, route, route_per_filter, upstream,
};
use crate::support::redis::Redis;
use crate::support::tidegate::{ConfigMap, Launch, Rules, Tidegate};
use crate::support::upstream::Upstream;
use crate::support::{PATIENCE, eventually};

/// Everything that a request passes.
struct Gateway {
    envoy: Envoy,
    tidegate: Tidegate,
    _redis: Redis,
    _upstream: Upstream,
}

// === impl Gateway ===

impl Gateway {
    /// One listener, `main`, with these filters and routes; the rate limit service is the cluster `ratelimit`.
    async fn start(rules: &str, filters: Vec<Value>, routes: &[Value]) -> Option<Gateway> {
        let redis = Redis::start().await?;
        let upstream = Upstream::start().await;
        let tidegate = Tidegate::serving(&redis, &[("rules.yaml", rules)]).await;
        let envoy =
            Envoy::start(&[listener("main", filters, routes)], &clusters(&upstream, tidegate.grpc_address())).await?;
        Some(Gateway { envoy, tidegate, _redis: redis, _upstream: upstream })
    }

    fn http(&self) -> Http {
        self.envoy.http("main")
    }
}

fn clusters(behind: &Upstream, service: SocketAddr) -> [Value; 2] {
    [upstream(behind.address()), rate_limit_service("ratelimit", service)]
}

/// A rule file of one rule: the domain `shop`, the descriptor `(generic_key, all)`.
fn one_rule(rate_limit: &str) -> String {
    format!("domain: shop\ndescriptors:\n  - key: generic_key\n    value: all\n    rate_limit: {{ {rate_limit} }}\n")
}

/// A gateway with that one rule, on every route.
async fn gateway_of_one_rule(rate_limit: &str) -> Option<Gateway> {
    let filter = rate_limit_filter("shop", "ratelimit");
    Gateway::start(&one_rule(rate_limit), vec![filter], &[route("/", &generic_key("all"))]).await
}

/// The limit that Envoy states on an answer of the gateway.
async fn stated_limit(http: Http) -> Option<String> {
    Some(http.get("/").await.all("x-ratelimit-limit").first()?.to_string())
}

#[tokio::test]
async fn a_request_over_the_limit_is_refused_and_every_answer_states_the_limit() {
    let Some(gateway) = gateway_of_one_rule("unit: minute, requests_per_unit: 3").await else { return };
    let check = |answer: &Answer, remaining: &str| {
        assert_eq!(answer.header("x-ratelimit-limit"), "3, 3;w=60");
        assert_eq!(answer.header("x-ratelimit-remaining"), remaining);
        let reset: u64 = answer.header("x-ratelimit-reset").parse().unwrap();
        assert!(reset <= 60, "a window of a minute returns budget within a minute, not in {reset} s");
    };
    for remaining in ["2", "1", "0"] {
        let allowed = gateway.http().get("/cart").await;
        assert_eq!(allowed.status, StatusCode::OK);
        assert_eq!(allowed.text(), "/cart");
        assert!(allowed.all("x-envoy-ratelimited").is_empty());
        check(&allowed, remaining);
    }
    let refused = gateway.http().get("/cart").await;
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(refused.header("x-envoy-ratelimited"), "true");
    check(&refused, "0");
    assert_eq!(gateway.envoy.statistic("cluster.upstream.ratelimit.ok").await, 3);
    assert_eq!(gateway.envoy.statistic("cluster.upstream.ratelimit.over_limit").await, 1);
    assert_eq!(gateway.envoy.statistic("cluster.upstream.ratelimit.error").await, 0);
}

#[tokio::test]
async fn a_window_of_ten_seconds_is_stated_as_such() {
    let Some(gateway) = gateway_of_one_rule("unit: second, unit_multiplier: 10, requests_per_unit: 7").await else {
        return;
    };
    let answer = gateway.http().get("/").await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.header("x-ratelimit-limit"), "7, 7;w=10");
    assert_eq!(answer.header("x-ratelimit-remaining"), "6");
}

#[tokio::test]
async fn an_edited_rule_file_is_in_force_without_a_restart() {
    let Some(gateway) = gateway_of_one_rule("unit: hour, requests_per_unit: 900000").await else { return };
    assert_eq!(stated_limit(gateway.http()).await.as_deref(), Some("900000, 900000;w=3600"));
    gateway.tidegate.rules().write("rules.yaml", &one_rule("unit: hour, requests_per_unit: 800000"));
    limit_becomes(gateway.http(), "800000, 800000;w=3600").await;
}

#[tokio::test]
async fn a_swapped_config_map_is_in_force_without_a_restart() {
    let Some(redis) = Redis::start().await else { return };
    let upstream = Upstream::start().await;
    let rules = Rules::new(&[]);
    let mut mounted = ConfigMap::mount(&rules, "rules.yaml", &one_rule("unit: hour, requests_per_unit: 900000"));
    let tidegate = Launch::with(rules).redis(&redis).start().await;
    tidegate.becomes(ServingStatus::Serving).await;
    let filters = vec![rate_limit_filter("shop", "ratelimit")];
    let listener = listener("main", filters, &[route("/", &generic_key("all"))]);
    let Some(envoy) = Envoy::start(&[listener], &clusters(&upstream, tidegate.grpc_address())).await else { return };

    assert_eq!(stated_limit(envoy.http("main")).await.as_deref(), Some("900000, 900000;w=3600"));
    for requests in ["800000", "700000"] {
        mounted.update("rules.yaml", &one_rule(&format!("unit: hour, requests_per_unit: {requests}")));
        limit_becomes(envoy.http("main"), &format!("{requests}, {requests};w=3600")).await;
    }
}

async fn limit_becomes(http: Http, wanted: &str) {
    let what = format!("the limit becomes {wanted}");
    eventually(&what, PATIENCE, async || (stated_limit(http).await? == wanted).then_some(())).await;
}

#[tokio::test]
async fn a_restart_under_traffic_shows_no_error_and_forgets_no_count() {
    let rules = concat!(
        "domain: shop\ndescriptors:\n",
        "  - { key: generic_key, value: counted, rate_limit: { unit: hour, requests_per_unit: 5 } }\n",
        "  - { key: generic_key, value: traffic, rate_limit: { unit: hour, requests_per_unit: 900000 } }\n",
    );
    let mut filter = rate_limit_filter("shop", "ratelimit");
    filter["typed_config"]["failure_mode_deny"] = json!(false);
    let routes = [route("/counted", &generic_key("counted")), route("/", &generic_key("traffic"))];
    let Some(redis) = Redis::start().await else { return };
    let (port, behind, folder) =
        (HeldPort::any().unwrap(), Upstream::start().await, Rules::new(&[("rules.yaml", rules)]));
    let launch = |rules: Rules| Launch::with(rules).redis(&redis).setting("TIDEGATE_GRPC_PORT", port.address().port());
    let tidegate = launch(folder).start().await;
    tidegate.becomes(ServingStatus::Serving).await;
    let listeners = [listener("main", vec![filter], &routes)];
    let Some(envoy) = Envoy::start(&listeners, &clusters(&behind, port.address())).await else { return };
    let http = envoy.http("main");

    for _ in 0..3 {
        assert_eq!(http.get("/counted").await.status, StatusCode::OK);
    }
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let mut clients = JoinSet::new();
    for _ in 0..4 {
        let stopped = stopped.clone();
        clients.spawn(async move {
            let mut answers = 0_u32;
            while !*stopped.borrow() {
                let answer = http.get("/traffic").await;
                assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
                answers += 1;
            }
            answers
        });
    }

    let limited = async || (!http.get("/traffic").await.all("x-ratelimit-limit").is_empty()).then_some(());
    eventually("traffic is limited before the restart", PATIENCE, limited).await;
    let rules = tidegate.stop().await;
    let again = launch(rules).start().await;
    again.becomes(ServingStatus::Serving).await;
    eventually("traffic is limited after the restart", PATIENCE, limited).await;
    stop.send(true).unwrap();
    let answers: u32 = clients.join_all().await.into_iter().sum();
    assert!(answers > 0, "there was no traffic");

    for _ in 3..5 {
        assert_eq!(http.get("/counted").await.status, StatusCode::OK);
    }
    assert_eq!(http.get("/counted").await.status, StatusCode::TOO_MANY_REQUESTS);
}

/// Envoy sends the cluster's name as `:authority`. Servers that take it for a URI refuse such calls, and a gateway
/// that fails open then limits nothing.
#[tokio::test]
async fn the_service_answers_whatever_the_gateway_calls_its_cluster() {
    let names =
        ["outbound|8081||ratelimit.ns.svc.cluster.local", "extension/ns/name", "a b", "x{y}", "a%2Fb", "a@b:80:90"];
    let Some(redis) = Redis::start().await else { return };
    let behind = Upstream::start().await;
    let rules =
        "domain: shop\ndescriptors:\n  - { key: generic_key, rate_limit: { unit: hour, requests_per_unit: 1 } }\n";
    let tidegate = Tidegate::serving(&redis, &[("rules.yaml", rules)]).await;
    let mut listeners = Vec::new();
    let mut clusters = vec![upstream(behind.address())];
    for (index, name) in names.into_iter().enumerate() {
        let value = format!("cluster-{index}");
        listeners.push(listener(&value, vec![rate_limit_filter("shop", name)], &[route("/", &generic_key(&value))]));
        clusters.push(rate_limit_service(name, tidegate.grpc_address()));
    }
    let Some(envoy) = Envoy::start(&listeners, &clusters).await else { return };
    for (index, name) in names.into_iter().enumerate() {
        let http = envoy.http(&format!("cluster-{index}"));
        assert_eq!(http.get("/").await.status, StatusCode::OK, "first request, cluster {name:?}");
        assert_eq!(http.get("/").await.status, StatusCode::TOO_MANY_REQUESTS, "second request, cluster {name:?}");
    }
}

#[tokio::test]
async fn a_descriptor_without_entries_matches_no_limit() {
    let action = json!({ "request_headers": {
        "header_name": "x-user", "descriptor_key": "user", "skip_if_absent": true,
    } });
    let rules = "domain: shop\ndescriptors:\n  - { key: user, rate_limit: { unit: hour, requests_per_unit: 1 } }\n";
    let filter = rate_limit_filter("shop", "ratelimit");
    let routes = [route("/", &json!([{ "actions": [action] }]))];
    let Some(gateway) = Gateway::start(rules, vec![filter], &routes).await else { return };
    for _ in 0..3 {
        let anonymous = gateway.http().get("/").await;
        assert_eq!(anonymous.status, StatusCode::OK);
        assert!(anonymous.all("x-ratelimit-limit").is_empty());
    }
    assert_eq!(gateway.http().get_with("/", &[("x-user", "ann")]).await.status, StatusCode::OK);
    assert_eq!(gateway.http().get_with("/", &[("x-user", "ann")]).await.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(gateway.envoy.statistic("cluster.upstream.ratelimit.ok").await, 4, "the empty ones were asked too");
}

/// Connections are told to end, by GOAWAY, so that load finds replicas that came later. No call may pay for that:
/// Envoy denies here what has no answer.
#[tokio::test]
async fn old_connections_end_under_load_without_a_failed_call() {
    let upstream = Upstream::start().await;
    let rules = one_rule("unit: hour, requests_per_unit: 900000");
    let launch = Launch::new(&[("rules.yaml", &rules)]).setting("TIDEGATE_GRPC_CONNECTION_AGE", "100ms");
    let tidegate = launch.start().await;
    let listeners =
        [listener("main", vec![rate_limit_filter("shop", "ratelimit")], &[route("/", &generic_key("all"))])];
    let Some(envoy) = Envoy::start(&listeners, &clusters(&upstream, tidegate.grpc_address())).await else { return };
    let http = envoy.http("main");
    let mut clients = JoinSet::new();
    for _ in 0..4 {
        clients.spawn(async move {
            for _ in 0..500 {
                assert_eq!(http.get("/").await.status, StatusCode::OK);
            }
        });
    }
    clients.join_all().await;
    let ended = envoy.statistic("cluster.ratelimit.upstream_cx_total").await;
    assert!(ended > 1, "connections were replaced meanwhile, {ended} in all");
    assert_eq!(envoy.statistic("cluster.upstream.ratelimit.error").await, 0);
}

#[tokio::test]
async fn a_descriptor_costs_the_hits_it_brings() {
    let mut limits = generic_key("all");
    limits[0]["hits_addend"] = json!({ "format": "%REQ(x-cost)%" });
    let rules = one_rule("unit: hour, requests_per_unit: 10");
    let filter = rate_limit_filter("shop", "ratelimit");
    let routes = [route_per_filter("/", "shop", &limits)];
    let Some(gateway) = Gateway::start(&rules, vec![filter], &routes).await else { return };
    let cost = async |hits: &str| {
        let answer = gateway.http().get_with("/", &[("x-cost", hits)]).await;
        (answer.status, answer.header("x-ratelimit-remaining").to_owned())
    };
    let (ok, refused) = (StatusCode::OK, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(cost("4").await, (ok, "6".to_owned()));
    assert_eq!(cost("4").await, (ok, "2".to_owned()));
    assert_eq!(cost("3").await, (refused, "0".to_owned()), "three do not fit: what is over has nothing left");
    assert_eq!(cost("0").await, (ok, "2".to_owned()), "zero looks, and the refusal cost nothing");
    assert_eq!(cost("2").await, (ok, "0".to_owned()));
    assert_eq!(cost("0").await, (ok, "0".to_owned()), "a full window is not over");
}

/// One hit on the way in, given back when the answer is through: a limit on how many are under way at once.
#[tokio::test]
async fn hits_given_back_at_the_end_of_the_stream_make_a_concurrency_limit() {
    let actions = &generic_key("all")[0]["actions"];
    let limits = json!([
        { "actions": actions },
        {
            "actions": actions,
            "hits_addend": { "number": 1, "is_negative_hits": true },
            "apply_on_stream_done": true,
        },
    ]);
    let rules = one_rule("unit: hour, requests_per_unit: 1");
    let filter = rate_limit_filter("shop", "ratelimit");
    let routes = [route_per_filter("/", "shop", &limits)];
    let Some(gateway) = Gateway::start(&rules, vec![filter], &routes).await else { return };
    for _ in 0..3 {
        let answer = gateway.http().get("/").await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.header("x-ratelimit-remaining"), "0");
        eventually("the hit is given back", PATIENCE, async || {
            let look = RateLimitRequest {
                descriptors: vec![{
                    let mut look = descriptor(&[("generic_key", "all")]);
                    look.hits_addend = Some(0.into());
                    look
                }],
                ..request("shop", &[])
            };
            (gateway.tidegate.ask(look).await.statuses[0].limit_remaining == 1).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_limit_that_the_request_brings_takes_the_place_of_the_rule() {
    let metadata = json!({
        "name": "envoy.filters.http.set_metadata",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.http.set_metadata.v3.Config",
            "metadata": [{
                "metadata_namespace": "plan",
                "value": { "limit": { "requests_per_unit": 2, "unit": "DAY" } },
            }],
        },
    });
    let mut limits = generic_key("all");
    limits[0]["limit"] =
        json!({ "dynamic_metadata": { "metadata_key": { "key": "plan", "path": [{ "key": "limit" }] } } });
    let rules = one_rule("unit: hour, requests_per_unit: 1000");
    let filters = vec![metadata, rate_limit_filter("shop", "ratelimit")];
    let Some(gateway) = Gateway::start(&rules, filters, &[route("/", &limits)]).await else { return };
    for remaining in ["1", "0"] {
        let answer = gateway.http().get("/").await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.header("x-ratelimit-limit"), "2, 2;w=86400");
        assert_eq!(answer.header("x-ratelimit-remaining"), remaining);
    }
    assert_eq!(gateway.http().get("/").await.status, StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn two_filters_limit_by_two_domains() {
    let redis_rules = |domain: &str, requests: u32| {
        format!(
            "domain: {domain}\ndescriptors:\n  - {{ key: generic_key, value: all, \
             rate_limit: {{ unit: hour, requests_per_unit: {requests} }} }}\n"
        )
    };
    let Some(redis) = Redis::start().await else { return };
    let upstream = Upstream::start().await;
    let files = [("gateway.yaml", &*redis_rules("gateway", 5)), ("team.yaml", &*redis_rules("team", 2))];
    let tidegate = Tidegate::serving(&redis, &files).await;
    let filters = vec![rate_limit_filter("gateway", "ratelimit"), rate_limit_filter("team", "ratelimit")];
    let listener = listener("main", filters, &[route("/", &generic_key("all"))]);
    let Some(envoy) = Envoy::start(&[listener], &clusters(&upstream, tidegate.grpc_address())).await else { return };
    for _ in 0..2 {
        let answer = envoy.http("main").get("/").await;
        assert_eq!(answer.status, StatusCode::OK);
        let mut limits = answer.all("x-ratelimit-limit");
        limits.sort_unstable();
        assert_eq!(limits, ["2, 2;w=3600", "5, 5;w=3600"]);
    }
    assert_eq!(envoy.http("main").get("/").await.status, StatusCode::TOO_MANY_REQUESTS, "the team's two are used up");
}
