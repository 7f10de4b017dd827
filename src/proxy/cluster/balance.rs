//! Load balancing: which of the hosts is next.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::proxy::bootstrap::model::LoadBalancing;

/// What a balancer must know of a host.
pub(super) trait Target {
    /// Its share compared with the others', at least 1.
    fn weight(&self) -> u32;
    /// Requests it is working on.
    fn active_requests(&self) -> u64;
}

/// Chooses among hosts.
#[derive(Debug)]
pub(super) struct Balancer {
    policy: LoadBalancing,
    turn: AtomicU64,
}

// === impl Balancer ===

impl Balancer {
    /// A balancer whose first turn is at a random place, so that many proxies don't begin with the same host.
    #[must_use]
    pub(super) fn new(policy: LoadBalancing, random: u64) -> Balancer {
        Balancer { policy, turn: AtomicU64::new(random >> 1) }
    }

    /// The index of the next host; `None` if there are none. `random` gives random numbers.
    pub(super) fn choose<T: Target>(&self, hosts: &[T], mut random: impl FnMut() -> u64) -> Option<usize> {
        match self.policy {
            _ if hosts.len() < 2 => (!hosts.is_empty()).then_some(0),
            LoadBalancing::RoundRobin => Some(slot(hosts, self.turn.fetch_add(1, Ordering::Relaxed))),
            LoadBalancing::LeastRequest { choice_count } => {
                let mut chosen = slot(hosts, spread(random()));
                for _ in 1..choice_count {
                    let other = slot(hosts, spread(random()));
                    if hosts[other].active_requests() < hosts[chosen].active_requests() {
                        chosen = other;
                    }
                }
                Some(chosen)
            }
        }
    }
}

/// The host whose slot in the sequence is that one: with weights 1 and 3, every fourth slot is the first host's.
fn slot<T: Target>(hosts: &[T], turn: u64) -> usize {
    let first = hosts[0].weight();
    if hosts.iter().all(|host| host.weight() == first) {
        return usize::try_from(turn % hosts.len() as u64).unwrap_or(0);
    }
    let sum: u64 = hosts.iter().map(|host| u64::from(host.weight())).sum();
    // A stride that has no divisor in common with the sum visits every slot once, and not one host's all in a row.
    let mut stride = (sum * 618 / 1000).max(1);
    while greatest_common_divisor(stride, sum) != 1 {
        stride += 1;
    }
    let mut rest = (turn % sum) * stride % sum;
    for (index, host) in hosts.iter().enumerate() {
        match rest.checked_sub(u64::from(host.weight())) {
            Some(beyond) => rest = beyond,
            None => return index,
        }
    }
    0
}

/// Random numbers may have their entropy in some bits only; a turn needs it in the low ones.
fn spread(random: u64) -> u64 {
    random.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32
}

fn greatest_common_divisor(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fake(u32, u64);

    impl Target for Fake {
        fn weight(&self) -> u32 {
            self.0
        }

        fn active_requests(&self) -> u64 {
            self.1
        }
    }

    fn counts(policy: LoadBalancing, hosts: &[Fake], turns: usize) -> Vec<usize> {
        let balancer = Balancer::new(policy, 0);
        let mut seed = 1_u64;
        let mut counts = vec![0; hosts.len()];
        for _ in 0..turns {
            let random = || {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                seed
            };
            counts[balancer.choose(hosts, random).unwrap()] += 1;
        }
        counts
    }

    #[test]
    fn round_robin_takes_turns_by_weight() {
        assert_eq!(counts(LoadBalancing::RoundRobin, &[Fake(1, 0), Fake(1, 9), Fake(1, 0)], 300), [100, 100, 100]);
        assert_eq!(counts(LoadBalancing::RoundRobin, &[Fake(1, 0), Fake(3, 0)], 400), [100, 300]);
    }

    #[test]
    fn least_request_prefers_who_has_less_to_do() {
        let policy = LoadBalancing::LeastRequest { choice_count: 2 };
        let counts = counts(policy, &[Fake(1, 5), Fake(1, 0), Fake(1, 5)], 9000);
        assert!((4500..5500).contains(&counts[1]), "five of nine pairs hold the idle one: {counts:?}");
    }

    #[test]
    fn nobody_is_chosen_among_none() {
        assert_eq!(Balancer::new(LoadBalancing::RoundRobin, 7).choose(&[] as &[Fake], || 0), None);
    }
}
