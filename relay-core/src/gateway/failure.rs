//! Everything that can go wrong with a request at the gateway, and what the client is told.
//! `ANSWERS.md` lists it for people; tests hold the two against each other.
//!
//! The reason names the hop: `CMGService_*` was decided here, `CMGConnector_*` at the connection
//! point or beyond. Source: Microsoft Learn, "Monitor cloud management gateway"; reasons that are
//! not documented there are our choice in the same pattern.

use std::borrow::Cow;
use std::error::Error;
use std::io;
use std::time::Duration;

use http::header::{CONTENT_RANGE, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};

use crate::auth;
use crate::balance::Outcome;
use crate::body::SendBodyError;
use crate::content::GrantFault;
use crate::exchange::{AbortCode, EncodeError, MessageId, Tally};
use crate::http1::Fault;
use crate::link::RecvError;
use crate::mux::StreamCode;
use crate::policy::Refusal;

use super::answer::{self, AnswerBody};
use super::guarded::Malformed;
use super::halt::Halt;

/// Why a request was not relayed, or not answered by the site.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// Policy says no.
    #[error("refused: {0}")]
    Refused(#[from] Refusal),
    /// Nobody knows who the client is, and the endpoint is for clients.
    #[error("{}", .0.advice())]
    Unproven(auth::Refusal),
    /// The request's target is not a path, e.g. `*` or an authority.
    #[error("the request target is not a path")]
    NotAPath,
    /// Two hosts are named: two parsers in the chain could disagree whom the request is for.
    #[error("the request's Host is repeated, or not the host of its target")]
    BadHost,
    /// It has no reading, or more than one.
    #[error("{0}")]
    Malformed(Fault),
    /// Its head was not whole in time.
    #[error("the request's head was not whole within {} s", .0.as_secs_f32())]
    HeadTooSlow(Duration),
    /// A client asks about a tenant that no site has published.
    #[error("no site has published this tenant")]
    UnknownTenant,
    /// What a client shows for content does not count.
    #[error("{0}")]
    Grant(#[from] GrantFault),
    /// Somebody else shows a client's grant.
    #[error("the grant is for another client, or this one has not shown that it is the one")]
    OtherClient,
    /// This instance has no such content, or gives none.
    #[error("this instance has no such content; the client is to go elsewhere")]
    NoContent,
    /// The file is another than the client wants.
    #[error("the file has changed; begin anew")]
    ContentChanged,
    /// The file has fewer octets; it has as many as this says.
    #[error("the file has {0} octets, and none of those that are asked for")]
    BeyondContent(u64),
    /// Content cannot be read; the log says why.
    #[error("content cannot be read at present; the gateway's log says why, by the message id")]
    StoreDown,
    /// The client's head does not fit in one head block.
    #[error("the request head cannot be relayed: {0}")]
    Head(#[from] EncodeError),
    /// Connection points are connected, and none has told yet what is published.
    #[error("no connection point has published its site's settings yet")]
    NoSettings,
    /// No connection point is connected to this instance.
    #[error("no connection point is connected to this instance")]
    NoConnector,
    /// The process has as much memory in use as it may.
    #[error("this instance has no memory to spare")]
    OutOfMemory,
    /// The instance runs and serves nobody.
    #[error("{}", match .0 {
        Halt::Administrator => "an administrator has stopped this service",
        Halt::Egress => "this service has sent as much as it may in 14 days",
    })]
    Halted(Halt),
    /// Every link is full, and stayed so while the request waited for as long as it may.
    #[error("every link is full; this request has waited for {} ms", .0.as_millis())]
    Overloaded(Duration),
    /// The link was lost after the request was sent.
    #[error("the link was lost; the site may have acted on the request")]
    LinkLost,
    /// The connection point reset the stream.
    #[error("the connection point gave up: {0:?}")]
    Aborted(AbortCode),
    /// The connection point's answer makes no sense.
    #[error("the connection point's answer cannot be understood: {0}")]
    BadAnswer(String),
    /// No answer in time.
    #[error("no answer within {} s", .0.as_secs_f32())]
    Timeout(Duration),
    /// The client stopped sending its body.
    #[error("nothing of the request's body came for {} s", .0.as_secs_f32())]
    ClientStalled(Duration),
    /// The client sends its body too slowly.
    #[error("the request's body came slower than {0} octets a second")]
    ClientSlow(u32),
    /// The client broke off, or sent a body that cannot be read.
    #[error("the client's body failed: {0}")]
    ClientBody(SendBodyError),
}

