//! What is fuzzed, each a function of bytes that panics when a promise is broken.
//!
//! `fuzz_targets` hands them to libFuzzer (`cargo +nightly fuzz run identifier`, in this directory's
//! parent); `tests/fuzz.rs` runs the same functions over the corpus and over mutations of it, on a
//! stable compiler, with every test run. An input that once failed belongs into `corpus`.

use std::future::Future;
use std::net::IpAddr;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use flameup_gateway::cache::control::{RequestDirectives, ResponseDirectives};
use flameup_gateway::config::{Config, Sources};
use flameup_gateway::person::body::{self, Identity};
use flameup_gateway::person::change::{Kind, Touched, whole_people};
use flameup_gateway::person::{MAX_ID_BYTES, PersonRef};
use flameup_gateway::route::Route;
use flameup_gateway::server::proxied;
use flameup_gateway::shield::signals::Signals;
use http::header::{CACHE_CONTROL, HeaderName};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};

/// One target: its name, which is its directory in the corpus, and what it runs.
pub(crate) type Target = (&'static str, fn(&[u8]));

/// All of them.
pub(crate) const TARGETS: [Target; 7] = [
    ("identifier", identifier),
    ("route", route),
    ("directives", directives),
    ("signals", signals),
    ("person", person),
    ("config", config),
    ("proxied", proxied),
];

/// An identifier has one normal form: what is forwarded for it means itself again, and nothing else.
pub(crate) fn identifier(input: &[u8]) {
    let Ok(segment) = std::str::from_utf8(input) else {
        return;
    };
    if let Ok(text) = PersonRef::from_text(segment) {
        assert_normal(&text);
    }
    let Ok(person) = PersonRef::from_id(segment) else {
        return;
    };
    assert_normal(&person);
}

fn assert_normal(person: &PersonRef<'_>) {
    let PersonRef::Id(id) = person else {
        unreachable!("the short form names no UUID")
    };
    assert!(!id.as_str().is_empty() && id.as_str().len() <= MAX_ID_BYTES);
    assert!(!matches!(id.as_str(), "." | ".."));
    assert!(!id.as_str().chars().any(char::is_control));
    let path = person.path();
    let segment = path
        .strip_prefix("/api/v1/people/")
        .expect("the short path");
    assert_canonical(segment);
    let again = PersonRef::from_id(segment).expect("what is forwarded is an identifier");
    assert!(again == *person && again.path() == path);
}

fn assert_canonical(segment: &str) {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~@%".contains(&byte);
    assert!(segment.bytes().all(plain), "{segment:?}");
}

/// Whatever the target, what is asked of Flameup is below its API, with no segment that another
/// reader could read in another way.
pub(crate) fn route(input: &[u8]) {
    let (which, rest) = input.split_first().unwrap_or((&0, b"/"));
    let methods = [
        "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "get",
    ];
    let method = methods[usize::from(*which) % methods.len()];
    let method = Method::from_bytes(method.as_bytes()).expect("a method");
    let Ok(target) = Uri::try_from(rest) else {
        return;
    };
    let path = match Route::classify(&method, &target) {
        Ok(Route::ReadPerson { person, .. }) => person.path(),
        Ok(Route::Forward(forward)) => forward.path().to_owned(),
        Err(_) => return,
    };
    let below = path.strip_prefix("/api/v1/").expect("below the API");
    for segment in below.split('/') {
        assert!(!matches!(segment, "" | "." | ".."), "{path:?}");
        assert!(!segment.contains(['\\', '?', '#', ' ', ';']), "{path:?}");
        assert!(
            segment.bytes().all(|byte| byte.is_ascii_graphic()),
            "{path:?}"
        );
    }
}

/// One more line of `Cache-Control` never allows what those before it forbade.
pub(crate) fn directives(input: &[u8]) {
    let mut headers = HeaderMap::new();
    let (mut kept, mut asked) = (
        ResponseDirectives::of(&headers),
        RequestDirectives::of(&headers),
    );
    for line in input.split(|byte| *byte == b'\n').take(20) {
        let Ok(value) = HeaderValue::from_bytes(line) else {
            continue;
        };
        let is_ban = line.trim_ascii().eq_ignore_ascii_case(b"no-store");
        headers.append(CACHE_CONTROL, value);
        let now = ResponseDirectives::of(&headers);
        assert!(now.forbids_storing || !(kept.forbids_storing || is_ban));
        assert!(now.must_revalidate || !kept.must_revalidate);
        let demanded = RequestDirectives::of(&headers);
        assert!(demanded.no_store || !(asked.no_store || is_ban));
        assert!(demanded.no_cache || !asked.no_cache);
        assert!(demanded.only_if_cached || !asked.only_if_cached);
        assert!(
            demanded.max_age.unwrap_or(Duration::MAX) <= asked.max_age.unwrap_or(Duration::MAX)
        );
        assert!(demanded.min_fresh >= asked.min_fresh);
        (kept, asked) = (now, demanded);
    }
}

/// Whatever Flameup says of its limit, nobody is sent away for longer than two windows, or for less
/// than a second.
pub(crate) fn signals(input: &[u8]) {
    const NAMES: [&str; 5] = [
        "x-ratelimit-limit",
        "x-ratelimit-remaining",
        "x-ratelimit-reset",
        "retry-after",
        "date",
    ];
    let mut headers = HeaderMap::new();
    for (name, line) in NAMES.iter().zip(input.split(|byte| *byte == b'\n')) {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append(HeaderName::from_static(name), value);
        }
    }
    let signals = Signals::of(StatusCode::TOO_MANY_REQUESTS, &headers);
    assert!(signals.limit != Some(0));
    for now in [SystemTime::UNIX_EPOCH, SystemTime::now()] {
        for seconds in [1, 60, 3600] {
            let window = Duration::from_secs(seconds);
            let wait = signals.wait(now, window);
            assert!(
                wait >= Duration::from_secs(1) && wait <= (2 * window).max(Duration::from_secs(1))
            );
        }
    }
}

