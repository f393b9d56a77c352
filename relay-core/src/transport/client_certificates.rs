//! Which certificate a connection point shows to a backend that asks for one, and why.
//!
//! A set of candidates is judged whole when it is loaded ([`ClientCertificates::verdicts`]) and
//! again in each handshake, by the clock and by what the backend asks for. Nothing here reads a
//! file or knows what a backend is for.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::crypto::aws_lc_rs;
use rustls::sign::CertifiedKey;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer as _;

use super::certificate::{Certificate, Fingerprint, Validity};
use super::tls::Identity;

/// Candidates of one set that are taken at most.
// Our choice: a folder with more is not one of client certificates.
pub const CLIENT_CERTIFICATES_MAX: usize = 64;

/// Why a candidate is not shown.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum NotShown {
    /// Its files cannot be read, or hold something else.
    #[error("it cannot be used: {0}")]
    Unusable(String),
    /// It names what it may be used for, and client authentication is not among it.
    #[error("its extended key usage does not name client authentication")]
    NotForClients,
    /// It does not hold yet. The clock's fault, or that of whoever issued it.
    #[error("it is not valid yet")]
    NotYet,
    /// It holds no more. Renew it.
    #[error("it has expired")]
    Expired,
    /// The backend names the authorities it takes, and none of them has signed this chain.
    #[error("the backend takes no certificate of its issuer, {issuer}")]
    Issuer {
        /// Who has signed it.
        issuer: String,
    },
    /// The backend takes no signature that its key can make.
    #[error("its key makes no signature that the backend takes")]
    Signature,
    /// Another that fits as well is valid for longer.
    #[error("another one that fits is valid for longer")]
    Shorter,
}

/// What was decided about one candidate.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Verdict {
    /// What the candidate is called: usually its file.
    pub name: String,
    /// Its subject; empty if it cannot be read.
    pub subject: String,
    /// Its SHA-256, unless it cannot be read.
    pub fingerprint: Option<Fingerprint>,
    /// When it holds, unless it cannot be read.
    pub validity: Option<Validity>,
    /// `None`: it is the one that is shown.
    pub why_not: Option<NotShown>,
}

/// A certificate that may be shown, with its private key, under a name for people.
struct Candidate {
    name: String,
    usable: Result<Usable, String>,
}

impl Candidate {
    fn is(&self, other: &Self) -> bool {
        let same = match (&self.usable, &other.usable) {
            (Ok(own), Ok(others)) => own.key.cert == others.key.cert,
            (Err(own), Err(others)) => own == others,
            _ => false,
        };
        same && self.name == other.name
    }
}

struct Usable {
    key: Arc<CertifiedKey>,
    certificate: Certificate,
    /// The issuer's name of each certificate of the chain, in DER.
    issuers: Vec<Vec<u8>>,
}

impl Usable {
    fn new(identity: &Identity) -> Result<Self, String> {
        let chain = identity.chain().to_vec();
        let certificate = Certificate::of_chain(&chain).map_err(|error| error.to_string())?;
        let issuers = chain.iter().filter_map(|der| {
            let (_, parsed) = X509Certificate::from_der(der).ok()?;
            Some(parsed.issuer().as_raw().to_vec())
        });
        let issuers = issuers.collect();
        let provider = aws_lc_rs::default_provider();
        let key = CertifiedKey::from_der(chain, identity.key().clone_key(), &provider)
            .map_err(|error| format!("certificate and key do not make an identity: {error}"))?;
        Ok(Self { key: Arc::new(key), certificate, issuers })
    }

