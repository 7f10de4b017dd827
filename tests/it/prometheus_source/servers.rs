//! Servers that want to know who asks, that lie, that stall, and that are none.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Response;
use http_body_util::Full;
use tidegate::clock::Timestamp;
use tidegate::demo::ports::HeldPort;
use tidegate::prometheus::{PrometheusSource, SourceError};
use tidegate::signal::{Absence, AbsenceKind, Sample};
use tokio::net::TcpListener;

use super::web::{Web, json};
use super::{at, now, rules, source, windows};
use crate::support::PATIENCE;
use crate::support::prometheus::Prometheus;

const SIGNALS: &str = "signals: {preset: envoy, cluster: c}";

/// Why there is nothing, which must be of one kind for all windows.
fn absence(sample: Sample) -> Absence {
    let Sample { newest, fast, slow, long, .. } = sample;
    let absences = [newest, fast, slow, long].map(|counts| counts.unwrap_err());
    assert!(absences.iter().all(|absence| absence.kind == absences[0].kind), "{absences:?}");
    absences[0].clone()
}

async fn ask(prometheus: &str) -> Absence {
    let (source, service) = source(prometheus, SIGNALS);
    absence(source.sample(&service, &windows(5), now()).await)
}

fn certificates(file: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/support/certificates").join(file).display().to_string()
}

#[tokio::test]
async fn a_prometheus_behind_tls_and_a_password_answers_who_knows_both() {
    let Some(prometheus) = Prometheus::guarded().await else { return };
    let url = format!("url: 'https://{}', timeout: 4s", prometheus.address());
    let ca = format!("ca_file: '{}'", certificates("ca.pem"));
    let password = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(password.path(), "test\n").unwrap();
    let by_file = format!("basic_auth: {{user: reader, password_file: '{}'}}", password.path().display());

    // It knows of no such cluster, which is an answer.
    for access in ["basic_auth: {user: reader, password: test}", &by_file] {
        let known = ask(&format!("{url}, {ca}, {access}")).await;
        assert_eq!(known.kind, AbsenceKind::Empty, "{known}");
    }
    for access in ["basic_auth: {user: reader, password: guess}", "bearer_token: guess"] {
        let wrong = ask(&format!("{url}, {ca}, {access}")).await;
        assert_eq!(wrong.kind, AbsenceKind::Refused, "{wrong}");
        assert!(wrong.reason.contains("401") && !wrong.reason.contains("guess"), "{wrong}");
    }
    let untrusted = absence_or_error(&format!("{url}, {by_file}")).await;
    assert!(untrusted.contains("ertificate"), "{untrusted}");
    let plain = ask(&url.replace("https", "http")).await;
    assert_eq!(plain.kind, AbsenceKind::Refused, "{plain}");

    // The file is read again for every question.
    let (source, service) = source(&format!("{url}, {ca}, {by_file}"), SIGNALS);
    assert_eq!(absence(source.sample(&service, &windows(5), now()).await).kind, AbsenceKind::Empty);
    std::fs::write(password.path(), "another").unwrap();
    assert_eq!(absence(source.sample(&service, &windows(5), now()).await).kind, AbsenceKind::Refused);
    std::fs::remove_file(password.path()).unwrap();
    let missing = absence(source.sample(&service, &windows(5), now()).await);
    assert!(missing.reason.contains("cannot be read"), "{missing}");
}

/// A machine may have no certificates of its own at all.
async fn absence_or_error(prometheus: &str) -> String {
    let rules = rules(prometheus, SIGNALS);
    match PrometheusSource::new(rules.prometheus().unwrap()) {
        Ok(_) => ask(prometheus).await.reason,
        Err(error) => error.to_string(),
    }
}

#[test]
fn certificates_that_are_none_are_said_before_anything_is_asked() {
    for (file, part) in [("no_such.pem", "cannot be read"), ("server.key", "no certificate in PEM form")] {
        let path = certificates(file);
        let rules = rules(&format!("url: 'https://127.0.0.1:1', ca_file: '{path}'"), SIGNALS);
        let error = PrometheusSource::new(rules.prometheus().unwrap()).unwrap_err();
        assert!(matches!(error, SourceError::Certificates { .. }));
        assert!(error.to_string().contains(part) && error.to_string().contains("rules.yaml:"), "{error}");
    }
}

#[tokio::test]
async fn a_token_is_sent_and_follows_no_redirect() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let elsewhere = Web::serve({
        let seen = Arc::clone(&seen);
        move |_| {
            seen.lock().unwrap().push("elsewhere".to_owned());
            json(200, "{}")
        }
    })
    .await;
    let target = format!("http://{}/", elsewhere.address);
    let web = Web::serve({
        let seen = Arc::clone(&seen);
        move |request| {
            let value = request.headers().get("authorization").map(|value| value.to_str().unwrap().to_owned());
            seen.lock().unwrap().push(value.unwrap_or_default());
            Response::builder().status(307).header("location", &target).body(Full::default()).unwrap()
        }
    })
    .await;
    let refused = ask(&format!("{}, bearer_token: s3cret", at(web.address))).await;
    assert_eq!(refused.kind, AbsenceKind::Refused);
    assert_eq!(refused.reason, "the server answers 307; give the url that it leads to");
    assert_eq!(*seen.lock().unwrap(), ["Bearer s3cret"]);
}

