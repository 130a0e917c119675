//! Opens connections to Flameup, TLS included, within `upstream.connect_timeout`.

use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use http::uri::Scheme;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{self, PemObject};
use rustls_platform_verifier::Verifier;
use tokio::net::TcpStream;
use tower_service::Service;

use super::BoxError;
use crate::config;

/// Opens connections. One deadline covers name, TCP and TLS.
#[derive(Clone, Debug)]
pub struct Connector {
    inner: HttpsConnector<HttpConnector>,
    timeout: Duration,
}

/// Why no connection could ever be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system's certificates cannot be used.
    #[error("loading the system's root certificates")]
    Roots(#[source] rustls::Error),
    /// `upstream.ca_file` cannot be read as PEM certificates.
    #[error("reading certificates from {} (upstream.ca_file)", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: pem::Error,
    },
    /// `upstream.ca_file` has no certificate in it.
    #[error("no certificate in {} (upstream.ca_file)", path.display())]
    NoCertificate {
        /// The file.
        path: PathBuf,
    },
}

impl Connector {
    /// A connector as configured.
    ///
    /// # Errors
    /// When certificates cannot be loaded; found out here, not at the first request.
    pub fn new(config: &config::Upstream) -> Result<Self, Error> {
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        http.set_nodelay(true);
        let builder = HttpsConnectorBuilder::new().with_tls_config(tls(config)?);
        let inner = if config.base_url.scheme == Scheme::HTTP {
            // Only to this machine; the configuration sees to that.
            builder
                .https_or_http()
                .enable_all_versions()
                .wrap_connector(http)
        } else {
            builder
                .https_only()
                .enable_all_versions()
                .wrap_connector(http)
        };
        Ok(Self {
            inner,
            timeout: config.connect_timeout,
        })
    }
}

impl Service<Uri> for Connector {
    type Response = MaybeHttpsStream<TokioIo<TcpStream>>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, target: Uri) -> Self::Future {
        let connection = tokio::time::timeout(self.timeout, self.inner.call(target));
        Box::pin(async {
            connection.await.unwrap_or_else(|_| {
                Err(io::Error::new(io::ErrorKind::TimedOut, "connecting took too long").into())
            })
        })
    }
}

fn tls(config: &config::Upstream) -> Result<ClientConfig, Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(Error::Roots)?;
    if config.base_url.scheme == Scheme::HTTP {
        // No TLS will happen; a machine without root certificates must do.
        return Ok(builder
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth());
    }
    let verifier = verifier(config.ca_file.as_deref(), provider)?;
    Ok(builder
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth())
}

/// Verifies against the system's roots, and those of `ca_file` besides.
fn verifier(ca_file: Option<&Path>, provider: Arc<CryptoProvider>) -> Result<Verifier, Error> {
    let Some(path) = ca_file else {
        return Verifier::new(provider).map_err(Error::Roots);
    };
    let broken = |source| Error::CaFile {
        path: path.to_owned(),
        source,
    };
    let roots: Vec<_> = CertificateDer::pem_file_iter(path)
        .map_err(broken)?
        .collect::<Result<_, _>>()
        .map_err(broken)?;
    if roots.is_empty() {
        return Err(Error::NoCertificate {
            path: path.to_owned(),
        });
    }
    Verifier::new_with_extra_roots(roots, provider).map_err(Error::Roots)
}
