//! TLS to clients: both versions of HTTP, certificates that change, and clients known by theirs.

use std::time::{Duration, Instant};

use flameup_gateway::clock::Clock;
use flameup_gateway::config::{Config, ListenAddress, Sources};
use flameup_gateway::sandbox::DEMO_KEY;
use flameup_gateway::serve::Running;
use flameup_gateway::serve::reload::Reloader;
use tokio_rustls::client::TlsStream;

use crate::support::frames::{Frames, get};
use crate::support::identity::{Authority, Files, Pair, connect, wire};
use crate::support::metrics::metrics;
use crate::support::tenants::{TOKEN_ONE, TOKEN_TWO, bearer, client};
use crate::support::{Harness, Setup, Wire, within};

const PERSON: &str = "/api/v1/people/user_1";

/// Longer than any limit that these tests set, and shorter than any that is set by default.
const SOON: Duration = Duration::from_secs(5);

async fn serving(files: &Files, asks_for_certificates: bool, config: &str) -> Harness {
    let setup = Setup::new().config(&files.config(asks_for_certificates));
    setup.config(config).start().await
}

fn certificate(stream: &TlsStream<tokio::net::TcpStream>) -> Vec<u8> {
    let (_, session) = stream.get_ref();
    let chain = session.peer_certificates().expect("a certificate");
    chain.first().expect("one").to_vec()
}

#[tokio::test]
async fn both_versions_of_http_are_spoken_as_agreed() {
    let authority = Authority::new();
    let files = Files::new(&authority.pair("gateway", &["localhost"]), None);
    let harness = serving(&files, false, "").await;
    for alpn in [&["http/1.1"][..], &[]] {
        let client = authority.client(None, alpn);
        let mut wire = wire(harness.address(), &client).await;
        wire.ask(PERSON).await;
        let answer = wire.answer().await;
        answer.assert_flameups(200, &harness.body("user_1"));
    }
    let client = authority.client(None, &["h2", "http/1.1"]);
    let stream = connect(harness.address(), &client).await.expect("TLS");
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let mut frames = Frames::over(stream, &[]).await;
    assert!(frames.send(get(1, PERSON)).await);
    assert_eq!(frames.answer(1).await.as_deref(), Some("200"));
    let strange = authority.client(None, &["spdy/3"]);
    assert!(connect(harness.address(), &strange).await.is_err());
}

#[tokio::test]
async fn what_is_no_tls_is_closed_in_time_and_counted() {
    let authority = Authority::new();
    let files = Files::new(&authority.pair("gateway", &["localhost"]), None);
    let config = "server.limits.handshake_timeout = \"200ms\"";
    let harness = serving(&files, false, config).await;
    let started = Instant::now();
    let mut cleartext = Wire::connect(harness.address()).await;
    cleartext.ask(PERSON).await;
    let said = cleartext.rest().await;
    assert!(!said.starts_with(b"HTTP"), "an alert at most");
    let mut silent = Wire::connect(harness.address()).await;
    silent.assert_closed().await;
    assert!(started.elapsed() < SOON);
    let text = metrics(&harness).await.text;
    for name in [
        "handshakes_total{result=\"failure\"} 1",
        "limits_reached_total{limit=\"handshake_timeout\"} 1",
    ] {
        assert!(text.contains(name), "{name} is not in {text}");
    }
    assert_eq!(harness.forwards(), 0);
}

