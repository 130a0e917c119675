//! What one gateway changes, all of them have changed before the call returns, or it says who has not.

use std::time::Duration;

use flameup_gateway::sandbox::Matcher;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::client::Response;
use crate::servers::redis::Redis;
use crate::support::Fleet;
use crate::support::fleet::Replica;

const USER: &str = "user_1";

fn is_confirmed(response: &Response) -> bool {
    assert_eq!(response.status, StatusCode::OK, "{response:?}");
    let status = response.headers["cache-status"].to_str().expect("text");
    !status.contains("unconfirmed")
}

fn confirmed(answer: &Value) -> Vec<bool> {
    let replicas = answer["replicas"].as_array().expect("replicas");
    let word = |replica: &Value| replica["confirmed"].as_bool().expect("a word");
    replicas.iter().map(word).collect()
}

#[tokio::test]
async fn a_write_through_one_gateway_is_seen_through_the_others_at_once() {
    let fleet = Fleet::of(3).await;
    let [a, b, c] = &fleet.replicas[..] else {
        unreachable!("there are three")
    };
    for name in ["Zenobia", "Yolanda", "Xanthe"] {
        for replica in [a, b, c] {
            replica.remember(USER).await;
            assert_ne!(replica.name(USER).await, name);
        }
        assert!(is_confirmed(&a.rename(USER, name).await));
        for replica in [b, c, a] {
            assert_eq!(replica.name(USER).await, name);
        }
    }
}

#[tokio::test]
async fn a_fetch_in_flight_at_another_gateway_is_not_stored_after_a_write() {
    let fleet = Fleet::of(2).await;
    let [a, b] = &fleet.replicas[..] else {
        unreachable!("there are two")
    };
    // Past the first moments, in which nothing is stored.
    b.remember("user_2").await;
    let hold = fleet
        .flameup
        .hold(Matcher::method(http::Method::GET).with_id(USER));
    let fetch = b.get(USER);
    let write = async {
        assert!(hold.arrived(1).await);
        assert!(is_confirmed(&a.rename(USER, "Zenobia").await));
        hold.release();
    };
    let (before, ()) = tokio::join!(fetch, write);
    assert_eq!(before.status, StatusCode::OK);
    for replica in [b, a] {
        assert_eq!(replica.name(USER).await, "Zenobia");
    }
}

#[tokio::test]
async fn a_purge_reaches_all_gateways_and_says_so() {
    let fleet = Fleet::of(3).await;
    let [a, b, c] = &fleet.replicas[..] else {
        unreachable!("there are three")
    };
    b.remember(USER).await;
    c.remember(USER).await;
    // Behind the gateways' back.
    fleet.flameup.people().set(USER, "first_name", "Zenobia");
    let email = fleet.flameup.people().email(USER).expect("an e-mail");
    assert_ne!(b.name(USER).await, "Zenobia");
    let purged = a.operate("/v1/purge", json!({ "id": email })).await;
    assert_eq!(confirmed(&purged), [true, true], "{purged}");
    assert_eq!(
        purged["tiers"][0],
        json!({ "tier": "redis", "confirmed": true })
    );
    for replica in [b, c] {
        assert_eq!(replica.name(USER).await, "Zenobia");
    }
}

