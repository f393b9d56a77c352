//! Manifests that were read, for as long as they are those that are there.

use std::sync::{Arc, Mutex, PoisonError};

use relay_core::content::{Manifest, PackageId};

/// Octets of manifests that are kept read: those that were asked for last. Each request for a file
/// needs the manifest of its package.
pub(super) const KEPT_OCTETS_MAX: u64 = 32 << 20;

/// Manifests by their packages, each with the stamp `S` by which one that was replaced is known.
#[derive(Debug)]
pub(super) struct Kept<S> {
    /// The one that was asked for last is the last.
    all: Mutex<Vec<Entry<S>>>,
}

#[derive(Debug)]
struct Entry<S> {
    package: PackageId,
    stamp: S,
    octets: u64,
    manifest: Arc<Manifest>,
}

impl<S: Clone> Kept<S> {
    /// None.
    pub(super) fn new() -> Self {
        Self { all: Mutex::default() }
    }

    /// The manifest of a package that was read last, and its stamp.
    pub(super) fn last(&self, package: &PackageId) -> Option<(S, Arc<Manifest>)> {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let place = all.iter().position(|it| it.package == *package)?;
        let entry = all.remove(place);
        let found = (entry.stamp.clone(), Arc::clone(&entry.manifest));
        all.push(entry);
        Some(found)
    }

    /// Keeps a manifest of so many octets in place of what was kept of its package.
    pub(super) fn keep(&self, stamp: S, octets: u64, manifest: &Arc<Manifest>) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let package = manifest.package();
        all.retain(|it| it.package != *package);
        let manifest = Arc::clone(manifest);
        all.push(Entry { package: package.clone(), stamp, octets, manifest });
        while all.iter().map(|it| it.octets).sum::<u64>() > KEPT_OCTETS_MAX {
            all.remove(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use relay_core::content::ContentFile;

    use super::*;

    #[test]
    fn no_more_than_32_mebibytes_of_manifests_are_kept() {
        let kept = Kept::new();
        let keep = |package: &str, octets| {
            let file = ContentFile { name: "a".parse().unwrap(), octets: 1, sha256: [0; 32] };
            let manifest = Manifest::new(package.parse().unwrap(), vec![file]).unwrap();
            kept.keep((), octets, &Arc::new(manifest));
        };
        let is_kept = |package: &str| kept.last(&package.parse().unwrap()).is_some();
        keep("P1", KEPT_OCTETS_MAX / 2);
        keep("P2", KEPT_OCTETS_MAX / 2);
        assert!(is_kept("P2") && is_kept("P1"));
        keep("P3", 1);
        assert!(is_kept("P1") && !is_kept("P2") && is_kept("P3"), "the oldest has no room");
    }
}
