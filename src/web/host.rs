//! Whether a request's `Host` names this listener, or is one that a stranger's web page chose.
//!
//! A page can call its own name by our address (DNS rebinding) and so read, through the browser of somebody on this
//! machine, what only this machine should see. It can't make that browser name an address, `localhost` or the
//! listener's own host.

use std::net::IpAddr;

/// Whether `named`, the value of a `Host` header, can't have been chosen by a page of somebody else's. `own_host` is
/// the host that the listener is set to.
pub(crate) fn is_ours(own_host: &str, named: &str) -> bool {
    let host = match named.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or("", |(host, _)| host),
        None => named.split_once(':').map_or(named, |(host, _)| host),
    };
    host.parse::<IpAddr>().is_ok() || host.eq_ignore_ascii_case("localhost") || host.eq_ignore_ascii_case(own_host)
}
