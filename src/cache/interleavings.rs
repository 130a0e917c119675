//! All orders in which fetches, readers and a change can meet, tried one by one.
//!
//! A scene has two or three readers, who ask for one person by a name each, and at most one change.
//! What is tried is every order of the steps listed here, for so many actors, and no more than that:
//! one thread takes the steps, and a scheduler goes through all its choices.
//!
//! - A reader looks and joins; looks again and sends, if the fetch falls to it; lands; hears, and
//!   joins once more if what it hears does not do. Each of these is one step; where somebody is
//!   erased, looking and joining are two. This is what `gateway::read` does.
//! - A change begins, if it is a write; Flameup makes it; it ends. A purge, and the beginning of a
//!   write, let the others go on between any two of their critical sections as well, in scenes that say
//!   so: when they have found who is stored, when they have noted the change, and when they have
//!   removed them. An erasure is one step.
//!
//! A step may be several accesses to the stores, which threads could come between. Those that judge
//! an answer and store it hold a lock in which no change is noted. Accesses to memory below the locks
//! and maps are not tried: nothing is shared outside of these.
//!
//! # Invariants
//! - No reader that asks after the change has ended is given what was before it, nor is that
//!   found stored under any name.
//! - Nobody waits for ever, and only an erasure calls off what somebody waits for.
//! - Of two answers about one person the one that was asked for later stays.
//! - Of a flight one attempt is sent; of a person who is known, one for all names.
//! - The pointers of an entry are exactly its claims.

use std::cell::{Cell, RefCell};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;

use super::Landing;
use super::changes::{HOLD_DOWN, Hold, Number};
use super::collapse::{Asker, Follower, Obligation};
use super::control::RequestDirectives;
use super::entry::Entry;
use super::fixture::{ADA, Person, Seen, Sent, World, workspace};
use super::key::{CacheKey, Keys};
use super::{Landed, Lookup};
use crate::config::EmailCase;
use crate::person::change::{Name, Touched};
use crate::workspace::Workspace;

static WORKSPACE: LazyLock<Arc<Workspace>> =
    LazyLock::new(|| Arc::new(workspace(0, EmailCase::Insensitive)));

/// The person before the change, and after it: their e-mail is another.
const BEFORE: Person = ADA;
const AFTER: Person = Person {
    email: "lovelace@x.org",
    version: 2,
    ..ADA
};

/// When a scene begins; what was stored at the start is dead by then, and still known.
const BEGIN_MS: u64 = 100_000;

/// The choices of one run, and how many there were each time.
#[derive(Debug, Default)]
struct Schedule {
    choices: Vec<(usize, usize)>,
    at: usize,
}

impl Schedule {
    /// One of so many.
    fn choose(&mut self, of: usize) -> usize {
        if self.at == self.choices.len() {
            self.choices.push((0, of));
        }
        let (choice, width) = self.choices[self.at];
        assert_eq!(width, of, "the same choices lead to the same state");
        self.at += 1;
        choice
    }

    /// The next run, if there is one.
    fn advance(&mut self) -> bool {
        self.at = 0;
        while let Some((choice, of)) = self.choices.pop() {
            if choice + 1 < of {
                self.choices.push((choice + 1, of));
                return true;
            }
        }
        false
    }
}

/// What happens at Flameup and then to the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A write through the gateway, which takes longer than reads are held off.
    Write,
    /// An edit elsewhere, and then a purge.
    Purge,
    /// An edit elsewhere, and then an erasure.
    Erase,
    /// An edit elsewhere that nobody tells the gateway of.
    Edit,
}

/// What the cache has of the person when the scene begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    No,
    /// An entry that is past its time: it is asked for again, and collapsed on.
    Dead,
    /// An entry that is served.
    Fresh,
}

/// Everything but those who take steps.
struct Scene {
    world: World,
    now_ms: Cell<u64>,
    changed: Cell<bool>,
    ended: Cell<bool>,
    known: Known,
    /// A change lets others go on between its critical sections.
    finely: bool,
    /// Looking and joining are two steps.
    apart: bool,
    begun: Cell<bool>,
    /// The person was erased, and is stored no more.
    erased: Cell<bool>,
    /// Somebody was sent for the person after the change.
    asked_since: Cell<bool>,
    sent: RefCell<Vec<CacheKey>>,
    trace: RefCell<Vec<String>>,
}

