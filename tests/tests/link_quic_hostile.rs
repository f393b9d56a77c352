//! Peers over QUIC that break the rules, or may not be there at all.

#![allow(clippy::unwrap_used, reason = "a failed step of a test's set-up is a failed test")]

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::Bytes;
use quinn::{ApplicationClose, Connection, ConnectionError, RecvStream, SendStream};
use relay_core::link::{End, Link, RecvError, new_quic};
use relay_core::mux::{
    Config, FrameError, Hello, HelloError, LinkError, SendError, Side, StreamCode, StreamId,
};
use relay_core::transport::{
    ConnectError, LINK_ALPN, QuicListener, dial_quic, link_client_config, link_server_config,
};
use relay_tests::pki::SiteCa;
use relay_tests::quic::{ANY, HANDSHAKE, NAME, config, connections};
use relay_tests::roles::within;
use rustls::{ClientConfig, ServerConfig};
use tokio::task::JoinHandle;

/// A gateway's end of a link, and a dialer in the test's hands.
struct Rogue {
    link: Link,
    driver: JoinHandle<LinkError>,
    connection: Connection,
}

impl Rogue {
    async fn with(config: Config) -> Self {
        let [near, connection] = connections().await;
        let (link, driver) = new_quic(near, Side::Listener, config).unwrap();
        Self { link, driver: tokio::spawn(driver), connection }
    }

    /// Begins the control stream with `octets`.
    async fn control(&self, octets: &[u8]) -> (SendStream, RecvStream) {
        let (mut send, recv) = self.connection.open_bi().await.unwrap();
        send.write_all(octets).await.unwrap();
        (send, recv)
    }

    /// A dialer that has said hello.
    async fn greeted() -> (Self, (SendStream, RecvStream)) {
        let rogue = Self::with(config(8)).await;
        let hello = Hello::of(&config(8)).encode(Side::Dialer);
        let control = rogue.control(&hello).await;
        rogue.link.established().await.unwrap();
        (rogue, control)
    }

    /// Opens a stream with `octets`; ends it if so.
    async fn stream(&self, octets: &[u8], fin: bool) -> (SendStream, RecvStream) {
        let (mut send, recv) = self.connection.open_bi().await.unwrap();
        send.write_all(octets).await.unwrap();
        if fin {
            send.finish().unwrap();
        }
        (send, recv)
    }

    /// Why the link has ended; the dialer is told the same.
    async fn ended(self) -> LinkError {
        let why = self.driver.await.unwrap();
        let ConnectionError::ApplicationClosed(ApplicationClose { error_code, reason }) =
            self.connection.closed().await
        else {
            panic!("the dialer is told")
        };
        assert_eq!(error_code.into_inner(), u64::from(why.code()));
        assert!(why.to_string().starts_with(std::str::from_utf8(&reason).unwrap()));
        assert_eq!(self.link.close_reason(), Some(why.clone()));
        why
    }
}

// [QUIC-05] - [QUIC-06] -
#[tokio::test]
async fn a_control_stream_that_is_none_ends_the_link() {
    within(async {
        let rogue = Rogue::with(config(8)).await;
        let _control = rogue.control(b"GET / HTTP/1.1\r\nhost: gateway.test\r\n\r\n").await;
        assert_eq!(rogue.ended().await, LinkError::Hello(HelloError::BadMagic));

        let rogue = Rogue::with(config(8)).await;
        let _control = rogue.control(&Hello::of(&config(8)).encode(Side::Listener)).await;
        assert_eq!(rogue.ended().await, LinkError::Hello(HelloError::Role { role: 1 }));

        let soon = Config { hello_timeout: Duration::from_millis(20), ..config(8) };
        let rogue = Rogue::with(soon.clone()).await;
        assert_eq!(rogue.ended().await, LinkError::HelloTimeout);
        // A part of a hello is none.
        let rogue = Rogue::with(soon).await;
        let _control = rogue.control(&Hello::of(&config(8)).encode(Side::Dialer)[..50]).await;
        assert_eq!(rogue.ended().await, LinkError::HelloTimeout);
    })
    .await;
}

