//! Asks: names, ports, TLS, `ServiceMetadata`, roles of this machine, management points.
//!
//! Each wait has an end. Nothing is judged here. What speaks TLS and HTTP is in boxes, for it is
//! large while it waits.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use bytes::Bytes;
use http::uri::PathAndQuery;
use http::{Method, Request, Response};
use hyper::body::Incoming;
use relay_core::gateway::header;
use relay_core::transport::{Certificate, Validity};
use serde::de::DeserializeOwned;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::client::args::Reach;
use crate::client::body::{self, Taken};
use crate::client::connection::{Connection, addresses, dial, look_up};
use crate::client::credentials;
use crate::client::fault::Fault;
use crate::client::report::{Asked, Report};
use crate::client::target::Target;
use crate::expiry::Ending;

use super::evidence::{Channel, Counts, Ends, Instance, Kind, LinkPort, Role, Tried, Trouble};

/// How long a port has to take a connection, and a name to be looked up, at most.
const DIAL_MAX: Duration = Duration::from_secs(5);

/// How long whoever is asked about itself has for each step, at most.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Octets that are read of an answer.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Addresses of the service that are asked: more instances there are not.
const ADDRESSES_MAX: usize = 16;

/// Ports for links of one instance, as a file names them.
pub(super) struct LinkPorts {
    pub(super) instance: u64,
    pub(super) host: String,
    pub(super) ports: Vec<u16>,
}

/// Where the service is, and how it is reached.
pub(super) struct Probe {
    /// For management points, which may take their time.
    patient: Reach,
    /// For whoever answers by itself.
    hasty: Arc<Reach>,
    target: Target,
}

async fn tried<T>(work: impl Future<Output = Result<T, Trouble>>) -> Tried<T> {
    let begun = Instant::now();
    let came = work.await;
    Tried { took: begun.elapsed(), came }
}

impl Probe {
    pub(super) fn new(reach: Reach, target: Target) -> Self {
        Self { hasty: Arc::new(reach.hasty(ANSWER_MAX)), patient: reach, target }
    }

    /// Where the service's name leads.
    pub(super) async fn name(&self) -> Tried<Vec<SocketAddr>> {
        let reach = self.hasty.hasty(DIAL_MAX);
        let mut found =
            tried(async { addresses(&reach, &self.target).await.map_err(Trouble::from) }).await;
        if let Ok(found) = &mut found.came {
            found.sort_unstable();
            found.dedup();
            found.truncate(ADDRESSES_MAX);
        }
        found
    }

    /// What is at each address, all at once.
    pub(super) async fn instances(&self, addresses: &[SocketAddr]) -> Vec<Instance> {
        let mut tasks = JoinSet::new();
        for address in addresses {
            let (reach, target) = (Arc::clone(&self.hasty), self.target.clone());
            tasks.spawn(instance(reach, target, *address));
        }
        let mut found = tasks.join_all().await;
        found.sort_by_key(|instance| instance.address);
        found
    }

    /// Whether the ports for links take connections.
    pub(super) async fn links(&self, wanted: &[LinkPorts]) -> Vec<LinkPort> {
        let patience = self.hasty.patience.min(DIAL_MAX);
        let mut tasks = JoinSet::new();
        for LinkPorts { instance, host, ports } in wanted {
            for port in ports {
                tasks.spawn(link_port(*instance, host.clone(), *port, patience));
            }
        }
        let mut found = tasks.join_all().await;
        found.sort_by_key(|port| (port.instance, port.port));
        found
    }

    /// What a role says that is administered at this address.
    pub(super) async fn role(&self, admin: SocketAddr) -> Tried<Role> {
        tried(Box::pin(async {
            let url = format!("http://{admin}/status.json");
            let target = Target::parse(&url).map_err(|why| no_gateway(why.to_string()))?;
            let opened = Connection::open(&self.hasty, &target).await;
            let mut connection = opened.map_err(Trouble::from)?;
            let answer = get(&mut connection, &target).await.map_err(Trouble::from)?;
            let what = format!("what answers at {admin} is no role's admin listener");
            read(&connection, answer, &what).await
        }))
        .await
    }

