//! The gRPC port on a socket in the file system, as `GRPC_UDS` asks for.

use http::StatusCode;
use tempfile::TempDir;

use crate::support::envoy::{self, Envoy};
use crate::support::process::Process;
use crate::support::tidegate::{Launch, Tidegate};
use crate::support::{PATIENCE, upstream};

const RULES: &str =
    "{ domain: edge, descriptors: [{ key: generic_key, rate_limit: { unit: hour, requests_per_unit: 2 } }] }";

async fn ask(address: &str) -> (Option<i32>, String) {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tidegate"));
    command.env_clear().args(["ask", "--address", address, "--timeout", "20s", "--domain", "edge", "generic_key=ask"]);
    let ended = Process::spawn("tidegate ask", &mut command).wait(PATIENCE).await;
    (ended.status.code(), ended.stderr)
}

async fn at(socket: &std::path::Path) -> Tidegate {
    Launch::new(&[("rules.yaml", RULES)]).setting("GRPC_UDS", socket.display()).start().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn envoy_and_ask_reach_the_service_over_a_socket() {
    let folder = TempDir::new().unwrap();
    let socket = folder.path().join("rls.sock");
    let tidegate = at(&socket).await;
    let address = format!("unix:{}", socket.display());
    assert_eq!(ask(&address).await.0, Some(0));

    let service = upstream::Upstream::start().await;
    let listener = envoy::listener(
        "main",
        vec![envoy::rate_limit_filter("edge", "ratelimit")],
        &[envoy::route("/", &envoy::generic_key("envoy"))],
    );
    let clusters = [envoy::upstream(service.address()), envoy::rate_limit_service_at("ratelimit", &socket)];
    let Some(envoy) = Envoy::start(&[listener], &clusters).await else { return };
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(envoy.http("main").get("/").await.status);
    }
    assert_eq!(statuses, [StatusCode::OK, StatusCode::OK, StatusCode::TOO_MANY_REQUESTS]);

    tidegate.stop().await;
    assert!(!socket.exists(), "the file goes with the process");
    let (code, said) = ask(&address).await;
    assert_eq!(code, Some(69), "{said}");
    assert!(said.contains(&format!("nobody answers at {address}: ")), "{said}");
}

#[tokio::test]
async fn a_killed_process_leaves_nothing_that_stops_the_next_and_a_living_one_does() {
    let folder = TempDir::new().unwrap();
    let socket = folder.path().join("rls.sock");
    drop(at(&socket).await);
    assert!(socket.exists(), "it was killed");
    let _living = at(&socket).await;
    let ended = Launch::new(&[("rules.yaml", RULES)]).setting("GRPC_UDS", socket.display()).run().await;
    assert!(!ended.status.success());
    let sentence = format!("cannot listen on {} (grpc.unix_socket): ", socket.display());
    assert!(ended.stderr.contains(&sentence) && ended.stderr.contains("another process listens there"), "{ended:?}");
}

#[tokio::test]
async fn a_path_that_no_socket_can_have_and_tls_on_it_are_each_a_sentence() {
    let launch = |path: String| Launch::new(&[("rules.yaml", RULES)]).setting("GRPC_UDS", path);
    let ended = launch(format!("/{}", "x".repeat(107))).run().await;
    assert!(ended.stderr.contains("GRPC_UDS is ") && ended.stderr.contains("a path of at most 107 bytes"), "{ended:?}");
    let tls = launch("/run/rls.sock".to_owned()).setting("GRPC_SERVER_USE_TLS", "true");
    let ended = tls.setting("GRPC_SERVER_TLS_CERT", "/c.pem").setting("GRPC_SERVER_TLS_KEY", "/k.pem").run().await;
    assert!(ended.stderr.contains("GRPC_UDS names a socket of this machine, on which TLS is not spoken"), "{ended:?}");
}
