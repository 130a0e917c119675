//! What one caller asks for is charged to that caller, and only so much of it waits.

use flameup_gateway::sandbox::LimiterOptions;
use http::HeaderMap;
use tokio::task::JoinSet;

use crate::support::budgets::{AT_ONCE, authorization, caller, limited, limited_to};
use crate::support::metrics::metrics;
use crate::support::{H2, Harness, Response, Setup, within};

/// A known person; each query is a forward of its own, so that nobody shares one.
fn apart(number: usize) -> String {
    format!("/api/v1/people/user_1?n={number}")
}

/// Lookups that a caller sends over one connection.
async fn ask(harness: &Harness, tasks: &mut JoinSet<Response>, name: &str, count: usize) {
    let connection = H2::connect(harness.address()).await;
    let value = authorization(name).parse().expect("a header value");
    let headers = HeaderMap::from_iter([(http::header::AUTHORIZATION, value)]);
    for number in 0..count {
        let (mut connection, headers) = (connection.clone(), headers.clone());
        tasks.spawn(async move {
            let answer = connection.try_send(&apart(number), headers).await;
            answer.expect("an answer")
        });
    }
}

/// Takes so many answers, all of them refusals.
async fn refused(tasks: &mut JoinSet<Response>, count: usize) {
    for _ in 0..count {
        let answer = within(tasks.join_next()).await.expect("a task");
        let answer = answer.expect("no panic");
        answer.assert_own(429, "http_request_denied");
        assert!(answer.retry_after() >= 1, "{answer:?}");
    }
}

/// Lookups wait for as long as it takes, a person is known, and no turn is left.
async fn patient(setup: Setup) -> Harness {
    let harness = setup
        .config("workspaces.default.budget.max_wait = \"60s\"")
        .start()
        .await;
    let first = authorization("c0");
    let mut client = harness.client().await;
    harness.known(&mut client, "user_1", &first).await;
    harness.spend(&first).await;
    harness
}

#[tokio::test]
async fn of_one_caller_fifty_wait_and_of_another_as_many_again() {
    let setup = caller(caller(limited(), "c0", "service"), "c1", "interactive");
    let harness = patient(setup).await;
    let mut tasks = JoinSet::new();
    ask(&harness, &mut tasks, "c0", 57).await;
    refused(&mut tasks, 7).await;
    ask(&harness, &mut tasks, "c1", 1).await;
    harness.settle().await;
    assert!(tasks.try_join_next().is_none(), "the others wait");
    let numbers = metrics(&harness).await;
    let shed = numbers.sum("shed_total", &[("reason", "caller_full")]);
    let waiting = numbers.sum("budget_waiting", &[]);
    assert_eq!((shed, waiting), (7.0, 51.0), "{}", numbers.text);
}

#[tokio::test]
async fn of_all_callers_five_hundred_wait() {
    let limiter = LimiterOptions {
        limit: 1200,
        ..LimiterOptions::default()
    };
    let setup = (0..11).fold(limited_to(limiter), |setup, number| {
        caller(setup, &format!("c{number}"), "service")
    });
    let harness = patient(setup).await;
    let mut tasks = JoinSet::new();
    for number in 0..11 {
        ask(&harness, &mut tasks, &format!("c{number}"), 48).await;
    }
    refused(&mut tasks, 28).await;
    harness.settle().await;
    assert!(tasks.try_join_next().is_none(), "the others wait");
    let numbers = metrics(&harness).await;
    let shed = numbers.sum("shed_total", &[("reason", "queue_full")]);
    let waiting = numbers.sum("budget_waiting", &[]);
    assert_eq!((shed, waiting), (28.0, 500.0), "{}", numbers.text);
}

#[tokio::test]
async fn who_demands_more_waits_behind_its_own_demands_and_holds_up_nobody_else() {
    let setup = caller(
        caller(limited(), "picky", "interactive"),
        "desk",
        "interactive",
    );
    let setup = setup.config("workspaces.default.budget.max_wait = \"60s\"");
    let harness = setup.start().await;
    let (picky, desk) = (authorization("picky"), authorization("desk"));
    let mut client = harness.client().await;
    for number in 1..=9 {
        let id = format!("user_{number}");
        harness.known(&mut client, &id, &desk).await;
    }
    harness.pass(200);
    let spent = harness.spend(&picky).await + 9;
    let mut waiting = Vec::new();
    for number in 1..=8 {
        let target = Harness::path(&format!("user_{number}"));
        let headers = [("authorization", &*picky), ("cache-control", "no-cache")];
        waiting.push(harness.asking(&target, &headers).await);
    }
    harness.settle().await;
    let target = Harness::path("user_9");
    let headers = [("authorization", &*desk), ("cache-control", "no-cache")];
    let mut wire = harness.asking(&target, &headers).await;
    harness.settle().await;
    harness.until_arrivals(spent as u64 + 1).await;
    if !wire.has_answer().await {
        harness.until_arrivals(spent as u64 + 2).await;
    }
    let forwards = harness.targets();
    let at = forwards.iter().rposition(|forward| *forward == target);
    assert!(at.is_some_and(|at| at < spent + 2), "{forwards:?}");
    assert_eq!(wire.answer().await.status, 200);
}

#[tokio::test]
async fn a_refresh_takes_nothing_of_what_is_kept_for_those_who_wait() {
    let limiter = LimiterOptions {
        limit: 10,
        ..LimiterOptions::default()
    };
    let setup = limited_to(limiter).config("workspaces.default.budget.reserve = 0.5");
    let harness = setup.start().await;
    let known = Harness::path("user_1");
    harness.get(&known).await;
    harness.pass(70);
    for number in 0..6 {
        assert_eq!(harness.get(&apart(number)).await.status, 200);
    }
    let stale = harness.get(&known).await;
    assert_eq!(stale.cache_status(), "hit; ttl=-10; detail=budget");
    let headers = [AT_ONCE, ("cache-control", "no-cache")];
    let answer = harness.get_with(&known, &headers).await;
    let asked = "fwd=stale; fwd-status=200; stored";
    assert_eq!(answer.cache_status(), asked, "four are left");
    assert_eq!(harness.forwards(), 8);
}
