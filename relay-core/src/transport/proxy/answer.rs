//! The head of a proxy's answer, read as it comes. Does no I/O.
//!
//! Lenient where RFC 9112 lets a client be and nothing depends on it: a line may end in a bare LF
//! (section 2.2), a field may run over several lines (section 5.2) and is then read only up to the
//! end of the first. Nothing can hide behind that: the one octet that counts is the first behind
//! the head, and where a proxy accepts there must be none.

/// Longest answer head, interim ones included, in octets.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// Longest reason that is kept, in characters.
const REASON_CHARS_MAX: usize = 80;

/// Most schemes of authentication that are kept, and the longest, in octets.
const SCHEMES_MAX: usize = 8;
const SCHEME_BYTES_MAX: usize = 32;

/// How every answer begins: what else comes is seen at its first octet.
const BEGIN: &[u8] = b"HTTP/1.";

/// The head of a final answer.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Answer {
    /// 200 to 599.
    pub(super) status: u16,
    /// Printable ASCII.
    pub(super) reason: String,
    /// The schemes of authentication that the proxy takes, each once, as it writes them.
    pub(super) schemes: Vec<String>,
}

/// What is wrong with an answer, for an error's text.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Garbage(pub(super) &'static str);

/// Reads one answer; done once it has yielded an [`Answer`] or [`Garbage`].
#[derive(Debug, Default)]
pub(super) struct AnswerReader {
    /// Octets taken so far, of all lines.
    taken: usize,
    /// The line so far, without its end.
    line: Vec<u8>,
    /// `None` until the status line is whole.
    answer: Option<Answer>,
}

impl AnswerReader {
    /// Takes octets from the front of `octets` up to the end of the head, and moves it behind them.
    /// Yields the head when it is whole.
    pub(super) fn take(&mut self, octets: &mut &[u8]) -> Result<Option<Answer>, Garbage> {
        while let Some((octet, rest)) = octets.split_first() {
            *octets = rest;
            if self.taken == HEAD_BYTES_MAX {
                return Err(Garbage("an answer head of more than 16 KiB"));
            }
            self.taken += 1;
            if *octet != b'\n' {
                self.take_one(*octet)?;
            } else if let Some(answer) = self.end_line()? {
                return Ok(Some(answer));
            }
        }
        Ok(None)
    }

    fn take_one(&mut self, octet: u8) -> Result<(), Garbage> {
        let expected = BEGIN.get(self.line.len()).filter(|_| self.answer.is_none());
        if expected.is_some_and(|expected| *expected != octet) {
            return Err(Garbage("what is not HTTP/1"));
        }
        self.line.push(octet);
        Ok(())
    }

    /// Judges the line that has come to its end.
    fn end_line(&mut self) -> Result<Option<Answer>, Garbage> {
        let mut line = std::mem::take(&mut self.line);
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        if line.iter().any(|octet| octet.is_ascii_control() && *octet != b'\t') {
            return Err(Garbage("a control character in its answer head"));
        }
        let Some(mut answer) = self.answer.take() else {
            self.answer = Some(status_line(&line)?);
            return Ok(None);
        };
        if !line.is_empty() {
            field(&line, &mut answer.schemes)?;
            self.answer = Some(answer);
            return Ok(None);
        }
        // An interim answer may come before any other, asked for or not. RFC 9110, section 15.2.
        Ok((answer.status >= 200).then_some(answer))
    }
}

