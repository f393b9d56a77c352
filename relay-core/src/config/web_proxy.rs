//! `[web_proxy]` of a connection point: what stands between it and the gateway instances.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::value::SeqAccessDeserializer;
use serde::de::{Deserializer, SeqAccess, Visitor};

use super::error::{ConfigError, Invalid};
use super::pem::permission_bits;
use super::source::Source;
use super::spanned::Spanned;
use super::warning::Warning;
use crate::transport::{
    Bypass, CREDENTIAL_BYTES_MAX, EnvironmentError, ProxyCredentials, WebProxy, require_file,
};

/// How the value of an environment variable is looked up by its name. The room itself asks no
/// environment: the program decides which one there is.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The table as written.
#[derive(Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, expecting = "a `[web_proxy]` table")]
pub(super) struct RawWebProxy {
    /// Scheme, host and port, as in `http://proxy.example:3128`. No user or password here.
    url: Option<Spanned<String>>,
    /// Who this connection point is to the proxy.
    user: Option<Spanned<String>>,
    /// File with the password alone. Secret.
    password_file: Option<Spanned<PathBuf>>,
    /// Hosts that are reached without the proxy: names with all below them, addresses, networks.
    bypass: Option<Spanned<RawBypass>>,
    /// In place of all these: take them from `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY`.
    #[cfg_attr(feature = "schema", schemars(extend("default" = false)))]
    from_environment: Option<Spanned<bool>>,
}

/// One text as in `NO_PROXY`, or a list of such texts; joined.
struct RawBypass(String);

impl<'de> Deserialize<'de> for RawBypass {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct BypassVisitor;

        impl<'de> Visitor<'de> for BypassVisitor {
            type Value = RawBypass;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of hosts")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<RawBypass, E> {
                Ok(RawBypass(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<RawBypass, A::Error> {
                let list = Vec::<String>::deserialize(SeqAccessDeserializer::new(seq))?;
                Ok(RawBypass(list.join(",")))
            }
        }

        deserializer.deserialize_any(BypassVisitor)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for RawBypass {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Bypass".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        super::backend::OneOrMany::json_schema(generator)
    }
}

/// The table `written`, judged; `None` where the environment is to say and names no proxy.
pub(super) fn judge(
    source: &Source,
    written: &Spanned<RawWebProxy>,
    environment: Environment<'_>,
) -> Result<Option<WebProxy>, ConfigError> {
    let raw = written.get_ref();
    match (&raw.from_environment, &raw.url) {
        (Some(asked), _) if *asked.get_ref() => {
            raw.refuse_beside_environment(source, asked)?;
            WebProxy::from_environment(environment).map_err(|error| {
                let help = match error {
                    EnvironmentError::Url { .. } => {
                        "set it as in `http://proxy.example:3128`, or write `url` here instead"
                    }
                    _ => "mend the variable, or write `url` and `bypass` here instead",
                };
                source.invalid(asked.span(), error.to_string(), help)
            })
        }
        (_, Some(url)) => raw.judge_url(source, url).map(Some),
        (_, None) => Err(source.invalid(
            written.span(),
            "this does not say where the web proxy is",
            "add `url = \"http://proxy.example:3128\"`, or `from_environment = true` to use \
             HTTPS_PROXY and NO_PROXY; without a proxy, remove the whole table",
        )),
    }
}

/// What deserves attention about the password's file.
pub(super) fn warning(source: &Source, written: &Spanned<RawWebProxy>) -> Option<Warning> {
    let file = source.resolve(written.get_ref().password_file.as_ref()?.get_ref());
    let mode = permission_bits(&file)?;
    (mode & 0o007 != 0).then_some(Warning::PasswordReadableByOthers { file, mode })
}

impl RawWebProxy {
    /// Two places for the same thing would leave open which of them counts.
    fn refuse_beside_environment(
        &self,
        source: &Source,
        asked: &Spanned<bool>,
    ) -> Result<(), ConfigError> {
        let others = [
            ("url", self.url.is_some()),
            ("user", self.user.is_some()),
            ("password_file", self.password_file.is_some()),
            ("bypass", self.bypass.is_some()),
        ];
        let Some((name, _)) = others.into_iter().find(|(_, is_written)| *is_written) else {
            return Ok(());
        };
        Err(source.invalid(
            asked.span(),
            format!("the environment is to name the web proxy, and `{name}` is written here too"),
            format!("remove `{name}`, or `from_environment`"),
        ))
    }

