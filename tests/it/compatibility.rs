//! Tidegate in the profile of envoyproxy/ratelimit beside that service, over one Redis. What the other does there is
//! simple enough to be done here: INCRBY and EXPIRE in one pipeline, and "over" is what is more than the limit
//! (section 3.6 of its specification).

use tidegate::clock::{Clock, SystemClock};
use tidegate::proto::envoy::service::ratelimit::v3::RateLimitRequest;
use tidegate::proto::envoy::service::ratelimit::v3::rate_limit_response::Code;
use tokio::task::JoinSet;

use crate::support::client::{descriptor, request};
use crate::support::redis::Redis;
use crate::support::tidegate::Launch;
use tonic_health::pb::health_check_response::ServingStatus;

const LIMIT: u64 = 40;
const CALLS_EACH: u64 = 60;
const DAY_S: u64 = 86_400;

/// How often a run is made again because a day ended meanwhile.
const ATTEMPTS_MAX: usize = 3;

/// One call as envoyproxy/ratelimit makes it: whether it may pass.
fn old_pod_admits(connection: &mut redis::Connection, key: &str) -> bool {
    let mut pipeline = redis::pipe();
    pipeline.cmd("INCRBY").arg(key).arg(1).cmd("EXPIRE").arg(key).arg(DAY_S + 17).ignore();
    let (after,): (u64,) = pipeline.query(connection).unwrap();
    after <= LIMIT
}

fn key(prefix: &str) -> String {
    let now_s = SystemClock.now().as_millis() / 1_000;
    format!("{prefix}shop_user_ann_{}", now_s / DAY_S * DAY_S)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_pod_and_a_new_one_enforce_one_limit_together() {
    let Some(redis) = Redis::start().await else { return };
    let rules =
        format!("domain: shop\ndescriptors: [{{key: user, rate_limit: {{unit: day, requests_per_unit: {LIMIT}}}}}]\n");
    // As the other service is set, and one variable more.
    let new_pod = Launch::new(&[("rules.yaml", &rules)])
        .redis(&redis)
        .setting("TIDEGATE_COMPATIBILITY", "envoyproxy")
        .setting("EXPIRATION_JITTER_MAX_SECONDS", "300")
        .start()
        .await;
    new_pod.becomes(ServingStatus::Serving).await;
    for _ in 0..ATTEMPTS_MAX {
        let key = key("");
        redis.ask("FLUSHALL").await;
        let mut calls = JoinSet::new();
        let (mut connection, old_key) = (redis.connect_blocking(), key.clone());
        calls.spawn_blocking(move || {
            (0..CALLS_EACH).filter(|_| old_pod_admits(&mut connection, &old_key)).count() as u64
        });
        let mut client = new_pod.grpc();
        calls.spawn(async move {
            let mut admitted = 0;
            for _ in 0..CALLS_EACH {
                let answer = client.should_rate_limit(request("shop", &[("user", "ann")])).await.unwrap();
                admitted += u64::from(answer.into_inner().overall_code() == Code::Ok);
            }
            admitted
        });
        let admitted: u64 = calls.join_all().await.into_iter().sum();
        if key != self::key("") {
            continue;
        }
        assert_eq!(admitted, LIMIT, "together, and not one more or less");
        let mut connection = redis.connect_blocking();
        let count: u64 = redis::cmd("GET").arg(&key).query(&mut connection).unwrap();
        assert_eq!(count, 2 * CALLS_EACH, "refused calls are counted by both");
        let ttl: u64 = redis::cmd("TTL").arg(&key).query(&mut connection).unwrap();
        assert!((DAY_S - 60..DAY_S + 300).contains(&ttl), "{ttl} s");
        let keys: u64 = redis::cmd("DBSIZE").query(&mut connection).unwrap();
        assert_eq!(keys, 1, "one counter, and nothing beside it");
        return;
    }
    panic!("the day turned over during each of {ATTEMPTS_MAX} attempts");
}

#[tokio::test]
async fn after_the_replacement_a_rule_a_domain_and_then_all_can_leave_the_profile() {
    let Some(redis) = Redis::start().await else { return };
    let descriptors = vec![descriptor(&[("user", "ann")]), descriptor(&[("ip", "a")])];
    let both = RateLimitRequest { domain: "shop".to_owned(), descriptors, hits_addend: 0 };
    let rules = |user: &str, top: &str| {
        let rule = |key: &str, more: &str| {
            format!("  - {{key: {key}, rate_limit: {{unit: year, requests_per_unit: 9{more}}}}}\n")
        };
        format!("domain: shop\n{top}descriptors:\n{}{}", rule("user", user), rule("ip", ""))
    };
    // What is left of both limits after one more call to a process of its own.
    let start = async |rules: String, profile: &str| {
        let launch = Launch::new(&[("rules.yaml", &rules)]).redis(&redis).setting("TIDEGATE_COMPATIBILITY", profile);
        let tidegate = launch.start().await;
        tidegate.becomes(ServingStatus::Serving).await;
        let answer = tidegate.ask(both.clone()).await;
        tidegate.stop().await;
        answer.statuses.iter().map(|status| status.limit_remaining).collect::<Vec<_>>()
    };
    assert_eq!(start(rules("", ""), "envoyproxy").await, [8, 8]);
    let own = ", algorithm: sliding_window";
    assert_eq!(start(rules(own, ""), "envoyproxy").await, [8, 7], "a rule leaves, and its counter begins anew");
    let charging = "charging: all_or_nothing\n";
    assert_eq!(start(rules(own, charging), "envoyproxy").await, [7, 6], "a domain leaves, and its counters stay");
    assert_eq!(start(rules("", ""), "none").await, [8, 8], "all leave, and begin anew under our own prefix");
}

#[tokio::test]
async fn check_tells_where_the_profile_differs_and_calls_it_no_mistake() {
    let rules = "domain: shop\ndescriptors:\n  \
                 - {key: user, rate_limit: {unit: day, requests_per_unit: 3}}\n  \
                 - {key: user_id, rate_limit: {unit: day, requests_per_unit: 3}}\n";
    for setting in ["none", "envoyproxy"] {
        let checked = Launch::new(&[("rules.yaml", rules)]).setting("TIDEGATE_COMPATIBILITY", setting).check().await;
        assert_eq!(checked.status.code(), Some(0), "{}", checked.stderr);
        let remarks: Vec<&str> = checked.stdout.lines().filter(|line| line.starts_with("remark: ")).collect();
        let [algorithm, charging, _, collision] = &remarks[..] else { panic!("{setting}: {remarks:?}") };
        assert!(
            algorithm.contains("rules.yaml:3: 2 rules, of which this is the first, are sliding_window"),
            "{algorithm}"
        );
        assert!(charging.contains("is charged to none of them and in the profile to each"), "{charging}");
        assert!(collision.contains("shop.user and shop.user_id") && collision.contains("(K1)"), "{collision}");
        assert!(checked.stdout.contains("ok: 1 file, 1 domain, 2 rules, 0 warnings"), "{}", checked.stdout);
    }
}
