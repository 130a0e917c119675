//! Traces: spans of requests and fetches, sent to a collector by OTLP if one is configured.
//!
//! A span is made of the record that is kept anyway when its request or fetch ends, so tracing
//! costs a request what its ids cost. Spans wait in a bounded queue; one task sends them. Where the
//! collector is slow or away they are dropped and counted, and nobody waits.
//!
//! # Specification
//! W3C Trace Context, version 00: `traceparent` is taken from requests and sent on to Flameup. Who
//! sampled a trace out before us is obeyed. `tracestate` is other vendors' and is not passed on.

use std::borrow::Cow;
use std::cell::Cell;
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderValue, Uri};
use opentelemetry::trace::{
    Event, SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_otlp::{ExporterBuildError, Protocol, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanExporter, SpanLinks};
use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};

use super::metrics::Spans;
use crate::headers::TRACEPARENT;
use crate::upstream::connect::Connector;

/// Spans that wait to be sent. A span takes about a kilobyte; a second of 2,000 misses fits.
const MOST_WAITING: usize = 2_048;
/// Spans sent at a time, the collector's own default.
const MOST_AT_ONCE: usize = 512;
/// How long spans are gathered before they are sent.
const GATHERING: Duration = Duration::from_secs(1);
/// How long the collector may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Where a request stands in a trace, and a fetch in its request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    id: u128,
    /// The span that caused this one; zero for none.
    parent: u64,
    span: u64,
    /// Whether the parent is somebody else's.
    is_remote: bool,
    sampled: bool,
}