    /// Asks a management point over the instance at `address`.
    pub(super) async fn channel(
        &self,
        (role_id, address): (u64, SocketAddr),
        path: PathAndQuery,
        shown: &credentials::Shown,
    ) -> anyhow::Result<Channel> {
        let mut request = Request::new(body::empty());
        shown.put_into(request.headers_mut()).context("the request cannot be signed")?;
        let target = Target { path, ..self.target.clone() };
        let begun = Instant::now();
        let mut so_far = None;
        let done = Box::pin(self.ask(&target, address, request, &mut so_far)).await;
        let report = done.unwrap_or_else(|fault| Report::of_fault(&fault, so_far));
        Ok(Channel { role_id, address, took: begun.elapsed(), report, unproven: vec![] })
    }

    async fn ask(
        &self,
        target: &Target,
        address: SocketAddr,
        request: Request<body::RequestBody>,
        so_far: &mut Option<Report>,
    ) -> Result<Report, Fault> {
        let stream = dial(address, self.patient.patience.min(DIAL_MAX)).await?;
        let mut connection = Connection::over(&self.patient, target, address, stream).await?;
        let over = connection.described();
        let answer = connection.send(target, request, &Taken::default()).await?;
        let report = Report::of(&answer, Asked::Site, over);
        *so_far = Some(report.clone());
        connection.rest(&mut answer.into_body(), ANSWER_BYTES_MAX).await?;
        Ok(report)
    }
}

async fn link_port(instance: u64, host: String, port: u16, patience: Duration) -> LinkPort {
    let dialled = tried(async {
        let mut last =
            Fault::Name { host: host.clone(), source: std::io::ErrorKind::NotFound.into() };
        for address in look_up(&host, port, patience).await.map_err(Trouble::from)? {
            match dial(address, patience).await {
                Ok(_stream) => return Ok(()),
                Err(fault) => last = fault,
            }
        }
        Err(last.into())
    })
    .await;
    LinkPort { instance, host, port, dialled }
}

async fn instance(reach: Arc<Reach>, target: Target, address: SocketAddr) -> Instance {
    let patience = reach.patience.min(DIAL_MAX);
    let begun = Instant::now();
    let stream = dial(address, patience).await.map_err(Trouble::from);
    let took = begun.elapsed();
    let stream = match stream {
        Ok(stream) => stream,
        Err(trouble) => {
            let dialled = Tried { took, came: Err(trouble) };
            return Instance { address, dialled, told: None, certificate: None };
        }
    };
    let mut certificate = None;
    let told = tried(Box::pin(async {
        let path = PathAndQuery::from_static("/CCM_Proxy_MutualAuth/ServiceMetadata");
        let target = Target { path, ..target };
        let opened = Connection::over(&reach, &target, address, stream).await;
        let mut connection = opened.map_err(Trouble::from)?;
        certificate = connection.certificate().and_then(|der| {
            Some(seen(&Certificate::from_der(der).ok()?, address, SystemTime::now()))
        });
        let answer = get(&mut connection, &target).await.map_err(Trouble::from)?;
        let what = format!("what answers at {address} is no gateway");
        read(&connection, answer, &what).await
    }))
    .await;
    let dialled = Tried { took, came: Ok(()) };
    Instance { address, dialled, told: Some(told), certificate }
}

/// When a certificate ends that was shown at `address`.
fn seen(certificate: &Certificate, address: SocketAddr, now: SystemTime) -> Ends {
    let Validity { not_before, not_after, .. } = certificate.validity;
    let ending = Ending {
        what: "server certificate",
        name: certificate.subject.clone(),
        place: address.to_string(),
        begins_at: Some(not_before),
        ends_at: not_after,
    };
    let is_near = ending.is_near(now);
    let days_left = certificate.validity.days_left(now);
    let days_left = if not_after < now { -1 } else { i64::try_from(days_left).unwrap_or(i64::MAX) };
    let at = OffsetDateTime::from(not_after).format(&Rfc3339).unwrap_or_default();
    let Ending { what, name, place, .. } = ending;
    Ends { what: what.to_owned(), name, place, at, days_left, is_near }
}

async fn get(connection: &mut Connection, target: &Target) -> Result<Response<Incoming>, Fault> {
    let mut request = Request::new(body::empty());
    *request.method_mut() = Method::GET;
    connection.send(target, request, &Taken::default()).await
}

