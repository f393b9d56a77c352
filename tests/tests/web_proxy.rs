//! A tunnel through a web proxy: through ones that a test scripts, and through real ones.

#![allow(clippy::unwrap_used, reason = "a failed step of a test's set-up is a failed test")]

#[cfg(target_os = "linux")]
#[path = "web_proxy/programs.rs"]
mod programs;
#[cfg(target_os = "linux")]
#[path = "web_proxy/real.rs"]
mod real;

use std::net::SocketAddr;
use std::time::Duration;

use relay_core::transport::{
    Bypass, ProxyCredentials, ProxyError, WebProxy, connect_through, dial_through,
};
use relay_tests::roles::within;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};

/// A limit that no test reaches unless it is broken.
const LONG: Duration = Duration::from_mins(1);

const HOST: &str = "gateway.test";

fn credentials() -> ProxyCredentials {
    ProxyCredentials::new("Aladdin", "open sesame").unwrap()
}

fn proxy_at(address: SocketAddr, credentials: Option<ProxyCredentials>) -> WebProxy {
    let host = address.ip().to_string();
    WebProxy { host, port: address.port(), credentials, bypass: Bypass::default() }
}

/// Reads one request head, and nothing behind it.
async fn read_head(pipe: &mut DuplexStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(pipe.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// Asks a proxy that answers with `pieces`, each its own read, and closes then. Yields the verdict,
/// and the request.
async fn ask(
    pieces: &[&[u8]],
    credentials: Option<ProxyCredentials>,
) -> (Result<DuplexStream, ProxyError>, String) {
    // Room for a single piece: the next is written when the last was read.
    let longest = pieces.iter().map(|piece| piece.len()).max().unwrap_or(0);
    let (near, mut far) = duplex(longest.max(256));
    let proxy = proxy_at(([127, 0, 0, 1], 1).into(), credentials);
    let script = async {
        let request = read_head(&mut far).await;
        for piece in pieces {
            // A dialler that has seen enough reads no more.
            let _ = far.write_all(piece).await;
            tokio::task::yield_now().await;
        }
        drop(far);
        request
    };
    tokio::join!(connect_through(near, &proxy, HOST, 443), script)
}

#[tokio::test]
async fn any_2xx_opens_the_tunnel() {
    for head in [
        "HTTP/1.1 200 Connection established\r\n\r\n",
        "HTTP/1.0 200 OK\r\nProxy-agent: p\r\n\r\n",
        // A length means nothing in such an answer. RFC 9110, section 9.3.6.
        "HTTP/1.1 204\r\nContent-Length: 5\r\n\r\n",
        "HTTP/1.1 100 Go on\r\n\r\nHTTP/1.1 299 Fine\r\n\r\n",
    ] {
        let (verdict, request) = ask(&[head.as_bytes()], None).await;
        assert!(verdict.is_ok(), "{head:?}: {verdict:?}");
        assert_eq!(request, "CONNECT gateway.test:443 HTTP/1.1\r\nHost: gateway.test:443\r\n\r\n");
    }
}

#[tokio::test]
async fn octets_pass_both_ways_and_none_is_lost() {
    let (near, mut far) = duplex(64);
    let proxy = proxy_at(([127, 0, 0, 1], 1).into(), None);
    let script = async move {
        read_head(&mut far).await;
        far.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        let mut asked = [0; 4];
        far.read_exact(&mut asked).await.unwrap();
        far.write_all(&asked).await.unwrap();
    };
    let dial = async {
        let mut pipe = connect_through(near, &proxy, HOST, 443).await.unwrap();
        pipe.write_all(b"ping").await.unwrap();
        let mut answered = Vec::new();
        pipe.read_to_end(&mut answered).await.unwrap();
        answered
    };
    let (answered, ()) = within(async { tokio::join!(dial, script) }).await;
    assert_eq!(answered, b"ping");
}

#[tokio::test]
async fn a_refusal_says_what_the_proxy_said() {
    for (status, reason) in [(403, "Forbidden by policy"), (502, "Bad Gateway"), (302, "")] {
        for credentials in [None, Some(credentials())] {
            let head = format!("HTTP/1.1 {status} {reason}\r\nContent-Length: 4\r\n\r\n<p/>");
            let (verdict, _) = ask(&[head.as_bytes()], credentials).await;
            let Err(ProxyError::Refused { status: said, reason: why }) = verdict else {
                panic!("{verdict:?}")
            };
            assert_eq!((said, why.as_str()), (status, reason));
        }
    }
}

#[tokio::test]
async fn a_407_tells_missing_credentials_from_wrong_ones() {
    let head = b"HTTP/1.1 407 No\r\nProxy-Authenticate: Negotiate, Basic realm=\"r\"\r\n\r\n<p/>";
    let (verdict, request) = ask(&[head], None).await;
    let Err(ProxyError::CredentialsRequired { schemes }) = verdict else { panic!("{verdict:?}") };
    assert_eq!(schemes, ["Negotiate", "Basic"]);
    assert!(!request.contains("Authorization"), "{request}");

    let (verdict, request) = ask(&[head], Some(credentials())).await;
    let Err(ProxyError::CredentialsRejected { schemes }) = verdict else { panic!("{verdict:?}") };
    assert_eq!(schemes, ["Negotiate", "Basic"]);
    let shown = "\r\nProxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n";
    assert!(request.contains(shown), "{request}");
}

#[tokio::test]
async fn an_error_shows_no_credentials() {
    for head in ["HTTP/1.1 407 No\r\n\r\n", "HTTP/1.1 403 No\r\n\r\n", "junk", ""] {
        let error = ask(&[head.as_bytes()], Some(credentials())).await.0.unwrap_err();
        let text = format!("{error} {error:?}");
        for secret in ["Aladdin", "sesame", "QWxh"] {
            assert!(!text.contains(secret), "{text}");
        }
    }
}

#[tokio::test]
async fn garbage_is_called_so_as_soon_as_it_is_seen() {
    let endless = "HTTP/1.1 200 OK\r\nA: ".to_owned() + &"x".repeat(20_000);
    for text in ["SSH-2.0-x", "\u{15}\u{3}\u{3}", "HTTP/1.1 2000\r\n", &endless] {
        let (verdict, _) = ask(&[text.as_bytes()], None).await;
        assert!(matches!(verdict, Err(ProxyError::Garbage { .. })), "{verdict:?}");
    }
}

#[tokio::test]
async fn a_proxy_that_closes_early_is_called_so() {
    for text in ["", "HTTP/1.1 200 Connection established\r\n", "HTTP/1.1 100 Go on\r\n\r\n"] {
        let (verdict, _) = ask(&[text.as_bytes()], None).await;
        assert!(matches!(verdict, Err(ProxyError::Closed)), "{verdict:?}");
    }
}

#[tokio::test]
async fn a_proxy_that_speaks_in_the_tunnel_first_is_refused() {
    let whole: &[u8] = b"HTTP/1.1 200 OK\r\n\r\nSSH-2.0-x\r\n";
    for pieces in [&[whole][..], &[&whole[..10], &whole[10..]]] {
        let (verdict, _) = ask(pieces, None).await;
        assert!(matches!(verdict, Err(ProxyError::SpokeFirst)), "{verdict:?}");
    }
}

#[tokio::test]
async fn a_proxy_that_hangs_is_given_up_at_the_limit() {
    for said in ["", "HTTP/1.1 200 OK\r\n"] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = proxy_at(listener.local_addr().unwrap(), None);
        let hang = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(said.as_bytes()).await.unwrap();
            // Held until the dialler is gone.
            let mut request = Vec::new();
            let _ = stream.read_to_end(&mut request).await;
        };
        let limit = Duration::from_millis(200);
        let (verdict, ()) =
            within(async { tokio::join!(dial_through(&proxy, HOST, 443, limit), hang) }).await;
        let Err(ProxyError::Timeout { limit: told }) = verdict else { panic!("{verdict:?}") };
        assert_eq!(told, limit);
    }
}

#[tokio::test]
async fn a_proxy_that_is_not_there_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let verdict = dial_through(&proxy_at(address, Some(credentials())), HOST, 443, LONG).await;
    let Err(error @ ProxyError::Unreachable { .. }) = verdict else { panic!("{verdict:?}") };
    assert!(error.to_string().contains(&format!("web proxy {address}: ")), "{error}");
}

#[tokio::test]
async fn a_host_that_is_none_is_refused_unasked() {
    let (near, mut far) = duplex(64);
    let proxy = proxy_at(([127, 0, 0, 1], 1).into(), None);
    let verdict = connect_through(near, &proxy, "a\r\nX: y", 443).await;
    assert!(matches!(verdict, Err(ProxyError::BadHost)), "{verdict:?}");
    let mut sent = Vec::new();
    far.read_to_end(&mut sent).await.unwrap();
    assert!(sent.is_empty(), "{sent:?}");
}
