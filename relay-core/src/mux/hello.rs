//! The first octets of a link: preface and hello.
//!
//! Both sides send theirs at once, without waiting for the other's.
//!
//! ```text
//! +---------------------------+-----+-----+------+----------+------------+---------+
//! | f2 'R' 'L' 'N' 'K' 0d 0a 1a | min | max | role | reserved | length: u32 | hello … |
//! +---------------------------+-----+-----+------+----------+------------+---------+
//!           8 octets             1     1     1        1          4         ≤ 4096
//! ```
//!
//! The first octet is neither a TLS record type nor a letter, so a link can be told from TLS and
//! HTTP by its first octet; CR LF and 0x1a show a path that rewrites text. The hello is a sequence
//! of fields `type: u16 | length: u16 | value`. Unknown fields are ignored unless the top bit of
//! the type marks them critical.

use std::time::Duration;

use super::config::Config;
use super::error::HelloError;
use super::frame::Side;

/// The octets every link begins with.
pub const MAGIC: [u8; 8] = [0xf2, b'R', b'L', b'N', b'K', 0x0d, 0x0a, 0x1a];

/// Octets before the hello's fields.
pub const PREFACE_LEN: usize = 16;

/// Longest hello, in octets.
pub const HELLO_MAX: u32 = 4096;

/// The lowest and highest protocol version spoken here.
pub const VERSIONS: (u8, u8) = (1, 1);

/// Longest name or software text in a hello, in octets.
pub const HELLO_TEXT_MAX: usize = 128;

/// Longest name of a site in a hello, in octets.
pub const HELLO_SITE_MAX: usize = 64;

const CRITICAL: u16 = 0x8000;

/// Field types of version 1.
mod field {
    pub(super) const STREAM_WINDOW: u16 = 0x8001;
    pub(super) const PAYLOAD_MAX: u16 = 0x8002;
    pub(super) const HEAD_MAX: u16 = 0x8003;
    pub(super) const STREAMS: u16 = 0x8004;
    pub(super) const KEEP_ALIVE: u16 = 0x0005;
    pub(super) const LINK: u16 = 0x0006;
    pub(super) const INSTANCE: u16 = 0x0007;
    pub(super) const NAME: u16 = 0x0008;
    pub(super) const EPOCH: u16 = 0x0009;
    pub(super) const SOFTWARE: u16 = 0x000a;
    pub(super) const SITE: u16 = 0x000b;
}

/// What one side says about itself; it holds for the link's whole life.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Hello {
    /// Octets of payload that each new stream may carry towards this side before its first WINDOW.
    /// 1 KiB to 16 MiB.
    pub stream_window: u32,
    /// Longest DATA payload this side takes. 256 to 65,528 octets.
    pub payload_max: u32,
    /// Longest HEAD or TRAILERS payload this side takes. 256 to 65,528 octets.
    pub head_max: u32,
    /// Streams that the peer may open before the first STREAMS. 0 to 16,384.
    pub streams: u32,
    /// Longest time this side lets pass without sending anything. Whole milliseconds.
    pub keep_alive: Duration,
    /// Names the link among the sender's own, see [`Config::link`](super::Config::link).
    pub link: u64,
    /// Gateway instance number, 0 if not one.
    pub instance: u16,
    /// The connection point's or product's own name; at most [`HELLO_TEXT_MAX`] octets.
    pub name: String,
    /// Rises with each start of the sender, so that a newer link can supersede an older one.
    pub epoch: u64,
    /// Name and version of the software; at most [`HELLO_TEXT_MAX`] octets.
    pub software: String,
    /// The site that a connection point stands in; at most [`HELLO_SITE_MAX`] octets, empty if the
    /// sender stands in none.
    pub site: String,
}

/// The fixed part of a preface, judged.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Preface {
    /// The version both sides will speak.
    pub version: u8,
    /// Octets of hello that follow.
    pub hello_len: u32,
}

