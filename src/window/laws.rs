//! What the three algorithms promise, checked by brute force over random histories.
//!
//! Real time runs on; the clock that decisions are dated by is set back now and then. A plain list of what was admitted
//! and when, in real time, is the judge.

use proptest::prelude::*;

use super::{Algorithm, Charging, Counter, Enforcement, FixedWindow, Member, Policy, Precision, SlidingWindow, Tally};
use super::{TokenBucket, Verdict, decide};
use crate::clock::Timestamp;
use crate::descriptor::Hits;
use crate::limit::Window;

const START_US: u64 = 1_700_000_000_000_321;

/// One step of a history: how long after the one before, in thousandths of a window and microseconds; how far the
/// clock is set back before, in thousandths of a window; and the charge.
type Step = (u64, u64, u64, Hits);

fn any_step(hits_max: u64) -> impl Strategy<Value = Step> {
    let wait =
        prop_oneof![3 => Just(0_u64), 6 => 0..60_u64, 2 => 400..600_u64, 3 => 980..1_020_u64, 1 => 1_500..3_000_u64];
    let back = prop_oneof![30 => Just(0_u64), 1 => 0..50_u64, 1 => 900..2_500_u64];
    let hits = prop_oneof![
        8 => (1..=hits_max).prop_map(Hits::Add),
        4 => Just(Hits::Add(1)),
        1 => Just(Hits::Add(0)),
        1 => Just(Hits::Add(u64::MAX)),
        2 => (0..=hits_max).prop_map(Hits::GiveBack),
    ];
    (wait, prop_oneof![2 => Just(0_u64), 1 => 0..2_000_u64], back, hits)
}

/// Hits by the real instant of their admission, µs.
#[derive(Debug, Default)]
struct Admitted(Vec<(u64, u64)>);

impl Admitted {
    fn take_newest(&mut self, mut hits: u64) {
        while let Some((_, held)) = self.0.last_mut() {
            let taken = hits.min(*held);
            (*held, hits) = (*held - taken, hits - taken);
            if *held > 0 {
                return;
            }
            self.0.pop();
        }
    }

    fn since(&self, instant_us: u64) -> u64 {
        self.0.iter().filter(|(at, _)| *at >= instant_us).map(|(_, hits)| hits).sum()
    }
}

/// Runs a history over one counter and shows every step's outcome to `judge`: real instant, clock, policy, tally, and
/// what was admitted so far, this step included.
fn run(
    millis: u64,
    steps: &[Step],
    policy_at: impl Fn(usize) -> Policy,
    mut judge: impl FnMut(u64, Timestamp, &Counter, &Policy, Hits, Tally, &Admitted) -> Result<(), TestCaseError>,
) -> Result<(), TestCaseError> {
    let (mut real_us, mut behind_us) = (START_US, 0);
    let mut counter = [policy_at(0).empty_counter()];
    let mut admitted = Admitted::default();
    for (number, (wait, micros, back, hits)) in steps.iter().enumerate() {
        real_us += wait * millis + micros;
        behind_us += back * millis;
        let now = Timestamp::from_micros(real_us - behind_us);
        let policy = policy_at(number);
        let before = counter[0].clone();
        let tally = charge(&mut counter, policy, *hits, now);
        match hits {
            Hits::Add(hits) if tally.charged => admitted.0.push((real_us, *hits)),
            Hits::Add(_) => prop_assert_eq!(&counter[0], &before, "an uncharged hit leaves no trace"),
            Hits::GiveBack(hits) => admitted.take_newest(*hits),
        }
        judge(real_us, now, &before, &policy, *hits, tally, &admitted)?;
    }
    Ok(())
}

fn charge(counter: &mut [Counter], policy: Policy, hits: Hits, now: Timestamp) -> Tally {
    let member = Member { counter: 0, policy, hits, enforcement: Enforcement::Enforced };
    decide(counter, &[member], Charging::AllOrNothing, now)[0]
}

