//! What an analysis looks like, its exit status, and what it is not asked to do.

use std::process::{Output, Stdio};

use crate::support::site::{HTTPS_ROLE, SERVICE};

use super::bed::reaching;
use super::*;

fn text(bed: &Bed, args: &[String], more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_relay"));
    command.arg("analyze").args(args).args(more).current_dir(bed.home.path());
    command.output().unwrap()
}

/// What differs from run to run, by what it is.
fn masked(bed: &Bed, text: &[u8]) -> String {
    let mut text = String::from_utf8(text.to_vec()).unwrap();
    for (number, (clients, links)) in (1..).zip(bed.clients.iter().zip(&bed.links)) {
        text = text.replace(&format!(":{}", clients.port()), &format!(":C{number}"));
        text = text.replace(&format!(":{}", links.port()), &format!(":L{number}"));
    }
    let mut masked = String::new();
    for line in text.lines() {
        let mut line = line.to_owned();
        if let Some((before, _)) = line.rsplit_once(" (").filter(|it| it.1.ends_with(" ms)")) {
            line = format!("{before} (N ms)");
        }
        if let Some((before, id)) = line.split_once("message id ") {
            line = format!("{before}message id ID{}", &id[36..]);
        }
        if let Some((before, days)) = line.split_once("holds for ") {
            let digits = days.chars().take_while(char::is_ascii_digit).count();
            let (rest, _) = days[digits..].split_once(", to 2").unwrap();
            line = format!("{before}holds for D{rest}, to END");
        }
        masked = masked + &line + "\n";
    }
    masked
}

#[test]
fn a_site_that_works_and_one_that_does_not_are_told_in_these_words() {
    let mut bed = Bed::connected(|text| text);
    // In the order of their ports, in which they are told.
    let numbers = if bed.clients[0] < bed.clients[1] { ["1", "2"] } else { ["2", "1"] };
    bed.clients.sort();
    let expected = |text: &str| {
        let text = text.replace("VERSION", concat!("version ", env!("CARGO_PKG_VERSION")));
        let text = text.replace("FIRST", numbers[0]).replace("SECOND", numbers[1]);
        text.replace("ROLE", &HTTPS_ROLE.to_string())
    };
    let admin = bed.points[0].admin().to_string();
    let done = text(&bed, &bed.usual(), &["--admin", &admin, "--color", "never"]);
    assert_eq!(masked(&bed, &done.stdout), expected(GOOD));
    assert_eq!((done.status.code(), done.stderr.len()), (Some(0), 0));

    bed.points[0].kill();
    for gateway in &mut bed.gateways {
        gateway.wait_for_log("\"message\":\"link down\"", 2);
    }
    let done = text(&bed, &reaching(&bed.clients[..1]), &["--color", "never"]);
    assert_eq!(masked(&bed, &done.stdout), expected(BAD));
    assert_eq!(done.status.code(), Some(1));
    let line = "error: https://relay.example: 4 passed, 1 failed, 1 skipped\n";
    assert_eq!(String::from_utf8(done.stderr).unwrap(), line);
}

const GOOD: &str = "\
pass     1  the service runs and takes connections
            TCP to 127.0.0.1:C1: taken (N ms)
            TCP to 127.0.0.1:C2: taken (N ms)
            TCP to the link port 127.0.0.1:L1 of instance 1: taken (N ms)
            TCP to the link port 127.0.0.1:L2 of instance 2: taken (N ms)
pass     2  the name leads to a gateway with the right certificate
            the addresses of relay.example: 127.0.0.1:C1, 127.0.0.1:C2 (N ms)
            ServiceMetadata of 127.0.0.1:C1: instance FIRST of relay.example, VERSION (N ms)
            the certificate of 127.0.0.1:C1: holds for D more days, to END
            ServiceMetadata of 127.0.0.1:C2: instance SECOND of relay.example, VERSION (N ms)
            the certificate of 127.0.0.1:C2: holds for D more days, to END
pass     3  every instance has the expected configuration
            the settings of instance FIRST: 7 of site default
            the settings of instance SECOND: 7 of site default
            the version of site default that is expected: 7 (what connection-point-1 publishes)
pass     4  a connection point is connected to every instance
            instance FIRST: a connection point is connected
            instance SECOND: a connection point is connected
            connection point connection-point-1: 4 of 4 places have a link (N ms)
pass     5  a management point is published
            instance FIRST: a management point is published
            instance SECOND: a management point is published
pass     6  the channel to each management point works
            management point ROLE over 127.0.0.1:C1: 200 by the management point, message id ID \
