//! Those who ask and those who change, all the while, and what they find to be wrong.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::chance::Chance;
use super::client::{Answer, Client};
use super::fleet::{DEADLINE, PEOPLE, REPLICAS};

/// Who asks at a time, and between two requests of each: some hundreds a second in all.
const READERS: u64 = 6;
const READ_PAUSE: Duration = Duration::from_millis(15);

/// People who are changed, each by one who does nothing else, so that their versions only grow. They are
/// those who are asked for least.
const CHANGED: usize = 8;

/// Between two changes of a person. For two seconds after one nothing of them is stored, and each lookup
/// costs a request: what could be old is there only after that.
const CHANGE_PAUSE: [Duration; 2] = [Duration::from_millis(2_500), Duration::from_secs(4)];

/// How long a change whose end is unclear may still come about.
const UNCLEAR: Duration = Duration::from_millis(1_500);

/// After a broken connection.
const BROKEN_PAUSE: Duration = Duration::from_millis(50);

/// Somebody at Flameup, by all their names.
#[derive(Debug)]
pub(crate) struct Person {
    pub(crate) external_id: String,
    pub(crate) email: String,
    pub(crate) uuid: String,
    pub(crate) workspace: String,
}

/// Where a gateway is, and whether it ought to answer.
pub(crate) struct Seat {
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    up: AtomicBool,
}

/// What is known of what must be answered, and what was answered.
pub(crate) struct Watch {
    pub(crate) people: Vec<Person>,
    pub(crate) seats: Vec<Seat>,
    /// By person: the version that no answer may be older than from now on.
    acknowledged: Vec<AtomicU64>,
    tally: Mutex<Tally>,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// Lookups that brought their person.
    pub(crate) found: u64,
    /// Lookups that were turned away.
    pub(crate) refused: u64,
    /// Changes that every gateway knew of when they were answered.
    pub(crate) confirmed: u64,
    /// Changes whose answer says that some gateway may not know.
    pub(crate) unconfirmed: u64,
    /// Changes that failed, or may have.
    pub(crate) unchanged: u64,
    pub(crate) slowest: Duration,
    /// What must not be: somebody else, what was before, too late, or no answer at all.
    pub(crate) wrong: Vec<String>,
}

impl Tally {
    fn count_change(&mut self, changed: bool, confirmed: bool) {
        match (changed, confirmed) {
            (true, true) => self.confirmed += 1,
            (true, false) => self.unconfirmed += 1,
            (false, _) => self.unchanged += 1,
        }
    }
}

impl Person {
    /// A target that means this person.
    fn target(&self, chance: &mut Chance) -> String {
        let kind = chance.share();
        if kind < 0.5 {
            format!("/api/v1/people/{}", self.external_id)
        } else if kind < 0.75 {
            format!("/api/v1/people/{}", self.email)
        } else {
            format!("/api/v1/workspaces/{}/people/{}", self.workspace, self.uuid)
        }
    }

    fn is_of(&self, answer: &Answer) -> bool {
        answer.field("id") == self.uuid
            && answer.field("external_id") == self.external_id
            && answer.field("email") == self.email
    }
}

impl Seat {
    pub(crate) fn at(address: SocketAddr, admin: SocketAddr) -> Self {
        Self {
            address,
            admin,
            up: AtomicBool::new(false),
        }
    }

    pub(crate) fn set_up(&self, up: bool) {
        self.up.store(up, Ordering::SeqCst);
    }

    fn is_up(&self) -> bool {
        self.up.load(Ordering::SeqCst)
    }
}

impl Watch {
    pub(crate) fn new(people: Vec<Person>, seats: Vec<Seat>) -> Self {
        Self {
            acknowledged: people.iter().map(|_| AtomicU64::new(0)).collect(),
            people,
            seats,
            tally: Mutex::default(),
        }
    }

    /// What has come of it up to now.
    pub(crate) fn tally(&self) -> Tally {
        self.tally.lock().clone()
    }

    /// Has everybody ask and change until `happening` is over.
    pub(crate) async fn while_traffic<T>(
        self: &Arc<Self>,
        happening: impl Future<Output = T>,
    ) -> T {
        let (over, mut tasks) = (CancellationToken::new(), JoinSet::new());
        for seed in 0..READERS {
            tasks.spawn(Arc::clone(self).read_until(over.clone(), Chance(seed)));
        }
        for (person, seed) in (PEOPLE - CHANGED..PEOPLE).zip(READERS..) {
            tasks.spawn(Arc::clone(self).change_until(over.clone(), person, Chance(seed)));
        }
        let result = happening.await;
        over.cancel();
        while let Some(ended) = tasks.join_next().await {
            ended.expect("no panic");
        }
        result
    }

