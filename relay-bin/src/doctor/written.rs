//! What a configuration file says, line by line: it may be as broken as it likes.
//!
//! Pure but for one question: whether a file is there. A role reads its file with `relay-core`;
//! here a line is looked at that no role could read, so that it can be shown without its secrets,
//! and so that hosts and the admin listener are known.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::Path;

use super::veil::VEIL;

/// Instances of a service, at most.
const INSTANCES_MAX: usize = 16;

/// What was found in a file. Deliberately without `Debug`: it holds secrets.
#[derive(Default)]
pub(super) struct Written {
    /// The text without comments and secrets, as many lines as before.
    pub(super) shown: String,
    /// Values that stand where secrets do.
    pub(super) secrets: Vec<String>,
    /// Hosts that are named, addresses among them.
    pub(super) hosts: BTreeSet<String>,
    /// Where the role is administered, if that is an address of loopback.
    pub(super) admin: Option<SocketAddr>,
}

/// Reads a file's text. `is_file` says whether a path of it leads to a file.
pub(super) fn read(text: &str, is_file: &dyn Fn(&str) -> bool) -> Written {
    let mut reader = Reader {
        is_file,
        found: Written::default(),
        table: String::new(),
        key: String::new(),
        depth: 0,
        open: None,
        instances: 1,
        patterns: Vec::new(),
    };
    for line in text.lines() {
        let shown = reader.line(line);
        reader.found.shown.push_str(&shown);
        reader.found.shown.push('\n');
    }
    for pattern in std::mem::take(&mut reader.patterns) {
        let hosts = (1..=reader.instances).map(|it| pattern.replace(PLACEHOLDER, &it.to_string()));
        reader.found.hosts.extend(hosts);
    }
    reader.found
}

/// What stands in a host's name for the number of each instance.
const PLACEHOLDER: &str = "{instance}";

/// Whether the value of a key is a secret, or should lead to one.
fn is_for_secrets(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    let parts = [
        "password",
        "passwd",
        "passphrase",
        "secret",
        "token",
        "credential",
        "authorization",
        "cookie",
        "signature",
        "headers_file",
    ];
    parts.iter().any(|part| key.contains(part))
        || ["key", "keys", "key_file", "sas", "sig"].iter().any(|end| key.ends_with(end))
}

struct Reader<'a> {
    is_file: &'a dyn Fn(&str) -> bool,
    found: Written,
    table: String,
    key: String,
    /// Lists and tables that a value has opened.
    depth: usize,
    /// What ends the text of several lines that is open.
    open: Option<&'static str>,
    instances: usize,
    /// Hosts of each instance.
    patterns: Vec<String>,
}

