//! When a change of each key takes effect is what `CONNECTION_POINT_KEYS` says.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use relay_core::config::{
    CONNECTION_POINT_KEYS, LoadedConnectionPoint, TakesEffect, load_connection_point,
};
use relay_core::connection_point::Update;

use super::super::Fixed;
use crate::pki::SiteCa;

/// A file with each key but those that exclude another, and the limits.
const FILE: &str = include_str!("keys.toml");

/// Its instances in the other form.
const LIST: &str = "[[gateway]]\ninstance = 1\nhost = \"relay.example\"\nport = 1\n\
                    https_port = 2\n";

/// Each key with a part of the file, and what is there instead once it has changed.
const CHANGES: &[(&str, &str, &str)] = &[
    ("name", "\"one\"\nsite", "\"two\"\nsite"),
    ("site", "site = \"default\"", "site = \"other\""),
    ("gateway.host", "host = \"relay.example\"", "host = \"other.example\""),
    ("gateway.instances", "instances = 2", "instances = 3"),
    ("gateway.transport", "\"auto\"", "\"tcp-tls\""),
    ("gateway.quic", "quic = false", "quic = true"),
    ("gateway.link_port_base", "= 10140", "= 10150"),
    ("gateway.https_port_base", "= 10124", "= 10134"),
    ("gateway.server_name", "gateway-{instance}", "g-{instance}"),
    ("gateway.https_name", "https_name = \"relay", "https_name = \"https"),
    ("gateway.instance", "instance = 1\n", "instance = 2\n"),
    ("gateway.port", "\nport = 1\n", "\nport = 3\n"),
    ("gateway.https_port", "https_port = 2\n", "https_port = 3\n"),
    ("link.certificate", "\"link.pem\" # of links", "\"link-2.pem\" # of links"),
    ("link.key", "\"link-key.pem\" # of links", "\"link-2-key.pem\" # of links"),
    ("link.site_ca", "site_ca = \"ca.pem\"", "site_ca = \"ca-2.pem\""),
    ("link.site_crl", "\"ca.crl\" # of links", "\"ca-2.crl\" # of links"),
    ("link.https_ca", "https_ca = \"ca.pem\"", "https_ca = \"other-ca.pem\""),
    ("clients.methods", "\"site-token\", \"entra\"]", "\"entra\", \"site-token\"]"),
    ("clients.strict", "strict = false", "strict = true"),
    ("clients.roots", "roots = \"ca.pem\"", "roots = \"other-ca.pem\""),
    ("clients.intermediates", "intermediates = \"ca.pem\"\n", ""),
    ("clients.revocation", "revocation_lists = [\"ca.crl\"]", "revocation = \"off\""),
    ("clients.revocation_lists", "[\"ca.crl\"]", "[\"ca.crl\", \"http://lists.example/a\"]"),
    ("clients.barred", "CN=a device", "CN=another device"),
    ("tenant.id", "id = \"0a1b2c3d", "id = \"1a1b2c3d"),
    ("tenant.application_id", "\"5d2f7a90", "\"6d2f7a90"),
    ("tenant.resource", "resource = \"https://ConfigMgr", "resource = \"https://Other"),
    ("tenant.enabled", "enabled = true", "enabled = false"),
    ("tenant.issuers", "[\"v1\"]", "[\"v2\"]"),
    ("tenant.audiences", "[\"https://ConfigMgrService\"]", "[\"https://OtherService\"]"),
    ("tenant.authority", "https://login.example", "https://other.example"),
    ("tenant.keys", "authority = \"https://login.example\"", "keys = \"keys.json\""),
    ("settings.version", "version = 1", "version = 2"),
    ("web_proxy.url", "proxy.example:3128", "proxy.example:3129"),
    ("web_proxy.user", "user = \"relay\"", "user = \"other\""),
    ("web_proxy.password_file", "\"proxy-password\"", "\"headers\""),
    ("web_proxy.bypass", "10.0.0.0/8", "11.0.0.0/8"),
    (
        "web_proxy.from_environment",
        "url = \"http://proxy.example:3128\"\nuser = \"relay\"\n\
         password_file = \"proxy-password\"\nbypass = [\"10.0.0.0/8\"]",
        "from_environment = true",
    ),
    ("admin.listen", "127.0.0.1:10180", "127.0.0.1:10190"),
    ("pki.ca", "ca = \"link.pem\"\n", "ca = \"link-2.pem\"\n"),
    ("pki.ca_key", "ca_key = \"link-key.pem\"", "ca_key = \"link-2-key.pem\""),
    ("tokens.folder", "\"tokens\"", "\"tokens-2\""),
    ("tokens.tenant", "tenant = \"0a1b2c3d", "tenant = \"1a1b2c3d"),
    ("tokens.store", "db.example/site", "db.example/other"),
    ("tokens.store_password_file", "\"store-password\"", "\"store-password-2\""),
    ("tokens.store_ca", "store_ca = \"ca.pem\"", "store_ca = \"other-ca.pem\""),
    ("tokens.unsafe_plain_store", "store_ca = \"ca.pem\"", "unsafe_plain_store = true"),
    ("token_service.role_id", "role_id = 8", "role_id = 9"),
    ("token_service.name", "\"token-service\"", "\"tokens-of-one\""),
    (
        "token_service.methods",
        "methods = [\"site-token\"] # of the service",
        "methods = [\"entra\"] # of the service",
    ),
    ("token_service.listen", "127.0.0.1:8444", "127.0.0.1:8445"),
    (
        "token_service.certificate",
        "\"link.pem\" # of the service",
        "\"link-2.pem\" # of the service",
    ),
    (
        "token_service.key",
        "\"link-key.pem\" # of the service",
        "\"link-2-key.pem\" # of the service",
    ),
    ("token_service.provider_ca", "provider_ca = \"ca.pem\"\n", ""),
    ("telemetry.endpoint", "collector.example", "other.example"),
    (
        "telemetry.ca",
        "ca = \"ca.pem\" # of the collector",
        "ca = \"other-ca.pem\" # of the collector",
    ),
    ("telemetry.headers_file", "headers_file = \"headers\"\n", ""),
    ("telemetry.sample_ratio", "= 0.5", "= 0.25"),
    ("telemetry.service_name", "\"service-one\"", "\"service-two\""),
    ("endpoint.name", "\"mp\"", "\"mp-2\""),
    ("endpoint.kind", "\"management-point\"", "\"software-update-point\""),
    ("endpoint.role_id", "role_id = 7", "role_id = 6"),
    (
        "endpoint.unsafe_allow_anonymous",
        "methods = [\"certificate\"]",
        "unsafe_allow_anonymous = true",
    ),
    ("endpoint.methods", "methods = [\"certificate\"]", "methods = [\"entra\"]"),
    ("endpoint.paths", "\"SMS_MP\"", "\"ccm_system\""),
    ("endpoint.request_body_bytes_max", "= 1000", "= 1001"),
    ("endpoint.strict_headers", "strict_headers = true\nallow_headers = [\"X-Site\"]\n", ""),
    ("endpoint.allow_headers", "\"X-Site\"", "\"X-Other\""),
    ("endpoint.backend", "https://mp.example", "https://mp-2.example"),
    ("endpoint.backend_ca", "backend_ca = \"ca.pem\"", "backend_ca = \"other-ca.pem\""),
    ("endpoint.backend_name", "mp.site.example", "mp-2.site.example"),
    ("endpoint.client_certificate", "\"link.pem\" # for backends", "\"link-2.pem\" # for backends"),
    ("endpoint.check.path", "\"/SMS_MP/.sms_aut\"", "\"/SMS_MP\""),
    ("endpoint.check.status", "= 200", "= 204"),
    ("endpoint.check.interval_seconds", "= 10\n", "= 11\n"),
    ("endpoint.check.timeout_seconds", "= 5\n", "= 6\n"),
];

