//! Certificates for both sides of a connection, their files, and clients that show them.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::Wire;

/// An authority, and whoever it vouches for.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key, as PEM.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) cert: String,
    pub(crate) key: String,
}

/// A directory with the files that `[server.tls]` names.
pub(crate) struct Files {
    directory: tempfile::TempDir,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Self {
            issuer: CertifiedIssuer::self_signed(params, key).expect("a certificate"),
        }
    }

    pub(crate) fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate with this common name and these alternative names, URIs among them.
    pub(crate) fn pair(&self, common: &str, names: &[&str]) -> Pair {
        let (uris, hosts): (Vec<&str>, Vec<&str>) =
            names.iter().partition(|name| name.contains("://"));
        let hosts: Vec<String> = hosts.into_iter().map(str::to_owned).collect();
        let mut params = CertificateParams::new(hosts).expect("names");
        params.distinguished_name.push(DnType::CommonName, common);
        let uris = uris.into_iter().map(|uri| uri.try_into().expect("ASCII"));
        params.subject_alt_names.extend(uris.map(SanType::URI));
        let key = KeyPair::generate().expect("a key");
        let cert = params.signed_by(&key, &self.issuer).expect("a certificate");
        Pair {
            cert: cert.pem(),
            key: key.serialize_pem(),
        }
    }

    /// What a client that trusts this authority, and shows this, connects with.
    pub(crate) fn client(&self, shown: Option<&Pair>, alpn: &[&str]) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).expect("an authority");
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots);
        let mut config = match shown {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let cert = CertificateDer::from_pem_slice(pair.cert.as_bytes());
                let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes());
                builder
                    .with_client_auth_cert(vec![cert.expect("PEM")], key.expect("PEM"))
                    .expect("a pair")
            }
        };
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}

impl Files {
    /// Files in a directory that is reached by a symbolic link, as Kubernetes makes them.
    pub(crate) fn new(server: &Pair, client_ca: Option<&str>) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let files = Self { directory };
        files.swap("first", server, client_ca);
        files
    }

    /// Writes all files anew, and then has the link point at them.
    pub(crate) fn swap(&self, version: &str, server: &Pair, client_ca: Option<&str>) {
        let target = self.directory.path().join(version);
        std::fs::create_dir(&target).expect("made");
        let write = |name: &str, text: &str| {
            std::fs::write(target.join(name), text).expect("written");
        };
        write("tls.crt", &server.cert);
        write("tls.key", &server.key);
        write("ca.crt", client_ca.unwrap_or(""));
        let (new, link) = (self.path("new"), self.path("data"));
        std::os::unix::fs::symlink(&target, &new).expect("a link");
        std::fs::rename(new, link).expect("it takes the place of the old one");
    }

    /// The file that a key of `[server.tls]` names.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path("data").join(name)
    }

    /// The lines of a configuration.
    pub(crate) fn config(&self, asks_for_certificates: bool) -> String {
        let line = |key: &str, name: &str| {
            format!("server.tls.{key} = \"{}\"\n", self.file(name).display())
        };
        let mut lines = line("cert_file", "tls.crt") + &line("key_file", "tls.key");
        if asks_for_certificates {
            lines += &line("client_ca_file", "ca.crt");
        }
        lines
    }

    fn path(&self, name: &str) -> PathBuf {
        Path::new(self.directory.path()).join(name)
    }
}

/// A connection with TLS to `localhost` at this address.
pub(crate) async fn connect(
    address: SocketAddr,
    config: &Arc<ClientConfig>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    over(stream, config).await
}

/// TLS over what is connected already.
pub(crate) async fn over(
    stream: TcpStream,
    config: &Arc<ClientConfig>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from("localhost").expect("a name");
    TlsConnector::from(Arc::clone(config))
        .connect(name, stream)
        .await
}

/// The same, to send bytes over.
pub(crate) async fn wire(
    address: SocketAddr,
    config: &Arc<ClientConfig>,
) -> Wire<TlsStream<TcpStream>> {
    Wire::over(connect(address, config).await.expect("TLS"))
}
