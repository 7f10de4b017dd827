//! The messages of a bootstrap, each read by the file that is named like its part of the model.
//!
//! Ranges are Envoy's; `tests/it/bootstrap.rs` holds this reader and Envoy's own validation against each other.

mod access_log;
mod cluster;
mod expression;
mod filter;
mod health;
mod http;
mod listener;
mod local_rate_limit;
mod matching;
mod outlier;
mod rate_limit;
mod retry;
mod route;
mod runtime;
mod status;
mod values;

use std::collections::BTreeSet;
use std::time::Duration;

use super::model::{Bootstrap, Cluster, Listener, Node};
use super::object::Object;
use super::value::Value;
use runtime::Runtime;

/// What everything below needs to know of the rest of the file.
#[derive(Debug)]
struct Surroundings<'n> {
    runtime: Runtime<'n>,
    clusters: BTreeSet<String>,
}

/// The whole file.
pub(super) fn bootstrap(root: &Value<'_>) -> Option<Bootstrap> {
    root.object(|bootstrap| {
        let runtime = bootstrap.get("layered_runtime").map(|layers| runtime::read(&layers)).unwrap_or_default();
        let node = bootstrap.object("node", |node| Node { id: node.text("id"), cluster: node.text("cluster") });
        let admin = bootstrap.object("admin", |admin| admin.required("address").and_then(|it| values::address(&it)));
        let stats_flush_interval = bootstrap.optional_duration("stats_flush_interval", Duration::from_millis(1));
        let resources =
            bootstrap.required("static_resources").and_then(|value| value.object(|it| resources(it, runtime)));
        let (listeners, clusters) = resources.unwrap_or_default();
        Bootstrap {
            node: node.unwrap_or_default(),
            admin: admin.flatten(),
            listeners,
            clusters,
            stats_flush_interval: stats_flush_interval.unwrap_or(Duration::from_secs(5)),
            warnings: Vec::new(),
        }
    })
}

fn resources(resources: &mut Object<'_>, runtime: Runtime<'_>) -> (Vec<Listener>, Vec<Cluster>) {
    let mut names = BTreeSet::new();
    let clusters = resources.list("clusters", |value| {
        let cluster = cluster::read(&value)?;
        if !names.insert(cluster.name.clone()) {
            value.mistake(format!("is a second cluster of the name '{}'; give it another", cluster.name));
        }
        Some(cluster)
    });
    let surroundings = Surroundings { runtime, clusters: names };
    let mut names = BTreeSet::new();
    let listeners = resources.list("listeners", |value| {
        let listener = listener::read(&value, &surroundings)?;
        if !names.insert(listener.name.clone()) {
            value.mistake(format!("is a second listener of the name '{}'; give it another", listener.name));
        }
        Some(listener)
    });
    surroundings.runtime.finish();
    (listeners, clusters)
}
