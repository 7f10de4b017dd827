//! The settings of TLS on the gRPC port.

use std::path::PathBuf;

use super::meaning::Reader;
use crate::rls::tls::{Clients, PortTls};

/// How TLS is spoken, if it is. Files that are named while it is off are left alone, as in the reference service.
pub(super) fn port(read: &mut Reader<'_>) -> Option<PortTls> {
    let is_enabled = read.switch("grpc.tls.enabled");
    let mut file = |path: &str| read.optional(path).map(PathBuf::from);
    let certificate_file = file("grpc.tls.certificate_file");
    let key_file = file("grpc.tls.key_file");
    let ca_file = file("grpc.tls.client_ca_file");
    let name = read.optional("grpc.tls.client_name");
    if !is_enabled {
        return None;
    }
    let place = read.place("grpc.tls.enabled");
    if read.optional("grpc.unix_socket").is_some() {
        let socket = read.place("grpc.unix_socket");
        read.conflict(format!(
            "{place} is true, but {socket} names a socket of this machine, on which TLS is not spoken; keep one of the two"
        ));
    }
    for (path, is_set) in [("certificate_file", certificate_file.is_some()), ("key_file", key_file.is_some())] {
        if !is_set {
            let missing = read.place(&format!("grpc.tls.{path}"));
            read.conflict(format!("{place} is true, but {missing} is empty; name the file (PEM), or set it to false"));
        }
    }
    if name.is_some() && ca_file.is_none() {
        let place = read.place("grpc.tls.client_name");
        read.conflict(format!(
            "{place} asks for a name in clients' certificates, but grpc.tls.client_ca_file is empty; name the \
             authority that they come from"
        ));
    }
    let clients = ca_file.map(|ca_file| Clients { ca_file, name });
    Some(PortTls { certificate_file: certificate_file?, key_file: key_file?, clients })
}
