//! `relay client register`, `renew` and `exchange`: a token from the site's token service.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context as _, anyhow, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::CONTENT_TYPE;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request};
use relay_core::auth::Guid;
use rustls::crypto::aws_lc_rs;
use serde::Deserialize;
use serde_json::json;

use crate::exit::Failure;
use crate::pki::files::{self, Readers};

use super::args::{Reach, Way};
use super::body::{self, Taken};
use super::connection::Connection;
use super::credentials::{CERTIFICATE, Credentials, KEY, Shown, TOKEN, Token, identity};
use super::fault::Fault;
use super::folder::Folder;
use super::report::{Asked, Hop, Outcome, Report, visible};
use super::sign::Signer;
use super::target::Target;
use super::{show, until_interrupted};

/// Shown below the help of `relay client register`.
pub(super) const REGISTER_EXAMPLES: &str = "\
Examples:
  Register over the gateway, with the bulk token that `relay token new` has printed:
    relay client register https://relay.example/CCM_Proxy_ServerAuth/72057594037927938 \\
        --ca site-ca.pem --token-file bulk.token --folder me
  Register on the site's own network, where no token is asked for:
    relay client register https://sts.corp.example:8444 --ca corp-ca.pem --folder me

DIR then holds client.pem, client-key.pem and client.token, for their owner's eyes alone. What
`--folder` names in other commands is such a folder. What is refused leaves nothing there; if the
answer is lost, certificate and key stay, and the same command once more goes on with them.
The number is role_id of [token_service] in connection-point.toml. The token is good for 90 days;
`relay client renew` replaces it from the 30th day on.";

/// Shown below the help of `relay client renew`.
pub(super) const RENEW_EXAMPLES: &str = "\
Examples:
  Have the token of a registration, 30 to 90 days old, replaced by a new one:
    relay client renew https://relay.example/CCM_Proxy_ServerAuth/72057594037927938 \\
        --ca site-ca.pem --folder me";

/// Shown below the help of `relay client exchange`.
pub(super) const EXCHANGE_EXAMPLES: &str = "\
Examples:
  Have a token of Entra ID exchanged for one of the site's, good for 8 hours:
    relay client exchange https://relay.example/CCM_Proxy_ServerAuth/72057594037927938 \\
        --ca site-ca.pem --token-file entra.token --save ccm.token";

/// Octets of the service's answer that are read.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Arguments of `relay client register`.
#[derive(clap::Args)]
pub(crate) struct RegisterArgs {
    /// Where the token service is: `https://SERVICE/CCM_Proxy_ServerAuth/ROLE_ID`, or a server of
    /// the site's own network. `/CCM_STS/register` is put behind it.
    #[arg(value_name = "URL")]
    url: String,
    #[command(flatten)]
    way: Way,
    /// Folder for certificate, key and token. A certificate with its key that is there is used.
    #[arg(long, value_name = "DIR")]
    folder: PathBuf,
    /// File that holds a bulk token; `-` is standard input. On the site's own network none is
    /// needed.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Register again, though the folder has a token.
    #[arg(long)]
    force: bool,
}

/// Arguments of `relay client renew`.
#[derive(clap::Args)]
pub(crate) struct RenewArgs {
    /// Where the token service is, as for `relay client register`.
    #[arg(value_name = "URL")]
    url: String,
    #[command(flatten)]
    way: Way,
    /// Folder that `relay client register` has filled.
    #[arg(long, value_name = "DIR")]
    folder: PathBuf,
}

/// Arguments of `relay client exchange`.
#[derive(clap::Args)]
pub(crate) struct ExchangeArgs {
    /// Where the token service is, as for `relay client register`.
    #[arg(value_name = "URL")]
    url: String,
    #[command(flatten)]
    way: Way,
    #[command(flatten)]
    credentials: Credentials,
    /// File for the token that is given, for its owner's eyes alone.
    #[arg(long, value_name = "FILE")]
    save: PathBuf,
}

