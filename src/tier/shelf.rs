//! The second tier of one workspace: what any gateway has fetched, for all of them.
//!
//! It is asked when memory has nothing that will do, before a turn at Flameup is waited for, and
//! written behind. What comes from there has to prove whose it is as an answer of Flameup's has to.
//!
//! # Invariants
//! - What was asked for before a change is not stored after it, whichever gateway made either: a
//!   record carries the position of the log that its fetch began at.
//! - A name that two people claim leads to nobody, unless Flameup has answered to that very name.

use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::link::{self, Call, Reply};
use super::names::{Hash, WorkspaceNames};
use super::numbers::Recalled;
use super::position::Position;
use super::record::{self, Kind, Label, Stored};
use super::standing::Standing;
use super::{Holder, Tier};
use crate::cache::entry::Entry;
use crate::cache::freshness::StaleWindows;
use crate::cache::key::{CacheKey, Keys};

static RECALL: LazyLock<Call> =
    LazyLock::new(|| Call::new("recall", include_str!("scripts/recall.lua")));
static STORE: LazyLock<Call> =
    LazyLock::new(|| Call::new("store", include_str!("scripts/store.lua")));
static RELEASE: LazyLock<Call> =
    LazyLock::new(|| Call::new("release", include_str!("scripts/release.lua")));

/// Between two looks for what another gateway is fetching: a fraction of what Flameup takes.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// The longest that a fetch of another gateway is waited for.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// A record's age cannot be told to less than this, as Redis' clock and ours tick apart.
const TICK: Duration = Duration::from_millis(1);

/// The second tier of one workspace.
#[derive(Debug)]
pub struct Shelf {
    tier: Arc<Tier>,
    names: WorkspaceNames,
    standing: Arc<Standing>,
    /// How long past its lifetime a person may be of use.
    windows: StaleWindows,
    /// How long a lease lasts that nobody gives back.
    lease: Duration,
}

/// What the tier has for a lookup.
#[derive(Debug)]
pub enum Recall {
    /// A person or an absence.
    Found(Found),
    /// Nothing of use. Whoever asked for the lease has it now.
    Nothing(Option<Lease>),
    /// Nothing of use, and another gateway is fetching it.
    Busy,
    /// Redis did not answer.
    Unreachable,
}

/// What was found.
#[derive(Debug)]
pub struct Found {
    /// The response.
    pub stored: Stored,
    /// When it was asked for, by our clock, or a little before.
    pub asked_at: Instant,
}

/// The right to fetch for all gateways. Given back when it is dropped.
#[derive(Debug)]
pub struct Lease {
    tier: Arc<Tier>,
    place: String,
    holder: Holder,
}

/// What is asked of the tier.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// For whom.
    pub keys: &'a Keys,
    /// Only what was asked for after this is of use.
    pub after: Option<Instant>,
    /// Whether the lease is wanted, where there is nothing.
    pub leased: bool,
}

/// Something to be written behind.
#[derive(Debug)]
pub struct Writing {
    /// The response.
    pub entry: Arc<Entry>,
    /// What was asked for.
    pub asked: Keys,
    /// Up to where changes had been applied when it was.
    pub position: Position,
    /// Given back when it is written, so that whoever waits for it finds it.
    pub lease: Option<Lease>,
}

impl Shelf {
    /// The second tier of the workspace with these names.
    pub(super) fn new(
        tier: Arc<Tier>,
        names: WorkspaceNames,
        windows: StaleWindows,
        lease: Duration,
    ) -> Self {
        Self {
            tier,
            names,
            standing: Arc::default(),
            windows,
            lease,
        }
    }

    /// What things of the workspace are called in Redis.
    pub fn names(&self) -> &WorkspaceNames {
        &self.names
    }

    /// How this replica stands to the log of the workspace.
    pub fn standing(&self) -> &Arc<Standing> {
        &self.standing
    }

