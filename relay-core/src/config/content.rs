//! Where an instance has its content from: `[content]`.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::error::{ConfigError, Place};
use super::pem::trust_anchors;
use super::source::Source;
use super::spanned::Spanned;
use crate::content::StoreRoot;
use crate::transport::{TrustAnchors, require_file};

/// Longest key of a store, in octets.
const KEY_OCTETS_MAX: u64 = 4_096;

/// Longest prefix, in octets: package and hash come behind it, and S3 takes 1,024 in all.
const PREFIX_OCTETS_MAX: usize = 512;

/// The `[content]` table as written.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, expecting = "a `[content]` table")]
pub(super) struct RawContent {
    /// The folder that packages are in. In its place there may be `azure` or `s3`.
    folder: Option<Spanned<PathBuf>>,
    /// A container of Azure Blob Storage, which clients fetch from directly.
    azure: Option<Spanned<RawAzure>>,
    /// A bucket of S3, which clients fetch from directly.
    s3: Option<Spanned<RawS3>>,
    /// Whether clients are given what is in it; else they are answered 404.
    #[serde(default = "yes")]
    #[cfg_attr(feature = "schema", schemars(extend("default" = true)))]
    enabled: bool,
}

/// A container of Azure Blob Storage as written.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, expecting = "a container of Azure Blob Storage")]
pub(super) struct RawAzure {
    /// The storage account.
    account: Spanned<String>,
    /// The container, which must be there.
    container: Spanned<String>,
    /// File with the account's key, in one line. Secret.
    key_file: Spanned<PathBuf>,
    /// Folder of the container below which all packages are; without it, the whole.
    prefix: Option<Spanned<String>>,
    /// Where the store is asked, if not at Azure's usual place.
    endpoint: Option<Spanned<String>>,
    /// PEM file of authorities that its TLS is trusted by.
    trust: Option<Spanned<PathBuf>>,
}

/// A bucket of S3, or of what speaks as that does, as written.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, expecting = "a bucket of S3")]
pub(super) struct RawS3 {
    /// The bucket, which must be there.
    bucket: Spanned<String>,
    /// Its region.
    region: Spanned<String>,
    /// Which key the secret one is of.
    access_key_id: Spanned<String>,
    /// File with the secret access key, in one line. Secret.
    secret_key_file: Spanned<PathBuf>,
    /// Folder of the bucket below which all packages are; without it, the whole.
    prefix: Option<Spanned<String>>,
    /// Where the store is asked, if not at Amazon's usual place.
    endpoint: Option<Spanned<String>>,
    /// PEM file of authorities that its TLS is trusted by.
    trust: Option<Spanned<PathBuf>>,
}

fn yes() -> bool {
    true
}

/// Where an instance has its content from.
#[derive(Clone, Debug)]
pub struct ContentConfig {
    /// The store.
    pub store: ContentPlace,
    /// Whether clients are given what is in it; else they are answered 404, and go elsewhere.
    pub is_enabled: bool,
    place: Place,
}

impl ContentConfig {
    /// The message that this cannot be had here, at its table.
    pub fn refused(&self, problem: impl Into<String>, help: impl Into<String>) -> ConfigError {
        ConfigError::at(&self.place, problem, help)
    }
}

/// What keeps content.
#[derive(Clone, Debug)]
pub enum ContentPlace {
    /// A folder, whose octets the instance gives itself. It need not be there: nothing was put into
    /// it then.
    Folder(PathBuf),
    /// Somebody else, from whom clients fetch files by locations that the instance signs.
    Cloud(CloudConfig),
}

/// A store elsewhere.
#[derive(Clone, Debug)]
pub struct CloudConfig {
    /// Whose, and which part of it.
    pub kind: CloudKind,
    /// What requests and locations are signed with.
    pub key: StoreKey,
    /// Plain segments with `/` between them, below which all is; empty for the whole.
    pub prefix: String,
    /// Where it is asked, without `/` at its end; `None` for the usual place.
    pub endpoint: Option<String>,
    /// Where all of its locations lie.
    pub root: StoreRoot,
    /// Whom its TLS is trusted by; `None` for one on this machine that speaks none.
    pub trust: Option<TrustAnchors>,
}

/// Whose store it is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum CloudKind {
    /// Azure Blob Storage.
    Azure {
        /// The storage account.
        account: String,
        /// The container.
        container: String,
    },
    /// S3, or what speaks as that does.
    S3 {
        /// The bucket.
        bucket: String,
        /// Its region.
        region: String,
        /// Which key the secret one is of.
        access_key_id: String,
    },
}

