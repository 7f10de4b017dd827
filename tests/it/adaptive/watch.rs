//! What everybody sees of a limit: the gate in Redis, looked at every 20 ms, and what each replica tells of it.

use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use tidegate::key::CounterKey;
use tidegate::window::GateState;
use tokio::task::JoinSet;
use tokio::time::interval;

use crate::support::client::Http;

/// Watchers; they end when dropped.
pub(super) struct Watch {
    sightings: Arc<Mutex<Sightings>>,
    _replicas: JoinSet<()>,
    /// The gate's watcher is a thread, as it waits for Redis; it ends when this is dropped.
    _gate: Sender<()>,
}

/// Every limit that was new to whoever saw it, in the order of seeing.
#[derive(Debug, Default)]
struct Sightings {
    /// The generations of the gate's.
    gate: Vec<(u64, f64)>,
    /// All of them, with their place: 0 is the gate, replicas follow.
    all: Vec<(usize, f64)>,
}

/// An instant in what was seen, and the highest limit that anybody saw then.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    seen: usize,
    pub(super) highest: f64,
}

const GATE: usize = 0;

/// Between two looks at the gate.
const GATE_LOOK: Duration = Duration::from_millis(20);

/// How long Redis is waited for.
const REDIS_TIMEOUT: Duration = Duration::from_secs(1);

// === impl Watch ===

impl Watch {
    /// Watches the inventory's gate in that Redis, and replicas by their HTTP ports.
    pub(super) fn begin(redis: String, replicas: Vec<SocketAddr>) -> Watch {
        let sightings = Arc::new(Mutex::new(Sightings::default()));
        let mut watchers = JoinSet::new();
        let (gate, end) = channel();
        std::thread::spawn({
            let sightings = Arc::clone(&sightings);
            move || watch_gate(&redis, &sightings, &end)
        });
        for (number, replica) in replicas.into_iter().enumerate() {
            watchers.spawn(watch_replica(Http::new(replica), GATE + 1 + number, Arc::clone(&sightings)));
        }
        Watch { sightings, _replicas: watchers, _gate: gate }
    }

    fn sightings(&self) -> MutexGuard<'_, Sightings> {
        self.sightings.lock().unwrap()
    }

    /// The gate's limits so far, with their generations.
    pub(super) fn gate(&self) -> Vec<(u64, f64)> {
        self.sightings().gate.clone()
    }

    /// The gate's limit as it was seen last.
    pub(super) fn limit(&self) -> Option<f64> {
        self.sightings().gate.last().map(|(_, limit)| *limit)
    }

    /// Now.
    pub(super) fn mark(&self) -> Mark {
        let sightings = self.sightings();
        let of = |place: usize| sightings.all.iter().rev().find(|(by, _)| *by == place).map(|(_, limit)| *limit);
        let places = sightings.all.iter().map(|(by, _)| by + 1).max().unwrap_or_default();
        let highest = (0..places).filter_map(of).fold(0.0, f64::max);
        Mark { seen: sightings.all.len(), highest }
    }

    /// Nobody has seen a higher limit since then than anybody saw then.
    pub(super) fn has_not_risen_since(&self, mark: Mark) {
        let since = &self.sightings().all[mark.seen..];
        assert!(since.iter().all(|(_, limit)| *limit <= mark.highest), "after {mark:?}: {since:?}");
    }

    /// Nobody has ever seen a limit outside of these bounds.
    pub(super) fn stays_within(&self, (min, max): (f64, f64)) {
        let sightings = self.sightings();
        assert!(sightings.gate.len() > 1, "it moved: {sightings:?}");
        assert!(sightings.all.iter().all(|(_, limit)| (min..=max).contains(limit)), "{sightings:?}");
    }
}

// === impl Sightings ===

impl Sightings {
    fn see(&mut self, by: usize, limit: f64) {
        let last = self.all.iter().rev().find(|(other, _)| *other == by);
        if last.is_none_or(|(_, last)| *last != limit) {
            self.all.push((by, limit));
        }
    }
}

/// Looks at the gate until nobody holds the other end.
fn watch_gate(redis: &str, sightings: &Mutex<Sightings>, end: &Receiver<()>) {
    let client = redis::Client::open(redis).unwrap();
    let key = CounterKey::gate(b"tidegate:", "inventory");
    let mut connection = None;
    while end.recv_timeout(GATE_LOOK) == Err(RecvTimeoutError::Timeout) {
        if connection.is_none() {
            connection = client.get_connection_with_timeout(REDIS_TIMEOUT).ok();
            let timed = |open: &redis::Connection| open.set_read_timeout(Some(REDIS_TIMEOUT)).is_ok();
            connection = connection.filter(timed);
        }
        let Some(open) = &mut connection else { continue };
        match redis::cmd("GET").arg(key.as_bytes()).query::<Option<Vec<u8>>>(open) {
            Ok(bytes) => {
                let Some(state) = bytes.and_then(|bytes| GateState::decode(&bytes)) else { continue };
                let now = (state.governed.generation, state.governed.limit.per_second());
                let mut seen = sightings.lock().unwrap();
                if seen.gate.last() != Some(&now) {
                    seen.gate.push(now);
                }
                seen.see(GATE, now.1);
            }
            Err(_) => connection = None,
        }
    }
}

/// Looks at a replica's limit for as long as it lives.
async fn watch_replica(http: Http, by: usize, sightings: Arc<Mutex<Sightings>>) {
    let mut ticks = interval(Duration::from_millis(100));
    loop {
        ticks.tick().await;
        if let Some(limit) = metric(http, "tidegate_adaptive_limit{service=\"inventory\"}").await {
            sightings.lock().unwrap().see(by, limit);
        }
    }
}

/// A number that a replica tells; `None` while it can't be asked or doesn't tell it.
pub(super) async fn metric(http: Http, name: &str) -> Option<f64> {
    let request = http::Request::get("/metrics").body(Bytes::new()).unwrap();
    let text = http.send(request).await.ok()?.text();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    Some(value.parse().unwrap_or_else(|error| panic!("{name} {value}: {error}")))
}
