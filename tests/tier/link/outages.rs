//! The way to Redis while servers are stuck, die, come back and are replaced.

use std::time::{Duration, Instant};

use flameup_gateway::tier::link::Error;

use super::{AT_ONCE, said, url};
use crate::fleet::until;
use crate::servers::cluster::Cluster;
use crate::servers::log::Log;
use crate::servers::redis::Redis;
use crate::servers::sentinel::Sentinels;
use crate::servers::silence::Silence;
use crate::servers::trial::{DEADLINE, KEY, Trial};
use crate::servers::wait_until;

#[tokio::test]
async fn a_server_that_is_stuck_costs_one_deadline_and_no_more() {
    let redis = Redis::start();
    let trial = Trial::of(&url(&redis));
    trial.count_at_last().await;
    redis.stop();
    let began = Instant::now();
    assert!(matches!(trial.count().await, Err(Error::Deadline)));
    assert!(began.elapsed() >= DEADLINE);
    assert!(matches!(trial.count().await, Err(Error::BreakerOpen)));
    for _ in 0..10 {
        trial.count().await.expect_err("it is stuck");
    }
    // On a machine that is busy, a probe may come due in between.
    assert!(began.elapsed() < DEADLINE * 3, "{:?}", began.elapsed());
    let refused = trial.metric("calls_total{call=\"count\",outcome=\"breaker\"}");
    assert!(refused >= Some(10), "{refused:?}");
    redis.resume();
    let began = Instant::now();
    assert!(trial.count_at_last().await > 1);
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );
    until(|| trial.metric("breaker") == Some(0)).await;
}

