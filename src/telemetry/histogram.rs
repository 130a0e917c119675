//! A histogram that threads fill without waiting for one another.
//!
//! The metrics library's own takes a lock for each observation, and every hit is one.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// Upper bounds of buckets, in seconds.
pub type Bounds = [f64; 16];

/// For durations, from a hit's microseconds to an upstream's deadline.
pub const DURATIONS: &Bounds = &[
    0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25,
    0.5, 1.0, 2.5, 5.0,
];

/// For ages of what is served, from a second to days.
pub const AGES: &Bounds = &[
    0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 45.0, 60.0, 120.0, 180.0, 300.0, 600.0, 900.0, 3_600.0,
    86_400.0,
];

/// Copies that threads are spread over.
const SHARDS: usize = 8;

/// Durations by size.
#[derive(Clone, Debug)]
pub struct Histogram {
    bounds: &'static Bounds,
    /// The same in nanoseconds.
    bounds_ns: [u64; 16],
    shards: Arc<[Shard; SHARDS]>,
}

/// One copy, on cache lines of its own.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard {
    buckets: [AtomicU64; 17],
    sum_ns: AtomicU64,
}

impl Histogram {
    /// An empty one.
    pub fn new(bounds: &'static Bounds) -> Self {
        Self {
            bounds,
            bounds_ns: bounds.map(|bound| nanoseconds(Duration::from_secs_f64(bound))),
            shards: Arc::default(),
        }
    }

    /// Counts one duration.
    pub fn observe(&self, duration: Duration) {
        let ns = nanoseconds(duration);
        let bucket = self.bounds_ns.partition_point(|bound| *bound < ns);
        let shard = &self.shards[own_shard()];
        shard.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        shard.sum_ns.fetch_add(ns, Ordering::Relaxed);
    }
}

impl TypedMetric for Histogram {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        let total = |bucket: usize| -> u64 {
            self.shards
                .iter()
                .map(|shard| shard.buckets[bucket].load(Ordering::Relaxed))
                .sum()
        };
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds
            .enumerate()
            .map(|(at, bound)| (bound, total(at)))
            .collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        let sum_ns: u64 = self
            .shards
            .iter()
            .map(|shard| shard.sum_ns.load(Ordering::Relaxed))
            .sum();
        let sum = Duration::from_nanos(sum_ns).as_secs_f64();
        encoder.encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    const IN_A_SECOND: u64 = 1_000_000_000;
    let whole = duration.as_secs().saturating_mul(IN_A_SECOND);
    whole.saturating_add(u64::from(duration.subsec_nanos()))
}

/// The shard of this thread: threads take them in turn.
fn own_shard() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static OWN: Cell<usize> = Cell::new(NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS);
    }
    OWN.get()
}
