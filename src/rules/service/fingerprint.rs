//! What of a service its learned normals depend on, as one number.

use sha2::{Digest, Sha256};

use super::{LatencyTarget, Service, SignalSpec, Targets};

// === impl Service ===

impl Service {
    /// A number that is the same as long as targets and signals are: when it changes, what was learned of the service
    /// (its normals, its knee) is about something else. It is the same in every process and release.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let mut digest = Sha256::new();
        for part in self.parts() {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part.as_bytes());
        }
        let digest = digest.finalize();
        let mut first = [0; 8];
        first.copy_from_slice(&digest[..8]);
        u64::from_be_bytes(first)
    }

    fn parts(&self) -> Vec<String> {
        let Targets { errors, latency } = &self.targets;
        let mut parts = vec!["errors".to_owned(), errors.to_bits().to_string()];
        if let Some(LatencyTarget { above, at_most }) = latency {
            parts.extend(["latency".to_owned(), above.as_nanos().to_string(), at_most.to_bits().to_string()]);
        }
        let optional = |text: &Option<String>| match text {
            Some(text) => ["given".to_owned(), text.clone()],
            None => ["absent".to_owned(), String::new()],
        };
        match &self.source {
            None => parts.push("no source".to_owned()),
            Some(SignalSpec::Envoy(envoy)) => parts.extend([
                "envoy".to_owned(),
                envoy.cluster.clone(),
                envoy.matchers.clone(),
                envoy.limited_status_is_5xx.to_string(),
                envoy.failure_mode_deny.to_string(),
            ]),
            Some(SignalSpec::Istio(istio)) => parts.extend([
                "istio".to_owned(),
                istio.service.clone(),
                istio.namespace.clone(),
                istio.reporter.clone(),
            ]),
            Some(SignalSpec::Histogram(histogram)) => parts.extend([
                "histogram".to_owned(),
                histogram.metric.clone(),
                histogram.matchers.clone(),
                histogram.error_matchers.clone(),
                histogram.unit.as_nanos().to_string(),
            ]),
            Some(SignalSpec::Custom(custom)) => {
                parts.extend(["custom".to_owned(), custom.answered.clone(), custom.failed.clone()]);
                parts.extend(optional(&custom.slow));
                parts.extend(optional(&custom.latency_sum));
            }
        }
        parts
    }
}
