//! Names, addresses and ports of the site to be written.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::ensure;
use http::Uri;
use relay_core::auth::Guid;
use relay_core::transport::{Instance, PortPlan};

use super::{Args, Kind};
use crate::site::new_guid;

/// Folder of the connection point in the site.
pub(super) const CONNECTION_POINT_HOME: &str = "connection-point";

/// Name of the one connection point.
pub(super) const CONNECTION_POINT_NAME: &str = "connection-point-1";

/// File in [`CONNECTION_POINT_HOME`] with the authority of an https backend.
pub(super) const BACKEND_CA_FILE: &str = "backend-ca.pem";

/// Folder of a gateway instance in the site.
pub(super) fn gateway_home(instance: Instance) -> String {
    format!("gateway-{instance}")
}

/// Everything that the site's texts and certificates are made from.
pub(super) struct Plan {
    service: String,
    /// The address that every listener binds.
    bind: IpAddr,
    client_port: u16,
    ports: PortPlan,
    last: Instance,
    kind: Kind,
    role_id: u64,
    backend: Uri,
    tenant: Guid,
    is_anonymous: bool,
}

impl Plan {
    /// Judges what single arguments cannot show.
    pub(super) fn new(args: &Args) -> anyhow::Result<Self> {
        let last = Instance::new(args.instances.into())?;
        let further = u16::from(last.number()) - 1;
        let highest = u16::MAX - further;
        ensure!(args.client_port <= highest, "--client-port must be {highest} or less");
        ensure!(args.link_port_base <= highest, "--link-port-base must be {highest} or less");

        let bind = match args.service.parse::<IpAddr>() {
            Ok(literal) if literal.is_loopback() => literal,
            Err(_) if args.service.eq_ignore_ascii_case("localhost") => Ipv4Addr::LOCALHOST.into(),
            _ => Ipv4Addr::UNSPECIFIED.into(),
        };
        let clients = args.client_port..=args.client_port + further;
        let links = args.link_port_base..=args.link_port_base + further;
        ensure!(
            clients.end() < links.start() || links.end() < clients.start(),
            "--client-port and --link-port-base overlap; keep them {} apart",
            further + 1
        );
        Ok(Self {
            service: args.service.clone(),
            bind,
            client_port: args.client_port,
            ports: PortPlan { tcp_tls_base: args.link_port_base, ..PortPlan::default() },
            last,
            kind: args.kind,
            role_id: args.role_id,
            backend: args.backend.clone(),
            tenant: new_guid()?,
            is_anonymous: args.unsafe_allow_anonymous,
        })
    }

    pub(super) fn service(&self) -> &str {
        &self.service
    }

    pub(super) fn instances(&self) -> impl Iterator<Item = Instance> + use<> {
        Instance::first(self.last.number())
    }

    pub(super) fn instance_count(&self) -> u8 {
        self.last.number()
    }

    /// Whether the whole site runs on this machine.
    pub(super) fn is_local(&self) -> bool {
        self.bind.is_loopback()
    }

    /// Where clients of `instance` connect. Instances share a machine only if the site is local.
    pub(super) fn client_listen(&self, instance: Instance) -> SocketAddr {
        let further = if self.is_local() { u16::from(instance.number()) - 1 } else { 0 };
        SocketAddr::new(self.bind, self.client_port + further)
    }

    /// Where connection points connect to `instance`.
    pub(super) fn link_listen(&self, instance: Instance) -> SocketAddr {
        let port = self.ports.tcp_tls(instance).expect("`new` has checked the highest port");
        SocketAddr::new(self.bind, port)
    }

    pub(super) fn link_port_base(&self) -> u16 {
        self.ports.tcp_tls_base
    }

    /// Where connection points connect to `instance` over HTTPS; `None` where clients do. Instances
    /// behind one address need a port each.
    pub(super) fn https_link_listen(&self, instance: Instance) -> Option<SocketAddr> {
        let is_shared = self.is_local() || self.instance_count() == 1;
        let port = self.ports.https(instance, self.instance_count()).filter(|_| !is_shared);
        port.map(|port| SocketAddr::new(self.bind, port))
    }

    /// HTTPS port of instance 1 for links, as the connection point dials it.
    pub(super) fn https_port_base(&self) -> u16 {
        match self.https_link_listen(Instance::FIRST) {
            Some(address) => address.port(),
            None if self.is_local() => self.client_port,
            // Clients expect 443, wherever it is forwarded to.
            None => self.ports.https_single,
        }
    }

