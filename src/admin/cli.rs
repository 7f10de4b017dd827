//! `tidegate adaptive`: the operators' edge from a terminal, in sentences.
//!
//! It asks the admin listener of one replica, by default the one that the settings name on this machine. What is printed
//! came over a socket and may hold what a metrics server answered: control characters are left out.

use axum::http::{Method, StatusCode};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::client::{self, Address};
use super::{record, say};
use crate::settings::AdminSettings;

/// What is asked of which listener.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct Adaptive {
    /// The admin listener to ask [default: that of the settings]
    #[arg(long, value_name = "URL", global = true)]
    admin: Option<String>,
    #[command(subcommand)]
    act: Act,
}

/// What is done.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
enum Act {
    #[command(flatten)]
    Ask(Ask),
    /// Follow a service's ticks and print each as a line of JSON, which `tidegate simulate --replay` reads
    Record {
        /// The service
        name: String,
        /// For how long, 1s to 24h
        #[arg(long = "for", value_name = "TIME", default_value = "1h")]
        lasting: String,
    },
}

/// One question, which has one answer.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
enum Ask {
    /// Every service: its limit, and the last decision
    Status {
        /// Print the answer as it came
        #[arg(long)]
        json: bool,
    },
    /// One service: why its limit is what it is, and what would let it rise
    Why {
        /// The service
        name: String,
        /// Print the answer as it came
        #[arg(long)]
        json: bool,
    },
    /// Keep a limit as it is
    Freeze {
        /// The service
        name: String,
        #[command(flatten)]
        signed: Signed,
        #[command(flatten)]
        lasting: Lasting,
    },
    /// Set a limit
    Override {
        /// The service
        name: String,
        /// The limit, such as 90/s
        limit: String,
        #[command(flatten)]
        signed: Signed,
        #[command(flatten)]
        lasting: Lasting,
        /// Even outside the service's bounds
        #[arg(long)]
        force: bool,
    },
    /// Take the hand off: the law goes on
    Resume {
        /// The service
        name: String,
        #[command(flatten)]
        signed: MaybeSigned,
    },
    /// Forget what was learned: the limit starts anew
    Reset {
        /// The service
        name: String,
        #[command(flatten)]
        signed: MaybeSigned,
    },
}

#[derive(Args, Clone, Debug, PartialEq, Eq)]
struct Signed {
    /// Why; it is shown wherever the limit is shown
    #[arg(long)]
    reason: String,
    /// Who says so [default: the user of this terminal]
    #[arg(long)]
    by: Option<String>,
}

#[derive(Args, Clone, Debug, PartialEq, Eq)]
struct MaybeSigned {
    /// Why
    #[arg(long)]
    reason: Option<String>,
    /// Who says so [default: the user of this terminal]
    #[arg(long)]
    by: Option<String>,
}

#[derive(Args, Clone, Debug, PartialEq, Eq)]
struct Lasting {
    /// For how long, 1s to 24h [default: 1h]
    #[arg(long = "for", value_name = "TIME")]
    lifetime: Option<String>,
}

/// Why it ends early.
#[derive(Debug)]
pub enum Failure {
    /// What was asked for is wrong.
    Wrong(String),
    /// There is nobody who could do it, now.
    Unavailable(String),
    /// What is told cannot be written.
    Output(std::io::Error),
}

/// Asks, and hands what is told to `line`, all at once or as it comes; what is to be known meanwhile goes to `note`. `user`
/// is who sits at the terminal, if that is known.
///
/// # Errors
/// When it can't be done, with what to say.
pub async fn run(
    adaptive: &Adaptive,
    settings: &AdminSettings,
    user: Option<&str>,
    mut line: impl FnMut(&str) -> std::io::Result<()>,
    note: impl FnMut(&str),
) -> Result<(), Failure> {
    let address = match &adaptive.admin {
        Some(url) => Address::parse(url).map_err(Failure::Wrong)?,
        None => Address::parse(&listener_of(settings)).map_err(Failure::Wrong)?,
    };
    match &adaptive.act {
        Act::Record { name, lasting } => record::follow(&address, segment(name)?, lasting, line, note).await,
        Act::Ask(ask) => {
            let (method, path, body) = ask.request(user)?;
            let told = asked(&address, method.clone(), &path, body.as_ref()).await?;
            // A script that reads "cannot" would do it again.
            let is_done = method != Method::GET;
            line(&ask.said(&told)).map_err(|error| match is_done {
                true => {
                    Failure::Output(std::io::Error::new(error.kind(), format!("{error}; what was asked for is done")))
                }
                false => Failure::Output(error),
            })
        }
    }
}

