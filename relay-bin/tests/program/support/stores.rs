//! Real stores of objects on ports of their own, ended by their own handles: Azurite, which speaks
//! as Azure Blob Storage does, and moto, which speaks as S3 does.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tempfile::TempDir;
use time::OffsetDateTime;

use super::authority::Shown;
use super::tools_are_required;

/// The key of Azurite's account, which it has in public.
// Source: Microsoft Learn, "Connect to Azurite with SDKs and tools".
const AZURITE_KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// A store that is empty, but for a container or bucket; ended when dropped.
pub(crate) struct Store {
    pub(crate) at: SocketAddr,
    scheme: &'static str,
    /// What the store is in `[content]`, with the key in `store.key` beside it.
    pub(crate) table: String,
    pub(crate) key: &'static str,
    child: Child,
    _folder: TempDir,
}

impl Store {
    /// Starts Azurite, if it is installed.
    pub(crate) fn azurite() -> Option<Self> {
        Self::azurite_with(None, |_| ())
    }

    /// As [`Store::azurite`], with a clock that is so many seconds ahead.
    pub(crate) fn azurite_ahead(seconds: i64) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let clock = folder.path().join("clock.cjs");
        let text = format!(
            "const Real = Date;\nconst now = () => Real.now() + {seconds}000;\n\
             globalThis.Date = class extends Real {{\n\
             constructor(...of) {{ if (of.length) super(...of); else super(now()); }}\n\
             static now() {{ return now(); }}\n}};\n"
        );
        std::fs::write(&clock, text).unwrap();
        let store = Self::azurite_with(None, |command| {
            command.env("NODE_OPTIONS", format!("--require {}", clock.display()));
        });
        // It has read that by now.
        drop(folder);
        store
    }

    /// As [`Store::azurite`]; it speaks TLS if it is given what to show.
    fn azurite_with(tls: Option<&Shown>, change: impl FnOnce(&mut Command)) -> Option<Self> {
        let program = tool("azurite/node_modules/.bin/azurite-blob")?;
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(program);
        command.args(["--blobHost", "127.0.0.1", "--blobPort", "0", "--silent"]);
        command.arg("--skipApiVersionCheck").arg("--location").arg(folder.path());
        if let Some([certificate, key]) = tls.map(|it| it.write(folder.path())) {
            command.arg("--cert").arg(certificate).arg("--key").arg(key);
        }
        change(&mut command);
        let (child, at) = started(command, "successfully listens on ");
        let scheme = scheme(tls);
        let table = format!(
            "[content.azure]\naccount = \"devstoreaccount1\"\ncontainer = \"content\"\n\
             key_file = \"store.key\"\nprefix = \"site-1\"\n\
             endpoint = \"{scheme}://{at}/devstoreaccount1\"\n"
        );
        let store = Self { at, scheme, table, key: AZURITE_KEY, child, _folder: folder };
        store.make_container();
        Some(store)
    }

    /// Starts moto, if it is installed.
    pub(crate) fn moto() -> Option<Self> {
        Self::moto_with(None)
    }

    /// As [`Store::moto`]; it speaks TLS if it is given what to show.
    fn moto_with(tls: Option<&Shown>) -> Option<Self> {
        let program = tool("moto/bin/moto_server")?;
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(program);
        command.args(["-H", "127.0.0.1", "-p", "0"]).env("PYTHONUNBUFFERED", "1");
        if let Some([certificate, key]) = tls.map(|it| it.write(folder.path())) {
            command.arg("--ssl-cert").arg(certificate).arg("--ssl-key").arg(key);
        }
        let (child, at) = started(command, "Running on ");
        let scheme = scheme(tls);
        let table = format!(
            "[content.s3]\nbucket = \"relay-files\"\nregion = \"us-east-1\"\n\
             access_key_id = \"id\"\nsecret_key_file = \"store.key\"\n\
             endpoint = \"{scheme}://{at}\"\n"
        );
        let key = "hiddenhiddenhidden";
        let store = Self { at, scheme, table, key, child, _folder: folder };
        let made = ask("PUT", &format!("{scheme}://{at}/relay-files"), &[]);
        assert_eq!(made.status, 200, "{}", made.head);
        Some(store)
    }

    /// Both, as far as they are installed.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        [Self::azurite, Self::moto].into_iter().filter_map(|start| start())
    }

    /// Both, over TLS with what is `shown`, of an authority in `store-ca.pem` beside the file.
    pub(crate) fn all_over_tls(shown: &Shown) -> impl Iterator<Item = Self> {
        let started = [Self::azurite_with(Some(shown), |_| ()), Self::moto_with(Some(shown))];
        started.into_iter().flatten().map(|mut store| {
            store.table.push_str("trust = \"store-ca.pem\"\n");
            store
        })
    }

    /// Ends it.
    pub(crate) fn end(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// The location of a file at `place`, a URL without a query, that Azurite honours until `end`.
    // Source: Microsoft Learn, "Create a service SAS".
    pub(crate) fn signed_until(&self, place: &str, end: &str) -> String {
        let (_, resource) = place.split_once(&format!("{}/", self.at)).unwrap();
        let version = "2023-11-03";
        let signed = format!("r\n\n{end}\n/blob/{resource}\n\n\n\n{version}\nb\n\n\n\n\n\n\n");
        let signature = shared_key_signature(&signed);
        let escaped = signature.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
        format!("{place}?sv={version}&se={end}&sr=b&sp=r&sig={escaped}")
    }

    /// By the simplest request that Azurite takes.
    // Source: Microsoft Learn, "Authorize with Shared Key".
    fn make_container(&self) {
        let now = OffsetDateTime::now_utc();
        let (weekday, month) = (now.weekday().to_string(), now.month().to_string());
        let (hour, minute, second) = now.to_hms();
        let date = format!(
            "{}, {:02} {} {} {hour:02}:{minute:02}:{second:02} GMT",
            &weekday[..3],
            now.day(),
            &month[..3],
            now.year()
        );
        let signed = format!(
            "PUT{}x-ms-date:{date}\nx-ms-version:2021-08-06\n\
             /devstoreaccount1/devstoreaccount1/content\nrestype:container",
            "\n".repeat(12)
        );
        let signature = shared_key_signature(&signed);
        let authorization = format!("SharedKey devstoreaccount1:{signature}");
        let fields = [
            ("x-ms-date", date.as_str()),
            ("x-ms-version", "2021-08-06"),
            ("authorization", &authorization),
        ];
        let url =
            format!("{}://{}/devstoreaccount1/content?restype=container", self.scheme, self.at);
        let made = ask("PUT", &url, &fields);
        assert_eq!(made.status, 201, "{}", made.head);
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A signature by the key of Azurite's account.
fn shared_key_signature(signed: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, &STANDARD.decode(AZURITE_KEY).unwrap());
    STANDARD.encode(hmac::sign(&key, signed.as_bytes()))
}

fn scheme(tls: Option<&Shown>) -> &'static str {
    if tls.is_some() { "https" } else { "http" }
}

