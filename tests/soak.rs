//! Threads that look people up, store, purge and evict at once, in a cache with room for few.
//!
//! What a hit shows is checked each time. moka, which evicts, has an open report of a crash under such
//! a load (moka-rs/moka#600), hence the tiny bound: nearly every insertion evicts. `SOAK_SECONDS` says
//! how long, 15 unless told.

use std::env;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use flameup_gateway::cache::collapse::Asker;
use flameup_gateway::cache::control::RequestDirectives;
use flameup_gateway::cache::entry::Entry;
use flameup_gateway::cache::freshness::StaleWindows;
use flameup_gateway::cache::key::Keys;
use flameup_gateway::cache::{Cache, Lookup, Settings, Storing};
use flameup_gateway::clock::Clock;
use flameup_gateway::config::{Config, EmailCase, Sources};
use flameup_gateway::person::PersonRef;
use flameup_gateway::person::body::Identity;
use flameup_gateway::person::change::{Name, Touched};
use flameup_gateway::shield::{self, Shield};
use flameup_gateway::upstream::Response;
use flameup_gateway::workspace::{Place, Workspace};
use http::{HeaderMap, StatusCode};

#[path = "../benches/shield/chance.rs"]
#[expect(dead_code, reason = "the shield's traffic needs more of it")]
mod chance;

use chance::Chance;

/// Room for some dozens of people.
const MAX_BYTES: u64 = 64 * 1024;

/// Far more people than there is room for.
const PEOPLE: f64 = 5_000.0;

/// More than there are cores, so that they interrupt one another.
const THREADS: u64 = 8;

const WORKSPACE_ID: &str = "ws_soak";

#[derive(Debug, Default)]
struct Tally {
    hits: AtomicU64,
    fetches: AtomicU64,
    purges: AtomicU64,
}

struct Soak {
    cache: Cache<()>,
    workspace: Workspace,
    tally: Tally,
    over: AtomicBool,
}

#[test]
fn a_tiny_cache_bears_lookups_insertions_and_evictions_at_once() {
    let seconds = env::var("SOAK_SECONDS").map_or(15, |text| {
        text.parse().expect("SOAK_SECONDS is a number of seconds")
    });
    let soak = Soak::new();
    let until = Instant::now() + Duration::from_secs(seconds);
    thread::scope(|scope| {
        for seed in 1..=THREADS {
            let soak = &soak;
            scope.spawn(move || soak.trouble(Chance(seed)));
        }
        while Instant::now() < until {
            soak.cache.maintain(Instant::now());
            let _ = soak.cache.sweep(&soak.workspace);
            thread::sleep(Duration::from_millis(50));
        }
        soak.over.store(true, Ordering::Relaxed);
    });

    let tally = &soak.tally;
    for count in [&tally.hits, &tally.fetches, &tally.purges] {
        assert!(count.load(Ordering::Relaxed) > 100, "{tally:?}");
    }
    soak.cache.maintain(Instant::now());
    assert!(soak.cache.people().bytes() <= MAX_BYTES);
    let last = soak.keys(1, 0);
    soak.fetch(1, &last);
    assert!(soak.hit(1, &last), "it still stores and still answers");
}

impl Soak {
    fn new() -> Self {
        let settings = Settings {
            harvest: true,
            events_invalidate: false,
            max_bytes: MAX_BYTES,
            aliases: true,
            // Short, so that what is stored also runs out.
            ttl: Duration::from_secs(1),
            ttl_jitter: 0.1,
            windows: StaleWindows {
                while_revalidate: Duration::ZERO,
                if_error: Duration::ZERO,
            },
            negative_ttl: Duration::from_secs(1),
            stall_after: Duration::from_secs(2),
        };
        Self {
            cache: Cache::new(settings, 1),
            workspace: workspace(),
            tally: Tally::default(),
            over: AtomicBool::new(false),
        }
    }

