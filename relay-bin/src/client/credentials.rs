//! What a client shows: tokens, certificates, signed heads. All secrets come from files.

use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context as _, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue};
use relay_core::auth::{AUTHORIZATION_OCTETS_MAX, Guid};
use relay_core::transport::Identity;
use serde::Deserialize;

use crate::console::complain;

use super::sign::Signer;

/// What a client keeps of its registration, in its folder.
pub(super) const CERTIFICATE: &str = "client.pem";
pub(super) const KEY: &str = "client-key.pem";
pub(super) const TOKEN: &str = "client.token";

/// Which credentials are shown.
#[derive(clap::Args)]
pub(crate) struct Credentials {
    /// File that holds a token; `-` is standard input. It is sent as `Authorization: Bearer`.
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// PEM file with a client certificate to show in TLS, its intermediates behind it.
    #[arg(long, value_name = "FILE", requires = "key")]
    certificate: Option<PathBuf>,
    /// PEM file with the certificate's private key.
    #[arg(long, value_name = "FILE", requires = "certificate")]
    key: Option<PathBuf>,
    /// Folder that `relay client register` has filled: its token and its certificate are shown.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["token_file", "certificate", "key"])]
    folder: Option<PathBuf>,
    /// Sign the head of the request with the key: `CCMClientID`, `CCMClientTimestamp` and their
    /// signatures.
    #[arg(long)]
    sign: bool,
    /// Which client the head names; without it the one that the token was issued to.
    #[arg(long, value_name = "GUID", requires = "sign")]
    client_id: Option<Guid>,
}

/// Credentials, read.
#[derive(Default)]
pub(crate) struct Shown {
    pub(crate) token: Option<Token>,
    pub(crate) identity: Option<Identity>,
    pub(super) signer: Option<(Signer, Guid)>,
}

impl Credentials {
    /// Reads the files.
    ///
    /// # Errors
    ///
    /// One of them cannot be used, or `--sign` lacks a key or a client to name.
    pub(crate) fn read(&self) -> anyhow::Result<Shown> {
        if let Some(folder) = &self.folder {
            let token = folder.join(TOKEN);
            ensure!(
                token.exists(),
                "{} holds no registration; `relay client register` makes one",
                folder.display()
            );
            let identity = identity(&folder.join(CERTIFICATE), &folder.join(KEY))?;
            return self.signing(Some(Token::read(&token)?), Some(identity));
        }
        let token = self.token_file.as_deref().map(Token::read).transpose()?;
        let identity = match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => Some(identity(certificate, key)?),
            _ => None,
        };
        self.signing(token, identity)
    }

    fn signing(&self, token: Option<Token>, identity: Option<Identity>) -> anyhow::Result<Shown> {
        if !self.sign {
            return Ok(Shown { token, identity, signer: None });
        }
        let key = identity.as_ref().context(
            "--sign needs a key: give --certificate and --key, or --folder of a registration",
        )?;
        let client = self.client_id.or_else(|| token.as_ref()?.client());
        let client = client.context(
            "--sign needs a client to name: give --client-id, or a token that was issued to one",
        )?;
        let signer = Signer::new(key)?;
        Ok(Shown { token, identity, signer: Some((signer, client)) })
    }
}

impl Shown {
    /// Puts what goes into a request's head there. Signatures have a time, so each request has its
    /// own.
    ///
    /// # Errors
    ///
    /// The key does not sign.
    pub(crate) fn put_into(&self, headers: &mut HeaderMap) -> anyhow::Result<()> {
        if let Some(token) = &self.token {
            headers.insert(AUTHORIZATION, token.field()?);
        }
        if let Some((signer, client)) = &self.signer {
            headers.extend(signer.head(*client, SystemTime::now())?);
        }
        Ok(())
    }
}

impl Shown {
    /// What a stranger says, without the token that it was shown: some servers repeat a request.
    pub(crate) fn without_secrets(&self, said: &[u8]) -> String {
        let said = String::from_utf8_lossy(said);
        match &self.token {
            Some(token) => said.replace(token.text(), "[redacted]"),
            None => said.into_owned(),
        }
    }
}

/// A bearer token. A secret: it has no way onto a terminal.
#[derive(Clone, Eq, PartialEq)]
pub(crate) struct Token(String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token([redacted])")
    }
}

