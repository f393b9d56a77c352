//! What every store must do, whatever keeps it. Each kind of store runs all of it.

use relay_core::settings::{BLOCKED_MAX, SIGNERS_MAX};

use super::*;
use crate::site::new_guid;

const DAY: u64 = 86_400;

/// When nothing of what the tests remember is over.
pub(in crate::site) const NOW: u64 = 1000 * DAY;

/// An empty store of one kind, which is thrown away with its bench.
pub(in crate::site) trait Bench {
    /// Opens it, beside whoever has it open.
    fn open(&self) -> Box<dyn Store>;

    /// Puts in this many bulk tokens, numbered from 1 on, that are blocked and not over.
    fn put_blocked(&self, count: usize);

    /// Puts in this many clients, numbered from 1 on, whose tokens are over at `expires`.
    fn put_clients(&self, count: usize, expires: u64);
}

/// What one kind of store is put to.
type Run = fn(&dyn Bench);

/// All of it, by name.
pub(in crate::site) const ALL: [(&str, Run); 14] = [
    ("what was remembered is there when it is opened again", remembered),
    ("blocks are listed and each change of one is seen", blocks_are_seen),
    ("a GUID that nobody has or that is taken is refused", guids_are_judged),
    ("a client is found by a certificate that no other is given", clients_are_found),
    ("who is blocked is neither registered nor renewed", blocked_get_nothing),
    ("what is over is published no more and stays blocked", over_is_left_out),
    ("instances are told of as many blocks as they take", blocks_are_limited),
    ("signers are remembered once and distrusted for good", signers_are_kept),
    ("instances are told of as many signers as they take", signers_are_limited),
    ("a client of Entra ID is blocked that nobody has registered", others_are_blocked),
    ("the end of a client's tokens is the last of all", ends_are_kept),
    ("clients whose tokens are over make room for others", clients_are_limited),
    ("what is published has a number of its own", numbers_rise),
    ("a mark differs once anything has changed", marks_differ),
];

pub(in crate::site) fn token(id: u128) -> BulkToken {
    let (issued, expires) = (NOW - 1000, NOW + 1000);
    BulkToken { id: Guid(id), issued, not_before: issued, expires, blocked_since: None }
}

pub(in crate::site) fn client(id: u128, registration: Registration) -> Client {
    Client {
        id: Guid(id),
        certificate: [u8::try_from(id).unwrap(); 32],
        registered: NOW,
        renewed: NOW,
        token_expires: NOW + 9000,
        registration,
        blocked_since: None,
    }
}

fn signer(number: u8, signs_until: u64) -> KnownSigner {
    let certificate = vec![number; 100];
    KnownSigner { thumbprint: [number; 32], certificate, signs_until, distrusted_since: None }
}

/// Stands for what a caller makes of it; tells all contents of these tests apart.
fn digest(content: &Content) -> Digest {
    let mut digest = [0; 32];
    let octets = content.certificates.iter().flatten().copied();
    let octets = octets.chain(content.blocked.iter().flat_map(|id| id.0.to_be_bytes()));
    for (place, octet) in octets.chain([0xff]).enumerate() {
        digest[place % 32] ^= octet.rotate_left(u32::try_from(place / 32 % 8).unwrap());
        digest[31] = digest[31].wrapping_add(octet);
    }
    digest
}

fn guids(ids: &[u128]) -> Vec<Guid> {
    ids.iter().copied().map(Guid).collect()
}

fn remembered(bench: &dyn Bench) {
    let newer = BulkToken { issued: NOW + 1, ..token(1) };
    let of_token = client(10, Registration::BulkToken(Guid(1)));
    let of_site = client(11, Registration::Intranet);
    {
        let mut store = bench.open();
        store.add_bulk_token(&newer).unwrap();
        store.add_bulk_token(&token(u128::MAX)).unwrap();
        store.register(&of_token).unwrap();
        store.register(&of_site).unwrap();
        store.renew(Guid(11), NOW + 3000, NOW + 12_000).unwrap();
        store.block(Guid(1), NOW + 1800).unwrap();
    }
    let store = bench.open();
    let blocked = BulkToken { blocked_since: Some(NOW + 1800), ..newer };
    assert_eq!(store.bulk_tokens().unwrap(), [blocked, token(u128::MAX)]);
    assert_eq!(store.client(Guid(10)).unwrap(), Some(of_token));
    let renewed = Client { renewed: NOW + 3000, token_expires: NOW + 12_000, ..of_site };
    assert_eq!(store.client(Guid(11)).unwrap(), Some(renewed));
    assert_eq!(store.client(Guid(1)).unwrap(), None, "a token is no client");
}

