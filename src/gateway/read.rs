//! The cached read of one person.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderMap;

mod limits;

use super::decisions::Decision;
use super::exchange::id::RequestId;
use super::fetch::{Attempt, Fetch};
use super::{Gateway, Step, patience};
use crate::answer::Answer;
use crate::auth::Caller;
use crate::cache::collapse::{self, Asker, Obligation};
use crate::cache::control::RequestDirectives;
use crate::cache::entry::Entry;
use crate::cache::freshness::Verdict;
use crate::cache::key::{CacheKey, Keys};
use crate::cache::status::Reason;
use crate::cache::{self, Landed, Landing};
use crate::failure::Failure;
use crate::person::PersonRef;
use crate::shield::queue::{Class, Subject};
use crate::shield::{Claim, Purpose};
use crate::workspace::{Place, Workspace};
use limits::{Late, Limits};

/// What a waiter allows beyond the upstream's deadline, so that it is told how the fetch ended
/// rather than that its own time was up.
const GRACE: Duration = Duration::from_millis(250);

/// How long waiting for a turn keeps back an answer that may be served stale.
const STALE_PATIENCE: Duration = Duration::from_millis(1500);

/// One lookup, as the request asks for it.
#[derive(Debug)]
pub(super) struct Lookup<'a> {
    pub(super) caller: &'a Caller,
    pub(super) headers: &'a HeaderMap,
    pub(super) person: PersonRef<'a>,
    pub(super) query: Option<&'a str>,
    pub(super) request_id: &'a RequestId,
    pub(super) now: Instant,
}

/// One read, with all that is needed where memory alone does not answer it.
#[derive(Debug)]
pub(super) struct Read<'a> {
    pub(super) workspace: &'a Arc<Workspace>,
    pub(super) claim: Claim,
    pub(super) client: &'a Arc<str>,
    pub(super) person: PersonRef<'a>,
    pub(super) place: Place,
    pub(super) query: Option<&'a str>,
    pub(super) directives: RequestDirectives,
    pub(super) request_id: &'a RequestId,
    pub(super) now: Instant,
}

/// What a read has in common with equal ones.
#[derive(Clone, Copy, Debug)]
struct Shared<'a> {
    /// What they collapse on; made when it is needed, for a hit has no need of it.
    flight: Option<&'a CacheKey>,
    /// What Flameup is asked for.
    keys: &'a Keys,
}

impl Gateway {
    /// Answers one lookup, at once where memory has the answer.
    pub(super) fn read_person<'a>(self: &'a Arc<Self>, lookup: Lookup<'a>) -> Step<'a> {
        let workspace = lookup.caller.workspace();
        let place = workspace.place(&lookup.person);
        let directives = RequestDirectives::of(lookup.headers);
        let found = self.recall(&place, lookup.query, &directives, lookup.now);
        let found = match found {
            cache::Lookup::Fresh(entry) if !self.is_suspect(workspace) => {
                return Step::Done(Answer::hit(entry, lookup.now));
            }
            found => found,
        };
        let patience = patience(lookup.headers, workspace.shield().max_wait());
        let read = Read {
            workspace,
            claim: lookup.caller.claim(patience),
            client: lookup.caller.name(),
            person: lookup.person,
            place,
            query: lookup.query,
            directives,
            request_id: lookup.request_id,
            now: lookup.now,
        };
        Step::Wait(Box::pin(async move { self.read_on(&read, found).await }))
    }

    /// Reads one person, from memory where that will do.
    pub(super) async fn read(self: &Arc<Self>, read: Read<'_>) -> Answer {
        let found = self.recall(&read.place, read.query, &read.directives, read.now);
        self.read_on(&read, found).await
    }

    /// What memory has for a read.
    fn recall(
        &self,
        place: &Place,
        query: Option<&str>,
        directives: &RequestDirectives,
        now: Instant,
    ) -> cache::Lookup {
        match (place, query) {
            (Place::Own(keys), None) => self.cache.lookup(keys, directives, now),
            (Place::Unproven { .. }, None) => cache::Lookup::NOTHING,
            (Place::Foreign(_), _) | (_, Some(_)) => cache::Lookup::BYPASS,
        }
    }

    /// Goes on with what memory has, and keeps in mind how it went.
    async fn read_on(self: &Arc<Self>, read: &Read<'_>, found: cache::Lookup) -> Answer {
        let found = if self.is_suspect(read.workspace) {
            // Apart, like all that few reads do: each of the others would have room for it.
            Box::pin(self.confirmed(read, found)).await
        } else {
            found
        };
        let answer = self.answer_read(read, found).await;
        let cache = answer.cache_status();
        let decision = || Decision {
            name: self.cache.name(read.place.keys().person().as_bytes()),
            at: read.now,
            cache,
        };
        self.decisions.note(decision, cache);
        answer
    }

