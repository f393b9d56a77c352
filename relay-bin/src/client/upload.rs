//! `relay client upload`: a file by BITS, in fragments, resumed where it was broken off.
//!
//! Source of the sequence: [MC-BUP], sections 1.3 and 3.2: Ping, Create-Session, Fragment by
//! Fragment, Close-Session; Cancel-Session for what is given up.

use std::io::SeekFrom;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use http_body_util::BodyExt as _;
use tokio::fs::File;
use tokio::io::AsyncSeekExt as _;

use crate::exit::Failure;
use crate::progress::Progress;

use super::args::{Reach, Way};
use super::body::{self, FileBody, RequestBody, Taken};
use super::connection::Connection;
use super::credentials::{Credentials, Shown};
use super::fault::Fault;
use super::report::{Asked, Hop, Outcome, Report};
use super::request::with_what_was_said;
use super::target::Target;
use super::tries::Tries;
use super::{block_on, show};

/// Shown below the help of `relay client upload`.
pub(super) const EXAMPLES: &str = "\
Examples:
  A file to a management point, in pieces of 256 KiB:
    relay client upload inventory.xml \\
        https://relay.example/CCM_Proxy_ServerAuth/72057594037927937/ccm_incoming/inventory.xml \\
        --ca site-ca.pem --folder me --fragment-kib 256

What is broken off goes on where the upload server says. Ctrl-C takes the upload back.";

/// What our uploads speak. Source: [MC-BUP], section 2.2.1: BITS 1.5 upload protocol.
const PROTOCOL: &str = "{7df0354d-249b-430f-820d-3d2a9bef4931}";

/// How long taking an upload back may last: nobody waits for it.
const CANCEL_WITHIN: Duration = Duration::from_secs(5);

/// Arguments of `relay client upload`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The file.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The URL, as `https://SERVICE/CCM_Proxy_MutualAuth/ROLE_ID/ccm_incoming/NAME`.
    #[arg(value_name = "URL")]
    url: String,
    #[command(flatten)]
    way: Way,
    #[command(flatten)]
    credentials: Credentials,
    /// KiB of a fragment.
    #[arg(long, value_name = "KIB", default_value_t = 1024)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=65_536))]
    fragment_kib: u64,
    /// How often in a row to try without an octet more.
    #[arg(long, value_name = "N", default_value_t = 5)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=100))]
    tries: u32,
}

/// `relay client upload`.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let target = Target::of_argument(&args.url).map_err(Failure::Usage)?;
    let shown = args.credentials.read().map_err(Failure::Usage)?;
    let reach = args.way.reach(&target, shown.identity.as_ref()).map_err(Failure::Usage)?;
    let total = size(args).map_err(Failure::Usage)?;
    let mut upload = Upload {
        args,
        target: &target,
        reach: &reach,
        shown: &shown,
        total,
        next: 0,
        session: None,
        connection: None,
        fragments: 0,
    };
    let report = block_on(async {
        let report = tokio::select! {
            done = upload.run() => done?,
            _ = tokio::signal::ctrl_c() => interrupted(),
        };
        upload.take_back().await;
        Ok(report)
    })?;
    show(&report, args.way.json, super::Shown::Out)
}

fn size(args: &Args) -> anyhow::Result<u64> {
    let shown = args.file.display();
    let metadata = std::fs::metadata(&args.file).with_context(|| format!("cannot read {shown}"))?;
    ensure!(metadata.is_file(), "{shown} is no file");
    ensure!(metadata.len() > 0, "{shown} is empty, and a fragment has an octet at least");
    // Told now, not after the first packet.
    std::fs::File::open(&args.file).with_context(|| format!("cannot read {shown}"))?;
    Ok(metadata.len())
}

fn interrupted() -> Report {
    let fault = Fault::Interrupted;
    Report::of_fault(&fault, None)
}

