//! Requests of HTTP/1.1 as the letter of RFC 9112 has them, read by code that shares nothing with
//! the relay's.
//!
//! It is slow and simple: the whole of what came is read anew whenever more has come. Whatever has
//! two readings, or none, is [`Rest::Wrong`].

use std::ops::ControlFlow;

/// A request, octet for octet as it came, but for the body's framing.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Recorded {
    /// The request line, without its end.
    pub line: Vec<u8>,
    /// Names and values, in order; of the space between them one is taken away.
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
    /// The body.
    pub body: Vec<u8>,
    /// The fields behind a chunked body, as those before it.
    pub trailers: Vec<(Vec<u8>, Vec<u8>)>,
}

/// How a request says where its body ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Framing {
    /// It has none.
    Bare,
    /// `Content-Length`.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// What follows the last request that is whole.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Rest {
    /// Nothing.
    Nothing,
    /// A part of a request: its head, if that is whole, with what there is of its body.
    Half(Option<Recorded>),
    /// What is no request.
    Wrong {
        /// Why.
        why: &'static str,
        /// The head, if only its body is wrong, with what can be read of that.
        head: Option<Recorded>,
    },
}

/// All that stands in some octets.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reading {
    /// The requests that are whole, one behind the other.
    pub requests: Vec<Recorded>,
    /// What is behind them.
    pub rest: Rest,
}

/// Why there is no request: what is there is wrong, or ends too early.
type Stopped = Option<&'static str>;

impl Recorded {
    /// The values of a field, in order, whatever the case of its name.
    pub fn values(&self, name: &str) -> Vec<&[u8]> {
        let fits = |field: &&(Vec<u8>, Vec<u8>)| field.0.eq_ignore_ascii_case(name.as_bytes());
        self.fields.iter().filter(fits).map(|field| &field.1[..]).collect()
    }

    /// The names of all fields, in order, in their case.
    ///
    /// # Panics
    ///
    /// Never: names are tokens.
    pub fn names(&self) -> Vec<String> {
        let text = |name: &Vec<u8>| String::from_utf8(name.clone()).expect("a token is ASCII");
        self.fields.iter().map(|field| text(&field.0)).collect()
    }

    /// Method, target and version.
    pub fn line_parts(&self) -> [&[u8]; 3] {
        let mut parts = self.line.splitn(3, |octet| *octet == b' ');
        [(); 3].map(|()| parts.next().unwrap_or_default())
    }

    /// How its body is framed; `Err` says why nobody can tell.
    ///
    /// # Errors
    ///
    /// RFC 9112, section 6.3: whatever could be read in two ways.
    pub fn framing(&self) -> Result<Framing, &'static str> {
        let (lengths, codings) = (self.values("content-length"), self.values("transfer-encoding"));
        match (&lengths[..], &codings[..]) {
            ([], []) => Ok(Framing::Bare),
            ([length], []) => {
                let length = trimmed(length);
                let is_number = !length.is_empty() && length.iter().all(u8::is_ascii_digit);
                let number = str::from_utf8(length).ok().filter(|_| is_number);
                let number = number.and_then(|number| number.parse().ok());
                number.map(Framing::Length).ok_or("Content-Length is no number")
            }
            ([], [coding]) if trimmed(coding).eq_ignore_ascii_case(b"chunked") => {
                let is_old = self.line.ends_with(b"HTTP/1.0");
                if is_old { Err("HTTP/1.0 has no chunks") } else { Ok(Framing::Chunked) }
            }
            ([], _) => Err("Transfer-Encoding is not `chunked`"),
            (_, []) => Err("two Content-Length"),
            _ => Err("Content-Length and Transfer-Encoding"),
        }
    }
}

/// Reads all that stands in `octets`.
pub fn read(octets: &[u8]) -> Reading {
    let mut requests = Vec::new();
    let mut rest = octets;
    loop {
        match one(rest) {
            ControlFlow::Continue((request, after)) => {
                requests.push(request);
                rest = after;
            }
            ControlFlow::Break(rest) => return Reading { requests, rest },
        }
    }
}

