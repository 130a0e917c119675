//! Headers that many answers have in common, kept once.
//!
//! Most of Flameup's answers have the same few headers: the type of their body, and what caches may
//! do with it. Beside each of a hundred thousand people they would take a tenth of the memory, and
//! whoever answers with a shared copy would write to a counter that other threads write to as well.

use std::mem::size_of;
use std::sync::LazyLock;

use http::header::{HeaderName, HeaderValue, LAST_MODIFIED};
use parking_lot::RwLock;

/// Most sets that are kept for good. Flameup has a handful; whatever makes more of them, memory does
/// not grow with it.
const MOST_SETS: usize = 64;

/// Longest value that is kept for good.
const LONGEST: usize = 256;

/// Header lines of one answer.
type Lines = Vec<(HeaderName, HeaderValue)>;

/// Header lines of an answer, shared with others that have the same.
#[derive(Clone, Debug)]
pub struct Common(Kept);

#[derive(Clone, Debug)]
enum Kept {
    /// For as long as the process lives.
    ForGood(&'static Lines),
    /// Boxed as one, so that the two take the same room.
    Own(Box<Lines>),
}

/// The sets that are kept for good.
static SETS: LazyLock<RwLock<Vec<&'static Lines>>> = LazyLock::new(RwLock::default);

impl Common {
    /// These lines; kept once, if they are such as others have too.
    pub fn of(lines: Vec<(HeaderName, HeaderValue)>) -> Self {
        Self(known(&lines).map_or_else(|| Kept::Own(Box::new(lines)), Kept::ForGood))
    }

    /// The lines.
    pub fn as_slice(&self) -> &[(HeaderName, HeaderValue)] {
        match &self.0 {
            Kept::ForGood(lines) => lines,
            Kept::Own(lines) => lines,
        }
    }

    /// Bytes of memory that they take for this answer alone.
    pub fn heap_bytes(&self) -> usize {
        /// Of a vector and its counterparts in the allocator, and of a value with its counter.
        const EACH: usize = 48;
        match &self.0 {
            Kept::ForGood(_) => 0,
            Kept::Own(lines) => lines
                .iter()
                .map(|(_, value)| size_of::<(HeaderName, HeaderValue)>() + value.len() + EACH)
                .fold(EACH, usize::saturating_add),
        }
    }
}

/// The same lines as they are kept for good, from now on if there is room.
fn known(lines: &Lines) -> Option<&'static Lines> {
    let same = |sets: &[&'static Lines]| sets.iter().copied().find(|set| *set == lines);
    if let Some(set) = same(&SETS.read()) {
        return Some(set);
    }
    // A date is its own person's, and so may be what is long.
    let is_common = |(name, value): &(HeaderName, HeaderValue)| {
        *name != LAST_MODIFIED && value.len() <= LONGEST && value.to_str().is_ok()
    };
    if !lines.iter().all(is_common) {
        return None;
    }
    let mut sets = SETS.write();
    if let Some(set) = same(&sets) {
        return Some(set);
    }
    if sets.len() == MOST_SETS {
        return None;
    }
    let set: &'static Lines = Box::leak(Box::new(lines.iter().map(for_good).collect()));
    sets.push(set);
    Some(set)
}

/// A line whose text lives as long as the process: to copy it touches no counter.
fn for_good((name, value): &(HeaderName, HeaderValue)) -> (HeaderName, HeaderValue) {
    let text = value.to_str().unwrap_or_default().to_owned();
    (name.clone(), HeaderValue::from_static(text.leak()))
}

#[cfg(test)]
mod tests {
    use http::header::{CACHE_CONTROL, CONTENT_TYPE};

    use super::*;

    fn lines(control: &str) -> Lines {
        let value = |text| HeaderValue::from_str(text).expect("plain text");
        vec![
            (CONTENT_TYPE, value("application/json")),
            (CACHE_CONTROL, value(control)),
        ]
    }

    #[test]
    fn the_same_lines_are_kept_once() {
        let (one, other) = (
            Common::of(lines("max-age=7")),
            Common::of(lines("max-age=7")),
        );
        assert_eq!(one.as_slice(), lines("max-age=7"));
        assert!(std::ptr::eq(one.as_slice(), other.as_slice()));
        assert_eq!(one.heap_bytes(), 0);
    }

    #[test]
    fn what_is_one_answers_alone_is_not_kept_for_good() {
        let date = HeaderValue::from_static("Mon, 23 Nov 2026 19:43:59 GMT");
        let own = Common::of(vec![(LAST_MODIFIED, date.clone())]);
        assert!(own.heap_bytes() > 100);
        assert_eq!(own.as_slice(), [(LAST_MODIFIED, date)]);
        let long = Common::of(lines(&"x".repeat(LONGEST + 1)));
        assert!(long.heap_bytes() > LONGEST);
    }
}
