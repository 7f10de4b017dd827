//! The loop that drives a run.

use std::io;
use std::num::NonZeroU64;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::SmallRng;
use rustix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

use super::super::arrivals::Arrivals;
use super::super::client::{Call, Failure, Outcome};
use super::super::keys::Keys;
use super::desk::Desk;
use super::links::{Link, Links};
use super::schedule::Schedule;
use super::{DriveError, Loss, Observer, Pace, Plan, Summary};
use crate::clock::{Clock, SystemClock};

/// Time in which all connections must be there at the start.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);

/// Time between two looks at what is rarely due: calls to give up, the observer's progress.
const SWEEP_NS: u64 = 250_000_000;

/// How often at least while one call is waited for.
const SWEEPS: u64 = 8;

/// An open loop sleeps no shorter than this, in nanoseconds: above some ten thousand calls a second each wake-up
/// sends several, and the generator doesn't spend its core on waking. Calls may be that much late, which is counted.
const NAP_NS: u64 = 20_000;

/// Connections in the same place that may end without a single answer, one after the other.
const FAILURES_MAX: u32 = 10;
/// The pause after the first of them in nanoseconds, which doubles from one to the next.
const PAUSE_NS: u64 = 10_000_000;
/// The longest pause.
const PAUSE_MAX_NS: u64 = 1_000_000_000;

/// A place for one connection at a time.
#[derive(Debug)]
struct Slot {
    server: usize,
    link: Option<usize>,
    failures: u32,
    /// When to connect again; `None` while there is a link, or when it was given up.
    again_ns: Option<u64>,
}

/// A run under way.
struct Driver<'a, O> {
    plan: &'a Plan,
    links: Links,
    slots: Vec<Slot>,
    desk: Desk<'a, O>,
    schedule: Option<Schedule>,
    keys: Keys,
    random: SmallRng,
    numbers: Vec<u64>,
    /// Links to be looked at in this turn.
    touched: Vec<usize>,
    ready: Vec<usize>,
    /// Where an open loop looks first for a link with room.
    cursor: usize,
    start: Instant,
    /// When the slots are to be looked at again, because one of them wants a connection or has given up.
    slots_due_ns: u64,
    /// Whether calls of an open loop waited for room at the end of the last turn.
    blocked: bool,
    summary: Summary,
    last_loss: Option<(usize, Loss)>,
}

/// Makes the calls of a plan and tells the observer what becomes of each.
///
/// # Errors
/// When connections can't be made at the start, or when none of them can be made again.
pub fn drive<O: Observer>(plan: &Plan, observer: &mut O) -> Result<Summary, DriveError> {
    // A thread's timers may be 50 µs late by default, which would be found in every latency of an open loop.
    // Where that can't be changed, they are.
    rustix::thread::set_current_timer_slack(NonZeroU64::new(1)).ok();
    let mut driver = Driver::new(plan, observer)?;
    driver.connect()?;
    let done = driver.run();
    driver.desk.observer.finished();
    done
}

// === impl Driver ===

impl<'a, O: Observer> Driver<'a, O> {
    fn new(plan: &'a Plan, observer: &'a mut O) -> Result<Self, DriveError> {
        let links = Links::new().map_err(system("epoll is refused"))?;
        let slot = |index| Slot { server: index % plan.servers.len(), link: None, failures: 0, again_ns: Some(0) };
        let schedule = match plan.pace {
            Pace::Closed => None,
            Pace::Open { rate, spacing, backlog_max } => {
                Some(Schedule::new(Arrivals::new(rate, spacing), plan.seed, backlog_max))
            }
        };
        Ok(Driver {
            plan,
            links,
            slots: (0..plan.connections).map(slot).collect(),
            desk: Desk::new(observer),
            schedule,
            keys: Keys::new(plan.keys),
            random: SmallRng::seed_from_u64(plan.seed),
            numbers: vec![0; plan.descriptors],
            touched: Vec::new(),
            ready: Vec::new(),
            cursor: 0,
            start: Instant::now(),
            slots_due_ns: u64::MAX,
            blocked: false,
            summary: Summary::default(),
            last_loss: None,
        })
    }

    fn now_ns(&self) -> u64 {
        self.start.elapsed().as_nanos() as u64
    }

