//! Whoever has started a role is told how it is: systemd, or whatever else speaks its protocol of
//! datagrams (`sd_notify(3)`).
//!
//! [`Supervisor::beside`] runs a role and tells of it; [`Supervisor::reloading`] is what whoever
//! reads something again takes first. Nothing here waits for the supervisor: what it does not take
//! at once is told again at the next look, if it still holds.
//!
//! Of our own, and not of a crate: the protocol is lines of text in a datagram, and the crates that
//! there are wait for a supervisor that does not read.

use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// How often what is told to people is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Whoever has started the process, if it wants to be told.
#[derive(Clone, Default)]
pub(super) struct Supervisor(Option<Arc<Inner>>);

struct Inner {
    socket: Socket,
    /// After how much silence it takes the role for hung, if it does.
    silence_max: Option<Duration>,
    told: Mutex<Told>,
    /// Whoever read something again has ended.
    ended: Notify,
}

/// What it knows.
#[derive(Default)]
struct Told {
    phase: Phase,
    /// How many are reading something again.
    reloads: usize,
    /// Whether it has to be told that the role is ready.
    is_ready_owed: bool,
    /// The line for people.
    status: String,
    /// Whether the log has been told that it cannot be told.
    is_lost: bool,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Phase {
    #[default]
    Starting,
    Running,
    Stopping,
}

impl Supervisor {
    /// As the environment says. Nobody, if it names nobody, or nobody that can be reached.
    pub(super) fn from_environment() -> Self {
        let Some(socket) = Socket::from_environment() else { return Self::default() };
        let number = |name: &str| std::env::var(name).ok()?.parse::<u64>().ok();
        let is_meant = number("WATCHDOG_PID").is_none_or(|it| it == u64::from(std::process::id()));
        let silence_max = number("WATCHDOG_USEC").filter(|it| is_meant && *it > 0);
        Self::new(socket, silence_max.map(Duration::from_micros))
    }

    fn new(socket: Socket, silence_max: Option<Duration>) -> Self {
        let (told, ended) = (Mutex::default(), Notify::new());
        Self(Some(Arc::new(Inner { socket, silence_max, told, ended })))
    }

    /// Runs `role` to its end. Tells, from when it runs, that it is ready, `status` as it changes,
    /// and in half the time that it is given that it is alive: that the task which accepts gets
    /// its turn, that a worker of the runtime does, and that `status` could look into the role.
    pub(super) async fn beside<T>(
        self,
        role: impl Future<Output = T>,
        status: impl Fn() -> String,
    ) -> T {
        let mut role = pin!(role);
        let Some(inner) = self.0 else { return role.await };
        let mut looks = ticks(LOOK_EVERY);
        let is_watched = inner.silence_max.is_some();
        let mut lives = ticks(inner.silence_max.map_or(LOOK_EVERY, |it| it / 2));
        loop {
            let is_alive_told = tokio::select! {
                // The role first: it has begun, or had its turn, before anything is told of it.
                biased;
                ended = &mut role => return ended,
                _ = lives.tick(), if is_watched => true,
                _ = looks.tick() => false,
                () = inner.ended.notified() => false,
            };
            // Its turn lets the role take up what was asked meanwhile, such as to read again.
            let worker = tokio::spawn(async {});
            tokio::select! {
                biased;
                ended = &mut role => return ended,
                _ = worker => {}
            }
            inner.look(status(), is_alive_told);
        }
    }

    /// Tells that something is read again, until what is returned is dropped.
    pub(super) fn reloading(&self) -> Reloading {
        if let Some(inner) = &self.0 {
            let mut told = inner.told();
            told.reloads += 1;
            // Else it knows already.
            let is_news = told.reloads == 1 && !told.is_ready_owed;
            if is_news && told.phase == Phase::Running {
                let text = format!("RELOADING=1\nMONOTONIC_USEC={}", monotonic_microseconds());
                inner.send(&mut told, &text);
            }
        }
        Reloading(self.clone())
    }

    /// Tells that the role has been asked to stop.
    pub(super) fn stopping(&self) {
        if let Some(inner) = &self.0 {
            let mut told = inner.told();
            told.phase = Phase::Stopping;
            inner.send(&mut told, "STOPPING=1");
        }
    }
}

/// Something is read again for as long as this is there.
pub(super) struct Reloading(Supervisor);

impl Drop for Reloading {
    fn drop(&mut self) {
        let Some(inner) = &self.0.0 else { return };
        let mut told = inner.told();
        told.reloads -= 1;
        if told.reloads == 0 {
            // Not told at once: one signal has several read again, and each sees it for itself.
            told.is_ready_owed = true;
            inner.ended.notify_one();
        }
    }
}

impl Inner {
    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells what is to be told of a role that runs.
    fn look(&self, status: String, is_alive_told: bool) {
        let mut told = self.told();
        if told.phase == Phase::Starting {
            told.phase = Phase::Running;
            told.is_ready_owed = true;
        }
        let mut lines = Vec::new();
        let is_ready_due = told.is_ready_owed && told.phase == Phase::Running && told.reloads == 0;
        if is_ready_due {
            lines.push("READY=1".to_owned());
        }
        if is_alive_told {
            lines.push("WATCHDOG=1".to_owned());
        }
        let is_news = told.status != status;
        if is_news {
            lines.push(format!("STATUS={status}"));
        }
        if lines.is_empty() || !self.send(&mut told, &lines.join("\n")) {
            return;
        }
        told.is_ready_owed &= !is_ready_due;
        if is_news {
            told.status = status;
        }
    }

