//! The table, a line for each row.

use crate::plain::Plain;
use crate::tally::{Answer, Tally, mean, percentile};
use crate::{Row, World, flameup};

/// What stands above the columns.
pub(crate) fn head() -> String {
    [
        "                                   |      |   used %    |           answers in %            |   served age s    |  wait p95 s     |      |foretold s|  plain cache",
        "window   skew  others offered      |  429 |   own   all |  fresh reval stale   fwd  refused | mean   p99 oldest | int  serv batch | Jain | p95 late%|   429  errors %",
    ]
    .join("\n")
}

/// What one row is about.
pub(crate) fn name(world: &World) -> String {
    let World {
        kind,
        skew_s,
        foreign,
        load,
    } = world;
    let others = if *foreign { "20/min" } else { "none" };
    let kind = flameup::word(*kind);
    format!("{kind:<8} {skew_s:>4}  {others:<6} {load:>4}x")
}

/// One row.
pub(crate) fn line(row: &Row) -> String {
    let Row {
        world,
        per_s,
        tally,
        plain,
    } = row;
    [
        format!("{} {per_s:>5.1}/s", name(world)),
        format!("{:>5}", tally.refused_ever),
        used(tally),
        answers(tally),
        ages(tally),
        waits(tally),
        format!("{:>4.2}", tally.fairness()),
        format!(
            "{:>4.2} {:>4.1}",
            percentile(&tally.errors_s, 0.95),
            tally.late()
        ),
        of_plain(*plain),
    ]
    .join(" | ")
}

fn used(tally: &Tally) -> String {
    let (own, all) = tally.used();
    format!("{own:>5.1} {all:>5.1}")
}

fn answers(tally: &Tally) -> String {
    let kinds = [
        Answer::Fresh,
        Answer::Revalidating,
        Answer::StaleBudget,
        Answer::Forwarded,
        Answer::Refused,
    ];
    let shares = kinds.map(|kind| format!("{:>5.1}", tally.share(kind)));
    format!("{}   ", shares.join(" "))
}

fn ages(tally: &Tally) -> String {
    let ages = &tally.ages_s;
    let (p99, oldest) = (percentile(ages, 0.99), percentile(ages, 1.0));
    format!("{:>4.0} {p99:>5.0} {oldest:>6.0}", mean(ages))
}

fn waits(tally: &Tally) -> String {
    let of_class = |waits: &Vec<f64>| format!("{:>4.2}", percentile(waits, 0.95));
    tally.waits_s.each_ref().map(of_class).join(" ")
}

fn of_plain(plain: Plain) -> String {
    format!("{:>6} {:>5.1}", plain.refused, plain.errors())
}
