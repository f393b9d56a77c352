//! The configuration files, with a comment on every key.

use relay_core::connection_point::ConnectionPointLimits;
use relay_core::gateway::GatewayLimits;
use relay_core::transport::Instance;

use super::plan::{BACKEND_CA_FILE, CONNECTION_POINT_NAME, Plan};

/// `gateway.toml` of one instance.
pub(super) fn gateway(plan: &Plan, instance: Instance) -> String {
    let service = plan.service();
    let clients = plan.client_listen(instance);
    let links = plan.link_listen(instance);
    let https_links = match plan.https_link_listen(instance) {
        Some(address) => format!(
            "# Where they connect over HTTPS when that port is blocked on their way; 10123 plus\n\
             # the instance's number is customary.\nhttps_listen = \"{address}\"\n"
        ),
        None => {
            "# When that port is blocked on their way they connect over HTTPS, where clients do.\n\
                 # Instances behind one address need a port each for that: https_listen.\n"
                .to_owned()
        }
    };
    let admin = admin(ADMIN_PORT_BASE + u16::from(instance.number()));
    let limits = gateway_limits(&GatewayLimits::default());
    format!(
        r#"#:schema ./gateway.schema.json
# Gateway instance {instance} of {service}.
# This folder can be copied to another machine as it is.
#
#     relay gateway --config gateway.toml --check
#     relay gateway --config gateway.toml
#
# Relative paths start at the folder of this file. Unknown keys are refused. Read again by itself
# when it has changed: times, memory, content and egress hold at once, all else from the next start.

# The service's name, as in the clients' URL. The certificate in [clients] must carry it.
service = "{service}"

# Which instance this is, 1 to 16. Every instance of the service has its own number.
instance = {instance}

# How requests are spread over the links: "round-robin" lets connection points take turns,
# "least-in-flight" takes the link with the fewest requests under way, "peak-ewma" the faster of two
# that are drawn. One that fails again and again sits out for a while, whichever it is.
balance = "round-robin"

# Where clients connect, over HTTPS.
[clients]
# Address and port. Clients expect port 443: forward that port to this one, or listen on it here,
# which needs the right to bind low ports.
listen = "{clients}"
# Certificate chain, leaf first, and private key. The site's own authority has signed this one;
# put one in its place that your clients trust already.
certificate = "clients.pem"
key = "clients-key.pem"

# Where connection points connect, over TLS 1.3 with certificates on both sides.
[links]
# Address and port; 10139 plus the instance's number is customary.
listen = "{links}"
{https_links}# Takes links over QUIC too, on the UDP port of the same number, or at quic_listen.
# A connection point that comes by it has 1,024 exchanges at once, not 16,384.
# quic = true
# Certificate chain, leaf first, and private key that connection points verify. A connection point
# with [pki] has both renewed in the last third of their life: this program then replaces the files.
certificate = "links.pem"
key = "links-key.pem"
# Who may connect: holders of a certificate that this authority has signed for clients, each under
# a name that the certificate carries.
site_ca = "site-ca.pem"
# What that authority has taken back: `relay pki revoke` writes it. Without this line nobody asks.
site_crl = "site-ca.crl"

{FETCH}
{CONTENT}
{EGRESS}
{TELEMETRY}
{admin}
# What is published is not written here: connection points say so, over their links.

{limits}"#
    )
}

/// The table of an instance that fetches keys and revocation lists, in full as a comment.
const FETCH: &str = r#"# Has this instance fetch what a site publishes the address of: the keys of a
# tenant, and revocation lists. Without it such tokens and certificates are refused. Servers of
# https addresses must be trusted by this file; Debian's own has the public authorities.
# [fetch]
# trust = "/etc/ssl/certs/ca-certificates.crt"
"#;

