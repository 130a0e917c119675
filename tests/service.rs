//! The program as its supervisor meets it: signals, readiness, files that change beneath it.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use flameup_gateway::sandbox::{DEMO_KEY, Options, Sandbox};
use flameup_gateway::token::Token;
use process::Process;
use serde_json::Value;

#[path = "gateway/support/process.rs"]
mod process;

const KEY: (&str, &str) = ("FLAMEUP_API_KEY", DEMO_KEY);

/// The longest that a message of the program's may take; only a failing test takes it.
const PATIENCE: Duration = Duration::from_secs(20);

/// A gateway before a sandbox, and the file that it is configured by.
struct Service {
    program: Process,
    address: SocketAddr,
    admin: SocketAddr,
    flameup: Sandbox,
    directory: tempfile::TempDir,
}

impl Service {
    async fn start(config: &str) -> Self {
        Self::start_with(config, &[KEY]).await
    }

    async fn start_with(config: &str, environment: &[(&str, &str)]) -> Self {
        let flameup = Sandbox::start(Options::default().unlimited()).await;
        let flameup = flameup.expect("a free port");
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("gateway.toml");
        fs::write(&file, whole(&flameup, config)).expect("it is ours");
        let path = file.display().to_string();
        let mut program = Process::start(&["serve", "--config", &path], environment);
        let address = address_in(&program.line_with("\"serving\""));
        let admin = address_in(&program.line_with("\"serving operators\""));
        Self {
            program,
            address,
            admin,
            flameup,
            directory,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes another configuration, has it read, and returns the line that says what came of it.
    fn reload(&mut self, config: &str) -> Value {
        let file = self.path("gateway.toml");
        fs::write(file, whole(&self.flameup, config)).expect("it is ours");
        self.program.signal("HUP");
        let line = self.program.line_with("reloaded");
        serde_json::from_str(&line).expect("JSON")
    }

    fn status(&self, token: Option<&str>) -> u16 {
        let headers = token.map(|token| format!("Authorization: Bearer {token}\r\n"));
        status(
            self.address,
            "/api/v1/people/user_1",
            &headers.unwrap_or_default(),
        )
    }
}

fn whole(flameup: &Sandbox, config: &str) -> String {
    format!(
        "server.listen = [\"127.0.0.1:0\"]\nadmin.listen = \"127.0.0.1:0\"\n\
         upstream.base_url = \"{}\"\ntelemetry.log_format = \"json\"\n{config}\n",
        flameup.base_url()
    )
}

fn address_in(line: &str) -> SocketAddr {
    let line: Value = serde_json::from_str(line).expect("JSON");
    let address = line["server.address"].as_str().expect("an address");
    address.parse().expect("an address")
}

/// The status of one GET.
fn status(address: SocketAddr, target: &str, headers: &str) -> u16 {
    let mut stream = TcpStream::connect(address).expect("it listens");
    let request =
        format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{headers}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let status = answer
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    status.unwrap_or_else(|| panic!("no status in {answer}"))
}

fn client(name: &str, token: &Token) -> String {
    let digest = token.sha256();
    format!("[clients.{name}]\nworkspace = \"default\"\ntoken_sha256 = [\"{digest}\"]\n")
}

fn token() -> Token {
    Token::random().expect("random numbers")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_come_go_and_change_at_sighup() {
    let (one, two) = (token(), token());
    let mut service = Service::start(&client("one", &one)).await;
    assert_eq!(service.status(Some(one.expose())), 200);
    assert_eq!(service.status(Some(two.expose())), 401);

    let both = client("one", &one) + &client("two", &two);
    let line = service.reload(&both);
    let changed = line["changed"].as_str().expect("keys");
    assert!(changed.contains("clients.two.token_sha256"), "{line}");
    assert!(!changed.contains("clients.one"), "{line}");
    assert_eq!(service.status(Some(one.expose())), 200);
    assert_eq!(service.status(Some(two.expose())), 200);

    let without = client("one", &one) + "scopes = [\"people:list\"]\n";
    let line = service.reload(&without);
    assert!(
        line["changed"]
            .as_str()
            .is_some_and(|keys| keys.contains("clients.one.scopes"))
    );
    assert_eq!(service.status(Some(one.expose())), 403);
    assert_eq!(service.status(Some(two.expose())), 401);
    let line = service.reload(&without);
    assert_eq!(line["changed"], Value::Null);
    service.program.signal("TERM");
    assert_eq!(service.program.end().0.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_change_or_is_wrong_changes_nothing_at_all() {
    let (one, two) = (token(), token());
    let mut service = Service::start(&client("one", &one)).await;
    let both = client("one", &one) + &client("two", &two);
    for (config, problem) in [
        (
            format!("cache.ttl = \"30s\"\n{both}"),
            "cache.ttl cannot change",
        ),
        (
            format!("{both}[workspaces.default]\napi_key_env = \"MORE\"\n"),
            "MORE is not set",
        ),
        (
            format!("{both}scopes = [\"everything\"]\n"),
            "clients.two.scopes",
        ),
        (
            format!("admin.token_file = \"/nowhere/token\"\n{both}"),
            "/nowhere/token",
        ),
        (format!("{both}\n[["), "gateway.toml:"),
    ] {
        let line = service.reload(&config);
        let error = line["error"].as_str().expect("an error");
        assert!(error.contains(problem), "{line}");
        assert_eq!(line["message"], "not reloaded; everything stays as it was");
        assert_eq!(service.status(Some(one.expose())), 200);
        assert_eq!(service.status(Some(two.expose())), 401);
    }
    service.reload(&both);
    assert_eq!(service.status(Some(two.expose())), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_access_log_and_the_filter_change_at_sighup() {
    let mut service = Service::start("telemetry.access_log = \"off\"").await;
    assert_eq!(service.status(None), 200);
    service.reload("telemetry.access_log = \"all\"");
    assert_eq!(service.status(None), 200);
    service.program.line_with("\"answered\"");
    service.reload(
        "telemetry.access_log = \"all\"\ntelemetry.log_filter = \"info,flameup_gateway::access=off\"",
    );
    assert_eq!(service.status(None), 200);
    service.reload("telemetry.access_log = \"errors\"");
    assert_eq!(service.status(None), 200);
    assert_eq!(status(service.address, "/api/v1/people/%00", ""), 400);
    service.program.line_with("\"answered\"");
    service.program.signal("TERM");
    let (_, lines) = service.program.end();
    let answered = lines.iter().filter(|line| line.contains("\"answered\""));
    assert_eq!(answered.count(), 2, "{lines:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_admin_token_file_counts_at_sighup_and_the_token_before_with_it() {
    let mut service = Service::start("").await;
    let (old, new) = ("0123456789abcdef-old", "0123456789abcdef-new");
    for (name, token) in [("old", old), ("new", new)] {
        fs::write(service.path(name), token).expect("it is ours");
    }
    let named = |service: &Service, name| format!("admin.token_file = {:?}", service.path(name));
    let answered = |service: &Service, token: &str| {
        let header = format!("Authorization: Bearer {token}\r\n");
        status(service.admin, "/v1/status", &header)
    };
    assert_eq!(status(service.admin, "/v1/status", ""), 200);
    let config = named(&service, "old");
    service.reload(&config);
    assert_eq!(status(service.admin, "/v1/status", ""), 401);
    assert_eq!(
        (answered(&service, old), answered(&service, new)),
        (200, 401)
    );
    let config = named(&service, "new");
    service.reload(&config);
    assert_eq!(
        (answered(&service, old), answered(&service, new)),
        (200, 200)
    );
    let config = format!("{config}\nsecrets.overlap = \"0s\"");
    service.reload(&config);
    let config = named(&service, "old") + "\nsecrets.overlap = \"0s\"";
    service.reload(&config);
    assert_eq!(
        (answered(&service, old), answered(&service, new)),
        (200, 401)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_that_breaks_while_it_is_in_use_is_kept_and_said_once() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), DEMO_KEY).expect("it is ours");
    let config = format!("workspaces.default.api_key_file = {:?}", file.path());
    let mut service = Service::start_with(&config, &[]).await;
    fs::write(file.path(), "half of\na key").expect("it is ours");
    let line = service.program.line_with("the one before is kept");
    assert!(line.contains(&file.path().display().to_string()), "{line}");
    assert_eq!(service.status(None), 200);
    // Reloading is all or nothing too.
    assert!(service.reload(&config)["error"].is_string());
    assert_eq!(service.status(None), 200);
    fs::write(file.path(), format!("{DEMO_KEY}x")).expect("it is ours");
    service
        .program
        .line_with("the key was replaced in its file");
    service.program.signal("TERM");
    let (_, lines) = service.program.end();
    let said = lines
        .iter()
        .filter(|line| line.contains("the one before is kept"));
    assert_eq!(said.count(), 1, "{lines:#?}");
    assert!(!lines.concat().contains("half of") && !lines.concat().contains(DEMO_KEY));
}

/// The next message to the supervisor.
fn told(socket: &UnixDatagram) -> String {
    let mut message = [0; 1024];
    let length = socket.recv(&mut message).expect("a message");
    String::from_utf8_lossy(&message[..length]).into_owned()
}

/// The next message that is not merely a sign of life.
fn told_state(socket: &UnixDatagram) -> String {
    loop {
        let message = told(socket);
        if !message.starts_with("WATCHDOG=1") {
            return message;
        }
    }
}

fn supervisor(directory: &Path) -> (UnixDatagram, String) {
    let path = directory.join("notify");
    let socket = UnixDatagram::bind(&path).expect("a socket of ours");
    socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    (socket, path.display().to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_supervisor_is_told_when_it_serves_reloads_and_stops() {
    let directory = tempfile::tempdir().expect("a directory");
    let (socket, path) = supervisor(directory.path());
    let environment = [KEY, ("NOTIFY_SOCKET", &path), ("WATCHDOG_USEC", "200000")];
    let mut service = Service::start_with("", &environment).await;
    assert!(told_state(&socket).contains("READY=1"));
    // By then it listens.
    assert_eq!(service.status(None), 200);
    while !told(&socket).starts_with("WATCHDOG=1") {}
    service.reload("");
    let reloading = told_state(&socket);
    assert!(reloading.contains("RELOADING=1") && reloading.contains("MONOTONIC_USEC="));
    assert!(told_state(&socket).contains("READY=1"));
    service.program.signal("TERM");
    assert!(told_state(&socket).contains("STOPPING=1"));
    assert_eq!(service.program.end().0.code(), Some(0));
}

#[test]
fn nobody_is_told_that_it_serves_when_it_does_not() {
    let directory = tempfile::tempdir().expect("a directory");
    let (socket, path) = supervisor(directory.path());
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address").to_string();
    let listen = ("FLAMEUP_GATEWAY__SERVER__LISTEN", &*address);
    let (status, lines) =
        Process::start(&["serve"], &[KEY, listen, ("NOTIFY_SOCKET", &path)]).end();
    assert_eq!((status.code(), lines.len()), (Some(2), 1), "{lines:#?}");
    assert!(
        lines[0].contains(&address) && lines[0].contains("server.listen"),
        "{lines:#?}"
    );
    socket.set_nonblocking(true).expect("a mode");
    assert!(socket.recv(&mut [0; 16]).is_err());
}

#[test]
fn a_secret_that_cannot_be_used_is_one_line_and_2() {
    let directory = tempfile::tempdir().expect("a directory");
    let half = directory.path().join("half");
    fs::write(&half, "ws_live_abc\u{0}\u{0}").expect("it is ours");
    let empty = directory.path().join("empty");
    fs::write(&empty, "\n").expect("it is ours");
    let missing = directory.path().join("missing");
    for file in [&half, &empty, &missing, &directory.path().to_owned()] {
        let file = file.display().to_string();
        for variable in [
            "FLAMEUP_GATEWAY__WORKSPACES__DEFAULT__API_KEY_FILE",
            "FLAMEUP_GATEWAY__ADMIN__TOKEN_FILE",
            "FLAMEUP_GATEWAY__TELEMETRY__HASH_KEY_FILE",
        ] {
            let environment = [KEY, (variable, &*file)];
            let (status, lines) = Process::start(&["serve"], &environment).end();
            assert_eq!((status.code(), lines.len()), (Some(2), 1), "{lines:#?}");
            assert!(
                lines[0].contains(&file) && lines[0].contains(variable),
                "{lines:#?}"
            );
            assert!(!lines[0].contains("ws_live_abc"), "{lines:#?}");
        }
    }
}

#[test]
fn check_says_what_is_wrong_with_certificates_and_shows_no_key() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name).display().to_string();
    let (cert_file, key_file) = (path("cert"), path("key"));
    let environment = [
        KEY,
        ("FLAMEUP_GATEWAY__SERVER__TLS__CERT_FILE", &cert_file),
        ("FLAMEUP_GATEWAY__SERVER__TLS__KEY_FILE", &key_file),
    ];
    let identity = || rcgen::generate_simple_self_signed(["a".to_owned()]).expect("a certificate");
    let (one, two) = (identity(), identity());
    let key = one.signing_key.serialize_pem();
    fs::write(&cert_file, one.cert.pem()).expect("it is ours");
    for (content, named) in [
        (None, &*key_file),
        (Some("no key"), "server.tls.key_file"),
        (Some(&*two.signing_key.serialize_pem()), "server.tls"),
    ] {
        if let Some(content) = content {
            fs::write(&key_file, content).expect("it is ours");
        }
        let (status, lines) = Process::start(&["check"], &environment).end();
        assert_eq!((status.code(), lines.len()), (Some(2), 1), "{lines:#?}");
        assert!(lines[0].contains(named), "{lines:#?}");
    }
    fs::write(&key_file, &key).expect("it is ours");
    let (status, lines) = Process::start(&["check"], &environment).end();
    assert_eq!(status.code(), Some(0), "{lines:#?}");
    let text = lines.concat();
    assert!(text.contains(&key_file) && !text.contains("PRIVATE"));
    assert!(key.lines().all(|line| !text.contains(line)));
}

#[test]
fn check_says_where_secrets_come_from_and_not_what_they_are() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut environment = vec![KEY];
    let files: Vec<(String, String, &str)> = [("admin", "token"), ("telemetry", "hash_key")]
        .into_iter()
        .map(|(section, secret)| {
            let file = directory.path().join(secret).display().to_string();
            fs::write(
                &file,
                format!("canary-{secret}-0123456789abcdef-0123456789abcdef"),
            )
            .expect("it is ours");
            let name = format!("{section}__{secret}_file").to_uppercase();
            (format!("FLAMEUP_GATEWAY__{name}"), file, secret)
        })
        .collect();
    environment.extend(
        files
            .iter()
            .map(|(variable, file, _)| (&**variable, &**file)),
    );
    let (status, lines) = Process::start(&["check"], &environment).end();
    assert_eq!(status.code(), Some(0), "{lines:#?}");
    for (_, file, secret) in &files {
        let shown = lines
            .iter()
            .find(|line| line.contains(&format!("{secret} = <redacted>")));
        assert!(
            shown.is_some_and(|line| line.contains(&**file)),
            "{lines:#?}"
        );
    }
    assert!(!lines.concat().contains("canary-") && !lines.concat().contains(DEMO_KEY));
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_core_is_dumped_unless_it_is_allowed() {
    for (config, denied) in [("", true), ("secrets.core_dumps = true", false)] {
        let service = Service::start(config).await;
        let process = PathBuf::from(format!("/proc/{}", service.program.id()));
        let limits = fs::read_to_string(process.join("limits")).expect("ours to read");
        let own = fs::read_to_string("/proc/self/limits").expect("ours to read");
        let core = |limits: &str| {
            let line = limits
                .lines()
                .find(|line| line.starts_with("Max core file size"));
            let line = line.expect("a limit").split_whitespace();
            line.map(str::to_owned).nth(4)
        };
        let expected = if denied {
            Some("0".to_owned())
        } else {
            core(&own)
        };
        assert_eq!(core(&limits), expected, "{config}");
    }
}

/// Names of people are hashed alike by all processes that have the same key, and by no others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_have_one_hash_in_all_processes_that_share_a_key() {
    let mut hashes = Vec::new();
    for key in [Some('a'), Some('a'), Some('b'), None, None] {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("hash-key");
        fs::write(
            &file,
            key.map(|key| key.to_string().repeat(32))
                .unwrap_or_default(),
        )
        .expect("it is ours");
        let config = key.map(|_| format!("telemetry.hash_key_file = {file:?}"));
        let service = Service::start(&config.unwrap_or_default()).await;
        let mut stream = TcpStream::connect(service.admin).expect("it listens");
        let request =
            "GET /v1/explain?id=user_1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        assert!(!answer.contains("user_1"), "{answer}");
        let body = answer.split("\r\n\r\n").nth(1).expect("a body");
        let explained: Value = serde_json::from_str(body).expect("JSON");
        hashes.push(
            explained["person"]["hash"]
                .as_str()
                .expect("a hash")
                .to_owned(),
        );
    }
    assert_eq!(hashes[0], hashes[1]);
    for (at, hash) in hashes.iter().enumerate().skip(1) {
        assert!(!hashes[at + 1..].contains(hash), "{hashes:?}");
    }
}

/// Whatever is sent in bodies, by clients and by operators, stands in no log line and no metric.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_body_and_nobody_in_it_is_logged_or_counted() {
    let config = "anonymous = { workspace = \"default\", scopes = [\"*\"] }\n\
                  telemetry.log_filter = \"trace\"\ntelemetry.access_log = \"all\"";
    let service = Service::start(config).await;
    let person = r#"{"userId":"canary-1","email":"canary-1@example.com","traits":{"a":"canary"}}"#;
    let (client, operator) = (service.address, service.admin);
    for (address, target, body) in [
        (client, "/api/v1/people", person.to_owned()),
        (
            client,
            "/api/v1/people/batch",
            format!("{{\"people\":[{person}]}}"),
        ),
        (client, "/api/v1/people", format!("{person} not JSON")),
        (
            client,
            "/api/v1/track",
            format!("{{\"event\":\"canary\",\"userId\":\"canary-1\",\"x\":{person}}}"),
        ),
        (client, "/api/v1/nowhere/canary-1", person.to_owned()),
        (
            client,
            "/gateway/v1/people/lookup",
            r#"{"ids":["canary-1","canary-2"]}"#.to_owned(),
        ),
        (
            client,
            "/gateway/v1/people/lookup",
            r#"{"ids":["canary-1"],"canary":1}"#.to_owned(),
        ),
        (operator, "/v1/lookup", r#"{"id":"canary-1"}"#.to_owned()),
        (operator, "/v1/purge", r#"{"id":"canary-1"}"#.to_owned()),
        (operator, "/v1/erase", r#"{"id":"canary-1"}"#.to_owned()),
        (
            operator,
            "/v1/erase",
            r#"{"id":"canary-1","canary":1}"#.to_owned(),
        ),
    ] {
        let mut stream = TcpStream::connect(address).expect("it listens");
        let request = format!(
            "POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).expect("it reads");
        stream.read_to_end(&mut Vec::new()).expect("an answer");
    }
    let mut stream = TcpStream::connect(operator).expect("it listens");
    let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut metrics = String::new();
    stream.read_to_string(&mut metrics).expect("an answer");
    assert!(metrics.contains("looked_up") && !metrics.contains("canary"));
    service.program.signal("TERM");
    let (_, lines) = service.program.end();
    let answered = lines.iter().filter(|line| line.contains("\"answered\""));
    assert!(answered.count() >= 7, "{lines:#?}");
    for line in lines {
        assert!(!line.contains("canary"), "{line}");
    }
}
