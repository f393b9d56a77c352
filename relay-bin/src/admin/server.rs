//! The listener: what a running role answers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, Request, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE, HOST, ORIGIN, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use relay_core::connection_point::ConnectionPoint;
use relay_core::gateway::{Gateway, Halt};
use relay_core::link::DrainReport;
use relay_core::transport::Instance;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use super::configuration::Configured;
use super::metrics;
use super::ready::{self, Readiness, Unready};
use super::status::{Drained, Log, Now, Refused, Service, SetLog, Status};
use super::{HEADER, expiry, page};
use crate::egress::Figures;
use crate::expiry::Endings;
use crate::logs::Level;
use crate::site::TokensState;
use crate::site::service::Tally;
use crate::telemetry;

/// What a browser says of where a request comes from: <https://www.w3.org/TR/fetch-metadata/>.
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// What a browser asks for: `document` is what is shown in a window of its own.
const FETCH_DEST: HeaderName = HeaderName::from_static("sec-fetch-dest");

/// Has a browser keep an answer from all other origins, in whatever way they ask for it.
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// Time that whoever has asked something has to take the answer, once the role has ended.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// The role that is administered.
#[derive(Clone)]
pub(crate) enum Role {
    /// With what is known of its egress, and of its file.
    Gateway(Gateway, Figures, Configured),
    /// With what is published of its site's tokens, and what its token service has done, if it has
    /// one.
    ConnectionPoint(ConnectionPoint, TokensState, Option<Arc<Tally>>),
}

impl Role {
    fn status(&self, endings: &Endings) -> Status {
        // Both clocks first: what happens meanwhile is not in the future.
        let now = Now::read();
        let expiry = expiry::ends(endings.read(), now.system());
        match self {
            Self::Gateway(gateway, figures, configured) => {
                let (status, reports) = (gateway.status(), gateway.traffic_reports());
                let sums = (reports, expiry, figures.read(), configured.read());
                Status::gateway(status, gateway.settings(), (sums, telemetry::counts()), now)
            }
            Self::ConnectionPoint(point, tokens, service) => {
                let tally = service.as_ref().map(|it| it.counts());
                let spans = telemetry::counts().map(|(name, it)| (name.to_owned(), it));
                let counts = tally.into_iter().flatten().chain(spans);
                let (status, published) = (point.status(), point.published());
                let tokens = (tokens.read(), counts);
                Status::connection_point(status, published, tokens, (expiry, now))
            }
        }
    }

    /// Why it should not be sent requests now.
    fn unready(&self) -> Vec<Unready> {
        match self {
            Self::Gateway(gateway, ..) => ready::gateway(&gateway.status(), &gateway.settings()),
            Self::ConnectionPoint(point, ..) => ready::connection_point(&point.status()),
        }
    }

    /// One line for people: what is up, and what is missing.
    pub(crate) fn line(&self) -> String {
        match self {
            Self::Gateway(gateway, ..) => {
                let status = gateway.status();
                let up = status.links.iter().filter(|link| !link.is_draining).count();
                let reasons = ready::gateway(&status, &gateway.settings());
                ready::line(up, &reasons)
            }
            Self::ConnectionPoint(point, ..) => {
                let status = point.status();
                let links = status.places.iter().flat_map(|place| &place.links);
                let up = links.filter(|link| !link.is_draining).count();
                ready::line(up, &ready::connection_point(&status))
            }
        }
    }

    /// What Prometheus reads.
    fn metrics(&self, began: SystemTime, endings: &Endings) -> String {
        let endings = endings.read();
        match self {
            Self::Gateway(gateway, figures, _) => {
                let (status, settings) = (gateway.status(), gateway.settings());
                let sent = (gateway.traffic(), figures.read());
                let counted: Vec<_> = telemetry::counts().collect();
                metrics::gateway((&status, &settings), &sent, &counted, (&endings, began))
            }
            Self::ConnectionPoint(point, _, service) => {
                let counted = service.as_ref().map(|it| it.counts());
                let spans = telemetry::counts().map(|(name, it)| (name.to_owned(), it));
                let counted: Vec<_> = counted.into_iter().flatten().chain(spans).collect();
                let (status, published) = (point.status(), point.published());
                metrics::connection_point((&status, &published), &counted, &endings, began)
            }
        }
    }

