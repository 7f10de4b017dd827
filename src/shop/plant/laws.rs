//! The laws of a plant, over any settings and any traffic.

use std::time::Duration;

use proptest::prelude::*;
use serde_json::json;

use super::{Finished, Plant, PlantSettings};

/// Settings small enough for queues to fill.
fn any_settings() -> impl Strategy<Value = PlantSettings> {
    (1_u64..6, 1_u64..50, 0_u64..12, 0_u64..12, 1.0..5.0_f64).prop_map(|(workers, time, queue, slow, factor)| {
        let fields = json!({
            "workers": workers, "service_time_ms": time, "queue_max": queue, "slow_above": slow, "slowdown_max": factor,
        });
        PlantSettings::default().changed(&fields).unwrap()
    })
}

/// Gaps between arrivals in ms.
fn any_traffic() -> impl Strategy<Value = Vec<u64>> {
    prop::collection::vec(prop_oneof![Just(0), 0_u64..20, 0_u64..400], 1..120)
}

/// What became of each customer, numbered in the order of arrival.
#[derive(Debug, PartialEq)]
struct Story {
    finished: Vec<Finished<usize>>,
    refused: Vec<usize>,
}

/// Sends traffic through a plant, looking at it after every step, and `between` times between two arrivals as well.
fn run(settings: PlantSettings, gaps: &[u64], between: u32, look: impl Fn(&Plant<usize>)) -> Story {
    let mut plant = Plant::new(settings);
    let (mut now, mut story) = (Duration::ZERO, Story { finished: Vec::new(), refused: Vec::new() });
    for (customer, gap) in gaps.iter().enumerate() {
        let gap = Duration::from_millis(*gap);
        for step in 1..=between {
            story.finished.extend(plant.advance(now + gap * step / (between + 1)));
            look(&plant);
        }
        now += gap;
        story.finished.extend(plant.advance(now));
        look(&plant);
        let (busy, waiting) = (plant.in_service(), plant.queued());
        if let Err(customer) = plant.arrive(customer) {
            assert_eq!((busy, waiting), (settings.workers(), settings.queue_max()), "refused below the bound");
            story.refused.push(customer);
        }
        look(&plant);
    }
    story.finished.extend(plant.advance(Duration::from_secs(86_400)));
    assert_eq!((plant.in_service(), plant.queued(), plant.next_finish()), (0, 0, None), "somebody was forgotten");
    story
}

proptest! {
    #[test]
    fn never_more_than_the_workers_serve_never_more_than_the_bound_wait_and_nobody_waits_for_an_idle_worker(
        settings in any_settings(), gaps in any_traffic(),
    ) {
        run(settings, &gaps, 1, |plant| {
            assert!(plant.in_service() <= settings.workers());
            assert!(plant.queued() <= settings.queue_max());
            assert!(plant.queued() == 0 || plant.in_service() == settings.workers(), "a worker idles");
        });
    }

    #[test]
    fn everybody_is_either_refused_or_served_once_and_time_only_goes_forward(
        settings in any_settings(), gaps in any_traffic(),
    ) {
        let story = run(settings, &gaps, 0, |_| {});
        let mut all: Vec<usize> = story.finished.iter().map(|finished| finished.customer).collect();
        all.extend(&story.refused);
        all.sort_unstable();
        prop_assert_eq!(all, (0..gaps.len()).collect::<Vec<_>>());
        prop_assert!(story.finished.is_sorted_by_key(|finished| finished.at));
    }

    #[test]
    fn how_often_one_looks_changes_nothing(settings in any_settings(), gaps in any_traffic(), between in 1_u32..5) {
        prop_assert_eq!(run(settings, &gaps, between, |_| {}), run(settings, &gaps, 0, |_| {}));
    }

    #[test]
    fn one_worker_serves_in_the_order_of_arrival(settings in any_settings(), gaps in any_traffic()) {
        let settings = settings.changed(&json!({ "workers": 1 })).unwrap();
        let story = run(settings, &gaps, 0, |_| {});
        prop_assert!(story.finished.is_sorted_by_key(|finished| finished.customer));
    }
}

/// Offers a default plant so many customers a second, evenly, for ten seconds; how many were served a second.
fn served(plant: &mut Plant<()>, from: Duration, rate: u32) -> f64 {
    let count = rate * 10;
    let served = (0..count).map(|number| {
        let finished = plant.advance(from + Duration::from_secs(1) * number / rate).len();
        // Who is refused is not served.
        let _refused = plant.arrive(());
        finished
    });
    served.sum::<usize>() as f64 / 10.0
}

#[test]
fn below_capacity_everybody_is_served_and_above_it_the_plant_collapses_and_stays_so() {
    let mut plant = Plant::new(PlantSettings::default());
    let seconds = Duration::from_secs;
    assert!(served(&mut plant, seconds(0), 190) > 185.0);
    let overloaded = served(&mut plant, seconds(10), 400);
    assert!((45.0..75.0).contains(&overloaded), "with a full queue it does about 200 / 4, and did {overloaded}");
    let after = served(&mut plant, seconds(20), 100);
    assert!(after < 60.0, "half the capacity is still more than a collapsed plant does: {after}");
    served(&mut plant, seconds(30), 20);
    let healed = served(&mut plant, seconds(40), 190);
    assert!(healed > 185.0, "once the queue is empty all is well again: {healed}");
}

#[test]
fn a_change_holds_from_now_on() {
    let mut plant = Plant::new(PlantSettings::default().changed(&json!({ "workers": 1, "queue_max": 2 })).unwrap());
    for customer in 0..3 {
        assert_eq!(plant.arrive(customer), Ok(()));
    }
    assert_eq!(plant.arrive(3), Err(3));
    plant.change(plant.settings().changed(&json!({ "workers": 2, "service_time_ms": 5 })).unwrap());
    assert_eq!((plant.in_service(), plant.queued()), (2, 1), "a worker more begins at once");
    let finished: Vec<_> = plant.advance(Duration::from_secs(1)).iter().map(|one| (one.customer, one.at)).collect();
    let ms = Duration::from_millis;
    assert_eq!(finished, [(1, ms(5)), (2, ms(10)), (0, ms(20))]);
}

#[test]
fn an_instant_of_the_past_changes_nothing() {
    let mut plant = Plant::new(PlantSettings::default());
    plant.advance(Duration::from_millis(100));
    plant.advance(Duration::from_millis(50));
    assert_eq!(plant.arrive(()), Ok(()));
    assert_eq!(plant.next_finish(), Some(Duration::from_millis(120)));
}
