//! The metrics sent to a statsd server, for dashboards that were made for the reference service.
//!
//! Every interval one walk over the metrics: what counters have gained, and what gauges are ([`mod@line`]), in pieces that
//! fit a packet or a write. The counters are the buffer: a piece is taken from them when it is about to be sent, so
//! while the server is away nothing is queued, and all that was counted is sent when it is back. What is lost is the
//! piece whose sending failed, and that is counted. Of UDP nobody learns what arrived.
//!
//! The walk runs on a thread of its own, because it takes a moment over 100,000 rules, and each has a deadline.

pub mod line;
pub mod rewrite;
mod socket;

use std::io;
use std::ops::ControlFlow;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout_at};
use tokio_util::sync::CancellationToken;

pub use line::{Dialect, Tag};
pub use socket::Protocol;

use crate::metrics::Metrics;
use crate::metrics::deltas::Deltas;
use line::Form;
use rewrite::Rewrite;
use socket::Socket;

/// Where and how metrics are sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatsdOptions {
    /// IP address (without brackets) or name of the server.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How it is reached.
    pub protocol: Protocol,
    /// How lines are written.
    pub dialect: Dialect,
    /// What every metric is told apart by.
    pub tags: Vec<Tag>,
    /// Which names are rewritten; the first that matches holds.
    pub rewrites: Vec<Rewrite>,
    /// How often metrics are sent.
    pub flush_interval: Duration,
}

/// Sends metrics.
#[derive(Debug)]
pub struct Statsd {
    options: StatsdOptions,
    metrics: Metrics,
    form: Form,
    deltas: Deltas,
    socket: Option<Socket>,
    trouble: Trouble,
}

/// Since when sending fails, and when it is tried again.
#[derive(Debug, Default)]
struct Trouble {
    failures: u32,
    not_before: Option<Instant>,
}

/// Longest time for one flush, the connecting included. The end of the process waits for two at most.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest wait between attempts to reach the server; the first is a second, and each is twice the last. An attempt
/// falls to the next flush after it.
const WAIT_MAX: Duration = Duration::from_secs(30);

// === impl Statsd ===

impl Statsd {
    /// A sender of these metrics. Nothing is sent before [`Statsd::run`].
    #[must_use]
    pub fn new(options: StatsdOptions, metrics: Metrics) -> Statsd {
        let form = Form::new(options.dialect, &options.tags, &options.rewrites);
        Statsd { options, metrics, form, deltas: Deltas::default(), socket: None, trouble: Trouble::default() }
    }

    /// Sends every interval until `stop`, and then once more.
    pub async fn run(mut self, stop: CancellationToken) {
        let every = self.options.flush_interval;
        let mut ticks = interval_at(Instant::now() + every, every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_last = tokio::select! {
                () = stop.cancelled() => true,
                _ = ticks.tick() => false,
            };
            if !is_last && self.trouble.must_wait(Instant::now()) {
                continue;
            }
            let runtime = Handle::current();
            let flushing = tokio::task::spawn_blocking(move || {
                self.flush(&runtime);
                self
            });
            match flushing.await {
                Ok(statsd) => self = statsd,
                Err(error) => return tracing::error!(%error, "metrics are no longer sent to statsd"),
            }
            if is_last {
                return;
            }
        }
    }

    fn flush(&mut self, runtime: &Handle) {
        let deadline = Instant::now() + FLUSH_TIMEOUT;
        let sent = self.send(runtime, deadline);
        let (host, port) = (&self.options.host, self.options.port);
        match sent {
            Ok(()) if self.trouble.failures > 0 => {
                tracing::info!(host, port, "metrics are sent to statsd again");
                self.trouble = Trouble::default();
            }
            Ok(()) => {}
            Err(error) => {
                self.socket = None;
                if self.trouble.failures == 0 {
                    // Once, however long it lasts: the metric tells the rest.
                    let lost = self.metrics.totals().statsd_lines_lost.get();
                    tracing::warn!(%error, host, port, lost, "metrics cannot be sent to statsd; it is tried again");
                }
                self.trouble.failed(Instant::now());
            }
        }
    }

    fn send(&mut self, runtime: &Handle, deadline: Instant) -> io::Result<()> {
        let Statsd { options, metrics, form, deltas, socket, .. } = self;
        let socket = match socket.take_if(|socket| socket.is_over()) {
            None if socket.is_some() => socket.as_mut().expect("there is one"),
            _ => {
                let opening = Socket::open(options.protocol, &options.host, options.port, FLUSH_TIMEOUT);
                socket.insert(runtime.block_on(within(deadline, opening))?)
            }
        };
        let mut send = |piece: &mut String| {
            let sent = runtime.block_on(within(deadline, socket.send(piece.as_bytes())));
            if sent.is_err() {
                metrics.totals().statsd_lines_lost.add(piece.lines().count() as u64);
            }
            piece.clear();
            sent
        };
        let (mut piece, mut lines) = (String::new(), String::new());
        let walked = metrics.each(|name, value| {
            form.write(&mut lines, name, value, deltas);
            for line in lines.split_inclusive('\n') {
                if piece.len() + line.len() > options.protocol.piece_bytes_max()
                    && let Err(error) = send(&mut piece)
                {
                    return ControlFlow::Break(error);
                }
                piece.push_str(line);
            }
            lines.clear();
            ControlFlow::Continue(())
        });
        if let ControlFlow::Break(error) = walked {
            return Err(error);
        }
        deltas.walked();
        if piece.is_empty() { Ok(()) } else { send(&mut piece) }
    }
}

async fn within<T>(deadline: Instant, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout_at(deadline, work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

// === impl Trouble ===

impl Trouble {
    /// Whether it is too early for another attempt.
    fn must_wait(&self, now: Instant) -> bool {
        self.not_before.is_some_and(|not_before| now < not_before)
    }

    fn failed(&mut self, now: Instant) {
        let wait = Duration::from_secs(1 << self.failures.min(5)).min(WAIT_MAX);
        self.failures = self.failures.saturating_add(1);
        self.not_before = Some(now + wait);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_become_rarer_up_to_a_bound() {
        let start = Instant::now();
        let mut trouble = Trouble::default();
        assert!(!trouble.must_wait(start));
        let waits: Vec<u64> = (0..8)
            .map(|_| {
                trouble.failed(start);
                (trouble.not_before.unwrap() - start).as_secs()
            })
            .collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30, 30]);
        assert!(trouble.must_wait(start));
        assert!(!trouble.must_wait(start + WAIT_MAX));
    }
}
