//! `POST /adaptive/{service}/{act}`: the operator's hand.
//!
//! | act | takes | does |
//! |---|---|---|
//! | `freeze` | `reason`, `for`, `by` | the limit stays as it is |
//! | `override` | `reason`, `limit`, `for`, `force`, `by` | the limit is this; outside the bounds with `force` |
//! | `resume` | `reason`, `by` | takes the hand off |
//! | `reset` | `reason`, `by` | forgets the state: the limit starts anew |
//!
//! `limit` and `for` are written as in rule files and settings: `90/s`, `1h30m`. Everything that is wrong is said at once.

use std::time::Duration;

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;

use super::{AdminState, json as views, refuse};
use crate::control::command::CommandError;
use crate::control::hand::{Asked, HandError, LIFETIME_MAX, LIFETIME_MIN, Order, Signature};
use crate::control::law::Hand;
use crate::control::record::RecordError;
use crate::rate::Rate;
use crate::rules::service::{RateBounds, ServiceMode};
use crate::settings::text;
use crate::web::body::{BodyError, read_body};

/// What a body may cost.
#[derive(Clone, Copy, Debug)]
pub(super) struct BodyBounds {
    pub(super) bytes_max: usize,
    pub(super) timeout: Duration,
}

/// The body as it is written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Written {
    reason: String,
    by: String,
    r#for: Option<String>,
    limit: Option<serde_json::Value>,
    force: Option<bool>,
}

/// What is wished, checked.
#[derive(Debug, PartialEq)]
enum Wish {
    Lay(Order),
    Lift(Signature),
    Reset(Signature),
}

pub(super) async fn act(
    State((state, bounds)): State<(AdminState, BodyBounds)>,
    Path((name, act)): Path<(String, String)>,
    request: Request,
) -> Response {
    let body = match read_body(request.into_body(), bounds.bytes_max, bounds.timeout).await {
        Ok(body) => body,
        Err(error) => return refuse(status_of_body(&error), [error.to_string()]),
    };
    let view = state.view();
    let service = match state.find(&view, &name) {
        Ok(service) => service,
        Err(refusal) => return *refusal,
    };
    if !ACTS.contains(&act.as_str()) {
        return refuse(StatusCode::NOT_FOUND, [format!("the acts are {}", ACTS.join(", "))]);
    }
    let wish = written(&body).map_err(|error| vec![format!("the body can't be read: {error}")]);
    let wish = match wish.and_then(|written| read(&act, &written, &service.service.bounds)) {
        Ok(wish) => wish,
        Err(errors) => return refuse(StatusCode::BAD_REQUEST, errors),
    };
    let named = std::sync::Arc::clone(&service.service.name);
    // Whoever lays a hand on it at night must not believe that the service is protected now.
    let but = match service.service.mode {
        ServiceMode::Enforce => "",
        ServiceMode::Observe => "; but nothing is limited by it: the service is in mode observe",
        ServiceMode::Off => {
            "; but nothing comes of it: the service is in mode off, and its limit stands at the upper bound"
        }
    };
    let done = match wish {
        Wish::Lay(order) => state.commands.lay(named, order).await.map(|hand| {
            let bounds = &service.service.bounds;
            let sentence = views::hand_sentence(&hand, bounds, hand.since);
            json!({ "sentence": format!("{name}: {sentence}{but}"), "hand": views::hand(&hand, bounds, hand.since) })
        }),
        Wish::Lift(by) => state.commands.lift(named, by).await.map(|was_on| {
            let what = if was_on { "the hand is off, the law goes on" } else { "there was no hand on it" };
            json!({ "sentence": format!("{name}: {what}"), "lifted": was_on })
        }),
        Wish::Reset(by) => state.commands.reset(named, by).await.map(|had_state| {
            let what = if had_state { "its state is forgotten" } else { "it had no state" };
            json!({ "sentence": format!("{name}: {what}; the limit starts anew"), "reset": had_state })
        }),
    };
    match done {
        Ok(done) => Json(done).into_response(),
        Err(error) => refuse(status_of(&error), [error.to_string()]),
    }
}

const ACTS: [&str; 4] = ["freeze", "override", "resume", "reset"];

/// The fields of a body; an empty one has none. It must be an object: a struct may be read from a list as well.
fn written(body: &[u8]) -> Result<Written, serde_json::Error> {
    if body.is_empty() {
        return Ok(Written::default());
    }
    let fields: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(body)?;
    serde_json::from_value(fields.into())
}