/// The key of a certificate: what it shows is the certificate's, and changes with that.
const CLIENT_KEY: &str = "endpoint.client_key";

/// The certificates, keys and other files that [`FILE`] names, and those that it may name instead.
fn write_files(home: &Path) {
    let write = |name: &str, text: &str| fs::write(home.join(name), text).unwrap();
    let [ca, other] = ["one", "other"].map(|name| SiteCa::new(name).unwrap());
    let list = ca.revoke(None, &[], None).unwrap();
    let link = ca.issue_client("one").unwrap();
    write("other-ca.pem", &other.certificate_pem());
    for number in ["", "-2"] {
        write(&format!("ca{number}.pem"), &ca.certificate_pem());
        write(&format!("ca{number}.crl"), &list);
        write(&format!("link{number}.pem"), &link.certificate_pem());
        write(&format!("link{number}-key.pem"), &link.key_pem());
        write(&format!("store-password{number}"), "secret\n");
    }
    write("proxy-password", "secret\n");
    write("headers", "authorization: secret\n");
    let modulus = "_".repeat(341) + "w";
    let key = format!(r#"{{"kty":"RSA","kid":"1","use":"sig","e":"AQAB","n":"{modulus}"}}"#);
    write("keys.json", &format!("{{\"keys\":[{key}]}}"));
}

fn load(home: &Path, text: &str) -> LoadedConnectionPoint {
    let file = home.join("connection-point.toml");
    fs::write(&file, text).unwrap();
    load_connection_point(&file, &|_| None).unwrap_or_else(|error| panic!("{error}"))
}

/// What a connection point that runs takes of a file.
fn taken(loaded: &LoadedConnectionPoint) -> String {
    let service = loaded.token_service.as_ref().map(|it| &it.endpoint);
    let Update { gateways, endpoints, tenants, clients, settings_version } =
        Update::from(loaded.config.clone());
    let endpoints = endpoints.iter().map(|it| {
        let to = &it.backend;
        format!("{:?} {:?} {:?} {:?} {:?}", it.endpoint, to.urls, to.name, to.limits, to.check)
    });
    let endpoints: Vec<_> = endpoints.collect();
    let files = &loaded.backend_files;
    format!("{:?}", (service, gateways, endpoints, files, tenants, clients, settings_version))
}

fn takes_effect(before: &LoadedConnectionPoint, now: &LoadedConnectionPoint) -> TakesEffect {
    if Fixed::of(before).refusal(&Fixed::of(now)).is_some() {
        TakesEffect::RefusedUntilStart
    } else if taken(before) != taken(now) {
        TakesEffect::AtOnce
    } else {
        TakesEffect::AtNextStart
    }
}

#[test]
fn each_key_takes_effect_when_it_is_said_to() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    write_files(home);
    let (from, to) = (FILE.find("[gateway]").unwrap(), FILE.find("[link]").unwrap());
    let listed = format!("{}{LIST}{}", &FILE[..from], &FILE[to..]);
    let files = [FILE, &listed].map(|text| (text, load(home, text)));
    let mut found = BTreeMap::from([(CLIENT_KEY, TakesEffect::AtOnce)]);
    for (key, part, by) in CHANGES {
        let has_it = |(text, _): &&(&str, _)| text.matches(part).count() == 1;
        let (text, before) = files.iter().find(has_it).unwrap_or_else(|| panic!("{key}: {part}"));
        let now = load(home, &text.replace(part, by));
        assert_eq!(found.insert(*key, takes_effect(before, &now)), None, "{key} is there once");
    }
    let (_, before) = &files[0];
    for (key, _) in CONNECTION_POINT_KEYS {
        let (table, last) = key.rsplit_once('.').unwrap_or_default();
        if !["limits", "endpoint.limits"].contains(&table) {
            continue;
        }
        // No default, and within the range of each.
        let number = if last == "link_memory_mebibytes" { 64 } else { 4 };
        let now = load(home, &format!("{FILE}\n[{table}]\n{last} = {number}\n"));
        assert_eq!(found.insert(*key, takes_effect(before, &now)), None, "{key} is there once");
    }
    assert_eq!(found, CONNECTION_POINT_KEYS.iter().copied().collect());
}
