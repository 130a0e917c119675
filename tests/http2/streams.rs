//! What may be sent on a stream, and when (RFC 9113 §5).

use crate::support::case::run;
use crate::support::frame::{
    CONTINUATION, END_HEADERS, HEADERS, INITIAL_WINDOW_SIZE, PRIORITISED, RST_STREAM, WHOLE, data,
    dependency, goaway, last_data, priority, reset, settings, window_update,
};
use crate::support::hpack::{GET, MISS, QUESTION, block, get, post};
use crate::support::{Case, Code, Frame, Gateway, Peer, case, frame};

const PROTOCOL: &[Code] = &[Code::PROTOCOL_ERROR];
const CLOSED: &[Code] = &[Code::STREAM_CLOSED];

/// A stream identifier that is not greater than the last one is wrong in itself (§5.1.1).
const CLOSED_OR_PROTOCOL: &[Code] = &[Code::STREAM_CLOSED, Code::PROTOCOL_ERROR];

fn trailers(stream: u32) -> Vec<u8> {
    frame(HEADERS, WHOLE, stream, block(&[("x-trailer", "1")]))
}

fn continuation(stream: u32) -> Vec<u8> {
    frame(CONTINUATION, END_HEADERS, stream, block(&[("x-more", "1")]))
}

#[tokio::test]
async fn an_idle_stream_begins_with_headers() {
    run(vec![
        case("5.1", "idle: DATA")
            .send(data(1, "?"))
            .connection_error(PROTOCOL),
        case("5.1", "idle: DATA of no bytes")
            .send(last_data(1, ""))
            .connection_error(PROTOCOL),
        case("5.1", "idle: RST_STREAM")
            .send(reset(1, Code::CANCEL))
            .connection_error(PROTOCOL),
        case("5.1", "idle: WINDOW_UPDATE")
            .send(window_update(1, 1))
            .connection_error(PROTOCOL),
        case("5.1", "idle: CONTINUATION")
            .send(continuation(1))
            .connection_error(PROTOCOL),
        case("5.1", "idle: PRIORITY").send(priority(1, 0)).ignored(),
        case("5.1", "idle: PRIORITY, then a request")
            .send([priority(1, 0), get(1)].concat())
            .answer(200),
        case("5.1", "idle, but lower streams are in use: DATA")
            .send([get(1), data(3, "?")].concat())
            .connection_error(PROTOCOL),
        case("5.1", "idle, and the gateway's to open: DATA")
            .send(data(2, "?"))
            .connection_error(PROTOCOL),
        case("5.1", "idle, and the gateway's to open: RST_STREAM")
            .send(reset(2, Code::CANCEL))
            .connection_error(PROTOCOL),
        case("5.1", "idle, and the gateway's to open: WINDOW_UPDATE")
            .send(window_update(2, 1))
            .connection_error(PROTOCOL),
        case("5.1", "idle, and the gateway's to open: PRIORITY")
            .send(priority(2, 0))
            .ignored(),
    ])
    .await;
}

/// A request that was sent whole, and whose answer has begun and cannot end.
fn half_closed(name: &'static str) -> Case {
    case("5.1", name)
        .send([settings(&[(INITIAL_WINDOW_SIZE, 0)]), get(1)].concat())
        .until_answered(1)
}

#[tokio::test]
async fn a_stream_that_its_client_ended_takes_no_more_of_its_request() {
    run(vec![
        half_closed("half-closed: DATA")
            .send(data(1, "?"))
            .after_the_end(),
        half_closed("half-closed: last DATA")
            .send(last_data(1, ""))
            .after_the_end(),
        half_closed("half-closed: HEADERS")
            .send(trailers(1))
            .after_the_end(),
        half_closed("half-closed: a request")
            .send(get(1))
            .after_the_end(),
        half_closed("half-closed: CONTINUATION")
            .send(continuation(1))
            .connection_error(PROTOCOL),
        half_closed("half-closed: PRIORITY")
            .send(priority(1, 0))
            .ignored(),
        half_closed("half-closed: WINDOW_UPDATE")
            .send(window_update(1, 1))
            .ignored(),
        half_closed("half-closed: RST_STREAM")
            .send(reset(1, Code::CANCEL))
            .ignored(),
    ])
    .await;
}

