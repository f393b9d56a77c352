//! Which keys of a gateway instance's file there are, and when a change of each takes effect.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use toml::{Table, Value};

use TakesEffect::{AtNextStart, AtOnce};

/// When the change of a key takes effect at a role that runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TakesEffect {
    /// As soon as the file was read again: for requests that come from then on, and for times of
    /// connections that do.
    AtOnce,
    /// When the role is started anew.
    AtNextStart,
    /// When the role is started anew; until then a file that has it otherwise is refused as a
    /// whole.
    RefusedUntilStart,
}

/// Every key of the file, and when it takes effect. None of them is a secret: keys of certificates
/// are named by their files.
pub const GATEWAY_KEYS: &[(&str, TakesEffect)] = &[
    ("service", AtNextStart),
    ("instance", AtNextStart),
    ("balance", AtNextStart),
    ("clients.listen", AtNextStart),
    ("clients.certificate", AtNextStart),
    ("clients.key", AtNextStart),
    ("links.listen", AtNextStart),
    ("links.https_listen", AtNextStart),
    ("links.quic", AtNextStart),
    ("links.quic_listen", AtNextStart),
    ("links.certificate", AtNextStart),
    ("links.key", AtNextStart),
    ("links.site_ca", AtNextStart),
    ("links.site_crl", AtNextStart),
    ("admin.listen", AtNextStart),
    ("fetch.trust", AtNextStart),
    ("content.folder", AtOnce),
    ("content.azure.account", AtOnce),
    ("content.azure.container", AtOnce),
    ("content.azure.key_file", AtOnce),
    ("content.azure.prefix", AtOnce),
    ("content.azure.endpoint", AtOnce),
    ("content.azure.trust", AtOnce),
    ("content.s3.bucket", AtOnce),
    ("content.s3.region", AtOnce),
    ("content.s3.access_key_id", AtOnce),
    ("content.s3.secret_key_file", AtOnce),
    ("content.s3.prefix", AtOnce),
    ("content.s3.endpoint", AtOnce),
    ("content.s3.trust", AtOnce),
    ("content.enabled", AtOnce),
    ("egress.threshold_gibibytes", AtOnce),
    ("egress.warning_percent", AtOnce),
    ("egress.critical_percent", AtOnce),
    ("egress.stop_when_critical", AtOnce),
    ("egress.file", AtNextStart),
    ("telemetry.endpoint", AtNextStart),
    ("telemetry.ca", AtNextStart),
    ("telemetry.headers_file", AtNextStart),
    ("telemetry.sample_ratio", AtNextStart),
    ("telemetry.service_name", AtNextStart),
    ("limits.client_connections_max", AtNextStart),
    ("limits.connections_per_address_max", AtNextStart),
    ("limits.client_handshakes_max", AtNextStart),
    ("limits.links_max", AtNextStart),
    ("limits.link_memory_mebibytes", AtNextStart),
    ("limits.streams_per_link_max", AtNextStart),
    ("limits.memory_mebibytes_max", AtOnce),
    ("limits.link_handshakes_max", AtNextStart),
    ("limits.tls_handshake_seconds", AtOnce),
    ("limits.request_head_seconds", AtOnce),
    ("limits.idle_seconds", AtOnce),
    ("limits.answer_head_seconds", AtOnce),
    ("limits.backend_answer_max_seconds", AtOnce),
    ("limits.body_stall_seconds", AtOnce),
    ("limits.body_octets_per_second_min", AtOnce),
    ("limits.body_grace_seconds", AtOnce),
    ("limits.answer_stall_seconds", AtNextStart),
    ("limits.link_credit_seconds", AtNextStart),
    ("limits.overload_wait_milliseconds", AtNextStart),
    ("limits.drain_seconds", AtOnce),
    ("limits.linger_seconds", AtOnce),
];

/// Characters of a value that are told.
const CHARS_MAX: usize = 200;

/// The table that is begun or given up only at a start: who sums up runs beside the instance from
/// then on.
const BEGUN_AT_START: &str = "egress";

/// One key that differs between two texts of a gateway instance's file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyChange {
    /// Its path, such as `limits.idle_seconds`.
    pub key: String,
    /// What was written; `None` if nothing was, or if it is not one of [`GATEWAY_KEYS`], whose
    /// values anybody may see.
    pub before: Option<String>,
    /// What is written now, as `before`.
    pub now: Option<String>,
    /// When that takes effect.
    pub takes_effect: TakesEffect,
}

