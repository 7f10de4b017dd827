//! The settings of rules that come by xDS: where the server is, who we are there, and how it is spoken to.

use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderName, HeaderValue};

use super::identity::identity;
use super::meaning::Reader;
use super::text::{self, Parsed};
use crate::tls::{NameCheck, Tls};
use crate::xds::{CallHeaders, Pauses, XdsAddress, XdsServer};

/// Where rules come from.
#[derive(Clone, Debug, PartialEq)]
pub enum RuleSource {
    /// Files that are looked at again and again.
    Files,
    /// A server that tells them.
    Xds(Box<XdsSettings>),
}

/// Rules by xDS.
#[derive(Clone, Debug, PartialEq)]
pub struct XdsSettings {
    /// Who tells them.
    pub server: XdsServer,
    /// Whether to serve before it has.
    pub start_without_rules: bool,
}

/// The port of a gRPC target that names none.
const PORT: u16 = 443;

/// Longest name by which a server keeps rules, in bytes.
const NODE_ID_BYTES_MAX: usize = 255;

/// Longest list of metadata or headers, in bytes.
const LIST_BYTES_MAX: usize = 8 << 10;

const WAIT: std::ops::RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(3_600);

/// What the reference service's names for xDS begin with.
const REFERENCE_NAMES: [&str; 3] = ["CONFIG_GRPC_XDS_", "XDS_CLIENT_", "FORCE_START_WITHOUT_INITIAL_CONFIG"];

/// Reads where rules come from. The keys of xDS are checked in any case, but what is wrong in the reference's names for them
/// stops no start that needs none: environments keep such variables when rules are taken from files again.
pub(super) fn source(read: &mut Reader<'_>) -> RuleSource {
    let mistakes = read.mistakes();
    // Both vocabularies, so that a wrong word is told what is right in either.
    let words = [("files", false), ("xds", true), ("FILE", false), ("GRPC_XDS_SOTW", true)];
    let is_xds = read.choice("rules.source", &words);
    // A wrong word may have meant either.
    let is_files = !is_xds && read.mistakes() == mistakes;
    let start_without_rules = read.switch("rules.xds.start_without_rules");
    let server = XdsServer {
        address: read.parsed("rules.xds.server", address),
        tls: tls(read, !is_files),
        node_id: read.parsed("rules.xds.node_id", node_id),
        node_metadata: read.parsed("rules.xds.node_metadata", metadata),
        headers: read.parsed("rules.xds.headers", headers),
        message_bytes_max: read.size("rules.xds.message_bytes_max", 64 << 10..=1 << 30),
        connect_timeout: read
            .duration("rules.xds.connect_timeout", Duration::from_millis(10)..=Duration::from_secs(60)),
        keepalive_interval: read.duration_or_never("rules.xds.keepalive_interval", Duration::from_secs(86_400)),
        keepalive_timeout: read
            .duration("rules.xds.keepalive_timeout", Duration::from_millis(100)..=Duration::from_secs(600)),
        pauses: Pauses {
            initial: read.duration("rules.xds.backoff.initial", WAIT),
            max: read.duration("rules.xds.backoff.max", WAIT),
            factor: read.parsed("rules.xds.backoff.factor", factor),
            jitter: read.switch("rules.xds.backoff.jitter"),
        },
    };
    if is_files {
        let is_reference = |place: &str| REFERENCE_NAMES.iter().any(|name| place.starts_with(name));
        for mistake in read.forgive(mistakes, is_reference) {
            read.note(format!("{mistake}; it is left alone, because rules come from files"));
        }
    }
    let paths = read.place("rules.paths");
    if is_xds && Some(paths.as_str()) != read.default_place("rules.paths") {
        read.note(format!("{paths} is set, but rules come by xDS (rules.source): these files are not read"));
    }
    if is_xds { RuleSource::Xds(Box::new(XdsSettings { server, start_without_rules })) } else { RuleSource::Files }
}