/// Reads one request. Yields what is behind it too.
fn one(octets: &[u8]) -> ControlFlow<Rest, (Recorded, &[u8])> {
    if octets.is_empty() {
        return ControlFlow::Break(Rest::Nothing);
    }
    // RFC 9112, section 2.2: an empty line before a request is passed over.
    let octets = octets.strip_prefix(b"\r\n").unwrap_or(octets);
    let stopped = |stopped: Stopped, head: Option<Recorded>| {
        ControlFlow::Break(match stopped {
            None => Rest::Half(head),
            Some(why) => Rest::Wrong { why, head },
        })
    };
    let (mut request, rest) = match head(octets) {
        Ok(read) => read,
        Err(why) => return stopped(why, None),
    };
    match body(&mut request, rest) {
        Ok(rest) => ControlFlow::Continue((request, rest)),
        Err(why) => stopped(why, Some(request)),
    }
}

/// A head. Octets are judged as they come, and lines once all of them are there.
fn head(octets: &[u8]) -> Result<(Recorded, &[u8]), Stopped> {
    let (lines, rest) = lines(octets)?;
    let (first, fields) = lines.split_first().ok_or(Some("no request line"))?;
    check_request_line(first).map_err(Some)?;
    let fields = fields.iter().map(|line| field(line)).collect::<Result<_, _>>().map_err(Some)?;
    let request = Recorded { line: first.to_vec(), fields, ..Recorded::default() };
    check_fields(&request).map_err(Some)?;
    Ok((request, rest))
}

/// Lines up to the empty one.
fn lines(mut octets: &[u8]) -> Result<(Vec<&[u8]>, &[u8]), Stopped> {
    let mut lines = Vec::new();
    loop {
        let (line, rest) = line(octets)?;
        octets = rest;
        if line.is_empty() {
            return Ok((lines, octets));
        }
        lines.push(line);
    }
}

/// A line that ends with CR LF, without its end. No other control character than a tab is in it.
fn line(octets: &[u8]) -> Result<(&[u8], &[u8]), Stopped> {
    for (place, octet) in octets.iter().enumerate() {
        match (*octet, octets.get(place + 1)) {
            (b'\r', Some(b'\n')) => return Ok((&octets[..place], &octets[place + 2..])),
            (b'\r', None) => return Err(None),
            (b'\r', Some(_)) => return Err(Some("CR without LF")),
            (b'\n', _) => return Err(Some("LF without CR")),
            (0x7f, _) => return Err(Some("a control character")),
            (control, _) if control < b' ' && control != b'\t' => {
                return Err(Some("a control character"));
            }
            _ => {}
        }
    }
    Err(None)
}

fn field(line: &[u8]) -> Result<(Vec<u8>, Vec<u8>), &'static str> {
    let colon = line.iter().position(|octet| *octet == b':').ok_or("no colon")?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if !is_token(name) {
        return Err("a name that is no token");
    }
    Ok((name.to_vec(), value.strip_prefix(b" ").unwrap_or(value).to_vec()))
}

fn check_request_line(line: &[u8]) -> Result<(), &'static str> {
    let parts: Vec<&[u8]> = line.split(|octet| *octet == b' ').collect();
    let [method, target, version] = parts[..] else { return Err("not three parts in a line") };
    if !is_token(method) {
        return Err("a method that is no token");
    }
    if method == b"CONNECT" {
        return Err("a tunnel");
    }
    let is_plain = |octet: &u8| octet.is_ascii_graphic() && *octet != b'#';
    if target.is_empty() || !target.iter().all(is_plain) {
        return Err("a target with what no target has");
    }
    if matches!(version, b"HTTP/1.1" | b"HTTP/1.0") { Ok(()) } else { Err("another version") }
}

fn check_fields(request: &Recorded) -> Result<(), &'static str> {
    let is_old = request.line.ends_with(b"HTTP/1.0");
    let hosts = request.values("host");
    let [_, target, _] = request.line_parts();
    let named = authority(target);
    match &hosts[..] {
        [] if is_old => {}
        [host] => {
            let host = trimmed(host);
            let is_name = |octet: &u8| octet.is_ascii_alphanumeric() || b"-._~:[]%".contains(octet);
            if host.is_empty() || !host.iter().all(is_name) {
                return Err("a host that is none");
            }
            if named.is_some_and(|named| !named.eq_ignore_ascii_case(host)) {
                return Err("two hosts, one in the target");
            }
        }
        _ => return Err("no host, or two"),
    }
    match &request.values("expect")[..] {
        [] => {}
        [one] if trimmed(one).eq_ignore_ascii_case(b"100-continue") => {}
        _ => return Err("an expectation that nobody knows, or two"),
    }
    request.framing().map(|_| ())
}

