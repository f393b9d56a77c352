//! `relay init`: a ready-to-run site in one folder.
//!
//! One folder for each machine, so that it can be copied as it is: `gateway-1` and on, and
//! `connection-point`; and `site-ca`, which stays where it was made. The site appears whole or not
//! at all: it is written beside its destination, loaded once as the roles would load it, and then
//! renamed. Beside each configuration is its schema, which the first line names for editors: what
//! is in the folder is there on every machine that it is copied to, without a network or a package.
//! Read [`Args`] and [`plan::Plan`] first.

mod folder;
mod next_steps;
mod plan;
mod texts;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use clap::ValueEnum;
use http::Uri;
use relay_core::config::{load_connection_point, load_gateway, parse_backend_url};
use relay_core::transport::TrustAnchors;
use rustls::pki_types::ServerName;

use self::folder::Folder;
use self::plan::Plan;
use crate::console::say;
use crate::exit::Failure;
use crate::pki::{Issued, SiteCa};
use crate::schema;

const EXAMPLES: &str = "\
Examples:
  A site on this machine, with a server on port 8080 behind it:
    relay init site --backend http://127.0.0.1:8080
  Two gateway instances for clients on the internet, and an https management point:
    relay init site --service relay.example --instances 2 \\
        --backend https://mp.corp.example --backend-ca corp-ca.pem";

/// Arguments of `relay init`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// Folder to write the site to; must not exist, or be empty.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// The site role's own address, as the connection point reaches it: `http://host:port` or
    /// `https://host:port`.
    #[arg(long, value_name = "URL", value_parser = parse_backend_url)]
    backend: Uri,
    /// Authority that signed the certificate of an https backend, as PEM; copied into the site.
    #[arg(long, value_name = "FILE")]
    backend_ca: Option<PathBuf>,
    /// How many gateway instances, 1 to 16.
    #[arg(long, value_name = "N", default_value_t = 1,
          value_parser = clap::value_parser!(u8).range(1..=16))]
    instances: u8,
    /// The service's name, as clients will write it. `localhost` makes a site that runs on this
    /// machine and listens on loopback only; any other name listens on all addresses.
    #[arg(long, value_name = "NAME", default_value = "localhost", value_parser = service_name)]
    service: String,
    /// What the backend is.
    #[arg(long, value_enum, default_value = "management-point")]
    kind: Kind,
    /// The site role's decimal number in the clients' URL.
    #[arg(long, value_name = "NUMBER", default_value_t = 72_057_594_037_927_937)]
    role_id: u64,
    /// Port for clients; on loopback each further instance has the next one.
    #[arg(long, value_name = "PORT", default_value_t = 8443,
          value_parser = clap::value_parser!(u16).range(1..))]
    client_port: u16,
    /// Port for links of instance 1; each further instance has the next one.
    #[arg(long, value_name = "PORT", default_value_t = 10_140,
          value_parser = clap::value_parser!(u16).range(1..))]
    link_port_base: u16,
    /// Let anybody who reaches the service use the endpoint, for a trial. Without it, clients have
    /// to register first.
    #[arg(long)]
    unsafe_allow_anonymous: bool,
}

/// What a backend is.
#[derive(Clone, Copy, ValueEnum)]
enum Kind {
    /// A management point.
    ManagementPoint,
    /// A software update point.
    SoftwareUpdatePoint,
}

fn service_name(text: &str) -> Result<String, &'static str> {
    match ServerName::try_from(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(_) => Err("give a host name as in `relay.example`: no scheme, port or path"),
    }
}

/// Writes the site and says what to do with it.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let plan = Plan::new(args).map_err(Failure::Usage)?;
    let backend_ca = backend_ca(args).map_err(Failure::Usage)?;
    let folder = Folder::stage(&args.dir).map_err(Failure::Usage)?;

    write(&folder, &plan, backend_ca.as_deref()).map_err(Failure::Runtime)?;
    load(folder.path(), &plan)
        .context("the site just written does not load; this is a fault of this program")
        .map_err(Failure::Runtime)?;
    folder.publish(&args.dir).map_err(Failure::Runtime)?;
    say(&next_steps::text(&args.dir, &plan));
    Ok(())
}

