//! What a client's certificate calls it.
//!
//! The certificate was verified before: whoever shows it has its key, and an authority of
//! `server.tls.client_ca_file` vouches for its names.
//!
//! # Specification
//! Names are the subject's common names and the alternative names that are DNS names or URIs
//! ([RFC 5280] §4.1.2.6, §4.2.1.6). They are compared byte for byte; a wildcard is a name like any
//! other, and stands for itself.
//!
//! [RFC 5280]: https://www.rfc-editor.org/rfc/rfc5280

use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

/// The names in a verified certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientCertificate {
    names: Vec<String>,
}

/// Tags of DER (X.690 §8), as far as subjects have them.
const OBJECT_IDENTIFIER: u8 = 0x06;
const UTF8_STRING: u8 = 0x0c;
const PRINTABLE_STRING: u8 = 0x13;
const IA5_STRING: u8 = 0x16;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;

/// `id-at-commonName`, 2.5.4.3.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

impl ClientCertificate {
    /// Reads the names in a certificate; none from one that is not readable.
    pub fn read(der: &CertificateDer<'_>) -> Self {
        let Ok(certificate) = EndEntityCert::try_from(der) else {
            return Self::default();
        };
        let mut names = common_names(certificate.subject());
        names.extend(certificate.valid_dns_names().map(str::to_owned));
        names.extend(certificate.valid_uri_names().map(str::to_owned));
        Self { names }
    }

    /// What it calls its holder.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }
}

/// The common names of a subject, given without the tag and the length of the whole.
fn common_names(subject: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    for (_, set) in Values(subject).filter(|(tag, _)| *tag == SET) {
        for (_, attribute) in Values(set).filter(|(tag, _)| *tag == SEQUENCE) {
            let mut parts = Values(attribute);
            if parts.next() != Some((OBJECT_IDENTIFIER, COMMON_NAME)) {
                continue;
            }
            if let Some((UTF8_STRING | PRINTABLE_STRING | IA5_STRING, text)) = parts.next()
                && let Ok(text) = std::str::from_utf8(text)
            {
                names.push(text.to_owned());
            }
        }
    }
    names
}

/// The values that follow each other in DER, tag and content. Ends at whatever is not readable.
struct Values<'a>(&'a [u8]);

impl<'a> Iterator for Values<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (&tag, rest) = self.0.split_first()?;
        let (&first, rest) = rest.split_first()?;
        // Lengths from 128 are written with the number of their bytes before them; no name is longer
        // than two bytes can say.
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81 => {
                let (&length, rest) = rest.split_first()?;
                (usize::from(length), rest)
            }
            0x82 => {
                let (length, rest) = rest.split_first_chunk()?;
                (usize::from(u16::from_be_bytes(*length)), rest)
            }
            _ => return None,
        };
        let (value, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, value))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::*;

    #[test]
    fn common_names_dns_names_and_uris_are_read_and_nothing_else() {
        let mut params = CertificateParams::new(vec!["billing.internal".to_owned()]);
        let params = params.as_mut().expect("a name");
        params
            .distinguished_name
            .push(DnType::OrganizationName, "Acme");
        let common = "x".repeat(200);
        params.distinguished_name.push(DnType::CommonName, &*common);
        let uri = "spiffe://acme/billing";
        let san = SanType::URI(uri.try_into().expect("ASCII"));
        params.subject_alt_names.push(san);
        params
            .subject_alt_names
            .push(SanType::IpAddress("192.0.2.1".parse().expect("an address")));
        let key = KeyPair::generate().expect("a key");
        let made = params.self_signed(&key).expect("a certificate");
        let read = ClientCertificate::read(made.der());
        let names: Vec<_> = read.names().collect();
        assert_eq!(names, [&*common, "billing.internal", uri]);
    }

    #[test]
    fn what_is_no_certificate_names_nobody() {
        let read = ClientCertificate::read(&CertificateDer::from(&b"nonsense"[..]));
        assert_eq!(read, ClientCertificate::default());
    }

    proptest! {
        #[test]
        fn no_subject_makes_reading_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            common_names(&bytes);
        }
    }
}
