//! One budget: what several gateways send together stays within the limit of the one key.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use flameup_gateway::sandbox::limiter::Kind;
use flameup_gateway::sandbox::{LimiterOptions, Options};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::fleet::{Fleet, Gateway};
use crate::servers::redis::Redis;

const WINDOW: Duration = Duration::from_secs(4);
const LIMIT: u32 = 40;

/// Units that a gateway has leased at most.
const LEASE: usize = 10;

/// A fleet before a Flameup that allows ten requests a second, by this kind of window.
async fn limited(kind: Kind) -> Fleet {
    let limiter = LimiterOptions {
        kind,
        limit: LIMIT,
        window: WINDOW,
        ..LimiterOptions::default()
    };
    let config = format!(
        "workspaces.default.budget = {{ requests = {LIMIT}, window = \"4s\", max_wait = \"1s\" }}\n\
         anonymous = {{ workspace = \"default\", scopes = [\"*\"] }}\n"
    );
    Fleet::of(Options::default().limiter(limiter), &config).await
}

/// Asks each gateway for other people all the time, five times as many as may be asked for.
async fn besiege(gateways: &[Gateway], time: Duration) {
    let mut asking = JoinSet::new();
    let ends = Instant::now() + time;
    for (index, gateway) in gateways.iter().enumerate() {
        let address = gateway.address();
        asking.spawn(async move {
            let mut lookups = JoinSet::new();
            for count in 0.. {
                if Instant::now() >= ends {
                    break;
                }
                let path = format!("/api/v1/people/user_{}", 1 + index * 1000 + count);
                lookups.spawn(async move { Gateway::get_from(address, &path).await });
                sleep(Duration::from_millis(60)).await;
            }
            while lookups.join_next().await.is_some() {}
        });
    }
    while let Some(asked) = asking.join_next().await {
        asked.expect("no lookup panics");
    }
}

/// How many requests were answered 429, and how many there were.
fn refused(fleet: &Fleet) -> (usize, usize) {
    let received = fleet.flameup.received();
    let refused = received.iter().filter(|one| one.status == Some(429));
    (refused.count(), received.len())
}

