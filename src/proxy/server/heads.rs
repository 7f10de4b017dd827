//! What a proxy does to the heads that pass it: headers of one hop, who the client is, request ids, added headers.

use std::net::{IpAddr, SocketAddr};

use http::header::{CONNECTION, HeaderName, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, Uri};

use crate::proxy::access_log::Record;
use crate::proxy::bootstrap::model::{AppendAction, HeaderValueOption, HttpConnections};

/// Headers that only proxies may set: from a client they are not believed.
const INTERNAL: [&str; 18] = [
    "x-envoy-internal",
    "x-envoy-retriable-status-codes",
    "x-envoy-retriable-header-names",
    "x-envoy-retry-on",
    "x-envoy-retry-grpc-on",
    "x-envoy-max-retries",
    "x-envoy-upstream-alt-stat-name",
    "x-envoy-upstream-rq-timeout-ms",
    "x-envoy-upstream-rq-per-try-timeout-ms",
    "x-envoy-upstream-rq-timeout-alt-response",
    "x-envoy-expected-rq-timeout-ms",
    "x-envoy-force-trace",
    "x-envoy-ip-tags",
    "x-envoy-original-url",
    "x-envoy-hedge-on-per-try-timeout",
    "x-envoy-upstream-stream-duration-ms",
    "x-envoy-attempt-count",
    "x-envoy-is-timeout-retry",
];

/// Further ones that the first proxy removes.
const INTERNAL_AT_THE_EDGE: [&str; 4] = [
    "x-envoy-decorator-operation",
    "x-envoy-downstream-service-cluster",
    "x-envoy-downstream-service-node",
    "x-envoy-original-path",
];

/// Removes the headers that are about one connection and not about the message.
pub fn remove_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
        // Naming one of these would change the message.
        .filter(|name| !["content-length", "host", "te", "content-type"].contains(&name.as_str()))
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in [CONNECTION, TRANSFER_ENCODING, UPGRADE] {
        headers.remove(name);
    }
    for name in ["keep-alive", "proxy-connection"] {
        headers.remove(name);
    }
    // Trailers are the only transfer coding of a request that HTTP/2 knows.
    let wants_trailers = headers.get_all(TE).iter().any(|value| value.as_bytes().eq_ignore_ascii_case(b"trailers"));
    headers.remove(TE);
    if wants_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

/// Host and port that a request names, from its URI or its `host` header, which is removed.
pub fn take_authority(uri: &Uri, headers: &mut HeaderMap) -> String {
    let host = headers.remove(http::header::HOST);
    let from_header = || host.and_then(|host| host.to_str().ok().map(str::to_owned)).unwrap_or_default();
    uri.authority().map_or_else(from_header, |authority| authority.as_str().to_owned())
}

/// The client's address, and the headers that say who it is, as the connection manager's settings want it.
pub fn forwarded(
    headers: &mut HeaderMap,
    settings: &HttpConnections,
    peer: SocketAddr,
    own_address: IpAddr,
) -> SocketAddr {
    let is_edge = settings.use_remote_address;
    let mut client = peer;
    if is_edge {
        let hops = settings.xff_num_trusted_hops;
        if hops > 0 {
            client = address_in(headers, hops - 1).map_or(peer, |address| SocketAddr::new(address, 0));
        }
        if !settings.skip_xff_append {
            // A peer on this machine is told to others by an address that they can reach.
            let appended = if peer.ip().is_loopback() { own_address } else { peer.ip() };
            append_forwarded_for(headers, appended);
        }
        if hops == 0 || !headers.contains_key("x-forwarded-proto") {
            headers.insert("x-forwarded-proto", HeaderValue::from_static("http"));
        }
        if let Ok(value) = HeaderValue::from_str(&client.ip().to_string()) {
            headers.insert("x-envoy-external-address", value);
        }
        for name in INTERNAL_AT_THE_EDGE {
            headers.remove(name);
        }
    } else {
        if let Some(address) = address_in(headers, settings.xff_num_trusted_hops) {
            client = SocketAddr::new(address, 0);
        }
        if !headers.contains_key("x-forwarded-proto") {
            headers.insert("x-forwarded-proto", HeaderValue::from_static("http"));
        }
    }
    for name in INTERNAL {
        headers.remove(name);
    }
    client
}

