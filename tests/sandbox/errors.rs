//! Who is refused, and the five documented error shapes.

use flameup_gateway::sandbox::{ApiKey, ErrorShape, Options};
use serde_json::{Value, json};

use crate::support::{Reply, call, call_with, get, start, start_with};

async fn with_key(sandbox: &flameup_gateway::sandbox::Sandbox, key: &str, target: &str) -> Reply {
    let value = format!("Bearer {key}");
    call_with(
        sandbox.address(),
        "GET",
        target,
        &[("authorization", &value)],
        "",
    )
    .await
}

#[tokio::test]
async fn shape_a_is_the_general_one() {
    let sandbox = start().await;
    let email = sandbox.people().email("user_1").expect("has an email");
    let wish = json!({"userId": "other", "email": email}).to_string();
    let conflict = call(&sandbox, "POST", "/api/v1/people", &wish).await;
    assert_eq!(conflict.status, 409);
    let body = conflict.json();
    assert_eq!(
        (&body["success"], &body["error"]["type"]),
        (&json!(false), &json!("CONFLICT"))
    );
    assert!(
        body["request_id"]
            .as_str()
            .is_some_and(|id| id.starts_with("req_"))
    );
    assert_eq!(
        call(&sandbox, "POST", "/api/v1/people", "not json")
            .await
            .status,
        400
    );
    assert_eq!(get(&sandbox, "/api/v1/people/%ff").await.status, 400);
}

#[tokio::test]
async fn shape_b_refuses_keys_and_workspaces() {
    let keys = [
        ApiKey::new("full", "ws_a"),
        ApiKey::new("narrow", "ws_a").scopes(["people:read"]),
    ];
    let sandbox = start_with(Options::default().api_keys(keys)).await;
    for key in ["unknown", "FULL", ""] {
        let reply = with_key(&sandbox, key, "/api/v1/people/user_1").await;
        assert_eq!(reply.status, 401, "{key:?}");
        assert_eq!(reply.json()["error"]["code"], "unauthorized");
    }
    let anonymous = call_with(sandbox.address(), "GET", "/api/v1/people/user_1", &[], "").await;
    assert_eq!(
        (anonymous.status, anonymous.header("x-ratelimit-limit")),
        (401, Some("75"))
    );
    assert_eq!(
        with_key(&sandbox, "narrow", "/api/v1/people/user_1")
            .await
            .status,
        200
    );
    let forbidden = with_key(&sandbox, "narrow", "/api/v1/people").await;
    assert_eq!(
        (forbidden.status, &forbidden.json()["error"]["code"]),
        (403, &json!("forbidden"))
    );
    let foreign = with_key(&sandbox, "full", "/api/v1/workspaces/ws_b/people").await;
    assert_eq!(foreign.status, 403);
    assert!(sandbox.revoke_key("full"));
    assert_eq!(
        with_key(&sandbox, "full", "/api/v1/people/user_1")
            .await
            .status,
        401
    );
    sandbox.accept_key(ApiKey::new("full", "ws_a"));
    assert_eq!(
        with_key(&sandbox, "full", "/api/v1/people/user_1")
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn shape_c_names_the_fields_that_are_wrong() {
    let sandbox = start().await;
    let long = "x".repeat(256);
    for (wish, field) in [
        (json!({"email": "a@b"}), "userId"),
        (json!({"userId": long}), "userId"),
        (json!({"userId": "a", "phone": long}), "phone"),
        (json!({"userId": "a", "email": 7}), "email"),
        (json!({"userId": "a", "traits": []}), "traits"),
    ] {
        let reply = call(&sandbox, "POST", "/api/v1/people", &wish.to_string()).await;
        assert_eq!(reply.status, 422, "{wish}");
        let error: Value = reply.json()["error"].clone();
        assert_eq!(error["code"], "validation_error");
        assert!(error["details"]["fields"][field].is_string(), "{error}");
    }
}

#[tokio::test]
async fn shapes_b_and_e_are_both_a_persons_404() {
    let sandbox = start().await;
    let reply = get(&sandbox, "/api/v1/people/nobody").await;
    let expected = json!({"error": "Not Found", "message": "The requested resource was not found", "code": 404});
    assert_eq!((reply.status, reply.json()), (404, expected.clone()));
    assert_eq!(get(&sandbox, "/api/v1/nothing").await.json(), expected);
    let options = Options {
        not_found: ErrorShape::B,
        foreign_workspace_is_404: true,
        ..Options::default()
    };
    let sandbox = start_with(options).await;
    let reply = get(&sandbox, "/api/v1/people/nobody").await;
    assert_eq!(
        (reply.status, &reply.json()["error"]["code"]),
        (404, &json!("not_found"))
    );
    assert_eq!(
        get(&sandbox, "/api/v1/workspaces/ws_x/people").await.status,
        404
    );
}

#[tokio::test]
async fn the_same_id_is_another_person_under_another_key() {
    let keys = [ApiKey::new("a", "ws_a"), ApiKey::new("b", "ws_b")];
    let sandbox = start_with(Options::default().api_keys(keys)).await;
    let a = with_key(&sandbox, "a", "/api/v1/people/user_1")
        .await
        .json();
    let b = with_key(&sandbox, "b", "/api/v1/people/user_1")
        .await
        .json();
    assert_ne!(a["id"], b["id"]);
    assert_eq!(
        (&a["workspace_id"], &b["workspace_id"]),
        (&json!("ws_a"), &json!("ws_b"))
    );
    sandbox.people_of("ws_b").delete("user_1");
    assert_eq!(
        with_key(&sandbox, "a", "/api/v1/people/user_1")
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn a_body_above_a_mebibyte_is_refused() {
    let sandbox = start().await;
    let reply = call(
        &sandbox,
        "POST",
        "/api/v1/people",
        &"x".repeat(1024 * 1024 + 1),
    )
    .await;
    assert_eq!(reply.status, 413);
}
