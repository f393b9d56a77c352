//! Finding what ends in files and in what sites publish. What cannot be read is left out: whoever
//! uses it says why.

use std::fs;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use relay_core::config::{BackendFiles, ConnectionPointMaterial, GatewayMaterial, SitePaths};
use relay_core::gateway::SourceStatus;
use relay_core::settings::{ListSource, Revocation, SettingsDocument};
use relay_core::transport::{Certificate, RevocationList};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer};

use super::Ending;
use crate::site;

pub(super) fn of_gateway_files(material: &GatewayMaterial) -> Vec<Ending> {
    let server = ["server certificate", "intermediate of the server certificate"];
    let mut all = of_chain(&material.clients.certificate, server);
    all.extend(of_chain(&material.links.certificate, LINK));
    all.extend(of_site(&material.site));
    all
}

pub(super) fn of_connection_point_files(material: &ConnectionPointMaterial) -> Vec<Ending> {
    let mut all = of_chain(&material.link.certificate, LINK);
    all.extend(of_site(&material.site));
    if material.https_authority != material.site.authority {
        all.extend(of_chain(&material.https_authority, ["authority of the HTTPS ports"; 2]));
    }
    all
}

/// By what the backends of an endpoint are trusted, and what they are shown.
pub(super) fn of_backends(files: &BackendFiles) -> Vec<Ending> {
    let authority = files.authority.iter();
    let mut all: Vec<_> =
        authority.flat_map(|file| of_chain(file, ["backend authority"; 2])).collect();
    let shown = ["backend client certificate", "intermediate of the backend client certificate"];
    all.extend(files.certificates.iter().flat_map(|file| of_chain(file, shown)));
    all
}

/// The authority with which link certificates are renewed.
pub(super) fn of_link_authority(certificate: &Path) -> Vec<Ending> {
    of_chain(certificate, ["link authority"; 2])
}

/// What a connection point signs tokens with: the certificate of the key that signs now.
pub(super) fn of_signing_keys(folder: &Path) -> Vec<Ending> {
    let file = site::signing_file(folder);
    file.map(|file| of_chain(&file, ["signing certificate"; 2])).unwrap_or_default()
}

/// What a token service shows on the site's own network.
pub(super) fn of_token_service(certificate: &Path) -> Vec<Ending> {
    of_chain(certificate, ["token service certificate", "intermediate of the token service"])
}

const LINK: [&str; 2] = ["link certificate", "intermediate of the link certificate"];

/// What a file of `[clients]` holds: authorities or lists.
pub(super) fn of_client_file(file: &Path) -> Vec<Ending> {
    let place = file.display().to_string();
    let certificates = certificates(file).into_iter();
    let mut all: Vec<_> =
        certificates.map(|it| of_certificate(authority_of_clients(&it), &it, &place)).collect();
    all.extend(of_lists(file, "revocation list of clients"));
    all
}

/// What a site publishes of its clients. Its connection points warn of the same by their files; an
/// instance is what refuses.
pub(super) fn of_document(document: &SettingsDocument) -> Vec<Ending> {
    let place = format!("published by site `{}`", document.site);
    let Some(clients) = &document.clients else { return Vec::new() };
    let mut all = Vec::new();
    if let Some(published) = &clients.certificates {
        let authorities = published.roots.iter().chain(&published.intermediates);
        let authorities = authorities.filter_map(|der| Certificate::from_der(der).ok());
        all.extend(authorities.map(|it| of_certificate(authority_of_clients(&it), &it, &place)));
        if let Revocation::On(lists) = &published.revocation {
            all.extend(lists.iter().filter_map(|list| {
                let ListSource::Der(der) = list else { return None };
                let list = RevocationList::from_der(der).ok()?;
                of_list("revocation list of clients", &list, &place)
            }));
        }
    }
    if let Some(signers) = &clients.tokens {
        let signers = signers.certificates.iter();
        let signers = signers.filter_map(|der| Certificate::from_der(der).ok());
        all.extend(signers.map(|it| of_certificate("signing certificate", &it, &place)));
    }
    all
}

