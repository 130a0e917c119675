//! The way to Redis: one connection that all calls share, a deadline for each of them, and a breaker
//! for all.
//!
//! Connections are made in the background (`connector`): a call finds one or fails at once.

use std::sync::{Arc, LazyLock, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use redis::{ErrorKind, FromRedisValue, RedisError, Script, ScriptInvocation, ServerErrorKind};
use tokio::sync::Notify;
use tokio::time::timeout;

mod connection;
mod connector;

use super::numbers::Numbers;
use crate::clock::Clock;
use crate::config;
use crate::shield::breaker::{self, Breaker, Delays, Outcome};
pub use connection::Connection;
use connector::Connector;

/// Redis is near, and a probe costs nothing: it is tried again soon.
const DELAYS: Delays = Delays {
    first: Duration::from_millis(250),
    longest: Duration::from_secs(2),
};

/// A probe is a call, which has ended long before.
const LOST_AFTER: Duration = Duration::from_secs(5);

/// The way to Redis.
pub struct Link {
    connection: ArcSwapOption<Connection>,
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
    /// No Sentinel knows the master.
    #[error("no Sentinel names the master")]
    NoMaster,
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
            connector: Connector::new(config)?,
            wanted: Notify::new(),
            breaker: Mutex::new(Breaker::with_delays(DELAYS, LOST_AFTER)),
            deadline: config.timeout,
            clock,
            numbers,
        });
        tokio::spawn(keep_connected(Arc::downgrade(&link)));
        Ok(link)
    }

    /// Runs a script, all of whose keys are in one slot, within the deadline.
    ///
    /// # Errors
    /// When it brought nothing; see [`Error`]. It may have been run all the same.
    pub async fn run<T: FromRedisValue>(
        &self,
        call: &LazyLock<Call>,
        fill: impl FnOnce(&mut ScriptInvocation<'_>),
    ) -> Result<Reply<T>, Error> {
        let sent = self.clock.now();
        let pass = self.breaker.lock().admit(sent);
        let Ok(pass) = pass else {
            self.numbers.called(call.word, "breaker", Duration::ZERO);
            return Err(Error::BreakerOpen);
        };
        let result = self.try_run(call, fill).await;
        let heard = self.clock.now();
        let (outcome, word) = match &result {
            Ok(_) => (Outcome::Alive, "ok"),
            Err(error) => (Outcome::Failed, error.word()),
        };
        self.breaker.lock().report(pass, outcome, heard);
        let took = heard.saturating_duration_since(sent);
        self.numbers.called(call.word, word, took);
        let value = result.inspect_err(|error| self.look_at(error))?;
        Ok(Reply { value, sent, heard })
    }

    async fn try_run<T: FromRedisValue>(
        &self,
        call: &Call,
        fill: impl FnOnce(&mut ScriptInvocation<'_>),
    ) -> Result<T, Error> {
        let connection = self.connection.load_full().ok_or(Error::Unconnected)?;
        let mut invocation = call.script.prepare_invoke();
        fill(&mut invocation);
        let mut connection = Connection::clone(&connection);
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
        timeout(connector::LONGEST, connection)
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

    /// An error may say that the connection is of no use any more.
    fn look_at(&self, error: &Error) {
        let useless = match error {
            Error::Failed(error) => is_lost(error),
            // A connection that has brought nothing for so long may never do again.
            Error::Deadline => self.state() != breaker::State::Closed,
            _ => false,
        };
        if useless {
            self.connection.store(None);
            self.wanted.notify_one();
        }
    }
}

/// Whether an error says that this server is gone, or is the master no longer.
fn is_lost(error: &RedisError) -> bool {
    let gone =
        error.is_unrecoverable_error() || error.is_connection_dropped() || error.is_io_error();
    gone || matches!(
        error.kind(),
        ErrorKind::Server(
            ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown | ServerErrorKind::BusyLoading
        )
    )
}

impl Error {
    /// The word for it in metrics.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Certificates(..) | Self::Password(_) => "setup",
            Self::Unconnected | Self::NoMaster => "unconnected",
            Self::Deadline => "deadline",
            Self::Failed(_) => "failed",
            Self::BreakerOpen => "breaker",
        }
    }
}

/// Makes a connection where there is none, for as long as anybody has the link.
async fn keep_connected(link: Weak<Link>) {
    let mut pause = connector::FIRST_PAUSE;
    let mut said = false;
    loop {
        let Some(link) = link.upgrade() else { return };
        if link.connection.load().is_some() {
            pause = connector::FIRST_PAUSE;
            // The master may have moved without a word.
            let _ = timeout(connector::LOOK_EVERY, link.wanted.notified()).await;
            link.connector.look(&link.connection).await;
            continue;
        }
        match timeout(connector::LONGEST, link.connector.connect(None)).await {
            Ok(Ok(connection)) => {
                link.connection.store(Some(Arc::new(connection)));
                link.numbers.connected();
                tracing::info!("connected to Redis");
                said = false;
            }
            failed => {
                let error = failed.map_or(Error::Deadline, |failed| {
                    failed.err().unwrap_or(Error::Unconnected)
                });
                if !said {
                    tracing::warn!(
                        error = crate::telemetry::chain(&error),
                        "Redis is not reached"
                    );
                    said = true;
                }
                drop(link);
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(connector::LONGEST_PAUSE);
            }
        }
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").finish_non_exhaustive()
    }
}
