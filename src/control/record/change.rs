//! What is remembered of a service for people: what was decided, and what operators did.
//!
//! An entry is written once and never changed. The store dates it and knows its generation only when it writes, so the
//! stored form has both in front of a text in JSON, in which a hand's instants are relative to that date:
//!
//! ```text
//! <generation> <instant, ms> {"laid":{"hand":"freeze",…,"since":0,"until":3600000000}}
//! ```

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::RecordError;
use super::lease::Epoch;
use crate::clock::Timestamp;
use crate::control::hand::{OperatorsHand, Signature};
use crate::control::law::{Decision, Recorded};
use crate::rules::service::ServiceMode;

/// One step of the law for one service, with all that is needed to follow it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DecisionRecord {
    /// When, by the store's clock; the store dates it.
    pub at: Timestamp,
    /// Of which service.
    pub service: String,
    /// The generation of the limit after it; the store numbers it.
    pub generation: u64,
    /// In whose leadership.
    pub epoch: Epoch,
    /// What was done with the limit then.
    #[serde(with = "mode")]
    pub mode: ServiceMode,
    /// What was decided, and why.
    pub decision: Decision,
    /// The instant at which the windows end that were judged last; `None` if there has been no data yet.
    pub signal_at: Option<Timestamp>,
    /// What would have to happen for the limit to rise, in one sentence without a full stop.
    pub prospect: String,
    /// What Prometheus was asked, as it was sent; empty if it was not asked.
    pub queries: Vec<String>,
    /// What the operator should know of the answers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub doubts: Vec<String>,
    /// What the step was made of, so that it can be made again; `None` where the law only began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_of: Option<Box<Recorded>>,
}

/// Something that happened to a service.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// When, by the store's clock.
    pub at: Timestamp,
    /// The generation of the limit after it.
    pub generation: u64,
    /// What.
    pub event: Event,
}

/// What can happen to a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The law decided.
    Decided(Box<DecisionRecord>),
    /// An operator laid a hand on the limit.
    Laid(OperatorsHand),
    /// An operator took it off before its time.
    Lifted(Signature),
    /// An operator let the service be forgotten, so that its limit starts anew.
    Reset(Signature),
}

/// What is remembered of a service, newest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Remembered {
    /// The last [`CHANGES_MAX`] changes: what moved the limit or was news in another way, and what operators did.
    pub changes: Vec<Change>,
    /// The last [`TICKS_MAX`] steps of the law, changes or not.
    pub ticks: Vec<Change>,
}

/// Changes that are kept of a service.
pub const CHANGES_MAX: usize = 200;

/// Steps of the law that are kept of a service.
pub const TICKS_MAX: usize = 20;

/// Longest entry, in bytes. One with four queries of the presets has about 7 KiB; a longer one loses its queries.
pub const ENTRY_BYTES_MAX: usize = 16 << 10;

/// What stands in the place of queries that made an entry too long.
const QUERIES_LEFT_OUT: &str = "(the queries are too long to be kept)";

// === impl Event ===

impl Event {
    /// The entry's text, without what the store puts in front.
    ///
    /// # Errors
    /// When it is too long even without queries.
    pub(super) fn to_text(&self) -> Result<String, RecordError> {
        let text = written(self)?;
        let text = match self {
            Event::Decided(record) if text.len() > ENTRY_BYTES_MAX => {
                let queries = vec![QUERIES_LEFT_OUT.to_owned()];
                let shorter = DecisionRecord { queries, doubts: Vec::new(), ..(**record).clone() };
                written(&Event::Decided(Box::new(shorter)))?
            }
            _ => text,
        };
        if text.len() > ENTRY_BYTES_MAX {
            return Err(RecordError::TooLong { what: "decision record", bytes: text.len(), max: ENTRY_BYTES_MAX });
        }
        Ok(text)
    }
}

fn written(event: &Event) -> Result<String, RecordError> {
    serde_json::to_string(event).map_err(|error| RecordError::Refused { reason: error.to_string() })
}

// === impl Change ===

impl Change {
    /// What happened at that instant: relative instants become absolute, and the record gets its date and number.
    pub(super) fn dated(at: Timestamp, generation: u64, event: Event) -> Change {
        let event = match event {
            Event::Decided(mut record) => {
                (record.at, record.generation) = (at, generation);
                Event::Decided(record)
            }
            Event::Laid(hand) => Event::Laid(since(at, hand)),
            Event::Lifted(_) | Event::Reset(_) => event,
        };
        Change { at, generation, event }
    }

