//! Whose clients count, as files say it.

#![allow(clippy::indexing_slicing, reason = "a place outside is a failed test")]

use crate::auth::{Issuer, Method, Methods};
use crate::config::testing::{Site, message};
use crate::config::{ConfigError, LoadedConnectionPoint, Warning};
use crate::policy::Access;
use crate::settings::{BARRED_MAX, KeySource, ListSource, Revocation};

const ANONYMOUS: &str = "unsafe_allow_anonymous = true\n";

const CERTIFICATES: &str =
    "\n[clients]\nroots = \"site-ca.pem\"\nrevocation_lists = [\"site-ca.crl\"]\n";

const TENANT: &str = "\n[[tenant]]\nid = \"0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9\"\n\
     application_id = \"5d2f7a90-0c4e-4b7e-9a53-2f1c66a0b1d4\"\n\
     resource = \"https://ConfigMgrService\"\n";

/// The file with `endpoint` in place of what lets anybody in, and `more` at its end.
fn load(endpoint: &str, more: &str) -> Result<LoadedConnectionPoint, ConfigError> {
    Site::new().connection_point_with(|text| {
        assert!(text.contains(ANONYMOUS));
        text.replace(ANONYMOUS, endpoint) + more
    })
}

fn methods(of: &[Method]) -> Methods {
    Methods::new(of).unwrap()
}

#[test]
fn an_endpoint_is_for_clients_of_all_methods_that_the_site_has_set_up() {
    for (more, counted) in [
        (CERTIFICATES.to_owned(), &[Method::Certificate][..]),
        (TENANT.to_owned(), &[Method::Entra]),
        (format!("{CERTIFICATES}{TENANT}"), &[Method::Entra, Method::Certificate]),
    ] {
        let config = load("", &more).unwrap().config;
        let clients = config.clients.unwrap();
        assert_eq!(clients.methods, methods(counted), "{more}");
        let access = config.endpoints[0].endpoint.access;
        assert_eq!(access, Access::Clients(Methods::default()));
    }
}

#[test]
fn what_is_written_of_certificates_is_published() {
    let config = load("", CERTIFICATES).unwrap().config;
    let certificates = config.clients.unwrap().certificates.unwrap();
    assert_eq!((certificates.roots.len(), certificates.intermediates.len()), (1, 0));
    let Revocation::On(lists) = certificates.revocation else { panic!("it is on") };
    assert!(matches!(lists[..], [ListSource::Der(_)]), "{lists:?}");
    let more = CERTIFICATES.replace("\"site-ca.crl\"", "\"http://pki.example/ca.crl\"");
    let certificates = load("", &more).unwrap().config.clients.unwrap().certificates.unwrap();
    let url = "http://pki.example/ca.crl".to_owned();
    assert_eq!(certificates.revocation, Revocation::On(vec![ListSource::Url(url)]));
    let more = "\n[clients]\nroots = \"site-ca.pem\"\nrevocation = \"off\"\n";
    let certificates = load("", more).unwrap().config.clients.unwrap().certificates.unwrap();
    assert_eq!(certificates.revocation, Revocation::Off);
}

#[test]
fn the_files_that_are_published_are_named_and_their_lists_warned_of() {
    let site = Site::new();
    let load = |more: &str| {
        let with = |text: &str| text.replace(ANONYMOUS, "") + more;
        site.connection_point_with(with).unwrap()
    };
    let good = load(CERTIFICATES);
    let files = ["site-ca.pem", "site-ca.crl"].map(|name| site.path(name));
    assert_eq!(good.client_files.files, files);
    assert_eq!(good.client_files.lists.len(), 1);
    assert_eq!(good.warnings, []);
    let over = load(&CERTIFICATES.replace("site-ca.crl", "over.crl"));
    assert_eq!(over.warnings, [Warning::ClientListOver { file: site.path("over.crl") }]);
    let urls = CERTIFICATES.replace("site-ca.crl", "http://pki.example/ca.crl");
    assert_eq!(load(&urls).client_files.lists, []);
}

