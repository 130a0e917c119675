//! `flameup-gateway demo`: the sandbox and a gateway before it in one process, to try things out.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::clock::Clock;
use crate::config::{self, Config, ListenAddress, Sources};
use crate::sandbox::{self, DEMO_KEY, Sandbox};
use crate::serve::{self, Running};

/// People that the demo names.
const PEOPLE: [&str; 3] = ["user_1", "user_2", "user_3"];

/// Addresses to use; without one, the usual port or, if that is taken, a free one.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Address the gateway listens on; 127.0.0.1:8080, or a free port if that is taken
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Address of the admin listener; 127.0.0.1:9090, or a free port if that is taken
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<SocketAddr>,
    /// Address of the sandbox; a free port of loopback unless given
    #[arg(long, value_name = "ADDRESS")]
    upstream: Option<SocketAddr>,
}

/// A sandbox and a gateway before it. Its `Display` tells how to use it.
#[derive(Debug)]
pub struct Demo {
    sandbox: Sandbox,
    gateway: Running,
}

/// Why the demo could not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The sandbox cannot listen.
    #[error("starting the sandbox")]
    Sandbox(#[source] std::io::Error),
    /// The demo's own configuration was refused.
    #[error("configuring the gateway")]
    Config(#[from] config::Error),
    /// The gateway cannot start.
    #[error("starting the gateway")]
    Gateway(#[from] serve::Error),
}

impl Demo {
    /// Starts both.
    ///
    /// # Errors
    /// When an address cannot be listened on.
    pub async fn start(args: Args) -> Result<Self, Error> {
        let mut options = sandbox::Options::default();
        if let Some(address) = args.upstream {
            options = options.listen(address);
        }
        let sandbox = Sandbox::start(options).await.map_err(Error::Sandbox)?;
        let listen = args.listen.unwrap_or_else(|| usual_or_free(8080));
        let admin = args.admin.unwrap_or_else(|| usual_or_free(9090));
        let config = format!(
            "server.listen = [\"{listen}\"]\nadmin.listen = \"{admin}\"\nupstream.base_url = \"{}\"\n",
            sandbox.base_url()
        );
        let config =
            Config::load(&Sources::inline(config, [("FLAMEUP_API_KEY", DEMO_KEY)]))?.config;
        let gateway = Running::start(&config, Clock::system()).await?;
        Ok(Self { sandbox, gateway })
    }

    /// Drains the gateway and stops both.
    pub async fn stop(self) {
        self.gateway.drain().await;
        self.sandbox.stop().await;
    }
}

impl fmt::Display for Demo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tcp = |address: &ListenAddress| match address {
            ListenAddress::Tcp(address) => format!("http://{address}"),
            ListenAddress::Unix(path) => path.display().to_string(),
        };
        let gateway = self
            .gateway
            .addresses()
            .first()
            .map(tcp)
            .unwrap_or_default();
        let admin = self.gateway.admin_address().map(tcp).unwrap_or_default();
        let people = self.sandbox.people();
        let (id, email) = (PEOPLE[0], people.email(PEOPLE[0]).unwrap_or_default());

        writeln!(f, "gateway   {gateway}")?;
        writeln!(f, "admin     {admin}")?;
        writeln!(
            f,
            "upstream  {}   (the sandbox, in this process)",
            self.sandbox.base_url()
        )?;
        for id in PEOPLE {
            let (email, uuid) = (
                people.email(id).unwrap_or_default(),
                people.uuid(id).unwrap_or_default(),
            );
            writeln!(f, "people    {id}   {email}   {uuid}")?;
        }
        writeln!(
            f,
            "\nTry these in another terminal, and look at Cache-Status and Age:\n"
        )?;
        writeln!(
            f,
            "  curl -i {gateway}/api/v1/people/{id}          # a miss: asks upstream"
        )?;
        writeln!(
            f,
            "  curl -i {gateway}/api/v1/people/{id}          # a hit: from memory"
        )?;
        writeln!(
            f,
            "  curl -i {gateway}/api/v1/people/nobody          # a 404, word for word"
        )?;
        writeln!(
            f,
            "  curl -i {gateway}/api/v1/people/{email}   # the same person by e-mail: a hit"
        )?;
        writeln!(
            f,
            "  curl {admin}/metrics                      # what happened"
        )?;
        writeln!(f, "\nCtrl-C stops it.")
    }
}

/// The usual port of loopback, or 0 for a free one if somebody listens there.
fn usual_or_free(port: u16) -> SocketAddr {
    let usual = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port);
    let is_free = std::net::TcpListener::bind(usual).is_ok();
    if is_free {
        usual
    } else {
        SocketAddr::new(usual.ip(), 0)
    }
}
