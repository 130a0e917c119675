use std::time::{Duration, Instant};

use super::*;
use crate::cache::fixture::{ADA, BOB, Person, id, keys, shared, uuid, workspace};
use crate::config::EmailCase;
use crate::person::change::Name;
use crate::workspace::Workspace;

/// People of one workspace, and what is put there in order.
struct Memory {
    people: People,
    workspace: Workspace,
    start: Instant,
}

impl Memory {
    fn new() -> Self {
        Self::with(true, EmailCase::Insensitive)
    }

    fn with(aliases: bool, case: EmailCase) -> Self {
        let store = Store::new(1 << 20, Duration::from_mins(1));
        Self {
            people: People::new(store, aliases),
            workspace: workspace(0, case),
            start: Instant::now(),
        }
    }

    fn keys(&self, name: &Name) -> Keys {
        keys(&self.workspace, name)
    }

    /// Puts Flameup's answer to a lookup of `name`, asked for so many seconds after the start.
    fn put(&self, name: &Name, person: &Person, second: u64) -> bool {
        let at = self.start + Duration::from_secs(second);
        let entry = shared(&self.workspace, name, person, at);
        let put = self.people.put(&self.keys(name), &entry);
        self.people.store().assert_index_is_exact();
        put
    }

    /// Who is found, as the whole person that was put.
    fn find(&self, name: &Name) -> Option<Arc<Entry>> {
        self.people.find(&self.keys(name))
    }

    fn assert_finds(&self, name: &Name, person: &Person) {
        let found = self.find(name).expect("somebody is found");
        assert_eq!(*found.body(), person.body());
    }

    fn count(&self) -> u64 {
        self.people.store().maintain();
        self.people.store().len()
    }
}

fn namesake(person: &Person) -> Person {
    Person {
        email: person.email,
        ..BOB
    }
}

#[test]
fn one_entry_is_found_by_uuid_external_id_and_email_whatever_was_asked_first() {
    for asked in ADA.names() {
        let memory = Memory::new();
        assert!(memory.put(&asked, &ADA, 0));
        for name in ADA.names().into_iter().chain([id("ADA@X.ORG")]) {
            memory.assert_finds(&name, &ADA);
        }
        assert!(memory.find(&id("U1")).is_none());
        assert_eq!(memory.count(), 1);
    }
}

#[test]
fn where_the_case_of_emails_counts_one_spelling_is_found() {
    let memory = Memory::with(true, EmailCase::Exact);
    memory.put(&uuid(1), &ADA, 0);
    memory.assert_finds(&id("Ada@x.org"), &ADA);
    assert!(memory.find(&id("ada@x.org")).is_none());
}

#[test]
fn a_later_answer_replaces_the_entry_under_all_names() {
    for first in ADA.names() {
        for second in ADA.names() {
            let memory = Memory::new();
            memory.put(&first, &ADA, 0);
            assert!(memory.put(&second, &ADA.version(2), 1));
            for name in ADA.names() {
                memory.assert_finds(&name, &ADA.version(2));
            }
            assert_eq!(memory.count(), 1);
        }
    }
}

#[test]
fn an_older_answer_replaces_nothing_under_any_name() {
    for first in ADA.names() {
        for second in ADA.names() {
            let memory = Memory::new();
            memory.put(&first, &ADA.version(2), 1);
            assert!(!memory.put(&second, &ADA, 0));
            for name in ADA.names() {
                memory.assert_finds(&name, &ADA.version(2));
            }
        }
    }
}

#[test]
fn a_name_that_a_person_gave_up_leads_nowhere() {
    for first in ADA.names() {
        for second in [uuid(1), id("u1")] {
            let memory = Memory::new();
            memory.put(&first, &ADA, 0);
            let moved = Person {
                email: "lovelace@x.org",
                version: 2,
                ..ADA
            };
            memory.put(&second, &moved, 1);
            assert!(memory.find(&id(ADA.email)).is_none());
            for name in moved.names() {
                memory.assert_finds(&name, &moved);
            }
        }
    }
}

