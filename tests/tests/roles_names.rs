//! In which case names of fields reach a site role, and that their values stay as they are.

#![allow(clippy::unwrap_used, reason = "a failed step of a test's set-up is a failed test")]

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use relay_core::gateway::Gateway;
use relay_tests::client::{Client, Http, bare};
use relay_tests::origin::{Origin, Recorded};
use relay_tests::raw::RawClient;
use relay_tests::roles::{House, SERVICE, target, within};

type Fields = Vec<(String, Vec<u8>)>;

/// Asks by HTTP/1.1 with these fields, and returns what the site got.
async fn reaches(gateway: &Gateway, house: &House, origin: &Origin, fields: &Fields) -> Recorded {
    let mut client = RawClient::join(gateway, &house.ca).await;
    let line = format!("GET {} HTTP/1.1\r\nHost: {SERVICE}\r\n", target("/SMS_MP/x"));
    let mut octets = line.into_bytes();
    for (name, value) in fields {
        octets.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
    }
    octets.extend(b"\r\n");
    client.send(&octets).await;
    assert_eq!(client.status().await, Some(200));
    let mut seen = origin.take();
    assert_eq!(seen.len(), 1);
    seen.remove(0)
}

/// The fields of this name, in any case, in order.
fn of_name(fields: &[(Vec<u8>, Vec<u8>)], name: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
    fields.iter().filter(|field| field.0.eq_ignore_ascii_case(name)).cloned().collect()
}

#[tokio::test]
async fn names_reach_the_site_in_the_case_of_their_client_and_values_octet_for_octet() {
    within(async {
        let origin = Origin::start().await;
        let house = House::before(origin.address);
        let (gateway, _link) = house.joined().await;
        let fields: [(&str, &[u8]); 9] = [
            ("CCMClientID", b"GUID:1"),
            ("SOAPAction", b"\"a\tb\""),
            ("soapaction-not", b"\xff\xfe \x80"),
            ("x-ALL-odD", b"1"),
            ("X-All-Odd", b"2"),
            ("X-ALL-ODD", b""),
            ("BITS-Packet-Type", b"Ping"),
            ("bits-protocol", b"{7df0354d-249b-430f-820d-3d2a9bef4931}"),
            ("Relay-Names", b"SOAPACTION,ccmclientid"),
        ];
        let own = |field: &(&str, &[u8])| (field.0.to_owned(), field.1.to_vec());
        let seen = reaches(&gateway, &house, &origin, &fields.iter().map(own).collect()).await;
        assert_eq!(seen.line, b"GET /SMS_MP/x HTTP/1.1");
        for (name, _) in &fields[..8] {
            let of_name = |fields: &[(Vec<u8>, Vec<u8>)]| of_name(fields, name.as_bytes());
            let sent: Vec<_> = fields
                .iter()
                .map(|field| (field.0.as_bytes().to_vec(), field.1.to_vec()))
                .collect();
            assert_eq!(of_name(&seen.fields), of_name(&sent), "{name}");
        }
        assert_eq!(seen.values("host"), [origin.address.to_string().as_bytes()]);
        assert_eq!(seen.fields.len(), 9, "and no other field: {:?}", seen.names());
    })
    .await;
}

#[tokio::test]
async fn names_of_http_2_reach_the_site_in_their_usual_case() {
    within(async {
        let origin = Origin::start().await;
        let house = House::before(origin.address);
        let (gateway, _link) = house.joined().await;
        let mut client = Client::join(&gateway, &house.ca, Http::Two).await;
        let mut request = bare("GET", &target("/SMS_MP/x"));
        let usual = [
            "Accept-Encoding",
            "BITS-Packet-Type",
            "CCMClientID",
            "CCMClientIDSignature",
            "CCMClientTimestamp",
            "CCMClientTimestampsSignature",
            "ClientToken",
            "SOAPAction",
            "X-Of-Mine",
        ];
        for name in usual {
            request.headers_mut().insert(name, "1".parse().unwrap());
        }
        // Only a gateway may say this.
        request.headers_mut().insert("relay-names", "x-OF-mine".parse().unwrap());
        assert_eq!(client.ask(request).await.status(), 200);
        let seen = origin.take();
        let mut names = seen[0].names();
        names.sort();
        let mut expected = [&usual[..], &["Host"]].concat();
        expected.sort_unstable();
        assert_eq!(names, expected);
    })
    .await;
}

fn any_fields() -> impl Strategy<Value = Fields> {
    let known = prop::sample::select(vec![
        "accept",
        "cookie",
        "dav",
        "etag",
        "range",
        "soapaction",
        "ccmclientid",
        "bits-session-id",
    ]);
    let name = prop_oneof![known.prop_map(str::to_owned), "q[a-c!_.~-]{0,3}"];
    let name = (name, any::<u64>()).prop_map(|(name, capitals)| {
        let letter = |(place, letter): (usize, char)| {
            let is_capital = capitals >> (place % 64) & 1 == 1;
            if is_capital { letter.to_ascii_uppercase() } else { letter }
        };
        name.chars().enumerate().map(letter).collect::<String>()
    });
    let octet = prop_oneof![Just(b'\t'), Just(b' '), 0x21..=0x7e_u8, 0x80..=0xff_u8];
    let value = prop::collection::vec(octet, 0..12).prop_map(|value| value.trim_ascii().to_vec());
    prop::collection::vec((name, value), 0..20)
}

#[test]
fn any_list_of_names_arrives_in_its_case() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (origin, house, gateway, _link) = runtime.block_on(async {
        let origin = Origin::start().await;
        let house = House::before(origin.address);
        let (gateway, link) = house.joined().await;
        (origin, house, gateway, link)
    });
    let mut runner =
        TestRunner::new(Config { cases: 100, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&any_fields(), |fields| {
        let seen = runtime.block_on(within(reaches(&gateway, &house, &origin, &fields)));
        let sent: Vec<_> =
            fields.iter().map(|field| (field.0.clone().into_bytes(), field.1.clone())).collect();
        for (name, _) in &sent {
            prop_assert_eq!(of_name(&seen.fields, name), of_name(&sent, name));
        }
        prop_assert_eq!(seen.fields.len(), sent.len() + 1);
        Ok(())
    });
    outcome.unwrap();
}
