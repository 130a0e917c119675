//! What a well-behaved client may do, in every form it may do it in.

use crate::support::case::run;
use crate::support::frame::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, HEADERS, MAX_FRAME_SIZE, PADDED, WHOLE, data,
    last_data, padded, settings,
};
use crate::support::hpack::{
    Field, GET, LOOKUP, PERSON, POST, QUESTION, block, coded, get, indexed, integer, literal, post,
    remembered, string, table_size,
};
use crate::support::{Case, Frame, Gateway, Peer, case, frame};

fn only(name: &'static str, fields: &[Field<'_>]) -> Case {
    case("8", name).send(frame(HEADERS, WHOLE, 1, block(fields)))
}

/// A request in a block of these bytes.
fn head(section: &'static str, name: &'static str, block: &[Vec<u8>]) -> Case {
    case(section, name).send(frame(HEADERS, WHOLE, 1, block.concat()))
}

#[tokio::test]
async fn requests_are_answered() {
    let [method, scheme, authority, path] = GET;
    run(vec![
        only("GET", &GET).answer(200),
        only("HEAD", &[(":method", "HEAD"), scheme, authority, path]).answer(200),
        only(
            "pseudo-header fields in another order",
            &[path, authority, scheme, method],
        )
        .answer(200),
        only(
            "https for a scheme",
            &[method, (":scheme", "https"), authority, path],
        )
        .answer(200),
        only(
            "a host in place of an authority",
            &[method, scheme, path, ("host", "gateway")],
        )
        .answer(200),
        only(
            "a host that is the authority",
            &[method, scheme, authority, path, ("host", "gateway")],
        )
        .answer(200),
        only(
            "an authority with a port",
            &[method, scheme, (":authority", "gateway:8080"), path],
        )
        .answer(200),
    ])
    .await;
}

#[tokio::test]
async fn fields_and_paths_may_be_any() {
    let [method, scheme, authority, path] = GET;
    let cookies = [("cookie", "a=1"), ("cookie", "b=2")];
    run(vec![
        only("cookies in pieces", &[&GET[..], &cookies].concat()).answer(200),
        only(
            "an empty value",
            &[method, scheme, authority, path, ("x-empty", "")],
        )
        .answer(200),
        only(
            "a value with blanks inside",
            &[method, scheme, authority, path, ("x-words", "a \t b")],
        )
        .answer(200),
        only(
            "no such path",
            &[method, scheme, authority, (":path", "/nowhere")],
        )
        .answer(404),
        only(
            "no such method here",
            &[method, scheme, authority, (":path", LOOKUP)],
        )
        .answer(405),
    ])
    .await;
}

#[tokio::test]
async fn bodies_are_read_in_any_pieces() {
    let end = frame(HEADERS, WHOLE, 1, block(&[("x-end", "1")]));
    run(vec![
        case("8", "GET with an end of its own")
            .send(
                [
                    frame(HEADERS, END_HEADERS, 1, block(&GET)),
                    last_data(1, ""),
                ]
                .concat(),
            )
            .answer(200),
        case("8", "POST")
            .send([post(1), last_data(1, QUESTION)].concat())
            .answer(200),
        case("8", "POST with an end of its own")
            .send([post(1), data(1, QUESTION), last_data(1, "")].concat())
            .answer(200),
        case("8", "POST byte by byte")
            .send(
                [
                    post(1),
                    QUESTION.iter().flat_map(|byte| data(1, [*byte])).collect(),
                    last_data(1, ""),
                ]
                .concat(),
            )
            .answer(200),
        case("8", "POST with padding")
            .send(
                [
                    post(1),
                    frame(DATA, PADDED | END_STREAM, 1, padded(QUESTION, 100)),
                ]
                .concat(),
            )
            .answer(200),
        case("8", "POST with trailers")
            .send([post(1), data(1, QUESTION), end].concat())
            .answer(200),
        case("8", "POST of nothing")
            .send(frame(HEADERS, WHOLE, 1, block(&POST)))
            .answer(400),
    ])
    .await;
}

/// A field whose name is an entry's, after the bits that say what to do with it.
fn by_index(before: u8, prefix: u32, index: usize, value: Vec<u8>) -> Vec<u8> {
    [integer(before, prefix, index), value].concat()
}

/// GET, http, and an authority: entries 2 and 6, and the name of entry 1.
fn front() -> Vec<u8> {
    let authority = by_index(0x00, 4, 1, string("gateway"));
    [indexed(2), indexed(6), authority].concat()
}

/// The path, by the name of entry 4.
fn path() -> Vec<u8> {
    by_index(0x00, 4, 4, string(PERSON))
}

