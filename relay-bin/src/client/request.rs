//! `relay client request`.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, ensure};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use relay_core::policy::OwnAnswer;
use tempfile::NamedTempFile;
use tokio::fs::File;

use crate::exit::Failure;

use super::args::{Reach, Way};
use super::body::{self, FileBody, RequestBody, Taken};
use super::connection::Connection;
use super::credentials::{Credentials, Shown};
use super::fault::Fault;
use super::report::{Asked, Hop, Report, visible};
use super::target::Target;
use super::{show, until_interrupted};

/// Shown below the help of `relay client request`.
pub(super) const EXAMPLES: &str = "\
Examples:
  Whom a site role takes a client with a certificate for; over HTTP/1.1, at one instance:
    relay client request GET \\
        'https://relay.example/CCM_Proxy_MutualAuth/72057594037927937/SMS_MP/.sms_aut?MPLIST' \\
        --ca site-ca.pem --certificate me.pem --key me-key.pem --http1 \\
        --resolve relay.example:192.0.2.7
  Send a message with a signed head, by the token in a file, and keep the answer:
    relay client request CCM_POST \\
        https://relay.example/CCM_Proxy_ServerAuth/72057594037927937/ccm_system_tokenauth/request \\
        --ca site-ca.pem --token-file me.token --certificate me.pem --key me-key.pem --sign \\
        --header 'Content-Type: multipart/mixed' --data-file message.bin --output answer.bin
  The body on standard output, and the report on standard error:
    relay client request GET https://relay.example/CCM_Proxy_MutualAuth/ServiceMetadata \\
        --ca site-ca.pem --output -";

/// Octets of a refusal's text that are read, to show its beginning.
pub(super) const SAID_BYTES: usize = 4 * 1024;

/// Fields that others give: credentials would stand in lists of processes, and the rest would
/// contradict the request as it is sent.
const NOT_BY_HAND: [&str; 14] = [
    "authorization",
    "proxy-authorization",
    "cookie",
    "ccmclientidsignature",
    "ccmclienttimestampsignature",
    "ccmclienttimestampssignature",
    "clienttoken",
    "clienttokensignature",
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "upgrade",
    "te",
];

/// Arguments of `relay client request`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The verb, as GET, `PROPFIND`, `CCM_POST`. Letters count as they are.
    #[arg(value_name = "METHOD")]
    method: Method,
    /// The URL, as `https://SERVICE/CCM_Proxy_MutualAuth/ROLE_ID/PATH`.
    #[arg(value_name = "URL")]
    url: String,
    #[command(flatten)]
    way: Way,
    #[command(flatten)]
    credentials: Credentials,
    /// A header to send, `Name: value`. May be given more than once. Credentials go by files.
    #[arg(long = "header", short = 'H', value_name = "HEADER")]
    headers: Vec<String>,
    /// File whose content is the body.
    #[arg(long, value_name = "FILE")]
    data_file: Option<PathBuf>,
    /// File to keep the body of the answer in, once it is whole; `-` is standard output. Without
    /// it the body is read and dropped. What a refusal says is in the report.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Not by the parser of the command line, which repeats what it refuses.
fn header(text: &str) -> Result<(HeaderName, HeaderValue), String> {
    const FORM: &str = "write `Name: value`";
    let (name, value) = text.split_once(':').ok_or(FORM)?;
    let name: HeaderName = name.parse().map_err(|_| FORM)?;
    if NOT_BY_HAND.contains(&name.as_str()) {
        return Err(format!(
            "`{name}` cannot be given by hand: credentials come from files (--token-file, \
             --certificate, --sign), and the rest is the connection's own"
        ));
    }
    let value = value.trim().parse().map_err(|_| "the value has a character that none may have")?;
    Ok((name, value))
}

/// `relay client request`.
pub(super) fn run(args: &Args) -> Result<(), Failure> {
    let target = Target::of_argument(&args.url).map_err(Failure::Usage)?;
    let mut headers = HeaderMap::new();
    for text in &args.headers {
        let (name, value) = header(text)
            .map_err(|why| Failure::Usage(anyhow!("a --header cannot be used: {why}")))?;
        headers.append(name, value);
    }
    let shown = args.credentials.read().map_err(Failure::Usage)?;
    let reach = args.way.reach(&target, shown.identity.as_ref()).map_err(Failure::Usage)?;
    let is_twice = shown.signer.is_some()
        && ["ccmclientid", "ccmclienttimestamp"].iter().any(|name| headers.contains_key(*name));
    if is_twice {
        let error = anyhow!("--sign writes CCMClientID and CCMClientTimestamp; leave --header out");
        return Err(Failure::Usage(error));
    }
    let output = Output::new(args.output.as_deref()).map_err(Failure::Usage)?;
    let shown_on = match &output {
        Output::Standard => super::Shown::Err,
        Output::Dropped | Output::File { .. } => super::Shown::Out,
    };
    let report = until_interrupted(exchange(args, &target, headers, &shown, &reach, output))?;
    show(&report, args.way.json, shown_on)
}

