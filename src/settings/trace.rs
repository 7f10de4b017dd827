//! What is set of traces.

use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Uri};

use super::identity::identity;
use super::meaning::Reader;
use super::text::{self, Parsed};
use crate::tls::{NameCheck, Tls};
use crate::trace::sampling::Share;
use crate::trace::{CollectorOptions, Protocol, TraceOptions, is_protocols_own};

/// Most attributes of the process that may be set, and the longest name or value in bytes.
const ATTRIBUTES_MAX: usize = 32;
const ATTRIBUTE_BYTES_MAX: usize = 256;

/// Most headers that may be set, and the longest name or value in bytes.
const HEADERS_MAX: usize = 32;
const HEADER_BYTES_MAX: usize = 8 << 10;

/// Where a collector listens.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Endpoint {
    is_tls: bool,
    host: String,
    port: Option<u16>,
    path: String,
}

/// Reads the keys of traces; `None` if calls aren't traced. What is wrong is told in any case.
pub(super) fn tracing(read: &mut Reader<'_>) -> Option<TraceOptions> {
    let mistakes = read.mistakes();
    let is_enabled = read.switch("tracing.enabled");
    let resource = resource(read);
    let protocol = read.choice("tracing.protocol", &[("http", Protocol::Http), ("grpc", Protocol::Grpc)]);
    let Endpoint { is_tls, host, port, path } = read.parsed("tracing.endpoint", endpoint);
    let default_port = match protocol {
        Protocol::Http => 4318,
        Protocol::Grpc => 4317,
    };
    let tls = tls(read, is_enabled);
    let options = TraceOptions {
        resource,
        share: read.parsed("tracing.sampling_rate", share),
        descriptor_values: read.switch("tracing.descriptor_values"),
        queue_max: read.whole("tracing.queue_max", 2..=100_000),
        batch_max: read.whole("tracing.batch_max", 1..=10_000),
        export_interval: read
            .duration("tracing.export_interval", Duration::from_millis(10)..=Duration::from_secs(3_600)),
        collector: CollectorOptions {
            protocol,
            host,
            port: port.unwrap_or(default_port),
            path,
            tls: is_tls.then_some(tls),
            headers: read.parsed("tracing.headers", headers),
            timeout: read.duration("tracing.timeout", Duration::from_millis(10)..=Duration::from_secs(60)),
        },
    };
    if !is_enabled {
        // These are set for whole clusters, and the reference service doesn't look at them either.
        drop(read.forgive(mistakes, |place| place.starts_with("OTEL_")));
    }
    is_enabled.then_some(options)
}

/// What tells this process from others. The three names of its own win over those among the attributes.
fn resource(read: &mut Reader<'_>) -> Vec<(String, String)> {
    let own = [
        ("service.name", read.parsed("tracing.service_name", name)),
        ("service.namespace", read.parsed("tracing.service_namespace", name)),
        ("service.instance.id", read.parsed("tracing.service_instance_id", name)),
    ];
    let others = read.parsed("tracing.resource_attributes", attributes);
    let own = own.into_iter().map(|(key, value)| (key.to_owned(), value)).filter(|(_, value)| !value.is_empty());
    let own: Vec<_> = own.collect();
    let others = others.into_iter().filter(|(key, _)| own.iter().all(|(known, _)| known != key));
    let others: Vec<_> = others.collect();
    own.into_iter().chain(others).collect()
}

/// How TLS is spoken. Half a pair of files is a mistake only if calls are traced.
fn tls(read: &mut Reader<'_>, is_enabled: bool) -> Tls {
    let ca_file = read.optional("tracing.tls.ca_file").map(PathBuf::from);
    let identity = identity(read, "tracing.tls", is_enabled);
    Tls { ca_file, identity, server_name: None, name_check: NameCheck::Checked }
}

fn name(text: &str) -> Parsed<String> {
    let is_right = text.len() <= ATTRIBUTE_BYTES_MAX && !text.contains(char::is_control);
    if is_right { Ok(text.to_owned()) } else { Err(format!("at most {ATTRIBUTE_BYTES_MAX} bytes of text in one line")) }
}

fn share(text: &str) -> Parsed<Share> {
    text.parse().ok().and_then(Share::try_new).ok_or_else(|| "a number from 0 to 1".to_owned())
}

/// A URL of `http` or `https`, without user and query.
fn endpoint(text: &str) -> Parsed<Endpoint> {
    const PATH: &str = "/v1/traces";

    if text.is_empty() {
        return Ok(Endpoint { is_tls: false, host: "localhost".to_owned(), port: None, path: PATH.to_owned() });
    }
    let right = || "a URL such as http://collector:4318/v1/traces, without user, password and query".to_owned();
    let url: Uri = text.parse().map_err(|_| right())?;
    let is_tls = match url.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        _ => return Err(right()),
    };
    let authority = url.authority().ok_or_else(right)?;
    if authority.as_str().contains('@') || url.query().is_some() {
        return Err(right());
    }
    let host = text::host(authority.host()).map_err(|_| right())?;
    let port = match authority.as_str()[authority.host().len()..].strip_prefix(':') {
        None => None,
        Some(port) => Some(text::whole(port, &(1..=u16::MAX)).map_err(|_| right())?),
    };
    Ok(Endpoint { is_tls, host, port, path: url.path().to_owned() })
}