    /// Makes all connections, and sets the clock to zero.
    fn connect(&mut self) -> Result<(), DriveError> {
        for slot in 0..self.slots.len() {
            self.open(slot)?;
        }
        loop {
            let waiting = |slot: &Slot, links: &mut Links| {
                slot.link.and_then(|place| links.get(place)).is_none_or(|link| !link.connection.is_open())
            };
            let Some(slot) = self.slots.iter().find(|slot| waiting(slot, &mut self.links)) else { break };
            let server = slot.server;
            let left = OPEN_TIMEOUT.saturating_sub(self.start.elapsed());
            if left.is_zero() {
                self.last_loss = Some((server, Loss::Silent(OPEN_TIMEOUT)));
            }
            if self.last_loss.is_some() {
                return Err(self.lost());
            }
            self.turn(left)?;
            self.write_touched();
        }
        self.start = Instant::now();
        self.summary.began = SystemClock.now();
        Ok(())
    }

    fn run(&mut self) -> Result<Summary, DriveError> {
        let warm_up_ns = self.plan.warm_up.as_nanos() as u64;
        let mut end_ns = warm_up_ns + self.plan.duration.as_nanos() as u64;
        let patience_ns = self.plan.patience.as_nanos() as u64;
        let (mut begun, mut finished): (Option<(u64, f64)>, bool) = (None, false);
        let mut sweep_ns = 0;
        for place in 0..self.links.places() {
            self.touch(place);
        }
        loop {
            let now_ns = self.now_ns();
            if begun.is_none() && now_ns >= warm_up_ns {
                begun = Some((now_ns, cpu_seconds()));
            }
            if now_ns >= sweep_ns {
                sweep_ns = now_ns + SWEEP_NS.min(patience_ns / SWEEPS);
                self.sweep(now_ns, patience_ns);
                if self.desk.observer.is_full() {
                    end_ns = end_ns.min(now_ns);
                }
            }
            if !finished && now_ns >= end_ns {
                finished = true;
                let (since_ns, cpu_before) = begun.unwrap_or((now_ns, cpu_seconds()));
                self.summary.cpu_seconds = cpu_seconds() - cpu_before;
                self.summary.span_seconds = (now_ns - since_ns) as f64 / 1e9;
            }
            self.reconnect(now_ns)?;
            match self.schedule {
                None => self.send_closed(now_ns, end_ns),
                Some(_) => self.blocked = self.send_open(now_ns, end_ns),
            }
            self.write_touched();
            if finished && self.is_done() {
                break;
            }
            let last_ns = end_ns.saturating_add(patience_ns);
            if now_ns >= last_ns {
                break;
            }
            let mut next_ns = sweep_ns.min(last_ns);
            if begun.is_none() {
                next_ns = next_ns.min(warm_up_ns);
            }
            if !finished {
                next_ns = next_ns.min(end_ns);
                if let Some(schedule) = self.schedule.as_ref().filter(|_| !self.blocked) {
                    next_ns = next_ns.min(schedule.arrivals.next_ns().max(now_ns + NAP_NS));
                }
            }
            next_ns = next_ns.min(self.slots_due_ns);
            // What was written took time too.
            let timeout_ns = next_ns.saturating_sub(self.now_ns());
            self.turn(Duration::from_nanos(timeout_ns))?;
        }
        self.end();
        self.summary.returned = self.desk.returned;
        Ok(self.summary)
    }

    /// Waits, and reads from whoever has something to say.
    fn turn(&mut self, timeout: Duration) -> Result<(), DriveError> {
        let mut ready = std::mem::take(&mut self.ready);
        ready.clear();
        self.links.wait(timeout, &mut ready).map_err(system("waiting for sockets is refused"))?;
        for place in &ready {
            let (desk, start) = (&mut self.desk, self.start);
            let read = self.links.read(*place, |link: &mut Link, bytes| {
                // After the read: no answer may seem to be there before it was.
                let at_ns = start.elapsed().as_nanos() as u64;
                let mut answered = false;
                link.connection.receive(bytes, |call, outcome| {
                    answered |= matches!(outcome, Outcome::Ok | Outcome::OverLimit | Outcome::Failed(Failure::Grpc(_)));
                    desk.end(call, at_ns, outcome);
                })?;
                link.proven |= answered;
                Ok(())
            });
            match read {
                Ok(_) => self.touch(*place),
                Err(loss) => self.lose(*place, loss),
            }
        }
        self.ready = ready;
        Ok(())
    }

