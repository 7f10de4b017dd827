//! A proxy between a client and the scripted upstream, and the transcript of what happens there.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;

use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::Value;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::Instant;

use super::subject::{Kind, Subject};
use super::upstream::Scripted;
use crate::support::{PATIENCE, eventually};

/// The counters that adaptive control reads, of each cluster, and those that say why (`cluster.` and the name before).
const WATCHED: [&str; 27] = [
    "ratelimit.ok",
    "ratelimit.over_limit",
    "ratelimit.error",
    "ratelimit.failure_mode_allowed",
    "upstream_rq_total",
    "upstream_rq_timeout",
    "upstream_rq_per_try_timeout",
    "upstream_rq_pending_overflow",
    "upstream_rq_active_overflow",
    "upstream_rq_pending_failure_eject",
    "upstream_rq_retry",
    "upstream_rq_retry_success",
    "upstream_rq_retry_overflow",
    "upstream_rq_retry_limit_exceeded",
    "upstream_cx_none_healthy",
    "upstream_cx_overflow",
    "upstream_cx_connect_fail",
    "lb_healthy_panic",
    "membership_healthy",
    "membership_total",
    "outlier_detection.ejections_active",
    "outlier_detection.ejections_enforced_total",
    "outlier_detection.ejections_overflow",
    "outlier_detection.ejections_detected_consecutive_5xx",
    "health_check.healthy",
    "circuit_breakers.default.rq_pending_open",
    "circuit_breakers.default.cx_open",
];

/// Headers of an answer that are compared.
const HEADERS: [&str; 18] = [
    "content-length",
    "content-type",
    "x-envoy-overloaded",
    "x-envoy-ratelimited",
    "x-envoy-attempt-count",
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
    "retry-after",
    "location",
    "x-from",
    "x-added",
    "x-cost",
    "server",
    "grpc-status",
    "connection",
    "x-envoy-upstream-healthchecked-cluster",
    "x-envoy-immediate-health-check-fail",
];

/// A proxy and its upstream.
pub(super) struct Stage {
    pub(super) subject: Subject,
    pub(super) upstream: Scripted,
    _refusing: TcpSocket,
    transcript: Vec<String>,
    requests: usize,
    /// The details of what it is to log as no HTTP; the library refuses that, and says less of it than Envoy.
    protocol_errors: Vec<String>,
    /// Whether an unknown number of requests was made, so that how many is not compared.
    is_loose: bool,
    before: BTreeMap<String, u64>,
}

/// What a configuration is made for.
pub(super) struct Places<'p> {
    pub(super) folder: &'p Path,
    pub(super) upstream: SocketAddr,
    /// Nobody listens there.
    pub(super) nobody: SocketAddr,
}

