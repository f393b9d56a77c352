//! What the guards are judged by: a connection is followed alike in any pieces, `httparse` reads
//! each head that passes as it stands, and a body ends where a naive reader of RFC 9112 says.
//!
//! Hidden behind the feature `fuzzing` and not covered by semver. The fuzz targets and the replay
//! of their corpora call the functions here; every violation is a panic.

#![allow(clippy::indexing_slicing, reason = "a place that is not there is a violation")]

use std::ops::Range;

use super::{AnswerGuard, Fault, Limits, RequestGuard};

/// Fields that `httparse` has room for: more than any limits here let pass.
const ROOM: usize = 80;

/// Before the octets of the fuzz target `chunked`.
const CHUNKED_HEAD: &[u8] = b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

/// The body of the fuzz target `request_head`.
///
/// The first octet of `data` chooses limits and pieces; the rest is what a client sends.
///
/// # Panics
///
/// If the guard's verdict depends on the pieces, or is not that of the naive readers.
pub fn request_head(data: &[u8]) {
    let Some((&choice, octets)) = data.split_first() else { return };
    let limits = limits(choice);
    let guard = || Guard::Request(RequestGuard::new(limits.clone()));
    judge(&follow_alike(guard, octets, choice), octets);
}

/// The body of the fuzz target `chunked`: as [`request_head`], and what a client sends begins with
/// a head that announces a chunked body.
///
/// # Panics
///
/// As [`request_head`].
pub fn chunked(data: &[u8]) {
    let Some((&choice, octets)) = data.split_first() else { return };
    let mut limits = limits(choice);
    // Small limits are for what is behind the head.
    limits.head = limits.head.max(CHUNKED_HEAD.len());
    limits.field = limits.field.max(CHUNKED_HEAD.len());
    let octets = [CHUNKED_HEAD, octets].concat();
    let guard = || Guard::Request(RequestGuard::new(limits.clone()));
    let followed = follow_alike(guard, &octets, choice);
    assert_eq!(followed.heads.first(), Some(&(0..CHUNKED_HEAD.len())), "the head itself passes");
    judge(&followed, &octets);
}

/// The body of the fuzz target `answer_head`.
///
/// The first octet of `data` chooses limits and pieces; each bit of the second says whether an
/// answer is to HEAD; the rest is what a server sends.
///
/// # Panics
///
/// As [`request_head`].
pub fn answer_head(data: &[u8]) {
    let [choice, asked, octets @ ..] = data else { return };
    let limits = limits(*choice);
    let guard = || {
        let mut guard = AnswerGuard::new(limits.clone());
        (0..8).for_each(|bit| guard.note_asked(is_to_head(*asked, bit)));
        Guard::Answer(guard)
    };
    let followed = follow_alike(guard, octets, *choice);
    assert!(followed.bodies_end_with_their_messages(octets.len()));
    let mut place = 0;
    for (at, head) in followed.heads.iter().enumerate() {
        let shown = Shown::answer(&octets[head.clone()]);
        let body = shown.body_of_answer(is_to_head(*asked, place));
        place += usize::from(shown.status.is_some_and(|status| status >= 200));
        followed.judge_body(at, body, octets);
    }
}

fn is_to_head(asked: u8, place: usize) -> bool {
    place < 8 && asked >> place & 1 == 1
}

fn limits(choice: u8) -> Limits {
    match choice & 1 {
        0 => Limits::default(),
        _ => Limits { first_line: 24, field: 40, head: 96, fields: 3, extensions: 9, interim: 2 },
    }
}

/// Either guard.
enum Guard {
    Request(RequestGuard),
    Answer(AnswerGuard),
}

impl Guard {
    fn awaits_head(&self) -> bool {
        match self {
            Self::Request(guard) => guard.awaits_head(),
            Self::Answer(guard) => guard.awaits_head(),
        }
    }

    /// A head's place in `octets`, once it is whole.
    fn head(&mut self, octets: &[u8]) -> Result<Option<Range<usize>>, Fault> {
        match self {
            Self::Answer(guard) => Ok(guard.head(octets)?.map(|end| 0..end)),
            Self::Request(guard) => {
                let Some(head) = guard.head(octets)? else { return Ok(None) };
                let place = head.skip..head.skip + head.octets;
                let shown = Shown::request(&octets[place.clone()]);
                let names = head.names.iter().map(|name| &octets[place.clone()][name.clone()]);
                let read = shown.fields.iter().map(|(name, _)| name.as_bytes());
                assert!(names.eq(read), "httparse reads other names");
                assert_eq!(head.has_body, !guard.awaits_head());
                Ok(Some(place))
            }
        }
    }

    fn body(&mut self, octets: &[u8]) -> Result<usize, Fault> {
        match self {
            Self::Request(guard) => guard.body(octets),
            Self::Answer(guard) => guard.body(octets),
        }
    }
}

