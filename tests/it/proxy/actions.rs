//! Rate limit actions that look at more than the request's head: addresses, and metadata of three origins.

use bytes::Bytes;
use http::Request;
use serde_json::{Value, json};
use tidegate::proto::envoy::service::ratelimit::v3::RateLimitResponse;
use tidegate::proto::envoy::service::ratelimit::v3::rate_limit_response::Code;

use super::config::{bootstrap, cluster, http2, listener, of_type, rate_limit, route, with};
use super::limits::{limited, same_questions, same_questions_of};
use super::stage::Places;

fn one(action: &Value) -> Value {
    json!([{ "actions": [action] }])
}

#[tokio::test]
async fn addresses_are_described_alike() {
    let within = |value: &str, more: &Value, ranges: &Value| {
        let matcher = with(json!({ "ranges": ranges }), more);
        json!({ "remote_address_match": { "descriptor_value": value, "address_matcher": matcher } })
    };
    let ten =
        json!([{ "address_prefix": "10.0.0.0", "prefix_len": 8 }, { "address_prefix": "192.0.2.7", "prefix_len": 32 }]);
    let six = json!([{ "address_prefix": "2001:db8::", "prefix_len": 32 }]);
    let routes: Vec<Value> = [
        json!({ "remote_address": {} }),
        json!({ "masked_remote_address": {} }),
        json!({ "masked_remote_address": { "v4_prefix_mask_len": 12, "v6_prefix_mask_len": 48 } }),
        json!({ "masked_remote_address": { "v4_prefix_mask_len": 0, "v6_prefix_mask_len": 0 } }),
        within("ten", &json!({}), &ten),
        within("not ten", &json!({ "invert_match": true }), &ten),
        within("six", &json!({}), &six),
        within("anywhere", &json!({}), &json!([{ "address_prefix": "0.0.0.0", "prefix_len": 0 }])),
        within("%REQ(x-tenant)%", &json!({}), &ten),
        with(
            within("%REQ(x-absent)%", &json!({}), &ten),
            &json!({ "remote_address_match": { "descriptor_key": "own", "default_value": "nobody" } }),
        ),
    ]
    .iter()
    .enumerate()
    .map(|(index, action)| limited(&format!("/{index}-"), &one(action)))
    .collect();
    let count = routes.len();
    same_questions(
        json!({}),
        routes,
        |_| {},
        async |stage| {
            for index in 0..count {
                for from in ["10.31.2.3", "192.0.2.7", "2001:db8:1:2::3", "no address", "203.0.113.9, 10.0.0.1"] {
                    let request = Request::get(format!("/{index}-/hello")).header("x-forwarded-for", from);
                    let request = request.header("x-tenant", "acme").body(Bytes::new()).unwrap();
                    stage.ask("main", request).await;
                }
            }
        },
        3 * count,
    )
    .await;
}

#[tokio::test]
async fn metadata_of_clusters_routes_and_filters_are_described_alike() {
    let metadata = |source: &str, key: &str, path: &[&str], more: &Value| {
        let path: Vec<Value> = path.iter().map(|segment| json!({ "key": segment })).collect();
        let action =
            json!({ "descriptor_key": source, "source": source, "metadata_key": { "key": key, "path": path } });
        json!({ "metadata": with(action, more) })
    };
    let given = json!({ "filter_metadata": { "shop": {
        "tier": "gold", "rank": 7, "open": true, "empty": "", "deep": { "er": { "still": "here" } } } } });
    let told = "envoy.filters.http.ratelimit";
    let plain = json!({});
    let mut actions = Vec::new();
    for (source, key) in [("CLUSTER_ENTRY", "shop"), ("ROUTE_ENTRY", "shop"), ("DYNAMIC", told)] {
        actions.extend([
            metadata(source, key, &["tier"], &plain),
            metadata(source, key, &["deep", "er", "still"], &plain),
            metadata(source, key, &["deep", "er"], &plain),
            metadata(source, key, &["rank"], &plain),
            metadata(source, key, &["rank"], &json!({ "default_value": "none" })),
            metadata(source, key, &["open"], &plain),
            metadata(source, key, &["empty"], &json!({ "default_value": "was empty" })),
            metadata(source, "absent", &["tier"], &json!({ "default_value": "none" })),
            metadata(source, "absent", &["tier"], &json!({ "skip_if_absent": true })),
            metadata(source, key, &["tier", "below"], &plain),
        ]);
    }
    // A filter of stage 0 is told something, which the filter of stage 1 passes on.
    let second = |action: &Value| json!({ "stage": 1, "actions": [action] });
    let first = json!({ "stage": 0, "actions": [{ "generic_key": { "descriptor_value": "first" } }] });
    let config = |places: &Places<'_>, service: std::net::SocketAddr| {
        let limits = |prefix: &str, limits: &Value| {
            let limited = json!({ "route": { "rate_limits": limits }, "metadata": given });
            with(route(prefix, "up"), &limited)
        };
        let carried = json!({ "stage": 1, "actions": [{ "generic_key": { "descriptor_value": "carried" } }],
            "limit": { "dynamic_metadata": { "metadata_key": { "key": told, "path": [{ "key": "limit" }] } } } });
        let hits = json!([{ "actions": [{ "generic_key": { "descriptor_value": "hits" } }],
            "hits_addend": { "format": format!("%DYNAMIC_METADATA({told}:rank)%") } }]);
        let mut routes: Vec<Value> = actions
            .iter()
            .enumerate()
            .map(|(index, action)| limits(&format!("/{index}-"), &json!([first, second(action)])))
            .collect();
        routes.push(limits("/carried", &json!([first, carried])));
        let per_route = of_type("filters.http.ratelimit.v3.RateLimitPerRoute", &json!({ "rate_limits": hits }));
        routes.push(with(
            limits("/hits", &json!([first])),
            &json!({ "typed_per_filter_config": { "second": per_route } }),
        ));
        let filters = [
            rate_limit(&json!({})),
            with(
                rate_limit(&json!({ "stage": 1 })),
                &json!({ "typed_config": { "domain": "second" }, "name": "second" }),
            ),
        ];
        bootstrap(
            &[listener("main", places.folder, &filters, &routes)],
            &[
                with(cluster("up", &[places.upstream]), &json!({ "metadata": given })),
                http2(cluster("service", &[service])),
            ],
        )
    };
    let count = actions.len();
    let answer = RateLimitResponse {
        overall_code: Code::Ok.into(),
        dynamic_metadata: Some(
            serde_json::from_value(with(
                given["filter_metadata"]["shop"].clone(),
                &json!({ "limit": { "requests_per_unit": 42, "unit": "HOUR" } }),
            ))
            .unwrap(),
        ),
        ..RateLimitResponse::default()
    };
    same_questions_of(
        config,
        |recorder| recorder.answer_with(answer.clone()),
        async |stage| {
            for index in 0..count {
                stage.get(&format!("/{index}-/hello")).await;
            }
            stage.get("/carried/hello").await;
            stage.get("/hits/hello").await;
        },
        count + 2,
    )
    .await;
}
