//! The cached read of one person.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderValue;

use super::Gateway;
use super::fetch::{Fetch, Purpose};
use crate::answer::Answer;
use crate::cache::collapse::{self, Obligation};
use crate::cache::control::RequestDirectives;
use crate::cache::entry::Entry;
use crate::cache::key::{CacheKey, Keys};
use crate::cache::status::Reason;
use crate::cache::{Landed, Landing, Lookup};
use crate::failure::Failure;
use crate::person::PersonRef;
use crate::workspace::{Place, Workspace};

/// What a waiter allows beyond the upstream's deadline, so that it is told how the fetch ended
/// rather than that its own time was up.
const GRACE: Duration = Duration::from_millis(250);

/// One read, as the request asks for it.
#[derive(Debug)]
pub(super) struct Read<'a> {
    pub(super) workspace: &'a Arc<Workspace>,
    pub(super) person: PersonRef<'a>,
    pub(super) place: Place,
    pub(super) query: Option<&'a str>,
    pub(super) directives: RequestDirectives,
    pub(super) request_id: &'a HeaderValue,
    pub(super) now: Instant,
}

/// What a read has in common with equal ones.
#[derive(Clone, Copy, Debug)]
struct Shared<'a> {
    /// What they collapse on.
    flight: &'a CacheKey,
    /// The exact spelling that Flameup is asked for.
    asked: &'a CacheKey,
}

impl<'a> Shared<'a> {
    fn of(keys: &'a Keys) -> Self {
        Self {
            flight: keys.person(),
            asked: keys.spelled(),
        }
    }
}

impl Gateway {
    /// Reads one person, from memory where that will do.
    pub(super) async fn read(self: &Arc<Self>, read: Read<'_>) -> Answer {
        let (lookup, shared) = match (&read.place, read.query) {
            (Place::Own(keys), None) => (
                self.cache.lookup(keys, &read.directives, read.now),
                Some(Shared::of(keys)),
            ),
            (Place::Unproven { flight, keys }, None) => (
                Lookup::NOTHING,
                Some(Shared {
                    flight,
                    asked: keys.spelled(),
                }),
            ),
            (Place::Foreign(_), _) | (_, Some(_)) => (Lookup::BYPASS, None),
        };
        match (lookup, shared) {
            (Lookup::Fresh(entry), _) => Answer::hit(entry, read.now),
            (Lookup::Stale(entry), shared) => {
                if !read.directives.only_if_cached {
                    self.refresh(&read, shared, &entry);
                }
                Answer::revalidating(entry, read.now)
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
                    Some(shared) => self.read_together(&read, shared, stored).await,
                    None => self.read_alone(&read).await,
                };
                self.or_stale(landed, cover, &read.directives, reason)
            }
        }
    }

    /// Answers with what landed, or with what is stored where nothing usable did.
    fn or_stale(
        &self,
        landed: Result<(Arc<Landed>, bool), Arc<Failure>>,
        cover: Option<Arc<Entry>>,
        directives: &RequestDirectives,
        reason: Reason,
    ) -> Answer {
        let now = self.clock.now();
        // Asking took its time, and what is stored grew older meanwhile.
        let cover = cover.filter(|entry| self.cache.covers(entry, directives, now));
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

    /// Has Flameup asked in the background, unless that is being done already.
    fn refresh(self: &Arc<Self>, read: &Read<'_>, shared: Option<Shared<'_>>, stored: &Arc<Entry>) {
        if let Some(shared) = shared
            && let Ok(joined) = self.cache.join(shared.flight, read.now)
            && let Some(obligation) = joined.obligation
        {
            let stored = Some(Arc::clone(stored));
            self.spawn_fetch(read.fetch(Purpose::Refresh, stored), obligation);
        }
    }

    /// Reads together with whoever else wants this person now. Says also whether the fetch was
    /// another request's.
    async fn read_together(
        self: &Arc<Self>,
        read: &Read<'_>,
        shared: Shared<'_>,
        stored: Option<Arc<Entry>>,
    ) -> Result<(Arc<Landed>, bool), Arc<Failure>> {
        let deadline = tokio::time::Instant::now() + self.upstream.timeout() + GRACE;
        let mut fetched = false;
        loop {
            let joined = self
                .cache
                .join(shared.flight, self.clock.now())
                .map_err(Failure::from)?;
            if let Some(obligation) = joined.obligation {
                fetched |= self.begin(read, shared, stored.clone(), obligation);
            }
            // Waiting is interrupted to see whether the fetch has stalled, and replace it.
            let patience = deadline.saturating_duration_since(tokio::time::Instant::now());
            match joined
                .follower
                .wait(patience.min(self.cache.stall_after()))
                .await
            {
                Err(collapse::Error::Deadline) if patience > self.cache.stall_after() => {}
                Err(error) => return Err(Arc::new(error.into())),
                Ok(landing) => {
                    let landed = landing?;
                    if landed.answers(shared.asked) && self.is_recent(&landed, read) {
                        return Ok((landed, !fetched));
                    }
                    // Whatever lands and does not do, the deadline holds.
                    if patience.is_zero() {
                        return Err(Arc::new(collapse::Error::Deadline.into()));
                    }
                }
            }
        }
    }

    /// Begins the fetch that `obligation` asks for, unless another has just stored the answer: the
    /// request found nothing before it joined. Says whether a fetch was begun.
    fn begin(
        self: &Arc<Self>,
        read: &Read<'_>,
        shared: Shared<'_>,
        stored: Option<Arc<Entry>>,
        obligation: Obligation<Landing<Arc<Failure>>>,
    ) -> bool {
        if let Place::Own(keys) = &read.place
            && let now = self.clock.now()
            && let Lookup::Fresh(entry) = self.cache.lookup(keys, &read.directives, now)
        {
            let recalled = Landed::recalled(entry, shared.asked.clone());
            self.cache.fulfil(obligation, Ok(Arc::new(recalled)));
            return false;
        }
        let purpose = if stored.is_some() {
            Purpose::Revalidation
        } else {
            Purpose::Miss
        };
        self.spawn_fetch(read.fetch(purpose, stored), obligation);
        true
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
        let landed = self.fetch(&read.fetch(Purpose::Bypass, None)).await?;
        Ok((Arc::new(landed), false))
    }
}

impl Read<'_> {
    fn fetch(&self, purpose: Purpose, stored: Option<Arc<Entry>>) -> Fetch {
        Fetch {
            workspace: Arc::clone(self.workspace),
            person: self.person.clone().into_owned(),
            place: self.place.clone(),
            query: self.query.map(str::to_owned),
            stored,
            request_id: self.request_id.clone(),
            purpose,
        }
    }
}