    /// Has new requests be served, or refused while links stay. `None` of a connection point: no
    /// client comes to it.
    fn serve(&self, serves: bool) -> Option<Service> {
        let Self::Gateway(gateway, ..) = self else { return None };
        if serves {
            gateway.resume(Halt::Administrator);
        } else {
            gateway.halt(Halt::Administrator);
        }
        let halts = gateway.status().halts;
        let halted_by = halts.iter().map(|halt| halt.name().to_owned()).collect();
        Some(Service { serving: halts.is_empty(), halted_by })
    }

    async fn drain_link(&self, id: &str) -> Option<DrainReport> {
        match self {
            Self::Gateway(gateway, ..) => gateway.drain_link(id.parse().ok()?).await,
            Self::ConnectionPoint(point, ..) => {
                let (instance, place) = id.split_once('.')?;
                let instance = Instance::new(instance.parse().ok()?).ok()?;
                point.drain_link(instance, place.parse().ok()?).await
            }
        }
    }
}

/// What the handlers share with whoever runs the role.
struct Shared {
    role: Role,
    level: Level,
    endings: Endings,
    began: SystemTime,
    /// True once somebody has asked for the role to drain and stop.
    asked: watch::Sender<bool>,
    /// What the drain did, once it has.
    report: watch::Sender<Option<DrainReport>>,
}

impl Shared {
    fn log(&self) -> Log {
        let shown = self.level.show();
        let seconds_left = shown.left.map(|left| left.as_secs());
        Log { filter: shown.filter, started_with: shown.started, seconds_left }
    }
}

/// The admin listener of one role.
pub(crate) struct Admin {
    shared: Arc<Shared>,
    stop: oneshot::Sender<()>,
    served: JoinHandle<()>,
}

impl Admin {
    /// Serves on `listener`, which must be of loopback.
    pub(crate) fn start(listener: TcpListener, role: Role, level: Level, endings: Endings) -> Self {
        let shared = Arc::new(Shared {
            role,
            level,
            endings,
            began: SystemTime::now(),
            asked: watch::Sender::new(false),
            report: watch::Sender::new(None),
        });
        let (stop, stopped) = oneshot::channel::<()>();
        let served = axum::serve(listener, router(Arc::clone(&shared)))
            .with_graceful_shutdown(async move { stopped.await.unwrap_or_default() });
        let served = tokio::spawn(async move {
            if let Err(error) = served.await {
                tracing::warn!(%error, "the admin listener has ended");
            }
        });
        Self { shared, stop, served }
    }

    /// Waits until somebody asks for the role to drain and stop.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub(crate) async fn asked_to_stop(&self) {
        let mut asked = self.shared.asked.subscribe();
        // The sender lives in `self`.
        let _ = asked.wait_for(|asked| *asked).await;
    }

    /// Tells whoever asked what the drain did, and ends.
    pub(crate) async fn end(self, report: DrainReport) {
        self.shared.report.send_replace(Some(report));
        drop(self.stop);
        // One that says half a request, or reads nothing, holds up nobody's end.
        let _ = tokio::time::timeout(LAST_ANSWERS, self.served).await;
    }
}

fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/", get(page::page))
        .route("/status.json", get(status))
        .route("/metrics", get(tell_metrics))
        .route("/drain", post(drain))
        .route("/log", get(log).put(set_log))
        .route("/links/{id}/drain", post(drain_link))
        .route("/service/stop", post(stop_service))
        .route("/service/start", post(start_service))
        .fallback(|| async { refused(StatusCode::NOT_FOUND, "there is no such page") })
        .layer(middleware::from_fn(guard))
        // Behind no guard: a probe names this listener as it likes, or not at all, and what it is
        // told a page in a browser may know.
        .route("/livez", get(|| async { "alive\n" }))
        .route("/readyz", get(readyz))
        .with_state(shared)
}

/// Turns away what a page in a browser of this machine could have sent, but for the page of this
/// listener, and has browsers keep the answers from all others.
async fn guard(request: Request, next: Next) -> Response {
    let mut answer = match judge(&request) {
        Ok(()) => next.run(request).await,
        Err(error) => refused(StatusCode::FORBIDDEN, error),
    };
    let headers = answer.headers_mut();
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
    answer
}

