//! `relay check` of a folder: each file of a site, and whether they fit each other.

use std::fs;

use serde_json::Value;

use crate::{Ended, Home};

const POINT: &str = "two/connection-point/connection-point.toml";
const FIRST: &str = "two/gateway-1/gateway.toml";
const SECOND: &str = "two/gateway-2/gateway.toml";

/// Another connection point's, which is a copy of the first.
const OTHER_POINT: &str = "two/other-point/connection-point.toml";

/// A site of two instances in `two`, beside one in `site`.
fn home() -> Home {
    let home = Home::with_site();
    let backend = ["--backend", "http://127.0.0.1:8080"];
    let made = home.run(&[&["init", "two", "--instances", "2"], &backend[..]].concat());
    assert_eq!(made.status, 0, "{}", made.err);
    home
}

fn edit(home: &Home, file: &str, from: &str, to: &str) {
    let text = home.read(file);
    assert!(text.contains(from), "{file}: {from}");
    home.write(file, &text.replace(from, to));
}

/// Has the site have another connection point, which is as the first.
fn add_point(home: &Home) {
    let [from, to] = [POINT, OTHER_POINT].map(|file| home.folder().join(file));
    let (from, to) = (from.parent().unwrap(), to.parent().unwrap());
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// Asserts that all files can be used, and that this, and nothing else, is wrong between them.
fn assert_misfits(checked: &Ended, problems: &[&str]) {
    assert_eq!(checked.status, 78, "{}", checked.err);
    let told: Vec<_> = checked.err.lines().filter_map(|it| it.strip_prefix("error: ")).collect();
    assert_eq!(told, problems, "{}", checked.err);
    assert_eq!(checked.err.matches("\n  = help: ").count(), problems.len(), "{}", checked.err);
    let end = "these files do not fit each other";
    let last = match problems.len() {
        1 => end.to_owned(),
        count => format!("{end}: {count} faults"),
    };
    assert_eq!(checked.err.lines().last().unwrap(), last);
}

#[test]
fn each_known_file_of_a_folder_and_of_those_in_it_is_judged_and_no_other() {
    let home = home();
    let checked = home.run(&["check", "two"]);
    assert_eq!((checked.status, checked.err.as_str()), (0, ""));
    let usable = checked.out.lines().filter_map(|line| line.strip_suffix(" can be used"));
    assert_eq!(usable.collect::<Vec<_>>(), [POINT, FIRST, SECOND]);
    let checked = home.run(&["check", "two/gateway-2"]);
    assert_eq!((checked.status, checked.out.matches(" can be used").count()), (0, 1));
    // What is hidden, deeper, or called otherwise is not looked at.
    for folder in ["two/.old", "two/gateway-1/below", "two/third"] {
        fs::create_dir(home.folder().join(folder)).unwrap();
    }
    for file in ["two/.old/gateway.toml", "two/gateway-1/below/gateway.toml", "two/next.toml"] {
        home.write(file, "broken");
    }
    assert_eq!(home.run(&["check", "two"]).status, 0);
    home.write("two/third/gateway.toml", "broken");
    let checked = home.run(&["check", "two", POINT]);
    assert_eq!(checked.status, 78);
    assert!(checked.err.contains("two/third/gateway.toml:1:"), "{}", checked.err);
    assert_eq!(checked.out.matches(" can be used").count(), 4, "all that can be");
}

#[test]
fn a_folder_with_no_file_of_a_role_is_no_site() {
    let home = home();
    for (folder, why) in [
        (".", "neither this folder nor one in it has a gateway.toml or connection-point.toml"),
        ("two/site-ca", "neither this folder nor one in it has"),
    ] {
        let checked = home.run(&["check", folder]);
        assert_eq!((checked.status, checked.out.as_str()), (78, ""));
        let says = format!("error: cannot read the configuration `{folder}`: {why}");
        assert!(checked.err.starts_with(&says), "{}", checked.err);
    }
}

#[cfg(unix)]
#[test]
fn a_file_of_a_site_that_is_a_link_to_nowhere_is_told_of() {
    let home = home();
    let file = home.folder().join(SECOND);
    fs::remove_file(&file).unwrap();
    std::os::unix::fs::symlink("absent", &file).unwrap();
    let checked = home.run(&["check", "two"]);
    assert_eq!(checked.status, 78);
    let says = format!("error: cannot read the configuration `{SECOND}`: ");
    assert!(checked.err.contains(&says), "{}", checked.err);
}

#[test]
fn what_does_not_fit_between_the_files_of_a_site_is_told_with_its_line() {
    // Both authorities have one name.
    let refused = "is refused: invalid peer certificate: BadSignature";
    let of_point = format!("the certificate of connection point `connection-point-1`, in {POINT}");
    let of_second = format!("the link certificate of instance 2, in {SECOND}");
    let of_first = format!("the link certificate of instance 1, in {FIRST}");
    let not_of = |name: &str| format!("is not of `{name}`");
    for (file, from, to, problems) in [
        (
            SECOND,
            "\ninstance = 2\n",
            "\ninstance = 1\n",
            vec![
                format!("instance 1 of localhost is in {FIRST}, too"),
                format!(
                    "the link certificate of instance 1, in {SECOND}, {}",
                    not_of("gateway-1.localhost")
                ),
            ],
        ),
        (
            POINT,
            "\ninstances = 2\n",
            "\ninstances = 1\n",
            vec![format!("instance 2 is in {SECOND}, and is not dialled")],
        ),
        (
            POINT,
            "\nserver_name = \"gateway-{instance}.localhost\"",
            "\nserver_name = \"g-{instance}.localhost\"",
            vec![
                format!("{of_first}, {}", not_of("g-1.localhost")),
                format!("{of_second}, {}", not_of("g-2.localhost")),
            ],
        ),
        (
            POINT,
            "\nsite_ca = \"site-ca.pem\"\n",
            "\nsite_ca = \"../../site/connection-point/site-ca.pem\"\n",
            vec![format!("{of_first}, {refused}"), format!("{of_second}, {refused}")],
        ),
        (
            SECOND,
            "\nsite_ca = \"site-ca.pem\"\n",
            "\nsite_ca = \"../../site/connection-point/site-ca.pem\"\n",
            vec![format!("{of_point}, {refused}")],
        ),
    ] {
        let home = home();
        // A list of another authority than that which is trusted is one that counts for nobody.
        for file in [POINT, SECOND] {
            edit(&home, file, "\nsite_crl = ", "\n# site_crl = ");
        }
        edit(&home, file, from, to);
        let checked = home.run(&["check", "two"]);
        assert_misfits(&checked, &problems.iter().map(String::as_str).collect::<Vec<_>>());
        let places = checked.err.matches(&format!("--> {file}:")).count();
        let elsewhere = usize::from(problems.len() == 2 && file == SECOND);
        assert_eq!(places + elsewhere, problems.len(), "{}", checked.err);
    }
}

#[test]
fn two_connection_points_of_a_site_have_two_names_and_publish_the_same_with_one_version() {
    let home = home();
    add_point(&home);
    let same = format!("connection point `connection-point-1` is in {POINT}, too");
    assert_misfits(&home.run(&["check", "two"]), &[&same]);
    edit(&home, OTHER_POINT, "name = \"connection-point-1\"", "name = \"other\"");
    assert_eq!(home.run(&["check", "two"]).status, 0, "nothing is said of versions");

    edit(&home, POINT, "\n# version = 1\n", "\nversion = 1\n");
    assert_eq!(home.run(&["check", "two"]).status, 0, "one of them says nothing");
    edit(&home, OTHER_POINT, "\n# version = 1\n", "\nversion = 2\n");
    let other = format!("version 2 is published here, and version 1 in {POINT}");
    assert_misfits(&home.run(&["check", "two"]), &[&other]);

    edit(&home, POINT, "\nversion = 1\n", "\nversion = 2\n");
    assert_eq!(home.run(&["check", "two"]).status, 0);
    edit(&home, POINT, "# paths = [\"SMS_MP\", ", "paths = [\"SMS_MP\", ");
    let something = format!("version 2 publishes something else here than in {POINT}");
    assert_misfits(&home.run(&["check", "two"]), &[&something]);
    edit(&home, OTHER_POINT, "# site = \"default\"", "site = \"another\"");
    assert_eq!(home.run(&["check", "two"]).status, 0, "another site publishes what it likes");
}

#[test]
fn a_script_gets_what_does_not_fit_as_json() {
    let home = home();
    edit(&home, POINT, "\ninstances = 2\n", "\ninstances = 1\n");
    let checked = home.run(&["check", "--json", "two"]);
    assert_eq!((checked.status, checked.err.as_str()), (78, ""));
    let said: Value = serde_json::from_str(&checked.out).unwrap();
    assert_eq!(said["files"].as_array().unwrap().len(), 3);
    assert!(said["files"].as_array().unwrap().iter().all(|file| file["usable"] == true));
    let misfits = said["misfits"].as_array().unwrap();
    assert_eq!((misfits.len(), &misfits[0]["file"]), (1, &POINT.into()));
    assert!(misfits[0]["line"].is_u64() && misfits[0]["help"].is_string());
    let alone = home.run(&["check", "--json", FIRST, POINT]);
    let alone: Value = serde_json::from_str(&alone.out).unwrap();
    assert_eq!(alone["misfits"], serde_json::json!([]), "files alone are not of one site");
}

#[cfg(feature = "cloud")]
#[test]
fn a_store_that_cannot_be_opened_is_told_at_its_table_as_at_a_start() {
    let home = home();
    home.write("two/gateway-1/azure.key", "no-base64!");
    let table = "[content.azure]\naccount = \"relayfiles\"\ncontainer = \"content\"\n\
                 key_file = \"azure.key\"\ntrust = \"site-ca.pem\"\n\n[admin]";
    edit(&home, FIRST, "[admin]", table);
    let checked = home.run(&["check", FIRST]);
    assert_eq!((checked.status, checked.out.as_str()), (78, ""));
    let says = "error: [content] cannot be used: the file of the store's key holds no base64\n";
    assert!(checked.err.starts_with(says), "{}", checked.err);
    assert!(checked.err.contains(&format!(" --> {FIRST}:")), "{}", checked.err);
    let started = home.run(&["gateway", "--config", FIRST]);
    assert_eq!(started.status, 78);
    let (faults, _) = checked.err.rsplit_once("\n\n").unwrap();
    assert_eq!(started.err.trim_end(), faults);
    if cfg!(not(feature = "otel")) {
        let good = home.read(FIRST);
        edit(&home, FIRST, "[admin]", "[telemetry]\nendpoint = \"http://127.0.0.1:1\"\n\n[admin]");
        let checked = home.run(&["check", FIRST]);
        assert!(checked.err.ends_with("cannot be used: 2 faults\n"), "{}", checked.err);
        home.write(FIRST, &good);
    }
    edit(&home, FIRST, "\n[content.azure]", "\n[content]\nenabled = false\n\n[content.azure]");
    assert_eq!(home.run(&["check", FIRST]).status, 0, "nobody is given it");
}

#[cfg(not(feature = "otel"))]
#[test]
fn a_collector_of_a_program_that_sends_no_spans_is_told_at_its_line() {
    let home = home();
    for file in [FIRST, POINT] {
        edit(&home, file, "# [telemetry]", "[telemetry]\nendpoint = \"http://127.0.0.1:1\"\n#");
        let checked = home.run(&["check", file]);
        assert_eq!((checked.status, checked.out.as_str()), (78, ""));
        let says = "error: this program was built without `otel`, and sends no spans\n";
        assert!(checked.err.starts_with(says), "{}", checked.err);
        let shown = "| endpoint = \"http://127.0.0.1:1\"\n";
        assert!(checked.err.contains(shown), "{}", checked.err);
    }
}

#[cfg(feature = "otel")]
#[test]
fn a_collector_can_be_used_by_a_program_that_sends_spans() {
    let home = home();
    for file in [FIRST, POINT] {
        edit(&home, file, "# [telemetry]", "[telemetry]\nendpoint = \"http://127.0.0.1:1\"\n#");
        assert_eq!(home.run(&["check", file]).status, 0);
    }
}
