#![allow(clippy::indexing_slicing, reason = "a place outside is a failed test")]

use std::time::Duration;

use rcgen::{BasicConstraints, DnType, ExtendedKeyUsagePurpose, IsCa, KeyUsagePurpose, SanType};

use super::super::Verdicts;
use super::super::test_pki::{AUTHORITY_END, Authority, LEAF_END, LIST_END, START};
use super::*;

const NOW: u64 = START + 100;

/// Who issued what here: a root, an authority below it, and a client's certificate of that.
struct Site {
    root: Authority,
    middle: Authority,
    leaf: Vec<u8>,
}

impl Site {
    fn new() -> Self {
        let root = Authority::root("root");
        let middle = root.below("middle");
        let leaf = middle.client();
        Self { root, middle, leaf }
    }

    fn trust(&self, check: RevocationCheck) -> CertificateTrust {
        CertificateTrust::new(&[self.root.der()], &[self.middle.der()], check, 1).unwrap()
    }

    fn lists(&self) -> Crls {
        lists([self.root.list(), self.middle.list()])
    }

    /// What the leaf comes to by these lists.
    fn judge(&self, lists: &Crls, now: u64) -> Result<ClientCertificate, CertificateFault> {
        self.trust(RevocationCheck::On).judge(lists, &[&self.leaf], now)
    }
}

fn lists(of: impl IntoIterator<Item = Crl>) -> Crls {
    let mut lists = Crls::default();
    for list in of {
        assert_eq!(lists.hold(list), Ok(true));
    }
    lists
}

/// What `chain` comes to by `root` alone, without lists.
fn judge(root: &Authority, chain: &[&[u8]], now: u64) -> Result<(), CertificateFault> {
    let trust = CertificateTrust::new(&[root.der()], &[], RevocationCheck::Off, 1).unwrap();
    trust.judge(&Crls::default(), chain, now).map(drop)
}

#[test]
fn a_certificate_of_a_published_root_shows_who_has_it_and_until_when() {
    let root = Authority::root("root");
    let leaf = root.client_as(|params| {
        params.distinguished_name.push(DnType::OrganizationName, "two\nlines");
        params.subject_alt_names = vec![SanType::DnsName("pc-1.example".try_into().unwrap())];
    });
    let trust = CertificateTrust::new(&[root.der()], &[], RevocationCheck::On, 1).unwrap();
    let proven = trust.judge(&lists([root.list()]), &[&leaf], NOW).unwrap();
    assert_eq!(proven.subject, "CN=client, O=two\u{fffd}lines");
    assert_eq!(proven.dns_names, ["pc-1.example"]);
    assert_eq!((proven.from, proven.until), (START, LIST_END - 1));
    assert_eq!(proven.fingerprint, sha256(&[&leaf]));
    let off = CertificateTrust::new(&[root.der()], &[], RevocationCheck::Off, 1).unwrap();
    assert_eq!(off.judge(&Crls::default(), &[&leaf], NOW).unwrap().until, LEAF_END);
}

#[test]
fn the_way_to_a_root_leads_through_what_is_published_or_shown() {
    let site = Site::new();
    assert_eq!(judge(&site.root, &[&site.leaf], NOW), Err(CertificateFault::Untrusted));
    assert_eq!(judge(&site.root, &[&site.leaf, site.middle.der()], NOW), Ok(()));
    assert!(site.judge(&site.lists(), NOW).is_ok());
    // Of the same name, but not the same authority.
    let other = Site::new();
    assert_eq!(
        judge(&other.root, &[&site.leaf, site.middle.der()], NOW),
        Err(CertificateFault::Untrusted)
    );
    let nobody = CertificateTrust::new(&[], &[], RevocationCheck::On, 1).unwrap();
    assert_eq!(
        nobody.judge(&site.lists(), &[&site.leaf, site.middle.der(), site.root.der()], NOW),
        Err(CertificateFault::Untrusted)
    );
}

