//! What one step of the law came to, and the numbers behind it.
//!
//! A [`Decision`] is kept, logged, shown and measured. It is whole: whoever reads it needs nothing else to follow it.

use serde::{Deserialize, Serialize};

use super::constants::Law;
use super::judge::Verdict;
use super::observation::Reading;
use super::state::{State, seconds_between};
use super::window::settle_left;
use crate::clock::Timestamp;
use crate::signal::Signal;

/// What was done with the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// It stays.
    Hold,
    /// It was lowered, because the service is over a target.
    Cut,
    /// A raise was taken back.
    Undo,
    /// It was raised.
    Raise,
    /// The limit before the cuts is back, because the cuts changed nothing.
    Restore,
    /// It moved without a judgement: nobody uses it, or there is no data.
    Drift,
    /// An operator moved it.
    Operator,
}

/// Why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The limit is at its upper bound and all is well.
    Open,
    /// The metrics can't show the effect of the last change yet.
    Settling,
    /// A cut's effect is judged when the window has filled.
    Filling,
    /// Below the target, but too near to it for a raise.
    NearTarget,
    /// Too few answers to prove anything.
    FewAnswers,
    /// The limit holds nothing back.
    Unused,
    /// The limit held nothing back for so long that it opens slowly.
    UnusedLong,
    /// The limit is just below the last rate that went badly.
    AtKnee,
    /// A look past the last rate that went badly.
    Probe,
    /// Back towards a rate that was well a short while ago, twice as fast.
    Leap,
    /// One step up.
    Step,
    /// Up to just below the last rate that went badly.
    UpToKnee,
    /// Certainly over a target.
    OverTarget,
    /// Over a target, though not certainly.
    SlightlyOverTarget,
    /// The last raise made things worse.
    RaiseMadeWorse,
    /// No data came to confirm the last raise.
    RaiseUnconfirmed,
    /// The cuts changed nothing, so load is not the cause.
    CutsChangeNothing,
    /// Over a target, and already at the lower bound.
    AtFloor,
    /// The answer is not newer than the last one.
    NothingNew,
    /// There is no data, and nobody asks the service.
    Idle,
    /// There is no data.
    NoData,
    /// There was no data for so long that the limit moves to where the operator wants it then.
    NoDataLong,
    /// An operator froze the limit.
    Frozen,
    /// An operator set the limit.
    Overridden,
    /// The operator's freeze or override is over, and the law goes on.
    Resumed,
    /// The service's mode is off: the limit stands at its upper bound.
    Off,
    /// The bounds were changed.
    BoundsChanged,
    /// There is no state: the limit begins where the operator wants it.
    Started,
}

/// What one signal came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    /// Which signal.
    pub signal: Signal,
    /// Its share among the answers.
    pub ratio: f64,
    /// Of the answers, those that failed without reaching the service: breaker overflow, no healthy host.
    pub locally: f64,
    /// The lower bound of that share's confidence interval.
    pub lower: f64,
    /// What it must not pass: the target on top of the normal.
    pub threshold: f64,
    /// The learned normal.
    pub normal: f64,
    /// The answers it was judged by.
    pub answered: f64,
    /// The length of the window that was judged, in seconds.
    pub window: f64,
    /// Whether it is over its threshold for certain.
    pub is_bad: bool,
}

/// The last rate that went badly.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Knee {
    /// In requests per second.
    pub rate: f64,
    /// Seconds since.
    pub age: f64,
}

/// What the law would have done, where it only watches: in mode observe, under a freeze or an override.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Would {
    /// What would have been done.
    pub action: Action,
    /// Why.
    pub cause: Cause,
    /// The limit that would have come of it. It is that of the first time in this episode: without its effect nothing
    /// can be said of a second.
    pub to: f64,
    /// For how long that has been wanted, in seconds; 0 the first time.
    pub seconds: f64,
    /// Whether it isn't wanted any more.
    pub is_over: bool,
}

/// One step of the law. Rates are requests per second.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// What was done.
    pub action: Action,
    /// Why.
    pub cause: Cause,
    /// The limit before.
    pub from: f64,
    /// The limit after.
    pub to: f64,
    /// The limit after, had there been no bounds.
    pub wanted: f64,
    /// What would have been done, had the law not only watched.
    pub would: Option<Would>,
    /// What was judged; empty without data.
    pub judged: Vec<Judged>,
    /// Requests that reached the gate lately.
    pub offered: f64,
    /// Requests that passed it lately.
    pub admitted: f64,
    /// Of what was judged, the rate that passed in that window.
    pub admitted_judged: Option<f64>,
    /// Of that, the rate that the service completed: without what failed above its normal.
    pub completed: Option<f64>,
    /// The last rate that went badly.
    pub knee: Option<Knee>,
    /// Seconds until the metrics can show the last change; none if they can.
    pub settle_left: Option<f64>,
    /// Why there is no data.
    pub absence: Option<String>,
}

// === impl Action ===

impl Action {
    /// All actions.
    pub const ALL: [Action; 7] =
        [Action::Hold, Action::Cut, Action::Undo, Action::Raise, Action::Restore, Action::Drift, Action::Operator];

    /// The name in metrics and records.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Action::Hold => "hold",
            Action::Cut => "cut",
            Action::Undo => "undo",
            Action::Raise => "raise",
            Action::Restore => "restore",
            Action::Drift => "drift",
            Action::Operator => "operator",
        }
    }
}

// === impl Decision ===

impl Decision {
    /// What led from a limit to the state's; `rates` are those offered and admitted.
    pub(super) fn new(
        state: &State,
        law: &Law,
        now: Timestamp,
        (action, cause): (Action, Cause),
        from: f64,
        wanted: f64,
        (offered, admitted): (f64, f64),
    ) -> Decision {
        Decision {
            action,
            cause,
            from,
            to: state.limit,
            wanted,
            would: None,
            judged: Vec::new(),
            offered,
            admitted,
            admitted_judged: None,
            completed: None,
            knee: state.bad.map(|bad| Knee { rate: bad.rate, age: seconds_between(bad.at, now) }),
            settle_left: settle_left(state, law, now),
            absence: None,
        }
    }

    /// There was no state that could be used: the limit begins at [`State::start`]'s.
    #[must_use]
    pub fn started(state: &State, law: &Law) -> Decision {
        let limit = state.limit;
        Decision::new(state, law, state.changed_at, (Action::Operator, Cause::Started), limit, limit, (0.0, 0.0))
    }

    pub(super) fn with_judged(mut self, reading: &Reading, verdicts: &[Verdict]) -> Decision {
        let excess = verdicts.iter().find(|verdict| verdict.signal == Signal::Errors).map_or(0.0, Verdict::excess);
        self.judged = verdicts.iter().map(|verdict| verdict.judged(reading)).collect();
        self.admitted_judged = Some(reading.admitted);
        self.completed = Some(reading.admitted * (1.0 - excess));
        self
    }

    /// Whether the limit is another one now.
    #[must_use]
    pub fn is_change(&self) -> bool {
        self.to != self.from
    }

    /// Whether this is worth a line in a log: the limit or the operator's hand is another one, or what would be done
    /// began or is over. All else is one more tick of the same.
    #[must_use]
    pub fn is_news(&self) -> bool {
        self.is_change()
            || self.action == Action::Operator
            || self.would.is_some_and(|would| would.seconds == 0.0 || would.is_over)
    }
}
