//! Revocation lists, from a server or a file.
//!
//! A list is judged before it takes the place of another: it is one, a published authority has
//! signed it, and it is no older than what is held. It takes the place of no list but an earlier
//! one of the same authority, key and scope; the others stay. Most lists travel over plain HTTP, so
//! whoever stands on the way can say anything, such as another authority's list and then an old one
//! of the first; all that it comes to is that nothing new was fetched.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateRevocationListDer;
use rustls::pki_types::pem::PemObject as _;

use crate::auth::{CRL_BYTES_MAX, CertificateTrust, Crl, CrlFault, Crls};

use super::address::{Address, AddressFault, Plain};
use super::get::{GetError, Getter, Got, Validators};

/// Lists in one file or answer, and of one place, at most. Our choice: an authority's, and those of
/// the ones above.
pub const LISTS_OF_SOURCE_MAX: usize = 16;

/// How often a file is looked at. Our choice: as often as the program looks at its other files.
const FILE_EVERY: Duration = Duration::from_mins(1);

/// The soonest that a list is fetched again, however short its life.
const SOONEST: Duration = Duration::from_secs(1);

/// How often a list is asked for that was due and was not there yet: a quarter of the time that is
/// left to the old one, between these.
const OVERDUE: (Duration, Duration) = (Duration::from_mins(1), Duration::from_hours(1));

/// How long a list is over until its place is asked no more often for it than each hour, if it has
/// others.
const LEFT_SECONDS: u64 = 86_400;

/// Where a list is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ListLocation(Place);

#[derive(Clone, Debug, Eq, PartialEq)]
enum Place {
    Server(Address),
    File(PathBuf),
}

/// A list that is wanted, and who may have signed it.
#[derive(Clone, Debug)]
pub struct ListSource {
    /// Where it is.
    pub location: ListLocation,
    /// The authorities that clients' certificates are judged by. A list that none of them has
    /// signed is refused.
    pub authorities: Arc<CertificateTrust>,
}

/// Why there is no new list. What was held before still is, until it is over.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ListFault {
    /// It cannot be fetched.
    #[error(transparent)]
    Get(#[from] GetError),
    /// The file cannot be read: the machine's fault, or that of whoever has named it.
    #[error("the file cannot be read: {0}")]
    File(String),
    /// What is there is neither DER nor PEM with a list in it.
    #[error("no revocation list in DER, nor a `BEGIN X509 CRL` block of PEM")]
    NotAList,
    /// There are too many in one place, or with those that it gave before and that are not over.
    #[error("more than {LISTS_OF_SOURCE_MAX} revocation lists of one place, with those of before")]
    TooMany,
    /// A list is none that can be used, or none that may take the place of the one that is held.
    #[error(transparent)]
    Refused(#[from] CrlFault),
    /// All lists together exceed what is held: the configuration's fault.
    #[error("all lists together exceed {octets_max} octets; take out those that are not in use")]
    NoRoom {
        /// How many may be held.
        octets_max: usize,
    },
    /// A task of this machine has failed; it is tried again.
    #[error("the task that fetches it has failed")]
    Task,
}

/// What a place has given, and how to ask there for something newer.
#[derive(Clone, Debug)]
pub(super) enum Known {
    Server(Validators),
    File { octets: u64, modified: SystemTime },
}

/// What was fetched.
#[derive(Debug)]
pub(super) struct NewLists {
    /// What is there, and of what was held before all that nothing there replaces.
    all: Vec<Crl>,
    /// What is there.
    there: Vec<Crl>,
    /// How to ask for something newer.
    pub(super) known: Option<Known>,
}

/// Whether what is held says anything.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum ListState {
    /// Nothing is held yet.
    Awaited,
    /// All that is held holds.
    Held,
    /// A list is over: certificates of its authority are refused where revocation is checked.
    Expired,
    /// A list begins to hold later, or this machine's clock is behind.
    NotYetValid,
}

impl ListLocation {
    /// A list at an `http://` or `https://` address. Nothing else is an address here: a list of
    /// LDAP has to be put where one of these can be asked.
    ///
    /// # Errors
    ///
    /// [`AddressFault`].
    pub fn server(address: &str) -> Result<Self, AddressFault> {
        Address::read(address, Plain::Anywhere).map(Place::Server).map(Self)
    }

    /// A list in a file, in DER or PEM.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(Place::File(path.into()))
    }
}

/// What has `://` in it is an address, anything else a file.
impl FromStr for ListLocation {
    type Err = AddressFault;

    fn from_str(text: &str) -> Result<Self, AddressFault> {
        if text.contains("://") { Self::server(text) } else { Ok(Self::file(text)) }
    }
}

impl fmt::Display for ListLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Place::Server(address) => address.fmt(f),
            Place::File(path) => path.display().fmt(f),
        }
    }
}

