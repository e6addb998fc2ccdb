//! Who leads a store that several coordinators share.
//!
//! The first one opens the store and leads. The others are hot standbys: they
//! listen, turn workers away with the leader's address, and open the store as
//! soon as the leader's session of the database is gone.

use std::net::SocketAddr;
use std::pin::pin;

use tokio::sync::watch;

use crate::rpc::Stage;
use crate::store::{Address, AnyStore, Identity, PostgresStore, PostgresUrl, StoreError};
use crate::store::{Owner, Store};

/// Opens a store; one that another coordinator leads is waited for if its kind
/// allows for that. `say` tells people about it.
///
/// # Errors
/// What [`AnyStore::open`] and [`PostgresStore::stand_by`] say.
pub async fn lead<S>(
    address: &Address,
    identity: &Identity,
    stage: &Stage<S>,
    say: impl Fn(&str),
) -> Result<AnyStore, StoreError> {
    match (AnyStore::open(address, identity).await, address) {
        (Err(StoreError::InUse { owner, .. }), Address::Postgres(url)) => {
            let store = stand_by(url, identity, owner, stage, &say).await?;
            say(&format!("leading {address} now, epoch {}", store.epoch()));
            Ok(AnyStore::Postgres(store))
        }
        (opened, _) => opened,
    }
}

async fn stand_by<S>(
    url: &PostgresUrl,
    identity: &Identity,
    owner: Owner,
    stage: &Stage<S>,
    say: &impl Fn(&str),
) -> Result<PostgresStore, StoreError> {
    let (tell, mut told) = watch::channel(Some(owner));
    told.mark_changed();
    let mut waiting = pin!(PostgresStore::stand_by(url, identity, tell));
    loop {
        tokio::select! {
            store = &mut waiting => return store,
            Ok(()) = told.changed() => {
                let leader = told.borrow_and_update().clone().unwrap_or_default();
                say(&format!("standing by: {url} is led by {leader}"));
                stage.follow(leader.listen);
            }
        }
    }
}

/// The address under which others reach a listener: its own, or the host's
/// name where it listens on all addresses.
pub fn advertised(address: SocketAddr, host: &str) -> String {
    if address.ip().is_unspecified() {
        format!("{host}:{}", address.port())
    } else {
        address.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_listens_everywhere_is_reached_by_the_name_of_its_host() {
        let told = |address: &str| advertised(address.parse().unwrap(), "node7");
        assert_eq!(told("0.0.0.0:7070"), "node7:7070");
        assert_eq!(told("[::]:7070"), "node7:7070");
        assert_eq!(told("10.0.0.3:7070"), "10.0.0.3:7070");
    }
}
