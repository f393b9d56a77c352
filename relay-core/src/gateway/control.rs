//! Exchanges that a connection point begins: what it tells this instance over a link.
//!
//! Each is one stream with a request head and a body, as in the other direction. The target says
//! what it is about, `answer` finds who answers it; the answer has a status, a reason and no body.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::exchange::{AbortCode, AnswerHead, HeadLimits, Origin, RequestHead};
use crate::link::{Incoming, Link, RecvError, RecvStream};
use crate::mux::{HeadKind, StreamCode};
use crate::settings::{DOCUMENT_OCTETS_MAX, DocumentError, OfferRefused, SettingsDocument};

use super::published::{Novelty, Peer, RefusedSettings};
use super::serve::Gateway;

/// Time for one exchange, from its head to its answer.
const WITHIN: Duration = Duration::from_secs(10);

/// Documents that are read at once, on all links together: so they take 16 MiB at most. Those
/// beyond wait, within their time.
pub(super) const AT_ONCE_MAX: usize = 16;

/// Documents that are read at once on one link, so that a slow one does not hold up the others.
const AT_ONCE_PER_LINK_MAX: usize = 1;

/// Octets of an answer's reason, which HEADS.md bounds.
const REASON_OCTETS_MAX: usize = 128;

/// What an exchange is answered.
struct Answer {
    status: StatusCode,
    reason: String,
}

/// Why settings do not hold. What held before still does.
#[derive(Debug, thiserror::Error)]
enum SettingsRefused {
    /// The sender broke off, or the link was lost.
    #[error("the document broke off: {0}")]
    BrokenOff(RecvError),
    /// It took too long.
    #[error("the document was not there within {} s", .0.as_secs_f32())]
    TooSlow(Duration),
    /// It is none.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// A connection point speaks for its own site only.
    #[error("the document is of site `{document}`, and the link of site `{link}`")]
    ForeignSite { document: String, link: String },
    /// Another document stays.
    #[error(transparent)]
    Offer(#[from] OfferRefused),
}

impl SettingsRefused {
    fn status(&self) -> StatusCode {
        match self {
            Self::Document(DocumentError::TooLong { .. }) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BrokenOff(_) | Self::Document(_) => StatusCode::BAD_REQUEST,
            Self::TooSlow(_) => StatusCode::REQUEST_TIMEOUT,
            Self::ForeignSite { .. } => StatusCode::FORBIDDEN,
            Self::Offer(_) => StatusCode::CONFLICT,
        }
    }
}

impl Gateway {
    /// Serves the exchanges that a connection point begins, until its link ends. The mux bounds
    /// how many are open on one link.
    pub(super) async fn serve_control(&self, link: &Link, peer: &Peer) {
        let mut exchanges = JoinSet::new();
        let places = Arc::new(Semaphore::new(AT_ONCE_PER_LINK_MAX));
        loop {
            let incoming = tokio::select! {
                incoming = link.accept() => incoming,
                Some(_) = exchanges.join_next(), if !exchanges.is_empty() => continue,
            };
            // The driver says why.
            let Ok(incoming) = incoming else { return };
            let (gateway, peer, places) = (self.clone(), peer.clone(), Arc::clone(&places));
            exchanges.spawn(async move { gateway.exchange(incoming, &peer, &places).await });
        }
    }

    async fn exchange(&self, incoming: Incoming, peer: &Peer, places: &Semaphore) {
        let Incoming { id, head, mut send, recv } = incoming;
        let limits = HeadLimits::default();
        let head = match RequestHead::decode(head, &limits) {
            Ok(head) => head,
            Err(why) => {
                tracing::warn!(stream = %id, connection_point = &*peer.name, %why, "bad head");
                return send.reset(StreamCode(AbortCode::BadHead.to_wire()));
            }
        };
        let Answer { status, reason } = self.answer(&head, recv, peer, places).await;
        let head = AnswerHead {
            status,
            reason: None,
            headers: HeaderMap::new(),
            origin: Origin::ConnectionPoint,
        };
        match head.with_reason(shown(&reason)).encode(&limits) {
            // An error means that nobody waits for the answer any more.
            Ok(block) => _ = send.send_head(block, HeadKind::FinalAndEnd),
            Err(_) => send.reset(StreamCode(AbortCode::Internal.to_wire())),
        }
    }

