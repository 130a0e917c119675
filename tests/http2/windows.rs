//! Flow control, in both directions (RFC 9113 §5.2, §6.9).

use crate::support::case::run;
use crate::support::frame::{
    DATA, GOAWAY, INITIAL_WINDOW_SIZE, LARGEST_FRAME, PADDED, RST_STREAM, SETTINGS, WINDOW_UPDATE,
    data, last_data, padded, settings, window_update,
};
use crate::support::hpack::{QUESTION, get, post};
use crate::support::peer::PREFACE;
use crate::support::{Code, Frame, Gateway, Peer, case, frame};

const OVERFLOW: &[Code] = &[Code::FLOW_CONTROL_ERROR];

/// The largest window there may be.
const MOST: u32 = (1 << 31) - 1;

/// What every window begins with.
const FIRST_WINDOW: u32 = 65_535;

fn window(size: u32) -> Vec<u8> {
    settings(&[(INITIAL_WINDOW_SIZE, size)])
}

#[tokio::test]
async fn windows_do_not_grow_beyond_what_can_be_counted() {
    run(vec![
        case("6.9.1", "the connection's window up to the most")
            .send(window_update(0, MOST - FIRST_WINDOW))
            .ignored(),
        case("6.9.1", "the connection's window beyond the most")
            .send(window_update(0, MOST - FIRST_WINDOW + 1))
            .connection_error(OVERFLOW),
        case("6.9.1", "the connection's window beyond the most, at once")
            .send(window_update(0, MOST))
            .connection_error(OVERFLOW),
        case(
            "6.9.1",
            "the connection's window beyond the most, in two steps",
        )
        .send([window_update(0, MOST - FIRST_WINDOW), window_update(0, 1)].concat())
        .connection_error(OVERFLOW),
        case("6.9.1", "a stream's window up to the most")
            .send([post(1), window_update(1, MOST - FIRST_WINDOW)].concat())
            .ignored(),
        case("6.9.1", "a stream's window beyond the most")
            .send([post(1), window_update(1, MOST - FIRST_WINDOW + 1)].concat())
            .stream_error(OVERFLOW),
        case("6.9.1", "a stream's window beyond the most, in two steps")
            .send(
                [
                    post(1),
                    window_update(1, MOST - FIRST_WINDOW),
                    window_update(1, 1),
                ]
                .concat(),
            )
            .stream_error(OVERFLOW),
        case(
            "6.9.2",
            "settings that lift a stream's window beyond the most",
        )
        .send(
            [
                post(1),
                window_update(1, MOST - FIRST_WINDOW),
                window(FIRST_WINDOW + 1),
            ]
            .concat(),
        )
        .connection_error(OVERFLOW),
        case("6.9.2", "settings that lift a stream's window to the most")
            .send(
                [
                    window(0),
                    post(1),
                    window_update(1, 1),
                    window(MOST - 1 - (1 << 20)),
                ]
                .concat(),
            )
            .ignored(),
    ])
    .await;
}

/// What the gateway lets a client send: on a stream, and on a connection.
async fn allowances(peer: &mut Peer) -> (usize, usize) {
    let (mut stream, mut connection) = (FIRST_WINDOW, FIRST_WINDOW);
    peer.send([PREFACE, &settings(&[])].concat()).await;
    // An acknowledgement overtakes what was to be said before it, but for what was said already.
    let mut marks = 2;
    peer.mark().await;
    while marks > 0 {
        let frame = peer.expect("its settings", |_| true).await;
        match frame.kind {
            SETTINGS => {
                for setting in frame.payload.chunks(6) {
                    if setting[..2] == INITIAL_WINDOW_SIZE.to_be_bytes() {
                        stream = u32::from_be_bytes(*setting[2..].first_chunk().expect("a value"));
                    }
                }
            }
            WINDOW_UPDATE => connection += frame.number(0),
            _ if Peer::is_mark(&frame) => {
                marks -= 1;
                peer.mark().await;
            }
            _ => {}
        }
    }
    let size = |window| usize::try_from(window).expect("31 bits");
    (size(stream), size(connection))
}

