//! The schemas that are shipped are those of what reads the files.

#![allow(clippy::unwrap_used, reason = "a failed step of a test's set-up is a failed test")]

use std::fs;
use std::path::Path;

use relay_core::config::{GATEWAY_KEYS, gateway_schema};
use serde_json::Value;

/// Has the shipped file be written anew: `RELAY_WRITE_SCHEMA=1 cargo test -p relay-tests --test
/// schema`.
const WRITE: &str = "RELAY_WRITE_SCHEMA";

#[test]
fn the_schema_that_is_shipped_is_that_of_the_reader() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../relay-bin/schema/gateway.json");
    let made = gateway_schema();
    if std::env::var_os(WRITE).is_some() {
        fs::write(&file, format!("{made:#}\n")).unwrap();
    }
    let shipped: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(shipped, made, "set {WRITE}=1 once to write it anew");
}

/// Every key below a table, by its path, with what is said of it.
fn keys<'a>(table: &'a Value, path: &str, all: &mut Vec<(String, &'a Value)>) {
    for (name, said) in table["properties"].as_object().unwrap() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let described = said["description"].as_str().unwrap_or_default();
        assert!(described.ends_with('.'), "{path} says what it is: {said:#}");
        if said["type"] == "object" {
            assert_eq!(said["additionalProperties"], false, "{path} refuses what it does not know");
            keys(said, &path, all);
        } else {
            all.push((path, said));
        }
    }
}

#[test]
fn every_key_of_an_instance_is_described_and_every_number_has_its_range() {
    let schema = gateway_schema();
    assert_eq!(schema["additionalProperties"], false);
    let mut all = Vec::new();
    keys(&schema, "", &mut all);
    let mut described: Vec<_> = all.iter().map(|(path, _)| path.as_str()).collect();
    let mut listed: Vec<_> = GATEWAY_KEYS.iter().map(|(key, _)| *key).collect();
    described.sort_unstable();
    listed.sort_unstable();
    assert_eq!(described, listed);
    for (path, said) in all.iter().filter(|(_, said)| said["type"] == "integer") {
        let is_ranged = said["minimum"].is_i64() && said["maximum"].is_i64();
        assert!(is_ranged, "{path} has a range: {said:#}");
    }
    for (path, said) in &all {
        assert!(!said.to_string().contains("null"), "TOML has no null: {path}: {said:#}");
    }
}
