//! Follows the log of one workspace: reads what others tell, has it applied in order, and says how far
//! it has come.

use std::sync::Arc;
use std::time::Duration;

use redis::streams::{StreamRangeReply, StreamReadReply};
use tokio::time::sleep;

use super::message::{Letter, Message};
use super::{Beat, Error, Log, millis};
use crate::tier::link::Connection;
use crate::tier::position::Position;

/// How long a read waits for the next message. A replica is heard of at least so often.
const BLOCK: Duration = Duration::from_millis(500);

/// Messages of one read.
const MOST_AT_ONCE: usize = 100;

/// Before the way to Redis is tried again.
const PAUSE: Duration = Duration::from_millis(100);

/// Has changes of others applied to what this gateway remembers.
pub trait Hearer: Send + Sync + 'static {
    /// Applies a message of another gateway's, in the workspace of this number.
    fn hear(self: &Arc<Self>, workspace: u32, message: Message) -> impl Future<Output = ()> + Send;

    /// Changes of the workspace were missed: whatever was stored before counts as changed. If `lately`,
    /// they may have been made just now, and what is read may show what was before them.
    fn missed(self: &Arc<Self>, workspace: u32, lately: bool);

    /// Ends the changes of others whose end should have been heard by now.
    fn give_up(self: &Arc<Self>, workspace: u32) -> impl Future<Output = ()> + Send;
}

/// One message as it stands in the log.
struct Entry {
    position: Position,
    /// The message before it.
    after: Position,
    sealed: Vec<u8>,
}

impl Log {
    /// Follows the log until it is dropped.
    pub async fn follow(self: Arc<Self>, hearer: Arc<impl Hearer>) {
        let mut said = None;
        loop {
            let was_suspect = self.standing.is_suspect();
            // It only ends by an error: from then on changes may be missed.
            let Err(error) = self.follow_once(&hearer).await;
            let error = crate::telemetry::chain(&error);
            // Said once, not for each attempt.
            if !was_suspect || said.as_ref() != Some(&error) {
                tracing::warn!(
                    workspace.name = &*self.workspace.name,
                    error,
                    "the log of changes is not heard"
                );
                said = Some(error);
            }
            self.suspect(true);
            hearer.give_up(self.workspace.number).await;
            sleep(PAUSE).await;
        }
    }

    async fn follow_once(
        &self,
        hearer: &Arc<impl Hearer>,
    ) -> Result<std::convert::Infallible, Error> {
        let mut connection = self.tier.link.listen(BLOCK).await?;
        loop {
            let beat = self.beat_on(&mut connection).await?;
            self.look_for_loss(&mut connection, &beat, hearer).await?;
            self.tell_again().await;
            hearer.give_up(self.workspace.number).await;
            // Before everything has been read there are changes that were missed.
            if self.standing.applied() >= beat.last && !self.has_untold() {
                self.suspect(false);
            }
            for entry in self.read(&mut connection).await? {
                self.take(entry, hearer).await;
            }
        }
    }

    /// Whether this is the log that was followed before, and still all there.
    async fn look_for_loss(
        &self,
        connection: &mut Connection,
        beat: &Beat,
        hearer: &Arc<impl Hearer>,
    ) -> Result<(), Error> {
        let life = self.life.lock().replace(beat.life.clone());
        let applied = self.standing.applied();
        let (first, another) = match &life {
            None => (true, false),
            Some(life) => (false, *life != beat.life),
        };
        let cut = beat.last < applied;
        let trimmed = applied < beat.begins;
        if !first && !another && !cut && !trimmed {
            return Ok(());
        }
        self.suspect(true);
        if !first {
            self.lost();
        }
        // Whatever was stored without hearing of changes counts as changed.
        hearer.missed(self.workspace.number, !first);
        if cut {
            // What was stored in Redis may have lost its changes as well.
            self.tell(&Message::Lost, &[]).await?;
        }
        let begin = if first {
            self.before_lately(connection, beat).await?
        } else {
            beat.last
        };
        self.standing.restart(begin);
        let heard = self.hear_of_erasures(connection, beat, hearer).await;
        if heard.is_err() {
            // All of this is to be done again.
            *self.life.lock() = life;
        }
        heard
    }