    fn judge(&self, asked: Option<&Asked<'_>>, now: SystemTime) -> Result<(), NotShown> {
        let Validity { not_before, not_after, .. } = self.certificate.validity;
        if !self.certificate.uses.client {
            return Err(NotShown::NotForClients);
        }
        if now < not_before {
            return Err(NotShown::NotYet);
        }
        if not_after < now {
            return Err(NotShown::Expired);
        }
        let Some(asked) = asked else { return Ok(()) };
        // No list means any. Source: RFC 8446, section 4.2.4, and RFC 5246, section 7.4.4.
        let is_named = |issuer: &Vec<u8>| asked.issuers.contains(&issuer.as_slice());
        if !asked.issuers.is_empty() && !self.issuers.iter().any(is_named) {
            return Err(NotShown::Issuer { issuer: self.certificate.issuer.clone() });
        }
        match self.key.key.choose_scheme(asked.schemes) {
            Some(_) => Ok(()),
            None => Err(NotShown::Signature),
        }
    }
}

/// What a backend says about the certificate that it wants.
struct Asked<'a> {
    /// Names of authorities, in DER.
    issuers: &'a [&'a [u8]],
    schemes: &'a [SignatureScheme],
}

/// The certificates that may be shown to the backends of one endpoint.
///
/// Of those that are valid now, are for clients, whose key belongs to them and whose issuer the
/// backend takes, the one that is valid for longest is shown.
pub struct ClientCertificates {
    owner: String,
    candidates: Vec<Candidate>,
    told: Mutex<Told>,
}

/// What was logged about backends that asked, so that each news is told once.
#[derive(Default)]
struct Told {
    texts: Vec<String>,
    /// When the first of them was.
    since: Option<SystemTime>,
}

/// Different texts that are told within [`TOLD_AGAIN`]; what comes beyond is not.
// Our choice: each candidate has a handful of reasons, and whoever asks chooses among them.
const TOLD_MAX: usize = 16;

/// How long it takes until what was told before is news again.
const TOLD_AGAIN: Duration = Duration::from_hours(1);

impl Told {
    /// Whether `text` is to be told.
    fn is_news(&mut self, text: &str, now: SystemTime) -> bool {
        let age = self.since.map(|since| now.duration_since(since).unwrap_or_default());
        if age.is_some_and(|age| TOLD_AGAIN <= age) {
            *self = Self::default();
        }
        if self.texts.len() == TOLD_MAX || self.texts.iter().any(|told| told == text) {
            return false;
        }
        self.since.get_or_insert(now);
        self.texts.push(text.to_owned());
        true
    }
}

/// Names of candidates alone: their keys are secrets.
impl fmt::Debug for ClientCertificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.candidates.iter().map(|candidate| &candidate.name);
        write!(f, "ClientCertificates({}: ", self.owner)?;
        f.debug_list().entries(names).finish()?;
        f.write_str(")")
    }
}

impl ClientCertificates {
    /// No candidates yet, for the endpoint that is called `owner` in the log.
    pub fn new(owner: impl Into<String>) -> Self {
        Self { owner: owner.into(), candidates: Vec::new(), told: Mutex::default() }
    }

