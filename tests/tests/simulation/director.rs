//! Has the planned faults happen, each at its time, and ends those that last.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use relay_core::link::{self, DrainReport};
use relay_core::mux::{Config, Side};
use relay_core::transport::memory::{Crash, Dials, Direction, MemoryHost, PathFault, PlannedFault};
use relay_core::transport::{LINK_ALPN, link_client_config, secure_link};
use tokio::task::JoinHandle;
use tokio::time::{sleep_until, timeout};

use super::identities::{FOREIGN, SITE};
use super::plan::Fault;
use super::world::{
    LINK_PORT, SERVICE, SITE_HOST, SITE_NAME, World, connection_point_host, instance_host,
};

/// How long somebody who is no link waits to be taken for one.
const ROGUE: Duration = Duration::from_secs(20);

/// What a rogue shows who claims to be a connection point.
#[derive(Clone, Copy, Debug)]
enum Claim {
    /// No certificate.
    Bare,
    /// The right name in another site's certificate.
    Foreign,
    /// Another name in the site's own.
    OtherName,
}

impl Claim {
    const ALL: [Self; 3] = [Self::Bare, Self::Foreign, Self::OtherName];
}

/// What is done next.
enum Step {
    Begin(Fault, Duration),
    End(Fault),
}

/// When an instance was not there for its clients, from when to when.
pub(crate) type Outages = Vec<(usize, Duration, Duration)>;

/// When the site roles were not there, from when to when.
pub(crate) type SiteOutages = Vec<(Duration, Duration)>;

/// What the faults have left behind.
#[derive(Default)]
pub(crate) struct Aftermath {
    pub(crate) outages: Outages,
    pub(crate) site_outages: SiteOutages,
    /// Roles that stop in good order.
    pub(crate) draining: Vec<JoinHandle<DrainReport>>,
    rogues: Vec<JoinHandle<()>>,
    pub(crate) findings: Arc<Mutex<Vec<String>>>,
}

/// Runs the plan's faults to the end of the last one.
pub(crate) async fn run(world: &mut World) -> Aftermath {
    let mut steps: BTreeMap<(Duration, usize), Step> = BTreeMap::new();
    for (number, timed) in world.plan.faults.iter().enumerate() {
        steps.insert((timed.at, number), Step::Begin(timed.fault.clone(), timed.lasts));
    }
    let mut aftermath = Aftermath::default();
    let mut number = steps.len();
    while let Some(((at, _), step)) = steps.pop_first() {
        sleep_until(world.began + at).await;
        match step {
            Step::Begin(fault, lasts) => {
                world.network.note(format!("{fault:?} for {lasts:?}"));
                begin(world, &fault, lasts, &mut aftermath).await;
                steps.insert((at + lasts, number), Step::End(fault));
                number += 1;
            }
            Step::End(fault) => end(world, &fault),
        }
    }
    for rogue in aftermath.rogues.drain(..) {
        let _ = rogue.await;
    }
    world.network.note("the last fault has ended");
    if world.plan.heals {
        world.network.heal_all();
    }
    world.start_missing();
    aftermath
}

async fn begin(world: &mut World, fault: &Fault, lasts: Duration, aftermath: &mut Aftermath) {
    let now = world.began.elapsed();
    match *fault {
        Fault::CutLink { connection_point, instance } => {
            let ends = (connection_point_host(connection_point), instance_host(instance));
            if let Some(link) = world.network.between(&ends.0, &ends.1).first() {
                world.network.cut(*link);
            }
        }
        Fault::Storm => storm(world),
        Fault::CutAt { instance, direction, octet } => {
            let fault = PathFault { direction, octet, fault: PlannedFault::Cut };
            strike_next(world, instance, fault);
        }
        Fault::HoldAt { instance, direction, octet } => {
            let fault = PathFault { direction, octet, fault: PlannedFault::Hold };
            strike_next(world, instance, fault);
        }
        Fault::HoldLink { connection_point, instance, direction } => {
            let ends = (connection_point_host(connection_point), instance_host(instance));
            for link in world.network.between(&ends.0, &ends.1) {
                world.network.hold(link, direction);
            }
        }
        Fault::Partition { connection_point, instance, dials } => {
            let ends = (connection_point_host(connection_point), instance_host(instance));
            world.network.partition(&ends.0, &ends.1, dials);
        }
        Fault::CrashConnectionPoint { connection_point, crash } => {
            world.crash_connection_point(connection_point, crash).await;
        }
        Fault::CrashInstance { instance, crash } => {
            aftermath.outages.push((instance, now, now + lasts));
            world.crash_instance(instance, crash).await;
        }
        Fault::DrainConnectionPoint { connection_point } => {
            aftermath.draining.extend(world.stop_connection_point(connection_point));
        }
        Fault::DrainInstance { instance } => {
            aftermath.outages.push((instance, now, now + lasts));
            aftermath.draining.extend(world.stop_instance(instance));
        }
        Fault::DrainLinks { instance } => {
            aftermath.draining.extend(world.drain_links(instance));
        }
        Fault::CutOff { connection_point } => {
            let host = connection_point_host(connection_point);
            world.network.partition(&host, SITE_HOST, Dials::Refused);
        }
        Fault::CutBackends => {
            for connection_point in 0..world.plan.connection_points {
                let host = connection_point_host(connection_point);
                for connection in world.network.between(&host, SITE_HOST) {
                    world.network.cut(connection);
                }
            }
        }
        Fault::CrashSite { crash } => {
            aftermath.site_outages.push((now, now + lasts));
            world.crash_site(crash).await;
        }
        Fault::Rogue { instance } => {
            for claim in Claim::ALL {
                let host = world.network.host("rogue");
                let findings = Arc::clone(&aftermath.findings);
                aftermath.rogues.push(tokio::spawn(rogue(host, instance, claim, findings)));
            }
        }
    }
}

