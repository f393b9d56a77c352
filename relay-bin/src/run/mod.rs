//! `relay gateway` and `relay connection-point`: load, check or run one role.
//!
//! A role runs until a signal asks it to stop; requests in flight then have the configured time to
//! end. A second signal ends the process at once.

mod client_files;
mod config_file;
mod descriptors;
mod gateway_file;
mod inherited;
mod listeners;
pub(crate) mod load;
mod material;
mod memory;
mod reload;
mod signals;
mod slot;
pub(crate) mod summary;
mod supervisor;
mod token_service;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use relay_core::config::{LoadedConnectionPoint, LoadedGateway, Warning};
use relay_core::connection_point::{ConnectionPoint, ConnectionPointConfig, Update};
use relay_core::gateway::{Gateway, Listeners};
use relay_core::link::DrainReport;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use crate::admin::{Admin, Configured, Role};
use crate::console::{complain, say};
use crate::egress;
use crate::exit::Failure;
use crate::expiry::{self, Endings, Named, Places};
use crate::logs::{self, Level};
use crate::pki;
use crate::site::TokensState;
use crate::telemetry;

use inherited::Inherited;
pub(crate) use inherited::InheritedError;
use supervisor::Supervisor;

/// Shown below the help of `relay gateway`.
pub(crate) const GATEWAY_EXAMPLES: &str = "\
Examples:
  See whether a configuration can be used, without listening:
    relay gateway --config gateway.toml --check
  Run, with a log for machines:
    relay gateway --config gateway.toml --log-format json

Certificates, keys and revocation lists are read again within a minute of a change, or at once on
SIGHUP. Links that are up go on, unless the peer's certificate holds no more: one that was revoked
has its link closed, one that is over has it replaced.
So is its own file, within seconds of a change: times, memory, content and the figures of egress
change while it runs. The log and `relay status` say which keys wait for the next start, and why a
file that cannot be used changes nothing.
SIGTERM or Ctrl-C stops it once the requests in flight have ended; a second one stops it at once.
`relay init` writes a commented configuration.";

/// Shown below the help of `relay connection-point`.
pub(crate) const CONNECTION_POINT_EXAMPLES: &str = "\
Examples:
  See whether a configuration can be used, without dialling:
    relay connection-point --config connection-point.toml --check
  Run, and log what each link does:
    relay connection-point --config connection-point.toml --log info,relay_core::link=debug

Certificates, keys and revocation lists, its own and those that say whose clients count, are read
again within a minute of a change, or at once on SIGHUP. So is its own file, within seconds of a
change: endpoints and gateways change while it runs, and the log says which keys have changed.
What cannot be used changes nothing, and the log says why. Links that are up go on, unless the
peer's certificate holds no more: one that was revoked has its link closed, one that is over has it
replaced.
SIGTERM or Ctrl-C stops it once the requests in flight have ended; a second one stops it at once.
`relay init` writes a commented configuration.";

/// Arguments of either role.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The role's configuration file.
    #[arg(long, short, value_name = "FILE")]
    config: PathBuf,
    /// Judge the configuration and every file it names, print a summary and end. Neither listens
    /// nor dials, so it can be run beside the running role.
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    logs: logs::Args,
}

/// `relay gateway`.
pub(crate) fn gateway(args: &Args) -> Result<(), Failure> {
    let read = || load::gateway(&args.config);
    let (seen, loaded) = config_file::ConfigFile::first(&args.config, read);
    let loaded = loaded?;
    if args.check {
        report_check(&summary::gateway(&args.config, &loaded), &loaded.warnings);
        return Ok(());
    }
    // Before there is another thread.
    let passed = listeners::passed_to_gateway()?;
    let level = args.logs.start()?;
    log_warnings(&loaded.warnings);
    on_runtime(run_gateway((args.config.clone(), seen), (loaded, passed), level))
}

/// `relay connection-point`.
pub(crate) fn connection_point(args: &Args) -> Result<(), Failure> {
    let read = || load::connection_point(&args.config);
    let (seen, loaded) = config_file::ConfigFile::first(&args.config, read);
    let loaded = loaded?;
    if args.check {
        report_check(&summary::connection_point(&args.config, &loaded), &loaded.warnings);
        return Ok(());
    }
    // Before there is another thread.
    let passed = listeners::passed_to_connection_point()?;
    let level = args.logs.start()?;
    log_warnings(&loaded.warnings);
    on_runtime(run_connection_point((args.config.clone(), seen), (loaded, passed), level))
}

/// The value of an environment variable; one that is not text is as good as absent.
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

