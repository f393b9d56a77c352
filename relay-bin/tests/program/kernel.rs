//! What the network does to links, done by the kernel of a namespace of its own: ports that refuse,
//! links that are reset, packets that vanish, processes that are killed. Under load all the while.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::admin::json;
use crate::support::load::{CONTENT, FILE, Load, Tally};
use crate::support::namespace::{self, filter};
use crate::support::nginx::Nginx;
use crate::support::role::Role;
use crate::support::site::{Site, clients_port};

/// Clients that ask all the time: as many requests are in flight.
const CLIENTS: usize = 64;

/// By when a link over which nothing comes is noticed, streams being open.
const DETECTION_MAX: Duration = Duration::from_secs(15);

/// What a request may be answered that was on a link when it was lost, and must not be sent twice.
const LOST: &str = "502 CMGService_Connector_Lost";

/// The admin listeners of the connection point and of both instances.
const POINT: u16 = 10_180;
const GATEWAYS: [u16; 2] = [10_181, 10_182];

fn at(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// How many links a gateway or connection point shows as up, by transport.
fn up(admin: u16, transport: &str) -> usize {
    let status = json(&["status"], at(admin));
    let places = status["places"].as_array().into_iter().flatten();
    let links = places.flat_map(|place| place["links"].as_array().unwrap());
    let links = status["links"].as_array().into_iter().flatten().chain(links);
    let is_up = |link: &&Value| link["state"] == "up" && link["transport"] == transport;
    links.filter(is_up).count()
}

/// Waits until a role shows `count` links of `transport`, and returns how long that took.
fn wait_for(admin: u16, transport: &str, count: usize) -> Duration {
    let begun = Instant::now();
    while up(admin, transport) != count {
        let shown = || json(&["status"], at(admin));
        assert!(begun.elapsed() < Duration::from_mins(1), "{transport} {count}:\n{:#}", shown());
    }
    begun.elapsed()
}

/// Everything that runs.
struct Bed {
    load: Load,
    gateways: [Role; 2],
    point: Role,
    site: Site,
    _nginx: Nginx,
    _home: tempfile::TempDir,
}

impl Bed {
    /// Two instances, whose link ports refuse, and a connection point.
    fn start() -> Self {
        Self::start_where(&["tcp dport { 10140, 10141 } reject with tcp reset"], "https", |_| {})
    }

    /// Two instances and a connection point of a site that `change` has changed. The packet filter
    /// has `rules`, under which two links come up to each instance by `transport`.
    fn start_where(rules: &[&str], transport: &str, change: impl FnOnce(&Site)) -> Self {
        let home = tempfile::tempdir().unwrap();
        let nginx_home = home.path().join("nginx");
        std::fs::create_dir(&nginx_home).unwrap();
        let nginx = Nginx::start(&nginx_home);
        nginx.publish(FILE, CONTENT);
        let site = Site::init_with_customary_ports(home.path(), &nginx);
        site.have_links_climb_each_second();
        change(&site);
        filter(&rules.iter().map(|&rule| rule.to_owned()).collect::<Vec<_>>());
        let gateways = [1, 2].map(|number| site.start_gateway(number));
        let point = site.start_connection_point_in("connection-point");
        let instances = [1, 2].map(|number| at(clients_port(number)));
        for gateway in GATEWAYS {
            wait_for(gateway, transport, 2);
        }
        let load = Load::start(&site.ca(), &instances, CLIENTS);
        load.wait_for(500);
        Self { load, gateways, point, site, _nginx: nginx, _home: home }
    }

    /// What failed since `before`, by kind.
    fn failed_since(&self, before: &Tally) -> Vec<(String, u64)> {
        let now = self.load.tally().failed;
        let since = |(kind, count): (&String, &u64)| {
            let more = count - before.failed.get(kind).unwrap_or(&0);
            (more > 0).then(|| (kind.clone(), more))
        };
        now.iter().filter_map(since).collect()
    }

    /// Has it recover. Returns what failed meanwhile.
    fn heal(&self) -> Vec<(String, u64)> {
        let before = self.load.tally();
        filter(&[]);
        for gateway in GATEWAYS {
            wait_for(gateway, "tcp-tls", 2);
        }
        self.load.wait_for(500);
        self.failed_since(&before)
    }

    /// Has it recover from a fault of which one side may not know yet: what is on a half-open link
    /// is lost when it learns of it.
    fn recover(&self) {
        let failed = self.heal();
        println!("  back on the link ports; failed: {failed:?}");
        assert!(failed.iter().all(|(kind, _)| kind == LOST), "{failed:?}");
    }
}

#[test]
fn links_survive_what_the_network_does_to_them() {
    namespace::inside("kernel::links_survive_what_the_network_does_to_them", || {
        let mut bed = Bed::start();
        println!("link ports refuse: links are up over HTTPS, {} answered", answered(&bed));
        assert_eq!(bed.heal(), [], "while links climbed back");
        println!("link ports open: links are back on them, nothing failed");
        if std::env::var_os("ONLY").is_some() {
            return;
        }
        resets(&bed);
        vanishing_packets(&bed);
        a_killed_instance(&mut bed);
        a_killed_connection_point(&mut bed);
        let tally = bed.load.stop();
        println!("{} requests answered; failed: {:?}", tally.answered, tally.failed);
    });
}

#[test]
fn links_go_over_tcp_while_udp_is_blocked() {
    namespace::inside("kernel::links_go_over_tcp_while_udp_is_blocked", || {
        let blocked = ["udp dport { 10140, 10141 } drop"];
        let bed = Bed::start_where(&blocked, "tcp-tls", Site::enable_quic);
        println!("UDP is swallowed: links are up over TCP, {} answered", answered(&bed));
        let before = bed.load.tally();
        filter(&[]);
        for gateway in GATEWAYS {
            // One over QUIC needs no other beside it.
            wait_for(gateway, "quic", 1);
            wait_for(gateway, "tcp-tls", 0);
        }
        bed.load.wait_for(500);
        assert_eq!(bed.failed_since(&before), [], "while links climbed to QUIC");
        println!("UDP gets through: links are on QUIC, nothing failed");
        let before = bed.load.tally();
        filter(&[blocked[0].to_owned(), "udp sport { 10140, 10141 } drop".to_owned()]);
        let noticed = wait_for(GATEWAYS[0], "quic", 0);
        let took = wait_for(GATEWAYS[0], "tcp-tls", 2);
        bed.load.wait_for(500);
        println!(
            "UDP is swallowed again: noticed after {noticed:?}, up over TCP {took:?} later; \
             failed: {:?}",
            bed.failed_since(&before)
        );
        // Others share this machine's processors.
        assert!(noticed < DETECTION_MAX + Duration::from_secs(5), "{noticed:?}");
        bed.load.stop();
    });
}

fn answered(bed: &Bed) -> u64 {
    bed.load.tally().answered
}

/// Links of instance 1 are reset, and its port refuses: they come back over HTTPS.
fn resets(bed: &Bed) {
    let before = bed.load.tally();
    filter(&["tcp dport 10140 reject with tcp reset".to_owned()]);
    let took = wait_for(GATEWAYS[0], "https", 2);
    bed.load.wait_for(500);
    let failed = bed.failed_since(&before);
    println!("links reset: up over HTTPS after {took:?}; failed: {failed:?}");
    assert!(failed.iter().all(|(kind, _)| kind == LOST), "{failed:?}");
    bed.recover();
}

/// Packets of instance 1's links vanish in both directions.
fn vanishing_packets(bed: &Bed) {
    let before = bed.load.tally();
    filter(&["tcp dport 10140 drop".to_owned(), "tcp sport 10140 drop".to_owned()]);
    let at_gateway = wait_for(GATEWAYS[0], "tcp-tls", 0);
    // The other instance's two are left.
    let at_point = at_gateway + wait_for(POINT, "tcp-tls", 2);
    println!("packets vanish: noticed after {at_gateway:?} and {at_point:?}");
    // Others share this machine's processors.
    let slack = Duration::from_secs(5);
    assert!(at_gateway < DETECTION_MAX + slack, "{at_gateway:?}");
    assert!(at_point < DETECTION_MAX + slack, "{at_point:?}");
    let took = wait_for(GATEWAYS[0], "https", 2);
    bed.load.wait_for(500);
    let failed = bed.failed_since(&before);
    println!("  up over HTTPS {took:?} later; failed: {failed:?}");
    let slowest = bed.load.tally().slowest;
    assert!(slowest < DETECTION_MAX + slack, "{slowest:?}");
    bed.recover();
}

/// Instance 1 ends without a word to anybody.
fn a_killed_instance(bed: &mut Bed) {
    let before = bed.load.tally();
    bed.gateways[0].kill();
    let killed = Instant::now();
    bed.load.wait_for(1);
    let next = bed.load.tally().last_good.unwrap().duration_since(killed);
    bed.load.wait_for(500);
    let failed = bed.failed_since(&before);
    println!(
        "instance killed, {CLIENTS} in flight: next answer after {next:?}; failed: {failed:?}"
    );
    // What its clients had asked, and no more: each of them goes to the other instance.
    let count: u64 = failed.iter().map(|(_, count)| count).sum();
    assert!(failed.iter().all(|(kind, _)| kind.starts_with("broken off")), "{failed:?}");
    assert!(count <= CLIENTS as u64, "{failed:?}");
    bed.gateways[0] = bed.site.start_gateway(1);
    bed.recover();
}

/// The connection point ends without a word, and is started again.
fn a_killed_connection_point(bed: &mut Bed) {
    let before = bed.load.tally();
    bed.point.kill();
    let killed = Instant::now();
    bed.point = bed.site.start_connection_point_in("connection-point");
    bed.load.wait_for(1);
    let next = bed.load.tally().last_good.unwrap().duration_since(killed);
    bed.load.wait_for(500);
    let failed = bed.failed_since(&before);
    println!(
        "connection point killed and started, {CLIENTS} in flight: next answer after {next:?}; \
         failed: {failed:?}"
    );
    // Whoever comes while there is no link waits for it.
    assert!(failed.iter().all(|(kind, _)| kind == LOST), "{failed:?}");
}
