//! What the gateway's speed is measured against, beside other proxies: two servers that do nothing
//! but answer, one that only passes on, and an origin that answers fast.
//!
//! - `floor hyper ADDR`: hyper answers every request with one constant Person, HTTP/1.1 or
//!   cleartext HTTP/2, set up as the gateway sets it up. What the gateway adds is its own cost.
//! - `floor bytes ADDR`: a plain loop over sockets that writes ready bytes for each head it reads:
//!   what the kernel costs.
//! - `floor proxy ADDR ORIGIN`: hyper, and hyper-util's client with its pool, ask the origin for each
//!   target and pass its answer on, and do nothing else: what a miss costs before the gateway does
//!   anything. The client's headers stay behind, as they do in the gateway.
//! - `floor origin ADDR CACHE_CONTROL`: a stand-in for Flameup that makes a Person of the last path
//!   segment, with that `Cache-Control` and a limit that is never spent.
//!
//! Each serves on one thread. `benches/compare.sh` starts them.

use std::convert::Infallible;
use std::future::{Future, ready};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

const JSON: HeaderValue = HeaderValue::from_static("application/json");

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (kind, address) = match &words[..] {
        ["hyper", address] => (Kind::Hyper, address),
        ["bytes", address] => (Kind::Bytes, address),
        ["proxy", address, origin] => (Kind::Proxy((*origin).to_owned()), address),
        ["origin", address, cache_control] => (Kind::Origin((*cache_control).to_owned()), address),
        // `cargo bench` runs every bench without arguments of ours.
        _ => return Ok(()),
    };
    let address: SocketAddr = address.parse().map_err(io::Error::other)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(serve(kind, address))
}

/// What to serve.
enum Kind {
    Hyper,
    Bytes,
    Proxy(String),
    Origin(String),
}

async fn serve(kind: Kind, address: SocketAddr) -> io::Result<()> {
    let listener = TcpListener::bind(address).await?;
    let kind = Arc::new(kind);
    let client = Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .build_http();
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (kind, client) = (Arc::clone(&kind), client.clone());
        tokio::spawn(async move {
            // A client that has left is no news.
            match &*kind {
                Kind::Bytes => drop(Box::pin(answer_with_bytes(stream)).await),
                Kind::Hyper => serve_http(stream, |_| ready(constant())).await,
                Kind::Proxy(origin) => {
                    serve_http(stream, |request| pass_on(&client, origin, request)).await;
                }
                Kind::Origin(control) => {
                    serve_http(stream, |request| ready(origin(control, request))).await;
                }
            }
        });
    }
}

async fn serve_http<F>(stream: TcpStream, answer: impl Fn(&Request<Incoming>) -> F)
where
    F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    let service = service_fn(|request| {
        let answer = answer(&request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).writev(false);
    builder.http2().timer(TokioTimer::new());
    let connection = builder.serve_connection(TokioIo::new(Whole(stream)), service);
    drop(connection.await);
}

/// A stream that takes one piece at a time, as the gateway's does. Of one that takes many at once
/// HTTP/2 makes small use and pays for it: 8.2 us a request, and 3.7 like this.
struct Whole(TcpStream);

impl AsyncRead for Whole {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Whole {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// The answer of the floor: as many bytes as the gateway's, without finding anything out.
fn constant() -> Response<Full<Bytes>> {
    const PERSON: &str = include_str!("compare/person.json");
    let mut response = Response::new(Full::new(Bytes::from_static(PERSON.as_bytes())));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, JSON);
    for (name, value) in [
        ("etag", "\"e8e3c81084df34a9b2b3e984848007f2\""),
        ("age", "12"),
        ("cache-status", "flameup-gateway; hit; ttl=3412"),
        ("via", "1.1 flameup-gateway"),
        ("x-request-id", "01a209ef-ca7c-7365-8881-8118a9aa388b"),
    ] {
        headers.insert(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
    }
    response
}

/// The origin's answer to a request with the same target.
fn pass_on(
    client: &Client<HttpConnector, Empty<Bytes>>,
    origin: &str,
    request: &Request<Incoming>,
) -> impl Future<Output = Response<Full<Bytes>>> + Send + use<> {
    let target = request.uri().path_and_query();
    let target = target.map_or("/", PathAndQuery::as_str);
    let (client, target) = (client.clone(), format!("http://{origin}{target}"));
    async move {
        let answer = async {
            let request = Request::get(target)
                .body(Empty::new())
                .map_err(io::Error::other)?;
            let answer = client.request(request).await.map_err(io::Error::other)?;
            let (head, body) = answer.into_parts();
            let body = body.collect().await.map_err(io::Error::other)?;
            Ok::<_, io::Error>(Response::from_parts(head, Full::new(body.to_bytes())))
        };
        answer.await.unwrap_or_else(|_| {
            let mut response = Response::new(Full::default());
            *response.status_mut() = StatusCode::BAD_GATEWAY;
            response
        })
    }
}

fn origin(control: &str, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let id = request.uri().path().rsplit('/').next().unwrap_or("");
    let mut response = Response::new(Full::new(person(id)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, JSON);
    if let Ok(control) = HeaderValue::from_str(control) {
        headers.insert(CACHE_CONTROL, control);
    }
    for (name, value) in [
        ("x-ratelimit-limit", "1000000"),
        ("x-ratelimit-remaining", "999999"),
        ("x-ratelimit-reset", "1"),
    ] {
        headers.insert(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
    }
    response
}

/// The Person of the floor under another external id, with an e-mail and a UUID to match.
fn person(id: &str) -> Bytes {
    const PERSON: &str = include_str!("compare/person.json");
    let number: u64 = id
        .bytes()
        .filter(u8::is_ascii_digit)
        .fold(0, |number, digit| {
            number
                .wrapping_mul(10)
                .wrapping_add(u64::from(digit - b'0'))
        });
    let body = PERSON
        .replace("user_0000000", id)
        .replace("426614174000", &format!("{number:012x}"))
        .replace("wirth.0000000", &format!("wirth.{number:07}"));
    Bytes::from(body)
}

async fn answer_with_bytes(mut stream: TcpStream) -> io::Result<()> {
    const PERSON: &str = include_str!("compare/person.json");
    let answer = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
         etag: \"e8e3c81084df34a9b2b3e984848007f2\"\r\nage: 12\r\n\
         cache-status: flameup-gateway; hit; ttl=3412\r\nvia: 1.1 flameup-gateway\r\n\
         x-request-id: 01a209ef-ca7c-7365-8881-8118a9aa388b\r\n\
         date: Mon, 23 Nov 2026 19:43:59 GMT\r\n\r\n{PERSON}",
        PERSON.len()
    );
    let mut head = [0; 16 * 1024];
    let mut filled = 0;
    loop {
        let read = stream.read(&mut head[filled..]).await?;
        filled += read;
        if read == 0 || filled == head.len() {
            return Ok(());
        }
        // One request at a time, as the generators send them.
        if head[..filled].ends_with(b"\r\n\r\n") {
            stream.write_all(answer.as_bytes()).await?;
            filled = 0;
        }
    }
}