#[tokio::test]
async fn an_erasure_reaches_all_gateways_and_those_that_join_later() {
    let mut fleet = Fleet::of(2).await;
    let [a, b] = &fleet.replicas[..] else {
        unreachable!("there are two")
    };
    b.remember(USER).await;
    let email = fleet.flameup.people().email(USER).expect("an e-mail");
    let receipt = a.operate("/v1/erase", json!({ "id": USER })).await;
    assert_eq!(confirmed(&receipt), [true], "{receipt}");
    for tier in receipt["tiers"].as_array().expect("tiers") {
        assert_eq!(tier["confirmed"], true, "{receipt}");
    }
    assert_eq!(receipt["tiers"].as_array().map(Vec::len), Some(2));
    // Who joins later than the log reaches back.
    let log = fleet.redis.key(":log");
    fleet.redis.command::<u32>(&format!("XTRIM {log} MAXLEN 0"));
    fleet.join().await;
    // Past the first moments, in which nothing is stored of anybody.
    for replica in &fleet.replicas {
        replica.remember("user_2").await;
    }
    for replica in &fleet.replicas {
        for name in [USER, &email] {
            for _ in 0..2 {
                let answer = replica.get(name).await;
                let status = answer.headers["cache-status"].to_str().expect("text");
                assert!(
                    !status.contains("hit") && !status.contains("stored"),
                    "{status}"
                );
            }
        }
    }
}

/// Has a gateway ask Flameup for a person anew.
async fn refreshed(replica: &Replica, user: &str) {
    let answer = replica.get_anew(user).await;
    let status = answer.headers["cache-status"].to_str().expect("text");
    assert!(status.contains("stored"), "{status}");
}

#[tokio::test]
async fn whoever_has_a_name_that_two_claim_is_erased_by_it() {
    let fleet = Fleet::of(2).await;
    // The other one remembers nobody.
    let [a, b] = &fleet.replicas[..] else {
        unreachable!("there are two")
    };
    let people = fleet.flameup.people();
    let email = people.email(USER).expect("an e-mail");
    let now_of = |user: &str, email: &str| {
        let fields = json!({ "email": email });
        people.upsert(user, fields.as_object().expect("fields"));
    };
    a.get(USER).await;
    fleet.redis.holds("p", 1).await;
    // Nobody tells the gateway of that.
    now_of(USER, "moved@example.test");
    now_of("user_2", &email);
    a.get("user_2").await;
    fleet.redis.holds("p", 2).await;
    // Whoever is stored again is found by it for as long.
    let (list, _) = fleet.redis.all("d").remove(0);
    fleet.redis.command::<()>(&format!("PEXPIRE {list} 60000"));
    let left_ms = |key: &str| fleet.redis.command::<i64>(&format!("PTTL {key}"));
    let until = Instant::now() + Duration::from_secs(10);
    // A write may be dropped where the machine has much else to do.
    while left_ms(&list) <= 60_000 {
        assert!(Instant::now() < until, "the list is gone before the people");
        refreshed(a, "user_2").await;
        sleep(Duration::from_millis(20)).await;
    }
    let receipt = b.operate("/v1/erase", json!({ "id": email })).await;
    assert_eq!(receipt["tiers"][1]["confirmed"], true, "{receipt}");
    for kind in ["p", "d"] {
        assert_eq!(fleet.redis.all(kind).len(), 0, "of {kind}");
    }
}

/// The script alone: Redis has no other clock.
#[test]
fn what_was_told_long_ago_stands_nowhere_and_the_log_goes_on_from_there() {
    let redis = Redis::start();
    let script = redis::Script::new(include_str!("../../src/tier/scripts/beat.lua"));
    let mut connection = redis.connect();
    let mut beat = || {
        let mut call = script.prepare_invoke();
        call.key("{t}r").key("{t}log").key("{t}life").arg("replica");
        call.arg("0".repeat(32)).arg("life").arg(60_000).arg(60_000);
        let said: (u64, String, String, Vec<String>, String) =
            call.invoke(&mut connection).expect("said");
        (said.1, said.4)
    };
    let nothing = "0".repeat(32);
    assert_eq!(beat(), (nothing.clone(), nothing.clone()), "an empty log");
    let long_ago = format!("{:016x}{:016x}", 2_000, 1);
    redis.command::<String>(&format!("XADD {{t}}log 1000-1 m first p {nothing}"));
    redis.command::<String>(&format!("XADD {{t}}log 2000-1 m second p {nothing}"));
    assert_eq!(beat(), (long_ago.clone(), long_ago.clone()));
    assert_eq!(redis.command::<u32>("XLEN {t}log"), 0);
    redis.command::<String>(&format!("XADD {{t}}log * m third p {long_ago}"));
    let (last, begins) = beat();
    assert!(last > long_ago, "{last}");
    assert_eq!(begins, long_ago);
}

