//! What a document may say of clients.

use super::super::{DOCUMENT_OCTETS_MAX, SettingsDocument};
use super::*;
use crate::auth::Method;
use crate::policy::{EndpointKind, RequestHeaders};

const A: Guid = Guid(0xa);

fn tenant(id: u128) -> TenantTrust {
    TenantTrust {
        id: Guid(id),
        is_enabled: true,
        issuers: vec![Issuer::V1],
        audiences: vec!["https://ConfigMgrService".to_owned()],
        keys: KeySource::Authority("https://login.microsoftonline.com".to_owned()),
    }
}

fn signers() -> PublishedSigners {
    PublishedSigners {
        tenant: A,
        revision: 7,
        certificates: vec![Bytes::from_static(b"s")],
        blocked: vec![],
    }
}

fn certificates(lists: Vec<ListSource>) -> PublishedCertificates {
    PublishedCertificates {
        roots: vec![Bytes::from_static(b"r")],
        intermediates: vec![],
        revocation: Revocation::On(lists),
    }
}

fn trust() -> ClientTrust {
    ClientTrust {
        methods: Methods::default(),
        strictness: Strictness::FallThrough,
        certificates: Some(certificates(vec![])),
        tenants: vec![tenant(1)],
        tokens: Some(signers()),
        barred: vec![],
    }
}

fn barred(text: &str) -> BarredClient {
    text.parse().unwrap()
}

fn document(clients: Option<ClientTrust>, access: Access) -> SettingsDocument {
    let endpoint = Endpoint {
        name: "mp".to_owned(),
        kind: EndpointKind::ManagementPoint,
        role_id: 1,
        paths: None,
        request_body_bytes_max: None,
        request_headers: RequestHeaders::Open,
        access,
    };
    SettingsDocument {
        site: "default".to_owned(),
        version: 1,
        endpoints: vec![endpoint],
        tenants: vec![],
        deadlines: vec![],
        clients,
    }
}

fn verdict(clients: ClientTrust) -> Result<(), DocumentError> {
    document(Some(clients), Access::Anonymous).encode().map(|_| ())
}

#[test]
fn the_frozen_text_of_clients_in_format_1() {
    let all = ClientTrust {
        strictness: Strictness::Refuse,
        certificates: Some(certificates(vec![
            ListSource::Der(Bytes::from_static(b"l")),
            ListSource::Url("http://pki.example/ca.crl".to_owned()),
        ])),
        tokens: Some(PublishedSigners { blocked: vec![Guid(1)], ..signers() }),
        barred: vec![barred("certificate:CN=a:b"), barred("site-token:client x")],
        ..trust()
    };
    let only = Access::Clients(Methods::new(&[Method::SiteToken, Method::Entra]).unwrap());
    let document = document(Some(all), only);
    let expected = concat!(
        r#"{"format":1,"site":"default","version":"1","endpoints":[{"name":"mp","#,
        r#""kind":"management-point","role_id":"1","access":{"clients":["site-token","entra"]}}],"#,
        r#""clients":{"methods":["entra","certificate","site-token"],"strict":true,"#,
        r#""certificates":{"roots":["cg=="],"revocation":{"lists":[{"der":"bA=="},"#,
        r#"{"url":"http://pki.example/ca.crl"}]}},"#,
        r#""tenants":[{"id":"00000000-0000-0000-0000-000000000001","enabled":true,"#,
        r#""issuers":["v1"],"audiences":["https://ConfigMgrService"],"#,
        r#""keys":{"authority":"https://login.microsoftonline.com"}}],"#,
        r#""tokens":{"tenant":"00000000-0000-0000-0000-00000000000a","revision":"7","#,
        r#""signers":["cw=="],"#,
        r#""blocked":["00000000-0000-0000-0000-000000000001"]},"#,
        r#""barred":["certificate:CN=a:b","site-token:client x"]}}"#,
    );
    assert_eq!(String::from_utf8(document.encode().unwrap()).unwrap(), expected);
    assert_eq!(SettingsDocument::decode(expected.as_bytes()), Ok(document));
    // What restricts must not be passed over.
    for (written, instead) in [
        ("\"strict\":true", "\"strict\":true,\"only_at_night\":true"),
        ("[\"v1\"]", "[\"v3\"]"),
        ("cg==", "cg"),
        ("[\"entra\",\"certificate\",\"site-token\"]", "[]"),
        ("\"der\":", "\"pem\":"),
        ("\"certificate:CN=a:b\"", "\"card:CN=a:b\""),
        ("\"certificate:CN=a:b\"", "\"certificate:\""),
        ("\"certificate:CN=a:b\"", "\"certificate\""),
        ("\"revision\":\"7\",", ""),
        ("\"revision\":\"7\"", "\"revision\":\"07x\""),
    ] {
        assert!(expected.contains(written), "{written}");
        let bad = SettingsDocument::decode(expected.replacen(written, instead, 1).as_bytes());
        assert!(matches!(bad, Err(DocumentError::Malformed { .. })), "{instead}: {bad:?}");
    }
}

