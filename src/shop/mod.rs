//! `tidegate-shop`: the three services of the story, small enough to be read and fragile enough to be worth protecting.
//!
//! ```text
//! client ─ proxy ─ order ─ proxy ─┬─ user        always well
//!                                 └─ inventory   breaks when it is asked too much
//! ```
//!
//! | service | path | what |
//! |---|---|---|
//! | [`user`] | `GET /users/{id}` | 200 |
//! | [`inventory`] | `GET /inventory/{id}` | 200, or the failures of a [`plant`] or of a [`counted`] cycle |
//! | [`order`] | `GET /orders/create/{user}/{item}` | asks the other two; 200, or 504 when one fails |
//!
//! Each has `/healthz` and `/metrics` besides. The plant's arithmetic knows no clock and no socket: a simulator can run
//! it as well as the service does.

pub mod cli;
pub mod control;
pub mod counted;
pub mod inventory;
pub mod order;
pub mod plant;
pub mod service;
pub mod traffic;
pub mod upstream;
pub mod user;