#[tokio::test]
async fn changed_certificates_are_taken_whole_or_not_at_all() {
    let authority = Authority::new();
    let pair = |name: &str| authority.pair(name, &["localhost"]);
    let (old, new) = (pair("old"), pair("new"));
    let files = Files::new(&old, None);
    let harness = serving(&files, false, "").await;
    let client = authority.client(None, &[]);
    let mut before = wire(harness.address(), &client).await;
    let shown = certificate(before.stream_mut());

    let half = Pair {
        cert: new.cert.clone(),
        key: old.key.clone(),
    };
    files.swap("second", &half, None);
    within(async {
        while !metrics(&harness)
            .await
            .text
            .contains("certificate_reloads_total{result=\"failure\"} 1")
        {}
    })
    .await;
    let stream = connect(harness.address(), &client).await.expect("TLS");
    assert_eq!(certificate(&stream), shown, "the old pair is kept");

    files.swap("third", &new, None);
    within(async {
        loop {
            let stream = connect(harness.address(), &client).await.expect("TLS");
            if certificate(&stream) != shown {
                return;
            }
        }
    })
    .await;
    before.ask(PERSON).await;
    assert_eq!(before.answer().await.status, 200, "who is there is served");
}

#[tokio::test]
async fn a_reload_takes_certificates_from_other_files_or_changes_nothing() {
    let authority = Authority::new();
    let pair = |name: &str| authority.pair(name, &["localhost"]);
    let (old, new, newest) = (pair("old"), pair("new"), pair("newest"));
    let mixed = Pair {
        key: old.key.clone(),
        ..new.clone()
    };
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("gateway.toml");
    let write = |lines: &str| {
        let lines = format!("server.listen = \"127.0.0.1:0\"\nadmin.listen = \"off\"\n{lines}");
        std::fs::write(&file, lines).expect("it is ours");
    };
    let [first, second, third] = [&old, &new, &mixed].map(|pair| Files::new(pair, None));
    write(&first.config(false));
    let sources = Sources {
        file: Some(file.clone()),
        inline: None,
        ..Sources::inline("", [("FLAMEUP_API_KEY", DEMO_KEY)])
    };
    let loaded = Config::load(&sources).expect("valid");
    let running = Running::start(&loaded.config, Clock::system()).await;
    let running = running.expect("it starts");
    let mut reloader = Reloader::new(sources, loaded, None);
    let Some(ListenAddress::Tcp(address)) = running.addresses().first().cloned() else {
        panic!("it listens on TCP");
    };
    let client = authority.client(None, &[]);
    let shown = async || certificate(&connect(address, &client).await.expect("TLS"));
    let before = shown().await;

    write(&second.config(false));
    let changed = reloader.try_reload(&running).await.expect("a pair");
    assert_eq!(changed, ["server.tls.cert_file", "server.tls.key_file"]);
    let other = shown().await;
    assert_ne!(other, before);
    write(&format!(
        "{}telemetry.access_log = \"all\"",
        third.config(false)
    ));
    let refused = reloader.try_reload(&running).await.expect_err("no pair");
    assert!(refused.to_string().contains("server.tls"), "{refused}");
    assert_eq!(shown().await, other, "nothing has changed");
    write("");
    let refused = reloader.try_reload(&running).await.expect_err("no TLS");
    assert!(
        refused.to_string().contains("server.tls.cert_file, "),
        "{refused}"
    );
    assert_eq!(shown().await, other);

    // The same names again, and something else behind them.
    write(&second.config(false));
    second.swap("later", &newest, None);
    assert_eq!(
        reloader.try_reload(&running).await.expect("a pair"),
        Vec::<String>::new()
    );
    assert!(![before, other].contains(&shown().await));
}