// [QUIC-07] - [QUIC-18] - [QUIC-20] -
#[tokio::test]
async fn words_out_of_turn_end_the_link() {
    within(async {
        let drain = [0x10, 0, 0, 0];
        let last = [0x11, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0];
        for words in [&[drain, drain].concat()[..], &last, &[0xff; 4]] {
            let (rogue, (mut send, _recv)) = Rogue::greeted().await;
            send.write_all(words).await.unwrap();
            let why = rogue.ended().await;
            assert!(matches!(why, LinkError::Control { .. }), "{why:?}");
        }
        for is_reset in [false, true] {
            let (rogue, (mut send, _recv)) = Rogue::greeted().await;
            let ended = if is_reset { send.reset(0u32.into()) } else { send.finish() };
            ended.unwrap();
            assert_eq!(rogue.ended().await, LinkError::Control { what: "it has ended" });
        }
    })
    .await;
}

/// A word on the control stream that has a number.
fn word(kind: u8, number: u64) -> Vec<u8> {
    [&[kind, 0, 0, 8][..], &number.to_be_bytes()].concat()
}

/// Asks whether a stream was let go of.
const ASK: u8 = 0x12;

/// Tells that it was.
const RELEASED: u8 = 0x13;

// [QUIC-25] -
#[tokio::test]
async fn questions_about_what_cannot_be_and_answers_that_nobody_asked_for_end_the_link() {
    within(async {
        // The peer may have eight streams open.
        for words in [
            word(ASK, 0),
            word(ASK, 9),
            word(ASK, u64::MAX),
            [word(ASK, 7), word(ASK, 7)].concat(),
            word(RELEASED, 1),
        ] {
            let (rogue, (mut send, _recv)) = Rogue::greeted().await;
            send.write_all(&[word(ASK, 8), words].concat()).await.unwrap();
            let why = rogue.ended().await;
            assert!(matches!(why, LinkError::Control { .. }), "{why:?}");
        }
    })
    .await;
}

// [QUIC-25] +-
#[tokio::test]
async fn a_peer_that_asks_more_often_than_it_has_streams_loses_the_link() {
    within(async {
        let (rogue, (mut send, mut recv)) = Rogue::greeted().await;
        let hello = Hello::of(&config(8)).encode(Side::Listener);
        recv.read_exact(&mut vec![0; hello.len()]).await.unwrap();
        let (gone, _answer) = rogue.stream(&[0x81, 0, 0, 1, b'h'], true).await;
        drop(rogue.link.accept().await.unwrap());
        // Its FIN was acknowledged when this says so.
        let _ = gone.stopped().await;
        // One stream was opened, and eight may be.
        send.write_all(&word(ASK, 1).repeat(9)).await.unwrap();
        let mut answers = [0; 9 * 12];
        recv.read_exact(&mut answers).await.unwrap();
        assert_eq!(answers[..], word(RELEASED, 1).repeat(9));
        send.write_all(&word(ASK, 1)).await.unwrap();
        let what = "more questions than streams";
        assert_eq!(rogue.ended().await, LinkError::Control { what });
    })
    .await;
}

// [QUIC-25] -
#[tokio::test]
async fn a_peer_that_asks_and_does_not_listen_loses_the_link() {
    within(async {
        let (rogue, (mut send, _recv)) = Rogue::greeted().await;
        let (gone, _answer) = rogue.stream(&[0x81, 0, 0, 1, b'h'], true).await;
        drop(rogue.link.accept().await.unwrap());
        // Its FIN was acknowledged when this says so.
        let _ = gone.stopped().await;
        let _ = send.write_all(&word(ASK, 1).repeat(100_000)).await;
        let what = "more questions than streams";
        assert_eq!(rogue.ended().await, LinkError::Control { what });
    })
    .await;
}

