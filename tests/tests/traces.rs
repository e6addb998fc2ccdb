//! `--otlp`: every execution is a span at a collector, the worker's below the coordinator's.

#![allow(clippy::unwrap_used, reason = "a helper that fails fails its test")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use tests::processes::{coordinator, output};
use tests::scene::{RESULTS, Scene, undisturbed};
use tonic::{Request, Response, Status};

/// Spans by the service that sent them.
type Seen = Arc<Mutex<Vec<(String, Span)>>>;

struct Collector(Seen);

fn text(value: Option<&opentelemetry_proto::tonic::common::v1::AnyValue>) -> String {
    match value.and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => text.clone(),
        other => panic!("{other:?}"),
    }
}

fn attribute(span: &Span, key: &str) -> String {
    let found = span.attributes.iter().find(|pair| pair.key == key);
    text(
        found
            .unwrap_or_else(|| panic!("{key} of {span:?}"))
            .value
            .as_ref(),
    )
}

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut seen = self.0.lock().unwrap();
        for group in request.into_inner().resource_spans {
            let resource = group.resource.unwrap();
            let name = resource.attributes.iter().find(|a| a.key == "service.name");
            let service = text(name.unwrap().value.as_ref());
            let spans = group.scope_spans.into_iter().flat_map(|scope| scope.spans);
            seen.extend(spans.map(|span| (service.clone(), span)));
        }
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

/// A collector on a free port; its address.
fn collector(seen: &Seen) -> String {
    let service = TraceServiceServer::new(Collector(Arc::clone(seen)));
    let (told, address) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            told.send(listener.local_addr().unwrap()).unwrap();
            let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(incoming)
                .await
                .unwrap();
        });
    });
    format!("http://{}", address.recv().unwrap())
}

#[test]
fn every_execution_is_a_span_and_the_workers_lie_below_the_coordinators() {
    let seen = Seen::default();
    let url = collector(&seen);
    let scene = Scene::new();
    let mut command = scene.sweep("traced");
    command.args(["--local-workers", "2", "--otlp", &url]);
    let run = output(&mut command);
    assert!(run.status.success(), "{run:?}");
    assert_eq!(scene.summary("traced"), undisturbed());
    let seen = seen.lock().unwrap();
    let of = |service: &str| -> BTreeMap<(Vec<u8>, Vec<u8>), &Span> {
        let own = seen.iter().filter(|(name, _)| name == service);
        own.map(|(_, span)| ((span.trace_id.clone(), span.span_id.clone()), span))
            .collect()
    };
    let attempts = of("depth-sweep-coordinator");
    assert_eq!(attempts.len() as u64, RESULTS);
    let tasks: BTreeSet<String> = attempts
        .values()
        .map(|s| attribute(s, "sweep.task"))
        .collect();
    assert_eq!(tasks.len() as u64, RESULTS, "each task once");
    let named = |name: &str| attempts.values().filter(|span| span.name == name).count();
    assert_eq!((named("baseline"), named("run") as u64), (1, RESULTS - 1));
    for span in attempts.values() {
        assert!(span.parent_span_id.is_empty(), "{span:?}");
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano);
        let task = attribute(span, "sweep.task");
        assert!(
            task.starts_with(&common::ids::to_hex(&span.trace_id)),
            "{task}"
        );
        if span.name == "run" {
            let outcome = attribute(span, "outcome");
            assert!(["certified_minimum", "budget_exhausted"].contains(&outcome.as_str()));
            assert!(["2", "4"].contains(&attribute(span, "depth").as_str()));
        }
    }
    let executions = of("depth-sweep-worker");
    assert_eq!(executions.len() as u64, RESULTS);
    let mut below = BTreeSet::new();
    for ((trace, _), span) in executions {
        let parent = (trace, span.parent_span_id.clone());
        let attempt = attempts.get(&parent).unwrap_or_else(|| panic!("{span:?}"));
        assert!(span.end_time_unix_nano <= attempt.end_time_unix_nano);
        below.insert(parent);
    }
    assert_eq!(below.len() as u64, RESULTS, "one below each");
}

#[test]
fn a_collector_that_is_not_there_costs_spans_and_nothing_else() {
    let scene = Scene::new();
    let mut command = scene.sweep("alone");
    // A port that nobody listens at.
    let port = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let url = format!("http://127.0.0.1:{port}");
    command.args(["--local-workers", "2", "--otlp", &url]);
    let run = output(&mut command);
    assert!(run.status.success(), "{run:?}");
    assert_eq!(scene.summary("alone"), undisturbed());
    let mut command = coordinator();
    let wrong = output(command.args(["--grid", "none.yaml", "--otlp", "localhost:4317"]));
    assert_eq!(wrong.status.code(), Some(2), "{wrong:?}");
    let said = String::from_utf8_lossy(&wrong.stderr);
    assert!(said.contains("otlp: `localhost:4317`"), "{said}");
    assert!(said.contains("http://HOST:4317"), "{said}");
}