/// The key of a store. A secret: it has no way into a log.
#[derive(Clone, Eq, PartialEq)]
pub struct StoreKey(String);

impl StoreKey {
    /// The key, for the store's own signatures.
    pub fn secret(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for StoreKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoreKey([redacted])")
    }
}

impl ContentPlace {
    /// Whether both are one place, asked alike and with the same key.
    pub fn is_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Folder(one), Self::Folder(other)) => one == other,
            (Self::Cloud(one), Self::Cloud(other)) => {
                let is_trusted_alike = match (&one.trust, &other.trust) {
                    (Some(one), Some(other)) => one.are_as(other),
                    (one, other) => one.is_none() && other.is_none(),
                };
                is_trusted_alike
                    && (&one.kind, &one.key, &one.prefix, &one.endpoint)
                        == (&other.kind, &other.key, &other.prefix, &other.endpoint)
            }
            _ => false,
        }
    }

    /// Where it is, for people.
    pub fn shown(&self) -> String {
        match self {
            Self::Folder(folder) => folder.display().to_string(),
            Self::Cloud(cloud) => cloud.root.as_str().to_owned(),
        }
    }
}

impl RawContent {
    /// Judges that one store is named, and what is said of it.
    pub(super) fn judge(
        source: &Source,
        written: &Spanned<Self>,
    ) -> Result<ContentConfig, ConfigError> {
        let raw = written.get_ref();
        let store = match (&raw.folder, &raw.azure, &raw.s3) {
            (Some(folder), None, None) => ContentPlace::Folder(judge_folder(source, folder)?),
            (None, Some(azure), None) => ContentPlace::Cloud(azure.get_ref().judge(source)?),
            (None, None, Some(s3)) => ContentPlace::Cloud(s3.get_ref().judge(source)?),
            (None, None, None) => {
                return Err(source.invalid(
                    written.span(),
                    "this does not say where content is",
                    "add `folder = \"content\"`, or `azure` or `s3` with what the guide says of \
                     them; without content, remove the whole table",
                ));
            }
            _ => {
                return Err(source.invalid(
                    written.span(),
                    "content is said to be in more than one place",
                    "keep one of `folder`, `azure` and `s3`",
                ));
            }
        };
        let place = source.place(written.span());
        Ok(ContentConfig { store, is_enabled: raw.enabled, place })
    }
}

fn judge_folder(source: &Source, folder: &Spanned<PathBuf>) -> Result<PathBuf, ConfigError> {
    if folder.get_ref().as_os_str().is_empty() {
        return Err(source.invalid(
            folder.span(),
            "the folder of content is not named",
            "give a folder of its own, as in `folder = \"content\"`",
        ));
    }
    Ok(source.resolve(folder.get_ref()))
}

/// What both kinds of stores have.
struct Common<'a> {
    key_file: &'a Spanned<PathBuf>,
    prefix: Option<&'a Spanned<String>>,
    endpoint: Option<&'a Spanned<String>>,
    trust: Option<&'a Spanned<PathBuf>>,
    /// Where it is asked, and which of its folders is the container or bucket.
    usual: String,
    folder: Option<&'a str>,
}

impl RawAzure {
    fn judge(&self, source: &Source) -> Result<CloudConfig, ConfigError> {
        let account = self.account.get_ref().clone();
        let is_account = (3..=24).contains(&account.len())
            && account.bytes().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit());
        // Source: Microsoft Learn, "Storage account overview".
        let help = "a storage account has 3 to 24 lower-case letters and digits";
        check(source, &self.account, is_account, "this is no name of a storage account", help)?;
        let container = self.container.get_ref().clone();
        // Source: Microsoft Learn, "Naming and referencing containers, blobs, and metadata".
        let help = "a container has 3 to 63 lower-case letters, digits and hyphens, no two of \
                    these in a row, and begins and ends with none";
        let is_container = is_bucket(&container, b"-");
        check(source, &self.container, is_container, "this is no name of a container", help)?;
        let common = Common {
            key_file: &self.key_file,
            prefix: self.prefix.as_ref(),
            endpoint: self.endpoint.as_ref(),
            trust: self.trust.as_ref(),
            usual: format!("https://{account}.blob.core.windows.net"),
            folder: Some(&container),
        };
        common.judge(
            source,
            &self.account,
            CloudKind::Azure { account, container: container.clone() },
        )
    }
}

