//! A BITS upload server: the sessions by which clients hand in files, fragment by fragment.
//!
//! Source: [MC-BUP], "Background Intelligent Transfer Service (BITS) Upload Protocol". Only hashes
//! are kept of what is uploaded. Reply data and notification of other servers are left out.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode};
use http_body_util::BodyExt as _;
use http_body_util::Limited;
use hyper::body::Incoming;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{SiteBody, empty};

/// The one version of the protocol. Source: [MC-BUP], section 2.2.
pub(crate) const PROTOCOL: &str = "{7df0354d-249b-430f-820d-3d2a9bef4931}";

/// The internal name this server announces. A relay must strip the header: a client that obeyed it
/// would continue its upload at a name that only the intranet resolves.
const HOST_ID: &str = "mp.internal.example";

/// Sessions open at once, and finished files remembered.
const SESSIONS_MAX: usize = 64;

/// Largest fragment, in octets: 8 MiB.
const FRAGMENT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What became of an upload; the answer to `GET` of its path.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(crate) struct Finished {
    /// Octets received.
    pub bytes: u64,
    /// Hexadecimal SHA-256 of them.
    pub sha256: String,
}

#[derive(Debug, Default)]
pub(super) struct Uploads(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    created: u64,
    open: BTreeMap<String, Session>,
    finished: BTreeMap<String, Finished>,
}

#[derive(Debug)]
struct Session {
    path: String,
    received: u64,
    total: Option<u64>,
    hash: Sha256,
}

/// `Content-Range: bytes first-last/total`, all three known.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct FragmentRange {
    first: u64,
    end: u64,
    total: u64,
}

impl Uploads {
    /// Answers one `BITS_POST` to `path`.
    pub(super) async fn answer(
        &self,
        path: &str,
        headers: &HeaderMap,
        body: Incoming,
    ) -> Response<SiteBody> {
        let Ok(body) = Limited::new(body, FRAGMENT_BYTES_MAX).collect().await else {
            return error(StatusCode::PAYLOAD_TOO_LARGE);
        };
        let body = body.to_bytes();
        let mut state = self.lock();
        let mut answer = match text(headers, "bits-packet-type") {
            Some("Ping") => empty(StatusCode::OK),
            Some("Create-Session") => state.create(path, headers),
            Some("Fragment") => state.fragment(path, headers, &body),
            Some("Close-Session") => state.close(path, headers),
            Some("Cancel-Session") => state.cancel(path, headers),
            _ => error(StatusCode::BAD_REQUEST),
        };
        answer.headers_mut().insert("bits-packet-type", HeaderValue::from_static("Ack"));
        if let Some(session) = headers.get("bits-session-id") {
            answer.headers_mut().insert("bits-session-id", session.clone());
        }
        answer
    }