    /// Finds who answers: one arm for each thing that a connection point may tell.
    async fn answer(
        &self,
        head: &RequestHead,
        recv: RecvStream,
        peer: &Peer,
        places: &Semaphore,
    ) -> Answer {
        match (head.target.path(), &head.method) {
            ("/relay/settings", &Method::PUT) => self.take_settings(recv, peer, places).await,
            ("/relay/settings", _) => Answer::of(StatusCode::METHOD_NOT_ALLOWED, "only PUT"),
            _ => Answer::of(StatusCode::NOT_FOUND, "nothing is told there"),
        }
    }

    async fn take_settings(&self, recv: RecvStream, peer: &Peer, places: &Semaphore) -> Answer {
        let mut version = None;
        let read = async {
            let _own = places.acquire().await.expect("the places are never closed");
            let of_all = &self.inner.control_places;
            let _place = of_all.acquire().await.expect("the places are never closed");
            read_document(recv).await
        };
        let taken = match timeout(WITHIN, read).await {
            Ok(read) => read.and_then(|octets| self.apply(&octets, peer, &mut version)),
            Err(_) => Err(SettingsRefused::TooSlow(WITHIN)),
        };
        match taken {
            Ok(true) => Answer::of(StatusCode::OK, "applied"),
            Ok(false) => Answer::of(StatusCode::OK, "the same as before"),
            Err(why) => self.refuse_settings(&why, version, peer),
        }
    }

    /// Applies a document, if it is one and is to hold. Returns whether it is new.
    fn apply(
        &self,
        octets: &[u8],
        peer: &Peer,
        version: &mut Option<u64>,
    ) -> Result<bool, SettingsRefused> {
        let document = SettingsDocument::decode(octets)?;
        *version = Some(document.version);
        if document.site != *peer.site {
            let link = peer.site.to_string();
            return Err(SettingsRefused::ForeignSite { document: document.site, link });
        }
        let (version, endpoints) = (document.version, document.endpoints.len());
        let is_new = self.inner.relay.settings.offer(document, peer)?;
        if is_new {
            tracing::info!(
                site = &*peer.site,
                version,
                endpoints,
                connection_point = &*peer.name,
                "settings applied"
            );
        }
        Ok(is_new)
    }

    fn refuse_settings(&self, why: &SettingsRefused, version: Option<u64>, peer: &Peer) -> Answer {
        let answer = Answer::of(why.status(), &why.to_string());
        let refused = RefusedSettings {
            version,
            status: answer.status.as_u16(),
            reason: answer.reason.clone(),
            at: SystemTime::now(),
            from: peer.name.to_string(),
        };
        // It is offered again and again; the log has it once.
        if self.inner.relay.settings.refuse(refused, &peer.site) == Novelty::New {
            tracing::warn!(
                site = &*peer.site, version, connection_point = &*peer.name, %why,
                "settings refused; those before still hold"
            );
        }
        answer
    }
}

impl Answer {
    fn of(status: StatusCode, reason: &str) -> Self {
        Self { status, reason: reason.to_owned() }
    }
}

/// Reads a whole document, and no more than one may have.
async fn read_document(mut recv: RecvStream) -> Result<Vec<u8>, SettingsRefused> {
    let mut octets = Vec::new();
    while let Some(chunk) = recv.read_chunk().await.map_err(SettingsRefused::BrokenOff)? {
        let all = octets.len() + chunk.len();
        if DOCUMENT_OCTETS_MAX < all {
            let limit = DOCUMENT_OCTETS_MAX;
            return Err(DocumentError::TooLong { octets: all, limit }.into());
        }
        octets.extend_from_slice(&chunk);
    }
    Ok(octets)
}

/// A reason as it may travel: no control characters, and cut at a character if it is long.
fn shown(reason: &str) -> Bytes {
    let mut text: String = reason.chars().filter(|character| !character.is_control()).collect();
    while REASON_OCTETS_MAX < text.len() {
        text.pop();
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_that_is_long_is_cut_and_never_left_out() {
        for reason in ["x".repeat(128), "é".repeat(65), "a\nb".to_owned()] {
            let head = AnswerHead {
                status: StatusCode::OK,
                reason: None,
                headers: HeaderMap::new(),
                origin: Origin::ConnectionPoint,
            };
            let head = head.with_reason(shown(&reason));
            let told = head.reason.as_ref().expect("a reason");
            assert!(reason.replace('\n', "").as_bytes().starts_with(told), "{reason}");
            assert!(head.encode(&HeadLimits::default()).is_ok());
        }
        assert_eq!(shown(&"é".repeat(65)).len(), 128);
    }
}