/// The text of `--backend-ca`, which an https backend needs and an http one has no use for.
fn backend_ca(args: &Args) -> anyhow::Result<Option<String>> {
    match (args.backend.scheme_str(), &args.backend_ca) {
        (Some("https"), Some(file)) => {
            TrustAnchors::from_pem_file(file).context("--backend-ca cannot be used")?;
            let text = std::fs::read_to_string(file)
                .with_context(|| format!("cannot read {}", file.display()))?;
            Ok(Some(text))
        }
        (Some("https"), None) => Err(anyhow!(
            "an https backend needs --backend-ca FILE, the authority that signed its certificate"
        )),
        (_, Some(_)) => Err(anyhow!(
            "--backend-ca is for https backends; remove it, or make --backend begin with https://"
        )),
        (_, None) => Ok(None),
    }
}

/// Writes every file of the site into the staged folder.
fn write(folder: &Folder, plan: &Plan, backend_ca: Option<&str>) -> anyhow::Result<()> {
    let ca = SiteCa::new(&format!("relay site authority for {}", plan.service()))?;
    folder.add("site-ca/site-ca.pem", &ca.certificate_pem())?;
    folder.add_secret("site-ca/site-ca-key.pem", &ca.key_pem())?;
    let nothing_revoked = ca.revoke(None, &[], None)?;
    folder.add("site-ca/site-ca.crl", &nothing_revoked)?;

    for instance in plan.instances() {
        let home = plan::gateway_home(instance);
        let clients = ca.issue_server(plan.client_names())?;
        let links = ca.issue_server(vec![plan.link_name(instance)])?;
        folder.add(&format!("{home}/gateway.toml"), &texts::gateway(plan, instance))?;
        folder.add(&format!("{home}/gateway.schema.json"), schema::GATEWAY)?;
        folder.add(&format!("{home}/site-ca.pem"), &ca.certificate_pem())?;
        folder.add(&format!("{home}/site-ca.crl"), &nothing_revoked)?;
        add_identity(folder, &format!("{home}/clients"), &clients)?;
        add_identity(folder, &format!("{home}/links"), &links)?;
    }

    let home = plan::CONNECTION_POINT_HOME;
    let link = ca.issue_client(plan::CONNECTION_POINT_NAME)?;
    folder.add(&format!("{home}/connection-point.toml"), &texts::connection_point(plan))?;
    folder.add(&format!("{home}/connection-point.schema.json"), schema::CONNECTION_POINT)?;
    folder.add(&format!("{home}/site-ca.pem"), &ca.certificate_pem())?;
    folder.add(&format!("{home}/site-ca.crl"), &nothing_revoked)?;
    add_identity(folder, &format!("{home}/link"), &link)?;
    if let Some(text) = backend_ca {
        folder.add(&format!("{home}/{}", plan::BACKEND_CA_FILE), text)?;
    }
    Ok(())
}

fn add_identity(folder: &Folder, stem: &str, issued: &Issued) -> anyhow::Result<()> {
    folder.add(&format!("{stem}.pem"), &issued.certificate_pem())?;
    folder.add_secret(&format!("{stem}-key.pem"), &issued.key_pem())
}