impl RawS3 {
    fn judge(&self, source: &Source) -> Result<CloudConfig, ConfigError> {
        let bucket = self.bucket.get_ref().clone();
        // Source: Amazon S3 User Guide, "General purpose bucket naming rules".
        let help = "a bucket has 3 to 63 lower-case letters, digits, hyphens and dots, no two of \
                    these in a row, and begins and ends with none";
        check(
            source,
            &self.bucket,
            is_bucket(&bucket, b"-."),
            "this is no name of a bucket",
            help,
        )?;
        let region = self.region.get_ref().clone();
        let is_region = (1..=64).contains(&region.len())
            && region
                .bytes()
                .all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'-');
        check(
            source,
            &self.region,
            is_region,
            "this is no region",
            "write it as in `eu-central-1`",
        )?;
        let access_key_id = self.access_key_id.get_ref().clone();
        let is_id = (1..=128).contains(&access_key_id.len())
            && access_key_id.bytes().all(|it| it.is_ascii_alphanumeric() || b"-_.".contains(&it));
        let help = "give the public half of the access key; the secret one is in `secret_key_file`";
        check(source, &self.access_key_id, is_id, "this is no id of an access key", help)?;
        // By a host of its own where it can have one: a dot in its name would fit no certificate.
        let has_host = self.endpoint.is_none() && !bucket.contains('.');
        let usual = if has_host {
            format!("https://{bucket}.s3.{region}.amazonaws.com")
        } else {
            format!("https://s3.{region}.amazonaws.com")
        };
        let common = Common {
            key_file: &self.secret_key_file,
            prefix: self.prefix.as_ref(),
            endpoint: self.endpoint.as_ref(),
            trust: self.trust.as_ref(),
            usual,
            folder: (!has_host).then_some(&bucket),
        };
        let kind = CloudKind::S3 { bucket: bucket.clone(), region, access_key_id };
        common.judge(source, &self.bucket, kind)
    }
}

impl Common<'_> {
    fn judge<T>(
        &self,
        source: &Source,
        named: &Spanned<T>,
        kind: CloudKind,
    ) -> Result<CloudConfig, ConfigError> {
        let prefix = self.prefix.map(|it| it.get_ref().clone()).unwrap_or_default();
        if let Some(written) = self.prefix {
            let help = "write segments of letters, digits, `-`, `.` and `_` with one `/` between \
                        them, as in `site-1/content`; without it, content is in the whole";
            check(source, written, is_prefix(&prefix), "this is no prefix", help)?;
        }
        let endpoint = self.endpoint.map(|it| it.get_ref().trim_end_matches('/').to_owned());
        let mut root = endpoint.clone().unwrap_or_else(|| self.usual.clone());
        for segment in self.folder.into_iter().chain(Some(prefix.as_str())) {
            root.push_str(if segment.is_empty() { "" } else { "/" });
            root.push_str(segment);
        }
        root.push('/');
        let is_clear = root.starts_with("http:");
        let root = StoreRoot::new(&root).map_err(|_| {
            source.invalid(
                self.endpoint.map_or(named.span(), Spanned::span),
                "this is not where a store is asked",
                "give an https URL in lower case, without user, query, escapes and the usual port; \
                 http is for this machine's own addresses alone",
            )
        })?;
        let trust = match self.trust {
            Some(file) => Some(trust_anchors(source, file)?),
            None if is_clear => None,
            None => {
                return Err(source.invalid(
                    named.span(),
                    "this does not say by whom the store is trusted",
                    "add `trust` with a PEM file of authorities, as in \
                     `trust = \"/etc/ssl/certs/ca-certificates.crt\"`",
                ));
            }
        };
        let key = read_key(source, self.key_file)?;
        Ok(CloudConfig { kind, key, prefix, endpoint, root, trust })
    }
}

/// The error that `problem` is at `written`, unless it is good.
fn check<T>(
    source: &Source,
    written: &Spanned<T>,
    is_good: bool,
    problem: &str,
    help: &str,
) -> Result<(), ConfigError> {
    if is_good { Ok(()) } else { Err(source.invalid(written.span(), problem, help)) }
}

/// Whether a name has 3 to 63 lower-case letters and digits, with one of `marks` between them.
fn is_bucket(name: &str, marks: &[u8]) -> bool {
    let is_plain = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit();
    let (mut before, mut is_good) = (b'-', true);
    for octet in name.bytes() {
        is_good &= is_plain(octet) || (marks.contains(&octet) && is_plain(before));
        before = octet;
    }
    is_good && is_plain(before) && (3..=63).contains(&name.len())
}

