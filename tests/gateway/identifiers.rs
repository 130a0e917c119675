//! Who a target names: what is refused, what is forwarded, and which spellings are one person.

use flameup_gateway::sandbox::{DEMO_WORKSPACE, FaultKind};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::support::{Harness, Setup, exact, long_path, raw_get, status};

const USER: &str = "/api/v1/people/user_1";
const UUID: &str = "123e4567-e89b-12d3-a456-426614174000";

/// Asks for each target as it stands and asserts that the gateway itself answers `status`.
async fn assert_refused(harness: &Harness, status: u16, targets: &[&str]) {
    for target in targets {
        let (got, answer) = raw_get(harness.address(), target.as_bytes()).await;
        assert_eq!(got, status, "{target}: {answer}");
        let error = if status == 403 {
            "http_request_denied"
        } else {
            "http_request_error"
        };
        let own = format!("proxy-status: flameup-gateway; error={error}");
        assert!(answer.contains(&own), "{target}: {answer}");
        assert!(
            answer.contains(&format!("\"code\":{status}}}")),
            "{target}: {answer}"
        );
    }
    assert_eq!(harness.targets(), [""; 0]);
}

#[tokio::test]
async fn an_identifier_that_nobody_can_have_is_refused_and_not_forwarded() {
    let harness = Harness::start().await;
    let ids = [
        "",
        "%20",
        "%20%20",
        ".",
        "..",
        "%2e",
        "%2E.",
        "%2e%2E",
        "..%2Fa",
        "a%2F..%2Fb",
        "a%2f.",
        "..%5Ca",
        "a%5c..",
        "%",
        "%4",
        "a%",
        "%zz",
        "%4g",
        "%%41",
        "%u0041",
        "%00",
        "a%00b",
        "%0A",
        "%0d%0aX-A:b",
        "%1f",
        "%7F",
        "%C2%85",
        "%ff",
        "%C3%28",
        "%ED%A0%80",
        "%F4%90%80%80",
    ];
    let targets = ids.map(Harness::path);
    assert_refused(&harness, 400, &targets.each_ref().map(String::as_str)).await;
    let long = [
        Harness::path(&"a".repeat(513)),
        Harness::path(&"%C3%A9".repeat(257)),
    ];
    assert_refused(&harness, 400, &long.each_ref().map(String::as_str)).await;
}

#[tokio::test]
async fn the_longest_identifier_is_forwarded_whole() {
    let harness = Harness::start().await;
    let (ascii, wide) = (
        Harness::path(&"a".repeat(512)),
        Harness::path(&"%C3%A9".repeat(256)),
    );
    for path in [&ascii, &wide] {
        harness.get(path).await;
    }
    assert_eq!(harness.targets(), [ascii, wide]);
}

#[tokio::test]
async fn a_long_form_without_a_hyphenated_uuid_is_refused_and_not_forwarded() {
    let harness = Harness::start().await;
    let bare = UUID.replace('-', "");
    let braced = format!("%7B{UUID}%7D");
    let urn = format!("urn:uuid:{UUID}");
    let trailing = format!("{UUID}%20");
    let short = &UUID[1..];
    let uuids = [
        "", "user_1", "a@x.org", "%00", "..", &bare, &braced, &urn, &trailing, short,
    ];
    let targets = uuids.map(|uuid| long_path("ws_1", uuid));
    assert_refused(&harness, 400, &targets.each_ref().map(String::as_str)).await;
    let workspaces = [
        "",
        "%",
        "%00",
        "..",
        "%2e%2e",
        "a%2F..%2Fb",
        "%ff",
        &"w".repeat(513),
    ];
    let targets = workspaces.map(|workspace| long_path(workspace, UUID));
    assert_refused(&harness, 400, &targets.each_ref().map(String::as_str)).await;
}

