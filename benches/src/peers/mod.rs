//! The link and its peers behind one shape: connect, make an exchange, hold one unread.
//!
//! Every contender carries the same payload between the same kinds of task: the opener asks for a
//! number of octets and sends a request, a task of its own at the other side reads the request and
//! writes the answer in chunks of [`CHUNK_OCTETS`](crate::CHUNK_OCTETS). All of them travel in the
//! same pipes and on the same runtime; QUIC brings its own TLS over UDP. Heads are each protocol's
//! own: the link and the bare multiplexers carry a block of [`HEAD_OCTETS`](crate::HEAD_OCTETS)
//! each way, HTTP/2 its compressed fields, the raw pipe none.
//!
//! Read [`Contender`] first, then [`Connection`]. One file per protocol holds what its users would
//! write; where a protocol needs care to be at its best, or to work at all, that file says so.

use bytes::Bytes;
use tokio::task::JoinSet;

use crate::pipes::{Carrier, Pipes, Writes};

mod http2;
mod link;
mod octets;
mod quic;
mod raw;
mod tokio_yamux;
mod yamux;

/// A protocol and its settings.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Contender {
    /// This project's link.
    Link,
    /// The bare pipe: one exchange at a time.
    Raw,
    /// `h2` with 64 KiB frames, 1 MiB stream windows and a 16 MiB connection window.
    H2Tuned,
    /// `h2` as it comes.
    H2Default,
    /// `yamux`, whose windows grow by themselves, with room for as many streams as the others.
    Yamux,
    /// `tokio-yamux` as it comes.
    TokioYamux,
    /// `quinn` over UDP, with windows like those of the tuned `h2`.
    Quinn,
}

impl Contender {
    /// Every contender, the link first.
    pub const ALL: [Self; 7] = [
        Self::Link,
        Self::Raw,
        Self::H2Tuned,
        Self::H2Default,
        Self::Yamux,
        Self::TokioYamux,
        Self::Quinn,
    ];

    /// Its name in a benchmark's id.
    pub fn name(self) -> &'static str {
        match self {
            Self::Link => "link",
            Self::Raw => "raw",
            Self::H2Tuned => "h2_tuned",
            Self::H2Default => "h2_default",
            Self::Yamux => "yamux",
            Self::TokioYamux => "tokio_yamux",
            Self::Quinn => "quinn",
        }
    }

    /// Whether it exists over `carrier`: QUIC is always encrypted.
    pub fn travels_in(self, carrier: Carrier) -> bool {
        carrier == Carrier::Tls || self != Self::Quinn
    }

    /// Whether it carries more than one exchange at a time.
    pub fn is_mux(self) -> bool {
        self != Self::Raw
    }
}

/// What makes exchanges on a connection; clones share the connection.
#[derive(Clone, Debug)]
enum Opener {
    Link(relay_core::link::Link),
    Raw(raw::Raw),
    Http2(http2::Http2),
    Yamux(yamux::Yamux),
    TokioYamux(tokio_yamux::Control),
    Quic(quic::Quic),
}

/// An established connection of one contender. Dropping it cuts both ends.
#[derive(Debug)]
pub struct Connection {
    opener: Opener,
    writes: Writes,
    _tasks: JoinSet<()>,
}

/// Makes exchanges on a [`Connection`]. Clones share it.
#[derive(Clone, Debug)]
pub struct Handle(Opener);

/// An exchange whose answer has begun and is not read. Dropping it abandons the exchange.
#[must_use = "dropping it lets the answer go"]
#[derive(Debug)]
pub struct Held(#[expect(dead_code, reason = "held, never used")] Unread);

#[derive(Debug)]
#[expect(dead_code, reason = "held, never used")]
enum Unread {
    Link(Box<(relay_core::link::SendStream, relay_core::link::RecvStream)>),
    Http2(::h2::RecvStream),
    Yamux(yamux::Stream),
    TokioYamux(tokio_yamux::Stream),
    Quic(Box<(quinn::SendStream, quinn::RecvStream)>),
}

impl Connection {
    /// Connects `contender` to itself over `carrier`, on the current runtime.
    ///
    /// # Panics
    ///
    /// If loopback cannot be used, or the contender does not exist over `carrier`.
    pub async fn new(contender: Contender, carrier: Carrier) -> Self {
        assert!(contender.travels_in(carrier), "{} over {carrier:?}", contender.name());
        let mut tasks = JoinSet::new();
        if contender == Contender::Quinn {
            let opener = Opener::Quic(quic::connect(&mut tasks).await);
            return Self { opener, writes: Writes::default(), _tasks: tasks };
        }
        let pipes = Pipes::new(carrier).await;
        let writes = pipes.writes.clone();
        let opener = match contender {
            Contender::Link => Opener::Link(link::connect(pipes, &mut tasks).await),
            Contender::Raw => Opener::Raw(raw::connect(pipes, &mut tasks)),
            Contender::H2Tuned => {
                Opener::Http2(http2::connect(pipes, http2::Settings::Tuned, &mut tasks).await)
            }
            Contender::H2Default => {
                Opener::Http2(http2::connect(pipes, http2::Settings::Default, &mut tasks).await)
            }
            Contender::Yamux => Opener::Yamux(yamux::connect(pipes, &mut tasks)),
            Contender::TokioYamux => Opener::TokioYamux(tokio_yamux::connect(pipes, &mut tasks)),
            Contender::Quinn => unreachable!("it was connected above"),
        };
        Self { opener, writes, _tasks: tasks }
    }

    /// A handle that tasks can own.
    pub fn handle(&self) -> Handle {
        Handle(self.opener.clone())
    }

    /// Writes to both sockets so far; always 0 for [`Contender::Quinn`], which has its own.
    pub fn writes(&self) -> u64 {
        self.writes.count()
    }
}

impl Handle {
    /// Makes one exchange: sends `request`, and reads an answer of `octets`.
    ///
    /// # Panics
    ///
    /// If it fails or the answer is short.
    pub async fn exchange(&self, request: Bytes, octets: usize) {
        let read = match &self.0 {
            Opener::Link(opener) => link::exchange(opener, request, octets).await,
            Opener::Raw(opener) => opener.exchange(request, octets).await,
            Opener::Http2(opener) => opener.exchange(request, octets).await,
            Opener::Yamux(opener) => opener.exchange(request, octets).await,
            Opener::TokioYamux(opener) => tokio_yamux::exchange(opener, request, octets).await,
            Opener::Quic(opener) => opener.exchange(request, octets).await,
        };
        assert_eq!(read, octets, "the answer has the length that was asked for");
    }

    /// Asks for an answer of `octets` and leaves it unread, but for its head.
    ///
    /// # Panics
    ///
    /// If it fails, or the contender is no multiplexer.
    pub async fn hold(&self, octets: usize) -> Held {
        Held(match &self.0 {
            Opener::Link(opener) => Unread::Link(Box::new(link::hold(opener, octets).await)),
            Opener::Raw(_) => panic!("a raw pipe has one reader, which would be held"),
            Opener::Http2(opener) => Unread::Http2(opener.hold(octets).await),
            Opener::Yamux(opener) => Unread::Yamux(opener.hold(octets).await),
            Opener::TokioYamux(opener) => {
                Unread::TokioYamux(tokio_yamux::hold(opener, octets).await)
            }
            Opener::Quic(opener) => Unread::Quic(Box::new(opener.hold(octets).await)),
        })
    }
}
