//! `tidegate-bench`: holds any RLS v3 server against a bare one, in the same run.
//!
//! | Subcommand | What |
//! |---|---|
//! | `load` | sends calls in a closed or an open loop and measures them |
//! | `noop` | the baseline: a bare tonic server that answers OK without looking |
//! | `accuracy` | counts what was admitted against what the limit allows, in every window |
//! | `compare` | starts servers, loads them in turn and holds them against the baseline: `make bench` |
//! | `overload` | attacks and overloads servers that it starts, and measures what honest clients notice |
//! | `attack` | is one of those hostile clients |
//! | `script` | what a decision costs Redis, without the service in front of it |
//!
//! `drive` makes the calls with the client in `client`; `load` and `accuracy` observe what becomes of them. Nothing
//! in here is part of the service.

pub mod accuracy;
pub mod arrivals;
pub mod cli;
pub mod client;
pub mod compare;
pub mod drive;
pub mod failures;
pub mod keys;
pub mod load;
pub mod message;
pub mod noop;
pub mod overload;
pub mod progress;
pub mod script;
pub mod statistics;
pub mod system;
pub mod target;
pub mod traffic;
