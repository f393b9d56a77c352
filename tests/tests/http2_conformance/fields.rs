//! RFC 7541: how field blocks are written.

use relay_tests::http2::{integer, string};

use super::Outcome::{Goaway, Status};
use super::code::{COMPRESSION_ERROR, PROTOCOL_ERROR};
use super::{END_STREAM, OTHER_CODE, Row, Script, client, get};

/// The table that the gateway keeps, which it sets nowhere: RFC 7541, section 4.2.
const TABLE_OCTETS: usize = 4096;

/// What whatever cannot be decoded is answered with: RFC 9113, section 4.3.
const REFUSED: super::Outcome = Goaway(COMPRESSION_ERROR);

/// A request with octets of a field block behind it.
fn and(octets: &[u8]) -> Script {
    client().head(END_STREAM, [&get(), octets].concat())
}

/// A request with octets of a field block before it.
fn behind(octets: &[u8]) -> Script {
    client().head(END_STREAM, [octets, &get()].concat())
}

/// `x: <value>` with the value as it is.
fn valued(value: &[u8]) -> Vec<u8> {
    [&[0][..], &string(b"x"), value].concat()
}

fn size(octets: usize) -> Vec<u8> {
    integer(5, 0x20, octets)
}

pub(super) fn rows() -> Vec<Row> {
    let mut rows = tables();
    rows.extend(strings_and_integers());
    let known = |row: Row| match row.required {
        REFUSED => row.known(Goaway(PROTOCOL_ERROR), OTHER_CODE),
        _ => row,
    };
    rows.into_iter().map(known).collect()
}

fn tables() -> Vec<Row> {
    let kept = [&[0x40][..], &string(b"x"), &string(b"y")].concat();
    let never = [&[0x10][..], &string(b"x"), &string(b"y")].concat();
    let once = [kept.as_slice(), &integer(7, 0x80, 62)].concat();
    let by_name = [kept.as_slice(), &integer(6, 0x40, 62), &string(b"z")].concat();
    let evicted = [kept.as_slice(), &integer(7, 0x80, 63)].concat();
    let both = [size(0), size(TABLE_OCTETS)].concat();
    let emptied = [kept.as_slice(), &integer(7, 0x80, 62)].concat();
    let of_nothing = [&size(0)[..], &get(), &emptied].concat();
    vec![
        Row::new("RFC 7541, 6.1", "an index of the static table", and(&[0x90]), Status(200)),
        Row::new("RFC 7541, 6.1", "index 0", and(&[0x80]), REFUSED),
        Row::new(
            "RFC 7541, 2.3.3",
            "an index behind the tables",
            and(&integer(7, 0x80, 62)),
            REFUSED,
        ),
        Row::new(
            "RFC 7541, 2.3.3",
            "an index far behind the tables",
            and(&integer(7, 0x80, 70_000)),
            REFUSED,
        ),
        Row::new(
            "RFC 7541, 2.3.3",
            "the name of an index behind the tables",
            and(&[integer(6, 0x40, 70), string(b"v")].concat()),
            REFUSED,
        ),
        Row::new("RFC 7541, 2.3.2", "an index of what was just kept", and(&once), Status(200)),
        Row::new("RFC 7541, 6.2.1", "a name of what was just kept", and(&by_name), Status(200)),
        Row::new("RFC 7541, 2.3.3", "an index behind what was just kept", and(&evicted), REFUSED),
        Row::new("RFC 7541, 6.2.3", "a field that is never kept", and(&never), Status(200)),
        Row::new(
            "RFC 7541, 4.4",
            "an index of what no table had room for",
            client().head(END_STREAM, of_nothing),
            REFUSED,
        ),
        Row::new("RFC 7541, 6.3", "a smaller table", behind(&size(100)), Status(200)),
        Row::new("RFC 7541, 4.2", "a smaller table, and a larger one", behind(&both), Status(200)),
        Row::new(
            "RFC 7541, 6.3",
            "a table as large as may be",
            behind(&size(TABLE_OCTETS)),
            Status(200),
        ),
        Row::new(
            "RFC 7541, 6.3",
            "a table larger than may be",
            behind(&size(TABLE_OCTETS + 1)),
            REFUSED,
        ),
        Row::new("RFC 7541, 4.2", "another size at a block's end", and(&size(100)), REFUSED),
    ]
}

fn strings_and_integers() -> Vec<Row> {
    // `a` is 00011 and `0` is 00000 (appendix B).
    let huffman =
        |octets: &[u8]| [&[0x80 | u8::try_from(octets.len()).unwrap()][..], octets].concat();
    let coded = |octets: &[u8]| and(&valued(&huffman(octets)));
    vec![
        Row::new(
            "RFC 7541, 5.2",
            "a Huffman code with padding",
            coded(&[0b0001_1111]),
            Status(200),
        ),
        Row::new(
            "RFC 7541, 5.2",
            "a Huffman code padded with zeros",
            coded(&[0b0001_1000]),
            REFUSED,
        ),
        Row::new(
            "RFC 7541, 5.2",
            "a Huffman code with 11 bits of padding",
            coded(&[0b0001_1111, 0xff]),
            REFUSED,
        ),
        Row::new(
            "RFC 7541, 5.2",
            "a Huffman code with 8 bits of padding alone",
            coded(&[0xff]),
            REFUSED,
        ),
        Row::new(
            "RFC 7541, 5.2",
            "a Huffman code with the end of string",
            coded(&[0xff; 4]),
            REFUSED,
        ),
        Row::new(
            "RFC 7541, 5.2",
            "a string that goes beyond the block",
            and(&valued(&[5, b'x'])),
            REFUSED,
        ),
        Row::new(
            "RFC 7541, 5.1",
            "an integer that goes beyond the block",
            and(&[0xff, 0xff]),
            REFUSED,
        ),
        Row::new("RFC 7541, 5.1", "an integer without end", and(&[0xff; 16]), REFUSED),
        Row::new(
            "RFC 7541, 5.1",
            "a length of a string beyond any",
            and(&valued(&[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f])),
            REFUSED,
        ),
        Row::new("RFC 7541, 6.2.2", "a field of which only the type is there", and(&[0]), REFUSED),
        Row::new(
            "RFC 7541, 6.2.2",
            "a field without a value's length",
            and(&[0, 1, b'x']),
            REFUSED,
        ),
    ]
}