    /// The last position before what is still to be heard by who has just come: a change so recent
    /// that what is read may show what was before.
    async fn before_lately(
        &self,
        connection: &mut Connection,
        beat: &Beat,
    ) -> Result<Position, Error> {
        let since_ms = beat.time_ms.saturating_sub(millis(self.lately()));
        let mut command = redis::cmd("XRANGE");
        command.arg(self.place()).arg(since_ms).arg("+");
        command.arg("COUNT").arg(1);
        let found: StreamRangeReply = command.query_async(connection).await.map_err(Error::from)?;
        let Some(first) = found.ids.first() else {
            return Ok(beat.last);
        };
        let before: String = first.get("p").ok_or(Error::Broken)?;
        Position::from_digits(&before).map_err(|_| Error::Broken)
    }

    /// Obeys erasures that were told before this replica came.
    async fn hear_of_erasures(
        &self,
        connection: &mut Connection,
        beat: &Beat,
        hearer: &Arc<impl Hearer>,
    ) -> Result<(), Error> {
        let mut command = redis::cmd("HVALS");
        command.arg(self.names.one("erased"));
        let erasures: Vec<Vec<u8>> = command.query_async(connection).await.map_err(Error::from)?;
        for erasure in erasures {
            let Some((until, sealed)) = erasure.split_at_checked(16) else {
                continue;
            };
            let until = std::str::from_utf8(until).ok();
            let until = until.and_then(|until| u64::from_str_radix(until, 16).ok());
            let left_ms = until.and_then(|until| until.checked_sub(beat.time_ms));
            let letter = Letter::open(&self.tier.seal, &self.place(), sealed);
            let (Some(left_ms), Ok(letter)) = (left_ms, letter) else {
                continue;
            };
            if let Message::Erase { names, .. } = letter.message {
                let bar = Duration::from_millis(left_ms);
                let message = Message::Erase { names, bar };
                hearer.hear(self.workspace.number, message).await;
            }
        }
        Ok(())
    }

    async fn read(&self, connection: &mut Connection) -> Result<Vec<Entry>, Error> {
        let mut command = redis::cmd("XREAD");
        command.arg("COUNT").arg(MOST_AT_ONCE);
        command
            .arg("BLOCK")
            .arg(u64::try_from(BLOCK.as_millis()).unwrap_or(0));
        command
            .arg("STREAMS")
            .arg(self.place())
            .arg(self.standing.applied().to_string());
        let read: Option<StreamReadReply> =
            command.query_async(connection).await.map_err(Error::from)?;
        let keys = read.map(|read| read.keys).unwrap_or_default();
        let ids = keys.into_iter().flat_map(|key| key.ids);
        let entry = |id: redis::streams::StreamId| {
            let after: Option<String> = id.get("p");
            let after = after.and_then(|after| Position::from_digits(&after).ok());
            // What cannot be read is one that was missed, and is gone past.
            Some(Entry {
                position: id.id.parse().ok()?,
                after: after.unwrap_or_default(),
                sealed: id.get("m").unwrap_or_default(),
            })
        };
        ids.map(|id| entry(id).ok_or(Error::Broken)).collect()
    }

    /// Has one message applied.
    async fn take(&self, entry: Entry, hearer: &Arc<impl Hearer>) {
        let letter = Letter::open(&self.tier.seal, &self.place(), &entry.sealed);
        if entry.after != self.standing.applied() || letter.is_err() {
            // Messages are gone, or this one cannot be read: it may be of anybody.
            self.lost();
            hearer.missed(self.workspace.number, true);
        }
        if let Ok(Letter { from, message }) = letter
            && from != self.tier.replica
        {
            self.tier.numbers.heard(message.kind());
            hearer.hear(self.workspace.number, message).await;
        }
        self.standing.apply(entry.position);
        self.note_lag(entry.position);
    }

    fn lost(&self) {
        self.tier.numbers.log_lost();
        tracing::error!(
            workspace.name = &*self.workspace.name,
            "changes were missed; nobody in memory is believed any more"
        );
    }

    fn note_lag(&self, position: Position) {
        let now_ms = self.standing.redis_ms(self.tier.clock.now());
        let lag_ms = now_ms.map_or(0, |now_ms| now_ms.saturating_sub(position.ms));
        let lag = Duration::from_millis(lag_ms).as_secs_f64();
        let lags = &self.tier.numbers.lag;
        lags.get_or_create(&self.labels()).set(lag);
    }
}
