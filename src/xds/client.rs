//! The client: one stream after another, for as long as the process serves.
//!
//! It owns the one writer of the table. That it runs is all that the rest knows of it, and that the server has told its
//! first rules, for which a start may wait. Whatever happens here, requests are answered by the rules in force.

use std::pin::pin;

use tokio::sync::watch;
use tokio::task::JoinError;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::XdsServer;
use super::connection::{self, Opened};
use super::intake::{Intake, Taken};
use super::outage::{Outage, SETTLED};
use super::protocol::{Named, Protocol};
use crate::metrics::Metrics;
use crate::proto::envoy::service::discovery::v3::DiscoveryResponse;
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
    /// There was a panic in what takes answers.
    Broken(JoinError),
}

// === impl FirstRules ===

impl FirstRules {
    /// Waits until the server has told rules, and for ever if it never does.
    pub async fn told(mut self) {
        // Without its client nobody will ever tell.
        drop(self.0.wait_for(|told| *told).await);
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
        let began = Instant::now();
        let (mut stands, mut served) = (false, false);
        // Where there are no rules the server says nothing at all.
        let mut settled = pin!(sleep(SETTLED));
        loop {
            let next = tokio::select! {
                next = opened.answers.next() => Some(next),
                () = &mut settled, if !stands => None,
            };
            let answer = match next {
                Some(Err(reason)) => {
                    served |= began.elapsed() >= self.server.pauses.max.max(SETTLED);
                    return Ended::Lost { reason, served };
                }
                Some(Ok(answer)) => Some(answer),
                None => None,
            };
            stands = true;
            self.outage.over(self.metrics.totals());
            let Some(answer) = answer else { continue };
            served = true;
            let named = Named { version: answer.version_info.clone(), nonce: answer.nonce.clone() };
            let Taken { verdict, refused_before } = match self.take(answer).await {
                Ok(taken) => taken,
                Err(error) => return Ended::Broken(error),
            };
            self.told.send_replace(true);
            if refused_before > 0 {
                // Servers tell a refused set again at once, since its version isn't the one that we say we have.
                sleep(self.server.pauses.after(refused_before, rand::random())).await;
            }
            opened.asks.send(self.protocol.judge(named, verdict)).await;
        }
    }

    /// Takes an answer, beside the runtime: compiling a large set takes long enough for a health check to notice.
    async fn take(&mut self, answer: DiscoveryResponse) -> Result<Taken, JoinError> {
        let mut intake = self.intake.take().expect("it is put back below, or the client has ended");
        let (intake, taken) = tokio::task::spawn_blocking(move || {
            let taken = intake.take(&answer);
            (intake, taken)
        })
        .await?;
        self.intake = Some(intake);
        Ok(taken)
    }
}
