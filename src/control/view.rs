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
    /// What this replica has counted of the service since its start.
    pub counts: Counts,
}

/// What is counted of a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    changes: [u64; Action::ALL.len()],
    failures: [u64; AbsenceKind::ALL.len()],
}

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
            services: Vec::new(),
        }
    }

    /// The service of that name.
    #[must_use]
    pub fn service(&self, name: &str) -> Option<&ServiceView> {
        self.services.iter().find(|view| &*view.service.name == name)
    }
}

// === impl Counts ===

impl Counts {
    /// Counts a change of the limit.
    pub fn count_change(&mut self, action: Action) {
        let index = Action::ALL.iter().position(|known| *known == action);
        index.into_iter().for_each(|index| self.changes[index] += 1);
    }

    /// Counts a question to the metrics that brought nothing.
    pub fn count_failure(&mut self, kind: AbsenceKind) {
        let index = AbsenceKind::ALL.iter().position(|known| *known == kind);
        index.into_iter().for_each(|index| self.failures[index] += 1);
    }

    /// Changes by what was done.
    pub fn changes(&self) -> impl Iterator<Item = (Action, u64)> + '_ {
        Action::ALL.into_iter().zip(self.changes)
    }

    /// Failed questions by the kind of their failure.
    pub fn failures(&self) -> impl Iterator<Item = (AbsenceKind, u64)> + '_ {
        AbsenceKind::ALL.into_iter().zip(self.failures)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_counted_apart() {
        let mut counts = Counts::default();
        for (index, action) in Action::ALL.into_iter().enumerate() {
            (0..=index).for_each(|_| counts.count_change(action));
        }
        counts.count_failure(AbsenceKind::Stale);
        assert_eq!(counts.changes().map(|(_, count)| count).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6, 7]);
        let failures: Vec<_> = counts.failures().filter(|(_, count)| *count > 0).collect();
        assert_eq!(failures, [(AbsenceKind::Stale, 1)]);
    }
}
