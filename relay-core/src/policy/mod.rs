//! Which verbs, headers and paths may pass, and to which published endpoint.
//!
//! A gateway instance judges each request here before anything reaches a link, and the connection
//! point judges it again with its own map: the two ends of a link do not trust each other. Same
//! input, same verdict, on both.
//!
//! This room does no I/O, reads no clock and logs nothing; it returns values that say what was
//! decided and why. It does not authenticate, and it does not rewrite: what passes, passes byte for
//! byte.
//!
//! Read [`EndpointMap`] and [`Refusal`] first. Endpoints come from configuration; methods, targets
//! and headers come from an HTTP parser; [`Route::site_target`] goes to the backend.
//!
//! # Examples
//!
//! ```
//! use http::{Method, StatusCode, uri::PathAndQuery};
//! use relay_core::policy::{Access, Endpoint, EndpointKind, EndpointMap, RequestHeaders};
//!
//! let map = EndpointMap::new(vec![Endpoint {
//!     name: "mp".to_owned(),
//!     kind: EndpointKind::ManagementPoint,
//!     role_id: 72_186_325_152_220_500,
//!     paths: None,
//!     request_body_bytes_max: None,
//!     request_headers: RequestHeaders::Open,
//!     access: Access::Anonymous,
//! }])?;
//!
//! let target = PathAndQuery::from_static(
//!     "/CCM_Proxy_MutualAuth/72186325152220500/SMS_MP/.sms_aut?MPLIST",
//! );
//! let route = map.route(&Method::GET, &target).unwrap();
//! assert_eq!(route.endpoint.name, "mp");
//! assert_eq!(route.site_target, "/SMS_MP/.sms_aut?MPLIST");
//!
//! let refusal = map.route(&Method::POST, &target).unwrap_err();
//! assert_eq!(refusal.status(), StatusCode::METHOD_NOT_ALLOWED);
//! # Ok::<(), relay_core::policy::EndpointMapError>(())
//! ```
#![warn(clippy::indexing_slicing)]

mod endpoint;
mod headers;
mod interim;
mod listed;
mod own;
mod path;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod reference;
mod refusal;
mod route;

pub use endpoint::{Access, Endpoint, EndpointKind, EndpointMap, EndpointMapError};
pub use headers::{
    NAMED_HEADERS, check_body_length, declared_body_length, strip_answer_headers,
    strip_request_headers, strip_trailers,
};
pub use interim::{passes_interim, strip_interim_headers};
pub use listed::RequestHeaders;
pub use own::OwnAnswer;
pub use path::{UnsafePath, visible_path};
pub use refusal::{HeaderFault, Refusal};
pub use route::{Route, VirtualRoot};
