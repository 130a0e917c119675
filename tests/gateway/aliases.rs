//! One person is one entry: found by UUID, external id and e-mail, and by nothing that is not theirs.

use flameup_gateway::sandbox::{DEMO_WORKSPACE, Fault, FaultKind, Matcher};

use crate::support::{Harness, Setup, exact, long_path};

const STORED: &str = "fwd=uri-miss; fwd-status=200; stored";

/// The three paths of a person: by external id, e-mail and UUID.
fn paths(harness: &Harness, id: &str) -> [String; 3] {
    let people = harness.flameup.people();
    let (uuid, email) = (people.uuid(id), people.email(id));
    [
        Harness::path(id),
        Harness::path(&email.expect("an e-mail")),
        long_path(DEMO_WORKSPACE, &uuid.expect("a uuid")),
    ]
}

/// A gateway that knows Flameup's id of its workspace, as it does once it has seen a body.
async fn knowing() -> Harness {
    Setup::new()
        .config("cache.ttl_jitter = 0.0")
        .config("workspaces.default.api_key_env = \"FLAMEUP_API_KEY\"")
        .config(&format!(
            "workspaces.default.workspace_id = {DEMO_WORKSPACE:?}"
        ))
        .config("workspaces.default.budget.requests = 1_000_000")
        .start()
        .await
}

#[tokio::test]
async fn whoever_was_fetched_by_one_name_is_a_hit_by_all() {
    for first in 0..3 {
        let harness = knowing().await;
        let paths = paths(&harness, "user_1");
        let miss = harness.get(&paths[first]).await;
        assert_eq!(miss.cache_status(), STORED);
        for path in &paths {
            let hit = harness.get(path).await;
            hit.assert_flameups(200, &harness.body("user_1"));
            assert_eq!(hit.cache_status(), "hit; ttl=60");
        }
        assert_eq!(harness.targets(), [paths[first].clone()]);
    }
}

#[tokio::test]
async fn the_short_and_the_long_form_share_an_entry_once_a_body_tells_the_workspace() {
    let harness = exact().await;
    let [by_id, _, by_uuid] = paths(&harness, "user_1");
    harness.get(&by_id).await;
    assert_eq!(harness.get(&by_uuid).await.cache_status(), "hit; ttl=60");
    assert_eq!(harness.forwards(), 1);
}

#[tokio::test]
async fn concurrent_lookups_by_all_names_of_a_known_person_are_one_fetch() {
    let harness = knowing().await;
    let [by_id, by_email, by_uuid] = paths(&harness, "user_1");
    harness.get(&by_id).await;
    // Past every lifetime: it may not be served, and is known all the same.
    harness.pass(60 + 14 * 60);
    let hold = harness.flameup.hold(Matcher::any());
    let (one, two, three, ()) = tokio::join!(
        harness.get(&by_id),
        harness.get(&by_email),
        harness.get(&by_uuid),
        async {
            assert!(hold.arrived(1).await);
            harness.settle().await;
            hold.release();
        }
    );
    for answer in [one, two, three] {
        answer.assert_flameups(200, &harness.body("user_1"));
    }
    assert_eq!(harness.forwards(), 2);
}

#[tokio::test]
async fn an_email_that_was_reassigned_is_its_new_owners_once_a_body_says_so() {
    let harness = knowing().await;
    harness.create("ada", "shared@example.org");
    harness.create("bob", "bob@example.org");
    let email = Harness::path("shared@example.org");
    harness.get(&email).await;
    harness.create("ada", "ada@example.org");
    harness.create("bob", "shared@example.org");
    harness.get(&Harness::path("bob")).await;
    let answer = harness.get(&email).await;
    answer.assert_flameups(200, &harness.body("bob"));
    assert_eq!(answer.cache_status(), STORED);
    let again = harness.get(&email).await;
    again.assert_flameups(200, &harness.body("bob"));
    assert_eq!(again.cache_status(), "hit; ttl=60");
}

