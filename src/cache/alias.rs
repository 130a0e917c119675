//! Which stored responses claim which names: an index from names to entries.
//!
//! A pointer says that the body under some key claims a name. It is made when that body is stored
//! and goes when the body goes, by the same hand: the store's own notice of removal. What a
//! pointer leads to is always asked whether it claims the name, so a collision of hashes finds
//! nobody instead of somebody else.
//!
//! Names are indexed without regard to the case of an e-mail, since Flameup does not say whether
//! it tells them apart: a change to one spelling must find what is stored under the others.
//! Whether a lookup may use what it finds is decided by the claim itself.
//!
//! # Invariants
//! - Whatever is stored has a pointer from each of its names but the one it is stored under, or is
//!   one of those that a crowded name only counts.
//!   Pointers are made before the entry is stored, so that removal always comes later.
//! - Reading takes no lock.

use std::borrow::Cow;
use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use papaya::{HashMap, Operation};
use seize::Collector;
use smallvec::SmallVec;

use super::entry::Entry;
use super::key::{CacheKey, Place, folded};

/// Pointers of one name; one is the rule, and takes no memory of its own.
#[derive(Clone, Debug)]
enum Pointers {
    One(Pointer),
    Many(Box<Crowd>),
}

/// What more than one entry has to share: the pointers to some, and how many others there are.
#[derive(Clone, Debug)]
struct Crowd {
    kept: Vec<Pointer>,
    /// Those that claim the name beside [`MOST_KEPT`], which no pointer leads to.
    others: usize,
}

/// Most pointers of one name. Each change of one costs as much time as there are, and what so many
/// people are called finds none of them.
const MOST_KEPT: usize = 32;

/// Where an entry is stored that claims a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pointer {
    place: Place,
    /// Which entry: its place in memory, unique while it lives, and the pointer lives no longer.
    entry: usize,
}

/// Where whatever claims a name is stored.
#[derive(Debug, Default)]
pub struct Claimants {
    /// What is led to.
    pub found: SmallVec<[Pointer; 2]>,
    /// How many others there are.
    pub others: usize,
}

/// The index.
#[derive(Debug)]
pub struct Aliases {
    pointers: HashMap<u64, Pointers, ahash::RandomState>,
    names: ahash::RandomState,
}

impl Default for Aliases {
    fn default() -> Self {
        // What is let go of is freed at once, not in batches: keys are personal data.
        let collector = Collector::new().batch_size(1);
        Self {
            pointers: HashMap::builder()
                .hasher(ahash::RandomState::new())
                .collector(collector)
                .build(),
            names: ahash::RandomState::new(),
        }
    }
}

impl Aliases {
    /// A name, given as a key's bytes, in the form that it is indexed and remembered by.
    pub fn name(&self, key: &[u8]) -> u64 {
        self.hash(&folded(key))
    }

    /// Where what has this key, given as its bytes, is stored.
    pub fn place(&self, key: &[u8]) -> Place {
        Place::new(self.hash(key))
    }

    /// The key of what is stored at `place`. What was stored there knows it by one of its names.
    pub fn key_of(&self, place: Place, entry: &Entry) -> Option<CacheKey> {
        let is_it = |key: &&[u8]| self.place(key) == place;
        let names = entry.names();
        names
            .flat_map(|name| {
                let normal = folded(name);
                let folds = matches!(normal, Cow::Owned(_)).then_some(normal);
                [Some(Cow::Borrowed(name)), folds]
            })
            .flatten()
            .find(|key| is_it(&&**key))
            .map(|key| CacheKey::from_bytes(&key))
    }

    /// Points from the names that `entry` claims to `place`, where it is about to be stored.
    pub fn add(&self, place: Place, entry: &Arc<Entry>) {
        let pointers = self.pointers.pin();
        for name in self.names_apart(place, entry) {
            let pointer = Pointer::to(place, entry);
            pointers.update_or_insert_with(
                name,
                |others| others.with(pointer),
                || Pointers::One(pointer),
            );
        }
    }

    /// Takes back what one [`add`](Self::add) did: the entry is not stored there any longer, or has
    /// just been stored there once more.
    pub fn remove(&self, place: Place, entry: &Arc<Entry>) {
        let pointers = self.pointers.pin();
        for name in self.names_apart(place, entry) {
            let gone = Pointer::to(place, entry);
            pointers.compute(name, |found| {
                let Some((_, all)) = found else {
                    return Operation::Abort(());
                };
                all.without(gone)
                    .map_or(Operation::Remove, Operation::Insert)
            });
        }
    }

    /// Where whatever claims this name is stored: where it is crowded, some of it.
    pub fn claimants(&self, name: u64) -> Claimants {
        let pointers = self.pointers.pin();
        let found = pointers.get(&name);
        found.map_or_else(Claimants::default, |all| Claimants {
            found: SmallVec::from_slice(all.as_slice()),
            others: all.others(),
        })
    }

    /// Entries that claim this name and that no pointer leads to. The name is crowded if there are
    /// any, and stays so until they have gone.
    pub fn uncounted(&self, name: u64) -> usize {
        self.pointers.pin().get(&name).map_or(0, Pointers::others)
    }

