//! One layer is broken, and exactly the check of that layer fails.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use crate::support::site::{HTTPS_ROLE, SERVICE};
use crate::support::tenant::Tenant;

use super::bed::{Bed, VERSION, Wrong, authority, reaching, tls_server};
use super::*;

/// The name and everything up to the first octet of an answer, each broken by itself.
#[test]
fn what_is_wrong_before_a_gateway_answers_fails_the_first_checks() {
    let bed = Bed::connected(|text| text);
    let port = bed.clients[0].port();

    let nowhere = ["https://relay.invalid", "--ca", "site/site-ca/site-ca.pem"];
    let nowhere: Vec<_> = nowhere.into_iter().map(str::to_owned).collect();
    let found = bed.analyze(&nowhere, &["--timeout", "5"]);
    expect(&found, "sfssss", &["name_unresolved"]);
    assert_eq!(waits(&found.1), [(1, 2), (3, 2), (4, 2), (5, 2), (6, 2)]);

    let mut other = reaching(&[]);
    other[0] = "https://other.example".to_owned();
    other.extend(["--resolve".to_owned(), format!("other.example:127.0.0.1:{port}")]);
    let found = bed.analyze(&other, &[]);
    expect(&found, "pfssss", &["tls_wrong_name"]);

    std::fs::write(bed.path("other-ca.pem"), authority().pem()).unwrap();
    let mut strange = reaching(&bed.clients);
    strange[2] = "other-ca.pem".to_owned();
    expect(&bed.analyze(&strange, &[]), "pfssss", &["tls_untrusted"]);

    let (at, ca) = tls_server(SERVICE, Wrong::Expired);
    std::fs::write(bed.path("expired-ca.pem"), ca).unwrap();
    let mut expired = reaching(&[at]);
    expired[2] = "expired-ca.pem".to_owned();
    let found = bed.analyze(&expired, &[]);
    expect(&found, "pfssss", &["tls_not_valid_now"]);
    assert_eq!(waits(&found.1), [(3, 2), (4, 2), (5, 2), (6, 2)]);
}

#[test]
fn a_port_that_is_shut_fails_the_first_check_whether_it_refuses_or_says_nothing() {
    let bed = Bed::connected(|text| text);
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let found = bed.analyze(&reaching(&[free]), &[]);
    expect(&found, "fsssss", &["port_closed"]);
    assert_eq!(waits(&found.1), [(2, 1), (3, 1), (4, 1), (5, 1), (6, 1)]);

    // Of two instances, one: the other is judged all the same.
    let mut half = bed.usual();
    half.extend(["--resolve".to_owned(), format!("{SERVICE}:{free}")]);
    expect(&bed.analyze(&half, &[]), "fppppp", &["port_closed"]);

    let (silent, _held) = silent();
    let found = bed.analyze(&impatient(silent), &[]);
    expect(&found, "fsssss", &["port_silent"]);

    // It takes connections, and never a word of TLS.
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let found = bed.analyze(&impatient(mute.local_addr().unwrap()), &[]);
    expect(&found, "pfssss", &["gateway_silent"]);
}

#[test]
fn an_instance_that_was_stopped_fails_the_first_check_by_that_name() {
    let mut bed = Bed::connected(|text| text);
    crate::admin::ask(&["service", "stop"], bed.gateways[0].admin());
    let found = bed.analyze(&reaching(&bed.clients[..1]), &[]);
    expect(&found, "fpssss", &["service_stopped"]);
    assert_eq!(waits(&found.1), [(3, 1), (4, 1), (5, 1), (6, 1)]);
    // Of two instances, one: the other is judged all the same.
    expect(&bed.analyze(&bed.usual(), &[]), "fppppp", &["service_stopped"]);
}

/// As [`reaching`] one address, of somebody who waits for a second at most.
fn impatient(address: SocketAddr) -> Vec<String> {
    let mut args = reaching(&[address]);
    let seconds = args.iter().position(|it| it == "--timeout").unwrap() + 1;
    "1".clone_into(&mut args[seconds]);
    args
}

/// A port whose queue of connections is full: the kernel drops what asks for another.
fn silent() -> (SocketAddr, (TcpListener, Vec<TcpStream>)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _inside = runtime.enter();
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let listener = socket.listen(0).unwrap().into_std().unwrap();
    let at = listener.local_addr().unwrap();
    let connect = || TcpStream::connect_timeout(&at, Duration::from_millis(200)).ok();
    let held = std::iter::repeat_with(connect).take(16).map_while(|stream| stream);
    (at, (listener, held.collect()))
}

