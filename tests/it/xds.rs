//! Rules by xDS: our program against a server that behaves as Envoy Gateway's does.

mod tls;

use std::net::{Ipv4Addr, SocketAddr};

use bytes::Bytes;
use http::StatusCode;
use http_body_util::Full;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use pbjson_types::Any;
use tidegate::demo::ports::HeldPort;
use tidegate::proto::envoy::service::ratelimit::v3::rate_limit_response::Code;
use tidegate::proto::ratelimit::config::ratelimit::v3::{RateLimitConfig, RateLimitUnit};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tonic_health::pb::health_check_response::ServingStatus;

use crate::support::client::{Http, request};
use crate::support::tidegate::{Launch, Tidegate};
use crate::support::xds::{SnapshotServer, TYPE_URL, domain, limited};
use crate::support::{PATIENCE, eventually};

const NODE: &str = "envoy-ratelimit";

/// Tidegate with rules by xDS, as Envoy Gateway's variables say it, but with short waits.
fn launch(server: SocketAddr) -> Launch {
    Launch::new(&[])
        .setting("CONFIG_TYPE", "GRPC_XDS_SOTW")
        .setting("CONFIG_GRPC_XDS_SERVER_URL", server)
        .setting("CONFIG_GRPC_XDS_NODE_ID", NODE)
        .setting("XDS_CLIENT_BACKOFF_INITIAL_INTERVAL", "20ms")
        .setting("XDS_CLIENT_BACKOFF_MAX_INTERVAL", "100ms")
}

/// The same, serving from the start.
async fn started(server: &SnapshotServer) -> Tidegate {
    launch(server.address()).setting("FORCE_START_WITHOUT_INITIAL_CONFIG", true).start().await
}

/// The domain `shop` with a limit per hour on `user`.
fn shop(requests_per_unit: u32) -> RateLimitConfig {
    domain("shop", vec![limited("user", "", RateLimitUnit::Hour, requests_per_unit)])
}

async fn codes<const N: usize>(tidegate: &Tidegate, user: &str) -> [Code; N] {
    let mut codes = [Code::Unknown; N];
    for code in &mut codes {
        *code = tidegate.code(request("shop", &[("user", user)])).await;
    }
    codes
}

/// The value of a metric.
async fn metric(tidegate: &Tidegate, name: &str) -> Option<f64> {
    let text = tidegate.http().get("/metrics").await.text();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned));
    line.map(|value| value.parse().unwrap())
}

async fn becomes(tidegate: &Tidegate, name: &str, expected: f64) {
    let what = format!("{name} becomes {expected}");
    eventually(&what, PATIENCE, async || (metric(tidegate, name).await == Some(expected)).then_some(())).await;
}

/// Waits until a metric is above zero.
async fn is_counted(tidegate: &Tidegate, name: &str) {
    let what = format!("{name} is above 0");
    eventually(&what, PATIENCE, async || metric(tidegate, name).await.filter(|value| *value >= 1.0)).await;
}

async fn rlconfig(tidegate: &Tidegate) -> String {
    Http::new(tidegate.debug_address()).get_with("/rlconfig", &[("host", "localhost")]).await.text()
}

#[tokio::test]
async fn before_the_first_rules_requests_get_the_references_error_and_then_they_are_limited() {
    let server = SnapshotServer::start().await;
    let settings = launch(server.address())
        .setting("CONFIG_GRPC_XDS_NODE_METADATA", "zone=a,nothing")
        .setting("CONFIG_GRPC_XDS_CLIENT_ADDITIONAL_HEADERS", "authorization:token,x-team:edge");
    let mut tidegate = settings.setting("FORCE_START_WITHOUT_INITIAL_CONFIG", true).start().await;
    let refused = tidegate.grpc().should_rate_limit(request("shop", &[("user", "ada")])).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (tonic::Code::Unknown, "no rate limit configuration loaded"));
    assert_eq!(tidegate.http().get("/healthcheck").await.status, StatusCode::OK, "as the reference service");
    assert_eq!(rlconfig(&tidegate).await, "");
    let banner = tidegate.process().stdout();
    assert!(banner.contains(&format!("xDS server {}, for {NODE}  none yet", server.address())), "{banner}");

    server.tell(NODE, &[shop(2)]);
    server.is_accepted("1").await;
    assert_eq!(codes(&tidegate, "ada").await, [Code::Ok, Code::Ok, Code::OverLimit]);
    assert!(rlconfig(&tidegate).await.starts_with("shop.user: unit=HOUR requests_per_unit=2"));
    let call = &server.calls()[0];
    assert_eq!(["authorization", "x-team"].map(|name| call.get(name).unwrap()), ["token", "edge"]);
    let first = &server.asked()[0];
    let node = first.node.clone().unwrap();
    assert_eq!((node.id.as_str(), first.type_url.as_str()), (NODE, TYPE_URL));
    assert_eq!(node.metadata.unwrap().fields.keys().collect::<Vec<_>>(), ["zone"]);
    assert_eq!((first.version_info.as_str(), first.response_nonce.as_str()), ("", ""));
    assert!(first.resource_names.is_empty() && first.error_detail.is_none());
    let accepted = &server.asked()[1];
    assert_eq!((accepted.version_info.as_str(), accepted.response_nonce.as_str()), ("1", "1"));
    becomes(&tidegate, "tidegate_xds_info{version=\"1\"}", 1.0).await;
    becomes(&tidegate, "tidegate_xds_unreachable", 0.0).await;
    eventually("it is told since when it is connected", PATIENCE, async || {
        metric(&tidegate, "tidegate_xds_connected_since_seconds").await.filter(|since| *since > 1e9)
    })
    .await;
}