impl Reader<'_> {
    /// The line as it may be shown.
    fn line(&mut self, line: &str) -> String {
        let mut shown = String::new();
        let mut rest = line;
        if let Some(mark) = self.open {
            shown.push_str(VEIL);
            let Some((_, after)) = rest.split_once(mark) else { return shown };
            shown.push_str(mark);
            (self.open, rest) = (None, after);
        } else if let Some(table) = heading(line) {
            // Whatever a broken line before has opened ends here.
            (self.table, self.depth) = (table.to_owned(), 0);
            self.key.clear();
            return line.split('#').next().unwrap_or_default().trim_end().to_owned();
        } else if self.depth == 0 {
            self.key.clear();
        }
        let mut bare = String::new();
        while let Some(c) = rest.chars().next() {
            match c {
                '#' => return shown + "#",
                '"' | '\'' => rest = self.string(rest, &mut shown, &mut bare),
                '=' => rest = self.value_begins(rest, &mut shown, &mut bare),
                // What stands behind a secret is more of it: somebody has forgotten a mark.
                _ if self.is_behind_a_secret() && !" \t[{".contains(c) => {
                    self.found.secrets.push(rest.trim().to_owned());
                    return shown + VEIL;
                }
                _ => {
                    self.bare(c, &mut shown, &mut bare);
                    rest = &rest[c.len_utf8()..];
                }
            }
        }
        shown
    }

    fn is_behind_a_secret(&self) -> bool {
        self.depth == 0 && is_for_secrets(&self.key)
    }

    /// Goes over a character that stands without marks.
    fn bare(&mut self, c: char, shown: &mut String, bare: &mut String) {
        match c {
            '[' | '{' => self.depth += 1,
            ']' | '}' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        if "[]{},".contains(c) {
            bare.clear();
        } else {
            bare.push(c);
        }
        shown.push(c);
    }

    /// Goes over a sign of equality, behind which the value of another key begins; and over that,
    /// if it stands without marks where a secret does.
    fn value_begins<'t>(
        &mut self,
        rest: &'t str,
        shown: &mut String,
        bare: &mut String,
    ) -> &'t str {
        bare.trim().rsplit('.').next().unwrap_or_default().clone_into(&mut self.key);
        bare.clear();
        shown.push('=');
        let value = &rest[1..];
        let written = value.trim_start();
        if self.key == "instances" {
            let digits = written.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
            self.instances = digits.parse().unwrap_or(1).min(INSTANCES_MAX);
        }
        if !is_for_secrets(&self.key) || written.starts_with(['"', '\'', '[', '{']) {
            return value;
        }
        let (secret, after) = written.split_at(written.find('#').unwrap_or(written.len()));
        self.found.secrets.push(secret.trim().to_owned());
        shown.push(' ');
        shown.push_str(VEIL);
        after
    }

    /// Goes over a text, and returns what is behind it.
    fn string<'t>(&mut self, rest: &'t str, shown: &mut String, bare: &mut String) -> &'t str {
        for mark in ["\"\"\"", "'''"] {
            let Some(text) = rest.strip_prefix(mark) else { continue };
            shown.push_str(mark);
            shown.push_str(VEIL);
            let Some((_, after)) = text.split_once(mark) else {
                self.open = Some(mark);
                return "";
            };
            shown.push_str(mark);
            return after;
        }
        let (mark, text) = rest.split_at(1);
        let closed = closed_by(mark, text);
        let (value, after) = closed.map_or((text, ""), |at| (&text[..at], &text[at + 1..]));
        shown.push_str(mark);
        if after.trim_start().starts_with('=') {
            bare.push_str(value);
            shown.push_str(value);
        } else {
            let value = self.value(value);
            shown.push_str(&value);
        }
        shown.push_str(closed.map_or("", |_| mark));
        after
    }

    /// A value as it may be shown; what is to be known of it is kept.
    fn value(&mut self, value: &str) -> String {
        if is_for_secrets(&self.key) {
            // The path of a key is none, but a key where its path belongs is.
            if (self.is_file)(value) || is_named_as_files_are(value) {
                return value.to_owned();
            }
            self.found.secrets.push(value.to_owned());
            return VEIL.to_owned();
        }
        if let Some((_, url)) = value.split_once("://") {
            self.url(url);
        } else if self.key == "host" {
            self.host(value);
        } else if self.table == "admin" && self.key == "listen" {
            let listen = value.parse::<SocketAddr>().ok();
            let is_here = |it: &SocketAddr| it.ip().is_loopback() && it.port() != 0;
            self.found.admin = self.found.admin.or(listen.filter(is_here));
        }
        value.to_owned()
    }

    fn url(&mut self, url: &str) {
        let authority = match url.rsplit_once('@') {
            Some((user, rest)) => {
                let password = user.split_once(':').map_or(user, |(_, password)| password);
                self.found.secrets.push(password.to_owned());
                rest
            }
            None => url,
        };
        let authority = authority.split(['/', '?', '#']).next().unwrap_or_default();
        // A database may have several.
        for host in authority.split(',') {
            match host.strip_prefix('[').and_then(|host| host.split_once(']')) {
                Some((address, _)) => self.host(address),
                None => self.host(host.split(':').next().unwrap_or_default()),
            }
        }
    }

    fn host(&mut self, host: &str) {
        let is_name = |c: char| c.is_ascii_alphanumeric() || ".-_:{}".contains(c);
        if host.is_empty() || !host.chars().all(is_name) {
            return;
        }
        if host.contains(PLACEHOLDER) {
            self.patterns.push(host.to_owned());
        } else {
            self.found.hosts.insert(host.to_owned());
        }
    }
}

/// Whether a path leads to what keys and the like are kept in, should that be gone: it is the file
/// that is looked for then.
fn is_named_as_files_are(path: &str) -> bool {
    let known = ["pem", "key", "crt", "cer", "json", "txt", "token"];
    let end = Path::new(path).extension();
    end.is_some_and(|end| known.iter().any(|it| end.eq_ignore_ascii_case(it)))
}

/// The table that a line is the heading of.
fn heading(line: &str) -> Option<&str> {
    let line = line.split('#').next().unwrap_or_default().trim();
    let name = line.strip_prefix('[')?.strip_suffix(']')?;
    let name = name.strip_prefix('[').and_then(|it| it.strip_suffix(']')).unwrap_or(name).trim();
    let is_key = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    (!name.is_empty() && name.chars().all(is_key)).then_some(name)
}

