//! What is published: told by connection points over their links, and held by every instance.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};
use relay_core::connection_point::{
    ConnectionPoint, PublishOutcome, PublishState, Update, UpdateError,
};
use relay_core::exchange::{AbortCode, AnswerHead, HeadLimits, Origin};
use relay_core::gateway::{Gateway, RefusedSettings, SiteSettings};
use relay_core::link::{Incoming, Link, SendStream};
use relay_core::mux::{Config, HeadKind, StreamCode};
use relay_core::policy::{Endpoint, EndpointKind};
use relay_core::settings::SettingsDocument;
use relay_tests::client::{Client, Http, bare, with_body};
use relay_tests::logs::Logs;
use relay_tests::roles::{
    House, Joined, ROGUE, ROLE, Rogue, SITE, begin_telling, join, publish, target, tell, told,
    until, within,
};
use relay_tests::site::{Backend, Body, full};
use tokio::task::JoinSet;

async fn house() -> (Backend, House) {
    let backend = Backend::echo_path().await;
    let house = House::before(backend.address);
    (backend, house)
}

/// What `gateway` knows of the house's site.
fn of_site(gateway: &Gateway) -> SiteSettings {
    let sites = gateway.settings().sites;
    let found = sites.iter().find(|site| site.site == SITE);
    found.unwrap_or_else(|| panic!("{sites:?}")).clone()
}

fn version_at(gateway: &Gateway) -> Option<u64> {
    let sites = gateway.settings().sites;
    let site = sites.iter().find(|site| site.site == SITE)?;
    site.applied.as_ref().map(|applied| applied.version)
}

fn refused_at(gateway: &Gateway) -> RefusedSettings {
    of_site(gateway).refused.expect("something was refused")
}

/// The house's endpoint with these paths.
fn publishing(house: &House, paths: &[&str]) -> Endpoint {
    let paths = Some(paths.iter().map(|&path| path.to_owned()).collect());
    Endpoint { paths, ..house.endpoint.0.clone() }
}

/// Version `version` of the house's settings with these paths.
fn document(house: &House, version: u64, paths: &[&str]) -> SettingsDocument {
    let endpoints = vec![publishing(house, paths)];
    SettingsDocument { version, endpoints, ..house.document() }
}

/// An update to version `version` with these paths.
fn update(house: &House, version: u64, paths: &[&str]) -> Update {
    let mut site = house.site_endpoint();
    site.endpoint = publishing(house, paths);
    let (gateways, tenants) = (Vec::new(), Vec::new());
    Update { gateways, endpoints: vec![site], tenants, clients: None, settings_version: version }
}

async fn status_of(house: &House, gateway: &Gateway, path: &str) -> u16 {
    let mut client = Client::join(gateway, &house.ca, Http::Two).await;
    client.ask(bare("GET", &target(path))).await.status()
}

fn reason(answer: &AnswerHead) -> String {
    String::from_utf8(answer.reason.clone().unwrap_or_default().to_vec()).unwrap()
}

/// The one state of a connection point that is linked to one instance.
fn state(connection_point: &ConnectionPoint) -> PublishState {
    let [state] = &connection_point.published()[..] else { panic!("one instance is linked to") };
    state.clone()
}

#[tokio::test]
async fn a_gateway_is_told_what_is_published_as_soon_as_a_link_is_up() {
    within(async {
        let (_backend, house) = house().await;
        let gateway = house.gateway(1);
        assert!(gateway.settings().sites.is_empty());
        let connection_point = house.connection_point(Vec::new());
        let _joined = join(&gateway, &connection_point).await;
        assert_eq!(status_of(&house, &gateway, "/SMS_MP/x").await, 200);
        let applied = of_site(&gateway).applied.unwrap();
        assert_eq!((applied.version, applied.endpoints), (1, 1));
        assert_eq!(applied.from, "cp-1");
        assert_eq!(applied.digest, house.document().digest());
        until(|| state(&connection_point).outcome == PublishOutcome::Applied).await;
        assert_eq!(state(&connection_point).version, Some(1));
    })
    .await;
}

