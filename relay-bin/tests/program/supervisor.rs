//! Roles below a supervisor such as systemd: what they tell it, and the sockets that it passes.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use crate::support::role::Role;
use crate::support::site::Site;

/// No datagram takes this long; only a hang does.
const HANG: Duration = Duration::from_secs(90);

const RELAY: &str = env!("CARGO_BIN_EXE_relay");

/// A supervisor that is told of one role.
struct Supervisor {
    socket: UnixDatagram,
    /// What it was told, line by line, and has not been asked for.
    lines: Vec<String>,
}

impl Supervisor {
    fn listen(at: &Path) -> Self {
        let socket = UnixDatagram::bind(at).unwrap();
        socket.set_read_timeout(Some(HANG)).unwrap();
        Self { socket, lines: Vec::new() }
    }

    /// Takes lines up to the next that begins with `start`, and returns it. None before it may
    /// begin with `not`.
    fn wait_for(&mut self, start: &str, not: &str) -> String {
        loop {
            while !self.lines.is_empty() {
                let line = self.lines.remove(0);
                if line.starts_with(start) {
                    return line;
                }
                assert!(not.is_empty() || !line.starts_with(not), "{line} before {start}");
            }
            let mut room = [0; 4096];
            let length = self.socket.recv(&mut room).unwrap_or_else(|why| {
                panic!("nothing begins with {start}: {why}");
            });
            let text = std::str::from_utf8(&room[..length]).unwrap();
            self.lines.extend(text.lines().map(str::to_owned));
        }
    }
}

/// `relay` below a supervisor that listens at `notify`.
fn below(notify: &Path) -> Command {
    let mut relay = Command::new(RELAY);
    // Half of this is a second.
    relay.env("NOTIFY_SOCKET", notify).env("WATCHDOG_USEC", "2000000");
    relay
}

#[test]
fn a_supervisor_is_told_when_a_role_is_ready_alive_reads_again_and_stops() {
    let home = tempfile::tempdir().unwrap();
    let site = Site::init_with(home.path(), &["--backend", "http://127.0.0.1:9"]);
    let paths = ["gateway", "point"].map(|name| home.path().join(name));
    let [mut of_gateway, mut of_point] = [0, 1].map(|at| Supervisor::listen(&paths[at]));
    let home = home.path().join("site");
    let args = ["gateway", "--config", "gateway-1/gateway.toml"];
    let mut gateway = Role::start_with(below(&paths[0]), &home, &args);
    of_gateway.wait_for("READY=1", "STOPPING");
    let told = of_gateway.wait_for("STATUS=", "");
    assert!(told.starts_with("STATUS=0 links up; no link is up: look at"), "{told}");

    let [_, links] = gateway.addresses();
    site.dial(&[links]);
    let args = ["connection-point", "--config", "connection-point/connection-point.toml"];
    let mut point = Role::start_with(below(&paths[1]), &home, &args);
    of_point.wait_for("READY=1", "STOPPING");
    of_gateway.wait_for("STATUS=2 links up", "");
    of_point.wait_for("STATUS=2 links up", "");
    for told in [&mut of_gateway, &mut of_point] {
        told.wait_for("WATCHDOG=1", "");
        told.wait_for("WATCHDOG=1", "");
    }

    for (role, told) in [(&gateway, &mut of_gateway), (&point, &mut of_point)] {
        for _ in 0..2 {
            role.signal("HUP");
            told.wait_for("RELOADING=1", "READY");
            let at = told.wait_for("MONOTONIC_USEC=", "READY");
            assert!(at.split_once('=').unwrap().1.parse::<u64>().unwrap() > 0);
            told.wait_for("READY=1", "RELOADING");
        }
    }
    let applied = "endpoints and gateways applied";
    point.wait_for_log(applied, 2);

    for (role, mut told) in [(point, of_point), (gateway, of_gateway)] {
        assert_eq!(role.stop().0, Some(0));
        told.wait_for("STOPPING=1", "READY");
    }
}

/// Opens a socket for each name, as `name=tcp` or `name=udp`, writes their ports to a file and
/// becomes the program.
const LAUNCHER: &str = "
import fcntl, os, socket, sys
specs, ports, program = sys.argv[1].split(), sys.argv[2], sys.argv[3:]
opened = []
for spec in specs:
    kind = socket.SOCK_STREAM if spec.endswith('=tcp') else socket.SOCK_DGRAM
    opened.append(socket.socket(socket.AF_INET, kind))
    opened[-1].bind(('127.0.0.1', 0))
    if kind == socket.SOCK_STREAM:
        opened[-1].listen()