impl Failure {
    /// Status and reason.
    pub(super) fn answer(&self) -> (StatusCode, Cow<'static, str>) {
        let service = |status, reason: &'static str| (status, Cow::Borrowed(reason));
        match self {
            Self::Refused(refusal) => {
                (refusal.status(), format!("CMGService_{}", refusal.reason()).into())
            }
            Self::Unproven(refusal) => {
                (refusal.status(), format!("CMGService_{}", refusal.reason()).into())
            }
            Self::NotAPath => service(StatusCode::BAD_REQUEST, "CMGService_Bad_Target"),
            Self::BadHost => service(StatusCode::BAD_REQUEST, "CMGService_Bad_Host"),
            Self::Malformed(fault) => {
                (fault.status(), format!("CMGService_{}", fault.reason()).into())
            }
            Self::HeadTooSlow(_) | Self::ClientStalled(_) | Self::ClientSlow(_) => {
                service(StatusCode::REQUEST_TIMEOUT, "CMGService_Too_Slow")
            }
            Self::Head(_) => {
                service(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "CMGService_Head_Too_Large")
            }
            Self::UnknownTenant => service(StatusCode::NOT_FOUND, "CMGService_Unknown_Tenant"),
            Self::Grant(fault) => grant_answer(*fault),
            Self::OtherClient => service(StatusCode::FORBIDDEN, "CMGService_Other_Client"),
            Self::NoContent => service(StatusCode::NOT_FOUND, "CMGService_No_Content"),
            Self::ContentChanged => {
                service(StatusCode::PRECONDITION_FAILED, "CMGService_Content_Changed")
            }
            Self::BeyondContent(_) => {
                service(StatusCode::RANGE_NOT_SATISFIABLE, "CMGService_Range_Not_Satisfiable")
            }
            Self::StoreDown => {
                service(StatusCode::SERVICE_UNAVAILABLE, "CMGService_Content_Unavailable")
            }
            Self::NoSettings => service(StatusCode::SERVICE_UNAVAILABLE, "CMGService_No_Settings"),
            Self::NoConnector => {
                service(StatusCode::SERVICE_UNAVAILABLE, "CMGService_No_Connector")
            }
            Self::OutOfMemory => {
                service(StatusCode::SERVICE_UNAVAILABLE, "CMGService_Out_Of_Memory")
            }
            Self::Halted(Halt::Administrator) => {
                service(StatusCode::SERVICE_UNAVAILABLE, "CMGService_Stopped")
            }
            Self::Halted(Halt::Egress) => {
                service(StatusCode::SERVICE_UNAVAILABLE, "CMGService_Egress_Stopped")
            }
            Self::Overloaded(_) => {
                service(StatusCode::SERVICE_UNAVAILABLE, "CMGService_Overloaded")
            }
            Self::LinkLost => service(StatusCode::BAD_GATEWAY, "CMGService_Connector_Lost"),
            Self::Aborted(code) => {
                let (status, reason) = code.answer();
                (status, format!("CMGConnector_{reason}").into())
            }
            Self::BadAnswer(_) => service(StatusCode::BAD_GATEWAY, "CMGService_Bad_Answer"),
            Self::Timeout(_) => service(StatusCode::GATEWAY_TIMEOUT, "CMGService_Timeout"),
            Self::ClientBody(SendBodyError::TooLarge { .. }) => {
                service(StatusCode::PAYLOAD_TOO_LARGE, "CMGService_Body_Too_Large")
            }
            Self::ClientBody(error) => match fault_in(error) {
                Some(fault) => Self::Malformed(fault).answer(),
                None => service(StatusCode::BAD_REQUEST, "CMGService_Bad_Body"),
            },
        }
    }

    /// Whether the client's octets have no reading, or more than one.
    pub(super) fn is_malformed(&self) -> bool {
        match self {
            Self::Malformed(_) => true,
            Self::ClientBody(error) => fault_in(error).is_some(),
            _ => false,
        }
    }

