//! A rule, how it is broken, and what must come of it.

use super::frame::{Code, Frame, GOAWAY, HEADERS, RST_STREAM};
use super::gateway::Gateway;
use super::hpack::status;
use super::peer::{Event, Peer};

/// Far beyond the streams of any case.
const GOOD_STREAM: u32 = 1001;

/// The end of a connection for a reason that has a better name.
pub(crate) const ENDED: Outcome = Outcome::Closed(Some(Code::PROTOCOL_ERROR));

/// Begins a case: a section of a specification, and what the client does.
pub(crate) fn case(section: &'static str, name: &'static str) -> Case {
    Case {
        section,
        name,
        greeted: true,
        steps: Vec::new(),
        stream: 1,
        expected: None,
        known: None,
    }
}

/// A row of a table.
pub(crate) struct Case {
    section: &'static str,
    name: &'static str,
    greeted: bool,
    steps: Vec<Step>,
    /// The stream whose end is looked at.
    stream: u32,
    expected: Option<Expected>,
    known: Option<(Outcome, &'static str)>,
}

enum Step {
    Send(Vec<u8>),
    /// Goes on when an answer on this stream has begun.
    Answered(u32),
    /// Goes on when the gateway has ended this stream, in whatever way.
    Ended(u32),
    /// Goes on when the gateway has taken in all that was sent.
    TakenIn,
}

/// What a specification allows.
#[derive(Clone, Copy, Debug)]
enum Expected {
    /// The connection ends with one of these codes.
    ConnectionError(&'static [Code]),
    /// The stream ends with one of these codes, or the connection does (RFC 9113 §5.4).
    StreamError(&'static [Code]),
    /// As for a stream error, or an answer that says the request is bad (§8.1.1).
    Malformed,
    /// The connection ends, with or without saying why.
    Closed,
    Answer(u16),
    /// Nothing comes of it.
    Ignored,
}

/// What came of a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The connection ended, with this code if with any.
    Closed(Option<Code>),
    /// The stream ended with this code.
    Reset(Code),
    /// The stream was answered with this status.
    Answer(u16),
    /// All that was sent was taken in, and nothing came of it.
    Ignored,
    /// Nothing came, not even an acknowledgement; or the end did not come that was announced.
    Silence,
}

impl Case {
    /// Begins before the preface, not after settings were exchanged.
    pub(crate) fn before_the_preface(mut self) -> Self {
        self.greeted = false;
        self
    }

    pub(crate) fn send(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.steps.push(Step::Send(bytes.as_ref().to_vec()));
        self
    }

    pub(crate) fn until_answered(mut self, stream: u32) -> Self {
        self.steps.push(Step::Answered(stream));
        self
    }

    pub(crate) fn until_ended(mut self, stream: u32) -> Self {
        self.steps.push(Step::Ended(stream));
        self
    }

    pub(crate) fn until_taken_in(mut self) -> Self {
        self.steps.push(Step::TakenIn);
        self
    }

    /// Looks at another stream than 1.
    pub(crate) fn on_stream(mut self, stream: u32) -> Self {
        self.stream = stream;
        self
    }

    pub(crate) fn connection_error(self, codes: &'static [Code]) -> Self {
        self.expect(Expected::ConnectionError(codes))
    }

    pub(crate) fn stream_error(self, codes: &'static [Code]) -> Self {
        self.expect(Expected::StreamError(codes))
    }

    /// A header block that cannot be read (RFC 9113 §4.3).
    pub(crate) fn unreadable(self) -> Self {
        self.connection_error(&[Code::COMPRESSION_ERROR]).known(
            ENDED,
            "the library has one code for whatever it cannot read",
        )
    }

    /// A frame whose length is not that of its type (RFC 9113 §4.2).
    pub(crate) fn wrong_size(self) -> Self {
        self.connection_error(&[Code::FRAME_SIZE_ERROR]).known(
            ENDED,
            "the library keeps FRAME_SIZE_ERROR for what is too large",
        )
    }

    /// More of a request that has ended (RFC 9113 §5.1).
    pub(crate) fn after_the_end(self) -> Self {
        self.stream_error(&[Code::STREAM_CLOSED]).known(
            ENDED,
            "the library ends the connection, and says STREAM_CLOSED only of what it has forgotten",
        )
    }

    pub(crate) fn malformed(self) -> Self {
        self.expect(Expected::Malformed)
    }

    pub(crate) fn closed(self) -> Self {
        self.expect(Expected::Closed)
    }

    pub(crate) fn answer(self, status: u16) -> Self {
        self.expect(Expected::Answer(status))
    }

    pub(crate) fn ignored(self) -> Self {
        self.expect(Expected::Ignored)
    }

    fn expect(mut self, expected: Expected) -> Self {
        self.expected = Some(expected);
        self
    }

    /// Another outcome than the specification's, held to until it is mended.
    pub(crate) fn known(mut self, outcome: Outcome, why: &'static str) -> Self {
        self.known = Some((outcome, why));
        self
    }

