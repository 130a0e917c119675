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

use std::sync::Arc;

use papaya::{HashMap, Operation};
use seize::Collector;
use smallvec::SmallVec;

use super::entry::Entry;
use super::key::folded;

/// Pointers of one name; one is the rule. Of a name that more than [`MOST_KEPT`] share, the last
/// leads nowhere and says how many more there are.
type Pointers = SmallVec<[Pointer; 1]>;

/// Most pointers of one name. Each change of one costs as much time as there are, and what so many
/// people are called finds none of them.
const MOST_KEPT: usize = 32;

/// Where an entry is stored that claims a name.
#[derive(Clone, Debug)]
pub struct Pointer {
    key: Arc<[u8]>,
    /// Which entry: its place in memory, unique while it lives, and the pointer lives no longer.
    entry: usize,
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
        self.names.hash_one(&*folded(key))
    }

    /// Points from the names that `entry` claims to `key`, where it is about to be stored.
    pub fn add(&self, key: &Arc<[u8]>, entry: &Arc<Entry>) {
        let pointers = self.pointers.pin();
        for name in self.names_apart(key, entry) {
            let pointer = Pointer::to(key, entry);
            pointers.update_or_insert_with(
                name,
                |others| {
                    let mut all = others.clone();
                    take_in(&mut all, &pointer);
                    all
                },
                || SmallVec::from_iter([pointer.clone()]),
            );
        }
    }

    /// Takes back what one [`add`](Self::add) did: the entry is not stored there any longer, or has
    /// just been stored there once more.
    pub fn remove(&self, key: &Arc<[u8]>, entry: &Arc<Entry>) {
        let pointers = self.pointers.pin();
        for name in self.names_apart(key, entry) {
            let gone = Pointer::to(key, entry);
            pointers.compute(name, |found| {
                let Some((_, all)) = found else {
                    return Operation::Abort(());
                };
                let mut left = all.clone();
                let_go(&mut left, &gone);
                if left.is_empty() {
                    Operation::Remove
                } else {
                    Operation::Insert(left)
                }
            });
        }
    }

    /// Where whatever claims this name is stored: where it is crowded, some of it.
    pub fn claimants(&self, name: u64) -> Pointers {
        let pointers = self.pointers.pin();
        pointers.get(&name).cloned().unwrap_or_default()
    }

    /// Entries that claim this name and that no pointer leads to. The name is crowded if there are
    /// any, and stays so until they have gone.
    pub fn uncounted(&self, name: u64) -> usize {
        let pointers = self.pointers.pin();
        let last = pointers.get(&name).and_then(|all| all.last());
        last.map_or(0, Pointer::stands_for)
    }

    /// Whether one more entry of this name would make it crowded.
    pub fn is_full(&self, name: u64) -> bool {
        let pointers = self.pointers.pin();
        pointers
            .get(&name)
            .is_some_and(|all| all.len() >= MOST_KEPT)
    }

    /// The names that `entry` claims, but for the one that `key` already is.
    fn names_apart<'a>(
        &'a self,
        key: &'a Arc<[u8]>,
        entry: &'a Arc<Entry>,
    ) -> impl Iterator<Item = u64> + 'a {
        let others = entry
            .claims()
            .iter()
            .filter(|claim| *folded(claim.key()) != **key);
        others.map(|claim| self.name(claim.key()))
    }
}

#[cfg(test)]
impl Aliases {
    /// Every pointer: from which name, to which key, for which entry.
    pub(super) fn all(&self) -> Vec<(u64, Arc<[u8]>, usize)> {
        let pointers = self.pointers.pin();
        let of_name = |(name, all): (&u64, &Pointers)| {
            let spread = |one: &Pointer| (*name, Arc::clone(&one.key), one.entry);
            all.iter().map(spread).collect::<Vec<_>>()
        };
        pointers.iter().flat_map(of_name).collect()
    }

    /// The pointers that an entry stored under `key` must have.
    pub(super) fn expected(
        &self,
        key: &Arc<[u8]>,
        entry: &Arc<Entry>,
    ) -> Vec<(u64, Arc<[u8]>, usize)> {
        let to = Pointer::to(key, entry);
        let from = |name| (name, Arc::clone(&to.key), to.entry);
        self.names_apart(key, entry).map(from).collect()
    }

    /// Has a name lead to an entry that does not claim it, as a collision of hashes would.
    pub(super) fn collide(&self, name: u64, key: &[u8], entry: &Arc<Entry>) {
        let pointer = Pointer::to(&Arc::from(key), entry);
        self.pointers
            .pin()
            .insert(name, SmallVec::from_iter([pointer]));
    }
}

impl Pointer {
    fn to(key: &Arc<[u8]>, entry: &Arc<Entry>) -> Self {
        Self {
            key: Arc::clone(key),
            entry: Arc::as_ptr(entry).addr(),
        }
    }

    /// Stands for so many that are not kept.
    fn of_others(count: usize) -> Self {
        Self {
            key: Arc::default(),
            entry: count,
        }
    }

