//! The integration tests: one crate, hence one link step. `support` starts the real servers; every other module
//! proves one group of claims.
//!
//! A test that needs a server which is not installed prints that it was skipped, and fails instead where
//! `REQUIRE_REDIS`, `REQUIRE_ENVOY` or `REQUIRE_PROMETHEUS` is 1, as in `make test`: a skip cannot hide there.

// All of it is test code, not only the functions marked as tests.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod support;

mod adaptive;
mod admin;
mod ask;
mod bad_input;
mod batching;
mod bench;
mod bench_overload;
mod bootstrap;
mod cases;
mod compare;
mod compatibility;
mod counting;
mod demo;
mod envoy;
mod gates;
mod gateway;
mod lifecycle;
mod mapping;
mod overload;
mod port_tls;
mod ports;
mod prometheus_source;
mod proxy;
mod records;
mod redis_cluster;
mod redis_per_second;
mod redis_sentinel;
mod redis_store;
mod redis_tls;
mod reload;
mod replicas;
mod shipping;
mod shop;
mod simulate;
mod statsd;
mod store_contract;
mod story;
mod tidy;
mod traces;
mod wire;
mod xds;
