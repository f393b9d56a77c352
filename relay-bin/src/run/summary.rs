//! What `--check` and `relay check` print about a configuration that can be used.

use std::fmt::Write as _;
use std::path::Path;
use std::time::SystemTime;

use relay_core::config::{
    AdminListener, EgressConfig, LoadedConnectionPoint, LoadedGateway, TokenServiceConfig,
};
use relay_core::connection_point::BackendConfig;
use relay_core::policy::{Endpoint, EndpointKind};

/// A gateway instance's configuration in a few lines.
pub(crate) fn gateway(file: &Path, loaded: &LoadedGateway) -> String {
    let config = &loaded.config;
    let mut text = format!("{} can be used\n", file.display());
    row(&mut text, "service", &format!("{}, instance {}", config.service, config.instance));
    row(&mut text, "clients", &format!("https://{}", loaded.listen));
    row(&mut text, "links", &loaded.link_listen.to_string());
    if let Some(address) = loaded.https_link_listen {
        row(&mut text, "links", &format!("https://{address}"));
    }
    if let Some(address) = loaded.quic_link_listen {
        row(&mut text, "links", &format!("quic on {address}"));
    }
    let fetches = match &config.fetch {
        Some(_) => "keys and revocation lists that sites name by their address",
        None => "nothing: [fetch] is not there",
    };
    row(&mut text, "fetches", fetches);
    let content = match &loaded.content {
        Some(content) if content.is_enabled => format!("in {}", content.store.shown()),
        Some(_) => "none: enabled = false in [content]".to_owned(),
        None => "none: [content] is not there".to_owned(),
    };
    row(&mut text, "content", &content);
    if let Some(egress) = &loaded.egress {
        row(&mut text, "egress", &egress_told(egress));
    }
    admin(&mut text, loaded.admin.as_ref());
    text.truncate(text.trim_end().len());
    text
}

fn egress_told(egress: &EgressConfig) -> String {
    let EgressConfig { threshold, warning_percent, critical_percent, file, .. } = egress;
    let stops = if egress.stop_when_critical { ", and stops then" } else { "" };
    format!(
        "{} GiB in 14 days: warns at {warning_percent} %, critical at {critical_percent} %{stops}; \
         sums in {}",
        threshold >> 30,
        file.display()
    )
}

/// A connection point's configuration in a few lines.
pub(crate) fn connection_point(file: &Path, loaded: &LoadedConnectionPoint) -> String {
    let config = &loaded.config;
    let mut text = format!("{} can be used\n", file.display());
    row(&mut text, "name", &config.name);
    row(&mut text, "site", &config.site);
    for gateway in &config.gateways {
        let instance = gateway.instance;
        let ways = [
            ("quic", gateway.quic_port),
            ("port", gateway.tcp_tls_port),
            ("https", gateway.https_port),
        ];
        let ways = ways.iter().filter_map(|(way, port)| Some(format!("{way} {}", (*port)?)));
        let (host, name, ways) = (&gateway.host, &gateway.server_name, ways.collect::<Vec<_>>());
        let ways = ways.join(", then ");
        row(&mut text, "gateway", &format!("instance {instance} at {host} {ways} as {name}"));
    }
    if let Some(proxy) = &config.web_proxy {
        row(&mut text, "proxy", &format!("http://{}:{}", proxy.host, proxy.port));
    }
    admin(&mut text, loaded.admin.as_ref());
    for site in &config.endpoints {
        let (what, backend) = (describe(&site.endpoint), &site.backend);
        let urls: Vec<_> = backend.urls.iter().map(ToString::to_string).collect();
        row(&mut text, "endpoint", &format!("{what}, to {}", urls.join(", ")));
        client_certificates(&mut text, backend);
    }
    token_service(&mut text, loaded.token_service.as_ref());
    text.truncate(text.trim_end().len());
    text
}

fn token_service(text: &mut String, config: Option<&TokenServiceConfig>) {
    let Some(config) = config else { return };
    row(text, "endpoint", &format!("{}, in this program", describe(&config.endpoint)));
    if let Some(intranet) = &config.intranet {
        let scheme = if intranet.identity.is_some() { "https" } else { "http" };
        row(text, "  listens", &format!("{scheme}://{}", intranet.listen));
    }
}

/// What would be shown now to a backend that asks, and what would not.
fn client_certificates(text: &mut String, backend: &BackendConfig) {
    let set = backend.certificates.iter();
    for verdict in set.flat_map(|set| set.verdicts(SystemTime::now())) {
        let what = match &verdict.why_not {
            None => format!("{}: shown to a backend that takes its issuer", verdict.name),
            Some(why) => format!("{}: not shown: {why}", verdict.name),
        };
        row(text, "  shows", &what);
    }
}

fn admin(text: &mut String, admin: Option<&AdminListener>) {
    if let Some(admin) = admin {
        row(text, "admin", &format!("http://{}", admin.listen));
    }
}

fn row(text: &mut String, label: &str, value: &str) {
    writeln!(text, "  {label:<10}{value}").expect("writing to a String does not fail");
}

fn describe(endpoint: &Endpoint) -> String {
    let kind = match endpoint.kind {
        EndpointKind::ManagementPoint => "management point",
        EndpointKind::SoftwareUpdatePoint => "software update point",
        EndpointKind::Content => "content",
        EndpointKind::TokenService => "token service",
        _ => "site role",
    };
    format!("{}: {kind}, role id {}", endpoint.name, endpoint.role_id)
}
