//! The schema of a configuration file and what is said of the file itself are one.

use std::fmt::Write as _;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::Home;

const FILE: &str = "site/gateway-1/gateway.toml";

/// Validates `$1`, in TOML, by the schema `$2`, and prints why not, if it does not fit.
const VALIDATE: &str = "\
import json, sys, tomllib, jsonschema
schema = json.load(open(sys.argv[2], 'rb'))
jsonschema.Draft202012Validator.check_schema(schema)
file = tomllib.load(open(sys.argv[1], 'rb'))
for fault in jsonschema.Draft202012Validator(schema).iter_errors(file):
    print('.'.join(map(str, fault.absolute_path)) + ': ' + fault.message)
";

/// A Python that has the validator (Debian: `python3-jsonschema`), if there is one.
fn python() -> Option<&'static str> {
    let has_it = |python: &&str| {
        let mut asked = Command::new(python);
        asked.args(["-W", "ignore", "-c", "import jsonschema, tomllib"]);
        let asked = asked.stdout(Stdio::null()).stderr(Stdio::null()).status();
        asked.is_ok_and(|status| status.success())
    };
    let found = ["/usr/bin/python3", "python3"].into_iter().find(has_it);
    let is_required = std::env::var_os("RELAY_REQUIRE_TOOLS").is_some_and(|value| value == "1");
    assert!(found.is_some() || !is_required, "python3-jsonschema is not installed");
    if found.is_none() {
        eprintln!("skipped: python3-jsonschema is not installed");
    }
    found
}

impl Home {
    fn schema(&self) -> Value {
        let told = self.run(&["schema", "gateway"]);
        assert_eq!((told.status, told.err.as_str()), (0, ""));
        self.write("schema.json", &told.out);
        serde_json::from_str(&told.out).unwrap()
    }

    /// What the schema finds wrong with a file.
    fn faults(&self, python: &str, file: &str) -> String {
        let mut validator = Command::new(python);
        validator.args(["-W", "ignore", "-c", VALIDATE, file, "schema.json"]);
        let done = validator.current_dir(self.folder()).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap()
    }
}

/// The numbers of `[limits]` and `[egress]`, each with its table and what is said of it.
fn numbers(schema: &Value) -> Vec<(&str, &String, &Value)> {
    let of = |table: &'static str| {
        let keys = schema["properties"][table]["properties"].as_object().unwrap().iter();
        let numbers = keys.filter(|(_, said)| said["type"] == "integer");
        numbers.map(move |(key, said)| (table, key, said))
    };
    of("limits").chain(of("egress")).collect()
}

/// The file of a fresh instance with each number as `choose` says.
fn with(home: &Home, numbers: &[(&str, &String, &Value)], choose: impl Fn(&Value) -> i64) {
    let good = home.read(FILE);
    let mut text = good.split("# Each line shows a default").next().unwrap().to_owned();
    for table in ["limits", "egress"] {
        writeln!(text, "[{table}]").unwrap();
        for (_, key, said) in numbers.iter().filter(|(of, ..)| *of == table) {
            writeln!(text, "{key} = {}", choose(said)).unwrap();
        }
    }
    home.write("site/gateway-1/numbers.toml", &text);
}

#[test]
fn a_number_at_either_end_of_what_the_schema_says_is_taken_and_one_beyond_it_is_not() {
    let home = Home::with_site();
    let schema = home.schema();
    let all = numbers(&schema);
    assert!(all.len() > 20, "{all:?}");
    let end = |said: &Value, end: &str| said[end].as_i64().unwrap();
    for (which, beyond) in [("minimum", -1), ("maximum", 1)] {
        with(&home, &all, |said| end(said, which));
        let checked = home.run(&["check", "site/gateway-1/numbers.toml"]);
        assert_eq!((checked.status, checked.err.as_str()), (0, ""), "{which}");
        with(&home, &all, |said| end(said, which) + beyond);
        let checked = home.run(&["check", "site/gateway-1/numbers.toml"]);
        for (_, key, said) in &all {
            let (number, low, high) =
                (end(said, which) + beyond, end(said, "minimum"), end(said, "maximum"));
            let fault = format!("`{key}` is {number}, which is not {low} to {high}");
            assert!(checked.err.contains(&fault), "{fault}: {}", checked.err);
        }
    }
}

#[test]
fn the_defaults_of_the_schema_are_those_that_a_fresh_file_shows() {
    let home = Home::with_site();
    let (schema, file) = (home.schema(), home.read(FILE));
    for (_, key, said) in numbers(&schema) {
        match said["default"].as_i64() {
            Some(default) => {
                let line = format!("\n# {key} = {default}\n");
                assert!(file.contains(&line), "{line}");
            }
            None => assert!(["memory_mebibytes_max", "threshold_gibibytes"].contains(&&**key)),
        }
    }
}

#[test]
fn a_fresh_file_fits_the_schema_and_mistakes_that_it_can_tell_do_not() {
    let Some(python) = python() else { return };
    let home = Home::with_site();
    home.schema();
    assert_eq!(home.faults(python, FILE), "");
    let good = home.read(FILE);
    for (from, to, fault) in [
        ("instance = 1\n", "instance = 17\n", "instance: 17 is greater than the maximum of 16"),
        ("instance = 1\n", "instance = \"1\"\n", "instance: '1' is not of type 'integer'"),
        ("\"round-robin\"\n", "\"random\"\n", "balance: 'random' is not valid"),
        ("# idle_seconds = 60", "idle_seconds = 0", "limits.idle_seconds: 0 is less than"),
        ("# idle_seconds = 60", "idle = 1", "'idle' was unexpected"),
        ("site_ca = ", "# site_ca = ", "links: 'site_ca' is a required property"),
    ] {
        assert!(good.contains(from), "{from}");
        home.write("mistaken.toml", &good.replacen(from, to, 1));
        let faults = home.faults(python, "mistaken.toml");
        assert!(faults.contains(fault) && faults.lines().count() == 1, "{fault}: {faults}");
    }
}
