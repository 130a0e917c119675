//! What comes before HTTP: whose connection it is, and TLS.
//!
//! A peer that is trusted to says in a PROXY header whom it speaks for; then TLS is agreed on, if the
//! listener has it. Both within one time limit.
//!
//! # Invariants
//! - Only peers on the list are asked for a PROXY header, and they must send one: a header that could
//!   be left out could also be made up by whoever is behind the peer.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use tokio_rustls::server::TlsStream;
use tokio_util::either::Either;

use super::listener::Plain;
use super::numbers::Limit;
use super::proxied;
use super::room::{PeerPlace, Room};
use super::tls::{self, Tls};
use crate::auth::certificate::ClientCertificate;
use crate::config::Network;

/// A client's stream, with or without TLS.
pub(super) type Stream = Either<Plain, Box<TlsStream<Plain>>>;

/// What a listener asks for before HTTP.
#[derive(Clone, Debug, Default)]
pub struct Entrance {
    /// TLS, unless the listener is a Unix socket.
    pub tls: Option<Arc<Tls>>,
    /// Peers that say whom they speak for.
    pub proxies: Vec<Network>,
}

/// A connection that has come in.
#[derive(Debug)]
pub(super) struct Entered {
    pub(super) stream: Stream,
    /// Whether it is HTTP/2, if that was agreed on.
    pub(super) is_h2: Option<bool>,
    /// Of TLS with a client's certificate.
    pub(super) certificate: Option<Arc<ClientCertificate>>,
    /// Given back at the end of the connection.
    pub(super) place: Option<PeerPlace>,
}

/// Why a connection does not come in.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The peer did not say whom it speaks for.
    #[error("reading the PROXY header")]
    Proxied(#[from] proxied::Error),
    /// There is no room for whom the peer speaks for.
    #[error("the client has too many connections")]
    Room(Limit),
    /// TLS was not agreed on.
    #[error("agreeing on TLS")]
    Tls(#[source] io::Error),
}

impl Entrance {
    /// Whether `peer` speaks for others.
    pub(super) fn trusts(&self, peer: Option<IpAddr>) -> bool {
        let mut proxies = self.proxies.iter();
        peer.is_some_and(|peer| proxies.any(|network| network.contains(peer)))
    }

    /// Whether anything comes before HTTP on a connection of `peer`.
    pub(super) fn is_open(&self, stream: &Plain, peer: Option<IpAddr>) -> bool {
        self.tls_for(stream).is_none() && !self.trusts(peer)
    }

    /// Lets a connection in.
    pub(super) async fn enter(
        &self,
        mut stream: Plain,
        peer: Option<IpAddr>,
        room: &Arc<Room>,
    ) -> Result<Entered, Error> {
        let mut place = None;
        if self.trusts(peer)
            && let Some(client) = proxied::read_header(&mut stream).await?
        {
            place = room.take_of(client).map_err(Error::Room)?;
        }
        let Some(tls) = self.tls_for(&stream) else {
            return Ok(Entered {
                place,
                ..Entered::directly(stream)
            });
        };
        let stream = tls.acceptor().accept(stream).await.map_err(Error::Tls)?;
        let (_, session) = stream.get_ref();
        let certificate = session.peer_certificates().and_then(<[_]>::first);
        Ok(Entered {
            is_h2: Some(session.alpn_protocol() == Some(tls::H2)),
            certificate: certificate.map(|der| Arc::new(ClientCertificate::read(der))),
            stream: Either::Right(Box::new(stream)),
            place,
        })
    }

    fn tls_for(&self, stream: &Plain) -> Option<&Tls> {
        match stream {
            Either::Left(_tcp) => self.tls.as_deref(),
            Either::Right(_unix) => None,
        }
    }
}

impl Entered {
    /// A connection before which nothing is asked for.
    pub(super) fn directly(stream: Plain) -> Self {
        Self {
            stream: Either::Left(stream),
            is_h2: None,
            certificate: None,
            place: None,
        }
    }
}
