//! A real Prometheus that scrapes a proxy's statistics as they grow, and is lost.

use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use tidegate::signal::AbsenceKind;
use tokio::time::Instant;

use super::web::Web;
use super::{at, now, source, windows};
use crate::support::prometheus::Prometheus;
use crate::support::{PATIENCE, eventually};

/// What an Envoy of 200 answers a second, 20 of them failed, tells after `seconds`.
fn exposition(seconds: f64) -> String {
    let class = |class: u8, rate: f64| {
        format!(
            "envoy_cluster_upstream_rq_xx{{envoy_cluster_name=\"c\",envoy_response_code_class=\"{class}\"}} {}\n",
            (rate * seconds).round()
        )
    };
    [class(2, 180.0), class(4, 900.0), class(5, 20.0)].concat()
}

#[tokio::test]
async fn the_present_is_seen_as_it_is_scraped_and_its_loss_is_seen_too() {
    let started = Instant::now();
    let proxy = Web::serve(move |_| {
        let response = Response::builder().header("content-type", "text/plain; version=0.0.4");
        response.body(Full::new(Bytes::from(exposition(started.elapsed().as_secs_f64())))).unwrap()
    })
    .await;
    let configuration = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs: [{{job_name: envoy, static_configs: [{{targets: ['{}']}}]}}]\n",
        proxy.address
    );
    let Some(mut prometheus) = Prometheus::start(&configuration).await else { return };
    let words = "interval: 1s, signals: {preset: envoy, cluster: c}";
    let (source, service) = source(&format!("{}, timeout: 500ms", at(prometheus.address())), words);

    // It begins with two samples, of which less than the window is extrapolated.
    let newest = eventually("three seconds hold 600 answers", PATIENCE, async || {
        let sample = source.sample(&service, &windows(1), now()).await;
        sample.newest.ok().filter(|counts| (counts.answered - 600.0).abs() < 60.0)
    })
    .await;
    assert!((newest.error_ratio() - 0.1).abs() < 0.02, "{newest:?}");
    // A machine that is held up scrapes later.
    eventually("three scrapes a second apart are there to measure", PATIENCE, async || {
        source.scrape_interval(&service).await.filter(|measured| *measured == Duration::from_secs(1))
    })
    .await;

    // Without the proxy its last samples age.
    drop(proxy);
    eventually("the samples are too old", PATIENCE, async || {
        let absence = source.sample(&service, &windows(1), now()).await.long.err()?;
        // It may have answered too late for once.
        assert!([AbsenceKind::Stale, AbsenceKind::TimedOut].contains(&absence.kind), "{absence}");
        (absence.kind == AbsenceKind::Stale).then_some(())
    })
    .await;

    prometheus.kill();
    let lost = source.sample(&service, &windows(1), now()).await;
    for window in [lost.newest, lost.fast, lost.slow, lost.long] {
        assert_eq!(window.unwrap_err().kind, AbsenceKind::Unreachable);
    }
}
