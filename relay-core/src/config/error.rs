//! What is wrong with a configuration file, where, and what to do about it.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Longest part of a source line that is shown, in characters.
const SHOWN_CHARS_MAX: usize = 120;

/// Characters shown before the fault when the line is too long to show from its start.
const SHOWN_CHARS_BEFORE: usize = 40;

/// Why a configuration file cannot be used. Always the administrator's to mend, never a peer's.
///
/// Its `Display` is the whole message for a terminal, of several lines: what is wrong, the file
/// with line and column, the line itself with a caret, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file could not be read.
    #[error(
        "cannot read the configuration `{path}`: {source}\n  = help: check the path and its \
         permissions; `relay init` writes a complete site to start from",
        path = path.display()
    )]
    Read {
        /// The file as given.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The file is longer than any configuration.
    #[error(
        "the configuration `{path}` is longer than {bytes_max} octets\n  = help: check that this \
         is the file you meant",
        path = path.display()
    )]
    TooLong {
        /// The file as given.
        path: PathBuf,
        /// The limit.
        bytes_max: u64,
    },
    /// The file is not UTF-8 text.
    #[error(
        "the configuration `{path}` is not UTF-8 text (line {line})\n  = help: save the file as \
         UTF-8; editors on Windows may have written UTF-16",
        path = path.display()
    )]
    NotText {
        /// The file as given.
        path: PathBuf,
        /// The first line, 1-based, that is not UTF-8.
        line: usize,
    },
    /// The text is readable and something in it is wrong.
    #[error(transparent)]
    Invalid(Box<Invalid>),
    /// The text is readable and several things in it are wrong: they stand here in the order of the
    /// file, at most 100 of them.
    #[error("{}", together(.0))]
    Several(Vec<Invalid>),
}

impl ConfigError {
    /// What is wrong in the text, in the order of the file; nothing, if the file as a whole cannot
    /// be read.
    pub fn faults(&self) -> &[Invalid] {
        match self {
            Self::Invalid(only) => std::slice::from_ref(only),
            Self::Several(faults) => faults,
            _ => &[],
        }
    }

    /// This and what else is wrong with the same text. Of a file that cannot be read this alone.
    #[must_use]
    pub fn and(self, other: &Self) -> Self {
        let mut faults = match self {
            Self::Invalid(only) => vec![*only],
            Self::Several(faults) => faults,
            of_the_file => return of_the_file,
        };
        faults.extend_from_slice(other.faults());
        Self::Several(faults)
    }

    /// What is wrong at `place`, and what to do.
    pub(super) fn at(place: &Place, problem: impl Into<String>, help: impl Into<String>) -> Self {
        let (problem, help) = (problem.into(), help.into());
        Self::Invalid(Box::new(Invalid { problem, place: place.clone(), help }))
    }
}

/// The messages of all faults, as if each had been told alone.
fn together(faults: &[Invalid]) -> String {
    let all: Vec<String> = faults.iter().map(ToString::to_string).collect();
    all.join("\n\nerror: ")
}

/// One fault at one place of a configuration file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Invalid {
    /// What is wrong, in one line.
    pub problem: String,
    /// Where it is.
    pub place: Place,
    /// What to do, in one line.
    pub help: String,
}

/// A place in a configuration file, with the line it is on, so that it can still be shown when the
/// text is gone.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Place {
    path: PathBuf,
    line: usize,
    column: usize,
    /// The part of the line that is shown; control characters replaced.
    shown: String,
    /// Characters of `shown` before the fault.
    before: usize,
    /// Characters under which a caret stands; at least one.
    marked: usize,
    /// Whether something at this place was found wrong before, so that more follows from that.
    is_consequence: bool,
}

impl std::error::Error for Invalid {}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n{}\n  = help: {}", self.problem, self.place, self.help)
    }
}

impl Place {
    /// The place of the octets `span` of `text`. A span that is out of range or not on a character
    /// boundary is moved back to one.
    pub(super) fn new(path: &Path, text: &str, span: Range<usize>) -> Self {
        let start = boundary_at_or_before(text, span.start);
        let end = boundary_at_or_before(text, span.end.max(start));
        let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let line_text = text[line_start..].lines().next().unwrap_or_default();

        let column = text[line_start..start].chars().count();
        let skipped = match line_text.chars().count() {
            0..=SHOWN_CHARS_MAX => 0,
            _ => column.saturating_sub(SHOWN_CHARS_BEFORE),
        };
        let veiled = veiled(line_text);
        let shown: String =
            veiled.iter().copied().skip(skipped).take(SHOWN_CHARS_MAX).map(printable).collect();
        let before = column - skipped;

        let marked = text[start..end].lines().next().unwrap_or_default().chars().count();
        let room = shown.chars().count().saturating_sub(before);
        Self {
            path: path.to_owned(),
            line: text[..line_start].matches('\n').count() + 1,
            column: column + 1,
            shown,
            before,
            marked: marked.min(room).max(1),
            is_consequence: false,
        }
    }

    /// The same place, with something else found wrong there.
    pub(super) fn following(self) -> Self {
        Self { is_consequence: true, ..self }
    }

    /// Whether what is found wrong here follows from something else.
    pub(super) fn is_consequence(&self) -> bool {
        self.is_consequence
    }

