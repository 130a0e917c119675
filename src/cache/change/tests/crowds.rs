//! Names that thousands of people share.

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
    let everybody = world.cache.end_change(
        &world.workspace,
        &touched,
        End {
            meant: Meant::Called,
            written: Vec::new(),
            under_way: &world.begun(),
        },
        world.at(2),
    );
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
    assert!(!world.cache.end_change(
        &world.workspace,
        &touched,
        End {
            meant: Meant::Called,
            written: Vec::new(),
            under_way: &world.begun()
        },
        world.at(1)
    ));
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

#[test]
fn a_change_of_one_whom_flameup_has_named_leaves_the_crowd_alone() {
    let world = crowd();
    let touched = people(&[uuid(4_000), id(SHARED)]);
    let end = |meant, at| {
        world.cache.end_change(
            &world.workspace,
            &touched,
            End {
                meant,
                written: Vec::new(),
                under_way: &world.begun(),
            },
            world.at(at),
        )
    };
    assert!(!end(Meant::Named, 1));
    assert_eq!(world.see(&uuid(4_000), world.at(1)), Seen::Nothing);
    assert_eq!(world.see(&uuid(2), world.at(1)), seen(&BOB));
    assert!(end(Meant::Called, 2));
    assert_nobody_is_seen(&world, 2);
}
