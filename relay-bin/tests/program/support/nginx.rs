//! Debian's nginx as the management point, over HTTP and HTTPS.

use std::collections::HashSet;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};

/// A running nginx; stopped when dropped.
pub(crate) struct Nginx {
    child: Child,
    home: PathBuf,
    /// Where it speaks HTTP.
    pub(crate) http: SocketAddr,
    /// Where it speaks HTTPS.
    pub(crate) https: SocketAddr,
}

impl Nginx {
    /// Starts nginx in the foreground with everything it writes below `home`.
    ///
    /// Its two listening sockets are made here and inherited, as in an upgrade of the program: so
    /// the ports are the system's choice, and nobody has to ask when they are open.
    pub(crate) fn start(home: &Path) -> Self {
        for folder in ["www/SMS_MP", "bodies", "temp"] {
            fs::create_dir_all(home.join(folder)).unwrap();
        }
        let [plain, secure] = [(), ()].map(|()| {
            let socket = TcpListener::bind("127.0.0.1:0").unwrap();
            socket.set_nonblocking(true).unwrap();
            socket
        });
        let (http, https) = (plain.local_addr().unwrap(), secure.local_addr().unwrap());
        write_certificates(home);
        fs::write(home.join("nginx.conf"), configuration(home, http, https)).unwrap();

        let child = Command::new("nginx")
            .arg("-p")
            .arg(home)
            .args(["-c", "nginx.conf", "-e", "stderr"])
            // The two sockets are file descriptors 0 and 1.
            .env("NGINX", "0;1;")
            .stdin(Stdio::from(OwnedFd::from(plain)))
            .stdout(Stdio::from(OwnedFd::from(secure)))
            .stderr(File::create(home.join("error.log")).unwrap())
            .spawn()
            .unwrap();
        Self { child, home: home.to_owned(), http, https }
    }

    /// The authority that signed its certificate, as PEM.
    pub(crate) fn ca(&self) -> PathBuf {
        self.home.join("ca.pem")
    }

    /// Publishes a file below `/SMS_MP/`.
    pub(crate) fn publish(&self, name: &str, content: &[u8]) {
        fs::write(self.home.join("www/SMS_MP").join(name), content).unwrap();
    }

    /// Every request body that was saved, in any order.
    pub(crate) fn bodies(&self) -> Vec<Vec<u8>> {
        let entries = fs::read_dir(self.home.join("bodies")).unwrap();
        entries.map(|entry| fs::read(entry.unwrap().path()).unwrap()).collect()
    }

    /// How many requests it has logged, and over how many connections they came.
    pub(crate) fn requests_and_connections(&self) -> (usize, usize) {
        let log = self.access_log();
        let connection = |line: &str| line.split(' ').next().unwrap_or_default().to_owned();
        (log.lines().count(), log.lines().map(connection).collect::<HashSet<_>>().len())
    }

    /// Its access log: connection, port, verb, path and status of each request.
    pub(crate) fn access_log(&self) -> String {
        fs::read_to_string(self.home.join("access.log")).unwrap()
    }

    /// Its error log, for a failure's message.
    pub(crate) fn error_log(&self) -> String {
        fs::read_to_string(self.home.join("error.log")).unwrap_or_default()
    }

    /// Ends it at once; its ports refuse from then on.
    pub(crate) fn stop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // To its master, which ends the worker too; SIGKILL would leave that behind.
            super::signal::send(&self.child, "TERM");
            let _ = self.child.wait();
        }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.stop();
    }
}

fn write_certificates(home: &Path) {
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
    let mut server = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate().unwrap();
    let server = server.signed_by(&key, &ca).unwrap();
    fs::write(home.join("ca.pem"), ca.pem()).unwrap();
    fs::write(home.join("server.pem"), server.pem()).unwrap();
    fs::write(home.join("server-key.pem"), key.serialize_pem()).unwrap();
}

/// One worker, no daemon, every path below `home`. Bodies of requests to `/ccm_system/` are saved
/// to files and handed to a second server, which answers with the verb that it was asked by.
///
/// `user` counts only when the test runs as root: the worker must reach the folder of its owner.
fn configuration(home: &Path, http: SocketAddr, https: SocketAddr) -> String {
    let home = home.display();
    format!(
        r#"daemon off;
worker_processes 1;
user root;
pid {home}/nginx.pid;
error_log stderr notice;
events {{ worker_connections 512; }}
http {{
    log_format test '$connection $server_port $request_method $request_uri $status';
    access_log {home}/access.log test;
    client_body_temp_path {home}/bodies;
    proxy_temp_path {home}/temp/proxy;
    fastcgi_temp_path {home}/temp/fastcgi;
    uwsgi_temp_path {home}/temp/uwsgi;
    scgi_temp_path {home}/temp/scgi;
    client_max_body_size 64m;
    keepalive_requests 100000;
    server {{
        listen {http};
        listen {https} ssl;
        ssl_certificate {home}/server.pem;
        ssl_certificate_key {home}/server-key.pem;
        root {home}/www;
        location /ccm_system/ {{
            client_body_in_file_only on;
            proxy_pass http://unix:{home}/taker.sock:;
        }}
        location = /SMS_MP/moved {{ return 302 /SMS_MP/elsewhere; }}
    }}
    server {{
        listen unix:{home}/taker.sock;
        access_log off;
        location / {{ return 200 "$request_method taken\n"; }}
    }}
}}
"#
    )
}