/// A span that has ended.
#[derive(Debug)]
pub struct Span {
    /// Where it stands.
    pub trace: Trace,
    /// What it is called: a word of ours.
    pub name: &'static str,
    /// Whether we asked; otherwise we were.
    pub is_fetch: bool,
    /// How long it took until now.
    pub took: Duration,
    /// What happened how long after its beginning.
    pub stages: [(&'static str, Option<Duration>); 3],
    /// What is said of it.
    pub attributes: Vec<KeyValue>,
    /// Why it failed, if it has.
    pub failure: Option<String>,
}

/// The way to the collector.
#[derive(Debug)]
pub struct Traces {
    queue: mpsc::Sender<Message>,
    /// Of this many plain hits one is traced; zero for none.
    hits: u128,
}

#[derive(Debug)]
enum Message {
    Span(Box<SpanData>),
    /// To be answered when all before it were sent.
    Flush(oneshot::Sender<()>),
}

impl Trace {
    /// The place of a request with these headers: in the trace that it brought, or in a new one.
    fn of(headers: &HeaderMap) -> Self {
        let mut given = headers.get_all(&TRACEPARENT).iter();
        let parsed = match (given.next(), given.next()) {
            (Some(one), None) => parse(one.as_bytes()),
            _ => None,
        };
        let (trace_id, parent, sampled) =
            parsed.unwrap_or_else(|| (u128::from(random()) << 64 | u128::from(random()), 0, true));
        Self {
            id: trace_id,
            parent,
            span: random(),
            is_remote: parent != 0,
            sampled,
        }
    }

    /// The place of something that this causes.
    #[must_use]
    pub fn child(&self) -> Self {
        Self {
            parent: self.span,
            span: random(),
            is_remote: false,
            ..*self
        }
    }

    /// As it is told to whoever is asked on account of it.
    pub fn to_header(&self) -> Option<HeaderValue> {
        let flags = u8::from(self.sampled);
        let text = format!("00-{:032x}-{:016x}-{flags:02x}", self.id, self.span);
        HeaderValue::try_from(text).ok()
    }

    /// Whether whoever began the trace wants it recorded.
    pub fn is_sampled(&self) -> bool {
        self.sampled
    }

    /// The trace's id as logs have it.
    pub fn id(&self) -> String {
        format!("{:032x}", self.id)
    }
}

impl Traces {
    /// Sends spans to the collector at `endpoint` from now on, in a task of its own; of `hits`, a
    /// share of all, the plain ones too.
    ///
    /// # Errors
    /// When `endpoint` is no URL.
    ///
    /// # Panics
    /// Outside a runtime.
    pub fn start(
        endpoint: &Uri,
        hits: f64,
        connector: Connector,
        counts: Spans,
    ) -> Result<Self, ExporterBuildError> {
        let client = HyperClient::new(connector, TIMEOUT, None);
        let mut exporter = opentelemetry_otlp::SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(endpoint.to_string())
            .with_timeout(TIMEOUT)
            .build()?;
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        let resource = Resource::builder_empty()
            .with_service_name("flameup-gateway")
            .with_attribute(version)
            .build();
        exporter.set_resource(&resource);
        let (queue, spans) = mpsc::channel(MOST_WAITING);
        tokio::spawn(send(exporter, spans, counts));
        Ok(Self {
            queue,
            hits: one_in(hits),
        })
    }

    /// The place of a request with these headers.
    pub fn begin(&self, headers: &HeaderMap) -> Trace {
        Trace::of(headers)
    }

    /// Whether a span is wanted of a request that began so; few are of plain hits.
    pub fn wants(&self, trace: Trace, is_hit: bool) -> bool {
        let chosen = || self.hits != 0 && trace.id.wrapping_add(trace.span.into()) % self.hits == 0;
        trace.sampled && (!is_hit || chosen())
    }

    /// Queues a span. Says whether there was room.
    pub fn send(&self, span: Span) -> bool {
        let message = Message::Span(Box::new(span.into_data()));
        self.queue.try_send(message).is_ok()
    }

    /// Waits until the spans so far have been sent or dropped, and no longer than the collector may
    /// take.
    pub async fn flush(&self) {
        let (done, flushed) = oneshot::channel();
        let flush = async {
            // Neither fails unless the task has ended, and then there is nothing to wait for.
            let _ = self.queue.send(Message::Flush(done)).await;
            let _ = flushed.await;
        };
        let _ = tokio::time::timeout(TIMEOUT, flush).await;
    }
}

impl Span {
    fn into_data(self) -> SpanData {
        let trace = self.trace;
        let end_time = SystemTime::now();
        let start_time = end_time.checked_sub(self.took).unwrap_or(end_time);
        let mut events = SpanEvents::default();
        for (name, after) in self.stages {
            events
                .events
                .extend(after.map(|after| Event::new(name, start_time + after, Vec::new(), 0)));
        }
        let flags = if trace.sampled {
            TraceFlags::SAMPLED
        } else {
            TraceFlags::default()
        };
        SpanData {
            span_context: SpanContext::new(
                TraceId::from(trace.id),
                SpanId::from(trace.span),
                flags,
                false,
                TraceState::default(),
            ),
            parent_span_id: SpanId::from(trace.parent),
            parent_span_is_remote: trace.is_remote,
            span_kind: if self.is_fetch {
                SpanKind::Client
            } else {
                SpanKind::Server
            },
            name: Cow::Borrowed(self.name),
            start_time,
            end_time,
            attributes: self.attributes,
            dropped_attributes_count: 0,
            events,
            links: SpanLinks::default(),
            status: self.failure.map_or(Status::Unset, Status::error),
            instrumentation_scope: InstrumentationScope::builder("flameup-gateway").build(),
        }
    }
}

/// Sends what is queued until nobody can queue anything any more.
async fn send(
    exporter: opentelemetry_otlp::SpanExporter,
    mut queue: mpsc::Receiver<Message>,
    counts: Spans,
) {
    let mut fails = false;
    let mut messages = Vec::with_capacity(MOST_AT_ONCE);
    while let Some(first) = queue.recv().await {
        let gathers = matches!(first, Message::Span(_));
        messages.push(first);
        if gathers {
            gather(&mut queue, &mut messages).await;
        }
        let (mut spans, mut waiting) = (Vec::with_capacity(messages.len()), Vec::new());
        for message in messages.drain(..) {
            match message {
                Message::Span(span) => spans.push(*span),
                Message::Flush(done) => waiting.push(done),
            }
        }
        let count = spans.len();
        if count > 0 {
            let sent = tokio::time::timeout(TIMEOUT, exporter.export(spans)).await;
            let sent = matches!(sent, Ok(Ok(())));
            counts.count(if sent { "sent" } else { "collector" }, count);
            if sent && fails {
                info!("the collector of traces takes spans again");
            } else if !sent && !fails {
                warn!("the collector of traces takes no spans; they are dropped");
            }
            fails = !sent;
        }
        for done in waiting {
            // Who has given up waiting need not be told.
            let _ = done.send(());
        }
    }
}

/// Takes what comes in the time for it, up to a batch or a flush.
async fn gather(queue: &mut mpsc::Receiver<Message>, messages: &mut Vec<Message>) {
    let gathering = async {
        while messages.len() < MOST_AT_ONCE {
            let Some(message) = queue.recv().await else {
                return;
            };
            let flushes = matches!(message, Message::Flush(_));
            messages.push(message);
            if flushes {
                return;
            }
        }
    };
    // A batch that is not full when the time is over is sent as it is.
    let _ = tokio::time::timeout(GATHERING, gathering).await;
}

/// Reads a `traceparent`: trace, parent, whether it is sampled. A later version may have more fields
/// (Trace Context §4.3).
fn parse(value: &[u8]) -> Option<(u128, u64, bool)> {
    let text = std::str::from_utf8(value).ok()?;
    let lower = |part: &str| {
        part.bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    let mut parts = text.split('-');
    let [version, trace_id, parent, flags] = [(); 4].map(|()| parts.next());
    let (version, trace_id, parent, flags) = (version?, trace_id?, parent?, flags?);
    let sizes = [version, trace_id, parent, flags].map(str::len);
    let is_last = parts.next().is_none();
    if sizes != [2, 32, 16, 2] || version == "ff" || version == "00" && !is_last {
        return None;
    }
    if ![version, trace_id, parent, flags].into_iter().all(lower) {
        return None;
    }
    let trace_id = u128::from_str_radix(trace_id, 16)
        .ok()
        .filter(|id| *id != 0)?;
    let parent = u64::from_str_radix(parent, 16).ok().filter(|id| *id != 0)?;
    let flags = u8::from_str_radix(flags, 16).ok()?;
    Some((trace_id, parent, flags & 1 == 1))
}

/// A share of all as one in so many; zero for none.
fn one_in(share: f64) -> u128 {
    if share <= 0.0 {
        return 0;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "at least one, and what is too large for the type is rare enough"
    )]
    let one_in = (1.0 / share).round().max(1.0) as u128;
    one_in
}

/// A number that is not zero, and unlike those of other threads and processes. For telling spans
/// apart, not for secrets.
fn random() -> u64 {
    thread_local! {
        static STATE: (ahash::RandomState, Cell<u64>) =
            (ahash::RandomState::new(), const { Cell::new(0) });
    }
    STATE.with(|(random, count)| {
        count.set(count.get().wrapping_add(1));
        random.hash_one(count.get()).max(1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIVEN: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn headers(values: &[&str]) -> HeaderMap {
        let values = values.iter();
        let parent = |value: &&str| {
            let value = HeaderValue::from_str(value).expect("a header");
            (TRACEPARENT, value)
        };
        values.map(parent).collect()
    }

    #[test]
    fn a_request_goes_on_in_the_trace_that_it_brings() {
        let trace = Trace::of(&headers(&[GIVEN]));
        let child = trace.child();
        assert_eq!(trace.id(), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(trace.parent, 0xb7ad_6b71_6920_3331);
        assert_eq!((child.id, child.parent), (trace.id, trace.span));
        assert!(trace.is_remote && !child.is_remote);
        let told = child.to_header().expect("a header");
        let told = Trace::of(&headers(&[told.to_str().expect("text")]));
        assert_eq!((told.id, told.parent), (trace.id, child.span));
    }

    #[test]
    fn what_is_no_traceparent_begins_a_new_trace() {
        let [zeros, long] = ["0".repeat(32), format!("{GIVEN}-00")];
        for given in [
            &[][..],
            &[GIVEN, GIVEN],
            &[""],
            &["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331"],
            &["ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"],
            &["00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01"],
            &["00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"],
            &[&format!("00-{zeros}-b7ad6b7169203331-01")],
            &["00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01"],
            &[&long],
        ] {
            let trace = Trace::of(&headers(given));
            assert_eq!((trace.parent, trace.sampled), (0, true), "{given:?}");
            assert_ne!(trace, Trace::of(&headers(given)), "{given:?}");
        }
        let later = format!("01{}-what", &GIVEN[2..]);
        assert_ne!(Trace::of(&headers(&[&later])).parent, 0);
    }

    #[tokio::test]
    async fn of_plain_hits_one_in_so_many_is_wanted_and_none_that_was_sampled_out() {
        let (queue, _spans) = mpsc::channel(1);
        let all = Traces {
            queue,
            hits: one_in(1.0),
        };
        let trace = Trace::of(&HeaderMap::new());
        assert!(all.wants(trace, true));
        let few = Traces {
            hits: one_in(0.01),
            ..all
        };
        assert!(few.wants(trace, false));
        let wanted = (0..10_000).filter(|_| few.wants(Trace::of(&HeaderMap::new()), true));
        assert!((20..500).contains(&wanted.count()));
        let out = Trace::of(&headers(&[&GIVEN.replace("-01", "-00")]));
        assert!(!few.wants(out, false) && !few.wants(out, true));
        assert!(
            !Traces {
                hits: one_in(0.0),
                ..few
            }
            .wants(trace, true)
        );
    }
}
