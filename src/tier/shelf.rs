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

use tokio::time::{self, sleep};

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

/// Records that may be looked at and found useless before the next is taken for useless as well.
const MOST_REFUSED: usize = 3;

/// What no moment of Redis' is later than.
const NEVER: &str = "ffffffffffffffff";

/// What the tier has for a lookup.
#[derive(Debug)]
pub enum Recall<T> {
    /// A person or an absence, as whoever asked has judged it.
    Found(T),
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

/// What a look at the tier found.
enum Seen {
    /// Something, and when it was asked for by Redis' clock.
    Found(Found, u64),
    /// Something that can be of no use to anybody: from then, or never to be opened.
    Useless(Recalled, String),
    Nothing,
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
    /// Whether it is to be kept. Otherwise it is only said that whoever was called so is gone.
    pub kept: bool,
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

    /// Whether Redis answers, as far as is known.
    pub fn is_up(&self) -> bool {
        self.tier.link.is_up()
    }

    /// What things of the workspace are called in Redis.
    pub fn names(&self) -> &WorkspaceNames {
        &self.names
    }

    /// How this replica stands to the log of the workspace.
    pub fn standing(&self) -> &Arc<Standing> {
        &self.standing
    }

    /// Looks for what is wanted and does for whoever asks, as `judge` says; where another gateway is
    /// fetching it, until `patience` is over.
    ///
    /// What does not do is as good as not there: the lease is to be had all the same.
    pub async fn recall<T>(
        &self,
        wanted: Wanted<'_>,
        patience: Duration,
        mut judge: impl FnMut(Found) -> Option<T>,
    ) -> Recall<T> {
        let give_up_at = time::Instant::now() + patience.min(LONGEST_WAIT);
        let after = wanted.after.and_then(|after| self.standing.redis_ms(after));
        let mut held = after.map_or_else(String::new, digits);
        let mut refused = 0;
        loop {
            let holder = self.tier.holder();
            let Ok(reply) = self.ask(wanted, &holder, &held).await else {
                self.tier.numbers.recalled(Recalled::Error);
                return Recall::Unreachable;
            };
            self.standing.heard(reply.value.0, reply.heard);
            match self.read(wanted, &reply) {
                Seen::Found(found, asked_at_ms) => {
                    let is_absence = found.stored.is_absence();
                    if let Some(judged) = judge(found) {
                        self.tier.numbers.recalled(Recalled::of(is_absence));
                        return Recall::Found(judged);
                    }
                    self.tier.numbers.recalled(Recalled::Stale);
                    held = digits(asked_at_ms);
                }
                Seen::Useless(why, until) => {
                    self.tier.recalled_in_vain(why);
                    held = until;
                }
                Seen::Nothing => {
                    let lease = self.lease(wanted, &reply.value.4, holder);
                    if !matches!(lease, Recall::Busy) || !self.waits(give_up_at).await {
                        self.tier.numbers.recalled(Recalled::Miss);
                        return lease;
                    }
                    continue;
                }
            }
            refused += 1;
            if refused == MOST_REFUSED {
                return Recall::Nothing(None);
            }
        }
    }

    /// Waits for the next look at what another gateway is fetching, if there is time for it.
    async fn waits(&self, give_up_at: time::Instant) -> bool {
        let waits = time::Instant::now() + LOOK_EVERY <= give_up_at;
        if waits {
            self.tier.numbers.recalled(Recalled::Busy);
            sleep(LOOK_EVERY).await;
        }
        waits
    }

    fn lease<T>(&self, wanted: Wanted<'_>, word: &str, holder: Holder) -> Recall<T> {
        let person = self.names.hash(wanted.keys.person().as_bytes());
        match word {
            "busy" => Recall::Busy,
            "taken" => Recall::Nothing(Some(Lease {
                tier: Arc::clone(&self.tier),
                place: self.names.of('l', &person),
                holder,
            })),
            _ => Recall::Nothing(None),
        }
    }

