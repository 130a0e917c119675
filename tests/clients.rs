//! Five clients people already have, looking people up through `flameup-gateway demo`.
//!
//! The programs in `tests/clients/` speak to Flameup the way its docs show, in five languages; all
//! that changes for them is the base URL. Each test starts the real program, takes the addresses
//! and a person from what it prints, asks the sandbox itself what that Person is, and hands all of
//! it to one client, which checks hits, 404s and both spellings of an e-mail address.
//!
//! `tests/run.sh` installs the interpreters. One that is missing fails its test: a client that
//! was not run says nothing about the gateway.

use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use flameup_gateway::sandbox::DEMO_KEY;
use tempfile::NamedTempFile;

/// Generous, because a busy two-core machine may be compiling the Go client meanwhile.
const START_DEADLINE: Duration = Duration::from_secs(30);

/// Bounds each read from the sandbox, which answers from memory.
const SANDBOX_DEADLINE: Duration = Duration::from_secs(10);

const UNKNOWN_ID: &str = "nobody-has-this-id";

#[test]
fn curl_as_the_flameup_docs_show_it() {
    passes("bash", &["curl.sh"]);
}

#[test]
fn python_requests_reads_a_person_with_json() {
    passes(&python(), &["requests_client.py"]);
}

#[test]
fn node_fetch_reads_a_person() {
    passes("node", &["fetch.mjs"]);
}

#[test]
fn go_net_http_reads_a_person() {
    passes("go", &["run", "main.go"]);
}

#[test]
fn ruby_net_http_reads_a_person_over_one_connection() {
    passes("ruby", &["net_http.rb"]);
}

/// Runs one client against a demo of its own and expects it to be content.
fn passes(program: &str, arguments: &[&str]) {
    let demo = Demo::start();
    let announced = &demo.announced;
    let mut person = NamedTempFile::new().expect("a temporary file can be made");
    person
        .write_all(&announced.person_from_sandbox())
        .expect("a temporary file can be written");

    let client = client_command(program)
        .args(arguments)
        .args([&announced.gateway, &announced.external_id, &announced.email])
        .arg(UNKNOWN_ID)
        .arg(person.path())
        .output();
    let output = match client {
        Ok(output) => output,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            panic!("{program} is missing: run tests/run.sh, which installs it")
        }
        Err(error) => panic!("running {program}: {error}"),
    };

    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && stdout.starts_with("ok "),
        "{program} {arguments:?} ended with {}\nstdout: {stdout}\nstderr: {}\ngateway's log: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr),
        demo.log(),
    );
}

/// A command in the clients' directory, kept clear of the caller's proxies and Go settings.
fn client_command(program: &str) -> Command {
    let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let mut command = Command::new(program);
    command
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients"))
        .stdin(Stdio::null())
        .env("no_proxy", "127.0.0.1")
        .env("NO_PROXY", "127.0.0.1")
        // Go needs a place for its build cache even where there is no home directory; the client
        // uses the standard library alone, so neither modules nor a C compiler come into it.
        .env("GOCACHE", scratch.join("go-build"))
        .env("GOPATH", scratch.join("go"))
        .env("GO111MODULE", "off")
        .env("GOENV", "off")
        .env("GOFLAGS", "")
        .env("GOTOOLCHAIN", "local")
        .env("CGO_ENABLED", "0");
    command
}

/// The Python that has `requests`: the environment `tests/run.sh` made, or else the machine's.
fn python() -> String {
    let made = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("../test-venv/bin/python3");
    if made.exists() {
        made.to_string_lossy().into_owned()
    } else {
        "python3".to_owned()
    }
}

/// A running `flameup-gateway demo`, ended when dropped.
struct Demo {
    // Held for its `Drop`, which ends the program however the test ends.
    _process: Process,
    stderr: NamedTempFile,
    announced: Announced,
}

