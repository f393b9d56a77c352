//! `relay token`: issue, list, block and unblock registration tokens, and change what signs them.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use relay_core::auth::Guid;
use relay_core::config::{SiteTokens, site_tokens};
use serde::Serialize;

use super::shown::{Blocked, Issued, Listed, ListedClients, Rotated};
use super::{BulkToken, Change, Holder, Keys, SqliteStore, Store, Token, Wanted};
use super::{files, new_guid};
use crate::console::{complain, say};
use crate::exit::Failure;

/// The store in the folder of a site.
const STORE: &str = "site.db";

/// Shown below the help of `relay token`.
pub(crate) const EXAMPLES: &str = "\
Examples:
  A token with which clients can register for the next 3 days:
    relay token new --config site/connection-point/connection-point.toml
  One for 8 hours; its text alone:
    relay token new --lifetime 480 --json --config connection-point.toml | jq -r .token
  Which there are, and an end to one of them:
    relay token list --config connection-point.toml
    relay token block 5d2f7a90-0c4e-4b7e-9a53-2f1c66a0b1d4 --config connection-point.toml
  Which clients have registered; the GUID of one ends all its tokens:
    relay token clients --config connection-point.toml
  Sign with another key from now on; what was signed before counts to its end:
    relay token rotate --config connection-point.toml

[tokens] in that file says where keys and the list are kept. Tokens themselves are kept nowhere.";

const NEW_EXAMPLES: &str = "\
Examples:
  For 3 days, which is the default:
    relay token new --config connection-point.toml
  For 7 days, the longest there is:
    relay token new --lifetime 10080 --config connection-point.toml

Whoever has the token can register until it ends or is blocked by its GUID, and do nothing else with
it. It is shown now and never again. The first one makes the folder and a signing key.";

const LIST_EXAMPLES: &str = "\
Examples:
  All tokens that were issued, the last one first:
    relay token list --config connection-point.toml
  Those that are blocked:
    relay token list --json --config connection-point.toml \\
        | jq '.tokens[] | select(.state == \"blocked\")'";

const CLIENTS_EXAMPLES: &str = "\
Examples:
  All clients that have registered, the last one first:
    relay token clients --config connection-point.toml
  Those whose token ends within a week, which have not renewed it for long:
    relay token clients --json --config connection-point.toml \\
        | jq '.clients[] | select(.state == \"valid\") | select(.expires < (now + 604800 | todate))'

The GUID is what `relay token block` takes. Clients that show a token of Entra ID are not listed:
nothing is kept of them here.";

const BLOCK_EXAMPLES: &str = "\
Examples:
  End a token that has got into wrong hands:
    relay token block 5d2f7a90-0c4e-4b7e-9a53-2f1c66a0b1d4 --config connection-point.toml

The GUID of a registered client ends all tokens of that client. Whoever has registered by a token
before it was blocked is blocked by its own GUID alone.";

const UNBLOCK_EXAMPLES: &str = "\
Examples:
  Take a block back; a token that is over stays over:
    relay token unblock 5d2f7a90-0c4e-4b7e-9a53-2f1c66a0b1d4 --config connection-point.toml";

const ROTATE_EXAMPLES: &str = "\
Examples:
  Make another signing key; each command warns 60 days before the certificate of the last one ends:
    relay token rotate --config connection-point.toml

What was signed before counts to its end: the certificate of the key before is kept for 91 days. Its
key is taken away.";

/// What can be done with tokens.
#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Issue a token that clients can register with, and print it.
    #[command(after_help = NEW_EXAMPLES)]
    New(NewArgs),
    /// List the tokens that were issued.
    #[command(after_help = LIST_EXAMPLES)]
    List(Site),
    /// List the clients that have registered.
    #[command(after_help = CLIENTS_EXAMPLES)]
    Clients(Site),
    /// Block a token, or a registered client.
    #[command(after_help = BLOCK_EXAMPLES)]
    Block(BlockArgs),
    /// Take a block back.
    #[command(after_help = UNBLOCK_EXAMPLES)]
    Unblock(BlockArgs),
    /// Sign with a new key from now on.
    #[command(after_help = ROTATE_EXAMPLES)]
    Rotate(Site),
}

/// Which site, and how to show it.
#[derive(clap::Args)]
pub(crate) struct Site {
    /// The configuration file of the site's connection point.
    #[arg(long, short, value_name = "FILE")]
    config: PathBuf,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Arguments of `relay token new`.
#[derive(clap::Args)]
pub(crate) struct NewArgs {
    /// For how many minutes it is valid, 1 to 10080.
    #[arg(long, value_name = "MINUTES", default_value_t = 4320, allow_negative_numbers = true,
          value_parser = clap::value_parser!(u64).range(1..=10_080))]
    lifetime: u64,
    #[command(flatten)]
    site: Site,
}

