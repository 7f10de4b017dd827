//! How long ago the bytes arrived that are read now.
//!
//! A client that sends more than its share of a core is read in turns, and the rest waits in the system's buffer, where
//! nobody sees it grow old. What waited longer than its sender waits for an answer is not worth deciding; to decide it
//! would make everything behind it late as well. No byte says when it came; but each look at how many are waiting says
//! that all of these came before it. Between two looks, bytes are taken to have come evenly:
//!
//! ```text
//! look 1: 3 wait           ├──┤
//! look 2: 5 more, 10 ms later ├─────┤    the first of them is 10 ms old, the last has just come
//! ```
//!
//! So the age is never overestimated by more than the time between two looks, which is the time that the reader itself
//! had to wait. After a pause in which nothing waited, the first look says that everything before it is at least so
//! old, and no more.

use std::time::Duration;

use tokio::time::Instant;

/// What is known of when a stream's bytes arrived.
#[derive(Clone, Copy, Debug, Default)]
pub struct Backlog {
    /// Bytes read since the beginning.
    read: u64,
    /// The two looks that matter: none, or the same twice after a pause.
    looks: Option<(Look, Look)>,
}

/// By `at`, the first `arrived` bytes of the stream had arrived.
#[derive(Clone, Copy, Debug)]
struct Look {
    at: Instant,
    arrived: u64,
}

// === impl Backlog ===

impl Backlog {
    /// Notes that so many bytes wait at this instant, unread.
    pub fn look(&mut self, now: Instant, waiting: usize) {
        let look = Look { at: now, arrived: self.read + waiting as u64 };
        self.looks = Some(match self.looks {
            None => (look, look),
            // What arrived before the first has been read: the second takes its place.
            Some((first, second)) if first.arrived <= self.read => (second, look),
            Some((first, _)) => (first, look),
        });
    }

    /// Whether there was a look since nothing waited.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.looks.is_some()
    }

    /// Notes that nothing waited any more: what comes next says nothing about what was before.
    pub fn pause(&mut self) {
        self.looks = None;
    }

    /// Notes that so many bytes were read at this instant, and says how long ago the last of them arrived.
    pub fn read(&mut self, bytes: usize, now: impl FnOnce() -> Instant) -> Duration {
        self.read += bytes as u64;
        let Some((first, second)) = self.looks else { return Duration::ZERO };
        if self.read > second.arrived {
            return Duration::ZERO;
        }
        let arrived_at = if self.read <= first.arrived {
            first.at
        } else {
            let part = (self.read - first.arrived) as f64 / (second.arrived - first.arrived) as f64;
            first.at + (second.at - first.at).mul_f64(part)
        };
        now().saturating_duration_since(arrived_at)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn what_was_never_seen_waiting_is_new() {
        let mut backlog = Backlog::default();
        assert_eq!(backlog.read(1_000, || unreachable!("no clock is needed")), Duration::ZERO);
    }

    #[test]
    fn what_waited_at_a_look_is_at_least_as_old_as_the_look() {
        let (mut backlog, start) = (Backlog::default(), Instant::now());
        backlog.look(start, 100);
        assert_eq!(backlog.read(60, || start + ms(7)), ms(7));
        assert_eq!(backlog.read(40, || start + ms(9)), ms(9));
        assert_eq!(backlog.read(1, || start + ms(9)), Duration::ZERO, "it came after the look");
    }

    #[test]
    fn what_came_between_two_looks_came_evenly() {
        let (mut backlog, start) = (Backlog::default(), Instant::now());
        backlog.look(start, 100);
        backlog.read(100, || start);
        backlog.look(start + ms(20), 200);
        assert_eq!(backlog.read(50, || start + ms(20)), ms(15));
        assert_eq!(backlog.read(150, || start + ms(20)), ms(0));
    }

    #[test]
    fn a_pause_ends_what_was_known() {
        let (mut backlog, start) = (Backlog::default(), Instant::now());
        backlog.look(start, 100);
        backlog.read(100, || start);
        backlog.pause();
        backlog.look(start + ms(1_000), 100);
        assert_eq!(backlog.read(50, || start + ms(1_001)), ms(1), "it may have come just before the look");
    }

    proptest! {
        /// Bytes come and are read and looked at in any order; the age is never more than the truth by more than the
        /// time between the two looks.
        #[test]
        fn the_age_is_never_overestimated_by_more_than_the_time_between_the_looks(
            steps in prop::collection::vec((0..4_u8, 1..50_usize, 0..10_u64), 1..200),
        ) {
            let start = Instant::now();
            let (mut backlog, mut now) = (Backlog::default(), start);
            // When each unread byte came.
            let mut waiting = std::collections::VecDeque::new();
            for (kind, amount, millis) in steps {
                now += ms(millis);
                match kind {
                    0 | 1 => waiting.extend(std::iter::repeat_n(now, amount)),
                    2 => backlog.look(now, waiting.len()),
                    _ => {
                        let count = amount.min(waiting.len());
                        let last = waiting.drain(..count).next_back();
                        let between = backlog.looks.map_or(Duration::ZERO, |(first, second)| second.at - first.at);
                        let age = backlog.read(count, || now);
                        if let Some(came) = last {
                            prop_assert!(age <= now - came + between + Duration::from_nanos(1));
                        }
                        if waiting.is_empty() {
                            backlog.pause();
                        }
                    }
                }
            }
        }
    }
}
