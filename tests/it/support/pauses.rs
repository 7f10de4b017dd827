//! When the machine stood still, or was so busy that nobody's turn came. What was under way then, and all that is due at
//! once when it goes on, says nothing of a program; claims about a steady load leave it out.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;

/// A thread that looks at the clock; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Pauses {
    seen: Arc<Mutex<Seen>>,
    _end: Sender<()>,
}

#[derive(Debug)]
struct Seen {
    /// From when to when nobody looked.
    pauses: Vec<(Instant, Instant)>,
    looked: Instant,
}

/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// A longer time between two looks is a pause.
const LONG: Duration = Duration::from_millis(150);

/// So long after a pause what came of it is still to be seen.
const AFTERMATH: Duration = Duration::from_secs(3);

// === impl Pauses ===

impl Pauses {
    /// Looks from now on.
    pub(crate) fn watch() -> Pauses {
        let seen = Arc::new(Mutex::new(Seen { pauses: Vec::new(), looked: Instant::now() }));
        let (sender, end) = channel();
        std::thread::spawn({
            let seen = Arc::clone(&seen);
            move || {
                while end.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                    seen.lock().unwrap().look();
                }
            }
        });
        Pauses { seen, _end: sender }
    }

    /// How long it stood still in all.
    pub(crate) fn lost(&self) -> Duration {
        let mut seen = self.seen.lock().unwrap();
        seen.look();
        seen.pauses.iter().map(|(begun, ended)| *ended - *begun).sum()
    }

    /// Whether the machine stood still between these instants, or so shortly before that it still showed.
    pub(crate) fn touched(&self, from: Instant, to: Instant) -> bool {
        let mut seen = self.seen.lock().unwrap();
        // The watcher may not have had its turn yet since the last one.
        seen.look();
        seen.pauses.iter().any(|(begun, ended)| *begun <= to && from <= *ended + AFTERMATH)
    }
}

// === impl Seen ===

impl Seen {
    fn look(&mut self) {
        let now = Instant::now();
        if now.duration_since(self.looked) > LONG {
            self.pauses.push((self.looked, now));
        }
        self.looked = now;
    }
}
