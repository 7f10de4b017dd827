//! STRICT_DNS: every address of a name is a host, and the name is looked up again and again.
//!
//! The system's resolver is asked; it tells no time to live, so the refresh rate alone says when to ask again. A lookup
//! that fails changes nothing: yesterday's addresses are better than none.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::Cluster;
use crate::proxy::bootstrap::model::{Discovery, DnsLookupFamily, Endpoint, Host};

/// Time that a lookup may take.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// Keeps the hosts of a cluster up to date; `ready` is told after the first time.
pub(super) async fn keep_resolving(cluster: Arc<Cluster>, ready: Arc<Notify>) {
    let Discovery::StrictDns { refresh_rate, lookup_family } = cluster.settings.discovery else { return };
    // What each endpoint's name meant last.
    let mut known: Vec<Vec<SocketAddr>> = vec![Vec::new(); cluster.settings.endpoints.len()];
    loop {
        let traffic = &cluster.stats.traffic;
        for (endpoint, addresses) in cluster.settings.endpoints.iter().zip(&mut known) {
            traffic.update_attempt.increment();
            match look_up(endpoint, lookup_family).await {
                Some(found) if found.is_empty() => traffic.update_empty.increment(),
                Some(found) => {
                    traffic.update_success.increment();
                    if found == *addresses {
                        traffic.update_no_rebuild.increment();
                    }
                    *addresses = found;
                }
                None => traffic.update_failure.increment(),
            }
        }
        let wanted = cluster
            .settings
            .endpoints
            .iter()
            .zip(&known)
            .flat_map(|(endpoint, addresses)| addresses.iter().map(move |address| (*address, endpoint)));
        cluster.set_hosts(&wanted.collect::<Vec<_>>());
        ready.notify_one();
        sleep(refresh_rate).await;
    }
}

/// The addresses of an endpoint, sorted; `None` if they can't be found out.
async fn look_up(endpoint: &Endpoint, family: DnsLookupFamily) -> Option<Vec<SocketAddr>> {
    let name = match &endpoint.host {
        Host::Address(address) => return Some(vec![SocketAddr::new(*address, endpoint.port)]),
        Host::Name(name) => name,
    };
    let found = match timeout(LOOKUP_TIMEOUT, lookup_host((name.as_str(), endpoint.port))).await {
        Ok(Ok(found)) => found.collect(),
        Ok(Err(error)) => {
            tracing::warn!(name, %error, "a name can't be looked up");
            return None;
        }
        Err(_) => {
            tracing::warn!(name, "a name was not looked up in time");
            return None;
        }
    };
    Some(of_family(found, family))
}

fn of_family(found: Vec<SocketAddr>, family: DnsLookupFamily) -> Vec<SocketAddr> {
    let (mut v4, mut v6): (Vec<_>, Vec<_>) = found.into_iter().partition(SocketAddr::is_ipv4);
    let mut chosen = match family {
        DnsLookupFamily::V4Only => v4,
        DnsLookupFamily::V6Only => v6,
        DnsLookupFamily::V4Preferred => {
            if v4.is_empty() {
                v6
            } else {
                v4
            }
        }
        DnsLookupFamily::Auto => {
            if v6.is_empty() {
                v4
            } else {
                v6
            }
        }
        DnsLookupFamily::All => {
            v4.append(&mut v6);
            v4
        }
    };
    chosen.sort_unstable();
    chosen.dedup();
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_family_says_which_addresses_count() {
        let (v4, v6) = (SocketAddr::from(([127, 0, 0, 1], 1)), SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 1)));
        let both = || vec![v6, v4, v4];
        assert_eq!(of_family(both(), DnsLookupFamily::V4Only), [v4]);
        assert_eq!(of_family(both(), DnsLookupFamily::V4Preferred), [v4]);
        assert_eq!(of_family(vec![v6], DnsLookupFamily::V4Preferred), [v6]);
        assert_eq!(of_family(both(), DnsLookupFamily::Auto), [v6]);
        assert_eq!(of_family(vec![v4], DnsLookupFamily::Auto), [v4]);
        assert_eq!(of_family(both(), DnsLookupFamily::V6Only), [v6]);
        assert_eq!(of_family(both(), DnsLookupFamily::All), [v4, v6]);
    }
}
