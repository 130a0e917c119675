//! TLS, and HTTP/2 when both sides offer it.

use std::sync::Arc;

use bytes::Bytes;
use flameup_gateway::sandbox::{DEMO_KEY, Fault, FaultKind, Matcher, Options, Sandbox};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::support::{reply, request, start_with, within};

async fn start() -> (Sandbox, CertificateDer<'static>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let certificate = made.cert.der().clone();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth();
    let mut config = config
        .with_single_cert(vec![certificate.clone()], key)
        .expect("a pair");
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let sandbox = start_with(Options::default().tls(Arc::new(config))).await;
    (sandbox, certificate)
}

async fn connect(
    sandbox: &Sandbox,
    trusted: CertificateDer<'static>,
    alpn: &[u8],
) -> TlsStream<TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(trusted).expect("a certificate");
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions");
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    let stream = TcpStream::connect(sandbox.address())
        .await
        .expect("it listens");
    let name = ServerName::try_from("localhost").expect("a name");
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .expect("a handshake")
}

fn read_person(base: &str) -> http::Request<Full<Bytes>> {
    let key = format!("Bearer {DEMO_KEY}");
    request(
        "GET",
        &format!("{base}/api/v1/people/user_1"),
        &[("authorization", &key)],
        "",
    )
}

#[tokio::test]
async fn http1_is_served_over_tls() {
    let (sandbox, certificate) = start().await;
    assert!(sandbox.base_url().starts_with("https://127.0.0.1:"));
    let stream = connect(&sandbox, certificate, b"http/1.1").await;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .expect("a client");
    tokio::spawn(connection);
    let response = within(sender.send_request(read_person(""))).await;
    assert_eq!(reply(response.expect("an answer")).await.status, 200);
}

#[tokio::test]
async fn http2_is_served_and_its_faults_stay_within_their_streams() {
    let (sandbox, certificate) = start().await;
    let body = sandbox
        .people()
        .body_by_external_id("user_1")
        .expect("exists");
    let stream = connect(&sandbox, certificate, b"h2").await;
    let io = TokioIo::new(stream);
    let (mut sender, connection) = http2::handshake(TokioExecutor::new(), io)
        .await
        .expect("a client");
    tokio::spawn(connection);
    let base = "https://localhost";
    let once = |kind| sandbox.fault(Fault::new(kind).on(Matcher::id("user_1")).once());

    once(FaultKind::Reset);
    assert!(
        within(sender.send_request(read_person(base)))
            .await
            .is_err()
    );
    once(FaultKind::ResetMidBody);
    let broken = within(sender.send_request(read_person(base)))
        .await
        .expect("a head");
    assert!(within(broken.into_body().collect()).await.is_err());
    once(FaultKind::Huge { bytes: 200_000 });
    let huge = within(sender.send_request(read_person(base)))
        .await
        .expect("a head");
    assert_eq!(reply(huge).await.body.len(), 200_000);

    let response = within(sender.send_request(read_person(base))).await;
    let whole = reply(response.expect("an answer")).await;
    assert_eq!((whole.status, whole.body), (200, body));
    assert!(whole.headers.contains_key("x-ratelimit-remaining"));
    assert_eq!(sandbox.connections(), 1);
}
