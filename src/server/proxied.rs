//! The PROXY header: whom a connection is made for, as the proxy before us says.
//!
//! # Specification
//! Versions 1 and 2 of the [PROXY protocol]. Read byte by byte to its end and not beyond, as what
//! follows may be TLS. `LOCAL` and `UNKNOWN` name nobody: it is the proxy itself that asks.
//!
//! [PROXY protocol]: https://www.haproxy.org/download/2.8/doc/proxy-protocol.txt

use std::io;
use std::net::IpAddr;

use proxy_header::{ParseConfig, ProxyHeader};
use tokio::io::{AsyncRead, AsyncReadExt};

/// What version 2 begins with, and how long it is before its addresses.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
const HEAD: usize = 16;

/// The longest line of version 1, by its specification.
const MAX_LINE: usize = 107;

/// Longest addresses and additions of version 2: the largest addresses have 216 bytes, additions are
/// names and checksums.
const MAX_REST: usize = 4096;

/// Why there is no usable header.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The connection ended within it.
    #[error("the connection ended")]
    Ended(#[from] io::Error),
    /// It is not one.
    #[error("it is not one, or too long")]
    Unreadable,
}

/// Reads the header that a connection begins with; tells the client it names, if it names one.
///
/// # Errors
/// When it does not begin with one.
pub async fn read_header(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<IpAddr>, Error> {
    let mut header = vec![0; SIGNATURE.len()];
    stream.read_exact(&mut header).await?;
    if header == SIGNATURE {
        read_rest(stream, &mut header).await?;
    } else {
        read_line(stream, &mut header).await?;
    }
    let (read, length) =
        ProxyHeader::parse(&header, ParseConfig::default()).map_err(|_| Error::Unreadable)?;
    if length != header.len() {
        return Err(Error::Unreadable);
    }
    Ok(read.proxied_address().map(|address| address.source.ip()))
}

/// Version 2: the length is in the last two bytes of the head.
async fn read_rest(
    stream: &mut (impl AsyncRead + Unpin),
    header: &mut Vec<u8>,
) -> Result<(), Error> {
    header.resize(HEAD, 0);
    stream.read_exact(&mut header[SIGNATURE.len()..]).await?;
    let length = usize::from(u16::from_be_bytes([header[HEAD - 2], header[HEAD - 1]]));
    if length > MAX_REST {
        return Err(Error::Unreadable);
    }
    header.resize(HEAD + length, 0);
    stream.read_exact(&mut header[HEAD..]).await?;
    Ok(())
}

/// Version 1: one line.
async fn read_line(
    stream: &mut (impl AsyncRead + Unpin),
    header: &mut Vec<u8>,
) -> Result<(), Error> {
    if !header.starts_with(b"PROXY ") {
        return Err(Error::Unreadable);
    }
    while !header.ends_with(b"\r\n") {
        if header.len() == MAX_LINE {
            return Err(Error::Unreadable);
        }
        header.push(stream.read_u8().await?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The client, and what is left to read.
    async fn read(bytes: &[u8]) -> Result<(Option<String>, Vec<u8>), Error> {
        let mut rest = bytes;
        let client = read_header(&mut rest).await?;
        Ok((client.map(|client| client.to_string()), rest.to_vec()))
    }

    fn version_2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).expect("short").to_be_bytes();
        [SIGNATURE, &[command, family][..], &length, rest].concat()
    }

    #[tokio::test]
    async fn both_versions_name_the_client_and_leave_what_follows() {
        let four = [192, 0, 2, 1, 198, 51, 100, 1, 0xc0, 0, 0, 80];
        let six = [
            &[0x20, 1, 0xd, 0xb8][..],
            &[0; 11],
            &[7],
            &[0; 16],
            &[0, 1, 0, 80],
        ]
        .concat();
        let with_addition = [&four[..], &[4, 0, 2, b'h', b'i']].concat();
        for (header, client) in [
            (
                b"PROXY TCP4 192.0.2.1 198.51.100.1 49152 80\r\n".to_vec(),
                Some("192.0.2.1"),
            ),
            (
                b"PROXY TCP6 2001:db8::7 ::1 1 80\r\n".to_vec(),
                Some("2001:db8::7"),
            ),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (version_2(0x21, 0x11, &four), Some("192.0.2.1")),
            (version_2(0x21, 0x21, &six), Some("2001:db8::7")),
            (version_2(0x21, 0x11, &with_addition), Some("192.0.2.1")),
            (version_2(0x20, 0x00, &[]), None),
        ] {
            let bytes = [&header[..], b"GET / HTTP/1.1\r\n"].concat();
            let (found, rest) = read(&bytes).await.expect("a header");
            assert_eq!(found.as_deref(), client, "{header:?}");
            assert_eq!(rest, b"GET / HTTP/1.1\r\n", "{header:?}");
        }
    }

    #[tokio::test]
    async fn what_is_no_header_is_refused() {
        let endless = [&b"PROXY TCP4 "[..], &b"1".repeat(200)].concat();
        for bytes in [
            &b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"[..],
            b"PROXY TCP4 192.0.2.1 198.51.100.1 49152\r\n",
            b"PROXY TCP4 192.0.2.999 198.51.100.1 1 2\r\n",
            b"PROXY TCP4 192.0.2.1",
            b"",
            &endless,
            &version_2(0x31, 0x11, &[0; 12]),
            &version_2(0x21, 0x11, &[0; 4]),
            &version_2(0x21, 0x11, &[0; 5000]),
        ] {
            assert!(read(bytes).await.is_err(), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_reading_panic(
            version_2 in any::<bool>(),
            bytes in prop::collection::vec(any::<u8>(), 0..200),
        ) {
            let start: &[u8] = if version_2 { SIGNATURE } else { b"PROXY TCP4 1" };
            let runtime = tokio::runtime::Builder::new_current_thread().build();
            let bytes = [start, &bytes].concat();
            let _ = runtime.expect("a runtime").block_on(read(&bytes));
        }
    }
}
