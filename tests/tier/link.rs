//! The way to Redis, to real servers in every topology.

use std::io::Write;
use std::time::{Duration, Instant};

use flameup_gateway::tier::link::Error;
use redis::Value;
use tempfile::NamedTempFile;

use crate::fleet::Fleet;
use crate::servers::PATIENCE;
use crate::servers::certificates::Certificates;
use crate::servers::cluster::Cluster;
use crate::servers::log::Log;
use crate::servers::redis::{Redis, own};
use crate::servers::sentinel::Sentinels;
use crate::servers::trial::{DEADLINE, KEY, Trial};

mod outages;

/// A stream in the slot of the script's key.
const STREAM: &str = "trial:{tag}:log";

/// What takes no time worth mentioning, even on a busy machine.
const AT_ONCE: Duration = Duration::from_millis(100);

fn url(redis: &Redis) -> String {
    format!("redis://127.0.0.1:{}", redis.port())
}

/// Calls are answered, and a read may block for longer than a call may take.
async fn answers(trial: &Trial) {
    let first = trial.count_at_last().await;
    assert_eq!(trial.count().await.expect("an answer"), first + 1);
    let longest = DEADLINE * 2;
    let mut own = trial.link.listen(longest).await.expect("a connection");
    let mut read = redis::cmd("XREAD");
    read.arg("BLOCK")
        .arg(u64::try_from(longest.as_millis()).expect("short"));
    read.arg("STREAMS").arg(STREAM).arg("0-0");
    let began = Instant::now();
    let nothing: Value = read.query_async(&mut own).await.expect("an end");
    assert!(nothing == Value::Nil && began.elapsed() >= longest);
    let mut add = redis::cmd("XADD");
    add.arg(STREAM).arg("*").arg("m").arg("text");
    let mut other = trial.link.listen(longest).await.expect("a connection");
    add.exec_async(&mut other).await.expect("added");
    let added: Value = read.query_async(&mut own).await.expect("an answer");
    assert_ne!(added, Value::Nil);
}

#[tokio::test]
async fn a_single_server_answers_in_the_database_that_is_named() {
    let redis = Redis::start();
    let trial = Trial::of(&format!("{}/3", url(&redis)));
    answers(&trial).await;
    assert_eq!(redis.command::<Option<u64>>(&format!("GET {KEY}")), None);
    let keyspace: String = redis.command("INFO keyspace");
    assert!(keyspace.contains("db3:keys=2"), "{keyspace}");
}

#[tokio::test]
async fn a_server_with_tls_answers_who_trusts_its_authority() {
    let certificates = Certificates::new();
    let redis = certificates.redis();
    let trust = format!("redis.ca_file = {:?}", certificates.authority());
    let trial = Trial::with(&format!("rediss://127.0.0.1:{}", redis.port()), &trust);
    answers(&trial).await;
}

#[tokio::test]
async fn a_cluster_answers() {
    answers(&Trial::of(&Cluster::start().url())).await;
}

#[tokio::test]
async fn the_master_that_sentinels_name_answers() {
    answers(&Trial::of(&Sentinels::start().url())).await;
}

#[tokio::test]
async fn an_untrusted_certificate_is_told_in_the_log() {
    let (log, _guard) = Log::listen();
    let (certificates, others) = (Certificates::new(), Certificates::new());
    let redis = certificates.redis();
    let trust = format!("redis.ca_file = {:?}", others.authority());
    let trial = Trial::with(&format!("rediss://127.0.0.1:{}", redis.port()), &trust);
    said(&log, "invalid peer certificate").await;
    let refused = trial.count().await.expect_err("no connection");
    assert!(matches!(refused, Error::Unconnected));
}

/// A server whose only user has this password.
fn with_password(password: &str) -> Redis {
    Redis::start_with(|port, directory| {
        let users = directory.join("users.acl");
        let text = format!("user default off\nuser gateway on >{password} ~* &* +@all\n");
        std::fs::write(&users, text).expect("written");
        let users = users.to_string_lossy();
        own(&["--port", &port.to_string(), "--aclfile", &users])
    })
}

fn file_with(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("a file");
    writeln!(file, "{text}").expect("written");
    file
}

fn identity(password: &NamedTempFile) -> String {
    let path = password.path();
    format!(
        "redis.username = \"gateway\"\nredis.password_file = \"{}\"",
        path.display()
    )
}

async fn said(log: &Log, text: &str) {
    let began = Instant::now();
    while !log.text().contains(text) {
        assert!(began.elapsed() < PATIENCE, "{}", log.text());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_user_with_a_password_is_let_in() {
    let redis = with_password("correct-horse");
    let password = file_with("correct-horse");
    answers(&Trial::with(&url(&redis), &identity(&password))).await;
}

#[tokio::test]
async fn a_wrong_password_is_told_in_the_log_once_and_not_shown_there() {
    let (log, _guard) = Log::listen();
    let redis = with_password("correct-horse");
    let password = file_with("wrong-battery");
    let trial = Trial::with(&url(&redis), &identity(&password));
    said(&log, "WRONGPASS").await;
    let began = Instant::now();
    assert!(matches!(trial.count().await, Err(Error::Unconnected)));
    assert!(began.elapsed() < AT_ONCE);
    tokio::time::sleep(Duration::from_millis(300)).await; // A few more attempts.
    let text = log.text();
    assert_eq!(text.matches("not reached").count(), 1, "{text}");
    assert!(!text.contains("wrong-battery") && !text.contains("correct-horse"));
}

#[tokio::test]
async fn a_gateway_that_is_not_let_in_answers_all_the_same() {
    let (log, _guard) = Log::listen();
    let fleet = Fleet::start().await;
    let password = file_with("wrong-battery");
    let gateway = fleet.gateway_with(&identity(&password)).await;
    said(&log, "WRONGPASS").await;
    assert_eq!(gateway.get("/api/v1/people/user_1").await.status, 200);
    assert!(!log.text().contains("wrong-battery"), "{}", log.text());
}

#[tokio::test]
async fn a_password_that_was_replaced_is_read_again() {
    let redis = with_password("correct-horse");
    let password = file_with("correct-horse");
    let trial = Trial::with(&url(&redis), &identity(&password));
    trial.count_at_last().await;
    std::fs::write(password.path(), "battery-staple\n").expect("written");
    let client = redis::Client::open(format!(
        "redis://gateway:correct-horse@127.0.0.1:{}",
        redis.port()
    ));
    let mut operator = client
        .expect("an address")
        .get_connection()
        .expect("let in");
    for command in [
        vec!["ACL", "SETUSER", "gateway", "resetpass", ">battery-staple"],
        vec!["CLIENT", "KILL", "TYPE", "normal"],
    ] {
        let (word, rest) = command.split_first().expect("a command");
        redis::cmd(word)
            .arg(rest)
            .exec(&mut operator)
            .expect("done");
    }
    assert_eq!(trial.count_at_last().await, 2);
}
