//! The signed permission by which one client fetches one package.
//!
//! A grant travels as the query of a location:
//!
//! ```text
//! /downloadrestservice.svc/getcontentxmlsecure
//!   ?pid=PS100012&cid=*&tid=<client>&iss=urn:sccm:oauth2:<tenant>
//!   &alg=RS256&st=1800000000&et=1800086400&kid=<certificate>&sig=<signature>
//! ```
//!
//! | parameter | is |
//! |---|---|
//! | `pid` | the package |
//! | `cid` | `*` for all files of the package, or the name of one |
//! | `tid` | the client's GUID |
//! | `iss` | the site, as in `iss` of its tokens |
//! | `alg` | `RS256` and nothing else |
//! | `st`, `et` | from when and until when it counts, in seconds since 1970 UTC; 24 h at most |
//! | `cnf` | may be missing: base64url of the SHA-256 of a certificate whose key the client has |
//! | `kid` | the certificate that has signed: base64url of its SHA-256 |
//! | `sig` | base64url of the signature |
//! | `file` | not signed: which file of a package is asked for by a grant for all of them |
//!
//! Names and path are the original's; `cid`, `st`, `et` have forms of our choice, and the last four
//! parameters are our own. What is signed is this text in UTF-8, with each value decoded:
//!
//! ```text
//! relay-content-grant/1 LF pid LF cid LF tid LF iss LF alg LF st LF et LF cnf or nothing LF kid LF
//! ```
//!
//! No value has a line feed, so that no two grants have one text; and no token of the site, which
//! the same key signs, has one either.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::auth::{Guid, SITE_ISSUER, SITE_LEEWAY, SigningKey, SiteTrust};

use super::query::{self, Parameters};
use super::{FileName, GrantFault, PackageId};

/// The path of content, as it is written; compared in any ASCII case.
// Source: Microsoft Learn, "CMG data flow".
pub const CONTENT_PATH: &str = "/downloadrestservice.svc/getcontentxmlsecure";

/// Longest query of a grant, in octets. With the longest name, all of it escaped, and a key of
/// 8,192 bits it has 3,300.
pub const GRANT_OCTETS_MAX: usize = 4_096;

/// Longest life of a grant, in seconds.
// Source: Microsoft Learn, "CMG data flow": the token for content.
pub const GRANT_LIFETIME_MAX: u64 = 86_400;

/// How far the clock of a site may be ahead, in seconds. The end of a grant has no leeway: nothing
/// outlives it.
pub const GRANT_LEEWAY: u64 = SITE_LEEWAY;

const ALGORITHM: &str = "RS256";

/// What `cid` says of a whole package; no file can be called so.
const ALL_FILES: &str = "*";

/// Longest signature, in octets: of a key of 8,192 bits.
const SIGNATURE_OCTETS_MAX: usize = 1024;

const NAMES: [&str; 11] =
    ["pid", "cid", "tid", "iss", "alg", "st", "et", "cnf", "kid", "sig", "file"];

/// What of a package is granted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Granted {
    /// All files, and which there are.
    Package,
    /// One file.
    File(FileName),
}

/// A permission that is to be signed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Grant {
    /// Whose files.
    pub package: PackageId,
    /// Which of them.
    pub granted: Granted,
    /// Who may fetch them.
    pub client: Guid,
    /// The tenant that the site names itself by.
    pub issuer: Guid,
    /// From when on, in seconds since 1970 UTC.
    pub begins: u64,
    /// Until when; at this second it is over.
    pub ends: u64,
    /// SHA-256 of the certificate whose key the client has; without one, the client shows by a
    /// token of the site that it is the one named.
    pub bound_to: Option<[u8; 32]>,
}

impl Grant {
    /// Signs it by `sign`, which makes a signature by the key of `signer`: RSASSA-PKCS1-v1_5 with
    /// SHA-256.
    ///
    /// # Errors
    ///
    /// [`GrantFault::Lifetime`], if nobody would take it, and whatever `sign` fails with.
    pub fn sign<E: From<GrantFault>>(
        self,
        signer: &SigningKey,
        sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, E>,
    ) -> Result<SignedGrant, E> {
        self.check_lifetime()?;
        let signer = signer.sha256;
        let signature = sign(&self.message(&signer))?;
        Ok(SignedGrant { grant: self, signer, signature, file: None })
    }

    fn check_lifetime(&self) -> Result<(), GrantFault> {
        match self.ends.checked_sub(self.begins) {
            Some(1..=GRANT_LIFETIME_MAX) => Ok(()),
            _ => Err(GrantFault::Lifetime),
        }
    }

    /// The values that are signed, in their order.
    fn values(&self, signer: &[u8; 32]) -> [(&'static str, String); 9] {
        let content = match &self.granted {
            Granted::Package => ALL_FILES.to_owned(),
            Granted::File(name) => name.to_string(),
        };
        [
            ("pid", self.package.to_string()),
            ("cid", content),
            ("tid", self.client.to_string()),
            ("iss", format!("{SITE_ISSUER}{}", self.issuer)),
            ("alg", ALGORITHM.to_owned()),
            ("st", self.begins.to_string()),
            ("et", self.ends.to_string()),
            ("cnf", self.bound_to.map(|it| URL_SAFE_NO_PAD.encode(it)).unwrap_or_default()),
            ("kid", URL_SAFE_NO_PAD.encode(signer)),
        ]
    }

    fn message(&self, signer: &[u8; 32]) -> Vec<u8> {
        let mut text = String::from("relay-content-grant/1\n");
        for (_, value) in self.values(signer) {
            text.push_str(&value);
            text.push('\n');
        }
        text.into_bytes()
    }
}

/// A grant as it travels, and which file is asked for by it. [`SignedGrant::verify`] says whether
/// it counts; until then nothing in it is to be believed.
#[derive(Clone, Eq, PartialEq)]
pub struct SignedGrant {
    grant: Grant,
    signer: [u8; 32],
    signature: Vec<u8>,
    file: Option<FileName>,
}

/// Without the signature: whoever has it, and passes for the client, has the content.
impl fmt::Debug for SignedGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("SignedGrant");
        shown.field("grant", &self.grant).field("file", &self.file).finish_non_exhaustive()
    }
}

