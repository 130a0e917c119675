//! Sends offences and judges what comes of them.

use std::fmt::Write as _;

use flameup_gateway::sandbox::Received;

use crate::support::passing::open;
use crate::support::{Harness, Wire};

/// A person who is stored, and must stay as stored.
pub(crate) const STORED: &str = "/api/v1/people/user_1";

/// Whom smuggled requests ask about. Nobody else does.
pub(crate) const SMUGGLED: &str =
    "GET /api/v1/people/user_77 HTTP/1.1\r\nHost: a\r\nX-Smuggled: yes\r\n\r\n";

/// What has to come of an offence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is refused, or left without an answer, and nothing more is read.
    Closed,
    /// It is refused. Where it ends is beyond doubt, so the connection may go on.
    Refused,
}

/// A gateway whose callers may do everything, and what has gone wrong so far.
pub(crate) struct Kit {
    harness: Harness,
    stored: Vec<u8>,
    wrong: String,
    cases: usize,
}

impl Kit {
    pub(crate) async fn start() -> Self {
        let limits = "server.limits.header_timeout = \"250ms\"\n\
                      server.limits.idle_timeout = \"250ms\"\n\
                      upstream.timeout = \"400ms\"\nupstream.connect_timeout = \"400ms\"";
        let harness = open().config(limits).start().await;
        let stored = harness.get(STORED).await.body.to_vec();
        harness.flameup.clear_received();
        let (wrong, cases) = (String::new(), 0);
        Self {
            harness,
            stored,
            wrong,
            cases,
        }
    }

    pub(crate) fn harness(&self) -> &Harness {
        &self.harness
    }

    /// Sends an offence, and after it a request that must not be answered if it may not.
    pub(crate) async fn try_out(&mut self, offence: impl AsRef<[u8]>, fate: Fate) {
        let offence = offence.as_ref();
        let mut wire = Wire::connect(self.harness.address()).await;
        let mut bytes = offence.to_vec();
        if fate == Fate::Closed {
            bytes.extend_from_slice(SMUGGLED.as_bytes());
        }
        // It may be closed before all of it is sent.
        let _ = wire.try_send(&bytes).await;
        let answer = wire.rest().await;
        self.judge(&String::from_utf8_lossy(offence), &answer);
    }

    /// Judges an answer, and what reached Flameup.
    fn judge(&mut self, name: &str, answer: &[u8]) {
        self.cases += 1;
        let answer = String::from_utf8_lossy(answer);
        let name: String = name.chars().take(200).collect();
        if let Err(problem) = refusal(&answer) {
            self.complain(&name, &format!("{problem}: {answer:.300}"));
        }
        self.judge_flameup(&name);
    }

    /// Judges what reached Flameup.
    fn judge_flameup(&mut self, name: &str) {
        let received = self.harness.flameup.received();
        if !received.is_empty() {
            let told = |request: &Received| format!("{} {}", request.method, request.target);
            let received: Vec<_> = received.iter().map(told).collect();
            self.complain(name, &format!("Flameup saw {received:?}"));
            self.harness.flameup.clear_received();
        }
    }

    /// Counts a case that was judged elsewhere.
    pub(crate) fn count(&mut self, name: &str, problem: Option<String>) {
        self.cases += 1;
        if let Some(problem) = problem {
            self.complain(name, &problem);
        }
        self.judge_flameup(name);
    }

    fn complain(&mut self, name: &str, problem: &str) {
        let _ = writeln!(self.wrong, "{name:?}\n    {problem:?}");
    }

    /// Nothing went wrong, there were at least so many cases, and what was stored still is.
    pub(crate) async fn end(self, least: usize) {
        assert!(self.wrong.is_empty(), "{}", self.wrong);
        assert!(self.cases >= least, "only {} cases", self.cases);
        let answer = self.harness.get(STORED).await;
        assert_eq!(answer.body, self.stored);
        assert!(answer.cache_status().starts_with("hit"), "{answer:?}");
        assert_eq!(self.harness.flameup.connections(), 1, "nothing was begun");
    }
}

/// Whether this is nothing, or one refusal of the gateway's own and nothing after it.
fn refusal(answer: &str) -> Result<(), String> {
    if answer.is_empty() {
        return Ok(());
    }
    let Some((head, body)) = answer.split_once("\r\n\r\n") else {
        return Err("half an answer".to_owned());
    };
    let head = head.to_ascii_lowercase();
    let status: u16 = head
        .get(9..12)
        .and_then(|code| code.parse().ok())
        .unwrap_or(0);
    let field = |name: &str| {
        let mut lines = head.split("\r\n");
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    };
    if !(400..500).contains(&status) {
        return Err(format!("status {status}"));
    }
    let own =
        field("proxy-status").is_some_and(|value| value.starts_with("flameup-gateway; error="));
    if !own || field("content-type") != Some("application/json") {
        return Err("not an answer of the gateway's own".to_owned());
    }
    // To HEAD there is none.
    let envelope = format!("\"code\":{status}}}");
    let length: usize = field("content-length")
        .and_then(|length| length.parse().ok())
        .unwrap_or(0);
    if !(body.is_empty() || body.len() == length && body.ends_with(&envelope)) {
        return Err("not one answer".to_owned());
    }
    Ok(())
}
