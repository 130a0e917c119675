//! People that pass by in answers to something else: whoever is stored is brought up to date, and
//! nobody else is stored.

use flameup_gateway::sandbox::Matcher;
use http::Method;
use serde_json::{Map, Value, json};

use crate::support::metrics::metrics;
use crate::support::passing::open;
use crate::support::{Client, Harness, Response, Setup};

const LONG: &str = "/api/v1/workspaces/ws_demo0001/people";

/// A gateway before a Flameup that has few people, so that one list shows all of them.
fn few() -> Setup {
    open().sandbox(|options| options.people(5))
}

/// Everything that shows `user_1` as they are, without having been asked for them alone.
#[derive(Clone, Copy, Debug)]
enum Passing {
    List,
    LongList,
    Search,
    Batch,
}

impl Passing {
    const READS: [Self; 3] = [Self::List, Self::LongList, Self::Search];

    async fn show(self, harness: &Harness) -> Response {
        let batch = json!({"people": [{"userId": "user_1"}, {"userId": "user_2"}]});
        let mut client = harness.client().await;
        let answer = match self {
            Self::List => client.get("/api/v1/people?limit=5").await,
            Self::LongList => client.get(LONG).await,
            Self::Search => {
                client
                    .get(&format!("{LONG}/search?external_id=user_1"))
                    .await
            }
            Self::Batch => client.post("/api/v1/people/batch", &batch).await,
        };
        assert_eq!(answer.status, 200, "{self:?}");
        answer
    }
}

/// Edits `user_1` in Flameup's own dashboard, so many seconds after the start of 2027.
fn edit(harness: &Harness, name: &str, second: u32) {
    let fields = Map::from_iter([
        ("first_name".to_owned(), Value::from(name)),
        (
            "updated_at".to_owned(),
            Value::from(format!("2027-01-01T00:00:{second:02}Z")),
        ),
    ]);
    harness.flameup.people().upsert("user_1", &fields);
}

/// Asserts that the person is served from memory, as Flameup has them now, and that nobody was
/// asked for it.
async fn assert_hit(harness: &Harness, id: &str, cache_status: &str) {
    let arrivals = harness.flameup.arrivals();
    let answer = harness.get(&Harness::path(id)).await;
    answer.assert_flameups(200, &harness.body(id));
    assert_eq!(answer.cache_status(), cache_status, "{id}");
    assert_eq!(harness.flameup.arrivals(), arrivals);
}

async fn stored_people(harness: &Harness) -> f64 {
    let metrics = metrics(harness).await;
    metrics.sum("cache_entries", &[("kind", "person")])
}

#[tokio::test]
async fn whoever_is_stored_and_passes_by_is_a_hit_with_what_is_new() {
    for passing in Passing::READS {
        let harness = few().start().await;
        harness.get(&Harness::path("user_1")).await;
        edit(&harness, "New", 1);
        harness.pass(50);
        passing.show(&harness).await;
        // As if it had been asked for by itself: a whole lifetime lies ahead.
        assert_hit(&harness, "user_1", "hit; ttl=60").await;
        harness.pass(59);
        assert_hit(&harness, "user_1", "hit; ttl=1").await;
    }
}

#[tokio::test]
async fn a_batch_shows_whoever_is_stored_once_reads_are_held_off_no_longer() {
    let harness = few().start().await;
    harness.get(&Harness::path("user_1")).await;
    edit(&harness, "New", 1);
    harness.pass(50);
    Passing::Batch.show(&harness).await;
    harness.pass(2);
    assert_hit(&harness, "user_1", "hit; ttl=58").await;
    // Nobody had asked for the other one.
    let other = harness.get(&Harness::path("user_2")).await;
    assert_eq!(other.cache_status(), "fwd=uri-miss; fwd-status=200; stored");
}

#[tokio::test]
async fn whoever_is_called_otherwise_now_is_found_so_after_passing_by() {
    let harness = few().start().await;
    harness.get(&Harness::path("user_1")).await;
    harness.create("user_1", "moved@example.org");
    harness.pass(1);
    Passing::List.show(&harness).await;
    let answer = harness.get(&Harness::path("moved@example.org")).await;
    answer.assert_flameups(200, &harness.body("user_1"));
    assert_eq!(answer.cache_status(), "hit; ttl=60");
}

#[tokio::test]
async fn people_whom_nobody_asked_for_are_not_stored() {
    for passing in Passing::READS {
        let harness = few().start().await;
        harness.get(&Harness::path("user_1")).await;
        passing.show(&harness).await;
        assert_eq!(stored_people(&harness).await.to_string(), "1");
        for id in ["user_2", "user_5"] {
            let answer = harness.get(&Harness::path(id)).await;
            assert_eq!(
                answer.cache_status(),
                "fwd=uri-miss; fwd-status=200; stored"
            );
        }
    }
}

#[tokio::test]
async fn what_flameup_says_is_older_replaces_nothing() {
    for passing in Passing::READS {
        let harness = few().start().await;
        edit(&harness, "New", 2);
        let newer = harness.get(&Harness::path("user_1")).await;
        // As a replica that lags behind would show it.
        edit(&harness, "Old", 1);
        harness.pass(10);
        passing.show(&harness).await;
        let answer = harness.get(&Harness::path("user_1")).await;
        answer.assert_flameups(200, &newer.body);
        assert_eq!(answer.cache_status(), "hit; ttl=50");
    }
}