impl Preface {
    /// Judges a peer's preface, as `side`.
    ///
    /// # Errors
    ///
    /// [`HelloError`]; the link must be closed.
    pub fn decode(raw: &[u8; PREFACE_LEN], side: Side) -> Result<Self, HelloError> {
        let [m0, m1, m2, m3, m4, m5, m6, m7, min, max, role, reserved, l3, l2, l1, l0] = *raw;
        if [m0, m1, m2, m3, m4, m5, m6, m7] != MAGIC {
            return Err(HelloError::BadMagic);
        }
        let version = max.min(VERSIONS.1);
        if min > max || version < min || version < VERSIONS.0 {
            return Err(HelloError::Version { min, max });
        }
        if role != role_octet(side.peer()) {
            return Err(HelloError::Role { role });
        }
        if reserved != 0 {
            return Err(HelloError::Reserved { octet: reserved });
        }
        let hello_len = u32::from_be_bytes([l3, l2, l1, l0]);
        if hello_len > HELLO_MAX {
            return Err(HelloError::TooLong { len: hello_len, limit: HELLO_MAX });
        }
        Ok(Self { version, hello_len })
    }
}

const fn role_octet(side: Side) -> u8 {
    match side {
        Side::Dialer => 0,
        Side::Listener => 1,
    }
}

impl Hello {
    /// What a side with these settings says about itself.
    pub fn of(config: &Config) -> Self {
        Self {
            stream_window: config.stream_window,
            payload_max: config.payload_max,
            head_max: config.head_max,
            streams: config.accept_streams_max,
            keep_alive: config.keep_alive_idle,
            link: config.link,
            instance: config.instance,
            name: config.name.clone(),
            epoch: config.epoch,
            software: concat!("relay/", env!("CARGO_PKG_VERSION")).to_owned(),
            site: config.site.clone(),
        }
    }

    /// Writes preface and hello, as `side`.
    ///
    /// Texts longer than [`HELLO_TEXT_MAX`], and a site longer than [`HELLO_SITE_MAX`], are cut at
    /// a character boundary.
    ///
    /// # Panics
    ///
    /// Never: no field is longer than its text limit, and there are eleven.
    pub fn encode(&self, side: Side) -> Vec<u8> {
        let mut fields = Vec::with_capacity(256);
        put(&mut fields, field::STREAM_WINDOW, &self.stream_window.to_be_bytes());
        put(&mut fields, field::PAYLOAD_MAX, &self.payload_max.to_be_bytes());
        put(&mut fields, field::HEAD_MAX, &self.head_max.to_be_bytes());
        put(&mut fields, field::STREAMS, &self.streams.to_be_bytes());
        let keep_alive = u32::try_from(self.keep_alive.as_millis()).unwrap_or(u32::MAX);
        put(&mut fields, field::KEEP_ALIVE, &keep_alive.to_be_bytes());
        put(&mut fields, field::LINK, &self.link.to_be_bytes());
        put(&mut fields, field::INSTANCE, &self.instance.to_be_bytes());
        put(&mut fields, field::NAME, cut(&self.name).as_bytes());
        put(&mut fields, field::EPOCH, &self.epoch.to_be_bytes());
        put(&mut fields, field::SOFTWARE, cut(&self.software).as_bytes());
        if !self.site.is_empty() {
            put(&mut fields, field::SITE, cut_to(&self.site, HELLO_SITE_MAX).as_bytes());
        }

        let mut out = Vec::with_capacity(PREFACE_LEN + fields.len());
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[VERSIONS.0, VERSIONS.1, role_octet(side), 0]);
        let len = u32::try_from(fields.len()).expect("eleven fields of at most 132 octets");
        out.extend_from_slice(&len.to_be_bytes());
        out.extend_from_slice(&fields);
        out
    }

    /// Reads the fields of a hello.
    ///
    /// # Errors
    ///
    /// [`HelloError`]; the link must be closed.
    pub fn decode(mut fields: &[u8]) -> Result<Self, HelloError> {
        let mut seen = Fields::default();
        while !fields.is_empty() {
            let (kind, value, rest) = take(fields)?;
            seen.put(kind, value)?;
            fields = rest;
        }
        seen.finish()
    }
}

fn put(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let len = u16::try_from(value.len()).expect("every value is at most 128 octets");
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&len.to_be_bytes());
    out.extend_from_slice(value);
}

