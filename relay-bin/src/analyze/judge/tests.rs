//! Each layer broken in turn, on evidence made up.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;

use super::super::evidence::{Ends, Role, Tried};
use super::*;

fn at(port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], port))
}

fn good<T>(came: T) -> Tried<T> {
    Tried { took: Duration::from_millis(1), came: Ok(came) }
}

fn bad<T>(kind: Kind) -> Tried<T> {
    let trouble = Trouble { kind, told: format!("{kind:?}"), next: "do it".to_owned() };
    Tried { took: Duration::from_millis(1), came: Err(trouble) }
}

fn metadata(instance: u64, version: u64) -> Metadata {
    serde_json::from_value(json!({
        "service": "relay.example", "instance": instance, "software_version": "1",
        "connected": true,
        "sites": [{
            "site": "default", "configuration_version": version.to_string(), "connected": true,
            "management_point": true,
        }],
        "what": "a later version adds",
    }))
    .unwrap()
}

fn instance(number: u16, told: Metadata) -> Instance {
    let (dialled, told) = (good(()), Some(good(told)));
    Instance { address: at(number), dialled, told, certificate: Some(ends(90, false)) }
}

fn ends(days_left: i64, is_near: bool) -> Ends {
    Ends {
        what: "server certificate".to_owned(),
        name: "CN=relay.example".to_owned(),
        place: "192.0.2.1:443".to_owned(),
        at: "2028-01-01T00:00:00Z".to_owned(),
        days_left,
        is_near,
    }
}

/// Names of what each check warns of.
fn warned(seen: &Evidence) -> Vec<(u8, &'static str)> {
    let checks = judge(seen).into_iter();
    checks.flat_map(|it| it.warnings.into_iter().map(move |at| (it.number, at.id))).collect()
}

/// Two instances, and nothing that is wrong.
fn evidence() -> Evidence {
    Evidence {
        host: "relay.example".to_owned(),
        name: good(vec![at(1), at(2)]),
        instances: vec![instance(1, metadata(1, 5)), instance(2, metadata(2, 5))],
        links: vec![],
        site: None,
        management_points: None,
        roles: vec![],
        version_expected: None,
    }
}

/// A connection point at `version` with a place at each instance, which is up or not.
fn point(version: u64, up: [bool; 2]) -> Tried<Role> {
    let places = [(1, up[0]), (2, up[1])].map(|(instance, is_up)| {
        let (phase, why) =
            if is_up { ("up", None) } else { ("waiting", Some("port 10140 is shut")) };
        json!({"instance": instance, "phase": phase, "why": why})
    });
    let published = [1, 2].map(|instance| {
        json!({"instance": instance, "version": version, "outcome": "applied", "why": null})
    });
    let role = json!({
        "role": "connection-point", "name": "north", "places": places, "published": published,
    });
    good(serde_json::from_value(role).unwrap())
}

/// Verdicts in a row (`p`, `f`, `s`) and the causes of those that failed.
fn verdicts(seen: &Evidence) -> (String, Vec<&'static str>) {
    let checks = judge(seen);
    let letters = checks.iter().map(|check| match check.verdict {
        Verdict::Pass => 'p',
        Verdict::Fail => 'f',
        Verdict::Skipped => 's',
    });
    for check in &checks {
        assert_eq!(check.verdict == Verdict::Fail, !check.causes.is_empty(), "{check:?}");
        assert_eq!(check.verdict == Verdict::Skipped, check.skipped.is_some(), "{check:?}");
    }
    let letters = letters.collect();
    (letters, checks.iter().flat_map(|check| &check.causes).map(|cause| cause.id).collect())
}

#[track_caller]
fn expect(seen: &Evidence, letters: &str, causes: &[&str]) {
    assert_eq!(verdicts(seen), (letters.to_owned(), causes.to_vec()), "{:#?}", judge(seen));
}

#[test]
fn nothing_that_is_wrong_passes_every_check_and_says_what_was_seen() {
    let seen = evidence();
    expect(&seen, "ppppp", &[]);
    assert_eq!(channel_waits_for(&seen, &judge(&seen)), None);
    for check in judge(&seen) {
        assert!(check.evidence.len() >= 2, "{check:?}");
    }
}

#[test]
fn a_name_without_an_address_is_the_names_fault_and_all_else_waits_for_it() {
    let seen = Evidence { name: bad(Kind::Name), instances: vec![], ..evidence() };
    expect(&seen, "sfsss", &["name_unresolved"]);
    for check in judge(&seen).iter().filter(|check| check.number != 2) {
        assert_eq!(check.skipped.as_ref().unwrap().depends_on, Some(2), "{check:?}");
    }
    assert_eq!(channel_waits_for(&seen, &judge(&seen)).unwrap().0, Step::Name);
}

