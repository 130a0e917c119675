//! Completions and manual pages.

use std::fs;

use super::{GATEWAY, command, printed};

#[test]
fn every_shell_completes_every_command() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = printed(command(GATEWAY).args(["completions", shell]));
        for command in ["serve", "check", "explain", "--everyone"] {
            let command = command.trim_start_matches('-');
            assert!(script.contains(command), "{command} in {shell}");
        }
    }
}

#[test]
fn every_command_has_a_manual_page() {
    let made = tempfile::tempdir().expect("a directory");
    let directory = made.path().join("man1");
    printed(command(GATEWAY).arg("man").arg(&directory));
    for (page, says) in [
        ("flameup-gateway.1", "serve"),
        ("flameup-gateway-serve.1", "config"),
        ("flameup-gateway-token-new.1", "token"),
        ("flameup-gateway-erase.1", "hold"),
    ] {
        let text = fs::read_to_string(directory.join(page)).expect(page);
        assert!(
            text.contains(".TH flameup-gateway") && text.contains(says),
            "{page}: {text}"
        );
    }
}
