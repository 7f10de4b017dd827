//! Whether this process should be sent requests.
//!
//! It should when everything it needs has come up and it isn't shutting down. Whoever knows about a part reports on it
//! ([`Health::up`], [`Health::down`]); the HTTP health check reads the state, and gRPC health follows it through a
//! watch, so the two can't say different things for longer than a task takes to wake. Shutting down is final.

use std::sync::Arc;

use tokio::sync::watch;

/// The health of the process. Cheap to clone; clones are the same health.
#[derive(Clone, Debug)]
pub struct Health {
    state: Arc<watch::Sender<HealthState>>,
}

/// A part that must be up before requests should come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Component {
    /// Some domain has rules.
    Rules,
    /// The counter store has been reached.
    Store,
}

/// The health at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthState {
    rules_missing: bool,
    store_missing: bool,
    shutting_down: bool,
}

// === impl Health ===

impl Health {
    /// The health of a process that serves once all `needed` parts have been reported up. What isn't among them is
    /// taken to be up until it is reported down.
    #[must_use]
    pub fn new(needed: &[Component]) -> Health {
        let state = HealthState {
            rules_missing: needed.contains(&Component::Rules),
            store_missing: needed.contains(&Component::Store),
            shutting_down: false,
        };
        Health { state: Arc::new(watch::Sender::new(state)) }
    }

    /// Reports a part as up.
    pub fn up(&self, component: Component) {
        self.change(|state| *state.missing(component) = false);
    }

    /// Reports a part as down.
    pub fn down(&self, component: Component) {
        self.change(|state| *state.missing(component) = true);
    }

    /// Reports that the process is about to end. There is no way back.
    pub fn shut_down(&self) {
        self.change(|state| state.shutting_down = true);
    }

    /// Whether requests should come.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.state.borrow().is_serving()
    }

    /// The state, now and whenever it changes.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<HealthState> {
        self.state.subscribe()
    }

    /// Watchers are woken by changes only: a store that is reported up on every ping wakes nobody.
    fn change(&self, change: impl FnOnce(&mut HealthState)) {
        self.state.send_if_modified(|state| {
            let before = *state;
            change(state);
            *state != before
        });
    }
}

// === impl HealthState ===

impl HealthState {
    /// Whether requests should come.
    #[must_use]
    pub fn is_serving(self) -> bool {
        !(self.rules_missing || self.store_missing || self.shutting_down)
    }

    fn missing(&mut self, component: Component) -> &mut bool {
        match component {
            Component::Rules => &mut self.rules_missing,
            Component::Store => &mut self.store_missing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_serves_once_everything_needed_is_up() {
        let health = Health::new(&[Component::Rules, Component::Store]);
        assert!(!health.is_serving());
        health.up(Component::Rules);
        assert!(!health.is_serving());
        health.up(Component::Store);
        assert!(health.is_serving());
        health.down(Component::Store);
        assert!(!health.is_serving());
    }

    #[test]
    fn what_is_not_needed_counts_as_up() {
        assert!(Health::new(&[]).is_serving());
    }

    #[test]
    fn nothing_serves_again_after_shutting_down() {
        let health = Health::new(&[Component::Store]);
        health.shut_down();
        health.up(Component::Store);
        assert!(!health.is_serving());
    }

    #[test]
    fn watchers_are_woken_by_changes_only() {
        let health = Health::new(&[Component::Store]);
        let mut watch = health.watch();
        health.down(Component::Store);
        assert!(!watch.has_changed().unwrap());
        health.up(Component::Store);
        assert!(watch.has_changed().unwrap());
        assert!(watch.borrow_and_update().is_serving());
    }
}
