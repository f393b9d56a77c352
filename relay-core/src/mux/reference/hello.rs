//! Prefaces and hellos: the decoder against the engine, and against what it encodes.

use std::time::Instant;

use bytes::BytesMut;

use super::splits;
use crate::mux::{
    Config, Event, Hello, HelloError, LinkError, MAGIC, Mux, PREFACE_LEN, Preface, Side,
};

/// The body of the fuzz target `hello`.
///
/// The first octet of `data` says who listens and whether the rest is a whole preface with its
/// hello, or the fields of a hello behind a valid preface; the next two how the pipe divides them.
/// Whatever it is: nothing panics, the engine judges it as the decoder does at any split, and what
/// is accepted is encoded again to an equal value.
///
/// # Panics
///
/// If that does not hold.
pub fn hello(data: &[u8]) {
    let Some((&[how, seed1, seed0], octets)) = data.split_first_chunk::<3>() else { return };
    let side = if how & 1 == 0 { Side::Listener } else { Side::Dialer };
    let octets = if how & 2 == 0 { octets.to_vec() } else { behind_preface(side.peer(), octets) };
    let verdict = judge(&octets, side);
    if let Some(Ok(hello)) = &verdict {
        assert_survives(hello, side);
    }
    let parts = splits(octets.len(), u16::from_be_bytes([seed1, seed0]));
    assert_eq!(heard(&octets, side, &parts), verdict, "split at {parts:?}");
    assert_eq!(heard(&octets, side, &[octets.len()]), verdict, "whole");
}

/// A valid preface of `side` with these fields behind it.
fn behind_preface(side: Side, fields: &[u8]) -> Vec<u8> {
    let role = u8::from(side == Side::Listener);
    let len = u32::try_from(fields.len()).unwrap_or(u32::MAX);
    [&MAGIC[..], &[1, 1, role, 0], &len.to_be_bytes(), fields].concat()
}

/// What the decoders say to the front of `octets`; `None` while more is needed.
fn judge(octets: &[u8], side: Side) -> Option<Result<Hello, HelloError>> {
    let Some((preface, rest)) = octets.split_first_chunk::<PREFACE_LEN>() else {
        let could_be = octets.iter().zip(MAGIC).all(|(octet, magic)| *octet == magic);
        return (!could_be).then_some(Err(HelloError::BadMagic));
    };
    let preface = match Preface::decode(preface, side) {
        Ok(preface) => preface,
        Err(error) => return Some(Err(error)),
    };
    assert_eq!(preface.version, 1, "there is one version");
    let fields = rest.get(..preface.hello_len as usize)?;
    Some(Hello::decode(fields))
}

/// What an engine says to `octets` that arrive in these parts.
fn heard(octets: &[u8], side: Side, parts: &[usize]) -> Option<Result<Hello, HelloError>> {
    let now = Instant::now();
    let mut mux = Mux::new(side, Config::default(), now).expect("the defaults are valid");
    let mut input = BytesMut::new();
    let mut left = octets;
    for part in parts {
        let (arrived, rest) = left.split_at((*part).min(left.len()));
        left = rest;
        input.extend_from_slice(arrived);
        match mux.handle_input(now, &mut input) {
            Err(LinkError::Hello(error)) => return Some(Err(error)),
            // What follows a hello is not judged here.
            outcome if mux.peer().is_some() => {
                let established = matches!(mux.poll_event(), Some(Event::Established(_)));
                assert!(established, "a hello that was accepted is told: {outcome:?}");
                return mux.peer().cloned().map(Ok);
            }
            outcome => assert_eq!(outcome, Ok(()), "only a hello is judged before one is there"),
        }
    }
    None
}

/// `hello` encodes to octets that decode to it again, by either side.
fn assert_survives(hello: &Hello, side: Side) {
    let octets = hello.encode(side.peer());
    assert_eq!(judge(&octets, side), Some(Ok(hello.clone())), "encoded again: {octets:02x?}");
    let again = hello.encode(side);
    assert_eq!(judge(&again, side.peer()), Some(Ok(hello.clone())), "and by the other side");
}
