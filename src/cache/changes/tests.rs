use super::*;
use crate::cache::fixture::{ADA, id, keys, shared, workspace};
use crate::config::EmailCase;

const BAR: Duration = Duration::from_hours(1);

fn asked(number: Number, asked_at: Instant, names: &[u64]) -> Asked<'_> {
    Asked {
        workspace: 0,
        number,
        asked_at,
        names,
        updated_at: None,
    }
}

fn publish(changes: &Changes, asked: Asked<'_>, now: Instant) -> Publication {
    changes.publish(asked, now, || true)
}

fn written(names: &[u64], number: Number, now: Instant) -> Written {
    let workspace = workspace(0, EmailCase::Insensitive);
    Written {
        entry: shared(&workspace, &id("u1"), &ADA, now),
        keys: keys(&workspace, &id("u1")),
        names: names.into(),
        number,
        updated_at: "2026-01-01T00:00:02Z".parse().ok(),
    }
}

fn after(now: Instant, milliseconds: u64) -> Instant {
    now + Duration::from_millis(milliseconds)
}

#[test]
fn what_was_asked_for_before_a_change_of_any_of_its_names_is_outdated() {
    let (changes, now) = (Changes::new(1), Instant::now());
    let before = changes.fetch_begins();
    changes.note(&[2], Hold::None, now);
    let later = changes.fetch_begins();
    let outdated = asked(before.number(), now, &[1, 2, 3]);
    assert_eq!(publish(&changes, outdated, now), Publication::Outdated);
    assert_eq!(
        publish(&changes, asked(before.number(), now, &[1, 3]), now),
        Publication::Stored
    );
    assert_eq!(
        publish(&changes, asked(later.number(), now, &[1, 2]), now),
        Publication::Stored
    );
}

#[test]
fn what_the_store_refuses_is_older() {
    let (changes, now) = (Changes::new(1), Instant::now());
    let refused = changes.publish(asked(0, now, &[1]), now, || false);
    assert_eq!(refused, Publication::Older);
}

#[test]
fn what_is_asked_for_within_the_hold_down_is_never_stored_however_late_it_lands() {
    let (changes, now) = (Changes::new(1), Instant::now());
    changes.note(&[1], Hold::Reads(now + HOLD_DOWN), now);
    let held = changes.fetch_begins();
    let (at, landed) = (after(now, 1_999), after(now, 9_000));
    // What concerns nobody is forgotten each second.
    for second in 2..9 {
        changes.all_due(after(now, second * 1_000));
    }
    let late = asked(held.number(), at, &[1]);
    assert_eq!(publish(&changes, late, landed), Publication::Held);
    let free = changes.fetch_begins();
    let at = now + HOLD_DOWN;
    assert_eq!(
        publish(&changes, asked(free.number(), at, &[1]), landed),
        Publication::Stored
    );
}

#[test]
fn a_name_is_forgotten_once_no_fetch_needs_it() {
    let (changes, now) = (Changes::new(1), Instant::now());
    let known = || changes.recent.lock().names.len();
    let old = changes.fetch_begins();
    changes.note(&[1], Hold::Reads(now + HOLD_DOWN), now);
    let held = changes.fetch_begins();
    changes.all_due(now + HOLD_DOWN);
    let later = changes.fetch_begins();
    drop(old);
    changes.all_due(now + HOLD_DOWN);
    assert_eq!(
        known(),
        1,
        "one lives that was asked for within the hold-down"
    );
    drop(held);
    changes.all_due(now + HOLD_DOWN);
    assert_eq!(known(), 0, "the one that lives was asked for after it");
    drop(later);
    assert!(changes.recent.lock().fetches.is_empty());
}

#[test]
fn a_waiter_is_not_given_what_was_asked_for_before_a_change_that_came_before_it() {
    let (changes, now) = (Changes::new(1), Instant::now());
    let fetch = changes.fetch_begins();
    let early = changes.last();
    changes.note(&[1], Hold::None, now);
    let late = changes.last();
    let answer = asked(fetch.number(), now, &[1]);
    assert!(!changes.came_between(&answer, early));
    assert!(changes.came_between(&answer, late));
    let elsewhere = asked(fetch.number(), now, &[2]);
    assert!(!changes.came_between(&elsewhere, late));
}

