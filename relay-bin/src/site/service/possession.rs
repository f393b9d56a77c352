//! Which certificate's key the client of a request has proven to have.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName};
use relay_core::auth::{Possession, Replay};

use super::certificate::CERTIFICATE_OCTETS_MAX;
use super::decide::Way;
use super::refusal::Refusal;

/// What the connection point says of a client. RFC 9440, section 2.1.
const CLIENT_CERT: HeaderName = HeaderName::from_static("client-cert");

/// The certificate in DER; the one that was shown on the way counts before a signed timestamp,
/// which is not even read then.
pub(super) fn possessed(
    way: &Way,
    head: &HeaderMap,
    now: u64,
    replay: &mut Replay,
) -> Result<Vec<u8>, Refusal> {
    let (Way::Gateway(shown) | Way::Intranet(shown)) = way;
    if let Some(shown) = shown {
        return Ok(shown.clone());
    }
    let signed = Possession::judge(head, now, replay).map_err(Refusal::Timestamp)?;
    signed.map(|it| it.certificate.to_vec()).ok_or(Refusal::NoPossession)
}

/// What the connection point tells of a client: the certificate in DER whose key it has proven to
/// have to a gateway instance. To be asked on its own connections alone: on others, anybody could
/// say so.
pub(super) fn client_certificate(head: &HeaderMap) -> Option<Vec<u8>> {
    let mut told = head.get_all(CLIENT_CERT).iter();
    let (Some(told), None) = (told.next(), told.next()) else { return None };
    // RFC 8941, section 3.3.5: octets are base64 between colons.
    let base64 = told.to_str().ok()?.strip_prefix(':')?.strip_suffix(':')?;
    let der = STANDARD.decode(base64).ok()?;
    (der.len() <= CERTIFICATE_OCTETS_MAX).then_some(der)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn told(values: &[&str]) -> Option<Vec<u8>> {
        let mut head = HeaderMap::new();
        for value in values {
            head.append(CLIENT_CERT, HeaderValue::try_from(*value).unwrap());
        }
        client_certificate(&head)
    }

    #[test]
    fn a_certificate_is_told_as_octets_once_and_whole() {
        let of = |octets: &[u8]| format!(":{}:", STANDARD.encode(octets));
        assert_eq!(told(&[&of(b"der")]), Some(b"der".to_vec()));
        assert_eq!(told(&[&of(&[7; 4096])]), Some(vec![7; 4096]));
        assert_eq!(told(&[&of(&[7; 4097])]), None);
        let [one, other] = [of(b"a"), of(b"b")];
        for broken in [
            &[][..],
            &[one.as_str(), other.as_str()],
            &["ZGVy"],
            &[":ZGVy"],
            &["ZGVy:"],
            &[":Z_:"],
            &[":"],
        ] {
            assert_eq!(told(broken), None, "{broken:?}");
        }
    }

    #[test]
    fn what_was_shown_on_the_way_counts_and_nothing_is_read_then() {
        let (head, mut replay) = (HeaderMap::new(), Replay::new(1));
        let mut of = |way: Way| possessed(&way, &head, 1, &mut replay);
        assert_eq!(of(Way::Gateway(Some(vec![1]))).unwrap(), [1]);
        assert_eq!(of(Way::Intranet(Some(vec![2]))).unwrap(), [2]);
        for way in [Way::Gateway(None), Way::Intranet(None)] {
            assert!(matches!(of(way), Err(Refusal::NoPossession)));
        }
    }
}
