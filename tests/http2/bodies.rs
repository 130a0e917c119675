//! Heads, bodies and ends that do not fit together (RFC 9113 §8.1).

use crate::support::case::run;
use crate::support::frame::{END_HEADERS, HEADERS, WHOLE, data, frame, last_data};
use crate::support::hpack::{Field, GET, MISS, POST, QUESTION, block, post};
use crate::support::{Outcome, case};

const DROPPED: &str = "the library drops them before anyone can see them; nothing is made of them";

#[tokio::test]
async fn a_request_is_a_head_a_body_and_an_end() {
    let trailers = |flags, fields: &[Field<'_>]| frame(HEADERS, flags, 1, block(fields));
    run(vec![
        case("8.1", "a second head, without the end")
            .send([post(1), post(1)].concat())
            .malformed(),
        case("8.1", "trailers without the end")
            .send(
                [
                    post(1),
                    data(1, QUESTION),
                    trailers(END_HEADERS, &[("x-end", "1")]),
                ]
                .concat(),
            )
            .malformed(),
        case("8.1", "DATA after trailers")
            .send([post(1), trailers(WHOLE, &[("x-end", "1")]), data(1, "?")].concat())
            .after_the_end(),
        case("8.1", "trailers with a pseudo-header field")
            .send([post(1), data(1, QUESTION), trailers(WHOLE, &[GET[0]])].concat())
            .malformed()
            .known(Outcome::Answer(200), DROPPED),
        case("8.1", "a whole request as trailers")
            .send([post(1), data(1, QUESTION), trailers(WHOLE, &MISS)].concat())
            .malformed()
            .known(Outcome::Answer(200), DROPPED),
        case("8.1", "trailers with an upper-case name")
            .send(
                [
                    post(1),
                    data(1, QUESTION),
                    trailers(WHOLE, &[("X-End", "1")]),
                ]
                .concat(),
            )
            .malformed(),
        case("8.1", "trailers with a field of the connection")
            .send(
                [
                    post(1),
                    data(1, QUESTION),
                    trailers(WHOLE, &[("connection", "close")]),
                ]
                .concat(),
            )
            .malformed(),
    ])
    .await;
}

#[tokio::test]
async fn a_body_is_as_long_as_it_was_said_to_be_8_1_1() {
    let said = |name, lengths: &[&str], rest: &[Vec<u8>]| {
        let lengths = lengths.iter().map(|length| ("content-length", *length));
        let fields: Vec<_> = POST.into_iter().chain(lengths).collect();
        let head = frame(HEADERS, END_HEADERS, 1, block(&fields));
        case("8.1.1", name).send([head, rest.concat()].concat())
    };
    let unended = |length| {
        let fields = [&GET[..], &[("content-length", length)]].concat();
        frame(HEADERS, WHOLE, 1, block(&fields))
    };
    let length = QUESTION.len().to_string();
    let whole = [last_data(1, QUESTION)];
    let (front, back) = QUESTION.split_at(7);
    let halves = [data(1, front), last_data(1, back)];
    let ended = [
        data(1, QUESTION),
        frame(HEADERS, WHOLE, 1, block(&[("x-end", "1")])),
    ];
    run(vec![
        said("more than was said", &["5"], &whole).malformed(),
        said("more than was said, in two pieces", &["10"], &halves).malformed(),
        said("more than nothing", &["0"], &whole).malformed(),
        said("less than was said", &["100"], &whole).malformed(),
        said("less than was said, in two pieces", &["100"], &halves).malformed(),
        said("less than was said, before trailers", &["100"], &ended).malformed(),
        said(
            "nothing, when something was said",
            &["5"],
            &[last_data(1, "")],
        )
        .malformed(),
        said("two lengths", &[&length, "5"], &whole).malformed(),
        said("a length that is no number", &["x"], &whole).malformed(),
        said("a length with a sign", &["+18"], &whole).malformed(),
        said("a length below zero", &["-1"], &whole).malformed(),
        said("a length in hexadecimal", &["0x12"], &whole).malformed(),
        said("an empty length", &[""], &whole).malformed(),
        said(
            "a length beyond counting",
            &["18446744073709551634"],
            &whole,
        )
        .malformed(),
        case("8.1.1", "a length, and no body")
            .send(unended("5"))
            .malformed(),
        said("the length", &[&length], &whole).answer(200),
        said("the length, in two pieces", &[&length], &halves).answer(200),
        said("the length, before trailers", &[&length], &ended).answer(200),
        case("8.1.1", "a length of nothing, and no body")
            .send(unended("0"))
            .answer(200),
    ])
    .await;
}