/// Whether each segment is one that no server reads as anything else.
fn is_prefix(text: &str) -> bool {
    let is_of_segment = |it: u8| it.is_ascii_alphanumeric() || b"-._".contains(&it);
    let is_segment = |it: &str| !matches!(it, "" | "." | "..") && it.bytes().all(is_of_segment);
    text.len() <= PREFIX_OCTETS_MAX && text.split('/').all(is_segment)
}

/// Reads a key: one line, and nothing of it is told.
fn read_key(source: &Source, written: &Spanned<PathBuf>) -> Result<StoreKey, ConfigError> {
    let file = source.resolve(written.get_ref());
    let mut text = String::new();
    let read = require_file(&file)
        .and_then(|()| File::open(&file)?.take(KEY_OCTETS_MAX + 1).read_to_string(&mut text));
    read.map_err(|why| {
        source.invalid(
            written.span(),
            format!("the store's key cannot be read from {}: {why}", file.display()),
            "write the key into a file of its own, for this account alone to read",
        )
    })?;
    let key = text.trim();
    let is_key = text.len() as u64 <= KEY_OCTETS_MAX
        && !key.is_empty()
        && key.bytes().all(|it| it.is_ascii_graphic());
    let help = "the file holds the key in one line, and nothing else";
    check(source, written, is_key, "this file holds no key of a store", help)?;
    Ok(StoreKey(key.to_owned()))
}

