//! Interim answers of a site on their way to a client that can be sent them.
//!
//! That is a client of HTTP/2. To one of HTTP/1.1 none is sent but 100, the gateway's own: hyper's
//! server takes one answer to a request, makes a 500 of an interim one, and has no other place for
//! it. That costs a hint and no more. RFC 8297, section 3, has servers be careful with 103 over
//! HTTP/1.1 anyway: a client that takes it for the final answer reads the next one wrongly.
//! HTTP/1.0 has none at all (RFC 9110, section 15.2).

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::Response;

use crate::exchange::{AnswerHead, DecodeError, HeadLimits};
use crate::policy;

/// The interim answers to one request. An extension of the request, where its client can be sent
/// them. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Interims(Arc<Mutex<Vec<Response<()>>>>);

impl Interims {
    /// Takes a head that came on the stream. What is none, or no client's business, is left out:
    /// the final answer counts.
    pub(super) fn put(&self, block: Bytes, limits: &HeadLimits) {
        match read(block, limits) {
            Ok(Some(head)) => self.0.lock().unwrap_or_else(PoisonError::into_inner).push(head),
            Ok(None) => tracing::debug!("an interim answer with another status, dropped"),
            Err(why) => tracing::debug!(%why, "interim answer dropped"),
        }
    }

    /// Those that have come since the last time, in order: at most 8 of one request, for so many a
    /// link lets pass.
    pub(super) fn take(&self) -> Vec<Response<()>> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Reads a head and judges it as if no connection point had; `None` if it does not pass.
fn read(block: Bytes, limits: &HeadLimits) -> Result<Option<Response<()>>, DecodeError> {
    let AnswerHead { status, mut headers, .. } = AnswerHead::decode(block, limits)?;
    policy::strip_interim_headers(&mut headers);
    let mut head = Response::new(());
    *head.status_mut() = status;
    *head.headers_mut() = headers;
    Ok(policy::passes_interim(status).then_some(head))
}
