//! What other gateways have fetched, and what they are told of it.

use std::sync::Arc;

use http::StatusCode;

use super::Gateway;
use super::fetch::Fetch;
use super::read::Read;
use crate::cache::changes::Started;
use crate::cache::claims::ClaimsBuf;
use crate::cache::control::RequestDirectives;
use crate::cache::entry::{Entry, Lifetime};
use crate::cache::freshness::Verdict;
use crate::cache::key::CacheKey;
use crate::cache::storable::{self, Verified};
use crate::cache::{Landed, Lookup, Storing};
use crate::tier::position::Position;
use crate::tier::shelf::{Found, Lease, Recall, Shelf, Wanted, Writing};
use crate::upstream::Response;
use crate::workspace::Workspace;

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

    /// Whether changes of others may have been missed, so that memory alone is not believed.
    pub(super) fn is_suspect(&self, workspace: &Workspace) -> bool {
        let shared = self.shared.as_ref();
        shared.is_some_and(|shared| shared.is_suspect(workspace.number()))
    }

    /// What memory has for a read, if the second tier knows of no change since. Where Redis does not
    /// answer, this gateway is a single one.
    pub(super) async fn confirmed(&self, read: &Read<'_>, found: Lookup) -> Lookup {
        let stored = match &found {
            Lookup::Fresh(entry) | Lookup::Stale(entry) => Some(entry),
            Lookup::Forward { stored, .. } => stored.as_ref(),
        };
        let (Some(entry), Some(second)) = (stored, self.shelf(read.workspace)) else {
            return found;
        };
        let wanted = Wanted {
            keys: read.place.keys(),
            after: None,
            leased: false,
        };
        match second.recall(wanted).await {
            Recall::Found(there) if entry.freshness().asked_at() >= there.asked_at => found,
            Recall::Unreachable => found,
            Recall::Found(_) | Recall::Nothing(_) | Recall::Busy => Lookup::NOTHING,
        }
    }

    /// What another gateway has for a fetch; else the right to fetch for all of them, if there is one
    /// to be had.
    pub(super) async fn recall_shared(&self, fetch: &Fetch) -> Result<Landed, Option<Lease>> {
        let second = self.shelf(&fetch.workspace).filter(|_| fetch.recalls);
        let second = second.ok_or(None)?;
        // Keeps in mind what changes meanwhile.
        let started = self.cache.fetch_begins();
        let stored = fetch.stored.as_ref();
        let wanted = Wanted {
            keys: fetch.keys(),
            after: stored.map(|stored| stored.freshness().asked_at()),
            leased: true,
        };
        let patience = fetch.wait_until.saturating_duration_since(self.clock.now());
        let patience = patience.min(self.cache.stall_after());
        match second.recall_in_time(wanted, patience).await {
            Recall::Found(found) => self.land_shared(fetch, &found, started).ok_or(None),
            Recall::Nothing(lease) => Err(lease),
            Recall::Busy | Recall::Unreachable => Err(None),
        }
    }

    /// Has other gateways told of what landed, if it is worth keeping.
    pub(super) fn share(&self, landed: &Landed, position: Option<Position>, lease: Option<Lease>) {
        let (Some(shared), Some(position)) = (&self.shared, position) else {
            return;
        };
        if landed.is_stored() {
            let writing = Writing {
                entry: Arc::clone(&landed.entry),
                asked: landed.asked.clone(),
                position,
                lease,
            };
            shared.write(landed.asked.person().workspace(), writing);
        }
    }

    /// Judges what another gateway has as if Flameup had just sent it, but for its age.
    fn land_shared(&self, fetch: &Fetch, found: &Found, started: Started) -> Option<Landed> {
        let response = Response {
            status: found.stored.status()?,
            headers: found.stored.headers()?,
            body: found.stored.body.clone(),
            requested_at: found.asked_at,
        };
        let lifetime = Lifetime {
            ttl: found.stored.lifetime(),
            jitter: 0.0,
        };
        let (entry, storing) = match response.status {
            StatusCode::OK => person(fetch, &response, lifetime)?,
            StatusCode::NOT_FOUND => self.absence(fetch, &response, lifetime),
            _ => return None,
        };
        let number = fetch.workspace.number();
        let asked = found.stored.asked_as();
        let entry = match asked.map(|asked| CacheKey::of_identifier(number, asked)) {
            Some(asked) => entry.asked_as(&asked),
            None => entry,
        };
        let keys = fetch.keys();
        let is_meant = entry.is_answer_to(keys.spelled()) || self.cache.is_meant(&entry, keys);
        if !is_meant || !self.is_of_use(fetch, &entry) {
            return None;
        }
        let status = response.status;
        let landed = self
            .cache
            .landed(entry, status, storing, keys.clone(), started);
        Some(landed.shared())
    }

    /// Whether it may be served to somebody now, without asking for anything fresher first.
    fn is_of_use(&self, fetch: &Fetch, entry: &Entry) -> bool {
        let (any, now) = (RequestDirectives::default(), self.clock.now());
        match self.cache.judge(entry, &any, now) {
            Verdict::Serve => true,
            Verdict::ServeAndRevalidate => {
                entry.status() == StatusCode::OK && !fetch.workspace.shield().is_key_refused()
            }
            Verdict::Forward { .. } => false,
        }
    }

    fn absence(&self, fetch: &Fetch, response: &Response, lifetime: Lifetime) -> (Entry, Storing) {
        let storing = storable::absence(response, &fetch.place, self.cache.keeps_absences());
        let claims = ClaimsBuf::of_absence(fetch.keys());
        (
            Entry::new(response, lifetime).claiming(claims.claims()),
            storing,
        )
    }
}

/// A person, who has to prove that they are whom the lookup means, and of this workspace.
fn person(fetch: &Fetch, response: &Response, lifetime: Lifetime) -> Option<(Entry, Storing)> {
    let verified = storable::verify(response, &fetch.person, &fetch.place, &fetch.workspace);
    let Verified {
        storing, claims, ..
    } = verified.ok()?;
    let entry = Entry::new(response, lifetime).claiming(claims.claims());
    (storing == Storing::Person).then_some((entry, storing))
}
