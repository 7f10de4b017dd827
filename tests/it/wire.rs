//! What a gRPC client sees of the port beyond decisions: errors, deadlines, health, reflection, connection age.

use std::time::Duration;

use tidegate::proto::envoy::service::ratelimit::v3::rate_limit_response::Code;
use tidegate::proto::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use tonic::Code as Status;
use tonic::codegen::http::uri::PathAndQuery;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};

use crate::support::client::{descriptor, request};
use crate::support::redis::Redis;
use crate::support::tidegate::{Launch, Tidegate};
use crate::support::{PATIENCE, eventually};

const RULES: &str = "domain: shop\ndescriptors:\n  - { key: user, rate_limit: { unit: day, requests_per_unit: 2 } }\n";

async fn in_memory() -> Tidegate {
    Launch::new(&[("rules.yaml", RULES)]).start().await
}

/// A request as a newer Envoy might send it: with a field that we don't know.
#[derive(Clone, PartialEq, prost::Message)]
struct NewerRequest {
    #[prost(string, tag = "1")]
    domain: String,
    #[prost(message, repeated, tag = "2")]
    descriptors: Vec<NewerDescriptor>,
    #[prost(string, tag = "4000")]
    novelty: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct NewerDescriptor {
    #[prost(message, repeated, tag = "1")]
    entries: Vec<NewerEntry>,
    #[prost(uint64, tag = "77")]
    novelty: u64,
}

#[derive(Clone, PartialEq, prost::Message)]
struct NewerEntry {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
    #[prost(bytes = "vec", tag = "3")]
    novelty: Vec<u8>,
}

#[tokio::test]
async fn fields_that_are_not_known_are_ignored() {
    let tidegate = in_memory().await;
    let entry = NewerEntry { key: "user".into(), value: "ann".into(), novelty: vec![0xff; 9] };
    let request = NewerRequest {
        domain: "shop".into(),
        descriptors: vec![NewerDescriptor { entries: vec![entry], novelty: u64::MAX }],
        novelty: "new".into(),
    };
    let mut client = tonic::client::Grpc::new(tidegate.channel());
    for expected in [Code::Ok, Code::Ok, Code::OverLimit] {
        client.ready().await.unwrap();
        let path = PathAndQuery::from_static("/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit");
        let codec = tonic_prost::ProstCodec::<NewerRequest, RateLimitResponse>::default();
        let answer = client.unary(tonic::Request::new(request.clone()), path, codec).await.unwrap();
        assert_eq!(answer.into_inner().overall_code(), expected);
    }
}

#[tokio::test]
async fn questions_that_are_none_get_the_reference_s_errors() {
    let tidegate = in_memory().await;
    let error = async |request: RateLimitRequest| {
        let status = tidegate.grpc().should_rate_limit(request).await.unwrap_err();
        (status.code(), status.message().to_owned())
    };
    let unknown = |text: &str| (Status::Unknown, text.to_owned());
    let none = RateLimitRequest { domain: "shop".into(), ..RateLimitRequest::default() };
    assert_eq!(error(request("", &[("user", "a")])).await, unknown("rate limit domain must not be empty"));
    assert_eq!(error(none).await, unknown("rate limit descriptor list must not be empty"));
    let many = RateLimitRequest {
        domain: "shop".into(),
        descriptors: vec![descriptor(&[("user", "a")]); 129],
        ..RateLimitRequest::default()
    };
    assert_eq!(error(many).await.0, Status::InvalidArgument);
}

#[tokio::test]
async fn other_services_and_methods_are_unimplemented() {
    let tidegate = in_memory().await;
    for path in [
        "/envoy.service.ratelimit.v2.RateLimitService/ShouldRateLimit",
        "/envoy.service.ratelimit.v3.RateLimitService/Nothing",
        "/nothing",
    ] {
        let mut client = tonic::client::Grpc::new(tidegate.channel());
        client.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::<RateLimitRequest, RateLimitResponse>::default();
        let request = tonic::Request::new(RateLimitRequest::default());
        let status = client.unary(request, PathAndQuery::from_static(path), codec).await.unwrap_err();
        assert_eq!(status.code(), Status::Unimplemented, "{path}");
    }
}

#[tokio::test]
async fn health_answers_for_the_names_that_gateways_ask_for_and_for_no_others() {
    let tidegate = in_memory().await;
    let check = async |service: &str| {
        let request = HealthCheckRequest { service: service.to_owned() };
        HealthClient::new(tidegate.channel()).check(request).await.map(|answer| answer.into_inner().status())
    };
    for name in ["", "ratelimit", "envoy.service.ratelimit.v3.RateLimitService"] {
        assert_eq!(check(name).await.unwrap(), ServingStatus::Serving, "{name:?}");
    }
    assert_eq!(check("other").await.unwrap_err().code(), Status::NotFound);
    let counted = r#"ratelimit_service_total_requests{grpc_method="Check"} 4"#;
    eventually("the checks are counted", PATIENCE, async || {
        tidegate.http().get("/metrics").await.text().lines().any(|line| line == counted).then_some(())
    })
    .await;
}

#[tokio::test]
async fn reflection_names_the_rate_limit_service() {
    let tidegate = in_memory().await;
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = ServerReflectionClient::new(tidegate.channel());
    let mut answers = client.server_reflection_info(tokio_stream_of(request)).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap();
    let Some(ServerReflectionResponse {
        message_response: Some(MessageResponse::ListServicesResponse(services)), ..
    }) = answer
    else {
        panic!("{answer:?}");
    };
    let names: Vec<&str> = services.service.iter().map(|service| service.name.as_str()).collect();
    assert!(names.contains(&"envoy.service.ratelimit.v3.RateLimitService"), "{names:?}");
    assert!(names.contains(&"grpc.health.v1.Health"), "{names:?}");
}

fn tokio_stream_of<T: Send + 'static>(item: T) -> impl futures_util::Stream<Item = T> + Send + 'static {
    futures_util::stream::iter([item])
}

#[tokio::test]
async fn the_caller_s_deadline_holds_when_it_is_shorter_than_the_setting() {
    let Some(mut redis) = Redis::start().await else { return };
    let launch = Launch::new(&[("rules.yaml", RULES)]).redis(&redis);
    let launch = launch.setting("TIDEGATE_STORE_DEADLINE", "10s");
    let tidegate = launch.setting("TIDEGATE_STORE_REDIS_RESPONSE_TIMEOUT", "1m").start().await;
    tidegate.becomes(ServingStatus::Serving).await;
    redis.pause();
    // The client gives up after two seconds with another code: this one is the service's own, and it came in time. On a
    // machine that is held up at the end of them the client may be first.
    eventually("the service answers in time", PATIENCE, async || {
        let mut call = tonic::Request::new(request("shop", &[("user", "ann")]));
        call.set_timeout(Duration::from_secs(2));
        let status = tidegate.grpc().should_rate_limit(call).await.expect_err("Redis says nothing");
        let is_own = status.code() == Status::Unknown;
        assert!(!is_own || status.message().contains("did not answer within"), "{status}");
        is_own.then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_setting_s_deadline_holds_when_the_caller_names_none() {
    let Some(mut redis) = Redis::start().await else { return };
    let launch = Launch::new(&[("rules.yaml", RULES)]).redis(&redis).setting("TIDEGATE_STORE_DEADLINE", "200ms");
    let tidegate = launch.setting("TIDEGATE_STORE_REDIS_RESPONSE_TIMEOUT", "1m").start().await;
    tidegate.becomes(ServingStatus::Serving).await;
    redis.pause();
    // Redis never speaks again, and the client gives up in the end with another code.
    let status = tidegate.grpc().should_rate_limit(request("shop", &[("user", "ann")])).await.unwrap_err();
    assert_eq!(status.code(), Status::Unknown, "{status}");
    assert!(status.message().contains("did not answer within"), "{status}");
}
