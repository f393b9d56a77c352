//! Makes unreadable what may be a secret in any text. Pure.
//!
//! By what it is called (`Authorization`, `password`, `sig`), by where it stands (a user in a URL,
//! between the marks of PEM), by what it looks like (base64, the parts of a token), and because the
//! configuration has it where secrets are. It deliberately veils too much rather than too little;
//! what it cannot know is a secret that looks like a word and is called nothing.

/// What stands in place of what is not shown.
pub(super) const VEIL: &str = "[veiled]";

/// Octets from which on a secret of the configuration is looked for in other texts. A shorter one
/// is in every second word.
pub(super) const KNOWN_OCTETS_MIN: usize = 6;

/// Characters from which on a run of base64 may be a secret: 18 octets, as which nobody's name is.
const RUN_CHARS_MIN: usize = 24;

const PEM_BEGIN: &str = "-----BEGIN";
const PEM_END: &str = "-----END";

/// Knows what the configuration has where secrets are. Deliberately without `Debug`.
#[derive(Default)]
pub(super) struct Veil {
    known: Vec<String>,
}

impl Veil {
    /// One that also veils these wherever they stand.
    pub(super) fn knowing(secrets: impl IntoIterator<Item = String>) -> Self {
        let is_long = |it: &String| it.len() >= KNOWN_OCTETS_MIN;
        let mut known: Vec<_> = secrets.into_iter().filter(is_long).collect();
        // One that is within another would leave the rest of that to be read.
        known.sort_by_key(|it| std::cmp::Reverse(it.len()));
        Self { known }
    }

    /// The text without what may be a secret. It has as many lines as before.
    pub(super) fn text(&self, text: &str) -> String {
        let mut lines: Vec<String> = Vec::new();
        let mut is_in_pem = false;
        for line in text.lines() {
            if !is_in_pem && ends_pem(line) {
                veil_pem_before(&mut lines);
            }
            let kept = without_pem(line, &mut is_in_pem);
            lines.push(self.line(&kept));
        }
        let mut veiled = lines.join("\n");
        if text.ends_with('\n') {
            veiled.push('\n');
        }
        veiled
    }

    fn line(&self, line: &str) -> String {
        let line = without_named(line);
        let line = without_users(&line);
        let line = without_runs(&line);
        self.known.iter().fold(line, |line, secret| line.replace(secret.as_str(), VEIL))
    }
}

/// Whether a block ends here whose beginning is not in the text.
fn ends_pem(line: &str) -> bool {
    let [begins, ends] = [PEM_BEGIN, PEM_END].map(|mark| line.find(mark));
    ends.is_some_and(|ends| begins.is_none_or(|begins| ends < begins))
}

/// Veils the lines of a block that ends behind them.
fn veil_pem_before(lines: &mut [String]) {
    let is_base64 = |it: &str| it.chars().all(|c| c.is_ascii_alphanumeric() || "+/=".contains(c));
    let block = lines.iter_mut().rev().take_while(|it| *it == VEIL || is_base64(it));
    block.for_each(|line| VEIL.clone_into(line));
}

/// The line without what is between the marks of PEM, be they on one line.
fn without_pem(line: &str, is_in_pem: &mut bool) -> String {
    let mut kept = String::new();
    let mut rest = line;
    if !*is_in_pem && ends_pem(line) {
        *is_in_pem = true;
        kept.push_str(VEIL);
    }
    loop {
        if *is_in_pem {
            let Some(at) = rest.find(PEM_END) else { return kept };
            let label = &rest[at + PEM_END.len()..];
            rest = label.split_once("-----").map_or("", |(_, rest)| rest);
            *is_in_pem = false;
        } else {
            let Some(at) = rest.find(PEM_BEGIN) else { return kept + rest };
            kept.push_str(&rest[..at]);
            kept.push_str(VEIL);
            rest = &rest[at + PEM_BEGIN.len()..];
            *is_in_pem = true;
        }
    }
}

/// What a name says of the value behind it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Named {
    /// A field of a request or an answer: everything up to the end of the line is its value.
    Field,
    /// A password, however it is written.
    Password,
    /// A secret, if a sign of a value stands behind the name. Much that is none is called alike.
    Value,
}

