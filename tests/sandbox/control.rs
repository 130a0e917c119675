//! The control listener.

use std::net::SocketAddr;

use flameup_gateway::sandbox::{DEMO_KEY, Options, Sandbox};
use serde_json::json;

use crate::support::{Reply, call_with, get, start_with};

async fn controlled() -> (Sandbox, SocketAddr) {
    let free = "127.0.0.1:0".parse().expect("an address");
    let sandbox = start_with(Options::default().control_listen(free)).await;
    let control = sandbox.control_address().expect("was asked for");
    (sandbox, control)
}

async fn control(address: SocketAddr, method: &str, path: &str, body: &str) -> Reply {
    call_with(address, method, path, &[], body).await
}

#[tokio::test]
async fn faults_are_added_and_cleared() {
    let (sandbox, address) = controlled().await;
    let fault = r#"{"kind":"status","code":503,"id":"user_1"}"#;
    assert_eq!(control(address, "POST", "/faults", fault).await.status, 204);
    assert_eq!(get(&sandbox, "/api/v1/people/user_1").await.status, 503);
    assert_eq!(control(address, "DELETE", "/faults", "").await.status, 204);
    assert_eq!(get(&sandbox, "/api/v1/people/user_1").await.status, 200);
    assert_eq!(
        control(address, "POST", "/faults", r#"{"kind":"?"}"#)
            .await
            .status,
        400
    );
}

#[tokio::test]
async fn what_was_received_is_shown_without_the_key() {
    let (sandbox, address) = controlled().await;
    get(&sandbox, "/api/v1/people/user_1").await;
    let shown = control(address, "GET", "/received", "").await;
    assert_eq!(shown.json()[0]["target"], "/api/v1/people/user_1");
    assert!(!String::from_utf8_lossy(&shown.body).contains(DEMO_KEY));
    control(address, "DELETE", "/received", "").await;
    assert_eq!(
        control(address, "GET", "/received", "").await.json(),
        json!([])
    );
}

#[tokio::test]
async fn the_limit_is_shown_and_changed() {
    let (sandbox, address) = controlled().await;
    let change = r#"{"kind":"sliding","limit":1,"window":"30s"}"#;
    assert_eq!(
        control(address, "POST", "/limiter", change).await.status,
        204
    );
    assert_eq!(get(&sandbox, "/api/v1/people/user_1").await.status, 200);
    assert_eq!(get(&sandbox, "/api/v1/people/user_1").await.status, 429);
    let shown = control(address, "GET", "/limiter", "").await.json();
    assert_eq!(shown, json!({"counted": 1, "refused": 1, "foreign": 0}));
    assert_eq!(
        control(address, "POST", "/limiter", r#"{"window":"soon"}"#)
            .await
            .status,
        400
    );
}

#[tokio::test]
async fn people_are_altered_and_deleted() {
    let (sandbox, address) = controlled().await;
    let altered = control(address, "POST", "/people/a%2Fb", r#"{"status":"bounced"}"#).await;
    assert_eq!(altered.json()["status"], "bounced");
    assert_eq!(
        get(&sandbox, "/api/v1/people/a%2Fb").await.body,
        altered.body
    );
    assert_eq!(
        control(address, "DELETE", "/people/a%2Fb", "").await.status,
        204
    );
    assert_eq!(
        control(address, "DELETE", "/people/a%2Fb", "").await.status,
        404
    );
    assert_eq!(control(address, "GET", "/nothing", "").await.status, 404);
}

#[tokio::test]
async fn a_control_listener_beyond_loopback_is_refused() {
    let everywhere = "0.0.0.0:0".parse().expect("an address");
    let refused = Sandbox::start(Options::default().control_listen(everywhere)).await;
    assert!(refused.is_err());
}