#[test]
fn a_change_of_everybody_concerns_one_workspace_and_all_that_was_asked_for_before() {
    let (changes, now) = (Changes::new(2), Instant::now());
    let before = changes.fetch_begins();
    changes.note_everybody(1, Hold::None);
    let of = |workspace, number| Asked {
        workspace,
        ..asked(number, now, &[1])
    };
    assert_eq!(
        publish(&changes, of(1, before.number()), now),
        Publication::Outdated
    );
    assert_eq!(
        publish(&changes, of(0, before.number()), now),
        Publication::Stored
    );
    assert!(changes.came_between(&of(1, before.number()), changes.last()));
    assert!(!changes.came_between(&of(0, before.number()), changes.last()));
    assert_eq!(
        publish(&changes, of(1, changes.last()), now),
        Publication::Stored
    );
}

#[test]
fn reads_are_held_off_from_everybody_too() {
    let (changes, now) = (Changes::new(2), Instant::now());
    changes.note_everybody(1, Hold::Reads(now + HOLD_DOWN));
    let fetch = changes.fetch_begins();
    let of = |workspace, at| Asked {
        workspace,
        ..asked(fetch.number(), at, &[1])
    };
    changes.all_due(after(now, 5_000));
    let late = after(now, 5_000);
    assert_eq!(
        publish(&changes, of(1, after(now, 1_999)), late),
        Publication::Held
    );
    assert_eq!(
        publish(&changes, of(0, after(now, 1_999)), late),
        Publication::Stored
    );
    assert_eq!(
        publish(&changes, of(1, now + HOLD_DOWN), late),
        Publication::Stored
    );
}

#[test]
fn what_was_written_is_given_out_once_when_the_hold_down_is_over() {
    let (changes, now) = (Changes::new(1), Instant::now());
    let number = changes.note(&[1, 2], Hold::Reads(now + HOLD_DOWN), now);
    changes.keep_written(
        written(&[1, 2], number, now),
        &changes.change_begins([0].into_iter()),
    );
    assert!(changes.due(1, after(now, 1_999)).is_none());
    assert!(changes.all_due(after(now, 1_999)).is_empty());
    assert!(changes.written(2).is_some());
    assert!(changes.due(2, now + HOLD_DOWN).is_some());
    assert!(changes.due(1, now + HOLD_DOWN).is_none());
    assert!(changes.all_due(now + HOLD_DOWN).is_empty());
}

#[test]
fn what_was_written_to_several_names_is_due_once() {
    let (changes, now) = (Changes::new(1), Instant::now());
    let number = changes.note(&[1, 2, 3], Hold::Reads(now + HOLD_DOWN), now);
    changes.keep_written(
        written(&[1, 2, 3], number, now),
        &changes.change_begins([0].into_iter()),
    );
    assert_eq!(changes.all_due(now + HOLD_DOWN).len(), 1);
}

#[test]
fn another_change_ends_what_was_written() {
    let (changes, now) = (Changes::new(1), Instant::now());
    let number = changes.note(&[1, 2], Hold::Reads(now + HOLD_DOWN), now);
    changes.keep_written(
        written(&[1, 2], number, now),
        &changes.change_begins([0].into_iter()),
    );
    changes.note(&[2], Hold::Reads(now + HOLD_DOWN), now);
    assert!(changes.due(1, now + HOLD_DOWN).is_none());
    assert!(changes.all_due(now + HOLD_DOWN).is_empty());
}

