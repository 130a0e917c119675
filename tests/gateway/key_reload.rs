//! A key that Flameup refuses is replaced in its file, and the gateway goes on.

use std::fs;

use flameup_gateway::sandbox::ApiKey;

use crate::support::tenants::{KEY_ONE, KEY_TWO, TOKEN_ONE, bearer, client};
use crate::support::{Harness, Setup};

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
