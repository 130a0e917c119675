//! Each type of frame, where and as it must not be (RFC 9113 §6).

use crate::support::case::run;
use crate::support::frame::{
    ACK, CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PADDED, PING, PRIORITISED,
    PRIORITY, PUSH_PROMISE, RST_STREAM, WHOLE, WINDOW_UPDATE, data, dependency, goaway, last_data,
    padded, reset, window_update,
};
use crate::support::hpack::{GET, MISS, POST, QUESTION, block, get, post};
use crate::support::{Code, Gateway, Peer, case, frame};

const PROTOCOL: &[Code] = &[Code::PROTOCOL_ERROR];

#[tokio::test]
async fn data_belongs_to_a_stream_and_its_padding_into_it() {
    run(vec![
        case("6.1", "DATA on the connection")
            .send(data(0, "?"))
            .connection_error(PROTOCOL),
        case("6.1", "DATA with nothing but padding")
            .send(
                [
                    post(1),
                    frame(DATA, PADDED, 1, padded("", 9)),
                    last_data(1, QUESTION),
                ]
                .concat(),
            )
            .answer(200),
        case("6.1", "DATA with the most padding")
            .send(
                [
                    post(1),
                    frame(DATA, PADDED | END_STREAM, 1, padded(QUESTION, 255)),
                ]
                .concat(),
            )
            .answer(200),
        case("6.1", "DATA with padding as long as the payload")
            .send([post(1), frame(DATA, PADDED, 1, [3, 0, 0])].concat())
            .connection_error(PROTOCOL),
        case("6.1", "DATA with padding longer than the payload")
            .send([post(1), frame(DATA, PADDED | END_STREAM, 1, [6, 0, 0, 0])].concat())
            .connection_error(PROTOCOL),
    ])
    .await;
}

#[tokio::test]
async fn headers_belong_to_a_stream_and_their_padding_into_them() {
    let both = |padding| {
        let payload = [dependency(0), block(&GET)].concat();
        frame(
            HEADERS,
            WHOLE | PADDED | PRIORITISED,
            1,
            padded(payload, padding),
        )
    };
    run(vec![
        case("6.2", "HEADERS on the connection")
            .send(get(0))
            .connection_error(PROTOCOL),
        case("6.2", "HEADERS with padding")
            .send(frame(HEADERS, WHOLE | PADDED, 1, padded(block(&GET), 8)))
            .answer(200),
        case("6.2", "HEADERS with padding and priority")
            .send(both(8))
            .answer(200),
        case("6.2", "HEADERS with padding as long as the payload")
            .send(frame(HEADERS, WHOLE | PADDED, 1, [2, 0x82]))
            .connection_error(PROTOCOL),
        case("6.2", "HEADERS with padding longer than the payload")
            .send(frame(HEADERS, WHOLE | PADDED, 1, [255, 0x82, 0x86]))
            .connection_error(PROTOCOL),
        case("6.2", "HEADERS with padding that runs into the priority")
            .send(frame(
                HEADERS,
                WHOLE | PADDED | PRIORITISED,
                1,
                [4, 0, 0, 0, 0, 0, 0, 0],
            ))
            .connection_error(PROTOCOL),
    ])
    .await;
}

#[tokio::test]
async fn priorities_are_of_a_stream_and_have_five_bytes() {
    run(vec![
        case("6.3", "PRIORITY on the connection")
            .send(frame(PRIORITY, 0, 0, dependency(1)))
            .connection_error(PROTOCOL),
        case("6.3", "PRIORITY of four bytes")
            .send(frame(PRIORITY, 0, 1, [0; 4]))
            .wrong_size(),
        case("6.3", "PRIORITY of six bytes")
            .send(frame(PRIORITY, 0, 1, [0; 6]))
            .wrong_size(),
        case("6.3", "PRIORITY of an open stream")
            .send(
                [
                    post(1),
                    frame(PRIORITY, 0, 1, dependency(3)),
                    last_data(1, QUESTION),
                ]
                .concat(),
            )
            .answer(200),
    ])
    .await;
}

#[tokio::test]
async fn resets_are_of_a_stream_and_have_four_bytes() {
    run(vec![
        case("6.4", "RST_STREAM on the connection")
            .send(reset(0, Code::CANCEL))
            .connection_error(PROTOCOL),
        case("6.4", "RST_STREAM of three bytes")
            .send([post(1), frame(RST_STREAM, 0, 1, [0; 3])].concat())
            .wrong_size(),
        case("6.4", "RST_STREAM of five bytes")
            .send([post(1), frame(RST_STREAM, 0, 1, [0; 5])].concat())
            .wrong_size(),
        case("6.4", "RST_STREAM of an open stream")
            .send([post(1), reset(1, Code::CANCEL)].concat())
            .ignored(),
        case("7", "RST_STREAM with an unknown code")
            .send([post(1), reset(1, Code(0xff))].concat())
            .ignored(),
    ])
    .await;
}

