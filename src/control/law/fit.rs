//! A state brought in line with the present: a clock that stepped back, bounds and targets that were changed.

use super::constants::Law;
use super::state::{Last, Normal, State};
use crate::clock::Timestamp;

impl State {
    /// Without instants that are still to come. A clock that stepped back behind the last change settles once from
    /// there, and not until it has caught up.
    pub(super) fn rewound(mut self, now: Timestamp) -> State {
        for at in [&mut self.changed_at, &mut self.fresh_at, &mut self.normal.at] {
            *at = (*at).min(now);
        }
        // What was judged in a time to come says nothing on whether this sample is newer.
        if self.judged_at > now {
            self.judged_at = Timestamp::default();
        }
        let further = [
            self.bad.as_mut().map(|bad| &mut bad.at),
            self.good.as_mut().map(|good| &mut good.at),
            self.episode.as_mut().map(|episode| &mut episode.since),
            self.unused_since.as_mut(),
        ];
        for at in further.into_iter().flatten() {
            *at = (*at).min(now);
        }
        self
    }

    /// Within the bounds of now and under its targets. What was learned under other targets or signals is forgotten;
    /// the limit stays where it can.
    pub(super) fn fitted(mut self, law: &Law, now: Timestamp) -> State {
        if self.fingerprint != law.fingerprint {
            self.fingerprint = law.fingerprint;
            self.normal = Normal::default();
            self.trial = None;
            self.bad = None;
            self.good = None;
            self.usual_latency = None;
            self.episode = None;
        }
        (self.min, self.max) = (law.min, law.max);
        self.before = self.before.map(|rate| law.within_bounds(rate));
        if let Some(trial) = &mut self.trial {
            trial.limit = law.within_bounds(trial.limit);
        }
        let limit = law.within_bounds(self.limit);
        if limit != self.limit {
            self = State { limit, changed_at: now, last: Last::None, before: None, confirmed: true, ..self };
        }
        self
    }
}
