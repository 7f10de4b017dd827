//! What passes: requests and answers, heads and bodies, routes and direct responses.

use bytes::Bytes;
use http::Request;
use serde_json::{Value, json};

use super::config::http2;
use super::config::{bootstrap, cluster, http, listener, route, with};
use super::stage::{Places, Stage, same};
use super::subject::Kind;

fn to_upstream(places: &Places<'_>) -> Value {
    bootstrap(&[listener("main", places.folder, &[], &[route("/", "up")])], &[cluster("up", &[places.upstream])])
}

/// The last head that upstream was sent, without what differs from run to run.
fn last_head(stage: &Stage) -> Vec<String> {
    let heads = stage.upstream.heads();
    let mut lines: Vec<String> = heads
        .last()
        .expect("upstream was asked")
        .lines()
        .map(|line| match line.split_once(": ") {
            Some((name @ "x-request-id", value)) => format!("{name}: {} letters", value.len()),
            // A part of the time may be over.
            Some((name @ "x-envoy-expected-rq-timeout-ms", _)) => format!("{name}: some"),
            _ => line.to_owned(),
        })
        .collect();
    lines[1..].sort();
    lines
}

#[tokio::test]
async fn requests_and_answers_pass_unchanged() {
    same(to_upstream, async |stage| {
        stage.get("/hello").await;
        stage.get("/404").await;
        stage.get("/503").await;
        stage.get("/until-close").await;
        stage.get("/query?a=b%20c&d").await;
        stage.ask("main", Request::post("/post").body(Bytes::from_static(b"some words")).unwrap()).await;
        stage.ask("main", Request::head("/head").body(Bytes::new()).unwrap()).await;
        stage.ask_http2("main", "/hello").await;
        stage.ask_http2("main", "/503").await;
    })
    .await;
}

#[tokio::test]
async fn upstream_sees_the_same_head() {
    same(to_upstream, async |stage| {
        for headers in [
            &[][..],
            &[("x-forwarded-for", "1.2.3.4"), ("x-request-id", "mine"), ("x-custom", "kept")],
            &[("x-envoy-retry-on", "5xx"), ("x-envoy-upstream-rq-timeout-ms", "1"), ("x-envoy-internal", "true")],
            &[("connection", "keep-alive, x-gone"), ("x-gone", "1"), ("te", "trailers"), ("keep-alive", "5")],
            &[("x-forwarded-proto", "https"), ("user-agent", "test"), ("accept", "*/*")],
        ] {
            let mut request = Request::get("/head");
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            stage.ask("main", request.body(Bytes::new()).unwrap()).await;
            let head = last_head(stage).join(" | ");
            stage.note(head);
        }
        stage.ask("main", Request::post("/empty").body(Bytes::new()).unwrap()).await;
        let head = last_head(stage).join(" | ");
        stage.note(head);
        stage.ask_http2("main", "/two").await;
        let head = last_head(stage).join(" | ");
        stage.note(head);
    })
    .await;
}

#[tokio::test]
async fn at_the_edge_the_client_is_who_it_is() {
    let config = |places: &Places<'_>| {
        let mut main = listener("main", places.folder, &[], &[route("/", "up")]);
        http(&mut main)["use_remote_address"] = json!(true);
        bootstrap(&[main], &[cluster("up", &[places.upstream])])
    };
    same(config, async |stage| {
        for forwarded in ["1.2.3.4", "1.2.3.4, 5.6.7.8"] {
            let request = Request::get("/head").header("x-forwarded-for", forwarded).header("x-request-id", "not mine");
            stage.ask("main", request.body(Bytes::new()).unwrap()).await;
            let head = last_head(stage).join(" | ");
            stage.note(head);
        }
    })
    .await;
}

