//! Redis over TLS: a real server with certificates of a made-up authority, and one sentence for each thing that can be
//! wrong with them.

use std::path::PathBuf;
use std::time::Duration;

use smallvec::smallvec;
use tempfile::TempDir;
use tidegate::control::record::{LeaseTimes, RecordStore, RedisRecords, ReplicaId};
use tidegate::counters::redis::{Connector, Identity, NameCheck, RedisStore, Server, Timeouts, Tls};
use tidegate::counters::{Charge, Charges, CounterStore, StoreError};
use tidegate::descriptor::Hits;
use tidegate::key::CounterKey;
use tidegate::limit::{Unit, Window};
use tidegate::window::{Charging, Enforcement, FixedWindow, Policy};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::support::redis::Redis;
use crate::support::redis_tls::{self, file, stranger};
use crate::support::store::{BATCH, reached, server};
use crate::support::tidegate::Launch;
use crate::support::{PATIENCE, eventually};

/// Whom a server lets in.
#[derive(Clone, Copy, Debug)]
enum Clients {
    Anybody,
    WithCertificate,
}

/// A Redis that speaks TLS beside its plain port.
struct TlsRedis {
    redis: Redis,
}

impl TlsRedis {
    /// One that shows this certificate.
    async fn start(certificate: &str, clients: Clients) -> Option<TlsRedis> {
        let arguments = |tls_port: u16| {
            let clients = match clients {
                Clients::Anybody => "no",
                Clients::WithCertificate => "yes",
            };
            let mut arguments = redis_tls::arguments(tls_port, certificate);
            arguments.extend(["--tls-auth-clients", clients].map(str::to_owned));
            arguments
        };
        Some(TlsRedis { redis: Redis::start_with_two_ports(arguments).await? })
    }

    fn connector(&self, tls: Tls) -> Connector {
        let server = Server { tls: Some(tls), ..server(self.redis.other_port()) };
        Connector::new(server, Timeouts { connect: PATIENCE, response: PATIENCE })
    }

    fn store(&self, tls: Tls) -> RedisStore {
        RedisStore::start(self.connector(tls), BATCH, &TaskTracker::new())
    }
}

fn trusting(ca_file: PathBuf) -> Tls {
    Tls { ca_file: Some(ca_file), ..Tls::default() }
}

fn charges(name: &str) -> Charges {
    let mut key = CounterKey::write(b"tls:", 1);
    key.value(name);
    let policy = Policy::FixedWindow(FixedWindow::new(1_000_000, Window::from(Unit::Week)));
    let charge = Charge { key: key.finish(), policy, hits: Hits::Add(1), enforcement: Enforcement::Enforced };
    Charges { members: smallvec![charge], charging: Charging::AllOrNothing }
}

/// Why decisions are not made: what was said of the latest attempt to connect.
async fn refusal(store: &RedisStore) -> String {
    let answer = async || match store.charge(&charges("refused"), Instant::now() + PATIENCE).await {
        Err(StoreError::Unreachable { reason }) => Some(reason).filter(|reason| !reason.contains("not reached yet")),
        other => panic!("decisions were expected to be refused, but there was {other:?}"),
    };
    eventually("a first attempt has failed", PATIENCE, answer).await
}

