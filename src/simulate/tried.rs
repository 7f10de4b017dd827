//! A service of the rule files that is tried: its law as a server would have it, and a story where nobody tells one.
//!
//! Over a plant it is tried as if its limit were enforced, whatever its mode: who only observes wants to know what
//! enforcing does.

use std::time::Duration;

use super::plant::{Course, MetricsTerms, ServiceTerms};
use super::run::Scenario;
use super::scenario::Named;
use crate::control::law::Law;
use crate::prometheus::SCRAPE_USUAL;
use crate::rate::Rate;
use crate::rules::service::{Service, ServiceMode};

/// What the rule files say of a service, as the law needs it.
#[derive(Clone, Debug, PartialEq)]
pub struct Tried {
    /// Its name.
    pub name: String,
    /// Its law.
    pub law: Law,
    /// From which time on an answer is slow, in seconds.
    pub slow_above: f64,
    /// What was assumed, one sentence each.
    pub notes: Vec<String>,
}

/// What a service is tried over: what there is to be said of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// A plant, where its limit is enforced.
    Plant,
    /// Counters that were recorded.
    Counters,
    /// Its ticks that were recorded, with the scrape interval of then.
    Ticks,
    /// Its own Prometheus.
    Server,
}

/// From which time on an answer is slow where that isn't judged, in seconds.
const SLOW_ABOVE_S: f64 = 0.25;

/// The story where nobody tells one: its length and what of it is disturbed, in seconds.
const LENGTH_S: u32 = 1_200;
const DISTURBED_S: (f64, f64) = (300.0, 660.0);

/// How long the way back takes in it, in seconds.
const BACK_OVER_S: f64 = 60.0;

/// The demand in it, as a share of the capacity.
const DEMAND: f64 = 0.84;

// === impl Tried ===

impl Tried {
    /// The law of a service whose metrics are scraped every `scrape` seconds, where that is known.
    #[must_use]
    pub fn of(service: &Service, scrape: Option<f64>, over: Over) -> Tried {
        let mut notes = vec![format!("the service is that of {}", service.place)];
        let usual = SCRAPE_USUAL.as_secs_f64();
        let scrape = service.scrape_interval.map(|interval| interval.as_secs_f64()).or(scrape).unwrap_or_else(|| {
            let why_and_instead = match over {
                Over::Plant | Over::Counters => {
                    Some(("nothing can be measured here", "a scenario says another with metrics.scrape_interval"))
                }
                Over::Server => Some(("could not be measured", "the service's scrape_interval says another")),
                Over::Ticks => None,
            };
            notes.extend(why_and_instead.map(|(why, instead)| {
                format!("its scrape_interval is auto and {why}: {usual} s are taken; {instead}")
            }));
            usual
        });
        if over == Over::Plant && service.mode != ServiceMode::Enforce {
            notes.push(format!("its mode is {}; here its limit is enforced", service.mode.name()));
        }
        let scrape = Duration::from_secs_f64(scrape);
        let slow_above = service.targets.latency.map_or(SLOW_ABOVE_S, |latency| latency.above.as_secs_f64());
        Tried { name: service.name.to_string(), law: Law::of(service, scrape), slow_above, notes }
    }
}

/// A service in the story that is told where there is no scenario: it can do half of its upper bound, loses half of that
/// for five minutes, and is asked for a little less than it can do.
#[must_use]
pub fn story(service: &Service) -> Named {
    let Tried { name, law, slow_above, mut notes } = Tried::of(service, None, Over::Plant);
    let capacity = law.max / 2.0;
    let demand = DEMAND * capacity;
    let (from, until) = (DISTURBED_S.0, DISTURBED_S.1 - BACK_OVER_S);
    notes.push(format!(
        "no scenario is given: the service can do {} (half of its max), loses half of that from {from} to {until} s, and \
         is asked for {}",
        Rate::from_per_second(capacity),
        Rate::from_per_second(demand)
    ));
    let course = Course::constant(capacity).jump(from, capacity / 2.0).glide(until, capacity, BACK_OVER_S);
    let plant = ServiceTerms { slow_above, ..ServiceTerms::plain(course) };
    let scenario = Scenario {
        metrics: MetricsTerms::plain(law.scrape),
        law,
        mode: ServiceMode::Enforce,
        service: plant,
        demand: Course::constant(demand),
        length: LENGTH_S,
        disturbance: DISTURBED_S,
        seed: 1,
    };
    Named { name, scenario, notes }
}