    /// The names in the certificates that clients see.
    pub(super) fn client_names(&self) -> Vec<String> {
        let mut names = vec![self.service.clone()];
        if self.service.eq_ignore_ascii_case("localhost") {
            names.extend(["127.0.0.1".to_owned(), "::1".to_owned()]);
        }
        names
    }

    /// The name in the link certificate of `instance`. It is none of the names that clients see, so
    /// that neither certificate can stand in for the other, and it differs by instance, so that no
    /// instance can stand in for another.
    pub(super) fn link_name(&self, instance: Instance) -> String {
        self.link_name_pattern().replace("{instance}", &instance.to_string())
    }

    /// As [`Self::link_name`], for every instance. It needs no entry in any name service.
    pub(super) fn link_name_pattern(&self) -> String {
        match self.service.parse::<IpAddr>() {
            // A label before an address would not be a name.
            Ok(_) => "gateway-{instance}.relay.internal".to_owned(),
            Err(_) => format!("gateway-{{instance}}.{}", self.service),
        }
    }

    /// The host that the connection point dials. Loopback is dialled by address: `localhost` may
    /// mean `::1` first, where nobody listens.
    pub(super) fn link_host(&self) -> String {
        if self.is_local() { self.bind.to_string() } else { self.service.clone() }
    }

    pub(super) fn endpoint_name(&self) -> &'static str {
        match self.kind {
            Kind::ManagementPoint => "mp",
            Kind::SoftwareUpdatePoint => "sup",
        }
    }

    /// The kind as configuration files write it.
    pub(super) fn kind(&self) -> &'static str {
        match self.kind {
            Kind::ManagementPoint => "management-point",
            Kind::SoftwareUpdatePoint => "software-update-point",
        }
    }

    /// Whether anybody may use the endpoint.
    pub(super) fn is_anonymous(&self) -> bool {
        self.is_anonymous
    }

    /// What the site names itself by in its tokens.
    pub(super) fn tenant(&self) -> Guid {
        self.tenant
    }

    /// A path below the role id that a server of this kind is likely to answer.
    pub(super) fn sample_path(&self) -> &'static str {
        match self.kind {
            Kind::ManagementPoint => "SMS_MP/.sms_aut?MPLIST",
            Kind::SoftwareUpdatePoint => "ClientWebService/client.asmx",
        }
    }

    pub(super) fn role_id_toml(&self) -> String {
        as_toml(self.role_id)
    }

    /// The role id of the token service: the next one, or the one before the last there is.
    pub(super) fn token_service_role_id_toml(&self) -> String {
        as_toml(self.token_service_role_id())
    }

    fn token_service_role_id(&self) -> u64 {
        self.role_id.checked_add(1).unwrap_or(u64::MAX - 1)
    }

    /// The backend's URL without the `/` that `Uri` puts at its end.
    pub(super) fn backend(&self) -> String {
        self.backend.to_string().trim_end_matches('/').to_owned()
    }

    pub(super) fn backend_is_https(&self) -> bool {
        self.backend.scheme_str() == Some("https")
    }

    /// The URL under which clients of `instance` reach the endpoint, with a `/` at its end.
    pub(super) fn client_url(&self, instance: Instance) -> String {
        self.url(instance, "CCM_Proxy_MutualAuth", self.role_id) + "/"
    }

    /// The URL below which clients of instance 1 register.
    pub(super) fn register_url(&self) -> String {
        self.url(Instance::FIRST, "CCM_Proxy_ServerAuth", self.token_service_role_id())
    }

    fn url(&self, instance: Instance, root: &str, role_id: u64) -> String {
        let host = match self.service.parse::<IpAddr>() {
            Ok(IpAddr::V6(literal)) => format!("[{literal}]"),
            _ => self.service.clone(),
        };
        let port = self.client_listen(instance).port();
        format!("https://{host}:{port}/{root}/{role_id}")
    }
}

/// A role id as TOML: integers there end at `i64::MAX`, so larger ones stand in quotes.
fn as_toml(role_id: u64) -> String {
    match i64::try_from(role_id) {
        Ok(number) => number.to_string(),
        Err(_) => format!("\"{role_id}\""),
    }
}
