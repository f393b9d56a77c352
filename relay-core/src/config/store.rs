//! Where a site keeps what it has issued and blocked: `store` and what belongs to it in `[tokens]`.

use std::net::IpAddr;
use std::path::PathBuf;

use super::error::ConfigError;
use super::source::Source;
use super::spanned::Spanned;

/// The port of PostgreSQL, unless the URL says another.
// Source: IANA, service name `postgresql`.
const PORT: u16 = 5432;

/// As written, among the other keys of `[tokens]`.
pub(super) struct RawStore<'a> {
    pub(super) store: Option<&'a Spanned<String>>,
    pub(super) store_password_file: Option<&'a Spanned<PathBuf>>,
    pub(super) store_ca: Option<&'a Spanned<PathBuf>>,
    pub(super) unsafe_plain_store: bool,
}

/// Where a site keeps what it has issued and blocked.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum SiteStore {
    /// In a file in the folder of its keys.
    File,
    /// In a database of PostgreSQL, which all connection points of the site share.
    Postgres(PostgresStore),
}

/// A database of PostgreSQL. No secret is in it.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct PostgresStore {
    /// Where the server is.
    pub host: PostgresHost,
    /// Its port, or the number in the name of its socket.
    pub port: u16,
    /// As whom to log in.
    pub user: String,
    /// The database.
    pub database: String,
    /// The file with the user's password, if the server asks for one.
    pub password_file: Option<PathBuf>,
    /// The file with the authorities that vouch for the server, if TLS is to be spoken: always, but
    /// on this machine, or where the file has it otherwise.
    pub ca: Option<PathBuf>,
}

/// Where a server of PostgreSQL is.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum PostgresHost {
    /// A name or address.
    Tcp(String),
    /// The folder of its socket.
    Socket(PathBuf),
}

/// What a URL says.
struct Url {
    host: PostgresHost,
    port: u16,
    user: String,
    database: String,
}

impl RawStore<'_> {
    pub(super) fn judge(&self, source: &Source) -> Result<SiteStore, ConfigError> {
        let Some(written) = self.store else {
            return self.judge_without(source);
        };
        let url = parse(written.get_ref()).map_err(|problem| {
            // It is not shown: whatever is wrong with it, a password may be in it.
            source.invalid(
                0..0,
                format!("`store` {problem}"),
                "write it as in `store = \"postgres://user@db.example/site\"`, or \
                 `postgres://user@%2Frun%2Fpostgresql/site` for a socket; the password belongs \
                 into the file that `store_password_file` names",
            )
        })?;
        let file = |path: &Spanned<PathBuf>| source.resolve(path.get_ref());
        let ca = self.store_ca.map(file);
        let is_local = match &url.host {
            PostgresHost::Socket(_) => true,
            PostgresHost::Tcp(name) => is_loopback(name),
        };
        if let (PostgresHost::Socket(_), Some(ca)) = (&url.host, self.store_ca) {
            return Err(source.invalid(
                ca.span(),
                "nothing speaks TLS over a socket of this machine",
                "remove `store_ca`, or name a host in `store`",
            ));
        }
        if ca.is_none() && !is_local && !self.unsafe_plain_store {
            return Err(source.invalid(
                written.span(),
                "this store is on another machine, and it is not said who vouches for it",
                "add `store_ca`, a file with the certificate of the authority of its server. With \
                 `unsafe_plain_store = true` all is sent and received in the clear",
            ));
        }
        Ok(SiteStore::Postgres(PostgresStore {
            host: url.host,
            port: url.port,
            user: url.user,
            database: url.database,
            password_file: self.store_password_file.map(file),
            ca,
        }))
    }

    /// Without `store` the other keys mean nothing.
    fn judge_without(&self, source: &Source) -> Result<SiteStore, ConfigError> {
        let files = [self.store_password_file, self.store_ca];
        match files.into_iter().flatten().next() {
            None => Ok(SiteStore::File),
            Some(file) => Err(source.invalid(
                file.span(),
                "this belongs to a store of PostgreSQL, and none is named",
                "add `store = \"postgres://user@db.example/site\"`, or remove this",
            )),
        }
    }
}

/// `postgres://USER@HOST[:PORT]/DATABASE`, where HOST is a name, an address, or the folder of a
/// socket with `%2F` for each slash. Errors never repeat it.
// Source: PostgreSQL 15, "Connection URIs", section 34.1.1.2.
fn parse(url: &str) -> Result<Url, &'static str> {
    let rest = url.strip_prefix("postgres://").or_else(|| url.strip_prefix("postgresql://"));
    let rest = rest.ok_or("is no URL of PostgreSQL")?;
    let (authority, database) = rest.split_once('/').ok_or("names no database")?;
    let (user, host) = authority.rsplit_once('@').ok_or("names no user")?;
    if user.contains(':') {
        return Err("holds a password");
    }
    let is_word = |text: &str| {
        let is_plain = |it: char| it.is_ascii_alphanumeric() || "_-.".contains(it);
        (1..=63).contains(&text.len()) && text.chars().all(is_plain)
    };
    if !is_word(user) || !is_word(database) {
        return Err("has more than letters, digits, `_`, `-` and `.` in a user or database");
    }
    let (host, port) = match host.strip_prefix('[').and_then(|host| host.split_once(']')) {
        Some((address, port)) => (address, port.strip_prefix(':')),
        None => host.split_once(':').map_or((host, None), |(host, port)| (host, Some(port))),
    };
    let port = port.map_or(Ok(PORT), str::parse).map_err(|_| "has no number for a port")?;
    let host = if host.starts_with("%2F") || host.starts_with("%2f") {
        let folder = host.replace("%2F", "/").replace("%2f", "/");
        PostgresHost::Socket(PathBuf::from(folder))
    } else {
        PostgresHost::Tcp(host.to_owned())
    };
    let is_host = |name: &str| name.parse::<IpAddr>().is_ok() || is_word(name);
    match &host {
        PostgresHost::Tcp(name) if !is_host(name) => Err("names no host"),
        PostgresHost::Socket(folder) if folder.to_str().is_some_and(|it| it.contains('%')) => {
            Err("names no host")
        }
        _ if port == 0 => Err("has no number for a port"),
        _ => Ok(Url { host, port, user: user.to_owned(), database: database.to_owned() }),
    }
}

