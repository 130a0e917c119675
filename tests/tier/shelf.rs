//! The second tier: what one gateway has fetched is there for all, and nothing else is.

use std::time::{Duration, Instant};

use flameup_gateway::sandbox::Matcher;
use tokio::time::sleep;

use crate::client::Response;
use crate::fleet::{Fleet, until};

const ADA: &str = "/api/v1/people/user_1";
const BOB: &str = "/api/v1/people/user_2";
const NOBODY: &str = "/api/v1/people/nobody";

fn status(answer: &Response) -> &str {
    answer.header("cache-status")
}

fn age(answer: &Response) -> u64 {
    answer.header("age").parse().expect("an age")
}

#[tokio::test]
async fn a_restarted_gateway_finds_a_person_by_each_name_without_asking_flameup() {
    let fleet = Fleet::start().await;
    fleet.gateway().await.get(ADA).await;
    fleet.redis.holds("p", 1).await;
    let people = fleet.flameup.people();
    let email = people.email("user_1").expect("an e-mail").to_uppercase();
    let uuid = people.uuid("user_1").expect("a UUID");
    let by_uuid = format!("/api/v1/workspaces/{}/people/{uuid}", people.workspace());
    for path in [ADA, &format!("/api/v1/people/{email}"), &by_uuid] {
        let answer = fleet.gateway().await.get(path).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.body),
            (200, &fleet.body("user_1")),
            "{path}"
        );
        assert!(
            status(&answer).ends_with("; detail=tier"),
            "{path}: {}",
            status(&answer)
        );
    }
    assert_eq!(fleet.forwards(), 1);
}

#[tokio::test]
async fn an_absence_is_shared_as_long_as_it_is_believed() {
    let fleet = Fleet::with("cache.negative_ttl = \"2s\"").await;
    assert_eq!(fleet.gateway().await.get(NOBODY).await.status, 404);
    fleet.redis.holds("a", 1).await;
    assert_eq!(fleet.gateway().await.get(NOBODY).await.status, 404);
    assert_eq!(fleet.forwards(), 1);
    sleep(Duration::from_secs(2)).await;
    assert_eq!(fleet.gateway().await.get(NOBODY).await.status, 404);
    assert_eq!(fleet.forwards(), 2);
}

#[tokio::test]
async fn a_person_keeps_its_age_on_the_way_to_another_gateway() {
    let fleet = Fleet::with("cache.ttl = \"60s\"\ncache.ttl_jitter = 0.0").await;
    fleet.gateway().await.get(ADA).await;
    fleet.redis.holds("p", 1).await;
    sleep(Duration::from_millis(1100)).await;
    let other = fleet.gateway().await;
    let answer = other.get(ADA).await;
    assert!((1..=3).contains(&age(&answer)), "{}", age(&answer));
    let ttl = |answer: &Response| {
        let ttl = status(answer).split("; ttl=").nth(1).expect("a ttl");
        let digits = ttl.split(';').next().unwrap_or(ttl);
        digits.parse::<u64>().expect("a number")
    };
    assert!((56..=58).contains(&ttl(&answer)), "{}", status(&answer));
    let again = other.get(ADA).await;
    assert!(!status(&again).contains("tier"), "it is in memory now");
    assert!(age(&again) >= age(&answer) && ttl(&again) <= ttl(&answer));
}

#[tokio::test]
async fn clients_that_are_particular_get_what_they_demand() {
    let fleet = Fleet::with("cache.ttl = \"60s\"\ncache.ttl_jitter = 0.0").await;
    let gateway = fleet.gateway().await;
    let unknown = gateway.get_with(ADA, "only-if-cached").await;
    assert_eq!((unknown.status.as_u16(), fleet.forwards()), (504, 0));
    gateway.get(ADA).await;
    fleet.redis.holds("p", 1).await;
    sleep(Duration::from_millis(1100)).await;
    for (directives, forwards) in [
        ("only-if-cached", 1),
        ("max-age=30", 1),
        ("min-fresh=30", 1),
        ("max-age=0", 2),
        ("min-fresh=60", 3),
        ("no-cache", 4),
    ] {
        let answer = fleet.gateway().await.get_with(ADA, directives).await;
        assert_eq!(
            (answer.status.as_u16(), fleet.forwards()),
            (200, forwards),
            "{directives}"
        );
        if forwards > 1 {
            // Each of these has just been fetched anew, which would do for the next.
            sleep(Duration::from_millis(1100)).await;
        }
    }
}

