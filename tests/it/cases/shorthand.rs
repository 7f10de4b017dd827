//! Calls and answers in one line each.
//!
//! ```text
//! domain: (key=value)(key=value) h=3 | (key=value) limit=2/MINUTE @5 -> OVER[OK 3/HOUR 2, OVER 0 0 reset=40, OK - 0]
//!
//! |               separates descriptors; () is one without entries
//! (k=v)^33  *129  the entry 33 times; the descriptor 129 times
//! h=3  h=-2       the descriptor's hits, and hits given back; @5 the request's hits
//! limit=2/MINUTE  a limit of the caller's; 2/SECOND*10 with a multiplier, 2/8 with the number of a unit
//! OK 3/HOUR 2     code, limit, remaining. `-` no limit, 3 a limit of any unit, 3/SECOND*10 with a multiplier
//! OK - 0 *128     the status 128 times
//! name=base       the name of the limit; without it there must be none
//! reset=40        seconds until reset; without it any, as long as a limit has one and no limit has none
//! -> error UNKNOWN text    no answer but an error
//! ```

use std::fmt;

use tidegate::proto::envoy::extensions::common::ratelimit::v3::RateLimitDescriptor;
use tidegate::proto::envoy::extensions::common::ratelimit::v3::rate_limit_descriptor::{Entry, RateLimitOverride};
use tidegate::proto::envoy::service::ratelimit::v3::rate_limit_response as wire;
use tidegate::proto::envoy::service::ratelimit::v3::{RateLimitRequest, RateLimitResponse};

/// A question and the answer that it must get.
#[derive(Clone, Debug)]
pub(super) struct Exchange {
    pub(super) request: RateLimitRequest,
    pub(super) expected: Expected,
}

/// What a call comes to.
#[derive(Clone, Debug)]
pub(super) enum Expected {
    Answer(Answer),
    /// The gRPC code's name and the text.
    Error(String),
}

/// An answer as far as the shorthand tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    code: String,
    statuses: Vec<Status>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Status {
    code: String,
    limit: Option<Limit>,
    remaining: u32,
    /// In seconds.
    reset: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Limit {
    requests_per_unit: u32,
    unit: Option<String>,
    multiplier: u32,
    name: String,
}

/// A number, or a panic that quotes the text it should stand in.
fn number<T: std::str::FromStr>(number: &str, text: &str) -> T
where
    T::Err: fmt::Display,
{
    number.parse().unwrap_or_else(|error| panic!("'{number}' in '{text}': {error}"))
}

// === impl Exchange ===

impl Exchange {
    pub(super) fn parse(text: &str) -> Exchange {
        let (ask, answer) = text.split_once("->").unwrap_or_else(|| panic!("'{text}' has no ->"));
        let answer = answer.trim();
        let expected = match answer.strip_prefix("error ") {
            Some(error) => Expected::Error(error.to_owned()),
            None => Expected::Answer(Answer::parse(answer)),
        };
        Exchange { request: request(ask.trim()), expected }
    }

    pub(super) fn states_a_reset(&self) -> bool {
        match &self.expected {
            Expected::Answer(answer) => answer.statuses.iter().any(|status| status.reset.is_some()),
            Expected::Error(_) => false,
        }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expected::Answer(answer) => answer.fmt(f),
            Expected::Error(error) => write!(f, "error {error}"),
        }
    }
}

fn request(text: &str) -> RateLimitRequest {
    let (domain, rest) = text.split_once(':').unwrap_or_else(|| panic!("'{text}' has no domain"));
    let (rest, hits_addend) = match rest.rsplit_once('@') {
        Some((rest, hits)) if !hits.contains(')') => (rest, number(hits.trim(), text)),
        _ => (rest, 0),
    };
    let mut descriptors = Vec::new();
    let mut rest = rest.trim();
    while !rest.is_empty() {
        let end = descriptor_end(rest);
        descriptors.extend(self::descriptors(&rest[..end]));
        rest = rest[end..].trim_start_matches('|').trim();
    }
    RateLimitRequest { domain: domain.trim().to_owned(), descriptors, hits_addend }
}

/// Where the first descriptor of `text` ends: at a bar outside of brackets.
fn descriptor_end(text: &str) -> usize {
    let mut inside = false;
    for (at, symbol) in text.char_indices() {
        match symbol {
            '(' => inside = true,
            ')' => inside = false,
            '|' if !inside => return at,
            _ => {}
        }
    }
    text.len()
}

