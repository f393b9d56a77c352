//! What must never happen, held against what clients saw and what reached the site.

use std::time::Duration;

use bytes::Bytes;

use super::client::{Outcome, Seen, request_body, site_target, whole_answer};
use super::director::{Outages, SiteOutages};
use super::manner::Manner;
use super::plan::{Ask, Fault, Kind, Plan, Weather};
use super::site::Delivery;

/// How long a dead link may be believed alive while a request waits on it, and a second to answer.
const DETECTION: Duration = Duration::from_secs(16);

/// The same where sockets wait for ever: if only what the gateway sends is lost, it hears a peer
/// that is at rest, whose detection takes that long.
const DETECTION_BY_PEER: Duration = Duration::from_secs(26);

/// For all that is not a fault: connecting, transfers on slow paths, waiting for a stream.
const ALLOWANCE: Duration = Duration::from_secs(6);

/// How long a site role may be silent before a connection point gives it up, and a second.
const SITE_SILENT: Duration = Duration::from_secs(63);

/// How often a request is sent again.
const RESENDS_MAX: usize = 4;

/// What is held against one request.
pub(crate) struct Case<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) outcome: &'a Outcome,
    pub(crate) deliveries: &'a [Delivery],
    pub(crate) outages: &'a Outages,
    pub(crate) site_outages: &'a SiteOutages,
}

