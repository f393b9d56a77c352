//! What a command has come to: which hop said what, and what to do next.

use std::fmt::Write as _;

use http::{Response, StatusCode};
use hyper::ext::ReasonPhrase;
use relay_core::gateway::header::{MESSAGE_ID, REASON};
use serde::Serialize;
use serde_json::{Map, Value};

use super::advice::{self, Advice};
use super::fault::Fault;

/// Characters of a stranger's text that are shown.
const TEXT_MAX: usize = 300;

/// What an exchange has come to.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// 2xx or 3xx.
    Answered,
    /// 4xx: so the request is not wanted.
    Refused,
    /// 5xx, or no answer, or half of one.
    Failed,
}

/// Who decided.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Hop {
    /// This machine.
    Here,
    /// What lies between here and the address asked.
    Network,
    /// A gateway instance: `CMGService_*`.
    Gateway,
    /// A connection point: `CMGConnector_*`.
    ConnectionPoint,
    /// A management point, software update point, or another server of the site.
    Site,
    /// The site's token service.
    TokenService,
    /// Who keeps content for a gateway, and gives it to clients by its location.
    Store,
    /// Whoever answers at the address; it gives no sign of being a gateway.
    Unknown,
}

impl Hop {
    fn text(self) -> &'static str {
        match self {
            Self::Here => "this machine",
            Self::Network => "the network",
            Self::Gateway => "the gateway",
            Self::ConnectionPoint => "the connection point",
            Self::Site => "the site role behind the connection point",
            Self::TokenService => "the token service",
            Self::Store => "the store of content",
            Self::Unknown => "whoever answers at that address",
        }
    }
}

/// What a command has come to.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) outcome: Outcome,
    pub(crate) hop: Hop,
    pub(crate) status: Option<u16>,
    pub(crate) reason: Option<String>,
    pub(crate) means: Option<String>,
    pub(crate) next: Option<String>,
    pub(crate) message_id: Option<String>,
    /// Version and address.
    pub(crate) over: Option<String>,
    /// What else is worth saying, in its order.
    #[serde(flatten)]
    pub(crate) facts: Map<String, Value>,
}

/// Who is asked: it decides what an answer without a reason is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Asked {
    /// What a gateway answers by itself.
    Gateway,
    /// Something that the site has published.
    Site,
    /// A file at the location that a gateway has signed.
    Store,
}

impl Report {
    /// Of the head of an answer.
    pub(crate) fn of<B>(answer: &Response<B>, asked: Asked, over: String) -> Self {
        let status = answer.status();
        let text = |name| answer.headers().get(name).and_then(|value| value.to_str().ok());
        let message_id = text(MESSAGE_ID).map(visible);
        // Gateways that send no field are told by the phrase; of those that do, a phrase may be
        // the site role's.
        let phrase = answer.extensions().get::<ReasonPhrase>();
        let phrase = phrase.map(|phrase| String::from_utf8_lossy(phrase.as_bytes()).into_owned());
        let phrase = phrase.filter(|it| message_id.is_none() && it.starts_with("CMG"));
        let reason = text(REASON).map(str::to_owned).or(phrase).map(|reason| visible(&reason));
        let hop = match (&reason, asked) {
            (_, Asked::Store) => Hop::Store,
            (Some(reason), _) if reason.starts_with("CMGService_") => Hop::Gateway,
            (Some(reason), _) if reason.starts_with("CMGConnector_") => Hop::ConnectionPoint,
            _ if message_id.is_none() => Hop::Unknown,
            (_, Asked::Gateway) => Hop::Gateway,
            (_, Asked::Site) => Hop::Site,
        };
        let outcome = match status.as_u16() {
            200..=399 => Outcome::Answered,
            400..=499 => Outcome::Refused,
            _ => Outcome::Failed,
        };
        let advice = match (outcome, &reason) {
            (Outcome::Answered, _) => None,
            (_, Some(reason)) if hop != Hop::Store => {
                advice::about(reason).or_else(|| Some(unheard_of()))
            }
            _ => Some(of_status(hop, status)),
        };
        let (means, next) = advice.map(|advice| (advice.means, advice.next)).unzip();
        let (status, over) = (Some(status.as_u16()), Some(over));
        let facts = Map::new();
        Self { outcome, hop, status, reason, means, next, message_id, over, facts }
    }

