//! Whether an instance fetches keys and revocation lists: `[fetch]`.

use std::path::PathBuf;

use serde::Deserialize;

use super::error::ConfigError;
use super::pem::{certificate_error, trust_anchors};
use super::source::Source;
use super::spanned::Spanned;
use crate::fetched::FetchConfig;

/// The `[fetch]` table as written.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, expecting = "a `[fetch]` table")]
pub(super) struct RawFetch {
    /// Whom servers of `https` addresses are trusted by: a PEM file of authorities.
    trust: Spanned<PathBuf>,
}

impl RawFetch {
    /// Judges that there is somebody to trust.
    pub(super) fn judge(&self, source: &Source) -> Result<FetchConfig, ConfigError> {
        let trust = trust_anchors(source, &self.trust)?;
        FetchConfig::new(&trust).map_err(|error| certificate_error(source, &self.trust, &error))
    }
}

#[cfg(test)]
mod tests {
    use crate::config::testing::{Site, message};

    #[test]
    fn an_instance_fetches_if_the_file_says_by_whom_servers_are_trusted() {
        let with = |table: &str| Site::new().gateway_with(|text| format!("{text}\n{table}"));
        assert!(with("").unwrap().config.fetch.is_none());
        assert!(with("[fetch]\ntrust = \"site-ca.pem\"\n").unwrap().config.fetch.is_some());
        let shown = message(with("[fetch]\n"));
        assert!(shown.starts_with("key `trust` is missing\n"), "{shown}");
        let shown = message(with("[fetch]\ntrust = \"clients-key.pem\"\n"));
        assert!(shown.contains("clients-key.pem` holds no certificate\n"), "{shown}");
        let shown = message(with("[fetch]\ntrust = \"absent.pem\"\n"));
        assert!(shown.contains("cannot read the certificate `"), "{shown}");
    }
}