/// Reads an answer; one of anything else is told as `what`.
async fn read<T: DeserializeOwned>(
    connection: &Connection,
    answer: Response<Incoming>,
    what: &str,
) -> Result<T, Trouble> {
    let status = answer.status();
    let reason = answer.headers().get(header::REASON).cloned();
    let mut body = answer.into_body();
    let octets: Bytes =
        connection.rest(&mut body, ANSWER_BYTES_MAX).await.map_err(Trouble::from)?;
    if let Some(trouble) = reason.and_then(|reason| not_serving(reason.as_bytes())) {
        return Err(trouble);
    }
    if !status.is_success() {
        return Err(no_gateway(format!("{what}: its answer is {status}")));
    }
    // What is wrong with the text may repeat it, and it is a stranger's.
    serde_json::from_slice(&octets).map_err(|_| no_gateway(format!("{what}: no such JSON")))
}

fn no_gateway(told: String) -> Trouble {
    let next = "check host and port, and what stands in between: a balancer, a proxy, another \
                service on that address";
    Trouble { kind: Kind::NotAGateway, told, next: next.to_owned() }
}

/// What a gateway means that answers nobody for now; `None` of any other reason.
fn not_serving(reason: &[u8]) -> Option<Trouble> {
    let (told, next) = match reason {
        b"CMGService_Stopped" => (
            "an administrator has stopped the service at this instance",
            "`relay service start` on its machine",
        ),
        b"CMGService_Egress_Stopped" => (
            "it has sent as much as [egress] lets it",
            "`relay status` on its machine; raise threshold_gibibytes, or wait",
        ),
        b"CMGService_Out_Of_Memory" => (
            "its memory is short",
            "`relay status` on its machine: who uses it; more memory or instances",
        ),
        _ => return None,
    };
    Some(Trouble { kind: Kind::NotServing, told: told.to_owned(), next: next.to_owned() })
}

/// What was found more often, by method, and proves nothing. Nothing of a method by which somebody
/// else was judged meanwhile: a request counts once by each, and nobody can tell whose is whose.
pub(super) fn found_since(before: &Counts, after: &Counts) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for (method, faults) in after {
        let earlier = before.get(method);
        let rises = faults.iter().map(|(fault, count)| {
            let earlier = earlier.and_then(|faults| faults.get(fault)).copied();
            (fault, count.saturating_sub(earlier.unwrap_or_default()))
        });
        let mut rises = rises.filter(|(_, rise)| *rise > 0);
        if let (Some((fault, 1)), None) = (rises.next(), rises.next())
            && fault != "proven"
        {
            found.push((method.clone(), fault.clone()));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_certificate_is_near_from_sixty_days_on() {
        let mut params = rcgen::CertificateParams::default();
        params.not_after = rcgen::date_time_ymd(2040, 1, 1);
        let der = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        let certificate = Certificate::from_der(der.der()).unwrap();
        let day = Duration::from_hours(24);
        let end = certificate.validity.not_after;
        let found = |now| {
            let seen = seen(&certificate, SocketAddr::from(([127, 0, 0, 1], 443)), now);
            assert_eq!(seen.at, "2040-01-01T00:00:00Z");
            (seen.days_left, seen.is_near)
        };
        assert_eq!(found(end - day * 61), (61, false));
        assert_eq!(found(end - day * 60 - Duration::from_secs(1)), (60, false));
        assert_eq!(found(end - day * 60), (60, true));
        assert_eq!(found(end - day), (1, true));
        assert_eq!(found(end), (0, true));
        assert_eq!(found(end + Duration::from_secs(1)), (-1, true));
    }

    #[test]
    fn what_is_counted_while_a_request_is_judged_is_told_but_for_what_is_proven() {
        let counts = |blocked: u64, proven: u64| {
            let of = [("blocked", blocked), ("proven", proven), ("expired", 1)];
            let of = of.map(|(name, count)| (name.to_owned(), count)).into();
            Counts::from([("site-token".to_owned(), of)])
        };
        let found = |before, after| found_since(&before, &after);
        let blocked = vec![("site-token".to_owned(), "blocked".to_owned())];
        assert_eq!(found(counts(0, 0), counts(1, 0)), blocked);
        assert_eq!(found(counts(1, 1), counts(1, 2)), []);
        // Somebody else was judged as well.
        assert_eq!(found(counts(0, 0), counts(1, 1)), []);
        assert_eq!(found(counts(0, 0), counts(2, 0)), []);
        let new = found(Counts::new(), counts(0, 0));
        assert_eq!(new, [("site-token".to_owned(), "expired".to_owned())]);
    }
}
