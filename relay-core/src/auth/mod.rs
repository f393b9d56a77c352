//! Who a client is: three methods, what each of them finds, and what that comes to.
//!
//! A gateway instance asks this room about each request before anything of it reaches a link. Time,
//! keys, revocation lists and the memory of what was used are arguments: the room does no I/O,
//! reads no clock and logs nothing. What a client may do once it is known is not decided here.
//!
//! Read [`search`] and [`Finding`] first. Credentials come from a request and its TLS connection,
//! trust from the site's settings; the [`Trail`] goes to the log, and its principal with the
//! request.
#![warn(clippy::indexing_slicing)]

mod certificate_fault;
mod guid;
mod method;
mod token_fault;
mod trail;

pub use certificate_fault::CertificateFault;
pub use guid::{Guid, ParseGuidError};
pub use method::{Method, Methods, MethodsError};
pub use token_fault::TokenFault;
pub use trail::{Finding, Principal, Strictness, Trail, Unproven, search};
