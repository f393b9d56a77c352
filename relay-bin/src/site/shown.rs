//! What `relay token` shows: as JSON, and as text for people.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use relay_core::auth::Guid;
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::store::SIGNED_COUNTS;
use super::{BulkToken, Client, Keys, KnownSigner, Registration, SigningCertificate, Token};

/// A token that was issued just now. The one text in which a token stands.
#[derive(Serialize)]
pub(super) struct Issued {
    guid: String,
    not_before: String,
    expires: String,
    /// `None` if it is in a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<PathBuf>,
}

/// All that were issued.
#[derive(Serialize)]
pub(super) struct Listed {
    tokens: Vec<ListedToken>,
}

#[derive(Serialize)]
struct ListedToken {
    guid: String,
    state: State,
    issued: String,
    not_before: String,
    expires: String,
    blocked_since: Option<String>,
}

/// What a token is good for now.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
enum State {
    Valid,
    NotYet,
    Expired,
    Blocked,
}

/// All clients that have registered.
#[derive(Serialize)]
pub(super) struct ListedClients {
    clients: Vec<ListedClient>,
}

#[derive(Serialize)]
struct ListedClient {
    guid: String,
    state: State,
    registered: String,
    /// `intranet` or `bulk-token`; `entra` of one that was blocked and has not registered.
    how: &'static str,
    bulk_token: Option<String>,
    renewed: String,
    expires: String,
    certificate_sha256: Option<String>,
    blocked_since: Option<String>,
}

/// What a block, or the end of one, has changed.
#[derive(Serialize)]
pub(super) struct Blocked {
    guid: String,
    #[serde(rename = "blocked")]
    holds: bool,
    changed: bool,
}

/// What signs after a rotation, and what counts.
#[derive(Serialize)]
pub(super) struct Rotated {
    signs: Option<Certificate>,
    accepted: Vec<Certificate>,
}

/// All that tokens are or were signed with.
#[derive(Serialize)]
pub(super) struct Signers {
    signers: Vec<ListedSigner>,
}

#[derive(Serialize)]
struct ListedSigner {
    sha256: String,
    state: SignerState,
    /// Until when it signs.
    signs_until: String,
    /// Until when what it has signed counts.
    counts_until: Option<String>,
    distrusted_since: Option<String>,
    /// Whether it is this connection point's own.
    own: bool,
}

/// What a signing certificate is good for now.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
enum SignerState {
    Signs,
    Replaced,
    Over,
    Distrusted,
}

/// That a signing certificate is distrusted.
#[derive(Serialize)]
pub(super) struct Distrusted {
    sha256: String,
    changed: bool,
}

#[derive(Serialize)]
struct Certificate {
    sha1: String,
    sha256: String,
    not_before: String,
    expires: String,
}

impl Issued {
    pub(super) fn new(issued: &BulkToken, token: &Token) -> Self {
        Self { token: Some(token.expose().to_owned()), ..Self::without(issued) }
    }

    /// As [`Issued::new`], of a token that is shown nowhere but in `file`.
    pub(super) fn in_file(issued: &BulkToken, file: &Path) -> Self {
        Self { file: Some(file.to_owned()), ..Self::without(issued) }
    }

    fn without(issued: &BulkToken) -> Self {
        Self {
            guid: issued.id.to_string(),
            not_before: date(issued.not_before),
            expires: date(issued.expires),
            token: None,
            file: None,
        }
    }

    pub(super) fn text(&self) -> String {
        let file = self.file.as_ref().map(|it| format!("\nfile         {}", it.display()));
        let token = self.token.as_ref().map(|it| format!("\ntoken        {it}"));
        format!(
            "GUID         {}\nvalid from   {}\nvalid until  {}{}",
            self.guid,
            self.not_before,
            self.expires,
            token.or(file).unwrap_or_default()
        )
    }
}

impl Listed {
    pub(super) fn new(tokens: Vec<BulkToken>, now: u64) -> Self {
        let listed = |token: BulkToken| ListedToken {
            guid: token.id.to_string(),
            state: state(&token, now),
            issued: date(token.issued),
            not_before: date(token.not_before),
            expires: date(token.expires),
            blocked_since: token.blocked_since.map(date),
        };
        Self { tokens: tokens.into_iter().map(listed).collect() }
    }

    pub(super) fn text(&self) -> String {
        if self.tokens.is_empty() {
            return "no token was issued; `relay token new` issues one".to_owned();
        }
        let row = |guid: &str, from: &str, until: &str, state: &str| {
            format!("{guid:<36}  {from:<20}  {until:<20}  {state}\n")
        };
        let mut text = row("GUID", "VALID FROM", "VALID UNTIL", "STATE");
        for token in &self.tokens {
            let state = match (token.state, &token.blocked_since) {
                (State::Blocked, Some(since)) => format!("blocked since {since}"),
                (state, _) => state.text().to_owned(),
            };
            text += &row(&token.guid, &token.not_before, &token.expires, &state);
        }
        text
    }
}