#[test]
fn an_endpoint_for_clients_is_refused_where_none_could_ever_show_who_it_is() {
    let only = |method| Methods::new(&[method]).unwrap();
    for allowed in Method::ALL {
        for counted in Method::ALL {
            let clients = ClientTrust { methods: only(counted), ..trust() };
            let encoded = document(Some(clients), Access::Clients(only(allowed))).encode();
            let refused = (allowed != counted).then_some(DocumentError::NobodyIn { place: 1 });
            assert_eq!(encoded.err(), refused);
        }
        let nobody = document(None, Access::Clients(only(allowed))).encode();
        assert_eq!(nobody.err(), Some(DocumentError::NobodyIn { place: 1 }));
    }
}

#[test]
fn each_number_has_its_bounds() {
    type Make = fn(usize) -> ClientTrust;
    let table: [(&str, usize, usize, Make); 8] = [
        ("tenants", 0, TENANTS_MAX, |count| ClientTrust {
            tenants: (0..count as u128).map(tenant).collect(),
            ..trust()
        }),
        ("roots", 1, TRUSTED_MAX, |count| ClientTrust {
            certificates: Some(PublishedCertificates {
                roots: vec![Bytes::from_static(b"x"); count],
                ..certificates(vec![])
            }),
            ..trust()
        }),
        ("intermediates", 0, TRUSTED_MAX, |count| ClientTrust {
            certificates: Some(PublishedCertificates {
                intermediates: vec![Bytes::from_static(b"x"); count],
                ..certificates(vec![])
            }),
            ..trust()
        }),
        ("revocation lists", 0, LISTS_MAX, |count| ClientTrust {
            certificates: Some(certificates(vec![
                ListSource::Der(Bytes::from_static(b"x"));
                count
            ])),
            ..trust()
        }),
        ("issuers", 1, 3, |count| ClientTrust {
            tenants: vec![TenantTrust {
                issuers: [Issuer::V1, Issuer::V2, Issuer::Government, Issuer::V1]
                    .into_iter()
                    .take(count)
                    .collect(),
                ..tenant(1)
            }],
            ..trust()
        }),
        ("audiences", 1, AUDIENCES_MAX, |count| ClientTrust {
            tenants: vec![TenantTrust { audiences: vec!["a".to_owned(); count], ..tenant(1) }],
            ..trust()
        }),
        ("signers", 0, SIGNERS_MAX, |count| ClientTrust {
            tokens: Some(PublishedSigners {
                certificates: vec![Bytes::from_static(b"x"); count],
                ..signers()
            }),
            ..trust()
        }),
        ("blocked tokens", 0, BLOCKED_MAX, |count| ClientTrust {
            tokens: Some(PublishedSigners {
                blocked: (0..count as u128).map(Guid).collect(),
                ..signers()
            }),
            ..trust()
        }),
    ];
    for (what, min, max, make) in table {
        for inside in [min, min + 1, max] {
            assert_eq!(verdict(make(inside)), Ok(()), "{inside} {what}");
        }
        for outside in [min.wrapping_sub(1), max + 1] {
            if outside == usize::MAX {
                continue;
            }
            let refused = ClientTrustError::Count { what, count: outside, min, max };
            assert_eq!(verdict(make(outside)), Err(refused.into()), "{outside} {what}");
        }
    }
}