#[tokio::test]
async fn header_fields_are_read_in_every_representation() {
    run(vec![
        head("6.1", "indexed", &[front(), path()]).answer(200),
        head(
            "6.2.1",
            "a literal to be remembered, by an index",
            &[front(), by_index(0x40, 6, 4, string(PERSON))],
        )
        .answer(200),
        head(
            "6.2.1",
            "a literal to be remembered, by its name",
            &[front(), path(), remembered("x-a", "1")],
        )
        .answer(200),
        head(
            "6.2.2",
            "a literal, by an index",
            &[front(), path(), by_index(0x00, 4, 19, string("*/*"))],
        )
        .answer(200),
        head(
            "6.2.2",
            "a literal, by its name",
            &[front(), path(), literal("x-a", "1")],
        )
        .answer(200),
        head(
            "6.2.3",
            "a literal never to be remembered, by an index",
            &[front(), by_index(0x10, 4, 4, string(PERSON))],
        )
        .answer(200),
        head(
            "6.2.3",
            "a literal never to be remembered, by its name",
            &[
                front(),
                path(),
                [vec![0x10], string("x-a"), string("1")].concat(),
            ],
        )
        .answer(200),
    ])
    .await;
}

#[tokio::test]
async fn header_fields_are_read_by_code_and_by_entry() {
    // RFC 7541 appendix C.4.1: `www.example.com`, for an authority.
    let www = coded(&[
        0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff,
    ]);
    let www = by_index(0x40, 6, 1, www);
    run(vec![
        head(
            "5.2",
            "a coded value",
            &[indexed(2), indexed(6), path(), www],
        )
        .answer(200),
        // Appendix C.4.3: `custom-key`, `custom-value`.
        head(
            "5.2",
            "a coded name",
            &[
                front(),
                path(),
                vec![0x40],
                coded(&[0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xa9, 0x7d, 0x7f]),
                coded(&[0x25, 0xa8, 0x49, 0xe9, 0x5b, 0xb8, 0xe8, 0xb4, 0xbf]),
            ],
        )
        .answer(200),
        head(
            "2.3.3",
            "an entry of the same block",
            &[front(), path(), remembered("x-a", "1"), indexed(62)],
        )
        .answer(200),
        head(
            "2.3.3",
            "the name of an entry of the same block",
            &[
                front(),
                path(),
                remembered("x-a", "1"),
                by_index(0x40, 6, 62, string("2")),
                indexed(62),
                indexed(63),
            ],
        )
        .answer(200),
        head(
            "4.2",
            "sizes, up and down",
            &[table_size(100), table_size(4000), front(), path()],
        )
        .answer(200),
    ])
    .await;
}

#[tokio::test]
async fn an_answer_to_head_is_a_head_alone() {
    let gateway = Gateway::start().await;
    let mut peer = Peer::greeted(gateway.address()).await;
    let [_, scheme, authority, path] = GET;
    let head = block(&[(":method", "HEAD"), scheme, authority, path]);
    peer.send(frame(HEADERS, WHOLE, 1, head)).await;
    let answer = peer.expect("an answer", |frame| frame.stream == 1).await;
    assert!(answer.kind == HEADERS && answer.ends_stream(), "{answer:?}");
    peer.assert_served(3).await;
}

#[tokio::test]
async fn requests_share_a_connection() {
    let gateway = Gateway::start().await;
    let mut peer = Peer::greeted(gateway.address()).await;
    peer.send([post(1), get(3), get(5)].concat()).await;
    for _ in 0..2 {
        let last = peer.expect("an answer", Frame::ends_stream).await;
        assert!(last.stream == 3 || last.stream == 5, "{last:?}");
    }
    peer.send(last_data(1, QUESTION)).await;
    peer.expect("the first one's", |frame| {
        frame.stream == 1 && frame.ends_stream()
    })
    .await;
    peer.assert_served(7).await;
    gateway.assert_nothing_forwarded();
}

#[tokio::test]
async fn bytes_may_come_in_any_pieces() {
    let gateway = Gateway::start().await;
    let mut peer = Peer::greeted(gateway.address()).await;
    let block = block(&GET);
    let (first, second) = block.split_at(9);
    let request = [
        settings(&[(MAX_FRAME_SIZE, 1 << 20)]),
        frame(HEADERS, END_STREAM, 1, first),
        frame(CONTINUATION, END_HEADERS, 1, second),
    ];
    for byte in request.concat() {
        peer.send([byte]).await;
    }
    peer.expect("an answer", |frame| {
        frame.stream == 1 && frame.ends_stream()
    })
    .await;
    peer.finish().await;
}
