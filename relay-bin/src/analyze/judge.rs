//! Judges what was seen: which checks pass, which fail and why, which cannot be made.
//!
//! Pure: evidence in, verdicts out. Each check is judged by what it needs alone, so that one layer
//! that is broken has one check fail: those that need it are skipped, and say so.

use std::collections::{BTreeMap, BTreeSet};

use super::evidence::{Ends, Evidence, Instance, Kind, LinkPort, Metadata, Published, Trouble};
use super::verdict::{Cause, Check, Item, Judging, Step, Verdict};

/// The first five checks. The sixth depends on them: see [`super::channel`].
pub(super) fn judge(seen: &Evidence) -> Vec<Check> {
    let service = service(seen);
    let name = name(seen);
    let version = version(seen);
    let connected = connected(seen);
    let published = published(seen);
    vec![service, name, version, connected, published]
}

/// What the sixth check waits for, if anything.
pub(super) fn channel_waits_for(seen: &Evidence, checks: &[Check]) -> Option<(Step, &'static str)> {
    if let Some(missing) = nobody_answers(seen) {
        return Some(missing);
    }
    if seen.answering().all(|(_, told)| told.connected == Some(false)) {
        return Some((Step::Connected, "no instance that answers has a connection point"));
    }
    let is_failed = |step: Step| {
        checks.iter().any(|it| it.number == step.number() && it.verdict == Verdict::Fail)
    };
    if is_failed(Step::Published) {
        return Some((Step::Published, "nothing is published that could be asked"));
    }
    None
}

/// What keeps every later check, if no instance has told anything.
fn nobody_answers(seen: &Evidence) -> Option<(Step, &'static str)> {
    if seen.answering().next().is_some() {
        return None;
    }
    if seen.instances.iter().any(|it| it.not_serving().is_some()) {
        return Some((Step::Service, "no instance serves"));
    }
    let is_dialled = seen.instances.iter().any(|it| it.dialled.came.is_ok());
    Some(if seen.name.came.is_err() || is_dialled {
        (Step::Name, "no instance has told anything about itself")
    } else {
        (Step::Service, "no instance takes a connection")
    })
}

fn item_of<T>(asked: String, took: std::time::Duration, came: &Result<T, Trouble>) -> Item {
    let came = came.as_ref().map_or_else(|trouble| trouble.told.as_str(), |_| "taken");
    Item::new(asked, came).took(took)
}

fn service(seen: &Evidence) -> Check {
    let mut judging = Judging::of(Step::Service);
    for instance in &seen.instances {
        let Instance { address, dialled, .. } = instance;
        judging.saw(item_of(format!("TCP to {address}"), dialled.took, &dialled.came));
        if let Err(trouble) = &dialled.came {
            judging.blame(no_port(trouble));
        }
        if let Some(why) = instance.not_serving() {
            judging.saw(Item::new(format!("whether {address} serves"), why.told.clone()));
            let means = format!("{address}: {}", why.told);
            judging.blame(Cause::new("service_stopped", means, why.next.clone()));
        }
    }
    let mut by_instance: BTreeMap<u64, Vec<&LinkPort>> = BTreeMap::new();
    for port in &seen.links {
        let asked = format!("TCP to the link port {}:{}", port.host, port.port);
        let asked = format!("{asked} of instance {}", port.instance);
        judging.saw(item_of(asked, port.dialled.took, &port.dialled.came));
        by_instance.entry(port.instance).or_default().push(port);
    }
    for (instance, ports) in &by_instance {
        if let Some(trouble) = no_link_port(ports).filter(|_| !is_linked(seen, *instance)) {
            let Cause { id, means, next } = no_port(trouble);
            judging.blame(Cause::new(id, format!("instance {instance}: {means}"), next));
        }
    }
    let is_judged = |ports: &[LinkPort]| ports.iter().any(|port| !is_unknown(port));
    if seen.instances.is_empty() && !is_judged(&seen.links) {
        return judging.waits_for(Step::Name, "no address of the service is known");
    }
    judging.judged()
}