/// One question, and the answer if it is one.
pub(super) async fn asked(
    address: &Address,
    method: Method,
    path: &str,
    body: Option<&Value>,
) -> Result<Value, Failure> {
    let answered = client::ask(address, method, path, body).await;
    let (status, told) = answered.map_err(|error| Failure::Unavailable(error.to_string()))?;
    if status != StatusCode::OK {
        let errors = told["errors"].as_array().map_or(&[][..], Vec::as_slice);
        let errors: Vec<String> = errors.iter().map(say::text).collect();
        let sentence = if errors.is_empty() { format!("the listener answered {status}") } else { errors.join("\n") };
        return Err(if status.is_client_error() { Failure::Wrong(sentence) } else { Failure::Unavailable(sentence) });
    }
    Ok(told)
}

/// Where somebody on this machine reaches the listener that the settings describe.
fn listener_of(settings: &AdminSettings) -> String {
    let host = match settings.host.as_str() {
        "0.0.0.0" => "127.0.0.1".to_owned(),
        "::" => "[::1]".to_owned(),
        host if host.contains(':') => format!("[{host}]"),
        host => host.to_owned(),
    };
    format!("http://{host}:{}", settings.port)
}

// === impl Ask ===

impl Ask {
    /// What to print of an answer.
    fn said(&self, told: &Value) -> String {
        match self {
            Ask::Status { json: true } | Ask::Why { json: true, .. } => format!("{told:#}"),
            Ask::Status { json: false } => say::status(told),
            Ask::Why { json: false, .. } => say::why(told),
            Ask::Freeze { .. } | Ask::Override { .. } | Ask::Resume { .. } | Ask::Reset { .. } => {
                say::text(&told["sentence"])
            }
        }
    }

    fn request(&self, user: Option<&str>) -> Result<(Method, String, Option<Value>), Failure> {
        let by = |by: &Option<String>| by.as_deref().or(user).unwrap_or_default().to_owned();
        let (act, name, body) = match self {
            Ask::Status { .. } => return Ok((Method::GET, "/adaptive".to_owned(), None)),
            Ask::Why { name, .. } => return Ok((Method::GET, format!("/adaptive/{}", segment(name)?), None)),
            Ask::Freeze { name, signed, lasting } => {
                ("freeze", name, json!({ "reason": signed.reason, "by": by(&signed.by), "for": lasting.lifetime }))
            }
            Ask::Override { name, limit, signed, lasting, force } => {
                let (reason, by) = (&signed.reason, by(&signed.by));
                let lifetime = &lasting.lifetime;
                let body = json!({ "reason": reason, "by": by, "for": lifetime, "limit": limit, "force": force });
                ("override", name, body)
            }
            Ask::Resume { name, signed } => ("resume", name, signed.body(by(&signed.by))),
            Ask::Reset { name, signed } => ("reset", name, signed.body(by(&signed.by))),
        };
        Ok((Method::POST, format!("/adaptive/{}/{act}", segment(name)?), Some(body)))
    }
}

// === impl MaybeSigned ===

impl MaybeSigned {
    fn body(&self, by: String) -> Value {
        json!({ "reason": self.reason.as_deref().unwrap_or_default(), "by": by })
    }
}

/// A service's name as part of a path. One with other characters can't be a service's.
fn segment(name: &str) -> Result<&str, Failure> {
    let is_kept = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-';
    if name.is_empty() || name.len() > 63 || !name.bytes().all(is_kept) {
        return Err(Failure::Wrong(format!("a service is called by 1 to 63 of a-z, 0-9, _ and -, not {name:?}")));
    }
    Ok(name)
}
