//! TLS on the gRPC port: a real Envoy in front of it, clients with and without certificates, and certificates that are
//! renewed under open connections.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::StatusCode;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use tempfile::TempDir;
use tidegate::proto::envoy::service::ratelimit::v3::rate_limit_response::Code;
use tidegate::proto::envoy::service::ratelimit::v3::rate_limit_service_client::RateLimitServiceClient;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};
use tower_service::Service;

use crate::support::client::{Http, request};
use crate::support::envoy::{Envoy, generic_key, listener, rate_limit_filter, rate_limit_service, route, upstream};
use crate::support::process::Process;
use crate::support::tidegate::{Launch, Tidegate};
use crate::support::upstream::Upstream;
use crate::support::{PATIENCE, eventually};

const RULES: &str = "domain: shop\ndescriptors:\n  - key: generic_key\n    value: all\n    rate_limit: { unit: hour, requests_per_unit: 2 }\n";

/// A folder in which a certificate is kept and renewed, as a mounted secret is.
struct Secret {
    folder: TempDir,
}

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/support/certificates/port").join(name)
}

fn certificate(name: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(file(&format!("{name}.pem"))).unwrap()
}

// === impl Secret ===

impl Secret {
    fn new(name: &str) -> Secret {
        let secret = Secret { folder: TempDir::new().unwrap() };
        secret.hold(name);
        secret
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Puts another pair in the place of the one that is there.
    fn hold(&self, name: &str) {
        for (ours, theirs) in [("tls.crt", format!("{name}.pem")), ("tls.key", format!("{name}.key"))] {
            std::fs::copy(file(&theirs), self.path(ours)).unwrap();
        }
    }

    fn launch(&self) -> Launch {
        Launch::new(&[("rules.yaml", RULES)])
            .setting("GRPC_SERVER_USE_TLS", true)
            .setting("GRPC_SERVER_TLS_CERT", self.path("tls.crt").display())
            .setting("GRPC_SERVER_TLS_KEY", self.path("tls.key").display())
    }
}

/// A connection that trusts the port's authority and shows the certificate of that name, if any. It asks for no name.
async fn connect(address: SocketAddr, identity: Option<&str>) -> io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate("ca")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let builder = builder.with_root_certificates(roots);
    let mut configuration = match identity {
        None => builder.with_no_client_auth(),
        Some(name) => {
            let key = PrivateKeyDer::from_pem_file(file(&format!("{name}.key"))).unwrap();
            builder.with_client_auth_cert(vec![certificate(name)], key).unwrap()
        }
    };
    configuration.alpn_protocols = vec![b"h2".to_vec()];
    let name = ServerName::from(address.ip());
    TlsConnector::from(Arc::new(configuration)).connect(name, TcpStream::connect(address).await?).await
}

/// Makes such connections.
#[derive(Clone)]
struct Connector {
    address: SocketAddr,
    identity: Option<&'static str>,
}

impl Service<http::Uri> for Connector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Uri) -> Self::Future {
        let Connector { address, identity } = *self;
        Box::pin(async move { connect(address, identity).await.map(TokioIo::new) })
    }
}

/// A client of the service over such connections.
fn client(address: SocketAddr, identity: Option<&'static str>) -> RateLimitServiceClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    RateLimitServiceClient::new(endpoint.connect_with_connector_lazy(Connector { address, identity }))
}

async fn ask(client: &mut RateLimitServiceClient<Channel>) -> Result<Code, Status> {
    let asked = request("shop", &[("generic_key", "all")]);
    client.should_rate_limit(asked).await.map(|answer| answer.into_inner().overall_code())
}

/// The value of a metric without labels.
async fn metric(tidegate: &Tidegate, name: &str) -> Option<f64> {
    let text = tidegate.http().get("/metrics").await.text();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').map(str::to_owned));
    line.map(|value| value.parse().unwrap())
}