/// Whether a port was not asked at all, because its host has no address.
fn is_unknown(port: &LinkPort) -> bool {
    port.dialled.came.as_ref().is_err_and(|trouble| trouble.kind == Kind::Name)
}

/// Why an instance takes links at none of its ports, if it takes none.
fn no_link_port<'a>(ports: &[&'a LinkPort]) -> Option<&'a Trouble> {
    if ports.iter().any(|port| port.dialled.came.is_ok()) {
        return None;
    }
    let mut asked = ports.iter().filter(|port| !is_unknown(port));
    asked.find_map(|port| port.dialled.came.as_ref().err())
}

/// Whether a link to an instance is up, whatever became of the ports as seen from here.
fn is_linked(seen: &Evidence, instance: u64) -> bool {
    let by_point = seen.connection_point().and_then(|point| point.is_linked(instance));
    let says_so = |told: &Metadata| told.instance == instance && told.connected == Some(true);
    by_point == Some(true) || seen.answering().any(|(_, told)| says_so(told))
}

fn no_port(trouble: &Trouble) -> Cause {
    match trouble.kind {
        Kind::Silent => Cause::new(
            "port_silent",
            format!("{}: a firewall drops what is sent there, or nothing runs", trouble.told),
            "open the port on the way there; a firewall that drops says nothing, so ask those who \
             run it; else see that the instance runs",
        ),
        _ => Cause::new(
            "port_closed",
            format!("{}: nothing listens there, or a firewall refuses", trouble.told),
            "start the gateway, or see why it does not: `relay gateway --config gateway.toml \
             --check`, and its log; check the port and firewalls",
        ),
    }
}

fn name(seen: &Evidence) -> Check {
    let mut judging = Judging::of(Step::Name);
    let asked = format!("the addresses of {}", seen.host);
    match &seen.name.came {
        Ok(found) => {
            let found: Vec<_> = found.iter().map(ToString::to_string).collect();
            judging.saw(Item::new(asked, found.join(", ")).took(seen.name.took));
        }
        Err(trouble) => {
            judging.saw(Item::new(asked, trouble.told.clone()).took(seen.name.took));
            judging.blame(of_name(trouble));
            return judging.judged();
        }
    }
    for instance in &seen.instances {
        let Some(tried) = &instance.told else { continue };
        let asked = format!("ServiceMetadata of {}", instance.address);
        match &tried.came {
            Ok(told) => {
                let Metadata { service, instance: number, software_version, .. } = told;
                let came = format!("instance {number} of {service}, version {software_version}");
                judging.saw(Item::new(asked, came).took(tried.took));
            }
            Err(trouble) => {
                judging.saw(Item::new(asked, trouble.told.clone()).took(tried.took));
                // Name and TLS are right where a gateway says that it does not serve.
                if trouble.kind != Kind::NotServing {
                    judging.blame(of_name(trouble));
                }
            }
        }
        if let Some(ends) = &instance.certificate {
            let Ends { days_left, at, .. } = ends;
            let asked = format!("the certificate of {}", instance.address);
            judging.saw(Item::new(asked, format!("holds for {days_left} more days, to {at}")));
            warn_of(&mut judging, ends);
        }
    }
    if seen.instances.iter().all(|instance| instance.told.is_none()) {
        return judging.waits_for(Step::Service, "no instance takes a connection");
    }
    judging.judged()
}

/// Warns of what is near its end, or over and still used.
fn warn_of(judging: &mut Judging, ends: &Ends) {
    let Ends { what, name, place, at, days_left, is_near } = ends;
    if *days_left < 0 {
        let means = format!("the {what} {name} ({place}) is over since {at}");
        let next = "put a new one in its place; whoever needs it is refused";
        judging.warn(Cause::new("over", means, next));
    } else if *is_near {
        let means = format!("the {what} {name} ({place}) ends in {days_left} days, at {at}");
        let next = "put a new one in its place, which is read by itself: `relay pki renew`, or \
                    whoever has issued it. From its end on, whoever needs it is refused";
        judging.warn(Cause::new("ends_soon", means, next));
    }
}

