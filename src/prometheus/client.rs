//! The connection to one Prometheus: addresses, TLS, who we are, and how much of an answer is read.
//!
//! The requests are prometheus-http-query's; the HTTP client under it is made here, because it must follow no redirect
//! (a token would travel with it), ask no proxy that the environment names, and trust what the operator says. TLS is
//! rustls over ring, which builds with a C compiler alone. Secrets in files are read for every question, so that they
//! can be changed without a restart.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use prometheus_http_query::reqwest::header::{AUTHORIZATION, HeaderValue};
use prometheus_http_query::reqwest::{self, redirect};
use prometheus_http_query::{Client, Error};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::answer::{self, Answer, BODY_BYTES_MAX, clean};
use crate::rules::service::{PrometheusAccess, PrometheusServer, Secret};
use crate::signal::{Absence, AbsenceKind};

/// Most questions under way at a time, over all services; others wait for their turn, within their deadline. With
/// [`BODY_BYTES_MAX`] it bounds what answers take: 64 MiB.
const QUESTIONS_MAX: usize = 64;

/// How long a connection is kept that nobody uses.
const IDLE: Duration = Duration::from_secs(90);

/// Longest file of a secret or of certificates, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Why a Prometheus can't be asked at all.
#[derive(Debug, Error)]
pub enum SourceError {
    /// A file of certificates can't be read.
    #[error("the certificates in {} cannot be read ({place}): {reason}", path.display())]
    Certificates {
        /// The file.
        path: PathBuf,
        /// Where it is named.
        place: Arc<str>,
        /// Why.
        reason: String,
    },
    /// Neither the system nor the operator has a certificate to trust.
    #[error("there are no certificates to trust an https address by ({place}): install the system's, or give ca_file")]
    NoCertificates {
        /// Where the address stands.
        place: Arc<str>,
    },
    /// The address is none.
    #[error("{url} is no address ({place}): {reason}")]
    Address {
        /// The address.
        url: String,
        /// Where it stands.
        place: Arc<str>,
        /// Why.
        reason: String,
    },
}

/// Asks one Prometheus. Clones share its connections.
#[derive(Clone)]
pub(super) struct Connection {
    client: Client,
    access: PrometheusAccess,
    turns: Arc<Semaphore>,
}

/// A query and the instant at which it is evaluated.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question<'q> {
    pub(super) query: &'q str,
    /// Milliseconds since the epoch, by Prometheus's clock; its present without.
    pub(super) at_millis: Option<u64>,
}

// === impl Connection ===

