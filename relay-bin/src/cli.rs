//! The command line. Arguments of a command stand beside the command.
//!
//! What is made of it for others to read is below it: [`completions`] for shells, [`man`] for
//! people.

pub(crate) mod completions;
pub(crate) mod man;

use clap::{Parser, Subcommand};

use crate::{
    admin, analyze, check, client, content, demo, doctor, exit, explain, init, pki, run, schema,
    site,
};

/// Relays HTTPS requests from clients on the internet to servers inside a site that opens no port.
///
/// A gateway instance in the cloud takes the clients' requests; a connection point inside the site
/// has dialled out to it and forwards each request to a management point or software update point.
#[derive(Parser)]
#[command(name = "relay", version, propagate_version = true, after_help = after_help())]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  See everything work, with no set-up:
    relay demo
  Write a site for this machine, with a server on port 8080 behind it:
    relay init site --backend http://127.0.0.1:8080
  Run it, each in its own terminal:
    relay gateway --config site/gateway-1/gateway.toml
    relay connection-point --config site/connection-point/connection-point.toml
  See everything that is wrong with its files:
    relay check site
  See its links:
    relay status --config site/connection-point/connection-point.toml";

/// What stands below the help: examples, and how the program ends.
fn after_help() -> String {
    let statuses = exit::STATUSES.iter().map(|(status, means)| format!("\n  {status:<3} {means}"));
    format!("{EXAMPLES}\n\nExit status:{}", statuses.collect::<String>())
}

/// What the program can do.
#[derive(Subcommand)]
pub(crate) enum Command {
    /// Run a whole site on loopback and prove it with a client session.
    #[command(after_help = demo::EXAMPLES)]
    Demo(demo::Args),
    /// Write a ready-to-run site: certificates and commented configurations.
    Init(init::Args),
    /// Issue, renew, revoke and show the certificates of a site.
    #[command(subcommand, after_help = pki::EXAMPLES)]
    Pki(pki::Command),
    /// Issue, list, block and unblock the registration tokens of a site.
    #[command(subcommand, after_help = site::EXAMPLES)]
    Token(site::Command),
    /// Run one gateway instance.
    #[command(after_help = run::GATEWAY_EXAMPLES)]
    Gateway(run::Args),
    /// Run a connection point.
    #[command(after_help = run::CONNECTION_POINT_EXAMPLES)]
    ConnectionPoint(run::Args),
    /// Show the links of a role that runs on this machine.
    #[command(after_help = admin::STATUS_EXAMPLES)]
    Status(admin::StatusArgs),
    /// Drain a role that runs on this machine, or one of its links.
    #[command(after_help = admin::DRAIN_EXAMPLES)]
    Drain(admin::DrainArgs),
    /// Stop or start serving clients at a gateway instance that runs on this machine.
    #[command(subcommand, after_help = admin::SERVICE_EXAMPLES)]
    Service(admin::ServiceCommand),
    /// Show or change what a role that runs on this machine logs.
    #[command(after_help = admin::LOG_EXAMPLES)]
    Log(admin::LogArgs),
    /// Judge configuration files, and say everything that is wrong with them at once.
    #[command(after_help = check::EXAMPLES)]
    Check(check::Args),
    /// Print the JSON schema of a role's configuration file.
    #[command(after_help = schema::EXAMPLES)]
    Schema(schema::Args),
    /// Say what a gateway does with a request, by which endpoint of which file, and why.
    #[command(after_help = explain::EXAMPLES)]
    Explain(explain::Args),
    /// Find out which part of a service does not work, and why, from the name to the site role.
    #[command(after_help = analyze::EXAMPLES)]
    Analyze(Box<analyze::Args>),
    /// Collect all about one role into a bundle without secrets, for whoever helps.
    #[command(after_help = doctor::EXAMPLES)]
    Doctor(doctor::Args),
    /// Speak to a gateway as a client does, and say which hop refuses and why.
    #[command(subcommand, after_help = client::EXAMPLES)]
    Client(client::Command),
    /// Put content into an instance's store, and grant it to clients.
    #[command(subcommand, after_help = content::EXAMPLES)]
    Content(content::Command),
    /// Print what has a shell complete the commands and options of this program.
    #[command(after_help = completions::EXAMPLES)]
    Completions(completions::Args),
    /// Write the manual pages, one for each command.
    #[command(after_help = man::EXAMPLES)]
    Man(man::Args),
}

/// A command and all below it.
#[cfg(test)]
fn with_all_below(command: clap::Command) -> Vec<clap::Command> {
    let below: Vec<_> = command.get_subcommands().cloned().flat_map(with_all_below).collect();
    [command].into_iter().chain(below).collect()
}

#[cfg(test)]
mod guide;

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
