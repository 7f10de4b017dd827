//! The inventory service: it answers as a plant or a counted cycle has it.
//!
//! ```text
//! request ─ arrive ─┬─ 503 at once, the plant is full
//!                   └─ waits ─ the plant's own task wakes it when its service ends ─ 200, or 500 by error_ratio
//! ```
//!
//! The plant lives in its own time, which runs beside the machine's: a task that wakes late answers late, but the
//! worker was free when it should have been. So the capacity is exact on a busy machine too. A request whose caller
//! has gone keeps its place and its worker, as it does in most services: that work is wasted.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep_until};

use super::counted::{Counted, Fate};
use super::plant::{Finished, Plant, PlantSettings};
use super::traffic::{Traffic, route};
use crate::metrics::exposition::single;

/// Its path.
pub const PATH: &str = "/inventory/{id}";

/// A service and how it fails. Clones are the same service.
#[derive(Clone, Debug)]
pub enum Inventory {
    /// By its capacity.
    Capacity(LivePlant),
    /// By count.
    Counted(Arc<Mutex<Counted>>),
}

/// A plant that serves in the machine's time. Clones are the same plant.
#[derive(Clone, Debug)]
pub struct LivePlant {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    started: Instant,
    state: Mutex<Working>,
    /// Told whenever the next service may end earlier than was known.
    changed: Notify,
}

#[derive(Debug)]
struct Working {
    plant: Plant<oneshot::Sender<Outcome>>,
    random: SmallRng,
}

/// How a service ended.
#[derive(Debug)]
enum Outcome {
    Served,
    Failed,
}

/// What a plant does now.
#[derive(Clone, Copy, Debug)]
pub struct Reading {
    /// How it works.
    pub settings: PlantSettings,
    /// Requests in service.
    pub in_service: usize,
    /// Requests that wait.
    pub queued: usize,
}

// === impl Inventory ===

impl Inventory {
    /// A service that fails by count.
    #[must_use]
    pub fn counted(seed: u64) -> Inventory {
        Inventory::Counted(Arc::new(Mutex::new(Counted::new(seed))))
    }

    /// Its routes, counted in `traffic`.
    pub fn router(&self, traffic: &Traffic) -> Router {
        route(traffic, PATH, inventory).with_state(self.clone())
    }

    /// Its plant, if it has one.
    #[must_use]
    pub fn plant(&self) -> Option<&LivePlant> {
        match self {
            Inventory::Capacity(plant) => Some(plant),
            Inventory::Counted(_) => None,
        }
    }
}

async fn inventory(State(inventory): State<Inventory>, Path(id): Path<String>) -> Response {
    match inventory {
        Inventory::Capacity(plant) => match plant.serve().await {
            Some(Outcome::Served) => in_stock(&id),
            Some(Outcome::Failed) => fail(StatusCode::INTERNAL_SERVER_ERROR, "the service broke"),
            None => fail(StatusCode::SERVICE_UNAVAILABLE, "overloaded"),
        },
        Inventory::Counted(counted) => {
            let fate = counted.lock().unwrap_or_else(PoisonError::into_inner).next_fate();
            match fate {
                Fate::Answered => in_stock(&id),
                Fate::TooMany => fail(StatusCode::SERVICE_UNAVAILABLE, "overloaded"),
                Fate::Unlucky => fail(StatusCode::SERVICE_UNAVAILABLE, "the service broke"),
            }
        }
    }
}

fn in_stock(id: &str) -> Response {
    axum::Json(json!({ "id": id, "in_stock": true })).into_response()
}

fn fail(status: StatusCode, reason: &str) -> Response {
    (status, axum::Json(json!({ "error": reason }))).into_response()
}

// === impl LivePlant ===

impl LivePlant {
    /// An empty plant. It serves while [`LivePlant::run`] runs. The seed says which services end in an error.
    #[must_use]
    pub fn new(settings: PlantSettings, seed: u64) -> LivePlant {
        let state = Working { plant: Plant::new(settings), random: SmallRng::seed_from_u64(seed) };
        let inner = Inner { started: Instant::now(), state: Mutex::new(state), changed: Notify::new() };
        LivePlant { inner: Arc::new(inner) }
    }

    /// Wakes whoever's service has ended, for ever. Who drops it first leaves requests waiting.
    pub async fn run(&self) {
        loop {
            let next = {
                let mut working = self.working();
                self.catch_up(&mut working);
                working.plant.next_finish()
            };
            let changed = self.inner.changed.notified();
            match next {
                None => changed.await,
                Some(at) => tokio::select! {
                    () = changed => {}
                    () = sleep_until(self.inner.started + at) => {}
                },
            }
        }
    }

    /// How it works, and how much it has to do now.
    #[must_use]
    pub fn reading(&self) -> Reading {
        let mut working = self.working();
        self.catch_up(&mut working);
        let plant = &working.plant;
        Reading { settings: *plant.settings(), in_service: plant.in_service(), queued: plant.queued() }
    }

    /// Changes how it works by what `change` makes of the present settings, and returns the new ones.
    ///
    /// # Errors
    /// That of `change`; nothing is changed then.
    pub fn change<E>(
        &self,
        change: impl FnOnce(&PlantSettings) -> Result<PlantSettings, E>,
    ) -> Result<PlantSettings, E> {
        let mut working = self.working();
        self.catch_up(&mut working);
        let settings = change(working.plant.settings())?;
        working.plant.change(settings);
        self.inner.changed.notify_one();
        Ok(settings)
    }

    /// Is served; `None` if there is no place.
    async fn serve(&self) -> Option<Outcome> {
        let (done, wait) = oneshot::channel();
        {
            let mut working = self.working();
            self.catch_up(&mut working);
            working.plant.arrive(done).ok()?;
        }
        self.inner.changed.notify_one();
        // The plant loses nobody, and bounds how long it takes: its queue and its service time are bounded.
        wait.await.ok()
    }

    /// Lets happen what is due, and tells whom it concerns.
    fn catch_up(&self, working: &mut Working) {
        let now = self.inner.started.elapsed();
        for Finished { customer, .. } in working.plant.advance(now) {
            let failed = working.random.random_bool(working.plant.settings().error_ratio());
            // A caller that has gone isn't told.
            drop(customer.send(if failed { Outcome::Failed } else { Outcome::Served }));
        }
    }

    /// Nothing that is done under the lock can panic half-way.
    fn working(&self) -> MutexGuard<'_, Working> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Collector for LivePlant {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Reading { settings, in_service, queued } = self.reading();
        let encoder = &mut encoder;
        let gauge = MetricType::Gauge;
        single(encoder, "shop_plant_in_service", "Requests in service.", gauge, in_service as u64)?;
        single(encoder, "shop_plant_queued", "Requests that wait.", gauge, queued as u64)?;
        single(encoder, "shop_plant_workers", "Requests that can be in service.", gauge, settings.workers() as u64)?;
        let help = "Requests a second that the plant completes while few wait.";
        single(encoder, "shop_plant_capacity", help, gauge, settings.capacity())
    }
}
