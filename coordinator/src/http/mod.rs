//! `--http ADDR`: dashboard, metrics and health, for browsers, scrapers and probes.
//!
//! | path | what | token |
//! |---|---|---|
//! | `/healthz`, `/readyz` | whether the process lives, and whether it may be called | none |
//! | `/metrics` | OpenMetrics text | reading |
//! | `/api/…` | what the dashboard shows, as JSON | reading; changing with POST |
//! | all else | the dashboard's page, script and style, which hold nothing of a sweep | none |
//!
//! | to read about | see |
//! |---|---|
//! | the page | `assets` |
//! | what it shows all the time | `pulse`, `events` |
//! | what it shows of one sweep | `sweep`, with `snapshot`, `plan`, `heat`, `runs` |
//! | connections, TLS, limits | `listen` |
//! | tokens and sessions | `access` |
//! | Host, Origin and the headers of every answer | `rules` |
//!
//! Nothing here decides or keeps anything: a call becomes a look at the
//! scheduler, a question to the store, or a request to the scheduler.

mod access;
mod assets;
mod change;
mod events;
mod health;
mod heat;
mod listen;
pub mod metrics;
mod plan;
mod pulse;
mod reply;
mod rules;
mod runs;
mod snapshot;
mod sweep;
mod workers;

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use common::protocol::SweepNumber;

use crate::cli::{Secret, Settings};
use crate::driver::Handle;
use crate::rpc::Stage;
use crate::store::AnyStore;
use crate::sweeps::Sweeps;
use access::Access;
pub use listen::Listener;
use rules::Hosts;

/// What there is to see, once this coordinator leads.
#[derive(Debug, Default)]
pub struct Window(OnceLock<View>);

/// The sweeps behind a window.
#[derive(Clone, Debug)]
pub struct View {
    /// All of the store.
    pub sweeps: Arc<Sweeps<AnyStore>>,
    /// The one that is carried out, if there is but one: others are not changed.
    pub only: Option<SweepNumber>,
}

impl Window {
    /// From now on there is something to see.
    pub fn open(&self, view: View) {
        // Once open it is open to the end of the process.
        let _ = self.0.set(view);
    }

    fn view(&self) -> Option<&View> {
        self.0.get()
    }

    fn handle(&self) -> Option<&Handle> {
        self.view().map(|view| view.sweeps.handle())
    }
}

/// Everything that a call may need.
#[derive(Debug)]
struct Shared {
    access: Access,
    hosts: Hosts,
    stage: Arc<Stage<AnyStore>>,
    window: Arc<Window>,
    pulse: pulse::Pulse,
    snapshots: snapshot::Snapshots,
    plans: plan::Plans,
    watchers: events::Watchers,
}

/// A server of what this module describes, and how people find it.
#[derive(Debug)]
pub struct Site {
    /// For people, with the link that lets them read if the token was drawn.
    pub words: String,
    router: Router,
}

/// The site for a listener.
pub fn site(
    settings: &Settings,
    listener: &Listener,
    stage: Arc<Stage<AnyStore>>,
    window: Arc<Window>,
    drawn: String,
) -> Site {
    let http = settings.http.as_ref();
    let token = http.and_then(|h| h.token.clone());
    let url = listener.url();
    let words = match &token {
        Some(_) => format!("dashboard: {url}/, with the token of the dashboard"),
        // What follows the # never leaves the browser, so it is in no log of a proxy.
        None => format!("dashboard: {url}/#token={drawn}"),
    };
    let read = token.unwrap_or(Secret(drawn));
    let shared = Arc::new(Shared {
        access: Access::new(&read, settings.admin_token.as_ref()),
        hosts: Hosts::new(http.map(|h| h.hosts.clone()).unwrap_or_default()),
        stage,
        window,
        pulse: pulse::Pulse::default(),
        snapshots: snapshot::Snapshots::default(),
        plans: plan::Plans::default(),
        watchers: events::Watchers::default(),
    });
    Site {
        words,
        router: router(shared),
    }
}

impl Site {
    /// Serves until it is dropped.
    pub async fn serve(self, listener: Listener) {
        listen::serve(listener, self.router).await;
    }
}

fn router(shared: Arc<Shared>) -> Router {
    let reading = Router::new()
        .route("/metrics", get(metrics::show))
        .route("/api/state", get(pulse::show))
        .route("/api/events", get(events::watch))
        .route("/api/workers", get(workers::list))
        .route("/api/sweeps/{number}", get(sweep::sweep))
        .route("/api/sweeps/{number}/cells", get(sweep::cells))
        .route("/api/sweeps/{number}/cells/{cell}", get(sweep::cell))
        .route(
            "/api/sweeps/{number}/cells/{cell}/runs/{task}",
            get(sweep::run),
        )
        .route("/api/sweeps/{number}/failures", get(sweep::failures))
        .route("/api/sweeps/{number}/{change}", post(change::change))
        .route("/api/{*nothing}", any(nothing))
        .route_layer(from_fn_with_state(Arc::clone(&shared), access::require));
    Router::new()
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/api/session", post(access::log_in).delete(access::log_out))
        .merge(reading)
        .route("/app.js", get(assets::script))
        .route("/draw.js", get(assets::draw))
        .route("/app.css", get(assets::style))
        .route("/icon.svg", get(assets::icon))
        .route("/", get(assets::page))
        .route("/workers", get(assets::page))
        .route("/sweeps/{*page}", get(assets::page))
        .fallback(nothing)
        .layer(from_fn_with_state(Arc::clone(&shared), rules::apply))
        .with_state(shared)
}

async fn nothing() -> Response {
    text(StatusCode::NOT_FOUND, "there is nothing here\n")
}

/// A short answer for people.
fn text(status: StatusCode, words: &str) -> Response {
    let kind = [("content-type", "text/plain; charset=utf-8")];
    (status, kind, words.to_owned()).into_response()
}
