//! What the memory of a real process still holds of a person who was erased.

use std::fs::{File, read_to_string};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::FileExt;

use flameup_gateway::sandbox::{DEMO_KEY, Options, Sandbox};
use memchr::memmem;
use process::Process;
use serde_json::{Value, json};

#[path = "gateway/support/process.rs"]
mod process;

/// Rounds of other people's requests, for stacks to be used again, before the test gives up.
const ROUNDS: usize = 20;

/// Bytes that are looked through at a time, and how far names reach into the next.
const PIECE: usize = 1 << 20;
const OVERLAP: usize = 64;

/// One request over a connection of its own, and the whole answer as text.
fn ask(address: SocketAddr, head: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("it listens");
    let of_body = if body.is_empty() {
        String::new()
    } else {
        let length = body.len();
        format!("Content-Type: application/json\r\nContent-Length: {length}\r\n")
    };
    let request =
        format!("{head} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{of_body}\r\n{body}");
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

fn get(address: SocketAddr, id: &str) -> String {
    ask(address, &format!("GET /api/v1/people/{id}"), "")
}

/// Waits for the line that says where it listens.
fn address(program: &mut Process, text: &str) -> SocketAddr {
    let line: Value = serde_json::from_str(&program.line_with(text)).expect("JSON");
    let address = line["server.address"].as_str().expect("an address");
    address.parse().expect("an address")
}

/// How often each of `names` stands in what a process may write to, its stacks included.
fn found(process: u32, names: &[&[u8]]) -> Vec<usize> {
    let maps = read_to_string(format!("/proc/{process}/maps")).expect("it runs");
    let memory = File::open(format!("/proc/{process}/mem")).expect("it is our child");
    let untouched = vec![0; PIECE + OVERLAP];
    let mut counts = vec![0; names.len()];
    for map in maps.lines() {
        let mut words = map.split_whitespace();
        let (range, rights) = (words.next(), words.next());
        if !rights.is_some_and(|rights| rights.starts_with("rw")) {
            continue;
        }
        let (start, end) = range
            .and_then(|range| range.split_once('-'))
            .expect("a range");
        let number = |text| u64::from_str_radix(text, 16).expect("an address");
        let (start, end) = (number(start), number(end));
        for piece in (start..end).step_by(PIECE) {
            // Up to where the next begins and as far into it as a name may reach.
            let length = usize::try_from(end - piece).expect("a size");
            let mut bytes = vec![0; length.min(PIECE + OVERLAP)];
            // What the system keeps there for itself cannot be read, and most of what an allocator
            // has in reserve was never written to.
            if memory.read_exact_at(&mut bytes, piece).is_err() || bytes == untouched[..bytes.len()]
            {
                continue;
            }
            for (count, name) in counts.iter_mut().zip(names) {
                let begins_here = |at: &usize| *at < PIECE;
                *count += memmem::find_iter(&bytes, name).filter(begins_here).count();
            }
        }
    }
    counts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erased_person_is_gone_from_logs_and_from_the_memory_of_the_process() {
    let flameup = Sandbox::start(Options::default().unlimited())
        .await
        .expect("a free port");
    let environment = [
        ("FLAMEUP_API_KEY", DEMO_KEY),
        ("FLAMEUP_GATEWAY__SERVER__LISTEN", "127.0.0.1:0"),
        ("FLAMEUP_GATEWAY__ADMIN__LISTEN", "127.0.0.1:0"),
        ("FLAMEUP_GATEWAY__UPSTREAM__BASE_URL", &*flameup.base_url()),
        ("FLAMEUP_GATEWAY__TELEMETRY__ACCESS_LOG", "all"),
        ("FLAMEUP_GATEWAY__ANONYMOUS__WORKSPACE", "default"),
        ("FLAMEUP_GATEWAY__ANONYMOUS__SCOPES", "*"),
        // Memory that may not be dumped may not be looked through either, but by root.
        ("FLAMEUP_GATEWAY__SECRETS__CORE_DUMPS", "true"),
    ];
    let mut program = Process::start(&["serve"], &environment);
    let clients = address(&mut program, "server.address");
    let operators = address(&mut program, "serving operators");

    let people = flameup.people();
    let (id, email) = ("user_4711", people.email("user_4711").expect("an e-mail"));
    let uuid = people.uuid(id).expect("a UUID");
    let raw = uuid.parse::<uuid::Uuid>().expect("a UUID").into_bytes();
    for name in [&*email, id, &email, id] {
        assert!(get(clients, name).contains(&uuid));
    }
    let names = [id.as_bytes(), email.as_bytes(), uuid.as_bytes(), &raw];
    let before = found(program.id(), &names);
    assert!(before.iter().all(|count| *count > 0), "{before:?}");

    // What a write removes has gone before the erasure looks for it.
    let change = json!({"traits": {"first_name": "Ada"}}).to_string();
    let written = ask(clients, &format!("PUT /api/v1/people/{email}"), &change);
    assert!(written.contains(&uuid), "{written}");
    let receipt = ask(operators, "POST /v1/erase", &json!({"id": id}).to_string());
    assert!(receipt.contains("\"confirmed\":true"), "{receipt}");
    let mut left = Vec::new();
    for _ in 0..ROUNDS {
        for number in 1..200 {
            get(clients, &format!("user_{number}"));
            get(clients, &format!("somebody.else.{number}@example.com"));
        }
        left = found(program.id(), &names);
        if left.iter().all(|count| *count == 0) {
            break;
        }
    }
    assert_eq!(left, [0; 4], "id, e-mail, UUID as text and as bytes");

    program.signal("TERM");
    let log = program.end().1.concat();
    assert!(log.contains("erased by an operator"));
    for name in [id, &*email, &*uuid] {
        assert!(!log.contains(name), "{name}");
    }
}
