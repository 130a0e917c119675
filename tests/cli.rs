//! The program as an operator meets it: arguments in, lines and an exit status out.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use flameup_gateway::sandbox::{DEMO_KEY, ErrorShape, Fault, FaultKind, Options, Sandbox};
use process::Process;
use serde_json::Value;

#[path = "gateway/support/process.rs"]
mod process;

const KEY: (&str, &str) = ("FLAMEUP_API_KEY", DEMO_KEY);

/// Runs the program to its end: its exit status and its lines.
fn run(arguments: &[&str], environment: &[(&str, &str)]) -> (Option<i32>, Vec<String>) {
    let (status, lines) = Process::start(arguments, environment).end();
    (status.code(), lines)
}

fn secret() -> &'static str {
    DEMO_KEY.split('.').next_back().expect("a secret half")
}

fn file(text: &str) -> (tempfile::NamedTempFile, String) {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(text.as_bytes()).expect("room");
    let path = file.path().display().to_string();
    (file, path)
}

/// One GET, and the whole answer as text.
fn get(address: SocketAddr, target: &str, headers: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("it listens");
    let request = format!("GET {target} HTTP/1.1\r\nHost: a\r\n{headers}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

/// Waits for the line that says where `serve` listens.
fn served_at(program: &mut Process) -> SocketAddr {
    let line: Value = serde_json::from_str(&program.line_with("server.address")).expect("JSON");
    line["server.address"]
        .as_str()
        .expect("an address")
        .parse()
        .expect("an address")
}

#[test]
fn help_and_version_are_successes() {
    for (argument, text) in [
        ("--help", "serve"),
        ("--version", env!("CARGO_PKG_VERSION")),
    ] {
        let (status, lines) = run(&[argument], &[]);
        assert_eq!(status, Some(0));
        assert!(lines.iter().any(|line| line.contains(text)), "{lines:?}");
    }
}

#[test]
fn wrong_usage_is_told_and_exits_with_2() {
    for arguments in [
        &[][..],
        &["frobnicate"],
        &["serve", "--frobnicate"],
        &["token"],
        &["token", "old"],
    ] {
        let (status, lines) = run(arguments, &[KEY]);
        assert_eq!(status, Some(2), "{arguments:?}");
        assert!(
            lines.iter().any(|line| line.contains("Usage")),
            "{arguments:?}: {lines:?}"
        );
    }
}

#[test]
fn check_shows_every_value_with_its_origin_and_no_secret() {
    let (_file, path) = file("[cache]\nttl = \"30s\"\n");
    let environment = [KEY, ("FLAMEUP_GATEWAY__CACHE__NEGATIVE_TTL", "3s")];
    let (status, lines) = run(&["check", "--config", &path], &environment);
    assert_eq!(status, Some(0));
    let line = |key: &str| {
        let line = lines
            .iter()
            .find(|line| line.starts_with(&format!("{key} = ")));
        line.unwrap_or_else(|| panic!("no {key} in {lines:#?}"))
    };
    assert!(line("cache.ttl").contains("\"30s\"") && line("cache.ttl").contains(&path));
    assert!(line("cache.negative_ttl").contains("FLAMEUP_GATEWAY__CACHE__NEGATIVE_TTL"));
    assert!(line("cache.max_bytes").contains("# default"));
    assert!(line("workspaces.default.api_key").contains("<redacted>"));
    assert!(!lines.concat().contains(secret()));
}

#[test]
fn a_bad_file_is_one_line_that_names_key_and_file_and_exits_with_2() {
    let (_file, path) = file("[cache]\ntll = \"30s\"\n");
    let named = [KEY, ("FLAMEUP_GATEWAY_CONFIG", path.as_str())];
    for (arguments, environment) in [
        (&["check", "--config", &path][..], &[KEY][..]),
        (&["serve", "--config", &path], &[KEY]),
        (&["check"], &named),
    ] {
        let (status, lines) = run(arguments, environment);
        assert_eq!(status, Some(2));
        assert_eq!(lines.len(), 1, "{lines:#?}");
        assert!(
            lines[0].starts_with("flameup-gateway: cache.tll"),
            "{}",
            lines[0]
        );
        assert!(
            lines[0].contains(&path) && lines[0].contains("cache.ttl"),
            "{}",
            lines[0]
        );
    }
    let (status, lines) = run(&["check", "--config", "/nowhere/gateway.toml"], &[KEY]);
    assert_eq!((status, lines.len()), (Some(2), 1), "{lines:#?}");
    assert!(lines[0].contains("/nowhere/gateway.toml"));
}

#[test]
fn serve_without_a_key_says_which_variable_is_missing() {
    let (status, lines) = run(&["serve"], &[]);
    assert_eq!((status, lines.len()), (Some(2), 1), "{lines:#?}");
    assert!(lines[0].contains("FLAMEUP_API_KEY"), "{}", lines[0]);
}

#[test]
fn a_listener_beyond_this_machine_without_clients_is_refused() {
    let listen = ("FLAMEUP_GATEWAY__SERVER__LISTEN", "0.0.0.0:0");
    let (status, lines) = run(&["serve"], &[KEY, listen]);
    assert_eq!((status, lines.len()), (Some(2), 1), "{lines:#?}");
    assert!(lines[0].contains("server.listen"), "{}", lines[0]);
}

#[test]
fn programs_read_what_check_and_token_print_as_json() {
    let (status, lines) = run(&["check", "--json"], &[KEY]);
    assert_eq!(status, Some(0), "{lines:?}");
    assert!(!lines.concat().contains(secret()));
    let checked: Value = serde_json::from_str(&lines.concat()).expect("JSON");
    let settings = checked["settings"].as_array().expect("settings");
    let ttl = settings
        .iter()
        .find(|setting| setting["key"] == "cache.ttl");
    let ttl = ttl.expect("every setting is there");
    assert_eq!(ttl["origin"], "default");
    assert!(
        ttl["value"]
            .as_str()
            .is_some_and(|value| value.starts_with('"')),
        "{ttl}"
    );

    let (status, lines) = run(&["token", "new", "--json"], &[]);
    assert_eq!(status, Some(0), "{lines:?}");
    let made: Value = serde_json::from_str(&lines.concat()).expect("JSON");
    let token = made["token"].as_str().expect("the token");
    assert!(token.starts_with("fgw_"));
    assert_eq!(made["token_sha256"].as_str().map(str::len), Some(64));
}

#[test]
fn an_address_in_use_is_named_with_its_key() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address").to_string();
    let free = "127.0.0.1:0";
    for (server, admin, key) in [
        (address.as_str(), free, "server.listen"),
        (free, &address, "admin.listen"),
    ] {
        let environment = [
            KEY,
            ("FLAMEUP_GATEWAY__SERVER__LISTEN", server),
            ("FLAMEUP_GATEWAY__ADMIN__LISTEN", admin),
            ("FLAMEUP_GATEWAY__UPSTREAM__BASE_URL", "http://127.0.0.1:9"),
        ];
        let (status, lines) = run(&["serve"], &environment);
        assert_eq!((status, lines.len()), (Some(2), 1), "{lines:#?}");
        assert!(
            lines[0].contains(&address) && lines[0].contains(key),
            "{}",
            lines[0]
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_token_opens_the_gateway_whose_configuration_has_its_hash() {
    let (status, lines) = run(&["token", "new"], &[]);
    assert_eq!(status, Some(0));
    let value = |name: &str| {
        let line = lines.iter().find_map(|line| line.strip_prefix(name));
        line.expect("a line of that name").trim().to_owned()
    };
    let token = value("token ");
    let section = lines
        .iter()
        .position(|line| line == "[clients.NAME]")
        .expect("a section");
    assert!(lines[section..].concat().contains(&value("token_sha256 ")));
    assert!(token.starts_with("fgw_"));
    assert!(
        !run(&["token", "new"], &[]).1.concat().contains(&token),
        "each is another"
    );

    let flameup = Sandbox::start(Options::default())
        .await
        .expect("a free port");
    let (_file, path) = file(&format!(
        "server.listen = [\"127.0.0.1:0\"]\nadmin.listen = \"off\"\nupstream.base_url = \"{}\"\n{}\n",
        flameup.base_url(),
        lines[section..].join("\n").replace("NAME", "billing")
    ));
    let mut program = Process::start(&["serve", "--config", &path], &[KEY]);
    let address = served_at(&mut program);
    assert!(get(address, "/api/v1/people/user_1", "").starts_with("HTTP/1.1 401 "));
    let header = format!("Authorization: Bearer {token}\r\n");
    assert!(get(address, "/api/v1/people/user_1", &header).starts_with("HTTP/1.1 200 "));
}

#[test]
fn the_sandbox_says_where_it_is_and_serves() {
    let arguments = [
        "sandbox",
        "--listen",
        "127.0.0.1:0",
        "--control",
        "127.0.0.1:0",
    ];
    let mut program = Process::start(&arguments, &[]);
    let line = program.line_with("sandbox ");
    let address = line
        .split("http://")
        .nth(1)
        .expect("a URL")
        .parse()
        .expect("an address");
    program.line_with("control ");
    let header = format!("Authorization: Bearer {DEMO_KEY}\r\n");
    assert!(get(address, "/api/v1/people/user_1", &header).starts_with("HTTP/1.1 200 "));
    program.signal("TERM");
    assert_eq!(program.end().0.code(), Some(0));
}

#[test]
fn the_demo_prints_lines_that_work() {
    let arguments = ["demo", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let mut program = Process::start(&arguments, &[]);
    let mut seen = Vec::new();
    for _ in 0..4 {
        let line = program.line_with("  curl -i ");
        let url = line.split("http://").nth(1).expect("a URL");
        let (address, rest) = url.split_once('/').expect("a path");
        let target = format!("/{}", rest.split_whitespace().next().expect("a path"));
        let answer = get(address.parse().expect("an address"), &target, "");
        let status = answer
            .lines()
            .find_map(|line| line.strip_prefix("cache-status: "));
        seen.push((
            answer[9..12].to_owned(),
            status.expect("Cache-Status").contains("; hit"),
        ));
    }
    let expected = [("200", false), ("200", true), ("404", false), ("200", true)];
    assert_eq!(seen, expected.map(|(status, hit)| (status.to_owned(), hit)));
    program.signal("INT");
    assert_eq!(program.end().0.code(), Some(0));
}

/// What may stand in no log line, whatever happens and however much is logged.
struct Private {
    token: String,
    email: String,
    uuid: String,
}

impl Private {
    fn assert_absent(&self, line: &str) {
        let private = [
            DEMO_KEY,
            secret(),
            &self.token,
            &self.email,
            &self.uuid,
            "user_1",
            "nobody",
        ];
        for text in private {
            assert!(!line.contains(text), "{text} in {line}");
        }
        let folded = line.to_lowercase();
        assert!(
            !folded.contains(&self.email) && !folded.contains("%40"),
            "{line}"
        );
    }
}

/// Hits, misses, 404s, refusals and every kind of failure.
fn drive(flameup: &Sandbox, address: SocketAddr, private: &Private) {
    let header = format!("Authorization: Bearer {}\r\n", private.token);
    let long = format!("/api/v1/workspaces/ws_demo0001/people/{}", private.uuid);
    let targets = [
        "/api/v1/people/user_1".to_owned(),
        "/api/v1/people/nobody".to_owned(),
        format!("/api/v1/people/{}", private.email),
        format!(
            "/api/v1/people/{}",
            private.email.to_uppercase().replace('@', "%40")
        ),
        long,
        format!("/api/v1/people/user_1?token={}", private.token),
        format!("/nowhere/{}", private.email),
        "/api/v1/people/user_1%00".to_owned(),
    ];
    for target in targets.iter().chain(&targets) {
        get(address, target, &header);
        get(
            address,
            target,
            &format!("Authorization: Bearer {DEMO_KEY}\r\n"),
        );
        get(address, target, &format!("{header}{header}"));
        get(
            address,
            target,
            &format!("{header}X-Request-Id: {}\r\n", private.email),
        );
        get(
            address,
            target,
            &format!("{header}Cache-Control: no-cache\r\nTransfer-Encoding: x\r\n"),
        );
    }
    let echoing = FaultKind::Status {
        code: 200,
        headers: Vec::new(),
        body: Some(format!(
            "{{\"id\":\"{}\",\"email\":\"{}\",",
            private.uuid, private.email
        )),
        shape: ErrorShape::E,
    };
    for kind in [
        FaultKind::Reset,
        FaultKind::Truncate { bytes: 300 },
        FaultKind::Html200,
        FaultKind::EchoKey,
        FaultKind::OtherPerson {
            external_id: "user_1".to_owned(),
        },
        FaultKind::Raw {
            bytes: format!("{} {DEMO_KEY}\r\n\r\n", private.email).into_bytes(),
        },
        FaultKind::Hang,
        echoing,
    ] {
        let fresh = format!("{header}Cache-Control: no-cache\r\n");
        for target in &targets[..5] {
            flameup.clear_faults();
            flameup.fault(Fault::new(kind.clone()));
            get(address, target, &fresh);
            flameup.clear_faults();
            // Most lookups end well, so that none is kept back.
            for _ in 0..3 {
                get(address, "/api/v1/people/user_2", &fresh);
            }
        }
    }
    flameup.clear_faults();
    flameup.revoke_key(DEMO_KEY);
    get(
        address,
        &targets[0],
        &format!("{header}Cache-Control: no-cache\r\n"),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_log_line_names_a_person_or_a_secret_however_much_is_logged() {
    let flameup = Sandbox::start(Options::default().unlimited())
        .await
        .expect("a free port");
    let people = flameup.people();
    let token = flameup_gateway::token::Token::random().expect("random numbers");
    let private = Private {
        token: token.expose().to_owned(),
        email: people.email("user_1").expect("an e-mail"),
        uuid: people.uuid("user_1").expect("a UUID"),
    };
    let (_file, path) = file(&format!(
        "server.listen = [\"127.0.0.1:0\"]\nadmin.listen = \"off\"\n\
         upstream = {{ base_url = \"{}\", timeout = \"100ms\", connect_timeout = \"100ms\" }}\n\
         telemetry = {{ log_format = \"json\", log_filter = \"trace\", access_log = \"all\" }}\n\
         clients.billing = {{ workspace = \"default\", token_sha256 = [\"{}\"] }}\n\
         workspaces.default.budget.requests = 1_000_000\n",
        flameup.base_url(),
        token.sha256()
    ));
    let mut program = Process::start(&["serve", "--config", &path], &[KEY]);
    let address = served_at(&mut program);
    drive(&flameup, address, &private);
    program.signal("TERM");
    let (status, lines) = program.end();
    assert_eq!(status.code(), Some(0), "{lines:#?}");
    for line in &lines {
        assert!(
            serde_json::from_str::<Value>(line).is_ok_and(|line| line.is_object()),
            "{line}"
        );
        private.assert_absent(line);
    }
    let count = |text: &str| lines.iter().filter(|line| line.contains(text)).count();
    assert!(count("\"answered\"") >= 80, "requests are logged");
    assert!(count("\"forward failed\"") >= 30, "failures are logged");
    assert!(count("person.hash") >= 30, "people are told apart");
    assert!(count("billing") >= 40, "clients are named");
}

/// A sandbox, and a gateway before it that runs as a process of its own.
async fn running(config: &str) -> (Sandbox, Process, SocketAddr, String) {
    let flameup = Sandbox::start(Options::default().unlimited())
        .await
        .expect("a free port");
    let (_file, path) = file(&format!(
        "server.listen = [\"127.0.0.1:0\"]\nadmin.listen = \"127.0.0.1:0\"\n\
         upstream.base_url = \"{}\"\n{config}\n",
        flameup.base_url(),
    ));
    let mut program = Process::start(&["serve", "--config", &path], &[KEY]);
    let address = served_at(&mut program);
    let line: Value = serde_json::from_str(&program.line_with("serving operators")).expect("JSON");
    let admin = line["server.address"]
        .as_str()
        .expect("an address")
        .to_owned();
    (flameup, program, address, admin)
}

/// What a command that succeeds prints as JSON.
fn json_of(arguments: &[&str]) -> Value {
    let (status, lines) = run(&[arguments, &["--json"]].concat(), &[]);
    assert_eq!(status, Some(0), "{arguments:?}: {lines:#?}");
    serde_json::from_str(&lines.concat()).expect("JSON")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_look_up_explain_purge_and_erase_by_command() {
    let (_flameup, program, address, admin) = running("").await;
    let admin = ["--admin", &*admin];
    let json = |arguments: &[&str]| json_of(&[arguments, &admin].concat());

    let looked_up = json(&["lookup", "user_1"]);
    assert_eq!(looked_up["person"]["external_id"], "user_1");
    let uuid = looked_up["person"]["id"]
        .as_str()
        .expect("a UUID")
        .to_owned();
    assert!(get(address, "/api/v1/people/user_1", "").contains("hit; ttl="));
    let explained = json(&["explain", &uuid, "--uuid"]);
    assert!(
        explained["next"]["cache"]
            .as_str()
            .is_some_and(|next| next.starts_with("hit"))
    );
    let as_external_id = json(&["explain", &uuid]);
    assert_eq!(as_external_id["person"]["kind"], "external_id");
    assert_eq!(as_external_id["entry"], Value::Null);
    assert_eq!(json(&["purge", "user_1", "--soft"])["expired"], 1);
    assert_eq!(json(&["purge", "--everyone"])["removed"]["entries"], 1);
    json(&["lookup", "user_1"]);
    let receipt = json(&[
        "erase",
        "user_1",
        "--yes",
        "--hold",
        "2m",
        "--workspace",
        "default",
    ]);
    assert_eq!(receipt["removed"]["entries"], 1);
    assert_eq!(json(&["status"])["cache"]["people"]["entries"], 0);

    let (status, lines) = run(&[&["status"], &admin[..]].concat(), &[]);
    assert_eq!(status, Some(0));
    assert!(
        lines.iter().any(|line| line.starts_with("version")),
        "{lines:#?}"
    );
    let (status, lines) = run(&[&["lookup", "user_2"], &admin[..]].concat(), &[]);
    assert_eq!(status, Some(0));
    assert!(
        lines
            .iter()
            .any(|line| line.contains("\"external_id\": \"user_2\""))
    );
    let (status, _) = run(&[&["lookup", "nobody"], &admin[..]].concat(), &[]);
    assert_eq!(status, Some(0), "that there is nobody is an answer");

    program.signal("TERM");
    let (_, lines) = program.end();
    let log = lines.concat();
    assert!(log.contains("erased by an operator"));
    for name in ["user_1", "user_2", "nobody", &uuid, "@"] {
        assert!(!log.contains(name), "{name} in {log}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_fails_says_where_and_why_in_one_line() {
    let (_flameup, _program, _, admin) = running("").await;
    let free = TcpListener::bind("127.0.0.1:0").expect("a port");
    let closed = free.local_addr().expect("an address").to_string();
    drop(free);
    for (arguments, code, told) in [
        (&["status", "--admin", &*closed][..], 1, &*closed),
        (
            &["status", "--admin", "unix:/nowhere/socket"],
            1,
            "/nowhere/socket",
        ),
        (&["lookup", "a/../b", "--admin", &*admin], 2, "dot segment"),
        (&["explain", "x", "--uuid", "--admin", &*admin], 2, "uuid"),
        (
            &["purge", "u", "--workspace", "w", "--admin", &*admin],
            2,
            "workspace",
        ),
        (
            &["erase", "u", "--yes", "--hold", "9d", "--admin", &*admin],
            2,
            "hold",
        ),
        (&["erase", "user_1", "--admin", &*admin], 2, "--yes"),
        (
            &[
                "status",
                "--admin",
                &*admin,
                "--admin-token-file",
                "/nowhere/token",
            ],
            2,
            "/nowhere/token",
        ),
        (
            &["status", "--config", "/nowhere/gateway.toml"],
            2,
            "/nowhere/gateway.toml",
        ),
    ] {
        let (status, lines) = run(arguments, &[]);
        assert_eq!(
            (status, lines.len()),
            (Some(code), 1),
            "{arguments:?}: {lines:#?}"
        );
        assert!(lines[0].starts_with("flameup-gateway: "), "{}", lines[0]);
        assert!(lines[0].contains(told), "{arguments:?}: {}", lines[0]);
    }
    for arguments in [
        &["purge"][..],
        &["purge", "u", "--everyone"],
        &["lookup"],
        &["status", "--admin", "x"],
    ] {
        assert_eq!(run(arguments, &[]).0, Some(2), "{arguments:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_find_listener_and_token_where_serve_does_and_need_no_key() {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("admin.sock").display().to_string();
    let (_token, token) = file("an-admin-token-of-some-length\n");
    let flameup = Sandbox::start(Options::default())
        .await
        .expect("a free port");
    let (_file, path) = file(&format!(
        "server.listen = [\"127.0.0.1:0\"]\nadmin.listen = \"unix:{socket}\"\n\
         admin.token_file = \"{token}\"\nupstream.base_url = \"{}\"\n",
        flameup.base_url(),
    ));
    let mut program = Process::start(&["serve", "--config", &path], &[KEY]);
    program.line_with("serving operators");
    assert_eq!(run(&["status", "--config", &path], &[]).0, Some(0));
    let named = ("FLAMEUP_GATEWAY_CONFIG", path.as_str());
    assert_eq!(run(&["lookup", "user_1"], &[named]).0, Some(0));
    let admin = format!("unix:{socket}");
    let (status, lines) = run(&["status", "--admin", &admin], &[]);
    assert_eq!((status, lines.len()), (Some(1), 1), "{lines:#?}");
    assert!(
        lines[0].contains("401") && lines[0].contains(&socket),
        "{}",
        lines[0]
    );
    let with_token = ["status", "--admin", &admin, "--admin-token-file", &token];
    assert_eq!(run(&with_token, &[]).0, Some(0));
    // A line a look, until it is ended. Not by SIGINT, which whatever a shell runs in the background ignores.
    let watching = ["status", "--watch", "--json", "--config", &path];
    let mut watching = Process::start(&watching, &[]);
    for _ in 0..2 {
        watching.line_with("\"uptime_s\"");
    }
    watching.signal("TERM");
    assert!(!watching.end().0.success());
}
