//! RFC 9113, sections 3, 4, 6 and 7: the preface, frames, and each type of them.

use relay_tests::http2::{ACK, PADDED, PREFACE, kind, setting};

use super::Outcome::{Ended, Goaway, Ignored, Reset, Status};
use super::code::{FLOW_CONTROL_ERROR, FRAME_SIZE_ERROR, PROTOCOL_ERROR};
use super::{END_HEADERS, END_STREAM, Row, STREAM, WHOLE, client, frame, get, stranger};
use super::{ENDS_ALL, OTHER_CODE};

// RFC 9113, section 6.5.2.
const ENABLE_PUSH: u16 = 0x2;
const INITIAL_WINDOW_SIZE: u16 = 0x4;
const MAX_FRAME_SIZE: u16 = 0x5;

/// A type of frame that nobody has defined.
const UNKNOWN: u8 = 0xbb;

/// The largest window, as an increment.
const WINDOW_MAX: u32 = (1 << 31) - 1;

pub(super) fn rows() -> Vec<Row> {
    let mut rows = preface_and_format();
    rows.extend(data_and_headers());
    rows.extend(priority_and_reset());
    rows.extend(settings());
    rows.extend(push_ping_and_goaway());
    rows.extend(windows());
    rows.extend(continuations());
    rows
}

fn preface_and_format() -> Vec<Row> {
    let wrong = b"GET / HTTP/1.1\r\nHost: relay.test\r\n\r\n".to_vec();
    let ping_first = [PREFACE, &frame(kind::PING, 0, 0, &[0; 8])].concat();
    let settings_ack_first = [PREFACE, &frame(kind::SETTINGS, ACK, 0, b"")].concat();
    vec![
        Row::new("3.4", "another protocol in place of the preface", stranger(wrong), Ended),
        Row::new("3.4", "the preface cut and ended with zeros", stranger([0; 24]), Ended),
        Row::new("3.4", "PING before SETTINGS", stranger(ping_first), Goaway(PROTOCOL_ERROR)),
        Row::new(
            "3.4",
            "an acknowledgement before SETTINGS",
            stranger(settings_ack_first),
            Goaway(PROTOCOL_ERROR),
        ),
        Row::new("4.1", "a type that is unknown", client().frame(UNKNOWN, 0, 0, b"x"), Ignored),
        Row::new(
            "4.1",
            "a type that is unknown, on a stream that is idle",
            client().frame(UNKNOWN, 0xff, STREAM, b"x"),
            Ignored,
        ),
        Row::new(
            "4.1",
            "flags that are undefined",
            client().frame(kind::PING, 0xfe, 0, [0; 8]),
            Ignored,
        ),
        Row::new(
            "4.1",
            "the reserved bit of a stream's number",
            client().frame(kind::HEADERS, WHOLE, STREAM | 1 << 31, get()),
            Status(200),
        ),
        Row::new(
            "4.2",
            "DATA of 16,384 octets",
            client().upload().data(END_STREAM, [0; 16_384]),
            Status(200),
        ),
        Row::new(
            "4.2",
            "DATA of 16,385 octets",
            client().upload().data(END_STREAM, vec![0; 16_385]),
            Goaway(FRAME_SIZE_ERROR),
        ),
        Row::new(
            "4.2",
            "HEADERS of 16,385 octets",
            client().head(END_STREAM, vec![0; 16_385]),
            Goaway(FRAME_SIZE_ERROR),
        ),
        Row::new(
            "4.2",
            "a type that is unknown, of 16,385 octets",
            client().frame(UNKNOWN, 0, 0, vec![0; 16_385]),
            Goaway(FRAME_SIZE_ERROR),
        ),
    ]
}

fn data_and_headers() -> Vec<Row> {
    let unpadded = [&[0][..], &get()].concat();
    let padded = [&[3][..], &get(), &[0; 3]].concat();
    let too_padded = [&[255][..], &get()].concat();
    let whole_padded = WHOLE | PADDED;
    let body = |payload: &'static [u8]| client().upload().data(END_STREAM | PADDED, payload);
    vec![
        Row::new(
            "6.1",
            "DATA on stream 0",
            client().frame(kind::DATA, 0, 0, b"x"),
            Goaway(PROTOCOL_ERROR),
        ),
        Row::new("6.1", "DATA with padding", body(b"\x02x\0\0"), Status(200)),
        Row::new("6.1", "DATA that is padding alone", body(b"\x02\0\0"), Status(200)),
        Row::new(
            "6.1",
            "DATA with as much padding as payload",
            body(b"\x03\0\0"),
            Goaway(PROTOCOL_ERROR),
        ),
        Row::new(
            "6.1",
            "DATA with a length of padding that is not there",
            body(b""),
            Goaway(FRAME_SIZE_ERROR),
        )
        .known(Goaway(PROTOCOL_ERROR), OTHER_CODE),
        Row::new(
            "6.2",
            "HEADERS on stream 0",
            client().frame(kind::HEADERS, WHOLE, 0, get()),
            Goaway(PROTOCOL_ERROR),
        ),
        Row::new("6.2", "HEADERS with padding", client().head(whole_padded, padded), Status(200)),
        Row::new(
            "6.2",
            "HEADERS with padding of no octet",
            client().head(whole_padded, unpadded),
            Status(200),
        ),
        Row::new(
            "6.2",
            "HEADERS with more padding than payload",
            client().head(whole_padded, too_padded),
            Goaway(PROTOCOL_ERROR),
        ),
    ]
}