#[tokio::test]
async fn a_path_that_only_resembles_a_person_reaches_nobody() {
    let harness = Harness::start().await;
    let long = long_path("ws_1", UUID);
    let elsewhere = [
        "/",
        "//api/v1/people/user_1",
        "/api/v2/people/user_1",
        "/API/v1/people/user_1",
        "/livez",
        "/metrics",
    ];
    assert_refused(&harness, 404, &elsewhere).await;
    let unusable = [
        "/api/v1/people/user_1/",
        "/api/v1//people/user_1",
        "/api/v1/./people/user_1",
        "/api/v1/people/../people/user_1",
        "/api/v1/people/..\\x/y",
        &format!("{long}/"),
    ];
    assert_refused(&harness, 400, &unusable).await;
    let not_for_readers = [
        "/api/v1/people",
        "/api/v1/People/user_1",
        "/api/v1/people%2Fuser_1",
        "/api/v1/workspaces/ws_1/people",
        "/api/v1/workspaces/a/b/people/c",
    ];
    assert_refused(&harness, 403, &not_for_readers).await;
    assert_refused(&harness, 405, &["/api/v1/people/user_1/devices"]).await;
}

#[tokio::test]
async fn reserved_words_are_nobody_however_they_are_encoded() {
    let harness = Harness::start().await;
    for (word, short, long) in [
        ("search", 403, 403),
        ("%73earch", 403, 403),
        ("batch", 405, 405),
        ("batc%68", 405, 405),
        ("upsert", 403, 405),
        ("%75%70%73%65%72%74", 403, 405),
    ] {
        assert_refused(&harness, short, &[&Harness::path(word)]).await;
        assert_refused(&harness, long, &[&long_path("ws_1", word)]).await;
    }
}

#[tokio::test]
async fn each_spelling_is_forwarded_in_the_one_canonical_encoding() {
    for (spelling, forwarded) in [
        ("user%5F1", "user_1"),
        ("%75%73%65%72%5f%31", "user_1"),
        ("a%2fb", "a%2Fb"),
        ("a+b", "a%2Bb"),
        ("a%2bb", "a%2Bb"),
        ("a%20b", "a%20b"),
        ("%20a%20", "%20a%20"),
        ("a%2540b", "a%2540b"),
        ("%7Ea-b.c_d", "~a-b.c_d"),
        (
            "a:b;c=d,e!f$g&h'(i)*j",
            "a%3Ab%3Bc%3Dd%2Ce%21f%24g%26h%27%28i%29%2Aj",
        ),
        ("a%3Fb%23c", "a%3Fb%23c"),
        ("%c3%a9", "%C3%A9"),
        ("e%CC%81", "e%CC%81"),
        ("...", "..."),
        ("a..b", "a..b"),
        ("Ada%40X.org", "Ada@X.org"),
        ("Ada@X.org", "Ada@X.org"),
        ("a+tag@x.org", "a%2Btag@x.org"),
        ("%20ada@x.org%20%20", "ada@x.org"),
        ("%20a@b@c%20", "%20a@b@c%20"),
        ("@", "@"),
        ("Searching", "Searching"),
    ] {
        let harness = Harness::start().await;
        let (status, _) = raw_get(harness.address(), Harness::path(spelling).as_bytes()).await;
        assert!([200, 404].contains(&status), "{spelling}: {status}");
        assert_eq!(harness.targets(), [Harness::path(forwarded)], "{spelling}");
    }
    let harness = Harness::start().await;
    harness
        .get(&long_path("ws%5f1", &UUID.to_uppercase()))
        .await;
    assert_eq!(harness.targets(), [long_path("ws_1", UUID)]);
}

#[tokio::test]
async fn spellings_of_the_same_bytes_are_one_person() {
    let harness = exact().await;
    harness.create("a/é +@", "slash@example.org");
    let spellings = [
        "a%2F%C3%A9%20%2B@",
        "a%2f%c3%a9%20+%40",
        "%61%2f%C3%a9%20%2b%40",
    ];
    for spelling in spellings {
        let answer = harness.get(&Harness::path(spelling)).await;
        answer.assert_flameups(200, &harness.body("a/é +@"));
    }
    assert_eq!(harness.forwards(), 1);
}

