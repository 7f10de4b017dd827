//! A rate limit service that notes what it is asked, and answers as the test says.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper::server::conn::http2::Builder;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use tidegate::proto::envoy::service::ratelimit::v3::rate_limit_response::Code;
use tidegate::proto::envoy::service::ratelimit::v3::rate_limit_service_server::{
    RateLimitService, RateLimitServiceServer,
};
use tidegate::proto::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};
use tonic::{Request, Response, Status};

use super::accepting::Accepting;

/// A running recorder; it ends when dropped.
#[derive(Debug)]
pub(super) struct Recorder {
    notes: Notes,
    server: Accepting,
}

#[derive(Clone, Debug, Default)]
struct Notes {
    asked: Arc<Mutex<Vec<String>>>,
    answer: Arc<Mutex<Option<RateLimitResponse>>>,
    never_answers: Arc<Mutex<bool>>,
}

// === impl Recorder ===

impl Recorder {
    pub(super) async fn start() -> Recorder {
        let notes = Notes::default();
        let service = RateLimitServiceServer::new(notes.clone());
        let server = Accepting::start(move |stream| {
            // Not by tonic's own server: it gives up a call by itself when the caller's time is over, and who is
            // first then is chance.
            let service = TowerToHyperService::new(service.clone());
            Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service)
        })
        .await;
        Recorder { notes, server }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// What it was asked so far, one line a call.
    pub(super) fn asked(&self) -> Vec<String> {
        self.notes.asked.lock().unwrap().clone()
    }

    pub(super) fn answer_with(&self, answer: RateLimitResponse) {
        *self.notes.answer.lock().unwrap() = Some(answer);
    }

    pub(super) fn never_answer(&self) {
        *self.notes.never_answers.lock().unwrap() = true;
    }
}

#[tonic::async_trait]
impl RateLimitService for Notes {
    async fn should_rate_limit(
        &self,
        request: Request<RateLimitRequest>,
    ) -> Result<Response<RateLimitResponse>, Status> {
        let mut metadata: Vec<String> = ["x-envoy-internal", "x-own", "x-envoy-expected-rq-timeout-ms", "grpc-timeout"]
            .into_iter()
            .filter_map(|name| {
                let value = request.metadata().get(name)?.to_str().ok()?;
                // What is left of the time when it is written differs by a little.
                Some(format!("{name}={}", if name == "grpc-timeout" { "some" } else { value }))
            })
            .collect();
        metadata.sort();
        let asked = request.into_inner();
        let descriptors: Vec<String> = asked
            .descriptors
            .iter()
            .map(|descriptor| {
                let entries: Vec<String> =
                    descriptor.entries.iter().map(|entry| format!("{}={}", entry.key, entry.value)).collect();
                let limit = descriptor.limit.map_or(String::new(), |limit| {
                    format!(" limit {} of unit {}", limit.requests_per_unit, limit.unit)
                });
                let hits =
                    descriptor.hits_addend.as_ref().map_or(String::new(), |hits| format!(" hits {}", hits.value));
                let negative = if descriptor.is_negative_hits { " given back" } else { "" };
                format!("({}{limit}{hits}{negative})", entries.join(", "))
            })
            .collect();
        self.asked.lock().unwrap().push(format!(
            "{} {} hits_addend={} {}",
            asked.domain,
            descriptors.join(" "),
            asked.hits_addend,
            metadata.join(" ")
        ));
        if *self.never_answers.lock().unwrap() {
            tokio::time::timeout(Duration::from_secs(20), std::future::pending::<()>()).await.ok();
        }
        let answer = self.answer.lock().unwrap().clone();
        Ok(Response::new(
            answer.unwrap_or(RateLimitResponse { overall_code: Code::Ok.into(), ..RateLimitResponse::default() }),
        ))
    }
}
