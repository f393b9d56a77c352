//! Clients that have to show who they are, to a relay that an administrator has set up.

use super::*;

/// Why a request is refused that shows this.
fn refusal(place: &Relay, shows: &[&str]) -> String {
    let url = place.url("/SMS_MP/x");
    let (status, report) = place.report(&[&["request", "GET", &url], shows].concat());
    assert_eq!((status, &report["hop"]), (1, &"gateway".into()), "{report:#}");
    report["reason"].as_str().unwrap().to_owned()
}

#[test]
fn what_an_administrator_blocks_is_blocked_at_an_instance_that_runs_and_at_one_that_starts() {
    let mut place = Relay::start_with(
        |text| text.replace("unsafe_allow_anonymous = true\n", ""),
        |_| answer(200, "from the site"),
    );
    let issued = place.token(&["new"]);
    let (guid, text) = (issued["guid"].as_str().unwrap(), issued["token"].as_str().unwrap());
    place.secret("bulk.token", text);
    place.gateway.wait_for_log("settings applied", 2);
    let shows = ["--token-file", "bulk.token"];
    assert_eq!(refusal(&place, &[]), "CMGService_No_Credential");
    // The instance knows the site's key: the token is good, and not for this.
    assert_eq!(refusal(&place, &shows), "CMGService_Registration_Only");
    place.token(&["block", guid]);
    place.gateway.wait_for_log("settings applied", 3);
    assert_eq!(refusal(&place, &shows), "CMGService_Invalid_Token");

    // Both start anew: the instance knows nothing, and asks nobody in before it knows of the block.
    place.start_anew();
    assert_eq!(refusal(&place, &shows), "CMGService_Invalid_Token");
    place.token(&["unblock", guid]);
    place.gateway.wait_for_log("settings applied", 2);
    assert_eq!(refusal(&place, &shows), "CMGService_Registration_Only");
    assert_eq!(place.origin.seen().len(), 0, "nothing of a stranger reaches the site");
}

#[test]
fn a_connection_point_whose_blocks_cannot_be_read_does_not_start() {
    let place = Relay::start(|_| answer(200, "x"));
    place.token(&["new"]);
    let site = place.path("site/connection-point");
    fs::write(site.join("tokens/site.db"), "no database").unwrap();
    let done = Command::new(env!("CARGO_BIN_EXE_relay"))
        .args(["connection-point", "--config", "connection-point.toml"])
        .current_dir(site)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(1), "{said}");
    assert!(said.contains("cannot use what the site makes its tokens with"), "{said}");
}