#[test]
fn ports_that_take_nothing_fail_the_first_check_and_the_rest_waits() {
    for (kind, cause) in [(Kind::Closed, "port_closed"), (Kind::Silent, "port_silent")] {
        let mut seen = evidence();
        for instance in &mut seen.instances {
            (instance.dialled, instance.told) = (bad(kind), None);
        }
        let (letters, causes) = verdicts(&seen);
        assert_eq!((letters.as_str(), causes[0]), ("fssss", cause));
        assert_eq!(channel_waits_for(&seen, &judge(&seen)).unwrap().0, Step::Service);
    }
}

#[test]
fn one_instance_of_two_that_takes_nothing_leaves_the_other_to_be_judged() {
    let mut seen = evidence();
    (seen.instances[1].dialled, seen.instances[1].told) = (bad(Kind::Closed), None);
    expect(&seen, "fpppp", &["port_closed"]);
    assert_eq!(channel_waits_for(&seen, &judge(&seen)), None);
}

#[test]
fn each_fault_of_tls_fails_the_second_check_by_its_own_name() {
    for (kind, cause) in [
        (Kind::Untrusted, "tls_untrusted"),
        (Kind::WrongName, "tls_wrong_name"),
        (Kind::NotNow, "tls_not_valid_now"),
        (Kind::Alert, "tls_refused"),
        (Kind::NoTls, "no_tls"),
        (Kind::NotAGateway, "not_a_gateway"),
        (Kind::Silent, "gateway_silent"),
        (Kind::Broken, "connection_broke"),
    ] {
        let mut seen = evidence();
        seen.instances.truncate(1);
        seen.instances[0].told = Some(bad(kind));
        expect(&seen, "pfsss", &[cause]);
        assert_eq!(channel_waits_for(&seen, &judge(&seen)).unwrap().0, Step::Name);
    }
}

#[test]
fn a_version_that_differs_is_told_with_the_instance() {
    let mut seen = evidence();
    seen.instances[1] = instance(2, metadata(2, 4));
    expect(&seen, "ppfpp", &["version_differs"]);
    let means = &judge(&seen)[2].causes[0].means;
    assert!(means.starts_with("instance 2 has version 4 of site default"), "{means}");
}

#[test]
fn a_version_that_an_administrator_or_the_connection_point_expects_counts() {
    let seen = Evidence { version_expected: Some(5), ..evidence() };
    expect(&seen, "ppppp", &[]);
    for wrong in [4, 6] {
        let seen = Evidence { version_expected: Some(wrong), ..evidence() };
        expect(&seen, "ppfpp", &["version_differs", "version_differs"]);
        let seen = Evidence { roles: vec![point(wrong, [true, true])], ..evidence() };
        expect(&seen, "ppfpp", &["version_differs", "version_differs"]);
    }
    // Of another site than the one that is meant.
    let site = Some("other".to_owned());
    let seen = Evidence { site, version_expected: Some(6), ..evidence() };
    expect(&seen, "ppppp", &[]);
}

#[test]
fn settings_that_an_instance_refused_are_told_with_its_reason() {
    let mut seen = Evidence { roles: vec![point(6, [true, true])], ..evidence() };
    let refuse = |seen: &mut Evidence, why: &str| {
        let Ok(Role::ConnectionPoint(point)) = &mut seen.roles[0].came else { unreachable!() };
        point.published[1].outcome = "refused".to_owned();
        point.published[1].why = Some(why.to_owned());
    };
    seen.instances[0] = instance(1, metadata(1, 6));
    refuse(&mut seen, "a later version holds");
    expect(&seen, "ppfpp", &["settings_refused"]);
    assert!(judge(&seen)[2].causes[0].means.ends_with("a later version holds"));
    // One that a balancer hides.
    seen.instances.truncate(1);
    expect(&seen, "ppfpp", &["settings_refused"]);
}

#[test]
fn without_a_connection_point_since_the_start_nothing_is_told_and_that_is_the_one_fault() {
    let mut seen = evidence();
    for instance in &mut seen.instances {
        let told = instance.told.as_mut().unwrap().came.as_mut().unwrap();
        (told.connected, told.sites) = (Some(false), vec![]);
    }
    expect(&seen, "ppsfs", &["no_connection_point", "no_connection_point"]);
    for check in judge(&seen).iter().filter_map(|check| check.skipped.as_ref()) {
        assert_eq!(check.depends_on, Some(4));
    }
    assert_eq!(channel_waits_for(&seen, &judge(&seen)).unwrap().0, Step::Connected);
}

#[test]
fn a_connection_point_that_went_leaves_settings_to_be_judged() {
    let mut seen = evidence();
    for instance in &mut seen.instances {
        let told = instance.told.as_mut().unwrap().came.as_mut().unwrap();
        told.connected = Some(false);
        told.sites[0].connected = Some(false);
    }
    expect(&seen, "pppfp", &["no_connection_point", "no_connection_point"]);
}

