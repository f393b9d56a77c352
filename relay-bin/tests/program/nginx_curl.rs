//! The whole path with programs that are not ours at both ends: curl asks, nginx answers, and two
//! gateway instances and a connection point, each its own process, are between them.

use std::net::SocketAddr;

use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::support::curl::{Answer, Curl, Http};
use crate::support::nginx::Nginx;
use crate::support::role::Role;
use crate::support::site::{HTTP_ROLE, HTTPS_ROLE, Site};
use crate::support::table::Table;
use crate::support::{self};

/// Octets of the large download.
const LARGE: usize = 32 << 20;

/// Octets of what twenty clients fetch at once.
const MIDDLE: usize = 300_000;

const SMALL: &[u8] = b"0123456789 the management point speaks\n";

/// Everything that runs. What is declared first is dropped first.
struct Bed {
    table: Table,
    curl: Curl,
    nginx: Nginx,
    site: Site,
    gateways: [(Role, SocketAddr, SocketAddr); 2],
    connection_point: Option<Role>,
    home: TempDir,
}

/// One request and the gateway instance it goes to.
#[derive(Clone, Copy)]
struct Via {
    /// 0 or 1.
    gateway: usize,
    http: Http,
    role: u64,
}

impl Via {
    fn all() -> impl Iterator<Item = Self> + Clone {
        let each = |gateway| {
            Http::BOTH.into_iter().flat_map(move |http| {
                [HTTP_ROLE, HTTPS_ROLE].map(|role| Self { gateway, http, role })
            })
        };
        (0..2).flat_map(each)
    }

    fn name(self) -> String {
        let backend = if self.role == HTTP_ROLE { "http" } else { "https" };
        let (_, client) = self.http.flag_and_name();
        format!("{client}, instance {}, {backend} backend", self.gateway + 1)
    }
}

impl Bed {
    /// Starts nginx and both gateway instances; the connection point comes later.
    fn start() -> Self {
        let home = tempfile::tempdir().unwrap();
        let nginx_home = home.path().join("nginx");
        std::fs::create_dir(&nginx_home).unwrap();
        let nginx = Nginx::start(&nginx_home);
        let site = Site::init(home.path(), &nginx);
        let gateways = [1, 2].map(|number| {
            let mut role = site.start_gateway(number);
            let [clients, links] = role.addresses();
            (role, clients, links)
        });
        let curl = Curl::new(&home.path().join("curl"), site.ca());
        let table = Table::default();
        Self { table, curl, nginx, site, gateways, connection_point: None, home }
    }

    fn start_connection_point(&mut self) {
        let links = self.gateways.each_ref().map(|(_, _, links)| *links);
        self.connection_point = Some(self.site.start_connection_point(&links));
        for (gateway, _, _) in &mut self.gateways {
            gateway.wait_for_log("\"message\":\"link up\"", 1);
        }
    }

    /// Asks for `path` below the role, which must be answered with `status`.
    fn ask(&mut self, via: Via, path: &str, rest: &[&str], status: u16) -> Answer {
        let target = format!("/CCM_Proxy_MutualAuth/{}{path}", via.role);
        let at = self.gateways[via.gateway].1;
        let answer = self.curl.start(at, via.http, &target, rest).answer();
        let verdict = if answer.status() == status { "as expected" } else { "WRONG" };
        let reason = answer.header("relay-reason").unwrap_or("from nginx");
        let came = format!("{} {reason}, {} octets", answer.status(), answer.body.len());
        self.table.row(&via.name(), &in_short(path, rest), &came, verdict);
        assert_eq!(answer.status(), status, "{came}\n{}", self.nginx.error_log());
        assert!(answer.header("relay-message-id").is_some());
        answer
    }

    /// Asks for what fails at a named hop: HTTP/1.1 shows the reason in its first line too.
    fn ask_and_fail(&mut self, via: Via, path: &str, rest: &[&str], status: u16, reason: &str) {
        let answer = self.ask(via, path, rest, status);
        assert_eq!(answer.header("relay-reason"), Some(reason));
        match via.http {
            Http::One => assert_eq!(answer.line, format!("HTTP/1.1 {status} {reason}")),
            Http::Two => assert_eq!(answer.line, format!("HTTP/2 {status}")),
        }
        let retry = answer.header("retry-after").is_some();
        assert_eq!(retry, status == 503, "Retry-After goes with 503");
    }
}

/// Verb, path and header of a request, from curl's arguments.
fn in_short(path: &str, rest: &[&str]) -> String {
    let after = |flag: &str| {
        let place = rest.iter().position(|argument| *argument == flag)?;
        rest.get(place + 1).copied()
    };
    let verb = if rest.contains(&"--head") { "HEAD" } else { after("--request").unwrap_or("GET") };
    let range = after("--range").map(|range| format!("Range: bytes={range}"));
    let header = range.or(after("--header").map(str::to_owned)).unwrap_or_default();
    format!("{verb} {path} {header}").trim_end().to_owned()
}