/// The lists that an instance fetches by itself. It says by itself where that fails.
pub(super) fn of_sources(sources: &[SourceStatus]) -> Vec<Ending> {
    let ends = sources.iter().filter_map(|it| {
        Some(Ending {
            what: "fetched revocation list",
            name: "the first of them".to_owned(),
            place: it.source.clone(),
            begins_at: None,
            ends_at: UNIX_EPOCH.checked_add(Duration::from_secs(it.next_update?))?,
        })
    });
    ends.collect()
}

/// The certificates of a file of which nobody has said what it is for.
pub(super) fn of_file(file: &Path) -> Vec<Ending> {
    of_chain(file, ["certificate"; 2])
}

fn of_site(site: &SitePaths) -> Vec<Ending> {
    let mut all = of_chain(&site.authority, ["site authority"; 2]);
    let lists = site.revoked.iter().flat_map(|file| of_lists(file, "revocation list of links"));
    all.extend(lists);
    all
}

/// What the certificates of a file are: the first, and those behind it.
fn of_chain(file: &Path, [first, others]: [&'static str; 2]) -> Vec<Ending> {
    let place = file.display().to_string();
    let whats = [first].into_iter().chain(std::iter::repeat(others));
    let all = whats.zip(certificates(file));
    all.map(|(what, certificate)| of_certificate(what, &certificate, &place)).collect()
}

fn authority_of_clients(certificate: &Certificate) -> &'static str {
    if certificate.subject == certificate.issuer { "client root" } else { "client intermediate" }
}

fn of_certificate(what: &'static str, certificate: &Certificate, place: &str) -> Ending {
    Ending {
        what,
        name: certificate.subject.clone(),
        place: place.to_owned(),
        begins_at: Some(certificate.validity.not_before),
        ends_at: certificate.validity.not_after,
    }
}

fn of_list(what: &'static str, list: &RevocationList, place: &str) -> Option<Ending> {
    let (name, place) = (list.issuer.clone(), place.to_owned());
    let begins_at = Some(list.this_update);
    Some(Ending { what, name, place, begins_at, ends_at: list.next_update? })
}

fn of_lists(file: &Path, what: &'static str) -> Vec<Ending> {
    let place = file.display().to_string();
    let Ok(octets) = fs::read(file) else { return Vec::new() };
    let ders: Vec<_> =
        CertificateRevocationListDer::pem_slice_iter(&octets).filter_map(Result::ok).collect();
    // A file of a list may be the list itself.
    let whole = [CertificateRevocationListDer::from(octets)];
    let ders = if ders.is_empty() { whole.as_slice() } else { ders.as_slice() };
    let lists = ders.iter().filter_map(|der| RevocationList::from_der(der).ok());
    lists.filter_map(|list| of_list(what, &list, &place)).collect()
}