#[test]
fn a_certificate_its_authorities_and_the_root_hold_to_their_last_second() {
    let root = Authority::root("root");
    let long = Duration::from_secs(AUTHORITY_END - LEAF_END + 10);
    let middle = root.below_as("middle", |params| params.not_after -= Duration::from_secs(5));
    let before = START - 1;
    // The leaf's own end, its authority's, and the root's.
    let of_root = root.client_as(|params| params.not_after += long);
    let of_middle = middle.client_as(|params| params.not_after += long);
    for (chain, end) in [
        (vec![&root.client()[..]], LEAF_END),
        (vec![&of_middle[..], middle.der()], AUTHORITY_END - 5),
        (vec![&of_root[..]], AUTHORITY_END),
    ] {
        assert_eq!(judge(&root, &chain, before), Err(CertificateFault::NotYetValid), "{end}");
        assert_eq!(judge(&root, &chain, START), Ok(()), "{end}");
        assert_eq!(judge(&root, &chain, end), Ok(()), "{end}");
        assert_eq!(judge(&root, &chain, end + 1), Err(CertificateFault::Expired), "{end}");
    }
}

#[test]
fn whoever_is_not_named_a_client_is_none() {
    let root = Authority::root("root");
    let uses = |uses: Vec<ExtendedKeyUsagePurpose>| {
        let leaf = root.client_as(|params| params.extended_key_usages = uses);
        judge(&root, &[&leaf], NOW)
    };
    let (client, server) =
        (ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth);
    assert_eq!(uses(vec![server.clone(), client]), Ok(()));
    for others in [vec![], vec![server], vec![ExtendedKeyUsagePurpose::Any]] {
        assert_eq!(uses(others), Err(CertificateFault::NoClientUse));
    }
    for (key_use, expected) in [
        (KeyUsagePurpose::DigitalSignature, Ok(())),
        (KeyUsagePurpose::KeyEncipherment, Err(CertificateFault::NoClientUse)),
    ] {
        let leaf = root.client_as(|params| params.key_usages = vec![key_use]);
        assert_eq!(judge(&root, &[&leaf], NOW), expected);
    }
    // An authority for servers alone makes no clients.
    let servers = root.below_as("servers", |params| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    let leaf = servers.client();
    assert_eq!(judge(&root, &[&leaf, servers.der()], NOW), Err(CertificateFault::NoClientUse));
    assert_eq!(judge(&root, &[root.below("a").der()], NOW), Err(CertificateFault::NoClientUse));
}

#[test]
fn whoever_is_no_authority_signs_nobody() {
    let root = Authority::root("root");
    let client = root.below_as("client", |params| params.is_ca = IsCa::ExplicitNoCa);
    let leaf = client.client();
    assert_eq!(judge(&root, &[&leaf, client.der()], NOW), Err(CertificateFault::NotPermitted));
    let last = root.below_as("last", |params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    });
    let beyond = last.below("beyond");
    let leaf = beyond.client();
    assert_eq!(
        judge(&root, &[&leaf, beyond.der(), last.der()], NOW),
        Err(CertificateFault::NotPermitted)
    );
}

#[test]
fn six_authorities_below_a_root_are_followed_and_seven_are_not() {
    let root = Authority::root("root");
    let mut below = vec![root.below("0")];
    for depth in 1..7 {
        let next = below[depth - 1].below(&depth.to_string());
        below.push(next);
    }
    let chain = |depth: usize| {
        let leaf = below[depth - 1].client();
        let mut chain = vec![leaf];
        chain.extend(below[..depth].iter().rev().map(|it| it.der().to_vec()));
        chain
    };
    let judge = |chain: &[Vec<u8>]| {
        judge(&root, &chain.iter().map(|der| &der[..]).collect::<Vec<_>>(), NOW)
    };
    assert_eq!(judge(&chain(6)), Ok(()));
    assert_eq!(judge(&chain(7)), Err(CertificateFault::TooDeep));
    let mut nine = chain(7);
    nine.push(root.der().to_vec());
    assert_eq!(judge(&nine), Err(CertificateFault::TooLarge));
}

#[test]
fn a_chain_has_at_most_64_kib() {
    let root = Authority::root("root");
    let leaf = root.client();
    let rest = |octets: usize| vec![0; octets - leaf.len()];
    let fits = rest(CHAIN_BYTES_MAX);
    assert_eq!(judge(&root, &[&leaf, &fits], NOW), Ok(()), "what leads nowhere is not followed");
    let over = rest(CHAIN_BYTES_MAX + 1);
    assert_eq!(judge(&root, &[&leaf, &over], NOW), Err(CertificateFault::TooLarge));
}

#[test]
fn what_was_taken_back_is_refused_wherever_in_the_chain_it_stands() {
    let site = Site::new();
    let leaf_gone = lists([site.root.list(), site.middle.revoking()]);
    let middle_gone = lists([site.root.revoking(), site.middle.list()]);
    assert_eq!(site.judge(&leaf_gone, NOW), Err(CertificateFault::Revoked));
    assert_eq!(site.judge(&middle_gone, NOW), Err(CertificateFault::Revoked));
    let off = site.trust(RevocationCheck::Off);
    assert!(off.judge(&leaf_gone, &[&site.leaf], NOW).is_ok(), "nobody asks");
}

