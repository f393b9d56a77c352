//! `h2`: an exchange is a POST whose one field says how long the answer is to be.

use std::future::poll_fn;

use ::h2::client::{self, SendRequest};
use ::h2::server::{self, SendResponse};
use ::h2::{RecvStream, SendStream};
use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderName, HeaderValue, Method, Request, Response, Uri};
use tokio::task::JoinSet;

use crate::pipes::{Pipe, Pipes};
use crate::{CHUNK_OCTETS, payload};

/// The field that says how many octets are asked for.
const ASKED: HeaderName = HeaderName::from_static("x-octets");

/// Octets of a tuned frame's payload.
const FRAME: u32 = 64 << 10;

/// Octets of a tuned stream window.
const STREAM_WINDOW: u32 = 1 << 20;

/// Octets of a tuned connection window.
const CONNECTION_WINDOW: u32 = 16 << 20;

/// Streams at once, more than any load opens.
const STREAMS: u32 = 1024;

/// How `h2` is set up.
#[derive(Clone, Copy, Debug)]
pub(super) enum Settings {
    Default,
    Tuned,
}

/// Tunes a builder of either side; the two have these methods in common and no trait.
macro_rules! tune {
    ($builder:ident) => {
        $builder
            .max_frame_size(FRAME)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buffer_size(STREAM_WINDOW as usize)
    };
}

impl Settings {
    fn client(self) -> client::Builder {
        let mut builder = client::Builder::new();
        // Else the first hundred streams go alone.
        builder.initial_max_send_streams(STREAMS as usize);
        if matches!(self, Self::Tuned) {
            tune!(builder);
        }
        builder
    }

    fn server(self) -> server::Builder {
        let mut builder = server::Builder::new();
        builder.max_concurrent_streams(STREAMS);
        if matches!(self, Self::Tuned) {
            tune!(builder);
        }
        builder
    }
}

/// The client.
#[derive(Clone, Debug)]
pub(super) struct Http2 {
    sender: SendRequest<Bytes>,
    uri: Uri,
}

pub(super) async fn connect(pipes: Pipes, settings: Settings, tasks: &mut JoinSet<()>) -> Http2 {
    let (client, server) = (settings.client(), settings.server());
    let (client, server) = tokio::join!(
        client.handshake(pipes.accepted),
        server.handshake::<_, Bytes>(pipes.dialled),
    );
    let (sender, connection) = client.expect("both sides speak HTTP/2");
    tasks.spawn(async { drop(connection.await) });
    tasks.spawn(serve(server.expect("both sides speak HTTP/2")));
    Http2 { sender, uri: Uri::from_static("https://localhost/exchange") }
}

impl Http2 {
    /// Makes one exchange and returns the octets of its answer.
    pub(super) async fn exchange(&self, request: Bytes, octets: usize) -> usize {
        let mut body = self.ask(request, octets).await;
        let mut read = 0;
        while let Some(chunk) = body.data().await {
            let len = chunk.expect("the server sends all of it").len();
            body.flow_control().release_capacity(len).expect("it was taken before");
            read += len;
        }
        read
    }

    /// Begins an exchange and reads the head of its answer only.
    pub(super) async fn hold(&self, octets: usize) -> RecvStream {
        self.ask(Bytes::new(), octets).await
    }

    async fn ask(&self, body: Bytes, octets: usize) -> RecvStream {
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        request.headers_mut().insert(ASKED, HeaderValue::from(octets));
        let sender = self.sender.clone().ready().await;
        let mut sender = sender.expect("the connection is up");
        let asked = sender.send_request(request, body.is_empty());
        let (response, mut send) = asked.expect("the connection is up");
        if !body.is_empty() {
            // A small body is queued as it is: to ask for capacity first would cost a round.
            send.send_data(body, true).expect("the stream is open");
        }
        response.await.expect("the server answers").into_body()
    }
}

async fn serve<P: Pipe>(mut connection: server::Connection<P, Bytes>) {
    while let Some(Ok((request, respond))) = connection.accept().await {
        tokio::spawn(answer(request, respond));
    }
}

/// Ends early when the exchange is abandoned; the client sees whether its answer was whole.
async fn answer(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) -> Option<()> {
    let asked: usize = request.headers().get(ASKED)?.to_str().ok()?.parse().ok()?;
    let mut body = request.into_body();
    while let Some(chunk) = body.data().await {
        body.flow_control().release_capacity(chunk.ok()?.len()).ok()?;
    }
    let mut response = Response::new(());
    response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(asked));
    let mut send = respond.send_response(response, asked == 0).ok()?;
    if asked <= CHUNK_OCTETS {
        send.send_data(payload(asked), true).ok()
    } else {
        send_bulk(&mut send, asked).await
    }
}

/// Sends `left` octets as fast as capacity is given; asking for much at once saves rounds.
async fn send_bulk(send: &mut SendStream<Bytes>, mut left: usize) -> Option<()> {
    while left > 0 {
        send.reserve_capacity(left.min(STREAM_WINDOW as usize));
        let mut given = match send.capacity() {
            0 => poll_fn(|cx| send.poll_capacity(cx)).await?.ok()?,
            given => given,
        };
        given = given.min(left);
        while given > 0 {
            let chunk = payload(given.min(CHUNK_OCTETS));
            given -= chunk.len();
            left -= chunk.len();
            send.send_data(chunk, left == 0).ok()?;
        }
    }
    Some(())
}
