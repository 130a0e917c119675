//! A real browser, driven by the W3C's `WebDriver`: Chromium without a window, by its own driver.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard};

/// How often a condition is looked at, and how long until it is looked at again.
const LOOKS: u32 = 300;
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);

/// Browsers are run one after another: a start takes both processors for seconds, and the tests beside it wait.
static SEAT: Mutex<()> = Mutex::const_new(());
/// How often a driver is started that ends without listening: it takes a free port of IPv4 and then the same
/// one of IPv6, which another may have.
const STARTS: u32 = 10;

/// A browser with one page. It ends with this.
pub(crate) struct Browser {
    driver: Child,
    base: String,
    session: String,
    http: Client<HttpConnector, Full<Bytes>>,
    _seat: MutexGuard<'static, ()>,
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver takes the browser with it.
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

impl Browser {
    /// Starts one, which `tests/run.sh` has installed.
    pub(crate) async fn start() -> Self {
        let seat = SEAT.lock().await;
        let (driver, port) = driver();
        let mut browser = Self {
            driver,
            base: format!("http://127.0.0.1:{port}"),
            session: String::new(),
            http: Client::builder(TokioExecutor::new()).build_http(),
            _seat: seat,
        };
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "goog:loggingPrefs": {"browser": "ALL"},
            "goog:chromeOptions": {"args": [
                "--headless=new", "--no-sandbox", "--disable-dev-shm-usage",
                "--window-size=1280,1150"
            ]},
        }}});
        let session = browser.call("POST", "/session", Some(&wanted)).await;
        let id = session["sessionId"].as_str().expect("a session");
        browser.session = format!("/session/{id}");
        browser
    }

    pub(crate) async fn open(&self, url: &str) {
        self.command("/url", &json!({ "url": url })).await;
    }

    /// Runs a script in the page and returns what it returns.
    pub(crate) async fn run(&self, script: &str) -> Value {
        let script = json!({"script": script, "args": []});
        self.command("/execute/sync", &script).await
    }

    /// Waits until an expression holds in the page.
    pub(crate) async fn until(&self, expression: &str) {
        for _ in 0..LOOKS {
            if self.run(&format!("return !!({expression})")).await == true {
                return;
            }
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
        let shown = self.run("return document.body.innerText").await;
        panic!("{expression} does not come about: {shown}");
    }

    /// Clicks what a selector finds, as a person would: it must be there to be seen.
    pub(crate) async fn click(&self, selector: &str) {
        let element = self.element(selector).await;
        self.command(&format!("/element/{element}/click"), &json!({}))
            .await;
    }

    /// Types into what a selector finds, after it was emptied.
    pub(crate) async fn fill(&self, selector: &str, text: &str) {
        let element = self.element(selector).await;
        self.command(&format!("/element/{element}/clear"), &json!({}))
            .await;
        let text = json!({ "text": text });
        self.command(&format!("/element/{element}/value"), &text)
            .await;
    }

    /// What the page has written to its console: errors, and what its policy has blocked.
    pub(crate) async fn complaints(&self) -> Vec<Value> {
        let log = self.command("/se/log", &json!({"type": "browser"})).await;
        log.as_array().cloned().unwrap_or_default()
    }

    /// What is to be seen, as a PNG.
    pub(crate) async fn screenshot(&self) -> Vec<u8> {
        let path = format!("{}/screenshot", self.session);
        let image = self.call("GET", &path, None).await;
        let image = image.as_str().expect("an image");
        let decoded = base64::engine::general_purpose::STANDARD.decode(image);
        decoded.expect("base64")
    }

    async fn element(&self, selector: &str) -> String {
        let wanted = json!({"using": "css selector", "value": selector});
        let found = self.command("/element", &wanted).await;
        let id = found.as_object().and_then(|found| found.values().next());
        let id = id.and_then(Value::as_str);
        id.unwrap_or_else(|| panic!("no {selector}: {found}"))
            .to_owned()
    }

    async fn command(&self, path: &str, body: &Value) -> Value {
        let path = format!("{}{path}", self.session);
        self.call("POST", &path, Some(body)).await
    }

    async fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let body = body.map_or_else(Bytes::new, |body| body.to_string().into());
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header("content-type", "application/json")
            .body(Full::new(body));
        let answer = self.http.request(request.expect("a request")).await;
        let answer = answer.expect("the driver answers");
        let status = answer.status();
        let body = answer.into_body().collect().await.expect("a whole answer");
        let body: Value = serde_json::from_slice(&body.to_bytes()).expect("JSON");
        assert!(status.is_success(), "{path}: {body}");
        body["value"].clone()
    }
}

/// A driver that listens, and the port that it says.
fn driver() -> (Child, String) {
    let mut said = Vec::new();
    for _ in 0..STARTS {
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver is there; tests/run.sh installs it");
        let output = driver.stdout.take().expect("it is piped");
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if let Some((_, port)) = line.split_once("started successfully on port ") {
                return (driver, port.trim_end_matches('.').to_owned());
            }
            said.push(line);
        }
        let _ = driver.wait();
    }
    panic!("chromedriver does not listen: {said:#?}");
}
