//! The list of certificates that the authority has taken back.

use std::path::Path;

use anyhow::{Context as _, ensure};
use rcgen::{
    CertificateRevocationListParams, KeyIdMethod, RevocationReason, RevokedCertParams, SerialNumber,
};
use relay_core::transport::RevocationList;
use rustls::pki_types::CertificateRevocationListDer;
use rustls::pki_types::pem::PemObject as _;
use time::Duration;

use super::{CLOCK_SLACK, SiteCa, files};

/// The list as it stands in `file`; `None` if there is no file.
pub(super) fn read(file: &Path) -> anyhow::Result<Option<RevocationList>> {
    if !file.try_exists().with_context(|| format!("cannot look for {}", file.display()))? {
        return Ok(None);
    }
    let shown = file.display();
    let text = files::text(file)?;
    let der = CertificateRevocationListDer::from_pem_slice(text.as_bytes())
        .with_context(|| format!("{shown} holds no revocation list that can be read"))?;
    let list = RevocationList::from_der(&der).with_context(|| format!("{shown} cannot be used"))?;
    Ok(Some(list))
}

impl SiteCa {
    /// Signs a list of all that `old` holds and of `serials`, as PEM. It holds for `days`; without
    /// them for as long as the authority does: a list that is over keeps every link from coming up.
    ///
    /// # Errors
    ///
    /// If `old` is of another authority, or this one may not sign lists.
    pub(crate) fn revoke(
        &self,
        old: Option<&RevocationList>,
        serials: &[Vec<u8>],
        days: Option<u16>,
    ) -> anyhow::Result<String> {
        if let Some(old) = old {
            ensure!(
                old.issuer == self.subject,
                "the list is of `{}`, not of `{}`",
                old.issuer,
                self.subject
            );
        }
        let entry = |serial: &[u8], since| RevokedCertParams {
            serial_number: SerialNumber::from_slice(serial),
            revocation_time: since,
            reason_code: Some(RevocationReason::Unspecified),
            invalidity_date: None,
        };
        let kept = old.iter().flat_map(|old| &old.revoked);
        let mut revoked: Vec<_> =
            kept.map(|known| entry(&known.serial, known.since.into())).collect();
        let is_known = |serial: &[u8]| old.is_some_and(|old| old.holds(serial));
        let new = serials.iter().filter(|serial| !is_known(serial));
        revoked.extend(new.map(|serial| entry(serial, self.now)));
        let end = days.map(|days| self.now + Duration::days(days.into()));
        let list = CertificateRevocationListParams {
            this_update: self.now - CLOCK_SLACK,
            next_update: end.unwrap_or(self.not_after),
            crl_number: next_number(old),
            issuing_distribution_point: None,
            revoked_certs: revoked,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.issuer).context("cannot sign the list")?;
        list.pem().context("cannot write the list as PEM")
    }
}

/// One more than the number of `old`.
fn next_number(old: Option<&RevocationList>) -> SerialNumber {
    // RFC 5280, section 5.2.3: at most 20 octets; one a second would not fill eight of them.
    let octets = old.map(|old| old.number.as_slice()).unwrap_or_default();
    let last = octets.iter().rev().take(8).rev();
    let number = last.fold(0_u64, |number, octet| number << 8 | u64::from(*octet));
    SerialNumber::from(number.wrapping_add(1))
}