#[test]
fn curl_reaches_nginx_through_two_gateway_instances() {
    let missing = support::missing(&[("nginx", "-v"), ("curl", "--version")]);
    if !missing.is_empty() {
        assert!(!support::tools_are_required(), "not installed: {missing:?}");
        println!("skipped: {missing:?} cannot be started; install them to run this test");
        return;
    }
    let mut bed = Bed::start();
    bed.nginx.publish("small.txt", SMALL);
    bed.nginx.publish("empty.bin", b"");

    for via in Via::all() {
        let reason = "CMGService_No_Connector";
        bed.ask_and_fail(via, "/SMS_MP/small.txt", &[], 503, reason);
    }
    bed.start_connection_point();
    Via::all().for_each(|via| reads_arrive_whole(&mut bed, via));
    Via::all().for_each(|via| refusals_name_their_hop(&mut bed, via));
    Via::all().for_each(|via| bodies_arrive_whole(&mut bed, via));
    a_large_download_keeps_its_hash(&mut bed);
    twenty_clients_at_once_get_what_they_asked_for(&mut bed);
    backend_connections_are_shared(&mut bed);
    both_sides_log_the_message_id(&mut bed);
    a_backend_that_is_down_is_named(&mut bed);
    sigterm_ends_every_process_cleanly(bed);
}

fn reads_arrive_whole(bed: &mut Bed, via: Via) {
    let path = "/SMS_MP/small.txt";
    let get = bed.ask(via, path, &[], 200);
    assert_eq!(get.body, SMALL);
    assert_eq!(get.header("relay-reason"), None);
    assert!(get.header("server").is_some_and(|server| server.starts_with("nginx")));
    let etag = get.header("etag").unwrap().to_owned();

    let head = bed.ask(via, path, &["--head"], 200);
    assert_eq!(head.header("content-length"), Some(SMALL.len().to_string().as_str()));

    let range = bed.ask(via, path, &["--range", "3-8"], 206);
    assert_eq!(range.body, &SMALL[3..=8]);
    let span = format!("bytes 3-8/{}", SMALL.len());
    assert_eq!(range.header("content-range"), Some(span.as_str()));

    let unchanged = bed.ask(via, path, &["--header", &format!("If-None-Match: {etag}")], 304);
    assert!(unchanged.body.is_empty());

    let empty = bed.ask(via, "/SMS_MP/empty.bin", &[], 200);
    assert!(empty.body.is_empty());

    let theirs = bed.ask(via, "/SMS_MP/absent", &[], 404);
    assert_eq!(theirs.header("relay-reason"), None, "nginx says so, not the relay");
    assert!(String::from_utf8_lossy(&theirs.body).contains("nginx"));

    let moved = bed.ask(via, "/SMS_MP/moved", &[], 302);
    assert!(moved.header("location").is_some_and(|to| to.ends_with("/SMS_MP/elsewhere")));
}

fn refusals_name_their_hop(bed: &mut Bed, via: Via) {
    let (before, _) = bed.nginx.requests_and_connections();
    let not_published = "CMGService_Not_Published";
    bed.ask_and_fail(via, "/elsewhere/small.txt", &[], 404, not_published);
    bed.ask_and_fail(via, "/ccm_system_windowsauth/request", &[], 404, not_published);
    let other = Via { role: 8, ..via };
    bed.ask_and_fail(other, "/SMS_MP/small.txt", &[], 404, not_published);
    for verb in ["DELETE", "PUT", "OPTIONS"] {
        let path = "/SMS_MP/small.txt";
        let reason = "CMGService_Method_Not_Allowed";
        bed.ask_and_fail(via, path, &["--request", verb], 405, reason);
    }
    let climbing = "/SMS_MP/../../secret";
    bed.ask_and_fail(via, climbing, &["--path-as-is"], 400, "CMGService_Unsafe_Path");
    let (after, _) = bed.nginx.requests_and_connections();
    assert_eq!(after, before, "nothing of what is refused reaches the site");
}

fn bodies_arrive_whole(bed: &mut Bed, via: Via) {
    let seen = bed.nginx.bodies().len();
    let message = support::octets(70_000 + seen);
    let file = bed.home.path().join("message");
    std::fs::write(&file, &message).unwrap();
    let data = format!("@{}", file.display());

    let post = ["--request", "CCM_POST", "--data-binary", &data];
    let taken = bed.ask(via, "/ccm_system/request", &post, 200);
    assert_eq!(taken.body, b"CCM_POST taken\n");
    let chunked = ["--request", "BITS_POST", "--data-binary", &data, "--header", CHUNKED];
    let taken = bed.ask(via, "/ccm_system/request", &chunked, 200);
    assert_eq!(taken.body, b"BITS_POST taken\n");

    let bodies = bed.nginx.bodies();
    assert_eq!(bodies.len(), seen + 2, "each body arrived once");
    assert_eq!(bodies.iter().filter(|body| **body == message).count(), 2);
}

