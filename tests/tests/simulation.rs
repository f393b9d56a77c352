//! The roles, a site and its clients on a network in memory, in virtual time, under faults.
//!
//! A seed stands for a world (`plan.rs`): its size, its paths, what is asked and what goes wrong.
//! It runs to its end (`life.rs`): it comes up, is struck (`director.rs`), heals, has every link
//! back within 30 s and every counter at rest, and stops, leaving no task behind. What clients saw
//! (`client.rs`) and what reached the site (`site.rs`) is held against what must never happen
//! (`oracles.rs`). Beside that one small exchange is struck along its link (`cuts.rs`).
//!
//! | held | as |
//! |---|---|
//! | N2 | only GET, HEAD and PROPFIND reach the site twice; what is answered 503 never did |
//! | N3 | every octet of an answer is of the request's own |
//! | N4 | an answer that ends well is whole |
//! | N5, N6 | verb, target and body reach the site as sent; no header that may not cross |
//! | N10, N12 | no panic, no task left; every request ends, and every stop |
//! | N13 | beside slow exchanges no other takes a tenth longer (`neighbours.rs`) |
//! | N14 | a request on a link that is lost ends within the detection time and a second |
//! | N15 | where roles are only drained, no request that reached the site is lost |
//! | N17 | a connection point dials its instances and its site alone |
//! | N18 | nobody without the site's certificate gets a request |
//!
//! Not held here: N1, N7, N8, N9, N16, N19 and N20, which are about authentication, the log and the
//! store; N11, whose limits have tests of their own.

#![allow(clippy::unwrap_used, reason = "a failed step of a test's set-up is a failed test")]

#[path = "simulation/client.rs"]
mod client;
#[path = "simulation/cuts.rs"]
mod cuts;
#[path = "simulation/director.rs"]
mod director;
#[path = "simulation/ejected.rs"]
mod ejected;
#[path = "simulation/identities.rs"]
mod identities;
#[path = "simulation/life.rs"]
mod life;
#[path = "simulation/manner.rs"]
mod manner;
#[path = "simulation/neighbours.rs"]
mod neighbours;
#[path = "simulation/oracles.rs"]
mod oracles;
#[path = "simulation/plan.rs"]
mod plan;
#[path = "simulation/seeds.rs"]
mod seeds;
#[path = "simulation/site.rs"]
mod site;
#[path = "simulation/world.rs"]
mod world;

use std::collections::BTreeSet;

use client::{Outcome, Seen};
use life::Report;
use neighbours::Slow;
use relay_core::transport::memory::{Direction, PlannedFault};
use relay_tests::client::Http;

#[test]
fn every_seed_keeps_every_rule_and_together_they_meet_every_end() {
    let mut missing = BTreeSet::from(ENDS.map(str::to_owned));
    for met in seeds::each(|seed| met(&seeds::check(seed))) {
        missing = &missing - &met;
    }
    assert!(seeds::are_named() || missing.is_empty(), "no seed meets {missing:?}");
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in seeds::sample() {
        let [first, second] = [(); 2].map(|()| seeds::check(seed));
        assert_eq!(first.digest, second.digest, "seed {seed}:\n{}", apart(&first, &second));
    }
}

/// The first lines in which two traces differ.
fn apart(first: &Report, second: &Report) -> String {
    let lines = first.tail.iter().zip(&second.tail).filter(|(one, other)| one != other);
    let lines: Vec<_> = lines.take(3).map(|(one, other)| format!("{one}\n{other}")).collect();
    lines.join("\n")
}

/// Every end that a request can have, in the words of [`met`].
const ENDS: [&str; 17] = [
    "502 CMGService_Connector_Lost",
    "502 CMGConnector_Backend_Unreachable",
    "502 CMGConnector_Bad_Answer",
    "502 CMGConnector_Bad_Gateway",
    "503 CMGService_No_Connector",
    "504 CMGConnector_Timeout",
    "Left",
    "NoAnswer",
    "NotConnected",
    "a cut answer",
    "a cut answer over HTTP/2",
    "Get, whole",
    "Head, whole",
    "Propfind, whole",
    "CcmPost, whole",
    "BitsPost, whole",
    "Held, whole",
];

