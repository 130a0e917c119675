//! Two workspaces with a key and a client each, behind one gateway.

use flameup_gateway::sandbox::ApiKey;

use super::harness::{Harness, Setup};

/// The keys of the two workspaces; the sandbox calls these `ws_one` and `ws_two`.
pub(crate) const KEY_ONE: &str = "ws_test_one.11111111111111111111111111111111";
pub(crate) const KEY_TWO: &str = "ws_test_two.22222222222222222222222222222222";

/// The tokens of the two clients, one for each workspace.
pub(crate) const TOKEN_ONE: &str = "fgw_one_0123456789abcdef";
pub(crate) const TOKEN_TWO: &str = "fgw_two_0123456789abcdef";

/// A setup with both workspaces and no client yet.
pub(crate) fn workspaces() -> Setup {
    Setup::new()
        .environment("KEY_ONE", KEY_ONE)
        .environment("KEY_TWO", KEY_TWO)
        .config("cache.ttl_jitter = 0.0")
        .config("workspaces.one.api_key_env = \"KEY_ONE\"")
        .config("workspaces.two.api_key_env = \"KEY_TWO\"")
        .config("workspaces.one.budget.requests = 1_000_000")
        .config("workspaces.two.budget.requests = 1_000_000")
        .sandbox(|options| {
            options.api_keys([
                ApiKey::new(KEY_ONE, "ws_one"),
                ApiKey::new(KEY_TWO, "ws_two"),
            ])
        })
}

/// Adds a client that is known by any of these tokens.
pub(crate) fn client(setup: Setup, name: &str, workspace: &str, tokens: &[&str]) -> Setup {
    let digests: Vec<_> = tokens.iter().map(|token| sha256(token)).collect();
    setup.config(&format!(
        "clients.{name}.workspace = \"{workspace}\"\nclients.{name}.token_sha256 = {digests:?}"
    ))
}

/// Both workspaces, with a client each.
pub(crate) async fn tenants() -> Harness {
    let setup = client(workspaces(), "one", "one", &[TOKEN_ONE]);
    client(setup, "two", "two", &[TOKEN_TWO]).start().await
}

/// `Authorization` with this token.
pub(crate) fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

/// The digest as the configuration takes it.
fn sha256(token: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.as_bytes());
    let hex = |byte: &u8| format!("{byte:02x}");
    digest.as_ref().iter().map(hex).collect()
}
