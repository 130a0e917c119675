//! The table, a line for each row.

use crate::plain::Plain;
use crate::tally::{Answer, Tally, mean, percentile};
use crate::{Outage, Row, Shares, World, flameup};

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
    if let Some(shares) = world.shares {
        return name_of_many(world, shares);
    }
    let World {
        kind,
        skew_s,
        foreign,
        load,
        ..
    } = world;
    let others = if *foreign { "20/min" } else { "none" };
    let kind = flameup::word(*kind);
    format!("{kind:<8} {skew_s:>4}  {others:<6} {load:>4}x")
}

/// What stands above the columns of several gateways.
pub(crate) fn head_of_many() -> String {
    [
        "                                         |      | most in | used |  answers in %   | wait p95 s      |      | calls a",
        "gateways  window  offered  Redis         |  429 | a window|   %  | stale  refused  | int  serv batch | Jain | second",
    ]
    .join("\n")
}

/// What a row of several gateways is about.
fn name_of_many(world: &World, shares: Shares) -> String {
    let redis = match shares.outage {
        None => "there",
        Some(Outage { empties: true, .. }) => "gone, emptied",
        Some(_) => "gone, back",
    };
    let Shares { gateways, .. } = shares;
    let kind = flameup::word(world.kind);
    format!("{gateways:>8}  {kind:<8} {:>5}x  {redis:<13}", world.load)
}

/// One row of several gateways.
pub(crate) fn line_of_many(row: &Row) -> String {
    let Row { world, tally, .. } = row;
    let calls = f64::from(tally.calls) / world.measured.as_secs_f64();
    [
        name(world),
        format!("{:>5}", tally.refused_ever),
        format!("{:>8}", tally.most),
        format!("{:>4.1}", tally.used(world.measured).0),
        format!(
            "{:>5.1} {:>8.1}  ",
            tally.share(Answer::StaleBudget),
            tally.share(Answer::Refused)
        ),
        waits(tally),
        tally
            .fairness_of_gateways()
            .map_or("   -".to_owned(), |index| format!("{index:>4.2}")),
        format!("{calls:>7.1}"),
    ]
    .join(" | ")
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
        used(row),
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

fn used(row: &Row) -> String {
    let (own, all) = row.tally.used(row.world.measured);
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
