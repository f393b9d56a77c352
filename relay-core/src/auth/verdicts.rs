//! Certificates that were judged already, so that a client is not judged anew with each connection.

use std::collections::{HashMap, VecDeque};

use super::certificate::{CertificateTrust, ClientCertificate};
use super::crl::Crls;
use super::{CertificateFault, certificate};

/// Chains that have proven who shows them, and until when. What proves nothing is not remembered:
/// there is no end of such chains, and each would push out one that counts.
///
/// Whoever holds the trust and the lists gives each of them a generation that rises with each
/// change; what was judged under another is forgotten.
#[derive(Debug)]
pub struct Verdicts {
    chains_max: usize,
    generations: (u64, u64),
    proven: HashMap<[u8; 32], ClientCertificate>,
    /// The oldest first.
    order: VecDeque<[u8; 32]>,
}

impl Verdicts {
    /// None so far, and never more than `chains_max`; each takes about 1 KiB. With 0 nothing is
    /// remembered.
    pub fn new(chains_max: usize) -> Self {
        Self { chains_max, generations: (0, 0), proven: HashMap::new(), order: VecDeque::new() }
    }

    /// As [`CertificateTrust::judge`], or what that has said before.
    ///
    /// # Errors
    ///
    /// As [`CertificateTrust::judge`].
    pub fn judge(
        &mut self,
        trust: &CertificateTrust,
        lists: &Crls,
        chain: &[&[u8]],
        now: u64,
    ) -> Result<ClientCertificate, CertificateFault> {
        if let Some(known) = self.known(trust, lists, chain, now)? {
            return Ok(known);
        }
        let judged = trust.judge(lists, chain, now)?;
        self.note(trust, lists, chain, &judged);
        Ok(judged)
    }

    /// What was said of a chain before, if that holds. Takes no longer than hashing it, so that
    /// whoever shares this can judge by [`CertificateTrust::judge`] while others look here.
    ///
    /// # Errors
    ///
    /// [`CertificateFault::TooLarge`], [`CertificateFault::Malformed`].
    pub fn known(
        &mut self,
        trust: &CertificateTrust,
        lists: &Crls,
        chain: &[&[u8]],
        now: u64,
    ) -> Result<Option<ClientCertificate>, CertificateFault> {
        certificate::within_bounds(chain)?;
        let generations = (trust.generation(), lists.generation());
        if self.generations < generations {
            self.proven.clear();
            self.order.clear();
            self.generations = generations;
        }
        if self.generations != generations {
            return Ok(None);
        }
        let known = self.proven.get(&certificate::chain_fingerprint(chain));
        Ok(known.filter(|known| known.holds_at(now)).cloned())
    }

    /// Remembers what `trust` and `lists` have said of a chain, unless others judge by now.
    pub fn note(
        &mut self,
        trust: &CertificateTrust,
        lists: &Crls,
        chain: &[&[u8]],
        judged: &ClientCertificate,
    ) {
        if self.generations == (trust.generation(), lists.generation()) {
            self.remember(certificate::chain_fingerprint(chain), judged);
        }
    }

    fn remember(&mut self, name: [u8; 32], judged: &ClientCertificate) {
        if self.chains_max == 0 {
            return;
        }
        if self.proven.insert(name, judged.clone()).is_some() {
            return;
        }
        self.order.push_back(name);
        if self.order.len() > self.chains_max
            && let Some(oldest) = self.order.pop_front()
        {
            self.proven.remove(&oldest);
        }
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.proven.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.proven.is_empty()
    }
}