#[tokio::test]
async fn gateways_that_miss_at_once_ask_once() {
    let fleet = Fleet::start().await;
    let (one, other) = (fleet.gateway().await, fleet.gateway().await);
    let hold = fleet.flameup.hold(Matcher::id("user_1"));
    let ask = async {
        until(|| hold.waiting() == 1).await;
        sleep(Duration::from_millis(200)).await;
        hold.release();
    };
    let (first, second, ()) = tokio::join!(one.get(ADA), other.get(ADA), ask);
    assert_eq!(first.body, fleet.body("user_1"));
    assert_eq!(second.body, first.body);
    assert_eq!(fleet.forwards(), 1);
}

#[tokio::test]
async fn who_waits_for_a_gateway_that_died_goes_itself_when_its_lease_has_lapsed() {
    let fleet = Fleet::start().await;
    let one = fleet.gateway().await;
    one.get(ADA).await;
    fleet.redis.holds("p", 1).await;
    // What is left of one that died in mid-fetch: its lease.
    let hold = fleet.flameup.hold(Matcher::id("user_1"));
    fleet.redis.clear();
    let lapsing = async {
        until(|| hold.waiting() == 1).await;
        let (lease, _) = fleet.redis.all("l").pop().expect("a lease");
        let mut set = redis::cmd("SET");
        set.arg(lease).arg("dead:1").arg("PX").arg(600);
        set.exec(&mut fleet.redis.connect()).expect("written");
        let other = fleet.gateway().await;
        let began = Instant::now();
        let release = async {
            until(|| hold.waiting() == 2).await;
            assert!(began.elapsed() >= Duration::from_millis(300));
            hold.release();
        };
        let (answer, ()) = tokio::join!(other.get(ADA), release);
        answer
    };
    let two = fleet.gateway().await;
    let (_, answer) = tokio::join!(two.get(ADA), lapsing);
    assert_eq!(answer.body, fleet.body("user_1"));
}

#[tokio::test]
async fn values_that_were_tampered_with_are_misses() {
    let fleet = Fleet::start().await;
    let gateway = fleet.gateway().await;
    gateway.get(ADA).await;
    gateway.get(BOB).await;
    fleet.redis.holds("p", 2).await;
    let (people, names) = (fleet.redis.all("p"), fleet.redis.all("n"));
    let restore = || {
        for (key, value) in people.iter().chain(&names) {
            fleet.redis.set(key, value);
        }
    };
    let [(one, ada), (other, bob)] = &people[..] else {
        panic!("two people")
    };
    let edited = |at: usize| {
        let mut edited = ada.clone();
        edited[at] ^= 1;
        edited
    };
    // Exchanged, cut short, edited in what is sealed, and in what scripts read.
    let attempts = [
        vec![(one, bob.clone()), (other, ada.clone())],
        vec![(one, ada[..ada.len() / 2].to_vec()), (other, Vec::new())],
        vec![(one, edited(ada.len() - 20)), (other, bob[1..].to_vec())],
        vec![(one, edited(20)), (other, edited(5))],
    ];
    for attempt in attempts {
        for (key, value) in attempt {
            fleet.redis.set(key, &value);
        }
        let (before, gateway) = (fleet.forwards(), fleet.gateway().await);
        for (path, id) in [(ADA, "user_1"), (BOB, "user_2")] {
            assert_eq!(gateway.get(path).await.body, fleet.body(id));
        }
        assert_eq!(fleet.forwards(), before + 2);
        assert!(gateway.metric("tier_total{result=\"broken\"}").await > 0);
        until(|| fleet.redis.all("l").is_empty()).await;
        restore();
    }
    // Names exchanged: each leads to the other person.
    let exchanged: Vec<_> = names.iter().map(|(_, value)| value).rev().collect();
    for ((key, _), value) in names.iter().zip(exchanged) {
        fleet.redis.set(key, value);
    }
    let gateway = fleet.gateway().await;
    assert_eq!(gateway.get(ADA).await.body, fleet.body("user_1"));
    assert_eq!(gateway.get(BOB).await.body, fleet.body("user_2"));
}