/// What a guard makes of a connection.
#[derive(Debug, Eq, PartialEq)]
struct Followed {
    /// The places of heads that passed.
    heads: Vec<Range<usize>>,
    /// Where the body behind each ends, if it does.
    ends: Vec<Option<usize>>,
    /// Why nothing has a meaning from some octet on.
    fault: Option<Fault>,
}

/// Follows `octets` whole, octet by octet, and in pieces of a size that `choice` says.
fn follow_alike(guard: impl Fn() -> Guard, octets: &[u8], choice: u8) -> Followed {
    let whole = follow(guard(), octets, octets.len().max(1));
    for piece in [1, usize::from(choice >> 1) + 2] {
        let in_pieces = follow(guard(), octets, piece);
        assert_eq!(in_pieces, whole, "in pieces of {piece} octets, and whole");
    }
    whole
}

/// Follows `octets` as if `piece` of them had come at a time.
fn follow(mut guard: Guard, octets: &[u8], piece: usize) -> Followed {
    let mut followed = Followed { heads: Vec::new(), ends: Vec::new(), fault: None };
    // Octets that are judged, and octets that have come.
    let (mut done, mut come) = (0, 0);
    while come < octets.len() {
        come = octets.len().min(come + piece);
        if let Err(fault) = take(&mut guard, octets, &mut done, come, &mut followed) {
            followed.fault = Some(fault);
            break;
        }
    }
    followed
}

/// Judges what has come and is not judged yet.
fn take(
    guard: &mut Guard,
    octets: &[u8],
    done: &mut usize,
    come: usize,
    followed: &mut Followed,
) -> Result<(), Fault> {
    while *done < come {
        let new = &octets[*done..come];
        if guard.awaits_head() {
            let Some(head) = guard.head(new)? else { return Ok(()) };
            let place = *done + head.start..*done + head.end;
            *done = place.end;
            followed.ends.push(guard.awaits_head().then_some(place.end));
            followed.heads.push(place);
            continue;
        }
        let taken = guard.body(new)?;
        *done += taken;
        if guard.awaits_head() {
            *followed.ends.last_mut().expect("a body follows a head") = Some(*done);
        } else {
            assert_eq!(taken, new.len(), "a body that goes on takes all");
        }
    }
    Ok(())
}

/// Holds what a guard made of requests against the naive readers.
fn judge(followed: &Followed, octets: &[u8]) {
    assert!(followed.bodies_end_with_their_messages(octets.len()));
    for (at, head) in followed.heads.iter().enumerate() {
        let shown = Shown::request(&octets[head.clone()]);
        followed.judge_body(at, shown.body(), octets);
    }
}

impl Followed {
    /// Whether each head begins where the body before it ends, but for an empty line.
    fn bodies_end_with_their_messages(&self, octets: usize) -> bool {
        let begins = self.heads.iter().skip(1).map(|head| head.start);
        let mut between = self.ends.iter().zip(begins);
        let meet = |(end, begin): (&Option<usize>, usize)| {
            end.is_some_and(|end| end == begin || end + 2 == begin)
        };
        let is_within = |end: &Option<usize>| end.is_none_or(|end| end <= octets);
        between.all(meet) && self.ends.iter().all(is_within)
    }

    /// Holds the end of one message against what the naive reader says of its body.
    fn judge_body(&self, at: usize, body: Body, octets: &[u8]) {
        let begin = self.heads[at].end;
        let rest = &octets[begin..];
        let is_last = at + 1 == self.heads.len();
        let end = match body {
            Body::Length(length) => usize::try_from(length).ok().filter(|it| *it <= rest.len()),
            Body::Rest => None,
            // What has a fault has no end.
            Body::Chunked if is_last && self.fault.is_some() && self.ends[at].is_none() => return,
            Body::Chunked => chunked_end(rest),
        };
        assert_eq!(self.ends[at], end.map(|end| begin + end), "the end of {body:?}");
    }
}

/// What ends a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Body {
    Length(u64),
    Chunked,
    Rest,
}

/// A head as `httparse` shows it.
struct Shown {
    status: Option<u16>,
    fields: Vec<(String, Vec<u8>)>,
}

impl Shown {
    fn request(head: &[u8]) -> Self {
        let mut fields = [httparse::EMPTY_HEADER; ROOM];
        let mut request = httparse::Request::new(&mut fields);
        let read = request.parse(head).expect("httparse refuses a head that passed");
        assert_eq!(read, httparse::Status::Complete(head.len()), "httparse ends it elsewhere");
        let (method, rest) = cut(line(head), b" ");
        let (target, version) = cut(rest, b" ");
        assert_eq!(request.method.map(str::as_bytes), Some(method));
        assert_eq!(request.path.map(str::as_bytes), Some(target));
        assert_eq!(request.version, Some(u8::from(version != b"HTTP/1.0")));
        Self { status: None, fields: read_alike(request.headers, head) }
    }

