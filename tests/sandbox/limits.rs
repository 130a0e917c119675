//! The limiter as clients see it: status, headers, and clocks that disagree.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use flameup_gateway::clock::Clock;
use flameup_gateway::sandbox::{ApiKey, DEMO_KEY, LimiterOptions, LimiterState, Options};

use crate::support::{Reply, call_with, get, start_with};

fn two_a_minute() -> LimiterOptions {
    LimiterOptions {
        limit: 2,
        ..LimiterOptions::default()
    }
}

fn reset_s(reply: &Reply) -> u64 {
    let reset = reply.header("x-ratelimit-reset").expect("always there");
    reset.parse().expect("whole seconds")
}

#[tokio::test]
async fn every_answer_says_what_is_left_and_the_third_of_two_is_refused_in_shape_d() {
    let (clock, hand) = Clock::manual();
    let sandbox = start_with(Options::default().limiter(two_a_minute()).clock(clock)).await;
    let first = get(&sandbox, "/api/v1/people/user_1").await;
    assert_eq!(first.header("x-ratelimit-limit"), Some("2"));
    assert_eq!(first.header("x-ratelimit-remaining"), Some("1"));
    let missing = get(&sandbox, "/api/v1/people/nobody").await;
    assert_eq!(
        (missing.status, missing.header("x-ratelimit-remaining")),
        (404, Some("0"))
    );
    let refused = get(&sandbox, "/api/v1/people/user_1").await;
    assert_eq!(refused.status, 429);
    let body = br#"{"error":"Rate limit exceeded","message":"Too many requests. Please try again later."}"#;
    assert_eq!(refused.body.as_ref(), body.as_slice());
    assert_eq!(refused.header("retry-after"), None);
    let counted = LimiterState {
        counted: 2,
        refused: 1,
        foreign: 0,
    };
    assert_eq!(
        (sandbox.limiter(), sandbox.limiter_of(DEMO_KEY)),
        (counted, counted)
    );
    hand.advance(Duration::from_mins(1));
    assert_eq!(get(&sandbox, "/api/v1/people/user_1").await.status, 200);
}

#[tokio::test]
async fn a_skewed_clock_shows_in_date_and_reset_alike() {
    for skew_s in [-300, 300] {
        let (clock, _hand) = Clock::manual();
        let limiter = LimiterOptions {
            skew_s,
            ..two_a_minute()
        };
        let sandbox = start_with(Options::default().limiter(limiter).clock(clock.clone())).await;
        let reply = get(&sandbox, "/api/v1/people/user_1").await;
        let since = |time: SystemTime| {
            time.duration_since(UNIX_EPOCH)
                .expect("after 1970")
                .as_secs()
        };
        let shown = since(clock.wall())
            .checked_add_signed(skew_s)
            .expect("after 1970");
        let date = httpdate::parse_http_date(reply.header("date").expect("always there"));
        assert_eq!(since(date.expect("a date")), shown);
        assert!((shown + 60..=shown + 61).contains(&reset_s(&reply)));
    }
}

#[tokio::test]
async fn retry_after_and_a_change_of_limit_are_there_on_request() {
    let (clock, _hand) = Clock::manual();
    let sandbox = start_with(Options::default().clock(clock)).await;
    sandbox.change_limiter(LimiterOptions {
        limit: 0,
        retry_after: true,
        ..LimiterOptions::default()
    });
    let refused = get(&sandbox, "/api/v1/people/user_1").await;
    assert_eq!(
        (refused.status, refused.header("retry-after")),
        (429, Some("60"))
    );
}

#[tokio::test]
async fn keys_are_limited_apart_and_a_foreign_consumer_spends_from_them() {
    let (clock, hand) = Clock::manual();
    let limiter = LimiterOptions {
        limit: 10,
        foreign_per_minute: 60,
        ..LimiterOptions::default()
    };
    let keys = [ApiKey::new("a", "ws_a"), ApiKey::new("b", "ws_b")];
    let sandbox = start_with(
        Options::default()
            .limiter(limiter)
            .api_keys(keys)
            .clock(clock),
    )
    .await;
    hand.advance(Duration::from_secs(5));
    for key in ["Bearer a", "bearer b"] {
        let headers = [("authorization", key)];
        let reply = call_with(
            sandbox.address(),
            "GET",
            "/api/v1/people/user_1",
            &headers,
            "",
        )
        .await;
        assert_eq!(
            (reply.status, reply.header("x-ratelimit-remaining")),
            (200, Some("4"))
        );
    }
    assert_eq!(sandbox.limiter().foreign, 10);
}
