//! One forward to Flameup, and what its answer is good for.
//!
//! A shared fetch runs in a task of its own: it survives the caller that started it, and its own
//! deadline ends it.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use http::{HeaderValue, StatusCode};

use super::Gateway;
use super::shared::Recalled;
use crate::cache::changes::{Number, Started};
use crate::cache::claims::ClaimsBuf;
use crate::cache::collapse::Obligation;
use crate::cache::control::RequestDirectives;
use crate::cache::entry::{Entry, Lifetime};
use crate::cache::key::{CacheKey, Keys};
use crate::cache::storable::{self, Verified};
use crate::cache::{Landed, Landing, Storing};
use crate::failure::Failure;
use crate::person::PersonRef;
use crate::shield::breaker::Outcome;
use crate::shield::signals::SHORTEST_WAIT;
use crate::shield::{self, Claim, Permit, Purpose};
use crate::telemetry::trace::Trace;
use crate::telemetry::{Forwarded, Journey};
use crate::tier::shelf::Lease;
use crate::upstream::receipt::Receipt;
use crate::upstream::request::PersonRequest;
use crate::upstream::{self, Response};
use crate::workspace::{Place, Workspace};

/// What is asked of Flameup, free of the request that caused it.
#[derive(Debug)]
pub(super) struct Fetch {
    pub(super) workspace: Arc<Workspace>,
    /// As it was made; what is left of its patience is told by `wait_until`.
    pub(super) claim: Claim,
    /// How long it may wait for turns, all in all.
    pub(super) wait_until: Instant,
    /// Whose share it is charged to.
    pub(super) client: Arc<str>,
    pub(super) person: PersonRef<'static>,
    pub(super) place: Place,
    pub(super) query: Option<String>,
    /// What is stored, for its validator.
    pub(super) stored: Option<Arc<Entry>>,
    pub(super) request_id: HeaderValue,
    /// Where the request that caused it stands, where traces are sent to a collector.
    pub(super) trace: Option<Trace>,
    pub(super) purpose: Purpose,
    /// What the client demands of it.
    pub(super) directives: RequestDirectives,
    /// Whether what another gateway got some time ago may do.
    pub(super) recalls: bool,
}

/// What a fetch may be sent with.
struct Right {
    permit: Permit,
    /// The right to fetch for all gateways, where there are several.
    lease: Option<Lease>,
}

/// How far a fetch has come.
enum Ready {
    /// Another gateway had the answer.
    Landed(Box<Landed>),
    /// It is its turn.
    Turn(Right),
}

/// What becomes of one attempt, for the request that it was made for: others may wait for the same
/// person and be luckier, or less.
#[derive(Clone, Debug, Default)]
pub(super) struct Attempt(Arc<OnceLock<Arc<Failure>>>);

impl Gateway {
    /// Fetches in a task of its own, which spends `obligation` whatever happens: waits for its
    /// turn, and sends if no other attempt has.
    pub(super) fn spawn_fetch(
        self: &Arc<Self>,
        fetch: Box<Fetch>,
        obligation: Obligation<Landing<Arc<Failure>>>,
    ) -> Attempt {
        let attempt = Attempt::default();
        let (gateway, own) = (Arc::clone(self), attempt.clone());
        tokio::spawn(async move {
            let (cancelled, superseded) = (obligation.cancelled(), obligation.superseded());
            let ready = tokio::select! {
                ready = gateway.prepare(&fetch) => ready,
                () = cancelled => return,
                () = superseded => return,
            };
            match ready {
                Ok(Ready::Landed(landed)) => {
                    gateway.fulfil(obligation, Ok(*landed));
                }
                Ok(Ready::Turn(right)) => {
                    gateway.fetch_for(&fetch, right, obligation, &own).await;
                }
                Err(refused) => {
                    let refused = own.failed(refused.into());
                    gateway.fulfil(obligation, Err(refused));
                }
            }
        });
        attempt
    }

