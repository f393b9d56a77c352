//! From frames to octets and back, at any split; and the octets that version 1 is.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;
use relay_core::mux::reference::decoder::{self, Frame, Limits, Outcome, decode_all};
use relay_core::mux::reference::frame_decode;
use relay_core::mux::{
    Config, Flags, FrameLimits, HeadKind, Header, Hello, Kind, Mux, PREFACE_LEN, Preface, Side,
    StreamCode, StreamId,
};
use relay_tests::mux::{drain_output, events, frame};

const LIMITS: FrameLimits = FrameLimits { payload_max: 2048, head_max: 1024 };

/// Frames that are legal one by one, as kind, flags, stream and payload.
fn legal_frames() -> impl Strategy<Value = (Kind, Flags, u32, Vec<u8>)> {
    let octets = |range| vec(any::<u8>(), range);
    let stream = 1..=u32::MAX;
    prop_oneof![
        4 => (any::<bool>(), stream.clone(), octets(1..=2048))
            .prop_map(|(end, stream, octets)| (Kind::Data, Flags::end_if(end), stream, octets)),
        1 => stream.clone().prop_map(|stream| (Kind::Data, Flags::END, stream, vec![])),
        2 => ((0u8..5).prop_map(Flags::from_bits), stream.clone(), octets(0..=1024))
            .prop_map(|(flags, stream, octets)| (Kind::Head, flags, stream, octets)),
        1 => (stream.clone(), octets(0..=1024))
            .prop_map(|(stream, octets)| (Kind::Trailers, Flags::NONE, stream, octets)),
        1 => (prop_oneof![Just(Kind::Reset), Just(Kind::Stop)], stream.clone(), octets(4..=4))
            .prop_map(|(kind, stream, octets)| (kind, Flags::NONE, stream, octets)),
        1 => (stream, octets(8..=8))
            .prop_map(|(stream, octets)| (Kind::Window, Flags::NONE, stream, octets)),
        1 => (prop_oneof![Just(Kind::Streams), Just(Kind::Ping), Just(Kind::Pong)], octets(8..=8))
            .prop_map(|(kind, octets)| (kind, Flags::NONE, 0, octets)),
        1 => octets(8..=136).prop_map(|octets| (Kind::GoAway, Flags::NONE, 0, octets)),
        1 => octets(0..=2048).prop_map(|octets| (Kind::Pad, Flags::NONE, 0, octets)),
    ]
}

/// Frames with one number of their header gone wrong, or right by chance.
fn any_header() -> impl Strategy<Value = Vec<u8>> {
    let len = prop_oneof![0u32..16, 130u32..140, 1020u32..1030, 2040u32..2056, Just(0xff_ffff)];
    (any::<u8>(), 0u32..3, len, any::<u8>()).prop_map(|(kind_and_flags, stream, len, fill)| {
        let sent = if len > 4096 { 0 } else { len as usize };
        relay_tests::mux::raw_frame(kind_and_flags, stream, len, &vec![fill; sent])
    })
}

fn encoded(frames: &[(Kind, Flags, u32, Vec<u8>)]) -> Vec<u8> {
    let octets = frames.iter();
    octets
        .flat_map(|(kind, flags, stream, payload)| frame(*kind, *flags, *stream, payload))
        .collect()
}

fn as_decoded((kind, flags, stream, payload): &(Kind, Flags, u32, Vec<u8>)) -> Frame {
    let payload = if *kind == Kind::Pad { vec![0; payload.len()] } else { payload.clone() };
    Frame { kind: *kind as u8, flags: flags.bits(), stream: *stream, payload, whole: true }
}

