//! What is shipped beside the program works: the demo in `docker/`, as far as it can be tried without containers.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use http::StatusCode;
use serde_json::{Value, json};
use tidegate::demo::adaptive::rules_with;
use tidegate::demo::configuration::{self, Addresses};
use tidegate::demo::stage::Stage;
use tidegate::shop::inventory::{Inventory, LivePlant};
use tidegate::shop::plant::PlantSettings;

use crate::support::envoy::{self, Envoy};
use crate::support::prometheus::Prometheus;
use crate::support::shop::Door;
use crate::support::tidegate::{Launch, Rules};
use crate::support::{PATIENCE, eventually, program};

fn docker(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docker").join(file)
}

fn read(file: &str) -> String {
    std::fs::read_to_string(docker(file)).unwrap()
}

fn yaml(file: &str) -> Value {
    serde_yaml::from_str(&read(file)).unwrap()
}

/// A bootstrap with these addresses in the place of its own.
fn at(file: &str, text: &str, addresses: &Addresses) -> Value {
    configuration::with_addresses(file, configuration::parse(file, text).unwrap(), addresses).unwrap()
}

/// Everything on ports of the system's choice, the services where they are said to be.
fn addresses(services: [(&'static str, SocketAddr); 4]) -> Addresses {
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let clusters = services.map(|(name, address)| (name, vec![address])).into();
    Addresses { listeners: vec![any; 4], admin: any, clusters }
}

#[test]
fn the_envoy_in_containers_is_that_of_the_demo_but_for_addresses() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let demo = std::fs::read_to_string(root.join("config/envoy/adaptive.yaml")).unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let addresses =
        addresses(["user_service", "inventory_service", "order_service", "tidegate"].map(|name| (name, any)));
    assert_eq!(at("envoy.yaml", &read("envoy.yaml"), &addresses), at("adaptive.yaml", &demo, &addresses));
}

/// Every query of the dashboards, sent to a Prometheus that watches the shop, an Envoy and a Tidegate as
/// `prometheus.yml` says, finds something.
#[tokio::test]
async fn every_query_of_the_dashboards_finds_what_it_asks_for() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let rules = root.join("config/rules/adaptive.yaml");
    // Where its Prometheus is, is not known yet.
    let unknown = rules_with(&rules, "http://127.0.0.1:1").unwrap();
    let tidegate = Launch::with(Rules::new(&[("adaptive.yaml", &unknown)])).start().await;
    let (user, inventory, order) = (Door::open().await, Door::open().await, Door::open().await);
    let at_these = addresses([
        ("user_service", user.address()),
        ("inventory_service", inventory.address()),
        ("order_service", order.address()),
        ("tidegate", tidegate.grpc_address()),
    ]);
    let bootstrap = at("envoy.yaml", &read("envoy.yaml"), &at_these);
    let Some(envoy) = Envoy::start_with(&bootstrap).await else { return };
    let listener = bootstrap["static_resources"]["listeners"][0]["name"].as_str().expect("it has a name");
    let proxy = envoy.http(listener);
    let plant = LivePlant::new(PlantSettings::default(), 1);
    let services = [
        ("user", user.user()),
        ("inventory", inventory.inventory(&Inventory::Capacity(plant))),
        ("order", order.order(proxy.address(), proxy.address())),
    ];

    let mut configuration = yaml("prometheus.yml");
    configuration["global"]["scrape_interval"] = json!("250ms");
    configuration.as_object_mut().unwrap().remove("rule_files");
    for job in configuration["scrape_configs"].as_array_mut().unwrap() {
        let name = job["job_name"].as_str().unwrap();
        let service = services.iter().find(|(service, _)| *service == name).map(|(_, service)| service.address);
        let address = service.unwrap_or_else(|| match name {
            "tidegate" => tidegate.http_address(),
            "envoy" => envoy.admin_address(),
            _ => panic!("{name} is no job of this test"),
        });
        job.as_object_mut().unwrap().remove("dns_sd_configs");
        job["static_configs"] = json!([{ "targets": [address.to_string()] }]);
    }
    let Some(prometheus) = Prometheus::start(&configuration.to_string()).await else { return };

    tidegate.rules().write("adaptive.yaml", &rules_with(&rules, &prometheus.url()).unwrap());

    let dashboards = DASHBOARDS.map(|file| queries(&yaml(file)));
    assert!(dashboards.iter().all(|queries| queries.len() >= 10), "{dashboards:?}");
    for query in dashboards.into_iter().flatten() {
        let query = query.replace("$__rate_interval", "10s").replace("$service", ".*");
        eventually(&format!("{query} finds something"), PATIENCE, async || {
            proxy.get("/orders/create/1/2").await;
            // More at once than the limit allows: Envoy has no series for what never happened.
            futures_util::future::join_all((0..40).map(|_| proxy.get("/inventory/1"))).await;
            (!prometheus.query(&query).await.is_empty()).then_some(())
        })
        .await;
    }
}

const DASHBOARDS: [&str; 2] = ["grafana/dashboards/tidegate.json", "grafana/dashboards/adaptive.json"];

fn queries(dashboard: &Value) -> Vec<String> {
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    targets.map(|target| target["expr"].as_str().unwrap().to_owned()).collect()
}