#[tokio::test]
async fn a_name_that_a_later_body_gives_up_leads_nowhere() {
    let harness = knowing().await;
    harness.create("ada", "old@example.org");
    harness.get(&Harness::path("ada")).await;
    harness.create("ada", "new@example.org");
    let fresh = [("cache-control", "no-cache")];
    harness.get_with(&Harness::path("ada"), &fresh).await;
    assert_eq!(
        harness.get(&Harness::path("old@example.org")).await.status,
        404
    );
    let hit = harness.get(&Harness::path("new@example.org")).await;
    hit.assert_flameups(200, &harness.body("ada"));
    assert_eq!(hit.cache_status(), "hit; ttl=60");
}

#[tokio::test]
async fn a_string_that_two_people_claim_is_answered_by_flameups_answer_to_it_alone() {
    let harness = knowing().await;
    // The external id of one is the e-mail of the other; Flameup prefers the external id.
    harness.create("bob@example.org", "ada@example.org");
    harness.create("bob", "bob@example.org");
    harness.get(&Harness::path("bob")).await;
    harness.get(&Harness::path("ada@example.org")).await;
    let both = Harness::path("bob@example.org");
    for status in [STORED, "hit; ttl=60"] {
        let answer = harness.get(&both).await;
        answer.assert_flameups(200, &harness.body("bob@example.org"));
        assert_eq!(answer.cache_status(), status);
    }
    let bob = harness.get(&Harness::path("bob")).await;
    bob.assert_flameups(200, &harness.body("bob"));
    assert_eq!(bob.cache_status(), "hit; ttl=60");
}

#[tokio::test]
async fn an_external_id_that_looks_like_a_uuid_never_meets_that_uuid() {
    let harness = knowing().await;
    let people = harness.flameup.people();
    let uuid = people.uuid("user_1").expect("a uuid");
    harness.create(&uuid, "impostor@example.org");
    for _ in 0..2 {
        let by_id = harness.get(&Harness::path(&uuid)).await;
        by_id.assert_flameups(200, &harness.body(&uuid));
        let by_uuid = harness.get(&long_path(DEMO_WORKSPACE, &uuid)).await;
        by_uuid.assert_flameups(200, &harness.body("user_1"));
    }
    assert_eq!(harness.forwards(), 2);
}

#[tokio::test]
async fn without_aliases_each_name_is_an_entry_of_its_own() {
    let setup = Setup::new().config("cache.aliases = false\ncache.ttl_jitter = 0.0");
    let harness = setup.start().await;
    let paths = paths(&harness, "user_1");
    for path in &paths {
        let miss = harness.get(path).await;
        miss.assert_flameups(200, &harness.body("user_1"));
        assert_eq!(miss.cache_status(), STORED);
    }
    for path in &paths {
        assert_eq!(harness.get(path).await.cache_status(), "hit; ttl=60");
    }
    assert_eq!(harness.targets(), paths);
}

#[tokio::test]
async fn who_was_merged_into_somebody_else_is_not_served_any_more_by_any_name() {
    for asked in 0..3 {
        let harness = knowing().await;
        let paths = paths(&harness, "user_1");
        harness.get(&paths[asked]).await;
        let survivor = FaultKind::OtherPerson {
            external_id: "user_2".to_owned(),
        };
        harness.flameup.fault(Fault::new(survivor).once());
        let mut client = harness.client().await;
        let again = [
            ("cache-control", "no-cache"),
            ("cache-control", "stale-if-error=600"),
        ];
        let answer = client.send_with("GET", &paths[asked], &again, "").await;
        assert_eq!(answer.status, 502, "{answer:?}");
        for path in &paths {
            let answer = harness.get(path).await;
            assert_eq!(answer.status, 200, "{answer:?}");
        }
        // What was stored has gone: one of the names is asked for anew, and leads to the others.
        assert_eq!(harness.forwards(), 3, "{asked}");
    }
}