/// What a body means for an act, or everything that is wrong with it.
fn read(act: &str, written: &Written, bounds: &RateBounds) -> Result<Wish, Vec<String>> {
    let mut errors = Vec::new();
    let unwanted = [
        ("limit", written.limit.is_some() && act != "override"),
        ("force", written.force.is_some() && act != "override"),
        ("for", written.r#for.is_some() && !["freeze", "override"].contains(&act)),
    ];
    errors.extend(unwanted.iter().filter(|(_, is)| *is).map(|(field, _)| format!("{act} takes no {field:?}")));
    if ["resume", "reset"].contains(&act) {
        // Whoever takes a hand off need not say why.
        let reason = if written.reason.trim().is_empty() { "no reason given" } else { &written.reason };
        let signature = unless_wrong(Signature::try_new(reason, &written.by), errors)?;
        return Ok(if act == "resume" { Wish::Lift(signature) } else { Wish::Reset(signature) });
    }
    let lifetime = written.r#for.as_deref().map(|length| text::duration(length, &(LIFETIME_MIN..=LIFETIME_MAX)));
    let lifetime = lifetime.transpose().unwrap_or_else(|right| {
        errors.push(format!("\"for\" must be {right}"));
        None
    });
    let hand = match (act, &written.limit) {
        ("override", None) => {
            errors.push("\"limit\" is missing: a rate such as 90/s".to_owned());
            Hand::Freeze
        }
        ("override", Some(limit)) => {
            let limit = limit.as_str().map_or_else(|| limit.to_string(), str::to_owned);
            limit.parse::<Rate>().map(Hand::Override).unwrap_or_else(|right| {
                errors.push(format!("\"limit\" must be {} not {limit:?}", right));
                Hand::Freeze
            })
        }
        _ => Hand::Freeze,
    };
    let force = written.force.unwrap_or_default();
    let asked = Asked { hand, reason: written.reason.clone(), by: written.by.clone(), lifetime, force };
    unless_wrong(Order::try_new(asked, bounds), errors).map(Wish::Lay)
}

/// What was made, unless something is wrong with it or was wrong before.
fn unless_wrong<T>(made: Result<T, Vec<HandError>>, mut errors: Vec<String>) -> Result<T, Vec<String>> {
    match made {
        Ok(made) if errors.is_empty() => Ok(made),
        Ok(_) => Err(errors),
        Err(wrong) => {
            errors.extend(wrong.iter().map(ToString::to_string));
            Err(errors)
        }
    }
}

fn status_of_body(error: &BodyError) -> StatusCode {
    match error {
        BodyError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        BodyError::TooSlow { .. } => StatusCode::REQUEST_TIMEOUT,
        BodyError::Broken(_) => StatusCode::BAD_REQUEST,
    }
}

fn status_of(error: &CommandError) -> StatusCode {
    match error {
        CommandError::Busy | CommandError::Gone => StatusCode::SERVICE_UNAVAILABLE,
        CommandError::TimedOut => StatusCode::GATEWAY_TIMEOUT,
        CommandError::Record(RecordError::Unreachable { .. } | RecordError::TimedOut { .. }) => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        CommandError::Record(RecordError::Refused { .. } | RecordError::TooLong { .. }) => {
            StatusCode::INTERNAL_SERVER_ERROR
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(act: &str, body: &str) -> Result<Wish, Vec<String>> {
        let written: Written = serde_json::from_str(body).unwrap();
        let bounds = RateBounds::new(Rate::from_per_second(10.0), Rate::from_per_second(500.0)).unwrap();
        read(act, &written, &bounds)
    }

    #[test]
    fn each_act_takes_what_it_needs() {
        assert!(matches!(said("freeze", r#"{"reason":"a","for":"10m","by":"ada"}"#), Ok(Wish::Lay(_))));
        assert!(matches!(said("override", r#"{"reason":"a","limit":"90/s"}"#), Ok(Wish::Lay(_))));
        assert!(matches!(said("override", r#"{"reason":"a","limit":"900/s","force":true}"#), Ok(Wish::Lay(_))));
        assert!(matches!(said("resume", "{}"), Ok(Wish::Lift(_))));
        assert!(matches!(said("reset", r#"{"reason":"a"}"#), Ok(Wish::Reset(_))));
    }

    #[test]
    fn everything_that_is_wrong_with_a_wish_is_said_at_once() {
        let errors = said("override", r#"{"for":"2d","limit":90,"by":"a\nb"}"#).unwrap_err();
        assert_eq!(errors.len(), 4, "{errors:?}");
        assert!(
            errors[1].contains("must be a rate above zero, such as 500/s, 30/m or 0.5/s, not \"90\""),
            "{errors:?}"
        );
        let outside = said("override", r#"{"reason":"a","limit":"900/s"}"#).unwrap_err();
        assert_eq!(outside, ["900/s is outside the bounds 10/s to 500/s; force sets it all the same"]);
        let unwanted = said("reset", r#"{"limit":"1/s","force":false,"for":"1h"}"#).unwrap_err();
        assert_eq!(unwanted, ["reset takes no \"limit\"", "reset takes no \"force\"", "reset takes no \"for\""]);
    }
}
