//! Metrics that are another service's.

use super::*;
use crate::control::law::Law;
use crate::rules::service::ServiceMode;

#[tokio::test(start_paused = true)]
async fn metrics_that_cannot_be_the_service_s_count_as_none_and_are_recorded_as_such() {
    let world = World::overloaded("enforce").await;
    let (before, begun) = (world.limit(), world.store.now());
    world.plant.0.told.store(20, Ordering::Relaxed);
    world.offer(90, 60).await;
    assert!(world.limit() <= before * 1.1, "one raise at most, on what was told before");
    let view = Arc::clone(&world.view.borrow());
    let last = view.services[0].last.clone().unwrap();
    let why = last.decision.absence.clone().unwrap();
    assert!(why.starts_with("the metrics are not believed: they have "), "{why}");
    assert!(last.signal_at.unwrap() < begun.saturating_add(Duration::from_secs(10)), "nothing is known since");
    assert!(view.failed_fetches.iter().any(|(kind, count)| *kind == AbsenceKind::Implausible && *count > 10));
    let made_of = last.made_of.as_deref().unwrap();
    let law = Law::of(&view.services[0].service, Duration::from_secs(1));
    let (_, again) = made_of.again(&made_of.state, ServiceMode::Enforce, &law);
    assert_eq!(again, last.decision, "what is recorded is what was believed");
    world.end().await;
}
