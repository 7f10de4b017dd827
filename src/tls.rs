//! TLS to the servers that we call, Redis and who gives rules by xDS: whom we trust, who we are, and one sentence for each
//! way in which a handshake fails.
//!
//! rustls over ring, as for Prometheus. All files are read for every connection, so that certificates can be renewed
//! while the service runs: a rotation takes no restart, only a new connection. A file that can't be used fails that
//! attempt with a sentence that names it, and the next attempt reads it again.
//!
//! What rustls says of a failure is precise and not made for operators; [`TlsSocket`] says it in ours, on whichever
//! read or write it comes up: a server that wants a certificate of ours says so only after the handshake (TLS 1.3).

use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::pem;

/// How a server is spoken to over TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Certificates of authorities (PEM) that are trusted besides the system's.
    pub ca_file: Option<PathBuf>,
    /// Who we are, where the server asks for it.
    pub identity: Option<Identity>,
    /// The name that the server's certificate must have, if not that of the address.
    pub server_name: Option<String>,
    /// Whether that name is looked at.
    pub name_check: NameCheck,
}

/// A client certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The certificate and those between it and its authority (PEM).
    pub certificate_file: PathBuf,
    /// Its key (PEM): PKCS#1, PKCS#8 or SEC1.
    pub key_file: PathBuf,
}

/// What is looked at in a server's certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NameCheck {
    /// The chain to a trusted authority, the time, and the name.
    #[default]
    Checked,
    /// The chain and the time: any server with a certificate of a trusted authority will do.
    Skipped,
}

/// A TLS connection whose errors say what to do.
#[derive(Debug)]
pub struct TlsSocket {
    stream: TlsStream<TcpStream>,
    sentences: Sentences,
}

/// What a sentence about a failed handshake needs to know.
#[derive(Clone, Debug)]
struct Sentences {
    name: String,
    has_identity: bool,
}

// === impl Tls ===

impl Tls {
    /// Makes a TLS connection over `socket` to the server called `host`.
    ///
    /// # Errors
    /// When a file can't be used, the server is none that we trust, or it doesn't trust us; as a sentence.
    pub async fn seal(&self, socket: TcpStream, host: &str) -> io::Result<TlsSocket> {
        self.seal_for(None, socket, host).await
    }

    /// The same for a server that is told by ALPN which protocol will be spoken.
    ///
    /// # Errors
    /// As for [`Tls::seal`].
    pub async fn seal_for(
        &self,
        protocol: Option<&'static str>,
        socket: TcpStream,
        host: &str,
    ) -> io::Result<TlsSocket> {
        let tls = self.clone();
        let configuration = tokio::task::spawn_blocking(move || tls.configuration()).await;
        let mut configuration = configuration.map_err(io::Error::other)?.map_err(io::Error::other)?;
        configuration.alpn_protocols = protocol.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        let name = self.server_name.as_deref().unwrap_or(host).to_owned();
        let wrong_name = || io::Error::other(format!("{name} is no name that a certificate can have"));
        let server_name = ServerName::try_from(name.clone()).map_err(|_| wrong_name())?;
        let sentences = Sentences { name, has_identity: self.identity.is_some() };
        match TlsConnector::from(Arc::new(configuration)).connect(server_name, socket).await {
            Ok(stream) => Ok(TlsSocket { stream, sentences }),
            Err(error) => Err(sentences.of(error)),
        }
    }

    /// Reads all files anew.
    fn configuration(&self) -> Result<ClientConfig, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let roots = Arc::new(self.roots()?);
        let verifier = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider)).build();
        let verifier = verifier.map_err(|error| format!("the authorities cannot be used: {error}"))?;
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
        let builder = builder.expect("ring has a cipher suite for each version");
        let builder = match self.name_check {
            NameCheck::Checked => builder.with_webpki_verifier(verifier),
            NameCheck::Skipped => {
                builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyName { verifier, provider }))
            }
        };
        match &self.identity {
            None => Ok(builder.with_no_client_auth()),
            Some(identity) => {
                let certificates = pem::certificates(&identity.certificate_file, "the client certificate")?;
                let key = pem::key(&identity.key_file, "the client key")?;
                let unfit = |error: Error| {
                    let (certificate, key) = (identity.certificate_file.display(), identity.key_file.display());
                    format!("the certificate in {certificate} and the key in {key} do not go together: {error}")
                };
                builder.with_client_auth_cert(certificates, key).map_err(unfit)
            }
        }
    }

    /// The system's authorities, and the operator's.
    fn roots(&self) -> Result<RootCertStore, String> {
        let mut roots = RootCertStore::empty();
        // Single broken certificates of a system are nothing to stop at.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if let Some(path) = &self.ca_file {
            for certificate in pem::certificates(path, "the authorities' certificates")? {
                let unusable = |error: Error| format!("a certificate in {} cannot be used: {error}", path.display());
                roots.add(certificate).map_err(unusable)?;
            }
        }
        if roots.is_empty() {
            return Err("there is no authority to trust: install the system's certificates, or give a CA file".into());
        }
        Ok(roots)
    }
}

