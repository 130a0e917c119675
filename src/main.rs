//! The `flameup-gateway` program: arguments, configuration, logging, run. An error is printed with
//! its causes, and becomes the exit status.

use std::error::Error;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use flameup_gateway::clock::Clock;
use flameup_gateway::config::{Config, Loaded, Sources};
use flameup_gateway::demo::{self, Demo};
use flameup_gateway::manual;
use flameup_gateway::operate;
use flameup_gateway::process::{CoreDumps, State, keep_watchdog, notify};
use flameup_gateway::sandbox::{self, DEMO_KEY, Sandbox};
use flameup_gateway::serve::Running;
use flameup_gateway::serve::reload::Reloader;
use flameup_gateway::server::tls::Tls;
use flameup_gateway::telemetry::{chain, log};
use flameup_gateway::token::Token;
use mimalloc::MiMalloc;
use tokio::runtime::Builder;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};
use zeroizing_alloc::ZeroAlloc;

/// Memory is overwritten when it is given back: an erased person, and a key that was replaced, do
/// not live on in what nobody uses any more.
#[global_allocator]
static ALLOCATOR: ZeroAlloc<MiMalloc> = ZeroAlloc(MiMalloc);

/// How long threads that cannot be interrupted may hold up the end.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_millis(100);

/// Whatever keeps a command from its end.
type Cause = Box<dyn Error + Send + Sync>;

/// A caching gateway and rate shield in front of the Flameup people API.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the gateway
    Serve(ConfigArgument),
    /// Validate the configuration; print every value and where it came from, secrets redacted
    Check {
        #[command(flatten)]
        config: ConfigArgument,
        /// Print the settings as JSON
        #[arg(long)]
        json: bool,
    },
    /// Run the sandbox and a gateway before it, to try things out; needs no key and no network
    Demo(demo::Args),
    /// Run a stand-in for Flameup
    Sandbox(sandbox::Args),
    /// Client tokens
    #[command(subcommand)]
    Token(TokenCommand),
    #[command(flatten)]
    Operate(operate::Command),
    /// Print completions for a shell, to be put where it looks for them
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Write manual pages into a directory, one for each command
    Man {
        /// The directory; made if it is not there
        directory: PathBuf,
    },
}

#[derive(Debug, clap::Args)]
struct ConfigArgument {
    /// The configuration file; else the one that `FLAMEUP_GATEWAY_CONFIG` names, else none
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    /// Make a random client token, and the hash to put in the configuration
    New {
        /// Print token and hash as JSON
        #[arg(long)]
        json: bool,
    },
}

/// How a command fails, by exit status.
#[derive(Debug)]
enum Failure {
    /// 1: something went wrong at run time.
    Run(Cause),
    /// 2: wrong usage or configuration.
    Configuration(Cause),
}

fn main() -> ExitCode {
    // Before anything is read: the environment may hold a key already.
    let core_dumps = CoreDumps::deny();
    let (status, error) = match run(Arguments::parse().command, core_dumps) {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Run(error)) => (1, error),
        Err(Failure::Configuration(error)) => (2, error),
    };
    // Nothing is left to do if standard error is closed.
    let _ = writeln!(io::stderr(), "flameup-gateway: {}", chain(error.as_ref()));
    ExitCode::from(status)
}

fn run(command: Command, core_dumps: io::Result<CoreDumps>) -> Result<(), Failure> {
    match command {
        Command::Serve(argument) => serve(argument, core_dumps),
        Command::Check { config, json } => check(&sources(config), json),
        Command::Demo(arguments) => run_demo(arguments),
        Command::Sandbox(arguments) => run_sandbox(arguments),
        Command::Token(TokenCommand::New { json }) => {
            let token = Token::random().map_err(Failure::run)?;
            let printed = if json {
                token.to_json()
            } else {
                token.to_string()
            };
            writeln!(io::stdout(), "{printed}").map_err(Failure::run)
        }
        Command::Operate(command) => operate(command),
        Command::Completions { shell } => {
            let out = &mut io::stdout().lock();
            manual::completions(Arguments::command(), shell, out).map_err(Failure::run)
        }
        Command::Man { directory } => {
            manual::pages(Arguments::command(), &directory).map_err(Failure::run)
        }
    }
}

fn operate(command: operate::Command) -> Result<(), Failure> {
    run_on(1, async {
        let environment = std::env::vars_os().collect();
        let done = command.run(environment, &mut io::stdout().lock()).await;
        done.map_err(|error| {
            if error.is_of_usage() {
                Failure::configuration(error)
            } else {
                Failure::run(error)
            }
        })
    })
}

fn sources(argument: ConfigArgument) -> Sources {
    Sources {
        file: argument.config,
        inline: None,
        environment: std::env::vars_os().collect(),
    }
}

fn load(sources: &Sources) -> Result<Loaded, Failure> {
    Config::load(sources).map_err(Failure::configuration)
}