fn certificates(file: &Path) -> Vec<Certificate> {
    let Ok(octets) = fs::read(file) else { return Vec::new() };
    let ders: Vec<_> = CertificateDer::pem_slice_iter(&octets).filter_map(Result::ok).collect();
    let whole = [CertificateDer::from(octets)];
    let ders = if ders.is_empty() { whole.as_slice() } else { ders.as_slice() };
    ders.iter().filter_map(|der| Certificate::from_der(der).ok()).collect()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use bytes::Bytes;
    use rcgen::{
        CertificateParams, CertificateRevocationListParams, DnType, Issuer, KeyIdMethod, KeyPair,
        KeyUsagePurpose,
    };
    use relay_core::auth::{Guid, Methods, Strictness};
    use relay_core::settings::{ClientTrust, PublishedCertificates, PublishedSigners};

    use super::*;

    /// A certificate that signs itself, and ends in the year 2100.
    fn pem(name: &str) -> String {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_after = rcgen::date_time_ymd(2100, 1, 1);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
    }

    fn told(all: &[Ending]) -> Vec<(&str, bool)> {
        all.iter().map(|it| (it.what, it.name.contains("CN=b"))).collect()
    }

    #[test]
    fn each_certificate_of_a_file_is_listed_by_its_place_in_it_and_what_is_none_is_left_out() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("chain.pem");
        fs::write(&file, pem("a") + "text\n" + &pem("b")).unwrap();
        let all = of_chain(&file, ["first", "other"]);
        assert_eq!(told(&all), [("first", false), ("other", true)]);
        assert!(all.iter().all(|it| it.place == file.display().to_string()));
        let end = Duration::from_hours(1_139_568);
        assert!(all.iter().all(|it| it.ends_at == UNIX_EPOCH + end));

        fs::write(&file, "neither").unwrap();
        assert!(of_client_file(&file).is_empty());
        assert!(of_client_file(&PathBuf::from("/nowhere")).is_empty());
    }

    /// A list of nothing by the authority of this name, which is over in the year 2100.
    fn list_pem(name: &str) -> String {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::CrlSign];
        let list = CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(2000, 1, 1),
            next_update: rcgen::date_time_ymd(2100, 1, 1),
            crl_number: 1_u64.into(),
            issuing_distribution_point: None,
            revoked_certs: Vec::new(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&Issuer::new(params, key)).unwrap().pem().unwrap()
    }

    fn list(pem: &str) -> Bytes {
        let list = CertificateRevocationListDer::from_pem_slice(pem.as_bytes()).unwrap();
        Bytes::copy_from_slice(&list)
    }

    #[test]
    fn a_file_of_clients_holds_lists_as_text_or_as_they_are() {
        const WHAT: &str = "revocation list of clients";
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("clients.crl");
        let last = list_pem("b");
        fs::write(&file, list_pem("a") + &last).unwrap();
        assert_eq!(told(&of_client_file(&file)), [(WHAT, false), (WHAT, true)]);
        fs::write(&file, list(&last)).unwrap();
        let all = of_client_file(&file);
        assert_eq!(told(&all), [(WHAT, true)]);
        assert_eq!(all[0].ends_at, UNIX_EPOCH + Duration::from_hours(1_139_568));
    }

    #[test]
    fn of_what_a_site_publishes_authorities_lists_and_signers_are_listed() {
        let der = |name| {
            let der = CertificateDer::from_pem_slice(pem(name).as_bytes()).unwrap();
            Bytes::copy_from_slice(&der)
        };
        let certificates = PublishedCertificates {
            roots: vec![der("b")],
            intermediates: Vec::new(),
            revocation: Revocation::On(vec![ListSource::Der(list(&list_pem("b")))]),
        };
        let tokens = PublishedSigners {
            tenant: Guid(1),
            revision: 1,
            certificates: vec![der("a")],
            blocked: Vec::new(),
        };
        let clients = ClientTrust {
            methods: Methods::default(),
            strictness: Strictness::default(),
            certificates: Some(certificates),
            tenants: Vec::new(),
            tokens: Some(tokens),
            barred: Vec::new(),
        };
        let (endpoints, tenants, deadlines) = (Vec::new(), Vec::new(), Vec::new());
        let (site, clients) = ("home".to_owned(), Some(clients));
        let mut document =
            SettingsDocument { site, version: 1, endpoints, tenants, deadlines, clients };
        let all = of_document(&document);
        let listed = ("revocation list of clients", true);
        assert_eq!(told(&all), [("client root", true), listed, ("signing certificate", false)]);
        assert!(all.iter().all(|it| it.place == "published by site `home`"));
        document.clients = None;
        assert!(of_document(&document).is_empty());
    }

    #[test]
    fn a_file_of_clients_holds_authorities_as_text_or_as_they_are() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("clients.pem");
        let root = pem("b");
        fs::write(&file, &root).unwrap();
        assert_eq!(told(&of_client_file(&file)), [("client root", true)]);
        let der = CertificateDer::from_pem_slice(root.as_bytes()).unwrap();
        fs::write(&file, &der).unwrap();
        assert_eq!(told(&of_client_file(&file)), [("client root", true)]);
    }
}
