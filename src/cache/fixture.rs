//! What the tests of the cache share: a workspace, people as Flameup sends them, and a cache that
//! is asked and told things step by step. The tests say what time it is.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use uuid::Uuid;

use super::change::{End, Meant, Passing};
use super::changes::{Started, UnderWay};
use super::claims::ClaimsBuf;
use super::control::RequestDirectives;
use super::entry::{Entry, Lifetime};
use super::freshness::StaleWindows;
use super::key::Keys;
use super::{Cache, Landed, Lookup, Settings, Storing};
use crate::clock::Clock;
use crate::config::{Config, EmailCase, Sources};
use crate::person::body::Identity;
use crate::person::change::{Name, Touched};
use crate::person::is_email;
use crate::shield::{self, Shield};
use crate::upstream::Response;
use crate::workspace::Workspace;

/// How long people are fresh, and absences.
pub(super) const TTL: Duration = Duration::from_mins(1);
const NEGATIVE_TTL: Duration = Duration::from_secs(10);

/// A workspace of this number that knows Flameup's id of it, `ws`.
pub(crate) fn workspace(number: u32, email_case: EmailCase) -> Workspace {
    let loaded = Config::load(&Sources::inline("", [("FLAMEUP_API_KEY", "ws_test_a.b")]));
    let mut config = loaded.expect("the defaults and a key").config;
    let (_, mut workspace) = config
        .workspaces
        .pop_first()
        .expect("the default workspace");
    let settings = shield::Settings {
        requests: 120,
        window: Duration::from_mins(1),
        reserve: 0.1,
        max_wait: Duration::ZERO,
        timeout: Duration::ZERO,
    };
    let (api_key, _) = workspace.api_keys.remove(0);
    let shield = Shield::new(vec![api_key], settings, Clock::system());
    Workspace::new("w", number, shield, Some("ws"), email_case)
}

/// A name of the short form.
pub(super) fn id(text: &str) -> Name {
    Name::Id(text.to_owned())
}

/// The UUID of this number.
pub(super) fn uuid(number: u128) -> Name {
    Name::Uuid(Uuid::from_u128(number))
}

/// A person as Flameup has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Person {
    pub(super) uuid: u128,
    pub(super) external_id: &'static str,
    pub(super) email: &'static str,
    /// What changes with each change, `updated_at` with it; up to 59.
    pub(super) version: u32,
}

/// The person of most tests.
pub(super) const ADA: Person = Person {
    uuid: 1,
    external_id: "u1",
    email: "Ada@x.org",
    version: 1,
};

/// Another one.
pub(super) const BOB: Person = Person {
    uuid: 2,
    external_id: "u2",
    email: "bob@x.org",
    version: 1,
};

impl Person {
    pub(super) fn version(&self, version: u32) -> Self {
        Self {
            version,
            ..self.clone()
        }
    }

    /// The body of a read.
    pub(super) fn body(&self) -> Bytes {
        self.shaped(
            "external_id",
            &format!(",\"updated_at\":\"{}\"", self.date()),
        )
    }

    /// The same in the shape that the guide shows.
    pub(super) fn in_other_shape(&self) -> Bytes {
        self.shaped("userId", &format!(",\"updated_at\":\"{}\"", self.date()))
    }

    /// The body of a read that does not say when the person changed.
    pub(super) fn undated(&self) -> Bytes {
        self.shaped("external_id", "")
    }

    /// All names.
    pub(super) fn names(&self) -> [Name; 3] {
        [uuid(self.uuid), id(self.external_id), id(self.email)]
    }

    fn date(&self) -> String {
        format!("2026-01-01T00:00:{:02}Z", self.version)
    }

    fn shaped(&self, external_id: &str, more: &str) -> Bytes {
        let Self {
            uuid,
            external_id: own,
            email,
            version,
        } = self;
        let uuid = Uuid::from_u128(*uuid);
        Bytes::from(format!(
            r#"{{"id":"{uuid}","workspace_id":"ws","{external_id}":"{own}","email":"{email}","version":{version}{more}}}"#
        ))
    }
}

/// What a lookup finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    Person(Bytes),
    Absence,
    Nothing,
}

/// A cache and a workspace.
pub(super) struct World {
    pub(super) cache: Cache<&'static str>,
    pub(super) workspace: Arc<Workspace>,
    /// When the test begins.
    pub(super) start: Instant,
}

/// A fetch that was sent.
pub(super) struct Sent {
    pub(super) keys: Keys,
    pub(super) at: Instant,
    pub(super) started: Started,
}

impl World {
    /// With the defaults.
    pub(super) fn new() -> Self {
        Self::with(true, EmailCase::Insensitive)
    }

    pub(super) fn with(aliases: bool, email_case: EmailCase) -> Self {
        Self::of(Arc::new(workspace(0, email_case)), aliases)
    }

    /// Of a workspace that is there already.
    pub(super) fn of(workspace: Arc<Workspace>, aliases: bool) -> Self {
        let settings = Settings {
            max_bytes: 1 << 24,
            harvest: true,
            events_invalidate: false,
            aliases,
            ttl: TTL,
            ttl_jitter: 0.0,
            windows: StaleWindows::NONE,
            negative_ttl: NEGATIVE_TTL,
            stall_after: Duration::from_hours(1),
        };
        Self {
            cache: Cache::new(settings, 128),
            workspace,
            start: Instant::now(),
        }
    }