#[test]
fn without_a_list_of_each_authority_nothing_is_proven() {
    let site = Site::new();
    for held in [vec![], vec![site.root.list()], vec![site.middle.list()]] {
        assert_eq!(site.judge(&lists(held), NOW), Err(CertificateFault::ListMissing));
    }
    let stranger = lists([Authority::root("stranger").list()]);
    assert_eq!(site.judge(&stranger, NOW), Err(CertificateFault::ListMissing));
}

#[test]
fn a_list_that_is_still_to_be_fetched_is_told_as_such_and_matters_to_nobody_else() {
    let site = Site::new();
    for held in [vec![], vec![site.root.list()], vec![site.middle.list()]] {
        let held = lists(held).awaiting(true);
        assert_eq!(site.judge(&held, NOW), Err(CertificateFault::ListNotFetched));
        let all_there = held.awaiting(false);
        assert_eq!(site.judge(&all_there, NOW), Err(CertificateFault::ListMissing));
    }
    assert!(site.judge(&site.lists().awaiting(true), NOW).is_ok());
    let gone = lists([site.root.list(), site.middle.revoking()]).awaiting(true);
    assert_eq!(site.judge(&gone, NOW), Err(CertificateFault::Revoked));
}

#[test]
fn a_list_that_several_sites_name_may_be_of_any_of_their_authorities() {
    let (one, other) = (Site::new(), Site::new());
    let sites = [one.trust(RevocationCheck::On), other.trust(RevocationCheck::Off)];
    let any = CertificateTrust::of_any(&sites);
    for list in [one.root.list(), one.middle.list(), other.root.list(), other.middle.list()] {
        assert!(any.has_signed(&list));
    }
    assert!(!any.has_signed(&Authority::root("root").list()));
    assert_eq!(any, CertificateTrust::of_any(sites.iter().chain(&sites)), "each once");
    assert_eq!(any, CertificateTrust::of_any(sites.iter().rev()), "in any order");
    assert_ne!(any, CertificateTrust::of_any(&sites[..1]));
}

#[test]
fn a_list_counts_from_its_first_second_until_the_next_is_due() {
    let site = Site::new();
    let from = START + 50;
    let late = site.root.list_as(|list| list.this_update += Duration::from_secs(50));
    let held = lists([late, site.middle.list()]);
    assert_eq!(site.judge(&held, from - 1), Err(CertificateFault::ListNotYetValid));
    let proven = site.judge(&held, from).unwrap();
    assert_eq!((proven.from, proven.until), (from, LIST_END - 1));
    assert!(site.judge(&held, LIST_END - 1).is_ok());
    assert_eq!(site.judge(&held, LIST_END), Err(CertificateFault::ListExpired));
}

#[test]
fn a_list_that_another_key_has_signed_is_not_believed() {
    let site = Site::new();
    let forged = Authority::root("middle");
    let held = lists([site.root.list(), forged.list()]);
    assert_eq!(site.judge(&held, NOW), Err(CertificateFault::ListUntrusted));
}

#[test]
fn of_an_authority_with_two_keys_the_list_by_the_key_that_signed_the_leaf_is_asked() {
    let root = Authority::root("root");
    let keys = [root.below("middle"), root.below("middle")];
    let published = [keys[0].der(), keys[1].der()];
    let trust = CertificateTrust::new(&[root.der()], &published, RevocationCheck::On, 1).unwrap();
    for (signer, other) in [(0, 1), (1, 0)] {
        let leaf = keys[signer].client();
        let held = lists([root.list(), keys[0].list(), keys[1].list()]);
        assert!(trust.judge(&held, &[&leaf], NOW).is_ok(), "by key {signer}");
        let mut held = [root.list(), keys[other].list(), keys[signer].revoking()];
        for _ in 0..held.len() {
            held.rotate_left(1);
            let judged = trust.judge(&lists(held.clone()), &[&leaf], NOW);
            assert_eq!(judged, Err(CertificateFault::Revoked), "by key {signer}");
        }
    }
}