struct Upload<'a> {
    args: &'a Args,
    target: &'a Target,
    reach: &'a Reach,
    shown: &'a Shown,
    total: u64,
    /// The octet that the upload server expects next.
    next: u64,
    /// The server's name for the upload; none before it is created and after it is closed.
    session: Option<HeaderValue>,
    /// Kept while answers are good.
    connection: Option<Connection>,
    fragments: u64,
}

/// What is to be sent next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Packet {
    Ping,
    Create,
    Fragment,
    Close,
}

impl Packet {
    fn text(self) -> &'static str {
        match self {
            Self::Ping => "Ping",
            Self::Create => "Create-Session",
            Self::Fragment => "Fragment",
            Self::Close => "Close-Session",
        }
    }
}

/// What an answer means for the upload.
enum Step {
    /// Send this next.
    Next(Packet),
    /// As [`Step::Next`], and nothing was won.
    Back(Packet, Report),
    /// It ends so.
    End(Report),
}

impl Upload<'_> {
    /// Sends the file; the report is that of the last packet.
    async fn run(&mut self) -> Result<Report, Failure> {
        let mut tries = Tries::new(self.args.tries);
        let progress = Progress::new();
        progress.of(self.total);
        let mut through = 0;
        let (mut packet, mut most, mut before) = (Packet::Ping, 0, 0);
        let report = loop {
            let mut headers = HeaderMap::new();
            self.shown.put_into(&mut headers).map_err(Failure::Runtime)?;
            let (next, report) = match self.step(packet, headers).await {
                Ok(Step::Next(next)) => {
                    packet = next;
                    most = most.max(self.next);
                    progress.moved(through, self.next);
                    through = self.next;
                    continue;
                }
                Ok(Step::End(report)) => break report,
                Ok(Step::Back(next, report)) => (next, report),
                Err(fault) if fault.is_passing() => (packet, Report::of_fault(&fault, None)),
                Err(fault) => break Report::of_fault(&fault, None),
            };
            let has_got_on = most > before;
            (packet, before) = (next, most);
            let Some(wait) = tries.after_failure(has_got_on) else { break report };
            tokio::time::sleep(wait).await;
        };
        let report = report.fact("bytes", self.next).fact("fragments", self.fragments);
        Ok(report.fact("packet", packet.text()))
    }

    /// Sends one packet, and reads what its answer says.
    async fn step(&mut self, packet: Packet, headers: HeaderMap) -> Result<Step, Fault> {
        let (report, answer) = self.exchange(packet, headers).await?;
        let text = |name| answer.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let received = text("bits-received-content-range").and_then(|next| next.parse().ok());
        if !report.is_answered() {
            let is_of_site = report.hop == Hop::Site;
            return Ok(match (packet, report.status) {
                (Packet::Fragment, Some(416)) if received.is_some() => {
                    self.next = received.filter(|next| *next < self.total).unwrap_or(0);
                    Step::Back(Packet::Fragment, report)
                }
                // It knows the session no more: a new one, from the first octet.
                (Packet::Fragment, Some(404)) if is_of_site => {
                    (self.session, self.next) = (None, 0);
                    Step::Back(Packet::Create, report)
                }
                _ if report.is_passing() => Step::Back(packet, report),
                _ => Step::End(report),
            });
        }
        if text("bits-packet-type") != Some("Ack") {
            return Ok(Step::End(nonsense(report, "the answer is not that of an upload server")));
        }
        Ok(match packet {
            Packet::Ping => Step::Next(Packet::Create),
            Packet::Create => match answer.get("bits-session-id") {
                Some(session) => {
                    self.session = Some(session.clone());
                    Step::Next(Packet::Fragment)
                }
                None => Step::End(nonsense(report, "a session was created without a name")),
            },
            Packet::Fragment => self.received(received, report),
            Packet::Close => {
                self.session = None;
                Step::End(report)
            }
        })
    }

    fn received(&mut self, received: Option<u64>, report: Report) -> Step {
        self.fragments += 1;
        match received {
            Some(next) if next == self.total => {
                self.next = next;
                Step::Next(Packet::Close)
            }
            Some(next) if next > self.next && next < self.total => {
                self.next = next;
                Step::Next(Packet::Fragment)
            }
            // It has taken the fragment, and wants one that it has had.
            Some(next) if next < self.total => {
                self.next = next;
                Step::Back(Packet::Fragment, report)
            }
            _ => Step::End(nonsense(report, "the upload server does not say what it has received")),
        }
    }

    async fn exchange(
        &mut self,
        packet: Packet,
        mut headers: HeaderMap,
    ) -> Result<(Report, HeaderMap), Fault> {
        put(&mut headers, "bits-packet-type", HeaderValue::from_static(packet.text()));
        if let Some(session) = &self.session {
            put(&mut headers, "bits-session-id", session.clone());
        }
        if packet == Packet::Create {
            put(&mut headers, "bits-supported-protocols", HeaderValue::from_static(PROTOCOL));
        }
        let taken = Taken::default();
        let body = match packet {
            Packet::Fragment => self.fragment(&mut headers, &taken).await?,
            _ => body::empty(),
        };
        let mut request = Request::new(body);
        *request.method_mut() = Method::from_bytes(b"BITS_POST").map_err(http::Error::from)?;
        *request.headers_mut() = headers;
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::open(self.reach, self.target).await?,
        };
        let answer = connection.send(self.target, request, &taken).await?;
        let report = Report::of(&answer, Asked::Site, connection.described());
        let (head, mut body) = answer.into_parts();
        if report.is_answered() {
            while connection.more(&mut body).await?.is_some() {}
            self.connection = Some(connection);
            return Ok((report, head.headers));
        }
        // Whoever refuses may not have read all of it, so the connection is not used again.
        Ok((with_what_was_said(report, self.shown, &connection, &mut body).await, head.headers))
    }

    /// The octets from the next one on, and the fields that say which they are.
    async fn fragment(&self, headers: &mut HeaderMap, taken: &Taken) -> Result<RequestBody, Fault> {
        let end = self.total.min(self.next + self.args.fragment_kib * 1024);
        let range = format!("bytes {}-{}/{}", self.next, end - 1, self.total);
        put(headers, "content-range", HeaderValue::try_from(range).map_err(http::Error::from)?);
        let name =
            self.args.file.file_name().and_then(|name| HeaderValue::try_from(name.to_str()?).ok());
        if let Some(name) = name {
            put(headers, "content-name", name);
        }
        let opened = async {
            let mut file = File::open(&self.args.file).await?;
            file.seek(SeekFrom::Start(self.next)).await?;
            Ok(file)
        };
        let file = opened.await;
        let file = file.map_err(|source| Fault::File { what: "cannot read the file", source })?;
        Ok(FileBody::new(file, end - self.next, Taken::clone(taken)).boxed())
    }

    /// Has the server forget what is not closed. Whether it does changes nothing here.
    async fn take_back(&mut self) {
        let Some(session) = self.session.take() else { return };
        let mut headers = HeaderMap::new();
        if self.shown.put_into(&mut headers).is_err() {
            return;
        }
        put(&mut headers, "bits-packet-type", HeaderValue::from_static("Cancel-Session"));
        put(&mut headers, "bits-session-id", session);
        let mut request = Request::new(body::empty());
        *request.method_mut() = match Method::from_bytes(b"BITS_POST") {
            Ok(method) => method,
            Err(_) => return,
        };
        *request.headers_mut() = headers;
        let cancelled = async {
            let mut connection = Connection::open(self.reach, self.target).await?;
            connection.send(self.target, request, &Taken::default()).await.map(drop)
        };
        let _ = tokio::time::timeout(CANCEL_WITHIN, cancelled).await;
    }
}

fn put(headers: &mut HeaderMap, name: &'static str, value: HeaderValue) {
    headers.insert(HeaderName::from_static(name), value);
}

fn nonsense(report: Report, means: &str) -> Report {
    let next =
        Some("check the URL: it may be none for uploads; else the site role's log".to_owned());
    Report { outcome: Outcome::Failed, means: Some(means.to_owned()), next, ..report }
}
