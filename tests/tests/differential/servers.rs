//! Debian's nginx, apache2 and lighttpd, each in front of a recording origin, with a configuration
//! in a temporary folder.
//!
//! Each hands on what it has understood, and logs it: so both are seen, what it took for one
//! request, and what it took for the body.

use std::fmt::Write as _;
use std::fs::{self, File, Permissions};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use relay_tests::roles::within;
use relay_tests::running::unused_address;
use tempfile::TempDir;

/// Which program it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Program {
    Nginx,
    Apache,
    Lighttpd,
}

/// A running server; killed when dropped.
pub(crate) struct Server {
    child: Child,
    program: Program,
    home: TempDir,
    pub(crate) address: SocketAddr,
}

/// A request as a server's log has it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Logged {
    /// The value of `X-Mark`; `-` if it has none.
    pub(crate) mark: String,
    pub(crate) line: String,
    pub(crate) length: String,
    pub(crate) coding: String,
    pub(crate) status: u16,
}

/// Where Debian has the modules of apache2.
const APACHE_MODULES: &str = "/usr/lib/apache2/modules";

impl Program {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Apache => "apache2",
            Self::Lighttpd => "lighttpd",
        }
    }

    /// The program's path, unless it is not installed. A machine that must have it fails.
    pub(crate) fn find(self) -> Option<PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        // Where the search path of an ordinary account does not lead.
        let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
        let found = folders.map(|folder| folder.join(self.name())).find(|path| path.is_file());
        let is_required = std::env::var_os("RELAY_REQUIRE_TOOLS").is_some_and(|value| value == "1");
        assert!(found.is_some() || !is_required, "{} is not installed", self.name());
        if found.is_none() {
            println!("skipped: {} is not installed", self.name());
        }
        found
    }

    /// Starts it at `path` in front of `behind`. Returns when it listens.
    pub(crate) async fn start(self, path: &Path, behind: SocketAddr) -> Server {
        let home = tempfile::tempdir().unwrap();
        // Started by root, apache2 becomes another account, which must get at what is in here.
        fs::set_permissions(home.path(), Permissions::from_mode(0o755)).unwrap();
        let address = unused_address();
        let folder = home.path().display().to_string();
        let configuration = match self {
            Self::Nginx => nginx(&folder, address, behind),
            Self::Apache => apache(&folder, address, behind),
            Self::Lighttpd => lighttpd(&folder, address, behind),
        };
        let file = home.path().join("server.conf");
        fs::write(&file, configuration).unwrap();
        let mut command = Command::new(path);
        match self {
            Self::Nginx => command.args(["-e", "stderr", "-p"]).arg(home.path()).arg("-c"),
            Self::Apache => command.args(["-D", "FOREGROUND", "-f"]),
            Self::Lighttpd => command.args(["-D", "-f"]),
        };
        let printed = File::create(home.path().join("printed")).unwrap();
        command.arg(file).stdin(Stdio::null());
        command.stdout(printed.try_clone().unwrap()).stderr(printed);
        let child = command.spawn().unwrap();
        let mut server = Server { child, program: self, home, address };
        within(async {
            while TcpStream::connect(address).is_err() {
                let ended = server.child.try_wait().unwrap();
                assert!(ended.is_none(), "{self:?} ended before it listened:\n{}", server.said());
                tokio::task::yield_now().await;
            }
        })
        .await;
        server
    }
}

impl Server {
    /// What it has printed and complained about, for a failure's message.
    pub(crate) fn said(&self) -> String {
        let read = |name: &str| fs::read_to_string(self.home.path().join(name)).unwrap_or_default();
        let text = read("printed") + &read("error.log");
        let mut last = String::new();
        for line in text.lines().rev().take(40) {
            let _ = writeln!(last, "{line}");
        }
        last
    }

    /// Has it end once it has nothing more to do, and returns all that it has logged.
    pub(crate) fn stop(mut self) -> Vec<Logged> {
        let gracefully = match self.program {
            Program::Nginx => "-QUIT",
            Program::Apache => "-WINCH",
            Program::Lighttpd => "-INT",
        };
        let pid = self.child.id().to_string();
        let told = Command::new("kill").args([gracefully, &pid]).status().unwrap();
        assert!(told.success());
        self.child.wait().unwrap();
        let log = fs::read(self.home.path().join("access.log")).unwrap();
        let lines = log.split(|octet| *octet == b'\n').filter(|line| !line.is_empty());
        let read = |line| Logged::read(line).unwrap_or_else(|| panic!("{}", line.escape_ascii()));
        lines.map(read).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // To the first of its processes, which ends the others; SIGKILL would leave them.
            let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
            let _ = self.child.wait();
        }
    }
}