fn check(sources: &Sources, json: bool) -> Result<(), Failure> {
    let loaded = load(sources)?;
    if let Some(files) = &loaded.config.server.tls {
        // Only to find out: a start would fail of them.
        Tls::load(files).map_err(Failure::configuration)?;
    }
    let out = &mut io::stdout().lock();
    let printed = if json {
        loaded.print_json(out)
    } else {
        loaded.print(out)
    };
    printed.map_err(Failure::run)
}

fn serve(argument: ConfigArgument, core_dumps: io::Result<CoreDumps>) -> Result<(), Failure> {
    let sources = sources(argument);
    let loaded = load(&sources)?;
    let config = loaded.config.clone();
    let (log, _written_until_dropped) = log::start(&config.telemetry).map_err(Failure::Run)?;
    settle_core_dumps(core_dumps, config.secrets.core_dumps);
    run_on(config.server.workers, async {
        let mut stop = StopSignals::listen()?;
        let running = Running::start(&config, Clock::system())
            .await
            .map_err(Failure::configuration)?;
        running.show(&loaded);
        let mut reloader = Reloader::new(sources, loaded, Some(log));
        for address in running.addresses() {
            info!(server.address = %address, "serving");
        }
        if let Some(address) = running.admin_address() {
            info!(server.address = %address, "serving operators");
        }
        notify(State::Ready);
        tokio::select! {
            () = stop.received_by_service(&running, &mut reloader) => {}
            () = keep_watchdog() => {}
        }
        notify(State::Stopping);
        tokio::select! {
            () = running.drain() => {}
            () = stop.received() => info!("stopped in a hurry"),
            () = keep_watchdog() => {}
        }
        Ok(())
    })
}

/// Allows core dumps where the configuration does. That they could not be denied is no reason not
/// to serve.
fn settle_core_dumps(denied: io::Result<CoreDumps>, allowed: bool) {
    match denied {
        Ok(core_dumps) if allowed => {
            if let Err(error) = core_dumps.allow() {
                warn!(error = %error, "core dumps cannot be allowed");
            }
        }
        Ok(_) => {}
        Err(error) => warn!(error = %error, "core dumps cannot be denied"),
    }
}

fn run_demo(arguments: demo::Args) -> Result<(), Failure> {
    run_on(0, async {
        let mut stop = StopSignals::listen()?;
        let demo = Demo::start(arguments).await.map_err(Failure::run)?;
        write!(io::stdout(), "{demo}").map_err(Failure::run)?;
        stop.received().await;
        demo.stop().await;
        Ok(())
    })
}

fn run_sandbox(arguments: sandbox::Args) -> Result<(), Failure> {
    let shows_demo_key = arguments.api_keys.is_empty();
    run_on(0, async {
        let mut stop = StopSignals::listen()?;
        let sandbox = Sandbox::start(arguments.into())
            .await
            .map_err(Failure::run)?;
        writeln!(io::stdout(), "sandbox   {}", sandbox.base_url()).map_err(Failure::run)?;
        if shows_demo_key {
            writeln!(io::stdout(), "key       {DEMO_KEY}").map_err(Failure::run)?;
        }
        if let Some(address) = sandbox.control_address() {
            writeln!(io::stdout(), "control   http://{address}").map_err(Failure::run)?;
        }
        stop.received().await;
        sandbox.stop().await;
        Ok(())
    })
}

/// Runs a command on so many threads; 0 for one per core.
fn run_on(
    workers: usize,
    command: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    // One thread alone has nobody to share work with, and is spared what sharing costs.
    let mut builder = if workers == 1 {
        Builder::new_current_thread()
    } else {
        Builder::new_multi_thread()
    };
    if workers > 1 {
        builder.worker_threads(workers);
    }
    let runtime = builder.enable_all().build().map_err(Failure::run)?;
    let result = runtime.block_on(command);
    // A name that is still being resolved in a thread of its own must not hold up the end.
    runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
    result
}

impl Failure {
    fn run(error: impl Into<Cause>) -> Self {
        Self::Run(error.into())
    }

    fn configuration(error: impl Into<Cause>) -> Self {
        Self::Configuration(error.into())
    }
}

/// The signals that end a command.
struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl StopSignals {
    fn listen() -> Result<Self, Failure> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).map_err(Failure::run)?,
            interrupt: signal(SignalKind::interrupt()).map_err(Failure::run)?,
            hang_up: signal(SignalKind::hangup()).map_err(Failure::run)?,
        })
    }

    /// As [`received`](Self::received), for a service: at SIGHUP the configuration is read again.
    async fn received_by_service(&mut self, running: &Running, reloader: &mut Reloader) {
        loop {
            tokio::select! {
                () = stop(&mut self.terminate, &mut self.interrupt) => return,
                _ = self.hang_up.recv() => {}
            }
            notify(State::Reloading);
            tokio::select! {
                // A disk that does not answer must not keep the gateway from stopping.
                () = stop(&mut self.terminate, &mut self.interrupt) => return,
                () = reloader.reload(running) => {}
            }
            notify(State::Ready);
        }
    }

    async fn received(&mut self) {
        stop(&mut self.terminate, &mut self.interrupt).await;
    }
}

async fn stop(terminate: &mut Signal, interrupt: &mut Signal) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}
