//! `relay token`: issue, list, block and unblock registration tokens, and change what signs them.

use std::fs;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use relay_core::auth::Guid;
use relay_core::config::{SiteTokens, site_tokens};
use serde::Serialize;

use super::opening::{self, open, open_to_read, prepare};
use super::shown::{Blocked, Distrusted, Issued, Listed, ListedClients, Rotated, Signers};
use super::{BulkToken, Change, Holder, Keys, Store, Token, Wanted, files, new_guid};
use crate::console::{complain, say};
use crate::exit::Failure;

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
  What signs at any connection point of the site, and an end to one of them:
    relay token signers --config connection-point.toml
    relay token distrust 9F:86:D0:81:... --config connection-point.toml

[tokens] in that file says where keys and the list are kept. Tokens themselves are kept nowhere.";

const NEW_EXAMPLES: &str = "\
Examples:
  For 3 days, which is the default:
    relay token new --config connection-point.toml
  For 7 days, the longest there is:
    relay token new --lifetime 10080 --config connection-point.toml
  Into a file, as `relay client register` takes it:
    relay token new --out bulk.token --config connection-point.toml

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

The GUID is what `relay token block` takes. Clients that show a token of Entra ID are not listed
unless they were blocked: nothing is kept of them here.";

const BLOCK_EXAMPLES: &str = "\
Examples:
  End a token that has got into wrong hands:
    relay token block 5d2f7a90-0c4e-4b7e-9a53-2f1c66a0b1d4 --config connection-point.toml

The GUID of a registered client ends all tokens of that client. Whoever has registered by a token
before it was blocked is blocked by its own GUID alone. That of a client of Entra ID, which has not
registered, is in the access log (`who`), its third group begins with 8; a block ends what it was
given for its tokens, and it is given nothing more.";

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

const SIGNERS_EXAMPLES: &str = "\
Examples:
  What tokens of the site are signed with, at all of its connection points:
    relay token signers --config connection-point.toml
  The thumbprints of those whose tokens count:
    relay token signers --json --config connection-point.toml \\
        | jq -r '.signers[] | select(.state == \"signs\" or .state == \"replaced\") | .sha256'";

const DISTRUST_EXAMPLES: &str = "\
Examples:
  A signing key has got into wrong hands: sign with another, then have nothing count of it:
    relay token rotate --config connection-point.toml
    relay token distrust 9f86d081884c7d65...0f00a08 --config connection-point.toml

All tokens that it has signed are refused from then on, bulk tokens and those of clients alike:
clients have to register anew. That is for good.";

/// Who registers at once would be told that the token proves nothing.
const FIRST_KEY: &str = "note: the site's first signing key was made. A connection point that runs \
publishes it within 5 seconds, and its tokens count from then on.";

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
    /// List the certificates that tokens are or were signed with.
    #[command(after_help = SIGNERS_EXAMPLES)]
    Signers(Site),
    /// Have no token count that was signed with a certificate.
    #[command(after_help = DISTRUST_EXAMPLES)]
    Distrust(DistrustArgs),
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
    /// Write the token to this new file, for its owner's eyes alone, and do not print it.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
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

/// Arguments of `relay token distrust`.
#[derive(clap::Args)]
pub(crate) struct DistrustArgs {
    /// SHA-256 thumbprint of the certificate, as `relay token signers` shows it.
    #[arg(value_name = "THUMBPRINT", value_parser = thumbprint)]
    thumbprint: Thumbprint,
    #[command(flatten)]
    site: Site,
}

/// The SHA-256 thumbprint of a certificate.
type Thumbprint = [u8; 32];

/// Reads 64 hexadecimal digits, with or without colons between octets.
fn thumbprint(text: &str) -> Result<Thumbprint, &'static str> {
    const WANTED: &str = "a thumbprint has 64 hexadecimal digits";
    let mut digits = text.chars().filter(|it| *it != ':').map(|it| it.to_digit(16).ok_or(WANTED));
    let mut thumbprint = [0; 32];
    for octet in &mut thumbprint {
        for _ in 0..2 {
            let digit = digits.next().ok_or(WANTED)??;
            *octet = *octet << 4 | u8::try_from(digit).map_err(|_| WANTED)?;
        }
    }
    digits.next().map_or(Ok(thumbprint), |_| Err(WANTED))
}

