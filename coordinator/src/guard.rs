//! Who may call: every call shows a token before a byte of it is read.

use std::sync::Arc;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tonic::service::Interceptor;
use tonic::{Request, Status};

use crate::door::{Arrival, Door};

/// The tokens that let workers in. Kept as hashes: what is compared has one
/// length, and a look at the memory of the guard shows no token.
#[derive(Clone)]
pub struct Guard {
    local: [u8; 32],
    network: Option<[u8; 32]>,
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Guard(…)")
    }
}

pub(crate) fn hash(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

impl Guard {
    /// The token of local workers, and the one of all others if there may be
    /// any. Each is good at its own door only: a local worker shows no
    /// certificate, so nobody else may come in that way.
    pub fn new(local: &str, network: Option<&str>) -> Self {
        Self {
            local: hash(local),
            network: network.map(hash),
        }
    }

    fn knows(&self, door: Door, token: &str) -> bool {
        let given = hash(token);
        match door {
            Door::Local => bool::from(self.local.ct_eq(&given)),
            Door::Network => self
                .network
                .is_some_and(|known| bool::from(known.ct_eq(&given))),
        }
    }
}

impl Interceptor for Guard {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let token = bearer(&request);
        let arrival = request.extensions().get::<Arc<Arrival>>();
        let door = arrival.map_or(Door::Network, |a| a.door);
        if self.knows(door, token) {
            if let Some(arrival) = arrival {
                arrival.trust();
            }
            return Ok(request);
        }
        if let Some(arrival) = arrival {
            arrival.distrust();
            tracing::warn!(peer = %arrival.peer, "a call without a valid token was refused");
        }
        Err(Status::unauthenticated(
            "no valid token; give the worker the coordinator's token with --token-file or \
             SWEEP_TOKEN",
        ))
    }
}

/// The token that lets administrators in, from the network's door alone. Not
/// that of the workers: who computes need not be able to cancel.
#[derive(Clone)]
pub struct AdminGuard([u8; 32]);

impl std::fmt::Debug for AdminGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AdminGuard(…)")
    }
}

impl AdminGuard {
    /// A guard that knows this token.
    pub fn new(token: &str) -> Self {
        Self(hash(token))
    }

    fn knows(&self, token: &str) -> bool {
        bool::from(self.0.ct_eq(&hash(token)))
    }
}

impl Interceptor for AdminGuard {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let token = bearer(&request);
        let arrival = request.extensions().get::<Arc<Arrival>>();
        if self.knows(token) {
            if let Some(arrival) = arrival {
                arrival.trust();
            }
            return Ok(request);
        }
        if let Some(arrival) = arrival {
            arrival.distrust();
            tracing::warn!(peer = %arrival.peer, "a call without the administration token was refused");
        }
        Err(Status::unauthenticated(
            "no valid administration token; give it with --admin-token-file or SWEEP_ADMIN_TOKEN",
        ))
    }
}

/// Lets in whoever shows a token of workers or of administrators: for what is
/// no secret to either and none of a stranger's business.
#[derive(Clone, Debug)]
pub struct AnyGuard {
    workers: Guard,
    admin: Option<AdminGuard>,
}

impl AnyGuard {
    /// A guard that knows the tokens of both.
    pub fn new(workers: Guard, admin: Option<AdminGuard>) -> Self {
        Self { workers, admin }
    }
}

impl Interceptor for AnyGuard {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        match &mut self.admin {
            Some(admin) if admin.knows(bearer(&request)) => admin.call(request),
            _ => self.workers.call(request),
        }
    }
}

/// The token that a call shows; empty if it shows none.
fn bearer(request: &Request<()>) -> &str {
    request
        .metadata()
        .get("authorization")
        .and_then(|v| v.to_str().ok())
        .and_then(|v| v.strip_prefix("Bearer "))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_token_opens_its_own_door() {
        let guard = Guard::new("of local workers", Some("of all others"));
        assert!(guard.knows(Door::Local, "of local workers"));
        assert!(guard.knows(Door::Network, "of all others"));
        for (door, token) in [
            (Door::Local, "of all others"),
            (Door::Network, "of local workers"),
            (Door::Network, "of all other"),
            (Door::Network, ""),
            (Door::Local, ""),
        ] {
            assert!(!guard.knows(door, token), "{door:?} {token}");
        }
        let closed = Guard::new("of local workers", None);
        assert!(!closed.knows(Door::Network, "") && !closed.knows(Door::Network, "any"));
    }
}