async fn undisturbed(kind: Kind) {
    let fleet = limited(kind).await;
    let gateways = [
        fleet.gateway().await,
        fleet.gateway().await,
        fleet.gateway().await,
    ];
    let windows = 3;
    besiege(&gateways, WINDOW * windows).await;
    let (refused, sent) = refused(&fleet);
    assert_eq!(refused, 0, "of {sent}");
    // The purse is new for five seconds, in which each has its share less a fifth.
    let least = usize::try_from(LIMIT * (windows - 1)).expect("a count") * 7 / 10;
    assert!(sent >= least, "{sent} were sent");
    for gateway in &gateways {
        let granted = gateway
            .metric("budget_granted_total{workspace=\"default\"}")
            .await;
        assert!(granted > 0, "each has a part");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn three_gateways_draw_no_429_of_a_sliding_window() {
    undisturbed(Kind::Sliding).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_gateways_draw_no_429_of_a_fixed_window() {
    undisturbed(Kind::Fixed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn three_gateways_draw_no_429_of_a_bucket() {
    undisturbed(Kind::Bucket).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_each_goes_on_with_its_share_and_comes_back_to_leases() {
    let fleet = limited(Kind::Sliding).await;
    let gateways = [fleet.gateway().await, fleet.gateway().await];
    // For five seconds the purse is new.
    besiege(&gateways, WINDOW * 2).await;
    let mode = "budget_mode{workspace=\"default\"}";
    assert_eq!(gateways[0].metric(mode).await, 1);
    fleet.redis.signal("-STOP");
    let before = fleet.forwards();
    besiege(&gateways, WINDOW * 2).await;
    assert_eq!(gateways[0].metric(mode).await, 2);
    let alone = fleet.forwards() - before;
    fleet.redis.signal("-CONT");
    let before = fleet.forwards();
    besiege(&gateways, WINDOW * 2).await;
    assert_eq!(gateways[0].metric(mode).await, 1);
    // Of 80 in two windows; the first of them was partly used already.
    let again = fleet.forwards() - before;
    assert!(again >= 40, "{again} were sent once Redis was back");
    let (refused, sent) = refused(&fleet);
    assert!(alone > 0, "nothing was sent without Redis");
    // A lease of each may be spent beside what is theirs.
    assert!(refused <= 2 * LEASE, "{refused} of {sent}");
}

/// The script alone, asked in an order and at moments made up at random: never more in any window than
/// the limit, whatever its kind.
#[test]
fn the_purse_never_leases_more_than_the_limit() {
    let redis = Redis::start();
    let script = redis::Script::new(include_str!("../../src/tier/scripts/lease.lua"));
    let mut connection = redis.connect();
    let mut random = Random(7);
    let window = Duration::from_secs(2);
    let limit = 30_usize;
    let mut replicas: Vec<Replica> = (0..4).map(Replica::new).collect();
    let mut used: VecDeque<Instant> = VecDeque::new();
    let (began, mut most) = (Instant::now(), 0);
    while began.elapsed() < Duration::from_secs(9) {
        let index = random.below(4);
        let replica = &mut replicas[index];
        replica.ask(&script, &mut connection, &mut random, window);
        for _ in 0..random.below(replica.in_hand + 1) {
            replica.in_hand -= 1;
            replica.spent += 1;
            used.push_back(Instant::now());
        }
        while used.front().is_some_and(|at| at.elapsed() > window) {
            used.pop_front();
        }
        most = most.max(used.len());
        assert!(used.len() <= limit, "{} in one window", used.len());
        std::thread::sleep(Duration::from_millis(random.below(30) as u64));
    }
    assert!(most > limit / 2, "only {most} at most");
}

/// The purse of a limit of 30, whose first moments are over, asked directly.
struct Purse {
    redis: Redis,
    script: redis::Script,
    window_ms: u32,
}

impl Purse {
    fn open() -> Self {
        let purse = Self {
            redis: Redis::start(),
            script: redis::Script::new(include_str!("../../src/tier/scripts/lease.lua")),
            window_ms: 60_000,
        };
        purse.redis.command::<u32>("HSET {t}m opened 1");
        // Somebody is known.
        purse.record("first", "0 0 0 0 0", 0);
        purse
    }

    /// Has the purse remember what a gateway has and wants, and when it had its last lease.
    fn record(&self, who: &str, has_and_wants: &str, last_ms: u64) {
        let (seconds, micros) = self.redis.command::<(u64, u64)>("TIME");
        let now = seconds * 1000 + micros / 1000;
        let mut connection = self.redis.connect();
        let record = format!("{has_and_wants} {now} {last_ms} 0");
        let mut command = redis::cmd("HSET");
        command.arg("{t}g").arg(who).arg(record);
        command.exec(&mut connection).expect("written");
    }

    /// What comes of a report: units leased and units free.
    fn ask(&self, who: &str, has: u32, wants: [u32; 4], spent: &[u32]) -> (u32, u32) {
        self.tell(who, has, wants, spent, -1)
    }

    /// As [`ask`](Self::ask), where Flameup has told that all have used so many.
    fn tell(&self, who: &str, has: u32, wants: [u32; 4], spent: &[u32], used: i32) -> (u32, u32) {
        let mut call = self.script.prepare_invoke();
        call.key("{t}m").key("{t}s").key("{t}g").arg(who).arg(has);
        call.arg(&wants[..]).arg(30).arg(0);
        call.arg(self.window_ms).arg(0);
        call.arg(used).arg(spent);
        let mut connection = self.redis.connect();
        let granted: [u32; 10] = call.invoke(&mut connection).expect("granted");
        (granted[0], granted[6])
    }
}

#[test]
fn what_is_told_twice_was_spent_once() {
    let purse = Purse::open();
    purse.record("a", "0 0 0 0 0", 0);
    for _ in 0..3 {
        // Five ever, all of them just now.
        assert_eq!(purse.ask("a", 0, [0; 4], &[5, 0, 5]), (0, 25));
    }
    // Two more, told together with those of which it does not know that they were heard.
    assert_eq!(purse.ask("a", 0, [0; 4], &[7, 1, 5, 0, 2]), (0, 23));
}

#[test]
fn units_that_come_back_may_be_had_again_at_once() {
    let purse = Purse::open();
    purse.record("a", "0 0 0 0 0", 0);
    assert_eq!(purse.ask("a", 0, [10, 0, 0, 0], &[0]).0, 10);
    assert_eq!(
        purse.ask("a", 0, [10, 0, 0, 0], &[0]).0,
        10,
        "none was sent"
    );
    assert_eq!(
        purse.ask("a", 0, [10, 0, 0, 0], &[10, 0, 10]).0,
        0,
        "all were"
    );
}

#[test]
fn what_was_spent_without_a_lease_is_nobody_elses_once_it_is_told() {
    let purse = Purse::open();
    purse.record("back", "0 0 0 0 0", 0);
    purse.record("late", "0 0 0 0 0", 0);
    // All have used 20, of which one is its own and 19 are of whoever has not come back yet.
    assert_eq!(purse.tell("back", 0, [0; 4], &[1, 0, 1], 20), (0, 10));
    // Twelve are told now, spent just before. The other seven remain somebody else's.
    assert_eq!(purse.ask("late", 0, [0; 4], &[12, 2, 8, 1, 4]), (0, 10));
    // What is spent after Flameup told was not among that.
    purse.redis.command::<u32>("HSET {t}m foreign_at 1");
    assert_eq!(purse.ask("late", 0, [0; 4], &[16, 0, 4]), (0, 6));
}

#[test]
fn what_was_spent_of_a_lease_is_nothing_that_others_were_taken_for() {
    let purse = Purse::open();
    purse.record("a", "10 0 0 0 0", 1);
    purse.record("b", "0 0 0 0 0", 0);
    // All have used 20: one is its own, ten may be those of the lease, nine are somebody else's.
    assert_eq!(purse.tell("b", 0, [0; 4], &[1, 0, 1], 20), (0, 10));
    let (seconds, _) = purse.redis.command::<(u64, u64)>("TIME");
    let before = (seconds - 10) * 1000;
    purse
        .redis
        .command::<u32>(&format!("HSET {{t}}m foreign_at {before}"));
    // The ten were of the lease; five more came without one, after Flameup had told.
    assert_eq!(purse.ask("a", 0, [0; 4], &[15, 20, 10, 0, 5]), (0, 5));
}

#[test]
fn what_was_spent_in_a_long_window_is_kept_in_few_places_and_for_all_of_it() {
    let mut purse = Purse::open();
    purse.window_ms = 3_600_000;
    purse.record("a", "0 0 0 0 0", 0);
    let of_each_second = (0..3_600).rev().flat_map(|age| [age, 1]);
    let told: Vec<u32> = std::iter::once(3_600).chain(of_each_second).collect();
    assert_eq!(purse.ask("a", 0, [0; 4], &told), (0, 0));
    let spans: usize = purse.redis.command("HLEN {t}s");
    assert!((120..=122).contains(&spans), "{spans} spans");
    let counts: Vec<u32> = purse.redis.command("HVALS {t}s");
    assert_eq!(counts.iter().sum::<u32>(), 3_600);
}

#[test]
fn batch_requests_elsewhere_keep_no_unit_from_an_interactive_one() {
    let purse = Purse::open();
    purse.record("batch", "0 0 0 5 0", 1);
    for other in 0..11 {
        purse.record(&format!("other{other}"), "0 1 0 0 0", 5);
    }
    purse.record("a", "0 0 0 0 0", 5);
    // Ten for twelve: whose last lease is longest ago, of those who want interactive ones.
    assert_eq!(purse.ask("a", 0, [1, 0, 0, 0], &[0]).0, 1);
}

#[test]
fn who_has_all_that_it_can_have_keeps_no_unit_from_others() {
    let purse = Purse::open();
    purse.record("full", "10 50 0 0 0", 1);
    purse.record("a", "0 0 0 0 0", 5);
    assert_eq!(purse.ask("a", 0, [1, 0, 0, 0], &[0]).0, 1);
    assert_eq!(purse.ask("a", 1, [0, 0, 1, 0], &[0]).0, 1);
}

struct Replica {
    name: String,
    in_hand: usize,
    spent: usize,
    /// Told last.
    told: usize,
    /// Spent ever.
    total: usize,
}

impl Replica {
    fn new(index: usize) -> Self {
        Self {
            name: format!("{index:032x}"),
            in_hand: 0,
            spent: 0,
            told: 0,
            total: 0,
        }
    }

    fn ask(
        &mut self,
        script: &redis::Script,
        connection: &mut redis::Connection,
        random: &mut Random,
        window: Duration,
    ) {
        let wants: Vec<usize> = (0..4).map(|_| random.below(5)).collect();
        let mut call = script.prepare_invoke();
        call.key("{t}m").key("{t}s").key("{t}g").arg(&self.name);
        call.arg(self.in_hand).arg(wants);
        let window_ms = u64::try_from(window.as_millis()).expect("a window");
        call.arg(30).arg(0).arg(window_ms).arg(0).arg(-1);
        // Sometimes it does not know whether the last call was heard.
        self.total += self.spent;
        let repeated = self.spent + if random.below(4) == 0 { self.told } else { 0 };
        call.arg(self.total).arg(0).arg(repeated);
        self.told = self.spent;
        let granted: [usize; 10] = call.invoke(connection).expect("granted");
        self.spent = 0;
        self.in_hand += granted[0];
        assert!(self.in_hand <= LEASE, "{} in hand", self.in_hand);
    }
}

/// Numbers that look random, the same in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % end as u64).expect("a small number")
    }
}
