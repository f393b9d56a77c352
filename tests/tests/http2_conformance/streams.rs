//! RFC 9113, section 5: what may be sent in each state of a stream.

use relay_tests::http2::{PRIORITY, kind};

use super::Outcome::{Goaway, Ignored, Reset, Status};
use super::code::{CANCEL, PROTOCOL_ERROR, STREAM_CLOSED};
use super::{END_HEADERS, END_STREAM, FORGETS, Row, STREAM, Script, WHOLE, client, get};

pub(super) fn rows() -> Vec<Row> {
    let mut rows = idle();
    rows.extend(half_closed());
    rows.extend(closed());
    rows.extend(numbers_and_dependencies());
    rows
}

fn with_data(script: Script) -> Script {
    script.data(0, b"x")
}

fn with_head(script: Script) -> Script {
    script.head(END_STREAM, get())
}

fn with_continuation(script: Script) -> Script {
    script.frame(kind::CONTINUATION, END_HEADERS, STREAM, get())
}

fn with_reset(script: Script) -> Script {
    script.frame(kind::RST_STREAM, 0, STREAM, CANCEL.to_be_bytes())
}

fn with_window(script: Script) -> Script {
    script.frame(kind::WINDOW_UPDATE, 0, STREAM, [0, 0, 0, 1])
}

fn idle() -> Vec<Row> {
    let refused = Goaway(PROTOCOL_ERROR);
    vec![
        Row::new("5.1", "DATA on an idle stream", with_data(client()), refused),
        Row::new("5.1", "RST_STREAM on an idle stream", with_reset(client()), refused),
        Row::new("5.1", "WINDOW_UPDATE on an idle stream", with_window(client()), refused),
        Row::new("5.1", "CONTINUATION on an idle stream", with_continuation(client()), refused),
    ]
}

fn half_closed() -> Vec<Row> {
    let held = || client().held();
    vec![
        Row::new("5.1", "DATA behind a request's end", with_data(held()), Reset(STREAM_CLOSED))
            .known(Goaway(PROTOCOL_ERROR), FORGETS),
        Row::new("5.1", "HEADERS behind a request's end", with_head(held()), Reset(STREAM_CLOSED))
            .known(Goaway(PROTOCOL_ERROR), FORGETS),
        Row::new(
            "5.1",
            "CONTINUATION behind a request's end",
            with_continuation(held()),
            Goaway(PROTOCOL_ERROR),
        ),
        Row::new("5.1", "WINDOW_UPDATE behind a request's end", with_window(held()), Ignored),
        Row::new("5.1", "RST_STREAM behind a request's end", with_reset(held()), Ignored),
    ]
}

fn closed() -> Vec<Row> {
    let reset = || with_reset(client().held());
    let answered = || client().answered();
    vec![
        Row::new("5.1", "DATA behind RST_STREAM", with_data(reset()), Reset(STREAM_CLOSED)),
        Row::new("5.1", "HEADERS behind RST_STREAM", with_head(reset()), Reset(STREAM_CLOSED))
            .known(Goaway(PROTOCOL_ERROR), FORGETS),
        Row::new(
            "5.1",
            "CONTINUATION behind RST_STREAM",
            with_continuation(reset()),
            Goaway(PROTOCOL_ERROR),
        ),
        Row::new("5.1", "RST_STREAM twice", with_reset(reset()), Ignored),
        Row::new("5.1", "DATA behind the answer", with_data(answered()), Goaway(STREAM_CLOSED))
            .known(Reset(STREAM_CLOSED), FORGETS),
        Row::new("5.1", "HEADERS behind the answer", with_head(answered()), Goaway(STREAM_CLOSED))
            .known(Goaway(PROTOCOL_ERROR), FORGETS),
        Row::new(
            "5.1",
            "CONTINUATION behind the answer",
            with_continuation(answered()),
            Goaway(PROTOCOL_ERROR),
        ),
        Row::new("5.1", "WINDOW_UPDATE behind the answer", with_window(answered()), Status(200)),
        Row::new("5.1", "RST_STREAM behind the answer", with_reset(answered()), Status(200)),
        Row::new(
            "5.1",
            "PRIORITY behind the answer",
            answered().frame(kind::PRIORITY, 0, STREAM, [0, 0, 0, 3, 15]),
            Status(200),
        ),
    ]
}

fn numbers_and_dependencies() -> Vec<Row> {
    let itself = STREAM.to_be_bytes();
    let on_itself = [&itself[..], &[15], &get()].concat();
    let on_other = [&[0x80, 0, 0, 9][..], &[255], &get()].concat();
    vec![
        Row::new(
            "5.1.1",
            "a request on an even stream",
            client().frame(kind::HEADERS, WHOLE, 2, get()),
            Goaway(PROTOCOL_ERROR),
        ),
        Row::new(
            "5.1.1",
            "a request on a lower stream than the one before",
            client().frame(kind::HEADERS, WHOLE, 5, get()).frame(kind::HEADERS, WHOLE, 3, get()),
            Goaway(PROTOCOL_ERROR),
        ),
        Row::new(
            "5.3.2",
            "a priority, which means nothing any more",
            client().head(END_STREAM | PRIORITY, on_other),
            Status(200),
        ),
        Row::new(
            "RFC 7540, 5.3.1",
            "HEADERS of a stream that depends on itself",
            client().head(END_STREAM | PRIORITY, on_itself),
            Reset(PROTOCOL_ERROR),
        ),
        Row::new(
            "RFC 7540, 5.3.1",
            "PRIORITY of a stream that depends on itself",
            client().held().frame(kind::PRIORITY, 0, STREAM, [itself.as_slice(), &[15]].concat()),
            Reset(PROTOCOL_ERROR),
        ),
    ]
}
