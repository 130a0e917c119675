//! Listeners and connections: step 1 of the request path.
//!
//! Accepts connections up to a limit, serves HTTP/1.1 or HTTP/2 on each, and drains: a request
//! whose connection was accepted is answered, within a deadline that nothing outlives.

use std::future::Future;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::warn;

mod activity;
mod beginning;
mod connection;
mod entrance;
mod frames;
mod guard;
pub mod listener;
mod numbers;
pub mod proxied;
mod quiet;
mod room;
mod service;
mod socket;
mod spare;
pub mod tls;
mod upload;

use crate::body::Body;
use crate::config::Limits;
use crate::problem::Problem;
use listener::{Listener, Plain, is_of_client};
use quiet::Quiet;
use room::Room;
use spare::Spare;

pub use entrance::Entrance;
pub use numbers::{Limit, LimitLabels, Numbers, ResultLabels};
pub use upload::{Error as BodyError, RequestBody};

/// How long accepting pauses when the system has no room for one more connection. Trying again at
/// once would only spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long nobody must have come for the backlog to be empty when draining begins, and how long it
/// is emptied at most, whoever still comes.
const BACKLOG_PAUSE: Duration = Duration::from_millis(5);
const BACKLOG_GRACE: Duration = Duration::from_millis(100);

/// Answers what comes in over a connection.
pub trait Application: Send + Sync + 'static {
    /// Answers one request.
    fn handle(
        self: &Arc<Self>,
        request: Request<RequestBody>,
    ) -> impl Future<Output = Response<Body>> + Send;

    /// Puts a problem with a request that could not even be read into the form of a response.
    fn refuse(&self, problem: &Problem) -> Response<Bytes>;
}

/// What the listeners of one application share.
#[derive(Debug)]
pub struct Server<A> {
    application: Arc<A>,
    limits: Limits,
    room: Arc<Room>,
    connections: TaskTracker,
    numbers: Numbers,
    /// Connections are asked to end.
    draining: CancellationToken,
    /// Connections are ended.
    killed: CancellationToken,
}

impl<A: Application> Server<A> {
    /// A server of `application`, with nothing to listen to yet.
    pub fn new(application: Arc<A>, limits: &Limits, numbers: Numbers) -> Arc<Self> {
        Arc::new(Self {
            application,
            limits: limits.clone(),
            room: Room::new(limits),
            connections: TaskTracker::new(),
            numbers,
            draining: CancellationToken::new(),
            killed: CancellationToken::new(),
        })
    }

    /// Accepts connections from `listener` until the server drains. They come in by `entrance`.
    pub fn listen(self: &Arc<Self>, listener: Listener, entrance: &Arc<Entrance>) {
        let (server, entrance) = (Arc::clone(self), Arc::clone(entrance));
        self.connections
            .spawn(async move { server.accept(listener, &entrance).await });
    }

    /// Stops accepting, lets what was accepted finish, and ends what has not by `deadline`.
    /// Returns whether everything finished by itself.
    pub async fn drain(&self, deadline: Duration) -> bool {
        self.draining.cancel();
        self.connections.close();
        let finished = timeout(deadline, self.connections.wait()).await.is_ok();
        self.killed.cancel();
        self.connections.wait().await;
        finished
    }

    /// Ends everything at once.
    pub fn kill(&self) {
        self.draining.cancel();
        self.killed.cancel();
    }

    async fn accept(self: Arc<Self>, listener: Listener, entrance: &Arc<Entrance>) {
        let mut spare = Spare::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => self.begin(stream, peer, entrance),
                    Err(error) if spare.would_help(&error) => {
                        self.numbers.refused(Limit::Descriptors);
                        // A connection waits, or accepting would not have failed.
                        let refusing = timeout(ACCEPT_PAUSE, spare.refuse(&listener)).await;
                        if !matches!(refusing, Ok(Ok(()))) {
                            spare = Spare::new();
                        }
                    }
                    Err(error) if is_of_client(&error) => {}
                    Err(error) => {
                        warn!(error = %error, "accepting a connection failed");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                () = self.draining.cancelled() => return self.accept_backlog(&listener, entrance).await,
            }
        }
    }

    /// Takes the connections that wait already: to their clients they were accepted.
    async fn accept_backlog(self: &Arc<Self>, listener: &Listener, entrance: &Arc<Entrance>) {
        let end = Instant::now() + BACKLOG_GRACE;
        // Waiting, if only for a moment, lets the runtime ask the system whether there are any.
        while Instant::now() < end
            && let Ok(accepted) = timeout(BACKLOG_PAUSE, listener.accept()).await
        {
            // An error here is a client that has left.
            if let Ok((stream, peer)) = accepted {
                self.begin(stream, peer, entrance);
            }
        }
    }

    fn begin(self: &Arc<Self>, stream: Plain, peer: Option<IpAddr>, entrance: &Arc<Entrance>) {
        // Dropping the stream closes it: whoever there is no room for finds out at once.
        let place = match self.room.take() {
            Ok(place) => place,
            Err(limit) => return self.numbers.refused(limit),
        };
        // Whoever speaks for others is not counted itself.
        let counted = peer.filter(|_| !entrance.trusts(peer));
        let of_peer = match counted.map_or(Ok(None), |peer| self.room.take_of(peer)) {
            Ok(of_peer) => of_peer,
            Err(limit) => return self.numbers.refused(limit),
        };
        let (server, entrance) = (Arc::clone(self), Arc::clone(entrance));
        self.connections.spawn(async move {
            server.numbers.open.inc();
            let killed = Quiet::new(server.killed.cancelled());
            tokio::select! {
                biased;
                () = connection::serve(stream, peer, &server, &entrance) => {}
                () = killed => {}
            }
            server.numbers.open.dec();
            drop((place, of_peer));
        });
    }
}