fn blocks_are_seen(bench: &dyn Bench) {
    let (mut store, watcher) = (bench.open(), bench.open());
    store.add_bulk_token(&token(1)).unwrap();
    store.register(&client(2, Registration::Intranet)).unwrap();
    assert_eq!((watcher.generation().unwrap(), watcher.blocked(NOW).unwrap()), (0, vec![]));
    let steps =
        [(2, Change::Made, &[2][..]), (1, Change::Made, &[1, 2]), (1, Change::None, &[1, 2])];
    for (number, (id, change, blocked)) in steps.into_iter().enumerate() {
        assert_eq!(store.block(Guid(id), NOW).unwrap(), change);
        assert_eq!(watcher.generation().unwrap(), (number as u64 + 1).min(2));
        assert_eq!(watcher.blocked(NOW).unwrap(), guids(blocked));
    }
    // The time of a block is when it began, whoever asks for it once more.
    store.block(Guid(2), NOW + 100).unwrap();
    assert_eq!(store.client(Guid(2)).unwrap().unwrap().blocked_since, Some(NOW));
    assert_eq!(store.unblock(Guid(2), NOW + 200).unwrap(), Change::Made);
    assert_eq!(store.unblock(Guid(2), NOW + 200).unwrap(), Change::None);
    assert_eq!((watcher.generation().unwrap(), watcher.blocked(NOW).unwrap()), (3, guids(&[1])));
}

fn guids_are_judged(bench: &dyn Bench) {
    let mut store = bench.open();
    let by_token = Registration::BulkToken(Guid(1));
    for refused in [
        store.block(Guid(1), NOW).unwrap_err(),
        store.unblock(Guid(1), NOW).unwrap_err(),
        store.renew(Guid(1), NOW, NOW + 2).unwrap_err(),
        store.register(&client(2, by_token)).unwrap_err(),
    ] {
        assert!(matches!(refused, ChangeError::Unknown(Guid(1))), "{refused}");
    }
    store.add_bulk_token(&token(1)).unwrap();
    store.register(&client(2, by_token)).unwrap();
    for (id, refused) in [
        (1, store.add_bulk_token(&token(1)).unwrap_err()),
        (2, store.add_bulk_token(&token(2)).unwrap_err()),
        (1, store.register(&client(1, by_token)).unwrap_err()),
    ] {
        assert!(matches!(refused, ChangeError::Known(Guid(it)) if it == id), "{refused}");
    }
    assert_eq!((store.generation().unwrap(), store.bulk_tokens().unwrap()), (0, vec![token(1)]));
}

fn clients_are_found(bench: &dyn Bench) {
    let mut store = bench.open();
    let (first, second) = (client(10, Registration::Intranet), client(11, Registration::Intranet));
    assert_eq!(store.client_of(first.certificate).unwrap(), None);
    store.register(&first).unwrap();
    store.register(&Client { registered: NOW + 100, ..second }).unwrap();
    assert_eq!(store.client_of(first.certificate).unwrap(), Some(first));
    let all: Vec<_> = store.clients().unwrap().into_iter().map(|it| it.id.0).collect();
    assert_eq!(all, [11, 10], "the last one registered comes first");

    store.block(Guid(10), NOW).unwrap();
    let taken = Client { certificate: first.certificate, ..second };
    let refused = store.register(&taken).unwrap_err();
    assert!(matches!(refused, ChangeError::Registered(Guid(10))), "{refused}");
    let kept = store.client_of(first.certificate).unwrap().unwrap();
    assert_eq!((kept.id, kept.blocked_since), (Guid(10), Some(NOW)), "its block is still there");

    // Another certificate of the same client takes the place of the one before.
    let renewed = Client { certificate: [99; 32], ..second };
    store.register(&renewed).unwrap();
    assert_eq!(store.client_of([99; 32]).unwrap(), Some(renewed));
    assert_eq!(store.client_of(second.certificate).unwrap(), None);
}

