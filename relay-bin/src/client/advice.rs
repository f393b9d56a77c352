//! What a reason means, and what to do next.
//!
//! One table for all: that of the gateway's documentation, which tests hold against the code. What
//! a client can do about its own credentials is added here.

/// The table of every answer that is not the site's.
const ANSWERS: &str = include_str!("../../../relay-core/src/gateway/ANSWERS.md");

/// Reason, what it means to the client, what it can do.
const FOR_CLIENTS: [(&str, &str, &str); 9] = [
    (
        "CMGService_No_Credential",
        "nothing was shown that this endpoint takes",
        "show a token (--token-file), a certificate (--certificate, --key) or both (--folder); \
         `relay client register` makes them",
    ),
    (
        "CMGService_Invalid_Token",
        "the token proves nothing: it is over, blocked, of another site or tenant, or bound to a \
         certificate that was not shown",
        "`relay client renew`, or register again; the gateway's log says why, by message id",
    ),
    (
        "CMGService_Invalid_Certificate",
        "the certificate proves nothing: it is over, taken back, of an authority that is not \
         published, or not for clients",
        "show another certificate or a token; the gateway's log says why, by message id",
    ),
    (
        "CMGService_Registration_Only",
        "a bulk token is good for registration and nothing else",
        "`relay client register`, then use the token that the client is given",
    ),
    (
        "CMGService_Client_Barred",
        "the gateway knows the client, and the site has barred it",
        "ask who runs the site: barred of [clients] in connection-point.toml names the client",
    ),
    (
        "CMGConnector_Unauthorized",
        "the site role asks who the client is",
        "check the credential; the site role's log",
    ),
    (
        "CMGConnector_Forbidden",
        "the site role knows the client, and refuses it",
        "the site role's log, and what the client may do there",
    ),
    (
        "CMGService_Body_Too_Large",
        "the endpoint takes no body of this size",
        "an upload by smaller pieces (--fragment-kib); else request_body_bytes_max in \
         connection-point.toml",
    ),
    (
        "CMGService_Not_Published",
        "no endpoint publishes this path; nothing reached the site",
        "check role id and path; else [[endpoint]] in connection-point.toml",
    ),
];

/// What is known of a reason.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Advice {
    pub(super) means: String,
    pub(super) next: String,
}

/// What is known of `reason`, as `CMGService_Not_Published`; `None` if it is no reason of this
/// version.
pub(super) fn about(reason: &str) -> Option<Advice> {
    let own = FOR_CLIENTS.iter().find(|(name, ..)| *name == reason);
    let own = own.map(|(_, means, next)| Advice { means: plain(means), next: plain(next) });
    own.or_else(|| documented(reason))
}

fn documented(reason: &str) -> Option<Advice> {
    let (means, look_at) = row(reason)?;
    // Some rows say that they are as another one.
    let other = means.strip_prefix("as `").and_then(|rest| rest.split('`').next());
    let means = other.and_then(row).map_or(means, |(means, _)| means);
    Some(Advice { means: plain(means), next: plain(look_at) })
}

/// For a terminal, on which marks of code say nothing.
fn plain(text: &str) -> String {
    text.replace('`', "")
}

/// Columns "means" and "look at" of a reason's first row.
fn row(reason: &str) -> Option<(&'static str, &'static str)> {
    rows().find(|(name, ..)| *name == reason).map(|(_, means, next)| (means, next))
}

fn rows() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    ANSWERS.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| ")?.split(" | ");
        let status = cells.next()?;
        let reason = cells.next()?.strip_prefix("`CMG").and(line.split('`').nth(1))?;
        let (_by, means, look_at) = (cells.next()?, cells.next()?, cells.next()?);
        status.parse::<u16>().ok().map(|_| (reason, means, look_at))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_documented_reason_has_its_meaning_and_its_next_step() {
        let reasons: Vec<_> = rows().map(|(reason, ..)| reason).collect();
        assert!(reasons.len() > 50, "{}", reasons.len());
        for reason in reasons {
            let advice = about(reason).unwrap_or_else(|| panic!("{reason}"));
            assert!(!advice.means.is_empty() && !advice.means.starts_with("as CMG"), "{reason}");
            assert!(!advice.next.is_empty() && advice.next != "–", "{reason}");
            assert!(!format!("{advice:?}").contains('`'), "{reason}");
        }
        assert_eq!(about("CMGService_Unheard_Of"), None);
    }

    #[test]
    fn every_refusal_of_a_credential_has_its_meaning() {
        use relay_core::auth::Refusal;
        for refusal in Refusal::ALL {
            let reason = format!("CMGService_{}", refusal.reason());
            assert!(about(&reason).is_some(), "{reason}");
        }
    }

    #[test]
    fn a_row_that_is_as_another_says_what_that_one_says() {
        let same = about("CMGConnector_Body_Too_Large").unwrap();
        assert_eq!(same.means, row("CMGService_Body_Too_Large").unwrap().0.replace('`', ""));
        assert!(same.next.contains("relay status"), "{same:?}");
    }
}
