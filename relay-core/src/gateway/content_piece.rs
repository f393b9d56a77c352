//! Octets of files on their way from a store to a client.
//!
//! A piece that is fetched anew from the allocator is paid for thrice: the kernel clears its pages,
//! they are filled, and they are given back. So large ones come from a few that are used again and
//! again, by every gateway of the process.

use std::io;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

use super::content::Stored;

/// Octets that are read at once. Nothing is read ahead: a client that takes nothing holds so much
/// at most, and the file; over HTTP/2, which says what a client takes, the file alone.
pub(super) const PIECE_OCTETS_MAX: usize = 128 << 10;

/// Octets up to which a piece has just the room that it needs.
const SMALL_OCTETS_MAX: usize = 16 << 10;

/// Buffers that are kept while nobody needs them: 8 MiB.
const KEPT_MAX: usize = 64;

static KEPT: Mutex<Vec<Box<[u8]>>> = Mutex::new(Vec::new());

/// Room for a piece. All of it has been written to once.
struct Room {
    octets: Box<[u8]>,
    /// How many of them are the piece.
    filled: usize,
}

impl Room {
    /// Room for `length` octets.
    fn of(length: usize) -> Self {
        if length <= SMALL_OCTETS_MAX {
            return Self { octets: vec![0; length].into(), filled: 0 };
        }
        let kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let octets = kept.unwrap_or_else(|| vec![0; PIECE_OCTETS_MAX].into());
        Self { octets, filled: 0 }
    }

    /// The piece, whose room is used again once nobody has any of it.
    fn filled(mut self, count: usize) -> Bytes {
        self.filled = count;
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Room {
    fn as_ref(&self) -> &[u8] {
        self.octets.get(..self.filled).unwrap_or(&self.octets)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let octets = std::mem::take(&mut self.octets);
        if octets.len() == PIECE_OCTETS_MAX {
            let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() < KEPT_MAX {
                kept.push(octets);
            }
        }
    }
}

/// How long a piece may be of which `left` octets are left.
fn length(left: u64) -> usize {
    usize::try_from(left).unwrap_or(PIECE_OCTETS_MAX).min(PIECE_OCTETS_MAX)
}

/// Reads of the `left` octets from `at` on what is in memory; `None` if that is nothing, or nobody
/// can tell without waiting.
pub(super) fn read_now(file: &dyn Stored, at: u64, left: u64) -> Option<Bytes> {
    let length = length(left);
    let mut room = Room::of(length);
    let count = file.read_now(at, room.octets.get_mut(..length)?)?;
    (count > 0).then(|| room.filled(count.min(length)))
}

/// Reads of the `left` octets from `at` on, none only where there are no more. May block.
///
/// # Errors
///
/// What keeps the file from being read.
pub(super) fn read(file: &dyn Stored, at: u64, left: u64) -> io::Result<Bytes> {
    let length = length(left);
    let mut room = Room::of(length);
    let wanted = room.octets.get_mut(..length).ok_or(io::ErrorKind::InvalidInput)?;
    let count = file.read_at(at, wanted)?;
    // Whatever a store says: what lies behind is another file's.
    Ok(room.filled(count.min(length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As many octets as there are, each told from its neighbours.
    struct Counting {
        octets: usize,
        in_memory: usize,
    }

    impl Counting {
        fn octet(at: usize) -> u8 {
            u8::try_from(at % 251).unwrap()
        }

        fn give(at: u64, octets: &mut [u8], until: usize) -> usize {
            let at = usize::try_from(at).unwrap();
            let count = until.saturating_sub(at).min(octets.len());
            for (place, octet) in octets[..count].iter_mut().enumerate() {
                *octet = Self::octet(at + place);
            }
            count
        }
    }

    impl Stored for Counting {
        fn read_at(&self, at: u64, octets: &mut [u8]) -> io::Result<usize> {
            Ok(Self::give(at, octets, self.octets))
        }

        fn read_now(&self, at: u64, octets: &mut [u8]) -> Option<usize> {
            Some(Self::give(at, octets, self.in_memory))
        }
    }

    fn is_right(piece: &Bytes, at: usize) -> bool {
        piece.iter().enumerate().all(|(place, octet)| *octet == Counting::octet(at + place))
    }

    #[test]
    fn a_piece_has_what_was_read_whatever_its_room_held_before() {
        let file = Counting { octets: 1 << 20, in_memory: 0 };
        for left in [1, SMALL_OCTETS_MAX, SMALL_OCTETS_MAX + 1, PIECE_OCTETS_MAX, 1 << 20] {
            let mut at = 0;
            while at < left {
                let piece = read(&file, at as u64, (left - at) as u64).unwrap();
                assert!(is_right(&piece, at), "{left}, from {at}");
                assert_eq!(piece.len(), (left - at).min(PIECE_OCTETS_MAX));
                at += piece.len();
            }
        }
        assert!(read(&file, 1 << 20, 100).unwrap().is_empty(), "there is no more");
        assert_eq!(read(&file, (1 << 20) - 70_000, 90_000).unwrap().len(), 70_000);
    }

    #[test]
    fn what_is_not_in_memory_is_read_otherwise() {
        let file = Counting { octets: 1 << 20, in_memory: 50_000 };
        let piece = read_now(&file, 0, 60_000).unwrap();
        assert!(piece.len() == 50_000 && is_right(&piece, 0));
        assert_eq!(read_now(&file, 50_000, 10_000), None);
        assert_eq!(read(&file, 50_000, 10_000).unwrap().len(), 10_000);
    }

    #[test]
    fn pieces_that_are_alive_at_once_share_no_room_and_few_are_kept() {
        let file = Counting { octets: 200 * PIECE_OCTETS_MAX, in_memory: 0 };
        let at = |number: usize| number * PIECE_OCTETS_MAX;
        let read = |number| read(&file, at(number) as u64, u64::MAX).unwrap();
        let pieces: Vec<_> = (0..200).map(read).collect();
        assert!(pieces.iter().enumerate().all(|(number, piece)| is_right(piece, at(number))));
        drop(pieces);
        assert!(KEPT.lock().unwrap().len() <= KEPT_MAX);
    }
}
