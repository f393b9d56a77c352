//! Exchanges on streams that carry nothing but octets: each begins with a block of
//! [`HEAD_OCTETS`], which says how many octets follow and how many are asked for.

use bytes::{BufMut as _, Bytes, BytesMut};

use crate::{HEAD_OCTETS, SMALL_DOWN, payload};

/// Octets of a head and what it may be sent with in one piece.
const TOGETHER: usize = HEAD_OCTETS + SMALL_DOWN;

/// A request: its head and its payload in one piece.
pub(super) fn request(body: &Bytes, asked: usize) -> Bytes {
    let mut request = head(body.len(), asked, HEAD_OCTETS + body.len());
    request.put_slice(body);
    request.freeze()
}

/// The head of an answer of `octets`, with the octets themselves if they are few, and how many of
/// them are left to send.
pub(super) fn answer(octets: usize) -> (Bytes, usize) {
    if octets > TOGETHER - HEAD_OCTETS {
        return (head(octets, 0, HEAD_OCTETS).freeze(), octets);
    }
    let mut answer = head(octets, 0, TOGETHER);
    answer.put_slice(&payload(octets));
    (answer.freeze(), 0)
}

fn head(follow: usize, asked: usize, capacity: usize) -> BytesMut {
    let mut head = BytesMut::with_capacity(capacity);
    head.put_u64(asked as u64);
    head.put_u64(follow as u64);
    head.resize(HEAD_OCTETS, 0);
    head
}

/// What the head of a request says: the octets that follow it, and those that it asks for.
pub(super) fn read_head(head: &[u8; HEAD_OCTETS]) -> (usize, usize) {
    (length(&head[8..16]), length(&head[..8]))
}

fn length(raw: &[u8]) -> usize {
    let raw = raw.first_chunk::<8>().map_or(0, |raw| u64::from_be_bytes(*raw));
    usize::try_from(raw).unwrap_or(usize::MAX)
}
