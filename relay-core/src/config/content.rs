//! Where an instance has its content from: `[content]`.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::error::ConfigError;
use super::source::Source;
use super::spanned::Spanned;

/// The `[content]` table as written.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, expecting = "a `[content]` table")]
pub(super) struct RawContent {
    /// The folder that packages are in.
    folder: Spanned<PathBuf>,
    /// Whether clients are given what is in it; else they are answered 404.
    #[serde(default = "yes")]
    #[cfg_attr(feature = "schema", schemars(extend("default" = true)))]
    enabled: bool,
}

fn yes() -> bool {
    true
}

/// The folder that an instance has its content in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ContentFolder {
    /// The folder. It need not be there: nothing was put into it then.
    pub folder: PathBuf,
    /// Whether clients are given what is in it; else they are answered 404, and go elsewhere.
    pub is_enabled: bool,
}

impl RawContent {
    /// Judges that a folder is named.
    pub(super) fn judge(&self, source: &Source) -> Result<ContentFolder, ConfigError> {
        let written = self.folder.get_ref();
        if written.as_os_str().is_empty() {
            return Err(source.invalid(
                self.folder.span(),
                "the folder of content is not named",
                "give a folder of its own, as in `folder = \"content\"`",
            ));
        }
        Ok(ContentFolder { folder: source.resolve(written), is_enabled: self.enabled })
    }
}

/// Reads where the instance with this configuration file has its content, and nothing else of it:
/// the keys that the file names need not be readable.
///
/// # Errors
///
/// [`ConfigError`] if the file cannot be read as TOML, or names no folder.
pub fn content_folder(path: &Path) -> Result<ContentFolder, ConfigError> {
    #[derive(Deserialize)]
    struct RawRole {
        content: Option<RawContent>,
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
    content.judge(&source)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::{Site, message};

    #[test]
    fn an_instance_has_content_where_the_file_names_a_folder_and_can_be_told_to_give_none() {
        let with = |table: &str| Site::new().gateway_with(|text| format!("{text}\n{table}"));
        assert_eq!(with("").unwrap().content, None);
        let content = with("[content]\nfolder = \"files\"\n").unwrap().content.unwrap();
        assert!(content.folder.is_absolute() && content.folder.ends_with("files"));
        assert!(content.is_enabled);
        let off = with("[content]\nfolder = \"/srv/files\"\nenabled = false\n").unwrap();
        let off = off.content.unwrap();
        assert_eq!((off.folder, off.is_enabled), (PathBuf::from("/srv/files"), false));
        let shown = message(with("[content]\n"));
        assert!(shown.starts_with("key `folder` is missing\n"), "{shown}");
        let shown = message(with("[content]\nfolder = \"\"\n"));
        assert!(shown.starts_with("the folder of content is not named\n"), "{shown}");
    }

    #[test]
    fn the_folder_is_found_without_the_keys() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("gateway.toml");
        let found = |text: &str| {
            std::fs::write(&file, text).unwrap();
            content_folder(&file)
        };
        let content = found("service = \"x\"\n[content]\nfolder = \"files\"\n").unwrap();
        assert_eq!(content.folder, home.path().join("files"));
        let text = found("service = \"x\"\n").unwrap_err().to_string();
        assert!(text.starts_with("the instance with this file has no content\n"), "{text}");
    }
}