    /// Whether one more entry of this name would make it crowded.
    pub fn is_full(&self, name: u64) -> bool {
        let pointers = self.pointers.pin();
        let found = pointers.get(&name);
        found.is_some_and(|all| all.as_slice().len() >= MOST_KEPT)
    }

    /// A hash of a key under a secret of this process.
    ///
    /// Word by word: what a hash takes at once may stay on the stack, from where it can get into
    /// what is kept without ever being read there. A word of a key is nobody's name.
    fn hash(&self, key: &[u8]) -> u64 {
        let mut hasher = self.names.build_hasher();
        let (words, rest) = key.as_chunks::<8>();
        for word in words {
            hasher.write_u64(u64::from_le_bytes(*word));
        }
        let last = rest
            .iter()
            .fold(0, |last, byte| last << 8 | u64::from(*byte));
        hasher.write_u64(last);
        hasher.write_usize(key.len());
        hasher.finish()
    }

    /// The names that `entry` claims, but for the one whose place it is stored at.
    fn names_apart<'a>(
        &'a self,
        place: Place,
        entry: &'a Arc<Entry>,
    ) -> impl Iterator<Item = u64> + 'a {
        let names = entry.claims().iter().map(|claim| self.name(claim.key()));
        names.filter(move |name| Place::new(*name) != place)
    }
}

impl Pointers {
    fn as_slice(&self) -> &[Pointer] {
        match self {
            Self::One(one) => std::slice::from_ref(one),
            Self::Many(crowd) => &crowd.kept,
        }
    }

    fn others(&self) -> usize {
        match self {
            Self::One(_) => 0,
            Self::Many(crowd) => crowd.others,
        }
    }

    fn many(kept: Vec<Pointer>, others: usize) -> Self {
        Self::Many(Box::new(Crowd { kept, others }))
    }

    /// With another pointer, or one more that is only counted: also where pointers have gone, until
    /// those that were counted have gone as well.
    fn with(&self, another: Pointer) -> Self {
        let (kept, others) = (self.as_slice(), self.others());
        if others > 0 || kept.len() >= MOST_KEPT {
            Self::many(kept.to_vec(), others + 1)
        } else {
            Self::many([kept, &[another]].concat(), 0)
        }
    }

    /// Without one of those that are like `gone`: who stores an entry where it is stored already
    /// has added a second. One that is not there is among those that are only counted. `None` if
    /// nothing is left.
    fn without(&self, gone: Pointer) -> Option<Self> {
        let (kept, others) = (self.as_slice(), self.others());
        let Some(at) = kept.iter().position(|one| *one == gone) else {
            return Some(match others {
                0 => self.clone(),
                _ => Self::many(kept.to_vec(), others - 1).in_short(),
            });
        };
        let left = [&kept[..at], &kept[at + 1..]].concat();
        (others > 0 || !left.is_empty()).then(|| Self::many(left, others).in_short())
    }

    /// The same in as little memory as it takes.
    fn in_short(self) -> Self {
        match (self.as_slice(), self.others()) {
            ([one], 0) => Self::One(*one),
            _ => self,
        }
    }
}

#[cfg(test)]
impl Aliases {
    /// How many more claim each crowded name.
    pub(super) fn all_others(&self) -> Vec<(u64, usize)> {
        let pointers = self.pointers.pin();
        let others = |(name, all): (&u64, &Pointers)| (*name, all.others());
        let crowded = pointers.iter().map(others);
        crowded.filter(|(_, others)| *others > 0).collect()
    }

    /// Every pointer: from which name, to which place, for which entry.
    pub(super) fn all(&self) -> Vec<(u64, Place, usize)> {
        let pointers = self.pointers.pin();
        let of_name = |(name, all): (&u64, &Pointers)| {
            let spread = |one: &Pointer| (*name, one.place, one.entry);
            all.as_slice().iter().map(spread).collect::<Vec<_>>()
        };
        pointers.iter().flat_map(of_name).collect()
    }

    /// The pointers that an entry stored at `place` must have.
    pub(super) fn expected(&self, place: Place, entry: &Arc<Entry>) -> Vec<(u64, Place, usize)> {
        let to = Pointer::to(place, entry);
        let from = |name| (name, to.place, to.entry);
        self.names_apart(place, entry).map(from).collect()
    }

    /// Has a name lead to an entry that does not claim it, as a collision of hashes would.
    pub(super) fn collide(&self, name: u64, key: &[u8], entry: &Arc<Entry>) {
        let pointer = Pointer::to(self.place(key), entry);
        self.pointers.pin().insert(name, Pointers::One(pointer));
    }
}

impl Pointer {
    fn to(place: Place, entry: &Arc<Entry>) -> Self {
        let entry = Arc::as_ptr(entry).addr();
        Self { place, entry }
    }