/// The table of an instance that has content, in full as a comment.
const CONTENT: &str = r#"# Has this instance give packages to clients whom the site has granted
# them: `relay content put` puts one there, `relay content grant` grants it. Without it, or if
# `enabled` is false, clients that ask are answered 404 and go elsewhere. In place of a folder there
# may be a store from which clients fetch files themselves, by locations that end with the grant:
# a container of Azure Blob Storage, by [content.azure] with `account`, `container`, `key_file` and
# `trust`, or a bucket of S3, by [content.s3] with `bucket`, `region`, `access_key_id`,
# `secret_key_file` and `trust`.
# [content]
# folder = "content"
# enabled = true
"#;

/// The table of an instance that watches what it sends, in full as a comment.
const EGRESS: &str = r#"# How much this instance is meant to send to clients in 14 days.
# The log warns at 50 %, and says at 90 % that it is critical; looked at every six minutes.
# [egress]
# threshold_gibibytes = 10000
# warning_percent = 50
# critical_percent = 90
# Answers new requests with 503 while it is critical.
# stop_when_critical = false
# Where the sums are kept.
# file = "egress.json"
"#;

/// The table of a role that sends spans, in full as a comment. A table without a `#` follows in
/// both files, so that nothing of another is taken for a key of this one.
const TELEMETRY: &str = r#"# Has this role send spans of requests to a collector of OpenTelemetry:
# of those that are part of a trace, by their client's traceparent. A program that was built without
# `otel` refuses it.
# [telemetry]
# Where it takes OTLP over HTTP.
# endpoint = "http://127.0.0.1:4318"
# The authority that signed the certificate of an https collector, a PEM file.
# ca = "collector-ca.pem"
# File of headers for the collector, `name: value` in each line. Only the account of this program
# may read it.
# headers_file = "collector-headers"
# Which part of the traces is sent, and what this role is called there.
# sample_ratio = 1.0
# service_name = "relay"
"#;

/// `connection-point.toml`.
pub(super) fn connection_point(plan: &Plan) -> String {
    let (service, host, instances) = (plan.service(), plan.link_host(), plan.instance_count());
    let (link_port_base, https_port_base) = (plan.link_port_base(), plan.https_port_base());
    let server_name = plan.link_name_pattern();
    let endpoint = endpoint(plan);
    let backend = plan.backend();
    let backend_ca = backend_ca(plan);
    let (registers, collector) = (token_service(plan), TELEMETRY.to_owned());
    let tables = [tokens(plan), registers, collector, admin(ADMIN_PORT_BASE)].join("\n");
    let limits = connection_point_limits(&ConnectionPointLimits::default());
    format!(
        r#"#:schema ./connection-point.schema.json
# Connection point of {service}. This folder can be copied to another machine as it is.
#
#     relay connection-point --config connection-point.toml --check
#     relay connection-point --config connection-point.toml
#
# Relative paths start at the folder of this file. Unknown keys are refused.

# This connection point's name, unique in the site; at most 64 octets. The certificate in [link]
# must carry it.
name = "{CONNECTION_POINT_NAME}"

# The site that it stands in; every connection point of one site has the same name here. Without
# this line, "default".
# site = "default"

# The gateway instances to dial: all of them, from here outwards. No port is opened on this side.
# {{instance}} in a name stands for the number of each instance. When no pattern fits, write one
# [[gateway]] table per instance in place of this one, with instance, host, port and server_name.
[gateway]
# Host name or address, looked up anew at each dial.
host = "{host}"
# How many instances there are, 1 to 16.
instances = {instances}
# Link port of instance 1; each further instance has the next one.
link_port_base = {link_port_base}
# HTTPS port of instance 1, tried when the link port is blocked; each further instance has the next.
https_port_base = {https_port_base}
# "auto": the link port first, then HTTPS. "tcp-tls", "https" or "quic": that alone.
# "https-upgrade" or "https-h2": one way of HTTPS alone, for a test of it.
# transport = "auto"
# Tries QUIC first, on UDP of the same number; gateways must take it. 1,024 exchanges, not 16,384.
# quic = true
# The name that the link certificate of each instance must carry; without this line, the host. It
# need not exist in any name service.
server_name = "{server_name}"
# The name that the certificate of each HTTPS port must carry; without this line, the host.
# https_name = "{service}"

# What this side of each link shows and trusts.
[link]
# Certificate chain, leaf first, and private key.
certificate = "link.pem"
key = "link-key.pem"
# The authority that signed the gateways' link certificates.
site_ca = "site-ca.pem"
# What that authority has taken back: `relay pki revoke` writes it. Without this line nobody asks.
site_crl = "site-ca.crl"
# The authority of whoever ends HTTPS on the way, if not the same: a balancer, a web proxy. The
# link's own certificates are verified inside all the same.
# https_ca = "site-ca.pem"

{PKI}{WEB_PROXY}
{tables}
{CLIENTS}
{SETTINGS}
{endpoint}# The site role's own address, without a path: http://host:port or https://host:port.
# A list of up to 16 names several places of this one role: ["http://mp-1", "http://mp-2"].
backend = "{backend}"
{backend_ca}{BACKEND}
{limits}"#
    )
}

