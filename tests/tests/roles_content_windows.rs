//! What an instance reads of its content for clients of HTTP/2 that open no window, or a little
//! one: so much of each file is held while it takes no more.

#![allow(clippy::unwrap_used, reason = "a failed step of a test's set-up is a failed test")]

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use relay_core::content::{ContentFile, Manifest, PackageId};
use relay_core::gateway::{ContentStore, Gateway, Place, StoreFault, Stored, Visit};
use relay_tests::clients::ClientSite;
use relay_tests::content::grant;
use relay_tests::http2::{Frame, Http2Client, WHOLE, asks, block, frame, hello, kind, setting};
use relay_tests::roles::{House, until, within};
use relay_tests::site::nobody;

/// Octets of the file: more than is ever read at once.
const FILE_OCTETS: u64 = 1 << 20;

/// Octets of the first piece.
const FIRST: u64 = 16 << 10;

/// Octets that are read at once.
const MOST: u64 = 128 << 10;

const CONNECTIONS: usize = 10;
const STREAMS: u32 = 100;

// RFC 9113, section 6.5.2.
const INITIAL_WINDOW_SIZE: u16 = 4;

/// A store with one file of zeros, which counts what is read.
#[derive(Clone, Debug, Default)]
struct Counting(Arc<AtomicU64>);

impl Counting {
    fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl ContentStore for Counting {
    fn manifest(&self, package: &PackageId) -> Result<Arc<Manifest>, StoreFault> {
        let name = "large".parse().unwrap();
        let file = ContentFile { name, octets: FILE_OCTETS, sha256: [0; 32] };
        Ok(Arc::new(Manifest::new(package.clone(), vec![file]).unwrap()))
    }

    fn place(&self, _: &PackageId, _: &ContentFile, _: &Visit) -> Result<Place, StoreFault> {
        Ok(Place::Here(Arc::new(self.clone())))
    }
}

impl Stored for Counting {
    fn read_at(&self, at: u64, octets: &mut [u8]) -> io::Result<usize> {
        let count = usize::try_from(FILE_OCTETS - at).unwrap().min(octets.len());
        octets[..count].fill(0);
        self.0.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// An instance with that store, and a client of a site that it knows.
struct Scene {
    house: House,
    site: ClientSite,
    store: Counting,
    gateway: Gateway,
}

impl Scene {
    async fn new() -> Self {
        let (site, store) = (ClientSite::new(), Counting::default());
        let mut house = House::before(nobody().await);
        house.gateway_limits.link_credit = Duration::ZERO;
        // Nobody is given up for what a slow machine takes.
        house.gateway_limits.answer_stall = Duration::from_hours(1);
        house.clients = Some(site.trust());
        house.initial = vec![house.document()];
        house.content = Some(Arc::new(store.clone()));
        let gateway = house.gateway(1);
        Self { house, site, store, gateway }
    }

    /// A client that has opened no window of any stream, and asked for the file so many times.
    async fn asking(&self, streams: u32) -> Asking {
        let mut client = Http2Client::connect(&self.gateway, &self.house.ca).await;
        let none = frame(kind::SETTINGS, 0, 0, &setting(INITIAL_WINDOW_SIZE, 0));
        client.send(&[hello(), none].concat()).await;
        let whole = self.site.grant(grant());
        let location = whole.for_file(&"large".parse().unwrap()).unwrap().location();
        let token = format!("Bearer {}", self.site.ccm());
        for stream in 0..streams {
            let asked = [&asks("GET", &location)[..], &[("authorization", &token)]].concat();
            client.send(&frame(kind::HEADERS, WHOLE, stream * 2 + 1, &block(&asked))).await;
        }
        let mut asking = Asking { client, streams };
        let heads = asking.until_each(kind::HEADERS).await;
        assert!(heads.iter().all(|it| asking.client.status_of(it.stream) == Some(200)));
        asking
    }
}

struct Asking {
    client: Http2Client,
    streams: u32,
}

impl Asking {
    /// Reads until a frame of this kind has come on each stream.
    async fn until_each(&mut self, wanted: u8) -> Vec<Frame> {
        let mut found: Vec<Frame> = Vec::new();
        while found.len() < self.streams as usize {
            let next = self.client.until(|it| it.kind == wanted && it.stream != 0).await.unwrap();
            assert!(found.iter().all(|it| it.stream != next.stream), "it was granted no more");
            found.push(next);
        }
        found
    }

    /// Opens the window of each stream to so many octets in all.
    async fn open(&mut self, octets: u32) {
        let opened = frame(kind::SETTINGS, 0, 0, &setting(INITIAL_WINDOW_SIZE, octets));
        self.client.send(&opened).await;
    }
}

#[tokio::test]
async fn for_1_000_streams_that_open_no_window_nothing_is_read_and_for_an_octet_of_each_16_kib() {
    within(async {
        let scene = Scene::new().await;
        let mut all = Vec::new();
        for _ in 0..CONNECTIONS {
            all.push(scene.asking(STREAMS).await);
        }
        let count = CONNECTIONS as u64 * u64::from(STREAMS);
        assert_eq!(scene.gateway.in_flight(), count);
        // One that takes an octet comes to its end only after those before it have stood still.
        let mut last = scene.asking(1).await;
        assert_eq!(scene.store.read(), 0, "of {count} streams");
        last.open(1).await;
        last.until_each(kind::DATA).await;
        assert_eq!(scene.store.read(), FIRST, "of the one that has taken an octet");
        for asking in &mut all {
            asking.open(1).await;
            let pieces = asking.until_each(kind::DATA).await;
            assert!(pieces.iter().all(|it| it.payload.len() == 1));
        }
        assert_eq!(scene.store.read(), (count + 1) * FIRST);
        drop((all, last));
        until(|| scene.gateway.in_flight() == 0).await;
    })
    .await;
}

#[tokio::test]
async fn no_more_is_held_of_a_file_than_its_client_has_taken_and_16_kib() {
    within(async {
        let scene = Scene::new().await;
        let mut asking = scene.asking(1).await;
        // The connection's own window is no matter here.
        let wide = frame(kind::WINDOW_UPDATE, 0, 0, &(1_u32 << 20).to_be_bytes());
        asking.client.send(&wide).await;
        // Each piece is taken to its last octet, and one more: the next is read by then.
        let (mut taken, mut piece) = (0, FIRST);
        for _ in 0..5 {
            asking.open(u32::try_from(taken + 1).unwrap()).await;
            let whole = taken + 1;
            let mut came = taken;
            while came < whole {
                let data = asking.client.until(|it| it.kind == kind::DATA).await.unwrap();
                came += data.payload.len() as u64;
            }
            assert_eq!(scene.store.read(), taken + piece, "after {came} octets");
            assert!(piece <= (taken + FIRST).min(MOST));
            // All of this piece, and nothing of the next.
            taken += piece;
            asking.open(u32::try_from(taken).unwrap()).await;
            while came < taken {
                let data = asking.client.until(|it| it.kind == kind::DATA).await.unwrap();
                came += data.payload.len() as u64;
            }
            piece = (piece * 2).min(MOST);
        }
    })
    .await;
}