    /// So many milliseconds after the start.
    pub(super) fn at(&self, milliseconds: u64) -> Instant {
        self.start + Duration::from_millis(milliseconds)
    }

    /// What a lookup of `name` is found by.
    pub(super) fn keys(&self, name: &Name) -> Keys {
        keys(&self.workspace, name)
    }

    /// Sends a fetch.
    pub(super) fn send(&self, name: &Name, at: Instant) -> Sent {
        Sent {
            keys: self.keys(name),
            at,
            started: self.cache.fetch_begins(),
        }
    }

    /// What a fetch brought: a body, or 404.
    pub(super) fn landed(&self, sent: Sent, body: Option<Bytes>) -> Landed {
        let storing = match body {
            Some(_) => Storing::Person,
            None => Storing::Absence { kept: true },
        };
        let entry = entry(&self.workspace, &sent.keys, body, sent.at);
        let status = entry.status();
        self.cache
            .landed(entry, status, storing, sent.keys, sent.started)
    }

    /// Stores what a fetch brought, if it may be stored. Says whether.
    pub(super) fn land(&self, sent: Sent, body: Option<Bytes>, now: Instant) -> bool {
        let landed = self.landed(sent, body);
        self.cache.store(&landed, now);
        landed.is_stored()
    }

    /// Fetches at once.
    pub(super) fn fetch(&self, name: &Name, body: Option<Bytes>, at: Instant) -> bool {
        let sent = self.send(name, at);
        self.land(sent, body, at)
    }

    /// What a lookup finds that may be served.
    pub(super) fn see(&self, name: &Name, now: Instant) -> Seen {
        self.see_keys(&self.keys(name), now)
    }

    pub(super) fn see_keys(&self, keys: &Keys, now: Instant) -> Seen {
        match self.cache.lookup(keys, &RequestDirectives::default(), now) {
            Lookup::Fresh(entry) if entry.status() == StatusCode::OK => {
                Seen::Person(Bytes::copy_from_slice(entry.body()))
            }
            Lookup::Fresh(_) => Seen::Absence,
            Lookup::Stale(_) | Lookup::Forward { .. } => Seen::Nothing,
        }
    }

    /// What lookups of all of a person's names find; one answer, since they must agree.
    pub(super) fn see_all(&self, person: &Person, now: Instant) -> Seen {
        let [one, others @ ..] = person.names().map(|name| self.see(&name, now));
        assert!(
            others.iter().all(|other| *other == one),
            "{one:?} {others:?}"
        );
        one
    }

    /// Begins a change of whoever is called so.
    pub(super) fn begin(&self, names: &[Name], now: Instant) {
        let touched = Touched::People(names.to_vec());
        self.cache.begin_change(&self.workspace, &touched, now);
    }

    /// Ends it; Flameup answered with these bodies.
    pub(super) fn end(&self, names: &[Name], written: &[Bytes], now: Instant) {
        let touched = Touched::People(names.to_vec());
        let written = written.iter().map(|body| self.passing(body, now)).collect();
        self.cache.end_change(
            &self.workspace,
            &touched,
            End {
                meant: Meant::Called,
                written,
                under_way: &self.begun(),
            },
            now,
        );
    }

    /// A change of the workspace that is under way.
    pub(super) fn begun(&self) -> UnderWay {
        let number = self.workspace.number();
        self.cache.change_begins([number].into_iter())
    }

    /// A person that passed by in the answer to something that is asked for now.
    pub(super) fn passing(&self, body: &Bytes, asked_at: Instant) -> Passing {
        Passing {
            body: body.clone(),
            asked_at,
            number: self.cache.last_change(),
        }
    }

    /// Entries stored, people and absences.
    pub(super) fn count(&self) -> (u64, u64) {
        self.cache.people.store().maintain();
        self.cache.absences.maintain();
        (self.cache.people().len(), self.cache.absences().len())
    }
}

/// The keys of a lookup.
pub(super) fn keys(workspace: &Workspace, name: &Name) -> Keys {
    match name {
        Name::Id(text) => {
            let folds = is_email(text) && workspace.folds_emails();
            Keys::of_id(workspace.number(), text, folds)
        }
        Name::Uuid(uuid) => Keys::of_uuid(workspace.number(), uuid),
    }
}

/// An answer to a lookup of `keys`: a body, or 404.
pub(super) fn entry(workspace: &Workspace, keys: &Keys, body: Option<Bytes>, at: Instant) -> Entry {
    let (status, ttl, claims) = match &body {
        Some(body) => {
            let identity = Identity::read(body).expect("the body of a person");
            (StatusCode::OK, TTL, workspace.claims(&identity))
        }
        None => (
            StatusCode::NOT_FOUND,
            NEGATIVE_TTL,
            ClaimsBuf::of_absence(keys),
        ),
    };
    let response = Response {
        status,
        headers: HeaderMap::new(),
        body: body.unwrap_or_default(),
        requested_at: at,
    };
    let lifetime = Lifetime { ttl, jitter: 0.0 };
    Entry::new(&response, lifetime)
        .claiming(claims.claims())
        .asked_as(keys.spelled())
}

/// The same, ready to be stored.
pub(super) fn shared(
    workspace: &Workspace,
    name: &Name,
    person: &Person,
    at: Instant,
) -> Arc<Entry> {
    let keys = keys(workspace, name);
    Arc::new(entry(workspace, &keys, Some(person.body()), at))
}