    /// Looks for what is wanted; where another gateway is fetching it, until `patience` is over.
    pub async fn recall_in_time(&self, wanted: Wanted<'_>, patience: Duration) -> Recall {
        let give_up_at = self.tier.clock.now() + patience.min(LONGEST_WAIT);
        loop {
            let recalled = self.recall(wanted).await;
            let next = self.tier.clock.now() + LOOK_EVERY;
            if !matches!(recalled, Recall::Busy) || next > give_up_at {
                return recalled;
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Looks for what is wanted, once.
    pub async fn recall(&self, wanted: Wanted<'_>) -> Recall {
        let holder = self.tier.holder();
        let recalled = match self.ask(wanted, &holder).await {
            Ok(reply) => {
                self.standing.heard(reply.value.0, reply.heard);
                self.read(wanted, &reply, holder)
            }
            // It is counted with the call.
            Err(_) => Recall::Unreachable,
        };
        self.tier.numbers.recalled(match &recalled {
            Recall::Found(found) if found.stored.is_absence() => Recalled::Negative,
            Recall::Found(_) => Recalled::Hit,
            Recall::Nothing(_) => Recalled::Miss,
            Recall::Busy => Recalled::Busy,
            Recall::Unreachable => Recalled::Error,
        });
        recalled
    }

    async fn ask(
        &self,
        wanted: Wanted<'_>,
        holder: &Holder,
    ) -> Result<Reply<Standings>, link::Error> {
        let person = self.names.hash(wanted.keys.person().as_bytes());
        let spelled = self.names.hash(wanted.keys.spelled().as_bytes());
        let after_ms = wanted.after.and_then(|after| self.standing.redis_ms(after));
        let lease_ms = if wanted.leased {
            self.lease.as_millis()
        } else {
            0
        };
        let call = self.tier.link.run(&RECALL, |script| {
            script
                .key(self.names.of('n', &person))
                .key(self.names.of('a', &spelled))
                .key(self.names.one("c:everybody"))
                .key(self.names.of('l', &person))
                .arg(self.names.stem())
                .arg(holder.as_str())
                .arg(u64::try_from(lease_ms).unwrap_or(0))
                .arg(after_ms.map_or_else(String::new, |ms| format!("{ms:016x}")));
        });
        call.await
    }

    fn read(&self, wanted: Wanted<'_>, reply: &Reply<Standings>, holder: Holder) -> Recall {
        let Standings(time_ms, name, person, absence, lease) = &reply.value;
        let time = Time {
            ms: *time_ms,
            heard: reply.heard,
            under_way: reply.heard.saturating_duration_since(reply.sent),
        };
        let person = self.read_person(wanted, name, person, time);
        let absence = self.read_absence(wanted, absence, time);
        match (person, absence) {
            // Flameup was asked later for the one than for the other.
            (Some(person), Some(absence)) if absence.asked_at > person.asked_at => {
                Recall::Found(absence)
            }
            (Some(found), _) | (None, Some(found)) => Recall::Found(found),
            (None, None) if lease == "busy" => Recall::Busy,
            (None, None) => Recall::Nothing((lease == "taken").then(|| {
                Lease {
                    tier: Arc::clone(&self.tier),
                    place: self
                        .names
                        .of('l', &self.names.hash(wanted.keys.person().as_bytes())),
                    holder,
                }
            })),
        }
    }

    fn read_person(
        &self,
        wanted: Wanted<'_>,
        name: &[u8],
        person: &[u8],
        time: Time,
    ) -> Option<Found> {
        if person.is_empty() {
            return None;
        }
        let seal = &self.tier.seal;
        let own = self.names.hash(wanted.keys.person().as_bytes());
        let name = Label::open_name(seal, &self.names.of('n', &own), name);
        let found = name.and_then(|name| {
            let target = name.hashes.first().ok_or(record::Error::Broken)?;
            Label::open(seal, &self.names.of('p', target), person)
        });
        self.usable(found, time)
    }

    fn read_absence(&self, wanted: Wanted<'_>, absence: &[u8], time: Time) -> Option<Found> {
        if absence.is_empty() {
            return None;
        }
        let spelled = self.names.hash(wanted.keys.spelled().as_bytes());
        let place = self.names.of('a', &spelled);
        self.usable(Label::open(&self.tier.seal, &place, absence), time)
    }

    /// What was opened, if it can be told how old it is, and that it is not too old.
    fn usable(&self, opened: Result<(Label, Stored), record::Error>, time: Time) -> Option<Found> {
        let Ok((label, stored)) = opened else {
            self.tier.numbers.recalled(Recalled::Broken);
            return None;
        };
        let age = time.age_of(label.asked_at_ms)?;
        (age < self.bound(&stored)).then_some(Found {
            asked_at: time.heard.checked_sub(age)?,
            stored,
        })
    }

    /// How old a response may become and be of use to anybody.
    fn bound(&self, stored: &Stored) -> Duration {
        let windows = if stored.is_absence() {
            Duration::ZERO
        } else {
            self.windows.longest()
        };
        stored.lifetime().saturating_add(windows)
    }

    /// Writes a response down. Says whether it stands there now.
    pub(super) async fn write(&self, writing: &Writing) -> Written {
        let Some(prepared) = self.prepare(writing) else {
            return Written::Unwritable;
        };
        let call = self.tier.link.run(&STORE, |script| {
            script
                .key(&prepared.place)
                .key(self.names.one("c:everybody"))
                .arg(self.names.stem())
                .arg(&prepared.record)
                .arg(prepared.ttl_ms)
                .arg(prepared.asked.as_str());
            for (hash, leads) in &prepared.leads {
                script.arg(hash.as_str()).arg(leads);
            }
        });
        match call.await {
            Ok(reply) => {
                let (time_ms, word): (u64, String) = reply.value;
                self.standing.heard(time_ms, reply.heard);
                match word.as_str() {
                    "stored" => Written::Stored,
                    "older" => Written::Older,
                    _ => Written::Changed,
                }
            }
            Err(_) => Written::Failed,
        }
    }

    fn prepare(&self, writing: &Writing) -> Option<Prepared> {
        let Writing {
            entry,
            asked,
            position,
            ..
        } = writing;
        let stored = Stored::of(entry).ok()?;
        let now = self.tier.clock.now();
        let bound = self.bound(&stored);
        let left = bound.checked_sub(entry.freshness().current_age(now))?;
        let person = self.names.hash(asked.person().as_bytes());
        let (kind, own) = match entry.claims().who() {
            Some(who) => (Kind::Person, self.names.hash(who)),
            None => (Kind::Absence, self.names.hash(asked.spelled().as_bytes())),
        };
        let label = Label {
            kind,
            position: *position,
            asked_at_ms: self.standing.redis_ms(entry.freshness().asked_at())?,
            hashes: self.all_names(entry, asked),
        };
        let place = self.names.of(char::from(kind.letter()), &own);
        let leads = match kind {
            Kind::Person => self.leads(entry, &person, &own, &label)?,
            Kind::Absence | Kind::Name => Vec::new(),
        };
        Some(Prepared {
            record: label.seal(&self.tier.seal, &place, &stored).ok()?,
            place,
            ttl_ms: u64::try_from(left.as_millis()).ok().filter(|ms| *ms > 0)?,
            asked: person,
            leads,
        })
    }

    /// Every name whose change outdates it.
    fn all_names(&self, entry: &Entry, asked: &Keys) -> Vec<Hash> {
        let claimed = entry.claims();
        let claimed = claimed.iter().map(|claim| claim.key());
        let names = claimed.chain([asked.spelled(), asked.person()].map(CacheKey::as_bytes));
        let mut hashes: Vec<Hash> = names.flat_map(|name| self.names.hashes(name)).collect();
        hashes.sort_unstable();
        hashes.dedup();
        hashes
    }

    /// The names that lead to a person, in the form that lookups have, and the records of them.
    fn leads(
        &self,
        entry: &Entry,
        asked: &Hash,
        own: &Hash,
        label: &Label,
    ) -> Option<Vec<(Hash, Vec<u8>)>> {
        let claims = entry.claims();
        let claimed = claims
            .iter()
            .map(|claim| self.names.hash(claim.normal_form().as_bytes()));
        let mut names: Vec<Hash> = claimed.chain([asked.clone()]).collect();
        names.sort_unstable();
        names.dedup();
        let leads = Label {
            kind: Kind::Name,
            hashes: vec![own.clone()],
            ..label.clone()
        };
        let seal = |name: Hash| {
            let place = self.names.of('n', &name);
            let record = leads.seal_name(&self.tier.seal, &place).ok()?;
            Some((name, record))
        };
        names.into_iter().map(seal).collect()
    }
}

/// What the script for recalling returns: the time, the records of the name, the person and the
/// absence, and the word on the lease.
#[derive(Debug)]
struct Standings(u64, Vec<u8>, Vec<u8>, Vec<u8>, String);

impl redis::FromRedisValue for Standings {
    fn from_redis_value(value: redis::Value) -> Result<Self, redis::ParsingError> {
        let (time, name, person, absence, lease) = redis::FromRedisValue::from_redis_value(value)?;
        Ok(Self(time, name, person, absence, lease))
    }
}

/// A moment at Redis and here.
#[derive(Clone, Copy, Debug)]
struct Time {
    ms: u64,
    heard: Instant,
    /// How long the answer took, some part of which lies after that moment.
    under_way: Duration,
}

impl Time {
    /// How old is what was asked for at a moment of Redis'; rather too old than too young. `None` if
    /// that has not come yet.
    fn age_of(self, asked_at_ms: u64) -> Option<Duration> {
        let age_ms = self.ms.checked_sub(asked_at_ms)?;
        Some(Duration::from_millis(age_ms) + self.under_way + TICK)
    }
}

/// A response as it is stored.
struct Prepared {
    place: String,
    record: Vec<u8>,
    ttl_ms: u64,
    asked: Hash,
    leads: Vec<(Hash, Vec<u8>)>,
}

/// What became of something to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// It stands there.
    Stored,
    /// Something later does.
    Older,
    /// Its person has changed, or was erased.
    Changed,
    /// It has a header that is no text, is too large or too old, or Redis' time is not known yet.
    Unwritable,
    /// Redis did not take it.
    Failed,
}

impl Drop for Lease {
    fn drop(&mut self) {
        let (tier, place) = (Arc::clone(&self.tier), std::mem::take(&mut self.place));
        let holder = self.holder.clone();
        let release = async move {
            let call = tier.link.run::<()>(&RELEASE, |script| {
                script.key(place).arg(holder.as_str());
            });
            // What is not given back lapses.
            let _ = call.await;
        };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(release);
        }
    }
}
