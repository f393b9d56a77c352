//! The commands that `--stay` prints, to paste into another terminal.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use pem::Pem;
use relay_core::transport::Identity;
use tempfile::TempDir;

use super::session::Target;
use super::site;

/// What curl is told by files: whom to trust, and who asks. Gone when it is dropped.
pub(crate) struct Files {
    folder: TempDir,
}

impl Files {
    /// Writes the authority's certificate, and a client's certificate, key and token. The folder is
    /// for its owner's eyes alone.
    ///
    /// # Errors
    ///
    /// The folder for temporary files cannot be written to.
    pub(crate) fn write(ca: &str, client: &Identity, token: &str) -> std::io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("relay-demo-curl-").tempdir()?;
        let files = Self { folder };
        fs::write(files.path("ca.pem"), ca)?;
        let chain = client.chain().iter().map(|der| Pem::new("CERTIFICATE", der.to_vec()));
        let pem: String = chain.map(|it| it.to_string()).collect();
        fs::write(files.path("client.pem"), pem)?;
        let key = Pem::new("PRIVATE KEY", client.key().secret_der());
        fs::write(files.path("client-key.pem"), key.to_string())?;
        fs::write(files.path("authorization"), format!("Authorization: Bearer {token}\n"))?;
        Ok(files)
    }

    /// Removes them.
    ///
    /// # Errors
    ///
    /// Something of it cannot be removed.
    pub(crate) fn close(self) -> std::io::Result<()> {
        self.folder.close()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// One command for each thing worth trying, over the instances in turn, and one without
/// credentials.
pub(crate) fn commands(target: &Target, files: &Files) -> String {
    let file = |name| quoted(&files.path(name).display().to_string());
    let ca = file("ca.pem");
    let shown = format!(
        "--cert {} --key {} -H {}",
        file("client.pem"),
        file("client-key.pem"),
        quoted(&format!("@{}", files.path("authorization").display()))
    );
    let role = target.mp_role;
    let mut instances = target.instances.iter().cycle();
    let mut mp = |path: &str| {
        let port = instances.next().map_or(443, std::net::SocketAddr::port);
        quoted(&format!("https://{}:{port}/CCM_Proxy_MutualAuth/{role}{path}", target.host))
    };
    let list = format!("{}?MPLIST", site::LOCATION);
    let large = site::LARGE_FILE;
    let upload = format!("{}from-curl.bin", site::INCOMING);
    let tries = [
        ("the management point's list", format!("-i {}", mp(&list))),
        ("the same over HTTP/1.1", format!("-i --http1.1 {}", mp(&list))),
        ("size without body", format!("-I {}", mp(large))),
        ("properties: 207", format!("-i -X PROPFIND -H 'Depth: 1' {}", mp(large))),
        ("a range: 206", format!("-i -r 0-15 {} -o -", mp(large))),
        ("64 MiB and their hash", format!("-s {} | sha256sum", mp(large))),
        (
            "an upload server's ping",
            format!("-i -X BITS_POST -H 'BITS-Packet-Type: Ping' {}", mp(&upload)),
        ),
        ("refused, wrong verb: 405", format!("-i -X DELETE {}", mp(&list))),
        ("refused, not published: 404", format!("-i {}", mp("/AdminService/v1.0/Device"))),
        ("refused, unsafe path", format!("-i --path-as-is {}", mp("/SMS_MP/../AdminService"))),
    ];
    let mut text = String::new();
    for (what, arguments) in tries {
        writeln!(text, "# {what}\ncurl --cacert {ca} {shown} {arguments}")
            .expect("writing to a String cannot fail");
    }
    writeln!(text, "# refused, nobody said who asks: 401\ncurl --cacert {ca} -i {}", mp(&list))
        .expect("writing to a String cannot fail");
    text
}

/// `text` as one word of a POSIX shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quote_within_a_word_cannot_end_it() {
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's"), "'it'\\''s'");
    }
}
