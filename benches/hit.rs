//! What one plain hit costs, counted and held to a ceiling: the guard against slow decay.
//!
//! A plain hit is a lookup as users make it: with a client token and a scope, a request id, `Age`
//! and `Cache-Status` on the answer, metrics counting. It goes through `Gateway::handle`, without
//! sockets and without hyper. Counted are instructions and allocations, which do not depend on how
//! fast the machine is or who else uses it.
//!
//! - `cargo bench --bench hit`: counts under callgrind, and fails outside the bounds.
//! - `hit answer N` and `hit make N`: answers N requests, or only makes them; what callgrind runs.

use std::alloc::System;
use std::error::Error;
use std::future::Future;
use std::io::{self, Write};
use std::pin::pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use flameup_gateway::clock::Clock;
use flameup_gateway::config::{Config, Sources};
use flameup_gateway::gateway::Gateway;
use flameup_gateway::headers::CACHE_STATUS;
use flameup_gateway::sandbox::{DEMO_KEY, Options, Sandbox};
use flameup_gateway::serve::Running;
use flameup_gateway::token::Token;
use http::header::{ACCEPT, AUTHORIZATION, HOST};
use http::{HeaderMap, HeaderValue, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty};
use zeroizing_alloc::ZeroAlloc;

#[path = "hit/callgrind.rs"]
mod callgrind;

/// As the program has it: what is freed is overwritten, and that is counted.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<System> = ZeroAlloc(System);

/// Most instructions that a hit may take: 5 % above what it took when this was last set, since the
/// count differs by 1 or 2 % between processors, for what the C library chooses by.
///
/// Whoever makes a hit cheaper lowers it. Whoever raises it says for what in the commit.
const MOST_INSTRUCTIONS: u64 = 10_600;

/// Allocations of a hit, exactly: the text of its id, and what holds on to the body while it leaves. The
/// other way to hold on to it is a counter beside each body, which takes room for every person and is one
/// more place in memory to wait for.
const ALLOCATIONS: u64 = 2;

/// Requests that are counted over.
const REQUESTS: u64 = 10_000;

/// What the cache says of a hit.
const HIT: &[u8] = b"flameup-gateway; hit; ttl=";

type Fallible<T> = Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match &words[..] {
        ["answer", requests] => run(requests, true),
        ["make", requests] => run(requests, false),
        _ => guard(),
    };
    done.unwrap_or_else(|error| {
        // Nothing is left to do if standard error is closed.
        let _ = writeln!(io::stderr(), "hit: {error}");
        ExitCode::FAILURE
    })
}

/// Counts what a hit costs, and says whether that is within bounds.
fn guard() -> Fallible<ExitCode> {
    let requests = REQUESTS.to_string();
    let instructions = callgrind::instructions_of("answer_all", &["answer", &requests])? / REQUESTS;
    let answered = callgrind::allocations(&["answer", &requests])?;
    let made = callgrind::allocations(&["make", &requests])?;
    // To the nearest: what the store does once in a while for its upkeep is not a hit's.
    let allocations = (answered.saturating_sub(made) + REQUESTS / 2) / REQUESTS;
    writeln!(
        io::stdout(),
        "a hit takes {instructions} instructions, at most {MOST_INSTRUCTIONS}, and \
         {allocations} allocations, exactly {ALLOCATIONS}"
    )?;
    if instructions > MOST_INSTRUCTIONS || allocations != ALLOCATIONS {
        return Err("a hit does not cost what it should; see benches/hit.rs".into());
    }
    Ok(ExitCode::SUCCESS)
}

fn run(requests: &str, answer: bool) -> Fallible<ExitCode> {
    let requests = requests.parse()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(store_and_hit(requests, answer))?;
    Ok(ExitCode::SUCCESS)
}

async fn store_and_hit(requests: usize, answer: bool) -> Fallible<()> {
    let token = Token::random()?;
    let options = Options {
        people: 10,
        ..Options::default()
    };
    let sandbox = Sandbox::start(options).await?;
    let running = Running::start(&config(&sandbox, &token)?, Clock::system()).await?;
    let headers = headers(&token)?;

    let response = running.gateway().handle(request(&headers)).await;
    let status = response.status();
    response.into_body().collect().await?;
    if status != StatusCode::OK {
        return Err(format!("the first lookup was answered {status}").into());
    }
    // What is made ready once, on the first hit, is no hit's cost.
    answer_one(running.gateway(), request(&headers));
    let mut requests: Vec<_> = (0..requests).map(|_| request(&headers)).collect();
    if !answer {
        requests.clear();
    }
    let hits = answer_all(running.gateway(), requests);
    writeln!(io::stdout(), "{hits} hits")?;
    Ok(())
}

/// Answers these requests one after the other. This is what is counted, the answers' end included.
///
/// # Panics
/// When one of them has to wait, or is no plain hit.
#[inline(never)]
fn answer_all(gateway: &Arc<Gateway>, requests: Vec<Request<Empty<Bytes>>>) -> usize {
    let hits = requests.into_iter();
    hits.map(|request| answer_one(gateway, request)).count()
}

fn answer_one(gateway: &Arc<Gateway>, request: Request<Empty<Bytes>>) {
    let mut context = Context::from_waker(Waker::noop());
    let Poll::Ready(response) = pin!(gateway.handle(request)).poll(&mut context) else {
        unreachable!("a hit never waits")
    };
    let status = response.headers().get(CACHE_STATUS);
    assert!(status.is_some_and(|status| status.as_bytes().starts_with(HIT)));
}

/// The headers of a small client.
fn headers(token: &Token) -> Fallible<HeaderMap> {
    let mut headers = HeaderMap::new();
    headers.insert(HOST, HeaderValue::from_static("gateway.internal:8080"));
    headers.insert(ACCEPT, HeaderValue::from_static("*/*"));
    let bearer = format!("Bearer {}", token.expose());
    headers.insert(AUTHORIZATION, HeaderValue::from_str(&bearer)?);
    Ok(headers)
}

fn request(headers: &HeaderMap) -> Request<Empty<Bytes>> {
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = Uri::from_static("/api/v1/people/user_1");
    // As hyper does it from a connection's second request on: in the map of the answer before.
    *request.headers_mut() = HeaderMap::with_capacity(6);
    request.headers_mut().extend(headers.clone());
    request
}

fn config(sandbox: &Sandbox, token: &Token) -> Fallible<Config> {
    let text = format!(
        r#"
            [server]
            listen = ["127.0.0.1:0"]
            [admin]
            listen = "127.0.0.1:0"
            [upstream]
            base_url = "{}"
            [clients.bench]
            workspace = "default"
            token_sha256 = ["{}"]
            scopes = ["people:read"]
            [cache]
            ttl = "1h"
        "#,
        sandbox.base_url(),
        token.sha256(),
    );
    Ok(Config::load(&Sources::inline(text, [("FLAMEUP_API_KEY", DEMO_KEY)]))?.config)
}
