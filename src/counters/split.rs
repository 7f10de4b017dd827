//! Decisions whose counters lie in several places, of which each decides on its own: all or none, and never over.
//!
//! No place can undo what another refuses in the same step, so a decision over several takes two:
//!
//! ```text
//! look    at all places at once, charging nothing          one refuses: refused, and nothing was charged anywhere
//! charge  the place with the least room, then the others    one refuses: refused, the others' charges stay
//! ```
//! It is admitted only if every place has charged it: **never over**, whatever happens in between. What a refused decision
//! costs is what others took between its look and its charge: a place that filled up meanwhile refuses although it had
//! room, and since the fullest is asked first, the others are charged in vain only if two places fill up in the same
//! instant, or if a place gives no answer. Those hits stay until their window is over: **briefly under**.
//!
//! They are not given back, because a counter gives back its newest hits, and that may be somebody else's, charged
//! since: the log would then say of an admitted hit that it is older than it is, and forget it too early.
//!
//! **A look** is a decision that can't be made: in front of its counters stands one that admits nothing, so they answer
//! exactly what they would to a refused decision. A gate counts only what it refuses alone, so when nobody else refuses
//! its place is asked for its charge, which counts that.
//!
//! Where each counter is charged on its own there is no look: all places are asked at once, those of gates behind the
//! others.
//!
//! **Quotas** refuse only when all of them are over. Where they lie in several places each is asked as a shadow there,
//! which neither refuses nor is charged when it is over, and whether all are is decided here.

use std::future::Future;

use futures_util::TryFutureExt;
use futures_util::future::try_join_all;
use smallvec::SmallVec;

use super::{Charge, Charges, StoreError, Tallies};
use crate::descriptor::Hits;
use crate::limit::{Unit, Window};
use crate::window::{Charging, Enforcement, FixedWindow, Policy, Tally};

/// What one place holds of a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// Which place.
    pub(super) place: usize,
    /// The charges there.
    charges: Charges,
    /// Which of the decision's charges they are.
    indexes: SmallVec<[usize; 4]>,
}

/// Who refuses a decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    Nobody,
    /// Gates, and nobody else.
    Gates,
    Others,
}

/// The parts of a decision, in the order of their first charges.
pub(super) fn parts(charges: &Charges, place_of: impl Fn(&Charge) -> usize) -> Vec<Part> {
    let mut parts: Vec<Part> = Vec::new();
    for (index, charge) in charges.members.iter().enumerate() {
        let place = place_of(charge);
        let at = parts.iter().position(|part| part.place == place).unwrap_or_else(|| {
            let empty = Charges { members: SmallVec::new(), charging: charges.charging };
            parts.push(Part { place, charges: empty, indexes: SmallVec::new() });
            parts.len() - 1
        });
        parts[at].charges.members.push(charge.clone());
        parts[at].indexes.push(index);
    }
    let is_quota = |charge: &Charge| charge.enforcement == Enforcement::Quota;
    if parts.iter().filter(|part| part.charges.members.iter().any(is_quota)).count() > 1 {
        for charge in parts.iter_mut().flat_map(|part| &mut part.charges.members).filter(|charge| is_quota(charge)) {
            charge.enforcement = Enforcement::Shadow;
        }
    }
    parts
}

