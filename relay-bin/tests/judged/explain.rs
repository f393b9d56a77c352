//! `relay explain`: what a gateway does with a request, and why.

use serde_json::Value;

use crate::Home;

const GATEWAY: &str = "site/gateway-1/gateway.toml";
const POINT: &str = "site/connection-point/connection-point.toml";
const BASE: &str = "https://localhost:8443/CCM_Proxy_ServerAuth/72057594037927937";

fn explain(home: &Home, verb: &str, url: &str, rest: &[&str]) -> crate::Ended {
    home.run(&[&["explain", verb, url, "--config", POINT], rest].concat())
}

#[test]
fn a_request_for_the_site_is_explained_from_root_to_backend() {
    let home = Home::with_site();
    let url = format!("{BASE}/SMS_MP/.sms_aut?MPLIST");
    let explained = explain(&home, "GET", &url, &["--header", "Connection: keep-alive"]);
    assert_eq!(explained.err, "");
    assert_eq!(
        (explained.status, explained.out.as_str()),
        (
            0,
            "\
GET /CCM_Proxy_ServerAuth/72057594037927937/SMS_MP/.sms_aut?MPLIST
the gateway sends this to the site
  root      CCM_Proxy_ServerAuth, of clients with a token; either may show what counts
  endpoint  mp: management point, role id 72057594037927937, in \
             site/connection-point/connection-point.toml
  asks for  /SMS_MP/.sms_aut?MPLIST
  verbs     HEAD, CCM_POST, BITS_POST, GET, PROPFIND
  paths     SMS_MP, ccm_system, ccm_system_tokenauth, ccm_incoming, CCM_STS, CCM_Client, BGB \
             (those of its kind)
  clients   site-token
  unproven  401 CMGService_No_Credential: the client has shown neither a token nor a certificate \
             that is allowed here
  backend   http://127.0.0.1:8080/
  dropped   connection
  link      not known: links are up or not at a running instance; add --config gateway.toml of \
             one on this machine, with [admin]
"
        )
    );
}

#[test]
fn a_refusal_is_explained_with_its_reason_and_what_to_do() {
    let home = Home::with_site();
    let other = "https://localhost/CCM_Proxy_MutualAuth/1/SMS_MP/x";
    for (verb, url, header, answer, says) in [
        ("GET", other, "a: b", "404 CMGService_Not_Published", "72057594037927937 (mp)"),
        ("DELETE", &format!("{BASE}/SMS_MP/x"), "a: b", "405 CMGService_Method_Not_Allowed", ""),
        ("GET", &format!("{BASE}/SMS_MP/%2e%2e/x"), "a: b", "400 CMGService_Unsafe_Path", ""),
        ("GET", &format!("{BASE}/SMS_MP/%5Cx"), "a: b", "400 CMGService_Unsafe_Path", ""),
    ] {
        let explained = explain(&home, verb, url, &["-H", header]);
        assert_eq!(explained.status, 1, "{url}: {}", explained.err);
        let out = &explained.out;
        assert!(out.contains("\nthe gateway refuses this, and nothing of it reaches a link\n"));
        assert!(out.contains(&format!("\n  answer    {answer}\n")), "{out}");
        assert!(out.contains("\n  why       ") && out.contains("\n  next      "), "{out}");
        assert!(out.contains(says), "{out}");
    }
}

#[test]
fn what_the_gateway_answers_by_itself_is_told_and_the_token_service_is_an_endpoint() {
    let home = Home::with_site();
    let own = "https://localhost/CCM_Proxy_MutualAuth/ServiceMetadata";
    let explained = explain(&home, "GET", own, &[]);
    assert_eq!(explained.status, 0);
    assert!(explained.out.contains("\nthe gateway answers this by itself\n"), "{}", explained.out);
    let service = "https://localhost/CCM_Proxy_ServerAuth/72057594037927938/CCM_STS/register";
    let explained = explain(&home, "POST", service, &[]);
    assert_eq!(explained.status, 0, "{}", explained.out);
    assert!(explained.out.contains("  backend   in the connection point itself\n"));
}

#[test]
fn a_script_gets_the_same_and_a_gateways_file_says_how_a_link_is_chosen() {
    let home = Home::with_site();
    // Nobody listens there.
    home.write(GATEWAY, &home.read(GATEWAY).replace("127.0.0.1:10181", "127.0.0.1:1"));
    let url = format!("{BASE}/SMS_MP/x");
    let explained = explain(&home, "GET", &url, &["--config", GATEWAY, "--json"]);
    let said: Value = serde_json::from_str(&explained.out).unwrap();
    assert_eq!((&said["outcome"], explained.status), (&"relayed".into(), 0));
    assert_eq!(said["clients"], "site-token");
    assert_eq!(said["asks_for"], "/SMS_MP/x");
    let link = said["link"].as_str().unwrap();
    let why = "each in turn; which are up is not known: no role answers at 127.0.0.1:1";
    assert!(link.starts_with(why), "{link}");
}

#[test]
fn what_cannot_be_explained_says_what_is_missing_and_repeats_no_secret() {
    let home = Home::with_site();
    let url = format!("{BASE}/SMS_MP/x");
    let alone = home.run(&["explain", "GET", &url, "--config", GATEWAY]);
    assert_eq!(alone.status, 2);
    assert!(alone.err.contains("no --config is of a connection point"), "{}", alone.err);
    let secret = explain(&home, "GET", &url, &["--header", "Authorization: Bearer hunter2"]);
    assert_eq!(secret.status, 2);
    assert!(!secret.err.contains("hunter2") && secret.err.contains("no place on a command line"));
    assert_eq!(explain(&home, "GE T", &url, &[]).status, 2);
    assert_eq!(explain(&home, "GET", "/SMS_MP", &[]).status, 2);
    let twice = home.run(&["explain", "GET", &url, "-c", POINT, "-c", POINT]);
    assert_eq!(twice.status, 0, "one and the same settings, twice: {}", twice.err);
    home.write(POINT, &home.read(POINT).replace("role_id", "rol_id"));
    assert_eq!(explain(&home, "GET", &url, &[]).status, 78);
}
