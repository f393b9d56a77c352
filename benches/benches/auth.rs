//! What it costs to find out who a client is: for the first time, and once that is known.

use std::hint::black_box;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use relay_benches::clients::{ClientSite, now};
use relay_benches::pki::SiteCa;
use relay_core::auth::{
    CertificateTrust, Crl, Crls, Finding, Presented, RevocationCheck, Shown, Tokens, Use, Verdicts,
};

/// Tokens that differ, so that each is met for the first time.
const STRANGERS: usize = 512;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    tokens(&mut criterion);
    certificates(&mut criterion);
    criterion.final_summary();
}

fn tokens(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("auth/site_token");
    group.throughput(Throughput::Elements(1));
    let site = ClientSite::new();
    let new = || {
        let mut tokens = Tokens::default();
        tokens.trust(Vec::new(), Some(site.trust()));
        tokens
    };
    let now = now();
    let find = |tokens: &Tokens, text: &str| {
        let authorization = format!("Bearer {text}");
        let presented = Presented::new([authorization.as_bytes()].into_iter());
        tokens.of_site(&presented, Shown { now, purpose: Use::Traffic, possessed: &[] })
    };
    let good = site.token(0);
    group.bench_function(BenchmarkId::from_parameter("cold"), |bencher| {
        // The memory of what is verified is all that an instance has seen.
        bencher.iter_batched(
            new,
            |tokens| {
                let found = find(&tokens, black_box(&good));
                assert!(matches!(found, Finding::Proven(_)), "{found:?}");
                tokens
            },
            BatchSize::LargeInput,
        );
    });
    let known = new();
    group.bench_function(BenchmarkId::from_parameter("cached"), |bencher| {
        bencher.iter(|| {
            let found = find(&known, black_box(&good));
            assert!(matches!(found, Finding::Proven(_)), "{found:?}");
        });
    });
    // A flood: each token another one, with a signature of the right form that is not the site's.
    let forged: Vec<_> = (0..STRANGERS).map(|number| forge(&good, number)).collect();
    let mut turn = forged.iter().cycle();
    group.bench_function(BenchmarkId::from_parameter("forged"), |bencher| {
        bencher.iter(|| {
            let text = turn.next().map_or("", |it| it);
            let found = find(&known, black_box(text));
            assert!(matches!(found, Finding::Unproven(_)), "{found:?}");
        });
    });
    group.finish();
}

/// The token with other octets at the end of its signature.
fn forge(token: &str, number: usize) -> String {
    let kept = &token[..token.len() - 8];
    format!("{kept}abcA{number:04}")
}

fn certificates(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("auth/certificate");
    group.throughput(Throughput::Elements(1));
    let authority = SiteCa::new();
    let leaf = authority.link_client();
    let chain: Vec<&[u8]> = leaf.chain().iter().map(|it| &**it).collect();
    let now = now();
    for (name, check) in [("cold", RevocationCheck::Off), ("cold_list_1k", RevocationCheck::On)] {
        let (trust, lists) = trusted(&authority, check);
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter(|| {
                let judged = trust.judge(&lists, black_box(&chain), now);
                assert!(judged.is_ok(), "{judged:?}");
            });
        });
    }
    let (trust, lists) = trusted(&authority, RevocationCheck::On);
    let mut verdicts = Verdicts::new(1);
    group.bench_function(BenchmarkId::from_parameter("cached"), |bencher| {
        bencher.iter(|| {
            let judged = verdicts.judge(&trust, &lists, black_box(&chain), now);
            assert!(judged.is_ok(), "{judged:?}");
        });
    });
    group.finish();
}

fn trusted(authority: &SiteCa, check: RevocationCheck) -> (CertificateTrust, Crls) {
    let trust = CertificateTrust::new(&[authority.der()], &[], check, 1);
    let trust = trust.expect("the authority is one");
    let mut lists = Crls::default();
    let list = Crl::from_der(&authority.revocation_list(1000)).expect("the list is one");
    lists.take(list, &trust).expect("the authority has signed it");
    (trust, lists)
}
