//! Reads an HTTP/1 connection along with hyper, and more strictly.
//!
//! hyper takes some requests that other readers would read otherwise, and of some it does not show
//! what was wrong: line ends without CR, fragments in targets, a `Content-Length` beside
//! `Transfer-Encoding`, `chunked` named twice. What stands before or behind this gateway may cut such
//! a stream into other requests than hyper does. So the bytes are looked at on their way in; from the
//! first that is ambiguous on, hyper gets bytes that no request may have, and refuses them.
//!
//! # Specification
//! RFC 9112 §2.2 (line ends; one empty line before a request is taken), §3.2 (targets), §5.2 (no
//! folding), §6 (framing), §7.1 (chunks). Where a recipient may be lenient, this one is not.
//!
//! # Invariants
//! - Whatever passes is cut into requests by this module exactly as hyper cuts it.
//! - Nothing of a refused request beyond the offence reaches hyper.

use memchr::{memchr, memchr2};

/// What stands in place of bytes that are refused. Wherever hyper is, in a head, in the size of a
/// chunk or in trailers, a CR that no LF follows is an error.
const REFUSED: &[u8; 2] = b"\r\0";

/// Most digits of a chunk's size: more could not be counted.
const CHUNK_SIZE_DIGITS: usize = 15;

/// Where in its stream a connection is.
#[derive(Debug, Default)]
pub(super) struct Guard {
    place: Place,
    /// The beginning of a line whose end has not come.
    begun: Vec<u8>,
    framing: Framing,
}

/// What comes next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// The first line of a request, or one empty line before it.
    #[default]
    Start,
    /// The first line of a request, after an empty line.
    AfterBlank,
    /// The next line of a head.
    Head,
    /// So many bytes of a body of known length.
    Body(u64),
    /// The size of a chunk.
    ChunkSize,
    /// So many bytes of a chunk.
    Chunk(u64),
    /// The end of a chunk's line.
    ChunkEnd,
    /// The next line of trailers.
    Trailers,
    /// Nothing: the stream is refused. Holds whether hyper was told.
    Refused(bool),
}

/// What a head has said of its body so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Framing {
    #[default]
    None,
    Length(u64),
    Chunked,
}

/// The stream is not one that all read alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ambiguous;

impl Guard {
    /// Looks at the next bytes, and spoils them from the first offence on.
    pub(super) fn inspect(&mut self, bytes: &mut [u8]) {
        let mut at = 0;
        while at < bytes.len() {
            match self.advance(&bytes[at..]) {
                Ok(taken) => at += taken,
                Err(offence) => {
                    spoil(&mut bytes[at + offence..]);
                    return;
                }
            }
        }
    }

    /// What hyper is still to be told of a refusal, should the offence have been the last byte.
    pub(super) fn last_word(&mut self) -> Option<&'static [u8]> {
        if self.place != Place::Refused(false) {
            return None;
        }
        self.place = Place::Refused(true);
        Some(REFUSED)
    }

    /// Takes the bytes up to the next boundary. Tells how many, or where the offence is.
    fn advance(&mut self, bytes: &[u8]) -> Result<usize, usize> {
        let left = match self.place {
            Place::Body(left) | Place::Chunk(left) => left,
            Place::Refused(_) => return Err(0),
            _ => return self.take_line(bytes),
        };
        let taken = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let left = left - taken as u64;
        self.place = match self.place {
            Place::Body(_) if left == 0 => Place::Start,
            Place::Body(_) => Place::Body(left),
            _ if left == 0 => Place::ChunkEnd,
            _ => Place::Chunk(left),
        };
        Ok(taken)
    }

    fn take_line(&mut self, bytes: &[u8]) -> Result<usize, usize> {
        let Some(end) = memchr(b'\n', bytes) else {
            self.begun.extend_from_slice(bytes);
            return Ok(bytes.len());
        };
        let next = if self.begun.is_empty() {
            self.after_line(&bytes[..end])
        } else {
            let mut line = std::mem::take(&mut self.begun);
            line.extend_from_slice(&bytes[..end]);
            self.after_line(&line)
        };
        // The LF is what is spoilt: without it the line, and what it belongs to, never ends.
        self.place = next.unwrap_or(Place::Refused(false));
        next.map_or(Err(end), |_| Ok(end + 1))
    }

    /// Where a line leads that ended with LF.
    fn after_line(&mut self, line: &[u8]) -> Result<Place, Ambiguous> {
        let line = line.strip_suffix(b"\r").ok_or(Ambiguous)?;
        match self.place {
            Place::Start if line.is_empty() => Ok(Place::AfterBlank),
            Place::Start | Place::AfterBlank => {
                self.framing = Framing::None;
                check_request_line(line)?;
                Ok(Place::Head)
            }
            Place::Head if line.is_empty() => Ok(match self.framing {
                Framing::None | Framing::Length(0) => Place::Start,
                Framing::Length(length) => Place::Body(length),
                Framing::Chunked => Place::ChunkSize,
            }),
            Place::Head => {
                self.framing = self.framing.after(line)?;
                Ok(Place::Head)
            }
            Place::ChunkSize => Ok(match chunk_size(line)? {
                0 => Place::Trailers,
                size => Place::Chunk(size),
            }),
            Place::ChunkEnd if line.is_empty() => Ok(Place::ChunkSize),
            Place::Trailers if line.is_empty() => Ok(Place::Start),
            // A trailer that frames is an attempt to.
            Place::Trailers if Framing::None.after(line)? == Framing::None => Ok(Place::Trailers),
            _ => Err(Ambiguous),
        }
    }
}

