//! Clients that misbehave, files that are wrong, ports that are taken.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::config::{bootstrap, cluster, listener, route};
use super::stage::{Places, Stage, same};
use super::subject::{Kind, Subject};
use crate::support::process::{Ended, Process};
use crate::support::{PATIENCE, eventually};

/// Sends these bytes and reads what comes until the other side has nothing more to say.
pub(super) async fn raw(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    // Who refuses early may close before all is sent.
    drop(stream.write_all(bytes).await);
    let mut answer = Vec::new();
    // A first piece is waited for, then only as long as more keeps coming.
    let mut patience = PATIENCE;
    while let Ok(Ok(1..)) = timeout(patience, stream.read_buf(&mut answer)).await {
        patience = Duration::from_millis(300);
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// Sends these bytes and goes away when `until` says so.
pub(super) async fn leave_after(address: SocketAddr, bytes: &[u8], until: impl AsyncFnMut() -> Option<()>) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    eventually("it is time to leave", PATIENCE, until).await;
}

fn config(places: &Places<'_>) -> serde_json::Value {
    bootstrap(&[listener("main", places.folder, &[], &[route("/", "up")])], &[cluster("up", &[places.upstream])])
}

#[tokio::test]
async fn what_is_no_http_is_refused_alike() {
    same(config, async |stage| {
        // With what ours says of it, where that is DPE.
        for (request, details) in [
            ("this is nothing\r\n\r\n".to_owned(), Some("http1.codec_error")),
            ("GET / HTTP/1.1\r\n\r\n".to_owned(), None),
            ("GET /hello HTTP/1.0\r\nhost: test\r\n\r\n".to_owned(), Some("low_version")),
            (
                format!("GET / HTTP/1.1\r\nhost: test\r\nx-big: {}\r\n\r\n", "a".repeat(100 << 10)),
                Some("http1.headers_too_large"),
            ),
            (
                format!("GET / HTTP/1.1\r\nhost: test\r\n{}\r\n", "x-many: 1\r\n".repeat(150)),
                Some("http1.headers_too_large"),
            ),
            (
                format!("GET / HTTP/1.1\r\nhost: test\r\n{}\r\n", "x-many: 1\r\n".repeat(100_000)),
                Some("http1.headers_too_large"),
            ),
            ("OPTIONS * HTTP/1.1\r\nhost: test\r\n\r\n".to_owned(), None),
        ] {
            match details {
                Some(details) => stage.expect_protocol_error(details),
                None => stage.expect_log_line(),
            }
            let answer = raw(stage.subject.address("main"), request.as_bytes()).await;
            // Of the status line, the status: the library answers HTTP/1.0 in its own version.
            let status = answer.split(' ').nth(1).unwrap_or("nothing").to_owned();
            stage.note(format!("{:.30} => {status}", request.replace("\r\n", " ")));
        }
        // It is as well as before.
        stage.get("/hello").await;
    })
    .await;
}

/// A request over HTTP/2 with that many headers: its status, or that there was no answer.
async fn with_headers(address: SocketAddr, count: usize) -> Option<u16> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (sender, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut sender = sender.ready().await.unwrap();
    let mut request = http::Request::get("http://test/hello").body(()).unwrap();
    for _ in 0..count {
        request.headers_mut().append("x-many", http::HeaderValue::from_static("1"));
    }
    let (answer, _) = sender.send_request(request, true).unwrap();
    let answer = timeout(PATIENCE, answer).await.expect("it is answered or given up");
    connection.abort();
    answer.ok().map(|answer| answer.status().as_u16())
}

#[tokio::test]
async fn a_head_of_too_many_headers_is_refused_over_http2() {
    for kind in [Kind::Envoy, Kind::Ours] {
        let Some(mut stage) = Stage::start(kind, config).await else { return };
        let address = stage.subject.address("main");
        // More than may be; more than is read; so many that they come in frames without end, which ends the connection.
        for (count, status) in [(150, Some(431)), (5_000, Some(431)), (100_000, None)] {
            let told = with_headers(address, count).await;
            // Envoy resets the stream, see docs/proxy.md.
            assert_eq!(told, status.filter(|_| kind == Kind::Ours), "{kind:?}, {count} headers");
            assert_eq!(stage.get("/hello").await, 200, "{kind:?} is as well as before");
        }
        if kind == Kind::Ours {
            // The library answers the second itself, and nothing of it is logged.
            stage.expect_protocol_error("http2.too_many_headers");
            stage.finish(None).await;
        }
    }
}

#[tokio::test]
async fn a_half_closed_client_has_gone() {
    same(config, async |stage| {
        stage.expect_log_line();
        let mut stream = TcpStream::connect(stage.subject.address("main")).await.unwrap();
        stream.write_all(b"GET /never HTTP/1.1\r\nhost: test\r\n\r\n").await.unwrap();
        eventually("upstream has it", PATIENCE, async || (stage.upstream.count("/never") == 1).then_some(())).await;
        stream.shutdown().await.unwrap();
        let mut rest = Vec::new();
        let end = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("the proxy closes it");
        stage.note(format!("{} bytes, {}", rest.len(), end.is_ok()));
    })
    .await;
}

#[tokio::test]
async fn a_slow_client_is_served_and_holds_up_nobody() {
    let Some(mut stage) = Stage::start(Kind::Ours, config).await else { return };
    let mut slow = TcpStream::connect(stage.subject.address("main")).await.unwrap();
    slow.write_all(b"POST /slow-body HTTP/1.1\r\nhost: test\r\ncontent-length: 6\r\nconnection: close\r\n\r\n")
        .await
        .unwrap();
    for byte in b"abcdef" {
        assert_eq!(stage.get("/hello").await, 200);
        slow.write_all(&[*byte]).await.unwrap();
    }
    let mut answer = String::new();
    timeout(PATIENCE, slow.read_to_string(&mut answer)).await.expect("it is answered").unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
}

async fn run(config: &str, arguments: &[&str]) -> Ended {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("proxy.yaml");
    std::fs::write(&file, config).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_tidegate-proxy"));
    command.arg("-c").arg(&file).args(arguments);
    Process::spawn("tidegate-proxy", &mut command).wait(PATIENCE).await
}

#[tokio::test]
async fn every_mistake_of_a_file_is_told_with_its_path() {
    let ended =
        run("static_resources:\n  listeners: []\n  clusters:\n    - { name: a, lb_policy: GUESS, surprise: 1 }\n", &[])
            .await;
    assert!(!ended.status.success());
    for part in ["static_resources.clusters[0].lb_policy", "static_resources.clusters[0].surprise"] {
        assert!(ended.stderr.contains(part), "{part} is missing in {}", ended.stderr);
    }
    let ended = run("static_resources: [", &[]).await;
    assert!(!ended.status.success() && ended.stderr.contains("proxy.yaml:"), "{}", ended.stderr);
}

#[tokio::test]
async fn a_file_can_be_checked_without_serving_it() {
    let good = "static_resources: {}\nadmin: { address: { socket_address: { address: 127.0.0.1, port_value: 0 } } }\n";
    let ended = run(good, &["--mode", "validate"]).await;
    assert!(ended.status.success(), "{}", ended.stderr);
    assert!(ended.stdout.contains("OK"), "{}", ended.stdout);
    assert!(!run("nonsense: 1\n", &["--mode", "validate"]).await.status.success());
}

#[tokio::test]
async fn a_port_that_is_taken_is_named_in_a_sentence() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let config = format!(
        "static_resources: {{}}\nadmin: {{ address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }} }}\n"
    );
    let ended = run(&config, &[]).await;
    assert!(!ended.status.success());
    assert!(
        ended.stderr.contains(&format!("the admin interface can't listen on 127.0.0.1:{port}")),
        "{}",
        ended.stderr
    );
    assert!(ended.stderr.contains("another process has the port"), "{}", ended.stderr);

    let folder = TempDir::new().unwrap();
    let mut main = listener("main", folder.path(), &[], &[]);
    main["address"]["socket_address"]["port_value"] = port.into();
    let ended = run(&bootstrap(&[main], &[]).to_string(), &[]).await;
    assert!(!ended.status.success());
    let sentence = format!("listener \"main\" can't listen on 127.0.0.1:{port}");
    assert!(
        ended.stderr.contains(&sentence) && ended.stderr.contains("another process has the port"),
        "{}",
        ended.stderr
    );
}

