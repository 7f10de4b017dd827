//! How many admissions fell into one window: at least, and at most.
//!
//! A client knows only when it sent a call and when it had the answer; the decision fell somewhere between. So of a
//! window from `x` to `x + W` (the end not in it) it can say two things of each admitted call:
//!
//! ```text
//!            x                    x + W
//!   ─────────┼──────────────────────┼──────────
//!              sent ─── answered                 certainly admitted in it
//!       sent ─── answered                        possibly admitted in it
//! ```
//!
//! - certainly: `x <= sent` and `answered < x + W`, that is `answered - W < x <= sent`
//! - possibly: `sent < x + W` and `x <= answered`, that is `sent - W < x <= answered`
//!
//! Either way a call stands for an interval of `x`, and the most admissions in any window is where the most of these
//! intervals overlap: found by one sweep over their ends, exact for *every* place of the window, not for those of some
//! grid. If more hits than the limit were certainly admitted in one window, the limit was broken, whatever happened
//! between client and server. A limiter whose calls take long in comparison with the window can break its limit
//! unseen, so the second number says how much that might be.

/// An admission, or what may have been one. Instants are nanoseconds from the start of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Before the call was sent.
    pub sent_ns: u64,
    /// After the answer had come; [`u64::MAX`] if there was none, as the decision may have come at any time.
    pub answered_ns: u64,
    /// Hits of the call.
    pub hits: u32,
}

/// The most hits that were certainly admitted within one window.
#[must_use]
pub fn certain_max(admitted: &[Span], window_ns: u64) -> u64 {
    let window = i128::from(window_ns);
    overlap_max(
        admitted.iter().map(|span| (i128::from(span.answered_ns) - window + 1, i128::from(span.sent_ns), span.hits)),
    )
}

/// The most hits that may have been admitted within one window.
#[must_use]
pub fn possible_max<'a>(admitted: impl Iterator<Item = &'a Span>, window_ns: u64) -> u64 {
    let window = i128::from(window_ns);
    overlap_max(admitted.map(|span| (i128::from(span.sent_ns) - window + 1, i128::from(span.answered_ns), span.hits)))
}

/// For each of so many windows, one after the other from the start, the hits that may have been admitted in it.
#[must_use]
pub fn possible_each<'a>(admitted: impl Iterator<Item = &'a Span>, window_ns: u64, windows: usize) -> Vec<u64> {
    // Differences first: a call that was never answered counts in all windows to the end.
    let mut changes = vec![0_i128; windows + 1];
    let index = |at_ns: u64| usize::try_from(at_ns / window_ns).unwrap_or(usize::MAX);
    for span in admitted {
        let (first, last) = (index(span.sent_ns), index(span.answered_ns));
        if first < windows {
            changes[first] += i128::from(span.hits);
            changes[last.saturating_add(1).min(windows)] -= i128::from(span.hits);
        }
    }
    let mut sum = 0;
    let running = changes[..windows].iter().map(|change| {
        sum += change;
        u64::try_from(sum).unwrap_or(0)
    });
    running.collect()
}

/// The greatest sum of hits where intervals, from first to last place with both in it, overlap.
fn overlap_max(intervals: impl Iterator<Item = (i128, i128, u32)>) -> u64 {
    let mut ends = Vec::new();
    for (first, last, hits) in intervals.filter(|(first, last, _)| first <= last) {
        ends.push((first, i64::from(hits)));
        ends.push((last + 1, -i64::from(hits)));
    }
    // Where one ends and another begins, the one ends first: negative numbers sort before positive ones.
    ends.sort_unstable();
    let (mut sum, mut most) = (0_i64, 0_i64);
    for (_, change) in ends {
        sum += change;
        most = most.max(sum);
    }
    u64::try_from(most).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn span(sent_ns: u64, answered_ns: u64) -> Span {
        Span { sent_ns, answered_ns, hits: 1 }
    }

    /// Spans with the instant of the decision in each.
    fn decided() -> impl Strategy<Value = Vec<(Span, u64)>> {
        let one = (0..60_u64, 0..25_u64, 0..=100_u64, 1..4_u32).prop_map(|(sent_ns, took, share, hits)| {
            let span = Span { sent_ns, answered_ns: sent_ns + took, hits };
            (span, sent_ns + took * share / 100)
        });
        prop::collection::vec(one, 0..25)
    }

    /// The most hits in any window, tried at every place.
    fn brute(spans: &[Span], window: i64, counts: impl Fn(i64, i64, i64) -> bool) -> u64 {
        let hits = |x: i64| -> u64 {
            let counted = spans.iter().filter(|span| counts(span.sent_ns as i64, span.answered_ns as i64, x));
            counted.map(|span| u64::from(span.hits)).sum()
        };
        (-window - 1..100).map(hits).max().unwrap_or(0)
    }

    proptest! {
        #[test]
        fn the_sweep_finds_what_trying_every_place_finds(decided in decided(), window in 1..40_u64) {
            let spans: Vec<Span> = decided.into_iter().map(|(span, _)| span).collect();
            let length = window as i64;
            let certain = brute(&spans, length, |sent, answered, x| x <= sent && answered < x + length);
            let possible = brute(&spans, length, |sent, answered, x| sent < x + length && x <= answered);
            prop_assert_eq!(certain_max(&spans, window), certain);
            prop_assert_eq!(possible_max(spans.iter(), window), possible);
        }

        #[test]
        fn the_truth_lies_between_the_two(decided in decided(), window in 1..40_u64) {
            let spans: Vec<Span> = decided.iter().map(|(span, _)| *span).collect();
            let truth: Vec<Span> =
                decided.iter().map(|(span, at)| Span { sent_ns: *at, answered_ns: *at, ..*span }).collect();
            let length = window as i64;
            let truly = brute(&truth, length, |at, _, x| x <= at && at < x + length);
            prop_assert!(certain_max(&spans, window) <= truly);
            prop_assert!(truly <= possible_max(spans.iter(), window));
        }

        #[test]
        fn windows_one_after_the_other_hold_what_overlaps_them(decided in decided(), window in 1..40_u64) {
            let spans: Vec<Span> = decided.iter().map(|(span, _)| *span).collect();
            for (index, found) in (0..).zip(possible_each(spans.iter(), window, 3)) {
                let (from, to) = (index * window, (index + 1) * window);
                let overlapping = spans.iter().filter(|span| span.sent_ns < to && span.answered_ns >= from);
                prop_assert_eq!(found, overlapping.map(|span| u64::from(span.hits)).sum::<u64>());
            }
        }
    }

    #[test]
    fn a_window_does_not_hold_both_of_its_ends() {
        let spans = [span(0, 0), span(10, 10)];
        assert_eq!((certain_max(&spans, 10), possible_max(spans.iter(), 10)), (1, 1));
        assert_eq!((certain_max(&spans, 11), possible_max(spans.iter(), 11)), (2, 2));
    }

    #[test]
    fn a_call_that_took_a_window_or_was_never_answered_proves_nothing() {
        let spans = [span(0, 10), span(5, u64::MAX)];
        assert_eq!(certain_max(&spans, 10), 0);
        assert_eq!(possible_max(spans.iter(), 10), 2);
        assert_eq!(possible_each(spans.iter(), 10, 3), [2, 2, 1]);
    }
}
