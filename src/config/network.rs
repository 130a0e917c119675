//! Networks of addresses, as lists of peers name them.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, de};

use super::units;

/// A network such as `10.0.0.0/8`, or a single address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network(IpNet);

impl Network {
    /// Whether an address belongs to it. An IPv4 address written as IPv6 is the IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || units::mismatch("a network such as \"10.0.0.0/8\", or an address", text);
        let network = match text.parse::<IpAddr>() {
            Ok(address) => IpNet::from(address.to_canonical()),
            Err(_) => text.parse::<IpNet>().map_err(|_| expected())?,
        };
        // Whoever writes 10.0.0.7/8 means either that host or that network; which is a guess.
        if network.trunc() != network {
            return Err(format!(
                "{text:?} has bits set beyond its length; did you mean {:?} or {:?}?",
                network.trunc().to_string(),
                network.addr().to_string()
            ));
        }
        Ok(Self(network))
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        text.parse().expect(text)
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect(text)
    }

    #[test]
    fn a_network_has_its_addresses_however_they_are_written() {
        let ten = network("10.0.0.0/8");
        assert!(ten.contains(ip("10.1.2.3")) && ten.contains(ip("::ffff:10.1.2.3")));
        assert!(!ten.contains(ip("11.0.0.1")) && !ten.contains(ip("::1")));
        let one = network("192.0.2.7");
        assert!(one.contains(ip("192.0.2.7")) && !one.contains(ip("192.0.2.8")));
        assert!(network("2001:db8::/32").contains(ip("2001:db8::1")));
    }

    #[test]
    fn what_could_mean_two_things_or_none_is_refused() {
        for text in ["", "10", "10.0.0.0/33", "10.0.0.7/8", "example.com"] {
            assert!(text.parse::<Network>().is_err(), "{text}");
        }
    }
}