#[test]
fn an_external_id_that_was_given_up_leads_nowhere() {
    for first in ADA.names() {
        for second in [uuid(1), id(ADA.email)] {
            let memory = Memory::new();
            memory.put(&first, &ADA, 0);
            let renamed = Person {
                external_id: "u9",
                version: 2,
                ..ADA
            };
            memory.put(&second, &renamed, 1);
            assert!(memory.find(&id("u1")).is_none());
            memory.assert_finds(&id("u9"), &renamed);
            assert_eq!(memory.count(), 1);
        }
    }
}

#[test]
fn a_collision_of_hashes_finds_nobody() {
    let memory = Memory::new();
    memory.put(&uuid(1), &ADA, 0);
    let key = memory.keys(&uuid(1)).person().clone();
    let stranger = memory.keys(&id("stranger"));
    let aliases = memory.people.store().aliases();
    let entry = memory.find(&uuid(1)).expect("ada is stored");
    let name = aliases.name(stranger.person().as_bytes());
    aliases.collide(name, key.as_bytes(), &entry);
    assert!(memory.people.find(&stranger).is_none());
    assert!(memory.people.found_elsewhere(&stranger).is_none());
}

#[test]
fn whoever_is_stored_at_the_place_of_another_key_is_found_by_nobody() {
    let memory = Memory::new();
    memory.put(&uuid(1), &ADA, 0);
    let entry = memory.find(&uuid(1)).expect("ada is stored");
    let stranger = memory.keys(&id("stranger"));
    let store = memory.people.store();
    store.insert(stranger.person().as_bytes(), Arc::clone(&entry));
    assert!(memory.people.find(&stranger).is_none());
    assert!(memory.people.found_elsewhere(&stranger).is_none());
}

#[test]
fn the_key_of_what_is_found_is_the_one_it_is_stored_under() {
    for name in [uuid(1), id("u1"), id("ADA@x.org")] {
        let memory = Memory::new();
        memory.put(&name, &ADA, 0);
        let asked = memory.keys(&name);
        let found = memory.people.all_called(asked.person().as_bytes());
        let keys: Vec<_> = found.iter().map(|one| memory.people.key_of(one)).collect();
        assert_eq!(keys, [Some(asked.person().clone())]);
    }
}

#[test]
fn an_email_that_was_reassigned_is_asked_for_again_and_then_the_new_owners() {
    for first in ADA.names() {
        let memory = Memory::new();
        memory.put(&first, &ADA, 0);
        let heir = namesake(&ADA);
        memory.put(&uuid(2), &heir, 1);
        assert!(memory.find(&id("ada@x.org")).is_none(), "two claim it");
        assert!(memory.put(&id("ada@x.org"), &heir, 2));
        memory.assert_finds(&id("ada@x.org"), &heir);
        memory.assert_finds(&uuid(2), &heir);
    }
}

#[test]
fn an_email_of_two_people_goes_on_being_what_flameup_answers_to_it() {
    let memory = Memory::new();
    memory.put(&id("ada@x.org"), &ADA, 0);
    memory.put(&uuid(2), &namesake(&ADA), 1);
    assert!(memory.find(&id("ada@x.org")).is_none());
    memory.assert_finds(&uuid(1), &ADA);
    memory.put(&id("ada@x.org"), &ADA, 2);
    memory.assert_finds(&id("ada@x.org"), &ADA);
    assert!(
        memory.find(&id("ADA@x.org")).is_none(),
        "not asked for in this spelling"
    );
    memory.put(&uuid(1), &ADA.version(2), 3);
    let found = memory.find(&id("ada@x.org"));
    assert!(
        found.is_none(),
        "this is no answer to the e-mail: {found:?}"
    );
}

#[test]
fn an_older_body_disputes_nothing() {
    let memory = Memory::new();
    memory.put(&id("ada@x.org"), &ADA, 1);
    memory.put(&uuid(2), &namesake(&ADA), 0);
    memory.assert_finds(&id("ada@x.org"), &ADA);
}

