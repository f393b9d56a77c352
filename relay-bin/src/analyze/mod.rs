//! `relay analyze`: which layer between a client and a management point does not work, and why.
//!
//! Six checks along a request's way. [`probe`] asks, [`judge`] and [`channel`] make verdicts of
//! what came, [`text`] and serde show them. It changes nothing anywhere, and is no monitor: it
//! looks once. Secrets come from files, and go to the gateway alone.
//!
//! Read [`evidence::Evidence`] and [`verdict::Check`] first. How a gateway is reached, and what is
//! shown to it, is that of `relay client`.

mod channel;
mod evidence;
mod judge;
mod probe;
mod text;
mod verdict;

use std::io::IsTerminal as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use http::uri::PathAndQuery;
use relay_core::config::{LoadedConnectionPoint, load_connection_point};
use relay_core::policy::EndpointKind;

use crate::client::args::Way;
use crate::client::credentials::{Credentials, Shown};
use crate::client::target::Target;
use crate::client::until_interrupted;
use crate::console::say;
use crate::exit::Failure;

use evidence::{Channel, Counts, Evidence, Role};
use probe::{LinkPorts, Probe};
use text::Colour;
use verdict::{Analysis, Check, Judging, Step, Verdict};

/// Shown below the help of `relay analyze`.
pub(crate) const EXAMPLES: &str = "\
Examples:
  From anywhere, as the client that has registered in the folder `me`:
    relay analyze https://relay.example --ca site-ca.pem --folder me --endpoint 72057594037927937
  On the connection point's machine: its links, what it publishes, and all its management points:
    relay analyze https://relay.example --ca site-ca.pem --certificate me.pem --key me-key.pem \\
        --config connection-point.toml
  With a token of Entra ID, for a script:
    relay analyze https://relay.example --ca site-ca.pem --token-file entra.token \\
        --endpoint 72057594037927937 --json
  On a gateway's machine, which counts why it refuses a credential:
    relay analyze https://relay.example --ca site-ca.pem --folder me --endpoint 72057594037927937 \\
        --admin 127.0.0.1:10181

Checks, in the order of a request's way; one that fails has those skipped that need it:
  1  the service runs: each address of the name, and each link port of --config, takes TCP; no
     instance says that it serves nobody for now (stopped, egress, memory)
  2  the name resolves, certificate and chain are right, ServiceMetadata answers
  3  every instance has the expected version of the settings: --expect-version, or what the running
     connection point publishes, or else the same as the others
  4  a connection point is connected to every instance
  5  a management point is published
  6  each management point answers with the credential that is shown

Several instances are asked if the name has several addresses, or --resolve gives them; one that a
balancer hides is judged by what the connection point says of it. Each step has 5 seconds for a
connection, 10 for what a gateway says of itself, and --timeout for a management point.

Exit status:
  0   every check has passed, or was skipped by choice
  1   a check has failed
  2   the command line is wrong, or names a file that cannot be used
  78  the file of --config is wrong";

/// Arguments of `relay analyze`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The service, as `https://SERVICE`; or one management point of it, as
    /// `https://SERVICE/CCM_Proxy_ServerAuth/ROLE_ID`.
    #[arg(value_name = "URL")]
    url: String,
    #[command(flatten)]
    way: Way,
    #[command(flatten)]
    credentials: Credentials,
    /// Configuration of a connection point: whom it dials, and which management points it
    /// publishes. If it runs on this machine, it is asked how its links are.
    #[arg(long, short, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Admin listener of a role on this machine, to be asked what it knows. May be given more than
    /// once.
    #[arg(long, value_name = "ADDRESS:PORT")]
    admin: Vec<SocketAddr>,
    /// Role id of a management point to ask. May be given more than once. Without it, those of
    /// --config.
    #[arg(long, value_name = "ROLE_ID")]
    endpoint: Vec<u64>,
    /// What a management point is asked for, by GET.
    #[arg(long, value_name = "PATH", default_value = "SMS_MP/.sms_aut?MPLIST")]
    path: String,
    /// The version of the settings that every instance must have.
    #[arg(long, value_name = "N")]
    expect_version: Option<u64>,
    /// Whether the text has colours: `auto` has them on a terminal, unless `NO_COLOR` is set.
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = When::Auto)]
    color: When,
}

/// When the text has colours.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum When {
    Auto,
    Always,
    Never,
}

