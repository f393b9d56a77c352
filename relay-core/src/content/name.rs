//! What packages and their files are called.

use std::fmt;
use std::str::FromStr;

/// Longest name of a file, in octets of UTF-8.
pub const FILE_NAME_OCTETS_MAX: usize = 512;

/// Longest segment of such a name: what the file systems in use take.
pub const SEGMENT_OCTETS_MAX: usize = 255;

/// Longest id of a package, in octets.
pub const PACKAGE_ID_OCTETS_MAX: usize = 64;

/// Names that are devices on Windows, with whatever extension.
// Source: Microsoft Learn, "Naming Files, Paths, and Namespaces".
const DEVICES: [&str; 6] = ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"];

/// What is one with a digit behind it; to Windows the raised 1, 2 and 3 are digits.
const NUMBERED_DEVICES: [&str; 2] = ["COM", "LPT"];

/// What a package is called, such as `PS100012`. Letters are upper-case, however they were written:
/// no two packages differ by that alone.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PackageId(String);

/// What a file of a package is called: a relative path with `/` between its segments, which means
/// the same on every system that a client may run. Joined to any folder it stays below it.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct FileName(String);

/// Why a text names no package or file. The fault of whoever has written it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum NameFault {
    /// There is none.
    #[error("it is empty; give it a name")]
    Empty,
    /// The whole is too long.
    #[error("it is longer than {0} octets; shorten it")]
    TooLong(usize),
    /// A segment is too long.
    #[error("a segment is longer than {SEGMENT_OCTETS_MAX} octets; shorten it")]
    SegmentTooLong,
    /// It begins or ends with `/`, or has two in a row.
    #[error("it has an empty segment; write it relative, with one `/` between segments")]
    EmptySegment,
    /// A segment is `.` or `..`, or ends in a dot or a space, which Windows drops.
    #[error("a segment is `.` or `..`, or ends in a dot or a space; rename it")]
    Dots,
    /// A character that is a separator, a wildcard or a control character to some system.
    #[error("it has `\\`, a control character, or one of < > : \" | ? *; rename it")]
    Character,
    /// A device of Windows.
    #[error("a segment is the name of a device on Windows; rename it")]
    Device,
    /// What no id of a package has.
    #[error(
        "a package's id has letters, digits, `.`, `_` and `-`, and begins with one of the former"
    )]
    NotAnId,
}

