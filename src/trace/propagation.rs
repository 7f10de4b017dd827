//! What a caller's headers say of the trace that its call belongs to: pure.
//!
//! ```text
//! traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01    W3C trace context
//! b3: 4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1-05e3ac9a4f6e3b90    B3, all in one (also just 0, 1 or d)
//! x-b3-traceid, x-b3-spanid, x-b3-sampled, x-b3-flags                     B3, one by one
//! ```
//!
//! All three are read, in this order, and the first that says something holds. What is malformed says nothing, as the
//! specifications have it: a trace is no reason to refuse a call. See <https://www.w3.org/TR/trace-context/> and
//! <https://github.com/openzipkin/b3-propagation>.

use http::HeaderMap;

use super::identity::{SpanId, TraceId, hexadecimal};

/// What a caller said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carried {
    /// The caller's span, if it named one.
    pub parent: Option<Parent>,
    /// Whether its trace is recorded.
    pub wish: Wish,
}

/// A caller's span.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    /// Its trace.
    pub trace: TraceId,
    /// Itself.
    pub span: SpanId,
}

/// Whether a caller wants its trace recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// It does.
    Record,
    /// It does not.
    Pass,
    /// It leaves that to us.
    Open,
}

/// Longest `tracestate` that is passed on: what the specification asks for at least, in bytes.
const STATE_BYTES_MAX: usize = 512;

/// What these headers say.
#[must_use]
pub fn carried(headers: &HeaderMap) -> Carried {
    let w3c = only(headers, "traceparent").and_then(traceparent);
    let b3 = || only(headers, "b3").and_then(b3_single);
    w3c.or_else(b3).or_else(|| b3_several(headers)).unwrap_or(Carried { parent: None, wish: Wish::Open })
}

/// The `tracestate` of these headers, to be passed on as it is; empty if there is none, one that is too long, or no
/// `traceparent` that it belongs to (W3C Trace Context, 3.3).
#[must_use]
pub fn state(headers: &HeaderMap) -> String {
    let mut state = String::new();
    if only(headers, "traceparent").and_then(traceparent).is_none() {
        return state;
    }
    for part in headers.get_all("tracestate") {
        let Ok(part) = part.to_str() else { return String::new() };
        let comma = usize::from(!state.is_empty());
        if state.len() + comma + part.len() > STATE_BYTES_MAX {
            return String::new();
        }
        if !state.is_empty() {
            state.push(',');
        }
        state.push_str(part);
    }
    state
}

/// The value of a header that is there once.
fn only<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h [u8]> {
    let mut values = headers.get_all(name).iter();
    let first = values.next()?;
    values.next().is_none().then(|| first.as_bytes())
}

/// Reads a `traceparent`: version 00, and what of it later versions keep.
fn traceparent(text: &[u8]) -> Option<Carried> {
    const LENGTH: usize = 55;
    const SAMPLED: u8 = 1;

    let [version] = hexadecimal::<1>(text.get(..2)?)?;
    let is_whole = match version {
        0 => text.len() == LENGTH,
        0xff => false,
        _ => text.len() == LENGTH || text.get(LENGTH) == Some(&b'-'),
    };
    if !is_whole {
        return None;
    }
    let mut parts = text.get(3..LENGTH)?.split(|letter| *letter == b'-');
    let (trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?);
    if text[2] != b'-' || parts.next().is_some() {
        return None;
    }
    let parent = Parent { trace: TraceId::parse(trace)?, span: SpanId::parse(span)? };
    let [flags] = hexadecimal::<1>(flags)?;
    let wish = if flags & SAMPLED == SAMPLED { Wish::Record } else { Wish::Pass };
    Some(Carried { parent: Some(parent), wish })
}

/// Reads a `b3` header.
fn b3_single(text: &[u8]) -> Option<Carried> {
    if let Some(wish) = b3_wish(text) {
        return Some(Carried { parent: None, wish });
    }
    let mut parts = text.split(|letter| *letter == b'-');
    let parent = Parent { trace: TraceId::parse_long_or_short(parts.next()?)?, span: SpanId::parse(parts.next()?)? };
    let wish = parts.next().map_or(Some(Wish::Open), b3_wish)?;
    let grandparent_is_right = parts.next().is_none_or(|span| SpanId::parse(span).is_some());
    (grandparent_is_right && parts.next().is_none()).then_some(Carried { parent: Some(parent), wish })
}

/// Reads the `x-b3-` headers.
fn b3_several(headers: &HeaderMap) -> Option<Carried> {
    let wish = match (only(headers, "x-b3-flags"), only(headers, "x-b3-sampled")) {
        (Some(b"1"), _) => Wish::Record,
        (_, Some(sampled)) => b3_wish(sampled)?,
        (_, None) => Wish::Open,
    };
    let parent = match (only(headers, "x-b3-traceid"), only(headers, "x-b3-spanid")) {
        (Some(trace), Some(span)) => {
            Some(Parent { trace: TraceId::parse_long_or_short(trace)?, span: SpanId::parse(span)? })
        }
        // A wish alone is one too.
        (None, None) if wish != Wish::Open => None,
        _ => return None,
    };
    Some(Carried { parent, wish })
}

