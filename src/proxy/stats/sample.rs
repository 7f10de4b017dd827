//! One statistic as somebody sees it who asks: where it belongs, its name, its value.

use super::number::HistogramSnapshot;

/// To what a group of statistics belongs. The two forms name it differently: the text form puts it in front of the
/// name with dots, Prometheus takes the kind into the name and what varies into a label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// What the text form puts in front, without the dot at the end: `cluster.shop`.
    pub text: String,
    /// What Prometheus has between `envoy_` and the name: `cluster`.
    pub family: String,
    /// Labels of all statistics of the scope.
    pub labels: Vec<(&'static str, String)>,
}

/// A statistic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample<'s> {
    /// To what it belongs.
    pub scope: &'s Scope,
    /// Its name within the scope, in the text form: `upstream_rq_503`.
    pub name: String,
    /// Its name within the scope for Prometheus, with labels of its own: `upstream_rq` and the code.
    pub series: (String, Vec<(&'static str, String)>),
    /// Its value.
    pub value: Value,
}

/// What a statistic is and has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A count since the start or the last reset.
    Counter(u64),
    /// How many there are.
    Gauge(u64),
    /// A distribution.
    Histogram(Box<HistogramSnapshot>),
}

// === impl Scope ===

impl Scope {
    /// The scope of a cluster.
    #[must_use]
    pub fn cluster(name: &str) -> Scope {
        Scope {
            text: format!("cluster.{name}"),
            family: "cluster".to_owned(),
            labels: vec![("envoy_cluster_name", name.to_owned())],
        }
    }

    /// The scope of an HTTP connection manager.
    #[must_use]
    pub fn http(prefix: &str) -> Scope {
        Scope {
            text: format!("http.{prefix}"),
            family: "http".to_owned(),
            labels: vec![("envoy_http_conn_manager_prefix", prefix.to_owned())],
        }
    }

    /// The scope of a local rate limit.
    #[must_use]
    pub fn local_rate_limit(prefix: &str) -> Scope {
        Scope {
            text: format!("{prefix}.http_local_rate_limit"),
            family: "http_local_rate_limit".to_owned(),
            labels: vec![("envoy_local_http_ratelimit_prefix", prefix.to_owned())],
        }
    }

    /// The scope of a listener's address. Colons can't be told from separators, so they become underscores.
    #[must_use]
    pub fn listener(address: &str) -> Scope {
        let address = address.replace(':', "_");
        Scope {
            text: format!("listener.{address}"),
            family: "listener".to_owned(),
            labels: vec![("envoy_listener_address", address)],
        }
    }

    /// A scope of its own, without labels.
    #[must_use]
    pub fn plain(name: &str) -> Scope {
        Scope { text: name.to_owned(), family: name.to_owned(), labels: Vec::new() }
    }

    /// A statistic of this scope whose name is the same in both forms.
    #[must_use]
    pub fn sample(&self, name: impl Into<String>, value: Value) -> Sample<'_> {
        let name = name.into();
        Sample { scope: self, series: (name.clone(), Vec::new()), name, value }
    }
}

// === impl Sample ===

impl Sample<'_> {
    /// The whole name in the text form.
    #[must_use]
    pub fn text_name(&self) -> String {
        format!("{}.{}", self.scope.text, self.name)
    }
}

// === impl Value ===

impl Value {
    /// Whether nothing has ever happened to it, as far as it can tell.
    #[must_use]
    pub fn is_unused(&self) -> bool {
        match self {
            Value::Counter(value) | Value::Gauge(value) => *value == 0,
            Value::Histogram(snapshot) => snapshot.count == 0,
        }
    }
}
