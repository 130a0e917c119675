//! The way to Flameup: TLS, both versions of HTTP, and connections that are used again.

use std::io::Write;
use std::sync::Arc;

use flameup_gateway::sandbox::{Fault, FaultKind, Matcher};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;
use tempfile::NamedTempFile;

use crate::support::{Harness, Setup};

/// What a sandbox proves itself with, and the file that makes it trusted.
struct Identity {
    server: Arc<ServerConfig>,
    ca_file: NamedTempFile,
}

impl Identity {
    fn of(names: &[&str], alpn: &[&str]) -> Self {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).expect("a certificate");
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .expect("a pair");
        server.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let mut ca_file = NamedTempFile::new().expect("a file");
        ca_file.write_all(made.cert.pem().as_bytes()).expect("room");
        Self {
            server: Arc::new(server),
            ca_file,
        }
    }

    /// A setup whose sandbox has this identity. It is trusted if `trusted` names it.
    fn setup(&self, trusted: &Identity) -> Setup {
        let ca_file = trusted.ca_file.path().display();
        Setup::new()
            .config(&format!("upstream.ca_file = \"{ca_file}\""))
            .sandbox(|options| options.tls(Arc::clone(&self.server)))
    }
}

/// Looks ten people up, one after the other, over however many connections that takes.
async fn connections_for_ten(harness: &Harness) -> u64 {
    for number in 1..=10 {
        let id = format!("user_{number}");
        harness
            .get(&Harness::path(&id))
            .await
            .assert_flameups(200, &harness.body(&id));
    }
    assert_eq!(harness.forwards(), 10);
    harness.flameup.connections()
}

#[tokio::test]
async fn http1_and_http2_are_spoken_over_tls_and_connections_used_again() {
    for alpn in [&["h2", "http/1.1"][..], &["http/1.1"], &[]] {
        let identity = Identity::of(&["127.0.0.1"], alpn);
        let harness = identity.setup(&identity).start().await;
        assert_eq!(connections_for_ten(&harness).await, 1, "{alpn:?}");
    }
}

#[tokio::test]
async fn writes_and_lists_go_over_either_version_on_connections_used_again() {
    for alpn in [&["h2", "http/1.1"][..], &["http/1.1"]] {
        let identity = Identity::of(&["127.0.0.1"], alpn);
        let anybody = "anonymous.workspace = \"default\"\nanonymous.scopes = [\"*\"]";
        let harness = identity.setup(&identity).config(anybody).start().await;
        let mut client = harness.client().await;
        let target = Harness::path("user_1");
        for body in ["{\"traits\":{\"first_name\":\"New\"}}", "{}"] {
            let answer = client.send_with("PUT", &target, &[], body).await;
            answer.assert_flameups(200, &harness.body("user_1"));
            let sent = harness.flameup.received().pop().expect("a forward");
            assert_eq!(sent.body, body);
            assert_eq!(sent.headers["content-length"], body.len().to_string());
        }
        let list = client.get("/api/v1/people?limit=2").await;
        assert_eq!(list.json()["people"].as_array().map(Vec::len), Some(2));
        let gone = client.send("DELETE", &target, &[]).await;
        assert_eq!((gone.status.as_u16(), gone.body.len()), (204, 0));
        assert_eq!(client.get(&target).await.status, 404);
        assert_eq!(harness.flameup.connections(), 1, "{alpn:?}");
    }
}

#[tokio::test]
async fn many_misses_at_once_share_one_http2_connection() {
    let identity = Identity::of(&["127.0.0.1"], &["h2"]);
    let harness = identity.setup(&identity).start().await;
    harness.get("/api/v1/people/user_1").await;
    let hold = harness
        .flameup
        .hold(flameup_gateway::sandbox::Matcher::any());
    let mut waiting = Vec::new();
    for number in 2..22 {
        let mut wire = crate::support::Wire::connect(harness.address()).await;
        wire.ask(&format!("/api/v1/people/user_{number}")).await;
        waiting.push(wire);
    }
    assert!(hold.arrived(20).await);
    hold.release();
    for wire in &mut waiting {
        assert_eq!(wire.answer().await.status, 200);
    }
    assert_eq!(harness.flameup.connections(), 1);
}

