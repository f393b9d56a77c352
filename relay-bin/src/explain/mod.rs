//! `relay explain`: say what a gateway does with a request, and by which line of which file.
//!
//! It reads configurations and asks the gateway's own judgement what comes of the request:
//! [`foretell`]. It sends nothing, and judges no credential: those are secrets, and what proves a
//! client is told, not tried. `relay client` sends a request, and `relay analyze` looks at what is
//! between.

mod links;
mod told;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, anyhow};
use http::header::HOST;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, Request};
use relay_core::config::{
    LoadedConnectionPoint, RoleKind, load_connection_point, load_gateway, recognise,
};
use relay_core::connection_point::{BackendConfig, LocalService, SiteEndpoint};
use relay_core::gateway::{Foretold, foretell};
use relay_core::settings::{Offered, Settings};

use crate::client::Target;
use crate::console::say;
use crate::exit::Failure;
use crate::run::variable;

use links::Links;
use told::Told;

/// Shown below the help.
pub(crate) const EXAMPLES: &str = "\
Examples:
  Why a path is not published, or where it goes:
    relay explain GET https://relay.example/CCM_Proxy_MutualAuth/7/SMS_MP/.sms_aut?MPLIST \\
      --config connection-point.toml
  With a body of that size, and which links a gateway on this machine has for it:
    relay explain CCM_POST https://relay.example/CCM_Proxy_ServerAuth/1/ccm_system/request \\
      --header 'Content-Length: 70000' --config connection-point.toml --config gateway.toml

What is published stands in connection-point.toml; that of each site of a gateway may be given. The
gateway's own judgement answers. It is asked nothing over the network but, where gateway.toml has
[admin], which links are up.

Exit status:
  0   the request goes to the site, or the gateway answers it by itself
  1   the gateway refuses it, whoever asks
  2   the command line is wrong
  78  a file of --config is wrong";

/// Arguments of `relay explain`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The verb, in capitals as clients send it.
    #[arg(value_name = "METHOD")]
    method: String,
    /// The URL that a client asks for.
    #[arg(value_name = "URL")]
    url: String,
    /// A configuration of the service: of a connection point, and of a gateway instance. May be
    /// given more than once.
    #[arg(long, short, value_name = "FILE", required = true)]
    config: Vec<PathBuf>,
    /// A header field of the request, as `Name: value`. May be given more than once. No
    /// credentials: those are secrets, and not judged here.
    #[arg(long, short = 'H', value_name = "FIELD")]
    header: Vec<String>,
    /// Print JSON, for a script.
    #[arg(long)]
    json: bool,
}

/// Header fields that prove a client.
const CREDENTIALS: [&str; 8] = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "ccmclientidsignature",
    "ccmclienttimestampsignature",
    "ccmclienttimestampssignature",
    "clienttoken",
    "clienttokensignature",
];

/// What the files say.
struct Files {
    settings: Settings,
    /// Each connection point's file, and what it says.
    sites: Vec<(PathBuf, LoadedConnectionPoint)>,
    /// Where a gateway is administered.
    links: Links,
}

/// `relay explain`.
pub(crate) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let request = request(args).map_err(Failure::Usage)?;
    let files = Files::read(&args.config)?;
    let foretold = foretell(&files.settings, &request);
    let told = Told::new(&foretold, &request, &files);
    if args.json {
        say(&format!("{:#}", told.json()));
    } else {
        say(told.text().trim_end());
    }
    Ok(match &foretold {
        Foretold::Refused(_) => ExitCode::FAILURE,
        Foretold::Relayed(relay) if relay.proven.is_some() => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    })
}

/// The request as a gateway would get it.
fn request(args: &Args) -> anyhow::Result<Parts> {
    let target = Target::of_argument(&args.url)?;
    let method: Method = args.method.parse().context("this is no verb")?;
    let mut request = Request::new(());
    *request.method_mut() = method;
    *request.uri_mut() = target.path.into();
    let mut fields = args.header.iter().map(|text| field(text)).collect::<Result<Vec<_>, _>>()?;
    if !fields.iter().any(|(name, _)| name == HOST) {
        fields.push((HOST, HeaderValue::try_from(target.authority)?));
    }
    for (name, value) in fields {
        request.headers_mut().append(name, value);
    }
    Ok(request.into_parts().0)
}

/// A header field of the command line. Errors do not repeat it.
fn field(text: &str) -> anyhow::Result<(HeaderName, HeaderValue)> {
    let (name, value) = text.split_once(':').context("write a header field as `Name: value`")?;
    let name = HeaderName::try_from(name.trim()).context("this is no name of a header field")?;
    if CREDENTIALS.contains(&name.as_str()) {
        return Err(anyhow!(
            "`{name}` holds a secret, which has no place on a command line; which credentials \
             count is told without one"
        ));
    }
    let value = HeaderValue::try_from(value.trim());
    Ok((name, value.context("this is no value of a header field")?))
}

impl Files {
    fn read(files: &[PathBuf]) -> Result<Self, Failure> {
        let mut sites = Vec::new();
        let mut links = Links::default();
        for file in files {
            match recognise(file)? {
                RoleKind::Gateway => links = Links::of(&load_gateway(file)?),
                RoleKind::ConnectionPoint => sites.push((file.clone(), site(file)?)),
            }
        }
        if sites.is_empty() {
            return Err(Failure::Usage(anyhow!(
                "no --config is of a connection point, and a gateway is told by those what is \
                 published"
            )));
        }
        // As at an instance: of each site the latest holds, in whichever order they are named.
        sites.sort_by_key(|(_, loaded)| loaded.config.settings_version);
        let mut settings = Settings::default();
        for (file, loaded) in &sites {
            settings = hold(&settings, loaded).map_err(|error| {
                Failure::Usage(error.context(format!("{} cannot be held", file.display())))
            })?;
        }
        Ok(Self { settings, sites, links })
    }

    /// The endpoint with this role id, and the file that publishes it.
    fn endpoint(&self, role_id: u64) -> Option<(&Path, &SiteEndpoint)> {
        self.sites.iter().rev().find_map(|(file, loaded)| {
            let mut endpoints = loaded.config.endpoints.iter();
            let endpoint = endpoints.find(|it| it.endpoint.role_id == role_id)?;
            Some((file.as_path(), endpoint))
        })
    }
}

/// A connection point's file, with the endpoint of its token service among the others.
fn site(file: &Path) -> Result<LoadedConnectionPoint, Failure> {
    let mut loaded = load_connection_point(file, &variable)?;
    if let Some(service) = &loaded.token_service {
        // Nobody is behind it here: nothing is sent.
        let backend = BackendConfig::local(LocalService::new().0);
        let endpoint = service.endpoint.clone();
        loaded.config.endpoints.push(SiteEndpoint { endpoint, backend });
    }
    Ok(loaded)
}

/// `settings` and what this connection point publishes.
fn hold(settings: &Settings, loaded: &LoadedConnectionPoint) -> anyhow::Result<Settings> {
    match settings.offer(loaded.config.settings())? {
        Offered::Accepted(settings) | Offered::TokensAlone { settings, .. } => Ok(settings),
        Offered::Same => Ok(settings.clone()),
    }
}
