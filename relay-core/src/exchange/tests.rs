//! Frozen bytes, refusals, limits and properties of head blocks.

use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, StatusCode};
use proptest::prelude::*;

use super::{
    AnswerHead, Assertions, DecodeError, EncodeError, FieldNames, HeadLimits, MessageId, Origin,
    ProvenCertificate, RequestHead, Trailers,
};

fn limits() -> HeadLimits {
    HeadLimits::default()
}

const REQUEST_HEX: &str = concat!(
    "11",                                       // version 1, request
    "05",                                       // CCM_POST
    "0005 2f613f623d",                          // /a?b=
    "001a",                                     // assertions
    "02 0004 0000fde8",                         // answer within 65 s
    "81 0010 00112233445566778899aabbccddeeff", // message id
    "0003",                                     // fields
    "2d 0001 68",                               // host: h
    "00 05 782d6f6464 0002 ff09",               // x-odd: ff 09
    "00 05 782d6f6464 0000",                    // x-odd, empty
);

const ANSWER_HEX: &str = concat!(
    "12",           // version 1, answer
    "00ce",         // 206
    "00",           // the site answered
    "02 4f4b",      // OK
    "0000",         // assertions
    "0001",         // fields
    "1e 0002 3132", // content-length: 12
);

const TRAILERS_HEX: &str = concat!(
    "13",                       // version 1, trailers
    "0001",                     // fields
    "00 05 782d73756d 0001 31", // x-sum: 1
);