/// Sends bodies in one breath, to streams 1, 3 and so on; tells who was told about overflow, if
/// anyone was. What the gateway reads in between it gives back, and then there was none.
async fn overflow(gateway: &Gateway, bodies: &[Vec<u8>]) -> Option<Frame> {
    let mut peer = Peer::greeted(gateway.address()).await;
    let streams = (1..).step_by(2);
    let requests = streams.zip(bodies).map(|(stream, body)| {
        let pieces = body.chunks(LARGEST_FRAME);
        let pieces: Vec<_> = pieces.map(|piece| data(stream, piece)).collect();
        [post(stream), pieces.concat(), last_data(stream, "")].concat()
    });
    peer.send(requests.collect::<Vec<_>>().concat()).await;
    let is_word = |frame: &Frame| frame.kind == GOAWAY || frame.kind == RST_STREAM;
    let word = peer.find(|frame| is_word(frame) || frame.ends_stream());
    let word = word.await.expect("a first word about these requests");
    (is_word(&word) && word.code() == Code::FLOW_CONTROL_ERROR).then_some(word)
}

/// Tries until the gateway was too slow to give back in time.
async fn overflow_in_the_end(gateway: &Gateway, bodies: &[Vec<u8>]) -> Frame {
    for _ in 0..50 {
        if let Some(objection) = overflow(gateway, bodies).await {
            return objection;
        }
    }
    panic!("the gateway takes whatever it is sent");
}

#[tokio::test]
async fn more_than_the_windows_allow_is_refused_6_9_1() {
    let gateway = Gateway::start().await;
    let mut peer = Peer::connect(gateway.address()).await;
    let (stream, connection) = allowances(&mut peer).await;
    let body = |length| vec![b' '; length];
    let one = overflow_in_the_end(&gateway, &[body(stream.min(connection) + 1)]).await;
    assert!(one.kind == GOAWAY || one.stream == 1, "{one:?}");
    // Each within its own window, and all together beyond the connection's.
    let share = stream.min(connection) / 2 + 1;
    let bodies = vec![body(share); connection / share + 1];
    let all = overflow_in_the_end(&gateway, &bodies).await;
    assert_eq!(all.kind, GOAWAY);
}

/// The next DATA of a stream; none if the gateway has nothing it may send.
async fn next_data(peer: &mut Peer, stream: u32) -> Option<Frame> {
    peer.mark().await;
    let of_stream = |frame: &Frame| frame.kind == DATA && frame.stream == stream;
    let next = peer
        .find(|frame| of_stream(frame) || Peer::is_mark(frame))
        .await;
    let next = next.expect("one or the other");
    (next.kind == DATA).then_some(next)
}

/// How many bytes of a stream's answer come up to its end.
async fn rest_of(peer: &mut Peer, stream: u32) -> usize {
    let mut length = 0;
    loop {
        let of_stream = |frame: &Frame| frame.kind == DATA && frame.stream == stream;
        let data = peer.expect("more", of_stream).await;
        length += data.payload.len();
        if data.ends_stream() {
            return length;
        }
    }
}

/// A client that lets no answer come yet, and one answer's length.
async fn held_back(gateway: &Gateway) -> (Peer, usize) {
    let mut peer = Peer::greeted(gateway.address()).await;
    peer.send(get(1)).await;
    let length = rest_of(&mut peer, 1).await;
    assert!(length > 100, "{length}");
    peer.send([window(0), get(3)].concat()).await;
    peer.expect("a head", |frame| frame.stream == 3).await;
    let early = next_data(&mut peer, 3).await;
    assert!(early.is_none(), "{early:?}");
    (peer, length)
}

#[tokio::test]
async fn no_more_is_sent_than_the_client_takes_6_9_1() {
    let gateway = Gateway::start().await;
    let (mut peer, length) = held_back(&gateway).await;
    peer.send(window_update(3, 1)).await;
    let one = peer.expect("a byte", |frame| frame.kind == DATA).await;
    assert_eq!((one.stream, one.payload.len()), (3, 1));
    assert!(!one.ends_stream());
    let more = next_data(&mut peer, 3).await;
    assert!(more.is_none(), "{more:?}");
    peer.send(window_update(3, 1000)).await;
    assert_eq!(rest_of(&mut peer, 3).await, length - 1);
    peer.assert_served(5).await;
}