/// Over means: exactly then it fits, and not a millisecond earlier. Only where a log is about to change its tick may it
/// be a tick off: how a pair is rounded then depends on when the log is first written in the new form.
fn reset_is_exact(
    before: &Counter,
    policy: Policy,
    hits: Hits,
    tally: Tally,
    now: Timestamp,
    form_is_kept: bool,
) -> Result<(), TestCaseError> {
    let at = |millis: u64| {
        let now = Timestamp::from_micros(now.as_micros() + millis * 1_000);
        charge(&mut [before.clone()], policy, hits, now).verdict
    };
    match tally.verdict {
        Verdict::Over => {
            prop_assert!(tally.reset_after_ms > 0);
            if form_is_kept {
                prop_assert_eq!(at(tally.reset_after_ms), Verdict::Within);
                prop_assert_eq!(at(tally.reset_after_ms - 1), Verdict::Over);
            }
        }
        Verdict::Never => prop_assert_eq!(at(tally.reset_after_ms + 1_000_000), Verdict::Never),
        Verdict::Within => {}
    }
    Ok(())
}

fn window(millis: u64) -> Window {
    Window::from_millis(millis).unwrap()
}

const WINDOWS_MS: [u64; 7] = [1, 10, 249, 1_000, 61_003, 3_600_000, 40 * 86_400_000];

fn any_window() -> impl Strategy<Value = u64> {
    prop::sample::select(&WINDOWS_MS[..])
}

