//! The user service: it always knows everybody.

use axum::extract::Path;
use axum::{Json, Router};
use serde_json::{Value, json};

use super::traffic::{Traffic, route};

/// Its path.
pub const PATH: &str = "/users/{id}";

/// Its routes, counted in `traffic`.
pub fn router(traffic: &Traffic) -> Router {
    route(traffic, PATH, user)
}

async fn user(Path(id): Path<String>) -> Json<Value> {
    Json(json!({ "id": id, "name": format!("user {id}") }))
}
