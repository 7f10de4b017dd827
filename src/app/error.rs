//! Why a process can't start, or stopped.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::rls::registry;
use crate::rules::RuleErrors;

/// Why a process can't start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The rule files have mistakes, or can't be read.
    #[error("the rules cannot be used:\n{0}")]
    Rules(#[from] RuleErrors),
    /// The gRPC port is to speak TLS and can't.
    #[error("TLS on the gRPC port: {0}")]
    Tls(String),
    /// The gRPC port's socket can't be had.
    #[error("cannot listen on {} (grpc.unix_socket): {source}{}", path.display(), socket_advice(source))]
    UnixSocket {
        /// The path as it was set.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A port can't be had.
    #[error("cannot listen on {host}:{port} ({setting}): {source}{}", advice(source, setting))]
    Port {
        /// The host as it was set.
        host: String,
        /// The port as it was set.
        port: u16,
        /// The setting that names the port.
        setting: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

/// Why a process stopped serving.
#[derive(Debug, Error)]
pub enum RunError {
    /// A thread or runtime can't be made.
    #[error("cannot start a worker: {0}")]
    Worker(#[from] io::Error),
    /// The descriptors built into this program can't be read.
    #[error(transparent)]
    Reflection(#[from] registry::DescriptorError),
}

fn socket_advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "; another process listens there, or the file is no socket: stop it, or move it away"
        }
        io::ErrorKind::NotFound => "; its folder must exist",
        _ => "",
    }
}

fn advice(error: &io::Error, setting: &str) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("; another process has this port: stop it, or set {setting} to another (0 for any free one)")
        }
        io::ErrorKind::PermissionDenied => {
            format!("; ports below 1024 need a privilege: set {setting} to a higher one")
        }
        _ => String::new(),
    }
}
