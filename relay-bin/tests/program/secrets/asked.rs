//! The same at a site whose clients have to show who they are: by each kind of credential, good
//! and bad, over the gateway and on the site's own network, while an administrator looks on.
//!
//! Besides what is said, all files are looked through: a secret is in those that are for it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::Response;
use tempfile::TempDir;

use super::{CONFIG, Heard, MARK, SHORT, SHOWN, lines_of_keys, secret};
use crate::doctor::members;
use crate::support::origin::{Asked, Origin, Said};
use crate::support::role::Role;
use crate::support::site::{HTTPS_ROLE, SERVICE, Site};
use crate::support::tenant::Tenant;

/// Fields of requests whose values nobody else may learn.
const FIELDS: [&str; 3] = ["authorization", "ccmclientidsignature", "ccmclienttimestampssignature"];

/// Parts of secrets, as they stand in texts and in files.
#[derive(Default)]
struct Secrets(BTreeSet<Vec<u8>>);

impl Secrets {
    /// The beginning, the middle and the end of a text, so that half of it is found as well.
    fn add(&mut self, text: &[u8]) {
        assert!(SHORT <= text.len(), "too short to stand nowhere by chance");
        for from in [0, (text.len() - SHORT) / 2, text.len() - SHORT] {
            self.0.insert(text[from..from + SHORT].to_vec());
        }
    }

    /// Claims and signature; the header is the same in all tokens.
    fn add_token(&mut self, token: &str) {
        let [claims, signature] = [1, 2].map(|at| token.trim().split('.').nth(at).unwrap());
        self.add(claims.as_bytes());
        self.add(signature.as_bytes());
        self.add(&URL_SAFE_NO_PAD.decode(signature).unwrap());
    }

    /// The lines of all keys below a folder, and the last octets of those that are RSA, which are
    /// a part of the private half. Returns how many keys there are.
    fn add_keys(&mut self, folder: &Path) -> usize {
        let mut lines = BTreeSet::new();
        let count = lines_of_keys(folder, &mut lines);
        self.0.extend(lines.into_iter().map(String::into_bytes));
        for path in files(folder) {
            let Some(key) = pem_key(&path) else { continue };
            if key.len() > 600 {
                self.0.insert(key[key.len() - SHORT..].to_vec());
            }
        }
        count
    }

    /// The first one of them that is in there.
    fn within(&self, octets: &[u8]) -> Option<String> {
        let whole = str::from_utf8(octets);
        let is_in = |part: &&Vec<u8>| match (whole, str::from_utf8(part)) {
            (Ok(whole), Ok(part)) => whole.contains(part),
            // Octets that are no text are in no text.
            (Ok(_), Err(_)) => false,
            (Err(_), _) => octets.windows(part.len()).any(|window| window == part.as_slice()),
        };
        self.0.iter().find(is_in).map(|it| String::from_utf8_lossy(it).into_owned())
    }
}

/// All files below a folder.
fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|it| it.unwrap().path());
    entries.flat_map(|it| if it.is_dir() { files(&it) } else { vec![it] }).collect()
}

/// The private key in a file, if there is one, in DER.
fn pem_key(path: &Path) -> Option<Vec<u8>> {
    let text = fs::read_to_string(path).ok()?;
    let (_, rest) = text.split_once("PRIVATE KEY-----\n")?;
    let (key, _) = rest.split_once("-----END")?;
    STANDARD.decode(key.replace('\n', "")).ok()
}

/// Whether a file is there to hold a secret. Of a signing key that signs no more, nothing is left
/// but the certificate.
fn is_for_secrets(path: &Path) -> bool {
    let name = path.file_name().unwrap().to_str().unwrap();
    let is_for_a_key = name.ends_with("-key.pem") || name.starts_with("signing-");
    let is_for_another =
        path.extension().is_some_and(|it| it == "token") || name == "store-password";
    is_for_another || is_for_a_key && pem_key(path).is_some()
}

/// Both roles at level trace, and whatever was heard of them.
struct Place {
    home: TempDir,
    site: Site,
    origin: Origin,
    heard: Heard,
    secrets: Secrets,
    roles: Option<[Role; 2]>,
    /// Where clients are served.
    port: u16,
}

/// A site role that answers well, or refuses and repeats what it was shown.
fn answer(asked: &Asked) -> Response<Said> {
    let shown = asked.header("authorization").to_owned();
    let status = if asked.line.contains("/repeats") { 403 } else { 200 };
    let said = if status == 403 { shown } else { "from the site".to_owned() };
    Response::builder().status(status).body(Said::whole(said)).unwrap()
}