    /// Looks whether another gateway has the answer, and waits for a turn if none has.
    async fn prepare(&self, fetch: &Fetch) -> Result<Ready, shield::Error> {
        let lease = match self.recall_shared(fetch).await {
            Recalled::Landed(landed) => return Ok(Ready::Landed(landed)),
            Recalled::Nothing(lease) => lease,
            Recalled::Elsewhere => None,
        };
        let permit = self.turn(fetch).await?;
        Ok(Ready::Turn(Right { permit, lease }))
    }

    /// Refreshes what is stored in a task of its own, now that there is a permit; it is given back where
    /// another gateway has the answer, or is asking for it.
    pub(super) fn spawn_refresh(
        self: &Arc<Self>,
        fetch: Box<Fetch>,
        stored: Arc<Entry>,
        permit: Permit,
        obligation: Obligation<Landing<Arc<Failure>>>,
    ) {
        let gateway = Arc::clone(self);
        tokio::spawn(async move {
            let own = Attempt::default();
            match gateway.recall_shared(&fetch).await {
                Recalled::Landed(landed) => {
                    gateway.fulfil(obligation, Ok(*landed));
                }
                Recalled::Elsewhere => {
                    let (stored, keys) = (Arc::clone(&stored), fetch.keys().clone());
                    let as_it_is = gateway.cache.recalled(stored, keys);
                    gateway.fulfil(obligation, Ok(as_it_is.shared()));
                }
                Recalled::Nothing(lease) => {
                    let right = Right { permit, lease };
                    gateway.fetch_for(&fetch, right, obligation, &own).await;
                }
            }
        });
    }

    async fn fetch_for(
        &self,
        fetch: &Fetch,
        right: Right,
        mut obligation: Obligation<Landing<Arc<Failure>>>,
        own: &Attempt,
    ) {
        let Right { permit, lease } = right;
        if !obligation.launch(self.clock.now()) {
            return; // Another attempt is under way, or has landed. The permit is given back.
        }
        let cancelled = obligation.cancelled();
        let position = self.position(&fetch.workspace);
        let landing = tokio::select! {
            landing = self.fetch(fetch, permit, Some(&mut obligation)) => landing,
            () = cancelled => return,
        };
        let landing = landing.map_err(|failure| own.failed(failure));
        if let Some(landed) = self.fulfil(obligation, landing) {
            self.share(&landed, position, lease);
        }
    }

    pub(super) fn fulfil(
        &self,
        obligation: Obligation<Landing<Arc<Failure>>>,
        landing: Result<Landed, Arc<Failure>>,
    ) -> Option<Arc<Landed>> {
        self.cache.fulfil(obligation, landing, self.clock.now())
    }

    /// Waits for a turn.
    pub(super) async fn turn(&self, fetch: &Fetch) -> Result<Permit, shield::Error> {
        let shield = fetch.workspace.shield();
        let claim = fetch.claim_at(self.clock.now());
        self.counted(fetch, shield.admit(&claim)).await
    }

    /// Counts how a turn is waited for.
    async fn counted(
        &self,
        fetch: &Fetch,
        turn: impl Future<Output = Result<Permit, shield::Error>>,
    ) -> Result<Permit, shield::Error> {
        let began = self.clock.now();
        let mut permit = turn.await;
        let waited = self.clock.now().saturating_duration_since(began);
        if let Ok(permit) = &mut permit {
            permit.waited_for(waited);
        }
        let (workspace, class) = (fetch.workspace.name(), fetch.claim.class);
        let refused = permit.as_ref().err();
        self.telemetry.admitted(workspace, class, waited, refused);
        permit
    }