/// `relay client register`.
pub(super) fn register(args: &RegisterArgs) -> Result<(), Failure> {
    let target = service(&args.url, "register").map_err(Failure::Usage)?;
    let token = args.token_file.as_deref().map(Token::read).transpose();
    let token = token.map_err(Failure::Usage)?;
    let folder = Folder::open(&args.folder).map_err(Failure::Usage)?;
    let held = folder.registered().map_err(Failure::Usage)?;
    if held && !args.force {
        let error = anyhow!(
            "{} holds a registration already; `relay client renew` renews it, --force replaces it",
            args.folder.display()
        );
        return Err(Failure::Usage(error));
    }
    let staged = folder.identity().map_err(Failure::Usage)?;
    // Whoever has no id yet is named by one drawn here; the service gives the one that counts.
    let client = held.then(|| Token::read(&args.folder.join(TOKEN)).ok()?.client()).flatten();
    let client = client.map_or_else(drawn, Ok).map_err(Failure::Runtime)?;
    let signer = Signer::new(&staged.identity).map_err(Failure::Usage)?;
    let certificate = staged.identity.chain().first().map(|leaf| STANDARD.encode(leaf));
    let asked = json!({ "certificate": certificate.unwrap_or_default() });
    let identity = Some(staged.identity.clone());
    let shown = Shown { token, identity, signer: Some((signer, client)) };
    let reach = args.way.reach(&target, shown.identity.as_ref()).map_err(Failure::Usage)?;
    let (report, came) = match until_interrupted(ask(&reach, &target, &shown, &asked)) {
        Ok(done) => done,
        // It may have been sent.
        Err(failure) => {
            staged.keep_identity().map_err(Failure::Runtime)?;
            return Err(failure);
        }
    };
    let report = match came {
        Came::Nothing => {
            drop(staged);
            report
        }
        Came::Unknown => {
            staged.keep_identity().map_err(Failure::Runtime)?;
            report.fact("kept", "certificate and key, for the same command once more")
        }
        Came::Issued(issued) => {
            staged.keep(&issued.token).map_err(Failure::Runtime)?;
            folder.is_filled();
            report.fact("folder", args.folder.display().to_string())
        }
    };
    drop(folder);
    show(&report, args.way.json, super::Shown::Out)
}

/// `relay client renew`.
pub(super) fn renew(args: &RenewArgs) -> Result<(), Failure> {
    let target = service(&args.url, "renew").map_err(Failure::Usage)?;
    let shown = registered(&args.folder).map_err(Failure::Usage)?;
    let reach = args.way.reach(&target, shown.identity.as_ref()).map_err(Failure::Usage)?;
    let (report, came) = until_interrupted(ask(&reach, &target, &shown, &json!({})))?;
    if let Came::Issued(issued) = came {
        save(&args.folder.join(TOKEN), &issued.token).map_err(Failure::Runtime)?;
    }
    show(&report, args.way.json, super::Shown::Out)
}

/// `relay client exchange`.
pub(super) fn exchange(args: &ExchangeArgs) -> Result<(), Failure> {
    let target = service(&args.url, "exchange").map_err(Failure::Usage)?;
    let shown = args.credentials.read().map_err(Failure::Usage)?;
    if shown.token.is_none() {
        let error = anyhow!("--token-file is missing: it names the token that is exchanged");
        return Err(Failure::Usage(error));
    }
    let reach = args.way.reach(&target, shown.identity.as_ref()).map_err(Failure::Usage)?;
    let (report, came) = until_interrupted(ask(&reach, &target, &shown, &json!({})))?;
    let report = match came {
        Came::Nothing | Came::Unknown => report,
        Came::Issued(issued) => {
            save(&args.save, &issued.token).map_err(Failure::Runtime)?;
            report.fact("saved", args.save.display().to_string())
        }
    };
    show(&report, args.way.json, super::Shown::Out)
}

/// What a registration shows: all that it has.
fn registered(folder: &Path) -> anyhow::Result<Shown> {
    let token = folder.join(TOKEN);
    ensure!(
        token.exists(),
        "{} holds no registration; `relay client register` makes one",
        folder.display()
    );
    let token = Token::read(&token)?;
    let identity = identity(&folder.join(CERTIFICATE), &folder.join(KEY))?;
    let client = token.client().map_or_else(drawn, Ok)?;
    let signer = Some((Signer::new(&identity)?, client));
    Ok(Shown { token: Some(token), identity: Some(identity), signer })
}

