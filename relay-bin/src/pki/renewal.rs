//! A certificate that its role renews by itself, with the authority at hand.

use std::path::Path;
use std::time::SystemTime;

use relay_core::config::IdentityPaths;

use super::{SiteCa, files};
use crate::exit::Failure;

/// Renews a certificate and its key if less than a third of its life is left at `now`. Returns the
/// end of the new one's life, or `None` if it is not due. Blocks on the file system.
///
/// # Errors
///
/// As [`SiteCa::load`] and [`SiteCa::renew`]; and if the authority ends no later than the
/// certificate, so that nothing would be won.
pub(crate) fn renew_if_due(
    authority: &IdentityPaths,
    identity: &IdentityPaths,
    now: SystemTime,
) -> Result<Option<SystemTime>, Failure> {
    let read = |file: &Path| files::read(file, &files::leaf(file)?);
    let old = read(&identity.certificate).map_err(Failure::Usage)?.validity;
    if !old.is_renewal_due(now) {
        return Ok(None);
    }
    let ca = SiteCa::load(&authority.certificate, &authority.key).map_err(Failure::Usage)?;
    ca.ensure_outlives(old, &authority.certificate).map_err(Failure::Usage)?;
    ca.renew(&identity.certificate, &identity.key, None).map(Some)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use relay_core::config::load_connection_point;
    use relay_core::transport::Certificate;
    use tempfile::TempDir;

    use super::*;
    use crate::pki::Wanted;

    /// A folder with an authority and a connection point's file with its certificate.
    struct Home {
        folder: TempDir,
        authority: IdentityPaths,
        identity: IdentityPaths,
    }

    fn home() -> Home {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
        let ca = SiteCa::new("site").unwrap();
        let link = ca.issue(&Wanted::client("cp-1").for_days(Some(30))).unwrap();
        write("ca.pem", &ca.certificate_pem());
        write("ca-key.pem", &ca.key_pem());
        write("link.pem", &link.certificate_pem());
        write("link-key.pem", &link.key_pem());
        write(
            "cp.toml",
            "name = \"cp-1\"\n[gateway]\nhost = \"a.example\"\ninstances = 1\n[link]\n\
             certificate = \"link.pem\"\nkey = \"link-key.pem\"\nsite_ca = \"ca.pem\"\n\
             [pki]\nca = \"ca.pem\"\nca_key = \"ca-key.pem\"\n",
        );
        let loaded = load_connection_point(&folder.path().join("cp.toml"), &|_| None).unwrap();
        let (authority, identity) = (loaded.authority.unwrap(), loaded.material.link);
        Home { folder, authority, identity }
    }

    fn link(home: &Home) -> Certificate {
        let file = &home.identity.certificate;
        files::read(file, &files::leaf(file).unwrap()).unwrap()
    }

    #[test]
    fn a_certificate_is_renewed_from_the_last_third_of_its_life_on() {
        let home = home();
        let before = link(&home);
        let validity = before.validity;
        let last_third = validity.not_after - validity.life() / 3;
        let renewed = |now| renew_if_due(&home.authority, &home.identity, now).unwrap();
        assert_eq!(renewed(last_third - Duration::from_secs(1)), None);
        assert_eq!(link(&home), before);
        let end = renewed(last_third + Duration::from_secs(1)).unwrap();
        let after = link(&home);
        assert_eq!(after.validity.not_after, end);
        assert_ne!(after.public_key, before.public_key);
        assert_eq!((after.subject, after.dns_names), (before.subject, before.dns_names));
        // What was renewed can be used, and is not due.
        load_connection_point(&home.folder.path().join("cp.toml"), &|_| None).unwrap();
        assert_eq!(renewed(SystemTime::now()), None);
    }

    #[test]
    fn a_certificate_that_lasts_as_long_as_its_authority_is_left_alone() {
        let home = home();
        let ca = SiteCa::load(&home.authority.certificate, &home.authority.key).unwrap();
        let mut wanted = Wanted::client("cp-1");
        wanted.life = time::Duration::days(9000);
        let issued = ca.issue(&wanted).unwrap();
        files::replace_identity(&issued.text(), &home.identity.certificate, &home.identity.key)
            .unwrap();
        let before = link(&home);
        let late = before.validity.not_after - Duration::from_secs(1);
        let told = renew_if_due(&home.authority, &home.identity, late).unwrap_err().to_string();
        assert!(told.contains("no certificate can outlive it"), "{told}");
        assert_eq!(link(&home), before);
    }
}