#[test]
fn all_that_can_be_blocked_and_can_sign_fits_beside_the_largest_rest() {
    let listing = |octets: usize| ClientTrust {
        certificates: Some(certificates(vec![ListSource::Der(vec![0; octets].into())])),
        tokens: None,
        ..trust()
    };
    let length =
        |clients| document(Some(clients), Access::Anonymous).encode().map(|text| text.len());
    let free = DOCUMENT_OCTETS_MAX - TOKENS_OCTETS_MAX;
    // Base64 makes 4 of 3.
    let octets = (free - length(listing(0)).unwrap()) / 4 * 3;
    let rest = length(listing(octets)).unwrap();
    assert!((free - 3..=free).contains(&rest), "{rest} of {free}");
    let signer = Bytes::from_static(&[0xff; SIGNER_OCTETS_MAX]);
    let all = PublishedSigners {
        certificates: vec![signer; SIGNERS_MAX],
        blocked: (0..BLOCKED_MAX as u128).map(|it| Guid(u128::MAX - it)).collect(),
        ..signers()
    };
    let whole = length(ClientTrust { tokens: Some(all), ..listing(octets) }).unwrap();
    assert!(whole <= DOCUMENT_OCTETS_MAX);
    assert!(DOCUMENT_OCTETS_MAX - 2048 <= whole, "no more is kept free than needed: {whole}");
}

#[test]
fn texts_are_what_they_must_be() {
    let long = "x".repeat(TEXT_OCTETS_MAX - 8);
    let of = |keys| ClientTrust { tenants: vec![TenantTrust { keys, ..tenant(1) }], ..trust() };
    let list = |url: &str| ClientTrust {
        certificates: Some(certificates(vec![ListSource::Url(url.to_owned())])),
        ..trust()
    };
    for (url, is_authority, is_list) in [
        ("https://login.microsoftonline.com", true, true),
        ("http://pki.example/ca.crl", false, true),
        (&format!("https://{long}"), true, true),
        (&format!("https://{long}x"), false, false),
        ("https://", false, false),
        ("https:///ca.crl", false, false),
        ("https://user:secret@host/ca.crl", false, false),
        ("https://a b", false, false),
        ("ftp://a", false, false),
        ("", false, false),
    ] {
        let authority = verdict(of(KeySource::Authority(url.to_owned())));
        assert_eq!(authority.is_ok(), is_authority, "{url}");
        assert_eq!(verdict(list(url)).is_ok(), is_list, "{url}");
    }
    for (audience, is_right) in [("a", true), ("", false), ("a\n", false)] {
        let audiences = vec![audience.to_owned()];
        let tenants = vec![TenantTrust { audiences, ..tenant(1) }];
        assert_eq!(verdict(ClientTrust { tenants, ..trust() }).is_ok(), is_right, "{audience:?}");
    }
}

#[test]
fn a_tenant_and_each_of_its_issuers_stand_there_once() {
    let twice = ClientTrust { tenants: vec![tenant(1), tenant(2), tenant(1)], ..trust() };
    assert_eq!(verdict(twice), Err(ClientTrustError::Twice(Guid(1)).into()));
    let issuers = vec![Issuer::V2, Issuer::V2];
    let twice = ClientTrust { tenants: vec![TenantTrust { issuers, ..tenant(2) }], ..trust() };
    assert_eq!(verdict(twice), Err(ClientTrustError::Twice(Guid(2)).into()));
}

#[test]
fn clients_that_are_barred_are_bounded_and_have_names_of_one_line() {
    let of = |name: String| ClientTrust {
        barred: vec![BarredClient { method: Method::Entra, name }],
        ..trust()
    };
    for (name, is_right) in [
        ("x".to_owned(), true),
        ("x".repeat(1024), true),
        ("x".repeat(1025), false),
        (String::new(), false),
        ("a\nb".to_owned(), false),
    ] {
        assert_eq!(verdict(of(name.clone())).is_ok(), is_right, "{}", name.len());
        let read = format!("entra:{name}").parse::<BarredClient>();
        assert_eq!(read.is_ok(), is_right, "{}", name.len());
    }
    for (count, is_right) in [(BARRED_MAX, true), (BARRED_MAX + 1, false)] {
        let barred = vec![barred("entra:x"); count];
        assert_eq!(verdict(ClientTrust { barred, ..trust() }).is_ok(), is_right, "{count}");
    }
}
