//! What an instance says of a package, judged before anything of it is believed.

use http::uri::PathAndQuery;
use relay_core::content::{ContentFile, Manifest, ManifestFault, NameFault, PackageId};
use serde::Deserialize;

use super::super::args::Reach;
use super::super::target::{Target, TargetError};
use super::folder;

/// Longest list, in octets. Of as many files as there may be, with names and a key as long as they
/// may be, it has two thirds of that.
pub(super) const LISTING_OCTETS_MAX: usize = 96 << 20;

/// Hexadecimal digits of SHA-256.
const DIGITS: usize = 64;

/// Which files a package has, and where each of them is.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) files: Vec<Listed>,
    /// The length of all of them.
    pub(super) octets: u64,
}

/// A file, and where it is asked for.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) file: ContentFile,
    pub(super) target: Target,
    /// Whether it is in a store: no credential is shown there.
    pub(super) is_elsewhere: bool,
}

/// Why a list is not followed. The fault of whoever has sent it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum ListingFault {
    /// Longer than that of any package.
    #[error("it is longer than {LISTING_OCTETS_MAX} octets")]
    TooLong,
    /// It is no JSON of that form.
    #[error("it is no list of files: {0}")]
    Form(#[from] serde_json::Error),
    /// It is of another package.
    #[error("it is of another package than the grant")]
    OtherPackage,
    /// A name is none, or would lead out of the folder.
    #[error("a name in it is none: {0}")]
    Name(#[from] NameFault),
    /// A name stands for what is kept while files are fetched.
    #[error("a name in it begins with `{}`, where parts of files are kept", folder::PARTS)]
    Reserved,
    /// A hash is none.
    #[error("a SHA-256 in it is not {DIGITS} hexadecimal digits")]
    Hash,
    /// A file is neither on the service nor at a URL.
    #[error("a location in it is no path on the service that was asked, and no URL")]
    Elsewhere,
    /// Files are in several places: one store is enough for a package, and strangers are none.
    #[error("its files are in more than one place")]
    Scattered,
    /// A URL in it is not followed.
    #[error("a location in it leads to a store that is not asked: {0}")]
    Store(#[from] TargetError),
    /// Nobody says by whom a store is trusted.
    #[error("its files are in a store, and nobody says by whom that is trusted: give --store-ca")]
    Trust,
    /// Its files are no package.
    #[error(transparent)]
    Files(#[from] ManifestFault),
}

#[derive(Deserialize)]
struct RawListing {
    package: String,
    files: Vec<RawFile>,
}

#[derive(Deserialize)]
struct RawFile {
    name: String,
    octets: u64,
    sha256: String,
    location: String,
}

impl Listing {
    /// Reads what was answered at `asked` of `package`.
    ///
    /// # Errors
    ///
    /// [`ListingFault`].
    pub(super) fn read(
        text: &[u8],
        package: &PackageId,
        asked: &Target,
        store: &Reach,
    ) -> Result<Self, ListingFault> {
        if text.len() > LISTING_OCTETS_MAX {
            return Err(ListingFault::TooLong);
        }
        let raw: RawListing = serde_json::from_slice(text)?;
        if raw.package != package.as_str() {
            return Err(ListingFault::OtherPackage);
        }
        let files = raw.files.iter().map(|it| listed(it, asked));
        let files = files.collect::<Result<Vec<_>, _>>()?;
        let place = |it: &Listed| (it.is_elsewhere, it.target.is_tls, it.target.authority.clone());
        let first = files.first().map(place);
        if files.iter().any(|it| Some(place(it)) != first) {
            return Err(ListingFault::Scattered);
        }
        if files.iter().any(|it| it.is_elsewhere && !store.can_trust(&it.target)) {
            return Err(ListingFault::Trust);
        }
        // Names that are there twice, and numbers beyond all limits.
        let all = files.iter().map(|it| it.file.clone()).collect();
        let octets = Manifest::new(package.clone(), all)?.octets();
        Ok(Self { files, octets })
    }
}

fn listed(raw: &RawFile, asked: &Target) -> Result<Listed, ListingFault> {
    let name = raw.name.parse()?;
    if folder::is_reserved(&name) {
        return Err(ListingFault::Reserved);
    }
    let sha256 = sha256(&raw.sha256).ok_or(ListingFault::Hash)?;
    let (target, is_elsewhere) = place(&raw.location, asked)?;
    Ok(Listed { file: ContentFile { name, octets: raw.octets, sha256 }, target, is_elsewhere })
}

/// Where a file is: on the service that was `asked`, or in a store elsewhere.
fn place(location: &str, asked: &Target) -> Result<(Target, bool), ListingFault> {
    if location.contains("://") && !location.starts_with('/') {
        return Ok((Target::parse(location)?, true));
    }
    let path = Some(location).filter(|it| it.starts_with('/') && !it.starts_with("//"));
    let path = path.and_then(|it| PathAndQuery::try_from(it).ok());
    let path = path.ok_or(ListingFault::Elsewhere)?;
    Ok((Target { path, ..asked.clone() }, false))
}

fn sha256(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    if digits.len() != DIGITS || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    let mut octets = [0; 32];
    for (octet, pair) in octets.iter_mut().zip(digits.chunks_exact(2)) {
        *octet = u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(octets)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(value: &Value) -> Result<Listing, ListingFault> {
        read_with(value, &Reach::trusting_nobody())
    }

    fn read_with(value: &Value, store: &Reach) -> Result<Listing, ListingFault> {
        let asked = Target::parse("https://relay.example:8443/list?x").unwrap();
        let package = "PS100012".parse().unwrap();
        Listing::read(value.to_string().as_bytes(), &package, &asked, store)
    }

    fn file(name: &str) -> Value {
        json!({ "name": name, "octets": 3, "sha256": "0f".repeat(32), "location": "/a?b" })
    }

    fn with(change: impl FnOnce(&mut Value)) -> Result<Listing, ListingFault> {
        let mut list = json!({
            "package": "PS100012", "expires": 1, "files": [file("a/setup.exe"), file("b")]
        });
        change(&mut list);
        read(&list)
    }

    #[test]
    fn each_file_is_at_the_service_that_was_asked() {
        let listing = with(|_| ()).unwrap();
        assert_eq!((listing.files.len(), listing.octets), (2, 6));
        let first = &listing.files[0];
        assert_eq!(first.target.url().unwrap(), "https://relay.example:8443/a?b");
        assert_eq!((first.file.name.as_str(), first.file.sha256), ("a/setup.exe", [0x0f; 32]));
    }

    #[test]
    fn files_are_all_in_one_store_whose_certificate_somebody_is_trusted_for() {
        let both = |one: &str, two: &str| {
            with(|it| {
                it["files"][0]["location"] = json!(one);
                it["files"][1]["location"] = json!(two);
            })
        };
        let here = both("http://127.0.0.1:9/a?sig=x", "http://127.0.0.1:9/b?sig=x").unwrap();
        assert!(here.files.iter().all(|it| it.is_elsewhere));
        assert_eq!(here.files[0].target.url().unwrap(), "http://127.0.0.1:9/a?sig=x");
        for other in ["http://127.0.0.1:8/b", "https://127.0.0.1:9/b", "/b"] {
            let fault = both("http://127.0.0.1:9/a", other).unwrap_err();
            assert!(matches!(fault, ListingFault::Scattered), "{other}: {fault}");
        }
        let fault = both("https://store.example/a", "https://store.example/b").unwrap_err();
        assert!(matches!(fault, ListingFault::Trust), "{fault}");
    }

    #[test]
    fn a_list_that_leads_elsewhere_is_not_followed() {
        for location in ["//other.example/a", "a", "", "/a b", "*"] {
            let fault = with(|it| it["files"][1]["location"] = json!(location)).unwrap_err();
            assert!(matches!(fault, ListingFault::Elsewhere), "{location}: {fault}");
        }
        for location in ["http://other.example/a", "https://u:p@127.0.0.1/a", "ftp://127.0.0.1/a"] {
            let fault = with(|it| it["files"][1]["location"] = json!(location)).unwrap_err();
            assert!(matches!(fault, ListingFault::Store(_)), "{location}: {fault}");
        }
        for name in ["../b", "/b", "a\\b", "c:/b", "a/../../b", ""] {
            let fault = with(|it| it["files"][1]["name"] = json!(name)).unwrap_err();
            assert!(matches!(fault, ListingFault::Name(_)), "{name}: {fault}");
        }
        for name in [".relay-parts/x", ".RELAY-PARTS", ".relay-parts"] {
            let fault = with(|it| it["files"][1]["name"] = json!(name)).unwrap_err();
            assert!(matches!(fault, ListingFault::Reserved), "{name}: {fault}");
        }
        for name in ["A/Setup.exe", "a", "A/SETUP.EXE/x"] {
            let fault = with(|it| it["files"][1]["name"] = json!(name)).unwrap_err();
            assert!(matches!(fault, ListingFault::Files(_)), "{name}: {fault}");
        }
        assert!(with(|it| it["files"][1]["name"] = json!(".relay-parts2")).is_ok());
    }

    #[test]
    fn what_is_no_list_of_the_package_is_refused() {
        let mut digits = "0f".repeat(32);
        digits.replace_range(..1, "+");
        for hash in ["", "0f", digits.as_str()] {
            let fault = with(|it| it["files"][0]["sha256"] = json!(hash)).unwrap_err();
            assert!(matches!(fault, ListingFault::Hash), "{hash}: {fault}");
        }
        let other = with(|it| it["package"] = json!("PS100013")).unwrap_err();
        assert!(matches!(other, ListingFault::OtherPackage));
        let large = with(|it| it["files"][0]["octets"] = json!(u64::MAX)).unwrap_err();
        assert!(matches!(large, ListingFault::Files(ManifestFault::FileTooLarge(_))));
        let none = with(|it| it["files"] = json!([])).unwrap_err();
        assert!(matches!(none, ListingFault::Files(ManifestFault::NoFiles)));
        for member in ["name", "octets", "sha256", "location"] {
            let lacking = with(|it| {
                it["files"][0].as_object_mut().unwrap().remove(member);
            });
            assert!(matches!(lacking.unwrap_err(), ListingFault::Form(_)), "{member}");
        }
        let fault = read(&json!("x")).unwrap_err();
        assert!(matches!(fault, ListingFault::Form(_)));
    }

    #[test]
    fn a_list_has_96_mebibytes_at_most() {
        let asked = Target::parse("https://relay.example/list?x").unwrap();
        let mut text = with_spaces(LISTING_OCTETS_MAX);
        let package = "PS100012".parse().unwrap();
        let store = &Reach::trusting_nobody();
        assert!(Listing::read(&text, &package, &asked, store).is_ok());
        text.push(b' ');
        let fault = Listing::read(&text, &package, &asked, store).unwrap_err();
        assert!(matches!(fault, ListingFault::TooLong));
    }

    fn with_spaces(octets: usize) -> Vec<u8> {
        let list = json!({ "package": "PS100012", "files": [file("a")] });
        let mut text = list.to_string().into_bytes();
        text.resize(octets, b' ');
        text
    }
}