fn end(world: &mut World, fault: &Fault) {
    match *fault {
        Fault::HoldLink { connection_point, instance, .. } => {
            let ends = (connection_point_host(connection_point), instance_host(instance));
            for link in world.network.between(&ends.0, &ends.1) {
                for direction in Direction::BOTH {
                    world.network.release(link, direction);
                }
            }
        }
        Fault::Partition { connection_point, instance, .. } => {
            let ends = (connection_point_host(connection_point), instance_host(instance));
            world.network.heal(&ends.0, &ends.1);
        }
        Fault::CutOff { connection_point } => {
            world.network.heal(&connection_point_host(connection_point), SITE_HOST);
        }
        Fault::CrashConnectionPoint { connection_point, crash } => {
            restart(world, &connection_point_host(connection_point), crash);
            world.start_missing();
        }
        Fault::CrashInstance { instance, crash } => {
            restart(world, &instance_host(instance), crash);
            world.start_missing();
        }
        Fault::CrashSite { crash } => {
            restart(world, SITE_HOST, crash);
            world.start_missing();
        }
        Fault::DrainConnectionPoint { .. } | Fault::DrainInstance { .. } => world.start_missing(),
        _ => {}
    }
}

fn restart(world: &World, host: &str, crash: Crash) {
    if crash == Crash::Machine {
        world.network.restart(host);
    }
}

fn storm(world: &World) {
    for connection_point in (0..world.plan.connection_points).map(connection_point_host) {
        for instance in (0..world.plan.instances).map(instance_host) {
            for link in world.network.between(&connection_point, &instance) {
                world.network.cut(link);
            }
        }
    }
}

/// Cuts the links to an instance, so that the next dial comes at once, and has a fault wait for it.
fn strike_next(world: &World, instance: usize, fault: PathFault) {
    let host = instance_host(instance);
    world.network.plan(&host, LINK_PORT, 0, fault);
    if let Some(link) = world.network.between(&connection_point_host(0), &host).first() {
        world.network.cut(*link);
    }
}

/// Somebody who wants to be a link, and to take the place of one.
async fn rogue(host: MemoryHost, instance: usize, claim: Claim, findings: Arc<Mutex<Vec<String>>>) {
    let shows = |identity| link_client_config(identity, &SITE.anchors()).unwrap();
    let tls = match claim {
        Claim::Bare => SITE.client_tls(LINK_ALPN),
        Claim::Foreign => shows(&FOREIGN.connection_point),
        Claim::OtherName => shows(&SITE.stranger),
    };
    let attempt = async {
        let stream = host.dial(&instance_host(instance), LINK_PORT).await.ok()?;
        let stream = secure_link(stream, SERVICE, tls).await.ok()?;
        let (name, site) = (connection_point_host(0), SITE_NAME.to_owned());
        let config = Config { name, site, epoch: u64::MAX, ..Config::default() };
        let (link, driver) = link::new(stream, Side::Dialer, config).unwrap();
        let _driver = tokio::spawn(driver);
        link.accept().await.ok()
    };
    if let Ok(Some(_)) = timeout(ROGUE, attempt).await {
        let text = format!("N18: a rogue got a request: {claim:?}");
        findings.lock().unwrap().push(text);
    }
}
