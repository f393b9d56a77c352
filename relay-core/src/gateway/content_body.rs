//! The bodies of answers with content: a list that is written as it is sent, and octets of a file,
//! read as they are taken. Each holds one piece at a time, however long it is.

use std::fmt;
use std::fmt::Write as _;
use std::io;
use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::SizeHint;
use serde_json::json;
use tokio::sync::Semaphore;

use crate::body::ReceiveError;
use crate::content::{Manifest, SignedGrant};

use super::answer::InFlightGuard;
use super::content::{ContentStore, Stored, in_time, locate};
use super::content_piece::{self, PIECE_OCTETS_MAX};

/// Files that are listed at once: 64 KiB with usual names.
const PIECE_FILES: usize = 64;

/// Octets of the first piece for a client that says how much it takes. Our choice: a client that
/// asks for many files and takes an octet of each has the instance hold so much of each, and must
/// take as much as it has the instance hold beyond that.
const FIRST_OCTETS_MAX: usize = 16 << 10;

/// Pieces that a thread reads after one that was not in memory: to ask for what is there begins to
/// read ahead, which waits for a disk that is busy.
const COLD_PIECES: u8 = 8;

/// What follows the head of an answer with content.
pub(super) struct Held {
    source: Source,
    octets: u64,
    /// Held for its drop alone.
    _in_flight: InFlightGuard,
}

enum Source {
    File(File),
    Listed(Box<Listed>),
}

/// A piece that is on its way.
type Reading = Pin<Box<dyn Future<Output = io::Result<Bytes>> + Send + Sync>>;

/// Octets of a file.
struct File {
    source: Arc<dyn Stored>,
    left: Range<u64>,
    /// All that there were to be.
    declared: u64,
    /// Those that there are for reading.
    places: Arc<Semaphore>,
    reading: Option<Reading>,
    /// Pieces for which it is not asked what is in memory.
    cold_pieces: u8,
    /// Octets of the next piece at most.
    piece_octets_max: usize,
}

/// A store that files are fetched from elsewhere, and the places that there are to ask it.
type Elsewhere = (Arc<dyn ContentStore>, Arc<Semaphore>);

/// The files of a package.
struct Listed {
    files: Arc<Files>,
    places: Option<Arc<Semaphore>>,
    reading: Option<Reading>,
    /// Which is next; behind the last one is the end.
    next: usize,
}

struct Files {
    manifest: Arc<Manifest>,
    grant: SignedGrant,
    /// Says where they are, unless that is here.
    elsewhere: Option<Arc<dyn ContentStore>>,
}

/// How far it is; not what.
impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Held").field("octets", &self.octets).finish_non_exhaustive()
    }
}

impl Held {
    /// These octets of a file, each piece read once there is one of the `places` for it.
    pub(super) fn file(
        (file, places): (Arc<dyn Stored>, Arc<Semaphore>),
        range: Range<u64>,
        in_flight: InFlightGuard,
    ) -> Self {
        let declared = range.end - range.start;
        let file = File {
            source: file,
            left: range,
            declared,
            places,
            reading: None,
            cold_pieces: 0,
            piece_octets_max: PIECE_OCTETS_MAX,
        };
        let source = Source::File(file);
        Self { source, octets: 0, _in_flight: in_flight }
    }

    /// The files of a package, with their locations by `grant`: here, or `elsewhere`.
    pub(super) fn listed(
        manifest: Arc<Manifest>,
        grant: SignedGrant,
        elsewhere: Option<Elsewhere>,
        in_flight: InFlightGuard,
    ) -> Self {
        let (elsewhere, places) = elsewhere.unzip();
        let files = Arc::new(Files { manifest, grant, elsewhere });
        let source = Source::Listed(Box::new(Listed { files, places, reading: None, next: 0 }));
        Self { source, octets: 0, _in_flight: in_flight }
    }

    /// Has the first piece of a file be small, and each after it twice as long as the one before:
    /// for whom asks for the next one only when all before are taken.
    pub(super) fn read_little_first(&mut self) {
        if let Source::File(file) = &mut self.source {
            file.piece_octets_max = FIRST_OCTETS_MAX;
        }
    }

    /// Octets that were given so far.
    pub(super) fn octets(&self) -> u64 {
        self.octets
    }