/// What else can be said about the backend of an endpoint, as a comment.
const BACKEND: &str = r#"# What the backend is called in Host and in TLS, where its certificate
# must carry it; without this line, the host of its address.
# backend_name = "mp.site.example"
# Shown to an https backend that asks for a client certificate. Files, or two lists of as many; or a
# folder alone, of NAME.pem and NAME-key.pem. Of those that are valid now, are for clients and whose
# issuer the backend takes, the one that is valid for longest is shown; the log says why the others
# are not. Read again on SIGHUP.
# client_certificate = "mp-client.pem"
# client_key = "mp-client-key.pem"
# Limits of this endpoint alone: the keys of [limits] below that begin with backend_.
# [endpoint.limits]
# backend_answer_seconds = 30
# Asks each backend for a path, by GET, every now and then. One that fails twice is asked no more,
# as long as there is another one, until it answers well again. The other lines show the defaults.
# [endpoint.check]
# path = "/SMS_MP/.sms_aut?MPLIST"
# status = 200
# interval_seconds = 10
# timeout_seconds = 5
"#;

/// The authority of the backend, or a word on when it is needed.
fn backend_ca(plan: &Plan) -> String {
    if plan.backend_is_https() {
        format!(
            "# The authority that signed the backend's certificate.\n\
             backend_ca = \"{BACKEND_CA_FILE}\"\n"
        )
    } else {
        "# An https backend also needs backend_ca, a PEM file with the authority to trust.\n"
            .to_owned()
    }
}

/// Where a connection point is administered; an instance is at this plus its number. Our choice:
/// near the link ports, and a port for each role, so that all can run on one machine.
const ADMIN_PORT_BASE: u16 = 10_180;

/// The table of the admin listener.
fn admin(port: u16) -> String {
    format!(
        "\
# Where `relay status` and `relay drain` ask this role; an address of loopback. Whoever has an
# account on this machine may. Without this table nobody can ask.
[admin]
listen = \"127.0.0.1:{port}\"
"
    )
}
/// The table of the site's own tokens.
fn tokens(plan: &Plan) -> String {
    let tenant = plan.tenant();
    format!(
        r#"# The tokens that this site makes, for clients without a certificate: see `relay token`.
[tokens]
# Signing keys, and what was issued and blocked; `relay token new` makes it. Only the account of
# this program may read it. Back it up: a block that is lost is no block.
folder = "tokens"
# What the site is called in its tokens. Any GUID, the same at every connection point of the site.
# With another one, all tokens that were issued count no more.
tenant = "{tenant}"
# Where the site has several connection points, a database of PostgreSQL that they share keeps what
# was issued and blocked; then each says the same version in [settings].
# store = "postgres://relay@db.example/site"
# store_password_file = "store-password"
# store_ca = "store-ca.pem"
"#
    )
}