async fn exchange(
    args: &Args,
    target: &Target,
    mut headers: HeaderMap,
    shown: &Shown,
    reach: &Reach,
    output: Output,
) -> Result<Report, Failure> {
    shown.put_into(&mut headers).map_err(Failure::Usage)?;
    let taken = Taken::default();
    let body = match &args.data_file {
        None => body::empty(),
        Some(file) => from_file(file, &taken).await.map_err(Failure::Usage)?,
    };
    let mut request = Request::new(body);
    *request.method_mut() = args.method.clone();
    *request.headers_mut() = headers;
    let asked = match OwnAnswer::of(&args.method, &target.path) {
        Ok(None) => Asked::Site,
        Ok(Some(_)) | Err(_) => Asked::Gateway,
    };
    let mut so_far = None;
    let done = ask((reach, target, shown), (request, &taken), asked, output, &mut so_far).await;
    Ok(done.unwrap_or_else(|fault| Report::of_fault(&fault, so_far)))
}

async fn ask(
    (reach, target, shown): (&Reach, &Target, &Shown),
    (request, taken): (Request<RequestBody>, &Taken),
    asked: Asked,
    output: Output,
    so_far: &mut Option<Report>,
) -> Result<Report, Fault> {
    let mut connection = Connection::open(reach, target).await?;
    let over = connection.described();
    let answer = connection.send(target, request, taken).await?;
    let report = Report::of(&answer, asked, over);
    *so_far = Some(report.clone());
    let location = answer.headers().get(http::header::LOCATION);
    let location = location.and_then(|it| it.to_str().ok()).map(visible);
    let mut body = answer.into_body();
    let report = if report.is_answered() {
        let kept = output.keep(&connection, &mut body).await?;
        report.fact("body_bytes", kept)
    } else {
        with_what_was_said(report, shown, &connection, &mut body).await
    };
    // Nobody is followed: who is asked is the caller's to say.
    Ok(match location {
        Some(location) => report.fact("location", location),
        None => report,
    })
}

/// Adds the beginning of what a refusal says, where it is not a relay's own: that says the reason
/// again.
pub(super) async fn with_what_was_said(
    report: Report,
    shown: &Shown,
    connection: &Connection,
    body: &mut Incoming,
) -> Report {
    if matches!(report.hop, Hop::Gateway | Hop::ConnectionPoint) {
        return report;
    }
    // A refusal whose text breaks off is one all the same.
    let said = connection.rest(body, SAID_BYTES).await.unwrap_or_default();
    match visible(&shown.without_secrets(&said)) {
        said if said.is_empty() => report,
        said => report.fact("said", said),
    }
}

async fn from_file(file: &Path, taken: &Taken) -> anyhow::Result<RequestBody> {
    let opened = async {
        let opened = File::open(file).await?;
        let metadata = opened.metadata().await?;
        std::io::Result::Ok((opened, metadata))
    };
    let shown = file.display();
    let (opened, metadata) = opened.await.with_context(|| format!("cannot read {shown}"))?;
    ensure!(metadata.is_file(), "{shown} is no file");
    Ok(FileBody::new(opened, metadata.len(), Taken::clone(taken)).boxed())
}

/// What becomes of an answer's body.
enum Output {
    Dropped,
    Standard,
    /// Put in its place once it is whole.
    File {
        staged: NamedTempFile,
        place: PathBuf,
    },
}

impl Output {
    fn new(place: Option<&Path>) -> anyhow::Result<Self> {
        match place {
            None => Ok(Self::Dropped),
            Some(place) if place == Path::new("-") => Ok(Self::Standard),
            Some(place) => {
                ensure!(!place.is_dir(), "{} is a folder", place.display());
                let folder = place.parent().filter(|it| !it.as_os_str().is_empty());
                let staged = NamedTempFile::with_prefix_in(
                    ".relay-client-",
                    folder.unwrap_or(Path::new(".")),
                );
                let staged = staged.with_context(|| format!("cannot write {}", place.display()))?;
                Ok(Self::File { staged, place: place.to_owned() })
            }
        }
    }

    /// Takes a body to its end; returns how many octets it had.
    async fn keep(mut self, connection: &Connection, body: &mut Incoming) -> Result<u64, Fault> {
        let failed = |source| Fault::File { what: "cannot write the answer's body", source };
        let mut kept = 0;
        while let Some(octets) = connection.more(body).await? {
            kept += octets.len() as u64;
            match &mut self {
                Self::Dropped => Ok(()),
                Self::Standard => std::io::stdout().lock().write_all(&octets),
                Self::File { staged, .. } => staged.write_all(&octets),
            }
            .map_err(failed)?;
        }
        match self {
            Self::Dropped => {}
            Self::Standard => std::io::stdout().lock().flush().map_err(failed)?,
            Self::File { staged, place } => {
                staged.persist(place).map_err(|error| failed(error.error))?;
            }
        }
        Ok(kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_cannot_be_given_by_hand() {
        for wrong in [
            "Authorization: Bearer hidden",
            "authorization:hidden",
            "COOKIE: hidden",
            "ClientToken: hidden",
            "Host: other",
            "Content-Length: 1",
        ] {
            let error = header(wrong).unwrap_err();
            assert!(error.contains("cannot be given by hand"), "{error}");
            assert!(!error.contains("hidden"), "{error}");
        }
        let (name, value) = header("BITS-Packet-Type:  Ping ").unwrap();
        assert_eq!((name.as_str(), value.to_str().unwrap()), ("bits-packet-type", "Ping"));
        for wrong in ["", "x", "a b: c", ": c", "a: \u{1}"] {
            assert!(header(wrong).is_err(), "{wrong}");
        }
    }
}
