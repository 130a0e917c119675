//! The numbers that tell an operator what the budget is, who spends it and who goes without.

use flameup_gateway::sandbox::{DEMO_KEY, Fault, LimiterOptions};

use crate::support::budgets::{AT_ONCE, authorization, caller, limited};
use crate::support::metrics::{Metrics, metrics};
use crate::support::{Client, Harness, Setup, exact, status};

fn path(number: usize) -> String {
    Harness::path(&format!("user_{number}"))
}

#[tokio::test]
#[expect(clippy::float_cmp, reason = "counts are whole numbers")]
async fn the_budget_shows_in_metrics() {
    let setup: Setup = caller(limited(), "desk", "service");
    let harness = setup.start().await;
    let before = metrics(&harness).await;
    assert_eq!(before.sum("budget_limit", &[]), 120.0, "{}", before.text);
    assert_eq!(before.sum("budget_remaining", &[]), 120.0);
    let spent = harness.spend(&authorization("desk")).await;
    let after = metrics(&harness).await;
    let count = f64::from(u32::try_from(spent).expect("a few"));
    assert_eq!(after.sum("budget_remaining", &[]), 120.0 - count);
    let desk = [
        ("client", "desk"),
        ("purpose", "miss"),
        ("workspace", "default"),
    ];
    assert_eq!(after.sum("budget_spent_total", &desk), count);
    let class = [("class", "service")];
    assert_eq!(after.sum("budget_wait_seconds_count", &class), count);
    let refused = after.sum("shed_total", &[("workspace", "default")]);
    assert!(refused >= 1.0, "{}", after.text);
    assert_eq!(after.sum("budget_window", &[("kind", "unknown")]), 1.0);
}

#[tokio::test]
#[expect(clippy::float_cmp, reason = "counts are whole numbers")]
async fn the_limit_its_end_and_the_clocks_are_flameups_as_soon_as_it_has_answered() {
    let limiter = LimiterOptions {
        limit: 300,
        skew_s: -90,
        ..LimiterOptions::default()
    };
    let setup = limited().sandbox(|options| options.limiter(limiter));
    let harness = setup.start().await;
    let gauges = |numbers: &Metrics| {
        let names = ["limit", "remaining", "skew_seconds"];
        names.map(|name| numbers.sum(&format!("budget_{name}"), &[]))
    };
    let before = metrics(&harness).await;
    assert_eq!(gauges(&before), [120.0, 120.0, 0.0], "{}", before.text);
    assert_eq!(before.sum("budget_reset_seconds", &[]), 0.0);
    harness.pass(20);
    harness.get(&path(1)).await;
    let after = metrics(&harness).await;
    assert_eq!(gauges(&after), [300.0, 299.0, -90.0], "{}", after.text);
    // Flameup's window ends in 40 seconds, and both clocks are read in whole seconds.
    let reset = |numbers: &Metrics| numbers.sum("budget_reset_seconds", &[]);
    assert!((40.0..=42.0).contains(&reset(&after)), "{}", after.text);
    harness.pass(30);
    let later = metrics(&harness).await;
    assert_eq!(reset(&after) - reset(&later), 30.0);
}

#[tokio::test]
#[expect(clippy::float_cmp, reason = "counts are whole numbers")]
async fn waits_are_measured_by_class() {
    let setup = caller(caller(limited(), "desk", "interactive"), "job", "batch");
    let harness = setup.start().await;
    let (desk, job) = (authorization("desk"), authorization("job"));
    let sent = harness.spend(&job).await;
    let mut wire = harness.asking(&path(1), &[("authorization", &desk)]).await;
    harness.settle().await;
    harness.until_arrivals(sent as u64 + 1).await;
    assert_eq!(wire.answer().await.status, 200);
    let numbers = metrics(&harness).await;
    let count = f64::from(u32::try_from(sent).expect("a few"));
    let waits = |what: &str, class| {
        let name = format!("budget_wait_seconds_{what}");
        numbers.sum(&name, &[("class", class)])
    };
    assert_eq!(waits("count", "interactive"), 1.0, "{}", numbers.text);
    assert_eq!(
        waits("sum", "interactive"),
        1.0,
        "the clock moves by seconds"
    );
    assert_eq!(waits("count", "batch"), count);
    assert_eq!(waits("sum", "batch"), 0.0);
}

