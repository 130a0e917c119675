//! moka behind a small surface: weights in bytes, removal, and numbers for the metrics.
//!
//! The store's own time to live is housekeeping: it lets go of what nobody may be served any more,
//! on the machine's clock. Whether an entry may be served is judged by [`super::freshness`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use moka::notification::RemovalCause;
use moka::sync::Cache;

use super::alias::Aliases;
use super::entry::Entry;
use super::key::workspace_of;

/// Entries by key, within a bound of bytes, and the names that they claim.
#[derive(Debug)]
pub struct Store {
    entries: Cache<Arc<[u8]>, Arc<Entry>, ahash::RandomState>,
    aliases: Arc<Aliases>,
    evictions: Arc<Evictions>,
}

/// How often entries went, by cause, other than by our own hand.
#[derive(Debug, Default)]
pub struct Evictions {
    /// For room.
    pub size: AtomicU64,
    /// Because they had outlived their retention.
    pub expired: AtomicU64,
}

impl Store {
    /// A store of at most `max_bytes` that lets go of entries after `retention`.
    pub fn new(max_bytes: u64, retention: Duration) -> Self {
        let evictions = Arc::new(Evictions::default());
        let counters = Arc::clone(&evictions);
        let aliases = Arc::new(Aliases::default());
        let pointers = Arc::clone(&aliases);
        let entries = Cache::builder()
            .max_capacity(max_bytes)
            .weigher(|key: &Arc<[u8]>, entry: &Arc<Entry>| entry.weight(key))
            .time_to_live(retention)
            .eviction_listener(move |key: Arc<Arc<[u8]>>, entry, cause| {
                pointers.remove(&key, &entry);
                counters.count(cause);
            })
            .build_with_hasher(ahash::RandomState::new());
        Self {
            entries,
            aliases,
            evictions,
        }
    }

    /// The entry under `key`, given as its bytes, whatever its age.
    pub fn get(&self, key: &[u8]) -> Option<Arc<Entry>> {
        self.entries.get(key)
    }

    /// Stores `entry`, replacing what was there.
    pub fn insert(&self, key: &[u8], entry: Arc<Entry>) {
        let key: Arc<[u8]> = Arc::from(key);
        self.aliases.add(&key, &entry);
        self.entries.insert(key, entry);
    }

    /// Removes and returns what is under `key`, given as its bytes.
    pub fn remove(&self, key: &[u8]) -> Option<Arc<Entry>> {
        self.entries.remove(key)
    }

    /// Which entries claim which names.
    pub fn aliases(&self) -> &Aliases {
        &self.aliases
    }

    /// The keys of whatever is stored for a workspace. Takes as long as the store is large.
    pub fn keys_of(&self, workspace: u32) -> impl Iterator<Item = Arc<[u8]>> {
        let entries = self.entries.iter().map(|(key, _)| Arc::clone(&*key));
        entries.filter(move |key: &Arc<[u8]>| workspace_of(key) == workspace)
    }

    /// Expires and evicts what is due. moka has no thread of its own: without this an idle store
    /// would keep personal data beyond its retention.
    pub fn maintain(&self) {
        self.entries.run_pending_tasks();
    }

    /// Entries stored, as of the last [`maintain`](Self::maintain).
    pub fn len(&self) -> u64 {
        self.entries.entry_count()
    }

    /// Whether nothing is stored, as of the last [`maintain`](Self::maintain).
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes stored, as of the last [`maintain`](Self::maintain).
    pub fn bytes(&self) -> u64 {
        self.entries.weighted_size()
    }

    /// How often entries went for room or age.
    pub fn evictions(&self) -> &Evictions {
        &self.evictions
    }
}

impl Evictions {
    fn count(&self, cause: RemovalCause) {
        match cause {
            RemovalCause::Size => self.size.fetch_add(1, Ordering::Relaxed),
            RemovalCause::Expired => self.expired.fetch_add(1, Ordering::Relaxed),
            RemovalCause::Explicit | RemovalCause::Replaced => 0,
        };
    }
}
