//! `relay client download` and `upload`.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use http::{Response, StatusCode};
use sha2::{Digest as _, Sha256};

use super::{Asked, Origin, Relay, Said, answer};
use crate::support::{octets, signal};

/// Octets of the file that goes down and up.
const LEN: usize = 600_000;

fn sha256(octets: &[u8]) -> String {
    format!("{:x}", Sha256::digest(octets))
}

/// A site role that gives a file, each answer cut after so many octets, with this tag.
fn file_server(cut: usize, tag: impl Fn(u32) -> &'static str + Send + Sync + 'static) -> Relay {
    let (count, tag) = (Arc::new(AtomicU32::new(0)), Arc::new(tag));
    Relay::start(move |asked: &Asked| {
        let content = octets(LEN);
        let tag = tag(count.fetch_add(1, Ordering::Relaxed));
        let range = asked
            .header("range")
            .strip_prefix("bytes=")
            .filter(|_| asked.header("if-range") == tag);
        let from = range.map_or(0, |range| range.trim_end_matches('-').parse().unwrap());
        let rest = content[from..].to_vec();
        let mut answer =
            Response::builder().header("etag", tag).header("content-length", rest.len());
        if range.is_some() {
            let range = format!("bytes {from}-{}/{LEN}", LEN - 1);
            answer = answer.status(StatusCode::PARTIAL_CONTENT).header("content-range", range);
        }
        let said =
            if rest.len() > cut { Said::cut(rest[..cut].to_vec()) } else { Said::whole(rest) };
        answer.body(said).unwrap()
    })
}

#[test]
fn a_download_that_is_broken_off_is_resumed_and_checked() {
    let relay = file_server(250_000, |_| "\"one\"");
    let content = octets(LEN);
    let url = relay.url("/CCM_Client/file.bin");
    for version in [&[][..], &["--http1"]] {
        let right = sha256(&content);
        let args = ["download", &url, "file", "--sha256", &right];
        let (status, report) = relay.report(&[&args[..], version].concat());
        assert_eq!((status, &report["bytes"]), (0, &LEN.into()), "{report}");
        // Once more if the end of an answer overtakes some of it on its way.
        assert!(report["resumed"].as_u64().unwrap() >= 2, "{report}");
        assert_eq!(report["sha256"], right);
        assert!(fs::read(relay.path("file")).unwrap() == content);
        fs::remove_file(relay.path("file")).unwrap();
    }
    let other = "0".repeat(64);
    fs::write(relay.path("file"), "before").unwrap();
    let (status, report) = relay.report(&["download", &url, "file", "--sha256", &other]);
    assert_eq!((status, &report["outcome"]), (1, &"failed".into()), "{report}");
    assert!(report["means"].as_str().unwrap().contains("the file is another"), "{report}");
    assert_eq!(fs::read(relay.path("file")).unwrap(), b"before");
    assert!(!relay.path("file.part").exists() && !relay.path("file.part.json").exists());
}

#[test]
fn a_download_goes_on_in_the_next_run_and_begins_again_if_the_file_has_changed() {
    let relay = file_server(LEN, |_| "\"one\"");
    let url = relay.url("/CCM_Client/file.bin");
    let content = octets(LEN);
    let broken_off = |octets: &[u8], tag: &str| {
        fs::write(relay.path("file.part"), octets).unwrap();
        let known = serde_json::json!({"url": url, "validator": tag, "total": LEN});
        fs::write(relay.path("file.part.json"), known.to_string()).unwrap();
    };
    for (part, tag, first_line, resumed) in [
        (&content[..1000], "\"one\"", "bytes=1000-", 1),
        // Another content: If-Range has all of it sent.
        (&octets(2000)[500..], "\"before\"", "bytes=1500-", 0),
    ] {
        broken_off(part, tag);
        let (status, report) = relay.report(&["download", &url, "file"]);
        assert_eq!((status, &report["resumed"]), (0, &resumed.into()), "{report}");
        assert_eq!(relay.origin.seen().last().unwrap().header("range"), first_line);
        assert!(fs::read(relay.path("file")).unwrap() == content);
    }
    // Of another URL: nothing is asked for that is not known.
    broken_off(&content[..1000], "\"one\"");
    let (status, _) = relay.report(&["download", &relay.url("/CCM_Client/file2.bin"), "file"]);
    assert_eq!((status, relay.origin.seen().last().unwrap().header("range")), (0, ""));
}

