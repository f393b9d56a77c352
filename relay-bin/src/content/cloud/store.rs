//! A store elsewhere, as an instance asks it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use object_store::{Error, GetOptions, ObjectStore as _};
use relay_core::config::CloudConfig;
use relay_core::content::{
    ContentFile, Location, MANIFEST_OCTETS_MAX, Manifest, PackageId, StoreRoot,
};
use relay_core::gateway::{ContentStore, Place, StoreFault, Visit};
use time::{Date, Month, OffsetDateTime, Time};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::super::kept::Kept;
use super::objects::{Objects, Patience, Signing, told};

/// Time that the store has: less than an instance waits, so that its thread is free by then.
const ASK_TIME: Duration = Duration::from_secs(9);

/// One try of half that time, and another.
pub(super) const PATIENCE: Patience =
    Patience { request: Duration::from_secs(4), retries: 1, all: Duration::from_secs(5) };

/// Manifests that nobody has read yet and that are read at once: each may be of 8 MiB, and more
/// once it is understood.
const COLD_MAX: usize = 4;

/// What stores call a container or bucket that is not there.
const WHOLE_ABSENT: [&str; 2] = ["NoSuchBucket", "ContainerNotFound"];

/// A store elsewhere: manifests are read from it, and locations in it are signed.
#[derive(Debug)]
pub(super) struct CloudStore {
    objects: Objects,
    root: StoreRoot,
    /// With the entity tag of each.
    kept: Kept<String>,
    /// Places for those who read what is not known at all: who wants the same finds it then.
    cold: Semaphore,
    runtime: Handle,
}

impl CloudStore {
    /// The store, asked over the runtime that this is called on.
    ///
    /// # Errors
    ///
    /// As [`Objects::open`].
    ///
    /// # Panics
    ///
    /// Without a runtime.
    pub(super) fn new(cloud: &CloudConfig) -> anyhow::Result<Self> {
        Ok(Self {
            objects: Objects::open(cloud, PATIENCE)?,
            root: cloud.root.clone(),
            kept: Kept::new(),
            cold: Semaphore::new(COLD_MAX),
            runtime: Handle::current(),
        })
    }

    /// Reads a manifest, unless it is still the one that was read last.
    async fn read(&self, package: &PackageId) -> Result<Arc<Manifest>, StoreFault> {
        let place = self.objects.manifest(package);
        let unusable = |why: &str| StoreFault::Unreadable(format!("{place}: {why}"));
        let is_cold = self.kept.last(package).is_none();
        let _cold = if is_cold { self.cold.acquire().await.ok() } else { None };
        let (tag, known) = self.kept.last(package).unzip();
        let options = GetOptions { if_none_match: tag, ..GetOptions::default() };
        let found = match (self.objects.store.get_opts(&place, options).await, known) {
            (Ok(found), _) => found,
            (Err(Error::NotModified { .. }), Some(known)) => return Ok(known),
            (Err(why @ Error::NotFound { .. }), _) => {
                // The whole container or bucket: no package's absence, and told as what it is.
                let text = why.to_string();
                let is_whole = WHOLE_ABSENT.iter().any(|it| text.contains(it));
                return Err(if is_whole { unusable(&told(&why)) } else { StoreFault::Absent });
            }
            (Err(why), _) => return Err(unusable(&told(&why))),
        };
        let (octets, tag) = (found.meta.size, found.meta.e_tag.clone());
        if octets > MANIFEST_OCTETS_MAX as u64 {
            return Err(unusable("it is longer than any manifest; put the package anew"));
        }
        let text = found.bytes().await.map_err(|why| unusable(&told(&why)))?;
        let manifest = Manifest::read(&text).map_err(|why| unusable(&why.to_string()))?;
        if manifest.package() != package {
            return Err(unusable("it is of another package; put the package anew"));
        }
        let manifest = Arc::new(manifest);
        if let Some(tag) = tag {
            self.kept.keep(tag, octets, &manifest);
        }
        Ok(manifest)
    }
}

