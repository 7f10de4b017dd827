//! The numbers of each preset, and what is no number, over histories that a real Prometheus evaluates.

use std::time::Duration;

use tidegate::signal::{Absence, AbsenceKind, Counts, Sample};

use super::{at, now, source, windows};
use crate::support::prometheus::{History, Prometheus};

const STEP: Duration = Duration::from_secs(5);

/// Rates of what a window held, per second.
#[derive(Debug, PartialEq)]
struct Rates {
    answered: f64,
    failed: f64,
    local: f64,
    slow: f64,
}

fn rates(counts: &Counts, window: Duration) -> Rates {
    let per_second = |count: f64| (count / window.as_secs_f64() * 10.0).round() / 10.0;
    Rates {
        answered: per_second(counts.answered),
        failed: per_second(counts.failed),
        local: per_second(counts.failed_locally),
        slow: per_second(counts.slow),
    }
}

/// What all four windows say, which must be the same.
fn steady(sample: &Sample) -> (Rates, Option<f64>) {
    let windows = sample.windows;
    let each = [
        (&sample.newest, windows.newest),
        (&sample.fast, windows.fast),
        (&sample.slow, windows.slow),
        (&sample.long, windows.long),
    ]
    .map(|(counts, window)| {
        let counts = counts.as_ref().unwrap_or_else(|absence| panic!("{window:?}: {absence}"));
        (rates(counts, window), counts.latency.map(|seconds| (seconds * 1e4).round() / 1e4))
    });
    let [newest, fast, slow, long] = each;
    assert!(newest == fast && fast == slow && slow == long, "{newest:?} {fast:?} {slow:?} {long:?}");
    fast
}

const ENVOY: &str = "signals: {preset: envoy, cluster: c}";

/// An Envoy's series: answers a second by class, and the times of those that the service gave.
fn envoy(history: &mut History, labels: &str, classes: [f64; 3]) {
    for (class, rate) in ["2", "4", "5"].iter().zip(classes) {
        history.counter(
            &format!("envoy_cluster_upstream_rq_xx{{envoy_cluster_name=\"c\",envoy_response_code_class=\"{class}\",{labels}}}"),
            rate,
        );
    }
}

fn times(history: &mut History, labels: &str, edges: [(&str, f64); 3], milliseconds: f64) {
    let name = "envoy_cluster_upstream_rq_time";
    for (edge, rate) in edges {
        history.counter(&format!("{name}_bucket{{envoy_cluster_name=\"c\",le=\"{edge}\",{labels}}}"), rate);
    }
    history.counter(&format!("{name}_count{{envoy_cluster_name=\"c\",{labels}}}"), edges[2].1);
    history.counter(&format!("{name}_sum{{envoy_cluster_name=\"c\",{labels}}}"), milliseconds);
}

#[tokio::test]
async fn an_envoy_s_answers_are_those_of_all_its_instances_without_what_limits_refused() {
    let mut history = History::with_step(STEP);
    // Of the second instance's failures some were never sent. Many are refused with 429, which is class 4.
    envoy(&mut history, "instance=\"1\"", [60.0, 400.0, 4.0]);
    envoy(&mut history, "instance=\"2\"", [30.0, 0.0, 6.0]);
    history.counter("envoy_cluster_upstream_rq_pending_overflow{envoy_cluster_name=\"c\",instance=\"2\"}", 2.0);
    history.counter("envoy_cluster_upstream_rq_active_overflow{envoy_cluster_name=\"c\",instance=\"2\"}", 1.0);
    // Two versions of Envoy write one edge in two ways.
    times(&mut history, "instance=\"1\"", [("250", 40.0), ("500", 55.0), ("+Inf", 60.0)], 6_000.0);
    times(&mut history, "instance=\"2\"", [("250.0", 20.0), ("500.0", 30.0), ("+Inf", 30.0)], 3_000.0);
    let Some(prometheus) = Prometheus::with_history(&history).await else { return };

    let (source, service) =
        source(&at(prometheus.address()), &format!("{ENVOY}, targets: {{latency: {{p90: 250ms}}}}"));
    let (rates, latency) = steady(&source.sample(&service, &windows(5), now()).await);
    // A third of the 90 answers whose times are known are above 250 ms, so a third of all 100.
    assert_eq!(rates, Rates { answered: 100.0, failed: 10.0, local: 3.0, slow: 33.3 });
    assert_eq!(latency, Some(0.1));
    assert_eq!(source.scrape_interval(&service).await, Some(STEP));

    // Half of the way from 250 to 500 ms.
    let between = format!("{ENVOY}, targets: {{latency: {{p90: 375ms}}}}");
    let (source, service) = super::source(&at(prometheus.address()), &between);
    let (rates, _) = steady(&source.sample(&service, &windows(5), now()).await);
    assert_eq!(rates.slow, (100.0 * (1.0 - 72.5 / 90.0) * 10.0_f64).round() / 10.0);
    let advice = source.advice(&service, &windows(5)).await;
    assert_eq!(advice.len(), 2, "{advice:?}");
    assert_eq!(advice[0], "10.0% of the answers of 300 s failed, more than the target of 5%");
    assert!(advice[1].starts_with("the latency target 375ms lies between the histogram's edges 250ms and 500ms"));
}