#[tokio::test]
async fn settings_change_the_windows_of_open_streams_6_9_2() {
    let gateway = Gateway::start().await;
    let (mut peer, length) = held_back(&gateway).await;
    peer.send(window(2)).await;
    let two = peer.expect("two bytes", |frame| frame.kind == DATA).await;
    assert_eq!(two.payload.len(), 2);
    let more = next_data(&mut peer, 3).await;
    assert!(more.is_none(), "{more:?}");
    peer.send(window(FIRST_WINDOW)).await;
    assert_eq!(rest_of(&mut peer, 3).await, length - 2);
}

#[tokio::test]
async fn a_window_may_be_below_zero_for_a_while_6_9_2() {
    let gateway = Gateway::start().await;
    let (mut peer, length) = held_back(&gateway).await;
    peer.send(window(10)).await;
    let ten = peer.expect("ten bytes", |frame| frame.kind == DATA).await;
    assert_eq!(ten.payload.len(), 10);
    // Ten were sent: the window is at 4 - 10 now.
    peer.send([window(4), window_update(3, 6)].concat()).await;
    let none = next_data(&mut peer, 3).await;
    assert!(none.is_none(), "{none:?}");
    peer.send(window_update(3, 1)).await;
    let one = peer.expect("one byte", |frame| frame.kind == DATA).await;
    assert_eq!(one.payload.len(), 1);
    peer.send(window_update(3, 1000)).await;
    assert_eq!(rest_of(&mut peer, 3).await, length - 11);
}

#[tokio::test]
async fn of_a_setting_given_twice_the_last_one_counts_6_5_3() {
    let gateway = Gateway::start().await;
    let (mut peer, _) = held_back(&gateway).await;
    peer.send(settings(&[
        (INITIAL_WINDOW_SIZE, 100),
        (INITIAL_WINDOW_SIZE, 1),
    ]))
    .await;
    let one = peer.expect("one byte", |frame| frame.kind == DATA).await;
    assert_eq!(one.payload.len(), 1);
}

#[tokio::test]
async fn the_connections_window_bounds_all_streams_and_no_setting_changes_it_6_9_2() {
    let gateway = Gateway::start().await;
    let mut peer = Peer::greeted(gateway.address()).await;
    peer.send(get(1)).await;
    let length = rest_of(&mut peer, 1).await;
    peer.send(window(MOST / 2)).await;
    let left = usize::try_from(FIRST_WINDOW).expect("16 bits") - length;
    // Answers that fit into what is left, and one that does not.
    let mut stream = 3;
    for _ in 0..left / length {
        peer.send(get(stream)).await;
        assert_eq!(rest_of(&mut peer, stream).await, length);
        stream += 2;
    }
    peer.send(get(stream)).await;
    let begun = peer.expect("what fits", |frame| frame.kind == DATA).await;
    assert_eq!(begun.payload.len(), left % length);
    let more = next_data(&mut peer, stream).await;
    assert!(more.is_none(), "{more:?}");
    peer.send(window_update(0, 1000)).await;
    assert_eq!(rest_of(&mut peer, stream).await, length - left % length);
}

#[tokio::test]
async fn what_is_read_or_ignored_is_given_back_5_2() {
    // Several times the connection's window, as a body that is too large, half of it padding: if
    // what is read, and what is ignored after the refusal, were not given back, this would stop.
    let gateway = Gateway::start().await;
    let mut peer = Peer::connect(gateway.address()).await;
    let (_, connection) = allowances(&mut peer).await;
    let filling = frame(DATA, PADDED, 1, padded(vec![b' '; 256], 255));
    let (mut sent, mut credit) = (0, connection);
    peer.send(post(1)).await;
    while sent < 3 * connection {
        while credit < 16 * 512 {
            let update = |frame: &Frame| frame.kind == WINDOW_UPDATE && frame.stream == 0;
            let update = peer.expect("room", update).await;
            credit += usize::try_from(update.number(0)).expect("31 bits");
        }
        peer.send(filling.repeat(16)).await;
        (sent, credit) = (sent + 16 * 512, credit - 16 * 512);
    }
    peer.send(last_data(1, QUESTION)).await;
    peer.assert_served(1001).await;
}
