//! The service of a machine, and the package that brings it there. Nothing is installed or started.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use super::{GATEWAY, command, printed, tool};

const UNIT: &str = "deploy/systemd/flameup-gateway.service";
const KEY: &str = "0123456789abcdef0123456789abcdef";

/// What systemd thinks that the service could do to the machine, in tenths: 0 nothing, 100 anything.
const EXPOSURE: &str = "--threshold=15";

#[test]
fn systemd_understands_the_unit_and_finds_it_hardened() {
    let made = tempfile::tempdir().expect("a directory");
    let unit = made.path().join("flameup-gateway.service");
    let text = fs::read_to_string(UNIT).expect("the unit");
    fs::write(&unit, text.replace("/usr/bin/flameup-gateway", GATEWAY)).expect("room");
    let verify = ["verify", "--man=no"];
    let mut verified = command("systemd-analyze");
    let output = verified.args(verify).arg(&unit).output();
    let output = output.expect("systemd-analyze is there");
    // Keys that it does not know are only warnings to it.
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && !said.contains("flameup"),
        "{said}"
    );
    let mut judged = command("systemd-analyze");
    printed(
        judged
            .args(["security", "--offline=true", EXPOSURE])
            .arg(UNIT),
    );
}

#[test]
fn systemd_understands_the_socket_and_the_drop_in_that_takes_it() {
    const DIRECTORY: &str = "deploy/systemd/socket-activation";
    let made = tempfile::tempdir().expect("a directory");
    let service = fs::read_to_string(UNIT).expect("the unit");
    let service = service.replace("/usr/bin/flameup-gateway", GATEWAY);
    fs::write(made.path().join("flameup-gateway.service"), service).expect("room");
    for file in [
        "flameup-gateway.socket",
        "flameup-gateway.service.d/socket.conf",
    ] {
        let to = made.path().join(file);
        fs::create_dir_all(to.parent().expect("a directory")).expect("room");
        fs::copy(Path::new(DIRECTORY).join(file), to).expect(file);
    }
    let mut verified = command("systemd-analyze");
    verified.args(["verify", "--man=no"]);
    verified.arg(made.path().join("flameup-gateway.socket"));
    let output = verified.output().expect("systemd-analyze is there");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && !said.contains("flameup"),
        "{said}"
    );
}

#[test]
fn the_gateway_takes_what_the_unit_sets() {
    let credentials = tempfile::tempdir().expect("a directory");
    fs::write(credentials.path().join("flameup-api-key"), KEY).expect("room");
    let directory = credentials.path().to_str().expect("is Unicode");
    let unit = fs::read_to_string(UNIT).expect("the unit");
    let settings: BTreeMap<&str, String> = unit
        .lines()
        .filter_map(|line| line.strip_prefix("Environment=")?.split_once('='))
        .map(|(name, value)| (name, value.replace("%d", directory)))
        .collect();
    assert!(!settings.is_empty(), "the unit sets nothing");
    let mut check = command(GATEWAY);
    check.args(["check", "--config", "deploy/debian/gateway.toml"]);
    let said = printed(check.envs(&settings));
    assert!(
        said.contains("api_key_file") && !said.contains(KEY),
        "{said}"
    );
}

#[test]
fn the_package_brings_all_that_a_machine_needs() {
    printed(command("deploy/debian/extras.sh").arg(GATEWAY));
    let made = tempfile::tempdir().expect("a directory");
    let package = made.path().join("flameup-gateway.deb");
    let mut build = command(tool("cargo-deb"));
    build.args([
        "deb",
        "--no-build",
        "--no-strip",
        "--fast",
        "--locked",
        "--offline",
    ]);
    // The program that is tested is packed, not one that would have to be built first.
    build.args(["--profile", "dev", "--output"]).arg(&package);
    for variable in ["HOME", "CARGO_HOME", "RUSTUP_HOME", "CARGO_TARGET_DIR"] {
        if let Some(value) = std::env::var_os(variable) {
            build.env(variable, value);
        }
    }
    printed(&mut build);

    let root = made.path().join("root");
    printed(
        command("dpkg-deb")
            .arg("--extract")
            .arg(&package)
            .arg(&root),
    );
    for path in [
        "etc/flameup-gateway/gateway.toml",
        "usr/lib/systemd/system/flameup-gateway.service",
        "usr/share/bash-completion/completions/flameup-gateway",
        "usr/share/man/man1/flameup-gateway-serve.1.gz",
        "usr/share/doc/flameup-gateway/gateway.toml",
    ] {
        assert!(root.join(path).is_file(), "{path} is missing");
    }
    let mut version = command(root.join("usr/bin/flameup-gateway"));
    let version = printed(version.arg("--version"));
    assert!(version.contains(env!("CARGO_PKG_VERSION")), "{version}");

    let control = made.path().join("control");
    printed(
        command("dpkg-deb")
            .arg("--control")
            .arg(&package)
            .arg(&control),
    );
    let configuration = fs::read_to_string(control.join("conffiles")).expect("there are some");
    assert_eq!(configuration.trim(), "/etc/flameup-gateway/gateway.toml");
    starts_the_service(&control);
}

fn starts_the_service(control: &Path) {
    for script in ["postinst", "prerm", "postrm"] {
        let path = control.join(script);
        printed(command("sh").arg("-n").arg(&path));
        let text = fs::read_to_string(&path).expect("there is one");
        assert!(!text.contains("#DEBHELPER#"), "{script}: {text}");
    }
    let postinst = fs::read_to_string(control.join("postinst")).expect("there is one");
    for does in [
        "deb-systemd-helper enable",
        "deb-systemd-invoke $_dh_action",
    ] {
        assert!(postinst.contains(does), "{postinst}");
    }
}