/// Whether anything can be read.
fn is_told(recv: &mut RecvStream) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    pin!(recv.read_exact(&mut [0])).poll(&mut cx).is_ready()
}

// [QUIC-24] +-
#[tokio::test]
async fn a_question_is_answered_once_the_stream_is_over_and_nobody_holds_it() {
    within(async {
        let (rogue, (mut send, mut recv)) = Rogue::greeted().await;
        let hello = Hello::of(&config(8)).encode(Side::Listener);
        recv.read_exact(&mut vec![0; hello.len()]).await.unwrap();
        // The second overtakes the stream that it asks about.
        send.write_all(&[word(ASK, 1), word(ASK, 2)].concat()).await.unwrap();
        let mut streams = Vec::new();
        for _ in 0..2 {
            let (mut request, answer) = rogue.stream(&[1, 0, 0, 1, b'h'], false).await;
            let incoming = rogue.link.accept().await.unwrap();
            request.reset(2u32.into()).unwrap();
            streams.push((request, answer, incoming));
        }
        let mut answer = [0; 12];
        for number in [2, 1] {
            let (_request, _answer, mut incoming) = streams.pop().unwrap();
            incoming.send.stopped().await;
            assert!(!is_told(&mut recv), "{number} is still held");
            drop(incoming);
            recv.read_exact(&mut answer).await.unwrap();
            assert_eq!(answer[..], word(RELEASED, number));
        }
        send.write_all(&word(ASK, 2)).await.unwrap();
        recv.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer[..], word(RELEASED, 2), "at once, of a stream that is over");
        rogue.link.close();
        rogue.ended().await;
    })
    .await;
}

// [QUIC-10] - [QUIC-12] - [QUIC-13] - [QUIC-14] -
#[tokio::test]
async fn a_stream_that_is_no_exchange_ends_the_link() {
    within(async {
        let stream = StreamId::from_wire(2);
        let head = [1, 0, 0, 1, b'h'];
        let too_long = FrameError::TooLong { payload_len: 0x4000, limit: 16_376 };
        let cut = FrameError::CutShort { stream };
        for (octets, fin, expected) in [
            (vec![1, 0, 0x40, 0], false, too_long),
            (vec![1, 0, 0x40], true, cut),
            (vec![], true, cut),
            ([&head[..], &[0, 0, 0, 2, 7]].concat(), true, cut),
            ([&head[..], &[0, 0, 0, 0]].concat(), false, FrameError::EmptyData { stream }),
            (b"GET / HTTP/1.1".to_vec(), false, FrameError::UnknownKind { kind: b'G' }),
        ] {
            let (rogue, _control) = Rogue::greeted().await;
            let _stream = rogue.stream(&octets, fin).await;
            assert_eq!(rogue.ended().await, LinkError::Frame(expected), "{octets:?}");
        }
        let (rogue, _control) = Rogue::greeted().await;
        let _stream = rogue.stream(&[0, 0, 0, 1, 7], false).await;
        assert!(matches!(rogue.ended().await, LinkError::StreamState { .. }));
    })
    .await;
}

// [QUIC-15] +-
#[tokio::test]
async fn a_stream_that_is_reset_before_its_head_is_there_was_never_opened() {
    within(async {
        let (rogue, _control) = Rogue::greeted().await;
        // More than may be open at once: each gives its place back.
        for _ in 0..20 {
            let (mut send, mut recv) = rogue.stream(&[1, 0, 0, 9, b'h'], false).await;
            send.reset(0x200u32.into()).unwrap();
            recv.stop(((1 << 32) | 0x200u64).try_into().unwrap()).unwrap();
        }
        let _stream = rogue.stream(&[1, 0, 0, 1, b'h'], true).await;
        let incoming = rogue.link.accept().await.unwrap();
        assert_eq!((incoming.id.number(), &incoming.head[..]), (42, &b"h"[..]));
        rogue.link.close();
        assert_eq!(rogue.ended().await, LinkError::ClosedHere);
    })
    .await;
}

