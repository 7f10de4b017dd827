//! A format string, taken apart once at load.
//!
//! `%NAME%`, `%NAME(argument)%` and `%NAME(argument):length%` are command operators; `%%` is a per cent sign, and any
//! other `%` is a mistake. Nothing is looked up by name afterwards.

use thiserror::Error;

use super::time::{TimeError, TimeFormat};
use super::{Field, JsonFormat};
use crate::proxy::request::HeaderKey;

/// Longest format string, in bytes; an access log line of common headers has some hundred.
pub const FORMAT_BYTES_MAX: usize = 64 << 10;

/// Envoy's default access log format, with its newline.
pub const DEFAULT_FORMAT: &str = concat!(
    "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" ",
    "%RESPONSE_CODE% %RESPONSE_FLAGS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% ",
    "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% ",
    "\"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" ",
    "\"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\"\n"
);

/// A format string: texts and command operators in turn.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Format {
    pub(super) pieces: Vec<Piece>,
    pub(super) omit_empty_values: bool,
}

/// How an access log line is made.
#[derive(Clone, Debug, PartialEq)]
pub enum LineFormat {
    /// A format string; a newline only where it has one.
    Text(Format),
    /// An object on a line of its own.
    Json(JsonFormat),
}

/// A part of a format string.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    /// As it stands; `%%` has become `%`.
    Text(String),
    /// A value, cut to so many bytes if a length is given.
    Operator(Operator, Option<usize>),
}

/// A command operator.
#[derive(Clone, Debug, PartialEq)]
pub enum Operator {
    /// One without an argument.
    Field(Field),
    /// `START_TIME(format)`
    StartTime(TimeFormat),
    /// `REQ(name?alternative)`
    RequestHeader(HeaderChoice),
    /// `RESP(name?alternative)`
    ResponseHeader(HeaderChoice),
    /// `TRAILER(name?alternative)`
    ResponseTrailer(HeaderChoice),
    /// `DYNAMIC_METADATA(namespace:key:…)`
    DynamicMetadata(MetadataPath),
    /// `METADATA(ROUTE:namespace:key:…)`
    RouteMetadata(MetadataPath),
    /// `CLUSTER_METADATA(namespace:key:…)` and `METADATA(CLUSTER:…)`
    ClusterMetadata(MetadataPath),
}

/// A header, and another for when it is absent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderChoice {
    /// Looked at first.
    pub name: HeaderKey,
    /// Looked at if that one is absent.
    pub alternative: Option<HeaderKey>,
}

/// A namespace of metadata, and keys within; without keys the whole namespace is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetadataPath {
    /// The namespace.
    pub namespace: String,
    /// The keys.
    pub keys: Vec<String>,
}

/// Why a text is no format string.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FormatError {
    /// It is longer than [`FORMAT_BYTES_MAX`].
    #[error("the format has {0} bytes, at most {FORMAT_BYTES_MAX} are read")]
    TooLong(usize),
    /// A per cent sign that begins no operator.
    #[error(
        "at byte {0} a % begins no command operator; write %NAME%, %NAME(argument)% or %NAME(argument):length%, or %% \
         for the sign itself"
    )]
    NoOperator(usize),
    /// An operator that isn't known.
    #[error("%{0}% is a command operator that tidegate-proxy doesn't know")]
    Unknown(String),
    /// An operator with an argument or length that it doesn't take, or without one that it needs.
    #[error("%{operator}% {wrong}")]
    Argument {
        /// Its name.
        operator: String,
        /// What is wrong and what would be right.
        wrong: String,
    },
}

/// A command operator as it stands in the text.
#[derive(Debug)]
struct Written<'t> {
    name: &'t str,
    argument: Option<&'t str>,
    length: Option<usize>,
    /// Bytes from the first per cent sign to behind the last.
    size: usize,
}

// === impl Format ===

