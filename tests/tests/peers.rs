//! Peers that speak the protocol wrongly, or another language: refused by type, and the sweep is
//! unharmed.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::io::{Read, Write};
use std::net::TcpStream;

use common::pb::wire::cluster_client::ClusterClient;
use common::pb::{MESSAGE_LIMIT, wire};
use tests::processes::{PATIENCE, RunningSweep, wait};
use tests::scene::{Helper, Scene, TOKEN, count, undisturbed, url_of};
use tests::strangers::{garbage, port_of, say};
use tonic::codec::CompressionEncoding;
use tonic::transport::Endpoint;
use tonic::{Code, Request, Status};
use wire::worker_message::Kind;

/// A client of the test's own that shows a token.
struct Client {
    client: ClusterClient<tonic::transport::Channel>,
    token: String,
}

impl Client {
    async fn connect(port: u16, token: &str) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{port}")).unwrap();
        Self {
            client: ClusterClient::new(endpoint.connect().await.unwrap())
                .max_encoding_message_size(usize::MAX),
            token: token.to_owned(),
        }
    }

    fn request<T>(&self, content: T) -> Request<T> {
        let mut request = Request::new(content);
        let bearer = format!("Bearer {}", self.token).parse().unwrap();
        request.metadata_mut().insert("authorization", bearer);
        request
    }

    /// Waits until the store is open: the port was open before.
    async fn until_it_leads(&mut self) {
        loop {
            let request = self.request(wire::FetchBlobRequest {
                sha256: vec![0; 32].into(),
            });
            let status = self.client.fetch_blob(request).await.unwrap_err();
            if status.code() == Code::NotFound {
                return;
            }
            assert_eq!(status.code(), Code::Unavailable, "{status:?}");
        }
    }

    /// Says this in a session and waits for its end; how it ended.
    async fn session(&mut self, messages: Vec<Kind>, stays: bool) -> Status {
        let said = messages
            .into_iter()
            .map(|kind| wire::WorkerMessage { kind: Some(kind) });
        let (to, from) = tokio::sync::mpsc::channel(16);
        for message in said {
            to.try_send(message).unwrap();
        }
        let request = self.request(tokio_stream::wrappers::ReceiverStream::new(from));
        let kept = stays.then_some(to);
        let ended = async {
            let mut answers = self.client.work(request).await?.into_inner();
            while answers.message().await?.is_some() {}
            Err::<(), _>(Status::ok("it ended without a word"))
        };
        let status = tokio::time::timeout(PATIENCE, ended).await;
        drop(kept);
        status.expect("the session ends").unwrap_err()
    }
}

fn hello(name: &str) -> Kind {
    Kind::Hello(wire::Hello {
        protocol: common::protocol::PROTOCOL,
        worker_id: vec![7; common::ids::WorkerId::BYTES].into(),
        name: name.to_owned(),
        slots: 1,
        ..wire::Hello::default()
    })
}

#[test]
fn nonsense_with_the_right_token_is_refused_by_type_and_the_sweep_is_unharmed() {
    let scene = Scene::new();
    let mut command = scene.sweep("abused");
    command.args(["--local-workers", "0", "--listen", "127.0.0.1:0"]);
    let mut sweep = RunningSweep::start(&mut command);
    let url = url_of(&mut sweep);
    let port = port_of(&url);
    for garbage in garbage() {
        say(port, &garbage);
    }

    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let heartbeat = || Kind::Heartbeat(wire::Heartbeat::default());
        let too_long = || hello(&"x".repeat(MESSAGE_LIMIT + 1));
        for (messages, code) in [
            (vec![heartbeat()], Code::InvalidArgument),
            (vec![hello(&"x".repeat(10_000))], Code::InvalidArgument),
            (vec![too_long()], Code::OutOfRange),
        ] {
            let mut client = Client::connect(port, TOKEN).await;
            let status = client.session(messages, true).await;
            assert_eq!(status.code(), code, "{status:?}");
        }

        // Nothing is unpacked here, so nothing can grow.
        let mut client = Client::connect(port, TOKEN).await;
        client.client = client.client.send_compressed(CompressionEncoding::Zstd);
        let status = client.session(vec![hello("small")], true).await;
        assert_eq!(status.code(), Code::Unimplemented, "{status:?}");

        // Without a token not even the message's size is looked at.
        let mut client = Client::connect(port, "no token of this sweep").await;
        let status = client.session(vec![too_long()], true).await;
        assert_eq!(status.code(), Code::Unauthenticated, "{status:?}");
        let request = client.request(wire::FetchBlobRequest {
            sha256: vec![0; MESSAGE_LIMIT + 1].into(),
        });
        let status = client.client.fetch_blob(request).await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated, "{status:?}");

        // Headers that no call of ours has.
        let mut client = Client::connect(port, TOKEN).await;
        client.token = "x".repeat(100_000);
        let status = client.session(vec![hello("small")], true).await;
        assert_ne!(status.code(), Code::Ok, "{status:?}");

        // Who says nothing is not waited for: neither in a session nor before.
        let mut client = Client::connect(port, TOKEN).await;
        let silent = client.session(Vec::new(), true);
        let stranger = tokio::task::spawn_blocking(move || {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream
                .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
                .unwrap();
            stream.read_to_end(&mut Vec::new()).map_err(|e| e.kind())
        });
        let (silent, stranger) = tokio::join!(silent, stranger);
        assert_eq!(silent.code(), Code::DeadlineExceeded, "{silent:?}");
        let stranger = stranger.unwrap();
        assert!(
            !matches!(stranger, Err(std::io::ErrorKind::WouldBlock)),
            "a stranger who stays is shown out"
        );
    });

    let mut joined = Helper::start(&url, "right");
    assert!(sweep.finish().success());
    assert!(wait(&mut joined.0).success());
    assert_eq!(scene.summary("abused"), undisturbed());
}