fn any_sliding() -> impl Strategy<Value = (u32, u32)> {
    let limit = prop_oneof![4 => 1..10_u32, 3 => 50..80_u32, 2 => 100..2_000_u32, 1 => 60_000..70_000_u32];
    (limit, prop_oneof![4 => Just(64_u32), 1 => 1..30_u32, 1 => Just(249), 1 => Just(1_024)])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_interval_of_a_windows_length_holds_more_than_the_limit(
        millis in any_window(),
        policies in prop::collection::vec(any_sliding(), 1..5),
        every in 1..40_usize,
        steps in prop::collection::vec(any_step(40), 1..200),
    ) {
        let policy_at = |number: usize| {
            let (limit, precision) = policies[number / every % policies.len()];
            Policy::SlidingWindow(SlidingWindow::new(limit, window(millis), Precision::try_new(precision).unwrap()))
        };
        run(millis, &steps, policy_at, |real_us, now, before, policy, hits, tally, admitted| {
            if matches!(hits, Hits::Add(_)) && tally.charged {
                // Both ends belong to the interval: that is stricter than any window of real numbers.
                prop_assert!(admitted.since(real_us - millis * 1_000) <= policy.capacity());
            }
            reset_is_exact(before, *policy, hits, tally, now, policies.len() == 1)
        })?;
    }

    #[test]
    fn room_comes_back_at_most_one_tick_late(
        millis in any_window(),
        (limit, precision) in any_sliding(),
        steps in prop::collection::vec(any_step(40), 1..200),
    ) {
        let policy = SlidingWindow::new(limit, window(millis), Precision::try_new(precision).unwrap());
        let steps: Vec<Step> = steps.into_iter().map(|(wait, micros, _, hits)| (wait, micros, 0, hits)).collect();
        run(millis, &steps, |_| Policy::SlidingWindow(policy), |real_us, _, _, _, hits, tally, admitted| {
            if let (Hits::Add(hits), Verdict::Over) = (hits, tally.verdict) {
                let late_us = (u64::from(policy.tick_ms()) + 1) * 1_000;
                prop_assert!(admitted.since(real_us - millis * 1_000 - late_us) + hits > u64::from(limit));
            }
            Ok(())
        })?;
    }

    #[test]
    fn a_log_stays_within_its_ticks(
        millis in any_window(),
        (limit, precision) in any_sliding(),
        steps in prop::collection::vec((0..40_u64, Just(0), Just(0), Just(Hits::Add(1))), 1..400),
    ) {
        let policy = SlidingWindow::new(limit, window(millis), Precision::try_new(precision).unwrap());
        let pair_bytes = [3, 5, 5, 7][usize::from(policy.pair_format()) - 1];
        run(millis, &steps, |_| Policy::SlidingWindow(policy), |_, _, before, _, _, _, _| {
            let bytes = before.with_packed(<[u8]>::len);
            let pairs_max = u64::from(limit).min(millis.div_ceil(u64::from(policy.tick_ms())) + 1);
            prop_assert!(bytes as u64 <= 19 + pairs_max * pair_bytes);
            let back = Policy::SlidingWindow(policy).decode_counter(&before.with_packed(<[u8]>::to_vec));
            prop_assert_eq!(back.is_none(), bytes == 0, "what is written can be read");
            Ok(())
        })?;
    }

    #[test]
    fn a_fixed_window_holds_its_limit_between_two_edges(
        millis in any_window(),
        limits in prop::collection::vec(0..60_u32, 1..4),
        steps in prop::collection::vec(any_step(40), 1..200),
    ) {
        let policy_at = |number: usize| Policy::FixedWindow(FixedWindow::new(limits[number % limits.len()], window(millis)));
        run(millis, &steps, policy_at, |real_us, now, _, policy, hits, tally, admitted| {
            // What the clock reads tells the edge only while it was never set back.
            if real_us == now.as_micros() && matches!(hits, Hits::Add(_)) && tally.charged {
                let edge_us = real_us / (millis * 1_000) * millis * 1_000;
                prop_assert!(admitted.since(edge_us) <= policy.capacity());
            }
            if real_us == now.as_micros() {
                prop_assert_eq!(tally.reset_after_ms, millis - now.as_millis() % millis);
            }
            Ok(())
        })?;
    }

    #[test]
    fn a_bucket_lets_no_more_through_than_its_burst_and_its_rate(
        millis in any_window(),
        limit in prop_oneof![1..100_u32, 1_000..5_000_u32, Just(u32::MAX)],
        burst in prop_oneof![0..100_u32, Just(4_000_000_000)],
        steps in prop::collection::vec(any_step(40), 1..120),
    ) {
        let policy = TokenBucket::new(limit, window(millis), burst);
        let steps: Vec<Step> = steps.into_iter().filter(|step| matches!(step.3, Hits::Add(_))).collect();
        run(millis, &steps, |_| Policy::TokenBucket(policy), |real_us, now, before, policy, hits, tally, admitted| {
            let mut passed = 0;
            for (at, hits) in admitted.0.iter().rev().filter(|_| tally.charged) {
                passed += u128::from(*hits);
                let refilled = u128::from(limit) * u128::from(real_us - at);
                let per_window = u128::from(millis) * 1_000;
                prop_assert!(passed * per_window <= u128::from(burst) * per_window + refilled);
            }
            reset_is_exact(before, *policy, hits, tally, now, true)
        })?;
    }

    #[test]
    fn a_bucket_gives_all_that_its_rate_promises(
        millis in any_window(),
        limit in 1..5_000_u32,
        burst in 1..5_000_u32,
        waits in prop::collection::vec(0..3_000_u64, 1..80),
    ) {
        // The same law with an unreduced fraction and numbers that never overflow.
        let policy = TokenBucket::new(limit, window(millis), burst);
        let cost = u128::from(millis) * 1_000;
        let (mut debt, mut at) = (0_u128, START_US);
        let steps: Vec<Step> = waits.iter().map(|wait| (wait % 40, wait * 7, 0, Hits::Add(wait % 5 + 1))).collect();
        run(millis, &steps, |_| Policy::TokenBucket(policy), |real_us, _, _, _, hits, tally, _| {
            let Hits::Add(hits) = hits else { return Ok(()) };
            debt = debt.saturating_sub(u128::from(real_us - at) * u128::from(limit));
            at = real_us;
            let fits = debt + u128::from(hits) * cost <= u128::from(burst) * cost;
            debt += if fits { u128::from(hits) * cost } else { 0 };
            prop_assert_eq!(tally.verdict == Verdict::Within, fits);
            prop_assert_eq!(u128::from(tally.used), debt.div_ceil(cost));
            Ok(())
        })?;
    }

    #[test]
    fn a_changed_rate_keeps_the_tokens_that_are_out(
        millis in any_window(),
        rates in prop::collection::vec((1..u32::MAX, 1..100_000_u32), 2..6),
        hits in 1..100_u64,
    ) {
        let now = Timestamp::from_micros(START_US);
        let buckets: Vec<TokenBucket> =
            rates.iter().map(|(limit, burst)| TokenBucket::new(*limit, window(millis), *burst)).collect();
        let hits = hits.min(u64::from(buckets[0].burst()));
        let mut counter = [Policy::TokenBucket(buckets[0]).empty_counter()];
        prop_assert_eq!(charge(&mut counter, Policy::TokenBucket(buckets[0]), Hits::Add(hits), now).used, hits);
        for bucket in buckets {
            prop_assert_eq!(charge(&mut counter, Policy::TokenBucket(bucket), Hits::Add(0), now).used, hits);
        }
    }

    #[test]
    fn whatever_is_asked_of_a_decision_it_answers(
        millis in prop_oneof![Just(1), Just(Window::MILLIS_MAX), 1..Window::MILLIS_MAX],
        limits in prop::collection::vec((any::<u32>(), any::<u32>(), 1..=1_024_u32), 1..6),
        hits in prop::collection::vec(prop_oneof![any::<u64>().prop_map(Hits::Add), any::<u64>().prop_map(Hits::GiveBack),
            Just(Hits::Add(1)), Just(Hits::GiveBack(1))], 1..6),
        instants in prop::collection::vec(prop_oneof![any::<u64>(), 0..10_000_u64, Just(u64::MAX)], 1..6),
        each in any::<bool>(),
    ) {
        let charging = if each { Charging::Each } else { Charging::AllOrNothing };
        let mut counters = vec![Counter::Fixed(Default::default()); 4];
        for micros in instants {
            let members: Vec<Member> = limits.iter().zip(&hits).enumerate().map(|(number, ((limit, burst, precision), hits))| {
                let policy = match number % 3 {
                    0 => Policy::SlidingWindow(SlidingWindow::new(*limit, window(millis), Precision::try_new(*precision).unwrap())),
                    1 => Policy::FixedWindow(FixedWindow::new(*limit, window(millis))),
                    _ => Policy::TokenBucket(TokenBucket::new(*limit, window(millis), *burst)),
                };
                Member { counter: number % 4, policy, hits: *hits, enforcement: Enforcement::Enforced }
            }).collect();
            let tallies = decide(&mut counters, &members, charging, Timestamp::from_micros(micros));
            for (member, tally) in members.iter().zip(tallies) {
                if let Hits::Add(hits) = member.hits {
                    prop_assert_eq!(tally.verdict == Verdict::Never, hits > member.policy.capacity());
                }
            }
        }
    }
}

