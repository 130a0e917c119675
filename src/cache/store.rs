//! moka behind a small surface: weights in bytes, removal, and numbers for the metrics.
//!
//! The store's own time to live is housekeeping: it lets go of what nobody may be served any more,
//! on the machine's clock. Whether an entry may be served is judged by [`super::freshness`].

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use moka::notification::RemovalCause;
use moka::sync::Cache;
use parking_lot::Mutex;

use super::alias::Aliases;
use super::entry::{Entry, Lifetime};
use super::key::Place;
use crate::upstream::Response;

/// Keys that come and go at a time, to have the store let go of others, and how often at most.
/// Two hundred thousand in all are a fraction of a second, and enough for a million entries.
const COMING_AND_GOING: u32 = 1024;
const MOST_ROUNDS: u32 = 200;

/// No workspace has this number, and no key goes on like this.
const PLACEHOLDER: [u8; 5] = [0xff, 0xff, 0xff, 0xff, b'-'];

/// Entries by key, within a bound of bytes, and the names that they claim.
#[derive(Debug)]
pub struct Store {
    entries: Cache<Place, Arc<Entry>, ahash::RandomState>,
    aliases: Arc<Aliases>,
    evictions: Arc<Evictions>,
    leaving: Arc<Leaving>,
}

/// What is being removed for good.
#[derive(Debug, Default)]
struct Leaving {
    /// How many want to know; mostly nobody.
    watchers: AtomicUsize,
    entries: Mutex<Vec<Weak<Entry>>>,
}