fn blocked_get_nothing(bench: &dyn Bench) {
    let mut store = bench.open();
    let by_token = Registration::BulkToken(Guid(1));
    store.add_bulk_token(&token(1)).unwrap();
    store.register(&client(2, by_token)).unwrap();
    store.block(Guid(1), NOW).unwrap();
    store.block(Guid(2), NOW).unwrap();
    for (id, refused) in [
        (1, store.register(&client(3, by_token)).unwrap_err()),
        (2, store.register(&client(2, Registration::Intranet)).unwrap_err()),
        (2, store.renew(Guid(2), NOW, NOW + 9000).unwrap_err()),
    ] {
        assert!(matches!(refused, ChangeError::Blocked(Guid(it)) if it == id), "{refused}");
    }
    assert_eq!(store.client(Guid(3)).unwrap(), None);
    store.unblock(Guid(2), NOW + 1).unwrap();
    let anew = Client { certificate: [0xee; 32], ..client(2, Registration::Intranet) };
    store.register(&anew).unwrap();
    assert_eq!(store.client(Guid(2)).unwrap(), Some(anew));
}

fn over_is_left_out(bench: &dyn Bench) {
    let mut store = bench.open();
    let expires = NOW + 5 * DAY;
    store.add_bulk_token(&BulkToken { expires, ..token(1) }).unwrap();
    // A client is given no token while it is blocked; but what it had before may live for long.
    store
        .register(&Client { token_expires: expires, ..client(2, Registration::Intranet) })
        .unwrap();
    let later = NOW + 200 * DAY;
    store.register(&Client { token_expires: later, ..client(3, Registration::Intranet) }).unwrap();
    (1..=3).for_each(|id| assert_eq!(store.block(Guid(id), NOW).unwrap(), Change::Made));
    for (now, left) in [
        (expires + DAY, &[1, 2, 3][..]),
        (expires + DAY + 1, &[2, 3]),
        (NOW + 91 * DAY, &[2, 3]),
        (NOW + 91 * DAY + 1, &[3]),
        (later + DAY, &[3]),
        (later + DAY + 1, &[]),
    ] {
        assert_eq!(store.blocked(now).unwrap(), guids(left), "{now}");
        assert_eq!(store.publish(now, &digest).unwrap().0.blocked, guids(left), "{now}");
    }
    let by_token = Registration::BulkToken(Guid(1));
    for (id, refused) in [
        (1, store.register(&client(4, by_token)).unwrap_err()),
        (2, store.register(&client(2, Registration::Intranet)).unwrap_err()),
        (3, store.renew(Guid(3), later, later).unwrap_err()),
    ] {
        assert!(matches!(refused, ChangeError::Blocked(Guid(it)) if it == id), "{refused}");
    }
    assert!(store.bulk_tokens().unwrap()[0].blocked_since.is_some());
}

fn blocks_are_limited(bench: &dyn Bench) {
    bench.put_blocked(BLOCKED_MAX - 1);
    let mut store = bench.open();
    let over = BulkToken { expires: NOW - 2 * DAY, ..token(u128::MAX) };
    for token in [token(20_000), token(20_001), over] {
        store.add_bulk_token(&token).unwrap();
    }
    assert_eq!(store.block(Guid(20_000), NOW).unwrap(), Change::Made);
    let before = (store.generation().unwrap(), store.blocked(NOW).unwrap());
    assert_eq!(before.1.len(), 16_384);
    let refused = store.block(Guid(20_001), NOW).unwrap_err();
    assert!(matches!(refused, ChangeError::TooMany { max: 16_384 }), "{refused}");
    assert_eq!((store.generation().unwrap(), store.blocked(NOW).unwrap()), before);
    assert_eq!(store.block(over.id, NOW).unwrap(), Change::Made, "it counts for nothing");
    assert_eq!(store.unblock(Guid(1), NOW).unwrap(), Change::Made);
    assert_eq!(store.block(Guid(20_001), NOW).unwrap(), Change::Made, "there is room again");
}

