//! One fetch per person at a time, whoever starts it and however it ends.

use std::time::{Duration, Instant};

use flameup_gateway::sandbox::{Fault, FaultKind, Matcher};

use crate::support::budgets::{AT_ONCE, authorization, caller, limited};
use crate::support::metrics::metrics;
use crate::support::{H2, Harness, Response, Setup, Wire, status, within};

const STORED: &str = "fwd=uri-miss; fwd-status=200; stored";
const COLLAPSED: &str = "fwd=uri-miss; collapsed";

fn path(number: usize) -> String {
    Harness::path(&format!("user_{number}"))
}

/// That many clients, each with a request for `target` on its way.
async fn clients(harness: &Harness, count: usize, target: &str) -> Vec<Wire> {
    let mut clients = Vec::with_capacity(count);
    for _ in 0..count {
        let mut client = Wire::connect(harness.address()).await;
        client.ask(target).await;
        clients.push(client);
    }
    clients
}

async fn asking(harness: &Harness, target: &str) -> Wire {
    clients(harness, 1, target).await.pop().expect("one client")
}

#[tokio::test]
async fn two_hundred_clients_of_a_cold_person_cost_one_forward() {
    let harness = Harness::start().await;
    let hold = harness.hold("user_1");
    let mut all = clients(&harness, 200, "/api/v1/people/user_1").await;
    assert!(hold.arrived(1).await);
    harness.settle().await;
    assert_eq!(harness.forwards(), 1);
    hold.release();

    let body = harness.body("user_1");
    let mut statuses = Vec::new();
    for client in &mut all {
        let answer = client.answer().await;
        answer.assert_flameups(200, &body);
        statuses.push(answer.cache_status().to_owned());
    }
    assert_eq!(
        statuses.iter().filter(|status| *status == STORED).count(),
        1
    );
    assert_eq!(
        statuses
            .iter()
            .filter(|status| *status == COLLAPSED)
            .count(),
        199
    );
    assert_eq!(harness.forwards(), 1);
}

#[tokio::test]
async fn a_fetch_survives_the_caller_that_started_it() {
    let harness = Harness::start().await;
    let hold = harness.hold("user_1");
    let first = asking(&harness, "/api/v1/people/user_1").await;
    assert!(hold.arrived(1).await);
    let mut others = clients(&harness, 199, "/api/v1/people/user_1").await;
    harness.settle().await;
    drop(first);
    harness.settle().await;
    hold.release();
    for client in &mut others {
        let answer = client.answer().await;
        answer.assert_flameups(200, &harness.body("user_1"));
        assert_eq!(answer.cache_status(), COLLAPSED);
    }
    assert_eq!(harness.forwards(), 1);
}

#[tokio::test]
async fn a_fetch_that_nobody_waits_for_any_longer_is_stored() {
    let harness = Harness::start().await;
    let hold = harness.hold("user_1");
    let only = asking(&harness, "/api/v1/people/user_1").await;
    assert!(hold.arrived(1).await);
    drop(only);
    harness.settle().await;
    let mut next = asking(&harness, "/api/v1/people/user_1").await;
    harness.settle().await;
    hold.release();
    assert_eq!(next.answer().await.cache_status(), COLLAPSED);
    assert!(
        harness
            .get("/api/v1/people/user_1")
            .await
            .cache_status()
            .starts_with("hit")
    );
    assert_eq!(harness.forwards(), 1);
}

#[tokio::test]
async fn an_error_goes_only_to_those_who_wait_at_that_moment() {
    let harness = Harness::start().await;
    let hold = harness.hold("user_1");
    harness.flameup.fault(Fault::new(FaultKind::Html200).once());
    let mut waiting = clients(&harness, 5, "/api/v1/people/user_1").await;
    assert!(hold.arrived(1).await);
    harness.settle().await;
    hold.release();
    for client in &mut waiting {
        client.answer().await.assert_own(502, "http_protocol_error");
    }
    assert_eq!(harness.forwards(), 1);
    let next = harness.get("/api/v1/people/user_1").await;
    next.assert_flameups(200, &harness.body("user_1"));
    assert_eq!(next.cache_status(), STORED);
}