names = [spec.split('=')[0] for spec in specs]
with open(ports, 'w') as out:
    for name, it in zip(names, opened):
        print(name, it.getsockname()[1], file=out)
high = [fcntl.fcntl(it.fileno(), fcntl.F_DUPFD, 100) for it in opened]
for number, descriptor in enumerate(high, 3):
    os.dup2(descriptor, number, inheritable=True)
    os.close(descriptor)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(high)))
os.environ['LISTEN_FDNAMES'] = ':'.join(names)
os.execv(program[0], program)
";

/// `relay` with a socket for each of `specs`.
fn with_sockets(home: &Path, specs: &str) -> Command {
    let mut launcher = Command::new("python3");
    let ports = home.join("ports");
    launcher.args(["-c", LAUNCHER, specs]).arg(ports).arg(RELAY);
    launcher
}

#[test]
fn a_role_serves_on_the_sockets_that_were_passed_to_it_by_name() {
    let home = tempfile::tempdir().unwrap();
    let site = Site::init_with(home.path(), &["--backend", "http://127.0.0.1:9"]);
    site.enable_quic();
    let home = home.path().join("site");
    let specs = "quic-links=udp admin=tcp links=tcp clients=tcp";
    let args = ["gateway", "--config", "gateway-1/gateway.toml"];
    let mut gateway = Role::start_with(with_sockets(&home, specs), &home, &args);
    let text = fs::read_to_string(home.join("ports")).unwrap();
    let passed: BTreeMap<_, SocketAddr> = text
        .lines()
        .map(|line| line.split_once(' ').unwrap())
        .map(|(name, port)| (name, ([127, 0, 0, 1], port.parse().unwrap()).into()))
        .collect();
    let [clients, links] = gateway.addresses();
    assert_eq!((clients, links), (passed["clients"], passed["links"]));
    assert_eq!(gateway.quic(), passed["quic-links"]);

    site.dial(&[links]);
    let specs = "admin=tcp";
    let args = ["connection-point", "--config", "connection-point/connection-point.toml"];
    let mut point = Role::start_with(with_sockets(&home, specs), &home, &args);
    gateway.wait_for_log("\"message\":\"link up\"", 2);
    let at = passed["admin"];
    assert_eq!(crate::admin::json(&["status"], at)["links"].as_array().unwrap().len(), 2);
    let text = fs::read_to_string(home.join("ports")).unwrap();
    assert!(text.trim().ends_with(&point.admin().port().to_string()), "{text}");
    assert_eq!(point.stop().0, Some(0));
    assert_eq!(gateway.stop().0, Some(0));
}

/// Starts an instance with sockets that it cannot use, and returns why.
fn refused(home: &Path, specs: &str) -> String {
    let mut launcher = with_sockets(home, specs);
    launcher.args(["gateway", "--config", "gateway-1/gateway.toml"]).current_dir(home);
    let Output { status, stderr, .. } = launcher.output().unwrap();
    let text = String::from_utf8(stderr).unwrap();
    assert_eq!(status.code(), Some(78), "{text}");
    text
}

#[test]
fn a_socket_that_does_not_fit_the_configuration_is_refused_and_told_why() {
    let home = tempfile::tempdir().unwrap();
    let site = Site::init_with(home.path(), &["--backend", "http://127.0.0.1:9"]);
    let home = home.path().join("site");
    let said = "socket 2 that was passed is named `relay.socket`; this role knows `clients`, \
                `links`, `https-links`, `quic-links`, `admin`";
    assert!(refused(&home, "clients=tcp relay.socket=tcp").contains(said));
    assert!(refused(&home, "links=tcp links=tcp").contains("two sockets"));
    let said = "what was passed as `clients` is no listening TCP socket";
    assert!(refused(&home, "clients=udp").contains(said));
    let said = "a socket was passed as `quic-links`, and the configuration has no `quic` or";
    assert!(refused(&home, "clients=tcp quic-links=udp").contains(said));
    site.edit("gateway-1/gateway.toml", |text| text.replace("127.0.0.1:0", "127.0.0.2:0"));
    let told = refused(&home, "clients=tcp");
    assert!(told.contains("the socket passed as `clients` is of 127.0.0.1:"), "{told}");
    assert!(told.contains("`listen` of [clients] says 127.0.0.2:0"), "{told}");
}
