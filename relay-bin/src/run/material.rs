//! Certificates, keys and revocation lists that change while a role runs.
//!
//! Files are looked at once a minute and on SIGHUP. What has changed is read, judged and put in
//! force for links and clients that come from then on. What is open goes on, but for links whose
//! peer has a certificate that does not hold any more: the roles let go of those. If it cannot be
//! used, what was before stays in force and the log says why, once.

use std::fs;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use relay_core::config::{ConnectionPointMaterial, GatewayMaterial, IdentityPaths, MaterialError};
use relay_core::connection_point::ConnectionPoint;
use relay_core::gateway::Gateway;
use relay_core::transport::Certificate;
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use tokio::time::{MissedTickBehavior, interval};

use super::supervisor::Supervisor;
use crate::exit::Failure;
use crate::pki;

/// How often files are looked at. Our choice: soon enough for whoever replaces one by hand, and
/// some hundred kilobytes an hour from a disk's cache.
const LOOK_EVERY: Duration = Duration::from_mins(1);

/// Makes what was read hold. Returns what links show from now on.
type Apply = Box<dyn FnOnce() -> Option<Certificate> + Send>;

/// Reads every file and judges it; blocks on the file system.
type Load = Arc<dyn Fn() -> Result<Apply, MaterialError> + Send + Sync>;

/// Renews a certificate that is due and returns the end of its life, or why it could not.
type Renew = Arc<dyn Fn() -> Result<Option<SystemTime>, Failure> + Send + Sync>;

/// What the files held, so that a change shows. Secrets among them leave no trace here.
pub(super) type Contents = [u8; 32];

/// Keeps the TLS of a running role up to date with its files.
pub(super) struct Follower {
    files: Arc<[PathBuf]>,
    load: Load,
    /// Renews what is shown, if that is due; `None` if somebody else does.
    renew: Option<Renew>,
    /// Why that failed last, so that it is told once.
    not_renewed: Option<String>,
    asked: Asked,
    /// `None` until the files have been looked at.
    seen: Option<Contents>,
    supervisor: Supervisor,
}

impl Follower {
    /// For a gateway instance.
    pub(super) fn of_gateway(material: GatewayMaterial, role: Gateway) -> Result<Self, Failure> {
        let files = material.files();
        Self::new(files, move || {
            let (tls, role) = (material.load()?, role.clone());
            Ok(Box::new(move || {
                role.set_client_tls(tls.clients);
                role.set_link_tls(tls.links);
                role.show_link_certificate(tls.certificate.clone());
                role.set_link_trust(tls.trust);
                tls.certificate
            }))
        })
    }

    /// For a connection point.
    pub(super) fn of_connection_point(
        material: ConnectionPointMaterial,
        role: ConnectionPoint,
    ) -> Result<Self, Failure> {
        let files = material.files();
        Self::new(files, move || {
            let (tls, role) = (material.load()?, role.clone());
            Ok(Box::new(move || {
                role.set_link_tls(tls.link);
                role.set_link_trust(tls.trust);
                role.set_https_tls(tls.https);
                tls.certificate
            }))
        })
    }

    fn new(
        files: Vec<PathBuf>,
        load: impl Fn() -> Result<Apply, MaterialError> + Send + Sync + 'static,
    ) -> Result<Self, Failure> {
        let asked = Asked::install().map_err(Failure::Runtime)?;
        Ok(Self {
            files: files.into(),
            load: Arc::new(load),
            renew: None,
            not_renewed: None,
            asked,
            seen: None,
            supervisor: Supervisor::default(),
        })
    }

    /// Has `supervisor` know when the files are looked at because somebody has asked for it.
    pub(super) fn telling(self, supervisor: Supervisor) -> Self {
        Self { supervisor, ..self }
    }

    /// Has the role renew `identity` by itself with `authority`, if there is one.
    pub(super) fn renewing(
        self,
        identity: IdentityPaths,
        authority: Option<IdentityPaths>,
    ) -> Self {
        let Some(authority) = authority else { return self };
        let renew = move || pki::renew_if_due(&authority, &identity, SystemTime::now());
        Self { renew: Some(Arc::new(renew)), ..self }
    }

