//! Where a file lies outside of an instance, and until when it can be fetched there.

use std::fmt;
use std::net::IpAddr;

use http::Uri;

/// Longest location, in octets. Those of stores in use have some 700.
pub const LOCATION_OCTETS_MAX: usize = 4_096;

/// The part of a store that locations must lie in: a URL that ends in `/`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StoreRoot(String);

/// A URL by which whoever has it fetches one file, until it ends.
#[derive(Clone, Eq, PartialEq)]
pub struct Location {
    url: String,
    ends: u64,
}

/// Why a location is given to nobody. The store's fault.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LocationFault {
    /// It is no URL that a field can carry.
    #[error("its store has made a location that is no URL; check the store's settings")]
    NoUrl,
    /// It would send tokens of the store over networks in the clear.
    #[error("the store is not reached by https, nor on this machine; give an https URL")]
    Clear,
    /// It leads somewhere else.
    #[error("its store has made a location outside of the store; check the store's settings")]
    Elsewhere,
    /// It can be used when the grant is over.
    #[error("its store has made a location that outlives the grant; check this machine's clock")]
    Outlives,
}

impl StoreRoot {
    /// The store, or the part of it, below `url`: https, or http to this very machine, without a
    /// user, a query or an escape, and with `/` at its end.
    ///
    /// # Errors
    ///
    /// [`LocationFault::NoUrl`], [`LocationFault::Clear`].
    pub fn new(url: &str) -> Result<Self, LocationFault> {
        let read = read(url)?;
        let below = read.path().strip_prefix('/').and_then(|it| it.strip_suffix('/'));
        let is_path = read.path() == "/" || below.is_some_and(is_plain);
        // What stores' clients write otherwise again: no location would lie below it.
        let authority = read.authority().map_or("", |it| it.as_str());
        let usual = if read.scheme_str() == Some("https") { ":443" } else { ":80" };
        let is_rewritten =
            authority.ends_with(usual) || authority.bytes().any(|it| it.is_ascii_uppercase());
        if read.query().is_some() || url.ends_with('?') || !is_path || is_rewritten {
            return Err(LocationFault::NoUrl);
        }
        Ok(Self(url.to_owned()))
    }

    /// Judges that a location lies in it, and ends at `until` or before: seconds since 1970 UTC.
    ///
    /// Below it a path has segments of letters, digits, `-`, `.`, `_` and `~` alone. So there is
    /// nothing that one server reads as a way out and another does not.
    ///
    /// # Errors
    ///
    /// [`LocationFault::Elsewhere`], [`LocationFault::Outlives`].
    pub fn check(&self, location: &Location, until: u64) -> Result<(), LocationFault> {
        let below = location.without_query().strip_prefix(&self.0);
        if !below.is_some_and(is_plain) {
            return Err(LocationFault::Elsewhere);
        }
        if location.ends > until {
            return Err(LocationFault::Outlives);
        }
        Ok(())
    }

    /// The URL.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Location {
    /// A URL that its store honours until `ends`: seconds since 1970 UTC.
    ///
    /// # Errors
    ///
    /// [`LocationFault::NoUrl`], [`LocationFault::Clear`].
    pub fn new(url: String, ends: u64) -> Result<Self, LocationFault> {
        read(&url)?;
        Ok(Self { url, ends })
    }

    /// The URL, with its signature: for the client and nobody else.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The same as logs may have it.
    pub fn without_query(&self) -> &str {
        self.url.split('?').next().unwrap_or_default()
    }

    /// Until when it counts, in seconds since 1970 UTC.
    pub fn ends(&self) -> u64 {
        self.ends
    }
}

/// Without the query, in which its signature is.
impl fmt::Debug for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Location");
        shown.field("url", &self.without_query()).field("ends", &self.ends).finish()
    }
}

/// Reads a URL of a store.
fn read(url: &str) -> Result<Uri, LocationFault> {
    let is_visible = url.bytes().all(|it| it.is_ascii_graphic() && it != b'#' && it != b'\\');
    if url.len() > LOCATION_OCTETS_MAX || !is_visible {
        return Err(LocationFault::NoUrl);
    }
    let read: Uri = url.parse().map_err(|_| LocationFault::NoUrl)?;
    let (scheme, authority) = (read.scheme_str(), read.authority());
    let authority = authority.filter(|it| !it.as_str().contains('@') && !it.host().is_empty());
    let host = authority.ok_or(LocationFault::NoUrl)?.host();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let is_here = || host == "localhost" || host.parse::<IpAddr>().is_ok_and(|it| it.is_loopback());
    match scheme {
        Some("https") => Ok(read),
        Some("http") if is_here() => Ok(read),
        _ => Err(LocationFault::Clear),
    }
}

