//! Content of an instance's store, given to clients whom a site has granted it: its octets, or the
//! location where the store gives them itself.
//!
//! A grant is judged by what sites publish of their tokens, and by nothing else: no link is asked.
//! It names one client, and whoever shows it must prove to be that client: by a token of the site
//! with the client's GUID, or, where the grant is bound to a certificate, by having that one's key
//! in TLS. So a location that leaks opens nothing.
//!
//! What is told of a package is JSON of our own choice, each location being a path on this
//! service, or the URL of a file in a store elsewhere:
//!
//! ```json
//! {"package":"PS100012","expires":1800003600,"files":[
//!  {"name":"a/setup.exe","octets":70000,"sha256":"…","location":"/download…"}]}
//! ```
//!
//! Where content is kept, [`ContentStore`] says; it is asked off the runtime's threads. What it
//! says of a place elsewhere is judged here, whoever has made it: a location lies in the store that
//! is configured and ends with the grant, or nobody is told of it. Read [`Relay::content`] first.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use http::header::{
    ACCEPT_RANGES, AUTHORIZATION, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG,
    LOCATION,
};
use http::request::Parts;
use http::{HeaderValue, Response, StatusCode};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::auth::{Guid, Method, Methods, Presented, Principal, Refusal, Use};
use crate::content::{
    ContentFile, FileName, GrantFault, Location, Manifest, PackageId, Part, SignedGrant, StoreRoot,
};
use crate::exchange::MessageId;
use crate::settings::{Settings, SettingsDocument};

use super::access::{Access, Client};
use super::answer::{self, AnswerBody};
use super::clients::SiteClients;
use super::content_body::Held;
use super::failure::Failure;
use super::meter::Metered;
use super::possession::{Shows, fingerprint};
use super::relay::{Relay, bearer_of};

/// Time that a store has to say what it holds, and to read each piece of it.
const STORE_TIME: Duration = Duration::from_secs(10);

/// What a store is asked at once. One that hangs keeps the thread that asks it, whoever still
/// waits: so many are lost to it at most, and the others are left to whatever else blocks.
const STORE_PLACES: usize = 128;

/// Where an instance has its content from.
///
/// Its methods may block: they are called from threads that may. What is wrong with it is logged; a
/// client is told no more than that something is.
pub trait ContentStore: std::fmt::Debug + Send + Sync {
    /// Which files the package has.
    ///
    /// # Errors
    ///
    /// [`StoreFault::Absent`] if there is no such package, and whatever keeps it from being read.
    fn manifest(&self, package: &PackageId) -> Result<Arc<Manifest>, StoreFault>;

    /// Where all files are that are fetched elsewhere; `None` if the instance gives their octets.
    fn root(&self) -> Option<&StoreRoot> {
        None
    }

    /// Where a file of the package is, as its manifest has it: open, or below
    /// [`ContentStore::root`], for a request such as `visit`.
    ///
    /// # Errors
    ///
    /// As [`ContentStore::manifest`].
    fn place(
        &self,
        package: &PackageId,
        file: &ContentFile,
        visit: &Visit,
    ) -> Result<Place, StoreFault>;
}

/// How a file is going to be asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Visit {
    /// By which method: a location may be good for one alone.
    pub method: http::Method,
    /// When the client's grant is over, in seconds since 1970 UTC. No location may outlive it.
    pub until: u64,
}

/// Where a file is.
pub enum Place {
    /// The instance gives its octets.
    Here(Arc<dyn Stored>),
    /// The client fetches it there.
    Elsewhere(Location),
}

/// A file that a [`ContentStore`] has opened.
pub trait Stored: Send + Sync {
    /// Reads what is there from octet `at` on, as [`io::Read::read`] does. May block.
    ///
    /// # Errors
    ///
    /// Whatever keeps it from being read.
    fn read_at(&self, at: u64, octets: &mut [u8]) -> io::Result<usize>;

    /// As [`Stored::read_at`], but only what is had without waiting, in the kernel's cache say:
    /// `None` if that is nothing, or cannot be told. A thread is spared then.
    fn read_now(&self, at: u64, octets: &mut [u8]) -> Option<usize> {
        let _ = (at, octets);
        None
    }
}

/// Why a store does not give what it is asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreFault {
    /// There is no such package or file.
    #[error("there is no such content")]
    Absent,
    /// What there is cannot be read, for the reason given. The store's fault.
    #[error("{0}")]
    Unreadable(String),
}