/// Reads where the instance with this configuration file has its content, and nothing else of it:
/// the keys that the file names for TLS need not be readable.
///
/// # Errors
///
/// [`ConfigError`] if the file cannot be read as TOML, or names no store that can be used.
pub fn content_config(path: &Path) -> Result<ContentConfig, ConfigError> {
    #[derive(Deserialize)]
    struct RawRole {
        content: Option<Spanned<RawContent>>,
    }

    let source = Source::read(path)?;
    let raw: RawRole = source.parse()?;
    let Some(content) = raw.content else {
        return Err(source.invalid(
            0..0,
            "the instance with this file has no content",
            "add `[content]` with `folder = \"content\"`; a running instance takes it in seconds",
        ));
    };
    RawContent::judge(&source, &content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::{Site, message};

    const AZURE: &str = "[content.azure]\naccount = \"relayfiles\"\ncontainer = \"content\"\n\
                         key_file = \"azure.key\"\ntrust = \"site-ca.pem\"\n";
    const S3: &str = "[content.s3]\nbucket = \"relay-files\"\nregion = \"eu-central-1\"\n\
                      access_key_id = \"AKIA1\"\nsecret_key_file = \"s3.key\"\n\
                      trust = \"site-ca.pem\"\n";

    fn site() -> Site {
        let site = Site::new();
        site.write("azure.key", "a2V5\n");
        site.write("s3.key", "s3cret/key+\n");
        site
    }

    fn cloud(table: &str) -> CloudConfig {
        let loaded = site().gateway_with(|text| format!("{text}\n{table}")).unwrap();
        match loaded.content.unwrap().store {
            ContentPlace::Cloud(cloud) => cloud,
            ContentPlace::Folder(_) => panic!("a store elsewhere"),
        }
    }

    fn fault(table: &str) -> String {
        message(site().gateway_with(|text| format!("{text}\n{table}")))
    }

    #[test]
    fn an_instance_has_content_where_the_file_names_a_folder_and_can_be_told_to_give_none() {
        let with = |table: &str| Site::new().gateway_with(|text| format!("{text}\n{table}"));
        assert!(with("").unwrap().content.is_none());
        let folder = |content: ContentConfig| match content.store {
            ContentPlace::Folder(folder) => folder,
            ContentPlace::Cloud(_) => panic!("a folder"),
        };
        let content = with("[content]\nfolder = \"files\"\n").unwrap().content.unwrap();
        assert!(content.is_enabled);
        let found = folder(content);
        assert!(found.is_absolute() && found.ends_with("files"));
        let off = with("[content]\nfolder = \"/srv/files\"\nenabled = false\n").unwrap();
        let off = off.content.unwrap();
        assert!(!off.is_enabled);
        assert_eq!(folder(off), PathBuf::from("/srv/files"));
        let shown = message(with("[content]\n"));
        assert!(shown.starts_with("this does not say where content is\n"), "{shown}");
        let shown = message(with("[content]\nfolder = \"\"\n"));
        assert!(shown.starts_with("the folder of content is not named\n"), "{shown}");
    }

    #[test]
    fn the_folder_is_found_without_the_keys() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("gateway.toml");
        let found = |text: &str| {
            std::fs::write(&file, text).unwrap();
            content_config(&file)
        };
        let content = found("service = \"x\"\n[content]\nfolder = \"files\"\n").unwrap();
        assert_eq!(content.store.shown(), home.path().join("files").display().to_string());
        let text = found("service = \"x\"\n").unwrap_err().to_string();
        assert!(text.starts_with("the instance with this file has no content\n"), "{text}");
    }

    #[test]
    fn a_store_elsewhere_has_its_usual_place_or_an_endpoint_and_its_key_is_never_shown() {
        let azure = cloud(AZURE);
        assert_eq!(azure.root.as_str(), "https://relayfiles.blob.core.windows.net/content/");
        assert_eq!(azure.key.secret(), "a2V5");
        assert!(!format!("{azure:?}").contains("a2V5"));
        let s3 = cloud(&format!("{S3}prefix = \"site-1/content\"\n"));
        let root = "https://relay-files.s3.eu-central-1.amazonaws.com/site-1/content/";
        assert_eq!((s3.root.as_str(), s3.key.secret()), (root, "s3cret/key+"));
        let dotted = cloud(&S3.replace("relay-files", "relay.files"));
        assert_eq!(dotted.root.as_str(), "https://s3.eu-central-1.amazonaws.com/relay.files/");
        let here = S3.replace("trust = \"site-ca.pem\"\n", "endpoint = \"http://127.0.0.1:9/\"\n");
        let here = cloud(&here);
        assert_eq!(here.root.as_str(), "http://127.0.0.1:9/relay-files/");
        assert!(here.trust.is_none());
    }

    #[test]
    fn of_a_store_elsewhere_each_value_is_judged() {
        for (table, told) in [
            (
                format!("[content]\nfolder = \"a\"\n{AZURE}"),
                "content is said to be in more than one",
            ),
            (format!("{AZURE}{S3}"), "content is said to be in more than one place"),
            (AZURE.replace("relayfiles", "Relay"), "this is no name of a storage account"),
            (AZURE.replace("\"content\"", "\"../content\""), "this is no name of a container"),
            (AZURE.replace("\"content\"", "\"a--b\""), "this is no name of a container"),
            (AZURE.replace("azure.key", "absent.key"), "the store's key cannot be read from"),
            (AZURE.replace("azure.key", "gateway.toml"), "this file holds no key of a store"),
            (AZURE.replace("trust = \"site-ca.pem\"\n", ""), "this does not say by whom the store"),
            (format!("{AZURE}prefix = \"a/../b\"\n"), "this is no prefix"),
            (format!("{AZURE}prefix = \"/a\"\n"), "this is no prefix"),
            (format!("{AZURE}prefix = \"a%2fb\"\n"), "this is no prefix"),
            (format!("{AZURE}endpoint = \"http://store.example\"\n"), "this is not where a store"),
            (format!("{AZURE}endpoint = \"https://u:p@store.example\"\n"), "this is not where a"),
            (format!("{AZURE}key = \"secret\"\n"), "unknown key `key`"),
            (S3.replace("relay-files", "Files"), "this is no name of a bucket"),
            (S3.replace("relay-files", "a..b"), "this is no name of a bucket"),
            (S3.replace("eu-central-1", "eu/central"), "this is no region"),
            (S3.replace("AKIA1", "AKIA 1"), "this is no id of an access key"),
        ] {
            let shown = fault(&table);
            assert!(shown.starts_with(told), "{table}\n{shown}");
        }
    }

    #[test]
    fn names_and_prefixes_have_their_lengths() {
        let long = |octets: usize| "a".repeat(octets);
        assert!(is_bucket(&long(3), b"-") && is_bucket(&long(63), b"-"));
        assert!(!is_bucket(&long(2), b"-") && !is_bucket(&long(64), b"-"));
        assert!(is_bucket("a-b", b"-") && !is_bucket("-ab", b"-") && !is_bucket("ab-", b"-"));
        assert!(is_prefix(&long(PREFIX_OCTETS_MAX)) && !is_prefix(&long(PREFIX_OCTETS_MAX + 1)));
    }
}
