//! The log of changes of one workspace: every gateway tells it what it changes, and follows what others
//! do.
//!
//! What is told has a position, the generation of whatever it changes. A replica says up to which
//! position it has applied the log, so that whoever tells can wait until all have.
//!
//! # What makes up for lost messages
//! Each message names the position before it. Whoever has read up to another one, or further than the
//! log goes, or finds that the log is another than before, has missed something, and believes nothing
//! that it stored by then.
//!
//! # Invariants
//! - A replica has applied its own messages before it tells them, and those of others before it says so.
//! - What could not be told is told once Redis is reached again; until then it counts as unconfirmed.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

pub mod message;
pub mod reader;

use super::Tier;
use super::link::{self, Call, Connection};
use super::names::{Hash, WorkspaceNames};
use super::numbers::WorkspaceLabels;
use super::position::Position;
use super::record::Label;
use super::standing::Standing;
use crate::cache::changes::HOLD_DOWN;
use crate::cache::key::CacheKey;
use crate::person::change::Touched;
use message::{Letter, Message};

static TELL: LazyLock<Call> = LazyLock::new(|| Call::new("tell", include_str!("scripts/tell.lua")));
static BEAT: LazyLock<Call> = LazyLock::new(|| Call::new("beat", include_str!("scripts/beat.lua")));

/// The longest that a change waits for other gateways to confirm it.
const CONFIRM: Duration = Duration::from_millis(250);

/// Who has been silent for so long is not waited for.
const SILENT_MS: u64 = 2_000;

/// What could not be told and is to be told later. Flameup allows two changes a second; beyond this
/// everybody counts as changed.
const MOST_UNTOLD: usize = 1024;

/// The log of one workspace.
#[derive(Debug)]
pub struct Log {
    tier: Arc<Tier>,
    names: WorkspaceNames,
    standing: Arc<Standing>,
    workspace: Named,
    /// For how long what is stored may be served.
    retention: Duration,
    /// How long a fetch may take.
    longest_fetch: Duration,
    /// What the log was called that was heard last; `None` before any was.
    life: Mutex<Option<String>>,
    /// The gateways that were heard of last, this one among them.
    heard: Mutex<Vec<Heard>>,
    untold: Mutex<Vec<(Message, Vec<Hash>)>>,
}

/// A workspace as this process has it.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) number: u32,
    pub(super) name: Box<str>,
}

/// What a gateway has said of itself.
#[derive(Clone, Debug)]
struct Heard {
    replica: String,
    applied: Position,
    at_ms: u64,
}

/// What was heard of the log and its followers.
#[derive(Debug)]
struct Beat {
    time_ms: u64,
    last: Position,
    /// After which the log still has all.
    begins: Position,
    life: String,
}

/// Another gateway, and whether it has applied a change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Replica {
    /// Its id, made up when it was started.
    pub replica: String,
    /// Whether it has said that it applied the change.
    pub confirmed: bool,
}

/// Who has confirmed a change.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Confirmation {
    /// Whether Redis has taken it.
    pub told: bool,
    /// All other gateways that are known.
    pub replicas: Vec<Replica>,
}

/// A change that Redis has taken.
#[derive(Debug)]
pub struct Told {
    /// Its place in the log.
    pub position: Position,
    /// The bodies of those whom an erasure has met in Redis.
    pub met: Vec<Bytes>,
}

/// Why nothing was told or heard.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Redis was not reached.
    #[error(transparent)]
    Link(#[from] link::Error),
    /// Redis failed.
    #[error("Redis failed")]
    Failed(#[from] redis::RedisError),
    /// It cannot be sealed, or what was heard makes no sense.
    #[error("this is no message of the log")]
    Broken,
}

impl Confirmation {
    /// Whether everybody has it.
    pub fn is_whole(&self) -> bool {
        self.told && self.replicas.iter().all(|replica| replica.confirmed)
    }

    /// Those who have not confirmed, for operators.
    pub fn missing(&self) -> Vec<&str> {
        let missing = self.replicas.iter().filter(|replica| !replica.confirmed);
        missing.map(|replica| &*replica.replica).collect()
    }

    /// Both, for a change of two logs.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.told &= other.told;
        for replica in other.replicas {
            let mut own = self.replicas.iter_mut();
            match own.find(|own| own.replica == replica.replica) {
                Some(own) => own.confirmed &= replica.confirmed,
                None => self.replicas.push(replica),
            }
        }
        self
    }
}

impl Log {
    pub(super) fn new(
        tier: Arc<Tier>,
        names: WorkspaceNames,
        standing: Arc<Standing>,
        workspace: Named,
        retention: Duration,
        longest_fetch: Duration,
    ) -> Self {
        Self {
            tier,
            names,
            standing,
            workspace,
            retention,
            longest_fetch,
            life: Mutex::default(),
            heard: Mutex::default(),
            untold: Mutex::default(),
        }
    }

