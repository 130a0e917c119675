//! A link, and a script to try it with.

use std::io::Write;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use flameup_gateway::clock::Clock;
use flameup_gateway::config::{Config, Sources};
use flameup_gateway::sandbox::DEMO_KEY;
use flameup_gateway::tier::link::{Call, Error, Link};
use flameup_gateway::tier::numbers::Numbers;
use prometheus_client::registry::Registry;
use tempfile::NamedTempFile;

use super::PATIENCE;

/// Longer than what a busy machine takes for a call, so that only what is stuck misses it.
pub(crate) const DEADLINE: Duration = Duration::from_millis(300);

/// What the script counts in.
pub(crate) const KEY: &str = "trial:{tag}:count";

static COUNT: LazyLock<Call> =
    LazyLock::new(|| Call::new("count", "return redis.call('INCR', KEYS[1])"));

/// A link to Redis, and what it shows in metrics.
pub(crate) struct Trial {
    pub(crate) link: Arc<Link>,
    registry: Registry,
}

impl Trial {
    pub(crate) fn of(url: &str) -> Self {
        Self::with(url, "")
    }

    /// A link whose configuration has these lines.
    pub(crate) fn with(url: &str, lines: &str) -> Self {
        let mut key = NamedTempFile::new().expect("a file");
        writeln!(key, "{}", "k".repeat(48)).expect("written");
        let text = format!(
            "redis.url = {url:?}\nredis.timeout = \"{}ms\"\nredis.encryption_key_file = \"{}\"\n{lines}",
            DEADLINE.as_millis(),
            key.path().display(),
        );
        let sources = Sources::inline(text, [("FLAMEUP_API_KEY".to_owned(), DEMO_KEY.to_owned())]);
        let config = Config::load(&sources).expect("the test's configuration is valid");
        let redis = config.config.redis.expect("it has a Redis");
        let mut registry = Registry::default();
        let numbers = Numbers::register(&mut registry);
        let link = Link::new(&redis, Clock::system(), numbers).expect("a link");
        Self { link, registry }
    }

    /// Counts one further.
    pub(crate) async fn count(&self) -> Result<u64, Error> {
        let reply = self.link.run(&COUNT, |call| {
            call.key(KEY);
        });
        Ok(reply.await?.value)
    }

    /// Counts one further as soon as that is possible again.
    pub(crate) async fn count_at_last(&self) -> u64 {
        let began = Instant::now();
        loop {
            match self.count().await {
                Ok(count) => return count,
                Err(error) => assert!(began.elapsed() < PATIENCE, "never again: {error:?}"),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// A number of the metrics.
    pub(crate) fn metric(&self, sample: &str) -> Option<u64> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).expect("encoded");
        let prefix = format!("redis_{sample} ");
        let value = text.lines().find_map(|line| line.strip_prefix(&prefix));
        value.map(|value| value.parse().expect("a number"))
    }
}
