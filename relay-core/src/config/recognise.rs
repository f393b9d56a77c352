//! Which role a configuration file is for, by what is in it.

use std::path::Path;

use toml::de::{DeTable, DeValue};

use super::error::ConfigError;
use super::source::Source;

/// Keys that only a gateway's file has.
const OF_GATEWAY: [&str; 5] = ["service", "instance", "balance", "links", "fetch"];

/// Keys that only a connection point's file has.
const OF_CONNECTION_POINT: [&str; 11] = [
    "name",
    "site",
    "gateway",
    "link",
    "endpoint",
    "tenant",
    "settings",
    "web_proxy",
    "pki",
    "tokens",
    "token_service",
];

/// A role that has a configuration file.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum RoleKind {
    /// A gateway instance.
    Gateway,
    /// A connection point.
    ConnectionPoint,
}

/// Says which role a file is for: the one that most of its keys belong to. The file may be as
/// faulty as it likes otherwise.
///
/// # Errors
///
/// [`ConfigError`] if the file cannot be read as text, or could be for either role.
pub fn recognise(path: &Path) -> Result<RoleKind, ConfigError> {
    let source = Source::read(path)?;
    let (document, _) = DeTable::parse_recoverable(source.text());
    let table = document.get_ref();
    let count = |keys: &[&str]| keys.iter().filter(|key| table.contains_key(**key)).count();
    // The only table of both roles that tells them apart.
    let clients = table.get("clients").and_then(|clients| match clients.get_ref() {
        DeValue::Table(clients) => Some(clients.contains_key("listen")),
        _ => None,
    });
    let gateway = count(&OF_GATEWAY) + usize::from(clients == Some(true));
    let connection_point = count(&OF_CONNECTION_POINT) + usize::from(clients == Some(false));
    match gateway.cmp(&connection_point) {
        std::cmp::Ordering::Greater => Ok(RoleKind::Gateway),
        std::cmp::Ordering::Less => Ok(RoleKind::ConnectionPoint),
        std::cmp::Ordering::Equal => Err(source.invalid(
            0..0,
            "this could be for a gateway as well as for a connection point",
            "say which with `--role gateway` or `--role connection-point`; a gateway's file has \
             `service` and `instance`, a connection point's `name` and `[gateway]`",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::{Site, message};

    fn of(text: &str) -> Result<RoleKind, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("f.toml");
        std::fs::write(&path, text).unwrap();
        recognise(&path)
    }

    #[test]
    fn a_file_is_for_the_role_that_most_of_its_keys_belong_to_however_faulty_it_is() {
        let site = Site::new();
        site.gateway_with(|text| format!("{text}\n[[endpoint]]\n= 1\n")).unwrap_err();
        assert_eq!(recognise(&site.gateway_file()).unwrap(), RoleKind::Gateway);
        site.connection_point_with(|text| format!("odd = \n{text}")).unwrap_err();
        let file = site.path("connection-point.toml");
        assert_eq!(recognise(&file).unwrap(), RoleKind::ConnectionPoint);
        assert_eq!(of("[clients]\nlisten = 1\n").unwrap(), RoleKind::Gateway);
        assert_eq!(of("[clients]\nroots = 1\n").unwrap(), RoleKind::ConnectionPoint);
        for neither in ["", "[limits]\n", "service = 1\nname = 1\n", "clients = 1\n"] {
            let text = message(of(neither));
            assert!(text.starts_with("this could be for a gateway as well"), "{text}");
        }
    }

    #[test]
    fn each_key_that_tells_the_roles_apart_is_of_the_one_and_unknown_to_the_other() {
        let site = Site::new();
        let with = |key: &'static str| move |text: &str| format!("{key} = 7.5\n{text}");
        let is_unknown = |key: &str, told: &str| told.contains(&format!("unknown key `{key}`"));
        for key in OF_GATEWAY {
            assert!(!is_unknown(key, &message(site.gateway_with(with(key)))), "{key}");
            assert!(is_unknown(key, &message(site.connection_point_with(with(key)))), "{key}");
        }
        for key in OF_CONNECTION_POINT {
            assert!(!is_unknown(key, &message(site.connection_point_with(with(key)))), "{key}");
            // That one is known to a gateway, to be refused with a better answer.
            let is_refused_well = key == "endpoint";
            let told = message(site.gateway_with(with(key)));
            assert_ne!(is_unknown(key, &told), is_refused_well, "{key}");
        }
    }
}