/// Plays the same on both proxies and compares the transcripts. Skips where Envoy isn't installed.
pub(super) async fn same(config: impl Fn(&Places<'_>) -> Value, play: impl AsyncFn(&mut Stage)) {
    same_with(&[], config, play).await;
}

/// The same with arguments on both command lines.
pub(super) async fn same_with(
    arguments: &[&str],
    config: impl Fn(&Places<'_>) -> Value,
    play: impl AsyncFn(&mut Stage),
) {
    let mut transcripts = Vec::new();
    for kind in [Kind::Envoy, Kind::Ours] {
        let Some(mut stage) = Stage::start_with(kind, arguments, &config).await else { return };
        play(&mut stage).await;
        let before = transcripts.first().cloned();
        transcripts.push(stage.finish(before).await);
    }
    let [envoy, ours] = &transcripts[..] else { unreachable!("there are two") };
    if envoy != ours {
        let differing = envoy.iter().zip(ours).filter(|(envoy, ours)| envoy != ours);
        let lines: Vec<String> = differing.map(|(envoy, ours)| format!("envoy: {envoy}\nours:  {ours}")).collect();
        let (all_envoy, all_ours) = (envoy.join("\n"), ours.join("\n"));
        panic!("{}\n--- all of envoy's:\n{all_envoy}\n--- all of ours:\n{all_ours}", lines.join("\n"));
    }
}

// === impl Stage ===

impl Stage {
    pub(super) async fn start(kind: Kind, config: impl Fn(&Places<'_>) -> Value) -> Option<Stage> {
        Stage::start_with(kind, &[], config).await
    }

    async fn start_with(kind: Kind, arguments: &[&str], config: impl Fn(&Places<'_>) -> Value) -> Option<Stage> {
        let upstream = Scripted::start().await;
        // Bound and never listened at: a port that refuses for as long as the test takes, and nobody else is given.
        let refusing = TcpSocket::new_v4().unwrap();
        refusing.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let nobody = refusing.local_addr().unwrap();
        let subject = Subject::start(kind, arguments, |folder| {
            config(&Places { folder: folder.path(), upstream: upstream.address(), nobody })
        })
        .await?;
        let mut stage = Stage {
            subject,
            upstream,
            _refusing: refusing,
            transcript: Vec::new(),
            requests: 0,
            protocol_errors: Vec::new(),
            is_loose: false,
            before: BTreeMap::new(),
        };
        stage.before = stage.counters().await;
        Some(stage)
    }

    /// Adds a line to the transcript.
    pub(super) fn note(&mut self, line: impl Into<String>) {
        let port = self.upstream.address().port();
        self.transcript.push(line.into().replace(&format!("127.0.0.1:{port}"), "UPSTREAM"));
    }

    /// Sends a GET to the listener `main` and notes the answer.
    pub(super) async fn get(&mut self, path: &str) -> u16 {
        self.ask("main", Request::get(path).body(Bytes::new()).unwrap()).await
    }

    /// Sends a request to a listener over HTTP/1.1 and notes the answer. Returns its status, 0 if there was none.
    pub(super) async fn ask(&mut self, listener: &str, request: Request<Bytes>) -> u16 {
        let what = format!("{listener} {} {}", request.method(), request.uri());
        let address = self.subject.address(listener);
        self.requests += 1;
        let (status, seen) = exchange(address, request, false).await;
        self.note(format!("{what} => {seen}"));
        status
    }

    /// As [`Stage::ask`], over HTTP/2.
    pub(super) async fn ask_http2(&mut self, listener: &str, path: &str) -> u16 {
        let address = self.subject.address(listener);
        self.requests += 1;
        let request = Request::get(format!("http://test{path}")).body(Bytes::new()).unwrap();
        let (status, seen) = exchange(address, request, true).await;
        self.note(format!("{listener} HTTP/2 {path} => {seen}"));
        status
    }

    /// Asks for a path, again and again, until the answer has that status. A proxy's threads learn of a host's health
    /// one after the other, so the first request may still see the old state.
    pub(super) async fn until(&mut self, path: &str, status: u16) {
        let address = self.subject.address("main");
        eventually(&format!("{path} is answered with {status}"), PATIENCE, async || {
            self.requests += 1;
            let request = Request::get(path).body(Bytes::new()).unwrap();
            (exchange(address, request, false).await.0 == status).then_some(())
        })
        .await;
        self.is_loose = true;
    }

    /// Another line of the access log is expected, for a request that was made by hand.
    pub(super) fn expect_log_line(&mut self) {
        self.requests += 1;
    }

    /// The same for a request that is no HTTP: of ours that line has the flag DPE and these details, of Envoy's it isn't
    /// looked at; see docs/proxy.md.
    pub(super) fn expect_protocol_error(&mut self, details: &str) {
        self.requests += 1;
        self.protocol_errors.push(details.to_owned());
    }

    /// The transcript, with the access log and what the counters have become. A connection may be given up a moment
    /// after the answer that it is given up for: counters that are not `like` those of another are read again for a while.
    pub(super) async fn finish(mut self, like: Option<Vec<String>>) -> Vec<String> {
        let nobody = |line: &str| {
            // Ports that only one of the two has been given.
            line.split(' ')
                .map(|word| if word.starts_with("127.0.0.1:") { "SOMEWHERE" } else { word })
                .collect::<Vec<_>>()
                .join(" ")
        };
        let mut lines = self.subject.log_lines(self.requests).await;
        // Requests that were made together may have ended in any order.
        lines.sort();
        if self.is_loose {
            lines.dedup();
        }
        let (errors, lines): (Vec<String>, Vec<String>) = lines.into_iter().partition(|line| line.contains(" DPE "));
        if self.subject.kind == Kind::Ours {
            let details = |line: &String| line.split(" DPE ").nth(1)?.split(' ').next().map(str::to_owned);
            let mut told: Vec<String> = errors.iter().filter_map(details).collect();
            told.sort();
            self.protocol_errors.sort();
            assert_eq!(told, self.protocol_errors, "what is no HTTP is logged as such: {errors:#?}");
        }
        for line in lines {
            let port = self.upstream.address().port();
            let line = nobody(&line.replace(&format!("127.0.0.1:{port}"), "UPSTREAM"));
            self.transcript.push(format!("log: {line}"));
        }
        let patience = Instant::now() + PATIENCE;
        loop {
            let mut told = self.transcript.clone();
            told.extend(self.changes().await);
            if like.as_ref().is_none_or(|like| *like == told) || Instant::now() > patience {
                return told;
            }
        }
    }

    /// What the counters have become since the start.
    async fn changes(&self) -> Vec<String> {
        let mut changes = Vec::new();
        for (name, value) in self.counters().await {
            let before = self.before.get(&name).copied().unwrap_or_default();
            let is_counted = !self.is_loose || !(name.contains("_rq") || name.contains("none_healthy"));
            if value != before && is_counted {
                changes.push(format!("{name}: {before} -> {value}"));
            }
        }
        changes
    }

    async fn counters(&self) -> BTreeMap<String, u64> {
        let all = self.subject.statistics().await;
        all.into_iter().filter(|(name, _)| is_watched(name)).collect()
    }
}

fn is_watched(name: &str) -> bool {
    if name.starts_with("http.admin.") {
        return false;
    }
    if let Some((_, rest)) = name.strip_prefix("http.").and_then(|name| name.split_once('.')) {
        return ["downstream_rq_2xx", "downstream_rq_4xx", "downstream_rq_5xx", "no_route", "rq_direct_response"]
            .contains(&rest)
            || ["fault.aborts_injected", "fault.delays_injected"].contains(&rest)
            || ["health_check.ok", "health_check.failed", "health_check.request_total"].contains(&rest)
            || ["downstream_rq_header_timeout", "downstream_cx_idle_timeout"].contains(&rest);
    }
    if let Some((_, rest)) = name.strip_prefix("cluster.").and_then(|name| name.split_once('.')) {
        let rest = rest.strip_prefix("external.").or_else(|| rest.strip_prefix("internal.")).unwrap_or(rest);
        let is_code = rest.strip_prefix("upstream_rq_").is_some_and(|code| code.len() == 3);
        return is_code || WATCHED.contains(&rest);
    }
    name.contains(".http_local_rate_limit.")
}

/// One request on a connection of its own: the status, 0 if there was no answer, and a line of what came back.
async fn exchange(address: SocketAddr, mut request: Request<Bytes>, is_http2: bool) -> (u16, String) {
    if !is_http2 && !request.headers().contains_key("host") {
        request.headers_mut().insert("host", "test".parse().unwrap());
    }
    let socket = TokioIo::new(TcpStream::connect(address).await.expect("the proxy listens"));
    let request = request.map(Full::new);
    let answer = if is_http2 {
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), socket).await.unwrap();
        tokio::spawn(connection);
        sender.send_request(request).await
    } else {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(socket).await.unwrap();
        tokio::spawn(connection);
        sender.send_request(request).await
    };
    let answer = match answer {
        Ok(answer) => answer,
        Err(_) => return (0, "no answer".to_owned()),
    };
    let (head, mut body) = answer.into_parts();
    let (mut text, mut end) = (String::new(), "");
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => {
                if let Some(data) = frame.data_ref() {
                    text.push_str(&String::from_utf8_lossy(data));
                }
            }
            Err(_) => {
                end = " (cut off)";
                break;
            }
        }
    }
    let status = head.status.as_u16();
    // A long body is told by its length.
    let text = if text.len() > 1000 { format!("{} bytes", text.len()) } else { format!("{text:?}") };
    (status, format!("{status} [{}] {text}{end}", told(&head.headers).join(", ")))
}

fn told(headers: &HeaderMap) -> Vec<String> {
    let mut told = Vec::new();
    for name in HEADERS {
        for value in headers.get_all(name) {
            let value = value.to_str().unwrap_or("?");
            // Seconds left depend on when the second began; that there are none doesn't.
            let is_time = name.ends_with("-reset") || name == "retry-after";
            let value = if is_time && value != "0" { "seconds" } else { value };
            told.push(format!("{name}: {value}"));
        }
    }
    for name in ["x-envoy-upstream-service-time", "date"] {
        if headers.contains_key(name) {
            told.push(name.to_owned());
        }
    }
    told
}