impl ListSource {
    /// Fetches what is there; `None` if it is what is held.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends its connection; a file is read to its end.
    pub(super) async fn fetch(
        self,
        getter: Getter,
        held: Arc<[Crl]>,
        known: Option<Known>,
    ) -> Result<Option<NewLists>, ListFault> {
        let (octets, known) = match &self.location.0 {
            Place::Server(address) => {
                let validators = match known {
                    Some(Known::Server(validators)) => validators,
                    _ => Validators::default(),
                };
                match getter.get(address, CRL_BYTES_MAX, &validators).await? {
                    Got::Unchanged => return Ok(None),
                    Got::New { octets, validators } => (octets, Some(Known::Server(validators))),
                }
            }
            Place::File(path) => {
                let path = path.clone();
                let read = tokio::task::spawn_blocking(move || read_file(&path, known.as_ref()));
                match read.await.map_err(|_| ListFault::Task)?? {
                    None => return Ok(None),
                    Some((octets, known)) => (octets, Some(known)),
                }
            }
        };
        // Reading a list of 32 MiB, and its signature, takes most of a second.
        let judged = tokio::task::spawn_blocking(move || judge(&octets, &held, &self.authorities));
        let (all, there) = judged.await.map_err(|_| ListFault::Task)??;
        Ok(Some(NewLists { all, there, known }))
    }

    /// When to look again after having looked at `now`, in seconds since 1970 UTC, if `held` is
    /// what there is.
    pub(super) fn next(&self, held: &[Crl], now: u64) -> Duration {
        match self.location.0 {
            Place::File(_) => FILE_EVERY,
            Place::Server(_) => {
                // Of several, one that has long been over may be of an authority that issues none
                // any more.
                let ended = now.saturating_sub(LEFT_SECONDS);
                let due = |it: &Crl| {
                    let is_left = held.len() > 1 && it.next_update() <= ended;
                    let due = due_in(it.this_update(), it.next_update(), now);
                    if is_left { OVERDUE.1 } else { due }
                };
                held.iter().map(due).min().unwrap_or(OVERDUE.0)
            }
        }
    }
}

/// After how long a list is to be fetched anew: at three quarters of its time, or, when those are
/// over, ever again until the authority has issued another.
fn due_in(this_update: u64, next_update: u64, now: u64) -> Duration {
    let life = next_update.saturating_sub(this_update);
    let due = this_update.saturating_add(life / 4 * 3 + life % 4 * 3 / 4);
    if now < due {
        return Duration::from_secs(due - now).max(SOONEST);
    }
    let left = Duration::from_secs(next_update.saturating_sub(now));
    // One that lives for minutes is not to be over before it is asked for.
    (left / 4).clamp(OVERDUE.0.min(Duration::from_secs(life / 8)).max(SOONEST), OVERDUE.1)
}

/// What may be said of `held` at `now`, in seconds since 1970 UTC.
pub(super) fn state(held: &[Crl], now: u64) -> ListState {
    if held.is_empty() {
        ListState::Awaited
    } else if held.iter().any(|it| it.next_update() <= now) {
        ListState::Expired
    } else if held.iter().any(|it| now < it.this_update()) {
        ListState::NotYetValid
    } else {
        ListState::Held
    }
}

impl NewLists {
    /// All that is to be held, if all other places have `others` of `octets_max` octets. What is
    /// over and not there any more is left out where there is no room, what ended first before the
    /// others.
    ///
    /// # Errors
    ///
    /// [`ListFault::TooMany`], [`ListFault::NoRoom`].
    pub(super) fn within(
        self,
        others: usize,
        octets_max: usize,
        now: u64,
    ) -> Result<Arc<[Crl]>, ListFault> {
        let mut all = self.all;
        loop {
            let fault = if all.len() > LISTS_OF_SOURCE_MAX {
                ListFault::TooMany
            } else if others + octets_of(&all) > octets_max {
                ListFault::NoRoom { octets_max }
            } else {
                return Ok(all.into());
            };
            let is_over = |it: &&Crl| it.next_update() <= now && !self.there.contains(it);
            let over = all.iter().filter(is_over).min_by_key(|it| it.next_update()).cloned();
            let Some(over) = over else { return Err(fault) };
            all.retain(|it| *it != over);
        }
    }
}

/// Octets of all of them.
pub(super) fn octets_of(lists: &[Crl]) -> usize {
    lists.iter().map(|it| it.der().len()).sum()
}