impl SignedGrant {
    /// Reads the query of a location. Nothing is computed for it.
    ///
    /// # Errors
    ///
    /// [`GrantFault`], if it is no grant, or lives too long.
    pub fn read(query: &str) -> Result<Self, GrantFault> {
        if query.len() > GRANT_OCTETS_MAX {
            return Err(GrantFault::TooLong);
        }
        let read = Parameters::read(query, NAMES)?;
        if read.get("alg")? != ALGORITHM {
            return Err(GrantFault::Algorithm);
        }
        let form = |name| move |_| GrantFault::Form(name);
        let granted = match read.get("cid")? {
            ALL_FILES => Granted::Package,
            name => Granted::File(name.parse().map_err(form("cid"))?),
        };
        let issuer = read.get("iss")?.strip_prefix(SITE_ISSUER).map(guid);
        let bound_to = read.if_any("cnf").map(|it| digest(it).ok_or(GrantFault::Form("cnf")));
        let grant = Grant {
            package: read.get("pid")?.parse().map_err(form("pid"))?,
            granted,
            client: guid(read.get("tid")?).ok_or(GrantFault::Form("tid"))?,
            issuer: issuer.flatten().ok_or(GrantFault::Form("iss"))?,
            begins: seconds(read.get("st")?).ok_or(GrantFault::Form("st"))?,
            ends: seconds(read.get("et")?).ok_or(GrantFault::Form("et"))?,
            bound_to: bound_to.transpose()?,
        };
        grant.check_lifetime()?;
        let signature = URL_SAFE_NO_PAD.decode(read.get("sig")?).ok();
        let signature = signature.filter(|it| (1..=SIGNATURE_OCTETS_MAX).contains(&it.len()));
        let file = read.if_any("file").map(str::parse).transpose().map_err(form("file"))?;
        if file.is_some() && grant.granted != Granted::Package {
            return Err(GrantFault::OtherFile);
        }
        Ok(Self {
            grant,
            signer: digest(read.get("kid")?).ok_or(GrantFault::Form("kid"))?,
            signature: signature.ok_or(GrantFault::Form("sig"))?,
            file,
        })
    }

    /// Judges whether the site of `trust` has signed it, and whether it counts at `now`: seconds
    /// since 1970 UTC. What costs nothing comes first.
    ///
    /// Whether it is its client that shows it is not judged here.
    ///
    /// # Errors
    ///
    /// [`GrantFault`].
    pub fn verify(&self, trust: &SiteTrust, now: u64) -> Result<(), GrantFault> {
        if self.grant.issuer != trust.tenant {
            return Err(GrantFault::Issuer);
        }
        if now.saturating_add(GRANT_LEEWAY) < self.grant.begins {
            return Err(GrantFault::NotYet);
        }
        if now >= self.grant.ends {
            return Err(GrantFault::Over);
        }
        let signer = trust.keys.iter().find(|it| it.sha256 == self.signer);
        let signer = signer.ok_or(GrantFault::UnknownSigner)?;
        if !signer.key.has_signed(&self.grant.message(&self.signer), &self.signature) {
            return Err(GrantFault::Signature);
        }
        // Last: nobody but the site's clients learns who is blocked.
        if trust.blocked.contains(&self.grant.client) {
            return Err(GrantFault::Blocked);
        }
        Ok(())
    }

    /// What it says.
    pub fn grant(&self) -> &Grant {
        &self.grant
    }

    /// The file that is asked for; `None` if it is asked which files there are.
    pub fn file(&self) -> Option<&FileName> {
        match &self.grant.granted {
            Granted::Package => self.file.as_ref(),
            Granted::File(name) => Some(name),
        }
    }

    /// Where what it is for is asked for: a path and a query, for the service to be put before.
    pub fn location(&self) -> String {
        let mut query = String::new();
        let is_there = |it: &(&str, String)| it.0 != "cnf" || !it.1.is_empty();
        for (name, value) in self.grant.values(&self.signer).into_iter().filter(is_there) {
            query::push(&mut query, name, &value);
        }
        query::push(&mut query, "sig", &URL_SAFE_NO_PAD.encode(&self.signature));
        if let Some(file) = &self.file {
            query::push(&mut query, "file", file.as_str());
        }
        format!("{CONTENT_PATH}?{query}")
    }

    /// The same for one file; `None` if it is not for that one.
    #[must_use]
    pub fn for_file(&self, file: &FileName) -> Option<Self> {
        match &self.grant.granted {
            Granted::Package => Some(Self { file: Some(file.clone()), ..self.clone() }),
            Granted::File(name) => (name == file).then(|| self.clone()),
        }
    }
}

fn guid(text: &str) -> Option<Guid> {
    text.parse().ok()
}

/// Seconds since 1970 UTC: 1 to 10 digits, without a zero before them.
fn seconds(text: &str) -> Option<u64> {
    let is_plain = text.len() <= 10
        && text.bytes().all(|it| it.is_ascii_digit())
        && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| is_plain)
}

/// A thumbprint in base64url.
fn digest(text: &str) -> Option<[u8; 32]> {
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests;