#[tokio::test]
async fn routes_answer_redirect_or_are_not_there() {
    let config = |places: &Places<'_>| {
        let added = json!({ "response_headers_to_add": [
            { "header": { "key": "x-added", "value": "%RESPONSE_CODE% for %REQ(:PATH)%" } },
        ] });
        let routes = [
            with(
                json!({ "match": { "path": "/direct" }, "direct_response":
                { "status": 503, "body": { "inline_string": "closed today" } } }),
                &added,
            ),
            json!({ "match": { "path": "/empty" }, "direct_response": { "status": 204 } }),
            json!({ "match": { "prefix": "/old" }, "redirect": { "prefix_rewrite": "/new", "response_code": "FOUND" } }),
            json!({ "match": { "path": "/safe" }, "redirect": { "https_redirect": true, "host_redirect": "shop" } }),
            with(
                json!({ "match": { "prefix": "/named", "headers":
                [{ "name": "x-way", "string_match": { "exact": "this" } }] }, "name": "by header" }),
                &route("/named", "up"),
            ),
            with(route("/rewritten", "up"), &json!({ "route": { "prefix_rewrite": "/written" } })),
            with(
                route("/added", "up"),
                &with(
                    added.clone(),
                    &json!({
                        "request_headers_to_add": [{ "header": { "key": "x-by", "value": "%PROTOCOL%" } }],
                        "request_headers_to_remove": ["x-secret"],
                    }),
                ),
            ),
            with(route("/dead", "dead"), &added),
        ];
        let main = listener("main", places.folder, &[], &routes);
        bootstrap(&[main], &[cluster("up", &[places.upstream]), cluster("dead", &[places.nobody])])
    };
    same(config, async |stage| {
        for path in ["/direct", "/empty", "/old/shop?x=1", "/safe?x=1", "/named", "/nowhere", "/added", "/dead"] {
            stage.get(path).await;
        }
        let named = Request::get("/named").header("x-way", "this").header("x-secret", "1");
        stage.ask("main", named.body(Bytes::new()).unwrap()).await;
        stage.get("/rewritten/hello").await;
        let head = last_head(stage).join(" | ");
        stage.note(head);
        stage.ask("main", Request::get("/added").header("x-secret", "1").body(Bytes::new()).unwrap()).await;
        let head = last_head(stage).join(" | ");
        stage.note(head);
        stage.ask("main", Request::head("/direct").body(Bytes::new()).unwrap()).await;
    })
    .await;
}

#[tokio::test]
async fn an_expression_rewrites_the_path_and_not_the_query() {
    let rewritten = |prefix: &str, regex: &str, substitution: &str| {
        let rewrite = json!({ "pattern": { "regex": regex }, "substitution": substitution });
        with(route(prefix, "up"), &json!({ "route": { "regex_rewrite": rewrite } }))
    };
    let config = |places: &Places<'_>| {
        let routes = [
            rewritten("/service", "^/service/([^/]+)(/.*)$", r"\2/instance/\1"),
            rewritten("/every", "one|two", r"(\0)"),
            rewritten("/lazy", "^(.*?)one(.*)$", r"\1two\2"),
            rewritten("/case", "(?i)/XxX/", "/yyy/"),
            rewritten("/gone", "/gone", ""),
            rewritten("/none", "z", "y"),
            rewritten("/group", "(q)|(r)", r"[\1\2]"),
            rewritten("/backslash", "b", r"\\"),
        ];
        bootstrap(&[listener("main", places.folder, &[], &routes)], &[cluster("up", &[places.upstream])])
    };
    same(config, async |stage| {
        for path in [
            "/service/foo/v1/api?one=two",
            "/service/foo",
            "/every/one/two/three?one",
            "/lazy/one/and/one?one",
            "/case/XXX/hello",
            "/gone/hello",
            "/none/hello?z",
            "/group/q/r",
            "/backslash",
        ] {
            stage.get(path).await;
            let head = last_head(stage).join(" | ");
            stage.note(head);
        }
    })
    .await;
}

#[tokio::test]
async fn a_path_or_host_that_is_none_after_its_rewriting_leads_nowhere_else() {
    let config = |places: &Places<'_>| {
        let rewritten = |prefix: &str, cluster: &str, substitution: &str| {
            let rewrite = json!({ "pattern": { "regex": "^.*$" }, "substitution": substitution });
            with(route(prefix, cluster), &json!({ "route": { "regex_rewrite": rewrite } }))
        };
        let mut routes = vec![with(route("/host", "up2"), &json!({ "route": { "host_rewrite_literal": "a|b" } }))];
        for cluster in ["up", "up2"] {
            for (name, substitution) in [("less", "/a<b"), ("word", "word"), ("hash", "/a#b"), ("none", "")] {
                routes.push(rewritten(&format!("/{cluster}/{name}"), cluster, substitution));
            }
        }
        routes.push(route("/", "up"));
        let clusters = [cluster("up", &[places.upstream]), http2(cluster("up2", &[places.upstream]))];
        bootstrap(&[listener("main", places.folder, &[], &routes)], &clusters)
    };
    let Some(mut stage) = Stage::start(Kind::Ours, config).await else { return };
    for path in
        ["/host", "/up/less", "/up/word", "/up/hash", "/up/none", "/up2/less", "/up2/word", "/up2/hash", "/up2/none"]
    {
        assert_eq!(stage.get(path).await, 400, "{path}");
    }
    let heads = stage.upstream.heads();
    // In HTTP/2 a connection begins with words of its own.
    assert!(!heads.iter().any(|head| head.starts_with("GET")), "{heads:?}");
    assert_eq!(stage.get("/hello").await, 200);
    let told = stage.finish(None).await.join("\n");
    assert_eq!(told.matches(" 400 - rewritten_to_no_path_or_host ").count(), 9, "{told}");
}