    /// The same set with another candidate, or with the reason why there is none under this name.
    ///
    /// What does not make an identity stays in the set, and is told of.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, identity: Result<Identity, String>) -> Self {
        let usable = identity.and_then(|identity| Usable::new(&identity));
        self.candidates.push(Candidate { name: name.into(), usable });
        self
    }

    /// Whether there is no candidate at all.
    pub fn is_empty(&self) -> bool {
        self.candidates.is_empty()
    }

    /// What would be decided at `now` about each candidate, for a backend that takes any issuer.
    pub fn verdicts(&self, now: SystemTime) -> Vec<Verdict> {
        self.judge(None, now).1
    }

    /// Logs each verdict that holds now.
    pub fn tell(&self) {
        for verdict in self.verdicts(SystemTime::now()) {
            let Verdict { name, subject, fingerprint, why_not, .. } = verdict;
            let sha256 = fingerprint.map(|it| it.to_string()).unwrap_or_default();
            let endpoint = &self.owner;
            match why_not {
                None => tracing::info!(
                    endpoint,
                    certificate = name,
                    subject,
                    sha256,
                    "this client certificate is shown to backends that take its issuer: it is \
                     valid now, for clients, has its key, and is valid for longest"
                ),
                Some(why) => tracing::info!(
                    endpoint,
                    certificate = name,
                    subject,
                    sha256,
                    %why,
                    "this client certificate is not shown"
                ),
            }
        }
    }

    /// Whether `other` is the same set: candidates of the same names with the same chains, in the
    /// same order, for the same endpoint. A candidate's key is its certificate's, so that it needs
    /// no look.
    pub fn are_those_of(&self, other: &Self) -> bool {
        let candidates = self.candidates.iter().zip(&other.candidates);
        self.owner == other.owner
            && self.candidates.len() == other.candidates.len()
            && candidates.into_iter().all(|(own, others)| own.is(others))
    }

    /// The one that is shown, and what was decided about each.
    fn judge(&self, asked: Option<&Asked<'_>>, now: SystemTime) -> (Option<&Usable>, Vec<Verdict>) {
        let judged = self.candidates.iter().map(|candidate| match &candidate.usable {
            Ok(usable) => usable.judge(asked, now).map(|()| usable),
            Err(why) => Err(NotShown::Unusable(why.clone())),
        });
        let judged: Vec<Result<&Usable, NotShown>> = judged.collect();
        let mut best: Option<(usize, &Usable)> = None;
        for (place, usable) in judged.iter().enumerate() {
            let Ok(usable) = usable else { continue };
            let until = |usable: &Usable| usable.certificate.validity.not_after;
            // Of two that end together the first stays.
            if best.is_none_or(|(_, best)| until(best) < until(usable)) {
                best = Some((place, usable));
            }
        }
        let chosen = best.map(|(place, _)| place);
        let verdicts = self.candidates.iter().zip(judged).enumerate();
        let verdicts = verdicts.map(|(place, (candidate, judged))| {
            let certificate = candidate.usable.as_ref().ok().map(|usable| &usable.certificate);
            let beaten = (chosen != Some(place)).then_some(NotShown::Shorter);
            Verdict {
                name: candidate.name.clone(),
                subject: certificate.map(|it| it.subject.clone()).unwrap_or_default(),
                fingerprint: certificate.map(|it| it.fingerprint),
                validity: certificate.map(|it| it.validity),
                why_not: judged.err().or(beaten),
            }
        });
        (best.map(|(_, usable)| usable), verdicts.collect())
    }

    /// Logs what a backend that asks is shown, where that is news.
    fn tell_asked(&self, verdicts: &[Verdict]) {
        let shown = verdicts.iter().find(|verdict| verdict.why_not.is_none());
        let text = match shown {
            Some(verdict) => verdict.name.clone(),
            None if verdicts.is_empty() => "none is configured".to_owned(),
            None => {
                let each = verdicts.iter().map(|verdict| {
                    let why = verdict.why_not.as_ref().map(NotShown::to_string);
                    format!("{}: {}", verdict.name, why.unwrap_or_default())
                });
                each.collect::<Vec<_>>().join("; ")
            }
        };
        let is_news = {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            told.is_news(&text, SystemTime::now())
        };
        let endpoint = &self.owner;
        match shown {
            _ if !is_news => {}
            Some(_) => tracing::info!(
                endpoint,
                certificate = text,
                "the backend asks for a client certificate and is shown this one"
            ),
            None => tracing::warn!(
                endpoint,
                why = text,
                "the backend asks for a client certificate and none fits; set client_certificate \
                 of its [[endpoint]]"
            ),
        }
    }
}

impl ResolvesClientCert for ClientCertificates {
    fn resolve(
        &self,
        root_hint_subjects: &[&[u8]],
        sigschemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        let asked = Asked { issuers: root_hint_subjects, schemes: sigschemes };
        let (chosen, verdicts) = self.judge(Some(&asked), SystemTime::now());
        self.tell_asked(&verdicts);
        chosen.map(|usable| Arc::clone(&usable.key))
    }

    fn has_certs(&self) -> bool {
        self.candidates.iter().any(|candidate| candidate.usable.is_ok())
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose,
        IsCa, KeyPair, date_time_ymd,
    };
    use rustls::pki_types::PrivatePkcs8KeyDer;

