//! Which links a gateway instance has for a request, if one can be asked.

use std::net::SocketAddr;

use relay_core::config::LoadedGateway;
use relay_core::gateway::Balance;
use serde_json::Value;

use crate::admin::status_at;

/// Where it is asked, and how it picks a link.
#[derive(Default)]
pub(super) struct Links(Option<Instance>);

struct Instance {
    balance: Balance,
    admin: Option<SocketAddr>,
}

impl Links {
    pub(super) fn of(loaded: &LoadedGateway) -> Self {
        let admin = loaded.admin.as_ref().map(|admin| admin.listen);
        Self(Some(Instance { balance: loaded.config.balance.clone(), admin }))
    }

    /// What is known of the link that a request to `site` would go over. Asks the instance, if its
    /// file says where.
    pub(super) fn told(&self, site: &str) -> String {
        let Some(instance) = &self.0 else {
            return "not known: links are up or not at a running instance; add --config \
                    gateway.toml of one on this machine, with [admin]"
                .to_owned();
        };
        let mut chosen = match instance.balance {
            Balance::RoundRobin => "each in turn",
            Balance::LeastInFlight => "the one with the fewest requests in flight",
            Balance::PeakEwma => "the one that has answered fastest of late",
            _ => "one of them",
        };
        let Some(admin) = instance.admin else {
            return format!("{chosen}; which are up is not known: gateway.toml has no [admin]");
        };
        let status = match status_at(admin) {
            Ok(status) => status,
            Err(why) => return format!("{chosen}; which are up is not known: {why:#}"),
        };
        let waits = status["configuration"]["at_next_start"].as_array();
        if waits.is_some_and(|keys| keys.iter().any(|key| key == "balance")) {
            chosen = "one, by the `balance` before the file was changed";
        }
        let halted: Vec<_> = status["halted_by"].as_array().into_iter().flatten().collect();
        let halted: Vec<_> = halted.into_iter().filter_map(Value::as_str).collect();
        if !halted.is_empty() {
            return format!("none: {admin} is stopped, by {}: 503", halted.join(", "));
        }
        if status["draining"] == true {
            return format!("none for new requests: {admin} is draining");
        }
        match &usable(&status, site)[..] {
            [] => format!("none of site {site} is up at {admin}: 503 CMGService_No_Connector"),
            links => {
                format!("{chosen} of those of site {site} up at {admin}: {}", links.join(", "))
            }
        }
    }
}

/// The links of an instance that take requests to `site`, by number and connection point. Those of
/// which an older instance does not tell the site are among them.
fn usable(status: &Value, site: &str) -> Vec<String> {
    let links = status["links"].as_array().map_or(&[][..], Vec::as_slice);
    let takes_requests = |link: &&Value| {
        let is_of_site = link["site"].as_str().is_none_or(|it| it == site);
        link["state"] == "up" && is_of_site
    };
    let name = |link: &Value| {
        let point = link["connection_point"].as_str().unwrap_or("?");
        format!("{} to {point}", link["number"])
    };
    links.iter().filter(takes_requests).map(name).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn links_that_take_requests_are_named_and_others_are_not() {
        let link = |number: u8, state, site: Option<&str>| {
            let name = "cp";
            json!({"number": number, "state": state, "site": site, "connection_point": name})
        };
        let links = [
            link(1, "up", Some("default")),
            link(2, "draining", Some("default")),
            link(3, "up", Some("lab")),
            link(4, "up", None),
        ];
        let status = json!({"role": "gateway", "links": links});
        assert_eq!(usable(&status, "default"), ["1 to cp", "4 to cp"]);
        assert_eq!(usable(&status, "lab"), ["3 to cp", "4 to cp"]);
        assert!(usable(&json!({"role": "connection-point"}), "default").is_empty());
    }

    #[test]
    fn without_an_instance_that_can_be_asked_it_is_said_why_no_link_is_named() {
        assert!(Links::default().told("default").contains("add --config gateway.toml"));
        let alone = Instance { balance: Balance::RoundRobin, admin: None };
        let told = Links(Some(alone)).told("default");
        assert!(told.starts_with("each in turn;") && told.contains("no [admin]"), "{told}");
    }
}
