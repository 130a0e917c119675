//! Room for connections: so many in all, and so many of one peer.
//!
//! # Invariants
//! - Whatever was taken is given back when its guard is dropped, and a peer without connections is
//!   not remembered: what is kept here is bounded by the connections there are.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::numbers::Limit;
use crate::config::Limits;

/// Room for the connections of one server.
#[derive(Debug)]
pub(super) struct Room {
    all: Arc<Semaphore>,
    per_peer: usize,
    /// Open connections by peer, none of them zero.
    peers: Mutex<HashMap<Network, usize, ahash::RandomState>>,
}

/// A place that one connection has.
#[derive(Debug)]
pub(super) struct Place {
    _permit: OwnedSemaphorePermit,
}

/// A place among the connections of one peer.
#[derive(Debug)]
pub(super) struct PeerPlace {
    room: Arc<Room>,
    network: Network,
}

/// What counts as one peer: an IPv4 address, or an IPv6 /64, within which one host may take any
/// address it likes (RFC 4941).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Network {
    V4(u32),
    V6(u64),
}

impl Room {
    pub(super) fn new(limits: &Limits) -> Arc<Self> {
        Arc::new(Self {
            all: Arc::new(Semaphore::new(limits.connections)),
            per_peer: limits.connections_per_peer,
            peers: Mutex::default(),
        })
    }

    /// Room for one more connection.
    pub(super) fn take(&self) -> Result<Place, Limit> {
        let permit = Arc::clone(&self.all).try_acquire_owned();
        permit
            .map(|permit| Place { _permit: permit })
            .map_err(|_| Limit::Connections)
    }

    /// Room for one more connection of this peer. None need be taken where peers are not counted.
    pub(super) fn take_of(self: &Arc<Self>, peer: IpAddr) -> Result<Option<PeerPlace>, Limit> {
        if self.per_peer == 0 {
            return Ok(None);
        }
        let network = Network::from(peer);
        let mut peers = self.peers.lock();
        let count = peers.entry(network).or_insert(0);
        if *count >= self.per_peer {
            return Err(Limit::ConnectionsPerPeer);
        }
        *count += 1;
        Ok(Some(PeerPlace {
            room: Arc::clone(self),
            network,
        }))
    }
}

impl Drop for PeerPlace {
    fn drop(&mut self) {
        if let Entry::Occupied(mut count) = self.room.peers.lock().entry(self.network) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::V4(address.to_bits()),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments().map(u64::from);
                Self::V6(a << 48 | b << 32 | c << 16 | d)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Sources};

    fn room(connections: usize, connections_per_peer: usize) -> Arc<Room> {
        let key = [("FLAMEUP_API_KEY", "ws_test_a.b")];
        let config = Config::load(&Sources::inline("", key)).expect("the defaults");
        Room::new(&Limits {
            connections,
            connections_per_peer,
            ..config.config.server.limits
        })
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_place_given_up_is_free_again_and_a_peer_without_places_is_forgotten() {
        let room = room(10, 2);
        let one = room.take_of(ip("192.0.2.1")).expect("room");
        let two = room.take_of(ip("::ffff:192.0.2.1")).expect("room");
        let refused = room.take_of(ip("192.0.2.1"));
        assert_eq!(refused.err(), Some(Limit::ConnectionsPerPeer));
        assert!(room.take_of(ip("192.0.2.2")).is_ok(), "another has its own");
        drop(one);
        let three = room.take_of(ip("192.0.2.1")).expect("room again");
        drop((two, three));
        assert!(room.peers.lock().is_empty());
    }

    #[test]
    fn an_ipv6_host_cannot_multiply_itself_within_its_network() {
        let room = room(10, 1);
        let _place = room.take_of(ip("2001:db8::1")).expect("room");
        assert!(room.take_of(ip("2001:db8::ffff:2")).is_err());
        assert!(room.take_of(ip("2001:db8:0:1::1")).is_ok());
    }

    #[test]
    fn without_a_limit_peers_are_not_counted() {
        let room = room(1, 0);
        let _place = room.take().expect("room");
        assert_eq!(room.take().err(), Some(Limit::Connections));
        assert!(matches!(room.take_of(ip("192.0.2.1")), Ok(None)));
    }
}
