//! Putting packages into a store elsewhere, listing and removing them.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use object_store::path::Path as Place;
use object_store::{
    Error, MultipartUpload, ObjectMeta, ObjectStore as _, ObjectStoreExt as _, PutMode, PutOptions,
    UpdateVersion,
};
use relay_core::config::CloudConfig;
use relay_core::content::{ContentFile, Manifest, PackageId};
use relay_core::gateway::{ContentStore as _, StoreFault};
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, block_in_place, spawn_blocking};

use super::super::put::{Listed, Put, Wanted, pour, wanted};
use super::super::store::MANIFEST;
use super::objects::{Objects, Patience, failed};
use super::runtime;
use super::store::CloudStore;
use crate::progress::Progress;

/// Files that are sent at once.
const AT_ONCE_MAX: usize = 8;

/// Parts that are sent at once, of all files: each is in memory.
const PARTS_MAX: usize = 8;

/// Octets of a part, and of the largest file that is sent in one.
const PART_OCTETS: u64 = 8 << 20;

/// Parts of one file. S3 takes no more, and Azure five times as many.
// Source: Amazon S3 User Guide, "Amazon S3 multipart upload limits".
const PARTS_OF_FILE_MAX: u64 = 10_000;

/// Requests may carry a part over a slow line.
const PATIENCE: Patience =
    Patience { request: Duration::from_mins(5), retries: 5, all: Duration::from_mins(3) };

/// Octets of each part of a file of so many: 8 MiB, or more where that would be too many parts.
fn part_octets(octets: u64) -> u64 {
    octets.div_ceil(PARTS_OF_FILE_MAX).max(PART_OCTETS)
}

/// A package that is being sent.
struct Job {
    objects: Objects,
    package: PackageId,
    wanted: Vec<Wanted>,
    /// Files that are there already by their hashes, with their lengths.
    there: HashMap<String, u64>,
    next: AtomicUsize,
    parts: Arc<Semaphore>,
    progress: Progress,
}

/// Puts the files of `source` as `package` into the store, in place of what the package had before.
///
/// Clients see the package as it was, until all of it is there. Whoever is interrupted puts it
/// again: files that are there already, by their hash and length, are not sent twice. Of two puts
/// at once one is published, and the other is told.
///
/// # Errors
///
/// What cannot be read, sent or named so. What was published before still is.
pub(in super::super) fn put(
    cloud: &CloudConfig,
    package: &PackageId,
    source: &Path,
) -> anyhow::Result<Put> {
    let wanted = wanted(package, source)?;
    let objects = Objects::open(cloud, PATIENCE)?;
    runtime()?.block_on(send(objects, package.clone(), wanted))
}

async fn send(objects: Objects, package: PackageId, wanted: Vec<Wanted>) -> anyhow::Result<Put> {
    let unfinished = || {
        format!(
            "package {package} was not published; what is in the store already is not sent again \
             by the next put"
        )
    };
    let before = version(&objects, &package).await.with_context(unfinished)?;
    let there = there(&objects, &package).await.with_context(unfinished)?;
    let progress = Progress::new();
    progress.of(wanted.iter().map(|it| it.octets).sum());
    let job = Arc::new(Job {
        objects: objects.clone(),
        package: package.clone(),
        wanted,
        there,
        next: AtomicUsize::new(0),
        parts: Arc::new(Semaphore::new(PARTS_MAX)),
        progress,
    });
    let (files, copied) = send_all(&job).await.with_context(unfinished)?;
    job.progress.clear();
    let manifest = Manifest::new(package.clone(), files).with_context(unfinished)?;
    // A put or a removal that has ended meanwhile may have cleared away what was counted on.
    let kept = self::there(&objects, &package).await.with_context(unfinished)?;
    let gone = |it: &&ContentFile| kept.get(&it.sha256_text()) != Some(&it.octets);
    if let Some(gone) = manifest.files().iter().find(gone) {
        let why = anyhow!("`{}` was removed meanwhile; put the package again", gone.name);
        return Err(why.context(unfinished()));
    }
    let published = publish(&objects, &manifest, before).await.with_context(unfinished)?;
    clear(&objects, &manifest, published).await.context("the package is published")?;
    Ok(Put { manifest, copied })
}

/// The manifest that is there now, so that no other is replaced.
async fn version(objects: &Objects, package: &PackageId) -> anyhow::Result<Option<UpdateVersion>> {
    match objects.store.head(&objects.manifest(package)).await {
        Ok(ObjectMeta { e_tag, version, .. }) => Ok(Some(UpdateVersion { e_tag, version })),
        Err(Error::NotFound { .. }) => Ok(None),
        Err(why) => Err(failed(why)),
    }
}

/// Files of a package that are there, by their hashes, with their lengths.
async fn there(objects: &Objects, package: &PackageId) -> anyhow::Result<HashMap<String, u64>> {
    let found = objects.below(&objects.shelf(package)).await.map_err(failed)?;
    let named = |it: ObjectMeta| Some((it.location.filename()?.to_owned(), it.size));
    Ok(found.into_iter().filter_map(named).collect())
}