    fn judge_url(&self, source: &Source, url: &Spanned<String>) -> Result<WebProxy, ConfigError> {
        let fault = |problem: &str, help: String| {
            // Whatever is wrong with it, it may hold a password where none should be.
            let place = source.place(url.span());
            let place = if url.get_ref().contains('@') { place.redacted() } else { place };
            ConfigError::Invalid(Box::new(Invalid { problem: problem.to_owned(), place, help }))
        };
        if url.get_ref().contains('@') {
            return Err(fault(
                "the web proxy's URL carries a user name or a password",
                "remove everything up to and including `@`; write `user`, and the password into \
                 a file of its own that `password_file` names"
                    .to_owned(),
            ));
        }
        let mut proxy = WebProxy::parse_url(url.get_ref())
            .map_err(|error| fault("this is not the URL of a web proxy", error.to_string()))?;
        proxy.credentials = self.credentials(source)?;
        if let Some(list) = &self.bypass {
            proxy.bypass = Bypass::parse(&list.get_ref().0).map_err(|error| {
                let problem = "this is not a list of hosts to reach without the web proxy";
                source.invalid(list.span(), problem, error.to_string())
            })?;
        }
        Ok(proxy)
    }

    fn credentials(&self, source: &Source) -> Result<Option<ProxyCredentials>, ConfigError> {
        match (&self.user, &self.password_file) {
            (None, None) => Ok(None),
            (Some(user), None) => Err(source.invalid(
                user.span(),
                "the web proxy's user has no password",
                "add `password_file = \"proxy-password\"`, a file that holds the password alone",
            )),
            (None, Some(file)) => Err(source.invalid(
                file.span(),
                "the web proxy's password has no user",
                "add `user = \"...\"`, or remove `password_file`",
            )),
            (Some(user), Some(file)) => {
                let password = password(source, file)?;
                ProxyCredentials::new(user.get_ref().as_str(), password).map(Some).map_err(
                    |error| {
                        let problem = "the web proxy cannot be shown this user and password";
                        source.invalid(user.span(), problem, error.to_string())
                    },
                )
            }
        }
    }
}

/// The password in the file, without the line break that editors leave at the end.
fn password(source: &Source, file: &Spanned<PathBuf>) -> Result<String, ConfigError> {
    let path = source.resolve(file.get_ref());
    let fault = |problem: String, help: &str| source.invalid(file.span(), problem, help);
    let octets = read(&path).map_err(|error| {
        fault(
            format!("cannot read the web proxy's password from `{}`: {error}", path.display()),
            "check the path and its permissions; a relative path starts at the folder of this file",
        )
    })?;
    let text = String::from_utf8(octets).map_err(|_| {
        let problem = format!("the password in `{}` is not UTF-8 text", path.display());
        fault(problem, "save the file as UTF-8; editors on Windows may have written UTF-16")
    })?;
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let password = line.strip_suffix('\r').unwrap_or(line);
    if password.is_empty() || CREDENTIAL_BYTES_MAX < password.len() {
        return Err(fault(
            format!("the password in `{}` is empty or too long", path.display()),
            "write the password alone into the file, 1 to 1024 octets on one line",
        ));
    }
    Ok(password.to_owned())
}

/// The file's octets, as many as tell that it is too long.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut octets = Vec::new();
    let most = CREDENTIAL_BYTES_MAX as u64 + 3;
    require_file(path)?;
    File::open(path)?.take(most).read_to_end(&mut octets)?;
    Ok(octets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing::{Site, message};
    use crate::config::{LoadedConnectionPoint, load_connection_point};

    /// A connection point whose `[web_proxy]` has these lines.
    fn load(
        site: &Site,
        lines: &str,
        environment: Environment<'_>,
    ) -> Result<LoadedConnectionPoint, ConfigError> {
        let _ = site.connection_point_with(|text| format!("{text}\n[web_proxy]\n{lines}\n"));
        load_connection_point(&site.path("connection-point.toml"), environment)
    }

    fn with(lines: &str) -> Result<LoadedConnectionPoint, ConfigError> {
        load(&Site::new(), lines, &|_| None)
    }

    fn proxy(lines: &str) -> WebProxy {
        with(lines).unwrap().config.web_proxy.unwrap()
    }

    /// A site whose file `password` holds `octets`.
    fn with_password(octets: &[u8]) -> Result<LoadedConnectionPoint, ConfigError> {
        let site = Site::new();
        std::fs::write(site.path("password"), octets).unwrap();
        load(&site, &format!("{URL}\nuser = \"u\"\npassword_file = \"password\""), &|_| None)
    }

    const URL: &str = "url = \"http://proxy.example:3128\"";

    #[test]
    fn without_the_table_there_is_no_proxy() {
        let loaded = Site::new().connection_point_with(str::to_owned).unwrap();
        assert_eq!(loaded.config.web_proxy, None);
    }

    #[test]
    fn a_url_alone_is_a_proxy_without_credentials() {
        let expected = WebProxy::parse_url("http://proxy.example:3128").unwrap();
        assert_eq!(proxy(URL), expected);
        assert_eq!(proxy(&format!("{URL}\nfrom_environment = false")), expected);
    }

    #[test]
    fn hosts_to_bypass_are_one_text_or_a_list() {
        for bypass in ["\"a.example, 10.0.0.0/8\"", "[\"a.example\", \"10.0.0.0/8\"]"] {
            let bypass = proxy(&format!("{URL}\nbypass = {bypass}")).bypass;
            assert_eq!(bypass, Bypass::parse("a.example,10.0.0.0/8").unwrap());
        }
        let text = message(with(&format!("{URL}\nbypass = [\"a.example\", \"10.*\"]")));
        assert!(text.starts_with("this is not a list of hosts to reach"), "{text}");
        assert!(text.contains(":24:10\n") && text.contains("`10.*` is not a host"), "{text}");
        for wrong in ["1", "[1]", "{}"] {
            assert!(with(&format!("{URL}\nbypass = {wrong}")).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_password_is_what_the_file_holds_but_a_line_break() {
        let longest = "x".repeat(CREDENTIAL_BYTES_MAX);
        for (content, password) in [
            ("secret", "secret"),
            ("secret\n", "secret"),
            ("secret\r\n", "secret"),
            (" se cret ", " se cret "),
            (&format!("{longest}\r\n"), &longest),
        ] {
            let loaded = with_password(content.as_bytes()).unwrap();
            let expected = ProxyCredentials::new("u", password).unwrap();
            assert!(loaded.config.web_proxy.unwrap().credentials == Some(expected), "{content:?}");
        }
    }

    #[test]
    fn a_password_that_is_none_is_refused_at_its_file() {
        let long = "x".repeat(CREDENTIAL_BYTES_MAX + 1);
        for (content, problem) in [
            (&b""[..], "` is empty or too long"),
            (b"\n", "` is empty or too long"),
            (b"\r\n", "` is empty or too long"),
            (long.as_bytes(), "` is empty or too long"),
            (b"hunter2\xff", "` is not UTF-8 text"),
        ] {
            let text = message(with_password(content));
            let first = text.lines().next().unwrap();
            assert!(first.starts_with("the password in `") && first.ends_with(problem), "{text}");
            assert!(text.contains(":25:17\n") && !text.contains("hunter2"), "{text}");
        }
        let text = message(with_password(b"hunter2\nand more\n"));
        assert!(text.contains("has a control character") && !text.contains("hunter2"), "{text}");
        let absent = format!("{URL}\nuser = \"u\"\npassword_file = \"absent\"");
        let text = message(with(&absent));
        assert!(text.starts_with("cannot read the web proxy's password from `"), "{text}");
    }

    #[test]
    fn user_and_password_go_together() {
        let text = message(with(&format!("{URL}\nuser = \"u\"")));
        assert!(text.starts_with("the web proxy's user has no password\n"), "{text}");
        let text = message(with(&format!("{URL}\npassword_file = \"password\"")));
        assert!(text.starts_with("the web proxy's password has no user\n"), "{text}");
    }

    #[test]
    fn a_password_in_the_url_is_refused_and_not_repeated() {
        let site = Site::new();
        let lines = "url = \"http://user:hunter2@proxy.example:3128\"";
        let text = message(load(&site, lines, &|_| None));
        let expected = format!(
            "the web proxy's URL carries a user name or a password
  --> {}:23:7
   |
23 | url = [redacted]
   |       ^^^^^^^^^^
  = help: remove everything up to and including `@`; write `user`, and the password into a file \
             of its own that `password_file` names",
            site.path("connection-point.toml").display()
        );
        assert_eq!(text, expected);
    }

    #[test]
    fn a_url_that_is_none_and_a_table_without_one_are_refused() {
        let text = message(with("url = \"socks5://proxy.example\""));
        assert!(text.starts_with("this is not the URL of a web proxy\n"), "{text}");
        assert!(text.contains(":23:7\n") && text.contains("scheme is not `http`"), "{text}");
        for lines in ["", "from_environment = false", "bypass = \"a.example\""] {
            let text = message(with(lines));
            assert!(text.starts_with("this does not say where the web proxy is\n"), "{text}");
            assert!(text.contains(":22:1\n"), "{text}");
        }
    }

    #[test]
    fn the_environment_is_asked_only_where_the_file_says_so() {
        let environment = |name: &str| match name {
            "HTTPS_PROXY" => Some("http://user:hunter2@other.example:1".to_owned()),
            "NO_PROXY" => Some("a.example".to_owned()),
            _ => None,
        };
        let site = Site::new();
        let load = |lines| load(&site, lines, &environment).unwrap().config.web_proxy;
        assert_eq!(
            load("from_environment = true"),
            WebProxy::from_environment(environment).unwrap()
        );
        assert_eq!(load("from_environment = true").unwrap().host, "other.example");
        assert_eq!(load(URL).unwrap().host, "proxy.example");
        assert_eq!(with("from_environment = true").unwrap().config.web_proxy, None);
    }

    #[test]
    fn the_environment_goes_with_no_other_key() {
        for (name, line) in [
            ("url", URL),
            ("user", "user = \"u\""),
            ("password_file", "password_file = \"password\""),
            ("bypass", "bypass = \"a.example\""),
        ] {
            let text = message(with(&format!("{line}\nfrom_environment = true")));
            assert!(text.contains(&format!("`{name}` is written here too\n")), "{text}");
            assert!(text.contains(":24:20\n"), "{text}");
        }
    }

    #[test]
    fn a_fault_of_the_environment_is_shown_at_the_key_that_asks_it() {
        let environment =
            |name: &str| (name == "all_proxy").then(|| "https://user:hunter2@a".to_owned());
        let text = message(load(&Site::new(), "from_environment = true", &environment));
        assert!(text.starts_with("the variable `all_proxy` is not the URL"), "{text}");
        assert!(text.contains(":23:20\n") && !text.contains("hunter2"), "{text}");
    }

    #[cfg(unix)]
    #[test]
    fn a_password_that_all_accounts_can_read_deserves_a_warning() {
        use std::os::unix::fs::PermissionsExt as _;

        for (mode, warns) in [(0o604, true), (0o640, false), (0o600, false)] {
            let site = Site::new();
            std::fs::write(site.path("password"), "secret").unwrap();
            let permissions = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(site.path("password"), permissions).unwrap();
            let lines = format!("{URL}\nuser = \"u\"\npassword_file = \"password\"");
            let warnings = load(&site, &lines, &|_| None).unwrap().warnings;
            let expected = Warning::PasswordReadableByOthers { file: site.path("password"), mode };
            assert_eq!(warnings.contains(&expected), warns, "{mode:o}: {warnings:?}");
        }
    }
}