    /// Of an exchange without an answer, or with half of one: `so_far`.
    pub(crate) fn of_fault(fault: &Fault, so_far: Option<Self>) -> Self {
        let (means, next) = (Some(fault.to_string()), Some(fault.next().to_owned()));
        let hop = fault.hop();
        match so_far {
            Some(report) => Self { outcome: Outcome::Failed, hop, means, next, ..report },
            None => Self {
                outcome: Outcome::Failed,
                hop,
                status: None,
                reason: None,
                means,
                next,
                message_id: None,
                over: None,
                facts: Map::new(),
            },
        }
    }

    /// As [`Report::of_fault`], without an answer, where a store of content was asked.
    pub(super) fn of_store_fault(fault: &Fault) -> Self {
        let (hop, next) = (fault.hop_at_store(), Some(fault.next_at_store().to_owned()));
        Self { hop, next, ..Self::of_fault(fault, None) }
    }

    /// Whether the command has done what it was asked to.
    pub(crate) fn is_answered(&self) -> bool {
        self.outcome == Outcome::Answered
    }

    /// Whether the same request may be answered a little later: too many, or somebody on the way
    /// was gone.
    pub(super) fn is_passing(&self) -> bool {
        matches!(self.status, Some(408 | 429 | 502 | 503 | 504))
    }

    /// Adds a line.
    pub(super) fn fact(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.facts.insert(name.to_owned(), value.into());
        self
    }

    /// In one line, for a log or an error.
    pub(crate) fn line(&self) -> String {
        let hop = self.hop.text();
        let why = self.reason.as_deref().or(self.means.as_deref()).unwrap_or_default();
        match (self.outcome, self.status) {
            (Outcome::Answered, status) => format!("{} by {hop}", status.unwrap_or_default()),
            (Outcome::Refused, status) => {
                format!("{hop} refused the request: {} {why}", status.unwrap_or_default())
            }
            (Outcome::Failed, Some(status)) => format!("failed at {hop}: {status} {why}"),
            (Outcome::Failed, None) => format!("failed at {hop}: {why}"),
        }
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let outcome = match self.outcome {
            Outcome::Answered => "answered",
            Outcome::Refused => "refused",
            Outcome::Failed => "failed",
        };
        let status = self.status.map(|status| format!("{status} ")).unwrap_or_default();
        let preposition = if self.status.is_some() { "by" } else { "at" };
        let mut text = format!("{outcome}: {status}{preposition} {}\n", self.hop.text());
        let lines = [
            ("reason", &self.reason),
            ("means", &self.means),
            ("next", &self.next),
            ("message id", &self.message_id),
            ("over", &self.over),
        ];
        let lines = lines.into_iter().filter_map(|(name, line)| Some((name, line.clone()?)));
        let facts = self.facts.iter().map(|(name, value)| {
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            (name.as_str(), value)
        });
        for (name, line) in lines.chain(facts) {
            let name = name.replace('_', " ");
            writeln!(text, "  {name:<12} {line}").expect("writing to a String cannot fail");
        }
        text.truncate(text.trim_end().len());
        text
    }

    /// For scripts.
    ///
    /// # Errors
    ///
    /// None that is known: all of it can be written as JSON.
    pub(super) fn json(&self) -> anyhow::Result<String> {
        Ok(serde_json::to_string_pretty(self)?)
    }
}

fn unheard_of() -> Advice {
    Advice {
        means: "this version of the client does not know that reason".into(),
        next: "the logs of the gateway and the connection point, by message id".into(),
    }
}