    /// Asks Flameup, and once more where that may help. The flight waits meanwhile, and is left to
    /// another attempt that is sent first.
    pub(super) async fn fetch(
        &self,
        fetch: &Fetch,
        permit: Permit,
        mut flight: Option<&mut Obligation<Landing<Arc<Failure>>>>,
    ) -> Result<Landed, Failure> {
        let deadline = tokio::time::Instant::now() + self.upstream.timeout();
        let (outcome, again) = self.attempt(fetch, permit, fetch.purpose, deadline).await;
        let claim = fetch.claim_at(self.clock.now());
        let Some(claim) = in_time(&claim, deadline).filter(|_| again != Again::No) else {
            return outcome;
        };
        if let Some(flight) = &mut flight {
            flight.wait_again();
        }
        let superseded = flight.as_ref().map(|flight| flight.superseded());
        let permit = tokio::select! {
            permit = self.turn_again(fetch, &claim, again) => permit,
            () = resolved(superseded) => return outcome,
        };
        let now = self.clock.now();
        match (permit, again) {
            // Its turn came with the deadline: the permit is given back.
            (Ok(_), _) if in_time(&claim, deadline).is_none() => outcome,
            // Or another attempt is under way.
            (Ok(_), _) if flight.is_some_and(|flight| !flight.launch(now)) => outcome,
            (Ok(permit), Again::Retry) => {
                self.attempt(fetch, permit, Purpose::Retry, deadline)
                    .await
                    .0
            }
            (Ok(permit), _) => self.attempt(fetch, permit, fetch.purpose, deadline).await.0,
            // Its turn will not come in time; the client is told when.
            (Err(refused @ shield::Error::Budget(_)), Again::Queue) => Err(refused.into()),
            (Err(_), _) => outcome,
        }
    }

    /// Waits for another turn, of the kind that is called for.
    async fn turn_again(
        &self,
        fetch: &Fetch,
        claim: &Claim,
        again: Again,
    ) -> Result<Permit, shield::Error> {
        let shield = fetch.workspace.shield();
        match again {
            Again::Retry => self.counted(fetch, shield.admit_again(claim)).await,
            // The window is marked spent. Waiting in the queue is not a retry: nothing failed.
            Again::Queue | Again::No => self.counted(fetch, shield.admit(claim)).await,
        }
    }

    /// Takes a turn for a refresh, if one may be had at once.
    pub(super) fn turn_now(&self, fetch: &Fetch) -> Result<Permit, shield::Error> {
        let permit = fetch.workspace.shield().admit_now(&fetch.claim);
        let (workspace, class) = (fetch.workspace.name(), fetch.claim.class);
        let refused = permit.as_ref().err();
        let at_once = Duration::ZERO;
        self.telemetry.admitted(workspace, class, at_once, refused);
        permit
    }

    /// Asks Flameup once. Says also whether asking again may help.
    async fn attempt(
        &self,
        fetch: &Fetch,
        permit: Permit,
        purpose: Purpose,
        deadline: tokio::time::Instant,
    ) -> (Result<Landed, Failure>, Again) {
        let (trace, waited) = (fetch.trace.as_ref().map(Trace::child), permit.waited());
        let validator = fetch.stored.as_ref().and_then(|entry| entry.validator());
        let request = PersonRequest {
            person: &fetch.person,
            query: fetch.query.as_deref(),
            validator: validator.as_ref(),
            request_id: &fetch.request_id,
            trace,
        };
        let began = self.clock.now();
        let started = self.cache.fetch_begins();
        let workspace = fetch.workspace.name();
        let spend = self.telemetry.spends(workspace, &fetch.client, purpose);
        let (answer, receipt) = self.upstream.send(&request, permit, deadline, began).await;
        spend.end(receipt.was_sent());
        let (status, stages) = (receipt.status(), receipt.stages());
        let again = Again::after(status, answer.as_ref().err());
        let landed = match refused(receipt) {
            Err(refused) => Err(refused),
            Ok(receipt) => {
                let landed = answer
                    .map_err(Failure::from)
                    .and_then(|answer| self.land(fetch, &answer, started));
                receipt.settle(health(&landed));
                landed
            }
        };
        self.telemetry.forwarded(&Forwarded {
            workspace,
            client: &fetch.client,
            purpose,
            person_kind: fetch.person.kind(),
            asked: fetch.asked(),
            status,
            failure: landed.as_ref().err(),
            duration: self.clock.now().saturating_duration_since(began),
            journey: Journey {
                trace,
                waited,
                stages,
            },
        });
        (landed, again)
    }

