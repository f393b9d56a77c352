//! How many requests one link carries at once, where each of its ends says so.

#![allow(clippy::unwrap_used, reason = "a failed step of a test's set-up is a failed test")]

use http::Method;
use relay_core::mux::Config;
use relay_tests::client::{Client, Http, bare};
use relay_tests::roles::{House, begin_telling, target, until, within};
use relay_tests::site::Backend;
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant, timeout};

/// No time for a stream that is there.
const SOON: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn an_instance_has_as_many_requests_on_a_link_as_it_may_and_one_more_waits() {
    within(async {
        let mut house = House::before(([127, 0, 0, 1], 9).into());
        house.gateway_limits.streams_per_link_max = 3;
        let gateway = house.gateway(1);
        let config = Config { accept_streams_max: 16, ..Config::default() };
        let rogue = house.rogue_connection_point(&gateway, config).await;
        let (mut held, mut taken) = (JoinSet::new(), Vec::new());
        for count in 1..=3 {
            let mut client = Client::join(&gateway, &house.ca, Http::One).await;
            held.spawn(async move { client.ask(bare("GET", &target("/BGB/held"))).await });
            until(|| gateway.in_flight() == count).await;
            taken.push(timeout(SOON, rogue.link.accept()).await.unwrap().unwrap());
        }
        let mut client = Client::join(&gateway, &house.ca, Http::One).await;
        let before = Instant::now();
        let answer = client.ask(bare("GET", &target("/BGB/held"))).await;
        assert_eq!((answer.status(), answer.reason()), (503, Some("CMGService_Overloaded")));
        assert_eq!(before.elapsed(), house.gateway_limits.link_credit);
    })
    .await;
}

#[tokio::test]
async fn a_connection_point_takes_as_many_requests_on_a_link_as_it_may_and_no_more() {
    within(async {
        let backend = Backend::start(|_| std::future::pending()).await;
        let mut house = House::before(backend.address);
        house.connection_point_limits.streams_per_link_max = 3;
        let rogue = house.rogue_gateway(&house.connection_point(Vec::new())).await;
        let mut held = Vec::new();
        for count in 1..=3 {
            held.push(
                begin_telling(&rogue.link, Method::GET, "/CCM_Proxy_MutualAuth/7/BGB/x").await,
            );
            backend.until_in_flight(count).await;
        }
        let more =
            rogue.link.try_open(bytes::Bytes::from_static(b"head"), relay_core::link::End::More);
        assert!(more.unwrap().is_none(), "nobody waits for it");
    })
    .await;
}