/// Loads every configuration of the site as its role would.
fn load(site: &Path, plan: &Plan) -> anyhow::Result<()> {
    for instance in plan.instances() {
        load_gateway(&site.join(plan::gateway_home(instance)).join("gateway.toml"))?;
    }
    load_connection_point(
        &site.join(plan::CONNECTION_POINT_HOME).join("connection-point.toml"),
        &|_| None,
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use clap::{CommandFactory as _, FromArgMatches as _};
    use relay_core::config::{LoadedConnectionPoint, LoadedGateway};
    use relay_core::transport::{Identity, link_client_config};
    use rustls::{ClientConfig, ClientConnection, Connection, ServerConnection};

    use super::*;

    /// A site of two instances, loaded; its folder goes when this does.
    struct Site {
        gateways: [LoadedGateway; 2],
        connection_point: LoadedConnectionPoint,
        folder: Folder,
    }

    fn args(rest: &[&str]) -> Args {
        let command = crate::cli::Cli::command();
        let init = command.find_subcommand("init").unwrap().clone();
        let line = ["init", "unused", "--backend", "http://127.0.0.1:8080"];
        let matches = init.get_matches_from(line.iter().chain(rest));
        Args::from_arg_matches(&matches).unwrap()
    }

    fn site(service: &str) -> Site {
        site_with(&["--instances", "2", "--service", service])
    }

    fn site_with(rest: &[&str]) -> Site {
        let plan = Plan::new(&args(rest)).unwrap();
        // Never published, so the name is never taken.
        let folder = Folder::stage(&std::env::temp_dir().join("relay-site-never-published"));
        let folder = folder.unwrap_or_else(|error| panic!("{error:#}"));
        write(&folder, &plan, None).unwrap();
        let gateway =
            |n: u8| load_gateway(&folder.path().join(format!("gateway-{n}/gateway.toml"))).unwrap();
        let gateways = [gateway(1), gateway(2)];
        let file = folder.path().join("connection-point/connection-point.toml");
        let connection_point = load_connection_point(&file, &|_| None).unwrap();
        Site { gateways, connection_point, folder }
    }

    /// The connection point's configuration with the `#` of lines that begin with `keys` removed.
    fn connection_point_with(site: &Site, keys: &[&str]) -> LoadedConnectionPoint {
        let home = site.folder.path().join("connection-point");
        let text = std::fs::read_to_string(home.join("connection-point.toml")).unwrap();
        let lines = text.lines().map(|line| {
            let bare = line.strip_prefix("# ").unwrap_or(line);
            if keys.iter().any(|key| bare.starts_with(key)) { bare } else { line }
        });
        let changed = home.join("changed.toml");
        std::fs::write(&changed, lines.collect::<Vec<_>>().join("\n")).unwrap();
        let url = "http://other.example:1".to_owned();
        load_connection_point(&changed, &|name| (name == "HTTPS_PROXY").then(|| url.clone()))
            .unwrap()
    }

    #[test]
    fn the_web_proxy_that_is_shown_can_be_used() {
        let site = site("localhost");
        assert_eq!(site.connection_point.config.web_proxy, None);
        let password = site.folder.path().join("connection-point/proxy-password");
        std::fs::write(password, "secret\n").unwrap();
        let keys = ["[web_proxy]", "url = ", "user = ", "password_file = ", "bypass = "];
        let proxy = connection_point_with(&site, &keys).config.web_proxy.unwrap();
        assert_eq!((proxy.host.as_str(), proxy.port), ("proxy.example", 3128));
        assert!(proxy.credentials.is_some() && proxy.bypass.covers("10.1.1.1", 443));
        let keys = ["[web_proxy]", "from_environment = "];
        let proxy = connection_point_with(&site, &keys).config.web_proxy.unwrap();
        assert_eq!(proxy.host, "other.example");
    }

    #[test]
    fn the_collector_that_is_shown_can_be_used_and_takes_nothing_from_the_table_behind_it() {
        let site = site("localhost");
        let keys = ["[telemetry]", "endpoint = ", "sample_ratio = ", "service_name = "];
        let point = connection_point_with(&site, &keys);
        assert_eq!(point.telemetry.unwrap().service_name.unwrap(), "relay");
        let (before, now) = (site.connection_point.admin.unwrap(), point.admin.unwrap());
        assert_eq!(before.listen, now.listen);
    }

    #[test]
    fn each_file_names_the_schema_beside_it_in_its_first_line() {
        let site = site("localhost");
        let roles = [("gateway-1", "gateway"), ("connection-point", "connection-point")];
        for (home, name) in roles {
            let read = |name: String| std::fs::read_to_string(site.folder.path().join(name));
            let text = read(format!("{home}/{name}.toml")).unwrap();
            let named = text.lines().next().unwrap().strip_prefix("#:schema ./").unwrap();
            let schema = read(format!("{home}/{named}")).unwrap();
            let schema: serde_json::Value = serde_json::from_str(&schema).unwrap();
            assert_eq!(schema["title"], format!("{name}.toml"));
        }
    }

    /// Shakes hands in memory.
    fn handshake(
        client: &Arc<ClientConfig>,
        name: &str,
        server: &LoadedGateway,
    ) -> Result<(), rustls::Error> {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let server = Arc::clone(&server.config.link_tls);
        let mut client: Connection =
            ClientConnection::new(Arc::clone(client), name).unwrap().into();
        let mut server: Connection = ServerConnection::new(server).unwrap().into();
        while client.wants_write() || server.wants_write() {
            pass(&mut client, &mut server)?;
            pass(&mut server, &mut client)?;
        }
        assert!(!client.is_handshaking() && !server.is_handshaking());
        Ok(())
    }

    fn pass(from: &mut Connection, to: &mut Connection) -> Result<(), rustls::Error> {
        let mut octets = Vec::new();
        while from.wants_write() {
            from.write_tls(&mut octets).unwrap();
        }
        let mut rest = &octets[..];
        while !rest.is_empty() {
            to.read_tls(&mut rest).unwrap();
            to.process_new_packets()?;
        }
        Ok(())
    }

    #[test]
    fn the_connection_point_reaches_each_instance_under_its_own_name_only() {
        for service in ["localhost", "relay.example", "192.0.2.1", "::1"] {
            let site = site(service);
            let client = &site.connection_point.config.link_tls;
            let [first, second] = &site.connection_point.config.gateways[..] else {
                panic!("two instances were asked for");
            };
            let [one, two] = &site.gateways;
            assert_eq!(handshake(client, &first.server_name, one), Ok(()), "{service}");
            assert_eq!(handshake(client, &second.server_name, two), Ok(()), "{service}");
            assert!(handshake(client, &first.server_name, two).is_err(), "{service}");
            assert!(handshake(client, service, one).is_err(), "{service}");
        }
    }

    #[test]
    fn a_gateways_certificate_cannot_pose_as_a_connection_point() {
        let site = site("localhost");
        let home = site.folder.path().join("gateway-1");
        let anchors = TrustAnchors::from_pem_file(&home.join("site-ca.pem")).unwrap();
        for stem in ["links", "clients"] {
            let certificate = home.join(format!("{stem}.pem"));
            let key = home.join(format!("{stem}-key.pem"));
            let identity = Identity::from_pem_files(&certificate, &key).unwrap();
            let client = link_client_config(&identity, &anchors).unwrap();
            let name = &site.connection_point.config.gateways[0].server_name;
            let refused = handshake(&client, name, &site.gateways[0]).unwrap_err();
            assert!(matches!(refused, rustls::Error::InvalidCertificate(_)), "{refused:?}");
        }
    }

    #[test]
    fn a_local_site_listens_on_loopback_and_any_other_on_all_addresses() {
        let local = site("localhost").gateways;
        let shown = local.each_ref().map(|it| format!("{} {}", it.listen, it.link_listen));
        assert_eq!(shown, ["127.0.0.1:8443 127.0.0.1:10140", "127.0.0.1:8444 127.0.0.1:10141"]);
        let public = site("relay.example").gateways;
        let shown = public.each_ref().map(|it| format!("{} {}", it.listen, it.link_listen));
        assert_eq!(shown, ["0.0.0.0:8443 0.0.0.0:10140", "0.0.0.0:8443 0.0.0.0:10141"]);
    }

    #[test]
    fn a_site_gives_no_cause_for_warnings_unless_it_lets_anybody_in() {
        let site = site("relay.example");
        assert_eq!(site.connection_point.warnings, []);
        let access = site.connection_point.config.endpoints[0].endpoint.access;
        let asks = matches!(access, relay_core::policy::Access::Clients(_));
        assert!(asks, "{access:?}");
        let site = site_with(&["--instances", "2", "--unsafe-allow-anonymous"]);
        for gateway in &site.gateways {
            assert_eq!(gateway.warnings, []);
        }
        let warnings = &site.connection_point.warnings;
        assert!(
            matches!(warnings[..], [relay_core::config::Warning::AnonymousEndpoint { .. }]),
            "{warnings:?}"
        );
    }

    #[test]
    fn ports_that_overlap_or_pass_the_last_one_are_refused() {
        for rest in [
            ["--instances", "2", "--client-port", "65535"],
            ["--instances", "2", "--link-port-base", "65535"],
            ["--client-port", "10140", "--instances", "1"],
            ["--client-port", "10141", "--instances", "2"],
        ] {
            assert!(Plan::new(&args(&rest)).is_err(), "{rest:?}");
        }
        assert!(Plan::new(&args(&["--instances", "1", "--client-port", "65535"])).is_ok());
        assert!(Plan::new(&args(&["--instances", "2", "--client-port", "10138"])).is_ok());
    }
}
