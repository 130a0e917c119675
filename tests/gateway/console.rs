//! The console in a real browser, and what it is served from.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::support::browser::Browser;
use crate::support::passing::open;
use crate::support::{Client, Harness, Response};

const USER: &str = "/api/v1/people/user_1";
const TOKEN: &str = "correct-horse-battery-staple-0001";

/// A browser that shows the console of this gateway, and has heard from it.
async fn shown(harness: &Harness) -> Browser {
    let browser = Browser::start().await;
    browser.open(&console(harness.admin_address())).await;
    browser
        .until("document.getElementById('state').dataset.state === 'live'")
        .await;
    browser
}

fn console(address: SocketAddr) -> String {
    format!("http://{address}/")
}

async fn assert_no_complaints(browser: &Browser) {
    let complaints = browser.complaints().await;
    assert!(complaints.is_empty(), "{complaints:?}");
}

async fn operator(harness: &Harness, target: &str) -> Response {
    Client::connect(harness.admin_address())
        .await
        .get(target)
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn figures_move_under_traffic_and_nothing_is_complained_of() {
    let harness = open().start().await;
    let browser = shown(&harness).await;
    browser
        .until("document.getElementById('lookups-note').textContent === 'none yet'")
        .await;
    browser
        .until("document.getElementById('ratio').textContent === '–'")
        .await;
    for _ in 0..4 {
        harness.get(USER).await;
    }
    browser
        .until("document.getElementById('lookups-note').textContent === '4 since the start'")
        .await;
    browser
        .until("document.getElementById('ratio').textContent === '75.0 %'")
        .await;
    browser
        .until("document.getElementById('people').textContent === '1'")
        .await;
    browser
        .until("document.getElementById('age-bound').textContent.includes('never older than')")
        .await;
    browser
        .until("document.querySelector('#spending td').textContent === 'anonymous'")
        .await;
    browser
        .until("document.querySelectorAll('.plot canvas').length === 4")
        .await;
    browser.until("document.querySelector('#workspaces meter').value === 119 || document.querySelector('#workspaces meter').value < document.querySelector('#workspaces meter').max").await;
    browser.click("#configuration summary").await;
    browser
        .until("document.getElementById('configured').textContent.includes('cache.ttl')")
        .await;
    let shown = browser
        .run("return document.getElementById('configured').textContent")
        .await;
    assert!(
        !shown.to_string().contains("ws_demo"),
        "a key is shown: {shown}"
    );
    keep_pictures(&browser).await;
    assert_no_complaints(&browser).await;
}

/// Leaves a picture in light and one in dark, for somebody to look at.
async fn keep_pictures(browser: &Browser) {
    for theme in ["light", "dark"] {
        browser.until(&format!("document.documentElement.dataset.theme === '{theme}' || document.getElementById('theme').click()")).await;
        let picture = browser.screenshot().await;
        assert!(picture.starts_with(b"\x89PNG"));
        let name = format!("console-{theme}.png");
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::write(path, picture).expect("room");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_clicked_changes_what_clients_are_answered() {
    let harness = open().start().await;
    let browser = shown(&harness).await;
    let said =
        |what: &str| format!("document.getElementById('said').textContent.startsWith('{what}')");
    browser.fill("#name", "user_1").await;
    browser.click("button[value=lookup]").await;
    browser.until(&said("Flameup\\'s answer: 200")).await;
    assert_eq!(harness.get(USER).await.cache_status(), "hit; ttl=60");
    browser.click("button[value=explain]").await;
    browser.until(&said("what is stored is fresh")).await;
    browser.click("button[value=purge]").await;
    browser.until(&said("Let go of 1 and 0")).await;
    assert_eq!(
        harness.get(USER).await.cache_status(),
        "fwd=uri-miss; fwd-status=200; stored"
    );
    // Not before it is confirmed.
    browser.click("button[value=erase]").await;
    browser.click("dialog button[value=no]").await;
    assert_eq!(harness.get(USER).await.cache_status(), "hit; ttl=60");
    browser.click("button[value=erase]").await;
    browser.click("#confirm-yes").await;
    browser.until(&said("Erased; receipt ")).await;
    browser
        .until("document.getElementById('answer').textContent.includes('\"receipt\"')")
        .await;
    assert_eq!(
        harness.get(USER).await.cache_status(),
        "fwd=uri-miss; fwd-status=200"
    );
    browser.fill("#name", "nobody at all").await;
    browser.click("button[value=lookup]").await;
    browser.until(&said("Flameup\\'s answer: 404")).await;
    assert_no_complaints(&browser).await;
    // What cannot be understood is said, with the reason.
    browser
        .run("document.getElementById('kind').value = 'uuid'")
        .await;
    browser.click("button[value=explain]").await;
    browser
        .until(&said("This request cannot be understood"))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_not_the_token_sees_nothing_and_it_ends_with_the_tab() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), TOKEN).expect("room");
    let path = file.path().display();
    let harness = open()
        .config(&format!("admin.token_file = \"{path}\""))
        .start()
        .await;
    let browser = Browser::start().await;
    browser.open(&console(harness.admin_address())).await;
    browser
        .until("!document.getElementById('sign-in').hidden")
        .await;
    browser
        .fill("#token", "correct-horse-battery-staple-0002")
        .await;
    browser.click("#sign-in-form button").await;
    browser
        .until("document.getElementById('sign-in-error').textContent.includes('not the gateway')")
        .await;
    assert_eq!(
        browser
            .run("return document.getElementById('board').hidden")
            .await,
        true
    );
    browser.fill("#token", TOKEN).await;
    browser.click("#sign-in-form button").await;
    browser
        .until("document.getElementById('state').dataset.state === 'live'")
        .await;
    let kept = browser
        .run("return [localStorage.length, document.cookie, location.href]")
        .await;
    assert_eq!(
        kept,
        serde_json::json!([0, "", console(harness.admin_address())])
    );
    browser.click("#sign-out").await;
    browser
        .until("!document.getElementById('sign-in').hidden && sessionStorage.length === 0")
        .await;
}

/// Passes connections on to a gateway, and ends them when told to.
async fn between(gateway: SocketAddr) -> (SocketAddr, Arc<watch::Sender<u32>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let (cut, _) = watch::channel(0);
    let cut = Arc::new(cut);
    let cuts = Arc::clone(&cut);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut cut = cuts.subscribe();
            tokio::spawn(async move {
                let Ok(mut server) = TcpStream::connect(gateway).await else {
                    return;
                };
                tokio::select! {
                    _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                    _ = cut.changed() => {}
                }
            });
        }
    });
    (address, cut)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_cut_is_taken_up_again() {
    let harness = open().start().await;
    let (address, cut) = between(harness.admin_address()).await;
    let browser = Browser::start().await;
    browser.open(&console(address)).await;
    let live = "document.getElementById('state').dataset.state === 'live'";
    browser.until(live).await;
    browser.run("new MutationObserver(() => { if (document.getElementById('state').dataset.state === 'lost') window.wasLost = true; }).observe(document.getElementById('state'), {attributes: true})").await;
    cut.send_modify(|cuts| *cuts += 1);
    browser.until("window.wasLost").await;
    harness.get(USER).await;
    browser.until(live).await;
    browser
        .until("document.getElementById('lookups-note').textContent === '1 since the start'")
        .await;
}