/// Makes a decision of several parts; `ask` asks a place.
pub(super) async fn decide<F>(
    charges: &Charges,
    parts: &[Part],
    ask: impl Fn(usize, &Charges) -> F,
) -> Result<Tallies, StoreError>
where
    F: Future<Output = Result<Tallies, StoreError>>,
{
    let charge = |part: &Part| ask(part.place, &part.charges);
    if charges.charging == Charging::Each {
        return each(charges, parts, &ask).await;
    }
    let look = |part: &Part| {
        ask(part.place, &part.look()).map_ok(|mut tallies| {
            tallies.remove(0);
            tallies
        })
    };
    let looks = try_join_all(parts.iter().map(look)).await?;
    let seen = together(charges, parts.iter().zip(looks.iter().cloned()));
    if charges.charging == Charging::OnlyOver {
        // Who is over is charged, and the others only if nobody is: as one place decides it, here for all of them.
        let mut asked = Charges { charging: Charging::Each, ..charges.clone() };
        if seen.iter().any(|tally| tally.verdict.is_over()) {
            for (charge, _) in asked.members.iter_mut().zip(&seen).filter(|(_, tally)| !tally.verdict.is_over()) {
                charge.hits = Hits::Add(0);
            }
        }
        return each(&asked, parts, &ask).await;
    }
    let refusal = refusal(&charges.members, &seen);
    if refusal == Refusal::Others {
        return Ok(seen);
    }
    let mut order: Vec<(&Part, f64)> = parts.iter().zip(&looks).map(|(part, look)| (part, part.room(look))).collect();
    // Where there is as much room everybody begins at the same place, so that two that meet don't keep each other out.
    order.sort_by(|one, other| one.1.total_cmp(&other.1).then(one.0.place.cmp(&other.0.place)));

    let (fullest, others) = order.split_first().expect("a decision has a part");
    let mut answers = seen.clone();
    let answer = charge(fullest.0).await?;
    let is_refused = fullest.0.refuses(&answer);
    fullest.0.put(&answer, &mut answers);
    if !is_refused {
        let rest = try_join_all(others.iter().map(|(part, _)| charge(part))).await?;
        for ((part, _), answer) in others.iter().zip(&rest) {
            part.put(answer, &mut answers);
        }
    }
    if self::refusal(&charges.members, &answers) != Refusal::Nobody {
        // A decision that was not made has charged nothing, as far as its caller is concerned.
        answers.iter_mut().for_each(|tally| tally.charged = false);
    }
    Ok(answers)
}

/// Charges each counter on its own. A gate counts who passes, so its place is asked when the others have answered.
async fn each<F>(charges: &Charges, parts: &[Part], ask: &impl Fn(usize, &Charges) -> F) -> Result<Tallies, StoreError>
where
    F: Future<Output = Result<Tallies, StoreError>>,
{
    let (gated, others): (Vec<&Part>, Vec<&Part>) = parts.iter().partition(|part| part.has_gate());
    let answers = try_join_all(others.iter().map(|part| ask(part.place, &part.of(charges)))).await?;
    let mut asked = charges.clone();
    let known = others.iter().zip(&answers).flat_map(|(part, answer)| part.indexes.iter().zip(answer));
    if are_refused(&charges.members, known) {
        for gate in asked.members.iter_mut().filter(|charge| matches!(charge.policy, Policy::Gate(_))) {
            gate.hits = Hits::Add(0);
        }
    }
    let of_gates = try_join_all(gated.iter().map(|part| ask(part.place, &part.of(&asked)))).await?;
    let others = others.into_iter().zip(answers);
    Ok(together(charges, others.chain(gated.into_iter().zip(of_gates))))
}

/// Whether the answers that are known already refuse, whatever the others will say.
fn are_refused<'t>(members: &[Charge], known: impl Iterator<Item = (&'t usize, &'t Tally)>) -> bool {
    let quotas = members.iter().filter(|charge| charge.enforcement == Enforcement::Quota).count();
    let mut quotas_over = 0;
    for (index, _) in known.filter(|(_, tally)| tally.verdict.is_over()) {
        match members[*index].enforcement {
            Enforcement::Enforced => return true,
            Enforcement::Quota => quotas_over += 1,
            Enforcement::Shadow => {}
        }
    }
    quotas > 0 && quotas_over == quotas
}

// === impl Part ===

impl Part {
    /// What is here of these charges, which are the decision's, perhaps with other hits.
    fn of(&self, charges: &Charges) -> Charges {
        let here = self.charges.members.iter().zip(&self.indexes);
        let members = here.map(|(charge, index)| Charge { hits: charges.members[*index].hits, ..charge.clone() });
        Charges { members: members.collect(), charging: charges.charging }
    }

    /// The same charges in a decision that can't be made.
    fn look(&self) -> Charges {
        let mut look = Charges { charging: Charging::AllOrNothing, ..self.charges.clone() };
        // Keys that others share are not ours to make up beside: one of them stands there itself, with a limit of 0.
        let (key, policy) = match look.members[0].policy {
            Policy::ReferenceWindow(window) => {
                (look.members[0].key.clone(), Policy::ReferenceWindow(window.with_limit(0)))
            }
            _ => {
                let nothing = FixedWindow::new(0, Window::from(Unit::Second));
                (look.members[0].key.of_nothing(), Policy::FixedWindow(nothing))
            }
        };
        look.members.insert(0, Charge { key, policy, hits: Hits::Add(1), enforcement: Enforcement::Enforced });
        look
    }