impl Format {
    /// Takes a format string apart.
    ///
    /// # Errors
    /// When it is none; the first mistake is told.
    pub fn parse(text: &str) -> Result<Format, FormatError> {
        if text.len() > FORMAT_BYTES_MAX {
            return Err(FormatError::TooLong(text.len()));
        }
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut at = 0;
        while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
            let plain = rest.find('%').unwrap_or(rest.len());
            literal.push_str(&rest[..plain]);
            at += plain;
            let rest = &rest[plain..];
            if rest.starts_with("%%") {
                literal.push('%');
                at += 2;
            } else if !rest.is_empty() {
                let written = Written::read(rest).ok_or(FormatError::NoOperator(at))?;
                if !literal.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut literal)));
                }
                pieces.push(Piece::Operator(written.operator()?, written.length));
                at += written.size;
            }
        }
        if !literal.is_empty() {
            pieces.push(Piece::Text(literal));
        }
        Ok(Format { pieces, omit_empty_values: false })
    }

    /// Whether a value that is missing prints nothing, instead of `-`.
    #[must_use]
    pub fn omit_empty_values(self, omit_empty_values: bool) -> Format {
        Format { omit_empty_values, ..self }
    }

    /// Envoy's default access log format.
    #[must_use]
    pub fn default_line() -> Format {
        Format::parse(DEFAULT_FORMAT).expect("is a constant, and a test reads it")
    }

    /// Whether it is one command operator and nothing else.
    #[must_use]
    pub fn is_single_operator(&self) -> bool {
        matches!(&self.pieces[..], [Piece::Operator(..)])
    }
}

// === impl Written ===