fn judge(request: &Request) -> Result<(), &'static str> {
    let headers = request.headers();
    // A name that resolves to loopback is how a page reaches a listener of the machine it is shown
    // on: DNS rebinding. To a browser such a page is of the same origin as what it asks for, so
    // this comes first, and nothing else is asked of that name.
    if !is_loopback_host(headers) {
        return Err("name this listener by its loopback address");
    }
    if !is_of_this_origin(headers) && !opens_the_page(request) {
        return Err("another page asks; open this listener's own");
    }
    let changes = request.method() != Method::GET && request.method() != Method::HEAD;
    if changes && !headers.contains_key(HEADER) {
        return Err("send the header `relay-admin: 1`");
    }
    Ok(())
}

/// Whether no page asks, or the one of this listener. Another port of this machine is another
/// origin, though the same site. What browsers say of it no page can change.
fn is_of_this_origin(headers: &HeaderMap) -> bool {
    let is_near = headers
        .get(FETCH_SITE)
        .is_none_or(|site| [&b"same-origin"[..], b"none"].contains(&site.as_bytes()));
    let host = headers.get(HOST).map(HeaderValue::as_bytes).unwrap_or_default();
    let is_own = |origin: &HeaderValue| {
        let origin = origin.as_bytes().strip_prefix(b"http://");
        origin.is_some_and(|origin| origin.eq_ignore_ascii_case(host))
    };
    is_near && headers.get(ORIGIN).is_none_or(is_own)
}

/// Whether somebody has followed a link to the page: it is shown to them alone, in a window of its
/// own, and holds nothing of the role.
fn opens_the_page(request: &Request) -> bool {
    let headers = request.headers();
    let is_shown = headers.get(FETCH_DEST).is_some_and(|dest| dest == "document");
    request.method() == Method::GET
        && request.uri().path() == "/"
        && is_shown
        && !headers.contains_key(ORIGIN)
}

fn is_loopback_host(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(HOST).and_then(|host| host.to_str().ok()) else { return false };
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    host.parse::<SocketAddr>().is_ok_and(|at| at.ip().is_loopback())
        || name.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
        || name.eq_ignore_ascii_case("localhost")
}

fn refused(status: StatusCode, error: &str) -> Response {
    (status, Json(Refused { error: error.to_owned() })).into_response()
}

/// Whether the role should be sent requests: 200, or 503 with why not, a line for each reason, or
/// JSON for whoever asks for it.
async fn readyz(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    let readiness = Readiness::of(&shared.role.unready());
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    if asks_for_json(&headers) {
        (status, Json(readiness)).into_response()
    } else {
        (status, readiness.text()).into_response()
    }
}

/// Our choice: whoever names JSON gets it, whatever else they would take, and with what weight.
fn asks_for_json(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|field| field.to_str().ok());
    let mut kinds = accepted.flat_map(|field| field.split(','));
    kinds.any(|kind| {
        let name = kind.split(';').next().unwrap_or_default();
        name.trim().eq_ignore_ascii_case("application/json")
    })
}

async fn status(State(shared): State<Arc<Shared>>) -> Json<Status> {
    Json(shared.role.status(&shared.endings))
}

async fn tell_metrics(State(shared): State<Arc<Shared>>) -> Response {
    ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], shared.role.metrics(shared.began, &shared.endings))
        .into_response()
}

/// Has the whole role drain and stop, as a signal does, and answers when it has.
async fn drain(State(shared): State<Arc<Shared>>) -> Response {
    tracing::info!("asked over the admin listener to drain and stop");
    let mut report = shared.report.subscribe();
    shared.asked.send_replace(true);
    match report.wait_for(Option::is_some).await.as_deref() {
        Ok(Some(report)) => Json(Drained::from(*report)).into_response(),
        // The sender lives in `shared`.
        _ => refused(StatusCode::INTERNAL_SERVER_ERROR, "the role has ended without a report"),
    }
}

/// Has a gateway instance serve clients, or refuse them while its links stay.
fn serve(shared: &Shared, serves: bool) -> Response {
    tracing::info!(serves, "asked over the admin listener to serve clients, or not to");
    let Some(service) = shared.role.serve(serves) else {
        let why = "no client comes to a connection point; ask its gateway instances";
        return refused(StatusCode::CONFLICT, why);
    };
    Json(service).into_response()
}