fn signers_are_kept(bench: &dyn Bench) {
    let (mut store, other) = (bench.open(), bench.open());
    let (first, second) = (signer(1, NOW + 10), signer(2, NOW + 20));
    let published =
        |store: &mut dyn Store, now| store.publish(now, &digest).unwrap().0.certificates;
    assert_eq!(store.add_signer(&second, NOW).unwrap(), Change::Made);
    assert_eq!(store.add_signer(&first, NOW).unwrap(), Change::Made);
    for again in [&first, &signer(1, NOW + 11)] {
        assert_eq!(store.add_signer(again, NOW).unwrap(), Change::None);
    }
    assert_eq!(other.signers().unwrap(), [second.clone(), first.clone()], "as they came");
    let replaced = signer(2, NOW + 5);
    assert_eq!(store.add_signer(&replaced, NOW).unwrap(), Change::Made);
    assert_eq!(other.signers().unwrap(), [replaced.clone(), first.clone()]);
    let both = vec![replaced.certificate.clone(), first.certificate.clone()];
    assert_eq!(published(store.as_mut(), NOW + 5 + 91 * DAY), both);
    assert_eq!(published(store.as_mut(), NOW + 6 + 91 * DAY), both[1..]);
    assert_eq!(published(store.as_mut(), NOW + 11 + 91 * DAY), Vec::<Vec<u8>>::new());

    assert_eq!(store.distrust([2; 32], NOW + 7).unwrap(), Change::Made);
    assert_eq!(store.distrust([2; 32], NOW + 8).unwrap(), Change::None);
    let refused = store.distrust([3; 32], NOW).unwrap_err();
    assert!(matches!(&refused, ChangeError::UnknownSigner(it) if it.starts_with("0303")));
    assert_eq!(published(store.as_mut(), NOW), both[1..]);
    // Whoever has the key still and tells of it changes nothing.
    assert_eq!(store.add_signer(&second, NOW).unwrap(), Change::None);
    assert_eq!(other.signers().unwrap()[0].distrusted_since, Some(NOW + 7));
}

fn signers_are_limited(bench: &dyn Bench) {
    let mut store = bench.open();
    for number in 1..=u8::try_from(SIGNERS_MAX).unwrap() {
        store.add_signer(&signer(number, NOW), NOW).unwrap();
    }
    let another = signer(100, NOW + DAY);
    let refused = store.add_signer(&another, NOW).unwrap_err();
    assert!(matches!(refused, ChangeError::TooManySigners { max: 16 }), "{refused}");
    assert_eq!(store.signers().unwrap().len(), 16);
    store.distrust([3; 32], NOW).unwrap();
    assert_eq!(store.add_signer(&another, NOW).unwrap(), Change::Made);
    // What is over counts no more.
    let later = NOW + 91 * DAY + 1;
    assert_eq!(store.add_signer(&signer(101, later), later).unwrap(), Change::Made);
}

fn others_are_blocked(bench: &dyn Bench) {
    let mut store = bench.open();
    // RFC 9562, sections 5.4 and 5.8: drawn, and computed.
    let drawn = Guid(0x5d2f_7a90_0c4e_4b7e_9a53_2f1c_66a0_b1d4);
    let computed = Guid(0x5d2f_7a90_0c4e_8b7e_9a53_2f1c_66a0_b1d4);
    let unknown = store.block(drawn, NOW).unwrap_err();
    assert!(matches!(unknown, ChangeError::Unknown(it) if it == drawn), "{unknown}");
    let unknown = store.unblock(computed, NOW).unwrap_err();
    assert!(matches!(unknown, ChangeError::Unknown(it) if it == computed), "{unknown}");
    assert_eq!(store.client(computed).unwrap(), None);

    assert_eq!(store.block(computed, NOW).unwrap(), Change::Made);
    assert_eq!(store.block(computed, NOW + 1).unwrap(), Change::None);
    assert_eq!((store.generation().unwrap(), store.blocked(NOW).unwrap()), (1, vec![computed]));
    let known = store.client(computed).unwrap().unwrap();
    assert_eq!((known.registration, known.blocked_since), (Registration::Entra, Some(NOW)));
    // Tokens that it has been given just before count for 8 hours; the margin is as of any client.
    assert_eq!(store.blocked(NOW + 91 * DAY).unwrap(), [computed]);
    assert!(store.blocked(NOW + 91 * DAY + 1).unwrap().is_empty());
    assert_eq!(store.unblock(computed, NOW + 2).unwrap(), Change::Made);
    assert!(store.blocked(NOW + 2).unwrap().is_empty());
    assert_eq!(store.block(computed, NOW + 3).unwrap(), Change::Made);
}

fn ends_are_kept(bench: &dyn Bench) {
    let mut store = bench.open();
    let first = client(1, Registration::Intranet);
    store.register(&first).unwrap();
    let ends = |store: &dyn Store| {
        let client = store.client(Guid(1)).unwrap().unwrap();
        (client.renewed, client.token_expires)
    };
    store.register(&Client { renewed: NOW + 1, token_expires: NOW + 10, ..first }).unwrap();
    assert_eq!(ends(store.as_ref()), (NOW + 1, first.token_expires));
    store.renew(Guid(1), NOW + 2, NOW + 20).unwrap();
    assert_eq!(ends(store.as_ref()), (NOW + 2, first.token_expires));
    store.renew(Guid(1), NOW + 3, first.token_expires + 1).unwrap();
    assert_eq!(ends(store.as_ref()), (NOW + 3, first.token_expires + 1));
    let later = first.token_expires + 2;
    store.register(&Client { token_expires: later, ..first }).unwrap();
    assert_eq!(ends(store.as_ref()), (NOW, later));
}

