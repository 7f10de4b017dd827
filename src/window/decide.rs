//! Several counters, one decision.
//!
//! The members are asked in order, and each sees what those before it did. Then the decision is made: it is refused
//! if an enforced member is over, or if all members of a quota are and there is one. A refused decision under
//! [`Charging::AllOrNothing`] writes nothing at all: no hits, no give-backs, and no state is even brought up to date.
//!
//! Gates come after the others of their decision, and each at most once. They are looked at, and charged when the
//! decision is known: by one that passes, whatever the charging; one that gates alone refuse is counted there.

use smallvec::SmallVec;

use super::{Counter, HITS_MAX, NOW_MAX, Policy, Standing, Tally, Verdict};
use crate::clock::Timestamp;
use crate::descriptor::Hits;

/// How the charges of one decision depend on each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Charging {
    /// A refused decision is charged to none of its counters; one that passes, to all that have room. Hits that are
    /// given back go the same way: a refused decision gives nothing back.
    #[default]
    AllOrNothing,
    /// Every counter is charged on its own, whatever the others say: the reference service's way. A fixed window is
    /// then charged even when it is over, as there.
    Each,
    /// The same, but if a counter is over only those that are over are charged: the reference service's way where it is
    /// told to stop counting (`STOP_CACHE_KEY_INCREMENT_WHEN_OVERLIMIT`). Which are over is asked before anything is
    /// charged, of each charge as if it were alone.
    OnlyOver,
}

/// What it means for the decision when a counter is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Enforcement {
    /// The decision is refused.
    Enforced,
    /// The decision is refused if all its counters of this kind are over (`quota_mode`).
    Quota,
    /// Nothing: the decision may pass, and this counter isn't charged then (`shadow_mode`).
    Shadow,
}

/// One charge of a decision: which counter (an index, so that one counter can be charged twice), how it counts, how
/// much, and what it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Which of the counters, by its place in the slice.
    pub counter: usize,
    /// How it counts.
    pub policy: Policy,
    /// How much.
    pub hits: Hits,
    /// What it means for the decision when it is over.
    pub enforcement: Enforcement,
}

/// What came of a decision: a tally per member, and which counters were written.
#[derive(Debug)]
pub(crate) struct Decided {
    pub(crate) tallies: SmallVec<[Tally; 4]>,
    /// Per counter. The other counters' states are scratch.
    pub(crate) written: SmallVec<[bool; 8]>,
}

// === impl Member ===

impl Member {
    fn is_gate(&self) -> bool {
        matches!(self.policy, Policy::Gate(_))
    }
}

/// Decides, charges, and says what every member's counter answered, in the members' order.
///
/// `counters` change only where a tally says `charged`. After a refusal, `used` is what the counters really hold, and
/// the reset of a member that had room is that of the uncharged counter; a member that was over keeps the time after
/// which it would have fitted behind the members before it.
///
/// # Panics
/// When a member's index is outside `counters`.
pub fn decide(
    counters: &mut [Counter],
    members: &[Member],
    charging: Charging,
    now: Timestamp,
) -> SmallVec<[Tally; 4]> {
    let mut scratch: SmallVec<[Counter; 2]> = counters.iter().cloned().collect();
    let decided = decide_on_copies(&mut scratch, members, charging, now);
    for ((counter, scratch), written) in counters.iter_mut().zip(scratch).zip(decided.written) {
        if written {
            *counter = scratch;
        }
    }
    decided.tallies
}