    async fn answer_read(self: &Arc<Self>, read: &Read<'_>, found: cache::Lookup) -> Answer {
        let shared = read.shared();
        match without_credit(read, found) {
            cache::Lookup::Fresh(entry) => Answer::hit(entry, read.now),
            cache::Lookup::Stale(entry) if read.directives.only_if_cached => {
                Answer::stale_unasked(entry, read.now)
            }
            cache::Lookup::Stale(entry) => {
                if self.refresh(read, shared, &entry) {
                    Answer::revalidating(entry, read.now)
                } else {
                    Answer::stale_for_want_of_budget(entry, read.now)
                }
            }
            cache::Lookup::Forward { reason, .. } if read.directives.only_if_cached => {
                match Box::pin(self.recall_unasked(read)).await {
                    Some(landed) => Answer::forwarded(&landed, reason, false, self.clock.now()),
                    None => Answer::refused(&Failure::OnlyIfCached),
                }
            }
            cache::Lookup::Forward {
                reason,
                stored,
                stale_if_error,
            } => {
                let cover = stored.clone().filter(|_| stale_if_error);
                let covered = cover.as_ref();
                // An answer that the client wants kept nowhere cannot be shared either.
                let landed = match shared.filter(|_| !read.directives.no_store) {
                    Some(shared) => self.read_together(read, shared, stored, covered).await,
                    None => Box::pin(self.read_alone(read, covered)).await,
                };
                if let Ok((landed, _)) = &landed
                    && landed.is_shared()
                    && !landed.entry.freshness().is_fresh(self.clock.now())
                {
                    self.refresh(read, shared, &landed.entry);
                }
                self.or_stale(landed, cover, read, reason)
            }
        }
    }

    /// Answers with what landed, or with what is stored where nothing usable did.
    fn or_stale(
        &self,
        landed: Result<(Arc<Landed>, bool), Arc<Failure>>,
        cover: Option<Arc<Entry>>,
        read: &Read<'_>,
        reason: Reason,
    ) -> Answer {
        let now = self.clock.now();
        // Asking took its time: what is stored grew older meanwhile, and the key may be refused.
        let cover = cover.filter(|entry| self.still_covers(entry, read, now));
        match (landed, cover) {
            (Ok((landed, _)), Some(cover)) if landed.fwd_status.is_server_error() => {
                Answer::stale_on_error(cover, Some(landed.fwd_status), now)
            }
            (Ok((landed, collapsed)), _) => Answer::forwarded(&landed, reason, collapsed, now),
            (Err(failure), Some(cover)) if failure.may_be_covered() => {
                Answer::despite(cover, &failure, now)
            }
            (Err(failure), _) => Answer::failed(&failure, reason),
        }
    }

    /// Whether something stale may be served at `now`, as far as is known.
    fn still_covers(&self, entry: &Entry, read: &Read<'_>, now: Instant) -> bool {
        self.cache.covers(entry, &read.directives, now) && !read.workspace.shield().is_key_refused()
    }

    /// Sees that Flameup is asked in the background, if the budget has something left over. Says
    /// whether it is being asked.
    fn refresh(
        self: &Arc<Self>,
        read: &Read<'_>,
        shared: Option<Shared<'_>>,
        stored: &Arc<Entry>,
    ) -> bool {
        let Some(shared) = shared else {
            return false;
        };
        let flight = self.flight(&shared);
        if self.cache.is_being_fetched(&flight) {
            return true;
        }
        let wait_until = read.now + read.claim.patience;
        let claim = Claim {
            class: Class::Refresh,
            known: true,
            ..self.claim_of(read, false)
        };
        let fetch = read.fetch(
            Purpose::Refresh,
            Some(Arc::clone(stored)),
            claim,
            wait_until,
        );
        let Ok(permit) = self.turn_now(&fetch) else {
            return false;
        };
        if let Ok(joined) = self
            .cache
            .join(&flight, read.asker(Class::Refresh), read.now)
            && let Some(obligation) = joined.obligation
        {
            self.spawn_refresh(fetch, Arc::clone(stored), permit, obligation);
        }
        true
    }

