//! Several hosts, each with a network of its own: a link that is cut without a word, a worker that
//! is sent away, and the summary of one machine.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::path::Path;
use std::process::Command;

use tests::network::{Network, address};
use tests::processes::{RunningSweep, coordinator, output, send_signal, wait, worker};
use tests::scene::{Helper, RESULTS, Scene, TASKS, count, undisturbed, url_of};

/// What a worker of `deploy/base` may take after SIGTERM: less than the pod is given.
fn grace() -> &'static str {
    let manifest = include_str!("../../deploy/base/worker.yaml");
    let value = |key: &str| {
        let (_, rest): (_, &str) = manifest.split_once(key).expect("the manifest has it");
        rest.split_whitespace().next().expect("with a value")
    };
    let (grace, pod) = (value("--grace="), value("terminationGracePeriodSeconds:"));
    assert!(grace.parse::<u32>().unwrap() < pod.parse::<u32>().unwrap());
    grace
}

fn showing(certificates: &Path) -> Command {
    let mut command = worker();
    command
        .args(["--grace", grace(), "--ca-file"])
        .arg(certificates.join("ca.pem"))
        .arg("--cert-file")
        .arg(certificates.join("worker.pem"))
        .arg("--key-file")
        .arg(certificates.join("worker-key.pem"));
    command
}

#[test]
fn a_link_cut_and_healed_and_a_drained_host_change_no_byte_of_the_summary() {
    let Some(network) = Network::of(4) else {
        return;
    };
    let scene = Scene::new();
    let certificates = scene.path("certs");
    let mut certs = coordinator();
    certs.args(["certs", "--host", &address(0), "--out"]);
    assert!(output(certs.arg(&certificates)).status.success());

    let mut command = scene.sweep("hosts");
    command
        .args(["--local-workers", "0", "--listen"])
        .arg(format!("{}:7878", address(0)))
        .arg("--tls-cert")
        .arg(certificates.join("server.pem"))
        .arg("--tls-key")
        .arg(certificates.join("server-key.pem"))
        .arg("--tls-client-ca")
        .arg(certificates.join("ca.pem"));
    let mut sweep = RunningSweep::start(&mut network.on(0, &command));
    let url = url_of(&mut sweep);
    assert_eq!(url, format!("https://{}:7878", address(0)));
    let there =
        |host, name| Helper::start_as(network.on(host, &showing(&certificates)), &url, name);
    let (first, second, mut third) = (there(1, "first"), there(2, "second"), there(3, "third"));
    sweep.wait_for(|moment| moment["workers"] == 3 && moment["recorded"].as_u64() >= Some(5));

    network.cut(2);
    send_signal(third.pid(), "TERM");
    assert!(
        wait(&mut third.0).success(),
        "drained within its grace time"
    );
    // From here on only the host that is cut off could do anything.
    send_signal(first.pid(), "STOP");
    sweep.wait_for_words("worker second is given up");
    let frozen = sweep.last_recorded();
    assert!(
        frozen + 3 < TASKS,
        "{frozen} of {TASKS} were recorded before"
    );
    network.heal(2);
    sweep.wait_for_recorded(frozen + 3);
    send_signal(first.pid(), "CONT");
    let (ended, said) = sweep.finish_with_words();
    assert!(ended.success(), "{said:#?}");
    drop((first, second));
    assert_eq!(scene.summary("hosts"), undisturbed());

    let store = scene.path("hosts");
    assert_eq!(count(&store, "SELECT count(*) FROM results"), RESULTS);
    let hosts = "SELECT count(DISTINCT worker) FROM results";
    assert_eq!(count(&store, hosts), 3, "each host has computed something");
}
