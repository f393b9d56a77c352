//! One version of a site's settings.

use std::collections::HashSet;
use std::fmt;

use crate::auth::Guid;
use crate::policy::{Endpoint, EndpointMap, EndpointMapError};

use super::clients::{self, ClientTrust, ClientTrustError};
use super::deadline::{self, Deadline};
use super::tenant::{RESOURCE_OCTETS_MAX, TENANTS_MAX, Tenant};
use super::wire;

/// Longest document, in octets: 1 MiB. What it decodes to takes about ten times that at worst.
pub const DOCUMENT_OCTETS_MAX: usize = 1 << 20;

/// Endpoints in one document.
pub const ENDPOINTS_MAX: usize = 1024;

/// Longest name of a site, in octets.
pub const SITE_OCTETS_MAX: usize = 64;

/// Longest name of an endpoint, in octets.
const NAME_OCTETS_MAX: usize = 64;

/// One version of a site's settings.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SettingsDocument {
    /// Whose settings they are: 1 to [`SITE_OCTETS_MAX`] octets of text without control characters.
    pub site: String,
    /// Rises with each change but of the site's tokens, which have a revision of their own; the
    /// highest one holds.
    pub version: u64,
    /// What the site publishes; at most [`ENDPOINTS_MAX`], with names and role ids of their own.
    pub endpoints: Vec<Endpoint>,
    /// The tenants that clients may ask about; at most [`TENANTS_MAX`], each once.
    pub tenants: Vec<Tenant>,
    /// Backends that may take another time than usual to answer; each endpoint at most once.
    pub deadlines: Vec<Deadline>,
    /// Whose clients count; `None`: nobody's, and all endpoints are anonymous.
    pub clients: Option<ClientTrust>,
}

