//! `[tokens]`: where a site keeps what its tokens are made with.

use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::error::ConfigError;
use super::source::Source;
use super::spanned::Spanned;
use super::store::{RawStore, SiteStore};
use crate::auth::Guid;
use crate::connection_point::ConnectionPointConfig;
use crate::settings::{DOCUMENT_OCTETS_MAX, DocumentError, TOKENS_OCTETS_MAX};

/// `[tokens]` as written.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, expecting = "a `[tokens]` table")]
pub(super) struct RawTokens {
    /// Folder of signing keys, and of what was issued and blocked; `relay token new` makes it.
    #[cfg_attr(feature = "schema", schemars(extend("minLength" = 1)))]
    folder: Spanned<PathBuf>,
    /// What the site is called in its tokens: any GUID, the same at every connection point of it.
    #[cfg_attr(
        feature = "schema",
        schemars(extend("pattern" = "^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$"))
    )]
    tenant: Spanned<String>,
    /// A database of PostgreSQL, as in `postgres://user@db.example/site`, that keeps what was
    /// issued and blocked for all connection points of the site; without it, a file in the folder.
    store: Option<Spanned<String>>,
    /// File with the password for it. Secret.
    store_password_file: Option<Spanned<PathBuf>>,
    /// The authority that signed the certificate of its server: a PEM file.
    store_ca: Option<Spanned<PathBuf>>,
    /// Whether it may be asked over the network without TLS.
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
            source.note(source.invalid(
                self.folder.span(),
                "this names no folder",
                "give a folder of the site's own, as in `folder = \"tokens\"`",
            ));
        }
        let tenant = source.keep(self.tenant.get_ref().parse().map_err(|_| {
            source.invalid(
                self.tenant.span(),
                "this is not a GUID",
                "give the site's own as 8-4-4-4-12 hexadecimal digits without braces; `relay init` \
                 makes one",
            )
        }));
        let store = RawStore {
            store: self.store.as_ref(),
            store_password_file: self.store_password_file.as_ref(),
            store_ca: self.store_ca.as_ref(),
            unsafe_plain_store: self.unsafe_plain_store,
        };
        let (Some(store), Some(tenant)) = (source.keep(store.judge(source)), tenant) else {
            return Err(source.faults());
        };
        Ok(SiteTokens { folder: source.resolve(self.folder.get_ref()), store, tenant })
    }
}

/// Whether all blocks that can ever be made fit into what is published beside the rest of it.
pub(super) fn check_room(
    source: &Source,
    clients: Option<Range<usize>>,
    config: &ConnectionPointConfig,
) -> Result<(), ConfigError> {
    const FREE: usize = DOCUMENT_OCTETS_MAX - TOKENS_OCTETS_MAX;
    let octets = match config.settings().encode() {
        Ok(text) => text.len(),
        Err(DocumentError::TooLong { octets, .. }) => octets,
        // That is told of when it is to be published.
        Err(_) => return Ok(()),
    };
    if octets <= FREE {
        return Ok(());
    }
    Err(source.invalid(
        clients.unwrap_or(0..0),
        format!(
            "what this publishes has {octets} octets, and may have {FREE} at a site that makes \
             tokens, so that each block of one finds room"
        ),
        "put large revocation lists where instances fetch them, and their http:// URLs here; or \
         publish fewer tenants, audiences or paths",
    ))
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
    let tokens = tokens.judge(&source)?;
    source.check()?;
    Ok(tokens)
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

    /// A tenant with audiences of so many octets in all.
    fn tenant(number: usize, octets: usize) -> String {
        let [full, rest] = [octets / 1000, octets % 1000];
        let lengths = (0..full).map(|_| 1000).chain((0 < rest).then_some(rest));
        let audiences: Vec<_> = lengths.map(|it| format!("\"{}\"", "a".repeat(it))).collect();
        format!(
            "\n[[tenant]]\nid = \"{number:08x}-0000-0000-0000-000000000000\"\n\
             application_id = \"5d2f7a90-0c4e-4b7e-9a53-2f1c66a0b1d4\"\n\
             resource = \"https://ConfigMgrService\"\n\
             authority = \"https://login.example\"\naudiences = [{}]\n",
            audiences.join(", ")
        )
    }

    #[test]
    fn what_leaves_no_room_for_blocks_is_refused_where_tokens_are_made_and_nowhere_else() {
        let free = DOCUMENT_OCTETS_MAX - TOKENS_OCTETS_MAX;
        let site = Site::new();
        let load = |last: usize, table: &str| {
            let tenants: String = (1..=20).map(|number| tenant(number, 16_000)).collect();
            let tenants = tenants + &tenant(21, 8000);
            let text = tenants + &tenant(22, last) + "[settings]\nversion = 1\n" + table;
            site.connection_point_with(|before| before.to_owned() + &text)
        };
        let of_one = load(1, TABLE).unwrap().config.settings().encode().unwrap().len();
        // Each audience after the first has quotes and a comma besides.
        let length = |octets: usize| of_one + octets - 1 + 3 * (octets.div_ceil(1000) - 1);
        let fits = (1..=free).take_while(|octets| length(*octets) <= free).last().unwrap();
        let loaded = load(fits, TABLE).unwrap();
        assert_eq!(loaded.config.settings().encode().unwrap().len(), length(fits));
        let text = message(load(fits + 1, TABLE));
        let beyond = length(fits + 1);
        let expected = format!("what this publishes has {beyond} octets, and may have {free}");
        assert!(text.starts_with(&expected), "{text}");
        assert!(text.contains("where instances fetch them"), "{text}");
        assert!(load(fits + 1, "").is_ok(), "a site without tokens has all of it");
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
