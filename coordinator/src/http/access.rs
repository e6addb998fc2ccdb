//! Who may read and who may change: tokens, and the sessions they are exchanged for.
//!
//! A session is a random string that a page keeps in its origin's storage and
//! shows as `Authorization: Bearer`, as scrapers show a token. There is no
//! cookie on purpose. Cookies belong to a host, whatever the port; on a login
//! node the other ports of the host are other people's. And what a browser
//! does not send by itself cannot be misused across sites.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::ConstantTimeEq;

use super::listen::Trust;
use super::{Shared, text};
use crate::cli::Secret;
use crate::guard::hash;

/// How long a session is good.
const SESSION: Duration = Duration::from_secs(12 * 60 * 60);
/// Sessions at a time; the oldest makes room.
const SESSIONS: usize = 256;
/// What a wrong token costs its sender.
const PAUSE: Duration = Duration::from_millis(250);

/// What a token is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Scope {
    /// Everything that there is to see.
    Read,
    /// Pausing, cancelling, trying again, too.
    Change,
}

/// Tokens and sessions, all as hashes.
pub(super) struct Access {
    read: [u8; 32],
    change: Option<[u8; 32]>,
    sessions: Mutex<HashMap<[u8; 32], Session>>,
}

#[derive(Clone, Copy)]
struct Session {
    scope: Scope,
    until: Instant,
}

impl std::fmt::Debug for Access {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Access(…)")
    }
}

impl Access {
    pub(super) fn new(read: &Secret, change: Option<&Secret>) -> Self {
        Self {
            read: hash(&read.0),
            change: change.map(|token| hash(&token.0)),
            sessions: Mutex::new(HashMap::new()),
        }
    }

    /// What a token or a session is good for, if for anything.
    fn scope(&self, shown: &str, now: Instant) -> Option<Scope> {
        let shown = hash(shown);
        if let Some(change) = &self.change
            && bool::from(change.ct_eq(&shown))
        {
            return Some(Scope::Change);
        }
        if bool::from(self.read.ct_eq(&shown)) {
            return Some(Scope::Read);
        }
        // Found by the hash of a secret, so the time it takes tells nothing of it.
        let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let session = sessions.get(&shown)?;
        (session.until > now).then_some(session.scope)
    }

    /// Begins a session under a name that nobody can guess.
    fn begin(&self, name: &str, scope: Scope, now: Instant) {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|_, session| session.until > now);
        if sessions.len() >= SESSIONS {
            let oldest = sessions.iter().min_by_key(|(_, s)| s.until);
            if let Some(oldest) = oldest.map(|(name, _)| *name) {
                sessions.remove(&oldest);
            }
        }
        let until = now + SESSION;
        sessions.insert(hash(name), Session { scope, until });
    }

    fn end(&self, name: &str) {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.remove(&hash(name));
    }
}

fn bearer(headers: &HeaderMap) -> &str {
    headers
        .get("authorization")
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "))
        .unwrap_or_default()
}

/// Lets a call through that shows a valid token; others do not see what lies
/// behind, nor whether it exists.
pub(super) async fn require(
    State(shared): State<Arc<Shared>>,
    mut request: Request,
    next: Next,
) -> Response {
    match shared
        .access
        .scope(bearer(request.headers()), Instant::now())
    {
        Some(scope) => {
            if let Some(trust) = request.extensions().get::<Trust>() {
                trust.gain();
            }
            request.extensions_mut().insert(scope);
            next.run(request).await
        }
        None => refuse().await,
    }
}

async fn refuse() -> Response {
    tokio::time::sleep(PAUSE).await;
    let words = "a valid token is needed, as `Authorization: Bearer …`\n";
    let mut response = text(StatusCode::UNAUTHORIZED, words);
    let headers = response.headers_mut();
    headers.insert(
        "www-authenticate",
        axum::http::HeaderValue::from_static("Bearer"),
    );
    // The next guess is another connection.
    headers.insert("connection", axum::http::HeaderValue::from_static("close"));
    response
}

/// `POST /api/session`: a session for a token.
pub(super) async fn log_in(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    let now = Instant::now();
    let Some(scope) = shared.access.scope(bearer(&headers), now) else {
        return refuse().await;
    };
    let name = match crate::ground::random_token() {
        Ok(name) => name,
        Err(error) => return text(StatusCode::SERVICE_UNAVAILABLE, &format!("{error}\n")),
    };
    shared.access.begin(&name, scope, now);
    let json = serde_json::json!({"session": name, "may_change": scope == Scope::Change});
    ([("content-type", "application/json")], json.to_string()).into_response()
}

/// `DELETE /api/session`: the end of a session.
pub(super) async fn log_out(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    shared.access.end(bearer(&headers));
    StatusCode::NO_CONTENT.into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access() -> Access {
        let secret = |text: &str| Secret(text.to_owned());
        Access::new(
            &secret("a token for reading"),
            Some(&secret("a token for changing")),
        )
    }

    #[test]
    fn each_token_is_good_for_what_it_is_for() {
        let (access, now) = (access(), Instant::now());
        assert_eq!(access.scope("a token for reading", now), Some(Scope::Read));
        assert_eq!(
            access.scope("a token for changing", now),
            Some(Scope::Change)
        );
        for wrong in ["", "a token for readin", "a token for reading "] {
            assert_eq!(access.scope(wrong, now), None, "{wrong}");
        }
        let closed = Access::new(&Secret("a token for reading".to_owned()), None);
        assert_eq!(closed.scope("", now), None);
    }

    #[test]
    fn a_session_is_good_for_what_its_token_was_and_ends() {
        let (access, now) = (access(), Instant::now());
        access.begin("one", Scope::Read, now);
        access.begin("other", Scope::Change, now);
        assert_eq!(access.scope("one", now), Some(Scope::Read));
        assert_eq!(access.scope("other", now), Some(Scope::Change));
        assert_eq!(access.scope("one", now + SESSION), None);
        access.end("one");
        assert_eq!(access.scope("one", now), None);
    }

    #[test]
    fn the_oldest_session_makes_room() {
        let (access, now) = (access(), Instant::now());
        for n in 0..=SESSIONS as u64 {
            access.begin(&n.to_string(), Scope::Read, now + Duration::from_secs(n));
        }
        let later = now + Duration::from_secs(SESSIONS as u64);
        assert_eq!(access.scope("0", later), None);
        assert_eq!(access.scope("1", later), Some(Scope::Read));
        assert_eq!(access.sessions.lock().unwrap().len(), SESSIONS);
    }
}