#[test]
fn without_a_connection_point_the_fourth_check_fails() {
    let bed = Bed::deserted(|text| text);
    let found = bed.analyze(&bed.usual(), &[]);
    expect(&found, "ppsfss", &["no_connection_point"]);
    assert_eq!(waits(&found.1), [(3, 4), (5, 4), (6, 4)]);

    // One that was there and went: what it has told holds.
    let mut bed = bed.with_connection_point();
    expect(&bed.analyze(&bed.usual(), &[]), "pppppp", &[]);
    bed.points[0].kill();
    for gateway in &mut bed.gateways {
        gateway.wait_for_log("\"message\":\"link down\"", 2);
    }
    let found = bed.analyze(&bed.usual(), &[]);
    expect(&found, "pppfps", &["no_connection_point"]);
    assert_eq!(waits(&found.1), [(6, 4)]);
}

#[test]
fn an_instance_with_older_settings_than_the_other_fails_the_third_check() {
    let mut bed = Bed::deserted(|text| text);
    bed.site.add_connection_point();
    bed.site.edit("connection-point-2/connection-point.toml", |text| {
        text.replace("127.0.0.1:10190", "127.0.0.1:0")
    });
    bed.dial_only("connection-point-2", 2);
    bed.dial_only("connection-point", 1);
    bed.site.edit("connection-point/connection-point.toml", |text| {
        let version = format!("version = {VERSION}\n");
        text.replace(&version, &format!("version = {}\n", VERSION + 1))
    });
    for (gateway, folder) in bed.gateways.iter_mut().zip(["connection-point", "connection-point-2"])
    {
        bed.points.push(bed.site.start_connection_point_in(folder));
        gateway.wait_for_log("settings applied", 1);
    }

    let found = bed.analyze(&bed.usual(), &[]);
    expect(&found, "ppfppp", &["version_differs"]);
    let means = found.1["checks"][2]["causes"][0]["means"].as_str().unwrap();
    assert!(means.starts_with("instance 2 has version 7 of site default"), "{means}");
    // The running connection point says what it publishes, and an administrator what he expects.
    let admin = bed.points[0].admin().to_string();
    expect(&bed.analyze(&bed.usual(), &["--admin", &admin]), "ppfppp", &["version_differs"]);
    let found = bed.analyze(&bed.usual(), &["--expect-version", "9"]);
    expect(&found, "ppfppp", &["version_differs"]);
    assert_eq!(found.1["checks"][2]["causes"].as_array().unwrap().len(), 2, "both are told");
}

#[test]
fn without_a_management_point_the_fifth_check_fails_and_the_sixth_waits() {
    let bed = Bed::connected(|text| {
        text.replace("\"management-point\"\n", "\"software-update-point\"\n")
    });
    let found = bed.analyze(&bed.usual(), &["--endpoint", &HTTPS_ROLE.to_string()]);
    expect(&found, "ppppfs", &["no_management_point"]);
    assert_eq!(waits(&found.1), [(6, 5)]);
}

#[test]
fn a_management_point_that_is_down_or_wants_a_certificate_fails_the_sixth_check() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let backend = format!("http://{free}");
    let bed = Bed::before(Some(&["--backend", &backend]), |text| text).with_connection_point();
    let found = bed.analyze(&bed.usual(), &[]);
    expect(&found, "pppppf", &["management_point_down"]);

    let (at, ca) = tls_server("127.0.0.1", Wrong::WantsCertificate);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mp-ca.pem");
    std::fs::write(&file, ca).unwrap();
    let backend = ["--backend", &format!("https://{at}"), "--backend-ca", file.to_str().unwrap()];
    let bed = Bed::before(Some(&backend), |text| text).with_connection_point();
    let found = bed.analyze(&bed.usual(), &[]);
    expect(&found, "pppppf", &["management_point_wants_certificate"]);
}

