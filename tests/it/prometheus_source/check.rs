//! `tidegate check` shows what services come to, and what a Prometheus that can be reached says of them.

use std::process::Stdio;

use tokio::process::Command;

use super::{at, text};
use crate::support::prometheus::{History, Prometheus};

/// What the program prints about a rule file, which must be right.
async fn check(rules: &str) -> String {
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    std::fs::write(file.path(), rules).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate"));
    let output = command.arg("check").arg(file.path()).stdin(Stdio::null()).output().await.unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{printed}{}", String::from_utf8_lossy(&output.stderr));
    printed
}

#[tokio::test]
async fn queries_are_shown_as_they_are_sent_and_tried_where_there_is_a_prometheus() {
    let mut history = History::with_step(std::time::Duration::from_secs(5));
    history.counter("envoy_cluster_upstream_rq_xx{envoy_cluster_name=\"c\",envoy_response_code_class=\"2\"}", 10.0);
    let Some(mut prometheus) = Prometheus::with_history(&history).await else { return };
    let of = |words: &str| text(&format!("{}, timeout: 4s, bearer_token: s3cret", at(prometheus.address())), words);
    let known = of("mode: enforce, signals: {preset: envoy, cluster: c}");
    let printed = check(&known).await;
    for part in [
        "service s (enforce, ",
        "  limit: 25/s to 500/s, starting at 500/s\n",
        "  governs: d a (",
        "at a scrape interval of 5s for windows of 11s, 15s, 60s and 300s; for the first:\n",
        "    label_replace(sum(increase(envoy_cluster_upstream_rq_xx{envoy_cluster_name=\"c\",envoy_response_code_class!=\"4\"}[11s])), \"q\", \"n\", \"\", \"\")\n",
        "service s: no series of failed answers has been seen yet, which counts as none: right if none has failed since the \
         metrics began; else look why Prometheus finds nothing for ",
        "ok: 1 file, 1 domain, 1 rule, 1 warning, 1 service\n",
    ] {
        assert!(printed.contains(part), "{part}\n---\n{printed}");
    }
    assert!(!printed.contains("s3cret"), "{printed}");

    let unknown = check(&of("signals: {preset: envoy, cluster: other}")).await;
    assert!(unknown.contains("service s: its query finds nothing: there are no series of answers"), "{unknown}");
    let wrong = "{preset: custom, queries: {answered: 'summ(a[$window])', failed: 'sum(a[$window])'}}";
    let refused = check(&of(&format!("signals: {wrong}"))).await;
    assert!(refused.contains("service s: its query is refused: Prometheus answers bad_data: "), "{refused}");
    let off = check(&of("mode: off")).await;
    assert!(off.contains("  asks nothing\n"), "{off}");

    prometheus.kill();
    let lost = check(&known).await;
    assert!(lost.contains("warning: the queries below are not tried: Prometheus can't be reached: "), "{lost}");
    assert!(lost.contains("at a scrape interval of 15s"), "{lost}");
}
