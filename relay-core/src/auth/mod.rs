//! Who a client is: three methods, what each of them finds, and what that comes to.
//!
//! A gateway instance asks this room about each request before anything of it reaches a link. Time,
//! keys, revocation lists and the memory of what was used are arguments: the room does no I/O,
//! reads no clock and logs nothing. What a client may do once it is known is not decided here.
//!
//! Judges of tokens and certificates are behind the feature `auth`, since they compute.
//!
//! Read [`search`] and [`Finding`] first. Credentials come from a request and its TLS connection,
//! trust from the site's settings; the [`Trail`] goes to the log, and its principal with the
//! request.
#![warn(clippy::indexing_slicing)]

#[cfg(feature = "auth")]
mod cache;
#[cfg(feature = "auth")]
mod certificate;
mod certificate_fault;
#[cfg(feature = "auth")]
mod crl;
#[cfg(feature = "auth")]
mod discovery;
#[cfg(feature = "auth")]
mod entra;
mod guid;
mod issuer;
#[cfg(feature = "auth")]
mod json;
#[cfg(feature = "auth")]
mod jwks;
#[cfg(feature = "auth")]
mod jwt;
mod method;
#[cfg(feature = "auth")]
mod possession;
#[cfg(all(feature = "auth", feature = "fuzzing"))]
#[doc(hidden)]
pub mod reference;
#[cfg(feature = "auth")]
mod refusal;
#[cfg(feature = "auth")]
mod replay;
#[cfg(feature = "auth")]
mod rs256;
#[cfg(feature = "auth")]
mod signature;
#[cfg(feature = "auth")]
mod site_token;
#[cfg(test)]
#[cfg(feature = "auth")]
mod test_pki;
mod token_fault;
#[cfg(feature = "auth")]
mod tokens;
mod trail;
#[cfg(feature = "auth")]
mod verdicts;

#[cfg(feature = "auth")]
pub use certificate::{
    CHAIN_BYTES_MAX, CHAIN_MAX, CertificateTrust, ClientCertificate, PUBLISHED_MAX, PublishedFault,
    RevocationCheck,
};
#[cfg(feature = "auth")]
pub use crl::{CRL_BYTES_MAX, Crl, CrlFault, Crls};
#[cfg(feature = "auth")]
pub use possession::{
    CLIENT_CERTIFICATE_FIELD, CLIENT_CERTIFICATE_OCTETS_MAX, ClaimedPossession, Possession,
    PossessionFault,
};
#[cfg(feature = "auth")]
pub use replay::{Replay, ReplayFault};
#[cfg(feature = "auth")]
pub use signature::{ClientKey, SIGNATURE_WINDOW, SignatureFault, SignedDigests, SignedHead};
#[cfg(feature = "auth")]
pub use verdicts::Verdicts;

pub use certificate_fault::CertificateFault;
pub use guid::{Guid, ParseGuidError};
pub use issuer::Issuer;
pub use method::{Method, Methods, MethodsError};
pub use token_fault::{Part, TokenFault};
pub use trail::{Finding, Principal, Strictness, Trail, Unproven, search};

#[cfg(feature = "auth")]
pub use cache::{VERIFIED_MAX, Verified};
#[cfg(feature = "auth")]
pub use discovery::{METADATA_OCTETS_MAX, MetadataError, ProviderMetadata};
#[cfg(feature = "auth")]
pub use entra::{ENTRA_LEEWAY, ENTRA_LIFETIME_MAX, EntraToken, TrustedTenant};
#[cfg(feature = "auth")]
pub(crate) use json::{Object as JsonObject, Value as JsonValue};
#[cfg(feature = "auth")]
pub use jwks::{KEY_ID_OCTETS_MAX, KEY_SET_OCTETS_MAX, KEYS_MAX, KeySet, KeySetError, Unusable};
#[cfg(feature = "auth")]
pub use jwt::{
    AUTHORIZATION_OCTETS_MAX, HEADER_OCTETS_MAX, Jwt, PAYLOAD_OCTETS_MAX, bearer, digest,
};
#[cfg(feature = "auth")]
pub use refusal::Refusal;
#[cfg(feature = "auth")]
pub use rs256::{KeyFault, RsaKey};
#[cfg(feature = "auth")]
pub use site_token::{
    Category, ISSUER as SITE_ISSUER, SITE_LEEWAY, Shown, SignerFault, SigningKey, SiteToken,
    SiteTrust, Use,
};
#[cfg(feature = "auth")]
pub use tokens::{ClaimedBinding, Presented, Tokens};