impl Place {
    /// With these lines more in `[tokens]`.
    fn new(home: TempDir, store: &str) -> Self {
        let origin = Origin::start(answer);
        let site = Site::init_with(home.path(), &["--backend", &format!("http://{}", origin.at)]);
        let (tenant, stranger) = (Tenant::new(), Tenant::new());
        let table = tenant.onboarded(&home.path().join("keys.json"));
        site.edit("connection-point/connection-point.toml", |text| {
            let text = text.replace("unsafe_allow_anonymous = true\n", "");
            let text =
                text.replace("folder = \"tokens\"\n", &format!("folder = \"tokens\"\n{store}"));
            text + "\n[clients]\nroots = \"site-ca.pem\"\nrevocation = \"off\"\n" + &table
        });
        site.have_clients_register_here();
        let (heard, secrets) = (Heard(Vec::new()), Secrets::default());
        let mut place = Self { home, site, origin, heard, secrets, roles: None, port: 0 };
        place.keep("entra.token", &tenant.token());
        place.keep("bad.token", &stranger.token());
        let device = ["--connection-point", "device", "--out", "device"];
        place.relay(&[&["pki", "issue", "--ca", "site/site-ca"], &device[..]].concat(), 0);
        place
    }

    /// Writes a token into a file of its own.
    fn keep(&mut self, name: &str, token: &str) {
        secret(self.home.path(), name, token);
        self.secrets.add_token(token);
    }

    /// Runs the program, and hears what it says and what it is run with.
    fn relay(&mut self, args: &[&str], status: i32) {
        self.heard.relay(self.home.path(), args, status);
        self.heard.0.push(args.join(" "));
    }

    /// Makes a bulk token. Whoever asks for one is shown it, once.
    fn issue(&mut self, name: &str) -> String {
        let done = self.heard.relay(self.home.path(), &["token", "new", "--config", CONFIG], 0);
        let said = self.heard.0.split_off(self.heard.0.len() - 2);
        let said: Vec<_> = said[0].lines().filter_map(|line| line.split_once(' ')).collect();
        let field = |name| said.iter().find(|it| it.0 == name).unwrap().1.trim();
        self.keep(name, field("token"));
        assert!(self.secrets.within(&done.stdout).is_some(), "what is said is looked through");
        field("GUID").to_owned()
    }

    fn start(&mut self) {
        let mut roles = self.site.start_traced();
        roles[0].wait_for_log("settings applied", 1);
        self.port = roles[0].addresses()[0].port();
        self.roles = Some(roles);
    }

    fn gateway(&mut self) -> &mut Role {
        &mut self.roles.as_mut().unwrap()[0]
    }

    fn url(&self, role: u64, path: &str) -> String {
        format!("https://{SERVICE}:{}/CCM_Proxy_ServerAuth/{role}{path}", self.port)
    }

    /// `relay client` over the gateway.
    fn client(&mut self, args: &[&str], status: i32) {
        let (ca, resolve) = (self.site.ca(), format!("{SERVICE}:127.0.0.1"));
        let way = ["--ca", ca.to_str().unwrap(), "--resolve", &resolve];
        self.relay(&[&["client"], args, &way].concat(), status);
    }

    /// Has clients register, renew and exchange.
    fn come_to_the_token_service(&mut self) {
        let service = self.url(HTTPS_ROLE + 1, "");
        let bulk = ["--folder", "me", "--token-file", "bulk.token"];
        for (args, status) in [
            (&["register", &service, "--folder", "me", "--token-file", "bad.token"][..], 1),
            (&["register", &service, "--folder", "me", "--token-file", "entra.token"], 1),
            (&[&["register", &service], &bulk[..]].concat(), 0),
            (&[&["register", &service], &bulk[..], &["--force", "--json"]].concat(), 0),
            (&["renew", &service, "--folder", "me"], 1),
            (&["exchange", &service, "--token-file", "bad.token", "--save", "no.token"], 1),
            (&["exchange", &service, "--token-file", "entra.token", "--save", "ccm.token"], 0),
        ] {
            self.client(args, status);
        }
        let intranet = format!("http://{}", self.roles.as_mut().unwrap()[1].token_service());
        let inside = ["client", "register", &intranet, "--folder", "inside"];
        self.relay(&inside, 0);
        for name in ["me/client.token", "ccm.token", "inside/client.token"] {
            let token = fs::read_to_string(self.home.path().join(name)).unwrap();
            self.secrets.add_token(&token);
        }
    }