    /// Reads the stored form; `None` if it is none, as after another program has written there.
    pub(super) fn parse(text: &[u8]) -> Option<Change> {
        let mut parts = std::str::from_utf8(text).ok()?.splitn(3, ' ');
        let generation = parts.next()?.parse().ok()?;
        let at = Timestamp::from_millis(parts.next()?.parse().ok()?);
        let event = serde_json::from_str(parts.next()?).ok()?;
        Some(Change::dated(at, generation, event))
    }
}

/// A hand with instants relative to `at`, with absolute ones.
pub(super) fn since(at: Timestamp, hand: OperatorsHand) -> OperatorsHand {
    let later = |instant: Timestamp| at.saturating_add(Duration::from_micros(instant.as_micros()));
    OperatorsHand { since: later(hand.since), until: later(hand.until), ..hand }
}

/// A mode by its name.
mod mode {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::rules::service::ServiceMode;

    pub(super) fn serialize<S: Serializer>(mode: &ServiceMode, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(mode.name())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ServiceMode, D::Error> {
        let name = String::deserialize(deserializer)?;
        let named = ServiceMode::ALL.into_iter().find(|mode| mode.name() == name);
        named.ok_or_else(|| D::Error::custom(format!("no mode is called {name}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::law::{Action, Cause, Hand};

    fn decided(queries: Vec<String>) -> Event {
        let decision = Decision {
            action: Action::Cut,
            cause: Cause::OverTarget,
            from: 500.0,
            to: 212.0,
            wanted: 212.0,
            would: None,
            judged: Vec::new(),
            offered: 900.5,
            admitted: 500.0,
            admitted_judged: None,
            completed: None,
            knee: None,
            settle_left: Some(13.5),
            absence: None,
        };
        Event::Decided(Box::new(DecisionRecord {
            at: Timestamp::default(),
            service: "inventory".to_owned(),
            generation: 0,
            epoch: Epoch::new(3),
            mode: ServiceMode::Enforce,
            decision,
            signal_at: Some(Timestamp::from_millis(5)),
            prospect: "nothing".to_owned(),
            queries,
            doubts: Vec::new(),
            made_of: None,
        }))
    }

    #[test]
    fn an_entry_comes_back_with_its_date_and_number() {
        let at = Timestamp::from_millis(1_700_000_000_123);
        let hand = OperatorsHand {
            hand: Hand::Freeze,
            reason: "spaces in it".to_owned(),
            by: "ada".to_owned(),
            since: Timestamp::default(),
            until: Timestamp::from_millis(60_000),
            force: false,
        };
        let signature = Signature::try_new("done", "ada").unwrap();
        for event in [
            decided(vec!["up".to_owned()]),
            Event::Laid(hand),
            Event::Lifted(signature.clone()),
            Event::Reset(signature),
        ] {
            let stored = format!("9 1700000000123 {}", event.to_text().unwrap());
            let change = Change::parse(stored.as_bytes()).unwrap();
            assert_eq!(change, Change::dated(at, 9, event));
            match change.event {
                Event::Decided(record) => assert_eq!((record.at, record.generation), (at, 9)),
                Event::Laid(hand) => assert_eq!((hand.since, hand.until.as_millis()), (at, 1_700_000_060_123)),
                Event::Lifted(_) | Event::Reset(_) => {}
            }
        }
    }

    #[test]
    fn what_is_no_entry_is_none() {
        for text in
            [&b""[..], b"1", b"1 2", b"1 2 {}", b"x 2 {\"lifted\":{\"reason\":\"a\",\"by\":\"b\"}}", b"\xff 1 2"]
        {
            assert_eq!(Change::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn queries_that_are_too_long_are_left_out_and_nothing_else() {
        let text = decided(vec!["x".repeat(ENTRY_BYTES_MAX)]).to_text().unwrap();
        assert!(text.len() < 1_000);
        let change = Change::parse(format!("1 2 {text}").as_bytes()).unwrap();
        let Event::Decided(record) = change.event else { panic!("another event") };
        assert_eq!(record.queries, [QUERIES_LEFT_OUT]);
        let Event::Decided(mut record) = decided(Vec::new()) else { panic!("another event") };
        record.decision.absence = Some("x".repeat(ENTRY_BYTES_MAX));
        assert!(matches!(Event::Decided(record).to_text(), Err(RecordError::TooLong { .. })));
    }
}
