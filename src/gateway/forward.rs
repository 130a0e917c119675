//! Requests that are not lookups: sent on once, answered by Flameup alone.
//!
//! The caller's task waits for a turn; then a task of its own sends the request and passes the answer
//! back. It survives a client that leaves, so that a change which Flameup has been told of is seen to
//! its end, and no slow client keeps a place among the forwards beyond the upstream's deadline.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Version, request};
use hyper::body::Body as HttpBody;
use tokio::sync::oneshot;
use tokio::time::Instant as Deadline;
use tokio_util::sync::DropGuard;

mod intake;
mod pieces;

use super::Gateway;
use super::change::{Asked, Change, MOST_KEPT_BYTES};
use super::exchange::id::RequestId;
use super::fetch::refused;
use super::telling::Telling;
use crate::answer::{Answer, Head};
use crate::auth::Caller;
use crate::body::{Body, Feed};
use crate::cache::changes::Started;
use crate::cache::collapse;
use crate::cache::control::RequestDirectives;
use crate::cache::status::Reason;
use crate::failure::{Failure, RequestError};
use crate::route::{Endpoint, Forward};
use crate::shield::breaker::Outcome;
use crate::shield::queue::Subject;
use crate::shield::{Claim, Permit, Purpose};
use crate::telemetry::trace::Trace;
use crate::telemetry::{Journey, Spending};
use crate::upstream::receipt::{Receipt, Stages};
use crate::upstream::relay::{Relay, RelayRequest, Relayed};
use crate::upstream::request::Outgoing;
use crate::upstream::upload::{Progress, Stage, Upload};
use crate::upstream::{self, BoxError};
use crate::workspace::Workspace;
use intake::Intake;
use pieces::{Kept, Pieces};

/// How much of a change's answer is held back until other gateways have confirmed the change, so that its
/// head can say whether they have. A Person has some 560 bytes, and a batch of 100 is 60 KB.
const MOST_HELD_BYTES: usize = 256 * 1024;

/// A request as the gateway passes it on.
#[derive(Debug)]
pub(super) struct Passage<'a, B> {
    pub(super) caller: &'a Caller,
    pub(super) forward: Forward<'a>,
    pub(super) request: &'a request::Parts,
    /// Its body, if it has one.
    pub(super) body: Option<B>,
    pub(super) request_id: &'a RequestId,
    /// How long it may wait for its turn.
    pub(super) patience: Duration,
}

/// The forward itself, free of the request that caused it.
struct Passing {
    gateway: Arc<Gateway>,
    workspace: Arc<Workspace>,
    client: Arc<str>,
    endpoint: Endpoint,
    /// The workspace that the path names.
    named: Option<String>,
    purpose: Purpose,
    /// How far the request's body has come, if there is one.
    progress: Option<Arc<Progress>>,
    /// The body goes no further than this.
    sending: Option<DropGuard>,
    change: Option<Change>,
    deadline: Deadline,
    began: Instant,
    /// Keeps the changes in mind that come after this was sent, for what it shows of people.
    started: Started,
    /// Where it stands, where traces are sent to a collector.
    trace: Option<Trace>,
    /// How long its turn was waited for.
    waited: Duration,
}

/// A request whose answer has ended, or is to come to its end.
struct Settling {
    status: Option<StatusCode>,
    stages: Stages,
    /// Not there once it is settled.
    receipt: Option<Receipt>,
}