    /// Tells a change of those who have these keys, or later if Redis is not reached now.
    ///
    /// # Errors
    /// When it was not told yet, or nobody knows.
    pub async fn tell(&self, message: &Message, keys: &[CacheKey]) -> Result<Told, Error> {
        let mut hashes: Vec<Hash> = keys
            .iter()
            .flat_map(|key| self.names.hashes(key.as_bytes()))
            .collect();
        hashes.sort_unstable();
        hashes.dedup();
        let told = self.try_tell(message, &hashes).await;
        if told.is_err() {
            self.keep(message.clone(), hashes);
        }
        told
    }

    async fn try_tell(&self, message: &Message, hashes: &[Hash]) -> Result<Told, Error> {
        let letter = Letter {
            from: self.tier.replica,
            message: message.clone(),
        };
        let place = self.place();
        let sealed = letter.seal(&self.tier.seal, &place);
        let sealed = sealed.map_err(|_| Error::Broken)?;
        let keep = self.retention + self.longest_fetch + message.hold();
        let change = message.change().unwrap_or_default().simple().to_string();
        let everybody = u8::from(message.whom() == Touched::Everyone);
        let call = self.tier.link.run(&TELL, |script| {
            script
                .key(&place)
                .key(self.names.one("c:everybody"))
                .key(self.names.one("o"))
                .key(self.names.one("erased"))
                .arg(self.names.stem())
                .arg(sealed)
                .arg(message.kind())
                .arg(change)
                .arg(millis(message.hold()))
                .arg(millis(keep))
                .arg(everybody)
                .arg(self.standing.applied().to_digits());
            for hash in hashes {
                script.arg(hash.as_str());
            }
        });
        let reply = call.await?;
        let (time_ms, position, met): (u64, String, Vec<Vec<u8>>) = reply.value;
        self.standing.heard(time_ms, reply.heard);
        Ok(Told {
            position: Position::from_digits(&position).map_err(|_| Error::Broken)?,
            met: self.open(&met),
        })
    }

    /// The bodies of records that were met, each behind its place.
    fn open(&self, met: &[Vec<u8>]) -> Vec<Bytes> {
        let open = |pair: &[Vec<u8>]| {
            let [place, record] = pair else { return None };
            let place = std::str::from_utf8(place).ok()?;
            let (_, stored) = Label::open(&self.tier.seal, place, record).ok()?;
            Some(stored.body)
        };
        met.chunks(2).filter_map(open).collect()
    }

    /// Keeps what could not be told. A change that has only begun says its names at its end again.
    fn keep(&self, message: Message, hashes: Vec<Hash>) {
        if matches!(message, Message::Begin { .. } | Message::Lost) {
            return;
        }
        let mut untold = self.untold.lock();
        if untold.len() < MOST_UNTOLD {
            untold.push((message, hashes));
        } else {
            let whom = Touched::Everyone;
            *untold = vec![(Message::Purge { whom }, Vec::new())];
        }
    }

    /// Tells what could not be told before.
    async fn tell_again(&self) {
        loop {
            let Some((message, hashes)) = self.untold.lock().first().cloned() else {
                return;
            };
            if self.try_tell(&message, &hashes).await.is_err() {
                return;
            }
            let mut untold = self.untold.lock();
            // There may have been too many meanwhile, so that they became one.
            if untold.first().is_some_and(|(_, own)| *own == hashes) {
                untold.remove(0);
            }
        }
    }

    /// Whether something that was changed here has not been told yet: Redis has what was before.
    pub fn has_untold(&self) -> bool {
        !self.untold.lock().is_empty()
    }

    /// Waits until all others have applied the log up to there, for a moment. Says who has.
    pub async fn confirm(&self, position: Position) -> Vec<Replica> {
        let (began, mut pause) = (Instant::now(), Duration::from_millis(1));
        loop {
            // What fails is counted with the call; those who are known are asked after once more.
            let beat = self.beat().await.ok();
            let now_ms = beat.map(|beat| beat.time_ms);
            let awaited = |heard: &Heard| {
                let silent = now_ms.is_some_and(|now| now.saturating_sub(heard.at_ms) > SILENT_MS);
                heard.applied < position && !silent
            };
            let waits = now_ms.is_none() || self.others().iter().any(awaited);
            if !waits || began.elapsed() + pause > CONFIRM {
                return self.replicas(Some(position));
            }
            sleep(pause).await;
            pause *= 2;
        }
    }

    /// All others that were heard of, and whether they have applied the log up to there.
    pub fn replicas(&self, position: Option<Position>) -> Vec<Replica> {
        let others = self.others().into_iter();
        let replica = |heard: Heard| Replica {
            confirmed: position.is_some_and(|position| heard.applied >= position),
            replica: heard.replica,
        };
        others.map(replica).collect()
    }

