//! Requests that are none, however well their frames are made (RFC 9113 §8).

use crate::support::case::run;
use crate::support::frame::{HEADERS, WHOLE, frame};
use crate::support::hpack::{Field, GET, LOOKUP, MISS, NOT_FORWARDED, block, literal};
use crate::support::{Case, Outcome, case};

const METHOD: Field<'static> = (":method", "GET");
const SCHEME: Field<'static> = (":scheme", "http");
const AUTHORITY: Field<'static> = (":authority", "gateway");
const PATH: Field<'static> = (":path", NOT_FORWARDED);

const CUT_OFF: &str = "the library cuts it off before anyone can see it; nothing is made of it";

/// A request of these fields and nothing else.
fn only(section: &'static str, name: &'static str, fields: &[Field<'_>]) -> Case {
    case(section, name).send(frame(HEADERS, WHOLE, 1, block(fields)))
}

/// A good request, and these fields.
fn with(section: &'static str, name: &'static str, fields: &[Field<'_>]) -> Case {
    only(section, name, &[&MISS[..], fields].concat())
}

/// A good request, and a field of any bytes.
fn with_field(section: &'static str, name: &'static str, field: &[u8], value: &[u8]) -> Case {
    let block = [block(&MISS), literal(field, value)].concat();
    case(section, name).send(frame(HEADERS, WHOLE, 1, block))
}

/// Runs requests of these fields, and expects each to be malformed.
async fn malformed(requests: &[(&'static str, &[Field<'_>])]) {
    let requests = requests.iter();
    run(requests
        .map(|(name, fields)| only("8.3", name, fields).malformed())
        .collect())
    .await;
}

#[tokio::test]
async fn names_and_values_are_made_of_what_they_may_be_8_2_1() {
    let name = |name, field| with_field("8.2.1", name, field, b"1");
    let value = |name, value| with_field("8.2.1", name, b"x-value", value);
    run(vec![
        name("an upper-case name", b"X-Upper").malformed(),
        name("one upper-case letter", b"x-uppeR").malformed(),
        name("an upper-case name of HTTP's own", b"Accept").malformed(),
        name("a name with a space", b"x y").malformed(),
        name("a name that ends with a space", b"x ").malformed(),
        name("a name with a tabulator", b"x\ty").malformed(),
        name("a name with a line's end", b"x\r\ny").malformed(),
        name("a name with NUL", b"x\0y").malformed(),
        name("a name with DEL", b"x\x7fy").malformed(),
        name("a name beyond ASCII", b"x\xc3\xa9").malformed(),
        name("a name with a colon", b"x:y").malformed(),
        name("a name that ends with a colon", b"x:").malformed(),
        name("a name that is no token", b"x(y)").malformed(),
        name("no name", b"").malformed(),
        value("a value with NUL", b"a\0b").malformed(),
        value("a value with CR", b"a\rb").malformed(),
        value("a value with LF", b"a\nb").malformed(),
        value("a value with a whole line in it", b"a\r\nhost: b").malformed(),
        value("a value that begins with a space", b" a").malformed(),
        value("a value that begins with a tabulator", b"\ta").malformed(),
        value("a value that ends with a space", b"a ").malformed(),
        value("a value that ends with a tabulator", b"a\t").malformed(),
        value("a value of one space", b" ").malformed(),
    ])
    .await;
}

#[tokio::test]
async fn fields_of_the_connection_are_none_of_a_request_8_2_2() {
    let field = |name, field| with("8.2.2", name, &[field]);
    run(vec![
        field("connection", ("connection", "keep-alive")).malformed(),
        field("connection: close", ("connection", "close")).malformed(),
        field("keep-alive", ("keep-alive", "timeout=5")).malformed(),
        field("proxy-connection", ("proxy-connection", "keep-alive")).malformed(),
        field("transfer-encoding", ("transfer-encoding", "chunked")).malformed(),
        field("upgrade", ("upgrade", "h2c")).malformed(),
        field("te: gzip", ("te", "gzip")).malformed(),
        field("te: trailers and more", ("te", "trailers, deflate;q=0.5")).malformed(),
        field("te in upper case", ("te", "TRAILERS,gzip")).malformed(),
        only(
            "8.2.2",
            "te: trailers",
            &[&GET[..], &[("te", "trailers")]].concat(),
        )
        .answer(200),
    ])
    .await;
}

#[tokio::test]
async fn pseudo_header_fields_are_those_of_a_request_and_come_first_8_3() {
    const EARLY: Field<'static> = ("x-early", "1");
    const PROTOCOL: Field<'static> = (":protocol", "websocket");
    malformed(&[
        (
            "an unknown one",
            &[METHOD, SCHEME, AUTHORITY, PATH, (":test", "ok")],
        ),
        (
            "an unknown one first",
            &[(":test", "ok"), METHOD, SCHEME, AUTHORITY, PATH],
        ),
        (
            "one of answers",
            &[METHOD, SCHEME, AUTHORITY, PATH, (":status", "200")],
        ),
        (
            "one of no name",
            &[METHOD, SCHEME, AUTHORITY, PATH, (":", "1")],
        ),
        (
            "one in upper case",
            &[(":METHOD", "GET"), SCHEME, AUTHORITY, PATH],
        ),
        (
            "one after a field",
            &[METHOD, SCHEME, AUTHORITY, EARLY, PATH],
        ),
        (
            "all after a field",
            &[EARLY, METHOD, SCHEME, AUTHORITY, PATH],
        ),
        (
            "one once more, later",
            &[METHOD, SCHEME, AUTHORITY, PATH, EARLY, PATH],
        ),
        (
            "one that was not offered",
            &[METHOD, SCHEME, AUTHORITY, PATH, PROTOCOL],
        ),
    ])
    .await;
}

#[tokio::test]
async fn no_pseudo_header_field_comes_twice_8_3() {
    malformed(&[
        ("a method", &[METHOD, METHOD, SCHEME, AUTHORITY, PATH]),
        (
            "another method",
            &[METHOD, (":method", "PUT"), SCHEME, AUTHORITY, PATH],
        ),
        ("a scheme", &[METHOD, SCHEME, SCHEME, AUTHORITY, PATH]),
        (
            "another scheme",
            &[METHOD, SCHEME, (":scheme", "https"), AUTHORITY, PATH],
        ),
        (
            "an authority",
            &[METHOD, SCHEME, AUTHORITY, AUTHORITY, PATH],
        ),
        (
            "another authority",
            &[METHOD, SCHEME, AUTHORITY, (":authority", "a"), PATH],
        ),
        ("a path", &[METHOD, SCHEME, AUTHORITY, PATH, PATH]),
        (
            "another path",
            &[METHOD, SCHEME, AUTHORITY, PATH, (":path", "/a")],
        ),
    ])
    .await;
}

#[tokio::test]
async fn a_request_has_a_method_a_scheme_a_path_and_an_authority_8_3_1() {
    malformed(&[
        ("no method", &[SCHEME, AUTHORITY, PATH]),
        ("no scheme", &[METHOD, AUTHORITY, PATH]),
        ("no path", &[METHOD, SCHEME, AUTHORITY]),
        ("no authority", &[METHOD, SCHEME, PATH]),
        ("nothing at all", &[]),
        ("no more than a field", &[("x-alone", "1")]),
        (
            "an empty method",
            &[(":method", ""), SCHEME, AUTHORITY, PATH],
        ),
        (
            "a method with a space",
            &[(":method", "GET /"), SCHEME, AUTHORITY, PATH],
        ),
        (
            "a method with a line's end",
            &[(":method", "GET\r\n"), SCHEME, AUTHORITY, PATH],
        ),
        (
            "an empty scheme",
            &[METHOD, (":scheme", ""), AUTHORITY, PATH],
        ),
        (
            "a scheme that is none",
            &[METHOD, (":scheme", "ht tp"), AUTHORITY, PATH],
        ),
    ])
    .await;
}

#[tokio::test]
async fn a_path_begins_with_a_slash_and_is_nothing_but_a_path_8_3_1() {
    let path = |path| [METHOD, SCHEME, AUTHORITY, (":path", path)];
    malformed(&[
        ("empty", &path("")),
        ("without its slash", &path("api/v1/people/user_2")),
        ("with a space", &path("/api/v1/people/user 2")),
        ("with a tabulator", &path("/api/v1/people/user\t2")),
        (
            "with a line in it",
            &path("/api/v1/people/user_2\r\nhost: a"),
        ),
        ("with NUL", &path("/api/v1/people/\0")),
        ("with DEL", &path("/api/v1/people/\x7f")),
        ("a whole address", &path("http://a/api/v1/people/user_2")),
        ("another's address", &path("//a/api/v1/people/user_2")),
        ("an asterisk", &path("*")),
    ])
    .await;
    let fields = [
        METHOD,
        SCHEME,
        AUTHORITY,
        (":path", "/api/v1/people/user_1#a"),
    ];
    let fragment = only("8.3.1", "a path with a fragment", &fields);
    run(vec![
        fragment.malformed().known(Outcome::Answer(200), CUT_OFF),
    ])
    .await;
}

#[tokio::test]
async fn a_request_names_one_host_8_3_1() {
    let authority = |authority| [METHOD, SCHEME, (":authority", authority), PATH];
    let host = |host| [METHOD, SCHEME, PATH, ("host", host)];
    let both = |host| [METHOD, SCHEME, AUTHORITY, PATH, ("host", host)];
    malformed(&[
        ("an empty authority", &authority("")),
        ("an authority with a user", &authority("user@gateway")),
        ("an authority with a path", &authority("gateway/api")),
        ("an authority with a space", &authority("gate way")),
        (
            "an authority with a port that is none",
            &authority("gateway:x"),
        ),
        (
            "an authority with a port that is too large",
            &authority("gateway:65536"),
        ),
        ("an authority that is nothing but a port", &authority(":80")),
        ("an empty host", &host("")),
        ("a host with a user", &host("user@gateway")),
        ("a host with a path", &host("gateway/api")),
        ("a host with a port that is none", &host("gateway:x")),
        ("a host beside another authority", &both("elsewhere")),
        (
            "a host with another port than the authority",
            &both("gateway:81"),
        ),
        ("an empty host beside an authority", &both("")),
        (
            "two hosts",
            &[METHOD, SCHEME, PATH, ("host", "a"), ("host", "b")],
        ),
        (
            "a host twice",
            &[METHOD, SCHEME, PATH, ("host", "a"), ("host", "a")],
        ),
    ])
    .await;
}

#[tokio::test]
async fn a_tunnel_is_not_opened_8_5() {
    const CONNECT: Field<'static> = (":method", "CONNECT");
    run(vec![
        only("8.5", "CONNECT", &[CONNECT, (":authority", "gateway:80")]).malformed(),
        only("8.5", "CONNECT to a path", &[CONNECT, AUTHORITY, PATH]).malformed(),
        only(
            "8.5",
            "CONNECT with a scheme",
            &[CONNECT, SCHEME, AUTHORITY],
        )
        .malformed(),
        only(
            "8.5",
            "CONNECT with everything",
            &[CONNECT, SCHEME, AUTHORITY, PATH],
        )
        .malformed(),
        only("8.5", "CONNECT to nobody", &[CONNECT]).malformed(),
        only(
            "8.5",
            "CONNECT with a protocol that was not offered",
            &[CONNECT, SCHEME, AUTHORITY, PATH, (":protocol", "websocket")],
        )
        .malformed(),
        only(
            "8.5",
            "an asterisk of OPTIONS",
            &[(":method", "OPTIONS"), SCHEME, AUTHORITY, (":path", "*")],
        )
        .malformed(),
        only(
            "8.5",
            "an unknown method",
            &[(":method", "BREW"), SCHEME, AUTHORITY, (":path", LOOKUP)],
        )
        .malformed(),
    ])
    .await;
}
