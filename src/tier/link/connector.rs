//! Makes connections: to the one server, to a Cluster, or to whom the Sentinels call master.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClient;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, FromRedisValue,
    IntoConnectionInfo, ProtocolVersion, RedisConnectionInfo, RedisError, TlsCertificates, Value,
};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Connection;
use super::Error;
use crate::config::{self, Topology};

/// Time for one server's part of a connection. Calls do not wait for it.
const ONE: Duration = Duration::from_millis(500);

/// What a connection that nobody blocks waits for an answer; calls have their own, shorter deadlines.
const RESPONSE: Duration = Duration::from_secs(1);

/// Makes connections.
pub(super) struct Connector {
    config: config::Redis,
    certificates: TlsCertificates,
    /// Where the connection that all share leads to, by name of the Sentinels.
    master: Mutex<Option<Server>>,
}

/// A host and its port.
type Server = (String, u16);

impl Connector {
    /// Reads the certificates.
    pub(super) fn new(config: &config::Redis) -> Result<Self, Error> {
        let read = |path: &std::path::PathBuf| {
            std::fs::read(path).map_err(|error| Error::Certificates(path.clone(), error))
        };
        Ok(Self {
            certificates: TlsCertificates {
                client_tls: None,
                root_cert: config.ca_file.as_ref().map(read).transpose()?,
            },
            config: config.clone(),
            master: Mutex::default(),
        })
    }

    /// Makes the connection that all calls share, or one whose answers may take as long as
    /// `response`.
    pub(super) async fn connect(&self, response: Option<Duration>) -> Result<Connection, Error> {
        let is_shared = response.is_none();
        let response = response.unwrap_or(RESPONSE);
        match &self.config.url.topology {
            Topology::Single(database) => {
                let (host, port) = &self.config.url.servers[0];
                let server = self.server(host, *port, *database)?;
                Ok(Connection::One(self.open(server, response).await?))
            }
            Topology::Cluster => self.open_cluster(response).await,
            Topology::Sentinel(name) => {
                let (host, port) = self.ask_sentinels(name).await?;
                let server = self.server(&host, port, 0)?;
                let mut connection = self.open(server, response).await?;
                must_be_master(&mut connection).await?;
                if is_shared {
                    *self.master.lock() = Some((host, port));
                }
                Ok(Connection::One(connection))
            }
        }
    }

    /// Whether the Sentinels name another master than the one all are connected to. Where that
    /// one was cut off from them, it may go on as if nothing was.
    pub(super) async fn has_master_moved(&self) -> bool {
        let Topology::Sentinel(name) = &self.config.url.topology else {
            return false;
        };
        let named = self.ask_sentinels(name).await;
        named.is_ok_and(|named| self.master.lock().as_ref() != Some(&named))
    }

    async fn open(
        &self,
        server: ConnectionInfo,
        response: Duration,
    ) -> Result<MultiplexedConnection, Error> {
        connect(&self.client(server)?, response).await
    }

    fn client(&self, server: ConnectionInfo) -> Result<Client, Error> {
        Ok(if self.config.url.tls {
            Client::build_with_tls(server, self.certificates.clone())?
        } else {
            Client::open(server)?
        })
    }

    async fn open_cluster(&self, response: Duration) -> Result<Connection, Error> {
        let servers = self.config.url.servers.iter();
        let servers: Result<Vec<_>, Error> = servers
            .map(|(host, port)| self.server(host, *port, 0))
            .collect();
        let mut builder = ClusterClient::builder(servers?)
            .connection_timeout(ONE)
            .response_timeout(response)
            .overall_response_timeout(Some(response))
            // A slot that has moved is followed; whatever takes longer is the caller's deadline.
            .retries(4)
            .min_retry_wait(1)
            .max_retry_wait(20);
        if self.config.url.tls {
            builder = builder
                .tls(redis::cluster::TlsMode::Secure)
                .certs(self.certificates.clone());
        }
        let client = builder.build()?;
        Ok(Connection::Cluster(client.get_async_connection().await?))
    }

    /// A server, and who we are to it.
    fn server(&self, host: &str, port: u16, database: i64) -> Result<ConnectionInfo, Error> {
        let mut who = RedisConnectionInfo::default()
            .set_db(database)
            .set_protocol(ProtocolVersion::RESP3)
            .set_lib_name("flameup-gateway", env!("CARGO_PKG_VERSION"));
        if let Some(username) = &self.config.username {
            who = who.set_username(username);
        }
        if let Some(password) = self.config.password()? {
            who = who.set_password(password.expose());
        }
        Ok(self
            .address(host, port)
            .into_connection_info()?
            .set_redis_settings(who))
    }

    fn address(&self, host: &str, port: u16) -> ConnectionAddr {
        if self.config.url.tls {
            ConnectionAddr::TcpTls {
                host: host.to_owned(),
                port,
                insecure: false,
                tls_params: None,
            }
        } else {
            ConnectionAddr::Tcp(host.to_owned(), port)
        }
    }

    /// The master that most Sentinels name: one that is cut off from the others may name an old
    /// one. They have no users of ours.
    async fn ask_sentinels(&self, name: &str) -> Result<Server, Error> {
        let mut answers = JoinSet::new();
        for (host, port) in &self.config.url.servers {
            let sentinel = self.address(host, *port).into_connection_info()?;
            let sentinel = self.client(sentinel)?;
            answers.spawn(ask_sentinel(sentinel, name.to_owned()));
        }
        let (mut named, mut failure) = (Vec::new(), Error::NoMaster);
        for answer in answers.join_all().await {
            match answer {
                Ok(master) => named.push(master),
                Err(error) => failure = error,
            }
        }
        let votes = |master: &Server| named.iter().filter(|named| *named == master).count();
        named
            .iter()
            .max_by_key(|master| votes(master))
            .cloned()
            .ok_or(failure)
    }
}

/// Whom a Sentinel calls the master of this name.
async fn ask_sentinel(sentinel: Client, name: String) -> Result<Server, Error> {
    let asked = async {
        let mut sentinel = connect(&sentinel, ONE).await?;
        let mut question = redis::cmd("SENTINEL");
        question.arg("get-master-addr-by-name").arg(name);
        let answer: Option<Server> = question.query_async(&mut sentinel).await?;
        answer.ok_or(Error::NoMaster)
    };
    timeout(ONE, asked).await.unwrap_or(Err(Error::Deadline))
}

/// Sentinels may name a master that has not become one yet, or has just ceased to be one.
async fn must_be_master(connection: &mut MultiplexedConnection) -> Result<(), Error> {
    // `HELLO` tells the role, and needs no right that was not needed before.
    let hello: HashMap<String, Value> = redis::cmd("HELLO").query_async(connection).await?;
    let role = hello.get("role").map(String::from_redis_value_ref);
    match role.transpose().map_err(RedisError::from)?.as_deref() {
        Some("master") => Ok(()),
        _ => Err(Error::NotMaster),
    }
}

async fn connect(client: &Client, response: Duration) -> Result<MultiplexedConnection, Error> {
    let settings = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(ONE))
        .set_response_timeout(Some(response));
    let opened = client.get_multiplexed_async_connection_with_config(&settings);
    Ok(opened.await?)
}
