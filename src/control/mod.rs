//! What moves the limits of adaptive services: signals in, one number per service out, and the reason for it.

pub mod hand;

pub mod history;
mod instant;
pub mod law;
pub mod record;
