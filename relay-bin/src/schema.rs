//! `relay schema`: what a configuration file may hold, for editors and scripts.
//!
//! What is printed is the file in `relay-bin/schema`, which a test holds against the reader of the
//! configuration. `relay init` writes the same beside each file that it writes.

use crate::console::say;

/// Of `gateway.toml`.
pub(crate) const GATEWAY: &str = include_str!("../schema/gateway.json");

/// Of `connection-point.toml`.
pub(crate) const CONNECTION_POINT: &str = include_str!("../schema/connection-point.json");

/// Shown below the help.
pub(crate) const EXAMPLES: &str = "\
Examples:
  Write it beside the configuration:
    relay schema gateway > gateway.schema.json
    relay schema connection-point > connection-point.schema.json

An editor with Even Better TOML, or taplo, then completes and checks the configuration, if the first
line of that is, for a gateway:
    #:schema ./gateway.schema.json
`relay init` writes both. After an update of this program, write the schema anew.
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
    /// A connection point: connection-point.toml.
    ConnectionPoint,
}

/// `relay schema`.
pub(crate) fn run(args: &Args) {
    let schema = match args.role {
        Role::Gateway => GATEWAY,
        Role::ConnectionPoint => CONNECTION_POINT,
    };
    say(schema.trim_end());
}
