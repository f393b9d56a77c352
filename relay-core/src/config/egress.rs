//! `[egress]`: how much an instance is meant to send to clients in 14 days, and what follows.

use std::path::PathBuf;

use serde::Deserialize;

use super::error::ConfigError;
use super::limits::{Key, Number};
use super::source::Source;
use super::spanned::Spanned;

/// Gibibytes that a threshold may be: 16 PiB, which no instance sends in 14 days. 119 Gbit/s would.
const THRESHOLD_MAX: u32 = 16 << 20;

/// Where sums are kept unless another file is named: beside the configuration.
const FILE: &str = "egress.json";

/// `[egress]` as written.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, expecting = "an `[egress]` table")]
pub(super) struct RawEgress {
    /// Gibibytes that are meant to be sent in 14 days.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 16_777_216)))]
    threshold_gibibytes: Spanned<i64>,
    /// Percent of them from which the log warns.
    #[cfg_attr(feature = "schema", schemars(range(min = 1, max = 99), extend("default" = 50)))]
    warning_percent: Number,
    /// Percent of them from which it is critical; above `warning_percent`.
    #[cfg_attr(feature = "schema", schemars(range(min = 2, max = 100), extend("default" = 90)))]
    critical_percent: Number,
    /// Whether new requests are answered 503 while it is critical.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schemars(extend("default" = false)))]
    stop_when_critical: bool,
    /// Where the sums are kept.
    #[cfg_attr(feature = "schema", schemars(extend("default" = "egress.json")))]
    file: Option<PathBuf>,
}

/// How much an instance is meant to send to clients in 14 days.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EgressConfig {
    /// Octets; of this instance alone.
    pub threshold: u64,
    /// Percent of it from which the log warns; 1 to 99, 50 by default.
    pub warning_percent: u32,
    /// Percent of it from which it is critical; above `warning_percent` to 100, 90 by default.
    pub critical_percent: u32,
    /// Whether new requests are then refused.
    pub stop_when_critical: bool,
    /// Where the sums are kept.
    pub file: PathBuf,
}

impl RawEgress {
    /// Judges the figures.
    pub(super) fn judge(&self, source: &Source) -> Result<EgressConfig, ConfigError> {
        let threshold = Some(self.threshold_gibibytes.clone());
        let key = |name, written| Key { source, name, written };
        let gibibytes = key("threshold_gibibytes", &threshold).within(&(1..=THRESHOLD_MAX));
        let warning = key("warning_percent", &self.warning_percent).within(&(1..=99));
        let critical = key("critical_percent", &self.critical_percent).within(&(2..=100));
        let (warning_percent, critical_percent) = (warning.unwrap_or(50), critical.unwrap_or(90));
        // One that is out of its range has been noted, and is compared with nothing.
        let are_told = warning.is_some() == self.warning_percent.is_some()
            && critical.is_some() == self.critical_percent.is_some();
        if are_told && critical_percent <= warning_percent {
            let written = self.critical_percent.as_ref().or(self.warning_percent.as_ref());
            let problem = format!(
                "it would be critical at {critical_percent} %, and warned of at {warning_percent} %"
            );
            let span = written.unwrap_or(&self.threshold_gibibytes).span();
            let help = "raise critical_percent (90) above warning_percent (50)";
            return Err(source.invalid(span, problem, help));
        }
        let file = self.file.clone().unwrap_or_else(|| FILE.into());
        Ok(EgressConfig {
            threshold: gibibytes.map_or(0, |it| u64::from(it) << 30),
            warning_percent,
            critical_percent,
            stop_when_critical: self.stop_when_critical,
            file: source.resolve(&file),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::{Site, message};

    fn with(table: &str) -> Result<Option<EgressConfig>, ConfigError> {
        let loaded = Site::new().gateway_with(|text| format!("{text}\n[egress]\n{table}"));
        loaded.map(|loaded| loaded.egress)
    }

    #[test]
    fn what_is_not_written_has_the_customary_figures() {
        let site = Site::new();
        assert_eq!(site.gateway_with(str::to_owned).unwrap().egress, None);
        let table = "[egress]\nthreshold_gibibytes = 10\n";
        let loaded = site.gateway_with(|text| format!("{text}\n{table}")).unwrap();
        let expected = EgressConfig {
            threshold: 10 << 30,
            warning_percent: 50,
            critical_percent: 90,
            stop_when_critical: false,
            file: site.path("egress.json"),
        };
        assert_eq!(loaded.egress, Some(expected));
    }

    #[test]
    fn what_is_written_holds() {
        let table = "threshold_gibibytes = 1\nwarning_percent = 1\ncritical_percent = 2\n\
                     stop_when_critical = true\nfile = \"/var/lib/relay/sent.json\"\n";
        let expected = EgressConfig {
            threshold: 1 << 30,
            warning_percent: 1,
            critical_percent: 2,
            stop_when_critical: true,
            file: "/var/lib/relay/sent.json".into(),
        };
        assert_eq!(with(table).unwrap(), Some(expected));
    }

    #[test]
    fn a_threshold_of_nothing_or_beyond_all_lines_is_refused() {
        for (good, octets) in [(1, 1 << 30), (16_777_216_i64, 16 << 50)] {
            let egress = with(&format!("threshold_gibibytes = {good}\n")).unwrap().unwrap();
            assert_eq!(egress.threshold, octets);
        }
        for bad in [i64::MIN, -1, 0, 16_777_217, i64::MAX] {
            let shown = message(with(&format!("threshold_gibibytes = {bad}\n")));
            let problem = format!("`threshold_gibibytes` is {bad}, which is not 1 to 16777216\n");
            assert!(shown.starts_with(&problem), "{shown}");
        }
        let shown = message(with(""));
        assert!(shown.starts_with("key `threshold_gibibytes` is missing\n"), "{shown}");
    }

    #[test]
    fn percents_are_in_their_range_and_the_warning_comes_before_it_is_critical() {
        let of = |keys: &str| with(&format!("threshold_gibibytes = 1\n{keys}"));
        for good in ["critical_percent = 51", "critical_percent = 100", "warning_percent = 89"] {
            assert!(of(good).is_ok(), "{good}");
        }
        let both = "warning_percent = 99\ncritical_percent = 100";
        assert!(of(both).is_ok());
        for (bad, range) in [
            ("warning_percent = 0", "1 to 99"),
            ("warning_percent = 100", "1 to 99"),
            ("critical_percent = 1", "2 to 100"),
            ("critical_percent = 101", "2 to 100"),
        ] {
            let shown = message(of(bad));
            assert!(shown.contains(&format!("which is not {range}\n")), "{shown}");
        }
        for bad in ["critical_percent = 50", "warning_percent = 90"] {
            let shown = message(of(bad));
            assert!(shown.starts_with("it would be critical at "), "{shown}");
        }
    }
}
