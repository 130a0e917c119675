//! Header blocks as bytes (RFC 7541), well-formed or not, and the one field of an answer that is read.

use super::frame::{END_HEADERS, HEADERS, WHOLE, frame};

/// A person that the gateway has in its cache from the start.
pub(crate) const PERSON: &str = "/api/v1/people/user_1";

/// A person that nobody may have asked the origin about when a test is over.
pub(crate) const NOT_FORWARDED: &str = "/api/v1/people/user_2";

/// Reads a body to its end, and answers from the cache.
pub(crate) const LOOKUP: &str = "/gateway/v1/people/lookup";

/// What `LOOKUP` can be asked.
pub(crate) const QUESTION: &[u8] = br#"{"ids":["user_1"]}"#;

pub(crate) type Field<'f> = (&'f str, &'f str);

/// The request whose answer needs no origin.
pub(crate) const GET: [Field<'static>; 4] = [
    (":method", "GET"),
    (":scheme", "http"),
    (":authority", "gateway"),
    (":path", PERSON),
];

/// The same for a person that is in no cache.
pub(crate) const MISS: [Field<'static>; 4] = [
    (":method", "GET"),
    (":scheme", "http"),
    (":authority", "gateway"),
    (":path", NOT_FORWARDED),
];

/// The head of a question with a body.
pub(crate) const POST: [Field<'static>; 5] = [
    (":method", "POST"),
    (":scheme", "http"),
    (":authority", "gateway"),
    (":path", LOOKUP),
    ("content-type", "application/json"),
];

/// A whole request without a body.
pub(crate) fn get(stream: u32) -> Vec<u8> {
    frame(HEADERS, WHOLE, stream, block(&GET))
}

/// The head of a request whose body is to come.
pub(crate) fn post(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS, stream, block(&POST))
}

/// Fields as literals that touch no table.
pub(crate) fn block(fields: &[Field<'_>]) -> Vec<u8> {
    let literals = fields.iter().map(|(name, value)| literal(name, value));
    literals.collect::<Vec<_>>().concat()
}

/// A literal field without indexing (§6.2.2).
pub(crate) fn literal(name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Vec<u8> {
    [vec![0x00], string(name), string(value)].concat()
}

/// A literal field that becomes an entry of the dynamic table (§6.2.1).
pub(crate) fn remembered(name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Vec<u8> {
    [vec![0x40], string(name), string(value)].concat()
}

/// A field out of a table (§6.1).
pub(crate) fn indexed(index: usize) -> Vec<u8> {
    integer(0x80, 7, index)
}

/// A change of the dynamic table's size (§6.3).
pub(crate) fn table_size(size: usize) -> Vec<u8> {
    integer(0x20, 5, size)
}

/// A string as it is (§5.2).
pub(crate) fn string(text: impl AsRef<[u8]>) -> Vec<u8> {
    let text = text.as_ref();
    [&integer(0x00, 7, text.len()), text].concat()
}

/// A string that claims to be Huffman-coded.
pub(crate) fn coded(code: &[u8]) -> Vec<u8> {
    [&integer(0x80, 7, code.len()), code].concat()
}

/// An integer with a prefix of so many bits, after the bits that stand before it (§5.1).
pub(crate) fn integer(before: u8, prefix: u32, value: usize) -> Vec<u8> {
    let most = (1_usize << prefix) - 1;
    let byte = |value: usize| u8::try_from(value).expect("it was cut to eight bits");
    if value < most {
        return vec![before | byte(value)];
    }
    let mut bytes = vec![before | byte(most)];
    let mut rest = value - most;
    while rest >= 128 {
        bytes.push(byte(rest % 128) | 128);
        rest /= 128;
    }
    bytes.push(byte(rest));
    bytes
}

/// The `:status` that a block of the gateway's begins with.
///
/// Nothing but the static table may be needed for it: the peer allows no dynamic one.
pub(crate) fn status(block: &[u8]) -> u16 {
    const STATIC: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
    // Changes of the table's size come first.
    let start = block.iter().position(|byte| byte & 0xe0 != 0x20);
    let block = &block[start.expect("a field")..];
    match block {
        [index @ 0x88..=0x8e, ..] => STATIC[usize::from(index - 0x88)],
        // A literal whose name is that of the static table's entry 8, indexed or not.
        [0x08 | 0x18 | 0x48, length, value @ ..] if length & 0x80 == 0 => {
            let digits = &value[..usize::from(*length)];
            let digits = std::str::from_utf8(digits).expect("digits");
            digits.parse().expect("a status")
        }
        [0x08 | 0x18 | 0x48, length, value @ ..] => {
            coded_digits(&value[..usize::from(length & 0x7f)])
        }
        other => panic!("no status begins {other:x?}"),
    }
}

/// Reads three digits in the Huffman code (§ appendix B): five bits for 0 to 2, six for 3 to 9.
fn coded_digits(code: &[u8]) -> u16 {
    let bits = code
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1));
    let mut bits = bits.map(u16::from);
    let mut take =
        |count: u32| (0..count).fold(0, |so_far, _| so_far << 1 | bits.next().expect("a bit"));
    let mut number = 0;
    for _ in 0..3 {
        let five = take(5);
        let digit = if five < 3 {
            five
        } else {
            (five << 1 | take(1)) - 0x19 + 3
        };
        number = number * 10 + digit;
    }
    number
}

#[test]
fn an_answers_status_is_read_in_every_form() {
    assert_eq!(status(&[0x88]), 200);
    assert_eq!(status(&[0x20, 0x8d, 0x00]), 404);
    assert_eq!(status(&[0x48, 0x03, b'4', b'3', b'1']), 431);
    // RFC 7541 appendices C.6.1 and C.6.2: 302 and 307.
    assert_eq!(status(&[0x48, 0x82, 0x64, 0x02]), 302);
    assert_eq!(status(&[0x08, 0x83, 0x64, 0x0e, 0xff]), 307);
}