fn descriptors(text: &str) -> Vec<RateLimitDescriptor> {
    let mut descriptor = RateLimitDescriptor::default();
    let mut repeat = 1;
    let mut rest = text.trim();
    while let Some(inside) = rest.strip_prefix('(') {
        let (entry, after) = inside.split_once(')').unwrap_or_else(|| panic!("'{text}' lacks a )"));
        let (entry_repeat, after) = match after.strip_prefix('^') {
            Some(after) => {
                let end = after.find(|symbol: char| !symbol.is_ascii_digit()).unwrap_or(after.len());
                (number(&after[..end], text), &after[end..])
            }
            None => (1, after),
        };
        if let Some((key, value)) = entry.split_once('=') {
            let entry = Entry { key: key.to_owned(), value: value.to_owned() };
            descriptor.entries.extend(std::iter::repeat_n(entry, entry_repeat));
        } else {
            assert!(entry.is_empty(), "'({entry})' in '{text}' is not (key=value)");
        }
        rest = after;
    }
    for word in rest.split_whitespace() {
        if let Some(hits) = word.strip_prefix("h=") {
            descriptor.is_negative_hits = hits.starts_with('-');
            let hits: u64 = number(hits.trim_start_matches('-'), text);
            descriptor.hits_addend = Some(hits.into());
        } else if let Some(limit) = word.strip_prefix("limit=") {
            descriptor.limit = Some(limit_override(limit));
        } else if let Some(times) = word.strip_prefix('*') {
            repeat = number(times, text);
        } else {
            panic!("'{word}' in '{text}' is none of h=, limit=, *");
        }
    }
    vec![descriptor; repeat]
}

fn limit_override(text: &str) -> RateLimitOverride {
    let limit = Limit::parse(text);
    let unit = limit.unit.unwrap_or_else(|| panic!("'{text}' has no unit"));
    // The override's own enum lacks WEEK; its number is read as the answer's unit.
    let unit = match wire::rate_limit::Unit::from_str_name(&unit) {
        Some(unit) => unit as i32,
        None => number(&unit, text),
    };
    let unit_multiplier = (limit.multiplier != 1).then(|| limit.multiplier.into());
    RateLimitOverride { requests_per_unit: limit.requests_per_unit, unit, unit_multiplier }
}

// === impl Answer ===

impl Answer {
    fn parse(text: &str) -> Answer {
        let (code, statuses) = text
            .strip_suffix(']')
            .and_then(|text| text.split_once('['))
            .unwrap_or_else(|| panic!("'{text}' is not of the form CODE[status, …]"));
        let statuses = statuses.split(',').flat_map(|text| match text.split_once(" *") {
            Some((status, times)) => vec![Status::parse(status.trim()); number(times.trim(), text)],
            None => vec![Status::parse(text.trim())],
        });
        Answer { code: code.to_owned(), statuses: statuses.collect() }
    }

    /// What a response says. Panics where it says what no response may.
    pub(super) fn of(response: &RateLimitResponse) -> Answer {
        assert!(response.raw_body.is_empty() && response.request_headers_to_add.is_empty(), "nothing sets these");
        Answer { code: code(response.overall_code), statuses: response.statuses.iter().map(Status::of).collect() }
    }

    /// Whether `got` is this answer, in what this one states.
    pub(super) fn allows(&self, got: &Answer) -> bool {
        let statuses = self.statuses.iter().zip(&got.statuses);
        self.code == got.code
            && self.statuses.len() == got.statuses.len()
            && statuses.into_iter().all(|(expected, got)| expected.allows(got))
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let statuses: Vec<String> = self.statuses.iter().map(ToString::to_string).collect();
        write!(f, "{}[{}]", self.code, statuses.join(", "))
    }
}

fn code(number: i32) -> String {
    match wire::Code::try_from(number) {
        Ok(wire::Code::Ok) => "OK".to_owned(),
        Ok(wire::Code::OverLimit) => "OVER".to_owned(),
        Ok(wire::Code::Unknown) | Err(_) => format!("code {number}"),
    }
}

// === impl Status ===

impl Status {
    fn parse(text: &str) -> Status {
        let mut words = text.split_whitespace();
        let mut word = || words.next().unwrap_or_else(|| panic!("'{text}' is not of the form CODE limit remaining"));
        let (code, limit, remaining) = (word(), word(), word());
        assert!(["OK", "OVER"].contains(&code), "'{code}' in '{text}' is neither OK nor OVER");
        let limit = (limit != "-").then(|| Limit::parse(limit));
        let mut status = Status { code: code.to_owned(), limit, remaining: number(remaining, text), reset: None };
        for word in words {
            if let Some(name) = word.strip_prefix("name=") {
                status.limit.as_mut().expect("only a limit has a name").name = name.to_owned();
            } else if let Some(seconds) = word.strip_prefix("reset=") {
                status.reset = Some(number(seconds, text));
            } else {
                panic!("'{word}' in '{text}' is neither name= nor reset=");
            }
        }
        status
    }

