//! The schemas that are shipped are those of what reads the files.

#![allow(clippy::unwrap_used, reason = "a failed step of a test's set-up is a failed test")]

use std::fs;
use std::path::Path;

use relay_core::config::{
    CONNECTION_POINT_KEYS, GATEWAY_KEYS, TakesEffect, connection_point_schema, gateway_schema,
};
use serde_json::Value;

/// Has the shipped files be written anew: `RELAY_WRITE_SCHEMA=1 cargo test -p relay-tests --test
/// schema`.
const WRITE: &str = "RELAY_WRITE_SCHEMA";

/// Keys, and when a change of each takes effect.
type Keys = &'static [(&'static str, TakesEffect)];

/// Of each role: the name of its file, the schema of that, and the keys that are told of.
fn roles() -> [(&'static str, Value, Keys); 2] {
    [
        ("gateway", gateway_schema(), GATEWAY_KEYS),
        ("connection-point", connection_point_schema(), CONNECTION_POINT_KEYS),
    ]
}

#[test]
fn the_schemas_that_are_shipped_are_those_of_the_readers() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../relay-bin/schema");
    for (role, made, _) in roles() {
        let file = folder.join(format!("{role}.json"));
        if std::env::var_os(WRITE).is_some() {
            fs::write(&file, format!("{made:#}\n")).unwrap();
        }
        let shipped: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        assert_eq!(shipped, made, "set {WRITE}=1 once to write it anew");
    }
}

/// The tables that a key may hold, one or a list of them, in any of its forms.
fn tables(said: &Value) -> Vec<&Value> {
    if let Some(forms) = said["anyOf"].as_array() {
        return forms.iter().flat_map(tables).collect();
    }
    match said["type"].as_str() {
        Some("object") => vec![said],
        Some("array") => tables(&said["items"]),
        _ => Vec::new(),
    }
}

/// Every key below a table, by its path, with what is said of it.
fn keys<'a>(table: &'a Value, path: &str, all: &mut Vec<(String, &'a Value)>) {
    assert_eq!(table["additionalProperties"], false, "{path} refuses what it does not know");
    for (name, said) in table["properties"].as_object().unwrap() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let described = said["description"].as_str().unwrap_or_default();
        assert!(described.ends_with('.'), "{path} says what it is: {said:#}");
        let tables = tables(said);
        if tables.is_empty() {
            all.push((path, said));
            continue;
        }
        for table in tables {
            keys(table, &path, all);
        }
    }
}

#[test]
fn every_key_is_described_and_every_number_has_its_range() {
    for (role, schema, told) in roles() {
        let mut all = Vec::new();
        keys(&schema, "", &mut all);
        let mut described: Vec<_> = all.iter().map(|(path, _)| path.as_str()).collect();
        let mut listed: Vec<_> = told.iter().map(|(key, _)| *key).collect();
        described.sort_unstable();
        described.dedup();
        listed.sort_unstable();
        assert_eq!(described, listed, "{role}");
        for (path, said) in all.iter().filter(|(_, said)| said["type"] == "integer") {
            let is_ranged = said["minimum"].is_i64() && said["maximum"].is_i64();
            assert!(is_ranged, "{role}: {path} has a range: {said:#}");
        }
        for (path, said) in &all {
            assert!(!said.to_string().contains("null"), "TOML has no null: {path}: {said:#}");
        }
    }
}
