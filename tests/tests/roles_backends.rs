//! Several backends of one endpoint, and the limits towards each: on a network in memory, in paused
//! time.

#![allow(clippy::unwrap_used, reason = "a failed step of a test's set-up is a failed test")]

use std::sync::atomic::Ordering;
use std::time::Duration;

use relay_core::connection_point::{BackendCheck, BackendState};
use relay_core::transport::memory::{Dials, MemoryNetwork};
use relay_tests::bed::{Bed, Role};
use relay_tests::client::bare;
use relay_tests::logs::Logs;
use relay_tests::roles::{target, within};
use tokio::time::sleep;

const MS: Duration = Duration::from_millis(1);
const S: Duration = Duration::from_secs(1);

fn network() -> MemoryNetwork {
    MemoryNetwork::new(1)
}

#[tokio::test(start_paused = true)]
async fn requests_are_spread_over_the_backends_and_go_on_where_one_takes_no_connection() {
    let logs = Logs::capture();
    within(async {
        let network = network();
        let b = Role::start(&network, "b", Duration::ZERO);
        let bed = Bed::new(&network, &["a", "b"], |_| ()).await;
        for verb in ["GET", "CCM_POST"].into_iter().cycle().take(12) {
            let (answer, _) = bed.ask(verb).await;
            assert_eq!((answer.status(), &*answer.body), (200, &b"b"[..]), "{verb}");
        }
        assert_eq!(b.requests(), 12, "each once");
        let a = bed.status("a");
        assert_eq!((a.state, a.endpoint.as_str()), (BackendState::Resting, "mp"));
        assert!(a.why.as_ref().unwrap().contains("refused") && a.until.is_some(), "{a:?}");
        let left_alone = "fails again and again and is left alone for a while";
        assert_eq!(logs.with(&[left_alone, "http://a/"]).len(), 1);
        assert_eq!(bed.status("b").state, BackendState::Up);

        let a = Role::start(&network, "a", Duration::ZERO);
        bed.ask("GET").await;
        assert_eq!(a.connections(), 0, "it rests still");
        sleep(5 * S).await;
        for _ in 0..8 {
            assert_eq!(bed.ask("GET").await.0.status(), 200);
        }
        assert_eq!((a.requests(), b.requests()), (4, 17));
        assert_eq!(logs.with(&["the backend answers again", "http://a/"]).len(), 1);
        assert_eq!(bed.status("a").why, None);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_trial_whose_connection_breaks_is_followed_by_another_at_once() {
    within(async {
        let network = network();
        let _b = Role::start(&network, "b", Duration::ZERO);
        let bed = Bed::new(&network, &["a", "b"], |it| it.limits.failures_max = Some(1)).await;
        for _ in 0..2 {
            assert_eq!(bed.ask("CCM_POST").await.0.status(), 200);
        }
        assert_eq!(bed.status("a").state, BackendState::Resting);
        let a = Role::breaking_off(&network, "a");
        sleep(5 * S).await;
        for trials in 1..=3 {
            let mut statuses = [0; 2];
            for status in &mut statuses {
                *status = bed.ask("CCM_POST").await.0.status();
            }
            statuses.sort_unstable();
            assert_eq!(statuses, [200, 502]);
            assert_eq!((a.connections(), bed.status("a").state), (trials, BackendState::Up));
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn where_no_backend_takes_a_connection_one_is_tried_all_the_same() {
    within(async {
        let network = network();
        let bed = Bed::new(&network, &["a", "b"], |_| ()).await;
        for _ in 0..8 {
            let (answer, _) = bed.ask("GET").await;
            let told = (answer.status(), answer.reason());
            assert_eq!(told, (502, Some("CMGConnector_Backend_Unreachable")));
        }
        for name in ["a", "b"] {
            assert_eq!(bed.status(name).state, BackendState::Resting);
        }
        let _b = Role::start(&network, "b", Duration::ZERO);
        let _a = Role::start(&network, "a", Duration::ZERO);
        assert_eq!(bed.ask("GET").await.0.status(), 200, "before any rest is over");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_is_back_is_asked_whatever_is_known_of_it_once_all_others_fail() {
    for back in ["a", "b"] {
        within(async {
            let network = network();
            let bed = Bed::new(&network, &["a", "b"], |_| ()).await;
            for _ in 0..8 {
                assert_eq!(bed.ask("GET").await.0.status(), 502);
            }
            let role = Role::start(&network, back, Duration::ZERO);
            for _ in 0..8 {
                assert_eq!(bed.ask("GET").await.0.status(), 200, "{back}");
            }
            assert_eq!(role.requests(), 8);
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_of_which_something_was_sent_goes_to_no_other_backend() {
    within(async {
        let network = network();
        let a = Role::breaking_off(&network, "a");
        let b = Role::start(&network, "b", Duration::ZERO);
        let bed = Bed::new(&network, &["a", "b"], |_| ()).await;
        for (verb, each) in [("CCM_POST", 5), ("BITS_POST", 10)] {
            let mut statuses = Vec::new();
            for _ in 0..10 {
                statuses.push(bed.ask(verb).await.0.status());
            }
            let count = |status| statuses.iter().filter(|it| **it == status).count();
            assert_eq!((count(200), count(502)), (5, 5), "{verb}: {statuses:?}");
            assert_eq!((a.connections(), b.requests()), (each, each), "{verb}: each once");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_does_not_answer_in_the_endpoints_own_time_is_504_and_rests() {
    within(async {
        for (think, status) in [(1980 * MS, 200), (3 * S, 504)] {
            let network = network();
            let _a = Role::start(&network, "a", think);
            let _b = Role::start(&network, "b", Duration::ZERO);
            let bed =
                Bed::new(&network, &["a", "b"], |backend| backend.limits.answer = Some(2 * S))
                    .await;
            let mut answers = Vec::new();
            for _ in 0..12 {
                answers.push(bed.ask("GET").await);
            }
            let slow = answers.iter().filter(|(_, took)| *took > S);
            let slow: Vec<_> =
                slow.map(|(answer, took)| (answer.status(), *took < 2020 * MS)).collect();
            // One that times out rests after the third.
            let count = if status == 504 { 3 } else { 6 };
            assert_eq!(slow, vec![(status, true); count]);
            let state = if status == 504 { BackendState::Resting } else { BackendState::Up };
            assert_eq!(bed.status("a").state, state);
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_is_not_connected_to_in_the_endpoints_own_time_is_given_up() {
    within(async {
        let network = network();
        let b = Role::start(&network, "b", Duration::ZERO);
        network.partition("site", "a", Dials::Silent);
        let alone =
            Bed::new(&network, &["a"], |backend| backend.limits.connect = Some(2 * S)).await;
        let (answer, took) = alone.ask("GET").await;
        let told = (answer.status(), answer.reason());
        assert_eq!(told, (502, Some("CMGConnector_Backend_Unreachable")));
        assert!((2 * S..2 * S + 20 * MS).contains(&took), "{took:?}");

        let names = ["a", "b"];
        let bed = Bed::new(&network, &names, |backend| backend.limits.connect = Some(2 * S)).await;
        let (mut late, mut at_once) = (0, 0);
        for _ in 0..8 {
            let (answer, took) = bed.ask("CCM_POST").await;
            assert_eq!(answer.status(), 200);
            *if took < 2 * S { &mut at_once } else { &mut late } += 1;
        }
        assert_eq!((late, at_once, b.requests()), (3, 5, 8), "until the backend rests");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn no_more_connections_are_open_than_may_and_who_waits_too_long_is_told_to_come_again() {
    within(async {
        let busy = || (503, Some("CMGConnector_Backend_Busy".to_owned()));
        // Each takes a second; the limit of waiting lies on either side of one, or two.
        for (wait, refused) in [(980 * MS, 3), (1050 * MS, 1), (2090 * MS, 0)] {
            let network = network();
            let a = Role::start(&network, "a", S);
            let bed = Bed::new(&network, &["a"], |backend| {
                backend.limits.connections_max = Some(2);
                backend.limits.wait = Some(wait);
            })
            .await;
            let told = bed.ask_at_once(5).await;
            assert_eq!(told[5 - refused..], vec![busy(); refused], "waiting for {wait:?}");
            assert!(told[..5 - refused].iter().all(|it| *it == (200, None)), "{told:?}");
            assert_eq!((a.requests(), a.connections()), (5 - refused, 2), "{wait:?}");
            let status = bed.status("a");
            assert_eq!((status.in_flight, status.waiting, status.connections), (0, 0, 2));
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn who_comes_when_the_line_is_full_is_told_so_at_once() {
    within(async {
        for (wait_max, refused) in [(0, 3), (2, 1), (3, 0)] {
            let network = network();
            let _a = Role::start(&network, "a", S);
            let bed = Bed::new(&network, &["a"], |backend| {
                backend.limits.connections_max = Some(1);
                backend.limits.wait_max = Some(wait_max);
            })
            .await;
            let told = bed.ask_at_once(4).await;
            assert_eq!(told.iter().filter(|it| it.0 == 503).count(), refused, "{wait_max}");
        }
        let network = network();
        let _a = Role::start(&network, "a", 30 * S);
        let bed = Bed::new(&network, &["a"], |backend| {
            backend.limits.connections_max = Some(1);
            backend.limits.wait_max = Some(0);
        })
        .await;
        let mut first = bed.client().await;
        let request = bare("GET", &target("/SMS_MP/x"));
        let _held = tokio::spawn(async move { first.ask(request).await });
        sleep(S).await;
        let (answer, took) = bed.ask("GET").await;
        assert_eq!(answer.parts.headers["retry-after"], "1");
        assert!(took < 50 * MS, "{took:?}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn idle_connections_are_kept_as_many_and_as_long_as_the_endpoint_says() {
    within(async {
        let network = network();
        let a = Role::start(&network, "a", 100 * MS);
        let bed = Bed::new(&network, &["a"], |backend| {
            backend.limits.idle_max = Some(2);
            backend.limits.idle = Some(10 * S);
        })
        .await;
        bed.ask_at_once(4).await;
        sleep(S).await;
        assert_eq!((a.connections(), bed.status("a").connections), (4, 2));
        for (pause, connections) in [(9 * S, 4), (9 * S, 4), (11 * S, 5)] {
            sleep(pause).await;
            bed.ask("GET").await;
            assert_eq!(a.connections(), connections, "after {pause:?}");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_backend_whose_checks_fail_is_left_alone_until_one_passes() {
    let logs = Logs::capture();
    within(async {
        let network = network();
        let a = Role::start(&network, "a", Duration::ZERO);
        let b = Role::start(&network, "b", Duration::ZERO);
        let bed = Bed::new(&network, &["a", "b"], |backend| {
            backend.check = Some(BackendCheck::new("/SMS_MP/.sms_aut?MPLIST".parse().unwrap()));
        })
        .await;
        let running = tokio::spawn(bed.point.clone().run(std::future::pending()));
        sleep(5 * S).await;
        assert_eq!((a.requests(), b.requests()), (1, 1), "at once, and then each ten seconds");
        a.status.store(500, Ordering::Relaxed);
        sleep(10 * S).await;
        assert_eq!(bed.status("a").state, BackendState::Up, "one is no news");
        sleep(10 * S).await;
        assert_eq!(bed.status("a").state, BackendState::CheckFails);
        let why = "GET /SMS_MP/.sms_aut?MPLIST: status 500, not 200";
        assert_eq!(bed.status("a").why.as_deref(), Some(why));
        assert_eq!(logs.with(&["checks of the backend fail", "http://a/", why]).len(), 1);
        for _ in 0..6 {
            assert_eq!(bed.ask("GET").await.0.body, "b");
        }
        a.status.store(200, Ordering::Relaxed);
        sleep(10 * S).await;
        assert_eq!(bed.status("a").state, BackendState::Up);
        assert_eq!(logs.with(&["a check of the backend passes again", "http://a/"]).len(), 1);
        let mut who = Vec::new();
        for _ in 0..6 {
            who.push(bed.ask("GET").await.0.body);
        }
        assert_eq!(who.iter().filter(|name| **name == "a").count(), 3, "{who:?}");
        running.abort();
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_backend_is_not_asked_anything_unless_that_is_configured() {
    within(async {
        let network = network();
        let a = Role::start(&network, "a", Duration::ZERO);
        let bed = Bed::new(&network, &["a"], |_| ()).await;
        let running = tokio::spawn(bed.point.clone().run(std::future::pending()));
        sleep(60 * S).await;
        assert_eq!(a.connections(), 0);
        running.abort();
    })
    .await;
}
