//! Certificates and keys as operators keep them: files in PEM form
//! ([RFC 7468](https://www.rfc-editor.org/rfc/rfc7468)).
//!
//! What is wrong with one is a sentence that says which file it is and what it is for. A bound on their size keeps a
//! path that was mistyped, to a log say, from being read whole.

mod validity;

use std::fs::File;
use std::io::Read;
use std::path::Path;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

pub use self::validity::ends_at;

/// Longest file of certificates or keys, in bytes.
pub const FILE_BYTES_MAX: u64 = 1 << 20;

/// The certificates in a file, at least one. `what` says in the error what they are for.
///
/// # Errors
/// When the file can't be read, is too long, or has none; as a sentence.
pub fn certificates(path: &Path, what: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    certificates_in(&read(path, what)?, path, what)
}

/// The same of a file that was [read](read()) before.
///
/// # Errors
/// When it has none; as a sentence.
pub fn certificates_in(bytes: &[u8], path: &Path, what: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(bytes).collect();
    let found = found.map_err(|error| format!("{what} in {} cannot be read: {error}", path.display()))?;
    if found.is_empty() {
        return Err(format!("{what} in {} cannot be read: it has no certificate in PEM form", path.display()));
    }
    Ok(found)
}

/// The key in a file: PKCS#1, PKCS#8 or SEC1. `what` says in the error what it is for.
///
/// # Errors
/// When the file can't be read, is too long, or has none that is unencrypted; as a sentence.
pub fn key(path: &Path, what: &str) -> Result<PrivateKeyDer<'static>, String> {
    key_in(&read(path, what)?, path, what)
}

/// The same of a file that was [read](read()) before.
///
/// # Errors
/// When it has none that is unencrypted; as a sentence.
pub fn key_in(bytes: &[u8], path: &Path, what: &str) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(bytes).map_err(|_| {
        let path = path.display();
        format!("{what} in {path} cannot be read: it has no unencrypted PKCS#1, PKCS#8 or SEC1 key in PEM form")
    })
}

/// The bytes of such a file.
///
/// # Errors
/// When it can't be read or is too long; as a sentence.
pub fn read(path: &Path, what: &str) -> Result<Vec<u8>, String> {
    // A key that was pasted where its file's name belongs must not be shown.
    if path.to_string_lossy().contains(['\n', '\r']) || path.to_string_lossy().contains("-----BEGIN") {
        return Err(format!("{what} takes the name of a file, and was given a text in PEM form"));
    }
    let wrong = |reason: &dyn std::fmt::Display| format!("{what} in {} cannot be read: {reason}", path.display());
    let file = File::open(path).map_err(|error| wrong(&error))?;
    let mut bytes = Vec::new();
    // Not by the file's length: a device has none.
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(|error| wrong(&error))?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(wrong(&format!("it has more than {FILE_BYTES_MAX} bytes")));
    }
    Ok(bytes)
}