/// The store of an instance, and the places that there are to ask it.
#[derive(Clone, Debug)]
pub(super) struct Shelves {
    store: Arc<dyn ContentStore>,
    places: Arc<Semaphore>,
}

impl Shelves {
    pub(super) fn of(store: Arc<dyn ContentStore>) -> Self {
        Self { store, places: Arc::new(Semaphore::new(STORE_PLACES)) }
    }

    /// Whether it is this store.
    pub(super) fn are_of(&self, store: &Arc<dyn ContentStore>) -> bool {
        Arc::ptr_eq(&self.store, store)
    }

    #[cfg(test)]
    pub(super) fn shares_places(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.places, &other.places)
    }

    /// The store, if files are fetched elsewhere.
    fn elsewhere(&self) -> Option<(Arc<dyn ContentStore>, Arc<Semaphore>)> {
        self.store.root()?;
        Some((Arc::clone(&self.store), Arc::clone(&self.places)))
    }

    /// Asks the store, off the runtime's threads.
    async fn ask<T: Send + 'static>(
        &self,
        message_id: MessageId,
        what: impl FnOnce(&dyn ContentStore) -> Result<T, StoreFault> + Send + 'static,
    ) -> Result<T, Failure> {
        let store = Arc::clone(&self.store);
        let asked = in_time(Arc::clone(&self.places), move || Ok(what(&*store)));
        let why = match asked.await {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(StoreFault::Absent)) => return Err(Failure::NoContent),
            Ok(Err(StoreFault::Unreadable(why))) => why,
            Err(broken) => broken.to_string(),
        };
        tracing::warn!(%message_id, why, "the store of content cannot be read");
        Err(Failure::StoreDown)
    }
}

/// Does what may block, once there is a place for it, and gives it up if that takes too long. It
/// keeps its place until it ends, all the same.
///
/// # Errors
///
/// What `what` has come to, or that its time is over.
pub(super) async fn in_time<T: Send + 'static>(
    places: Arc<Semaphore>,
    what: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let done = async {
        let place = places.acquire_owned().await.map_err(io::Error::other)?;
        let done = tokio::task::spawn_blocking(move || {
            let _place = place;
            what()
        });
        done.await.map_err(io::Error::other).flatten()
    };
    let late = || {
        let seconds = STORE_TIME.as_secs();
        let why = format!("it has not answered within {seconds} s");
        io::Error::new(io::ErrorKind::TimedOut, why)
    };
    timeout(STORE_TIME, done).await.unwrap_or_else(|_| Err(late()))
}

/// Finds a file and its place; once more if the package was put anew in between.
fn find(
    store: &dyn ContentStore,
    (package, name): (&PackageId, &FileName),
    visit: &Visit,
    message_id: MessageId,
) -> Result<(ContentFile, Place), StoreFault> {
    for _ in 0..2 {
        let manifest = store.manifest(package)?;
        let file = manifest.file(name).ok_or(StoreFault::Absent)?;
        match store.place(package, file, visit) {
            Err(StoreFault::Absent) => {}
            place => return Ok((file.clone(), judged(store, place?, visit.until)?)),
        }
    }
    // Nobody else would tell of it.
    tracing::warn!(%message_id, %package, %name, "listed, and not there; put the package anew");
    Err(StoreFault::Absent)
}

/// A place, of which nobody is told unless it lies in the store and ends with the grant.
fn judged(store: &dyn ContentStore, place: Place, until: u64) -> Result<Place, StoreFault> {
    if let Place::Elsewhere(location) = &place {
        let fault = |why: String| StoreFault::Unreadable(why);
        let root = store.root().ok_or_else(|| fault("it has files in no known place".into()))?;
        root.check(location, until).map_err(|why| fault(why.to_string()))?;
    }
    Ok(place)
}

/// The location of a file that is fetched elsewhere, for a list.
///
/// # Errors
///
/// There is none, or it is none to tell of.
pub(super) fn locate(
    store: &dyn ContentStore,
    (package, file): (&PackageId, &ContentFile),
    until: u64,
) -> io::Result<Location> {
    let visit = Visit { method: http::Method::GET, until };
    let place = store.place(package, file, &visit);
    match place.and_then(|place| judged(store, place, until)).map_err(io::Error::other)? {
        Place::Elsewhere(location) => Ok(location),
        Place::Here(_) => Err(io::Error::other("it has a file here, and others elsewhere")),
    }
}

