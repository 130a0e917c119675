//! One segment of a path that is no person's id: decoded strictly, encoded canonically.

use std::borrow::Cow;

use super::Error;
use crate::person;

/// Percent-decodes one segment, once.
///
/// # Errors
/// When it is empty, has a bad escape, a control character, a backslash or a dot segment, or is
/// longer than any id: what one reader takes for text, another takes for structure.
pub(super) fn decode(segment: &str) -> Result<Cow<'_, str>, Error> {
    let text = person::decode(segment).map_err(|_| Error::Segment)?;
    if text.contains('\\') {
        return Err(Error::Segment);
    }
    Ok(text)
}

/// Appends a segment to a path, encoded in the one canonical way.
pub(super) fn push(path: &mut String, text: &str) {
    use std::fmt::Write as _;
    path.push('/');
    // Writing to a String cannot fail.
    let _ = write!(path, "{}", person::encode(text));
}
