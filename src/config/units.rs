//! Reading single values: durations, sizes, counts, words and lists.
//!
//! Every reader takes its value from text or from a number, so that an environment variable, which is
//! always text, needs no guessing: `"4"` is a count where a count is wanted and stays the text `"4"`
//! where text is wanted. A list may also be one string with commas.
//!
//! # Units
//! Bounds of durations are constants in milliseconds, bounds of sizes in bytes. `KiB` is 1024 bytes,
//! `KB` is 1000.

use std::fmt;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use bytesize::ByteSize;
use figment::providers::{Format, Toml};
use jiff::fmt::friendly::SpanParser;
use serde::de::{self, Deserialize, Deserializer, SeqAccess, Unexpected, Visitor};

pub(super) const MILLISECOND: u64 = 1;
pub(super) const SECOND: u64 = 1000 * MILLISECOND;
pub(super) const MINUTE: u64 = 60 * SECOND;
pub(super) const HOUR: u64 = 60 * MINUTE;
pub(super) const DAY: u64 = 24 * HOUR;

pub(super) const KIB: u64 = 1024;
pub(super) const MIB: u64 = 1024 * KIB;
pub(super) const GIB: u64 = 1024 * MIB;

/// Reads a duration such as `"250ms"` between two bounds, both included and in milliseconds.
pub(super) fn duration<'de, const MIN: u64, const MAX: u64, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Duration, D::Error> {
    const EXPECTED: &str = "a duration such as \"250ms\", \"60s\" or \"4m\"";
    from_text(deserializer, EXPECTED, |text| {
        let duration = SpanParser::new()
            .parse_unsigned_duration(text)
            .map_err(|_| mismatch(EXPECTED, text))?;
        let bounds = Duration::from_millis(MIN)..=Duration::from_millis(MAX);
        if bounds.contains(&duration) {
            return Ok(duration);
        }
        Err(out_of_range(&duration_text(MIN), &duration_text(MAX), text))
    })
}

/// Reads a size such as `"64MiB"` between two bounds, both included and in bytes.
pub(super) fn size<'de, const MIN: u64, const MAX: u64, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<ByteSize, D::Error> {
    const EXPECTED: &str = "a size such as \"16KiB\" or \"64MiB\"";
    from_text(deserializer, EXPECTED, |text| {
        // A bare number would leave its unit in the reader's head.
        let has_unit = text.ends_with(|last: char| last.is_ascii_alphabetic());
        let size = match text.parse::<ByteSize>() {
            Ok(size) if has_unit => size,
            _ => return Err(mismatch(EXPECTED, text)),
        };
        if (MIN..=MAX).contains(&size.as_u64()) {
            return Ok(size);
        }
        Err(out_of_range(&size_text(MIN), &size_text(MAX), text))
    })
}

/// Reads a whole number between two bounds, both included.
pub(super) fn count<'de, const MIN: u64, const MAX: u64, T: TryFrom<u64>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    const EXPECTED: &str = "a whole number";
    from_text(deserializer, EXPECTED, |text| {
        let number: i128 = text.parse().map_err(|_| mismatch(EXPECTED, text))?;
        u64::try_from(number)
            .ok()
            .filter(|count| (MIN..=MAX).contains(count))
            .and_then(|count| T::try_from(count).ok())
            .ok_or_else(|| out_of_range(&MIN.to_string(), &MAX.to_string(), text))
    })
}

/// Reads a share, such as 0.1, from 0 to a number of hundredths.
pub(super) fn share<'de, const MAX_PERCENT: u8, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<f64, D::Error> {
    const EXPECTED: &str = "a number such as 0.1";
    from_text(deserializer, EXPECTED, |text| {
        let share: f64 = text.parse().map_err(|_| mismatch(EXPECTED, text))?;
        let max = f64::from(MAX_PERCENT) / 100.0;
        if (0.0..=max).contains(&share) {
            return Ok(share);
        }
        Err(out_of_range("0", &max.to_string(), text))
    })
}

/// Reads true or false, also where they are written as text.
pub(super) fn flag<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    deserializer.deserialize_any(Flag)
}

/// Reads the path of a file; an empty one is a mistake, not "none".
pub(super) fn path<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<PathBuf>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() {
        return Err(de::Error::custom(
            "the path is empty; leave the key out to have none",
        ));
    }
    Ok(Some(text.into()))
}

