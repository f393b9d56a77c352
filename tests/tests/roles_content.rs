//! Content that an instance gives to the client whom a site has granted it, as clients see it over
//! both versions of HTTP, with nobody connected to the instance.

#![allow(clippy::unwrap_used, reason = "a failed step of a test's set-up is a failed test")]

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use http::Request;
use relay_core::auth::Guid;
use relay_core::content::{CONTENT_PATH, Grant, Granted, Location, StoreRoot};
use relay_core::gateway::Gateway;
use relay_core::settings::ClientTrust;
use relay_tests::client::{Answer, Client, Http, bare};
use relay_tests::clients::{ClientSite, self_signed, showing};
use relay_tests::content::{FarStore, MemoryStore, grant};
use relay_tests::logs::Logs;
use relay_tests::roles::{House, until, within};
use relay_tests::site::{Body, nobody};
use relay_tests::tokens::TENANT;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// An instance with content that knows of a site, and nobody is connected.
struct Scene {
    house: House,
    site: ClientSite,
    gateway: Gateway,
    /// A file of several pieces.
    large: Vec<u8>,
}

impl Scene {
    async fn new() -> Self {
        Self::with(|_| ()).await
    }

    async fn with(change: impl FnOnce(&mut House)) -> Self {
        let large: Vec<u8> = (0..400_000u32).flat_map(u32::to_le_bytes).collect();
        let files: [(&str, &[u8]); 3] =
            [("Data/large.cab", &large[..]), ("empty", b""), ("setup.exe", b"0123456789")];
        let site = ClientSite::new();
        let mut house = House::before(nobody().await);
        house.gateway_limits.link_credit = Duration::ZERO;
        house.clients = Some(site.trust());
        house.initial = vec![house.document()];
        house.content = Some(Arc::new(MemoryStore::with(&files)));
        change(&mut house);
        let gateway = house.gateway(1);
        Self { house, site, gateway, large }
    }

    /// Asks as the client that the site's tokens are of.
    async fn ask(&self, http: Http, verb: &str, location: &str, more: Fields<'_>) -> Answer {
        let mut request = bare(verb, location);
        authorize(&mut request, &self.site.ccm());
        for (name, value) in more {
            request.headers_mut().append(*name, value.parse().unwrap());
        }
        Client::join(&self.gateway, &self.house.ca, http).await.ask(request).await
    }

    /// Whether the list of the package never looks whole.
    async fn is_list_cut(&self, http: Http) -> bool {
        let mut request = bare("GET", &self.location(grant()));
        authorize(&mut request, &self.site.ccm());
        let mut client = Client::join(&self.gateway, &self.house.ca, http).await;
        // The head may be lost with the connection.
        let Ok(response) = client.send(request).await else { return true };
        http_body_util::BodyExt::collect(response.into_body()).await.is_err()
    }

    fn location(&self, grant: Grant) -> String {
        self.site.grant(grant).location()
    }
}

type Fields<'a> = &'a [(&'static str, &'a str)];

fn authorize(request: &mut Request<Body>, token: &str) {
    let value = format!("Bearer {token}").parse().unwrap();
    request.headers_mut().insert("authorization", value);
}

fn for_file(name: &str) -> Grant {
    Grant { granted: Granted::File(name.parse().unwrap()), ..grant() }
}

fn sha256(octets: &[u8]) -> String {
    format!("{:x}", Sha256::digest(octets))
}

fn told(answer: &Answer) -> (u16, Option<&str>) {
    (answer.status(), answer.reason())
}

