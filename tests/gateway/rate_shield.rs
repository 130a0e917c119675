//! Flameup's limit is never overdrawn, and what there is of it goes to those who need it most.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use flameup_gateway::sandbox::LimiterOptions;
use flameup_gateway::sandbox::limiter::Kind;
use http::HeaderMap;
use tokio::task::JoinSet;

use crate::support::budgets::{AT_ONCE, authorization, caller, limited, limited_to};
use crate::support::metrics::metrics;
use crate::support::{H2, Harness, Response, Setup};

/// A cold person for each number.
fn cold(number: usize) -> String {
    Harness::path(&format!("user_{}", 1 + number))
}

/// Who asks, whom for, and what came back.
type Asked = (usize, usize, Response);

/// Twenty callers with a connection each.
async fn twenty(harness: &Harness) -> Vec<(H2, HeaderMap)> {
    let mut all = Vec::new();
    for number in 0..20 {
        let value = authorization(&format!("c{number}"));
        let value = value.parse().expect("a header value");
        let headers = HeaderMap::from_iter([(http::header::AUTHORIZATION, value)]);
        all.push((H2::connect(harness.address()).await, headers));
    }
    all
}

fn ask(tasks: &mut JoinSet<Asked>, callers: &[(H2, HeaderMap)], who: usize, whom: usize) {
    let (mut connection, headers) = callers[who].clone();
    tasks.spawn(async move {
        let answer = connection.try_send(&cold(whom), headers).await;
        (who, whom, answer.expect("an answer"))
    });
}

/// Sorts answers by the second at which their callers are to come back; says how many have theirs.
fn sort(answered: &[Asked], now: u64, later: &mut BTreeMap<u64, Vec<(usize, usize)>>) -> usize {
    let mut served = 0;
    for (who, whom, answer) in answered {
        if answer.status == 200 {
            served += 1;
            continue;
        }
        answer.assert_own(429, "http_request_denied");
        let due = now + answer.retry_after();
        later.entry(due).or_default().push((*who, *whom));
    }
    served
}