    /// Whether there are no more.
    pub(super) fn is_through(&self) -> bool {
        match &self.source {
            Source::File(file) => file.left.is_empty(),
            Source::Listed(listed) => listed.next >= listed.files.count(),
        }
    }

    /// How many are left, where that is known.
    pub(super) fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::File(file) => SizeHint::with_exact(file.left.end - file.left.start),
            Source::Listed(_) => SizeHint::default(),
        }
    }

    /// The next octets; `None` once there are no more.
    pub(super) fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, ReceiveError>>> {
        if self.is_through() {
            return Poll::Ready(None);
        }
        let piece = match &mut self.source {
            Source::File(file) => ready!(file.poll_piece(cx, self.octets)),
            Source::Listed(listed) => ready!(listed.poll_piece(cx)),
        };
        if let Ok(piece) = &piece {
            self.octets += piece.len() as u64;
        }
        Poll::Ready(Some(piece))
    }
}

impl File {
    fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
        before: u64,
    ) -> Poll<Result<Bytes, ReceiveError>> {
        let (source, at) = (&self.source, self.left.start);
        let left = (self.left.end - at).min(self.piece_octets_max as u64);
        if self.reading.is_none() {
            if self.cold_pieces > 0 {
                self.cold_pieces -= 1;
            } else if let Some(piece) = content_piece::read_now(&**source, at, left) {
                self.take(&piece);
                return Poll::Ready(Ok(piece));
            } else {
                self.cold_pieces = COLD_PIECES;
            }
        }
        let reading = self.reading.get_or_insert_with(|| {
            let (source, places) = (Arc::clone(source), Arc::clone(&self.places));
            Box::pin(in_time(places, move || content_piece::read(&*source, at, left)))
        });
        let read = ready!(reading.as_mut().poll(cx));
        self.reading = None;
        let piece = read.map_err(ReceiveError::Unreadable)?;
        if piece.is_empty() {
            let (octets, declared) = (before, self.declared);
            return Poll::Ready(Err(ReceiveError::Length { octets, declared }));
        }
        self.take(&piece);
        Poll::Ready(Ok(piece))
    }

    fn take(&mut self, piece: &Bytes) {
        self.left.start += piece.len() as u64;
        self.piece_octets_max = (self.piece_octets_max * 2).min(PIECE_OCTETS_MAX);
    }
}

impl Listed {
    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, ReceiveError>> {
        let next = self.next..(self.next + PIECE_FILES).min(self.files.count());
        let until = next.end;
        let piece = match &self.places {
            None => self.files.piece(next),
            Some(places) => {
                let reading = self.reading.get_or_insert_with(|| {
                    let (files, places) = (Arc::clone(&self.files), Arc::clone(places));
                    Box::pin(in_time(places, move || files.piece(next)))
                });
                ready!(reading.as_mut().poll(cx))
            }
        };
        self.reading = None;
        let piece = piece.map_err(ReceiveError::Unreadable)?;
        self.next = until;
        Poll::Ready(Ok(piece))
    }
}

impl Files {
    fn count(&self) -> usize {
        self.manifest.files().len()
    }

    /// These of them. May block if they are elsewhere.
    fn piece(&self, next: Range<usize>) -> io::Result<Bytes> {
        let files = self.manifest.files();
        let package = self.manifest.package();
        let ends = self.grant.grant().ends;
        let mut text = String::new();
        if next.start == 0 {
            let package = json!(package.as_str());
            text = format!("{{\"package\":{package},\"expires\":{ends},\"files\":[");
        }
        for (place, file) in files.iter().enumerate().take(next.end).skip(next.start) {
            // One for the whole package is asked for no other.
            let Some(here) = self.grant.for_file(&file.name) else { continue };
            let location = match &self.elsewhere {
                None => json!(here.location()),
                Some(store) => json!(locate(&**store, (package, file), ends)?.url()),
            };
            let (comma, name) = (if place == 0 { "" } else { "," }, json!(file.name.as_str()));
            let (octets, sha256) = (file.octets, file.sha256_text());
            let _ = write!(
                text,
                "{comma}\n{{\"name\":{name},\"octets\":{octets},\"sha256\":\"{sha256}\",\
                 \"location\":{location}}}"
            );
        }
        if next.end == files.len() {
            text.push_str("]}\n");
        }
        Ok(text.into())
    }
}