    /// Asks the site role with everything that a client can show.
    fn show_everything(&mut self) {
        let device = ["--certificate", "device/link.pem", "--key", "device/link-key.pem"];
        let own = ["--certificate", "me/client.pem", "--key", "me/client-key.pem"];
        let by_hand = ["--token-file", "me/client.token", "--sign"];
        for (path, shows, status) in [
            ("/x", &["--folder", "me"][..], 0),
            ("/x", &["--folder", "me", "--sign"], 0),
            ("/x", &["--folder", "me", "--sign", "--http1", "--json"], 0),
            ("/x", &[&by_hand[..], &own].concat(), 0),
            ("/x", &["--token-file", "me/client.token"], 1),
            ("/x", &[&["--token-file", "me/client.token"], &device[..]].concat(), 0),
            ("/x", &device, 0),
            ("/x", &own, 1),
            ("/x", &["--token-file", "bulk.token"], 1),
            ("/x", &["--token-file", "bad.token"], 1),
            ("/x", &["--token-file", "bad.token", "--http1", "--json"], 1),
            ("/x", &["--token-file", "entra.token"], 0),
            ("/x", &["--token-file", "ccm.token"], 0),
            ("/repeats", &["--folder", "me", "--sign"], 1),
            ("/repeats", &["--token-file", "ccm.token", "--json"], 1),
        ] {
            let url = self.url(HTTPS_ROLE, &format!("/SMS_MP{path}"));
            self.client(&[&["request", "GET", &url], shows].concat(), status);
        }
        let url = self.url(HTTPS_ROLE, "/CCM_Client/file");
        self.client(&["download", &url, "file", "--folder", "me"], 0);
        for asked in self.origin.seen() {
            for value in FIELDS.map(|name| asked.header(name)).iter().filter(|it| !it.is_empty()) {
                self.secrets.add(value.rsplit(' ').next().unwrap().as_bytes());
            }
        }
    }

    /// Does what an administrator does meanwhile.
    fn administer(&mut self, bulk: &str) {
        self.relay(&["token", "rotate", "--config", CONFIG], 0);
        self.gateway().wait_for_log("settings applied", 2);
        let again = self.issue("again.token");
        for asked in [
            &["signers"][..],
            &["signers", "--json"],
            &["list"],
            &["list", "--json"],
            &["clients"],
            &["clients", "--json"],
            &["block", bulk],
            &["unblock", bulk, "--json"],
            &["block", &again],
        ] {
            self.relay(&[&["token"], asked, &["--config", CONFIG]].concat(), 0);
        }
        let admins = self.roles.as_mut().unwrap().each_mut().map(|it| it.admin().to_string());
        for admin in &admins {
            for path in SHOWN {
                self.heard.0.push(crate::admin::get(admin.parse().unwrap(), path));
            }
            for asked in [&["status"][..], &["status", "--json"], &["log", "--json"]] {
                self.relay(&[asked, &["--admin", admin]].concat(), 0);
            }
        }
        for args in [
            ["gateway", "--config", "site/gateway-1/gateway.toml", "--check"],
            ["connection-point", "--config", CONFIG, "--check"],
        ] {
            self.relay(&args, 0);
        }
    }

    /// A log of all that is secret, in the ways in which somebody may write it, beside these lines.
    /// It is kept apart from the site's own files.
    fn tell_everything(&self, lines: &[String], log: &Path) {
        let mut told = lines.join("\n");
        for path in files(self.home.path()).iter().filter(|it| is_for_secrets(it)) {
            let held = fs::read_to_string(path).unwrap();
            let (escaped, line) = (held.replace('\n', "\\n"), held.replace('\n', ""));
            // A word that nothing tells from others.
            if !path.ends_with("store-password") {
                told = format!("{told}\n{held}\n{{\"level\":\"ERROR\",\"held\":\"{escaped}\"}}\n");
            }
            told = format!(
                "{told}\n\
                 Authorization: Bearer {line}\n{{\"authorization\":\"Bearer {line}\"}}\n\
                 GET https://a:{line}@b/x?pid=P&sig={line} password={line}\n"
            );
        }
        // Not what nobody has kept, nor octets that are no text.
        let is_told = |it: &&Vec<u8>| str::from_utf8(it).is_ok_and(|part| told.contains(part));
        assert!(self.secrets.0.iter().filter(is_told).count() * 2 > self.secrets.0.len());
        fs::write(log, told).unwrap();
    }

    /// Has bundles made about both roles, and looks through every member.
    fn collect_of_both(&mut self, when: &str, admins: &[String; 2], lines: &[String]) {
        self.collect(when, ("site/gateway-1/gateway.toml", &admins[0]), lines);
        self.collect(when, (CONFIG, &admins[1]), lines);
    }

