//! An HTTP client that takes a broken connection for an outcome, and makes another one.

use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// One connection at a time, made when it is needed.
pub(crate) struct Client {
    address: SocketAddr,
    sender: Option<SendRequest<Full<Bytes>>>,
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) cache_status: String,
    pub(crate) body: Bytes,
}

impl Answer {
    /// A field of the body, as text; empty if there is none.
    pub(crate) fn field(&self, name: &str) -> String {
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        body[name].as_str().unwrap_or_default().to_owned()
    }
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self {
            address,
            sender: None,
        }
    }

    pub(crate) async fn get(&mut self, target: &str) -> io::Result<Answer> {
        self.send("GET", target, String::new()).await
    }

    pub(crate) async fn send(
        &mut self,
        method: &str,
        target: &str,
        body: String,
    ) -> io::Result<Answer> {
        // Taken out, so that a connection on which a request was given up is not used again.
        let mut sender = match self.sender.take() {
            Some(sender) if !sender.is_closed() => sender,
            _ => connect(self.address).await?,
        };
        let request = Request::builder()
            .method(method)
            .uri(target)
            .header("host", self.address.to_string())
            .header("content-type", "application/json")
            .body(Full::new(body.into()))
            .map_err(io::Error::other)?;
        sender.ready().await.map_err(io::Error::other)?;
        let answer = sender.send_request(request).await;
        let (head, body) = answer.map_err(io::Error::other)?.into_parts();
        let body = body.collect().await.map_err(io::Error::other)?.to_bytes();
        self.sender = Some(sender);
        let cache_status = head.headers.get("cache-status");
        let cache_status = cache_status.and_then(|value| value.to_str().ok());
        Ok(Answer {
            status: head.status.as_u16(),
            cache_status: cache_status.unwrap_or_default().to_owned(),
            body,
        })
    }
}

async fn connect(address: SocketAddr) -> io::Result<SendRequest<Full<Bytes>>> {
    let stream = TcpStream::connect(address).await?;
    let connected = handshake(TokioIo::new(stream)).await;
    let (sender, connection) = connected.map_err(io::Error::other)?;
    tokio::spawn(connection);
    Ok(sender)
}
