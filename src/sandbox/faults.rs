//! Faults on demand: what a fault is, which request it strikes, and what it makes of the answer.
//!
//! # Invariants
//! - The oldest fault that matches strikes, and a fault with a count strikes exactly that often.
//! - A fault that only breaks the delivery lets the request take effect first, so a write whose
//!   answer is lost has happened; one that replaces the answer prevents it. [`Fault::applied`] says
//!   otherwise.

use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONNECTION, CONTENT_LENGTH, HeaderName, HeaderValue};
use http::{HeaderMap, Method, StatusCode};
use jiff::fmt::serde::unsigned_duration::friendly::compact;
use parking_lot::Mutex;
use serde::{Deserialize, Deserializer};

use super::answer::{Answer, Delivery, Script, Step};
use super::errors::ErrorShape;
use super::matcher::Matcher;
use super::people::People;
use super::route::Located;

/// A fault, the requests it is meant for, and how often it strikes.
#[derive(Clone, Debug, Deserialize)]
pub struct Fault {
    #[serde(flatten)]
    matcher: Matcher,
    #[serde(flatten)]
    kind: FaultKind,
    #[serde(default)]
    times: Option<u32>,
    #[serde(default)]
    applied: Option<bool>,
}

/// What goes wrong. In JSON the variant is `"kind"`, in kebab case, beside its fields.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum FaultKind {
    /// Never answers, and keeps the connection open until the other side closes it.
    Hang,
    /// Answers after this much longer.
    Delay {
        /// How much longer.
        #[serde(with = "compact::required")]
        by: Duration,
    },
    /// TCP RST instead of an answer.
    Reset,
    /// TCP RST after the head and half the body.
    ResetMidBody,
    /// Closes after this many bytes of the body; `Content-Length` announces all of it.
    Truncate {
        /// Bytes of the body that are still sent.
        bytes: usize,
    },
    /// `Content-Length` announces this much more than is sent; then closes.
    LongLength {
        /// Bytes announced in excess.
        by: usize,
    },
    /// `Content-Length` announces this much less than is sent; stays open.
    ShortLength {
        /// Bytes sent in excess.
        by: usize,
    },
    /// Another status, with a body in one of the error shapes unless one is given.
    Status {
        /// The status code; an impossible one becomes 500.
        code: u16,
        /// Further headers.
        #[serde(default)]
        headers: Vec<(String, String)>,
        /// The body, if it is to be a particular one; served as JSON.
        #[serde(default)]
        body: Option<String>,
        /// The shape of the body otherwise.
        #[serde(default)]
        shape: ErrorShape,
    },
    /// 200 with an HTML page, as portals and balancers do.
    Html200,
    /// The normal answer plus `Set-Cookie`, `Server` and hop-by-hop headers.
    SetCookie,
    /// The normal answer plus these headers.
    Headers {
        /// Names and values; a header of the answer with the same name is replaced.
        headers: Vec<(String, String)>,
    },
    /// The head at once, then the body a few bytes at a time.
    SlowDrip {
        /// Bytes per drop; zero is taken as one.
        bytes: usize,
        /// Time between drops.
        #[serde(with = "compact::required")]
        every: Duration,
    },
    /// Head and body a few bytes at a time.
    SlowHead {
        /// Bytes per drop; zero is taken as one.
        bytes: usize,
        /// Time between drops.
        #[serde(with = "compact::required")]
        every: Duration,
    },
    /// 200 with a JSON body of about this size, sent as fast as it is read.
    Huge {
        /// Size of the body.
        bytes: u64,
    },
    /// These bytes instead of an HTTP message, then closes. Text in JSON.
    Raw {
        /// What is sent.
        #[serde(deserialize_with = "text_bytes")]
        bytes: Vec<u8>,
    },
    /// 200 with the body of somebody else.
    OtherPerson {
        /// Who it is; unknown ones make it a plain 404.
        external_id: String,
    },
    /// 500 with a body that quotes the `Authorization` it was asked with.
    EchoKey,
    /// The normal answer; then closes without having said so.
    CloseIdle,
}

impl Fault {
    /// A fault that strikes every request until it is cleared.
    pub fn new(kind: FaultKind) -> Self {
        Self {
            matcher: Matcher::any(),
            kind,
            times: None,
            applied: None,
        }
    }

    /// Strikes only requests that match.
    #[must_use]
    pub fn on(mut self, matcher: Matcher) -> Self {
        self.matcher = matcher;
        self
    }

    /// Strikes only this often.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = Some(times);
        self
    }

    /// Strikes once.
    #[must_use]
    pub fn once(self) -> Self {
        self.times(1)
    }

    /// Decides whether the request takes effect although its answer is spoilt.
    #[must_use]
    pub fn applied(mut self, applied: bool) -> Self {
        self.applied = Some(applied);
        self
    }

    pub(super) fn kind(&self) -> &FaultKind {
        &self.kind
    }

    /// Whether the request is carried out.
    pub(super) fn lets_through(&self) -> bool {
        self.applied.unwrap_or(!self.kind.replaces())
    }
}

