//! What head blocks are judged by: whatever a decoder takes, it writes again octet for octet.
//!
//! Hidden behind the feature `fuzzing` and not covered by semver. The fuzz target and the replay of
//! its corpus call [`head_block`]; every violation is a panic.

#![allow(clippy::indexing_slicing, reason = "every index here was accepted by a decoder before")]

use bytes::Bytes;

use super::{AnswerHead, DecodeError, EncodeError, HeadLimits, RequestHead, Trailers};

/// Assertions that version 1 knows: of requests, and of answers.
const KNOWN: [&[u8]; 2] = [&[0x02, 0x03, 0x04, 0x81], &[]];

/// The body of the fuzz target `head_block`.
///
/// The first octet of `data` chooses the limits; the rest is offered to the decoders of all three
/// kinds. At most the one whose kind the block names takes it, and then the value encodes to the
/// same octets, but for assertions that nobody knows, which are left out.
///
/// # Panics
///
/// If that does not hold.
pub fn head_block(data: &[u8]) {
    let Some((&choice, block)) = data.split_first() else { return };
    let limits = match choice % 3 {
        0 => HeadLimits::default(),
        1 => HeadLimits::new(96, 3),
        _ => HeadLimits::new(usize::MAX, usize::MAX),
    };
    let block = Bytes::copy_from_slice(block);
    let recoded = [
        recode(&block, RequestHead::decode, |head| head.encode(&limits), &limits),
        recode(&block, AnswerHead::decode, |head| head.encode(&limits), &limits),
        recode(&block, Trailers::decode, |head| head.encode(&limits), &limits),
    ];
    let kinds = [0x11, 0x12, 0x13];
    for (kind, recoded) in kinds.into_iter().zip(recoded) {
        let Some(again) = recoded else { continue };
        assert_eq!(block.first(), Some(&kind), "a block of another kind was taken");
        assert!(block.len() <= limits.head_octets_max(), "a block above the limit was taken");
        assert_eq!(again, without_unknown_assertions(&block), "encoded again");
    }
}

/// Decodes `block` and encodes what it is; `None` if it is refused.
fn recode<T: PartialEq + std::fmt::Debug>(
    block: &Bytes,
    decode: impl Fn(Bytes, &HeadLimits) -> Result<T, DecodeError>,
    encode: impl Fn(&T) -> Result<Bytes, EncodeError>,
    limits: &HeadLimits,
) -> Option<Bytes> {
    let head = decode(block.clone(), limits).ok()?;
    let again = encode(&head).expect("what was decoded under limits is within them");
    let twice = decode(again.clone(), limits).expect("what was encoded is decoded");
    assert_eq!(twice, head, "decoded again");
    Some(again)
}

/// The block without the assertions that a decoder skips. Reads it straight from `HEADS.md`, and
/// trusts its lengths: a decoder has taken it.
fn without_unknown_assertions(block: &[u8]) -> Vec<u8> {
    let len16 = |at: usize| usize::from(u16::from_be_bytes([block[at], block[at + 1]]));
    let (section, known) = match block[0] {
        0x11 => {
            let target = if block[1] == 0 { 3 + usize::from(block[2]) } else { 2 };
            (target + 2 + len16(target), KNOWN[0])
        }
        0x12 => {
            let reason = if block[4] == 0xff { 0 } else { usize::from(block[4]) };
            (5 + reason, KNOWN[1])
        }
        _ => return block.to_vec(),
    };
    let end = section + 2 + len16(section);
    let mut kept = Vec::new();
    let mut at = section + 2;
    while at < end {
        let next = at + 3 + len16(at + 1);
        if known.contains(&block[at]) {
            kept.extend_from_slice(&block[at..next]);
        }
        at = next;
    }
    let kept_len = u16::try_from(kept.len()).expect("it was no longer before");
    [&block[..section], &kept_len.to_be_bytes(), &kept, &block[end..]].concat()
}
