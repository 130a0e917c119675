//! TLS to clients: certificates as they are in their files, now and after they have changed.
//!
//! # Specification
//! TLS 1.3 and 1.2; HTTP/2 and HTTP/1.1 by ALPN ([RFC 7301]), HTTP/1.1 without it. With authorities
//! for clients, a connection without a certificate of theirs does not come about.
//!
//! # Invariants
//! - Certificate, key and authorities are taken together or not at all: files that do not fit each
//!   other, as in the middle of being replaced, leave what was before.
//! - Sessions of before cannot be resumed after: an authority that is gone lets nobody in.
//!
//! [RFC 7301]: https://www.rfc-editor.org/rfc/rfc7301

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest::{Context, Digest, SHA256};
use parking_lot::{Mutex, RwLock};
use rustls::crypto::{CryptoProvider, aws_lc_rs as provider};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

use crate::config;

/// Longer than any chain or bundle; a file beyond it is not one.
const MAX_BYTES: u64 = 4 * 1024 * 1024;

/// What HTTP/2 is called in ALPN (RFC 9113 §3.2), and HTTP/1.1.
pub(super) const H2: &[u8] = b"h2";
const HTTP_11: &[u8] = b"http/1.1";

/// TLS to the clients of one listener, or of several.
#[derive(Debug)]
pub struct Tls {
    current: RwLock<Arc<ServerConfig>>,
    /// Held while files are read, so that two reloads do not overtake each other.
    source: Mutex<Source>,
}

/// What `current` was made of.
#[derive(Debug)]
struct Source {
    files: config::Tls,
    digest: Digest,
}

/// Why certificates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("reading {} (server.tls.{key})", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The configuration key it stands under.
        key: &'static str,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("no {what} in {} (server.tls.{key})", path.display())]
    Content {
        /// What is not there.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The configuration key it stands under.
        key: &'static str,
        /// What is there.
        #[source]
        source: Option<pem::Error>,
    },
    /// The key is not the certificate's, or one of them is not usable.
    #[error("certificate and key are of no use together (server.tls)")]
    Pair(#[source] rustls::Error),
    /// The authorities are of no use.
    #[error("the authorities for clients are of no use (server.tls.client_ca_file)")]
    Authorities(#[source] VerifierBuilderError),
}

/// The files' contents.
struct Material {
    cert: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
}

impl Tls {
    /// TLS with what the files hold.
    ///
    /// # Errors
    /// When they do not hold what it takes.
    pub fn load(files: &config::Tls) -> Result<Self, Error> {
        let material = Material::read(files)?;
        let source = Source {
            digest: material.digest(),
            files: files.clone(),
        };
        Ok(Self {
            current: RwLock::new(material.to_config(files)?),
            source: Mutex::new(source),
        })
    }

    /// Reads the files again, and has new connections use what they hold. Tells whether that is
    /// anything new. Blocks for as long as reading does.
    ///
    /// # Errors
    /// When they do not hold what it takes; what was before is kept then.
    pub fn reload(&self) -> Result<bool, Error> {
        let mut source = self.source.lock();
        let files = source.files.clone();
        self.take(&mut source, &files)
    }

    /// As [`reload`](Self::reload), from these files now and later on.
    ///
    /// # Errors
    /// When they do not hold what it takes; what was before is kept then, the names of the files too.
    pub fn reload_from(&self, files: &config::Tls) -> Result<bool, Error> {
        self.take(&mut self.source.lock(), files)
    }

    fn take(&self, source: &mut Source, files: &config::Tls) -> Result<bool, Error> {
        let material = Material::read(files)?;
        let digest = material.digest();
        let is_new = digest.as_ref() != source.digest.as_ref();
        if is_new {
            *self.current.write() = material.to_config(files)?;
        }
        *source = Source {
            files: files.clone(),
            digest,
        };
        Ok(is_new)
    }

    /// What the next connection is accepted with.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.current.read()))
    }
}

impl Material {
    fn read(files: &config::Tls) -> Result<Self, Error> {
        let client_ca = files.client_ca_file.as_deref();
        Ok(Self {
            cert: read(&files.cert_file, "cert_file")?,
            key: read(&files.key_file, "key_file")?,
            client_ca: client_ca
                .map(|path| read(path, "client_ca_file"))
                .transpose()?,
        })
    }

    fn digest(&self) -> Digest {
        let mut context = Context::new(&SHA256);
        for file in [Some(&self.cert), Some(&self.key), self.client_ca.as_ref()] {
            // With their lengths, so that bytes cannot move from one to the next unnoticed.
            context.update(&file.map_or(0, |file| file.len() as u64).to_be_bytes());
            context.update(file.map_or(&[], |file| file));
        }
        context.finish()
    }

