//! How many requests Flameup gets, by its own count.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::client::Client;

/// Between two looks.
const EVERY: Duration = Duration::from_millis(10);

/// A count, which was true at some moment between two.
#[derive(Clone, Copy, Debug)]
struct Sample {
    asked: Instant,
    answered: Instant,
    arrived: u64,
    refused: u64,
}

/// Looks all the time, until it is dropped.
pub(crate) struct Draws {
    samples: Arc<Mutex<Vec<Sample>>>,
    task: JoinHandle<()>,
}

impl Draws {
    pub(crate) fn watch(control: SocketAddr) -> Self {
        let samples = Arc::<Mutex<Vec<_>>>::default();
        let task = tokio::spawn({
            let samples = Arc::clone(&samples);
            async move {
                let mut client = Client::new(control);
                loop {
                    let sample = sample(&mut client).await;
                    samples.lock().push(sample);
                    sleep(EVERY).await;
                }
            }
        });
        Self { samples, task }
    }

    /// How many requests Flameup has refused since the start.
    pub(crate) fn refused(&self) -> u64 {
        self.samples.lock().last().map_or(0, |last| last.refused)
    }

    /// How many requests it got.
    pub(crate) fn arrived(&self) -> u64 {
        self.samples.lock().last().map_or(0, |last| last.arrived)
    }

    /// The most requests that certainly arrived within one window, wherever it begins.
    pub(crate) fn most_within(&self, window: Duration) -> u64 {
        let samples = self.samples.lock();
        let (mut first, mut most) = (0, 0);
        for last in samples.iter() {
            while last.answered - samples[first].asked > window {
                first += 1;
            }
            most = most.max(last.arrived - samples[first].arrived);
        }
        most
    }
}

impl Drop for Draws {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn sample(client: &mut Client) -> Sample {
    let asked = Instant::now();
    let answer = client.get("/limiter").await.expect("an answer");
    let answered = Instant::now();
    let state: Value = serde_json::from_slice(&answer.body).expect("JSON");
    let count = |name: &str| state[name].as_u64().expect("a count");
    Sample {
        asked,
        answered,
        arrived: count("counted") + count("refused"),
        refused: count("refused"),
    }
}
