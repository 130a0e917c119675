use super::*;
use crate::cache::Lookup;
use crate::cache::control::RequestDirectives;
use crate::cache::fixture::{ADA, BOB, Person, Seen, World, id, shared, uuid};
use crate::config::EmailCase;

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
        Vec::new(),
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
    cache.end_change(&world.workspace, &everyone, Vec::new(), world.at(1));
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

mod crowds {
    use super::*;

    const PEOPLE: u128 = 5_000;
    const SHARED: &str = "shared@x.org";

    fn of(number: u128) -> Person {
        Person {
            uuid: number,
            external_id: format!("c{number}").leak(),
            email: SHARED,
            version: 1,
        }
    }

    /// Bob, and thousands who are all called so.
    fn crowd() -> World {
        let world = World::new();
        for number in 3..3 + PEOPLE {
            assert!(world.fetch(&uuid(number), Some(of(number).body()), world.at(0)));
        }
        assert!(world.fetch(&uuid(2), Some(BOB.body()), world.at(0)));
        world
    }

    fn assert_nobody_is_seen(world: &World, at: u64) {
        for number in [3, 50, 4_000] {
            assert_eq!(world.see(&uuid(number), world.at(at)), Seen::Nothing);
        }
        assert_eq!(world.see(&uuid(2), world.at(at)), Seen::Nothing);
        world.cache.sweep(&world.workspace);
        assert_eq!(world.count(), (0, 0));
        world.cache.people.store().assert_index_is_exact();
    }

    #[test]
    fn a_crowded_name_is_answered_only_by_what_flameup_answered_to_it() {
        let world = crowd();
        world.cache.people.store().assert_index_is_exact();
        assert_eq!(world.see(&id(SHARED), world.at(1)), Seen::Nothing);
        assert_eq!(world.see(&id("c4000"), world.at(1)), seen(&of(4_000)));
        assert_eq!(
            world
                .cache
                .view(&world.keys(&id(SHARED)), world.at(1))
                .claimants,
            5_000
        );
        assert!(world.fetch(&id(SHARED), Some(of(4_000).body()), world.at(1)));
        assert_eq!(world.see(&id(SHARED), world.at(1)), seen(&of(4_000)));
        assert_eq!(world.see(&id("Shared@x.org"), world.at(1)), Seen::Nothing);
        world.cache.people.store().assert_index_is_exact();
    }

    #[test]
    fn a_change_by_a_crowded_name_is_one_of_everybody_when_it_ends() {
        let world = crowd();
        world.begin(&[id(SHARED)], world.at(1));
        assert_eq!(world.see(&uuid(2), world.at(1)), seen(&BOB));
        let touched = people(&[id(SHARED)]);
        let everybody = world
            .cache
            .end_change(&world.workspace, &touched, Vec::new(), world.at(2));
        assert!(everybody);
        assert_nobody_is_seen(&world, 2);
        // The name is one like any other again.
        assert!(world.fetch(&uuid(3), Some(of(3).body()), world.at(3_000)));
        assert_eq!(world.see(&id(SHARED), world.at(3_000)), seen(&of(3)));
    }

    #[test]
    fn a_change_by_another_name_leaves_the_crowd_alone() {
        let world = crowd();
        let touched = people(&[id("c4000")]);
        assert!(
            !world
                .cache
                .end_change(&world.workspace, &touched, Vec::new(), world.at(1))
        );
        assert_eq!(world.see(&uuid(4_000), world.at(1)), Seen::Nothing);
        assert_eq!(world.see(&uuid(4_001), world.at(1)), seen(&of(4_001)));
    }