impl Scene {
    fn new(known: Known, kind: Kind, finely: bool) -> Self {
        let scene = Self {
            world: World::of(Arc::clone(&WORKSPACE), true),
            now_ms: Cell::new(BEGIN_MS),
            changed: Cell::new(false),
            ended: Cell::new(false),
            known,
            finely,
            apart: kind == Kind::Erase,
            begun: Cell::new(false),
            erased: Cell::new(false),
            asked_since: Cell::new(false),
            sent: RefCell::default(),
            trace: RefCell::default(),
        };
        let stored_at = match known {
            Known::No => return scene,
            Known::Dead => 0,
            Known::Fresh => BEGIN_MS - 1,
        };
        let [uuid, ..] = BEFORE.names();
        let at = scene.world.at(stored_at);
        scene.world.fetch(&uuid, Some(BEFORE.body()), at);
        scene
    }

    fn now(&self) -> std::time::Instant {
        self.world.at(self.now_ms.get())
    }

    /// What Flameup answers by now.
    fn flameup(&self, name: &Name) -> Option<Bytes> {
        let person = if self.changed.get() { AFTER } else { BEFORE };
        let is_called = person.names().contains(name);
        is_called.then(|| person.body())
    }

    fn check(&self, holds: bool, what: &str) {
        assert!(holds, "{what}: {:#?}", self.trace.borrow());
    }

    /// That nothing is found stored that was before the change, once it has ended.
    fn check_stored(&self) {
        for name in BEFORE.names().iter().filter(|_| self.ended.get()) {
            let seen = self.world.see(name, self.now());
            let current = !self.erased.get() && self.is_current(name, &seen);
            self.check(current || seen == Seen::Nothing, "stale entry");
        }
    }

    /// That what was asked for after an edit is stored, whichever answer landed last.
    fn check_latest(&self) {
        if self.asked_since.get() && !self.ended.get() {
            let [uuid, ..] = AFTER.names();
            let seen = self.world.see(&uuid, self.now());
            self.check(seen == Seen::Person(AFTER.body()), "the earlier answer");
        }
    }

    fn erase(&self) {
        self.trace.borrow_mut().push("erased".to_owned());
        let [uuid, ..] = BEFORE.names();
        let (workspace, bar) = (&self.world.workspace, Duration::from_hours(1));
        let (numbers, name) = ([workspace.number()], workspace.key_of_name(&uuid));
        self.world.cache.erase(&numbers, name, bar, self.now());
        self.begun.set(true);
        self.erased.set(true);
        // What was under way is called off: the next to ask sends anew.
        self.sent.borrow_mut().clear();
    }

    fn is_current(&self, name: &Name, seen: &Seen) -> bool {
        *seen == self.flameup(name).map_or(Seen::Absence, Seen::Person)
    }

    fn sends(&self, flight: &CacheKey) {
        let mut sent = self.sent.borrow_mut();
        self.check(!sent.contains(flight), "two attempts of one flight");
        // After the change a 404 of the old e-mail may have ended what was known.
        let collapses = self.known == Known::Dead && !self.changed.get() && !self.begun.get();
        self.check(!collapses || sent.is_empty(), "two fetches of one person");
        sent.push(flight.clone());
    }

    fn lands(&self, flight: &CacheKey) {
        self.sent.borrow_mut().retain(|other| other != flight);
    }
}

/// Somebody who wants the person.
struct Reader {
    name: Name,
    keys: Keys,
    /// Whether it asked after the change had ended.
    late: bool,
    last_change: Number,
    flight: Option<CacheKey>,
    state: State,
}

type Flying = Obligation<Landing<&'static str>>;

enum State {
    Idle,
    Looked,
    Recalling(Flying, Arc<Entry>),
    Fetching(Flying, Box<Sent>, Option<Bytes>),
    Waiting,
    Done,
}

type Wait = Follower<Landing<&'static str>>;

/// A reader with what it waits with.
struct Actor(Reader, Option<Wait>);

impl Actor {
    fn new(scene: &Scene, name: &Name) -> Self {
        let reader = Reader {
            name: name.clone(),
            keys: scene.world.keys(name),
            late: false,
            last_change: 0,
            flight: None,
            state: State::Idle,
        };
        Self(reader, None)
    }

    fn is_done(&self) -> bool {
        matches!(self.0.state, State::Done)
    }

    /// Whether there is something to do: waiting takes until something is heard.
    fn can_step(&self) -> bool {
        match self.0.state {
            State::Done => false,
            State::Waiting => self.1.as_ref().is_some_and(|wait| wait.heard().is_some()),
            _ => true,
        }
    }

