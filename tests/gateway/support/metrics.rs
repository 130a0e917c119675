//! The admin listener's answers, and its metrics read strictly.

use std::collections::BTreeMap;

use super::client::{Client, Response};
use super::harness::Harness;

/// What the admin listener answers.
pub(crate) async fn get(harness: &Harness, target: &str) -> Response {
    Client::connect(harness.admin_address())
        .await
        .get(target)
        .await
}

/// The metrics as they are now.
pub(crate) async fn metrics(harness: &Harness) -> Metrics {
    let answer = get(harness, "/metrics").await;
    assert_eq!(answer.status, 200);
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!(answer.header("content-type"), kind);
    Metrics::parse(std::str::from_utf8(&answer.body).expect("text"))
}

/// `OpenMetrics` text, read strictly.
pub(crate) struct Metrics {
    pub(crate) text: String,
    /// By name and labels.
    pub(crate) samples: BTreeMap<(String, Labels), f64>,
}

pub(crate) type Labels = BTreeMap<String, String>;

impl Metrics {
    fn parse(text: &str) -> Self {
        let lines: Vec<&str> = text
            .strip_suffix("# EOF\n")
            .expect("the end")
            .lines()
            .collect();
        let (mut families, mut samples) = (BTreeMap::new(), BTreeMap::new());
        let mut current = String::new();
        for line in lines {
            if let Some(comment) = line.strip_prefix("# ") {
                let mut words = comment.splitn(3, ' ');
                let (word, name) = (words.next().expect("a word"), words.next().expect("a name"));
                let rest = words.next().expect("a text");
                assert!(["HELP", "TYPE", "UNIT"].contains(&word), "{line}");
                if word == "TYPE" {
                    let before = families.insert(name.to_owned(), rest.to_owned());
                    assert!(before.is_none(), "{name} is described twice");
                }
                name.clone_into(&mut current);
                continue;
            }
            let (name, labels, value) = sample(line);
            assert!(
                name.starts_with(&current),
                "{line} is not of the family {current}"
            );
            assert!(families.contains_key(&current), "{line} has no type");
            let before = samples.insert((name, labels), value);
            assert!(before.is_none(), "{line} is there twice");
        }
        let metrics = Self {
            text: text.to_owned(),
            samples,
        };
        for (family, _) in families.iter().filter(|(_, kind)| *kind == "histogram") {
            metrics.check_histogram(family);
        }
        metrics
    }

    /// The sum of all samples with this name and at least these labels.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let name = format!("flameup_gateway_{name}");
        let fits = |has: &Labels| {
            labels
                .iter()
                .all(|(key, value)| has.get(*key).is_some_and(|is| is == value))
        };
        let samples = self
            .samples
            .iter()
            .filter(|((is, has), _)| *is == name && fits(has));
        samples.map(|(_, value)| value).sum()
    }

    /// Buckets grow, and the last one, `+Inf`, has everything.
    fn check_histogram(&self, family: &str) {
        let mut series: BTreeMap<Labels, Vec<(f64, f64)>> = BTreeMap::new();
        for ((name, labels), value) in &self.samples {
            if *name == format!("{family}_bucket") {
                let mut labels = labels.clone();
                let bound = labels.remove("le").expect("a bound");
                let bound = if bound == "+Inf" {
                    f64::INFINITY
                } else {
                    bound.parse().expect("a bound")
                };
                series.entry(labels).or_default().push((bound, *value));
            }
        }
        for (labels, mut buckets) in series {
            buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
            assert!(
                buckets.is_sorted_by(|one, other| one.1 <= other.1),
                "{family} {labels:?}"
            );
            let last = buckets.last().expect("a bucket");
            assert!(last.0.is_infinite(), "{family} {labels:?} lacks +Inf");
            let count = self
                .samples
                .get(&(format!("{family}_count"), labels.clone()));
            assert_eq!(count, Some(&last.1), "{family} {labels:?}");
            assert!(
                self.samples
                    .contains_key(&(format!("{family}_sum"), labels))
            );
        }
    }
}

/// `name{label="value",...} 1.5`; no value of ours has a comma or quote in it.
fn sample(line: &str) -> (String, Labels, f64) {
    // What follows a `#` is an example of what was measured.
    let line = line.split_once(" # {").map_or(line, |(sample, _)| sample);
    let (series, value) = line.rsplit_once(' ').expect("a value");
    let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
    let labels = labels.strip_suffix('}').expect("an end of labels");
    let pairs = labels
        .split(',')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (key, value) = pair.split_once("=\"").expect("a label");
            (
                key.to_owned(),
                value.strip_suffix('"').expect("a quoted value").to_owned(),
            )
        });
    (
        name.to_owned(),
        pairs.collect(),
        value.parse().expect("a number"),
    )
}