/// `HTTP/1.x`, a blank, three digits, and a reason that may be absent with its blank. RFC 9112,
/// section 4.
fn status_line(line: &[u8]) -> Result<Answer, Garbage> {
    const FAULT: Garbage = Garbage("a broken status line");
    let (minor, rest) = line.get(BEGIN.len()..).and_then(<[u8]>::split_first).ok_or(FAULT)?;
    let (digits, reason) =
        rest.strip_prefix(b" ").and_then(|rest| rest.split_at_checked(3)).ok_or(FAULT)?;
    let is_digits = minor.is_ascii_digit() && digits.iter().all(u8::is_ascii_digit);
    if !is_digits || !matches!(reason.first(), None | Some(b' ')) {
        return Err(FAULT);
    }
    let status = digits.iter().fold(0, |status, digit| status * 10 + u16::from(digit - b'0'));
    match status {
        // 101 would change the protocol, which nobody asked for.
        101 => Err(Garbage("a change of protocol")),
        100..=599 => Ok(Answer { status, reason: printable(reason), schemes: Vec::new() }),
        _ => Err(Garbage("a status that is not 100 to 599")),
    }
}

fn printable(reason: &[u8]) -> String {
    let shown = |octet: &u8| match octet {
        b' '..=b'~' => char::from(*octet),
        _ => '?',
    };
    reason.trim_ascii().iter().take(REASON_CHARS_MAX).map(shown).collect()
}

/// Judges one field line, and notes the schemes that it offers. There is no server behind a proxy
/// that answers CONNECT itself, so both names of the field are the proxy's: tinyproxy 1.11 answers
/// 401 with `WWW-Authenticate` to credentials that it does not take.
fn field(line: &[u8], schemes: &mut Vec<String>) -> Result<(), Garbage> {
    if matches!(line.first(), Some(b' ' | b'\t')) {
        return Ok(());
    }
    let colon = line.iter().position(|octet| *octet == b':');
    let (name, value) = line.split_at(colon.ok_or(Garbage("a field without a colon"))?);
    if name.is_empty() || !name.iter().copied().all(is_token) {
        return Err(Garbage("a field of no valid name"));
    }
    let names = [&b"proxy-authenticate"[..], b"www-authenticate"];
    if names.iter().any(|known| name.eq_ignore_ascii_case(known)) {
        offered(&value[1..], schemes);
    }
    Ok(())
}

/// Notes the schemes of a list of challenges. RFC 9110, section 11.6.1: commas stand between
/// challenges as well as between the parameters of one, of which each has a `=` behind its name.
fn offered(value: &[u8], schemes: &mut Vec<String>) {
    let mut is_quoted = false;
    let mut is_escaped = false;
    let ends_item = |octet: &u8| {
        let was_escaped = std::mem::take(&mut is_escaped);
        match octet {
            b'\\' if is_quoted => is_escaped = !was_escaped,
            b'"' if !was_escaped => is_quoted = !is_quoted,
            _ => {}
        }
        *octet == b',' && !is_quoted
    };
    for item in value.split(ends_item) {
        let item = item.trim_ascii();
        let (name, rest) = item.split_at(item.iter().take_while(|octet| is_token(**octet)).count());
        let is_parameter = rest.trim_ascii_start().first() == Some(&b'=');
        let Ok(name) = std::str::from_utf8(name) else { continue };
        let is_known = schemes.iter().any(|known| known.eq_ignore_ascii_case(name));
        let fits = (1..=SCHEME_BYTES_MAX).contains(&name.len()) && schemes.len() < SCHEMES_MAX;
        if fits && !is_parameter && !is_known {
            schemes.push(name.to_owned());
        }
    }
}