impl Case<'_> {
    /// Every rule that is broken.
    pub(crate) fn judge(&self) -> Vec<String> {
        let mut findings = self.delivered();
        findings.extend(self.seen());
        findings.extend(self.in_time());
        let Outcome { ask, http, seen, started, took } = self.outcome;
        let of = |finding: String| {
            format!(
                "{finding}\n  request {} ({:?}, {http:?}) from {started:?} for {took:?}\n  \
                 saw {}\n  {} deliveries, {ask:?}",
                ask.id,
                ask.kind,
                seen,
                self.deliveries.len(),
            )
        };
        findings.into_iter().map(of).collect()
    }

    fn ask(&self) -> &Ask {
        &self.outcome.ask
    }

    /// How often a connection point asks a site role that breaks off.
    fn repeats(&self) -> usize {
        if self.ask().is_repeatable_at_site() { 2 } else { 1 }
    }

    /// What reached the site.
    fn delivered(&self) -> Vec<String> {
        let ask = self.ask();
        let max = if ask.is_repeatable() { 1 + RESENDS_MAX } else { 1 } * self.repeats();
        let mut findings = Vec::new();
        if self.deliveries.len() > max {
            findings.push(format!("N2: {} deliveries, {max} at most", self.deliveries.len()));
        }
        for delivery in self.deliveries {
            if delivery.verb != ask.kind.verb() || delivery.target != site_target(ask) {
                findings.push(format!("N5: {} {}", delivery.verb, delivery.target));
            }
            if delivery.body.as_ref().is_some_and(|body| *body != request_body(ask)) {
                findings.push("N5: the site took another body for whole".to_owned());
            }
            if !delivery.forged.is_empty() {
                findings.push(format!("N6: {:?} crossed", delivery.forged));
            }
        }
        findings
    }

    /// Whether the instance was not there for its clients at some time of the request. What is on
    /// its way back then counts too.
    fn has_outage(&self) -> bool {
        let Outcome { ask, started, took, .. } = self.outcome;
        let ended = *started + *took;
        let hits = |(instance, from, to): &(usize, Duration, Duration)| {
            *instance == ask.instance && *from <= ended && *started <= *to + ALLOWANCE
        };
        self.outages.iter().any(hits)
    }

    /// As [`Case::has_outage`], for the site roles.
    fn has_site_outage(&self) -> bool {
        let Outcome { started, took, .. } = self.outcome;
        let ended = *started + *took;
        self.site_outages.iter().any(|(from, to)| *from <= ended && *started <= *to + ALLOWANCE)
    }

    /// What the client saw.
    fn seen(&self) -> Vec<String> {
        let was_delivered = !self.deliveries.is_empty();
        match &self.outcome.seen {
            Seen::Never => vec!["N12: nobody ends it".to_owned()],
            Seen::NotConnected if was_delivered => vec!["a request without a connection".into()],
            Seen::NoAnswer | Seen::NoAnswerOnIdle if was_delivered => match self.plan.weather {
                // An answer that was cut before its head had left.
                Weather::Faults => Vec::new(),
                Weather::Site if self.may_be_cut() => Vec::new(),
                Weather::Calm | Weather::Site => {
                    vec!["no answer to a request that the site saw".to_owned()]
                }
                Weather::Drains => {
                    vec!["N15: a drain has lost a request that the site saw".to_owned()]
                }
            },
            Seen::NotConnected | Seen::NoAnswer if !self.has_outage() => {
                vec!["the connection ended, and the instance was there all the time".to_owned()]
            }
            Seen::NotConnected | Seen::NoAnswer | Seen::NoAnswerOnIdle | Seen::Left => Vec::new(),
            Seen::Answer { status: 200, site_id: Some(id), body, is_whole, .. } => {
                self.answered(*id, body, *is_whole)
            }
            Seen::Answer { status, reason, site_id, .. } => {
                self.refused(*status, reason.as_deref(), *site_id)
            }
        }
    }

    /// Whether an answer may end before its time.
    fn may_be_cut(&self) -> bool {
        match self.plan.weather {
            Weather::Calm | Weather::Drains => false,
            Weather::Site => self.ask().manner.is_cut() || self.has_site_outage(),
            Weather::Faults => true,
        }
    }

    /// The site has answered.
    fn answered(&self, id: u64, body: &Bytes, is_whole: bool) -> Vec<String> {
        let expected = whole_answer(self.ask());
        let mut findings = Vec::new();
        if id != self.ask().id || !expected.starts_with(body) {
            findings.push(format!("N3: octets of another answer, {id}"));
        }
        if is_whole && *body != expected {
            findings.push(format!("N4: {} of {} octets look whole", body.len(), expected.len()));
        }
        if !is_whole && !self.may_be_cut() {
            findings.push("N15: an answer is cut, and nothing had failed".to_owned());
        }
        if is_whole && self.ask().manner.is_bad() {
            findings.push("N4: the site has not answered, and its answer is whole".to_owned());
        }
        let was_heard = |delivery: &Delivery| delivery.body.is_some();
        if is_whole && !self.deliveries.iter().any(was_heard) {
            findings.push("an answer to what did not reach the site whole".to_owned());
        }
        findings
    }

    /// The relay has answered.
    fn refused(&self, status: u16, reason: Option<&str>, site_id: Option<u64>) -> Vec<String> {
        let mut findings = Vec::new();
        let by_relay = reason.is_some_and(|reason| reason.starts_with("CMG"));
        let is_untold = status == 404 && self.plan.may_be_untold(self.ask().instance);
        if !by_relay || site_id.is_some() || !(matches!(status, 502..=504) || is_untold) {
            findings.push(format!("an answer that nobody gives: {status}"));
        }
        let was_delivered = !self.deliveries.is_empty();
        if matches!(status, 404 | 503) && was_delivered {
            findings.push("404 or 503 for what the site saw".to_owned());
        }
        let is_alone = self.plan.leaves_alone(self.ask().instance, self.ask().role);
        if status == 503 && is_alone && self.plan.weather != Weather::Faults {
            findings.push("503, and a connection point was there all the time".to_owned());
        }
        match self.plan.weather {
            Weather::Calm => findings.push(format!("{status}, and nothing had failed")),
            Weather::Drains if status != 503 && !is_untold => {
                findings.push(format!("N15: a drain made {status} of a request"));
            }
            Weather::Site => findings.extend(self.refused_by_site(status, reason.unwrap_or(""))),
            Weather::Drains | Weather::Faults => {}
        }
        findings
    }

    /// The relay has answered for the site, and nothing else had failed.
    fn refused_by_site(&self, status: u16, reason: &str) -> Option<String> {
        let unreachable = (502, "CMGConnector_Backend_Unreachable");
        let (broken, silent) = ((502, "CMGConnector_Bad_Gateway"), (504, "CMGConnector_Timeout"));
        let garbled = (502, "CMGConnector_Bad_Answer");
        let expected = match self.ask().manner {
            // Connecting has used up a part of the time. The role may do what it is told besides.
            manner if self.has_site_outage() => {
                let garbled = (manner == Manner::Garbage).then_some(garbled);
                let by_outage = [unreachable, broken, silent, (504, "CMGService_Timeout")];
                by_outage.into_iter().chain(garbled).collect()
            }
            Manner::Silent => vec![silent],
            // A head that is cut with its body was not seen.
            Manner::Garbage => vec![garbled],
            Manner::Closes | Manner::BreaksOff | Manner::Resets => vec![broken],
            _ => Vec::new(),
        };
        let is_expected = expected.contains(&(status, reason));
        (!is_expected).then(|| format!("{status} {reason}, and not one of {expected:?}"))
    }

    /// How long it took.
    fn in_time(&self) -> Option<String> {
        let ask = self.ask();
        let is_excused = ask.patience.is_some() || self.has_outage();
        let losses = match self.plan.weather {
            Weather::Calm | Weather::Drains | Weather::Site => 0,
            Weather::Faults if ask.is_repeatable() => {
                let links = self.plan.faults.iter().filter(|it| loses_links(&it.fault)).count();
                links.min(RESENDS_MAX) + 1
            }
            Weather::Faults => 1,
        };
        // A site role thinks anew each time that it is asked.
        let times = (losses + 1) * self.repeats();
        let mut think = (ask.think + ask.manner.pause()) * u32::try_from(times).unwrap();
        if ask.manner == Manner::Silent || self.has_site_outage() {
            think += SITE_SILENT;
        }
        let gives_up = self.plan.outside.unacknowledged_max.is_some();
        let detection = if gives_up { DETECTION } else { DETECTION_BY_PEER };
        let limit = ALLOWANCE + think + detection * u32::try_from(losses).unwrap();
        let took = self.outcome.took;
        let rule = if ask.kind == Kind::Held { "N12" } else { "N14" };
        (took > limit && !is_excused).then(|| format!("{rule}: {took:?}, {limit:?} at most"))
    }
}

fn loses_links(fault: &Fault) -> bool {
    use Fault::{CrashSite, CutBackends, CutOff, Rogue};
    !matches!(fault, CutBackends | CutOff { .. } | CrashSite { .. } | Rogue { .. })
}
