//! Names: short texts that are compared, ordered, logged, and cloned without copying.

use super::units::mismatch;

/// Defines a shared text that can only be made through its rule.
macro_rules! shared_text {
    ($(#[$doc:meta])* $name:ident, $expected:literal, $rule:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(std::sync::Arc<str>);

        impl $name {
            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                let rule: fn(&str) -> bool = $rule;
                if rule(text) {
                    return Ok(Self(text.into()));
                }
                Err(mismatch($expected, text))
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Debug::fmt(&self.0, f)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
                let text = String::deserialize(source)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

shared_text!(
    /// Our name of a workspace: 1 to 64 of `A-Z`, `a-z`, `0-9`, `_`, `-`; fit for a metric label.
    WorkspaceName, "a name of 1 to 64 letters, digits, _ or -", is_name
);

shared_text!(
    /// Our name of a client: 1 to 64 of `A-Z`, `a-z`, `0-9`, `_`, `-`; fit for a metric label.
    ClientName, "a name of 1 to 64 letters, digits, _ or -", is_name
);

shared_text!(
    /// Flameup's id of a workspace: 1 to 128 visible ASCII characters, none of them `/`.
    WorkspaceId, "an id of 1 to 128 visible ASCII characters without /",
    |text| (1..=128).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/')
);

fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    (1..=64).contains(&text.len()) && text.bytes().all(allowed)
}
