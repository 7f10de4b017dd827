//! The capacity of a fragile service, as arithmetic: workers, a bounded queue, and a service time that grows when many
//! wait.
//!
//! ```text
//! arrive ─┬─ a worker is free ──────────────► in service ─ service time × slowdown ─► finished
//!         ├─ fewer than queue_max wait ─ queue ─┘ first come, first served
//!         └─ else ─ refused
//!
//! slowdown  1 up to slow_above waiting, then in a straight line to slowdown_max at queue_max waiting;
//!           fixed when the service of a customer begins, by how many wait behind it
//! ```
//!
//! So the plant serves `workers / service_time` a second while few wait, and that divided by `slowdown_max` once its
//! queue is full: more load means less work done, as in services whose waiting requests cost memory, locks and cache.
//! It also means that a plant which has collapsed stays so until the load falls below what it does then.
//!
//! Time is an argument, in any unit that starts at zero: [`Plant::advance`] lets happen what is due, at the instant at
//! which it is due, so that the outcome doesn't depend on how often or how late it is called. Customers are of any
//! type; they are given back when they are done.

#[cfg(test)]
mod laws;
mod settings;

use std::cmp::{Ordering, Reverse};
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

pub use settings::{Mistakes, PlantSettings};

/// A plant and the customers in it.
#[derive(Debug)]
pub struct Plant<T> {
    settings: PlantSettings,
    now: Duration,
    in_service: BinaryHeap<Reverse<Busy<T>>>,
    queue: VecDeque<T>,
    /// Numbers the services begun, to tell apart those that end at the same instant.
    begun: u64,
}

/// A customer whose service has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finished<T> {
    /// When.
    pub at: Duration,
    /// Who.
    pub customer: T,
}

/// A worker's customer.
#[derive(Debug)]
struct Busy<T> {
    until: Duration,
    number: u64,
    customer: T,
}

// === impl Plant ===

impl<T> Plant<T> {
    /// An empty plant at instant zero.
    #[must_use]
    pub fn new(settings: PlantSettings) -> Plant<T> {
        Plant { settings, now: Duration::ZERO, in_service: BinaryHeap::new(), queue: VecDeque::new(), begun: 0 }
    }

    /// Lets happen what is due up to and including `now`, and gives back whose service ended, in order. An instant
    /// before the last one counts as the last one.
    pub fn advance(&mut self, now: Duration) -> Vec<Finished<T>> {
        let mut finished = Vec::new();
        while self.next_finish().is_some_and(|at| at <= now) {
            let Some(Reverse(Busy { until, customer, .. })) = self.in_service.pop() else { break };
            self.now = self.now.max(until);
            finished.push(Finished { at: until, customer });
            self.begin();
        }
        self.now = self.now.max(now);
        finished
    }

    /// Takes a customer in, at the instant to which the plant was advanced.
    ///
    /// # Errors
    /// Gives it back when all workers are busy and the queue is full.
    pub fn arrive(&mut self, customer: T) -> Result<(), T> {
        // Whoever waits comes first: with a free worker there is nobody, so the queue's bound holds for the rest.
        let is_full = self.queue.len() >= self.settings.queue_max();
        if is_full && self.in_service.len() >= self.settings.workers() {
            return Err(customer);
        }
        self.queue.push_back(customer);
        self.begin();
        Ok(())
    }

    /// Changes how the plant works from now on. Who is in service is served as it was begun; who waits goes on waiting,
    /// beyond a smaller bound as well.
    pub fn change(&mut self, settings: PlantSettings) {
        self.settings = settings;
        self.begin();
    }

    /// When the next service ends, if nobody else comes and nothing is changed.
    #[must_use]
    pub fn next_finish(&self) -> Option<Duration> {
        self.in_service.peek().map(|Reverse(busy)| busy.until)
    }

    /// How it works now.
    #[must_use]
    pub fn settings(&self) -> &PlantSettings {
        &self.settings
    }

    /// Customers in service.
    #[must_use]
    pub fn in_service(&self) -> usize {
        self.in_service.len()
    }

    /// Customers that wait.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Gives free workers to whoever waits.
    fn begin(&mut self) {
        while self.in_service.len() < self.settings.workers() {
            let Some(customer) = self.queue.pop_front() else { return };
            let until = self.now + self.settings.service_time(self.queue.len());
            self.begun += 1;
            self.in_service.push(Reverse(Busy { until, number: self.begun, customer }));
        }
    }
}

// === impl Busy ===

impl<T> Ord for Busy<T> {
    fn cmp(&self, other: &Busy<T>) -> Ordering {
        (self.until, self.number).cmp(&(other.until, other.number))
    }
}

impl<T> PartialOrd for Busy<T> {
    fn partial_cmp(&self, other: &Busy<T>) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Busy<T> {
    fn eq(&self, other: &Busy<T>) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<T> Eq for Busy<T> {}
