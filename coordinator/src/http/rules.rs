//! What holds for every call: under which names the server is called, from
//! which pages, how large a call may be and how long it may take.
//!
//! *Host*: a page of a stranger whose name suddenly resolves to this machine
//! (DNS rebinding) calls under that name and is turned away. Addresses cannot
//! be rebound, so every address is fine.
//!
//! *Origin*: a browser names the page that a call comes from; it must be ours.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;

use super::{Shared, text};
use crate::run::host_name;

/// Bytes of a call's body. None needs any.
const BODY: u64 = 16 << 10;
/// Time for an answer to begin.
const TIME: Duration = Duration::from_secs(60);

/// Names under which the server may be called.
#[derive(Debug)]
pub(super) struct Hosts(Vec<String>);

impl Hosts {
    /// Beside `localhost`, the host's name and all addresses.
    pub(super) fn new(mut more: Vec<String>) -> Self {
        let own = host_name().to_ascii_lowercase();
        if let Some((short, _)) = own.split_once('.') {
            more.push(short.to_owned());
        }
        more.push(own);
        more.push("localhost".to_owned());
        Self(more)
    }

    fn knows(&self, host: &str) -> bool {
        let name = name_of(host).to_ascii_lowercase();
        name.parse::<IpAddr>().is_ok() || self.0.contains(&name)
    }
}

/// A host without its port and brackets.
fn name_of(host: &str) -> &str {
    if let Some(rest) = host.strip_prefix('[') {
        return rest.split(']').next().unwrap_or_default();
    }
    host.rsplit_once(':').map_or(host, |(name, _)| name)
}

/// Whether an Origin is a page of this server, which is called `host`.
fn is_own(origin: &str, host: &str) -> bool {
    ["http://", "https://"].iter().any(|scheme| {
        origin
            .strip_prefix(scheme)
            .is_some_and(|o| o.eq_ignore_ascii_case(host))
    })
}

/// What is wrong with a call, before anything looks at it.
fn mistake(hosts: &Hosts, headers: &HeaderMap) -> Option<(StatusCode, &'static str)> {
    let value = |name: HeaderName| headers.get(name).map(|v| v.to_str().unwrap_or_default());
    let host = value(header::HOST).unwrap_or_default();
    if !hosts.knows(host) {
        let words = "this server does not go by that name; --http-host adds names\n";
        return Some((StatusCode::MISDIRECTED_REQUEST, words));
    }
    if let Some(origin) = value(header::ORIGIN)
        && !is_own(origin, host)
    {
        return Some((StatusCode::FORBIDDEN, "pages of other sites may not call\n"));
    }
    if headers.get_all(header::HOST).iter().count() > 1 {
        return Some((StatusCode::BAD_REQUEST, "a call names one host\n"));
    }
    let length = value(header::CONTENT_LENGTH).map_or(Ok(0), str::parse::<u64>);
    if headers.contains_key(header::TRANSFER_ENCODING) || !length.is_ok_and(|l| l <= BODY) {
        return Some((StatusCode::PAYLOAD_TOO_LARGE, "no call needs such a body\n"));
    }
    None
}

/// The rules around every answer.
pub(super) async fn apply(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    let mut response = match mistake(&shared.hosts, request.headers()) {
        Some((status, words)) => {
            let path = request.uri().path();
            tracing::warn!(
                path,
                status = status.as_u16(),
                "a call was refused: {}",
                words.trim_end()
            );
            let mut response = text(status, words);
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
            response
        }
        None => match tokio::time::timeout(TIME, next.run(request)).await {
            Ok(response) => response,
            Err(_) => text(StatusCode::GATEWAY_TIMEOUT, "the answer takes too long\n"),
        },
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
             img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // What a page may keep says so itself.
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(headers: &[(HeaderName, &str)]) -> Option<StatusCode> {
        let hosts = Hosts(vec![
            "localhost".to_owned(),
            "sweeps.example.org".to_owned(),
        ]);
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name, value.parse().unwrap());
        }
        mistake(&hosts, &map).map(|(status, _)| status)
    }

    #[test]
    fn addresses_and_known_names_are_ours() {
        for host in [
            "127.0.0.1:8080",
            "10.0.0.7",
            "[::1]:8080",
            "localhost:8080",
            "LocalHost",
            "sweeps.example.org",
        ] {
            assert_eq!(judged(&[(header::HOST, host)]), None, "{host}");
        }
    }

    #[test]
    fn names_that_resolve_here_by_surprise_are_not() {
        for host in [
            "evil.example",
            "localhost.evil.example:80",
            "",
            "127.0.0.1.evil.example",
        ] {
            let status = Some(StatusCode::MISDIRECTED_REQUEST);
            assert_eq!(judged(&[(header::HOST, host)]), status, "{host}");
        }
        assert_eq!(judged(&[]), Some(StatusCode::MISDIRECTED_REQUEST));
    }

    #[test]
    fn only_own_pages_call() {
        let from =
            |origin: &str| judged(&[(header::HOST, "localhost:8080"), (header::ORIGIN, origin)]);
        assert_eq!(from("http://localhost:8080"), None);
        // A proxy in front may speak TLS.
        assert_eq!(from("https://localhost:8080"), None);
        for other in [
            "http://localhost:8081",
            "http://evil.example",
            "null",
            "localhost:8080",
        ] {
            assert_eq!(from(other), Some(StatusCode::FORBIDDEN), "{other}");
        }
    }

    #[test]
    fn large_and_endless_bodies_are_refused() {
        let with = |name, value| judged(&[(header::HOST, "localhost"), (name, value)]);
        assert_eq!(with(header::CONTENT_LENGTH, "100"), None);
        let too_large = Some(StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(with(header::CONTENT_LENGTH, "100000000"), too_large);
        assert_eq!(with(header::CONTENT_LENGTH, "many"), too_large);
        assert_eq!(with(header::TRANSFER_ENCODING, "chunked"), too_large);
    }
}
