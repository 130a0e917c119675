//! Header blocks that cannot be read (RFC 7541), and some that can.

use crate::support::case::run;
use crate::support::frame::{CONTINUATION, END_HEADERS, END_STREAM, HEADERS, WHOLE};
use crate::support::hpack::{
    GET, MISS, block, coded, indexed, integer, literal, remembered, string, table_size,
};
use crate::support::{Case, Code, Outcome, case, frame};

/// The first entry of the dynamic table; those before it never change (§2.3.3).
const FIRST: usize = 62;

/// A good request, and bytes after it.
fn good_and(section: &'static str, name: &'static str, rest: &[u8]) -> Case {
    let block = [&block(&GET)[..], rest].concat();
    case(section, name).send(frame(HEADERS, WHOLE, 1, block))
}

/// A request that would miss, and bytes after it.
fn then(section: &'static str, name: &'static str, rest: &[u8]) -> Case {
    let block = [&block(&MISS)[..], rest].concat();
    case(section, name).send(frame(HEADERS, WHOLE, 1, block))
}

/// Bytes, and a request that would miss.
fn first(section: &'static str, name: &'static str, front: &[u8]) -> Case {
    let block = [front, &block(&MISS)].concat();
    case(section, name).send(frame(HEADERS, WHOLE, 1, block))
}

#[tokio::test]
async fn an_index_is_one_of_an_entry() {
    let named = |before, prefix, index| [integer(before, prefix, index), string("1")].concat();
    run(vec![
        then("6.1", "index 0", &indexed(0)).unreadable(),
        then(
            "2.3.3",
            "an index beyond an empty dynamic table",
            &indexed(FIRST),
        )
        .unreadable(),
        then("2.3.3", "an index far beyond", &indexed(1 << 20)).unreadable(),
        then(
            "2.3.3",
            "a name far beyond, to be remembered",
            &named(0x40, 6, 70),
        )
        .unreadable(),
        then(
            "2.3.3",
            "a name far beyond, not to be remembered",
            &named(0x00, 4, 70),
        )
        .unreadable(),
        then(
            "2.3.3",
            "a name far beyond, never to be remembered",
            &named(0x10, 4, 70),
        )
        .unreadable(),
        then(
            "2.3.3",
            "an index one beyond the only entry",
            &[remembered("x-a", "1"), indexed(FIRST + 1)].concat(),
        )
        .unreadable(),
    ])
    .await;
}

#[tokio::test]
async fn the_dynamic_tables_size_changes_within_the_limit_and_first() {
    run(vec![
        first("6.3", "a size beyond the limit", &table_size(4097)).unreadable(),
        first("6.3", "a size far beyond the limit", &table_size(1 << 24)).unreadable(),
        first(
            "4.2",
            "a size within the limit, then one beyond",
            &[table_size(0), table_size(4097)].concat(),
        )
        .unreadable(),
        then("4.2", "a size at the end of a block", &table_size(1)).unreadable(),
        then(
            "4.2",
            "a size between fields",
            &[table_size(1), literal("x-a", "1")].concat(),
        )
        .unreadable(),
        case("4.2", "a size at the beginning of a block")
            .send(frame(
                HEADERS,
                WHOLE,
                1,
                [table_size(0), block(&GET)].concat(),
            ))
            .answer(200),
        case("4.2", "two sizes at the beginning of a block")
            .send(frame(
                HEADERS,
                WHOLE,
                1,
                [table_size(0), table_size(4096), block(&GET)].concat(),
            ))
            .answer(200),
        case(
            "4.2",
            "a size at the beginning of a second frame, after fields",
        )
        .send(frame(HEADERS, END_STREAM, 1, block(&GET)))
        .send(frame(CONTINUATION, END_HEADERS, 1, table_size(1)))
        .connection_error(&[Code::COMPRESSION_ERROR])
        .known(
            Outcome::Ignored,
            "the library takes each frame for the beginning of a block",
        ),
    ])
    .await;
}

#[tokio::test]
async fn the_dynamic_table_keeps_what_fits_into_it() {
    let kept = frame(
        HEADERS,
        WHOLE,
        1,
        [block(&GET), remembered("x-a", "1")].concat(),
    );
    let again = |front: &[u8]| {
        frame(
            HEADERS,
            WHOLE,
            3,
            [front, &block(&GET), &indexed(FIRST)].concat(),
        )
    };
    let large = remembered("x-large", "1".repeat(4096));
    run(vec![
        case("2.3.2", "an entry of an earlier request")
            .send([&kept[..], &again(&[])].concat())
            .on_stream(3)
            .answer(200),
        case("4.3", "an entry that no table of this size can hold")
            .send([&kept[..], &again(&table_size(0))].concat())
            .unreadable(),
        case("4.3", "an entry that a table of no size has let go")
            .send(
                [
                    &kept[..],
                    &again(&[table_size(0), table_size(4096)].concat()),
                ]
                .concat(),
            )
            .unreadable(),
        case("4.4", "an entry that a larger one has driven out")
            .send(
                [
                    &kept[..],
                    &frame(
                        HEADERS,
                        WHOLE,
                        3,
                        [block(&GET), large, indexed(FIRST)].concat(),
                    ),
                ]
                .concat(),
            )
            .unreadable(),
    ])
    .await;
}