impl Relay {
    /// Answers a request for content.
    pub(super) async fn content<B>(
        &self,
        request: &Parts,
        message_id: MessageId,
        access: &mut Access,
    ) -> Result<Response<AnswerBody<B>>, Failure> {
        let terms = self.terms.get();
        let shelves = terms.content.as_ref().ok_or(Failure::NoContent)?;
        let query = request.uri.query().ok_or(GrantFault::Missing("alg"))?;
        let grant = SignedGrant::read(query)?;
        access.note_grant(&grant);
        self.check_grant(&grant, request, access).await?;
        let package = grant.grant().package.clone();
        let Some(name) = grant.file().cloned() else {
            let manifest = shelves.ask(message_id, move |store| store.manifest(&package)).await?;
            let mut response = listing();
            if request.method != http::Method::HEAD {
                let held =
                    Held::listed(manifest, grant, shelves.elsewhere(), self.in_flight.enter());
                *response.body_mut() = AnswerBody::held(held);
            }
            answer::mark(&mut response, message_id, None);
            return Ok(response);
        };
        let visit = Visit { method: request.method.clone(), until: grant.grant().ends };
        let find =
            move |store: &dyn ContentStore| find(store, (&package, &name), &visit, message_id);
        let (file, place) = shelves.ask(message_id, find).await?;
        let opened = match place {
            Place::Here(opened) => opened,
            Place::Elsewhere(location) => {
                access.note_redirect(location.without_query());
                let mut response = redirect(&location);
                answer::mark(&mut response, message_id, None);
                return Ok(response);
            }
        };
        let (mut response, range) = part(request, &file)?;
        if let Some(range) = range.filter(|_| request.method != http::Method::HEAD) {
            let from = (opened, Arc::clone(&shelves.places));
            let held = Held::file(from, range, self.in_flight.enter());
            *response.body_mut() = AnswerBody::held(held);
        }
        answer::mark(&mut response, message_id, None);
        Ok(response)
    }

    /// Judges a grant, and whether it is its client that shows it.
    async fn check_grant(
        &self,
        grant: &SignedGrant,
        request: &Parts,
        access: &mut Access,
    ) -> Result<(), Failure> {
        let issuer = grant.grant().issuer;
        let is_known = |all: &Settings| all.documents().iter().any(|it| names_itself(it, issuer));
        let settings = self.settings_for(is_known).await;
        self.check_told(&settings)?;
        let mut judged = None;
        // Several sites may name themselves by one tenant: whichever has signed it.
        for document in settings.documents().iter().filter(|it| names_itself(it, issuer)) {
            let Some(clients) = self.settings.clients(&document.site) else { continue };
            let verdict = clients.judge_grant(grant);
            let is_signed = verdict.is_ok();
            judged = Some((&document.site, clients, verdict));
            if is_signed {
                break;
            }
        }
        let (site, clients, verdict) = judged.ok_or(GrantFault::Issuer)?;
        let meter = self.settings.traffic().content_of(site);
        access.note_content(site, Metered::begin(meter, bearer_of(&request.headers)));
        verdict?;
        self.check_client(&clients, grant, request, access)
    }

    /// Judges whether whoever asks is the client that a grant names.
    fn check_client(
        &self,
        clients: &SiteClients,
        grant: &SignedGrant,
        request: &Parts,
        access: &mut Access,
    ) -> Result<(), Failure> {
        let grant = grant.grant();
        let client = request.extensions.get::<Client>();
        let chain = client.map_or(&[][..], |client| &client.chain);
        if let Some(bound) = grant.bound_to {
            if chain.first().map(fingerprint) != Some(bound) {
                return Err(Failure::OtherClient);
            }
            // Called as by its tokens: what bars those bars the client.
            let (name, client) = (format!("client {}", grant.client), Some(grant.client));
            let named = Principal { method: Method::SiteToken, name, client, until: grant.ends };
            let is_barred = clients.bars(&named);
            return if is_barred { Err(Failure::Unproven(Refusal::ClientBarred)) } else { Ok(()) };
        }
        let headers = &request.headers;
        let authorization = headers.get_all(AUTHORIZATION).iter().map(HeaderValue::as_bytes);
        let shows = Shows::new(Presented::new(authorization), Use::Traffic, chain, headers);
        // The one method that names a client by its GUID.
        let naming = Methods::new(&[Method::SiteToken]).expect("one method, once");
        let trail = clients.search(naming, &shows);
        let is_barred = || trail.principal().is_some_and(|it| clients.bars(it));
        let refusal = Refusal::of(&trail, &shows.presented)
            .or_else(|| is_barred().then_some(Refusal::ClientBarred));
        let holder = trail.principal().and_then(|it| it.client);
        self.proofs.note(&trail);
        access.note_found(trail);
        match refusal {
            Some(refusal) => Err(Failure::Unproven(refusal)),
            None if holder == Some(grant.client) => Ok(()),
            None => Err(Failure::OtherClient),
        }
    }
}