impl fmt::Display for KeyChange {
    /// The key, what was written and what is now, as in `limits.idle_seconds: 60 -> 30`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown =
            |value: &Option<String>| value.clone().unwrap_or_else(|| "not there".to_owned());
        match (&self.before, &self.now) {
            (None, None) => f.write_str(&self.key),
            (before, now) => write!(f, "{}: {} -> {}", self.key, shown(before), shown(now)),
        }
    }
}

/// The keys that differ between two texts of a gateway instance's file, in order. Nothing of a text
/// that is no TOML.
pub fn gateway_changes(before: &str, now: &str) -> Vec<KeyChange> {
    let (Ok(before), Ok(now)) = (before.parse::<Table>(), now.parse::<Table>()) else {
        return Vec::new();
    };
    let is_begun_or_given_up =
        before.contains_key(BEGUN_AT_START) != now.contains_key(BEGUN_AT_START);
    let (before, now) = (values(&before), values(&now));
    let keys: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    let differ = keys.into_iter().filter(|key| before.get(*key) != now.get(*key));
    let change = |key: &String| {
        let known = GATEWAY_KEYS.iter().find(|(name, _)| name == key);
        let of = |values: &BTreeMap<String, &Value>| {
            known.and(values.get(key)).map(|value| shown(value))
        };
        let waits = is_begun_or_given_up && key.starts_with(&format!("{BEGUN_AT_START}."));
        let takes_effect = known.map_or(AtNextStart, |(_, when)| *when);
        KeyChange {
            key: key.clone(),
            before: of(&before),
            now: of(&now),
            takes_effect: if waits { AtNextStart } else { takes_effect },
        }
    };
    differ.map(change).collect()
}

/// A value as it is told. Each key that there is takes one of these.
fn shown(value: &Value) -> String {
    match value {
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Boolean(is_so) => is_so.to_string(),
        Value::String(text) => format!("{:?}", text.chars().take(CHARS_MAX).collect::<String>()),
        _ => String::new(),
    }
}

/// Every value of a text by the path of its key.
fn values(text: &Table) -> BTreeMap<String, &Value> {
    let mut all = BTreeMap::new();
    let mut tables = vec![(String::new(), text)];
    while let Some((path, table)) = tables.pop() {
        for (key, value) in table {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            match value {
                Value::Table(table) => tables.push((path, table)),
                _ => drop(all.insert(path, value)),
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "instance = 1\n[clients]\nlisten = \"0.0.0.0:1\"\n\
                          [limits]\nidle_seconds = 60\ndrain_seconds = 1\n";

    fn told(before: &str, now: &str) -> Vec<(String, TakesEffect)> {
        let all = gateway_changes(before, now);
        all.into_iter().map(|it| (it.to_string(), it.takes_effect)).collect()
    }

    #[test]
    fn each_change_is_told_with_what_was_what_is_and_when_it_takes_effect() {
        let now = "instance = 1\n[clients]\nlisten = \"0.0.0.0:2\"\n\
                   [limits]\nidle_seconds = 30\n[content]\nfolder = \"files\"\n";
        let expected = [
            ("clients.listen: \"0.0.0.0:1\" -> \"0.0.0.0:2\"", AtNextStart),
            ("content.folder: not there -> \"files\"", AtOnce),
            ("limits.drain_seconds: 1 -> not there", AtOnce),
            ("limits.idle_seconds: 60 -> 30", AtOnce),
        ];
        assert_eq!(told(BEFORE, now), expected.map(|(text, when)| (text.to_owned(), when)));
        assert_eq!(told(BEFORE, &format!("# a word\n{BEFORE}")), []);
        assert_eq!(told(BEFORE, "instance ="), []);
    }

    #[test]
    fn whether_egress_is_summed_at_all_waits_for_a_start_and_its_figures_do_not() {
        let egress = |gibibytes| format!("[egress]\nthreshold_gibibytes = {gibibytes}\n");
        let when = |before: &str, now: &str| gateway_changes(before, now)[0].takes_effect;
        assert_eq!(when("", &egress(1)), AtNextStart);
        assert_eq!(when(&egress(1), ""), AtNextStart);
        assert_eq!(when(&egress(1), &egress(2)), AtOnce);
    }

    #[test]
    fn of_a_key_that_is_not_listed_no_value_is_told() {
        let told = told("[content]\nsecret = \"hunter2\"\n", "[content]\nsecret = \"hunter3\"\n");
        assert_eq!(told, [("content.secret".to_owned(), AtNextStart)]);
    }
}