    fn has_gate(&self) -> bool {
        self.charges.members.iter().any(|charge| matches!(charge.policy, Policy::Gate(_)))
    }

    fn refuses(&self, answer: &Tallies) -> bool {
        refusal(&self.charges.members, answer) != Refusal::Nobody
    }

    /// The smallest share of a limit that is left. A gate doesn't say what is left, and is nearly always the one to
    /// refuse; what is only watched refuses nobody.
    fn room(&self, answer: &Tallies) -> f64 {
        let rooms = self.charges.members.iter().zip(answer).map(|(charge, tally)| match charge.policy {
            _ if charge.enforcement == Enforcement::Shadow => 1.0,
            Policy::Gate(_) => 0.0,
            policy => 1.0 - tally.used as f64 / policy.capacity().max(1) as f64,
        });
        rooms.fold(1.0, f64::min)
    }

    fn put(&self, answer: &Tallies, into: &mut Tallies) {
        for (index, tally) in self.indexes.iter().zip(answer) {
            into[*index] = *tally;
        }
    }
}

/// The answers of all parts in the order of the decision's charges.
fn together<'p>(charges: &Charges, answers: impl Iterator<Item = (&'p Part, Tallies)>) -> Tallies {
    let mut placed: SmallVec<[(usize, Tally); 4]> =
        answers.flat_map(|(part, answer)| part.indexes.clone().into_iter().zip(answer)).collect();
    placed.sort_by_key(|(index, _)| *index);
    debug_assert_eq!(placed.len(), charges.members.len(), "every charge is in one part");
    placed.into_iter().map(|(_, tally)| tally).collect()
}

