//! CPU time: of single processes to the nanosecond, and of the whole machine to the tick.
//!
//! ```text
//! /proc/<pid>/task/*/schedstat    ns on a core, for every thread: what a decision costs
//! /proc/stat                      ticks of all processes together, and those stolen by the hypervisor
//! ```
//!
//! What the machine did and our own processes did not is *foreign*: it takes cores and caches from what is measured,
//! and a round with much of it says little. Interrupts are left out of it; most of them are our own network.

use std::fs;
use std::time::Duration;

/// CPU time that the threads of these processes have had since each began. Threads that have ended, and processes that
/// are gone, count nothing.
#[must_use]
pub fn of_processes(ids: &[u32]) -> Duration {
    let nanos: u64 = ids.iter().map(|id| of_process(*id)).sum();
    Duration::from_nanos(nanos)
}

fn of_process(id: u32) -> u64 {
    let Ok(tasks) = fs::read_dir(format!("/proc/{id}/task")) else { return 0 };
    let times = tasks.flatten().filter_map(|task| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    });
    times.sum()
}

/// CPU time of this process, and of its children that have ended and were waited for. In ticks.
#[must_use]
pub fn of_this_and_ended() -> Duration {
    let text = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    Duration::from_millis(own_ticks(&text) * MILLIS_PER_TICK)
}

/// `pid (name) state …`: of the fields behind the name, utime, stime, cutime and cstime.
fn own_ticks(stat: &str) -> u64 {
    let (_, fields) = stat.rsplit_once(')').unwrap_or_default();
    fields.split_whitespace().skip(11).take(4).filter_map(|number| number.parse::<u64>().ok()).sum()
}

/// CPU time of all processes of the machine since it began, interrupts left out, time stolen by the hypervisor
/// included. In ticks, mostly of 10 ms.
#[must_use]
pub fn of_machine() -> Duration {
    let text = fs::read_to_string("/proc/stat").unwrap_or_default();
    Duration::from_millis(busy_ticks(&text) * MILLIS_PER_TICK)
}

/// USER_HZ: 100 on every architecture that Linux still runs on, whatever the kernel's own tick is.
const MILLIS_PER_TICK: u64 = 10;

/// `cpu  user nice system idle iowait irq softirq steal guest guest_nice`; guests are part of user.
fn busy_ticks(stat: &str) -> u64 {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu ")).unwrap_or_default();
    let ticks: Vec<u64> = line.split_whitespace().filter_map(|number| number.parse().ok()).collect();
    [0, 1, 2, 7].iter().filter_map(|at| ticks.get(*at)).sum()
}

/// Cores that others used on average while `elapsed` passed: 0 for none, 1 for a whole one.
#[must_use]
pub fn foreign_cores(machine: Duration, ours: Duration, elapsed: Duration) -> f64 {
    if elapsed.is_zero() { 0.0 } else { machine.saturating_sub(ours).as_secs_f64() / elapsed.as_secs_f64() }
}

/// Memory that a process holds now, in bytes; 0 if it is gone.
#[must_use]
pub fn resident_bytes(id: u32) -> u64 {
    status_bytes(id, "VmRSS:")
}

/// The most memory that a process has held since [`forget_resident_bytes_max`], or since its start where the kernel
/// does not forget it; in bytes, 0 if it is gone.
#[must_use]
pub fn resident_bytes_max(id: u32) -> u64 {
    status_bytes(id, "VmHWM:")
}

/// Makes the kernel forget the most memory that a process has held.
pub fn forget_resident_bytes_max(id: u32) {
    // Few kernels can't; there the most is that since the process's start.
    drop(fs::write(format!("/proc/{id}/clear_refs"), "5"));
}

fn status_bytes(id: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or_default() * 1_024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_time_and_interrupts_are_not_busy_and_stolen_time_is() {
        let stat = "cpu  1 20 300 4000 50000 600000 7000000 80000000 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n";
        assert_eq!(busy_ticks(stat), 80_000_321);
        assert_eq!(busy_ticks(""), 0);
    }

    #[test]
    fn the_time_of_ended_children_is_ours() {
        let stat = "7 (a (b) c) S 1 7 7 0 -1 4194304 100 200 0 0 1000 200 30 4 20 0 1 0 5 6";
        assert_eq!(own_ticks(stat), 1_234);
    }

    #[test]
    fn what_our_processes_did_is_not_foreign() {
        let seconds = Duration::from_secs_f64;
        assert_eq!(foreign_cores(seconds(3.0), seconds(2.5), seconds(2.0)), 0.25);
        // Ticks are coarse: ours may seem more than all.
        assert_eq!(foreign_cores(seconds(2.4), seconds(2.5), seconds(2.0)), 0.0);
    }

    #[test]
    fn this_process_has_used_time_and_memory() {
        let id = std::process::id();
        assert!(of_processes(&[id]) > Duration::ZERO);
        assert!(resident_bytes(id) > 1 << 20);
        assert!(resident_bytes_max(id) > 1 << 20);
        assert_eq!(of_processes(&[u32::MAX]), Duration::ZERO);
    }
}