fn unhex(text: &str) -> Bytes {
    let digits: Vec<u8> = text.bytes().filter(|octet| *octet != b' ').collect();
    digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

fn fields(list: &[(&'static str, &[u8])]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in list {
        map.append(HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap());
    }
    map
}

fn request() -> RequestHead {
    let id = "00112233-4455-6677-8899-aabbccddeeff".parse().unwrap();
    let mut assertions = Assertions::new(id);
    assertions.answer_within = Some(Duration::from_secs(65));
    RequestHead {
        method: Method::from_bytes(b"CCM_POST").unwrap(),
        target: PathAndQuery::from_static("/a?b="),
        headers: fields(&[("host", b"h"), ("x-odd", b"\xff\t"), ("x-odd", b"")]),
        assertions,
    }
}

fn answer() -> AnswerHead {
    AnswerHead {
        status: StatusCode::PARTIAL_CONTENT,
        reason: Some(Bytes::from_static(b"OK")),
        headers: fields(&[("content-length", b"12")]),
        origin: Origin::Site,
    }
}

/// Decodes as the block's own kind and encodes again.
fn recode(block: &Bytes) -> Result<Bytes, DecodeError> {
    let limits = &HeadLimits::default();
    let encoded = match block.first() {
        Some(0x12) => AnswerHead::decode(block.clone(), limits)?.encode(limits),
        Some(0x13) => Trailers::decode(block.clone(), limits)?.encode(limits),
        _ => RequestHead::decode(block.clone(), limits)?.encode(limits),
    };
    Ok(encoded.expect("what was decoded under a limit fits it"))
}

fn refusal(hex: &str) -> DecodeError {
    recode(&unhex(hex)).expect_err(hex)
}

#[test]
fn names_stand_between_the_wait_and_the_message_id() {
    let plain = unhex(REQUEST_HEX);
    let names = "03 0005 582d612c79"; // X-a,y
    let whole = REQUEST_HEX.replace("001a", "0022").replace("fde8", &format!("fde8{names}"));
    let mut head = request();
    head.assertions.names = FieldNames::new(Bytes::from_static(b"X-a,y"));
    assert_eq!(head.encode(&limits()).unwrap(), unhex(&whole));
    assert_eq!(RequestHead::decode(unhex(&whole), &limits()), Ok(head));
    assert_eq!(RequestHead::decode(plain, &limits()), Ok(request()));
}

#[test]
fn a_certificate_stands_between_the_names_and_the_message_id() {
    let certificate = "04 0003 300100";
    let whole = REQUEST_HEX.replace("001a", "0020").replace("fde8", &format!("fde8{certificate}"));
    let mut head = request();
    head.assertions.certificate = ProvenCertificate::new(Bytes::from_static(&[0x30, 1, 0]));
    assert_eq!(head.encode(&limits()).unwrap(), unhex(&whole));
    assert_eq!(RequestHead::decode(unhex(&whole), &limits()), Ok(head.clone()));
    let names = "03 0005 582d612c79"; // X-a,y
    head.assertions.names = FieldNames::new(Bytes::from_static(b"X-a,y"));
    let both = format!("fde8{names}{certificate}");
    let both = REQUEST_HEX.replace("001a", "0028").replace("fde8", &both);
    assert_eq!(head.encode(&limits()).unwrap(), unhex(&both));
    assert_eq!(RequestHead::decode(unhex(&both), &limits()), Ok(head));
}

#[test]
fn a_certificate_has_1_to_4096_octets() {
    let told = |octets: usize| {
        let section = u16::try_from(19 + 3 + octets).unwrap().to_be_bytes();
        let length = u16::try_from(octets).unwrap().to_be_bytes();
        let id = unhex("81 0010 00112233445566778899aabbccddeeff");
        let front = unhex("11 01 0001 2f");
        let value = vec![7; octets];
        let block = [&front[..], &section, &[4], &length, &value, &id, &[0, 0]].concat();
        RequestHead::decode(block.into(), &limits())
            .map(|head| head.assertions.certificate.map(|it| it.as_bytes().len()))
    };
    for octets in [1, 4095, 4096] {
        assert_eq!(told(octets), Ok(Some(octets)));
        assert!(ProvenCertificate::new(vec![7; octets].into()).is_some());
    }
    for octets in [0, 4097] {
        assert_eq!(told(octets), Err(DecodeError::BadAssertion { kind: 4 }));
        assert!(ProvenCertificate::new(vec![7; octets].into()).is_none());
    }
}

#[test]
fn request_bytes_are_frozen() {
    assert_eq!(request().encode(&limits()).unwrap(), unhex(REQUEST_HEX));
    assert_eq!(RequestHead::decode(unhex(REQUEST_HEX), &limits()), Ok(request()));
}

#[test]
fn answer_bytes_are_frozen() {
    assert_eq!(answer().encode(&limits()).unwrap(), unhex(ANSWER_HEX));
    assert_eq!(AnswerHead::decode(unhex(ANSWER_HEX), &limits()), Ok(answer()));

    let refused = AnswerHead { reason: None, origin: Origin::ConnectionPoint, ..answer() };
    let block = refused.encode(&limits()).unwrap();
    assert_eq!(block, unhex("12 00ce 01 ff 0000 0001 1e 0002 3132"));
    assert_eq!(AnswerHead::decode(block, &limits()), Ok(refused));
}

#[test]
fn trailers_bytes_are_frozen() {
    let trailers = Trailers(fields(&[("x-sum", b"1")]));
    assert_eq!(trailers.encode(&limits()).unwrap(), unhex(TRAILERS_HEX));
    assert_eq!(Trailers::decode(unhex(TRAILERS_HEX), &limits()), Ok(trailers));
}

#[test]
fn values_target_and_reason_are_slices_of_the_block() {
    let inside = |block: &Bytes, part: &[u8]| block.as_ptr_range().contains(&part.as_ptr());

    let block = unhex(REQUEST_HEX);
    let head = RequestHead::decode(block.clone(), &limits()).unwrap();
    assert!(inside(&block, head.target.as_str().as_bytes()));
    assert!(inside(&block, head.headers.get("host").unwrap().as_bytes()));

    let block = unhex(ANSWER_HEX);
    let head = AnswerHead::decode(block.clone(), &limits()).unwrap();
    assert!(inside(&block, &head.reason.unwrap()));
}

#[test]
fn a_block_cut_anywhere_or_longer_by_one_octet_is_refused() {
    for hex in [REQUEST_HEX, ANSWER_HEX, TRAILERS_HEX] {
        let whole = unhex(hex);
        for end in 0..whole.len() {
            assert_eq!(recode(&whole.slice(..end)), Err(DecodeError::Truncated), "cut at {end}");
        }
        let longer = Bytes::from([&whole[..], b"\0"].concat());
        assert_eq!(recode(&longer), Err(DecodeError::TrailingOctets { octets: 1 }));
    }
}

#[test]
fn a_block_of_another_kind_or_version_is_refused() {
    let limits = &HeadLimits::default();
    assert_eq!(
        AnswerHead::decode(unhex(REQUEST_HEX), limits),
        Err(DecodeError::WrongKind { expected: 0x12, found: 0x11 })
    );
    assert_eq!(
        Trailers::decode(unhex("23 0000"), limits),
        Err(DecodeError::WrongKind { expected: 0x13, found: 0x23 })
    );
}

#[test]
fn a_second_encoding_of_the_same_head_is_refused() {
    let id = "0013 81 0010 00112233445566778899aabbccddeeff 0000";
    let needless_method = format!("11 00 03 474554 0001 2f {id}");
    assert_eq!(refusal(&needless_method), DecodeError::NeedlessLiteral);
    assert_eq!(refusal("13 0001 00 04 686f7374 0000"), DecodeError::NeedlessLiteral);
    assert_eq!(refusal("13 0001 00 03 582d41 0000"), DecodeError::BadFieldName);
    assert_eq!(refusal("13 0003 2d 0000 01 0000 2d 0000"), DecodeError::ScatteredField);
    assert_eq!(
        refusal("13 0003 00 02 7861 0000 00 02 7862 0000 00 02 7861 0000"),
        DecodeError::ScatteredField
    );
}

#[test]
fn bad_names_values_and_targets_are_refused() {
    let request = |front: &str| format!("11 {front} 0013 81 0010 {} 0000", "00".repeat(16));
    assert!(recode(&unhex(&request("01 0001 2f"))).is_ok());
    for (front, error) in [
        ("0b 0001 2f", DecodeError::UnknownCode { code: 11 }),
        ("00 00 0001 2f", DecodeError::BadMethod),
        ("00 02 4120 0001 2f", DecodeError::BadMethod),
        ("01 0000", DecodeError::BadTarget),
        ("01 0001 2a", DecodeError::BadTarget),
        ("01 0002 3f61", DecodeError::BadTarget),
        ("01 0003 2f2361", DecodeError::BadTarget),
        ("01 0003 2f0d0a", DecodeError::BadTarget),
        ("01 0002 2fff", DecodeError::BadTarget),
        ("01 0002 2f20", DecodeError::BadTarget),
    ] {
        assert_eq!(refusal(&request(front)), error, "{front}");
    }
    for (hex, error) in [
        ("13 0001 4e 0000", DecodeError::UnknownCode { code: 78 }),
        ("13 0001 00 00 0000", DecodeError::BadFieldName),
        ("13 0001 00 02 3a61 0000", DecodeError::BadFieldName),
        ("13 0001 00 02 6120 0000", DecodeError::BadFieldName),
        ("13 0001 2d 0002 0d0a", DecodeError::BadFieldValue),
        ("13 0001 2d 0001 00", DecodeError::BadFieldValue),
        ("13 0001 2d 0001 7f", DecodeError::BadFieldValue),
        ("12 0063 00 ff 0000 0000", DecodeError::BadStatus { status: 99 }),
        ("12 03e8 00 ff 0000 0000", DecodeError::BadStatus { status: 1000 }),
        ("12 00c8 02 ff 0000 0000", DecodeError::UnknownOrigin { code: 2 }),
        ("12 00c8 00 02 0d0a 0000 0000", DecodeError::BadReason),
    ] {
        assert_eq!(refusal(hex), error, "{hex}");
    }
}

#[test]
fn unknown_assertions_are_skipped_unless_critical() {
    let id = format!("81 0010 {}", "00".repeat(16));
    let request = |section: &str| {
        let section = unhex(section);
        let front = unhex(&format!("11 01 0001 2f {:04x}", section.len()));
        recode(&[front, section, unhex("0000")].concat().into())
    };
    let plain = request(&id);
    assert!(plain.is_ok());
    assert_eq!(request(&format!("01 0000 {id}")), plain);
    assert_eq!(request(&format!("7f 0003 616263 {id}")), plain);
    for (section, error) in [
        ("", DecodeError::NoMessageId),
        ("02 0004 00000000", DecodeError::NoMessageId),
        (&*format!("{id} 82 0000"), DecodeError::UnknownCriticalAssertion { kind: 0x82 }),
        (&*format!("80 0000 {id}"), DecodeError::UnknownCriticalAssertion { kind: 0x80 }),
        (&*format!("{id} {id}"), DecodeError::AssertionOrder { kind: 0x81 }),
        (&*format!("{id} 02 0004 00000000"), DecodeError::AssertionOrder { kind: 0x02 }),
        (&*format!("05 0000 01 0000 {id}"), DecodeError::AssertionOrder { kind: 0x01 }),
        (&*format!("02 0003 000000 {id}"), DecodeError::BadAssertion { kind: 0x02 }),
        (&*format!("03 0000 {id}"), DecodeError::BadAssertion { kind: 0x03 }),
        (&*format!("03 0004 612c2c62 {id}"), DecodeError::BadAssertion { kind: 0x03 }),
        (&*format!("03 0003 612062 {id}"), DecodeError::BadAssertion { kind: 0x03 }),
        ("81 000f 000000000000000000000000000000", DecodeError::BadAssertion { kind: 0x81 }),
        (&*format!("{id} 82"), DecodeError::Truncated),
        (&*format!("{id} 82 0001"), DecodeError::Truncated),
    ] {
        assert_eq!(request(section), Err(error), "{section}");
    }
    let answer = |section: &str| recode(&unhex(&format!("12 00c8 00 ff {section} 0000")));
    assert_eq!(answer("0003 01 0000"), answer("0000"));
    assert_eq!(answer("0003 81 0000"), Err(DecodeError::UnknownCriticalAssertion { kind: 0x81 }));
}

#[test]
fn the_octet_limit_holds_on_both_sides_to_the_octet() {
    let block = request().encode(&limits()).unwrap();
    let (octets, exact) = (block.len(), HeadLimits::new(block.len(), 64));
    assert_eq!(request().encode(&exact).as_ref(), Ok(&block));
    assert_eq!(RequestHead::decode(block.clone(), &exact), Ok(request()));

    let (limit, tight) = (octets - 1, HeadLimits::new(octets - 1, 64));
    assert_eq!(request().encode(&tight), Err(EncodeError::HeadTooLong { octets, limit }));
    let too_long = DecodeError::TooLong { octets, limit };
    assert_eq!(RequestHead::decode(block, &tight), Err(too_long));
}

#[test]
fn the_field_limit_holds_on_both_sides_and_counts_repeated_names() {
    let (exact, tight) = (HeadLimits::new(16_376, 3), HeadLimits::new(16_376, 2));
    let block = request().encode(&exact).unwrap();
    assert_eq!(RequestHead::decode(block.clone(), &exact), Ok(request()));
    assert_eq!(request().encode(&tight), Err(EncodeError::TooManyFields { fields: 3, limit: 2 }));
    assert_eq!(
        RequestHead::decode(block, &tight),
        Err(DecodeError::TooManyFields { fields: 3, limit: 2 })
    );
    // A promise of fields that cannot be there is found out before anything is allocated for them.
    assert_eq!(refusal("13 0040 2d 0000"), DecodeError::Truncated);
}

#[test]
fn a_head_that_has_no_block_is_not_encoded() {
    let limits = &HeadLimits::new(usize::MAX, usize::MAX);
    let star = RequestHead { target: PathAndQuery::from_static("*"), ..request() };
    assert_eq!(star.encode(limits), Err(EncodeError::BadTarget));

    let method = Method::from_bytes(&[b'A'; 256]).unwrap();
    let long = RequestHead { method, ..request() };
    assert_eq!(long.encode(limits), Err(EncodeError::NameTooLong { octets: 256 }));

    let name = HeaderName::from_bytes(&[b'a'; 256]).unwrap();
    let mut trailers = Trailers::default();
    trailers.0.insert(name, HeaderValue::from_static(""));
    assert_eq!(trailers.encode(limits), Err(EncodeError::NameTooLong { octets: 256 }));

    let mut trailers = Trailers::default();
    let value = HeaderValue::from_bytes(&vec![b'a'; 65_536]).unwrap();
    trailers.0.insert("x-long", value);
    assert_eq!(
        trailers.encode(limits),
        Err(EncodeError::HeadTooLong { octets: 65_536, limit: 65_528 })
    );
}

#[test]
fn a_reason_phrase_is_short_text_or_left_out() {
    let shown = |phrase: Vec<u8>| answer().with_reason(phrase.into()).reason;
    assert_eq!(shown(b"\tNot \xe9".to_vec()).as_deref(), Some(&b"\tNot \xe9"[..]));
    assert_eq!(shown(vec![]).as_deref(), Some(&b""[..]));
    assert_eq!(shown(vec![b'a'; 128]).map(|phrase| phrase.len()), Some(128));
    assert_eq!(shown(vec![b'a'; 129]), None);
    assert_eq!(shown(b"a\r\nb".to_vec()), None);

    for phrase in [vec![b'a'; 129], b"a\nb".to_vec()] {
        let head = AnswerHead { reason: Some(phrase.into()), ..answer() };
        assert_eq!(head.encode(&limits()), Err(EncodeError::BadReason));
    }
    let long = format!("12 00c8 00 81 {} 0000 0000", "61".repeat(129));
    assert_eq!(refusal(&long), DecodeError::BadReason);
}

#[test]
fn decoded_credentials_do_not_print() {
    let head = Trailers(fields(&[("authorization", b"Bearer x"), ("accept", b"*/*")]));
    let decoded = Trailers::decode(head.encode(&limits()).unwrap(), &limits()).unwrap();
    let text = format!("{decoded:?}");
    assert!(!text.contains("Bearer") && text.contains("*/*"), "{text}");
}

fn any_fields() -> impl Strategy<Value = HeaderMap> {
    let name = prop_oneof![
        "[a-z0-9!#$%&'*+.^_`|~-]{1,20}",
        prop::sample::select(&super::names::FIELDS[..]).prop_map(str::to_owned),
    ];
    let octets = prop_oneof![Just(b'\t'), 0x20..=0x7eu8, 0x80..=0xffu8];
    let value = prop::collection::vec(octets, 0..40);
    prop::collection::vec((name, value), 0..20).prop_map(|list| {
        let mut map = HeaderMap::new();
        for (name, value) in list {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            map.append(name, HeaderValue::from_bytes(&value).unwrap());
        }
        map
    })
}

fn any_request() -> impl Strategy<Value = RequestHead> {
    let method = prop_oneof![
        "[A-Za-z_!-]{1,20}",
        prop::sample::select(&super::names::METHODS[..]).prop_map(str::to_owned),
    ];
    let target = "/[a-zA-Z0-9/%{}.~é-]{0,30}(\\?[a-z0-9=&/?%;é]{0,30})?";
    let wait = prop::option::of(any::<u32>().prop_map(|ms| Duration::from_millis(ms.into())));
    (method, target, any_fields(), any::<[u8; 16]>(), wait).prop_map(
        |(method, target, headers, id, answer_within)| {
            let mut assertions = Assertions::new(MessageId(id));
            assertions.answer_within = answer_within;
            RequestHead {
                method: Method::from_bytes(method.as_bytes()).unwrap(),
                target: PathAndQuery::try_from(target).unwrap(),
                headers,
                assertions,
            }
        },
    )
}

fn any_answer() -> impl Strategy<Value = AnswerHead> {
    let reason = prop::option::of(prop::collection::vec(0x20..=0x7eu8, 0..=128));
    let origin = prop::sample::select(&[Origin::Site, Origin::ConnectionPoint][..]);
    (100..=999u16, reason, any_fields(), origin).prop_map(|(status, reason, headers, origin)| {
        AnswerHead {
            status: StatusCode::from_u16(status).unwrap(),
            reason: reason.map(Bytes::from),
            headers,
            origin,
        }
    })
}

/// Whatever a decoder takes, it takes again after encoding, as the same.
fn assert_settles(block: &Bytes) -> Result<(), TestCaseError> {
    if let Ok(once) = recode(block) {
        prop_assert!(once.len() <= block.len());
        prop_assert_eq!(recode(&once), Ok(once));
    }
    Ok(())
}

proptest! {
    #[test]
    fn a_request_head_survives_the_wire(head in any_request()) {
        let block = head.encode(&limits()).unwrap();
        let decoded = RequestHead::decode(block.clone(), &limits()).unwrap();
        prop_assert_eq!(&decoded, &head);
        prop_assert_eq!(decoded.encode(&limits()).unwrap(), block);
    }

    #[test]
    fn an_answer_head_survives_the_wire(head in any_answer()) {
        let block = head.encode(&limits()).unwrap();
        let decoded = AnswerHead::decode(block.clone(), &limits()).unwrap();
        prop_assert_eq!(&decoded, &head);
        prop_assert_eq!(decoded.encode(&limits()).unwrap(), block);
    }

    #[test]
    fn trailers_survive_the_wire(fields in any_fields()) {
        let block = Trailers(fields.clone()).encode(&limits()).unwrap();
        let decoded = Trailers::decode(block.clone(), &limits()).unwrap();
        prop_assert_eq!(&decoded.0, &fields);
        prop_assert_eq!(decoded.encode(&limits()).unwrap(), block);
    }

    #[test]
    fn no_octets_make_a_decoder_panic(
        kind in 0x10..0x15u8,
        rest in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        assert_settles(&[&[kind][..], &rest].concat().into())?;
    }

    #[test]
    fn a_damaged_block_is_refused_or_settles(
        head in any_request(),
        place in any::<prop::sample::Index>(),
        octet in any::<u8>(),
    ) {
        let mut block = head.encode(&limits()).unwrap().to_vec();
        *place.get_mut(&mut block) = octet;
        assert_settles(&block.into())?;
    }
}

#[test]
fn a_random_message_id_says_that_it_is_random_and_keeps_all_other_bits() {
    let text = |bits| MessageId::from_random(bits).to_string();
    assert_eq!(text(0), "00000000-0000-4000-8000-000000000000");
    assert_eq!(text(u128::MAX), "ffffffff-ffff-4fff-bfff-ffffffffffff");
}
