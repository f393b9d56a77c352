//! The commands that `--stay` prints, to paste into another terminal.

use std::fmt::Write as _;
use std::path::Path;

use super::session::Target;
use super::site;

/// One command for each thing worth trying, over the instances in turn. Pure.
pub(crate) fn commands(target: &Target, ca: &Path) -> String {
    let ca = quoted(&ca.display().to_string());
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
        writeln!(text, "# {what}\ncurl --cacert {ca} {arguments}")
            .expect("writing to a String cannot fail");
    }
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
