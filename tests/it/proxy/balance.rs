//! Which of several clusters, and which of several hosts, a request goes to. Both choose by chance in part, so transcripts
//! would differ; each proxy is held to the same claims instead, none of which chance can break in practice.

use serde_json::{Value, json};

use super::config::{bootstrap, cluster, listener, route, with};
use super::stage::{Places, Stage};
use super::subject::Kind;
use super::upstream::Scripted;
use crate::support::client::Http;
use crate::support::{PATIENCE, eventually};

fn weighted(prefix: &str, weights: &[(&str, u32)]) -> Value {
    let clusters: Vec<Value> = weights.iter().map(|(name, weight)| json!({ "name": name, "weight": weight })).collect();
    json!({ "match": { "prefix": prefix }, "route": { "weighted_clusters": { "clusters": clusters } } })
}

#[tokio::test]
async fn weighted_clusters_get_their_shares() {
    let config = |places: &Places<'_>| {
        let routes = [weighted("/none", &[("a", 0), ("b", 5)]), weighted("/", &[("a", 1), ("b", 3)])];
        let clusters = ["a", "b"].map(|name| cluster(name, &[places.upstream]));
        bootstrap(&[listener("main", places.folder, &[], &routes)], &clusters)
    };
    for kind in [Kind::Envoy, Kind::Ours] {
        let Some(mut stage) = Stage::start(kind, config).await else { return };
        for _ in 0..20 {
            assert_eq!(stage.get("/none/hello").await, 200);
        }
        let sent = async |stage: &Stage, name: &str| {
            stage.subject.statistic(&format!("cluster.{name}.upstream_rq_total")).await
        };
        assert_eq!((sent(&stage, "a").await, sent(&stage, "b").await), (0, 20), "{kind:?}: a weight of 0 is no share");
        for _ in 0..200 {
            assert_eq!(stage.get("/hello").await, 200);
        }
        let (a, b) = (sent(&stage, "a").await, sent(&stage, "b").await - 20);
        assert_eq!(a + b, 200, "{kind:?}");
        // 50 are a's in the mean, with a standard deviation of 6: outside is one run in a thousand million.
        assert!((12..=88).contains(&a), "{kind:?}: {a} of 200 went to the cluster with a quarter of the weight");
    }
}

#[tokio::test]
async fn least_request_spares_a_host_that_is_busy() {
    let other = Scripted::start().await;
    let config = |places: &Places<'_>| {
        // With that many choices the idle host is among them.
        let least = json!({ "lb_policy": "LEAST_REQUEST", "least_request_lb_config": { "choice_count": 64 } });
        let up = with(cluster("up", &[places.upstream, other.address()]), &least);
        let patient = with(route("/", "up"), &json!({ "route": { "timeout": "10s" } }));
        bootstrap(&[listener("main", places.folder, &[], &[patient])], &[up])
    };
    for kind in [Kind::Envoy, Kind::Ours] {
        let Some(mut stage) = Stage::start(kind, config).await else { return };
        let address = stage.subject.address("main");
        let path = format!("/{kind:?}/never");
        let held = tokio::spawn({
            let path = path.clone();
            async move { Http::new(address).get(&path).await.status }
        });
        let busy_is_first = eventually("one host is busy", PATIENCE, async || {
            match (stage.upstream.count(&path), other.count(&path)) {
                (0, 0) => None,
                (first, _) => Some(first > 0),
            }
        })
        .await;
        let quick = format!("/{kind:?}/hello");
        for _ in 0..20 {
            assert_eq!(stage.get(&quick).await, 200);
        }
        let (first, second) = (stage.upstream.count(&quick), other.count(&quick));
        assert_eq!(if busy_is_first { second } else { first }, 20, "{kind:?}: the idle host gets them all");
        held.abort();
    }
}

#[tokio::test]
async fn round_robin_takes_turns() {
    let other = Scripted::start().await;
    let config = |places: &Places<'_>| {
        let up = cluster("up", &[places.upstream, other.address()]);
        bootstrap(&[listener("main", places.folder, &[], &[route("/", "up")])], &[up])
    };
    for kind in [Kind::Envoy, Kind::Ours] {
        let Some(mut stage) = Stage::start(kind, config).await else { return };
        let path = format!("/{kind:?}/hello");
        for _ in 0..20 {
            assert_eq!(stage.get(&path).await, 200);
        }
        assert_eq!((stage.upstream.count(&path), other.count(&path)), (10, 10), "{kind:?}");
    }
}