/// [`decide()`] on states that the caller throws away unless they are said to be written.
pub(crate) fn decide_on_copies(
    counters: &mut [Counter],
    members: &[Member],
    charging: Charging,
    now: Timestamp,
) -> Decided {
    let now = now.min(NOW_MAX);
    let forms = shared_forms(counters.len(), members);
    let mut standings: SmallVec<[Option<Standing>; 8]> = SmallVec::from_elem(None, counters.len());
    let mut written: SmallVec<[bool; 8]> = SmallVec::from_elem(false, counters.len());
    let mut tallies: SmallVec<[Tally; 4]> = SmallVec::with_capacity(members.len());
    let spared = if charging == Charging::OnlyOver { spared(counters, members, &forms, now) } else { SmallVec::new() };
    for (at, member) in members.iter().enumerate() {
        if let Policy::Gate(gate) = &member.policy {
            // Looked at now, charged when the decision is known.
            let tally = gate.look(gate.settled(&mut counters[member.counter], now), member.hits, now);
            standings[member.counter].get_or_insert(Standing { used: tally.used, room_after_ms: 0 });
            tallies.push(tally);
            continue;
        }
        let policy = forms[member.counter].map_or(member.policy, |form| member.policy.sharing_form_with(&form));
        let counter = &mut counters[member.counter];
        let standing = policy.settle(counter, now);
        standings[member.counter].get_or_insert(standing);
        let hits = if spared.get(at) == Some(&true) { Hits::Add(0) } else { member.hits };
        let tally = policy.charge(counter, hits, charging, now);
        written[member.counter] |= tally.charged;
        tallies.push(tally);
    }
    let (refused_by_gates, refused_by_others) =
        (is_refused(members, &tallies, true), is_refused(members, &tallies, false));
    let refused = refused_by_gates || refused_by_others;
    if charging == Charging::AllOrNothing && refused {
        written.fill(false);
        for (member, tally) in members.iter().zip(&mut tallies).filter(|(member, _)| !member.is_gate()) {
            let standing = standings[member.counter].expect("every member's counter was settled above");
            tally.charged = false;
            tally.used = standing.used;
            if tally.verdict == Verdict::Within {
                tally.reset_after_ms = standing.room_after_ms;
            }
        }
    }
    for (member, tally) in members.iter().zip(&mut tallies) {
        let Policy::Gate(gate) = &member.policy else { continue };
        let state = gate.settled(&mut counters[member.counter], now);
        if !refused {
            tally.charged = gate.admit(state, member.hits, now);
            written[member.counter] |= tally.charged;
        } else if !refused_by_others && tally.verdict.is_over() {
            written[member.counter] |= gate.refuse(state, member.hits);
        }
        if tally.verdict == Verdict::Within {
            tally.reset_after_ms = gate.full_after_ms(state, now);
        }
    }
    Decided { tallies, written }
}

/// Per member, whether it is not charged because others are over; empty if none is.
fn spared(counters: &[Counter], members: &[Member], forms: &[Option<Policy>], now: Timestamp) -> SmallVec<[bool; 8]> {
    let mut settled: Vec<Option<Counter>> = vec![None; counters.len()];
    let over = members.iter().map(|member| {
        if member.is_gate() {
            return false;
        }
        let policy = forms[member.counter].map_or(member.policy, |form| member.policy.sharing_form_with(&form));
        // As the charges will find it: settled by the first of them, then by their own policy.
        let first = settled[member.counter].get_or_insert_with(|| {
            let mut counter = counters[member.counter].clone();
            policy.settle(&mut counter, now);
            counter
        });
        let mut counter = first.clone();
        policy.settle(&mut counter, now);
        matches!(member.hits, Hits::Add(hits) if policy.would_be_over(&counter, hits.min(HITS_MAX)))
    });
    let over: SmallVec<[bool; 8]> = over.collect();
    if !over.contains(&true) {
        return SmallVec::new();
    }
    let spared = |(member, over): (&Member, &bool)| !over && matches!(member.hits, Hits::Add(_));
    members.iter().zip(&over).map(spared).collect()
}

/// Whether the answers of gates, or those of all others, refuse the decision.
fn is_refused(members: &[Member], tallies: &[Tally], gates: bool) -> bool {
    let over = |wanted: Enforcement| {
        members
            .iter()
            .zip(tallies)
            .filter(move |(member, _)| member.enforcement == wanted && member.is_gate() == gates)
            .map(|(_, t)| t.verdict.is_over())
    };
    over(Enforcement::Enforced).any(|over| over)
        || (over(Enforcement::Quota).count() > 0 && over(Enforcement::Quota).all(|over| over))
}

