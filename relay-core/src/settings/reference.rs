//! What documents are judged by: whatever is read is written and read again as the same, and takes
//! no more than it may.
//!
//! Hidden behind the feature `fuzzing` and not covered by semver. The fuzz target and the replay of
//! its corpus call [`settings`]; every violation is a panic.

use super::{DOCUMENT_OCTETS_MAX, ENDPOINTS_MAX, SITE_OCTETS_MAX, SettingsDocument};

/// The body of the fuzz target `settings`: `data` is offered as a document.
///
/// # Panics
///
/// If a document that is taken exceeds a limit, or is not the same when it is written and read.
pub fn settings(data: &[u8]) {
    let document = match SettingsDocument::decode(data) {
        Ok(document) => document,
        Err(error) => {
            // It may quote what it complains of, and no more.
            let octets = error.to_string().len();
            assert!(octets <= 1024 + 2 * data.len(), "{octets} octets about {}", data.len());
            return;
        }
    };
    assert!(data.len() <= DOCUMENT_OCTETS_MAX);
    assert!((1..=SITE_OCTETS_MAX).contains(&document.site.len()), "{:?}", document.site);
    assert!(document.endpoints.len() <= ENDPOINTS_MAX);
    let written = document.encode().expect("what was read can be written");
    assert!(written.len() <= data.len(), "nothing is written that was not read");
    let again = SettingsDocument::decode(&written).expect("what was written can be read");
    assert_eq!(again, document, "read again");
    assert_eq!(again.digest(), document.digest());
    assert_eq!(again.encode().as_ref(), Ok(&written), "there is one way to write it");
}