#[tokio::test]
async fn a_start_waits_for_the_first_rules_unless_it_is_forced() {
    let server = SnapshotServer::start().await;
    let mut starting = std::pin::pin!(launch(server.address()).start());
    tokio::select! {
        _ = starting.as_mut() => panic!("ports are open before there are rules"),
        _ = server.is_asked("rules are asked for", |_| true) => {}
    }
    server.tell(NODE, &[shop(1)]);
    let mut tidegate = starting.await;
    assert_eq!(codes(&tidegate, "ada").await, [Code::Ok, Code::OverLimit]);
    assert!(tidegate.process().stdout().contains("1 domain, 1 rule"), "{}", tidegate.process().stdout());
}

#[tokio::test]
async fn rules_with_mistakes_end_the_wait_too() {
    let server = SnapshotServer::start().await;
    server.tell(NODE, &[domain("shop", vec![limited("user", "", RateLimitUnit::Unknown, 1)])]);
    let tidegate = launch(server.address()).start().await;
    let refused = tidegate.grpc().should_rate_limit(request("shop", &[("user", "ada")])).await.unwrap_err();
    assert_eq!(refused.message(), "no rate limit configuration loaded");
}

#[tokio::test]
async fn an_answer_that_is_no_rules_does_not_end_the_wait() {
    let server = SnapshotServer::start().await;
    server.tell_resources(NODE, vec![Any { type_url: "type.googleapis.com/x".to_owned(), value: Default::default() }]);
    let mut starting = std::pin::pin!(launch(server.address()).start());
    let refused = || server.asked().iter().filter(|request| request.error_detail.is_some()).count();
    tokio::select! {
        _ = starting.as_mut() => panic!("ports are open before there are rules"),
        () = eventually("it is refused again and again", PATIENCE, async || (refused() >= 8).then_some(())) => {}
    }
    server.tell(NODE, &[shop(1)]);
    assert_eq!(codes(&starting.await, "ada").await, [Code::Ok, Code::OverLimit]);
}

#[tokio::test]
async fn an_update_is_in_force_in_full_and_counters_are_kept() {
    let server = SnapshotServer::start().await;
    server.tell(NODE, &[shop(3), domain("old", vec![limited("k", "", RateLimitUnit::Hour, 0)])]);
    let tidegate = started(&server).await;
    server.is_accepted("1").await;
    assert_eq!(codes(&tidegate, "ada").await, [Code::Ok, Code::Ok]);
    assert_eq!(tidegate.code(request("old", &[("k", "v")])).await, Code::OverLimit);
    server.tell(NODE, &[domain("new", vec![limited("k", "", RateLimitUnit::Hour, 0)]), shop(3)]);
    server.is_accepted("2").await;
    assert_eq!(tidegate.code(request("new", &[("k", "v")])).await, Code::OverLimit);
    assert_eq!(tidegate.code(request("old", &[("k", "v")])).await, Code::Ok, "nobody speaks of it any more");
    assert_eq!(codes(&tidegate, "ada").await, [Code::Ok, Code::OverLimit], "two were used up before");
}

