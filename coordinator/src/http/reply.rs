//! Answers in JSON.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::{Shared, View};

/// An answer that is no success, with words for people.
#[derive(Debug)]
pub(super) struct Refusal(pub(super) StatusCode, pub(super) String);

impl Refusal {
    pub(super) fn nothing(what: impl Into<String>) -> Self {
        Self(StatusCode::NOT_FOUND, what.into())
    }

    /// The store or the scheduler does not answer.
    pub(super) fn unavailable(why: impl std::fmt::Display) -> Self {
        Self(StatusCode::SERVICE_UNAVAILABLE, why.to_string())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = serde_json::json!({"error": self.1}).to_string();
        (self.0, [("content-type", "application/json")], body).into_response()
    }
}

/// A value as JSON.
pub(super) fn json<T: Serialize>(value: &T) -> Result<Response, Refusal> {
    let body = serde_json::to_string(value)
        .map_err(|e| Refusal(StatusCode::INTERNAL_SERVER_ERROR, e.to_string()))?;
    Ok(([("content-type", "application/json")], body).into_response())
}

impl Shared {
    /// The sweeps, once this coordinator leads.
    pub(super) fn view(&self) -> Result<&View, Refusal> {
        let none = "this coordinator does not lead: it stands by, or is starting";
        self.window.view().ok_or_else(|| Refusal::unavailable(none))
    }
}
