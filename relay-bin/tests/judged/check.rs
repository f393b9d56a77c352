//! `relay check`: everything that is wrong with a file, in one run.

use serde_json::Value;

use crate::Home;

const GATEWAY: &str = "site/gateway-1/gateway.toml";
const POINT: &str = "site/connection-point/connection-point.toml";

/// A connection point's file with thirteen mistakes, no two of one kind.
const MISTAKEN: &str = include_str!("mistaken.toml");

/// What is said of it.
const SAID: &str = include_str!("mistaken.said");

#[test]
fn a_file_with_thirteen_different_mistakes_shows_all_of_them_at_once() {
    let home = Home::with_site();
    home.write("site/connection-point/mistaken.toml", MISTAKEN);
    let checked = home.run(&["check", "site/connection-point/mistaken.toml"]);
    assert_eq!((checked.status, checked.out.as_str()), (78, ""));
    // What the operating system says of a file that is not there, it says in its own words.
    let absent = std::fs::File::open("absent").unwrap_err().to_string();
    assert_eq!(checked.err, SAID.replace("NOT THERE", &absent), "{}", checked.err);
}

#[test]
fn a_role_says_of_such_a_file_at_its_start_what_the_check_says() {
    let home = Home::with_site();
    let file = "site/connection-point/mistaken.toml";
    home.write(file, MISTAKEN);
    let checked = home.run(&["check", file]);
    let started = home.run(&["connection-point", "--config", file]);
    assert_eq!(started.status, 78);
    let (faults, _) = checked.err.rsplit_once("\n\n").unwrap();
    assert_eq!(started.err.trim_end(), faults);
}

#[test]
fn the_files_of_a_fresh_site_can_be_used_each_for_the_role_that_shows_in_it() {
    let home = Home::with_site();
    let checked = home.run(&["check", GATEWAY, POINT]);
    assert_eq!((checked.status, checked.err.as_str()), (0, ""));
    assert!(checked.out.starts_with(&format!("{GATEWAY} can be used\n  service ")));
    assert!(checked.out.contains(&format!("\n{POINT} can be used\n  name ")));
    let as_other = home.run(&["check", "--role", "gateway", POINT]);
    assert_eq!(as_other.status, 78);
    assert!(as_other.err.contains("error: unknown key `gateway`"), "{}", as_other.err);
}

#[test]
fn one_file_that_cannot_be_used_keeps_no_other_from_being_judged() {
    let home = Home::with_site();
    home.write("neither.toml", "[limits]\n");
    home.write(GATEWAY, &home.read(GATEWAY).replace("127.0.0.1:10140", "127.0.0.1:8443"));
    let checked = home.run(&["check", "absent.toml", "neither.toml", GATEWAY, POINT]);
    assert_eq!(checked.status, 78);
    let says = |text: &str| assert!(checked.err.contains(text), "{text}: {}", checked.err);
    says("error: cannot read the configuration `absent.toml`: ");
    says("error: this could be for a gateway as well as for a connection point\n");
    says("error: clients and links cannot both connect to 127.0.0.1:8443\n");
    assert!(checked.out.starts_with(&format!("{POINT} can be used\n")), "{}", checked.out);
}

#[test]
fn a_script_gets_each_fault_and_each_warning_as_json() {
    let home = Home::with_site();
    home.write("site/connection-point/mistaken.toml", MISTAKEN);
    let anonymous = "\n[[endpoint]]\nname = \"trial\"\nkind = \"management-point\"\nrole_id = 9\n\
                     unsafe_allow_anonymous = true\nbackend = \"http://127.0.0.1:8081\"\n";
    home.write(POINT, &(home.read(POINT) + anonymous));
    let files = ["site/connection-point/mistaken.toml", POINT, "absent.toml"];
    let checked = home.run(&["check", "--json", files[0], files[1], files[2]]);
    assert_eq!((checked.status, checked.err.as_str()), (78, ""));
    let said: Value = serde_json::from_str(&checked.out).unwrap();
    let of = |at: usize| &said["files"][at];
    assert_eq!((&of(0)["role"], &of(0)["usable"]), (&"connection-point".into(), &false.into()));
    let errors = of(0)["errors"].as_array().unwrap();
    assert_eq!(errors.len(), 13);
    let first = &errors[0];
    assert_eq!((&first["line"], &first["column"]), (&3.into(), &1.into()));
    assert_eq!(first["problem"], "unknown key `colour`");
    assert_eq!((&of(1)["usable"], of(1)["errors"].as_array().unwrap().len()), (&true.into(), 0));
    let warning = of(1)["warnings"][0].as_str().unwrap();
    assert!(warning.starts_with("endpoint `trial` lets anybody on the internet in"), "{warning}");
    assert_eq!((&of(2)["role"], &of(2)["errors"][0]["line"]), (&Value::Null, &Value::Null));
    let help = of(2)["errors"][0]["help"].as_str().unwrap();
    assert!(help.starts_with("check the path and its permissions"), "{help}");
}

#[test]
fn a_check_without_a_file_is_a_mistake_of_the_command_line() {
    let home = Home::with_site();
    assert_eq!(home.run(&["check"]).status, 2);
    assert_eq!(home.run(&["check", "--role", "client", GATEWAY]).status, 2);
}