/// Entries that are removed while it lives are remembered.
#[derive(Debug)]
pub struct Watch(Arc<Leaving>);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.watchers.fetch_sub(1, Ordering::SeqCst);
    }
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
        let leaving = Arc::new(Leaving::default());
        let removed = Arc::clone(&leaving);
        let entries = Cache::builder()
            .max_capacity(max_bytes)
            .weigher(|_: &Place, entry: &Arc<Entry>| entry.weight())
            .time_to_live(retention)
            .eviction_listener(move |place: Arc<Place>, entry, cause| {
                pointers.remove(*place, &entry);
                if cause == RemovalCause::Explicit {
                    removed.note(&entry);
                }
                counters.count(cause);
            })
            .build_with_hasher(ahash::RandomState::new());
        Self {
            entries,
            aliases,
            evictions,
            leaving,
        }
    }

    /// Begins to remember which entries are removed by hand.
    pub fn watch(&self) -> Watch {
        self.leaving.watchers.fetch_add(1, Ordering::SeqCst);
        Watch(Arc::clone(&self.leaving))
    }

    /// Sees that nothing is kept of the entries that were removed under `watch`, nor of those that an
    /// earlier watch could not see gone. Says whether that was achieved. One at a time: of two, one
    /// would take the entries of both.
    ///
    /// moka lets go of what was removed when no thread can be reading it any more, and finds that
    /// out when enough has come and gone, which in an idle store may be never. So others, of nobody,
    /// are made to. It lets go of things in the order that they were removed in, so what was removed
    /// before the watch began is gone with the first of these. Takes a moment where much is stored.
    pub fn see_gone(&self, watch: Watch) -> bool {
        self.insert(&PLACEHOLDER, nobody());
        self.remove(&PLACEHOLDER);
        self.maintain();
        drop(watch);
        let mut left = std::mem::take(&mut *self.leaving.entries.lock());
        let (mut rounds, placeholder) = (0, nobody());
        left.retain(|entry| entry.strong_count() > 0);
        while !left.is_empty() && rounds < MOST_ROUNDS {
            self.come_and_go(rounds, &placeholder);
            left.retain(|entry| entry.strong_count() > 0);
            rounds += 1;
        }
        let are_gone = left.is_empty();
        self.leaving.entries.lock().append(&mut left);
        are_gone
    }

    fn come_and_go(&self, round: u32, placeholder: &Arc<Entry>) {
        let first = round * COMING_AND_GOING;
        let keys = (first..first + COMING_AND_GOING)
            .map(|number| [&PLACEHOLDER[..], &number.to_be_bytes()].concat());
        for key in keys {
            self.insert(&key, Arc::clone(placeholder));
            self.remove(&key);
        }
        self.maintain();
    }

    /// Where what has this key, given as its bytes, is stored.
    pub fn place(&self, key: &[u8]) -> Place {
        self.aliases.place(key)
    }

    /// The entry at the place of `key`, given as its bytes, whatever its age. That it is the key's own
    /// is as good as certain, and for whoever serves it to say.
    pub fn get(&self, key: &[u8]) -> Option<Arc<Entry>> {
        self.get_at(self.place(key))
    }

    /// The entry at a place, whatever its age.
    pub fn get_at(&self, place: Place) -> Option<Arc<Entry>> {
        self.entries.get(&place)
    }

    /// Stores `entry` under `key`, given as its bytes, replacing what was there.
    pub fn insert(&self, key: &[u8], entry: Arc<Entry>) {
        self.insert_at(self.place(key), entry);
    }

    /// Stores `entry` at a place, replacing what was there.
    pub fn insert_at(&self, place: Place, entry: Arc<Entry>) {
        self.aliases.add(place, &entry);
        self.entries.insert(place, entry);
    }

    /// Removes and returns what is at the place of `key`, given as its bytes.
    pub fn remove(&self, key: &[u8]) -> Option<Arc<Entry>> {
        self.remove_at(self.place(key))
    }

    /// Removes and returns what is at a place.
    pub fn remove_at(&self, place: Place) -> Option<Arc<Entry>> {
        self.entries.remove(&place)
    }

    /// Which entries claim which names.
    pub fn aliases(&self) -> &Aliases {
        &self.aliases
    }

    /// Where whatever is stored for a workspace is. Takes as long as the store is large.
    pub fn places_of(&self, workspace: u32) -> impl Iterator<Item = Place> {
        let entries = self.entries.iter();
        let own = entries.filter(move |(_, entry)| entry.workspace() == workspace);
        own.map(|(place, _)| *place)
    }

    /// Expires and evicts what is due. moka has no thread of its own: without this an idle store
    /// would keep personal data beyond its retention.
    pub fn maintain(&self) {
        self.entries.run_pending_tasks();
        // What an erasure could not see gone has gone since, and is freed with its last reminder.
        let mut left = self.leaving.entries.lock();
        left.retain(|entry| entry.strong_count() > 0);
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

/// An entry that claims no name.
fn nobody() -> Arc<Entry> {
    let response = Response {
        status: StatusCode::NOT_FOUND,
        headers: HeaderMap::new(),
        body: Bytes::new(),
        requested_at: Instant::now(),
    };
    Arc::new(Entry::new(&response, Lifetime::NONE))
}

impl Leaving {
    fn note(&self, entry: &Arc<Entry>) {
        if self.watchers.load(Ordering::SeqCst) == 0 {
            return;
        }
        let (mut entries, entry) = (self.entries.lock(), Arc::downgrade(entry));
        // A placeholder comes and goes many times.
        if !entries.last().is_some_and(|last| last.ptr_eq(&entry)) {
            entries.push(entry);
        }
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

#[cfg(test)]
impl Store {
    /// Asserts that the index has a pointer for every name that a stored entry claims, and no
    /// other.
    pub(super) fn assert_index_is_exact(&self) {
        self.maintain();
        let stored: Vec<_> = self.entries.iter().collect();
        let mut expected: Vec<_> = stored
            .iter()
            .flat_map(|(place, entry)| self.aliases.expected(**place, entry))
            .collect();
        let mut all = self.aliases.all();
        for (name, others) in self.aliases.all_others() {
            let kept: Vec<_> = all.extract_if(.., |one| one.0 == name).collect();
            let all_of_name: Vec<_> = expected.extract_if(.., |one| one.0 == name).collect();
            assert_eq!(kept.len() + others, all_of_name.len());
            assert!(kept.iter().all(|one| all_of_name.contains(one)));
        }
        expected.sort_unstable();
        all.sort_unstable();
        assert!(
            all == expected,
            "{} pointers, not {}",
            all.len(),
            expected.len()
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::fixture::{ADA, BOB, Person, id, keys, shared, uuid, workspace};
    use crate::config::EmailCase;
    use crate::person::change::Name;
    use crate::workspace::Workspace;

    const ROOM: u64 = 1 << 20;

    fn store(max_bytes: u64, retention: Duration) -> (Store, Workspace) {
        let workspace = workspace(0, EmailCase::Insensitive);
        (Store::new(max_bytes, retention), workspace)
    }

    fn put(store: &Store, workspace: &Workspace, name: &Name, person: &Person) {
        let key = keys(workspace, name).person().clone();
        let entry = shared(workspace, name, person, Instant::now());
        store.insert(key.as_bytes(), entry);
    }

    fn claimants(store: &Store, workspace: &Workspace, name: &Name) -> usize {
        let aliases = store.aliases();
        let name = aliases.name(keys(workspace, name).spelled().as_bytes());
        aliases.claimants(name).found.len()
    }

    #[test]
    fn what_was_removed_before_anybody_watched_is_seen_gone_too() {
        let (store, workspace) = store(ROOM, Duration::from_mins(1));
        put(&store, &workspace, &id("u1"), &ADA);
        let key = keys(&workspace, &id("u1")).person().clone();
        let removed = store.remove(key.as_bytes()).expect("it is stored");
        let lingering = Arc::downgrade(&removed);
        drop(removed);
        assert!(store.see_gone(store.watch()));
        assert_eq!(lingering.strong_count(), 0);
    }

    #[test]
    fn pointers_go_with_an_entry_that_is_replaced_or_removed() {
        let (store, workspace) = store(ROOM, Duration::from_mins(1));
        put(&store, &workspace, &id("u1"), &ADA);
        let moved = Person {
            email: "lovelace@x.org",
            ..ADA
        };
        put(&store, &workspace, &id("u1"), &moved);
        assert_eq!(claimants(&store, &workspace, &id(ADA.email)), 0);
        assert_eq!(claimants(&store, &workspace, &id(moved.email)), 1);
        store.assert_index_is_exact();
        let key = keys(&workspace, &id("u1")).person().clone();
        assert!(store.remove(key.as_bytes()).is_some());
        assert_eq!(claimants(&store, &workspace, &uuid(1)), 0);
        store.assert_index_is_exact();
    }

    #[test]
    fn an_entry_that_takes_its_own_place_keeps_its_pointers() {
        let (store, workspace) = store(ROOM, Duration::from_mins(1));
        let entry = shared(&workspace, &id("u1"), &ADA, Instant::now());
        let key = keys(&workspace, &id("u1")).person().clone();
        store.insert(key.as_bytes(), Arc::clone(&entry));
        store.insert(key.as_bytes(), entry);
        assert_eq!(claimants(&store, &workspace, &uuid(1)), 1);
        store.assert_index_is_exact();
    }

    #[test]
    fn pointers_go_with_an_entry_that_goes_for_room() {
        let (store, workspace) = store(6_000, Duration::from_mins(1));
        for number in 1..=50 {
            let person = Person {
                uuid: number,
                ..ADA
            };
            put(&store, &workspace, &uuid(number), &person);
            store.assert_index_is_exact();
        }
        assert!((1..10).contains(&store.len()), "{}", store.len());
        assert!(store.evictions().size.load(Ordering::Relaxed) > 40);
    }

    #[test]
    fn pointers_go_with_an_entry_that_outlives_its_retention() {
        let (store, workspace) = store(ROOM, Duration::ZERO);
        put(&store, &workspace, &id("u1"), &ADA);
        put(&store, &workspace, &id("u2"), &BOB);
        store.maintain();
        assert_eq!(store.len(), 0);
        assert!(store.aliases.all().is_empty());
    }

    #[test]
    fn places_are_listed_by_workspace() {
        let (store, _) = store(ROOM, Duration::from_mins(1));
        let [upper, lower] = [65, 97].map(|number| workspace(number, EmailCase::Insensitive));
        put(&store, &upper, &id("u1"), &ADA);
        put(&store, &lower, &id("u1"), &ADA);
        let places: Vec<_> = store.places_of(65).collect();
        let key = keys(&upper, &id("u1")).person().clone();
        assert_eq!(places, [store.place(key.as_bytes())]);
    }

    /// Four threads store, replace, remove and look up a few people under changing names, in a
    /// store with room for some of them.
    #[test]
    fn the_index_is_exact_after_four_threads_have_used_it_at_once() {
        let (store, workspace) = store(8_000, Duration::from_mins(1));
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (store, workspace) = (&store, &workspace);
                scope.spawn(move || stress(store, workspace, thread));
            }
        });
        assert!(!store.is_empty() || store.evictions.size.load(Ordering::Relaxed) > 0);
        store.assert_index_is_exact();
    }

    fn stress(store: &Store, workspace: &Workspace, thread: usize) {
        const EMAILS: [&str; 3] = ["a@x.org", "A@x.org", "b@x.org"];
        let hasher = ahash::RandomState::with_seed(thread);
        for step in 0..2_000_u64 {
            let random = hasher.hash_one(step);
            let choice = |shift: u32, of: u64| usize::try_from((random >> shift) % of);
            let choice = |shift, of| choice(shift, of).expect("a small number");
            let person = Person {
                uuid: 1 + u128::from(random % 12),
                external_id: ["u1", "u2", "u3"][choice(8, 3)],
                email: EMAILS[choice(16, 3)],
                version: 1,
            };
            let name = person.names()[choice(24, 3)].clone();
            let key = keys(workspace, &name).person().clone();
            match choice(32, 8) {
                0..4 => put(store, workspace, &name, &person),
                4 => drop(store.remove(key.as_bytes())),
                5 => store.maintain(),
                6 => {
                    // Again what is there: it takes its own place.
                    if let Some(entry) = store.get(key.as_bytes()) {
                        store.insert(key.as_bytes(), entry);
                    }
                }
                _ => {
                    let aliases = store.aliases();
                    for pointer in aliases.claimants(aliases.name(key.as_bytes())).found {
                        drop(store.get_at(pointer.place()));
                    }
                }
            }
        }
    }

    #[test]
    fn an_entry_that_is_removed_for_good_is_in_memory_no_longer() {
        let store = Store::new(1 << 28, Duration::from_mins(10));
        let entry = nobody();
        for others in 0u32..20_000 {
            let key = [b"0000i", &others.to_be_bytes()[..]].concat();
            store.insert(&key, Arc::clone(&entry));
        }
        let ada = nobody();
        let watched = Arc::downgrade(&ada);
        store.insert(b"0000iada", ada);
        let watch = store.watch();
        assert!(store.remove(b"0000iada").is_some());
        assert!(store.see_gone(watch));
        assert_eq!(watched.strong_count(), 0);
        store.maintain();
        assert_eq!(store.len(), 20_000);
    }
}