/// The likely cause of trouble between the name and what the gateway says of itself.
fn of_name(trouble: &Trouble) -> Cause {
    let id = match trouble.kind {
        Kind::Name => "name_unresolved",
        Kind::Untrusted => "tls_untrusted",
        Kind::WrongName => "tls_wrong_name",
        Kind::NotNow => "tls_not_valid_now",
        Kind::Alert => "tls_refused",
        Kind::NoTls => "no_tls",
        Kind::NotAGateway => "not_a_gateway",
        Kind::NotServing => "service_stopped",
        Kind::Closed | Kind::Silent => "gateway_silent",
        Kind::Broken => "connection_broke",
    };
    let means = match trouble.kind {
        Kind::Untrusted => format!(
            "{}; or the gateway does not show an intermediate certificate that leads there",
            trouble.told
        ),
        Kind::Silent => format!("{}: it takes connections and does not serve them", trouble.told),
        _ => trouble.told.clone(),
    };
    Cause::new(id, means, trouble.next.clone())
}

/// What one site should be at, everywhere.
struct Expected {
    version: String,
    /// Who says so.
    from: String,
}

fn version(seen: &Evidence) -> Check {
    let mut judging = Judging::of(Step::Version);
    if let Some((step, because)) = nobody_answers(seen) {
        return judging.waits_for(step, because);
    }
    let sites: BTreeSet<&str> =
        seen.answering().flat_map(|(_, told)| &told.sites).map(|site| site.name.as_str()).collect();
    for (_, told) in seen.answering() {
        let asked = format!("the settings of instance {}", told.instance);
        judging.saw(Item::new(asked, versions_of(told)));
        if told.sites.is_empty() && told.connected == Some(true) {
            judging.blame(no_settings(seen, told.instance));
        }
    }
    for site in &sites {
        let Some(expected) = expected(seen, site, sites.len()) else { continue };
        judging.saw(Item::new(
            format!("the version of site {site} that is expected"),
            format!("{} ({})", expected.version, expected.from),
        ));
        for (_, told) in seen.answering() {
            if let Some(cause) = differs(seen, told, site, &expected) {
                judging.blame(cause);
            }
        }
    }
    for refused in refused_elsewhere(seen) {
        judging.blame(of_publication(refused));
    }
    let is_waiting = seen.answering().all(|(_, told)| told.connected != Some(true));
    if sites.is_empty() && is_waiting && !judging.is_blamed() {
        return judging
            .waits_for(Step::Connected, "nobody has told the instances any settings yet");
    }
    judging.judged()
}

fn versions_of(told: &Metadata) -> String {
    let versions = told.sites.iter();
    let versions = versions.map(|it| format!("{} of site {}", it.configuration_version, it.name));
    let versions: Vec<_> = versions.collect();
    if versions.is_empty() { "none yet".to_owned() } else { versions.join(", ") }
}

/// The version that `site` should have: as the administrator says, or as its connection point
/// does, or the highest of any instance.
fn expected(seen: &Evidence, site: &str, sites: usize) -> Option<Expected> {
    let is_meant = seen.site.as_deref().map_or(sites == 1, |named| named == site);
    if let Some(version) = seen.version_expected.filter(|_| is_meant) {
        let from = "--expect-version".to_owned();
        return Some(Expected { version: version.to_string(), from });
    }
    let point = seen.connection_point().filter(|_| is_meant);
    if let Some((point, version)) = point.and_then(|it| Some((it, it.version()?))) {
        let from = format!("what {} publishes", point.name);
        return Some(Expected { version: version.to_string(), from });
    }
    let of_site = |told: &Metadata| {
        let site = told.sites.iter().find(|it| it.name == site)?;
        Some((site.configuration_version.parse::<u64>().ok()?, told.instance))
    };
    let (version, instance) = seen.answering().filter_map(|(_, told)| of_site(told)).max()?;
    let from = format!("the highest, of instance {instance}");
    Some(Expected { version: version.to_string(), from })
}