impl When {
    fn colour(self) -> Colour {
        let is_unwanted = || std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        match self {
            Self::Always => Colour::On,
            Self::Auto if std::io::stdout().is_terminal() && !is_unwanted() => Colour::On,
            Self::Auto | Self::Never => Colour::Off,
        }
    }
}

/// `relay analyze`.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let target = Target::of_argument(&args.url).map_err(Failure::Usage)?;
    let named = management_point(target.path.path()).map_err(Failure::Usage)?;
    let shown = args.credentials.read().map_err(Failure::Usage)?;
    let reach = args.way.reach(&target, shown.identity.as_ref()).map_err(Failure::Usage)?;
    let file = args.config.as_deref().map(read).transpose()?;
    let wanted = Wanted::new(args, named, &shown, file.as_ref()).map_err(Failure::Usage)?;
    let probe = Probe::new(reach, target.clone());
    let checks = until_interrupted(async {
        let seen = look(&probe, &wanted, file.as_ref(), &target.host).await;
        let mut checks = judge::judge(&seen);
        let last = channels(&probe, &wanted, &shown, &seen, &checks).await;
        checks.push(last.map_err(Failure::Runtime)?);
        Ok(checks)
    })?;
    let analysis = Analysis::new(format!("https://{}", target.authority), checks);
    if args.way.json {
        let json = serde_json::to_string_pretty(&analysis).context("cannot write JSON");
        say(&json.map_err(Failure::Runtime)?);
    } else {
        say(&text::text(&analysis, args.color.colour()));
    }
    match analysis.verdict {
        Verdict::Fail => Err(Failure::Runtime(anyhow!("{}", text::line(&analysis)))),
        Verdict::Pass | Verdict::Skipped => Ok(()),
    }
}

/// Reads a connection point's file.
fn read(file: &Path) -> Result<LoadedConnectionPoint, Failure> {
    let environment = |name: &str| std::env::var(name).ok();
    Ok(load_connection_point(file, &environment)?)
}

/// The virtual root and the role id that a URL names, if it names any.
fn management_point(path: &str) -> anyhow::Result<Option<(String, u64)>> {
    let mut segments = path.split('/').filter(|segment| !segment.is_empty());
    let Some(root) = segments.next() else { return Ok(None) };
    let is_root = ["CCM_Proxy_ServerAuth", "CCM_Proxy_MutualAuth"]
        .iter()
        .any(|known| known.eq_ignore_ascii_case(root));
    let role_id = segments.next().and_then(|id| id.parse().ok()).filter(|_| is_root);
    let role_id = role_id.filter(|_| segments.next().is_none()).context(
        "the URL leads nowhere that can be analyzed: give https://SERVICE, or \
         https://SERVICE/CCM_Proxy_ServerAuth/ROLE_ID and what to ask for as --path",
    )?;
    Ok(Some((root.to_owned(), role_id)))
}

/// What is to be asked.
struct Wanted {
    /// Role id of each management point, with its path.
    points: Vec<(u64, PathAndQuery)>,
    links: Vec<LinkPorts>,
    admin: Vec<SocketAddr>,
    version: Option<u64>,
    shown: evidence::Shown,
}

impl Wanted {
    fn new(
        args: &Args,
        named: Option<(String, u64)>,
        shown: &Shown,
        file: Option<&LoadedConnectionPoint>,
    ) -> anyhow::Result<Self> {
        let (token, certificate) = (shown.token.is_some(), shown.identity.is_some());
        let (root, of_url) = named.unzip();
        let usual =
            if certificate && !token { "CCM_Proxy_MutualAuth" } else { "CCM_Proxy_ServerAuth" };
        let root = root.as_deref().unwrap_or(usual);
        let mut role_ids: Vec<u64> = args.endpoint.iter().copied().chain(of_url).collect();
        if role_ids.is_empty() {
            role_ids = file.map(management_points).unwrap_or_default();
        }
        let path = |role_id: u64| {
            let path = format!("/{root}/{role_id}/{}", args.path.trim_start_matches('/'));
            let path =
                PathAndQuery::try_from(path).context("--path is none that a URL can have")?;
            anyhow::Ok((role_id, path))
        };
        let points = role_ids.into_iter().map(path).collect::<anyhow::Result<_>>()?;
        let mut admin = args.admin.clone();
        let of_file = file.and_then(|file| file.admin.as_ref()).map(|admin| admin.listen);
        // Port 0 is any port, which only the running role knows.
        admin.extend(of_file.filter(|at| at.port() != 0 && !args.admin.contains(at)));
        let links = file.map(link_ports).unwrap_or_default();
        let version = args.expect_version;
        let shown = evidence::Shown { token, certificate };
        Ok(Self { points, links, admin, version, shown })
    }
}

