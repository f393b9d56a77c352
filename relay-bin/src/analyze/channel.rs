//! Judges the sixth check: whether management points can be asked with this credential.

use crate::client::report::{Hop, Outcome, Report};

use super::evidence::{Channel, Shown};
use super::verdict::{Cause, Check, Item, Judging, Step};

/// The sixth check, of what came of asking.
pub(super) fn judge(channels: &[Channel], shown: Shown) -> Check {
    let mut judging = Judging::of(Step::Channel);
    if channels.is_empty() {
        return judging.unwanted(
            "which management point to ask is not known: give --endpoint ROLE_ID, or --config",
        );
    }
    for channel in channels {
        let Channel { role_id, address, took, report, .. } = channel;
        let came = match (report.outcome, report.status) {
            (Outcome::Answered, Some(status)) => format!("{status} by {}", hop_of(report)),
            _ => report.line(),
        };
        let id = report.message_id.as_deref();
        let id = id.map(|id| format!(", message id {id}")).unwrap_or_default();
        let asked = format!("management point {role_id} over {address}");
        judging.saw(Item::new(asked, format!("{came}{id}")).took(*took));
        for (method, fault) in &channel.unproven {
            judging.saw(Item::new(
                format!("the instance at {address} about the credential"),
                format!("method {method}: {}", fault.replace('_', " ")),
            ));
        }
        if let Some(cause) = cause(channel, shown) {
            judging.blame(cause);
        }
    }
    judging.judged()
}

fn hop_of(report: &Report) -> &'static str {
    if report.hop == Hop::Site { "the management point" } else { "whoever answers" }
}

/// Why a management point has not answered as it should, if it has not.
fn cause(channel: &Channel, shown: Shown) -> Option<Cause> {
    let Channel { role_id, address, report, .. } = channel;
    let place = |means: &str| format!("management point {role_id} over {address}: {means}");
    match (report.outcome, report.hop, report.status) {
        (Outcome::Answered, Hop::Site, Some(200..=299)) => return None,
        (Outcome::Answered, Hop::Site, _) => {
            return Some(Cause::new(
                "management_point_redirects",
                place("it sends clients elsewhere; no redirect is followed"),
                "the web server of the management point: it must answer this path itself",
            ));
        }
        (_, Hop::Site, _) => {
            return Some(Cause::new(
                "management_point_refuses",
                place(&format!("the management point's own answer is {}", report.line())),
                "the management point's log; the relay let the request pass",
            ));
        }
        _ => {}
    }
    let known = of_counts(channel, shown);
    let (id, means, next) = known
        .or_else(|| report.reason.as_deref().and_then(|reason| of_reason(reason, shown)))
        .unwrap_or((other(report), None, None));
    let means = means.map(str::to_owned).or_else(|| report.means.clone()).unwrap_or_default();
    let next = next.map(str::to_owned).or_else(|| report.next.clone()).unwrap_or_default();
    Some(Cause::new(id, place(&means), next))
}

fn other(report: &Report) -> &'static str {
    match report.hop {
        Hop::Gateway => "gateway_refuses",
        Hop::ConnectionPoint => "connection_point_refuses",
        _ => "channel_broke",
    }
}

