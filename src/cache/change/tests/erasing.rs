//! What an erasure leaves.

use super::*;
use crate::cache::change::erase::Erased;

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
    let held: Vec<_> = store
        .places_of(0)
        .filter_map(|place| store.get_at(place))
        .collect();
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

#[test]
fn a_fetch_that_lands_while_somebody_is_erased_is_not_stored() {
    for asked in ADA.names() {
        for name in ADA.names() {
            // Nobody is stored yet who would tell the other names.
            for world in [World::new(), known()] {
                if world.count() == (0, 0) && asked != name {
                    continue;
                }
                let mut sent = Some(world.send(&asked, world.at(1)));
                let between = || {
                    if let Some(sent) = sent.take() {
                        world.land(sent, Some(ADA.body()), world.at(2));
                    }
                };
                let key = world.workspace.key_of_name(&name);
                let erased = world
                    .cache
                    .erase_in_steps(&[0], key, BAR, world.at(2), between);
                assert!(world.cache.confirm_erased(erased), "{asked:?} {name:?}");
                assert_eq!(world.see_all(&ADA, world.at(3)), Seen::Nothing);
            }
        }
    }
}
