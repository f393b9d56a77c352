//! RFC 9113, section 8: which messages are requests.

use relay_tests::http2::field;
use relay_tests::roles::{SERVICE, target};

use super::Outcome::{Goaway, Reset, Status};
use super::code::PROTOCOL_ERROR;
use super::{DROPS_PSEUDO, END_STREAM, ENDS_ALL, PADDED, Row, Script, asks, block, client, get};

/// What a malformed message is answered with: RFC 9113, section 8.1.1.
const MALFORMED: super::Outcome = Reset(PROTOCOL_ERROR);

pub(super) fn rows() -> Vec<Row> {
    let mut rows = messages();
    rows.extend(names_and_values());
    rows.extend(connection_fields());
    rows.extend(pseudo_fields());
    rows.extend(lengths());
    rows
}

/// A request with one more field.
fn with(name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Script {
    client().head(END_STREAM, [get(), field(name, value)].concat())
}

/// A request of these fields.
fn of(fields: &[(&str, &str)]) -> Script {
    client().head(END_STREAM, block(fields))
}

fn messages() -> Vec<Row> {
    let trailers = |flags, block: Vec<u8>| client().upload().data(0, b"x").head(flags, block);
    let trailer = || block(&[("x-sum", "1")]);
    vec![
        Row::new("8.1", "a request", client().head(END_STREAM, get()), Status(200)),
        Row::new("8.1", "a body", client().upload().data(END_STREAM, b"x"), Status(200)),
        Row::new("8.1", "a body of no octet", client().upload().data(END_STREAM, b""), Status(200)),
        Row::new("8.1", "trailers", trailers(END_STREAM, trailer()), Status(200)),
        Row::new("8.1", "trailers that do not end the stream", trailers(0, trailer()), MALFORMED),
        Row::new(
            "8.2.1",
            "a space before a value of trailers",
            trailers(END_STREAM, block(&[("x-sum", " 1")])),
            MALFORMED,
        )
        .known(Status(200), PADDED),
        Row::new(
            "8.1",
            "a pseudo-header field in trailers",
            trailers(END_STREAM, block(&[(":method", "GET")])),
            MALFORMED,
        )
        .known(Status(200), DROPS_PSEUDO),
        Row::new(
            "8.2.2",
            "a field of the connection in trailers",
            trailers(END_STREAM, block(&[("connection", "close")])),
            MALFORMED,
        ),
        Row::new(
            "8.2.2",
            "transfer-encoding in trailers",
            trailers(END_STREAM, block(&[("transfer-encoding", "chunked")])),
            MALFORMED,
        ),
        Row::new(
            "8.2",
            "a name in upper case in trailers",
            trailers(END_STREAM, block(&[("X-Sum", "1")])),
            MALFORMED,
        )
        .known(Goaway(PROTOCOL_ERROR), ENDS_ALL),
        Row::new("8.1", "a second request on a stream", trailers(END_STREAM, get()), MALFORMED)
            .known(Status(200), DROPS_PSEUDO),
    ]
}

fn names_and_values() -> Vec<Row> {
    let mut rows = vec![
        Row::new("8.2", "a field", with("x-test", "ok"), Status(200)),
        Row::new("8.2", "a field without a value", with("x-test", ""), Status(200)),
        Row::new("8.2", "octets above 0x7f in a value", with("x-test", b"\xc3\xa4"), Status(200)),
        Row::new("8.2", "a name in upper case", with("X-Test", "ok"), MALFORMED)
            .known(Goaway(PROTOCOL_ERROR), ENDS_ALL),
        Row::new("8.2", "one letter in upper case", with("x-tesT", "ok"), MALFORMED)
            .known(Goaway(PROTOCOL_ERROR), ENDS_ALL),
        Row::new("8.2.1", "a name of no octet", with("", "ok"), MALFORMED)
            .known(Goaway(PROTOCOL_ERROR), ENDS_ALL),
        Row::new("8.2.1", "a name with a space", with("x test", "ok"), MALFORMED)
            .known(Goaway(PROTOCOL_ERROR), ENDS_ALL),
        Row::new("8.2.1", "a name with an octet of control", with("x\0test", "ok"), MALFORMED)
            .known(Goaway(PROTOCOL_ERROR), ENDS_ALL),
        Row::new("8.2.1", "a name with DEL", with("x\x7ftest", "ok"), MALFORMED)
            .known(Goaway(PROTOCOL_ERROR), ENDS_ALL),
        Row::new("8.2.1", "a name with octets above 0x7f", with(b"x\xc3\xa4", "ok"), MALFORMED)
            .known(Goaway(PROTOCOL_ERROR), ENDS_ALL),
        Row::new("8.2.1", "a name with a colon within", with("x:test", "ok"), MALFORMED)
            .known(Goaway(PROTOCOL_ERROR), ENDS_ALL),
    ];
    for (name, value) in [
        ("NUL in a value", &b"a\0b"[..]),
        ("CR in a value", b"a\rb"),
        ("LF in a value", b"a\nb"),
        ("another request in a value", b"a\r\nHost: b"),
    ] {
        let row = Row::new("8.2.1", name, with("x-test", value), MALFORMED);
        rows.push(row.known(Goaway(PROTOCOL_ERROR), ENDS_ALL));
    }
    for (name, value) in [
        ("a space before a value", &b" a"[..]),
        ("a space behind a value", b"a "),
        ("a tab before a value", b"\ta"),
        ("a tab behind a value", b"a\t"),
    ] {
        let row = Row::new("8.2.1", name, with("x-test", value), MALFORMED);
        rows.push(row.known(Status(200), PADDED));
    }
    rows
}

fn connection_fields() -> Vec<Row> {
    vec![
        Row::new("8.2.2", "connection", with("connection", "keep-alive"), MALFORMED),
        Row::new("8.2.2", "keep-alive", with("keep-alive", "1"), MALFORMED),
        Row::new("8.2.2", "proxy-connection", with("proxy-connection", "close"), MALFORMED),
        Row::new("8.2.2", "transfer-encoding", with("transfer-encoding", "chunked"), MALFORMED),
        Row::new("8.2.2", "upgrade", with("upgrade", "x"), MALFORMED),
        Row::new("8.2.2", "te: trailers", with("te", "trailers"), Status(200)),
        Row::new("8.2.2", "te: gzip", with("te", "gzip"), MALFORMED),
        Row::new("8.2.2", "te: trailers, gzip", with("te", "trailers, gzip"), MALFORMED),
        Row::new("8.2.3", "cookies apart", with("cookie", "a=b"), Status(200)),
    ]
}

fn pseudo_fields() -> Vec<Row> {
    let path = target("/SMS_MP/x");
    let all = asks("GET", &path);
    let without = |name| of(&all.iter().copied().filter(|it| it.0 != name).collect::<Vec<_>>());
    let and = |name, value| of(&[&all[..], &[(name, value)]].concat());
    let mixed = of(&[all[0], all[1], all[2], ("x-test", "ok"), all[3]]);
    let replaced = |name, value| of(&all.map(|it| if it.0 == name { (name, value) } else { it }));
    let user = format!("me@{SERVICE}");
    let mut rows = vec![
        Row::new("8.3", "a pseudo-header field that is unknown", and(":test", "ok"), MALFORMED)
            .known(Goaway(PROTOCOL_ERROR), ENDS_ALL),
        Row::new("8.3", "the pseudo-header field of answers", and(":status", "200"), MALFORMED),
        Row::new("8.3", "a pseudo-header field behind others", mixed, MALFORMED),
        Row::new("8.3.1", "no :method", without(":method"), MALFORMED),
        Row::new("8.3.1", "no :scheme", without(":scheme"), MALFORMED),
        Row::new("8.3.1", "no :path", without(":path"), MALFORMED),
        Row::new("8.3.1", "neither :authority nor host", without(":authority"), Status(200)),
        Row::new("8.3.1", "host as in :authority", with("host", SERVICE), Status(200)),
        Row::new("8.3.1", "host other than :authority", with("host", "other.test"), Status(400)),
        Row::new("8.3.1", "an empty :path", replaced(":path", ""), MALFORMED),
        Row::new("8.3.1", "a :path that is none", replaced(":path", "x"), MALFORMED),
        Row::new("8.3.1", "the :path *", replaced(":path", "*"), Status(404)),
        Row::new("8.3.1", "an empty :method", replaced(":method", ""), MALFORMED)
            .known(Goaway(PROTOCOL_ERROR), ENDS_ALL),
        Row::new("8.3.1", "a :method that is no token", replaced(":method", "G T"), MALFORMED)
            .known(Goaway(PROTOCOL_ERROR), ENDS_ALL),
        Row::new("8.3.1", "a :scheme that is none", replaced(":scheme", "1:"), MALFORMED),
        Row::new("8.3.1", "a user in :authority", replaced(":authority", &user), MALFORMED),
        Row::new(
            "8.5",
            "CONNECT with :scheme and :path",
            replaced(":method", "CONNECT"),
            MALFORMED,
        ),
    ];
    for (name, value) in all {
        rows.push(Row::new("8.3.1", "a pseudo-header field twice", and(name, value), MALFORMED));
    }
    rows
}

fn lengths() -> Vec<Row> {
    let path = target("/SMS_MP/x");
    let declares = |length: &str| {
        let fields = [&asks("CCM_POST", &path)[..], &[("content-length", length)]].concat();
        block(&fields)
    };
    let body = |length: &str, flags, octets: &str| {
        client().head(0, declares(length)).data(flags, octets.as_bytes())
    };
    let twice = [declares("1"), field("content-length", "2")].concat();
    vec![
        Row::new("8.1.1", "content-length", body("4", END_STREAM, "test"), Status(200)),
        Row::new(
            "8.1.1",
            "more DATA than content-length",
            body("3", END_STREAM, "test"),
            MALFORMED,
        ),
        Row::new(
            "8.1.1",
            "less DATA than content-length",
            body("5", END_STREAM, "test"),
            MALFORMED,
        ),
        Row::new(
            "8.1.1",
            "more DATA than content-length, in two",
            body("3", 0, "te").data(END_STREAM, b"st"),
            MALFORMED,
        ),
        Row::new(
            "8.1.1",
            "less DATA than content-length before trailers",
            body("5", 0, "test").head(END_STREAM, block(&[("x-sum", "1")])),
            MALFORMED,
        ),
        Row::new(
            "8.1.1",
            "content-length and no DATA",
            client().head(END_STREAM, declares("1")),
            MALFORMED,
        ),
        Row::new("8.1.1", "content-length that is no number", body("x", END_STREAM, ""), MALFORMED),
        Row::new("8.1.1", "content-length with a sign", body("+4", END_STREAM, "test"), MALFORMED),
        Row::new(
            "8.1.1",
            "content-length twice, with two values",
            client().head(0, twice).data(END_STREAM, b"x"),
            MALFORMED,
        ),
    ]
}