/// The address in `x-forwarded-for` that stands that many places before the last.
fn address_in(headers: &HeaderMap, places: u32) -> Option<IpAddr> {
    let all: Vec<&str> = headers
        .get_all("x-forwarded-for")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .collect();
    let index = all.len().checked_sub(1 + places as usize)?;
    all[index].trim().parse().ok()
}

/// Appends an address to `x-forwarded-for`.
pub fn append_forwarded_for(headers: &mut HeaderMap, address: IpAddr) {
    let before: Vec<&str> = headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok()).collect();
    let all = if before.is_empty() { address.to_string() } else { format!("{},{address}", before.join(",")) };
    if let Ok(value) = HeaderValue::from_str(&all) {
        headers.insert("x-forwarded-for", value);
    }
}

/// Gives the request an id, unless it has one that is believed.
pub fn set_request_id(headers: &mut HeaderMap, settings: &HttpConnections, random: u128) {
    let is_believed = !settings.use_remote_address || settings.preserve_external_request_id;
    let has_one = headers.get("x-request-id").is_some_and(|id| !id.is_empty());
    if settings.generate_request_id
        && !(has_one && is_believed)
        && let Ok(value) = HeaderValue::from_str(&uuid(random))
    {
        headers.insert("x-request-id", value);
    }
}

/// A random UUID (version 4).
fn uuid(random: u128) -> String {
    let bits = random & !(0xf << 76) & !(0x3 << 62) | (4 << 76) | (2 << 62);
    let digits = format!("{bits:032x}");
    [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-")
}

/// Adds headers whose values may speak of the request.
pub fn add(headers: &mut HeaderMap, options: &[HeaderValueOption], record: &Record<'_>) {
    for option in options {
        let Ok(value) = HeaderValue::from_bytes(&option.value.render(record)) else { continue };
        if value.is_empty() && !option.keep_empty_value {
            continue;
        }
        let exists = headers.contains_key(&option.name);
        match option.append_action {
            AppendAction::AppendIfExistsOrAdd => {
                headers.append(option.name.clone(), value);
            }
            AppendAction::AddIfAbsent if exists => {}
            AppendAction::OverwriteIfExists if !exists => {}
            AppendAction::AddIfAbsent | AppendAction::OverwriteIfExists | AppendAction::OverwriteIfExistsOrAdd => {
                headers.insert(option.name.clone(), value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let parse = |(name, value): &(&str, &str)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        let mut headers = HeaderMap::new();
        for (name, value) in pairs.iter().map(parse) {
            headers.append(name, value);
        }
        headers
    }

    #[test]
    fn headers_of_one_hop_stay_behind() {
        let mut passed = headers(&[
            ("connection", "keep-alive, x-hop"),
            ("keep-alive", "timeout=5"),
            ("x-hop", "1"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("x-end", "1"),
        ]);
        remove_hop_by_hop(&mut passed);
        assert_eq!(passed, headers(&[("te", "trailers"), ("x-end", "1")]));
        let mut tricky = headers(&[("connection", "content-length"), ("content-length", "5")]);
        remove_hop_by_hop(&mut tricky);
        assert_eq!(tricky, headers(&[("content-length", "5")]));
    }

    #[test]
    fn the_last_address_forwarded_for_is_the_clients() {
        let given = headers(&[("x-forwarded-for", "1.1.1.1, 2.2.2.2"), ("x-forwarded-for", "3.3.3.3")]);
        let address = |places| address_in(&given, places).map(|address| address.to_string());
        assert_eq!(address(0).as_deref(), Some("3.3.3.3"));
        assert_eq!(address(2).as_deref(), Some("1.1.1.1"));
        assert_eq!(address(3), None);
        assert_eq!(address_in(&headers(&[("x-forwarded-for", "nobody")]), 0), None);
    }

    #[test]
    fn an_address_is_appended_without_a_blank() {
        let mut given = headers(&[("x-forwarded-for", "1.1.1.1")]);
        append_forwarded_for(&mut given, [2, 2, 2, 2].into());
        assert_eq!(given["x-forwarded-for"], "1.1.1.1,2.2.2.2");
    }

    #[test]
    fn a_uuid_says_that_it_is_random() {
        assert_eq!(uuid(0), "00000000-0000-4000-8000-000000000000");
        assert_eq!(uuid(u128::MAX), "ffffffff-ffff-4fff-bfff-ffffffffffff");
    }
}