fn clients_are_limited(bench: &dyn Bench) {
    bench.put_clients(CLIENTS_MAX - 1, NOW);
    let mut store = bench.open();
    let new = |registered| {
        let id = new_guid().unwrap();
        let mut certificate = [9; 32];
        certificate[..16].copy_from_slice(&id.0.to_be_bytes());
        let token_expires = registered + 1000;
        let kept = client(1, Registration::Intranet);
        Client { id, certificate, registered, token_expires, ..kept }
    };
    let last = new(NOW);
    store.register(&last).unwrap();
    let refused = store.register(&new(NOW)).unwrap_err();
    assert!(matches!(refused, ChangeError::TooManyClients { max: CLIENTS_MAX }), "{refused}");
    store.register(&Client { registered: NOW + 1, ..last }).unwrap();
    // One who is blocked stays, whatever becomes of the others.
    store.block(Guid(1), NOW).unwrap();
    let over = NOW + CLIENT_OVER_AFTER;
    store.register(&new(over)).unwrap_err();
    store.register(&new(over + 1)).unwrap();
    let mut left: Vec<_> = store.clients().unwrap().into_iter().map(|it| it.id).collect();
    left.retain(|id| *id == Guid(1) || *id == last.id);
    assert_eq!((left.len(), store.clients().unwrap().len()), (2, 3));
}

fn numbers_rise(bench: &dyn Bench) {
    let (mut store, mut other) = (bench.open(), bench.open());
    assert_eq!(store.revision().unwrap(), None);
    let (content, first) = store.publish(NOW, &digest).unwrap();
    assert_eq!(content, Content { certificates: vec![], blocked: vec![] });
    assert_eq!(other.publish(NOW, &digest).unwrap(), (content, first), "nothing has changed");
    store.add_bulk_token(&token(1)).unwrap();
    assert_eq!(store.publish(NOW, &digest).unwrap().1, first, "what is issued is not published");
    let mut before = first;
    for is_blocked in [true, false, true] {
        let change =
            if is_blocked { store.block(Guid(1), NOW) } else { store.unblock(Guid(1), NOW) };
        change.unwrap();
        let (content, number) = other.publish(NOW, &digest).unwrap();
        assert!(before < number);
        assert_eq!(content.blocked, if is_blocked { guids(&[1]) } else { vec![] });
        assert_eq!(store.publish(NOW, &digest).unwrap(), (content, number));
        assert_eq!(store.revision().unwrap(), Some(number));
        before = number;
    }
    // By the clock, so that a store that was restored goes on beyond what it has published since;
    // and never back with it.
    store.unblock(Guid(1), NOW).unwrap();
    assert_eq!(store.publish(NOW + 5000, &digest).unwrap().1, NOW + 5000);
    store.block(Guid(1), NOW).unwrap();
    assert_eq!(store.publish(NOW, &digest).unwrap().1, NOW + 5001);
}

fn marks_differ(bench: &dyn Bench) {
    let (mut store, mut watcher) = (bench.open(), bench.open());
    store.add_bulk_token(&token(1)).unwrap();
    let mut before = watcher.mark().unwrap();
    assert_eq!(watcher.mark().unwrap(), before, "nothing has changed");
    let changes: [fn(&mut dyn Store); 4] = [
        |store| assert_eq!(store.block(Guid(1), NOW).unwrap(), Change::Made),
        |store| assert_eq!(store.unblock(Guid(1), NOW).unwrap(), Change::Made),
        |store| assert_eq!(store.add_signer(&signer(1, NOW), NOW).unwrap(), Change::Made),
        |store| assert_eq!(store.distrust([1; 32], NOW).unwrap(), Change::Made),
    ];
    for change in changes {
        change(store.as_mut());
        let mark = watcher.mark().unwrap();
        assert_ne!(mark, before);
        assert_eq!(watcher.mark().unwrap(), mark);
        before = mark;
    }
    // Whoever has made the change itself sees one, too.
    let before = store.mark().unwrap();
    store.block(Guid(1), NOW).unwrap();
    assert_ne!(store.mark().unwrap(), before);
}
