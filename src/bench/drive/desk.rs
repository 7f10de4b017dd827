//! Where calls end: counted, told to the observer, or kept to be sent again.

use std::collections::VecDeque;

use super::super::client::{Call, Failure, Outcome};
use super::Observer;

/// How many times a call is sent anew that closing connections give back.
const RETURNS_MAX: u8 = 5;

/// What becomes of calls, apart from the links so that both can be used at once.
#[derive(Debug)]
pub(super) struct Desk<'a, O> {
    pub(super) observer: &'a mut O,
    pub(super) in_flight: usize,
    /// Calls that were given back, to be sent anew.
    pub(super) returns: VecDeque<Call>,
    pub(super) returned: u64,
}

// === impl Desk ===

impl<'a, O: Observer> Desk<'a, O> {
    /// Nothing under way.
    pub(super) fn new(observer: &'a mut O) -> Self {
        Desk { observer, in_flight: 0, returns: VecDeque::new(), returned: 0 }
    }

    /// A call that was under way ended.
    pub(super) fn end(&mut self, call: Call, at_ns: u64, outcome: Outcome) {
        self.in_flight -= 1;
        match outcome {
            Outcome::Returned if call.returns < RETURNS_MAX => {
                self.returned += 1;
                self.returns.push_back(Call { returns: call.returns + 1, ..call });
            }
            Outcome::Returned => self.observer.ended(&call, at_ns, Outcome::Failed(Failure::ConnectionLost)),
            _ => self.observer.ended(&call, at_ns, outcome),
        }
    }
}
