//! From what files say of their Prometheus to a [`PrometheusServer`]: one address, one way to say who we are.
//!
//! No sentence here quotes a secret, nor an address that may hold one.

use std::path::PathBuf;
use std::time::Duration;

use super::file::{RawBasicAuth, RawPrometheus};
use super::{PrometheusAccess, PrometheusServer, Secret};
use crate::rules::error::{KeyPath, Place, Report, quoted};
use crate::rules::file::{Field, Located, RawFile};

/// Time for one query where the file says nothing.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The server that is named, and whether one is, be it wrongly.
pub(super) fn compile(files: &[RawFile], report: &mut Report) -> (Option<PrometheusServer>, bool) {
    let mut first: Option<(String, Option<PrometheusServer>)> = None;
    let mut is_named = false;
    for file in files {
        let root = KeyPath::file(&file.name);
        let path = root.word("prometheus");
        is_named |= !file.prometheus.is_absent();
        let Some(raw) = file.prometheus.given() else { continue };
        if let Some((place, _)) = &first {
            let text = format!("{place} has a prometheus already; all services ask one, so keep either");
            report.mistake(&path, raw.place, text);
            continue;
        }
        let place = format!("{}:{}", file.name, raw.place.line);
        let server = server(raw, &place, &path, report);
        first = Some((place, server));
    }
    (first.and_then(|(_, server)| server), is_named)
}

fn server(
    raw: &Located<RawPrometheus>,
    place: &str,
    path: &KeyPath<'_>,
    report: &mut Report,
) -> Option<PrometheusServer> {
    let Located { value: raw, place: at } = raw;
    let url = url(&raw.url, *at, path, report);
    let access = access(raw, path, report);
    let ca_file = raw.ca_file.value().map(PathBuf::from);
    if let Some((given, url)) = raw.ca_file.given().zip(url.as_ref())
        && url.starts_with("http://")
    {
        let text = "ca_file means nothing for an http address; write https, or take it out";
        report.mistake(&path.word("ca_file"), given.place, text);
        return None;
    }
    let timeout = raw.timeout.value().copied().unwrap_or(TIMEOUT);
    let (url, access) = (url?, access?);
    if url.starts_with("http://") && access != PrometheusAccess::Open {
        let text = "a token or password over http can be read on the way; write https where the network isn't yours";
        report.warning(path, *at, text);
    }
    (!raw.timeout.is_wrong() && !raw.ca_file.is_wrong()).then(|| PrometheusServer {
        url,
        timeout,
        access,
        ca_file,
        place: place.into(),
    })
}

fn url(field: &Field<String>, place: Place, path: &KeyPath<'_>, report: &mut Report) -> Option<String> {
    const RIGHT: &str =
        "write http:// or https://, a host, and a port or path if need be, as in http://prometheus:9090";
    let given = match field {
        Field::Given(given) => given,
        Field::Absent => {
            report.mistake(path, place, format!("url is missing: {RIGHT}"));
            return None;
        }
        Field::Wrong => return None,
    };
    let url = given.value.trim();
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    let path = path.word("url");
    let authority = rest.map(|rest| rest.split(['/', '?', '#']).next().unwrap_or_default());
    let text = match authority {
        Some(authority) if authority.contains('@') => {
            "an address with user or password in it; take them out and give basic_auth".to_owned()
        }
        Some("") => format!("an address without a host: {RIGHT}"),
        Some(_) if url.contains(['?', '#']) => format!("an address with a query or fragment: {RIGHT}"),
        Some(authority) if !is_authority(authority) || url.contains(|c: char| c.is_whitespace() || c.is_control()) => {
            format!("'{}' is no address: {RIGHT}", quoted(url))
        }
        Some(_) => return Some(url.trim_end_matches('/').to_owned()),
        // It may begin with anything, a password included.
        None => format!("an address that doesn't begin with http:// or https://: {RIGHT}"),
    };
    report.mistake(&path, given.place, text);
    None
}

/// Whether a text is a host with or without a port.
fn is_authority(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => (host, rest.strip_prefix(':').or((rest.is_empty()).then_some("0"))),
        None => text.split_once(':').map_or((text, Some("0")), |(host, port)| (host, Some(port))),
    };
    let is_host = |letter: char| letter.is_alphanumeric() || ['-', '.', '_', ':'].contains(&letter);
    !host.is_empty() && host.chars().all(is_host) && port.is_some_and(|port| port.parse::<u16>().is_ok())
}

/// `None` where there was a mistake.
fn access(raw: &RawPrometheus, path: &KeyPath<'_>, report: &mut Report) -> Option<PrometheusAccess> {
    let token = secret("bearer_token", &raw.bearer_token, &raw.bearer_token_file, path, report)?;
    let basic = match &raw.basic_auth {
        Field::Given(basic) => Some(basic),
        Field::Absent => None,
        Field::Wrong => return None,
    };
    match (token, basic) {
        (Some(_), Some(basic)) => {
            let text = "bearer_token and basic_auth both say who we are; take out either";
            report.mistake(&path.word("basic_auth"), basic.place, text);
            None
        }
        (Some(token), None) => Some(PrometheusAccess::Bearer(token)),
        (None, Some(basic)) => basic_auth(basic, &path.word("basic_auth"), report),
        (None, None) => Some(PrometheusAccess::Open),
    }
}

fn basic_auth(raw: &Located<RawBasicAuth>, path: &KeyPath<'_>, report: &mut Report) -> Option<PrometheusAccess> {
    let Located { value: raw, place } = raw;
    let password = secret("password", &raw.password, &raw.password_file, path, report)?;
    let is_missing = |field: &Field<String>| field.is_absent();
    if is_missing(&raw.user) {
        report.mistake(path, *place, "user is missing: basic_auth needs user, and password or password_file");
    }
    if password.is_none() {
        report.mistake(path, *place, "password is missing: write password_file and a file's path, or password");
    }
    if let Some(user) = raw.user.given().filter(|user| user.value.contains(':')) {
        report.mistake(&path.word("user"), user.place, "a colon ends the user in basic authentication; take it out");
        return None;
    }
    Some(PrometheusAccess::Basic { user: raw.user.value()?.clone(), password: password? })
}

/// A secret by value or file: `Some(None)` where there is none, `None` where there was a mistake.
fn secret(
    word: &str,
    value: &Field<String>,
    file: &Field<String>,
    path: &KeyPath<'_>,
    report: &mut Report,
) -> Option<Option<Secret>> {
    match (value, file) {
        (Field::Wrong, _) | (_, Field::Wrong) => None,
        (Field::Given(_), Field::Given(file)) => {
            let text = format!("{word} is given by value and by file; take out either");
            report.mistake(&path.word(&format!("{word}_file")), file.place, text);
            None
        }
        (Field::Given(value), Field::Absent) if !value.value.bytes().all(|byte| (b' '..=b'~').contains(&byte)) => {
            let text = "it has letters that no header can carry; is it the right one?";
            report.mistake(&path.word(word), value.place, text);
            None
        }
        (Field::Given(value), Field::Absent) => Some(Some(Secret::Value(value.value.clone()))),
        (Field::Absent, Field::Given(file)) => Some(Some(Secret::File(PathBuf::from(&file.value)))),
        (Field::Absent, Field::Absent) => Some(None),
    }
}