/// B3's words for whether a trace is recorded; the long ones are those of old callers.
fn b3_wish(text: &[u8]) -> Option<Wish> {
    match text {
        b"1" | b"d" | b"true" => Some(Wish::Record),
        b"0" | b"false" => Some(Wish::Pass),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    fn headers<V: AsRef<[u8]>>(all: &[(&'static str, V)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in all {
            // What is no header value can't be received.
            if let Ok(value) = HeaderValue::from_bytes(value.as_ref()) {
                headers.append(HeaderName::from_static(name), value);
            }
        }
        headers
    }

    fn read(all: &[(&'static str, &str)]) -> Carried {
        carried(&headers(all))
    }

    fn parent() -> Option<Parent> {
        Some(Parent { trace: TraceId::parse(TRACE.as_bytes()).unwrap(), span: SpanId::parse(SPAN.as_bytes()).unwrap() })
    }

    const NOTHING: Carried = Carried { parent: None, wish: Wish::Open };

    #[test]
    fn a_traceparent_names_the_parent_and_whether_it_is_recorded() {
        for (flags, wish) in [("01", Wish::Record), ("00", Wish::Pass), ("03", Wish::Record), ("fe", Wish::Pass)] {
            let text = format!("00-{TRACE}-{SPAN}-{flags}");
            assert_eq!(read(&[("traceparent", &text)]), Carried { parent: parent(), wish }, "{text}");
        }
        for later in [format!("01-{TRACE}-{SPAN}-01"), format!("cc-{TRACE}-{SPAN}-01-what-may-come")] {
            assert_eq!(read(&[("traceparent", &later)]), Carried { parent: parent(), wish: Wish::Record }, "{later}");
        }
    }

    #[test]
    fn a_malformed_traceparent_says_nothing() {
        let (no_trace, no_span) = ("0".repeat(32), "0".repeat(16));
        for text in [
            String::new(),
            "00".to_owned(),
            format!("ff-{TRACE}-{SPAN}-01"),
            format!("00-{TRACE}-{SPAN}-01-more"),
            format!("00-{TRACE}-{SPAN}-1"),
            format!("00-{TRACE}-{SPAN}-0g"),
            format!("00_{TRACE}-{SPAN}-01"),
            format!("00-{TRACE}{SPAN}--01"),
            format!("00-{no_trace}-{SPAN}-01"),
            format!("00-{TRACE}-{no_span}-01"),
            format!("01-{TRACE}-{SPAN}-01.more"),
            format!("00-{}-{SPAN}-01", TRACE.to_uppercase()),
        ] {
            assert_eq!(read(&[("traceparent", &text)]), NOTHING, "{text}");
        }
        let text = format!("00-{TRACE}-{SPAN}-01");
        assert_eq!(read(&[("traceparent", &text), ("traceparent", &text)]), NOTHING, "there must be one");
    }

    #[test]
    fn b3_in_one_header_is_read_in_all_its_forms() {
        let open = Carried { parent: parent(), wish: Wish::Open };
        let recorded = Carried { parent: parent(), wish: Wish::Record };
        let passed = Carried { parent: parent(), wish: Wish::Pass };
        for (text, expected) in [
            (format!("{TRACE}-{SPAN}"), open),
            (format!("{TRACE}-{SPAN}-1"), recorded),
            (format!("{TRACE}-{SPAN}-d"), recorded),
            (format!("{TRACE}-{SPAN}-0"), passed),
            (format!("{TRACE}-{SPAN}-1-05e3ac9a4f6e3b90"), recorded),
            ("0".to_owned(), Carried { parent: None, wish: Wish::Pass }),
            ("1".to_owned(), Carried { parent: None, wish: Wish::Record }),
            ("d".to_owned(), Carried { parent: None, wish: Wish::Record }),
        ] {
            assert_eq!(read(&[("b3", &text)]), expected, "{text}");
        }
        for text in
            ["", "2", "-", &format!("{TRACE}-{SPAN}-x"), &format!("{TRACE}-{SPAN}-1-x"), &format!("{TRACE}-1-{SPAN}")]
        {
            assert_eq!(read(&[("b3", text)]), NOTHING, "{text}");
        }
    }

    #[test]
    fn b3_in_several_headers_is_read_with_short_traces_and_flags() {
        let names = [("x-b3-traceid", TRACE), ("x-b3-spanid", SPAN)];
        let with = |more: &[(&'static str, &'static str)]| read(&[&names, more].concat());
        assert_eq!(with(&[]), Carried { parent: parent(), wish: Wish::Open });
        assert_eq!(with(&[("x-b3-sampled", "1")]).wish, Wish::Record);
        assert_eq!(with(&[("x-b3-sampled", "true")]).wish, Wish::Record);
        assert_eq!(with(&[("x-b3-sampled", "0")]), Carried { parent: parent(), wish: Wish::Pass });
        assert_eq!(with(&[("x-b3-flags", "1")]).wish, Wish::Record);
        assert_eq!(with(&[("x-b3-sampled", "maybe")]), NOTHING);
        let short = read(&[("x-b3-traceid", SPAN), ("x-b3-spanid", SPAN)]).parent.unwrap();
        assert_eq!(short.trace.to_string(), format!("0000000000000000{SPAN}"));
        assert_eq!(read(&[("x-b3-sampled", "0")]), Carried { parent: None, wish: Wish::Pass });
        assert_eq!(read(&[("x-b3-traceid", TRACE)]), NOTHING);
    }

    #[test]
    fn the_first_header_that_says_something_holds() {
        let w3c = format!("00-{TRACE}-{SPAN}-01");
        let other = format!("{SPAN}-{SPAN}-0");
        assert_eq!(read(&[("traceparent", &w3c), ("b3", &other)]).wish, Wish::Record);
        assert_eq!(read(&[("traceparent", "broken"), ("b3", &other)]).wish, Wish::Pass);
        assert_eq!(read(&[]), NOTHING);
    }

    #[test]
    fn a_state_is_passed_on_whole_or_not_at_all() {
        let w3c = format!("00-{TRACE}-{SPAN}-01");
        let state_of = |states: &[&[u8]]| {
            let mut headers = headers(&[("traceparent", &w3c)]);
            for state in states {
                headers.append("tracestate", HeaderValue::from_bytes(state).unwrap());
            }
            state(&headers)
        };
        assert_eq!(state_of(&[b"a=1", b"b=2"]), "a=1,b=2");
        let longest = "a".repeat(STATE_BYTES_MAX);
        assert_eq!(state_of(&[longest.as_bytes()]), longest);
        assert_eq!(state_of(&[&longest.as_bytes()[2..], b"b"]).len(), STATE_BYTES_MAX);
        assert_eq!(state_of(&[&longest.as_bytes()[1..], b"b"]), "");
        assert_eq!(state_of(&[longest.as_bytes(), b"b"]), "");
        assert_eq!(state_of(&[&[0xff_u8]]), "");
    }

    #[test]
    fn a_state_without_its_traceparent_is_nobodys() {
        let (b3, state_of_b3) = (format!("{SPAN}-{SPAN}-1"), "a=1".to_owned());
        for traceparent in [None, Some("broken")] {
            let mut all = headers(&[("b3", &b3), ("tracestate", &state_of_b3)]);
            traceparent.map(|text| all.insert("traceparent", HeaderValue::from_static(text)));
            assert!(carried(&all).parent.is_some());
            assert_eq!(state(&all), "");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_say_nothing(
            values in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 6),
            text in "[0-9a-fd-]{0,80}",
        ) {
            let names = ["traceparent", "b3", "x-b3-traceid", "x-b3-spanid", "x-b3-sampled", "tracestate"];
            let all: Vec<_> = names.into_iter().zip(&values).collect();
            let read = |headers: HeaderMap| {
                let parent = carried(&headers).parent;
                parent.is_none_or(|parent| *parent.trace.bytes() != [0; 16] && *parent.span.bytes() != [0; 8])
                    && state(&headers).len() <= STATE_BYTES_MAX
            };
            prop_assert!(read(headers(&all)));
            for (name, value) in all {
                prop_assert!(read(headers(&[(name, value)])) && read(headers(&[(name, &text)])));
            }
        }

        #[test]
        fn what_was_written_is_read_back(trace in any::<[u8; 16]>(), span in any::<[u8; 8]>(), is_recorded in any::<bool>()) {
            prop_assume!(trace != [0; 16] && span != [0; 8]);
            let parent = Parent { trace: TraceId::try_new(trace).unwrap(), span: SpanId::try_new(span).unwrap() };
            let Parent { trace, span } = parent;
            let expected = Carried { parent: Some(parent), wish: if is_recorded { Wish::Record } else { Wish::Pass } };
            let digit = u8::from(is_recorded);
            prop_assert_eq!(read(&[("traceparent", &format!("00-{trace}-{span}-0{digit}"))]), expected);
            prop_assert_eq!(read(&[("b3", &format!("{trace}-{span}-{digit}"))]), expected);
            let (trace, span, sampled) = (trace.to_string(), span.to_string(), digit.to_string());
            let several = [("x-b3-traceid", &*trace), ("x-b3-spanid", &*span), ("x-b3-sampled", &*sampled)];
            prop_assert_eq!(read(&several), expected);
        }
    }
}