#[tokio::test]
async fn external_ids_that_differ_in_any_byte_are_different_people() {
    let harness = exact().await;
    let ids = [
        "Ann", "ann", "ann ", " ann", "a nn", "a+nn", "a%nn", "é", "e\u{301}", "É", "a@b@C",
    ];
    for (number, id) in ids.iter().enumerate() {
        harness.create(id, &format!("person{number}@example.org"));
    }
    for round in ["fwd=uri-miss; fwd-status=200; stored", "hit; ttl=60"] {
        for id in ids {
            let encoded = utf8_percent_encode(id, NON_ALPHANUMERIC).to_string();
            let answer = harness.get(&Harness::path(&encoded)).await;
            answer.assert_flameups(200, &harness.body(id));
            assert_eq!(answer.cache_status(), round, "{id:?}");
        }
    }
    assert_eq!(harness.forwards(), ids.len());
}

#[tokio::test]
async fn a_read_with_a_query_is_forwarded_and_neither_stored_nor_answered_from_memory() {
    let harness = exact().await;
    harness.get(USER).await;
    let query = format!("{USER}?expand=a%20b&x");
    for _ in 0..2 {
        let answer = harness.get(&query).await;
        answer.assert_flameups(200, &harness.body("user_1"));
        assert_eq!(answer.cache_status(), "fwd=bypass; fwd-status=200");
        assert_eq!(answer.header("age"), "");
    }
    let other = "/api/v1/people/user_2";
    harness.get(&format!("{other}?x=1")).await;
    let first = harness.get(other).await;
    assert_eq!(first.cache_status(), "fwd=uri-miss; fwd-status=200; stored");
    let expected = [USER, &query, &query, &format!("{other}?x=1"), other];
    assert_eq!(harness.targets(), expected);
}

#[tokio::test]
async fn an_empty_query_is_none() {
    let harness = exact().await;
    harness.get(&format!("{USER}?")).await;
    assert_eq!(harness.get(USER).await.cache_status(), "hit; ttl=60");
    assert_eq!(
        harness.get(&format!("{USER}?")).await.cache_status(),
        "hit; ttl=60"
    );
    assert_eq!(harness.targets(), [USER]);
}

#[tokio::test]
async fn a_query_has_no_stale_answer_to_fall_back_on() {
    let harness = exact().await;
    harness.get(USER).await;
    harness.fault(status(503));
    let answer = harness.get(&format!("{USER}?x=1")).await;
    assert_eq!((answer.status.as_u16(), answer.header("age")), (503, ""));
}

#[tokio::test]
async fn the_body_of_somebody_else_reaches_nobody_and_is_not_stored() {
    let harness = Setup::new().config("cache.aliases = false\ncache.ttl_jitter = 0.0");
    let harness = harness.start().await;
    let people = harness.flameup.people();
    let (uuid, email) = (
        people.uuid("user_1"),
        people.email("user_1").expect("an email"),
    );
    let by_uuid = long_path(DEMO_WORKSPACE, &uuid.expect("a uuid"));
    for path in [USER, &Harness::path(&email), &by_uuid] {
        harness.fault(FaultKind::OtherPerson {
            external_id: "user_2".to_owned(),
        });
        let answer = harness.get(path).await;
        answer.assert_own(502, "http_protocol_error");
        assert_eq!(answer.cache_status(), "fwd=uri-miss; fwd-status=200");
        harness.flameup.clear_faults();
        let answer = harness.get(path).await;
        answer.assert_flameups(200, &harness.body("user_1"));
        assert_eq!(
            answer.cache_status(),
            "fwd=uri-miss; fwd-status=200; stored"
        );
    }
}
