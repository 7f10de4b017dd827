//! What a Redis needs to speak TLS: certificates of a made-up authority, and the arguments that name them.

use std::path::{Path, PathBuf};

/// A certificate, a key, or the authority's own certificate (`ca.pem`).
pub(crate) fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/support/certificates/redis").join(name)
}

/// An authority that has signed none of the certificates here.
pub(crate) fn stranger() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/support/certificates/ca.pem")
}

/// Arguments of a Redis that shows this certificate on that port.
pub(crate) fn arguments(port: u16, certificate: &str) -> Vec<String> {
    let path = |name| file(name).display().to_string();
    [
        ["--tls-port".to_owned(), port.to_string()],
        ["--tls-cert-file".to_owned(), path(certificate)],
        ["--tls-key-file".to_owned(), path("server.key")],
        ["--tls-ca-cert-file".to_owned(), path("ca.pem")],
    ]
    .concat()
}
