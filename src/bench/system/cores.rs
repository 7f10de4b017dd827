//! Which core each process runs on: the server on one, everything that loads it on another.
//!
//! Two cores are used however many there are, so that runs on different machines mean the same: the generator and Redis
//! share theirs. `taskset` (util-linux) does the pinning, because it needs no privilege and no unsafe code.

use std::ffi::{OsStr, OsString};
use std::process::Command;
use std::sync::OnceLock;

use super::program::tethered;

/// The cores of a comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cores {
    /// The server has the first, generator and Redis the second.
    Pinned {
        /// Number of the server's core.
        server: usize,
        /// Number of the core of generator and Redis.
        load: usize,
    },
    /// The system places everything.
    Free {
        /// Why.
        reason: &'static str,
    },
}

/// Where a process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// On the server's core.
    Server,
    /// On the core of generator and Redis.
    Load,
    /// On the core of generator and Redis, and there only while neither wants it.
    Spare,
    /// On both.
    Both,
}

// === impl Cores ===

impl Cores {
    /// The first two cores that this process may use, if there are two and `taskset` works.
    #[must_use]
    pub fn find() -> Cores {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap_or_default();
        let works = Command::new("taskset").arg("--version").output().is_ok_and(|output| output.status.success());
        match first_two(list) {
            None => Cores::Free { reason: "fewer than two cores are at hand" },
            Some(_) if !works => Cores::Free { reason: "taskset (util-linux) is not installed" },
            Some((server, load)) => Cores::Pinned { server, load },
        }
    }

    /// A command that runs `program` at that place.
    pub fn command(&self, place: Place, program: impl AsRef<OsStr>) -> Command {
        // Each word becomes the next, and the last the program, under the same process id.
        let mut words: Vec<OsString> = Vec::new();
        if let Cores::Pinned { server, load } = self {
            let list = match place {
                Place::Server => server.to_string(),
                Place::Load | Place::Spare => load.to_string(),
                Place::Both => format!("{server},{load}"),
            };
            words.extend(["taskset".into(), "-c".into(), list.into()]);
        }
        if place == Place::Spare && can_yield() {
            words.extend(YIELDING.map(OsString::from));
        }
        words.push(program.as_ref().to_owned());
        let mut command = tethered(&words[0]);
        command.args(&words[1..]);
        command
    }
}

/// Starts a program that gives way to every other (SCHED_IDLE); like `taskset` it is part of util-linux.
const YIELDING: [&str; 3] = ["chrt", "--idle", "0"];

/// Whether a process at [`Place::Spare`] does give way to others.
#[must_use]
pub fn can_yield() -> bool {
    static WORKS: OnceLock<bool> = OnceLock::new();
    let tried = || Command::new(YIELDING[0]).args(&YIELDING[1..]).arg("true").output();
    *WORKS.get_or_init(|| tried().is_ok_and(|output| output.status.success()))
}

/// The two lowest numbers of a list such as `0-3,8`.
fn first_two(list: &str) -> Option<(usize, usize)> {
    let mut numbers = list.trim().split(',').filter_map(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.trim().parse::<usize>().ok()?..=last.trim().parse::<usize>().ok()?)
    });
    let mut numbers = numbers.by_ref().flatten();
    Some((numbers.next()?, numbers.next()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_lowest_cores_are_taken_where_there_are_two() {
        assert_eq!(first_two("\t0-3,8\n"), Some((0, 1)));
        assert_eq!(first_two("2,5-7"), Some((2, 5)));
        assert_eq!(first_two("4"), None);
        assert_eq!(first_two(""), None);
    }
}