/// Reads all lists in `octets`, and judges whether they may be held beside or in place of `held`.
/// Returns all that is to be held then, and what was read.
fn judge(
    octets: &[u8],
    held: &[Crl],
    authorities: &CertificateTrust,
) -> Result<(Vec<Crl>, Vec<Crl>), ListFault> {
    let there = read_lists(octets)?;
    let mut crls = Crls::default();
    for list in held {
        // What another trust has let in may be signed by nobody now: then it is held no more.
        let _ = crls.take(list.clone(), authorities);
    }
    for list in &there {
        crls.take(list.clone(), authorities)?;
    }
    Ok((crls.iter().cloned().collect(), there))
}

fn read_lists(octets: &[u8]) -> Result<Vec<Crl>, ListFault> {
    // DER begins with a sequence, which no text of PEM does.
    if octets.first() == Some(&0x30) {
        return Ok(vec![Crl::from_der(octets)?]);
    }
    let mut lists = Vec::new();
    for list in CertificateRevocationListDer::pem_slice_iter(octets) {
        if lists.len() == LISTS_OF_SOURCE_MAX {
            return Err(ListFault::TooMany);
        }
        lists.push(Crl::from_der(&list.map_err(|_| ListFault::NotAList)?)?);
    }
    if lists.is_empty() { Err(ListFault::NotAList) } else { Ok(lists) }
}

/// Reads a file, unless it is the one that is known.
fn read_file(path: &Path, known: Option<&Known>) -> Result<Option<(Vec<u8>, Known)>, ListFault> {
    let failed = |error: io::Error| ListFault::File(error.to_string());
    // Before it is opened: a pipe would be waited at.
    if !path.metadata().map_err(failed)?.is_file() {
        return Err(ListFault::File("it is no ordinary file".to_owned()));
    }
    let file = File::open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    let (length, changed) = (metadata.len(), metadata.modified().map_err(failed)?);
    if let Some(Known::File { octets, modified }) = known
        && (*octets, *modified) == (length, changed)
    {
        return Ok(None);
    }
    let mut octets = Vec::new();
    file.take(CRL_BYTES_MAX as u64 + 1).read_to_end(&mut octets).map_err(failed)?;
    if octets.len() > CRL_BYTES_MAX {
        return Err(CrlFault::TooLong.into());
    }
    Ok(Some((octets, Known::File { octets: length, modified: changed })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_due_at_three_quarters_of_its_life_and_then_ever_again() {
        let day = 86_400;
        let due = |now| due_in(day, 9 * day, now).as_secs();
        assert_eq!(due(day), 6 * day);
        assert_eq!(due(7 * day - 1), 1);
        assert_eq!(due(7 * day), 3600, "an hour at most");
        assert_eq!(due(9 * day - 400), 100, "a quarter of what is left");
        assert_eq!([due(9 * day - 1), due(9 * day), due(99 * day)], [60; 3]);
        assert_eq!(due_in(100, 108, 106), Duration::from_secs(1), "one that lives for seconds");
        assert_eq!(due_in(u64::MAX - 1, u64::MAX, 0), Duration::from_secs(u64::MAX - 1));
    }

    #[test]
    fn what_has_a_scheme_is_an_address_and_anything_else_a_file() {
        let read = |text: &str| text.parse::<ListLocation>();
        assert_eq!(read("/etc/relay/ca.crl"), Ok(ListLocation::file("/etc/relay/ca.crl")));
        assert_eq!(read("http://ca.example/a.crl").unwrap().to_string(), "http://ca.example/a.crl");
        assert_eq!(read("ldap://ca.example/cn=a"), Err(AddressFault::Scheme));
    }

    #[test]
    fn what_is_no_list_is_refused_with_its_reason() {
        for text in ["", "<html>", "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"]
        {
            assert_eq!(read_lists(text.as_bytes()), Err(ListFault::NotAList), "{text}");
        }
        assert_eq!(read_lists(b"0"), Err(CrlFault::Malformed.into()));
    }

    #[test]
    fn only_ordinary_files_are_read_and_only_if_they_have_changed() {
        let folder = tempfile::tempdir().unwrap();
        let read = |path: &Path, known| read_file(path, known).map_err(|it| it.to_string());
        assert!(read(folder.path(), None).unwrap_err().contains("no ordinary file"));
        let path = folder.path().join("list");
        assert!(read(&path, None).unwrap_err().contains("cannot be read"));
        std::fs::write(&path, "one").unwrap();
        let (octets, known) = read(&path, None).unwrap().unwrap();
        assert_eq!(octets, b"one");
        assert!(read(&path, Some(&known)).unwrap().is_none());
        std::fs::write(&path, "other").unwrap();
        assert_eq!(read(&path, Some(&known)).unwrap().unwrap().0, b"other");
        let file = File::create(&path).unwrap();
        file.set_len(CRL_BYTES_MAX as u64 + 1).unwrap();
        assert_eq!(read_file(&path, None).unwrap_err(), CrlFault::TooLong.into());
    }
}
