//! Content that clients download: what packages and files are called, which files a package has,
//! the signed permission by which one client may fetch them, and locations outside of an instance.
//!
//! A site signs a [`Grant`] for one client and one package, for 24 h at most; whoever holds the
//! content verifies it by the certificates that the site publishes for its tokens, and asks nobody.
//! Everything here is pure: the time, keys and header fields are arguments, no file is touched and
//! nothing is logged. Where content is kept, and how a client proves to be the one that a grant
//! names, is decided elsewhere.
//!
//! Read [`Grant`] and [`Manifest`] first. Queries come from strangers, manifests from a store that
//! may be broken; both are read strictly and within bounds. The form of the query is the
//! original's, as far as it is public; its signature, the values of `cid`, `st` and `et` and the
//! manifest are our choice, and compatible with nothing.
#![warn(clippy::indexing_slicing)]

mod grant;
mod grant_fault;
mod location;
mod manifest;
mod name;
mod part;
mod query;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod reference;

pub use grant::{
    CONTENT_PATH, GRANT_LEEWAY, GRANT_LIFETIME_MAX, GRANT_OCTETS_MAX, Grant, Granted, SignedGrant,
};
pub use grant_fault::GrantFault;
pub use location::{LOCATION_OCTETS_MAX, Location, LocationFault, StoreRoot};
pub use manifest::{
    ContentFile, FILE_OCTETS_MAX, FILES_MAX, MANIFEST_OCTETS_MAX, Manifest, ManifestFault,
};
pub use name::{
    FILE_NAME_OCTETS_MAX, FileName, NameFault, PACKAGE_ID_OCTETS_MAX, PackageId, SEGMENT_OCTETS_MAX,
};
pub use part::Part;
