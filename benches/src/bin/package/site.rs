//! A site that `relay init` wrote, with both roles running.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

/// How often it is looked what a role has said.
const LOOK: Duration = Duration::from_millis(5);

/// Within this time a role is ready.
const START: Duration = Duration::from_secs(30);

/// Ticks of a processor's clock in a second, as Linux shows them to programs.
const TICKS: f64 = 100.0;

/// Role id of the site's token service, one behind that of its management point.
const TOKEN_SERVICE: u64 = 72_057_594_037_927_938;

/// A site on loopback.
pub(crate) struct Site {
    program: PathBuf,
    folder: PathBuf,
    bulk: PathBuf,
    clients: String,
    /// The instance that has the content.
    pub(crate) gateway: Role,
    _point: Role,
}

impl Site {
    /// Writes a site below `home` and starts it.
    pub(crate) fn start(home: &Path) -> anyhow::Result<Self> {
        let program = std::env::current_exe()?.with_file_name("relay");
        ensure!(
            program.is_file(),
            "{} is not there: build it by `cargo build --release -p relay-bin`",
            program.display()
        );
        // Nobody asks the management point for anything.
        run(&program, home, &["init", "site", "--backend", "http://127.0.0.1:9"])?;
        let folder = home.join("site");
        edit(&folder.join("gateway-1/gateway.toml"), |text| {
            let text = ["127.0.0.1:8443", "127.0.0.1:10140", "127.0.0.1:10181"]
                .iter()
                .fold(text, |text, address| text.replace(address, "127.0.0.1:0"));
            text + "\n[content]\nfolder = \"files\"\n"
        })?;
        let mut gateway = Role::start(&program, &folder, "gateway", "gateway-1/gateway.toml")?;
        let ready = gateway.wait_for("ready: ")?;
        let [clients, links] =
            ["clients on https://", "links on "].map(|mark| after(&ready, mark).to_owned());
        let point = "connection-point/connection-point.toml";
        let port = links.rsplit_once(':').context("an address has a port")?.1;
        edit(&folder.join(point), |text| {
            text.replace("127.0.0.1:10180", "127.0.0.1:0")
                .replace("link_port_base = 10140", &format!("link_port_base = {port}"))
        })?;
        let clients = clients.replace("127.0.0.1", "localhost");
        let point = Role::start(&program, &folder, "connection-point", point)?;
        gateway.wait_for("settings applied")?;
        let bulk = home.join("bulk");
        let site = Self { program, folder, bulk, clients, gateway, _point: point };
        site.issue()?;
        Ok(site)
    }

    /// Has a bulk token issued.
    fn issue(&self) -> anyhow::Result<()> {
        let config = "connection-point/connection-point.toml";
        let told = self.relay(&["token", "new", "--config", config, "--json"])?;
        let told: Value = serde_json::from_slice(&told)?;
        let token = told["token"].as_str().context("no token was issued")?;
        let mut options = fs::OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(0o600).open(&self.bulk)?;
        Ok(file.write_all(token.as_bytes())?)
    }

    /// Registers a client, which has its credentials in `folder` then. Returns its id.
    pub(crate) fn register(&self, folder: &Path) -> anyhow::Result<String> {
        let url = self.url(&format!("/CCM_Proxy_ServerAuth/{TOKEN_SERVICE}"));
        let [folder, bulk] = [folder, &self.bulk].map(|it| it.display().to_string());
        let args = ["client", "register", &url, "--folder", &folder, "--token-file", &bulk];
        let rest = ["--ca", "site-ca/site-ca.pem", "--json"];
        let told: Value = serde_json::from_slice(&self.relay(&[&args[..], &rest].concat())?)?;
        Ok(told["client_id"].as_str().context("a client has an id")?.to_owned())
    }

    /// Where clients reach `path`.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.clients)
    }

    /// Runs `relay` in the site's folder; returns what it printed.
    ///
    /// # Errors
    ///
    /// If it fails: what it said.
    pub(crate) fn relay(&self, args: &[impl AsRef<str>]) -> anyhow::Result<Vec<u8>> {
        run(&self.program, &self.folder, args)
    }

    /// As [`Site::relay`], and does not wait for its end.
    pub(crate) fn spawn(&self, args: &[impl AsRef<str>]) -> anyhow::Result<Child> {
        let mut command = Command::new(&self.program);
        let command = command.args(args.iter().map(AsRef::as_ref)).current_dir(&self.folder);
        Ok(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?)
    }
}

fn run(program: &Path, folder: &Path, args: &[impl AsRef<str>]) -> anyhow::Result<Vec<u8>> {
    let args: Vec<&str> = args.iter().map(AsRef::as_ref).collect();
    let mut command = Command::new(program);
    let done = command.args(&args).current_dir(folder).stdin(Stdio::null()).output()?;
    if !done.status.success() {
        let [said, wrong] =
            [done.stdout, done.stderr].map(|it| String::from_utf8_lossy(&it).into_owned());
        bail!("relay {}: {said}{wrong}", args.join(" "));
    }
    Ok(done.stdout)
}

fn edit(file: &Path, change: impl FnOnce(String) -> String) -> anyhow::Result<()> {
    let text = fs::read_to_string(file)?;
    Ok(fs::write(file, change(text))?)
}

/// What stands behind `mark`, up to a comma.
fn after<'a>(line: &'a str, mark: &str) -> &'a str {
    let (_, rest) = line.split_once(mark).unwrap_or((line, ""));
    rest.split(',').next().unwrap_or(rest).trim()
}

/// A role in a process of its own, which ends with this value.
pub(crate) struct Role {
    child: Child,
    /// What it says, in the folder that it was started in. A pipe that nobody reads would hold it
    /// up.
    said: PathBuf,
}

impl Role {
    fn start(program: &Path, folder: &Path, role: &str, config: &str) -> anyhow::Result<Self> {
        let said = folder.join(role).with_extension("log");
        let log = File::create_new(&said)?;
        let mut command = Command::new(program);
        let command = command.args([role, "--config", config]).current_dir(folder);
        let command = command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        Ok(Self { child: command.spawn()?, said })
    }

    /// Waits for a line with `mark` in it.
    fn wait_for(&mut self, mark: &str) -> anyhow::Result<String> {
        let begun = Instant::now();
        loop {
            let said = fs::read_to_string(&self.said)?;
            if let Some(line) = said.lines().find(|it| it.contains(mark)) {
                return Ok(line.to_owned());
            }
            let is_over = self.child.try_wait()?.is_some() || begun.elapsed() > START;
            ensure!(!is_over, "the role has not said {mark:?}: {said}");
            thread::sleep(LOOK);
        }
    }

    /// Processor time that it has used.
    pub(crate) fn processor_seconds(&self) -> anyhow::Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // Behind the name, which may have blanks in it: state is the 3rd field, these the 14th on.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
        let ticks = |field: usize| fields.get(field - 3).and_then(|it| it.parse::<u32>().ok());
        let ticks = ticks(14).zip(ticks(15)).context("no times")?;
        Ok(f64::from(ticks.0 + ticks.1) / TICKS)
    }

    /// Octets of memory that it had at most.
    pub(crate) fn most_memory(&self) -> anyhow::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|it| it.strip_prefix("VmHWM:")).context("no VmHWM")?;
        let kibibytes = line.trim().trim_end_matches("kB").trim().parse::<u64>()?;
        Ok(kibibytes * 1024)
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        // It has ended already, or ends now.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
