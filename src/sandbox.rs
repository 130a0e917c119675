//! A scriptable stand-in for the Flameup API, for `demo`, tests and benches alike.
//!
//! It answers what the Flameup docs say, over real sockets, and does on demand what a service ought
//! not to do. It is no part of the request path. Nothing here was checked against the live service:
//! where the docs are silent a choice was made, and the module that makes it says so.
//!
//! # Modules
//! [`limiter`] and the people are pure and can be driven without sockets. A request goes through
//! `connection` (sockets, faults on the wire), `exchange` (record, limiter, fault, hold), `route`,
//! then `api` or `messages`. `control` steers all this from another process.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

mod answer;
mod api;
mod args;
mod connection;
mod control;
mod errors;
mod exchange;
mod faults;
mod hold;
pub mod limiter;
mod matcher;
mod messages;
mod options;
mod people;
mod pool;
mod record;
mod route;

pub use args::Args;
pub use errors::ErrorShape;
pub use faults::{Fault, FaultKind};
pub use hold::Hold;
pub use matcher::Matcher;
pub use options::{ApiKey, DEMO_KEY, DEMO_WORKSPACE, Options};
pub use people::{People, Shape};
pub use pool::{LimiterOptions, LimiterState};
pub use record::Received;

use exchange::Core;

/// Pause after a failed accept, which is nearly always a shortage of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);

/// A running stand-in; dropping it ends its tasks and closes its sockets.
#[derive(Debug)]
pub struct Sandbox {
    core: Arc<Core>,
    address: SocketAddr,
    control_address: Option<SocketAddr>,
    stop: CancellationToken,
    /// Each change closes the API connections that are open at that moment.
    hang_up: watch::Sender<()>,
    tasks: Vec<JoinHandle<()>>,
}

impl Sandbox {
    /// Binds the listeners and starts to serve.
    ///
    /// # Errors
    ///
    /// An address that cannot be bound, or a control address beyond loopback.
    pub async fn start(options: Options) -> io::Result<Self> {
        let listener = TcpListener::bind(options.listen).await?;
        let control = bind_control(options.control_listen).await?;
        let address = listener.local_addr()?;
        let control_address = control.as_ref().map(TcpListener::local_addr).transpose()?;
        let core = Arc::new(Core::new(options));
        let (stop, hang_up) = (CancellationToken::new(), watch::Sender::new(()));
        let api = accept(listener, stop.clone(), {
            let (core, hang_up) = (Arc::clone(&core), hang_up.clone());
            move |socket| serve(Arc::clone(&core), hang_up.subscribe(), socket)
        });
        let mut tasks = vec![tokio::spawn(api)];
        if let Some(listener) = control {
            let core = Arc::clone(&core);
            let people = core.people_of(first_workspace(&core.options));
            let serve = move |socket| control::serve(Arc::clone(&core), people.clone(), socket);
            tasks.push(tokio::spawn(accept(listener, stop.clone(), serve)));
        }
        Ok(Self {
            core,
            address,
            control_address,
            stop,
            hang_up,
            tasks,
        })
    }

