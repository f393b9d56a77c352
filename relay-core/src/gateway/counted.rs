//! What an instance counts: each answer of its own by its reason, each of the site's that was cut
//! by who broke off, and each limit that ends or holds up a connection without an answer.
//!
//! An answer is counted where it is made, in `failure.rs`; a limit where it is noticed. A request
//! is counted once, by its final answer, and not if the site answered it; then at its end, if that
//! was too early, in `answer.rs`.

use crate::exchange::Tally;
use crate::transport::ConnectError;

use super::access::Ended;
use super::http2_rates::{Excess, Offence, Refusal};
use super::serve::{Gateway, LinkRefused};

/// Reasons of answers, as in `ANSWERS.md`.
const REASONS: [&str; 66] = [
    "CMGService_Ambiguous_Body_Length",
    "CMGService_Bad_Answer",
    "CMGService_Bad_Body",
    "CMGService_Bad_Chunk",
    "CMGService_Bad_Content_Length",
    "CMGService_Bad_Field_Name",
    "CMGService_Bad_Grant",
    "CMGService_Bad_Header",
    "CMGService_Bad_Host",
    "CMGService_Bad_Line_End",
    "CMGService_Bad_Request_Line",
    "CMGService_Bad_Status_Line",
    "CMGService_Bad_Target",
    "CMGService_Bad_Transfer_Encoding",
    "CMGService_Body_Too_Large",
    "CMGService_Chunk_Extensions_Too_Long",
    "CMGService_Client_Barred",
    "CMGService_Client_Blocked",
    "CMGService_Connect_Not_Allowed",
    "CMGService_Connector_Lost",
    "CMGService_Content_Changed",
    "CMGService_Content_Unavailable",
    "CMGService_Control_Character",
    "CMGService_Egress_Stopped",
    "CMGService_Expectation_Failed",
    "CMGService_Field_Too_Large",
    "CMGService_Folded_Field",
    "CMGService_Grant_Not_Yet",
    "CMGService_Grant_Over",
    "CMGService_Head_Too_Large",
    "CMGService_Invalid_Certificate",
    "CMGService_Invalid_Grant",
    "CMGService_Invalid_Signature",
    "CMGService_Invalid_Token",
    "CMGService_Method_Not_Allowed",
    "CMGService_No_Connector",
    "CMGService_No_Content",
    "CMGService_No_Credential",
    "CMGService_No_Host",
    "CMGService_No_Settings",
    "CMGService_Not_Published",
    "CMGService_Other_Client",
    "CMGService_Out_Of_Memory",
    "CMGService_Overloaded",
    "CMGService_Range_Not_Satisfiable",
    "CMGService_Registration_Only",
    "CMGService_Stopped",
    "CMGService_Target_Too_Long",
    "CMGService_Timeout",
    "CMGService_Too_Many_Fields",
    "CMGService_Too_Many_Interim_Answers",
    "CMGService_Too_Slow",
    "CMGService_Unexpected_Switch",
    "CMGService_Unknown_Tenant",
    "CMGService_Unsafe_Path",
    "CMGService_Version_Not_Supported",
    // Of exchanges that the connection point gave up.
    "CMGConnector_Aborted",
    "CMGConnector_Bad_Gateway",
    "CMGConnector_Bad_Head",
    "CMGConnector_Body_Too_Large",
    "CMGConnector_Cancelled",
    "CMGConnector_Draining",
    "CMGConnector_InternalServerError",
    "CMGConnector_Refused",
    "CMGConnector_Timeout",
    "CMGConnector_Too_Slow",
];

/// Answers of the site of which a client was not sent all, by how its request has ended.
const CUTS: [&str; 4] = [
    "answer_cut_client_gone",
    "answer_cut_client_too_slow",
    "answer_cut_link_lost",
    "answer_cut_site",
];