// [QUIC-17] +
#[tokio::test]
async fn an_answer_that_is_stopped_before_the_head_is_there_is_stopped_for_whoever_accepts() {
    within(async {
        let (rogue, _control) = Rogue::greeted().await;
        let (mut send, mut recv) = rogue.stream(&[1, 0, 0], false).await;
        recv.stop(0x200u32.into()).unwrap();
        // When this one is there, so is the stop.
        let _other = rogue.stream(&[1, 0, 0, 1, b'o'], true).await;
        assert_eq!(rogue.link.accept().await.unwrap().head, Bytes::from_static(b"o"));
        send.write_all(&[1, b'h']).await.unwrap();
        let mut incoming = rogue.link.accept().await.unwrap();
        assert_eq!(incoming.head, Bytes::from_static(b"h"));
        assert_eq!(incoming.send.stopped().await, SendError::Stopped(StreamCode(0x200)));
        send.finish().unwrap();
        assert_eq!(incoming.recv.read_chunk().await, Ok(None));
        rogue.link.close();
        rogue.ended().await;
    })
    .await;
}

// [QUIC-16] +
#[tokio::test]
async fn either_half_of_a_reset_aborts_both_halves_of_a_stream() {
    within(async {
        let (rogue, _control) = Rogue::greeted().await;
        let code = (1 << 32) | 0x200u64;
        for by_stop in [false, true] {
            let (mut send, mut recv) = rogue.stream(&[1, 0, 0, 1, b'h'], false).await;
            let mut incoming = rogue.link.accept().await.unwrap();
            if by_stop {
                recv.stop(code.try_into().unwrap()).unwrap();
            } else {
                send.reset(0x200u32.into()).unwrap();
            }
            let reset = RecvError::Reset(StreamCode(0x200));
            // Looks for nothing else, so a stop alone would leave it waiting.
            incoming.send.stopped().await;
            assert_eq!(incoming.recv.read_chunk().await, Err(reset));
        }
        rogue.link.close();
        rogue.ended().await;
    })
    .await;
}

// [QUIC-06] -
#[tokio::test]
async fn a_stream_that_overtakes_the_hello_waits_for_it() {
    within(async {
        let rogue = Rogue::with(config(8)).await;
        let (mut control, _recv) = rogue.connection.open_bi().await.unwrap();
        let hello = Hello::of(&config(8)).encode(Side::Dialer);
        control.write_all(&hello[..20]).await.unwrap();
        let (send, _recv) = rogue.stream(&[1, 0, 0, 1, b'h'], true).await;
        // It is there when it is acknowledged, and the link has had its turns.
        assert_eq!(send.stopped().await, Ok(None));
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert!(rogue.link.peer().is_none());
        assert_eq!(rogue.link.stats().mux.streams_accepted, 0);
        control.write_all(&hello[20..]).await.unwrap();
        assert_eq!(rogue.link.accept().await.unwrap().head, Bytes::from_static(b"h"));
        rogue.link.close();
        rogue.ended().await;
    })
    .await;
}

#[tokio::test]
async fn a_dialer_that_lets_no_stream_be_opened_leaves_openers_waiting() {
    within(async {
        let (rogue, _control) = Rogue::greeted().await;
        let opened = rogue.link.try_open(Bytes::from_static(b"h"), End::NoPayload);
        assert!(opened.unwrap().is_none(), "it was granted none");
        rogue.link.close();
        rogue.ended().await;
    })
    .await;
}

/// What becomes of a handshake, at the gateway and at the dialer.
async fn handshake(
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
) -> (Result<Connection, ConnectError>, Result<ConnectionError, ConnectError>) {
    let listener = QuicListener::bind(ANY, Arc::clone(&server)).unwrap();
    let port = listener.local_addr().port();
    let accept = async { listener.accept().await.accept(server, HANDSHAKE).await };
    let dial = async {
        // In TLS 1.3 the dialer hears only later that it was refused.
        let connection = dial_quic("127.0.0.1", port, NAME, client).await?;
        Ok(connection.closed().await)
    };
    tokio::join!(accept, dial)
}