/// The table of the service that issues tokens to clients.
fn token_service(plan: &Plan) -> String {
    let role_id = plan.token_service_role_id_toml();
    format!(
        r#"# Where clients register by such a token, and renew their own: a service in this program.
[token_service]
# The number in its URL: /CCM_Proxy_ServerAuth/{role_id}/CCM_STS. No endpoint has the same.
role_id = {role_id}
# Where clients of the site's own network reach it, who register without a token: an address of this
# machine, with certificate and key, two PEM files. Without those on loopback alone.
# listen = "127.0.0.1:8444"
# Methods that a client may show itself by, of those that count at the site.
# methods = ["site-token"]
# PEM file of authorities, by which the keys of tenants without a `keys` file are fetched, so that
# their tokens can be exchanged. Debian's own is /etc/ssl/certs/ca-certificates.crt
# provider_ca = "site-ca.pem"
"#
    )
}

/// The table about what is published.
const SETTINGS: &str = "\
# What is published is sent to every gateway instance. After a change of this file, send SIGHUP.
[settings]
# The highest version holds; without this line, it is the time of the last change of this file, or
# of those that it names in [clients] and [[tenant]].
# Connection points of one site publish the same, with the same version: endpoints, tenants, and the
# backend_answer_seconds of each endpoint. Raise it with any of them.
# version = 1
";

/// The tables of whose clients count, in full as comments.
const CLIENTS: &str = r#"# Whose certificates count, and how methods are tried.
# [clients]
# PEM files: the roots that count, and authorities below them that clients may not show.
# roots = "clients-ca.pem"
# intermediates = "clients-intermediates.pem"
# What the authorities have taken back: a list of each of them, a file (PEM or DER) or a URL that
# instances with [fetch] ask. A file travels in the settings, which are 1 MiB at most: a large list
# needs a URL. A certificate is refused when its list is missing or over. "off": nobody asks.
# revocation_lists = ["clients-ca.crl"]
# revocation = "off"
# The order of the methods; without this line, all that are set up: Entra, certificate, site token.
# methods = ["certificate", "entra"]
# Refuse a request for the first thing that proves nothing, whatever else it shows.
# strict = true
# Who may not use the gateway: by method and name, as `auth` and `who` of the access log have them.
# barred = ["certificate:CN=a device"]

# One [[tenant]] for each onboarded Entra tenant, at most 64: gateways tell clients about it, and
# its tokens count.
# [[tenant]]
# id = "00000000-0000-0000-0000-000000000000"
# application_id = "00000000-0000-0000-0000-000000000000"
# resource = "https://ConfigMgrService"
# enabled = true
# Whose tokens: "v1", "v2", "government"; and for what they are issued, by default the resource.
# issuers = ["v1"]
# audiences = ["https://ConfigMgrService"]
# The keys that its tokens are signed with: the JSON that its jwks_uri answers. Without this line,
# instances with [fetch] fetch them, and newer ones.
# keys = "tenant-keys.json"
"#;

/// The table of a connection point that renews certificates, in full as a comment.
const PKI: &str = r#"# Lets this connection point renew its link certificate by itself in the
# last third of its life, and those of the gateways over its links. Whoever has the authority's key
# can be anybody in the site: keep it here only if this machine may have it. Remove the # of each
# line, and copy both files here.
# [pki]
# ca = "site-ca.pem"
# ca_key = "site-ca-key.pem"

"#;

/// The table of a site behind a web proxy, in full as a comment.
const WEB_PROXY: &str = r#"# For a site behind a web proxy: remove the # of each line that applies.
# Links over HTTPS go through it; those to a link port never do.
# [web_proxy]
# Scheme, host and port. No user or password here.
# url = "http://proxy.example:3128"
# Who this connection point is to the proxy; and a file with the password alone, which only the
# account that runs this program may read.
# user = "relay"
# password_file = "proxy-password"
# Gateway hosts that are reached without the proxy: names with all below them, addresses, networks.
# bypass = ["gateway.example", "10.0.0.0/8"]
# In place of all these: take them from the variables HTTPS_PROXY, ALL_PROXY and NO_PROXY.
# from_environment = true
"#;