#[tokio::test]
async fn a_list_that_was_asked_for_before_a_purge_brings_nothing_back() {
    let harness = few().start().await;
    // Both in one second: Flameup does not tell which is newer.
    edit(&harness, "Old", 1);
    let lists = Matcher::method(Method::GET).with_path_prefix(LONG);
    let hold = harness.flameup.hold(lists);
    tokio::join!(Passing::LongList.show(&harness), async {
        assert!(hold.arrived(1).await);
        edit(&harness, "New", 1);
        let mut operator = Client::connect(harness.admin_address()).await;
        let purged = operator.post("/v1/purge", &json!({"id": "user_1"})).await;
        assert_eq!(purged.status, 200);
        harness.get(&Harness::path("user_1")).await;
        hold.release();
    });
    assert_hit(&harness, "user_1", "hit; ttl=60").await;
}

#[tokio::test]
async fn without_harvest_lists_and_batches_leave_what_is_stored_as_it_is() {
    for passing in Passing::READS {
        let harness = few().config("cache.harvest = false").start().await;
        let stored = harness.get(&Harness::path("user_1")).await;
        edit(&harness, "New", 1);
        harness.pass(50);
        passing.show(&harness).await;
        let answer = harness.get(&Harness::path("user_1")).await;
        answer.assert_flameups(200, &stored.body);
        assert_eq!(answer.cache_status(), "hit; ttl=10");
    }
    // A batch is a change: what was stored goes, harvest or not.
    let harness = few().config("cache.harvest = false").start().await;
    harness.get(&Harness::path("user_1")).await;
    Passing::Batch.show(&harness).await;
    harness.pass(2);
    let answer = harness.get(&Harness::path("user_1")).await;
    assert_eq!(
        answer.cache_status(),
        "fwd=uri-miss; fwd-status=200; stored"
    );
}

#[tokio::test]
async fn an_entry_that_passed_by_is_found_by_all_names_only_with_aliases() {
    for (aliases, expected) in [
        (true, "hit; ttl=60"),
        (false, "fwd=uri-miss; fwd-status=200; stored"),
    ] {
        let setup = few().config(&format!("cache.aliases = {aliases}"));
        let harness = setup.start().await;
        harness.get(&Harness::path("user_1")).await;
        edit(&harness, "New", 1);
        Passing::List.show(&harness).await;
        assert_hit(&harness, "user_1", "hit; ttl=60").await;
        let email = harness.flameup.people().email("user_1").expect("an e-mail");
        let answer = harness.get(&Harness::path(&email)).await;
        answer.assert_flameups(200, &harness.body("user_1"));
        assert_eq!(answer.cache_status(), expected);
    }
}

/// Reads `user_1`, has them changed, and says what a write answered with.
async fn written(harness: &Harness, name: &str) -> Response {
    harness.get(&Harness::path("user_1")).await;
    let body = json!({"traits": {"first_name": name}}).to_string();
    let mut client = harness.client().await;
    let target = Harness::path("user_1");
    let answer = client.send_with("PUT", &target, &[], body).await;
    assert_eq!(answer.status, 200);
    answer
}

#[tokio::test]
async fn what_a_write_was_answered_with_is_a_hit_after_two_seconds_and_asked_for_until_then() {
    let harness = few().start().await;
    let answer = written(&harness, "New").await;
    for _ in 0..2 {
        let arrivals = harness.flameup.arrivals();
        let read = harness.get(&Harness::path("user_1")).await;
        read.assert_flameups(200, &answer.body);
        assert_eq!(read.cache_status(), "fwd=uri-miss; fwd-status=200");
        assert_eq!(harness.flameup.arrivals(), arrivals + 1);
        harness.pass_ms(1_999 / 2);
    }
    harness.pass_ms(1);
    let read = harness.get(&Harness::path("user_1")).await;
    assert_eq!(read.cache_status(), "fwd=uri-miss; fwd-status=200");
    harness.pass_ms(1);
    // Two seconds old, and not stale: it was true when Flameup had written it.
    let arrivals = harness.flameup.arrivals();
    let email = harness.flameup.people().email("user_1").expect("an e-mail");
    for name in ["user_1", &email] {
        let read = harness.get(&Harness::path(name)).await;
        read.assert_flameups(200, &answer.body);
        assert_eq!(read.cache_status(), "hit; ttl=58");
        assert_eq!(read.header("age"), "2");
    }
    assert_eq!(harness.flameup.arrivals(), arrivals);
}

#[tokio::test]
async fn what_a_write_was_answered_with_gives_way_to_what_a_read_has_shown_since() {
    let harness = few().start().await;
    written(&harness, "New").await;
    harness.pass(1);
    edit(&harness, "Newer", 1);
    let read = harness.get(&Harness::path("user_1")).await;
    assert_eq!(read.json()["first_name"], "Newer");
    harness.pass(1);
    // What was read may not be stored, and what was written is not the last word.
    let read = harness.get(&Harness::path("user_1")).await;
    assert_eq!(read.json()["first_name"], "Newer");
    assert_eq!(read.cache_status(), "fwd=uri-miss; fwd-status=200; stored");
}
