//! `relay schema`: what a configuration file may hold, for editors and scripts.
//!
//! What is printed is the file in `relay-bin/schema`, which a test holds against the reader of the
//! configuration.

use crate::console::say;

const GATEWAY: &str = include_str!("../schema/gateway.json");

/// Shown below the help.
pub(crate) const EXAMPLES: &str = "\
Examples:
  Write it beside the configuration:
    relay schema gateway > gateway.schema.json

An editor with Even Better TOML, or taplo, then completes and checks gateway.toml, if this is its
first line:
    #:schema ./gateway.schema.json
A file that fits may still be refused: `relay check` judges what it names, and what belongs
together.";

/// Arguments of `relay schema`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Whose configuration.
    #[arg(value_name = "ROLE")]
    role: Role,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Role {
    /// A gateway instance: gateway.toml.
    Gateway,
}

/// `relay schema`.
pub(crate) fn run(args: &Args) {
    match args.role {
        Role::Gateway => say(GATEWAY.trim_end()),
    }
}