/// Where a text ends that `mark` has opened.
fn closed_by(mark: &str, text: &str) -> Option<usize> {
    if mark == "'" {
        return text.find('\'');
    }
    let mut is_escaped = false;
    text.bytes().position(|it| {
        let ends = it == b'"' && !is_escaped;
        is_escaped = it == b'\\' && !is_escaped;
        ends
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Written {
        super::read(text, &|path| path == "store-password")
    }

    #[test]
    fn a_value_where_a_secret_is_expected_is_shown_if_it_is_the_path_of_a_file_and_else_not() {
        for (text, shown, secret) in [
            ("key = \"links-key.pem\"", "key = \"links-key.pem\"", None),
            ("password_file = \"store-password\"", "password_file = \"store-password\"", None),
            ("keys = \"../gone.JSON\"", "keys = \"../gone.JSON\"", None),
            ("key = \"MIIE+x/y\"", "key = \"[veiled]\"", Some("MIIE+x/y")),
            ("password_file = \"hunter2\"", "password_file = \"[veiled]\"", Some("hunter2")),
            ("a.api_token = 'x' # y", "a.api_token = '[veiled]' #", Some("x")),
            ("password = hunter2 # was x", "password = [veiled]#", Some("hunter2")),
            ("pass-phrase = 1", "pass-phrase = 1", None),
            ("\"client secret\" = \"a\\\"b\"", "\"client secret\" = \"[veiled]\"", Some("a\\\"b")),
            (
                "client_key = [\"a.pem\", \"b\"]",
                "client_key = [\"a.pem\", \"[veiled]\"]",
                Some("b"),
            ),
            ("secret = \"open", "secret = \"[veiled]", Some("open")),
            (
                "t = { user = \"u\", password = \"p\" }",
                "t = { user = \"u\", password = \"[veiled]\" }",
                Some("p"),
            ),
            ("access_key_id = \"AKIA1\"", "access_key_id = \"AKIA1\"", None),
            ("service = \"relay.example\" # hunter2", "service = \"relay.example\" #", None),
        ] {
            let found = read(text);
            assert_eq!(found.shown, format!("{shown}\n"), "{text}");
            let secrets: Vec<&str> = found.secrets.iter().map(String::as_str).collect();
            assert_eq!(secrets, secret.as_slice(), "{text}");
        }
    }

    #[test]
    fn what_is_left_of_a_secret_behind_its_closing_mark_is_not_shown() {
        let found = read("proxy_password = \"abc\"def\" # x\nkeys = [\"a.pem\"]\nname = \"n\"x\n");
        let shown = "proxy_password = \"[veiled]\"[veiled]\nkeys = [\"a.pem\"]\nname = \"n\"x\n";
        assert_eq!(found.shown, shown);
        assert_eq!(found.secrets, ["abc", "def\" # x"]);
    }

    #[test]
    fn a_list_or_text_of_several_lines_is_one_value_and_lines_keep_their_numbers() {
        let text = "client_key = [\n  \"a.pem\",\n  \"hidden\", # c\n]\nname = \"cp\"\n\
                    note = \"\"\"\nhunter2\n\"\"\"\nsite = '''x''' \n";
        let shown = "client_key = [\n  \"a.pem\",\n  \"[veiled]\", #\n]\nname = \"cp\"\n\
                     note = \"\"\"[veiled]\n[veiled]\n[veiled]\"\"\"\nsite = '''[veiled]''' \n";
        assert_eq!(read(text).shown, shown);
    }

    #[test]
    fn what_a_broken_line_leaves_open_ends_at_the_next_table() {
        let text = "paths = [ \"a\"\n[admin]\nlisten = \"127.0.0.1:10180\"\n";
        assert_eq!(read(text).admin, "127.0.0.1:10180".parse().ok());
        for other in [
            "[links]\nlisten = \"127.0.0.1:1\"",
            "[admin]\nlisten = \"10.0.0.1:1\"",
            "[admin]\nlisten = \"127.0.0.1:0\"",
        ] {
            assert_eq!(read(other).admin, None, "{other}");
        }
    }

    #[test]
    fn hosts_are_those_of_urls_and_of_gateways_with_their_numbers() {
        let text = "[gateway]\nhost = \"gw-{instance}.example\"\ninstances = 2\n\
                    [[endpoint]]\nbackend = [\"http://mp-1:80\", 'https://mp-2/x']\n\
                    store = \"postgres://u:hidden@db-1:5432,db-2/site\"\n\
                    local = \"postgres://u@%2Frun%2Fpg/site\"\nsix = \"http://[::1]:80/\"\n\
                    # url = \"http://elsewhere/\"\nserver_name = \"none.example\"\n";
        let found = read(text);
        let hosts: Vec<&str> = found.hosts.iter().map(String::as_str).collect();
        let expected = ["::1", "db-1", "db-2", "gw-1.example", "gw-2.example", "mp-1", "mp-2"];
        assert_eq!(hosts, expected);
        assert_eq!(found.secrets, ["hidden", "u"]);
        let many = read("host = \"g{instance}\"\ninstances = 99\n");
        assert_eq!(many.hosts.len(), INSTANCES_MAX);
    }
}
