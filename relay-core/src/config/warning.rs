//! What deserves an administrator's attention although the configuration is usable.

use std::fmt;
use std::path::{Path, PathBuf};

use super::pem::permission_bits;

/// Something that works and should not stay as it is. The role that starts logs each one.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum Warning {
    /// An endpoint lets anybody in.
    AnonymousEndpoint {
        /// The endpoint's name.
        endpoint: String,
        /// The configuration file.
        file: PathBuf,
        /// The 1-based line of `unsafe_allow_anonymous`.
        line: usize,
    },
    /// Nothing is published, so that every request is answered 404.
    NoEndpoints {
        /// The configuration file.
        file: PathBuf,
    },
    /// A private key can be read by every account of the machine.
    KeyReadableByOthers {
        /// The key file.
        key: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A revocation list has expired, so that no link comes up.
    RevocationListOver {
        /// The file that holds it.
        file: PathBuf,
    },
    /// A revocation list of clients is over, so that certificates of its authority are refused.
    ClientListOver {
        /// The file that holds it.
        file: PathBuf,
    },
    /// A revocation list of clients is over soon.
    ClientListEnds {
        /// The file that holds it.
        file: PathBuf,
        /// Whole hours until then.
        hours_left: u64,
    },
    /// The version of what is published is written, so that files of `[clients]` and `[[tenant]]`
    /// that change are not published until it is raised too.
    VersionWritten {
        /// The configuration file.
        file: PathBuf,
        /// The 1-based line of `version`.
        line: usize,
    },
    /// Connection points share a store of tokens, and no version of what is published is written:
    /// of several files that differ the one that was written last holds.
    VersionNotWritten {
        /// The configuration file.
        file: PathBuf,
    },
    /// The web proxy's password can be read by every account of the machine.
    PasswordReadableByOthers {
        /// The file that holds it.
        file: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The headers that a collector is shown can be read by every account of the machine.
    HeadersReadableByOthers {
        /// The file that holds them.
        file: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The headers that a collector is shown, secrets, go over the network for all to read.
    HeadersInTheClear {
        /// The collector's host.
        host: String,
        /// The configuration file.
        file: PathBuf,
        /// The 1-based line of `headers_file`.
        line: usize,
    },
    /// The certificate that clients see does not carry the service's name, so clients refuse it.
    ServiceNotInCertificate {
        /// The service's name as configured.
        service: String,
        /// The certificate file.
        certificate: PathBuf,
    },
}

impl Warning {
    /// What deserves attention about a file with a private key.
    pub(super) fn of_key(key: &Path) -> Option<Self> {
        let mode = permission_bits(key)?;
        let key = key.to_owned();
        (mode & 0o007 != 0).then_some(Self::KeyReadableByOthers { key, mode })
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AnonymousEndpoint { endpoint, file, line } => write!(
                f,
                "endpoint `{endpoint}` lets anybody on the internet in \
                 (unsafe_allow_anonymous, {}:{line}); use it for trials only",
                file.display()
            ),
            Self::NoEndpoints { file } => write!(
                f,
                "{} publishes no endpoint, so every request is answered 404; add an [[endpoint]]",
                file.display()
            ),
            Self::KeyReadableByOthers { key, mode } => write!(
                f,
                "private key {key} has mode {mode:04o}, so every account of this machine can read \
                 it; run `chmod 600 {key}`",
                key = key.display()
            ),
            Self::RevocationListOver { file } => write!(
                f,
                "the revocation list {} has expired, so every peer of a link is refused; have the \
                 site's authority sign a new one",
                file.display()
            ),
            Self::ClientListOver { file } => write!(
                f,
                "the revocation list {} of clients has expired, so every certificate of its \
                 authority is refused; put a new one in its place",
                file.display()
            ),
            Self::ClientListEnds { file, hours_left } => write!(
                f,
                "the revocation list {} of clients expires in {hours_left} hours; from then on \
                 every certificate of its authority is refused: put a new one in its place",
                file.display()
            ),
            Self::VersionWritten { file, line } => write!(
                f,
                "{}:{line} fixes the version of what is published, so files of [clients] and \
                 [[tenant]] that change are published only once it is raised; remove the line, and \
                 the time of the last change of any of them serves",
                file.display()
            ),
            Self::VersionNotWritten { file } => write!(
                f,
                "{} has no `version` in [settings], and connection points share the store of \
                 [tokens]: of their files the one that was written last holds, whatever it says; \
                 add `version = 1` in all of them, and raise it with each change",
                file.display()
            ),
            Self::PasswordReadableByOthers { file, mode } => {
                readable_by_others(f, "the web proxy's password", (file, *mode))
            }
            Self::HeadersReadableByOthers { file, mode } => {
                readable_by_others(f, "what the collector is shown", (file, *mode))
            }
            Self::HeadersInTheClear { host, file, line } => in_the_clear(f, host, (file, *line)),
            Self::ServiceNotInCertificate { service, certificate } => write!(
                f,
                "certificate {} does not carry the service name `{service}`, so clients that check \
                 the name will refuse it",
                certificate.display()
            ),
        }
    }
}

/// `what`, a secret, is in a file of such permissions.
fn readable_by_others(
    f: &mut fmt::Formatter<'_>,
    what: &str,
    (file, mode): (&Path, u32),
) -> fmt::Result {
    let file = file.display();
    write!(
        f,
        "{what} in {file} has mode {mode:04o}, so every account of this machine can read it; run \
         `chmod 600 {file}`"
    )
}

/// Headers, secrets, that a file has at a line go to `host` in the clear.
fn in_the_clear(
    f: &mut fmt::Formatter<'_>,
    host: &str,
    (file, line): (&Path, usize),
) -> fmt::Result {
    let file = file.display();
    write!(
        f,
        "what the collector is shown goes to {host} in the clear (headers_file, {file}:{line}), so \
         whoever is on the way can read it; make `endpoint` begin with https://, with `ca`, or run \
         a collector on this machine"
    )
}
