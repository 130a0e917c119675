//! Persons that pass by.

use super::*;

/// Shows a person in the answer to a list that was asked for then.
fn harvest(world: &World, body: &Bytes, at: u64) {
    let passing = world.passing(body, world.at(at));
    world
        .cache
        .harvest(&world.workspace, vec![passing], world.at(at));
    world.cache.people.store().assert_index_is_exact();
}

#[test]
fn whoever_is_stored_is_brought_up_to_date_byte_for_byte_and_made_fresh() {
    let world = known();
    let new = ADA.version(2);
    harvest(&world, &new.body(), 50_000);
    assert_eq!(world.see_all(&ADA, world.at(109_999)), seen(&new));
    assert_eq!(world.see_all(&ADA, world.at(110_000)), Seen::Nothing);
    assert_eq!(world.see_all(&BOB, world.at(59_999)), seen(&BOB));
    assert_eq!(world.count(), (2, 0));
}

#[test]
fn new_names_are_found_and_old_ones_forgotten() {
    let world = known();
    let moved = Person {
        email: "lovelace@x.org",
        version: 2,
        ..ADA
    };
    harvest(&world, &moved.body(), 1);
    assert_eq!(world.see_all(&moved, world.at(1)), seen(&moved));
    assert_eq!(world.see(&id(ADA.email), world.at(1)), Seen::Nothing);
}

#[test]
fn older_people_replace_nothing() {
    let world = World::new();
    world.fetch(&id("u1"), Some(ADA.version(2).body()), world.at(0));
    harvest(&world, &ADA.body(), 1);
    harvest(&world, &ADA.in_other_shape(), 2);
    assert_eq!(world.see_all(&ADA, world.at(2)), seen(&ADA.version(2)));
}

#[test]
fn a_read_that_lands_between_comparing_and_storing_is_compared_with() {
    for (read, expected) in [(1, 2), (2, 2), (3, 3)] {
        let world = known();
        // Sent before the list was asked for, and landing after it.
        let mut sent = Some(world.send(&uuid(1), world.at(1)));
        let passing = world.passing(&ADA.version(2).body(), world.at(10));
        let between = || {
            if let Some(sent) = sent.take() {
                let body = ADA.version(read).body();
                assert!(world.land(sent, Some(body), world.at(11)));
            }
        };
        world
            .cache
            .harvest_one(&world.workspace, &passing, world.at(12), between);
        let expected = seen(&ADA.version(expected));
        assert_eq!(world.see_all(&ADA, world.at(12)), expected, "{read}");
        world.cache.people.store().assert_index_is_exact();
    }
}

#[test]
fn whoever_is_stored_anew_meanwhile_is_not_let_go_of() {
    let world = known();
    let mut sent = Some(world.send(&id("u1"), world.at(20)));
    let passing = world.passing(&ADA.version(2).in_other_shape(), world.at(10));
    let between = || {
        if let Some(sent) = sent.take() {
            world.land(sent, Some(ADA.version(3).body()), world.at(21));
        }
    };
    world
        .cache
        .harvest_one(&world.workspace, &passing, world.at(22), between);
    assert_eq!(world.see_all(&ADA, world.at(22)), seen(&ADA.version(3)));
}

#[test]
fn people_nobody_asked_for_are_not_stored() {
    let world = World::new();
    world.fetch(&id("u2"), Some(BOB.body()), world.at(0));
    harvest(&world, &ADA.body(), 1);
    assert_eq!(world.count(), (1, 0));
}

#[test]
fn another_shape_confirms_or_invalidates_and_never_replaces() {
    let world = known();
    harvest(&world, &ADA.in_other_shape(), 1);
    assert_eq!(world.see_all(&ADA, world.at(1)), seen(&ADA));
    harvest(&world, &ADA.version(2).in_other_shape(), 2);
    assert_eq!(world.see_all(&ADA, world.at(2)), Seen::Nothing);
}

#[test]
fn what_does_not_say_when_it_changed_confirms_only_by_being_equal() {
    let world = World::new();
    world.fetch(&id("u1"), Some(ADA.undated()), world.at(0));
    harvest(&world, &ADA.undated(), 1);
    assert_eq!(
        world.see_all(&ADA, world.at(1)),
        Seen::Person(ADA.undated())
    );
    harvest(&world, &ADA.version(2).undated(), 2);
    assert_eq!(world.see_all(&ADA, world.at(2)), Seen::Nothing);
}