impl ListedClients {
    pub(super) fn new(clients: Vec<Client>, now: u64) -> Self {
        let listed = |client: Client| {
            let (how, bulk_token) = match client.registration {
                Registration::Intranet => ("intranet", None),
                Registration::BulkToken(id) => ("bulk-token", Some(id.to_string())),
                Registration::Entra => ("entra", None),
            };
            let has_certificate = client.registration != Registration::Entra;
            ListedClient {
                guid: client.id.to_string(),
                state: client_state(&client, now),
                registered: date(client.registered),
                how,
                bulk_token,
                renewed: date(client.renewed),
                expires: date(client.token_expires),
                certificate_sha256: has_certificate.then(|| hex(&client.certificate)),
                blocked_since: client.blocked_since.map(date),
            }
        };
        Self { clients: clients.into_iter().map(listed).collect() }
    }

    pub(super) fn text(&self) -> String {
        if self.clients.is_empty() {
            return "no client has registered".to_owned();
        }
        let row = |cells: [&str; 6]| {
            let [guid, how, registered, renewed, until, state] = cells;
            format!(
                "{guid:<36}  {how:<10}  {registered:<20}  {renewed:<20}  {until:<20}  {state}\n"
            )
        };
        let mut text = row(["GUID", "BY", "REGISTERED", "RENEWED", "VALID UNTIL", "STATE"]);
        for client in &self.clients {
            let blocked =
                client.blocked_since.as_ref().map(|since| format!("blocked since {since}"));
            let state = blocked.unwrap_or_else(|| client.state.text().to_owned());
            let dates = [&client.registered, &client.renewed, &client.expires];
            let [registered, renewed, until] = dates.map(String::as_str);
            text += &row([&client.guid, client.how, registered, renewed, until, &state]);
        }
        text
    }
}

impl State {
    fn text(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::NotYet => "not valid yet",
            Self::Expired => "expired",
            Self::Blocked => "blocked",
        }
    }
}

impl Blocked {
    pub(super) fn new(id: Guid, holds: bool, changed: bool) -> Self {
        Self { guid: id.to_string(), holds, changed }
    }

    pub(super) fn text(&self) -> String {
        let guid = &self.guid;
        match (self.holds, self.changed) {
            (true, true) => format!("blocked {guid}"),
            (true, false) => format!("{guid} was blocked already"),
            (false, true) => format!("unblocked {guid}"),
            (false, false) => format!("{guid} was not blocked"),
        }
    }
}

impl Rotated {
    pub(super) fn new(keys: &Keys, now: u64) -> Self {
        Self {
            signs: keys.current().map(Certificate::new),
            accepted: keys.accepted(now).map(Certificate::new).collect(),
        }
    }

    pub(super) fn text(&self) -> String {
        let signs = self.signs.iter().map(|one| {
            format!("signs from now on, until {}:\n  {}  {}\n", one.expires, one.sha256, one.sha1)
        });
        let accepted = self.accepted.iter().map(|one| format!("\n  {}  {}", one.sha256, one.sha1));
        let accepted: String = accepted.collect();
        signs.collect::<String>() + "accepted, by SHA-256 and SHA-1 of the certificate:" + &accepted
    }
}

impl Signers {
    pub(super) fn new(signers: &[KnownSigner], keys: &Keys, now: u64) -> Self {
        let own: Vec<_> = keys.known(now).map(|it| it.thumbprint).collect();
        let listed = |signer: &KnownSigner| {
            let counts_until = date(signer.signs_until.saturating_add(SIGNED_COUNTS));
            ListedSigner {
                sha256: hex(&signer.thumbprint),
                state: signer_state(signer, now),
                signs_until: date(signer.signs_until),
                counts_until: signer.distrusted_since.is_none().then_some(counts_until),
                distrusted_since: signer.distrusted_since.map(date),
                own: own.contains(&signer.thumbprint),
            }
        };
        Self { signers: signers.iter().map(listed).collect() }
    }

    pub(super) fn text(&self) -> String {
        if self.signers.is_empty() {
            return "nothing was signed; `relay token new` makes a signing key".to_owned();
        }
        let row = |sha256: &str, until: &str, own: &str, state: &str| {
            format!("{sha256:<64}  {until:<20}  {own:<3}  {state}\n")
        };
        let mut text = row("SHA-256 OF THE CERTIFICATE", "COUNTS UNTIL", "OWN", "STATE");
        for signer in &self.signers {
            let state = match (signer.state, &signer.distrusted_since) {
                (SignerState::Signs, _) => "signs".to_owned(),
                (SignerState::Replaced, _) => "signs no more".to_owned(),
                (SignerState::Over, _) => "over".to_owned(),
                (SignerState::Distrusted, since) => {
                    format!("distrusted since {}", since.as_deref().unwrap_or_default())
                }
            };
            let until = signer.counts_until.as_deref().unwrap_or("-");
            text += &row(&signer.sha256, until, if signer.own { "yes" } else { "no" }, &state);
        }
        text
    }
}