#[test]
fn a_read_in_between_ends_what_was_written_unless_flameup_calls_it_older() {
    for (read, stays) in [
        (Some("2026-01-01T00:00:01Z"), true),
        (Some("2026-01-01T00:00:02Z"), true),
        (Some("2026-01-01T00:00:03Z"), false),
        (None, false),
    ] {
        let (changes, now) = (Changes::new(1), Instant::now());
        let number = changes.note(&[1, 2], Hold::Reads(now + HOLD_DOWN), now);
        changes.keep_written(
            written(&[1, 2], number, now),
            &changes.change_begins([0].into_iter()),
        );
        let answer = Asked {
            updated_at: read.and_then(|date| date.parse().ok()),
            ..asked(changes.last(), after(now, 1_000), &[1])
        };
        assert_eq!(
            publish(&changes, answer, after(now, 1_000)),
            Publication::Held
        );
        assert_eq!(changes.due(2, now + HOLD_DOWN).is_some(), stays, "{read:?}");
    }
}

#[test]
fn nothing_is_stored_of_whoever_is_barred_until_the_time_is_over() {
    let (changes, now) = (Changes::new(1), Instant::now());
    changes.note(&[1], Hold::Everything(now + BAR), now);
    let number = changes.last();
    let nearly = after(now, 3_599_999);
    assert!(changes.is_barred(1, nearly));
    assert_eq!(
        publish(&changes, asked(number, nearly, &[1, 2]), nearly),
        Publication::Outdated
    );
    changes.keep_written(
        written(&[2, 1], number, now),
        &changes.change_begins([0].into_iter()),
    );
    assert!(changes.written(2).is_none());
    // A write does not end it.
    changes.note(&[1], Hold::Reads(nearly + HOLD_DOWN), nearly);
    assert!(changes.is_barred(1, nearly));
    let over = now + BAR + HOLD_DOWN;
    assert!(!changes.is_barred(1, over));
    assert_eq!(
        publish(&changes, asked(changes.last(), over, &[1]), over),
        Publication::Stored
    );
}

#[test]
fn what_is_stored_already_is_renewed_only_if_its_person_has_not_changed() {
    let (changes, now) = (Changes::new(1), Instant::now());
    assert!(changes.renew(0, 0, &[1], || true));
    let _living = changes.fetch_begins();
    changes.note(&[1], Hold::None, now);
    assert!(!changes.renew(0, 0, &[2, 1], || true));
    assert!(changes.renew(0, 0, &[2], || true));
    changes.note_everybody(0, Hold::None);
    assert!(!changes.renew(0, 0, &[2], || true));
}

#[test]
fn beyond_the_bound_of_names_everything_that_was_asked_for_counts_as_changed() {
    let (changes, now) = (Changes::new(2), Instant::now());
    changes.note(&[u64::MAX], Hold::Everything(now + BAR), now);
    let fetch = changes.fetch_begins();
    let many: Vec<u64> = (0..MAX_NAMES as u64).collect();
    changes.note(&many, Hold::None, now);
    assert!(changes.outdates_everybody(0, fetch.number()));
    assert!(changes.outdates_everybody(1, fetch.number()));
    assert!(changes.is_barred(u64::MAX, now), "who was erased stays so");
    assert!(!changes.outdates_everybody(0, changes.last()));
}

#[test]
fn a_name_tells_its_last_change_and_until_when_reads_are_held_off() {
    let (changes, now) = (Changes::new(1), Instant::now());
    assert_eq!(changes.of_name(1, now), None);
    let until = now + HOLD_DOWN;
    let number = changes.note(&[1], Hold::Reads(until), now);
    assert_eq!(changes.of_name(1, now), Some((number, Some(until))));
    assert_eq!(changes.of_name(1, until), Some((number, None)));
}

#[test]
fn changes_of_one_workspace_are_alone_unless_they_overlap() {
    let changes = Changes::new(3);
    let begin = |numbers: &[u32]| changes.change_begins(numbers.iter().copied());
    let (first, of_another) = (begin(&[0]), begin(&[1]));
    assert!(first.was_alone() && of_another.was_alone());
    let both = begin(&[1, 2]);
    assert!(!both.was_alone() && !of_another.was_alone() && first.was_alone());
    drop((first, of_another));
    // It has overlapped, whatever is over since.
    assert!(!both.was_alone());
    drop(both);
    assert!(begin(&[0, 1, 2]).was_alone());
    assert!(changes.recent.lock().under_way.is_empty());
}