/// Per counter, the form in which all members that charge it can keep it.
fn shared_forms(counters: usize, members: &[Member]) -> SmallVec<[Option<Policy>; 4]> {
    let mut forms: SmallVec<[Option<Policy>; 4]> = SmallVec::from_elem(None, counters);
    for member in members {
        let form = &mut forms[member.counter];
        *form = Some(form.map_or(member.policy, |form| form.sharing_form_with(&member.policy)));
    }
    forms
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limit::{Unit, Window};
    use crate::window::{FixedWindow, Precision, SlidingWindow};

    const HOUR_MS: u64 = 3_600_000;

    fn fixed(limit: u32) -> Policy {
        Policy::FixedWindow(FixedWindow::new(limit, Window::from(Unit::Hour)))
    }

    fn sliding(limit: u32) -> Policy {
        Policy::SlidingWindow(SlidingWindow::new(limit, Window::from(Unit::Hour), Precision::DEFAULT))
    }

    fn member(counter: usize, policy: Policy, hits: u64, enforcement: Enforcement) -> Member {
        Member { counter, policy, hits: Hits::Add(hits), enforcement }
    }

    /// Runs the same decision several times in one hour and says per run and member `within` or `over`, and what is
    /// used; `*` stands for a charge.
    fn check(members: &[Member], charging: Charging, expected: &[&str]) {
        let now = Timestamp::from_millis(100 * HOUR_MS + 1);
        let counters = members.iter().map(|member| member.counter + 1).max().unwrap_or(0);
        let mut counters: Vec<Counter> = (0..counters)
            .map(|at| members.iter().find(|member| member.counter == at).unwrap().policy.empty_counter())
            .collect();
        for (run, expected) in expected.iter().enumerate() {
            let tallies = decide(&mut counters, members, charging, now);
            let said: Vec<String> = tallies
                .iter()
                .map(|tally| {
                    let verdict = format!("{:?}", tally.verdict).to_lowercase();
                    format!("{verdict} {}{}", tally.used, if tally.charged { "*" } else { "" })
                })
                .collect();
            assert_eq!(said.join(", "), *expected, "in run {run}");
        }
    }

    #[test]
    fn a_refused_decision_is_charged_to_none() {
        let (tight, wide) =
            (member(0, sliding(2), 1, Enforcement::Enforced), member(1, sliding(10), 1, Enforcement::Enforced));
        check(
            &[wide, tight],
            Charging::AllOrNothing,
            &["within 1*, within 1*", "within 2*, within 2*", "within 2, over 2", "within 2, over 2"],
        );
    }

    #[test]
    fn charged_each_on_its_own_a_fixed_window_counts_as_the_reference_does() {
        let members = [member(0, fixed(2), 1, Enforcement::Enforced), member(1, fixed(10), 1, Enforcement::Enforced)];
        let expected = ["within 1*, within 1*", "within 2*, within 2*", "over 3*, within 3*", "over 4*, within 4*"];
        check(&members, Charging::Each, &expected);
        // One counter twice: the second sees the first.
        let twice = [member(0, fixed(3), 1, Enforcement::Enforced), member(0, fixed(3), 1, Enforcement::Enforced)];
        check(&twice, Charging::Each, &["within 1*, within 2*", "within 3*, over 4*"]);
        check(&twice, Charging::AllOrNothing, &["within 1*, within 2*", "within 2, over 2"]);
        // More than the limit at once still counts.
        check(&[member(0, fixed(3), 5, Enforcement::Enforced)], Charging::Each, &["never 5*", "never 10*"]);
        check(&[member(0, sliding(3), 2, Enforcement::Enforced)], Charging::Each, &["within 2*", "over 2"]);
    }

    #[test]
    fn a_quota_refuses_when_all_of_it_is_over_and_shadows_never_do() {
        let quotas = [member(0, fixed(1), 1, Enforcement::Quota), member(1, fixed(2), 1, Enforcement::Quota)];
        check(&quotas, Charging::AllOrNothing, &["within 1*, within 1*", "over 1, within 2*", "over 1, over 2"]);
        let with_rule = [member(0, fixed(1), 1, Enforcement::Quota), member(1, fixed(9), 1, Enforcement::Enforced)];
        check(&with_rule, Charging::AllOrNothing, &["within 1*, within 1*", "over 1, within 1"]);
        let shadow = [member(0, fixed(1), 1, Enforcement::Shadow), member(1, fixed(9), 1, Enforcement::Enforced)];
        check(&shadow, Charging::AllOrNothing, &["within 1*, within 1*", "over 1, within 2*"]);
    }

    #[test]
    fn a_refused_decision_gives_nothing_back() {
        let now = Timestamp::from_millis(100 * HOUR_MS);
        let mut counters = [sliding(5).empty_counter(), sliding(5).empty_counter()];
        let members =
            [member(0, sliding(5), 5, Enforcement::Enforced), member(1, sliding(5), 5, Enforcement::Enforced)];
        decide(&mut counters, &members, Charging::AllOrNothing, now);
        let before = counters.clone();
        let give_back = Member { hits: Hits::GiveBack(2), ..members[0] };
        let tallies = decide(&mut counters, &[give_back, members[1]], Charging::AllOrNothing, now);
        assert_eq!((tallies[0].charged, tallies[0].used), (false, 5));
        assert_eq!(counters, before);
        let passed = decide(&mut counters, &[give_back, members[0]], Charging::AllOrNothing, now);
        assert_eq!(passed[1].verdict, Verdict::Over, "5 do not fit into the 2 that came back");
        let passed = decide(
            &mut counters,
            &[give_back, Member { hits: Hits::Add(2), ..members[0] }],
            Charging::AllOrNothing,
            now,
        );
        assert_eq!((passed[0].used, passed[1].used), (3, 5));
    }
}