impl Gateway {
    /// Sends a request on, once, and answers with what comes back.
    pub(super) async fn forward<B>(self: &Arc<Self>, passage: Passage<'_, B>) -> Answer
    where
        B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Unpin + Send + 'static,
    {
        let reads = matches!(passage.request.method, Method::GET | Method::HEAD);
        if reads && RequestDirectives::of(&passage.request.headers).only_if_cached {
            return Answer::refused(&Failure::OnlyIfCached);
        }
        let (reason, purpose) = if reads {
            (Reason::Bypass, Purpose::PassThrough)
        } else {
            (Reason::Method, Purpose::Write)
        };
        let subject = self.subject_of(&passage.forward);
        let permit = match self
            .turn_of(passage.caller, subject, passage.patience)
            .await
        {
            Ok(permit) => permit,
            Err(refused) => return Answer::refused(&refused),
        };
        let deadline = Deadline::now() + self.upstream.timeout();
        let passage = match self.take_in(passage, deadline).await {
            Ok(passage) => passage,
            Err(unusable) => return Answer::refused(&unusable.into()), // The permit is given back.
        };
        let workspace = passage.caller.workspace();
        let change = Change::begin(self, workspace, &passage.forward);
        if let Some(change) = &change {
            change.tell().await;
        }
        let passing = Passing {
            gateway: Arc::clone(self),
            workspace: Arc::clone(workspace),
            client: Arc::clone(passage.caller.name()),
            endpoint: passage.forward.endpoint(),
            named: passage.forward.workspace_id().map(str::to_owned),
            purpose,
            progress: None,
            sending: None,
            change,
            deadline,
            began: self.clock.now(),
            started: self.cache.fetch_begins(),
            trace: passage.request_id.trace().map(|trace| trace.child()),
            waited: Duration::ZERO,
        };
        passing.start(passage, permit, reason).await
    }

    /// Makes as sure as may be that a body is one, before anything is sent. Of HTTP/1, an announced
    /// length is certain, and the body may stream; of HTTP/2 it may yet prove wrong.
    async fn take_in<'a, B>(
        &self,
        passage: Passage<'a, B>,
        deadline: Deadline,
    ) -> Result<Passage<'a, Intake<B>>, RequestError>
    where
        B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Unpin,
    {
        let framed = passage.request.version < Version::HTTP_2;
        let body = match passage.body {
            None => None,
            Some(body) if framed && body.size_hint().exact().is_some() => {
                Some(Intake::nothing_of(body))
            }
            Some(body) => Some(Intake::of(body, self.bounds.body_bytes, deadline).await?),
        };
        Ok(Passage {
            caller: passage.caller,
            forward: passage.forward,
            request: passage.request,
            body,
            request_id: passage.request_id,
            patience: passage.patience,
        })
    }

    /// What a request is for, as far as its target tells.
    fn subject_of(&self, forward: &Forward<'_>) -> Subject {
        Subject(self.cache.name(forward.path().as_bytes()))
    }

    /// Waits for a turn, in the caller's class.
    async fn turn_of(
        &self,
        caller: &Caller,
        subject: Subject,
        patience: Duration,
    ) -> Result<Permit, Failure> {
        let workspace = caller.workspace();
        let claim = Claim {
            // Only lookups are held to a part of their caller's share.
            known: true,
            subject,
            ..caller.claim(patience)
        };
        let began = self.clock.now();
        let permit = workspace.shield().admit(&claim).await;
        let waited = self.clock.now().saturating_duration_since(began);
        let refused = permit.as_ref().err();
        self.telemetry
            .admitted(workspace.name(), claim.class, waited, refused);
        let mut permit = permit?;
        permit.waited_for(waited);
        Ok(permit)
    }
}

impl Passing {
    /// Sends the request in a task of its own, and waits for the head of the answer.
    async fn start<B>(mut self, passage: Passage<'_, B>, permit: Permit, reason: Reason) -> Answer
    where
        B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        let headers = &passage.request.headers;
        let body = self.outgoing(passage.body, headers);
        let request = RelayRequest {
            method: passage.request.method.clone(),
            path: passage.forward.path().to_owned(),
            query: passage.forward.query().map(str::to_owned),
            headers: crate::headers::sent_on(headers).collect(),
            request_id: passage.request_id.to_header(),
            trace: self.trace,
            body,
        };
        let progress = self.progress.clone();
        let (answer, head) = oneshot::channel();
        tokio::spawn(self.run(request, permit, answer));
        let head = head.await.unwrap_or(Err(collapse::Error::Abandoned.into()));
        let has_read = progress.is_none_or(|progress| progress.stage() == Stage::Ended);
        match head {
            Ok(head) => Answer::relayed(head, reason, has_read),
            Err(failure) => Answer::failed(&failure, reason).having_read(has_read),
        }
    }

    /// The body on its way. Of none, the change has seen all there is.
    fn outgoing<B>(&mut self, body: Option<B>, headers: &HeaderMap) -> Outgoing
    where
        B: HttpBody<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
    {
        let witness = self.change.as_ref().map(|change| change.witness(headers));
        let Some(body) = body else {
            if let Some(witness) = witness {
                // Nobody is named, so there is nothing to wait for.
                drop(witness(Some(&[])));
            }
            return Outgoing::Nothing;
        };
        let most = self.gateway.bounds.body_bytes;
        let upload = Upload::new(body, most, MOST_KEPT_BYTES, witness);
        let progress = upload.progress();
        self.sending = Some(progress.until_dropped());
        self.progress = Some(progress);
        Outgoing::Upload(Box::new(upload))
    }