/// What a fault may need to know about the request it strikes.
#[derive(Debug)]
pub(super) struct Struck<'a> {
    pub(super) headers: &'a HeaderMap,
    pub(super) people: Option<&'a People>,
    pub(super) arrival: u64,
}

impl FaultKind {
    /// Whether the answer is another than the API would give.
    fn replaces(&self) -> bool {
        matches!(
            self,
            Self::Status { .. }
                | Self::Html200
                | Self::Huge { .. }
                | Self::Raw { .. }
                | Self::OtherPerson { .. }
                | Self::EchoKey
        )
    }

    /// The answer in place of the API's, for those kinds that have one.
    pub(super) fn replacement(&self, struck: &Struck<'_>) -> Option<Answer> {
        let answer = match self {
            Self::Status {
                code,
                headers,
                body,
                shape,
            } => {
                let status = StatusCode::from_u16(*code);
                let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                let mut answer = shape.answer(status, "A fault was asked for", struck.arrival);
                if let Some(body) = body {
                    answer.body = Bytes::from(body.clone());
                }
                add(&mut answer.headers, headers);
                answer
            }
            Self::Html200 => {
                let page =
                    Bytes::from_static(b"<!doctype html><title>Welcome</title><p>Please sign in.");
                Answer::new(StatusCode::OK, "text/html; charset=utf-8", page)
            }
            Self::Huge { .. } | Self::Raw { .. } => Answer::json(StatusCode::OK, Bytes::new()),
            Self::OtherPerson { external_id } => {
                let body = struck.people?.body_by_external_id(external_id);
                Answer::json(StatusCode::OK, body?)
            }
            Self::EchoKey => echo(struck),
            _ => return None,
        };
        Some(answer)
    }

    /// Puts an answer on its way as this fault wants it.
    pub(super) fn deliver(&self, mut answer: Answer) -> Delivery {
        let body = answer.body.clone();
        let script = match self {
            Self::Hang => Script::headless(vec![Step::Hang]),
            Self::Reset => Script::headless(vec![Step::Reset]),
            Self::ResetMidBody => {
                let half = body.slice(..body.len() / 2);
                Script::announcing(answer, body.len(), vec![Step::Send(half), Step::Reset])
            }
            Self::Truncate { bytes } => {
                let part = body.slice(..body.len().min(*bytes));
                Script::announcing(answer, body.len(), vec![Step::Send(part)])
            }
            Self::LongLength { by } => {
                let length = body.len().saturating_add(*by);
                Script::announcing(answer, length, vec![Step::Send(body)])
            }
            Self::ShortLength { by } => {
                let length = body.len().saturating_sub(*by);
                Script::announcing(answer, length, vec![Step::Send(body), Step::Hang])
            }
            Self::CloseIdle => Script::announcing(answer, body.len(), vec![Step::Send(body)]),
            Self::SlowDrip { bytes, every } => {
                answer
                    .headers
                    .insert(CONNECTION, HeaderValue::from_static("close"));
                Script::announcing(answer, body.len(), drops(&body, *bytes, *every))
            }
            Self::SlowHead { bytes, every } => {
                let whole = [head_bytes(&answer, body.len()), body].concat();
                Script::headless(drops(&Bytes::from(whole), *bytes, *every))
            }
            Self::Huge { bytes } => huge(answer, *bytes),
            Self::Raw { bytes } => Script::headless(vec![Step::Send(Bytes::from(bytes.clone()))]),
            Self::SetCookie => return Delivery::Whole(with_cookie(answer)),
            Self::Headers { headers } => {
                add(&mut answer.headers, headers);
                return Delivery::Whole(answer);
            }
            _ => return Delivery::Whole(answer),
        };
        Delivery::Script(script)
    }
}

impl Script {
    fn headless(steps: Vec<Step>) -> Self {
        Self { head: None, steps }
    }

    /// A head with this `Content-Length`, true or not.
    fn announcing(mut answer: Answer, length: usize, steps: Vec<Step>) -> Self {
        answer
            .headers
            .insert(CONTENT_LENGTH, HeaderValue::from(length));
        Self {
            head: Some(answer),
            steps,
        }
    }
}

/// The faults that are waiting to strike.
#[derive(Debug, Default)]
pub(super) struct Faults(Mutex<Vec<Fault>>);

impl Faults {
    pub(super) fn add(&self, fault: Fault) {
        self.0.lock().push(fault);
    }

    pub(super) fn clear(&self) {
        self.0.lock().clear();
    }

    /// Takes one strike of the oldest fault that matches.
    pub(super) fn claim(
        &self,
        method: &Method,
        path: &str,
        located: Option<&Located>,
    ) -> Option<Fault> {
        let mut faults = self.0.lock();
        let matches = |fault: &Fault| fault.matcher.matches(method, path, located);
        let position = faults
            .iter()
            .position(|fault| fault.times != Some(0) && matches(fault))?;
        let fault = &mut faults[position];
        fault.times = fault.times.map(|left| left - 1);
        if fault.times == Some(0) {
            Some(faults.remove(position))
        } else {
            Some(fault.clone())
        }
    }
}