#[tokio::test]
async fn a_client_pushes_nothing() {
    let promise = |on: u32, promised: u32| {
        let payload = [promised.to_be_bytes().to_vec(), block(&MISS)].concat();
        frame(PUSH_PROMISE, END_HEADERS, on, payload)
    };
    run(vec![
        case("8.4", "PUSH_PROMISE on an open stream")
            .send([post(1), promise(1, 3)].concat())
            .connection_error(PROTOCOL),
        case(
            "8.4",
            "PUSH_PROMISE of a stream that is the gateway's to open",
        )
        .send([post(1), promise(1, 2)].concat())
        .connection_error(PROTOCOL),
        case("8.4", "PUSH_PROMISE on an idle stream")
            .send(promise(1, 3))
            .connection_error(PROTOCOL),
        case("6.6", "PUSH_PROMISE on the connection")
            .send(promise(0, 2))
            .connection_error(PROTOCOL),
        case("6.6", "PUSH_PROMISE too short for a promise")
            .send([post(1), frame(PUSH_PROMISE, END_HEADERS, 1, [0; 3])].concat())
            .connection_error(&[Code::FRAME_SIZE_ERROR, Code::PROTOCOL_ERROR]),
        case("6.6", "PUSH_PROMISE with padding longer than the payload")
            .send(
                [
                    post(1),
                    frame(PUSH_PROMISE, END_HEADERS | PADDED, 1, [9, 0, 0, 0, 2]),
                ]
                .concat(),
            )
            .connection_error(PROTOCOL),
    ])
    .await;
}

#[tokio::test]
async fn pings_are_of_the_connection_and_have_eight_bytes() {
    run(vec![
        case("6.7", "PING on a stream")
            .send(frame(PING, 0, 1, [0; 8]))
            .connection_error(PROTOCOL),
        case("6.7", "an acknowledgement on a stream")
            .send(frame(PING, ACK, 1, [0; 8]))
            .connection_error(PROTOCOL),
        case("6.7", "PING of seven bytes")
            .send(frame(PING, 0, 0, [0; 7]))
            .wrong_size(),
        case("6.7", "PING of nine bytes")
            .send(frame(PING, 0, 0, [0; 9]))
            .wrong_size(),
        case("6.7", "PING of no bytes")
            .send(frame(PING, 0, 0, []))
            .wrong_size(),
        case("6.7", "an acknowledgement of nothing")
            .send(frame(PING, ACK, 0, [7; 8]))
            .ignored(),
    ])
    .await;
}

#[tokio::test]
async fn a_ping_comes_back_as_it_was_and_its_acknowledgement_does_not_6_7() {
    let gateway = Gateway::start().await;
    let mut peer = Peer::greeted(gateway.address()).await;
    peer.send(frame(PING, ACK, 0, *b"not this")).await;
    peer.send(frame(PING, 0, 0, *b"but this")).await;
    let echo = peer
        .expect("an acknowledgement", |frame| frame.kind == PING)
        .await;
    assert_eq!((echo.flags, echo.stream), (ACK, 0));
    assert_eq!(echo.payload, b"but this");
}

#[tokio::test]
async fn a_goaway_is_of_the_connection() {
    run(vec![
        case("6.8", "GOAWAY on a stream")
            .send(frame(GOAWAY, 0, 1, [0; 8]))
            .connection_error(PROTOCOL),
        case("6.8", "GOAWAY too short for a code")
            .send(frame(GOAWAY, 0, 0, [0; 7]))
            .wrong_size(),
        case("6.8", "GOAWAY when nothing is under way")
            .send(goaway(0, Code::NO_ERROR))
            .closed(),
        case("6.8", "GOAWAY with words")
            .send(frame(GOAWAY, 0, 0, b"\0\0\0\0\0\0\0\0bye"))
            .closed(),
        case("7", "GOAWAY with an unknown code")
            .send(goaway(0, Code(0xff)))
            .closed(),
    ])
    .await;
}

