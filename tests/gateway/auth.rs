//! Who may ask: client tokens, scopes, and callers without either.

use crate::support::tenants::{KEY_ONE, TOKEN_ONE, TOKEN_TWO, bearer, client, workspaces};
use crate::support::{Harness, Response, Setup, raw_status};

const USER: &str = "/api/v1/people/user_1";

/// A gateway with one client, known by two tokens, and nobody else.
async fn one_client() -> Harness {
    let setup = client(workspaces(), "billing", "one", &[TOKEN_ONE, TOKEN_TWO]);
    setup.start().await
}

async fn ask(harness: &Harness, authorization: &str) -> Response {
    harness
        .get_with(USER, &[("authorization", authorization)])
        .await
}

fn assert_unknown(answer: &Response) {
    answer.assert_own(401, "http_request_denied");
    assert_eq!(answer.header("www-authenticate"), "Bearer");
    assert_eq!(answer.cache_status(), "detail=refused");
}

#[tokio::test]
async fn each_of_a_clients_tokens_is_as_good_as_the_other() {
    let harness = one_client().await;
    for token in [TOKEN_ONE, TOKEN_TWO] {
        assert_eq!(ask(&harness, &bearer(token)).await.status, 200);
    }
    assert_eq!(harness.forwards(), 1, "they speak for the same workspace");
}

#[tokio::test]
async fn a_token_counts_to_its_last_byte() {
    let harness = one_client().await;
    ask(&harness, &bearer(TOKEN_ONE)).await; // Stored: an intruder would be answered from memory.
    let prefix = &TOKEN_ONE[..TOKEN_ONE.len() - 1];
    for token in [
        prefix.to_owned(),
        format!("{TOKEN_ONE}x"),
        format!("{TOKEN_ONE} x"),
        format!("{TOKEN_ONE},{TOKEN_ONE}"),
        format!("{TOKEN_ONE}\u{e9}"),
        format!(" {TOKEN_ONE}"),
        format!("\"{TOKEN_ONE}\""),
        TOKEN_ONE.to_uppercase(),
        TOKEN_ONE.replace("fgw", "FGW"),
        KEY_ONE.to_owned(),
        "x".repeat(5000),
    ] {
        assert_unknown(&ask(&harness, &bearer(&token)).await);
    }
    assert_eq!(harness.forwards(), 1);
}

#[tokio::test]
async fn only_a_bearer_token_is_a_credential() {
    let harness = one_client().await;
    for value in [
        "",
        "Bearer",
        "Bearer ",
        TOKEN_ONE,
        &format!("Basic {TOKEN_ONE}"),
        &format!("Bearer\t{TOKEN_ONE}"),
        &format!("Bearer:{TOKEN_ONE}"),
        &format!("Bearer{TOKEN_ONE}"),
        &format!("Token {TOKEN_ONE}"),
    ] {
        assert_unknown(&ask(&harness, value).await);
    }
    assert_unknown(&harness.get(USER).await);
    let elsewhere = format!("{USER}?access_token={TOKEN_ONE}");
    assert_unknown(&harness.get(&elsewhere).await);
    for name in [
        "x-api-key",
        "proxy-authorization",
        "cookie",
        "x-authorization",
    ] {
        assert_unknown(&harness.get_with(USER, &[(name, &bearer(TOKEN_ONE))]).await);
    }
    assert_eq!(harness.forwards(), 0);
}

#[tokio::test]
async fn the_scheme_is_bearer_in_any_case() {
    let harness = one_client().await;
    for scheme in ["Bearer", "bearer", "BEARER", "bEaReR"] {
        let answer = ask(&harness, &format!("{scheme} {TOKEN_ONE}")).await;
        assert_eq!(answer.status, 200, "{scheme}");
    }
}

#[tokio::test]
async fn a_token_with_a_nul_or_another_control_byte_is_refused() {
    let harness = one_client().await;
    for byte in [0x00, 0x01, 0x0b, 0x7f] {
        let request = format!(
            "GET {USER} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\
             authorization: Bearer {TOKEN_ONE}",
            harness.address()
        );
        let request = [request.as_bytes(), &[byte], b"\r\n\r\n"].concat();
        let (status, answer) = raw_status(harness.address(), &request).await;
        assert_eq!(status, 400, "{byte:#x}: {answer}");
    }
    assert_eq!(harness.forwards(), 0);
}

