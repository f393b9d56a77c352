//! `relay client register`, `renew` and `exchange` where the token service refuses, or is none: one
//! of the tests' own. With the site's own: `token_service.rs`.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::Response;
use relay_core::auth::{ClientKey, Replay, SignedDigests, SignedHead};
use serde_json::{Value, json};

use super::{Asked, Origin, Relay, SECRET, Said, run};

const CLIENT: &str = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9";

/// Later than any clock of a test.
const EXPIRES: u64 = 33_000_000_000;

/// The token that is given for the `n`th request: one for [`CLIENT`], as the site's are.
fn token(n: u32) -> String {
    let claims = json!({"ClientId": CLIENT, "n": n}).to_string();
    format!("e30.{}.{SECRET}", URL_SAFE_NO_PAD.encode(claims))
}

/// What the service does from the next request on.
#[derive(Default)]
struct Service {
    asked: AtomicU32,
    refuses: AtomicBool,
    lies: AtomicBool,
}

impl Service {
    fn answer(&self, asked: &Asked) -> Response<Said> {
        let n = self.asked.fetch_add(1, Ordering::Relaxed);
        let signed = SignedHead::read(&asked.headers).unwrap();
        if asked.line.ends_with("/register") {
            let told: Value = serde_json::from_slice(&asked.body).unwrap();
            let der = STANDARD.decode(told["certificate"].as_str().unwrap()).unwrap();
            let key = ClientKey::of_certificate(&der).unwrap();
            let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
            let judged =
                signed.unwrap().verify(&key, SignedDigests::Sha256, now, &mut Replay::new(1));
            judged.unwrap();
        } else {
            assert_eq!(asked.body, "{}");
        }
        let json = |status: u16, said: &Value| {
            let answer =
                Response::builder().status(status).header("content-type", "application/json");
            answer.body(Said::whole(said.to_string())).unwrap()
        };
        if self.refuses.load(Ordering::Relaxed) {
            return json(
                403,
                &json!({"error": "Token_Blocked", "detail": "this token is blocked"}),
            );
        }
        if self.lies.load(Ordering::Relaxed) {
            return json(200, &json!({"token": SECRET}));
        }
        let issued = json!({
            "client_id": CLIENT, "token": token(n), "expires": EXPIRES, "renew_after": 2_592_000,
        });
        json(200, &issued)
    }
}

fn relay() -> (Relay, Arc<Service>) {
    let service = Arc::<Service>::default();
    let asked = Arc::clone(&service);
    (Relay::start(move |request: &Asked| asked.answer(request)), service)
}