    async fn run(
        mut self,
        request: RelayRequest,
        permit: Permit,
        answer: oneshot::Sender<Result<Head, Failure>>,
    ) {
        self.waited = permit.waited();
        let (relayed, settling) = self.send(request, permit).await;
        match relayed {
            Err(failure) => {
                self.fail(&failure).confirmed().await;
                self.ended(settling, Err(&failure));
                // A client that has left needs no answer.
                let _ = answer.send(Err(failure));
            }
            Ok(relayed) => self.pass_on(relayed, settling, answer).await,
        }
    }

    /// Passes the answer on, its head at once. An empty one ends a change before even that; where other
    /// gateways are to confirm it, so does one that is short.
    async fn pass_on(
        mut self,
        relayed: Relayed,
        settling: Option<Settling>,
        answer: oneshot::Sender<Result<Head, Failure>>,
    ) {
        let Relayed {
            status,
            headers,
            mut body,
            ..
        } = relayed;
        let head = |body, confirmation| Head {
            status,
            headers,
            body,
            confirmation,
        };
        let waits = self.change.is_some() && self.gateway.shared.is_some();
        let begun = match body
            .hold_back(if waits { MOST_HELD_BYTES } else { 0 })
            .await
        {
            Ok(begun) => begun,
            Err(error) => {
                let failure = Failure::from(error);
                self.complete(status, None).confirmed().await;
                self.ended(settling, Err(&failure));
                let _ = answer.send(Err(failure));
                return;
            }
        };
        // In both cases, a client that has left needs no answer.
        if let Some(whole) = begun {
            let confirmation = self.complete(status, Some(whole.clone())).confirmed().await;
            self.ended(settling, Ok(status));
            let _ = answer.send(Ok(head(Body::from(whole), confirmation)));
        } else {
            let (feed, coming) = Body::coming(body.length());
            let _ = answer.send(Ok(head(coming, None)));
            self.pump(status, body, feed, settling).await;
        }
    }

    /// Sends the request and takes in the head of the answer, if it is one for clients.
    async fn send(
        &self,
        request: RelayRequest,
        permit: Permit,
    ) -> (Result<Relayed, Failure>, Option<Settling>) {
        let gateway = &self.gateway;
        let upstream = &gateway.upstream;
        let spend = gateway
            .telemetry
            .spends(self.workspace.name(), &self.client, self.purpose);
        let (answer, receipt) = tokio::select! {
            biased;
            () = failed(self.progress.as_deref()) => return (Err(self.of_upload().into()), None),
            answered = upstream.relay(request, permit, self.deadline, self.began) => answered,
        };
        spend.end(receipt.was_sent());
        let (status, stages) = (receipt.status(), receipt.stages());
        let (answer, receipt) = match refused(receipt) {
            Err(refused) => (Err(refused), None),
            Ok(receipt) => {
                let answer = answer.map_err(|error| self.of_upstream(error));
                (answer.and_then(usable), Some(receipt))
            }
        };
        (
            answer,
            Some(Settling {
                status,
                stages,
                receipt,
            }),
        )
    }

    /// Why there is no answer: the body may be to blame and not Flameup.
    fn of_upstream(&self, error: upstream::Error) -> Failure {
        let stage = self.progress.as_ref().map(|progress| progress.stage());
        match (&error, stage) {
            (_, Some(Stage::TooLarge | Stage::TooSlow | Stage::Broken))
            | (upstream::Error::Timeout, Some(Stage::UnderWay)) => self.of_upload().into(),
            _ => error.into(),
        }
    }

    /// What is wrong with the request's body.
    fn of_upload(&self) -> RequestError {
        match self.progress.as_ref().map(|progress| progress.stage()) {
            Some(Stage::TooLarge) => RequestError::BodyTooLarge,
            Some(Stage::Broken) | None => RequestError::BodyBroken,
            Some(Stage::UnderWay | Stage::TooSlow | Stage::Ended) => RequestError::BodyTooSlow,
        }
    }