impl<'t> Written<'t> {
    /// The operator at the beginning of `text`, which begins with a per cent sign.
    fn read(text: &'t str) -> Option<Written<'t>> {
        let name_end = 1 + text[1..]
            .find(|letter: char| !(letter.is_ascii_uppercase() || letter.is_ascii_digit() || letter == '_'))?;
        let name = Some(&text[1..name_end]).filter(|name| !name.is_empty())?;
        let mut rest = &text[name_end..];
        let argument = match rest.strip_prefix('(') {
            Some(inside) => {
                let (argument, behind) = inside.split_once(')')?;
                rest = behind;
                Some(argument)
            }
            None => None,
        };
        let length = match rest.strip_prefix(':') {
            Some(behind) => {
                let (digits, _) = behind.split_once('%')?;
                rest = &behind[digits.len()..];
                Some(digits.parse().ok().filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()))?)
            }
            None => None,
        };
        let behind = rest.strip_prefix('%')?;
        Some(Written { name, argument, length, size: text.len() - behind.len() })
    }

    fn operator(&self) -> Result<Operator, FormatError> {
        if let Some(field) = Field::from_name(self.name) {
            return match (self.argument, self.length) {
                (None, None) => Ok(Operator::Field(field)),
                (Some(_), _) => Err(self.wrong("takes no argument; leave out the parentheses")),
                (None, Some(_)) => Err(self.wrong("takes no length; leave out the colon and the number")),
            };
        }
        Ok(match self.name {
            "START_TIME" => {
                if self.length.is_some() {
                    return Err(self.wrong("takes no length; leave out the colon and the number"));
                }
                let time = TimeFormat::parse(self.argument.unwrap_or_default());
                Operator::StartTime(time.map_err(|error: TimeError| self.wrong(&error.to_string()))?)
            }
            "REQ" => Operator::RequestHeader(self.headers()?),
            "RESP" => Operator::ResponseHeader(self.headers()?),
            "TRAILER" => Operator::ResponseTrailer(self.headers()?),
            "DYNAMIC_METADATA" => Operator::DynamicMetadata(self.metadata(self.needed()?)?),
            "CLUSTER_METADATA" if self.length.is_some() => {
                return Err(self.wrong("takes no length; leave out the colon and the number"));
            }
            "CLUSTER_METADATA" => Operator::ClusterMetadata(self.metadata(self.needed()?)?),
            "METADATA" => match self.needed()?.split_once(':') {
                Some(("DYNAMIC", path)) => Operator::DynamicMetadata(self.metadata(path)?),
                Some(("ROUTE", path)) => Operator::RouteMetadata(self.metadata(path)?),
                Some(("CLUSTER", path)) => Operator::ClusterMetadata(self.metadata(path)?),
                _ => {
                    return Err(
                        self.wrong("needs DYNAMIC, ROUTE or CLUSTER, a colon and a namespace in its parentheses")
                    );
                }
            },
            name => return Err(FormatError::Unknown(name.to_owned())),
        })
    }

    fn needed(&self) -> Result<&'t str, FormatError> {
        let given = self.argument.filter(|argument| !argument.is_empty());
        given.ok_or_else(|| self.wrong("needs an argument in parentheses"))
    }

    fn headers(&self) -> Result<HeaderChoice, FormatError> {
        let mut names = self.needed()?.split('?');
        let key = |name: &str| {
            HeaderKey::from_name(name).ok_or_else(|| self.wrong(&format!("names '{name}', which no header can have")))
        };
        let name = key(names.next().unwrap_or_default())?;
        let alternative = names.next().map(key).transpose()?;
        if names.next().is_some() {
            return Err(self.wrong("names more than two headers; one alternative is possible"));
        }
        Ok(HeaderChoice { name, alternative })
    }

    fn metadata(&self, path: &str) -> Result<MetadataPath, FormatError> {
        let mut parts = path.split(':').map(str::to_owned);
        let namespace = parts.next().filter(|namespace| !namespace.is_empty());
        let namespace = namespace.ok_or_else(|| self.wrong("needs a namespace"))?;
        Ok(MetadataPath { namespace, keys: parts.collect() })
    }

    fn wrong(&self, wrong: &str) -> FormatError {
        FormatError::Argument { operator: self.name.to_owned(), wrong: wrong.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn field(field: Field) -> Piece {
        Piece::Operator(Operator::Field(field), None)
    }

    fn wrong(text: &str) -> String {
        Format::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn texts_and_operators_take_turns_and_two_signs_are_one() {
        let format = Format::parse("100%% of %DURATION%%PROTOCOL% ms%%").unwrap();
        let text = |text: &str| Piece::Text(text.to_owned());
        assert_eq!(format.pieces, [text("100% of "), field(Field::Duration), field(Field::Protocol), text(" ms%")]);
        assert_eq!(Format::parse("").unwrap().pieces, []);
    }

    #[test]
    fn headers_have_an_alternative_and_a_length() {
        let format = Format::parse("%REQ(X-Original?:PATH):10%").unwrap();
        let choice =
            HeaderChoice { name: HeaderKey::from_name("x-original").unwrap(), alternative: Some(HeaderKey::Path) };
        assert_eq!(format.pieces, [Piece::Operator(Operator::RequestHeader(choice), Some(10))]);
    }

    #[test]
    fn metadata_has_a_namespace_and_keys() {
        let path = |keys: &[&str]| MetadataPath {
            namespace: "a.b".to_owned(),
            keys: keys.iter().map(|key| (*key).to_owned()).collect(),
        };
        for (text, operator) in [
            ("%DYNAMIC_METADATA(a.b)%", Operator::DynamicMetadata(path(&[]))),
            ("%DYNAMIC_METADATA(a.b:c:d)%", Operator::DynamicMetadata(path(&["c", "d"]))),
            ("%METADATA(ROUTE:a.b:c)%", Operator::RouteMetadata(path(&["c"]))),
            ("%CLUSTER_METADATA(a.b:c)%", Operator::ClusterMetadata(path(&["c"]))),
        ] {
            assert_eq!(Format::parse(text).unwrap().pieces, [Piece::Operator(operator, None)], "{text}");
        }
    }

    #[test]
    fn the_default_format_is_one() {
        assert_eq!(Format::default_line().pieces.len(), 31);
    }

    #[test]
    fn what_is_no_format_is_told_with_its_place() {
        for text in
            ["50%", "a % b", "%duration%", "%DURATION", "%REQ(x%", "%REQ(x):%", "%REQ(x):y%", "%REQ(x):+1%", "%()%"]
        {
            assert!(wrong(text).starts_with("at byte "), "{text}: {}", wrong(text));
        }
        assert_eq!(wrong("a % b").split(' ').nth(2), Some("2"));
        for (text, part) in [
            ("%NONSENSE%", "%NONSENSE% is a command operator that"),
            ("%DURATION(x)%", "takes no argument"),
            ("%DURATION:5%", "takes no length"),
            ("%CLUSTER_METADATA(a:b):5%", "takes no length"),
            ("%REQ%", "needs an argument"),
            ("%REQ()%", "needs an argument"),
            ("%REQ(a?b?c)%", "more than two"),
            ("%REQ(a b)%", "'a b'"),
            ("%METADATA(HOST:a)%", "ROUTE"),
            ("%DYNAMIC_METADATA(:a)%", "namespace"),
        ] {
            assert!(wrong(text).contains(part), "{text}: {}", wrong(text));
        }
        assert!(wrong(&" ".repeat(FORMAT_BYTES_MAX + 1)).contains("bytes"));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in r"(%|%%|\(|\)|:|\?|REQ|START_TIME|[A-Z_]{1,5}|[0-9]|.){0,40}") {
            drop(Format::parse(&text));
        }

        #[test]
        fn a_text_whose_signs_are_doubled_is_itself(text in ".{0,60}") {
            let format = Format::parse(&text.replace('%', "%%")).unwrap();
            let whole = if text.is_empty() { Vec::new() } else { vec![Piece::Text(text)] };
            prop_assert_eq!(format.pieces, whole);
        }
    }
}
