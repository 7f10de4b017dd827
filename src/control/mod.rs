//! What moves the limits of adaptive services: signals in, one number per service out, and the reason for it.

pub mod command;
pub mod hand;
pub mod history;
pub mod law;
pub mod record;
pub mod view;