/// Whether a path is one or more segments that every server reads alike.
fn is_plain(path: &str) -> bool {
    let is_of_segment = |it: u8| it.is_ascii_alphanumeric() || b"-._~".contains(&it);
    let is_segment = |it: &str| !matches!(it, "" | "." | "..") && it.bytes().all(is_of_segment);
    path.split('/').all(is_segment)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = "https://store.example/content/site-1/";

    fn checked(url: &str, ends: u64, until: u64) -> Result<(), LocationFault> {
        let root = StoreRoot::new(ROOT).unwrap();
        root.check(&Location::new(url.to_owned(), ends)?, until)
    }

    #[test]
    fn a_location_lies_below_the_root_and_nowhere_else() {
        let good = "https://store.example/content/site-1/PS100012/0f?sig=a%2Fb&se=1";
        assert_eq!(checked(good, 9, 9), Ok(()));
        for bad in [
            "https://store.example/content/site-1/",
            "https://store.example/content/site-1",
            "https://store.example/content/site-10/a",
            "https://store.example/content/site-1//a",
            "https://store.example/content/site-1/a/",
            "https://store.example/content/site-1/../other/a",
            "https://store.example/content/site-1/./a",
            "https://store.example/content/site-1/%2e%2e/other/a",
            "https://store.example/content/site-1/..%2fother",
            "https://store.example/content/site-1/a;b",
            "https://store.example/other/site-1/a",
            "https://store.example:8443/content/site-1/a",
            "https://store.example.evil/content/site-1/a",
            "https://other.example/content/site-1/a",
            "https://other.example/?https://store.example/content/site-1/a",
            "http://127.0.0.1/content/site-1/a",
        ] {
            assert_eq!(checked(bad, 9, 9), Err(LocationFault::Elsewhere), "{bad}");
        }
    }

    #[test]
    fn a_location_ends_with_the_grant_or_before() {
        let url = "https://store.example/content/site-1/a";
        assert_eq!(checked(url, 8, 9), Ok(()));
        assert_eq!(checked(url, 9, 9), Ok(()));
        assert_eq!(checked(url, 10, 9), Err(LocationFault::Outlives));
    }

    #[test]
    fn what_is_no_url_or_goes_in_the_clear_is_no_location() {
        let made = |url: &str| Location::new(url.to_owned(), 1).map(|_| ());
        let long = |octets: usize| format!("https://a/{}", "a".repeat(octets - 10));
        assert_eq!(made(&long(LOCATION_OCTETS_MAX)), Ok(()));
        for bad in [
            &long(LOCATION_OCTETS_MAX + 1),
            "",
            "/a",
            "https:///a",
            "https://u:p@store.example/a",
            "https://store.example/a b",
            "https://store.example/a\r\nb",
            "https://store.example/a#b",
            "https://store.example\\a",
            "https://store.example/\u{e9}",
        ] {
            assert_eq!(made(bad), Err(LocationFault::NoUrl), "{bad}");
        }
        for clear in ["http://store.example/a", "http://10.0.0.1/a", "ftp://store.example/a"] {
            assert_eq!(made(clear), Err(LocationFault::Clear), "{clear}");
        }
        for here in ["http://127.0.0.1:1/a", "http://[::1]/a", "http://localhost/a"] {
            assert_eq!(made(here), Ok(()), "{here}");
        }
    }

    #[test]
    fn a_root_is_a_folder_without_anything_to_escape() {
        let root = |url: &str| StoreRoot::new(url).map(|it| it.as_str().to_owned());
        for good in [ROOT, "https://bucket.s3.example/", "http://127.0.0.1:1/account/c/"] {
            assert_eq!(root(good).as_deref(), Ok(good));
        }
        for bad in
            ["https://a/b", "https://a/b//", "https://a/../", "https://a/?", "https://a/%2e/"]
        {
            assert_eq!(root(bad), Err(LocationFault::NoUrl), "{bad}");
        }
    }

    #[test]
    fn what_is_shown_of_a_location_has_no_signature() {
        let url = "https://store.example/a?sig=secret".to_owned();
        let location = Location::new(url, 1).unwrap();
        assert_eq!(location.without_query(), "https://store.example/a");
        assert!(!format!("{location:?}").contains("secret"));
        assert!(location.url().contains("secret"));
    }
}
