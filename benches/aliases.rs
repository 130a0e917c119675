//! What one entry a person buys: lookups that spread over three ids, with aliases and without.
//!
//! `cargo bench --bench aliases` prints a table. Time is virtual, nothing is random and no socket is
//! opened: each run prints the same.
//!
//! Each row is an hour of lookups of 10,000 people, the `n`th most wanted in proportion to `n` to the
//! power of -0.9, each by UUID, external id or e-mail alike. Both columns get the same lookups. What is
//! stale is served and refreshed, as the defaults have it; jitter apart, which is random. Flameup
//! answers at once, so nothing collapses and what is saved is saved by the entries alone.
//!
//! # Columns
//! - `requests`: sent to Flameup, refreshes included.
//! - `hits`: lookups answered from memory, in %.
//! - `bytes`: of memory as the cache counts it, over the people of whom something is stored.
#![expect(clippy::print_stdout, reason = "the table is what the bench is for")]

#[path = "shield/chance.rs"]
#[expect(dead_code, reason = "the shield's traffic needs more of it")]
mod chance;

use std::collections::HashSet;
use std::sync::Arc;
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
use flameup_gateway::shield::{self, Shield};
use flameup_gateway::upstream::Response;
use flameup_gateway::workspace::{Place, Workspace};
use http::{HeaderMap, StatusCode};

use chance::Chance;

const PEOPLE: usize = 10_000;
const ZIPF: f64 = 0.9;
const HOUR: Duration = Duration::from_hours(1);
const WORKSPACE_ID: &str = "ws_bench";

/// What an hour came to.
#[derive(Debug, Default)]
struct Tally {
    lookups: u32,
    hits: u32,
    requests: u32,
    bytes_per_person: u64,
}

fn main() {
    println!("            |  without aliases         |  with aliases            | requests");
    println!("lookups/s   | requests  hits %   bytes | requests  hits %   bytes | saved %");
    let popularity = popularity();
    for per_s in [2, 10, 50] {
        let [without, with] = [false, true].map(|aliases| hour(aliases, per_s, &popularity));
        let saved = 100.0 * (1.0 - f64::from(with.requests) / f64::from(without.requests));
        println!(
            "{per_s:>9}   | {} | {} | {saved:>6.1}",
            columns(&without),
            columns(&with)
        );
    }
}

fn columns(tally: &Tally) -> String {
    let Tally {
        lookups,
        hits,
        requests,
        bytes_per_person,
    } = tally;
    let ratio = 100.0 * f64::from(*hits) / f64::from(*lookups);
    format!("{requests:>8}  {ratio:>6.1}  {bytes_per_person:>6}")
}

/// An hour of so many lookups a second.
fn hour(aliases: bool, per_s: u32, popularity: &[f64]) -> Tally {
    let mut gateway = Gateway::new(aliases);
    let mut chance = Chance(0x5EED_0002);
    let start = Instant::now();
    let mut asked = HashSet::new();
    let mut tally = Tally::default();
    let mut passed = Duration::ZERO;
    while passed < HOUR {
        let person = drawn(popularity, chance.share());
        let name = drawn(&[1.0, 2.0, 3.0], chance.share());
        asked.insert(person);
        gateway.look_up(person, name, start + passed, &mut tally);
        passed += Duration::from_secs_f64(-(1.0 - chance.share()).ln() / f64::from(per_s));
    }
    gateway.cache.maintain(start + HOUR);
    tally.bytes_per_person = gateway.cache.people().bytes() / asked.len() as u64;
    tally
}

/// The library's own cache before a Flameup that answers at once.
struct Gateway {
    cache: Cache<()>,
    workspace: Workspace,
}

