//! Which files a package has.
//!
//! ```json
//! {"version":1,"package":"PS100012","files":[
//!  {"name":"Data/setup.exe","octets":70000,"sha256":"<64 hexadecimal digits>"}]}
//! ```

use std::collections::HashSet;
use std::fmt::Write as _;

use serde_json::json;

use crate::auth::{JsonObject, JsonValue};

use super::{FileName, NameFault, PackageId};

/// Files of one package.
pub const FILES_MAX: usize = 16_384;

/// Longest text of a manifest, in octets: 512 for each of as many files as there may be.
pub const MANIFEST_OCTETS_MAX: usize = 8 << 20;

/// Largest file, in octets: 1 TiB. So the sum over a package fits every number.
pub const FILE_OCTETS_MAX: u64 = 1 << 40;

/// The only version there is.
const VERSION: u64 = 1;

/// A file of a package.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ContentFile {
    /// What it is called.
    pub name: FileName,
    /// Its length.
    pub octets: u64,
    /// Its SHA-256: what a client holds it against, and its entity tag.
    pub sha256: [u8; 32],
}

impl ContentFile {
    /// Its hash in 64 lower-case hexadecimal digits.
    pub fn sha256_text(&self) -> String {
        self.sha256.iter().fold(String::with_capacity(64), |mut text, octet| {
            let _ = write!(text, "{octet:02x}");
            text
        })
    }
}

/// The files of a package, each once.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Manifest {
    package: PackageId,
    /// In the order of their names.
    files: Vec<ContentFile>,
}

/// Why something is no manifest. The fault of whoever has written it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestFault {
    /// More than 8 MiB.
    #[error("the manifest is longer than {MANIFEST_OCTETS_MAX} octets; divide the package")]
    TooLong,
    /// It is no JSON object of that form.
    #[error("it is no manifest of this version: {0}; put the package anew")]
    Malformed(&'static str),
    /// Of none.
    #[error("the package has no files; put some there")]
    NoFiles,
    /// More than 16,384.
    #[error("the package has more than {FILES_MAX} files; divide it")]
    TooManyFiles,
    /// A file is larger than 1 TiB.
    #[error("`{0}` is larger than {FILE_OCTETS_MAX} octets; divide it")]
    FileTooLarge(FileName),
    /// A name is none.
    #[error("a name in the manifest is none: {0}")]
    Name(#[from] NameFault),
    /// Two names cannot be told apart where case does not count.
    #[error("`{0}` is there twice, where upper and lower case count for the same; rename one")]
    Twice(FileName),
    /// What is a file by one name is a folder by another.
    #[error("`{0}` is a file, and another file lies below it; rename one")]
    FileAndFolder(FileName),
}

impl Manifest {
    /// The manifest of `package` with these files, in whatever order they are given.
    ///
    /// # Errors
    ///
    /// [`ManifestFault`].
    pub fn new(package: PackageId, files: Vec<ContentFile>) -> Result<Self, ManifestFault> {
        let manifest = Self::of(package, files)?;
        if manifest.to_json().len() > MANIFEST_OCTETS_MAX {
            return Err(ManifestFault::TooLong);
        }
        Ok(manifest)
    }

    /// Reads a manifest: every member must be there once, and none beside.
    ///
    /// # Errors
    ///
    /// [`ManifestFault`].
    pub fn read(text: &[u8]) -> Result<Self, ManifestFault> {
        if text.len() > MANIFEST_OCTETS_MAX {
            return Err(ManifestFault::TooLong);
        }
        let no_object = |_| ManifestFault::Malformed("no JSON object, or a member is there twice");
        let object = JsonObject::read(text).map_err(no_object)?;
        has_just(&object, &["version", "package", "files"])?;
        if object.get("version") != Some(&JsonValue::Integer(VERSION)) {
            return Err(ManifestFault::Malformed("`version` is not 1"));
        }
        let package = object.text("package").ok_or(ManifestFault::Malformed("`package`"))?;
        let Some(JsonValue::List(listed)) = object.get("files") else {
            return Err(ManifestFault::Malformed("`files` is no list"));
        };
        if listed.len() > FILES_MAX {
            return Err(ManifestFault::TooManyFiles);
        }
        let files = listed.iter().map(read_file).collect::<Result<_, _>>()?;
        // What is written of it is no longer than what was read: no name has anything to escape.
        Self::of(package.parse()?, files)
    }

    fn of(package: PackageId, mut files: Vec<ContentFile>) -> Result<Self, ManifestFault> {
        if files.is_empty() {
            return Err(ManifestFault::NoFiles);
        }
        if files.len() > FILES_MAX {
            return Err(ManifestFault::TooManyFiles);
        }
        if let Some(large) = files.iter().find(|it| it.octets > FILE_OCTETS_MAX) {
            return Err(ManifestFault::FileTooLarge(large.name.clone()));
        }
        files.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        let mut all = HashSet::with_capacity(files.len());
        for file in &files {
            if !all.insert(file.name.folded()) {
                return Err(ManifestFault::Twice(file.name.clone()));
            }
        }
        for file in &files {
            let name = file.name.folded();
            let mut folders = name.match_indices('/').filter_map(|(at, _)| name.get(..at));
            if folders.any(|folder| all.contains(folder)) {
                return Err(ManifestFault::FileAndFolder(file.name.clone()));
            }
        }
        Ok(Self { package, files })
    }

    /// The package.
    pub fn package(&self) -> &PackageId {
        &self.package
    }

    /// Its files, in the order of their names; at least one.
    pub fn files(&self) -> &[ContentFile] {
        &self.files
    }

    /// The file of that name, letter for letter.
    pub fn file(&self, name: &FileName) -> Option<&ContentFile> {
        let place = self.files.binary_search_by(|it| it.name.cmp(name)).ok()?;
        self.files.get(place)
    }

    /// The length of all files.
    pub fn octets(&self) -> u64 {
        self.files.iter().map(|it| it.octets).sum()
    }

    /// Its text, the same for the same files in whatever order they were given.
    pub fn to_json(&self) -> String {
        let package = json!(self.package.as_str());
        let mut text = format!("{{\"version\":{VERSION},\"package\":{package},\"files\":[");
        for (place, file) in self.files.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            let (name, octets) = (json!(file.name.as_str()), file.octets);
            let sha256 = file.sha256_text();
            let _ = write!(
                text,
                "{comma}\n{{\"name\":{name},\"octets\":{octets},\"sha256\":\"{sha256}\"}}"
            );
        }
        text + "]}\n"
    }
}