    /// Decides what Flameup's answer is good for, by its status.
    fn land(
        &self,
        fetch: &Fetch,
        response: &Response,
        started: Started,
    ) -> Result<Landed, Failure> {
        let (entry, storing) = match response.status {
            StatusCode::OK => self.land_person(fetch, response, started.number())?,
            StatusCode::NOT_MODIFIED => self.land_confirmation(fetch, response)?,
            StatusCode::NOT_FOUND => self.land_absence(fetch, response),
            // Flameup's own errors are Flameup's to word.
            status if status.is_client_error() || status.is_server_error() => relayed(response),
            status => return Err(Failure::UnexpectedStatus(status)),
        };
        let entry = entry.asked_as(fetch.asked());
        let storing = fetch.storing(storing);
        let asked = fetch.keys().clone();
        Ok(self
            .cache
            .landed(entry, response.status, storing, asked, started))
    }

    fn land_person(
        &self,
        fetch: &Fetch,
        response: &Response,
        number: Number,
    ) -> Result<(Entry, Storing), Failure> {
        if fetch.query.is_some() {
            // What a query makes of a Person is not documented; that it stays JSON is the least.
            serde_json::from_slice::<serde::de::IgnoredAny>(&response.body)
                .map_err(|_| Failure::NotJson)?;
            return Ok(relayed(response));
        }
        let Verified {
            storing,
            claims,
            foreign_workspace,
        } = storable::verify(response, &fetch.person, &fetch.place, &fetch.workspace)
            .inspect_err(|error| self.unlearn(fetch, response, error, number))?;
        if foreign_workspace {
            self.telemetry
                .foreign_workspace(fetch.workspace.name(), fetch.asked());
        }
        let entry = Entry::new(response, self.lifetime_of_person(fetch, response));
        Ok((entry.claiming(claims.claims()), storing))
    }

    /// What an unusable answer says all the same: where Flameup answers with another person, two
    /// were merged, and whoever was called so is no more.
    fn unlearn(&self, fetch: &Fetch, response: &Response, error: &storable::Error, number: Number) {
        if let (storable::Error::AnotherPerson, Place::Own(keys)) = (error, &fetch.place) {
            let answer = Entry::new(response, Lifetime::NONE).asked_after(number);
            self.cache.forget_spelling(keys, &answer);
            self.share_gone(&fetch.workspace, keys, answer);
        }
    }

    fn land_absence(&self, fetch: &Fetch, response: &Response) -> (Entry, Storing) {
        let keeps = self.cache.keeps_absences();
        let storing = storable::absence(response, &fetch.place, keeps);
        let lifetime = self
            .cache
            .lifetime_of_absence(fetch.asked(), response.requested_at);
        let claims = ClaimsBuf::of_absence(fetch.keys());
        (
            Entry::new(response, lifetime).claiming(claims.claims()),
            storing,
        )
    }

    /// 304: what is stored is still so. Without a validator nobody asked, and it means nothing.
    fn land_confirmation(
        &self,
        fetch: &Fetch,
        response: &Response,
    ) -> Result<(Entry, Storing), Failure> {
        let asked_about = fetch.stored.as_ref();
        let asked_about = asked_about.filter(|stored| stored.is_confirmed_by(response));
        let (Some(stored), Place::Own(_)) = (asked_about, &fetch.place) else {
            return Err(Failure::UnexpectedStatus(response.status));
        };
        let lifetime = self.lifetime_of_person(fetch, response);
        Ok((
            stored.freshened(response, lifetime),
            storable::confirmation(response),
        ))
    }

    fn lifetime_of_person(&self, fetch: &Fetch, response: &Response) -> Lifetime {
        self.cache
            .lifetime_of_person(fetch.asked(), response.requested_at)
    }
}

/// An answer that goes to those who wait, and is kept nowhere.
fn relayed(response: &Response) -> (Entry, Storing) {
    (Entry::new(response, Lifetime::NONE), Storing::Nowhere)
}

/// Whether to ask again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Again {
    No,
    /// The connection, or a machine before Flameup, failed.
    Retry,
    /// The limit was spent: wait for the next turn.
    Queue,
}

