use super::fixture::{ADA, BOB, Person, Seen, World, id, keys, uuid, workspace};
use super::*;
use crate::config::EmailCase;
use crate::person::change::{Name, Touched};

fn seen(person: &Person) -> Seen {
    Seen::Person(person.body())
}

#[test]
fn a_person_that_was_fetched_once_is_a_hit_under_every_name() {
    for asked in ADA.names() {
        let world = World::new();
        assert!(world.fetch(&asked, Some(ADA.body()), world.start));
        assert_eq!(world.see_all(&ADA, world.at(1)), seen(&ADA));
        assert_eq!(world.count(), (1, 0));
    }
}

#[test]
fn lookups_by_all_names_of_a_known_person_collapse_on_one_flight() {
    let world = World::new();
    let flights = |world: &World| {
        ADA.names()
            .map(|name| world.cache.flight(&world.keys(&name)))
    };
    let [one, two, three] = flights(&world);
    assert!(
        one != two && two != three && one != three,
        "nobody knows them yet"
    );
    world.fetch(&id("u1"), Some(ADA.body()), world.start);
    let [one, two, three] = flights(&world);
    assert!(one == two && two == three);
    assert!(world.cache.knows(&world.keys(&uuid(1))));
    assert!(!world.cache.knows(&world.keys(&uuid(2))));
}

#[test]
fn what_landed_answers_whoever_means_the_same_person_and_nobody_else() {
    let world = World::new();
    let sent = world.send(&id("u1"), world.start);
    let landed = world.landed(sent, Some(ADA.body()));
    let answers = |name: &Name| world.cache.answers(&landed, &world.keys(name));
    for name in [uuid(1), id("u1"), id("ADA@x.org")] {
        assert!(answers(&name));
    }
    for name in [uuid(2), id("U1"), id("bob@x.org")] {
        assert!(!answers(&name));
    }
    let namesake = Person {
        email: ADA.email,
        ..BOB
    };
    world.fetch(&uuid(2), Some(namesake.body()), world.start);
    assert!(!answers(&id("ada@x.org")), "two people claim it");
    assert!(answers(&uuid(1)));
}

#[test]
fn an_absence_at_the_place_of_another_spelling_is_nobodys() {
    let world = World::new();
    world.fetch(&id("nobody"), None, world.at(0));
    let [nobody, stranger] = [id("nobody"), id("u1")].map(|name| world.keys(&name));
    let absences = world.cache.absences();
    let stored = absences.get(nobody.spelled().as_bytes());
    absences.insert(stranger.spelled().as_bytes(), stored.expect("it is stored"));
    assert_eq!(world.see(&id("nobody"), world.at(1)), Seen::Absence);
    assert_eq!(world.see(&id("u1"), world.at(1)), Seen::Nothing);
}

#[test]
fn a_404_answers_the_spelling_that_was_asked_for() {
    let world = World::new();
    let sent = world.send(&id("ADA@x.org"), world.start);
    let landed = world.landed(sent, None);
    let answers = |name: &str| world.cache.answers(&landed, &world.keys(&id(name)));
    assert!(answers("ADA@x.org"));
    assert!(!answers("ada@x.org"));
}

#[test]
fn a_404_that_was_asked_for_later_ends_who_was_found_and_an_earlier_one_does_not() {
    let world = World::new();
    let early = world.send(&id("u1"), world.at(0));
    world.fetch(&id("u1"), Some(ADA.body()), world.at(10));
    assert!(!world.land(early, None, world.at(20)));
    assert_eq!(world.see_all(&ADA, world.at(20)), seen(&ADA));
    assert!(world.fetch(&id("u1"), None, world.at(30)));
    assert_eq!(world.see(&id("u1"), world.at(30)), Seen::Absence);
    assert_eq!(world.see(&uuid(1), world.at(30)), Seen::Nothing);
}

