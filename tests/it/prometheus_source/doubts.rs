//! What an operator is told of answers that may not mean what they seem to.

use tidegate::control::source::SignalSource;

use super::*;
use crate::support::prometheus::{History, Prometheus};

const ENVOY: &str = "signals: {preset: envoy, cluster: c}";

const CLASS: &str = "envoy_cluster_upstream_rq_xx{envoy_cluster_name=\"c\",envoy_response_code_class=";

#[tokio::test]
async fn a_failure_term_that_is_absent_is_told_from_one_that_is_zero() {
    let mut history = History::with_step(Duration::from_secs(5));
    history.counter(&format!("{CLASS}\"2\"}}"), 10.0);
    history.counter("http_seconds_count{code=\"200\"}", 10.0);
    history.counter("http_seconds_count{code=\"500\"}", 0.0);
    let Some(prometheus) = Prometheus::with_history(&history).await else { return };
    let histogram =
        |errors: &str| format!("signals: {{preset: histogram, metric: http_seconds, error_match: '{errors}'}}");
    let right = histogram("code=~\"5..\"");
    let misnamed = histogram("status=~\"5..\"");
    for (signals, missing) in [
        (ENVOY, Some(format!("{CLASS}\"5\"}}"))),
        (&right, None),
        (&misnamed, Some("http_seconds_count{status=~\"5..\"}".to_owned())),
    ] {
        let (source, service) = source(&at(prometheus.address()), signals);
        assert_eq!(source.doubts(&service), [""; 0], "nothing was answered yet");
        let sample = source.sample(&service, &windows(5), now()).await;
        assert_eq!(sample.long.unwrap().failed, 0.0, "{signals}");
        let doubts = source.doubts(&service);
        match missing {
            Some(series) => {
                assert!(
                    doubts[0].ends_with(&format!("else look why Prometheus finds nothing for {series}")),
                    "{doubts:?}"
                );
            }
            None => assert_eq!(doubts, [""; 0]),
        }
    }
}
