//! Serving one socket: hyper while answers are honest, plain bytes when a fault wants otherwise.
//!
//! hyper will not put a lie on the wire. So a fault over HTTP/1.1 takes the socket back from it: the
//! service hands its script to the connection's task and never answers, the task drops hyper and
//! performs the script itself. Over HTTP/2 framing is the library's, and a script becomes the nearest
//! thing a stream can do: late or missing DATA, or `RST_STREAM`.

use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Response;
use http_body::{Body, Frame};
use http_body_util::{Either, Full};
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::answer::{Answer, Delivery, Script, Step};
use super::exchange::Core;
use super::faults::head_bytes;

/// Size of one piece of padding.
const FILLER: [u8; 16 * 1024] = [b'a'; 16 * 1024];

/// Serves one accepted socket until either side closes it.
pub(super) async fn serve(core: Arc<Core>, socket: TcpStream, number: u64) {
    // Best effort: without it an answer in two writes waits for an acknowledgement.
    let _ = socket.set_nodelay(true);
    let Some(tls) = &core.options.tls else {
        return speak_http1(core, socket, number).await;
    };
    let Ok(stream) = TlsAcceptor::from(Arc::clone(tls)).accept(socket).await else {
        return; // the client refused our certificate or spoke something else
    };
    if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
        speak_http2(core, stream, number).await;
    } else {
        speak_http1(core, stream, number).await;
    }
}

async fn speak_http1<S: Wire>(core: Arc<Core>, socket: S, number: u64) {
    let (take_over, mut scripts) = mpsc::channel(1);
    let service = service_fn(|request| {
        let (core, take_over) = (Arc::clone(&core), take_over.clone());
        async move {
            match core.handle(number, request).await {
                Delivery::Whole(answer) => Ok::<_, Infallible>(whole(answer)),
                Delivery::Script(script) => {
                    // The receiver outlives every service call: both belong to one task.
                    let _ = take_over.send(script).await;
                    pending().await
                }
            }
        }
    });
    let mut builder = http1::Builder::new();
    let mut connection = builder
        .auto_date_header(false)
        .serve_connection(TokioIo::new(socket), service);
    let script = tokio::select! {
        _ended = &mut connection => return,
        script = scripts.recv() => script,
    };
    let socket = connection.into_parts().io.into_inner();
    if let Some(script) = script {
        // An error here is the client leaving, which is what many scripts are for.
        let _ = perform(socket, script).await;
    }
}

async fn speak_http2<S: Wire>(core: Arc<Core>, socket: S, number: u64) {
    let service = service_fn(|request| {
        let core = Arc::clone(&core);
        async move {
            match core.handle(number, request).await {
                Delivery::Whole(answer) => Ok(whole(answer)),
                Delivery::Script(script) => stream(script).await,
            }
        }
    });
    let builder = http2::Builder::new(TokioExecutor::new());
    // Ends with an error when the client leaves without a farewell.
    let _ = builder
        .serve_connection(TokioIo::new(socket), service)
        .await;
}

type Outgoing = Either<Full<Bytes>, Feed>;

fn whole(answer: Answer) -> Response<Outgoing> {
    respond(
        answer.status,
        *answer.headers,
        Either::Left(Full::new(answer.body)),
    )
}

fn respond(
    status: http::StatusCode,
    headers: http::HeaderMap,
    body: Outgoing,
) -> Response<Outgoing> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// Performs a script on the bare socket, then closes it.
async fn perform<S: Wire>(mut socket: S, script: Script) -> io::Result<()> {
    if let Some(head) = &script.head {
        socket.write_all(&head_bytes(head, 0)).await?;
    }
    for step in script.steps {
        match step {
            Step::Send(bytes) => socket.write_all(&bytes).await?,
            Step::Fill(bytes) => fill(&mut socket, bytes).await?,
            Step::Wait(time) => {
                socket.flush().await?;
                tokio::time::sleep(time).await;
            }
            Step::Hang => {
                socket.flush().await?;
                let mut ignored = [0; 1024];
                while socket.read(&mut ignored).await? > 0 {}
            }
            Step::Reset => {
                socket.flush().await?;
                return socket.reset();
            }
        }
    }
    socket.shutdown().await
}

async fn fill<S: Wire>(socket: &mut S, bytes: u64) -> io::Result<()> {
    let mut left = bytes;
    while left > 0 {
        let piece = usize::try_from(left).map_or(FILLER.len(), |left| left.min(FILLER.len()));
        socket.write_all(&FILLER[..piece]).await?;
        left -= piece as u64;
    }
    Ok(())
}

/// A socket that can also be ended the hard way.
trait Wire: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// Makes the drop that follows send RST in place of FIN.
    fn reset(&self) -> io::Result<()>;
}

impl Wire for TcpStream {
    fn reset(&self) -> io::Result<()> {
        self.set_zero_linger()
    }
}

impl Wire for TlsStream<TcpStream> {
    fn reset(&self) -> io::Result<()> {
        self.get_ref().0.set_zero_linger()
    }
}

/// Why a stream ends in the middle.
#[derive(Debug, thiserror::Error)]
#[error("a fault ended the stream")]
struct Cut;

/// Starts a script on an HTTP/2 stream: an error becomes `RST_STREAM`.
async fn stream(script: Script) -> Result<Response<Outgoing>, Cut> {
    let Some(head) = script.head else {
        return match script.steps.first() {
            Some(Step::Hang) => pending().await,
            _ => Err(Cut),
        };
    };
    let (feed, body) = mpsc::channel(1);
    tokio::spawn(feed_steps(script.steps, feed));
    let mut headers = *head.headers;
    headers.remove(http::header::CONNECTION); // has no place in HTTP/2
    Ok(respond(head.status, headers, Either::Right(Feed(body))))
}

/// Ends when the steps do or the stream is gone.
async fn feed_steps(steps: Vec<Step>, feed: mpsc::Sender<Result<Bytes, Cut>>) {
    for step in steps {
        let sent = match step {
            Step::Send(bytes) => feed.send(Ok(bytes)).await.is_ok(),
            Step::Fill(bytes) => feed_filler(&feed, bytes).await,
            Step::Wait(time) => tokio::time::timeout(time, feed.closed()).await.is_err(),
            Step::Hang => {
                feed.closed().await;
                false
            }
            Step::Reset => feed.send(Err(Cut)).await.is_ok(),
        };
        if !sent {
            return;
        }
    }
}

async fn feed_filler(feed: &mpsc::Sender<Result<Bytes, Cut>>, bytes: u64) -> bool {
    let mut left = bytes;
    while left > 0 {
        let piece = usize::try_from(left).map_or(FILLER.len(), |left| left.min(FILLER.len()));
        if feed
            .send(Ok(Bytes::from_static(&FILLER[..piece])))
            .await
            .is_err()
        {
            return false;
        }
        left -= piece as u64;
    }
    true
}

/// A body that is fed while it is sent.
#[derive(Debug)]
struct Feed(mpsc::Receiver<Result<Bytes, Cut>>);

impl Body for Feed {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let next = self.0.poll_recv(context);
        next.map(|next| next.map(|piece| piece.map(Frame::data)))
    }
}