/// Where a tool of these tests is; `None` if it is not installed, and need not be.
fn tool(below: &str) -> Option<PathBuf> {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/tools");
    let program = tools.join(below);
    if program.exists() {
        return Some(program);
    }
    assert!(!tools_are_required(), "{} is not installed", program.display());
    println!("skipped: {} is not installed; the README says how", program.display());
    None
}

/// Starts a server, which says in a line behind `mark` where it listens.
fn started(mut command: Command, mark: &str) -> (Child, SocketAddr) {
    let (mut said, writer) = std::io::pipe().map(|(it, to)| (BufReader::new(it), to)).unwrap();
    command.stdout(writer.try_clone().unwrap()).stderr(writer).stdin(Stdio::null());
    let child = command.spawn().unwrap();
    // What the command holds of the pipe would keep it open for ever.
    drop(command);
    let mut all = String::new();
    let at = loop {
        let mut line = String::new();
        assert!(said.read_line(&mut line).unwrap() > 0, "it has ended: {all}");
        if let Some((_, at)) = line.split_once(mark) {
            let (_, at) = at.trim().split_once("://").unwrap();
            break at.parse().unwrap();
        }
        all.push_str(&line);
    };
    // It must be read on, or the server waits; it ends with the server.
    std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
    (child, at)
}

/// A way to a store that carries so many octets to it, and nothing after that. Returns where it
/// begins, and who says that it has ended.
pub(crate) fn way_that_ends(store: SocketAddr, octets: u64) -> (SocketAddr, Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    let (ended, end) = channel();
    let left = Arc::new(AtomicU64::new(octets));
    std::thread::spawn(move || {
        for near in listener.incoming() {
            let (near, far) = (near.unwrap(), TcpStream::connect(store).unwrap());
            let back = (far.try_clone().unwrap(), near.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut &back.0, &mut &back.1));
            let (left, ended) = (Arc::clone(&left), ended.clone());
            std::thread::spawn(move || carry(&near, &far, &left, &ended));
        }
    });
    (at, end)
}

fn carry(near: &TcpStream, far: &TcpStream, left: &AtomicU64, ended: &Sender<()>) {
    let (mut near_octets, mut far_octets) = (near, far);
    let mut piece = vec![0; 16 << 10];
    loop {
        let count = near_octets.read(&mut piece).unwrap_or(0);
        let take = |left: u64| left.checked_sub(count as u64);
        if left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_err() {
            let _ = ended.send(());
            break;
        }
        if count == 0 || far_octets.write_all(&piece[..count]).is_err() {
            break;
        }
    }
    let _ = near.shutdown(Shutdown::Both);
    let _ = far.shutdown(Shutdown::Both);
}

/// What a store has answered.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// The value of a field.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        let fields = self.head.lines().filter_map(|line| line.split_once(": "));
        fields.into_iter().find(|it| it.0.eq_ignore_ascii_case(name)).map(|it| it.1)
    }
}

/// Asks somebody on this machine, by a client that is not ours.
pub(crate) fn ask(method: &str, url: &str, fields: &[(&str, &str)]) -> Answer {
    let (scheme, rest) = url.split_once("://").unwrap();
    let (host, path) = rest.split_once('/').unwrap();
    let mut more = String::new();
    for (name, value) in fields {
        more.extend([name, ": ", value, "\r\n"]);
    }
    let length = if method == "PUT" { "Content-Length: 0\r\n" } else { "" };
    let head = format!(
        "{method} /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{length}{more}\r\n"
    );
    let octets = if scheme == "https" { over_tls(host, &head) } else { in_the_clear(host, &head) };
    let end = octets.windows(4).position(|it| it == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(octets[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head, body: octets[end + 4..].to_vec() }
}

fn in_the_clear(host: &str, head: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(host).unwrap();
    stream.write_all(head.as_bytes()).unwrap();
    let mut octets = Vec::new();
    stream.read_to_end(&mut octets).unwrap();
    octets
}

/// By openssl, whoever it is that answers.
fn over_tls(host: &str, head: &str) -> Vec<u8> {
    let mut client = Command::new("openssl")
        .args(["s_client", "-quiet", "-connect", host])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // Kept open until the answer has come: its end would end the connection.
    let mut stdin = client.stdin.take().unwrap();
    stdin.write_all(head.as_bytes()).unwrap();
    let mut octets = Vec::new();
    client.stdout.take().unwrap().read_to_end(&mut octets).unwrap();
    drop(stdin);
    client.wait().unwrap();
    octets
}
