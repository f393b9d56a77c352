//! What a client is given, and why not: decisions, without a clock or socket of their own.

use std::collections::BTreeMap;
use std::net::IpAddr;

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::HeaderMap;
use http::header::AUTHORIZATION;
use relay_core::auth::{
    Category, EntraToken, Guid, Jwt, Replay, Shown, SigningKey, SiteToken, SiteTrust, TokenFault,
    TrustedTenant, Use, bearer,
};
use serde::{Deserialize, Serialize};

use super::DAY;
use super::certificate;
use super::possession::possessed;
use super::refusal::Refusal;
use crate::site::opening::remember;
use crate::site::{
    ChangeError, Client, Holder, KeyError, Keys, Registration, SignError, Store, StoreError, Token,
    Wanted, new_guid, signer,
};

/// After how many seconds a client's token can be renewed: 30 days.
const RENEW_AFTER: u64 = 30 * DAY;

/// The same of a token however short, so that nobody asks without a pause.
const RENEW_AFTER_MIN: u64 = 3600;

/// After how many seconds the token that an Entra token was exchanged for is best replaced: one
/// hour before its end.
const EXCHANGE_AFTER: u64 = 7 * 3600;

/// How far clocks may be apart, in seconds: a client asks a little early.
const EARLY_MAX: u64 = 60;

/// What a client wants.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Door {
    /// Its first token, or another first one.
    Register,
    /// A newer one for its own.
    Renew,
    /// One for a token of Entra.
    Exchange,
}

/// How a request has come, with the certificate in DER whose key the client has proven to have on
/// the way, if it has.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Way {
    /// Through a gateway instance, which has judged whether it may.
    Gateway(Option<Vec<u8>>),
    /// On the site's own network.
    Intranet(Option<Vec<u8>>),
}

/// A request that was read. Deliberately without `Debug`: its head has a secret.
pub(super) struct Asked {
    pub(super) door: Door,
    pub(super) way: Way,
    /// From where, on the site's own network; of IPv6 the first 64 bits.
    pub(super) address: Option<IpAddr>,
    pub(super) head: HeaderMap,
    pub(super) body: Vec<u8>,
}

/// What a client is given.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub(super) struct Issued {
    pub(super) client_id: String,
    /// Whoever has the text has the token; [`Issued`] goes to the client alone.
    pub(super) token: Secret,
    /// Seconds since 1970 UTC.
    pub(super) expires: u64,
    /// In how many seconds it is to be renewed.
    pub(super) renew_after: u64,
}