impl Named {
    fn of(word: &str) -> Option<Self> {
        let name = word.to_ascii_lowercase().replace('-', "_");
        if name.ends_with("_file") || name.ends_with("_files") {
            return None;
        }
        let is_field = [
            "authorization",
            "proxy_authorization",
            "cookie",
            "set_cookie",
            "ccmclientidsignature",
            "ccmclienttimestampssignature",
        ];
        let ends = |parts: &[&str]| parts.iter().any(|part| name.ends_with(part));
        if is_field.contains(&name.as_str()) {
            Some(Self::Field)
        } else if ["password", "passwd", "passphrase", "secret"].iter().any(|it| name.contains(it))
        {
            Some(Self::Password)
        } else if name == "sig"
            || ends(&["token", "signature", "credential", "credentials", "assertion", "apikey"])
            || ends(&["api_key", "account_key", "access_key", "private_key", "accountkey"])
        {
            Some(Self::Value)
        } else {
            None
        }
    }
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-')
}

/// The line without the values of what is called after a secret.
fn without_named(line: &str) -> String {
    let mut kept = String::new();
    let mut rest = line;
    while let Some(start) = rest.find(is_word) {
        let word = &rest[start..];
        let word = &word[..word.find(|c| !is_word(c)).unwrap_or(word.len())];
        let end = start + word.len();
        kept.push_str(&rest[..end]);
        rest = &rest[end..];
        let value = Named::of(word).and_then(|named| value_behind(named, rest));
        if let Some((from, to)) = value {
            kept.push_str(&rest[..from]);
            kept.push_str(VEIL);
            rest = &rest[to..];
        }
    }
    kept + rest
}

/// A mark of a text, as it is or within another text.
fn quote(text: &str) -> &'static str {
    ["\\\"", "\"", "'"].into_iter().find(|mark| text.starts_with(mark)).unwrap_or_default()
}

/// Where the value is of a name that `rest` stands behind.
fn value_behind(named: Named, rest: &str) -> Option<(usize, usize)> {
    let closing = quote(rest).len();
    let gap = |text: &str| text.len() - text.trim_start_matches([' ', '\t']).len();
    let mut from = closing + gap(&rest[closing..]);
    let sign = rest[from..].chars().next().filter(|c| matches!(c, ':' | '='))?;
    from += sign.len_utf8();
    from += gap(&rest[from..]);
    let value = &rest[from..];
    let mark = quote(value);
    if !mark.is_empty() {
        from += mark.len();
        let to = closed_by(mark, &rest[from..]).map_or(rest.len(), |at| from + at);
        return (from < to).then_some((from, to));
    }
    let is_said = sign == '=' || closing > 0;
    let ends = |c: char| c.is_whitespace() || "&,;)}]>\"'\\".contains(c);
    let len = match named {
        _ if value.starts_with('[') => value.find(']').unwrap_or(value.len()),
        Named::Field => value.find(['"', '\'']).unwrap_or(value.len()),
        _ if value.starts_with('{') => return None,
        Named::Value if !is_said => return None,
        _ => value.find(ends).unwrap_or(value.len()),
    };
    // A count of what is called after a secret is none.
    let is_plain = ["true", "false", "null", "None"].contains(&&value[..len]);
    let is_count = value[..len].bytes().all(|it| it.is_ascii_digit()) && named == Named::Value;
    (len > 0 && !is_plain && !is_count).then_some((from, from + len))
}

/// Where a text ends that `mark` has opened.
fn closed_by(mark: &str, text: &str) -> Option<usize> {
    let mut from = 0;
    loop {
        let at = from + text[from..].find(mark)?;
        let slashes = text[..at].bytes().rev().take_while(|it| *it == b'\\').count();
        let is_end = match mark {
            "\"" => slashes % 2 == 0,
            // Within another text its own mark has one, and a mark that it holds has three.
            "\\\"" => slashes == 0,
            _ => true,
        };
        if is_end {
            return Some(at);
        }
        from = at + mark.len();
    }
}

/// The line without the users of its URLs.
fn without_users(line: &str) -> String {
    let mut kept = String::new();
    let mut rest = line;
    while let Some(at) = rest.find("://") {
        let (before, behind) = rest.split_at(at + 3);
        kept.push_str(before);
        let is_end = |c: char| c.is_whitespace() || "\"'<>,".contains(c);
        let (url, after) = behind.split_at(behind.find(is_end).unwrap_or(behind.len()));
        if let Some((_, host)) = url.rsplit_once('@') {
            kept.push_str(VEIL);
            kept.push('@');
            rest = &behind[url.len() - host.len()..];
        } else {
            kept.push_str(url);
            rest = after;
        }
    }
    kept + rest
}