impl Connection {
    pub(super) fn new(server: &PrometheusServer) -> Result<Connection, SourceError> {
        let place = &server.place;
        let wrong_address =
            |reason: String| SourceError::Address { url: server.url.clone(), place: Arc::clone(place), reason };
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls(server)?)
            .redirect(redirect::Policy::none())
            .no_proxy()
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(QUESTIONS_MAX)
            .user_agent(concat!("tidegate/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| wrong_address(causes(&error)))?;
        let client = Client::from(client, &server.url).map_err(|error| wrong_address(causes(&error)))?;
        Ok(Connection { client, access: server.access.clone(), turns: Arc::new(Semaphore::new(QUESTIONS_MAX)) })
    }

    /// Asks and waits for the answer until `deadline`; one that comes later is dropped.
    pub(super) async fn ask(&self, question: Question<'_>, deadline: Instant) -> Result<Answer, Absence> {
        let started = Instant::now();
        match tokio::time::timeout_at(deadline, self.exchange(question, deadline)).await {
            Ok(answer) => answer,
            Err(_) => {
                let waited = deadline.saturating_duration_since(started);
                let reason = format!("Prometheus did not answer within {} ms", waited.as_millis());
                Err(Absence::new(AbsenceKind::TimedOut, reason))
            }
        }
    }

    async fn exchange(&self, question: Question<'_>, deadline: Instant) -> Result<Answer, Absence> {
        let Ok(_turn) = self.turns.acquire().await else {
            return Err(Absence::new(AbsenceKind::Unreachable, "the source of signals is closed"));
        };
        let Question { query, at_millis } = question;
        let left = deadline.saturating_duration_since(Instant::now()).as_millis().max(1);
        // So that it gives up, too, on what nobody waits for.
        let mut request = self.client.query(query).timeout(i64::try_from(left).unwrap_or(i64::MAX));
        if let Some(millis) = at_millis {
            request = request.query("time", format!("{}.{:03}", millis / 1_000, millis % 1_000));
        }
        if let Some(value) = self.authorization().await? {
            request = request.header(AUTHORIZATION, value);
        }
        let response = request.post_raw().await.map_err(|error| unreachable(&error))?;
        let status = response.status().as_u16();
        let body = body(response).await?;
        answer::read(status, &body)
    }

    /// The header that says who we are.
    async fn authorization(&self) -> Result<Option<HeaderValue>, Absence> {
        let text = match &self.access {
            PrometheusAccess::Open => return Ok(None),
            PrometheusAccess::Bearer(token) => format!("Bearer {}", reveal(token).await?),
            PrometheusAccess::Basic { user, password } => {
                let pair = format!("{user}:{}", reveal(password).await?);
                format!("Basic {}", BASE64_STANDARD.encode(pair))
            }
        };
        let mut value = HeaderValue::from_str(&text).map_err(|_| {
            Absence::new(AbsenceKind::Refused, "the token or password has letters that no header can carry")
        })?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").field("access", &self.access).finish_non_exhaustive()
    }
}

async fn reveal(secret: &Secret) -> Result<String, Absence> {
    let path = match secret {
        Secret::Value(value) => return Ok(value.clone()),
        Secret::File(path) => path.clone(),
    };
    let name = path.display().to_string();
    // A file may hang, as on a network; then the deadline ends the wait.
    let read = tokio::task::spawn_blocking(move || read_file(&path)).await;
    let refused = |reason: String| Absence::new(AbsenceKind::Refused, format!("{name} cannot be read: {reason}"));
    let bytes = read.map_err(|error| refused(error.to_string()))?.map_err(|error| refused(error.to_string()))?;
    let text = String::from_utf8(bytes).map_err(|_| refused("it is not UTF-8".to_owned()))?;
    match text.trim() {
        "" => Err(refused("it is empty".to_owned())),
        secret => Ok(secret.to_owned()),
    }
}

fn read_file(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::Read;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The body, if it isn't longer than we are willing to read.
async fn body(mut response: reqwest::Response) -> Result<Vec<u8>, Absence> {
    let too_long = || answer::invalid(format!("the answer is longer than {BODY_BYTES_MAX} bytes"));
    if response.content_length().is_some_and(|length| length > BODY_BYTES_MAX as u64) {
        return Err(too_long());
    }
    let mut body = Vec::new();
    loop {
        match response.chunk().await {
            Ok(None) => return Ok(body),
            Ok(Some(chunk)) if body.len() + chunk.len() > BODY_BYTES_MAX => return Err(too_long()),
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Err(error) => {
                let reason = format!("the connection to Prometheus broke: {}", causes(&error));
                return Err(Absence::new(AbsenceKind::Unreachable, reason));
            }
        }
    }
}

fn unreachable(error: &Error) -> Absence {
    Absence::new(AbsenceKind::Unreachable, format!("Prometheus can't be reached: {}", causes(error)))
}

/// The innermost cause of an error: the outer ones say what was tried, and name the address each time.
fn causes(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(cause) = innermost.source() {
        innermost = cause;
    }
    clean(&innermost.to_string())
}

/// What is trusted: for https the system's certificates and the operator's, for http nothing is asked.
fn tls(server: &PrometheusServer) -> Result<ClientConfig, SourceError> {
    let mut roots = RootCertStore::empty();
    if server.url.starts_with("https://") {
        // Single broken certificates of a system are nothing to stop at.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if let Some(path) = &server.ca_file {
            let wrong = |reason: String| SourceError::Certificates {
                path: path.clone(),
                place: Arc::clone(&server.place),
                reason,
            };
            let bytes = read_file(path).map_err(|error| wrong(error.to_string()))?;
            let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&bytes)
                .collect::<Result<_, _>>()
                .map_err(|error| wrong(error.to_string()))?;
            if certificates.is_empty() {
                return Err(wrong("it has no certificate in PEM form".to_owned()));
            }
            for certificate in certificates {
                roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
            }
        }
        if roots.is_empty() {
            return Err(SourceError::NoCertificates { place: Arc::clone(&server.place) });
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let versions = versions.expect("ring has a cipher suite for each version");
    Ok(versions.with_root_certificates(roots).with_no_client_auth())
}