    fn touch(&mut self, place: usize) {
        if let Some(link) = self.links.get(place)
            && !std::mem::replace(&mut link.touched, true)
        {
            self.touched.push(place);
        }
    }

    /// Writes to all links that were touched, and parts with those that are at their end.
    fn write_touched(&mut self) {
        while let Some(place) = self.touched.pop() {
            let written = self.links.write(place);
            let Some(link) = self.links.get(place) else { continue };
            link.touched = false;
            if let Err(loss) = written {
                self.lose(place, loss);
                continue;
            }
            if !link.connection.is_draining() {
                continue;
            }
            let (slot, proven, over) = (link.slot, link.proven, link.connection.calls() == 0);
            if self.slots[slot].link == Some(place) {
                self.vacate(slot, proven);
            }
            if over {
                self.links.close(place);
            }
        }
    }

    /// The link broke.
    fn lose(&mut self, place: usize, loss: Loss) {
        let at_ns = self.now_ns();
        let Some(mut link) = self.links.close(place) else { return };
        link.connection.lose(|call, outcome| self.desk.end(call, at_ns, outcome));
        if self.slots[link.slot].link == Some(place) {
            self.last_loss = Some((self.slots[link.slot].server, loss));
            self.vacate(link.slot, link.proven);
        }
    }

    /// The slot's connection takes no more calls: another shall come in its place, soon if this one was of use.
    fn vacate(&mut self, slot: usize, proven: bool) {
        let now_ns = self.now_ns();
        let slot = &mut self.slots[slot];
        slot.link = None;
        slot.failures = if proven { 0 } else { slot.failures + 1 };
        slot.again_ns = match slot.failures {
            0 => Some(now_ns),
            failures if failures <= FAILURES_MAX => Some(now_ns + (PAUSE_NS << (failures - 1)).min(PAUSE_MAX_NS)),
            _ => None,
        };
        self.slots_due_ns = self.slots_due_ns.min(slot.again_ns.unwrap_or(now_ns));
    }

    /// Makes the connections whose time has come.
    fn reconnect(&mut self, now_ns: u64) -> Result<(), DriveError> {
        if now_ns < self.slots_due_ns {
            return Ok(());
        }
        self.slots_due_ns = u64::MAX;
        let mut alive = false;
        for slot in 0..self.slots.len() {
            if self.slots[slot].again_ns.is_some_and(|again_ns| again_ns <= now_ns) {
                self.summary.reconnects += 1;
                self.open(slot)?;
            }
            let Slot { link, again_ns, .. } = self.slots[slot];
            alive |= link.is_some() || again_ns.is_some();
            self.slots_due_ns = self.slots_due_ns.min(again_ns.unwrap_or(u64::MAX));
        }
        if alive { Ok(()) } else { Err(self.lost()) }
    }

