//! The page, its script and its style: in the program, so that they work
//! without a network. They hold nothing of a sweep and need no token.

use std::sync::LazyLock;

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use common::ids::to_hex;
use sha2::{Digest, Sha256};

/// Changes with the files, so that a page of an older program is not kept.
static TAG: LazyLock<String> = LazyLock::new(|| {
    let mut hash = Sha256::new();
    for text in [PAGE, SCRIPT, DRAW, STYLE, ICON] {
        hash.update(text);
    }
    format!("\"{}\"", &to_hex(&hash.finalize())[..16])
});

const PAGE: &str = include_str!("assets/index.html");
const SCRIPT: &str = include_str!("assets/app.js");
const DRAW: &str = include_str!("assets/draw.js");
const STYLE: &str = include_str!("assets/app.css");
const ICON: &str = include_str!("assets/icon.svg");

fn asset(headers: &HeaderMap, kind: &'static str, text: &'static str) -> Response {
    let seen = headers.get(header::IF_NONE_MATCH);
    let known = seen.is_some_and(|tag| tag.as_bytes() == TAG.as_bytes());
    let kept = [
        (header::ETAG, TAG.as_str()),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    if known {
        return (StatusCode::NOT_MODIFIED, kept).into_response();
    }
    (kept, [(header::CONTENT_TYPE, kind)], text).into_response()
}

pub(super) async fn page(headers: HeaderMap) -> Response {
    asset(&headers, "text/html; charset=utf-8", PAGE)
}

pub(super) async fn script(headers: HeaderMap) -> Response {
    asset(&headers, "text/javascript; charset=utf-8", SCRIPT)
}

pub(super) async fn draw(headers: HeaderMap) -> Response {
    asset(&headers, "text/javascript; charset=utf-8", DRAW)
}

pub(super) async fn style(headers: HeaderMap) -> Response {
    asset(&headers, "text/css; charset=utf-8", STYLE)
}

pub(super) async fn icon(headers: HeaderMap) -> Response {
    asset(&headers, "image/svg+xml", ICON)
}
