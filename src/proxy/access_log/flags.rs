//! Response flags: why an answer is what it is, in a few letters.

use std::fmt;

use smallvec::SmallVec;

/// One reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ResponseFlag {
    /// `LH`: failed local health check.
    FailedLocalHealthCheck,
    /// `UH`: no healthy upstream.
    NoHealthyUpstream,
    /// `UT`: upstream request timeout.
    UpstreamRequestTimeout,
    /// `LR`: the connection to the upstream was reset by us.
    LocalReset,
    /// `UR`: the upstream reset the stream.
    UpstreamRemoteReset,
    /// `UF`: no connection to the upstream.
    UpstreamConnectionFailure,
    /// `UC`: the upstream ended its connection.
    UpstreamConnectionTermination,
    /// `UO`: a circuit breaker overflowed.
    UpstreamOverflow,
    /// `NR`: no route.
    NoRouteFound,
    /// `DI`: delayed on purpose.
    DelayInjected,
    /// `FI`: aborted on purpose.
    FaultInjected,
    /// `RL`: rate limited.
    RateLimited,
    /// `RLSE`: the rate limit service failed.
    RateLimitServiceError,
    /// `DC`: the client ended its connection.
    DownstreamConnectionTermination,
    /// `URX`: no more tries.
    UpstreamRetryLimitExceeded,
    /// `SI`: the stream was idle for too long.
    StreamIdleTimeout,
    /// `DPE`: what the client sent was not HTTP.
    DownstreamProtocolError,
    /// `DT`: a stream or connection lasted too long.
    DurationTimeout,
    /// `UPE`: what the upstream sent was not HTTP.
    UpstreamProtocolError,
    /// `NC`: no such cluster.
    NoClusterFound,
    /// `OM`: refused under overload.
    OverloadManager,
    /// `DF`: a name could not be resolved.
    DnsResolutionFailed,
    /// `DR`: the client reset the stream.
    DownstreamRemoteReset,
}

/// The reasons of one answer, in the order in which they were set, as Envoy prints them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResponseFlags {
    set: SmallVec<[ResponseFlag; 4]>,
}

// === impl ResponseFlag ===

impl ResponseFlag {
    /// Every flag, in the order of Envoy's enumeration.
    pub const ALL: [ResponseFlag; 23] = [
        ResponseFlag::FailedLocalHealthCheck,
        ResponseFlag::NoHealthyUpstream,
        ResponseFlag::UpstreamRequestTimeout,
        ResponseFlag::LocalReset,
        ResponseFlag::UpstreamRemoteReset,
        ResponseFlag::UpstreamConnectionFailure,
        ResponseFlag::UpstreamConnectionTermination,
        ResponseFlag::UpstreamOverflow,
        ResponseFlag::NoRouteFound,
        ResponseFlag::DelayInjected,
        ResponseFlag::FaultInjected,
        ResponseFlag::RateLimited,
        ResponseFlag::RateLimitServiceError,
        ResponseFlag::DownstreamConnectionTermination,
        ResponseFlag::UpstreamRetryLimitExceeded,
        ResponseFlag::StreamIdleTimeout,
        ResponseFlag::DownstreamProtocolError,
        ResponseFlag::DurationTimeout,
        ResponseFlag::UpstreamProtocolError,
        ResponseFlag::NoClusterFound,
        ResponseFlag::OverloadManager,
        ResponseFlag::DnsResolutionFailed,
        ResponseFlag::DownstreamRemoteReset,
    ];

    /// Short and long name.
    #[must_use]
    pub fn names(self) -> (&'static str, &'static str) {
        match self {
            ResponseFlag::FailedLocalHealthCheck => ("LH", "FailedLocalHealthCheck"),
            ResponseFlag::NoHealthyUpstream => ("UH", "NoHealthyUpstream"),
            ResponseFlag::UpstreamRequestTimeout => ("UT", "UpstreamRequestTimeout"),
            ResponseFlag::LocalReset => ("LR", "LocalReset"),
            ResponseFlag::UpstreamRemoteReset => ("UR", "UpstreamRemoteReset"),
            ResponseFlag::UpstreamConnectionFailure => ("UF", "UpstreamConnectionFailure"),
            ResponseFlag::UpstreamConnectionTermination => ("UC", "UpstreamConnectionTermination"),
            ResponseFlag::UpstreamOverflow => ("UO", "UpstreamOverflow"),
            ResponseFlag::NoRouteFound => ("NR", "NoRouteFound"),
            ResponseFlag::DelayInjected => ("DI", "DelayInjected"),
            ResponseFlag::FaultInjected => ("FI", "FaultInjected"),
            ResponseFlag::RateLimited => ("RL", "RateLimited"),
            ResponseFlag::RateLimitServiceError => ("RLSE", "RateLimitServiceError"),
            ResponseFlag::DownstreamConnectionTermination => ("DC", "DownstreamConnectionTermination"),
            ResponseFlag::UpstreamRetryLimitExceeded => ("URX", "UpstreamRetryLimitExceeded"),
            ResponseFlag::StreamIdleTimeout => ("SI", "StreamIdleTimeout"),
            ResponseFlag::DownstreamProtocolError => ("DPE", "DownstreamProtocolError"),
            ResponseFlag::DurationTimeout => ("DT", "DurationTimeout"),
            ResponseFlag::UpstreamProtocolError => ("UPE", "UpstreamProtocolError"),
            ResponseFlag::NoClusterFound => ("NC", "NoClusterFound"),
            ResponseFlag::OverloadManager => ("OM", "OverloadManagerTerminated"),
            ResponseFlag::DnsResolutionFailed => ("DF", "DnsResolutionFailed"),
            ResponseFlag::DownstreamRemoteReset => ("DR", "DownstreamRemoteReset"),
        }
    }
}

// === impl ResponseFlags ===

impl ResponseFlags {
    /// Adds a reason, behind those that are there; once.
    pub fn set(&mut self, flag: ResponseFlag) {
        if !self.has(flag) {
            self.set.push(flag);
        }
    }

    /// Whether the reason was set.
    #[must_use]
    pub fn has(&self, flag: ResponseFlag) -> bool {
        self.set.contains(&flag)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.set.is_empty()
    }

    /// The reasons, in the order in which they were set.
    pub fn iter(&self) -> impl Iterator<Item = ResponseFlag> {
        self.set.iter().copied()
    }
}

/// The short names with commas between; empty if there is none.
impl fmt::Display for ResponseFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, flag) in self.iter().enumerate() {
            write!(f, "{}{}", if index == 0 { "" } else { "," }, flag.names().0)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_printed_once_and_in_the_order_in_which_they_were_set() {
        let mut flags = ResponseFlags::default();
        assert_eq!(flags.to_string(), "");
        for flag in [
            ResponseFlag::UpstreamRetryLimitExceeded,
            ResponseFlag::UpstreamConnectionFailure,
            ResponseFlag::UpstreamRetryLimitExceeded,
        ] {
            flags.set(flag);
        }
        assert_eq!(flags.to_string(), "URX,UF");
        assert!(flags.has(ResponseFlag::UpstreamConnectionFailure) && !flags.has(ResponseFlag::RateLimited));
    }

    #[test]
    fn no_two_flags_have_a_name_in_common() {
        let mut names: Vec<&str> = ResponseFlag::ALL.iter().flat_map(|flag| [flag.names().0, flag.names().1]).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
