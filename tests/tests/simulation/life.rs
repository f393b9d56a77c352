//! A world's life: it comes up, is struck, heals, comes to rest and ends. Each step has a limit.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Once;
use std::time::Duration;

use relay_core::transport::memory::{Event, PathFault, What};
use tokio::runtime::{Builder, Handle};
use tokio::time::{Instant, sleep, timeout};

use super::client::Outcome;
use super::director;
use super::oracles::Case;
use super::plan::{Plan, Weather};
use super::site::Delivery;
use super::world::{
    CLIENT_PORT, LINK_PORT, SITE_HOST, World, connection_point_host, instance_host,
};

/// From the end of the last fault until every link is up, and again until every counter is at rest.
const RECOVERY: Duration = Duration::from_secs(30);

/// More than the roles give to what is in flight when they stop.
const END: Duration = Duration::from_secs(70);

/// Time for a small exchange that begins with the clients.
const SETTLED: Duration = Duration::from_secs(1);

/// Lines of a trace that are shown.
const TAIL: usize = 100;

/// What became of a world.
pub(crate) struct Report {
    /// The rules that were broken.
    pub(crate) findings: Vec<String>,
    /// Stands for all that happened.
    pub(crate) digest: u64,
    /// The last lines of its trace.
    pub(crate) tail: Vec<String>,
    /// Planned faults of connections that have come about.
    pub(crate) strikes: usize,
    /// What was written on the first link before its last request, by its dialer and to it, if the
    /// path keeps it.
    pub(crate) first_link: [Vec<u8>; 2],
    pub(crate) outcomes: Vec<Outcome>,
    /// What reached the site, by the number of the request.
    pub(crate) deliveries: BTreeMap<u64, Vec<Delivery>>,
}

thread_local! {
    /// Panics of this thread: the roles' own tasks end silently by them.
    static PANICS: Cell<u64> = const { Cell::new(0) };
}

fn count_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICS.set(PANICS.get() + 1);
            before(info);
        }));
    });
}

/// Runs a world to its end, in its own time.
pub(crate) fn run(plan: Plan, planned: Option<PathFault>) -> Report {
    count_panics();
    PANICS.set(0);
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let mut report = runtime.block_on(live(plan, planned));
    if PANICS.get() > 0 {
        report.findings.push(format!("N10: {} panics", PANICS.get()));
    }
    report
}

async fn live(plan: Plan, planned: Option<PathFault>) -> Report {
    let mut world = World::start(plan, planned);
    let mut findings = Vec::new();
    if world.until(RECOVERY, World::is_meshed).await.is_none() {
        findings.push(format!("the links do not come up: {:?}", world.unrest()));
    }
    world.began = Instant::now();
    world.network.note("clients begin");
    let clients = world.start_clients();
    let mut aftermath = director::run(&mut world).await;
    sleep(SETTLED).await;
    let first_link = world.first_link();

    if world.until(RECOVERY, World::is_meshed).await.is_none() {
        findings.push(format!("the links do not come back: {:?}", world.unrest()));
    }
    let mut outcomes = Vec::new();
    for client in clients {
        outcomes.extend(client.await.unwrap());
    }
    world.network.note("clients have ended");
    if world.until(RECOVERY, |world| world.unrest().is_empty()).await.is_none() {
        findings.push(format!("no rest: {:?}", world.unrest()));
    }
    if world.plan.heals {
        // A dead link at rest may be believed alive until then.
        sleep(RECOVERY).await;
        findings.extend(world.probe().await);
    }
    for task in aftermath.draining.drain(..) {
        match timeout(END, task).await {
            Ok(Ok(report)) if report.reset > 0 && world.plan.weather == Weather::Drains => {
                findings.push(format!("N15: {report}"));
            }
            Ok(Ok(_)) => {}
            ended => findings.push(format!("N12: a drain does not end: {ended:?}")),
        }
    }
    match timeout(END, world.stop()).await {
        Ok((report, _)) if report.reset > 0 => {
            findings.push(format!("N15, at rest: {report}"));
        }
        Ok((_, left)) if left > 0 => findings.push(format!("N14: {left} links of nobody")),
        Ok(_) => {}
        Err(_) => findings.push("N12: the roles do not stop".to_owned()),
    }
    findings.append(&mut aftermath.findings.lock().unwrap());
    findings.extend(strangers(&world));
    for outcome in &outcomes {
        let ledger = world.ledgers.read();
        let deliveries = ledger.deliveries.get(&outcome.ask.id).map_or(&[][..], Vec::as_slice);
        let director::Aftermath { outages, site_outages, .. } = &aftermath;
        let case = Case { plan: &world.plan, outcome, deliveries, outages, site_outages };
        findings.extend(case.judge());
        world.network.note(format!("{} {:?} {}", outcome.ask.id, outcome.took, outcome.seen));
    }
    let trace = world.network.trace();
    let deliveries = std::mem::take(&mut world.ledgers.read().deliveries);
    drop(world);
    // Tasks that were told to end do so by themselves.
    sleep(Duration::from_secs(1)).await;
    match Handle::current().metrics().num_alive_tasks() {
        0 => {}
        tasks => findings.push(format!("N10: {tasks} tasks live on")),
    }
    let is_strike = |event: &&Event| matches!(event.what, What::Struck { .. });
    let strikes = trace.events.iter().filter(is_strike).count();
    let first = trace.events.len().saturating_sub(TAIL);
    let tail = trace.events.iter().skip(first).map(shown).collect();
    Report { findings, digest: trace.digest, tail, strikes, first_link, outcomes, deliveries }
}

/// A line of a trace, without the octets of bodies.
fn shown(event: &Event) -> String {
    event.to_string().chars().take(300).collect()
}

/// Connection points dial what is configured, and nothing else.
fn strangers(world: &World) -> Vec<String> {
    let is_connection_point = |host: &str| host.starts_with("cp-");
    let is_known = |host: &str, port: u16| {
        let is_instance = (0..world.plan.instances).any(|it| instance_host(it) == host);
        let may_https = world.plan.takes_https_links && port == CLIENT_PORT;
        is_instance && (port == LINK_PORT || may_https) || host == SITE_HOST
    };
    let dialled = world.network.who_dialled().into_iter();
    let strange = dialled
        .filter(|(from, to, port)| is_connection_point(from) && !is_known(to, *port))
        .map(|(from, to, port)| format!("N17: {from} dialled {to}:{port}"));
    let mut findings: Vec<_> = strange.collect();
    let known = (0..world.plan.connection_points).map(connection_point_host);
    let silent =
        known.filter(|host| !world.network.who_dialled().iter().any(|(from, ..)| from == host));
    findings.extend(silent.map(|host| format!("{host} dialled nobody: is it on the network?")));
    findings
}