#[tokio::test]
async fn asked_to_end_it_lets_requests_finish() {
    let Some(mut stage) = Stage::start(Kind::Ours, config).await else { return };
    let address = stage.subject.address("main");
    let slow = tokio::spawn(async move { crate::support::client::Http::new(address).get("/slow").await.status });
    eventually("the slow one is under way", PATIENCE, async || (stage.upstream.count("/slow") == 1).then_some(()))
        .await;
    let Subject { process, .. } = &mut stage.subject;
    process.terminate();
    assert_eq!(slow.await.unwrap(), 200);
    let ended = process.wait(PATIENCE).await;
    assert!(ended.status.success(), "{}", ended.stderr);
}

/// Sends that many requests over one connection.
async fn send_many(address: SocketAddr, requests: usize) {
    let mut stream = tokio::io::BufReader::new(TcpStream::connect(address).await.unwrap());
    for _ in 0..requests {
        stream.get_mut().write_all(b"GET /hello HTTP/1.1\r\nhost: test\r\n\r\n").await.unwrap();
        let mut length = 0;
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).await.unwrap();
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.trim().parse().unwrap();
            }
            if line == "\r\n" {
                break;
            }
        }
        stream.read_exact(&mut vec![0; length]).await.unwrap();
    }
}

/// Requests of the test below, for which a debug build takes some 20 seconds.
const LEAK_REQUESTS: usize = 100_000;

#[tokio::test]
async fn many_requests_leave_nothing_behind() {
    let Some(mut stage) = Stage::start(Kind::Ours, config).await else { return };
    let address = stage.subject.address("main");
    let rush = async |requests: usize| {
        let mut clients = tokio::task::JoinSet::new();
        (0..20).for_each(|_| drop(clients.spawn(send_many(address, requests / 20))));
        while let Some(client) = clients.join_next().await {
            client.unwrap();
        }
    };
    rush(2_000).await;
    for path in ["/reset", "/cut", "/garbage", "/close"] {
        stage.get(path).await;
    }
    let before = stage.subject.process.resident_kib();
    rush(LEAK_REQUESTS).await;
    let after = stage.subject.process.resident_kib();
    assert!(after < before + 8 * 1024, "{before} KiB before and {after} KiB after {LEAK_REQUESTS} requests");
    for name in ["cluster.up.upstream_rq_active", "http.main.downstream_rq_active", "http.main.downstream_cx_active"] {
        eventually(&format!("{name} is 0"), PATIENCE, async || {
            (stage.subject.statistic(name).await == 0).then_some(())
        })
        .await;
    }
    assert!(stage.subject.statistic("cluster.up.upstream_cx_active").await <= 20, "connections are used again");
}
