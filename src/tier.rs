//! What several gateways share through Redis or Valkey: a second tier of memory, one budget, one truth.
//!
//! Nothing of it is needed to answer. Every call has a deadline and the whole a breaker ([`link`]);
//! without Redis each gateway is a good single machine.
//!
//! # Invariants
//! - Redis sees no name, no body and no key: what is kept there is sealed ([`seal`]), and stands under
//!   keyed hashes ([`names`]).
//! - Whatever comes from there is a miss unless it proves what it is.

use std::sync::Arc;

pub mod link;
pub mod names;
pub mod position;
pub mod seal;
pub mod standing;

use crate::clock::Clock;
use crate::config;
use link::Link;
use names::Names;
use seal::Seal;

/// What is shared with other gateways.
#[derive(Debug)]
pub struct Tier {
    /// The way to Redis.
    pub link: Arc<Link>,
    /// What things are called there.
    pub names: Names,
    /// What they are sealed with.
    pub seal: Seal,
}

impl Tier {
    /// A tier as configured. Nothing is connected yet.
    ///
    /// # Errors
    /// When certificates cannot be read.
    pub fn new(config: &config::Redis, clock: Clock) -> Result<Arc<Self>, link::Error> {
        Ok(Arc::new(Self {
            link: Link::new(config, clock)?,
            names: Names::new(config),
            seal: Seal::new(&config.seal_keys),
        }))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use crate::config::{Config, Redis, SealKey, Sources};

    /// A configuration with keys that are long enough, each told by its name.
    pub(super) fn config(keys: &[&str]) -> Redis {
        let files: Vec<_> = keys
            .iter()
            .map(|name| {
                let mut file = tempfile::NamedTempFile::new().expect("a file");
                writeln!(file, "{}", name.repeat(32)).expect("written");
                file
            })
            .collect();
        let paths: Vec<_> = files
            .iter()
            .map(|file| file.path().to_string_lossy().into_owned())
            .collect();
        let text = format!("[redis]\nurl = \"redis://127.0.0.1\"\nencryption_key_file = {paths:?}");
        let sources = Sources::inline(text, [("FLAMEUP_API_KEY", "ws_test_a.b")]);
        let loaded = Config::load(&sources).expect("a configuration");
        loaded.config.redis.expect("redis is configured")
    }

    pub(super) fn keys(names: &[&str]) -> Vec<SealKey> {
        config(names).seal_keys
    }
}
