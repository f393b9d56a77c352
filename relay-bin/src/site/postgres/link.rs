//! A connection to a server of PostgreSQL: made, bounded in time, and made anew when it is lost.

use std::cell::RefCell;
use std::error::Error as _;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use relay_core::config::{PostgresHost, PostgresStore};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::super::files::{self, FileFault};
use super::super::store::{ChangeError, StoreError};

/// How long a connection may take, and each statement, for which a lock is waited for at most as
/// long.
const STEP: Duration = Duration::from_secs(5);

/// How long all statements of one call may take.
const CALL: Duration = Duration::from_secs(10);

/// What holds for each connection, whatever the database says: no acknowledged change is lost in a
/// crash, and nobody is held up by one that hangs.
const OPTIONS: &str = "-c statement_timeout=5000 -c lock_timeout=5000 \
    -c idle_in_transaction_session_timeout=10000 -c synchronous_commit=on \
    -c default_transaction_isolation=read\\ committed";

/// Longest password, in octets.
const PASSWORD_OCTETS_MAX: usize = 1024;

/// One connection at a time. Blocks; must not be used on a thread that runs other tasks.
pub(super) struct Link {
    store: PostgresStore,
    /// There until it is dropped.
    runtime: Option<Runtime>,
    client: RefCell<Option<Client>>,
}

/// Why a call ended: by what was asked, or by the store.
pub(super) enum Fault {
    Refused(ChangeError),
    Store(StoreError),
    Postgres(tokio_postgres::Error),
    /// While a change was being committed.
    Commit(tokio_postgres::Error),
    /// There was no answer in time.
    Late,
}

impl From<ChangeError> for Fault {
    fn from(refused: ChangeError) -> Self {
        Self::Refused(refused)
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<tokio_postgres::Error> for Fault {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Postgres(error)
    }
}

impl Link {
    /// Connects to nothing yet.
    ///
    /// # Errors
    ///
    /// [`StoreError::Failed`], if the operating system gives no means to.
    pub(super) fn new(store: &PostgresStore) -> Result<Self, StoreError> {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|source| StoreError::Failed {
            place: store.to_string(),
            source: Box::new(source),
        })?;
        let client = RefCell::new(None);
        Ok(Self { store: store.clone(), runtime: Some(runtime), client })
    }

    /// Does some `work`. A connection that was lost is made anew once, and the work done again from
    /// its beginning: what was not committed was never made.
    ///
    /// # Errors
    ///
    /// [`Fault`]; of the time a call may take, or of what the work says.
    #[allow(clippy::needless_pass_by_value, reason = "it is written where it is handed over")]
    pub(super) fn run<T>(
        &self,
        work: impl AsyncFn(&mut Client) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let runtime = self.runtime.as_ref().expect("it is there until it is dropped");
        runtime.block_on(async {
            let kept = self.client.take().filter(|client| !client.is_closed());
            if let Some(mut client) = kept {
                let done = bounded(&work, &mut client).await;
                let is_lost = matches!(&done, Err(Fault::Postgres(error)) if is_lost(error));
                if !is_lost {
                    self.keep(client, &done);
                    return done;
                }
            }
            let mut client = connect(&self.store).await?;
            let done = bounded(&work, &mut client).await;
            self.keep(client, &done);
            done
        })
    }

    /// Keeps a connection, unless nobody knows what goes on in it.
    fn keep<T>(&self, client: Client, done: &Result<T, Fault>) {
        if !matches!(done, Err(Fault::Late | Fault::Commit(_))) {
            self.client.replace(Some(client));
        }
    }

