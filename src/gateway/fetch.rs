//! One forward to Flameup, and what its answer is good for.
//!
//! A shared fetch runs in a task of its own: it survives the caller that started it, and its own
//! deadline ends it.

use std::sync::Arc;

use http::{HeaderValue, StatusCode};

use super::Gateway;
use crate::cache::collapse::Obligation;
use crate::cache::entry::{Entry, Lifetime};
use crate::cache::key::CacheKey;
use crate::cache::storable::{self, Verified};
use crate::cache::{Landed, Landing, Storing};
use crate::failure::Failure;
use crate::person::PersonRef;
use crate::shield::signals::wait_after_429;
use crate::telemetry::Forwarded;
use crate::upstream::Response;
use crate::upstream::request::PersonRequest;
use crate::workspace::{Place, Workspace};

/// What is asked of Flameup, free of the request that caused it.
#[derive(Debug)]
pub(super) struct Fetch {
    pub(super) workspace: Arc<Workspace>,
    pub(super) person: PersonRef<'static>,
    pub(super) place: Place,
    pub(super) query: Option<String>,
    /// What is stored, for its validator.
    pub(super) stored: Option<Arc<Entry>>,
    pub(super) request_id: HeaderValue,
    pub(super) purpose: Purpose,
}

/// What a forward is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Nothing was stored.
    Miss,
    /// What is stored no longer does, and a caller waits.
    Revalidation,
    /// What is stored is served stale meanwhile.
    Refresh,
    /// For one request alone; nothing is stored.
    Bypass,
}

impl Purpose {
    /// The word for it in metrics and logs.
    pub fn word(self) -> &'static str {
        match self {
            Self::Miss => "miss",
            Self::Revalidation => "revalidation",
            Self::Refresh => "refresh",
            Self::Bypass => "bypass",
        }
    }
}

impl Gateway {
    /// Fetches in a task of its own, which spends `obligation` whatever happens.
    pub(super) fn spawn_fetch(
        self: &Arc<Self>,
        fetch: Fetch,
        obligation: Obligation<Landing<Arc<Failure>>>,
    ) {
        let gateway = Arc::clone(self);
        tokio::spawn(async move {
            let landing = gateway.fetch(&fetch).await.map(Arc::new).map_err(Arc::new);
            gateway.cache.fulfil(obligation, landing);
        });
    }

    /// Asks Flameup once.
    pub(super) async fn fetch(&self, fetch: &Fetch) -> Result<Landed, Failure> {
        let permit = self.shield.admit()?;
        let request = PersonRequest {
            person: &fetch.person,
            query: fetch.query.as_deref(),
            validator: fetch.stored.as_ref().and_then(|entry| entry.validator()),
            request_id: &fetch.request_id,
        };
        let started = self.clock.now();
        let sent = self
            .upstream
            .send(&request, &fetch.workspace, permit, started)
            .await;
        let status = sent.as_ref().ok().map(|response| response.status);
        let landed = sent
            .map_err(Failure::from)
            .and_then(|response| self.land(fetch, &response));
        self.telemetry.forwarded(&Forwarded {
            workspace: fetch.workspace.name(),
            purpose: fetch.purpose,
            person_kind: fetch.person.kind(),
            asked: fetch.asked(),
            status,
            failure: landed.as_ref().err(),
            duration: self.clock.now().saturating_duration_since(started),
        });
        landed
    }

    /// Decides what Flameup's answer is good for, by its status.
    fn land(&self, fetch: &Fetch, response: &Response) -> Result<Landed, Failure> {
        match response.status {
            StatusCode::OK => self.land_person(fetch, response),
            StatusCode::NOT_MODIFIED => self.land_confirmation(fetch, response),
            StatusCode::UNAUTHORIZED => Err(Failure::KeyRefused),
            StatusCode::TOO_MANY_REQUESTS => {
                let retry_after = wait_after_429(&response.headers, self.clock.wall());
                Err(Failure::RateLimited { retry_after })
            }
            StatusCode::NOT_FOUND => {
                let keeps = self.cache.keeps_absences();
                let storing = fetch.storing(storable::absence(response, &fetch.place, keeps));
                let lifetime = self
                    .cache
                    .lifetime_of_absence(fetch.asked(), response.requested_at);
                Ok(fetch.landed(response, storing, lifetime))
            }
            // Flameup's own errors are Flameup's to word.
            status if status.is_client_error() || status.is_server_error() => {
                Ok(fetch.landed(response, Storing::Nowhere, Lifetime::NONE))
            }
            status => Err(Failure::UnexpectedStatus(status)),
        }
    }

    fn land_person(&self, fetch: &Fetch, response: &Response) -> Result<Landed, Failure> {
        if fetch.query.is_some() {
            // What a query makes of a Person is not documented; that it stays JSON is the least.
            serde_json::from_slice::<serde::de::IgnoredAny>(&response.body)
                .map_err(|_| Failure::NotJson)?;
            return Ok(fetch.landed(response, Storing::Nowhere, Lifetime::NONE));
        }
        let Verified {
            storing,
            exact,
            foreign_workspace,
        } = storable::verify(response, &fetch.person, &fetch.place, &fetch.workspace)?;
        if foreign_workspace {
            self.telemetry
                .foreign_workspace(fetch.workspace.name(), fetch.asked());
        }
        let lifetime = self
            .cache
            .lifetime_of_person(fetch.asked(), response.requested_at);
        let entry = Entry::new(response, lifetime).exactly(exact);
        Ok(fetch.landed_entry(entry, response, fetch.storing(storing)))
    }

    /// 304: what is stored is still so. Without a validator nobody asked, and it means nothing.
    fn land_confirmation(&self, fetch: &Fetch, response: &Response) -> Result<Landed, Failure> {
        let asked_about = fetch.stored.as_ref();
        let asked_about = asked_about.filter(|stored| stored.is_confirmed_by(response));
        let (Some(stored), Place::Own(keys)) = (asked_about, &fetch.place) else {
            return Err(Failure::UnexpectedStatus(response.status));
        };
        let lifetime = self
            .cache
            .lifetime_of_person(fetch.asked(), response.requested_at);
        let storing = fetch.storing(storable::confirmation(response, keys));
        Ok(fetch.landed_entry(stored.freshened(response, lifetime), response, storing))
    }
}

impl Fetch {
    /// The exact spelling that Flameup is asked for.
    fn asked(&self) -> &CacheKey {
        match &self.place {
            Place::Own(keys) | Place::Unproven { keys, .. } | Place::Foreign(keys) => {
                keys.spelled()
            }
        }
    }

    fn storing(&self, storing: Storing) -> Storing {
        if self.purpose == Purpose::Bypass {
            Storing::Nowhere
        } else {
            storing
        }
    }

    fn landed(&self, response: &Response, storing: Storing, lifetime: Lifetime) -> Landed {
        self.landed_entry(Entry::new(response, lifetime), response, storing)
    }

    fn landed_entry(&self, entry: Entry, response: &Response, storing: Storing) -> Landed {
        let spelled = match &self.place {
            Place::Own(keys) => keys.spelled_apart().cloned(),
            Place::Unproven { .. } | Place::Foreign(_) => None,
        };
        Landed {
            entry: Arc::new(entry.spelled_as(spelled)),
            fwd_status: response.status,
            storing,
            asked: self.asked().clone(),
        }
    }
}
