//! What one step of the law came to, and the numbers behind it.
//!
//! A [`Decision`] is kept, logged, shown and measured. It is whole: whoever reads it needs nothing else to follow it.

use serde::{Deserialize, Serialize};

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
    /// The bounds were changed.
    BoundsChanged,
    /// There is no state: the limit begins where the operator wants it.
    Started,
}

/// What one signal came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judged {
    /// Which signal.
    pub signal: crate::signal::Signal,
    /// Its share among the answers.
    pub ratio: f64,
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
    /// What was judged; empty without data.
    pub judged: Vec<Judged>,
    /// Requests that reached the gate lately.
    pub offered: f64,
    /// Requests that passed it lately.
    pub admitted: f64,
    /// Of what was judged, the rate that passed in that window.
    pub admitted_judged: Option<f64>,
    /// The last rate that went badly, and its age in seconds.
    pub knee: Option<(f64, f64)>,
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
    /// Whether the limit is another one now.
    #[must_use]
    pub fn is_change(&self) -> bool {
        self.to != self.from
    }
}
