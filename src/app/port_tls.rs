//! TLS on the gRPC port, as a process starts with it.

use super::StartError;
use crate::rls::tls::{Acceptor, PortTls};
use crate::settings::GrpcSettings;

/// What makes the port's connections, if it is to speak TLS.
pub(super) fn acceptor(settings: &GrpcSettings) -> Result<Option<Acceptor>, StartError> {
    settings.tls.clone().map(Acceptor::load).transpose().map_err(StartError::Tls)
}

/// How the greeting speaks of it.
pub(super) fn described(tls: Option<&PortTls>) -> &'static str {
    match tls {
        None => "",
        Some(PortTls { clients: None, .. }) => ", over TLS",
        Some(PortTls { clients: Some(_), .. }) => ", over TLS with client certificates",
    }
}