impl Framing {
    /// What it is after one more header line.
    fn after(self, line: &[u8]) -> Result<Self, Ambiguous> {
        // Nearly all lines begin with something else.
        match line.first() {
            Some(b'c' | b'C') if is_named(line, b"content", b"length") => match self {
                Self::None => length(value(line)?).map(Self::Length),
                _ => Err(Ambiguous),
            },
            Some(b't' | b'T') if is_named(line, b"transfer", b"encoding") => match self {
                // Whatever else could stand there, nobody here could undo.
                Self::None if value(line)?.eq_ignore_ascii_case(b"chunked") => Ok(Self::Chunked),
                _ => Err(Ambiguous),
            },
            // A continuation of the line before, to those who still know folding.
            None | Some(b' ' | b'\t') => Err(Ambiguous),
            _ => Ok(self),
        }
    }
}

/// Whether a line's name is `first-second`, or something that is easily taken for it.
fn is_named(line: &[u8], first: &[u8], second: &[u8]) -> bool {
    let Some((start, rest)) = line.split_at_checked(first.len()) else {
        return false;
    };
    let rest = rest.split_first().map_or(rest, |(_, rest)| rest);
    let end = rest.get(..second.len());
    start.eq_ignore_ascii_case(first) && end.is_some_and(|end| end.eq_ignore_ascii_case(second))
}

/// The value of a framing header. Its name must be spelled as it is, and end with the colon.
fn value(line: &[u8]) -> Result<&[u8], Ambiguous> {
    let colon = memchr(b':', line).ok_or(Ambiguous)?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    let known = [&b"content-length"[..], b"transfer-encoding"];
    if !known.iter().any(|known| name.eq_ignore_ascii_case(known)) {
        return Err(Ambiguous);
    }
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value.iter().position(|byte| !is_blank(byte));
    let end = value.iter().rposition(|byte| !is_blank(byte));
    Ok(match (start, end) {
        (Some(start), Some(end)) => &value[start..=end],
        _ => &[],
    })
}

/// Digits and nothing else: no sign, no list, no more than a number holds.
fn length(digits: &[u8]) -> Result<u64, Ambiguous> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Ambiguous);
    }
    let digits = std::str::from_utf8(digits).map_err(|_| Ambiguous)?;
    digits.parse().map_err(|_| Ambiguous)
}

/// The size of a chunk. No blanks around it; an extension has no control characters.
fn chunk_size(line: &[u8]) -> Result<u64, Ambiguous> {
    let end = memchr(b';', line).unwrap_or(line.len());
    let (digits, extension) = line.split_at(end);
    let fine = |byte: &u8| matches!(byte, b' ' | b'\t' | 0x21..=0x7e);
    let sized = (1..=CHUNK_SIZE_DIGITS).contains(&digits.len());
    if !sized || !digits.iter().all(u8::is_ascii_hexdigit) || !extension.iter().all(fine) {
        return Err(Ambiguous);
    }
    let digits = std::str::from_utf8(digits).map_err(|_| Ambiguous)?;
    u64::from_str_radix(digits, 16).map_err(|_| Ambiguous)
}

