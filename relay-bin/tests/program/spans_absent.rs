//! A program that was built without the feature `otel`.

use std::process::Command;

use crate::support::site::Site;

#[test]
fn a_program_that_sends_no_spans_does_not_start_where_it_is_to() {
    let home = tempfile::tempdir().unwrap();
    let site = Site::init_with(home.path(), &["--backend", "http://127.0.0.1:9"]);
    let table = "\n[telemetry]\nendpoint = \"http://127.0.0.1:4318\"\n";
    for (role, file) in [
        ("gateway", "gateway-1/gateway.toml"),
        ("connection-point", "connection-point/connection-point.toml"),
    ] {
        site.edit(file, |text| text + table);
        for check in [&[][..], &["--check"]] {
            let started = Command::new(env!("CARGO_BIN_EXE_relay"))
                .args([role, "--config", &format!("site/{file}")])
                .args(check)
                .current_dir(home.path())
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&started.stderr);
            assert_eq!(started.status.code(), Some(78), "{said}");
            assert!(said.contains("this program was built without `otel`"), "{said}");
        }
    }
}