impl Distrusted {
    pub(super) fn new(thumbprint: &[u8; 32], changed: bool) -> Self {
        Self { sha256: hex(thumbprint), changed }
    }

    pub(super) fn text(&self) -> String {
        let sha256 = &self.sha256;
        if self.changed {
            format!("distrusted {sha256}: nothing counts that it has signed")
        } else {
            format!("{sha256} was distrusted already")
        }
    }
}

impl Certificate {
    fn new(certificate: &SigningCertificate) -> Self {
        Self {
            sha1: hex(&certificate.key.sha1),
            sha256: hex(&certificate.key.sha256),
            not_before: date(certificate.not_before),
            expires: date(certificate.not_after),
        }
    }
}

fn state(token: &BulkToken, now: u64) -> State {
    match token.blocked_since {
        Some(_) => State::Blocked,
        None if token.expires <= now => State::Expired,
        None if now < token.not_before => State::NotYet,
        None => State::Valid,
    }
}

fn client_state(client: &Client, now: u64) -> State {
    match client.blocked_since {
        Some(_) => State::Blocked,
        None if client.token_expires <= now => State::Expired,
        None if now < client.renewed => State::NotYet,
        None => State::Valid,
    }
}

fn signer_state(signer: &KnownSigner, now: u64) -> SignerState {
    match signer.distrusted_since {
        Some(_) => SignerState::Distrusted,
        None if signer.signs_until.saturating_add(SIGNED_COUNTS) < now => SignerState::Over,
        None if signer.signs_until < now => SignerState::Replaced,
        None => SignerState::Signs,
    }
}

/// A time as RFC 3339 has it; as seconds where that has no year for it.
fn date(time: u64) -> String {
    let date = i64::try_from(time).ok();
    let date = date.and_then(|time| OffsetDateTime::from_unix_timestamp(time).ok());
    date.and_then(|date| date.format(&Rfc3339).ok()).unwrap_or_else(|| time.to_string())
}

pub(super) fn hex(octets: &[u8]) -> String {
    octets.iter().fold(String::new(), |mut text, octet| {
        write!(text, "{octet:02x}").expect("writing to a String does not fail");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_valid_from_its_first_second_to_before_its_last_and_never_while_blocked() {
        let token =
            BulkToken { id: Guid(1), issued: 5, not_before: 10, expires: 20, blocked_since: None };
        for (now, expected) in
            [(9, State::NotYet), (10, State::Valid), (19, State::Valid), (20, State::Expired)]
        {
            assert_eq!(state(&token, now), expected, "{now}");
            let blocked = BulkToken { blocked_since: Some(1), ..token };
            assert_eq!(state(&blocked, now), State::Blocked);
        }
    }

    #[test]
    fn a_client_is_listed_with_how_it_came_and_what_its_token_is_good_for() {
        let client = Client {
            id: Guid(1),
            certificate: [0xab; 32],
            registered: 1_800_000_000,
            renewed: 1_800_000_000,
            token_expires: 1_800_000_060,
            registration: Registration::BulkToken(Guid(2)),
            blocked_since: None,
        };
        for (now, blocked_since, state) in [
            (1_799_999_999, None, "not valid yet"),
            (1_800_000_000, None, "valid"),
            (1_800_000_060, None, "expired"),
            (1_800_000_060, Some(1_800_000_000), "blocked since 2027-01-15T08:00:00Z"),
        ] {
            let text = ListedClients::new(vec![Client { blocked_since, ..client }], now).text();
            let line = text.lines().nth(1).unwrap();
            let start = "00000000-0000-0000-0000-000000000001  bulk-token  2027-01-15T08:00:00Z";
            assert!(line.starts_with(start) && line.ends_with(state), "{line}");
        }
        let intranet = Client { registration: Registration::Intranet, ..client };
        let listed = serde_json::to_value(ListedClients::new(vec![intranet], 0)).unwrap();
        let listed = &listed["clients"][0];
        assert_eq!(
            (&listed["how"], &listed["bulk_token"]),
            (&"intranet".into(), &None::<u8>.into())
        );
        assert_eq!(listed["certificate_sha256"], "ab".repeat(32));
        let entra = Client { registration: Registration::Entra, ..client };
        let listed = serde_json::to_value(ListedClients::new(vec![entra], 0)).unwrap();
        let listed = &listed["clients"][0];
        assert_eq!(listed["how"], "entra");
        assert!(listed["certificate_sha256"].is_null() && listed["bulk_token"].is_null());
        assert_eq!(ListedClients::new(Vec::new(), 0).text(), "no client has registered");
    }

    #[test]
    fn times_are_shown_as_dates_while_there_are_years_for_them() {
        assert_eq!(date(1_800_000_000), "2027-01-15T08:00:00Z");
        assert_eq!(date(u64::MAX), u64::MAX.to_string());
    }
}