impl Logged {
    fn read(line: &[u8]) -> Option<Self> {
        let mut parts = line.split(|octet| *octet == b'\t').map(unescaped);
        // Of what is not there nginx says nothing, and the others `-`.
        let mut part = || parts.next().map(|it| if it.is_empty() { "-".to_owned() } else { it });
        let [mark, line, length, coding, status] = [part()?, part()?, part()?, part()?, part()?];
        Some(Self { mark, line, length, coding, status: status.parse().ok()? })
    }
}

/// What stands in a log, where each server has escapes of its own.
fn unescaped(text: &[u8]) -> String {
    let mut octets = Vec::new();
    let mut rest = text;
    while let [first, after @ ..] = rest {
        let hex = |digits: &[u8]| u8::from_str_radix(str::from_utf8(digits).ok()?, 16).ok();
        let (octet, after) = match rest {
            [b'\\', b'x', high, low, after @ ..]
            | [b'\\', b'u', b'0', b'0', high, low, after @ ..] => (hex(&[*high, *low]), after),
            [b'\\', b't', after @ ..] => (Some(b'\t'), after),
            [b'\\', escaped, after @ ..] => (Some(*escaped), after),
            _ => (Some(*first), after),
        };
        octets.extend(octet);
        rest = after;
    }
    String::from_utf8_lossy(&octets).into_owned()
}

/// `user` counts only for root.
fn nginx(home: &str, listen: SocketAddr, behind: SocketAddr) -> String {
    format!(
        "daemon off;
worker_processes 1;
user root;
pid {home}/server.pid;
error_log stderr notice;
events {{ worker_connections 512; }}
http {{
    log_format test escape=json '$http_x_mark\\t$request\\t$http_content_length\\t'
        '$http_transfer_encoding\\t$status';
    access_log {home}/access.log test;
    client_body_temp_path {home}/bodies;
    proxy_temp_path {home}/proxy;
    fastcgi_temp_path {home}/fastcgi;
    uwsgi_temp_path {home}/uwsgi;
    scgi_temp_path {home}/scgi;
    keepalive_requests 100000;
    keepalive_timeout 100s;
    server {{
        listen {listen};
        location / {{
            proxy_pass http://{behind};
            proxy_http_version 1.1;
        }}
    }}
}}
"
    )
}

fn apache(home: &str, listen: SocketAddr, behind: SocketAddr) -> String {
    let mut text = String::new();
    for name in ["mpm_event", "authz_core", "proxy", "proxy_http"] {
        let _ = writeln!(text, "LoadModule {name}_module {APACHE_MODULES}/mod_{name}.so");
    }
    text + &format!(
        "ServerRoot {home}
ServerName relay.test
Listen {listen}
User www-data
Group www-data
PidFile {home}/server.pid
DefaultRuntimeDir {home}
ErrorLog {home}/error.log
DocumentRoot {home}
LogFormat \"%{{X-Mark}}i\\t%r\\t%{{Content-Length}}i\\t%{{Transfer-Encoding}}i\\t%>s\" test
CustomLog {home}/access.log test
KeepAlive On
MaxKeepAliveRequests 0
KeepAliveTimeout 100
AllowEncodedSlashes NoDecode
Proxy100Continue Off
ProxyPass / http://{behind}/ nocanon
"
    )
}

fn lighttpd(home: &str, listen: SocketAddr, behind: SocketAddr) -> String {
    let ((ip, port), (to, at)) = ((listen.ip(), listen.port()), (behind.ip(), behind.port()));
    format!(
        "server.modules = (\"mod_accesslog\", \"mod_proxy\")
server.bind = \"{ip}\"
server.port = {port}
server.document-root = \"{home}\"
server.errorlog = \"{home}/error.log\"
server.max-keep-alive-requests = 100000
server.max-keep-alive-idle = 100
server.http-parseopts = (\"method-get-body\" => \"enable\")
accesslog.filename = \"{home}/access.log\"
accesslog.format = \"%{{X-Mark}}i\t%r\t%{{Content-Length}}i\t%{{Transfer-Encoding}}i\t%s\"
proxy.server = (\"\" => ((\"host\" => \"{to}\", \"port\" => {at})))
"
    )
}