    /// What a fault says about the store.
    pub(super) fn told(&self, fault: Fault) -> ChangeError {
        let place = self.store.to_string();
        ChangeError::Store(match fault {
            Fault::Refused(refused) => return refused,
            Fault::Store(error) => error,
            Fault::Late => StoreError::Lost { place },
            Fault::Commit(error) if is_lost(&error) => StoreError::Lost { place },
            Fault::Commit(error) | Fault::Postgres(error) => told(place, error),
        })
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // It may be where nothing may block.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn bounded<T>(
    work: &impl AsyncFn(&mut Client) -> Result<T, Fault>,
    client: &mut Client,
) -> Result<T, Fault> {
    timeout(CALL, work(client)).await.unwrap_or(Err(Fault::Late))
}

async fn connect(store: &PostgresStore) -> Result<Client, Fault> {
    let mut config = Config::new();
    match &store.host {
        PostgresHost::Socket(folder) => config.host(folder.to_string_lossy()),
        PostgresHost::Tcp(name) => config.host(name),
        _ => return Err(unusable(Path::new(&store.to_string()), "it is of an unknown kind").into()),
    };
    config.port(store.port).user(&store.user).dbname(&store.database);
    config.connect_timeout(STEP).application_name("relay").options(OPTIONS);
    if let Some(file) = &store.password_file {
        config.password(password(file)?);
    }
    let place = store.to_string();
    let late = |_| Fault::Store(StoreError::Unreachable { place, source: "no answer".into() });
    let connected = match &store.ca {
        None => {
            config.ssl_mode(SslMode::Disable);
            let connected = timeout(STEP, config.connect(NoTls)).await.map_err(late)?;
            connected.map(|(client, connection)| (client, tokio::spawn(connection)))
        }
        Some(ca) => {
            config.ssl_mode(SslMode::Require);
            let tls = MakeRustlsConnect::new(tls(ca)?);
            let connected = timeout(STEP, config.connect(tls)).await.map_err(late)?;
            connected.map(|(client, connection)| (client, tokio::spawn(connection)))
        }
    };
    // The task ends with the client.
    let (client, _) = connected.map_err(|error| not_connected(store, &error))?;
    Ok(client)
}

/// TLS with a server that these authorities vouch for, by the name it was asked for.
fn tls(ca: &Path) -> Result<ClientConfig, StoreError> {
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(ca).map_err(|why| unusable(ca, &why))?;
    for certificate in certificates {
        let added = certificate.map(|certificate| roots.add(certificate));
        added.map_err(|why| unusable(ca, &why))?.map_err(|why| unusable(ca, &why))?;
    }
    if roots.is_empty() {
        return Err(unusable(ca, "it holds no certificate"));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|why| unusable(ca, &why))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// The first line of a file of this account alone.
fn password(file: &Path) -> Result<String, StoreError> {
    files::judge(file).map_err(|fault| match fault {
        FileFault::Missing => unusable(file, "it is not there"),
        FileFault::Unreadable(why) => unusable(file, &why),
        FileFault::NotAFile => unusable(file, "it is not a regular file"),
        FileFault::Exposed(mode) => {
            let why = format!("other accounts reach it, by permissions {mode:04o}; `chmod 600` it");
            unusable(file, &why)
        }
    })?;
    let text = fs::read_to_string(file).map_err(|why| unusable(file, &why))?;
    match text.lines().next() {
        Some(line) if (1..=PASSWORD_OCTETS_MAX).contains(&line.len()) => Ok(line.to_owned()),
        _ => Err(unusable(file, "its first line holds no password")),
    }
}

fn unusable(file: &Path, why: &(impl ToString + ?Sized)) -> StoreError {
    StoreError::Material { path: file.to_owned(), why: why.to_string() }
}

/// Why there is no connection. The server's own words tell whether it has judged the user.
fn not_connected(store: &PostgresStore, error: &tokio_postgres::Error) -> StoreError {
    let place = store.to_string();
    let class = error.code().map(|code| code.code().get(..2).unwrap_or_default().to_owned());
    match class.as_deref() {
        // Source: PostgreSQL 15, "PostgreSQL Error Codes", appendix A.
        Some("28" | "42") => StoreError::Denied { place, why: words(error) },
        Some("3D") => StoreError::Missing { place },
        _ => StoreError::Unreachable { place, source: words(error).into() },
    }
}

/// What an error says about a store that is connected.
fn told(place: String, error: tokio_postgres::Error) -> StoreError {
    let Some(code) = error.code() else {
        if is_lost(&error) {
            return StoreError::Unreachable { place, source: words(&error).into() };
        }
        return StoreError::Failed { place, source: Box::new(error) };
    };
    match *code {
        SqlState::LOCK_NOT_AVAILABLE
        | SqlState::QUERY_CANCELED
        | SqlState::T_R_DEADLOCK_DETECTED => StoreError::Locked { place },
        SqlState::DISK_FULL => StoreError::Full { place },
        SqlState::READ_ONLY_SQL_TRANSACTION => StoreError::ReadOnly { place },
        SqlState::DATA_CORRUPTED | SqlState::INDEX_CORRUPTED => StoreError::Corrupt { place },
        SqlState::UNDEFINED_TABLE => StoreError::Missing { place },
        SqlState::UNDEFINED_COLUMN => StoreError::Foreign { place },
        SqlState::INSUFFICIENT_PRIVILEGE => StoreError::Denied { place, why: words(&error) },
        _ if is_lost(&error) => StoreError::Unreachable { place, source: words(&error).into() },
        _ => StoreError::Failed { place, source: words(&error).into() },
    }
}

/// Whether there is no connection any more.
fn is_lost(error: &tokio_postgres::Error) -> bool {
    let is_shutdown = error.code().is_some_and(|code| {
        let shutdowns = [
            SqlState::ADMIN_SHUTDOWN,
            SqlState::CRASH_SHUTDOWN,
            SqlState::CANNOT_CONNECT_NOW,
            SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
        ];
        shutdowns.contains(code)
    });
    let is_io = error.source().is_some_and(<dyn std::error::Error>::is::<io::Error>);
    is_shutdown || error.is_closed() || is_io
}

/// What the server, or whatever else failed, says itself. It repeats no password.
fn words(error: &tokio_postgres::Error) -> String {
    match (error.as_db_error(), error.source()) {
        (Some(said), _) => said.message().to_owned(),
        (None, Some(source)) => format!("{error}: {source}"),
        (None, None) => error.to_string(),
    }
}
