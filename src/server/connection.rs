//! One connection, from its first byte to its last.

use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;
use http::StatusCode;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, interval, sleep, timeout};
use tracing::debug;

use super::activity::{Activity, Look, Watch};
use super::beginning::{Beginning, PREFACE};
use super::entrance::{self, Entered, Entrance};
use super::frames::Frames;
use super::listener::Plain;
use super::numbers::{Limit, ResultLabels};
use super::quiet::Quiet;
use super::service::{Sent, Service};
use super::socket::{Socket, to_bytes};
use super::{Application, Server};
use crate::problem::Problem;
use crate::telemetry::chain;

/// How long a connection that was asked to end may take to, beyond the requests it has under way.
const END_GRACE: Duration = Duration::from_secs(1);

/// How long an idle connection is still listened to when draining begins: a request that its
/// client has just sent may be on its way.
const DRAIN_GRACE: Duration = Duration::from_millis(100);

/// How long, and how much, is read from a client after the last answer. Closing on unread bytes
/// would reset the connection and could take the answer with it (RFC 9112 §9.6).
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: u64 = 256 * 1024;

/// Header lines that hyper takes if it is not told otherwise. To be told costs it, for every
/// request, filling the room for them.
const HYPERS_HEADERS: usize = 100;

/// Serves one connection to its end.
pub(super) async fn serve<A: Application>(
    stream: Plain,
    peer: Option<IpAddr>,
    server: &Arc<Server<A>>,
    entrance: &Entrance,
) {
    let entered = if entrance.is_open(&stream, peer) {
        Some(Entered::directly(stream))
    } else {
        // Apart, so that connections before which nothing is asked for have no room for it.
        Box::pin(enter(stream, peer, server, entrance)).await
    };
    let Some(entered) = entered else {
        return;
    };
    let begun = Instant::now();
    let mut stream = entered.stream;
    // Apart as well: once it has begun, a connection has no use for this room.
    let beginning = Box::pin(Beginning::read(&mut stream, entered.is_h2, server)).await;
    let Some((prefix, beginning)) = beginning else {
        return;
    };
    let activity = Arc::new(Activity::default());
    let mut socket = Socket::new(stream, prefix, Arc::clone(&activity));
    let service = Service {
        server,
        activity: &activity,
        certificate: entered.certificate,
    };
    match beginning {
        Beginning::Http1 => serve_h1(socket, service, begun).await,
        Beginning::Http2 => serve_h2(socket, service, begun).await,
        Beginning::NoSettings => {
            let _ = timeout(END_GRACE, Beginning::refuse(&mut socket)).await;
            linger(socket).await;
        }
    }
    drop(entered.place);
}

/// Lets a connection in, in time.
async fn enter<A: Application>(
    stream: Plain,
    peer: Option<IpAddr>,
    server: &Server<A>,
    entrance: &Entrance,
) -> Option<Entered> {
    let numbers = &server.numbers;
    let entering = entrance.enter(stream, peer, &server.room);
    let entered = tokio::select! {
        entered = timeout(server.limits.handshake_timeout, entering) => entered,
        () = asked_to_end(server) => return None,
    };
    let counted = |success| {
        numbers
            .handshakes
            .get_or_create(&ResultLabels::of(success))
            .inc()
    };
    match entered {
        Ok(Ok(entered)) => {
            counted(true);
            return Some(entered);
        }
        Ok(Err(entrance::Error::Room(limit))) => numbers.refused(limit),
        Ok(Err(error)) => {
            counted(false);
            // Anybody who scans the network makes these by the thousand.
            debug!(error = chain(&error), "a connection did not come in");
        }
        Err(_) => numbers.reached(Limit::HandshakeTimeout),
    }
    None
}

/// Ends when a connection that has brought nothing yet should end.
pub(super) async fn asked_to_end<A>(server: &Server<A>) {
    server.draining.cancelled().await;
    sleep(DRAIN_GRACE).await;
}

async fn serve_h1<A: Application>(socket: Socket, service: Service<'_, A>, begun: Instant) {
    let (server, activity) = (service.server, service.activity);
    let (application, numbers) = (Arc::clone(&server.application), server.numbers.clone());
    let refuse = move |status| {
        if let Some(limit) = limit_of(status) {
            numbers.reached(limit);
        }
        to_bytes(&application.refuse(&unreadable_head(status)))
    };
    let mut builder = http1::Builder::new();
    if server.limits.headers != HYPERS_HEADERS {
        builder.max_headers(server.limits.headers);
    }
    let mut connection = builder
        .timer(TokioTimer::new())
        // Timed by the watch, which needs no timer per request.
        .header_read_timeout(None)
        .max_buf_size(in_memory(server.limits.header_bytes))
        // One buffer, written whole: 6 to 8 % less work for answers of this size.
        .writev(false)
        .serve_connection(
            TokioIo::new(socket.refusing(refuse)),
            service.hypers(|answer| answer),
        );
    let look = until_ended(Pin::new(&mut connection), server, activity, (begun, false)).await;
    let mut socket = connection.into_parts().io.into_inner();
    if matches!(look, Look::HeadTooSlow(_)) {
        let problem = unreadable_head(StatusCode::REQUEST_TIMEOUT);
        let bytes = to_bytes(&server.application.refuse(&problem));
        // The client may be gone; it has been told what could be told.
        let _ = timeout(END_GRACE, socket.write_all(&bytes)).await;
    }
    linger(socket).await;
}

