//! Why a request to a host got no answer, or not all of it, in Envoy's terms.

use crate::proxy::access_log::ResponseFlag;

/// The end of a stream that was not its proper end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", reason.text())]
pub struct Reset {
    /// What happened.
    pub reason: ResetReason,
    /// What the transport says of it, if it is about a connection that could not be made.
    pub transport_failure: Option<String>,
}

/// What happened to a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetReason {
    /// The host can't be connected to.
    RemoteConnectionFailure,
    /// The host could not be connected to in time.
    ConnectionTimeout,
    /// The connection ended.
    ConnectionTermination,
    /// A circuit breaker is open: the request may not wait for a connection.
    Overflow,
    /// A circuit breaker is open: there is a connection, and too many requests are under way.
    ActiveOverflow,
    /// We gave it up.
    LocalReset,
    /// The host reset it.
    RemoteReset,
    /// The host reset it and says that it did nothing with it.
    RemoteRefusedStream,
    /// What the host sent is not HTTP.
    ProtocolError,
}

// === impl Reset ===

impl Reset {
    /// The request didn't get a connection because of that error.
    #[must_use]
    pub fn connection_failure(error: &std::io::Error) -> Reset {
        // Rust adds the number in parentheses, Envoy doesn't.
        let text = error.to_string();
        let text = text.split(" (os error").next().unwrap_or_default();
        Reset {
            reason: ResetReason::RemoteConnectionFailure,
            transport_failure: Some(format!("delayed connect error: {text}")),
        }
    }

    /// What an error of the HTTP library says of a stream.
    #[must_use]
    pub fn of(error: &hyper::Error) -> Reset {
        use std::error::Error as _;
        let http2 = error.source().and_then(|source| source.downcast_ref::<h2::Error>());
        let reason = match http2 {
            Some(error) if error.is_reset() && error.is_remote() => match error.reason() {
                Some(h2::Reason::REFUSED_STREAM) => ResetReason::RemoteRefusedStream,
                _ => ResetReason::RemoteReset,
            },
            Some(error) if error.is_library() => ResetReason::ProtocolError,
            Some(_) => ResetReason::ConnectionTermination,
            None if error.is_parse() => ResetReason::ProtocolError,
            None => ResetReason::ConnectionTermination,
        };
        Reset::from(reason)
    }
}

impl From<ResetReason> for Reset {
    fn from(reason: ResetReason) -> Reset {
        Reset { reason, transport_failure: None }
    }
}

// === impl ResetReason ===

impl ResetReason {
    /// As it stands in the answer's body; with underscores for blanks, in the response code details.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            ResetReason::RemoteConnectionFailure => "remote connection failure",
            ResetReason::ConnectionTimeout => "connection timeout",
            ResetReason::ConnectionTermination => "connection termination",
            ResetReason::Overflow | ResetReason::ActiveOverflow => "overflow",
            ResetReason::LocalReset => "local reset",
            ResetReason::RemoteReset => "remote reset",
            ResetReason::RemoteRefusedStream => "remote refused stream reset",
            ResetReason::ProtocolError => "protocol error",
        }
    }

    /// The response flag that goes with it.
    #[must_use]
    pub fn flag(self) -> ResponseFlag {
        match self {
            ResetReason::RemoteConnectionFailure | ResetReason::ConnectionTimeout => {
                ResponseFlag::UpstreamConnectionFailure
            }
            ResetReason::ConnectionTermination => ResponseFlag::UpstreamConnectionTermination,
            ResetReason::Overflow | ResetReason::ActiveOverflow => ResponseFlag::UpstreamOverflow,
            ResetReason::LocalReset => ResponseFlag::LocalReset,
            ResetReason::RemoteReset | ResetReason::RemoteRefusedStream => ResponseFlag::UpstreamRemoteReset,
            ResetReason::ProtocolError => ResponseFlag::UpstreamProtocolError,
        }
    }

    /// Whether a circuit breaker is open.
    #[must_use]
    pub fn is_overflow(self) -> bool {
        matches!(self, ResetReason::Overflow | ResetReason::ActiveOverflow)
    }

    /// Whether there was no connection.
    #[must_use]
    pub fn is_connection_failure(self) -> bool {
        matches!(self, ResetReason::RemoteConnectionFailure | ResetReason::ConnectionTimeout)
    }
}
