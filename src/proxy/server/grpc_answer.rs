//! What an answer says of its host where the request was gRPC: its HTTP status is always 200, and a host that fails says
//! so in `grpc-status`.

use http::HeaderMap;

/// The status by which outlier detection judges an answer, from its head alone, as Envoy does: what a stream's trailers
/// say comes too late.
#[must_use]
pub(super) fn judged_status(status: u16, headers: &HeaderMap, is_grpc: bool) -> u16 {
    match headers.get("grpc-status") {
        Some(said) if is_grpc && !said.is_empty() => http_status(said.as_bytes()),
        _ => status,
    }
}

/// What a status of gRPC means in HTTP; one that is none is the host's mistake.
fn http_status(said: &[u8]) -> u16 {
    let number = std::str::from_utf8(said).ok().and_then(|said| said.trim().parse::<u64>().ok());
    match number {
        Some(0) => 200,
        Some(1) => 499,
        Some(3 | 9 | 11) => 400,
        Some(4) => 504,
        Some(5) => 404,
        Some(6 | 10) => 409,
        Some(7) => 403,
        Some(8) => 429,
        Some(12) => 501,
        Some(14) => 503,
        Some(16) => 401,
        _ => 500,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(said: &'static str, is_grpc: bool) -> u16 {
        let headers = HeaderMap::from_iter([(
            http::HeaderName::from_static("grpc-status"),
            http::HeaderValue::from_static(said),
        )]);
        judged_status(200, &headers, is_grpc)
    }

    #[test]
    fn only_a_grpc_requests_answer_is_judged_by_its_grpc_status() {
        assert_eq!(judged("14", true), 503);
        assert_eq!(judged("14", false), 200);
        assert_eq!(judged("", true), 200);
        assert_eq!(judged("0", true), 200);
        assert_eq!(judged_status(502, &HeaderMap::new(), true), 502);
        for nonsense in ["x", "-1", "17", "99999999999999999999"] {
            assert_eq!(judged(nonsense, true), 500, "{nonsense:?}");
        }
    }
}