impl ContentStore for CloudStore {
    fn manifest(&self, package: &PackageId) -> Result<Arc<Manifest>, StoreFault> {
        let read = async { timeout(ASK_TIME, self.read(package)).await };
        self.runtime.block_on(read).unwrap_or_else(|_| {
            let why = format!("the store has not answered within {} s", ASK_TIME.as_secs());
            Err(StoreFault::Unreadable(why))
        })
    }

    fn root(&self) -> Option<&StoreRoot> {
        Some(&self.root)
    }

    fn place(
        &self,
        package: &PackageId,
        file: &ContentFile,
        visit: &Visit,
    ) -> Result<Place, StoreFault> {
        let place = self.objects.shelf(package).join(file.sha256_text());
        let unusable = |why: String| StoreFault::Unreadable(why);
        let signed = match &self.objects.signer {
            Signing::Azure { signer, container } => {
                let root = self.root.as_str();
                let query = signer.query(
                    &format!("{container}/{place}"),
                    visit.until,
                    root.starts_with("https:"),
                );
                // The root ends in the prefix that all places begin with.
                let below = format!("{package}/{}", file.sha256_text());
                query.map(|query| (format!("{root}{below}?{query}"), visit.until))
            }
            Signing::S3(signer) => {
                let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
                // Signed a little later than now, and to the second.
                let left = visit.until.saturating_sub(now.unwrap_or_default().as_secs() + 1);
                let lasts = Duration::from_secs(left);
                let signing = signer.signed_url(visit.method.clone(), &place, lasts);
                let url = self.runtime.block_on(signing).map_err(|why| unusable(told(&why)))?;
                url.query().and_then(ends).map(|ends| (url.to_string(), ends))
            }
        };
        let (url, ends) =
            signed.ok_or_else(|| unusable("a signed location says no end".to_owned()))?;
        let location = Location::new(url, ends);
        location.map(Place::Elsewhere).map_err(|why| unusable(why.to_string()))
    }
}

/// When what was signed for S3 is over, by what is signed.
fn ends(query: &str) -> Option<u64> {
    let value = |name: &str| {
        let mut pairs = query.split('&').filter_map(|it| it.split_once('='));
        pairs.find(|(found, _)| *found == name).map(|(_, value)| value)
    };
    let lasts: u64 = value("X-Amz-Expires")?.parse().ok()?;
    seconds(value("X-Amz-Date")?)?.checked_add(lasts)
}

/// A time of UTC to the second, such as `20270115T080000Z`, since 1970.
fn seconds(text: &str) -> Option<u64> {
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    if digits.len() != 14 || !text.ends_with('Z') {
        return None;
    }
    let two = |at: usize| digits.get(at..at + 2)?.parse::<u8>().ok();
    let month = Month::try_from(two(4)?).ok()?;
    let day = Date::from_calendar_date(digits.get(..4)?.parse().ok()?, month, two(6)?).ok()?;
    let time = Time::from_hms(two(8)?, two(10)?, two(12)?).ok()?;
    u64::try_from(OffsetDateTime::new_utc(day, time).unix_timestamp()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signed_location_ends_when_its_signature_says() {
        let s3 = "X-Amz-Date=20270115T080000Z&X-Amz-Expires=3600&X-Amz-Signature=x";
        assert_eq!(ends(s3), Some(1_800_003_600));
        for bad in [
            "",
            "X-Amz-Date=20270115T080000Z",
            "X-Amz-Expires=1",
            "X-Amz-Date=x&X-Amz-Expires=1",
            "X-Amz-Date=20271315T080000Z&X-Amz-Expires=1",
            "X-Amz-Date=20270115T080000&X-Amz-Expires=1",
        ] {
            assert_eq!(ends(bad), None, "{bad}");
        }
    }
}
