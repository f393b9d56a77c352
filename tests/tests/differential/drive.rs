//! A client that sends a case's octets, and what it is told, judged by what it has sent.

use std::collections::BTreeMap;

use relay_core::gateway::Gateway;
use relay_tests::pki::SiteCa;
use relay_tests::raw::{RawClient, Said};
use relay_tests::reading::{Reading, Recorded, Rest};

use crate::cases::Case;
use crate::expected::Expected;
use crate::shapes::Fate;

/// What a client heard of a case.
#[derive(Debug)]
pub(crate) struct Heard {
    answers: Vec<Said>,
    /// Whether the gateway has closed the connection by itself.
    closed: bool,
}

/// What became of all requests of many cases.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// What the site has to see, in this order.
    pub(crate) forwarded: Vec<Expected>,
    /// Of what it may see a part.
    pub(crate) cut: Vec<Expected>,
    /// How often each refusal was told.
    pub(crate) refused: BTreeMap<String, usize>,
}

/// Sends the octets and reads all answers.
pub(crate) async fn hear(gateway: &Gateway, ca: &SiteCa, case: &Case, sent: &Reading) -> Heard {
    let mut client = RawClient::join(gateway, ca).await;
    for piece in case.octets.chunks(case.piece.min(case.octets.len().max(1))) {
        client.send(piece).await;
    }
    let awaits_more = !matches!(sent.rest, Rest::Wrong { .. });
    let mut answers = Vec::new();
    let mut closed = true;
    loop {
        if awaits_more && answers.len() == sent.requests.len() {
            // The rest of a request that never comes: an end is what the gateway can act upon.
            closed = matches!(sent.rest, Rest::Nothing);
            client.finish().await;
        }
        let method = asked(sent, answers.len()).map_or(String::new(), |asked| {
            String::from_utf8_lossy(asked.line_parts()[0]).into_owned()
        });
        let Some(answer) = client.answer(&method).await else { return Heard { answers, closed } };
        answers.push(answer);
    }
}

/// The request of this number, if its head is whole.
fn asked(sent: &Reading, place: usize) -> Option<&Recorded> {
    let head = match &sent.rest {
        Rest::Half(head) | Rest::Wrong { head, .. } => head.as_ref(),
        Rest::Nothing => None,
    };
    sent.requests.get(place).or_else(|| head.filter(|_| place == sent.requests.len()))
}

impl Tally {
    /// Judges what was heard.
    pub(crate) fn judge(
        &mut self,
        case: &Case,
        sent: &Reading,
        heard: &Heard,
    ) -> Result<(), String> {
        for place in 0..heard.answers.len() {
            self.note(sent, heard, place)?;
        }
        self.note_unanswered(sent, heard);
        if let Some(fates) = &case.fates {
            return agree(fates, sent, heard);
        }
        // What is no request is refused in its turn, unless the connection has ended before.
        let is_refused = |answer: &Said| answer.reason.is_some();
        let is_wrong = matches!(sent.rest, Rest::Wrong { head: None, .. });
        if is_wrong && heard.answers.len() > sent.requests.len() {
            let last = heard.answers.last().is_some_and(is_refused);
            return if last { Ok(()) } else { Err("what is no request is answered".to_owned()) };
        }
        Ok(())
    }

    /// Notes what an answer says of its request.
    fn note(&mut self, sent: &Reading, heard: &Heard, place: usize) -> Result<(), String> {
        let answer = &heard.answers[place];
        if let Some(reason) = &answer.reason {
            let is_clients = matches!(answer.status, 400..=499 | 505);
            let is_slow = reason.ends_with("too_slow");
            if !is_clients || is_slow || !reason.starts_with("cmgservice_") {
                return Err(format!("answer {place} is no refusal: {answer:?}"));
            }
            *self.refused.entry(format!("{} {reason}", answer.status)).or_default() += 1;
            if let Some(whole) = sent.requests.get(place) {
                // One whose body has grown too large.
                let is_outsized = !whole.body.is_empty() && place + 1 == heard.answers.len();
                self.cut.extend(Expected::of(whole).filter(|_| is_outsized));
                return Ok(());
            }
            return match &sent.rest {
                Rest::Nothing => Err(format!("answer {place} is to nothing")),
                _ => Ok(()),
            };
        }
        let asked = asked(sent, place);
        let expected = asked.and_then(Expected::of);
        let expected = expected.ok_or_else(|| format!("answer {place} is to no request"))?;
        if place < sent.requests.len() {
            self.forwarded.push(expected);
        }
        Ok(())
    }

    /// Notes what the site may have seen of a request whose body has no end.
    fn note_unanswered(&mut self, sent: &Reading, heard: &Heard) {
        let place = sent.requests.len();
        let is_reached = heard.answers.len() >= place;
        let cut = asked(sent, place).filter(|_| is_reached).and_then(Expected::of);
        self.cut.extend(cut);
    }
}

/// Whether each request's fate is the one it was made for.
fn agree(fates: &[Fate], sent: &Reading, heard: &Heard) -> Result<(), String> {
    let Heard { answers, closed } = heard;
    let no = |place: usize, what: &str| Err(format!("request {place}: {what}"));
    for (place, fate) in fates.iter().enumerate() {
        let answer = answers.get(place);
        let is_last = answers.len() == place + 1;
        let is_whole = place < sent.requests.len();
        let is_refused = answer.is_some_and(|answer| answer.reason.is_some());
        let is_forwarded = answer.is_some() && !is_refused;
        // A site role that refuses a request before it has read its body ends both.
        let is_refused_there = is_forwarded && answer.is_some_and(|answer| answer.status >= 400);
        if is_refused_there && is_last && *closed {
            return Ok(());
        }
        match fate {
            Fate::Passes if !(is_whole && is_forwarded) => return no(place, "is not forwarded"),
            Fate::PassesLast => {
                if !(is_whole && is_forwarded) {
                    return no(place, "is not forwarded");
                }
                return if is_last && *closed { Ok(()) } else { no(place, "is not the last") };
            }
            Fate::Unwanted if !(is_whole && is_refused) => return no(place, "is not refused"),
            // A body that nobody has read ends the connection.
            Fate::Unwanted if is_last && *closed && !sent.requests[place].body.is_empty() => {
                return Ok(());
            }
            Fate::Passes | Fate::Unwanted => {}
            Fate::Outsized => {
                let is_end = is_refused && is_last && *closed;
                return if is_end { Ok(()) } else { no(place, "is not refused, or not the last") };
            }
            Fate::Breaks => {
                let is_wrong = matches!(sent.rest, Rest::Wrong { head: None, .. });
                if !is_refused {
                    return no(place, "is not refused");
                }
                if is_whole || !is_wrong {
                    return no(place, "is refused, and is a request by the letter");
                }
                return if is_last && *closed { Ok(()) } else { no(place, "is not the last") };
            }
            Fate::BodyBreaks | Fate::Stays => {
                let is_known = !is_whole && asked(sent, place).is_some();
                if !is_known {
                    return no(place, "is no head with half a body");
                }
                let is_told = *fate == Fate::Stays || (answer.is_some() && *closed);
                let is_end = answers.len() <= place + 1;
                return if is_told && is_end { Ok(()) } else { no(place, "is not the last") };
            }
        }
    }
    if answers.len() == fates.len() { Ok(()) } else { no(answers.len(), "is answered") }
}
