//! What moves the limits of adaptive services: signals in, one number per service out, and the reason for it.
//!
//! ```text
//! source   what the metrics say of a service         (prometheus, outside)
//! doubt    whether the metrics can be this service's  pure
//! seen     what the gates counted, who is there      every replica, each second
//! law      what follows from both                    pure
//! governor one service: ask, judge, write            the leader, each interval
//! record   lease, state, limits, what was done       shared by all replicas
//! task     when what is done                         one per process
//! ```

pub mod backoff;
pub mod command;
mod doubt;
mod governor;
pub mod hand;
pub mod history;
pub mod law;
pub mod record;
mod seen;
pub mod source;
mod store_clock;
pub mod task;
pub mod view;
