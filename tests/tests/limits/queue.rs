//! Overload: every stream of a link is taken, and every place in the line for one.

use std::time::Duration;

use relay_core::exchange::{AnswerHead, HeadLimits, Origin};
use relay_core::link::{Incoming, OPENERS_WAITING_MAX};
use relay_core::mux::{Config, HeadKind};
use relay_tests::client::{Http, bare, tls};
use relay_tests::roles::{House, SERVICE, target, until, within};
use relay_tests::running::Instance;
use relay_tests::site::nobody;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Requests of one connection at once.
const STREAMS: usize = 100;

/// Long enough that only a full line is a reason for an answer.
const PATIENCE: Duration = Duration::from_hours(1);

fn answer(mut incoming: Incoming) {
    let headers = http::HeaderMap::new();
    let head =
        AnswerHead { status: http::StatusCode::OK, reason: None, headers, origin: Origin::Site };
    let head = head.encode(&HeadLimits::default()).unwrap();
    incoming.send.send_head(head, HeadKind::FinalAndEnd).unwrap();
}

/// Has `count` requests made at once, over as many connections as they need.
async fn make(count: usize, house: &House, instance: &Instance, statuses: &mut JoinSet<u16>) {
    let uri = format!("https://{SERVICE}{}", target("/SMS_MP/x"));
    let mut left = count;
    while left > 0 {
        let this = left.min(STREAMS);
        let stream = TcpStream::connect(instance.clients).await.unwrap();
        let stream = tls(stream, &house.ca, b"h2").await;
        let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        for _ in 0..this {
            sender = sender.ready().await.unwrap();
            let request = http::Request::get(&uri).body(()).unwrap();
            let (asked, _) = sender.send_request(request, true).unwrap();
            statuses.spawn(async move { asked.await.unwrap().status().as_u16() });
        }
        left -= this;
    }
}

#[tokio::test]
async fn with_every_place_of_the_queue_taken_a_request_is_answered_503_before_any_that_waits() {
    within(async {
        let mut house = House::before(nobody().await);
        house.gateway_limits.link_credit = PATIENCE;
        let instance = Instance::start(&house, 1).await;
        let config = Config { accept_streams_max: 1, ..Config::default() };
        let rogue = house.rogue_connection_point(&instance.gateway, config).await;

        let mut statuses = JoinSet::new();
        make(1, &house, &instance, &mut statuses).await;
        let held = rogue.link.accept().await.unwrap();
        let waiting = OPENERS_WAITING_MAX;
        make(waiting, &house, &instance, &mut statuses).await;
        until(|| instance.gateway.in_flight() == waiting as u64 + 1).await;
        assert!(statuses.try_join_next().is_none(), "all of them wait");

        let mut beyond = instance.client(&house, Http::One).await;
        for _ in 0..2 {
            let told = beyond.ask(bare("GET", &target("/SMS_MP/x"))).await;
            assert_eq!((told.status(), told.reason()), (503, Some("CMGService_Overloaded")));
            assert_eq!(told.parts.headers["retry-after"], "1");
        }
        assert!(statuses.try_join_next().is_none(), "and go on to wait");
        assert_eq!(instance.gateway.in_flight(), waiting as u64 + 1);

        // One place is enough to be let in, and all are served in the end.
        answer(held);
        assert_eq!(statuses.join_next().await.unwrap().unwrap(), 200);
        let served = async {
            loop {
                answer(rogue.link.accept().await.unwrap());
            }
        };
        let last = beyond.ask(bare("GET", &target("/SMS_MP/x")));
        let all = async {
            assert_eq!(last.await.status(), 200);
            while let Some(status) = statuses.join_next().await {
                assert_eq!(status.unwrap(), 200);
            }
        };
        tokio::select! {
            () = served => {}
            () = all => {}
        }
    })
    .await;
}