fn of_status(hop: Hop, status: StatusCode) -> Advice {
    let (means, next) = match (hop, status) {
        (Hop::Unknown, _) => (
            "the answer has no message id: no gateway of a relay has sent it",
            "check the URL's host and port, and what stands in between: a balancer, a proxy",
        ),
        (Hop::Store, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => (
            "the store refuses the location, also one that the gateway has signed anew: it is over \
             by the store's clock, or signed by no key of the store's",
            "the clocks of the gateway and the store; then the key of `[content]`; or ask the site \
             for a grant that lasts longer",
        ),
        (Hop::Store, StatusCode::NOT_FOUND) => (
            "the store has no such file",
            "the same command again; then have the package put anew, by `relay content put`",
        ),
        (Hop::Store, _) => (
            "the answer is the store's own; no gateway stands before it",
            "the same command a little later; then the store's own status and logs",
        ),
        (_, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => (
            "gateway and connection point let the request pass, and the site role refused it",
            "the site role's log; the connection point's log has the request by its message id",
        ),
        _ => (
            "the answer is the site role's own; gateway and connection point passed it on",
            "the site role's log; the connection point's log has the request by its message id",
        ),
    };
    Advice { means: means.into(), next: next.into() }
}

/// A stranger's text as a terminal can show it.
pub(crate) fn visible(text: &str) -> String {
    let safe = |c: char| if c == ' ' || c.is_ascii_graphic() { c } else { '?' };
    text.trim().chars().take(TEXT_MAX).map(safe).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(status: u16, fields: &[(&str, &str)], phrase: &'static str) -> Report {
        let mut answer = Response::builder().status(status);
        for (name, value) in fields {
            answer = answer.header(*name, *value);
        }
        let mut answer = answer.body(()).unwrap();
        answer.extensions_mut().insert(ReasonPhrase::from_static(phrase.as_bytes()));
        Report::of(&answer, Asked::Site, "HTTP/1.1 with 127.0.0.1:1".into())
    }

    const ID: (&str, &str) = ("relay-message-id", "0f8fad5b-d9cb-469f-a165-70867728950e");

    #[test]
    fn a_reason_tells_the_hop() {
        for (reason, hop) in [
            ("CMGService_Not_Published", Hop::Gateway),
            ("CMGConnector_Timeout", Hop::ConnectionPoint),
        ] {
            let told = report(404, &[ID, ("relay-reason", reason)], reason);
            assert_eq!((told.hop, told.outcome), (hop, Outcome::Refused));
            assert_eq!(told.reason.as_deref(), Some(reason));
            assert!(told.next.is_some() && told.means.is_some());
        }
        let old = report(401, &[], "CMGService_Invalid_Token");
        assert_eq!(old.hop, Hop::Gateway, "a gateway that sends no fields");
    }

    #[test]
    fn a_site_role_cannot_pass_for_a_gateway_by_its_phrase() {
        let told = report(403, &[ID], "CMGService_Invalid_Token");
        assert_eq!((told.hop, told.reason), (Hop::Site, None));
        assert_eq!(report(404, &[], "Not Found").hop, Hop::Unknown);
    }

    #[test]
    fn what_strangers_say_cannot_steer_a_terminal() {
        let told = report(404, &[], "CMG\u{9b}2J");
        assert_eq!(told.reason.as_deref(), Some("CMG?2J"));
        assert_eq!(visible(" \u{1b}[2J\r\n\u{202e}x "), "?[2J???x");
        assert_eq!(visible(&"a".repeat(1000)).len(), TEXT_MAX);
    }

    #[test]
    fn only_2xx_and_3xx_are_answers() {
        let outcomes =
            [200, 302, 400, 499, 500, 599].map(|status| report(status, &[ID], "").outcome);
        let expected = [
            Outcome::Answered,
            Outcome::Answered,
            Outcome::Refused,
            Outcome::Refused,
            Outcome::Failed,
            Outcome::Failed,
        ];
        assert_eq!(outcomes, expected);
    }
}