/// The `[[endpoint]]` of the connection point, whose file goes on below it.
fn endpoint(plan: &Plan) -> String {
    let name = plan.endpoint_name();
    let kind = plan.kind();
    let role_id = plan.role_id_toml();
    let anonymous = if plan.is_anonymous() { "" } else { "# " };
    format!(
        r#"# What is published: one [[endpoint]] for each site role. Anything else is answered 404.
# Each request is judged by it at the gateway, and again here.
[[endpoint]]
# A name for logs, unique in this file.
name = "{name}"
# "management-point", "software-update-point" or "content": decides verbs and paths that may pass.
kind = "{kind}"
# The decimal number in the clients' URL, unique in this file. Above 9223372036854775807 it stands
# in quotes.
role_id = {role_id}
# Lets anybody on the internet use this endpoint. For trials only; each start warns about it.
# Without this line each client has to show who it is, by any method that counts here, or by those
# of a list such as `methods = ["entra", "certificate"]`.
{anonymous}unsafe_allow_anonymous = true
# Path prefixes below the role id that are published; without this line, those of the kind.
# paths = ["SMS_MP", "ccm_system"]
# Largest request body, in octets; without this line, no limit.
# request_body_bytes_max = 268435456
# Have only those headers of a request pass that clients of Configuration Manager send, and those
# that are listed; others are dropped. Without it, all but those that no client may set.
# strict_headers = true
# allow_headers = ["X-Site"]
"#
    )
}

fn gateway_limits(limits: &GatewayLimits) -> String {
    format!("{}{}", gateway_counts(limits), gateway_times(limits))
}

fn gateway_counts(limits: &GatewayLimits) -> String {
    format!(
        "\
# Each line shows a default; remove its # to change it.
[limits]
# Client connections open at once. They are never more than 45 % of the descriptors that the
# process may have (LimitNOFILE of systemd, ulimit -n); the log says so if they are to be.
# client_connections_max = {}
# Of them, connections of one address (of IPv6, one /64); a sixth of those may be in their TLS
# handshake. Raise it behind a balancer that shows its own address.
# connections_per_address_max = {}
# Of them, those in their TLS handshake; more wait.
# client_handshakes_max = {}
# Links open at once.
# links_max = {}
# Receive memory of all links, 32 KiB for an exchange; 640 MiB hold 17,900, and new links besides.
# link_memory_mebibytes = {}
# Requests at once on one link, 16384 at most; the lower number of its two ends holds.
# streams_per_link_max = {}
# Memory that this program may have in use: above 85 % of it new requests are answered 503, above
# 92 % no client is accepted. Without this line it is what the cgroup lets it have, else all that
# the machine has. The figure here is no default. The same goes for all that the cgroup has in use
# (unless this is the lower limit) and for the kernel's memory for TCP (net.ipv4.tcp_mem).
# memory_mebibytes_max = 4096
# Peers on the link ports that have not proved who they are, at once; of one address a sixteenth,
# and more wait.
# link_handshakes_max = {}
",
        limits.client_connections_max,
        limits.connections_per_address_max,
        limits.client_handshakes_max,
        limits.links_max,
        limits.link_memory >> 20,
        limits.streams_per_link_max,
        limits.link_handshakes_max,
    )
}