/// A limit that a connection has come to. Those without an answer; the others are reasons.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Limit {
    /// A connection had to wait for its place.
    Connections,
    /// A connection more than its address may have was closed.
    OfAddress,
    /// A handshake had to wait for its place.
    Handshakes,
    /// A handshake had to wait for its place among those of its address.
    HandshakesOfAddress,
    /// A `ClientHello` was not whole in time.
    ClientHello,
    /// A handshake did not end in time.
    Handshake,
    /// A connection had no first request in time, or nothing of HTTP/2.
    FirstRequest,
    /// A connection had no request for too long.
    Idle,
    /// A client took next to nothing of its answers.
    AnswerStall,
    /// A client of HTTP/2 did not answer a ping.
    Pong,
    /// What a client of HTTP/2 may not do.
    Http2(Offence),
    /// What `h2` refuses a client by itself: one request, not the connection.
    Http2Refused(Refusal),
    /// `h2` has ended a connection, for what its client did.
    Http2Broken,
    /// A link more than there may be was refused.
    Links,
    /// A handshake of a link was refused, for there were too many.
    LinkHandshakes,
    /// A handshake of a link had to wait for its place among those of its address.
    LinkHandshakesOfAddress,
    /// A handshake of a link did not end in time.
    LinkHandshake,
    /// There was so little memory that no client was accepted.
    MemoryPause,
}

impl Limit {
    /// One of each.
    const ALL: [Self; 24] = [
        Self::Connections,
        Self::OfAddress,
        Self::Handshakes,
        Self::ClientHello,
        Self::Handshake,
        Self::Idle,
        Self::AnswerStall,
        Self::Pong,
        Self::Http2(Offence::Excess(Excess::EarlyResets)),
        Self::Http2(Offence::Excess(Excess::Resets)),
        Self::Http2(Offence::Excess(Excess::Pings)),
        Self::Http2(Offence::Excess(Excess::Settings)),
        Self::Http2(Offence::NoSettings),
        Self::Http2(Offence::FrameSize { kind: 0, octets: 0 }),
        Self::Links,
        Self::LinkHandshakes,
        Self::LinkHandshake,
        Self::MemoryPause,
        Self::HandshakesOfAddress,
        Self::FirstRequest,
        Self::LinkHandshakesOfAddress,
        Self::Http2Refused(Refusal::Head),
        Self::Http2Refused(Refusal::Reset),
        Self::Http2Broken,
    ];

    /// The name of its count: that of the setting, where it is one.
    fn name(self) -> &'static str {
        match self {
            Self::Connections => "client_connections_max",
            Self::OfAddress => "connections_per_address_max",
            Self::Handshakes => "client_handshakes_max",
            Self::HandshakesOfAddress => "client_handshakes_per_address",
            Self::ClientHello => "client_hello_seconds",
            Self::Handshake => "tls_handshake_seconds",
            Self::FirstRequest => "request_head_seconds",
            Self::Idle => "idle_seconds",
            Self::AnswerStall => "answer_stall_seconds",
            Self::Pong => "http2_pong",
            Self::Http2(Offence::Excess(Excess::EarlyResets)) => "http2_early_resets",
            Self::Http2(Offence::Excess(Excess::Resets)) => "http2_resets",
            Self::Http2(Offence::Excess(Excess::Pings)) => "http2_pings",
            Self::Http2(Offence::Excess(Excess::Settings)) => "http2_settings",
            Self::Http2(Offence::NoSettings) => "http2_first_frame",
            Self::Http2(Offence::FrameSize { .. }) => "http2_frame_size",
            Self::Http2Refused(Refusal::Head) => "http2_head",
            Self::Http2Refused(Refusal::Reset) => "http2_resets_told",
            Self::Http2Broken => "http2_broken",
            Self::Links => "links_max",
            Self::LinkHandshakes => "link_handshakes_max",
            Self::LinkHandshakesOfAddress => "link_handshakes_per_address",
            Self::LinkHandshake => "link_handshake_seconds",
            Self::MemoryPause => "memory_pause",
        }
    }

    /// The limit that a link was refused for, if it was for one.
    fn of_link(why: &LinkRefused) -> Option<Self> {
        match why {
            LinkRefused::TooMany(_) => Some(Self::Links),
            LinkRefused::TooManyHandshakes(_) | LinkRefused::TooManyWaiting(_) => {
                Some(Self::LinkHandshakes)
            }
            LinkRefused::Connect(ConnectError::Timeout { .. }) => Some(Self::LinkHandshake),
            _ => None,
        }
    }
}

