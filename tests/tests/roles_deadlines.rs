//! How long a request may take, where an endpoint says another time than usual; in paused time.

#![allow(clippy::unwrap_used, reason = "a failed step of a test's set-up is a failed test")]

use std::time::Duration;

use http::{Request, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use relay_core::connection_point::{Update, UpdateError};
use relay_core::gateway::GatewayUpdate;
use relay_core::mux::Config;
use relay_core::settings::{Deadline, SettingsDocument};
use relay_core::transport::memory::MemoryNetwork;
use relay_tests::bed::{Bed, Role};
use relay_tests::client::{Client, Http, bare, with_body};
use relay_tests::roles::{House, ROLE, publish, target, until, within};
use relay_tests::running::{Instance, connection_point};
use relay_tests::site::{Backend, full};
use tokio::time::{Instant, timeout};

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);

/// What connecting, the way to a backend and the way back take on the network in memory.
const WAYS: Duration = Duration::from_millis(4);

#[tokio::test(start_paused = true)]
async fn an_endpoint_whose_backend_may_take_longer_than_the_gateway_usually_waits_is_waited_for() {
    let longest = 80_000 * MS;
    for (think, status, reason) in
        [(79_995, 200, None), (79_997, 504, Some("CMGConnector_Timeout"))]
    {
        let think = think * MS;
        within(async {
            let network = MemoryNetwork::new(1);
            let _a = Role::start(&network, "a", think);
            let bed = Bed::new(&network, &["a"], |to| to.limits.answer = Some(longest)).await;
            let (answer, took) = bed.ask("GET").await;
            assert_eq!((answer.status(), answer.reason()), (status, reason), "{think:?}");
            assert_eq!(took, (think + WAYS).min(longest));
        })
        .await;
    }
}

/// Has a connection point that never answers publish that its backends may take `published`.
/// Returns how long an instance waits that allows at most `bound`, and how that ended.
async fn waits(published: Option<u64>, bound: Duration) -> (Duration, Option<String>) {
    let mut house = House::before(([127, 0, 0, 1], 9).into());
    house.gateway_limits.backend_answer_max = bound;
    let gateway = house.gateway(1);
    let rogue = house.silent_connection_point(&gateway, Config::default()).await;
    let deadline =
        |milliseconds| Deadline { role_id: ROLE, backend_answer_milliseconds: milliseconds };
    let deadlines = published.map(deadline).into_iter().collect();
    let document = SettingsDocument { deadlines, ..house.document() };
    let answer = publish(&rogue.link, document.encode().unwrap()).await;
    assert!(answer.status.is_success(), "{answer:?}");
    let mut client = Client::join(&gateway, &house.ca, Http::One).await;
    let before = Instant::now();
    let answer = client.ask(bare("GET", &target("/SMS_MP/x"))).await;
    (before.elapsed(), answer.reason().map(str::to_owned))
}