/// Whether a host is this machine.
pub(super) fn is_loopback(name: &str) -> bool {
    name == "localhost" || name.parse().is_ok_and(|address: IpAddr| address.is_loopback())
}

impl std::fmt::Display for PostgresStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let host = match &self.host {
            PostgresHost::Tcp(name) if name.contains(':') => format!("[{name}]"),
            PostgresHost::Tcp(name) => name.clone(),
            PostgresHost::Socket(folder) => folder.to_string_lossy().replace('/', "%2F"),
        };
        write!(f, "postgres://{}@{host}:{}/{}", self.user, self.port, self.database)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::site_tokens;
    use crate::config::testing::{Site, message};

    fn store(keys: &str) -> Result<SiteStore, ConfigError> {
        let site = Site::new();
        let tenant = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9";
        let table = format!("\n[tokens]\nfolder = \"tokens\"\ntenant = \"{tenant}\"\n{keys}\n");
        let loaded = site.connection_point_with(|text| text.to_owned() + &table);
        let alone = site_tokens(&site.path("connection-point.toml"));
        assert_eq!(loaded.is_ok(), alone.is_ok(), "{keys}");
        alone.map(|tokens| tokens.store)
    }

    #[test]
    fn a_site_that_says_nothing_keeps_a_file() {
        assert_eq!(store("").unwrap(), SiteStore::File);
    }

    #[test]
    fn a_database_is_taken_with_all_that_belongs_to_it() {
        let tcp = |name: &str| PostgresHost::Tcp(name.to_owned());
        let socket = PostgresHost::Socket(PathBuf::from("/run/postgresql"));
        for (url, host, port) in [
            ("postgres://relay@localhost/site", tcp("localhost"), 5432),
            ("postgresql://relay@127.0.0.1:6000/site", tcp("127.0.0.1"), 6000),
            ("postgres://relay@[::1]:6000/site", tcp("::1"), 6000),
            ("postgres://relay@%2Frun%2fpostgresql:6000/site", socket, 6000),
        ] {
            let SiteStore::Postgres(found) = store(&format!("store = \"{url}\"")).unwrap() else {
                panic!("{url}");
            };
            assert_eq!((&found.host, found.port), (&host, port), "{url}");
            assert_eq!((&*found.user, &*found.database), ("relay", "site"));
            assert_eq!((&found.password_file, &found.ca), (&None, &None));
            let shown = parse(&found.to_string()).unwrap();
            assert_eq!((shown.host, shown.port), (host, port), "it is shown as it is written");
        }
        let far = "store = \"postgres://relay@db.example/site\"\nstore_password_file = \"p\"\n";
        let SiteStore::Postgres(far) = store(&format!("{far}store_ca = \"ca.pem\"")).unwrap()
        else {
            panic!("it is one of PostgreSQL");
        };
        assert!(far.password_file.unwrap().ends_with("p") && far.ca.unwrap().ends_with("ca.pem"));
    }

    #[test]
    fn a_server_on_another_machine_is_not_spoken_to_in_the_clear_unless_that_is_said() {
        for name in ["db.example", "192.0.2.1", "[2001:db8::1]"] {
            let url = format!("store = \"postgres://relay@{name}/site\"\n");
            let text = message(store(&url));
            assert!(text.starts_with("this store is on another machine"), "{text}");
            assert!(store(&(url.clone() + "store_ca = \"ca.pem\"")).is_ok());
            assert!(store(&(url + "unsafe_plain_store = true")).is_ok());
        }
    }

    #[test]
    fn what_is_no_store_is_told_and_never_repeated() {
        for (url, says) in [
            ("mysql://hunter2@db/site", "is no URL of PostgreSQL"),
            ("postgres://hunter2@db", "names no database"),
            ("postgres://db/hunter2", "names no user"),
            ("postgres://relay:hunter2@localhost/site", "holds a password"),
            ("postgres://relay@localhost/hunter2?sslmode=off", "has more than letters"),
            ("postgres://@localhost/hunter2", "has more than letters"),
            ("postgres://relay@localhost/", "has more than letters"),
            ("postgres://relay@localhost:hunter2/site", "has no number for a port"),
            ("postgres://relay@localhost:0/hunter2", "has no number for a port"),
            ("postgres://relay@/hunter2", "names no host"),
            ("postgres://relay@%2Frun%20x/hunter2", "names no host"),
        ] {
            let text = message(store(&format!("store = \"{url}\"")));
            assert!(text.starts_with(&format!("`store` {says}")), "{url}: {text}");
            assert!(!text.contains("hunter2"), "{text}");
        }
        for (keys, says) in [
            ("store_ca = \"a\"", "this belongs to a store of PostgreSQL"),
            ("store_password_file = \"a\"", "this belongs to a store of PostgreSQL"),
            (
                "store = \"postgres://a@%2Frun/site\"\nstore_ca = \"a\"",
                "nothing speaks TLS over a socket",
            ),
            ("stor = 1", "unknown key `stor`"),
        ] {
            let text = message(store(keys));
            assert!(text.starts_with(says), "{text}");
        }
    }
}