/// Nothing counted yet.
pub(super) fn tally() -> Tally {
    let limits = Limit::ALL.map(Limit::name);
    Tally::new(&[REASONS.as_slice(), &CUTS, limits.as_slice()].concat())
}

/// Counts an answer of the site, whose request has `ended`, if it was cut by that.
pub(super) fn note_cut(tally: &Tally, ended: Ended) {
    let [client_gone, client_too_slow, link_lost, site] = CUTS;
    tally.note(match ended {
        Ended::ClientGone => client_gone,
        Ended::ClientTooSlow => client_too_slow,
        Ended::LinkLost => link_lost,
        Ended::SiteBrokeOff => site,
        // Nothing is refused any more once the site has answered, nor is it asked for content.
        Ended::Complete | Ended::RefusedHere | Ended::StoreBrokeOff => return,
    });
}

/// Counts a connection that has come to `limit`.
pub(super) fn note(tally: &Tally, limit: Limit) {
    tally.note(limit.name());
}

impl Gateway {
    /// What is counted.
    pub(super) fn tally(&self) -> &Tally {
        &self.inner.relay.tally
    }

    /// Counts a connection that has come to `limit`.
    pub(super) fn note(&self, limit: Limit) {
        note(self.tally(), limit);
    }

    /// Counts a link that was refused, if that was for a limit.
    pub(super) fn note_refused(&self, why: &LinkRefused) {
        if let Some(limit) = Limit::of_link(why) {
            self.note(limit);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The reasons that have a count.
    pub(in super::super) fn reasons() -> BTreeSet<String> {
        REASONS.into_iter().map(str::to_owned).collect()
    }

    #[test]
    fn each_limit_has_a_count_of_its_own() {
        // A new variant does not compile before it has its place here and in the list.
        let place = |limit: &Limit| match limit {
            Limit::Connections => 0,
            Limit::OfAddress => 1,
            Limit::Handshakes => 2,
            Limit::ClientHello => 3,
            Limit::Handshake => 4,
            Limit::Idle => 5,
            Limit::AnswerStall => 6,
            Limit::Pong => 7,
            Limit::Http2(Offence::Excess(Excess::EarlyResets)) => 8,
            Limit::Http2(Offence::Excess(Excess::Resets)) => 9,
            Limit::Http2(Offence::Excess(Excess::Pings)) => 10,
            Limit::Http2(Offence::Excess(Excess::Settings)) => 11,
            Limit::Http2(Offence::NoSettings) => 12,
            Limit::Http2(Offence::FrameSize { .. }) => 13,
            Limit::Links => 14,
            Limit::LinkHandshakes => 15,
            Limit::LinkHandshake => 16,
            Limit::MemoryPause => 17,
            Limit::HandshakesOfAddress => 18,
            Limit::FirstRequest => 19,
            Limit::LinkHandshakesOfAddress => 20,
            Limit::Http2Refused(Refusal::Head) => 21,
            Limit::Http2Refused(Refusal::Reset) => 22,
            Limit::Http2Broken => 23,
        };
        assert!(Limit::ALL.iter().map(place).eq(0..24));
        let tally = tally();
        for limit in Limit::ALL {
            note(&tally, limit);
        }
        let ones = tally.counts().iter().filter(|it| it.count == 1).count();
        assert_eq!(ones, Limit::ALL.len(), "{:?}", tally.counts());
    }
}
