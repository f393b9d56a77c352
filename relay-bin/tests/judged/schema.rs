//! The schema of a configuration file and what is said of the file itself are one.

use std::fmt::Write as _;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::Home;

/// The roles, each with the file that a fresh site has for it.
const ROLES: [(&str, &str); 2] = [
    ("gateway", "site/gateway-1/gateway.toml"),
    ("connection-point", "site/connection-point/connection-point.toml"),
];

/// The tables with numbers that each role's test sets.
fn tables(role: &str) -> &'static [&'static str] {
    match role {
        "gateway" => &["limits", "egress"],
        _ => &["limits", "endpoint.limits"],
    }
}

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
    fn schema(&self, role: &str) -> Value {
        let told = self.run(&["schema", role]);
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

    /// That the schema finds one fault with a file in which `to` is in the place of `from`.
    fn assert_one_fault(&self, python: &str, good: &str, (from, to, fault): (&str, &str, &str)) {
        assert!(good.contains(from), "{from}");
        self.write("mistaken.toml", &good.replacen(from, to, 1));
        let faults = self.faults(python, "mistaken.toml");
        assert!(faults.contains(fault) && faults.lines().count() == 1, "{fault}: {faults}");
    }
}

/// A key that is a whole number, with its table and what is said of it.
type Number<'a> = (&'static str, &'a String, &'a Value);

/// The numbers of a role's tables.
fn numbers<'a>(role: &str, schema: &'a Value) -> Vec<Number<'a>> {
    let of = |table: &'static str| {
        let said = match table.strip_prefix("endpoint.") {
            Some(below) => &schema["properties"]["endpoint"]["items"]["properties"][below],
            None => &schema["properties"][table],
        };
        let keys = said["properties"].as_object().unwrap().iter();
        let numbers = keys.filter(|(_, said)| said["type"] == "integer");
        numbers.map(move |(key, said)| (table, key, said))
    };
    tables(role).iter().flat_map(|table| of(table)).collect()
}