/// What Grafana is given fits together: the folder that it looks into, and the source of data that panels name.
#[test]
fn the_dashboards_ask_the_source_that_is_provisioned() {
    let source = yaml("grafana/provisioning/datasources/prometheus.yaml");
    let uid = source["datasources"][0]["uid"].clone();
    assert_eq!(source["datasources"][0]["url"], "http://prometheus:9090");
    let dashboards = DASHBOARDS.map(yaml);
    for panel in dashboards.iter().flat_map(|dashboard| dashboard["panels"].as_array().unwrap()) {
        assert_eq!(panel["datasource"]["uid"], uid, "{}", panel["title"]);
        assert!(panel["targets"].as_array().unwrap().iter().all(|target| target["datasource"]["uid"] == uid));
    }
    let provider = yaml("grafana/provisioning/dashboards/tidegate.yaml");
    let folder = provider["providers"][0]["options"]["path"].as_str().unwrap().to_owned();
    let mounts = yaml("compose.yaml")["services"]["grafana"]["volumes"].to_string();
    assert!(mounts.contains(&format!("./grafana/dashboards:{folder}:ro")), "{mounts}");
}

/// Every service of the compose file, with what `<<` puts into it.
fn services() -> serde_json::Map<String, Value> {
    let mut compose: serde_yaml::Value = serde_yaml::from_str(&read("compose.yaml")).unwrap();
    // Once for what is merged into that which is merged.
    compose.apply_merge().unwrap();
    compose.apply_merge().unwrap();
    let compose: Value = serde_yaml::from_value(compose).unwrap();
    compose["services"].as_object().unwrap().clone()
}

#[test]
fn containers_write_nowhere_and_have_no_rights() {
    let services = services();
    assert_eq!(services["tidegate"]["deploy"]["replicas"], 2);
    for (name, service) in &services {
        assert_eq!(service["read_only"], true, "{name}");
        assert_eq!(service["cap_drop"], json!(["ALL"]), "{name}");
        let image = service["image"].as_str().unwrap_or_else(|| panic!("{name} has an image"));
        assert!(image.starts_with("tidegate") || image.contains(':'), "{image} should say its version");
    }
    let dockerfile = read("Dockerfile");
    for stage in dockerfile.split("FROM scratch").skip(1) {
        assert!(stage.contains("USER 65534:65534"), "{stage}");
    }
}

/// The programs in the containers take the command lines that they are given, and every service that one names is there.
#[test]
fn what_the_containers_are_told_is_what_their_programs_understand() {
    let services = services();
    let mut told = 0;
    for (name, service) in services.iter().filter(|(_, service)| service["image"] == "tidegate-shop") {
        let words: Vec<String> = serde_json::from_value(service["command"].clone()).unwrap();
        let parsed = tidegate::shop::cli::parse(["tidegate-shop".to_owned()].into_iter().chain(words));
        assert!(parsed.is_ok(), "{name}: {}", parsed.unwrap_err());
        told += 1;
    }
    assert_eq!(told, 4);
    let jobs = yaml("prometheus.yml");
    for job in jobs["scrape_configs"].as_array().unwrap() {
        assert!(services.contains_key(job["job_name"].as_str().unwrap()), "{job}");
    }
    let envoy = yaml("envoy.yaml");
    for cluster in envoy["static_resources"]["clusters"].as_array().unwrap() {
        let socket =
            &cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]["socket_address"];
        assert!(services.contains_key(socket["address"].as_str().unwrap()), "{cluster}");
        assert_eq!(cluster["type"], "STRICT_DNS", "{cluster}");
    }
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
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/envoy");
    let files: Vec<PathBuf> = Stage::ALL.iter().map(|stage| folder.join(stage.file())).collect();
    for file in files.into_iter().chain([docker("envoy.yaml")]) {
        let checked = Command::new(&envoy).args(["--mode", "validate", "-c"]).arg(&file).output().unwrap();
        assert!(checked.status.success(), "{}: {}", file.display(), String::from_utf8_lossy(&checked.stderr));
    }
}

#[test]
fn prometheus_takes_the_demo_configuration_as_it_is() {
    let Some(promtool) = program("promtool", None, "REQUIRE_PROMETHEUS") else { return };
    for (what, file) in [("config", "prometheus.yml"), ("rules", "alerts.yml")] {
        let checked = Command::new(&promtool).args(["check", what]).arg(docker(file)).output().unwrap();
        assert!(checked.status.success(), "{file}: {}", String::from_utf8_lossy(&checked.stderr));
    }
}

/// A mount whose source is missing is made by Docker, as an empty folder, and nothing complains.
#[test]
fn everything_that_the_demo_mounts_is_there() {
    let services = services();
    let mounts = services.values().flat_map(|service| service["volumes"].as_array().cloned().unwrap_or_default());
    let mut count = 0;
    for mount in mounts {
        let source = mount.as_str().unwrap().split(':').next().unwrap();
        // Others are volumes.
        if source.starts_with('.') {
            assert!(docker(source).exists(), "compose.yaml mounts {source}");
            count += 1;
        }
    }
    assert!(count > 0, "the demo mounts its configuration");
}
