//! Exchanges that a connection point begins: what it tells this instance over a link.
//!
//! Each is one stream with a request head and a body, as in the other direction. The target says
//! what it is about, `answer` finds who answers it; the answer has a status, a reason, and a body
//! where something was asked for: a certificate request alone (`renewal_exchange.rs`).

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::exchange::{AbortCode, AnswerHead, HeadLimits, Origin, RequestHead};
use crate::link::{Incoming, Link, RecvError, RecvStream, SendStream};
use crate::mux::{HeadKind, StreamCode};
use crate::settings::{DOCUMENT_OCTETS_MAX, DocumentError, OfferRefused, SettingsDocument};

use super::published::{Novelty, Peer, RefusedSettings};
use super::serve::Gateway;

/// Time for one exchange, from its head to its answer.
pub(super) const WITHIN: Duration = Duration::from_secs(10);

/// Documents that are read at once, on all links together: so they take 16 MiB at most. Those
/// beyond wait, within their time.
pub(super) const AT_ONCE_MAX: usize = 16;

/// Documents that are read at once on one link, so that a slow one does not hold up the others.
const AT_ONCE_PER_LINK_MAX: usize = 1;

/// Octets of an answer's reason, which HEADS.md bounds.
const REASON_OCTETS_MAX: usize = 128;

/// What an exchange is answered.
pub(super) struct Answer {
    status: StatusCode,
    reason: String,
    /// What it says besides, and of which type that is.
    content: Option<(&'static str, Bytes)>,
}

/// Who speaks on a link.
pub(super) struct Speaker {
    pub(super) peer: Peer,
    /// The link's number.
    pub(super) number: u64,
    /// Bounds what is read at once on this link.
    places: Semaphore,
}

/// Why what a connection point sends could not be read.
pub(super) enum ReadFailed {
    /// The sender broke off, or the link was lost.
    BrokenOff(RecvError),
    /// More came than there may be.
    TooLong { octets: usize },
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

impl From<ReadFailed> for SettingsRefused {
    fn from(why: ReadFailed) -> Self {
        match why {
            ReadFailed::BrokenOff(why) => Self::BrokenOff(why),
            ReadFailed::TooLong { octets } => {
                DocumentError::TooLong { octets, limit: DOCUMENT_OCTETS_MAX }.into()
            }
        }
    }
}

impl SettingsRefused {
    fn status(&self) -> StatusCode {
        match self {
            Self::Document(DocumentError::TooLong { .. }) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BrokenOff(_) | Self::Document(_) | Self::Offer(OfferRefused::Unusable { .. }) => {
                StatusCode::BAD_REQUEST
            }
            Self::TooSlow(_) => StatusCode::REQUEST_TIMEOUT,
            Self::ForeignSite { .. } => StatusCode::FORBIDDEN,
            Self::Offer(_) => StatusCode::CONFLICT,
        }
    }
}

impl Gateway {
    /// Serves the exchanges that a connection point begins, until its link ends. The mux bounds
    /// how many are open on one link. `number` is the link's.
    pub(super) async fn serve_control(&self, link: &Link, peer: &Peer, number: u64) {
        let mut exchanges = JoinSet::new();
        let places = Semaphore::new(AT_ONCE_PER_LINK_MAX);
        let speaker = Arc::new(Speaker { peer: peer.clone(), number, places });
        loop {
            let incoming = tokio::select! {
                incoming = link.accept() => incoming,
                Some(_) = exchanges.join_next(), if !exchanges.is_empty() => continue,
            };
            // The driver says why.
            let Ok(incoming) = incoming else { return };
            let (gateway, speaker) = (self.clone(), Arc::clone(&speaker));
            exchanges.spawn(async move { gateway.exchange(incoming, &speaker).await });
        }
    }