/// A worker that sends a second result with other bits: a broken machine, or somebody who cheats.
#[test]
fn a_second_result_with_other_bits_is_an_alarm_and_the_first_one_counts() {
    let scene = Scene::new();
    let mut command = scene.sweep("torn");
    command.args(["--local-workers", "0", "--listen", "127.0.0.1:0"]);
    let mut sweep = RunningSweep::start(&mut command);
    let port = port_of(&url_of(&mut sweep));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let receipts = runtime.block_on(async {
        let mut client = Client::connect(port, TOKEN).await;
        client.until_it_leads().await;
        let (to, from) = tokio::sync::mpsc::channel(16);
        let say = async |kind| {
            let message = wire::WorkerMessage { kind: Some(kind) };
            to.send(message).await.unwrap();
        };
        let Kind::Hello(mut hello) = hello("liar") else {
            unreachable!()
        };
        hello.numerics_version = common::canon::NUMERICS_VERSION;
        hello.numeric_levels = vec![common::math::NUMERIC_LEVEL.to_owned()];
        say(Kind::Hello(hello)).await;
        say(Kind::Credit(wire::Credit { window: 1 })).await;
        let request = client.request(tokio_stream::wrappers::ReceiverStream::new(from));
        let mut answers = client.client.work(request).await.unwrap().into_inner();
        let mut receipts = Vec::new();
        let mut lease = None;
        while receipts.len() < 3 {
            use wire::coordinator_message::Kind as Said;
            match answers.message().await.unwrap().unwrap().kind.unwrap() {
                Said::Leases(batch) if lease.is_none() => {
                    lease = batch.leases[0].id.clone();
                    // Twice the same, then another value.
                    for value in [0.25, 0.25, 0.125] {
                        say(Kind::Reports(baseline_of(lease.clone(), value))).await;
                    }
                }
                Said::Receipts(batch) => receipts.extend(batch.receipts),
                _ => {}
            }
        }
        receipts
    });
    let mut statuses: Vec<i32> = receipts.iter().map(|receipt| receipt.status).collect();
    statuses.sort_unstable();
    let expected = [
        wire::ReceiptStatus::Recorded,
        wire::ReceiptStatus::Duplicate,
        wire::ReceiptStatus::Conflict,
    ];
    assert_eq!(statuses, expected.map(i32::from));
    let line = sweep.wait_for_words("ALARM");
    assert!(line.contains("two results with different bits"), "{line}");
    sweep.kill();
    let store = scene.path("torn");
    let results = "SELECT count(*) FROM results";
    assert_eq!(count(&store, results), 1);
    let kept = "SELECT count(*) FROM conflicts JOIN results USING (task) \
                WHERE conflicts.evidence <> results.evidence";
    assert_eq!(count(&store, kept), 1);
}

/// A report that claims a baseline.
fn baseline_of(lease: Option<wire::LeaseId>, value: f64) -> wire::ReportBatch {
    let baseline = wire::BaselineEvidence {
        value,
        lower_bound: value,
        status: wire::Attainment::Attained.into(),
        ..wire::BaselineEvidence::default()
    };
    let kind = Some(wire::evidence::Kind::Baseline(baseline));
    let result = wire::TaskResult {
        evidence: prost::Message::encode_to_vec(&wire::Evidence { kind }).into(),
        ..wire::TaskResult::default()
    };
    let outcome = Some(wire::report::Outcome::Result(result));
    wire::ReportBatch {
        reports: vec![wire::Report { lease, outcome }],
    }
}
