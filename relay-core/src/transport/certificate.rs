//! What a certificate says, as plain values.
//!
//! Nothing here verifies a signature: a peer's certificate comes from a TLS handshake, which has.
//! Read [`Certificate`] first.

use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};
use tokio_rustls::{client, server};
use x509_parser::certificate::X509Certificate;
use x509_parser::error::X509Error;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer as _;
use x509_parser::time::ASN1Time;

/// A link as the side that listens has it: TLS over a pipe, with the peer's certificate verified.
pub type AcceptedLink<P> = server::TlsStream<P>;

/// A link as the side that dials has it.
pub type DialledLink<P> = client::TlsStream<P>;

/// The chain, leaf first, that the peer of a link that was dialled has shown and that was verified.
pub fn shown_chain<P>(link: &DialledLink<P>) -> Vec<CertificateDer<'static>> {
    link.get_ref().1.peer_certificates().unwrap_or_default().to_vec()
}

/// One X.509 certificate's contents.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Certificate {
    /// The whole subject, for people.
    pub subject: String,
    /// The whole issuer, for people.
    pub issuer: String,
    /// The subject's common name, if it has one that is text.
    pub common_name: Option<String>,
    /// The alternative names that are DNS names, as written.
    pub dns_names: Vec<String>,
    /// The alternative names that are addresses.
    pub addresses: Vec<IpAddr>,
    /// What it may be used for.
    pub uses: Uses,
    /// The serial number, unique under its issuer: big-endian octets as encoded.
    pub serial: Vec<u8>,
    /// When it holds.
    pub validity: Validity,
    /// Its public key with the algorithm: a `SubjectPublicKeyInfo` in DER.
    pub public_key: Vec<u8>,
    /// SHA-256 of the whole certificate.
    pub fingerprint: Fingerprint,
}

/// What a certificate may be used for. One that names no uses has all but that of an authority.
///
/// Source: RFC 5280, sections 4.2.1.9 and 4.2.1.12.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Uses {
    /// A server may show it: a gateway instance.
    pub server: bool,
    /// A client may show it: a connection point.
    pub client: bool,
    /// It may sign certificates.
    pub authority: bool,
}

/// From when until when a certificate holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Validity {
    /// Its first second.
    pub not_before: SystemTime,
    /// Its last second.
    pub not_after: SystemTime,
}

impl Validity {
    /// From `not_before` until `not_after`.
    pub const fn new(not_before: SystemTime, not_after: SystemTime) -> Self {
        Self { not_before, not_after }
    }

    /// Its whole length; zero if it ends before it begins.
    pub fn life(self) -> Duration {
        self.not_after.duration_since(self.not_before).unwrap_or_default()
    }

    /// What is left of it at `now`; zero once it is over, and never more than its whole length.
    pub fn left(self, now: SystemTime) -> Duration {
        self.not_after.duration_since(now).unwrap_or_default().min(self.life())
    }

    /// Whole days that are left of it at `now`.
    pub fn days_left(self, now: SystemTime) -> u64 {
        self.left(now).as_secs() / (24 * 60 * 60)
    }

    /// Whether it is to be renewed: less than a third of its life is left at `now`.
    ///
    /// Our choice: with certificates of 825 days that leaves nine months for whoever must act when
    /// the renewal fails.
    pub fn is_renewal_due(self, now: SystemTime) -> bool {
        // A life is at most 8000 years, far from what a `Duration` holds.
        self.left(now).saturating_mul(3) < self.life() || self.left(now).is_zero()
    }
}