#[tokio::test]
async fn every_file_of_the_console_is_closed_to_other_origins() {
    let harness = open().start().await;
    for path in [
        "/",
        "/console.js",
        "/console.css",
        "/uplot.js",
        "/uplot.css",
    ] {
        let answer = operator(&harness, path).await;
        assert_eq!(answer.status, 200);
        let policy = answer.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'"));
        assert!(policy.ends_with("frame-ancestors 'none'") && !policy.contains("unsafe"));
        assert_eq!(answer.header("x-content-type-options"), "nosniff");
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        assert!(
            !body.contains("//cdn") && !body.contains("src=\"http"),
            "{path}"
        );
    }
    let page = operator(&harness, "/").await;
    let page = String::from_utf8_lossy(&page.body);
    for inline in ["<style", " style=", " onclick=", "javascript:"] {
        assert!(!page.contains(inline), "{inline}");
    }
}

#[tokio::test]
async fn streams_of_events_are_bounded_and_make_room_again() {
    let harness = open().start().await;
    let mut streams = Vec::new();
    for _ in 0..16 {
        let mut wire = crate::support::Wire::connect(harness.admin_address()).await;
        wire.send("GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await;
        assert!(
            wire.until("\"metrics\":")
                .await
                .contains("text/event-stream")
        );
        streams.push(wire);
    }
    assert_eq!(operator(&harness, "/v1/events").await.status, 503);
    drop(streams.pop());
    let mut wire = crate::support::Wire::connect(harness.admin_address()).await;
    for _ in 0..100 {
        wire.send("GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await;
        let head = wire.until("\r\n\r\n").await;
        if head.starts_with("HTTP/1.1 200") {
            return;
        }
        wire = crate::support::Wire::connect(harness.admin_address()).await;
        tokio::task::yield_now().await;
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    panic!("no room is made");
}
