//! A key of Flameup's, ready for use: how it is shown to Flameup, and how it is recognised where it must
//! not be. Made once for each key.
//!
//! # Invariants
//! - The key counts in any of its forms: as it is, in either case, percent-encoded, escaped as in JSON, in
//!   hexadecimal, and in base64 wherever it stands in what was encoded.

use std::fmt;

use http::HeaderValue;
use memchr::memmem::{self, Finder};

mod forms;

use crate::config::ApiKey;
#[cfg(test)]
use crate::config::{Config, Sources};

/// A secret half of fewer bytes than this would be found everywhere; then only the whole key counts.
const LEAST_SECRET_BYTES: usize = 16;

/// A key, the header that shows it to Flameup, and what gives it away.
#[derive(Debug)]
pub struct Credential {
    /// `Authorization`, marked sensitive.
    pub authorization: HeaderValue,
    /// To recognise the key where it must not be.
    pub needles: Needles,
    api_key: ApiKey,
}

/// What to look for: the key, its secret half alone, and that in other forms.
pub struct Needles {
    /// Those first in which none of the others stands.
    all: Vec<Finder<'static>>,
    /// How many these are: wherever any stands, one of them does.
    least: usize,
}

impl Credential {
    /// What signs with `api_key`.
    pub(super) fn of(api_key: ApiKey) -> Self {
        let mut authorization = HeaderValue::try_from(format!("Bearer {}", api_key.expose()))
            .expect("a key is visible ASCII");
        authorization.set_sensitive(true);
        Self {
            authorization,
            needles: Needles::of(&api_key),
            api_key,
        }
    }

    /// What signs with this key.
    #[cfg(test)]
    pub(crate) fn for_tests(key: &str) -> Self {
        let loaded = Config::load(&Sources::inline("", [("FLAMEUP_API_KEY", key)]));
        let mut workspaces = loaded.expect("the defaults and a key").config.workspaces;
        let (_, mut workspace) = workspaces.pop_first().expect("the default workspace");
        Self::of(workspace.api_keys.remove(0).0)
    }

    /// The key itself.
    pub(super) fn api_key(&self) -> &ApiKey {
        &self.api_key
    }
}

impl Needles {
    fn of(key: &ApiKey) -> Self {
        let mut forms = forms::of(key.expose(), LEAST_SECRET_BYTES);
        forms.sort_unstable();
        forms.dedup();
        let has_another = |form: &Vec<u8>| {
            let mut others = forms.iter().filter(|other| *other != form);
            others.any(|other| memmem::find(form, other).is_some())
        };
        let (least, others): (Vec<_>, Vec<_>) = forms.iter().partition(|form| !has_another(form));
        let all = least.iter().chain(&others);
        Self {
            least: least.len(),
            all: all.map(|form| Finder::new(form).into_owned()).collect(),
        }
    }

    /// Whether any stands anywhere in `bytes`.
    pub fn are_in(&self, bytes: &[u8]) -> bool {
        let mut least = self.all[..self.least].iter();
        least.any(|finder| finder.find(bytes).is_some())
    }

    /// How many bytes at the end of `bytes` may be the beginning of one.
    pub fn begun_at_end(&self, bytes: &[u8]) -> usize {
        let begun = |finder: &Finder<'_>| {
            let needle = finder.needle();
            let longest = bytes.len().min(needle.len().saturating_sub(1));
            (1..=longest)
                .rev()
                .find(|length| bytes.ends_with(&needle[..*length]))
                .unwrap_or(0)
        };
        self.all.iter().map(begun).max().unwrap_or(0)
    }
}

impl fmt::Debug for Needles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Needles([REDACTED])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_found_in_every_form() {
        let key = "ws_test_demo.0123456789abcdef0123456789abcdef";
        let Credential { needles, .. } = Credential::for_tests(key);
        for quoted in [
            "0123456789ABCDEF0123456789ABCDEF",
            "3031323334353637383961626364656630313233343536373839616263646566",
            // Of the key, of `Bearer KEY`, and of `x:KEY`, as base64(1) has them.
            "d3NfdGVzdF9kZW1vLjAxMjM0NTY3ODlhYmNkZWYwMTIzNDU2Nzg5YWJjZGVm",
            "QmVhcmVyIHdzX3Rlc3RfZGVtby4wMTIzNDU2Nzg5YWJjZGVmMDEyMzQ1Njc4OWFiY2RlZg==",
            "eDp3c190ZXN0X2RlbW8uMDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
        ] {
            assert!(needles.are_in(quoted.as_bytes()), "{quoted}");
        }
        assert!(!needles.are_in(b"ws_test_demo.0123456789abcdef"));
        assert!(needles.least < needles.all.len());
        for form in &needles.all {
            assert!(needles.are_in(form.needle()));
        }
        assert!(!format!("{needles:?}").contains("012"));
    }
}
