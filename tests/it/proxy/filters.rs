//! Fault injection.

use bytes::Bytes;
use http::Request;
use serde_json::{Value, json};

use super::config::{bootstrap, cluster, filter, listener, of_type, route, with};
use super::stage::{Places, same};

const FAULT: &str = "filters.http.fault.v3.HTTPFault";

fn per_route(prefix: &str, name: &str, kind: &str, settings: &Value) -> Value {
    with(route(prefix, "up"), &json!({ "typed_per_filter_config": { name: of_type(kind, settings) } }))
}

#[tokio::test]
async fn faults_delay_and_abort() {
    let all = json!({ "numerator": 100 });
    let delay = json!({ "delay": { "fixed_delay": "0.1s", "percentage": all } });
    let abort = |status: u16| json!({ "abort": { "http_status": status, "percentage": all } });
    let name = "envoy.filters.http.fault";
    let config = |places: &Places<'_>| {
        let routes = [
            per_route("/delayed", name, FAULT, &delay),
            per_route("/aborted", name, FAULT, &abort(503)),
            per_route("/both", name, FAULT, &with(delay.clone(), &abort(429))),
            per_route(
                "/some",
                name,
                FAULT,
                &with(
                    abort(500),
                    &json!({ "headers":
                [{ "name": "x-fault", "present_match": true }] }),
                ),
            ),
            per_route(
                "/never",
                name,
                FAULT,
                &json!({ "abort": { "http_status": 500, "percentage": { "numerator": 0 } } }),
            ),
            route("/", "up"),
        ];
        let main = listener("main", places.folder, &[filter(name, FAULT, &json!({}))], &routes);
        let everywhere = listener("everywhere", places.folder, &[filter(name, FAULT, &abort(404))], &[]);
        bootstrap(&[main, everywhere], &[cluster("up", &[places.upstream])])
    };
    same(config, async |stage| {
        for path in ["/delayed/hello", "/aborted/hello", "/both", "/some/hello", "/never/hello", "/hello"] {
            stage.get(path).await;
        }
        let request = Request::get("/some/hello").header("x-fault", "1").body(Bytes::new()).unwrap();
        stage.ask("main", request).await;
        stage.ask("everywhere", Request::get("/nowhere").body(Bytes::new()).unwrap()).await;
    })
    .await;
}
