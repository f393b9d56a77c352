//! The dashboard that is shipped, and the expressions of the operator's guide: that they ask for
//! metrics that there are.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::Value;

const DASHBOARD: &str = include_str!("../../relay-bin/dist/dashboard.json");
const GUIDE: &str = include_str!("../../relay-bin/GUIDE.md");

/// What a metric of type histogram is asked for by.
const OF_HISTOGRAMS: [&str; 3] = ["_bucket", "_count", "_sum"];

/// Each metric that a role tells, with its type.
fn metrics() -> BTreeMap<String, String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../relay-bin/METRICS.md");
    let text = fs::read_to_string(file).expect("the document of all metrics");
    let rows = text.lines().filter_map(|line| {
        let mut cells = line.strip_prefix("| `")?.split('|');
        let name = cells.next()?.trim().strip_suffix('`')?;
        Some((name.to_owned(), cells.next()?.trim().to_owned()))
    });
    rows.collect()
}

/// The words of expressions that are names of metrics of this program.
fn named(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| {
        // A package's file has its version there.
        let is_letter = |c: char| c.is_ascii_lowercase();
        let of_ours = word.strip_prefix("relay_");
        let is_ours = of_ours.is_some_and(|it| it.starts_with(is_letter) && it != "core");
        is_ours || word.starts_with("process_start_")
    })
}

/// All values of `key`, however deep they stand.
fn values<'a>(key: &str, of: &'a Value, found: &mut Vec<&'a Value>) {
    match of {
        Value::Object(members) => {
            found.extend(members.get(key));
            members.values().for_each(|it| values(key, it, found));
        }
        Value::Array(items) => items.iter().for_each(|it| values(key, it, found)),
        _ => {}
    }
}

/// The metrics that an expression names and nobody tells.
fn unknown<'a>(expression: &'a str, metrics: &BTreeMap<String, String>) -> Vec<&'a str> {
    let is_known = |name: &str| {
        let mut parts = OF_HISTOGRAMS.iter().filter_map(|part| name.strip_suffix(part));
        metrics.get(name).is_some_and(|kind| kind != "histogram")
            || parts.any(|name| metrics.get(name).is_some_and(|kind| kind == "histogram"))
    };
    named(expression).filter(|name| !is_known(name)).collect()
}

#[test]
fn every_metric_of_the_dashboard_is_one_that_a_role_tells() {
    let (metrics, dashboard) = (metrics(), serde_json::from_str(DASHBOARD).expect("JSON"));
    let mut expressions = Vec::new();
    values("expr", &dashboard, &mut expressions);
    assert!(expressions.len() > 20, "the dashboard is read: {}", expressions.len());
    for expression in expressions {
        let expression = expression.as_str().expect("an expression is text");
        assert!(named(expression).next().is_some(), "{expression} asks for nothing");
        let unknown = unknown(expression, &metrics);
        assert!(unknown.is_empty(), "{expression}: nobody tells {unknown:?}");
    }
}

/// What stands in `texts` between `open` and `close`, as a list with commas.
fn between(texts: &[&Value], open: &str, close: &str) -> Vec<String> {
    let texts = texts.iter().filter_map(|it| it.as_str());
    let parts = texts.flat_map(|it| it.split(open).skip(1).filter_map(|it| it.split(close).next()));
    parts.flat_map(|it| it.split(',')).map(|it| it.trim().to_owned()).collect()
}

#[test]
fn the_dashboard_names_no_label_that_no_metric_has() {
    let text = include_str!("../../relay-bin/METRICS.md");
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    let cells = rows.filter_map(|row| row.split('|').nth(3));
    let mut known: BTreeSet<_> =
        cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect();
    // Of the guide's scrape, and of histograms.
    known.extend(["machine", "le"]);
    let dashboard: Value = serde_json::from_str(DASHBOARD).expect("JSON");
    let (mut legends, mut expressions) = (Vec::new(), Vec::new());
    values("legendFormat", &dashboard, &mut legends);
    values("expr", &dashboard, &mut expressions);
    let named = [between(&legends, "{{", "}}"), between(&expressions, "by (", ")")].concat();
    assert!(named.len() > 30, "the dashboard is read: {}", named.len());
    for label in named {
        assert!(known.contains(&*label), "no metric has the label {label}");
    }
}

#[test]
fn the_dashboard_shows_every_metric_that_a_role_tells() {
    let shown: BTreeSet<_> = named(DASHBOARD).collect();
    for (metric, kind) in metrics() {
        let is_shown = match &*kind {
            "histogram" => OF_HISTOGRAMS.iter().any(|it| shown.contains(&*format!("{metric}{it}"))),
            _ => shown.contains(&*metric),
        };
        assert!(is_shown, "no panel shows {metric}");
    }
}

#[test]
fn every_metric_that_the_guide_names_is_one_that_a_role_tells() {
    let metrics = metrics();
    assert!(named(GUIDE).count() > 10, "the guide is read");
    let unknown = unknown(GUIDE, &metrics);
    assert!(unknown.is_empty(), "nobody tells {unknown:?}");
}

#[test]
fn each_panel_of_the_dashboard_has_a_number_and_a_place_of_its_own() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("the panels");
    let mut numbers = BTreeSet::new();
    let mut taken = BTreeSet::new();
    for panel in panels {
        let title = &panel["title"];
        assert!(numbers.insert(panel["id"].as_u64()), "{title}: its number is another's");
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|it| panel["gridPos"][it].as_u64());
        let (Some(x), Some(y), Some(w), Some(h)) = (x, y, w, h) else { panic!("{title}: where?") };
        assert!(x + w <= 24, "{title} is wider than the grid");
        let cells = (x..x + w).flat_map(|column| (y..y + h).map(move |line| (column, line)));
        for cell in cells {
            assert!(taken.insert(cell), "{title} covers another at {cell:?}");
        }
    }
}