fn gateway_times(limits: &GatewayLimits) -> String {
    format!(
        "\
# Time for a TLS handshake.
# tls_handshake_seconds = {}
# Time for a client to send a request head.
# request_head_seconds = {}
# Time that an HTTP/1.1 connection may wait for its next request.
# idle_seconds = {}
# Time from a request head to the head of its answer.
# answer_head_seconds = {}
# A site whose backends may take longer publishes so; this bounds it.
# backend_answer_max_seconds = {}
# Time a client may send nothing of a body it has begun before it is answered 408.
# body_stall_seconds = {}
# Octets a second it must send, or it is answered 408; 0: any.
# body_octets_per_second_min = {}
# Time it may be behind that.
# body_grace_seconds = {}
# Time in which a client must take 16 KiB of an answer before its connection is cut.
# answer_stall_seconds = {}
# Time a request waits for room on a link before it is answered 503.
# link_credit_seconds = {}
# The same once requests have waited for that long without a break.
# overload_wait_milliseconds = {}
# Time for requests in flight to end when the instance stops.
# drain_seconds = {}
# Time that an idle connection is kept when the instance stops, for a request on its way.
# linger_seconds = {}
",
        limits.tls_handshake.as_secs(),
        limits.request_head.as_secs(),
        limits.idle.as_secs(),
        limits.answer_head.as_secs(),
        limits.backend_answer_max.as_secs(),
        limits.body_stall.as_secs(),
        limits.body_rate_min,
        limits.body_grace.as_secs(),
        limits.answer_stall.as_secs(),
        limits.link_credit.as_secs(),
        limits.overload_wait.as_millis(),
        limits.drain.as_secs(),
        limits.linger.as_secs(),
    )
}

fn connection_point_limits(limits: &ConnectionPointLimits) -> String {
    format!(
        "\
# Each line shows a default; remove its # to change it.
[limits]
# Ceiling of the first random delay after a failed dial; it doubles with each failure.
# redial_first_milliseconds = {}
# Where the doubling ends.
# redial_max_seconds = {}
# Time for one attempt to reach a gateway instance, TLS handshake included.
# dial_seconds = {}
# The same over QUIC: a path that swallows UDP shows in nothing else.
# dial_quic_seconds = {}
# How long a way may be silent before the next is tried beside it.
# next_rung_seconds = {}
# Time between two dials, whatever their instance.
# dial_pace_milliseconds = {}
# Time after which a link that is not up on its best way tries the better ones again, beside it.
# better_rung_seconds = {}
# Links to each instance.
# links_per_instance = {}
# Time to connect to a backend.
# backend_connect_seconds = {}
# Time from a forwarded request to the head of the backend's answer. It is published, and gateways
# wait 3 s longer, up to their backend_answer_max_seconds. [settings] version must rise with it.
# backend_answer_seconds = {}
# Idle connections kept to each backend.
# backend_idle_max = {}
# Time an idle connection to a backend is kept.
# backend_idle_seconds = {}
# Connections open at once to each backend. An exchange that is held open has one to itself.
# backend_connections_max = {}
# Requests that may wait for one of them; what comes beyond is answered 503.
# backend_wait_max = {}
# How long each may, before it is answered 503.
# backend_wait_seconds = {}
# Connections that fail or answers that are late, one after the other, before a backend is left
# alone for a while, if there is another one.
# backend_failures_max = {}
# For how long at first; each time it is twice as long, 5 min at most.
# backend_rest_seconds = {}
# Receive memory of all links, 32 KiB for an exchange; 640 MiB hold 17,900, and new links besides.
# link_memory_mebibytes = {}
# Requests at once on one link, 16384 at most; the lower number of its two ends holds.
# streams_per_link_max = {}
# Time for requests in flight to end when the connection point stops.
# drain_seconds = {}
",
        limits.redial_first.as_millis(),
        limits.redial_max.as_secs(),
        limits.dial.as_secs(),
        limits.dial_quic.as_secs(),
        limits.next_rung.as_secs(),
        limits.dial_pace.as_millis(),
        limits.better_rung.as_secs(),
        limits.links_per_instance,
        limits.backend_connect.as_secs(),
        limits.backend_answer.as_secs(),
        limits.backend_idle_max,
        limits.backend_idle.as_secs(),
        limits.backend_connections_max,
        limits.backend_wait_max,
        limits.backend_wait.as_secs(),
        limits.backend_failures_max,
        limits.backend_rest.as_secs(),
        limits.link_memory >> 20,
        limits.streams_per_link_max,
        limits.drain.as_secs(),
    )
}
