//! A client that speaks bytes, for what a well-behaved one cannot say, and one for HTTP/2.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request};
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::client::Response;

/// The longest that anything may take; only a failing test takes it.
const PATIENCE: Duration = Duration::from_secs(20);

/// A socket, and what was read of it beyond the last answer.
pub(crate) struct Wire<S = TcpStream> {
    stream: S,
    unread: Vec<u8>,
}

impl Wire {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::over(
            TcpStream::connect(address)
                .await
                .expect("the gateway accepts"),
        )
    }
}

impl Wire<UnixStream> {
    pub(crate) async fn connect_unix(path: &Path) -> Self {
        Self::over(
            UnixStream::connect(path)
                .await
                .expect("the gateway accepts"),
        )
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(crate) fn over(stream: S) -> Self {
        Self {
            stream,
            unread: Vec::new(),
        }
    }

    /// Hands bytes to the system; when this returns they are on their way.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream
            .write_all(bytes.as_ref())
            .await
            .expect("the gateway reads");
    }

    /// Sends bytes to a gateway that may have hung up already. Says whether it still listens.
    pub(crate) async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).await.is_ok()
    }

    /// A plain GET.
    pub(crate) async fn ask(&mut self, target: &str) {
        self.ask_with(target, &[]).await;
    }

    /// A GET with headers.
    pub(crate) async fn ask_with(&mut self, target: &str, headers: &[(&str, &str)]) {
        let mut request = format!("GET {target} HTTP/1.1\r\nHost: gateway\r\n");
        for (name, value) in headers {
            request.extend([name, ": ", value, "\r\n"]);
        }
        self.send(request + "\r\n").await;
    }

    /// Reads one answer, to the end of its body.
    pub(crate) async fn answer(&mut self) -> Response {
        timeout(PATIENCE, self.read_answer())
            .await
            .expect("an answer in time")
    }

    /// Reads until these bytes have come, and returns everything up to them.
    pub(crate) async fn until(&mut self, bytes: &str) -> String {
        let reading = async {
            loop {
                let mut windows = self.unread.windows(bytes.len());
                if let Some(start) = windows.position(|window| window == bytes.as_bytes()) {
                    break start + bytes.len();
                }
                self.read_more().await;
            }
        };
        let end = timeout(PATIENCE, reading).await.expect("them in time");
        String::from_utf8(self.unread.drain(..end).collect()).expect("text")
    }

    /// Waits until the gateway closes; what came before that is returned.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        let mut rest = std::mem::take(&mut self.unread);
        // A reset is an end like any other.
        let _ = timeout(PATIENCE, self.stream.read_to_end(&mut rest))
            .await
            .expect("an end");
        rest
    }

    /// Asserts that the gateway closes and says nothing more.
    pub(crate) async fn assert_closed(&mut self) {
        let rest = self.rest().await;
        assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
    }

    /// Waits for the first byte of an answer, or for the end; true at the end.
    pub(crate) async fn is_closed(&mut self) -> bool {
        self.unread.is_empty() && !matches!(self.read_some().await, Ok(1..))
    }

    /// Whether anything has been said yet.
    pub(crate) async fn has_answer(&mut self) -> bool {
        let soon = timeout(Duration::from_millis(1), self.read_some()).await;
        !self.unread.is_empty() || soon.is_ok()
    }

    pub(crate) fn stream_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    async fn read_some(&mut self) -> std::io::Result<usize> {
        self.stream.read_buf(&mut self.unread).await
    }

    async fn read_answer(&mut self) -> Response {
        let head_end = loop {
            if let Some(end) = self.unread.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            self.read_more().await;
        };
        let head: Vec<u8> = self.unread.drain(..head_end).collect();
        let head = String::from_utf8(head).expect("a readable head");
        let mut lines = head.split("\r\n");
        let status_line = lines.next().expect("a status line");
        let status = status_line.split(' ').nth(1).expect("a status");
        let fields = lines.filter_map(|line| line.split_once(": "));
        let headers: HeaderMap = fields.map(|(name, value)| field(name, value)).collect();
        let length = headers
            .get("content-length")
            .map_or("0", |value| value.to_str().expect("digits"));
        let length: usize = length.parse().expect("a length");
        while self.unread.len() < length {
            self.read_more().await;
        }
        Response {
            status: status.parse().expect("a status"),
            headers,
            body: self.unread.drain(..length).collect(),
        }
    }

    async fn read_more(&mut self) {
        let read = self
            .stream
            .read_buf(&mut self.unread)
            .await
            .expect("no reset before the answer");
        assert!(
            read > 0,
            "closed before the answer: {:?}",
            String::from_utf8_lossy(&self.unread)
        );
    }
}

/// An HTTP/2 connection with prior knowledge; clones share it.
#[derive(Clone)]
pub(crate) struct H2 {
    sender: SendRequest<Full<Bytes>>,
}

impl H2 {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address)
            .await
            .expect("the gateway accepts");
        let (sender, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .expect("a handshake");
        tokio::spawn(connection);
        Self { sender }
    }

    pub(crate) async fn get(&mut self, target: &str) -> Response {
        self.try_send(target, HeaderMap::new())
            .await
            .expect("an answer")
    }

    /// Waits until the gateway has closed the connection.
    pub(crate) async fn closed(&mut self) {
        while self.sender.ready().await.is_ok() {
            tokio::task::yield_now().await;
        }
    }

    pub(crate) async fn try_send(
        &mut self,
        target: &str,
        headers: HeaderMap,
    ) -> hyper::Result<Response> {
        self.try_send_with("GET", target, headers, Bytes::new())
            .await
    }

    pub(crate) async fn try_send_with(
        &mut self,
        method: &str,
        target: &str,
        headers: HeaderMap,
        body: Bytes,
    ) -> hyper::Result<Response> {
        let mut request = Request::builder()
            .method(method)
            .uri(format!("http://gateway{target}"));
        *request.headers_mut().expect("a request so far") = headers;
        let request = request
            .body(Full::new(body))
            .expect("a request that http can build");
        let exchange = async {
            let (head, body) = self.sender.send_request(request).await?.into_parts();
            let body = body.collect().await?.to_bytes();
            Ok(Response {
                status: head.status,
                headers: head.headers,
                body,
            })
        };
        timeout(PATIENCE, exchange)
            .await
            .expect("an answer in time")
    }
}

/// What ends within the patience of a test.
pub(crate) async fn within<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.expect("an end in time")
}

fn field(name: &str, value: &str) -> (HeaderName, HeaderValue) {
    let name = HeaderName::try_from(name.as_bytes()).expect("a field name");
    (name, HeaderValue::from_str(value).expect("a field value"))
}