async fn run_gateway(
    (file, seen): (PathBuf, config_file::ConfigFile),
    (mut loaded, passed): (LoadedGateway, Inherited),
    level: Level,
) -> Result<(), Failure> {
    let signals = signals::Signals::install().map_err(Failure::Runtime)?;
    let supervisor = Supervisor::from_environment();
    let reloads = signals::Reloads::install().map_err(Failure::Runtime)?;
    descriptors::fit_gateway(&mut loaded.config.limits);
    let made = gateway_file::Made::first(&loaded).map_err(Failure::Runtime)?;
    made.put_in(&mut loaded.config);
    let (listeners, admin_socket) = listeners::of_gateway(&loaded, passed).await?;
    let telling = telemetry::Teller {
        service: "relay-gateway",
        instance: loaded.config.instance.to_string(),
    };
    let exporting = telemetry::start(loaded.telemetry.take(), telling)?;
    let ready = gateway_told(&loaded, &listeners) + &admin_told(admin_socket.as_ref());
    let keeper = pki::GatewayKeeper::new(&loaded.material);
    loaded.config.certificate_keeper = Some(Arc::new(keeper));
    let gateway = Gateway::new(loaded.config);
    let figures = egress::Figures::default();
    let summing = loaded.egress.map(|it| egress::Watch::of(it, &gateway, figures.clone()));
    let summing = summing.transpose().map_err(Failure::Runtime)?;
    say(&ready);
    let configured = Configured::default();
    let role = Role::Gateway(gateway.clone(), figures, configured.clone());
    let expiring = expiry::Watch::of_gateway(loaded.material.clone(), gateway.clone());
    let shown = role.clone();
    let admin = admin(admin_socket, role, level, expiring.endings());
    let mut orders = Orders::new(signals, admin, supervisor.clone());
    let following = material::Follower::of_gateway(loaded.material, gateway.clone())?;
    let following = following.telling(supervisor.clone());
    let file = gateway_file::GatewayFile {
        file,
        started: seen.in_force().to_owned(),
        seen,
        made,
        gateway: gateway.clone(),
        thresholds: summing.as_ref().map(egress::Watch::thresholds),
        configured,
        supervisor: supervisor.clone(),
    };
    let start = |stop| {
        let role = file.beside(reloads, gateway.serve(listeners, stop));
        // On the heap: it is held by each of those that stop it.
        let role = Box::pin(expiring.beside(following.beside(role)));
        let role = Box::pin(async {
            match summing {
                Some(summing) => summing.beside(role).await,
                None => role.await,
            }
        });
        Box::pin(supervisor.beside(role, move || shown.line()))
    };
    let report = signals::until_stopped(async || orders.next().await, start).await?;
    orders.let_end(exporting).await;
    orders.end(report).await;
    Ok(())
}

async fn run_connection_point(
    (file, seen): (PathBuf, config_file::ConfigFile),
    (mut loaded, passed): (LoadedConnectionPoint, Inherited),
    level: Level,
) -> Result<(), Failure> {
    let signals = signals::Signals::install().map_err(Failure::Runtime)?;
    let supervisor = Supervisor::from_environment();
    let reloads = signals::Reloads::install().map_err(Failure::Runtime)?;
    descriptors::fit_connection_point(&loaded);
    let admin_socket = listeners::of_admin(loaded.admin.as_ref(), passed).await?;
    let telling = telemetry::Teller {
        service: "relay-connection-point",
        instance: loaded.config.name.clone(),
    };
    let exporting = telemetry::start(loaded.telemetry.clone(), telling)?;
    let service = token_service::start(&mut loaded).await?;
    let fixed = Arc::new(reload::Fixed::of(&loaded));
    let places = Places::default();
    places.set(Named::of(&loaded));
    let (name, gateways) = (loaded.config.name.clone(), loaded.config.gateways.len());
    if let Some(authority) = loaded.authority.clone() {
        let issuer = pki::GatewayIssuer::new(authority, loaded.material.site.clone());
        loaded.config.certificate_issuer = Some(Arc::new(issuer));
    }
    let (config, tokens) = (loaded.config.clone(), loaded.tokens);
    let said = in_background(move || reload::Said::new(config, tokens)).await?;
    let role = ConnectionPoint::new(with(loaded.config, said.update()))
        .map_err(|error| Failure::Runtime(anyhow!(error).context("endpoints do not fit")))?;
    say(&format!(
        "ready: connection point `{name}`, dialling {gateways} gateway instance(s){}{}",
        service.told(),
        admin_told(admin_socket.as_ref())
    ));
    let tokens = TokensState::default();
    let administered = Role::ConnectionPoint(role.clone(), tokens.clone(), service.tally());
    let (material, shown) = (loaded.material, administered.clone());
    let expiring = expiry::Watch::of_connection_point(material.clone(), places.clone());
    let admin = admin(admin_socket, administered, level, expiring.endings());
    let mut orders = Orders::new(signals, admin, supervisor.clone());
    let following = material::Follower::of_connection_point(material.clone(), role.clone())?
        .renewing(material.link, loaded.authority)
        .telling(supervisor.clone());
    let reloadable = reload::Reloadable {
        role,
        file,
        seen,
        fixed,
        said,
        tokens,
        client_files: client_files::Watched::new(loaded.client_files),
        backend_certificates: client_files::BackendCertificates::new(&loaded.backend_files),
        places,
        service: service.clone(),
        supervisor: supervisor.clone(),
    };
    let start = |stop| {
        // On the heap: it is held by each of those that stop it.
        let role = Box::pin(expiring.beside(following.beside(reloadable.run(reloads, stop))));
        Box::pin(supervisor.beside(role, move || shown.line()))
    };
    let report = signals::until_stopped(async || orders.next().await, start).await?;
    tokio::select! {
        () = service.end() => {}
        signal = orders.next() => return Err(Failure::Runtime(anyhow!(
            "{signal} while requests for tokens were answered: stopped at once, they were cut"
        ))),
    }
    orders.let_end(exporting).await;
    orders.end(report).await;
    Ok(())
}