/// SHA-256 of a certificate. Shown as OpenSSL does: octets in upper-case hexadecimal with colons.
#[derive(Clone, Copy, Eq, Hash, PartialEq)]
pub struct Fingerprint(pub [u8; 32]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, octet) in self.0.iter().enumerate() {
            if place > 0 {
                f.write_str(":")?;
            }
            write!(f, "{octet:02X}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a certificate could not be read. The fault of whoever issued it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// The peer has shown none. Only a TLS configuration that asks for none lets it come so far.
    #[error("the peer has shown no certificate; TLS for links must require one")]
    Absent,
    /// It is not X.509, or not as the standard has it.
    #[error("not a certificate that can be read: {reason}; have it issued anew")]
    Malformed {
        /// What the reader found.
        reason: String,
    },
    /// Octets follow its end.
    #[error("{octets} octets follow the end of the certificate; have it issued anew")]
    Trailing {
        /// How many.
        octets: usize,
    },
}

impl Certificate {
    /// Reads one certificate in DER.
    ///
    /// # Errors
    ///
    /// [`CertificateError::Malformed`] and [`CertificateError::Trailing`].
    pub fn from_der(der: &[u8]) -> Result<Self, CertificateError> {
        let (rest, parsed) = X509Certificate::from_der(der).map_err(|error| malformed(&error))?;
        if !rest.is_empty() {
            return Err(CertificateError::Trailing { octets: rest.len() });
        }
        let malformed = |error: X509Error| malformed(&error);
        let common_name = parsed.subject().iter_common_name().next();
        let mut certificate = Self {
            subject: parsed.subject().to_string(),
            issuer: parsed.issuer().to_string(),
            common_name: common_name.and_then(|name| name.as_str().ok()).map(str::to_owned),
            dns_names: Vec::new(),
            addresses: Vec::new(),
            uses: uses(&parsed).map_err(malformed)?,
            serial: parsed.raw_serial().to_vec(),
            validity: Validity {
                not_before: time(parsed.validity().not_before)?,
                not_after: time(parsed.validity().not_after)?,
            },
            public_key: parsed.public_key().raw.to_vec(),
            fingerprint: Fingerprint(Sha256::digest(der).into()),
        };
        let names = parsed.subject_alternative_name().map_err(malformed)?;
        for name in names.iter().flat_map(|extension| &extension.value.general_names) {
            match name {
                GeneralName::DNSName(name) => certificate.dns_names.push((*name).to_owned()),
                GeneralName::IPAddress(octets) => certificate.addresses.extend(address(octets)),
                _ => {}
            }
        }
        Ok(certificate)
    }

    /// One that says nothing.
    #[cfg(test)]
    pub(crate) fn nobodys() -> Self {
        Self {
            subject: String::new(),
            issuer: String::new(),
            common_name: None,
            dns_names: Vec::new(),
            addresses: Vec::new(),
            uses: Uses { server: false, client: false, authority: false },
            serial: Vec::new(),
            validity: Validity::new(UNIX_EPOCH, UNIX_EPOCH),
            public_key: Vec::new(),
            fingerprint: Fingerprint([0; 32]),
        }
    }

    /// The certificate that the peer of a link has shown and that was verified.
    ///
    /// # Errors
    ///
    /// [`CertificateError`].
    pub fn of_peer<P>(link: &AcceptedLink<P>) -> Result<Self, CertificateError> {
        let chain = link.get_ref().1.peer_certificates().unwrap_or_default();
        Self::of_chain(chain)
    }

    /// The leaf of a chain that was verified, for a transport that speaks TLS by itself.
    ///
    /// # Errors
    ///
    /// [`CertificateError`].
    pub fn of_chain(chain: &[CertificateDer<'_>]) -> Result<Self, CertificateError> {
        Self::from_der(chain.first().ok_or(CertificateError::Absent)?)
    }

    /// Whether `name` is its common name or one of its DNS names, octet by octet: names of
    /// connection points are compared so everywhere.
    pub fn is_named(&self, name: &str) -> bool {
        self.names().any(|own| own == name)
    }

    /// Its names for text: the common name, then the DNS names that differ from it.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let common_name = self.common_name.as_deref();
        let others = self.dns_names.iter().map(String::as_str);
        common_name.into_iter().chain(others.filter(move |name| Some(*name) != common_name))
    }
}

pub(super) fn malformed(error: &dyn fmt::Display) -> CertificateError {
    CertificateError::Malformed { reason: error.to_string() }
}

fn uses(parsed: &X509Certificate<'_>) -> Result<Uses, X509Error> {
    let extended = parsed.extended_key_usage()?.map(|extension| extension.value);
    Ok(Uses {
        server: extended.is_none_or(|uses| uses.any || uses.server_auth),
        client: extended.is_none_or(|uses| uses.any || uses.client_auth),
        authority: parsed.is_ca(),
    })
}

pub(super) fn time(time: ASN1Time) -> Result<SystemTime, CertificateError> {
    let seconds = time.timestamp();
    let distance = Duration::from_secs(seconds.unsigned_abs());
    let moved = match seconds {
        0.. => UNIX_EPOCH.checked_add(distance),
        _ => UNIX_EPOCH.checked_sub(distance),
    };
    moved.ok_or_else(|| malformed(&"a date that this system cannot express"))
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    // RFC 5280, section 4.2.1.6: 4 octets or 16.
    <[u8; 4]>::try_from(octets)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from))
        .ok()
}

