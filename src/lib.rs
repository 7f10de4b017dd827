//! Tidegate, a global rate limit service for Envoy. ARCHITECTURE.md is the map; the modules below are in the order
//! of its layers, and each imports only from those above it.

// Layer 0: words.
pub mod clock;
pub mod connect;
pub mod descriptor;
pub mod key;
pub mod limit;
pub mod pem;
pub mod plot;
pub mod rate;
pub mod tls;
// Layer 1: arithmetic.
pub mod signal;
pub mod window;
// Layer 2: rules.
pub mod rules;
// Layer 3: counters.
pub mod counters;
pub mod health;
pub mod metrics;
pub mod table;
// Layer 4: the engines.
pub mod control;
pub mod decision;
pub mod limiter;
// Layer 5: edges.
pub mod admin;
pub mod ask;
pub mod logging;
pub mod prometheus;
pub mod proto;
pub mod reload;
pub mod rls;
pub mod settings;
pub mod simulate;
pub mod statsd;
pub mod trace;
pub mod web;
pub mod xds;
// Layer 6: assembly.
pub mod app;
pub mod cli;
pub mod open_files;
// Tools: programs of their own, which the service doesn't need.
pub mod bench;
pub mod demo;
pub mod proxy;
pub mod shop;