/// RFC 9110, section 5.6.2.
fn is_token(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&octet)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The verdict on `octets` that come in pieces which end at `cuts`, and how many were taken.
    fn read(octets: &[u8], cuts: &[usize]) -> (Result<Option<Answer>, Garbage>, usize) {
        let mut reader = AnswerReader::default();
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (octets.len() + 1)).collect();
        ends.push(octets.len());
        ends.sort_unstable();
        let mut start = 0;
        for end in ends {
            let mut piece = &octets[start..end];
            let verdict = reader.take(&mut piece);
            if verdict != Ok(None) {
                return (verdict, end - piece.len());
            }
            assert!(piece.is_empty(), "a head that is not whole takes all there is");
            start = end;
        }
        (Ok(None), octets.len())
    }

    /// The answer in `text`, which must be taken to its end.
    fn answer(text: &str) -> Answer {
        let (verdict, taken) = read(text.as_bytes(), &[]);
        assert_eq!(taken, text.len(), "{text:?}");
        verdict.unwrap().unwrap()
    }

    fn garbage(octets: impl AsRef<[u8]>) -> &'static str {
        read(octets.as_ref(), &[]).0.unwrap_err().0
    }

    #[test]
    fn heads_that_proxies_send_are_read() {
        // Squid, tinyproxy, a proxy without reasons, one that ends its lines in LF alone.
        for (text, status, reason) in [
            ("HTTP/1.1 200 Connection established\r\n\r\n", 200, "Connection established"),
            (
                "HTTP/1.0 200 Connection established\r\nProxy-agent: tinyproxy/1.11.1\r\n\r\n",
                200,
                "Connection established",
            ),
            ("HTTP/1.1 204 \r\nA:\r\nB: c:d\r\n\r\n", 204, ""),
            ("HTTP/1.1 403\r\n\r\n", 403, ""),
            ("HTTP/1.1 599 No\nA: b\n\n", 599, "No"),
            ("HTTP/1.1 502 Bad\r\nA: b\r\n\tc d e\r\n\r\n", 502, "Bad"),
        ] {
            let expected = Answer { status, reason: reason.to_owned(), schemes: vec![] };
            assert_eq!(answer(text), expected, "{text:?}");
        }
    }

    #[test]
    fn interim_answers_are_passed_over() {
        let text = "HTTP/1.1 100 Continue\r\nProxy-Authenticate: NTLM\r\n\r\n\
                    HTTP/1.1 103\r\n\r\nHTTP/1.1 407 No\r\nProxy-Authenticate: Basic\r\n\r\n";
        let found = answer(text);
        assert_eq!((found.status, found.schemes), (407, vec!["Basic".to_owned()]));
    }

    #[test]
    fn what_stands_behind_the_head_is_not_taken() {
        let text = "HTTP/1.1 200 OK\r\n\r\n\r\nHTTP/1.1 403 No\r\n\r\n";
        let (verdict, taken) = read(text.as_bytes(), &[]);
        assert_eq!((verdict.unwrap().unwrap().status, taken), (200, 19));
    }

    #[test]
    fn what_is_no_head_is_garbage() {
        for (text, what) in [
            ("S", "what is not HTTP/1"),
            ("\r\nHTTP/1.1 200 OK", "what is not HTTP/1"),
            ("HTTP/2", "what is not HTTP/1"),
            ("http/1.1", "what is not HTTP/1"),
            ("\u{15}\u{3}\u{1}", "what is not HTTP/1"),
            ("\n", "a broken status line"),
            ("HTTP/1.\n", "a broken status line"),
            ("HTTP/1.1\n", "a broken status line"),
            ("HTTP/1.1 20\n", "a broken status line"),
            ("HTTP/1.1 2000\n", "a broken status line"),
            ("HTTP/1.1  200\n", "a broken status line"),
            ("HTTP/1.1 +20 OK\n", "a broken status line"),
            ("HTTP/1.x 200 OK\n", "a broken status line"),
            ("HTTP/1.1 099 OK\n", "a status that is not 100 to 599"),
            ("HTTP/1.1 600 OK\n", "a status that is not 100 to 599"),
            ("HTTP/1.1 101 OK\n", "a change of protocol"),
            ("HTTP/1.1 200 O\0K\n", "a control character in its answer head"),
            ("HTTP/1.1 200 OK\r\nA: b\rc\n", "a control character in its answer head"),
            ("HTTP/1.1 200 OK\r\n<html>\n", "a field without a colon"),
            ("HTTP/1.1 200 OK\r\n: b\n", "a field of no valid name"),
            ("HTTP/1.1 200 OK\r\nA : b\n", "a field of no valid name"),
        ] {
            assert_eq!(garbage(text), what, "{text:?}");
        }
    }

    #[test]
    fn a_head_has_16_kib_and_no_more() {
        let head = |len: usize| {
            let begin = "HTTP/1.1 200 OK\r\nA: ";
            format!("{begin}{}\r\n\r\n", "x".repeat(len - begin.len() - 4))
        };
        assert_eq!(answer(&head(HEAD_BYTES_MAX)).status, 200);
        assert_eq!(garbage(head(HEAD_BYTES_MAX + 1)), "an answer head of more than 16 KiB");
        let interim = "HTTP/1.1 100 Go on\r\n\r\n".repeat(HEAD_BYTES_MAX);
        assert_eq!(garbage(interim), "an answer head of more than 16 KiB");
    }

    #[test]
    fn a_reason_is_short_and_printable() {
        let text = format!("HTTP/1.1 403 \u{e9}\t{}\r\n\r\n", "x".repeat(500));
        let expected = format!("???{}", "x".repeat(REASON_CHARS_MAX - 3));
        assert_eq!(answer(&text).reason, expected);
    }

    #[test]
    fn offered_schemes_are_told_from_their_parameters() {
        let schemes = |fields: &str| {
            answer(&format!("HTTP/1.1 407 No\r\n{fields}\r\n\r\n")).schemes.join(" ")
        };
        for (fields, expected) in [
            ("Proxy-Authenticate: Basic realm=\"x\"", "Basic"),
            ("PROXY-AUTHENTICATE:Basic", "Basic"),
            (
                "Proxy-Authenticate: Negotiate, NTLM, Basic realm=\"a, Digest b\"",
                "Negotiate NTLM Basic",
            ),
            ("Proxy-Authenticate: Digest realm=\"\\\", No\", nonce = \"n\", Basic", "Digest Basic"),
            (
                "Proxy-Authenticate: Negotiate YWJj==, , basic\r\nProxy-Authenticate: BASIC",
                "Negotiate basic",
            ),
            ("WWW-Authenticate: Basic realm=\"Tinyproxy\"", "Basic"),
            ("Authenticate: Basic", ""),
            ("Proxy-Authenticate:", ""),
        ] {
            assert_eq!(schemes(fields), expected, "{fields}");
        }
        let many: Vec<String> = (0..99).map(|n| format!("S{n}")).collect();
        let many = schemes(&format!("Proxy-Authenticate: {},{}", "l".repeat(33), many.join(",")));
        assert_eq!(many, "S0 S1 S2 S3 S4 S5 S6 S7");
    }

    /// Octets near enough to a head that every branch is reached.
    fn near_heads() -> impl Strategy<Value = Vec<u8>> {
        let begin = prop::sample::select(vec![
            "",
            "HTTP/1.1 ",
            "HTTP/1.0 200 OK\r\n",
            "HTTP/1.1 407 No\r\n",
            "HTTP/1.1 100 Go on\n",
        ]);
        let part = prop_oneof![
            Just(b"Proxy-Authenticate: Basic realm=\"a, b\\\"\", ".to_vec()),
            Just(b"A: b\r\n".to_vec()),
            Just(b" folded\r\n".to_vec()),
            Just(b"\r\n".to_vec()),
            Just(b"\n".to_vec()),
            Just(b"\r".to_vec()),
            Just(vec![b'x'; 9000]),
            prop::collection::vec(any::<u8>(), 0..6),
        ];
        let head = (begin, prop::collection::vec(part, 0..5));
        let head = head.prop_map(|(begin, parts)| [begin.as_bytes(), &parts.concat()].concat());
        prop::collection::vec(head, 0..3).prop_map(|heads| heads.concat())
    }

    proptest! {
        #[test]
        fn the_verdict_does_not_depend_on_how_the_octets_come(
            octets in near_heads(),
            cuts in prop::collection::vec(any::<usize>(), 0..6),
        ) {
            prop_assert_eq!(read(&octets, &cuts), read(&octets, &[]));
            let each: Vec<usize> = (0..octets.len()).collect();
            prop_assert_eq!(read(&octets, &each), read(&octets, &[]));
        }
    }
}