    /// Reads together with whoever else wants this person now. Says also whether the fetch was
    /// another request's.
    ///
    /// Nobody waits for a turn longer than it would for its own, and where something stale may be served
    /// it is not kept back for long.
    async fn read_together(
        self: &Arc<Self>,
        read: &Read<'_>,
        shared: Shared<'_>,
        stored: Option<Arc<Entry>>,
        cover: Option<&Arc<Entry>>,
    ) -> Result<(Arc<Landed>, bool), Arc<Failure>> {
        let patience = read.claim.patience;
        let longest = patience + self.upstream.timeout() + GRACE;
        let look_after = self.cache.stall_after();
        let mut limits = Limits::new(longest, patience, cover.is_some(), look_after);
        let flight = self.flight(&shared);
        // What changed before now must not be shown as it was.
        let last_change = self.cache.last_change();
        let mut own: Option<Attempt> = None;
        loop {
            let now = self.clock.now();
            let joined = self.cache.join(&flight, read.asker(read.claim.class), now);
            let mut joined = joined.map_err(Failure::from)?;
            if let Some(obligation) = joined.obligation {
                let patience = own.as_ref().map_or(patience, |_| limits.left());
                let begun = {
                    let claim = self.claim_of(read, cover.is_none());
                    self.begin(
                        read,
                        &shared,
                        stored.clone(),
                        claim,
                        obligation,
                        now + patience,
                    )
                };
                own = begun.or(own);
            }
            limits.has_attempt = own.as_ref().is_some_and(|own| own.failure().is_none());
            let patience = limits.patience(joined.follower.is_waiting());
            match joined.follower.wait(patience).await {
                Ok(Ok(landed))
                    if self.cache.answers(&landed, shared.keys)
                        && self.is_recent(&landed, read)
                        && !self.cache.is_outdated(&landed, last_change) =>
                {
                    return Ok((landed, own.is_none()));
                }
                Ok(Err(failure)) => heard(failure, own.as_ref(), &read.claim, limits.left())?,
                Err(gone @ (collapse::Error::Abandoned | collapse::Error::CalledOff)) => {
                    return Err(Arc::new(gone.into()));
                }
                // What landed does not do, or the fetch may have stalled and can be replaced.
                Ok(Ok(_)) | Err(collapse::Error::Deadline) => {}
            }
            match limits.check(joined.follower.is_waiting()) {
                Late::Not => {}
                Late::Deadline => return Err(Failure::from(collapse::Error::Deadline).into()),
                Late::Turn => return Err(self.too_late(read, own.as_ref(), cover.is_some())),
                Late::Cover => {
                    let now = self.clock.now();
                    if cover.is_some_and(|entry| self.still_covers(entry, read, now)) {
                        return Err(Failure::LongWait.into());
                    }
                    // Nothing better is there any more than to wait on.
                    limits.cover_by = None;
                }
            }
        }
    }

    /// What a request is told that waited for a turn as long as it could: what its own attempt was told,
    /// if it had one.
    fn too_late(&self, read: &Read<'_>, own: Option<&Attempt>, covered: bool) -> Arc<Failure> {
        if let Some(failure) = own.and_then(Attempt::failure) {
            return Arc::clone(failure);
        }
        let claim = self.claim_of(read, !covered);
        let refused = read.workspace.shield().refuse(&claim);
        let (workspace, waited) = (read.workspace.name(), claim.patience);
        let telemetry = &self.telemetry;
        telemetry.admitted(workspace, claim.class, waited, Some(&refused));
        Arc::new(refused.into())
    }

    fn flight<'k>(&self, shared: &Shared<'k>) -> Cow<'k, CacheKey> {
        match shared.flight {
            Some(flight) => Cow::Borrowed(flight),
            None => Cow::Owned(self.cache.flight(shared.keys)),
        }
    }

    /// Begins the fetch that `obligation` asks for, unless another has just stored the answer: the
    /// request found nothing before it joined. Returns the attempt if one was begun.
    fn begin(
        self: &Arc<Self>,
        read: &Read<'_>,
        shared: &Shared<'_>,
        stored: Option<Arc<Entry>>,
        claim: Claim,
        obligation: Obligation<Landing<Arc<Failure>>>,
        wait_until: Instant,
    ) -> Option<Attempt> {
        if let Place::Own(keys) = &read.place
            && !self.is_suspect(read.workspace)
            && let now = self.clock.now()
            && let cache::Lookup::Fresh(entry) = self.cache.lookup(keys, &read.directives, now)
        {
            let recalled = self.cache.recalled(entry, shared.keys.clone());
            self.fulfil(obligation, Ok(recalled));
            return None;
        }
        let purpose = if stored.is_some() {
            Purpose::Revalidation
        } else {
            Purpose::Miss
        };
        let fetch = read.fetch(purpose, stored, claim, wait_until);
        Some(self.spawn_fetch(fetch, obligation))
    }

    /// The claim of a read; `told` if its client hears of a refusal, and is not served something stale.
    fn claim_of(&self, read: &Read<'_>, told: bool) -> Claim {
        let person = read.place.keys().person();
        Claim {
            known: self.knows(read),
            subject: Subject(self.cache.name(person.as_bytes())),
            told,
            ..read.claim
        }
    }

    /// Whether the person is in memory, however old. Lookups of others are held to a part of their
    /// caller's share, so that nobody can sweep through invented ids.
    fn knows(&self, read: &Read<'_>) -> bool {
        match &read.place {
            Place::Own(keys) | Place::Unproven { keys, .. } => self.cache.knows(keys),
            Place::Foreign(_) => false,
        }
    }

    /// Whether an answer that may have been asked for before this request came is recent enough
    /// for what the client demands.
    fn is_recent(&self, landed: &Landed, read: &Read<'_>) -> bool {
        let freshness = landed.entry.freshness();
        let (now, directives) = (self.clock.now(), &read.directives);
        if landed.is_shared() {
            let verdict = self.cache.judge(&landed.entry, directives, now);
            return matches!(verdict, Verdict::Serve | Verdict::ServeAndRevalidate);
        }
        let demanding = directives.no_cache
            || directives
                .max_age
                .is_some_and(|max_age| freshness.current_age(now) > max_age);
        !demanding || !freshness.began_before(read.now)
    }

    /// Reads for this request only; nothing is stored. Where something stale may be served then, it does
    /// not wait for long.
    async fn read_alone(
        &self,
        read: &Read<'_>,
        cover: Option<&Arc<Entry>>,
    ) -> Result<(Arc<Landed>, bool), Arc<Failure>> {
        let cover_by = read.now + STALE_PATIENCE;
        let is_covered = cover.is_some_and(|entry| self.still_covers(entry, read, cover_by));
        let wait_until = read.now + read.claim.patience;
        let wait_until = if is_covered {
            wait_until.min(cover_by)
        } else {
            wait_until
        };
        let claim = self.claim_of(read, cover.is_none());
        let fetch = read.fetch(Purpose::Bypass, None, claim, wait_until);
        let permit = self.turn(&fetch).await.map_err(Failure::from)?;
        let landed = self.fetch(&fetch, permit, None).await?;
        Ok((Arc::new(landed), false))
    }
}