/// Role ids of the management points that a file publishes.
fn management_points(file: &LoadedConnectionPoint) -> Vec<u64> {
    let all = file.config.endpoints.iter().map(|it| &it.endpoint);
    let points = all.filter(|it| it.kind == EndpointKind::ManagementPoint);
    points.map(|it| it.role_id).collect()
}

/// The TCP ports that a connection point with this file dials by itself: over a web proxy, whether
/// they can be reached from here says nothing.
fn link_ports(file: &LoadedConnectionPoint) -> Vec<LinkPorts> {
    let ports = file.config.gateways.iter().map(|gateway| {
        let https = gateway.https_port.filter(|_| file.config.web_proxy.is_none());
        LinkPorts {
            instance: u64::from(gateway.instance.number()),
            host: gateway.host.clone(),
            ports: gateway.tcp_tls_port.into_iter().chain(https).collect(),
        }
    });
    ports.collect()
}

/// Sees what can be seen without a credential.
async fn look(
    probe: &Probe,
    wanted: &Wanted,
    file: Option<&LoadedConnectionPoint>,
    host: &str,
) -> Evidence {
    let name = probe.name().await;
    let found = name.came.as_ref().map_or(&[][..], Vec::as_slice);
    let instances = probe.instances(found).await;
    let links = probe.links(&wanted.links).await;
    let mut roles = Vec::new();
    for admin in &wanted.admin {
        roles.push(probe.role(*admin).await);
    }
    Evidence {
        host: host.to_owned(),
        name,
        instances,
        links,
        site: file.map(|file| file.config.site.clone()),
        management_points: file.map(|file| management_points(file).len()),
        roles,
        version_expected: wanted.version,
    }
}

/// The sixth check: asks each management point over each instance that may reach it.
async fn channels(
    probe: &Probe,
    wanted: &Wanted,
    shown: &Shown,
    seen: &Evidence,
    checks: &[Check],
) -> anyhow::Result<Check> {
    if let Some((step, because)) = judge::channel_waits_for(seen, checks) {
        return Ok(Judging::of(Step::Channel).waits_for(step, because));
    }
    let mut channels: Vec<Channel> = Vec::new();
    for (instance, told) in seen.answering().filter(|(_, told)| told.connected != Some(false)) {
        for (role_id, path) in &wanted.points {
            let before = counts(probe, wanted, told.instance).await;
            let place = (*role_id, instance.address);
            let mut channel = probe.channel(place, path.clone(), shown).await?;
            if let Some(before) = before.filter(|_| !channel.report.is_answered()) {
                let after = counts(probe, wanted, told.instance).await.unwrap_or_default();
                channel.unproven = probe::found_since(&before, &after);
            }
            channels.push(channel);
        }
    }
    Ok(channel::judge(&channels, wanted.shown))
}

/// How often each method of an instance has found what, if a role of this machine is that one.
async fn counts(probe: &Probe, wanted: &Wanted, number: u64) -> Option<Counts> {
    for admin in &wanted.admin {
        if let Ok(Role::Gateway(gateway)) = probe.role(*admin).await.came
            && gateway.instance == number
        {
            return Some(gateway.authentications);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_service_or_one_management_point_of_it() {
        for path in ["", "/", "//"] {
            assert_eq!(management_point(path).unwrap(), None, "{path}");
        }
        for path in ["/CCM_Proxy_ServerAuth/7", "/ccm_proxy_serverauth/7/"] {
            assert_eq!(management_point(path).unwrap().unwrap().1, 7, "{path}");
        }
        for path in [
            "/x",
            "/CCM_Proxy_ServerAuth",
            "/CCM_Proxy_ServerAuth/x",
            "/x/7",
            "/7",
            "/CCM_Proxy_MutualAuth/7/SMS_MP",
            "/CCM_Proxy_MutualAuth/-7",
        ] {
            assert!(management_point(path).is_err(), "{path}");
        }
    }
}
