//! `relay pki show`: what certificates and revocation lists say, for people and for programs.

use std::fmt::Write as _;
use std::path::Path;
use std::time::SystemTime;

use anyhow::{Context as _, ensure};
use relay_core::transport::{Certificate, RevocationList, Uses};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::files;

/// One certificate or list of a file. Fields are only ever added.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub(super) enum Shown {
    Certificate(ShownCertificate),
    RevocationList(ShownList),
}

#[derive(Serialize)]
pub(super) struct ShownCertificate {
    file: String,
    subject: String,
    names: Vec<String>,
    uses: Vec<&'static str>,
    /// RFC 3339, UTC.
    not_before: String,
    not_after: String,
    /// Of the whole life, in percent, rounded down.
    life_left_percent: u64,
    days_left: u64,
    /// Less than a third of the life is left.
    renewal_is_due: bool,
    issuer: String,
    serial: String,
    sha256: String,
}

#[derive(Serialize)]
pub(super) struct ShownList {
    file: String,
    issuer: String,
    this_update: String,
    next_update: Option<String>,
    /// Where it is used, no peer is trusted any more.
    is_over: bool,
    /// Serial numbers of what was taken back.
    revoked: Vec<String>,
}

/// The day of a moment, in UTC.
pub(super) fn date(at: SystemTime) -> String {
    OffsetDateTime::from(at).date().to_string()
}

fn moment(at: SystemTime) -> String {
    OffsetDateTime::from(at).format(&Rfc3339).unwrap_or_else(|_| date(at))
}

/// Every certificate and list of a file, as of `now`.
pub(super) fn file(path: &Path, now: SystemTime) -> anyhow::Result<Vec<Shown>> {
    let text = files::text(path)?;
    let broken = || format!("{} is no valid PEM", path.display());
    let mut shown = Vec::new();
    for der in CertificateDer::pem_slice_iter(text.as_bytes()) {
        let certificate = files::read(path, &der.with_context(broken)?)?;
        shown.push(Shown::Certificate(ShownCertificate::of(path, &certificate, now)));
    }
    for der in CertificateRevocationListDer::pem_slice_iter(text.as_bytes()) {
        let list = RevocationList::from_der(&der.with_context(broken)?);
        let list = list.with_context(|| format!("{} cannot be used", path.display()))?;
        shown.push(Shown::RevocationList(ShownList::of(path, &list, now)));
    }
    ensure!(
        !shown.is_empty(),
        "{} holds neither a certificate nor a revocation list",
        path.display()
    );
    Ok(shown)
}

impl ShownCertificate {
    fn of(file: &Path, certificate: &Certificate, now: SystemTime) -> Self {
        let validity = certificate.validity;
        let left = validity.left(now);
        let life = validity.life().as_secs().max(1);
        let addresses = certificate.addresses.iter().map(ToString::to_string);
        Self {
            file: file.display().to_string(),
            subject: certificate.subject.clone(),
            names: certificate.names().map(str::to_owned).chain(addresses).collect(),
            uses: uses(certificate.uses),
            not_before: moment(validity.not_before),
            not_after: moment(validity.not_after),
            life_left_percent: left.as_secs() * 100 / life,
            days_left: left.as_secs() / (24 * 3600),
            renewal_is_due: validity.is_renewal_due(now),
            issuer: certificate.issuer.clone(),
            serial: hexadecimal(&certificate.serial),
            sha256: certificate.fingerprint.to_string(),
        }
    }
}

impl ShownList {
    fn of(file: &Path, list: &RevocationList, now: SystemTime) -> Self {
        Self {
            file: file.display().to_string(),
            issuer: list.issuer.clone(),
            this_update: moment(list.this_update),
            next_update: list.next_update.map(moment),
            is_over: list.next_update.is_some_and(|end| end < now),
            revoked: list.revoked.iter().map(|entry| hexadecimal(&entry.serial)).collect(),
        }
    }
}

fn uses(uses: Uses) -> Vec<&'static str> {
    if uses.authority {
        return vec!["authority"];
    }
    let uses = [uses.server.then_some("server"), uses.client.then_some("client")];
    uses.into_iter().flatten().collect()
}

pub(super) fn hexadecimal(octets: &[u8]) -> String {
    let octets: Vec<_> = octets.iter().map(|octet| format!("{octet:02X}")).collect();
    octets.join(":")
}

/// All of them as text.
pub(super) fn text(all: &[Shown]) -> String {
    let mut text = String::new();
    for shown in all {
        let (file, rows) = match shown {
            Shown::Certificate(shown) => (&shown.file, certificate_rows(shown)),
            Shown::RevocationList(shown) => (&shown.file, list_rows(shown)),
        };
        writeln!(text, "{file}").expect("writing to a String does not fail");
        for (label, value) in rows {
            writeln!(text, "  {label:<13}{value}").expect("writing to a String does not fail");
        }
    }
    text.truncate(text.trim_end().len());
    text
}

fn certificate_rows(shown: &ShownCertificate) -> Vec<(&'static str, String)> {
    let due = if shown.renewal_is_due { "; renewal is due" } else { "" };
    vec![
        ("subject", shown.subject.clone()),
        ("names", shown.names.join(", ")),
        ("uses", shown.uses.join(", ")),
        ("valid", format!("{} to {}", shown.not_before, shown.not_after)),
        ("life left", format!("{} %, {} days{due}", shown.life_left_percent, shown.days_left)),
        ("issuer", shown.issuer.clone()),
        ("serial", shown.serial.clone()),
        ("sha-256", shown.sha256.clone()),
    ]
}

fn list_rows(shown: &ShownList) -> Vec<(&'static str, String)> {
    let end = shown.next_update.as_deref().unwrap_or("no end");
    let over = if shown.is_over { "; it is over: no link comes up with it" } else { "" };
    let mut rows = vec![
        ("list of", shown.issuer.clone()),
        ("valid", format!("{} to {end}{over}", shown.this_update)),
    ];
    rows.extend(shown.revoked.iter().map(|serial| ("revoked", serial.clone())));
    rows
}
