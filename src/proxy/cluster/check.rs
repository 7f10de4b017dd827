//! Active health checks over HTTP, the part that asks.
//!
//! Each host has a task for each check that is configured; a host is healthy when all of its checks say so. A check makes
//! its own connection each time, so that it also finds out whether the host takes any.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::Request;
use http::header::{HOST, HeaderValue, USER_AGENT};
use http_body_util::BodyExt;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::Cluster;
use super::health::{CheckResult, HealthTracker};
use super::host::Host;
use crate::proxy::body;
use crate::proxy::bootstrap::model::{HealthCheck, UpstreamProtocol};

/// Between two looks for hosts that came or went; only STRICT_DNS clusters have such.
const HOSTS_INTERVAL: Duration = Duration::from_millis(100);

/// Bytes of an answer to a check that are read so that the other side can end well.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// What the checks of one host say: `None` until each has been made.
#[derive(Debug)]
struct Verdicts(Mutex<Vec<Option<bool>>>);

/// Keeps checking the hosts of a cluster; `ready` is told when each host that was there at first has been checked once.
pub(super) async fn keep_checking(cluster: Arc<Cluster>, ready: Arc<Notify>) {
    let mut tasks: HashMap<SocketAddr, JoinSet<()>> = HashMap::new();
    let first = cluster.hosts().len();
    let (checked, mut first_results) = mpsc::channel::<()>(first.max(1));
    let mut left = first;
    if left == 0 {
        ready.notify_one();
    }
    loop {
        let hosts = cluster.hosts();
        tasks.retain(|address, _| hosts.iter().any(|host| host.address == *address));
        for host in hosts {
            tasks.entry(host.address).or_insert_with(|| check_host(&cluster, &host, &checked));
        }
        tokio::select! {
            Some(()) = first_results.recv(), if left > 0 => {
                left -= 1;
                if left == 0 {
                    ready.notify_one();
                }
            }
            () = sleep(HOSTS_INTERVAL) => {}
        }
    }
}

fn check_host(cluster: &Arc<Cluster>, host: &Arc<Host>, checked: &mpsc::Sender<()>) -> JoinSet<()> {
    let verdicts = Arc::new(Verdicts(Mutex::new(vec![None; cluster.settings.health_checks.len()])));
    let mut checks = JoinSet::new();
    for (index, settings) in cluster.settings.health_checks.iter().enumerate() {
        let (cluster, host, verdicts) = (Arc::clone(cluster), Arc::clone(host), Arc::clone(&verdicts));
        let (settings, checked) = (settings.clone(), checked.clone());
        checks.spawn(async move {
            let mut tracker = HealthTracker::new(&settings);
            sleep(random_up_to(settings.initial_jitter)).await;
            loop {
                let result = check(&cluster, &host, &settings).await;
                let transition = tracker.record(result);
                if let Some((is_healthy, is_first)) = verdicts.set(index, tracker.is_healthy()) {
                    cluster.set_checked(&host, is_healthy);
                    if is_first && checked.try_send(()).is_err() {
                        tracing::trace!("everybody who is waited for has been checked");
                    }
                }
                let has_traffic = cluster.stats.traffic.upstream_cx_total.get() > 0;
                let wait = tracker.wait(result, transition, has_traffic);
                sleep(wait + random_up_to(settings.interval_jitter)).await;
            }
        });
    }
    checks
}

/// Asks once.
async fn check(cluster: &Cluster, host: &Host, settings: &HealthCheck) -> CheckResult {
    let stats = &cluster.stats.health_check;
    stats.attempt.increment();
    let status = timeout(settings.timeout, ask(cluster, host, settings)).await.ok().flatten();
    let result = match status {
        None => CheckResult::NetworkFailure,
        Some(status) if within(&settings.expected_statuses, status) => CheckResult::Success,
        Some(status) if within(&settings.retriable_statuses, status) => CheckResult::Retriable,
        Some(_) => CheckResult::Failure,
    };
    match result {
        CheckResult::Success => stats.success.increment(),
        CheckResult::Failure | CheckResult::Retriable => stats.failure.increment(),
        CheckResult::NetworkFailure => {
            stats.failure.increment();
            stats.network_failure.increment();
        }
    }
    result
}

fn within(ranges: &[std::ops::Range<u16>], status: u16) -> bool {
    ranges.iter().any(|range| range.contains(&status))
}

/// The status of the answer; `None` if there is none.
async fn ask(cluster: &Cluster, host: &Host, settings: &HealthCheck) -> Option<u16> {
    let address = SocketAddr::new(host.address.ip(), host.health_check_port.unwrap_or(host.address.port()));
    let socket = TokioIo::new(TcpStream::connect(address).await.ok()?);
    let authority = [&settings.host, &host.hostname, &cluster.settings.name]
        .into_iter()
        .find(|name| !name.is_empty())
        .map_or("", |name| name.as_str());
    let is_http2 = matches!(cluster.settings.protocol, UpstreamProtocol::Http2(_));
    let uri = if is_http2 { format!("http://{authority}{}", settings.path) } else { settings.path.clone() };
    let mut request = Request::builder().method(settings.method.clone()).uri(uri).body(body::empty()).ok()?;
    let headers = request.headers_mut();
    if !is_http2 {
        headers.insert(HOST, HeaderValue::from_str(authority).ok()?);
    }
    headers.insert(USER_AGENT, HeaderValue::from_static("Envoy/HC"));
    for (name, value) in &settings.request_headers_to_add {
        headers.append(name, value.clone());
    }
    // The connection ends with the set.
    let mut driver = JoinSet::new();
    let answer = if is_http2 {
        let (mut sender, connection) = http2::handshake(TokioExecutor::new(), socket).await.ok()?;
        driver.spawn(async move { drop(connection.await) });
        sender.send_request(request).await.ok()?
    } else {
        let (mut sender, connection) = http1::handshake(socket).await.ok()?;
        driver.spawn(async move { drop(connection.await) });
        sender.send_request(request).await.ok()?
    };
    let status = answer.status().as_u16();
    drop(http_body_util::Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await);
    Some(status)
}

fn random_up_to(most: Duration) -> Duration {
    most.mul_f64(rand::random::<f64>())
}

// === impl Verdicts ===

impl Verdicts {
    /// Notes what one check says; what all say together, once each has been made, and whether it is the first time.
    fn set(&self, index: usize, is_healthy: bool) -> Option<(bool, bool)> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_first = all.iter().any(Option::is_none);
        all[index] = Some(is_healthy);
        let together = all.iter().try_fold(true, |all, one| one.map(|one| all && one))?;
        Some((together, is_first))
    }
}
