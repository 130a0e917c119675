//! The way to Redis: one connection that all calls share, a deadline for each of them, and a breaker
//! for all.
//!
//! Connections are made in the background (`keeper`): a call finds one or fails at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use redis::{ErrorKind, FromRedisValue, RedisError, Script, ScriptInvocation, ServerErrorKind};
use tokio::sync::Notify;
use tokio::time::timeout;

mod connection;
mod connector;
mod keeper;

use super::numbers::Numbers;
use crate::clock::Clock;
use crate::config;
use crate::shield::breaker::{self, Breaker, Delays, Outcome, Pass};
pub use connection::Connection;
use connector::Connector;

/// The first deadline that is missed opens it: a request makes several calls, and is to wait for one
/// in vain at most. Redis is near and a probe costs nothing, so that it is tried again soon: what
/// was a hiccup is over by then.
const BREAKER: breaker::Settings = breaker::Settings {
    in_a_row: 1,
    delays: Delays {
        first: Duration::from_millis(25),
        longest: Duration::from_secs(2),
    },
    // A probe is a call, which has ended long before.
    give_up_after: Duration::from_secs(5),
};

/// The way to Redis.
pub struct Link {
    connection: ArcSwapOption<Connection>,
    /// Another connection is to be made: this one brings nothing, or leads to the wrong server.
    doubted: AtomicBool,
    connector: Connector,
    /// Wakes whoever makes connections.
    wanted: Notify,
    breaker: Mutex<Breaker>,
    deadline: Duration,
    clock: Clock,
    numbers: Arc<Numbers>,
}

/// A script, and the word for it in metrics.
#[derive(Debug)]
pub struct Call {
    word: &'static str,
    script: Script,
}

