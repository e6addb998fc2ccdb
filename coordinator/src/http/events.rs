//! `/api/events`: what is going on, as server-sent events, when it changes.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::reply::Refusal;
use super::{Shared, pulse};

/// Watchers at a time.
const WATCHERS: usize = 64;
/// Time between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// Looks after which a watcher hears a word in any case: a connection that is
/// gone is found out by writing to it.
const SILENCE: u32 = 15;
/// Looks after which the stream ends; a page that is still open comes back
/// with a token that is looked at anew.
const LIFE: u32 = 3_600;

/// Places for watchers.
#[derive(Debug)]
pub(super) struct Watchers(Arc<Semaphore>);

impl Default for Watchers {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(WATCHERS)))
    }
}

struct Watcher {
    shared: Arc<Shared>,
    last: Option<Arc<Value>>,
    silent: u32,
    looks: u32,
    _place: OwnedSemaphorePermit,
}

impl Watcher {
    /// The next words; `None` when it is time to end.
    async fn next(&mut self) -> Option<Bytes> {
        while self.looks < LIFE {
            if self.looks > 0 {
                tokio::time::sleep(LOOK).await;
            }
            self.looks += 1;
            // A store that cannot be read at the moment is no reason to end.
            if let Ok(state) = pulse::state(&self.shared).await
                && self.last.as_ref() != Some(&state)
            {
                let text = format!("event: state\ndata: {state}\n\n");
                self.last = Some(state);
                self.silent = 0;
                return Some(text.into());
            }
            self.silent += 1;
            if self.silent >= SILENCE {
                self.silent = 0;
                return Some(Bytes::from_static(b": still here\n\n"));
            }
        }
        None
    }
}

pub(super) async fn watch(State(shared): State<Arc<Shared>>) -> Result<Response, Refusal> {
    let place = Arc::clone(&shared.watchers.0)
        .try_acquire_owned()
        .map_err(|_| Refusal::unavailable("too many pages watch already"))?;
    let watcher = Watcher {
        shared,
        last: None,
        silent: 0,
        looks: 0,
        _place: place,
    };
    let words = futures_util::stream::unfold(watcher, |mut watcher| async move {
        let words = watcher.next().await?;
        Some((Ok::<_, Infallible>(words), watcher))
    });
    let headers = [
        ("content-type", "text/event-stream"),
        ("x-accel-buffering", "no"),
    ];
    Ok((headers, Body::from_stream(words)).into_response())
}