    fn step(&mut self, scene: &Scene) {
        match std::mem::replace(&mut self.0.state, State::Waiting) {
            State::Idle => self.ask(scene),
            State::Looked => self.join_anew(scene),
            State::Recalling(obligation, entry) => {
                let recalled = scene.world.cache.recalled(entry, self.0.keys.clone());
                self.land(scene, obligation, recalled);
            }
            State::Fetching(obligation, sent, body) => {
                let landed = scene.world.landed(*sent, body);
                self.land(scene, obligation, landed);
            }
            State::Waiting => self.hear(scene),
            State::Done => {}
        }
    }

    fn ask(&mut self, scene: &Scene) {
        self.0.late = scene.ended.get();
        let seen = scene.world.see_keys(&self.0.keys, scene.now());
        if seen != Seen::Nothing {
            return self.is_given(scene, &seen);
        }
        if scene.apart {
            self.0.state = State::Looked;
        } else {
            self.join_anew(scene);
        }
    }

    fn join_anew(&mut self, scene: &Scene) {
        self.0.flight = Some(scene.world.cache.flight(&self.0.keys));
        self.0.last_change = scene.world.cache.last_change();
        self.join(scene);
    }

    fn flight(&self) -> CacheKey {
        self.0.flight.clone().expect("it asked first")
    }

    fn join(&mut self, scene: &Scene) {
        let asker = Asker {
            urgency: 0,
            caller: 0,
        };
        let joined = scene.world.cache.join(&self.flight(), asker, scene.now());
        let joined = joined.expect("room for one more waiter");
        self.1 = Some(joined.follower);
        if let Some(obligation) = joined.obligation {
            self.look_again(scene, obligation);
        }
    }

    fn look_again(&mut self, scene: &Scene, mut obligation: Flying) {
        let directives = RequestDirectives::default();
        let lookup = scene
            .world
            .cache
            .lookup(&self.0.keys, &directives, scene.now());
        if let Lookup::Fresh(entry) = lookup {
            self.0.state = State::Recalling(obligation, entry);
            return;
        }
        scene.check(obligation.launch(scene.now()), "nobody else was to send");
        scene.sends(&self.flight());
        let sent = scene.world.send(&self.0.name, scene.now());
        let body = scene.flameup(&self.0.name);
        if scene.changed.get() && body.is_some() {
            scene.asked_since.set(true);
        }
        self.0.state = State::Fetching(obligation, Box::new(sent), body);
    }

    fn land(&mut self, scene: &Scene, obligation: Flying, landed: Landed) {
        scene.lands(&self.flight());
        scene
            .world
            .cache
            .fulfil(obligation, Ok(landed), scene.now());
    }

    fn hear(&mut self, scene: &Scene) {
        let heard = self.1.as_ref().and_then(Follower::heard);
        let landed = heard.and_then(Result::ok).and_then(Result::ok);
        let Some(landed) = landed else {
            let called_off = scene.erased.get() && !self.0.late;
            scene.check(called_off, "a reader was abandoned");
            self.0.state = State::Done;
            return;
        };
        let cache = &scene.world.cache;
        let does =
            cache.answers(&landed, &self.0.keys) && !cache.is_outdated(&landed, self.0.last_change);
        if !does {
            return self.join(scene);
        }
        let seen = match landed.entry.status() {
            StatusCode::OK => Seen::Person(Bytes::copy_from_slice(landed.entry.body())),
            _ => Seen::Absence,
        };
        self.is_given(scene, &seen);
    }

    fn is_given(&mut self, scene: &Scene, seen: &Seen) {
        let current = !self.0.late || scene.is_current(&self.0.name, seen);
        scene.check(current, "a reader was shown what was before");
        self.0.state = State::Done;
    }
}

/// Lets readers take steps, until the schedule says that it is the change's turn. Without a change
/// that could go on: until none of them can.
fn run(scene: &Scene, actors: &mut [Actor], schedule: &mut Schedule, change: bool) {
    loop {
        scene.check_stored();
        let able: Vec<usize> = (0..actors.len())
            .filter(|&at| actors[at].can_step())
            .collect();
        let options = able.len() + usize::from(change);
        if options == 0 {
            return;
        }
        let choice = schedule.choose(options);
        let Some(&at) = able.get(choice) else { return };
        scene.trace.borrow_mut().push(format!("reader {at}"));
        actors[at].step(scene);
    }
}

