//! Clients that show a certificate to the client edge, in TLS handshakes without a network.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rcgen::{CertificateParams, KeyPair};
use relay_core::auth::{CertificateFault, CertificateTrust, Crls, RevocationCheck};
use relay_core::transport::{Identity, client_edge_config_asking};
use relay_tests::pki::SiteCa;
use rustls::client::ResolvesClientCert;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{
    ClientConfig, ClientConnection, Error, HandshakeKind, ServerConfig, ServerConnection,
    SignatureScheme, SupportedProtocolVersion,
};

const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

fn key_of(identity: &Identity) -> CertifiedKey {
    let (chain, key) = (identity.chain().to_vec(), identity.key().clone_key());
    CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()).unwrap()
}

fn self_signed() -> Identity {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(Vec::new()).unwrap().self_signed(&key).unwrap();
    let der = PrivatePkcs8KeyDer::from(key.serialize_der());
    Identity::new(vec![certificate.der().clone()], der.into())
}

/// Shows a certificate, with whatever key.
#[derive(Debug)]
struct Shows(Arc<CertifiedKey>);

impl ResolvesClientCert for Shows {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// A client of `ca` that speaks `version` and shows this, if anything. It resumes where it can.
fn client(
    ca: &SiteCa,
    version: &'static SupportedProtocolVersion,
    shows: Option<CertifiedKey>,
) -> Arc<ClientConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(ca.roots());
    let config = match shows {
        Some(key) => builder.with_client_cert_resolver(Arc::new(Shows(Arc::new(key)))),
        None => builder.with_no_client_auth(),
    };
    Arc::new(config)
}

/// What a server has after a handshake: the chain that was shown, and how it came about.
type Met = (Option<Vec<CertificateDer<'static>>>, HandshakeKind);

/// Both ends until neither has anything to say; then the client goes.
fn handshake(server: &Arc<ServerConfig>, client: &Arc<ClientConfig>) -> Result<Met, Error> {
    let name = "gateway.example".try_into().unwrap();
    let mut client = ClientConnection::new(Arc::clone(client), name).unwrap();
    let mut server = ServerConnection::new(Arc::clone(server)).unwrap();
    while client.wants_write() || server.wants_write() {
        let mut pipe = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut pipe).unwrap();
        }
        server.read_tls(&mut &pipe[..]).unwrap();
        server.process_new_packets()?;
        let mut pipe = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut pipe).unwrap();
        }
        client.read_tls(&mut &pipe[..]).unwrap();
        client.process_new_packets()?;
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    let shown = server.peer_certificates().map(|chain| {
        chain.iter().map(|certificate| certificate.clone().into_owned()).collect::<Vec<_>>()
    });
    Ok((shown, server.handshake_kind().unwrap()))
}

#[test]
fn a_client_shows_any_certificate_or_none() {
    let ca = SiteCa::new();
    let server = client_edge_config_asking(&ca.server("gateway.example")).unwrap();
    for version in VERSIONS {
        for identity in [self_signed(), SiteCa::new().connection_point("a"), ca.server("b")] {
            let met = handshake(&server, &client(&ca, version, Some(key_of(&identity)))).unwrap();
            assert_eq!(met.0.as_deref(), Some(identity.chain()));
        }
        let (shown, _) = handshake(&server, &client(&ca, version, None)).unwrap();
        assert_eq!(shown, None);
    }
}

#[test]
fn whoever_has_not_the_key_of_a_certificate_is_refused() {
    let ca = SiteCa::new();
    let server = client_edge_config_asking(&ca.server("gateway.example")).unwrap();
    for version in VERSIONS {
        let (own, others) = (key_of(&self_signed()), key_of(&self_signed()));
        let stolen = CertifiedKey::new(others.cert, own.key);
        let refused = handshake(&server, &client(&ca, version, Some(stolen))).unwrap_err();
        let expected = Error::InvalidCertificate(rustls::CertificateError::BadSignature);
        assert_eq!(refused, expected, "{version:?}");
    }
}

#[test]
fn a_resumed_session_is_judged_by_what_holds_then() {
    let ca = SiteCa::new();
    let server = client_edge_config_asking(&ca.server("gateway.example")).unwrap();
    let identity = ca.connection_point("client");
    let root = ca.der();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let trusted = CertificateTrust::new(&[&root], &[], RevocationCheck::Off, 1).unwrap();
    let nobody = CertificateTrust::new(&[], &[], RevocationCheck::Off, 2).unwrap();
    for version in VERSIONS {
        let client = client(&ca, version, Some(key_of(&identity)));
        let judge = |trust: &CertificateTrust, kind| {
            let (shown, met) = handshake(&server, &client).unwrap();
            assert_eq!(met, kind, "{version:?}");
            let shown = shown.unwrap();
            let chain: Vec<&[u8]> = shown.iter().map(|it| &it[..]).collect();
            trust.judge(&Crls::default(), &chain, now).map(|it| it.subject)
        };
        let proven = judge(&trusted, HandshakeKind::Full).unwrap();
        assert!(proven.contains("client"), "{proven}");
        assert_eq!(judge(&trusted, HandshakeKind::Resumed), Ok(proven));
        assert_eq!(judge(&nobody, HandshakeKind::Resumed), Err(CertificateFault::Untrusted));
    }
}

/// What `tests/vectors/fuzz_certificates.py` has made, as a chain with its root at the end.
fn made(name: &str) -> Vec<Vec<u8>> {
    let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/client_certificate/made-");
    let octets = std::fs::read(format!("{corpus}{name}")).unwrap();
    let mut rest = &octets[..];
    let mut chain = Vec::new();
    while let Some((length, after)) = rest.split_first_chunk() {
        let (der, after) = after.split_at(usize::from(u16::from_be_bytes(*length)));
        chain.push(der.to_vec());
        rest = after;
    }
    chain
}

#[test]
fn chains_that_were_made_elsewhere_come_to_what_they_were_made_for() {
    use CertificateFault as Fault;
    for (name, expected) in [
        ("proven", Ok(())),
        ("direct", Ok(())),
        ("names", Ok(())),
        ("no-middle", Err(Fault::Untrusted)),
        ("not-the-key", Err(Fault::Untrusted)),
        ("no-use", Err(Fault::NoClientUse)),
        ("server", Err(Fault::NoClientUse)),
        ("expired", Err(Fault::Expired)),
        ("short-key", Err(Fault::Weak)),
        ("sha1", Err(Fault::Weak)),
    ] {
        let chain = made(name);
        let chain: Vec<&[u8]> = chain.iter().map(|der| &der[..]).collect();
        let root = *chain.last().unwrap();
        let trust = CertificateTrust::new(&[root], &[], RevocationCheck::Off, 1).unwrap();
        let judged = trust.judge(&Crls::default(), &chain, 1_800_000_000).map(drop);
        assert_eq!(judged, expected, "{name}");
    }
}
