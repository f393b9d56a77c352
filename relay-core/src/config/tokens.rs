//! `[tokens]`: where a site keeps what its tokens are made with.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;

use super::error::ConfigError;
use super::source::Source;
use super::store::{RawStore, SiteStore};
use crate::auth::Guid;

/// `[tokens]` as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a `[tokens]` table")]
pub(super) struct RawTokens {
    folder: Spanned<PathBuf>,
    tenant: Spanned<String>,
    store: Option<Spanned<String>>,
    store_password_file: Option<Spanned<PathBuf>>,
    store_ca: Option<Spanned<PathBuf>>,
    #[serde(default)]
    unsafe_plain_store: bool,
}

/// What a site makes its tokens with.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct SiteTokens {
    /// The folder of signing keys, of this connection point alone. It need not be there yet.
    pub folder: PathBuf,
    /// Where it is kept what was issued and blocked.
    pub store: SiteStore,
    /// What the site names itself by in its tokens. Tokens of another are refused.
    pub tenant: Guid,
}

impl RawTokens {
    pub(super) fn judge(&self, source: &Source) -> Result<SiteTokens, ConfigError> {
        if self.folder.get_ref().as_os_str().is_empty() {
            return Err(source.invalid(
                self.folder.span(),
                "this names no folder",
                "give a folder of the site's own, as in `folder = \"tokens\"`",
            ));
        }
        let tenant = self.tenant.get_ref().parse().map_err(|_| {
            source.invalid(
                self.tenant.span(),
                "this is not a GUID",
                "give the site's own as 8-4-4-4-12 hexadecimal digits without braces; `relay init` \
                 makes one",
            )
        })?;
        let store = RawStore {
            store: self.store.as_ref(),
            store_password_file: self.store_password_file.as_ref(),
            store_ca: self.store_ca.as_ref(),
            unsafe_plain_store: self.unsafe_plain_store,
        };
        let store = store.judge(source)?;
        Ok(SiteTokens { folder: source.resolve(self.folder.get_ref()), store, tenant })
    }
}

/// Reads what the site of the connection point with this configuration file makes tokens with, and
/// nothing else of it: keys and certificates that the file names need not be readable.
///
/// # Errors
///
/// [`ConfigError`] if the file cannot be read as TOML, or says nothing of tokens.
pub fn site_tokens(path: &Path) -> Result<SiteTokens, ConfigError> {
    #[derive(Deserialize)]
    struct RawRole {
        tokens: Option<RawTokens>,
    }

    let source = Source::read(path)?;
    let raw: RawRole = source.parse()?;
    let Some(tokens) = raw.tokens else {
        return Err(source.invalid(
            0..0,
            "the site of this file makes no tokens",
            "add `[tokens]` with `folder = \"tokens\"` and `tenant`, the site's own GUID",
        ));
    };
    tokens.judge(&source)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::{Site, message};

    const TABLE: &str =
        "\n[tokens]\nfolder = \"tokens\"\ntenant = \"0A1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9\"\n";

    fn both(table: &str) -> [Result<Option<SiteTokens>, ConfigError>; 2] {
        let site = Site::new();
        let loaded = site.connection_point_with(|text| text.to_owned() + table);
        let alone = site_tokens(&site.path("connection-point.toml"));
        [loaded.map(|loaded| loaded.tokens), alone.map(Some)]
    }

    #[test]
    fn folder_and_tenant_are_taken_as_written_whether_or_not_the_rest_is_read() {
        for tokens in both(TABLE) {
            let tokens = tokens.unwrap().unwrap();
            assert!(tokens.folder.ends_with("tokens") && tokens.folder.parent().is_some());
            assert_eq!(tokens.tenant.to_string(), "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9");
        }
    }

    #[test]
    fn a_site_without_the_table_makes_no_tokens() {
        let [loaded, alone] = both("");
        assert_eq!(loaded.unwrap(), None);
        let text = message(alone);
        assert!(text.starts_with("the site of this file makes no tokens\n"), "{text}");
    }

    #[test]
    fn a_bad_table_is_shown_with_what_to_write() {
        for (from, to, says) in [
            ("\"tokens\"", "\"\"", "this names no folder\n"),
            ("0A1b2c3d-", "{0A1b2c3d-", "this is not a GUID\n"),
            ("tenant = ", "tenent = ", "unknown key `tenent`"),
        ] {
            for tokens in both(&TABLE.replace(from, to)) {
                let text = message(tokens);
                assert!(text.starts_with(says), "{text}");
            }
        }
    }
}