#[test]
fn no_flipped_bit_of_a_certificate_passes() {
    let site = Site::new();
    let (leaf, middle) = (&site.leaf[..], site.middle.der());
    assert_eq!(judge(&site.root, &[leaf, middle], NOW), Ok(()));
    for place in 0..2 {
        let mut chain = [leaf.to_vec(), middle.to_vec()];
        for bit in 0..chain[place].len() * 8 {
            chain[place][bit / 8] ^= 1 << (bit % 8);
            let judged = judge(&site.root, &[&chain[0], &chain[1]], NOW);
            assert!(judged.is_err(), "bit {bit} of certificate {place}");
            chain[place][bit / 8] ^= 1 << (bit % 8);
        }
    }
}

#[test]
fn no_flipped_bit_of_a_list_lets_pass_what_it_takes_back() {
    let site = Site::new();
    let whole = site.middle.revoking().der().to_vec();
    for bit in 0..whole.len() * 8 {
        let mut der = whole.clone();
        der[bit / 8] ^= 1 << (bit % 8);
        let Ok(list) = Crl::from_der(&der) else { continue };
        let judged = site.judge(&lists([site.root.list(), list]), NOW);
        assert!(judged.is_err(), "bit {bit}");
    }
}

#[test]
fn what_cannot_be_trust_is_not_published() {
    let root = Authority::root("root");
    let trust = |roots: &[&[u8]], others: &[&[u8]]| {
        CertificateTrust::new(roots, others, RevocationCheck::On, 1).map(drop)
    };
    let malformed = |what, place| Err(PublishedFault::Malformed { what, place });
    let leaf = root.client();
    assert_eq!(trust(&[root.der(), &leaf], &[]), malformed("roots", 2));
    assert_eq!(trust(&[root.der()], &[b"no"]), malformed("intermediates", 1));
    assert_eq!(trust(&[root.der(); PUBLISHED_MAX], &[root.der(); PUBLISHED_MAX]), Ok(()));
    let more = [root.der(); PUBLISHED_MAX + 1];
    assert_eq!(trust(&more, &[]), Err(PublishedFault::TooMany { what: "roots" }));
}

#[test]
fn a_verdict_is_remembered_no_longer_than_all_it_stands_on_holds() {
    let site = Site::new();
    let (trust, held) = (site.trust(RevocationCheck::On), site.lists());
    let mut verdicts = Verdicts::new(2);
    let mut ask = |now| verdicts.judge(&trust, &held, &[&site.leaf], now);
    let first = ask(NOW).unwrap();
    for now in [START, LIST_END - 1] {
        assert_eq!(ask(now), Ok(first.clone()));
    }
    assert_eq!(ask(LIST_END), Err(CertificateFault::ListExpired));
    assert_eq!(ask(START - 1), Err(CertificateFault::NotYetValid), "the clock went back");
    assert_eq!(ask(NOW), Ok(first));
}

#[test]
fn a_new_list_or_another_trust_is_asked_at_once() {
    let site = Site::new();
    let mut held = site.lists();
    let mut verdicts = Verdicts::new(2);
    let trust = site.trust(RevocationCheck::On);
    assert!(verdicts.judge(&trust, &held, &[&site.leaf], NOW).is_ok());
    let newer = site.middle.list_as(|list| {
        list.crl_number = rcgen::SerialNumber::from(2);
        list.revoked_certs.push(super::super::test_pki::revoked(7));
    });
    held.hold(newer).unwrap();
    let judged = verdicts.judge(&trust, &held, &[&site.leaf], NOW);
    assert_eq!(judged, Err(CertificateFault::Revoked));
    let nobody = CertificateTrust::new(&[], &[], RevocationCheck::On, 2).unwrap();
    let judged = verdicts.judge(&nobody, &held, &[&site.leaf], NOW);
    assert_eq!(judged, Err(CertificateFault::Untrusted));
}

#[test]
fn no_more_verdicts_are_remembered_than_asked_for() {
    let root = Authority::root("root");
    let trust = CertificateTrust::new(&[root.der()], &[], RevocationCheck::Off, 1).unwrap();
    for chains_max in [0, 1, 2] {
        let mut verdicts = Verdicts::new(chains_max);
        for _ in 0..3 {
            let leaf = root.client();
            let held = Crls::default();
            for chain in [vec![&leaf[..]], vec![&leaf[..], root.der()], vec![b"no"]] {
                let _ = verdicts.judge(&trust, &held, &chain, NOW);
                assert!(verdicts.len() <= chains_max);
            }
        }
        assert_eq!(verdicts.len(), chains_max);
    }
}