    /// For how many others it stands; none if it leads to an entry. No key is empty.
    pub fn stands_for(&self) -> usize {
        if self.key.is_empty() { self.entry } else { 0 }
    }

    /// Under which key.
    pub fn key(&self) -> &Arc<[u8]> {
        &self.key
    }

    fn is(&self, other: &Self) -> bool {
        self.entry == other.entry && self.key == other.key
    }
}

/// Adds a pointer, or counts it.
fn take_in(all: &mut Pointers, pointer: &Pointer) {
    let is_full = all.len() >= MOST_KEPT;
    match all.last_mut().filter(|last| last.stands_for() > 0) {
        Some(others) => others.entry += 1,
        None if is_full => all.push(Pointer::of_others(1)),
        None => all.push(pointer.clone()),
    }
}

/// Removes a pointer like this: one of them, for who stores an entry where it is stored already has
/// added a second. One that is not there is among those that are only counted.
fn let_go(all: &mut Pointers, gone: &Pointer) {
    if let Some(at) = all.iter().position(|one| one.is(gone)) {
        all.remove(at);
    } else if let Some(others) = all.last_mut().filter(|last| last.stands_for() > 0) {
        others.entry -= 1;
        if others.entry == 0 {
            all.pop();
        }
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

    fn stored(workspace: &Workspace, name: &Name, person: &Person) -> (Arc<[u8]>, Arc<Entry>) {
        let key = Arc::from(keys(workspace, name).person().as_bytes());
        (key, shared(workspace, name, person, Instant::now()))
    }

    fn claimants(aliases: &Aliases, workspace: &Workspace, name: &Name) -> Vec<Arc<[u8]>> {
        let name = aliases.name(keys(workspace, name).spelled().as_bytes());
        let all = aliases.claimants(name);
        all.iter()
            .map(|pointer| Arc::clone(pointer.key()))
            .collect()
    }

    #[test]
    fn every_name_but_the_key_itself_leads_to_an_entry() {
        let (aliases, workspace) = index();
        let (key, entry) = stored(&workspace, &id("u1"), &ADA);
        aliases.add(&key, &entry);
        for name in [uuid(1), id("Ada@x.org"), id("ADA@X.ORG")] {
            assert_eq!(claimants(&aliases, &workspace, &name), [Arc::clone(&key)]);
        }
        for name in [id("u1"), uuid(2), id("U1"), id("bob@x.org")] {
            assert!(claimants(&aliases, &workspace, &name).is_empty());
        }
    }

    #[test]
    fn pointers_go_with_their_entry_and_no_others() {
        let (aliases, workspace) = index();
        let (ada_key, ada) = stored(&workspace, &id("u1"), &ADA);
        let namesake = Person {
            email: ADA.email,
            ..BOB
        };
        let (bob_key, bob) = stored(&workspace, &id("u2"), &namesake);
        aliases.add(&ada_key, &ada);
        aliases.add(&bob_key, &bob);
        assert_eq!(claimants(&aliases, &workspace, &id("ada@x.org")).len(), 2);
        aliases.remove(&ada_key, &ada);
        assert_eq!(
            claimants(&aliases, &workspace, &id("ada@x.org")),
            [Arc::clone(&bob_key)]
        );
        aliases.remove(&bob_key, &bob);
        assert!(aliases.all().is_empty());
    }

    #[test]
    fn an_entry_that_takes_its_own_place_keeps_its_pointers() {
        let (aliases, workspace) = index();
        let (key, entry) = stored(&workspace, &id("u1"), &ADA);
        aliases.add(&key, &entry);
        aliases.add(&key, &entry);
        aliases.remove(&key, &entry);
        assert_eq!(aliases.all().len(), 2);
        aliases.remove(&key, &entry);
        assert!(aliases.all().is_empty());
    }

    #[test]
    fn what_replaces_an_entry_before_it_is_gone_keeps_its_own_pointers() {
        let (aliases, workspace) = index();
        let (key, old) = stored(&workspace, &id("u1"), &ADA);
        let moved = Person {
            email: "lovelace@x.org",
            ..ADA
        };
        let (_, new) = stored(&workspace, &id("u1"), &moved);
        aliases.add(&key, &old);
        aliases.add(&key, &new);
        aliases.remove(&key, &old);
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
            stored(&workspace, &uuid(number), &person)
        };
        let all: Vec<_> = (0..PEOPLE).map(of).collect();
        let name = aliases.name(keys(&workspace, &id(ADA.email)).spelled().as_bytes());
        let mut steps = 0;
        for (at, (key, entry)) in all.iter().enumerate() {
            assert_eq!(aliases.uncounted(name), at.saturating_sub(MOST_KEPT));
            steps += aliases.claimants(name).len();
            aliases.add(key, entry);
        }
        // Oldest first, and those that are only counted first.
        let (kept, counted) = all.split_at(MOST_KEPT);
        for (key, entry) in kept[..10].iter().chain(counted).chain(&kept[10..]) {
            steps += aliases.claimants(name).len();
            aliases.remove(key, entry);
        }
        assert!(steps <= 2 * all.len() * (MOST_KEPT + 1), "{steps}");
        assert!(aliases.all().is_empty());
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