/// The text of a token.
#[derive(Clone, Eq, PartialEq, Serialize)]
#[serde(transparent)]
pub(super) struct Secret(pub(super) String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Why no token came of a request.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum Fault {
    /// The client's fault, or the administrator's will.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The site's own: the log is told, the client only that it is so.
    #[error("the store: {0}")]
    Store(#[from] StoreError),
    /// As [`Fault::Store`].
    #[error("the signing key: {0}")]
    Key(#[from] KeyError),
    /// As [`Fault::Store`].
    #[error("{0}")]
    Sign(#[from] SignError),
    /// As [`Fault::Store`]: there is no key, or it is distrusted.
    #[error("{0:#}")]
    NoSigner(anyhow::Error),
    /// As [`Fault::Store`]: the machine's clock is not set.
    #[error("{0:#}")]
    Clock(anyhow::Error),
}

/// What a site goes by at one moment.
pub(super) struct Site<'a> {
    /// What the site names itself by.
    pub(super) tenant: Guid,
    pub(super) store: &'a mut dyn Store,
    pub(super) keys: &'a Keys,
    /// Whose tokens can be exchanged.
    pub(super) tenants: &'a [TrustedTenant],
    /// Which signed timestamps were used.
    pub(super) replay: &'a mut Replay,
    /// Seconds since 1970 UTC.
    pub(super) now: u64,
}

impl Site<'_> {
    /// Decides what a client is given. Once this has returned it, it is on the disk.
    ///
    /// # Errors
    ///
    /// [`Fault`]; then nothing was issued, and nothing written.
    pub(super) fn serve(&mut self, asked: &Asked) -> Result<Issued, Fault> {
        match asked.door {
            Door::Register => self.register(asked),
            Door::Renew => self.renew(asked),
            Door::Exchange => self.exchange(asked),
        }
    }

    fn register(&mut self, asked: &Asked) -> Result<Issued, Fault> {
        let der = wanted_certificate(&asked.body)?;
        let until = certificate::judge(&der, self.now).map_err(Refusal::from)?;
        let registration = self.registration(asked)?;
        // Last of all: the signature of a timestamp is one that must be computed.
        if self.possessed(asked)? != der {
            return Err(Refusal::OtherCertificate.into());
        }
        let certificate = thumbprint(&der);
        let known = self.store.client_of(certificate)?.map(|client| client.id);
        let id = known.map_or_else(new_guid, Ok)?;
        let mut given = self.registered(id, certificate, registration, until);
        if let Err(Given::Other(id)) = given {
            // Another connection point was faster.
            given = self.registered(id, certificate, registration, until);
        }
        given.map_err(|given| match given {
            Given::Other(_) => Refusal::Busy.into(),
            Given::Not(fault) => fault,
        })
    }

    /// Signs a token for a client, and has it registered before anybody sees that.
    fn registered(
        &mut self,
        id: Guid,
        certificate: [u8; 32],
        registration: Registration,
        until: u64,
    ) -> Result<Issued, Given> {
        let (issued, token_expires) = self.sign(id, certificate, until).map_err(Given::Not)?;
        let (registered, renewed) = (self.now, self.now);
        let client = Client {
            id,
            certificate,
            registered,
            renewed,
            token_expires,
            registration,
            blocked_since: None,
        };
        match self.store.register(&client) {
            Ok(()) => Ok(issued),
            Err(ChangeError::Registered(other)) => Err(Given::Other(other)),
            Err(error) => Err(Given::Not(changed(error, Refusal::UnknownToken))),
        }
    }

    /// How a client may register: over a gateway by a bulk token, and without one on the site's own
    /// network. One that is shown there must be good, too.
    fn registration(&mut self, asked: &Asked) -> Result<Registration, Fault> {
        const WANTED: &str = "a bulk token (`relay token new`)";
        let text = match (token(&asked.head)?, &asked.way) {
            (None, Way::Intranet(_)) => return Ok(Registration::Intranet),
            (None, Way::Gateway(_)) => return Err(Refusal::NoToken(WANTED).into()),
            (Some(text), _) => text,
        };
        let jwt = Jwt::read(text).map_err(Refusal::of_token)?;
        if !jwt.claims_to_be_of_the_site() {
            return Err(Refusal::WrongToken(WANTED).into());
        }
        let token = self.judge(&jwt, Use::Registration, &[])?;
        if token.category() != Category::Bulk {
            return Err(Refusal::WrongToken(WANTED).into());
        }
        Ok(Registration::BulkToken(token.id()))
    }

    fn renew(&mut self, asked: &Asked) -> Result<Issued, Fault> {
        const WANTED: &str = "the client's own token";
        empty(&asked.body)?;
        let text = token(&asked.head)?.ok_or(Refusal::NoToken(WANTED))?;
        let jwt = Jwt::read(text).map_err(Refusal::of_token)?;
        if !jwt.claims_to_be_of_the_site() {
            return Err(Refusal::WrongToken(WANTED).into());
        }
        let der = self.possessed(asked)?;
        let certificate = thumbprint(&der);
        let token = self.judge(&jwt, Use::Renewal, &[certificate])?;
        let (Category::Client, Some(id)) = (token.category(), token.client()) else {
            return Err(Refusal::WrongToken(WANTED).into());
        };
        let client = self.store.client(id)?.ok_or(Refusal::UnknownClient(id))?;
        if client.blocked_since.is_some() {
            return Err(Refusal::Blocked(id).into());
        }
        if client.certificate != certificate {
            return Err(Refusal::OtherCertificate.into());
        }
        // By the token that is shown, and not by the last that was issued: that one may never have
        // reached the client.
        let lifetime = token.expires().saturating_sub(token.not_before());
        let at = token.not_before().saturating_add(renew_after(lifetime));
        if at > self.now.saturating_add(EARLY_MAX) {
            return Err(Refusal::TooEarly { at, left: at - self.now }.into());
        }
        let until = certificate::judge(&der, self.now).map_err(Refusal::from)?;
        let (issued, expires) = self.sign(id, certificate, until)?;
        let renewed = self.store.renew(id, self.now, expires);
        renewed.map_err(|error| changed(error, Refusal::UnknownClient))?;
        Ok(issued)
    }

    fn exchange(&mut self, asked: &Asked) -> Result<Issued, Fault> {
        const WANTED: &str = "a token of Entra ID";
        empty(&asked.body)?;
        let text = token(&asked.head)?.ok_or(Refusal::NoToken(WANTED))?;
        let jwt = Jwt::read(text).map_err(Refusal::of_token)?;
        if jwt.claims_to_be_of_the_site() {
            return Err(Refusal::WrongToken(WANTED).into());
        }
        let entra = EntraToken::judge(&jwt, self.tenants, self.now);
        let entra = entra.map_err(|fault| match fault {
            TokenFault::UnknownKey | TokenFault::KeysNotFetched => Refusal::UnknownKey,
            fault => Refusal::Token(fault),
        })?;
        let id = client_of_entra(&entra);
        if self.store.client(id)?.is_some_and(|client| client.blocked_since.is_some()) {
            return Err(Refusal::Blocked(id).into());
        }
        let lifetime = Category::Ccm.lifetime_max();
        let (issued, _) = self.signed(Holder::OfEntra(id), id, lifetime, EXCHANGE_AFTER)?;
        Ok(issued)
    }

    /// The certificate in DER whose key the client has proven to have.
    fn possessed(&mut self, asked: &Asked) -> Result<Vec<u8>, Refusal> {
        possessed(&asked.way, &asked.head, self.now, self.replay)
    }

    /// Judges a token of the site, whichever connection point has signed it, by all but blocks:
    /// those are asked when it is written.
    fn judge(
        &mut self,
        jwt: &Jwt<'_>,
        purpose: Use,
        possessed: &[[u8; 32]],
    ) -> Result<SiteToken, Fault> {
        remember(self.keys, self.store, self.now).map_err(Fault::NoSigner)?;
        let signers = self.store.signers()?;
        let counted = signers.iter().filter(|it| it.counts_at(self.now));
        // It was read when it was written there.
        let keys = counted.filter_map(|it| SigningKey::of_certificate(&it.certificate).ok());
        let keys = keys.collect();
        let trust = SiteTrust { tenant: self.tenant, keys, blocked: [].into() };
        let shown = Shown { now: self.now, purpose, possessed };
        Ok(SiteToken::judge(jwt, &trust, shown).map_err(Refusal::of_token)?)
    }

    /// Signs a client's own token, which counts no longer than its certificate. Returns until when.
    fn sign(
        &mut self,
        id: Guid,
        certificate: [u8; 32],
        certificate_until: u64,
    ) -> Result<(Issued, u64), Fault> {
        let left = certificate_until.saturating_sub(self.now);
        let lifetime = Category::Client.lifetime_max().min(left);
        let holder = Holder::Client(id, certificate);
        self.signed(holder, id, lifetime, renew_after(lifetime))
    }

    fn signed(
        &mut self,
        holder: Holder,
        id: Guid,
        lifetime: u64,
        renew_after: u64,
    ) -> Result<(Issued, u64), Fault> {
        let wanted = Wanted { tenant: self.tenant, holder, not_before: self.now, lifetime };
        let signer = signer(self.keys, self.store, self.now).map_err(Fault::NoSigner)?;
        let token = Token::sign(&signer, &wanted)?;
        let (expires, text) = (wanted.expires(), Secret(token.expose().to_owned()));
        Ok((Issued { client_id: id.to_string(), token: text, expires, renew_after }, expires))
    }
}

/// After how many seconds a token of this lifetime can be renewed: a short one, whose certificate
/// ends soon, a day before its end.
fn renew_after(lifetime: u64) -> u64 {
    RENEW_AFTER.min(lifetime.saturating_sub(DAY)).max(RENEW_AFTER_MIN)
}

/// What a registration has come to, other than a token.
enum Given {
    /// The certificate is that of this client.
    Other(Guid),
    Not(Fault),
}

fn changed(error: ChangeError, unknown: impl FnOnce(Guid) -> Refusal) -> Fault {
    match error {
        ChangeError::Unknown(id) => unknown(id).into(),
        ChangeError::Blocked(id) => Refusal::Blocked(id).into(),
        // A GUID of 122 random bits that is taken: another is drawn when the client asks again.
        ChangeError::Known(_) | ChangeError::Registered(_) => Refusal::Busy.into(),
        ChangeError::TooManyClients { .. } => Refusal::NoRoom.into(),
        // Nothing is blocked or signed with here.
        ChangeError::TooMany { .. }
        | ChangeError::TooManySigners { .. }
        | ChangeError::UnknownSigner(_) => Refusal::Unavailable.into(),
        ChangeError::Store(error) => error.into(),
    }
}

/// The client's GUID for a device, or a user without one: the same each time, at every connection
/// point, and told by nothing that is written.
// RFC 9562, section 5.8.
fn client_of_entra(token: &EntraToken) -> Guid {
    let subject = token.device().or(token.user()).unwrap_or(token.tenant());
    let kind: u8 = if token.device().is_some() { b'd' } else { b'u' };
    let named =
        [&b"relay Entra client"[..], &[kind], &octets(token.tenant()), &octets(subject)].concat();
    let digest = digest(&SHA256, &named);
    let bits = digest.as_ref().iter().take(16).fold(0, |all, it| all << 8 | u128::from(*it));
    let version = 0x8 << 76 | 0b10 << 62;
    Guid(bits & !(0xf << 76 | 0b11 << 62) | version)
}

fn octets(id: Guid) -> [u8; 16] {
    id.0.to_be_bytes()
}

/// The tenant that a token says it is of; for a token of which all is right but for its key.
pub(super) fn tenant_of(head: &HeaderMap) -> Option<Guid> {
    #[derive(Deserialize)]
    struct Claims {
        tid: String,
    }
    let payload = token(head).ok()??.split('.').nth(1)?;
    let payload = URL_SAFE_NO_PAD.decode(payload).ok()?;
    let claims: Claims = serde_json::from_slice(&payload).ok()?;
    claims.tid.parse().ok()
}

fn token(head: &HeaderMap) -> Result<Option<&str>, Refusal> {
    let fields = head.get_all(AUTHORIZATION).iter().map(http::HeaderValue::as_bytes);
    bearer(fields).map_err(Refusal::Token)
}

/// The certificate that a client wants to register with.
fn wanted_certificate(body: &[u8]) -> Result<Vec<u8>, Refusal> {
    let told = members(body).and_then(|mut members| {
        let certificate = members.remove("certificate")?;
        members.is_empty().then_some(certificate)
    });
    let der = told.and_then(|certificate| STANDARD.decode(certificate).ok());
    der.ok_or(Refusal::Malformed("`{\"certificate\": \"…\"}`, with base64 of its DER"))
}

fn empty(body: &[u8]) -> Result<(), Refusal> {
    let is_empty = members(body).is_some_and(|members| members.is_empty());
    if is_empty { Ok(()) } else { Err(Refusal::Malformed("`{}`")) }
}

/// What an object says in JSON. A list is no object, though one could be read as a struct.
fn members(body: &[u8]) -> Option<BTreeMap<String, String>> {
    serde_json::from_slice(body).ok()
}

pub(super) fn thumbprint(der: &[u8]) -> [u8; 32] {
    let digest = digest(&SHA256, der);
    digest.as_ref().try_into().expect("SHA-256 has 32 octets")
}

#[cfg(test)]
pub(super) mod tests;
