//! What a waiting person sees: on a terminal one line that changes, elsewhere a line now and then.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use super::load::outcome::Outcome;
use super::load::timeline::Timeline;
use super::stage::Stage;

/// Shows how far the run is, on standard error.
#[derive(Debug)]
pub struct Progress {
    is_terminal: bool,
    stages: usize,
    begun: usize,
    /// When something was last shown, in the stage's time.
    shown: Duration,
}

/// Between two lines where nobody looks at a terminal.
const PAUSE: Duration = Duration::from_secs(5);

/// Letters of the bar.
const BAR: usize = 20;

// === impl Progress ===

impl Progress {
    /// Of a run of so many stages.
    #[must_use]
    pub fn new(stages: usize) -> Progress {
        Progress { is_terminal: std::io::stderr().is_terminal(), stages, begun: 0, shown: Duration::ZERO }
    }

    /// Says something that stays.
    pub fn say(&self, text: &str) {
        self.clear();
        show(format_args!("{text}\n"));
    }

    /// A stage begins.
    pub fn begin(&mut self, stage: Stage) {
        self.begun += 1;
        self.shown = Duration::ZERO;
        self.say(&format!("[{}/{}] {}: {}", self.begun, self.stages, stage.name(), stage.story()));
    }

    /// Shows how far the stage is.
    pub fn show(&mut self, timeline: &mut Timeline, now: Duration, length: Duration) {
        if !self.is_terminal && now < self.shown + PAUSE {
            return;
        }
        self.shown = now;
        // The slice before the present one is complete.
        let seconds = timeline.slice_length().as_secs_f64();
        let Some(slice) = timeline.at(now.saturating_sub(timeline.slice_length())) else { return };
        let rate = |count: u64| count as f64 / seconds;
        let of = |outcome: Outcome| slice.ended[outcome as usize];
        let (good, refused) = (of(Outcome::Good), of(Outcome::Refused));
        let errors = slice.ended.iter().sum::<u64>() - good - refused;
        let text = format!(
            "{} {:>3.0} of {:.0} s   offered {:>4.0}/s   good {:>4.0}/s   refused {:>4.0}/s   errors {:>4.0}/s",
            bar(now, length),
            now.as_secs_f64(),
            length.as_secs_f64(),
            rate(slice.offered),
            rate(good),
            rate(refused),
            rate(errors),
        );
        if self.is_terminal {
            show(format_args!("\r\x1b[K      {text}"));
        } else {
            show(format_args!("      {text}\n"));
        }
    }

    /// Removes the line that changes.
    pub fn clear(&self) {
        if self.is_terminal {
            show(format_args!("\r\x1b[K"));
        }
    }
}

fn bar(now: Duration, length: Duration) -> String {
    let share = (now.as_secs_f64() / length.as_secs_f64().max(f64::MIN_POSITIVE)).clamp(0.0, 1.0);
    let done = (share * BAR as f64).round() as usize;
    format!("{}{}", "█".repeat(done), "░".repeat(BAR - done))
}

/// Progress that can't be shown is not missed.
fn show(text: std::fmt::Arguments<'_>) {
    drop(std::io::stderr().write_fmt(text));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_is_as_long_at_every_instant() {
        for seconds in 0..40 {
            let bar = bar(Duration::from_secs(seconds), Duration::from_secs(28));
            assert_eq!(bar.chars().count(), BAR, "{seconds}");
        }
        assert_eq!(bar(Duration::ZERO, Duration::ZERO).chars().count(), BAR);
    }
}
