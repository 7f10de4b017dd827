//! Operators of two real replicas over one Redis: whichever is asked, it is one deployment.

use serde_json::Value;

use super::{RULES, tidegate};
use crate::support::redis::Redis;
use crate::support::tidegate::{Launch, Tidegate};
use crate::support::{PATIENCE, eventually};

async fn replica(redis: &Redis) -> Tidegate {
    Launch::new(&[("rules.yaml", RULES)]).redis(redis).start().await
}

/// What `tidegate adaptive` prints when it asks that replica.
async fn asked(replica: &Tidegate, words: &[&str]) -> String {
    let admin = format!("http://{}", replica.admin_address());
    let ended = tidegate(&[words, &["--admin", &admin]].concat()).await;
    assert!(ended.status.success(), "{words:?}: {}", ended.stderr);
    ended.stdout
}

async fn told(replica: &Tidegate, words: &[&str]) -> Value {
    serde_json::from_str(&asked(replica, &[words, &["--json"]].concat()).await).unwrap()
}

#[tokio::test]
async fn a_hand_laid_on_one_replica_is_kept_by_the_others_after_the_leader_was_killed() {
    let Some(redis) = Redis::start().await else { return };
    let mut replicas = vec![replica(&redis).await, replica(&redis).await];
    let leader = eventually("one of two replicas leads and has decided", PATIENCE, async || {
        let [one, other] = [told(&replicas[0], &["status"]).await, told(&replicas[1], &["status"]).await];
        let has_decided = |told: &Value| told["services"][0]["last"]["sentence"].is_string() && told["replicas"] == 2;
        // Who doesn't lead tells what the leader decided.
        let agree = has_decided(&one) && has_decided(&other) && one["leader"] == other["leader"];
        (agree && one["leads"] != other["leads"]).then(|| usize::from(other["leads"] == true))
    })
    .await;

    let words = ["override", "inventory", "90/s", "--reason", "the shop moves"];
    let laid = asked(&replicas[1 - leader], &words).await;
    assert_eq!(laid, "inventory: set to 90/s by ada: the shop moves; for 1h\n");
    eventually("the leader puts it in force for both", PATIENCE, async || {
        let [one, other] =
            [told(&replicas[0], &["why", "inventory"]).await, told(&replicas[1], &["why", "inventory"]).await];
        let both = [one, other].map(|told| told["limit"] == 90.0 && told["hand"]["limit"] == 90.0);
        (both == [true, true]).then_some(())
    })
    .await;

    replicas.remove(leader).process().kill();
    let last = &replicas[0];
    eventually("the other takes over", PATIENCE, async || {
        (told(last, &["status"]).await["leads"] == true).then_some(())
    })
    .await;
    let kept = told(last, &["why", "inventory"]).await;
    assert_eq!((&kept["limit"], &kept["hand"]["reason"]), (&90.0.into(), &"the shop moves".into()), "{kept}");

    // One that comes anew finds the same, and can take the hand off.
    let newcomer = replica(&redis).await;
    eventually("the newcomer has heard of it", PATIENCE, async || {
        asked(&newcomer, &["status"]).await.contains("set to 90/s by ada: the shop moves").then_some(())
    })
    .await;
    assert_eq!(asked(&newcomer, &["resume", "inventory"]).await, "inventory: the hand is off, the law goes on\n");
    eventually("the leader goes on", PATIENCE, async || {
        told(last, &["status"]).await["services"][0]["hand"].is_null().then_some(())
    })
    .await;
}