    fn to_config(&self, files: &config::Tls) -> Result<Arc<ServerConfig>, Error> {
        let chain = certificates(&self.cert, &files.cert_file, "cert_file")?;
        let key = PrivateKeyDer::from_pem_slice(&self.key).map_err(|source| Error::Content {
            what: "private key",
            path: files.key_file.clone(),
            key: "key_file",
            source: Some(source),
        })?;
        let provider = Arc::new(provider::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(Error::Pair)?;
        let builder = match self.authorities(files)? {
            Some(roots) => builder.with_client_cert_verifier(verifier(roots, provider)?),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_single_cert(chain, key).map_err(Error::Pair)?;
        config.alpn_protocols = vec![H2.to_vec(), HTTP_11.to_vec()];
        Ok(Arc::new(config))
    }

    fn authorities(&self, files: &config::Tls) -> Result<Option<RootCertStore>, Error> {
        let (Some(pem), Some(path)) = (&self.client_ca, &files.client_ca_file) else {
            return Ok(None);
        };
        let mut roots = RootCertStore::empty();
        for certificate in certificates(pem, path, "client_ca_file")? {
            roots.add(certificate).map_err(Error::Pair)?;
        }
        Ok(Some(roots))
    }
}

fn verifier(
    roots: RootCertStore,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, Error> {
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(Error::Authorities)
}

fn read(path: &Path, key: &'static str) -> Result<Vec<u8>, Error> {
    let read = || {
        let mut bytes = Vec::new();
        let file = File::open(path)?;
        if file.take(MAX_BYTES + 1).read_to_end(&mut bytes)? as u64 > MAX_BYTES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(bytes)
    };
    read().map_err(|source| Error::Unreadable {
        path: path.to_owned(),
        key,
        source,
    })
}

/// All certificates of a file, of which there must be one at least.
fn certificates(
    pem: &[u8],
    path: &Path,
    key: &'static str,
) -> Result<Vec<CertificateDer<'static>>, Error> {
    let none = |source| Error::Content {
        what: "certificate",
        path: path.to_owned(),
        key,
        source,
    };
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|error| none(Some(error)))?;
    if found.is_empty() {
        return Err(none(None));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
    use tempfile::TempDir;

    use super::*;

    fn identity(name: &str) -> CertifiedKey<KeyPair> {
        generate_simple_self_signed([name.to_owned()]).expect("a certificate")
    }

    fn files(directory: &TempDir) -> config::Tls {
        let path = |name| directory.path().join(name);
        config::Tls {
            cert_file: path("cert"),
            key_file: path("key"),
            client_ca_file: Some(path("ca")),
        }
    }

    fn write(files: &config::Tls, cert: &str, key: &str, ca: &str) {
        let ca_file = files.client_ca_file.as_ref().expect("is set");
        for (path, text) in [
            (&files.cert_file, cert),
            (&files.key_file, key),
            (ca_file, ca),
        ] {
            fs::write(path, text).expect("written");
        }
    }

    #[test]
    fn files_that_do_not_fit_each_other_leave_what_was_before() {
        let directory = TempDir::new().expect("a directory");
        let files = files(&directory);
        let (old, new) = (identity("old"), identity("new"));
        let (old_cert, old_key) = (old.cert.pem(), old.signing_key.serialize_pem());
        let (new_cert, new_key) = (new.cert.pem(), new.signing_key.serialize_pem());
        write(&files, &old_cert, &old_key, &old_cert);
        let tls = Tls::load(&files).expect("a pair");
        let before = Arc::clone(&tls.current.read());
        assert!(!tls.reload().expect("the same"), "nothing is new");
        for (cert, key, ca) in [
            (&*new_cert, &*old_key, &*old_cert),
            (&old_cert, &new_key, &old_cert),
            (&new_cert, "", &old_cert),
            ("", &new_key, &old_cert),
            (&new_cert[..200], &new_key, &old_cert),
            (&new_cert, &new_key, ""),
        ] {
            write(&files, cert, key, ca);
            assert!(tls.reload().is_err());
            assert!(Arc::ptr_eq(&before, &tls.current.read()));
        }
        fs::remove_file(&files.key_file).expect("is there");
        let error = tls.reload().expect_err("unreadable").to_string();
        assert!(error.contains("server.tls.key_file"), "{error}");
        write(&files, &new_cert, &new_key, &new_cert);
        assert!(tls.reload().expect("a pair"));
        assert!(!Arc::ptr_eq(&before, &tls.current.read()));
        assert!(!tls.reload().expect("the same"));
    }
}
