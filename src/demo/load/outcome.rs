//! What became of a call, from what the client can see of it.
//!
//! The order service answers 504 whatever failed behind it, with the failure as JSON; what the proxy itself answers is
//! known by its status and its words.

use http::StatusCode;
use serde::Serialize;
use serde_json::Value;

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// An order was made.
    Good,
    /// A limit refused it (429).
    Refused,
    /// The inventory had no place for it (503 of its own).
    Overloaded,
    /// The proxy had no host that it would use (`no healthy upstream`).
    Ejected,
    /// The proxy had no place for it: its circuit breakers are open, or its own concurrency limit is reached.
    Shed,
    /// Somebody waited too long.
    TimedOut,
    /// Everything else: connections that broke, other answers.
    Failed,
    /// It never went out: too many calls were under way.
    Unsent,
}

// === impl Outcome ===

impl Outcome {
    /// All of them.
    pub const ALL: [Outcome; 8] = [
        Outcome::Good,
        Outcome::Refused,
        Outcome::Overloaded,
        Outcome::Ejected,
        Outcome::Shed,
        Outcome::TimedOut,
        Outcome::Failed,
        Outcome::Unsent,
    ];

    /// Its name, for people.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Outcome::Good => "good",
            Outcome::Refused => "refused by a limit",
            Outcome::Overloaded => "inventory overloaded",
            Outcome::Ejected => "no healthy upstream",
            Outcome::Shed => "shed by the proxy",
            Outcome::TimedOut => "timed out",
            Outcome::Failed => "other failures",
            Outcome::Unsent => "not sent",
        }
    }

    /// What an answer says.
    #[must_use]
    pub fn of(status: StatusCode, body: &[u8]) -> Outcome {
        if status != StatusCode::GATEWAY_TIMEOUT {
            return of_failure(Some(status.as_u16()), &String::from_utf8_lossy(body));
        }
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let Some(failure) = body.get("error") else { return Outcome::TimedOut };
        let status = failure["status"].as_u64().and_then(|status| u16::try_from(status).ok());
        of_failure(status, failure["reason"].as_str().unwrap_or_default())
    }
}

/// What a status and a text say; no status means that there was no answer.
fn of_failure(status: Option<u16>, reason: &str) -> Outcome {
    match status {
        Some(200) => Outcome::Good,
        Some(429) => Outcome::Refused,
        Some(503) if reason.contains("no healthy upstream") => Outcome::Ejected,
        Some(503) if reason.contains("overloaded") => Outcome::Overloaded,
        Some(503) if reason.contains("overflow") || reason.contains("concurrency limit") => Outcome::Shed,
        Some(504) => Outcome::TimedOut,
        None if reason.contains("no answer within") => Outcome::TimedOut,
        Some(_) | None => Outcome::Failed,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_failed_behind_the_order_service_is_told_apart() {
        let order = |status: Value, reason: &str| {
            let body = json!({ "error": { "service": "inventory", "status": status, "reason": reason } });
            Outcome::of(StatusCode::GATEWAY_TIMEOUT, body.to_string().as_bytes())
        };
        assert_eq!(order(json!(429), ""), Outcome::Refused);
        assert_eq!(order(json!(503), r#"{"error":"overloaded"}"#), Outcome::Overloaded);
        assert_eq!(order(json!(503), "no healthy upstream"), Outcome::Ejected);
        assert_eq!(order(json!(503), "upstream connect error or disconnect/reset before headers"), Outcome::Failed);
        assert_eq!(order(json!(503), "disconnect/reset before headers. reset reason: overflow"), Outcome::Shed);
        assert_eq!(order(json!(504), "upstream request timeout"), Outcome::TimedOut);
        assert_eq!(order(json!(null), "no answer within 2 s"), Outcome::TimedOut);
        assert_eq!(order(json!(null), "connection refused"), Outcome::Failed);
        assert_eq!(order(json!(500), "the service broke"), Outcome::Failed);
    }

    #[test]
    fn what_the_proxy_answers_itself_is_told_apart() {
        let of = |status: u16, body: &str| Outcome::of(StatusCode::from_u16(status).unwrap(), body.as_bytes());
        assert_eq!(of(200, "{}"), Outcome::Good);
        assert_eq!(of(429, ""), Outcome::Refused);
        assert_eq!(of(503, "no healthy upstream"), Outcome::Ejected);
        assert_eq!(of(503, "reached concurrency limit"), Outcome::Shed);
        assert_eq!(of(504, "upstream request timeout"), Outcome::TimedOut);
        assert_eq!(of(404, ""), Outcome::Failed);
    }
}
