//! Rolling restarts of real processes under load: not one request may fail.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::admin::json;
use crate::support::load::{CONTENT, FILE, Load};
use crate::support::namespace;
use crate::support::nginx::Nginx;
use crate::support::role::Role;
use crate::support::site::{Site, clients_port};

/// How often each kind of process is restarted.
const RESTARTS: usize = 20;

/// Clients that ask all the time.
const CLIENTS: usize = 16;

/// Good answers between two restarts.
const BETWEEN: u64 = 50;

const CONNECTION_POINTS: [&str; 2] = ["connection-point", "connection-point-2"];

#[test]
fn twenty_rolling_restarts_of_either_role_fail_no_request() {
    let name = "restarts::twenty_rolling_restarts_of_either_role_fail_no_request";
    namespace::inside(name, || {
        let home = tempfile::tempdir().unwrap();
        let nginx_home = home.path().join("nginx");
        std::fs::create_dir(&nginx_home).unwrap();
        let nginx = Nginx::start(&nginx_home);
        nginx.publish(FILE, CONTENT);
        let site = Site::init_with_customary_ports(home.path(), &nginx);
        site.add_connection_point();
        let mut gateways = [1, 2].map(|number| site.start_gateway(number));
        let mut points = CONNECTION_POINTS.map(|it| site.start_connection_point_in(it));
        wait_for_links();

        let instances =
            [1, 2].map(|number| SocketAddr::from(([127, 0, 0, 1], clients_port(number))));
        let load = Load::start(&site.ca(), &instances, CLIENTS);
        load.wait_for(BETWEEN);
        for turn in 0..2 * RESTARTS {
            let which = turn / 2 % 2;
            if turn % 2 == 0 {
                replace(&mut gateways[which], || site.start_gateway(which + 1));
            } else {
                replace(&mut points[which], || {
                    site.start_connection_point_in(CONNECTION_POINTS[which])
                });
            }
            wait_for_links();
            load.wait_for(BETWEEN);
        }
        let tally = load.stop();
        println!(
            "{RESTARTS} restarts of gateway processes and {RESTARTS} of connection-point \
             processes: {} requests answered, the slowest in {:?}; failed: {:?}",
            tally.answered, tally.slowest, tally.failed
        );
        assert!(tally.failed.is_empty(), "{tally:?}");
    });
}

/// Stops a role as an administrator does, and starts it anew in its place.
fn replace(role: &mut Role, start: impl FnOnce() -> Role) {
    role.ask_to_stop();
    role.wait_for_end();
    *role = start();
}

/// Waits until each instance has two links of each connection point.
fn wait_for_links() {
    let is_up = |link: &&Value| link["state"] == "up";
    for instance in [1, 2] {
        let admin = SocketAddr::from(([127, 0, 0, 1], 10_180 + instance));
        let links = || {
            let status = json(&["status"], admin);
            status["links"].as_array().unwrap().iter().filter(is_up).count()
        };
        let begun = Instant::now();
        while links() != 4 {
            assert!(begun.elapsed() < Duration::from_mins(2), "{:#}", json(&["status"], admin));
        }
    }
}
