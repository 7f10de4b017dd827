//! Decisions that wait, already put together as the calls in which they will leave: bounded, in order, and woken once.
//!
//! Only the last call takes more decisions. One that doesn't fit there begins the next, so nobody is overtaken, whatever
//! does or doesn't go together.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::BatchOptions;
use super::call::{Call, Caller};
use super::forecast::{Ahead, Forecast};
use super::script::Batch;
use crate::counters::{Charges, StoreError, Tallies};

/// Where a caller hears the answer.
pub(super) type Answer = oneshot::Receiver<Result<Tallies, StoreError>>;

/// The queue of one core.
#[derive(Debug)]
pub(super) struct Queue {
    options: BatchOptions,
    waiting_max: usize,
    /// The first leaves next; the last is being filled. None is empty.
    calls: VecDeque<Call>,
    /// Decisions that wait.
    waiting: usize,
    /// No deadline of those that wait is earlier.
    earliest: Option<Instant>,
    /// Calls under way, and how many there may be: none while the connection waits for its last replies.
    under_way: usize,
    places: usize,
    forecast: Forecast,
    /// Calls that are done, for their memory.
    spare: Vec<Call>,
    /// Why there is no connection, while there is none.
    down: Option<StoreError>,
}

// === impl Queue ===

impl Queue {
    /// An empty queue. Until [`Queue::up`] is called, it refuses all.
    pub(super) fn new(options: BatchOptions) -> Queue {
        let reason = "it was not reached yet".to_owned();
        Queue {
            options,
            // What two rounds of full calls can carry away; more would only wait to miss its deadline.
            waiting_max: 2 * options.decisions_max * options.calls_in_flight,
            calls: VecDeque::new(),
            waiting: 0,
            earliest: None,
            under_way: 0,
            places: options.calls_in_flight,
            forecast: Forecast::new(options.calls_in_flight),
            spare: Vec::new(),
            down: Some(StoreError::Unreachable { reason }),
        }
    }

    /// Lets a decision wait for its call, unless it would wait in vain; says too whether the batcher must know of it.
    pub(super) fn push(
        &mut self,
        charges: &Charges,
        deadline: Instant,
        now: Instant,
    ) -> Result<(Answer, bool), StoreError> {
        if let Some(error) = &self.down {
            return Err(error.clone());
        }
        if deadline <= now {
            return Err(StoreError::DeadlineExceeded { waited: Duration::ZERO });
        }
        if self.waiting >= self.waiting_max || deadline - now < self.answer_after(now) {
            return Err(StoreError::Overloaded { waiting: self.waiting });
        }
        let (answer, answered) = oneshot::channel();
        let sooner = self.earliest.is_none_or(|earliest| deadline < earliest);
        let wakes = self.calls.is_empty() || sooner;
        self.add(Caller { since: now, deadline, answer }, |batch| batch.try_push(charges));
        Ok((answered, wakes))
    }

    /// The next call, if any waits. Whoever has given up or can't be answered in time any more isn't in it.
    pub(super) fn take(&mut self, now: Instant) -> Option<Call> {
        while let Some(mut call) = self.calls.pop_front() {
            self.waiting -= call.open();
            let round_trip = self.forecast.round_trip(now);
            // If all seem hopeless and nothing is under way, one is sent all the same, to find out.
            let mut finds_out = self.under_way == 0 && call.latest().is_some_and(|latest| latest < now + round_trip);
            let waiting = self.waiting;
            let goes = |caller: &Caller| {
                caller.answer.is_closed()
                    || caller.deadline <= now
                    || (caller.deadline - now < round_trip && !std::mem::take(&mut finds_out))
            };
            call.take_out(goes, |caller| {
                if caller.deadline <= now {
                    caller.expire(now);
                } else {
                    caller.answer(Err(StoreError::Overloaded { waiting }));
                }
            });
            if call.open() == 0 {
                self.keep(call, now);
                continue;
            }
            call.close_gaps();
            self.under_way += 1;
            if self.calls.is_empty() {
                self.earliest = None;
            }
            return Some(call);
        }
        self.earliest = None;
        None
    }

    /// Takes note of a call that has ended: how long it took, if it was answered.
    pub(super) fn ended(&mut self, call: Call, took: Option<Duration>, now: Instant) {
        self.under_way -= 1;
        if let Some(took) = took {
            self.forecast.note(took, now);
        }
        self.keep(call, now);
    }

    /// Takes note of a call that was redirected, and goes on elsewhere.
    pub(super) fn left(&mut self) {
        self.under_way -= 1;
    }

    /// No call leaves until [`Queue::up`].
    pub(super) fn hold(&mut self) {
        self.places = 0;
    }

    /// Answers all those whose time is over.
    pub(super) fn expire(&mut self, now: Instant) {
        for call in &mut self.calls {
            call.expire(now);
        }
        self.waiting = self.calls.iter().map(Call::open).sum();
        self.earliest = self.calls.iter().filter_map(Call::earliest).min();
        // While no call leaves, the gaps would add up without end.
        if self.calls.iter().map(Call::len).sum::<usize>() > 2 * self.waiting {
            self.close_gaps();
        }
    }