    #[test]
    fn purge_and_erasure_by_a_crowded_name_are_of_everybody() {
        let world = crowd();
        let touched = people(&[id(SHARED)]);
        let expired = world.cache.expire(&world.workspace, &touched, world.at(1));
        assert_eq!(expired, 5_001);
        let purged = world.cache.purge(&world.workspace, &touched, world.at(1));
        assert!(purged.everybody);
        assert_nobody_is_seen(&world, 1);

        let world = crowd();
        let name = world.workspace.key_of_name(&id("c4000"));
        let mut erased = world.cache.erase(&[0], name, BAR, world.at(1));
        world.cache.sweep_erased(&mut erased);
        assert_eq!(erased.removed.people, 5_001);
        assert!(world.cache.confirm_erased(erased));
        assert!(!world.fetch(&uuid(50), Some(of(50).body()), world.at(2)));
    }

    #[test]
    fn no_more_spellings_are_absent_than_a_change_can_find() {
        let world = World::new();
        let spelled = |number: u32| {
            let letter = |at: u32, sign: char| match number >> at & 1 {
                1 => sign.to_ascii_uppercase(),
                _ => sign,
            };
            let name: String = (0..)
                .zip("shared".chars())
                .map(|(at, sign)| letter(at, sign))
                .collect();
            id(&format!("{name}@x.org"))
        };
        for number in 0..64 {
            world.fetch(&spelled(number), None, world.at(0));
        }
        assert_eq!(world.count().1, 33, "the folded one needs no pointer");
        world.begin(&[id(SHARED)], world.at(1));
        assert_eq!(world.count().1, 0);
    }
}

mod erasing {
    use super::*;

    fn erase(world: &World, name: &Name, at: u64) -> Removed {
        erased(world, name, at).removed
    }

    fn erased(world: &World, name: &Name, at: u64) -> Erased {
        let name = world.workspace.key_of_name(name);
        let number = world.workspace.number();
        world.cache.erase(&[number], name, BAR, world.at(at))
    }

    #[test]
    fn whoever_is_still_there_by_another_name_is_not_confirmed_to_be_gone() {
        for name in ADA.names() {
            let world = known();
            let first = erased(&world, &id("u1"), 1);
            // Stored by nobody who asks first, as something that went wrong would.
            let entry = shared(&world.workspace, &name, &ADA, world.at(1));
            let key = world.keys(&name).person().clone();
            world.cache.people.store().insert(key.as_bytes(), entry);
            assert!(!world.cache.confirm_erased(first));
            let again = erased(&world, &id("u1"), 2);
            assert!(world.cache.confirm_erased(again));
        }
    }

    #[test]
    fn a_second_erasure_confirms_nothing_that_the_first_left() {
        let world = known();
        let store = world.cache.people.store();
        // Somebody holds on to the key.
        let held: Vec<_> = store.keys_of(0).collect();
        let first = erased(&world, &id("u1"), 1);
        let second = erased(&world, &uuid(1), 2);
        assert_eq!((first.removed.people, second.removed.people), (1, 0));
        assert!(!world.cache.confirm_erased(first));
        assert!(!world.cache.confirm_erased(second));
        drop(held);
        let third = erased(&world, &id("u1"), 3);
        assert!(world.cache.confirm_erased(third));
    }

    #[test]
    fn all_names_are_told_whichever_was_given() {
        for name in ADA.names() {
            let world = known();
            let erased = erased(&world, &name, 1);
            let names = world.cache.names_of_erased(&erased);
            for name in ADA.names() {
                let key = world.keys(&name);
                assert!(names.contains(&world.cache.name(key.person().as_bytes())));
            }
        }
    }

    #[test]
    fn a_person_is_erased_under_all_names_whichever_is_given() {
        for name in ADA.names() {
            let world = known();
            let before = ADA.names().map(|name| world.send(&name, world.at(1)));
            let removed = erase(&world, &name, 2);
            assert_eq!((removed.people, removed.names), (1, 3));
            for sent in before {
                assert!(!world.land(sent, Some(ADA.body()), world.at(3)));
            }
            assert_eq!(world.see_all(&ADA, world.at(3)), Seen::Nothing);
            assert_eq!(world.see_all(&BOB, world.at(3)), seen(&BOB));
        }
    }

