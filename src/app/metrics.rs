//! Metrics in this process: the series that are forgotten, the names they are shown by, and a port for Prometheus alone,
//! as the reference service has one.
//!
//! The HTTP port has the same metrics. This one is for deployments whose scrape configuration names the reference's
//! port, and for networks in which whoever scrapes should reach nothing else. It serves until every call was answered.

use std::fmt;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::interval;
use tokio_util::sync::CancellationToken;

use super::{StartError, listen};
use crate::metrics::Metrics;
use crate::metrics::mapped::MappedMetrics;
use crate::metrics::mapping::Mapping;
use crate::rules::FINDINGS_MAX;
use crate::settings::{ListenAddress, PrometheusSettings};
use crate::web::server::serve_router;
use crate::web::{AdaptiveLimits, Scraper, WebLimits};

/// How Prometheus gets the metrics.
#[derive(Debug)]
pub(super) struct ShownMetrics {
    /// A port for nothing else, and the path on it.
    port: Option<(TcpListener, String)>,
    /// The metrics under other names than the built-in ones.
    mapped: Option<MappedMetrics>,
}

/// The setting that names the port.
const SETTING: &str = "metrics.prometheus.address";

/// A metric series named by a caller's values goes when nobody asked for it for one to two times this long.
const SERIES_IDLE: Duration = Duration::from_secs(3_600);

/// Forgets metric series named by callers' values that nobody has asked for in a while.
pub(super) async fn forget_idle_series(metrics: Metrics, stop: CancellationToken) {
    let mut ticks = interval(SERIES_IDLE);
    ticks.tick().await;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => metrics.forget_idle(),
        }
    }
}

/// The metrics under the names that the mapping file gives them. If it can't be used, everything that is wrong with it
/// is told and nothing else happens: a dashboard is no reason not to limit.
fn mapped(settings: &PrometheusSettings, metrics: &Metrics) -> Option<MappedMetrics> {
    if settings.response_time_as_milliseconds {
        metrics.show_milliseconds();
    }
    let path = settings.mapping.as_ref()?;
    let file = path.display().to_string();
    let mistakes: Vec<String> = match std::fs::read_to_string(path) {
        Ok(text) => match Mapping::read(&file, &text) {
            Ok(mapping) => return Some(MappedMetrics::new(metrics.clone(), mapping)),
            Err(mistakes) => mistakes.iter().map(ToString::to_string).collect(),
        },
        Err(error) => vec![format!("{file} cannot be read: {error}")],
    };
    let count = mistakes.len();
    for mistake in mistakes.iter().take(FINDINGS_MAX) {
        tracing::error!("{mistake}");
    }
    tracing::error!(count, "metrics.prometheus.mapping cannot be used: metrics have their built-in names");
    metrics.totals().metrics_mapping_rejected.set(1);
    None
}

/// Time for scrapes under way at the very end.
const LAST_SCRAPE: Duration = Duration::from_secs(1);

// === impl ShownMetrics ===

impl ShownMetrics {
    /// Binds the port, if there is to be one, and reads the mapping.
    pub(super) async fn bind(settings: &PrometheusSettings, metrics: &Metrics) -> Result<ShownMetrics, StartError> {
        let port = match &settings.listener {
            None => None,
            Some(ListenAddress { host, port }) => {
                let listener = match host {
                    Some(host) => listen(host, *port, SETTING).await?,
                    // All addresses of both kinds, and of one kind where the machine has no IPv6.
                    None => match listen("::", *port, SETTING).await {
                        Ok(listener) => listener,
                        Err(_) => listen("0.0.0.0", *port, SETTING).await?,
                    },
                };
                Some((listener, settings.path.clone()))
            }
        };
        Ok(ShownMetrics { port, mapped: mapped(settings, metrics) })
    }

    /// What writes the metrics. Asked once.
    pub(super) fn scraper(&mut self, metrics: &Metrics, adaptive: AdaptiveLimits) -> Scraper {
        Scraper::new(metrics.clone(), Some(adaptive)).mapped(self.mapped.take())
    }

    /// Serves the port, if there is one, until `shutdown`.
    pub(super) async fn serve(self, scraper: Scraper, limits: WebLimits, shutdown: CancellationToken) {
        if let Some((listener, path)) = self.port {
            // It is the last port to close, when all calls were answered: nobody waits for a reader then.
            let limits = WebLimits { drain_timeout: LAST_SCRAPE, ..limits };
            serve_router(listener, scraper.router(&path), limits, shutdown).await;
        }
    }
}

impl fmt::Display for ShownMetrics {
    /// A line for the start, if there is a port.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.port {
            None => Ok(()),
            Some((listener, path)) => match listener.local_addr() {
                Ok(address) => writeln!(f, "  prom   {address}  {path}"),
                Err(_) => writeln!(f, "  prom   ?  {path}"),
            },
        }
    }
}