#[test]
fn a_token_that_is_blocked_fails_the_sixth_check_by_that_name_where_an_instance_is_asked() {
    let mut bed = Bed::connected(|text| text);
    let issued = bed.token(&["new"]);
    bed.secret("bulk.token", issued["token"].as_str().unwrap());
    for gateway in &mut bed.gateways {
        gateway.wait_for_log("settings applied", 2);
    }
    let role = HTTPS_ROLE.to_string();
    let mut asking = reaching(&bed.clients);
    let shows = ["--token-file", "bulk.token", "--endpoint", &role];
    asking.extend(shows.map(str::to_owned));
    expect(&bed.analyze(&asking, &[]), "pppppf", &["token_for_registration_only"]);

    bed.token(&["block", issued["guid"].as_str().unwrap()]);
    for gateway in &mut bed.gateways {
        gateway.wait_for_log("settings applied", 3);
    }
    expect(&bed.analyze(&asking, &[]), "pppppf", &["token_refused"]);
    let admin: Vec<_> = bed.gateways.iter_mut().map(|it| it.admin().to_string()).collect();
    let found = bed.analyze(&asking, &["--admin", &admin[0], "--admin", &admin[1]]);
    expect(&found, "pppppf", &["token_blocked"]);
    let metrics = crate::admin::get(bed.gateways[0].admin(), "/metrics");
    let counted = "relay_authentications_total{method=\"site-token\",outcome=\"blocked\"} ";
    let (_, rest) = metrics.split_once(counted).expect("it is counted by method and reason");
    assert!(!rest.starts_with('0'), "{metrics}");
    // Nothing shown at all, and a secret that is no token.
    let bare = [&reaching(&bed.clients)[..], &["--endpoint".into(), role.clone()]].concat();
    expect(&bed.analyze(&bare, &[]), "pppppf", &["credential_missing"]);
    bed.secret("bulk.token", bed::SECRET);
    expect(&bed.analyze(&asking, &[]), "pppppf", &["token_refused"]);
}

#[test]
fn a_token_of_entra_for_another_service_or_of_a_tenant_that_is_off_fails_the_sixth_check() {
    let tenant = Tenant::new();
    let folder = tempfile::tempdir().unwrap();
    let table = tenant.onboarded(&folder.path().join("keys.json"));
    let mut bed = Bed::connected(|text| text + &table);
    let admins = bed.gateways.iter_mut().map(|it| it.admin().to_string());
    let admins: Vec<_> = admins.flat_map(|at| ["--admin".to_owned(), at]).collect();
    let role = HTTPS_ROLE.to_string();
    let mut asking = reaching(&bed.clients);
    let shows = ["--token-file", "entra.token", "--endpoint", &role];
    asking.extend(shows.map(str::to_owned));
    let with_admins = [&asking[..], &admins].concat();
    bed.secret("entra.token", &tenant.token());
    expect(&bed.analyze(&asking, &[]), "pppppp", &[]);

    bed.secret("entra.token", &tenant.token_for("https://another.example"));
    expect(&bed.analyze(&asking, &[]), "pppppf", &["token_refused"]);
    expect(&bed.analyze(&with_admins, &[]), "pppppf", &["token_audience"]);

    bed.site.edit("connection-point/connection-point.toml", |text| {
        let version = format!("version = {VERSION}\n");
        let text = text.replace(&version, &format!("version = {}\n", VERSION + 1));
        text.replace("\n[[tenant]]\n", "\n[[tenant]]\nenabled = false\n")
    });
    bed.points[0].signal("HUP");
    for gateway in &mut bed.gateways {
        gateway.wait_for_log("settings applied", 2);
    }
    bed.secret("entra.token", &tenant.token());
    expect(&bed.analyze(&asking, &[]), "pppppf", &["token_refused"]);
    expect(&bed.analyze(&with_admins, &[]), "pppppf", &["token_issuer"]);
}

#[test]
fn a_revocation_list_that_cannot_be_had_fails_the_sixth_check_and_is_named() {
    let nowhere = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let lists = format!("revocation_lists = [\"http://{nowhere}/a.crl\"]\n");
    let mut bed = Bed::connected(|text| text.replace("revocation = \"off\"\n", &lists));
    expect(&bed.analyze(&bed.usual(), &[]), "pppppf", &["certificate_refused"]);
    let admin: Vec<_> = bed.gateways.iter_mut().map(|it| it.admin().to_string()).collect();
    let found = bed.analyze(&bed.usual(), &["--admin", &admin[0], "--admin", &admin[1]]);
    expect(&found, "pppppf", &["revocation_list_unavailable"]);
}
