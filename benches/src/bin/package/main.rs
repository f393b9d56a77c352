//! What it takes to hand a package out: put into an instance's folder, granted to clients that have
//! registered, fetched by several at once, one of which is killed half-way and goes on.
//!
//! `cargo build --release -p relay-bin && cargo run --release -p relay-benches --bin package`
//!
//! Everything is done by the program `relay` that stands beside this one, as an administrator and
//! clients do it, over loopback and real TLS: `relay init`, both roles, `content put` and `grant`,
//! `client register` and `client download --package`. Gateway and clients share the processors.
//!
//! What is printed are times of the machine it runs on. What fails is a file that differs from the
//! one that was put, a client that is interrupted and fetches what it had again, or a package that
//! is put again and copied.

mod site;
mod source;

use std::path::{Path, PathBuf};
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::{Parser, value_parser};
use serde_json::Value;

use site::{Role, Site};
use source::Source;

/// How often it is looked how far the client has come that is to be interrupted.
const LOOK: Duration = Duration::from_millis(5);

/// Within this time a client has a half, or something is wrong.
const HALF_TIME: Duration = Duration::from_mins(30);

/// Octets of a mebibyte.
const MEBIBYTE: u64 = 1 << 20;

/// Puts a package, has it fetched by several clients, and says what it took.
#[derive(Parser)]
struct Args {
    /// Files of the package, 2 to 50,000. The first has a quarter of the octets.
    #[arg(long, default_value_t = 5000, value_parser = value_parser!(u32).range(2..=50_000))]
    files: u32,
    /// Octets of all files, in MiB.
    #[arg(long, default_value_t = 2048, value_parser = value_parser!(u32).range(1..=65_536))]
    mebibytes: u32,
    /// Clients that fetch it at once, 1 to 16. The first is interrupted.
    #[arg(long, default_value_t = 3, value_parser = value_parser!(u8).range(1..=16))]
    clients: u8,
    /// Folder on the disk that is to be used; each client needs the room of a package there, and
    /// there are two more.
    #[arg(long)]
    folder: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let folder = match &args.folder {
        Some(folder) => tempfile::tempdir_in(folder)?,
        None => tempfile::tempdir()?,
    };
    let home = folder.path();
    let source = Source::write(&home.join("package"), args.files, args.mebibytes)?;
    println!("package: {} files, {} MiB", args.files, source.octets() / MEBIBYTE);
    let mut site = Site::start(home)?;
    put(&site, &source)?;

    let mut clients = Vec::new();
    for number in 1..=args.clients {
        clients.push(Client::register(&site, home, number)?);
    }
    let alone = clients[0].download(&site, "alone")?;
    report("one client alone", &alone, source.octets(), &mut site.gateway)?;
    source.check(&clients[0].out("alone"))?;
    std::fs::remove_dir_all(clients[0].out("alone"))?;
    together(&mut site, &source, &clients)
}

/// Puts the package twice.
fn put(site: &Site, source: &Source) -> anyhow::Result<()> {
    let package = source.folder().display().to_string();
    let args = ["content", "put", &package, "--package", "PS100012"];
    let args = [&args[..], &["--config", "gateway-1/gateway.toml", "--json"]].concat();
    for (name, copied) in [("put", source.octets()), ("put again", 0)] {
        let begun = Instant::now();
        let told: Value = serde_json::from_slice(&site.relay(&args)?)?;
        ensure!(told["octets_copied"] == copied, "{name}: {told}");
        println!("{name}: {}", rate(source.octets(), begun.elapsed()));
    }
    Ok(())
}

/// All clients fetch the package at once; the first is killed half-way, and goes on beside them.
fn together(site: &mut Site, source: &Source, clients: &[Client]) -> anyhow::Result<()> {
    let begun = Instant::now();
    let before = site.gateway.processor_seconds()?;
    let shared = &*site;
    let fetched = thread::scope(|scope| {
        let others: Vec<_> = clients[1..]
            .iter()
            .map(|client| scope.spawn(move || client.download(shared, "together")))
            .collect();
        let first = interrupted(shared, source, &clients[0]);
        let others = others.into_iter().map(|it| it.join().expect("no part of it panics"));
        [first].into_iter().chain(others).collect::<anyhow::Result<Vec<Fetched>>>()
    })?;
    let took = begun.elapsed();
    for (number, it) in (1..).zip(&fetched) {
        println!("client {number}: {}", rate(it.octets, it.took));
    }
    let octets: u64 = fetched.iter().map(|it| it.octets).sum();
    let seconds = site.gateway.processor_seconds()? - before;
    println!("all at once: {}; gateway: {seconds:.1} s of processor time", rate(octets, took));
    println!("gateway: at most {} MiB of memory", site.gateway.most_memory()? / MEBIBYTE);
    for client in clients {
        source.check(&client.out("together"))?;
    }
    println!("each file of each client is the one that was put");
    Ok(())
}