#[tokio::test]
async fn who_does_not_hear_is_named_and_serves_nothing_old_once_it_hears_again() {
    let fleet = Fleet::of(2).await;
    let [a, b] = &fleet.replicas[..] else {
        unreachable!("there are two")
    };
    b.remember(USER).await;
    b.way.cut();
    b.comes_to("suspect", 1).await;
    let renamed = a.rename(USER, "Zenobia").await;
    assert!(!is_confirmed(&renamed));
    let named = &renamed.headers["flameup-gateway-unconfirmed"];
    let purged = a.operate("/v1/purge", json!({ "id": "user_2" })).await;
    assert_eq!(confirmed(&purged), [false], "{purged}");
    assert_eq!(
        purged["replicas"][0]["replica"],
        *named.to_str().expect("text")
    );
    assert!(a.shows("unconfirmed_total").await >= Some(2.0));
    b.way.mend();
    b.comes_to("suspect", 0).await;
    assert_eq!(b.name(USER).await, "Zenobia");
    assert_eq!(b.shows("log_lost_total").await, Some(0.0));
    assert!(is_confirmed(&a.rename(USER, "Yolanda").await));
    assert_eq!(b.name(USER).await, "Yolanda");
}

#[tokio::test]
async fn the_status_says_how_a_gateway_stands_to_the_others() {
    let fleet = Fleet::of(2).await;
    let [a, b] = &fleet.replicas[..] else {
        unreachable!("there are two")
    };
    let status = a.status().await;
    let shared = &status["redis"]["workspaces"][0];
    assert_eq!(status["redis"]["reached"], true, "{status}");
    assert_eq!(shared["suspect"], false, "{status}");
    assert_eq!(shared["replicas"].as_array().map(Vec::len), Some(1));
    b.way.cut();
    b.comes_to("suspect", 1).await;
    assert_eq!(b.status().await["redis"]["workspaces"][0]["suspect"], true);
}

#[tokio::test]
async fn who_has_missed_too_much_believes_nobody_in_memory() {
    let fleet = Fleet::of(2).await;
    let [a, b] = &fleet.replicas[..] else {
        unreachable!("there are two")
    };
    b.remember(USER).await;
    b.way.cut();
    b.comes_to("suspect", 1).await;
    assert!(!is_confirmed(&a.rename(USER, "Zenobia").await));
    a.rename("user_2", "Xanthe").await;
    let log = fleet.redis.key(":log");
    fleet.redis.command::<u32>(&format!("XTRIM {log} MAXLEN 1"));
    b.way.mend();
    b.comes_to("suspect", 0).await;
    assert_eq!(b.name(USER).await, "Zenobia");
    assert!(b.shows("log_lost_total").await >= Some(1.0));
}

#[tokio::test]
async fn nobody_in_memory_is_believed_after_redis_has_lost_everything() {
    let mut fleet = Fleet::of(2).await;
    fleet.replicas[1].remember(USER).await;
    fleet.replicas[1].way.cut();
    fleet.replicas[1].comes_to("suspect", 1).await;
    assert!(!is_confirmed(
        &fleet.replicas[0].rename(USER, "Zenobia").await
    ));
    fleet.redis.restart();
    let b = &fleet.replicas[1];
    b.way.mend();
    b.comes_to("suspect", 0).await;
    assert_eq!(b.name(USER).await, "Zenobia");
    assert!(b.shows("log_lost_total").await >= Some(1.0));
}