#[tokio::test]
async fn envoy_asks_over_tls_and_shows_its_certificate() {
    let secret = Secret::new("server");
    let settings = secret.launch().setting("GRPC_CLIENT_TLS_CACERT", file("ca.pem").display());
    let tidegate = settings.setting("GRPC_CLIENT_TLS_SAN", "envoy.example").start().await;
    let behind = Upstream::start().await;
    let mut service = rate_limit_service("ratelimit", tidegate.grpc_address());
    service["transport_socket"] = json!({
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            "common_tls_context": {
                "tls_certificates": [{
                    "certificate_chain": { "filename": file("envoy.pem") },
                    "private_key": { "filename": file("envoy.key") },
                }],
                "validation_context": { "trusted_ca": { "filename": file("ca.pem") } },
                "alpn_protocols": ["h2"],
            },
        },
    });
    let filters = vec![rate_limit_filter("shop", "ratelimit")];
    let listeners = [listener("main", filters, &[route("/", &generic_key("all"))])];
    let Some(envoy) = Envoy::start(&listeners, &[upstream(behind.address()), service]).await else { return };
    let http: Http = envoy.http("main");
    let mut answers = Vec::new();
    for _ in 0..3 {
        answers.push(http.get("/").await.status);
    }
    assert_eq!(answers, [StatusCode::OK, StatusCode::OK, StatusCode::TOO_MANY_REQUESTS]);
    assert_eq!(metric(&tidegate, "tidegate_tls_handshake_failures").await, Some(0.0));
}

#[tokio::test]
async fn clients_without_the_right_certificate_are_turned_away_and_counted() {
    let secret = Secret::new("server");
    let settings = secret.launch().setting("GRPC_CLIENT_TLS_CACERT", file("ca.pem").display());
    let tidegate = settings.setting("GRPC_CLIENT_TLS_SAN", "envoy.example").start().await;
    let at = tidegate.grpc_address();
    // No certificate, one for another name, one for this name that nobody of ours has signed.
    for wrong in [None, Some("other"), Some("foreign")] {
        assert!(ask(&mut client(at, wrong)).await.is_err(), "{wrong:?}");
    }
    assert_eq!(ask(&mut client(at, Some("envoy"))).await.unwrap(), Code::Ok);
    // A client may know of a refusal before it is counted.
    eventually("all three are counted", PATIENCE, async || {
        metric(&tidegate, "tidegate_tls_handshake_failures").await.filter(|failures| *failures >= 3.0)
    })
    .await;
    tidegate.logs("a client's TLS handshake failed").await;
    // Nor is anybody let in who speaks no TLS.
    assert!(tidegate.grpc().should_rate_limit(request("shop", &[("a", "b")])).await.is_err());
}