/// Has a client killed when it has a half, and go on. What it had is not fetched again.
fn interrupted(site: &Site, source: &Source, client: &Client) -> anyhow::Result<Fetched> {
    let out = client.out("together");
    let begun = Instant::now();
    let mut killed = client.spawn(site, "together")?;
    while source::octets_below(&out) < source.octets() / 2 {
        ensure!(killed.try_wait()?.is_none(), "the client was done before it was interrupted");
        ensure!(begun.elapsed() < HALF_TIME, "the client does not come half-way");
        thread::sleep(LOOK);
    }
    killed.kill()?;
    ensure!(killed.wait()?.code().is_none(), "the client was done before it was killed");
    let had = source::octets_below(&out);
    let rest = client.download(site, "together")?;
    println!(
        "client 1 killed with {} MiB there; then fetched {} MiB, {} files were there, {} resumed",
        had / MEBIBYTE,
        rest.octets / MEBIBYTE,
        rest.report["files_there"],
        rest.report["resumed"]
    );
    // A file that was whole and had not been named yet is told by its hash, and so is a part.
    ensure!(rest.octets + had <= source.octets(), "what was there has been fetched again");
    Ok(Fetched { octets: had + rest.octets, took: begun.elapsed(), report: rest.report })
}

/// What a client has fetched.
struct Fetched {
    octets: u64,
    took: Duration,
    report: Value,
}

/// A registered client, and where it may fetch the package.
struct Client {
    folder: PathBuf,
    url: String,
}

impl Client {
    fn register(site: &Site, home: &Path, number: u8) -> anyhow::Result<Self> {
        let folder = home.join(format!("client-{number}"));
        let id = site.register(&folder)?;
        let begun = Instant::now();
        let grant = ["content", "grant", "--package", "PS100012", "--client", &id];
        let config = ["--config", "connection-point/connection-point.toml"];
        let location = String::from_utf8(site.relay(&[&grant[..], &config].concat())?)?;
        println!("grant for client {number}: {:?}", begun.elapsed());
        Ok(Self { folder, url: site.url(location.trim()) })
    }

    fn out(&self, name: &str) -> PathBuf {
        self.folder.with_extension(name)
    }

    fn args(&self, name: &str) -> Vec<String> {
        let [out, me] = [self.out(name), self.folder.clone()].map(|it| it.display().to_string());
        let args = ["client", "download", &self.url, &out, "--package", "--folder", &me];
        let rest = ["--ca", "site-ca/site-ca.pem", "--json"];
        args.into_iter().chain(rest).map(str::to_owned).collect()
    }

    fn spawn(&self, site: &Site, name: &str) -> anyhow::Result<Child> {
        site.spawn(&self.args(name))
    }

    fn download(&self, site: &Site, name: &str) -> anyhow::Result<Fetched> {
        let begun = Instant::now();
        let report: Value = serde_json::from_slice(&site.relay(&self.args(name))?)?;
        let octets = report["bytes_fetched"].as_u64().context("the report says no octets")?;
        Ok(Fetched { octets, took: begun.elapsed(), report })
    }
}

fn report(name: &str, it: &Fetched, octets: u64, gateway: &mut Role) -> anyhow::Result<()> {
    ensure!(it.octets == octets, "{name}: {} octets", it.octets);
    let seconds = gateway.processor_seconds()?;
    println!("{name}: {}; gateway: {seconds:.1} s of processor time", rate(octets, it.took));
    Ok(())
}

/// Octets and time, and what that is each second.
fn rate(octets: u64, took: Duration) -> String {
    #[expect(clippy::cast_precision_loss, reason = "of a figure that is rounded when printed")]
    let mebibytes = octets as f64 / MEBIBYTE as f64;
    let seconds = took.as_secs_f64();
    format!("{mebibytes:.0} MiB in {seconds:.2} s, {:.0} MiB/s", mebibytes / seconds)
}
