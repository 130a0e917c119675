//! A certificate authority, and a server's certificate by it.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;

use super::redis::{Redis, own};

/// PEM files for `127.0.0.1`.
pub(crate) struct Certificates {
    directory: TempDir,
}

impl Certificates {
    pub(crate) fn new() -> Self {
        let directory = TempDir::new().expect("a directory");
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let authority = CertifiedIssuer::self_signed(authority, key).expect("an authority");
        let server = CertificateParams::new(["127.0.0.1".to_owned()]).expect("an address");
        let key = KeyPair::generate().expect("a key");
        let certificate = server.signed_by(&key, &authority).expect("signed");
        let certificates = Self { directory };
        for (name, text) in [
            ("ca.pem", authority.pem()),
            ("server.pem", certificate.pem()),
            ("key.pem", key.serialize_pem()),
        ] {
            std::fs::write(certificates.path(name), text).expect("written");
        }
        certificates
    }

    /// The file of the authority.
    pub(crate) fn authority(&self) -> PathBuf {
        self.path("ca.pem")
    }

    /// A server that speaks nothing but TLS.
    pub(crate) fn redis(&self) -> Redis {
        let path = |name| self.path(name).to_string_lossy().into_owned();
        let (certificate, key, authority) = (path("server.pem"), path("key.pem"), path("ca.pem"));
        Redis::start_with(|port, _: &Path| {
            let port = port.to_string();
            let files = ["--tls-cert-file", &certificate, "--tls-key-file", &key];
            let trust = ["--tls-ca-cert-file", &authority, "--tls-auth-clients", "no"];
            let ports = ["--port", "0", "--tls-port", &port];
            own(&[files, trust, ports].concat())
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}
