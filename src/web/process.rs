//! What the kernel says about this process, under Prometheus's usual names.
//!
//! Read from `/proc` while a scrape is written. Where there is no `/proc`, or a field is not what it should be, the
//! series is left out: a wrong number is worse than none. See `man 5 proc`.

use std::fmt;
use std::fs;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType;

use crate::metrics::exposition::single;

/// Reads `/proc` each time it is scraped.
#[derive(Clone, Copy, Debug, Default)]
pub struct Process;

/// Ticks per second in which the kernel states times to programs (`USER_HZ`): 100 on every architecture that Rust's
/// standard library runs on.
const TICKS_PER_SECOND: f64 = 100.0;

// === impl Process ===

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        let machine = fs::read_to_string("/proc/stat").unwrap_or_default();
        let encoder = &mut encoder;
        if let Some(bytes) = memory_bytes(&status, "VmRSS:") {
            single(encoder, "process_resident_memory_bytes", "Memory in use.", MetricType::Gauge, bytes)?;
        }
        if let Some(bytes) = memory_bytes(&status, "VmSize:") {
            single(encoder, "process_virtual_memory_bytes", "Memory that is mapped.", MetricType::Gauge, bytes)?;
        }
        if let Some(seconds) = start_seconds(&stat, &machine) {
            single(encoder, "process_start_time_seconds", "Start, since 1970.", MetricType::Gauge, seconds)?;
        }
        if let Some(seconds) = processor_seconds(&stat) {
            single(encoder, "process_cpu_seconds_total", "Processor time used.", MetricType::Counter, seconds)?;
        }
        Ok(())
    }
}

/// A line of `status` such as `VmRSS:     12345 kB`.
fn memory_bytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim_end().parse::<u64>().ok()?.checked_mul(1_024)
}

/// The field of `stat` with that number in the manual. The second field is a program's name in brackets, which may
/// hold blanks and brackets; the last closing one ends it.
fn stat_ticks(stat: &str, number: usize) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks: u64 = fields.split_ascii_whitespace().nth(number.checked_sub(3)?)?.parse().ok()?;
    Some(ticks as f64 / TICKS_PER_SECOND)
}

fn processor_seconds(stat: &str) -> Option<f64> {
    Some(stat_ticks(stat, 14)? + stat_ticks(stat, 15)?)
}

fn start_seconds(stat: &str, machine: &str) -> Option<f64> {
    let booted: u64 = machine.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(booted as f64 + stat_ticks(stat, 22)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str =
        "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 3 0 1234 1000000 300 18446744073709551615";

    #[test]
    fn a_program_name_with_brackets_moves_no_field() {
        assert_eq!(processor_seconds(STAT), Some(3.0));
        assert_eq!(start_seconds(STAT, "cpu 1 2\nbtime 1700000000\n"), Some(1_700_000_012.34));
    }

    #[test]
    fn memory_is_stated_in_bytes() {
        assert_eq!(memory_bytes("Name:\tx\nVmRSS:\t   2048 kB\n", "VmRSS:"), Some(2_097_152));
        assert_eq!(memory_bytes("VmRSS:\t   2048 MB\n", "VmRSS:"), None);
        assert_eq!(memory_bytes("", "VmRSS:"), None);
    }

    #[test]
    fn nothing_is_made_up_from_nonsense() {
        assert_eq!(processor_seconds(""), None);
        assert_eq!(processor_seconds("7 (a) S 1"), None);
        assert_eq!(start_seconds(STAT, ""), None);
    }
}
