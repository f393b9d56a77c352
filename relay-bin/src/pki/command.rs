//! `relay pki`: issue, renew, revoke and show certificates.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context as _, ensure};
use clap::ArgGroup;

use super::files::{self, Readers};
use super::{SiteCa, Wanted, revoke, show};
use crate::console::say;
use crate::exit::Failure;

/// Shown below the help of `relay pki`.
pub(crate) const EXAMPLES: &str = "\
Examples:
  A second connection point:
    relay pki issue --ca site/site-ca --connection-point north --out north
  The link certificate of a third gateway instance:
    relay pki issue --ca site/site-ca --instance 3 \\
        --server-name 'gateway-{instance}.relay.example' --out gateway-3
  Look at certificates, then renew one; a running role takes it within a minute:
    relay pki show site/*/*.pem
    relay pki renew --ca site/site-ca \\
        site/connection-point/link.pem site/connection-point/link-key.pem
  Take one back, on both sides of its links once each role has the list as site_crl:
    relay pki revoke --ca site/site-ca north/link.pem

The folder given to --ca holds site-ca.pem and site-ca-key.pem, as `relay init` writes them.";

/// What can be done with certificates.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Sign a certificate for a new connection point or gateway instance.
    Issue(IssueArgs),
    /// Replace a certificate and its key by new ones with the same names and uses.
    Renew(RenewArgs),
    /// Take certificates back: add them to the list that links are judged by.
    Revoke(RevokeArgs),
    /// Show what certificates and lists say.
    Show(ShowArgs),
}

/// Which authority signs.
#[derive(clap::Args)]
struct Authority {
    /// Folder with the authority: site-ca.pem and site-ca-key.pem.
    #[arg(long = "ca", value_name = "DIR")]
    home: PathBuf,
}

impl Authority {
    fn load(&self) -> Result<SiteCa, Failure> {
        let certificate = self.home.join("site-ca.pem");
        let loaded = SiteCa::load(&certificate, &self.home.join("site-ca-key.pem"));
        loaded.map_err(Failure::Usage)
    }

    /// The list of what it has taken back.
    fn list(&self) -> PathBuf {
        self.home.join("site-ca.crl")
    }
}

/// Arguments of `relay pki issue`.
#[derive(clap::Args)]
#[command(group = ArgGroup::new("whom").required(true).args(["connection_point", "instance"]))]
pub(crate) struct IssueArgs {
    #[command(flatten)]
    authority: Authority,
    /// For the connection point with this `name` in its file. Writes link.pem and link-key.pem.
    #[arg(long, value_name = "NAME", value_parser = connection_point_name)]
    connection_point: Option<String>,
    /// For this gateway instance, 1 to 16. Writes links.pem and links-key.pem.
    #[arg(long, value_name = "N", requires = "server_name",
          value_parser = clap::value_parser!(u8).range(1..=16))]
    instance: Option<u8>,
    /// A name that connection points verify, as `server_name` in their file; {instance} stands for
    /// the number. May be given more than once.
    #[arg(long, value_name = "NAME", conflicts_with = "connection_point")]
    server_name: Vec<String>,
    /// Folder to write to; made if it does not exist.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    life: Life,
    /// Replace files that exist.
    #[arg(long)]
    force: bool,
}

/// Arguments of `relay pki renew`.
#[derive(clap::Args)]
pub(crate) struct RenewArgs {
    #[command(flatten)]
    authority: Authority,
    /// The certificate to replace, as PEM.
    #[arg(value_name = "CERTIFICATE")]
    certificate: PathBuf,
    /// Its private key, as PEM.
    #[arg(value_name = "KEY")]
    key: PathBuf,
    #[command(flatten)]
    life: Life,
}

#[derive(clap::Args)]
struct Life {
    /// Days until the certificate expires, 1 to 825 [default: 825, or as long as the one that is
    /// renewed]. None outlives its authority.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=825))]
    days: Option<u16>,
}

/// Arguments of `relay pki revoke`.
#[derive(clap::Args)]
pub(crate) struct RevokeArgs {
    #[command(flatten)]
    authority: Authority,
    /// The certificates to take back, as PEM. Without any, the list is signed anew as it is.
    #[arg(value_name = "CERTIFICATE")]
    certificates: Vec<PathBuf>,
    /// Days until the list must be signed anew; when it is over, no link comes up any more
    /// [default: as long as the authority holds].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    days: Option<u16>,
}

/// Arguments of `relay pki show`.
#[derive(clap::Args)]
pub(crate) struct ShowArgs {
    /// PEM files with certificates or revocation lists.
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// As the connection point's file has it.
fn connection_point_name(text: &str) -> Result<String, &'static str> {
    if text.is_empty() || 64 < text.len() || text.chars().any(char::is_control) {
        return Err("give 1 to 64 octets of text, as `name` in the connection point's file");
    }
    Ok(text.to_owned())
}

/// Does what the command line asks for.
pub(crate) fn run(command: &Command) -> Result<(), Failure> {
    match command {
        Command::Issue(args) => issue(args),
        Command::Renew(args) => renew(args),
        Command::Revoke(args) => revoke(args),
        Command::Show(args) => show(args),
    }
}

fn issue(args: &IssueArgs) -> Result<(), Failure> {
    let ca = args.authority.load()?;
    let (stem, wanted) = match (&args.connection_point, args.instance) {
        (Some(name), _) => ("link", Wanted::client(name)),
        (None, number) => {
            let number = number.unwrap_or_default().to_string();
            let names = args.server_name.iter().map(|name| name.replace("{instance}", &number));
            ("links", Wanted::server(names.collect()))
        }
    };
    let certificate = args.out.join(format!("{stem}.pem"));
    let key = args.out.join(format!("{stem}-key.pem"));
    for file in [&certificate, &key] {
        files::ensure_free(file, args.force).map_err(Failure::Usage)?;
    }
    let issued = ca.issue(&wanted.for_days(args.life.days)).map_err(Failure::Usage)?;
    fs::create_dir_all(&args.out)
        .with_context(|| format!("cannot make the folder {}", args.out.display()))
        .and_then(|()| files::replace_identity(&issued.text(), &certificate, &key))
        .map_err(Failure::Runtime)?;
    say(&format!("wrote {} and {}", certificate.display(), key.display()));
    Ok(())
}

fn renew(args: &RenewArgs) -> Result<(), Failure> {
    let ca = args.authority.load()?;
    let end = ca.renew(&args.certificate, &args.key, args.life.days)?;
    say(&format!(
        "renewed {} until {}, with a new key in {}",
        args.certificate.display(),
        show::date(end),
        args.key.display()
    ));
    Ok(())
}

impl SiteCa {
    /// Replaces a certificate and its key by new ones with the same names and uses. Returns the end
    /// of the new one's life.
    pub(crate) fn renew(
        &self,
        certificate: &Path,
        key: &Path,
        days: Option<u16>,
    ) -> Result<SystemTime, Failure> {
        let judged = || {
            let old = files::read(certificate, &files::leaf(certificate)?)?;
            self.ensure_issued(&old, certificate.display())?;
            ensure!(
                !old.uses.authority,
                "{} is an authority, which cannot be renewed: certificates would have to follow",
                certificate.display()
            );
            ensure!(
                files::key(key, &old.public_key)?.is_some(),
                "private key {} does not belong to {}; nothing was written",
                key.display(),
                certificate.display()
            );
            self.issue(&Wanted::like(&old).for_days(days))
        };
        let issued = judged().map_err(Failure::Usage)?;
        let written = || {
            files::replace_identity(&issued.text(), certificate, key)?;
            Ok(files::read(certificate, issued.certificate.der())?.validity.not_after)
        };
        written().map_err(Failure::Runtime)
    }
}

fn revoke(args: &RevokeArgs) -> Result<(), Failure> {
    let ca = args.authority.load()?;
    let file = args.authority.list();
    let judged = || {
        let old = revoke::read(&file)?;
        let mut serials = Vec::new();
        for certificate in &args.certificates {
            let read = files::read(certificate, &files::leaf(certificate)?)?;
            ca.ensure_issued(&read, certificate.display())?;
            serials.push(read.serial);
        }
        serials.dedup();
        let known = old.as_ref().map_or(0, |old| old.revoked.len());
        let list = ca.revoke(old.as_ref(), &serials, args.days)?;
        anyhow::Ok((list, known))
    };
    let (list, known) = judged().map_err(Failure::Usage)?;
    files::replace(&file, &list, Readers::Anybody).map_err(Failure::Runtime)?;
    let now = revoke::read(&file).map_err(Failure::Runtime)?;
    let count = now.map_or(0, |now| now.revoked.len());
    say(&format!(
        "wrote {} with {count} certificate(s), {} of them new; give it to every role as site_crl",
        file.display(),
        count.saturating_sub(known)
    ));
    Ok(())
}

fn show(args: &ShowArgs) -> Result<(), Failure> {
    let now = SystemTime::now();
    let mut all = Vec::new();
    for file in &args.files {
        all.extend(show::file(file, now).map_err(Failure::Usage)?);
    }
    if args.json {
        let json = serde_json::to_string_pretty(&all).context("cannot write JSON");
        say(&json.map_err(Failure::Runtime)?);
    } else {
        say(&show::text(&all));
    }
    Ok(())
}
