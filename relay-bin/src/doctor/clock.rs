//! This machine's clock against that of each gateway instance, as the instance itself says.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use http::header::DATE;
use http::{HeaderValue, Request};
use relay_core::config::{RoleKind, load_connection_point, recognise};
use relay_core::connection_point::GatewayAddress;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;
use tokio::task::JoinSet;

use super::PROOF;
use super::bundle::Bundle;
use super::finding::{Finding, Findings};
use super::veil::Veil;
use crate::client::Target;
use crate::client::args::{Reach, Way};
use crate::client::body::{self, Taken};
use crate::client::connection::{Connection, dial, look_up};
use crate::run::variable;

/// How long each step towards an instance may take. All are asked at once.
const STEP_TIME: Duration = Duration::from_secs(5);

/// Seconds between two clocks from which on they look wrong. Our choice: an answer takes a while,
/// and its date is to the second.
const APART_SECONDS_MAX: i64 = 60;

/// Adds how far each instance's clock is from this one, of the connection point with this file. A
/// gateway instance has nobody to ask.
pub(super) async fn add(file: &Path, veil: &Veil, bundle: &mut Bundle, findings: &mut Findings) {
    if recognise(file).ok() != Some(RoleKind::ConnectionPoint) {
        return;
    }
    let Ok(loaded) = load_connection_point(file, &variable) else { return };
    let reach = Way::trusting(&loaded.material.https_authority, STEP_TIME);
    let reach = match reach {
        Ok(reach) => Arc::new(reach),
        Err(why) => return bundle.add(veil, NAME, WHAT, &format!("not asked: {why:#}\n")),
    };
    let mut tasks = JoinSet::new();
    for gateway in loaded.config.gateways {
        let reach = Arc::clone(&reach);
        tasks.spawn(async move {
            let number = gateway.instance.number();
            (number, Box::pin(seconds_ahead(&reach, &gateway)).await)
        });
    }
    let mut all = tasks.join_all().await;
    all.sort_by_key(|it| it.0);
    let mut text = String::new();
    for (instance, found) in all {
        let told = match found {
            Ok(seconds) => {
                findings.judge(instance, seconds);
                format!("{seconds} s ahead of this one")
            }
            Err(why) => format!("not known: {why:#}"),
        };
        writeln!(text, "the clock of instance {instance}: {told}").expect(PROOF);
    }
    bundle.add(veil, NAME, WHAT, &text);
}

const NAME: &str = "clock.txt";
const WHAT: &str = "clocks of the gateway instances against this one";

impl Findings {
    fn judge(&mut self, instance: u8, seconds: i64) {
        if seconds.abs() > APART_SECONDS_MAX {
            self.add(Finding::new(
                format!("the clock of instance {instance} is {seconds} s ahead of this one"),
                "`timedatectl` on both machines; certificates and tokens are judged by the clock",
            ));
        }
    }
}

/// Asks an instance where clients do, or where links come over HTTPS.
async fn seconds_ahead(reach: &Reach, gateway: &GatewayAddress) -> anyhow::Result<i64> {
    let port = gateway.https_port.context("the file names no HTTPS port of it")?;
    let target = format!("https://{}:{port}/CCM_Proxy_MutualAuth/ServiceMetadata", name(gateway));
    let target = Target::parse(&target)?;
    let found = look_up(&gateway.host, port, STEP_TIME).await?;
    let address: SocketAddr = found.into_iter().next().context("its host has no address")?;
    let stream = dial(address, STEP_TIME).await?;
    let mut connection = Connection::over(reach, &target, address, stream).await?;
    let (request, taken) = (Request::new(body::empty()), Taken::default());
    let answer = connection.send(&target, request, &taken).await?;
    let date = answer.headers().get(DATE).context("its answer has no date")?;
    ahead(date, SystemTime::now()).context("its answer has a date that cannot be read")
}

/// The name of its certificate, as a URL has it.
fn name(gateway: &GatewayAddress) -> String {
    let name = &gateway.https_name;
    if name.contains(':') { format!("[{name}]") } else { name.clone() }
}

fn ahead(date: &HeaderValue, now: SystemTime) -> Option<i64> {
    let date = OffsetDateTime::parse(date.to_str().ok()?, &Rfc2822).ok()?;
    Some((date - OffsetDateTime::from(now)).whole_seconds())
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    #[test]
    fn the_date_of_an_answer_is_held_against_the_clock() {
        // RFC 9110, section 5.6.7.
        let date = HeaderValue::from_static("Sun, 06 Nov 1994 08:49:37 GMT");
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(ahead(&date, at(784_111_777)), Some(0));
        assert_eq!(ahead(&date, at(784_111_700)), Some(77));
        assert_eq!(ahead(&date, at(784_111_800)), Some(-23));
        assert_eq!(ahead(&HeaderValue::from_static("now"), at(0)), None);
    }

    #[test]
    fn a_minute_between_two_clocks_is_nothing_and_a_second_more_looks_wrong() {
        for (seconds, count) in [(0, 0), (60, 0), (61, 1), (-60, 0), (-61, 1)] {
            let mut findings = Findings::default();
            findings.judge(1, seconds);
            assert_eq!(findings.all().len(), count, "{seconds}");
        }
    }
}
