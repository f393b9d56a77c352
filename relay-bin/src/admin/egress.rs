//! What was sent to clients, as it travels and as people read it.

use relay_core::gateway::GatewayStatus;
use serde::{Deserialize, Serialize};

use super::text::{octets, push_line};
use crate::egress::{Reading, percent};

/// What an instance has sent to clients.
#[derive(Debug, Default, Deserialize, PartialEq, Serialize)]
pub(super) struct Egress {
    /// Since the start.
    pub(super) octets_sent: u64,
    /// In 14 days, restarts among them; absent without `[egress]`.
    #[serde(default)]
    pub(super) fortnight: Option<Fortnight>,
}

/// What was sent in 14 days, and may be.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
pub(super) struct Fortnight {
    pub(super) octets: u64,
    /// As many of them as would outlive a crash now.
    pub(super) octets_kept: u64,
    pub(super) threshold_octets: u64,
    /// Whole percent of the threshold.
    pub(super) percent: u64,
    pub(super) warning_percent: u32,
    pub(super) critical_percent: u32,
    pub(super) stop_when_critical: bool,
    /// `calm`, `warning` or `critical`, as it was found at the last check.
    pub(super) level: String,
    /// Why the sums cannot be kept, if that is so.
    pub(super) fault: Option<String>,
}

pub(super) fn egress(status: &GatewayStatus, shown: Option<Reading>) -> Egress {
    Egress { octets_sent: status.octets_sent, fortnight: shown.map(fortnight) }
}

fn fortnight(shown: Reading) -> Fortnight {
    let Reading { config, total, kept, level, fault } = shown;
    Fortnight {
        octets: total,
        octets_kept: kept,
        threshold_octets: config.threshold,
        percent: percent(total, config.threshold),
        warning_percent: config.warning_percent,
        critical_percent: config.critical_percent,
        stop_when_critical: config.stop_when_critical,
        level: level.name().to_owned(),
        fault,
    }
}

/// A line, if there is a threshold, and one if the sums are in danger.
pub(super) fn push(text: &mut String, egress: &Egress) {
    let Some(of) = &egress.fortnight else { return };
    let (sent, threshold) = (octets(of.octets), octets(of.threshold_octets));
    let Fortnight { percent, level, .. } = of;
    push_line(text, &format!("egress in 14 days: {sent} of {threshold}, {percent} %, {level}"));
    if let Some(why) = &of.fault {
        push_line(text, &format!("SUMS OF EGRESS ARE NOT KEPT: {why}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_of_14_days_has_a_line_and_one_more_if_it_is_not_kept() {
        let told = |fortnight| {
            let mut text = String::new();
            push(&mut text, &Egress { octets_sent: 1, fortnight });
            text
        };
        let of = |fault: Option<&str>| Fortnight {
            octets: 60 << 30,
            octets_kept: 0,
            threshold_octets: 100 << 30,
            percent: 60,
            warning_percent: 50,
            critical_percent: 90,
            stop_when_critical: false,
            level: "warning".to_owned(),
            fault: fault.map(str::to_owned),
        };
        assert_eq!(told(None), "");
        let line = "egress in 14 days: 60 GiB of 100 GiB, 60 %, warning\n";
        assert_eq!(told(Some(of(None))), line);
        let fault = format!("{line}SUMS OF EGRESS ARE NOT KEPT: no space\n");
        assert_eq!(told(Some(of(Some("no space")))), fault);
    }
}