#[test]
fn a_download_that_is_refused_says_by_whom_and_leaves_no_file() {
    let relay = Relay::start(|_: &Asked| answer(403, "not you"));
    for (path, hop) in [("/CCM_Client/x", "site"), ("/AdminService", "gateway")] {
        let (status, report) = relay.report(&["download", &relay.url(path), "file"]);
        assert_eq!((status, &report["hop"]), (1, &hop.into()), "{report}");
        assert!(!relay.path("file").exists() && !relay.path("file.part").exists());
    }
    for wrong in [&["--sha256", "12"][..], &["--tries", "0"]] {
        let done =
            relay.client(&[&["download", &relay.url("/CCM_Client/x"), "file"], wrong].concat());
        assert_eq!(done.status.code(), Some(2), "{wrong:?}");
    }
}

/// An upload server: its only session's octets, and what was asked of it.
#[derive(Default)]
pub(super) struct Uploads {
    sessions: BTreeMap<String, Vec<u8>>,
    created: u32,
    fragments: u32,
    pub(super) closed: Vec<Vec<u8>>,
    cancelled: u32,
}

/// What goes wrong with one of the fragments.
#[derive(Clone, Copy)]
pub(super) enum Wrong {
    Nothing,
    /// The session is forgotten before the second one.
    Forgotten,
    /// Half of the second one is lost, so the third leaves a gap.
    Gap,
    /// The answer to the second one is 503.
    Busy,
    /// The answer to every other one is 503, the first included.
    OftenBusy,
    /// No fragment is ever answered well.
    Refused,
}

fn upload_server(wrong: Wrong) -> (Relay, Arc<Mutex<Uploads>>) {
    let uploads = Arc::<Mutex<Uploads>>::default();
    let state = Arc::clone(&uploads);
    let relay = Relay::start(move |asked: &Asked| state.lock().unwrap().answer(wrong, asked));
    (relay, uploads)
}

impl Uploads {
    pub(super) fn answer(&mut self, wrong: Wrong, asked: &Asked) -> Response<Said> {
        let session = asked.header("bits-session-id").to_owned();
        let ack =
            |status: u16| Response::builder().status(status).header("bits-packet-type", "Ack");
        let plain = |answer: http::response::Builder| answer.body(Said::whole("")).unwrap();
        match asked.header("bits-packet-type") {
            "Create-Session" => {
                self.created += 1;
                let name = format!("{{{}}}", self.created);
                self.sessions.insert(name.clone(), Vec::new());
                plain(ack(200).header("bits-session-id", name))
            }
            "Fragment" => {
                self.fragments += 1;
                let (status, received) = fragment(self, wrong, asked, &session);
                plain(ack(status).header("bits-received-content-range", received))
            }
            "Close-Session" => {
                let octets = self.sessions.remove(&session).unwrap();
                self.closed.push(octets);
                plain(ack(200))
            }
            "Cancel-Session" => {
                self.cancelled += 1;
                self.sessions.remove(&session).unwrap();
                plain(ack(200))
            }
            _ => plain(ack(200)),
        }
    }
}

/// The status, and the octet expected next.
fn fragment(state: &mut Uploads, wrong: Wrong, asked: &Asked, session: &str) -> (u16, usize) {
    let (second, is_odd) = (state.fragments == 2, state.fragments % 2 == 1);
    if matches!(wrong, Wrong::Forgotten) && second {
        state.sessions.clear();
    }
    let Some(octets) = state.sessions.get_mut(session) else { return (404, 0) };
    let range = asked.header("content-range").strip_prefix("bytes ").unwrap();
    let from: usize = range.split('-').next().unwrap().parse().unwrap();
    match wrong {
        Wrong::Busy if second => return (503, octets.len()),
        Wrong::OftenBusy if is_odd => return (503, octets.len()),
        Wrong::Refused => return (400, octets.len()),
        // It says that it has it all, and has not.
        Wrong::Gap if second => return (200, from + asked.body.len()),
        _ if octets.len() < from => return (416, octets.len()),
        _ => (),
    }
    let new = octets.len() - from;
    octets.extend_from_slice(&asked.body[new.min(asked.body.len())..]);
    (200, octets.len())
}