fn names(folder: &Path) -> Vec<String> {
    let files = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

const WHOLE: [&str; 3] = ["client-key.pem", "client.pem", "client.token"];

#[test]
fn what_is_refused_leaves_no_half_of_a_registration() {
    let (relay, service) = relay();
    let url = relay.url("");
    relay.secret("bulk", SECRET);
    let register = ["register", &url, "--folder", "me", "--token-file", "bulk"];
    service.refuses.store(true, Ordering::Relaxed);
    let (status, report) = relay.report(&register);
    let told = (&report["hop"], &report["reason"], &report["means"]);
    let expected = ("token_service".into(), "Token_Blocked".into(), "this token is blocked".into());
    assert_eq!((status, told), (1, (&expected.0, &expected.1, &expected.2)), "{report}");
    assert!(!relay.path("me").exists());

    service.refuses.store(false, Ordering::Relaxed);
    service.lies.store(true, Ordering::Relaxed);
    let (status, report) = relay.report(&register);
    assert_eq!((status, &report["outcome"]), (1, &"failed".into()), "{report}");
    // Whoever says so may have registered the client.
    assert_eq!(names(&relay.path("me")), WHOLE[..2]);
    fs::remove_dir_all(relay.path("me")).unwrap();
    let (status, report) = relay.report(&["register", &relay.url("/no"), "--folder", "me"]);
    assert_eq!((status, &report["hop"]), (1, &"gateway".into()), "{report}");
    assert!(!relay.path("me").exists());

    // A renewal that fails leaves the token that is there.
    service.lies.store(false, Ordering::Relaxed);
    assert_eq!(relay.report(&register).0, 0);
    let before = fs::read(relay.path("me/client.token")).unwrap();
    service.refuses.store(true, Ordering::Relaxed);
    assert_eq!(relay.report(&["renew", &url, "--folder", "me"]).0, 1);
    assert_eq!(fs::read(relay.path("me/client.token")).unwrap(), before);
    assert_eq!(names(&relay.path("me")), WHOLE);
}

#[test]
fn a_registration_whose_answer_is_lost_goes_on_with_the_same_certificate() {
    let home = tempfile::tempdir().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    // The first answer is lost, the second one is not.
    let service = std::thread::spawn(move || {
        [false, true].map(|is_heard| {
            let (mut stream, _) = listener.accept().unwrap();
            let certificate = certificate_in(&mut stream);
            let issued = json!({
                "client_id": CLIENT, "token": token(1), "expires": EXPIRES, "renew_after": 1,
            });
            let issued = issued.to_string();
            let fields = format!("content-length: {}\r\nconnection: close", issued.len());
            let answer = format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n{issued}");
            if is_heard {
                stream.write_all(answer.as_bytes()).unwrap();
            }
            certificate
        })
    });
    let register = ["register", &url, "--folder", "me", "--json"];
    let done = run(home.path(), &register);
    assert_eq!(done.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&done.stdout).contains("\"kept\""));
    assert_eq!(names(&home.path().join("me")), WHOLE[..2]);
    let done = run(home.path(), &register);
    assert_eq!(done.status.code(), Some(0), "{}", String::from_utf8_lossy(&done.stdout));
    assert_eq!(names(&home.path().join("me")), WHOLE);
    let [first, second] = service.join().unwrap();
    assert_eq!(first, second);
}

/// The certificate that a registration asks for, once the request is there as a whole.
fn certificate_in(stream: &mut TcpStream) -> String {
    let (mut heard, mut octets) = (Vec::new(), [0; 4096]);
    loop {
        let count = stream.read(&mut octets).unwrap();
        assert!(count > 0, "there is more to come");
        heard.extend_from_slice(&octets[..count]);
        let text = String::from_utf8_lossy(&heard);
        let body = text.split_once("\r\n\r\n").map(|(_, body)| body);
        if let Some(told) = body.and_then(|body| serde_json::from_str::<Value>(body).ok()) {
            return told["certificate"].as_str().unwrap().to_owned();
        }
    }
}

#[test]
fn a_registration_that_cannot_be_asked_for_asks_for_nothing() {
    let home = tempfile::tempdir().unwrap();
    fs::write(home.path().join("file"), "x y").unwrap();
    fs::create_dir(home.path().join("half")).unwrap();
    fs::write(home.path().join("half/client.pem"), "mine").unwrap();
    let origin = Origin::start(|_: &Asked| unreachable!("nothing is asked for"));
    let url = format!("http://{}", origin.at);
    for wrong in [
        &["register", &url][..],
        &["register", "https://relay.example", "--folder", "me"],
        &["register", "http://relay.example", "--folder", "me"],
        &["register", &format!("{url}/?x"), "--folder", "me"],
        &["register", &url, "--folder", "file"],
        &["register", &url, "--folder", "file/me"],
        &["register", &url, "--folder", "half"],
        &["register", &url, "--folder", "me", "--token-file", "file"],
        &["renew", &url],
        &["renew", &url, "--folder", "half"],
        &["renew", &url, "--folder", "nowhere"],
        &["exchange", &url, "--save", "x"],
        &["exchange", &url, "--token-file", "file", "--save", "x"],
    ] {
        let done = run(home.path(), wrong);
        assert_eq!(done.status.code(), Some(2), "{wrong:?}");
    }
    assert_eq!(names(home.path()), ["file", "half"]);
    assert_eq!(names(&home.path().join("half")), ["client.pem"]);
    assert!(origin.seen().is_empty());
}