/// How TLS is spoken, if it is. Files that are named while it is off, or while nobody is `asked`, are left alone, as in the
/// reference service.
fn tls(read: &mut Reader<'_>, asked: bool) -> Option<Tls> {
    let is_enabled = read.switch("rules.xds.tls.enabled");
    let ca_file = read.optional("rules.xds.tls.ca_file").map(PathBuf::from);
    let server_name = read.optional("rules.xds.tls.server_name");
    let identity = identity(read, "rules.xds.tls", is_enabled && asked);
    is_enabled.then_some(Tls { ca_file, identity, server_name, name_check: NameCheck::Checked })
}

/// A gRPC target: `host:port`, `host`, or either after `dns:///` or `passthrough:///`.
fn address(text: &str) -> Parsed<XdsAddress> {
    let right = || "a host and a port such as envoy-gateway:18001".to_owned();
    let bare = |scheme: &str| text.strip_prefix(scheme);
    let target = bare("dns:///").or_else(|| bare("passthrough:///")).or_else(|| bare("dns:")).unwrap_or(text);
    let (host, port) = match target.rsplit_once(':') {
        // What is left of an IPv6 address in brackets has no port behind it.
        Some((_, last)) if last.ends_with(']') => (target, PORT),
        Some((host, port)) => (host, text::whole(port, &(1..=u16::MAX)).map_err(|_| right())?),
        None => (target, PORT),
    };
    if host.contains(':') && !host.starts_with('[') {
        return Err(right());
    }
    let host = text::host(host).map_err(|_| right())?;
    Ok(XdsAddress { host, port })
}

fn node_id(text: &str) -> Parsed<String> {
    let is_right = (1..=NODE_ID_BYTES_MAX).contains(&text.len()) && !text.contains(char::is_control);
    if is_right { Ok(text.to_owned()) } else { Err(format!("a name of 1 to {NODE_ID_BYTES_MAX} bytes")) }
}

