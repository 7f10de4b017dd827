//! What this replica knows of a service's gate while the store can't be asked.
//!
//! Each replica looks at the gates about once a second. When the store doesn't answer a decision, the gate is asked here
//! instead: the last known limit, divided by the last known number of replicas, so that all of them together admit no
//! more than the limit. It goes where an abandoned limit goes ([`Governed::limit_at`]), by this machine's clock, counted
//! from when the store was heard last.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::clock::Timestamp;
use crate::descriptor::Hits;
use crate::rate::Rate;
use crate::window::{Charging, Counter, Enforcement, Gate, GateState, Governed, Member, Policy, Tally, decide};

/// One service's gate, as far as this replica knows it.
#[derive(Debug)]
pub struct LocalGate {
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    /// The limit for all replicas, dated by this machine's clock.
    governed: Governed,
    replicas: u32,
    /// What passed here while the store was away.
    share: Counter,
}

// === impl LocalGate ===

impl LocalGate {
    /// A gate of which nothing is known but where its limit begins.
    #[must_use]
    pub fn new(start: Rate, now: Timestamp) -> LocalGate {
        let governed = Gate { start, observed: false }.first_state(now).governed;
        LocalGate { known: Mutex::new(Known { governed, replicas: 1, share: Counter::Gate(None) }) }
    }

    /// Keeps what the store said at `now`, by this machine's clock: the limit, and how many replicas share it (none
    /// counts as one). `age_ms` is how old the limit was by the store's clock.
    pub fn learn(&self, governed: Governed, age_ms: u64, replicas: u32, now: Timestamp) {
        let written_at_ms = now.as_millis().saturating_sub(age_ms);
        let mut known = self.lock();
        known.governed = Governed { written_at_ms, ..governed };
        known.replicas = replicas.max(1);
    }

    /// The last known limit for all replicas together.
    #[must_use]
    pub fn limit(&self, now: Timestamp) -> Rate {
        self.lock().governed.limit_at(now)
    }

    /// Asks this replica's share of the gate, and charges it if there is room.
    pub fn ask(&self, observed: bool, hits: Hits, now: Timestamp) -> Tally {
        let mut known = self.lock();
        let share = |rate: Rate| Rate::from_millis(rate.millis() / u64::from(known.replicas));
        let governed =
            Governed { limit: share(known.governed.limit), toward: share(known.governed.toward), ..known.governed };
        let state = match &known.share {
            Counter::Gate(Some(state)) => state.governed_by(governed),
            _ => GateState::new(governed, now),
        };
        let mut counter = [Counter::Gate(Some(state))];
        let policy = Policy::Gate(Gate { start: governed.limit, observed });
        let member = Member { counter: 0, policy, hits, enforcement: Enforcement::Enforced };
        let tally = decide(&mut counter, &[member], Charging::AllOrNothing, now)[0];
        let [counter] = counter;
        known.share = counter;
        tally
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn governed(limit: u64, toward: u64) -> Governed {
        Governed {
            limit: Rate::from_millis(limit * 1_000),
            toward: Rate::from_millis(toward * 1_000),
            written_at_ms: 0,
            hold_ms: 600_000,
            decay_ms: 600_000,
            generation: 7,
        }
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_millis(1_000_000_000 + seconds * 1_000)
    }

    #[test]
    fn replicas_without_a_store_admit_no_more_than_the_limit_together() {
        let gates: Vec<LocalGate> = (0..4).map(|_| LocalGate::new(Rate::MAX, at(0))).collect();
        gates.iter().for_each(|gate| gate.learn(governed(100, 400), 0, 4, at(0)));
        let passed = |seconds: std::ops::Range<u64>| {
            let asked = seconds.flat_map(|second| (0..1_000).map(move |milli| (second, milli)));
            let all = asked.flat_map(|(second, milli)| gates.iter().map(move |gate| (gate, second, milli)));
            let now = |second: u64, milli: u64| Timestamp::from_millis(at(second).as_millis() + milli);
            all.filter(|(gate, second, milli)| gate.ask(false, Hits::Add(1), now(*second, *milli)).charged).count()
        };
        // The second's worth that each holds at first, and ten seconds.
        assert_eq!(passed(0..10), 100 + 1_000 - 4);
        // After holding and half of the way the limit is in the middle, and at its end it is where it should be.
        passed(899..900);
        let half = passed(900..910);
        assert!((2_500..=2_530).contains(&half), "{half}");
        assert_eq!(gates[0].limit(at(1_300)), Rate::from_per_second(400.0));
    }

    #[test]
    fn a_limit_goes_on_ageing_from_how_old_it_was() {
        let gate = LocalGate::new(Rate::MAX, at(0));
        gate.learn(governed(100, 400), 590_000, 1, at(0));
        assert_eq!(gate.limit(at(10)), Rate::from_per_second(100.0));
        assert_eq!(gate.limit(at(310)), Rate::from_per_second(250.0));
    }

    #[test]
    fn an_observed_gate_refuses_nobody() {
        let gate = LocalGate::new(Rate::MIN, at(0));
        assert!((0..10).all(|_| gate.ask(true, Hits::Add(1), at(0)).charged));
        assert!(!gate.ask(false, Hits::Add(1), at(0)).verdict.is_over(), "and takes nothing");
        assert!(gate.ask(false, Hits::Add(1), at(0)).verdict.is_over());
    }
}
