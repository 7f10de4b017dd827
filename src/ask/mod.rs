//! `tidegate ask`: one rate limit call from a terminal, as Envoy would make it, and the answer in words.
//!
//! It speaks gRPC to any server of the rate limit service, v3. What is printed came over a socket: control characters are
//! left out.

mod address;
mod call;
mod question;
mod say;
mod tls;

use std::time::Duration;

use clap::Args;

use self::address::Address;
pub(crate) use self::call::CODES;
use self::tls::TlsOptions;
use crate::proto::envoy::service::ratelimit::v3::rate_limit_response::Code;
use crate::settings::{GrpcSettings, text};

/// What is asked of which server.
#[derive(Args, Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Entries of a descriptor, in order; an empty value is written key=
    #[arg(value_name = "KEY=VALUE", required_unless_present = "descriptors")]
    entries: Vec<String>,
    /// The domain of the rules
    #[arg(long)]
    domain: String,
    /// A further descriptor, its entries with commas between; may be given again
    #[arg(long = "descriptor", value_name = "KEY=VALUE,…")]
    descriptors: Vec<String>,
    /// What the call costs each descriptor
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    hits: u32,
    /// Only look: ask with no hits, so that nothing is charged
    #[arg(long, conflicts_with = "hits")]
    look: bool,
    /// The gRPC port to ask, host:port or unix:path [default: that of the settings, on this machine]
    #[arg(long, value_name = "ADDRESS")]
    address: Option<String>,
    #[command(flatten)]
    tls: TlsOptions,
    /// Longest wait for the answer, 1ms to 1h
    #[arg(long, value_name = "TIME", default_value = "5s")]
    timeout: String,
    /// Print the answer as JSON
    #[arg(long)]
    json: bool,
}

/// What the server decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The request may pass.
    Ok,
    /// The request is over a limit.
    OverLimit,
}

/// Why there is no verdict.
#[derive(Debug)]
pub enum Failure {
    /// What was asked for is wrong.
    Wrong(String),
    /// Nobody answered, or the answer is none.
    Unavailable(String),
    /// The answer cannot be written.
    Output(std::io::Error),
}

// === impl Ask ===

impl Ask {
    /// Whether the settings say which server to ask.
    #[must_use]
    pub fn needs_settings(&self) -> bool {
        self.address.is_none()
    }

    /// Asks, and hands the answer to `print`. `settings` are those of the server on this machine; without them and
    /// without an address of its own it asks localhost:8081.
    ///
    /// # Errors
    /// When there is no verdict, with what to say.
    pub async fn run(
        &self,
        settings: Option<&GrpcSettings>,
        mut print: impl FnMut(&str) -> std::io::Result<()>,
    ) -> Result<Verdict, Failure> {
        let mut mistakes = Vec::new();
        let address = match (&self.address, settings) {
            (Some(text), _) => Address::parse(text).map_err(|mistake| mistakes.push(mistake)).ok(),
            (None, Some(settings)) => Some(Address::of(settings)),
            (None, None) => Some(Address::local()),
        };
        let tls = match address.as_ref().map(|address| self.tls.of(address)) {
            Some(Ok(tls)) => tls,
            Some(Err(mistake)) => {
                mistakes.push(mistake);
                None
            }
            None => None,
        };
        let range = Duration::from_millis(1)..=Duration::from_secs(3_600);
        let patience = text::duration(&self.timeout, &range)
            .map_err(|right| mistakes.push(format!("--timeout {:?} must be {right}", self.timeout)))
            .ok();
        let hits = if self.look { 0 } else { self.hits };
        let request = question::request(&self.domain, &self.entries, &self.descriptors, hits, &mut mistakes);
        let (Some(address), Some(patience), true) = (address, patience, mistakes.is_empty()) else {
            return Err(Failure::Wrong(mistakes.join("\n")));
        };
        let called = call::call(&address, tls.as_ref(), &request, patience).await;
        let response = called.map_err(|error| Failure::Unavailable(error.to_string()))?;
        let told = if self.json { say::json(&response) } else { say::words(&request, &response) };
        print(&told).map_err(Failure::Output)?;
        match response.overall_code() {
            Code::Ok => Ok(Verdict::Ok),
            Code::OverLimit => Ok(Verdict::OverLimit),
            Code::Unknown => Err(Failure::Unavailable(format!("{address} answered neither OK nor OVER_LIMIT"))),
        }
    }
}