    async fn read_until(self: Arc<Self>, over: CancellationToken, mut chance: Chance) {
        let mut clients = self.clients();
        while !over.is_cancelled() {
            let seat = any(&mut chance, REPLICAS);
            // Some are asked for much more often than others.
            let rank = any(&mut chance, self.people.len()).min(any(&mut chance, self.people.len()));
            let target = self.people[rank].target(&mut chance);
            self.look_up(&mut clients[seat], seat, rank, &target).await;
            sleep(READ_PAUSE).await;
        }
    }

    /// Looks somebody up through one gateway, and judges the answer.
    pub(crate) async fn look_up(&self, client: &mut Client, seat: usize, who: usize, target: &str) {
        let least = self.acknowledged[who].load(Ordering::SeqCst);
        let answer = self.timed(seat, target, client.get(target)).await;
        let Some(answer) = answer else { return };
        let mut tally = self.tally.lock();
        if answer.status != 200 {
            tally.refused += 1;
            if !matches!(answer.status, 429 | 502 | 503 | 504) {
                tally.wrong.push(format!("{target} at {seat}: {answer:?}"));
            }
            return;
        }
        tally.found += 1;
        if !self.people[who].is_of(&answer) {
            tally
                .wrong
                .push(format!("somebody else for {target} at {seat}: {answer:?}"));
        }
        let version = version(&answer);
        if version < least {
            let cache = &answer.cache_status;
            tally.wrong.push(format!(
                "{target} at {seat}: {version} after {least}: {cache}"
            ));
        }
    }

    async fn change_until(
        self: Arc<Self>,
        over: CancellationToken,
        who: usize,
        mut chance: Chance,
    ) {
        let mut clients = self.clients();
        let [least, most] = CHANGE_PAUSE;
        let mut pause = chance.between(Duration::ZERO, most);
        for version in 1.. {
            tokio::select! {
                () = over.cancelled() => break,
                () = sleep(pause) => {}
            }
            pause = chance.between(least, most);
            let seat = any(&mut chance, REPLICAS);
            let is_known = self.change(&mut clients[seat], seat, who, version).await;
            if is_known {
                for (seat, client) in clients.iter_mut().enumerate() {
                    let target = format!("/api/v1/people/{}", self.people[who].external_id);
                    self.look_up(client, seat, who, &target).await;
                }
            }
        }
    }

    /// Changes somebody; tells whether every gateway knows.
    async fn change(&self, client: &mut Client, seat: usize, who: usize, version: u64) -> bool {
        let version = version.max(self.acknowledged[who].load(Ordering::SeqCst) + 1);
        let target = format!("/api/v1/people/{}", self.people[who].external_id);
        let body = json!({"traits": {"first_name": format!("v{version}")}}).to_string();
        let answer = client.send("PUT", &target, body);
        let answer = self.timed(seat, &target, answer).await;
        let changed = answer.as_ref().is_some_and(|answer| answer.status == 200);
        let confirmed = answer.as_ref().is_some_and(Answer::is_confirmed);
        if changed && confirmed {
            self.acknowledged[who].store(version, Ordering::SeqCst);
        }
        self.tally.lock().count_change(changed, confirmed);
        if !changed && answer.is_none_or(|answer| answer.status >= 500) {
            sleep(UNCLEAR).await;
        }
        changed && confirmed
    }

    /// What a gateway answers, if it does, and in time.
    async fn timed(
        &self,
        seat: usize,
        target: &str,
        answer: impl Future<Output = io::Result<Answer>>,
    ) -> Option<Answer> {
        let was_up = self.seats[seat].is_up();
        let asked = Instant::now();
        let answer = timeout(2 * DEADLINE, answer).await;
        let took = asked.elapsed();
        let excused = !was_up || !self.seats[seat].is_up();
        {
            let mut tally = self.tally.lock();
            if took > DEADLINE {
                tally
                    .wrong
                    .push(format!("{target} at {seat} took {took:?}"));
            }
            match &answer {
                Ok(Err(error)) if !excused => {
                    tally.wrong.push(format!("{target} at {seat}: {error:?}"));
                }
                _ => {}
            }
            if matches!(answer, Ok(Ok(_))) {
                tally.slowest = tally.slowest.max(took);
            }
        }
        let answer = answer.ok()?.ok();
        if answer.is_none() {
            sleep(BROKEN_PAUSE).await;
        }
        answer
    }

    pub(crate) fn clients(&self) -> Vec<Client> {
        let seats = self.seats.iter();
        seats.map(|seat| Client::new(seat.address)).collect()
    }
}

impl Answer {
    fn is_confirmed(&self) -> bool {
        !self.cache_status.contains("unconfirmed")
    }
}

/// The version that an answer shows.
pub(crate) fn version(answer: &Answer) -> u64 {
    let name = answer.field("first_name");
    let version = name
        .strip_prefix('v')
        .and_then(|version| version.parse().ok());
    version.unwrap_or_default()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "small numbers"
)]
fn any(chance: &mut Chance, count: usize) -> usize {
    (chance.share() * count as f64) as usize
}