/// The host and port in a target that is a URL.
pub fn authority(target: &[u8]) -> Option<&[u8]> {
    let (scheme, rest) = str::from_utf8(target).ok()?.split_once("://")?;
    let is_scheme = !scheme.is_empty() && scheme.bytes().all(|octet| octet.is_ascii_alphanumeric());
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    is_scheme.then(|| &rest.as_bytes()[..end])
}

/// Gives a request what there is of its body, and returns what is behind that.
fn body<'a>(request: &mut Recorded, octets: &'a [u8]) -> Result<&'a [u8], Stopped> {
    match request.framing() {
        Ok(Framing::Length(length)) => {
            let split = usize::try_from(length).ok().and_then(|it| octets.split_at_checked(it));
            let (body, rest) = split.map_or((octets, Err(None)), |(body, rest)| (body, Ok(rest)));
            request.body = body.to_vec();
            rest
        }
        Ok(Framing::Chunked) => chunks(octets, request),
        _ => Ok(octets),
    }
}

fn chunks<'a>(mut octets: &'a [u8], request: &mut Recorded) -> Result<&'a [u8], Stopped> {
    loop {
        let (line, rest) = line(octets)?;
        let size = chunk_size(line).ok_or(Some("a chunk without a size"))?;
        if size == 0 {
            let (trailers, rest) = lines(rest)?;
            let trailers = trailers.into_iter().map(field).collect::<Result<_, _>>();
            request.trailers = trailers.map_err(Some)?;
            return Ok(rest);
        }
        let size = usize::try_from(size).map_err(|_| None)?;
        let Some((data, rest)) = rest.split_at_checked(size) else {
            request.body.extend(rest);
            return Err(None);
        };
        request.body.extend(data);
        octets = match rest {
            [b'\r', b'\n', rest @ ..] => rest,
            [] | [b'\r'] => return Err(None),
            _ => return Err(Some("a chunk that does not end where it says")),
        };
    }
}

fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.iter().take_while(|octet| octet.is_ascii_hexdigit()).count();
    let (size, extensions) = line.split_at(digits);
    if digits > 16 || !are_extensions(extensions) {
        return None;
    }
    u64::from_str_radix(str::from_utf8(size).ok()?, 16).ok()
}

/// Any number of `;name`, `;name=token` and `;name="quoted"`, without space.
fn are_extensions(mut text: &[u8]) -> bool {
    let token = |text: &[u8]| text.iter().take_while(|octet| is_token(&[**octet])).count();
    while let Some(rest) = text.strip_prefix(b";") {
        let name = token(rest);
        let (rest, value) = match rest[name..].strip_prefix(b"=") {
            None => (&rest[name..], 1),
            Some(value) if value.starts_with(b"\"") => {
                let Some(end) = quoted_end(value) else { return false };
                (&value[end..], end)
            }
            Some(value) => (&value[token(value)..], token(value)),
        };
        if name == 0 || value == 0 {
            return false;
        }
        text = rest;
    }
    text.is_empty()
}

/// Octets of the quoted text at the beginning, with both quotes.
fn quoted_end(text: &[u8]) -> Option<usize> {
    let mut place = 1;
    loop {
        match text.get(place)? {
            b'"' => return Some(place + 1),
            b'\\' => place += 2,
            _ => place += 1,
        }
    }
}

/// RFC 9110, section 5.6.2.
fn is_token(octets: &[u8]) -> bool {
    let is_part = |octet: &u8| octet.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(octet);
    !octets.is_empty() && octets.iter().all(is_part)
}

/// Without the space and the tabs around it.
pub fn trimmed(value: &[u8]) -> &[u8] {
    let is_space = |octet: &u8| matches!(octet, b' ' | b'\t');
    let before = value.iter().take_while(|octet| is_space(octet)).count();
    let after = value[before..].iter().rev().take_while(|octet| is_space(octet)).count();
    &value[before..value.len() - after]
}
