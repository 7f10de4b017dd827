//! `tidegate simulate --from`: a past range of a real Prometheus, replayed.

use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::{simulate, text_of};
use crate::support::prometheus::{History, Prometheus};

const STEP: Duration = Duration::from_secs(5);

/// Twenty minutes of 100 requests a second, of which 40 % fail for three minutes in the middle.
fn overload(knows_our_own: bool) -> History {
    const PAST: i64 = 240;
    let mut history = History::reaching_back(STEP, PAST);
    let series = |class: &str| {
        format!(
            "envoy_cluster_upstream_rq_xx{{envoy_cluster_name=\"inventory\",envoy_response_code_class=\"{class}\"}}"
        )
    };
    let failed = |index: i64| 200 * (index + 120).clamp(0, 36);
    history.series(&series("5"), |index| Some(failed(index).to_string()));
    history.series(&series("2"), |index| Some((500 * (index + PAST) - failed(index)).to_string()));
    if knows_our_own {
        for (metric, rate) in [("offered", 140), ("admitted", 100)] {
            let series = format!("tidegate_adaptive_{metric}{{service=\"inventory\",instance=\"one\"}}");
            history.series(&series, |_| Some(rate.to_string()));
            // Another replica's last scrape was a little earlier.
            let other = format!("tidegate_adaptive_{metric}{{exported_service=\"inventory\",instance=\"two\"}}");
            history.series(&other, |_| Some((rate - 1).to_string()));
        }
    }
    history
}

/// A rule file whose service asks that Prometheus.
fn rules(folder: &TempDir, url: &str) -> String {
    let service = "    bounds: { max: 120/s }\n    targets: { errors: 5% }\n";
    let file = super::rules(folder, service);
    let text = std::fs::read_to_string(&file).unwrap().replace("http://127.0.0.1:9", url);
    std::fs::write(&file, text).unwrap();
    file
}

#[tokio::test(flavor = "multi_thread")]
async fn a_past_overload_is_found_once_with_its_certainty_its_length_and_our_own_counts() {
    let Some(prometheus) = Prometheus::with_history(&overload(true)).await else { return };
    let folder = TempDir::new().unwrap();
    let file = rules(&folder, &prometheus.url());
    let page = folder.path().join("page.html").to_string_lossy().into_owned();
    let asked = ["--service", "inventory", "--rules", &file, "--from", "-14m", "--to", "-2m"];
    let text = text_of(&[&asked[..], &["--json-lines", "--html", &page]].concat());
    let objects: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(objects.len(), 145, "twelve minutes, each 5 s, both ends");
    for object in &objects {
        let decision = &object["decision"];
        assert_eq!((&decision["offered"], &decision["admitted"]), (&140.0.into(), &100.0.into()), "{object}");
        assert!(decision["absence"].is_null() && !decision["judged"].as_array().unwrap().is_empty(), "{object}");
    }
    let would = |object: &Value| object["decision"]["would"].clone();
    let begun: Vec<&Value> = objects.iter().filter(|object| would(object)["seconds"] == 0.0).collect();
    let over: Vec<&Value> = objects.iter().filter(|object| would(object)["is_over"] == true).collect();
    let cuts: Vec<&&Value> = begun.iter().filter(|object| would(object)["action"] == "cut").collect();
    let [cut] = cuts.as_slice() else { panic!("{begun:#?}") };
    let judged = &cut["decision"]["judged"][0];
    assert!(judged["lower"].as_f64().unwrap() > 0.05, "{cut}");
    // Three minutes of it, and a fast window until it is out of sight.
    let lengths: Vec<f64> = over.iter().filter_map(|object| would(object)["seconds"].as_f64()).collect();
    assert!(lengths.iter().any(|seconds| (170.0..=210.0).contains(seconds)), "{lengths:?}");

    let table = text_of(&asked);
    assert!(table.contains("would set"), "{table}");
    assert!(table.contains("offered and admitted are those of tidegate_adaptive_offered and _admitted\n"), "{table}");
    assert!(!table.contains("there is no data"), "{table}");
    let page = std::fs::read_to_string(page).unwrap();
    assert_eq!(page.matches("<svg").count(), 2);
    for word in ["http://", "https://", "<script", "<link", "NaN"] {
        assert!(!page.contains(word), "{word}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_recorded_is_absent_and_what_is_assumed_is_said() {
    let Some(prometheus) = Prometheus::with_history(&overload(false)).await else { return };
    let folder = TempDir::new().unwrap();
    let file = rules(&folder, &prometheus.url());
    // The recording begins twenty minutes ago.
    let asked = ["--service", "inventory", "--rules", &file, "--from", "-25m", "--to", "-16m"];
    let table = text_of(&asked);
    assert!(
        table.contains("offered and admitted are not known at 109 instants (no Tidegate was scraped at 109)"),
        "{table}"
    );
    assert!(table.contains("there is no data at ") && table.contains(" empty (such as: "), "{table}");
    let csv = text_of(&[&asked[..], &["--csv"]].concat());
    let actions: Vec<&str> = csv.lines().skip(1).filter_map(|line| line.split(',').nth(2)).collect();
    assert_eq!(actions.len(), 109);
    assert_eq!(actions.first(), Some(&"idle"), "nobody was seen to ask either");
    assert_eq!(actions.last(), Some(&"open"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_that_cannot_be_asked_about_is_refused_with_the_reason() {
    let Some(mut prometheus) = Prometheus::start("{}").await else { return };
    let folder = TempDir::new().unwrap();
    let file = rules(&folder, &prometheus.url());
    let refused = |from: &str, to: &str| {
        let output = simulate(&["--service", "inventory", "--rules", &file, "--from", from, "--to", to]);
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for (from, to, sentences) in [
        ("yesterday", "-1x", &["--from is \"yesterday\", but must be an instant", "--to is \"-1x\", but must be"][..]),
        ("-1m", "-2m", &["but must be before --to"]),
        ("-1m", "2200-01-01T00:00:00Z", &["--to is 2200-01-01T00:00:00Z, which is still to come"]),
        (
            "-48h",
            "now",
            &[
                "has 34561 instants at an interval of 5s, and at most 20000 are asked about",
                "take a range of at most 27h",
            ],
        ),
    ] {
        let (code, told) = refused(from, to);
        assert_eq!(code, Some(78), "{told}");
        for sentence in sentences {
            assert!(told.contains(sentence), "{sentence}\nis not in\n{told}");
        }
    }
    prometheus.kill();
    let (code, told) = refused("-1m", "now");
    assert_eq!(code, Some(69), "{told}");
    assert!(told.contains(&format!("{} can't be asked: ", prometheus.url())), "{told}");
}