    /// What one thread does until it is told to stop.
    fn trouble(&self, mut chance: Chance) {
        while !self.over.load(Ordering::Relaxed) {
            // Cubed, so that some are wanted often enough to be hits.
            let person = whole(chance.share().powi(3) * PEOPLE);
            let keys = self.keys(person, whole(chance.share() * 3.0));
            if chance.share() < 0.01 {
                let touched = if chance.share() < 0.01 {
                    Touched::Everyone
                } else {
                    Touched::People(vec![Name::Id(format!("user_{person}"))])
                };
                let _ = self.cache.purge(&self.workspace, &touched, Instant::now());
                self.tally.purges.fetch_add(1, Ordering::Relaxed);
            } else if self.hit(person, &keys) {
                self.tally.hits.fetch_add(1, Ordering::Relaxed);
            } else {
                self.fetch(person, &keys);
                self.tally.fetches.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Looks somebody up; what is found is the right person.
    fn hit(&self, person: usize, keys: &Keys) -> bool {
        let directives = RequestDirectives::default();
        match self.cache.lookup(keys, &directives, Instant::now()) {
            Lookup::Fresh(entry) | Lookup::Stale(entry) => {
                assert_eq!(*entry.body(), *body(person));
                true
            }
            Lookup::Forward { .. } => false,
        }
    }

    /// Stores somebody, unless another thread is about it.
    fn fetch(&self, person: usize, keys: &Keys) {
        let now = Instant::now();
        let asker = Asker {
            urgency: 0,
            caller: 0,
        };
        let joined = self.cache.join(&self.cache.flight(keys), asker, now);
        let Some(mut obligation) = joined.ok().and_then(|joined| joined.obligation) else {
            return;
        };
        if !obligation.launch(now) {
            return;
        }
        let response = Response {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            body: body(person),
            requested_at: now,
        };
        let started = self.cache.fetch_begins();
        let identity = Identity::read(&response.body).expect("the body of a person");
        let lifetime = self.cache.lifetime_of_person(keys.person(), now);
        let entry = Entry::new(&response, lifetime)
            .claiming(self.workspace.claims(&identity).claims())
            .asked_as(keys.spelled());
        let landed = self.cache.landed(
            entry,
            StatusCode::OK,
            Storing::Person,
            keys.clone(),
            started,
        );
        self.cache.fulfil(obligation, Ok(landed), now);
    }

    fn keys(&self, person: usize, name: usize) -> Keys {
        let (uuid, id, email) = (uuid(person), format!("user_{person}"), email(person));
        let person = match name {
            0 => PersonRef::from_uuid(WORKSPACE_ID, &uuid),
            1 => PersonRef::from_id(&id),
            _ => PersonRef::from_id(&email),
        };
        match self.workspace.place(&person.expect("a usable id")) {
            Place::Own(keys) => keys,
            place => unreachable!("the workspace knows its id: {place:?}"),
        }
    }
}

fn workspace() -> Workspace {
    let loaded = Config::load(&Sources::inline("", [("FLAMEUP_API_KEY", "ws_test_a.b")]));
    let mut config = loaded.expect("the defaults and a key").config;
    let (_, mut workspace) = config.workspaces.pop_first().expect("the default one");
    let (api_key, _) = workspace.api_keys.remove(0);
    let settings = shield::Settings {
        timeout: Duration::from_secs(5),
        requests: 120,
        window: Duration::from_mins(1),
        reserve: 0.1,
        max_wait: Duration::ZERO,
    };
    let shield = Shield::new(vec![api_key], settings, Clock::system());
    let case = EmailCase::Insensitive;
    Workspace::new("soak", 0, shield, Some(WORKSPACE_ID), case)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it is below 5,000 and not negative"
)]
fn whole(number: f64) -> usize {
    number as usize
}

fn uuid(person: usize) -> String {
    format!("00000000-0000-4000-8000-{person:012x}")
}

fn email(person: usize) -> String {
    format!("person.{person}@example.com")
}

/// Some people are ten times as large as others.
fn body(person: usize) -> Bytes {
    let (uuid, email) = (uuid(person), email(person));
    let notes = "x".repeat(if person.is_multiple_of(7) { 6_000 } else { 300 });
    Bytes::from(format!(
        r#"{{"id":"{uuid}","workspace_id":"{WORKSPACE_ID}","external_id":"user_{person}","email":"{email}","attributes":{{"notes":"{notes}"}},"updated_at":"2026-11-23T10:00:00Z"}}"#
    ))
}