/// A request that was answered.
fn answered(name: &'static str) -> Case {
    case("5.1", name).send(get(1)).until_ended(1)
}

/// A request that its client gave up.
fn given_up(name: &'static str) -> Case {
    case("5.1", name)
        .send([post(1), reset(1, Code::CANCEL)].concat())
        .until_taken_in()
}

#[tokio::test]
async fn a_closed_stream_stays_closed() {
    run(vec![
        answered("answered: DATA")
            .send(data(1, "?"))
            .stream_error(CLOSED),
        answered("answered: HEADERS")
            .send(get(1))
            .stream_error(CLOSED_OR_PROTOCOL),
        answered("answered: trailers")
            .send(trailers(1))
            .stream_error(CLOSED_OR_PROTOCOL),
        answered("answered: CONTINUATION")
            .send(continuation(1))
            .connection_error(CLOSED_OR_PROTOCOL),
        answered("answered: PRIORITY")
            .send(priority(1, 0))
            .ignored(),
        answered("answered: WINDOW_UPDATE")
            .send(window_update(1, 1))
            .ignored(),
        answered("answered: RST_STREAM")
            .send(reset(1, Code::CANCEL))
            .ignored(),
        given_up("given up: DATA")
            .send(data(1, "?"))
            .stream_error(CLOSED),
        given_up("given up: HEADERS")
            .send(get(1))
            .stream_error(CLOSED_OR_PROTOCOL),
        given_up("given up: trailers")
            .send(trailers(1))
            .stream_error(CLOSED_OR_PROTOCOL),
        given_up("given up: CONTINUATION")
            .send(continuation(1))
            .connection_error(CLOSED_OR_PROTOCOL),
        given_up("given up: PRIORITY")
            .send(priority(1, 0))
            .ignored(),
        given_up("given up: WINDOW_UPDATE")
            .send(window_update(1, 1))
            .ignored(),
        given_up("given up: RST_STREAM once more")
            .send(reset(1, Code::CANCEL))
            .ignored(),
    ])
    .await;
}

#[tokio::test]
async fn what_was_on_its_way_to_a_stream_that_the_gateway_reset_is_let_pass() {
    // A stream of the gateway's resetting: its request is malformed.
    let reset_by_us = |name| {
        let fields = [&MISS[..], &[("te", "gzip")]].concat();
        case("5.1", name)
            .send(frame(HEADERS, END_HEADERS, 1, block(&fields)))
            .until_ended(1)
    };
    run(vec![
        reset_by_us("reset by the gateway: WINDOW_UPDATE")
            .send(window_update(1, 1))
            .ignored(),
        reset_by_us("reset by the gateway: RST_STREAM")
            .send(reset(1, Code::CANCEL))
            .ignored(),
        reset_by_us("reset by the gateway: PRIORITY")
            .send(priority(1, 0))
            .ignored(),
    ])
    .await;
}

#[tokio::test]
async fn streams_are_numbered_upwards_and_odd() {
    run(vec![
        case("5.1.1", "an even stream")
            .send(get(2))
            .on_stream(2)
            .connection_error(PROTOCOL),
        case("5.1.1", "an even stream after an odd one")
            .send([get(1), get(4)].concat())
            .connection_error(PROTOCOL),
        case("5.1.1", "a lower stream, skipped before")
            .send([get(5), get(3)].concat())
            .connection_error(PROTOCOL),
        case(
            "5.1.1",
            "a lower stream, skipped before, when the higher one is answered",
        )
        .send(get(5))
        .until_ended(5)
        .send(get(3))
        .connection_error(PROTOCOL),
        case("5.1.1", "DATA on a lower stream, skipped before")
            .send(get(5))
            .until_ended(5)
            .send(data(3, "?"))
            .stream_error(CLOSED)
            .on_stream(3),
        case("5.1.1", "a request on the connection itself")
            .send(get(0))
            .connection_error(PROTOCOL),
        case("5.1.1", "streams skipped")
            .send(get(501))
            .on_stream(501)
            .answer(200),
    ])
    .await;
}