#[tokio::test]
async fn plain_connections_are_used_again() {
    let harness = Harness::start().await;
    assert_eq!(connections_for_ten(&harness).await, 1);
}

#[tokio::test]
async fn a_burst_uses_the_connections_of_the_one_before() {
    const AT_ONCE: usize = 60;
    let harness = Harness::start().await;
    for first in [0, AT_ONCE] {
        let hold = harness.flameup.hold(Matcher::any());
        let mut asking = Vec::new();
        for number in first..first + AT_ONCE {
            let path = Harness::path(&format!("user_{}", number + 1));
            asking.push(harness.asking(&path, &[]).await);
        }
        assert!(hold.arrived(AT_ONCE).await);
        hold.release();
        for client in &mut asking {
            assert_eq!(client.answer().await.status, 200);
        }
    }
    // Whoever is answered may be back before their connection is.
    let connections = harness.flameup.connections();
    assert!((60..80).contains(&connections), "{connections}");
}

#[tokio::test]
async fn a_certificate_nobody_vouches_for_is_a_502() {
    let (identity, other) = (
        Identity::of(&["127.0.0.1"], &["h2"]),
        Identity::of(&["127.0.0.1"], &["h2"]),
    );
    let harness = identity.setup(&other).start().await;
    harness
        .get("/api/v1/people/user_1")
        .await
        .assert_own(502, "tls_certificate_error");
    assert_eq!(harness.forwards(), 0, "the key was not sent");
}

#[tokio::test]
async fn a_certificate_for_another_name_is_a_502() {
    let identity = Identity::of(&["flameup.example"], &["h2"]);
    let harness = identity.setup(&identity).start().await;
    harness
        .get("/api/v1/people/user_1")
        .await
        .assert_own(502, "tls_certificate_error");
    assert_eq!(harness.forwards(), 0);
}

#[tokio::test]
async fn an_upstream_that_speaks_no_tls_is_a_502() {
    let identity = Identity::of(&["127.0.0.1"], &["h2"]);
    let plain = Harness::start().await;
    let base_url = format!("https://{}", plain.flameup.address());
    let harness = identity.setup(&identity).upstream(&base_url).start().await;
    harness
        .get("/api/v1/people/user_1")
        .await
        .assert_own(502, "destination_unavailable");
    assert_eq!(plain.forwards(), 0);
}

#[tokio::test]
async fn faults_over_http2_are_answered_like_those_over_http1() {
    let identity = Identity::of(&["127.0.0.1"], &["h2"]);
    let config = "upstream.timeout = \"400ms\"\nupstream.connect_timeout = \"400ms\"";
    let harness = identity.setup(&identity).config(config).start().await;
    let huge = FaultKind::Huge {
        bytes: 64 * 1024 * 1024,
    };
    let faults = [
        (FaultKind::Reset, 502, "connection_terminated"),
        (FaultKind::ResetMidBody, 502, "http_response_incomplete"),
        (
            FaultKind::Truncate { bytes: 100 },
            502,
            "http_response_incomplete",
        ),
        (FaultKind::Html200, 502, "http_protocol_error"),
        (huge, 502, "http_response_body_size"),
        (FaultKind::EchoKey, 502, "http_protocol_error"),
        (FaultKind::Hang, 504, "http_response_timeout"),
    ];
    for (at, (kind, status, error)) in faults.into_iter().enumerate() {
        let name = format!("{kind:?}");
        let times = if at == 0 { 2 } else { 1 }; // Without an answer, it is asked once more.
        harness.flameup.fault(Fault::new(kind).times(times));
        let answer = harness.get("/api/v1/people/user_1").await;
        assert_eq!(answer.status, status, "{name}: {answer:?}");
        answer.assert_own(status, error);
        // Somebody is answered well in between, so that Flameup does not count as down.
        let other = Harness::path(&format!("user_{}", at + 2));
        assert_eq!(harness.get(&other).await.status, 200, "{name}");
        harness.pass(31);
    }
    harness
        .get("/api/v1/people/user_1")
        .await
        .assert_flameups(200, &harness.body("user_1"));
    assert_eq!(
        harness.flameup.connections(),
        1,
        "a stream's end is not the connection's"
    );
}
