//! Makes connections: to the one server, to a Cluster, or to whom the Sentinels call master.

use std::time::Duration;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::cluster::ClusterClient;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo,
    ProtocolVersion, RedisConnectionInfo, TlsCertificates,
};
use tokio::time::timeout;

use super::Connection;
use super::Error;
use crate::config::{self, Topology};

/// Time for a whole connection, Sentinels and TLS included. Calls do not wait for it.
pub(super) const LONGEST: Duration = Duration::from_secs(2);

/// Time for one server's part of that.
const ONE: Duration = Duration::from_millis(500);

/// Between two attempts, doubling.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(50);
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Between two questions to the Sentinels who the master is: a fail-over is noticed within this,
/// also where the old master goes on as if nothing was.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(500);

/// What a connection that nobody blocks waits for an answer; calls have their own, shorter deadlines.
const RESPONSE: Duration = Duration::from_secs(1);

/// Makes connections.
pub(super) struct Connector {
    config: config::Redis,
    certificates: TlsCertificates,
    /// Whom the Sentinels named last.
    master: Mutex<Option<(String, u16)>>,
}

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

    /// Makes a connection whose answers may take as long as `response`.
    pub(super) async fn connect(&self, response: Option<Duration>) -> Result<Connection, Error> {
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
                let connection = self.open(server, response).await?;
                *self.master.lock() = Some((host, port));
                Ok(Connection::One(connection))
            }
        }
    }

    /// Lets go of a connection to a server that is the master no longer.
    pub(super) async fn look(&self, connection: &ArcSwapOption<Connection>) {
        let Topology::Sentinel(name) = &self.config.url.topology else {
            return;
        };
        if let Ok(named) = self.ask_sentinels(name).await
            && self.master.lock().as_ref() != Some(&named)
        {
            connection.store(None);
        }
    }

    async fn open(
        &self,
        server: ConnectionInfo,
        response: Duration,
    ) -> Result<MultiplexedConnection, Error> {
        let client = if self.config.url.tls {
            Client::build_with_tls(server, self.certificates.clone())?
        } else {
            Client::open(server)?
        };
        let settings = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(ONE))
            .set_response_timeout(Some(response));
        let opened = client.get_multiplexed_async_connection_with_config(&settings);
        Ok(opened.await?)
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

    /// The master by the first Sentinel that knows it. Sentinels have no users of ours.
    async fn ask_sentinels(&self, name: &str) -> Result<(String, u16), Error> {
        for (host, port) in &self.config.url.servers {
            let sentinel = self.address(host, *port).into_connection_info()?;
            let asked = async {
                let mut sentinel = self.open(sentinel, ONE).await?;
                let mut question = redis::cmd("SENTINEL");
                question.arg("get-master-addr-by-name").arg(name);
                let answer: Option<(String, u16)> = question.query_async(&mut sentinel).await?;
                answer.ok_or(Error::NoMaster)
            };
            if let Ok(Ok(master)) = timeout(ONE, asked).await {
                return Ok(master);
            }
        }
        Err(Error::NoMaster)
    }
}
