//! What comes of a request, for people and for scripts.

use std::fmt::Write as _;

use http::HeaderName;
use http::request::Parts;
use relay_core::auth::{Method, Methods};
use relay_core::connection_point::SiteEndpoint;
use relay_core::gateway::{Foretold, ForetoldAnswer, ForetoldRelay};
use relay_core::policy::{EndpointKind, OwnAnswer, Route, VirtualRoot, visible_path};
use serde_json::{Value, json};

use crate::client::about;

use super::Files;

/// What is said, in order: of each thing a key for scripts, and what of it people read.
pub(super) struct Told {
    /// `relayed`, `own` or `refused`.
    outcome: &'static str,
    request: String,
    rows: Vec<(&'static str, String)>,
}

impl Told {
    pub(super) fn new(foretold: &Foretold<'_>, request: &Parts, files: &Files) -> Self {
        let path = request.uri.path_and_query().map_or("/", |it| it.as_str());
        let shown = format!("{} {}", request.method, visible_path(path));
        let mut told = Self { outcome: "relayed", request: shown, rows: Vec::new() };
        match foretold {
            Foretold::Own(own) => {
                told.outcome = "own";
                told.row("answer", own_answer(*own));
            }
            Foretold::Refused(refusal) => {
                told.outcome = "refused";
                told.answer("answer", &refusal.answer);
                match &refusal.route {
                    Some(route) => told.route(route, files),
                    None => told.endpoints(files),
                }
            }
            Foretold::Relayed(relay) => {
                // Of whomever nothing is proven, and of whomever something is.
                if relay.proven.is_some() {
                    told.outcome = "refused";
                }
                told.relay(relay, files);
            }
            _ => told.row("answer", "not known to this version"),
        }
        told
    }

    fn row(&mut self, name: &'static str, value: impl Into<String>) {
        self.rows.push((name, value.into()));
    }

    /// A status and reason, why, and what to do about it.
    fn answer(&mut self, name: &'static str, answer: &ForetoldAnswer) {
        self.row(name, format!("{} {}", answer.status.as_u16(), answer.reason));
        self.row("why", answer.text.clone());
        if let Some(advice) = about(&answer.reason) {
            self.row("next", advice.next);
        }
    }

    /// Where a request goes.
    fn route(&mut self, route: &Route<'_>, files: &Files) {
        let endpoint = route.endpoint;
        self.row("root", root(route.root));
        let kind = match endpoint.kind {
            EndpointKind::ManagementPoint => "management point",
            EndpointKind::SoftwareUpdatePoint => "software update point",
            EndpointKind::Content => "content",
            EndpointKind::TokenService => "token service",
            _ => "site role",
        };
        let file = files.endpoint(endpoint.role_id).map(|(file, _)| file.display().to_string());
        let file = file.unwrap_or_default();
        let name = &endpoint.name;
        self.row("endpoint", format!("{name}: {kind}, role id {}, in {file}", endpoint.role_id));
        self.row("asks for", visible_path(route.site_target.as_str()));
        self.row("verbs", endpoint.kind.verbs().join(", "));
        let paths = match &endpoint.paths {
            Some(paths) => paths.join(", "),
            None => format!("{} (those of its kind)", endpoint.kind.default_paths().join(", ")),
        };
        self.row("paths", paths);
    }

    fn relay(&mut self, relay: &ForetoldRelay<'_>, files: &Files) {
        self.route(&relay.route, files);
        match (&relay.methods, &relay.unproven) {
            (_, None) => self.row("clients", "anybody (unsafe_allow_anonymous)"),
            (methods, Some(unproven)) => {
                let names = methods.iter().flat_map(Methods::iter).map(Method::name);
                let names: Vec<_> = names.collect();
                self.row("clients", names.join(", then "));
                let answer = format!("{} {}", unproven.status.as_u16(), unproven.reason);
                self.row("unproven", format!("{answer}: {}", unproven.text));
            }
        }
        if let Some(answer) = &relay.proven {
            self.answer("proven", answer);
        }
        let site = files.endpoint(relay.route.endpoint.role_id);
        self.row("backend", site.map_or_else(String::new, |(_, site)| backend(site)));
        if !relay.dropped.is_empty() {
            let names: Vec<_> = relay.dropped.iter().map(HeaderName::as_str).collect();
            self.row("dropped", names.join(", "));
        }
        if relay.route.is_held() {
            self.row("held", "open for as long as the site likes: client notification");
        }
        if relay.proven.is_none() {
            self.row("link", files.links.told(relay.site));
        }
    }

    /// What is published, for whoever asks for something else.
    fn endpoints(&mut self, files: &Files) {
        let all = files.settings.endpoints().endpoints().iter();
        let names: Vec<_> = all.map(|it| format!("{} ({})", it.role_id, it.name)).collect();
        self.row("role ids", if names.is_empty() { "none".to_owned() } else { names.join(", ") });
    }

    pub(super) fn text(&self) -> String {
        let what = match self.outcome {
            "own" => "the gateway answers this by itself",
            "refused" => "the gateway refuses this, and nothing of it reaches a link",
            _ => "the gateway sends this to the site",
        };
        let mut text = format!("{}\n{what}\n", self.request);
        for (name, value) in &self.rows {
            writeln!(text, "  {name:<10}{value}").expect("writing to a String does not fail");
        }
        text
    }

    pub(super) fn json(&self) -> Value {
        let key = |name: &str| name.replace(' ', "_");
        let mut all = json!({ "outcome": self.outcome, "request": self.request });
        for (name, value) in &self.rows {
            all[key(name)] = json!(value);
        }
        all
    }
}

fn root(root: VirtualRoot) -> String {
    let how = match root {
        VirtualRoot::MutualAuth => "of clients with a certificate",
        VirtualRoot::ServerAuth => "of clients with a token",
        _ => "of clients",
    };
    format!("{}, {how}; either may show what counts", root.name())
}

fn own_answer(own: OwnAnswer<'_>) -> &'static str {
    match own {
        OwnAnswer::ServiceMetadata => "200: which instance this is, and which settings hold",
        OwnAnswer::TenantInfo { .. } => "200: what is published about the tenant",
        OwnAnswer::Content => {
            "content, or a refusal: by the grant in the query and by who shows it, which are not \
             judged here; 404 CMGService_No_Content where gateway.toml has no [content]"
        }
        _ => "200",
    }
}

/// Where an endpoint leads.
fn backend(site: &SiteEndpoint) -> String {
    if site.backend.local_service().is_some() {
        return "in the connection point itself".to_owned();
    }
    let urls: Vec<_> = site.backend.urls.iter().map(ToString::to_string).collect();
    match urls.len() {
        1 => urls.concat(),
        count => format!("one of {count}: {}", urls.join(", ")),
    }
}
