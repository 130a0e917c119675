//! The way to Redis: one connection that many calls share, a deadline for each of them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{FromRedisValue, RedisError, Script, ScriptInvocation};
use tokio::time::timeout;

use crate::clock::Clock;
use crate::config;

/// The way to Redis.
pub struct Link {
    manager: ConnectionManager,
    deadline: Duration,
    clock: Clock,
}

/// Why a call brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The way cannot be prepared.
    #[error("preparing the way to Redis")]
    Setup(#[source] RedisError),
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

impl Link {
    /// The way as configured. Nothing is connected yet.
    ///
    /// # Errors
    /// When certificates cannot be read.
    pub fn new(config: &config::Redis, clock: Clock) -> Result<Arc<Self>, Error> {
        let (host, port) = &config.url.servers[0];
        let client = redis::Client::open((host.as_str(), *port)).map_err(Error::Setup)?;
        let settings = ConnectionManagerConfig::new();
        let manager =
            ConnectionManager::new_lazy_with_config(client, settings).map_err(Error::Setup)?;
        Ok(Arc::new(Self {
            manager,
            deadline: config.timeout,
            clock,
        }))
    }

    /// Runs a script, all of whose keys are in one slot, within the deadline.
    ///
    /// # Errors
    /// When it brought nothing; see [`Error`]. It may have been run all the same.
    pub async fn run<T: FromRedisValue>(
        &self,
        script: &Script,
        fill: impl FnOnce(&mut ScriptInvocation<'_>),
    ) -> Result<Reply<T>, Error> {
        let mut invocation = script.prepare_invoke();
        fill(&mut invocation);
        let mut connection = self.manager.clone();
        let sent = self.clock.now();
        let called = timeout(self.deadline, invocation.invoke_async(&mut connection));
        let value = called.await.map_err(|_| Error::Deadline)??;
        Ok(Reply {
            value,
            sent,
            heard: self.clock.now(),
        })
    }
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").finish_non_exhaustive()
    }
}
