//! What is set of metrics: how many series, where they are sent, under which names they are shown.

use std::path::PathBuf;
use std::time::Duration;

use super::meaning::Reader;
use super::text::{self, Parsed};
use crate::statsd::line::TAGS_BYTES_MAX;
use crate::statsd::rewrite::Rewrite;
use crate::statsd::{Dialect, Protocol, StatsdOptions, Tag};

/// Most rewrites: each is tried on every name at every flush.
const REWRITES_MAX: usize = 100;

/// Metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricsSettings {
    /// Most series that callers' values name; those of the rules themselves are not among them.
    pub series_max: usize,
    /// The statsd server that they are sent to, if they are.
    pub statsd: Option<StatsdOptions>,
    /// How Prometheus gets them.
    pub prometheus: PrometheusSettings,
}

/// How Prometheus gets the metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrometheusSettings {
    /// A listener for nothing else, if there is to be one. The HTTP port has the metrics in any case.
    pub listener: Option<ListenAddress>,
    /// The path on that listener.
    pub path: String,
    /// The file with other names than the built-in ones, in the form of the statsd exporter.
    pub mapping: Option<PathBuf>,
    /// Whether response times are in milliseconds, in a series whose name says seconds, as the reference service has
    /// it.
    pub response_time_as_milliseconds: bool,
}

/// Where to listen, as Go writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenAddress {
    /// IP address (without brackets) or name; `None` for all addresses of the machine.
    pub host: Option<String>,
    /// TCP port; 0 for any free one.
    pub port: u16,
}

/// Reads the keys of metrics.
pub(super) fn metrics(read: &mut Reader<'_>) -> MetricsSettings {
    let (is_sent, is_listened) = (read.switch("metrics.statsd.enabled"), read.switch("metrics.prometheus.enabled"));
    let statsd = StatsdOptions {
        host: read.parsed("metrics.statsd.host", text::host),
        port: read.whole("metrics.statsd.port", 1..=u16::MAX),
        protocol: read.choice("metrics.statsd.protocol", &[("tcp", Protocol::Tcp), ("udp", Protocol::Udp)]),
        dialect: read
            .choice("metrics.statsd.dialect", &[("statsd", Dialect::Statsd), ("dogstatsd", Dialect::DogStatsd)]),
        tags: read.parsed("metrics.statsd.tags", tags),
        rewrites: rewrites(read),
        flush_interval: read
            .duration("metrics.statsd.flush_interval", Duration::from_millis(100)..=Duration::from_secs(3_600)),
    };
    let address = read.parsed("metrics.prometheus.address", listen_address);
    MetricsSettings {
        series_max: read.whole("metrics.series_max", 0..=1_000_000),
        statsd: is_sent.then_some(statsd),
        prometheus: PrometheusSettings {
            listener: is_listened.then_some(address),
            path: read.parsed("metrics.prometheus.path", path),
            mapping: read.optional("metrics.prometheus.mapping").map(PathBuf::from),
            response_time_as_milliseconds: read.switch("metrics.prometheus.response_time_as_milliseconds"),
        },
    }
}

/// The rewrites, in their order.
fn rewrites(read: &mut Reader<'_>) -> Vec<Rewrite> {
    const KEY: &str = "metrics.statsd.rewrites";

    let texts = read.texts(KEY);
    if texts.len() > REWRITES_MAX {
        let place = read.place(KEY);
        read.conflict(format!("{place} has {} rewrites, but must have at most {REWRITES_MAX}", texts.len()));
    }
    let mut rewrites = Vec::new();
    for text in texts.iter().take(REWRITES_MAX) {
        match Rewrite::parse(text) {
            Ok(rewrite) => rewrites.push(rewrite),
            Err(right) => {
                let place = read.place(KEY);
                read.conflict(format!("{place} has {text:?}, but each must be {right}"));
            }
        }
    }
    rewrites
}

/// `name:value,name:value`, as the reference service's maps are written.
fn tags(text: &str) -> Parsed<Vec<Tag>> {
    // Four for the marks around each, as it is written into a name.
    const MARKS: usize = 4;

    let right = || {
        format!("names and values such as zone:a,env:live, at most {TAGS_BYTES_MAX} bytes with {MARKS} added for each")
    };
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let tag = |part: &str| match part.split_once(':') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() && !value.contains(':') => {
            Some(Tag { name: name.to_owned(), value: value.to_owned() })
        }
        _ => None,
    };
    let tags: Option<Vec<Tag>> = text.split(',').map(|part| tag(part.trim())).collect();
    let bytes = |tags: &Vec<Tag>| tags.iter().map(|tag| tag.name.len() + tag.value.len() + MARKS).sum::<usize>();
    tags.filter(|tags| bytes(tags) <= TAGS_BYTES_MAX).ok_or_else(right)
}

/// `:19001`, `127.0.0.1:19001`, `[::1]:19001` or `name:19001`.
fn listen_address(text: &str) -> Parsed<ListenAddress> {
    let right = || "an address with a port such as :19001 or 127.0.0.1:19001".to_owned();
    let (host, port) = text.rsplit_once(':').ok_or_else(right)?;
    let port = text::whole(port, &(0..=u16::MAX)).map_err(|_| right())?;
    // Without brackets the last part of an IPv6 address would be its port.
    if host.contains(':') && !host.starts_with('[') {
        return Err(right());
    }
    let host = match host {
        "" => None,
        _ => Some(text::host(host).map_err(|_| right())?),
    };
    Ok(ListenAddress { host, port })
}

/// A path of a URL without parameters. Signs that a router takes for a pattern are none of it.
fn path(text: &str) -> Parsed<String> {
    let is_right = |c: char| c.is_ascii_alphanumeric() || "/-_.~".contains(c);
    let is_path = text.starts_with('/') && text.len() <= 200 && text.chars().all(is_right);
    if is_path && !text.contains("//") {
        Ok(text.to_owned())
    } else {
        Err("a path of letters, digits, - _ . ~ and / that begins with /, such as /metrics".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_in_go() {
        let address = |host: Option<&str>, port| Ok(ListenAddress { host: host.map(str::to_owned), port });
        assert_eq!(listen_address(":19001"), address(None, 19_001));
        assert_eq!(listen_address("127.0.0.1:0"), address(Some("127.0.0.1"), 0));
        assert_eq!(listen_address("[::1]:9"), address(Some("::1"), 9));
        assert_eq!(listen_address("localhost:9"), address(Some("localhost"), 9));
        for wrong in ["", "19001", ":", ":x", "::1", "::1:9", "a b:9", ":65536", "http://a:9"] {
            assert!(listen_address(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn tags_are_names_and_values_up_to_what_fits_a_line() {
        let tag = |name: &str, value: &str| Tag { name: name.to_owned(), value: value.to_owned() };
        assert_eq!(tags(""), Ok(vec![]));
        assert_eq!(tags("zone:a, env:live"), Ok(vec![tag("zone", "a"), tag("env", "live")]));
        for wrong in ["zone", "zone:", ":a", "zone:a:b", "zone:a,", &format!("zone:{}", "x".repeat(249))] {
            assert!(tags(wrong).is_err(), "{wrong}");
        }
        assert!(tags(&format!("zone:{}", "x".repeat(248))).is_ok());
    }

    #[test]
    fn a_path_is_no_pattern() {
        assert_eq!(path("/metrics"), Ok("/metrics".to_owned()));
        for wrong in ["", "metrics", "/{x}", "/a b", "//", "/:x", "/*"] {
            assert!(path(wrong).is_err(), "{wrong}");
        }
    }
}
