//! A plant's knobs over HTTP, on a listener of their own: who may use the service may not break it.
//!
//! | call | answer |
//! |---|---|
//! | `GET /plant` | 200, the settings and what the plant does now |
//! | `PUT /plant` | 200 and the same, changed by the fields of the JSON body; 400 with `errors`, all of them, and nothing changed |

use std::time::Duration;

use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::inventory::{LivePlant, Reading};
use super::plant::Mistakes;

/// Longest body that is read, in bytes. Six numbers take two hundred.
const BODY_BYTES_MAX: usize = 16 << 10;

/// Time for a body to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// The route `/plant`.
pub fn router(plant: LivePlant) -> Router {
    Router::new().route("/plant", get(show).put(change)).with_state(plant)
}

async fn show(State(plant): State<LivePlant>) -> Json<Value> {
    Json(described(&plant))
}

async fn change(State(plant): State<LivePlant>, request: Request) -> Response {
    let changed = match read(request).await {
        Ok(fields) => plant.change(|settings| settings.changed(&fields)),
        Err(mistake) => Err(mistake),
    };
    match changed {
        Ok(_) => Json(described(&plant)).into_response(),
        Err(mistakes) => (StatusCode::BAD_REQUEST, Json(json!({ "errors": mistakes.sentences() }))).into_response(),
    }
}

async fn read(request: Request) -> Result<Value, Mistakes> {
    let body = timeout(BODY_TIMEOUT, to_bytes(request.into_body(), BODY_BYTES_MAX)).await;
    let Ok(Ok(body)) = body else {
        let seconds = BODY_TIMEOUT.as_secs();
        let sentence = format!("the body should arrive within {seconds} s and have at most {BODY_BYTES_MAX} bytes");
        return Err(Mistakes::one(sentence));
    };
    serde_json::from_slice(&body)
        .map_err(|error| Mistakes::one(format!("the body should be a JSON object of settings: {error}")))
}

fn described(plant: &LivePlant) -> Value {
    let Reading { settings, in_service, queued } = plant.reading();
    json!({
        "settings": settings.to_json(),
        "capacity": settings.capacity(),
        "in_service": in_service,
        "queued": queued,
    })
}