async fn stop_service(State(shared): State<Arc<Shared>>) -> Response {
    serve(&shared, false)
}

async fn start_service(State(shared): State<Arc<Shared>>) -> Response {
    serve(&shared, true)
}

async fn log(State(shared): State<Arc<Shared>>) -> Json<Log> {
    Json(shared.log())
}

async fn set_log(
    State(shared): State<Arc<Shared>>,
    asked: Result<Json<SetLog>, JsonRejection>,
) -> Response {
    let asked = match asked {
        Ok(Json(asked)) => asked,
        Err(why) => return refused(StatusCode::BAD_REQUEST, &why.body_text()),
    };
    let time = asked.minutes.map(|minutes| Duration::from_mins(minutes.into()));
    match shared.level.set(asked.filter.as_deref(), time) {
        Ok(()) => Json(shared.log()).into_response(),
        Err(why) => refused(StatusCode::BAD_REQUEST, &format!("not directives: {why}")),
    }
}

async fn drain_link(State(shared): State<Arc<Shared>>, Path(id): Path<String>) -> Response {
    tracing::info!(link = id, "asked over the admin listener to drain a link");
    match shared.role.drain_link(&id).await {
        Some(report) => Json(Drained::from(report)).into_response(),
        None => refused(StatusCode::NOT_FOUND, "there is no such link"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_told_to_those_alone_who_name_it() {
        let judged = |accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, accept.parse().expect("a header value"));
            asks_for_json(&headers)
        };
        for accept in ["application/json", "text/html, Application/JSON;q=0.1"] {
            assert!(judged(accept), "{accept}");
        }
        for accept in ["", "*/*", "text/plain", "application/jsonp", "application/*"] {
            assert!(!judged(accept), "{accept}");
        }
        assert!(!asks_for_json(&HeaderMap::new()));
    }

    #[test]
    fn no_page_but_the_listeners_own_may_ask() {
        let judged = |method: &str, path: &str, fields: &[(&str, &str)]| {
            let request = http::Request::builder().method(method).uri(path);
            let request = request.header("Host", "127.0.0.1:10181");
            let request = fields.iter().fold(request, |it, (name, value)| it.header(*name, *value));
            judge(&request.body(axum::body::Body::empty()).expect("a request")).is_ok()
        };
        let site = |site| ("Sec-Fetch-Site", site);
        let document = ("Sec-Fetch-Dest", "document");
        let own = ("Origin", "http://127.0.0.1:10181");
        let from = |origin| ("Origin", origin);
        let none: &[(&str, &str)] = &[];
        for fields in [none, &[site("none")], &[site("same-origin"), own], &[own]] {
            assert!(judged("GET", "/status.json", fields), "{fields:?}");
        }
        assert!(judged("GET", "/", &[site("cross-site"), document]), "a link that is followed");
        assert!(!judged("GET", "/", &[site("cross-site"), ("Sec-Fetch-Dest", "iframe")]));
        assert!(!judged("POST", "/", &[site("cross-site"), document, ("relay-admin", "1")]));
        for fields in [
            &[site("cross-site")][..],
            &[site("same-site")],
            &[site("cross-site"), document],
            &[site("")],
            &[from("http://127.0.0.1:10182")],
            &[from("https://127.0.0.1:10181")],
            &[from("http://localhost:10181")],
            &[from("null")],
            &[site("same-origin"), from("http://evil.example")],
        ] {
            assert!(!judged("GET", "/status.json", fields), "{fields:?}");
            let changes = [fields, &[("relay-admin", "1")]].concat();
            assert!(!judged("POST", "/drain", &changes), "{fields:?}");
        }
    }

    #[test]
    fn only_names_of_loopback_are_served() {
        let judged = |host: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(HOST, host.parse().expect("a header value"));
            is_loopback_host(&headers)
        };
        for host in ["127.0.0.1", "127.0.0.1:1", "localhost", "LOCALHOST:80", "[::1]:80"] {
            assert!(judged(host), "{host}");
        }
        for host in ["", "rebound.example", "rebound.example:80", "10.0.0.1:80", "localhost.evil"] {
            assert!(!judged(host), "{host}");
        }
        assert!(!is_loopback_host(&HeaderMap::new()));
    }
}
