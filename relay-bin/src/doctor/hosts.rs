//! Where the hosts lead that a file names.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::task::JoinSet;

use super::PROOF;
use super::bundle::Bundle;
use super::finding::{Finding, Findings};
use super::veil::Veil;
use crate::client::connection::look_up;

/// How long a name has to be looked up, at most. All are at once.
const LOOK_UP_TIME: Duration = Duration::from_secs(5);

/// Names that are looked up, at most.
const HOSTS_MAX: usize = 64;

/// Adds the addresses of each.
pub(super) async fn add(
    hosts: &BTreeSet<String>,
    veil: &Veil,
    bundle: &mut Bundle,
    findings: &mut Findings,
) {
    let (asked, others) = chosen(hosts);
    let mut tasks = JoinSet::new();
    for host in asked {
        tasks.spawn(async move {
            let found = look_up(&host, 0, LOOK_UP_TIME).await;
            let found = found.map(|all| all.iter().map(SocketAddr::ip).collect::<BTreeSet<_>>());
            (host, found.map_err(|fault| fault.to_string()))
        });
    }
    let mut all = tasks.join_all().await;
    all.sort();
    let mut text = String::new();
    for (host, found) in all {
        let told = match found {
            Ok(found) => {
                let found: Vec<_> = found.iter().map(ToString::to_string).collect();
                found.join(", ")
            }
            Err(why) => {
                let next = "check the name in the file, and the name service of this machine";
                findings.add(Finding::new(format!("the host {host} is not found: {why}"), next));
                why
            }
        };
        writeln!(text, "{host}  {told}").expect(PROOF);
    }
    if others > 0 {
        writeln!(text, "[cut here: {others} more are named]").expect(PROOF);
    }
    if text.is_empty() {
        text.push_str("the file names no host that would have to be looked up\n");
    }
    bundle.add(veil, "hosts.txt", "where the hosts lead that the file names", &text);
}

/// Those that are looked up, and how many are not for their number. Addresses stand for themselves.
fn chosen(hosts: &BTreeSet<String>) -> (Vec<String>, usize) {
    let names = hosts.iter().filter(|it| it.parse::<IpAddr>().is_err());
    let mut names: Vec<_> = names.cloned().collect();
    let others = names.len().saturating_sub(HOSTS_MAX);
    names.truncate(HOSTS_MAX);
    (names, others)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_names_as_may_be_are_looked_up_and_addresses_are_not() {
        let all = |count: usize| {
            let names = (0..count).map(|it| format!("h{it}.example"));
            chosen(&names.chain(["10.0.0.1".to_owned(), "::1".to_owned()]).collect())
        };
        assert_eq!((all(HOSTS_MAX).0.len(), all(HOSTS_MAX).1), (HOSTS_MAX, 0));
        assert_eq!((all(HOSTS_MAX + 1).0.len(), all(HOSTS_MAX + 1).1), (HOSTS_MAX, 1));
    }
}