#[test]
fn one_that_is_connected_and_tells_nothing_fails_the_third_check() {
    let mut seen = evidence();
    for instance in &mut seen.instances {
        instance.told.as_mut().unwrap().came.as_mut().unwrap().sites.clear();
    }
    expect(&seen, "ppfps", &["no_settings", "no_settings"]);
}

#[test]
fn the_connection_point_knows_why_it_has_no_link() {
    let mut seen = Evidence { roles: vec![point(5, [true, false])], ..evidence() };
    let told = seen.instances[1].told.as_mut().unwrap().came.as_mut().unwrap();
    told.connected = Some(false);
    expect(&seen, "pppfp", &["no_connection_point"]);
    let means = &judge(&seen)[3].causes[0].means;
    assert_eq!(means, "no link to instance 2: port 10140 is shut");
    // One that a balancer hides is judged by that alone.
    seen.instances.truncate(1);
    expect(&seen, "pppfp", &["no_connection_point"]);
}

#[test]
fn a_link_port_that_is_shut_counts_only_while_no_link_is_up() {
    let port = |port, dialled| LinkPort { instance: 2, host: "gateway".to_owned(), port, dialled };
    let mut seen = evidence();
    seen.links = vec![port(10_141, bad(Kind::Closed)), port(10_125, bad(Kind::Silent))];
    expect(&seen, "ppppp", &[]);
    let told = seen.instances[1].told.as_mut().unwrap().came.as_mut().unwrap();
    told.connected = Some(false);
    expect(&seen, "fppfp", &["port_closed", "no_connection_point"]);
    // A second way in is enough.
    seen.links[1].dialled = good(());
    expect(&seen, "pppfp", &["no_connection_point"]);
    // A host without an address was not asked.
    seen.links.truncate(1);
    seen.links[0].dialled = bad(Kind::Name);
    expect(&seen, "pppfp", &["no_connection_point"]);
}

#[test]
fn no_management_point_fails_the_fifth_check_and_the_sixth_waits() {
    let mut seen = evidence();
    for instance in &mut seen.instances {
        let told = instance.told.as_mut().unwrap().came.as_mut().unwrap();
        told.sites[0].management_point = Some(false);
    }
    expect(&seen, "ppppf", &["no_management_point", "no_management_point"]);
    assert_eq!(channel_waits_for(&seen, &judge(&seen)).unwrap().0, Step::Published);
    let next = |seen: &Evidence| judge(seen)[4].causes[0].next.clone();
    assert!(next(&seen).contains("add an [[endpoint]]"));
    seen.management_points = Some(1);
    assert!(next(&seen).contains("SIGHUP"));
}

#[test]
fn instances_that_do_not_say_it_have_checks_skipped_and_none_failed() {
    let mut seen = evidence();
    for instance in &mut seen.instances {
        let told = instance.told.as_mut().unwrap().came.as_mut().unwrap();
        told.connected = None;
        (told.sites[0].connected, told.sites[0].management_point) = (None, None);
    }
    expect(&seen, "pppss", &[]);
    assert_eq!(channel_waits_for(&seen, &judge(&seen)), None);
}

#[test]
fn a_certificate_that_ends_soon_is_warned_of_and_no_check_fails_for_it() {
    for (days, is_near, told) in
        [(61, false, None), (60, true, Some("ends_soon")), (0, true, Some("ends_soon"))]
    {
        let mut seen = evidence();
        seen.instances[0].certificate = Some(ends(days, is_near));
        expect(&seen, "ppppp", &[]);
        let expected: Vec<_> = told.map(|id| (2, id)).into_iter().collect();
        assert_eq!(warned(&seen), expected, "{days}");
        let said = format!("holds for {days} more days, to 2028-01-01T00:00:00Z");
        assert!(judge(&seen)[1].evidence.iter().any(|item| item.came == said), "{days}");
    }
}

#[test]
fn what_roles_of_this_machine_use_is_warned_of_where_links_are_judged() {
    let mut seen = Evidence { roles: vec![point(5, [true, true])], ..evidence() };
    let Ok(Role::ConnectionPoint(point)) = &mut seen.roles[0].came else { unreachable!() };
    point.expiry = vec![ends(61, false), ends(60, true), ends(60, true), ends(-1, true)];
    expect(&seen, "ppppp", &[]);
    assert_eq!(warned(&seen), [(4, "ends_soon"), (4, "over")], "each once");
    // An instance of before that does not say what is near.
    let told = json!({"what": "a", "name": "b", "place": "c", "ends_at": "d", "days_left": 3});
    let gateway = json!({"role": "gateway", "instance": 1, "expiry": [told]});
    seen.roles = vec![good(serde_json::from_value(gateway).unwrap())];
    assert_eq!(warned(&seen), []);
}
