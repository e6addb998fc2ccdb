//! The places of strangers: how many connections without a valid token there may be, all
//! together and from one address, and how often one address may send new ones.
//!
//! Who is turned away is hung up on and may try again; workers do.
//!
//! `http` keeps its places by the same rules; there a connection has one to its end.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::{BURST, RATE};

/// Addresses without a stranger here that are remembered.
const REMEMBERED: usize = 4096;
/// Time between two lines of the log about one address.
const SILENCE: Duration = Duration::from_secs(60);

/// All places of a door.
#[derive(Debug)]
pub(crate) struct Strangers {
    places: Arc<Semaphore>,
    /// How many of them one address may have.
    of_one_address: usize,
    addresses: Mutex<HashMap<IpAddr, Record>>,
}

/// What is known of an address.
#[derive(Debug)]
struct Record {
    here: usize,
    /// Connections that may still come at once.
    allowance: f64,
    /// When it was last renewed.
    at: Instant,
    /// When the log last had it.
    told: Option<Instant>,
}

impl Record {
    fn new(now: Instant) -> Self {
        Self {
            here: 0,
            allowance: BURST,
            at: now,
            told: None,
        }
    }

    fn renew(&mut self, now: Instant) {
        let seconds = now.saturating_duration_since(self.at).as_secs_f64();
        self.allowance = RATE.mul_add(seconds, self.allowance).min(BURST);
        self.at = now;
    }
}

impl Strangers {
    pub(crate) fn new(places: usize, of_one_address: usize) -> Arc<Self> {
        Arc::new(Self {
            places: Arc::new(Semaphore::new(places)),
            of_one_address,
            addresses: Mutex::default(),
        })
    }

    /// A place for whoever comes next; waits until there is one.
    pub(crate) async fn next(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.places).acquire_owned().await.ok()
    }

    /// Gives a place to a connection from `peer`; `None` if too many from there have one.
    pub(crate) fn admit(
        self: &Arc<Self>,
        permit: OwnedSemaphorePermit,
        peer: IpAddr,
        now: Instant,
    ) -> Option<Place> {
        let address = network(peer);
        let mut addresses = self.lock();
        let record = addresses.entry(address).or_insert_with(|| Record::new(now));
        record.renew(now);
        if record.here >= self.of_one_address || record.allowance < 1.0 {
            let recently = |told| now.duration_since(told) < SILENCE;
            if !record.told.is_some_and(recently) {
                record.told = Some(now);
                tracing::warn!(
                    %address,
                    here = record.here,
                    "connections are turned away: too many from there, at a time or without a valid token"
                );
            }
            return None;
        }
        record.allowance -= 1.0;
        record.here += 1;
        Some(Place {
            strangers: Arc::clone(self),
            address,
            trusted: false,
            _permit: permit,
        })
    }

    fn left(&self, address: IpAddr, trusted: bool) {
        let mut addresses = self.lock();
        if let Some(record) = addresses.get_mut(&address) {
            record.here -= 1;
            // Honest ones come as often as they like.
            record.allowance += f64::from(u8::from(trusted));
            if record.here == 0 && record.allowance >= BURST {
                addresses.remove(&address);
            }
        }
        if addresses.len() > REMEMBERED {
            addresses.retain(|_, record| record.here > 0);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, Record>> {
        // Whoever panicked left counts that are right.
        self.addresses
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// A stranger's place; free again when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    strangers: Arc<Strangers>,
    address: IpAddr,
    trusted: bool,
    _permit: OwnedSemaphorePermit,
}

impl Place {
    /// The stranger is none any more.
    pub(crate) fn give_up_for_trust(mut self) {
        self.trusted = true;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.strangers.left(self.address, self.trusted);
    }
}

/// What is taken for one address: of IPv6 the network, whose addresses are all of one host.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::OF_ONE_ADDRESS;
    use super::*;

    async fn come_at(strangers: &Arc<Strangers>, peer: &str, now: Instant) -> Option<Place> {
        let permit = strangers.next().await.expect("places are never closed");
        strangers.admit(permit, peer.parse().expect("an address"), now)
    }

    #[tokio::test]
    async fn one_address_leaves_places_for_others() {
        let now = Instant::now();
        let strangers = Strangers::new(2 * OF_ONE_ADDRESS, OF_ONE_ADDRESS);
        let mut here = Vec::new();
        for _ in 0..OF_ONE_ADDRESS {
            here.extend(come_at(&strangers, "192.0.2.1", now).await);
        }
        assert_eq!(here.len(), OF_ONE_ADDRESS);
        assert!(come_at(&strangers, "192.0.2.1", now).await.is_none());
        assert!(come_at(&strangers, "::ffff:192.0.2.1", now).await.is_none());
        assert!(come_at(&strangers, "192.0.2.2", now).await.is_some());
        // Who has shown a token needs no place any more.
        here.pop().expect("one is here").give_up_for_trust();
        assert!(come_at(&strangers, "192.0.2.1", now).await.is_some());
    }

    #[tokio::test]
    async fn an_address_may_send_strangers_only_so_often() {
        let now = Instant::now();
        let strangers = Strangers::new(1, OF_ONE_ADDRESS);
        // Those that show a token are not counted.
        for _ in 0..2 * BURST as usize {
            let honest = come_at(&strangers, "2001:db8:0:1::1", now).await;
            honest.expect("a place").give_up_for_trust();
        }
        let mut taken = 0;
        while come_at(&strangers, &format!("2001:db8:0:1::{taken:x}"), now)
            .await
            .is_some()
        {
            taken += 1;
        }
        assert_eq!(taken, BURST as usize);
        assert!(come_at(&strangers, "2001:db8:0:2::1", now).await.is_some());
        let now = now + Duration::from_secs(1);
        let mut taken = 0;
        while come_at(&strangers, "2001:db8:0:1::1", now).await.is_some() {
            taken += 1;
        }
        assert_eq!(taken, RATE as usize);
    }

    #[tokio::test]
    async fn what_is_remembered_is_bounded() {
        let now = Instant::now();
        let strangers = Strangers::new(1, OF_ONE_ADDRESS);
        for n in 0..3 * REMEMBERED {
            drop(
                come_at(
                    &strangers,
                    &format!("2001:db8:{:x}:{:x}::", n >> 16, n & 0xffff),
                    now,
                )
                .await,
            );
        }
        assert!(strangers.lock().len() <= REMEMBERED + 1);
    }
}
