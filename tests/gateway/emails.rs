//! Spellings of an e-mail: a person is shared across them, an absence never.

use flameup_gateway::sandbox::Matcher;

use crate::support::{Harness, Setup, exact};

#[tokio::test]
async fn a_person_found_by_email_is_shared_across_its_spellings() {
    let harness = exact().await;
    harness.create("ada", "Ada@Example.org");
    let body = harness.body("ada");
    harness
        .get("/api/v1/people/ADA@example.org")
        .await
        .assert_flameups(200, &body);
    for spelling in [
        "ada@example.org",
        "Ada%40EXAMPLE.ORG",
        "%20ADA@example.org%20",
    ] {
        let hit = harness.get(&Harness::path(spelling)).await;
        hit.assert_flameups(200, &body);
        assert_eq!(hit.cache_status(), "hit; ttl=60");
    }
    assert_eq!(harness.targets(), ["/api/v1/people/ADA@example.org"]);
}

/// A Flameup to which e-mails that differ in case are different.
fn case_sensitive() -> Setup {
    Setup::new()
        .config("cache.ttl_jitter = 0.0")
        .sandbox(|mut options| {
            options.email_case_sensitive = true;
            options
        })
}

#[tokio::test]
async fn an_email_that_is_absent_in_one_spelling_is_asked_for_in_another() {
    let harness = case_sensitive().start().await;
    harness.create("ada", "ada@example.org");
    assert_eq!(
        harness.get("/api/v1/people/ADA@example.org").await.status,
        404
    );
    assert_eq!(
        harness.get("/api/v1/people/Ada@example.org").await.status,
        404
    );
    let found = harness.get("/api/v1/people/ada@example.org").await;
    found.assert_flameups(200, &harness.body("ada"));
    assert_eq!(found.cache_status(), "fwd=uri-miss; fwd-status=200; stored");
    assert_eq!(harness.forwards(), 3);
}

#[tokio::test]
async fn an_absence_is_not_shared_with_another_spelling_that_waited_for_it() {
    let harness = case_sensitive().start().await;
    harness.create("ada", "ada@example.org");
    let hold = harness.flameup.hold(Matcher::any());
    let (absent, found, ()) = tokio::join!(
        harness.get("/api/v1/people/ADA@example.org"),
        async {
            assert!(hold.arrived(1).await);
            harness.get("/api/v1/people/ada@example.org").await
        },
        async {
            assert!(hold.arrived(1).await);
            hold.release();
        }
    );
    assert_eq!(absent.status, 404);
    found.assert_flameups(200, &harness.body("ada"));
    assert_eq!(harness.forwards(), 2);
}

#[tokio::test]
async fn where_the_case_of_emails_counts_each_spelling_is_a_person_of_its_own() {
    let setup = case_sensitive().config("cache.email_case = \"exact\"");
    let harness = setup.start().await;
    harness.create("small", "ada@example.org");
    harness.create("tall", "Ada@example.org");
    for _ in 0..2 {
        for (email, id) in [("ada@example.org", "small"), ("Ada@example.org", "tall")] {
            let answer = harness.get(&Harness::path(email)).await;
            answer.assert_flameups(200, &harness.body(id));
        }
    }
    assert_eq!(harness.forwards(), 2);
}

#[tokio::test]
async fn a_person_found_by_an_external_id_that_looks_like_an_email_has_one_spelling() {
    let harness = exact().await;
    harness.create("ADA@tenant", "one@example.org");
    harness.create("ada@tenant", "two@example.org");
    for _ in 0..2 {
        for id in ["ADA@tenant", "ada@tenant"] {
            let answer = harness.get(&Harness::path(id)).await;
            answer.assert_flameups(200, &harness.body(id));
        }
    }
    let again = harness.get("/api/v1/people/ada@tenant").await;
    assert!(again.cache_status().starts_with("hit; "), "{again:?}");
}

#[tokio::test]
async fn who_waits_with_another_spelling_of_such_an_id_is_not_given_that_person() {
    let harness = exact().await;
    harness.create("ADA@tenant", "one@example.org");
    harness.create("ada@tenant", "two@example.org");
    let hold = harness.flameup.hold(Matcher::any());
    let (one, two, ()) = tokio::join!(
        harness.get("/api/v1/people/ADA@tenant"),
        async {
            assert!(hold.arrived(1).await);
            harness.get("/api/v1/people/ada@tenant").await
        },
        async {
            assert!(hold.arrived(1).await);
            harness.settle().await;
            assert_eq!(harness.forwards(), 1, "they collapse");
            hold.release();
        }
    );
    one.assert_flameups(200, &harness.body("ADA@tenant"));
    two.assert_flameups(200, &harness.body("ada@tenant"));
    assert_eq!(harness.forwards(), 2);
}
