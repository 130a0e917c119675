//! The commands that talk to a running gateway's admin listener: `lookup`, `explain`, `purge`,
//! `erase`, `status`.
//!
//! Where the gateway listens is taken from the same configuration that `serve` would take it from;
//! of that only `[admin]` is needed, so no Flameup key has to be at hand.

use std::error::Error as StdError;
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

mod client;
mod show;

use crate::config::{
    self, Admin, AdminToken, Config, Environment, ListenAddress, SecretError, SecretSource, Sources,
};
use client::{Answer, Client};

/// Between two looks at the status.
const BETWEEN_LOOKS: Duration = Duration::from_secs(1);
/// Has a terminal begin again at the top of an empty screen (ECMA-48 CUP, ED).
const CLEAR: &[u8] = b"\x1b[H\x1b[2J";

/// What an operator wants of a running gateway.
#[derive(Subcommand)]
pub enum Command {
    /// Look a person up as a client of the gateway would
    Lookup(Someone),
    /// Say why a lookup would hit or miss now
    Explain(Someone),
    /// Let go of a stored person, or of everybody in a workspace
    Purge(Purge),
    /// Let go of all that is known of a person, and store nothing of them for a while
    Erase(Erase),
    /// Show how the gateway stands
    Status(Status),
}

/// How a gateway stands.
#[derive(Args)]
pub struct Status {
    /// Show it anew every second, until it is interrupted
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    gateway: Gateway,
}

/// Somebody, and the gateway that is asked about them.
#[derive(Args)]
pub struct Someone {
    #[command(flatten)]
    whom: Whom,
    #[command(flatten)]
    gateway: Gateway,
}

/// A purge.
#[derive(Args)]
pub struct Purge {
    /// An external id or an e-mail
    #[arg(required_unless_present = "everyone", conflicts_with = "everyone")]
    id: Option<String>,
    /// ID is Flameup's UUID
    #[arg(long, requires = "id")]
    uuid: bool,
    /// Everybody in the workspace
    #[arg(long)]
    everyone: bool,
    /// Only mark as stale: served once more while a refresh runs
    #[arg(long)]
    soft: bool,
    #[command(flatten)]
    gateway: Gateway,
}

/// An erasure.
#[derive(Args)]
pub struct Erase {
    #[command(flatten)]
    whom: Whom,
    /// How long nothing is stored, "1s" to "24h"; the gateway's default is "10m"
    #[arg(long, value_name = "DURATION")]
    hold: Option<String>,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    gateway: Gateway,
}

/// One person.
#[derive(Args)]
struct Whom {
    /// An external id or an e-mail
    id: String,
    /// ID is Flameup's UUID; without this, what looks like one is an external id
    #[arg(long)]
    uuid: bool,
}

/// Which gateway, and how to talk to it.
#[derive(Args)]
pub struct Gateway {
    /// Where its admin listener is, `IP:PORT` or `unix:/path`; else as configured
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<ListenAddress>,
    /// File with the admin token; else as configured, unless --admin is given
    #[arg(long, value_name = "FILE")]
    admin_token_file: Option<PathBuf>,
    /// The configuration file; else the one that `FLAMEUP_GATEWAY_CONFIG` names, else none
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The workspace; needed only if there are several
    #[arg(long, value_name = "NAME")]
    workspace: Option<String>,
    /// Print what the gateway answers, as it is
    #[arg(long)]
    json: bool,
}