/// Why an instance is not at the version that is expected of a site, if it is at another one.
fn differs(seen: &Evidence, told: &Metadata, name: &str, expected: &Expected) -> Option<Cause> {
    let Metadata { instance, .. } = told;
    let site = told.sites.iter().find(|it| it.name == name)?;
    let found = &site.configuration_version;
    if *found == expected.version {
        return None;
    }
    let published = seen.connection_point().map(|it| it.published.as_slice()).unwrap_or_default();
    let refused = published.iter().find(|it| it.instance == *instance && is_refused(it));
    if let Some(refused) = refused {
        return Some(of_publication(refused));
    }
    let means = format!(
        "instance {instance} has version {found} of site {name}, expected is {} ({})",
        expected.version, expected.from
    );
    let next = "`relay status` of the connection point says what became of its settings at that \
                instance. Is every connection point connected to it, and started or sent SIGHUP \
                after the last change? Those of one site need the same version in [settings]";
    Some(Cause::new("version_differs", means, next))
}

fn is_refused(published: &Published) -> bool {
    matches!(published.outcome.as_str(), "refused" | "failed")
}

/// Settings that were refused by instances which cannot be asked themselves.
fn refused_elsewhere(seen: &Evidence) -> impl Iterator<Item = &Published> {
    let published = seen.connection_point().map(|it| it.published.as_slice()).unwrap_or_default();
    published.iter().filter(|it| is_refused(it)).filter(|it| {
        let mut answering = seen.answering();
        answering.all(|(_, told)| told.instance != it.instance)
    })
}

fn of_publication(published: &Published) -> Cause {
    let Published { instance, outcome, why, .. } = published;
    let why = why.as_deref().unwrap_or("it does not say why");
    Cause::new(
        "settings_refused",
        format!("settings for instance {instance} were {outcome}: {why}"),
        "do as it says; then send SIGHUP to the connection point, or start it again",
    )
}

fn no_settings(seen: &Evidence, instance: u64) -> Cause {
    let published = seen.connection_point().map(|it| it.published.as_slice()).unwrap_or_default();
    match published.iter().find(|it| it.instance == instance && is_refused(it)) {
        Some(refused) => of_publication(refused),
        None => Cause::new(
            "no_settings",
            format!("a connection point is connected to instance {instance}, and has told it none"),
            "`relay status` of the connection point says what became of its settings; both logs",
        ),
    }
}

fn connected(seen: &Evidence) -> Check {
    let mut judging = Judging::of(Step::Connected);
    if let Some((step, because)) = nobody_answers(seen) {
        return judging.waits_for(step, because);
    }
    let mut is_known = false;
    for (_, told) in seen.answering() {
        let asked = format!("instance {}", told.instance);
        let state = of_site(seen, told);
        is_known |= state.is_some();
        judging.saw(Item::new(
            asked,
            match state {
                Some(true) => "a connection point is connected",
                Some(false) => "no connection point is connected",
                None => "it does not say whether one is connected; a newer version does",
            },
        ));
        if state == Some(false) {
            judging.blame(unlinked(seen, told.instance));
        }
    }
    for instance in unasked(seen) {
        let state = seen.connection_point().and_then(|point| point.is_linked(instance));
        is_known |= state.is_some();
        if state == Some(false) {
            judging.blame(unlinked(seen, instance));
        }
    }
    say_roles(seen, &mut judging);
    if !is_known {
        return judging.unwanted("none of those asked says it; --config or --admin names who does");
    }
    judging.judged()
}

/// Whether a connection point of the site that is meant is connected to an instance.
fn of_site(seen: &Evidence, told: &Metadata) -> Option<bool> {
    let meant = told.sites.iter().find(|it| seen.site.as_deref() == Some(it.name.as_str()));
    meant.and_then(|it| it.connected).or(told.connected)
}

/// Instances that the connection point has to do with, and that have told nothing themselves.
fn unasked(seen: &Evidence) -> BTreeSet<u64> {
    let places = seen.connection_point().map(|it| it.places.as_slice()).unwrap_or_default();
    let mut numbers: BTreeSet<u64> = places.iter().map(|place| place.instance).collect();
    for (_, told) in seen.answering() {
        numbers.remove(&told.instance);
    }
    numbers
}