#[tokio::test]
async fn an_older_value_put_back_after_a_change_is_a_miss() {
    let fleet = Fleet::start().await;
    fleet.gateway().await.get(ADA).await;
    fleet.redis.holds("p", 1).await;
    let (place, record) = fleet.redis.all("p").remove(0);
    let hash = std::str::from_utf8(&record[56..88]).expect("a hash");
    let stem = place.split(":p:").next().expect("a stem");
    let change = format!("{:032x} {:016x}", 1, 0);
    fleet
        .redis
        .set(&format!("{stem}:c:{hash}"), change.as_bytes());
    fleet.redis.set(&place, &record);
    let answer = fleet.gateway().await.get(ADA).await;
    assert_eq!(answer.body, fleet.body("user_1"));
    assert_eq!(fleet.forwards(), 2);
}

#[tokio::test]
async fn a_value_of_another_workspace_is_a_miss() {
    let fleet = Fleet::start().await;
    let elsewhere = fleet.gateway_with("redis.prefix = \"elsewhere\"").await;
    elsewhere.get(BOB).await;
    fleet.redis.holds("p", 1).await;
    let (_, foreign) = fleet.redis.all("p").remove(0);
    fleet.gateway().await.get(ADA).await;
    fleet.redis.holds("p", 2).await;
    for (place, _) in fleet.redis.all("p") {
        fleet.redis.set(&place, &foreign);
    }
    let gateway = fleet.gateway().await;
    assert_eq!(gateway.get(ADA).await.body, fleet.body("user_1"));
    assert_eq!(gateway.metric("tier_total{result=\"broken\"}").await, 1);
    assert_eq!(fleet.forwards(), 3);
}

#[tokio::test]
async fn what_was_asked_for_before_a_change_is_not_stored_after_it() {
    let fleet = Fleet::start().await;
    let gateway = fleet.gateway().await;
    gateway.get(BOB).await;
    fleet.redis.holds("p", 1).await;
    let (place, _) = fleet.redis.all("p").remove(0);
    let stem = place.split(":p:").next().expect("a stem").to_owned();
    let hold = fleet.flameup.hold(Matcher::id("user_1"));
    let change = async {
        until(|| hold.waiting() == 1).await;
        let change = format!("{:032x} {:016x}", 1, 0);
        fleet
            .redis
            .set(&format!("{stem}:c:everybody"), change.as_bytes());
        hold.release();
    };
    tokio::join!(gateway.get(ADA), change);
    let refused = "writes_total{result=\"changed\"}";
    let began = Instant::now();
    while gateway.metric(refused).await == 0 {
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "it was not refused"
        );
        sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(fleet.redis.all("p").len(), 1, "only what was there");
}

#[tokio::test]
async fn a_refresh_takes_what_another_gateway_has_refreshed_already() {
    let fleet = Fleet::with("cache.ttl = \"1s\"\ncache.ttl_jitter = 0.0").await;
    let (one, other) = (fleet.gateway().await, fleet.gateway().await);
    one.get(ADA).await;
    fleet.redis.holds("p", 1).await;
    other.get(ADA).await;
    assert_eq!(fleet.forwards(), 1);
    let before = fleet.redis.all("p");
    sleep(Duration::from_millis(1100)).await;
    assert!(status(&one.get(ADA).await).contains("revalidating"));
    until(|| fleet.redis.all("p") != before).await;
    assert_eq!(fleet.forwards(), 2);
    assert!(status(&other.get(ADA).await).contains("revalidating"));
    sleep(Duration::from_millis(300)).await;
    let answer = other.get(ADA).await;
    assert!(
        status(&answer).starts_with("flameup-gateway; hit; ttl="),
        "{}",
        status(&answer)
    );
    assert_eq!(fleet.forwards(), 2, "it was not refreshed twice");
}