    /// What a request that was sent over a link tells about it by failing.
    ///
    /// What a client can bring about by itself tells nothing, or it could have connection points
    /// ejected; nor does what failed behind the connection point, where others would ask the same.
    pub(super) fn outcome(&self) -> Outcome {
        match self {
            Self::LinkLost => Outcome::Lost,
            Self::Aborted(AbortCode::Refused) => Outcome::Refused,
            // It would have told of a slow backend itself, in less time.
            Self::Timeout(_)
            | Self::BadAnswer(_)
            | Self::Aborted(AbortCode::Internal | AbortCode::BadHead) => Outcome::Failed,
            _ => Outcome::Inconclusive,
        }
    }

    /// Seconds after which another try makes sense.
    fn retry_after(&self) -> Option<u16> {
        match self {
            Self::NoSettings | Self::NoConnector | Self::OutOfMemory | Self::StoreDown => Some(5),
            Self::Halted(Halt::Administrator) => Some(60),
            // As often as it is looked whether it is over.
            Self::Halted(Halt::Egress) => Some(360),
            Self::Overloaded(_) | Self::Aborted(AbortCode::Refused | AbortCode::Draining) => {
                Some(1)
            }
            _ => None,
        }
    }

    /// The whole answer, which `tally` counts.
    pub(super) fn response<B>(
        &self,
        message_id: MessageId,
        tally: &Tally,
    ) -> Response<AnswerBody<B>> {
        let (status, reason) = self.answer();
        tally.note(&reason);
        let text = format!("{reason}\n{self}\nmessage id {message_id}\n");
        let mut response = Response::new(AnswerBody::text(text));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        if let Some(seconds) = self.retry_after() {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        match self {
            Self::Refused(refusal) => refusal.add_answer_headers(headers),
            Self::Unproven(refusal) => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(refusal.challenge()));
            }
            Self::BeyondContent(octets) => {
                // RFC 9110, section 15.5.17.
                let of = HeaderValue::try_from(format!("bytes */{octets}"));
                headers.insert(CONTENT_RANGE, of.expect("a number behind plain signs"));
            }
            _ => {}
        }
        answer::mark(&mut response, message_id, Some(reason.into_owned().into()));
        response
    }
}

impl From<Malformed> for Failure {
    fn from(malformed: Malformed) -> Self {
        match malformed {
            Malformed::Fault(fault) => Self::Malformed(fault),
            Malformed::HeadTooSlow(limit) => Self::HeadTooSlow(limit),
        }
    }
}

/// Status and reason of what is refused for its grant. One that is written wrongly is 400, whoever
/// has signed it; all else the client may put right by another grant.
fn grant_answer(fault: GrantFault) -> (StatusCode, Cow<'static, str>) {
    let forbidden = |reason| (StatusCode::FORBIDDEN, Cow::Borrowed(reason));
    match fault {
        GrantFault::Blocked => forbidden("CMGService_Client_Blocked"),
        GrantFault::NotYet => forbidden("CMGService_Grant_Not_Yet"),
        GrantFault::Over => forbidden("CMGService_Grant_Over"),
        GrantFault::Issuer | GrantFault::UnknownSigner | GrantFault::Signature => {
            forbidden("CMGService_Invalid_Grant")
        }
        _ => (StatusCode::BAD_REQUEST, Cow::Borrowed("CMGService_Bad_Grant")),
    }
}

/// What is wrong with a body that the parser was not shown to its end.
fn fault_in(error: &SendBodyError) -> Option<Fault> {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        // An I/O error hides what it is made of from `source`.
        let within = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let fault = within.and_then(|error| error.downcast_ref());
        if fault.is_some() {
            return fault.copied();
        }
        cause = match error.downcast_ref::<SendBodyError>() {
            Some(SendBodyError::Source(source)) => Some(&**source),
            _ => error.source(),
        };
    }
    None
}

