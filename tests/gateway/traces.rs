//! Spans that a collector gets: one of each request that is no plain hit, one of each fetch.

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::support::metrics::metrics;
use crate::support::passing::open;
use crate::support::{Client, Harness, Setup, status};

const USER: &str = "/api/v1/people/user_1";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

/// A collector that hands over what it gets.
struct Collector {
    endpoint: String,
    spans: mpsc::UnboundedReceiver<Span>,
}

impl Collector {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (sender, spans) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let sender = sender.clone();
                let service = service_fn(move |request| take(request, sender.clone()));
                let connection = hyper::server::conn::http1::Builder::new();
                tokio::spawn(connection.serve_connection(TokioIo::new(stream), service));
            }
        });
        Self {
            endpoint: format!("http://{address}/v1/traces"),
            spans,
        }
    }

    /// The next spans, by name.
    async fn next(&mut self, count: usize) -> Vec<Span> {
        let mut spans = Vec::new();
        while spans.len() < count {
            let span = tokio::time::timeout(Duration::from_secs(10), self.spans.recv()).await;
            spans.push(span.expect("in time").expect("the collector runs"));
        }
        spans.sort_by(|one, other| one.name.cmp(&other.name));
        spans
    }

    /// Sees that nothing more has come once all was sent.
    async fn assert_no_more(&mut self, harness: &Harness) {
        harness.gateway.flush().await;
        assert!(self.spans.try_recv().is_err());
    }
}

async fn take(
    request: Request<Incoming>,
    sender: mpsc::UnboundedSender<Span>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    assert_eq!(request.uri().path(), "/v1/traces");
    let body = request.into_body().collect().await.expect("a whole body");
    let export = ExportTraceServiceRequest::decode(body.to_bytes()).expect("OTLP");
    for resource in export.resource_spans {
        for span in resource
            .scope_spans
            .into_iter()
            .flat_map(|scope| scope.spans)
        {
            sender.send(span).expect("the test listens");
        }
    }
    let taken = ExportTraceServiceResponse::default().encode_to_vec();
    Ok(Response::new(Full::from(taken)))
}

fn traced(collector: &Collector, hits: f64) -> Setup {
    open().config(&format!(
        "telemetry.otlp_endpoint = {:?}\ntelemetry.trace_hits = {hits:?}",
        collector.endpoint
    ))
}

fn hex(bytes: &[u8]) -> String {
    let id = bytes
        .iter()
        .fold(0u128, |id, byte| id << 8 | u128::from(*byte));
    format!("{id:0width$x}", width = 2 * bytes.len())
}

fn text(span: &Span, key: &str) -> String {
    let found = span
        .attributes
        .iter()
        .find(|attribute| attribute.key == key);
    let value = found.and_then(|attribute| attribute.value.as_ref()?.value.clone());
    match value {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        other => panic!("{key}: {other:?}"),
    }
}

fn events(span: &Span) -> Vec<&str> {
    span.events
        .iter()
        .map(|event| event.name.as_str())
        .collect()
}

async fn ask(harness: &Harness, method: &str, target: &str, sampled: bool) -> u16 {
    let traceparent = format!("00-{TRACE}-{PARENT}-0{}", u8::from(sampled));
    let mut client: Client = harness.client().await;
    let body = if method == "GET" {
        String::new()
    } else {
        json!({}).to_string()
    };
    let headers = [("traceparent", traceparent.as_str())];
    client
        .send_with(method, target, &headers, body)
        .await
        .status
        .as_u16()
}

