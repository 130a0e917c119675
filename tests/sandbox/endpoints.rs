//! Each endpoint in both generations of paths.

use flameup_gateway::sandbox::{DEMO_KEY, Options, Shape};
use serde_json::json;

use crate::support::{call, call_with, get, start, start_with};

const WS: &str = "/api/v1/workspaces/ws_demo0001";

#[tokio::test]
async fn a_person_is_read_by_external_id_email_and_uuid_with_the_same_bytes() {
    let sandbox = start().await;
    let people = sandbox.people();
    let body = people.body_by_external_id("user_17").expect("exists");
    let email = people.email("user_17").expect("has an email");
    let uuid = people.uuid("user_17").expect("has an id");
    for target in [
        "/api/v1/people/user_17".to_owned(),
        format!("/api/v1/people/{email}"),
        format!(
            "/api/v1/people/{}",
            email.replace('@', "%40").to_uppercase().replace("%40", "@")
        ),
        format!("{WS}/people/{uuid}"),
        format!("{WS}/people/{}", uuid.to_uppercase()),
    ] {
        let reply = get(&sandbox, &target).await;
        assert_eq!((reply.status, &reply.body), (200, &body), "{target}");
        assert_eq!(reply.header("content-type"), Some("application/json"));
    }
}

#[tokio::test]
async fn each_generation_knows_its_own_ids_only() {
    let sandbox = start().await;
    let uuid = sandbox.people().uuid("user_1").expect("has an id");
    assert_eq!(
        get(&sandbox, &format!("/api/v1/people/{uuid}"))
            .await
            .status,
        404
    );
    assert_eq!(
        get(&sandbox, &format!("{WS}/people/user_1")).await.status,
        404
    );
}

#[tokio::test]
async fn head_answers_as_get_without_the_body() {
    let sandbox = start().await;
    let length = sandbox
        .people()
        .body_by_external_id("user_1")
        .expect("exists")
        .len();
    let reply = call(&sandbox, "HEAD", "/api/v1/people/user_1", "").await;
    assert_eq!((reply.status, reply.body.len()), (200, 0));
    assert_eq!(
        reply.header("content-length"),
        Some(length.to_string().as_str())
    );
}

#[tokio::test]
async fn lists_are_paged_and_carry_people_byte_for_byte() {
    let sandbox = start().await;
    let person = sandbox
        .people()
        .body_by_external_id("user_3")
        .expect("exists");
    for base in ["/api/v1", WS] {
        let reply = get(&sandbox, &format!("{base}/people?limit=2&offset=2")).await;
        let list = reply.json();
        assert_eq!(list["people"].as_array().map(Vec::len), Some(2));
        assert_eq!(
            (&list["total"], &list["limit"], &list["offset"]),
            (&json!(100_000), &json!(2), &json!(2))
        );
        let text = String::from_utf8_lossy(&reply.body).into_owned();
        assert!(text.contains(&*String::from_utf8_lossy(&person)));
    }
    let most = get(&sandbox, "/api/v1/people?limit=1000&status=bounced")
        .await
        .json();
    let most = most["people"].as_array().expect("a list").clone();
    assert_eq!(most.len(), 100);
    assert!(most.iter().all(|person| person["status"] == "bounced"));
    assert_eq!(get(&sandbox, "/api/v1/people?limit=many").await.status, 400);
}