    fn of(status: &wire::DescriptorStatus) -> Status {
        let reset = status.duration_until_reset.as_ref().map(|duration| {
            assert_eq!(duration.nanos, 0, "durations are whole seconds");
            duration.seconds
        });
        Status {
            code: code(status.code),
            limit: status.current_limit.as_ref().map(Limit::of),
            remaining: status.limit_remaining,
            reset,
        }
    }

    fn allows(&self, got: &Status) -> bool {
        let limits = match (&self.limit, &got.limit) {
            (None, None) => got.reset.is_none(),
            (Some(expected), Some(got_limit)) => {
                got.reset.is_some_and(|reset| self.reset.is_none_or(|expected| expected == reset))
                    && expected.allows(got_limit)
            }
            _ => false,
        };
        limits && self.code == got.code && self.remaining == got.remaining
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.code)?;
        match &self.limit {
            Some(limit) => write!(f, "{limit} {}", self.remaining)?,
            None => write!(f, "- {}", self.remaining)?,
        }
        if let Some(name) = self.limit.as_ref().map(|limit| &limit.name).filter(|name| !name.is_empty()) {
            write!(f, " name={name}")?;
        }
        self.reset.map_or(Ok(()), |reset| write!(f, " reset={reset}"))
    }
}

// === impl Limit ===

impl Limit {
    fn parse(text: &str) -> Limit {
        let (requests, unit) = text.split_once('/').map_or((text, None), |(requests, unit)| (requests, Some(unit)));
        let (unit, multiplier) = match unit.and_then(|unit| unit.split_once('*')) {
            Some((unit, multiplier)) => (Some(unit), number(multiplier, text)),
            None => (unit, 1),
        };
        Limit {
            requests_per_unit: number(requests, text),
            unit: unit.map(ToOwned::to_owned),
            multiplier,
            name: String::new(),
        }
    }

    fn of(limit: &wire::RateLimit) -> Limit {
        Limit {
            requests_per_unit: limit.requests_per_unit,
            unit: Some(limit.unit().as_str_name().to_owned()),
            multiplier: limit.unit_multiplier.as_ref().map_or(1, |multiplier| multiplier.value),
            name: limit.name.clone(),
        }
    }

    fn allows(&self, got: &Limit) -> bool {
        self.requests_per_unit == got.requests_per_unit
            && self.name == got.name
            && (self.unit.is_none() || self.unit == got.unit && self.multiplier == got.multiplier)
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.requests_per_unit)?;
        if let Some(unit) = &self.unit {
            write!(f, "/{unit}")?;
        }
        if self.multiplier == 1 { Ok(()) } else { write!(f, "*{}", self.multiplier) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_a_whole_request() {
        let text = "d: (a=1)(b=x|y) h=3 | (c=) h=-2 | () limit=2/SECOND*10 | (e=1)^2 *2 @5 -> OK[OK - 0]";
        let request = Exchange::parse(text).request;
        assert_eq!((request.domain.as_str(), request.hits_addend, request.descriptors.len()), ("d", 5, 5));
        let [first, second, third, fourth, fifth] = &request.descriptors[..] else { panic!("{request:?}") };
        assert_eq!((first.entries[1].key.as_str(), first.entries[1].value.as_str()), ("b", "x|y"));
        assert_eq!(first.hits_addend.as_ref().unwrap().value, 3);
        assert!(second.is_negative_hits && second.entries[0].value.is_empty());
        let limit = third.limit.as_ref().unwrap();
        let multiplier = limit.unit_multiplier.as_ref().unwrap().value;
        assert_eq!((limit.requests_per_unit, limit.unit, multiplier), (2, 1, 10));
        assert!(third.entries.is_empty());
        assert_eq!((fourth.entries.len(), fourth), (2, fifth));
    }

    #[test]
    fn an_answer_is_refused_for_each_thing_that_it_states_otherwise() {
        let got = Answer::parse("OK[OK 3/HOUR 2 name=base reset=40, OK - 0]");
        let allows = |expected: &str| Answer::parse(expected).allows(&got);
        assert!(allows("OK[OK 3 2 name=base, OK - 0]"));
        assert!(allows("OK[OK 3/HOUR 2 name=base reset=40, OK - 0]"));
        for wrong in [
            "OVER[OK 3 2 name=base, OK - 0]",
            "OK[OVER 3 2 name=base, OK - 0]",
            "OK[OK 4 2 name=base, OK - 0]",
            "OK[OK 3 1 name=base, OK - 0]",
            "OK[OK 3 2, OK - 0]",
            "OK[OK 3/DAY 2 name=base, OK - 0]",
            "OK[OK 3/HOUR*2 2 name=base, OK - 0]",
            "OK[OK 3 2 name=base reset=41, OK - 0]",
            "OK[OK - 2, OK - 0]",
            "OK[OK 3 2 name=base, OK 0 0]",
            "OK[OK 3 2 name=base]",
        ] {
            assert!(!allows(wrong), "{wrong}");
        }
    }
}