#[tokio::test]
async fn a_certificate_names_its_client_and_a_token_must_agree() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let files = Files::new(
        &authority.pair("gateway", &["localhost"]),
        Some(&authority.pem()),
    );
    let setup = Setup::new()
        .config(&files.config(true))
        .config("clients.billing.certificate_names = [\"billing\", \"spiffe://a/b\"]")
        .config("clients.crm.workspace = \"default\"")
        .config("clients.crm.certificate_names = \"crm.internal\"");
    let setup = client(setup, "billing", "default", &[TOKEN_ONE]);
    let setup = client(setup, "shop", "default", &[TOKEN_TWO]);
    let harness = setup.start().await;
    let (ours, shops) = (bearer(TOKEN_ONE), bearer(TOKEN_TWO));
    let unknown = bearer("fgw_nobodys");
    let cases = [
        (authority.pair("billing", &[]), None, 200, "billing"),
        (authority.pair("x", &["spiffe://a/b"]), None, 200, "billing"),
        (authority.pair("x", &["crm.internal"]), None, 200, "crm"),
        (authority.pair("Billing", &["*.internal"]), None, 401, "-"),
        (authority.pair("billing", &["crm.internal"]), None, 401, "-"),
        (authority.pair("billing", &[]), Some(&ours), 200, "billing"),
        (authority.pair("billing", &[]), Some(&shops), 401, "-"),
        (
            authority.pair("crm.internal", &[]),
            Some(&unknown),
            401,
            "-",
        ),
        (authority.pair("x", &[]), Some(&shops), 200, "shop"),
        (authority.pair("x", &[]), Some(&unknown), 401, "-"),
    ];
    for (at, (pair, token, status, client)) in cases.iter().enumerate() {
        let config = authority.client(Some(pair), &[]);
        let mut wire = wire(harness.address(), &config).await;
        let shown = token.map(|token| ("authorization", token.as_str()));
        // Each of its own, so that the last request counted is this one's.
        let path = format!("/api/v1/people/user_{}", at + 1);
        wire.ask_with(&path, shown.as_slice()).await;
        assert_eq!(wire.answer().await.status, *status, "case {at}");
        let text = metrics(&harness).await.text;
        let counted = format!("client=\"{client}\"");
        assert!(text.contains(&counted), "case {at}: {counted} in {text}");
    }
    let forwards = harness.forwards();
    for shown in [None, Some(stranger.pair("billing", &[]))] {
        let config = authority.client(shown.as_ref(), &[]);
        // In TLS 1.3 the client is told after it has begun to speak.
        if let Ok(stream) = connect(harness.address(), &config).await {
            let mut wire = Wire::over(stream);
            wire.try_send(format!("GET {PERSON} HTTP/1.1\r\nHost: a\r\n\r\n"))
                .await;
            assert!(wire.is_closed().await);
        }
    }
    assert_eq!(harness.forwards(), forwards);
}

#[tokio::test]
async fn without_clients_whoever_has_a_certificate_is_let_in() {
    let authority = Authority::new();
    let files = Files::new(
        &authority.pair("gateway", &["localhost"]),
        Some(&authority.pem()),
    );
    let harness = serving(&files, true, "").await;
    let config = authority.client(Some(&authority.pair("anybody", &[])), &[]);
    let mut wire = wire(harness.address(), &config).await;
    wire.ask_with(PERSON, &[("authorization", "Bearer ws_test_old.key")])
        .await;
    assert_eq!(wire.answer().await.status, 200);
}

#[tokio::test]
async fn certificates_that_are_of_no_use_keep_it_from_starting() {
    let authority = Authority::new();
    let (one, two) = (authority.pair("a", &[]), authority.pair("b", &[]));
    let mixed = Pair {
        key: two.key,
        ..one.clone()
    };
    let cases = [
        (mixed, "", "server.tls"),
        (one.clone(), "", "server.tls.client_ca_file"),
        (
            Pair {
                key: String::new(),
                ..one.clone()
            },
            "x",
            "server.tls.key_file",
        ),
        (
            Pair {
                cert: String::new(),
                ..one
            },
            "x",
            "server.tls.cert_file",
        ),
    ];
    for (pair, client_ca, named) in cases {
        let files = Files::new(&pair, Some(client_ca));
        let text = format!("admin.listen = \"off\"\n{}", files.config(true));
        let sources = Sources::inline(text, [("FLAMEUP_API_KEY", DEMO_KEY)]);
        let config = Config::load(&sources).expect("a configuration").config;
        let refused = Running::start(&config, Clock::system()).await;
        let error = refused.expect_err("it cannot serve").to_string();
        assert!(error.contains(named), "{error}");
    }
}
