//! What `deploy/` holds, and what is made for packages, as far as a tool can say that it is right.
//!
//! `tests/run.sh` installs the tools. One that is missing fails its test: what was not looked at may
//! be anything.

use std::path::{Path, PathBuf};
use std::process::Command;

#[path = "deploy/containers.rs"]
mod containers;
#[path = "deploy/machine.rs"]
mod machine;
#[path = "deploy/manual.rs"]
mod manual;
#[path = "deploy/monitoring.rs"]
mod monitoring;
#[path = "gateway/support/port.rs"]
mod port;
#[path = "deploy/redis.rs"]
mod redis;

/// The program under test.
const GATEWAY: &str = env!("CARGO_BIN_EXE_flameup-gateway");

/// Where `tests/run.sh` puts tools that are no package of Debian's.
fn tool(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
        .join("../deploy-tools/bin")
        .join(name)
}

/// A command in the root of the project, with no more of an environment than it needs to be found.
fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        // Some tools look for settings there.
        .env("HOME", env!("CARGO_TARGET_TMPDIR"));
    command
}

/// Runs a command to its end, which must be a good one, and returns what it printed.
fn printed(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| {
        panic!("{command:?}: {error}; tests/run.sh installs what is missing")
    });
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {}\n{stdout}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr),
    );
    stdout
}