async fn serve_h2<A: Application>(socket: Socket, service: Service<'_, A>, begun: Instant) {
    let (server, activity) = (service.server, service.activity);
    let limits = &server.limits;
    let frames = Frames::new(limits, PREFACE.len(), Instant::now());
    let socket = socket.counting(frames, server.numbers.clone());
    let header_bytes = u32::try_from(limits.header_bytes.as_u64()).unwrap_or(u32::MAX);
    let mut connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.h2_streams)
        // A head a little too large is refused in the gateway's words; h2 ends what goes on beyond.
        .max_header_list_size(header_bytes.saturating_mul(2))
        .serve_connection(TokioIo::new(socket), service.hypers(Sent::of));
    until_ended(Pin::new(&mut connection), server, activity, (begun, true)).await;
}

/// Runs a connection until it ends by itself, or must be ended. Tells the last look at it.
async fn until_ended(
    mut connection: Pin<&mut impl GracefulConnection>,
    server: &Server<impl Application>,
    activity: &Activity,
    (begun, multiplexed): (Instant, bool),
) -> Look {
    let mut watch = Watch::new(&server.limits, multiplexed, begun);
    let mut looks = interval(Watch::interval(&server.limits));
    let mut look = Quiet::new(poll_fn(|cx| looks.poll_tick(cx)));
    let max_age = max_age(server.limits.connection_max_age);
    let mut ending = false;
    let mut draining = Quiet::new(async {
        server.draining.cancelled().await;
        activity.announce_end();
        sleep(DRAIN_GRACE).await;
    });
    loop {
        let look = tokio::select! {
            biased;
            _ended = connection.as_mut() => return Look::Fine,
            () = &mut draining, if !ending => Look::Ripe(None),
            now = &mut look => match watch.look(activity, now) {
                Look::Fine if now.saturating_duration_since(begun) >= max_age => {
                    Look::Ripe(Some(Limit::ConnectionMaxAge))
                }
                look => look,
            },
        };
        if let Some(limit) = look.limit().filter(|_| !ending) {
            server.numbers.reached(limit);
        }
        let ends_well = match look {
            Look::Fine => continue,
            Look::Ripe(_) if ending => continue,
            Look::Ripe(_) => true,
            Look::Unused(_) => !ending,
            // Others may be under way on HTTP/2, which are let finish.
            Look::HeadTooSlow(_) => multiplexed && !ending,
            Look::Stuck(_) | Look::Parted => false,
        };
        if !ends_well {
            return look;
        }
        ending = true;
        connection.as_mut().graceful_shutdown();
        watch.shorten_pause(END_GRACE);
    }
}

/// A connection's age at which it is asked to end. Up to a tenth is taken off, so that connections
/// that began together do not all come back together.
fn max_age(configured: Duration) -> Duration {
    if configured.is_zero() {
        return Duration::MAX;
    }
    let random = ahash::RandomState::new().hash_one(0) % 1000;
    configured.mul_f64(1.0 - 0.1 * f64::from(u32::try_from(random).unwrap_or(0)) / 1000.0)
}

/// Says that nothing more will be sent, and reads what the client still has to say.
async fn linger(mut socket: Socket) {
    if socket.at_end() {
        return;
    }
    let goodbye = async {
        socket.shutdown().await?;
        tokio::io::copy(&mut socket.take(LINGER_BYTES), &mut tokio::io::sink()).await
    };
    // Whether the client takes part or not, the connection is closed after this.
    let _ = timeout(LINGER, goodbye).await;
}

/// The limit that a status of hyper's own tells of.
fn limit_of(status: StatusCode) -> Option<Limit> {
    match status {
        StatusCode::URI_TOO_LONG => Some(Limit::TargetBytes),
        // Too large or too many: hyper does not tell.
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => Some(Limit::HeaderBytes),
        _ => None,
    }
}

/// What a client is told whose request could not be read, or is beyond a limit.
pub(super) fn unreadable_head(status: StatusCode) -> Problem {
    let message = match status {
        StatusCode::URI_TOO_LONG => "The request target is too long",
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => {
            "The request's headers are larger, or more, than this gateway accepts"
        }
        StatusCode::REQUEST_TIMEOUT => "The request did not come to an end in time",
        _ => "The request is not readable as HTTP/1.1",
    };
    Problem::new(status, "http_request_error", message)
}

/// A size as this machine counts memory.
pub(super) fn in_memory(size: ByteSize) -> usize {
    usize::try_from(size.as_u64()).unwrap_or(usize::MAX)
}
