use std::time::SystemTime;

use crate::config::testing::{Site, message};
use crate::connection_point::BackendConfig;
use crate::transport::NotShown;

const BACKEND: &str = "backend = \"http://127.0.0.1:8080\"";
const HTTPS: &str = "backend = \"https://mp.site\"\nbackend_ca = \"site-ca.pem\"\n";

/// The backends of an endpoint that has `lines` in place of its backend.
fn loaded_at(site: &Site, lines: &str) -> Result<BackendConfig, crate::config::ConfigError> {
    let loaded = site.connection_point_with(|text| text.replace(BACKEND, lines));
    loaded.map(|loaded| loaded.config.endpoints[0].backend.clone())
}

fn loaded(lines: &str) -> BackendConfig {
    loaded_at(&Site::new(), lines).unwrap_or_else(|error| panic!("{error}"))
}

/// The message that `lines` are refused with, which begins with `problem` and shows `place`.
#[track_caller]
fn refused(lines: &str, problem: &str, place: &str) {
    let text = message(loaded_at(&Site::new(), lines));
    assert!(text.starts_with(problem), "{text}");
    assert!(text.contains(&format!("connection-point.toml:{place}\n")), "{text}");
}

#[test]
fn one_to_sixteen_backends_are_taken_and_each_fault_is_shown_where_it_is() {
    let list = |count: usize| {
        let urls = (1..=count).map(|port| format!("\"http://mp.site:{port}\""));
        format!("backend = [{}]", urls.collect::<Vec<_>>().join(", "))
    };
    for count in [1, 2, 16] {
        assert_eq!(loaded(&list(count)).urls.len(), count);
    }
    refused(&list(0), "an endpoint has 1 to 16 backends, not 0", "20:11");
    refused(&list(17), "an endpoint has 1 to 16 backends, not 17", "20:11");
    let pair = |other: &str| format!("backend = [\"http://a\", \"{other}\"]");
    refused(&pair("http://a"), "this backend is listed twice", "20:24");
    refused(&pair("https://b"), "the backends of one endpoint are all http or all", "20:24");
    refused(&pair("b"), "this is not the URL of a backend", "20:24");
    let text = message(loaded_at(&Site::new(), &pair("http://user:secret@b")));
    assert!(!text.contains("secret"), "{text}");
    refused("backend = 1", "wrong type", "20:11");
}

#[test]
fn a_name_is_a_host_name_and_nothing_else() {
    let with = |name: &str| format!("{BACKEND}\nbackend_name = \"{name}\"");
    assert_eq!(loaded(&with("mp.site")).name.unwrap().as_ref(), "mp.site");
    for bad in ["", "http://mp.site", "mp.site:80", "mp site", "10.0.0.1/8"] {
        refused(&with(bad), "this is not a host name", "21:16");
    }
}

#[test]
fn limits_of_an_endpoint_are_its_own_and_judged_as_those_of_all() {
    let keys = [
        ("backend_connect_seconds", 1, 60),
        ("backend_answer_seconds", 1, 3600),
        ("backend_connections_max", 1, 65_536),
        ("backend_idle_max", 0, 65_536),
        ("backend_idle_seconds", 1, 3600),
        ("backend_wait_max", 0, 65_536),
        ("backend_wait_seconds", 1, 300),
        ("backend_failures_max", 1, 1000),
        ("backend_rest_seconds", 1, 300),
    ];
    let with = |key: &str, value: i64| format!("{BACKEND}\n[endpoint.limits]\n{key} = {value}");
    for (key, low, high) in keys {
        loaded(&with(key, low));
        loaded(&with(key, high));
        for bad in [low - 1, high + 1] {
            let column = key.len() + 4;
            refused(&with(key, bad), &format!("`{key}` is {bad}, which"), &format!("22:{column}"));
        }
    }
    let numbered = (2..).zip(keys).map(|(value, (key, ..))| format!("{key} = {value}\n"));
    let lines = format!("{BACKEND}\n[endpoint.limits]\n{}", numbered.collect::<String>());
    let limits = loaded(&lines).limits;
    let seconds = [limits.connect, limits.answer, limits.idle, limits.wait, limits.rest];
    assert_eq!(seconds.map(|time| time.unwrap().as_secs()), [2, 3, 6, 8, 10]);
    let counts = [limits.connections_max, limits.idle_max, limits.wait_max];
    assert_eq!((counts.map(Option::unwrap), limits.failures_max), ([4, 5, 7], Some(9)));
    refused(&with("backend_conect_seconds", 1), "unknown key `backend_conect_seconds`", "22:1");
}

#[test]
fn a_check_needs_a_path_and_has_defaults_for_the_rest() {
    let with = |lines: &str| format!("{BACKEND}\n[endpoint.check]\n{lines}");
    let check = loaded(&with("path = \"/SMS_MP/.sms_aut?MPLIST\"")).check.unwrap();
    assert_eq!(check.path, "/SMS_MP/.sms_aut?MPLIST");
    assert_eq!((check.status, check.interval.as_secs(), check.timeout.as_secs()), (200, 10, 5));
    let all = "path = \"/\"\nstatus = 401\ninterval_seconds = 3\ntimeout_seconds = 2";
    let check = loaded(&with(all)).check.unwrap();
    assert_eq!((check.status, check.interval.as_secs(), check.timeout.as_secs()), (401, 3, 2));
    for bad in ["", "SMS_MP", "/a b", "http://mp/"] {
        refused(&with(&format!("path = \"{bad}\"")), "this is not a path", "22:8");
    }
    refused(&with("path = \"/\"\nstatus = 199"), "`status` is 199", "23:10");
    refused(&with("path = \"/\"\nstatus = 600"), "`status` is 600", "23:10");
    refused(&with("status = 200"), "key `path` is missing", "21:1");
    assert!(loaded(BACKEND).check.is_none(), "off unless it is asked for");
}

