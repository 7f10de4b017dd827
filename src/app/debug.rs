//! The debug port in this process.
//!
//! What is limited doesn't depend on it: if its port can't be had, the start-up text and the log say so and the process
//! serves without it, as the reference service does.

use std::fmt;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{StartError, listen};
use crate::metrics::Metrics;
use crate::settings::DebugSettings;
use crate::table::LimitTable;
use crate::web::debug::{self, DebugState};

/// The debug port, or why there is none.
#[derive(Debug)]
pub(super) struct DebugPort {
    host: String,
    listener: Result<TcpListener, StartError>,
}

// === impl DebugPort ===

impl DebugPort {
    /// Binds the port, or logs why it can't be.
    pub(super) async fn bind(settings: &DebugSettings) -> DebugPort {
        let listener = listen(&settings.host, settings.port, "debug.port").await;
        if let Err(error) = &listener {
            tracing::error!("the debug port is not served: {error}");
        }
        DebugPort { host: settings.host.clone(), listener }
    }

    /// Serves until `stop`, if there is a port.
    pub(super) async fn serve(
        self,
        table: LimitTable,
        metrics: Metrics,
        drain_timeout: Duration,
        stop: CancellationToken,
    ) {
        if let Ok(listener) = self.listener {
            debug::serve(listener, DebugState::new(table, metrics), &self.host, drain_timeout, stop).await;
        }
    }
}

impl fmt::Display for DebugPort {
    /// What the start-up text says behind its name.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.listener.as_ref().map(TcpListener::local_addr) {
            Ok(Ok(address)) => write!(f, "{address}  /rlconfig, /stats"),
            Ok(Err(_)) => f.write_str("?  /rlconfig, /stats"),
            Err(error) => write!(f, "not served: {error}"),
        }
    }
}
