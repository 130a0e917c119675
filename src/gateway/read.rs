//! The cached read of one person.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderValue;

use super::Gateway;
use super::decisions::Decision;
use super::fetch::Fetch;
use crate::answer::Answer;
use crate::cache::collapse::{self, Obligation};
use crate::cache::control::RequestDirectives;
use crate::cache::entry::Entry;
use crate::cache::key::{CacheKey, Keys};
use crate::cache::status::Reason;
use crate::cache::{Landed, Landing, Lookup};
use crate::failure::Failure;
use crate::person::PersonRef;
use crate::shield::queue::Class;
use crate::shield::{Claim, Purpose};
use crate::workspace::{Place, Workspace};

/// What a waiter allows beyond the upstream's deadline, so that it is told how the fetch ended
/// rather than that its own time was up.
const GRACE: Duration = Duration::from_millis(250);

/// How long waiting for a turn keeps back an answer that may be served stale.
const STALE_PATIENCE: Duration = Duration::from_millis(1500);

/// One read, as the request asks for it.
#[derive(Debug)]
pub(super) struct Read<'a> {
    pub(super) workspace: &'a Arc<Workspace>,
    pub(super) claim: Claim,
    pub(super) client: &'a Arc<str>,
    pub(super) person: PersonRef<'a>,
    pub(super) place: Place,
    pub(super) query: Option<&'a str>,
    pub(super) directives: RequestDirectives,
    pub(super) request_id: &'a HeaderValue,
    pub(super) now: Instant,
}

/// What a read has in common with equal ones.
#[derive(Debug)]
struct Shared<'a> {
    /// What they collapse on; made when it is needed, for a hit has no need of it.
    flight: Option<&'a CacheKey>,
    /// What Flameup is asked for.
    keys: &'a Keys,
}

impl Gateway {
    /// Reads one person, from memory where that will do.
    pub(super) async fn read(self: &Arc<Self>, read: Read<'_>) -> Answer {
        let answer = self.answer_read(&read).await;
        let cache = answer.cache_status();
        let decision = || Decision {
            name: self.cache.name(read.place.keys().person().as_bytes()),
            at: read.now,
            cache,
        };
        self.decisions.note(decision, cache);
        answer
    }

    async fn answer_read(self: &Arc<Self>, read: &Read<'_>) -> Answer {
        let (lookup, shared) = self.recall(read);
        match (lookup, shared) {
            (Lookup::Fresh(entry), _) => Answer::hit(entry, read.now),
            (Lookup::Stale(entry), _) if read.directives.only_if_cached => {
                Answer::stale_unasked(entry, read.now)
            }
            (Lookup::Stale(entry), shared) => {
                if self.refresh(read, shared, &entry) {
                    Answer::revalidating(entry, read.now)
                } else {
                    Answer::stale_for_want_of_budget(entry, read.now)
                }
            }
            (Lookup::Forward { .. }, _) if read.directives.only_if_cached => {
                Answer::refused(&Failure::OnlyIfCached)
            }
            (
                Lookup::Forward {
                    reason,
                    stored,
                    stale_if_error,
                },
                shared,
            ) => {
                let cover = stored.clone().filter(|_| stale_if_error);
                // An answer that the client wants kept nowhere cannot be shared either.
                let landed = match shared.filter(|_| !read.directives.no_store) {
                    Some(shared) => {
                        self.read_together(read, shared, stored, cover.is_some())
                            .await
                    }
                    None => self.read_alone(read).await,
                };
                self.or_stale(landed, cover, read, reason)
            }
        }
    }

