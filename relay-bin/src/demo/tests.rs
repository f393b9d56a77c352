//! The session and the site against a stand-in for the relay: both must be right on their own
//! before they can judge it.

use super::front::{Fault, Front};
use super::relay::{HOST, MP_ROLE, SUP_ROLE};
use super::session::{Carried, Extent, Links, Report, Target, run};
use super::site::Site;
use super::table::{Colour, table};
use crate::pki::SiteCa;

/// Small, so that a build without optimisation is done in a moment.
const EXTENT: Extent = Extent { download_bytes: 3 * 1024 * 1024 + 5, crowd: 40 };

/// Links to as many instances, of as many connection points as there are requests of.
fn links(instances: u8, requests: &[u64]) -> Links {
    let carried = |instance| {
        requests.iter().enumerate().map(move |(place, requests)| Carried {
            instance,
            connection_point: format!("demo-cp-{place}"),
            requests: *requests,
        })
    };
    let links: Vec<_> = (0..instances).flat_map(carried).collect();
    Links::new(move || links.clone())
}

async fn session(instances: usize, fault: Fault) -> Report {
    session_over(instances, fault, 4).await
}

async fn session_over(instances: usize, fault: Fault, requests_of_second: u64) -> Report {
    let ca = SiteCa::new("Demonstration site").unwrap();
    let site = Site::start().await.unwrap();
    let front = Front::start(&ca, instances, &site, fault).await;
    let target = Target {
        instances: front.instances.clone(),
        host: HOST.into(),
        roots: ca.roots().unwrap(),
        mp_role: MP_ROLE,
        sup_role: SUP_ROLE,
        seen: site.seen(),
        membership: None,
        links: links(u8::try_from(instances).unwrap(), &[3, requests_of_second]),
        extent: EXTENT,
    };
    let mut shown = 0;
    let report = run(&target, &mut |_| shown += 1).await.unwrap();
    assert_eq!(shown, report.steps.len());
    assert!(target.seen.mp.connections() < target.seen.mp.requests());
    drop(front);
    site.stop().await;
    report
}

/// The names of the steps that failed, each once.
fn failed(report: &Report) -> Vec<&'static str> {
    let mut names: Vec<_> =
        report.steps.iter().filter(|row| !row.passed).map(|row| row.step).collect();
    names.dedup();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn every_step_passes_through_a_relay_that_does_its_work() {
    for instances in [1, 2, 3] {
        let report = session(instances, Fault::None).await;
        assert!(report.passed, "{}", table(&report, Colour::Off));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_lets_all_pass_fails_at_every_refusal() {
    let report = session(2, Fault::LetsAllPass).await;
    let expected = [
        "wrong verb",
        "verb's case",
        "unpublished",
        "alternate auth",
        "traversal",
        "unknown role",
        "no virtual root",
    ];
    assert_eq!(failed(&report), expected, "{}", table(&report, Colour::Off));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_header_fails_the_header_step_alone() {
    let report = session(1, Fault::ChangesAHeader).await;
    assert_eq!(failed(&report), ["headers"], "{}", table(&report, Colour::Off));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_internal_name_that_comes_through_fails_the_upload() {
    let report = session(1, Fault::KeepsHostId).await;
    assert!(failed(&report).contains(&"upload"), "{}", table(&report, Colour::Off));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_carried_nothing_is_told() {
    let report = session_over(1, Fault::None, 0).await;
    assert_eq!(failed(&report), ["links"], "{}", table(&report, Colour::Off));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_id_used_twice_fails_the_last_step() {
    let report = session(1, Fault::RepeatsMessageId).await;
    assert_eq!(failed(&report), ["message id"], "{}", table(&report, Colour::Off));
}

#[tokio::test]
async fn an_instance_that_is_down_is_a_failed_row_and_not_an_error() {
    let ca = SiteCa::new("Demonstration site").unwrap();
    let site = Site::start().await.unwrap();
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let target = Target {
        instances: vec![closed],
        host: HOST.into(),
        roots: ca.roots().unwrap(),
        mp_role: MP_ROLE,
        sup_role: SUP_ROLE,
        seen: site.seen(),
        membership: None,
        links: links(1, &[]),
        extent: Extent { download_bytes: 1_024, crowd: 2 },
    };
    let report = run(&target, &mut |_| ()).await.unwrap();
    assert!(!report.passed);
    let first = &report.steps[0];
    assert!(first.evidence.contains("cannot connect to instance 1"), "{}", first.evidence);
    site.stop().await;
}