#[test]
fn an_upload_arrives_whatever_befalls_its_fragments() {
    let content = octets(LEN);
    for (wrong, created, fragments) in [
        (Wrong::Nothing, 1, 3),
        (Wrong::Forgotten, 2, 5),
        (Wrong::Gap, 1, 5),
        (Wrong::Busy, 1, 4),
        // More failures than tries; between any two something was won.
        (Wrong::OftenBusy, 1, 6),
    ] {
        let (relay, uploads) = upload_server(wrong);
        fs::write(relay.path("file"), &content).unwrap();
        let url = relay.url("/ccm_incoming/file");
        let args = ["upload", "file", &url, "--fragment-kib", "256", "--tries", "2"];
        let (status, report) = relay.report(&args);
        assert_eq!((status, &report["bytes"]), (0, &LEN.into()), "{report}");
        let uploads = uploads.lock().unwrap();
        assert_eq!((uploads.created, uploads.fragments), (created, fragments));
        assert!(uploads.closed == [content.clone()], "{} closed", uploads.closed.len());
        assert_eq!((uploads.cancelled, uploads.sessions.len()), (0, 0));
    }
}

#[test]
fn an_upload_that_is_refused_says_by_whom_and_is_taken_back() {
    let (relay, uploads) = upload_server(Wrong::Refused);
    fs::write(relay.path("file"), octets(10)).unwrap();
    fs::write(relay.path("empty"), "").unwrap();
    let (status, report) = relay.report(&["upload", "file", &relay.url("/ccm_incoming/file")]);
    let told = (&report["hop"], &report["status"], &report["packet"]);
    assert_eq!((status, told), (1, (&"site".into(), &400.into(), &"Fragment".into())), "{report}");
    assert_eq!(uploads.lock().unwrap().cancelled, 1);

    let (status, report) = relay.report(&["upload", "file", &relay.url("/AdminService")]);
    assert_eq!((status, &report["hop"]), (1, &"gateway".into()), "{report}");
    for wrong in [
        &["nowhere"][..],
        &["empty"],
        &["."],
        &["file", "--fragment-kib", "0"],
        &["file", "--fragment-kib", "65537"],
    ] {
        let url = relay.url("/ccm_incoming/file");
        let args = [&["upload", wrong[0], url.as_str()], &wrong[1..]].concat();
        assert_eq!(relay.client(&args).status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn an_upload_that_is_interrupted_is_taken_back() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("file"), octets(LEN)).unwrap();
    let (reached, is_reached) = std::sync::mpsc::channel();
    // The answer to the first fragment never ends, so the upload is on its way until it is told.
    let origin = Origin::start(move |asked: &Asked| {
        let answer = Response::builder().header("bits-packet-type", "Ack");
        if asked.header("bits-packet-type") != "Fragment" {
            return answer.header("bits-session-id", "{1}").body(Said::whole("")).unwrap();
        }
        reached.send(()).unwrap();
        answer.body(Said::endless()).unwrap()
    });
    let url = format!("http://{}/ccm_incoming/file", origin.at);
    let mut client = Command::new(env!("CARGO_BIN_EXE_relay"))
        .args(["client", "upload", "file", &url])
        .current_dir(home.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    is_reached.recv().unwrap();
    signal::send(&client, "INT");
    assert_eq!(client.wait().unwrap().code(), Some(1));
    let seen = origin.seen();
    let packets: Vec<_> = seen.iter().map(|asked| asked.header("bits-packet-type")).collect();
    assert_eq!(packets, ["Ping", "Create-Session", "Fragment", "Cancel-Session"]);
    assert_eq!(seen[3].header("bits-session-id"), "{1}");
}