#[tokio::test]
async fn a_burst_of_a_thousand_draws_no_429_and_who_comes_back_as_told_is_answered() {
    let setup = (0..20).fold(limited(), |setup, number| {
        caller(setup, &format!("c{number}"), "interactive")
    });
    let harness = setup.start().await;
    let callers = twenty(&harness).await;
    let (mut tasks, mut later) = (JoinSet::new(), BTreeMap::new());
    for number in 0..1000 {
        ask(&mut tasks, &callers, number % 20, number);
    }
    let mut served = 0;
    let (mut now, mut burst) = (0, Vec::new());
    while burst.len() < 1000 {
        // Who is refused hears it while the clock stands still; the others need it to move.
        let answered = tokio::time::timeout(Duration::from_millis(400), tasks.join_next()).await;
        if let Ok(answered) = answered {
            burst.push(answered.expect("a task").expect("no panic"));
        } else {
            served += sort(&burst.split_off(0), now, &mut later);
            harness.pass(1);
            now += 1;
        }
        if served + later.values().map(Vec::len).sum::<usize>() + burst.len() == 1000 {
            break;
        }
    }
    served += sort(&burst, now, &mut later);
    assert!(served >= 10, "{served} of the burst are answered");
    assert_eq!(harness.flameup.limiter().refused, 0);

    let (mut returned, mut again) = (0, 0);
    for second in now..240 {
        let due = later.split_off(&(second + 1));
        for (who, whom) in std::mem::replace(&mut later, due).into_values().flatten() {
            returned += 1;
            ask(&mut tasks, &callers, who, whom);
        }
        for _ in 0..10 {
            harness.pass_ms(100);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        while let Some(answered) = tasks.try_join_next() {
            let (_, _, answer) = answered.expect("no panic");
            again += usize::from(answer.status == 429);
        }
    }
    assert_eq!(harness.flameup.limiter().refused, 0);
    assert!(returned > 150, "{returned} come back");
    assert!(
        again * 20 <= returned,
        "{again} of {returned} are refused again"
    );
}

#[tokio::test]
async fn no_kind_of_window_and_no_wrong_clock_draws_a_429() {
    for kind in [Kind::Fixed, Kind::Sliding, Kind::Bucket] {
        for skew_s in [-300, 0, 300] {
            let limiter = LimiterOptions {
                kind,
                skew_s,
                limit: 30,
                window: Duration::from_secs(10),
                ..LimiterOptions::default()
            };
            let harness = limited_to(limiter).start().await;
            let mut client = harness.client().await;
            let mut number = 0;
            for _ in 0..480 {
                for _ in 0..2 {
                    client.send("GET", &cold(number), &[AT_ONCE]).await;
                    number += 1;
                }
                harness.pass_ms(250);
            }
            let state = harness.flameup.limiter();
            assert_eq!(state.refused, 0, "{kind:?} {skew_s}");
            // Twelve windows of thirty.
            assert!(state.counted > 260, "{kind:?} {skew_s}: {state:?}");
        }
    }
}

#[tokio::test]
async fn a_request_that_cannot_start_in_time_is_refused_at_once() {
    let harness = limited().start().await;
    let mut client = harness.client().await;
    let mut answered = 0;
    let refused = loop {
        let started = Instant::now();
        let answer = client.send("GET", &cold(answered), &[AT_ONCE]).await;
        if answer.status != 200 {
            assert!(started.elapsed() < Duration::from_secs(1));
            break answer;
        }
        answered += 1;
    };
    assert!((5..=10).contains(&answered), "{answered}");
    refused.assert_own(429, "http_request_denied");
    assert_eq!(refused.cache_status(), "detail=budget");
    assert!((1..=2).contains(&refused.retry_after()), "{refused:?}");
    assert_eq!(harness.forwards(), answered);
    harness.pass(refused.retry_after());
    let answer = client.send("GET", &cold(answered), &[AT_ONCE]).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test]
async fn a_preference_to_wait_is_cut_to_the_longest_wait() {
    for headers in [&[][..], &[("prefer", "respond-async, wait=3600")]] {
        let harness = limited().start().await;
        let sent = harness.spend("").await;
        let mut waiting = Vec::new();
        for number in 0..10 {
            waiting.push(harness.asking(&cold(number), headers).await);
        }
        harness.settle().await;
        let mut refused = 0;
        for wire in &mut waiting {
            refused += usize::from(wire.has_answer().await);
        }
        // Two seconds are three or four turns.
        assert!((6..=7).contains(&refused), "{refused} {headers:?}");
        harness.until_arrivals((sent + 10 - refused) as u64).await;
        let mut statuses = Vec::new();
        for wire in &mut waiting {
            statuses.push(wire.answer().await.status.as_u16());
        }
        assert_eq!(
            statuses.iter().filter(|&&status| status == 429).count(),
            refused
        );
        assert_eq!(
            statuses.iter().filter(|&&status| status == 200).count(),
            10 - refused
        );
    }
}

/// Twelve requests a minute, lookups that wait for long, and ten requests spent by `batch`.
async fn scarce() -> (Harness, u64) {
    let limiter = LimiterOptions {
        limit: 12,
        ..LimiterOptions::default()
    };
    let setup = limited_to(limiter).config("workspaces.default.budget.max_wait = \"60s\"");
    let setup = caller(caller(setup, "desk", "interactive"), "nightly", "batch");
    let harness = setup.start().await;
    let spent = harness.spend(&authorization("nightly")).await;
    (harness, spent as u64)
}

#[tokio::test]
async fn whoever_looks_at_a_screen_goes_before_batch_that_asked_first() {
    let (harness, spent) = scarce().await;
    let (desk, nightly) = (authorization("desk"), authorization("nightly"));
    let mut batch = Vec::new();
    for number in 0..2 {
        let headers = [("authorization", &*nightly)];
        batch.push(harness.asking(&cold(number), &headers).await);
    }
    harness.settle().await;
    let mut urgent = harness.asking(&cold(7), &[("authorization", &desk)]).await;
    harness.settle().await;
    harness.until_arrivals(spent + 1).await;
    assert_eq!(harness.targets().pop(), Some(cold(7)));
    assert_eq!(urgent.answer().await.status, 200);
}

#[tokio::test]
async fn a_sweep_over_invented_ids_keeps_nobodys_known_people_from_being_revalidated() {
    let setup = caller(
        caller(limited(), "desk", "interactive"),
        "sweep",
        "interactive",
    );
    let harness = setup.start().await;
    let (desk, sweep) = (authorization("desk"), authorization("sweep"));
    let mut client = harness.client().await;
    for number in 0..8 {
        let known = format!("user_{}", 1 + number);
        harness.known(&mut client, &known, &desk).await;
        harness.pass(2);
    }
    harness.pass(400); // Past revalidation in the background.
    let mut invented = 0;
    for step in 0..80 {
        for _ in 0..5 {
            let target = format!("/api/v1/people/nobody_{invented}");
            let headers = [AT_ONCE, ("authorization", &*sweep)];
            client.send("GET", &target, &headers).await;
            invented += 1;
        }
        if step % 10 == 9 {
            let headers = [
                ("authorization", &*desk),
                ("cache-control", "stale-if-error=0"),
            ];
            let mut asking = harness.asking(&cold(step / 10), &headers).await;
            harness.settle().await;
            for _ in 0..8 {
                if asking.has_answer().await {
                    break;
                }
                harness.pass_ms(250);
                tokio::time::sleep(Duration::from_millis(260)).await;
            }
            let answer = asking.answer().await;
            assert_eq!(answer.status, 200, "{step}: {answer:?}");
            assert!(
                answer.cache_status().contains("fwd-status=200"),
                "{answer:?}"
            );
        }
        harness.pass(1);
    }
    let state = harness.flameup.limiter();
    assert_eq!(state.refused, 0);
}

#[tokio::test]
async fn where_somebody_else_has_spent_the_key_nothing_more_is_sent_until_its_window_ends() {
    let harness = limited().start().await;
    harness.get(&cold(0)).await;
    harness.pass(400);
    harness.spend_elsewhere(120).await;
    harness.flameup.clear_received();
    let stale = harness.get(&cold(0)).await;
    assert_eq!(stale.cache_status(), "hit; ttl=-340; detail=budget");
    assert_eq!(harness.forwards(), 1, "which found it out");
    for number in 1..10 {
        let refused = harness.get(&cold(number)).await;
        refused.assert_own(429, "http_request_denied");
        assert!(refused.retry_after() >= 10, "{refused:?}");
    }
    assert_eq!(
        harness.get(&cold(0)).await.cache_status(),
        "hit; ttl=-340; detail=budget"
    );
    assert_eq!(harness.forwards(), 1);
    let numbers = metrics(&harness).await;
    assert!(
        numbers.sum("budget_foreign", &[]) >= 100.0,
        "{}",
        numbers.text
    );
    harness.pass(130);
    assert_eq!(harness.get(&cold(20)).await.status, 200);
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