impl Token {
    /// Reads a file that holds a token and nothing else; `-` is standard input.
    ///
    /// # Errors
    ///
    /// It cannot be read, or is no token. Nothing of what it holds is told.
    pub(crate) fn read(file: &Path) -> anyhow::Result<Self> {
        let mut text = String::new();
        let limit = AUTHORIZATION_OCTETS_MAX as u64 + 1;
        let (shown, read) = if file == Path::new("-") {
            ("standard input".to_owned(), std::io::stdin().take(limit).read_to_string(&mut text))
        } else {
            warn_of_readers(file, "token");
            let read = std::fs::File::open(file)
                .and_then(|opened| opened.take(limit).read_to_string(&mut text));
            (file.display().to_string(), read)
        };
        read.with_context(|| format!("cannot read the token from {shown}"))?;
        Self::new(text.trim()).with_context(|| format!("{shown} holds no token"))
    }

    /// A token, if this can be one.
    ///
    /// # Errors
    ///
    /// It is empty, too long, or has another character than tokens have.
    pub(super) fn new(text: &str) -> anyhow::Result<Self> {
        if text.is_empty() {
            bail!("it is empty");
        }
        let longest = AUTHORIZATION_OCTETS_MAX - "Bearer ".len();
        ensure!(text.len() <= longest, "it is longer than {longest} octets");
        // RFC 6750, section 2.1: b64token.
        let is_of_token = |octet: u8| octet.is_ascii_alphanumeric() || b"-._~+/=".contains(&octet);
        ensure!(
            text.bytes().all(is_of_token),
            "it has a character that no token has; the file must hold the token alone"
        );
        Ok(Self(text.to_owned()))
    }

    /// What a file keeps of it.
    pub(super) fn text(&self) -> &str {
        &self.0
    }

    fn field(&self) -> anyhow::Result<HeaderValue> {
        let mut value = HeaderValue::try_from(format!("Bearer {}", self.0))?;
        value.set_sensitive(true);
        Ok(value)
    }

    /// The client that it says it was issued to. Nothing is verified: it serves to tell others who
    /// sends it, and they judge.
    pub(super) fn client(&self) -> Option<Guid> {
        #[derive(Deserialize)]
        struct Claims {
            #[serde(rename = "ClientId")]
            client: String,
        }
        let payload = URL_SAFE_NO_PAD.decode(self.0.split('.').nth(1)?).ok()?;
        let claims: Claims = serde_json::from_slice(&payload).ok()?;
        claims.client.parse().ok()
    }
}

/// A certificate with its key.
///
/// # Errors
///
/// A file cannot be used.
pub(super) fn identity(certificate: &Path, key: &Path) -> anyhow::Result<Identity> {
    warn_of_readers(key, "private key");
    let identity = Identity::from_pem_files(certificate, key)?;
    identity.judge()?;
    Ok(identity)
}

/// Says so of a secret that every account may read. As of keys in configurations: it is used all
/// the same.
#[cfg(unix)]
fn warn_of_readers(file: &Path, what: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    let Ok(metadata) = std::fs::metadata(file) else { return };
    let mode = metadata.permissions().mode() & 0o777;
    if metadata.is_file() && mode & 0o007 != 0 {
        let file = file.display();
        complain(&format!(
            "warning: the {what} in {file} has mode {mode:04o}, so every account of this machine \
             can read it; run: chmod 600 {file}"
        ));
    }
}

#[cfg(not(unix))]
fn warn_of_readers(_file: &Path, _what: &str) {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_one_word_and_shows_itself_to_nobody() {
        assert_eq!(format!("{:?}", Token::new("abc.def.ghi").unwrap()), "Token([redacted])");
        assert!(format!("{:?}", Token::new("secret").unwrap().field().unwrap()) == "Sensitive");
        for wrong in ["", "two words", "Bearer abc", "täken", "a\nb", "a\"b", &"a".repeat(16_378)]
        {
            let error = format!("{:#}", Token::new(wrong).unwrap_err());
            assert!(wrong.is_empty() || !error.contains(wrong), "{error}");
        }
        assert!(Token::new(&"a".repeat(16_377)).is_ok());
    }

    #[test]
    fn a_token_names_the_client_it_was_issued_to() {
        let token = |payload: &str| {
            Token::new(&format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(payload))).unwrap()
        };
        let id = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9";
        let named = token(&format!("{{\"ClientId\":\"{id}\"}}")).client();
        assert_eq!(named.map(|it| it.to_string()).as_deref(), Some(id));
        assert_eq!(token("{}").client(), None);
        assert_eq!(token("{\"ClientId\":7}").client(), None);
        assert_eq!(Token::new("opaque").unwrap().client(), None);
    }
}
