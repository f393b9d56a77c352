//! `relay content`: put, list and remove packages of an instance's store, and grant them.

use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use relay_core::auth::Guid;
use relay_core::config::{ContentPlace, SiteTokens, content_config, site_tokens};
use relay_core::content::{FileName, Granted, PackageId, SignedGrant};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::{cloud, put};
use crate::console::say;
use crate::exit::Failure;
use crate::site;

/// Shown below the help of `relay content`.
pub(crate) const EXAMPLES: &str = "\
Examples:
  Put the files below a folder into the store of an instance:
    relay content put ./office --package PS100012 --config gateway.toml
  What is there:
    relay content list --config gateway.toml
  On the site: let a client fetch it for the next 24 hours:
    relay content grant --package PS100012 --client 0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9 \\
        --config connection-point.toml

[content] in gateway.toml says what the store is: a folder, a container of Azure Blob Storage or
a bucket of S3. Every instance needs the same packages: share the store, or put each on each.";

const PUT_EXAMPLES: &str = "\
Examples:
  Put a package, or replace it:
    relay content put ./office --package PS100012 --config gateway.toml

Clients see the package as it was, until all of it is there. Put it again if that was interrupted:
what is there already is not copied twice. A running instance need not be told.";

const GRANT_EXAMPLES: &str = "\
Examples:
  All files of a package, for a client that shows its token of the site:
    relay content grant --package PS100012 --client 0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9 \\
        --config connection-point.toml
  One file, for an hour, for a client that shows this certificate in TLS:
    relay content grant --package PS100012 --file a/setup.exe --hours 1 \\
        --client 0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9 --certificate client.pem \\
        --config connection-point.toml

What is printed is asked for at the service: put `https://` and the service's name before it. It is
good for that client alone, so it is no secret. A block of the client ends it.";

/// What can be done with content.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Put the files below a folder into an instance's store, as a package.
    #[command(after_help = PUT_EXAMPLES)]
    Put(PutArgs),
    /// List the packages of an instance's store.
    List(Store),
    /// Remove a package from an instance's store.
    Remove(RemoveArgs),
    /// Sign where a client may fetch a package.
    #[command(after_help = GRANT_EXAMPLES)]
    Grant(GrantArgs),
}

/// Which store, and how to show it.
#[derive(clap::Args)]
pub(crate) struct Store {
    /// The configuration file of the gateway instance.
    #[arg(long, short, value_name = "FILE")]
    config: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Arguments of `relay content put`.
#[derive(clap::Args)]
pub(crate) struct PutArgs {
    /// The folder with the files of the package.
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// What the package is called, such as PS100012.
    #[arg(long, value_name = "ID")]
    package: PackageId,
    #[command(flatten)]
    store: Store,
}

/// Arguments of `relay content remove`.
#[derive(clap::Args)]
pub(crate) struct RemoveArgs {
    /// What the package is called.
    #[arg(long, value_name = "ID")]
    package: PackageId,
    #[command(flatten)]
    store: Store,
}

/// Arguments of `relay content grant`.
#[derive(clap::Args)]
pub(crate) struct GrantArgs {
    /// What the package is called.
    #[arg(long, value_name = "ID")]
    package: PackageId,
    /// One file of it alone.
    #[arg(long, value_name = "NAME")]
    file: Option<FileName>,
    /// GUID of the client, as `relay token clients` shows it.
    #[arg(long, value_name = "GUID")]
    client: Guid,
    /// For how many hours, 1 to 24.
    #[arg(long, value_name = "HOURS", default_value_t = 24, allow_negative_numbers = true,
          value_parser = clap::value_parser!(u64).range(1..=24))]
    hours: u64,
    /// A certificate in PEM: its holder shows it in TLS, in place of a token of the site.
    #[arg(long, value_name = "FILE")]
    certificate: Option<PathBuf>,
    /// The configuration file of the site's connection point.
    #[arg(long, short, value_name = "FILE")]
    config: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// `relay content`.
pub(crate) fn run(command: &Command) -> Result<(), Failure> {
    match command {
        Command::Put(PutArgs { folder, package, store }) => {
            let done = match content_config(&store.config)?.store {
                ContentPlace::Folder(place) => put::put(&place, package, folder),
                ContentPlace::Cloud(place) => cloud::put(&place, package, folder),
            };
            let done = done.map_err(Failure::Runtime)?;
            let (files, octets) = (done.manifest.files().len(), done.manifest.octets());
            show(
                store.json,
                &json!({
                    "package": package.as_str(), "files": files, "octets": octets,
                    "octets_copied": done.copied,
                }),
                &format!(
                    "{package} is published: {files} files, {octets} octets, of which {} were \
                     copied",
                    done.copied
                ),
            );
        }
        Command::List(store) => {
            let listed = match content_config(&store.config)?.store {
                ContentPlace::Folder(place) => put::list(&place),
                ContentPlace::Cloud(place) => cloud::list(&place),
            };
            let (values, text) = shown(&listed.map_err(Failure::Runtime)?);
            show(store.json, &json!({ "packages": values }), &text);
        }
        Command::Remove(RemoveArgs { package, store }) => {
            let removed = match content_config(&store.config)?.store {
                ContentPlace::Folder(place) => put::remove(&place, package),
                ContentPlace::Cloud(place) => cloud::remove(&place, package),
            };
            removed.map_err(Failure::Runtime)?;
            let text = format!("{package} is removed");
            show(store.json, &json!({ "package": package.as_str() }), &text);
        }
        Command::Grant(args) => {
            let tokens = site_tokens(&args.config)?;
            let signed = grant(&tokens, args).map_err(Failure::Runtime)?;
            let (grant, location) = (signed.grant(), signed.location());
            let value = json!({
                "location": location, "package": grant.package.as_str(),
                "client": grant.client.to_string(), "expires": grant.ends,
            });
            show(args.json, &value, &location);
        }
    }
    Ok(())
}

/// Signs what the arguments ask for.
fn grant(tokens: &SiteTokens, args: &GrantArgs) -> anyhow::Result<SignedGrant> {
    let bound_to = args.certificate.as_ref().map(|file| {
        let cannot = || format!("cannot read a certificate in {}", file.display());
        let certificate = CertificateDer::from_pem_file(file).with_context(cannot)?;
        anyhow::Ok(Sha256::digest(&certificate).into())
    });
    let granted = args.file.clone().map_or(Granted::Package, Granted::File);
    let wanted = site::WantedGrant {
        package: args.package.clone(),
        granted,
        client: args.client,
        seconds: args.hours * 3600,
        bound_to: bound_to.transpose()?,
    };
    site::sign_grant(tokens, wanted)
}

/// Packages as JSON, and in lines for people.
fn shown(listed: &[put::Listed]) -> (Vec<Value>, String) {
    let mut text = String::new();
    let mut values = Vec::new();
    for put::Listed { package, manifest } in listed {
        let (mut value, line) = match manifest {
            Ok(it) => {
                let (files, octets) = (it.files().len(), it.octets());
                let value = json!({ "files": files, "octets": octets });
                (value, format!("{files} files, {octets} octets"))
            }
            Err(why) => (json!({ "unusable": why }), format!("unusable: {why}")),
        };
        value["package"] = json!(package.as_str());
        values.push(value);
        let _ = writeln!(text, "{package:<24} {line}");
    }
    if text.is_empty() {
        text.push_str("no packages");
    }
    (values, text)
}

fn show(json: bool, value: &Value, text: &str) {
    let text = if json { format!("{value:#}") } else { text.to_owned() };
    say(text.trim_end());
}