#[tokio::test]
async fn until_it_is_told_a_gateway_with_a_link_answers_when_to_come_back() {
    within(async {
        let (_backend, house) = house().await;
        let gateway = house.gateway(1);
        let silent = house.silent_connection_point(&gateway, Config::default()).await;
        let mut client = Client::join(&gateway, &house.ca, Http::Two).await;
        let answer = client.ask(bare("GET", &target("/SMS_MP/x"))).await;
        assert_eq!((answer.status(), answer.reason()), (503, Some("CMGService_No_Settings")));
        assert!(answer.parts.headers.contains_key("retry-after"));
        let answer = publish(&silent.link, document(&house, 1, &["other"]).encode().unwrap()).await;
        assert_eq!((answer.status, reason(&answer).as_str()), (StatusCode::OK, "applied"));
        let answer = client.ask(bare("GET", &target("/SMS_MP/x"))).await;
        assert_eq!(answer.reason(), Some("CMGService_Not_Published"));
    })
    .await;
}

#[tokio::test]
async fn a_change_reaches_every_instance_and_one_that_comes_back_is_told_again() {
    within(async {
        let (_backend, house) = house().await;
        let instances = [house.gateway(1), house.gateway(2), house.gateway(3)];
        let connection_point = house.connection_point(Vec::new());
        let mut joined: Vec<Joined> = Vec::new();
        for gateway in &instances {
            joined.push(join(gateway, &connection_point).await);
        }
        connection_point.update(update(&house, 2, &["new"])).unwrap();
        for gateway in &instances {
            until(|| version_at(gateway) == Some(2)).await;
            assert_eq!(status_of(&house, gateway, "/new/x").await, 200);
            assert_eq!(status_of(&house, gateway, "/SMS_MP/x").await, 404);
        }
        joined[0].lose();
        let again = house.gateway(1);
        let _joined = join(&again, &connection_point).await;
        assert_eq!(version_at(&again), Some(2));
        assert_eq!(status_of(&house, &again, "/new/x").await, 200);
    })
    .await;
}

#[tokio::test]
async fn settings_hold_when_every_link_is_gone() {
    within(async {
        let (_backend, house) = house().await;
        let (gateway, joined) = house.joined().await;
        joined.lose();
        until(|| gateway.links() == 0).await;
        let mut client = Client::join(&gateway, &house.ca, Http::Two).await;
        let answer = client.ask(bare("GET", &target("/SMS_MP/x"))).await;
        assert_eq!(answer.reason(), Some("CMGService_No_Connector"));
        let answer = client.ask(bare("GET", &target("/elsewhere"))).await;
        assert_eq!(answer.reason(), Some("CMGService_Not_Published"), "it still judges");
        assert_eq!(version_at(&gateway), Some(1));
    })
    .await;
}

