use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, RevokedCertParams, SerialNumber,
    date_time_ymd,
};
use rustls::pki_types::CertificateRevocationListDer;
use tokio::time::{Instant, timeout};

use super::*;

const NAME: &str = "gateway.test";

/// Which side a certificate is for.
#[derive(Clone, Copy, Debug)]
enum For {
    Dialler,
    Dialled,
}

const BOTH: [For; 2] = [For::Dialler, For::Dialled];

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A peer with a certificate for 2000 to 2100.
    fn peer(&self, side: For, serial: u8) -> PeerIdentity {
        let mut params = CertificateParams::new(vec![NAME.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, NAME);
        params.serial_number = Some(SerialNumber::from_slice(&[serial]));
        (params.not_before, params.not_after) =
            (date_time_ymd(2000, 1, 1), date_time_ymd(2100, 1, 1));
        params.extended_key_usages = vec![match side {
            For::Dialler => ExtendedKeyUsagePurpose::ClientAuth,
            For::Dialled => ExtendedKeyUsagePurpose::ServerAuth,
        }];
        let signed = params.signed_by(&KeyPair::generate().unwrap(), &self.0).unwrap();
        match side {
            For::Dialler => PeerIdentity::of_dialler(&[signed.der().clone()]),
            For::Dialled => PeerIdentity::of_dialled(&[signed.der().clone()], NAME),
        }
    }

    /// A list that is over when the year `until` begins.
    fn revoke(&self, serials: &[u8], until: i32) -> CertificateRevocationListDer<'static> {
        let entry = |serial: &u8| RevokedCertParams {
            serial_number: SerialNumber::from_slice(&[*serial]),
            revocation_time: date_time_ymd(2001, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2000, 1, 1),
            next_update: date_time_ymd(until, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(entry).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.0).unwrap().into()
    }

    fn anchors(&self) -> TrustAnchors {
        TrustAnchors::new([self.0.der().clone()]).unwrap()
    }
}

fn trust(side: For, anchors: &TrustAnchors) -> PeerTrust {
    let made = match side {
        For::Dialler => PeerTrust::of_diallers(anchors),
        For::Dialled => PeerTrust::of_dialled(anchors),
    };
    made.unwrap()
}

fn year(year: i32) -> SystemTime {
    date_time_ymd(year, 1, 1).into()
}

#[test]
fn a_certificate_holds_in_its_time_and_has_expired_behind_it() {
    let ca = Authority::new("one");
    for side in BOTH {
        let (trust, peer) = (trust(side, &ca.anchors()), ca.peer(side, 7));
        let second = Duration::from_secs(1);
        assert_eq!(trust.judge(&peer, year(2050)), Verdict::Holds, "{side:?}");
        assert_eq!(trust.judge(&peer, year(2100)), Verdict::Holds, "its last second, {side:?}");
        let expired = Verdict::Unfit(Unfit::Expired);
        assert_eq!(trust.judge(&peer, year(2100) + second), expired, "{side:?}");
        // A clock that was set back is no reason to let go of everybody.
        let early = trust.judge(&peer, year(2000) - second);
        assert!(matches!(early, Verdict::Unknown(_)), "{early:?}");
    }
}

#[test]
fn a_certificate_on_a_list_is_revoked_and_no_other_is_even_if_the_list_is_over() {
    let ca = Authority::new("one");
    for side in BOTH {
        for until in [2060, 2040] {
            let listed = ca.anchors().with_revoked([ca.revoke(&[7], until)]);
            let trust = trust(side, &listed);
            let judge = |serial| trust.judge(&ca.peer(side, serial), year(2050));
            assert_eq!(judge(7), Verdict::Unfit(Unfit::Revoked), "{side:?} until {until}");
            assert_eq!(judge(8), Verdict::Holds, "{side:?} until {until}");
        }
    }
}

#[test]
fn an_authority_that_is_trusted_no_more_counts_and_a_list_that_lacks_does_not() {
    let (ca, other) = (Authority::new("one"), Authority::new("two"));
    for side in BOTH {
        let peer = ca.peer(side, 7);
        let verdict = trust(side, &other.anchors()).judge(&peer, year(2050));
        assert_eq!(verdict, Verdict::Unfit(Unfit::Distrusted), "{side:?}");
        let foreign = ca.anchors().with_revoked([other.revoke(&[7], 2060)]);
        let verdict = trust(side, &foreign).judge(&peer, year(2050));
        assert!(matches!(verdict, Verdict::Unknown(_)), "{side:?}: {verdict:?}");
    }
}

#[test]
fn a_peer_that_shows_nothing_or_answers_to_another_name_is_not_judged() {
    let ca = Authority::new("one");
    let judge = |peer: &PeerIdentity| trust(For::Dialled, &ca.anchors()).judge(peer, year(2050));
    let shown = ca.peer(For::Dialled, 7);
    for peer in [
        PeerIdentity::of_dialled(&[], NAME),
        PeerIdentity::of_dialled(&shown.chain, "other.test"),
        PeerIdentity::of_dialler(&shown.chain),
    ] {
        assert!(matches!(judge(&peer), Verdict::Unknown(_)), "{peer:?}");
    }
    assert_eq!((shown.names().as_str(), shown.serial().as_str()), (NAME, "07"));
}

#[tokio::test(start_paused = true)]
async fn a_certificate_that_expires_is_noticed_within_a_minute_with_a_list_or_without() {
    let ca = Authority::new("one");
    let peer = ca.peer(For::Dialler, 7);
    for with_trust in [false, true] {
        let in_force = TrustInForce::default();
        if with_trust {
            in_force.set(Arc::new(trust(For::Dialler, &ca.anchors())));
        }
        let began = Instant::now();
        // Its last second is over 30 s from now.
        let clock = || year(2100) - Duration::from_secs(30) + began.elapsed();
        let unfit = in_force.until(&peer, clock, |_| true).await;
        assert_eq!(unfit, Unfit::Expired);
        assert_eq!(began.elapsed().as_secs(), 60);
    }
}

#[tokio::test(start_paused = true)]
async fn what_changes_counts_at_once_and_only_revocation_for_a_link_that_drains() {
    let ca = Authority::new("one");
    let peer = ca.peer(For::Dialler, 7);
    let in_force = TrustInForce::default();
    let began = Instant::now();
    let clock = || year(2050);
    let revoked = |unfit: &Unfit| *unfit == Unfit::Revoked;
    let mut draining = pin!(in_force.until(&peer, clock, revoked));
    let mut standing = pin!(in_force.until(&peer, clock, |_| true));
    let long = Duration::from_mins(10);
    assert!(timeout(long, standing.as_mut()).await.is_err());

    let other = Authority::new("two");
    in_force.set(Arc::new(trust(For::Dialler, &other.anchors())));
    assert_eq!(standing.await, Unfit::Distrusted);
    assert!(timeout(long, draining.as_mut()).await.is_err());

    let listed = ca.anchors().with_revoked([ca.revoke(&[7], 2060)]);
    in_force.set(Arc::new(trust(For::Dialler, &listed)));
    assert_eq!(draining.await, Unfit::Revoked);
    assert_eq!(began.elapsed(), 2 * long, "each at once");
}
