//! Prefaces and hellos: the decoder against the engine, and against what it encodes. And the
//! settings that a hello is made of.

use std::time::{Duration, Instant};

use bytes::BytesMut;

use super::splits;
use crate::mux::{
    Batch, Config, Event, Hello, HelloError, LinkError, MAGIC, Mux, PREFACE_LEN, Preface, Side,
};

/// The body of the fuzz target `hello`.
///
/// The first octet of `data` says who listens and whether the rest is a whole preface with its
/// hello, or the fields of a hello behind a valid preface; the next two how the pipe divides them.
/// Whatever it is: nothing panics, the engine judges it as the decoder does at any split, and what
/// is accepted is encoded again to an equal value. A first octet of 0x80 to 0x8f says that the rest
/// are settings instead, see `settings`.
///
/// # Panics
///
/// If that does not hold.
pub fn hello(data: &[u8]) {
    let Some((&[how, seed1, seed0], octets)) = data.split_first_chunk::<3>() else { return };
    let side = if how & 1 == 0 { Side::Listener } else { Side::Dialer };
    if how & 0xf0 == 0x80 {
        return settings(side, octets);
    }
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
    assert_times_out(&mut mux, now);
    None
}

/// Whoever has not said its hello by then is given up, whatever else it has said.
fn assert_times_out(mux: &mut Mux, began: Instant) {
    let due = began + Config::default().hello_timeout;
    assert_eq!(mux.poll_timeout(), Some(due), "a hello is waited for");
    assert_eq!(mux.handle_timeout(began), Ok(()), "it may still come");
    assert_eq!(mux.handle_timeout(due), Err(LinkError::HelloTimeout));
    assert_eq!(mux.poll_timeout(), None, "nothing is due on a link that has ended");
}

/// Settings: every five octets set one, chosen by the first, to what the other four say.
///
/// Whatever they are: they are judged as the ranges say, and a side with settings that are valid
/// says a hello that its peer takes.
fn settings(side: Side, octets: &[u8]) {
    let mut config = Config { receive_memory_max: 1 << 40, ..Config::default() };
    for &[which, value @ ..] in octets.as_chunks::<5>().0 {
        set(&mut config, which, u32::from_be_bytes(value));
    }
    let now = Instant::now();
    let mux = Mux::new(side, config.clone(), now);
    assert_eq!(mux.is_ok(), is_valid(&config), "{config:?}");
    assert_eq!(config.validate().as_ref().err(), mux.as_ref().err(), "{config:?}");
    let Ok(mut mux) = mux else { return };
    assert_eq!(mux.poll_timeout(), Some(now + config.hello_timeout));
    let mut batch = Batch::new();
    mux.poll_transmit(now, &mut batch);
    let mut slices = [std::io::IoSlice::new(&[])];
    assert_eq!(batch.io_slices(&mut slices), 1, "a preface and its hello are copied together");
    let Some(Ok(hello)) = judge(&slices[0], side.peer()) else {
        panic!("{config:?} says what its peer refuses");
    };
    assert_eq!((hello.stream_window, hello.name), (config.stream_window, config.name));
}

fn set(config: &mut Config, which: u8, value: u32) {
    let millis = Duration::from_millis(value.into());
    match which % 12 {
        0 => config.stream_window = value,
        1 => config.accept_streams_max = value,
        2 => config.open_streams_max = value,
        3 => config.payload_max = value,
        4 => config.head_max = value,
        5 => config.send_queue_max = value,
        6 => config.keep_alive_busy = millis,
        7 => config.keep_alive_idle = millis,
        8 => config.ping_timeout = millis,
        9 => config.hello_timeout = millis,
        10 => config.receive_memory_max = value.into(),
        _ => config.name.push(char::from_u32(value).unwrap_or('?')),
    }
}

/// The ranges, written out.
fn is_valid(config: &Config) -> bool {
    let streams = u64::from(config.accept_streams_max) + u64::from(config.open_streams_max);
    let (shortest, longest) = (Duration::from_millis(1), Duration::from_hours(24));
    let times =
        [config.keep_alive_busy, config.keep_alive_idle, config.ping_timeout, config.hello_timeout];
    (1024..=16_777_216).contains(&config.stream_window)
        && config.accept_streams_max.max(config.open_streams_max) <= 16_384
        && (256..=65_528).contains(&config.payload_max)
        && (256..=65_528).contains(&config.head_max)
        && (1..=16_777_216).contains(&config.send_queue_max)
        && times.iter().all(|time| shortest <= *time && *time <= longest)
        && config.name.len() <= 128
        && !config.name.contains(char::is_control)
        && streams * u64::from(config.stream_window) <= config.receive_memory_max
}

/// `hello` encodes to octets that decode to it again, by either side.
fn assert_survives(hello: &Hello, side: Side) {
    let octets = hello.encode(side.peer());
    assert_eq!(judge(&octets, side), Some(Ok(hello.clone())), "encoded again: {octets:02x?}");
    let again = hello.encode(side);
    assert_eq!(judge(&again, side.peer()), Some(Ok(hello.clone())), "and by the other side");
}
