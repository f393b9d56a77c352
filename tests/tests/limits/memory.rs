//! What is refused for the memory that is in use, of which the tests say how much it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use http::Response;
use relay_core::gateway::{MemoryLimit, Pressure};
use relay_tests::client::{Client, Http, bare};
use relay_tests::logs::Logs;
use relay_tests::roles::{House, counted, target, until, within};
use relay_tests::running::{Instance, connection_point};
use relay_tests::site::{Backend, Body, full, nobody};
use tokio::sync::Notify;

/// Octets that may be in use.
const MAX: u64 = 1000;

/// How many are.
#[derive(Clone, Default)]
struct Used(Arc<AtomicU64>);

impl Used {
    fn limit(&self) -> MemoryLimit {
        let used = Arc::clone(&self.0);
        MemoryLimit::new("resident", MAX, move || Ok(used.load(Ordering::Relaxed)))
    }

    /// Has `octets` be in use, and waits until that is known.
    async fn set(&self, octets: u64, instance: &Instance) -> Pressure {
        self.0.store(octets, Ordering::Relaxed);
        let status = || instance.gateway.status().memory.unwrap();
        until(|| status().used == octets).await;
        status().pressure
    }
}

/// Asks for what only the site can answer; status, reason and when to come back.
async fn ask(client: &mut Client) -> (u16, Option<String>, Option<String>) {
    let answer = client.ask(bare("GET", &target("/SMS_MP/x"))).await;
    let retry = answer.parts.headers.get("retry-after").map(|it| it.to_str().unwrap().to_owned());
    (answer.status(), answer.reason().map(str::to_owned), retry)
}

/// As [`ask`], by each client of a pair.
async fn asked([one, other]: &mut [Client; 2]) -> [(u16, Option<String>, Option<String>); 2] {
    [ask(one).await, ask(other).await]
}

fn served() -> (u16, Option<String>, Option<String>) {
    (200, None, None)
}

fn refused() -> (u16, Option<String>, Option<String>) {
    (503, Some("CMGService_Out_Of_Memory".to_owned()), Some("5".to_owned()))
}

/// A client of each protocol.
async fn pair(house: &House, instance: &Instance) -> [Client; 2] {
    [instance.client(house, Http::One).await, instance.client(house, Http::Two).await]
}

/// Answers, once it may.
async fn answer(held: Option<Arc<Notify>>) -> Response<Body> {
    if let Some(held) = held {
        held.notified().await;
    }
    Response::new(full("whole"))
}

#[tokio::test]
async fn above_85_percent_new_requests_are_503_and_what_is_in_flight_goes_on_until_80() {
    within(async {
        let go_on = Arc::new(Notify::new());
        let held = Arc::clone(&go_on);
        let backend = Backend::start(move |request| {
            answer(request.uri().path().ends_with("/held").then(|| Arc::clone(&held)))
        });
        let backend = backend.await;
        let (mut house, used) = (House::before(backend.address), Used::default());
        house.gateway_limits.memory = Some(used.limit());
        let instance = Instance::start(&house, 1).await;
        let _point = connection_point(&house, &[instance.links]);
        instance.until_links(1).await;
        let mut in_flight = instance.client(&house, Http::One).await;
        let in_flight =
            tokio::spawn(async move { in_flight.ask(bare("GET", &target("/SMS_MP/held"))).await });
        backend.until_in_flight(1).await;

        let mut stays = pair(&house, &instance).await;
        // While nobody is accepted, only those are asked that were before.
        let mut others = Vec::new();
        for _ in 0..5 {
            others.push(pair(&house, &instance).await);
        }
        for (octets, pressure, answer) in [
            (849, Pressure::Calm, served()),
            (850, Pressure::Calm, served()),
            (851, Pressure::Refuse, refused()),
            (801, Pressure::Refuse, refused()),
            (800, Pressure::Calm, served()),
            (921, Pressure::Pause, refused()),
            (871, Pressure::Pause, refused()),
            (870, Pressure::Refuse, refused()),
        ] {
            assert_eq!(used.set(octets, &instance).await, pressure, "{octets}");
            if answer == served() {
                assert_eq!(asked(&mut stays).await, [served(), served()], "{octets}");
                continue;
            }
            let mut pair = others.pop().unwrap();
            assert_eq!(asked(&mut pair).await, [refused(), refused()], "{octets}");
            // Or they would come again, and keep their memory.
            let [one, other] = pair;
            one.until_closed().await;
            other.until_closed().await;
        }
        // Nothing but new requests is refused.
        assert_eq!(instance.gateway.links(), 1);
        assert_eq!(ask(&mut instance.client(&house, Http::Two).await).await, refused());
        go_on.notify_one();
        assert_eq!(&*in_flight.await.unwrap().body, b"whole");
    })
    .await;
}

#[tokio::test]
async fn above_92_percent_no_client_is_accepted_and_links_are_until_87() {
    within(async {
        let (mut house, used) = (House::before(nobody().await), Used::default());
        house.gateway_limits.memory = Some(used.limit());
        let instance = Instance::start(&house, 1).await;
        for octets in [919, 920] {
            assert_eq!(used.set(octets, &instance).await, Pressure::Refuse);
            drop(instance.client(&house, Http::One).await);
        }
        let mut before = instance.client(&house, Http::One).await;
        assert_eq!(used.set(921, &instance).await, Pressure::Pause);
        let mut late = Box::pin(instance.client(&house, Http::One));
        // A whole link comes up meanwhile, and requests are answered.
        let meanwhile = async {
            let _point = connection_point(&house, &[instance.links]);
            instance.until_links(1).await;
            assert_eq!(ask(&mut before).await, refused());
            assert_eq!(used.set(871, &instance).await, Pressure::Pause);
        };
        tokio::select! {
            biased;
            _ = late.as_mut() => panic!("a client was accepted"),
            () = meanwhile => {}
        }
        assert_eq!(used.set(870, &instance).await, Pressure::Refuse);
        assert_eq!(ask(&mut late.await).await, refused());
        let counts = counted(instance.gateway.status().counts);
        assert_eq!(counts, [("memory_pause", 1), ("CMGService_Out_Of_Memory", 2)].into());
    })
    .await;
}

#[tokio::test]
async fn each_change_is_logged_once() {
    within(async {
        let (mut house, used) = (House::before(nobody().await), Used::default());
        house.gateway_limits.memory = Some(used.limit());
        let instance = Instance::start(&house, 1).await;
        let logs = Logs::capture();
        for octets in [851, 852, 921, 922, 1, 2] {
            used.set(octets, &instance).await;
        }
        let told = |part| logs.with(&[part]).len();
        assert_eq!((told("memory is short"), told("memory is no longer short")), (2, 1));
    })
    .await;
}