/// Reads one of a few words.
pub(super) fn word<'de, T: Copy, D: Deserializer<'de>>(
    deserializer: D,
    words: &[(&str, T)],
) -> Result<T, D::Error> {
    let text = String::deserialize(deserializer)?;
    words
        .iter()
        .find(|(word, _)| *word == text)
        .map(|(_, value)| *value)
        .ok_or_else(|| {
            let known: Vec<_> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
            de::Error::custom(mismatch(&known.join(" or "), &text))
        })
}

/// Reads a list: an array, or one string holding an array or values with commas between them.
pub(super) fn list<'de, T, D>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    T: Deserialize<'de> + FromStr<Err: fmt::Display>,
    D: Deserializer<'de>,
{
    deserializer.deserialize_any(List(PhantomData))
}

/// Reads a value by its text; numbers are taken by their decimal digits.
pub(super) fn from_text<'de, T, D: Deserializer<'de>>(
    deserializer: D,
    expected: &'static str,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<T, D::Error> {
    deserializer.deserialize_any(Text { expected, parse })
}

/// Returns the word nearest to a mistyped one, if any is near enough to be meant.
pub(super) fn nearest<'a>(
    typed: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    known
        .into_iter()
        .map(|word| (strsim::damerau_levenshtein(typed, word), word))
        .filter(|(distance, word)| *distance <= (word.len() / 2).max(1))
        .min()
        .map(|(_, word)| word)
}

pub(super) fn mismatch(expected: &str, found: &str) -> String {
    format!("expected {expected}, found {found:?}")
}

fn out_of_range(min: &str, max: &str, found: &str) -> String {
    format!("must be from {min} to {max}, found {found}")
}

fn duration_text(ms: u64) -> String {
    // No days: as not all of them have 24 hours, they are not read either.
    let units = [(HOUR, "h"), (MINUTE, "m"), (SECOND, "s")];
    whole_units(ms, &units, if ms == 0 { "s" } else { "ms" })
}

fn size_text(bytes: u64) -> String {
    whole_units(bytes, &[(GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")], "B")
}

fn whole_units(value: u64, units: &[(u64, &str)], smallest: &str) -> String {
    units
        .iter()
        .find(|(unit, _)| value > 0 && value.is_multiple_of(*unit))
        .map_or_else(
            || format!("{value}{smallest}"),
            |(unit, name)| format!("{}{name}", value / unit),
        )
}

struct Flag;

impl Visitor<'_> for Flag {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a boolean")
    }

    fn visit_bool<E: de::Error>(self, flag: bool) -> Result<bool, E> {
        Ok(flag)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<bool, E> {
        // What else stands here is not quoted, as with any value of the wrong kind.
        let flag = text.parse();
        flag.map_err(|_| E::invalid_type(Unexpected::Str(text), &self))
    }
}

struct Text<P> {
    expected: &'static str,
    parse: P,
}

impl<T, P: FnOnce(&str) -> Result<T, String>> Visitor<'_> for Text<P> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.parse)(text).map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }

    fn visit_f64<E: de::Error>(self, number: f64) -> Result<T, E> {
        self.visit_str(&number.to_string())
    }
}

struct List<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de> + FromStr<Err: fmt::Display>> Visitor<'de> for List<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of strings")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<T>, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(list)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Vec<T>, E> {
        split_list(text)
            .ok_or_else(|| E::custom("expected a list such as [\"a\", \"b\"] or \"a,b\""))?
            .iter()
            .map(|item| item.parse().map_err(E::custom))
            .collect()
    }
}

/// Splits the text of a list; none if it has brackets and is no array of strings.
pub(super) fn split_list(text: &str) -> Option<Vec<String>> {
    #[derive(serde::Deserialize)]
    struct Holder {
        list: Vec<String>,
    }
    let text = text.trim();
    // An IPv6 address starts with a bracket too, but does not end with one.
    if text.starts_with('[') && text.ends_with(']') {
        let holder: Holder = Toml::from_str(&format!("list = {text}")).ok()?;
        return Some(holder.list);
    }
    let items = text.split(',').map(str::trim);
    Some(items.filter(|i| !i.is_empty()).map(str::to_owned).collect())
}