/// The line without what looks like base64 of something.
fn without_runs(line: &str) -> String {
    let is_in = |c: char| c.is_ascii_alphanumeric() || "+/_-%".contains(c);
    let mut kept = String::new();
    let mut rest = line;
    while let Some(start) = rest.find(is_in) {
        kept.push_str(&rest[..start]);
        let run = &rest[start..];
        let (run, after) = run.split_at(run.find(|c| !is_in(c)).unwrap_or(run.len()));
        if is_like_a_secret(run) {
            kept.push_str(VEIL);
            rest = after.trim_start_matches('=');
        } else {
            kept.push_str(run);
            rest = after;
        }
    }
    kept + rest
}

/// Whether characters change so often between kinds as they do in base64, and in no path or name.
fn is_like_a_secret(run: &str) -> bool {
    // `{"` of a token's header and claims.
    if run.starts_with("eyJ") && run.len() >= RUN_CHARS_MIN / 2 {
        return true;
    }
    let is_no_number = |part: &&str| {
        let is_hex = |it: u8| matches!(it, b'0'..=b'9' | b'a'..=b'f' | b'-');
        !part.bytes().all(is_hex)
    };
    let parts: Vec<_> = run.split('/').filter(is_no_number).collect();
    let chars: usize = parts.iter().map(|part| part.len()).sum();
    let has = |kind: fn(&u8) -> bool| parts.iter().any(|part| part.bytes().any(|it| kind(&it)));
    if chars < RUN_CHARS_MIN || !has(u8::is_ascii_uppercase) || !has(u8::is_ascii_lowercase) {
        return false;
    }
    let changes: usize = parts.iter().map(|part| changes(part)).sum();
    changes * 5 >= chars
}

