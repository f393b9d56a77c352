//! The operator's guide and the units beside it, held against what they tell of. That their
//! commands are taken is held where the command line is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use relay_core::config::{CONNECTION_POINT_KEYS, GATEWAY_KEYS, TakesEffect};
use relay_core::connection_point::ConnectionPointLimits;
use relay_core::gateway::GatewayLimits;

const GUIDE: &str = include_str!("../../relay-bin/GUIDE.md");

/// The table of every answer that is not the site's, and what no client is told.
const ANSWERS: &str = include_str!("../../relay-core/src/gateway/ANSWERS.md");

const GATEWAY_UNIT: &str = include_str!("../../relay-bin/dist/relay-gateway.service");
const CONNECTION_POINT_UNIT: &str =
    include_str!("../../relay-bin/dist/relay-connection-point.service");

/// How long the token service may take to end once the links have: the longest that its own
/// documentation says.
const TOKEN_SERVICE_END: Duration = Duration::from_secs(46);

/// The cells of a table's row, without the marks of code around a whole one.
fn cells(row: &str) -> Vec<&str> {
    let cells = row.trim().trim_matches('|').split(" | ").map(str::trim);
    cells.map(|cell| cell.trim_matches('`')).collect()
}

/// The status that a text begins with.
fn status(text: &str) -> Option<u16> {
    text.get(..3)?.parse().ok()
}

/// Each reason that a client can be told, with its status.
fn given() -> BTreeMap<&'static str, u16> {
    let rows = ANSWERS.lines().map(cells).filter(|cells| cells.len() == 6);
    rows.filter_map(|cells| Some((cells[1], cells[0].parse().ok()?))).collect()
}

/// Each reason that the guide explains, with its status: that which the meaning begins with, or
/// else the heading.
fn explained() -> Vec<(&'static str, u16)> {
    let (_, part) = GUIDE.split_once("\n## Every reason\n").expect("the guide has that heading");
    let mut of_heading = None;
    let mut explained = Vec::new();
    for line in part.lines() {
        if let Some(heading) = line.strip_prefix("### ") {
            of_heading = status(heading);
        }
        if !line.starts_with("| `CMG") {
            continue;
        }
        let cells = cells(line);
        assert!(cells.len() == 4 && cells.iter().all(|cell| !cell.is_empty()), "{line}");
        let status = status(cells[1]).or(of_heading).unwrap_or_else(|| panic!("no status: {line}"));
        explained.push((cells[0], status));
    }
    explained
}

/// The reasons that a text names.
fn named(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| {
        let hops = ["CMGService_", "CMGConnector_"];
        hops.iter().any(|hop| word.strip_prefix(hop).is_some_and(|rest| !rest.is_empty()))
    })
}

/// What headings are reached by, as the places that show Markdown make it of them.
fn anchors() -> BTreeSet<String> {
    let headings = GUIDE.lines().filter(|line| line.starts_with('#'));
    let anchor = |heading: &str| {
        let text = heading.trim_start_matches('#').trim().to_lowercase();
        let kept = text.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect::<String>()
    };
    headings.map(anchor).collect()
}

#[test]
fn the_guide_explains_every_reason_once_with_its_status_and_no_other() {
    let given = given();
    assert!(given.len() > 50, "the table is read");
    let mut once = BTreeMap::new();
    for (reason, status) in explained() {
        assert_eq!(once.insert(reason, status), None, "{reason} is explained twice");
        assert_eq!(given.get(reason), Some(&status), "{reason}: who gives it, and its status");
    }
    for reason in given.keys() {
        assert!(once.contains_key(reason), "{reason} is not explained");
    }
}

#[test]
fn the_guide_names_no_reason_that_nobody_gives() {
    let given = given();
    for reason in named(GUIDE) {
        assert!(given.contains_key(reason), "nobody gives {reason}");
    }
}

#[test]
fn every_link_of_the_guide_leads_somewhere() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../relay-bin");
    let anchors = anchors();
    let mut count = 0;
    for link in GUIDE.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
        match link.strip_prefix('#') {
            Some(anchor) => assert!(anchors.contains(anchor), "no heading is #{anchor}"),
            None => assert!(folder.join(link).exists(), "nothing is at {link}"),
        }
        count += 1;
    }
    assert!(count > 10, "the guide is read: {count}");
}

/// The number behind `KEY=` in a unit.
fn number(unit: &str, key: &str) -> u64 {
    let values = unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    let values: Vec<_> = values.map(str::parse::<u64>).collect();
    match values[..] {
        [Ok(value)] => value,
        _ => panic!("{key} is there once, as a number: {values:?}"),
    }
}

#[test]
fn the_units_wait_for_longer_than_a_drain_takes() {
    let of = |unit| Duration::from_secs(number(unit, "TimeoutStopSec"));
    let gateway = GatewayLimits::default();
    assert!(of(GATEWAY_UNIT) > gateway.drain + gateway.linger);
    let connection_point = ConnectionPointLimits::default();
    assert!(of(CONNECTION_POINT_UNIT) > connection_point.drain + TOKEN_SERVICE_END);
}

#[test]
fn the_units_give_more_descriptors_than_connections_need_of_which_they_get_45_percent() {
    let room = |unit| number(unit, "LimitNOFILE") * 45 / 100;
    let clients = GatewayLimits::default().client_connections_max;
    assert!(room(GATEWAY_UNIT) >= clients as u64, "for {clients} clients");
    let place = ConnectionPointLimits::default().backend_connections_max;
    assert_eq!(room(CONNECTION_POINT_UNIT) / place as u64, 7, "as many places as the unit says");
}

/// What the guide says of each key of `file`.
fn takes_effect(file: &str) -> BTreeMap<&'static str, TakesEffect> {
    let heading = format!("\n| keys of `{file}` | take effect | |\n");
    let (_, rows) = GUIDE.split_once(&heading).expect("that table");
    let mut said = BTreeMap::new();
    for row in rows.lines().take_while(|line| line.starts_with('|')) {
        if !row.starts_with("| `") {
            continue;
        }
        // Every second piece is between two marks of code.
        let keys = row.split(" | ").next().unwrap_or_default().split('`').skip(1).step_by(2);
        let when = match cells(row)[1] {
            "at once" => TakesEffect::AtOnce,
            "next start" => TakesEffect::AtNextStart,
            "refused until the next start" => TakesEffect::RefusedUntilStart,
            other => panic!("{other}: {row}"),
        };
        for key in keys {
            assert_eq!(said.insert(key, when), None, "{key} is there twice");
        }
    }
    said
}

#[test]
fn the_guide_says_of_every_key_of_a_role_when_its_change_takes_effect() {
    for (file, keys) in
        [("gateway.toml", GATEWAY_KEYS), ("connection-point.toml", CONNECTION_POINT_KEYS)]
    {
        assert_eq!(takes_effect(file), keys.iter().copied().collect(), "{file}");
    }
}
