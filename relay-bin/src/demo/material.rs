//! Deterministic octets that both the site and the session can make, so that a download is checked
//! without keeping a copy of it.
//!
//! Octet `n` depends on `n` alone: any range can be made without what precedes it. Not random in
//! any useful sense, and not compressible, which is all that is asked of it.

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

/// Octets that [`octets`] makes at most in one call: 64 KiB.
pub(crate) const CHUNK_BYTES: u64 = 64 * 1024;

const WORD: u64 = 8;

/// Octets `from..to`, cut off after [`CHUNK_BYTES`]; empty if `to <= from`.
pub(crate) fn octets(from: u64, to: u64) -> Bytes {
    let to = to.min(from.saturating_add(CHUNK_BYTES));
    if to <= from {
        return Bytes::new();
    }
    let first_word = from / WORD;
    let words: Vec<u8> =
        (first_word..to.div_ceil(WORD)).flat_map(|n| word(n).to_le_bytes()).collect();
    let skip = usize::try_from(from - first_word * WORD).expect("less than one word of 8");
    let len = usize::try_from(to - from).expect("cut off at 64 KiB above");
    Bytes::from(words).slice(skip..skip + len)
}

/// Hexadecimal SHA-256 of octets `0..total`.
pub(crate) fn sha256_hex(total: u64) -> String {
    let mut hash = Sha256::new();
    let mut next = 0;
    while next < total {
        let chunk = octets(next, total);
        next += chunk.len() as u64;
        hash.update(&chunk);
    }
    format!("{:x}", hash.finalize())
}

/// The `n`th 64-bit word: the output function of `SplitMix64`, which spreads a counter evenly.
fn word(n: u64) -> u64 {
    let mixed = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_range_equals_the_same_range_of_the_whole() {
        let whole = octets(0, 1_000);
        for (from, to) in [(0, 1), (1, 8), (7, 9), (8, 16), (13, 999), (999, 1_000), (5, 5)] {
            let (start, end) = (usize::try_from(from).unwrap(), usize::try_from(to).unwrap());
            assert_eq!(octets(from, to), whole.slice(start..end), "{from}..{to}");
        }
    }

    #[test]
    fn a_call_makes_at_most_one_chunk() {
        assert_eq!(octets(3, u64::MAX).len() as u64, CHUNK_BYTES);
        assert!(octets(9, 8).is_empty());
    }

    #[test]
    fn the_hash_of_many_chunks_is_the_hash_of_their_octets() {
        let total = CHUNK_BYTES + 17;
        let mut hash = Sha256::new();
        hash.update(octets(0, total));
        hash.update(octets(CHUNK_BYTES, total));
        assert_eq!(sha256_hex(total), format!("{:x}", hash.finalize()));
    }
}