    use super::*;

    type Authority = CertifiedIssuer<'static, KeyPair>;

    fn authority(name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        Authority::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    fn identity(
        by: &Authority,
        years: std::ops::Range<i32>,
        purpose: ExtendedKeyUsagePurpose,
    ) -> Identity {
        let mut params = CertificateParams::new(vec!["cp".to_owned()]).unwrap();
        params.extended_key_usages = vec![purpose];
        params.not_before = date_time_ymd(years.start, 1, 1);
        params.not_after = date_time_ymd(years.end, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, by).unwrap();
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        Identity::new(vec![certificate.der().clone()], key.into())
    }

    fn client(by: &Authority, years: std::ops::Range<i32>) -> Identity {
        identity(by, years, ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn issuer_name(of: &Authority) -> Vec<u8> {
        let (_, parsed) = X509Certificate::from_der(of.der()).unwrap();
        parsed.subject().as_raw().to_vec()
    }

    /// The candidate that is shown to a backend that takes these issuers.
    fn shown(set: &ClientCertificates, issuers: &[&[u8]]) -> Option<String> {
        let schemes = [SignatureScheme::ECDSA_NISTP256_SHA256];
        let resolved = set.resolve(issuers, &schemes)?;
        let is_it = |candidate: &&Candidate| {
            candidate.usable.as_ref().is_ok_and(|usable| Arc::ptr_eq(&usable.key, &resolved))
        };
        set.candidates.iter().find(is_it).map(|candidate| candidate.name.clone())
    }

    fn why_not(set: &ClientCertificates) -> Vec<Option<NotShown>> {
        set.verdicts(SystemTime::now()).into_iter().map(|verdict| verdict.why_not).collect()
    }

    #[test]
    fn of_all_that_fit_the_one_that_is_valid_for_longest_is_shown() {
        let ca = authority("site");
        let set = ClientCertificates::new("mp")
            .with("short", Ok(client(&ca, 2020..3000)))
            .with("long", Ok(client(&ca, 2020..3001)))
            .with("as long", Ok(client(&ca, 2020..3001)));
        assert_eq!(shown(&set, &[]).as_deref(), Some("long"));
        let short = Some(NotShown::Shorter);
        assert_eq!(why_not(&set), [short.clone(), None, short]);
    }

    #[test]
    fn sets_are_the_same_if_each_candidate_is() {
        let ca = authority("site");
        let (one, other) = (client(&ca, 2020..3000), client(&ca, 2020..3000));
        let of =
            |identity: &Identity| ClientCertificates::new("mp").with("a", Ok(identity.clone()));
        assert!(of(&one).are_those_of(&of(&one)));
        assert!(!of(&one).are_those_of(&of(&other)));
        assert!(!of(&one).are_those_of(&of(&one).with("b", Ok(other.clone()))));
        let named = |owner| ClientCertificates::new(owner).with("b", Ok(one.clone()));
        assert!(!of(&one).are_those_of(&named("mp")));
        assert!(!named("mp").are_those_of(&named("sup")));
        let broken = |why: &str| ClientCertificates::new("mp").with("a", Err(why.to_owned()));
        assert!(broken("x").are_those_of(&broken("x")));
        assert!(!broken("x").are_those_of(&broken("y")) && !of(&one).are_those_of(&broken("x")));
    }

    #[test]
    fn what_alternates_is_told_once_and_of_more_than_16_texts_no_more_in_an_hour() {
        let (mut told, now) = (Told::default(), SystemTime::UNIX_EPOCH);
        let alternating: Vec<_> =
            (0..6).map(|turn| told.is_news(["a", "b"][turn % 2], now)).collect();
        assert_eq!(alternating, [true, true, false, false, false, false]);
        let hour = now + TOLD_AGAIN;
        assert!(told.is_news("a", hour) && !told.is_news("a", hour), "few are told again too");
        let (mut told, now) = (Told::default(), hour);
        assert!(told.is_news("a", now) && told.is_news("b", now));
        let others = (2..20).filter(|text| told.is_news(&text.to_string(), now)).count();
        assert_eq!(others, 14);
        let hour = now + TOLD_AGAIN;
        assert!(!told.is_news("c", hour.checked_sub(Duration::from_nanos(1)).unwrap()));
        assert!(told.is_news("c", hour) && told.is_news("a", hour) && !told.is_news("c", hour));
    }

    #[test]
    fn each_candidate_that_is_not_shown_says_why() {
        let ca = authority("site");
        let of_other = identity(&ca, 2020..3000, ExtendedKeyUsagePurpose::ClientAuth);
        let own = identity(&ca, 2020..3000, ExtendedKeyUsagePurpose::ClientAuth);
        let mixed = Identity::new(own.chain().to_vec(), of_other.key().clone_key());
        let set = ClientCertificates::new("mp")
            .with("over", Ok(client(&ca, 2020..2021)))
            .with("early", Ok(client(&ca, 2999..3000)))
            .with("server", Ok(identity(&ca, 2020..3000, ExtendedKeyUsagePurpose::ServerAuth)))
            .with("absent", Err("no such file".to_owned()))
            .with("mixed", Ok(mixed));
        let found = why_not(&set);
        assert_eq!(
            found[..4],
            [
                Some(NotShown::Expired),
                Some(NotShown::NotYet),
                Some(NotShown::NotForClients),
                Some(NotShown::Unusable("no such file".to_owned())),
            ]
        );
        let Some(NotShown::Unusable(why)) = &found[4] else { panic!("{found:?}") };
        assert!(why.starts_with("certificate and key do not make an identity"), "{why}");
        assert_eq!(shown(&set, &[]), None);
    }

    #[test]
    fn a_certificate_is_shown_to_a_backend_that_takes_its_issuer_or_names_none() {
        let (one, other) = (authority("one"), authority("other"));
        let set = ClientCertificates::new("mp")
            .with("of one", Ok(client(&one, 2020..3000)))
            .with("of other", Ok(client(&other, 2020..2999)));
        let names = [&one, &other].map(issuer_name);
        assert_eq!(shown(&set, &[]).as_deref(), Some("of one"));
        assert_eq!(shown(&set, &[&names[0]]).as_deref(), Some("of one"));
        assert_eq!(shown(&set, &[&names[1]]).as_deref(), Some("of other"));
        assert_eq!(shown(&set, &[&names[1], &names[0]]).as_deref(), Some("of one"));
        assert_eq!(shown(&set, &[b"nobody"]), None);
    }

    #[test]
    fn a_key_is_not_shown_where_none_of_its_signatures_is_taken() {
        let set = ClientCertificates::new("mp").with("ec", Ok(client(&authority("a"), 2020..3000)));
        assert!(set.resolve(&[], &[SignatureScheme::RSA_PSS_SHA256]).is_none());
        assert!(set.resolve(&[], &[SignatureScheme::ECDSA_NISTP256_SHA256]).is_some());
    }

    #[test]
    fn the_validity_ends_with_its_last_second() {
        let set = ClientCertificates::new("mp").with("a", Ok(client(&authority("a"), 2020..2021)));
        let validity = set.verdicts(SystemTime::now())[0].validity.unwrap();
        let second = Duration::from_secs(1);
        for (now, why) in [
            (validity.not_before - second, Some(NotShown::NotYet)),
            (validity.not_before, None),
            (validity.not_after, None),
            (validity.not_after + second, Some(NotShown::Expired)),
        ] {
            assert_eq!(set.verdicts(now)[0].why_not, why);
        }
    }

    #[test]
    fn nothing_of_a_key_is_in_what_is_printed() {
        let set = ClientCertificates::new("mp").with("a", Ok(client(&authority("a"), 2020..3000)));
        assert_eq!(format!("{set:?}"), "ClientCertificates(mp: [\"a\"])");
    }
}
