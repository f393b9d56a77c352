//! Whether links go over QUIC, and where: keys of `[links]` at a gateway and of `[gateway]` at a
//! connection point.

use std::net::SocketAddr;

use super::error::ConfigError;
use super::source::Source;
use super::spanned::Spanned;

/// Whether `quic` is written and true.
pub(super) fn is_wanted(
    source: &Source,
    written: Option<&Spanned<bool>>,
) -> Result<bool, ConfigError> {
    let Some(written) = written.filter(|written| *written.get_ref()) else { return Ok(false) };
    check_build(source, written)?;
    Ok(true)
}

/// Refuses a key that this build can do nothing with, rather than ignore it.
pub(super) fn check_build<T>(source: &Source, written: &Spanned<T>) -> Result<(), ConfigError> {
    if cfg!(feature = "quic") {
        return Ok(());
    }
    Err(source.invalid(
        written.span(),
        "this build has no QUIC",
        "remove the line, or use a build with the feature `quic`",
    ))
}

/// Where a gateway instance takes links over QUIC: at `quic_listen`, or with `quic = true` on the
/// UDP port of the same number as the link port.
pub(super) fn listen(
    source: &Source,
    quic: Option<&Spanned<bool>>,
    quic_listen: Option<&Spanned<String>>,
    links: SocketAddr,
) -> Result<Option<SocketAddr>, ConfigError> {
    let is_wanted = is_wanted(source, quic)?;
    let Some(written) = quic_listen else { return Ok(is_wanted.then_some(links)) };
    check_build(source, written)?;
    if quic.is_some_and(|quic| !quic.get_ref()) {
        return Err(source.invalid(
            written.span(),
            "an address for QUIC is given, and QUIC is switched off",
            "remove `quic = false`, or this line",
        ));
    }
    super::gateway::address(source, written).map(Some)
}

#[cfg(all(test, not(feature = "quic")))]
mod tests {
    use crate::config::testing::{Site, message};

    #[test]
    fn a_build_without_quic_refuses_the_keys_for_it() {
        for (key, is_refused) in
            [("quic = true", true), ("quic = false", false), ("quic_listen = \"0.0.0.0:1\"", true)]
        {
            let loaded = Site::new()
                .gateway_with(|text| text.replace("[links]", &format!("[links]\n{key}")));
            assert_eq!(loaded.is_err(), is_refused, "{key}");
        }
        let transport = "[gateway]\ntransport = \"quic\"";
        let text =
            message(Site::new().connection_point_with(|text| text.replace("[gateway]", transport)));
        assert!(text.starts_with("this build has no QUIC\n"), "{text}");
    }
}

#[cfg(all(test, feature = "quic"))]
mod tests {
    use crate::config::testing::{Site, message};
    use crate::config::{ConfigError, LoadedGateway};

    fn gateway(keys: &str) -> Result<LoadedGateway, ConfigError> {
        Site::new().gateway_with(|text| text.replace("[links]", &format!("[links]\n{keys}")))
    }

    #[test]
    fn a_gateway_takes_links_over_quic_where_it_is_told_and_else_nowhere() {
        for (keys, listen) in [
            ("", None),
            ("quic = false", None),
            ("quic = true", Some("0.0.0.0:10140")),
            ("quic_listen = \"[::]:443\"", Some("[::]:443")),
            ("quic = true\nquic_listen = \"127.0.0.1:0\"", Some("127.0.0.1:0")),
        ] {
            let listen = listen.map(|address| address.parse().unwrap());
            assert_eq!(gateway(keys).unwrap().quic_link_listen, listen, "{keys}");
        }
    }

    #[test]
    fn an_address_for_quic_that_is_none_or_is_switched_off_is_refused() {
        let text = message(gateway("quic_listen = \"relay.example:1\""));
        assert!(text.contains("is not an address to listen on"), "{text}");
        let text = message(gateway("quic = false\nquic_listen = \"0.0.0.0:1\""));
        assert!(text.starts_with("an address for QUIC is given"), "{text}");
    }
}