impl PackageId {
    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PackageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for PackageId {
    type Err = NameFault;

    fn from_str(text: &str) -> Result<Self, NameFault> {
        if text.is_empty() {
            return Err(NameFault::Empty);
        }
        if text.len() > PACKAGE_ID_OCTETS_MAX {
            return Err(NameFault::TooLong(PACKAGE_ID_OCTETS_MAX));
        }
        let is_of_id = |octet: u8| octet.is_ascii_alphanumeric() || b"._-".contains(&octet);
        if !text.bytes().all(is_of_id) || !text.starts_with(|it: char| it.is_ascii_alphanumeric()) {
            return Err(NameFault::NotAnId);
        }
        check_segment(text)?;
        Ok(Self(text.to_ascii_uppercase()))
    }
}

impl FileName {
    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What is the same of two names that a system which knows no case cannot tell apart.
    pub(super) fn folded(&self) -> String {
        // Upper case first: some letters have two lower ones.
        self.0.to_uppercase().to_lowercase()
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for FileName {
    type Err = NameFault;

    fn from_str(text: &str) -> Result<Self, NameFault> {
        if text.is_empty() {
            return Err(NameFault::Empty);
        }
        if text.len() > FILE_NAME_OCTETS_MAX {
            return Err(NameFault::TooLong(FILE_NAME_OCTETS_MAX));
        }
        text.split('/').try_for_each(check_segment)?;
        Ok(Self(text.to_owned()))
    }
}

fn check_segment(segment: &str) -> Result<(), NameFault> {
    if segment.is_empty() {
        return Err(NameFault::EmptySegment);
    }
    if segment.len() > SEGMENT_OCTETS_MAX {
        return Err(NameFault::SegmentTooLong);
    }
    if segment.contains(|it: char| it.is_control() || "\\<>:\"|?*".contains(it)) {
        return Err(NameFault::Character);
    }
    if segment.ends_with(['.', ' ']) {
        return Err(NameFault::Dots);
    }
    if is_device(segment) { Err(NameFault::Device) } else { Ok(()) }
}

fn is_device(segment: &str) -> bool {
    let stem = segment.split('.').next().unwrap_or_default().trim_end_matches(' ');
    let stem = stem.to_ascii_uppercase();
    let is_numbered = |name: &&str| {
        let mut rest = stem.strip_prefix(*name).unwrap_or_default().chars();
        let digit = rest.next().is_some_and(|it| it.is_ascii_digit() || "¹²³".contains(it));
        digit && rest.next().is_none()
    };
    DEVICES.contains(&&*stem) || NUMBERED_DEVICES.iter().any(is_numbered)
}

#[cfg(test)]
mod tests {
    use std::path::{Component, Path};

    use proptest::prelude::*;

    use super::*;

    fn file(text: &str) -> Result<FileName, NameFault> {
        text.parse()
    }

    #[test]
    fn a_file_is_called_by_what_every_system_takes_for_the_same_path() {
        for good in [
            "a",
            "setup.exe",
            "Data/x86/driver (2).cab",
            "a/b/c/d/e",
            ".hidden",
            "a..b",
            "...a",
            "Größe/日本",
            "com",
            "com10",
            "console",
            "lpt.txt",
            "c++ & 100%.cab",
        ] {
            assert_eq!(file(good).map(|it| it.to_string()), Ok(good.to_owned()));
        }
        for (bad, why) in [
            ("", NameFault::Empty),
            ("/", NameFault::EmptySegment),
            ("/etc/passwd", NameFault::EmptySegment),
            ("//host/share", NameFault::EmptySegment),
            ("a//b", NameFault::EmptySegment),
            ("a/", NameFault::EmptySegment),
            (".", NameFault::Dots),
            ("..", NameFault::Dots),
            ("../a", NameFault::Dots),
            ("a/../b", NameFault::Dots),
            ("a/.", NameFault::Dots),
            ("a. /b", NameFault::Dots),
            ("a.", NameFault::Dots),
            ("a ", NameFault::Dots),
            ("..\\a", NameFault::Character),
            ("a\\b", NameFault::Character),
            ("C:", NameFault::Character),
            ("C:/a", NameFault::Character),
            ("a:stream", NameFault::Character),
            ("a\0", NameFault::Character),
            ("a\nb", NameFault::Character),
            ("a\u{7f}", NameFault::Character),
            ("a\u{85}", NameFault::Character),
            ("*", NameFault::Character),
            ("a?", NameFault::Character),
            ("<a>", NameFault::Character),
            ("nul", NameFault::Device),
            ("NUL.txt", NameFault::Device),
            ("a/Con .tar.gz", NameFault::Device),
            ("com1", NameFault::Device),
            ("b/LPT0.a", NameFault::Device),
            ("COM²", NameFault::Device),
            ("conin$", NameFault::Device),
        ] {
            assert_eq!(file(bad), Err(why), "{bad:?}");
        }
    }

    #[test]
    fn a_name_has_512_octets_and_each_segment_255_at_most() {
        let long = |octets: usize| "a".repeat(octets);
        assert!(file(&long(SEGMENT_OCTETS_MAX)).is_ok());
        assert_eq!(file(&long(SEGMENT_OCTETS_MAX + 1)), Err(NameFault::SegmentTooLong));
        let segments = |last: usize| format!("{0}/{0}/{1}", long(250), long(last));
        assert!(file(&segments(FILE_NAME_OCTETS_MAX - 502)).is_ok());
        let above = segments(FILE_NAME_OCTETS_MAX - 501);
        assert_eq!(file(&above), Err(NameFault::TooLong(FILE_NAME_OCTETS_MAX)));
    }

    #[test]
    fn a_package_is_called_by_one_plain_segment_in_capitals() {
        let package = |text: &str| text.parse::<PackageId>().map(|it| it.to_string());
        for good in ["PS100012", "ps100012", "Content_0a1b-2.1", "7"] {
            assert_eq!(package(good), Ok(good.to_ascii_uppercase()));
        }
        for (bad, why) in [
            ("", NameFault::Empty),
            (".", NameFault::NotAnId),
            ("..", NameFault::NotAnId),
            ("-a", NameFault::NotAnId),
            ("a/b", NameFault::NotAnId),
            ("a b", NameFault::NotAnId),
            ("é", NameFault::NotAnId),
            ("a\0", NameFault::NotAnId),
            ("a.", NameFault::Dots),
            ("nul", NameFault::Device),
        ] {
            assert_eq!(package(bad), Err(why), "{bad:?}");
        }
        assert!(package(&"a".repeat(PACKAGE_ID_OCTETS_MAX)).is_ok());
        let above = package(&"a".repeat(PACKAGE_ID_OCTETS_MAX + 1));
        assert_eq!(above, Err(NameFault::TooLong(PACKAGE_ID_OCTETS_MAX)));
    }

    proptest! {
        #[test]
        fn what_is_accepted_stays_below_whatever_folder_it_is_joined_to(
            text in "[a-cC/.\\\\: \u{e9}]{0,12}",
            base in "(/[a-z.]{1,4}){0,3}",
        ) {
            let Ok(name) = file(&text) else { return Ok(()) };
            prop_assert_eq!(file(name.as_str()), Ok(name.clone()));
            let relative = Path::new(name.as_str());
            prop_assert!(relative.components().all(|it| matches!(it, Component::Normal(_))));
            let joined = Path::new(&base).join(relative);
            prop_assert!(joined.starts_with(&base) && joined.ends_with(relative));
            prop_assert_eq!(joined.components().count(),
                Path::new(&base).components().count() + relative.components().count());
        }
    }
}