#[tokio::test]
async fn refused_rules_change_nothing_and_good_ones_are_accepted_after_them() {
    let server = SnapshotServer::start().await;
    server.tell(NODE, &[shop(1)]);
    let tidegate = started(&server).await;
    server.is_accepted("1").await;
    let twice = RateLimitConfig { name: "other".to_owned(), ..shop(5) };
    server.tell(NODE, &[shop(5), twice]);
    let refused = server.is_asked("the second is refused", |request| request.error_detail.is_some()).await;
    assert_eq!((refused.version_info.as_str(), refused.response_nonce.as_str()), ("1", "2"));
    let why = refused.error_detail.unwrap().message;
    assert!(why.contains("duplicate domain 'shop' in config file: xDS resource other"), "{why}");
    assert_eq!(codes(&tidegate, "ada").await, [Code::Ok, Code::OverLimit], "the limit is still one");
    becomes(&tidegate, "tidegate_config_rejected", 1.0).await;
    is_counted(&tidegate, "ratelimit_service_config_load_error").await;
    is_counted(&tidegate, "tidegate_xds_refused{reason=\"rules\"}").await;

    let foreign = Any { type_url: "type.googleapis.com/x".to_owned(), value: Default::default() };
    server.tell_resources(NODE, vec![foreign]);
    let is_foreign = |why: &str| why.contains("resource 1: it is of the type \"type.googleapis.com/x\"");
    let what = "a foreign resource is refused";
    server.is_asked(what, |request| request.error_detail.as_ref().is_some_and(|why| is_foreign(&why.message))).await;
    is_counted(&tidegate, "tidegate_xds_refused{reason=\"unreadable\"}").await;

    server.tell(NODE, &[shop(3)]);
    server.is_accepted("4").await;
    assert_eq!(codes(&tidegate, "bob").await, [Code::Ok, Code::Ok, Code::Ok, Code::OverLimit]);
    becomes(&tidegate, "tidegate_config_rejected", 0.0).await;
    let told = || tidegate.log().matches("are refused, those in force stay").count();
    eventually("both refusals are told", PATIENCE, async || (told() >= 2).then_some(())).await;
    assert_eq!(told(), 2, "each is told once, however often the server repeats it: {}", tidegate.log());
}

#[tokio::test]
async fn an_empty_list_unloads_everything() {
    let server = SnapshotServer::start().await;
    server.tell(NODE, &[shop(0)]);
    let tidegate = launch(server.address()).setting("HEALTHY_WITH_AT_LEAST_ONE_CONFIG_LOADED", true).start().await;
    tidegate.becomes(ServingStatus::Serving).await;
    assert_eq!(codes(&tidegate, "ada").await, [Code::OverLimit]);
    server.tell(NODE, &[]);
    server.is_accepted("2").await;
    assert_eq!(codes(&tidegate, "ada").await, [Code::Ok]);
    assert_eq!(rlconfig(&tidegate).await, "");
    tidegate.becomes(ServingStatus::NotServing).await;
    server.tell(NODE, &[shop(0)]);
    server.is_accepted("3").await;
    tidegate.becomes(ServingStatus::Serving).await;
}

#[tokio::test]
async fn a_server_that_counts_its_versions_anew_is_understood() {
    let port = HeldPort::any().unwrap();
    let server = SnapshotServer::start_at(port.address(), None).await;
    server.tell(NODE, &[shop(1)]);
    let tidegate = started(&server).await;
    server.is_accepted("1").await;
    assert_eq!(codes(&tidegate, "ada").await, [Code::Ok, Code::OverLimit]);
    let address = server.stop().await;
    becomes(&tidegate, "tidegate_xds_unreachable", 1.0).await;
    assert_eq!(codes(&tidegate, "bob").await, [Code::Ok, Code::OverLimit], "rules stay while the server is away");
    let server = SnapshotServer::start_at(address, None).await;
    server.tell(NODE, &[shop(3)]);
    server.is_accepted("1").await;
    assert_eq!(codes(&tidegate, "eve").await, [Code::Ok, Code::Ok, Code::Ok, Code::OverLimit]);
    becomes(&tidegate, "tidegate_xds_unreachable", 0.0).await;
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told_once_and_found_when_it_is() {
    let port = HeldPort::any().unwrap();
    let address = port.address();
    let tidegate = launch(address).setting("FORCE_START_WITHOUT_INITIAL_CONFIG", true).start().await;
    becomes(&tidegate, "tidegate_xds_unreachable", 1.0).await;
    let server = SnapshotServer::start_at(address, None).await;
    server.tell(NODE, &[shop(1)]);
    server.is_accepted("1").await;
    assert_eq!(codes(&tidegate, "ada").await, [Code::Ok, Code::OverLimit]);
    tidegate.logs_once("is not there, the rules in force stay").await;
    tidegate.logs_once("connected to the xDS server").await;
}

#[tokio::test]
async fn a_server_that_hangs_is_noticed_and_left() {
    let server = SnapshotServer::start().await;
    server.tell(NODE, &[shop(1)]);
    let settings = launch(server.address()).setting("TIDEGATE_RULES_XDS_KEEPALIVE_INTERVAL", "500ms");
    let tidegate = settings.setting("TIDEGATE_RULES_XDS_KEEPALIVE_TIMEOUT", "500ms").start().await;
    server.is_accepted("1").await;
    server.pause(true);
    becomes(&tidegate, "tidegate_xds_unreachable", 1.0).await;
    assert_eq!(codes(&tidegate, "ada").await, [Code::Ok, Code::OverLimit]);
    server.tell(NODE, &[shop(2)]);
    server.pause(false);
    server.is_accepted("2").await;
    assert_eq!(codes(&tidegate, "bob").await, [Code::Ok, Code::Ok, Code::OverLimit]);
}

#[tokio::test]
async fn answers_above_four_mebibytes_are_read_and_larger_ones_than_the_setting_named() {
    let wide = |names: usize, length: usize| {
        let value = "v".repeat(length);
        let level = |index: usize| limited("route", &format!("{value}{index}"), RateLimitUnit::Hour, 1);
        domain("wide", (0..names).map(level).collect())
    };
    let server = SnapshotServer::start().await;
    server.tell(NODE, &[wide(5_000, 1_200), shop(1)]);
    let tidegate = launch(server.address()).start().await;
    server.is_accepted("1").await;
    assert_eq!(codes(&tidegate, "ada").await, [Code::Ok, Code::OverLimit]);

    let server = SnapshotServer::start().await;
    server.tell(NODE, &[wide(100, 1_200)]);
    let settings = launch(server.address()).setting("XDS_CLIENT_MAX_MSG_SIZE_IN_BYTES", 65_536);
    let tidegate = settings.setting("FORCE_START_WITHOUT_INITIAL_CONFIG", true).start().await;
    tidegate.logs("raise rules.xds.message_bytes_max, which is 65536").await;
    becomes(&tidegate, "tidegate_config_rejected", 1.0).await;
    is_counted(&tidegate, "tidegate_xds_refused{reason=\"unreadable\"}").await;
    server.tell(NODE, &[shop(1)]);
    server.is_accepted("2").await;
    assert_eq!(codes(&tidegate, "ada").await, [Code::Ok, Code::OverLimit]);
    becomes(&tidegate, "tidegate_config_rejected", 0.0).await;
}

/// A server whose every answer is a whole frame with these bytes in it.
async fn answering(bytes: &'static [u8]) -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let (address, mut server) = (listener.local_addr().unwrap(), JoinSet::new());
    server.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((socket, _)) = listener.accept().await {
            let service = service_fn(move |_| async move {
                let frame = [&[0, 0, 0, 0, u8::try_from(bytes.len()).unwrap()], bytes].concat();
                let answer = http::Response::builder().header("content-type", "application/grpc");
                answer.body(Full::<Bytes>::from(frame))
            });
            let served = http2::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(socket), service);
            connections.spawn(async move { drop(served.await) });
        }
    });
    (address, server)
}

