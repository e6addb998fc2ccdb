//! For probes: whether the process lives, and whether it may be called.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use super::{Shared, text};
use crate::rpc::Role;

/// The process answers. Depends on nothing: a restart would heal neither a
/// full disk nor a database that is away.
pub(super) async fn alive() -> Response {
    text(StatusCode::OK, "alive\n")
}

/// Calls are answered: this coordinator leads, or stands by and names the
/// leader. Never waits for workers, who need it to register.
pub(super) async fn ready(State(shared): State<Arc<Shared>>) -> Response {
    match shared.stage.role() {
        Role::Leading => text(StatusCode::OK, "ready: it leads\n"),
        Role::StandingBy => text(StatusCode::OK, "ready: it stands by\n"),
        Role::Starting => text(
            StatusCode::SERVICE_UNAVAILABLE,
            "not ready: it opens its store\n",
        ),
    }
}