/// Arguments of `relay token block` and `relay token unblock`.
#[derive(clap::Args)]
pub(crate) struct BlockArgs {
    /// GUID of the token, as `relay token list` shows it, or of a client.
    #[arg(value_name = "GUID")]
    id: Guid,
    #[command(flatten)]
    site: Site,
}

/// `relay token`.
pub(crate) fn run(command: &Command) -> Result<(), Failure> {
    let site = match command {
        Command::New(args) => &args.site,
        Command::Block(args) | Command::Unblock(args) => &args.site,
        Command::List(site) | Command::Clients(site) | Command::Rotate(site) => site,
    };
    let tokens = site_tokens(&site.config)?;
    let now = now().map_err(Failure::Runtime)?;
    follow(command, &tokens, site.json, now).map_err(Failure::Runtime)?;
    // Keys that cannot be read are told of where they are needed.
    let warning = Keys::open(&tokens.folder).ok().and_then(|keys| keys.warning(now));
    if let Some(warning) = warning {
        complain(&format!("warning: {warning}"));
    }
    Ok(())
}

fn follow(command: &Command, tokens: &SiteTokens, json: bool, now: u64) -> anyhow::Result<()> {
    match command {
        Command::New(args) => show(json, &issue(tokens, args.lifetime, now)?, Issued::text),
        Command::List(_) => {
            let listed = Listed::new(open(tokens)?.bulk_tokens()?, now);
            show(json, &listed, Listed::text)
        }
        Command::Clients(_) => {
            let listed = ListedClients::new(open(tokens)?.clients()?, now);
            show(json, &listed, ListedClients::text)
        }
        Command::Block(BlockArgs { id, .. }) => {
            let change = open(tokens)?.block(*id, now)?;
            show(json, &Blocked::new(*id, true, change == Change::Made), Blocked::text)
        }
        Command::Unblock(BlockArgs { id, .. }) => {
            let change = open(tokens)?.unblock(*id, now)?;
            show(json, &Blocked::new(*id, false, change == Change::Made), Blocked::text)
        }
        Command::Rotate(_) => {
            let (mut keys, _store) = prepare(tokens)?;
            keys.rotate(now)?;
            show(json, &Rotated::new(&keys, now), Rotated::text)
        }
    }
}

/// Signs a token, and remembers it before anybody sees it.
fn issue(tokens: &SiteTokens, minutes: u64, now: u64) -> anyhow::Result<Issued> {
    let (mut keys, mut store) = prepare(tokens)?;
    if keys.is_empty() {
        keys.rotate(now)?;
    }
    let id = new_guid()?;
    let holder = Holder::Anybody(id);
    let wanted = Wanted { tenant: tokens.tenant, holder, not_before: now, lifetime: minutes * 60 };
    let token = Token::sign(&keys.signer(now)?, &wanted)?;
    let expires = wanted.expires();
    let issued = BulkToken { id, issued: now, not_before: now, expires, blocked_since: None };
    store.add_bulk_token(&issued)?;
    Ok(Issued::new(&issued, &token))
}

/// Keys and store of a site. Where there are keys a store was, with its blocks: it is not made
/// anew. A site without either is given a folder and an empty store.
pub(super) fn prepare(tokens: &SiteTokens) -> anyhow::Result<(Keys, SqliteStore)> {
    let keys = Keys::open(&tokens.folder)?;
    if !keys.is_empty() {
        return Ok((keys, open(tokens)?));
    }
    files::make_folder(&tokens.folder)
        .with_context(|| format!("cannot make the folder {}", tokens.folder.display()))?;
    Ok((keys, SqliteStore::create(&store(&tokens.folder))?))
}

pub(super) fn open(tokens: &SiteTokens) -> anyhow::Result<SqliteStore> {
    Ok(SqliteStore::open(&store(&tokens.folder))?)
}

/// Where the store is.
pub(super) fn store(folder: &Path) -> PathBuf {
    folder.join(STORE)
}

pub(super) fn now() -> anyhow::Result<u64> {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = since_1970.context("the clock of this machine is set before 1970; set it")?;
    // A machine without a clock begins in 1970, and no token of then would count.
    ensure!(now.as_secs() > 1_700_000_000, "the clock of this machine is not set; set it");
    Ok(now.as_secs())
}

fn show<T: Serialize>(
    json: bool,
    shown: &T,
    text: impl FnOnce(&T) -> String,
) -> anyhow::Result<()> {
    if json {
        say(&serde_json::to_string_pretty(shown).context("cannot write JSON")?);
    } else {
        say(text(shown).trim_end());
    }
    Ok(())
}
