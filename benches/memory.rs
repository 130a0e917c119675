//! What a stored person takes of resident memory, and whether `cache.max_bytes` bounds it.
//!
//! `cargo bench --bench memory` fills caches of the library's own, each in a process of its own that
//! frees memory as the program does, and reads what the kernel says is resident. It fails if a cache
//! that is filled over and over grows the process by more than a quarter over its bound.
//!
//! - `memory people N ALIASES`: N people with a body of about 560 bytes.
//! - `memory fill MAX_BYTES`: a million random lookups of people of mixed sizes.

use std::error::Error;
use std::io::{self, Write};
use std::process::{Command, ExitCode};
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
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use http::{HeaderMap, StatusCode};
use mimalloc::MiMalloc;
use zeroizing_alloc::ZeroAlloc;

#[path = "shield/chance.rs"]
#[expect(dead_code, reason = "the shield's traffic needs more of it")]
mod chance;

use chance::Chance;

/// As the program has it, so that memory is taken and freed as there.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<MiMalloc> = ZeroAlloc(MiMalloc);

const WORKSPACE_ID: &str = "ws_demo0001";

/// Lookups that fill a cache, and among how many people.
const LOOKUPS: usize = 1_000_000;
const AMONG: usize = 400_000;

/// What fills it: small enough to be filled many times over in seconds.
const MAX_BYTES: u64 = 96 << 20;

/// How much a process may grow for a cache of so many bytes: what the allocator cannot give back and
/// what is on its way come on top of what the cache counts.
const MOST_GROWTH: f64 = 1.25;

/// How often a gateway lets its cache see to itself: about once a second, here by lookups.
const UPKEEP: usize = 20_000;

type Fallible<T> = Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match &words[..] {
        ["people", people, aliases] => people_of(people, aliases),
        ["fill", max_bytes] => fill(max_bytes),
        _ => all(),
    };
    done.unwrap_or_else(|error| {
        // Nothing is left to do if standard error is closed.
        let _ = writeln!(io::stderr(), "memory: {error}");
        ExitCode::FAILURE
    })
}

