//! moka behind a small surface: weights in bytes, removal, and numbers for the metrics.
//!
//! The store's own time to live is housekeeping: it lets go of what nobody may be served any more,
//! on the machine's clock. Whether an entry may be served is judged by [`super::freshness`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use moka::notification::RemovalCause;
use moka::sync::Cache;

use super::entry::Entry;
use super::key::CacheKey;

/// Entries by key, within a bound of bytes.
#[derive(Debug)]
pub struct Store {
    entries: Cache<Arc<[u8]>, Arc<Entry>, ahash::RandomState>,
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
        let entries = Cache::builder()
            .max_capacity(max_bytes)
            .weigher(|key: &Arc<[u8]>, entry: &Arc<Entry>| entry.weight(key))
            .time_to_live(retention)
            .eviction_listener(move |_, _, cause| counters.count(cause))
            .build_with_hasher(ahash::RandomState::new());
        Self { entries, evictions }
    }

    /// The entry under `key`, whatever its age.
    pub fn get(&self, key: &CacheKey) -> Option<Arc<Entry>> {
        self.entries.get(key.as_bytes())
    }

    /// Stores `entry`, replacing what was there.
    pub fn insert(&self, key: &CacheKey, entry: Arc<Entry>) {
        self.entries.insert(Arc::from(key.as_bytes()), entry);
    }

    /// Removes what is under `key`.
    pub fn remove(&self, key: &CacheKey) {
        self.entries.invalidate(key.as_bytes());
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