#[tokio::test]
async fn a_stalled_fetch_is_replaced_once_and_its_late_landing_disturbs_nothing() {
    let harness = Setup::new()
        .config("upstream.timeout = \"15s\"")
        .start()
        .await;
    let email = harness.flameup.people().email("user_1").expect("an e-mail");
    let (shouted, plain) = (Harness::path(&email.to_uppercase()), Harness::path(&email));
    let hold = harness.hold(&email.to_uppercase()); // Only this spelling is held.
    let mut stalled = asking(&harness, &shouted).await;
    assert!(hold.arrived(1).await);
    let old = harness.body("user_1");
    let new = harness
        .flameup
        .people()
        .set("user_1", "name", "Somebody Else");
    assert_ne!(old, new);

    harness.pass(7);
    let mut patient = asking(&harness, &plain).await;
    harness.settle().await;
    assert_eq!(harness.forwards(), 1, "not stalled yet");
    harness.pass(1);
    let replaced = harness.get(&plain).await;
    replaced.assert_flameups(200, &new);
    patient.answer().await.assert_flameups(200, &new);
    stalled.answer().await.assert_flameups(200, &new);
    assert_eq!(harness.forwards(), 2);

    hold.release();
    within(async {
        while harness.flameup.received()[0].status.is_none() {
            harness.settle().await;
        }
    })
    .await;
    harness.settle().await;
    let after = harness.get(&plain).await;
    after.assert_flameups(200, &new);
    assert!(after.cache_status().starts_with("hit; ttl="), "{after:?}");
    assert_eq!(harness.forwards(), 2);
}

#[tokio::test]
async fn a_stalled_fetch_is_not_replaced_twice() {
    let harness = Setup::new()
        .config("upstream.timeout = \"15s\"")
        .start()
        .await;
    let hold = harness.hold("user_1");
    let mut all = Vec::new();
    for _ in 0..4 {
        all.push(asking(&harness, "/api/v1/people/user_1").await);
        harness.settle().await;
        harness.pass(8);
    }
    assert!(hold.arrived(2).await);
    harness.settle().await;
    assert_eq!(harness.forwards(), 2);
    hold.release_one(); // The stalled one lands after all.
    for client in &mut all {
        client
            .answer()
            .await
            .assert_flameups(200, &harness.body("user_1"));
    }
}

#[tokio::test]
async fn every_waiter_has_its_answer_by_its_own_deadline() {
    let limits = "upstream.timeout = \"300ms\"\nupstream.connect_timeout = \"300ms\"";
    let harness = Setup::new().config(limits).start().await;
    let hold = harness.hold("user_1");
    let started = Instant::now();
    let mut all = clients(&harness, 3, "/api/v1/people/user_1").await;
    assert!(hold.arrived(1).await);
    harness.pass(1); // Stalled: the next one starts a second fetch, which the first must not wait for.
    all.push(asking(&harness, "/api/v1/people/user_1").await);
    for client in &mut all {
        client
            .answer()
            .await
            .assert_own(504, "http_response_timeout");
    }
    assert!(
        started.elapsed() < Duration::from_secs(3),
        "{:?}",
        started.elapsed()
    );
    drop(hold);
    harness
        .get("/api/v1/people/user_1")
        .await
        .assert_flameups(200, &harness.body("user_1"));
}

#[tokio::test]
async fn more_than_a_thousand_waiters_for_one_person_are_told_to_come_back() {
    let harness = Setup::new()
        .config("server.limits.h2_streams = 2000")
        .start()
        .await;
    let hold = harness.hold("user_1");
    let h2 = H2::connect(harness.address()).await;
    h2.clone().get("/settle").await; // By now the client knows how many streams it may open.
    let mut answers = tokio::task::JoinSet::new();
    for _ in 0..1001 {
        let mut client = h2.clone();
        answers.spawn(async move { client.get("/api/v1/people/user_1").await });
    }
    let mut next = async || {
        within(answers.join_next())
            .await
            .expect("one more")
            .expect("no panic")
    };
    let refused: Response = next().await;
    refused.assert_own(503, "connection_limit_reached");
    assert_eq!(refused.header("retry-after"), "1");
    harness
        .get("/api/v1/people/user_2")
        .await
        .assert_flameups(200, &harness.body("user_2"));
    assert!(hold.arrived(1).await);
    hold.release();
    for _ in 0..1000 {
        assert_eq!(next().await.status, 200);
    }
    assert_eq!(harness.forwards(), 2);
}

