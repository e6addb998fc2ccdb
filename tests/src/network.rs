//! Hosts with a network of their own: network namespaces on one switch.
//!
//! Every host and the switch is a namespace; the machine's own network is not
//! touched, and nothing leaves these namespaces.

use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::mounts::skipped;

/// With 1 in this variable a test that cannot have namespaces fails instead of saying `skipped`.
pub const REQUIRE: &str = "SWEEP_REQUIRE_NETNS";

/// A switch and the hosts on it; gone with the value.
#[derive(Debug)]
pub struct Network {
    /// Beginning of the names of the namespaces.
    name: String,
    hosts: u8,
}

impl Network {
    /// Hosts from 0 on. `None`, and a word about it, where this process may not make namespaces.
    ///
    /// # Panics
    /// If it may not and must.
    pub fn of(hosts: u8) -> Option<Self> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let name = format!("sweep-{}-{number}", std::process::id());
        let network = Self { name, hosts };
        if !ip(&["netns", "add", &network.switch()]).is_ok_and(|made| made.status.success()) {
            skipped(
                REQUIRE,
                "no network namespaces here (they need root and iproute2)",
            );
            return None;
        }
        let switch = network.switch();
        must(&["-n", &switch, "link", "add", "switch", "type", "bridge"]);
        must(&["-n", &switch, "link", "set", "switch", "up"]);
        for host in 0..hosts {
            let (namespace, plug) = (network.host(host), plug(host));
            must(&["netns", "add", &namespace]);
            must(&[
                "-n", &switch, "link", "add", &plug, "type", "veth", "peer", "name", "eth0",
                "netns", &namespace,
            ]);
            must(&[
                "-n", &switch, "link", "set", &plug, "master", "switch", "up",
            ]);
            let address = format!("{}/24", address(host));
            must(&["-n", &namespace, "addr", "add", &address, "dev", "eth0"]);
            must(&["-n", &namespace, "link", "set", "eth0", "up"]);
            must(&["-n", &namespace, "link", "set", "lo", "up"]);
        }
        Some(network)
    }

    fn switch(&self) -> String {
        format!("{}-switch", self.name)
    }

    fn host(&self, host: u8) -> String {
        format!("{}-{host}", self.name)
    }

    /// A command, run on a host; its process number is that of the program.
    pub fn on(&self, host: u8, command: &Command) -> Command {
        let mut there = Command::new("ip");
        there.args(["netns", "exec", &self.host(host)]);
        there.arg(command.get_program()).args(command.get_args());
        for (key, value) in command.get_envs() {
            match value {
                Some(value) => there.env(key, value),
                None => there.env_remove(key),
            };
        }
        there.stdin(std::process::Stdio::null());
        there
    }

    /// Pulls a host's cable out of the switch: what is sent is lost, and nobody is told.
    ///
    /// # Panics
    /// If that cannot be done.
    pub fn cut(&self, host: u8) {
        must(&["-n", &self.switch(), "link", "set", &plug(host), "nomaster"]);
    }

    /// Plugs it in again.
    ///
    /// # Panics
    /// If that cannot be done.
    pub fn heal(&self, host: u8) {
        must(&[
            "-n",
            &self.switch(),
            "link",
            "set",
            &plug(host),
            "master",
            "switch",
        ]);
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for host in 0..self.hosts {
            let _ = ip(&["netns", "del", &self.host(host)]);
        }
        let _ = ip(&["netns", "del", &self.switch()]);
    }
}

/// A host's address.
pub fn address(host: u8) -> String {
    format!("10.77.0.{}", host + 1)
}

/// A host's end at the switch.
fn plug(host: u8) -> String {
    format!("host{host}")
}

fn ip(arguments: &[&str]) -> std::io::Result<Output> {
    Command::new("ip").args(arguments).output()
}

fn must(arguments: &[&str]) {
    let output = ip(arguments).expect("iproute2 is there");
    assert!(
        output.status.success(),
        "ip {}: {output:?}",
        arguments.join(" ")
    );
}