#[tokio::test]
async fn the_last_stream_identifier_is_served_5_1_1() {
    let gateway = Gateway::start().await;
    let mut peer = Peer::greeted(gateway.address()).await;
    peer.assert_served((1 << 31) - 1).await;
    // With no identifier left there is only one thing to do: connect anew.
    Peer::greeted(gateway.address())
        .await
        .assert_served(1)
        .await;
}

#[tokio::test]
async fn streams_beyond_the_limit_are_refused_5_1_2() {
    let gateway = Gateway::start_with("server.limits.h2_streams = 3").await;
    let mut peer = Peer::greeted(gateway.address()).await;
    peer.send([post(1), post(3), post(5), post(7)].concat())
        .await;
    let refused = peer
        .expect("a refusal", |frame| frame.kind == RST_STREAM)
        .await;
    assert_eq!((refused.stream, refused.code()), (7, Code::REFUSED_STREAM));
    // The others go on, and each that ends makes room.
    peer.send(last_data(3, QUESTION)).await;
    peer.expect("an answer", |frame| {
        frame.stream == 3 && frame.ends_stream()
    })
    .await;
    peer.assert_served(9).await;
    peer.send([last_data(1, QUESTION), last_data(5, QUESTION)].concat())
        .await;
    for _ in 0..2 {
        let last = peer.expect("an answer", Frame::ends_stream).await;
        assert!(last.stream == 1 || last.stream == 5, "{last:?}");
    }
}

#[tokio::test]
async fn a_stream_does_not_depend_on_itself() {
    // RFC 9113 asks nobody to look at priorities any longer; RFC 7540 §5.3.1 called this an error.
    run(vec![
        case("5.3.1", "PRIORITY on itself")
            .send(priority(1, 1))
            .stream_error(PROTOCOL),
        case("5.3.1", "HEADERS on itself")
            .send(frame(
                HEADERS,
                WHOLE | PRIORITISED,
                1,
                [dependency(1), block(&MISS)].concat(),
            ))
            .stream_error(PROTOCOL),
        case("5.3.1", "HEADERS on a stream that is yet to come")
            .send(frame(
                HEADERS,
                WHOLE | PRIORITISED,
                1,
                [dependency(7), block(&GET)].concat(),
            ))
            .answer(200),
        case("5.3.1", "HEADERS on another stream alone")
            .send(frame(
                HEADERS,
                WHOLE | PRIORITISED,
                3,
                [dependency(1 | 1 << 31), block(&GET)].concat(),
            ))
            .on_stream(3)
            .answer(200),
    ])
    .await;
}

#[tokio::test]
async fn after_a_connection_error_nothing_is_served_5_4_1() {
    let gateway = Gateway::start().await;
    let mut peer = Peer::greeted(gateway.address()).await;
    peer.send([get(1), data(0, "?"), frame(HEADERS, WHOLE, 3, block(&MISS))].concat())
        .await;
    let goaway = peer.expect("an end", |frame| frame.kind == 0x7).await;
    assert_eq!(goaway.code(), Code::PROTOCOL_ERROR);
    assert_eq!(
        goaway.number(0),
        1,
        "the last stream that may have been served"
    );
    let more = peer.find(|_| true).await;
    assert!(more.is_err(), "{more:?}");
    gateway.assert_nothing_forwarded();
}

#[tokio::test]
async fn a_client_that_announces_its_end_gets_its_answers_first_6_8() {
    let gateway = Gateway::start().await;
    let mut peer = Peer::greeted(gateway.address()).await;
    let end = goaway(0, Code::NO_ERROR);
    peer.send([post(1), end, last_data(1, QUESTION)].concat())
        .await;
    peer.expect("an answer", |frame| {
        frame.stream == 1 && frame.ends_stream()
    })
    .await;
    let more = peer.find(|frame| frame.kind == RST_STREAM).await;
    assert!(more.is_err_and(|end| end.starts_with("Closed")));
}
