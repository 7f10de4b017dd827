//! TLS on the gRPC port: what we show, whom we let in, and how both are renewed while calls are answered.
//!
//! One certificate for everybody, whatever name a client asks for or none: Envoy asks for none unless it is told to.
//! HTTP/2 is offered by ALPN and not insisted on. A configuration is made of the files as a whole and put in the place
//! of the last one ([`renewal`]); connections keep the one that they began with, so nobody is disconnected by a renewal.

mod clients;
pub mod renewal;

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{Error, RootCertStore, ServerConfig};
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use self::clients::NamedClients;
use crate::pem;

/// What the port shows, and whom it lets in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortTls {
    /// Our certificate and those between it and its authority (PEM).
    pub certificate_file: PathBuf,
    /// Its key (PEM): PKCS#1, PKCS#8 or SEC1.
    pub key_file: PathBuf,
    /// Who is let in; anybody if nothing is said.
    pub clients: Option<Clients>,
}

/// Clients that show a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clients {
    /// Certificates of the authorities (PEM) that theirs must come from. The system's are not among them: they sign
    /// for everybody.
    pub ca_file: PathBuf,
    /// The DNS name that a client's certificate must have, if it has to have one.
    pub name: Option<String>,
}

/// Makes TLS connections out of others. Clones make the same.
#[derive(Clone, Debug)]
pub struct Acceptor {
    files: Arc<PortTls>,
    current: Arc<RwLock<Loaded>>,
}

/// A configuration, and what it was made of.
#[derive(Clone, Debug)]
struct Loaded {
    configuration: Arc<ServerConfig>,
    digest: Fingerprint,
    /// Seconds since the epoch at which our certificate ends, where that can be read.
    ends_at: Option<i64>,
}

/// Tells the contents of the files from others.
type Fingerprint = [u8; 32];

/// The bytes of all files.
struct Contents {
    certificate: Vec<u8>,
    key: Vec<u8>,
    authorities: Option<Vec<u8>>,
}

const OUR_CERTIFICATE: &str = "the certificate of the gRPC port";
const OUR_KEY: &str = "the key of the gRPC port";
const AUTHORITIES: &str = "the authorities of the gRPC port's clients";

// === impl PortTls ===

impl PortTls {
    fn read(&self) -> Result<Contents, String> {
        let authorities = |clients: &Clients| pem::read(&clients.ca_file, AUTHORITIES);
        Ok(Contents {
            certificate: pem::read(&self.certificate_file, OUR_CERTIFICATE)?,
            key: pem::read(&self.key_file, OUR_KEY)?,
            authorities: self.clients.as_ref().map(authorities).transpose()?,
        })
    }

    fn load(&self, contents: &Contents) -> Result<Loaded, String> {
        let certificates = pem::certificates_in(&contents.certificate, &self.certificate_file, OUR_CERTIFICATE)?;
        let ends_at = certificates.first().and_then(|certificate| pem::ends_at(certificate));
        let key = pem::key_in(&contents.key, &self.key_file, OUR_KEY)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.expect("ring has a cipher suite for each version");
        let builder = match (&self.clients, &contents.authorities) {
            (Some(clients), Some(bytes)) => builder.with_client_cert_verifier(clients.verifier(bytes)?),
            _ => builder.with_no_client_auth(),
        };
        let unfit = |error: Error| {
            let (certificate, key) = (self.certificate_file.display(), self.key_file.display());
            format!("the certificate in {certificate} and the key in {key} do not go together: {error}")
        };
        let mut configuration = builder.with_single_cert(certificates, key).map_err(unfit)?;
        configuration.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Loaded { configuration: Arc::new(configuration), digest: contents.digest(), ends_at })
    }
}

// === impl Contents ===

impl Contents {
    fn digest(&self) -> Fingerprint {
        let mut digest = Sha256::new();
        for part in [Some(&self.certificate), Some(&self.key), self.authorities.as_ref()].into_iter().flatten() {
            digest.update((part.len() as u64).to_le_bytes());
            digest.update(part);
        }
        digest.finalize().into()
    }
}

// === impl Clients ===

impl Clients {
    fn verifier(&self, authorities: &[u8]) -> Result<Arc<dyn ClientCertVerifier>, String> {
        let path = self.ca_file.display();
        let mut roots = RootCertStore::empty();
        for certificate in pem::certificates_in(authorities, &self.ca_file, AUTHORITIES)? {
            roots.add(certificate).map_err(|error| format!("a certificate in {path} cannot be used: {error}"))?;
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
        let verifier = verifier.map_err(|error| format!("the authorities in {path} cannot be used: {error}"))?;
        match &self.name {
            Some(name) => Ok(Arc::new(NamedClients::new(verifier, name)?)),
            None => Ok(verifier),
        }
    }
}

// === impl Acceptor ===

impl Acceptor {
    /// Reads the files. That blocks the thread for a moment.
    ///
    /// # Errors
    /// When a file can't be read or used, or certificate and key do not go together; as a sentence.
    pub fn load(files: PortTls) -> Result<Acceptor, String> {
        let loaded = files.load(&files.read()?)?;
        Ok(Acceptor { files: Arc::new(files), current: Arc::new(RwLock::new(loaded)) })
    }

    /// Makes a TLS connection, by the configuration of this moment.
    ///
    /// # Errors
    /// When the client doesn't speak TLS, or shows no certificate that is accepted where one is asked for.
    pub async fn accept(&self, socket: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let configuration = self.current().configuration;
        TlsAcceptor::from(configuration).accept(socket).await
    }

    fn current(&self) -> Loaded {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
