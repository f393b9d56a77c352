//! What keeps and signs link certificates in tests of the two roles.

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a failed step of a test's set-up is a failed test"
)]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use relay_core::connection_point::CertificateIssuer;
use relay_core::gateway::{CertificateKeeper, CertificateRequest, HeldCertificate};
use relay_core::transport::{Certificate, Identity, TrustAnchors};
use rustls::pki_types::CertificateDer;

use crate::roles::{House, SERVICE};

/// A day.
pub const DAY: Duration = Duration::from_hours(24);

type Failed = Box<dyn std::error::Error + Send + Sync>;
/// Certificates, leaf first.
pub type Chain = Vec<CertificateDer<'static>>;

/// Keeps and signs what was made beforehand: nothing here is about cryptography.
#[derive(Debug)]
pub struct Prepared {
    site: TrustAnchors,
    held: Mutex<Chain>,
    /// What is signed next.
    next: Mutex<VecDeque<Identity>>,
    /// Whom the issuer has signed for, in order.
    peers: Mutex<Vec<Chain>>,
    cannot_sign: Mutex<bool>,
}

impl Prepared {
    /// One that holds a certificate that is due, and has `renewals` to come.
    pub fn new(house: &House, renewals: u32) -> Arc<Self> {
        let held = house.ca.server_around_now(SERVICE, 100 * DAY, DAY);
        let life = |nth| house.ca.server_around_now(SERVICE, DAY, (100 + nth) * DAY);
        Arc::new(Self {
            site: house.ca.anchors(),
            held: Mutex::new(held.chain().to_vec()),
            next: Mutex::new((0..renewals).map(life).collect()),
            peers: Mutex::default(),
            cannot_sign: Mutex::default(),
        })
    }

    /// What is held now.
    pub fn held(&self) -> Chain {
        self.held.lock().unwrap().clone()
    }

    /// Has `chain` held from now on.
    pub fn hold(&self, chain: &[CertificateDer<'static>]) {
        *self.held.lock().unwrap() = chain.to_vec();
    }

    /// Has the issuer refuse from now on.
    pub fn lock_up(&self) {
        *self.cannot_sign.lock().unwrap() = true;
    }

    /// What the next request is for.
    pub fn next(&self) -> Identity {
        self.next.lock().unwrap().front().unwrap().clone()
    }

    /// The chains that the issuer was shown, in order.
    pub fn peers(&self) -> Vec<Chain> {
        self.peers.lock().unwrap().clone()
    }
}

impl CertificateKeeper for Prepared {
    fn held(&self) -> Result<HeldCertificate, Failed> {
        Ok(HeldCertificate { chain: self.held(), site: self.site.clone() })
    }

    fn request(&self, _held: &Certificate) -> Result<CertificateRequest, Failed> {
        let next = self.next();
        Ok(CertificateRequest {
            der: Bytes::from_static(b"a request"),
            public_key: Certificate::of_chain(next.chain())?.public_key,
            key: next.key().clone_key(),
        })
    }

    fn keep(&self, renewed: &Identity) -> Result<(), Failed> {
        assert_eq!(self.next.lock().unwrap().pop_front().unwrap().chain(), renewed.chain());
        *self.held.lock().unwrap() = renewed.chain().to_vec();
        Ok(())
    }
}

impl CertificateIssuer for Prepared {
    fn issue(&self, peer: &[CertificateDer<'static>], request: &[u8]) -> Result<String, Failed> {
        assert_eq!(request, b"a request");
        self.peers.lock().unwrap().push(peer.to_vec());
        if *self.cannot_sign.lock().unwrap() {
            return Err("the key is in the safe".into());
        }
        Ok(pem(self.next().chain()))
    }
}

/// A chain as PEM.
pub fn pem(chain: &[CertificateDer<'static>]) -> String {
    let encode = |der: &CertificateDer<'_>| {
        let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
        pem::encode_config(&pem::Pem::new("CERTIFICATE", &**der), config)
    };
    chain.iter().map(encode).collect()
}