impl Demo {
    fn start() -> Self {
        let stderr = NamedTempFile::new().expect("a temporary file can be made");
        let log = stderr.reopen().expect("a temporary file can be reopened");
        let mut child = Command::new(env!("CARGO_BIN_EXE_flameup-gateway"))
            .arg("demo")
            .args(["--listen", "127.0.0.1:0"])
            .args(["--admin", "127.0.0.1:0"])
            .args(["--upstream", "127.0.0.1:0"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the program was built with this test");
        let stdout = child.stdout.take().expect("stdout was asked to be piped");
        let process = Process(child);
        let announced = announcement_in(&lines_of(stdout)).unwrap_or_else(|printed| {
            let log = fs::read_to_string(stderr.path()).unwrap_or_default();
            panic!("the demo did not announce itself; it printed {printed:?} and logged: {log}")
        });
        Self {
            _process: process,
            stderr,
            announced,
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.stderr.path()).unwrap_or_default()
    }
}

struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // Either may fail only because the program has ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the demo prints about itself, as far as a client needs it.
#[derive(Debug, PartialEq)]
struct Announced {
    gateway: String,
    upstream: String,
    external_id: String,
    email: String,
}

impl Announced {
    /// Reads lines of a label and its values, with two or more spaces between them.
    fn parse(lines: &[String]) -> Option<Self> {
        let fields_of = |label: &str| {
            lines
                .iter()
                .map(|line| fields(line))
                .find(|fields| fields.first() == Some(&label))
        };
        let text = |fields: &[&str], index: usize| fields.get(index).map(|&field| field.to_owned());
        let person = fields_of("people")?;
        Some(Self {
            gateway: text(&fields_of("gateway")?, 1)?,
            upstream: text(&fields_of("upstream")?, 1)?,
            external_id: text(&person, 1)?,
            email: text(&person, 2)?,
        })
    }

    /// The Person's bytes as the API gives them, fetched past the gateway.
    fn person_from_sandbox(&self) -> Vec<u8> {
        let path = format!("/api/v1/people/{}", self.external_id);
        let body = get(&self.upstream, &path);
        let person: serde_json::Value =
            serde_json::from_slice(&body).expect("the sandbox gives a Person as JSON");
        assert_eq!(person["external_id"], self.external_id.as_str());
        assert_eq!(person["email"], self.email.as_str());
        body
    }
}

fn fields(line: &str) -> Vec<&str> {
    line.split("  ")
        .map(str::trim)
        .filter(|field| !field.is_empty())
        .collect()
}

/// Waits for a whole announcement, or gives back what came instead by the deadline.
fn announcement_in(lines: &Receiver<String>) -> Result<Announced, Vec<String>> {
    let deadline = Instant::now() + START_DEADLINE;
    let mut printed = Vec::new();
    while let Ok(line) = lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        printed.push(line);
        if let Some(announced) = Announced::parse(&printed) {
            return Ok(announced);
        }
    }
    Err(printed)
}

/// Reads lines on a thread of its own, to the end, so that the writer never meets a full pipe.
fn lines_of(stdout: ChildStdout) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            // Nobody listens any more once the announcement is whole.
            let _ = sender.send(line);
        }
    });
    receiver
}

/// Gets one body without a library. HTTP/1.0, so that its end is the connection's end.
fn get(base: &str, path: &str) -> Vec<u8> {
    let authority = base
        .strip_prefix("http://")
        .expect("the demo speaks cleartext HTTP");
    let mut stream = TcpStream::connect(authority).expect("the sandbox listens");
    stream
        .set_read_timeout(Some(SANDBOX_DEADLINE))
        .expect("the deadline is not zero");
    let request = format!(
        "GET {path} HTTP/1.0\r\nHost: {authority}\r\nAuthorization: Bearer {DEMO_KEY}\r\n\r\n"
    );
    stream
        .write_all(request.as_bytes())
        .expect("the sandbox takes a request");
    let mut response = Vec::new();
    stream
        .read_to_end(&mut response)
        .expect("the sandbox answers and closes");

    let head_end = response
        .windows(4)
        .position(|bytes| bytes == b"\r\n\r\n")
        .expect("the response has a head");
    let body = response.split_off(head_end + 4);
    let head = String::from_utf8_lossy(&response);
    let status = head.split(' ').nth(1);
    assert_eq!(status, Some("200"), "the sandbox answered {head}");
    body
}

#[test]
fn an_announcement_is_read_once_it_is_whole() {
    let lines = [
        "gateway   http://127.0.0.1:8080",
        "admin     http://127.0.0.1:9090",
        "upstream  http://127.0.0.1:41234   (the sandbox)",
        "people    user_1   ada.lovelace.1@example.com   123e4567-e89b-12d3-a456-426614174000",
    ]
    .map(str::to_owned);
    assert_eq!(Announced::parse(&lines[..3]), None);
    let whole = Announced {
        gateway: "http://127.0.0.1:8080".to_owned(),
        upstream: "http://127.0.0.1:41234".to_owned(),
        external_id: "user_1".to_owned(),
        email: "ada.lovelace.1@example.com".to_owned(),
    };
    assert_eq!(Announced::parse(&lines), Some(whole));
}