/// Does what blocks.
async fn in_background<T: Send + 'static>(
    what: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> Result<T, Failure> {
    let done = tokio::task::spawn_blocking(what).await.map_err(anyhow::Error::from);
    done.flatten().map_err(Failure::Runtime)
}

/// The configuration with what is published in place of its own.
fn with(config: ConnectionPointConfig, published: Update) -> ConnectionPointConfig {
    let Update { gateways, endpoints, tenants, clients, settings_version } = published;
    ConnectionPointConfig { gateways, endpoints, tenants, clients, settings_version, ..config }
}

/// Who may ask a role to stop.
struct Orders {
    signals: signals::Signals,
    admin: Option<Admin>,
    supervisor: Supervisor,
    /// Whether the admin listener has been asked already.
    is_asked: bool,
}

impl Orders {
    fn new(signals: signals::Signals, admin: Option<Admin>, supervisor: Supervisor) -> Self {
        Self { signals, admin, supervisor, is_asked: false }
    }

    /// Has the last spans go to the collector. Who wants the role stopped at once waits for none.
    async fn let_end(&mut self, exporting: telemetry::Exporting) {
        tokio::select! {
            () = exporting.end() => {}
            _ = self.next() => {}
        }
    }
}

impl Orders {
    /// Waits for the next request to stop, tells the supervisor of it and returns its name.
    async fn next(&mut self) -> &'static str {
        let asked = self.asked().await;
        self.supervisor.stopping();
        asked
    }

    async fn asked(&mut self) -> &'static str {
        let Some(admin) = &self.admin else { return self.signals.next().await };
        tokio::select! {
            signal = self.signals.next() => signal,
            // Whoever asks twice waits for the same drain.
            () = admin.asked_to_stop(), if !self.is_asked => {
                self.is_asked = true;
                "asked over the admin listener"
            }
        }
    }

    /// Tells what the drain did.
    async fn end(self, report: DrainReport) {
        say(&format!("stopped: {report}"));
        if let Some(admin) = self.admin {
            admin.end(report).await;
        }
    }
}

/// What the line that says that an instance is ready begins with.
fn gateway_told(loaded: &LoadedGateway, listeners: &Listeners) -> String {
    let Listeners { clients, links, https_links, quic } = listeners;
    let mut told = format!(
        "ready: instance {} of {}, clients on https://{}",
        loaded.config.instance,
        loaded.config.service,
        clients.local_addr()
    );
    let links = links.as_ref().map(|it| format!(", links on {}", it.local_addr()));
    let https = https_links.as_ref();
    let https = https.map(|it| format!(", https links on https://{}", it.local_addr()));
    let quic = quic.as_ref().map(|it| format!(", quic on {}", it.local_addr()));
    told.extend([links, https, quic].into_iter().flatten());
    told
}

/// What the line that says that a role is ready ends with.
fn admin_told(listener: Option<&TcpListener>) -> String {
    let address = listener.and_then(|listener| listener.local_addr().ok());
    address.map(|address| format!(", admin on http://{address}")).unwrap_or_default()
}

fn admin(
    listener: Option<TcpListener>,
    role: Role,
    level: Level,
    endings: Endings,
) -> Option<Admin> {
    listener.map(|listener| Admin::start(listener, role, level, endings))
}

/// Runs `role` on a runtime of its own. Tasks that outlive it, such as a name look-up after a
/// second signal, do not hold the process up.
fn on_runtime(role: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    let runtime = Runtime::new().context("cannot start the runtime").map_err(Failure::Runtime)?;
    let outcome = runtime.block_on(role);
    runtime.shutdown_background();
    outcome
}

fn report_check(summary: &str, warnings: &[Warning]) {
    say(summary);
    for warning in warnings {
        complain(&format!("warning: {warning}"));
    }
}

/// Logs what deserves attention, but for what ends: whoever watches that tells it.
fn log_warnings(warnings: &[Warning]) {
    let is_of_an_end = |it: &&Warning| {
        use Warning as W;
        matches!(
            it,
            W::RevocationListOver { .. } | W::ClientListOver { .. } | W::ClientListEnds { .. }
        )
    };
    for warning in warnings.iter().filter(|it| !is_of_an_end(it)) {
        tracing::warn!("{warning}");
    }
}