    /// At which place.
    pub fn place(&self) -> Place {
        self.place
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::cache::fixture::{ADA, BOB, Person, id, keys, shared, uuid, workspace};
    use crate::config::EmailCase;
    use crate::person::change::Name;
    use crate::workspace::Workspace;

    fn index() -> (Aliases, Workspace) {
        (Aliases::default(), workspace(0, EmailCase::Insensitive))
    }

    fn stored(
        aliases: &Aliases,
        workspace: &Workspace,
        name: &Name,
        person: &Person,
    ) -> (Place, Arc<Entry>) {
        let place = aliases.place(keys(workspace, name).person().as_bytes());
        (place, shared(workspace, name, person, Instant::now()))
    }

    fn claimants(aliases: &Aliases, workspace: &Workspace, name: &Name) -> Vec<Place> {
        let name = aliases.name(keys(workspace, name).spelled().as_bytes());
        let all = aliases.claimants(name).found;
        all.iter().map(Pointer::place).collect()
    }

    #[test]
    fn every_name_but_the_key_itself_leads_to_an_entry() {
        let (aliases, workspace) = index();
        let (key, entry) = stored(&aliases, &workspace, &id("u1"), &ADA);
        aliases.add(key, &entry);
        for name in [uuid(1), id("Ada@x.org"), id("ADA@X.ORG")] {
            assert_eq!(claimants(&aliases, &workspace, &name), [key]);
        }
        for name in [id("u1"), uuid(2), id("U1"), id("bob@x.org")] {
            assert!(claimants(&aliases, &workspace, &name).is_empty());
        }
    }

    #[test]
    fn pointers_go_with_their_entry_and_no_others() {
        let (aliases, workspace) = index();
        let (ada_key, ada) = stored(&aliases, &workspace, &id("u1"), &ADA);
        let namesake = Person {
            email: ADA.email,
            ..BOB
        };
        let (bob_key, bob) = stored(&aliases, &workspace, &id("u2"), &namesake);
        aliases.add(ada_key, &ada);
        aliases.add(bob_key, &bob);
        assert_eq!(claimants(&aliases, &workspace, &id("ada@x.org")).len(), 2);
        aliases.remove(ada_key, &ada);
        assert_eq!(claimants(&aliases, &workspace, &id("ada@x.org")), [bob_key]);
        aliases.remove(bob_key, &bob);
        assert!(aliases.all().is_empty());
    }

    #[test]
    fn an_entry_that_takes_its_own_place_keeps_its_pointers() {
        let (aliases, workspace) = index();
        let (key, entry) = stored(&aliases, &workspace, &id("u1"), &ADA);
        aliases.add(key, &entry);
        aliases.add(key, &entry);
        aliases.remove(key, &entry);
        assert_eq!(aliases.all().len(), 2);
        aliases.remove(key, &entry);
        assert!(aliases.all().is_empty());
    }

    #[test]
    fn what_replaces_an_entry_before_it_is_gone_keeps_its_own_pointers() {
        let (aliases, workspace) = index();
        let (key, old) = stored(&aliases, &workspace, &id("u1"), &ADA);
        let moved = Person {
            email: "lovelace@x.org",
            ..ADA
        };
        let (_, new) = stored(&aliases, &workspace, &id("u1"), &moved);
        aliases.add(key, &old);
        aliases.add(key, &new);
        aliases.remove(key, &old);
        assert!(claimants(&aliases, &workspace, &id("Ada@x.org")).is_empty());
        assert_eq!(claimants(&aliases, &workspace, &uuid(1)).len(), 1);
        assert_eq!(
            claimants(&aliases, &workspace, &id("lovelace@x.org")).len(),
            1
        );
    }

    #[test]
    fn a_name_of_thousands_costs_each_of_them_the_same_and_is_empty_when_all_have_gone() {
        const PEOPLE: u128 = 5_000;
        let (aliases, workspace) = index();
        let of = |number| {
            let person = Person {
                uuid: number,
                ..ADA
            };
            stored(&aliases, &workspace, &uuid(number), &person)
        };
        let all: Vec<_> = (0..PEOPLE).map(of).collect();
        let name = aliases.name(keys(&workspace, &id(ADA.email)).spelled().as_bytes());
        let mut steps = 0;
        for (at, (place, entry)) in all.iter().enumerate() {
            assert_eq!(aliases.uncounted(name), at.saturating_sub(MOST_KEPT));
            steps += aliases.claimants(name).found.len();
            aliases.add(*place, entry);
        }
        // Oldest first, and those that are only counted first.
        let (kept, counted) = all.split_at(MOST_KEPT);
        for (place, entry) in kept[..10].iter().chain(counted).chain(&kept[10..]) {
            steps += aliases.claimants(name).found.len();
            aliases.remove(*place, entry);
        }
        assert!(steps <= 2 * all.len() * (MOST_KEPT + 1), "{steps}");
        assert!(aliases.pointers.pin().is_empty());
    }

    #[test]
    fn the_same_name_in_workspaces_whose_numbers_look_alike_is_two_names() {
        let aliases = Aliases::default();
        for name in [id("u1"), id("Ada@x.org"), uuid(1)] {
            let of = |number| {
                let workspace = workspace(number, EmailCase::Insensitive);
                aliases.name(keys(&workspace, &name).spelled().as_bytes())
            };
            assert_ne!(of(65), of(97));
        }
    }
}