/// A body is a person whole or not at all, and reading names out of anything ends.
pub(crate) fn person(input: &[u8]) {
    let _ = body::fields(input);
    for kind in [Kind::People, Kind::Event] {
        let _ = Touched::of_body(kind, input);
    }
    for one in whole_people(&Bytes::copy_from_slice(input)) {
        assert!(
            Identity::read(&one).is_ok(),
            "what is taken for a person is one"
        );
    }
    let Ok(identity) = Identity::read(input) else {
        return;
    };
    assert!(!identity.id().is_empty());
    let value: Person = serde_json::from_slice(input).expect("a person is JSON");
    assert_eq!(value.id, identity.id());
    let end = input.trim_ascii_end().len();
    for cut in [1, end / 2, end.saturating_sub(1)] {
        assert!(Identity::read(&input[..cut]).is_err(), "cut at {cut}");
    }
}

/// What another reader must see too. Not a whole value: that would have a limit on depth.
#[derive(serde::Deserialize)]
struct Person {
    id: String,
}

/// A configuration is taken or refused, in one line that quotes no secret.
pub(crate) fn config(input: &[u8]) {
    const KEY: &str = "ws_test_fuzz.5ec2e75ec2e75ec2e7";
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let environment = [
        ("FLAMEUP_API_KEY", KEY),
        ("FLAMEUP_GATEWAY__CACHE__TTL", text),
    ];
    for environment in [&environment[..1], &environment[..]] {
        let sources = Sources::inline(text, environment.iter().copied());
        match Config::load(&sources) {
            Ok(loaded) => {
                let mut out = Vec::new();
                loaded.print(&mut out).expect("memory takes it");
                let shown = String::from_utf8_lossy(&out);
                assert!(text.contains(KEY) || !shown.contains(KEY));
                assert!(loaded.changed_since(&loaded).is_empty());
                let shown = format!("{:?}", loaded.config);
                assert!(text.contains(KEY) || !shown.contains(KEY));
            }
            Err(error) => {
                let message = error.to_string();
                assert!(!message.contains('\n'), "{message:?}");
                // What was pasted where a length of time belongs is quoted.
                assert!(text.contains(KEY) || !message.contains(KEY));
            }
        }
    }
}

/// What a PROXY header says, and where it ends, does not depend on what follows; and it has an end.
pub(crate) fn proxied(input: &[u8]) {
    const LONGEST: usize = 16 + 4096;
    let Ok((client, length)) = header_of(input) else {
        return;
    };
    assert!(length <= LONGEST && length <= input.len());
    assert!(input.starts_with(b"PROXY ") || input.starts_with(b"\r\n\r\n\0\r\nQUIT\n"));
    let header = &input[..length];
    let followed = [header, b"\x16\x03PROXY \r\n"].concat();
    for same in [header, &followed] {
        assert_eq!(header_of(same).ok(), Some((client, length)));
    }
    for end in 0..length {
        let half = header_of(&header[..end]);
        assert!(matches!(half, Err(proxied::Error::Ended(_))), "{end}");
    }
}

/// The client that a PROXY header names, and how long it is.
fn header_of(input: &[u8]) -> Result<(Option<IpAddr>, usize), proxied::Error> {
    let mut rest = input;
    let read = {
        let reading = pin!(proxied::read_header(&mut rest));
        reading.poll(&mut Context::from_waker(Waker::noop()))
    };
    let Poll::Ready(client) = read else {
        unreachable!("all there is to read is there")
    };
    Ok((client?, input.len() - rest.len()))
}