fn priority_and_reset() -> Vec<Row> {
    vec![
        Row::new(
            "6.3",
            "PRIORITY of an idle stream",
            client().frame(kind::PRIORITY, 0, STREAM, [0, 0, 0, 0, 15]),
            Ignored,
        ),
        Row::new(
            "6.3",
            "PRIORITY on stream 0",
            client().frame(kind::PRIORITY, 0, 0, [0, 0, 0, 3, 15]),
            Goaway(PROTOCOL_ERROR),
        ),
        Row::new(
            "6.3",
            "PRIORITY of 4 octets",
            client().held().frame(kind::PRIORITY, 0, STREAM, [0; 4]),
            Reset(FRAME_SIZE_ERROR),
        )
        .known(Goaway(FRAME_SIZE_ERROR), ENDS_ALL),
        Row::new(
            "6.4",
            "RST_STREAM on stream 0",
            client().frame(kind::RST_STREAM, 0, 0, [0, 0, 0, 8]),
            Goaway(PROTOCOL_ERROR),
        ),
        Row::new(
            "6.4",
            "RST_STREAM of 3 octets",
            client().held().frame(kind::RST_STREAM, 0, STREAM, [0; 3]),
            Goaway(FRAME_SIZE_ERROR),
        ),
        Row::new(
            "7",
            "RST_STREAM with a code that is unknown",
            client().held().frame(kind::RST_STREAM, 0, STREAM, [0, 0, 0, 0xff]),
            Ignored,
        ),
    ]
}

fn settings() -> Vec<Row> {
    let set = |id, value| client().frame(kind::SETTINGS, 0, 0, setting(id, value));
    vec![
        Row::new("6.5", "SETTINGS", client().frame(kind::SETTINGS, 0, 0, b""), Ignored),
        Row::new(
            "6.5",
            "an acknowledgement with a payload",
            client().frame(kind::SETTINGS, ACK, 0, setting(INITIAL_WINDOW_SIZE, 1)),
            Goaway(FRAME_SIZE_ERROR),
        ),
        Row::new(
            "6.5",
            "SETTINGS on a stream",
            client().held().frame(kind::SETTINGS, 0, STREAM, b""),
            Goaway(PROTOCOL_ERROR),
        ),
        Row::new(
            "6.5",
            "SETTINGS of 5 octets",
            client().frame(kind::SETTINGS, 0, 0, [0; 5]),
            Goaway(FRAME_SIZE_ERROR),
        ),
        Row::new("6.5.2", "ENABLE_PUSH 2", set(ENABLE_PUSH, 2), Goaway(PROTOCOL_ERROR)),
        Row::new(
            "6.5.2",
            "INITIAL_WINDOW_SIZE 2^31 - 1",
            set(INITIAL_WINDOW_SIZE, WINDOW_MAX),
            Ignored,
        ),
        Row::new(
            "6.5.2",
            "INITIAL_WINDOW_SIZE 2^31",
            set(INITIAL_WINDOW_SIZE, 1 << 31),
            Goaway(FLOW_CONTROL_ERROR),
        )
        .known(Goaway(PROTOCOL_ERROR), OTHER_CODE),
        Row::new(
            "6.5.2",
            "MAX_FRAME_SIZE 16,383",
            set(MAX_FRAME_SIZE, 16_383),
            Goaway(PROTOCOL_ERROR),
        ),
        Row::new("6.5.2", "MAX_FRAME_SIZE 16,384", set(MAX_FRAME_SIZE, 16_384), Ignored),
        Row::new("6.5.2", "MAX_FRAME_SIZE 2^24 - 1", set(MAX_FRAME_SIZE, (1 << 24) - 1), Ignored),
        Row::new(
            "6.5.2",
            "MAX_FRAME_SIZE 2^24",
            set(MAX_FRAME_SIZE, 1 << 24),
            Goaway(PROTOCOL_ERROR),
        ),
        Row::new("6.5.2", "a setting that is unknown", set(0xff, u32::MAX), Ignored),
    ]
}

