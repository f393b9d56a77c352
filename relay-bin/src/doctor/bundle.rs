//! The bundle: texts in a compressed archive, written whole or not at all.

use std::fs::Metadata;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use flate2::Compression;
use flate2::write::GzEncoder;
use tempfile::NamedTempFile;

use super::veil::Veil;

/// Octets of one member, at most; what is longer is cut at its end, and says so.
pub(super) const MEMBER_OCTETS_MAX: usize = 4 << 20;

/// The folder that all members are in.
const FOLDER: &str = "relay-doctor";

/// Why no bundle was written. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum BundleError {
    /// Something has the name already.
    #[error("{} exists; nothing was written. Give another name as --output", .0.display())]
    Exists(PathBuf),
    /// The folder takes no file, or the disk is full.
    #[error(
        "cannot write {}: {source}; nothing of it is left. Give a place as --output that has room \
         and that this account may write to", file.display()
    )]
    Write {
        /// Where it was to be.
        file: PathBuf,
        /// What happened.
        source: io::Error,
    },
}

/// What is in a bundle, in order.
#[derive(Default)]
pub(super) struct Bundle {
    members: Vec<Member>,
}

/// One text. It holds no secret any more.
pub(super) struct Member {
    pub(super) name: &'static str,
    /// What it is, in a few words.
    pub(super) what: &'static str,
    pub(super) text: String,
}

impl Bundle {
    /// Adds a text without its secrets, and as much of it as a member may have.
    pub(super) fn add(&mut self, veil: &Veil, name: &'static str, what: &'static str, text: &str) {
        let text = cut(veil.text(text), MEMBER_OCTETS_MAX);
        self.members.push(Member { name, what, text });
    }

    pub(super) fn members(&self) -> &[Member] {
        &self.members
    }

    /// Writes it into a file that is not there yet, for its owner alone.
    ///
    /// # Errors
    ///
    /// [`BundleError`]: nothing is left of it.
    pub(super) fn write(&self, file: &Path) -> Result<Metadata, BundleError> {
        let failed = |source| BundleError::Write { file: file.to_owned(), source };
        let staged = self.staged(folder(file)).map_err(failed)?;
        let metadata = staged.as_file().metadata().map_err(failed)?;
        staged.persist_noclobber(file).map_err(|error| match error.error.kind() {
            io::ErrorKind::AlreadyExists => BundleError::Exists(file.to_owned()),
            _ => failed(error.error),
        })?;
        Ok(metadata)
    }

    /// The archive beside its place, on the disk. It goes when it is dropped.
    fn staged(&self, folder: &Path) -> io::Result<NamedTempFile> {
        // Its owner alone may read such a file.
        let staged = tempfile::Builder::new().prefix(".relay-doctor-").tempfile_in(folder)?;
        let zipped = GzEncoder::new(BufWriter::new(staged.as_file()), Compression::default());
        let mut archive = tar::Builder::new(zipped);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        for member in &self.members {
            let mut header = tar::Header::new_gnu();
            header.set_size(member.text.len() as u64);
            header.set_mode(0o600);
            header.set_mtime(now);
            let path = format!("{FOLDER}/{}", member.name);
            archive.append_data(&mut header, path, member.text.as_bytes())?;
        }
        let mut buffer = archive.into_inner()?.finish()?;
        buffer.flush()?;
        drop(buffer);
        staged.as_file().sync_all()?;
        Ok(staged)
    }
}

/// Whether something has that name.
pub(super) fn ensure_free(file: &Path) -> Result<(), BundleError> {
    match file.symlink_metadata() {
        Ok(_) => Err(BundleError::Exists(file.to_owned())),
        Err(_) => Ok(()),
    }
}

fn folder(file: &Path) -> &Path {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// As much of a text as `max` octets hold, whole lines, with a last one that says so.
fn cut(mut text: String, max: usize) -> String {
    if text.len() <= max {
        return text;
    }
    let whole = text.len();
    let end = (0..=max).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let end = text[..end].rfind('\n').map_or(end, |at| at + 1);
    text.truncate(end);
    text + &format!("[cut here: {end} of {whole} octets]\n")
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn a_member_is_cut_one_octet_beyond_its_limit_behind_a_whole_line_and_not_before() {
        let text = |len: usize| "123456789\n".repeat(len / 10) + &"x".repeat(len % 10);
        assert_eq!(cut(text(100), 100), text(100));
        assert_eq!(cut(text(101), 100), text(100) + "[cut here: 100 of 101 octets]\n");
        assert_eq!(cut(text(109), 105), text(100) + "[cut here: 100 of 109 octets]\n");
        assert_eq!(cut("ééé".to_owned(), 3), "é[cut here: 2 of 6 octets]\n");
        let mut bundle = Bundle::default();
        for len in [MEMBER_OCTETS_MAX, MEMBER_OCTETS_MAX + 1] {
            let line = "x".repeat(1023) + "\n";
            bundle.add(&Veil::default(), "a.txt", "a", &line.repeat(len / 1000)[..len]);
        }
        let is_cut = bundle.members().iter().map(|it| it.text.contains("[cut here: "));
        assert_eq!(is_cut.collect::<Vec<_>>(), [false, true]);
    }

    #[test]
    fn what_was_added_is_read_again_and_secrets_are_not() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("b.tar.gz");
        let mut bundle = Bundle::default();
        let veil = Veil::knowing(["hunter2".to_owned()]);
        bundle.add(&veil, "one.txt", "one", "a hunter2\n");
        bundle.add(&veil, "two.txt", "two", "");
        bundle.write(&file).unwrap();
        let octets = std::fs::read(&file).unwrap();
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(&octets[..]));
        let members = archive.entries().unwrap().map(|member| {
            let mut member = member.unwrap();
            let mut text = String::new();
            member.read_to_string(&mut text).unwrap();
            (member.path().unwrap().display().to_string(), text)
        });
        let expected = [("relay-doctor/one.txt", "a [veiled]\n"), ("relay-doctor/two.txt", "")];
        let expected = expected.map(|(name, text)| (name.to_owned(), text.to_owned()));
        assert_eq!(members.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn nothing_that_exists_is_replaced_and_nothing_half_written_is_left() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("b.tar.gz");
        std::fs::write(&file, "mine").unwrap();
        assert!(matches!(ensure_free(&file), Err(BundleError::Exists(_))));
        let written = Bundle::default().write(&file);
        assert!(matches!(written, Err(BundleError::Exists(_))), "{written:?}");
        assert_eq!(std::fs::read(&file).unwrap(), b"mine");
        assert_eq!(std::fs::read_dir(home.path()).unwrap().count(), 1);
        let nowhere = home.path().join("absent/b.tar.gz");
        assert!(matches!(Bundle::default().write(&nowhere), Err(BundleError::Write { .. })));
        assert!(ensure_free(&nowhere).is_ok());
    }
}