fn has_just(object: &JsonObject, names: &[&str]) -> Result<(), ManifestFault> {
    let is_known = |name: &str| names.contains(&name);
    if object.names().all(is_known) && object.names().count() == names.len() {
        return Ok(());
    }
    Err(ManifestFault::Malformed("a member is missing or unknown"))
}

fn read_file(value: &JsonValue) -> Result<ContentFile, ManifestFault> {
    let JsonValue::Object(file) = value else {
        return Err(ManifestFault::Malformed("a file is no object"));
    };
    has_just(file, &["name", "octets", "sha256"])?;
    let Some(&JsonValue::Integer(octets)) = file.get("octets") else {
        return Err(ManifestFault::Malformed("`octets` is no number"));
    };
    let sha256 = file.text("sha256").and_then(sha256);
    Ok(ContentFile {
        name: file.text("name").ok_or(ManifestFault::Malformed("`name` is no text"))?.parse()?,
        octets,
        sha256: sha256.ok_or(ManifestFault::Malformed("`sha256` is not 64 lower-case digits"))?,
    })
}

/// Reads 64 lower-case hexadecimal digits.
fn sha256(text: &str) -> Option<[u8; 32]> {
    let digit = |octet: u8| match octet {
        b'0'..=b'9' => Some(octet - b'0'),
        b'a'..=b'f' => Some(octet - b'a' + 10),
        _ => None,
    };
    let pairs = text.as_bytes().chunks(2).map(|pair| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    });
    pairs.collect::<Option<Vec<u8>>>()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str) -> ContentFile {
        ContentFile { name: name.parse().unwrap(), octets: 5, sha256: [0xab; 32] }
    }

    fn manifest(names: &[&str]) -> Result<Manifest, ManifestFault> {
        let files = names.iter().map(|name| file(name)).collect();
        Manifest::new("PS100012".parse().unwrap(), files)
    }

    #[test]
    fn a_manifest_is_written_the_same_in_whatever_order_its_files_are_given_and_read_back() {
        let one = manifest(&["b/x", "a", "Größe \"".trim_end_matches(" \"")]).unwrap();
        let other = manifest(&["Größe", "a", "b/x"]).unwrap();
        assert_eq!(one.to_json(), other.to_json());
        assert_eq!(Manifest::read(one.to_json().as_bytes()), Ok(one.clone()));
        assert_eq!(one.octets(), 15);
        assert_eq!(one.file(&"b/x".parse().unwrap()), Some(&file("b/x")));
        assert_eq!(one.file(&"B/x".parse().unwrap()), None);
        let digits = "ab".repeat(32);
        assert!(one.to_json().starts_with("{\"version\":1,\"package\":\"PS100012\",\"files\":["));
        assert!(one.to_json().contains(&format!("\"octets\":5,\"sha256\":\"{digits}\"")));
    }

    #[test]
    fn names_that_some_systems_cannot_tell_apart_are_refused() {
        for names in [&["a", "A"][..], &["a", "a"], &["Größe", "GRÖSSE"], &["k", "\u{212a}"]] {
            assert!(matches!(manifest(names), Err(ManifestFault::Twice(_))), "{names:?}");
        }
        for names in [&["a", "a/b"][..], &["A/b", "a"], &["x/y", "x/Y/z"]] {
            assert!(matches!(manifest(names), Err(ManifestFault::FileAndFolder(_))), "{names:?}");
        }
        assert!(manifest(&["a", "ab/c", "a.b"]).is_ok());
    }

    #[test]
    fn what_is_not_just_a_manifest_is_refused() {
        let good = manifest(&["a"]).unwrap().to_json();
        assert!(Manifest::read(good.as_bytes()).is_ok());
        for (from, to) in [
            ("\"version\":1", "\"version\":2"),
            ("\"version\":1", "\"version\":\"1\""),
            ("\"version\":1,", ""),
            ("\"version\":1", "\"version\":1,\"more\":1"),
            ("\"version\":1", "\"version\":1,\"version\":1"),
            ("\"octets\":5", "\"octets\":5.0"),
            ("\"octets\":5", "\"octets\":-5"),
            ("\"octets\":5", "\"octets\":\"5\""),
            ("\"octets\":5", "\"octets\":5,\"url\":\"x\""),
            ("abab", "ABAB"),
            ("abab", "ab"),
            ("abab", "abxy"),
            ("[\n{", "[1,{"),
        ] {
            let text = good.replacen(from, to, 1);
            assert_ne!(text, good, "{from}");
            let read = Manifest::read(text.as_bytes());
            assert!(matches!(read, Err(ManifestFault::Malformed(_))), "{to}: {read:?}");
        }
        let tricky = good.replacen("\"a\"", "\"../a\"", 1);
        assert_eq!(Manifest::read(tricky.as_bytes()), Err(ManifestFault::Name(NameFault::Dots)));
        let tricky = good.replacen("PS100012", "../..", 1);
        let fault = ManifestFault::Name(NameFault::NotAnId);
        assert_eq!(Manifest::read(tricky.as_bytes()), Err(fault));
    }

    #[test]
    fn each_bound_holds_on_both_sides() {
        assert_eq!(manifest(&[]), Err(ManifestFault::NoFiles));
        let many = |count: usize| -> Vec<ContentFile> {
            (0..count).map(|number| file(&number.to_string())).collect()
        };
        let package = || "A".parse::<PackageId>().unwrap();
        let most = Manifest::new(package(), many(FILES_MAX)).unwrap();
        assert_eq!(Manifest::read(most.to_json().as_bytes()), Ok(most));
        let above = Manifest::new(package(), many(FILES_MAX + 1));
        assert_eq!(above, Err(ManifestFault::TooManyFiles));
        let sized = |octets| Manifest::new(package(), vec![ContentFile { octets, ..file("a") }]);
        assert!(sized(FILE_OCTETS_MAX).is_ok());
        let large = ManifestFault::FileTooLarge("a".parse().unwrap());
        assert_eq!(sized(FILE_OCTETS_MAX + 1), Err(large));
        let mut text = manifest(&["a"]).unwrap().to_json().into_bytes();
        text.resize(MANIFEST_OCTETS_MAX, b' ');
        assert!(Manifest::read(&text).is_ok());
        text.push(b' ');
        assert_eq!(Manifest::read(&text), Err(ManifestFault::TooLong));
        let long = |number: usize| file(&format!("{0}/{0}/{number}", "n".repeat(250)));
        let wide: Vec<_> = (0..FILES_MAX).map(long).collect();
        assert_eq!(Manifest::new(package(), wide), Err(ManifestFault::TooLong));
    }
}