    /// Runs `role` to its end, and follows the files meanwhile.
    pub(super) async fn beside<T>(mut self, role: impl Future<Output = T>) -> T {
        let mut role = pin!(role);
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let _told = tokio::select! {
                ended = &mut role => return ended,
                _ = looks.tick() => None,
                () = self.asked.next() => Some(self.supervisor.reloading()),
            };
            // The role goes on while the files are read.
            tokio::select! {
                ended = &mut role => return ended,
                () = async { self.renew().await; self.look().await } => {}
            }
        }
    }

    /// Renews what is due. Whoever looks at the files then finds it changed.
    async fn renew(&mut self) {
        let Some(renew) = self.renew.clone() else { return };
        // A task that fails has told so.
        let Ok(renewed) = tokio::task::spawn_blocking(move || renew()).await else { return };
        let why = match renewed {
            Ok(end) => {
                self.not_renewed = None;
                let Some(end) = end else { return };
                let not_after = OffsetDateTime::from(end).to_string();
                tracing::info!(not_after, "link certificate renewed: less than a third was left");
                return;
            }
            Err(failure) => failure.to_string(),
        };
        if self.not_renewed.as_ref() != Some(&why) {
            tracing::error!(
                why,
                "link certificate not renewed though less than a third is left; it is tried again \
                 each minute"
            );
            self.not_renewed = Some(why);
        }
    }

    /// Puts in force what the files hold, if that is not what they held before.
    async fn look(&mut self) {
        let (files, load, seen) = (Arc::clone(&self.files), Arc::clone(&self.load), self.seen);
        let looking = move || {
            let contents = contents(&files);
            let is_new = seen != Some(contents);
            is_new.then(|| (contents, load()))
        };
        // A task that is not awaited to its end is one whose role has ended.
        let Ok(Some((contents, loaded))) = tokio::task::spawn_blocking(looking).await else {
            return;
        };
        let is_first = self.seen.replace(contents).is_none();
        match loaded {
            Ok(apply) => {
                // The first time catches what has changed since the role was made; no news else.
                let certificate = apply();
                if !is_first {
                    tell(certificate.as_ref());
                }
            }
            Err(why) => tracing::error!(
                %why,
                "certificates have changed and cannot be used; what was before stays in force"
            ),
        }
    }
}

fn tell(certificate: Option<&Certificate>) {
    let subject = certificate.map(|it| it.subject.as_str()).unwrap_or_default();
    let sha256 = certificate.map(|it| it.fingerprint.to_string()).unwrap_or_default();
    tracing::info!(subject, sha256, "certificates read again; new links use them");
}

/// Most octets of a file that are looked at: what is longer can be used by nobody.
const OCTETS_MAX: u64 = 64 << 20;

/// What files hold; blocks on the file system.
pub(super) fn contents(files: &[PathBuf]) -> Contents {
    let mut all = Sha256::new();
    for file in files {
        // One that cannot be read differs from an empty one. A pipe would never end.
        let is_sane = |about: &fs::Metadata| about.is_file() && about.len() <= OCTETS_MAX;
        let about = fs::metadata(file).ok().filter(is_sane);
        match about.and_then(|_| fs::read(file).ok()) {
            Some(octets) => {
                all.update(b"file");
                all.update(octets.len().to_be_bytes());
                all.update(&octets);
            }
            None => all.update(b"none"),
        }
    }
    all.finalize().into()
}

/// The requests to look at the files at once: SIGHUP on Unix, none elsewhere.
struct Asked {
    #[cfg(unix)]
    hangup: tokio::signal::unix::Signal,
}

impl Asked {
    /// Takes SIGHUP over from the platform's default, which would end the process.
    #[cfg(unix)]
    fn install() -> anyhow::Result<Self> {
        use anyhow::Context as _;
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { hangup: signal(SignalKind::hangup()).context("cannot handle signals")? })
    }

    #[cfg(not(unix))]
    fn install() -> anyhow::Result<Self> {
        Ok(Self {})
    }

    /// Waits for the next one. Cancel safe: one that nobody waited for is seen by the next call.
    #[cfg(unix)]
    async fn next(&mut self) {
        if self.hangup.recv().await.is_none() {
            std::future::pending::<()>().await;
        }
    }

    #[cfg(not(unix))]
    async fn next(&mut self) {
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_file_that_changes_is_read_within_a_minute_and_only_then() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("a");
        fs::write(&file, "one").unwrap();
        let applied = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&applied);
        let load = move || {
            let count = Arc::clone(&count);
            let apply: Apply = Box::new(move || {
                count.fetch_add(1, Ordering::Relaxed);
                None
            });
            Ok(apply)
        };
        let follower = Follower::new(vec![file.clone()], load).unwrap();
        let seen = || applied.load(Ordering::Relaxed);
        let role = async {
            sleep(Duration::from_secs(179)).await;
            assert_eq!(seen(), 1, "once at the start, and not again while nothing changes");
            fs::write(&file, "two").unwrap();
            sleep(Duration::from_millis(999)).await;
            assert_eq!(seen(), 1, "the minute is not over");
            // Time does not go on while the files are read.
            sleep(Duration::from_secs(30)).await;
            assert_eq!(seen(), 2);
            sleep(Duration::from_mins(5)).await;
            seen()
        };
        assert_eq!(follower.beside(role).await, 2);
    }

    #[test]
    fn each_change_of_a_file_shows_and_nothing_else_does() {
        let home = tempfile::tempdir().unwrap();
        let files = ["a", "b"].map(|name| home.path().join(name));
        let mut all = vec![contents(&files)];
        for (file, text) in [(0, ""), (0, "x"), (1, ""), (0, "y"), (1, "x"), (0, "")] {
            fs::write(&files[file], text).unwrap();
            let now = contents(&files);
            assert!(!all.contains(&now), "{text:?} in file {file}");
            assert_eq!(contents(&files), now);
            all.push(now);
        }
    }
}