/// The head as HTTP/1.1 writes it, with the headers as they are.
pub(super) fn head_bytes(answer: &Answer, length: usize) -> Bytes {
    let reason = answer.status.canonical_reason().unwrap_or_default();
    let mut head = format!("HTTP/1.1 {} {reason}\r\n", answer.status.as_u16()).into_bytes();
    for (name, value) in answer.headers.iter() {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    if !answer.headers.contains_key(CONTENT_LENGTH) {
        head.extend_from_slice(format!("content-length: {length}\r\n").as_bytes());
    }
    head.extend_from_slice(b"\r\n");
    Bytes::from(head)
}

fn drops(whole: &Bytes, bytes: usize, every: Duration) -> Vec<Step> {
    let chunks = whole.chunks(bytes.max(1));
    let pairs = chunks.map(|chunk| [Step::Send(whole.slice_ref(chunk)), Step::Wait(every)]);
    pairs.flatten().collect()
}

fn huge(mut answer: Answer, bytes: u64) -> Script {
    const FRAME: (&[u8], &[u8]) = (br#"{"padding":""#, br#""}"#);
    let frame = (FRAME.0.len() + FRAME.1.len()) as u64;
    let filler = bytes.saturating_sub(frame);
    answer
        .headers
        .insert(CONTENT_LENGTH, HeaderValue::from(filler + frame));
    let steps = vec![
        Step::Send(Bytes::from_static(FRAME.0)),
        Step::Fill(filler),
        Step::Send(Bytes::from_static(FRAME.1)),
    ];
    Script {
        head: Some(answer),
        steps,
    }
}

fn echo(struck: &Struck<'_>) -> Answer {
    let key = struck.headers.get(AUTHORIZATION).map(HeaderValue::as_bytes);
    let key = String::from_utf8_lossy(key.unwrap_or_default());
    let message = format!("Could not process the request with Authorization: {key}");
    ErrorShape::A.answer(StatusCode::INTERNAL_SERVER_ERROR, &message, struck.arrival)
}

fn with_cookie(mut answer: Answer) -> Answer {
    const EXTRA: [(&str, &str); 6] = [
        (
            "set-cookie",
            "flameup_session=0123456789abcdef; Path=/; HttpOnly",
        ),
        ("server", "flameup-sandbox"),
        ("keep-alive", "timeout=5, max=100"),
        ("connection", "x-hop"),
        ("x-hop", "1"),
        ("proxy-authenticate", "Basic realm=\"sandbox\""),
    ];
    for (name, value) in EXTRA {
        let (name, value) = (
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
        answer.headers.insert(name, value);
    }
    answer
}

/// Sets headers from text; what is no header is left out.
fn add(headers: &mut HeaderMap, extra: &[(String, String)]) {
    for (name, value) in extra {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), HeaderValue::from_str(value)) {
            headers.insert(name, value);
        }
    }
}

fn text_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    String::deserialize(deserializer).map(String::into_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(faults: &Faults, path: &str) -> Option<FaultKind> {
        let located = Located::of(&Method::GET, path).ok();
        let fault = faults.claim(&Method::GET, path, located.as_ref());
        fault.map(|fault| fault.kind)
    }

    #[test]
    fn faults_strike_as_often_as_told_oldest_first() {
        let faults = Faults::default();
        faults.add(Fault::new(FaultKind::Hang).on(Matcher::id("a")).times(2));
        faults.add(Fault::new(FaultKind::Reset));
        assert_eq!(claim(&faults, "/api/v1/people/a"), Some(FaultKind::Hang));
        assert_eq!(claim(&faults, "/api/v1/people/b"), Some(FaultKind::Reset));
        assert_eq!(claim(&faults, "/api/v1/people/a"), Some(FaultKind::Hang));
        assert_eq!(claim(&faults, "/api/v1/people/a"), Some(FaultKind::Reset));
        faults.clear();
        assert_eq!(claim(&faults, "/api/v1/people/a"), None);
    }

    #[test]
    fn faults_are_read_from_json() {
        let text =
            r#"{"kind":"slow-drip","bytes":3,"every":"10ms","method":"GET","id":"a/b","times":1}"#;
        let fault: Fault = serde_json::from_str(text).expect("a fault");
        let every = Duration::from_millis(10);
        assert_eq!(fault.kind, FaultKind::SlowDrip { bytes: 3, every });
        assert_eq!(fault.times, Some(1));
        assert!(fault.lets_through());
        let text = r#"{"kind":"status","code":503,"headers":[["retry-after","7"]]}"#;
        let fault: Fault = serde_json::from_str(text).expect("a fault");
        assert!(!fault.lets_through());
        assert!(serde_json::from_str::<Fault>(r#"{"kind":"nonsense"}"#).is_err());
    }

    #[test]
    fn drops_are_cut_from_the_whole_in_order() {
        let steps = drops(&Bytes::from_static(b"abcde"), 2, Duration::ZERO);
        let sent: Vec<u8> = steps
            .iter()
            .filter_map(|step| match step {
                Step::Send(bytes) => Some(bytes.to_vec()),
                _ => None,
            })
            .flatten()
            .collect();
        assert_eq!(sent, b"abcde");
        assert_eq!(steps.len(), 6);
    }
}
