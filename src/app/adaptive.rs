//! Adaptive limits in this process: the controller beside the store that the settings chose, and the operators' port.
//!
//! Who has no adaptive services has no such port: it is opened with the first of them, at the start or by a reload.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::{StartError, StoreMaker, listen};
use crate::admin::{self, AdminState};
use crate::control::command::{Command, Commands, commands};
use crate::control::record::{AnyRecords, LeaseTimes, MemoryRecords, RedisRecords, ReplicaId};
use crate::control::task::Controller;
use crate::control::view::ControllerView;
use crate::prometheus::OpenPrometheus;
use crate::settings::AdminSettings;
use crate::table::LimitTable;

/// What adaptive limits need, before they run.
pub(super) struct Adaptive {
    controller: Controller<AnyRecords, OpenPrometheus>,
    port: Port,
}

/// The operators' port, open or not yet.
struct Port {
    settings: AdminSettings,
    listener: Option<TcpListener>,
    state: AdminState,
    view: watch::Receiver<Arc<ControllerView>>,
    drain_timeout: Duration,
}

// === impl Adaptive ===

impl Adaptive {
    pub(super) fn new(
        table: LimitTable,
        store: &StoreMaker,
        key_prefix: &[u8],
        (settings, listener): (AdminSettings, Option<TcpListener>),
        drain_timeout: Duration,
    ) -> Adaptive {
        let replica = ReplicaId::draw(&host_name());
        let records = records(store, key_prefix, &replica);
        let (commands, wishes): (Commands, mpsc::Receiver<Command>) = commands();
        let (controller, view) = Controller::new(table, records.clone(), OpenPrometheus, replica, wishes);
        let state = AdminState::new(view.clone(), commands, records, &settings.host);
        Adaptive { controller, port: Port { settings, listener, state, view, drain_timeout } }
    }

    /// What the controller shows.
    pub(super) fn view(&self) -> watch::Receiver<Arc<ControllerView>> {
        self.port.view.clone()
    }

    /// Governs the services of the rules in force and serves operators, until `stop`.
    pub(super) async fn run(self, stop: CancellationToken) {
        tokio::join!(self.controller.run(stop.clone()), self.port.serve(stop));
    }
}

// === impl Port ===

impl Port {
    async fn serve(mut self, stop: CancellationToken) {
        let opening = async {
            match self.listener.take() {
                Some(listener) => Some(listener),
                None => self.open().await,
            }
        };
        let listener = tokio::select! {
            listener = opening => listener,
            () = stop.cancelled() => None,
        };
        if let Some(listener) = listener {
            admin::serve(listener, self.state, self.drain_timeout, stop).await;
        }
    }

    /// Waits for the first service that a reload brings, and opens the port.
    async fn open(&mut self) -> Option<TcpListener> {
        self.view.wait_for(|view| !view.services.is_empty()).await.ok()?;
        match listen(&self.settings.host, self.settings.port, "admin.port").await {
            Ok(listener) => {
                let address = listener.local_addr().map_or_else(|_| "?".to_owned(), |address| address.to_string());
                tracing::info!("operators of adaptive limits are served at {address}");
                Some(listener)
            }
            // What is limited goes on being limited.
            Err(error) => {
                tracing::error!("operators of adaptive limits are not served: {error}");
                None
            }
        }
    }
}

/// Opens the operators' port at the start, if there is something to operate.
pub(super) async fn admin_listener(
    settings: &AdminSettings,
    table: &LimitTable,
) -> Result<Option<TcpListener>, StartError> {
    let has_services = table.load().is_some_and(|snapshot| !snapshot.rules.services().is_empty());
    match has_services {
        true => listen(&settings.host, settings.port, "admin.port").await.map(Some),
        false => Ok(None),
    }
}

/// Where the records of adaptive services are: beside the counters.
fn records(store: &StoreMaker, key_prefix: &[u8], replica: &ReplicaId) -> AnyRecords {
    match store {
        StoreMaker::Memory(store) => {
            AnyRecords::Memory(Arc::new(MemoryRecords::new(Arc::clone(store), key_prefix, replica.clone())))
        }
        StoreMaker::Redis(redis) => {
            let records = RedisRecords::new(redis.main().clone(), key_prefix, replica.clone(), LeaseTimes::default());
            AnyRecords::Redis(Arc::new(records))
        }
    }
}

/// What this machine is called, for people who ask which replica decides.
fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