#[test]
fn people_of_another_workspace_are_passed_over() {
    let world = known();
    let foreign = String::from_utf8(ADA.version(2).body().to_vec()).expect("it is text");
    harvest(
        &world,
        &Bytes::from(foreign.replace(r#""ws""#, r#""other""#)),
        1,
    );
    assert_eq!(world.see_all(&ADA, world.at(1)), seen(&ADA));
}

#[test]
fn what_was_asked_for_before_a_change_updates_nobody() {
    let world = known();
    let _living = world.cache.fetch_begins();
    let passing = world.passing(&ADA.version(2).body(), world.at(0));
    world
        .cache
        .purge(&world.workspace, &people(&[uuid(1)]), world.at(1));
    world.fetch(&id("u1"), Some(ADA.version(3).body()), world.at(2));
    world
        .cache
        .harvest(&world.workspace, vec![passing], world.at(3));
    assert_eq!(world.see_all(&ADA, world.at(3)), seen(&ADA.version(3)));
}

#[test]
fn whoever_is_shown_to_be_outdated_goes_even_where_what_shows_it_cannot_be_stored() {
    let world = World::new();
    let passing = world.passing(&ADA.version(2).body(), world.at(0));
    world.fetch(&id("u1"), Some(ADA.body()), world.at(10));
    world
        .cache
        .harvest(&world.workspace, vec![passing], world.at(20));
    assert_eq!(world.see_all(&ADA, world.at(20)), Seen::Nothing);
}

#[test]
fn a_name_of_two_people_is_not_answered_by_what_passed_by() {
    let world = World::new();
    let namesake = Person {
        email: ADA.email,
        ..BOB
    };
    world.fetch(&uuid(2), Some(namesake.body()), world.at(0));
    world.fetch(&id("Ada@x.org"), Some(ADA.body()), world.at(1));
    assert_eq!(world.see(&id("Ada@x.org"), world.at(1)), seen(&ADA));
    harvest(&world, &ADA.version(2).body(), 2);
    assert_eq!(world.see(&id("Ada@x.org"), world.at(2)), Seen::Nothing);
    assert_eq!(world.see(&uuid(1), world.at(2)), seen(&ADA.version(2)));
}

#[test]
fn without_aliases_the_entry_of_each_name_is_brought_up_to_date() {
    let world = World::with(false, EmailCase::Insensitive);
    for name in [id("u1"), id("ada@x.org")] {
        world.fetch(&name, Some(ADA.body()), world.at(0));
    }
    harvest(&world, &ADA.version(2).body(), 1);
    for name in [id("u1"), id("ada@x.org")] {
        assert_eq!(world.see(&name, world.at(1)), seen(&ADA.version(2)));
    }
    assert_eq!(world.see(&uuid(1), world.at(1)), Seen::Nothing);
    assert_eq!(world.count(), (2, 0));
}

/// Somebody who has an e-mail of Ada's now, and an external id of their own.
fn heir() -> Person {
    Person {
        uuid: 9,
        external_id: "u9",
        email: ADA.email,
        version: 2,
    }
}

#[test]
fn a_name_that_passes_by_as_somebody_elses_is_no_longer_its_owners() {
    let world = known();
    harvest(&world, &heir().body(), 1);
    assert_eq!(world.see(&id(ADA.email), world.at(1)), Seen::Nothing);
    assert_eq!(world.see_all(&BOB, world.at(1)), seen(&BOB));
    assert_eq!(world.count(), (1, 0), "nobody asked for the heir");
    // Flameup answers with whoever it takes to be meant.
    world.fetch(&id(ADA.email), Some(heir().body()), world.at(2));
    assert_eq!(world.see(&id(ADA.email), world.at(2)), seen(&heir()));
}

#[test]
fn a_name_that_is_somebody_elses_whose_entry_goes_is_no_longer_its_owners() {
    let world = known();
    let before = Person {
        email: "nobody@x.org",
        version: 1,
        ..heir()
    };
    world.fetch(&uuid(9), Some(before.body()), world.at(0));
    harvest(&world, &heir().in_other_shape(), 1);
    assert_eq!(world.see(&id(ADA.email), world.at(1)), Seen::Nothing);
}

#[test]
fn who_was_asked_for_later_than_a_list_keeps_the_name_that_it_contradicts() {
    let world = known();
    let passing = world.passing(&heir().body(), world.at(1));
    world.fetch(&id("u1"), Some(ADA.version(2).body()), world.at(2));
    world
        .cache
        .harvest(&world.workspace, vec![passing], world.at(3));
    assert_eq!(world.see_all(&ADA, world.at(3)), seen(&ADA.version(2)));
}
