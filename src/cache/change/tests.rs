use std::time::Duration;

use super::*;
use crate::cache::Lookup;
use crate::cache::control::RequestDirectives;
use crate::cache::fixture::{ADA, BOB, Person, Seen, World, id, shared, uuid};
use crate::config::EmailCase;

mod crowds;
mod erasing;
mod harvesting;

const ASKER: crate::cache::collapse::Asker = crate::cache::collapse::Asker {
    urgency: 0,
    caller: 0,
};

const BAR: Duration = Duration::from_hours(1);

fn seen(person: &Person) -> Seen {
    Seen::Person(person.body())
}

/// A world that knows Ada and Bob.
fn known() -> World {
    let world = World::new();
    world.fetch(&id("u1"), Some(ADA.body()), world.at(0));
    world.fetch(&id("u2"), Some(BOB.body()), world.at(0));
    world
}

fn people(names: &[Name]) -> Touched {
    Touched::People(names.to_vec())
}

#[test]
fn a_change_under_any_name_ends_what_is_stored_under_all() {
    for touched in ADA.names() {
        let world = known();
        world.begin(std::slice::from_ref(&touched), world.at(1));
        assert_eq!(world.see_all(&ADA, world.at(1)), Seen::Nothing);
        assert_eq!(world.see_all(&BOB, world.at(1)), seen(&BOB));
    }
}

#[test]
fn what_was_sent_before_a_change_began_or_ended_is_not_stored_after_it() {
    for touched in ADA.names() {
        for asked in ADA.names() {
            let world = known();
            let touched = std::slice::from_ref(&touched);
            let before = world.send(&asked, world.at(0));
            world.begin(touched, world.at(1));
            let during = world.send(&asked, world.at(4_000));
            assert!(!world.land(before, Some(ADA.body()), world.at(4_100)));
            world.end(touched, &[], world.at(5_000));
            assert!(!world.land(during, Some(ADA.body()), world.at(5_001)));
            assert_eq!(world.see_all(&ADA, world.at(5_001)), Seen::Nothing);
        }
    }
}

#[test]
fn what_is_read_within_two_seconds_of_a_change_is_not_stored_and_later_reads_are() {
    let world = known();
    world.begin(&[uuid(1)], world.at(0));
    world.end(&[uuid(1)], &[], world.at(100));
    let read = |at| world.fetch(&id("u1"), Some(ADA.version(2).body()), world.at(at));
    assert!(!read(2_099));
    assert!(read(2_100));
    assert_eq!(world.see_all(&ADA, world.at(2_100)), seen(&ADA.version(2)));
}

#[test]
fn the_person_that_a_write_answered_with_is_stored_after_the_hold_down() {
    for name in ADA.names() {
        let world = known();
        let new = ADA.version(2);
        world.begin(&[uuid(1)], world.at(0));
        world.end(&[uuid(1)], &[new.body()], world.at(100));
        assert_eq!(world.see(&name, world.at(2_099)), Seen::Nothing);
        assert_eq!(world.see(&name, world.at(2_100)), seen(&new));
        assert_eq!(world.see_all(&ADA, world.at(2_100)), seen(&new));
        world.cache.people.store().assert_index_is_exact();
    }
}

#[test]
fn a_purge_outdates_what_writes_under_way_are_answered_with() {
    let world = World::new();
    let number = world.workspace.number();
    let [own, another] = [number, number + 1].map(|number| {
        let numbers = [number].into_iter();
        world.cache.change_begins(numbers)
    });
    world
        .cache
        .purge(&world.workspace, &people(&[id("u1")]), world.at(1));
    assert!(!own.was_alone() && another.was_alone());
}

#[test]
fn maintenance_stores_what_was_written_though_nobody_asks() {
    let world = known();
    world.end(&[uuid(1)], &[ADA.version(2).body()], world.at(0));
    world.cache.maintain(world.at(1_999));
    assert_eq!(world.count(), (1, 0));
    world.cache.maintain(world.at(2_000));
    assert_eq!(world.count(), (2, 0));
    world.cache.people.store().assert_index_is_exact();
}

#[test]
fn what_was_written_is_not_stored_if_a_read_in_between_showed_something_newer() {
    for (read, stored) in [(1, true), (2, true), (3, false)] {
        let world = known();
        world.end(&[uuid(1)], &[ADA.version(2).body()], world.at(0));
        world.fetch(&id("u1"), Some(ADA.version(read).body()), world.at(1_000));
        let found = world.see_all(&ADA, world.at(2_000));
        let expected = if stored {
            seen(&ADA.version(2))
        } else {
            Seen::Nothing
        };
        assert_eq!(found, expected, "{read}");
    }
}

