//! The operator's hand on a service's limit: what, by whom, why, and until when.
//!
//! What somebody asks for is an [`Asked`]; [`Order::try_new`] makes an [`Order`] of it, or says everything that is
//! wrong with it. The store of records dates the order and makes it an [`OperatorsHand`], which ends by itself.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::law::Hand;
use crate::clock::Timestamp;
use crate::rate::Rate;
use crate::rules::service::RateBounds;

/// A hand on a limit, from when until when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorsHand {
    /// What becomes of the limit.
    pub hand: Hand,
    /// Why; at most [`REASON_CHARACTERS_MAX`] characters.
    pub reason: String,
    /// Who says so; at most [`BY_CHARACTERS_MAX`] characters.
    pub by: String,
    /// When it was laid on, by the store's clock.
    pub since: Timestamp,
    /// When it ends, by the store's clock.
    pub until: Timestamp,
    /// Whether a limit outside the bounds was meant. One that was inside, and whose bounds a reload moves, stays inside.
    /// A hand of a version that didn't say so was meant as it is.
    #[serde(default = "meant")]
    pub force: bool,
}

/// What somebody asks for, unchecked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// What is to become of the limit.
    pub hand: Hand,
    /// Why.
    pub reason: String,
    /// Who asks; empty if nobody says.
    pub by: String,
    /// For how long; [`LIFETIME_DEFAULT`] if nobody says.
    pub lifetime: Option<Duration>,
    /// Whether a limit outside the bounds is meant.
    pub force: bool,
}

/// A checked wish: what [`Order::try_new`] let pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    hand: Hand,
    signature: Signature,
    lifetime: Duration,
    force: bool,
}

/// Who wants something of a service, and why: what every wish of an operator is signed with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    reason: String,
    by: String,
}

/// What is wrong with a wish.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum HandError {
    /// No reason.
    #[error("a reason is missing: say in a few words why, it is shown wherever the limit is shown")]
    NoReason,
    /// A text that is too long, or not one line.
    #[error("the {what} has {characters} characters; {max} are allowed, on one line and without control characters")]
    Text {
        /// Which text.
        what: &'static str,
        /// Its length.
        characters: usize,
        /// What is allowed.
        max: usize,
    },
    /// A time that is none, or too long.
    #[error("a hand on a limit lasts from 1s to 24h, not {}s", lifetime.as_secs_f64())]
    Lifetime {
        /// What was asked for.
        lifetime: Duration,
    },
    /// A limit outside the bounds.
    #[error("{limit} is outside the bounds {min} to {max}; force sets it all the same")]
    Outside {
        /// What was asked for.
        limit: Rate,
        /// The lower bound.
        min: Rate,
        /// The upper bound.
        max: Rate,
    },
}

/// How long a hand lasts if nobody says.
pub const LIFETIME_DEFAULT: Duration = Duration::from_secs(3_600);

/// The longest that a hand may last: what is forgotten ends within a day.
pub const LIFETIME_MAX: Duration = Duration::from_secs(24 * 3_600);

/// The shortest.
pub const LIFETIME_MIN: Duration = Duration::from_secs(1);

/// Longest reason, in characters.
pub const REASON_CHARACTERS_MAX: usize = 200;

/// Longest name of who asks, in characters.
pub const BY_CHARACTERS_MAX: usize = 64;

/// Who asks if nobody says.
const UNNAMED: &str = "somebody";

fn meant() -> bool {
    true
}

// === impl Order ===

impl Order {
    /// A wish that may be fulfilled for a service with these bounds.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn try_new(asked: Asked, bounds: &RateBounds) -> Result<Order, Vec<HandError>> {
        let mut errors = Vec::new();
        let signature = Signature::try_new(&asked.reason, &asked.by);
        errors.extend(signature.as_ref().err().cloned().into_iter().flatten());
        let lifetime = asked.lifetime.unwrap_or(LIFETIME_DEFAULT);
        if !(LIFETIME_MIN..=LIFETIME_MAX).contains(&lifetime) {
            errors.push(HandError::Lifetime { lifetime });
        }
        if let Hand::Override(limit) = asked.hand
            && bounds.clamp(limit) != limit
            && !asked.force
        {
            errors.push(HandError::Outside { limit, min: bounds.min, max: bounds.max });
        }
        match signature {
            Ok(signature) if errors.is_empty() => {
                Ok(Order { hand: asked.hand, signature, lifetime, force: asked.force })
            }
            _ => Err(errors),
        }
    }

    /// How long it lasts.
    #[must_use]
    pub fn lifetime(&self) -> Duration {
        self.lifetime
    }

    /// The hand that it is when it is laid on at that instant.
    #[must_use]
    pub fn laid_at(&self, since: Timestamp) -> OperatorsHand {
        OperatorsHand {
            hand: self.hand,
            reason: self.signature.reason.clone(),
            by: self.signature.by.clone(),
            since,
            until: since.saturating_add(self.lifetime),
            force: self.force,
        }
    }
}

// === impl Signature ===

impl Signature {
    /// A reason and a name, trimmed. Without a name it is somebody's.
    ///
    /// # Errors
    /// Everything that is wrong with the two.
    pub fn try_new(reason: &str, by: &str) -> Result<Signature, Vec<HandError>> {
        let (reason, by) = (reason.trim(), by.trim());
        let mut errors = Vec::new();
        if reason.is_empty() {
            errors.push(HandError::NoReason);
        }
        for (what, text, max) in [("reason", reason, REASON_CHARACTERS_MAX), ("name", by, BY_CHARACTERS_MAX)] {
            let characters = text.chars().count();
            if characters > max || text.chars().any(char::is_control) {
                errors.push(HandError::Text { what, characters, max });
            }
        }
        let by = if by.is_empty() { UNNAMED } else { by };
        if errors.is_empty() { Ok(Signature { reason: reason.to_owned(), by: by.to_owned() }) } else { Err(errors) }
    }

