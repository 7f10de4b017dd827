//! A client certificate in the settings: two files that go together.

use std::path::PathBuf;

use super::meaning::Reader;
use crate::tls::Identity;

/// The pair of a group of keys, if there is one. One file without the other is a mistake where the pair is `needed` for
/// anything.
pub(super) fn identity(read: &mut Reader<'_>, group: &str, needed: bool) -> Option<Identity> {
    let [certificate, key] = ["certificate_file", "key_file"].map(|name| format!("{group}.{name}"));
    let (certificate_file, key_file) = (read.optional(&certificate), read.optional(&key));
    let (set, empty) = match (certificate_file, key_file) {
        (Some(certificate_file), Some(key_file)) => {
            let (certificate_file, key_file) = (PathBuf::from(certificate_file), PathBuf::from(key_file));
            return Some(Identity { certificate_file, key_file });
        }
        (None, None) => return None,
        (Some(_), None) => (certificate, key),
        (None, Some(_)) => (key, certificate),
    };
    if needed {
        let place = read.place(&set);
        read.conflict(format!("{place} is set, but {empty} is empty; set both"));
    }
    None
}
