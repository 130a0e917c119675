//! The forms in which an answer may quote a key: those that common encoders make of it.

use std::fmt::Write as _;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// All forms of a key. Its secret half counts alone if it has `least` bytes.
pub(super) fn of(key: &str, least: usize) -> Vec<Vec<u8>> {
    let secret = key.rsplit('.').next().unwrap_or(key);
    let secret = if secret.len() < least { key } else { secret };
    let mut forms = Vec::new();
    for plain in [key, secret] {
        let percent = utf8_percent_encode(plain, NON_ALPHANUMERIC).to_string();
        forms.extend([
            plain.to_owned(),
            plain.to_ascii_lowercase(),
            plain.to_ascii_uppercase(),
            plain.replace('/', "\\/"),
            lower_escapes(&percent),
            percent,
        ]);
    }
    let hex = hexadecimal(secret.as_bytes());
    forms.extend([hex.to_ascii_uppercase(), hex]);
    for offset in 0..3 {
        let standard = base64_within(secret.as_bytes(), offset);
        forms.extend([standard.replace('+', "-").replace('/', "_"), standard]);
    }
    forms.into_iter().map(String::into_bytes).collect()
}

/// The same escapes, their digits in lower case.
fn lower_escapes(percent: &str) -> String {
    let mut parts = percent.split('%');
    let mut lower = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2).unwrap_or((part, ""));
        lower.extend(["%", &digits.to_ascii_lowercase(), rest]);
    }
    lower
}

fn hexadecimal(bytes: &[u8]) -> String {
    let mut hex = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

/// Those characters of a base64 text that stand for `bytes` alone, if `offset` bytes and a multiple of
/// three come before them.
fn base64_within(bytes: &[u8], offset: usize) -> String {
    let bit = |at: usize| -> u8 {
        let byte = (at / 8).checked_sub(offset).and_then(|at| bytes.get(at));
        byte.map_or(0, |byte| byte >> (7 - at % 8) & 1)
    };
    let (first, end) = ((offset * 8).div_ceil(6), (offset + bytes.len()) * 8 / 6);
    let sextet = |at: usize| (0..6).fold(0, |value, next| value << 1 | bit(at * 6 + next));
    (first..end)
        .map(|at| char::from(BASE64[usize::from(sextet(at))]))
        .collect()
}
