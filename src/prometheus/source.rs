//! A Prometheus as the controller knows it: one source of signals among others that may come.

use std::time::Duration;

use super::{PrometheusSource, Queries};
use crate::clock::Timestamp;
use crate::control::source::SignalSource;
use crate::control::task::OpenSource;
use crate::rules::service::{PrometheusServer, Service};
use crate::signal::{Sample, Windows};

/// Makes sources of the Prometheus that the rule files name.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenPrometheus;

impl OpenSource for OpenPrometheus {
    type Source = PrometheusSource;

    fn open(&self, server: &PrometheusServer) -> Result<PrometheusSource, String> {
        PrometheusSource::new(server).map_err(|error| error.to_string())
    }
}

impl SignalSource for PrometheusSource {
    async fn sample(&self, service: &Service, windows: &Windows, now: Timestamp) -> Sample {
        PrometheusSource::sample(self, service, windows, now).await
    }

    async fn scrape_interval(&self, service: &Service) -> Option<Duration> {
        PrometheusSource::scrape_interval(self, service).await
    }

    fn doubts(&self, service: &Service) -> Vec<String> {
        let doubt = |signals| self.seen.failure_doubt(service, signals);
        service.source.as_ref().and_then(doubt).into_iter().collect()
    }

    fn questions(&self, service: &Service, windows: &Windows) -> Vec<String> {
        let Some(signals) = &service.source else { return Vec::new() };
        let Queries { newest, fast, slow, long } = Queries::of(signals, service, windows);
        vec![newest, fast, slow, long]
    }
}
