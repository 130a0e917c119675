//! Persons that pass by in lists, searches and batches: whoever is stored already is brought up to
//! date.
//!
//! # Invariants
//! - Nobody is stored who was not asked for, and nothing older replaces what is newer.
//! - Nobody is served any longer under a name that a later answer says is somebody else's.
//! - What follows from comparing two bodies is done only while the one that was stored still is.

use std::sync::Arc;
use std::time::Instant;

use smallvec::SmallVec;

use super::{Passing, read};
use crate::cache::Cache;
use crate::cache::changes::{Asked, Publication};
use crate::cache::claims::Claims;
use crate::cache::entry::Entry;
use crate::cache::people::Found;
use crate::person::body::{self, Identity};
use crate::workspace::Workspace;

/// How often a Person that passes by is compared anew, because others stored something meanwhile.
/// Each time is one more read of the same person that landed; then those are news enough.
const MOST_COMPARISONS: usize = 8;

impl<F: Clone> Cache<F> {
    /// Takes note of people that passed by in a list, a search or a batch: whoever is stored
    /// already is brought up to date, nobody else is stored.
    pub fn harvest(&self, workspace: &Workspace, seen: Vec<Passing>, now: Instant) {
        for person in seen {
            self.harvest_one(workspace, &person, now, || {});
        }
    }

    /// Brings whoever is held of one person up to date; `between` comparing and storing others may
    /// store or change something.
    pub(super) fn harvest_one(
        &self,
        workspace: &Workspace,
        person: &Passing,
        now: Instant,
        mut between: impl FnMut(),
    ) {
        let Some((identity, claims)) = read(workspace, &person.body) else {
            return;
        };
        let claims = claims.claims();
        for _ in 0..MOST_COMPARISONS {
            let held = self.people.holders(claims);
            // Bodies are read here, and what follows from them is done only while they are held.
            let compare = |held: &Found| compare(&held.entry, &person.body, &identity);
            let compared: SmallVec<[_; 2]> = held.iter().map(compare).collect();
            between();
            if compared.contains(&Comparison::Older) {
                return;
            }
            let mut pairs = held.iter().zip(compared);
            let settle = |(held, compared): (&Found, Comparison)| {
                self.settle_harvested(person, held, compared, (&identity, claims), now)
            };
            if pairs.all(settle) {
                self.forget_contradicted(person, claims);
                return;
            }
        }
    }

    /// Lets go of others whom this person's names led to until now: an e-mail was reassigned, an
    /// external id moved. Where the person is stored, both are known to claim the name, and neither
    /// is found by it; of one who is not, nobody would know.
    fn forget_contradicted(&self, person: &Passing, claims: Claims<'_>) {
        if !self.people.holders(claims).is_empty() {
            return;
        }
        for claim in claims.iter() {
            for other in self.people.all_called(claim.key()) {
                let others = other.entry.claims();
                let earlier = other.entry.freshness().asked_at() < person.asked_at;
                if earlier && !others.are_of(claims) && others.contradict(claim) {
                    self.forget(&other);
                }
            }
        }
    }

    /// Does what follows from a comparison with what is held. Says whether it is still held, or
    /// was replaced by this very person; otherwise nothing was done, and it is to be compared anew.
    fn settle_harvested(
        &self,
        person: &Passing,
        held: &Found,
        compared: Comparison,
        (identity, claims): (&Identity<'_>, Claims<'_>),
        now: Instant,
    ) -> bool {
        let strictly = match compared {
            Comparison::Older | Comparison::Same => return true,
            Comparison::Differs => return self.forget(held),
            Comparison::Newer { strictly } => strictly,
        };
        let Some(keys) = self.people.place_of(held) else {
            return self.forget(held);
        };
        let entry = self
            .entry_of(&person.body, Some(&held.entry), &keys, person.asked_at)
            .claiming(claims)
            .asked_after(person.number);
        let (entry, mut stays) = (Arc::new(entry), true);
        let updated_at = identity.updated_at();
        let publication = self.publish_harvested(person, &entry, updated_at, now, || {
            stays = self.is_held(held);
            stays && self.put_person(&keys, &entry)
        });
        if stays && strictly && publication != Publication::Stored {
            return self.forget(held);
        }
        stays
    }

    /// Whether what was found is what is stored.
    fn is_held(&self, found: &Found) -> bool {
        let stored = self.people.store().get_at(found.place);
        stored.is_some_and(|stored| Arc::ptr_eq(&stored, &found.entry))
    }

    /// Lets go of an entry, unless it has been replaced. Says whether it did.
    fn forget(&self, held: &Found) -> bool {
        self.changes.alone(|| {
            let stays = self.is_held(held);
            if stays {
                self.people.store().remove_at(held.place);
            }
            stays
        })
    }

    fn publish_harvested(
        &self,
        person: &Passing,
        entry: &Entry,
        updated_at: Option<jiff::Timestamp>,
        now: Instant,
        store: impl FnOnce() -> bool,
    ) -> Publication {
        let names: SmallVec<[u64; 4]> = entry
            .claims()
            .iter()
            .map(|claim| self.name(claim.key()))
            .collect();
        let answer = Asked {
            workspace: entry.workspace(),
            number: person.number,
            asked_at: person.asked_at,
            names: &names,
            updated_at,
        };
        self.changes.publish(answer, now, store)
    }
}

/// How a Person that passed by compares with the answer that is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    /// It is older.
    Older,
    /// It says nothing new.
    Same,
    /// It is newer and of the same shape.
    Newer {
        /// Flameup says so; otherwise it is of the same time, and one of the two was asked for
        /// later.
        strictly: bool,
    },
    /// It is newer, and of another shape than the answer to a read.
    Differs,
}

fn compare(held: &Entry, body: &[u8], identity: &Identity<'_>) -> Comparison {
    let held_at = Identity::read(held.body())
        .ok()
        .and_then(|held| held.updated_at());
    let (Some(held_at), Some(seen_at)) = (held_at, identity.updated_at()) else {
        // Nothing says which is newer. The same bytes are no news.
        return if held.body() == body {
            Comparison::Same
        } else {
            Comparison::Differs
        };
    };
    if seen_at < held_at {
        return Comparison::Older;
    }
    if body::fields(held.body()) == body::fields(body) {
        Comparison::Newer {
            strictly: seen_at > held_at,
        }
    } else if seen_at > held_at {
        Comparison::Differs
    } else {
        Comparison::Same
    }
}