/// Has each file in the store, several at once. Returns them, and how many octets were sent.
async fn send_all(job: &Arc<Job>) -> anyhow::Result<(Vec<ContentFile>, u64)> {
    let mut running = JoinSet::new();
    for _ in 0..AT_ONCE_MAX.min(job.wanted.len()) {
        running.spawn(Arc::clone(job).work());
    }
    let (mut files, mut copied) = (Vec::new(), 0);
    while let Some(done) = running.join_next().await {
        for (file, octets) in done?? {
            files.push(file);
            copied += octets;
        }
    }
    Ok((files, copied))
}

impl Job {
    async fn work(self: Arc<Self>) -> anyhow::Result<Vec<(ContentFile, u64)>> {
        let mut done = Vec::new();
        while let Some(file) = self.wanted.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            // Where one fails, the others begin no more.
            let end = |_: &anyhow::Error| self.next.store(self.wanted.len(), Ordering::Relaxed);
            done.push(self.shelve(file).await.inspect_err(end)?);
        }
        Ok(done)
    }

    /// Has one file in the store. Returns it, and how many octets were sent for that.
    async fn shelve(&self, wanted: &Wanted) -> anyhow::Result<(ContentFile, u64)> {
        let path = wanted.path.clone();
        let (sha256, octets) = spawn_blocking(move || pour(&path, &mut io::sink())).await??;
        let file = ContentFile { name: wanted.name.clone(), octets, sha256 };
        let name = file.sha256_text();
        if self.there.get(&name) == Some(&octets) {
            self.progress.moved(0, wanted.octets);
            return Ok((file, 0));
        }
        let place = self.objects.shelf(&self.package).join(name.as_str());
        let sent = if octets <= PART_OCTETS {
            self.send_whole(&place, &wanted.path, &file).await
        } else {
            self.send_parts(&place, &wanted.path, &file).await
        };
        sent.with_context(|| format!("`{}` was not sent", file.name))?;
        Ok((file, octets))
    }

    async fn send_whole(
        &self,
        place: &Place,
        path: &Path,
        file: &ContentFile,
    ) -> anyhow::Result<()> {
        let _part = self.parts.acquire().await?;
        let mut reader = Reader::open(path)?;
        // One more than there were, or a file that has grown would look the same.
        let octets = reader.next(file.octets + 1)?;
        reader.check_still(file)?;
        self.objects.store.put(place, octets.into()).await.map_err(failed)?;
        self.progress.moved(0, file.octets);
        Ok(())
    }

    /// Sends a file in parts. It is there once all of them are, and never before.
    async fn send_parts(
        &self,
        place: &Place,
        path: &Path,
        file: &ContentFile,
    ) -> anyhow::Result<()> {
        let mut upload = self.objects.store.put_multipart(place).await.map_err(failed)?;
        let sent = self.send_each(&mut *upload, path, file).await;
        let ended = match sent {
            Ok(()) => upload.complete().await.map(|_| ()).map_err(failed),
            Err(why) => Err(why),
        };
        if ended.is_err() {
            // What is left of it is in nobody's way, and costs a little.
            let _ = upload.abort().await;
        }
        ended
    }

    async fn send_each(
        &self,
        upload: &mut dyn MultipartUpload,
        path: &Path,
        file: &ContentFile,
    ) -> anyhow::Result<()> {
        let (mut reader, mut sending) = (Reader::open(path)?, JoinSet::new());
        let length = part_octets(file.octets);
        loop {
            let part = Arc::clone(&self.parts).acquire_owned().await?;
            let octets = reader.next(length)?;
            let count = octets.len() as u64;
            if count == 0 {
                break;
            }
            let sent = upload.put_part(octets.into());
            sending.spawn(async move {
                let sent = sent.await;
                drop(part);
                sent.map(|()| count)
            });
            while let Some(done) = sending.try_join_next() {
                self.progress.moved(0, done?.map_err(failed)?);
            }
        }
        while let Some(done) = sending.join_next().await {
            self.progress.moved(0, done?.map_err(failed)?);
        }
        reader.check_still(file)
    }
}

/// A file that is read, and hashed again on the way.
struct Reader {
    file: File,
    path: PathBuf,
    hash: Sha256,
}

impl Reader {
    fn open(path: &Path) -> anyhow::Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self { file, path: path.to_owned(), hash: Sha256::new() })
    }

    /// The next octets, so many unless there are fewer.
    fn next(&mut self, most: u64) -> anyhow::Result<Bytes> {
        let mut octets = Vec::new();
        let read = block_in_place(|| self.file.by_ref().take(most).read_to_end(&mut octets));
        read.with_context(|| format!("cannot read {}", self.path.display()))?;
        self.hash.update(&octets);
        Ok(octets.into())
    }

    /// Judges that all that was read is what it was named by.
    fn check_still(self, file: &ContentFile) -> anyhow::Result<()> {
        if <[u8; 32]>::from(self.hash.finalize()) == file.sha256 {
            return Ok(());
        }
        bail!("{} was changed while it was sent; put the package again", self.path.display())
    }
}