impl From<RecvError> for Failure {
    fn from(error: RecvError) -> Self {
        match error {
            RecvError::Reset(StreamCode(code)) => Self::Aborted(AbortCode::from_wire(code)),
            RecvError::LinkLost => Self::LinkLost,
            other => Self::BadAnswer(other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::counted;
    use super::*;
    use crate::policy::{HeaderFault, UnsafePath};

    fn all() -> Vec<Failure> {
        vec![
            Failure::Refused(Refusal::NotPublished),
            Failure::Unproven(auth::Refusal::NoCredential),
            Failure::NotAPath,
            Failure::BadHost,
            Failure::Malformed(Fault::BareLf),
            Failure::HeadTooSlow(Duration::from_secs(10)),
            Failure::UnknownTenant,
            Failure::Grant(GrantFault::Over),
            Failure::OtherClient,
            Failure::NoContent,
            Failure::ContentChanged,
            Failure::BeyondContent(1),
            Failure::StoreDown,
            Failure::Head(EncodeError::HeadTooLong { octets: 2, limit: 1 }),
            Failure::NoSettings,
            Failure::NoConnector,
            Failure::OutOfMemory,
            Failure::Halted(Halt::Administrator),
            Failure::Halted(Halt::Egress),
            Failure::Overloaded(Duration::from_secs(5)),
            Failure::LinkLost,
            Failure::Aborted(AbortCode::BackendTimeout),
            Failure::Aborted(AbortCode::Draining),
            Failure::BadAnswer("x".to_owned()),
            Failure::Timeout(Duration::from_secs(65)),
            Failure::ClientStalled(Duration::from_secs(30)),
            Failure::ClientSlow(240),
            Failure::ClientBody(SendBodyError::TooLarge { limit: 1 }),
            Failure::ClientBody(SendBodyError::Source("gone".into())),
        ]
    }

    #[test]
    fn every_failure_names_its_hop_in_phrase_and_header_alike() {
        let id = MessageId([7; 16]);
        for failure in all() {
            let response: Response<AnswerBody<http_body_util::Empty<bytes::Bytes>>> =
                failure.response(id, &counted::tally());
            let reason = response.headers().get(super::super::header::REASON).cloned();
            let reason = reason.unwrap_or_else(|| panic!("{failure:?} has no reason"));
            let text = reason.to_str().unwrap();
            assert!(text.starts_with("CMGService_") || text.starts_with("CMGConnector_"), "{text}");
            let phrase = response.extensions().get::<hyper::ext::ReasonPhrase>().unwrap();
            assert_eq!(phrase.as_bytes(), reason.as_bytes());
            let sent = response.headers().get(super::super::header::MESSAGE_ID).unwrap();
            assert_eq!(sent.to_str().unwrap(), id.to_string());
        }
    }

    /// One of each variant. A new one does not compile before it has its place here.
    fn each_failure() -> Vec<Failure> {
        let place = |failure: &Failure| match failure {
            Failure::Refused(_) => 0,
            Failure::NotAPath => 1,
            Failure::BadHost => 2,
            Failure::Malformed(_) => 3,
            Failure::HeadTooSlow(_) => 4,
            Failure::UnknownTenant => 5,
            Failure::Head(_) => 6,
            Failure::NoSettings => 7,
            Failure::NoConnector => 8,
            Failure::Overloaded(_) => 9,
            Failure::LinkLost => 10,
            Failure::Aborted(_) => 11,
            Failure::BadAnswer(_) => 12,
            Failure::Timeout(_) => 13,
            Failure::ClientStalled(_) => 14,
            Failure::ClientSlow(_) => 15,
            Failure::ClientBody(_) => 16,
            Failure::OutOfMemory => 17,
            Failure::Unproven(_) => 18,
            Failure::Grant(_) => 19,
            Failure::OtherClient => 20,
            Failure::NoContent => 21,
            Failure::ContentChanged => 22,
            Failure::BeyondContent(_) => 23,
            Failure::StoreDown => 24,
            Failure::Halted(_) => 25,
        };
        let places: BTreeSet<usize> = all().iter().map(place).collect();
        assert_eq!(places, (0..26).collect(), "one of each is listed");
        all()
    }

    fn each_refusal() -> [Refusal; 5] {
        let name = CONTENT_TYPE;
        let all = [
            Refusal::NotPublished,
            Refusal::VerbNotAllowed { allowed: &["GET"] },
            Refusal::UnsafePath(UnsafePath::EmptySegment),
            Refusal::BodyTooLarge { limit: 1 },
            Refusal::BadHeader { name, fault: HeaderFault::NotAList },
        ];
        let place = |refusal: &Refusal| match refusal {
            Refusal::NotPublished => 0,
            Refusal::VerbNotAllowed { .. } => 1,
            Refusal::UnsafePath(_) => 2,
            Refusal::BodyTooLarge { .. } => 3,
            Refusal::BadHeader { .. } => 4,
        };
        assert_eq!(all.each_ref().map(place), [0, 1, 2, 3, 4]);
        all
    }

    fn each_fault() -> Vec<Fault> {
        let next = |fault| match fault {
            Fault::BareLf => Some(Fault::BareCr),
            Fault::BareCr => Some(Fault::Control(0)),
            Fault::Control(_) => Some(Fault::RequestLine),
            Fault::RequestLine => Some(Fault::StatusLine),
            Fault::StatusLine => Some(Fault::Version),
            Fault::Version => Some(Fault::Connect),
            Fault::Connect => Some(Fault::Target),
            Fault::Target => Some(Fault::Folded),
            Fault::Folded => Some(Fault::FieldName),
            Fault::FieldName => Some(Fault::NoHost),
            Fault::NoHost => Some(Fault::Host),
            Fault::Host => Some(Fault::OtherHost),
            Fault::OtherHost => Some(Fault::Length),
            Fault::Length => Some(Fault::Coding),
            Fault::Coding => Some(Fault::LengthAndCoding),
            Fault::LengthAndCoding => Some(Fault::CodingInHttp10),
            Fault::CodingInHttp10 => Some(Fault::Expectation),
            Fault::Expectation => Some(Fault::FirstLineTooLong(1)),
            Fault::FirstLineTooLong(_) => Some(Fault::FieldTooLong(1)),
            Fault::FieldTooLong(_) => Some(Fault::TooManyFields(1)),
            Fault::TooManyFields(_) => Some(Fault::HeadTooLong(1)),
            Fault::HeadTooLong(_) => Some(Fault::ChunkSize),
            Fault::ChunkSize => Some(Fault::Extension),
            Fault::Extension => Some(Fault::ExtensionsTooLong(1)),
            Fault::ExtensionsTooLong(_) => Some(Fault::ChunkEnd),
            Fault::ChunkEnd => Some(Fault::Switch),
            Fault::Switch => Some(Fault::TooManyInterim(1)),
            Fault::TooManyInterim(_) => None,
        };
        std::iter::successors(Some(Fault::BareLf), |fault| next(*fault)).collect()
    }

    /// Status, reason and Retry-After, as the table has them.
    fn row(failure: &Failure) -> (String, String, String) {
        let (status, reason) = failure.answer();
        let retry = failure.retry_after().map_or("–".to_owned(), |seconds| seconds.to_string());
        (status.as_str().to_owned(), reason.into_owned(), retry)
    }

    /// The rows that say that the gateway decides; the faults that no client is told have none.
    fn table() -> BTreeSet<(String, String, String)> {
        let mut rows = BTreeSet::new();
        for line in include_str!("ANSWERS.md").lines() {
            let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
            let row = |retry: &str| {
                let reason = cells[1].trim_matches('`').to_owned();
                (cells[0].to_owned(), reason, retry.to_owned())
            };
            let is_answer = cells[0].parse::<u16>().is_ok();
            match cells.len() {
                6 if is_answer && cells[2] != "connection point" => rows.insert(row(cells[5])),
                3 if is_answer => rows.insert(row("–")),
                _ => false,
            };
        }
        rows
    }

    #[test]
    fn the_table_of_answers_has_every_answer_of_the_gateway_and_no_other() {
        let mut told: BTreeSet<_> = each_failure().iter().map(row).collect();
        told.extend(each_refusal().map(|refusal| row(&Failure::Refused(refusal))));
        told.extend(auth::Refusal::ALL.map(|refusal| row(&Failure::Unproven(refusal))));
        told.extend(GrantFault::ALL.map(|fault| row(&Failure::Grant(fault))));
        told.extend(each_fault().into_iter().map(|fault| row(&Failure::Malformed(fault))));
        let codes = AbortCode::KNOWN.into_iter().chain([AbortCode::Unknown(0x1ff)]);
        told.extend(codes.map(|code| row(&Failure::Aborted(code))));
        assert_eq!(table(), told);
        let reasons: BTreeSet<_> = told.into_iter().map(|(_, reason, _)| reason).collect();
        assert_eq!(reasons, counted::tests::reasons(), "each has a count");
    }

    #[test]
    fn what_passes_by_itself_says_when_to_come_back() {
        for failure in all() {
            let (status, _) = failure.answer();
            let retry = failure.retry_after().is_some();
            assert_eq!(retry, status == StatusCode::SERVICE_UNAVAILABLE, "{failure:?}");
        }
    }
}