/// Everything, each in a process of its own.
fn all() -> Fallible<ExitCode> {
    let max_bytes = MAX_BYTES.to_string();
    let mut good = true;
    for arguments in [
        &["people", "100000", "true"][..],
        &["people", "100000", "false"],
        &["fill", &max_bytes],
    ] {
        let program = std::env::current_exe()?;
        good &= Command::new(program).args(arguments).status()?.success();
    }
    Ok(if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Stores so many people, and says what each took.
fn people_of(people: &str, aliases: &str) -> Fallible<ExitCode> {
    let (people, aliases) = (people.parse()?, aliases.parse()?);
    let memory = Memory::new(2 << 30, aliases)?;
    // What is made on first use belongs to nobody.
    memory.look_up(people, 0, 0);
    let before = resident()?;
    for person in 0..people {
        memory.look_up(person, 1, 0);
    }
    memory.cache.maintain(memory.now);
    let each = |bytes: usize| bytes / people;
    let counted = usize::try_from(memory.cache.people().bytes())?;
    writeln!(
        io::stdout(),
        "{people} people of {} bytes, aliases {aliases}: {} bytes of resident memory each, counted as {}",
        body(7, 0).len(),
        each(resident()?.saturating_sub(before)),
        each(counted),
    )?;
    Ok(ExitCode::SUCCESS)
}

/// Looks people up at random, and says whether what is resident stays within bounds.
fn fill(max_bytes: &str) -> Fallible<ExitCode> {
    let max_bytes: u32 = max_bytes.parse()?;
    let memory = Memory::new(max_bytes.into(), true)?;
    memory.look_up(AMONG, 0, 0);
    let (before, mut most) = (resident()?, 0);
    let mut chance = Chance(0x5EED_0003);
    for lookup in 0..LOOKUPS {
        let person = below(&mut chance, AMONG);
        memory.look_up(person, below(&mut chance, 3), padding(person));
        if lookup % UPKEEP == 0 {
            memory.cache.maintain(memory.now);
            most = most.max(resident()?);
        }
    }
    memory.cache.maintain(memory.now);
    most = most.max(resident()?);
    let growth = u32::try_from(most.saturating_sub(before) >> 10)?;
    let share = f64::from(growth) / f64::from(max_bytes >> 10);
    writeln!(
        io::stdout(),
        "{LOOKUPS} random lookups of mixed sizes: {} people stored, counted as {:.2} of \
         cache.max_bytes; resident memory grew by {share:.2} of it, at most {MOST_GROWTH}",
        memory.cache.people().len(),
        f64::from(u32::try_from(memory.cache.people().bytes() >> 10)?) / f64::from(max_bytes >> 10),
    )?;
    Ok(if share <= MOST_GROWTH {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// How much longer than the others a person's body is: nothing for most, up to 24 kB for some.
fn padding(person: usize) -> usize {
    match person % 16 {
        0..8 => 0,
        8..12 => person % 509,
        12..15 => person % 4_093,
        _ => person % 24_001,
    }
}

/// The library's own cache before a Flameup that answers at once.
struct Memory {
    cache: Cache<()>,
    workspace: Workspace,
    now: Instant,
}

impl Memory {
    fn new(max_bytes: u64, aliases: bool) -> Fallible<Self> {
        let settings = Settings {
            harvest: true,
            events_invalidate: false,
            max_bytes,
            aliases,
            ttl: Duration::from_hours(1),
            ttl_jitter: 0.0,
            windows: StaleWindows {
                while_revalidate: Duration::from_mins(4),
                if_error: Duration::from_mins(14),
            },
            negative_ttl: Duration::from_secs(10),
            stall_after: Duration::from_secs(2),
        };
        Ok(Self {
            cache: Cache::new(settings, 1),
            workspace: workspace()?,
            now: Instant::now(),
        })
    }

    /// Looks a person up by one of three names, and fetches who is not stored.
    fn look_up(&self, person: usize, name: usize, padding: usize) {
        let keys = self.keys(person, name);
        let directives = RequestDirectives::default();
        if let Lookup::Forward { .. } = self.cache.lookup(&keys, &directives, self.now) {
            self.fetch(person, keys, padding);
        }
    }

    fn fetch(&self, person: usize, keys: Keys, padding: usize) {
        let (flight, now) = (self.cache.flight(&keys), self.now);
        let asker = Asker {
            urgency: 0,
            caller: 0,
        };
        let joined = self.cache.join(&flight, asker, now);
        let joined = joined.expect("nobody else waits");
        let mut obligation = joined.obligation.expect("nobody else fetches");
        assert!(obligation.launch(now));
        let response = Response {
            status: StatusCode::OK,
            headers: headers(),
            body: body(person, padding),
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
        let (uuid, id, email) = (uuid(person), id(person), email(person));
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

fn workspace() -> Fallible<Workspace> {
    let loaded = Config::load(&Sources::inline("", [("FLAMEUP_API_KEY", "ws_test_a.b")]))?;
    let mut config = loaded.config;
    let (_, mut workspace) = config.workspaces.pop_first().ok_or("the default one")?;
    let (api_key, _) = workspace.api_keys.remove(0);
    let settings = shield::Settings {
        timeout: Duration::from_secs(5),
        requests: 120,
        window: Duration::from_mins(1),
        reserve: 0.1,
        max_wait: Duration::ZERO,
    };
    let shield = Shield::new(vec![api_key], settings, Clock::system());
    let (id, case) = (Some(WORKSPACE_ID), EmailCase::Insensitive);
    Ok(Workspace::new("bench", 0, shield, id, case))
}

fn uuid(person: usize) -> String {
    format!("123e4567-e89b-12d3-a456-{person:012x}")
}

fn id(person: usize) -> String {
    format!("user_{person:07}")
}

fn email(person: usize) -> String {
    format!("katherine.wirth.{person:07}@example.com")
}

/// The headers of Flameup's that are stored with a person.
fn headers() -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("max-age=3600"));
    headers
}

/// A Person of about 560 bytes, as the reference pages show one, and `padding`.
fn body(person: usize, padding: usize) -> Bytes {
    const PERSON: &str = include_str!("compare/person.json");
    let body = PERSON
        .replace("user_0000000", &id(person))
        .replace("426614174000", &format!("{person:012x}"))
        .replace("wirth.0000000", &format!("wirth.{person:07}"));
    if padding == 0 {
        return Bytes::from(body);
    }
    Bytes::from(body.replacen('{', &format!("{{\"note\":\"{}\",", "x".repeat(padding)), 1))
}

/// Resident memory of this process, in bytes.
fn resident() -> Fallible<usize> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
    Ok(kilobytes.ok_or("no VmRSS")?.trim().parse::<usize>()? << 10)
}

/// One of so many, each alike.
fn below(chance: &mut Chance, many: usize) -> usize {
    let high = u32::try_from(many).unwrap_or(u32::MAX);
    // Rounding down is meant, and the share is never negative.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "said above"
    )]
    let drawn = (chance.share() * f64::from(high)) as usize;
    drawn
}
