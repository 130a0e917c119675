//! What the shield buys: hours of traffic against Flameup's limiter, in virtual time.
//!
//! `cargo bench --bench shield` prints a table and whether each promise holds, and ends with status
//! 1 if one does not. Nothing is random and no socket is opened: each run prints the same.
//!
//! Each row is 15 minutes of warm-up and an hour that is measured. Twenty callers of three classes
//! ask for 20,000 people, a few far more often than most. What a load means is said in `traffic`;
//! `gateway` joins the library's own budget, queue and freshness; `flameup` is the stand-in's limiter
//! with whole seconds and a clock that is wrong; `plain` is a cache without a shield.
//!
//! Then, or alone where `many` stands after `--`, gateways that share one budget and what they have
//! stored: `purse` is the script that Redis runs, in the same Lua.
//!
//! # Columns
//! - `429`: drawn from Flameup, warm-up included.
//! - `used`: of what Flameup allows, by the gateway, and with the foreign consumer's.
//! - `answers`: fresh; stale while it is refreshed; stale for want of budget; from Flameup, for this
//!   lookup or one it waited with; refused.
//! - `wait`: for the turn, of those that were admitted and started.
//! - `Jain`: the least of the three classes' indices over their callers' starts.
//! - `foretold`: distance between foretold and actual start; how many were admitted and yet lost
//!   their place at the deadline.
//!
//! Of several gateways:
//! - `most in a window`: requests in any time as long as Flameup's window, refused ones included.
//! - `Jain`: the least of the three classes' indices over gateways.
//! - `calls`: of all gateways to the purse.
#![expect(clippy::print_stdout, reason = "the table is what the bench is for")]

#[path = "shield/bars.rs"]
mod bars;
#[path = "shield/chance.rs"]
mod chance;
#[path = "shield/flameup.rs"]
mod flameup;
#[path = "shield/fleet.rs"]
mod fleet;
#[path = "shield/gateway.rs"]
mod gateway;
#[path = "shield/plain.rs"]
mod plain;
#[path = "shield/purse.rs"]
mod purse;
#[path = "shield/refusal.rs"]
mod refusal;
#[path = "shield/shared.rs"]
mod shared;
#[path = "shield/table.rs"]
mod table;
#[path = "shield/tally.rs"]
mod tally;
#[path = "shield/traffic.rs"]
mod traffic;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use flameup_gateway::cache::freshness::StaleWindows;
use flameup_gateway::sandbox::limiter::Kind;

use bars::Bar;
use plain::Plain;
use tally::Tally;
use traffic::Traffic;

/// Flameup's documented limit.
const LIMIT: u32 = 120;
const WINDOW: Duration = Duration::from_mins(1);
const BUDGET_PER_S: f64 = 2.0;

/// The defaults of the configuration.
const TTL: Duration = Duration::from_mins(1);
const JITTER: f64 = 0.1;
const TIMEOUT: Duration = Duration::from_secs(5);
const WINDOWS: StaleWindows = StaleWindows {
    while_revalidate: Duration::from_mins(4),
    if_error: Duration::from_mins(14),
};

/// Until as many people are stored as ever will be.
const WARM_UP: Duration = Duration::from_mins(15);
const MEASURED: Duration = Duration::from_hours(1);

/// What one row is about.
#[derive(Clone, Copy, Debug)]
struct World {
    kind: Kind,
    /// Flameup's clock less ours.
    skew_s: i64,
    /// Somebody else spends 20 a minute of the same key.
    foreign: bool,
    /// Times the budget that is offered.
    load: f64,
    /// There are several gateways with one purse.
    shares: Option<Shares>,
    warm_up: Duration,
    measured: Duration,
}

/// Gateways that share a budget.
#[derive(Clone, Copy, Debug)]
struct Shares {
    gateways: usize,
    outage: Option<Outage>,
}

/// A time without Redis, counted from the start.
#[derive(Clone, Copy, Debug)]
struct Outage {
    from: Duration,
    until: Duration,
    /// It comes back without what it kept.
    empties: bool,
}