#[tokio::test]
async fn window_updates_have_four_bytes_and_add_something() {
    run(vec![
        case("6.9", "WINDOW_UPDATE of the connection by 0")
            .send(window_update(0, 0))
            .connection_error(PROTOCOL),
        case(
            "6.9",
            "WINDOW_UPDATE of the connection by 0 and the reserved bit",
        )
        .send(window_update(0, 1 << 31))
        .connection_error(PROTOCOL),
        case("6.9", "WINDOW_UPDATE of a stream by 0")
            .send([post(1), window_update(1, 0)].concat())
            .stream_error(PROTOCOL),
        case("6.9", "WINDOW_UPDATE of the connection, of three bytes")
            .send(frame(WINDOW_UPDATE, 0, 0, [0, 0, 1]))
            .wrong_size(),
        case("6.9", "WINDOW_UPDATE of the connection, of five bytes")
            .send(frame(WINDOW_UPDATE, 0, 0, [0, 0, 0, 0, 1]))
            .wrong_size(),
        case("6.9", "WINDOW_UPDATE of a stream, of three bytes")
            .send([post(1), frame(WINDOW_UPDATE, 0, 1, [0, 0, 1])].concat())
            .wrong_size(),
    ])
    .await;
}

/// A request in three frames.
fn in_three() -> [Vec<u8>; 3] {
    let whole = block(&GET);
    let mut thirds = whole.chunks(whole.len() / 3 + 1);
    let mut third = |kind, flags| frame(kind, flags, 1, thirds.next().expect("three of them"));
    [
        third(HEADERS, END_STREAM),
        third(CONTINUATION, 0),
        third(CONTINUATION, END_HEADERS),
    ]
}

#[tokio::test]
async fn headers_may_be_continued() {
    let [first, second, third] = in_three();
    let whole = block(&GET);
    let (front, back) = whole.split_at(10);
    let empty = frame(CONTINUATION, 0, 1, []);
    run(vec![
        case("6.10", "a block in three frames")
            .send([&first[..], &second, &third].concat())
            .answer(200),
        case("6.10", "a block with empty frames in it")
            .send([&first[..], &empty, &second, &empty, &third].concat())
            .answer(200),
        case("6.10", "a block whose first frame is empty")
            .send(frame(HEADERS, END_STREAM, 1, []))
            .send(frame(CONTINUATION, END_HEADERS, 1, &whole))
            .answer(200),
        case("6.10", "a block whose last frame is empty")
            .send(frame(HEADERS, END_STREAM, 1, &whole))
            .send(frame(CONTINUATION, END_HEADERS, 1, []))
            .answer(200),
        case("6.10", "a padded frame, and another")
            .send(frame(HEADERS, END_STREAM | PADDED, 1, padded(front, 5)))
            .send(frame(CONTINUATION, END_HEADERS, 1, back))
            .answer(200),
    ])
    .await;
}

#[tokio::test]
async fn continuations_continue_headers_and_nothing_else() {
    let [first, second, third] = in_three();
    let more = frame(CONTINUATION, END_HEADERS, 1, block(&[("x-more", "1")]));
    let much = block(&[("x-much", &"1".repeat(16_000))]);
    run(vec![
        case("6.10", "DATA in a block")
            .send([&first[..], &second, &data(1, "?")].concat())
            .connection_error(PROTOCOL),
        case("6.10", "CONTINUATION on the connection")
            .send([&first[..], &frame(CONTINUATION, END_HEADERS, 0, [])].concat())
            .connection_error(PROTOCOL),
        case("6.10", "CONTINUATION on the connection, of nothing")
            .send(frame(CONTINUATION, END_HEADERS, 0, []))
            .connection_error(PROTOCOL),
        case("6.10", "CONTINUATION of a block that has ended")
            .send([frame(HEADERS, END_HEADERS, 1, block(&POST)), more.clone()].concat())
            .connection_error(PROTOCOL),
        case("6.10", "CONTINUATION of a continued block that has ended")
            .send([&first[..], &second, &third, &more].concat())
            .connection_error(PROTOCOL),
        case("6.10", "CONTINUATION after DATA")
            .send([post(1), data(1, "?"), more].concat())
            .connection_error(PROTOCOL),
        case("10.5.1", "a block far beyond what the list may have")
            .send(frame(HEADERS, END_STREAM, 1, block(&MISS)))
            .send(frame(CONTINUATION, 0, 1, much).repeat(20))
            .connection_error(&[Code::ENHANCE_YOUR_CALM]),
        case("6.10", "CONTINUATION without end")
            .send(frame(HEADERS, END_STREAM, 1, block(&MISS)))
            .send(frame(CONTINUATION, 0, 1, []).repeat(1000))
            .connection_error(&[Code::ENHANCE_YOUR_CALM]),
    ])
    .await;
}
