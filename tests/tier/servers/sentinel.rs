//! A master and its replica, and three Sentinels that watch them.

use std::collections::HashMap;

use super::redis::Redis;
use super::wait_until;

/// What the Sentinels call the master.
const NAME: &str = "main";

/// A master, a replica and three Sentinels.
pub(crate) struct Sentinels {
    sentinels: Vec<Redis>,
    pub(crate) servers: Vec<Redis>,
}

impl Sentinels {
    pub(crate) fn start() -> Self {
        let master = Redis::start();
        let replica = Redis::start();
        replica.command::<()>(&format!("REPLICAOF 127.0.0.1 {}", master.port()));
        wait_until("the replica follows", || {
            let info: String = replica.command("INFO replication");
            info.contains("master_link_status:up")
        });
        let sentinels = (0..3).map(|_| sentinel(master.port())).collect();
        let all = Self {
            sentinels,
            servers: vec![master, replica],
        };
        wait_until("the Sentinels know each other and the replica", || {
            all.sentinels.iter().all(|sentinel| {
                let known: HashMap<String, String> =
                    sentinel.command(&format!("SENTINEL MASTER {NAME}"));
                known["num-other-sentinels"] == "2" && known["num-slaves"] == "1"
            })
        });
        all
    }

    pub(crate) fn url(&self) -> String {
        let servers = self.sentinels.iter();
        let servers = servers.map(|sentinel| format!("127.0.0.1:{}", sentinel.port()));
        let servers = servers.collect::<Vec<_>>().join(",");
        format!("redis+sentinel://{servers}/{NAME}")
    }

    /// The port of whom most of them call the master, where they are of one mind.
    pub(crate) fn master(&self) -> Option<u16> {
        let mut named = self.sentinels.iter().map(|sentinel| {
            let question = format!("SENTINEL GET-MASTER-ADDR-BY-NAME {NAME}");
            let (_, port): (String, u16) = sentinel.command(&question);
            port
        });
        let first = named.next()?;
        named.all(|port| port == first).then_some(first)
    }

    /// Has the replica made the master, the master going on as a replica.
    pub(crate) fn fail_over(&self) {
        wait_until("a Sentinel agrees to fail over", || {
            let asked = self.sentinels[0].try_command::<()>(&format!("SENTINEL FAILOVER {NAME}"));
            asked.is_ok()
        });
    }

    /// Has all of them watch another server as the master, without a word to anybody.
    pub(crate) fn name_another(&self, port: u16) {
        for sentinel in &self.sentinels {
            sentinel.command::<()>(&format!("SENTINEL REMOVE {NAME}"));
            sentinel.command::<()>(&format!("SENTINEL MONITOR {NAME} 127.0.0.1 {port} 2"));
        }
    }
}

fn sentinel(master: u16) -> Redis {
    Redis::start_with(|port, directory| {
        let file = directory.join("sentinel.conf");
        // It writes what it finds out into its own file.
        let text = format!(
            "port {port}\nsentinel monitor {NAME} 127.0.0.1 {master} 2\n\
             sentinel down-after-milliseconds {NAME} 500\n\
             sentinel failover-timeout {NAME} 5000\n"
        );
        std::fs::write(&file, text).expect("written");
        vec![file.to_string_lossy().into_owned(), "--sentinel".to_owned()]
    })
}
