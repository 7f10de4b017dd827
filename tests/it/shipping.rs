//! What is shipped beside the program works: the demo in `docker/`, as far as it can be tried without containers.

use std::path::{Path, PathBuf};
use std::process::Command;

use http::StatusCode;
use serde_json::{Value, json};

use crate::support::envoy::{self, Envoy};
use crate::support::program;
use crate::support::tidegate::{Launch, Rules};
use crate::support::upstream::Upstream;

fn docker(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docker").join(file)
}

fn read(file: &str) -> String {
    std::fs::read_to_string(docker(file)).unwrap()
}

#[tokio::test]
async fn the_demo_limits_as_its_files_say() {
    let upstream = Upstream::start().await;
    let tidegate = Launch::with(Rules::new(&[("demo.yaml", &read("rules/demo.yaml"))])).start().await;
    // The file as it is, but for the addresses: here every port is one that the system chose.
    let mut bootstrap: Value = serde_yaml::from_str(&read("envoy.yaml")).unwrap();
    let loopback = |port: u16| json!({ "socket_address": { "address": "127.0.0.1", "port_value": port } });
    bootstrap["admin"]["address"] = loopback(0);
    for listener in bootstrap["static_resources"]["listeners"].as_array_mut().unwrap() {
        listener["address"] = loopback(0);
    }
    for (cluster, port) in [("tidegate", tidegate.grpc_address().port()), ("service", upstream.address().port())] {
        let clusters = bootstrap["static_resources"]["clusters"].as_array_mut().unwrap();
        let found = clusters.iter_mut().find(|found| found["name"] == cluster).expect("the file has this cluster");
        found["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"] = loopback(port);
    }
    for listener in bootstrap["static_resources"]["listeners"].as_array_mut().unwrap() {
        let filters = &mut listener["filter_chains"][0]["filters"][0]["typed_config"]["http_filters"];
        for filter in
            filters.as_array_mut().unwrap().iter_mut().filter(|filter| filter["typed_config"]["domain"] == "demo")
        {
            // As in every test here: slow must not look like allowed.
            filter["typed_config"]["timeout"] = json!("10s");
            filter["typed_config"]["failure_mode_deny"] = json!(true);
        }
    }
    let Some(envoy) = Envoy::start_with(&bootstrap).await else { return };
    for request in 1..=10 {
        let answer = envoy.http("main").get("/").await;
        assert_eq!(answer.status, StatusCode::OK, "request {request}");
        assert_eq!(answer.header("x-ratelimit-limit"), "10, 10;w=60");
    }
    assert_eq!(envoy.http("main").get("/").await.status, StatusCode::TOO_MANY_REQUESTS, "request 11");
}

/// What the README shows is tried as it stands there, but for the ports and for the time that a busy machine needs.
#[tokio::test]
async fn the_readme_s_envoy_gives_the_answer_that_the_readme_shows() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let block = |start: &str| {
        let (_, rest) = readme.split_once(start).expect("the README has this block");
        rest.split_once("```").expect("a block ends").0
    };
    let rules = std::fs::read_to_string(root.join("config/rules.yaml")).unwrap();
    let tidegate = Launch::with(Rules::new(&[("rules.yaml", &rules)])).start().await;
    let port = |port: u16| format!("port_value: {port} ");
    let text = block("```yaml\n")
        .replace(&port(10_000), &port(0))
        .replace(&port(8_081), &port(tidegate.grpc_address().port()))
        .replace(&port(8_080), &port(tidegate.http_address().port()))
        .replace("domain: example\n", "domain: example\n                      timeout: 10s\n");
    let mut bootstrap: Value = serde_yaml::from_str(&text).unwrap();
    bootstrap["admin"] = json!({ "address": { "socket_address": { "address": "127.0.0.1", "port_value": 0 } } });
    let Some(envoy) = Envoy::start_with(&bootstrap).await else { return };
    for _ in 0..5 {
        let answer = envoy.http("main").get_with("/healthcheck", &[("x-user", "ann")]).await;
        assert_eq!((answer.status, answer.text().as_str()), (StatusCode::OK, "OK"));
    }
    let sixth = envoy.http("main").get_with("/healthcheck", &[("x-user", "ann")]).await;
    let mut shown = block("is answered:\n\n```\n").lines();
    assert_eq!(shown.next(), Some("HTTP/1.1 429 Too Many Requests"));
    assert_eq!(sixth.status, StatusCode::TOO_MANY_REQUESTS);
    for line in shown {
        let (name, value) = line.split_once(": ").expect("a header");
        if name == "x-ratelimit-reset" {
            // It counts down while a slow machine asks.
            let seconds: u32 = sixth.header(name).parse().unwrap();
            assert!((1..=60).contains(&seconds), "{seconds} s");
        } else {
            assert_eq!(sixth.header(name), value, "{name}");
        }
    }
}

#[test]
fn envoy_takes_the_demo_configuration_as_it_is() {
    let Some(envoy) = envoy::binary() else { return };
    let file = docker("envoy.yaml");
    let checked = Command::new(envoy).args(["--mode", "validate", "-c"]).arg(file).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

#[test]
fn prometheus_takes_the_demo_configuration_as_it_is() {
    let Some(promtool) = program("promtool", None, "REQUIRE_PROMETHEUS") else { return };
    let checked = Command::new(promtool).args(["check", "config"]).arg(docker("prometheus.yml")).output().unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}

/// A mount whose source is missing is made by Docker, as an empty folder, and nothing complains.
#[test]
fn everything_that_the_demo_mounts_is_there() {
    let compose: Value = serde_yaml::from_str(&read("compose.yaml")).unwrap();
    let services = compose["services"].as_object().unwrap();
    let mounts = services.values().flat_map(|service| service["volumes"].as_array().cloned().unwrap_or_default());
    let mut count = 0;
    for mount in mounts {
        let source = mount.as_str().unwrap().split(':').next().unwrap();
        assert!(docker(source).exists(), "compose.yaml mounts {source}");
        count += 1;
    }
    assert!(count > 0, "the demo mounts its configuration");
}
