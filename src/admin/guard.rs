//! Keeps browsers from being made to speak for their user.
//!
//! Whoever can open a connection may act here; on loopback these are the people on this machine, and every web page that
//! they look at. A page of somebody else's can make a browser post to loopback, or call its own name by our address
//! (DNS rebinding) and read the answer. So a request must name an address, `localhost` or the listener's own host, which
//! no such page can; and one that changes something must come from no page at all and be JSON, which a page can't send
//! to a stranger without asking first.

use std::sync::Arc;

use axum::extract::Request;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;

use super::refuse;
use crate::web::host::is_ours;

pub(super) async fn guard(host: Arc<str>, request: Request, next: Next) -> Response {
    match refusal(&host, request.method(), request.headers()) {
        Some((status, sentence)) => refuse(status, [sentence]),
        None => next.run(request).await,
    }
}

/// Why a request is not let in.
fn refusal(own_host: &str, method: &Method, headers: &HeaderMap) -> Option<(StatusCode, &'static str)> {
    let text = |name: header::HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    if !text(header::HOST).is_some_and(|named| is_ours(own_host, named)) {
        return Some((
            StatusCode::MISDIRECTED_REQUEST,
            "the Host header must name an address, localhost, or the host of the setting admin.host",
        ));
    }
    if [Method::GET, Method::HEAD].contains(method) {
        return None;
    }
    if headers.contains_key(header::ORIGIN) || headers.contains_key("sec-fetch-site") {
        return Some((StatusCode::FORBIDDEN, "nothing is changed for web pages; use `tidegate adaptive`, or curl"));
    }
    let content_type = text(header::CONTENT_TYPE).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    if !essence.eq_ignore_ascii_case("application/json") {
        return Some((StatusCode::UNSUPPORTED_MEDIA_TYPE, "the content-type must be application/json"));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(method: &Method, headers: &[(&'static str, &'static str)]) -> Option<u16> {
        let headers = headers
            .iter()
            .map(|(name, value)| (header::HeaderName::from_static(name), header::HeaderValue::from_static(value)));
        refusal("tidegate.internal", method, &headers.collect()).map(|(status, _)| status.as_u16())
    }

    #[test]
    fn only_who_names_us_by_address_or_our_own_name_is_let_in() {
        for host in ["127.0.0.1:6071", "[::1]:6071", "localhost", "LOCALHOST:1", "10.0.0.7", "tidegate.internal:6071"] {
            assert_eq!(status(&Method::GET, &[("host", host)]), None, "{host}");
        }
        for host in
            ["evil.example", "evil.example:6071", "127.0.0.1.evil.example", "[::1", "", "localhost.evil.example"]
        {
            assert_eq!(status(&Method::GET, &[("host", host)]), Some(421), "{host}");
        }
        assert_eq!(status(&Method::GET, &[]), Some(421));
    }

    #[test]
    fn a_page_can_change_nothing() {
        let (host, json) = (("host", "127.0.0.1"), ("content-type", "application/json; charset=utf-8"));
        assert_eq!(status(&Method::POST, &[host, json]), None);
        assert_eq!(status(&Method::POST, &[host, json, ("origin", "http://127.0.0.1:6071")]), Some(403));
        assert_eq!(status(&Method::POST, &[host, json, ("origin", "null")]), Some(403));
        assert_eq!(status(&Method::POST, &[host, json, ("sec-fetch-site", "none")]), Some(403));
        assert_eq!(status(&Method::POST, &[host]), Some(415));
        for form in ["text/plain", "application/x-www-form-urlencoded", "text/plain; application/json"] {
            assert_eq!(status(&Method::POST, &[host, ("content-type", form)]), Some(415), "{form}");
        }
        assert_eq!(status(&Method::GET, &[host, ("origin", "http://127.0.0.1:6071")]), None, "reading is");
    }
}
