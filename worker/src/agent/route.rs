//! Where to try next: the addresses of the coordinators, and what they say
//! about each other.
//!
//! The addresses are tried in turn. A standby that names the leader is
//! believed once: if nobody welcomes the worker there, the turn goes on.

use std::fmt;

/// Makes a target of an address.
type Make<T> = Box<dyn Fn(&str) -> Option<T> + Send + Sync>;

/// Addresses, and which is the next to be tried.
pub struct Route<T> {
    /// As given by the user: address and target.
    listed: Vec<(String, T)>,
    make: Make<T>,
    /// Position in the list.
    turn: usize,
    /// Named by a standby.
    leader: Option<(String, T)>,
    /// Whether the current target has welcomed the worker since it was chosen.
    welcomed: bool,
}

impl<T> fmt::Debug for Route<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let listed: Vec<&str> = self.listed.iter().map(|(url, _)| url.as_str()).collect();
        write!(f, "Route({listed:?}, at {})", self.address())
    }
}

impl<T: Clone> Route<T> {
    /// A route over addresses; `make` turns others into targets of the same
    /// kind. `None` for an empty list.
    pub fn new(
        listed: Vec<(String, T)>,
        make: impl Fn(&str) -> Option<T> + Send + Sync + 'static,
    ) -> Option<Self> {
        (!listed.is_empty()).then(|| Self {
            listed,
            make: Box::new(make),
            turn: 0,
            leader: None,
            welcomed: false,
        })
    }

    /// What is to be tried.
    pub fn target(&self) -> T {
        let (_, target) = self.leader.as_ref().unwrap_or(&self.listed[self.turn]);
        target.clone()
    }

    /// The target's worker is in.
    pub fn welcomed(&mut self) {
        self.welcomed = true;
    }

    /// The target is gone, or would not have the worker. One that has welcomed
    /// it is tried once more.
    pub fn failed(&mut self) {
        if !std::mem::take(&mut self.welcomed) {
            self.advance();
        }
    }

    /// The target says that another coordinator leads, at `HOST:PORT`.
    pub fn follow(&mut self, leader: &str) {
        self.welcomed = false;
        // Spoken to as the one that named it: TLS is never given up.
        let scheme = self.address().split_once("://").map(|(scheme, _)| scheme);
        let address = match scheme {
            Some(scheme) => format!("{scheme}://{leader}"),
            None => leader.to_owned(),
        };
        match (self.make)(&address) {
            Some(target) if address != self.address() => self.leader = Some((address, target)),
            _ => self.advance(),
        }
    }

    fn advance(&mut self) {
        self.leader = None;
        self.turn = (self.turn + 1) % self.listed.len();
    }
}

impl<T> Route<T> {
    fn address(&self) -> &str {
        let (address, _) = self.leader.as_ref().unwrap_or(&self.listed[self.turn]);
        address
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(addresses: &[&str]) -> Route<String> {
        let listed = addresses.iter().map(|a| (a.to_string(), a.to_string()));
        let make = |address: &str| (!address.contains(' ')).then(|| address.to_owned());
        Route::new(listed.collect(), make).unwrap()
    }

    #[test]
    fn addresses_are_tried_in_turn() {
        let mut route = route(&["http://a:1", "http://b:1"]);
        let mut seen = Vec::new();
        for _ in 0..3 {
            seen.push(route.target());
            route.failed();
        }
        assert_eq!(seen, ["http://a:1", "http://b:1", "http://a:1"]);
        assert!(Route::<String>::new(Vec::new(), |_| None).is_none());
    }

    #[test]
    fn a_coordinator_that_was_there_is_tried_once_more() {
        let mut route = route(&["http://a:1", "http://b:1"]);
        route.welcomed();
        route.failed();
        assert_eq!(route.target(), "http://a:1");
        route.failed();
        assert_eq!(route.target(), "http://b:1");
    }

    #[test]
    fn a_named_leader_is_tried_once_and_in_the_same_manner() {
        let mut route = route(&["https://a:1", "https://b:1"]);
        route.follow("c:2");
        assert_eq!(route.target(), "https://c:2");
        route.failed();
        assert_eq!(route.target(), "https://b:1");
        route.follow("c:2");
        route.welcomed();
        route.failed();
        assert_eq!(route.target(), "https://c:2", "it was there");
    }

    #[test]
    fn nonsense_about_the_leader_is_passed_over() {
        let mut route = route(&["http://a:1", "http://b:1"]);
        route.follow("a:1");
        assert_eq!(route.target(), "http://b:1", "it named itself");
        route.follow("no host");
        assert_eq!(route.target(), "http://a:1");
    }
}