#[tokio::test]
async fn a_package_is_a_list_of_files_each_at_a_location_that_gives_it_whole() {
    within(async {
        let scene = Scene::new().await;
        for http in Http::BOTH {
            let grant = grant();
            let answer = scene.ask(http, "GET", &scene.location(grant.clone()), &[]).await;
            assert_eq!(told(&answer), (200, None), "{http:?}");
            assert_eq!(answer.parts.headers["cache-control"], "no-store");
            assert_eq!(answer.message_id().len(), 36);
            let listed: Value = serde_json::from_slice(&answer.body).unwrap();
            assert_eq!(listed["package"], "PS100012");
            assert_eq!(listed["expires"], grant.ends);
            let files = listed["files"].as_array().unwrap();
            let names: Vec<_> = files.iter().map(|it| it["name"].as_str().unwrap()).collect();
            assert_eq!(names, ["Data/large.cab", "empty", "setup.exe"]);
            for file in files {
                let location = file["location"].as_str().unwrap();
                assert!(location.starts_with(CONTENT_PATH), "of this service: {location}");
                assert!(location.contains(&format!("&et={}&", grant.ends)), "{location}");
                let answer = scene.ask(http, "GET", location, &[]).await;
                assert_eq!(told(&answer), (200, None), "{http:?} {location}");
                assert_eq!(file["octets"], answer.body.len());
                assert_eq!(file["sha256"], sha256(&answer.body));
                let tag = format!("\"{}\"", sha256(&answer.body));
                assert_eq!(answer.parts.headers["etag"], tag);
                assert_eq!(answer.parts.headers["accept-ranges"], "bytes");
            }
        }
        until(|| scene.gateway.in_flight() == 0).await;
        assert_eq!(scene.gateway.links(), 0, "no connection point was asked");
    })
    .await;
}

#[tokio::test]
async fn a_grant_for_one_file_gives_that_file_and_parts_of_it() {
    within(async {
        let scene = Scene::new().await;
        let location = scene.location(for_file("Data/large.cab"));
        let tag = format!("\"{}\"", sha256(&scene.large));
        let tag = tag.as_str();
        let large = &scene.large[..];
        for http in Http::BOTH {
            let answer = scene.ask(http, "GET", &location, &[]).await;
            assert_eq!((answer.status(), &answer.body[..]), (200, large));
            let head = scene.ask(http, "HEAD", &location, &[]).await;
            assert_eq!((head.status(), head.body.len()), (200, 0));
            assert_eq!(head.parts.headers["content-length"], large.len().to_string());
            for (range, of) in [
                ("bytes=1000000-", 1_000_000..large.len()),
                ("bytes=131071-131072", 131_071..131_073),
            ] {
                let last = of.end - 1;
                let expected = format!("bytes {}-{last}/{}", of.start, large.len());
                let fields = [("range", range), ("if-range", tag)];
                let alone = scene.ask(http, "GET", &location, &fields[..1]).await;
                let with_tag = scene.ask(http, "GET", &location, &fields).await;
                assert_eq!((alone.status(), &alone.body[..]), (206, &large[of.clone()]));
                assert_eq!(alone.parts.headers["content-range"], expected);
                assert_eq!((with_tag.status(), with_tag.body), (206, alone.body));
            }
            let changed = [("range", "bytes=1-2"), ("if-range", "\"other\"")];
            let answer = scene.ask(http, "GET", &location, &changed).await;
            assert_eq!((answer.status(), answer.body.len()), (200, large.len()));
            let known = scene.ask(http, "GET", &location, &[("if-none-match", tag)]).await;
            assert_eq!((known.status(), known.body.len()), (304, 0));
            assert_eq!(known.parts.headers["etag"], tag);
            let beyond = scene.ask(http, "GET", &location, &[("range", "bytes=1600000-")]).await;
            assert_eq!(told(&beyond), (416, Some("CMGService_Range_Not_Satisfiable")));
            assert_eq!(beyond.parts.headers["content-range"], "bytes */1600000");
            let other = scene.ask(http, "GET", &location, &[("if-match", "\"other\"")]).await;
            assert_eq!(told(&other), (412, Some("CMGService_Content_Changed")));
            let empty = scene.ask(http, "GET", &scene.location(for_file("empty")), &[]).await;
            assert_eq!((empty.status(), empty.body.len()), (200, 0));
        }
    })
    .await;
}

