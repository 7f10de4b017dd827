//! The client: one stream after another, for as long as the process serves.
//!
//! It owns the one writer of the table. That it runs is all that the rest knows of it, and that the server has told its
//! first rules, for which a start may wait. Whatever happens here, requests are answered by the rules in force.

use std::future::pending;
use std::pin::pin;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinError;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::XdsServer;
use super::answer::Answer;
use super::connection::{self, NoAnswer, Opened};
use super::intake::{Intake, Taken};
use super::outage::{Outage, SETTLED};
use super::protocol::{Protocol, Verdict};
use crate::metrics::Metrics;
use crate::rules::Options;
use crate::table::TableWriter;

/// Asks the server for rules.
#[derive(Debug)]
pub struct XdsClient {
    server: XdsServer,
    metrics: Metrics,
    protocol: Protocol,
    outage: Outage,
    /// `None` while an answer is taken.
    intake: Option<Intake>,
    told: watch::Sender<bool>,
}

/// Knows when the server has told rules for the first time, right ones or wrong.
#[derive(Clone, Debug)]
pub struct FirstRules(watch::Receiver<bool>);

/// How a stream ended.
enum Ended {
    /// The server or the way to it is gone.
    Lost {
        reason: String,
        /// Whether it was of use.
        served: bool,
    },
    /// What takes answers was taken away: the runtime ends.
    Broken(JoinError),
}

/// Shortest time from a set that is accepted to the next that is: each costs a table, and the counters of its rules.
const ACCEPTED_EACH: Duration = Duration::from_millis(50);

/// Why a connection is left on which not one byte came.
const SILENT: &str = "it takes the connection and says nothing in time (rules.xds.connect_timeout)";

// === impl FirstRules ===

impl FirstRules {
    /// Waits until the server has told rules, and for ever if it never does.
    pub async fn told(mut self) {
        if self.0.wait_for(|told| *told).await.is_err() {
            // Without its client nobody will ever tell, and that is no reason to open ports without rules.
            pending().await
        }
    }
}

// === impl XdsClient ===

impl XdsClient {
    /// A client that puts what `server` tells into `writer`'s table.
    #[must_use]
    pub fn new(server: XdsServer, options: Options, writer: TableWriter, metrics: Metrics) -> (XdsClient, FirstRules) {
        let (told, first) = watch::channel(false);
        let client = XdsClient {
            metrics: metrics.clone(),
            protocol: Protocol::default(),
            outage: Outage::new(server.address.clone()),
            intake: Some(Intake::new(options, writer, metrics)),
            told,
            server,
        };
        (client, FirstRules(first))
    }

    /// Asks until `stop` is cancelled.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut failures = 0_u32;
        loop {
            let ended = tokio::select! {
                () = stop.cancelled() => return,
                ended = self.stream() => ended,
            };
            match ended {
                Ended::Broken(error) => return tracing::error!(%error, "rules are no longer taken from the xDS server"),
                Ended::Lost { reason, served } => {
                    self.outage.goes_on(reason, self.metrics.totals());
                    failures = if served { 1 } else { failures.saturating_add(1) };
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = sleep(self.server.pauses.after(failures, rand::random())) => {}
            }
        }
    }

    /// One stream, from its beginning to its end.
    async fn stream(&mut self) -> Ended {
        let mut opened: Opened = match connection::open(&self.server).await {
            Ok(opened) => opened,
            Err(reason) => return Ended::Lost { reason, served: false },
        };
        opened.asks.send(self.protocol.begin()).await;
        let heard = opened.heard.clone();
        // Where there are no rules the server says nothing at all but that it speaks HTTP/2.
        let mut settled = pin!(async {
            timeout(self.server.connect_timeout, heard.cancelled()).await?;
            sleep(SETTLED).await;
            Ok::<(), Elapsed>(())
        });
        let (mut stands, mut accepted) = (false, None::<Instant>);
        loop {
            let next = tokio::select! {
                next = opened.answers.next() => next.map(Some),
                silent = &mut settled, if !stands => silent.map(|()| None).map_err(|_| NoAnswer::Lost(SILENT.to_owned())),
            };
            let answer = match next {
                Ok(answer) => answer,
                Err(NoAnswer::Lost(reason)) => return Ended::Lost { reason, served: stands },
                Err(NoAnswer::Unreadable(reason)) => {
                    if let Some(intake) = &mut self.intake {
                        intake.refuse_unread(&reason);
                    }
                    return Ended::Lost { reason, served: stands };
                }
            };
            stands = true;
            self.outage.over(self.metrics.totals());
            let Some(answer) = answer else { continue };
            let named = answer.named.clone();
            let Taken { verdict, refused_before, had_rules } = match take(&mut self.intake, answer).await {
                Ok(taken) => taken,
                Err(error) => return Ended::Broken(error),
            };
            if had_rules {
                self.told.send_replace(true);
            }
            if refused_before > 0 {
                // Servers tell a refused set again at once, since its version isn't the one that we say we have.
                sleep(self.server.pauses.after(refused_before, rand::random())).await;
            }
            if verdict == Verdict::Accepted {
                if let Some(last) = accepted {
                    sleep_until(last + ACCEPTED_EACH).await;
                }
                accepted = Some(Instant::now());
            }
            opened.asks.send(self.protocol.judge(named, verdict)).await;
        }
    }
}

/// Takes an answer, beside the runtime: compiling a large set takes long enough for a health check to notice.
async fn take(place: &mut Option<Intake>, answer: Answer) -> Result<Taken, JoinError> {
    let mut intake = place.take().expect("it is put back below, or the client has ended");
    let (intake, taken) = tokio::task::spawn_blocking(move || {
        let taken = intake.take(&answer);
        (intake, taken)
    })
    .await?;
    *place = Some(intake);
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_a_client_that_is_gone_in_order_to_go_on_without_rules() {
        let (told, first) = watch::channel(false);
        drop(told);
        assert!(timeout(Duration::from_secs(3_600), FirstRules(first).told()).await.is_err());
        let (told, first) = watch::channel(false);
        told.send_replace(true);
        drop(told);
        FirstRules(first).told().await;
    }
}