/// The change, whose steps are those that `kind` has; one critical section at a time if `finely`.
fn change(scene: &Scene, kind: Kind, mut others: impl FnMut()) {
    let [uuid, ..] = BEFORE.names();
    let touched = Touched::People(vec![uuid]);
    let section = |hold, others: &mut dyn FnMut()| {
        scene.begun.set(true);
        scene.trace.borrow_mut().push(format!("change: {hold:?}"));
        let now = scene.now();
        let between = || {
            scene.trace.borrow_mut().push("change goes on".to_owned());
            // Of a write, its beginning: how it ends is how a purge does all it does.
            if scene.finely && !(kind == Kind::Write && scene.changed.get()) {
                others();
            }
        };
        let cache = &scene.world.cache;
        cache.change_in_steps(&scene.world.workspace, &touched, hold, now, between);
    };
    others();
    if kind == Kind::Write {
        section(Hold::Reads(scene.now() + HOLD_DOWN), &mut others);
        scene.now_ms.set(BEGIN_MS + 3_000);
        others();
    }
    scene
        .trace
        .borrow_mut()
        .push("change is applied".to_owned());
    scene.changed.set(true);
    if kind == Kind::Edit {
        // Nobody hears of it: which answer is the later one is a matter of time alone.
        scene.now_ms.set(BEGIN_MS + 1);
        return others();
    }
    others();
    match kind {
        Kind::Write => section(Hold::Reads(scene.now() + HOLD_DOWN), &mut others),
        Kind::Purge => section(Hold::None, &mut others),
        Kind::Erase | Kind::Edit => scene.erase(),
    }
    scene.ended.set(true);
    scene.now_ms.set(scene.now_ms.get() + 3_000);
}

/// Runs a scene in every order. Says how many there are.
fn explore(known: Known, kind: Kind, names: &[Name], finely: bool) -> usize {
    let mut schedule = Schedule::default();
    for orders in 1.. {
        let scene = Scene::new(known, kind, finely);
        let actor = |name: &Name| Actor::new(&scene, name);
        let mut actors: Vec<_> = names.iter().map(actor).collect();
        change(&scene, kind, || {
            run(&scene, &mut actors, &mut schedule, true);
        });
        run(&scene, &mut actors, &mut schedule, false);
        scene.check(actors.iter().all(Actor::is_done), "somebody waits for ever");
        scene.world.cache.people.store().assert_index_is_exact();
        scene.check_latest();
        if !schedule.advance() {
            return orders;
        }
    }
    unreachable!("there is a last order")
}

/// Scenes of readers that each ask by another name; how many readers, and what is known of whom
/// they ask for. Says how many orders there are.
fn explore_all(readers: usize, scenes: &[(Known, Kind)], finely: bool) -> usize {
    let names = BEFORE.names();
    let orders = |&(known, kind): &(Known, Kind)| explore(known, kind, &names[..readers], finely);
    scenes.iter().map(orders).sum()
}

#[test]
fn no_order_of_two_readers_and_a_write_shows_what_was_before_or_strands_anybody() {
    let scenes = [Known::No, Known::Dead, Known::Fresh].map(|known| (known, Kind::Write));
    let orders = explore_all(2, &scenes, false);
    assert!(orders > 500, "{orders}");
}

#[test]
fn no_order_of_three_readers_and_a_change_does_either() {
    let scenes = [(Known::Dead, Kind::Purge)];
    let orders = explore_all(3, &scenes, false);
    assert!(orders > 500, "{orders}");
}

#[test]
fn no_order_of_two_readers_and_the_critical_sections_of_a_purge_does_either() {
    let scenes = [Known::No, Known::Dead, Known::Fresh].map(|known| (known, Kind::Purge));
    let orders = explore_all(2, &scenes, true);
    assert!(orders > 500, "{orders}");
}

#[test]
fn no_order_of_two_readers_and_an_erasure_stores_anything_or_strands_anybody() {
    let scenes = [Known::No, Known::Dead, Known::Fresh].map(|known| (known, Kind::Erase));
    let orders = explore_all(2, &scenes, false);
    assert!(orders > 100, "{orders}");
}

#[test]
fn of_fetches_by_several_names_of_one_person_the_later_answer_stays_in_every_order() {
    let scenes = [Known::No, Known::Dead].map(|known| (known, Kind::Edit));
    let orders = explore_all(2, &scenes, false) + explore_all(3, &scenes[1..], false);
    assert!(orders > 100, "{orders}");
}

#[test]
fn nobody_is_lost_who_joins_between_the_critical_sections_of_a_beginning_write() {
    let scenes = [Known::Dead, Known::Fresh].map(|known| (known, Kind::Write));
    let orders = explore_all(2, &scenes, true);
    assert!(orders > 1_000, "{orders}");
}
