//! How `tidegate ask` speaks TLS: what the words on its command line say together.

use std::path::PathBuf;

use clap::Args;

use super::address::Address;
use crate::tls::{Identity, NameCheck, Tls};

/// TLS to the server that is asked.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TlsOptions {
    /// Speak TLS
    #[arg(long)]
    tls: bool,
    /// Certificates of authorities (PEM) that are trusted besides the system's
    #[arg(long, value_name = "FILE", requires = "tls")]
    ca_file: Option<PathBuf>,
    /// Our certificate (PEM), for a server that asks for one
    #[arg(long, value_name = "FILE", requires_all = ["tls", "key_file"])]
    certificate_file: Option<PathBuf>,
    /// Its key (PEM)
    #[arg(long, value_name = "FILE", requires_all = ["tls", "certificate_file"])]
    key_file: Option<PathBuf>,
    /// The name that the server's certificate must have [default: that of the address]
    #[arg(long, value_name = "NAME", requires = "tls")]
    server_name: Option<String>,
}

// === impl TlsOptions ===

impl TlsOptions {
    /// How TLS is spoken to that address, if it is; a mistake if it can't be.
    pub(super) fn of(&self, address: &Address) -> Result<Option<Tls>, String> {
        match (self.tls, address) {
            (false, _) => Ok(None),
            (true, Address::Unix(_)) => {
                Err(format!("--tls needs a host and a port, and {address} is a socket of this machine"))
            }
            (true, Address::Tcp { .. }) => {
                let files = self.certificate_file.clone().zip(self.key_file.clone());
                let identity = files.map(|(certificate_file, key_file)| Identity { certificate_file, key_file });
                Ok(Some(Tls {
                    ca_file: self.ca_file.clone(),
                    identity,
                    server_name: self.server_name.clone(),
                    name_check: NameCheck::Checked,
                }))
            }
        }
    }
}