(N ms)
            management point ROLE over 127.0.0.1:C2: 200 by the management point, message id ID \
(N ms)

https://relay.example: 6 passed, 0 failed, 0 skipped
";

const BAD: &str = "\
pass     1  the service runs and takes connections
            TCP to 127.0.0.1:C1: taken (N ms)
pass     2  the name leads to a gateway with the right certificate
            the addresses of relay.example: 127.0.0.1:C1 (N ms)
            ServiceMetadata of 127.0.0.1:C1: instance FIRST of relay.example, VERSION (N ms)
            the certificate of 127.0.0.1:C1: holds for D more days, to END
pass     3  every instance has the expected configuration
            the settings of instance FIRST: 7 of site default
            the version of site default that is expected: 7 (the highest, of instance FIRST)
FAIL     4  a connection point is connected to every instance
            instance FIRST: no connection point is connected
            likely cause instance FIRST: no connection point is connected [no_connection_point]
            next         on its machine see that it runs; `relay status` there says for each \
instance why it has no link: a port, a certificate, a web proxy
pass     5  a management point is published
            instance FIRST: a management point is published
skipped  6  the channel to each management point works
            because      no instance that answers has a connection point (check 4)

https://relay.example: 4 passed, 1 failed, 1 skipped
";

#[test]
fn colour_is_for_those_who_ask_for_it() {
    let bed = Bed::deserted(|text| text);
    let args = reaching(&bed.clients);
    for (more, is_coloured) in [(&[][..], false), (&["--color", "always"], true)] {
        let shown = text(&bed, &args, more).stdout;
        assert_eq!(shown.contains(&b'\x1b'), is_coloured, "{more:?}");
    }
}

#[test]
fn what_nobody_has_asked_for_is_skipped_and_no_failure() {
    let bed = Bed::connected(|text| text);
    let found = bed.analyze(&reaching(&bed.clients), &[]);
    expect(&found, "ppppps", &[]);
    assert_eq!(waits(&found.1), [(6, 0)]);
    // A management point of the URL is asked without more ado.
    let mut args = bed.usual();
    args[0] = format!("https://{SERVICE}/CCM_Proxy_MutualAuth/{HTTPS_ROLE}");
    expect(&bed.analyze(&args, &[]), "pppppp", &[]);
}

#[test]
fn ctrl_c_ends_it_at_once_whatever_it_waits_for() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("ca.pem"), bed::authority().pem()).unwrap();
    // It takes a connection, and never answers.
    let mute = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", mute.local_addr().unwrap());
    let child = Command::new(env!("CARGO_BIN_EXE_relay"))
        .args(["analyze", &url, "--ca", "ca.pem", "--timeout", "3600"])
        .current_dir(home.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (_held, _) = mute.accept().unwrap();
    crate::support::signal::send(&child, "INT");
    let done = child.wait_with_output().unwrap();
    assert_eq!((done.status.code(), done.stdout.len()), (Some(1), 0));
    assert_eq!(String::from_utf8(done.stderr).unwrap(), "error: interrupted\n");
}

#[test]
fn a_command_line_that_cannot_be_followed_asks_nobody() {
    let home = tempfile::tempdir().unwrap();
    std::fs::write(home.path().join("none.pem"), "nothing").unwrap();
    for wrong in [
        &["https://relay.example"][..],
        &["https://relay.example", "--ca", "absent.pem"],
        &["https://relay.example", "--ca", "none.pem"],
        &["http://relay.example"],
        &["https://relay.example/elsewhere", "--ca", "none.pem"],
        &["http://127.0.0.1", "--certificate", "none.pem"],
        &["http://127.0.0.1", "--folder", "absent"],
        &["http://127.0.0.1", "--token-file", "absent"],
        &["http://127.0.0.1", "--admin", "here"],
        &["http://127.0.0.1", "--endpoint", "x"],
        &["http://127.0.0.1", "--endpoint", "7", "--path", "a b"],
        &["http://127.0.0.1", "--color", "red"],
    ] {
        let done = Command::new(env!("CARGO_BIN_EXE_relay"))
            .arg("analyze")
            .args(wrong)
            .current_dir(home.path())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        assert_eq!((done.status.code(), done.stdout.len()), (Some(2), 0), "{wrong:?}: {said}");
    }
    std::fs::write(home.path().join("wrong.toml"), "name = 1\n").unwrap();
    let done = Command::new(env!("CARGO_BIN_EXE_relay"))
        .args(["analyze", "http://127.0.0.1", "--config", "wrong.toml"])
        .current_dir(home.path())
        .output()
        .unwrap();
    assert_eq!(done.status.code(), Some(78));
}