#[tokio::test]
async fn different_people_do_not_wait_for_each_other() {
    let harness = Harness::start().await;
    let hold = harness.hold("user_1");
    let mut waiting = asking(&harness, "/api/v1/people/user_1").await;
    assert!(hold.arrived(1).await);
    for id in ["user_2", "user_3", "User_1"] {
        let answer = harness.get(&Harness::path(id)).await;
        assert_ne!(answer.cache_status(), COLLAPSED, "{id}");
    }
    hold.release();
    assert_eq!(waiting.answer().await.cache_status(), STORED);
}

#[tokio::test]
async fn spellings_of_an_email_share_one_fetch() {
    let harness = Harness::start().await;
    let email = harness.flameup.people().email("user_1").expect("an e-mail");
    let hold = harness.flameup.hold(Matcher::any());
    let mut all = Vec::new();
    for spelling in [
        email.clone(),
        email.to_uppercase(),
        email.replace('@', "%40"),
    ] {
        all.push(asking(&harness, &Harness::path(&spelling)).await);
    }
    assert!(hold.arrived(1).await);
    harness.settle().await;
    hold.release();
    for client in &mut all {
        client
            .answer()
            .await
            .assert_flameups(200, &harness.body("user_1"));
    }
    assert_eq!(harness.forwards(), 1);
}

#[tokio::test]
async fn a_404_of_one_spelling_is_not_shared_with_another() {
    let sensitive = |mut options: flameup_gateway::sandbox::Options| {
        options.email_case_sensitive = true;
        options
    };
    let harness = Setup::new().sandbox(sensitive).start().await;
    let email = harness.flameup.people().email("user_1").expect("an e-mail");
    let hold = harness.flameup.hold(Matcher::any());
    let (shouted, plain) = (Harness::path(&email.to_uppercase()), Harness::path(&email));
    let mut wrong = asking(&harness, &shouted).await;
    assert!(hold.arrived(1).await);
    let mut right = asking(&harness, &plain).await;
    let mut wrong_too = asking(&harness, &shouted).await;
    harness.settle().await;
    assert_eq!(harness.forwards(), 1, "they collapse");
    hold.release();
    assert_eq!(wrong.answer().await.status, 404);
    assert_eq!(wrong_too.answer().await.status, 404);
    right
        .answer()
        .await
        .assert_flameups(200, &harness.body("user_1"));
    assert_eq!(harness.forwards(), 2, "each spelling is asked for once");
}

#[tokio::test]
async fn a_fetch_begun_earlier_does_not_satisfy_no_cache() {
    let harness = Harness::start().await;
    let hold = harness.hold("user_1");
    let mut content = asking(&harness, "/api/v1/people/user_1").await;
    assert!(hold.arrived(1).await);
    let old = harness.body("user_1");
    let new = harness.flameup.people().set("user_1", "name", "New Name");
    assert_ne!(old, new);

    harness.pass(1);
    let demands = [("cache-control", "no-cache")];
    let (demanding, ()) =
        tokio::join!(harness.get_with("/api/v1/people/user_1", &demands), async {
            harness.settle().await;
            assert_eq!(harness.forwards(), 1, "they collapse at first");
            hold.release();
        });
    content.answer().await.assert_flameups(200, &old);
    demanding.assert_flameups(200, &new);
    assert_eq!(demanding.cache_status(), STORED);
    assert_eq!(harness.forwards(), 2);
}

