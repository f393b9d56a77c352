//! Answers of management points, and what keeps one from answering.

use std::net::SocketAddr;
use std::time::Duration;

use http::Response;

use super::super::verdict::Verdict;
use super::*;
use crate::client::report::Asked;

const TOKEN: Shown = Shown { token: true, certificate: false };
const CERTIFICATE: Shown = Shown { token: false, certificate: true };
const NOTHING: Shown = Shown { token: false, certificate: false };

/// What came: a status, by this reason or by the site itself.
fn channel(status: u16, reason: &str) -> Channel {
    let mut answer = Response::builder().status(status);
    answer = answer.header("relay-message-id", "0f8fad5b-d9cb-469f-a165-70867728950e");
    if !reason.is_empty() {
        answer = answer.header("relay-reason", reason);
    }
    let report = Report::of(&answer.body(()).unwrap(), Asked::Site, "HTTP/2".to_owned());
    let address = SocketAddr::from(([192, 0, 2, 1], 443));
    Channel { role_id: 7, address, took: Duration::ZERO, report, unproven: vec![] }
}

fn causes(channel: Channel, shown: Shown) -> Vec<&'static str> {
    let check = judge(&[channel], shown);
    assert_eq!(check.verdict == Verdict::Fail, !check.causes.is_empty());
    for cause in &check.causes {
        assert!(cause.means.contains(": ") && !cause.next.is_empty(), "{cause:?}");
    }
    check.causes.iter().map(|cause| cause.id).collect()
}

#[test]
fn only_an_answer_of_the_management_point_itself_passes() {
    for status in [200, 207, 299] {
        assert_eq!(causes(channel(status, ""), TOKEN), Vec::<&str>::new(), "{status}");
    }
    for status in [300, 302, 399] {
        assert_eq!(causes(channel(status, ""), TOKEN), ["management_point_redirects"], "{status}");
    }
    for status in [400, 404, 500, 599] {
        assert_eq!(causes(channel(status, ""), TOKEN), ["management_point_refuses"], "{status}");
    }
}

#[test]
fn each_reason_has_its_cause() {
    for (status, reason, shown, cause) in [
        (401, "CMGService_No_Credential", NOTHING, "credential_missing"),
        (401, "CMGService_No_Credential", CERTIFICATE, "credential_not_taken"),
        (401, "CMGService_Invalid_Token", TOKEN, "token_refused"),
        (401, "CMGService_Invalid_Certificate", CERTIFICATE, "certificate_refused"),
        (401, "CMGService_Invalid_Signature", TOKEN, "signature_refused"),
        (403, "CMGService_Registration_Only", TOKEN, "token_for_registration_only"),
        (404, "CMGService_Not_Published", TOKEN, "not_published"),
        (503, "CMGService_No_Connector", TOKEN, "no_connection_point"),
        (503, "CMGService_Overloaded", TOKEN, "gateway_refuses"),
        (
            403,
            "CMGConnector_Clientcertificaterequired",
            TOKEN,
            "management_point_wants_certificate",
        ),
        (502, "CMGConnector_Backend_Unreachable", TOKEN, "management_point_down"),
        (502, "CMGConnector_Backend_Untrusted", TOKEN, "management_point_untrusted"),
        (504, "CMGConnector_Timeout", TOKEN, "management_point_silent"),
        (502, "CMGConnector_Bad_Answer", TOKEN, "connection_point_refuses"),
    ] {
        assert_eq!(causes(channel(status, reason), shown), [cause], "{reason}");
    }
}

#[test]
fn what_the_instance_has_counted_names_the_cause_and_the_likeliest_is_told() {
    let counted = |shown, faults: &[(&str, &str)]| {
        let mut channel = channel(401, "CMGService_Invalid_Token");
        let faults = faults.iter().map(|(method, fault)| (method.to_string(), fault.to_string()));
        channel.unproven = faults.collect();
        causes(channel, shown)
    };
    assert_eq!(counted(TOKEN, &[("site-token", "blocked")]), ["token_blocked"]);
    let methods = [("certificate", "untrusted"), ("entra", "issuer"), ("site-token", "blocked")];
    assert_eq!(counted(TOKEN, &methods), ["token_blocked"]);
    let methods = [("certificate", "untrusted"), ("entra", "unknown_key")];
    assert_eq!(counted(TOKEN, &methods), ["token_key_unknown"]);
    assert_eq!(counted(CERTIFICATE, &methods), ["certificate_untrusted"]);
    let list = [("certificate", "list_not_fetched")];
    assert_eq!(counted(CERTIFICATE, &list), ["revocation_list_unavailable"]);
    // A fault that says no more than the reason does.
    assert_eq!(counted(TOKEN, &[("site-token", "base64")]), ["token_refused"]);
}

#[test]
fn what_others_were_refused_for_says_nothing_of_an_answer_from_further_on() {
    let mut down = channel(502, "CMGConnector_Backend_Unreachable");
    down.unproven = vec![("site-token".to_owned(), "blocked".to_owned())];
    assert_eq!(causes(down, TOKEN), ["management_point_down"]);
}

#[test]
fn nobody_to_ask_is_a_choice_and_no_fault() {
    let check = judge(&[], NOTHING);
    assert_eq!(check.verdict, Verdict::Skipped);
    assert_eq!(check.skipped.unwrap().depends_on, None);
}
