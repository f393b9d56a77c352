//! A user and a password for the proxy, as the scheme Basic shows them.

use std::fmt;

/// Longest user and longest password, in octets.
pub const CREDENTIAL_BYTES_MAX: usize = 1024;

/// The digits of base64. Source: RFC 4648, section 4, table 1.
const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Who the relay is to the proxy. Its `Debug` shows neither user nor password.
#[derive(Clone, Eq, PartialEq)]
pub struct ProxyCredentials {
    user: String,
    password: String,
}

/// Why a user and a password cannot be shown to a proxy. Always the configuration's fault; the text
/// repeats neither.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CredentialsError {
    /// The user has a colon, which would end it early.
    #[error("the user has a colon, which Basic authentication cannot carry; give another user")]
    ColonInUser,
    /// One of them has a line break, a tab, a zero or another control character.
    #[error("user or password has a control character; look for a stray line break or tab")]
    ControlCharacter,
    /// One of them is longer than [`CREDENTIAL_BYTES_MAX`].
    #[error("user or password is longer than {CREDENTIAL_BYTES_MAX} octets; check which was meant")]
    TooLong,
}

impl ProxyCredentials {
    /// Credentials of these two, each of at most [`CREDENTIAL_BYTES_MAX`] octets and either empty
    /// if need be.
    ///
    /// # Errors
    ///
    /// [`CredentialsError`] when the scheme Basic cannot carry them.
    pub fn new(
        user: impl Into<String>,
        password: impl Into<String>,
    ) -> Result<Self, CredentialsError> {
        let (user, password) = (user.into(), password.into());
        if CREDENTIAL_BYTES_MAX < user.len().max(password.len()) {
            return Err(CredentialsError::TooLong);
        }
        // RFC 7617, section 2: neither may hold control characters, nor the user a colon.
        if user.chars().chain(password.chars()).any(char::is_control) {
            return Err(CredentialsError::ControlCharacter);
        }
        if user.contains(':') {
            return Err(CredentialsError::ColonInUser);
        }
        Ok(Self { user, password })
    }

    /// The value of `Proxy-Authorization`: a secret. UTF-8 whatever the proxy's `charset`, since it
    /// is the only one that RFC 7617, section 2.1, names.
    pub(super) fn basic(&self) -> String {
        format!("Basic {}", base64(format!("{}:{}", self.user, self.password).as_bytes()))
    }
}

impl fmt::Debug for ProxyCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Base64 with padding.
fn base64(octets: &[u8]) -> String {
    let mut text = String::with_capacity(octets.len().div_ceil(3) * 4);
    for group in octets.chunks(3) {
        let octet = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
        let bits = octet(0) << 16 | octet(1) << 8 | octet(2);
        for digit in 0..4 {
            let value = (bits >> (18 - 6 * digit) & 63) as usize;
            text.push(if digit <= group.len() { DIGITS[value].into() } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_standard() {
        // Source: RFC 4648, section 10, and the two digits that no letter can make.
        for (octets, text) in [
            (&b""[..], ""),
            (b"f", "Zg=="),
            (b"fo", "Zm8="),
            (b"foo", "Zm9v"),
            (b"foob", "Zm9vYg=="),
            (b"fooba", "Zm9vYmE="),
            (b"foobar", "Zm9vYmFy"),
            (b"\xfb\xef\xff", "++//"),
        ] {
            assert_eq!(base64(octets), text, "{octets:?}");
        }
    }

    #[test]
    fn basic_is_that_of_the_standard() {
        // Source: RFC 7617, sections 2 and 2.1.
        let basic =
            |user: &str, password: &str| ProxyCredentials::new(user, password).unwrap().basic();
        assert_eq!(basic("Aladdin", "open sesame"), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert_eq!(basic("test", "123\u{a3}"), "Basic dGVzdDoxMjPCow==");
    }

    #[test]
    fn what_basic_cannot_carry_is_refused() {
        use CredentialsError::{ColonInUser, ControlCharacter, TooLong};
        let long = "x".repeat(CREDENTIAL_BYTES_MAX + 1);
        for (user, password, refused) in [
            ("a:b", "c", ColonInUser),
            ("a\r\nX: b", "c", ControlCharacter),
            ("a", "b\n", ControlCharacter),
            ("a", "b\u{85}", ControlCharacter),
            ("a", &long, TooLong),
            (&long, "b", TooLong),
        ] {
            assert_eq!(ProxyCredentials::new(user, password), Err(refused));
        }
        let longest = "x".repeat(CREDENTIAL_BYTES_MAX);
        for (user, password) in [("a", "b:c"), ("", ""), ("a b", "\u{e9} "), (&longest, &longest)] {
            assert!(ProxyCredentials::new(user, password).is_ok());
        }
    }

    #[test]
    fn neither_user_nor_password_is_shown() {
        let credentials = ProxyCredentials::new("mallory", "hunter2").unwrap();
        assert_eq!(format!("{credentials:?} {credentials:#?}"), "[redacted] [redacted]");
    }
}