#[test]
fn what_was_written_is_not_stored_if_another_change_came() {
    let world = known();
    world.end(&[uuid(1)], &[ADA.version(2).body()], world.at(0));
    world.begin(&[id("ada@x.org")], world.at(1_000));
    assert_eq!(world.see_all(&ADA, world.at(3_000)), Seen::Nothing);
    let world = known();
    world.end(&[uuid(1)], &[ADA.version(2).body()], world.at(0));
    world.cache.end_change(
        &world.workspace,
        &Touched::Everyone,
        End {
            meant: Meant::Called,
            written: Vec::new(),
            under_way: &world.begun(),
        },
        world.at(1_000),
    );
    assert_eq!(world.see_all(&ADA, world.at(4_000)), Seen::Nothing);
}

#[test]
fn names_that_only_the_answer_tells_have_changed_as_well() {
    let world = known();
    let moved = Person {
        external_id: "u9",
        email: BOB.email,
        version: 2,
        ..ADA
    };
    let absent = world.send(&id("u9"), world.at(0));
    world.fetch(&id("u9"), None, world.at(1));
    world.end(&[uuid(1)], &[moved.body()], world.at(10));
    assert!(!world.land(absent, None, world.at(20)));
    assert_eq!(world.see(&id("u9"), world.at(20)), Seen::Nothing);
    assert_eq!(world.see(&id(BOB.email), world.at(20)), Seen::Nothing);
    assert_eq!(world.see_all(&moved, world.at(2_010)), seen(&moved));
}