/// `relay token`.
pub(crate) fn run(command: &Command) -> Result<(), Failure> {
    let site = match command {
        Command::New(args) => &args.site,
        Command::Block(args) | Command::Unblock(args) => &args.site,
        Command::Distrust(args) => &args.site,
        Command::List(site)
        | Command::Clients(site)
        | Command::Rotate(site)
        | Command::Signers(site) => site,
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
        Command::New(args) => {
            let is_first = Keys::open(&tokens.folder).is_ok_and(|keys| keys.is_empty());
            show(json, &new_token(tokens, args, now)?, Issued::text)?;
            if is_first {
                complain(FIRST_KEY);
            }
            Ok(())
        }
        Command::List(_) => {
            let listed = Listed::new(open_to_read(tokens)?.bulk_tokens()?, now);
            show(json, &listed, Listed::text)
        }
        Command::Clients(_) => {
            let listed = ListedClients::new(open_to_read(tokens)?.clients()?, now);
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
            let (mut keys, mut store) = prepare(tokens, now)?;
            let left = opening::rotate(&mut keys, store.as_mut(), now)?;
            for it in &left {
                complain(&format!("warning: {it}"));
            }
            show(json, &Rotated::new(&keys, now), Rotated::text)
        }
        Command::Signers(_) => {
            // What is in this folder is known from now on, if it was not yet.
            let keys = Keys::open(&tokens.folder)?;
            let mut store = open(tokens)?;
            opening::remember(&keys, store.as_mut(), now)?;
            show(json, &Signers::new(&store.signers()?, &keys, now), Signers::text)
        }
        Command::Distrust(DistrustArgs { thumbprint, .. }) => {
            let mut store = open(tokens)?;
            // A folder that cannot be read keeps nobody from that.
            if let Ok(keys) = Keys::open(&tokens.folder) {
                opening::remember(&keys, store.as_mut(), now)?;
            }
            let change = store.distrust(*thumbprint, now)?;
            show(json, &Distrusted::new(thumbprint, change == Change::Made), Distrusted::text)
        }
    }
}

/// Makes a bulk token as an administrator does; it is remembered before anybody sees it.
///
/// # Errors
///
/// What cannot be used, and what to do.
pub(crate) fn issue(tokens: &SiteTokens, minutes: u64) -> anyhow::Result<Token> {
    let (mut store, issued, token) = signed(tokens, minutes, now()?)?;
    store.add_bulk_token(&issued)?;
    Ok(token)
}

/// Blocks a bulk token or client as an administrator does.
///
/// # Errors
///
/// What cannot be used, and what to do.
pub(crate) fn block(tokens: &SiteTokens, id: Guid) -> anyhow::Result<()> {
    open(tokens)?.block(id, now()?)?;
    Ok(())
}

/// Signs a token, has it remembered, and then only gives it a file, if it is to have one.
fn new_token(tokens: &SiteTokens, args: &NewArgs, now: u64) -> anyhow::Result<Issued> {
    if let Some(file) = &args.out {
        let is_free = fs::symlink_metadata(file).is_err();
        ensure!(is_free, "{} is there already; nothing was issued", file.display());
    }
    let (mut store, issued, token) = signed(tokens, args.lifetime, now)?;
    let Some(file) = &args.out else {
        store.add_bulk_token(&issued)?;
        return Ok(Issued::new(&issued, &token));
    };
    let staged = files::stage_text(file, &format!("{}\n", token.expose()));
    let cannot = || format!("cannot write {}; nothing was issued", file.display());
    let staged = staged.with_context(cannot)?;
    store.add_bulk_token(&issued)?;
    let put = files::put_new(staged, file);
    put.with_context(|| {
        format!("cannot write {}: nobody has token {} now", file.display(), issued.id)
    })?;
    Ok(Issued::in_file(&issued, file))
}

/// A store, and a token of its site that it does not know yet.
fn signed(
    tokens: &SiteTokens,
    minutes: u64,
    now: u64,
) -> anyhow::Result<(Box<dyn Store>, BulkToken, Token)> {
    let (mut keys, mut store) = prepare(tokens, now)?;
    if keys.is_empty() {
        opening::rotate(&mut keys, store.as_mut(), now)?;
    }
    let signer = opening::signer(&keys, store.as_mut(), now)?;
    let id = new_guid()?;
    let holder = Holder::Anybody(id);
    let wanted = Wanted { tenant: tokens.tenant, holder, not_before: now, lifetime: minutes * 60 };
    let token = Token::sign(&signer, &wanted)?;
    let expires = wanted.expires();
    let issued = BulkToken { id, issued: now, not_before: now, expires, blocked_since: None };
    Ok((store, issued, token))
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
