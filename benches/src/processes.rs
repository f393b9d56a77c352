//! Parts of a relay in processes of their own, so that what each costs can be told apart. Each
//! hears its task on standard input, says what it has to say on standard output, line by line, and
//! ends with its input.

use std::fmt::Display;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use relay_core::connection_point::ConnectionPointLimits;
use relay_core::gateway::Listeners;
use relay_core::transport::{Listener, Rung, link_server_config};
use rustix::time::{ClockId, clock_gettime};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines, Stdin};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::pki::Papers;
use crate::relay;

/// How often the gateway's part looks whether links are up.
const LOOK: Duration = Duration::from_millis(5);

/// What a gateway is told. It answers with its ports, and then with how many links are up.
#[derive(Debug, Serialize, Deserialize)]
pub struct GatewayTask {
    /// What it shows and trusts.
    pub papers: Papers,
    /// How many links it waits for.
    pub links: usize,
    /// Time that a burst of requests has, if not the default.
    pub link_credit: Option<Duration>,
}

/// Where a gateway listens.
#[derive(Debug, Serialize, Deserialize)]
pub struct GatewayPorts {
    /// To clients.
    pub clients: u16,
    /// To connection points.
    pub links: u16,
}

/// What a connection point is told.
#[derive(Debug, Serialize, Deserialize)]
pub struct SiteTask {
    /// What it shows and trusts.
    pub papers: Papers,
    /// The gateway's port.
    pub links_port: u16,
    /// The backend's.
    pub backend_port: u16,
    /// How many links it dials.
    pub links: usize,
    /// Octets of receive memory of its links, if not the default.
    pub link_memory: Option<u64>,
}

/// A part in a process of its own. It ends with its standard input.
#[derive(Debug)]
pub struct Process {
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    /// Starts this program anew, which runs one part.
    ///
    /// # Errors
    ///
    /// What the system says.
    pub fn start(part: impl Display) -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("--part")
            .arg(part.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdin = child.stdin.take().context("it was asked for")?;
        let stdout = child.stdout.take().context("it was asked for")?;
        Ok(Self { child, stdin, lines: BufReader::new(stdout).lines() })
    }

    /// Says a line.
    ///
    /// # Errors
    ///
    /// If the part has ended.
    pub async fn tell(&mut self, what: &impl Serialize) -> anyhow::Result<()> {
        let line = serde_json::to_string(what)? + "\n";
        Ok(self.stdin.write_all(line.as_bytes()).await?)
    }

    /// Reads a line.
    ///
    /// # Errors
    ///
    /// If the part has ended, or says something else.
    pub async fn hear<T: DeserializeOwned>(&mut self) -> anyhow::Result<T> {
        let line = self.lines.next_line().await?.context("a part has ended")?;
        Ok(serde_json::from_str(&line)?)
    }

    /// Its number in the system, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }
}

/// What this process is told, line by line.
#[derive(Debug)]
pub struct Told(Lines<BufReader<Stdin>>);

impl Told {
    /// What comes on standard input.
    pub fn new() -> Self {
        Self(BufReader::new(tokio::io::stdin()).lines())
    }

    /// The next of it; `None` at the end.
    ///
    /// # Errors
    ///
    /// If it is something else.
    pub async fn next<T: DeserializeOwned>(&mut self) -> anyhow::Result<Option<T>> {
        let line = self.0.next_line().await?;
        line.map(|line| Ok(serde_json::from_str(&line)?)).transpose()
    }
}

impl Default for Told {
    fn default() -> Self {
        Self::new()
    }
}

/// Says a line.
///
/// # Errors
///
/// If it cannot be written as JSON.
pub fn say(what: &impl Serialize) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string(what)?);
    Ok(())
}

/// A port of loopback.
pub fn at(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// Time by a clock that all processes share.
pub fn now() -> Duration {
    clock_gettime(ClockId::Monotonic).try_into().unwrap_or_default()
}

/// Is a gateway instance until nobody speaks to it any more.
///
/// # Errors
///
/// If it has no task, or loopback cannot be used.
pub async fn gateway(mut told: Told) -> anyhow::Result<()> {
    let task: GatewayTask = told.next().await?.context("no task")?;
    let identity = task.papers.identity();
    let link_tls = link_server_config(&identity, &task.papers.anchors())?;
    let (clients, links) = (Listener::bind(at(0)).await?, Listener::bind(at(0)).await?);
    let ports =
        GatewayPorts { clients: clients.local_addr().port(), links: links.local_addr().port() };
    let mut limits = relay::gateway_limits();
    limits.link_credit = task.link_credit.unwrap_or(limits.link_credit);
    let gateway = relay::gateway(&identity, link_tls, limits);
    let listeners = Listeners { clients, links: Some(links), https_links: None, quic: None };
    let serving = tokio::spawn(gateway.clone().serve(listeners, std::future::pending()));
    say(&ports)?;
    while gateway.links() < task.links || gateway.settings().sites.is_empty() {
        tokio::time::sleep(LOOK).await;
    }
    say(&gateway.links())?;
    let _: Option<()> = told.next().await?;
    serving.abort();
    Ok(())
}

/// Is a connection point until nobody speaks to it any more.
///
/// # Errors
///
/// If it has no task.
pub async fn site(mut told: Told) -> anyhow::Result<()> {
    let task: SiteTask = told.next().await?.context("no task")?;
    let mut limits = ConnectionPointLimits::default();
    limits.links_per_instance = task.links;
    limits.link_memory = task.link_memory.unwrap_or(limits.link_memory);
    let links = (Rung::TcpTls, at(task.links_port));
    let point = relay::connection_point(&task.papers, links, at(task.backend_port), limits, None);
    let running = tokio::spawn(async move { point.run(std::future::pending()).await });
    let _: Option<()> = told.next().await?;
    running.abort();
    Ok(())
}