#[tokio::test]
async fn what_is_no_later_document_is_refused_and_the_last_good_one_holds() {
    let logs = Logs::capture();
    within(async {
        let (_backend, mut house) = house().await;
        house.settings.1 = 5;
        let (gateway, _joined) = house.joined().await;
        let rogue = house.silent_connection_point(&gateway, Config::default()).await;
        let _answering = tokio::spawn(answer_all(rogue.link.clone()));
        let good = document(&house, 6, &["other"]).encode().unwrap();
        let foreign = SettingsDocument { site: "else".to_owned(), ..document(&house, 6, &["x"]) };
        let text = |document: &SettingsDocument| Bytes::from(document.encode().unwrap());
        let long =
            [&good[..good.len() - 1], &vec![b' '; (1 << 20) + 1 - good.len()], b"}"].concat();
        let refused = [
            (
                text(&document(&house, 4, &["x"])),
                409,
                "version 4 of site `default` is older than 5",
            ),
            (
                text(&document(&house, 5, &["x"])),
                409,
                "version 5 of site `default` has other content",
            ),
            (
                Bytes::from(good[..good.len() / 2].to_vec()),
                400,
                "the document is cut off at line 1",
            ),
            (Bytes::new(), 400, "the document is cut off"),
            (Bytes::from_static(b"{\"format\":1,\"site\":7}"), 400, "the document is malformed"),
            (
                Bytes::from(long),
                413,
                "the document has 1048577 octets or more, and may have 1048576",
            ),
            (text(&foreign), 403, "the document is of site `else`, and the link of site `default`"),
        ];
        for (octets, status, why) in refused {
            let answer = publish(&rogue.link, octets).await;
            assert_eq!(answer.status.as_u16(), status, "{why}: {answer:?}");
            assert!(reason(&answer).starts_with(why), "{answer:?}");
            let told = refused_at(&gateway);
            assert_eq!((told.status, told.from.as_str()), (status, ROGUE), "{told:?}");
            assert!(told.reason.starts_with(why), "{told:?}");
            assert!(!logs.with(&["settings refused", why]).is_empty(), "{why}");
            assert_eq!(version_at(&gateway), Some(5), "{why}");
            assert_eq!(status_of(&house, &gateway, "/SMS_MP/x").await, 200, "after {why}");
        }
        // The link lives on, and a document of exactly 1 MiB is read.
        let fill = vec![b' '; (1 << 20) - good.len()];
        let longest = [&good[..good.len() - 1], &fill, b"}"].concat();
        let answer = publish(&rogue.link, longest).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(version_at(&gateway), Some(6));
        assert_eq!(refused_at(&gateway).status, 403, "the last refusal stays visible");
    })
    .await;
}