/// Why a call brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Certificates cannot be read.
    #[error("reading {0} (redis.ca_file)")]
    Certificates(std::path::PathBuf, #[source] std::io::Error),
    /// The password cannot be read.
    #[error("reading the password of Redis")]
    Password(#[from] config::SecretError),
    /// There is no connection at this moment.
    #[error("there is no connection to Redis")]
    Unconnected,
    /// The Sentinels do not know the master.
    #[error("the Sentinels know no master of this name (redis.url)")]
    NoMaster,
    /// The server that the Sentinels name is a replica.
    #[error("what the Sentinels call the master is none, or not yet")]
    NotMaster,
    /// It took too long.
    #[error("Redis did not answer in time")]
    Deadline,
    /// It failed.
    #[error("Redis failed")]
    Failed(#[from] RedisError),
    /// It failed lately, and is left alone.
    #[error("Redis keeps failing")]
    BreakerOpen,
}

/// What a call brought, and when it was sent and heard.
#[derive(Clone, Copy, Debug)]
pub struct Reply<T> {
    /// What it brought.
    pub value: T,
    /// When it was sent.
    pub sent: Instant,
    /// When it was heard.
    pub heard: Instant,
}

impl Call {
    /// A script that metrics call so.
    pub fn new(word: &'static str, code: &str) -> Self {
        let script = Script::new(code);
        Self { word, script }
    }

    /// Runs it on a connection of one's own, which has its own deadline.
    pub(super) async fn run_on<T: FromRedisValue>(
        &self,
        connection: &mut Connection,
        fill: impl FnOnce(&mut ScriptInvocation<'_>),
    ) -> Result<T, Error> {
        let mut invocation = self.script.prepare_invoke();
        fill(&mut invocation);
        Ok(invocation.invoke_async(connection).await?)
    }
}

impl Link {
    /// The way as configured. Connections are made from now on, as long as it exists.
    ///
    /// # Errors
    /// When certificates cannot be read.
    pub fn new(
        config: &config::Redis,
        clock: Clock,
        numbers: Arc<Numbers>,
    ) -> Result<Arc<Self>, Error> {
        let link = Arc::new(Self {
            connection: ArcSwapOption::empty(),
            doubted: AtomicBool::new(false),
            connector: Connector::new(config)?,
            wanted: Notify::new(),
            breaker: Mutex::new(Breaker::with(BREAKER)),
            deadline: config.timeout,
            clock,
            numbers,
        });
        tokio::spawn(keeper::keep_connected(Arc::downgrade(&link)));
        Ok(link)
    }

    /// Runs a script, all of whose keys are in one slot, within the deadline.
    ///
    /// # Errors
    /// When it brought nothing; see [`Error`]. It may have been run all the same.
    ///
    /// # Cancellation
    /// It may have been run all the same. The breaker learns nothing from it.
    pub async fn run<T: FromRedisValue>(
        &self,
        call: &LazyLock<Call>,
        fill: impl FnOnce(&mut ScriptInvocation<'_>),
    ) -> Result<Reply<T>, Error> {
        let sent = self.clock.now();
        let result = match self.admit(sent) {
            Ok((connection, pass)) => {
                let result = self.invoke(&connection, call, fill).await;
                self.learn(&connection, pass, result.as_ref().err());
                result
            }
            Err(refused) => Err(refused),
        };
        let heard = self.clock.now();
        let word = result.as_ref().map_or_else(Error::word, |_| "ok");
        let took = heard.saturating_duration_since(sent);
        self.numbers.called(call.word, word, took);
        result.map(|value| Reply { value, sent, heard })
    }

    /// What a call needs. Without a connection it is no probe: it would show nothing.
    fn admit(&self, now: Instant) -> Result<(Arc<Connection>, Pass), Error> {
        let connection = self.connection.load_full().ok_or(Error::Unconnected)?;
        let pass = self.breaker.lock().admit(now);
        Ok((connection, pass.map_err(|_| Error::BreakerOpen)?))
    }

    async fn invoke<T: FromRedisValue>(
        &self,
        connection: &Connection,
        call: &Call,
        fill: impl FnOnce(&mut ScriptInvocation<'_>),
    ) -> Result<T, Error> {
        let mut invocation = call.script.prepare_invoke();
        fill(&mut invocation);
        let mut connection = connection.clone();
        let called = timeout(self.deadline, invocation.invoke_async(&mut connection));
        Ok(called.await.map_err(|_| Error::Deadline)??)
    }

    /// Waits until there is a connection, at most for `patience`.
    pub async fn connected(&self, patience: Duration) {
        const LOOK_EVERY: Duration = Duration::from_millis(5);
        let connected = async {
            while self.connection.load().is_none() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        let _ = timeout(patience, connected).await;
    }

    /// A connection of one's own, for a command that blocks for up to `longest`.
    ///
    /// # Errors
    /// When none can be made.
    pub async fn listen(&self, longest: Duration) -> Result<Connection, Error> {
        let connection = self.connector.connect(Some(longest + self.deadline));
        timeout(keeper::LONGEST, connection)
            .await
            .map_err(|_| Error::Deadline)?
    }

    /// How the breaker stands.
    pub fn state(&self) -> breaker::State {
        self.breaker.lock().state(self.clock.now())
    }

    /// Whether calls reach Redis, as far as is known.
    pub fn is_up(&self) -> bool {
        self.state() == breaker::State::Closed && self.connection.load().is_some()
    }

    /// Draws conclusions from how a call on this connection ended.
    fn learn(&self, used: &Arc<Connection>, pass: Pass, error: Option<&Error>) {
        let was_probe = pass.is_probe();
        let outcome = match error {
            Some(Error::Deadline) => Outcome::Failed,
            // No answer at all is as quick as an answer, and makes a connection be made anew.
            Some(Error::Failed(error)) if is_lost(error) => Outcome::Abandoned,
            _ => Outcome::Alive,
        };
        let now = self.clock.now();
        self.breaker.lock().report(pass, outcome, now);
        match error {
            // Once may be a hiccup; twice, and whoever is at the other end may be gone for good.
            Some(Error::Deadline) if was_probe => self.doubt(),
            Some(Error::Failed(error)) if is_lost(error) => self.lose(used),
            _ => {}
        }
    }

    /// Has another connection made, and uses this one until then.
    fn doubt(&self) {
        self.doubted.store(true, Ordering::Release);
        self.wanted.notify_one();
    }

    /// Has another connection made. This one is used no more, unless it leads to several nodes of
    /// which some may answer.
    fn lose(&self, used: &Arc<Connection>) {
        if matches!(**used, Connection::One(_)) {
            // Unless it has been replaced already.
            self.connection.compare_and_swap(used, None);
        }
        self.doubt();
    }

    /// Shows in metrics how the breaker stands.
    pub(super) fn show_breaker(&self) {
        self.numbers.breaker(match self.state() {
            breaker::State::Closed => 0,
            breaker::State::Open { .. } => 1,
            breaker::State::HalfOpen => 2,
        });
    }
}

/// Whether an error says that this server is gone, or is the master no longer.
fn is_lost(error: &RedisError) -> bool {
    use ServerErrorKind::{MasterDown, ReadOnly};
    let gone =
        error.is_unrecoverable_error() || error.is_connection_dropped() || error.is_io_error();
    gone || matches!(error.kind(), ErrorKind::Server(ReadOnly | MasterDown))
}

impl Error {
    /// The word for it in metrics.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Certificates(..) | Self::Password(_) => "setup",
            Self::Unconnected | Self::NoMaster | Self::NotMaster => "unconnected",
            Self::Deadline => "deadline",
            Self::Failed(_) => "failed",
            Self::BreakerOpen => "breaker",
        }
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").finish_non_exhaustive()
    }
}
