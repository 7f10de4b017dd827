//! Command operators that take no argument.

/// What such an operator prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    /// `RESPONSE_CODE`; 0 if there was no answer.
    ResponseCode,
    /// `RESPONSE_CODE_DETAILS`; blanks become underscores.
    ResponseCodeDetails,
    /// `CONNECTION_TERMINATION_DETAILS`
    ConnectionTerminationDetails,
    /// `RESPONSE_FLAGS`
    ResponseFlags,
    /// `RESPONSE_FLAGS_LONG`
    ResponseFlagsLong,
    /// `PROTOCOL`
    Protocol,
    /// `BYTES_RECEIVED`
    BytesReceived,
    /// `BYTES_SENT`
    BytesSent,
    /// `DURATION`, in milliseconds as all others.
    Duration,
    /// `REQUEST_DURATION`
    RequestDuration,
    /// `REQUEST_TX_DURATION`
    RequestTxDuration,
    /// `RESPONSE_DURATION`
    ResponseDuration,
    /// `RESPONSE_TX_DURATION`
    ResponseTxDuration,
    /// `UPSTREAM_HOST`
    UpstreamHost,
    /// `UPSTREAM_REMOTE_ADDRESS`
    UpstreamRemoteAddress,
    /// `UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT`
    UpstreamRemoteAddressWithoutPort,
    /// `UPSTREAM_REMOTE_PORT`
    UpstreamRemotePort,
    /// `UPSTREAM_LOCAL_ADDRESS`
    UpstreamLocalAddress,
    /// `UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT`
    UpstreamLocalAddressWithoutPort,
    /// `UPSTREAM_LOCAL_PORT`
    UpstreamLocalPort,
    /// `UPSTREAM_CLUSTER`
    UpstreamCluster,
    /// `UPSTREAM_TRANSPORT_FAILURE_REASON`; blanks become underscores.
    UpstreamTransportFailureReason,
    /// `UPSTREAM_REQUEST_ATTEMPT_COUNT`
    UpstreamRequestAttemptCount,
    /// `DOWNSTREAM_REMOTE_ADDRESS`
    DownstreamRemoteAddress,
    /// `DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT`
    DownstreamRemoteAddressWithoutPort,
    /// `DOWNSTREAM_REMOTE_PORT`
    DownstreamRemotePort,
    /// `DOWNSTREAM_DIRECT_REMOTE_ADDRESS`
    DownstreamDirectRemoteAddress,
    /// `DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT`
    DownstreamDirectRemoteAddressWithoutPort,
    /// `DOWNSTREAM_DIRECT_REMOTE_PORT`
    DownstreamDirectRemotePort,
    /// `DOWNSTREAM_LOCAL_ADDRESS`
    DownstreamLocalAddress,
    /// `DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT`
    DownstreamLocalAddressWithoutPort,
    /// `DOWNSTREAM_LOCAL_PORT`
    DownstreamLocalPort,
    /// `ROUTE_NAME`
    RouteName,
    /// `VIRTUAL_CLUSTER_NAME`, which nothing here has.
    VirtualClusterName,
    /// `REQUESTED_SERVER_NAME`: of TLS, which is not spoken here.
    RequestedServerName,
    /// `CONNECTION_ID`
    ConnectionId,
    /// `STREAM_ID`
    StreamId,
}

// === impl Field ===

impl Field {
    /// Every field.
    pub const ALL: [(&'static str, Field); 37] = [
        ("RESPONSE_CODE", Field::ResponseCode),
        ("RESPONSE_CODE_DETAILS", Field::ResponseCodeDetails),
        ("CONNECTION_TERMINATION_DETAILS", Field::ConnectionTerminationDetails),
        ("RESPONSE_FLAGS", Field::ResponseFlags),
        ("RESPONSE_FLAGS_LONG", Field::ResponseFlagsLong),
        ("PROTOCOL", Field::Protocol),
        ("BYTES_RECEIVED", Field::BytesReceived),
        ("BYTES_SENT", Field::BytesSent),
        ("DURATION", Field::Duration),
        ("REQUEST_DURATION", Field::RequestDuration),
        ("REQUEST_TX_DURATION", Field::RequestTxDuration),
        ("RESPONSE_DURATION", Field::ResponseDuration),
        ("RESPONSE_TX_DURATION", Field::ResponseTxDuration),
        ("UPSTREAM_HOST", Field::UpstreamHost),
        ("UPSTREAM_REMOTE_ADDRESS", Field::UpstreamRemoteAddress),
        ("UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", Field::UpstreamRemoteAddressWithoutPort),
        ("UPSTREAM_REMOTE_PORT", Field::UpstreamRemotePort),
        ("UPSTREAM_LOCAL_ADDRESS", Field::UpstreamLocalAddress),
        ("UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", Field::UpstreamLocalAddressWithoutPort),
        ("UPSTREAM_LOCAL_PORT", Field::UpstreamLocalPort),
        ("UPSTREAM_CLUSTER", Field::UpstreamCluster),
        ("UPSTREAM_TRANSPORT_FAILURE_REASON", Field::UpstreamTransportFailureReason),
        ("UPSTREAM_REQUEST_ATTEMPT_COUNT", Field::UpstreamRequestAttemptCount),
        ("DOWNSTREAM_REMOTE_ADDRESS", Field::DownstreamRemoteAddress),
        ("DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", Field::DownstreamRemoteAddressWithoutPort),
        ("DOWNSTREAM_REMOTE_PORT", Field::DownstreamRemotePort),
        ("DOWNSTREAM_DIRECT_REMOTE_ADDRESS", Field::DownstreamDirectRemoteAddress),
        ("DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT", Field::DownstreamDirectRemoteAddressWithoutPort),
        ("DOWNSTREAM_DIRECT_REMOTE_PORT", Field::DownstreamDirectRemotePort),
        ("DOWNSTREAM_LOCAL_ADDRESS", Field::DownstreamLocalAddress),
        ("DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", Field::DownstreamLocalAddressWithoutPort),
        ("DOWNSTREAM_LOCAL_PORT", Field::DownstreamLocalPort),
        ("ROUTE_NAME", Field::RouteName),
        ("VIRTUAL_CLUSTER_NAME", Field::VirtualClusterName),
        ("REQUESTED_SERVER_NAME", Field::RequestedServerName),
        ("CONNECTION_ID", Field::ConnectionId),
        ("STREAM_ID", Field::StreamId),
    ];

    /// The field of that operator.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Field> {
        Field::ALL.iter().find(|(known, _)| *known == name).map(|(_, field)| *field)
    }
}
