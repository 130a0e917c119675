//! What other gateways have fetched, and what they are told of it.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use super::Gateway;
use super::fetch::Fetch;
use super::read::Read;
use crate::cache::changes::Started;
use crate::cache::claims::ClaimsBuf;
use crate::cache::entry::{Entry, Lifetime};
use crate::cache::key::{CacheKey, Keys};
use crate::cache::storable::{self, Verified};
use crate::cache::{Landed, Lookup, Storing};
use crate::shield::Purpose;
use crate::tier::position::Position;
use crate::tier::shelf::{Found, Lease, Recall, Shelf, Wanted, Writing};
use crate::upstream::Response;
use crate::workspace::Workspace;

/// What becomes of a fetch that other gateways were asked about.
pub(super) enum Recalled {
    /// One of them has the answer.
    Landed(Box<Landed>),
    /// None of them has. It is ours to fetch for all, with the lease.
    Nothing(Option<Lease>),
    /// One of them is fetching it, and took longer than could be waited for.
    Elsewhere,
}

impl Gateway {
    /// The second tier of a workspace, if there is one.
    pub(super) fn shelf(&self, workspace: &Workspace) -> Option<&Arc<Shelf>> {
        self.shared.as_ref()?.shelf(workspace.number())
    }

    /// Up to where the changes of a workspace have been applied; what is asked for from now on shows
    /// them.
    pub(super) fn position(&self, workspace: &Workspace) -> Option<Position> {
        Some(self.shelf(workspace)?.standing().applied())
    }

    /// Whether memory alone is not to be believed, as changes of this workspace may have been missed.
    pub(super) fn is_suspect(&self, workspace: &Workspace) -> bool {
        self.shelf(workspace)
            .is_some_and(|shelf| shelf.standing().is_suspect())
    }

    /// What another gateway has for a fetch, else whether it is to be sent.
    pub(super) async fn recall_shared(&self, fetch: &Fetch) -> Recalled {
        // A refresh is not worth waiting for another gateway's.
        let patience = match fetch.purpose {
            Purpose::Refresh => Duration::ZERO,
            _ => fetch.wait_until.saturating_duration_since(self.clock.now()),
        };
        let patience = patience.min(self.cache.stall_after());
        match self.recall_from_tier(fetch, true, patience).await {
            Recall::Found(landed) => Recalled::Landed(Box::new(landed)),
            Recall::Nothing(lease) => Recalled::Nothing(lease),
            Recall::Busy => Recalled::Elsewhere,
            Recall::Unreachable => Recalled::Nothing(None),
        }
    }

    /// What another gateway has for a read whose client wants nobody asked.
    pub(super) async fn recall_unasked(&self, read: &Read<'_>) -> Option<Landed> {
        let fetch = self.unsent(read);
        match self.recall_from_tier(&fetch, false, Duration::ZERO).await {
            Recall::Found(landed) => Some(landed),
            Recall::Nothing(_) | Recall::Busy | Recall::Unreachable => None,
        }
    }

    /// What memory has for a read, now that it is not to be believed by itself: as much of it as Redis
    /// confirms. Where Redis does not answer there is nothing else to go by.
    ///
    /// A record stands only if its person has not changed since it was asked for; then nothing that was
    /// asked for later shows an older state either.
    pub(super) async fn confirmed(&self, read: &Read<'_>, found: Lookup) -> Lookup {
        let fetch = self.unsent(read);
        // Who would be a hit tries nothing out: others will notice that Redis is back.
        let is_up = self.shelf(&fetch.workspace).is_some_and(|it| it.is_up());
        if !is_up {
            return found;
        }
        match self.recall_from_tier(&fetch, false, Duration::ZERO).await {
            Recall::Found(landed) if landed.entry.freshness().is_fresh(self.clock.now()) => {
                Lookup::Fresh(Arc::clone(&landed.entry))
            }
            Recall::Found(landed) => Lookup::Stale(Arc::clone(&landed.entry)),
            Recall::Unreachable => found,
            Recall::Nothing(_) | Recall::Busy => match found {
                Lookup::Forward { reason, .. } => Lookup::Forward {
                    reason,
                    stored: None,
                    stale_if_error: false,
                },
                Lookup::Fresh(_) | Lookup::Stale(_) => Lookup::NOTHING,
            },
        }
    }

    /// A fetch that stands for what a read looks for, and is never sent.
    fn unsent(&self, read: &Read<'_>) -> Box<Fetch> {
        read.fetch(Purpose::Miss, None, read.claim, self.clock.now())
    }