    /// What became of the upload to `path`, once its session was closed.
    pub(super) fn finished(&self, path: &str) -> Option<Finished> {
        self.lock().finished.get(path).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn create(&mut self, path: &str, headers: &HeaderMap) -> Response<SiteBody> {
        let offered = text(headers, "bits-supported-protocols").unwrap_or_default();
        if !offered.split_whitespace().any(|protocol| protocol.eq_ignore_ascii_case(PROTOCOL)) {
            return error(StatusCode::BAD_REQUEST);
        }
        if SESSIONS_MAX <= self.open.len() {
            return error(StatusCode::SERVICE_UNAVAILABLE);
        }
        self.created += 1;
        let id = format!("{{b1750000-0000-4000-8000-{:012x}}}", self.created);
        let mut answer = empty(StatusCode::OK);
        let headers = answer.headers_mut();
        headers.insert("bits-protocol", HeaderValue::from_static(PROTOCOL));
        headers.insert("bits-host-id", HeaderValue::from_static(HOST_ID));
        headers.insert("bits-session-id", ascii(id.clone()));
        let session =
            Session { path: path.to_owned(), received: 0, total: None, hash: Sha256::new() };
        self.open.insert(id, session);
        answer
    }

    fn fragment(&mut self, path: &str, headers: &HeaderMap, body: &Bytes) -> Response<SiteBody> {
        let Some(session) = self.session(path, headers) else {
            return error(StatusCode::NOT_FOUND);
        };
        let Some(range) = text(headers, "content-range").and_then(FragmentRange::parse) else {
            return error(StatusCode::BAD_REQUEST);
        };
        let total_changed = session.total.is_some_and(|total| total != range.total);
        if total_changed || range.end - range.first != body.len() as u64 {
            return error(StatusCode::BAD_REQUEST);
        }
        // Source: [MC-BUP], section 3.2.5: a fragment behind what was received is out of sequence;
        // of one that overlaps, the octets already received are passed over.
        let status = if session.received < range.first {
            StatusCode::RANGE_NOT_SATISFIABLE
        } else {
            session.take(range, body);
            StatusCode::OK
        };
        let mut answer = empty(status);
        answer.headers_mut().insert("bits-received-content-range", session.received.into());
        answer
    }

    fn close(&mut self, path: &str, headers: &HeaderMap) -> Response<SiteBody> {
        let complete = self.session(path, headers).map(|session| session.is_complete());
        match complete {
            None => return error(StatusCode::NOT_FOUND),
            Some(false) => return error(StatusCode::BAD_REQUEST),
            Some(true) => (),
        }
        let Some(session) = self.remove(headers) else {
            return error(StatusCode::NOT_FOUND);
        };
        if SESSIONS_MAX <= self.finished.len() {
            self.finished.pop_first();
        }
        let sha256 = format!("{:x}", session.hash.finalize());
        self.finished.insert(session.path, Finished { bytes: session.received, sha256 });
        empty(StatusCode::OK)
    }

    fn cancel(&mut self, path: &str, headers: &HeaderMap) -> Response<SiteBody> {
        if self.session(path, headers).is_none() {
            return error(StatusCode::NOT_FOUND);
        }
        self.remove(headers);
        empty(StatusCode::OK)
    }

    /// The open session that the request names, if it was created for the same path.
    fn session(&mut self, path: &str, headers: &HeaderMap) -> Option<&mut Session> {
        let id = text(headers, "bits-session-id")?;
        self.open.get_mut(id).filter(|session| session.path == path)
    }

    fn remove(&mut self, headers: &HeaderMap) -> Option<Session> {
        self.open.remove(text(headers, "bits-session-id")?)
    }
}

impl Session {
    /// Takes what is new of a fragment that starts no later than what was received.
    fn take(&mut self, range: FragmentRange, body: &Bytes) {
        self.total = Some(range.total);
        let known = usize::try_from(self.received - range.first).unwrap_or(usize::MAX);
        let new = body.get(known..).unwrap_or_default();
        self.hash.update(new);
        self.received += new.len() as u64;
    }