#[test]
fn a_limit_of_zero_blocks_and_can_be_looked_at() {
    let now = Timestamp::from_micros(START_US);
    for policy in [
        Policy::SlidingWindow(SlidingWindow::new(0, window(1_000), Precision::DEFAULT)),
        Policy::FixedWindow(FixedWindow::new(0, window(1_000))),
        Policy::TokenBucket(TokenBucket::new(0, window(1_000), 10)),
    ] {
        let mut counter = [policy.empty_counter()];
        assert_eq!(charge(&mut counter, policy, Hits::Add(1), now).verdict, Verdict::Never);
        assert_eq!(charge(&mut counter, policy, Hits::Add(0), now).verdict, Verdict::Within);
        assert!(counter[0].is_empty());
    }
}

fn of_kind(kind: u8, limit: u32, millis: u64, precision: u32) -> Policy {
    match kind {
        0 => Policy::SlidingWindow(SlidingWindow::new(limit, window(millis), Precision::try_new(precision).unwrap())),
        1 => Policy::FixedWindow(FixedWindow::new(limit, window(millis))),
        _ => Policy::TokenBucket(TokenBucket::new(limit, window(millis), limit)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_charge_in_place_says_and_leaves_what_any_other_does(
        millis in any_window(),
        kind in 0..3_u8,
        policies in prop::collection::vec(any_sliding(), 1..4),
        every in 1..40_usize,
        each in any::<bool>(),
        steps in prop::collection::vec(any_step(40), 1..200),
    ) {
        let policy_at = |number: usize| {
            let (limit, precision) = policies[number / every % policies.len()];
            of_kind(kind, limit, millis, precision)
        };
        let charging = if each { Charging::Each } else { Charging::AllOrNothing };
        run(millis, &steps, policy_at, |_, now, before, policy, hits, _, _| {
            let mut packed = before.with_packed(<[u8]>::to_vec);
            let mut after = [before.clone()];
            let member = Member { counter: 0, policy: *policy, hits, enforcement: Enforcement::Enforced };
            let tally = decide(&mut after, &[member], charging, now)[0];
            if let Some(change) = policy.charge_in_place(&packed, hits, charging, now) {
                prop_assert_eq!(tally, change.tally);
                let behind = change.written_behind(b"key", &packed);
                if change.keeps_length() {
                    change.write(&mut packed);
                    prop_assert_eq!(&behind[3..], &packed[..]);
                }
                prop_assert_eq!(&behind[..3], b"key");
                prop_assert_eq!(after[0].with_packed(<[u8]>::to_vec), &behind[3..]);
                prop_assert_eq!(after[0].empty_from_ms(policy), change.empty_from_ms);
            }
            Ok(())
        })?;
    }
}

#[test]
fn hits_that_follow_each_other_are_charged_in_place() {
    let now = Timestamp::from_micros(START_US);
    for policy in (0..3).map(|kind| of_kind(kind, 100, 60_000, 64)) {
        let in_place = |counter: &Counter, hits: Hits| {
            counter.with_packed(|packed| policy.charge_in_place(packed, hits, Charging::AllOrNothing, now)).is_some()
        };
        let mut counter = [policy.empty_counter()];
        assert!(!in_place(&counter[0], Hits::Add(1)), "{policy:?}: what isn't there can't be");
        charge(&mut counter, policy, Hits::Add(1), now);
        assert!(in_place(&counter[0], Hits::Add(99)), "{policy:?}");
        for other in [Hits::Add(100), Hits::Add(0), Hits::GiveBack(1)] {
            assert!(!in_place(&counter[0], other), "{policy:?}: {other:?}");
        }
    }
}

#[test]
fn a_log_of_any_form_is_charged_in_place_whatever_time_passes() {
    for (format, limit, precision) in [(1, 1_000, 64), (2, 100_000, 64), (3, 50, 64), (4, 100_000, 1_000)] {
        let policy = SlidingWindow::new(limit, window(60_000), Precision::try_new(precision).unwrap());
        assert_eq!(policy.pair_format(), format);
        let policy = Policy::SlidingWindow(policy);
        let mut counter = [policy.empty_counter()];
        let mut now_ms = START_US / 1_000;
        charge(&mut counter, policy, Hits::Add(1), Timestamp::from_millis(now_ms));
        // Ticks of 938, 60 or 1 ms: the same one, the next, one pair leaves and one joins, several leave, all have left.
        for wait_ms in [0, 900, 900, 57_500, 938, 30_000, 31_000, 59_000, 120_000] {
            now_ms += wait_ms;
            let now = Timestamp::from_millis(now_ms);
            let packed = counter[0].with_packed(<[u8]>::to_vec);
            let change = policy.charge_in_place(&packed, Hits::Add(1), Charging::AllOrNothing, now);
            let change = change.unwrap_or_else(|| panic!("format {format}, after {wait_ms} ms"));
            assert_eq!(change.tally, charge(&mut counter, policy, Hits::Add(1), now));
            assert_eq!(&*change.written_behind(b"", &packed), counter[0].with_packed(<[u8]>::to_vec));
        }
    }
}

#[test]
fn ticks_and_formats_follow_limit_and_precision() {
    let form = |limit, millis, precision| {
        let policy = SlidingWindow::new(limit, window(millis), Precision::try_new(precision).unwrap());
        (policy.tick_ms(), policy.pair_format())
    };
    assert_eq!(form(64, 60_000, 64), (1, 3), "counted by the millisecond");
    assert_eq!(form(65, 60_000, 64), (938, 1));
    assert_eq!(form(70_000, 60_000, 64), (938, 2));
    assert_eq!(form(70_000, 60_000, 1_000), (60, 4));
    assert_eq!(form(10, 249, 64), (1, 1));
    assert_eq!(form(10, 250, 64), (1, 3));
    assert_eq!(form(1, Window::MILLIS_MAX, 64), (18_797, 3));
    assert_eq!(form(100, Window::MILLIS_MAX, 1), (u32::MAX, 1));
    assert_eq!(form(u32::MAX, 1, 1_024), (1, 2));
}

#[test]
fn a_bucket_too_large_for_exact_numbers_drips_less_than_a_millionth_slower() {
    for (limit, millis, burst) in
        [(u32::MAX - 4, 3_600_000, u32::MAX), (7, 86_400_000, 500_000), (1, Window::MILLIS_MAX, 9)]
    {
        let bucket = TokenBucket::new(limit, window(millis), burst);
        let asked = f64::from(limit) / (millis as f64 * 1_000.0);
        let got = f64::from(bucket.drain()) / bucket.cost() as f64;
        assert!(got <= asked * (1.0 + 1e-12) && got >= asked * (1.0 - 1e-6), "{bucket:?}");
        assert!(u64::from(bucket.burst()) * bucket.cost() < 1 << 53);
        assert_eq!(Algorithm::capacity(&bucket), u64::from(burst));
    }
    let endless = TokenBucket::new(1, window(Window::MILLIS_MAX), 1_000);
    assert_eq!(endless.burst(), 57, "more could not come back in 285 years");
}
