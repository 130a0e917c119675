//! One client's own limits at the gateway, told apart from the budget's.

use serde_json::json;

use crate::support::metrics::metrics;
use crate::support::tenants::{TOKEN_ONE, TOKEN_TWO, bearer, client, workspaces};
use crate::support::{Client, Harness, Setup, Wire};

/// Two clients of one workspace, of which the first has these limits.
async fn limited(limits: &str) -> Harness {
    let setup = client(workspaces(), "one", "one", &[TOKEN_ONE]);
    let setup = setup.config(&format!("clients.one.limits = {{ {limits} }}"));
    client(setup, "two", "one", &[TOKEN_TWO]).start().await
}

#[tokio::test]
async fn a_client_beyond_its_rate_is_told_so_and_nobody_else_is() {
    let harness = limited("requests = 2, burst = 3").await;
    let path = Harness::path("user_1");
    let (one, two) = (bearer(TOKEN_ONE), bearer(TOKEN_TWO));
    let (one, two) = ([("authorization", &*one)], [("authorization", &*two)]);
    for _ in 0..3 {
        assert_eq!(harness.get_with(&path, &one).await.status, 200);
    }
    let refused = harness.get_with(&path, &one).await;
    refused.assert_own(429, "http_request_denied; details=\"client_rate_limit\"");
    assert_eq!(refused.header("retry-after"), "1");
    assert_eq!(refused.cache_status(), "detail=client-limit");
    // Routes that do not exist, and lookups of many, are requests too.
    assert_eq!(harness.get_with("/nowhere", &one).await.status, 429);
    let mut wire = Client::connect(harness.address()).await;
    let many = json!({"ids": ["user_1"]}).to_string();
    let headers = [one[0], ("content-type", "application/json")];
    let target = "/gateway/v1/people/lookup";
    let refused = wire.send_with("POST", target, &headers, many).await;
    refused.assert_own(429, "http_request_denied; details=\"client_rate_limit\"");
    assert_eq!(harness.get_with(&path, &two).await.status, 200);
    harness.pass_ms(500);
    assert_eq!(harness.get_with(&path, &one).await.status, 200);
    assert_eq!(harness.get_with(&path, &one).await.status, 429);
    let metrics = metrics(&harness).await;
    let labels = [("client", "one"), ("limit", "rate")];
    assert!((metrics.sum("client_limited_total", &labels) - 4.0).abs() < 0.5);
    assert!(metrics.sum("shed_total", &[]).abs() < 0.5);
}

#[tokio::test]
async fn a_client_with_too_many_under_way_is_told_so_until_one_ends() {
    let harness = limited("concurrent = 2").await;
    let hold = harness.hold("user_1");
    let line = bearer(TOKEN_ONE);
    let line = [("authorization", &*line)];
    let path = Harness::path("user_1");
    let mut first = harness.asking(&path, &line).await;
    let mut second = harness.asking(&path, &line).await;
    harness.settle().await;
    let refused = harness.get_with(&Harness::path("user_2"), &line).await;
    refused.assert_own(
        429,
        "http_request_denied; details=\"client_concurrency_limit\"",
    );
    assert_eq!(refused.header("retry-after"), "1");
    hold.release();
    assert_eq!(first.answer().await.status, 200);
    assert_eq!(second.answer().await.status, 200);
    assert_eq!(
        harness
            .get_with(&Harness::path("user_2"), &line)
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn whoever_leaves_makes_room() {
    let harness = limited("concurrent = 1").await;
    let hold = harness.hold("user_1");
    let line = bearer(TOKEN_ONE);
    let line = [("authorization", &*line)];
    let first: Wire = harness.asking(&Harness::path("user_1"), &line).await;
    assert!(hold.arrived(1).await);
    drop(first);
    let other = Harness::path("user_2");
    harness
        .until_with(&other, &line, |answer| answer.status == 200)
        .await;
}

#[tokio::test]
async fn callers_without_token_are_limited_all_together() {
    let setup =
        Setup::new().config("anonymous.workspace = \"default\"\nanonymous.limits.requests = 1");
    let harness = setup.start().await;
    let path = Harness::path("user_1");
    assert_eq!(harness.get(&path).await.status, 200);
    let refused = harness.get(&path).await;
    refused.assert_own(429, "http_request_denied; details=\"client_rate_limit\"");
    // Operators are nobody's client.
    assert!(metrics(&harness).await.sum("client_limited_total", &[]) > 0.5);
}