fn take(fields: &[u8]) -> Result<(u16, &[u8], &[u8]), HelloError> {
    let Some((&[t1, t0, l1, l0], rest)) = fields.split_first_chunk::<4>() else {
        return Err(HelloError::Truncated { field: 0 });
    };
    let kind = u16::from_be_bytes([t1, t0]);
    let Some((value, rest)) = rest.split_at_checked(usize::from(u16::from_be_bytes([l1, l0])))
    else {
        return Err(HelloError::Truncated { field: kind });
    };
    Ok((kind, value, rest))
}

fn cut(text: &str) -> &str {
    cut_to(text, HELLO_TEXT_MAX)
}

/// The longest front of `text` that has at most `octets_max` octets and whole characters.
pub(super) fn cut_to(text: &str, octets_max: usize) -> &str {
    let mut end = octets_max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// The fields seen so far.
#[derive(Default)]
struct Fields {
    stream_window: Option<u32>,
    payload_max: Option<u32>,
    head_max: Option<u32>,
    streams: Option<u32>,
    keep_alive: Option<u32>,
    link: Option<u64>,
    instance: Option<u16>,
    name: Option<String>,
    epoch: Option<u64>,
    software: Option<String>,
    site: Option<String>,
}

impl Fields {
    fn put(&mut self, kind: u16, value: &[u8]) -> Result<(), HelloError> {
        match kind {
            field::STREAM_WINDOW => {
                set(&mut self.stream_window, kind, ranged(kind, value, 1 << 10, 1 << 24)?)
            }
            field::PAYLOAD_MAX => {
                set(&mut self.payload_max, kind, ranged(kind, value, 256, 65_528)?)
            }
            field::HEAD_MAX => set(&mut self.head_max, kind, ranged(kind, value, 256, 65_528)?),
            field::STREAMS => set(&mut self.streams, kind, ranged(kind, value, 0, 16_384)?),
            field::KEEP_ALIVE => set(&mut self.keep_alive, kind, ranged(kind, value, 0, u32::MAX)?),
            field::LINK => set(&mut self.link, kind, u64::from_be_bytes(fixed(kind, value)?)),
            field::INSTANCE => {
                set(&mut self.instance, kind, u16::from_be_bytes(fixed(kind, value)?))
            }
            field::NAME => set(&mut self.name, kind, text(kind, value, HELLO_TEXT_MAX)?),
            field::EPOCH => set(&mut self.epoch, kind, u64::from_be_bytes(fixed(kind, value)?)),
            field::SOFTWARE => set(&mut self.software, kind, text(kind, value, HELLO_TEXT_MAX)?),
            field::SITE => set(&mut self.site, kind, text(kind, value, HELLO_SITE_MAX)?),
            unknown if unknown & CRITICAL != 0 => {
                Err(HelloError::UnknownCritical { field: unknown })
            }
            _ => Ok(()),
        }
    }

    fn finish(self) -> Result<Hello, HelloError> {
        let need = |kind| HelloError::Missing { field: kind };
        Ok(Hello {
            stream_window: self.stream_window.ok_or(need(field::STREAM_WINDOW))?,
            payload_max: self.payload_max.ok_or(need(field::PAYLOAD_MAX))?,
            head_max: self.head_max.ok_or(need(field::HEAD_MAX))?,
            streams: self.streams.ok_or(need(field::STREAMS))?,
            keep_alive: Duration::from_millis(u64::from(self.keep_alive.unwrap_or(0))),
            link: self.link.unwrap_or(0),
            instance: self.instance.unwrap_or(0),
            name: self.name.unwrap_or_default(),
            epoch: self.epoch.unwrap_or(0),
            software: self.software.unwrap_or_default(),
            site: self.site.unwrap_or_default(),
        })
    }
}

fn set<T>(slot: &mut Option<T>, field: u16, value: T) -> Result<(), HelloError> {
    if slot.replace(value).is_some() {
        return Err(HelloError::Duplicate { field });
    }
    Ok(())
}

fn fixed<const N: usize>(field: u16, value: &[u8]) -> Result<[u8; N], HelloError> {
    value.try_into().map_err(|_| HelloError::BadValue { field })
}

fn ranged(field: u16, value: &[u8], min: u32, max: u32) -> Result<u32, HelloError> {
    let number = u32::from_be_bytes(fixed(field, value)?);
    if (min..=max).contains(&number) { Ok(number) } else { Err(HelloError::BadValue { field }) }
}

fn text(field: u16, value: &[u8], octets_max: usize) -> Result<String, HelloError> {
    let text = std::str::from_utf8(value).map_err(|_| HelloError::BadValue { field })?;
    if text.len() > octets_max || text.chars().any(char::is_control) {
        return Err(HelloError::BadValue { field });
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Hello {
        Hello {
            stream_window: 32_768,
            payload_max: 16_376,
            head_max: 16_376,
            streams: 1_024,
            keep_alive: Duration::from_secs(15),
            link: 0x0102_0304_0506_0708,
            instance: 3,
            name: "cp-1".to_owned(),
            epoch: 9,
            software: "relay/0.1".to_owned(),
            site: String::new(),
        }
    }

    fn split(octets: &[u8]) -> ([u8; PREFACE_LEN], &[u8]) {
        let (head, rest) = octets.split_first_chunk::<PREFACE_LEN>().unwrap();
        (*head, rest)
    }

    // [MUX-01] +
    #[test]
    fn the_frozen_preface_and_hello_of_version_1() {
        let octets = sample().encode(Side::Dialer);
        let hex = octets.iter().fold(String::new(), |hex, octet| format!("{hex}{octet:02x}"));
        let expected = concat!(
            "f2524c4e4b0d0a1a01010000",
            "0000005b",
            "8001000400008000",
            "8002000400003ff8",
            "8003000400003ff8",
            "8004000400000400",
            "0005000400003a98",
            "000600080102030405060708",
            "000700020003",
            "0008000463702d31",
            "000900080000000000000009",
            "000a000972656c61792f302e31",
        );
        assert_eq!(hex, expected);
    }

    // [MUX-03] + [MUX-04] + [MUX-06] +
    #[test]
    fn a_hello_survives_a_round_trip() {
        let octets = sample().encode(Side::Listener);
        let (preface, fields) = split(&octets);
        let judged = Preface::decode(&preface, Side::Dialer).unwrap();
        assert_eq!(judged, Preface { version: 1, hello_len: fields.len().try_into().unwrap() });
        assert_eq!(Hello::decode(fields), Ok(sample()));
    }

    // [MUX-01] - [MUX-02] +- [MUX-03] - [MUX-04] -
    #[test]
    fn each_octet_of_the_preface_is_judged() {
        let octets = sample().encode(Side::Listener);
        let (good, _) = split(&octets);
        let verdict = |index: usize, octet: u8| {
            let mut bad = good;
            bad[index] = octet;
            Preface::decode(&bad, Side::Dialer)
        };
        for (index, octet) in MAGIC.into_iter().enumerate() {
            assert_eq!(verdict(index, octet ^ 1), Err(HelloError::BadMagic));
        }
        assert_eq!(verdict(8, 2), Err(HelloError::Version { min: 2, max: 1 }));
        assert_eq!(verdict(9, 0), Err(HelloError::Version { min: 1, max: 0 }));
        assert_eq!(verdict(9, 200).unwrap().version, 1, "the highest version in common");
        assert_eq!(verdict(10, 0), Err(HelloError::Role { role: 0 }));
        assert_eq!(verdict(11, 1), Err(HelloError::Reserved { octet: 1 }));
        assert_eq!(verdict(13, 1), Err(HelloError::TooLong { len: 0x0001_005b, limit: 4096 }));
    }

    // [MUX-05] +-
    #[test]
    fn a_hello_of_4096_octets_passes_the_preface_and_one_more_does_not() {
        let octets = sample().encode(Side::Listener);
        let (mut preface, _) = split(&octets);
        preface[12..].copy_from_slice(&4096u32.to_be_bytes());
        assert!(Preface::decode(&preface, Side::Dialer).is_ok());
        preface[12..].copy_from_slice(&4097u32.to_be_bytes());
        assert!(Preface::decode(&preface, Side::Dialer).is_err());
    }

    // [MUX-06] - [MUX-07] +-
    #[test]
    fn unknown_fields_are_ignored_unless_critical() {
        let octets = sample().encode(Side::Listener);
        let with = |kind: u16| {
            let mut fields = octets[PREFACE_LEN..].to_vec();
            put(&mut fields, kind, b"future");
            Hello::decode(&fields)
        };
        assert_eq!(with(0x0fff), Ok(sample()));
        assert_eq!(with(0x8fff), Err(HelloError::UnknownCritical { field: 0x8fff }));
        assert_eq!(with(field::NAME), Err(HelloError::Duplicate { field: field::NAME }));
    }

    // [MUX-06] -
    #[test]
    fn a_hello_cut_anywhere_is_an_error_and_never_a_panic() {
        let octets = sample().encode(Side::Listener);
        let fields = &octets[PREFACE_LEN..];
        let boundaries: Vec<usize> = {
            let (mut at, mut found) = (0, vec![]);
            while at < fields.len() {
                at += 4 + usize::from(u16::from_be_bytes([fields[at + 2], fields[at + 3]]));
                found.push(at);
            }
            found
        };
        for end in 0..fields.len() {
            let verdict = Hello::decode(&fields[..end]);
            // The last six fields may be left out, so a cut at their boundaries is still a hello.
            let optional_left_out = boundaries[3..].contains(&end);
            assert_eq!(verdict.is_ok(), optional_left_out, "cut at {end}");
        }
    }

    // [MUX-06] +-
    #[test]
    fn values_outside_their_range_are_refused_on_both_sides() {
        let with = |edit: fn(&mut Hello)| {
            let mut hello = sample();
            edit(&mut hello);
            Hello::decode(&hello.encode(Side::Dialer)[PREFACE_LEN..])
        };
        assert!(with(|h| h.stream_window = 1 << 10).is_ok());
        assert!(with(|h| h.stream_window = (1 << 10) - 1).is_err());
        assert!(with(|h| h.stream_window = 1 << 24).is_ok());
        assert!(with(|h| h.stream_window = (1 << 24) + 1).is_err());
        assert!(with(|h| h.payload_max = 255).is_err());
        assert!(with(|h| h.payload_max = 65_528).is_ok());
        assert!(with(|h| h.payload_max = 65_529).is_err());
        assert!(with(|h| h.head_max = 255).is_err());
        assert!(with(|h| h.streams = 16_384).is_ok());
        assert!(with(|h| h.streams = 16_385).is_err());
        assert!(with(|h| h.name = "bad\nname".to_owned()).is_err());
    }

    #[test]
    fn long_texts_are_cut_at_a_character() {
        let mut hello = sample();
        hello.name = format!("{}é", "x".repeat(HELLO_TEXT_MAX - 1));
        let read = Hello::decode(&hello.encode(Side::Dialer)[PREFACE_LEN..]).unwrap();
        assert_eq!(read.name, "x".repeat(HELLO_TEXT_MAX - 1));
        hello.site = format!("{}é", "x".repeat(HELLO_SITE_MAX - 1));
        let read = Hello::decode(&hello.encode(Side::Dialer)[PREFACE_LEN..]).unwrap();
        assert_eq!(read.site, "x".repeat(HELLO_SITE_MAX - 1));
    }

    // [MUX-06] +-
    #[test]
    fn a_site_is_said_last_and_has_at_most_64_octets() {
        let said = Hello { site: "site-1".to_owned(), ..sample() }.encode(Side::Dialer);
        assert!(said.ends_with(b"\x00\x0b\x00\x06site-1"));
        assert_eq!(Hello::decode(&said[PREFACE_LEN..]).unwrap().site, "site-1");
        let with = |site: &[u8]| {
            let mut fields = sample().encode(Side::Dialer)[PREFACE_LEN..].to_vec();
            put(&mut fields, field::SITE, site);
            Hello::decode(&fields).map(|hello| hello.site)
        };
        assert_eq!(with(b""), Ok(String::new()));
        assert_eq!(with(&[b's'; 64]), Ok("s".repeat(64)));
        for bad in [&[b's'; 65][..], b"a\nb", b"\xff"] {
            assert_eq!(with(bad), Err(HelloError::BadValue { field: field::SITE }));
        }
    }
}