#[tokio::test]
async fn a_refresh_never_takes_its_own_old_record_for_news() {
    let fleet = Fleet::with("cache.ttl = \"1s\"\ncache.ttl_jitter = 0.0").await;
    let gateway = fleet.gateway().await;
    gateway.get(ADA).await;
    fleet.redis.holds("p", 1).await;
    sleep(Duration::from_millis(1100)).await;
    gateway.get(ADA).await;
    until(|| fleet.forwards() == 2).await;
}

#[tokio::test]
async fn a_gateway_that_may_have_missed_changes_believes_redis_rather_than_its_memory() {
    let mut fleet = Fleet::start().await;
    let gateway = fleet.gateway().await;
    gateway.get(ADA).await;
    fleet.redis.holds("p", 1).await;
    gateway.suspect(true);
    assert_eq!(gateway.get(ADA).await.status, 200);
    assert_eq!(fleet.forwards(), 1, "Redis confirms what is in memory");
    fleet.redis.clear();
    fleet
        .flameup
        .people()
        .set("user_1", "first_name", "Changed");
    assert_eq!(gateway.get(ADA).await.body, fleet.body("user_1"));
    assert_eq!(
        fleet.forwards(),
        2,
        "what Redis does not confirm is not served"
    );
    fleet.redis.kill();
    assert_eq!(gateway.get(ADA).await.status, 200);
    assert_eq!(fleet.forwards(), 2, "without Redis it is a single gateway");
}

#[tokio::test]
async fn hits_do_not_try_out_whether_redis_is_back() {
    let fleet = Fleet::start().await;
    let gateway = fleet.gateway_with("redis.timeout = \"20ms\"").await;
    gateway.get(ADA).await;
    gateway.suspect(true);
    fleet.redis.signal("-STOP");
    let recalls = || gateway.metric("calls_total{call=\"recall\",outcome=\"deadline\"}");
    let probes = || gateway.metric("calls_total{call=\"lease\",outcome=\"deadline\"}");
    let until = Instant::now() + Duration::from_secs(20);
    while gateway.metric("breaker").await == 0 {
        assert!(Instant::now() < until, "the breaker stays shut");
        gateway.get(ADA).await;
    }
    let (before, first) = (recalls().await, probes().await);
    // The purse's own calls try, while hits come all the time.
    while probes().await < first + 2 {
        assert!(Instant::now() < until, "nobody tries");
        gateway.suspect(true);
        assert_eq!(gateway.get(ADA).await.status, 200);
    }
    assert_eq!(recalls().await, before);
}

#[tokio::test]
async fn without_redis_everything_is_answered() {
    let mut fleet = Fleet::start().await;
    let lines = "redis.timeout = \"20ms\"";
    let before = fleet.gateway_with(lines).await;
    before.get(ADA).await;
    fleet.redis.signal("-STOP");
    let began = Instant::now();
    assert_eq!(before.get(ADA).await.status, 200);
    assert_eq!(before.get(BOB).await.body, fleet.body("user_2"));
    assert!(
        began.elapsed() < Duration::from_secs(1),
        "{:?}",
        began.elapsed()
    );
    fleet.redis.signal("-CONT");
    fleet.redis.kill();
    assert_eq!(before.get("/api/v1/people/user_3").await.status, 200);
    let after = fleet.gateway_with(lines).await;
    assert_eq!(after.get(ADA).await.body, fleet.body("user_1"));
    assert!(status(&after.get(ADA).await).contains("hit"));
}