#[test]
fn a_tenant_has_its_defaults_or_what_is_written() {
    let trust = load("", TENANT).unwrap().config.clients.unwrap().tenants;
    let [tenant] = &trust[..] else { panic!("one") };
    assert!(tenant.is_enabled);
    assert_eq!(tenant.issuers, [Issuer::V1]);
    assert_eq!(tenant.audiences, ["https://ConfigMgrService"]);
    let public = "https://login.microsoftonline.com".to_owned();
    assert_eq!(tenant.keys, KeySource::Authority(public));

    let more = format!(
        "{TENANT}enabled = false\nissuers = [\"v2\", \"government\"]\naudiences = [\"a\", \"b\"]\n"
    );
    let trust = load("", &more).unwrap().config.clients.unwrap().tenants;
    let [tenant] = &trust[..] else { panic!("one") };
    assert!(!tenant.is_enabled);
    assert_eq!(tenant.issuers, [Issuer::V2, Issuer::Government]);
    assert_eq!(tenant.audiences, ["a", "b"]);
    let government = "https://login.microsoftonline.us".to_owned();
    assert_eq!(tenant.keys, KeySource::Authority(government));
    let own = "https://login.example".to_owned();
    let more = format!("{TENANT}authority = \"{own}\"\n");
    let trust = load("", &more).unwrap().config.clients.unwrap().tenants;
    assert_eq!(trust[0].keys, KeySource::Authority(own));
}

#[test]
fn an_endpoint_may_allow_some_methods_only() {
    let more = format!("{CERTIFICATES}{TENANT}");
    let config = load("methods = [\"certificate\"]\n", &more).unwrap().config;
    let access = config.endpoints[0].endpoint.access;
    assert_eq!(access, Access::Clients(methods(&[Method::Certificate])));
    let order = "\n[clients]\nmethods = [\"certificate\", \"entra\"]\n";
    let more = CERTIFICATES.replace("\n[clients]\n", order) + TENANT;
    let clients = load("", &more).unwrap().config.clients.unwrap();
    assert_eq!(clients.methods, methods(&[Method::Certificate, Method::Entra]));
}

/// Asserts that each file is refused, with a problem and help that hold these texts.
fn assert_refused<const N: usize>(table: [(&str, String, &str, &str); N]) {
    for (endpoint, more, problem, help) in table {
        let told = message(load(endpoint, &more));
        assert!(told.contains(problem) && told.contains(help), "{endpoint}{more}: {told}");
    }
}

#[test]
fn what_nobody_could_mean_is_refused_with_what_to_do() {
    let certificates = |line: &str| format!("{CERTIFICATES}{line}\n");
    let table = [
        ("", String::new(), "endpoint `mp` cannot authenticate its clients", "[clients]"),
        ("methods = []\n", TENANT.to_owned(), "at least one method is needed", "at most once"),
        (
            "methods = [\"entra\", \"entra\"]\n",
            TENANT.to_owned(),
            "method entra is listed twice",
            "at most once",
        ),
        (
            "methods = [\"certificate\"]\n",
            TENANT.to_owned(),
            "none of these methods counts at this site",
            "sets up",
        ),
        (
            "methods = [\"entra\"]\nunsafe_allow_anonymous = true\n",
            TENANT.to_owned(),
            "this endpoint is for anybody",
            "remove",
        ),
        (
            "",
            "\n[clients]\nmethods = [\"site-token\"]\n".to_owned(),
            "no client could ever show who it is by this method",
            "add `[tokens]`",
        ),
        ("", "\n[clients]\nrevocation = \"on\"\n".to_owned(), "and none counts", "add `roots`"),
        (
            "",
            "\n[clients]\nroots = \"site-ca.pem\"\n".to_owned(),
            "without a revocation list every certificate of a client is refused",
            "revocation = \"off\"",
        ),
        (
            "",
            certificates("revocation = \"off\""),
            "nobody would look at them",
            "remove `revocation",
        ),
        (
            "",
            CERTIFICATES.replace("site-ca.crl", "absent.crl"),
            "cannot read the revocation list",
            "check the path",
        ),
        (
            "",
            CERTIFICATES.replace("site-ca.crl", "site-ca.pem"),
            "holds no revocation list",
            "X509 CRL",
        ),
        (
            "",
            CERTIFICATES.replace("site-ca.pem", "absent.pem"),
            "cannot read the certificate",
            "check the path",
        ),
    ];
    assert_refused(table);
}

#[test]
fn what_a_tenant_cannot_be_is_refused_with_what_to_do() {
    let tenant = |line: &str| format!("{TENANT}{line}\n");
    let table = [
        ("", tenant("issuers = []"), "one issuer at least", "\"v1\""),
        ("", tenant("issuers = [\"v1\", \"v1\"]"), "one issuer at least", "\"v1\""),
        ("", tenant("issuers = [\"v1\", \"v2\", \"v1\"]"), "one issuer at least", "\"v1\""),
        ("", tenant("keys = \"absent.json\""), "cannot read the key set", "check the path"),
        ("", tenant("keys = \"site-ca.pem\""), "is no key set", "jwks_uri"),
        (
            "",
            tenant("keys = \"keys.json\"\nauthority = \"https://a\""),
            "are not fetched as well",
            "remove",
        ),
        ("", tenant("authority = \"http://a\""), "is not the https:// URL of an authority", ""),
    ];
    assert_refused(table);
}