    async fn recall_from_tier(
        &self,
        fetch: &Fetch,
        leased: bool,
        patience: Duration,
    ) -> Recall<Landed> {
        let Some(second) = self.shelf(&fetch.workspace).filter(|_| fetch.recalls) else {
            return Recall::Nothing(None);
        };
        let shared = self.shared.as_ref();
        let log = shared.and_then(|shared| shared.log(fetch.workspace.number()));
        if log.is_some_and(|log| log.has_untold()) {
            // What was changed here still stands there as it was before.
            return Recall::Unreachable;
        }
        let stored = fetch.stored.as_ref();
        let wanted = Wanted {
            keys: fetch.keys(),
            after: stored.map(|stored| stored.freshness().asked_at()),
            leased,
        };
        // Keeps in mind what changes meanwhile.
        let mut started = self.cache.fetch_begins();
        let judge = |found: Found| {
            let started = std::mem::replace(&mut started, self.cache.fetch_begins());
            self.land_shared(fetch, &found, started)
        };
        second.recall(wanted, patience, judge).await
    }

    /// Has other gateways told of what landed, if it is worth keeping.
    pub(super) fn share(&self, landed: &Landed, position: Option<Position>, lease: Option<Lease>) {
        let kept = landed.is_stored();
        // Where absences are not kept, whoever was there is gone all the same.
        if kept || landed.storing == (Storing::Absence { kept: false }) {
            self.tell(&landed.entry, &landed.asked, kept, position, lease);
        }
    }

    /// Has other gateways told that nobody is called so who was before this was answered.
    pub(super) fn share_gone(&self, workspace: &Workspace, asked: &Keys, answer: Entry) {
        let position = self.position(workspace);
        self.tell(&Arc::new(answer), asked, false, position, None);
    }

    fn tell(
        &self,
        entry: &Arc<Entry>,
        asked: &Keys,
        kept: bool,
        position: Option<Position>,
        lease: Option<Lease>,
    ) {
        let (Some(shared), Some(position)) = (&self.shared, position) else {
            return;
        };
        let writing = Writing {
            entry: Arc::clone(entry),
            asked: asked.clone(),
            position,
            kept,
            lease,
        };
        shared.write(asked.person().workspace(), writing);
    }

    /// Judges what another gateway has as if Flameup had just sent it, but for its age, and puts it into
    /// memory. What memory does not take is of no use: a change here may be one that Redis was not told.
    fn land_shared(&self, fetch: &Fetch, found: &Found, started: Started) -> Option<Landed> {
        let response = Response {
            status: found.stored.status()?,
            headers: found.stored.headers()?,
            body: found.stored.body.clone(),
            requested_at: found.asked_at,
        };
        let (entry, storing) = match response.status {
            StatusCode::OK => self.found_person(fetch, &response, found)?,
            StatusCode::NOT_FOUND => self.found_absence(fetch, &response, found),
            _ => return None,
        };
        if storing == Storing::Nowhere {
            return None;
        }
        let number = fetch.workspace.number();
        let asked = found.stored.asked_as();
        let entry = match asked.map(|asked| CacheKey::of_identifier(number, asked)) {
            Some(asked) => entry.asked_as(&asked),
            None => entry,
        };
        let keys = fetch.keys();
        let is_meant = || self.cache.finds_by_aliases() && self.cache.is_meant(&entry, keys);
        if !entry.is_answer_to(keys.spelled()) && !is_meant() {
            return None;
        }
        let (status, now) = (response.status, self.clock.now());
        let cache = &self.cache;
        let landed = cache.landed(entry, status, storing, keys.clone(), started);
        let entry = match cache.adopt(&landed, &fetch.directives, now)? {
            Lookup::Fresh(entry) => entry,
            Lookup::Stale(entry) if may_serve_stale(fetch) => entry,
            Lookup::Stale(_) | Lookup::Forward { .. } => return None,
        };
        Some(cache.recalled(entry, keys.clone()).shared())
    }

    /// A person, who has to prove that they are whom the lookup means, and of this workspace.
    fn found_person(
        &self,
        fetch: &Fetch,
        response: &Response,
        found: &Found,
    ) -> Option<(Entry, Storing)> {
        let verified = storable::verify(response, &fetch.person, &fetch.place, &fetch.workspace);
        let Verified {
            storing, claims, ..
        } = verified.ok()?;
        let lifetime = lifetime(found, self.cache.longest_lifetime());
        let entry = Entry::new(response, lifetime).claiming(claims.claims());
        Some((entry, storing))
    }

    fn found_absence(&self, fetch: &Fetch, response: &Response, found: &Found) -> (Entry, Storing) {
        let storing = storable::absence(response, &fetch.place, self.cache.keeps_absences());
        let claims = ClaimsBuf::of_absence(fetch.keys());
        let lifetime = lifetime(found, self.cache.longest_absence());
        let entry = Entry::new(response, lifetime).claiming(claims.claims());
        (entry, storing)
    }
}

/// Whether something stale does: not where that is held already, nor while the key is refused.
fn may_serve_stale(fetch: &Fetch) -> bool {
    fetch.stored.is_none() && !fetch.workspace.shield().is_key_refused()
}

/// The lifetime that another gateway gave, and no longer than we would.
fn lifetime(found: &Found, longest: Duration) -> Lifetime {
    Lifetime {
        ttl: found.stored.lifetime().min(longest),
        jitter: 0.0,
    }
}
