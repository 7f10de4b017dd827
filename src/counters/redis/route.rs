//! The way of one lane of a Redis Cluster: to whichever node serves its slot.
//!
//! What redirects calls is counted each time and told once for each change, however many cores and calls find out.

use std::sync::{Arc, Mutex, PoisonError};

use super::lanes::Lane;
use super::nodes::Nodes;
use super::redirect::{Node, Redirect};
use crate::metrics::Metrics;

/// A lane, and those who know where its slot is. Clones share what they know and what was told.
#[derive(Clone, Debug)]
pub(super) struct Route {
    nodes: Nodes,
    lane: Lane,
    /// What the log was told last.
    told: Arc<Mutex<Option<Redirect>>>,
    /// Whether the log is told.
    tells: bool,
    /// Where redirects are counted, if anywhere.
    metrics: Option<Metrics>,
}

// === impl Route ===

impl Route {
    /// The way of the lane of records.
    pub(super) fn new(nodes: Nodes) -> Route {
        Route { nodes, lane: Lane::RECORDS, told: Arc::default(), tells: true, metrics: None }
    }

    /// The way of another lane of the same cluster.
    pub(super) fn of(&self, lane: Lane) -> Route {
        Route { lane, told: Arc::default(), ..self.clone() }
    }

    /// The ways to all slots of the same cluster, of which each would be news.
    pub(super) fn to_any_slot(&self) -> Route {
        Route { tells: false, ..self.clone() }
    }

    /// The node that serves any slot, by the last map. The error is a sentence.
    pub(super) async fn node_of(&self, slot: u16) -> Result<Node, String> {
        self.nodes.likely_master(slot).await
    }

    /// The last map was found wrong.
    pub(super) fn doubt(&self) {
        self.nodes.doubt();
    }

    /// The same way, whose redirects are counted.
    pub(super) fn counted(self, metrics: &Metrics) -> Route {
        Route { metrics: Some(metrics.clone()), ..self }
    }

    pub(super) fn lane(&self) -> Lane {
        self.lane
    }

    /// The node to connect to. The error is a sentence.
    pub(super) async fn master(&self) -> Result<Node, String> {
        self.nodes.master(self.lane.slot()).await
    }

    /// Takes note of a call that was redirected.
    pub(super) fn note(&self, redirect: &Redirect) {
        if let Some(metrics) = &self.metrics {
            metrics.totals().redis_redirects.increment();
        }
        if let Redirect::Moved(_) = redirect {
            self.nodes.doubt();
        }
        let slot = self.lane.slot();
        match redirect {
            Redirect::Moved((host, port)) if self.is_news(redirect) => {
                tracing::info!(slot, host, port, "the slot is another node's of the Redis Cluster now, following it");
            }
            Redirect::Ask((host, port)) if self.is_news(redirect) => {
                tracing::info!(
                    slot,
                    host,
                    port,
                    "the slot is on its way to another node of the Redis Cluster, deciding one by one meanwhile"
                );
            }
            Redirect::Moved(_) | Redirect::Ask(_) | Redirect::TryAgain => {}
        }
    }

    fn is_news(&self, redirect: &Redirect) -> bool {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = self.tells && told.as_ref() != Some(redirect);
        if is_news {
            *told = Some(redirect.clone());
        }
        is_news
    }
}
