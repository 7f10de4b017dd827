//! What is asked of a discovery server, given what it told: state of the world, as a pure state machine.
//!
//! ```text
//!     stream begins ──► ask all: no version, no nonce
//!     an answer     ──► accepted: its version and its nonce
//!                  └──► refused:  the version this stream accepted last, its nonce, and why
//! ```
//!
//! A new stream asks as if nothing were known, although the protocol lets it name the version that was accepted last.
//! Versions are the server's own: Envoy Gateway counts them from 1 after each of its starts, so that the version we hold may
//! be another set's by now, and a server takes equal versions for "nothing new". The price is one answer that holds what is
//! in force already.

/// What is sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ask {
    /// Of what was accepted last on this stream; empty if nothing was.
    pub(super) version: String,
    /// Of the answer that this is about; empty at the beginning of a stream.
    pub(super) nonce: String,
    /// Why that answer is refused, if it is.
    pub(super) refusal: Option<String>,
}

/// What names an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) version: String,
    pub(super) nonce: String,
}

/// What an answer came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Accepted,
    Refused(String),
}

/// What is known of a stream.
#[derive(Clone, Debug, Default)]
pub(super) struct Protocol {
    accepted: String,
}

// === impl Protocol ===

impl Protocol {
    /// The first request of a stream. What was accepted before is forgotten: the version may be another set's by now, and
    /// who refuses that set must not claim to have it.
    pub(super) fn begin(&mut self) -> Ask {
        self.accepted.clear();
        Ask::default()
    }

    /// The request that says what `answer` came to.
    pub(super) fn judge(&mut self, answer: Named, verdict: Verdict) -> Ask {
        let Named { version, nonce } = answer;
        let refusal = match verdict {
            Verdict::Accepted => {
                self.accepted = version;
                None
            }
            Verdict::Refused(why) => Some(why),
        };
        Ask { version: self.accepted.clone(), nonce, refusal }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What can happen: a stream begins, or an answer comes and is judged.
    #[derive(Clone, Debug)]
    enum Event {
        Begin,
        Answer(Named, Verdict),
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        let named = ("[0-9]{0,2}", "[a-c]{1,2}").prop_map(|(version, nonce)| Named { version, nonce });
        let verdict = prop_oneof![Just(Verdict::Accepted), "[a-z]{1,4}".prop_map(Verdict::Refused)];
        let event = prop_oneof![
            Just(Event::Begin),
            (named, verdict).prop_map(|(named, verdict)| Event::Answer(named, verdict))
        ];
        prop::collection::vec(event, 0..30)
    }

    proptest! {
        #[test]
        fn each_answer_is_answered_by_its_nonce_and_the_version_accepted_last(events in events()) {
            let mut protocol = Protocol::default();
            let mut last_accepted = String::new();
            for event in events {
                match event {
                    Event::Begin => {
                        last_accepted.clear();
                        prop_assert_eq!(protocol.begin(), Ask::default(), "a stream knows nothing");
                    }
                    Event::Answer(named, verdict) => {
                        let ask = protocol.judge(named.clone(), verdict.clone());
                        prop_assert_eq!(&ask.nonce, &named.nonce);
                        match verdict {
                            Verdict::Accepted => {
                                last_accepted.clone_from(&named.version);
                                prop_assert_eq!(ask.refusal, None);
                            }
                            Verdict::Refused(why) => prop_assert_eq!(ask.refusal, Some(why)),
                        }
                        prop_assert_eq!(&ask.version, &last_accepted);
                    }
                }
            }
        }
    }

    #[test]
    fn a_refused_version_is_never_claimed() {
        let mut protocol = Protocol::default();
        let named = |version: &str| Named { version: version.to_owned(), nonce: format!("n{version}") };
        assert_eq!(protocol.judge(named("1"), Verdict::Accepted).version, "1");
        let refused = protocol.judge(named("2"), Verdict::Refused("no".to_owned()));
        assert_eq!((refused.version.as_str(), refused.nonce.as_str()), ("1", "n2"));
        assert_eq!(protocol.judge(named("3"), Verdict::Accepted).version, "3");
        protocol.begin();
        assert_eq!(protocol.judge(named("3"), Verdict::Refused("no".to_owned())).version, "", "another server's 3");
    }
}
