//! Random histories of everything that can happen to a few people, with the sandbox as the oracle.
//!
//! What Flameup would answer to each name is written down whenever it changes. A read is right if
//! it shows one of those answers: no older than the last change of that name that had returned
//! through the gateway when the read began, and no older than the bound on age. So a wrong person,
//! or what was before a change, is an answer that stands nowhere in the list.
//!
//! Reads and changes overlap: their requests are held at Flameup, each in the state that it found
//! there, and let go in any order. There are two workspaces, in which the same names are other people's.
//!
//! The histories of a run follow from its seed, which it prints. The default is the same in every run, so a
//! change is judged and not the luck of the day; `MODEL_SEED=any` looks for what that one does not meet,
//! `MODEL_SEED=n` runs one again, `MODEL_STEPS` fewer or more of it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::io::Write as _;

use bytes::Bytes;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

mod counts;
mod flights;
mod history;
mod oracle;
mod steps;

use counts::Counts;
use history::History;
use steps::{Step, steps};

/// Steps of both tests together, at least: requests, answers let go, failures, edits, waits.
const STEPS: usize = 100_000;
/// The seed of a run that names none.
const SEED: usize = 20_261_124;
/// Steps of one history, on average. Long enough for a name to pass through several hands, short enough to
/// read when it fails.
const LENGTH: usize = 60;
/// What such a history counts for on average at least: some steps are several that overlap.
const LEAST_COUNT: usize = 150;

/// How the gateway and the sandbox are set up.
#[derive(Clone, Copy, Debug)]
pub(super) struct World {
    /// The gateway finds people under all their names.
    pub(super) aliases: bool,
    /// The case of an e-mail counts, for the gateway and for Flameup.
    pub(super) case_counts: bool,
}

/// What a person may be called, in one of the workspaces.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Name {
    Id(Tenant, String),
    Uuid(Tenant, String),
}

/// The number of a workspace.
pub(super) type Tenant = usize;

impl Name {
    fn tenant(&self) -> Tenant {
        match self {
            Self::Id(tenant, _) | Self::Uuid(tenant, _) => *tenant,
        }
    }

    fn text(&self) -> &str {
        match self {
            Self::Id(_, text) | Self::Uuid(_, text) => text,
        }
    }
}

/// What Flameup answers to a name: a body, or 404.
pub(super) type Answers = HashMap<Name, Option<Bytes>>;

#[test]
fn no_history_shows_a_wrong_person_or_what_was_before_a_change() {
    check(World {
        aliases: true,
        case_counts: false,
    });
}

#[test]
fn nor_does_any_where_names_are_kept_apart_and_case_counts() {
    check(World {
        aliases: false,
        case_counts: true,
    });
}

fn check(world: World) {
    let seed = match std::env::var("MODEL_SEED").as_deref() {
        Ok("any") => any_seed(),
        _ => number("MODEL_SEED").unwrap_or(SEED),
    };
    say(&format!("MODEL_SEED={seed} {world:?}"));
    let steps = number("MODEL_STEPS").unwrap_or(STEPS);
    let histories = steps / 2 / LEAST_COUNT;
    let config = Config {
        cases: u32::try_from(histories).expect("a few hundred"),
        failure_persistence: None,
        max_shrink_iters: 400,
        ..Config::default()
    };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let (ran, all) = (std::cell::Cell::new(0), RefCell::new(Counts::default()));
    let run = TestRunner::new_with_rng(config, random).run(&scripts(), |script| {
        let counts = run(world, &script.0).map_err(TestCaseError::fail)?;
        all.borrow_mut().add(&counts);
        let count: usize = script.0.iter().map(Step::count).sum();
        ran.set(ran.get() + count - counts.idle);
        Ok(())
    });
    if let Err(error) = run {
        panic!("MODEL_SEED={seed}: {error}");
    }
    say(&format!("{} steps, {:?}", ran.get(), all.borrow()));
    // Of few histories the average says little.
    if steps >= STEPS {
        all.borrow().assert_telling(ran.get());
    }
    assert!(
        ran.get() >= steps / 2 || steps < STEPS,
        "histories are too short"
    );
}

/// A history, shown with a line for each step.
#[derive(Clone)]
struct Script(Vec<Step>);

impl std::fmt::Debug for Script {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for step in &self.0 {
            write!(f, "\n    {step:?}")?;
        }
        Ok(())
    }
}

fn scripts() -> impl Strategy<Value = Script> {
    prop::collection::vec(steps(), 1..2 * LENGTH).prop_map(Script)
}

/// Plays one history on a runtime of its own.
fn run(world: World, steps: &[Step]) -> Result<Counts, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())?;
    let local = tokio::task::LocalSet::new();
    local.block_on(&runtime, async {
        let mut history = History::start(world).await;
        for step in steps {
            history.play(step).await?;
        }
        history.end().await
    })
}

/// Prints a line, also where the test passes: a history that failed once may pass now.
fn say(line: &str) {
    // Nobody may be listening, which is no reason to fail.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// A seed that no run before had, short enough to be typed.
fn any_seed() -> usize {
    usize::try_from(RandomState::new().hash_one(0) >> 32).unwrap_or(0)
}

fn number(variable: &str) -> Option<usize> {
    let given = std::env::var(variable).ok()?;
    Some(given.parse().expect("a number"))
}