#[test]
fn a_client_certificate_comes_with_its_key_and_is_for_https_alone() {
    let pair = "client_certificate = \"link.pem\"\nclient_key = \"link-key.pem\"";
    let certificates = loaded(&format!("{HTTPS}{pair}")).certificates.unwrap();
    let verdicts = certificates.verdicts(SystemTime::now());
    assert_eq!((&*verdicts[0].name, &verdicts[0].why_not), ("link.pem", &None));
    assert!(loaded(HTTPS).certificates.unwrap().is_empty());
    refused(&format!("{BACKEND}\n{pair}"), "an http backend asks for no certificate", "21:22");
    let line = |text: &str| format!("{HTTPS}{text}");
    refused(&line("client_key = \"link-key.pem\""), "there is a key, and no certificate", "22:14");
    refused(&line("client_certificate = \"link.pem\""), "there is a certificate, and no", "22:22");
    refused(
        &line("client_certificate = \"link.pem\"\nclient_key = \"links-key.pem\""),
        "private key `links-key.pem` does not belong",
        "23:14",
    );
    refused(
        &line("client_certificate = \"absent.pem\"\nclient_key = \"link-key.pem\""),
        "cannot read the certificate `",
        "22:22",
    );
    let both = "[\"link.pem\", \"links.pem\"]\nclient_key = [\"link-key.pem\"";
    refused(&line(&format!("client_certificate = {both}]")), "1 keys for 2 certificates", "23:14");
    let list = format!("client_certificate = {both}, \"links-key.pem\"]");
    let certificates = loaded(&line(&list)).certificates.unwrap();
    assert_eq!(certificates.verdicts(SystemTime::now()).len(), 2);
    let wrong = format!("client_certificate = {both}, \"link-key.pem\"]");
    refused(&line(&wrong), "private key `link-key.pem` does not belong", "23:31");
}

#[test]
fn every_pair_of_a_folder_is_a_candidate_and_what_cannot_be_used_says_why() {
    let site = Site::new();
    let folder = site.path("candidates");
    std::fs::create_dir(&folder).unwrap();
    let lines = format!("{HTTPS}client_certificate = \"candidates\"");
    let text = message(loaded_at(&site, &lines));
    assert!(text.contains("candidates` holds 0 certificates\n"), "{text}");
    for (from, to) in [
        ("link.pem", "a.pem"),
        ("link-key.pem", "a-key.pem"),
        ("link.pem", "b.pem"),
        ("links-key.pem", "b-key.pem"),
        ("link.pem", "c.pem"),
        ("link.pem", "d.txt"),
    ] {
        std::fs::copy(site.path(from), folder.join(to)).unwrap();
    }
    let certificates = loaded_at(&site, &lines).unwrap().certificates.unwrap();
    let verdicts = certificates.verdicts(SystemTime::now());
    let names: Vec<_> = verdicts.iter().map(|verdict| &*verdict.name).collect();
    assert_eq!(names, ["a.pem", "b.pem", "c.pem"]);
    assert_eq!(verdicts[0].why_not, None);
    let Some(NotShown::Unusable(why)) = &verdicts[1].why_not else { panic!("{verdicts:?}") };
    assert!(why.contains("do not make an identity"), "{why}");
    let Some(NotShown::Unusable(why)) = &verdicts[2].why_not else { panic!("{verdicts:?}") };
    assert!(why.contains("cannot read private key from"), "{why}");
}

#[cfg(unix)]
#[test]
fn a_key_in_a_folder_that_others_may_read_is_warned_of_as_one_that_is_named() {
    use std::os::unix::fs::PermissionsExt as _;

    let site = Site::new();
    let folder = site.path("candidates");
    std::fs::create_dir(&folder).unwrap();
    for (from, to) in [("link.pem", "a.pem"), ("link-key.pem", "a-key.pem")] {
        std::fs::copy(site.path(from), folder.join(to)).unwrap();
    }
    let named = "client_certificate = \"candidates/a.pem\"\nclient_key = \"candidates/a-key.pem\"";
    for lines in ["client_certificate = \"candidates\"", named] {
        for (mode, is_warned) in [(0o600, false), (0o640, false), (0o641, true), (0o604, true)] {
            let mode = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(folder.join("a-key.pem"), mode.clone()).unwrap();
            let lines = format!("{HTTPS}{lines}");
            let loaded = site.connection_point_with(|text| text.replace(BACKEND, &lines)).unwrap();
            let warned = loaded.warnings.iter().map(ToString::to_string);
            let warned = warned.filter(|it| it.contains("a-key.pem has mode")).count();
            assert_eq!(warned, usize::from(is_warned), "{mode:?} {lines}");
        }
    }
}

#[test]
fn a_file_that_is_read_again_makes_a_backend_that_is_the_same() {
    let site = Site::new();
    let lines = format!("{HTTPS}client_certificate = \"link.pem\"\nclient_key = \"link-key.pem\"");
    let [one, other] = [0, 1].map(|_| loaded_at(&site, &lines).unwrap());
    assert!(one.trust.unwrap().are_those_of(&other.trust.unwrap()));
    assert!(one.certificates.unwrap().are_those_of(&other.certificates.unwrap()));
}
