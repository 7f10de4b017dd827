//! `tidegate-proxy` against the real Envoy: one file, one script of requests, two transcripts that must be the same.
//!
//! A transcript holds what a client sees of each answer, what upstream was sent, what the access log says and what the
//! statistics that adaptive control reads have become. Where the two differ on purpose, docs/proxy.md says so.

mod accepting;
mod actions;
mod bad_input;
mod balance;
mod config;
mod connect;
mod drain;
mod failures;
mod filters;
mod hosts;
mod http2;
mod kept;
mod limits;
mod local_limits;
mod metrics;
mod pages;
mod plain;
mod pressure;
mod recorder;
mod retries;
mod shares;
mod silence;
mod stage;
mod subject;
mod told;
mod upstream;
mod upstream_http2;
