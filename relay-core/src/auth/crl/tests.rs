#![allow(clippy::indexing_slicing, reason = "a place outside is a failed test")]

use std::time::Duration;

use rcgen::SerialNumber;

use super::super::RevocationCheck;
use super::super::test_pki::{Authority, LIST_END, START, revoked};
use super::*;

/// A list with this number, issued so many seconds after [`START`].
fn list(of: &Authority, number: u64, later: u64) -> Crl {
    of.list_as(|list| {
        list.crl_number = SerialNumber::from(number);
        list.this_update += Duration::from_secs(later);
    })
}

#[test]
fn a_list_says_from_when_until_when_and_by_which_key() {
    let read = list(&Authority::root("one"), 0x1234, 5);
    assert_eq!((read.this_update(), read.next_update()), (START + 5, LIST_END));
    assert_eq!(read.number, [0x12, 0x34]);
    assert_eq!(read.authority_key.len(), 20);
    assert!(!read.is_by(&[]) && read.is_by(&read.authority_key));
}

#[test]
fn what_is_no_list_is_refused_at_every_length_and_with_anything_behind_it() {
    let whole = Authority::root("one").list_der(|list| list.revoked_certs.push(revoked(1)));
    for len in 0..whole.len() {
        assert_eq!(Crl::from_der(&whole[..len]), Err(CrlFault::Malformed), "{len} octets");
    }
    assert_eq!(Crl::from_der(&[&whole[..], &[0]].concat()), Err(CrlFault::Malformed));
    assert!(Crl::from_der(&whole).is_ok());
}

#[test]
fn a_list_of_32_mib_is_read_and_one_octet_more_is_not() {
    assert_eq!(Crl::from_der(&vec![0; CRL_BYTES_MAX]), Err(CrlFault::Malformed));
    assert_eq!(Crl::from_der(&vec![0; CRL_BYTES_MAX + 1]), Err(CrlFault::TooLong));
}

#[test]
fn a_list_with_a_broken_entry_is_refused_as_a_whole() {
    let mut der = Authority::root("one").list_der(|list| {
        list.revoked_certs = vec![revoked(0x1111), revoked(0x2222)];
    });
    let at = der.windows(2).position(|octets| octets == [0x22, 0x22]).unwrap();
    // The integer of the second entry becomes a text.
    der[at - 2] = 0x0c;
    assert_eq!(Crl::from_der(&der), Err(CrlFault::Malformed));
}

#[test]
fn no_flipped_bit_makes_reading_panic() {
    let whole = Authority::root("one").list_der(|list| list.revoked_certs.push(revoked(1)));
    let mut refused = 0;
    for bit in 0..whole.len() * 8 {
        let mut der = whole.clone();
        der[bit / 8] ^= 1 << (bit % 8);
        refused += usize::from(Crl::from_der(&der).is_err());
    }
    assert!(refused > 100, "{refused}");
}

#[test]
fn of_two_lists_the_one_with_the_higher_number_holds_whatever_their_times() {
    let one = Authority::root("one");
    let mut lists = Crls::default();
    assert_eq!(lists.hold(list(&one, 255, 9)), Ok(true));
    assert_eq!(lists.generation(), 1);
    for (number, later) in [(254, 10), (255, 10), (1, 9)] {
        assert_eq!(lists.hold(list(&one, number, later)), Err(CrlFault::Older), "{number}");
    }
    assert_eq!(lists.generation(), 1);
    // More octets, and issued by a clock that is behind.
    assert_eq!(lists.hold(list(&one, 256, 0)), Ok(true));
    assert_eq!((lists.iter().count(), lists.generation()), (1, 2));
}

#[test]
fn the_list_that_is_held_may_come_again() {
    let held = Authority::root("one").list();
    let mut lists = Crls::default();
    assert_eq!(lists.hold(held.clone()), Ok(true));
    assert_eq!(lists.hold(held), Ok(false));
    assert_eq!(lists.generation(), 1);
}

#[test]
fn lists_of_two_authorities_or_of_two_keys_of_one_hold_beside_each_other() {
    let mut lists = Crls::default();
    for authority in ["one", "two", "one"].map(Authority::root) {
        assert_eq!(lists.hold(authority.list()), Ok(true));
    }
    assert_eq!(lists.iter().count(), 3);
}

#[test]
fn there_are_at_most_256_lists() {
    let mut lists = Crls::default();
    let mut one = Authority::root("one").list();
    for place in 0..CRLS_MAX {
        one.issuer = place.to_be_bytes().to_vec();
        assert_eq!(lists.hold(one.clone()), Ok(true));
    }
    one.issuer = CRLS_MAX.to_be_bytes().to_vec();
    assert_eq!(lists.hold(one), Err(CrlFault::TooMany));
    assert_eq!(lists.iter().count(), CRLS_MAX);
}

#[test]
fn only_what_a_published_authority_has_signed_is_taken() {
    let (root, other) = (Authority::root("one"), Authority::root("one"));
    let middle = root.below("middle");
    let trust =
        CertificateTrust::new(&[root.der()], &[middle.der()], RevocationCheck::On, 1).unwrap();
    let mut lists = Crls::default();
    assert_eq!(lists.take(other.list(), &trust), Err(CrlFault::Unsigned));
    assert_eq!(lists.take(root.list(), &trust), Ok(true));
    assert_eq!(lists.take(middle.list(), &trust), Ok(true));
    let whole = list(&root, 9, 0).der;
    let mut refused = 0;
    for bit in 0..whole.len() * 8 {
        let mut der = whole.to_vec();
        der[bit / 8] ^= 1 << (bit % 8);
        let Ok(list) = Crl::from_der(&der) else { continue };
        assert_eq!(lists.take(list, &trust), Err(CrlFault::Unsigned), "bit {bit}");
        refused += 1;
    }
    assert!(refused > 100, "{refused} lists with another bit are read");
    assert_eq!(lists.take(Crl::from_der(&whole).unwrap(), &trust), Ok(true));
}

#[test]
fn a_list_that_is_held_is_taken_again_unverified_and_a_copy_of_it_is_not() {
    let (one, other) = (Authority::root("one"), Authority::root("other"));
    let trust =
        |of: &Authority| CertificateTrust::new(&[of.der()], &[], RevocationCheck::On, 1).unwrap();
    let (held, stranger) = (list(&one, 1, 0), trust(&other));
    let mut before = Crls::default();
    assert_eq!(before.take(held.clone(), &trust(&one)), Ok(true));
    let copy = Crl::from_der(held.der()).unwrap();
    let mut after = Crls::default();
    assert_eq!(after.take_again(copy, &stranger, &before), Err(CrlFault::Unsigned));
    assert_eq!(after.take_again(held.clone(), &stranger, &before), Ok(true));
    assert_eq!(after.take_again(list(&one, 0, 0), &trust(&one), &before), Err(CrlFault::Older));
}
