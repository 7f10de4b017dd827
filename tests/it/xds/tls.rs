//! Rules over TLS, with certificates as Envoy Gateway makes them: RSA keys in PKCS#1, a leaf named `*` for us, no extended
//! key usage; its server wants TLS 1.3, a client certificate, and HTTP/2 by ALPN.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tempfile::TempDir;

use super::{NODE, codes, launch, shop};
use crate::support::tidegate::Launch;
use crate::support::xds::SnapshotServer;
use crate::support::{PATIENCE, eventually};
use tidegate::proto::envoy::service::ratelimit::v3::rate_limit_response::Code;

fn certificates() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/support/certificates")
}

fn file(name: &str) -> PathBuf {
    certificates().join("gateway").join(name)
}

/// A server as Envoy Gateway's, which has told rules.
async fn server() -> SnapshotServer {
    let certificate = |name: &str| CertificateDer::from_pem_file(file(name)).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(certificate("ca.pem")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().unwrap();
    let builder = ServerConfig::builder_with_provider(provider);
    let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]).unwrap();
    let key = PrivateKeyDer::from_pem_file(file("server.key")).unwrap();
    let mut tls =
        builder.with_client_cert_verifier(clients).with_single_cert(vec![certificate("server.pem")], key).unwrap();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let server = SnapshotServer::start_at((Ipv4Addr::LOCALHOST, 0).into(), Some(tls)).await;
    server.tell(NODE, &[shop(1)]);
    server
}

/// Tidegate that shows no certificate.
fn sealed(at: impl ToString) -> Launch {
    launch(SocketAddr::from((Ipv4Addr::LOCALHOST, 1)))
        .setting("CONFIG_GRPC_XDS_SERVER_URL", at)
        .setting("CONFIG_GRPC_XDS_SERVER_USE_TLS", true)
        .setting("CONFIG_GRPC_XDS_SERVER_TLS_CACERT", file("ca.pem").display())
        .setting("FORCE_START_WITHOUT_INITIAL_CONFIG", true)
}

fn with_identity(launch: Launch, folder: &Path, name: &str) -> Launch {
    launch
        .setting("CONFIG_GRPC_XDS_CLIENT_TLS_CERT", folder.join(format!("{name}.pem")).display())
        .setting("CONFIG_GRPC_XDS_CLIENT_TLS_KEY", folder.join(format!("{name}.key")).display())
}

#[tokio::test]
async fn rules_come_over_mutual_tls_and_the_server_is_known_by_the_host_of_its_address() {
    let server = server().await;
    let at = format!("localhost:{}", server.address().port());
    let tidegate = with_identity(sealed(at), &certificates().join("gateway"), "ratelimit").start().await;
    server.is_accepted("1").await;
    assert_eq!(codes(&tidegate, "ada").await, [Code::Ok, Code::OverLimit]);
}

#[tokio::test]
async fn a_server_of_another_name_is_none_of_ours_unless_it_is_expected() {
    let server = server().await;
    let launch = || with_identity(sealed(server.address()), &certificates().join("gateway"), "ratelimit");
    let tidegate = launch().start().await;
    let is_told = || tidegate.log().contains("its certificate is not for 127.0.0.1 but for");
    eventually("the names are told", PATIENCE, async || is_told().then_some(())).await;
    assert!(server.asked().is_empty());
    let tidegate = launch().setting("CONFIG_GRPC_XDS_SERVER_TLS_SAN", "envoy-gateway").start().await;
    server.is_accepted("1").await;
    assert_eq!(codes(&tidegate, "ada").await, [Code::Ok, Code::OverLimit]);
}

#[tokio::test]
async fn what_is_wrong_with_certificates_is_told_in_a_sentence() {
    let server = server().await;
    let at = format!("localhost:{}", server.address().port());
    let port = certificates().join("port");
    let cases = [
        (sealed(&at), "it wants a client certificate, and none is set"),
        (with_identity(sealed(&at), &port, "foreign"), "it does not accept our client certificate"),
        (
            sealed(&at).setting("CONFIG_GRPC_XDS_SERVER_TLS_CACERT", port.join("ca.pem").display()),
            "its certificate comes from no authority that is trusted",
        ),
        (with_identity(sealed(&at), &port, "nobody"), "the client certificate in"),
    ];
    for (launch, sentence) in cases {
        let tidegate = launch.start().await;
        eventually(sentence, PATIENCE, async || tidegate.log().contains(sentence).then_some(())).await;
    }
    assert!(server.asked().is_empty());
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_with_the_next_connection() {
    let server = server().await;
    let at = format!("localhost:{}", server.address().port());
    let secret = TempDir::new().unwrap();
    let hold = |folder: &str, name: &str| {
        for end in ["key", "pem"] {
            let from = certificates().join(folder).join(format!("{name}.{end}"));
            std::fs::copy(from, secret.path().join(format!("tls.{end}"))).unwrap();
        }
    };
    hold("port", "foreign");
    let tidegate = with_identity(sealed(at), secret.path(), "tls").start().await;
    eventually("it is tried", PATIENCE, async || (server.connections() > 1).then_some(())).await;
    assert!(server.asked().is_empty());
    hold("gateway", "ratelimit");
    server.is_accepted("1").await;
    assert_eq!(codes(&tidegate, "ada").await, [Code::Ok, Code::OverLimit]);
}
