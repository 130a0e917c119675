//! Answers held back until a test lets them go.

use flameup_gateway::sandbox::{Hold, Matcher, Sandbox};
use http::Method;

use crate::support::{Reply, call, get, start, within};

/// Reads a person while it is held, changes it meanwhile, lets go, and returns what was answered.
async fn read_across_a_change(sandbox: &Sandbox, hold: Hold) -> Reply {
    let meanwhile = async {
        assert!(hold.arrived(1).await);
        sandbox.people().set("user_1", "first_name", "Changed");
        hold.release();
    };
    let (reply, ()) = tokio::join!(get(sandbox, "/api/v1/people/user_1"), meanwhile);
    reply
}

#[tokio::test]
async fn a_held_answer_is_as_old_as_the_arrival_of_its_request() {
    let sandbox = start().await;
    let before = sandbox
        .people()
        .body_by_external_id("user_1")
        .expect("exists");
    let hold = sandbox.hold(Matcher::id("user_1"));
    let reply = read_across_a_change(&sandbox, hold).await;
    assert_eq!(reply.body, before);
}

#[tokio::test]
async fn an_unanswered_one_is_as_new_as_its_release() {
    let sandbox = start().await;
    let hold = sandbox.hold_unanswered(Matcher::id("user_1"));
    let reply = read_across_a_change(&sandbox, hold).await;
    assert_eq!(reply.json()["first_name"], "Changed");
}

#[tokio::test]
async fn requests_are_let_go_one_by_one_and_others_are_never_held() {
    let sandbox = start().await;
    let hold = sandbox.hold(Matcher::path_prefix("/api/v1/people/").with_method(Method::GET));
    let put = call(&sandbox, "PUT", "/api/v1/people/user_1", "{}").await;
    assert_eq!(put.status, 200);
    let meanwhile = async {
        assert!(hold.arrived(2).await);
        assert_eq!(sandbox.received().len(), 3, "held ones count as received");
        hold.release_one();
        hold.release_one();
    };
    let one = get(&sandbox, "/api/v1/people/user_1");
    let two = get(&sandbox, "/api/v1/people/user_2");
    let (one, two, ()) = within(async { tokio::join!(one, two, meanwhile) }).await;
    assert_eq!((one.status, two.status), (200, 200));
}

#[tokio::test]
async fn dropping_a_hold_lets_everything_go() {
    let sandbox = start().await;
    let hold = sandbox.hold(Matcher::any());
    let meanwhile = async {
        assert!(hold.arrived(1).await);
        drop(hold);
    };
    let (reply, ()) = tokio::join!(get(&sandbox, "/api/v1/people/user_1"), meanwhile);
    assert_eq!(reply.status, 200);
    assert_eq!(get(&sandbox, "/api/v1/people/user_1").await.status, 200);
}
