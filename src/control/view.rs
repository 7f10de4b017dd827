//! What a replica knows of the adaptive services, published whole: for metrics, for the admin pages, for nobody's
//! decisions.
//!
//! Each replica publishes its own, once a second: limits and counts are everyone's, because the store has them; what was
//! judged is known to the leader, and to others on request.

use std::sync::Arc;

use super::hand::OperatorsHand;
use super::history::Rates;
use super::law::Action;
use super::record::{DecisionRecord, Epoch, ReplicaId};
use crate::clock::Timestamp;
use crate::rate::Rate;
use crate::rules::service::Service;
use crate::signal::AbsenceKind;

/// All services as one replica sees them.
#[derive(Clone, Debug)]
pub struct ControllerView {
    /// The store's time when it was asked last.
    pub at: Timestamp,
    /// This replica.
    pub replica: ReplicaId,
    /// Who leads, as far as it is known.
    pub leader: Option<ReplicaId>,
    /// The number of this replica's own leadership, while it may decide.
    pub epoch: Option<Epoch>,
    /// Replicas that live.
    pub replicas: u32,
    /// Why the store of records can't be asked, if it can't: everything else is what was known before.
    pub trouble: Option<String>,
    /// Questions to the metrics that brought nothing, by kind, since this replica's start.
    pub failed_fetches: Vec<(AbsenceKind, u64)>,
    /// The services, in the order of the rule set.
    pub services: Vec<ServiceView>,
}

/// One service.
#[derive(Clone, Debug)]
pub struct ServiceView {
    /// What the operator wrote.
    pub service: Arc<Service>,
    /// The limit that its gate has now.
    pub limit: Rate,
    /// How often it has changed.
    pub generation: u64,
    /// What reached the gate and what passed it, lately.
    pub rates: Option<Rates>,
    /// The operator's hand.
    pub hand: Option<OperatorsHand>,
    /// The last step of the law, if this replica made it.
    pub last: Option<Arc<DecisionRecord>>,
    /// Changes of the limit that this replica has made since its start.
    pub changes: Changes,
}

/// Changes of a limit, counted by what was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes([u64; Action::ALL.len()]);

// === impl ControllerView ===

impl ControllerView {
    /// A replica that has asked nobody yet and has no services.
    #[must_use]
    pub fn empty(replica: ReplicaId) -> ControllerView {
        ControllerView {
            at: Timestamp::default(),
            replica,
            leader: None,
            epoch: None,
            replicas: 0,
            trouble: None,
            failed_fetches: Vec::new(),
            services: Vec::new(),
        }
    }

    /// The service of that name.
    #[must_use]
    pub fn service(&self, name: &str) -> Option<&ServiceView> {
        self.services.iter().find(|view| &*view.service.name == name)
    }
}

// === impl Changes ===

impl Changes {
    /// Counts one.
    pub fn count(&mut self, action: Action) {
        let index = Action::ALL.iter().position(|known| *known == action);
        index.into_iter().for_each(|index| self.0[index] += 1);
    }

    /// How many there were, by what was done.
    pub fn iter(&self) -> impl Iterator<Item = (Action, u64)> + '_ {
        Action::ALL.into_iter().zip(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_action_is_counted_apart() {
        let mut changes = Changes::default();
        for (index, action) in Action::ALL.into_iter().enumerate() {
            (0..=index).for_each(|_| changes.count(action));
        }
        assert_eq!(changes.iter().map(|(_, count)| count).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6, 7]);
    }
}