    async fn ask(
        &self,
        wanted: Wanted<'_>,
        holder: &Holder,
        held: &str,
    ) -> Result<Reply<Standings>, link::Error> {
        let person = self.names.hash(wanted.keys.person().as_bytes());
        let spelled = self.names.hash(wanted.keys.spelled().as_bytes());
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
                .arg(held)
                .arg(record::MOST_BYTES);
        });
        call.await
    }

    /// The later of what is there for a lookup: the person, or that there is none.
    fn read(&self, wanted: Wanted<'_>, reply: &Reply<Standings>) -> Seen {
        let Standings(time_ms, name, person, absence, _) = &reply.value;
        let opened = [
            self.open_person(wanted, name, person),
            self.open_absence(wanted, absence),
        ];
        let opened: Result<Vec<_>, _> = opened.into_iter().flatten().collect();
        let Ok(opened) = opened else {
            return Seen::Useless(Recalled::Broken, NEVER.to_owned());
        };
        let latest = opened
            .into_iter()
            .max_by_key(|(label, _)| label.asked_at_ms);
        let Some((label, stored)) = latest else {
            return Seen::Nothing;
        };
        let time = Time {
            ms: *time_ms,
            sent: reply.sent,
        };
        let useful = time.moment(label.asked_at_ms).filter(|asked_at| {
            let age = reply.heard.saturating_duration_since(*asked_at);
            // One's own record, translated there and back, is never later than what is held here.
            age < self.bound(&stored) && wanted.after.is_none_or(|after| *asked_at > after)
        });
        match useful {
            Some(asked_at) => Seen::Found(Found { stored, asked_at }, label.asked_at_ms),
            None => Seen::Useless(Recalled::Stale, digits(label.asked_at_ms)),
        }
    }

    fn open_person(&self, wanted: Wanted<'_>, name: &[u8], person: &[u8]) -> Option<Opened> {
        if person.is_empty() {
            return None;
        }
        let seal = &self.tier.seal;
        let own = self.names.hash(wanted.keys.person().as_bytes());
        let name = Label::open_name(seal, &self.names.of('n', &own), name);
        Some(name.and_then(|name| {
            let target = name.hashes.first().ok_or(record::Error::Broken)?;
            Label::open(seal, &self.names.of('p', target), person)
        }))
    }

    fn open_absence(&self, wanted: Wanted<'_>, absence: &[u8]) -> Option<Opened> {
        if absence.is_empty() {
            return None;
        }
        let spelled = self.names.hash(wanted.keys.spelled().as_bytes());
        let place = self.names.of('a', &spelled);
        Some(Label::open(&self.tier.seal, &place, absence))
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
                .arg(prepared.asked.as_str())
                .arg(prepared.spelled.as_str());
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
            kept,
            ..
        } = writing;
        let stored = Stored::of(entry).ok()?;
        let now = self.tier.clock.now();
        let left = self.bound(&stored);
        let left = left.checked_sub(entry.freshness().current_age(now));
        let ttl_ms = if *kept {
            let left_ms = u64::try_from(left?.as_millis()).ok();
            left_ms.filter(|ms| *ms > 0)?
        } else {
            0
        };
        let person = self.names.hash(asked.person().as_bytes());
        let spelled = self.names.hash(asked.spelled().as_bytes());
        let (kind, own) = match entry.claims().who() {
            Some(who) => (Kind::Person, self.names.hash(who)),
            None => (Kind::Absence, spelled.clone()),
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
            ttl_ms,
            asked: person,
            spelled,
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

/// What a record says, if it opens.
type Opened = Result<(Label, Stored), record::Error>;

/// A moment at Redis that came after one here.
#[derive(Clone, Copy, Debug)]
struct Time {
    ms: u64,
    sent: Instant,
}

impl Time {
    /// When it was, by our clock, that it was so late at Redis; rather too early than too late.
    /// `None` if that has not come yet.
    fn moment(self, redis_ms: u64) -> Option<Instant> {
        let before = self.ms.checked_sub(redis_ms)?;
        self.sent
            .checked_sub(Duration::from_millis(before).saturating_add(TICK))
    }
}

/// A moment of Redis' as records have it.
fn digits(ms: u64) -> String {
    format!("{ms:016x}")
}

/// A response as it is stored.
struct Prepared {
    place: String,
    record: Vec<u8>,
    ttl_ms: u64,
    asked: Hash,
    spelled: Hash,
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
