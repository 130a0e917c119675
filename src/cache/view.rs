//! What the memory knows of one person, for an operator who asks why a lookup hits or misses.
//! Looking changes nothing that is stored; it counts as a use of it, when room is made.

use std::sync::Arc;
use std::time::{Duration, Instant};

use smallvec::SmallVec;

use super::Cache;
use super::changes::Number;
use super::entry::Entry;
use super::freshness::StaleWindows;
use super::key::{CacheKey, Keys};

/// What is known of a person.
#[derive(Debug)]
pub struct View {
    /// Who is found for the lookup, be it too old to be served.
    pub person: Option<Arc<Entry>>,
    /// The key that the person is stored under, where it is another name than the lookup's.
    pub stored_under: Option<CacheKey>,
    /// How many stored people claim the name in whatever spelling. Of several, none is found by
    /// a claim.
    pub claimants: usize,
    /// What is remembered of a 404 to exactly this spelling.
    pub absence: Option<Arc<Entry>>,
    /// Kind and normal form of each name that leads to the person.
    pub names: SmallVec<[(&'static str, CacheKey); 3]>,
    /// Hashes of those names and of the lookup's own.
    pub hashes: SmallVec<[u64; 4]>,
    /// The last change of whoever is called by one of the names, while it is remembered.
    pub changed: Option<Number>,
    /// Until when what is read is not stored.
    pub held_until: Option<Instant>,
    /// Whether that is because the person was erased.
    pub is_barred: bool,
    /// The number of the last change of anybody.
    pub last_change: Number,
    /// Whether Flameup is being asked, or is about to be.
    pub is_being_fetched: bool,
}

impl<F: Clone> Cache<F> {
    /// Looks at what is known of whoever a lookup means.
    pub fn view(&self, keys: &Keys, now: Instant) -> View {
        let stays = |entry: &Arc<Entry>| !self.is_outdated_with_all(entry);
        let person = self.people.find(keys).filter(stays);
        let claims = person.iter().flat_map(|person| person.claims().iter());
        let names: SmallVec<[_; 3]> = claims
            .map(|claim| (claim.word(), claim.normal_form()))
            .collect();
        let own = self.name(keys.person().as_bytes());
        let others = names.iter().map(|(_, key)| self.name(key.as_bytes()));
        let mut hashes: SmallVec<[u64; 4]> = std::iter::once(own).chain(others).collect();
        hashes.sort_unstable();
        hashes.dedup();
        let noted = hashes
            .iter()
            .filter_map(|name| self.changes.of_name(*name, now));
        let (mut changed, mut held_until) = (None, None);
        for (number, until) in noted {
            changed = changed.max(Some(number));
            held_until = held_until.max(until);
        }
        let all_called = self.people.all_called(keys.person().as_bytes());
        let all_called = all_called.iter();
        let uncounted = self.people.uncounted(keys.person().as_bytes());
        View {
            stored_under: self.stored_under(keys),
            claimants: all_called.filter(|found| stays(&found.entry)).count() + uncounted,
            absence: self.absences.get(keys.spelled().as_bytes()).filter(stays),
            is_barred: hashes.iter().any(|name| self.changes.is_barred(*name, now)),
            last_change: self.last_change(),
            is_being_fetched: self.is_being_fetched(&self.flight(keys)),
            person,
            names,
            hashes,
            changed,
            held_until,
        }
    }

    /// How long past its lifetime a person may be served.
    pub fn windows(&self) -> &StaleWindows {
        &self.settings.windows
    }

    /// How long a person is fresh, at most.
    pub fn ttl(&self) -> Duration {
        self.settings.ttl
    }

    /// How old a person may be that is served, whatever fails.
    pub fn max_age(&self) -> Duration {
        self.settings.ttl + self.settings.windows.longest()
    }

    /// Bytes that people and absences may take together.
    pub fn max_bytes(&self) -> u64 {
        self.settings.max_bytes
    }
}
