//! Three gateways that share a key and a Redis, while things go wrong and a checker watches.
//!
//! Every part is a process of its own: the gateways, Flameup with its limiter, Redis. Lookups by all
//! names and changes go on all the while, through every gateway. Whatever happens,
//!
//! - nobody is shown as somebody else;
//! - once a change is answered, and the answer does not say that some gateway may not know of it, no
//!   gateway shows what was before;
//! - Flameup never gets more than its limit and one lease for each gateway within a window;
//! - nobody waits longer than [`fleet::DEADLINE`];
//!
//! and where nothing goes wrong, Flameup refuses nothing, and hardly anybody is turned away.
//!
//! `CLUSTER_SECONDS` says for how long traffic goes on before and after each fault, 2 unless told. One
//! fault at a time: they would slow one another.

use std::env;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use serde_json::json;
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::sleep;

#[path = "../../benches/shield/chance.rs"]
mod chance;
mod client;
mod draws;
mod fleet;
#[path = "../gateway/support/port.rs"]
mod port;
#[path = "../gateway/support/process.rs"]
#[expect(dead_code, reason = "other tests need more of it")]
mod process;
mod proxy;
mod redis;
mod traffic;

use client::{Answer, Client};
use fleet::{DEADLINE, Flameup, Fleet, LIMIT, REPLICAS, WINDOW};
use proxy::Mode;
use redis::{Cluster, Sentinels, Server};
use traffic::{Tally, version};

/// Requests that a gateway may have leased and not have spent.
const LEASE: u64 = 10;

/// How long gateways that begin together may take until each has its part of the budget.
const SETTLED: Duration = Duration::from_secs(2);

/// Held while a fault is tried.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// Traffic until all have found each other, and on for a while: before, nothing is granted.
async fn settled() {
    sleep(SETTLED).await;
    quiet().await;
}

/// Traffic for a while.
async fn quiet() {
    let seconds = env::var("CLUSTER_SECONDS").map_or(2, |text| {
        text.parse()
            .expect("CLUSTER_SECONDS is a number of seconds")
    });
    sleep(Duration::from_secs(seconds)).await;
}

async fn turn() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().await
}

/// What holds whatever happens.
fn judge(fleet: &Fleet, what: &str) -> Tally {
    let tally = fleet.watch.tally();
    let draws = &fleet.draws;
    let most = draws.most_within(WINDOW);
    let report = format!(
        "{what}: {} found, {} turned away, {} changes confirmed, {} not, {} failed; slowest {:?}; \
         Flameup got {}, at most {most} in a window, and refused {}; wrong: {}\n",
        tally.found,
        tally.refused,
        tally.confirmed,
        tally.unconfirmed,
        tally.unchanged,
        tally.slowest,
        draws.arrived(),
        draws.refused(),
        tally.wrong.len(),
    );
    let _ = io::stderr().write_all(report.as_bytes());
    let some = &tally.wrong[..tally.wrong.len().min(10)];
    assert!(tally.wrong.is_empty(), "{report}{some:#?}");
    let replicas = u64::try_from(REPLICAS).expect("a few");
    assert!(most <= LIMIT + LEASE * replicas, "{report}");
    // Otherwise nothing was watched.
    assert!(tally.found > 500 && tally.confirmed >= 5, "{report}");
    tally
}