#[tokio::test]
async fn the_access_line_names_package_file_and_client_and_traffic_has_an_endpoint_of_content() {
    within(async {
        let logs = Logs::capture();
        let scene = Scene::new().await;
        let listed = scene.location(grant());
        let tampered = scene.location(for_file("setup.exe")).replace("setup.exe", "empty");
        let locations = [&listed, &scene.location(for_file("setup.exe")), &tampered];
        let signature = listed.split("&sig=").nth(1).unwrap();
        let mut octets = 0;
        for location in locations {
            let answer = scene.ask(Http::One, "GET", location, &[]).await;
            octets += if answer.status() == 200 { answer.body.len() as u64 } else { 0 };
        }
        until(|| logs.with(&["relay::access"]).len() == 3).await;
        let lines = logs.with(&["relay::access"]);
        let files = [Value::Null, "setup.exe".into(), "empty".into()];
        for ((line, file), status) in lines.iter().zip(files).zip([200, 200, 403]) {
            assert!(!line.contains("sig=") && !line.contains(signature), "{line}");
            let line = &serde_json::from_str::<Value>(line).unwrap()["fields"];
            assert_eq!((&line["package"], &line["file"]), (&"PS100012".into(), &file), "{line}");
            assert_eq!(line["granted_to"], grant().client.to_string(), "{line}");
            assert_eq!((&line["endpoint"], &line["site"]), (&"content".into(), &"default".into()));
            assert_eq!(line["status"], status, "{line}");
        }
        let traffic = scene.gateway.traffic();
        let rows = traffic.iter().filter(|it| &*it.total.endpoint == "content");
        let rows: Vec<_> = rows.map(|it| &it.total).collect();
        let [row] = rows[..] else { panic!("{traffic:?}") };
        assert_eq!((&*row.site, row.requests, row.failed), ("default", 3, 1));
        assert_eq!((row.requests_with_bearer_token, row.response_octets), (3, octets));
        assert_eq!(traffic.iter().map(|it| it.in_flight).sum::<u64>(), 0);
    })
    .await;
}

#[tokio::test]
async fn content_that_is_not_there_is_404_so_that_clients_go_elsewhere() {
    within(async {
        let scene = Scene::new().await;
        let without = Scene::with(|house| house.content = None).await;
        let other = Grant { package: "PS100013".parse().unwrap(), ..grant() };
        for http in Http::BOTH {
            for location in [scene.location(other.clone()), scene.location(for_file("x"))] {
                let answer = scene.ask(http, "GET", &location, &[]).await;
                assert_eq!(told(&answer), (404, Some("CMGService_No_Content")), "{location}");
            }
            let answer = without.ask(http, "GET", &without.location(grant()), &[]).await;
            assert_eq!(told(&answer), (404, Some("CMGService_No_Content")));
            let answer = scene.ask(http, "PROPFIND", &scene.location(grant()), &[]).await;
            assert_eq!(told(&answer), (405, Some("CMGService_Method_Not_Allowed")));
        }
    })
    .await;
}

#[tokio::test]
async fn a_grant_is_good_for_the_client_that_it_names_and_nobody_else() {
    within(async {
        let scene = Scene::new().await;
        let location = scene.location(for_file("setup.exe"));
        for http in Http::BOTH {
            let mut client = Client::join(&scene.gateway, &scene.house.ca, http).await;
            let answer = client.ask(bare("GET", &location)).await;
            assert_eq!(told(&answer), (401, Some("CMGService_No_Credential")));
            for (token, of) in [
                (scene.site.expired_ccm(), (401, Some("CMGService_Invalid_Token"))),
                (scene.site.entra(), (401, Some("CMGService_Invalid_Token"))),
                (scene.site.bulk(), (403, Some("CMGService_Registration_Only"))),
                (scene.site.ccm(), (200, None)),
            ] {
                let mut request = bare("GET", &location);
                authorize(&mut request, &token);
                assert_eq!(told(&client.ask(request).await), of);
            }
            let other = Grant { client: Guid(7), ..for_file("setup.exe") };
            let answer = scene.ask(http, "GET", &scene.location(other), &[]).await;
            assert_eq!(told(&answer), (403, Some("CMGService_Other_Client")));
        }
    })
    .await;
}

#[tokio::test]
async fn a_grant_that_is_bound_to_a_certificate_is_good_for_whoever_has_its_key() {
    within(async {
        let scene = Scene::new().await;
        let (mine, other) = (self_signed(), self_signed());
        let fingerprint = digest(&SHA256, mine.chain().first().unwrap());
        let bound_to = Some(fingerprint.as_ref().try_into().unwrap());
        let location = scene.location(Grant { bound_to, ..for_file("setup.exe") });
        for http in Http::BOTH {
            for (shown, of) in [
                (Some(&mine), (200, None)),
                (Some(&other), (403, Some("CMGService_Other_Client"))),
                (None, (403, Some("CMGService_Other_Client"))),
            ] {
                let tls = showing(&scene.house.ca, shown);
                let mut client = Client::join_with(&scene.gateway, &tls, http).await;
                assert_eq!(told(&client.ask(bare("GET", &location)).await), of, "{http:?}");
            }
            // A token of the very client does not stand in for the key.
            let answer = scene.ask(http, "GET", &location, &[]).await;
            assert_eq!(told(&answer), (403, Some("CMGService_Other_Client")));
        }
    })
    .await;
}

