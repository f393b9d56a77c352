//! What queries of grants are judged by: whatever is read is within its limits and is written as
//! what it was read from, and nothing counts that nobody has signed.
//!
//! Hidden behind the feature `fuzzing` and not covered by semver. The fuzz target and the replay of
//! its corpus call this; every violation is a panic.

use std::collections::HashSet;
use std::path::{Component, Path};

use crate::auth::{RsaKey, SigningKey, SiteTrust};

use super::{CONTENT_PATH, GRANT_LIFETIME_MAX, GRANT_OCTETS_MAX, SignedGrant};

/// The body of the fuzz target `content_grant`: `data` is offered as a query to an instance whose
/// key nobody has.
///
/// # Panics
///
/// If it counts, exceeds a limit, or does not come back from its own location.
pub fn content_grant(data: &[u8]) {
    let Ok(query) = std::str::from_utf8(data) else { return };
    let Ok(read) = SignedGrant::read(query) else { return };
    assert!(query.len() <= GRANT_OCTETS_MAX);
    let grant = read.grant();
    let life = grant.ends.checked_sub(grant.begins).expect("it ends after it has begun");
    assert!((1..=GRANT_LIFETIME_MAX).contains(&life));
    if let Some(file) = read.file() {
        let path = Path::new(file.as_str());
        assert!(path.components().all(|part| matches!(part, Component::Normal(_))));
    }
    let location = read.location();
    let written = location.strip_prefix(CONTENT_PATH).and_then(|it| it.strip_prefix('?'));
    let written = written.expect("a location is the path and a query");
    assert_eq!(SignedGrant::read(written).as_ref(), Ok(&read));
    let key = RsaKey::new(&[0xff; 256], &[1, 0, 1]).expect("2,048 bits, and F4");
    let trust = |sha256| SiteTrust {
        tenant: grant.issuer,
        keys: vec![SigningKey { sha1: [0; 20], sha256, key: key.clone() }],
        blocked: HashSet::new(),
    };
    assert!(read.verify(&trust([0; 32]), grant.begins).is_err(), "nobody has signed it");
}
