//! Inputs of the target that judges grants for content. Nobody has signed any of them.

use super::Seed;
use crate::tokens::{NOW, SOMEBODY, TENANT, base64url};

pub(super) fn all() -> Vec<Seed> {
    let seed =
        |name, query: String| Seed { target: "content_grant", name, octets: query.into_bytes() };
    let (kid, sig) = (base64url([0; 32]), base64url([0; 256]));
    let for_package = format!("pid=PS100012&cid=*&tid={SOMEBODY}&iss=urn:sccm:oauth2:{TENANT}");
    let lasting =
        |seconds: u64| format!("{for_package}&alg=RS256&st={NOW}&et={}&kid={kid}", NOW + seconds);
    let good = format!("{}&sig={sig}", lasting(3600));
    let with = |from: &str, to: &str| good.replacen(from, to, 1);
    vec![
        seed("written-package", good.clone()),
        seed("written-file-of-package", format!("{good}&file=a/b.cab")),
        seed("written-file", with("cid=*", "cid=a/b.cab")),
        seed("written-file-of-file", with("cid=*", "cid=a") + "&file=b"),
        seed("written-bound", format!("{good}&cnf={kid}")),
        seed("written-escaped", with("urn:", "urn%3a")),
        seed("written-dots", with("cid=*", "cid=%2e%2e/a")),
        seed("written-backslash", with("cid=*", "cid=..%5ca")),
        seed("written-nul", with("cid=*", "cid=a%00b")),
        seed("written-device", format!("{good}&file=nul.txt")),
        seed("written-plus", with("cid=*", "cid=a+b")),
        seed("written-longest-name", with("cid=*", &format!("cid={}", "%C3%BF/".repeat(170)))),
        seed("written-twice", format!("{good}&tid={SOMEBODY}")),
        seed("written-unknown", format!("{good}&x=1")),
        seed("written-no-signature", lasting(3600)),
        seed("written-none", with("RS256", "none")),
        seed("written-24-hours", format!("{}&sig={sig}", lasting(86_400))),
        seed("written-too-long-a-life", format!("{}&sig={sig}", lasting(86_401))),
        seed("written-leading-zero", with("st=", "st=0")),
        seed("written-padded", format!("{good}==")),
    ]
}