/// `name=value,name=value`, with values percent-encoded.
fn attributes(text: &str) -> Parsed<Vec<(String, String)>> {
    let right = || {
        format!(
            "at most {ATTRIBUTES_MAX} names and values such as zone=a,env=live, percent-encoded, of at most \
             {ATTRIBUTE_BYTES_MAX} bytes each"
        )
    };
    let pairs = pairs(text).ok_or_else(right)?;
    let is_right = |(name, value): &(String, String)| name.len().max(value.len()) <= ATTRIBUTE_BYTES_MAX;
    if pairs.len() <= ATTRIBUTES_MAX && pairs.iter().all(is_right) { Ok(pairs) } else { Err(right()) }
}

/// The same as headers, whose values are hidden wherever they are shown.
fn headers(text: &str) -> Parsed<HeaderMap> {
    let right = || {
        format!(
            "at most {HEADERS_MAX} headers such as name=value,other=value, percent-encoded, of at most \
             {HEADER_BYTES_MAX} bytes each, without those that HTTP itself sets"
        )
    };
    let pairs = pairs(text).filter(|pairs| pairs.len() <= HEADERS_MAX).ok_or_else(right)?;
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        let name: HeaderName = name.parse().map_err(|_| right())?;
        let mut value: HeaderValue = value.parse().map_err(|_| right())?;
        if is_protocols_own(&name) || name.as_str().len().max(value.len()) > HEADER_BYTES_MAX {
            return Err(right());
        }
        value.set_sensitive(true);
        headers.append(name, value);
    }
    Ok(headers)
}

/// Names and values as the specification writes lists of them.
fn pairs(text: &str) -> Option<Vec<(String, String)>> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let pair = |part: &str| {
        let (name, value) = part.split_once('=')?;
        let name = decoded(name.trim())?;
        (!name.is_empty()).then_some((name, decoded(value.trim())?))
    };
    parts.map(pair).collect()
}

