//! The description of the API, and whether the gateway keeps to it: asked by schemathesis, which makes
//! requests of all sorts from the description and holds every answer against it.

use std::io::Write;
use std::path::Path;
use std::process::Command;

use http::StatusCode;

use crate::support::metrics::get;
use crate::support::{Client, Harness, Setup};

const LOOKUP: &str = "/gateway/v1/people/lookup";
const TOKEN: &str = "an-admin-token-of-some-length";

/// Many times what a run takes.
const DEADLINE_SECONDS: &str = "180";

/// Has schemathesis ask `address`, with more `options`; so many operations are to be tried.
///
/// That all which fits the description is accepted is not asked for: it cannot say which workspaces are
/// configured, nor what no id may be.
async fn hold_to_the_description(
    harness: &Harness,
    address: &str,
    operations: u8,
    options: &[&str],
) {
    let tools = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../deploy-tools/bin");
    let document = tempfile::Builder::new().suffix(".json").tempfile();
    let document = document.expect("a file");
    let served = get(harness, "/openapi.json").await;
    assert_eq!(served.status, StatusCode::OK);
    std::fs::write(document.path(), &served.body).expect("room");
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = Command::new("timeout");
    command
        .arg(DEADLINE_SECONDS)
        .arg(tools.join("schemathesis"))
        .args(["run", "--no-color", "--seed=7", "--max-examples=25"])
        .args(["--phases=examples,coverage,fuzzing"])
        .arg("--exclude-checks=positive_data_acceptance")
        .arg(format!("--url=http://{address}"))
        .args(options)
        .arg(document.path())
        // It keeps what it found, and looks for settings, where it is started.
        .current_dir(folder.path());
    let run = tokio::task::spawn_blocking(move || command.output());
    let run = run.await.expect("no panic").expect("coreutils' timeout");
    let printed = String::from_utf8_lossy(&run.stdout);
    let complaints = String::from_utf8_lossy(&run.stderr);
    assert!(
        run.status.success(),
        "tests/run.sh installs schemathesis\n{printed}\n{complaints}"
    );
    assert!(
        printed.contains(&format!("Tested: {operations}\n")),
        "{printed}"
    );
}

#[tokio::test]
async fn the_description_is_open_to_whoever_can_connect() {
    let (_file, harness) = closed().await;
    let answer = get(&harness, "/openapi.json").await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.json()["openapi"], "3.1.0");
    let mut client = Client::connect(harness.admin_address()).await;
    assert_eq!(client.send("POST", "/openapi.json", &[]).await.status, 405);
}

#[tokio::test]
async fn operators_are_answered_as_the_description_says() {
    let harness = Harness::start().await;
    let address = harness.admin_address().to_string();
    // The stream of events has no end.
    let options = ["--exclude-path=/v1/events", "--exclude-path", LOOKUP];
    hold_to_the_description(&harness, &address, 11, &options).await;
}

#[tokio::test]
async fn a_listener_that_is_closed_answers_as_the_description_says() {
    let (_file, harness) = closed().await;
    let address = harness.admin_address().to_string();
    let header = format!("Authorization: Bearer {TOKEN}");
    let options = ["--exclude-path=/v1/events", "--exclude-path", LOOKUP];
    let shown = [&options[..], &["--header", &header]].concat();
    hold_to_the_description(&harness, &address, 11, &shown).await;
}

#[tokio::test]
async fn lookups_of_many_are_answered_as_the_description_says() {
    let harness = Harness::start().await;
    let address = harness.address().to_string();
    hold_to_the_description(&harness, &address, 1, &["--include-path", LOOKUP]).await;
}

/// A gateway whose admin listener asks for a token.
async fn closed() -> (tempfile::NamedTempFile, Harness) {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    writeln!(file, "{TOKEN}").expect("room");
    let config = format!("admin.token_file = \"{}\"", file.path().display());
    let harness = Setup::new().config(&config).start().await;
    (file, harness)
}
