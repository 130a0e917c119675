//! The keys of a workspace: which one is in use, and what happens when Flameup refuses it (401).
//!
//! Two keys are for rotation, never for doubling the limit: one is in use at a time. When it is
//! refused the other one is used next, unless that was refused too since a key was last accepted.
//! When all are refused nothing is sent but probes, which try the keys in turn.
//!
//! # Invariants
//! - Everything admitted between two changes of state carries the same key.
//! - While all keys are refused one probe is under way at a time. One that is not back when its
//!   time is over is taken for lost, and not believed any more.
//! - A probe is due at most a minute after the last one, and a changed key is tried at once: nothing
//!   locks until a restart.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::StatusCode;

use super::credential::Credential;
use super::probe::{Delays, Probing, Token};
use crate::config::ApiKey;

/// The keys of one workspace.
#[derive(Debug)]
pub struct Keys {
    /// At least one, no two alike.
    slots: Vec<Slot>,
    /// The one in use; the one to probe with while all are refused.
    current: usize,
    /// There while all are refused.
    probing: Option<Probing>,
    /// How often another key came into use, or all were refused, or one was accepted again: tells
    /// what was sent before from what was sent since.
    turn: u64,
    give_up_after: Duration,
}

#[derive(Debug)]
struct Slot {
    key: Arc<Credential>,
    /// Refused since a key was last accepted.
    refused: bool,
}

/// The right to send one request with a key; give it back with [`Keys::report`]. Dropping it says
/// nothing about the key, and frees a probe's place.
#[derive(Debug)]
#[must_use = "a probe's place is free again when its pass is dropped"]
pub struct KeyPass {
    key: Arc<Credential>,
    turn: u64,
    probe: Option<Token>,
}

/// What Flameup's answer says about the key that it was asked with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It knows the key.
    Accepted,
    /// It does not.
    Refused,
    /// It did not look, or nobody knows: no answer, a 429 or a 5xx.
    Unknown,
}

/// Why nothing is sent: all keys are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the upstream refuses the key")]
pub struct Refused {
    /// When it may be worth coming back; never zero.
    pub retry_after: Duration,
}

impl Keys {
    /// Keys of which none is refused; the first is in use. Equal ones count once. Probes are given up
    /// after so long.
    ///
    /// # Panics
    /// Without any key; the configuration of a workspace has one.
    pub fn new(keys: Vec<ApiKey>, give_up_after: Duration) -> Self {
        let slots = distinct(keys);
        assert!(!slots.is_empty(), "a workspace has a key");
        Self {
            slots,
            current: 0,
            probing: None,
            turn: 0,
            give_up_after,
        }
    }

    /// The key in use, or to be probed with next.
    pub fn current(&self) -> &ApiKey {
        self.slots[self.current].key.api_key()
    }

    /// All keys, to recognise them where they must not be.
    pub fn all(&self) -> impl Iterator<Item = &ApiKey> {
        self.slots.iter().map(|slot| slot.key.api_key())
    }

    /// Whether all keys are refused, so that nothing but probes is sent.
    pub fn is_refused(&self) -> bool {
        self.probing.is_some()
    }

    /// Lets a request be sent at `now` with [`KeyPass::key`], as the probe if one is due. To be
    /// asked when it is about to be sent: a probe that queues keeps others waiting.
    ///
    /// # Errors
    /// When all keys are refused and no probe is due, or one is under way.
    pub fn admit(&mut self, now: Instant) -> Result<KeyPass, Refused> {
        let probe = match &mut self.probing {
            None => None,
            Some(probing) => {
                let probe = probing.admit(now);
                Some(probe.map_err(|retry_after| Refused { retry_after })?)
            }
        };
        Ok(KeyPass {
            key: Arc::clone(&self.slots[self.current].key),
            turn: self.turn,
            probe,
        })
    }

    /// Takes `pass` back at `now`, with what Flameup said.
    pub fn report(&mut self, pass: KeyPass, verdict: Verdict, now: Instant) {
        if pass.turn != self.turn {
            return;
        }
        match (pass.probe, verdict) {
            (Some(probe), verdict) => self.end_probe(&probe, verdict, now),
            (None, Verdict::Accepted) => self.forget_refusals(),
            (None, Verdict::Refused) => self.refuse(now),
            (None, Verdict::Unknown) => {}
        }
    }