#[tokio::test]
async fn integers_and_strings_end_where_they_must() {
    let endless = |first: u8| [vec![first], vec![0x80; 20], vec![0x01]].concat();
    let largest = |first: u8| [vec![first], vec![0xff; 9], vec![0x7f]].concat();
    run(vec![
        then("5.1", "an index without end", &endless(0xff)).unreadable(),
        then("5.1", "an index beyond counting", &largest(0xff)).unreadable(),
        then("5.1", "an index cut off", &[0xff]).unreadable(),
        then("5.1", "an index cut off later", &[0xff, 0x80, 0x80]).unreadable(),
        then("5.1", "the index of a name without end", &endless(0x7f)).unreadable(),
        then("5.1", "the index of a name beyond counting", &largest(0x0f)).unreadable(),
        first("5.1", "a size without end", &endless(0x3f)).unreadable(),
        first("5.1", "a size beyond counting", &largest(0x3f)).unreadable(),
        then(
            "5.2",
            "a length without end",
            &[vec![0x00], endless(0x7f)].concat(),
        )
        .unreadable(),
        then(
            "5.2",
            "a length beyond counting",
            &[vec![0x00], largest(0x7f)].concat(),
        )
        .unreadable(),
        then("5.2", "a name beyond the block", &[0x00, 0x05, b'x']).unreadable(),
        then(
            "5.2",
            "a value beyond the block",
            &[&[0x00][..], &string("x"), &[0x05, b'1']].concat(),
        )
        .unreadable(),
        then(
            "5.2",
            "a coded value beyond the block",
            &[&[0x00][..], &string("x"), &[0x85, 0x0f]].concat(),
        )
        .unreadable(),
        then(
            "6.2.1",
            "a literal without its value",
            &[&[0x40][..], &string("x")].concat(),
        )
        .unreadable(),
        then("6.2.2", "a literal without its name", &[0x00]).unreadable(),
        then("6.2.3", "a literal without anything", &[0x10]).unreadable(),
        good_and(
            "5.1",
            "an index written longer than it must be",
            &[0x1f, 0x80, 0x80, 0x00, 0x01, b'1'],
        )
        .answer(200),
    ])
    .await;
}

#[tokio::test]
async fn coded_strings_are_padded_as_they_must_be() {
    // Five bits of zero are a `0`, 00001 are a `1`; ones are padding (§ appendix B).
    let value = |code: &[u8]| [&[0x00][..], &string("x-coded"), &coded(code)].concat();
    let name = |code: &[u8]| [&[0x00][..], &coded(code), &string("1")].concat();
    run(vec![
        good_and("5.2", "padding of three bits", &value(&[0b0000_0111])).answer(200),
        good_and("5.2", "no padding", &value(&[0, 0, 0, 0, 0])).answer(200),
        good_and("5.2", "no bytes", &value(&[])).answer(200),
        then(
            "5.2",
            "padding of more than seven bits",
            &value(&[0b0000_0111, 0xff]),
        )
        .unreadable(),
        then(
            "5.2",
            "padding of eight bits",
            &value(&[0, 0, 0, 0, 0, 0xff]),
        )
        .unreadable(),
        then("5.2", "nothing but padding", &value(&[0xff])).unreadable(),
        then("5.2", "padding with zeros", &value(&[0b0000_1000])).unreadable(),
        then(
            "5.2",
            "padding with a zero at its end",
            &value(&[0b0000_0110]),
        )
        .unreadable(),
        then(
            "5.2",
            "the end of string as a symbol",
            &value(&[0xff, 0xff, 0xff, 0xff]),
        )
        .unreadable(),
        then(
            "5.2",
            "the end of string inside a value",
            &value(&[0b0000_0111, 0xff, 0xff, 0xff, 0xe0]),
        )
        .unreadable(),
        then(
            "5.2",
            "padding of more than seven bits in a name",
            &name(&[0b0000_0111, 0xff]),
        )
        .unreadable(),
        then(
            "5.2",
            "the end of string in a name",
            &name(&[0xff, 0xff, 0xff, 0xff]),
        )
        .unreadable(),
        // 'X' has eight bits, 11111100.
        then("5.2", "a coded name in upper case", &name(&[0xfc])).malformed(),
    ])
    .await;
}

#[tokio::test]
async fn a_refused_requests_fields_are_remembered_all_the_same() {
    // The table is the connection's: all other requests are read with it (RFC 9113 §4.3).
    let forbidden = literal("connection", "close");
    let refused = [block(&MISS), forbidden, remembered("x-a", "1")].concat();
    let large = [
        block(&MISS),
        remembered("x-a", "1"),
        literal("x", "1".repeat(17_000)),
    ]
    .concat();
    let (front, back) = large.split_at(10_000);
    let next = [block(&GET), indexed(FIRST)].concat();
    run(vec![
        case("2.2", "a malformed request, and then its entry")
            .send(frame(HEADERS, WHOLE, 1, refused))
            .send(frame(HEADERS, WHOLE, 3, &next))
            .on_stream(3)
            .answer(200),
        case("2.2", "a request that is too large, and then its entry")
            .send(frame(HEADERS, END_STREAM, 1, front))
            .send(frame(CONTINUATION, END_HEADERS, 1, back))
            .send(frame(HEADERS, WHOLE, 3, &next))
            .on_stream(3)
            .answer(200),
    ])
    .await;
}
