//! A cluster that speaks TLS, among its nodes too.

use tidegate::counters::redis::Tls;

use super::*;
use crate::support::cluster::Node;
use crate::support::redis_tls::{file, stranger};
use crate::support::store::reached;

/// How many clients besides the one that asks speak to a node in the clear.
async fn in_the_clear(node: &Node) -> usize {
    let address = format!(" laddr=127.0.0.1:{} ", node.redis.port());
    let clients = node.ask("CLIENT LIST").await;
    clients.lines().filter(|line| line.contains(&address) && !line.contains(" cmd=client|list ")).count()
}

#[tokio::test]
async fn over_tls_counters_are_charged_once_and_redirects_followed_wherever_their_slots_go() {
    const USERS: usize = 40;
    let Some(cluster) = Cluster::start_over_tls(&["server.pem"; 3]).await else { return };
    let metrics = Metrics::new(0);
    let store = store(&cluster.connector().counted(&metrics)).await;
    let user = |number: usize| charge(&format!("user {number}"), 2);
    let used = async |charge: Charge| ask(&store, [charge], PATIENCE).await.expect("it answers")[0].used;
    for number in 0..USERS {
        assert_eq!((used(user(number)).await, used(shared(number)).await), (1, 1));
    }
    for node in cluster.masters() {
        assert!(!node.ask("DBSIZE").await.contains(":0"), "each node has counters");
        eventually("nobody speaks in the clear", PATIENCE, async || (in_the_clear(node).await == 0).then_some(()))
            .await;
    }
    let shared_slots = (0..USERS).map(|number| slot(shared(number).key.as_bytes()));
    for slot in Lane::all().map(Lane::slot).into_iter().chain(shared_slots) {
        cluster.move_slot(slot, (cluster.owner(slot).await + 1) % 3).await;
    }
    for number in 0..USERS {
        assert_eq!((used(user(number)).await, used(shared(number)).await), (2, 2));
        let third = ask(&store, [user(number)], PATIENCE).await.expect("it answers");
        assert!(!third[0].charged, "user {number} is over");
    }
    assert!(metrics.totals().redis_redirects.get() > 0, "slots were moved");
}

#[tokio::test]
async fn a_node_whose_certificate_is_not_trusted_is_named_with_the_reason() {
    let Some(cluster) = Cluster::start_over_tls(&["server.pem", "server.pem", "named.pem"]).await else { return };
    let port = cluster.masters()[2].port();
    let trusted = |tls| Server { tls: Some(tls), ..cluster.server() };
    let text = reason(trusted(Tls { ca_file: Some(stranger()), ..Tls::default() }), 0).await;
    assert!(text.contains(&format!("node 127.0.0.1:{port}: its certificate comes from no authority")), "{text}");

    // The others say where it is; only who needs it learns what is wrong with it.
    let timeouts = Timeouts { connect: PATIENCE, response: PATIENCE };
    let connector = Connector::new(cluster.server(), timeouts);
    let (mut well, mut named) = (0, 0);
    for lane in Lane::all() {
        if cluster.owner(lane.slot()).await == 2 {
            let text = reason(cluster.server(), lane.number()).await;
            let expected =
                format!("127.0.0.1:{port}, which serves slot {}: its certificate is not for 127.0.0.1", lane.slot());
            assert!(text.contains(&expected), "{text}");
            named += 1;
        } else {
            let lanes = connector.lanes().expect("it leads to a cluster");
            reached(&RedisStore::start(lanes[lane.number()].clone(), BATCH, &TaskTracker::new())).await;
            well += 1;
        }
    }
    assert!(named > 0 && well > 0, "{named} lanes on that node, {well} on others");

    let slots = without_lanes(&connector);
    let user = (0..).find(|user| slot(shared(*user).key.as_bytes()) > 11_000).expect("some are");
    let error = ask(&slots, [shared(user)], PATIENCE).await.expect_err("it can't be asked").to_string();
    assert!(error.contains("its certificate is not for 127.0.0.1"), "{error}");
}

#[tokio::test]
async fn both_profiles_enforce_limits_in_a_cluster_over_tls() {
    let Some(cluster) = Cluster::start_over_tls(&["server.pem"; 3]).await else { return };
    for profile in ["none", "envoyproxy"] {
        let tidegate = Launch::new(&[("rules.yaml", RULES)])
            .setting("REDIS_TYPE", "CLUSTER")
            .setting("REDIS_URL", cluster.reference_url())
            .setting("REDIS_AUTH", PASSWORD)
            .setting("REDIS_TLS", "true")
            .setting("REDIS_TLS_CACERT", file("ca.pem").display())
            .setting("TIDEGATE_COMPATIBILITY", profile)
            .start()
            .await;
        tidegate.becomes(ServingStatus::Serving).await;
        admits_one_of_each(&tidegate).await;
        assert!(!tidegate.log().contains(PASSWORD), "{}", tidegate.log());
    }
}
