//! The statistics of the downstream side by their names. Whoever bears a name shares its statistics with all others who
//! bear it, as in Envoy: two listeners with one `stat_prefix`, routes with one local rate limit's.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::http::{HttpStats, ListenerStats, LocalRateLimitStats};
use super::sample::Sample;

/// All statistics that are named by a prefix or an address. There are as many as the configuration names.
#[derive(Debug, Default)]
pub struct Registry {
    all: Mutex<Named>,
}

/// The statistics as they are at one time.
#[derive(Clone, Debug, Default)]
pub struct Named {
    http: BTreeMap<String, Arc<HttpStats>>,
    listeners: BTreeMap<String, Arc<ListenerStats>>,
    local_rate_limits: BTreeMap<String, Arc<LocalRateLimitStats>>,
}

// === impl Registry ===

impl Registry {
    /// Those of HTTP connection managers with that `stat_prefix`.
    #[must_use]
    pub fn http(&self, prefix: &str) -> Arc<HttpStats> {
        let make = || Arc::new(HttpStats::new(prefix));
        Arc::clone(self.lock().http.entry(prefix.to_owned()).or_insert_with(make))
    }

    /// Those of listeners with that configured address.
    #[must_use]
    pub fn listener(&self, address: &str) -> Arc<ListenerStats> {
        let make = || Arc::new(ListenerStats::new(address));
        Arc::clone(self.lock().listeners.entry(address.to_owned()).or_insert_with(make))
    }

    /// Those of local rate limits with that `stat_prefix`.
    #[must_use]
    pub fn local_rate_limit(&self, prefix: &str) -> Arc<LocalRateLimitStats> {
        let make = || Arc::new(LocalRateLimitStats::new(prefix));
        Arc::clone(self.lock().local_rate_limits.entry(prefix.to_owned()).or_insert_with(make))
    }

    /// What there is now.
    #[must_use]
    pub fn all(&self) -> Named {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Named> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Named ===

impl Named {
    /// Lists all of them.
    pub fn list<'s>(&'s self, samples: &mut Vec<Sample<'s>>) {
        self.http.values().for_each(|stats| stats.list(samples));
        self.listeners.values().for_each(|stats| stats.list(samples));
        self.local_rate_limits.values().for_each(|stats| stats.list(samples));
    }

    /// Sets all counters back to zero.
    pub fn reset(&self) {
        self.http.values().for_each(|stats| stats.reset());
        self.listeners.values().for_each(|stats| stats.reset());
        self.local_rate_limits.values().for_each(|stats| stats.reset());
    }
}