/// A cause's name; what it means, and what to do, where the reason itself does not say it best.
type Known = (&'static str, Option<&'static str>, Option<&'static str>);

/// What is wrong with what was shown, as the instance itself has counted. Each method has looked at
/// it, also those that it is not for: what one of them knows best is told.
fn of_counts(channel: &Channel, shown: Shown) -> Option<Known> {
    if channel.report.hop != Hop::Gateway {
        return None;
    }
    let rank = |method: &str, fault: &str| match (method, fault) {
        (_, "blocked" | "revoked") => 0,
        (_, "list_not_fetched" | "list_missing" | "list_expired") => 1,
        (_, "expired" | "unbound" | "audience") => 2,
        // The certificate that a token is bound to is its client's own, of no authority.
        ("certificate", "untrusted") if shown.token => 4,
        _ => 3,
    };
    let known = channel
        .unproven
        .iter()
        .filter_map(|(method, fault)| Some((rank(method, fault), of_fault(method, fault)?)));
    known.min_by_key(|(rank, _)| *rank).map(|(_, known)| known)
}

/// What is wrong with a credential by one method.
fn of_fault(method: &str, fault: &str) -> Option<Known> {
    let known: Known = match (method, fault) {
        ("certificate", "list_not_fetched" | "list_missing" | "list_expired") => (
            "revocation_list_unavailable",
            Some(
                "revocation is checked, and the list of the certificate's authority is missing, \
                 over, or could not be fetched: so no certificate of it counts",
            ),
            Some(
                "sources in `relay status` of the gateway say which list and why; have it \
                 published and reachable from there, and [fetch] in gateway.toml",
            ),
        ),
        ("certificate", "revoked") => (
            "certificate_revoked",
            Some("the certificate was taken back by its authority"),
            Some("have the client given another certificate"),
        ),
        ("certificate", "untrusted") => (
            "certificate_untrusted",
            Some("no published root stands behind the certificate"),
            Some("roots and intermediates of [clients] in connection-point.toml"),
        ),
        (_, "blocked") => (
            "token_blocked",
            Some("the token, or the client it was issued to, is blocked"),
            Some("`relay token clients`, `relay token list` and `relay token unblock GUID`"),
        ),
        (_, "expired") => (
            "credential_expired",
            Some("it is over, or a clock is wrong"),
            Some("`relay client renew`, or a new token or certificate; check the clocks"),
        ),
        (_, "unbound") => (
            "token_unbound",
            Some("the token is bound to a certificate that was not shown"),
            Some("show it by --folder, or --certificate and --key"),
        ),
        (_, "audience") => (
            "token_audience",
            Some("the token is for another service than those that the site accepts"),
            Some("audiences of [[tenant]] in connection-point.toml; what the token was asked for"),
        ),
        (_, "issuer" | "tenant" | "tenant_disabled") => (
            "token_issuer",
            Some("its issuer or tenant is not accepted"),
            Some("issuers and enabled of [[tenant]] in connection-point.toml"),
        ),
        (_, "unknown_key" | "keys_not_fetched") => (
            "token_key_unknown",
            Some("the key that has signed it is not known: of another site, or not fetched"),
            Some("sources in `relay status` of the gateway; `relay token signers`"),
        ),
        _ => return None,
    };
    Some(known)
}

/// What a reason says of the check.
fn of_reason(reason: &str, shown: Shown) -> Option<Known> {
    let known: Known = match reason {
        "CMGService_No_Credential" if shown.token || shown.certificate => (
            "credential_not_taken",
            Some("the endpoint does not take the kind of credential that was shown"),
            Some("methods of the [[endpoint]] and of [clients] in connection-point.toml"),
        ),
        "CMGService_No_Credential" => ("credential_missing", None, None),
        "CMGService_Invalid_Token" => (
            "token_refused",
            None,
            Some(
                "--admin ADDRESS of the instance has this command say which it is; else \
                 `unproven` in its access log, by message id; `relay token list` and `clients`",
            ),
        ),
        "CMGService_Invalid_Certificate" => (
            "certificate_refused",
            Some(
                "the certificate proves nothing: it is over, taken back, of an authority that is \
                 not published, or not for clients; or revocation is checked and the list cannot \
                 be had, and then none counts",
            ),
            Some(
                "--admin ADDRESS of the instance has this command say which it is; else \
                 `unproven` in its access log, by message id, and sources in its `relay status`",
            ),
        ),
        "CMGService_Invalid_Signature" => ("signature_refused", None, None),
        "CMGService_Registration_Only" => ("token_for_registration_only", None, None),
        "CMGService_Not_Published" => ("not_published", None, None),
        "CMGService_No_Connector" | "CMGService_Connector_Lost" => {
            ("no_connection_point", None, None)
        }
        "CMGConnector_Clientcertificaterequired" => {
            ("management_point_wants_certificate", None, None)
        }
        "CMGConnector_Backend_Unreachable" => ("management_point_down", None, None),
        "CMGConnector_Timeout" | "CMGService_Timeout" => ("management_point_silent", None, None),
        "CMGConnector_Backend_Untrusted" | "CMGConnector_Backend_Wrong_Name" => {
            ("management_point_untrusted", None, None)
        }
        _ => return None,
    };
    Some(known)
}

#[cfg(test)]
mod tests;