    fn is_complete(&self) -> bool {
        self.total == Some(self.received)
    }
}

impl FragmentRange {
    fn parse(value: &str) -> Option<Self> {
        let (range, total) = value.strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let (first, last) = (first.parse().ok()?, last.parse::<u64>().ok()?);
        let (end, total) = (last.checked_add(1)?, total.parse().ok()?);
        (first < end && end <= total).then_some(Self { first, end, total })
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn ascii(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("made of hexadecimal digits and ASCII punctuation")
}

/// Source: [MC-BUP], section 2.2: an error carries its code and the context 0x5, "the server".
fn error(status: StatusCode) -> Response<SiteBody> {
    let mut answer = empty(status);
    answer.headers_mut().insert("bits-error-code", HeaderValue::from_static("0x80070057"));
    answer.headers_mut().insert("bits-error-context", HeaderValue::from_static("0x5"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = "/ccm_incoming/report.bin";

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    fn created(state: &mut State) -> String {
        let answer = state.create(PATH, &headers(&[("bits-supported-protocols", PROTOCOL)]));
        assert_eq!(answer.status(), StatusCode::OK);
        text(answer.headers(), "bits-session-id").unwrap().to_owned()
    }

    /// Sends a fragment; gives the status and the next offset that the server expects.
    fn sent(state: &mut State, id: &str, range: &str, body: &'static [u8]) -> (u16, Option<u64>) {
        let headers = headers(&[("bits-session-id", id), ("content-range", range)]);
        let answer = state.fragment(PATH, &headers, &Bytes::from_static(body));
        let next = text(answer.headers(), "bits-received-content-range");
        (answer.status().as_u16(), next.map(|next| next.parse().unwrap()))
    }

    #[test]
    fn fragments_in_order_make_the_file() {
        let mut state = State::default();
        let id = created(&mut state);
        assert_eq!(sent(&mut state, &id, "bytes 0-2/5", b"abc"), (200, Some(3)));
        assert_eq!(sent(&mut state, &id, "bytes 3-4/5", b"de"), (200, Some(5)));
        let named = headers(&[("bits-session-id", id.as_str())]);
        assert_eq!(state.close(PATH, &named).status(), StatusCode::OK);
        let sha256 = format!("{:x}", Sha256::digest("abcde"));
        assert_eq!(state.finished.get(PATH), Some(&Finished { bytes: 5, sha256 }));
        assert_eq!(state.close(PATH, &named).status(), StatusCode::NOT_FOUND);
    }

    #[test]
    fn a_gap_is_416_with_the_offset_expected_and_an_overlap_is_passed_over() {
        let mut state = State::default();
        let id = created(&mut state);
        assert_eq!(sent(&mut state, &id, "bytes 0-2/6", b"abc"), (200, Some(3)));
        assert_eq!(sent(&mut state, &id, "bytes 4-5/6", b"ef"), (416, Some(3)));
        assert_eq!(sent(&mut state, &id, "bytes 1-3/6", b"bcd"), (200, Some(4)));
        assert_eq!(sent(&mut state, &id, "bytes 0-1/6", b"ab"), (200, Some(4)));
        assert_eq!(sent(&mut state, &id, "bytes 4-5/6", b"ef"), (200, Some(6)));
        let finished = state.open[&id].hash.clone().finalize();
        assert_eq!(finished, Sha256::digest("abcdef"));
    }

    #[test]
    fn a_fragment_that_contradicts_itself_or_the_session_is_refused() {
        let mut state = State::default();
        let id = created(&mut state);
        assert_eq!(sent(&mut state, &id, "bytes 0-2/5", b"ab").0, 400);
        assert_eq!(sent(&mut state, &id, "bytes 0-5/5", b"abcdef").0, 400);
        assert_eq!(sent(&mut state, &id, "bytes 2-1/5", b"").0, 400);
        assert_eq!(sent(&mut state, "{none}", "bytes 0-2/5", b"abc").0, 404);
        assert_eq!(sent(&mut state, &id, "bytes 0-2/5", b"abc").0, 200);
        assert_eq!(sent(&mut state, &id, "bytes 3-4/6", b"de").0, 400);
    }

    #[test]
    fn a_session_is_closed_only_when_complete_and_cancelled_at_any_time() {
        let mut state = State::default();
        let id = created(&mut state);
        assert_eq!(sent(&mut state, &id, "bytes 0-2/5", b"abc").0, 200);
        let named = headers(&[("bits-session-id", id.as_str())]);
        assert_eq!(state.close(PATH, &named).status(), StatusCode::BAD_REQUEST);
        assert_eq!(state.close("/other", &named).status(), StatusCode::NOT_FOUND);
        assert_eq!(state.cancel(PATH, &named).status(), StatusCode::OK);
        assert_eq!(state.cancel(PATH, &named).status(), StatusCode::NOT_FOUND);
        assert!(state.open.is_empty());
    }

    #[test]
    fn sessions_have_a_ceiling_and_a_protocol() {
        let mut state = State::default();
        let unknown = headers(&[("bits-supported-protocols", "{0}")]);
        assert_eq!(state.create(PATH, &unknown).status(), StatusCode::BAD_REQUEST);
        for _ in 0..SESSIONS_MAX {
            created(&mut state);
        }
        let known = headers(&[("bits-supported-protocols", PROTOCOL)]);
        assert_eq!(state.create(PATH, &known).status(), StatusCode::SERVICE_UNAVAILABLE);
    }
}
