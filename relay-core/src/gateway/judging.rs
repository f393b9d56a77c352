//! What an instance decides of a request before it knows who asks and over which link it goes: and
//! the same, told beforehand to an administrator who asks.
//!
//! [`foretell`] asks what `relay.rs` asks, in its order and by its functions. It does not find out
//! who a client is, which takes the client, nor which link is chosen, which takes the links: of
//! both it says what is known without them. Nor does it judge a grant for content, which takes the
//! client and the store.

use http::header::{AUTHORIZATION, HOST};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};

use crate::auth::{self, Methods, Presented, Trail};
use crate::policy::{self, Endpoint, OwnAnswer, Route};
use crate::settings::Settings;

use super::failure::Failure;
use super::own;

/// Finds the endpoint that a request is for. `told` judges whether anything is published at all.
pub(super) fn routed<'a>(
    settings: &'a Settings,
    method: &Method,
    uri: Uri,
    headers: &HeaderMap,
    told: impl FnOnce() -> Result<(), Failure>,
) -> Result<(PathAndQuery, Route<'a>), Failure> {
    check_host(&uri, headers)?;
    let target = uri.into_parts().path_and_query.ok_or(Failure::NotAPath)?;
    told()?;
    let route = settings.endpoints().route(method, &target)?;
    Ok((target, route))
}

/// Leaves in `headers` what passes to an endpoint.
pub(super) fn pass(endpoint: &Endpoint, headers: &mut HeaderMap) -> Result<(), Failure> {
    policy::check_body_length(endpoint, policy::declared_body_length(headers)?)?;
    policy::strip_request_headers(headers)?;
    endpoint.strip_request_headers(headers);
    Ok(())
}

/// Refuses a request that names two hosts.
// RFC 9112, section 3.2.
pub(super) fn check_host(uri: &Uri, headers: &HeaderMap) -> Result<(), Failure> {
    let mut hosts = headers.get_all(HOST).iter();
    let (first, second) = (hosts.next(), hosts.next());
    let agrees = match (uri.authority(), first) {
        (Some(target), Some(host)) => {
            host.as_bytes().eq_ignore_ascii_case(target.as_str().as_bytes())
        }
        _ => true,
    };
    if agrees && second.is_none() { Ok(()) } else { Err(Failure::BadHost) }
}

/// What an instance does with a request.
#[derive(Debug)]
#[non_exhaustive]
pub enum Foretold<'a> {
    /// It answers it by itself.
    Own(OwnAnswer<'a>),
    /// It refuses it, and nothing of it reaches a link.
    Refused(ForetoldRefusal<'a>),
    /// It sends it to the site.
    Relayed(Box<ForetoldRelay<'a>>),
}

/// A request that is refused.
#[derive(Debug)]
#[non_exhaustive]
pub struct ForetoldRefusal<'a> {
    /// The answer.
    pub answer: ForetoldAnswer,
    /// Where it would have gone, if that is known.
    pub route: Option<Route<'a>>,
}

/// A request that goes to the site, once its client is known if it has to be.
#[derive(Debug)]
#[non_exhaustive]
pub struct ForetoldRelay<'a> {
    /// The endpoint, and what its backend is asked for.
    pub route: Route<'a>,
    /// The site that publishes it.
    pub site: &'a str,
    /// How a client can show who it is, in the order in which that is tried; `None` where anybody
    /// may ask.
    pub methods: Option<Methods>,
    /// What a client is answered by whom nothing is proven; `None` where anybody may ask.
    pub unproven: Option<ForetoldAnswer>,
    /// What is refused of the request even so.
    pub proven: Option<ForetoldAnswer>,
    /// The header fields that go to the site.
    pub passed: HeaderMap,
    /// The names of those that do not.
    pub dropped: Vec<HeaderName>,
}

/// An answer of the instance's own.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct ForetoldAnswer {
    /// Its status.
    pub status: StatusCode,
    /// Its reason, with the hop that gives it.
    pub reason: String,
    /// What it says, for people.
    pub text: String,
}

impl ForetoldAnswer {
    fn of(failure: &Failure) -> Self {
        let (status, reason) = failure.answer();
        Self { status, reason: reason.into_owned(), text: failure.to_string() }
    }
}

/// Tells what an instance that holds `settings` does with a request.
pub fn foretell<'a>(settings: &'a Settings, request: &'a Parts) -> Foretold<'a> {
    match own_answer(settings, request) {
        Some(Ok(own)) => return Foretold::Own(own),
        Some(Err(failure)) => return refused(&failure, None),
        None => {}
    }
    let headers = &request.headers;
    let told = || told(settings);
    let route = match routed(settings, &request.method, request.uri.clone(), headers, told) {
        Ok((_, route)) => route,
        Err(failure) => return refused(&failure, None),
    };
    let mut passed = headers.clone();
    let pass = pass(route.endpoint, &mut passed);
    let site = settings.site_of(route.endpoint.role_id).unwrap_or_default();
    let methods = match route.endpoint.access {
        policy::Access::Anonymous => None,
        policy::Access::Clients(allowed) => Some((site, allowed)),
    };
    match (methods, pass) {
        (None, Err(failure)) => refused(&failure, Some(route)),
        (methods, pass) => {
            let counted = |(site, allowed): (&str, Methods)| {
                settings.clients(site).and_then(|clients| clients.methods.within(&allowed))
            };
            let dropped = headers.keys().filter(|name| !passed.contains_key(*name)).cloned();
            let dropped = dropped.collect();
            let unproven = methods.map(|_| ForetoldAnswer::of(&unproven(headers)));
            let methods = methods.and_then(counted);
            let proven = pass.err().map(|failure| ForetoldAnswer::of(&failure));
            Foretold::Relayed(Box::new(ForetoldRelay {
                route,
                site,
                methods,
                unproven,
                proven,
                passed,
                dropped,
            }))
        }
    }
}

/// Judges whether anything is published.
fn told(settings: &Settings) -> Result<(), Failure> {
    if settings.documents().is_empty() { Err(Failure::NoSettings) } else { Ok(()) }
}

fn refused<'a>(failure: &Failure, route: Option<Route<'a>>) -> Foretold<'a> {
    Foretold::Refused(ForetoldRefusal { answer: ForetoldAnswer::of(failure), route })
}

/// What the instance answers by itself, or why not; `None` if it is not asked about itself.
fn own_answer<'a>(
    settings: &Settings,
    request: &'a Parts,
) -> Option<Result<OwnAnswer<'a>, Failure>> {
    let asked = OwnAnswer::of(&request.method, request.uri.path_and_query()?).transpose()?;
    let judged = check_host(&request.uri, &request.headers).and_then(|()| Ok(asked?));
    Some(judged.and_then(|asked| {
        if let OwnAnswer::TenantInfo { tenant } = asked {
            // Of what is no tenant's id it is known without anybody's settings.
            if own::tenant_id(tenant).is_some() {
                told(settings)?;
            }
            own::tenant_info(settings, tenant)?;
        }
        Ok(asked)
    }))
}

/// What a client is told by whom nothing is proven.
fn unproven(headers: &HeaderMap) -> Failure {
    let authorization = headers.get_all(AUTHORIZATION).iter().map(HeaderValue::as_bytes);
    let told = auth::Refusal::of(&Trail::default(), &Presented::new(authorization));
    Failure::Unproven(told.unwrap_or(auth::Refusal::NoCredential))
}