    /// Where the API listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://ADDRESS`, or `https://ADDRESS` with TLS; without a slash at the end.
    pub fn base_url(&self) -> String {
        let tls = self.core.options.tls.is_some();
        let scheme = if tls { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// Where the control listener listens, if there is one.
    pub fn control_address(&self) -> Option<SocketAddr> {
        self.control_address
    }

    /// Closes every socket and waits for all tasks to end; the address is free afterwards.
    pub async fn stop(mut self) {
        self.stop.cancel();
        for task in std::mem::take(&mut self.tasks) {
            // A task that panicked has ended too, and its panic has been printed.
            let _ = task.await;
        }
    }

    /// What reached the API, in order of arrival.
    pub fn received(&self) -> Vec<Received> {
        self.core.record.all()
    }

    /// Forgets what reached the API; arrival numbers go on.
    pub fn clear_received(&self) {
        self.core.record.clear();
    }

    /// How many requests have reached the API since the start, forgotten ones included.
    pub fn arrivals(&self) -> u64 {
        self.core.record.arrivals()
    }

    /// Waits until that many requests have arrived since the start; false if that has not come about
    /// within ten seconds.
    pub async fn arrivals_reach(&self, count: u64) -> bool {
        self.core.record.reached(count).await
    }

    /// The people of the workspace of the first key.
    pub fn people(&self) -> People {
        self.people_of(first_workspace(&self.core.options))
    }

    /// The people of a workspace.
    pub fn people_of(&self, workspace: &str) -> People {
        self.core.people_of(workspace)
    }

    /// Accepts a key from now on, or changes what a known one may do.
    pub fn accept_key(&self, key: ApiKey) {
        self.core.keys.write().insert(key.key.clone(), key);
    }

    /// Refuses a key from now on; false if it was not accepted before.
    pub fn revoke_key(&self, key: &str) -> bool {
        self.core.keys.write().remove(key).is_some()
    }

    /// What the limiter has counted, over all keys.
    pub fn limiter(&self) -> LimiterState {
        self.core.pools.lock().state()
    }

    /// What the limiter has counted for one key.
    pub fn limiter_of(&self, key: &str) -> LimiterState {
        self.core.pools.lock().state_of(key)
    }

    /// Limits by other rules from now on, with all pools full; counts are kept.
    pub fn change_limiter(&self, options: LimiterOptions) {
        let now = self.core.options.clock.now();
        self.core.pools.lock().change(options, now);
    }

    /// How many connections the API has accepted since the start.
    pub fn connections(&self) -> u64 {
        self.core.connections.load(Ordering::SeqCst)
    }

    /// Closes every API connection that is open now, in the middle of whatever it does.
    pub fn close_connections(&self) {
        self.hang_up.send_replace(());
    }

    /// Adds a fault; the oldest that matches a request strikes.
    pub fn fault(&self, fault: Fault) {
        self.core.faults.add(fault);
    }

    /// Takes back all faults.
    pub fn clear_faults(&self) {
        self.core.faults.clear();
    }

    /// Holds matching requests. Their answers are worked out on arrival, so they carry what was true
    /// then, however long they are held.
    pub fn hold(&self, matcher: Matcher) -> Hold {
        self.core.holds.add(matcher, false)
    }

    /// Holds matching requests and works their answers out once they are let go.
    pub fn hold_unanswered(&self, matcher: Matcher) -> Hold {
        self.core.holds.add(matcher, true)
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.stop.cancel();
        for task in &self.tasks {
            task.abort(); // takes its connections with it
        }
    }
}

fn first_workspace(options: &Options) -> &str {
    let first = options.api_keys.first();
    first.map_or(DEMO_WORKSPACE, |key| key.workspace_id.as_str())
}

async fn bind_control(address: Option<SocketAddr>) -> io::Result<Option<TcpListener>> {
    let Some(address) = address else {
        return Ok(None);
    };
    if !address.ip().is_loopback() {
        let message = "the control listener is for loopback only";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    TcpListener::bind(address).await.map(Some)
}

/// Accepts connections until told to stop, then ends those that are open.
async fn accept<F, C>(listener: TcpListener, stop: CancellationToken, serve: F)
where
    F: Fn(TcpStream) -> C,
    C: Future<Output = ()> + Send + 'static,
{
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => { connections.spawn(serve(socket)); }
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    connections.shutdown().await;
}

/// Serves one API connection until it ends or is told to hang up.
fn serve(
    core: Arc<Core>,
    mut hang_up: watch::Receiver<()>,
    socket: TcpStream,
) -> impl Future<Output = ()> + Send + 'static {
    let number = core.connected();
    async move {
        tokio::select! {
            () = connection::serve(core, socket, number) => {}
            _ = hang_up.changed() => {}
        }
    }
}
