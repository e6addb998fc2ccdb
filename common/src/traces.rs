//! Spans of executions for an OpenTelemetry collector.
//!
//! Nothing about traces travels between the programs, because the numbers of spans follow from
//! what both know. A task is a trace, whose number is the first half of the task's identity. An
//! attempt at it is a span of the coordinator's, from the lease to the report, whose number is
//! the attempt's. What a slot of a worker computed is a child of that.
//!
//! Spans are sent in batches from a thread of their own; a collector that does not answer costs
//! spans, never results.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use opentelemetry::trace::{
    SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SpanData, SpanEvents, SpanLinks, SpanProcessor,
};

use crate::protocol::LeaseId;

/// Spans that wait to be sent.
const WAITING: usize = 1 << 16;
/// Spans of one message.
const BATCH: usize = 2048;
/// Longest that the end of a program waits for a collector.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// Where spans go.
#[derive(Debug)]
pub struct Traces {
    processor: BatchSpanProcessor,
    scope: InstrumentationScope,
}

/// Which span of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// From the lease to the report.
    Attempt,
    /// What a slot did.
    Execution,
}

/// A span that has ended.
#[derive(Clone, Debug)]
pub struct Span {
    /// Task and attempt.
    pub lease: LeaseId,
    /// Which of its spans.
    pub part: Part,
    /// What was done.
    pub name: Cow<'static, str>,
    /// When it began.
    pub began: SystemTime,
    /// When it ended.
    pub ended: SystemTime,
    /// What it was about.
    pub attributes: Vec<(&'static str, String)>,
    /// Why it failed, if it did.
    pub failure: Option<String>,
}

/// Checks the URL of a collector.
///
/// # Errors
/// What is wrong with it, for people.
pub fn check_url(url: &str) -> Result<(), String> {
    let scheme = ["http://", "https://"];
    let rest = scheme.iter().find_map(|scheme| url.strip_prefix(scheme));
    let host = rest.map(|rest| rest.split('/').next().unwrap_or_default());
    match host {
        Some(host) if !host.is_empty() && !host.starts_with(':') => Ok(()),
        _ => Err(format!(
            "`{url}` is no collector of OpenTelemetry; write http://HOST:4317 or https://HOST:4317"
        )),
    }
}

impl Traces {
    /// Spans of this service go to the collector at `url`, by OTLP over gRPC. Variables of the
    /// standard (`OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_RESOURCE_ATTRIBUTES`) are heeded.
    ///
    /// # Errors
    /// If the URL cannot be used.
    ///
    /// # Panics
    /// Outside a runtime of tokio.
    pub fn start(url: &str, service: &'static str, instance: &str) -> Result<Self, String> {
        check_url(url)?;
        let mut exporter = SpanExporter::builder().with_tonic().with_endpoint(url);
        if url.starts_with("https://") {
            let roots = opentelemetry_otlp::tonic_types::transport::ClientTlsConfig::new();
            exporter = exporter.with_tls_config(roots.with_native_roots());
        }
        let exporter = exporter
            .build()
            .map_err(|error| format!("{url}: {error}"))?;
        let config = BatchConfigBuilder::default()
            .with_max_queue_size(WAITING)
            .with_max_export_batch_size(BATCH)
            .with_scheduled_delay(Duration::from_secs(1))
            .build();
        let mut processor = BatchSpanProcessor::builder(exporter)
            .with_batch_config(config)
            .build();
        let resource = Resource::builder()
            .with_service_name(service)
            .with_attribute(KeyValue::new("service.instance.id", instance.to_owned()))
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        processor.set_resource(&resource);
        let scope = InstrumentationScope::builder("depth-sweep").build();
        Ok(Self { processor, scope })
    }

    /// Sends a span in its time.
    pub fn add(&self, span: Span) {
        let (trace, attempt) = numbers(&span.lease);
        let (own, parent) = match span.part {
            Part::Attempt => (attempt, SpanId::INVALID),
            Part::Execution => (execution(attempt), attempt),
        };
        let attributes = span.attributes.into_iter();
        self.processor.on_end(SpanData {
            span_context: SpanContext::new(
                trace,
                own,
                TraceFlags::SAMPLED,
                false,
                TraceState::NONE,
            ),
            parent_span_id: parent,
            parent_span_is_remote: span.part == Part::Execution,
            span_kind: match span.part {
                Part::Attempt => SpanKind::Producer,
                Part::Execution => SpanKind::Consumer,
            },
            name: span.name,
            start_time: span.began,
            end_time: span.ended,
            attributes: attributes.map(|(k, v)| KeyValue::new(k, v)).collect(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: span.failure.map_or(Status::Ok, Status::error),
            instrumentation_scope: self.scope.clone(),
        });
    }

    /// Sends what waits. Blocks for some seconds if the collector does not answer.
    pub fn finish(&self) {
        // What cannot be sent now never will be.
        let _ = self.processor.shutdown_with_timeout(LAST_WORDS);
    }
}

/// The numbers of a task's trace and of an attempt's span.
fn numbers(lease: &LeaseId) -> (TraceId, SpanId) {
    let (half, _) = lease.task.0.split_at(16);
    let half = half.try_into().unwrap_or([0; 16]);
    let attempt = SpanId::from_bytes(lease.attempt.0.to_be_bytes());
    (TraceId::from_bytes(half), attempt)
}

/// The number of the span below an attempt's: no attempt has that epoch.
fn execution(attempt: SpanId) -> SpanId {
    let mut bytes = attempt.to_bytes();
    bytes[0] ^= 0x80;
    SpanId::from_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_collector_is_told_with_the_way_out() {
        for good in [
            "http://localhost:4317",
            "https://[::1]:4317",
            "http://otel/",
        ] {
            assert_eq!(check_url(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "localhost:4317",
            "grpc://localhost:4317",
            "http://",
            "http://:4317",
        ] {
            assert!(check_url(bad).unwrap_err().contains("http://HOST:4317"));
        }
    }
}