#[tokio::test]
async fn several_authorization_lines_are_refused_even_when_equal() {
    let (right, wrong) = (bearer(TOKEN_ONE), bearer("wrong"));
    for harness in [one_client().await, Harness::start().await] {
        for (first, second) in [(&right, &wrong), (&wrong, &right), (&right, &right)] {
            let lines = [("authorization", first.as_str()), ("authorization", second)];
            let answer = harness.get_with(USER, &lines).await;
            answer.assert_own(400, "http_request_error");
        }
        assert_eq!(harness.forwards(), 0);
    }
}

#[tokio::test]
async fn a_client_without_the_scope_gets_403_even_for_what_is_stored() {
    let setup = client(workspaces(), "billing", "one", &[TOKEN_ONE]);
    let setup = client(setup, "sender", "one", &[TOKEN_TWO]);
    let setup = setup.config("clients.sender.scopes = [\"people:write\", \"events:write\"]");
    let harness = setup.start().await;
    assert_eq!(ask(&harness, &bearer(TOKEN_ONE)).await.status, 200);
    let answer = ask(&harness, &bearer(TOKEN_TWO)).await;
    answer.assert_own(403, "http_request_denied");
    assert_eq!(answer.header("www-authenticate"), "");
    assert!(
        answer.json()["message"]
            .as_str()
            .expect("text")
            .contains("people:read")
    );
    assert_eq!(harness.forwards(), 1);
}

#[tokio::test]
async fn the_scope_for_everything_reads_people_too() {
    for scope in ["*", "admin", "people:read"] {
        let setup = client(workspaces(), "billing", "one", &[TOKEN_ONE]);
        let setup = setup.config(&format!("clients.billing.scopes = [\"{scope}\"]"));
        let answer = ask(&setup.start().await, &bearer(TOKEN_ONE)).await;
        assert_eq!(answer.status, 200, "{scope}");
    }
}

#[tokio::test]
async fn a_sidecar_without_clients_ignores_what_its_callers_show() {
    let harness = Harness::start().await;
    for value in [
        "Bearer ws_live_old.key",
        "Basic dXNlcjpwYXNz",
        "nonsense",
        "",
    ] {
        assert_eq!(ask(&harness, value).await.status, 200, "{value}");
    }
    assert_eq!(harness.get(USER).await.status, 200);
    assert_eq!(harness.forwards(), 1);
}

/// A gateway with a client, where callers without a token are let in as well.
fn client_and_anonymous() -> Setup {
    let setup = client(workspaces(), "billing", "one", &[TOKEN_ONE]);
    setup.config("anonymous.workspace = \"two\"")
}

#[tokio::test]
async fn an_unknown_token_is_refused_even_where_none_is_needed() {
    let harness = client_and_anonymous().start().await;
    let own = ask(&harness, &bearer(TOKEN_ONE)).await;
    let anonymous = harness.get(USER).await;
    assert_eq!((own.status.as_u16(), anonymous.status.as_u16()), (200, 200));
    assert_ne!(
        own.body, anonymous.body,
        "they speak for different workspaces"
    );
    for value in [
        &bearer(TOKEN_TWO),
        &bearer(KEY_ONE),
        "Basic dXNlcjpwYXNz",
        "",
    ] {
        assert_unknown(&ask(&harness, value).await);
    }
}

#[tokio::test]
async fn callers_without_a_token_need_the_scope_like_everybody() {
    let setup = client_and_anonymous().config("anonymous.scopes = [\"people:list\"]");
    let answer = setup.start().await.get(USER).await;
    answer.assert_own(403, "http_request_denied");
}

#[tokio::test]
async fn a_client_credential_never_reaches_flameup() {
    let harness = client_and_anonymous().start().await;
    let answer = ask(&harness, &bearer(TOKEN_ONE)).await;
    assert_eq!(answer.status, 200);
    let query = format!("{USER}?x=1");
    harness
        .get_with(&query, &[("authorization", &bearer(TOKEN_ONE))])
        .await;
    harness
        .get_with(USER, &[("proxy-authorization", "Basic c2VjcmV0")])
        .await;
    let sidecar = Harness::start().await;
    ask(&sidecar, "Bearer ws_live_old.key").await;
    for request in [harness.flameup.received(), sidecar.flameup.received()].concat() {
        let all = format!("{request:?}");
        for secret in [TOKEN_ONE, "c2VjcmV0", "ws_live_old"] {
            assert!(!all.contains(secret), "{all}");
        }
        assert_eq!(request.headers.get_all("authorization").iter().count(), 1);
    }
}
