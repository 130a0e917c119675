//! The fuzz targets on a stable compiler: over their corpus, and over mutations of it.
//!
//! Mutations follow from a seed, so that a run can be repeated: `FUZZ_SEED=7 cargo test --test fuzz`.
//! `FUZZ_RUNS` says how many inputs each target gets; the default takes seconds.

use std::panic::catch_unwind;
use std::path::Path;
use std::{env, fs};

use self::targets::{TARGETS, Target};

#[path = "../fuzz/targets.rs"]
mod targets;

/// Inputs of each target.
const RUNS: u64 = 3_000;
const SEED: u64 = 1;

/// Longer inputs only take longer.
const MAX_BYTES: usize = 1024;

/// What means something to one reader or another.
const WORDS: &[&[u8]] = &[
    b"%2f",
    b"%2e",
    b"..",
    b"//",
    b"\\",
    b"%",
    b"\0",
    b"@",
    b"\n",
    b"\r\n",
    b"\"",
    b",",
    b";",
    b"=",
    b"{",
    b"}",
    b"[",
    b"]",
    b"\xff",
    b"\xc0\xae",
    b"-1",
    b"0",
    b"18446744073709551616",
    b"no-store",
    b"max-age=",
    b"\"id\":",
    b"null",
    b"/api/v1/people/",
    b"PROXY TCP4 ",
    b"192.0.2.1 ",
    b"\r\n\r\n\0\r\nQUIT\n",
    b"\x21\x11\0\x0c",
];

/// A small generator (xorshift64*): all that mutations need.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below `bound`, which is not zero.
    fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).expect("a length");
        usize::try_from(self.next() % bound).expect("below a length")
    }

    fn of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }
}

fn number(variable: &str, default: u64) -> u64 {
    let given = env::var(variable).ok();
    given.map_or(default, |number| number.parse().expect("a number"))
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    let files = fs::read_dir(&directory).expect("each target has a corpus");
    let mut paths: Vec<_> = files.map(|file| file.expect("readable").path()).collect();
    // The order of a directory is nobody's promise.
    paths.sort();
    paths
        .iter()
        .map(|path| fs::read(path).expect("readable"))
        .collect()
}

/// One of the corpus, changed in a few places.
fn mutated(corpus: &[Vec<u8>], chance: &mut Chance) -> Vec<u8> {
    let mut input = chance.of(corpus).clone();
    for _ in 0..=chance.below(4) {
        let at = chance.below(input.len() + 1);
        match chance.below(6) {
            0 if at < input.len() => input[at] ^= 1 << chance.below(8),
            1 if at < input.len() => drop(input.remove(at)),
            2 => input.insert(at, u8::try_from(chance.below(256)).expect("a byte")),
            3 => drop(input.splice(at..at, chance.of(WORDS).iter().copied())),
            4 => {
                // The beginning of one and the end of another.
                let other = chance.of(corpus);
                let from = chance.below(other.len() + 1);
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            _ => input.truncate(at),
        }
    }
    input.truncate(MAX_BYTES);
    input
}

fn run(target: &str, promise: fn(&[u8]), input: &[u8]) {
    assert!(
        catch_unwind(|| promise(input)).is_ok(),
        "{target} fails of b\"{}\"",
        input.escape_ascii()
    );
}

fn fuzz((target, promise): Target) {
    let corpus = corpus(target);
    for input in &corpus {
        run(target, promise, input);
    }
    let mut chance = Chance(number("FUZZ_SEED", SEED) | 1 << 63);
    // A configuration takes a hundred times as long to read as anything else here.
    let share = if target == "config" { 10 } else { 1 };
    for _ in 0..number("FUZZ_RUNS", RUNS) / share {
        run(target, promise, &mutated(&corpus, &mut chance));
    }
}

fn named(name: &str) -> Target {
    let mut targets = TARGETS.into_iter();
    targets
        .find(|(target, _)| *target == name)
        .expect("a target")
}

#[test]
fn identifiers_have_one_normal_form() {
    fuzz(named("identifier"));
}

#[test]
fn targets_reach_nothing_but_the_api() {
    fuzz(named("route"));
}

#[test]
fn directives_only_ever_forbid_more() {
    fuzz(named("directives"));
}

#[test]
fn no_signal_sends_anybody_away_for_long() {
    fuzz(named("signals"));
}

#[test]
fn a_body_is_a_person_whole_or_not_at_all() {
    fuzz(named("person"));
}

#[test]
fn a_configuration_is_taken_or_refused_in_one_line() {
    fuzz(named("config"));
}

#[test]
fn a_proxy_header_says_the_same_whatever_follows() {
    fuzz(named("proxied"));
}

#[test]
fn every_target_is_run_here_and_under_libfuzzer() {
    let manifest = include_str!("../fuzz/Cargo.toml");
    let here = include_str!("fuzz.rs");
    for (target, _) in TARGETS {
        assert!(
            manifest.contains(&format!("name = \"{target}\"")),
            "{target}"
        );
        assert!(
            here.contains(&format!("fuzz(named(\"{target}\"))")),
            "{target}"
        );
    }
}