#[tokio::test]
async fn who_vanishes_in_mid_write_leaves_nothing_old_at_the_others() {
    let fleet = Fleet::of(2).await;
    let [a, b] = &fleet.replicas[..] else {
        unreachable!("there are two")
    };
    b.remember(USER).await;
    // Held once Flameup has made the change.
    let hold = fleet
        .flameup
        .hold(Matcher::method(http::Method::PUT).with_id(USER));
    let write = a.rename(USER, "Zenobia");
    let look = async {
        assert!(hold.arrived(1).await);
        a.way.cut();
        assert_eq!(b.name(USER).await, "Zenobia");
        hold.release();
    };
    let (written, ()) = tokio::join!(write, look);
    assert!(!is_confirmed(&written));
    assert_eq!(b.name(USER).await, "Zenobia");
}

#[tokio::test]
async fn writes_go_on_without_redis_and_say_so_without_waiting() {
    let mut fleet = Fleet::of(2).await;
    fleet.redis.kill();
    let a = &fleet.replicas[0];
    a.comes_to("suspect", 1).await;
    let began = Instant::now();
    assert!(!is_confirmed(&a.rename(USER, "Zenobia").await));
    assert!(began.elapsed() < Duration::from_secs(1));
    assert_eq!(a.name(USER).await, "Zenobia");
    let purged = a.operate("/v1/purge", json!({ "id": USER })).await;
    assert_eq!(confirmed(&purged), [false], "{purged}");
    assert_eq!(purged["tiers"][0]["confirmed"], false);
}

#[tokio::test]
async fn who_leaves_is_waited_for_no_longer() {
    let mut fleet = Fleet::of(2).await;
    fleet.replicas.pop().expect("there are two").drain().await;
    let a = &fleet.replicas[0];
    assert!(is_confirmed(&a.rename(USER, "Zenobia").await));
    a.comes_to("replicas", 1).await;
}

#[tokio::test]
async fn a_full_redis_is_gone_for_a_while_and_is_told_later_what_it_did_not_take() {
    let fleet = Fleet::of(2).await;
    let [a, b] = &fleet.replicas[..] else {
        unreachable!("there are two")
    };
    b.remember(USER).await;
    fleet.redis.command::<()>("CONFIG SET maxmemory 1");
    let renamed = a.rename(USER, "Zenobia").await;
    assert!(!is_confirmed(&renamed));
    assert_eq!(a.name(USER).await, "Zenobia");
    assert_eq!(a.get("user_2").await.status, StatusCode::OK);
    fleet.redis.command::<()>("CONFIG SET maxmemory 0");
    b.comes_to("suspect", 0).await;
    let until = Instant::now() + Duration::from_secs(10);
    while b.name(USER).await != "Zenobia" {
        assert!(Instant::now() < until, "the change is never heard of");
        sleep(Duration::from_millis(20)).await;
    }
    assert!(is_confirmed(&a.rename(USER, "Xenia").await));
    assert_eq!(b.name(USER).await, "Xenia");
}

#[tokio::test]
async fn of_writes_that_overlap_at_two_gateways_nothing_read_in_between_is_served() {
    let fleet = Fleet::of(3).await;
    let [a, b, c] = &fleet.replicas[..] else {
        unreachable!("there are three")
    };
    c.remember(USER).await;
    let writes = fleet.flameup.hold(Matcher::method(Method::PUT));
    let first = a.rename(USER, "First");
    let second = async {
        assert!(writes.arrived(1).await);
        let second = b.rename(USER, "Second");
        let read = async {
            assert!(writes.arrived(2).await);
            // One of the two ends; the other may take effect at any moment.
            writes.release_one();
            c.get(USER).await;
            writes.release();
        };
        let (second, ()) = tokio::join!(second, read);
        second
    };
    let (first, second) = tokio::join!(first, second);
    assert!(is_confirmed(&first) && is_confirmed(&second));
    let stands = fleet.flameup.people().field(USER, "first_name");
    let stands = stands.expect("a name");
    for replica in [a, b, c] {
        assert_eq!(replica.name(USER).await, stands);
    }
}