#[tokio::test]
async fn search_is_exact_for_ids_and_emails_and_empty_without_a_match() {
    let sandbox = start().await;
    let email = sandbox.people().email("user_9").expect("has an email");
    for query in [
        "external_id=user_9".to_owned(),
        format!("email={email}"),
        format!("q={email}&limit=5"),
    ] {
        let found = get(&sandbox, &format!("{WS}/people/search?{query}"))
            .await
            .json();
        assert_eq!(found["people"][0]["external_id"], "user_9", "{query}");
        assert_eq!(found["people"].as_array().map(Vec::len), Some(1));
    }
    let none = get(&sandbox, &format!("{WS}/people/search?external_id=nobody")).await;
    assert_eq!(
        (none.status, none.body.as_ref()),
        (200, br#"{"people":[]}"#.as_slice())
    );
}

#[tokio::test]
async fn create_makes_a_person_and_then_updates_it() {
    let sandbox = start().await;
    let wish = json!({"userId": "a/b", "email": "A@b.example", "traits": {"first_name": "Ada", "plan": "pro"}});
    for base in ["/api/v1", WS] {
        let reply = call(
            &sandbox,
            "POST",
            &format!("{base}/people"),
            &wish.to_string(),
        )
        .await;
        assert_eq!(reply.status, if base == "/api/v1" { 201 } else { 200 });
        assert_eq!(reply.json()["external_id"], "a/b");
        assert_eq!(reply.json()["attributes"]["plan"], "pro");
    }
    let read = get(&sandbox, "/api/v1/people/a%2Fb").await;
    assert_eq!(read.json()["first_name"], "Ada");
    assert_eq!(
        get(&sandbox, "/api/v1/people/a@B.example").await.body,
        read.body
    );
}

#[tokio::test]
async fn upsert_matches_by_id_or_email_and_names_nobody() {
    let sandbox = start().await;
    let email = sandbox.people().email("user_2").expect("has an email");
    let wish = json!({"email": email, "traits": {"last_name": "Byron"}}).to_string();
    let reply = call(&sandbox, "POST", &format!("{WS}/people/upsert"), &wish).await;
    assert_eq!((reply.status, reply.body.as_ref()), (200, b"{}".as_slice()));
    assert_eq!(
        get(&sandbox, "/api/v1/people/user_2").await.json()["last_name"],
        "Byron"
    );
}

#[tokio::test]
async fn batch_counts_what_it_created_and_updated() {
    let sandbox = start().await;
    let wish =
        json!({"people": [{"userId": "user_1"}, {"userId": "new", "email": "n@e.w"}]}).to_string();
    let reply = call(&sandbox, "POST", "/api/v1/people/batch", &wish)
        .await
        .json();
    assert_eq!(
        (&reply["created_count"], &reply["updated_count"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(reply["people"][1]["email"], "n@e.w");
    let again = call(&sandbox, "POST", &format!("{WS}/people/batch"), &wish)
        .await
        .json();
    assert_eq!(again["updated_count"], 2);
    let many: Vec<_> = (0..101)
        .map(|index| json!({"userId": format!("b{index}")}))
        .collect();
    let reply = call(
        &sandbox,
        "POST",
        "/api/v1/people/batch",
        &json!({"people": many}).to_string(),
    )
    .await;
    assert_eq!(reply.status, 400);
}

#[tokio::test]
async fn update_merges_traits_and_can_move_the_email() {
    let sandbox = start().await;
    let old = sandbox.people().email("user_4").expect("has an email");
    let uuid = sandbox.people().uuid("user_4").expect("has an id");
    let wish = json!({"email": "moved@example.org", "traits": {"seats": 99}}).to_string();
    let reply = call(&sandbox, "PUT", &format!("{WS}/people/{uuid}"), &wish)
        .await
        .json();
    assert_eq!(reply["attributes"]["seats"], 99);
    assert!(
        reply["attributes"]["company"].is_object(),
        "merging keeps the rest"
    );
    assert_eq!(
        get(&sandbox, &format!("/api/v1/people/{old}")).await.status,
        404
    );
    let wish = json!({"traits": {"first_name": "Neo"}}).to_string();
    let reply = call(&sandbox, "PUT", "/api/v1/people/moved@example.org", &wish)
        .await
        .json();
    assert_eq!(
        (&reply["first_name"], &reply["external_id"]),
        (&json!("Neo"), &json!("user_4"))
    );
}

#[tokio::test]
async fn a_deleted_person_is_gone_at_once() {
    let sandbox = start().await;
    let uuid = sandbox.people().uuid("user_5").expect("has an id");
    let reply = call(&sandbox, "DELETE", &format!("{WS}/people/{uuid}"), "").await;
    assert_eq!((reply.status, reply.body.len()), (204, 0));
    assert_eq!(get(&sandbox, "/api/v1/people/user_5").await.status, 404);
    assert_eq!(
        call(&sandbox, "DELETE", "/api/v1/people/user_6", "")
            .await
            .status,
        204
    );
}

#[tokio::test]
async fn everything_else_is_answered_plausibly_in_both_generations() {
    let sandbox = start().await;
    let track = json!({"external_id": "user_1", "event": "opened"}).to_string();
    let device = json!({"token": "t", "platform": "ios"}).to_string();
    let message =
        json!({"person_id": "p", "user_id": "user_1", "title": "t", "body": "b"}).to_string();
    for (method, path, body, status) in [
        ("POST", "/track", track.as_str(), 200),
        ("POST", "/events", &track, 200),
        ("GET", "/events", "", 200),
        ("GET", "/devices", "", 200),
        ("POST", "/campaigns", r#"{"name":"n"}"#, 201),
        ("POST", "/campaigns/camp_1/trigger", "{}", 200),
        ("POST", "/push/send", &message, 200),
        ("POST", "/transactional/send", &message, 200),
    ] {
        for base in ["/api/v1", WS] {
            let reply = call(&sandbox, method, &format!("{base}{path}"), body).await;
            assert_eq!(reply.status, status, "{method} {base}{path}");
        }
    }
    let reply = call(&sandbox, "POST", "/api/v1/people/user_1/devices", &device).await;
    assert_eq!(reply.status, 201);
    assert_eq!(
        reply.json()["person_id"].as_str(),
        sandbox.people().uuid("user_1").as_deref()
    );
}

#[tokio::test]
async fn the_guide_shape_is_served_when_asked_for() {
    let sandbox = start_with(Options::default().shape(Shape::Guide)).await;
    let person = get(&sandbox, "/api/v1/people/user_1").await.json();
    assert_eq!(person["userId"], "user_1");
    assert!(person["traits"]["first_name"].is_string());
    assert!(person.get("external_id").is_none() && person.get("status").is_none());
}

#[tokio::test]
async fn etags_are_strong_and_honoured_when_switched_on() {
    let sandbox = start_with(Options::default().etags()).await;
    let first = get(&sandbox, "/api/v1/people/user_1").await;
    let tag = first.header("etag").expect("a tag").to_owned();
    assert!(tag.starts_with('"'));
    let key = format!("Bearer {DEMO_KEY}");
    let headers = [("authorization", key.as_str()), ("if-none-match", &tag)];
    let target = "/api/v1/people/user_1";
    let unchanged = call_with(sandbox.address(), "GET", target, &headers, "").await;
    assert_eq!((unchanged.status, unchanged.body.len()), (304, 0));
    sandbox.people().set("user_1", "first_name", "Someone");
    let changed = call_with(sandbox.address(), "GET", target, &headers, "").await;
    assert_eq!(changed.status, 200);
    assert_ne!(changed.header("etag"), Some(tag.as_str()));
}

#[tokio::test]
async fn ten_million_people_are_all_there_and_none_is_held() {
    let sandbox = start_with(Options::default().people(10_000_000)).await;
    assert_eq!(
        get(&sandbox, "/api/v1/people/user_10000000").await.status,
        200
    );
    assert_eq!(
        get(&sandbox, "/api/v1/people/user_10000001").await.status,
        404
    );
    assert_eq!(sandbox.people().held(), 0);
}

#[tokio::test]
async fn what_arrived_is_recorded_as_it_arrived() {
    let sandbox = start().await;
    get(&sandbox, "/api/v1/people/a%2fb?x=%41").await;
    call(&sandbox, "POST", "/api/v1/people", r#"{"userId":"x"}"#).await;
    assert!(sandbox.arrivals_reach(2).await);
    let received = sandbox.received();
    assert_eq!(received[0].target, "/api/v1/people/a%2fb?x=%41");
    assert_eq!(
        (
            received[0].arrival,
            received[0].connection,
            received[0].status
        ),
        (1, 1, Some(404))
    );
    assert_eq!(
        (received[1].connection, received[1].body.as_ref()),
        (2, br#"{"userId":"x"}"#.as_slice())
    );
    assert_eq!(sandbox.connections(), 2);
    sandbox.clear_received();
    assert!(sandbox.received().is_empty());
}