#[tokio::test(start_paused = true)]
async fn an_instance_waits_3_s_longer_than_what_is_published_up_to_its_own_bound() {
    let (hour, bound) = (Duration::from_hours(1), 70 * S);
    for (published, bound, expected) in [
        (None, hour, 65 * S),
        (Some(0), hour, 65 * S),
        (Some(61_999), hour, 65 * S),
        (Some(62_001), hour, 65 * S + MS),
        (Some(69_999), bound, 72_999 * MS),
        (Some(70_000), bound, 73 * S),
        (Some(70_001), bound, 73 * S),
        (Some(u64::MAX), bound, 73 * S),
    ] {
        within(async {
            let (waited, reason) = waits(published, bound).await;
            assert_eq!(reason.as_deref(), Some("CMGService_Timeout"));
            assert_eq!(waited, expected, "{published:?} of {bound:?}");
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_exchange_that_is_held_open_has_no_deadline_whatever_is_published() {
    within(async {
        let network = MemoryNetwork::new(1);
        let _a = Role::start(&network, "a", 90 * S);
        let bed = Bed::new(&network, &["a"], |to| to.limits.answer = Some(S)).await;
        let mut client = bed.client().await;
        let held = client.ask(bare("GET", &target("/BGB/held")));
        assert_eq!(timeout(95 * S, held).await.unwrap().status(), 200);
        let (answer, took) = bed.ask("GET").await;
        assert_eq!((answer.status(), took), (504, S), "any other has one");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn another_deadline_needs_a_higher_version_as_other_endpoints_do() {
    within(async {
        let network = MemoryNetwork::new(1);
        let _a = Role::start(&network, "a", 80 * S);
        let bed = Bed::new(&network, &["a"], |_| ()).await;
        let update = |version| {
            let mut site = bed.house.site_endpoint();
            site.backend.limits.answer = Some(90 * S);
            let (gateways, tenants) = (Vec::new(), Vec::new());
            Update {
                gateways,
                endpoints: vec![site],
                tenants,
                clients: None,
                settings_version: version,
            }
        };
        let refused = bed.point.update(update(1)).unwrap_err();
        assert!(matches!(refused, UpdateError::Version { version: 1, have: 1 }), "{refused:?}");
        bed.point.update(update(2)).unwrap();
        let version = || bed.gateway.settings().sites[0].applied.as_ref().unwrap().version;
        until(|| version() == 2).await;
        let (answer, took) = bed.ask("GET").await;
        assert_eq!((answer.status(), took), (200, 80 * S + WAYS));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn another_time_to_an_answer_is_for_requests_that_come_then_and_not_for_those_in_flight() {
    within(async {
        let house = House::before(([127, 0, 0, 1], 9).into());
        let gateway = house.gateway(1);
        let rogue = house.silent_connection_point(&gateway, Config::default()).await;
        let answer = publish(&rogue.link, house.document().encode().unwrap()).await;
        assert!(answer.status.is_success(), "{answer:?}");
        let mut clients = [
            Client::join(&gateway, &house.ca, Http::One).await,
            Client::join(&gateway, &house.ca, Http::One).await,
        ];
        let waits = async |client: &mut Client| {
            let before = Instant::now();
            let answer = client.ask(bare("GET", &target("/SMS_MP/x"))).await;
            assert_eq!(answer.reason(), Some("CMGService_Timeout"));
            before.elapsed()
        };
        let [in_flight, later] = &mut clients;
        let later = async {
            tokio::time::sleep(S).await;
            let mut limits = house.gateway_limits.clone();
            limits.answer_head = 7 * S;
            gateway.update(GatewayUpdate { content: None, limits });
            waits(later).await
        };
        assert_eq!(tokio::join!(waits(in_flight), later), (65 * S, 7 * S));
    })
    .await;
}

/// Has no time of either role ever end.
fn never(house: &mut House) {
    let limits = &mut house.gateway_limits;
    let gateway = [
        &mut limits.client_hello,
        &mut limits.tls_handshake,
        &mut limits.request_head,
        &mut limits.idle,
        &mut limits.answer_head,
        &mut limits.backend_answer_max,
        &mut limits.body_stall,
        &mut limits.body_grace,
        &mut limits.answer_stall,
        &mut limits.link_credit,
        &mut limits.overload_wait,
        &mut limits.drain,
        &mut limits.linger,
    ];
    let limits = &mut house.connection_point_limits;
    // The next link would never be dialled.
    limits.links_per_instance = 1;
    let point = [
        &mut limits.redial_first,
        &mut limits.redial_max,
        &mut limits.dial,
        &mut limits.dial_quic,
        &mut limits.next_rung,
        &mut limits.dial_pace,
        &mut limits.better_rung,
        &mut limits.backend_connect,
        &mut limits.backend_answer,
        &mut limits.backend_idle,
        &mut limits.backend_wait,
        &mut limits.backend_rest,
        &mut limits.drain,
    ];
    for time in gateway.into_iter().chain(point) {
        *time = Duration::MAX;
    }
}

#[tokio::test]
async fn where_no_time_ever_ends_requests_are_served_and_both_roles_stop() {
    within(async {
        let backend = Backend::start(|request: Request<Incoming>| async {
            let octets = request.into_body().collect().await.unwrap().to_bytes();
            Response::new(full(octets))
        })
        .await;
        let mut house = House::before(backend.address);
        never(&mut house);
        let instance = Instance::start(&house, 1).await;
        let point = connection_point(&house, &[instance.links]);
        instance.until_links(1).await;
        for http in Http::BOTH {
            let mut client = instance.client(&house, http).await;
            for body in ["", "a body"] {
                let ask = with_body("CCM_POST", &target("/SMS_MP/x"), full(body));
                let answer = client.ask(ask).await;
                assert_eq!((answer.status(), &*answer.body), (200, body.as_bytes()), "{http:?}");
            }
        }
        point.stop().await;
        instance.running.stop().await;
    })
    .await;
}
