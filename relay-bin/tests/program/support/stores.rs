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

use super::tools_are_required;

/// The key of Azurite's account, which it has in public.
// Source: Microsoft Learn, "Connect to Azurite with SDKs and tools".
const AZURITE_KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// A store that is empty, but for a container or bucket; ended when dropped.
pub(crate) struct Store {
    pub(crate) at: SocketAddr,
    /// What the store is in `[content]`, with the key in `store.key` beside it.
    pub(crate) table: String,
    pub(crate) key: &'static str,
    child: Child,
    _folder: TempDir,
}

impl Store {
    /// Starts Azurite, if it is installed.
    pub(crate) fn azurite() -> Option<Self> {
        let program = tool("azurite/node_modules/.bin/azurite-blob")?;
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(program);
        command.args(["--blobHost", "127.0.0.1", "--blobPort", "0", "--silent"]);
        command.arg("--skipApiVersionCheck").arg("--location").arg(folder.path());
        let (child, at) = started(command, "successfully listens on http://");
        let table = format!(
            "[content.azure]\naccount = \"devstoreaccount1\"\ncontainer = \"content\"\n\
             key_file = \"store.key\"\nprefix = \"site-1\"\n\
             endpoint = \"http://{at}/devstoreaccount1\"\n"
        );
        let store = Self { at, table, key: AZURITE_KEY, child, _folder: folder };
        store.make_container();
        Some(store)
    }

    /// Starts moto, if it is installed.
    pub(crate) fn moto() -> Option<Self> {
        let program = tool("moto/bin/moto_server")?;
        let mut command = Command::new(program);
        command.args(["-H", "127.0.0.1", "-p", "0"]).env("PYTHONUNBUFFERED", "1");
        let (child, at) = started(command, "Running on http://");
        let table = format!(
            "[content.s3]\nbucket = \"relay-files\"\nregion = \"us-east-1\"\n\
             access_key_id = \"id\"\nsecret_key_file = \"store.key\"\n\
             endpoint = \"http://{at}\"\n"
        );
        let folder = tempfile::tempdir().unwrap();
        let store = Self { at, table, key: "hiddenhiddenhidden", child, _folder: folder };
        let made = ask("PUT", &format!("http://{at}/relay-files"), &[]);
        assert_eq!(made.status, 200, "{}", made.head);
        Some(store)
    }

    /// Both, as far as they are installed.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        [Self::azurite, Self::moto].into_iter().filter_map(|start| start())
    }

    /// Ends it.
    pub(crate) fn end(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
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
        let key = hmac::Key::new(hmac::HMAC_SHA256, &STANDARD.decode(AZURITE_KEY).unwrap());
        let signature = STANDARD.encode(hmac::sign(&key, signed.as_bytes()));
        let authorization = format!("SharedKey devstoreaccount1:{signature}");
        let fields = [
            ("x-ms-date", date.as_str()),
            ("x-ms-version", "2021-08-06"),
            ("authorization", &authorization),
        ];
        let url = format!("http://{}/devstoreaccount1/content?restype=container", self.at);
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
            break at.trim().parse().unwrap();
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
    let (host, path) = url.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    let mut more = String::new();
    for (name, value) in fields {
        more.extend([name, ": ", value, "\r\n"]);
    }
    let length = if method == "PUT" { "Content-Length: 0\r\n" } else { "" };
    let head = format!(
        "{method} /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{length}{more}\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut octets = Vec::new();
    stream.read_to_end(&mut octets).unwrap();
    let end = octets.windows(4).position(|it| it == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(octets[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head, body: octets[end + 4..].to_vec() }
}