    /// What memory has for a read, and what the read shares with equal ones, if anything.
    fn recall<'r>(&self, read: &'r Read<'_>) -> (Lookup, Option<Shared<'r>>) {
        let (lookup, shared) = match (&read.place, read.query) {
            (Place::Own(keys), None) => (
                self.cache.lookup(keys, &read.directives, read.now),
                Some(Shared { flight: None, keys }),
            ),
            (Place::Unproven { flight, keys }, None) => (
                Lookup::NOTHING,
                Some(Shared {
                    flight: Some(flight),
                    keys,
                }),
            ),
            (Place::Foreign(_), _) | (_, Some(_)) => (Lookup::BYPASS, None),
        };
        (without_credit(read, lookup), shared)
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
        let cover = cover.filter(|entry| {
            self.cache.covers(entry, &read.directives, now)
                && !read.workspace.shield().is_key_refused()
        });
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
        let fetch = read.fetch(Purpose::Refresh, Some(Arc::clone(stored)), true);
        let Ok(permit) = read.workspace.shield().admit_now(&fetch.claim) else {
            return false;
        };
        if let Ok(joined) = self.cache.join(&flight, urgency(Class::Refresh), read.now)
            && let Some(obligation) = joined.obligation
        {
            self.spawn_admitted(fetch, permit, obligation);
        }
        true
    }

    /// Reads together with whoever else wants this person now. Says also whether the fetch was
    /// another request's.
    ///
    /// Where something stale may be served, it is not kept back for long by waiting for a turn.
    async fn read_together(
        self: &Arc<Self>,
        read: &Read<'_>,
        shared: Shared<'_>,
        stored: Option<Arc<Entry>>,
        is_covered: bool,
    ) -> Result<(Arc<Landed>, bool), Arc<Failure>> {
        let longest = read.claim.patience + self.upstream.timeout() + GRACE;
        let limits = Limits::new(longest, is_covered, self.cache.stall_after());
        let flight = self.flight(&shared);
        // What changed before now must not be shown as it was.
        let last_change = self.cache.last_change();
        let mut fetched = false;
        loop {
            let now = self.clock.now();
            let joined = self.cache.join(&flight, urgency(read.claim.class), now);
            let mut joined = joined.map_err(Failure::from)?;
            if let Some(obligation) = joined.obligation {
                fetched |= self.begin(read, &shared, stored.clone(), obligation);
            }
            let patience = limits.patience(joined.follower.is_waiting());
            match joined.follower.wait(patience).await {
                Ok(Ok(landed))
                    if self.cache.answers(&landed, shared.keys)
                        && self.is_recent(&landed, read)
                        && !self.cache.is_outdated(&landed, last_change) =>
                {
                    return Ok((landed, !fetched));
                }
                // Another caller's share was used up. That says nothing of this one's.
                Ok(Err(failure)) if !fetched && failure.is_of_one_caller() => {}
                Ok(Err(failure)) => return Err(failure),
                Err(collapse::Error::Abandoned) => {
                    return Err(Arc::new(collapse::Error::Abandoned.into()));
                }
                // What landed does not do, or the fetch may have stalled and can be replaced.
                Ok(Ok(_)) | Err(collapse::Error::Deadline) => {}
            }
            limits.check(joined.follower.is_waiting())?;
        }
    }

    fn flight<'k>(&self, shared: &Shared<'k>) -> Cow<'k, CacheKey> {
        match shared.flight {
            Some(flight) => Cow::Borrowed(flight),
            None => Cow::Owned(self.cache.flight(shared.keys)),
        }
    }

    /// Begins the fetch that `obligation` asks for, unless another has just stored the answer: the
    /// request found nothing before it joined. Says whether a fetch was begun.
    fn begin(
        self: &Arc<Self>,
        read: &Read<'_>,
        shared: &Shared<'_>,
        stored: Option<Arc<Entry>>,
        obligation: Obligation<Landing<Arc<Failure>>>,
    ) -> bool {
        if let Place::Own(keys) = &read.place
            && let now = self.clock.now()
            && let Lookup::Fresh(entry) = self.cache.lookup(keys, &read.directives, now)
        {
            let recalled = self.cache.recalled(entry, shared.keys.clone());
            self.fulfil(obligation, Ok(recalled));
            return false;
        }
        let purpose = if stored.is_some() {
            Purpose::Revalidation
        } else {
            Purpose::Miss
        };
        self.spawn_fetch(read.fetch(purpose, stored, self.knows(read)), obligation);
        true
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
        let demanding = directives.no_cache
            || directives
                .max_age
                .is_some_and(|max_age| freshness.current_age(now) > max_age);
        !demanding || !freshness.began_before(read.now)
    }

    /// Reads for this request only; nothing is stored.
    async fn read_alone(&self, read: &Read<'_>) -> Result<(Arc<Landed>, bool), Arc<Failure>> {
        let fetch = read.fetch(Purpose::Bypass, None, self.knows(read));
        let permit = self.turn(&fetch).await.map_err(Failure::from)?;
        let landed = self.fetch(&fetch, permit).await?;
        Ok((Arc::new(landed), false))
    }
}

impl Read<'_> {
    fn fetch(&self, purpose: Purpose, stored: Option<Arc<Entry>>, known: bool) -> Fetch {
        let class = if purpose == Purpose::Refresh {
            Class::Refresh
        } else {
            self.claim.class
        };
        Fetch {
            workspace: Arc::clone(self.workspace),
            claim: Claim {
                class,
                known,
                ..self.claim
            },
            client: Arc::clone(self.client),
            person: self.person.clone().into_owned(),
            place: self.place.clone(),
            query: self.query.map(str::to_owned),
            stored,
            request_id: self.request_id.clone(),
            purpose,
        }
    }
}

/// While Flameup refuses the key, nothing stale is served: the key may have been taken away on
/// purpose.
fn without_credit(read: &Read<'_>, lookup: Lookup) -> Lookup {
    if !read.workspace.shield().is_key_refused() {
        return lookup;
    }
    match lookup {
        Lookup::Fresh(entry) => Lookup::Fresh(entry),
        Lookup::Stale(entry) => Lookup::Forward {
            reason: Reason::Stale,
            stored: Some(entry),
            stale_if_error: false,
        },
        Lookup::Forward { reason, stored, .. } => Lookup::Forward {
            reason,
            stored,
            stale_if_error: false,
        },
    }
}

/// Until when a request waits.
#[derive(Debug)]
struct Limits {
    /// Whatever happens.
    deadline: tokio::time::Instant,
    /// For the fetch's turn, where something stale may be served instead.
    turn_by: Option<tokio::time::Instant>,
    /// Before looking whether the fetch has stalled.
    look_after: Duration,
}

impl Limits {
    fn new(longest: Duration, is_covered: bool, look_after: Duration) -> Self {
        let now = tokio::time::Instant::now();
        let turn_by = is_covered.then(|| now + STALE_PATIENCE);
        Self {
            deadline: now + longest,
            turn_by,
            look_after,
        }
    }

    /// How long to wait now; `for_turn` if the fetch still waits for its own.
    fn patience(&self, for_turn: bool) -> Duration {
        let until = self
            .turn_by
            .filter(|_| for_turn)
            .unwrap_or(self.deadline)
            .min(self.deadline);
        until
            .saturating_duration_since(tokio::time::Instant::now())
            .min(self.look_after)
    }

    /// Ends the waiting if its time is over.
    fn check(&self, for_turn: bool) -> Result<(), Failure> {
        let now = tokio::time::Instant::now();
        if now >= self.deadline {
            return Err(collapse::Error::Deadline.into());
        }
        match self.turn_by {
            Some(turn_by) if for_turn && now >= turn_by => Err(Failure::LongWait),
            _ => Ok(()),
        }
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
