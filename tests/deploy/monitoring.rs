//! Alert rules and the dashboard, against Prometheus' own tool and what the gateway really shows.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write as _};
use std::net::TcpStream;
use std::process::{Child, ChildStderr, Stdio};
use std::time::{Duration, Instant};

use flameup_gateway::sandbox::{ApiKey, DEMO_KEY, Options, Sandbox};
use serde_json::Value;

use super::redis::Redis;
use super::{GATEWAY, command, printed, tool};

const ALERTS: &str = "deploy/prometheus/alerts.yml";
/// The longest that anything may take; only a failing test takes it.
const PATIENCE: Duration = Duration::from_secs(20);
const PREFIX: &str = "flameup_gateway_";

#[test]
fn every_alert_comes_about_when_it_should_and_not_before() {
    printed(command(tool("promtool")).args(["check", "rules", ALERTS]));
    let tests = "deploy/prometheus/alerts_test.yml";
    printed(command(tool("promtool")).args(["test", "rules", tests]));
    let tests = read(tests);
    let handbook = read("deploy/README.md");
    for alert in alerts() {
        let tried = format!("alertname: {alert}\n");
        assert!(tests.matches(&tried).count() >= 2, "{alert} is not tested");
        assert!(
            handbook.contains(&format!("| `{alert}` |")),
            "the handbook does not say what to do about {alert}"
        );
    }
}

#[test]
fn every_query_of_the_dashboard_is_one() {
    let made = tempfile::NamedTempFile::new().expect("a file");
    let mut rules = "groups:\n  - name: dashboard\n    rules:\n".to_owned();
    for (index, query) in queries().iter().enumerate() {
        let query = query.replace("$__rate_interval", "1m");
        let query = serde_json::to_string(&query).expect("text");
        write!(rules, "      - record: q{index}\n        expr: {query}\n").expect("memory");
    }
    fs::write(made.path(), rules).expect("room");
    let said = printed(
        command(tool("promtool"))
            .args(["check", "rules"])
            .arg(made.path()),
    );
    assert!(said.contains("rules found"), "{said}");
}

#[tokio::test]
async fn what_alerts_and_dashboard_ask_for_is_there() {
    let flameup = Sandbox::start(Options::default())
        .await
        .expect("a free port");
    let shown = tokio::task::spawn_blocking(move || shown_after_traffic(&flameup));
    let shown = shown.await.expect("it does not panic");
    let mut asked: Vec<String> = queries();
    asked.push(read(ALERTS));
    let mut count = 0;
    for (name, labels) in asked.iter().flat_map(|text| selectors(text)) {
        let there = shown.get(&name);
        let there = there.unwrap_or_else(|| panic!("{name} is not shown: {:?}", shown.keys()));
        // Prometheus adds it to whatever it scrapes.
        let missing = labels
            .iter()
            .find(|label| !there.contains(*label) && *label != "instance");
        assert_eq!(missing, None, "label of {name}, which has {there:?}");
        count += 1;
    }
    assert!(count > 40, "only {count} selectors were found");
}