#[test]
fn a_file_of_what_is_published_that_changes_raises_the_version() {
    let site = Site::new();
    let load = || {
        let loaded =
            site.connection_point_with(|text| text.replace(ANONYMOUS, "") + CERTIFICATES).unwrap();
        loaded.config.settings_version
    };
    let before = load();
    let list = std::fs::File::options().write(true).open(site.path("site-ca.crl")).unwrap();
    let later = std::time::SystemTime::now() + std::time::Duration::from_mins(1);
    list.set_modified(later).unwrap();
    let after = load();
    let later = later.duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    assert!(before < after);
    assert_eq!(u128::from(after), later);
}

#[cfg(unix)]
#[test]
fn a_file_that_was_delivered_with_the_time_of_its_origin_raises_the_version_too() {
    use std::time::{Duration, UNIX_EPOCH};
    let site = Site::new();
    site.connection_point_with(|text| text.replace(ANONYMOUS, "") + CERTIFICATES).unwrap();
    let list = site.path("site-ca.crl");
    std::fs::write(&list, std::fs::read(&list).unwrap()).unwrap();
    // By the clock of the file system.
    let delivered = std::fs::metadata(&list).unwrap().modified().unwrap();
    let long_ago = UNIX_EPOCH + Duration::from_millis(1_577_836_800_123);
    for name in ["site-ca.pem", "site-ca.crl", "connection-point.toml"] {
        let file = std::fs::File::options().append(true).open(site.path(name)).unwrap();
        file.set_modified(long_ago).unwrap();
    }
    let file = site.path("connection-point.toml");
    let loaded = crate::config::load_connection_point(&file, &|_| None).unwrap();
    let delivered = delivered.duration_since(UNIX_EPOCH).unwrap().as_millis();
    assert!(u128::from(loaded.config.settings_version) >= delivered);
}

/// Tokens of several connection points.
const SHARED_TOKENS: &str = "\n[tokens]\nfolder = \"tokens\"\n\
    tenant = \"0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9\"\n\
    store = \"postgres://relay@127.0.0.1/site\"\n";

#[test]
fn a_version_that_is_written_is_warned_of_where_files_are_published_that_may_change() {
    let site = Site::new();
    let warnings = |more: &str| {
        let with = |text: &str| text.replace(ANONYMOUS, "") + more;
        site.connection_point_with(with).unwrap().warnings
    };
    let written = |table: &str| warnings(&format!("{table}\n[settings]\nversion = 1\n"));
    let [Warning::VersionWritten { file, line: 26 }] = &written(CERTIFICATES)[..] else {
        panic!("{:?}", written(CERTIFICATES));
    };
    assert_eq!(*file, site.path("connection-point.toml"));
    assert_eq!(written(TENANT), [], "its keys are in no file");
    assert_eq!(warnings(CERTIFICATES), []);

    // Connection points that share a store have one version in common.
    let shared = format!("{CERTIFICATES}{SHARED_TOKENS}");
    assert_eq!(written(&shared), []);
    let [Warning::VersionNotWritten { file }] = &warnings(&shared)[..] else {
        panic!("{:?}", warnings(&shared));
    };
    assert_eq!(*file, site.path("connection-point.toml"));
    let own = SHARED_TOKENS.replace("store = ", "# store = ");
    assert_eq!(warnings(&format!("{CERTIFICATES}{own}")), []);
}

#[test]
fn clients_that_are_barred_are_named_by_method_and_name() {
    let load = |barred: &str| load("", &format!("{CERTIFICATES}barred = {barred}\n"));
    let trust = load("[\"certificate:CN=a device\", \"site-token:client x\"]").unwrap();
    let barred = trust.config.clients.unwrap().barred;
    assert_eq!((barred[0].method, &*barred[0].name), (Method::Certificate, "CN=a device"));
    assert_eq!(barred[1].to_string(), "site-token:client x");
    assert!(self::load("", CERTIFICATES).unwrap().config.clients.unwrap().barred.is_empty());
    for wrong in ["CN=a device", "card:CN=a device", "certificate:", ""] {
        let text = message(load(&format!("[\"{wrong}\"]")));
        assert!(text.starts_with("this names no client"), "{wrong}: {text}");
    }
    let many = |count| format!("[{}]", "\"entra:x\",".repeat(count));
    assert_eq!(load(&many(BARRED_MAX)).unwrap().config.clients.unwrap().barred.len(), BARRED_MAX);
    let text = message(load(&many(BARRED_MAX + 1)));
    assert!(text.starts_with("16385 clients are barred, and may be 16384"), "{text}");
}