    #[test]
    fn nothing_is_stored_of_whoever_is_erased_until_the_bar_is_over() {
        let world = known();
        erase(&world, &id("u1"), 0);
        for name in ADA.names() {
            assert!(!world.fetch(&name, Some(ADA.body()), world.at(3_599_999)));
            assert!(!world.fetch(&name, None, world.at(3_599_999)));
        }
        world.end(&[uuid(1)], &[ADA.version(2).body()], world.at(10_000));
        world.cache.maintain(world.at(3_599_999));
        assert_eq!(world.count(), (1, 0));
        let over = world.at(3_600_000);
        assert!(world.fetch(&id("u1"), Some(ADA.body()), over));
    }

    #[test]
    fn what_one_of_two_workspaces_knows_of_a_person_is_erased_in_both() {
        let (one, mut world) = (World::new().workspace, known());
        world.workspace = Arc::new(crate::cache::fixture::workspace(1, EmailCase::Insensitive));
        let before = Person {
            external_id: "old",
            ..ADA
        };
        world.fetch(&id("Ada@x.org"), Some(before.body()), world.at(0));
        // Only the first knows who is called so, and only the second by which other name.
        let name = one.key_of_name(&id("u1"));
        let erased = world.cache.erase(&[0, 1], name, BAR, world.at(1));
        assert_eq!(erased.removed.people, 2);
        assert!(!world.fetch(&id("old"), None, world.at(2)));
        world.workspace = one;
        assert!(!world.fetch(&id("old"), None, world.at(2)));
        assert_eq!(world.see_all(&BOB, world.at(2)), seen(&BOB));
        assert!(world.cache.confirm_erased(erased));
    }

    #[test]
    fn what_was_written_and_waits_is_erased_by_names_that_only_it_tells() {
        let world = World::new();
        // Shows what the answer to a read looks like.
        assert!(world.fetch(&id("u2"), Some(BOB.body()), world.at(0)));
        world.end(&[uuid(1)], &[ADA.body()], world.at(0));
        let removed = erase(&world, &id("ada@x.org"), 100);
        assert_eq!(removed.people, 1);
        assert!(!world.fetch(&id("u1"), None, world.at(10_000)));
        assert_eq!(world.see_all(&ADA, world.at(10_000)), Seen::Nothing);
        assert_eq!(world.count(), (1, 0));
    }

    #[test]
    fn absences_in_every_spelling_are_erased() {
        let world = World::new();
        for name in ["ada@x.org", "ADA@x.org"] {
            world.fetch(&id(name), None, world.at(0));
        }
        assert_eq!(erase(&world, &id("Ada@x.org"), 1).absences, 2);
        assert_eq!(world.count(), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn fetches_under_way_are_called_off_and_their_waiters_woken() {
        let world = known();
        let [waiting, sent, others] = [uuid(1), id("Ada@x.org"), uuid(2)].map(|name| {
            let keys = world.keys(&name);
            let joined = world.cache.join(keys.person(), ASKER, world.start);
            joined.expect("room for one more waiter")
        });
        let mut of_sent = sent.obligation.expect("the first to join fetches");
        assert!(of_sent.launch(world.start));
        let removed = erase(&world, &id("u1"), 1);
        assert_eq!((removed.fetches, removed.places), (1, 1));
        for mut follower in [waiting.follower, sent.follower] {
            let heard = follower.wait(Duration::from_secs(1)).await;
            assert_eq!(heard.err(), Some(crate::cache::collapse::Error::CalledOff));
        }
        of_sent.cancelled().await;
        let mut never_sent = waiting.obligation.expect("the first to join fetches");
        assert!(!never_sent.launch(world.start));
        let keys = world.keys(&uuid(2));
        assert!(world.cache.is_being_fetched(keys.person()));
        drop(others);
    }
}

mod harvesting {
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
}
