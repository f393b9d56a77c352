//! Stores of content in memory and elsewhere, and grants for what is in it.

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a failed step of a test's set-up is a failed test"
)]

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex};

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use relay_core::auth::Guid;
use relay_core::content::{ContentFile, Grant, Granted, Location, Manifest, PackageId, StoreRoot};
use relay_core::gateway::{ContentStore, Place, StoreFault, Stored, Visit};

use crate::clients::now;
use crate::tokens::{SOMEBODY, TENANT};

/// The package that stores in memory hold.
pub const PACKAGE: &str = "PS100012";

/// Which files a package has, and their octets by their hash.
type Package = (Arc<Manifest>, BTreeMap<[u8; 32], Bytes>);

/// Packages in memory, with their files by name.
#[derive(Debug, Default)]
pub struct MemoryStore {
    packages: BTreeMap<PackageId, Package>,
    /// Why nothing can be read, if so.
    pub broken: Mutex<Option<String>>,
    /// Octets by which each file is shorter than its manifest says.
    pub cut: u64,
}

struct Octets(Bytes);

impl Stored for Octets {
    fn read_at(&self, at: u64, octets: &mut [u8]) -> io::Result<usize> {
        let mut rest = self.0.get(usize::try_from(at).unwrap()..).unwrap_or_default();
        io::Read::read(&mut rest, octets)
    }
}

impl MemoryStore {
    /// A store with one package of these files.
    pub fn with(files: &[(&str, &[u8])]) -> Self {
        let sha256 =
            |octets: &[u8]| -> [u8; 32] { digest(&SHA256, octets).as_ref().try_into().unwrap() };
        let listed = files.iter().map(|(name, octets)| ContentFile {
            name: name.parse().unwrap(),
            octets: octets.len() as u64,
            sha256: sha256(octets),
        });
        let package: PackageId = PACKAGE.parse().unwrap();
        let manifest = Manifest::new(package.clone(), listed.collect()).unwrap();
        let files = files.iter().map(|(_, it)| (sha256(it), Bytes::copy_from_slice(it)));
        let packages = BTreeMap::from([(package, (Arc::new(manifest), files.collect()))]);
        Self { packages, ..Self::default() }
    }

    fn package(&self, package: &PackageId) -> Result<&Package, StoreFault> {
        match &*self.broken.lock().unwrap() {
            Some(why) => Err(StoreFault::Unreadable(why.clone())),
            None => self.packages.get(package).ok_or(StoreFault::Absent),
        }
    }
}

impl ContentStore for MemoryStore {
    fn manifest(&self, package: &PackageId) -> Result<Arc<Manifest>, StoreFault> {
        Ok(Arc::clone(&self.package(package)?.0))
    }

    fn place(
        &self,
        package: &PackageId,
        file: &ContentFile,
        _visit: &Visit,
    ) -> Result<Place, StoreFault> {
        let octets = self.package(package)?.1.get(&file.sha256).ok_or(StoreFault::Absent)?;
        let length = octets.len().saturating_sub(usize::try_from(self.cut).unwrap());
        Ok(Place::Here(Arc::new(Octets(octets.slice(..length)))))
    }
}

/// Makes the location of a file.
type Locate = Box<dyn Fn(&ContentFile, &Visit) -> Location + Send + Sync>;

/// A store whose files are fetched elsewhere.
pub struct FarStore {
    /// What it has.
    pub near: MemoryStore,
    /// Where it says that its files are.
    pub root: StoreRoot,
    /// Where they are.
    pub locate: Locate,
}

impl fmt::Debug for FarStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FarStore").field("root", &self.root).finish_non_exhaustive()
    }
}

impl ContentStore for FarStore {
    fn manifest(&self, package: &PackageId) -> Result<Arc<Manifest>, StoreFault> {
        self.near.manifest(package)
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
        self.near.place(package, file, visit)?;
        Ok(Place::Elsewhere((self.locate)(file, visit)))
    }
}

/// A grant for all of the package, for the client of the site's tokens, for an hour from now.
pub fn grant() -> Grant {
    let begins = now() - 10;
    Grant {
        package: PACKAGE.parse().unwrap(),
        granted: Granted::Package,
        client: somebody(),
        issuer: TENANT,
        begins,
        ends: begins + 3600,
        bound_to: None,
    }
}

/// The client of the site's tokens.
pub fn somebody() -> Guid {
    SOMEBODY.parse().unwrap()
}