#[tokio::test]
async fn a_server_that_stalls_is_waited_for_until_the_deadline_and_no_longer() {
    // It accepts, as far as the system does that by itself, and never answers.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let (source, service) = source(&format!("{}, timeout: 200ms", at(listener.local_addr().unwrap())), SIGNALS);
    let windows = windows(5);
    let both =
        async { tokio::join!(source.sample(&service, &windows, now()), source.sample(&service, &windows, now())) };
    // It would be waited for without end.
    let (one, other) = tokio::time::timeout(PATIENCE, both).await.expect("it is given up");
    assert_eq!(absence(one).kind, AbsenceKind::TimedOut);
    assert_eq!(absence(other).kind, AbsenceKind::TimedOut);
    assert_eq!(source.scrape_interval(&service).await, None);
    assert_eq!(source.try_server().await.unwrap_err().kind, AbsenceKind::TimedOut);
}

#[tokio::test]
async fn where_nobody_listens_the_server_is_unreachable() {
    let nobody = HeldPort::any().unwrap();
    let address = nobody.address();
    // As a task of its own, which it must be fit for.
    let absence = tokio::spawn(async move { ask(&at(address)).await }).await.unwrap();
    assert_eq!(absence.kind, AbsenceKind::Unreachable, "{absence}");
    assert!(absence.reason.starts_with("Prometheus can't be reached: "), "{absence}");
}

/// A server that tells the time, and answers everything else with `body`.
async fn lying(status: u16, body: String) -> Web {
    let times = Mutex::new(true);
    Web::serve(move |_| {
        // The first question is for the time.
        let is_time = std::mem::replace(&mut *times.lock().unwrap(), false);
        let seconds = now().as_micros() as f64 / 1e6;
        let time = format!(r#"{{"status":"success","data":{{"resultType":"scalar","result":[1,"{seconds}"]}}}}"#);
        if is_time { json(200, time) } else { json(status, body.clone()) }
    })
    .await
}

fn vector(series: &str) -> String {
    format!(r#"{{"status":"success","data":{{"resultType":"vector","result":[{series}]}}}}"#)
}

#[tokio::test]
async fn a_server_that_lies_is_not_believed() {
    let term = |name: &str, value: &str| format!(r#"{{"metric":{{"q":"{name}"}},"value":[1,"{value}"]}}"#);
    let many = vec![term("n", "1"); 3_000].join(",");
    let error = |kind: &str| format!(r#"{{"status":"error","errorType":"{kind}","error":"no"}}"#);
    let scalar = r#"{"status":"success","data":{"resultType":"scalar","result":[1,"2"]}}"#.to_owned();
    let cases = [
        (500, "{}".to_owned(), AbsenceKind::Refused),
        (503, error("unavailable"), AbsenceKind::Refused),
        (422, error("timeout"), AbsenceKind::TimedOut),
        (200, "<html>hello</html>".to_owned(), AbsenceKind::Invalid),
        (200, vector(&term("n", "many")), AbsenceKind::Invalid),
        (200, vector(&term("n", "-1")), AbsenceKind::Invalid),
        (200, vector(&term("n", "1e999")), AbsenceKind::Invalid),
        (200, vector(&many), AbsenceKind::Invalid),
        (200, vector(&"[".repeat(100_000)), AbsenceKind::Invalid),
        (200, format!("{}{}", vector(""), " ".repeat(2 << 20)), AbsenceKind::Invalid),
        (200, vector(""), AbsenceKind::Empty),
        (200, scalar, AbsenceKind::Invalid),
    ];
    for (status, body, kind) in cases {
        let beginning: String = body.chars().take(80).collect();
        let web = lying(status, body).await;
        let absence = ask(&at(web.address)).await;
        assert_eq!(absence.kind, kind, "{beginning}: {absence}");
        assert!(absence.reason.len() < 500, "{absence}");
    }
}

#[tokio::test]
async fn an_answer_with_warnings_counts_and_an_evaluation_that_is_not_newer_does_not() {
    let seconds = now().as_micros() as f64 / 1e6;
    let series = [("n", 50.0), ("k", 5.0), ("newest", seconds), ("series", 2.0)]
        .map(|(name, value)| format!(r#"{{"metric":{{"q":"{name}"}},"value":[1,"{value}"]}}"#));
    let body = vector(&series.join(",")).replace("\"data\"", "\"warnings\":[\"a store is gone\"],\"data\"");
    let web = lying(200, body).await;
    let (source, service) = source(&at(web.address), SIGNALS);
    let present = now();
    let counts = source.sample(&service, &windows(5), present).await.fast.unwrap();
    assert_eq!((counts.answered, counts.failed), (50.0, 5.0));
    for earlier in [present, Timestamp::from_micros(present.as_micros() - 1_000_000)] {
        let again = absence(source.sample(&service, &windows(5), earlier).await);
        assert_eq!(again.kind, AbsenceKind::Stale, "{again}");
    }
    let later = present.saturating_add(Duration::from_secs(1));
    assert!(source.sample(&service, &windows(5), later).await.fast.is_ok());
}
