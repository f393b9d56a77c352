//! What must be refused, each with the proof that the site never saw it.

use anyhow::ensure;
use http::header::ALLOW;

use super::client::{Ask, Client, Lane, Version};
use super::report::{Asked, Log, Proof};
use super::{REASON, STEP_WITHIN};

/// What every reason begins with that was decided at the gateway.
/// Source: the reasons that clients of the original log, `CMGService_Invalid_Token` and others.
const DECIDED_AT_THE_GATEWAY: &str = "CMGService_";

/// The status that a refusal must have.
#[derive(Clone, Copy, Debug)]
enum Refused {
    /// 405 with `Allow`: published, but not for this verb.
    Verb,
    /// 404: not published.
    Unpublished,
    /// 400 or 404: a path that two parsers could read in two ways.
    Unsafe,
}

/// One request that must not pass; `path` is below the management point's role id unless it says
/// otherwise.
struct Forbidden {
    step: &'static str,
    verb: &'static str,
    path: &'static str,
    refused: Refused,
}

const FORBIDDEN: [Forbidden; 12] = [
    forbidden("wrong verb", "DELETE", "/SMS_MP/.sms_aut?MPLIST", Refused::Verb),
    forbidden("wrong verb", "POST", "/ccm_system/request", Refused::Verb),
    forbidden("verb's case", "ccm_post", "/ccm_system/request", Refused::Verb),
    forbidden("unpublished", "GET", "/AdminService/v1.0/Device", Refused::Unpublished),
    forbidden("unpublished", "GET", "/SMS_MPx/.sms_aut", Refused::Unpublished),
    forbidden("alternate auth", "CCM_POST", "/ccm_system_altauth/request", Refused::Unpublished),
    forbidden(
        "alternate auth",
        "CCM_POST",
        "/ccm_system_windowsauth/request",
        Refused::Unpublished,
    ),
    forbidden("traversal", "GET", "/SMS_MP/../AdminService/v1.0", Refused::Unsafe),
    forbidden("traversal", "GET", "/SMS_MP/%2e%2e/AdminService/v1.0", Refused::Unsafe),
    forbidden("traversal", "GET", "/SMS_MP/..%2fAdminService/v1.0", Refused::Unsafe),
    forbidden("traversal", "GET", "/SMS_MP/%252e%252e/AdminService/v1.0", Refused::Unsafe),
    forbidden("traversal", "GET", "/SMS_MP/..%5cAdminService/v1.0", Refused::Unsafe),
];

const fn forbidden(
    step: &'static str,
    verb: &'static str,
    path: &'static str,
    refused: Refused,
) -> Forbidden {
    Forbidden { step, verb, path, refused }
}

pub(super) async fn run(client: &Client, log: &mut Log<'_>) {
    for (n, Forbidden { step, verb, path, refused }) in FORBIDDEN.iter().enumerate() {
        let lane = client.lane(n);
        let asked = Asked::on(lane, step, format!("{verb} {}", path.trim_start_matches('/')));
        let ask = Ask::new(verb, client.mp(path));
        log.step(asked, STEP_WITHIN, refusal(client, lane, ask, *refused)).await;
    }
    let elsewhere = [
        ("unknown role", "/CCM_Proxy_MutualAuth/1/SMS_MP/.sms_aut?MPLIST"),
        ("no virtual root", "/SMS_MP/.sms_aut?MPLIST"),
    ];
    for (n, (step, path)) in elsewhere.into_iter().enumerate() {
        let lane = client.lane(n);
        let asked = Asked::on(lane, step, format!("GET {path}"));
        let ask = Ask::new("GET", path);
        log.step(asked, STEP_WITHIN, refusal(client, lane, ask, Refused::Unpublished)).await;
    }
}

async fn refusal(client: &Client, lane: Lane, ask: Ask, refused: Refused) -> anyhow::Result<Proof> {
    let seen = &client.target().seen;
    let before = seen.requests();
    let reply = client.call(lane, ask).await?;
    let status = reply.status.as_u16();
    let expected: &[u16] = match refused {
        Refused::Verb => &[405],
        Refused::Unpublished => &[404],
        Refused::Unsafe => &[400, 404],
    };
    let reached = seen.requests() - before;
    ensure!(reached == 0, "answered {}, and it reached the site", reply.line());
    ensure!(expected.contains(&status), "answered {}, expected {expected:?}", reply.line());
    let reason = reply.text(REASON);
    ensure!(
        reason.starts_with(DECIDED_AT_THE_GATEWAY),
        "{REASON} is `{reason}`, expected one that begins with {DECIDED_AT_THE_GATEWAY}"
    );
    let phrase_agrees = lane.version == Version::Http2 || reply.phrase == reason;
    ensure!(phrase_agrees, "the reason phrase is `{}`, {REASON} is `{reason}`", reply.phrase);
    let allow = reply.text(ALLOW.as_str());
    let allow_missing = matches!(refused, Refused::Verb) && allow.is_empty();
    ensure!(!allow_missing, "405 without Allow");
    let answer = match lane.version {
        Version::Http11 => reply.line(),
        Version::Http2 => format!("{status} {reason}"),
    };
    Ok(Proof { answer, evidence: "never reached the site".into() })
}
