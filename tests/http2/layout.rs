//! How a connection begins, and how frames and header blocks are laid out (RFC 9113 §3.4, §4, §5.5).

use crate::support::case::run;
use crate::support::frame::{
    ACK, CONTINUATION, ENABLE_PUSH, END_HEADERS, HEADERS, LARGEST_FRAME, MAX_CONCURRENT_STREAMS,
    MAX_FRAME_SIZE, MAX_HEADER_LIST_SIZE, PADDED, PING, PRIORITISED, SETTINGS, WHOLE, data,
    last_data, ping, priority, settings, window_update,
};
use crate::support::hpack::{GET, MISS, QUESTION, block, get, indexed, literal, post, string};
use crate::support::peer::PREFACE;
use crate::support::{Code, Gateway, Peer, case, frame};

const PROTOCOL: &[Code] = &[Code::PROTOCOL_ERROR];
const FRAME_SIZE: &[Code] = &[Code::FRAME_SIZE_ERROR];

#[tokio::test]
async fn a_connection_begins_with_the_preface_and_settings() {
    let begin = |name| case("3.4", name).before_the_preface();
    run(vec![
        begin("another method in the preface")
            .send("GET * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .closed(),
        begin("another version in the preface")
            .send("PRI * HTTP/2.1\r\n\r\nSM\r\n\r\n")
            .closed(),
        begin("the preface with another end")
            .send("PRI * HTTP/2.0\r\n\r\nSM\r\n\rX")
            .closed(),
        begin("no preface").send(settings(&[])).closed(),
        begin("the preface twice")
            .send([PREFACE, PREFACE].concat())
            .connection_error(&[Code::PROTOCOL_ERROR, Code::FRAME_SIZE_ERROR]),
        begin("a request before settings")
            .send([PREFACE, &get(1)].concat())
            .connection_error(PROTOCOL),
        begin("a ping before settings")
            .send([PREFACE, &ping([0; 8])].concat())
            .connection_error(PROTOCOL),
        begin("a window update before settings")
            .send([PREFACE, &window_update(0, 1)].concat())
            .connection_error(PROTOCOL),
        begin("an unknown frame before settings")
            .send([PREFACE, &frame(0xbe, 0, 0, "?")].concat())
            .connection_error(PROTOCOL),
        begin("an acknowledgement before settings")
            .send([PREFACE, &frame(SETTINGS, ACK, 0, [])].concat())
            .connection_error(PROTOCOL),
        begin("empty settings")
            .send([PREFACE, &settings(&[]), &get(1)].concat())
            .answer(200),
        begin("requests before the gateway's settings are acknowledged")
            .send([PREFACE, &settings(&[]), &get(1), &get(3)].concat())
            .on_stream(3)
            .answer(200),
    ])
    .await;
}

#[tokio::test]
async fn the_gateway_begins_with_its_settings_and_says_what_it_takes_3_4() {
    let gateway = Gateway::start().await;
    let mut peer = Peer::connect(gateway.address()).await;
    peer.send([PREFACE, &settings(&[])].concat()).await;
    let first = peer.expect("a frame", |_| true).await;
    assert_eq!((first.kind, first.flags, first.stream), (SETTINGS, 0, 0));
    let announced = |id: u16| {
        let mut pairs = first.payload.chunks(6);
        let at = pairs.position(|pair| pair[..2] == id.to_be_bytes());
        at.map(|index| first.number(index * 6 + 2))
    };
    assert_eq!(announced(MAX_CONCURRENT_STREAMS), Some(100));
    // Twice what is served: what lies between gets an answer that says so.
    assert_eq!(announced(MAX_HEADER_LIST_SIZE), Some(32 * 1024));
    let largest = announced(MAX_FRAME_SIZE).and_then(|size| usize::try_from(size).ok());
    assert_eq!(largest.unwrap_or(LARGEST_FRAME), LARGEST_FRAME);
    // A server must not announce that it takes pushes (section 6.5.2).
    assert!(matches!(announced(ENABLE_PUSH), None | Some(0)));
}

#[tokio::test]
async fn frames_of_any_layout_are_told_apart() {
    run(vec![
        case("4.1", "a frame of an unknown type on the connection")
            .send(frame(0xbe, 0xff, 0, "what is this"))
            .ignored(),
        case("4.1", "a frame of an unknown type on an idle stream")
            .send(frame(0xbe, 0, 5, "what is this"))
            .ignored(),
        case("4.1", "a frame of an unknown type on an open stream")
            .send([post(1), frame(0xbe, 0, 1, "?"), last_data(1, QUESTION)].concat())
            .answer(200),
        case("4.1", "flags that a PING does not have")
            .send(frame(PING, 0xfe, 0, [0; 8]))
            .ignored(),
        case("4.1", "flags that SETTINGS do not have")
            .send(frame(SETTINGS, 0xfe, 0, []))
            .ignored(),
        case("4.1", "flags that HEADERS do not have")
            .send(frame(HEADERS, WHOLE | 0xd2, 1, block(&GET)))
            .answer(200),
        case("4.1", "the reserved bit of a request's stream")
            .send(frame(HEADERS, WHOLE, 1 | 1 << 31, block(&GET)))
            .answer(200),
        case("4.1", "the reserved bit of the connection's stream")
            .send(frame(PING, 0, 1 << 31, [0; 8]))
            .ignored(),
        case("4.1", "the reserved bit of an increment")
            .send(window_update(0, 1 | 1 << 31))
            .ignored(),
        case("5.5", "an unknown frame inside a header block")
            .send(headers_cut_by(&frame(0xbe, 0, 1, "?")))
            .connection_error(PROTOCOL),
        case(
            "5.5",
            "an unknown frame of the connection inside a header block",
        )
        .send(headers_cut_by(&frame(0xbe, 0, 0, "?")))
        .connection_error(PROTOCOL),
    ])
    .await;
}

#[tokio::test]
async fn frames_have_the_size_they_must_have() {
    let large = vec![b' '; LARGEST_FRAME];
    let larger = vec![b' '; LARGEST_FRAME + 1];
    // A block of exactly the largest frame's size.
    let padding = LARGEST_FRAME - block(&GET).len() - literal("x", "").len() - 2;
    let filled = [block(&GET), literal("x", "y".repeat(padding))].concat();
    assert_eq!(filled.len(), LARGEST_FRAME);
    let one_more = [block(&GET), literal("x", "y".repeat(padding + 1))].concat();
    run(vec![
        case("4.2", "DATA of the largest size")
            .send([post(1), data(1, &large), last_data(1, QUESTION)].concat())
            .answer(200),
        case("4.2", "DATA beyond the largest size")
            .send([post(1), data(1, &larger)].concat())
            .stream_error(FRAME_SIZE),
        case("4.2", "HEADERS beyond the largest size")
            .send(frame(HEADERS, WHOLE, 1, one_more))
            .connection_error(FRAME_SIZE),
        case("4.2", "HEADERS of the largest size")
            .send(frame(HEADERS, WHOLE, 1, filled))
            .answer(200),
        case("4.2", "CONTINUATION beyond the largest size")
            .send(frame(HEADERS, 1, 1, block(&MISS)))
            .send(frame(CONTINUATION, END_HEADERS, 1, &larger))
            .connection_error(FRAME_SIZE),
        case("4.2", "SETTINGS beyond the largest size")
            .send(frame(SETTINGS, 0, 0, vec![0; LARGEST_FRAME / 6 * 6 + 6]))
            .connection_error(FRAME_SIZE),
        case("4.2", "an unknown frame of the largest size")
            .send(frame(0xbe, 0, 0, &large))
            .ignored(),
        case("4.2", "an unknown frame beyond the largest size")
            .send(frame(0xbe, 0, 0, &larger))
            .connection_error(FRAME_SIZE),
        case("4.2", "padded DATA too small for the padding's length")
            .send([post(1), frame(0, PADDED, 1, [])].concat())
            .connection_error(&[Code::FRAME_SIZE_ERROR, Code::PROTOCOL_ERROR]),
        case("4.2", "padded HEADERS too small for the padding's length")
            .send(frame(HEADERS, WHOLE | PADDED, 1, []))
            .connection_error(&[Code::FRAME_SIZE_ERROR, Code::PROTOCOL_ERROR]),
        case("4.2", "HEADERS too small for their priority")
            .send(frame(HEADERS, WHOLE | PRIORITISED, 1, [0; 4]))
            .wrong_size(),
        case("4.2", "HEADERS too small for their padding and priority")
            .send(frame(HEADERS, WHOLE | PRIORITISED | PADDED, 1, [0; 5]))
            .wrong_size(),
    ])
    .await;
}

#[tokio::test]
async fn header_blocks_come_in_one_piece() {
    let mut cases = vec![
        case("4.3", "an index of no entry")
            .send(frame(
                HEADERS,
                WHOLE,
                1,
                [block(&MISS), indexed(200)].concat(),
            ))
            .unreadable(),
        case("4.3", "a block that ends inside a field")
            .send(frame(
                HEADERS,
                WHOLE,
                1,
                [block(&MISS), vec![0x00], string("x-cut")].concat(),
            ))
            .unreadable(),
        case("4.3", "a broken block in trailers")
            .send(
                [
                    post(1),
                    data(1, QUESTION),
                    frame(HEADERS, WHOLE, 1, indexed(200)),
                ]
                .concat(),
            )
            .unreadable(),
    ];
    let between: [(&'static str, Vec<u8>); 8] = [
        ("DATA", data(1, "?")),
        ("other HEADERS", get(3)),
        ("HEADERS once more", get(1)),
        ("PRIORITY", priority(1, 0)),
        ("SETTINGS", settings(&[])),
        ("PING", ping([0; 8])),
        ("WINDOW_UPDATE", window_update(0, 1)),
        (
            "CONTINUATION of another stream",
            frame(CONTINUATION, END_HEADERS, 3, []),
        ),
    ];
    for (name, bytes) in between {
        cases.push(
            case("4.3", name)
                .send(headers_cut_by(&bytes))
                .connection_error(PROTOCOL),
        );
    }
    run(cases).await;
}

/// A header block with something between its two frames.
fn headers_cut_by(bytes: &[u8]) -> Vec<u8> {
    let block = block(&MISS);
    let (first, second) = block.split_at(block.len() / 2);
    [
        frame(HEADERS, 1, 1, first),
        bytes.to_vec(),
        frame(CONTINUATION, END_HEADERS, 1, second),
    ]
    .concat()
}