#[tokio::test]
async fn a_document_that_breaks_off_is_told_and_nothing_is_told_of_anything_else() {
    within(async {
        let (_backend, house) = house().await;
        let (gateway, _joined) = house.joined().await;
        let config = Config { name: "rogue".to_owned(), ..Config::default() };
        let rogue = house.silent_connection_point(&gateway, config).await;
        for (method, target, status) in [
            (Method::PUT, "/relay/other", 404),
            (Method::PUT, "/relay/settings/", 404),
            (Method::GET, "/relay/settings", 405),
        ] {
            let answer = tell(&rogue.link, method, target, "").await;
            assert_eq!(answer.status.as_u16(), status, "{target}");
        }
        assert_eq!(of_site(&gateway).refused.map(|refused| refused.reason), None);
        let (mut send, recv) = begin_telling(&rogue.link, Method::PUT, "/relay/settings").await;
        send.write_chunk(Bytes::from_static(b"{\"format\":1,")).await.unwrap();
        send.reset(StreamCode(AbortCode::Cancelled.to_wire()));
        drop(recv);
        until(|| of_site(&gateway).refused.is_some()).await;
        let refused = refused_at(&gateway);
        assert!(refused.reason.starts_with("the document broke off"), "{refused:?}");
        assert_eq!((refused.status, refused.from.as_str()), (400, "rogue"));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn one_that_never_ends_its_document_is_answered_after_ten_seconds() {
    within(async {
        let (_backend, house) = house().await;
        let gateway = house.gateway(1);
        let rogue = house.silent_connection_point(&gateway, Config::default()).await;
        let began = tokio::time::Instant::now();
        let (_send, recv) = begin_telling(&rogue.link, Method::PUT, "/relay/settings").await;
        let answer = told(recv).await;
        assert_eq!(answer.status, 408);
        assert_eq!(began.elapsed().as_secs(), 10);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn documents_that_never_end_hold_up_their_own_link_alone() {
    within(async {
        let (_backend, house) = house().await;
        let gateway = house.gateway(1);
        let stuck = house.silent_connection_point(&gateway, Config::default()).await;
        let mut never = Vec::new();
        for _ in 0..16 {
            never.push(begin_telling(&stuck.link, Method::PUT, "/relay/settings").await);
        }
        let began = tokio::time::Instant::now();
        let good = house.silent_connection_point(&gateway, Config::default()).await;
        let answer = publish(&good.link, house.document().encode().unwrap()).await;
        assert_eq!((answer.status.as_u16(), began.elapsed().as_secs()), (200, 0));
        for (_send, recv) in never {
            assert_eq!(told(recv).await.status, 408);
        }
        assert_eq!(began.elapsed().as_secs(), 10);
        let answer = publish(&stuck.link, house.document().encode().unwrap()).await;
        assert_eq!(answer.status, 200, "its places are free again");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_visible_at_the_connection_point_and_ends_when_its_version_rises() {
    let logs = Logs::capture();
    within(async {
        let (_backend, mut house) = house().await;
        house.settings.1 = 7;
        let (gateway, _joined) = house.joined().await;
        house.endpoint.0.paths = Some(vec!["mine".to_owned()]);
        let other = house.connection_point(Vec::new());
        let _other = join(&gateway, &other).await;
        until(|| matches!(state(&other).outcome, PublishOutcome::Refused { status: 409, .. }))
            .await;
        let PublishOutcome::Refused { reason, .. } = state(&other).outcome else { unreachable!() };
        assert!(reason.starts_with("version 7 of site `default` has other content"), "{reason}");
        // It is asked again and again, and both logs have it once.
        for _ in 0..20 {
            tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        }
        assert_eq!(logs.with(&["settings refused; those before still hold", "cp-2"]).len(), 1);
        assert_eq!(logs.with(&["the instance refused the settings"]).len(), 1);
        other.update(update(&house, 8, &["mine"])).unwrap();
        until(|| state(&other).outcome == PublishOutcome::Applied).await;
        assert_eq!(version_at(&gateway), Some(8));
    })
    .await;
}

/// A whole document that a connection point publishes, and where its answer goes.
async fn published_to(gateway: &Rogue) -> (SettingsDocument, SendStream) {
    let Incoming { mut recv, send, .. } = gateway.link.accept().await.unwrap();
    let mut octets = Vec::new();
    while let Some(chunk) = recv.read_chunk().await.unwrap() {
        octets.extend_from_slice(&chunk);
    }
    (SettingsDocument::decode(&octets).unwrap(), send)
}

/// Answers a document as a gateway does.
fn answer(mut send: SendStream, status: StatusCode, reason: &'static str) {
    let (headers, origin) = (HeaderMap::new(), Origin::ConnectionPoint);
    let head = AnswerHead { status, reason: Some(reason.into()), headers, origin };
    let block = head.encode(&HeadLimits::default()).unwrap();
    send.send_head(block, HeadKind::FinalAndEnd).unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_cannot_be_told_is_told_again_while_its_link_is_up() {
    let logs = Logs::capture();
    within(async {
        let (_backend, house) = house().await;
        let connection_point = house.connection_point(Vec::new());
        let gateway = house.rogue_gateway(&connection_point).await;
        // One that says nothing, and one of an older software, which refuses what it does not know.
        let (first, _silent) = published_to(&gateway).await;
        assert_eq!(first, house.document());
        let failed = || matches!(state(&connection_point).outcome, PublishOutcome::Failed { .. });
        let began = tokio::time::Instant::now();
        let mut second = gateway.link.accept().await.unwrap();
        assert!(began.elapsed().as_secs() >= 12, "{:?}", began.elapsed());
        assert!(failed());
        second.send.reset(StreamCode::REFUSED);
        let (again, send) = published_to(&gateway).await;
        assert!(failed() && again == first);
        answer(send, StatusCode::OK, "applied");
        until(|| state(&connection_point).outcome == PublishOutcome::Applied).await;
        assert_eq!(logs.with(&["the instance could not be told", "no answer within"]).len(), 1);
        assert_eq!(logs.with(&["the instance could not be told"]).len(), 2);
        gateway.lose();
        until(|| connection_point.published().is_empty()).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_change_is_told_at_once_however_long_ago_it_was_refused() {
    within(async {
        let (_backend, house) = house().await;
        let connection_point = house.connection_point(Vec::new());
        let gateway = house.rogue_gateway(&connection_point).await;
        assert_eq!(state(&connection_point).outcome, PublishOutcome::Waiting);
        let refused = PublishOutcome::Refused { status: 409, reason: "no".to_owned() };
        // By the fifth time it would be asked again within 16 s, and 8 s on the average.
        for _ in 0..5 {
            answer(published_to(&gateway).await.1, StatusCode::CONFLICT, "no");
            until(|| state(&connection_point).outcome == refused).await;
        }
        let began = tokio::time::Instant::now();
        connection_point.update(update(&house, 2, &["new"])).unwrap();
        assert_eq!(published_to(&gateway).await.0.version, 2);
        assert_eq!(began.elapsed().as_secs(), 0);
    })
    .await;
}

#[tokio::test]
async fn an_update_that_cannot_be_published_changes_nothing() {
    within(async {
        let (_backend, house) = house().await;
        let gateway = house.gateway(1);
        let connection_point = house.connection_point(Vec::new());
        let _joined = join(&gateway, &connection_point).await;
        let same_version = connection_point.update(update(&house, 1, &["x"]));
        assert_eq!(same_version, Err(UpdateError::Version { version: 1, have: 1 }));
        let unusable = connection_point.update(update(&house, 2, &["a/../b"]));
        assert!(matches!(unusable, Err(UpdateError::Document(_))), "{unusable:?}");
        assert_eq!(status_of(&house, &gateway, "/SMS_MP/x").await, 200);
        // Another backend for the same endpoints is nothing that instances are told.
        let second = Backend::echo_path().await;
        let mut moved = update(&house, 0, &["x"]);
        moved.endpoints = vec![house.site_endpoint()];
        moved.endpoints[0].backend.urls[0] = format!("http://{}", second.address).parse().unwrap();
        connection_point.update(moved).unwrap();
        assert_eq!(status_of(&house, &gateway, "/SMS_MP/x").await, 200);
        assert_eq!(version_at(&gateway), Some(1));
    })
    .await;
}

#[tokio::test]
async fn a_site_gets_its_own_requests_and_no_other_sites() {
    within(async {
        let (_backend, mut house) = house().await;
        let (gateway, _joined) = house.joined().await;
        let second = Backend::echo_path().await;
        house.settings = ("other".to_owned(), 1);
        house.endpoint.1 = second.address;
        house.endpoint.0.role_id = ROLE + 1;
        house.endpoint.0.name = "other-mp".to_owned();
        let there = house.connection_point(Vec::new());
        let far = join(&gateway, &there).await;
        until(|| gateway.settings().sites.len() == 2).await;
        let mut client = Client::join(&gateway, &house.ca, Http::Two).await;
        let at_other = format!("/CCM_Proxy_MutualAuth/{}/SMS_MP/x", ROLE + 1);
        for _ in 0..8 {
            // Sent to the wrong site it would be refused there.
            assert_eq!(client.ask(bare("GET", &target("/SMS_MP/x"))).await.status(), 200);
            assert_eq!(client.ask(bare("GET", &at_other)).await.status(), 200);
        }
        far.lose();
        until(|| gateway.links() == 1).await;
        let answer = client.ask(bare("GET", &at_other)).await;
        assert_eq!(answer.reason(), Some("CMGService_No_Connector"));
        assert_eq!(client.ask(bare("GET", &target("/SMS_MP/x"))).await.status(), 200);

        // What another site has already, a site does not get; all else of it stays as it is.
        house.endpoint.0.role_id = ROLE;
        house.settings.1 = 2;
        let thief = house.connection_point(Vec::new());
        let _thief = join(&gateway, &thief).await;
        until(|| matches!(state(&thief).outcome, PublishOutcome::Refused { status: 409, .. }))
            .await;
        let PublishOutcome::Refused { reason, .. } = state(&thief).outcome else { unreachable!() };
        assert!(reason.starts_with("site `default` has it already"), "{reason}");
        for _ in 0..4 {
            assert_eq!(client.ask(bare("GET", &target("/SMS_MP/x"))).await.status(), 200);
        }
    })
    .await;
}

/// Answers everything that arrives on a link with 200.
async fn answer_all(link: Link) {
    let head = AnswerHead {
        status: StatusCode::OK,
        reason: None,
        headers: HeaderMap::new(),
        origin: Origin::Site,
    };
    let block = head.encode(&HeadLimits::default()).unwrap();
    while let Ok(mut incoming) = link.accept().await {
        let _ = incoming.send.send_head(block.clone(), HeadKind::FinalAndEnd);
    }
}

#[tokio::test]
async fn a_request_that_is_sent_again_keeps_the_settings_it_began_with() {
    within(async {
        let (_backend, house) = house().await;
        let gateway = house.gateway(1);
        let rogue = house.rogue_connection_point(&gateway, Config::default()).await;
        let mut client = Client::join(&gateway, &house.ca, Http::Two).await;
        let asked =
            tokio::spawn(
                async move { client.ask(bare("GET", &target("/SMS_MP/x"))).await.status() },
            );
        let mut first = rogue.link.accept().await.unwrap();
        let answer = publish(&rogue.link, document(&house, 2, &["other"]).encode().unwrap()).await;
        assert_eq!(answer.status, 200);
        assert_eq!(status_of(&house, &gateway, "/SMS_MP/x").await, 404, "later ones have others");
        let answering = tokio::spawn(answer_all(rogue.link.clone()));
        first.send.reset(StreamCode::REFUSED);
        assert_eq!(asked.await.unwrap(), 200);
        answering.abort();
    })
    .await;
}

/// A request that even versions of the next test refuse, and odd ones let pass.
fn post() -> http::Request<Body> {
    with_body("POST", &target("/x"), full("two"))
}

/// Asks again and again, and counts.
async fn post_until(mut client: Client, done: Arc<AtomicBool>) -> u32 {
    let mut asked = 0;
    while !done.load(Ordering::Relaxed) {
        let status = client.ask(post()).await.status();
        assert!([200, 405].contains(&status), "{status}");
        asked += 1;
    }
    asked
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_during_a_hundred_changes_each_see_one_version() {
    within(async {
        let (_backend, house) = house().await;
        let gateway = house.gateway(1);
        let rogue = house.silent_connection_point(&gateway, Config::default()).await;
        let _answering = tokio::spawn(answer_all(rogue.link.clone()));
        // Even versions refuse the verb, odd ones let any length pass. Only a mixture of the two,
        // the kind of one and the limit of the other, would find the body too long.
        let version = |version: u64| {
            let mut document = house.document();
            document.version = version;
            let endpoint = &mut document.endpoints[0];
            endpoint.paths = Some(vec!["x".to_owned()]);
            if version.is_multiple_of(2) {
                endpoint.request_body_bytes_max = Some(1);
            } else {
                endpoint.kind = EndpointKind::SoftwareUpdatePoint;
            }
            document.encode().unwrap()
        };
        assert_eq!(publish(&rogue.link, version(1)).await.status, 200);
        let done = Arc::new(AtomicBool::new(false));
        let mut others = JoinSet::new();
        for _ in 0..2 {
            let client = Client::join(&gateway, &house.ca, Http::Two).await;
            others.spawn(post_until(client, Arc::clone(&done)));
        }
        let mut client = Client::join(&gateway, &house.ca, Http::Two).await;
        for number in 2..=101 {
            assert_eq!(publish(&rogue.link, version(number)).await.status, 200);
            // Whoever begins after the answer has the new one.
            let expected = if number.is_multiple_of(2) { 405 } else { 200 };
            assert_eq!(client.ask(post()).await.status(), expected, "version {number}");
        }
        done.store(true, Ordering::Relaxed);
        for asked in others.join_all().await {
            assert!(asked > 0);
        }
        assert_eq!(version_at(&gateway), Some(101));
    })
    .await;
}