#[tokio::test]
async fn an_answer_that_can_not_be_read_is_counted_as_refused_and_told_once() {
    // Five bytes are announced, and there are two.
    let (address, _server) = answering(&[0x0a, 0x05, b'x', b'y']).await;
    let tidegate = launch(address).setting("FORCE_START_WITHOUT_INITIAL_CONFIG", true).start().await;
    let refused = "tidegate_xds_refused{reason=\"unreadable\"}";
    eventually("it is refused more than once", PATIENCE, async || {
        metric(&tidegate, refused).await.filter(|times| *times >= 2.0).map(drop)
    })
    .await;
    becomes(&tidegate, "tidegate_config_rejected", 1.0).await;
    tidegate.logs_once("are refused, those in force stay: of its answer: it cannot be decoded").await;
}

#[tokio::test]
async fn what_is_set_and_not_used_is_told_and_stops_nothing() {
    const RULES: &str = "domain: shop\ndescriptors:\n- {key: user, rate_limit: {unit: hour, requests_per_unit: 1}}\n";
    let told = "TIDEGATE_RULES_PATHS is set, but rules come by xDS (rules.source): these files are not read";
    let from_server = Launch::new(&[("rules.yaml", RULES)]).setting("CONFIG_TYPE", "GRPC_XDS_SOTW");
    let checked = from_server.check().await;
    assert!(checked.status.success() && checked.stderr.contains(&format!("note: {told}")), "{}", checked.stderr);
    let server = SnapshotServer::start().await;
    let tidegate = started(&server).await;
    tidegate.logs(told).await;

    let from_files = Launch::new(&[("rules.yaml", RULES)]).setting("CONFIG_GRPC_XDS_SERVER_URL", "http://x");
    let tidegate = from_files.setting("CONFIG_TYPE", "FILE").start().await;
    assert_eq!(codes(&tidegate, "ada").await, [Code::Ok, Code::OverLimit]);
    tidegate.logs("CONFIG_GRPC_XDS_SERVER_URL is").await;
    tidegate.logs("because rules come from files").await;
}

#[tokio::test]
async fn a_process_that_waits_for_rules_ends_when_it_is_told_to() {
    let server = SnapshotServer::start().await;
    let mut process = launch(server.address()).spawn();
    server.is_asked("rules are asked for", |_| true).await;
    process.terminate();
    let ended = process.wait(PATIENCE).await;
    assert!(ended.status.success(), "{} {}", ended.status, ended.stderr);
}