/// Has curl send no length; over HTTP/2 it leaves the header away by itself.
const CHUNKED: &str = "Transfer-Encoding: chunked";

fn a_large_download_keeps_its_hash(bed: &mut Bed) {
    let content = support::octets(LARGE);
    let hash = Sha256::digest(&content);
    bed.nginx.publish("large.bin", &content);
    for (gateway, http, role) in [(0, Http::One, HTTP_ROLE), (1, Http::Two, HTTPS_ROLE)] {
        let via = Via { gateway, http, role };
        let answer = bed.ask(via, "/SMS_MP/large.bin", &[], 200);
        assert_eq!(answer.body.len(), LARGE);
        let came = Sha256::digest(&answer.body);
        bed.table.row(&via.name(), "sha256 of it", &format!("{came:x}"), "equal at both ends");
        assert_eq!(came, hash);
    }
}

fn twenty_clients_at_once_get_what_they_asked_for(bed: &mut Bed) {
    let content: Vec<_> = (0..4).map(|n| support::octets(MIDDLE + n)).collect();
    for (n, content) in content.iter().enumerate() {
        bed.nginx.publish(&format!("middle-{n}.bin"), content);
    }
    let vias: Vec<_> = Via::all().cycle().take(20).enumerate().collect();
    let start = |(n, via): &(usize, Via)| {
        let path = format!("/CCM_Proxy_ServerAuth/{}/SMS_MP/middle-{}.bin", via.role, n % 4);
        bed.curl.start(bed.gateways[via.gateway].1, via.http, &path, &[])
    };
    let asked: Vec<_> = vias.iter().map(start).collect();
    for ((n, _), asked) in vias.iter().zip(asked) {
        let answer = asked.answer();
        assert_eq!(answer.status(), 200);
        assert!(answer.body == content[n % 4], "curl {n} got another body");
    }
    bed.table.row("both instances", "20 at once", "20 times 200, bodies equal", "as expected");
}

fn backend_connections_are_shared(bed: &mut Bed) {
    let (requests, connections) = bed.nginx.requests_and_connections();
    let came = format!("{requests} requests over {connections} connections");
    bed.table.row("nginx", "connections it has seen", &came, "shared");
    assert!(connections * 2 < requests, "{came}:\n{}", bed.nginx.access_log());
}

fn both_sides_log_the_message_id(bed: &mut Bed) {
    let via = Via { gateway: 1, http: Http::Two, role: HTTPS_ROLE };
    let answer = bed.ask(via, "/SMS_MP/small.txt", &[], 200);
    let id = answer.header("relay-message-id").unwrap().to_owned();
    let connection_point = bed.connection_point.as_mut().unwrap();
    let there = connection_point.wait_for_log(&id, 1);
    let here = bed.gateways[1].0.wait_for_log(&id, 1);
    let is_relayed = ["\"relay::access\"", "\"ended\":\"complete\"", "\"connection_point\":\""];
    assert!(is_relayed.iter().all(|part| here.contains(part)), "{here}");
    assert!(there.contains("\"forwarded\""), "{there}");
    bed.table.row("both logs", "the message id", &id, "in each");
}

fn a_backend_that_is_down_is_named(bed: &mut Bed) {
    bed.nginx.stop();
    for via in Via::all() {
        let answer = bed.ask(via, "/SMS_MP/small.txt", &[], 502);
        let reason = answer.header("relay-reason").unwrap_or_default().to_owned();
        assert!(reason.starts_with("CMGConnector_"), "{reason}");
        let id = answer.header("relay-message-id").unwrap().to_owned();
        let there = bed.connection_point.as_mut().unwrap().wait_for_log(&id, 1);
        assert!(there.contains("not forwarded"), "{there}");
    }
}

fn sigterm_ends_every_process_cleanly(mut bed: Bed) {
    let (status, printed) = bed.connection_point.take().unwrap().stop();
    assert_eq!(status, Some(0), "{printed:#?}");
    bed.table.row("connection point", "SIGTERM", "exit status 0", "as expected");
    let Bed { gateways, mut table, home: _home, .. } = bed;
    for (number, (gateway, clients, links)) in (1..).zip(gateways) {
        let (status, printed) = gateway.stop();
        assert_eq!(status, Some(0), "{printed:#?}");
        table.row(&format!("instance {number}"), "SIGTERM", "exit status 0", "as expected");
        for address in [clients, links] {
            let refused = std::net::TcpStream::connect(address);
            assert!(refused.is_err(), "somebody still listens on {address}");
        }
    }
}