    /// How much later, in milliseconds, is the last change that another gateway was heard to have
    /// applied than the last that was applied here.
    pub fn behind_ms(&self) -> u64 {
        let applied = self.standing.applied();
        let furthest = self
            .others()
            .into_iter()
            .map(|heard| heard.applied.ms)
            .max();
        furthest.unwrap_or(0).saturating_sub(applied.ms)
    }

    /// Says that this replica follows the log no longer.
    pub async fn leave(&self) {
        // Who cannot say so is missed for a while.
        let _ = self
            .tier
            .link
            .run::<BeatReply>(&BEAT, |script| self.fill(script, ""))
            .await;
    }

    fn others(&self) -> Vec<Heard> {
        let own = self.tier.replica.to_string();
        let heard = self.heard.lock();
        let others = heard.iter().filter(|heard| heard.replica != own);
        others.cloned().collect()
    }

    async fn beat(&self) -> Result<Beat, Error> {
        let applied = self.standing.applied().to_digits();
        let call = self
            .tier
            .link
            .run(&BEAT, |script| self.fill(script, &applied));
        let reply = call.await?;
        self.hear_of(reply.value, reply.heard)
    }

    /// The same, on a connection of its own.
    async fn beat_on(&self, connection: &mut Connection) -> Result<Beat, Error> {
        let applied = self.standing.applied().to_digits();
        let reply = BEAT
            .run_on(connection, |script| self.fill(script, &applied))
            .await?;
        self.hear_of(reply, self.tier.clock.now())
    }

    fn fill(&self, script: &mut redis::ScriptInvocation<'_>, applied: &str) {
        script
            .key(self.names.one("r"))
            .key(self.place())
            .key(self.names.one("life"))
            .arg(self.tier.replica.to_string())
            .arg(applied)
            .arg(Uuid::now_v7().to_string())
            .arg(millis(self.retention))
            .arg(millis(self.retention + self.lately()));
    }

    fn hear_of(&self, reply: BeatReply, heard_at: std::time::Instant) -> Result<Beat, Error> {
        let (time_ms, last, life, words, begins) = reply;
        self.standing.heard(time_ms, heard_at);
        let read = |pair: &[String]| {
            let [replica, word] = pair else { return None };
            let (applied, at) = word.split_once(' ')?;
            Some(Heard {
                replica: replica.clone(),
                applied: Position::from_digits(applied).ok()?,
                at_ms: u64::from_str_radix(at, 16).ok()?,
            })
        };
        let heard: Vec<Heard> = words.chunks(2).filter_map(read).collect();
        let lately = heard
            .iter()
            .filter(|heard| time_ms.saturating_sub(heard.at_ms) <= SILENT_MS);
        let count = i64::try_from(lately.count()).unwrap_or(i64::MAX);
        let replicas = &self.tier.numbers.replicas;
        replicas.get_or_create(&self.labels()).set(count);
        *self.heard.lock() = heard;
        Ok(Beat {
            time_ms,
            last: Position::from_digits(&last).map_err(|_| Error::Broken)?,
            begins: Position::from_digits(&begins).map_err(|_| Error::Broken)?,
            life,
        })
    }

    /// For how long what is read may show what was before a change.
    fn lately(&self) -> Duration {
        self.longest_fetch + HOLD_DOWN
    }

    /// Whether changes may have been missed.
    pub fn is_suspect(&self) -> bool {
        self.standing.is_suspect()
    }

    fn suspect(&self, suspect: bool) {
        self.standing.suspect(suspect);
        let gauges = &self.tier.numbers.suspect;
        gauges.get_or_create(&self.labels()).set(i64::from(suspect));
    }

    fn labels(&self) -> WorkspaceLabels {
        WorkspaceLabels::of(&self.workspace.name)
    }

    /// What the log is called in Redis.
    fn place(&self) -> String {
        self.names.one("log")
    }
}

/// The time, the last position, what the log is called, each replica with its word, and the position
/// after which it has all.
type BeatReply = (u64, String, String, Vec<String>, String);

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replica(name: &str, confirmed: bool) -> Replica {
        Replica {
            replica: name.to_owned(),
            confirmed,
        }
    }

    #[test]
    fn a_change_of_two_logs_is_confirmed_by_those_who_have_both() {
        let one = Confirmation {
            told: true,
            replicas: vec![replica("a", true), replica("b", true)],
        };
        let other = Confirmation {
            told: true,
            replicas: vec![replica("b", false), replica("c", true)],
        };
        assert!(one.is_whole());
        let both = one.and(other);
        assert!(!both.is_whole());
        assert_eq!(both.missing(), ["b"]);
        let untold = Confirmation::default();
        assert!(!untold.is_whole());
    }
}