#[tokio::test]
#[expect(clippy::float_cmp, reason = "counts are whole numbers")]
async fn what_is_refused_is_counted_by_reason() {
    let harness = limited().start().await;
    let shed = async |reason| {
        let numbers = metrics(&harness).await;
        numbers.sum("shed_total", &[("reason", reason)])
    };
    harness.get(&path(1)).await;
    harness.spend("").await;
    assert_eq!(shed("deadline").await + shed("unknown_ids").await, 1.0);
    let known = [AT_ONCE, ("cache-control", "no-cache")];
    let before = shed("deadline").await;
    assert_eq!(harness.get_with(&path(1), &known).await.status, 429);
    assert_eq!(shed("deadline").await, before + 1.0);

    harness.pass(60);
    harness.fault(status(500));
    for number in 0..5 {
        assert_eq!(harness.get(&path(100 + number)).await.status, 500);
    }
    assert_eq!(harness.get(&path(200)).await.status, 503);
    assert_eq!(shed("breaker").await, 1.0);

    harness.flameup.clear_faults();
    harness.pass(5);
    harness.flameup.revoke_key(DEMO_KEY);
    for _ in 0..2 {
        assert_eq!(harness.get(&path(200)).await.status, 502);
    }
    assert_eq!(shed("key").await, 1.0);
}

#[tokio::test]
#[expect(clippy::float_cmp, reason = "counts are whole numbers")]
async fn what_is_served_stale_is_counted_by_cause_and_by_age() {
    let harness = exact().await;
    harness.get(&path(1)).await;
    harness.pass(400);
    harness.fault(status(500));
    for _ in 0..6 {
        assert_eq!(harness.get(&path(1)).await.status, 200);
    }
    let numbers = metrics(&harness).await;
    let stale = |cause| numbers.sum("stale_total", &[("cause", cause)]);
    assert_eq!((stale("error"), stale("breaker")), (5.0, 1.0));
    let younger = |bound| numbers.sum("served_age_seconds_bucket", &[("le", bound)]);
    assert_eq!(
        (younger("300.0"), younger("600.0")),
        (0.0, 6.0),
        "{}",
        numbers.text
    );
    assert_eq!(numbers.sum("served_age_seconds_sum", &[]), 2400.0);
}

#[tokio::test]
#[expect(clippy::float_cmp, reason = "counts are whole numbers")]
async fn refreshes_and_retries_are_counted_like_all_that_waits_or_is_refused() {
    let harness = limited().start().await;
    harness.get(&path(1)).await;
    harness.pass(70);
    let stale = harness.get(&path(1)).await;
    assert_eq!(stale.cache_status(), "hit; ttl=-10; detail=revalidating");
    assert!(harness.flameup.arrivals_reach(2).await);
    harness.settle().await;
    harness.pass(70);
    harness.spend("").await;
    let stale = harness.get(&path(1)).await;
    assert_eq!(stale.cache_status(), "hit; ttl=-10; detail=budget");
    let numbers = metrics(&harness).await;
    let refresh = [("class", "refresh")];
    assert_eq!(numbers.sum("budget_wait_seconds_count", &refresh), 1.0);
    let background = [("reason", "background")];
    assert_eq!(numbers.sum("shed_total", &background), 1.0);

    harness.pass(60);
    for number in 0..4 {
        let once = Fault::new(status(503)).once();
        harness.flameup.fault(once);
        harness.get(&path(300 + number)).await;
        harness.get(&path(400 + number)).await;
        harness.pass(5);
    }
    let numbers = metrics(&harness).await;
    let retries = [("reason", "retries")];
    assert_eq!(numbers.sum("shed_total", &retries), 1.0, "{}", numbers.text);
}

#[tokio::test]
#[expect(clippy::float_cmp, reason = "counts are whole numbers")]
async fn what_is_called_off_under_way_is_spent_and_what_finds_nobody_is_not() {
    let harness = limited().start().await;
    let hold = harness.hold("user_1");
    let mut waiting = harness.asking(&path(1), &[]).await;
    assert!(hold.arrived(1).await);
    let admin = harness.admin_address();
    let mut operator = Client::connect(admin).await;
    let body = serde_json::json!({"id": "user_1"});
    let purged = operator.post("/v1/purge", &body).await;
    assert_eq!(purged.status, 200, "{purged:?}");
    waiting.answer().await;
    let spent = async |harness: &Harness| {
        let numbers = metrics(harness).await;
        let of_all = numbers.sum("budget_spent_total", &[]);
        (of_all, numbers.sum("budget_remaining", &[]))
    };
    let (counted, remaining) = spent(&harness).await;
    assert_eq!(counted, 120.0 - remaining);
    assert!(counted >= 1.0);

    let deaf = Setup::new().budgeted().upstream("http://127.0.0.1:1");
    let deaf = deaf.start().await;
    assert_eq!(deaf.get(&path(1)).await.status, 502);
    assert_eq!(spent(&deaf).await, (0.0, 120.0));
}