fn save(file: &Path, token: &Token) -> anyhow::Result<()> {
    files::replace(file, &format!("{}\n", token.text()), Readers::Owner)
}

/// The URL of one of the service's doors.
fn service(url: &str, door: &str) -> anyhow::Result<Target> {
    let mut target = Target::of_argument(url)?;
    ensure!(target.path.query().is_none(), "the URL of a token service has no query");
    let base = target.path.path().trim_end_matches('/');
    let is_whole = base.rsplit('/').next().is_some_and(|last| last.eq_ignore_ascii_case("CCM_STS"));
    let service = if is_whole { "" } else { "/CCM_STS" };
    target.path = PathAndQuery::try_from(format!("{base}{service}/{door}"))?;
    Ok(target)
}

/// A GUID that nobody else has.
fn drawn() -> anyhow::Result<Guid> {
    let mut octets = [0; 16];
    let random = aws_lc_rs::default_provider().secure_random;
    random.fill(&mut octets).map_err(|_| anyhow!("this machine gives no random numbers"))?;
    // RFC 9562, section 5.4.
    octets[6] = octets[6] & 0x0f | 0x40;
    octets[8] = octets[8] & 0x3f | 0x80;
    Ok(Guid(u128::from_be_bytes(octets)))
}

/// What the service gives.
struct Issued {
    token: Token,
}

/// What has become of a request for a token.
enum Came {
    /// A token.
    Issued(Issued),
    /// Nothing: it was refused, or never sent.
    Nothing,
    /// It was sent, and nobody here knows what has become of it.
    Unknown,
}

impl Came {
    /// What has become of a request with this answer, which has no token. Whatever the service
    /// itself says of it is so, unless it had no time to wait for the end.
    fn of(report: &Report) -> Self {
        let is_late = report.reason.as_deref() == Some("busy");
        match (report.hop, report.outcome) {
            (_, Outcome::Refused) => Self::Nothing,
            (Hop::TokenService, Outcome::Failed) if !is_late => Self::Nothing,
            (_, Outcome::Answered | Outcome::Failed) => Self::Unknown,
        }
    }
}

/// Asks the service.
async fn ask(
    reach: &Reach,
    target: &Target,
    shown: &Shown,
    asked: &serde_json::Value,
) -> Result<(Report, Came), Failure> {
    let mut headers = HeaderMap::new();
    shown.put_into(&mut headers).map_err(Failure::Runtime)?;
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let mut request = Request::new(body::whole(asked.to_string()));
    *request.headers_mut() = headers;
    let verb = Method::from_bytes(b"CCM_POST").context("the verb is none");
    *request.method_mut() = verb.map_err(Failure::Runtime)?;
    let of_fault = |fault: &Fault| Report::of_fault(fault, None);
    let mut connection = match Connection::open(reach, target).await {
        Ok(connection) => connection,
        Err(fault) => return Ok((of_fault(&fault), Came::Nothing)),
    };
    let answered = answered(&mut connection, target, shown, request).await;
    Ok(answered.unwrap_or_else(|fault| (of_fault(&fault), Came::Unknown)))
}

async fn answered(
    connection: &mut Connection,
    target: &Target,
    shown: &Shown,
    request: Request<body::RequestBody>,
) -> Result<(Report, Came), Fault> {
    let answer = connection.send(target, request, &Taken::default()).await?;
    let report = Report::of(&answer, Asked::Site, connection.described());
    let mut body = answer.into_body();
    if matches!(report.hop, Hop::Gateway | Hop::ConnectionPoint) {
        let came = Came::of(&report);
        return Ok((report, came));
    }
    let said = connection.rest(&mut body, ANSWER_BYTES_MAX).await?;
    Ok(judge(report, shown, &said, SystemTime::now()))
}

#[derive(Deserialize)]
struct Given {
    client_id: String,
    token: String,
    /// Seconds since 1970 UTC.
    expires: u64,
    /// In seconds.
    renew_after: u64,
}