/// The text that a percent-encoded one means.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = match (first, after) {
            (b'%', [high, low, after @ ..]) => {
                let digit = |letter: u8| char::from(letter).to_digit(16);
                bytes.push(u8::try_from(digit(*high)? * 16 + digit(*low)?).ok()?);
                after
            }
            (b'%', _) => return None,
            (byte, after) => {
                bytes.push(byte);
                after
            }
        };
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::settings::Settings;

    fn load(environment: &[(&str, &str)]) -> TraceOptions {
        let on = [("TRACING_ENABLED", "true")].iter().chain(environment).copied();
        let (settings, notes) = Settings::load(None, on).unwrap();
        assert_eq!(notes, []);
        settings.tracing.expect("it is enabled")
    }

    fn resource_of(environment: &[(&str, &str)]) -> Vec<(String, String)> {
        load(environment).resource
    }

    fn pair(key: &str, value: &str) -> (String, String) {
        (key.to_owned(), value.to_owned())
    }

    #[test]
    fn nothing_is_traced_unless_it_is_asked_for() {
        assert_eq!(Settings::default().tracing, None);
        for set in [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318"),
            ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/key"),
            ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "/certificate"),
        ] {
            let (settings, _) = Settings::load(None, [set]).unwrap();
            assert_eq!(settings.tracing, None);
        }
    }

    #[test]
    fn what_envoy_gateway_sets_makes_traces_over_http() {
        let options = load(&[
            ("TRACING_SERVICE_NAME", "envoy-ratelimit"),
            ("TRACING_SERVICE_NAMESPACE", "envoy-gateway-system"),
            ("TRACING_SERVICE_INSTANCE_ID", "envoy-ratelimit-0"),
            ("TRACING_SAMPLING_RATE", "1.0"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://otel-collector.monitoring.svc.cluster.local:4318"),
        ]);
        let CollectorOptions { protocol, host, port, path, tls, .. } = options.collector;
        assert_eq!(
            (protocol, host.as_str(), port),
            (Protocol::Http, "otel-collector.monitoring.svc.cluster.local", 4318)
        );
        assert_eq!((path.as_str(), tls, options.share), ("/v1/traces", None, Share::ALL));
        let expected = [
            pair("service.name", "envoy-ratelimit"),
            pair("service.namespace", "envoy-gateway-system"),
            pair("service.instance.id", "envoy-ratelimit-0"),
        ];
        assert_eq!(options.resource, expected);
    }

    #[test]
    fn numbers_of_the_librarys_that_are_beyond_ours_mean_the_nearest() {
        let options = load(&[
            ("OTEL_BSP_MAX_QUEUE_SIZE", "10000000"),
            ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "50000"),
            ("OTEL_BSP_SCHEDULE_DELAY", "1"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "600000"),
        ]);
        assert_eq!((options.queue_max, options.batch_max), (100_000, 10_000));
        let times = (options.export_interval, options.collector.timeout);
        assert_eq!(times, (Duration::from_millis(10), Duration::from_secs(60)));
    }

    #[test]
    fn the_endpoint_of_traces_wins_and_is_taken_as_it_is() {
        let at = |environment: &[(&str, &str)]| {
            let CollectorOptions { host, port, path, tls, .. } = load(environment).collector;
            (host, port, path, tls.is_some())
        };
        let general = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://general:1/base/");
        let traces = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://[::1]/mine");
        let grpc = ("TRACING_EXPORTER_PROTOCOL", "grpc");
        assert_eq!(at(&[]), ("localhost".to_owned(), 4318, "/v1/traces".to_owned(), false));
        assert_eq!(at(&[grpc]).1, 4317);
        assert_eq!(at(&[general]), ("general".to_owned(), 1, "/base/v1/traces".to_owned(), false));
        assert_eq!(at(&[general, traces]), ("::1".to_owned(), 4318, "/mine".to_owned(), true));
    }

    #[test]
    fn the_services_own_names_win_over_attributes() {
        let attributes = ("OTEL_RESOURCE_ATTRIBUTES", "service.name=other, zone=a%2Cb ,service.namespace=shop");
        let expected = [pair("service.name", "RateLimit"), pair("zone", "a,b"), pair("service.namespace", "shop")];
        assert_eq!(resource_of(&[attributes]), expected);
    }

    #[test]
    fn headers_are_decoded_and_never_shown() {
        let options = load(&[
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20s3cret,tenant=a"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "2500"),
        ]);
        assert_eq!(options.collector.headers["authorization"], "Bearer s3cret");
        assert_eq!(options.collector.headers["tenant"], "a");
        assert_eq!(options.collector.timeout, Duration::from_millis(2_500));
        assert!(!format!("{options:?}").contains("s3cret"));
        let wrong = [
            ("TRACING_ENABLED", "true"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "s3cret"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://u:s3cret@host"),
        ];
        let errors = Settings::load(None, wrong).unwrap_err().to_string();
        assert!(errors.lines().count() == 2 && !errors.contains("s3cret"), "{errors}");
    }

    #[test]
    fn each_wrong_value_is_named_with_what_is_right_and_all_at_once() {
        let variables = [
            ("TRACING_EXPORTER_PROTOCOL", "thrift"),
            ("TRACING_SAMPLING_RATE", "1.5"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "ten"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "many"),
            ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "few"),
            ("OTEL_BSP_SCHEDULE_DELAY", "-1"),
            ("OTEL_RESOURCE_ATTRIBUTES", "zone"),
        ];
        let hidden = [("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318"), ("OTEL_EXPORTER_OTLP_HEADERS", "host=a")];
        let on = [("TRACING_ENABLED", "true")];
        let all = on.iter().chain(&variables).chain(&hidden).copied();
        let errors = Settings::load(None, all).unwrap_err().to_string();
        assert_eq!(errors.lines().count(), variables.len() + hidden.len(), "{errors}");
        for (name, value) in variables {
            assert!(errors.contains(&format!("{name} is {value:?}, but must be ")), "{name}: {errors}");
        }
        for (name, _) in hidden {
            assert!(errors.contains(&format!("{name} is not usable")), "{name}: {errors}");
        }
    }

    #[test]
    fn what_is_set_for_a_whole_cluster_stops_nobody_who_traces_nothing() {
        let wrong = [("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317"), ("OTEL_EXPORTER_OTLP_TIMEOUT", "long")];
        assert_eq!(Settings::load(None, wrong).unwrap().0.tracing, None);
        let ours = [("TRACING_SAMPLING_RATE", "much"), ("TRACING_ENABLED", "yes")];
        assert_eq!(Settings::load(None, ours).unwrap_err().to_string().lines().count(), 2);
    }

    #[test]
    fn an_endpoint_is_a_url_that_can_be_asked() {
        for wrong in
            ["collector", "ftp://a", "http://", "http://a:0", "http://a:65536", "http://a:b", "http://a/?x=1", "/v1"]
        {
            assert!(endpoint(wrong).is_err(), "{wrong}");
        }
        assert_eq!(endpoint("http://a").unwrap().path, "/");
    }

    proptest! {
        #[test]
        fn any_text_is_a_value_or_a_sentence(text in "\\PC{0,40}|[a-z%=,0-9:/\\[\\]@?]{0,40}") {
            prop_assert!(endpoint(&text).map_or(true, |endpoint| !endpoint.host.is_empty()));
            prop_assert!(headers(&text).map_or(true, |headers| headers.values().all(HeaderValue::is_sensitive)));
            prop_assert!(attributes(&text).map_or(true, |attributes| attributes.iter().all(|(key, _)| !key.is_empty())));
            prop_assert!(share(&text).is_ok() || share(&text).is_err_and(|right| right.contains("0 to 1")));
        }
    }
}
