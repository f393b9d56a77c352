//! Locations in Azure Blob Storage, signed for one file.
//!
//! Not by the store's client, which has each begin now: a store whose clock is behind would refuse
//! it at first.

use std::fmt;

use anyhow::anyhow;
use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use time::OffsetDateTime;

/// Version of the service that fields and signature are of: the one that the store's client speaks.
const VERSION: &str = "2023-11-03";

/// Signs for an account.
#[derive(Clone)]
pub(super) struct Signer {
    account: String,
    key: hmac::Key,
}

/// Without its key.
impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("account", &self.account).finish_non_exhaustive()
    }
}

impl Signer {
    /// One with the `key` of an account, in base64.
    ///
    /// # Errors
    ///
    /// It is none. Nothing of it is told.
    pub(super) fn new(account: &str, key: &str) -> anyhow::Result<Self> {
        let key = STANDARD.decode(key);
        let key = key.map_err(|_| anyhow!("the file of the store's key holds no base64"))?;
        let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
        Ok(Self { account: account.to_owned(), key })
    }

    /// The query by which the file at `place`, a container and all that follows, may be read until
    /// `until`, in seconds since 1970 UTC; `None` of a time that no calendar has.
    ///
    /// It says no begin, and so holds at once by any clock; its end is exact, and a store whose
    /// clock is ahead takes it for over that much sooner.
    // Sources: Microsoft Learn, "Grant limited access to Azure Storage resources using shared
    // access signatures (SAS)", "Be careful with SAS start time"; "Create a service SAS",
    // "Version 2020-12-06 and later".
    pub(super) fn query(&self, place: &str, until: u64, is_https: bool) -> Option<String> {
        let end = OffsetDateTime::from_unix_timestamp(until.try_into().ok()?).ok()?;
        let (hour, minute, second) = end.to_hms();
        let end = format!(
            "{}-{:02}-{:02}T{hour:02}:{minute:02}:{second:02}Z",
            end.year(),
            u8::from(end.month()),
            end.day()
        );
        let protocol = if is_https { "https" } else { "" };
        // Permissions, begin, end, resource, identifier, address, protocol, version, kind of
        // resource, time of snapshot, scope of encryption, and five fields of the answer.
        let account = &self.account;
        let signed = format!(
            "r\n\n{end}\n/blob/{account}/{place}\n\n\n{protocol}\n{VERSION}\nb\n\n\n\n\n\n\n"
        );
        let signature = STANDARD.encode(hmac::sign(&self.key, signed.as_bytes()));
        let escaped = |text: &str| text.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
        let protocol = if is_https { "&spr=https" } else { "" };
        Some(format!(
            "sv={VERSION}&se={}&sr=b&sp=r{protocol}&sig={}",
            end.replace(':', "%3A"),
            escaped(&signature)
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_begins_at_no_time_and_ends_to_the_second() {
        let signer = Signer::new("account", "aGlkZGVu").unwrap();
        let query = |https| signer.query("content/site-1/A/0f", 1_800_000_000, https).unwrap();
        let (clear, tls) = (query(false), query(true));
        for (query, end) in [(&clear, "sp=r&sig="), (&tls, "sp=r&spr=https&sig=")] {
            let begin = "sv=2023-11-03&se=2027-01-15T08%3A00%3A00Z&sr=b&";
            assert!(query.starts_with(&format!("{begin}{end}")), "{query}");
            let signature = query.rsplit('=').next().unwrap();
            assert!(signature.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'%'));
        }
        assert_ne!(clear.rsplit('=').next(), tls.rsplit('=').next());
        assert_eq!(signer.query("content/A/0f", u64::MAX, true), None);
        assert!(!format!("{signer:?}").contains("hidden"));
        let fault = Signer::new("account", "hidden!").unwrap_err().to_string();
        assert!(fault.contains("no base64") && !fault.contains("hidden"), "{fault}");
    }
}