    /// Has a bundle made about the role with this file, which is administered there.
    fn collect(&mut self, when: &str, (file, admin): (&str, &str), lines: &[String]) {
        let apart = tempfile::tempdir().unwrap();
        let log = apart.path().join("log");
        self.tell_everything(lines, &log);
        let log = log.to_str().unwrap();
        let bundle = apart.path().join("bundle.tar.gz");
        let output = bundle.to_str().unwrap();
        let args = ["doctor", "--config", file, "--log", log, "--output", output];
        self.relay(&[&args[..], &["--admin", admin]].concat(), 0);
        let members = members(&bundle);
        assert!(members.len() >= 11, "{when}: {}", members.len());
        for (name, text) in members {
            assert_eq!(self.secrets.within(text.as_bytes()), None, "{when}, {file}: {name}");
            assert!(!text.contains(MARK), "{when}, {file}: {name}");
            let is_whole = text.contains("[veiled]") && text.contains("ERROR");
            assert!(name != "log.txt" || is_whole, "{text:.2000}");
        }
    }

    /// A file that is broken, with passwords where they should not be.
    fn collect_of_a_broken_file(&mut self) {
        self.site.edit("connection-point/connection-point.toml", |text| {
            let url = format!("\n[web_proxy]\nurl = \"http://relay:{MARK}@proxy.invalid:3128\"\n");
            text + &url + &format!("password = {MARK}\npassword_file = \"{MARK}\n# {MARK}\n")
        });
        let lines = [format!("cannot read {MARK}: no such file; the proxy takes no {MARK}")];
        self.collect("while its file is broken", (CONFIG, "127.0.0.1:9"), &lines);
    }

    /// Ends the roles, and looks through all that was said and everything that is kept.
    fn look_through(mut self) {
        self.secrets.add_keys(self.home.path());
        let admins = self.roles.as_mut().unwrap().each_mut().map(|it| it.admin().to_string());
        self.collect_of_both("while both run", &admins, &[]);
        for role in self.roles.take().unwrap() {
            let command_line = role.command_line();
            assert!(command_line.contains("--config"), "{command_line}");
            self.heard.0.push(command_line);
            let (status, lines) = role.stop();
            assert_eq!(status, Some(0));
            assert!(lines.iter().any(|line| line.contains("\"TRACE\"")), "all was logged");
            self.heard.0.extend(lines);
        }
        let keys = self.secrets.add_keys(self.home.path());
        assert!(keys >= 9, "of the authority, the roles, the signers, the clients: {keys}");
        for text in &self.heard.0 {
            assert_eq!(self.secrets.within(text.as_bytes()), None, "{text:.2000}");
        }
        let mut held = 0;
        for path in files(self.home.path()) {
            let found = self.secrets.within(&fs::read(&path).unwrap());
            assert_eq!(found.is_some(), is_for_secrets(&path), "{}: {found:?}", path.display());
            held += usize::from(found.is_some());
        }
        assert!(held >= keys + 7, "and seven tokens: {held}");
        let lines = self.heard.0.clone();
        self.collect_of_both("while both are down", &admins, &lines);
        self.collect_of_a_broken_file();
    }
}

/// Has everything happen at a site with these lines more in `[tokens]`, in this folder.
fn run(home: TempDir, store: &str) {
    let mut place = Place::new(home, store);
    let bulk = place.issue("bulk.token");
    place.start();
    place.come_to_the_token_service();
    place.show_everything();
    place.administer(&bulk);
    assert_eq!(place.origin.seen().len(), 11, "the others were refused at the gateway");
    place.look_through();
}

#[test]
fn no_credential_is_in_what_is_said_at_level_trace_or_kept_where_it_is_not_for() {
    run(tempfile::tempdir().unwrap(), "");
}

#[cfg(feature = "postgres")]
#[test]
fn nor_is_the_password_of_the_database_or_what_it_is_refused_with() {
    use crate::support::postgres::Postgres;

    let Some(mut postgres) = Postgres::start() else { return };
    postgres.make("site");
    postgres.sql("site", &format!("ALTER USER relay PASSWORD '{MARK}{MARK}'"));
    postgres.put("pg_hba.conf", "local all all scram-sha-256\n");
    postgres.crash();
    postgres.start_again();
    let home = tempfile::tempdir().unwrap();
    let file = secret(home.path(), "store-password", "");
    let store = format!(
        "store = \"{}\"\nstore_password_file = \"{}\"\n",
        postgres.url("site"),
        file.display()
    );
    let mut place = Place::new(home, &store);
    place.secrets.add(format!("{MARK}{MARK}").as_bytes());
    place.secrets.add(format!("{MARK} of another").as_bytes());
    fs::write(&file, format!("{MARK} of another")).unwrap();
    place.relay(&["token", "new", "--config", CONFIG], 1);
    fs::write(&file, format!("{MARK}{MARK}")).unwrap();
    let bulk = place.issue("bulk.token");
    place.start();
    place.come_to_the_token_service();
    place.administer(&bulk);
    place.look_through();
}