fn config() -> ProptestConfig {
    ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    // [MUX-15] +
    #[test]
    fn frames_survive_encoding_and_decoding_at_any_split(
        frames in vec(legal_frames(), 0..8),
        parts in vec(1usize..700, 0..40),
    ) {
        let octets = encoded(&frames);
        let expected: Vec<Frame> = frames.iter().map(as_decoded).collect();
        let expected = Outcome { frames: expected, error: None };
        prop_assert_eq!(&decoder::merged(&octets, LIMITS, &parts), &expected);
        prop_assert_eq!(&decode_all(&octets, Limits::from(LIMITS)), &expected);
    }

    #[test]
    fn frames_cut_off_anywhere_are_judged_as_the_reference_decoder_does(
        frames in vec(legal_frames(), 1..4),
        cut in any::<prop::sample::Index>(),
        parts in vec(1usize..300, 0..20),
    ) {
        let octets = encoded(&frames);
        let octets = &octets[..cut.index(octets.len())];
        let expected = decode_all(octets, Limits::from(LIMITS));
        prop_assert_eq!(decoder::merged(octets, LIMITS, &parts), expected);
    }

    // [MUX-15] -
    #[test]
    fn wrong_headers_are_judged_as_the_reference_decoder_does(
        before in vec(legal_frames(), 0..2),
        wrong in vec(any_header(), 1..4),
        choice in any::<[u8; 3]>(),
    ) {
        let mut data = choice.to_vec();
        data.extend(encoded(&before));
        data.extend(wrong.concat());
        frame_decode(&data);
    }

    #[test]
    fn any_octets_are_judged_as_the_reference_decoder_does(data in vec(any::<u8>(), 0..200)) {
        frame_decode(&data);
    }

    #[test]
    fn a_hello_survives_a_round_trip(
        sizes in (1u32 << 10..=1 << 24, 256u32..=65_528, 256u32..=65_528),
        (streams, keep_alive) in (0u32..=16_384, any::<u32>()),
        link in any::<u64>(),
        instance in any::<u16>(),
        epoch in any::<u64>(),
        name in "[a-zA-Z0-9 äß→-]{0,30}",
        software in "[ -~]{0,128}",
        site in "[a-zA-Z0-9 äß→-]{0,20}",
    ) {
        let (stream_window, payload_max, head_max) = sizes;
        let keep_alive = Duration::from_millis(keep_alive.into());
        let hello = Hello {
            stream_window, payload_max, head_max, streams, keep_alive, link, instance, name, epoch,
            software, site,
        };
        for side in [Side::Dialer, Side::Listener] {
            let octets = hello.encode(side);
            let (preface, fields) = octets.split_first_chunk::<PREFACE_LEN>().unwrap();
            let preface = Preface::decode(preface, side.peer()).unwrap();
            prop_assert_eq!(preface.hello_len as usize, fields.len());
            prop_assert_eq!(&Hello::decode(fields).unwrap(), &hello);
        }
    }

    #[test]
    fn no_octets_make_the_hello_decoder_panic(fields in vec(any::<u8>(), 0..120)) {
        let _ = Hello::decode(&fields);
    }

    #[test]
    fn headers_survive_a_round_trip(
        len in 0u32..=256,
        end in any::<bool>(),
        stream in 1..=u32::MAX,
    ) {
        prop_assume!(len > 0 || end);
        let (stream, flags) = (StreamId::from_wire(stream), Flags::end_if(end));
        let raw = Header::encode(Kind::Data, flags, stream, len);
        let expected = Header { kind: Some(Kind::Data), flags, stream, payload_len: len };
        prop_assert_eq!(Header::decode(raw, &LIMITS), Ok(expected));
    }
}

/// A conversation that is written down.
struct Conversation {
    gateway: Mux,
    site: Mux,
    now: Instant,
    script: String,
}

impl Conversation {
    fn new() -> Self {
        let now = Instant::now();
        let config = |name: &str| Config {
            stream_window: 1024,
            receive_memory_max: 1 << 20,
            accept_streams_max: 2,
            open_streams_max: 2,
            name: name.to_owned(),
            ..Config::default()
        };
        let gateway = Mux::new(Side::Listener, config("gw"), now).unwrap();
        let site = Mux::new(Side::Dialer, config("cp"), now).unwrap();
        Self { gateway, site, now, script: String::new() }
    }