/// Who refuses, by what each counter says.
fn refusal(members: &[Charge], tallies: &[Tally]) -> Refusal {
    let over = |wanted: Enforcement, gate: bool| {
        let asked = members.iter().zip(tallies);
        let asked = asked.filter(move |(charge, _)| {
            charge.enforcement == wanted && matches!(charge.policy, Policy::Gate(_)) == gate
        });
        asked.map(|(_, tally)| tally.verdict.is_over())
    };
    let mut quotas = over(Enforcement::Quota, false).peekable();
    if over(Enforcement::Enforced, false).any(|over| over) || (quotas.peek().is_some() && quotas.all(|over| over)) {
        return Refusal::Others;
    }
    if over(Enforcement::Enforced, true).any(|over| over) { Refusal::Gates } else { Refusal::Nobody }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use futures_util::FutureExt;
    use proptest::prelude::*;
    use tokio::time::Instant;

    use super::*;
    use crate::clock::SystemClock;
    use crate::counters::CounterStore;
    use crate::counters::memory::{MemoryLimits, MemoryStore};
    use crate::key::CounterKey;
    use crate::rate::Rate;
    use crate::window::Gate;

    const FAR: std::time::Duration = std::time::Duration::from_secs(60);

    fn store() -> MemoryStore {
        MemoryStore::new(SystemClock, MemoryLimits { keys_max: 1_000 })
    }

    fn charge(name: usize, hits: u64, limit: u32, enforcement: Enforcement) -> Charge {
        let mut key = CounterKey::write(b"split:", 1);
        key.value(&name.to_string());
        let policy = Policy::FixedWindow(FixedWindow::new(limit, Window::from(Unit::Year)));
        Charge { key: key.finish(), policy, hits: Hits::Add(hits), enforcement }
    }

    /// The number in a counter's name.
    fn number(charge: &Charge) -> usize {
        usize::from(charge.key.as_bytes().last().expect("it has a name") - b'0')
    }

    /// Whether the decision was made: what a caller concludes.
    fn is_made(charges: &Charges, tallies: &Tallies) -> bool {
        refusal(&charges.members, tallies) == Refusal::Nobody
    }

    fn over_places(places: &[MemoryStore], charges: &Charges) -> Tallies {
        let parts = parts(charges, |charge| number(charge) % places.len());
        let ask = |place: usize, charges: &Charges| places[place].charge(charges, Instant::now() + FAR);
        decide(charges, &parts, ask).now_or_never().expect("memory answers at once").expect("it answers")
    }

    fn decision() -> impl Strategy<Value = Charges> {
        let enforcement = prop::sample::select(vec![Enforcement::Enforced, Enforcement::Quota, Enforcement::Shadow]);
        let member = (0..6_usize, 0..4_u64, enforcement);
        let members = prop::collection::vec(member, 1..6);
        let charging = prop::sample::select(vec![Charging::AllOrNothing, Charging::AllOrNothing, Charging::Each]);
        (members, charging).prop_map(|(members, charging)| {
            let members = members.into_iter().map(|(name, hits, enforcement)| charge(name, hits, 5, enforcement));
            Charges { members: members.collect(), charging }
        })
    }

    proptest! {
        #[test]
        fn one_after_the_other_decisions_over_several_places_are_those_of_one(
            decisions in prop::collection::vec(decision(), 1..30), places in 1..4_usize,
        ) {
            let (one, several) = (store(), (0..places).map(|_| store()).collect::<Vec<_>>());
            for charges in decisions {
                let alone = one.charge(&charges, Instant::now() + FAR).now_or_never().expect("at once").expect("it answers");
                let tallies = over_places(&several, &charges);
                let told = |tallies: &Tallies| tallies.iter().map(|t| (t.verdict, t.charged, t.used)).collect::<Vec<_>>();
                prop_assert_eq!(told(&tallies), told(&alone), "{:?}", charges);
            }
        }
    }

    #[test]
    fn where_only_who_is_over_is_charged_each_is_charged_once_and_the_others_of_all_places_are_spared() {
        let places = [store(), store()];
        let only_over = |members: Vec<Charge>| Charges { members: members.into(), charging: Charging::OnlyOver };
        let both = || vec![charge(0, 1, 1, Enforcement::Enforced), charge(1, 1, 9, Enforcement::Enforced)];
        let used = |tallies: &Tallies| tallies.iter().map(|tally| tally.used).collect::<Vec<_>>();
        assert_eq!(used(&over_places(&places, &only_over(both()))), [1, 1], "nobody is over");
        assert_eq!(used(&over_places(&places, &only_over(both()))), [2, 1], "one is");
        assert_eq!(used(&over_places(&places, &only_over(both()))), [3, 1]);
        let mut back = both();
        back[0].hits = Hits::GiveBack(2);
        assert_eq!(used(&over_places(&places, &only_over(back))), [1, 2], "given back once");
    }

    #[test]
    fn a_gate_counts_nobody_whom_a_rule_of_another_place_refuses_however_rules_are_charged() {
        for charging in [Charging::AllOrNothing, Charging::Each, Charging::OnlyOver] {
            let places = [store(), store()];
            let mut gate = charge(0, 1, 0, Enforcement::Enforced);
            gate.policy = Policy::Gate(Gate { start: Rate::from_millis(9_000), observed: false });
            let members = [gate.clone(), charge(1, 1, 2, Enforcement::Enforced)];
            let charges = Charges { members: members.into_iter().collect(), charging };
            let made: Vec<bool> = (0..4).map(|_| is_made(&charges, &over_places(&places, &charges))).collect();
            assert_eq!(made, [true, true, false, false], "{charging:?}");
            let state = places[0].gate(&gate.key).expect("it was passed");
            assert_eq!((state.admitted, state.refused), (2, 0), "{charging:?}");
        }
    }

    #[test]
    fn a_place_that_fills_up_after_the_look_makes_no_admission() {
        let places = Arc::new([store(), store()]);
        let members = [charge(0, 1, 1, Enforcement::Enforced), charge(1, 1, 3, Enforcement::Enforced)];
        let charges = Charges { members: members.into_iter().collect(), charging: Charging::AllOrNothing };
        let parts = parts(&charges, number);
        let filled = AtomicBool::new(false);
        let ask = |place: usize, charges: &Charges| {
            let is_charge = charges.members.len() == 1;
            if is_charge && !filled.swap(true, Ordering::Relaxed) {
                // Somebody else was quicker in the fuller place.
                let other = Charges { members: charges.members.clone(), charging: Charging::AllOrNothing };
                drop(places[0].charge(&other, Instant::now() + FAR).now_or_never());
            }
            places[place].charge(charges, Instant::now() + FAR)
        };
        let tallies = decide(&charges, &parts, ask).now_or_never().expect("at once").expect("it answers");
        assert!(!is_made(&charges, &tallies) && tallies.iter().all(|tally| !tally.charged));
        let look = Charges { members: [charge(1, 0, 3, Enforcement::Enforced)].into_iter().collect(), ..charges };
        let left = places[1].charge(&look, Instant::now() + FAR).now_or_never().expect("at once").expect("it answers");
        assert_eq!(left[0].used, 0, "the emptier place was not charged: the fuller one was asked first");
    }
}