/// What the seeds meet, in words.
fn met(report: &Report) -> BTreeSet<String> {
    let of = |outcome: &Outcome| match &outcome.seen {
        Seen::Answer { status: 200, is_whole: true, .. } => {
            format!("{:?}, whole", outcome.ask.kind)
        }
        Seen::Answer { status: 200, .. } if outcome.http == Http::Two => {
            "a cut answer over HTTP/2".to_owned()
        }
        Seen::Answer { status: 200, .. } => "a cut answer".to_owned(),
        Seen::Answer { status, reason, .. } => {
            format!("{status} {}", reason.as_deref().unwrap_or_default())
        }
        other => other.to_string(),
    };
    report.outcomes.iter().map(of).collect()
}

/// Records of a handshake, of two hellos and of two exchanges, in one direction.
const RECORDS_MIN: usize = 8;

#[test]
fn a_link_may_be_cut_at_any_octet() {
    for direction in Direction::BOTH {
        assert!(cuts::strike_each(direction, PlannedFault::Cut) > 1);
    }
}

#[test]
fn a_link_may_fall_silent_at_any_octet() {
    for direction in Direction::BOTH {
        for fault in [PlannedFault::Hold, PlannedFault::HoldBoth] {
            assert!(cuts::strike_each(direction, fault) > 1);
        }
    }
}

#[test]
fn a_link_may_be_struck_before_and_within_each_of_its_records() {
    for direction in Direction::BOTH {
        for fault in [PlannedFault::Cut, PlannedFault::Hold, PlannedFault::HoldBoth] {
            let records = cuts::strike_records(direction, fault);
            assert!(records >= RECORDS_MIN, "{records} records");
        }
    }
}

#[test]
fn a_slow_client_or_site_role_slows_no_other_exchange_on_its_link() {
    for slow in Slow::ALL {
        let slowed = neighbours::slowed_by(slow);
        assert!(slowed.is_empty(), "{slow:?}\n{}", slowed.join("\n"));
    }
}

#[test]
fn an_instance_that_has_restarted_waits_for_links_and_for_what_every_site_publishes() {
    for delay_ms in (0..1500).step_by(50) {
        let Report { findings, outcomes, tail, .. } = cuts::restart_with_two_sites(delay_ms);
        let text = findings.join("\n");
        assert!(findings.is_empty(), "{}\n\n{delay_ms} ms\n{text}", tail.join("\n"));
        for Outcome { ask, seen, .. } in outcomes {
            let is_served = matches!(seen, Seen::Answer { status: 200, .. });
            assert!(is_served, "{delay_ms} ms, role {}: {seen}", ask.role);
        }
    }
}

#[test]
fn a_connection_point_that_is_cut_off_sits_out_after_five_failures_and_comes_back() {
    let shares = ejected::cut_off();
    assert!(shares.findings.is_empty(), "{}", shares.findings.join("\n"));
    assert_eq!((shares.failed, shares.back), (5, 2));
}

#[test]
fn a_connection_point_that_starts_anew_takes_the_place_of_its_half_open_link_at_once() {
    let Report { findings, outcomes, tail, .. } = cuts::restart_beside_a_half_open_link();
    assert!(findings.is_empty(), "{}\n{}", tail.join("\n"), findings.join("\n"));
    let is_served = |it: &Outcome| matches!(it.seen, Seen::Answer { status: 200, .. });
    assert!(outcomes.iter().all(is_served), "{}", tail.join("\n"));
}

#[test]
fn a_link_that_drains_is_replaced_before_the_last_exchange_on_it_has_ended() {
    let Report { findings, outcomes, tail, .. } = cuts::drain_beside_a_held_exchange();
    assert!(findings.is_empty(), "{}\n{}", tail.join("\n"), findings.join("\n"));
    let is_served = |it: &Outcome| matches!(it.seen, Seen::Answer { status: 200, .. });
    assert!(outcomes.iter().all(is_served), "{}", tail.join("\n"));
}

#[test]
fn a_stop_while_a_link_comes_up_loses_no_request() {
    for delay_ms in (0..100).step_by(3) {
        let Report { findings, tail, .. } = cuts::stop_after(delay_ms);
        let text = findings.join("\n");
        assert!(findings.is_empty(), "{}\n\n{delay_ms} ms\n{text}", tail.join("\n"));
    }
}