    /// The same place with what is marked made unreadable: it may hold a secret.
    pub(super) fn redacted(mut self) -> Self {
        const SHOWN: &str = "[redacted]";
        let marked = self.before..self.before + self.marked;
        let kept = |(at, character)| (!marked.contains(&at)).then_some(character);
        let rest: Vec<char> = self.shown.chars().enumerate().filter_map(kept).collect();
        let (head, tail) = rest.split_at(self.before.min(rest.len()));
        self.shown =
            head.iter().copied().chain(SHOWN.chars()).chain(tail.iter().copied()).collect();
        self.marked = SHOWN.len();
        self
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The line, 1-based.
    pub fn line(&self) -> usize {
        self.line
    }

    /// The column, 1-based, in characters.
    pub fn column(&self) -> usize {
        self.column
    }
}

/// The arrow, the line and the caret, without a newline at the end.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, line, column, shown, before, marked, .. } = self;
        let gutter = line.to_string().len();
        writeln!(f, "{:gutter$}--> {}:{line}:{column}", "", path.display())?;
        writeln!(f, "{:gutter$} |", "")?;
        writeln!(f, "{line} | {shown}")?;
        write!(f, "{:gutter$} | {:before$}{:^<marked$}", "", "", "")
    }
}

fn boundary_at_or_before(text: &str, index: usize) -> usize {
    (0..=index.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}

/// A tab takes one column, so that the caret stands right; other control characters are not sent
/// to the terminal at all.
fn printable(character: char) -> char {
    match character {
        '\t' => ' ',
        other if other.is_control() => char::REPLACEMENT_CHARACTER,
        other => other,
    }
}

/// The line, with an asterisk for each character of what may be a secret: the user in a URL, and
/// the value of a key that is called after one. Wherever the fault is, its line is logged.
fn veiled(line: &str) -> Vec<char> {
    let mut line: Vec<char> = line.chars().collect();
    let mut at = 0;
    while let Some(found) = line[at..].windows(3).position(|it| it == [':', '/', '/']) {
        let from = at + found + 3;
        let is_end = |it: &char| matches!(it, '"' | '\'') || it.is_whitespace();
        let to = line[from..].iter().position(is_end).map_or(line.len(), |it| from + it);
        if let Some(user) = line[from..to].iter().rposition(|it| *it == '@') {
            line[from..from + user].fill('*');
        }
        at = to;
    }
    if let Some(equals) = line.iter().position(|it| *it == '=') {
        let key: String = line[..equals].iter().collect();
        let key = key.trim();
        if key.ends_with("password") || key.ends_with("secret") {
            line[equals + 1..].fill('*');
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str, span: Range<usize>) -> Place {
        Place::new(Path::new("f.toml"), text, span)
    }

    #[test]
    fn the_caret_stands_under_the_span_of_its_line() {
        let shown = place("a = 1\n\tb = true\n", 7..8).to_string();
        assert_eq!(shown, " --> f.toml:2:2\n  |\n2 |  b = true\n  |  ^");
    }

    #[test]
    fn a_span_over_several_lines_is_marked_to_the_end_of_the_first() {
        let shown = place("a = [\n1]\n", 4..8).to_string();
        assert_eq!(shown, " --> f.toml:1:5\n  |\n1 | a = [\n  |     ^");
    }

    #[test]
    fn what_may_be_a_secret_is_not_shown_wherever_on_its_line_the_fault_is() {
        for line in [
            "backend = \"http://user:secret@mp",
            "backend = [\"http://mp:80\", 'http://secret@a/b', 5]",
            "proxy_password = \"secret\"",
            "secret = secret",
            "client_secret = \"secret",
        ] {
            for at in [0, line.len()] {
                let found = place(line, at..at);
                let shown = found.to_string();
                let (_, text) = shown.split_once("1 | ").unwrap();
                let value = text.replacen("secret = ", "", 1);
                assert!(!value.contains("secret\"") && !value.contains("secret@"), "{shown}");
                assert!(!value.contains(":secret") && !value.contains("= secret"), "{shown}");
                assert_eq!(found.column(), line[..at].chars().count() + 1);
                assert_eq!(text.lines().next().unwrap().chars().count(), line.chars().count());
            }
        }
        let shown = place("listen = \"https://[::1]:443/a@b\" # x", 0..6).to_string();
        assert!(shown.contains("https://***********@b\" # x"), "{shown}");
        let shown = place("url = \"http://mp/CCM\"", 0..3).to_string();
        assert!(shown.contains("http://mp/CCM"), "{shown}");
    }

    #[test]
    fn an_empty_file_has_a_first_line() {
        assert_eq!(place("", 0..0).to_string(), " --> f.toml:1:1\n  |\n1 | \n  | ^");
    }

    #[test]
    fn columns_count_characters_not_octets() {
        let text = "# é\nü = \"ß\" ß";
        let found = place(text, text.len() - 2..text.len());
        assert_eq!((found.line(), found.column()), (2, 9));
    }

    #[test]
    fn spans_out_of_range_or_inside_a_character_do_not_panic() {
        for start in 0..8 {
            for end in 0..8 {
                let _ = place("é\nü", start..end).to_string();
            }
        }
    }

    #[test]
    fn of_a_long_line_only_the_surroundings_are_shown() {
        let text = format!("{}fault{}", "x".repeat(1000), "y".repeat(1000));
        let found = place(&text, 1000..1005);
        assert_eq!(found.shown.len(), SHOWN_CHARS_MAX);
        assert_eq!(&found.shown[found.before..found.before + found.marked], "fault");
        assert_eq!(found.column(), 1001);
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert!(!place("a = \"\u{1b}[2J\"", 0..1).to_string().contains('\u{1b}'));
    }
}