#[tokio::test]
async fn anybody_is_let_in_where_no_authority_is_named() {
    let secret = Secret::new("server");
    let tidegate = secret.launch().setting("GRPC_SERVER_TLS_CA_CERT", file("ca.pem").display()).start().await;
    assert_eq!(ask(&mut client(tidegate.grpc_address(), None)).await.unwrap(), Code::Ok);
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_to_new_connections_and_closes_none() {
    let secret = Secret::new("server");
    let tidegate = secret.launch().start().await;
    let at = tidegate.grpc_address();
    let mut before = client(at, None);
    assert_eq!(ask(&mut before).await.unwrap(), Code::Ok);
    assert_eq!(metric(&tidegate, "tidegate_tls_certificate_rejected").await, Some(0.0));
    eventually("the end of the certificate is known", PATIENCE, async || {
        let is_so = metric(&tidegate, "tidegate_tls_certificate_ends_at_seconds").await.is_some_and(|at| at > 4e9);
        is_so.then_some(())
    })
    .await;

    let shown = async || Some(connect(at, None).await.ok()?.get_ref().1.peer_certificates()?[0].clone());
    assert_eq!(eventually("a certificate is shown", PATIENCE, shown).await, certificate("server"));
    // What can't be used changes nothing.
    std::fs::write(secret.path("tls.key"), "no key").unwrap();
    eventually("the key is refused", PATIENCE, async || {
        let is_so = metric(&tidegate, "tidegate_tls_certificate_rejected").await == Some(1.0);
        is_so.then_some(())
    })
    .await;
    assert_eq!(eventually("a certificate is shown", PATIENCE, shown).await, certificate("server"));
    tidegate.logs("has no unencrypted PKCS#1, PKCS#8 or SEC1 key").await;

    secret.hold("renewed");
    eventually("the renewed certificate is shown", PATIENCE, async || {
        let is_so = shown().await? == certificate("renewed");
        is_so.then_some(())
    })
    .await;
    assert_eq!(ask(&mut before).await.unwrap(), Code::Ok, "the connection of before is still open");
    tidegate.logs_once("was renewed").await;
    eventually("nothing is refused any more", PATIENCE, async || {
        let is_so = metric(&tidegate, "tidegate_tls_certificate_rejected").await == Some(0.0);
        is_so.then_some(())
    })
    .await;
}

#[tokio::test]
async fn renewed_authorities_hold_for_new_connections_and_close_none() {
    let secret = Secret::new("server");
    let authorities = secret.path("ca.crt");
    std::fs::copy(file("ca.pem"), &authorities).unwrap();
    let tidegate = secret.launch().setting("GRPC_CLIENT_TLS_CACERT", authorities.display()).start().await;
    let at = tidegate.grpc_address();
    let mut before = client(at, Some("envoy"));
    assert_eq!(ask(&mut before).await.unwrap(), Code::Ok);
    for (wrong, why) in [("second", "from another authority"), ("renewed", "for servers")] {
        assert!(ask(&mut client(at, Some(wrong))).await.is_err(), "{why}");
    }

    std::fs::copy(file("second-ca.pem"), &authorities).unwrap();
    eventually("who comes from the new authority is let in", PATIENCE, async || {
        ask(&mut client(at, Some("second"))).await.ok()
    })
    .await;
    assert!(ask(&mut client(at, Some("envoy"))).await.is_err(), "its authority is no longer among them");
    assert_ne!(ask(&mut before).await.unwrap(), Code::Unknown, "the connection of before is still open");
}

#[tokio::test]
async fn ask_speaks_tls_and_shows_a_certificate_where_one_is_wanted() {
    let secret = Secret::new("server");
    let settings = secret.launch().setting("GRPC_CLIENT_TLS_CACERT", file("ca.pem").display());
    let tidegate = settings.start().await;
    let ask = async |more: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tidegate"));
        command.env_clear().args(["ask", "--domain", "shop", "generic_key=all", "--timeout", "20s", "--address"]);
        command.arg(tidegate.grpc_address().to_string()).args(more);
        let ended = Process::spawn("tidegate ask", &mut command).wait(PATIENCE).await;
        (ended.status.code(), ended.stderr)
    };
    let files = ["ca.pem", "envoy.pem", "envoy.key"].map(|name| file(name).display().to_string());
    let [authority, certificate, key] = files.each_ref().map(String::as_str);
    let trusting = ["--tls", "--ca-file", authority];
    let ours = ["--certificate-file", certificate, "--key-file", key];
    assert_eq!(ask(&[&trusting[..], &ours].concat()).await.0, Some(0));
    for (wrong, code, sentence) in [
        (&trusting[..], 69, "client certificate"),
        (&["--tls"], 69, "its certificate comes from no authority that is trusted"),
        (&[&trusting[..], &ours, &["--server-name", "other.example"]].concat(), 69, "not for other.example"),
        (&ours, 64, "--tls"),
    ] {
        let (status, said) = ask(wrong).await;
        assert!(status == Some(code) && said.contains(sentence), "{wrong:?}: {status:?} {said}");
    }
}

#[tokio::test]
async fn a_pair_that_cannot_be_used_stops_the_start_with_a_sentence() {
    let secret = Secret::new("server");
    std::fs::copy(file("other.key"), secret.path("tls.key")).unwrap();
    let ended = secret.launch().run().await;
    assert!(!ended.status.success());
    assert!(ended.stderr.contains("do not go together"), "{}", ended.stderr);
    std::fs::remove_file(secret.path("tls.crt")).unwrap();
    let ended = secret.launch().run().await;
    assert!(ended.stderr.contains("the certificate of the gRPC port in"), "{}", ended.stderr);
}
