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
//! # Columns
//! - `429`: drawn from Flameup, warm-up included.
//! - `used`: of what Flameup allows, by the gateway, and with the foreign consumer's.
//! - `answers`: fresh; stale while it is refreshed; stale for want of budget; from Flameup, for this
//!   lookup or one it waited with; refused.
//! - `wait`: for the turn, of those that were admitted and started.
//! - `Jain`: the least of the three classes' indices over their callers' starts.
//! - `foretold`: distance between foretold and actual start; how many were admitted and yet lost
//!   their place at the deadline.
#![expect(clippy::print_stdout, reason = "the table is what the bench is for")]

#[path = "shield/bars.rs"]
mod bars;
#[path = "shield/chance.rs"]
mod chance;
#[path = "shield/flameup.rs"]
mod flameup;
#[path = "shield/gateway.rs"]
mod gateway;
#[path = "shield/plain.rs"]
mod plain;
#[path = "shield/refusal.rs"]
mod refusal;
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

use gateway::Gateway;
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
    println!("{}", table::head());
    let mut rows = Vec::new();
    for world in worlds() {
        let row = Row::of(world);
        println!("{}", table::line(&row));
        rows.push(row);
    }
    let (bars, all_hold) = bars::check(&rows);
    println!("\n{bars}");
    // What is not the same each time goes elsewhere.
    let [median, p99, worst] = refusal::measure();
    eprintln!(
        "a refusal with 499 waiting takes {median:.1} us, p99 {p99:.1} us; {worst:.0} us as they expire"
    );
    eprintln!(
        "{} rows in {:.1} s",
        rows.len(),
        began.elapsed().as_secs_f64()
    );
    if all_hold {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
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
                };
                worlds.extend([0.5, 1.0, 2.0, 20.0].map(world));
            }
        }
    }
    worlds
}

impl Row {
    fn of(world: World) -> Self {
        // Only differences count; some budgets look back before the start.
        let start = Instant::now() + Duration::from_hours(24);
        Self {
            world,
            per_s: Traffic::new(world.load).per_s(),
            tally: Gateway::new(&world, start).run(),
            plain: Plain::run(&world, start),
        }
    }
}
