//! One HTTP request and its answer on one stream.
//!
//! This room turns heads and trailers into blocks that fit one HEAD or TRAILERS frame, and back,
//! and says what the codes that abort an exchange mean. It does not judge what may pass (that is
//! `policy`), it holds no state between blocks, and it does no I/O.
//!
//! Read [`RequestHead`] and [`AnswerHead`] first. Heads come from an HTTP parser at one hop and go
//! to an HTTP writer at the other; blocks come from and go to the mux; [`AbortCode`]s travel in its
//! RESET and STOP frames.
//!
//! A decoded head shares the block's allocation: values and target are slices of it, so a head pins
//! at most one block ([`HeadLimits::head_octets_max`], default 16,376 octets).
//!
//! # Examples
//!
//! ```
//! use http::{HeaderMap, Method, uri::PathAndQuery};
//! use relay_core::exchange::{Assertions, HeadLimits, MessageId, RequestHead};
//!
//! let limits = HeadLimits::default();
//! let head = RequestHead {
//!     method: Method::GET,
//!     target: PathAndQuery::from_static("/CCM_Proxy_MutualAuth/1/SMS_MP/.sms_aut?MPLIST"),
//!     headers: HeaderMap::new(),
//!     assertions: Assertions::new(MessageId([7; 16])),
//! };
//! let block = head.encode(&limits)?;
//! assert_eq!(RequestHead::decode(block, &limits)?, head);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
#![doc = include_str!("HEADS.md")]
#![warn(clippy::indexing_slicing)]

mod abort;
mod assertions;
mod block;
mod field_names;
mod head;
mod names;
mod proven_certificate;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod reference;
mod tally;
#[cfg(test)]
mod tests;
mod trace;

pub use abort::AbortCode;
pub use assertions::{Assertions, MessageId, ParseMessageIdError};
pub use block::{DecodeError, EncodeError, HeadLimits};
pub use field_names::FieldNames;
pub use head::{AnswerHead, Origin, RequestHead, Trailers};
pub use proven_certificate::ProvenCertificate;
pub use tally::{Count, Tally};
pub use trace::{SPANS, TraceContext};
