//! What a decision costs, counted and never timed: allocations, bytes that stay, the size of a future.
//!
//! A clock says something about a machine and its moment; these numbers are the same on every machine, so a change
//! that makes the request path dearer fails here. The numbers stand in [`budget`], all of them. Allocations are counted
//! for each thread on its own by an allocator that replaces the system's, which is why these tests are a program of
//! their own: a server runs on the measured thread, its client on another.

// All of it is test code, not only the functions marked as tests.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod budget;
mod call;
mod counter;
mod decision;
mod service;

// The servers that the integration tests start. This program needs a few of them only.
#[allow(dead_code)]
#[path = "../it/support/mod.rs"]
mod support;