fn push_ping_and_goaway() -> Vec<Row> {
    let promise = [&2_u32.to_be_bytes()[..], &get()].concat();
    let goodbye = |code: u32| [[0; 4], code.to_be_bytes()].concat();
    vec![
        Row::new(
            "6.6",
            "PUSH_PROMISE, which no client may send",
            client().held().frame(kind::PUSH_PROMISE, END_HEADERS, STREAM, promise),
            Goaway(PROTOCOL_ERROR),
        ),
        Row::new(
            "6.7",
            "an answer to a PING of nobody",
            client().frame(kind::PING, ACK, 0, [1; 8]),
            Ignored,
        ),
        Row::new(
            "6.7",
            "PING on a stream",
            client().held().frame(kind::PING, 0, STREAM, [0; 8]),
            Goaway(PROTOCOL_ERROR),
        ),
        Row::new(
            "6.7",
            "PING of 7 octets",
            client().frame(kind::PING, 0, 0, [0; 7]),
            Goaway(FRAME_SIZE_ERROR),
        ),
        Row::new(
            "6.8",
            "GOAWAY on a stream",
            client().held().frame(kind::GOAWAY, 0, STREAM, goodbye(0)),
            Goaway(PROTOCOL_ERROR),
        ),
        Row::new(
            "6.8",
            "GOAWAY, and nothing is open",
            client().frame(kind::GOAWAY, 0, 0, goodbye(0)),
            Ignored,
        ),
        Row::new(
            "7",
            "GOAWAY with a code that is unknown",
            client().frame(kind::GOAWAY, 0, 0, goodbye(0xff)),
            Ignored,
        ),
    ]
}

fn windows() -> Vec<Row> {
    let more = |stream, by: u32| frame(kind::WINDOW_UPDATE, 0, stream, &by.to_be_bytes());
    let whole = setting(INITIAL_WINDOW_SIZE, WINDOW_MAX);
    vec![
        Row::new(
            "6.9",
            "no more window for the connection",
            client().send(more(0, 0)),
            Goaway(PROTOCOL_ERROR),
        ),
        Row::new(
            "6.9",
            "no more window for a stream",
            client().held().send(more(STREAM, 0)),
            Reset(PROTOCOL_ERROR),
        )
        .known(Goaway(PROTOCOL_ERROR), ENDS_ALL),
        Row::new(
            "6.9",
            "WINDOW_UPDATE of 3 octets",
            client().frame(kind::WINDOW_UPDATE, 0, 0, [0; 3]),
            Goaway(FRAME_SIZE_ERROR),
        ),
        Row::new(
            "6.9.1",
            "a window of the connection of 2^31 - 1",
            client().send(more(0, WINDOW_MAX - 65_535)),
            Ignored,
        ),
        Row::new(
            "6.9.1",
            "a window of the connection of 2^31",
            client().send(more(0, WINDOW_MAX - 65_534)),
            Goaway(FLOW_CONTROL_ERROR),
        ),
        Row::new(
            "6.9.1",
            "a window of a stream of 2^31",
            client().held().send(more(STREAM, WINDOW_MAX - 65_534)),
            Reset(FLOW_CONTROL_ERROR),
        ),
        Row::new(
            "6.9.2",
            "a setting that makes the window of a stream larger than 2^31 - 1",
            client().held().send(more(STREAM, 1)).frame(kind::SETTINGS, 0, 0, whole),
            Goaway(FLOW_CONTROL_ERROR),
        ),
    ]
}

fn continuations() -> Vec<Row> {
    let (block, more) = (get(), kind::CONTINUATION);
    let (begin, rest) = block.split_at(5);
    let head = || client().frame(kind::HEADERS, END_STREAM, STREAM, begin);
    vec![
        Row::new(
            "6.10",
            "CONTINUATION",
            head().frame(more, END_HEADERS, STREAM, rest),
            Status(200),
        ),
        Row::new(
            "6.10",
            "several CONTINUATIONs, one of them empty",
            head().frame(more, 0, STREAM, b"").frame(more, 0, STREAM, &rest[..1]).frame(
                more,
                END_HEADERS,
                STREAM,
                &rest[1..],
            ),
            Status(200),
        ),
        Row::new(
            "6.10",
            "CONTINUATION on stream 0",
            head().frame(more, END_HEADERS, 0, rest),
            Goaway(PROTOCOL_ERROR),
        ),
        Row::new(
            "6.10",
            "CONTINUATION of another stream",
            head().frame(more, END_HEADERS, 3, rest),
            Goaway(PROTOCOL_ERROR),
        ),
        Row::new(
            "6.10",
            "CONTINUATION behind a block that is whole",
            client().held().frame(more, END_HEADERS, STREAM, rest),
            Goaway(PROTOCOL_ERROR),
        ),
        Row::new(
            "6.10",
            "CONTINUATION behind DATA",
            client().upload().data(0, b"x").frame(more, END_HEADERS, STREAM, rest),
            Goaway(PROTOCOL_ERROR),
        ),
        Row::new(
            "6.2",
            "PRIORITY within a field block",
            head().frame(kind::PRIORITY, 0, STREAM, [0, 0, 0, 0, 15]),
            Goaway(PROTOCOL_ERROR),
        ),
        Row::new(
            "6.2",
            "HEADERS of another stream within a field block",
            head().frame(kind::HEADERS, WHOLE, 3, get()),
            Goaway(PROTOCOL_ERROR),
        ),
        Row::new(
            "5.5",
            "a type that is unknown within a field block",
            head().frame(UNKNOWN, 0, STREAM, b"x"),
            Goaway(PROTOCOL_ERROR),
        ),
    ]
}