    /// Whether it was told. The log hears once that it cannot be.
    fn send(&self, told: &mut Told, text: &str) -> bool {
        match self.socket.send(text) {
            Ok(()) => true,
            Err(error) => {
                if !told.is_lost {
                    tracing::warn!(%error, "cannot tell whoever has started this role how it is");
                }
                told.is_lost = true;
                false
            }
        }
    }
}

fn ticks(every: Duration) -> Interval {
    let mut interval = interval(every);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// The time of the clock that `systemctl reload` compares with.
#[cfg(unix)]
fn monotonic_microseconds() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec.saturating_mul(1_000_000).saturating_add(now.tv_nsec / 1_000)
}

#[cfg(not(unix))]
fn monotonic_microseconds() -> i64 {
    0
}

/// Where it is told.
#[cfg(unix)]
struct Socket {
    from: std::os::unix::net::UnixDatagram,
    to: std::os::unix::net::SocketAddr,
}

#[cfg(unix)]
impl Socket {
    fn from_environment() -> Option<Self> {
        let name = std::env::var_os("NOTIFY_SOCKET").filter(|name| !name.is_empty())?;
        let socket = Self::to(&name);
        let told = |error: &io::Error| tracing::warn!(%error, ?name, "NOTIFY_SOCKET is not usable");
        socket.inspect_err(told).ok()
    }

    /// One that begins with `@` is not in the file system.
    fn to(name: &std::ffi::OsStr) -> io::Result<Self> {
        #[cfg(target_os = "linux")]
        use std::os::linux::net::SocketAddrExt as _;
        use std::os::unix::net::{SocketAddr, UnixDatagram};
        #[cfg(target_os = "linux")]
        let hidden = std::os::unix::ffi::OsStrExt::as_bytes(name).strip_prefix(b"@");
        #[cfg(target_os = "linux")]
        let to = match hidden {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(name)?,
        };
        #[cfg(not(target_os = "linux"))]
        let to = SocketAddr::from_pathname(name)?;
        let from = UnixDatagram::unbound()?;
        from.set_nonblocking(true)?;
        Ok(Self { from, to })
    }

    fn send(&self, text: &str) -> io::Result<()> {
        self.from.send_to_addr(text.as_bytes(), &self.to).map(|_| ())
    }
}

/// No other platform has any.
#[cfg(not(unix))]
enum Socket {}

#[cfg(not(unix))]
impl Socket {
    fn from_environment() -> Option<Self> {
        None
    }

    fn send(&self, _: &str) -> io::Result<()> {
        match *self {}
    }
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;

    use tempfile::TempDir;

    use super::*;

    /// A supervisor that listens in `home`.
    fn supervisor(home: &TempDir, silence_max: Option<Duration>) -> (UnixDatagram, Supervisor) {
        let at = home.path().join("notify");
        let heard = UnixDatagram::bind(&at).unwrap();
        heard.set_nonblocking(true).unwrap();
        (heard, Supervisor::new(Socket::to(at.as_os_str()).unwrap(), silence_max))
    }

    /// What has come, a datagram each.
    fn heard(socket: &UnixDatagram) -> Vec<String> {
        let mut told = Vec::new();
        let mut room = [0; 4096];
        while let Ok(length) = socket.recv(&mut room) {
            told.push(String::from_utf8_lossy(&room[..length]).into_owned());
        }
        told
    }

    #[tokio::test(start_paused = true)]
    async fn a_role_is_ready_once_it_runs_and_its_status_is_told_as_it_changes() {
        let home = tempfile::tempdir().unwrap();
        let (socket, supervisor) = supervisor(&home, None);
        let links = AtomicUsize::new(0);
        let role = async {
            assert!(heard(&socket).is_empty(), "nothing before it runs");
            tokio::time::sleep(LOOK_EVERY / 2).await;
            assert_eq!(heard(&socket), ["READY=1\nSTATUS=0 up"]);
            tokio::time::sleep(LOOK_EVERY * 3).await;
            assert!(heard(&socket).is_empty(), "no news");
            links.store(2, Ordering::Relaxed);
            tokio::time::sleep(LOOK_EVERY).await;
            assert_eq!(heard(&socket), ["STATUS=2 up"]);
        };
        supervisor.beside(role, || format!("{} up", links.load(Ordering::Relaxed))).await;
    }