    /// The earliest deadline of those that wait.
    pub(super) fn earliest(&self) -> Option<Instant> {
        self.earliest
    }

    /// Whether anybody waits.
    pub(super) fn has_waiting(&self) -> bool {
        !self.calls.is_empty()
    }

    /// Whether a call waits that takes no more decisions.
    pub(super) fn has_full(&self) -> bool {
        self.calls.len() > 1 || self.calls.front().is_some_and(|call| call.len() >= self.options.decisions_max)
    }

    /// Whether a call may leave, as far as the number of those under way goes.
    pub(super) fn has_place(&self) -> bool {
        self.under_way < self.places
    }

    /// Calls under way.
    pub(super) fn under_way(&self) -> usize {
        self.under_way
    }

    /// Decisions may come, and leave.
    pub(super) fn up(&mut self) {
        self.down = None;
        self.places = self.options.calls_in_flight;
    }

    /// Nothing can be asked for now; whoever comes is told so. Those that wait are given back, to be told.
    pub(super) fn down(&mut self, error: &StoreError) -> VecDeque<Call> {
        self.down = Some(error.clone());
        self.earliest = None;
        self.waiting = 0;
        std::mem::take(&mut self.calls)
    }

    /// How long a decision that comes now takes at least.
    fn answer_after(&self, now: Instant) -> Duration {
        let calls = self.waiting / self.options.decisions_max;
        let nobody = self.under_way == 0 && self.waiting == 0;
        self.forecast.answer(Ahead { under_way: self.under_way, calls, nobody }, now)
    }

    /// Lets a caller wait for the decision that `push` writes.
    fn add(&mut self, mut caller: Caller, push: impl Fn(&mut Batch) -> bool) {
        let (since, deadline) = (caller.since, caller.deadline);
        self.earliest = Some(self.earliest.map_or(deadline, |earliest| earliest.min(deadline)));
        self.waiting += 1;
        if let Some(last) = self.calls.back_mut().filter(|call| call.len() < self.options.decisions_max) {
            match last.try_push(caller, &push) {
                Ok(()) => return,
                Err(returned) => caller = returned,
            }
        }
        let mut call = self.spare.pop().unwrap_or_else(|| Call::new(since));
        let begun = call.try_push(caller, &push);
        debug_assert!(begun.is_ok(), "what no call can hold was refused before it came here");
        self.calls.push_back(call);
    }

    /// Puts the calls together anew from the decisions that have no answer yet, in their order.
    fn close_gaps(&mut self) {
        self.waiting = 0;
        self.earliest = None;
        for call in std::mem::take(&mut self.calls) {
            let (batch, callers) = call.into_parts();
            for (decision, caller) in batch.decisions().zip(callers) {
                if let Some(caller) = caller {
                    self.add(caller, |batch| batch.try_push_again(&decision));
                }
            }
        }
    }

    /// Keeps the memory of a call that is done, of as many as are under way at once.
    fn keep(&mut self, mut call: Call, now: Instant) {
        if self.spare.len() < self.options.calls_in_flight {
            call.clear(now);
            self.spare.push(call);
        }
    }
}

#[cfg(test)]
mod tests {
    use smallvec::smallvec;
    use tokio::time::advance;

    use super::*;
    use crate::counters::Charge;
    use crate::descriptor::Hits;
    use crate::key::CounterKey;
    use crate::limit::{Unit, Window};
    use crate::window::{Charging, Enforcement, FixedWindow, Policy};

    const OPTIONS: BatchOptions = BatchOptions { decisions_max: 2, calls_in_flight: 2 };
    const SHORT: Duration = Duration::from_millis(18);
    const LONG: Duration = Duration::from_secs(10);

    fn charges() -> Charges {
        let key = CounterKey::write(b"queue:", 1).finish();
        let policy = Policy::FixedWindow(FixedWindow::new(1_000, Window::from(Unit::Week)));
        let charge = Charge { key, policy, hits: Hits::Add(1), enforcement: Enforcement::Enforced };
        Charges { members: smallvec![charge], charging: Charging::AllOrNothing }
    }

    fn open() -> Queue {
        let mut queue = Queue::new(OPTIONS);
        queue.up();
        queue
    }

    fn push(queue: &mut Queue, within: Duration) -> Result<Answer, StoreError> {
        let now = Instant::now();
        queue.push(&charges(), now + within, now).map(|(answer, _)| answer)
    }

    fn take(queue: &mut Queue) -> Option<Call> {
        queue.take(Instant::now())
    }

    fn is_refused(answer: &Result<Answer, StoreError>) -> bool {
        matches!(answer, Err(StoreError::Overloaded { .. }))
    }