#[tokio::test]
async fn limited_requests_that_an_envoy_answers_with_a_5xx_are_not_the_service_s() {
    let mut history = History::with_step(STEP);
    envoy(&mut history, "instance=\"1\"", [80.0, 0.0, 60.0]);
    history.counter("envoy_cluster_ratelimit_over_limit{envoy_cluster_name=\"c\"}", 30.0);
    history.counter("envoy_cluster_ratelimit_error{envoy_cluster_name=\"c\"}", 20.0);
    let Some(prometheus) = Prometheus::with_history(&history).await else { return };
    for (words, answered, failed) in [
        ("", 140.0, 60.0),
        (", limited_status: 503", 110.0, 30.0),
        (", limited_status: 503, failure_mode_deny: true", 90.0, 10.0),
    ] {
        let (source, service) =
            source(&at(prometheus.address()), &format!("signals: {{preset: envoy, cluster: c{words}}}"));
        let (rates, _) = steady(&source.sample(&service, &windows(5), now()).await);
        assert_eq!((rates.answered, rates.failed), (answered, failed), "{words}");
    }
}

#[tokio::test]
async fn istio_histograms_and_queries_of_one_s_own_say_the_same_of_the_same_traffic() {
    let mut history = History::with_step(STEP);
    // 100 a second: 90 good, of which 9 slow; 6 fail at the service, 4 at the proxy. 50 are refused.
    for (code, flags, rate) in [("200", "-", 90.0), ("500", "-", 6.0), ("503", "UO", 4.0), ("429", "RL", 50.0)] {
        let labels = format!(
            "destination_service_name=\"s\",reporter=\"source\",response_code=\"{code}\",response_flags=\"{flags}\""
        );
        history.counter(&format!("istio_requests_total{{{labels}}}"), rate);
        let slow = rate / 10.0;
        for (edge, count) in [("250", rate - slow), ("+Inf", rate)] {
            history.counter(&format!("istio_request_duration_milliseconds_bucket{{{labels},le=\"{edge}\"}}"), count);
        }
    }
    for (code, rate) in [("200", 90.0), ("500", 10.0)] {
        let slow = if code == "200" { 9.0 } else { 0.0 };
        for (edge, count) in [("0.25", rate - slow), ("+Inf", rate)] {
            history.counter(&format!("http_seconds_bucket{{code=\"{code}\",le=\"{edge}\"}}"), count);
        }
        history.counter(&format!("http_seconds_count{{code=\"{code}\"}}"), rate);
        history.counter(&format!("http_seconds_sum{{code=\"{code}\"}}"), rate / 20.0);
    }
    let Some(prometheus) = Prometheus::with_history(&history).await else { return };
    for (signals, local, latency) in [
        ("{preset: istio, service: s}", 4.0, None),
        ("{preset: histogram, metric: http_seconds, error_match: 'code=~\"5..\"'}", 0.0, Some(0.05)),
        (
            "{preset: custom, queries: {answered: 'sum(increase(http_seconds_count[$window]))', \
             failed: 'sum(increase(http_seconds_count{code=\"500\"}[$window])) # those', \
             slow: '(sum(increase(http_seconds_count[$window])) - sum(increase(http_seconds_bucket{le=\"0.25\"}[$window]))) / 0.9', \
             latency_sum: 'sum(increase(http_seconds_sum[$window]))'}}",
            0.0,
            Some(0.05),
        ),
    ] {
        let words = format!("signals: {signals}, targets: {{latency: {{p90: 250ms}}}}");
        let (source, service) = source(&at(prometheus.address()), &words);
        let found = steady(&source.sample(&service, &windows(5), now()).await);
        assert_eq!(found, (Rates { answered: 100.0, failed: 10.0, local, slow: 10.0 }, latency), "{signals}");
        assert_eq!(source.scrape_interval(&service).await, Some(STEP), "{signals}");
    }
}