#[test]
fn whoever_was_asked_for_earlier_does_not_end_an_absence() {
    for name in ADA.names() {
        let world = World::new();
        let early = world.send(&uuid(1), world.at(0));
        world.fetch(&name, None, world.at(10));
        assert!(!world.land(early, Some(ADA.body()), world.at(20)));
        assert_eq!(world.see(&name, world.at(20)), Seen::Absence);
        assert_eq!(world.count(), (0, 1));
    }
}

#[test]
fn an_earlier_absence_does_not_replace_a_later_one() {
    let world = World::new();
    let early = world.send(&id("u1"), world.at(0));
    assert!(world.fetch(&id("u1"), None, world.at(9_000)));
    assert!(!world.land(early, None, world.at(9_001)));
    assert_eq!(world.see(&id("u1"), world.at(18_000)), Seen::Absence);
}

#[test]
fn whoever_is_found_ends_absences_of_all_their_names() {
    let world = World::new();
    for name in ADA.names() {
        world.fetch(&name, None, world.at(0));
    }
    assert_eq!(world.count(), (0, 3));
    world.fetch(&id("u1"), Some(ADA.body()), world.at(10));
    assert_eq!(world.see_all(&ADA, world.at(10)), seen(&ADA));
    assert_eq!(world.count(), (1, 0));
}

#[test]
fn what_was_found_to_be_stored_is_outdated_once_it_is_removed() {
    let world = World::new();
    world.fetch(&id("u1"), Some(ADA.body()), world.start);
    let recalled = || {
        let keys = world.keys(&id("u1"));
        match world
            .cache
            .lookup(&keys, &RequestDirectives::default(), world.start)
        {
            Lookup::Fresh(entry) => world.cache.recalled(entry, keys),
            other => unreachable!("it is stored: {other:?}"),
        }
    };
    let before = recalled();
    assert!(!world.cache.is_outdated(&before, world.cache.last_change()));
    world.begin(&[uuid(1)], world.at(1));
    let waiter = world.cache.last_change();
    assert!(world.cache.is_outdated(&before, waiter));
    world.fetch(&id("u9"), None, world.at(2));
    let keys = world.keys(&id("u9"));
    let Lookup::Fresh(absence) =
        world
            .cache
            .lookup(&keys, &RequestDirectives::default(), world.at(2))
    else {
        unreachable!("the absence is stored")
    };
    let absent = world.cache.recalled(absence, keys);
    assert!(!world.cache.is_outdated(&absent, waiter));
    world.begin(&[id("u9")], world.at(3));
    assert!(world.cache.is_outdated(&absent, world.cache.last_change()));
}

#[test]
fn the_same_names_in_workspaces_whose_numbers_look_alike_never_meet() {
    let [upper, lower] = [65, 97].map(|number| World {
        workspace: Arc::new(workspace(number, EmailCase::Insensitive)),
        ..World::new()
    });
    upper.fetch(&id("u1"), Some(ADA.body()), upper.start);
    for name in ADA.names() {
        let found = |world: &World| upper.see_keys(&keys(&world.workspace, &name), upper.at(1));
        assert_eq!(found(&upper), seen(&ADA));
        assert_eq!(found(&lower), Seen::Nothing);
    }
    upper
        .cache
        .purge(&lower.workspace, &Touched::Everyone, upper.at(1));
    assert_eq!(upper.cache.sweep(&lower.workspace).people, 0);
    assert_eq!(upper.see_all(&ADA, upper.at(1)), seen(&ADA));
}

#[test]
fn without_aliases_each_name_is_fetched_and_a_change_still_ends_all() {
    let world = World::with(false, EmailCase::Insensitive);
    for name in ADA.names() {
        assert_eq!(world.see(&name, world.at(0)), Seen::Nothing);
        world.fetch(&name, Some(ADA.body()), world.at(0));
    }
    assert_eq!(world.count(), (3, 0));
    world.begin(&[id("ada@X.org")], world.at(1));
    assert_eq!(world.see_all(&ADA, world.at(1)), Seen::Nothing);
    assert_eq!(world.count(), (0, 0));
}
