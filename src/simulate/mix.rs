//! Averages over a broad random mix of services and disturbances, so that the law isn't fitted to a list.

use super::golden::law;
use super::measure::Measures;
use super::plant::{Chance, Course, MetricsTerms, ServiceTerms};
use super::run::{Scenario, run};
use crate::rules::service::ServiceMode;

/// Scenarios in the mix, each with a seed of its own.
const SCENARIOS: u64 = 200;

/// One scenario: capacity, behaviour, metrics and disturbance drawn at random.
fn draw(seed: u64) -> Scenario {
    let mut chance = Chance::new(seed);
    let pick = |chance: &mut Chance, of: &[f64]| of[(chance.share() * of.len() as f64) as usize];
    let c = 30.0 * chance.between(0.0, 4.0).exp();
    let scrape = pick(&mut chance, &[1.0, 5.0, 5.0, 10.0, 15.0]);
    let interval = pick(&mut chance, &[5.0, 5.0, 10.0]);
    let max = c * chance.between(1.3, 4.0);
    let calm = chance.between(0.2, 0.85) * c;
    let (from, until) = (300.0, chance.between(500.0, 900.0).round());
    let mut service = ServiceTerms {
        queue: pick(&mut chance, &[0.3, 0.5, 1.0, 2.0]),
        deadline: pick(&mut chance, &[1.0, 2.0, 5.0]),
        errors: Course::constant(pick(&mut chance, &[0.0, 0.002, 0.01])),
        collapse: pick(&mut chance, &[0.0, 0.0, 0.3, 0.6]),
        retries: pick(&mut chance, &[0.0, 0.0, 0.3, 0.6]),
        ..ServiceTerms::plain(Course::constant(c))
    };
    let mut demand = Course::constant(calm);
    if chance.share() < 0.65 {
        let over = pick(&mut chance, &[0.0, 0.0, 30.0, 120.0]);
        demand = demand.glide(from, c * chance.between(1.3, 8.0), over).jump(until, calm);
    } else {
        let over = pick(&mut chance, &[0.0, 0.0, 30.0, 120.0]);
        service.capacity = service.capacity.glide(from, chance.between(0.3, 0.8) * calm, over).jump(until, c);
    }
    Scenario {
        law: law(max, scrape, interval),
        mode: ServiceMode::Enforce,
        service,
        metrics: MetricsTerms::plain(scrape),
        demand,
        length: 1_200,
        disturbance: (from, until),
        seed,
    }
}

#[test]
fn over_a_broad_mix_goodput_errors_and_refusals_are_what_the_design_promises() {
    let measure = |seed: u64| {
        let scenario = draw(seed);
        Measures::of(&run(&scenario), scenario.disturbance, scenario.law.errors)
    };
    let all: Vec<Measures> = (1..=SCENARIOS).map(measure).collect();
    let mean = Measures::mean(&all);
    println!("{mean:.2?}");
    assert!(mean.goodput >= 86.0, "{mean:.2?}");
    assert!(mean.passed <= 8.0, "{mean:.2?}");
    assert!(mean.refused_calm <= 2.0, "{mean:.2?}");
}