/// Resets, births, and what came before them.
#[tokio::test]
async fn a_restart_of_one_instance_is_no_negative_rate_and_a_first_error_is_seen() {
    let mut history = History::with_step(STEP);
    let class = |class: &str, instance: &str| {
        format!(
            "envoy_cluster_upstream_rq_xx{{envoy_cluster_name=\"c\",envoy_response_code_class=\"{class}\",instance=\"{instance}\"}}"
        )
    };
    history.counter(&class("2", "1"), 50.0);
    // It began again half a minute ago, and each step since.
    history.series(&class("2", "2"), |index| {
        let since = if index < -6 { index + 70 } else { index + 6 };
        Some((since * 250).to_string())
    });
    // The class is there from the start, so that its first error is an increase.
    history.series(&class("5", "1"), |index| Some(if index < -4 { "0" } else { "20" }.to_owned()));
    let Some(prometheus) = Prometheus::with_history(&history).await else { return };
    let (source, service) = source(&at(prometheus.address()), ENVOY);
    let sample = source.sample(&service, &windows(5), now()).await;
    let slow = sample.slow.unwrap();
    // A step's worth is lost in the restart, of twelve from one of two.
    assert!((slow.answered / 60.0 - 97.0).abs() < 3.5, "{slow:?}");
    assert!((slow.failed - 20.0).abs() < 4.0, "{slow:?}");
    assert_eq!(sample.fast.unwrap().failed, 0.0);
}

