//! A Cluster of three nodes without replicas.

use super::redis::{Redis, own};
use super::wait_until;
use crate::port::free_port;

/// All slots, in three parts.
const PARTS: [(u16, u16); 3] = [(0, 5_460), (5_461, 10_922), (10_923, 16_383)];

/// Three nodes that know each other.
pub(crate) struct Cluster {
    pub(crate) nodes: Vec<Redis>,
}

impl Cluster {
    pub(crate) fn start() -> Self {
        let nodes: Vec<_> = PARTS.iter().map(|_| node()).collect();
        for (node, (first, last)) in nodes.iter().zip(PARTS) {
            node.command::<()>(&format!("CLUSTER ADDSLOTSRANGE {first} {last}"));
        }
        for (number, node) in nodes.iter().enumerate() {
            node.command::<()>(&format!("CLUSTER SET-CONFIG-EPOCH {}", number + 1));
        }
        for node in &nodes[1..] {
            let (port, bus) = (node.port(), node.bus());
            nodes[0].command::<()>(&format!("CLUSTER MEET 127.0.0.1 {port} {bus}"));
        }
        let cluster = Self { nodes };
        wait_until("all nodes know all slots", || {
            cluster.nodes.iter().all(|node| {
                let info: String = node.command("CLUSTER INFO");
                info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")
            })
        });
        cluster
    }

    pub(crate) fn url(&self) -> String {
        let servers = self
            .nodes
            .iter()
            .map(|node| format!("127.0.0.1:{}", node.port()));
        format!("redis+cluster://{}", servers.collect::<Vec<_>>().join(","))
    }

    /// The node that has this key, and another one.
    pub(crate) fn owner_and_another(&self, key: &str) -> (&Redis, &Redis) {
        let slot = self.slot(key);
        let has_it = |(first, last): &(u16, u16)| (*first..=*last).contains(&slot);
        let at = PARTS.iter().position(has_it).expect("all slots are there");
        (&self.nodes[at], &self.nodes[(at + 1) % PARTS.len()])
    }

    /// Begins to move the slot of a key from its owner to another node: what is there stays until
    /// it is moved, what is not there yet is the other's.
    pub(crate) fn begin_to_move(&self, key: &str) {
        let (slot, (from, to)) = (self.slot(key), self.owner_and_another(key));
        let (from_id, to_id) = (from.id(), to.id());
        to.command::<()>(&format!("CLUSTER SETSLOT {slot} IMPORTING {from_id}"));
        from.command::<()>(&format!("CLUSTER SETSLOT {slot} MIGRATING {to_id}"));
    }

    /// Moves the key itself.
    pub(crate) fn move_key(&self, key: &str) {
        let (from, to) = self.owner_and_another(key);
        from.command::<()>(&format!("MIGRATE 127.0.0.1 {} {key} 0 5000", to.port()));
    }

    /// Ends it: the slot is the other node's.
    pub(crate) fn end_to_move(&self, key: &str) {
        let (slot, (from, to)) = (self.slot(key), self.owner_and_another(key));
        for node in [to, from] {
            node.command::<()>(&format!("CLUSTER SETSLOT {slot} NODE {}", to.id()));
        }
    }

    fn slot(&self, key: &str) -> u16 {
        self.nodes[0].command(&format!("CLUSTER KEYSLOT {key}"))
    }
}

impl Redis {
    fn id(&self) -> String {
        self.command("CLUSTER MYID")
    }

    fn bus(&self) -> u16 {
        let (_, bus): (String, u16) = self.command("CONFIG GET cluster-port");
        bus
    }
}

fn node() -> Redis {
    Redis::start_with(|port, _| {
        let (port, bus) = (port.to_string(), free_port().to_string());
        let cluster = ["--cluster-enabled", "yes", "--cluster-port", &bus];
        let patience = ["--cluster-node-timeout", "2000", "--port", &port];
        own(&[cluster, patience].concat())
    })
}