/// Writes the file of a fresh role with each number as `choose` says. Returns its name.
fn with(
    home: &Home,
    (role, file): (&str, &str),
    numbers: &[Number<'_>],
    choose: impl Fn(&Value) -> i64,
) -> String {
    let good = home.read(file);
    let mut text = good.split("# Each line shows a default").next().unwrap().to_owned();
    for table in tables(role) {
        writeln!(text, "[{table}]").unwrap();
        for (_, key, said) in numbers.iter().filter(|(of, ..)| of == table) {
            writeln!(text, "{key} = {}", choose(said)).unwrap();
        }
    }
    let (folder, _) = file.rsplit_once('/').unwrap();
    let name = format!("{folder}/numbers.toml");
    home.write(&name, &text);
    name
}

#[test]
fn a_number_at_either_end_of_what_the_schema_says_is_taken_and_one_beyond_it_is_not() {
    let home = Home::with_site();
    for role in ROLES {
        let schema = home.schema(role.0);
        let all = numbers(role.0, &schema);
        assert!(all.len() > 20, "{all:?}");
        let end = |said: &Value, end: &str| said[end].as_i64().unwrap();
        for (which, beyond) in [("minimum", -1), ("maximum", 1)] {
            let file = with(&home, role, &all, |said| end(said, which));
            let checked = home.run(&["check", &file]);
            assert_eq!((checked.status, checked.err.as_str()), (0, ""), "{which}");
            let file = with(&home, role, &all, |said| end(said, which) + beyond);
            let checked = home.run(&["check", &file]);
            for (_, key, said) in &all {
                let (number, low, high) =
                    (end(said, which) + beyond, end(said, "minimum"), end(said, "maximum"));
                let fault = format!("`{key}` is {number}, which is not {low} to {high}");
                assert!(checked.err.contains(&fault), "{fault}: {}", checked.err);
            }
        }
    }
}

#[test]
fn the_defaults_of_the_schema_are_those_that_a_fresh_file_shows() {
    let home = Home::with_site();
    for (role, file) in ROLES {
        let (schema, file) = (home.schema(role), home.read(file));
        for (table, key, said) in numbers(role, &schema) {
            match said["default"].as_i64() {
                Some(default) => {
                    let line = format!("\n# {key} = {default}\n");
                    assert!(file.contains(&line), "{line}");
                }
                // Of one endpoint that of `[limits]` holds.
                None if table == "endpoint.limits" => {}
                None => assert!(["memory_mebibytes_max", "threshold_gibibytes"].contains(&&**key)),
            }
        }
    }
    let schema = home.schema("connection-point");
    let endpoint = &schema["properties"]["endpoint"]["items"]["properties"];
    let check = &endpoint["check"]["properties"];
    let file = home.read(ROLES[1].1);
    for key in ["status", "interval_seconds", "timeout_seconds"] {
        let line = format!("\n# {key} = {}\n", check[key]["default"]);
        assert!(file.contains(&line), "{line}");
    }
}

#[test]
fn a_fresh_gateways_file_fits_the_schema_and_mistakes_that_it_can_tell_do_not() {
    let Some(python) = python() else { return };
    let (home, (role, file)) = (Home::with_site(), ROLES[0]);
    home.schema(role);
    assert_eq!(home.faults(python, file), "");
    let good = home.read(file);
    for mistake in [
        ("instance = 1\n", "instance = 17\n", "instance: 17 is greater than the maximum of 16"),
        ("instance = 1\n", "instance = \"1\"\n", "instance: '1' is not of type 'integer'"),
        ("\"round-robin\"\n", "\"random\"\n", "balance: 'random' is not valid"),
        ("# idle_seconds = 60", "idle_seconds = 0", "limits.idle_seconds: 0 is less than"),
        ("# idle_seconds = 60", "idle = 1", "'idle' was unexpected"),
        ("site_ca = ", "# site_ca = ", "links: 'site_ca' is a required property"),
    ] {
        home.assert_one_fault(python, &good, mistake);
    }
}

#[test]
fn a_fresh_connection_points_file_fits_the_schema_and_mistakes_that_it_can_tell_do_not() {
    let Some(python) = python() else { return };
    let (home, (role, file)) = (Home::with_site(), ROLES[1]);
    home.schema(role);
    assert_eq!(home.faults(python, file), "");
    // One with every key that has no other in its place.
    home.write("keys.toml", include_str!("../../src/run/reload/tests/keys.toml"));
    assert_eq!(home.faults(python, "keys.toml"), "");
    let good = home.read("keys.toml");
    let long = format!("\"{}\"\nsite", "n".repeat(65));
    for mistake in [
        ("\"one\"\nsite", "1\nsite", "name: 1 is not of type 'string'"),
        ("\"one\"\nsite", &long, "is too long"),
        ("instances = 2", "instances = 17", "gateway: "),
        ("transport = \"auto\"", "transport = \"udp\"", "gateway: "),
        ("certificate = \"link.pem\" # of links\n", "", "'certificate' is a required property"),
        ("\"certificate\", \"site-token\"", "\"password\"", "'password' is not valid"),
        ("\"certificate\", \"site-token\"", "\"entra\"", "has non-unique elements"),
        ("id = \"0a1b2c3d-", "id = \"{0a1b2c3d-", "tenant.0.id: '{0a1b2c3d"),
        ("version = 1", "version = -1", "settings.version: -1 is less than the minimum of 0"),
        ("sample_ratio = 0.5", "sample_ratio = 1.5", "telemetry.sample_ratio: 1.5 is greater"),
        ("role_id = 7", "role_id = -7", "endpoint.0.role_id: -7 is less than"),
        ("role_id = 7", "role_id = \"x\"", "endpoint.0.role_id: 'x' does not match"),
        ("kind = \"management-point\"", "kind = \"mp\"", "endpoint.0.kind: 'mp' is not valid"),
        ("backend = \"https://mp.example\"\n", "", "'backend' is a required property"),
        ("backend = \"https://mp.example\"", "backend = []", "endpoint.0.backend: []"),
        ("status = 200", "status = 199", "endpoint.0.check.status: 199 is less than"),
        ("role_id = 8\n", "", "token_service: 'role_id' is a required property"),
    ] {
        home.assert_one_fault(python, &good, mistake);
    }
    home.assert_one_fault(python, &good, ("[web_proxy]", "[proxy]", "'proxy' was unexpected"));
    let list = "[[gateway]]\ninstance = 1\nhost = \"a\"\n\
                [[gateway]]\ninstance = 2\nhost = \"b\"\n";
    let (from, to) = (good.find("[gateway]").unwrap(), good.find("[link]").unwrap());
    let listed = format!("{}{list}{}", &good[..from], &good[to..]);
    home.write("listed.toml", &listed);
    assert_eq!(home.faults(python, "listed.toml"), "");
    home.assert_one_fault(python, &listed, ("instance = 2", "instance = 0", "gateway: "));
}