    /// Passes the body on piece by piece. The last piece of a change's answer goes out when the
    /// change has ended.
    async fn pump(
        mut self,
        status: StatusCode,
        mut body: Relay,
        feed: Feed,
        settling: Option<Settling>,
    ) {
        let mut pieces = Pieces::new(feed, self.deadline);
        let mut kept = Kept::new(self.reads(status));
        let end = loop {
            let piece = match body.next().await {
                Ok(Some(piece)) => piece,
                Ok(None) => break Ok(status),
                Err(error) => break Err(Failure::from(error)),
            };
            kept.keep(&piece);
            let taken = pieces.push(piece, self.change.is_some()).await;
            if taken.is_err() && self.change.is_none() {
                // Nobody wants the rest.
                return self.ended(settling, Ok(status));
            }
        };
        // Of an answer that was cut off, nothing is read.
        let whole = end.is_ok().then(|| kept.whole()).flatten();
        self.complete(status, whole).confirmed().await;
        self.ended(settling, end.as_ref().copied());
        // A client that reads slowly keeps nothing but the rest of its own answer.
        drop(self);
        if end.is_ok() {
            pieces.end().await;
        }
    }

    fn asked(&self) -> Asked {
        Asked {
            at: self.began,
            after: self.started.number(),
        }
    }

    /// Whether the answer is read for people.
    fn reads(&self, status: StatusCode) -> bool {
        if let Some(change) = &self.change {
            return change.reads_answer(status);
        }
        let harvests = self.gateway.cache.harvests() && self.endpoint.shows_people();
        harvests && status == StatusCode::OK
    }

    /// The answer has ended: tells the cache. `body` if it was read, whole, and not too large.
    fn complete(&mut self, status: StatusCode, body: Option<Bytes>) -> Telling {
        if let Some(change) = self.change.take() {
            return change.answered(status, body.as_ref(), self.asked());
        }
        if self.reads(status)
            && let Some(body) = body
        {
            let named = self.named.as_deref();
            let seen = self.asked().saw(&body, &self.workspace, named);
            let now = self.gateway.clock.now();
            let all = self.gateway.workspaces.iter();
            for workspace in all.filter(|other| self.workspace.is_same_as(other)) {
                let seen = seen.clone();
                self.gateway.cache.harvest(workspace, seen, now);
            }
        }
        Telling::NOTHING
    }

    /// No answer has come that a client may see: tells the cache how the change ended.
    fn fail(&mut self, failure: &Failure) -> Telling {
        use upstream::Error::{Encoded, QuotesKey, TooLargeToRelay};
        let Some(change) = self.change.take() else {
            return Telling::NOTHING;
        };
        match (failure, failure.upstream_status()) {
            (_, Some(status)) => change.answered(status, None, self.asked()),
            (Failure::Upstream(Encoded | QuotesKey | TooLargeToRelay), None) => {
                change.answered_unreadably(self.asked())
            }
            (_, None) => change.lost(),
        }
    }

    /// Settles and counts the forward.
    fn ended(&self, settling: Option<Settling>, end: Result<StatusCode, &Failure>) {
        let status = settling.as_ref().and_then(|settling| settling.status);
        let stages = settling.as_ref().map(|settling| settling.stages);
        if let Some(receipt) = settling.and_then(|settling| settling.receipt) {
            receipt.settle(health(end));
        }
        let now = self.gateway.clock.now();
        let spending = Spending {
            workspace: self.workspace.name(),
            client: &self.client,
            purpose: self.purpose,
            status,
            duration: now.saturating_duration_since(self.began),
        };
        let telemetry = &self.gateway.telemetry;
        let journey = Journey {
            trace: self.trace,
            waited: self.waited,
            stages: stages.unwrap_or(Stages::UNSEEN),
        };
        telemetry.relayed(&spending, self.endpoint.name(), end.err(), journey);
    }
}

/// Keeps from clients what is between Flameup and the gateway: a redirection leads past it, and nobody
/// asked for another protocol.
fn usable(answer: Relayed) -> Result<Relayed, Failure> {
    let status = answer.status;
    if status.is_redirection() || status.is_informational() {
        Err(Failure::UnexpectedStatus(status))
    } else {
        Ok(answer)
    }
}

/// Ends when the request's body has failed.
async fn failed(progress: Option<&Progress>) {
    match progress {
        Some(progress) => progress.failed().await,
        None => std::future::pending().await,
    }
}

/// What an end says of Flameup's health. What a client did wrong says nothing.
fn health(end: Result<StatusCode, &Failure>) -> Outcome {
    match end {
        Ok(status) if status.is_server_error() => Outcome::Failed,
        Ok(_) => Outcome::Alive,
        Err(
            Failure::Request(_)
            | Failure::UnexpectedStatus(_)
            | Failure::Upstream(upstream::Error::Build(_)),
        ) => Outcome::Abandoned,
        Err(_) => Outcome::Failed,
    }
}
