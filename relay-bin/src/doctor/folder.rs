//! Which files are in the folder of a configuration: never what is in them.

use std::fmt::Write as _;
use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::bundle::Bundle;
use super::veil::Veil;
use super::{PROOF, rfc3339};

/// Files that are listed, at most: a store of content in the folder has thousands.
const FILES_MAX: usize = 1000;

/// Folders below each other that are looked into.
const DEPTH_MAX: usize = 4;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Listing {
    lines: Vec<String>,
    is_cut: bool,
    /// Files that are named as certificates are.
    pub(super) certificates: Vec<PathBuf>,
    /// When the last one was written.
    pub(super) newest: Option<SystemTime>,
}

impl Listing {
    /// Lists the files of `folder`, the names in order.
    pub(super) fn of(folder: &Path) -> Self {
        let mut listing = Self::default();
        listing.look(folder, DEPTH_MAX);
        listing
    }

    pub(super) fn add_to(&self, veil: &Veil, bundle: &mut Bundle) {
        let mut text = "mode  owner:group  octets  written  name\n".to_owned();
        for line in &self.lines {
            text.push_str(line);
            text.push('\n');
        }
        if self.is_cut {
            writeln!(text, "[cut here: {FILES_MAX} are listed]").expect(PROOF);
        }
        let what = "files in the folder of the configuration: no word of what is in them";
        bundle.add(veil, "files.txt", what, &text);
    }

    fn look(&mut self, folder: &Path, depth: usize) {
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(error) => return self.lines.push(format!("{}: {error}", folder.display())),
        };
        // What a folder has beyond that is not listed anyway.
        let mut paths: Vec<_> =
            entries.filter_map(Result::ok).map(|it| it.path()).take(FILES_MAX + 1).collect();
        paths.sort();
        for path in paths {
            if self.lines.len() >= FILES_MAX {
                self.is_cut = true;
                return;
            }
            let metadata = match fs::symlink_metadata(&path) {
                Ok(metadata) => metadata,
                Err(error) => {
                    self.lines.push(format!("{}: {error}", path.display()));
                    continue;
                }
            };
            self.list(&path, &metadata);
            if metadata.is_dir() && depth > 1 {
                self.look(&path, depth - 1);
            }
        }
    }

    fn list(&mut self, path: &Path, metadata: &Metadata) {
        let written = metadata.modified().ok();
        let is_certificate = |it: &Path| {
            it.extension()
                .is_some_and(|end| ["pem", "crt", "cer"].iter().any(|known| end == *known))
        };
        if metadata.is_file() {
            self.newest = self.newest.max(written);
            self.certificates.extend(is_certificate(path).then(|| path.to_owned()));
        }
        let leads_to = fs::read_link(path).map(|to| format!(" -> {}", to.display()));
        let leads_to = leads_to.unwrap_or_default();
        let (rights, written) = (rights(metadata), written.map(rfc3339).unwrap_or_default());
        let (octets, shown) = (metadata.len(), path.display());
        self.lines.push(format!("{rights}  {octets}  {written}  {shown}{leads_to}"));
    }
}

#[cfg(unix)]
fn rights(metadata: &Metadata) -> String {
    use std::os::unix::fs::MetadataExt as _;
    format!("{:06o}  {}:{}", metadata.mode(), metadata.uid(), metadata.gid())
}

#[cfg(not(unix))]
fn rights(metadata: &Metadata) -> String {
    if metadata.permissions().readonly() { "readonly".to_owned() } else { "writable".to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_files_as_may_be_are_listed_and_of_one_more_it_is_told() {
        let home = tempfile::tempdir().unwrap();
        for number in 0..FILES_MAX {
            fs::write(home.path().join(format!("f{number:04}")), "hunter2").unwrap();
        }
        let listing = Listing::of(home.path());
        assert_eq!((listing.lines.len(), listing.is_cut), (FILES_MAX, false));
        fs::write(home.path().join("one-more"), "").unwrap();
        let listing = Listing::of(home.path());
        assert_eq!((listing.lines.len(), listing.is_cut), (FILES_MAX, true));
        assert!(listing.lines.iter().all(|it| !it.contains("hunter2")));
    }

    #[cfg(unix)]
    #[test]
    fn a_line_has_mode_owner_size_and_time_and_links_are_not_followed() {
        use std::os::unix::fs::PermissionsExt as _;
        let home = tempfile::tempdir().unwrap();
        let key = home.path().join("a-key.pem");
        fs::write(&key, "12345").unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("/", home.path().join("root")).unwrap();
        let listing = Listing::of(home.path());
        let [file, link] = &listing.lines[..] else { panic!("{listing:?}") };
        assert!(file.starts_with("100640  ") && file.contains("  5  2"), "{file}");
        assert!(link.ends_with("/root -> /"), "{link}");
        assert_eq!(listing.certificates, [key]);
        assert!(listing.newest.is_some());
    }
}