#[derive(Deserialize)]
struct Refused {
    error: String,
    #[serde(default)]
    detail: String,
}

/// What the service's answer comes to.
fn judge(report: Report, shown: &Shown, said: &[u8], now: SystemTime) -> (Report, Came) {
    if !report.is_answered() {
        let report = refused(report, &shown.without_secrets(said));
        let came = Came::of(&report);
        return (report, came);
    }
    let report = Report { hop: Hop::TokenService, ..report };
    match given(said, now) {
        Ok((given, token)) => {
            let report = report
                .fact("client_id", visible(&given.client_id))
                .fact("expires", given.expires)
                .fact("renew_after", given.renew_after);
            (report, Came::Issued(Issued { token }))
        }
        Err(why) => {
            let means = Some(format!("the answer is not that of a token service: {why:#}"));
            let next = Some("check the URL; else the versions of both sides differ".to_owned());
            (Report { outcome: Outcome::Failed, means, next, ..report }, Came::Unknown)
        }
    }
}

/// Nothing of what cannot be read is told: there may be a token in it.
fn given(said: &[u8], now: SystemTime) -> anyhow::Result<(Given, Token)> {
    let Ok(given) = serde_json::from_slice::<Given>(said) else {
        bail!("it cannot be read");
    };
    ensure!(given.client_id.parse::<Guid>().is_ok(), "its client_id is no GUID");
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    ensure!(given.expires > now, "its token is over already; is a clock wrong?");
    let token = Token::new(&given.token).context("its token is none")?;
    Ok((given, token))
}

fn refused(report: Report, said: &str) -> Report {
    let Ok(told) = serde_json::from_str::<Refused>(said) else { return report };
    let detail = visible(&told.detail);
    let means = if detail.is_empty() { report.means } else { Some(detail) };
    let next = match told.error.as_str() {
        "too_early" => "nothing to do: the token is good, and is renewed later",
        "slow_down" | "busy" | "unknown_key" => "the same once more, later",
        "unavailable" => "the log of the connection point",
        _ => "a fresh bulk token, or the site's own network; else the connection point's log",
    };
    Report {
        hop: Hop::TokenService,
        reason: Some(visible(&told.error)),
        means,
        next: Some(next.to_owned()),
        ..report
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_is_below_the_url_that_is_given() {
        let path = |url| service(url, "register").map(|target| target.path.to_string()).ok();
        let at = |path: &str| Some(path.to_owned());
        assert_eq!(
            path("https://a/CCM_Proxy_ServerAuth/7"),
            at("/CCM_Proxy_ServerAuth/7/CCM_STS/register")
        );
        assert_eq!(path("https://a/x/"), at("/x/CCM_STS/register"));
        assert_eq!(path("https://a/ccm_sts"), at("/ccm_sts/register"));
        assert_eq!(path("https://a"), at("/CCM_STS/register"));
        assert_eq!(path("https://a/?x"), None);
    }

    #[test]
    fn an_answer_that_is_not_the_services_gives_no_token_and_is_not_repeated() {
        let id = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9";
        let with = |id: &str, token: &str, expires: u64| {
            let said =
                json!({"client_id": id, "token": token, "expires": expires, "renew_after": 1});
            given(said.to_string().as_bytes(), SystemTime::now())
        };
        assert!(with(id, "hidden", u64::MAX).is_ok());
        for (said, part) in [
            (with("me", "hidden", u64::MAX), "no GUID"),
            (with(id, "hid den", u64::MAX), "its token is none"),
            (with(id, "hidden", 1), "over already"),
            (given(b"{\"token\":\"hidden\"}", SystemTime::now()), "cannot be read"),
        ] {
            let told = format!("{:#}", said.err().unwrap());
            assert!(told.contains(part) && !told.contains("hid"), "{told}");
        }
    }

    #[test]
    fn ids_that_are_drawn_differ_and_say_that_they_are_random() {
        let [one, other] = [drawn().unwrap(), drawn().unwrap()];
        assert_ne!(one, other);
        assert_eq!(one.to_string().as_bytes()[14], b'4');
    }
}