    /// Takes the keys as they are now configured; none at all changes nothing.
    ///
    /// A key that is in use and not refused stays so, unless it is now among the `former` ones,
    /// which are there for when all others are refused. Otherwise the first one that is new, or was
    /// not refused, is in use at once.
    pub fn replace(&mut self, mut keys: Vec<ApiKey>, former: Vec<ApiKey>) {
        if keys.is_empty() {
            return;
        }
        let configured = distinct(keys.clone()).len();
        keys.extend(former);
        let mut slots = distinct(keys);
        for slot in &mut slots {
            let known = self
                .slots
                .iter()
                .find(|known| known.key.api_key() == slot.key.api_key());
            slot.refused = known.is_some_and(|known| known.refused);
        }
        let current = self.current();
        let mut kept = slots.iter().take(configured);
        let kept = kept.position(|slot| slot.key.api_key() == current);
        self.slots = slots;
        self.choose(kept);
    }

    /// Decides which key is in use after a change; `kept` is the one that was, if it is still there.
    fn choose(&mut self, kept: Option<usize>) {
        let usable = self.slots.iter().position(|slot| !slot.refused);
        match (kept, usable) {
            (Some(kept), _) if !self.slots[kept].refused => self.current = kept,
            (_, Some(usable)) => self.use_now(usable),
            // Only refused ones are left.
            (Some(kept), None) if self.is_refused() => self.current = kept,
            // A probe with a key that is gone would prove nothing.
            (None, None) if self.is_refused() => {
                self.current = 0;
                self.turn = self.turn.wrapping_add(1);
            }
            // The good one was taken away: this one's refusal may be long ago.
            (_, None) => {
                self.forget_refusals();
                self.use_now(0);
            }
        }
    }

    fn end_probe(&mut self, probe: &Token, verdict: Verdict, now: Instant) {
        // A probe that was given up for lost has been replaced.
        let probing = self.probing.as_mut().filter(|probing| probing.knows(probe));
        let Some(probing) = probing else { return };
        match verdict {
            Verdict::Accepted => {
                self.forget_refusals();
                self.use_now(self.current);
            }
            Verdict::Refused => {
                probing.failed(now);
                self.current = (self.current + 1) % self.slots.len();
            }
            // It was sent all the same, so the next one waits as long.
            Verdict::Unknown => probing.postpone(now),
        }
    }

    /// The key in use was refused: the next one that was not comes into use, if there is one.
    fn refuse(&mut self, now: Instant) {
        self.slots[self.current].refused = true;
        if let Some(other) = self.slots.iter().position(|slot| !slot.refused) {
            self.use_now(other);
        } else {
            self.current = (self.current + 1) % self.slots.len();
            self.probing = Some(Probing::since(now, Delays::FLAMEUP, self.give_up_after));
            self.turn = self.turn.wrapping_add(1);
        }
    }

    fn use_now(&mut self, index: usize) {
        self.current = index;
        self.probing = None;
        self.turn = self.turn.wrapping_add(1);
    }

    /// When the key in use is refused one day, those refused before it may be good again.
    fn forget_refusals(&mut self) {
        for slot in &mut self.slots {
            slot.refused = false;
        }
    }
}

impl KeyPass {
    /// The key to send.
    pub fn key(&self) -> &ApiKey {
        self.key.api_key()
    }

    /// The same, with what goes with it.
    pub(super) fn credential(&self) -> &Arc<Credential> {
        &self.key
    }

    /// Whether its end decides over a refused workspace.
    pub fn is_probe(&self) -> bool {
        self.probe.is_some()
    }
}

impl Verdict {
    /// What an answer with this status says. 403 lacks a permission, but the key is known.
    pub fn of_status(status: StatusCode) -> Self {
        match status {
            StatusCode::UNAUTHORIZED => Self::Refused,
            StatusCode::TOO_MANY_REQUESTS => Self::Unknown,
            status if status.as_u16() >= 500 => Self::Unknown,
            _ => Self::Accepted,
        }
    }
}