    fn open(&mut self, slot: usize) -> Result<(), DriveError> {
        let server = self.slots[slot].server;
        self.slots[slot].again_ns = None;
        match self.links.open(&self.plan.servers[server], &self.plan.shape, slot) {
            Ok(place) => self.slots[slot].link = Some(place),
            // Too many sockets: another attempt would find as many.
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::MFILE.raw_os_error()) => {
                return Err(system("a socket is refused; take fewer --connections or raise `ulimit -n`")(error));
            }
            Err(error) => {
                self.last_loss = Some((server, error.into()));
                self.vacate(slot, false);
            }
        }
        Ok(())
    }

    fn lost(&mut self) -> DriveError {
        let (server, reason) = self.last_loss.take().unwrap_or((0, Loss::Closed));
        DriveError::Lost { server: self.plan.servers[server].name.clone(), reason }
    }

    /// Fills the touched links up to the number of calls that shall be under way.
    fn send_closed(&mut self, now_ns: u64, end_ns: u64) {
        if !self.desk.returns.is_empty() {
            for place in 0..self.links.places() {
                self.touch(place);
            }
        }
        for index in 0..self.touched.len() {
            let Some(link) = self.links.get(self.touched[index]) else { continue };
            while link.connection.has_room(self.plan.calls_max) {
                let call = match self.desk.returns.pop_front() {
                    Some(call) => call,
                    None if now_ns < end_ns => Call { due_ns: now_ns, sent_ns: now_ns, key: 0, returns: 0 },
                    None => break,
                };
                self.desk.in_flight += 1;
                send(link, call, now_ns, &self.keys, &mut self.random, &mut self.numbers);
            }
        }
    }

    /// Sends what is due, each call on the next link with room. Says whether calls wait for room.
    fn send_open(&mut self, now_ns: u64, end_ns: u64) -> bool {
        let Some(schedule) = &mut self.schedule else { return false };
        let first_ns = schedule.arrivals.next_ns();
        // Who waits for room does not wake for every call that joins the queue.
        if first_ns <= now_ns && first_ns < end_ns && !self.blocked {
            self.summary.late_max_ns = self.summary.late_max_ns.max(now_ns - first_ns);
        }
        schedule.fill(now_ns, end_ns, |due_ns| self.desk.observer.unsent(due_ns));
        let since_ns = now_ns.saturating_sub(self.plan.patience.as_nanos() as u64);
        schedule.give_up(since_ns, |due_ns| self.desk.observer.unsent(due_ns));
        loop {
            let Some(schedule) = &mut self.schedule else { return false };
            if self.desk.returns.is_empty() && schedule.backlog.is_empty() {
                return false;
            }
            let places = self.links.places();
            let calls_max = self.plan.calls_max;
            let with_room = (0..places)
                .map(|step| (self.cursor + step) % places)
                .find(|place| self.links.get(*place).is_some_and(|link| link.connection.has_room(calls_max)));
            let Some(place) = with_room else {
                self.summary.backlog_max = self.summary.backlog_max.max(schedule.backlog.len());
                return true;
            };
            self.cursor = (place + 1) % places;
            let call = match (self.desk.returns.pop_front(), schedule.backlog.pop_front()) {
                (Some(call), due) => {
                    if let Some(due_ns) = due {
                        schedule.backlog.push_front(due_ns);
                    }
                    call
                }
                (None, Some(due_ns)) => Call { due_ns, sent_ns: now_ns, key: 0, returns: 0 },
                (None, None) => return false,
            };
            self.desk.in_flight += 1;
            if let Some(link) = self.links.get(place) {
                send(link, call, now_ns, &self.keys, &mut self.random, &mut self.numbers);
            }
            self.touch(place);
        }
    }

    fn is_done(&self) -> bool {
        let waits = self.schedule.as_ref().is_some_and(|schedule| !schedule.backlog.is_empty());
        self.desk.in_flight == 0 && self.desk.returns.is_empty() && !waits
    }

    fn sweep(&mut self, now_ns: u64, patience_ns: u64) {
        let since_ns = now_ns.saturating_sub(patience_ns);
        for place in 0..self.links.places() {
            let Some(link) = self.links.get(place) else { continue };
            link.connection.give_up(since_ns, |call, outcome| self.desk.end(call, now_ns, outcome));
            self.touch(place);
        }
        self.desk.observer.progress(now_ns);
    }

    /// What is under way or waits at the end is not answered.
    fn end(&mut self) {
        let now_ns = self.now_ns();
        for place in 0..self.links.places() {
            if let Some(link) = self.links.get(place) {
                link.connection.give_up(u64::MAX, |call, outcome| self.desk.end(call, now_ns, outcome));
            }
        }
        while let Some(call) = self.desk.returns.pop_front() {
            self.desk.observer.ended(&call, now_ns, Outcome::Unanswered);
        }
        for due_ns in self.schedule.iter_mut().flat_map(|schedule| schedule.backlog.drain(..)) {
            self.desk.observer.unsent(due_ns);
        }
    }
}

fn send(link: &mut Link, call: Call, now_ns: u64, keys: &Keys, random: &mut SmallRng, numbers: &mut [u64]) {
    for number in &mut *numbers {
        *number = keys.draw(random);
    }
    let key = numbers.first().copied().unwrap_or(0);
    link.connection.send(Call { sent_ns: now_ns, key, ..call }, numbers);
}

fn system(what: &'static str) -> impl FnOnce(io::Error) -> DriveError {
    move |source| DriveError::System { what, source }
}

/// The processor time that this process has used.
fn cpu_seconds() -> f64 {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    used.tv_sec as f64 + used.tv_nsec as f64 / 1e9
}