#[cfg(test)]
mod tests {
    use rcgen::{
        CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
        SerialNumber,
    };

    use super::*;

    fn der(change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
        let names = ["one.example", "two.example", "192.0.2.1", "::1"].map(str::to_owned);
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, "one.example");
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().to_vec()
    }

    fn read(change: impl FnOnce(&mut CertificateParams)) -> Certificate {
        Certificate::from_der(&der(change)).unwrap()
    }

    #[test]
    fn a_certificate_is_read_as_it_was_written() {
        let read = read(|params| {
            params.serial_number = Some(SerialNumber::from_slice(&[7, 8, 9]));
            params.not_before = rcgen::date_time_ymd(1969, 12, 31);
            params.not_after = rcgen::date_time_ymd(2100, 1, 1);
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        });
        assert_eq!(read.common_name.as_deref(), Some("one.example"));
        assert_eq!(read.dns_names, ["one.example", "two.example"]);
        assert_eq!(read.addresses, ["192.0.2.1", "::1"].map(|it| it.parse::<IpAddr>().unwrap()));
        assert_eq!(read.names().collect::<Vec<_>>(), ["one.example", "two.example"]);
        assert_eq!(read.serial, [7, 8, 9]);
        let day = Duration::from_hours(24);
        assert_eq!(read.validity.not_before, UNIX_EPOCH - day);
        // Source: 130 years with 32 leap days; 2100 is not counted.
        assert_eq!(read.validity.not_after, UNIX_EPOCH + day * (130 * 365 + 32));
        assert_eq!(read.uses, Uses { server: false, client: true, authority: false });
    }

    #[test]
    fn a_name_counts_as_common_name_or_dns_name_and_only_whole() {
        let read = read(|params| {
            params.distinguished_name.push(DnType::CommonName, "Ort 1 – Köln");
        });
        for name in ["Ort 1 – Köln", "one.example", "two.example"] {
            assert!(read.is_named(name), "{name}");
        }
        for name in ["", "ONE.example", "one", "example", "192.0.2.1", "one.example "] {
            assert!(!read.is_named(name), "{name}");
        }
        assert!(!self::read(|it| it.distinguished_name = DistinguishedName::new()).is_named(""));
    }

    #[test]
    fn a_certificate_without_uses_has_both_and_an_authority_says_so() {
        assert_eq!(read(|_| ()).uses, Uses { server: true, client: true, authority: false });
        let authority =
            read(|params| params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained));
        assert!(authority.uses.authority);
    }

    #[test]
    fn what_is_no_certificate_is_refused_at_every_length() {
        let whole = der(|_| ());
        for len in 0..whole.len() {
            let read = Certificate::from_der(&whole[..len]);
            assert!(matches!(read, Err(CertificateError::Malformed { .. })), "{len} octets");
        }
        let longer = [&whole[..], &[0]].concat();
        let trailing = CertificateError::Trailing { octets: 1 };
        assert_eq!(Certificate::from_der(&longer), Err(trailing));
        assert_eq!(Certificate::of_chain(&[]), Err(CertificateError::Absent));
    }

    #[test]
    fn a_fingerprint_is_shown_as_openssl_shows_it() {
        let shown = Fingerprint(std::array::from_fn(|n| u8::try_from(n * 8).unwrap())).to_string();
        assert!(shown.starts_with("00:08:10:18:") && shown.ends_with(":F0:F8"), "{shown}");
    }

    #[test]
    fn renewal_is_due_when_less_than_a_third_is_left() {
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        let validity = Validity::new(at(1000), at(1300));
        for (now, is_due) in
            [(0, false), (1000, false), (1199, false), (1200, false), (1201, true), (1300, true)]
        {
            assert_eq!(validity.is_renewal_due(at(now)), is_due, "at {now}");
        }
        assert!(validity.is_renewal_due(at(9999)), "over");
        assert!(Validity::new(at(2), at(1)).is_renewal_due(at(0)), "never valid");
    }
}