#[tokio::test]
async fn a_grant_that_is_over_tampered_with_or_of_another_site_gives_nothing() {
    within(async {
        let scene = Scene::new().await;
        let now = grant().begins + 10;
        let over = Grant { begins: now - 100, ends: now - 1, ..grant() };
        let later = Grant { begins: now + 3000, ends: now + 3600, ..grant() };
        let foreign = Grant { issuer: Guid(1), ..grant() };
        let good = scene.location(for_file("setup.exe"));
        for (location, of) in [
            (scene.location(over), (403, "CMGService_Grant_Over")),
            (scene.location(later), (403, "CMGService_Grant_Not_Yet")),
            (scene.location(foreign), (403, "CMGService_Invalid_Grant")),
            (good.replace("setup.exe", "empty"), (403, "CMGService_Invalid_Grant")),
            (good.replace("PS100012", "PS100011"), (403, "CMGService_Invalid_Grant")),
            (good.replace("setup.exe", "../x"), (400, "CMGService_Bad_Grant")),
            (good.replace("setup.exe", "..%5Cx"), (400, "CMGService_Bad_Grant")),
            (format!("{good}&file=empty"), (400, "CMGService_Bad_Grant")),
            (good.replace("RS256", "none"), (400, "CMGService_Bad_Grant")),
            (CONTENT_PATH.to_owned(), (400, "CMGService_Bad_Grant")),
            (CONTENT_PATH.to_uppercase() + "?", (400, "CMGService_Bad_Grant")),
        ] {
            let answer = scene.ask(Http::One, "GET", &location, &[]).await;
            assert_eq!(told(&answer), (of.0, Some(of.1)), "{location}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_client_that_is_blocked_has_no_content_however_it_shows_itself() {
    within(async {
        let mine = self_signed();
        let fingerprint = digest(&SHA256, mine.chain().first().unwrap());
        let bound_to = Some(fingerprint.as_ref().try_into().unwrap());
        let scene = Scene::with(|house| {
            let mut trust = house.clients.clone().unwrap();
            trust.tokens.as_mut().unwrap().blocked = vec![grant().client];
            house.clients = Some(trust);
            house.initial = vec![house.document()];
        });
        let scene = scene.await;
        for location in [scene.location(grant()), scene.location(Grant { bound_to, ..grant() })] {
            let tls = showing(&scene.house.ca, Some(&mine));
            let mut client = Client::join_with(&scene.gateway, &tls, Http::One).await;
            let answer = client.ask(bare("GET", &location)).await;
            assert_eq!(told(&answer), (403, Some("CMGService_Client_Blocked")));
        }
    })
    .await;
}

#[tokio::test]
async fn a_client_that_is_barred_by_its_guid_has_no_content_by_its_certificate_either() {
    within(async {
        let mine = self_signed();
        let fingerprint = digest(&SHA256, mine.chain().first().unwrap());
        let bound_to = Some(fingerprint.as_ref().try_into().unwrap());
        let named = |client: Guid| vec![format!("site-token:client {client}").parse().unwrap()];
        for (barred, of) in [
            (named(grant().client), (403, Some("CMGService_Client_Barred"))),
            (named(Guid(7)), (200, None)),
        ] {
            let scene = Scene::with(|house| {
                let trust = house.clients.clone().unwrap();
                house.clients = Some(ClientTrust { barred, ..trust });
                house.initial = vec![house.document()];
            });
            let scene = scene.await;
            let tls = showing(&scene.house.ca, Some(&mine));
            let mut client = Client::join_with(&scene.gateway, &tls, Http::One).await;
            let location = scene.location(Grant { bound_to, ..grant() });
            assert_eq!(told(&client.ask(bare("GET", &location)).await), of);
        }
    })
    .await;
}

#[tokio::test]
async fn of_two_sites_that_name_themselves_by_one_tenant_either_grants() {
    within(async {
        let (one, two) = (ClientSite::new(), ClientSite::new());
        let scene = Scene::with(|house| {
            let documents = [&one, &two].map(|site| {
                house.clients = Some(site.trust());
                house.document()
            });
            let [mut first, mut second] = documents;
            (first.site, second.site) = ("one".to_owned(), "two".to_owned());
            second.endpoints.clear();
            house.initial = vec![first, second];
        });
        let scene = scene.await;
        for site in [&one, &two] {
            let location = site.grant(for_file("setup.exe")).location();
            let mut request = bare("GET", &location);
            authorize(&mut request, &site.ccm());
            let mut client = Client::join(&scene.gateway, &scene.house.ca, Http::Two).await;
            let answer = client.ask(request).await;
            assert_eq!((told(&answer), &answer.body[..]), ((200, None), &b"0123456789"[..]));
        }
        assert_eq!(grant().issuer, TENANT);
    })
    .await;
}

#[tokio::test]
async fn a_store_that_cannot_be_read_is_503_and_a_file_that_is_too_short_never_looks_whole() {
    within(async {
        let store = MemoryStore::with(&[("setup.exe", b"0123456789")]);
        *store.broken.lock().unwrap() = Some("/srv/secret/place".to_owned());
        let broken = Scene::with(|house| house.content = Some(Arc::new(store))).await;
        let mut store = MemoryStore::with(&[("setup.exe", b"0123456789")]);
        store.cut = 3;
        let short = Scene::with(|house| house.content = Some(Arc::new(store))).await;
        for http in Http::BOTH {
            let location = broken.location(for_file("setup.exe"));
            let answer = broken.ask(http, "GET", &location, &[]).await;
            assert_eq!(told(&answer), (503, Some("CMGService_Content_Unavailable")));
            assert!(answer.parts.headers.contains_key("retry-after"));
            assert!(!answer.body.windows(6).any(|it| it == b"secret"), "the log alone says why");
            let location = short.location(for_file("setup.exe"));
            let mut request = bare("GET", &location);
            authorize(&mut request, &short.site.ccm());
            let mut client = Client::join(&short.gateway, &short.house.ca, http).await;
            // The head may be lost with the connection.
            if let Ok(response) = client.send(request).await {
                let cut = http_body_util::BodyExt::collect(response.into_body()).await;
                assert!(cut.is_err(), "{http:?}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_list_of_any_number_of_files_has_each_of_them_once() {
    within(async {
        // A list is written by 64 files at a time.
        for count in [63, 64, 65, 129] {
            let names: Vec<_> = (0..count).map(|it| format!("{it:03}")).collect();
            let files: Vec<_> = names.iter().map(|it| (it.as_str(), it.as_bytes())).collect();
            let store = Arc::new(MemoryStore::with(&files));
            let scene = Scene::with(|house| house.content = Some(store)).await;
            for http in Http::BOTH {
                let answer = scene.ask(http, "GET", &scene.location(grant()), &[]).await;
                let listed: Value = serde_json::from_slice(&answer.body).unwrap();
                let files = listed["files"].as_array().unwrap();
                let told = files.iter().map(|it| it["name"].as_str().unwrap());
                assert!(told.eq(names.iter().map(String::as_str)), "{count} {http:?}");
            }
        }
    })
    .await;
}

/// Where the store of [`far`] is.
const FAR: &str = "https://store.example/container/site/";

/// A store with files whose locations are `url` with a file's hash in the place of `HASH`, signed
/// for the method, and end so many seconds after the grant.
fn far(url: &str, outlives: i64) -> Arc<FarStore> {
    let url = url.to_owned();
    Arc::new(FarStore {
        near: MemoryStore::with(&[("a/setup.exe", b"0123456789"), ("empty", b"")]),
        root: StoreRoot::new(FAR).unwrap(),
        locate: Box::new(move |file, visit| {
            let url = url.replace("HASH", &file.sha256_text());
            let ends = visit.until.checked_add_signed(outlives).unwrap();
            Location::new(format!("{url}?for={}&sig=secret", visit.method), ends).unwrap()
        }),
    })
}

#[tokio::test]
async fn a_file_of_a_store_elsewhere_is_a_redirect_and_a_list_has_each_at_its_own_location() {
    within(async {
        let logs = Logs::capture();
        let store = far(&format!("{FAR}PS100012/HASH"), 0);
        let scene = Scene::with(|house| house.content = Some(store)).await;
        let hash = sha256(b"0123456789");
        let expected = |verb: &str| format!("{FAR}PS100012/{hash}?for={verb}&sig=secret");
        for http in Http::BOTH {
            let location = scene.location(for_file("a/setup.exe"));
            for verb in ["GET", "HEAD"] {
                let fields = [("range", "bytes=1-2")];
                let answer = scene.ask(http, verb, &location, &fields).await;
                assert_eq!((told(&answer), answer.body.len()), ((307, None), 0), "{verb}");
                assert_eq!(answer.parts.headers["location"], expected(verb));
                assert_eq!(answer.parts.headers["cache-control"], "no-store");
                assert_eq!(answer.message_id().len(), 36);
            }
            let answer = scene.ask(http, "GET", &scene.location(for_file("x")), &[]).await;
            assert_eq!(told(&answer), (404, Some("CMGService_No_Content")));
            let answer = scene.ask(http, "GET", &scene.location(grant()), &[]).await;
            assert_eq!(answer.parts.headers["cache-control"], "no-store");
            let listed: Value = serde_json::from_slice(&answer.body).unwrap();
            assert_eq!(listed["files"][0]["location"], expected("GET"), "{http:?}");
            let empty = listed["files"][1]["location"].as_str().unwrap();
            assert!(empty.starts_with(&format!("{FAR}PS100012/{}?", sha256(b""))), "{empty}");
            let mut client = Client::join(&scene.gateway, &scene.house.ca, http).await;
            let answer = client.ask(bare("GET", &location)).await;
            assert_eq!(told(&answer), (401, Some("CMGService_No_Credential")));
            assert!(!answer.parts.headers.contains_key("location"));
        }
        until(|| scene.gateway.in_flight() == 0).await;
        let lines = logs.with(&[&format!("\"redirected_to\":\"{FAR}PS100012/{hash}\"")]);
        assert_eq!(lines.len(), 4, "{lines:?}");
        assert_eq!(logs.with(&["secret"]), Vec::<String>::new());
    })
    .await;
}

#[tokio::test]
async fn nobody_is_told_of_a_location_outside_of_the_store_or_one_that_outlives_the_grant() {
    within(async {
        for (url, outlives) in [
            ("https://store.example/container/site/HASH", 1),
            ("https://store.example/other/HASH", 0),
            ("https://store.example/container/site-2/HASH", 0),
            ("https://store.example/container/site/../other/HASH", 0),
            ("https://other.example/container/site/HASH", 0),
        ] {
            let store = far(url, outlives);
            let scene = Scene::with(|house| house.content = Some(store)).await;
            let unavailable = (503, Some("CMGService_Content_Unavailable"));
            for http in Http::BOTH {
                let location = scene.location(for_file("a/setup.exe"));
                let answer = scene.ask(http, "GET", &location, &[]).await;
                assert_eq!(told(&answer), unavailable, "{url}");
                assert!(!answer.parts.headers.contains_key("location"), "{url}");
                assert!(scene.is_list_cut(http).await, "{http:?} {url}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_list_of_a_store_elsewhere_has_any_number_of_files_once_each() {
    within(async {
        for count in [64, 65, 129] {
            let names: Vec<_> = (0..count).map(|it| format!("{it:03}")).collect();
            let files: Vec<_> = names.iter().map(|it| (it.as_str(), it.as_bytes())).collect();
            let near = MemoryStore::with(&files);
            let Some(store) = Arc::into_inner(far(&format!("{FAR}HASH"), 0)) else { panic!() };
            let store = Arc::new(FarStore { near, ..store });
            let scene = Scene::with(|house| house.content = Some(store)).await;
            let answer = scene.ask(Http::Two, "GET", &scene.location(grant()), &[]).await;
            let listed: Value = serde_json::from_slice(&answer.body).unwrap();
            let told = listed["files"].as_array().unwrap().iter().map(|file| {
                let name = file["name"].as_str().unwrap();
                let hash = sha256(name.as_bytes());
                let location = file["location"].as_str().unwrap();
                assert!(location.starts_with(&format!("{FAR}{hash}?")), "{location}");
                name
            });
            assert!(told.eq(names.iter().map(String::as_str)), "{count}");
        }
    })
    .await;
}
