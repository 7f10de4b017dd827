//! The order service: it asks for the user, then for the item, and has an order only when both are there.
//!
//! One after the other, so that no inventory is asked for a user who can't be found. What fails behind it is a 504 with
//! the failure as JSON, whatever the failed service said: the client of a shop can't do anything about the difference.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use serde_json::{Value, json};

use super::traffic::{Traffic, route};
use super::upstream::{Failure, Upstream};

/// Its path.
pub const PATH: &str = "/orders/create/{user}/{item}";

/// Whom it asks.
#[derive(Clone, Debug)]
pub struct Order {
    /// The user service.
    pub user: Upstream,
    /// The inventory service.
    pub inventory: Upstream,
}

// === impl Order ===

impl Order {
    /// Its routes, counted in `traffic`.
    pub fn router(self, traffic: &Traffic) -> Router {
        route(traffic, PATH, create).with_state(self)
    }

    async fn create(&self, user: &str, item: &str, headers: &HeaderMap) -> Result<Value, Failure> {
        let user = self.user.get(&format!("/users/{user}"), headers).await?;
        let item = self.inventory.get(&format!("/inventory/{item}"), headers).await?;
        Ok(json!({ "user": user, "item": item }))
    }
}

async fn create(State(order): State<Order>, uri: Uri, headers: HeaderMap) -> Response {
    // As they stand in the path, so that they are encoded for the next one. The route has two segments at the end.
    let mut segments = uri.path().rsplit('/');
    let item = segments.next().unwrap_or_default();
    let user = segments.next().unwrap_or_default();
    match order.create(user, item, &headers).await {
        Ok(created) => Json(json!({ "order": created })).into_response(),
        Err(failure) => (StatusCode::GATEWAY_TIMEOUT, Json(json!({ "error": failure.to_json() }))).into_response(),
    }
}
