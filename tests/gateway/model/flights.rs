//! What is held at Flameup while requests overlap, and how many fetches of one person may be.

use flameup_gateway::sandbox::{Hold, Matcher, Sandbox};
use http::Method;
use uuid::Uuid;

use super::Name;

/// Requests that wait at Flameup to be let go.
#[derive(Default)]
pub(super) struct Held {
    /// By name, decoded.
    reads: Vec<(String, Hold)>,
    /// Of one name each, and of none.
    changes: Vec<Hold>,
}

/// Whom the gateway had in memory when the requests began.
#[derive(Default)]
pub(super) struct Known {
    /// All requests concern one workspace: a name is held for one person.
    pub(super) is_exact: bool,
    /// It is known which workspace at Flameup that is. When that becomes known, whoever is asked
    /// for by UUID is told apart from those of other workspaces, and asked for once more.
    pub(super) is_proven: bool,
    /// All names of each.
    pub(super) people: Vec<Vec<Name>>,
}

impl Held {
    /// Holds whatever concerns these names back, and what names nobody.
    pub(super) fn back(flameup: &Sandbox, names: Vec<String>) -> Self {
        let read = |name: String| {
            let matcher = Matcher::id(&name).with_method(Method::GET);
            (name, flameup.hold(matcher))
        };
        let reads: Vec<_> = names.into_iter().map(read).collect();
        let change = |(name, _): &(String, Hold)| flameup.hold(Matcher::id(name));
        let mut changes: Vec<_> = reads.iter().map(change).collect();
        changes.push(flameup.hold(Matcher::method(Method::POST)));
        Self { reads, changes }
    }

    /// Lets one of those go that wait. Says whether there was one.
    pub(super) fn release_one(&self, which: u8) -> bool {
        let waiting: Vec<_> = self.all().filter(|hold| hold.waiting() > 0).collect();
        if waiting.is_empty() {
            return false;
        }
        waiting[usize::from(which) % waiting.len()].release_one();
        true
    }

    /// Lets all go.
    pub(super) fn release(&self) {
        self.all().for_each(Hold::release);
    }

    /// At most one fetch of a name waits, and one more for each change so far: what a change
    /// interrupts is asked for again. Before the first change, at most one of a person who is
    /// known, by all names together. After it they may be known no longer.
    pub(super) fn one_fetch_at_a_time(&self, known: &Known, writes: usize) -> Result<(), String> {
        if !known.is_exact {
            return Ok(());
        }
        for (name, hold) in &self.reads {
            let waiting = hold.waiting();
            let proof = usize::from(!known.is_proven && Uuid::parse_str(name).is_ok());
            if waiting > 1 + writes + proof {
                return Err(format!(
                    "{waiting} fetches of {name} after {writes} changes"
                ));
            }
        }
        for names in known.people.iter().filter(|_| writes == 0) {
            let is_theirs = |name: &str| names.iter().any(|own| own.text() == name);
            let theirs = self.reads.iter().filter(|(name, _)| is_theirs(name));
            let waiting: usize = theirs.map(|(_, hold)| hold.waiting()).sum();
            if waiting > 1 {
                return Err(format!("{waiting} fetches of the person called {names:?}"));
            }
        }
        Ok(())
    }

    fn all(&self) -> impl Iterator<Item = &Hold> {
        let reads = self.reads.iter().map(|(_, hold)| hold);
        reads.chain(&self.changes)
    }
}
