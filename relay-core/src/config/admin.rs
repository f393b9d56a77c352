//! `[admin]`: where a running role is asked and told.

use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::Path;

use serde::Deserialize;

use super::error::{ConfigError, Place};
use super::listen;
use super::source::Source;
use super::spanned::Spanned;

/// Where a running role is asked and told.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, expecting = "an `[admin]` table")]
pub(super) struct RawAdmin {
    /// An address of loopback and a port, as in `127.0.0.1:10180`.
    listen: Spanned<String>,
}

/// Where a role is to be administered.
#[derive(Clone, Debug)]
pub struct AdminListener {
    /// An address of loopback. Port 0 leaves the choice to the operating system.
    pub listen: SocketAddr,
    place: Place,
}

impl AdminListener {
    /// The message that it could not be bound, at the line that asked for its address.
    pub fn bind_failed(&self, error: &io::Error) -> ConfigError {
        listen::bind_failed("an administrator", self.listen, &self.place, error)
    }
}

impl RawAdmin {
    /// Where its address is written.
    pub(super) fn span(&self) -> Range<usize> {
        self.listen.span()
    }

    /// Judges the address, which must be of loopback: whoever reaches it may drain the role.
    pub(super) fn judge(&self, source: &Source) -> Result<AdminListener, ConfigError> {
        let help = "give an address of loopback and a port, as in `127.0.0.1:10180`";
        let listen: SocketAddr = self.listen.get_ref().parse().map_err(|_| {
            let problem = format!("`{}` is not an address to listen on", self.listen.get_ref());
            source.invalid(self.listen.span(), problem, help)
        })?;
        if !listen.ip().is_loopback() {
            let problem = format!("{listen} can be reached from other machines");
            return Err(source.invalid(self.listen.span(), problem, help));
        }
        Ok(AdminListener { listen, place: source.place(self.listen.span()) })
    }
}

/// Reads where the role with this configuration file is administered, and nothing else of it: the
/// keys that the file names need not be readable.
///
/// # Errors
///
/// [`ConfigError`] if the file cannot be read as TOML, or names no usable address.
pub fn admin_address(path: &Path) -> Result<SocketAddr, ConfigError> {
    #[derive(Deserialize)]
    struct RawRole {
        admin: Option<RawAdmin>,
    }

    let source = Source::read(path)?;
    let raw: RawRole = source.parse()?;
    let Some(admin) = raw.admin else {
        return Err(source.invalid(
            0..0,
            "the role with this file has no admin listener",
            "add `[admin]` with `listen = \"127.0.0.1:10180\"` and start the role again",
        ));
    };
    let address = admin.judge(&source)?.listen;
    if address.port() == 0 {
        return Err(source.invalid(
            admin.listen.span(),
            "port 0 is any port, which only the running role knows",
            "use the address that the role said at its start",
        ));
    }
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::{Site, message};

    fn admin(listen: &str) -> String {
        format!("[admin]\nlisten = \"{listen}\"\n")
    }

    #[test]
    fn both_roles_have_an_admin_listener_where_the_file_says_so_and_only_there() {
        let site = Site::new();
        assert!(site.gateway_with(str::to_owned).unwrap().admin.is_none());
        assert!(site.connection_point_with(str::to_owned).unwrap().admin.is_none());
        for listen in ["127.0.0.1:10180", "127.9.9.9:0", "[::1]:1"] {
            let append = |text: &str| text.to_owned() + &admin(listen);
            let expected: SocketAddr = listen.parse().unwrap();
            assert_eq!(site.gateway_with(append).unwrap().admin.unwrap().listen, expected);
            let loaded = site.connection_point_with(append).unwrap();
            assert_eq!(loaded.admin.unwrap().listen, expected);
        }
    }

    #[test]
    fn an_address_that_others_can_reach_is_refused() {
        let site = Site::new();
        for listen in ["0.0.0.0:10180", "10.0.0.1:10180", "[::]:10180"] {
            let text = message(site.gateway_with(|text| text.to_owned() + &admin(listen)));
            let problem = format!("{listen} can be reached from other machines\n");
            assert!(text.starts_with(&problem), "{text}");
        }
        let text = message(site.gateway_with(|text| text.to_owned() + &admin("localhost:1")));
        assert!(text.starts_with("`localhost:1` is not an address to listen on\n"), "{text}");
    }

    #[test]
    fn the_address_is_found_without_the_keys_and_only_if_it_is_a_whole_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("gateway.toml");
        let address = |text: &str| {
            std::fs::write(&file, text).unwrap();
            admin_address(&file)
        };
        let found = address(&format!("service = \"x\"\n{}", admin("127.0.0.1:10180")));
        assert_eq!(found.unwrap(), "127.0.0.1:10180".parse().unwrap());
        let text = address("service = \"x\"\n").unwrap_err().to_string();
        assert!(text.starts_with("the role with this file has no admin listener\n"), "{text}");
        let text = address(&admin("127.0.0.1:0")).unwrap_err().to_string();
        assert!(text.starts_with("port 0 is any port"), "{text}");
    }
}