/// Why a command fails.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration does not say where the gateway listens.
    #[error(transparent)]
    Config(#[from] config::Error),
    /// It says that it does not.
    #[error("admin.listen is \"off\"; a gateway without admin listener takes no commands")]
    NoListener,
    /// It says that the system chooses.
    #[error("admin.listen has port 0; say where the gateway listens with --admin")]
    AnyPort,
    /// The token cannot be read.
    #[error("reading the admin token (--admin-token-file)")]
    Token(#[source] SecretError),
    /// Nobody is there to say yes.
    #[error("standard input is no terminal to ask for confirmation on; give --yes")]
    NotConfirmed,
    /// Somebody said no.
    #[error("nothing was erased")]
    Declined,
    /// The receipt says so.
    #[error("not every tier and gateway has confirmed that nothing is left; erase once more")]
    Unconfirmed,
    /// The gateway cannot be asked.
    #[error("asking the gateway at {address}")]
    Client {
        /// Where.
        address: ListenAddress,
        /// Why.
        #[source]
        source: client::Error,
    },
    /// The gateway said no.
    #[error("the gateway at {address} answered {status}: {message}")]
    Refused {
        /// Where.
        address: ListenAddress,
        /// Its status.
        status: u16,
        /// What it says.
        message: String,
    },
    /// The lookup has no answer. What there is to say was printed.
    #[error("the lookup was answered {0}")]
    LookedUp(u64),
    /// The output cannot be written.
    #[error("writing the answer")]
    Output(#[from] io::Error),
}

impl Error {
    /// Whether the command was given wrongly, or the configuration is wrong.
    pub fn is_of_usage(&self) -> bool {
        match self {
            Self::Config(_)
            | Self::NoListener
            | Self::AnyPort
            | Self::Token(_)
            | Self::NotConfirmed => true,
            Self::Refused { status, .. } => *status == 400,
            Self::Declined
            | Self::Unconfirmed
            | Self::Client { .. }
            | Self::LookedUp(_)
            | Self::Output(_) => false,
        }
    }
}

impl Command {
    /// Does what is wanted, and writes what the gateway answers to `out`.
    ///
    /// # Errors
    /// When it cannot be done; see [`Error`].
    pub async fn run(self, environment: Environment, out: &mut impl Write) -> Result<(), Error> {
        match self {
            Self::Status(status) => status.run(environment, out).await,
            Self::Explain(Someone { whom, gateway }) => {
                let body = gateway.body(whom.fields());
                let answer = gateway.ask(environment, "/v1/explain", Some(body)).await?;
                gateway.show(&answer, out)
            }
            Self::Lookup(wanted) => wanted.look_up(environment, out).await,
            Self::Purge(purge) => purge.run(environment, out).await,
            Self::Erase(erase) => erase.run(environment, out).await,
        }
    }
}

impl Status {
    async fn run(self, environment: Environment, out: &mut impl Write) -> Result<(), Error> {
        loop {
            let answer = self.gateway.ask(environment.clone(), "/v1/status", None);
            let answer = answer.await?;
            if self.watch && !self.gateway.json && io::stdout().is_terminal() {
                out.write_all(CLEAR)?;
            }
            self.gateway.show(&answer, out)?;
            out.flush()?;
            if !self.watch {
                return Ok(());
            }
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
    }
}

impl Someone {
    async fn look_up(self, environment: Environment, out: &mut impl Write) -> Result<(), Error> {
        let body = self.gateway.body(self.whom.fields());
        let answer = self.gateway.ask(environment, "/v1/lookup", Some(body));
        let answer = answer.await?;
        self.gateway.show(&answer, out)?;
        match answer.value["status"].as_u64() {
            // That there is nobody is an answer.
            Some(200 | 404) => Ok(()),
            status => Err(Error::LookedUp(status.unwrap_or_default())),
        }
    }
}

impl Purge {
    async fn run(self, environment: Environment, out: &mut impl Write) -> Result<(), Error> {
        let uuid = self.uuid;
        let whom = self.id.map(|id| Whom { id, uuid }.fields());
        let mut fields = whom.unwrap_or_default();
        fields.insert("everyone".to_owned(), self.everyone.into());
        fields.insert("soft".to_owned(), self.soft.into());
        let body = self.gateway.body(fields);
        let answer = self.gateway.ask(environment, "/v1/purge", Some(body));
        self.gateway.show(&answer.await?, out)
    }
}

impl Erase {
    async fn run(self, environment: Environment, out: &mut impl Write) -> Result<(), Error> {
        if !self.yes {
            confirm()?;
        }
        let mut fields = self.whom.fields();
        fields.extend(self.hold.map(|hold| ("hold".to_owned(), hold.into())));
        let body = self.gateway.body(fields);
        let answer = self
            .gateway
            .ask(environment, "/v1/erase", Some(body))
            .await?;
        self.gateway.show(&answer, out)?;
        let tiers = answer.value["tiers"].as_array();
        // There are none where the gateway is alone.
        let replicas = answer.value["replicas"].as_array();
        let confirmed = |word: &Value| word["confirmed"] == true;
        let others = replicas.is_none_or(|replicas| replicas.iter().all(confirmed));
        if others && tiers.is_some_and(|tiers| tiers.iter().all(confirmed)) {
            Ok(())
        } else {
            Err(Error::Unconfirmed)
        }
    }
}

impl Whom {
    fn field(&self) -> &'static str {
        if self.uuid { "uuid" } else { "id" }
    }

    fn fields(&self) -> Map<String, Value> {
        Map::from_iter([(self.field().to_owned(), json!(self.id))])
    }
}

impl Gateway {
    fn body(&self, mut fields: Map<String, Value>) -> Value {
        if let Some(workspace) = &self.workspace {
            fields.insert("workspace".to_owned(), json!(workspace));
        }
        fields.into()
    }

    /// Asks the gateway; with a body, by POST.
    async fn ask(
        &self,
        environment: Environment,
        target: &str,
        body: Option<Value>,
    ) -> Result<Answer, Error> {
        let (address, token) = self.find(environment)?;
        let client = Client::new(address.clone(), token);
        let answer = client.ask(target, body).await;
        let answer = answer.map_err(|source| Error::Client {
            address: address.clone(),
            source,
        })?;
        if answer.status == 200 {
            return Ok(answer);
        }
        Err(Error::Refused {
            address,
            status: answer.status,
            message: answer.value["message"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
        })
    }

    /// Finds out where the gateway listens, and what it wants to be shown.
    fn find(&self, environment: Environment) -> Result<(ListenAddress, Option<AdminToken>), Error> {
        let file = self.admin_token_file.clone().map(SecretSource::File);
        let token = file.map(|file| AdminToken::read(file, &environment));
        let token = token.transpose().map_err(Error::Token)?;
        if let Some(address) = &self.admin {
            return Ok((address.clone(), token));
        }
        let sources = Sources {
            file: self.config.clone(),
            inline: None,
            environment,
        };
        let Admin {
            listen,
            token: configured,
            ..
        } = Config::load_admin(&sources)?;
        match listen.ok_or(Error::NoListener)? {
            ListenAddress::Tcp(address) if address.port() == 0 => Err(Error::AnyPort),
            address => Ok((address, token.or(configured))),
        }
    }

    fn show(&self, answer: &Answer, out: &mut impl Write) -> Result<(), Error> {
        if self.json {
            out.write_all(&answer.body)?;
            writeln!(out)?;
        } else {
            show::write(&answer.value, out)?;
        }
        Ok(())
    }
}

/// Asks whoever sits at the terminal.
fn confirm() -> Result<(), Error> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return Err(Error::NotConfirmed);
    }
    write!(
        io::stderr(),
        "Erase all that is known of this person? [y/N] "
    )?;
    let mut answer = String::new();
    stdin.lock().read_line(&mut answer)?;
    if ["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str()) {
        Ok(())
    } else {
        Err(Error::Declined)
    }
}

/// A cause of any type.
type Cause = Box<dyn StdError + Send + Sync>;