/// What roles of this machine say about links, and of what they use that ends.
fn say_roles(seen: &Evidence, judging: &mut Judging) {
    use super::evidence::Role;
    for tried in &seen.roles {
        let expiry = match &tried.came {
            Ok(Role::ConnectionPoint(point)) => point.expiry.as_slice(),
            Ok(Role::Gateway(gateway)) => gateway.expiry.as_slice(),
            Err(_) => &[],
        };
        for ends in expiry {
            warn_of(judging, ends);
        }
        let item = match &tried.came {
            Ok(Role::ConnectionPoint(point)) => {
                let up = point.places.iter().filter(|place| place.phase == "up").count();
                let came = format!("{up} of {} places have a link", point.places.len());
                Item::new(format!("connection point {}", point.name), came)
            }
            Ok(Role::Gateway(gateway)) => {
                let asked = format!("instance {} about links that ended", gateway.instance);
                let last = gateway.ended.last().map_or("none has", |ended| ended.why.as_str());
                Item::new(asked, last)
            }
            Err(trouble) => Item::new("a role of this machine", trouble.told.clone()),
        };
        judging.saw(item.took(tried.took));
    }
}

fn unlinked(seen: &Evidence, instance: u64) -> Cause {
    let id = "no_connection_point";
    let why = seen.connection_point().and_then(|point| point.why_unlinked(instance));
    if let Some(why) = why {
        let means = format!("no link to instance {instance}: {why}");
        let next = "do as it says; the gateway's log says why it refuses a link, and its `relay \
                    status` shows those refused last";
        return Cause::new(id, means, next);
    }
    let is_gone = seen.roles.iter().any(|tried| tried.came.is_err());
    let (means, next) = if is_gone {
        (
            "no connection point is connected, and a role that was asked here does not answer",
            "start it: `relay connection-point --config connection-point.toml`; its log says why \
             links do not come up",
        )
    } else {
        (
            "no connection point is connected",
            "on its machine see that it runs; `relay status` there says for each instance why it \
             has no link: a port, a certificate, a web proxy",
        )
    };
    Cause::new(id, format!("instance {instance}: {means}"), next)
}

fn published(seen: &Evidence) -> Check {
    let mut judging = Judging::of(Step::Published);
    if let Some((step, because)) = nobody_answers(seen) {
        return judging.waits_for(step, because);
    }
    let (mut is_told, mut is_known) = (false, false);
    for (_, told) in seen.answering().filter(|(_, told)| !told.sites.is_empty()) {
        is_told = true;
        let state = publishes(told);
        is_known |= state.is_some();
        judging.saw(Item::new(
            format!("instance {}", told.instance),
            match state {
                Some(true) => "a management point is published",
                Some(false) => "no management point is published",
                None => "it does not say whether one is published; a newer version does",
            },
        ));
        if state == Some(false) {
            judging.blame(unpublished(seen, told.instance));
        }
    }
    if !is_told {
        return judging
            .waits_for(Step::Connected, "nobody has told the instances any settings yet");
    }
    if !is_known {
        return judging.unwanted("the instances do not say it; a newer version does");
    }
    judging.judged()
}

/// Whether any site publishes a management point at an instance; `None` if it does not say.
fn publishes(told: &Metadata) -> Option<bool> {
    let mut said = told.sites.iter().filter_map(|site| site.management_point).peekable();
    said.peek()?;
    Some(said.any(|publishes| publishes))
}

fn unpublished(seen: &Evidence, instance: u64) -> Cause {
    let means = format!("no site publishes a management point at instance {instance}");
    let next = match seen.management_points {
        Some(1..) => {
            "the file of --config has one that is not published: send SIGHUP to the \
                      connection point, and see `relay status` there"
        }
        _ => {
            "add an [[endpoint]] with kind = \"management-point\" to connection-point.toml, and \
              send SIGHUP to the connection point"
        }
    };
    Cause::new("no_management_point", means, next)
}

#[cfg(test)]
mod tests;