/// Verifies all of a server's certificate but its name.
#[derive(Debug)]
struct AnyName {
    verifier: Arc<WebPkiServerVerifier>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // The name is looked at last: whatever is wrong with the chain or the time was said before.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

// === impl TlsSocket ===

impl TlsSocket {
    fn told<T>(&self, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        polled.map_err(|error| self.sentences.of(error))
    }
}

impl AsyncRead for TlsSocket {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(cx, to);
        self.told(polled)
    }
}

impl AsyncWrite for TlsSocket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.told(polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        self.told(polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_shutdown(cx);
        self.told(polled)
    }
}

// === impl Sentences ===

impl Sentences {
    /// The error in our words, if it is one of TLS.
    fn of(&self, error: io::Error) -> io::Error {
        let sentence = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()).map(|inner| self.say(inner));
        sentence.map_or(error, io::Error::other)
    }

    fn say(&self, error: &Error) -> String {
        match error {
            Error::InvalidCertificate(error) => self.say_of_certificate(error),
            Error::AlertReceived(alert) => self.say_of_alert(*alert),
            Error::InvalidMessage(_) => "it does not speak TLS there".to_owned(),
            other => format!("the TLS connection failed: {other}"),
        }
    }

    fn say_of_certificate(&self, error: &CertificateError) -> String {
        let days = |from: &UnixTime, to: &UnixTime| to.as_secs().saturating_sub(from.as_secs()) / 86_400;
        match error {
            CertificateError::UnknownIssuer => {
                "its certificate comes from no authority that is trusted: give the authority's certificate as CA file"
                    .to_owned()
            }
            CertificateError::Expired => "its certificate has expired".to_owned(),
            CertificateError::ExpiredContext { time, not_after } => {
                format!("its certificate has expired {} days ago", days(not_after, time))
            }
            CertificateError::NotValidYet => "its certificate is not valid yet".to_owned(),
            CertificateError::NotValidYetContext { time, not_before } => {
                format!("its certificate is not valid yet: it will be in {} days", days(time, not_before))
            }
            CertificateError::NotValidForName => format!("its certificate is not for {}", self.name),
            CertificateError::NotValidForNameContext { presented, .. } => {
                format!("its certificate is not for {} but for {}", self.name, shown(presented))
            }
            other => format!("its certificate cannot be accepted: {other}"),
        }
    }

    fn say_of_alert(&self, alert: AlertDescription) -> String {
        match (alert, self.has_identity) {
            (AlertDescription::CertificateRequired, false) => {
                "it wants a client certificate, and none is set".to_owned()
            }
            // TLS 1.2 has no word of its own for a certificate that is missing.
            (AlertDescription::HandshakeFailure, false) => {
                "it ended the TLS handshake (HandshakeFailure): it may want a client certificate, and none is set"
                    .to_owned()
            }
            (
                AlertDescription::BadCertificate
                | AlertDescription::CertificateExpired
                | AlertDescription::CertificateRequired
                | AlertDescription::CertificateRevoked
                | AlertDescription::CertificateUnknown
                | AlertDescription::UnknownCA
                | AlertDescription::UnsupportedCertificate,
                true,
            ) => format!("it does not accept our client certificate ({alert:?})"),
            (alert, _) => format!("it ended the TLS connection ({alert:?})"),
        }
    }
}

/// The first names of a certificate.
fn shown(names: &[String]) -> String {
    const SHOWN_MAX: usize = 4;
    match names.len() {
        0 => "no name at all".to_owned(),
        1..=SHOWN_MAX => names.join(", "),
        more => format!("{} and {} more", names[..SHOWN_MAX].join(", "), more - SHOWN_MAX),
    }
}