impl Again {
    /// What an answer, or its absence, calls for. Only reads come here, so sending one twice
    /// changes nothing (RFC 9110 §9.2.2).
    fn after(status: Option<StatusCode>, error: Option<&upstream::Error>) -> Self {
        match (status, error) {
            (Some(StatusCode::TOO_MANY_REQUESTS), _) => Self::Queue,
            (
                Some(
                    StatusCode::BAD_GATEWAY
                    | StatusCode::SERVICE_UNAVAILABLE
                    | StatusCode::GATEWAY_TIMEOUT,
                ),
                _,
            ) => Self::Retry,
            (_, Some(error)) if error.may_be_repeated() => Self::Retry,
            _ => Self::No,
        }
    }
}

/// Resolves with what is there, and never without.
async fn resolved(future: Option<impl Future<Output = ()>>) {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

/// A claim that waits no longer than until the deadline; `None` if that has passed.
fn in_time(claim: &Claim, deadline: tokio::time::Instant) -> Option<Claim> {
    let left = deadline.checked_duration_since(tokio::time::Instant::now())?;
    (!left.is_zero()).then(|| Claim {
        patience: claim.patience.min(left),
        ..*claim
    })
}

/// Settles an answer that says by its head alone what it is, whatever became of the body: the key is
/// refused, or the limit spent. Others are handed back.
pub(super) fn refused(receipt: Receipt) -> Result<Receipt, Failure> {
    match receipt.status() {
        Some(StatusCode::UNAUTHORIZED) => {
            receipt.settle(Outcome::Alive);
            Err(Failure::KeyRefused)
        }
        Some(StatusCode::TOO_MANY_REQUESTS) => {
            let wait = receipt.settle(Outcome::Alive);
            let retry_after = wait.unwrap_or(SHORTEST_WAIT);
            Err(Failure::RateLimited { retry_after })
        }
        _ => Ok(receipt),
    }
}

/// What an outcome says of Flameup's health. 404 and the like are life.
fn health(landed: &Result<Landed, Failure>) -> Outcome {
    match landed {
        Ok(landed) if landed.fwd_status.is_server_error() => Outcome::Failed,
        Ok(_) => Outcome::Alive,
        // Nothing was sent; or it answers, if not with what was asked for: a merge, or what a client's query made of it.
        Err(
            Failure::Upstream(upstream::Error::Build(_))
            | Failure::NotJson
            | Failure::UnexpectedStatus(_)
            | Failure::Unusable(storable::Error::AnotherPerson),
        ) => Outcome::Abandoned,
        Err(_) => Outcome::Failed,
    }
}

impl Attempt {
    /// How it failed, if it has.
    pub(super) fn failure(&self) -> Option<&Arc<Failure>> {
        self.0.get()
    }

    fn failed(&self, failure: Failure) -> Arc<Failure> {
        Arc::clone(self.0.get_or_init(|| Arc::new(failure)))
    }
}

impl Fetch {
    /// The claim with the patience that is left of it.
    fn claim_at(&self, now: Instant) -> Claim {
        Claim {
            patience: self.wait_until.saturating_duration_since(now),
            ..self.claim
        }
    }

    pub(super) fn keys(&self) -> &Keys {
        self.place.keys()
    }

    /// The exact spelling that Flameup is asked for.
    fn asked(&self) -> &CacheKey {
        self.keys().spelled()
    }

    fn storing(&self, storing: Storing) -> Storing {
        if self.purpose == Purpose::Bypass {
            Storing::Nowhere
        } else {
            storing
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shield::queue::{CallerId, Class, Subject};

    #[tokio::test(start_paused = true)]
    async fn nothing_is_tried_again_once_its_time_is_over() {
        let now = tokio::time::Instant::now();
        let claim = Claim {
            caller: CallerId(1),
            class: Class::Interactive,
            weight: 1,
            patience: Duration::from_secs(2),
            known: true,
            subject: Subject::default(),
            told: true,
        };
        let patience = |deadline| in_time(&claim, deadline).map(|claim| claim.patience);
        let second = Duration::from_secs(1);
        assert_eq!(patience(now + second * 5), Some(second * 2));
        assert_eq!(patience(now + second), Some(second));
        assert_eq!(patience(now), None);
        assert_eq!(patience(now - second / 1_000), None);
    }
}