impl Read<'_> {
    /// What it has in common with equal reads, if anything.
    fn shared(&self) -> Option<Shared<'_>> {
        match (&self.place, self.query) {
            (Place::Own(keys), None) => Some(Shared { flight: None, keys }),
            (Place::Unproven { flight, keys }, None) => Some(Shared {
                flight: Some(flight),
                keys,
            }),
            (Place::Foreign(_), _) | (_, Some(_)) => None,
        }
    }

    fn asker(&self, class: Class) -> Asker {
        Asker {
            urgency: urgency(class),
            caller: self.claim.caller.0,
        }
    }

    pub(super) fn fetch(
        &self,
        purpose: Purpose,
        stored: Option<Arc<Entry>>,
        claim: Claim,
        wait_until: Instant,
    ) -> Box<Fetch> {
        Box::new(Fetch {
            workspace: Arc::clone(self.workspace),
            claim,
            wait_until,
            client: Arc::clone(self.client),
            person: self.person.clone().into_owned(),
            place: self.place.clone(),
            query: self.query.map(str::to_owned),
            stored,
            request_id: self.request_id.to_header(),
            trace: self.request_id.trace(),
            purpose,
            directives: self.directives,
            recalls: self.may_recall(),
        })
    }

    /// Whether what another gateway got some time ago may do: not for a client that wants Flameup asked,
    /// and not where nothing is stored.
    fn may_recall(&self) -> bool {
        let RequestDirectives {
            no_cache, no_store, ..
        } = self.directives;
        self.shared().is_some() && !no_cache && !no_store
    }
}

/// While Flameup refuses the key, nothing stale is served: the key may have been taken away on
/// purpose.
fn without_credit(read: &Read<'_>, found: cache::Lookup) -> cache::Lookup {
    if !read.workspace.shield().is_key_refused() {
        return found;
    }
    match found {
        cache::Lookup::Fresh(entry) => cache::Lookup::Fresh(entry),
        cache::Lookup::Stale(entry) => cache::Lookup::Forward {
            reason: Reason::Stale,
            stored: Some(entry),
            stale_if_error: false,
        },
        cache::Lookup::Forward { reason, stored, .. } => cache::Lookup::Forward {
            reason,
            stored,
            stale_if_error: false,
        },
    }
}

/// Judges a failure that was heard: an error if it is what this request is told, too. A refusal of
/// another caller's turn says nothing of this one's.
fn heard(
    failure: Arc<Failure>,
    own: Option<&Attempt>,
    claim: &Claim,
    left: Duration,
) -> Result<(), Arc<Failure>> {
    let Some(refusal) = failure.refusal() else {
        return Err(failure);
    };
    if let Some(own) = own.and_then(Attempt::failure) {
        return Err(Arc::clone(own));
    }
    if refusal.concerns(claim.caller, claim.class, left) {
        Err(failure)
    } else {
        Ok(())
    }
}

/// How a class ranks among those who want the same person; the greater, the more urgent.
fn urgency(class: Class) -> u8 {
    match class {
        Class::Refresh => 0,
        Class::Batch => 1,
        Class::Service => 2,
        Class::Interactive => 3,
    }
}
