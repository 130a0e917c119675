//! Keys and tokens are replaced in their files, and the gateway goes on.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use flameup_gateway::sandbox::ApiKey;

use crate::support::tenants::{KEY_ONE, KEY_TWO, TOKEN_ONE, bearer, client};
use crate::support::{Client, Harness, Setup, within};

#[tokio::test]
async fn a_key_that_is_replaced_in_its_file_is_tried_at_once() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), KEY_ONE).expect("it is ours");
    let setup = Setup::new()
        .config(&format!("workspaces.one.api_key_file = {:?}", file.path()))
        .config("workspaces.one.budget.requests = 1_000_000")
        .sandbox(|options| options.api_keys([ApiKey::new(KEY_ONE, "ws_one")]));
    let harness = client(setup, "one", "one", &[TOKEN_ONE]).start().await;
    let headers = [("authorization", &*bearer(TOKEN_ONE))];
    let (first, second) = (Harness::path("user_1"), Harness::path("user_2"));
    assert_eq!(harness.get_with(&first, &headers).await.status, 200);

    assert!(harness.flameup.revoke_key(KEY_ONE));
    let refused = harness.get_with(&second, &headers).await;
    refused.assert_own(502, "proxy_configuration_error");
    harness.flameup.accept_key(ApiKey::new(KEY_TWO, "ws_one"));
    fs::write(file.path(), KEY_TWO).expect("it is ours");
    // The clock stands still: no probe of the refused key is due.
    let answer = harness.until_with(&second, &headers, |answer| answer.status == 200);
    assert_eq!(
        answer.await.cache_status(),
        "fwd=uri-miss; fwd-status=200; stored"
    );
    assert_eq!(harness.forwards(), 3, "two were answered, one was refused");
}

/// The key that the last request to the sandbox carried.
fn last_key(harness: &Harness) -> String {
    let received = harness.flameup.received();
    let last = received.last().expect("something was asked");
    let value = last.headers["authorization"].to_str().expect("text");
    value.strip_prefix("Bearer ").expect("a token").to_owned()
}

/// Puts `key` where Kubernetes would: into a new directory that a link is turned to.
fn project(volume: &Path, name: &str, key: &str) {
    let directory = volume.join(name);
    fs::create_dir(&directory).expect("a directory of ours");
    fs::write(directory.join("key"), key).expect("it is ours");
    let link = volume.join("..next");
    symlink(name, &link).expect("a link");
    fs::rename(link, volume.join("..data")).expect("it is ours");
}

#[tokio::test]
async fn a_key_whose_link_is_turned_is_used_and_the_one_before_is_kept_for_a_while() {
    let volume = tempfile::tempdir().expect("a directory");
    project(volume.path(), "..1", KEY_ONE);
    let file = volume.path().join("..data/key");
    let setup = Setup::new()
        .config(&format!("workspaces.one.api_key_file = {file:?}"))
        .config("workspaces.one.budget.requests = 1_000_000")
        .config("secrets.overlap = \"10m\"\ncache.negative_ttl = \"0s\"")
        .sandbox(|options| {
            let keys = [KEY_ONE, KEY_TWO].map(|key| ApiKey::new(key, "ws_one"));
            options.api_keys(keys)
        });
    let harness = client(setup, "one", "one", &[TOKEN_ONE]).start().await;
    let headers = [("authorization", &*bearer(TOKEN_ONE))];
    let nobody = Harness::path("nobody");
    harness.get_with(&nobody, &headers).await;
    assert_eq!(last_key(&harness), KEY_ONE);

    project(volume.path(), "..2", KEY_TWO);
    let new = harness.until_with(&nobody, &headers, |_| last_key(&harness) == KEY_TWO);
    assert_eq!(new.await.status, 404);
    // The new one is refused: somebody took the wrong one, and has ten minutes to notice.
    assert!(harness.flameup.revoke_key(KEY_TWO));
    let refused = harness.get_with(&nobody, &headers).await;
    refused.assert_own(502, "proxy_configuration_error");
    // What is known of one key's budget says nothing of another's; it begins cautiously.
    harness.pass(300);
    assert_eq!(harness.get_with(&nobody, &headers).await.status, 404);
    assert_eq!(last_key(&harness), KEY_ONE);
}

#[tokio::test]
async fn a_file_that_holds_no_key_changes_nothing() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), KEY_ONE).expect("it is ours");
    let admin = tempfile::NamedTempFile::new().expect("a file");
    fs::write(admin.path(), "0123456789abcdef-one").expect("it is ours");
    let setup = Setup::new()
        .config(&format!("workspaces.one.api_key_file = {:?}", file.path()))
        .config(&format!("admin.token_file = {:?}", admin.path()))
        .sandbox(|options| options.api_keys([ApiKey::new(KEY_ONE, "ws_one")]));
    let harness = client(setup, "one", "one", &[TOKEN_ONE]).start().await;
    let headers = [("authorization", &*bearer(TOKEN_ONE))];
    let path = admin.path().to_owned();
    fs::write(file.path(), "").expect("it is ours");
    fs::write(&path, "0123456789abcdef-two").expect("it is ours");
    // Both are read in the same rounds, so that the one has been seen once the other counts.
    status_becomes(&harness, "0123456789abcdef-two", 200).await;
    let answer = harness.get_with(&Harness::path("user_1"), &headers).await;
    assert_eq!(
        (answer.status.as_u16(), last_key(&harness)),
        (200, KEY_ONE.to_owned())
    );
    fs::write(&path, "short").expect("it is ours");
    fs::remove_file(file.path()).expect("it is ours");
    assert_eq!(status_of(&harness, "short").await, 401);
    assert_eq!(status_of(&harness, "0123456789abcdef-two").await, 200);
}

#[tokio::test]
async fn a_replaced_admin_token_counts_for_as_long_as_told() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let (old, new) = ("0123456789abcdef-old", "0123456789abcdef-new");
    fs::write(file.path(), old).expect("it is ours");
    let setup = Setup::new()
        .config(&format!("admin.token_file = {:?}", file.path()))
        .config("secrets.overlap = \"5m\"");
    let harness = setup.start().await;
    assert_eq!(status_of(&harness, new).await, 401);
    // A writer that is caught half way: what it has written so far would do for a token.
    fs::write(file.path(), &new[..17]).expect("it is ours");
    fs::write(file.path(), new).expect("it is ours");
    status_becomes(&harness, new, 200).await;
    assert_eq!(status_of(&harness, &new[..17]).await, 401);
    assert_eq!(status_of(&harness, old).await, 200);
    harness.pass(300);
    assert_eq!(status_of(&harness, old).await, 401);
    assert_eq!(status_of(&harness, new).await, 200);
}

/// What an operator with this token is answered.
async fn status_of(harness: &Harness, token: &str) -> u16 {
    let mut operator = Client::connect(harness.admin_address()).await;
    let headers = [("authorization", &*bearer(token))];
    let answer = operator.send("GET", "/v1/status", &headers).await;
    answer.status.as_u16()
}

async fn status_becomes(harness: &Harness, token: &str, status: u16) {
    within(async { while status_of(harness, token).await != status {} }).await;
}
