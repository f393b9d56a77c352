//! Debian's squid and tinyproxy, each with a configuration in a temporary folder.

use std::fs::{self, File, Permissions};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use relay_tests::roles::within;
use relay_tests::running::unused_address;
use tempfile::TempDir;

/// Who may use the proxies.
pub(crate) const USER: &str = "relay";
pub(crate) const PASSWORD: &str = "s3cretWord";

/// `PASSWORD` as squid's helper compares it.
///
/// Made by: `openssl passwd -apr1 -salt relaytst s3cretWord`.
const PASSWORD_HASH: &str = "$apr1$relaytst$QWI5pVdyD11zlO.0reD4r.";

/// Squid's helper that compares a password with a file of hashes.
const SQUID_HELPER: &str = "/usr/lib/squid/basic_ncsa_auth";

/// Which program plays the proxy.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Program {
    Squid,
    Tinyproxy,
}

/// What a proxy's configuration depends on.
struct Plan<'a> {
    home: &'a Path,
    listen: SocketAddr,
    allowed_port: u16,
}

/// A running proxy that asks for credentials; killed when dropped.
pub(crate) struct Proxy {
    child: Child,
    pub(crate) address: SocketAddr,
    home: TempDir,
}

impl Program {
    /// The program's path, `None` if it is not installed.
    pub(crate) fn find(self) -> Option<PathBuf> {
        let (name, needs) = match self {
            Self::Squid => ("squid", Some(SQUID_HELPER)),
            Self::Tinyproxy => ("tinyproxy", None),
        };
        // Debian keeps squid where the search path of an ordinary account does not lead.
        let path = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
        let found = folders.map(|folder| folder.join(name)).find(|path| path.is_file())?;
        needs.is_none_or(|needs| Path::new(needs).is_file()).then_some(found)
    }

    /// Starts it at `path`; tunnels to `allowed_port` pass, to others they do not. Returns when it
    /// listens.
    pub(crate) async fn start(self, path: &Path, allowed_port: u16) -> Proxy {
        let home = tempfile::tempdir().unwrap();
        // Started by root, squid becomes another account, which must get at what is in here.
        fs::set_permissions(home.path(), Permissions::from_mode(0o755)).unwrap();
        let plan = Plan { home: home.path(), listen: unused_address(), allowed_port };
        let configuration = home.path().join("proxy.conf");
        let mut command = Command::new(path);
        match self {
            Self::Squid => {
                let passwords = format!("{USER}:{PASSWORD_HASH}\n");
                fs::write(home.path().join("passwords"), passwords).unwrap();
                fs::write(&configuration, plan.squid()).unwrap();
                // In the foreground, and with a name that tells its shared memory from another's.
                let name = format!("relay{}", std::process::id());
                command.args(["-N", "-d1", "-n", &name, "-f"]);
            }
            Self::Tinyproxy => {
                fs::write(&configuration, plan.tinyproxy()).unwrap();
                command.args(["-d", "-c"]);
            }
        }
        let address = plan.listen;
        let log = File::create(home.path().join("log")).unwrap();
        command.arg(&configuration).stdin(Stdio::null());
        command.stdout(log.try_clone().unwrap()).stderr(log);
        let mut proxy = Proxy { child: command.spawn().unwrap(), address, home };
        // What they log of it comes too early: squid says that it accepts before it listens.
        within(async {
            while TcpStream::connect(address).is_err() {
                let ended = proxy.child.try_wait().unwrap();
                assert!(ended.is_none(), "{self:?} ended before it listened:\n{}", proxy.log());
                tokio::task::yield_now().await;
            }
        })
        .await;
        proxy
    }
}

impl Proxy {
    /// What it has printed, for a failure's message.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.home.path().join("log")).unwrap_or_default()
    }
}

impl Plan<'_> {
    /// One process, no cache, nothing outside its folder, one helper that compares passwords.
    fn squid(&self) -> String {
        let Self { home, listen, allowed_port } = self;
        let home = home.display();
        format!(
            "http_port {listen}
pid_filename {home}/squid.pid
coredump_dir {home}
cache_log {home}/cache.log
access_log none
cache deny all
cache_mem 8 MB
netdb_filename none
pinger_enable off
shutdown_lifetime 0 seconds
auth_param basic program {SQUID_HELPER} {home}/passwords
auth_param basic children 1 startup=0 idle=1
auth_param basic realm a test
acl known proxy_auth REQUIRED
acl allowed port {allowed_port}
http_access deny !known
http_access deny !allowed
http_access allow all
"
        )
    }

    fn tinyproxy(&self) -> String {
        let Self { listen, allowed_port, .. } = self;
        format!(
            "Port {port}
Listen {ip}
Timeout 600
LogLevel Info
BasicAuth {USER} {PASSWORD}
ConnectPort {allowed_port}
",
            port = listen.port(),
            ip = listen.ip()
        )
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Squid's helper ends by itself when squid is gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