    /// Makes a call that takes so long.
    async fn call(queue: &mut Queue, took: Duration) {
        let answer = push(queue, LONG).expect("there is time");
        let call = take(queue).expect("one waits");
        advance(took).await;
        queue.ended(call, Some(took), Instant::now());
        drop(answer);
    }

    /// A store that has needed 50 ms for each of its latest calls.
    async fn slow() -> Queue {
        let mut queue = open();
        for _ in 0..Forecast::REMEMBERED {
            call(&mut queue, Duration::from_millis(50)).await;
        }
        queue
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_slower_than_the_deadlines_is_asked_by_one_and_the_rest_are_refused_at_once() {
        let mut queue = slow().await;
        let finds_out = push(&mut queue, SHORT);
        assert!(finds_out.is_ok(), "somebody has to");
        assert!((0..100).all(|_| is_refused(&push(&mut queue, SHORT))));
        let call = take(&mut queue).expect("it is sent, though it may be in vain");
        assert_eq!(call.open(), 1);
        assert!((0..100).all(|_| is_refused(&push(&mut queue, SHORT))), "while it is under way too");
        let patient = push(&mut queue, LONG);
        assert!(patient.is_ok(), "who has time is not refused");
        assert_eq!(take(&mut queue).expect("it is sent").open(), 1);
        assert!(take(&mut queue).is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn one_quick_answer_ends_the_refusals() {
        let mut queue = slow().await;
        let finds_out = push(&mut queue, SHORT);
        assert!(finds_out.is_ok() && is_refused(&push(&mut queue, SHORT)));
        let call = take(&mut queue).expect("one waits");
        advance(Duration::from_millis(1)).await;
        queue.ended(call, Some(Duration::from_millis(1)), Instant::now());
        assert!((0..OPTIONS.decisions_max * 2).all(|_| push(&mut queue, SHORT).is_ok()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_was_slow_a_second_ago_is_trusted() {
        let mut queue = slow().await;
        advance(Forecast::MEMORY).await;
        assert!((0..4).all(|_| push(&mut queue, SHORT).is_ok()));
    }

    #[tokio::test(start_paused = true)]
    async fn whose_time_ran_out_in_the_queue_is_refused_instead_of_sent() {
        let mut queue = open();
        call(&mut queue, Duration::from_millis(10)).await;
        let (first, mut second) = (push(&mut queue, LONG), push(&mut queue, SHORT).expect("10 ms are enough"));
        advance(Duration::from_millis(9)).await;
        let call = take(&mut queue).expect("the first has time");
        assert_eq!(call.len(), 1, "9 of 18 ms are left, and an answer takes 10");
        assert!(matches!(second.try_recv(), Ok(Err(StoreError::Overloaded { .. }))));
        drop(first);
    }

    #[tokio::test(start_paused = true)]
    async fn the_longer_the_queue_the_more_time_it_takes() {
        let mut queue = open();
        call(&mut queue, Duration::from_millis(10)).await;
        let mut asked: Vec<_> = (0..4).map(|_| push(&mut queue, LONG)).collect();
        let under_way = (take(&mut queue), take(&mut queue));
        // Both places are taken: half a round trip for each call before it, and its own.
        for (waiting, takes) in [(0, 15), (2, 20), (4, 25), (6, 30)] {
            assert_eq!(asked.len(), 4 + waiting);
            assert!(is_refused(&push(&mut queue, Duration::from_millis(takes - 1))), "{takes} ms with {waiting}");
            asked.extend([push(&mut queue, Duration::from_millis(takes)), push(&mut queue, LONG)]);
            assert!(asked.iter().all(Result::is_ok), "{takes} ms with {waiting}");
        }
        assert!(is_refused(&push(&mut queue, LONG)), "and twice what can be under way is all that waits");
        drop(under_way);
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_in_vain_leaves_nothing_behind() {
        let mut queue = open();
        let patient = push(&mut queue, LONG).expect("it is empty");
        for _ in 0..100 {
            let asked: Vec<_> = (0..7).map(|_| push(&mut queue, SHORT)).collect();
            assert!(asked.iter().all(Result::is_ok));
            advance(SHORT).await;
            queue.expire(Instant::now());
            assert_eq!((queue.waiting, queue.calls.len(), queue.calls[0].len()), (1, 1, 1));
        }
        assert_eq!(take(&mut queue).expect("one waits").open(), 1);
        drop(patient);
    }

    #[tokio::test(start_paused = true)]
    async fn the_memory_of_calls_is_bounded() {
        let mut queue = open();
        for _ in 0..5 {
            let asked: Vec<_> = (0..8).map(|_| push(&mut queue, LONG)).collect();
            assert!(asked.iter().all(Result::is_ok) && push(&mut queue, LONG).is_err());
            let calls: Vec<_> = std::iter::from_fn(|| take(&mut queue)).collect();
            calls.into_iter().for_each(|call| queue.ended(call, None, Instant::now()));
            assert_eq!(queue.spare.len(), OPTIONS.calls_in_flight);
        }
    }
}