#[tokio::test]
async fn decisions_and_records_travel_over_tls() {
    let Some(redis) = TlsRedis::start("server.pem", Clients::Anybody).await else { return };
    let store = redis.store(trusting(file("ca.pem")));
    reached(&store).await;
    let mut asked = JoinSet::new();
    // Many at once: longer than one record of TLS, and more than one call.
    for index in 0..1_000 {
        let store = store.clone();
        asked.spawn(async move {
            let within = Instant::now() + PATIENCE;
            store.charge(&charges(&format!("{}-{}", index % 200, "x".repeat(100))), within).await.map(|t| t[0].used)
        });
    }
    let answers: Result<Vec<u64>, StoreError> = asked.join_all().await.into_iter().collect();
    let answers = answers.expect("all are answered");
    assert_eq!(answers.iter().filter(|used| **used == 5).count(), 200, "each of 200 counters was charged five times");

    let records = RedisRecords::new(
        redis.connector(trusting(file("ca.pem"))),
        b"tls:",
        ReplicaId::draw("a"),
        LeaseTimes::default(),
    );
    // A lease lasts for seconds only.
    eventually("200 counters, the lease and its number are there", PATIENCE, async || {
        assert!(records.lead().await.is_ok());
        (redis.redis.ask("DBSIZE").await == ":202").then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_is_wrong_with_a_certificate_is_said_in_one_sentence() {
    let expectations = [
        ("server.pem", trusting(stranger()), "its certificate comes from no authority that is trusted"),
        ("named.pem", trusting(file("ca.pem")), "its certificate is not for 127.0.0.1 but for "),
        ("expired.pem", trusting(file("ca.pem")), "its certificate has expired "),
        ("server.pem", trusting(file("none.pem")), "none.pem cannot be read: No such file"),
        ("server.pem", trusting(file("server.key")), "server.key cannot be read: it has no certificate in PEM form"),
    ];
    for (certificate, tls, sentence) in expectations {
        let Some(redis) = TlsRedis::start(certificate, Clients::Anybody).await else { return };
        let reason = refusal(&redis.store(tls)).await;
        assert!(reason.starts_with("127.0.0.1:") || reason.contains(".pem"), "{reason}");
        assert!(reason.contains(sentence), "{reason}");
        assert_eq!(reason.lines().count(), 1, "{reason}");
    }
}

#[tokio::test]
async fn a_server_that_wants_a_certificate_gets_it_in_each_form_of_key() {
    let Some(redis) = TlsRedis::start("server.pem", Clients::WithCertificate).await else { return };
    let reason = refusal(&redis.store(trusting(file("ca.pem")))).await;
    assert!(reason.contains("it wants a client certificate, and none is set"), "{reason}");
    let with = |certificate: &str, key: &str| Tls {
        identity: Some(Identity { certificate_file: file(certificate), key_file: file(key) }),
        ..trusting(file("ca.pem"))
    };
    for (certificate, key) in [
        ("client-rsa.pem", "client-pkcs1.key"),
        ("client-rsa.pem", "client-pkcs8.key"),
        ("client-ec.pem", "client-sec1.key"),
    ] {
        let store = redis.store(with(certificate, key));
        reached(&store).await;
        assert!(store.charge(&charges(key), Instant::now() + PATIENCE).await.is_ok(), "{key}");
    }
    let reason = refusal(&redis.store(with("client-rsa.pem", "client-sec1.key"))).await;
    assert!(reason.contains("do not go together"), "{reason}");
    let reason = refusal(&redis.store(with("client-rsa.pem", "ca.pem"))).await;
    assert!(reason.contains("it has no unencrypted PKCS#1, PKCS#8 or SEC1 key"), "{reason}");
}

#[tokio::test]
async fn the_name_can_be_another_or_left_unverified_but_never_the_chain() {
    let Some(redis) = TlsRedis::start("named.pem", Clients::Anybody).await else { return };
    let named = Tls { server_name: Some("redis.example".to_owned()), ..trusting(file("ca.pem")) };
    reached(&redis.store(named)).await;
    let unverified = Tls { name_check: NameCheck::Skipped, ..trusting(file("ca.pem")) };
    reached(&redis.store(unverified)).await;
    let strangers = Tls { name_check: NameCheck::Skipped, ..trusting(stranger()) };
    let reason = refusal(&redis.store(strangers)).await;
    assert!(reason.contains("its certificate comes from no authority that is trusted"), "{reason}");
}

const RULES: &str = "domain: shop
descriptors:
- key: who
  rate_limit: {unit: week, requests_per_unit: 1}
";

#[tokio::test]
async fn a_service_that_trusts_the_wrong_authority_serves_on_and_takes_the_right_one_without_a_restart() {
    let Some(redis) = TlsRedis::start("server.pem", Clients::Anybody).await else { return };
    let folder = TempDir::new().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::copy(stranger(), &ca).unwrap();
    let tidegate = Launch::new(&[("rules.yaml", RULES)])
        .setting("REDIS_SOCKET_TYPE", "tcp")
        .setting("REDIS_URL", format!("127.0.0.1:{}", redis.redis.other_port()))
        .setting("REDIS_TLS", "true")
        .setting("REDIS_TLS_CACERT", ca.display())
        .start()
        .await;
    let told = "its certificate comes from no authority that is trusted";
    eventually("the log says why", PATIENCE, async || tidegate.log().contains(told).then_some(())).await;
    let question = r#"{"domain": "shop", "descriptors": [{"entries": [{"key": "who", "value": "me"}]}]}"#;
    let ask = async || tidegate.http().post("/json", question).await.status;
    assert_eq!(ask().await, 400, "an answer that is no decision, as the failure policy has it");
    let renewed = folder.path().join("new.pem");
    std::fs::copy(file("ca.pem"), &renewed).unwrap();
    std::fs::rename(renewed, ca).unwrap();
    eventually("the limit is enforced over TLS", Duration::from_secs(60), async || (ask().await == 429).then_some(()))
        .await;
}
