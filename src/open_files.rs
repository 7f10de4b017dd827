//! How many files, and so connections, the process may have open.
//!
//! Systems give a process a low limit, often 1,024, that it may raise itself up to a higher one. The low one is for
//! programs that wait by `select`, which knows no higher numbers. A server raises it at its start, as Go's runtime does
//! for the reference service, so that nobody has to do it by hand.

use std::fmt;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::settings::Settings;

/// The process may have fewer files open than its settings promise connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooFew {
    files: u64,
    needed: u64,
}

/// Files beside the connections: listeners, Redis, rules, what the runtimes have for themselves.
const OTHERS: u64 = 128;

/// Raises the limit as far as the system allows, and returns what it is then; `None` for no limit.
pub fn raise() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        // Some systems don't take what they said themselves. What there was is still there.
        Err(_) => limit.current,
    }
}

/// Whether `files` are fewer than the connections that the settings allow.
#[must_use]
pub fn too_few(files: Option<u64>, settings: &Settings) -> Option<TooFew> {
    let connections = settings.grpc.connections_max + settings.http.connections_max;
    let needed = connections as u64 + OTHERS;
    files.filter(|files| *files < needed).map(|files| TooFew { files, needed })
}

impl fmt::Display for TooFew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let TooFew { files, needed } = self;
        write!(
            f,
            "this process may have {files} files open, too few for grpc.connections_max and http.connections_max: \
             allow it {needed} (ulimit -n, LimitNOFILE), or lower them"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_told_where_it_is_lower_than_what_the_settings_allow() {
        let settings = Settings::default();
        let needed = (settings.grpc.connections_max + settings.http.connections_max) as u64 + OTHERS;
        assert_eq!(too_few(None, &settings), None);
        assert_eq!(too_few(Some(needed), &settings), None);
        let warning = too_few(Some(needed - 1), &settings).unwrap().to_string();
        assert!(warning.contains(&needed.to_string()), "{warning}");
    }
}