fn distinct(keys: Vec<ApiKey>) -> Vec<Slot> {
    let mut slots: Vec<Slot> = Vec::with_capacity(keys.len());
    for key in keys {
        if slots.iter().all(|slot| *slot.key.api_key() != key) {
            let key = Arc::new(Credential::of(key));
            let refused = false;
            slots.push(Slot { key, refused });
        }
    }
    slots
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::{Config, Sources};
    use crate::shield::probe::{FIRST_DELAY, LONGEST_DELAY};

    const SECOND: Duration = Duration::from_secs(1);
    const PATIENCE: Duration = Duration::from_mins(3);

    fn key(name: &str) -> ApiKey {
        let loaded = Config::load(&Sources::inline("", [("FLAMEUP_API_KEY", name)]));
        let mut workspaces = loaded.expect("the defaults and a key").config.workspaces;
        let (_, mut workspace) = workspaces.pop_first().expect("the default workspace");
        workspace.api_keys.remove(0).0
    }

    fn keys(names: &[&str]) -> Keys {
        Keys::new(names.iter().map(|name| key(name)).collect(), PATIENCE)
    }

    fn replace(keys: &mut Keys, names: &[&str]) {
        keys.replace(names.iter().map(|name| key(name)).collect(), Vec::new());
    }

    #[test]
    fn a_former_key_is_used_when_its_successor_is_refused_and_gone_when_it_is_forgotten() {
        let now = Instant::now();
        let mut keys = keys(&["old"]);
        send(&mut keys, Verdict::Accepted, now);
        keys.replace(vec![key("new")], vec![key("old")]);
        assert_eq!(send(&mut keys, Verdict::Accepted, now), "new");
        assert_eq!(send(&mut keys, Verdict::Refused, now), "new");
        assert_eq!(send(&mut keys, Verdict::Accepted, now), "old");
        replace(&mut keys, &["new"]);
        assert!(!keys.all().any(|known| *known == key("old")));
        assert_eq!(send(&mut keys, Verdict::Accepted, now), "new");
    }

    /// Sends one request, and returns the key that it carried.
    fn send(keys: &mut Keys, verdict: Verdict, now: Instant) -> String {
        let pass = keys.admit(now).expect("something may be sent");
        let key = pass.key().expose().to_owned();
        keys.report(pass, verdict, now);
        key
    }

    #[test]
    fn a_refused_key_is_only_probed_with_growing_delays_until_it_is_accepted() {
        let mut now = Instant::now();
        let mut keys = keys(&["a"]);
        assert_eq!(send(&mut keys, Verdict::Accepted, now), "a");
        assert!(!keys.is_refused());
        send(&mut keys, Verdict::Refused, now);
        for seconds in [5, 10, 20, 40, 60, 60] {
            assert!(keys.is_refused());
            let delay = seconds * SECOND;
            let refusal = keys.admit(now).expect_err("nothing is sent");
            assert_eq!(refusal.retry_after, delay);
            now += delay;
            let probe = keys.admit(now).expect("the probe");
            assert!(probe.is_probe() && keys.admit(now).is_err());
            keys.report(probe, Verdict::Refused, now);
        }
        now += LONGEST_DELAY;
        send(&mut keys, Verdict::Accepted, now);
        assert!(!keys.is_refused());
        send(&mut keys, Verdict::Refused, now);
        let refusal = keys.admit(now).expect_err("nothing is sent");
        assert_eq!(refusal.retry_after, FIRST_DELAY);
    }

    #[test]
    fn the_other_key_is_used_next_and_late_refusals_of_the_first_change_nothing() {
        let now = Instant::now();
        let mut keys = keys(&["a", "b"]);
        let late = keys.admit(now).expect("nothing is refused");
        assert_eq!(send(&mut keys, Verdict::Refused, now), "a");
        assert!(!keys.is_refused());
        assert_eq!(keys.current().expose(), "b");
        keys.report(late, Verdict::Refused, now);
        assert_eq!(send(&mut keys, Verdict::Refused, now), "b");
        assert!(keys.is_refused());
        assert!(keys.admit(now).is_err());
    }

    #[test]
    fn many_refusals_of_one_moment_are_one() {
        let now = Instant::now();
        let mut keys = keys(&["a"]);
        let passes: Vec<_> = (0..9).map(|_| keys.admit(now).expect("accepted")).collect();
        for pass in passes {
            keys.report(pass, Verdict::Refused, now);
        }
        let refusal = keys.admit(now).expect_err("nothing is sent");
        assert_eq!(refusal.retry_after, FIRST_DELAY);
    }

    #[test]
    fn once_a_key_was_accepted_the_one_refused_before_it_has_another_chance() {
        let now = Instant::now();
        let mut keys = keys(&["new", "old"]);
        assert_eq!(send(&mut keys, Verdict::Refused, now), "new");
        assert_eq!(send(&mut keys, Verdict::Accepted, now), "old");
        assert_eq!(send(&mut keys, Verdict::Refused, now), "old");
        assert_eq!(send(&mut keys, Verdict::Accepted, now), "new");
        assert_eq!(send(&mut keys, Verdict::Accepted, now), "new");
    }

    #[test]
    fn probes_try_the_keys_in_turn() {
        let mut now = Instant::now();
        let mut keys = keys(&["a", "b"]);
        send(&mut keys, Verdict::Refused, now);
        send(&mut keys, Verdict::Refused, now);
        for expected in ["a", "b", "a", "b"] {
            now += LONGEST_DELAY;
            assert_eq!(send(&mut keys, Verdict::Refused, now), expected);
        }
        now += LONGEST_DELAY;
        assert_eq!(send(&mut keys, Verdict::Accepted, now), "a");
        assert_eq!(send(&mut keys, Verdict::Accepted, now), "a");
    }

    #[test]
    fn a_probe_that_tells_nothing_is_repeated_after_the_same_delay_and_a_dropped_one_at_once() {
        let mut now = Instant::now();
        let mut keys = keys(&["a"]);
        send(&mut keys, Verdict::Refused, now);
        now += FIRST_DELAY;
        drop(keys.admit(now).expect("the probe"));
        send(&mut keys, Verdict::Unknown, now);
        let refusal = keys.admit(now).expect_err("nothing is sent");
        assert_eq!(refusal.retry_after, FIRST_DELAY);
    }

    #[test]
    fn a_changed_key_is_tried_at_once_and_an_unchanged_one_is_not() {
        let now = Instant::now();
        let mut keys = keys(&["a"]);
        send(&mut keys, Verdict::Refused, now);
        replace(&mut keys, &["a"]);
        replace(&mut keys, &[]);
        assert!(keys.is_refused() && keys.admit(now).is_err());
        replace(&mut keys, &["a", "b"]);
        assert!(!keys.is_refused());
        assert_eq!(send(&mut keys, Verdict::Accepted, now), "b");
    }

    #[test]
    fn a_key_that_works_stays_in_use_while_it_is_configured() {
        let now = Instant::now();
        let mut keys = keys(&["old"]);
        let before = keys.admit(now).expect("accepted");
        replace(&mut keys, &["new", "old", "old"]);
        assert_eq!(keys.all().count(), 2);
        assert_eq!(keys.current().expose(), "old");
        keys.report(before, Verdict::Refused, now);
        assert_eq!(send(&mut keys, Verdict::Accepted, now), "new");
        replace(&mut keys, &["newer"]);
        assert_eq!(send(&mut keys, Verdict::Accepted, now), "newer");
    }

    #[test]
    fn a_key_refused_earlier_is_tried_when_it_is_the_only_one_left() {
        let now = Instant::now();
        let mut keys = keys(&["a", "b"]);
        send(&mut keys, Verdict::Refused, now);
        replace(&mut keys, &["a"]);
        assert!(!keys.is_refused());
        assert_eq!(send(&mut keys, Verdict::Refused, now), "a");
        assert!(keys.is_refused());
    }

    #[test]
    fn a_probe_with_a_key_that_was_taken_away_proves_nothing() {
        let mut now = Instant::now();
        let mut keys = keys(&["a", "b"]);
        send(&mut keys, Verdict::Refused, now);
        send(&mut keys, Verdict::Refused, now);
        now += FIRST_DELAY;
        let probe = keys.admit(now).expect("the probe");
        assert_eq!(probe.key().expose(), "a");
        replace(&mut keys, &["b"]);
        keys.report(probe, Verdict::Accepted, now);
        assert!(keys.is_refused());
        assert_eq!(send(&mut keys, Verdict::Accepted, now), "b");
        assert!(!keys.is_refused());
    }

    #[test]
    fn only_401_refuses_a_key_and_some_answers_say_nothing_about_it() {
        for (status, verdict) in [
            (200, Verdict::Accepted),
            (401, Verdict::Refused),
            (403, Verdict::Accepted),
            (404, Verdict::Accepted),
            (429, Verdict::Unknown),
            (503, Verdict::Unknown),
        ] {
            let status = StatusCode::from_u16(status).expect("a status");
            assert_eq!(Verdict::of_status(status), verdict);
        }
    }

    const NAMES: [&str; 3] = ["a", "b", "c"];

    #[derive(Clone, Debug)]
    enum Step {
        Wait(u64),
        Admit,
        /// The pass, and whether Flameup was unable to tell.
        Report(usize, bool),
        Drop(usize),
        /// Which keys Flameup knows.
        Know([bool; 3]),
        /// Which keys are configured.
        Configure(Vec<usize>),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let configured = prop::collection::vec(0..NAMES.len(), 1..=2);
        let step = prop_oneof![
            4 => (0u64..8_000).prop_map(Step::Wait),
            8 => Just(Step::Admit),
            8 => (any::<usize>(), prop::bool::weighted(0.2))
                .prop_map(|(which, unable)| Step::Report(which, unable)),
            1 => any::<usize>().prop_map(Step::Drop),
            1 => any::<[bool; 3]>().prop_map(Step::Know),
            1 => configured.prop_map(Step::Configure),
        ];
        prop::collection::vec(step, 0..300)
    }

    proptest! {
        #[test]
        fn one_probe_at_a_time_and_a_good_key_is_always_found_again(steps in steps()) {
            let all: Vec<ApiKey> = NAMES.iter().map(|name| key(name)).collect();
            let known = |knows: [bool; 3], key: &ApiKey| {
                all.iter().zip(knows).any(|(other, knows)| knows && other == key)
            };
            let mut now = Instant::now();
            let (mut configured, mut knows) = (vec![0], [true; 3]);
            let mut keys = Keys::new(vec![all[0].clone()], PATIENCE);
            let mut passes: Vec<(KeyPass, Instant)> = Vec::new();
            for step in steps {
                match step {
                    Step::Wait(ms) => now += Duration::from_millis(ms),
                    Step::Admit => match keys.admit(now) {
                        Ok(pass) => {
                            prop_assert!(configured.iter().any(|&index| all[index] == *pass.key()));
                            prop_assert_eq!(pass.is_probe(), keys.is_refused());
                            let probes = passes.iter().filter(|(other, since)| {
                                other.is_probe() && other.turn == pass.turn && now - *since < PATIENCE
                            });
                            prop_assert!(!pass.is_probe() || probes.count() == 0);
                            passes.push((pass, now));
                        }
                        Err(refused) => {
                            prop_assert!(refused.retry_after > Duration::ZERO);
                            prop_assert!(refused.retry_after <= LONGEST_DELAY);
                        }
                    },
                    Step::Report(which, unable) if !passes.is_empty() => {
                        let (pass, _) = passes.swap_remove(which % passes.len());
                        let verdict = match (unable, known(knows, pass.key())) {
                            (true, _) => Verdict::Unknown,
                            (_, true) => Verdict::Accepted,
                            (_, false) => Verdict::Refused,
                        };
                        keys.report(pass, verdict, now);
                    }
                    Step::Drop(which) if !passes.is_empty() => {
                        drop(passes.swap_remove(which % passes.len()));
                    }
                    Step::Report(..) | Step::Drop(_) => {}
                    Step::Know(which) => knows = which,
                    Step::Configure(which) => {
                        let changed = which.iter().any(|index| !configured.contains(index));
                        let chosen = which.iter().map(|&index| all[index].clone());
                        keys.replace(chosen.collect(), Vec::new());
                        prop_assert!(!changed || keys.admit(now).is_ok());
                        configured = which;
                    }
                }
            }
            // Whatever is still held: if Flameup knows a configured key, three tries find it.
            let mut found = false;
            for _ in 0..3 {
                now += PATIENCE;
                let pass = keys.admit(now).map_err(|refused| TestCaseError::fail(refused.to_string()))?;
                found = known(knows, pass.key());
                let verdict = if found { Verdict::Accepted } else { Verdict::Refused };
                keys.report(pass, verdict, now);
            }
            let findable = configured.iter().any(|&index| knows[index]);
            prop_assert_eq!(found, findable);
            prop_assert_eq!(keys.is_refused(), !findable);
        }
    }
}
