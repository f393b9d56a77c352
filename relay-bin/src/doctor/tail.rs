//! Reads the end of a log, and files of which nobody knows how long they are.

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

/// Octets of a log that are read, at most: its end.
pub(super) const LOG_OCTETS_MAX: u64 = 1 << 20;

/// Whole lines at the end of a file, as many as `max` octets hold, and what is before them.
///
/// # Errors
///
/// It is no file, or cannot be read.
pub(super) fn tail(file: &Path, max: u64) -> io::Result<String> {
    let mut file = open(file)?;
    let len = file.metadata()?.len();
    let skipped = len.saturating_sub(max);
    // With the octet before: if that ends a line, the next is whole.
    let from = skipped.saturating_sub(1);
    file.seek(SeekFrom::Start(from))?;
    let mut octets = Vec::new();
    file.take(len - from).read_to_end(&mut octets)?;
    let mut begin = 0;
    if skipped > 0 {
        begin = octets.iter().position(|it| *it == b'\n').map_or(octets.len(), |at| at + 1);
    }
    let text = String::from_utf8_lossy(&octets[begin..]).into_owned();
    let before = from + begin as u64;
    Ok(if before == 0 { text } else { format!("[{before} octets before this]\n{text}") })
}

/// The beginning of a file, of `max` octets at most.
///
/// # Errors
///
/// As [`tail`].
pub(super) fn head(file: &Path, max: u64) -> io::Result<String> {
    let mut octets = Vec::new();
    open(file)?.take(max).read_to_end(&mut octets)?;
    Ok(String::from_utf8_lossy(&octets).into_owned())
}

/// Opens a file; a pipe would have whoever opens it wait.
fn open(file: &Path) -> io::Result<File> {
    if !fs::metadata(file)?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
    }
    File::open(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tail_of(text: &str, max: u64) -> String {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("log");
        fs::write(&file, text).unwrap();
        tail(&file, max).unwrap()
    }

    #[test]
    fn a_log_as_long_as_the_limit_is_whole_and_of_one_octet_more_the_first_line_goes() {
        assert_eq!(tail_of("one\ntwo\n", 8), "one\ntwo\n");
        assert_eq!(tail_of("one\ntwo\n", 7), "[4 octets before this]\ntwo\n");
        assert_eq!(tail_of("one\ntwo\n", 4), "[4 octets before this]\ntwo\n");
        assert_eq!(tail_of("one\ntwo\n", 3), "[8 octets before this]\n");
        assert_eq!(tail_of("one\ntwo", 5), "[4 octets before this]\ntwo");
        assert_eq!(tail_of("", 5), "");
        assert_eq!(tail_of("a line without an end", 5), "[21 octets before this]\n");
    }

    #[test]
    fn what_is_no_file_is_not_waited_for() {
        let home = tempfile::tempdir().unwrap();
        let kind = |it: io::Result<String>| it.unwrap_err().kind();
        assert_eq!(kind(tail(home.path(), 5)), io::ErrorKind::InvalidInput);
        assert_eq!(kind(head(&home.path().join("absent"), 5)), io::ErrorKind::NotFound);
        let file = home.path().join("f");
        fs::write(&file, "12345").unwrap();
        assert_eq!([4, 5, 6].map(|max| head(&file, max).unwrap()), ["1234", "12345", "12345"]);
    }
}
