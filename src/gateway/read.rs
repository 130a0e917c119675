//! The cached read of one person.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderValue, StatusCode};

use super::Gateway;
use super::failure::Failure;
use super::fetch::{Fetch, Purpose};
use crate::answer::Answer;
use crate::cache::control::RequestDirectives;
use crate::cache::entry::Entry;
use crate::cache::key::{CacheKey, Keys};
use crate::cache::status::Reason;
use crate::cache::{Landed, Lookup};
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
                Shared::of(keys),
            ),
            (Place::Unproven { flight, keys }, None) => (
                Lookup::NOTHING,
                Shared {
                    flight,
                    asked: keys.spelled(),
                },
            ),
            (Place::Foreign(_), _) | (_, Some(_)) => {
                return self.read_alone(&read, Reason::Bypass).await;
            }
        };
        match lookup {
            Lookup::Fresh(entry) => Answer::hit(entry, read.now),
            Lookup::Stale(entry) => {
                self.refresh(&read, shared, &entry);
                Answer::revalidating(entry, read.now)
            }
            Lookup::Forward { .. } if read.directives.only_if_cached => {
                Answer::refused(&Failure::OnlyIfCached)
            }
            // The client wants its answer kept nowhere, so nobody can share it.
            Lookup::Forward { reason, .. } if read.directives.no_store => {
                self.read_alone(&read, reason).await
            }
            Lookup::Forward {
                reason,
                stored,
                stale_if_error,
            } => {
                let cover = stored.clone().filter(|_| stale_if_error);
                let landed = self.read_together(&read, shared, stored).await;
                self.or_stale(landed, cover, &read.directives, reason)
            }
        }
    }

    /// Answers with what landed, or with what is stored where nothing usable did.
    fn or_stale(
        &self,
        landed: Result<(Landed, bool), Arc<Failure>>,
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
    fn refresh(self: &Arc<Self>, read: &Read<'_>, shared: Shared<'_>, stored: &Arc<Entry>) {
        if let Ok(joined) = self.cache.join(shared.flight, read.now)
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
    ) -> Result<(Landed, bool), Arc<Failure>> {
        let deadline = read.now + self.upstream.timeout() + GRACE;
        loop {
            let now = self.clock.now();
            let joined = self.cache.join(shared.flight, now).map_err(Failure::from)?;
            let collapsed = joined.obligation.is_none();
            if let Some(obligation) = joined.obligation {
                let purpose = if stored.is_some() {
                    Purpose::Revalidation
                } else {
                    Purpose::Miss
                };
                self.spawn_fetch(read.fetch(purpose, stored.clone()), obligation);
            }
            let patience = deadline.saturating_duration_since(now);
            let landed = joined
                .follower
                .wait(patience)
                .await
                .map_err(Failure::from)??;
            // Another spelling of this e-mail is unknown to Flameup. That says nothing of this one.
            if landed.fwd_status != StatusCode::NOT_FOUND || landed.asked == *shared.asked {
                return Ok((landed, collapsed));
            }
        }
    }

    /// Reads for this request only; nothing is stored.
    async fn read_alone(self: &Arc<Self>, read: &Read<'_>, reason: Reason) -> Answer {
        match self.fetch(&read.fetch(Purpose::Bypass, None)).await {
            Ok(landed) => Answer::forwarded(&landed, reason, false, self.clock.now()),
            Err(failure) => Answer::failed(&failure, reason),
        }
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