/// Has clients see the package as it is now: in one step, and only if nobody else has done so since
/// `before`. Returns the tag of the manifest.
async fn publish(
    objects: &Objects,
    manifest: &Manifest,
    before: Option<UpdateVersion>,
) -> anyhow::Result<Option<String>> {
    let mode = before.map_or(PutMode::Create, PutMode::Update);
    let options = PutOptions { mode, ..PutOptions::default() };
    let place = objects.manifest(manifest.package());
    match objects.store.put_opts(&place, manifest.to_json().into(), options).await {
        Ok(done) => Ok(done.e_tag),
        Err(Error::Precondition { .. } | Error::AlreadyExists { .. } | Error::NotFound { .. }) => {
            bail!("another process has put or removed it meanwhile, and that counts")
        }
        Err(why) => Err(failed(why)),
    }
}

/// Removes what the manifest does not speak of, as long as it is the one that is published.
async fn clear(
    objects: &Objects,
    manifest: &Manifest,
    published: Option<String>,
) -> anyhow::Result<()> {
    let package = manifest.package();
    let left = there(objects, package).await?;
    // Another's clearing away may have met what was published in that moment.
    let is_gone = |it: &&ContentFile| left.get(&it.sha256_text()) != Some(&it.octets);
    if let Some(gone) = manifest.files().iter().find(is_gone) {
        // Of a newer manifest that is nobody's concern here.
        if version(objects, package).await?.and_then(|it| it.e_tag) == published {
            bail!("`{}` was removed meanwhile; put the package again", gone.name);
        }
        return Ok(());
    }
    let kept: HashSet<_> = manifest.files().iter().map(ContentFile::sha256_text).collect();
    for name in left.into_keys().filter(|it| it != MANIFEST && !kept.contains(it)) {
        let now = version(objects, package).await?.and_then(|it| it.e_tag);
        if now != published {
            return Ok(());
        }
        let place = objects.shelf(package).join(name.as_str());
        match objects.store.delete(&place).await {
            Ok(()) | Err(Error::NotFound { .. }) => {}
            Err(why) => return Err(failed(why)),
        }
    }
    Ok(())
}

/// The packages in the store, in the order of their ids. Those that are not published yet are none.
///
/// # Errors
///
/// The store cannot be read.
pub(in super::super) fn list(cloud: &CloudConfig) -> anyhow::Result<Vec<Listed>> {
    let cannot = || format!("cannot read the store {}", cloud.root.as_str());
    let runtime = runtime()?;
    let (objects, reader) = {
        let _on = runtime.enter();
        (Objects::open(cloud, PATIENCE)?, CloudStore::new(cloud)?)
    };
    let prefix = objects.prefix();
    let found = runtime.block_on(objects.store.list_with_delimiter(Some(prefix)));
    let found = found.map_err(failed).with_context(cannot)?;
    let mut listed = Vec::new();
    for folder in found.common_prefixes {
        let name = folder.filename().unwrap_or_default();
        let Ok(package) = name.parse::<PackageId>() else { continue };
        let manifest = match reader.manifest(&package) {
            Err(StoreFault::Absent) => continue,
            other => other.map_err(|why| why.to_string()),
        };
        if name == package.as_str() {
            listed.push(Listed { package, manifest });
        }
    }
    listed.sort_by(|one, other| one.package.cmp(&other.package));
    Ok(listed)
}

/// Removes a package from the store: its manifest first, so that no client finds a part of it.
///
/// # Errors
///
/// There is none, or it cannot be removed.
pub(in super::super) fn remove(cloud: &CloudConfig, package: &PackageId) -> anyhow::Result<()> {
    let objects = Objects::open(cloud, PATIENCE)?;
    runtime()?.block_on(async {
        let root = cloud.root.as_str();
        let left = there(&objects, package).await;
        let left = left.with_context(|| format!("cannot read the store {root}"))?;
        if left.is_empty() {
            bail!("there is no package {package} in {root}");
        }
        let manifest = left.contains_key(MANIFEST).then_some(MANIFEST);
        let files = left.keys().map(String::as_str).filter(|it| *it != MANIFEST);
        for name in manifest.into_iter().chain(files) {
            let place = objects.shelf(package).join(name);
            match objects.store.delete(&place).await {
                Ok(()) | Err(Error::NotFound { .. }) => {}
                Err(why) => return Err(failed(why).context(format!("cannot remove {place}"))),
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_as_large_as_it_must_be_for_10_000_of_them() {
        let most = PART_OCTETS * PARTS_OF_FILE_MAX;
        for octets in [PART_OCTETS + 1, most] {
            assert_eq!(part_octets(octets), PART_OCTETS);
        }
        assert_eq!(part_octets(most + 1), PART_OCTETS + 1);
        let largest = relay_core::content::FILE_OCTETS_MAX;
        assert!(largest.div_ceil(part_octets(largest)) <= PARTS_OF_FILE_MAX);
    }
}