    /// Tells what is wrong, if anything is.
    async fn run(self, gateway: &Gateway) -> Result<(), String> {
        let expected = self.expected.expect("each row says what it expects");
        let (section, name, known) = (self.section, self.name, self.known);
        let (outcome, mut peer) = self.play(gateway, expected).await;
        let place = format!("{section} {name}: {outcome:?}");
        match known {
            Some((pinned, why)) if outcome != pinned => {
                return Err(format!(
                    "{place}, no longer {pinned:?} ({why}); {expected:?}"
                ));
            }
            Some(_) if expected.allows(outcome) => {
                return Err(format!("{place} is right, and listed as wrong"));
            }
            None if !expected.allows(outcome) => {
                return Err(format!("{place}, not {expected:?}"));
            }
            _ => {}
        }
        if matches!(outcome, Outcome::Closed(_) | Outcome::Silence) {
            return Ok(());
        }
        let served = peer.ask(GOOD_STREAM).await;
        served.map_err(|instead| format!("{place}, and then a good request: {instead}"))
    }

    async fn play(self, gateway: &Gateway, expected: Expected) -> (Outcome, Peer) {
        let mut peer = if self.greeted {
            Peer::greeted(gateway.address()).await
        } else {
            Peer::connect(gateway.address()).await
        };
        for step in self.steps {
            let found = match step {
                Step::Send(bytes) => {
                    peer.send(bytes).await;
                    continue;
                }
                Step::Answered(stream) => peer.find(|frame| said(frame, stream).is_some()).await,
                Step::Ended(stream) => peer.find(|frame| ends(frame, stream)).await,
                Step::TakenIn => {
                    peer.mark().await;
                    peer.find(Peer::is_mark).await
                }
            };
            if found.is_err() {
                return (Outcome::Silence, peer);
            }
        }
        // Before there is HTTP/2, nothing can be marked.
        if !matches!(expected, Expected::Closed) {
            peer.mark().await;
        }
        let outcome = observe(&mut peer, self.stream, expected).await;
        (outcome, peer)
    }
}

/// Whether the gateway has nothing more to say on this stream.
fn ends(frame: &Frame, stream: u32) -> bool {
    frame.stream == stream && (frame.ends_stream() || frame.kind == RST_STREAM)
}

/// Listens until it is clear what the gateway makes of what was sent.
async fn observe(peer: &mut Peer, stream: u32, expected: Expected) -> Outcome {
    let mut of_stream = None;
    let mut taken_in = false;
    let mut code = None;
    loop {
        match peer.next().await {
            Event::Closed => return Outcome::Closed(code),
            Event::Silence if code.is_none() && taken_in => {
                return of_stream.unwrap_or(Outcome::Ignored);
            }
            Event::Silence => return Outcome::Silence,
            Event::Frame(frame) if frame.kind == GOAWAY => code = Some(frame.code()),
            Event::Frame(frame) => {
                taken_in |= Peer::is_mark(&frame);
                of_stream = of_stream.or_else(|| said(&frame, stream));
            }
        }
        let is_clear = of_stream.is_some() || !expected.concerns_a_stream();
        if taken_in && is_clear && code.is_none() {
            return of_stream.unwrap_or(Outcome::Ignored);
        }
    }
}

/// What a frame says about a stream's request, if anything.
fn said(frame: &Frame, stream: u32) -> Option<Outcome> {
    match frame.kind {
        _ if frame.stream != stream => None,
        RST_STREAM => Some(Outcome::Reset(frame.code())),
        HEADERS => Some(Outcome::Answer(status(&frame.payload))),
        _ => None,
    }
}

impl Expected {
    fn allows(self, outcome: Outcome) -> bool {
        match (self, outcome) {
            (
                Self::ConnectionError(codes) | Self::StreamError(codes),
                Outcome::Closed(Some(code)),
            )
            | (Self::StreamError(codes), Outcome::Reset(code)) => codes.contains(&code),
            (Self::Malformed, Outcome::Closed(Some(code)) | Outcome::Reset(code)) => {
                code == Code::PROTOCOL_ERROR
            }
            (Self::Malformed, Outcome::Answer(status)) => (400..500).contains(&status),
            (Self::Answer(expected), Outcome::Answer(status)) => expected == status,
            (Self::Closed, Outcome::Closed(_)) | (Self::Ignored, Outcome::Ignored) => true,
            _ => false,
        }
    }

    /// Whether to wait for a word about a stream, which may come after later frames were taken in.
    fn concerns_a_stream(self) -> bool {
        matches!(
            self,
            Self::StreamError(_) | Self::Malformed | Self::Answer(_)
        )
    }
}

/// Runs a table, each case on a connection of its own, and asserts that nothing was forwarded.
pub(crate) async fn run(cases: Vec<Case>) {
    let gateway = Gateway::start().await;
    let mut wrong = Vec::new();
    let count = cases.len();
    for case in cases {
        wrong.extend(case.run(&gateway).await.err());
    }
    assert!(
        wrong.is_empty(),
        "{} of {count}:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    gateway.assert_nothing_forwarded();
}