/// Why something is no settings document. All but the first three can be the fault of whoever made
/// it only: the connection point's configuration, or its software.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// It is longer than a document may be. Publish fewer endpoints or paths, and revocation lists
    /// by URL, not as files.
    #[error(
        "the document has {octets} octets or more, and may have {limit}: publish fewer endpoints \
         or paths, and revocation lists by URL"
    )]
    TooLong {
        /// Octets that it has at least.
        octets: usize,
        /// Octets that it may have.
        limit: usize,
    },
    /// It ends in the midst of something: it was cut, or its sender broke off.
    #[error("the document is cut off at line {line}, column {column}")]
    Truncated {
        /// 1-based.
        line: usize,
        /// 1-based.
        column: usize,
    },
    /// It is not JSON, or not of this shape.
    #[error("the document is malformed at line {line}, column {column}: {why}")]
    Malformed {
        /// 1-based.
        line: usize,
        /// 1-based.
        column: usize,
        /// What was found, and what was expected.
        why: String,
    },
    /// It has another format: its sender is newer than this software, which is to be upgraded.
    #[error("the document has format {format}, and format 1 is understood; upgrade this side")]
    Format {
        /// The format it says it has.
        format: u64,
    },
    /// It may not be used by a reader that does not know this member, as here: upgrade this side.
    #[error("the document needs `{member}`, which is not understood; upgrade this side")]
    UnknownCritical {
        /// Its name, or the first 64 characters of it.
        member: String,
    },
    /// The name of its site is empty, too long or no text.
    #[error("a site's name has 1 to 64 octets of text, and this one has {octets} octets")]
    BadSite {
        /// Octets it has.
        octets: usize,
    },
    /// It publishes too much.
    #[error("the document has {endpoints} endpoints, and may have {limit}")]
    TooManyEndpoints {
        /// Endpoints it has.
        endpoints: usize,
        /// Endpoints it may have.
        limit: usize,
    },
    /// The name of an endpoint is empty, too long or no text.
    #[error("endpoint {place} needs a name of 1 to 64 octets of text")]
    BadName {
        /// Its place in the document, 1-based.
        place: usize,
    },
    /// It names too many tenants.
    #[error("the document has {tenants} tenants, and may have {limit}")]
    TooManyTenants {
        /// Tenants it has.
        tenants: usize,
        /// Tenants it may have.
        limit: usize,
    },
    /// It names a tenant twice.
    #[error("tenant {0} stands there twice")]
    DuplicateTenant(Guid),
    /// A deadline is of no endpoint, or the second one of an endpoint.
    #[error("the deadline of role id {role_id} stands there twice, or its endpoint does not")]
    BadDeadline {
        /// Whose it is said to be.
        role_id: u64,
    },
    /// The resource of a tenant is empty, too long or no text.
    #[error("the resource of tenant {0} must have 1 to 1024 octets of text")]
    BadResource(Guid),
    /// What it says of clients cannot hold.
    #[error("whose clients count: {0}")]
    Clients(#[from] ClientTrustError),
    /// Nobody could ever use this endpoint: it is for clients, and none of the methods that it
    /// allows counts at this site.
    #[error("endpoint {place} is for clients, and the document does not say whose count there")]
    NobodyIn {
        /// Its place in the document, 1-based.
        place: usize,
    },
    /// The endpoints do not fit together.
    #[error(transparent)]
    Endpoints(#[from] EndpointMapError),
}

/// Tells two documents of one version apart.
///
/// FNV-1a with 64 bits, of the text as this software writes it: the same for whoever sent it. Not a
/// seal. Whoever could make two documents collide on purpose may publish either of them anyway;
/// what is to be noticed is that two files of one site differ.
// Source: Fowler, Noll, Vo, draft-eastlake-fnv, parameters for 64 bits.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Digest(u64);

impl Digest {
    fn of(octets: &[u8]) -> Self {
        let step =
            |hash: u64, octet: &u8| (hash ^ u64::from(*octet)).wrapping_mul(0x0100_0000_01b3);
        Self(octets.iter().fold(0xcbf2_9ce4_8422_2325, step))
    }
}

/// Sixteen hexadecimal digits.
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl SettingsDocument {
    /// Writes the document.
    ///
    /// # Errors
    ///
    /// [`DocumentError`] if no reader would take it.
    pub fn encode(&self) -> Result<Vec<u8>, DocumentError> {
        self.check()?;
        let octets = wire::write(self);
        check_length(octets.len())?;
        Ok(octets)
    }

    /// Reads a document, all of it.
    ///
    /// # Errors
    ///
    /// [`DocumentError`], which says what is wrong and where.
    pub fn decode(octets: &[u8]) -> Result<Self, DocumentError> {
        check_length(octets.len())?;
        let document = wire::read(octets)?;
        document.check()?;
        Ok(document)
    }

    /// The digest of what the document says.
    pub fn digest(&self) -> Digest {
        Digest::of(&wire::write(self))
    }

    fn check(&self) -> Result<(), DocumentError> {
        if !is_name(&self.site, SITE_OCTETS_MAX) {
            return Err(DocumentError::BadSite { octets: self.site.len() });
        }
        let endpoints = self.endpoints.len();
        if ENDPOINTS_MAX < endpoints {
            return Err(DocumentError::TooManyEndpoints { endpoints, limit: ENDPOINTS_MAX });
        }
        for (place, endpoint) in (1..).zip(&self.endpoints) {
            if !is_name(&endpoint.name, NAME_OCTETS_MAX) {
                return Err(DocumentError::BadName { place });
            }
        }
        EndpointMap::new(self.endpoints.clone())?;
        deadline::check(&self.deadlines, &self.endpoints)?;
        check_tenants(&self.tenants)?;
        clients::check(self.clients.as_ref(), &self.endpoints)
    }
}

fn check_length(octets: usize) -> Result<(), DocumentError> {
    let limit = DOCUMENT_OCTETS_MAX;
    if octets <= limit { Ok(()) } else { Err(DocumentError::TooLong { octets, limit }) }
}

fn check_tenants(tenants: &[Tenant]) -> Result<(), DocumentError> {
    let count = tenants.len();
    if TENANTS_MAX < count {
        return Err(DocumentError::TooManyTenants { tenants: count, limit: TENANTS_MAX });
    }
    let mut known = HashSet::new();
    for tenant in tenants {
        if !is_name(&tenant.resource, RESOURCE_OCTETS_MAX) {
            return Err(DocumentError::BadResource(tenant.id));
        }
        if !known.insert(tenant.id) {
            return Err(DocumentError::DuplicateTenant(tenant.id));
        }
    }
    Ok(())
}

fn is_name(text: &str, octets_max: usize) -> bool {
    (1..=octets_max).contains(&text.len()) && !text.contains(char::is_control)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::policy::{Access, EndpointKind, RequestHeaders};

    fn endpoint(role_id: u64) -> Endpoint {
        Endpoint {
            name: format!("mp-{role_id}"),
            kind: EndpointKind::ManagementPoint,
            role_id,
            paths: None,
            request_body_bytes_max: None,
            request_headers: RequestHeaders::Open,
            access: Access::Anonymous,
        }
    }

    fn document(endpoints: Vec<Endpoint>) -> SettingsDocument {
        let site = "default".to_owned();
        let (tenants, deadlines) = (Vec::new(), Vec::new());
        SettingsDocument { site, version: 7, endpoints, tenants, deadlines, clients: None }
    }

    fn sample() -> SettingsDocument {
        let paths = Some(vec!["SMS_MP".to_owned(), "a/b".to_owned()]);
        let kind = EndpointKind::SoftwareUpdatePoint;
        let limit = Some(u64::MAX);
        let full = Endpoint { paths, kind, request_body_bytes_max: limit, ..endpoint(u64::MAX) };
        document(vec![endpoint(1), full])
    }

    fn decode(text: &str) -> Result<SettingsDocument, DocumentError> {
        SettingsDocument::decode(text.as_bytes())
    }

    #[test]
    fn the_frozen_text_of_format_1() {
        let expected = concat!(
            r#"{"format":1,"site":"default","version":"7","endpoints":["#,
            r#"{"name":"mp-1","kind":"management-point","role_id":"1","access":"anonymous"},"#,
            r#"{"name":"mp-18446744073709551615","kind":"software-update-point","#,
            r#""role_id":"18446744073709551615","paths":["SMS_MP","a/b"],"#,
            r#""request_body_bytes_max":"18446744073709551615","access":"anonymous"}]}"#,
        );
        assert_eq!(String::from_utf8(sample().encode().unwrap()).unwrap(), expected);
        assert_eq!(decode(expected), Ok(sample()));
    }

    #[test]
    fn content_and_listed_headers_have_their_place_in_format_1() {
        let request_headers = RequestHeaders::Listed(["x-site".parse().unwrap()].into());
        let kind = EndpointKind::Content;
        let listed = document(vec![Endpoint { kind, request_headers, ..endpoint(1) }]);
        let expected = concat!(
            r#"{"format":1,"site":"default","version":"7","endpoints":["#,
            r#"{"name":"mp-1","kind":"content","role_id":"1","#,
            r#""request_headers":["x-site"],"access":"anonymous"}]}"#,
        );
        assert_eq!(String::from_utf8(listed.encode().unwrap()).unwrap(), expected);
        assert_eq!(decode(expected), Ok(listed));
        for bad in ["X-Site", "a b", ""] {
            let verdict = decode(&expected.replace("x-site", bad));
            assert!(matches!(verdict, Err(DocumentError::Malformed { .. })), "{bad}: {verdict:?}");
        }
        let verdict = decode(&expected.replace("x-site", "connection"));
        assert!(matches!(verdict, Err(DocumentError::Endpoints(_))), "{verdict:?}");
    }

    #[test]
    fn deadlines_stand_apart_from_endpoints_so_that_older_readers_pass_over_them() {
        let deadlines = vec![Deadline { role_id: 1, backend_answer_milliseconds: 120_000 }];
        let timed = SettingsDocument { deadlines, ..document(vec![endpoint(1)]) };
        let expected = concat!(
            r#"{"format":1,"site":"default","version":"7","endpoints":["#,
            r#"{"name":"mp-1","kind":"management-point","role_id":"1","access":"anonymous"}],"#,
            r#""deadlines":[{"role_id":"1","backend_answer_milliseconds":"120000"}]}"#,
        );
        assert_eq!(String::from_utf8(timed.encode().unwrap()).unwrap(), expected);
        assert_eq!(decode(expected), Ok(timed.clone()));
        let usual = document(vec![endpoint(1)]);
        assert_ne!(timed.digest(), usual.digest());
        let absent = expected.replace(
            r#","deadlines":[{"role_id":"1","backend_answer_milliseconds":"120000"}]"#,
            "",
        );
        assert_eq!(decode(&absent), Ok(usual));
        let bad = decode(&expected.replace("\"120000\"", "\"120000\",\"only_at_night\":true"));
        assert!(matches!(bad, Err(DocumentError::Malformed { .. })), "{bad:?}");
    }

    #[test]
    fn a_deadline_is_of_an_endpoint_of_the_document_and_its_only_one() {
        let of = |role_id| Deadline { role_id, backend_answer_milliseconds: 1 };
        let with =
            |deadlines| SettingsDocument { deadlines, ..document(vec![endpoint(1), endpoint(2)]) };
        assert!(with(vec![of(2), of(1)]).encode().is_ok());
        for (deadlines, role_id) in [(vec![of(3)], 3), (vec![of(1), of(2), of(1)], 1)] {
            let bad = with(deadlines);
            let refused = DocumentError::BadDeadline { role_id };
            assert_eq!(SettingsDocument::decode(&wire::write(&bad)), Err(refused.clone()));
            assert_eq!(bad.encode(), Err(refused));
        }
    }

    #[test]
    fn the_usual_deadline_is_not_told_and_a_part_of_a_millisecond_is_a_whole_one() {
        let of = |time| Deadline::of(1, time).map(Deadline::backend_answer);
        let (usual, ns) = (Duration::from_secs(62), Duration::from_nanos(1));
        assert_eq!(of(usual), None);
        let next = usual + Duration::from_millis(1);
        assert_eq!(
            [of(usual.saturating_sub(ns)), of(usual + ns), of(next)],
            [Some(usual), Some(next), Some(next)]
        );
        assert_eq!(of(Duration::ZERO), Some(Duration::ZERO));
        assert_eq!(of(Duration::MAX), Some(Duration::from_millis(u64::MAX)));
    }

    #[test]
    fn a_document_cut_anywhere_is_said_to_be_cut() {
        let text = sample().encode().unwrap();
        for end in 0..text.len() {
            let verdict = SettingsDocument::decode(text.get(..end).unwrap());
            assert!(matches!(verdict, Err(DocumentError::Truncated { .. })), "{end}: {verdict:?}");
        }
    }

    #[test]
    fn what_is_no_document_is_told_with_its_place() {
        let Err(DocumentError::Malformed { line, column, why }) =
            decode("{\"format\":1,\n\"site\":2}")
        else {
            panic!("a number is no site");
        };
        assert_eq!((line, column), (2, 8));
        assert!(why.contains("expected a string") && !why.contains("line"), "{why}");
        for bad in ["[]", "{}", "1", "null", "{\"format\":\"1\"}", "\u{feff}{}", "{} {}"] {
            assert!(matches!(decode(bad), Err(DocumentError::Malformed { .. })), "{bad}");
        }
        let good = String::from_utf8(sample().encode().unwrap()).unwrap();
        for (from, to) in [
            ("\"7\"", "7"),
            ("\"7\"", "\"-7\""),
            ("\"7\"", "\"+7\""),
            ("\"7\"", "\"18446744073709551616\""),
            ("\"7\"", "\"000000000000000000007\""),
            ("anonymous", "token"),
            ("management-point", "distribution-point"),
            ("\"site\":", "\"site\":\"x\",\"site\":"),
            // It could be a restriction.
            ("\"access\"", "\"only_at_night\":true,\"access\""),
        ] {
            let verdict = decode(&good.replacen(from, to, 1));
            assert!(matches!(verdict, Err(DocumentError::Malformed { .. })), "{to}: {verdict:?}");
        }
    }

    #[test]
    fn unknown_members_are_ignored_unless_critical_and_other_formats_are_named() {
        let good = String::from_utf8(sample().encode().unwrap()).unwrap();
        let with = |members: &str| decode(&good.replacen('{', &format!("{{{members},"), 1));
        assert_eq!(with(r#""later":{"a":[1]}"#), Ok(sample()));
        assert_eq!(with(r#""critical":["site","endpoints"]"#), Ok(sample()));
        let member = "later".to_owned();
        let unknown = with(r#""critical":["site","later"],"later":1"#);
        assert_eq!(unknown, Err(DocumentError::UnknownCritical { member }));
        assert_eq!(decode(r#"{"format":2,"x":1}"#), Err(DocumentError::Format { format: 2 }));
    }

    #[test]
    fn a_site_has_1_to_64_octets_of_text() {
        for (site, accepted) in [
            (String::new(), false),
            ("s".to_owned(), true),
            ("é".repeat(32), true),
            ("s".repeat(65), false),
            ("a\nb".to_owned(), false),
        ] {
            let document = SettingsDocument { site, ..sample() };
            assert_eq!(document.encode().is_ok(), accepted, "{document:?}");
            let read = SettingsDocument::decode(&wire::write(&document));
            let octets = document.site.len();
            let expected =
                if accepted { Ok(document) } else { Err(DocumentError::BadSite { octets }) };
            assert_eq!(read, expected);
        }
    }

    #[test]
    fn a_document_has_at_most_1024_endpoints() {
        let all = document((0..1024).map(endpoint).collect());
        assert_eq!(SettingsDocument::decode(&all.encode().unwrap()), Ok(all));
        let more = document((0..=1024).map(endpoint).collect());
        let refused = Err(DocumentError::TooManyEndpoints { endpoints: 1025, limit: 1024 });
        assert_eq!(SettingsDocument::decode(&wire::write(&more)), refused);
        assert!(more.encode().is_err());
    }

    #[test]
    fn a_document_has_at_most_1_mebibyte() {
        let of_length = |octets: usize| {
            let empty =
                document(vec![Endpoint { paths: Some(vec![String::new()]), ..endpoint(1) }]);
            let fill = octets - wire::write(&empty).len();
            let paths = Some(vec!["p".repeat(fill)]);
            document(vec![Endpoint { paths, ..endpoint(1) }])
        };
        let fits = of_length(1 << 20);
        let octets = fits.encode().unwrap();
        assert_eq!(octets.len(), 1 << 20);
        assert_eq!(SettingsDocument::decode(&octets), Ok(fits));
        let long = of_length((1 << 20) + 1);
        let refused = DocumentError::TooLong { octets: (1 << 20) + 1, limit: 1 << 20 };
        assert_eq!(long.encode(), Err(refused.clone()));
        assert_eq!(SettingsDocument::decode(&wire::write(&long)), Err(refused));
    }

    #[test]
    fn endpoints_that_do_not_fit_together_are_refused_on_both_ends() {
        let twice = document(vec![endpoint(1), endpoint(1)]);
        let nameless = document(vec![Endpoint { name: String::new(), ..endpoint(1) }]);
        let long_name = document(vec![Endpoint { name: "n".repeat(65), ..endpoint(1) }]);
        let paths = Some(vec!["a/../b".to_owned()]);
        let unusable = document(vec![Endpoint { paths, ..endpoint(1) }]);
        for bad in [twice, nameless, long_name, unusable] {
            let why = bad.encode().unwrap_err();
            assert_eq!(SettingsDocument::decode(&wire::write(&bad)), Err(why));
        }
        let fits = document(vec![Endpoint { name: "n".repeat(64), ..endpoint(1) }]);
        assert!(fits.encode().is_ok());
    }

    fn tenant(id: u128) -> Tenant {
        let resource = "https://ConfigMgrService".to_owned();
        Tenant { id: Guid(id), application_id: Guid(7), resource }
    }

    #[test]
    fn a_document_has_at_most_64_tenants_each_once_with_a_resource() {
        let with = |tenants| SettingsDocument { tenants, ..document(Vec::new()) };
        let all = with((0..64).map(tenant).collect());
        assert_eq!(SettingsDocument::decode(&all.encode().unwrap()), Ok(all));
        let named = |resource: String| vec![Tenant { resource, ..tenant(1) }];
        assert!(with(named("r".repeat(1024))).encode().is_ok());
        for (tenants, refused) in [
            (
                (0..65).map(tenant).collect(),
                DocumentError::TooManyTenants { tenants: 65, limit: 64 },
            ),
            (vec![tenant(1), tenant(1)], DocumentError::DuplicateTenant(Guid(1))),
            (named(String::new()), DocumentError::BadResource(Guid(1))),
            (named("r".repeat(1025)), DocumentError::BadResource(Guid(1))),
            (named("r\n".to_owned()), DocumentError::BadResource(Guid(1))),
        ] {
            let bad = with(tenants);
            assert_eq!(SettingsDocument::decode(&wire::write(&bad)), Err(refused.clone()));
            assert_eq!(bad.encode(), Err(refused));
        }
    }

    #[test]
    fn a_tenant_with_a_bad_guid_or_an_unknown_member_is_refused() {
        let good = SettingsDocument { tenants: vec![tenant(1)], ..document(Vec::new()) };
        let text = String::from_utf8(good.encode().unwrap()).unwrap();
        let id = Guid(1).to_string();
        for (from, to) in [(id.as_str(), "1"), ("\"resource\"", "\"disabled\":true,\"resource\"")] {
            let bad = SettingsDocument::decode(text.replace(from, to).as_bytes());
            assert!(matches!(bad, Err(DocumentError::Malformed { .. })), "{to}: {bad:?}");
        }
        assert_eq!(decode(&text), Ok(good.clone()));
        let other = SettingsDocument { tenants: vec![tenant(2)], ..good.clone() };
        assert_ne!(good.digest(), other.digest());
    }

    #[test]
    fn a_digest_is_of_what_is_said_and_not_of_how_it_was_written() {
        let spaced = String::from_utf8(sample().encode().unwrap()).unwrap().replace(',', ", ");
        assert_eq!(decode(&spaced).unwrap().digest(), sample().digest());
        assert_ne!(document(vec![endpoint(1)]).digest(), document(vec![endpoint(2)]).digest());
        // Source: the test vectors of draft-eastlake-fnv.
        assert_eq!(Digest::of(b"foobar").to_string(), "85944171f73967e8");
    }

    fn any_endpoint() -> impl Strategy<Value = Endpoint> {
        let paths = prop::option::of(prop::collection::vec("[A-Za-z_.]{1,4}[a-z]", 0..3));
        let kind = prop_oneof![
            Just(EndpointKind::ManagementPoint),
            Just(EndpointKind::SoftwareUpdatePoint),
            Just(EndpointKind::Content),
            Just(EndpointKind::TokenService),
        ];
        let listed = prop::option::of(prop::collection::vec("x-[a-z]{1,4}", 0..3));
        (any::<u64>(), "[^\\p{Cc}]{0,8}", kind, paths, any::<Option<u64>>(), listed).prop_map(
            |(role_id, name, kind, paths, request_body_bytes_max, listed)| Endpoint {
                name: format!("{role_id}{name}"),
                kind,
                role_id,
                paths,
                request_body_bytes_max,
                request_headers: listed.map_or(RequestHeaders::Open, |names| {
                    let name = |name: String| name.parse().unwrap();
                    RequestHeaders::Listed(names.into_iter().map(name).collect())
                }),
                access: Access::Anonymous,
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(
            site in "[^\\p{Cc}]{1,16}",
            version in any::<u64>(),
            endpoints in prop::collection::vec(any_endpoint(), 0..8),
            times in prop::collection::vec(any::<u64>(), 0..8),
        ) {
            let deadlines = endpoints.iter().zip(times).map(|(endpoint, time)| Deadline {
                role_id: endpoint.role_id,
                backend_answer_milliseconds: time,
            });
            let deadlines = deadlines.collect();
            let document = SettingsDocument { site, version, endpoints, deadlines, ..sample() };
            // Two may have drawn one role id.
            let Ok(octets) = document.encode() else { return Ok(()) };
            prop_assert_eq!(SettingsDocument::decode(&octets), Ok(document));
        }

        #[test]
        fn no_octets_make_the_reader_panic(
            octets in prop::collection::vec(any::<u8>(), 0..64),
            at in any::<prop::sample::Index>(),
        ) {
            let _ = SettingsDocument::decode(&octets);
            let mut text = sample().encode().unwrap();
            let at = at.index(text.len());
            let end = (at + octets.len()).min(text.len());
            text.splice(at..end, octets);
            if let Ok(read) = SettingsDocument::decode(&text) {
                prop_assert_eq!(SettingsDocument::decode(&read.encode().unwrap()), Ok(read));
            }
        }
    }
}
