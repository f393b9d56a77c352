//! Whose clients count at a site, and by what they show who they are.

use bytes::Bytes;

use crate::auth::{Guid, Issuer, Method, Methods, Strictness};
use crate::policy::{Access, Endpoint};

use super::document::DocumentError;
use super::tenant::TENANTS_MAX;

/// Roots in one document, and as many authorities below them.
pub const TRUSTED_MAX: usize = 64;

/// Revocation lists in one document.
pub const LISTS_MAX: usize = 64;

/// Certificates that sign tokens, in one document.
pub const SIGNERS_MAX: usize = 16;

/// Longest certificate that signs tokens, in octets of DER: one of RSA with 8,192 bits has 2,400.
pub const SIGNER_OCTETS_MAX: usize = 3000;

/// Tokens and clients that are blocked, in one document: as many as leave room for endpoints.
pub const BLOCKED_MAX: usize = 16 * 1024;

/// Clients that are barred, in one document, as far as its octets reach.
pub const BARRED_MAX: usize = 16 * 1024;

/// Octets that tokens take of a document's text at most. Where a site makes tokens the rest of its
/// document leaves as many free, so that no block is ever made that cannot be published.
pub const TOKENS_OCTETS_MAX: usize = {
    // In base64, with quotes and a comma.
    let signer = SIGNER_OCTETS_MAX.div_ceil(3) * 4 + 3;
    // Quotes, comma, and 36 digits and hyphens.
    let blocked = 39;
    // The rest of `tokens`, other numbers than now, and the endpoint of the site's token service.
    let around = 2048;
    BLOCKED_MAX * blocked + SIGNERS_MAX * signer + around
};

/// Audiences that count for one tenant.
pub const AUDIENCES_MAX: usize = 16;

/// Longest URL or audience, in octets.
const TEXT_OCTETS_MAX: usize = 1024;

/// Whose clients count at a site. None of it is a secret.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClientTrust {
    /// The methods that count, in the order in which they are tried.
    pub methods: Methods,
    /// What becomes of a credential that proves nothing.
    pub strictness: Strictness,
    /// By what certificates are judged; `None`: none counts.
    pub certificates: Option<PublishedCertificates>,
    /// The tenants whose tokens count; at most [`TENANTS_MAX`], each once.
    pub tenants: Vec<TenantTrust>,
    /// By what tokens of the site are judged; `None`: none counts.
    pub tokens: Option<PublishedSigners>,
    /// Clients that may not use the gateway, whoever they have shown to be; at most [`BARRED_MAX`].
    pub barred: Vec<BarredClient>,
}

/// A client that may not use the gateway.
///
/// As text, which the document has: `certificate:CN=a device`, `site-token:client 0a1b2c3d-…`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct BarredClient {
    /// How it shows who it is. By another method it is another client.
    pub method: Method,
    /// What that finds: [`Principal::client`](crate::auth::Principal::client), 1 to 1,024 octets
    /// of text.
    pub name: String,
}

impl std::fmt::Display for BarredClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.method, self.name)
    }
}

/// A text that names no client. Whoever has written it is to name a method and a client.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("expected `entra:`, `certificate:` or `site-token:` and the client's name")]
pub struct BarredClientError;

impl std::str::FromStr for BarredClient {
    type Err = BarredClientError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (method, name) = text.split_once(':').ok_or(BarredClientError)?;
        let method = Method::ALL.into_iter().find(|it| it.name() == method);
        let method = method.ok_or(BarredClientError)?;
        check_client(name).map_err(|_| BarredClientError)?;
        Ok(Self { method, name: name.to_owned() })
    }
}

/// By what certificates of clients are judged.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PublishedCertificates {
    /// The roots that count, in DER: 1 to [`TRUSTED_MAX`].
    pub roots: Vec<Bytes>,
    /// Authorities below them that clients may not show, in DER; at most [`TRUSTED_MAX`].
    pub intermediates: Vec<Bytes>,
    /// Whether it is asked what the authorities have taken back.
    pub revocation: Revocation,
}

/// Whether it is asked what authorities have taken back.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Revocation {
    /// Nobody asks.
    Off,
    /// It is, by these lists; at most [`LISTS_MAX`]. Without a list that holds a certificate is
    /// refused.
    On(Vec<ListSource>),
}

/// Where a revocation list is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ListSource {
    /// Here, in DER.
    Der(Bytes),
    /// Instances fetch it: an `http://` or `https://` URL of at most 1,024 octets.
    Url(String),
}

/// A tenant whose tokens count.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TenantTrust {
    /// The tenant.
    pub id: Guid,
    /// Whether its tokens count at present.
    pub is_enabled: bool,
    /// The issuers that are accepted: at least one, each once.
    pub issuers: Vec<Issuer>,
    /// The audiences that are accepted: 1 to [`AUDIENCES_MAX`], of 1 to 1,024 octets of text.
    pub audiences: Vec<String>,
    /// Where the keys of its tokens are.
    pub keys: KeySource,
}

/// Where the keys are that tokens of a tenant are signed with.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum KeySource {
    /// Here: a JSON Web Key Set (RFC 7517). Nobody rolls it but whoever publishes it.
    Published(Bytes),
    /// Instances fetch them by `OpenID` Connect Discovery from this authority, an `https://` URL
    /// without the tenant, such as `https://login.microsoftonline.com`.
    Authority(String),
}

/// By what tokens of the site are judged.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PublishedSigners {
    /// The tenant that the site names itself by.
    pub tenant: Guid,
    /// Rises with each change of what is below, whichever connection point of the site is asked:
    /// they share the store that counts it. The highest holds, whatever document it comes with.
    pub revision: u64,
    /// The certificates that it signs with, in DER: up to [`SIGNERS_MAX`], while one takes
    /// another's place. Without one no token counts.
    pub certificates: Vec<Bytes>,
    /// Tokens that are blocked by their `UniqueId`, and clients by their id; at most
    /// [`BLOCKED_MAX`].
    pub blocked: Vec<Guid>,
}