    #[tokio::test(start_paused = true)]
    async fn reloads_at_once_are_told_as_one_and_none_once_it_stops() {
        let home = tempfile::tempdir().unwrap();
        let (socket, supervisor) = supervisor(&home, None);
        let role = async {
            tokio::time::sleep(LOOK_EVERY / 2).await;
            heard(&socket);
            let before = monotonic_microseconds();
            let (first, second) = (supervisor.reloading(), supervisor.reloading());
            drop(first);
            let told = heard(&socket);
            assert_eq!(told.len(), 1, "{told:?}");
            let at = told[0].strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap();
            assert!((before..=monotonic_microseconds()).contains(&at.parse().unwrap()));
            tokio::time::sleep(LOOK_EVERY * 2).await;
            assert!(heard(&socket).is_empty(), "it still reads");
            drop(second);
            // Whoever sees the same signal a little later is waited for as well.
            let third = supervisor.reloading();
            tokio::time::sleep(LOOK_EVERY).await;
            assert!(heard(&socket).is_empty(), "it reads once more");
            drop(third);
            tokio::time::sleep(Duration::from_millis(1)).await;
            assert_eq!(heard(&socket), ["READY=1"]);
            supervisor.stopping();
            drop(supervisor.reloading());
            tokio::time::sleep(LOOK_EVERY).await;
            assert_eq!(heard(&socket), ["STOPPING=1"]);
        };
        supervisor.clone().beside(role, String::new).await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_not_taken_is_told_again() {
        let home = tempfile::tempdir().unwrap();
        let (socket, supervisor) = supervisor(&home, None);
        drop(socket);
        let at = home.path().join("notify");
        let role = async {
            tokio::time::sleep(LOOK_EVERY / 2).await;
            std::fs::remove_file(&at).unwrap();
            let socket = UnixDatagram::bind(&at).unwrap();
            socket.set_nonblocking(true).unwrap();
            tokio::time::sleep(LOOK_EVERY).await;
            assert_eq!(heard(&socket), ["READY=1\nSTATUS=up"]);
        };
        supervisor.beside(role, || "up".to_owned()).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_sign_of_life_is_given_twice_in_the_time_that_there_is() {
        let home = tempfile::tempdir().unwrap();
        let (socket, supervisor) = supervisor(&home, Some(Duration::from_secs(30)));
        let role = tokio::time::sleep(Duration::from_secs(61));
        supervisor.beside(role, || "up".to_owned()).await;
        let told = heard(&socket);
        let lives = told.iter().filter(|it| it.contains("WATCHDOG=1")).count();
        assert_eq!(lives, 5, "at 0, 15, 30, 45 and 60 s: {told:?}");
    }

    #[test]
    fn a_role_that_is_stuck_gives_no_sign_of_life() {
        let home = tempfile::tempdir().unwrap();
        let (socket, supervisor) = supervisor(&home, Some(Duration::from_millis(2)));
        let (entered, stuck) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let looks = AtomicUsize::new(0);
        let status = move || {
            // As a lock of the role that nobody gives back.
            if looks.fetch_add(1, Ordering::Relaxed) == 3 {
                entered.send(()).unwrap();
                released.recv().unwrap();
            }
            String::new()
        };
        let role = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(1)
                .enable_time()
                .build()
                .unwrap();
            runtime.block_on(supervisor.beside(async { drop(ended.await) }, status));
        });
        stuck.recv().unwrap();
        // Of three looks, one may have been for people; the fourth has not come to its end.
        assert!(heard(&socket).len() <= 3);
        std::thread::yield_now();
        assert!(heard(&socket).is_empty(), "stuck");
        release.send(()).unwrap();
        socket.set_nonblocking(false).unwrap();
        let mut room = [0; 64];
        let length = socket.recv(&mut room).unwrap();
        assert!(room[..length].starts_with(b"WATCHDOG=1"), "it lives again");
        end.send(()).unwrap();
        role.join().unwrap();
    }

    #[test]
    fn a_socket_outside_the_file_system_is_told() {
        #[cfg(target_os = "linux")]
        {
            use std::os::linux::net::SocketAddrExt as _;
            use std::os::unix::net::SocketAddr;
            let name = format!("relay-test-{}", std::process::id());
            let at = SocketAddr::from_abstract_name(&name).unwrap();
            let socket = UnixDatagram::bind_addr(&at).unwrap();
            Socket::to(format!("@{name}").as_ref()).unwrap().send("READY=1").unwrap();
            socket.set_nonblocking(true).unwrap();
            assert_eq!(heard(&socket), ["READY=1"]);
        }
    }
}
