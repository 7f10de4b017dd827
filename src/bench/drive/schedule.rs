//! The calls of an open loop that are due, and those to come.

use std::collections::VecDeque;

use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::super::arrivals::Arrivals;

/// What the seed is mixed with, so that instants and keys aren't drawn alike.
const SALT: u64 = 0x9e37_79b9_7f4a_7c15;

/// An open loop's calls to come.
#[derive(Debug)]
pub(super) struct Schedule {
    pub(super) arrivals: Arrivals,
    random: SmallRng,
    /// When the waiting calls were due; at most `backlog_max`.
    pub(super) backlog: VecDeque<u64>,
    backlog_max: usize,
}

// === impl Schedule ===

impl Schedule {
    /// Nothing due yet.
    pub(super) fn new(arrivals: Arrivals, seed: u64, backlog_max: usize) -> Schedule {
        let random = SmallRng::seed_from_u64(seed ^ SALT);
        Schedule { arrivals, random, backlog: VecDeque::new(), backlog_max }
    }

    /// Moves the calls that are due by now, and before the end, into the backlog; `unsent` hears of those for which
    /// there is no place.
    pub(super) fn fill(&mut self, now_ns: u64, end_ns: u64, mut unsent: impl FnMut(u64)) {
        while self.arrivals.next_ns() <= now_ns && self.arrivals.next_ns() < end_ns {
            let due_ns = self.arrivals.next_ns();
            self.arrivals.advance(&mut self.random);
            if self.backlog.len() < self.backlog_max {
                self.backlog.push_back(due_ns);
            } else {
                unsent(due_ns);
            }
        }
    }

    /// Drops those that were due before `since_ns`; `unsent` hears of them.
    pub(super) fn give_up(&mut self, since_ns: u64, mut unsent: impl FnMut(u64)) {
        while self.backlog.front().is_some_and(|due_ns| *due_ns < since_ns) {
            self.backlog.pop_front().into_iter().for_each(&mut unsent);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::arrivals::Spacing;
    use super::*;

    #[test]
    fn what_is_due_waits_up_to_the_bound_and_nothing_is_due_after_the_end() {
        let mut schedule = Schedule::new(Arrivals::new(1e9, Spacing::Even), 1, 3);
        let mut unsent = Vec::new();
        schedule.fill(4, 10, |due_ns| unsent.push(due_ns));
        assert_eq!((schedule.backlog.iter().copied().collect::<Vec<_>>(), &unsent[..]), (vec![0, 1, 2], &[3, 4][..]));
        schedule.backlog.clear();
        schedule.fill(1_000, 7, |due_ns| unsent.push(due_ns));
        assert_eq!((schedule.backlog.len(), unsent.len()), (2, 2));
    }

    #[test]
    fn what_has_waited_too_long_is_given_up() {
        let mut schedule = Schedule::new(Arrivals::new(1e9, Spacing::Even), 1, 10);
        schedule.fill(4, 10, |_| unreachable!("there is room"));
        let mut unsent = Vec::new();
        schedule.give_up(3, |due_ns| unsent.push(due_ns));
        assert_eq!((unsent, schedule.backlog.into_iter().collect::<Vec<_>>()), (vec![0, 1, 2], vec![3, 4]));
    }
}
