//! Sends the calls of a profile and notes what becomes of each.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

use super::outcome::Outcome;
use super::profile::Profile;
use super::timeline::Timeline;

/// What to send where.
#[derive(Clone, Debug)]
pub struct Load {
    /// The proxy, as `http://host:port`.
    pub target: String,
    /// Where the inventory's plant can be read, if it is to be watched.
    pub control: Option<SocketAddr>,
    /// When calls are due.
    pub profile: Profile,
    /// Decides when exactly.
    pub seed: u64,
    /// Length of the timeline's slices.
    pub slice: Duration,
}

/// A timeline that fills while somebody looks.
pub type Shared = Arc<Mutex<Timeline>>;

/// A client with as many connections as calls may be under way. Clones share them.
pub type HttpClient = Client<HttpConnector, Empty<Bytes>>;

/// Who wants to know what becomes of calls.
pub trait Notes: Send + 'static {
    /// A call is due.
    fn offer(&mut self, due: Duration);

    /// A call that was due then has ended.
    fn end(&mut self, due: Duration, ended: Duration, outcome: Outcome);
}

/// Calls under way at once. A collapsed shop answers after four seconds at the latest, so this is enough for 1,000 a
/// second.
pub const UNDER_WAY_MAX: usize = 4_000;

/// Users and items that are asked for, in turn.
const IDS: u64 = 1_000;

/// Time after which a call is given up. Longer than everything behind the proxy waits.
const PATIENCE: Duration = Duration::from_secs(10);

/// Largest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// How often the plant is asked for its queue.
const WATCH_INTERVAL: Duration = Duration::from_millis(250);

// === impl Load ===

impl Load {
    /// A timeline for this load, with nothing in it.
    #[must_use]
    pub fn timeline(&self) -> Shared {
        let Load { profile, slice, .. } = self;
        Arc::new(Mutex::new(Timeline::new(profile.length(), *slice, profile.overload_time())))
    }

    /// Sends everything, and returns when all of it has ended. Dropping it ends the calls under way.
    pub async fn run(&self, timeline: &Shared) {
        let client = client();
        let started = Instant::now();
        let url = |id: u64| format!("{}/orders/create/{id}/{id}", self.target);
        let sending = send(&client, url, self.profile.instants(self.seed), started, timeline);
        match self.control {
            None => sending.await,
            Some(control) => tokio::select! {
                () = sending => {}
                () = watch(&client, control, started, timeline) => {}
            },
        }
    }
}

impl Notes for Timeline {
    fn offer(&mut self, due: Duration) {
        Timeline::offer(self, due);
    }

    fn end(&mut self, due: Duration, ended: Duration, outcome: Outcome) {
        Timeline::end(self, due, ended, outcome);
    }
}

/// Asks for a URL at each of these instants after `started`, and returns when all calls have ended. What is asked for is
/// numbered from 0, and begins anew after a thousand.
pub async fn send<N: Notes>(
    client: &HttpClient,
    url: impl Fn(u64) -> String,
    instants: impl Iterator<Item = Duration>,
    started: Instant,
    notes: &Arc<Mutex<N>>,
) {
    let mut calls = JoinSet::new();
    for (number, due) in instants.enumerate() {
        sleep_until(started + due).await;
        while calls.try_join_next().is_some() {}
        note(notes, |notes| notes.offer(due));
        if calls.len() >= UNDER_WAY_MAX {
            note(notes, |notes| notes.end(due, due, Outcome::Unsent));
            continue;
        }
        let url = url(number as u64 % IDS);
        let (client, notes) = (client.clone(), Arc::clone(notes));
        calls.spawn(async move {
            let outcome = call(&client, &url).await;
            note(&notes, |notes| notes.end(due, started.elapsed(), outcome));
        });
    }
    while calls.join_next().await.is_some() {}
}

async fn call(client: &HttpClient, url: &str) -> Outcome {
    match timeout(PATIENCE, get(client, url)).await {
        Ok(Some((status, body))) => Outcome::of(status, &body),
        Ok(None) => Outcome::Failed,
        Err(_) => Outcome::TimedOut,
    }
}

/// Asks the plant for its queue, for ever.
async fn watch(client: &HttpClient, control: SocketAddr, started: Instant, timeline: &Shared) {
    let url = format!("http://{control}/plant");
    let mut ticks = interval(WATCH_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        let Ok(Some((_, body))) = timeout(PATIENCE, get(client, &url)).await else { continue };
        let plant: Value = serde_json::from_slice(&body).unwrap_or_default();
        if let (Some(queued), Some(capacity)) = (plant["queued"].as_u64(), plant["capacity"].as_f64()) {
            note(timeline, |timeline| timeline.plant(started.elapsed(), queued, capacity));
        }
    }
}

/// The status and body of the answer to a GET, if there is one.
async fn get(client: &HttpClient, url: &str) -> Option<(StatusCode, Bytes)> {
    let request = Request::get(url).body(Empty::new()).ok()?;
    let (head, body) = client.request(request).await.ok()?.into_parts();
    let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.ok()?;
    Some((head.status, body.to_bytes()))
}

/// A client that has no connection yet.
#[must_use]
pub fn client() -> HttpClient {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    Client::builder(TokioExecutor::new()).pool_max_idle_per_host(UNDER_WAY_MAX).build(connector)
}

/// Counting can't panic half-way.
fn note<N, T>(notes: &Mutex<N>, change: impl FnOnce(&mut N) -> T) -> T {
    change(&mut notes.lock().unwrap_or_else(PoisonError::into_inner))
}