/// `name=value,name=value`; parts without `=` don't count, as in the reference service.
fn metadata(text: &str) -> Parsed<Vec<(String, String)>> {
    if text.len() > LIST_BYTES_MAX {
        return Err(format!("at most {LIST_BYTES_MAX} bytes of name=value,name=value"));
    }
    let pairs = text.split(',').filter_map(|part| part.split_once('='));
    Ok(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

/// `name:value,name:value`. Binary ones and those that belong to gRPC itself are no headers of a caller.
fn headers(text: &str) -> Parsed<CallHeaders> {
    let right = || {
        format!(
            "headers such as authorization:token,x-team:edge, at most {LIST_BYTES_MAX} bytes; none that begins with \
             grpc-, ends in -bin, or is te or content-type"
        )
    };
    if text.is_empty() {
        return Ok(CallHeaders::default());
    }
    let header = |part: &str| {
        let (name, value) = part.split_once(':')?;
        let name: HeaderName = name.trim().parse().ok()?;
        let value: HeaderValue = value.trim().parse().ok()?;
        let is_own = name.as_str().starts_with("grpc-") || ["te", "content-type"].contains(&name.as_str());
        (!is_own && !name.as_str().ends_with("-bin")).then_some((name, value))
    };
    let headers: Option<Vec<_>> = text.split(',').map(header).collect();
    headers.filter(|_| text.len() <= LIST_BYTES_MAX).map(CallHeaders::new).ok_or_else(right)
}

fn factor(text: &str) -> Parsed<f64> {
    // NaN lies in no range.
    let factor = text.parse::<f64>().ok().filter(|factor| (0.0..=1_000.0).contains(factor));
    factor.ok_or_else(|| "a number from 0 to 1000".to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::Settings;
    use super::*;

    #[test]
    fn a_target_is_a_host_with_or_without_a_port() {
        for (text, expected) in [
            ("envoy-gateway:18001", "envoy-gateway:18001"),
            ("dns:///xds.ns.svc:1", "xds.ns.svc:1"),
            ("passthrough:///xds.ns.svc:1", "xds.ns.svc:1"),
            ("[fe80::1%eth0]:18000", "[fe80::1%eth0]:18000"),
            ("[::1]:18000", "[::1]:18000"),
            ("[::1]", "[::1]:443"),
            ("xds", "xds:443"),
        ] {
            assert_eq!(address(text).map(|address| address.to_string()).as_deref(), Ok(expected));
        }
        for wrong in ["", ":1", "xds:", "xds:0", "xds:65536", "::1:1", "http://xds:1", "unix:/run/x", "a b:1"] {
            assert!(address(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn headers_are_pairs_and_are_never_shown() {
        let read = headers("authorization: secret-token, x-team:edge").unwrap();
        assert_eq!(format!("{read:?}"), r#"{"authorization", "x-team"}"#);
        for wrong in ["token", "a b:c", "grpc-timeout:1", "x-bin:1", "te:x", "a:b,", "a:\u{7f}"] {
            assert!(headers(wrong).is_err(), "{wrong}");
        }
        let set = [("CONFIG_TYPE", "GRPC_XDS_SOTW"), ("CONFIG_GRPC_XDS_CLIENT_ADDITIONAL_HEADERS", "secret")];
        let errors = Settings::load(None, set).unwrap_err();
        assert!(!errors.to_string().contains("\"secret\""), "{errors}");
        let (_, notes) = Settings::load(None, [set[1]]).unwrap();
        assert!(notes.len() == 1 && !notes[0].to_string().contains("\"secret\""), "{notes:?}");
    }

    #[test]
    fn metadata_without_a_value_does_not_count() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(metadata("a=b,c,d=e=f,"), Ok(vec![pair("a", "b"), pair("d", "e=f")]));
        assert_eq!(metadata(""), Ok(vec![]));
    }

    #[test]
    fn envoy_gateways_variables_mean_its_server_over_tls() {
        let (settings, notes) = Settings::load(
            None,
            [
                ("CONFIG_TYPE", "GRPC_XDS_SOTW"),
                ("CONFIG_GRPC_XDS_SERVER_URL", "envoy-gateway:18001"),
                ("CONFIG_GRPC_XDS_NODE_ID", "envoy-ratelimit"),
                ("CONFIG_GRPC_XDS_SERVER_USE_TLS", "true"),
                ("CONFIG_GRPC_XDS_CLIENT_TLS_CERT", "/certs/tls.crt"),
                ("CONFIG_GRPC_XDS_CLIENT_TLS_KEY", "/certs/tls.key"),
                ("CONFIG_GRPC_XDS_SERVER_TLS_CACERT", "/certs/ca.crt"),
                ("FORCE_START_WITHOUT_INITIAL_CONFIG", "true"),
            ],
        )
        .unwrap();
        assert!(notes.is_empty(), "{notes:?}");
        let RuleSource::Xds(xds) = settings.rules.source else { panic!("rules come by xDS") };
        let XdsSettings { server, start_without_rules: true } = *xds else { panic!("it starts without rules") };
        assert_eq!(
            (server.address.to_string().as_str(), server.node_id.as_str()),
            ("envoy-gateway:18001", "envoy-ratelimit")
        );
        let tls = server.tls.unwrap();
        assert_eq!(tls.ca_file.unwrap().to_str(), Some("/certs/ca.crt"));
        assert_eq!(tls.identity.unwrap().key_file.to_str(), Some("/certs/tls.key"));
        assert_eq!((tls.server_name, tls.name_check), (None, NameCheck::Checked));
    }

    #[test]
    fn a_message_size_that_means_no_limit_means_our_largest() {
        for (text, bytes) in [("2147483647", 1 << 30), ("0x400000", 4 << 20), ("1", 64 << 10)] {
            let set = [("CONFIG_TYPE", "GRPC_XDS_SOTW"), ("XDS_CLIENT_MAX_MSG_SIZE_IN_BYTES", text)];
            let (settings, _) = Settings::load(None, set).unwrap();
            let RuleSource::Xds(xds) = settings.rules.source else { panic!("rules come by xDS") };
            assert_eq!(xds.server.message_bytes_max, bytes, "{text}");
        }
    }

    #[test]
    fn every_wrong_value_is_told_at_once() {
        let wrong = [
            ("CONFIG_TYPE", "DELTA"),
            ("CONFIG_GRPC_XDS_SERVER_URL", "http://x"),
            ("CONFIG_GRPC_XDS_CLIENT_ADDITIONAL_HEADERS", "x"),
            ("FORCE_START_WITHOUT_INITIAL_CONFIG", "yes"),
            ("CONFIG_GRPC_XDS_SERVER_USE_TLS", "yes"),
            ("XDS_CLIENT_MAX_MSG_SIZE_IN_BYTES", "-1"),
            ("XDS_CLIENT_BACKOFF_INITIAL_INTERVAL", "10"),
            ("XDS_CLIENT_BACKOFF_MAX_INTERVAL", "2h"),
            ("XDS_CLIENT_BACKOFF_RANDOM_FACTOR", "x"),
            ("XDS_CLIENT_BACKOFF_JITTER", "maybe"),
            ("HEALTHY_WITH_AT_LEAST_ONE_CONFIG_LOADED", "maybe"),
        ];
        let errors = Settings::load(None, wrong).unwrap_err();
        assert_eq!(errors.iter().count(), wrong.len(), "{errors}");
        for (name, _) in wrong {
            assert!(errors.to_string().contains(&format!("{name} is ")), "{name} in {errors}");
        }
        let lone = [
            ("CONFIG_TYPE", "GRPC_XDS_SOTW"),
            ("CONFIG_GRPC_XDS_SERVER_USE_TLS", "true"),
            ("CONFIG_GRPC_XDS_CLIENT_TLS_KEY", "/k"),
        ];
        let errors = Settings::load(None, lone).unwrap_err().to_string();
        assert_eq!(
            errors,
            "CONFIG_GRPC_XDS_CLIENT_TLS_KEY is set, but rules.xds.tls.certificate_file is empty; set both"
        );
    }
    #[test]
    fn what_is_wrong_in_the_references_names_is_only_noted_where_rules_come_from_files() {
        let wrong = [
            ("CONFIG_GRPC_XDS_SERVER_URL", "http://x"),
            ("CONFIG_GRPC_XDS_NODE_ID", "a\nb"),
            ("FORCE_START_WITHOUT_INITIAL_CONFIG", "yes"),
            ("CONFIG_GRPC_XDS_SERVER_USE_TLS", "yes"),
            ("XDS_CLIENT_MAX_MSG_SIZE_IN_BYTES", "-1"),
            ("XDS_CLIENT_BACKOFF_MAX_INTERVAL", "2h"),
        ];
        for source in [None, Some(("CONFIG_TYPE", "FILE"))] {
            let (settings, notes) = Settings::load(None, wrong.into_iter().chain(source)).unwrap();
            assert_eq!((settings.rules.source, notes.len()), (RuleSource::Files, wrong.len()), "{notes:?}");
            for (name, _) in wrong {
                let is_told = |note: &&str| note.starts_with(&format!("{name} is ")) && note.contains("left alone");
                assert!(notes.iter().any(|note| is_told(&note.to_string().as_str())), "{name} in {notes:?}");
            }
        }
        let pair = [("CONFIG_GRPC_XDS_SERVER_USE_TLS", "true"), ("CONFIG_GRPC_XDS_CLIENT_TLS_KEY", "/k")];
        assert!(Settings::load(None, pair).is_ok(), "half a pair that nobody shows");
        let own = Settings::load(None, [("TIDEGATE_RULES_XDS_SERVER", "http://x")]).unwrap_err().to_string();
        assert!(own.starts_with("TIDEGATE_RULES_XDS_SERVER is "), "{own}");
    }

    #[test]
    fn files_that_are_named_beside_xds_are_noted() {
        let xds = ("CONFIG_TYPE", "GRPC_XDS_SOTW");
        let notes = |file: &str, variables: &[(&str, &str)]| {
            let (_, notes) = Settings::load(Some(("s.yaml", file)), variables.iter().copied()).unwrap();
            notes.iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert_eq!(notes("", &[xds]), [""; 0]);
        assert_eq!(notes("rules: {paths: [a]}", &[]), [""; 0]);
        let told = "s.yaml:1: rules.paths is set, but rules come by xDS (rules.source): these files are not read";
        assert_eq!(notes("rules: {paths: [a]}", &[xds]), [told]);
        let told = "RUNTIME_ROOT is set, but rules come by xDS (rules.source): these files are not read";
        assert_eq!(notes("", &[xds, ("RUNTIME_ROOT", "/data")]), [told]);
    }
}