fn read(path: &str) -> String {
    let path = format!("{}/{path}", env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn alerts() -> Vec<String> {
    let named = |line: &str| Some(line.trim().strip_prefix("- alert: ")?.to_owned());
    read(ALERTS).lines().filter_map(named).collect()
}

/// Every query of the dashboard's panels.
fn queries() -> Vec<String> {
    let dashboard: Value =
        serde_json::from_str(&read("deploy/grafana/dashboard.json")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let targets = panels
        .iter()
        .filter_map(|panel| panel["targets"].as_array());
    let query = |target: &Value| target["expr"].as_str().expect("a query").to_owned();
    targets.flatten().map(query).collect()
}

/// The names of our metrics in a text, each with the labels that it is selected by.
fn selectors(text: &str) -> Vec<(String, BTreeSet<String>)> {
    let starts = text.match_indices(PREFIX).map(|(at, _)| &text[at..]);
    let selector = |rest: &str| {
        let end = rest.find(|c: char| !(c.is_ascii_lowercase() || c == '_'));
        let (name, rest) = rest.split_at(end.unwrap_or(rest.len()));
        let matchers = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
        let matchers = matchers.map_or("", |(matchers, _)| matchers);
        (name.to_owned(), labels(matchers))
    };
    starts.map(selector).collect()
}

/// The names in `a="b",c=~"d"`, none of whose values has a comma.
fn labels(matchers: &str) -> BTreeSet<String> {
    let name = |matcher: &str| Some(matcher.split_once(['=', '!'])?.0.trim().to_owned());
    matchers.split(',').filter_map(name).collect()
}

/// The samples that a gateway shows once everything has happened to it, with their labels.
fn shown_after_traffic(flameup: &Sandbox) -> BTreeMap<String, BTreeSet<String>> {
    let redis = Redis::start();
    let gateway = Gateway::before(flameup, &redis);
    let get = |id: &str, headers: &str| {
        let target = format!("/api/v1/people/{id}");
        ask(&gateway.address, &format!("GET {target}"), headers, "")
    };
    let post = |address: &str, target: &str, body: &str| {
        let header = "Content-Type: application/json\r\n";
        let answer = ask(address, &format!("POST {target}"), header, body);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    };
    // At first gateways have no part of the budget, and do not know what they missed.
    let until = Instant::now() + PATIENCE;
    let is_ready = |metrics: &str| {
        let suspect = metrics
            .lines()
            .find(|line| line.contains("_redis_suspect{"));
        suspect.is_some_and(|line| line.ends_with(" 0"))
            && metrics.contains("redis_budget_granted_total{")
    };
    while !is_ready(&ask(&gateway.admin, "GET /metrics", "", "")) {
        assert!(
            Instant::now() < until,
            "nothing is granted: {}",
            ask(&gateway.admin, "GET /metrics", "", "")
        );
        get("user_1", "Prefer: wait=1\r\n");
    }
    for id in ["user_1", "user_1", "nobody"] {
        get(id, "");
    }
    post(
        &gateway.address,
        "/gateway/v1/people/lookup",
        r#"{"ids":["user_1"]}"#,
    );
    post(
        &gateway.admin,
        "/v1/purge",
        r#"{"id":"user_1","soft":true}"#,
    );
    get("user_1", "");
    // It hears of changes that others tell of.
    let other = Gateway::before(flameup, &redis);
    let change = || {
        let json = "Content-Type: application/json\r\n";
        let body = r#"{"traits":{"first_name":"New"}}"#;
        ask(&other.address, "PUT /api/v1/people/user_1", json, body)
    };
    // It may have to wait until it has a part of the budget.
    let changed = (0..10).any(|_| change().starts_with("HTTP/1.1 200 "));
    assert!(changed, "nobody can be changed");
    flameup.accept_key(ApiKey::new(DEMO_KEY, "ws_two"));
    get("user_2", "");
    // Until the budget refuses: nobody may ask for unknown people alone.
    let refused = (3..200).any(|number| {
        let answer = get(&format!("user_{number}"), "Prefer: wait=0\r\n");
        answer.starts_with("HTTP/1.1 429 ")
    });
    assert!(refused, "there is no end to the budget");
    let metrics = ask(&gateway.admin, "GET /metrics", "", "");
    let mut shown: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in metrics.lines().filter(|line| line.starts_with(PREFIX)) {
        let (name, _) = line.split_once([' ', '{']).expect("a sample");
        let matchers = line.split_once('{').map_or("", |(_, rest)| rest);
        let of_it = labels(matchers.split('}').next().unwrap_or_default());
        shown.entry(name.to_owned()).or_default().extend(of_it);
    }
    shown
}

/// One request, and the whole answer as text.
pub(super) fn ask(address: &str, line: &str, headers: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("it listens");
    let length = body.len();
    let request = format!(
        "{line} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: {length}\r\n\
         {headers}\r\n{body}"
    );
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

/// The program, serving. Dropping it ends it.
pub(super) struct Gateway {
    process: Child,
    pub(super) address: String,
    pub(super) admin: String,
}

impl Gateway {
    pub(super) fn before(flameup: &Sandbox, redis: &Redis) -> Self {
        let mut process = command(GATEWAY)
            .arg("serve")
            .env("FLAMEUP_API_KEY", DEMO_KEY)
            .env("FLAMEUP_GATEWAY__SERVER__LISTEN", "127.0.0.1:0")
            .env("FLAMEUP_GATEWAY__ADMIN__LISTEN", "127.0.0.1:0")
            .env("FLAMEUP_GATEWAY__UPSTREAM__BASE_URL", flameup.base_url())
            .env("FLAMEUP_GATEWAY__ANONYMOUS__WORKSPACE", "default")
            .env("FLAMEUP_GATEWAY__ANONYMOUS__SCOPES", "[\"*\"]")
            .envs(redis.settings())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let mut log = BufReader::new(process.stderr.take().expect("is piped"));
        let address = served_at(&mut log, "serving");
        let admin = served_at(&mut log, "serving operators");
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Self {
            process,
            address,
            admin,
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Waits for the line that says where it listens.
fn served_at(log: &mut BufReader<ChildStderr>, message: &str) -> String {
    let lines = log.lines().map_while(Result::ok);
    let mut entries = lines.filter_map(|line| serde_json::from_str::<Value>(&line).ok());
    let entry = entries.find(|entry| entry.to_string().contains(&format!("\"{message}\"")));
    let entry = entry.expect("it says where it listens");
    entry["server.address"]
        .as_str()
        .expect("an address")
        .to_owned()
}