#[test]
fn a_written_person_of_another_workspace_or_none_is_not_stored() {
    let world = World::new();
    let foreign = String::from_utf8(ADA.body().to_vec()).expect("it is text");
    let foreign = Bytes::from(foreign.replace(r#""ws""#, r#""other""#));
    let nobody = Bytes::from_static(b"{}");
    world.end(&[uuid(1)], &[foreign, nobody], world.at(0));
    world.cache.maintain(world.at(2_000));
    assert_eq!(world.count(), (0, 0));
}

#[test]
fn a_change_ends_absences_in_every_spelling() {
    let world = World::new();
    for name in ["ada@x.org", "Ada@x.org", "ADA@X.ORG", "u1"] {
        world.fetch(&id(name), None, world.at(0));
    }
    world.begin(&[id("aDA@x.org")], world.at(1));
    assert_eq!(world.count(), (0, 1));
    assert_eq!(world.see(&id("u1"), world.at(1)), Seen::Absence);
    world.begin(&[id("u1")], world.at(1));
    assert_eq!(world.count(), (0, 0));
}

#[test]
fn a_change_of_everybody_ends_all_and_holds_reads_off() {
    let world = known();
    world.fetch(&id("nobody"), None, world.at(0));
    let before = world.send(&id("u1"), world.at(0));
    let (cache, everyone) = (&world.cache, Touched::Everyone);
    cache.begin_change(&world.workspace, &everyone, world.at(0));
    assert_ne!(world.count(), (0, 0), "it may be refused yet");
    cache.end_change(
        &world.workspace,
        &everyone,
        End {
            meant: Meant::Called,
            written: Vec::new(),
            under_way: &world.begun(),
        },
        world.at(1),
    );
    // Before anything is removed.
    assert_eq!(world.count(), (2, 1));
    for person in [&ADA, &BOB] {
        assert_eq!(world.see_all(person, world.at(1)), Seen::Nothing);
    }
    assert_eq!(world.see(&id("nobody"), world.at(1)), Seen::Nothing);
    let shown = cache.view(&world.keys(&id("u1")), world.at(1));
    assert!(shown.person.is_none() && shown.absence.is_none());
    assert_eq!((shown.claimants, shown.stored_under), (0, None));
    assert!(!world.land(before, Some(ADA.body()), world.at(2)));
    assert!(!world.fetch(&id("u1"), Some(ADA.body()), world.at(2_000)));
    assert!(world.fetch(&id("u1"), Some(ADA.body()), world.at(2_001)));
    let removed = cache.sweep(&world.workspace);
    assert_eq!((removed.people, removed.absences), (1, 1));
    assert_eq!(world.see_all(&ADA, world.at(2_001)), seen(&ADA));
    assert_eq!(world.count(), (1, 0), "who was asked for since stays");
}

#[test]
fn what_was_recalled_before_a_change_of_everybody_is_outdated_before_it_is_swept() {
    let world = known();
    let keys = world.keys(&id("u1"));
    let Lookup::Fresh(entry) =
        world
            .cache
            .lookup(&keys, &RequestDirectives::default(), world.at(0))
    else {
        unreachable!("it is stored")
    };
    let recalled = world.cache.recalled(entry, keys);
    let last = || world.cache.last_change();
    assert!(!world.cache.is_outdated(&recalled, last()));
    world
        .cache
        .purge(&world.workspace, &Touched::Everyone, world.at(1));
    assert!(world.cache.is_outdated(&recalled, last()));
}

#[test]
fn a_purge_counts_what_it_removes_and_holds_nothing_off() {
    let world = known();
    world.fetch(&id("ADA@x.org"), None, world.at(0));
    world.fetch(&id("u1"), Some(ADA.body()), world.at(1));
    let touched = people(&[id("u1"), id("ada@x.org")]);
    let removed = world.cache.purge(&world.workspace, &touched, world.at(1));
    let expected = Removed {
        people: 1,
        names: 3,
        absences: 1,
        fetches: 0,
        places: 0,
        everybody: false,
    };
    assert_eq!(removed, expected);
    assert!(world.fetch(&id("u1"), Some(ADA.body()), world.at(1)));
    world
        .cache
        .purge(&world.workspace, &Touched::Everyone, world.at(2));
    assert_eq!(world.cache.sweep(&world.workspace).people, 2);
    assert!(world.fetch(&id("u1"), Some(ADA.body()), world.at(2)));
}

#[test]
fn what_is_expired_is_kept_stale_and_found_under_all_names() {
    let world = known();
    let touched = people(&[id("ada@x.org")]);
    assert_eq!(
        world.cache.expire(&world.workspace, &touched, world.at(1)),
        1
    );
    assert_eq!(world.see_all(&ADA, world.at(1)), Seen::Nothing);
    for name in ADA.names() {
        assert!(world.cache.knows(&world.keys(&name)));
    }
    world.cache.people.store().assert_index_is_exact();
    assert_eq!(world.see_all(&BOB, world.at(1)), seen(&BOB));
    assert_eq!(
        world
            .cache
            .expire(&world.workspace, &Touched::Everyone, world.at(1)),
        2
    );
    assert_eq!(world.see_all(&BOB, world.at(1)), Seen::Nothing);
}

#[test]
fn expiring_brings_nobody_back_who_has_changed_or_gone_meanwhile() {
    let world = known();
    let found = world.cache.called(&world.workspace, &[id("u1")]);
    let [found] = &found[..] else {
        unreachable!("one is stored")
    };
    world.begin(&[uuid(1)], world.at(1));
    assert!(!world.cache.expire_one(found, world.at(2)));
    assert_eq!(world.count(), (1, 0));
}

#[test]
fn what_was_written_can_be_expired_like_anything_else() {
    let world = known();
    let _living = world.cache.fetch_begins();
    world.end(&[uuid(1)], &[ADA.version(2).body()], world.at(0));
    assert_eq!(world.see(&uuid(1), world.at(2_000)), seen(&ADA.version(2)));
    let touched = people(&[uuid(1)]);
    assert_eq!(
        world
            .cache
            .expire(&world.workspace, &touched, world.at(2_001)),
        1
    );
}

#[test]
fn what_a_write_was_answered_with_is_not_kept_if_somebody_was_let_go_of_before_that() {
    for erases in [false, true] {
        let world = known();
        let under_way = world.begun();
        let passing = world.passing(&ADA.version(2).body(), world.at(0));
        world.begin(&[uuid(1)], world.at(0));
        // By a name that the gateway does not know to be theirs, after the answer has come.
        let name = id("another name of Ada's");
        if erases {
            let key = world.workspace.key_of_name(&name);
            let erased = world.cache.erase(&[0], key, BAR, world.at(1));
            assert!(world.cache.confirm_erased(erased));
        } else {
            world
                .cache
                .purge(&world.workspace, &people(&[name]), world.at(1));
        }
        let end = End {
            meant: Meant::Called,
            written: vec![passing],
            under_way: &under_way,
        };
        let touched = people(&[uuid(1)]);
        world
            .cache
            .end_change(&world.workspace, &touched, end, world.at(2));
        assert_eq!(world.see_all(&ADA, world.at(3_000)), Seen::Nothing);
    }
}

#[test]
fn what_is_under_way_while_somebody_is_marked_as_stale_is_not_stored_as_fresh() {
    let world = known();
    let sent = world.send(&id("u1"), world.at(1));
    let touched = people(&[uuid(1)]);
    assert_eq!(
        world.cache.expire(&world.workspace, &touched, world.at(2)),
        1
    );
    assert!(!world.land(sent, Some(ADA.body()), world.at(3)));
    assert_eq!(world.see_all(&ADA, world.at(3)), Seen::Nothing);
    assert_eq!(world.see_all(&BOB, world.at(3)), seen(&BOB));
}