    /// Both sides say what they have to say, the gateway first.
    fn carry(&mut self) {
        let octets = drain_output(&mut self.gateway, self.now);
        self.script.push_str(&lines("gateway", &octets));
        self.site.handle_input(self.now, &mut BytesMut::from(&octets[..])).unwrap();
        let octets = drain_output(&mut self.site, self.now);
        self.script.push_str(&lines("site", &octets));
        self.gateway.handle_input(self.now, &mut BytesMut::from(&octets[..])).unwrap();
        events(&mut self.gateway);
        events(&mut self.site);
    }

    fn exchange(&mut self) {
        let id = self.gateway.open(Bytes::from_static(b"POST"), false).unwrap();
        self.gateway.write(id, &mut Bytes::from_static(b"request")).unwrap();
        self.gateway.finish(id).unwrap();
        self.carry();
        self.site.send_head(id, Bytes::from_static(b"103"), HeadKind::Interim).unwrap();
        self.site.send_head(id, Bytes::from_static(b"200"), HeadKind::Final).unwrap();
        self.site.write(id, &mut Bytes::from(vec![0xaa; 256])).unwrap();
        self.carry();
        self.gateway.take(id, 256);
        self.site.send_trailers(id, Bytes::from_static(b"sum")).unwrap();
        self.site.release(id);
        self.carry();
        self.gateway.release(id);
    }

    fn aborts(&mut self) {
        let id = self.gateway.open(Bytes::from_static(b"GET"), true).unwrap();
        self.carry();
        self.site.reset(id, StreamCode(0x105));
        self.site.release(id);
        self.carry();
        self.gateway.release(id);
        let id = self.site.open(Bytes::new(), false).unwrap();
        self.carry();
        self.carry();
        self.gateway.stop(id, StreamCode(0x106));
        self.carry();
        self.gateway.send_head(id, Bytes::new(), HeadKind::FinalAndEnd).unwrap();
    }

    fn ends(&mut self) {
        self.site.drain(self.now);
        self.carry();
        self.carry();
        self.gateway.close();
        let octets = drain_output(&mut self.gateway, self.now);
        self.script.push_str(&lines("gateway", &octets));
        assert_eq!(self.site.handle_input(self.now, &mut BytesMut::from(&octets[..])), Ok(()));
    }
}

/// A short conversation, octet by octet. A change here is a change of the protocol: it needs a new
/// version, not new octets in this file.
// [MUX-01] + [MUX-17] + [MUX-23] +
#[test]
fn the_frozen_octets_of_a_conversation() {
    let mut conversation = Conversation::new();
    conversation.carry();
    conversation.carry();
    conversation.exchange();
    conversation.aborts();
    conversation.ends();
    let said = conversation.script;
    assert_eq!(said, include_str!("mux_codec.frozen"), "--- said ---\n{said}");
}

/// One line for each frame: who sent it, header, payload. Long payloads are shown by their length.
fn lines(name: &str, octets: &[u8]) -> String {
    let mut text = String::new();
    let mut octets = octets;
    if octets.starts_with(&relay_core::mux::MAGIC) {
        // The version of the software is the one thing that changes.
        let version = Bytes::from_static(env!("CARGO_PKG_VERSION").as_bytes());
        let (preface, rest) = octets.split_at(PREFACE_LEN);
        let (fields, rest) = rest.split_at(usize::from(preface[15]));
        assert!(fields.ends_with(&version), "the hello ends with the version");
        let fields = &fields[..fields.len() - version.len()];
        let _ = writeln!(text, "{name} {} {} version", hex(preface), hex(fields));
        octets = rest;
    }
    for frame in relay_tests::mux::frames(octets) {
        let whole = relay_tests::mux::raw_frame(
            frame.kind << 4 | frame.flags,
            frame.stream,
            u32::try_from(frame.payload.len()).unwrap(),
            &[],
        );
        let payload = match frame.payload.len() {
            0..=64 => hex(&frame.payload),
            len => format!("{} x {len}", hex(&frame.payload[..1])),
        };
        text.push_str(format!("{name} {} {payload}", hex(&whole)).trim_end());
        text.push('\n');
    }
    text
}

fn hex(octets: &[u8]) -> String {
    octets.iter().fold(String::new(), |mut text, octet| {
        let _ = write!(text, "{octet:02x}");
        text
    })
}