impl Gateway {
    fn new(aliases: bool) -> Self {
        let settings = Settings {
            harvest: true,
            events_invalidate: false,
            max_bytes: 256 << 20,
            aliases,
            ttl: Duration::from_mins(1),
            ttl_jitter: 0.0,
            windows: StaleWindows {
                while_revalidate: Duration::from_mins(4),
                if_error: Duration::from_mins(14),
            },
            negative_ttl: Duration::from_secs(10),
            stall_after: Duration::from_secs(2),
        };
        Self {
            cache: Cache::new(settings, 1),
            workspace: workspace(),
        }
    }

    fn look_up(&mut self, person: usize, name: usize, now: Instant, tally: &mut Tally) {
        let keys = self.keys(person, name);
        tally.lookups += 1;
        match self.cache.lookup(&keys, &RequestDirectives::default(), now) {
            Lookup::Fresh(_) => tally.hits += 1,
            Lookup::Stale(_) => {
                tally.hits += 1;
                self.fetch(person, keys, now, tally);
            }
            Lookup::Forward { .. } => self.fetch(person, keys, now, tally),
        }
    }

    fn fetch(&self, person: usize, keys: Keys, now: Instant, tally: &mut Tally) {
        tally.requests += 1;
        let flight = self.cache.flight(&keys);
        let asker = Asker {
            urgency: 0,
            caller: 0,
        };
        let joined = self
            .cache
            .join(&flight, asker, now)
            .expect("nobody else waits");
        let mut obligation = joined.obligation.expect("nobody else fetches");
        assert!(obligation.launch(now));
        let response = Response {
            status: StatusCode::OK,
            headers: HeaderMap::new(),
            body: body(person),
            requested_at: now,
        };
        let identity = Identity::read(&response.body).expect("the body of a person");
        let lifetime = self.cache.lifetime_of_person(keys.person(), now);
        let entry = Entry::new(&response, lifetime)
            .claiming(self.workspace.claims(&identity).claims())
            .asked_as(keys.spelled());
        let started = self.cache.fetch_begins();
        let landed = self
            .cache
            .landed(entry, StatusCode::OK, Storing::Person, keys, started);
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
    let shield: Arc<Shield> = Shield::new(vec![api_key], settings, Clock::system());
    Workspace::new(
        "bench",
        0,
        shield,
        Some(WORKSPACE_ID),
        EmailCase::Insensitive,
    )
}

fn uuid(person: usize) -> String {
    format!("00000000-0000-4000-8000-{person:012x}")
}

fn email(person: usize) -> String {
    format!("person.{person}@example.com")
}

/// A Person of about 560 bytes, as the reference pages show one.
fn body(person: usize) -> Bytes {
    let (uuid, email) = (uuid(person), email(person));
    let date = "2026-11-23T10:00:00Z";
    let body = format!(
        r#"{{"id":"{uuid}","workspace_id":"{WORKSPACE_ID}","external_id":"user_{person}","email":"{email}","phone":"+1-555-0123","first_name":"Some","last_name":"Body","avatar_url":"https://cdn.example.com/avatars/{uuid}.png","timezone":"Europe/Berlin","locale":"de-DE","status":"active","attributes":{{"plan":"pro","seats":12,"beta":true}},"created_at":"{date}","updated_at":"{date}","first_seen_at":"{date}","last_seen_at":"{date}"}}"#
    );
    Bytes::from(body)
}

/// Sums of the people's parts of all lookups.
fn popularity() -> Vec<f64> {
    let weight = |n: usize| f64::from(u32::try_from(n).expect("a small number")).powf(-ZIPF);
    let sums = (1..=PEOPLE).scan(0.0, |sum, n| {
        *sum += weight(n);
        Some(*sum)
    });
    sums.collect()
}

/// Which of the parts a number between 0 and 1 falls on.
fn drawn(cumulative: &[f64], share: f64) -> usize {
    let at = share * cumulative.last().copied().unwrap_or(0.0);
    let index = cumulative.partition_point(|&sum| sum <= at);
    index.min(cumulative.len().saturating_sub(1))
}
