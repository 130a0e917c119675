//! What must hold, and whether it does.

use flameup_gateway::sandbox::limiter::Kind;

use crate::tally::percentile;
use crate::{LIMIT, MEASURED, Row, TTL, WINDOWS, table};

/// One promise, and the row that comes nearest to breaking it.
pub(crate) struct Bar {
    promise: &'static str,
    /// Rows it is about.
    concerns: fn(&Row) -> bool,
    value: fn(&Row) -> f64,
    holds: fn(f64) -> bool,
    /// Whether small values are the good ones.
    small_is_good: bool,
}

/// Of one gateway alone.
pub(crate) const OF_ONE: &[Bar] = &[
    Bar {
        promise: "no 429 as the sole user of the key",
        concerns: |row| !row.world.foreign,
        value: |row| f64::from(row.tally.refused_ever),
        holds: |count| count <= 0.0,
        small_is_good: true,
    },
    Bar {
        promise: "at most 0.1 % of forwards draw a 429 beside a foreign consumer, after 3 windows",
        concerns: |row| row.world.foreign,
        value: |row| row.tally.refused_later_percent(),
        holds: |percent| percent <= 0.1,
        small_is_good: true,
    },
    Bar {
        promise: "at least 95 % of the budget is used when offered twice or more (fixed, bucket)",
        concerns: |row| row.world.load >= 2.0 && row.world.kind != Kind::Sliding,
        value: |row| row.tally.used(row.world.measured).1,
        holds: |percent| percent >= 95.0,
        small_is_good: false,
    },
    Bar {
        promise: "at least 90 % of the budget is used when offered twice or more (sliding)",
        concerns: |row| row.world.load >= 2.0 && row.world.kind == Kind::Sliding,
        value: |row| row.tally.used(row.world.measured).1,
        holds: |percent| percent >= 90.0,
        small_is_good: false,
    },
    Bar {
        promise: "Jain index inside each class at least 0.95",
        concerns: |_| true,
        value: |row| row.tally.fairness(),
        holds: |index| index >= 0.95,
        small_is_good: false,
    },
    Bar {
        promise: "interactive p95 wait under 1 s while batch offers 20 times the budget",
        concerns: |row| row.world.load >= 20.0,
        value: |row| percentile(&row.tally.waits_s[0], 0.95),
        holds: |seconds| seconds < 1.0,
        small_is_good: true,
    },
    Bar {
        promise: "p95 of foretold against actual start at most 1 s",
        concerns: |_| true,
        value: |row| percentile(&row.tally.errors_s, 0.95),
        holds: |seconds| seconds <= 1.0,
        small_is_good: true,
    },
    Bar {
        promise: "no answer older than ttl + max(stale_while_revalidate, stale_if_error)",
        concerns: |_| true,
        value: |row| percentile(&row.tally.ages_s, 1.0),
        holds: |seconds| seconds <= (TTL + WINDOWS.longest()).as_secs_f64(),
        small_is_good: true,
    },
];

/// Of gateways that share a budget.
pub(crate) const OF_MANY: &[Bar] = &[
    Bar {
        promise: "no 429, whatever becomes of Redis",
        concerns: |_| true,
        value: |row| f64::from(row.tally.refused_ever),
        holds: |count| count <= 0.0,
        small_is_good: true,
    },
    Bar {
        promise: "never more than the limit in a time as long as a window, whatever becomes of Redis",
        concerns: |_| true,
        value: |row| row.tally.most_in_a_window(),
        holds: |count| count <= f64::from(LIMIT),
        small_is_good: true,
    },
    Bar {
        promise: "at least 90 % of the budget is used when offered twice or more, with Redis",
        concerns: |row| row.world.load >= 2.0 && row.is_undisturbed(),
        value: |row| row.tally.used(row.world.measured).1,
        holds: |percent| percent >= 90.0,
        small_is_good: false,
    },
    Bar {
        promise: "at least 80 % where a quarter of an hour is without Redis",
        concerns: |row| !row.is_undisturbed() && row.world.measured == MEASURED,
        value: |row| row.tally.used(row.world.measured).1,
        holds: |percent| percent >= 80.0,
        small_is_good: false,
    },
    Bar {
        promise: "Jain index over gateways inside each class at least 0.95, with twenty starts each",
        concerns: |row| row.tally.fairness_of_gateways().is_some(),
        value: |row| row.tally.fairness_of_gateways().unwrap_or(0.0),
        holds: |index| index >= 0.95,
        small_is_good: false,
    },
    Bar {
        promise: "interactive p95 wait under 1 s of up to 150 gateways",
        concerns: |row| {
            row.world
                .shares
                .is_some_and(|shares| shares.gateways <= 150)
        },
        value: |row| percentile(&row.tally.waits_s[0], 0.95),
        holds: |seconds| seconds < 1.0,
        small_is_good: true,
    },
];

/// Says of each promise whether it holds, and in which row least; true if all hold.
pub(crate) fn check(bars: &[Bar], rows: &[Row]) -> (String, bool) {
    let mut lines = Vec::new();
    let mut all_hold = true;
    for bar in bars {
        let concerned = rows.iter().filter(|row| (bar.concerns)(row));
        let worst = concerned.max_by(|a, b| {
            let (a, b) = ((bar.value)(a), (bar.value)(b));
            if bar.small_is_good {
                a.total_cmp(&b)
            } else {
                b.total_cmp(&a)
            }
        });
        let Some(worst) = worst else { continue };
        let value = (bar.value)(worst);
        let holds = (bar.holds)(value);
        all_hold &= holds;
        let word = if holds { "PASS" } else { "FAIL" };
        let row = table::name(&worst.world);
        lines.push(format!(
            "{word}  {}; worst {value:.2} in: {row}",
            bar.promise
        ));
    }
    (lines.join("\n"), all_hold)
}
