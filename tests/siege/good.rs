//! Clients that do as they should, and measure.

use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::PATIENCE;

/// Clients at a time, each with a connection that it keeps.
const CLIENTS: usize = 8;

/// Between two requests of a client.
const PAUSE: Duration = Duration::from_millis(2);

/// How long each good request took.
pub(crate) struct Tally {
    times: Vec<Duration>,
    wrong: Vec<String>,
}

impl Tally {
    /// Has good clients ask for so long.
    pub(crate) async fn of(gateway: SocketAddr, duration: Duration) -> Self {
        let until = Instant::now() + duration;
        let mut clients = JoinSet::new();
        for client in 0..CLIENTS {
            clients.spawn(ask_until(gateway, client, until));
        }
        let (mut times, mut wrong) = (Vec::new(), Vec::new());
        while let Some(client) = clients.join_next().await {
            let (more, problems) = client.expect("no panic");
            times.extend(more);
            wrong.extend(problems);
        }
        times.sort_unstable();
        Self { times, wrong }
    }

    pub(crate) fn wrong(&self) -> usize {
        self.wrong.len()
    }

    pub(crate) fn answered(&self) -> u64 {
        u64::try_from(self.times.len()).unwrap_or(u64::MAX)
    }

    /// The time within which this share of the requests was answered.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "a share of an index is near enough"
    )]
    pub(crate) fn share_of(&self, share: f64) -> Duration {
        let last = self.times.len().saturating_sub(1);
        let at = (last as f64 * share) as usize;
        self.times.get(at).copied().unwrap_or(Duration::MAX)
    }
}

impl fmt::Debug for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tally")
            .field("answered", &self.answered())
            .field("half", &self.share_of(0.5))
            .field("99 %", &self.share_of(0.99))
            .field("all", &self.share_of(1.0))
            .field("wrong", &self.wrong)
            .finish_non_exhaustive()
    }
}

/// Mostly those who are in memory, and now and then somebody new.
fn target(client: usize, number: usize) -> String {
    let person = if number % 50 == 49 {
        1_000 + client * 1_000 + number / 50 % 1_000
    } else {
        number % 10
    };
    format!("/api/v1/people/user_{person}")
}

async fn ask_until(
    gateway: SocketAddr,
    client: usize,
    until: Instant,
) -> (Vec<Duration>, Vec<String>) {
    let (mut times, mut wrong) = (Vec::new(), Vec::new());
    let mut stream = connect(gateway).await;
    for number in 0.. {
        if Instant::now() >= until {
            break;
        }
        let target = target(client, number);
        let asked = Instant::now();
        match timeout(PATIENCE, ask(&mut stream, &target)).await {
            Ok(Ok(answer)) if is_whole(&answer) => times.push(asked.elapsed()),
            other => {
                wrong.push(format!("{target}: {other:?}"));
                stream = connect(gateway).await;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    (times, wrong)
}

async fn connect(address: SocketAddr) -> BufReader<TcpStream> {
    let stream = TcpStream::connect(address).await.expect("it listens");
    stream.set_nodelay(true).expect("a socket of this kind");
    BufReader::new(stream)
}

/// Whether this is a person's, or the refusal of somebody who is not there.
fn is_whole(answer: &str) -> bool {
    answer.starts_with("HTTP/1.1 200 ") && answer.ends_with('}')
        || answer.starts_with("HTTP/1.1 404 ")
}

/// One request, and its whole answer.
async fn ask(stream: &mut BufReader<TcpStream>, target: &str) -> std::io::Result<String> {
    let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::with_capacity(1024);
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await?);
    }
    let head = String::from_utf8_lossy(&answer).to_ascii_lowercase();
    let mut lines = head.lines();
    let length = lines.find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    let head_bytes = answer.len();
    answer.resize(head_bytes + length.unwrap_or(0), 0);
    stream.read_exact(&mut answer[head_bytes..]).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// One answer over a connection of its own.
pub(crate) async fn get(address: SocketAddr, target: &str) -> String {
    let asked = async { ask(&mut connect(address).await, target).await };
    let answer = timeout(PATIENCE, asked).await;
    answer.expect("in time").expect("an answer")
}
