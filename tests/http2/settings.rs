//! Settings, where and as they must not be (RFC 9113 §6.5).

use crate::support::case::{ENDED, run};
use crate::support::frame::{
    ACK, ENABLE_PUSH, INITIAL_WINDOW_SIZE, MAX_CONCURRENT_STREAMS, MAX_FRAME_SIZE,
    MAX_HEADER_LIST_SIZE, SETTINGS, settings,
};
use crate::support::{Code, Gateway, Peer, case, frame};

const PROTOCOL: &[Code] = &[Code::PROTOCOL_ERROR];
const OVERFLOW: &[Code] = &[Code::FLOW_CONTROL_ERROR];

const ONE_CODE: &str = "the library has one code for all settings that cannot be";

#[tokio::test]
async fn settings_are_of_the_connection_and_have_six_bytes_each() {
    run(vec![
        case("6.5", "an acknowledgement with settings")
            .send(frame(SETTINGS, ACK, 0, [0, 1, 0, 0, 0, 0]))
            .wrong_size(),
        case("6.5", "an acknowledgement with a byte")
            .send(frame(SETTINGS, ACK, 0, [0]))
            .wrong_size(),
        case("6.5", "SETTINGS on a stream")
            .send(frame(SETTINGS, 0, 1, []))
            .connection_error(PROTOCOL),
        case("6.5", "an acknowledgement on a stream")
            .send(frame(SETTINGS, ACK, 1, []))
            .connection_error(PROTOCOL),
        case("6.5", "SETTINGS of five bytes")
            .send(frame(SETTINGS, 0, 0, [0; 5]))
            .wrong_size(),
        case("6.5", "SETTINGS of seven bytes")
            .send(frame(SETTINGS, 0, 0, [0; 7]))
            .wrong_size(),
        case("6.5.3", "settings twice, both acknowledged")
            .send([settings(&[]), settings(&[])].concat())
            .ignored(),
        // What to make of this is left open.
        case("6.5.3", "an acknowledgement of nothing")
            .send(frame(SETTINGS, ACK, 0, []))
            .connection_error(PROTOCOL),
    ])
    .await;
}

#[tokio::test]
async fn settings_have_values_that_can_be() {
    let set = |name, id, value| case("6.5.2", name).send(settings(&[(id, value)]));
    run(vec![
        set("ENABLE_PUSH of 0", ENABLE_PUSH, 0).ignored(),
        set("ENABLE_PUSH of 1", ENABLE_PUSH, 1).ignored(),
        set("ENABLE_PUSH of 2", ENABLE_PUSH, 2).connection_error(PROTOCOL),
        set(
            "INITIAL_WINDOW_SIZE of the most",
            INITIAL_WINDOW_SIZE,
            (1 << 31) - 1 - (1 << 20),
        )
        .ignored(),
        set(
            "INITIAL_WINDOW_SIZE beyond the most",
            INITIAL_WINDOW_SIZE,
            1 << 31,
        )
        .connection_error(OVERFLOW)
        .known(ENDED, ONE_CODE),
        set(
            "INITIAL_WINDOW_SIZE of all bits",
            INITIAL_WINDOW_SIZE,
            u32::MAX,
        )
        .connection_error(OVERFLOW)
        .known(ENDED, ONE_CODE),
        set("MAX_FRAME_SIZE of the least", MAX_FRAME_SIZE, 1 << 14).ignored(),
        set(
            "MAX_FRAME_SIZE below the least",
            MAX_FRAME_SIZE,
            (1 << 14) - 1,
        )
        .connection_error(PROTOCOL),
        set("MAX_FRAME_SIZE of 0", MAX_FRAME_SIZE, 0).connection_error(PROTOCOL),
        set("MAX_FRAME_SIZE of the most", MAX_FRAME_SIZE, (1 << 24) - 1).ignored(),
        set("MAX_FRAME_SIZE beyond the most", MAX_FRAME_SIZE, 1 << 24).connection_error(PROTOCOL),
        set("MAX_CONCURRENT_STREAMS of 0", MAX_CONCURRENT_STREAMS, 0).ignored(),
        set("MAX_HEADER_LIST_SIZE of 0", MAX_HEADER_LIST_SIZE, 0).ignored(),
        set("a setting that nobody knows", 0xff, u32::MAX).ignored(),
        set("a setting that is reserved", 0x0, 1).ignored(),
    ])
    .await;
}

#[tokio::test]
async fn settings_are_acknowledged_once_each_6_5_3() {
    let gateway = Gateway::start().await;
    let mut peer = Peer::greeted(gateway.address()).await;
    peer.send(
        [
            settings(&[]),
            settings(&[(0xff, 1)]),
            settings(&[(MAX_FRAME_SIZE, 1 << 15)]),
        ]
        .concat(),
    )
    .await;
    for _ in 0..3 {
        let ack = peer
            .expect("an acknowledgement", |frame| frame.is_ack_of(SETTINGS))
            .await;
        assert_eq!((ack.stream, ack.payload.len()), (0, 0));
    }
    peer.mark().await;
    let next = peer.expect("the next", |_| true).await;
    assert!(Peer::is_mark(&next), "{next:?}");
}
