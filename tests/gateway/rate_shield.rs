//! Flameup's limit is never overdrawn, and what there is of it goes to those who need it most.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use flameup_gateway::sandbox::LimiterOptions;
use flameup_gateway::sandbox::limiter::Kind;
use http::HeaderMap;
use tokio::task::JoinSet;

use crate::support::budgets::{AT_ONCE, authorization, caller, limited, limited_to};
use crate::support::metrics::metrics;
use crate::support::{H2, Harness, Response};

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

/// As many lookups as there are turns for, through eight windows. Endings come in whole seconds, so
/// that only windows much longer than that prove their kind, and what follows is spent by its rules.
async fn spend_eight_windows(harness: &Harness) {
    let mut client = harness.client().await;
    let mut number = 0;
    for _ in 0..8 * 60 {
        for _ in 0..3 {
            let answer = client.send("GET", &cold(number), &[AT_ONCE]).await;
            number += 1;
            if answer.status != 200 {
                assert_eq!(answer.status, 429, "{answer:?}");
                break;
            }
        }
        assert_eq!(harness.flameup.limiter().refused, 0);
        harness.pass(1);
    }
}

/// A limit of this kind, by clocks five minutes apart either way, is found out, used to that many
/// hundredths and never overdrawn.
async fn assert_never_overdrawn(kind: Kind, word: &str, percent: u64) {
    for skew in [-300, 0, 300] {
        let limiter = LimiterOptions {
            kind,
            skew_s: skew.into(),
            limit: 60,
            ..LimiterOptions::default()
        };
        let harness = limited_to(limiter).start().await;
        spend_eight_windows(&harness).await;
        let state = harness.flameup.limiter();
        let least = 8 * 60 * percent / 100;
        assert!(state.counted >= least, "{skew}: {state:?}");
        let numbers = metrics(&harness).await;
        let found = numbers.sum("budget_window", &[("kind", word)]);
        let seen = numbers.sum("budget_skew_seconds", &[]);
        let expected = (1.0, f64::from(skew));
        assert_eq!((found, seen), expected, "{}", numbers.text);
    }
}

#[tokio::test]
async fn a_fixed_window_draws_no_429_whatever_the_clocks_say() {
    assert_never_overdrawn(Kind::Fixed, "fixed", 95).await;
}

#[tokio::test]
async fn a_sliding_window_draws_no_429_whatever_the_clocks_say() {
    assert_never_overdrawn(Kind::Sliding, "sliding", 90).await;
}

#[tokio::test]
async fn a_bucket_draws_no_429_whatever_the_clocks_say() {
    assert_never_overdrawn(Kind::Bucket, "bucket", 95).await;
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

/// Takes nothing stale, so that it waits for its turn.
const FRESH: (&str, &str) = ("cache-control", "stale-if-error=0");

/// Sixteen requests a minute, of which `nightly` has spent ten; the next come four seconds apart.
/// Everybody asked for is known, so that callers are set apart by their class alone. Also says how
/// many requests have arrived.
async fn scarce() -> (Harness, u64) {
    let limiter = LimiterOptions {
        limit: 16,
        ..LimiterOptions::default()
    };
    let setup = limited_to(limiter).config("workspaces.default.budget.max_wait = \"60s\"");
    let setup = caller(caller(setup, "desk", "interactive"), "nightly", "batch");
    let harness = setup.start().await;
    let nightly = authorization("nightly");
    let mut client = harness.client().await;
    for number in 1..=5 {
        let id = format!("user_{number}");
        harness.known(&mut client, &id, &nightly).await;
        harness.pass(20);
    }
    harness.pass(400); // Past revalidation in the background.
    let headers = [AT_ONCE, ("authorization", &*nightly)];
    // No more than the burst: who is refused is promised a turn, and newcomers stand back for it.
    for number in 0..10 {
        let target = cold(0) + &format!("?n={number}");
        let answer = client.send("GET", &target, &headers).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let arrived = harness.flameup.arrivals();
    (harness, arrived)
}

#[tokio::test]
async fn whoever_looks_at_a_screen_goes_before_batch_that_asked_first() {
    let (harness, spent) = scarce().await;
    let mut all = Vec::new();
    for (name, people) in [("nightly", 0..3), ("desk", 3..5)] {
        let authorization = authorization(name);
        for number in people {
            let headers = [FRESH, ("authorization", &*authorization)];
            all.push(harness.asking(&cold(number), &headers).await);
        }
        harness.settle().await;
    }
    harness.until_arrivals(spent + 2).await;
    let first = harness
        .targets()
        .split_off(usize::try_from(spent).expect("a few"));
    assert_eq!(first, [cold(3), cold(4)]);
    harness.until_arrivals(spent + 5).await;
    for wire in &mut all {
        assert_eq!(wire.answer().await.status, 200);
    }
}

#[tokio::test]
async fn whoever_looks_at_a_screen_overtakes_a_batch_jobs_fetch_of_the_same_person() {
    let (harness, spent) = scarce().await;
    let (desk, nightly) = (authorization("desk"), authorization("nightly"));
    let nightly = [FRESH, ("authorization", &*nightly)];
    let mut other = harness.asking(&cold(0), &nightly).await;
    let mut batch = harness.asking(&cold(1), &nightly).await;
    harness.settle().await;
    let headers = [FRESH, ("authorization", &*desk)];
    let mut urgent = harness.asking(&cold(1), &headers).await;
    harness.settle().await;
    harness.until_arrivals(spent + 1).await;
    assert_eq!(harness.targets().pop(), Some(cold(1)));
    for wire in [&mut urgent, &mut batch] {
        let answer = wire.answer().await;
        answer.assert_flameups(200, &harness.body("user_2"));
        assert!(answer.cache_status().starts_with("fwd=stale"), "{answer:?}");
    }
    harness.until_arrivals(spent + 2).await;
    assert_eq!(other.answer().await.status, 200);
    // The batch job's own turn comes as well, and is not used: what it was for has landed.
    harness.until_waiting(0).await;
    harness.settle().await;
    let mut forwards = harness
        .targets()
        .split_off(usize::try_from(spent).expect("a few"));
    forwards.sort();
    assert_eq!(forwards, [cold(0), cold(1)]);
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
        assert_eq!(harness.flameup.limiter().refused, 0);
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
