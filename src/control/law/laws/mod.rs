//! The invariants of the law, over random states, samples and clocks.
//!
//! States come in two kinds: those that a law can have written, and any that a store can hold. Whatever the second kind
//! says, it is either refused or behaves like the first.

mod any;
mod limits;
mod time;