/// Refuses a target that hyper would cut or that others would mend, and a tunnel, after whose head
/// there are no requests.
fn check_request_line(line: &[u8]) -> Result<(), Ambiguous> {
    if line.is_empty() || memchr2(b'#', b'\\', line).is_some() || line.starts_with(b"CONNECT ") {
        return Err(Ambiguous);
    }
    Ok(())
}

fn spoil(bytes: &mut [u8]) {
    for (byte, spoilt) in bytes.iter_mut().zip(REFUSED.iter().cycle()) {
        *byte = *spoilt;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What comes through of a stream in pieces of this size, and whether it was refused.
    fn through(stream: &[u8], size: usize) -> (Vec<u8>, bool) {
        let (mut guard, mut out) = (Guard::default(), Vec::new());
        for piece in stream.chunks(size) {
            let mut piece = piece.to_vec();
            guard.inspect(&mut piece);
            out.extend(piece);
        }
        let refused = matches!(guard.place, Place::Refused(_));
        (out, refused)
    }

    const GOOD: &[&str] = &[
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\n\n\n\n",
        "POST / HTTP/1.1\r\ncontent-length:\t03 \r\n\r\n\r\n\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n3;a=\"b\"\r\n#\n\n\r\n0\r\nX: y\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nContent-Type: x\r\nTE: trailers\r\nX: #\\\r\n\r\n",
    ];

    #[test]
    fn what_everybody_reads_alike_comes_through_however_it_is_cut() {
        let stream = GOOD.concat().into_bytes();
        for size in 1..stream.len() {
            assert_eq!(through(&stream, size), (stream.clone(), false), "{size}");
        }
    }

    #[test]
    fn of_what_is_ambiguous_nothing_beyond_the_offence_comes_through() {
        for (head, offence) in [
            ("\r\n\r", "\nGET / HTTP/1.1"),
            ("", "\nGET / HTTP/1.1"),
            ("GET / HTTP/1.1", "\nHost: a\r\n\r\n"),
            ("GET /#a HTTP/1.1\r", "\n\r\n"),
            ("GET /\\a HTTP/1.1\r", "\n\r\n"),
            ("CONNECT a:1 HTTP/1.1\r", "\n\r\n"),
            ("GET / HTTP/1.1\r\n b\r", "\n\r\n"),
            (
                "GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r",
                "\n",
            ),
            ("GET / HTTP/1.1\r\nContent-Length: 1, 1\r", "\n"),
            ("GET / HTTP/1.1\r\nContent_Length: 1\r", "\n"),
            ("GET / HTTP/1.1\r\nContent-Length : 1\r", "\n"),
            (
                "GET / HTTP/1.1\r\nContent-Length: 99999999999999999999\r",
                "\n",
            ),
            (
                "GET / HTTP/1.1\r\nTransfer-Encoding: chunked, chunked\r",
                "\n",
            ),
            (
                "GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r",
                "\n",
            ),
            (
                "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5 \r",
                "\nhello",
            ),
            (
                "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 1\r",
                "\n",
            ),
        ] {
            let stream = format!("{head}{offence}GET /smuggled HTTP/1.1\r\n\r\n").into_bytes();
            for size in 1..stream.len() {
                let (out, refused) = through(&stream, size);
                assert!(refused, "{head:?}");
                let rest = out.strip_prefix(head.as_bytes()).expect("what was before");
                let spoilt = rest.iter().all(|byte| REFUSED.contains(byte));
                assert!(spoilt, "{head:?}: {out:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn the_cut_of_the_pieces_changes_nothing(
            parts in prop::collection::vec(prop::sample::select(PARTS), 0..20),
            size in 1usize..40,
        ) {
            let stream = parts.concat().into_bytes();
            let (whole, refused) = through(&stream, stream.len().max(1));
            let (cut, also) = through(&stream, size);
            prop_assert_eq!(refused, also);
            let same = whole.iter().zip(&stream).take_while(|(one, other)| one == other).count();
            let kept = cut.iter().zip(&stream).take_while(|(one, other)| one == other).count();
            // A byte that is like what takes its place may look kept.
            prop_assert!(same.abs_diff(kept) <= 1);
        }
    }

    const PARTS: &[&str] = &[
        "GET / HTTP/1.1\r\n",
        "\r\n",
        "\n",
        "\r",
        "a",
        "3",
        "0",
        "Content-Length: 3\r\n",
        "Transfer-Encoding: chunked\r\n",
        "#",
        "abc",
        "3\r\nabc\r\n",
        "0\r\n\r\n",
        ";x",
        " ",
    ];
}