// [QUIC-01] -
#[tokio::test]
async fn who_has_no_certificate_of_the_site_is_refused_and_told_why() {
    within(async {
        let (ca, foreign) = (SiteCa::new(), SiteCa::new());
        let server = || link_server_config(&ca.server(NAME), &ca.anchors()).unwrap();
        let nobody = ca.client_tls(LINK_ALPN);
        let stranger = link_client_config(&foreign.connection_point("cp"), &ca.anchors()).unwrap();
        for client in [nobody, stranger] {
            let (at_gateway, at_dialer) = handshake(server(), client).await;
            assert!(matches!(at_gateway, Err(ConnectError::Quic(_))), "{at_gateway:?}");
            let why = at_dialer.unwrap();
            assert!(matches!(why, ConnectionError::ConnectionClosed(_)), "{why:?}");
        }
        let doubter = link_client_config(&ca.connection_point("cp"), &foreign.anchors()).unwrap();
        let (at_gateway, at_dialer) = handshake(server(), doubter).await;
        assert!(at_gateway.is_err() && matches!(at_dialer, Err(ConnectError::Quic(_))));
    })
    .await;
}

// [QUIC-01] -
#[tokio::test]
async fn who_speaks_another_protocol_is_refused() {
    within(async {
        let ca = SiteCa::new();
        let server = link_server_config(&ca.server(NAME), &ca.anchors()).unwrap();
        let client = link_client_config(&ca.connection_point("cp"), &ca.anchors()).unwrap();
        let mut other = (*client).clone();
        other.alpn_protocols = vec![b"h3".to_vec()];
        let (at_gateway, at_dialer) = handshake(Arc::clone(&server), Arc::new(other)).await;
        assert!(at_gateway.is_err() && at_dialer.is_err());
        // TLS takes what both sides name; a link does not.
        let (mut server, mut client) = ((*server).clone(), (*client).clone());
        server.alpn_protocols = vec![b"h3".to_vec()];
        client.alpn_protocols = vec![b"h3".to_vec()];
        let (at_gateway, at_dialer) = handshake(Arc::new(server), Arc::new(client)).await;
        assert!(matches!(at_gateway, Err(ConnectError::NotALink)), "{at_gateway:?}");
        assert!(matches!(at_dialer, Err(ConnectError::NotALink)), "{at_dialer:?}");
    })
    .await;
}

// [QUIC-02] -
#[tokio::test]
async fn a_connection_that_is_no_link_yet_may_use_the_control_stream_alone() {
    within(async {
        let [near, far] = connections().await;
        let _control = far.open_bi().await.unwrap();
        let blocked = |connection: Connection| async move {
            let (bi, uni) = (connection.open_bi(), connection.open_uni());
            tokio::select! {
                biased;
                _ = bi => false,
                _ = uni => false,
                () = std::future::ready(()) => true,
            }
        };
        assert!(blocked(far).await && blocked(near).await);
    })
    .await;
}

#[tokio::test]
async fn a_peer_that_is_asked_back_shows_its_address_and_comes_again() {
    within(async {
        let ca = SiteCa::new();
        let server = link_server_config(&ca.server(NAME), &ca.anchors()).unwrap();
        let client = link_client_config(&ca.connection_point("cp"), &ca.anchors()).unwrap();
        let listener = QuicListener::bind(ANY, Arc::clone(&server)).unwrap();
        let port = listener.local_addr().port();
        let accept = async {
            let first = listener.accept().await;
            assert!(!first.is_validated());
            let from = first.from();
            first.ask_back();
            let again = listener.accept().await;
            assert!(again.is_validated());
            assert_eq!(again.from(), from);
            again.accept(server, HANDSHAKE).await
        };
        let dial = dial_quic("127.0.0.1", port, NAME, client);
        let (accepted, dialled) = tokio::join!(accept, dial);
        assert!(accepted.is_ok() && dialled.is_ok());
    })
    .await;
}
