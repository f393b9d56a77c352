//! What a connection point tells every gateway instance: the settings of its site.
//!
//! A [`SettingsDocument`] is one version of one site's settings. Connection points write it, send
//! it over their links, and instances read it: a versioned JSON text with a limit on everything.
//! [`Settings`] is what an instance holds: the latest document of each site, and the endpoints of
//! all of them in one map.
//!
//! This room does no I/O, reads no clock and logs nothing. It does not know how a document travels,
//! who may send one, or when it is sent again; and it judges no request.
//!
//! Read [`SettingsDocument`] and [`Settings::offer`] first. Endpoints come from a connection
//! point's configuration and go to `policy`.
//!
//! # The text
//!
//! One JSON object (RFC 8259) of at most [`DOCUMENT_OCTETS_MAX`] octets:
//!
//! ```json
//! {
//!   "format": 1,
//!   "critical": [],
//!   "site": "default",
//!   "version": "1767225600000",
//!   "endpoints": [
//!     {
//!       "name": "mp",
//!       "kind": "management-point",
//!       "role_id": "72057594037927937",
//!       "paths": ["SMS_MP"],
//!       "request_body_bytes_max": "1048576",
//!       "request_headers": ["x-site"],
//!       "access": "anonymous"
//!     }
//!   ],
//!   "tenants": [
//!     {
//!       "id": "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9",
//!       "application_id": "5d2f7a90-0c4e-4b7e-9a53-2f1c66a0b1d4",
//!       "resource": "https://ConfigMgrService"
//!     }
//!   ],
//!   "deadlines": [{ "role_id": "72057594037927937", "backend_answer_milliseconds": "120000" }],
//!   "clients": {
//!     "methods": ["entra", "certificate", "site-token"],
//!     "strict": false,
//!     "certificates": {
//!       "roots": ["MIIB…"],
//!       "intermediates": [],
//!       "revocation": { "lists": [{ "der": "MIIB…" }, { "url": "http://pki.example/ca.crl" }] }
//!     },
//!     "tenants": [
//!       {
//!         "id": "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9",
//!         "enabled": true,
//!         "issuers": ["v1"],
//!         "audiences": ["https://ConfigMgrService"],
//!         "keys": { "authority": "https://login.microsoftonline.com" }
//!       }
//!     ],
//!     "tokens": {
//!       "tenant": "5b0f5c2e-8f5d-4c1e-9d54-3a0e6c1b7a11",
//!       "revision": "1767225600",
//!       "signers": ["MIID…"],
//!       "blocked": ["9f2d1c4b-0a3e-4d5f-8c6b-7e1f2a3b4c5d"]
//!     },
//!     "barred": ["certificate:CN=a device"]
//!   }
//! }
//! ```
//!
//! `critical`, `paths`, `request_body_bytes_max`, `request_headers`, `tenants`, `deadlines` and
//! `clients` may be left out. `deadlines` has the endpoints whose backends may take another time to
//! answer than 62 s. It stands at the top, so that an instance that does not know it waits as for
//! any other. Numbers of 64 bits travel as decimal text: RFC 8259, section 6, leaves what lies
//! beyond 53 bits to each reader. `request_headers` closes the list of headers: what it names
//! passes besides the usual.
//!
//! `clients` says whose clients count. An endpoint that is for clients has `"access":
//! { "clients": [...] }` with the methods that it allows; a reader that does not know of that
//! refuses the document. Certificates and lists are DER in base64 (RFC 4648, section 4); key sets
//! are JSON (RFC 7517) in base64, or are fetched from an authority. `revocation` is `"off"`, or has
//! the lists that hold, or where they are.
//!
//! `tokens` does not go by the version of the document, which is that of the connection point's
//! file, but by its own `revision`: connection points of a site whose files differ share one list
//! of what is blocked, and the newest of it holds, whoever brings it ([`Settings::offer`]). It is
//! not optional, and a reader that does not know of it refuses the document: passed over, it would
//! leave blocks to the version, which does not rise with them.
//!
//! A member at the top that a reader does not know is ignored, unless `critical` lists it: so later
//! versions add what older ones may pass over, and say so where they may not. Within an endpoint,
//! or a tenant, an unknown member is refused, because it could be a restriction.
//!
//! # Examples
//!
//! ```
//! use relay_core::settings::{Offered, Settings, SettingsDocument};
//!
//! let first = SettingsDocument {
//!     site: "default".to_owned(),
//!     version: 1,
//!     endpoints: Vec::new(),
//!     tenants: Vec::new(),
//!     deadlines: Vec::new(),
//!     clients: None,
//! };
//! let sent = first.encode()?;
//! let received = SettingsDocument::decode(&sent)?;
//! assert_eq!(received, first);
//!
//! let Offered::Accepted(held) = Settings::default().offer(received)? else { panic!("it is new") };
//! assert!(matches!(held.offer(first)?, Offered::Same));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![warn(clippy::indexing_slicing)]

mod clients;
mod clients_wire;
mod deadline;
mod document;
mod held;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod reference;
mod tenant;
mod wire;

pub use clients::{
    AUDIENCES_MAX, BARRED_MAX, BLOCKED_MAX, BarredClient, BarredClientError, ClientTrust,
    ClientTrustError, KeySource, LISTS_MAX, ListSource, PublishedCertificates, PublishedSigners,
    Revocation, SIGNER_OCTETS_MAX, SIGNERS_MAX, TOKENS_OCTETS_MAX, TRUSTED_MAX, TenantTrust,
};
pub use deadline::{BACKEND_ANSWER_USUAL, Deadline};
pub use document::{
    DOCUMENT_OCTETS_MAX, Digest, DocumentError, ENDPOINTS_MAX, SITE_OCTETS_MAX, SettingsDocument,
};
pub use held::{OfferRefused, Offered, SITES_MAX, Settings};
pub use tenant::{TENANTS_MAX, Tenant};