/// What came of it.
#[derive(Debug)]
struct Row {
    world: World,
    per_s: f64,
    tally: Tally,
    plain: Plain,
}

fn main() -> ExitCode {
    let began = Instant::now();
    let only_many = std::env::args().any(|argument| argument == "many");
    let mut all_hold = true;
    if !only_many {
        println!("{}", table::head());
        all_hold &= show(worlds(), bars::OF_ONE, table::line);
    }
    println!("{}", table::head_of_many());
    all_hold &= show(worlds_of_many(), bars::OF_MANY, table::line_of_many);
    // What is not the same each time goes elsewhere.
    let [median, p99, worst] = refusal::measure();
    eprintln!(
        "a refusal with 499 waiting takes {median:.1} us, p99 {p99:.1} us; {worst:.0} us as they expire"
    );
    eprintln!("in {:.0} s", began.elapsed().as_secs_f64());
    if all_hold {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Prints a row for each world, and what holds of them; true if all does.
fn show(worlds: Vec<World>, bars: &[Bar], line: fn(&Row) -> String) -> bool {
    let mut rows = Vec::new();
    for world in worlds {
        let row = Row::of(world);
        println!("{}", line(&row));
        rows.push(row);
    }
    let (said, all_hold) = bars::check(bars, &rows);
    println!("\n{said}\n");
    all_hold
}

fn worlds() -> Vec<World> {
    let mut worlds = Vec::new();
    for kind in [Kind::Fixed, Kind::Sliding, Kind::Bucket] {
        for skew_s in [-300, 0, 300] {
            for foreign in [false, true] {
                let world = |load| World {
                    kind,
                    skew_s,
                    foreign,
                    load,
                    shares: None,
                    warm_up: WARM_UP,
                    measured: MEASURED,
                };
                worlds.extend([0.5, 1.0, 2.0, 20.0].map(world));
            }
        }
    }
    worlds
}

/// Gateways that share one budget.
fn worlds_of_many() -> Vec<World> {
    let minutes = Duration::from_mins;
    let mut worlds = Vec::new();
    let mut add = |gateways, kind, load, outage| {
        // As many calls as a hundred gateways make in an hour take too long to simulate.
        let (warm_up, measured) = match gateways {
            0..100 => (WARM_UP, MEASURED),
            100..1000 => (minutes(5), minutes(5)),
            _ => (minutes(2), minutes(2)),
        };
        worlds.push(World {
            kind,
            skew_s: 0,
            foreign: false,
            load,
            shares: Some(Shares { gateways, outage }),
            warm_up,
            measured,
        });
    };
    let outage = |(from, until): (u64, u64), empties| {
        let (from, until) = (minutes(from), minutes(until));
        Some(Outage {
            from,
            until,
            empties,
        })
    };
    for gateways in [3, 20] {
        for load in [1.0, 2.0, 20.0] {
            add(gateways, Kind::Sliding, load, None);
        }
        add(gateways, Kind::Fixed, 2.0, None);
        add(gateways, Kind::Bucket, 2.0, None);
        add(gateways, Kind::Sliding, 2.0, outage((30, 45), false));
        add(gateways, Kind::Sliding, 2.0, outage((30, 45), true));
    }
    // Where each has less than one request a window without Redis.
    add(150, Kind::Sliding, 2.0, outage((5, 8), false));
    for gateways in [10, 100, 1000] {
        add(gateways, Kind::Sliding, 2.0, None);
    }
    worlds
}

impl Row {
    /// Whether Redis was there all the time, or was not needed.
    fn is_undisturbed(&self) -> bool {
        self.world
            .shares
            .is_none_or(|shares| shares.outage.is_none())
    }

    fn of(world: World) -> Self {
        // Only differences count; some budgets look back before the start.
        let start = Instant::now() + Duration::from_hours(24);
        Self {
            world,
            per_s: Traffic::new(world.load).per_s(),
            tally: fleet::run(&world, start),
            plain: Plain::run(&world, start),
        }
    }
}