#[tokio::test]
async fn a_server_that_was_stuck_for_long_is_back_within_the_longest_delay() {
    let redis = Redis::start();
    let trial = Trial::of(&url(&redis));
    trial.count_at_last().await;
    redis.stop();
    let began = Instant::now();
    let mut waited = Duration::ZERO;
    while began.elapsed() < Duration::from_secs(6) {
        let call = Instant::now();
        trial.count().await.expect_err("it is stuck");
        waited += call.elapsed();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // The first call and, with doubled delays, seven or eight probes of 240 calls and more a second.
    assert!(waited < DEADLINE * 10, "{waited:?}");
    until(|| trial.metric("breaker") > Some(0)).await;
    redis.resume();
    let began = Instant::now();
    trial.count_at_last().await;
    assert!(
        began.elapsed() < Duration::from_secs(3),
        "{:?}",
        began.elapsed()
    );
}

#[tokio::test]
async fn a_server_that_was_killed_fails_at_once_and_is_found_again() {
    let mut redis = Redis::start();
    let trial = Trial::of(&url(&redis));
    trial.count_at_last().await;
    redis.kill();
    let began = Instant::now();
    for _ in 0..10 {
        trial.count().await.expect_err("it is gone");
    }
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
    redis.restart();
    let began = Instant::now();
    // It knows no script any more, and has counted nothing.
    assert_eq!(trial.count_at_last().await, 1);
    assert!(
        began.elapsed() < Duration::from_secs(2),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(trial.metric("connections_total"), Some(2));
}

#[tokio::test]
async fn a_script_that_was_forgotten_is_told_again() {
    let redis = Redis::start();
    let trial = Trial::of(&url(&redis));
    trial.count_at_last().await;
    redis.command::<()>("SCRIPT FLUSH SYNC");
    assert_eq!(trial.count().await.expect("an answer"), 2);
}

#[tokio::test]
async fn the_link_waits_for_a_server_that_is_not_there_yet() {
    let mut redis = Redis::start();
    redis.kill();
    let (log, _guard) = Log::listen();
    let trial = Trial::of(&url(&redis));
    said(&log, "refused").await;
    assert!(matches!(trial.count().await, Err(Error::Unconnected)));
    redis.restart();
    assert_eq!(trial.count_at_last().await, 1);
    said(&log, "connected to Redis").await;
}

#[tokio::test]
async fn a_master_that_dies_is_followed_by_its_replica() {
    let mut group = Sentinels::start();
    let trial = Trial::of(&group.url());
    trial.count_at_last().await;
    wait_until("the replica has it", || {
        let count: Option<u64> = group.servers[1].command(&format!("GET {KEY}"));
        count == Some(1)
    });
    group.servers[0].kill();
    trial.count().await.expect_err("the master is gone");
    assert_eq!(trial.count_at_last().await, 2);
    assert_eq!(group.servers[1].command::<u64>(&format!("GET {KEY}")), 2);
}

#[tokio::test]
async fn a_master_that_is_stuck_is_given_up_for_the_next() {
    let group = Sentinels::start();
    let trial = Trial::of(&group.url());
    trial.count_at_last().await;
    wait_until("the replica has it", || {
        let count: Option<u64> = group.servers[1].command(&format!("GET {KEY}"));
        count == Some(1)
    });
    group.servers[0].stop();
    assert_eq!(trial.count_at_last().await, 2);
    assert_eq!(group.servers[1].command::<u64>(&format!("GET {KEY}")), 2);
    group.servers[0].resume();
}

#[tokio::test]
async fn a_master_that_is_replaced_while_it_is_well_is_left_within_about_a_second() {
    let group = Sentinels::start();
    let trial = Trial::of(&group.url());
    trial.count_at_last().await;
    group.fail_over();
    let next = group.servers[1].port();
    wait_until("all Sentinels name the next one", || {
        group.master() == Some(next)
    });
    let began = Instant::now();
    while calls_of_scripts(&group.servers[1]) == 0 {
        let _ = trial.count().await;
        assert!(began.elapsed() < Duration::from_secs(2), "it is not left");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_master_that_goes_on_is_left_when_the_sentinels_name_another() {
    let group = Sentinels::start();
    let trial = Trial::of(&group.url());
    trial.count_at_last().await;
    let another = Redis::start();
    group.name_another(another.port());
    let began = Instant::now();
    while calls_of_scripts(&another) == 0 {
        trial.count().await.expect("one of them answers");
        assert!(began.elapsed() < Duration::from_secs(2), "it is not left");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_replica_is_not_taken_for_the_master() {
    let group = Sentinels::start();
    group.name_another(group.servers[1].port());
    let (log, _guard) = Log::listen();
    let trial = Trial::of(&group.url());
    said(&log, "is none, or not yet").await;
    assert!(matches!(trial.count().await, Err(Error::Unconnected)));
}

#[tokio::test]
async fn a_server_that_became_a_replica_is_left() {
    let (redis, master) = (Redis::start(), Redis::start());
    let trial = Trial::of(&url(&redis));
    trial.count_at_last().await;
    redis.command::<()>(&format!("REPLICAOF 127.0.0.1 {}", master.port()));
    wait_until("it follows", || {
        let info: String = redis.command("INFO replication");
        info.contains("master_link_status:up")
    });
    assert!(matches!(trial.count().await, Err(Error::Failed(_))));
    until(|| trial.metric("connections_total") == Some(2)).await;
    redis.command::<()>("REPLICAOF NO ONE");
    assert_eq!(trial.count_at_last().await, 1);
}

#[tokio::test]
async fn a_connection_that_fell_silent_is_replaced() {
    let redis = Redis::start();
    let way = Silence::before(redis.port()).await;
    let trial = Trial::of(&format!("redis://{}", way.address()));
    trial.count_at_last().await;
    way.fall();
    assert!(matches!(trial.count().await, Err(Error::Deadline)));
    assert_eq!(trial.count_at_last().await, 2);
}

/// How many scripts a server was asked to run.
fn calls_of_scripts(redis: &Redis) -> u64 {
    let statistics: String = redis.command("INFO commandstats");
    let line = statistics
        .lines()
        .find(|line| line.starts_with("cmdstat_evalsha:"));
    let calls = line.and_then(|line| line.split_once("calls=")?.1.split_once(','));
    calls.map_or(0, |(calls, _)| calls.parse().expect("a number"))
}

#[tokio::test]
async fn a_slot_that_moves_is_followed() {
    let cluster = Cluster::start();
    let trial = Trial::of(&cluster.url());
    trial.count_at_last().await;
    cluster.begin_to_move(KEY);
    assert_eq!(trial.count().await.expect("it is where it was"), 2);
    cluster.move_key(KEY);
    assert_eq!(trial.count().await.expect("it is asked for elsewhere"), 3);
    cluster.end_to_move(KEY);
    assert_eq!(trial.count().await.expect("it has moved"), 4);
    let (_, owner) = cluster.owner_and_another(KEY);
    assert_eq!(owner.command::<u64>(&format!("GET {KEY}")), 4);
}

#[tokio::test]
async fn a_node_that_is_stuck_costs_one_deadline_and_is_found_again() {
    let cluster = Cluster::start();
    let trial = Trial::of(&cluster.url());
    trial.count_at_last().await;
    let (owner, _) = cluster.owner_and_another(KEY);
    owner.stop();
    let began = Instant::now();
    for _ in 0..10 {
        trial.count().await.expect_err("it is stuck");
    }
    assert!(began.elapsed() < DEADLINE * 2, "{:?}", began.elapsed());
    owner.resume();
    trial.count_at_last().await;
}

#[tokio::test]
async fn a_node_that_was_killed_and_started_again_is_found_again() {
    let mut cluster = Cluster::start();
    let trial = Trial::of(&cluster.url());
    trial.count_at_last().await;
    let port = cluster.owner_and_another(KEY).0.port();
    let owner = cluster.nodes.iter_mut().find(|node| node.port() == port);
    let owner = owner.expect("it is one of them");
    owner.kill();
    let began = Instant::now();
    for _ in 0..10 {
        trial.count().await.expect_err("it is gone");
    }
    assert!(began.elapsed() < DEADLINE * 2, "{:?}", began.elapsed());
    owner.restart();
    assert_eq!(trial.count_at_last().await, 1);
}