/// Whether the site of a document names itself by `tenant` in what it signs.
fn names_itself(document: &SettingsDocument, tenant: Guid) -> bool {
    let tokens = document.clients.as_ref().and_then(|it| it.tokens.as_ref());
    tokens.is_some_and(|it| it.tenant == tenant)
}

/// The head of the answer that lists the files of a package.
fn listing<B>() -> Response<AnswerBody<B>> {
    let mut response = Response::new(AnswerBody::none());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // Its locations are for one client, and end with the grant.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// The answer that sends a client on, with its method.
fn redirect<B>(location: &Location) -> Response<AnswerBody<B>> {
    let mut response = Response::new(AnswerBody::none());
    *response.status_mut() = StatusCode::TEMPORARY_REDIRECT;
    let url = HeaderValue::try_from(location.url());
    let headers = response.headers_mut();
    headers.insert(LOCATION, url.expect("a location is visible ASCII"));
    // It ends with the grant, and whoever has it needs no credential.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
    response
}

/// The head of an answer, and which octets of a file follow, if any do.
type Headed<B> = (Response<AnswerBody<B>>, Option<Range<u64>>);

/// The head of the answer with a file.
fn part<B>(request: &Parts, file: &ContentFile) -> Result<Headed<B>, Failure> {
    let tag = format!("\"{}\"", file.sha256_text());
    let (status, range) = match Part::of(&request.method, &request.headers, file.octets, &tag) {
        Part::Whole => (StatusCode::OK, Some(0..file.octets)),
        Part::Octets(range) => (StatusCode::PARTIAL_CONTENT, Some(range)),
        Part::Known => (StatusCode::NOT_MODIFIED, None),
        Part::Changed => return Err(Failure::ContentChanged),
        Part::Beyond => return Err(Failure::BeyondContent(file.octets)),
    };
    let mut response = Response::new(AnswerBody::none());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    // For one client; the tag says whether it is still the same.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
    headers.insert(ETAG, HeaderValue::try_from(tag).expect("hexadecimal digits in quotes"));
    let Some(range) = range else { return Ok((response, None)) };
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(range.end - range.start));
    if status == StatusCode::PARTIAL_CONTENT {
        let (first, last) = (range.start, range.end.saturating_sub(1));
        let of = HeaderValue::try_from(format!("bytes {first}-{last}/{}", file.octets));
        headers.insert(CONTENT_RANGE, of.expect("numbers between plain signs"));
    }
    Ok((response, Some(range)))
}

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, mpsc};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_store_that_hangs_is_given_up_and_keeps_its_places_until_it_answers() {
        let places = Arc::new(Semaphore::new(2));
        let (open, gate) = mpsc::channel::<()>();
        let gate = Arc::new(Mutex::new(gate));
        let hang = || {
            let gate = Arc::clone(&gate);
            in_time(Arc::clone(&places), move || {
                let _ = gate.lock().unwrap().recv();
                Ok(())
            })
        };
        // The third one waits for a place.
        let asked: Vec<_> = (0..3).map(|_| tokio::spawn(hang())).collect();
        while places.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        tokio::time::advance(STORE_TIME + Duration::from_millis(1)).await;
        for it in asked {
            assert_eq!(it.await.unwrap().unwrap_err().kind(), io::ErrorKind::TimedOut);
        }
        assert_eq!(places.available_permits(), 0, "both threads are lost to it");

        drop(open);
        drop(places.acquire_many(2).await);
        assert_eq!(in_time(Arc::clone(&places), || Ok(7)).await.unwrap(), 7);
    }
}