/// What holds besides where nothing goes wrong.
async fn undisturbed(flameup: Flameup) {
    let _turn = turn().await;
    let what = format!("undisturbed, {}, {}", flameup.limiter, flameup.skew);
    let server = Server::start(&[]);
    let url = format!("redis://{}", server.address());
    let fleet = Fleet::start(flameup, std::array::from_fn(|_| url.clone())).await;
    let happening = async {
        settled().await;
        let before = fleet.watch.tally();
        quiet().await;
        quiet().await;
        before
    };
    let before = fleet.watch.while_traffic(happening).await;
    let turned_away = fleet.watch.tally().refused - before.refused;
    let what = format!("{what} ({turned_away} turned away once settled)");
    let after = judge(&fleet, &what);
    assert_eq!(fleet.draws.refused(), 0, "{what}");
    assert!(fleet.draws.most_within(WINDOW) <= LIMIT, "{what}");
    let (refused, found) = (after.refused - before.refused, after.found - before.found);
    assert!(refused * 100 <= found, "{what}: {refused} of {found}");
    // Where the machine is busy with something else, one may take longer than it is waited for.
    let troubled = after.unconfirmed + after.unchanged - before.unconfirmed - before.unchanged;
    assert!(
        troubled * 10 <= after.confirmed,
        "{what}: {troubled} changes"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_gateways_stay_within_a_sliding_window() {
    undisturbed(Flameup::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_gateways_stay_within_a_fixed_window_of_a_clock_that_is_ahead() {
    let (limiter, skew) = ("fixed", "200s");
    undisturbed(Flameup { limiter, skew }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_gateways_stay_within_a_bucket_of_a_clock_that_is_behind() {
    let (limiter, skew) = ("bucket", "-200s");
    undisturbed(Flameup { limiter, skew }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_killed_and_comes_back_empty() {
    let _turn = turn().await;
    let mut server = Server::start(&[]);
    let fleet = Fleet::on(&format!("redis://{}", server.address())).await;
    let happening = async {
        settled().await;
        server.kill();
        quiet().await;
        server.restart();
        quiet().await;
        quiet().await;
    };
    fleet.watch.while_traffic(happening).await;
    judge(&fleet, "Redis killed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_stands_still() {
    let _turn = turn().await;
    let server = Server::start(&[]);
    let fleet = Fleet::on(&format!("redis://{}", server.address())).await;
    let happening = async {
        settled().await;
        server.signal("STOP");
        sleep(Duration::from_secs(2)).await;
        server.signal("CONT");
        quiet().await;
    };
    fleet.watch.while_traffic(happening).await;
    judge(&fleet, "Redis stopped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_is_slow_for_all() {
    let _turn = turn().await;
    let server = Server::start(&[]);
    let (fleet, proxies) = Fleet::behind_proxies(&server).await;
    let happening = async {
        settled().await;
        for delay in [20, 200] {
            for proxy in &proxies {
                proxy.set(Mode::Delay(Duration::from_millis(delay)));
            }
            quiet().await;
        }
        for proxy in &proxies {
            proxy.set(Mode::Pass);
        }
        quiet().await;
    };
    fleet.watch.while_traffic(happening).await;
    judge(&fleet, "Redis slow");
}

/// One gateway alone cannot reach Redis: first it hears nothing, then it is told so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_gateway_is_cut_off_from_redis() {
    let _turn = turn().await;
    let server = Server::start(&[]);
    let (fleet, proxies) = Fleet::behind_proxies(&server).await;
    let happening = async {
        settled().await;
        for mode in [Mode::Hold, Mode::Pass, Mode::Cut, Mode::Pass] {
            proxies[0].set(mode);
            quiet().await;
        }
    };
    fleet.watch.while_traffic(happening).await;
    let tally = judge(&fleet, "one cut off");
    assert!(tally.unconfirmed > 0, "the fault had no effect: {tally:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sentinel_fails_over() {
    let _turn = turn().await;
    let mut sentinels = Sentinels::start();
    let fleet = Fleet::on(&sentinels.url()).await;
    let happening = async {
        settled().await;
        tokio::task::block_in_place(|| sentinels.fail_over());
        quiet().await;
        quiet().await;
    };
    fleet.watch.while_traffic(happening).await;
    judge(&fleet, "fail-over");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_moves_within_a_cluster() {
    let _turn = turn().await;
    let cluster = Cluster::start();
    let fleet = Fleet::on(&cluster.url()).await;
    let happening = async {
        settled().await;
        let moved = tokio::task::block_in_place(|| cluster.move_what_is_there());
        quiet().await;
        moved
    };
    let moved = fleet.watch.while_traffic(happening).await;
    judge(&fleet, "slot moved");
    assert!(moved > 20, "only {moved} keys were there to be moved");
}

/// Another gateway waits for what the dead one was fetching, and goes itself in time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_is_killed_while_it_fetches() {
    let _turn = turn().await;
    let server = Server::start(&[]);
    let mut fleet = Fleet::on(&format!("redis://{}", server.address())).await;
    let target = "/api/v1/people/user_1000";
    fleet
        .fault(json!({"kind": "hang", "id": "user_1000", "times": 1}))
        .await;
    let watch = std::sync::Arc::clone(&fleet.watch);
    let happening = async {
        settled().await;
        let doomed = Client::new(fleet.watch.seats[0].address);
        let lookup = tokio::spawn(ask_until_let_through(doomed, target));
        until_received(&fleet, "GET", target).await;
        fleet.kill_gateway(0);
        let answer = answer_in_turn(&fleet, 1, target).await;
        assert_eq!(answer.field("external_id"), "user_1000");
        assert!(
            lookup.await.expect("no panic").is_err(),
            "it was killed too late"
        );
        fleet.start_gateway(0);
        quiet().await;
    };
    watch.while_traffic(happening).await;
    judge(&fleet, "killed while fetching");
}

/// Flameup has changed somebody and the gateway that asked for it is dead: the others must know.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_is_killed_while_it_changes_somebody() {
    let _turn = turn().await;
    let server = Server::start(&[]);
    let mut fleet = Fleet::on(&format!("redis://{}", server.address())).await;
    let target = "/api/v1/people/user_1000";
    let hangs =
        json!({"kind": "hang", "id": "user_1000", "method": "PUT", "times": 1, "applied": true});
    fleet.fault(hangs).await;
    let watch = std::sync::Arc::clone(&fleet.watch);
    let happening = async {
        settled().await;
        let mut others: Vec<_> = fleet.watch.clients().into_iter().skip(1).collect();
        for client in &mut others {
            assert_eq!(version(&client.get(target).await.expect("an answer")), 0);
        }
        let mut doomed = Client::new(fleet.watch.seats[0].address);
        let body = json!({"traits": {"first_name": "v1"}}).to_string();
        let change = tokio::spawn(async move { doomed.send("PUT", target, body).await });
        until_received(&fleet, "PUT", target).await;
        fleet.kill_gateway(0);
        assert!(
            change.await.expect("no panic").is_err(),
            "it was killed too late"
        );
        // As long as others hold reads off, and until all have given up.
        let until = Instant::now() + 2 * DEADLINE;
        while Instant::now() < until {
            for client in &mut others {
                let answer = client.get(target).await.expect("an answer");
                let is_new = answer.status == 200 && version(&answer) == 1;
                assert!(is_new || answer.status == 429, "{answer:?}");
            }
            sleep(Duration::from_millis(50)).await;
        }
        fleet.start_gateway(0);
        quiet().await;
    };
    watch.while_traffic(happening).await;
    judge(&fleet, "killed while changing");
}

/// Asks until the lookup is not turned away for want of budget.
async fn ask_until_let_through(mut client: Client, target: &str) -> io::Result<Answer> {
    loop {
        let answer = client.get(target).await?;
        if answer.status != 429 {
            return Ok(answer);
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// What a gateway answers, in time, once it does not turn the lookup away for want of budget.
async fn answer_in_turn(fleet: &Fleet, seat: usize, target: &str) -> Answer {
    let mut client = Client::new(fleet.watch.seats[seat].address);
    // The dead one's part of the budget is out for a window.
    let until = Instant::now() + WINDOW + DEADLINE;
    loop {
        let asked = Instant::now();
        let answer = client.get(target).await.expect("an answer");
        assert!(asked.elapsed() < DEADLINE, "{:?}", asked.elapsed());
        if answer.status == 200 {
            return answer;
        }
        assert!(answer.status == 429 && Instant::now() < until, "{answer:?}");
        sleep(Duration::from_millis(50)).await;
    }
}

async fn until_received(fleet: &Fleet, method: &str, target: &str) {
    let until = Instant::now() + Duration::from_secs(20);
    while fleet.received(method, target).await == 0 {
        assert!(Instant::now() < until, "{method} {target} does not arrive");
        sleep(Duration::from_millis(5)).await;
    }
}
