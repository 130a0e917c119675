//! Header values with a number in them, made once: what a hit would otherwise write anew.

use std::sync::LazyLock;

use http::HeaderValue;

/// Numbers below this have their values ready: seconds of a little over an hour. One table takes
/// some 300 KiB when it is first used.
const READY: usize = 4096;

type Values = Box<[HeaderValue]>;

/// The same text, followed by a number.
#[derive(Debug)]
pub struct Numbered {
    text: &'static str,
    ready: LazyLock<Values>,
}

/// `Age`: the number alone.
pub static AGE: Numbered = Numbered {
    text: "",
    ready: LazyLock::new(|| table("")),
};

/// `Cache-Status` of a plain hit, with the seconds that it stays fresh.
pub static HIT: Numbered = Numbered {
    text: HIT_TEXT,
    ready: LazyLock::new(|| table(HIT_TEXT)),
};

const HIT_TEXT: &str = "flameup-gateway; hit; ttl=";

impl Numbered {
    /// The value with this number.
    pub fn with(&self, number: u64) -> HeaderValue {
        let ready = usize::try_from(number)
            .ok()
            .and_then(|at| self.ready.get(at));
        ready.cloned().unwrap_or_else(|| {
            let text = format!("{}{number}", self.text);
            HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
        })
    }
}

/// Values whose text lives as long as the process: copying one touches nothing that another thread
/// writes to.
fn table(text: &str) -> Values {
    (0..READY)
        .map(|number| HeaderValue::from_static(format!("{text}{number}").leak()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_the_same_whether_it_was_ready_or_not() {
        for number in [0, 7, READY as u64 - 1, READY as u64, u64::MAX] {
            assert_eq!(AGE.with(number), number.to_string());
            assert_eq!(
                HIT.with(number),
                format!("flameup-gateway; hit; ttl={number}")
            );
        }
    }
}