#[tokio::test]
async fn a_miss_is_a_span_and_its_fetch_another_in_the_trace_that_it_came_with() {
    let mut collector = Collector::start().await;
    let harness = traced(&collector, 0.0).start().await;
    assert_eq!(ask(&harness, "GET", USER, true).await, 200);
    let spans = collector.next(2).await;
    let [fetch, request] = &spans[..] else {
        panic!("{spans:?}")
    };
    assert_eq!((&*fetch.name, &*request.name), ("fetch", "person"));
    assert!(spans.iter().all(|span| hex(&span.trace_id) == TRACE));
    assert_eq!(hex(&request.parent_span_id), PARENT);
    assert_eq!(fetch.parent_span_id, request.span_id);
    assert_eq!(events(fetch), ["turn", "connected", "first_byte"]);
    assert_eq!(text(fetch, "http.response.status_code"), "200");
    assert_eq!(text(request, "cache.outcome"), "miss");
    assert_eq!(text(request, "http.route"), "person");
    let told = harness.flameup.received();
    let told = told[0].headers.get("traceparent").expect("it is told");
    assert_eq!(told, &*format!("00-{TRACE}-{}-01", hex(&fetch.span_id)));
    // A plain hit is none, and nor is what was sampled out on the way.
    assert_eq!(ask(&harness, "GET", USER, true).await, 200);
    assert_eq!(
        ask(&harness, "GET", "/api/v1/people/user_2", false).await,
        200
    );
    collector.assert_no_more(&harness).await;
    // The trace that was recorded is the example of how long a fetch takes.
    let text = metrics(&harness).await.text;
    let examples: Vec<_> = text.lines().filter(|line| line.contains(" # {")).collect();
    let example = format!(" # {{trace_id=\"{TRACE}\"}} ");
    assert_eq!(examples.len(), 1, "{text}");
    assert!(examples[0].contains(&example), "{examples:?}");
    assert!(examples[0].contains("upstream_duration_seconds_bucket"));
    let sent = metrics(&harness)
        .await
        .sum("spans_total", &[("fate", "sent")]);
    assert!((sent - 2.0).abs() < 0.5);
}

#[tokio::test]
async fn a_plain_hit_is_a_span_where_all_are_wanted_and_a_failure_says_why() {
    let mut collector = Collector::start().await;
    let harness = traced(&collector, 1.0).start().await;
    harness.get(USER).await;
    collector.next(2).await;
    harness.get(USER).await;
    assert_eq!(text(&collector.next(1).await[0], "cache.outcome"), "hit");
    harness.fault(status(500));
    assert_eq!(ask(&harness, "PUT", USER, true).await, 500);
    let spans = collector.next(2).await;
    assert_eq!(spans[0].name, "forward");
    assert_eq!(text(&spans[0], "forward.purpose"), "write");
    let failed = spans[1].status.as_ref().expect("a status");
    assert_eq!(failed.message, "500 Internal Server Error");
    let told = harness.flameup.received();
    let told = told
        .last()
        .and_then(|write| write.headers.get("traceparent"));
    let told = told
        .and_then(|told| told.to_str().ok())
        .expect("it is told");
    assert!(told.contains(&hex(&spans[0].span_id)), "{told}");
}

#[tokio::test]
async fn no_name_of_a_person_stands_in_a_span() {
    let mut collector = Collector::start().await;
    let harness = traced(&collector, 1.0).start().await;
    let email = harness.flameup.people().email("user_1").expect("an e-mail");
    harness.get(&Harness::path(&email)).await;
    harness.get("/api/v1/people/nobody@example.org").await;
    ask(&harness, "PUT", USER, true).await;
    for span in collector.next(6).await {
        let shown = format!("{span:?}");
        for name in [&*email, "nobody@example.org", "user_1"] {
            assert!(!shown.contains(name), "{shown}");
        }
    }
}

#[tokio::test]
async fn a_collector_that_is_away_costs_nobody_an_answer() {
    let gone = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = gone.local_addr().expect("an address");
    drop(gone);
    let endpoint = format!("telemetry.otlp_endpoint = \"http://{address}/v1/traces\"");
    let harness = open().config(&endpoint).start().await;
    assert_eq!(harness.get(USER).await.status, 200);
    harness.gateway.flush().await;
    let dropped = metrics(&harness)
        .await
        .sum("spans_total", &[("fate", "collector")]);
    assert!((dropped - 2.0).abs() < 0.5);
    assert_eq!(harness.get(USER).await.cache_status(), "hit; ttl=60");
}