    async fn exchange(&self, incoming: Incoming, speaker: &Speaker) {
        let Incoming { id, head, mut send, recv } = incoming;
        let limits = HeadLimits::default();
        let head = match RequestHead::decode(head, &limits) {
            Ok(head) => head,
            Err(why) => {
                let connection_point = &*speaker.peer.name;
                tracing::warn!(stream = %id, connection_point, %why, "bad head");
                return send.reset(StreamCode(AbortCode::BadHead.to_wire()));
            }
        };
        let answer = self.answer(&head, recv, speaker).await;
        let (head, content) = answer.into_parts();
        let Ok(block) = head.encode(&limits) else {
            return send.reset(StreamCode(AbortCode::Internal.to_wire()));
        };
        // An error means that nobody waits for the answer any more.
        match content {
            None => _ = send.send_head(block, HeadKind::FinalAndEnd),
            Some(content) => send_content(send, block, content).await,
        }
    }

    /// Finds who answers: one arm for each thing that a connection point may tell or ask.
    async fn answer(&self, head: &RequestHead, recv: RecvStream, speaker: &Speaker) -> Answer {
        match (head.target.path(), &head.method) {
            ("/relay/settings", &Method::PUT) => self.take_settings(recv, speaker).await,
            ("/relay/certificate-request", &Method::GET) => self.ask_for_certificate(speaker).await,
            ("/relay/certificate", &Method::PUT) => self.take_certificate(recv, speaker).await,
            ("/relay/settings" | "/relay/certificate", _) => {
                Answer::of(StatusCode::METHOD_NOT_ALLOWED, "only PUT")
            }
            ("/relay/certificate-request", _) => {
                Answer::of(StatusCode::METHOD_NOT_ALLOWED, "only GET")
            }
            _ => Answer::of(StatusCode::NOT_FOUND, "nothing is told there"),
        }
    }

    /// Waits until something may be read on this link; dropping what it yields gives the place
    /// back.
    pub(super) async fn reading<'a>(&'a self, speaker: &'a Speaker) -> [SemaphorePermit<'a>; 2] {
        let own = speaker.places.acquire().await.expect("the places are never closed");
        let of_all = self.inner.control_places.acquire().await;
        [own, of_all.expect("the places are never closed")]
    }

    async fn take_settings(&self, recv: RecvStream, speaker: &Speaker) -> Answer {
        let peer = &speaker.peer;
        let mut version = None;
        let read = async {
            let _places = self.reading(speaker).await;
            read_whole(recv, DOCUMENT_OCTETS_MAX).await
        };
        let taken = match timeout(WITHIN, read).await {
            Ok(Ok(octets)) => self.apply(&octets, peer, &mut version),
            Ok(Err(why)) => Err(why.into()),
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
    pub(super) fn of(status: StatusCode, reason: &str) -> Self {
        Self { status, reason: reason.to_owned(), content: None }
    }

    /// The same, and what was asked for.
    pub(super) fn with_content(self, of_type: &'static str, content: Bytes) -> Self {
        Self { content: Some((of_type, content)), ..self }
    }

    fn into_parts(self) -> (AnswerHead, Option<Bytes>) {
        let Self { status, reason, content } = self;
        let mut headers = HeaderMap::new();
        if let Some((of_type, _)) = &content {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(of_type));
        }
        let head = AnswerHead { status, reason: None, headers, origin: Origin::ConnectionPoint };
        (head.with_reason(shown(&reason)), content.map(|(_, content)| content))
    }
}

/// Sends an answer that has a body. Whoever takes nothing of it is left alone after a while.
async fn send_content(mut send: SendStream, head: Bytes, content: Bytes) {
    let whole = async {
        send.send_head(head, HeadKind::Final)?;
        send.write_chunk(content).await?;
        send.finish()
    };
    // Dropped unfinished, the stream is reset.
    let _ = timeout(WITHIN, whole).await;
}

/// Reads a whole body of at most `octets_max`.
pub(super) async fn read_whole(
    mut recv: RecvStream,
    octets_max: usize,
) -> Result<Vec<u8>, ReadFailed> {
    let mut octets = Vec::new();
    while let Some(chunk) = recv.read_chunk().await.map_err(ReadFailed::BrokenOff)? {
        let all = octets.len() + chunk.len();
        if octets_max < all {
            return Err(ReadFailed::TooLong { octets: all });
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