/// Why nobody can be told by this whose clients count. The fault of whoever publishes it.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientTrustError {
    /// There are too many of something, or none of what must be there.
    #[error("{count} {what}, and there may be {min} to {max}")]
    Count {
        /// Of what.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many there must be.
        min: usize,
        /// How many there may be.
        max: usize,
    },
    /// A tenant, or one of its issuers, stands there twice.
    #[error("tenant {0} or one of its issuers stands there twice")]
    Twice(Guid),
    /// A text is empty, too long, or not what it must be.
    #[error("`{text}` is not {wanted}")]
    Text {
        /// The first 64 characters of it.
        text: String,
        /// What it must be.
        wanted: &'static str,
    },
}

impl ClientTrust {
    /// The same, as it is where nothing is known of tokens of the site: what its file says.
    pub(crate) fn without_tokens(&self) -> Self {
        Self { tokens: None, ..self.clone() }
    }

    /// Whether a client can show by `methods` who it is.
    fn counts(&self, methods: Methods) -> bool {
        self.methods.within(&methods).is_some()
    }

    /// Whether a document may say this of clients: numbers and texts. Whether certificates are
    /// some is not judged here.
    ///
    /// # Errors
    ///
    /// [`ClientTrustError`].
    pub fn check(&self) -> Result<(), ClientTrustError> {
        count("tenants", self.tenants.len(), 0, TENANTS_MAX)?;
        for (place, tenant) in self.tenants.iter().enumerate() {
            if self.tenants.iter().take(place).any(|other| other.id == tenant.id) {
                return Err(ClientTrustError::Twice(tenant.id));
            }
            tenant.check()?;
        }
        if let Some(certificates) = &self.certificates {
            count("roots", certificates.roots.len(), 1, TRUSTED_MAX)?;
            count("intermediates", certificates.intermediates.len(), 0, TRUSTED_MAX)?;
            if let Revocation::On(lists) = &certificates.revocation {
                check_lists(lists)?;
            }
        }
        if let Some(signers) = &self.tokens {
            count("signers", signers.certificates.len(), 0, SIGNERS_MAX)?;
            count("blocked tokens", signers.blocked.len(), 0, BLOCKED_MAX)?;
        }
        count("barred clients", self.barred.len(), 0, BARRED_MAX)?;
        self.barred.iter().try_for_each(|barred| check_client(&barred.name))
    }
}

impl TenantTrust {
    fn check(&self) -> Result<(), ClientTrustError> {
        count("issuers", self.issuers.len(), 1, 3)?;
        let is_repeated = |(place, issuer)| self.issuers.iter().take(place).any(|it| it == issuer);
        if self.issuers.iter().enumerate().any(is_repeated) {
            return Err(ClientTrustError::Twice(self.id));
        }
        count("audiences", self.audiences.len(), 1, AUDIENCES_MAX)?;
        for audience in &self.audiences {
            check_text(audience, "an audience of 1 to 1024 octets of text", |_| true)?;
        }
        match &self.keys {
            KeySource::Published(_) => Ok(()),
            KeySource::Authority(url) => {
                check_text(url, "the https:// URL of an authority", |url| has(url, &["https://"]))
            }
        }
    }
}

fn check_client(name: &str) -> Result<(), ClientTrustError> {
    check_text(name, "the name of a client, 1 to 1024 octets of text", |_| true)
}

fn check_lists(lists: &[ListSource]) -> Result<(), ClientTrustError> {
    count("revocation lists", lists.len(), 0, LISTS_MAX)?;
    lists.iter().try_for_each(|list| match list {
        ListSource::Der(_) => Ok(()),
        ListSource::Url(url) => check_text(url, "the http:// or https:// URL of a list", |url| {
            has(url, &["http://", "https://"])
        }),
    })
}

fn has(url: &str, schemes: &[&str]) -> bool {
    // A user and password would be published to all instances.
    let is_host = |rest: &str| {
        rest.split('/').next().is_some_and(|host| !host.is_empty() && !host.contains('@'))
    };
    let is_after = |scheme: &&str| url.strip_prefix(*scheme).is_some_and(is_host);
    schemes.iter().any(is_after) && url.bytes().all(|octet| octet.is_ascii_graphic())
}

fn check_text(
    text: &str,
    wanted: &'static str,
    is_right: impl Fn(&str) -> bool,
) -> Result<(), ClientTrustError> {
    let is_text = (1..=TEXT_OCTETS_MAX).contains(&text.len()) && !text.contains(char::is_control);
    if is_text && is_right(text) {
        return Ok(());
    }
    // What may be a password is not repeated.
    let shown = if text.contains('@') { "[not shown]" } else { text };
    Err(ClientTrustError::Text { text: shown.chars().take(64).collect(), wanted })
}

fn count(what: &'static str, count: usize, min: usize, max: usize) -> Result<(), ClientTrustError> {
    if (min..=max).contains(&count) {
        return Ok(());
    }
    Err(ClientTrustError::Count { what, count, min, max })
}

/// Judges what a document says of clients, and whether its endpoints can have any.
pub(super) fn check(
    clients: Option<&ClientTrust>,
    endpoints: &[Endpoint],
) -> Result<(), DocumentError> {
    if let Some(clients) = clients {
        clients.check()?;
    }
    for (place, endpoint) in (1..).zip(endpoints) {
        let Access::Clients(methods) = endpoint.access else { continue };
        if !clients.is_some_and(|clients| clients.counts(methods)) {
            return Err(DocumentError::NobodyIn { place });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
