//! An open loop over HTTP: calls go out when they are due, whatever becomes of those before.
//!
//! ```text
//! profile ─ when calls are due ─► driver ─ one task per call ─► outcome ─► timeline ─ counts and latencies by instant
//! ```
//!
//! Latency counts from the instant at which a call was due. Users don't wait with their next click until a slow shop
//! has answered somebody else, so nothing here does either, up to a bound on calls under way; what is due beyond it is
//! counted as not sent.

pub mod driver;
pub mod outcome;
pub mod profile;
pub mod timeline;
