//! A flag that SIGINT and SIGTERM raise.
//!
//! Ending at once would leave servers behind; so the signal only raises a flag, whoever waits sees it within
//! milliseconds and returns an error, and the stack unwinds through the `Drop`s that end the processes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use super::SystemError;

/// Whether somebody asked for the end. Clones share the flag.
#[derive(Clone, Debug, Default)]
pub struct Interrupt {
    raised: Arc<AtomicBool>,
}

/// Time between two looks at whatever is waited for.
const STEP: Duration = Duration::from_millis(5);

// === impl Interrupt ===

impl Interrupt {
    /// A flag that the process's signals raise from now on; without it they would end the process.
    #[must_use]
    pub fn on_signals() -> Interrupt {
        let interrupt = Interrupt::default();
        let raised = Arc::clone(&interrupt.raised);
        // A thread of its own, which sleeps in the kernel until a signal comes and ends with the process. Where it
        // can't be had, signals keep their usual meaning.
        std::thread::spawn(move || {
            let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
            runtime.block_on(async {
                let (Ok(mut interrupted), Ok(mut terminated)) =
                    (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
                else {
                    return;
                };
                tokio::select! {
                    _ = interrupted.recv() => {}
                    _ = terminated.recv() => {}
                }
                raised.store(true, Ordering::Relaxed);
                // Later signals change nothing: the end is under way.
                std::future::pending::<()>().await;
            });
        });
        interrupt
    }

    /// Goes on, unless the flag is raised.
    ///
    /// # Errors
    /// [`SystemError::Interrupted`] when it is.
    pub fn check(&self) -> Result<(), SystemError> {
        if self.raised.load(Ordering::Relaxed) { Err(SystemError::Interrupted) } else { Ok(()) }
    }

    /// Waits a little, between two looks at something.
    ///
    /// # Errors
    /// [`SystemError::Interrupted`] when the flag is raised.
    pub fn step(&self) -> Result<(), SystemError> {
        std::thread::sleep(STEP);
        self.check()
    }

    /// Waits so long.
    ///
    /// # Errors
    /// [`SystemError::Interrupted`] as soon as the flag is raised.
    pub fn pause(&self, time: Duration) -> Result<(), SystemError> {
        let mut left = time;
        while !left.is_zero() {
            let slice = left.min(Duration::from_millis(50));
            std::thread::sleep(slice);
            left -= slice;
            self.check()?;
        }
        Ok(())
    }

    /// Raises the flag, as a signal does.
    pub fn raise(&self) {
        self.raised.store(true, Ordering::Relaxed);
    }
}