    /// Why.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// Who.
    #[must_use]
    pub fn by(&self) -> &str {
        &self.by
    }
}

// === impl OperatorsHand ===

impl OperatorsHand {
    /// Whether it still lies on the limit.
    #[must_use]
    pub fn is_on(&self, now: Timestamp) -> bool {
        now < self.until
    }

    /// What becomes of the limit under these bounds.
    #[must_use]
    pub fn within(&self, bounds: &RateBounds) -> Hand {
        match self.hand {
            Hand::Override(limit) if !self.force => Hand::Override(bounds.clamp(limit)),
            hand @ (Hand::Override(_) | Hand::Freeze) => hand,
        }
    }

    /// What it is under these bounds: `set to 800/s, of which the bounds leave 500/s, by ada: a sale begins`.
    #[must_use]
    pub fn sentence(&self, bounds: &RateBounds) -> String {
        let (by, reason) = (&self.by, &self.reason);
        match (self.hand, self.within(bounds)) {
            (Hand::Override(asked), Hand::Override(left)) if left < asked => {
                format!("set to {asked}, of which the bounds leave {left}, by {by}: {reason}")
            }
            (Hand::Override(asked), Hand::Override(left)) if left > asked => {
                format!("set to {asked}, which the bounds raise to {left}, by {by}: {reason}")
            }
            _ => self.to_string(),
        }
    }
}

impl fmt::Display for OperatorsHand {
    /// What was asked: `frozen by ada: the shop moves tonight`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (by, reason) = (&self.by, &self.reason);
        match self.hand {
            Hand::Freeze => write!(f, "frozen by {by}: {reason}"),
            Hand::Override(limit) => write!(f, "set to {limit} by {by}: {reason}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(per_second: f64) -> Rate {
        Rate::from_per_second(per_second)
    }

    fn asked(hand: Hand) -> Asked {
        Asked { hand, reason: " the shop moves ".to_owned(), by: String::new(), lifetime: None, force: false }
    }

    fn order(asked: Asked) -> Result<Order, Vec<String>> {
        let bounds = RateBounds::new(rate(10.0), rate(500.0)).unwrap();
        Order::try_new(asked, &bounds).map_err(|errors| errors.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_hand_lasts_an_hour_unless_somebody_says_otherwise_and_ends_by_itself() {
        let hand = order(asked(Hand::Freeze)).unwrap().laid_at(Timestamp::from_millis(5));
        assert_eq!(hand.until, Timestamp::from_millis(3_600_005));
        assert!(hand.is_on(Timestamp::from_millis(3_600_004)));
        assert!(!hand.is_on(Timestamp::from_millis(3_600_005)));
        assert_eq!(hand.to_string(), "frozen by somebody: the shop moves");
    }

    #[test]
    fn a_limit_outside_the_bounds_must_be_meant() {
        for (limit, inside) in [(10.0, true), (500.0, true), (9.999, false), (500.001, false)] {
            let wish = asked(Hand::Override(rate(limit)));
            assert_eq!(order(wish.clone()).is_ok(), inside, "{limit}");
            assert!(order(Asked { force: true, ..wish }).is_ok(), "{limit} is meant");
        }
        let errors = order(asked(Hand::Override(rate(900.0)))).unwrap_err();
        assert_eq!(errors, ["900/s is outside the bounds 10/s to 500/s; force sets it all the same"]);
    }

    #[test]
    fn bounds_that_move_take_a_limit_along_unless_it_was_meant_to_lie_outside() {
        let tighter = RateBounds::new(rate(10.0), rate(120.0)).unwrap();
        let wish = asked(Hand::Override(rate(300.0)));
        let laid = |wish| order(wish).unwrap().laid_at(Timestamp::from_millis(5));
        let within = |wish| laid(wish).within(&tighter);
        assert_eq!(within(wish.clone()), Hand::Override(rate(120.0)));
        let said = |wish, bounds| laid(wish).sentence(bounds);
        assert!(said(wish.clone(), &tighter).starts_with("set to 300/s, of which the bounds leave 120/s, by "));
        let higher = RateBounds::new(rate(400.0), rate(500.0)).unwrap();
        assert!(said(wish.clone(), &higher).starts_with("set to 300/s, which the bounds raise to 400/s, by "));
        let forced = Asked { force: true, ..wish.clone() };
        for (wish, bounds) in [(forced, &tighter), (wish.clone(), &RateBounds::new(rate(1.0), rate(300.0)).unwrap())] {
            assert!(said(wish, bounds).starts_with("set to 300/s by "));
        }
        assert_eq!(within(Asked { force: true, ..wish }), Hand::Override(rate(300.0)));
        assert_eq!(within(asked(Hand::Freeze)), Hand::Freeze);
    }

    #[test]
    fn everything_that_is_wrong_is_said_at_once() {
        let wish = Asked {
            hand: Hand::Override(rate(5.0)),
            reason: " ".to_owned(),
            by: "x\ny".to_owned(),
            lifetime: Some(LIFETIME_MAX + LIFETIME_MIN),
            force: false,
        };
        assert_eq!(order(wish).unwrap_err().len(), 4);
        let long = Asked { reason: "ä".repeat(REASON_CHARACTERS_MAX), ..asked(Hand::Freeze) };
        assert!(order(long.clone()).is_ok());
        assert!(order(Asked { reason: long.reason + "ä", ..long }).is_err());
        assert!(order(Asked { lifetime: Some(Duration::ZERO), ..asked(Hand::Freeze) }).is_err());
    }
}