#[tokio::test]
async fn who_waits_already_replaces_a_fetch_that_stalls() {
    let harness = Setup::new()
        .config("upstream.timeout = \"2s\"")
        .start()
        .await;
    harness.flameup.fault(Fault::new(FaultKind::Hang).once());
    let mut only = asking(&harness, "/api/v1/people/user_1").await;
    within(async {
        while harness.forwards() == 0 {
            harness.settle().await;
        }
    })
    .await;
    harness.pass(1); // Stalled, and nobody else comes to find that out.
    let answer = only.answer().await;
    answer.assert_flameups(200, &harness.body("user_1"));
    assert_eq!(harness.forwards(), 2);
}

#[tokio::test]
async fn what_grew_too_old_while_it_was_waited_for_is_asked_for_anew() {
    let harness = Harness::start().await;
    let hold = harness.hold("user_1");
    let mut content = asking(&harness, "/api/v1/people/user_1").await;
    assert!(hold.arrived(1).await);
    harness.pass(1);
    let demands = [("cache-control", "max-age=1")];
    let (demanding, ()) =
        tokio::join!(harness.get_with("/api/v1/people/user_1", &demands), async {
            harness.settle().await;
            harness.pass(1);
            hold.release();
        });
    content.answer().await;
    demanding.assert_flameups(200, &harness.body("user_1"));
    assert_eq!(demanding.cache_status(), STORED);
    assert_eq!(harness.forwards(), 2);
}

#[tokio::test]
async fn nobody_waits_for_anothers_turn_longer_than_it_said() {
    let harness = limited().start().await;
    let sent = harness.spend("").await;
    let mut leader = harness.asking(&path(500), &[]).await;
    harness.settle().await;
    // The clock stands still: no turn comes.
    let refused = harness.get_with(&path(500), &[AT_ONCE]).await;
    refused.assert_own(429, "http_request_denied");
    assert!(refused.retry_after() >= 1, "{refused:?}");
    harness.until_arrivals(sent as u64 + 1).await;
    assert_eq!(leader.answer().await.status, 200);
}

#[tokio::test]
async fn a_refusal_is_heard_by_all_of_its_caller_and_asked_for_once() {
    let long = "workspaces.default.budget.max_wait = \"20s\"";
    let harness = limited().config(long).start().await;
    let over = Fault::new(status(429)).on(Matcher::id("user_1"));
    harness.flameup.fault(over.once());
    let hold = harness.hold("user_1");
    let _over = harness.asking(&path(1), &[AT_ONCE]).await;
    assert!(hold.arrived(1).await);
    let sent = harness.spend("").await;
    let mut waiting = Vec::new();
    for _ in 0..8 {
        waiting.push(harness.asking(&path(500), &[]).await);
    }
    harness.settle().await;
    let shed = async || metrics(&harness).await.sum("shed_total", &[]);
    let before = shed().await;
    hold.release();
    for wire in &mut waiting {
        assert_eq!(wire.answer().await.status, 429);
    }
    // That of the one attempt, and that of whoever drew the 429 and wanted another turn.
    assert!(shed().await <= before + 2.0, "{} {}", shed().await, before);
    assert_eq!(harness.forwards(), sent + 1);
}

#[tokio::test]
async fn whoever_waits_as_urgently_has_a_turn_of_its_own() {
    let setup = caller(caller(limited(), "busy", "service"), "desk", "service");
    let long = "workspaces.default.budget.max_wait = \"60s\"";
    let harness = setup.config(long).start().await;
    let (busy, desk) = (authorization("busy"), authorization("desk"));
    let sent = harness.spend(&busy).await as u64;
    let mut lines = Vec::new();
    for number in 500..510 {
        let headers = [("authorization", &*busy)];
        lines.push(harness.asking(&path(number), &headers).await);
        harness.settle().await;
    }
    let headers = [("authorization", &*desk)];
    let mut wire = harness.asking(&path(509), &headers).await;
    harness.settle().await;
    harness.until_arrivals(sent + 3).await;
    assert!(
        harness.targets().contains(&path(509)),
        "{:?}",
        harness.targets()
    );
    assert_eq!(wire.answer().await.status, 200);
    harness.until_waiting(0).await;
    for wire in &mut lines {
        assert_eq!(wire.answer().await.status, 200);
    }
    let arrived = harness
        .targets()
        .into_iter()
        .filter(|target| *target == path(509));
    assert_eq!(arrived.count(), 1);
}