#[test]
fn an_external_id_that_is_anothers_email_is_answered_by_the_answer_to_it_alone() {
    let first = Person {
        external_id: "bob@x.org",
        ..ADA
    };
    let memory = Memory::new();
    memory.put(&uuid(1), &first, 0);
    memory.put(&uuid(2), &BOB, 0);
    assert!(memory.find(&id("bob@x.org")).is_none());
    memory.put(&id("bob@x.org"), &first, 1);
    memory.assert_finds(&id("bob@x.org"), &first);
    assert!(
        memory
            .find(&id("Bob@x.org"))
            .is_some_and(|bob| *bob.body() == BOB.body())
    );
    memory.assert_finds(&uuid(2), &BOB);
    // Later bodies of either are no answers to that string, and do not become one.
    memory.put(&uuid(2), &BOB.version(2), 2);
    memory.assert_finds(&id("bob@x.org"), &first);
    memory.put(&uuid(1), &first.version(2), 3);
    assert!(memory.find(&id("bob@x.org")).is_none());
    memory.assert_finds(&uuid(1), &first.version(2));
}

#[test]
fn two_people_that_were_merged_are_one_once_flameup_says_so() {
    let memory = Memory::new();
    memory.put(&id("u1"), &ADA, 0);
    memory.put(&id("u2"), &BOB, 0);
    // Ada's external id now leads to Bob.
    let merged = Person {
        external_id: "u1",
        version: 2,
        ..BOB
    };
    memory.put(&id("u1"), &merged, 1);
    memory.assert_finds(&id("u1"), &merged);
    memory.assert_finds(&uuid(2), &merged);
    assert!(memory.find(&id("u2")).is_none());
    assert!(memory.find(&uuid(1)).is_none());
    assert_eq!(memory.count(), 1);
}

#[test]
fn an_external_id_that_looks_like_a_uuid_never_meets_that_uuid() {
    let text = "00000000-0000-0000-0000-000000000002";
    let person = Person {
        external_id: text,
        ..ADA
    };
    let memory = Memory::new();
    memory.put(&uuid(1), &person, 0);
    assert!(memory.find(&uuid(2)).is_none());
    memory.put(&uuid(2), &BOB, 0);
    memory.assert_finds(&id(text), &person);
    memory.assert_finds(&uuid(2), &BOB);
}

#[test]
fn workspaces_whose_numbers_look_alike_never_meet() {
    let memory = Memory::new();
    let [upper, lower] = [65, 97].map(|number| workspace(number, EmailCase::Insensitive));
    for name in ADA.names() {
        let entry = shared(&upper, &name, &ADA, memory.start);
        memory.people.put(&keys(&upper, &name), &entry);
        for other in ADA.names() {
            assert!(memory.people.find(&keys(&upper, &other)).is_some());
            assert!(memory.people.find(&keys(&lower, &other)).is_none());
            let called = keys(&lower, &other).spelled().clone();
            assert!(memory.people.all_called(called.as_bytes()).is_empty());
        }
    }
}

#[test]
fn without_aliases_only_what_was_asked_for_is_found() {
    let memory = Memory::with(false, EmailCase::Insensitive);
    memory.put(&id("u1"), &ADA, 1);
    memory.assert_finds(&id("u1"), &ADA);
    assert!(memory.find(&uuid(1)).is_none());
    assert!(memory.find(&id("ada@x.org")).is_none());
    memory.put(&id("ada@x.org"), &ADA, 1);
    memory.assert_finds(&id("ADA@X.org"), &ADA);
    assert!(!memory.put(&id("u1"), &ADA.version(2), 0), "older");
    // A change finds all of them all the same.
    let called = memory.keys(&uuid(1)).person().clone();
    assert_eq!(memory.people.all_called(called.as_bytes()).len(), 2);
}

#[test]
fn a_404_forgets_the_spelling_that_it_answers_and_nothing_later() {
    let memory = Memory::new();
    let absent = |name: &Name, second| {
        let at = memory.start + Duration::from_secs(second);
        let keys = memory.keys(name);
        let absence = crate::cache::fixture::entry(&memory.workspace, &keys, None, at);
        memory.people.forget_spelling(&keys, &absence);
    };
    memory.put(&uuid(1), &ADA, 1);
    absent(&id("ada@x.org"), 2);
    memory.assert_finds(&id("u1"), &ADA);
    absent(&id("Ada@x.org"), 0);
    memory.assert_finds(&id("u1"), &ADA);
    absent(&id("Ada@x.org"), 2);
    assert_eq!(memory.count(), 0);
    memory.put(&id("ada@x.org"), &ADA, 3);
    absent(&id("ada@x.org"), 4);
    assert_eq!(memory.count(), 0);
}