    fn answer(head: &[u8]) -> Self {
        let mut fields = [httparse::EMPTY_HEADER; ROOM];
        let mut answer = httparse::Response::new(&mut fields);
        let read = answer.parse(head).expect("httparse refuses a head that passed");
        assert_eq!(read, httparse::Status::Complete(head.len()), "httparse ends it elsewhere");
        let (version, rest) = cut(line(head), b" ");
        let (status, _reason) = cut(rest, b" ");
        let digits = answer.code.map(|code| code.to_string());
        assert_eq!(digits.as_deref().map(str::as_bytes), Some(status));
        assert_eq!(answer.version, Some(u8::from(version != b"HTTP/1.0")));
        Self { status: answer.code, fields: read_alike(answer.headers, head) }
    }

    /// RFC 9112, section 6.3, for a request whose fields do not contradict each other.
    fn body(&self) -> Body {
        let value = |wanted: &str| {
            let mut found = self.fields.iter().filter(|it| it.0.eq_ignore_ascii_case(wanted));
            let (value, second) = (found.next(), found.next());
            assert!(second.is_none(), "{wanted} twice");
            value.map(|(_, value)| String::from_utf8(value.clone()).expect("it is ASCII"))
        };
        match (value("content-length"), value("transfer-encoding")) {
            (None, None) => Body::Length(0),
            (Some(length), None) => Body::Length(length.parse().expect("a length is a number")),
            (None, Some(coding)) => {
                assert_eq!(coding.to_ascii_lowercase(), "chunked");
                Body::Chunked
            }
            (Some(_), Some(_)) => panic!("both a length and a coding"),
        }
    }

    /// The same for an answer.
    fn body_of_answer(&self, is_to_head: bool) -> Body {
        let status = self.status.expect("an answer has a status");
        let is_framed = self.fields.iter().any(|(name, _)| {
            ["content-length", "transfer-encoding"].iter().any(|it| name.eq_ignore_ascii_case(it))
        });
        match status {
            _ if is_to_head => Body::Length(0),
            100..200 | 204 | 304 => Body::Length(0),
            _ if is_framed => self.body(),
            _ => Body::Rest,
        }
    }
}

/// The fields, which a reader of lines and colons reads alike.
fn read_alike(fields: &[httparse::Header<'_>], head: &[u8]) -> Vec<(String, Vec<u8>)> {
    let fields: Vec<_> = fields.iter().map(|it| (it.name.to_owned(), it.value.to_vec())).collect();
    let mut rest = cut(head, b"\r\n").1;
    for (name, value) in &fields {
        let (line, behind) = cut(rest, b"\r\n");
        let (plain_name, plain_value) = cut(line, b":");
        assert_eq!(name.as_bytes(), plain_name);
        assert_eq!(value, plain_value.trim_ascii(), "the value of {name}");
        rest = behind;
    }
    assert_eq!(rest, b"\r\n", "httparse reads other fields");
    fields
}

/// The first line, without its end.
fn line(head: &[u8]) -> &[u8] {
    cut(head, b"\r\n").0
}

/// What is before the first `mark`, and what is behind it.
fn cut<'a>(octets: &'a [u8], mark: &[u8]) -> (&'a [u8], &'a [u8]) {
    match octets.windows(mark.len()).position(|at| at == mark) {
        Some(place) => (&octets[..place], &octets[place + mark.len()..]),
        None => (octets, b""),
    }
}

/// Where a chunked body ends, if it does; it has no fault. RFC 9112, section 7.1.
fn chunked_end(body: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let line = whole_line(body, at)?;
        let digits = line.iter().take_while(|octet| octet.is_ascii_hexdigit()).count();
        let digits = std::str::from_utf8(&line[..digits]).expect("hexadecimal digits");
        let size = u64::from_str_radix(digits, 16).expect("a size has 1 to 16 digits");
        let parsed = httparse::parse_chunk_size(&body[at..]).expect("httparse refuses a size");
        assert_eq!(parsed, httparse::Status::Complete((line.len() + 2, size)));
        at += line.len() + 2;
        if size == 0 {
            break;
        }
        at = at.checked_add(usize::try_from(size).ok()?)?.checked_add(2)?;
    }
    loop {
        let line = whole_line(body, at)?;
        at += line.len() + 2;
        if line.is_empty() {
            return Some(at);
        }
    }
}

/// The line that begins at `at`, if it ends.
fn whole_line(octets: &[u8], at: usize) -> Option<&[u8]> {
    let rest = octets.get(at..)?;
    let end = rest.windows(2).position(|two| two == b"\r\n")?;
    Some(&rest[..end])
}
