//! The law's own numbers, by name: which of them rule files may set, and between which values.
//!
//! They were measured together; who changes one measures again (`tidegate simulate --service`). The ranges are those in
//! which the law keeps what it promises whatever the others are: no step more than doubles a limit, no cut raises one,
//! and nothing is judged on no answers at all.

use smallvec::SmallVec;

use super::value::decimal;
use crate::rules::error::{KeyPath, Report, quoted};
use crate::rules::file::{Field, Located};
use crate::rules::scalar::Kind;
use crate::rules::value::{self, window, word_text};
use crate::rules::words;
use crate::rules::yaml::{Node, Value};

/// Numbers of the law that are not those that were measured; each at most once.
pub type LawNumbers = Box<[(LawConstant, f64)]>;

/// What a number is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unit {
    /// A length of time; the number is in seconds.
    Seconds,
    /// A number without a unit.
    Plain,
    /// A whole number.
    Whole,
}

/// Names each constant, with its word in rule files, its unit, and its lowest and highest value.
macro_rules! constants {
    ($($(#[$doc:meta])* $name:ident = $word:literal, $unit:ident, $lowest:literal, $highest:literal;)*) => {
        /// A number of the law that rule files may set.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum LawConstant {
            $($(#[$doc])* $name,)*
        }

        impl LawConstant {
            /// All of them.
            pub const ALL: &[LawConstant] = &[$(LawConstant::$name,)*];

            /// The word in rule files.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(LawConstant::$name => $word,)* }
            }

            /// The lowest and the highest value; times in seconds.
            #[must_use]
            pub const fn range(self) -> (f64, f64) {
                match self { $(LawConstant::$name => ($lowest, $highest),)* }
            }

            const fn unit(self) -> Unit {
                match self { $(LawConstant::$name => Unit::$unit,)* }
            }
        }
    };
}

constants! {
    /// Ingestion and clock skew in a settle.
    Slack = "slack", Seconds, 0.0, 60.0;
    /// Shortest fast window.
    Fast = "fast", Seconds, 3.0, 300.0;
    /// The fast window in scrapes.
    FastScrapes = "fast_scrapes", Plain, 2.0, 20.0;
    /// Shortest slow window.
    Slow = "slow", Seconds, 10.0, 600.0;
    /// The slow window in scrapes.
    SlowScrapes = "slow_scrapes", Plain, 2.0, 40.0;
    /// The window that serves thin traffic.
    Long = "long", Seconds, 60.0, 600.0;
    /// Answers without which nothing is cut.
    MinAnswersToCut = "min_answers_to_cut", Plain, 20.0, 10_000.0;
    /// Answers without which nothing is raised.
    MinAnswersToRaise = "min_answers_to_raise", Plain, 1.0, 10_000.0;
    /// Standard deviations of a certain violation.
    Z = "z", Plain, 1.0, 10.0;
    /// The same of a likely one.
    ZSoft = "z_soft", Plain, 0.1, 10.0;
    /// What a cut leaves of the completed rate.
    Cut = "cut", Plain, 0.5, 1.0;
    /// What is taken by a cut that is not certain.
    Nudge = "nudge", Plain, 0.01, 0.5;
    /// One step up.
    Step = "step", Plain, 0.01, 1.0;
    /// One step up past a knee that has moved.
    BigStep = "big_step", Plain, 0.01, 1.0;
    /// The way back to a rate that was well, in one step.
    Leap = "leap", Plain, 1.0, 2.0;
    /// How close to the knee the limit waits.
    Near = "near", Plain, 0.5, 0.99;
    /// The same of a brittle service that toppled.
    NearBrittle = "near_brittle", Plain, 0.3, 0.99;
    /// How far one look past the knee goes.
    Probe = "probe", Plain, 0.01, 0.5;
    /// How long the knee is not looked past, in settles.
    MemorySettles = "memory_settles", Plain, 1.0, 1_000.0;
    /// The longest that it is not looked past.
    Memory = "memory", Seconds, 10.0, 86_400.0;
    /// How long it is not where a brittle service toppled.
    MemoryBrittle = "memory_brittle", Seconds, 10.0, 86_400.0;
    /// How much of the way from normal to threshold is clean.
    Clean = "clean", Plain, 0.1, 0.95;
    /// What is left of a ratio that has not followed the cuts.
    Same = "same", Plain, 0.1, 1.0;
    /// How long a learned normal is not questioned.
    Relearn = "relearn", Seconds, 60.0, 86_400.0;
    /// How often that doubles.
    RelearnDoublings = "relearn_doublings", Whole, 0.0, 8.0;
    /// When a limit that nobody uses opens slowly.
    Idle = "idle", Seconds, 10.0, 86_400.0;
    /// How much of itself it opens by in a minute.
    Drift = "drift", Plain, 0.0, 1.0;
}

// === impl LawConstant ===

impl LawConstant {
    /// A value as rule files write it.
    #[must_use]
    pub fn shown(self, value: f64) -> String {
        match self.unit() {
            Unit::Seconds => format!("{value}s"),
            Unit::Plain | Unit::Whole => value.to_string(),
        }
    }

    /// What its value may be, for the middle of a sentence.
    fn right(self) -> String {
        let (lowest, highest) = self.range();
        let (lowest, highest) = (self.shown(lowest), self.shown(highest));
        match self.unit() {
            Unit::Seconds => format!("a length of time from {lowest} to {highest}"),
            Unit::Plain => format!("a number from {lowest} to {highest}"),
            Unit::Whole => format!("a whole number from {lowest} to {highest}"),
        }
    }

    fn read(self, text: &str, kind: Kind) -> Result<f64, String> {
        let (lowest, highest) = self.range();
        let number = match self.unit() {
            Unit::Seconds => seconds(text, kind),
            Unit::Plain => decimal(text),
            Unit::Whole => decimal(text).filter(|number| number.fract() == 0.0),
        };
        number.filter(|number| (lowest..=highest).contains(number)).ok_or_else(|| self.right())
    }
}

/// A length of time as rule files have it, or seconds with a fraction, as they are shown.
fn seconds(text: &str, kind: Kind) -> Option<f64> {
    let whole = window(text, kind).ok().map(|millis| millis as f64 / 1_000.0);
    whole.or_else(|| decimal(text.strip_suffix('s')?))
}

/// Reads the value of `law`: a map of constants. Every mistake is told.
pub(super) fn read(node: &Node<'_>, path: &KeyPath<'_>, report: &mut Report) -> Field<LawNumbers> {
    if value::is_null(node) {
        return Field::Absent;
    }
    let Value::Map(pairs) = &node.value else {
        value::wrong_type(node, "a map such as { memory: 60s }", path, report);
        return Field::Wrong;
    };
    let mut numbers: SmallVec<[(LawConstant, f64); 4]> = SmallVec::new();
    let mut is_wrong = false;
    for pair in pairs {
        let name = word_text(&pair.key).unwrap_or_default();
        let below = path.word(name);
        let Some(constant) = LawConstant::ALL.iter().copied().find(|constant| constant.name() == name) else {
            let names: Vec<&str> = LawConstant::ALL.iter().map(|constant| constant.name()).collect();
            let known = match words::nearest(name, &names) {
                Some(nearest) => format!("did you mean {nearest}?"),
                None => format!("the law has {}", names.join(", ")),
            };
            report.mistake(&below, pair.key.place, format!("unknown constant '{}': {known}", quoted(name)));
            is_wrong = true;
            continue;
        };
        let right = match &pair.value.value {
            Value::Scalar(_, Kind::Null) => continue,
            Value::Scalar(text, kind) => match constant.read(text, *kind) {
                Ok(number) => {
                    // Of several the last one counts.
                    numbers.retain(|(known, _)| *known != constant);
                    numbers.push((constant, number));
                    continue;
                }
                Err(right) => right,
            },
            Value::List(_) | Value::Map(_) => constant.right(),
        };
        value::wrong_type(&pair.value, &right, &below, report);
        is_wrong = true;
    }
    if is_wrong {
        return Field::Wrong;
    }
    Field::Given(Located { value: numbers.into_vec().into(), place: node.place })
}