#[tokio::test]
async fn what_is_no_data_is_told_apart_and_never_read_as_no_errors() {
    let mut history = History::with_step(STEP);
    let constant = |text: &'static str| move |_: i64| Some(text.to_owned());
    history.counter("good", 10.0);
    history.series("no_number", constant("NaN"));
    history.series("infinite", constant("+Inf"));
    history.series("negative", constant("-3"));
    history.counter("two{x=\"1\"}", 5.0);
    history.counter("two{x=\"2\"}", 5.0);
    // Scrapes ended a minute ago.
    history.series("ended", |index| (index < -12).then(|| (index * 50 + 5_000).to_string()));
    // A window of 15 s has a single sample, whenever it is asked about.
    history.series("rare", |index| (index % 3 == 0).then(|| "5".to_owned()));
    // Each second scrape is lost.
    history.series("lossy", |index| (index % 2 == 0).then(|| (index * 50 + 5_000).to_string()));
    let Some(prometheus) = Prometheus::with_history(&history).await else { return };
    let ask = async |answered: &str, failed: &str| {
        let words = format!("signals: {{preset: custom, queries: {{answered: '{answered}', failed: '{failed}'}}}}");
        let (source, service) = source(&at(prometheus.address()), &words);
        source.sample(&service, &windows(5), now()).await
    };
    let increase = |series: &str| format!("sum(increase({series}[$window]))");
    let good = increase("good");
    let last = |series: &str| format!("sum(last_over_time({series}[$window]))");
    for (answered, failed, kind, reason) in [
        (increase("nobody"), good.clone(), AbsenceKind::Empty, "there are no series of answers"),
        (increase("rare"), good.clone(), AbsenceKind::Empty, "there are too few samples in 15 s for an increase"),
        (
            good.clone(),
            increase("nobody"),
            AbsenceKind::Empty,
            "the query failed finds no series; write `or vector(0)`",
        ),
        (last("no_number"), good.clone(), AbsenceKind::Invalid, "n is NaN"),
        (good.clone(), last("no_number"), AbsenceKind::Invalid, "k is NaN"),
        (last("infinite"), good.clone(), AbsenceKind::Invalid, "n is +Inf"),
        (last("negative"), good.clone(), AbsenceKind::Invalid, "n is -3"),
        ("increase(two[$window])".to_owned(), good.clone(), AbsenceKind::Invalid, "2 series for n where one is needed"),
        (good.clone(), "increase(two[$window])".to_owned(), AbsenceKind::Invalid, "2 series for k where one is needed"),
        ("summ(a[$window])".to_owned(), good.clone(), AbsenceKind::Refused, "Prometheus answers bad_data: "),
        ("vector(1) + scalar(a[$window])".to_owned(), good.clone(), AbsenceKind::Refused, "bad_data"),
    ] {
        let sample = ask(&answered, &failed).await;
        let Absence { kind: found, reason: text } = sample.fast.expect_err(&answered);
        assert_eq!(found, kind, "{answered}, {failed}: {text}");
        assert!(text.contains(reason), "{answered}, {failed}: {text}");
    }
    let zero = ask(&good, &format!("{} or vector(0)", increase("nobody"))).await.fast.unwrap();
    assert_eq!((zero.failed, (zero.answered / 15.0).round()), (0.0, 10.0));

    // The long window still holds answers of the series that ended, and they count no more.
    let ended = ask(&increase("ended"), &good).await;
    assert_eq!(ended.newest.unwrap_err().kind, AbsenceKind::Empty);
    let Absence { kind, reason } = ended.long.unwrap_err();
    assert_eq!(kind, AbsenceKind::Stale, "{reason}");

    // Lost scrapes leave the short windows empty at times, and the longer ones right.
    let lossy = ask(&increase("lossy"), &increase("lossy")).await;
    let slow = lossy.slow.unwrap();
    assert!((slow.answered / 60.0 - 10.0).abs() < 1.5, "{slow:?}");

    // Another cluster's data are nobody's.
    let (source, service) = source(&at(prometheus.address()), "signals: {preset: envoy, cluster: other}");
    for absence in
        [source.sample(&service, &windows(5), now()).await.long, source.sample(&service, &windows(5), now()).await.fast]
    {
        assert_eq!(absence.unwrap_err().kind, AbsenceKind::Empty);
    }
    let advice = source.advice(&service, &windows(5)).await;
    assert!(advice[0].starts_with("its query finds nothing: "), "{advice:?}");
    assert_eq!(source.scrape_interval(&service).await, None);
}

#[tokio::test]
async fn a_clock_of_ours_that_is_wrong_moves_no_window() {
    let mut history = History::with_step(STEP);
    // Twice as fast in the last minute, so that a window elsewhere is told apart.
    history.series("a", |index| {
        Some(if index < -12 { (index + 70) * 50 } else { 58 * 50 + (index + 12) * 100 }.to_string())
    });
    let Some(prometheus) = Prometheus::with_history(&history).await else { return };
    let query = "sum(increase(a[$window]))";
    for wrong in [0, 3_600, 86_400 * 365] {
        let words = format!("signals: {{preset: custom, queries: {{answered: '{query}', failed: '{query}'}}}}");
        let ahead = now().saturating_add(Duration::from_secs(wrong));
        let behind = tidegate::clock::Timestamp::from_micros(now().as_micros() - wrong * 1_000_000);
        for ours in [ahead, behind] {
            let (source, service) = source(&at(prometheus.address()), &words);
            let sample = source.sample(&service, &windows(5), ours).await;
            assert_eq!(sample.at, ours);
            let fast = sample.fast.unwrap();
            assert!((fast.answered / 15.0 - 20.0).abs() < 0.5, "{wrong}: {fast:?}");
        }
    }
}