/// How often letters and digits, small and large, follow each other; a capital before a small
/// letter is how words begin.
fn changes(part: &str) -> usize {
    let kind = |it: u8| match it {
        b'0'..=b'9' => Some(0),
        b'a'..=b'z' => Some(1),
        b'A'..=b'Z' => Some(2),
        _ => None,
    };
    let pairs = part.as_bytes().windows(2).filter(|pair| {
        let (Some(one), Some(next)) = (kind(pair[0]), kind(pair[1])) else { return false };
        one != next && (one, next) != (2, 1)
    });
    pairs.count()
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

    use super::*;

    fn veiled(text: &str) -> String {
        Veil::default().text(text)
    }

    #[test]
    fn the_value_of_what_is_called_after_a_secret_is_not_shown_however_it_is_written() {
        for (text, shown) in [
            ("Authorization: Basic cmVs end", "Authorization: [veiled]"),
            (
                "{\"authorization\":\"Bearer a\\\"b\",\"n\":1}",
                "{\"authorization\":\"[veiled]\",\"n\":1}",
            ),
            (
                "{\"m\":\"{\\\"password\\\":\\\"x y\\\"}\"}",
                "{\"m\":\"{\\\"password\\\":\\\"[veiled]\\\"}\"}",
            ),
            (
                r#"{"m":"{\"secret\":\"x\\\"y\",\"n\":1}"}"#,
                r#"{"m":"{\"secret\":\"[veiled]\",\"n\":1}"}"#,
            ),
            ("set-cookie: a=b; Secure", "set-cookie: [veiled]"),
            ("proxy_password = \"hunter2\"", "proxy_password = \"[veiled]\""),
            ("proxy_password = \"hunter2", "proxy_password = \"[veiled]"),
            ("client_secret=hunter2 next", "client_secret=[veiled] next"),
            ("the password: hunter2, then", "the password: [veiled], then"),
            ("password=1234", "password=[veiled]"),
            ("GET /a?pid=P&sig=ab%2B&file=x", "GET /a?pid=P&sig=[veiled]&file=x"),
            ("x-amz-signature=00ff&b", "x-amz-signature=[veiled]&b"),
            ("token='short' x", "token='[veiled]' x"),
            ("\"authorization\": [\"Basic x\"]", "\"authorization\": [veiled]]"),
        ] {
            assert_eq!(veiled(text), shown);
        }
    }

    #[test]
    fn what_only_sounds_like_a_secret_stays() {
        for text in [
            "password_file = \"proxy-password\"",
            "\"site-token\":{\"proven\":4}",
            "\"CMGService_Invalid_Token\": 12, \"token_service_refused_token\": 3",
            "relay_answers_total{reason=\"CMGService_Invalid_Token\"} 5",
            "unproven: site-token: it is blocked; the token: expired",
            "GET /CCM_Proxy_ServerAuth/72057594037927937/SMS_MP/.sms_aut",
            "/CCM_Proxy_MutualAuth/ServiceMetadata/3a0c5f0e-5d2f-4b7e-9a53-2f1c66a0b1d4",
            "\"digest\":\"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c1\"",
            "/var/lib/relay-connection-point/next-configuration/SoftwareUpdatePoint.toml",
            "2026-11-23T15:00:22.123456Z  INFO relay_core::connection_point::dialling: link up",
            "https://relay.example:8443/a?b=c and http://[::1]:80/",
            "certificate_sha256: 00:FF:AB:CD:EF:00:11:22:33:44:55:66:77:88:99",
            "token = null, secret=false",
        ] {
            assert_eq!(veiled(text), text);
        }
    }

    #[test]
    fn users_of_urls_are_not_shown_and_their_hosts_are() {
        assert_eq!(veiled("to http://u:p@a.example:1/x, y"), "to http://[veiled]@a.example:1/x, y");
        assert_eq!(veiled("'postgres://u@h/d' a@b"), "'postgres://[veiled]@h/d' a@b");
        assert_eq!(veiled("http://u:p@a http://q@b"), "http://[veiled]@a http://[veiled]@b");
    }

    #[test]
    fn blocks_of_pem_are_not_shown_whole_cut_or_in_one_line() {
        let block = "a\n-----BEGIN PRIVATE KEY-----\nMIIE\nab12\n-----END PRIVATE KEY-----\nb\n";
        assert_eq!(veiled(block), "a\n[veiled]\n\n\n\nb\n");
        let cut = "MIIEvQ\nab12\n-----END PRIVATE KEY-----\nb";
        assert_eq!(veiled(cut), "[veiled]\n[veiled]\n[veiled]\nb");
        assert_eq!(veiled("b\n-----BEGIN EC PRIVATE KEY-----\nMIIE\n"), "b\n[veiled]\n\n");
        let inline = "{\"a\":\"-----BEGIN X-----\\nMIIE\\n-----END X-----\\n\",\"b\":1}";
        assert_eq!(veiled(inline), "{\"a\":\"[veiled]\\n\",\"b\":1}");
        assert_eq!(veiled("{\"a\":\"MI\\n-----END X-----\"}"), "[veiled]\"}");
    }

    #[test]
    fn whatever_looks_like_base64_is_not_shown_and_has_no_name_to_be_known_by() {
        // SplitMix64: octets that look random and are the same at each run.
        let mix = |n: u64| {
            let mixed = n.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9).to_be_bytes()[0]
        };
        let mut missed = 0;
        for seed in 0..1000_u64 {
            let octets: Vec<u8> = (seed * 1000..).map(mix).take(32).collect();
            for text in [STANDARD.encode(&octets), URL_SAFE_NO_PAD.encode(&octets)] {
                missed += usize::from(veiled(&format!("a {text} b")) != "a [veiled] b");
            }
            let octets: Vec<u8> = (seed * 1000..).map(mix).take(256).collect();
            let text = STANDARD.encode(&octets);
            assert_eq!(veiled(&format!("k:{text},")), "k:[veiled],");
        }
        assert!(missed < 10, "of 2,000 keys of 32 octets {missed} were shown");
        let jwt = format!("{}.{}.x", URL_SAFE_NO_PAD.encode("{\"alg\":1}"), "eyJhIjoxLCJi");
        assert_eq!(veiled(&jwt), "[veiled].[veiled].x");
    }

    #[test]
    fn no_text_is_too_odd_to_be_veiled_and_lines_keep_their_numbers() {
        let parts = [
            "password",
            "=",
            ":",
            "\"",
            "\\\"",
            "'",
            " ",
            "é",
            "\u{202e}",
            "://",
            "@",
            "[",
            "]",
            "{",
            "-----BEGIN",
            "-----END",
            "-----",
            "\n",
            "eyJ",
            "/",
            "sig",
            "Authorization",
            "#",
        ];
        let mut state = 1_u64;
        for _ in 0..20_000 {
            let mut text = String::new();
            for _ in 0..12 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                text.push_str(parts[usize::try_from(state >> 33).unwrap() % parts.len()]);
            }
            text.push('\n');
            assert_eq!(veiled(&text).lines().count(), text.lines().count(), "{text:?}");
            super::super::written::read(&text, &|_| false);
        }
    }

    #[test]
    fn what_the_configuration_has_as_a_secret_is_not_shown_anywhere_from_six_octets_on() {
        let known = ["hunter", "hunter2hunter", "short"].map(str::to_owned);
        let veil = Veil::knowing(known);
        let text = "cannot read hunter2hunter: a hunter is short\n";
        assert_eq!(veil.text(text), "cannot read [veiled]: a [veiled] is short\n");
    }
}
