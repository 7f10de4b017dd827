//! Instants in records and views: whole milliseconds since the Unix epoch, as a number.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::clock::Timestamp;

pub(crate) fn serialize<S: Serializer>(at: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    at.as_millis().serialize(serializer)
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
    u64::deserialize(deserializer).map(Timestamp::from_millis)
}
