//! Refusals in a row, whatever was refused: after how many is one answered, and which are told in the log.
//!
//! Servers tell a refused set again at once, and may tell one wrong set after another. Neither may become a loop at the
//! network's speed, nor a log of hundred lines for each turn of it. So each refusal after another waits, and the log tells a
//! reason once, and new ones only as often as somebody could read them.

use std::time::Duration;

use tokio::time::Instant;

/// What was refused so far.
#[derive(Debug)]
pub(super) struct Refusals {
    in_a_row: u32,
    /// The reason told last, unless something was accepted since.
    told: Option<u64>,
    /// How many may be told at once.
    room: u32,
    room_since: Instant,
    withheld: u64,
}

/// Whether a refusal is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Telling {
    /// It is what was told last.
    Known,
    /// It is another one, too soon.
    Withheld,
    /// So many other ones were not told before.
    Told {
        /// Their number.
        withheld: u64,
    },
}

/// Reasons that may be told one after the other.
const ROOM_MAX: u32 = 4;

/// How long it takes until one more may.
const ROOM_EACH: Duration = Duration::from_secs(5);

// === impl Refusals ===

impl Refusals {
    pub(super) fn new(now: Instant) -> Refusals {
        Refusals { in_a_row: 0, told: None, room: ROOM_MAX, room_since: now, withheld: 0 }
    }

    /// Something was accepted.
    pub(super) fn end(&mut self) {
        self.in_a_row = 0;
        self.told = None;
    }

    /// Something was refused for `reason`, of which a hash is enough: how many were before it in a row, and whether it is
    /// told.
    pub(super) fn add(&mut self, reason: u64, now: Instant) -> (u32, Telling) {
        let before = self.in_a_row;
        self.in_a_row = before.saturating_add(1);
        (before, self.telling(reason, now))
    }

    fn telling(&mut self, reason: u64, now: Instant) -> Telling {
        if self.told == Some(reason) {
            return Telling::Known;
        }
        let gained = (now - self.room_since).as_secs() / ROOM_EACH.as_secs();
        if gained > 0 {
            self.room = u32::try_from(gained).unwrap_or(u32::MAX).saturating_add(self.room).min(ROOM_MAX);
            self.room_since = now;
        }
        if self.room == 0 {
            self.withheld += 1;
            return Telling::Withheld;
        }
        self.room -= 1;
        self.told = Some(reason);
        Telling::Told { withheld: std::mem::take(&mut self.withheld) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_count_in_a_row_whatever_they_are() {
        let now = Instant::now();
        let mut refusals = Refusals::new(now);
        let before: Vec<u32> = [7, 7, 8, 7].map(|reason| refusals.add(reason, now).0).to_vec();
        assert_eq!(before, [0, 1, 2, 3]);
        refusals.end();
        assert_eq!(refusals.add(7, now).0, 0);
    }

    #[test]
    fn a_reason_is_told_once_until_something_is_accepted() {
        let now = Instant::now();
        let mut refusals = Refusals::new(now);
        assert_eq!(refusals.add(7, now).1, Telling::Told { withheld: 0 });
        assert_eq!(refusals.add(7, now + ROOM_EACH * 100).1, Telling::Known);
        refusals.end();
        assert_eq!(refusals.add(7, now).1, Telling::Told { withheld: 0 });
    }

    #[test]
    fn of_ever_other_reasons_few_are_told_and_the_others_counted() {
        let now = Instant::now();
        let mut refusals = Refusals::new(now);
        let told = (0..100).filter(|turn| {
            refusals.end();
            matches!(refusals.add(turn % 2, now).1, Telling::Told { .. })
        });
        assert_eq!(told.count(), 4, "also if something is accepted in between");
        assert_eq!(refusals.add(2, now + ROOM_EACH).1, Telling::Told { withheld: 96 });
        assert_eq!(refusals.add(3, now + ROOM_EACH).1, Telling::Withheld);
    }
}
