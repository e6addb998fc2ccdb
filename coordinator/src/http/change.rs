//! What an administrator may do from a page: pause, resume, cancel, try again.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use common::protocol::SweepNumber;
use serde_json::json;

use super::Shared;
use super::access::Scope;
use super::reply::{Refusal, json};
use crate::core::Control;

/// `POST /api/sweeps/N/pause`, `resume`, `cancel`, `retry`.
pub(super) async fn change(
    State(shared): State<Arc<Shared>>,
    Extension(scope): Extension<Scope>,
    Path((number, what)): Path<(u32, String)>,
) -> Result<Response, Refusal> {
    if scope < Scope::Change {
        let words = "this needs the administration token";
        return Err(Refusal(StatusCode::FORBIDDEN, words.to_owned()));
    }
    let view = shared.view()?;
    let number = SweepNumber(number);
    if view.only.is_some_and(|only| only != number) {
        let words = "this coordinator carries out one grid alone";
        return Err(Refusal(StatusCode::CONFLICT, words.to_owned()));
    }
    let control = match what.as_str() {
        "pause" => Control::Pause(number),
        "resume" => Control::Resume(number),
        "cancel" => Control::Cancel(number),
        "retry" => Control::Retry(number, None),
        _ => {
            return Err(Refusal::nothing(format!(
                "`{what}` is nothing that can be done"
            )));
        }
    };
    let found = view
        .sweeps
        .one(number)
        .await
        .map_err(Refusal::unavailable)?;
    if found.is_none() {
        return Err(Refusal::nothing(format!("there is no sweep {number}")));
    }
    tracing::info!(?control, "a sweep is changed from the dashboard");
    let done = view.sweeps.change(control).await;
    let done = done.map_err(|message| Refusal(StatusCode::CONFLICT, message))?;
    json(&json!({"tasks": done.tasks}))
}
