//! What ends soon is warned of, and fails nothing before it does.

use std::path::Path;
use std::process::Command;

use rcgen::ExtendedKeyUsagePurpose;
use tempfile::TempDir;
use time::Duration;

use crate::material::let_end_in;
use crate::support::role::Role;
use crate::support::site::{SERVICE, Site};

use super::bed::reaching;
use super::*;

const FILES: [&str; 2] = ["site/gateway-1/clients.pem", "site/gateway-1/clients-key.pem"];

/// An instance whose certificate for clients has so much left, and the command line that reaches
/// it.
fn instance(left: Duration) -> (TempDir, Role, Vec<String>) {
    let home = tempfile::tempdir().unwrap();
    let site = Site::init_with(home.path(), &["--backend", "http://127.0.0.1:9"]);
    let purpose = ExtendedKeyUsagePurpose::ServerAuth;
    let_end_in(home.path(), FILES, SERVICE, (purpose, left));
    let mut gateway = site.start_gateway(1);
    let args = reaching(&gateway.addresses()[..1]);
    (home, gateway, args)
}

fn found(home: &Path, args: &[String]) -> (i32, Value) {
    analyze(home, &args.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn a_certificate_is_warned_of_from_sixty_days_on_and_one_that_is_over_fails_the_second_check() {
    for (days, warned) in [(61, None), (60, Some("ends in 59 days")), (1, Some("ends in 0 days"))] {
        let (home, _gateway, args) = instance(Duration::days(days));
        let found = found(home.path(), &args);
        expect(&found, "ppsfss", &["no_connection_point"]);
        let name = &found.1["checks"][1];
        let warnings = name["warnings"].as_array().unwrap();
        let means = warnings.first().map(|it| it["means"].as_str().unwrap());
        assert_eq!(warnings.len(), usize::from(warned.is_some()), "{warnings:#?}");
        if let (Some(warned), Some(means)) = (warned, means) {
            assert!(means.contains(warned) && means.contains(SERVICE), "{means}");
            assert_eq!(warnings[0]["id"], "ends_soon");
        }

        let text = Command::new(env!("CARGO_BIN_EXE_relay"))
            .arg("analyze")
            .args(&args)
            .current_dir(home.path())
            .output()
            .unwrap();
        let text = String::from_utf8(text.stdout).unwrap();
        assert_eq!(
            text.contains("\n            warning      the server"),
            warned.is_some(),
            "{text}"
        );
        let line = text.trim_end().ends_with(", 1 to be warned of");
        assert_eq!(line, warned.is_some(), "{text}");
        assert!(text.contains(" more days, to 2"), "{text}");
    }
    let (home, _gateway, args) = instance(Duration::hours(-1));
    let found = found(home.path(), &args);
    expect(&found, "pfssss", &["tls_not_valid_now"]);
    assert_eq!(found.1["checks"][1]["warnings"], serde_json::json!([]));
}
