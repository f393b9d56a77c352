//! In which case names of fields are written.
//!
//! Names mean the same in any case (RFC 9110, section 5.1), but old site roles look for theirs as
//! clients have always written them. So every name has a usual case, and what differs from it has
//! to be told beside the head.

use std::ops::Range;

/// Names whose usual case is not that each word begins with a capital.
// Source: RFC 3230, RFC 4918, RFC 9110, SOAP 1.1 and MC-BUP for their own; Microsoft Learn, "CMG
// data flow", for those of Configuration Manager.
const USUAL: [&str; 19] = [
    "BITS-Original-Request-URL",
    "BITS-Reply-URL",
    "CCMClientID",
    "CCMClientIDSignature",
    "CCMClientTimestamp",
    "CCMClientTimestampSignature",
    "CCMClientTimestampsSignature",
    "ClientToken",
    "ClientTokenSignature",
    "Content-ID",
    "Content-MD5",
    "DAV",
    "DNT",
    "ETag",
    "MIME-Version",
    "MS-Author-Via",
    "SOAPAction",
    "TE",
    "WWW-Authenticate",
];

/// The beginning of all names of the upload protocol.
const BITS: &str = "BITS-";

/// Whether a name is in its usual case: that of the protocol it belongs to, or else capitals at the
/// beginning and behind each `-`.
pub fn is_usual_case(name: &[u8]) -> bool {
    let known = known(name);
    let mut before = b'-';
    name.iter().enumerate().all(|(place, &octet)| {
        let usual = usual_octet(known, place, before, octet);
        before = octet;
        usual == octet
    })
}

/// Gives the names at `names` in `head` the case in which `wanted` has them: a list of names with
/// `,` between them. Of a name that occurs more than once, the first there is for the first here.
/// Names that are not there get their usual case.
///
/// Nothing but the case of letters in these names changes, whatever `wanted` says.
pub fn write_names(head: &mut [u8], names: &[Range<usize>], wanted: &[u8]) {
    let mut wanted: Vec<&[u8]> = wanted.split(|octet| *octet == b',').collect();
    for place in names {
        let Some(name) = head.get_mut(place.clone()) else { continue };
        let mut fitting = wanted.iter_mut().filter(|wanted| wanted.eq_ignore_ascii_case(name));
        match fitting.next() {
            Some(fitting) => name.copy_from_slice(std::mem::take(fitting)),
            None => set_usual_case(name),
        }
    }
}

fn set_usual_case(name: &mut [u8]) {
    let known = known(name);
    let mut before = b'-';
    for (place, octet) in name.iter_mut().enumerate() {
        *octet = usual_octet(known, place, before, *octet);
        before = *octet;
    }
}

/// The usual case of a name, or of its beginning; empty if there is nothing special about it.
fn known(name: &[u8]) -> &'static [u8] {
    let is_name = |known: &&&str| known.as_bytes().eq_ignore_ascii_case(name);
    let begins = name.get(..BITS.len()).is_some_and(|it| it.eq_ignore_ascii_case(BITS.as_bytes()));
    let other = if begins { BITS } else { "" };
    USUAL.iter().find(is_name).copied().unwrap_or(other).as_bytes()
}

fn usual_octet(known: &[u8], place: usize, before: u8, octet: u8) -> u8 {
    match known.get(place) {
        Some(&known) => known,
        None if before == b'-' => octet.to_ascii_uppercase(),
        None => octet.to_ascii_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Limits, RequestGuard};
    use super::*;
    use proptest::prelude::*;

    fn rewritten(name: &str, wanted: &str) -> String {
        let mut octets = name.as_bytes().to_vec();
        let place = 0..octets.len();
        write_names(&mut octets, std::slice::from_ref(&place), wanted.as_bytes());
        String::from_utf8(octets).unwrap()
    }

    #[test]
    fn every_name_has_one_usual_case() {
        for name in [
            "Content-Length",
            "Host",
            "X-Odd--Name-",
            "BITS-Packet-Type",
            "BITS-Session-Id",
            "Bits",
            "X_y",
        ]
        .iter()
        .chain(&USUAL)
        {
            for written in [name.to_lowercase(), name.to_uppercase()] {
                assert_eq!(rewritten(&written, ""), *name);
                assert_eq!(is_usual_case(written.as_bytes()), written == *name, "{written}");
            }
            assert!(is_usual_case(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn a_wanted_case_is_for_its_own_name_alone_and_once() {
        assert_eq!(rewritten("soapaction", "a,SoapACTION,b"), "SoapACTION");
        assert_eq!(rewritten("soapaction", "SOAPACTIO,soapactions,"), "SOAPAction");
        let mut head = b"x-a x-a x-a".to_vec();
        write_names(&mut head, &[0..3, 4..7, 8..11], b"x-A,x-a");
        assert_eq!(head, b"x-A x-a X-A");
    }

    /// Names that say nothing about the message, and values.
    fn any_fields() -> impl Strategy<Value = Vec<(String, String)>> {
        let name = "[!#-'*+.0-9A-Z^-z|~-]{1,20}";
        let value = "[\\x21-\\x7e\u{80}-\u{ff}\t ]{0,20}";
        let special = ["host", "content-length", "transfer-encoding", "expect"];
        let field = (name, value).prop_filter("it is special", move |(name, _)| {
            !special.contains(&name.to_lowercase().as_str())
        });
        prop::collection::vec(field, 0..20)
    }

    proptest! {
        #[test]
        fn nothing_but_the_case_of_names_is_changed(
            fields in any_fields(),
            wanted in prop::collection::vec(any::<u8>(), 0..200),
            wants_names in any::<bool>(),
        ) {
            let mut head = b"GET /a,b:c HTTP/1.1\r\nhOST: Mp\r\n".to_vec();
            for (name, value) in &fields {
                head.extend([name.as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
            }
            head.extend(b"\r\n");
            let names = RequestGuard::new(Limits::default()).head(&head).unwrap().unwrap().names;
            let own: Vec<String> = fields.iter().map(|field| field.0.to_uppercase()).collect();
            let wanted = if wants_names { own.join(",").into_bytes() } else { wanted };
            let mut written = head.clone();
            write_names(&mut written, &names, &wanted);
            prop_assert!(written.eq_ignore_ascii_case(&head));
            for (place, (new, old)) in written.iter().zip(&head).enumerate() {
                let is_in_name = names.iter().any(|name| name.contains(&place));
                prop_assert!(is_in_name || new == old, "octet {place} is in no name");
            }
            // The first is Host.
            for (place, own) in names.iter().skip(1).zip(&own).filter(|_| wants_names) {
                prop_assert_eq!(written.get(place.clone()), Some(own.as_bytes()));
            }
        }
    }
}
