//! The files of the package, and whether others are the same.

use std::fs::{self, File};
use std::io::{BufWriter, Read as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};

/// Octets that are written or compared at once.
const PIECE: usize = 1 << 20;

/// Files of one folder of the package.
const FOLDER_FILES: usize = 100;

/// A folder of files that no compression makes smaller.
pub(crate) struct Source {
    folder: PathBuf,
    names: Vec<String>,
    octets: u64,
}

impl Source {
    /// Writes `files` files of `mebibytes` in all to `folder`: the first has a quarter, the others
    /// between nothing and twice the mean.
    pub(crate) fn write(folder: &Path, files: u32, mebibytes: u32) -> anyhow::Result<Self> {
        let mut random = fastrand::Rng::with_seed(7);
        let all = u64::from(mebibytes) << 20;
        let mut left = all - all / 4;
        let mut sizes = vec![all / 4];
        for after in (0..u64::from(files) - 1).rev() {
            let mean = left / (after + 1);
            let size = if after == 0 { left } else { random.u64(0..=mean * 2).min(left) };
            left -= size;
            sizes.push(size);
        }
        let mut names = Vec::new();
        for (number, size) in sizes.into_iter().enumerate() {
            let name = format!("{:03}/{number:05}.cab", number / FOLDER_FILES);
            let path = folder.join(&name);
            fs::create_dir_all(path.parent().context("it was joined")?)?;
            fill(&path, size, &mut random)?;
            names.push(name);
        }
        Ok(Self { folder: folder.to_owned(), names, octets: all })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn octets(&self) -> u64 {
        self.octets
    }

    /// Compares every octet with what is in `folder`.
    ///
    /// # Errors
    ///
    /// If a file is missing or differs.
    pub(crate) fn check(&self, folder: &Path) -> anyhow::Result<()> {
        for name in &self.names {
            let same = is_same(&self.folder.join(name), &folder.join(name))
                .with_context(|| format!("{name} of {}", folder.display()))?;
            ensure!(same, "{name} of {} is not what was put", folder.display());
        }
        Ok(())
    }
}

fn fill(path: &Path, octets: u64, random: &mut fastrand::Rng) -> anyhow::Result<()> {
    let mut file = BufWriter::new(File::create_new(path)?);
    let mut piece = vec![0; PIECE];
    let mut left = octets;
    while left > 0 {
        let size = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
        random.fill(&mut piece[..size]);
        file.write_all(&piece[..size])?;
        left -= size as u64;
    }
    Ok(file.flush()?)
}

fn is_same(one: &Path, other: &Path) -> anyhow::Result<bool> {
    let mut files = [File::open(one)?, File::open(other)?];
    let mut pieces = [Vec::with_capacity(PIECE), Vec::with_capacity(PIECE)];
    loop {
        for (file, piece) in files.iter_mut().zip(&mut pieces) {
            piece.clear();
            file.take(PIECE as u64).read_to_end(piece)?;
        }
        if pieces[0] != pieces[1] || pieces[0].is_empty() {
            return Ok(pieces[0] == pieces[1]);
        }
    }
}

/// Octets of all files below `folder`; nothing if it is not there. Files come and go meanwhile.
pub(crate) fn octets_below(folder: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let entries = entries.filter_map(Result::ok);
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(it) if it.is_dir() => octets_below(&entry.path()),
        // What stands beside a part says where it is from.
        Ok(it) if entry.path().extension().is_none_or(|it| it != "json") => it.len(),
        _ => 0,
    });
    sizes.sum()
}
