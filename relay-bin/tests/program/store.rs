//! What befalls the store of a site: crashes, a full disk, one that may not be written, other
//! processes, damage. `relay token` as an administrator runs it, against the file itself.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use tempfile::TempDir;

const CONFIG: &str = "site/connection-point/connection-point.toml";
const TOKENS: &str = "site/connection-point/tokens";

/// A site that has made tokens.
struct Home {
    folder: TempDir,
    /// Of its tokens.
    guids: Vec<String>,
}

impl Home {
    fn new(tokens: usize) -> Self {
        let mut home = Self { folder: tempfile::tempdir().unwrap(), guids: Vec::new() };
        let init = ["init", "site", "--backend", "http://127.0.0.1:9"];
        assert!(home.relay(&init).status.success());
        home.guids = (0..tokens).map(|_| home.new_token()).collect();
        home
    }

    fn relay(&self, args: &[&str]) -> Output {
        self.command(Command::new(env!("CARGO_BIN_EXE_relay")), args)
    }

    fn command(&self, mut command: Command, args: &[&str]) -> Output {
        command.args(args).current_dir(self.folder.path()).stdin(Stdio::null()).output().unwrap()
    }

    fn token(&self, args: &[&str]) -> Output {
        self.relay(&[&["token"], args, &["--config", CONFIG]].concat())
    }

    fn new_token(&self) -> String {
        let made = self.token(&["new", "--json"]);
        let made: Value = serde_json::from_slice(&made.stdout).unwrap();
        made["guid"].as_str().unwrap().to_owned()
    }

    /// All tokens that are listed, and whether they are blocked.
    fn listed(&self) -> Vec<(String, bool)> {
        let listed = self.token(&["list", "--json"]);
        assert!(listed.status.success(), "{}", said(&listed));
        states(&listed.stdout)
    }

    fn is_blocked(&self, guid: &str) -> bool {
        self.listed().into_iter().any(|(it, is_blocked)| it == guid && is_blocked)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(TOKENS).join(name)
    }

    /// The whole store as it is.
    fn store(&self) -> Vec<u8> {
        fs::read(self.path("site.db")).unwrap()
    }

    fn put(&self, octets: &[u8]) {
        fs::write(self.path("site.db"), octets).unwrap();
    }
}

fn states(json: &[u8]) -> Vec<(String, bool)> {
    let listed: Value = serde_json::from_slice(json).unwrap();
    let state = |it: &Value| (it["guid"].as_str().unwrap().to_owned(), it["state"] == "blocked");
    listed["tokens"].as_array().unwrap().iter().map(state).collect()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// It has ended with status 1 and this complaint, and has said nothing else.
fn assert_refused(output: &Output, why: &str) {
    assert_eq!(output.status.code(), Some(1), "{}", said(output));
    assert!(said(output).contains(why), "{}", said(output));
    assert_eq!(output.stdout, b"");
}

#[test]
fn a_process_that_dies_at_whatever_it_writes_has_lost_no_block_that_it_has_told_of() {
    let home = Home::new(12);
    let mut acknowledged = Vec::new();
    let mut died = 0;
    // The system ends a process that writes beyond so many half kibioctets of a file: at each
    // page of the log, of what SQLite keeps beside it, and of the store itself.
    for (number, limit) in (0..220).step_by(3).enumerate() {
        let guid = &home.guids[number % home.guids.len()];
        let verb = if (number / home.guids.len()).is_multiple_of(2) { "block" } else { "unblock" };
        let mut shell = Command::new("sh");
        let relay = env!("CARGO_BIN_EXE_relay");
        let limited = format!("ulimit -c 0; ulimit -f {limit}; exec \"$@\"");
        shell.args(["-c", &limited, "sh", relay]);
        let done = home.command(shell, &["token", verb, guid, "--config", CONFIG]);
        let is_told = !done.stdout.is_empty();
        died += usize::from(!is_told);
        let listed = home.listed();
        assert_eq!(listed.len(), home.guids.len());
        if is_told {
            acknowledged.retain(|(it, _)| it != guid);
            acknowledged.push((guid.clone(), verb == "block"));
        } else {
            // It is as it was or as it should be; a whole one either way.
            acknowledged.retain(|(it, _)| it != guid);
        }
        for told in &acknowledged {
            assert!(listed.contains(told), "{told:?} after {verb} with {limit}");
        }
    }
    assert!(10 < died && !acknowledged.is_empty(), "{died} died: {acknowledged:?}");
    let names = fs::read_dir(home.path("")).unwrap().map(|it| it.unwrap().file_name());
    let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
    names.retain(|name| !["site.db-wal", "site.db-shm"].contains(&name.as_str()));
    names.sort();
    assert_eq!(names, ["signing-1.pem", "site.db"], "nothing half made is left");
}

/// What a shell does on a disk of 1 MiB that is the folder of tokens.
const ON_A_SMALL_DISK: &str = r#"
mount -t tmpfs -o size=1m,mode=700 none "$TOKENS" || exit 9
token() { echo "== $*"; "$RELAY" token "$@" --config "$CONFIG"; echo "-- $?"; }
guid=$("$RELAY" token new --json --config "$CONFIG" | sed -n 's/.*"guid": "\(.*\)".*/\1/p')
other=$("$RELAY" token new --json --config "$CONFIG" | sed -n 's/.*"guid": "\(.*\)".*/\1/p')
token block "$guid"
dd if=/dev/zero of="$TOKENS/filler" bs=1k 2>/dev/null
token block "$other" 2>&1
token new 2>&1
rm "$TOKENS/filler"
token list --json
token block "$other"
mount -o remount,ro "$TOKENS" || exit 9
token unblock "$guid" 2>&1
token new 2>&1
token rotate 2>&1
token list --json 2>&1
mount -o remount,rw "$TOKENS" || exit 9
token list --json
ls "$TOKENS"
"#;

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_and_a_read_only_one_are_told_of_and_all_works_again_when_they_are_not() {
    let home = Home::new(0);
    fs::create_dir(home.path("")).unwrap();
    let inside = |script: &str| {
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "--user", "--map-root-user", "sh", "-c", script]);
        unshare.env("TOKENS", home.path("")).env("CONFIG", CONFIG);
        home.command(
            {
                unshare.env("RELAY", env!("CARGO_BIN_EXE_relay"));
                unshare
            },
            &[],
        )
    };
    if !inside("mount -t tmpfs none \"$TOKENS\"").status.success() {
        assert!(
            !crate::support::tools_are_required(),
            "this account may not make mount namespaces"
        );
        println!("skipped: this account may not make mount namespaces");
        return;
    }
    let done = inside(ON_A_SMALL_DISK);
    let shown = String::from_utf8_lossy(&done.stdout);
    assert!(done.status.success(), "{shown}{}", said(&done));
    let steps: Vec<&str> = shown.split("== ").skip(1).collect();
    let status = |step: &str| step.split("\n-- ").nth(1).unwrap().trim().chars().next();
    let refused = |number: usize, why: &str| {
        assert_eq!(status(steps[number]), Some('1'), "{}", steps[number]);
        assert!(steps[number].contains(why), "{}", steps[number]);
    };
    let lists = |number: usize| {
        assert_eq!(status(steps[number]), Some('0'), "{}", steps[number]);
        let json = steps[number].split_once('\n').unwrap().1.split("\n-- ").next().unwrap();
        let blocked = states(json.as_bytes()).into_iter().map(|(_, is_blocked)| is_blocked);
        blocked.fold((0, 0), |(all, blocked), it| (all + 1, blocked + usize::from(it)))
    };
    assert!(steps[0].contains("blocked "), "{}", steps[0]);
    refused(1, "no room is left for the site store");
    refused(2, "no room is left for the site store");
    assert_eq!(lists(3), (2, 1), "what was told holds, and nothing else");
    assert_eq!(status(steps[4]), Some('0'), "there is room again: {}", steps[4]);
    for number in [5, 6, 7] {
        refused(number, "is read-only");
    }
    refused(8, "is read-only");
    assert_eq!(lists(9), (2, 2));
    // Whoever has only read cannot clear away what SQLite keeps beside the file.
    let left = steps[9].split("\n-- 0\n").nth(1).unwrap().lines();
    let left: Vec<_> = left.filter(|name| !name.starts_with("site.db-")).collect();
    assert_eq!(left, ["signing-1.pem", "site.db"]);
}

#[test]
fn a_store_that_another_process_writes_to_for_long_is_told_to_be_locked() {
    let home = Home::new(1);
    let other = rusqlite::Connection::open(home.path("site.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert_refused(&home.token(&["block", &home.guids[0]]), "is locked by another process");
    assert!(!home.is_blocked(&home.guids[0]), "it can be read meanwhile");
    let key = fs::read(home.path("signing-1.pem")).unwrap();
    assert_refused(&home.token(&["rotate"]), "is locked by another process");
    assert!(!home.path("signing-2.pem").exists(), "no key is made that nobody knows of");
    assert_eq!(fs::read(home.path("signing-1.pem")).unwrap(), key, "the one before signs on");
    other.execute_batch("ROLLBACK").unwrap();
    assert!(home.token(&["block", &home.guids[0]]).status.success());
    assert!(home.is_blocked(&home.guids[0]));
}

#[test]
fn damage_anywhere_in_the_store_is_told_of_or_hides_nothing() {
    let home = Home::new(3);
    assert!(home.token(&["block", &home.guids[1]]).status.success());
    let whole = home.store();
    let expected = home.listed();
    let mut told = 0;
    for page in 0..whole.len() / 4096 {
        let mut damaged = whole.clone();
        damaged[page * 4096..][..4096].fill(0xa5);
        home.put(&damaged);
        let listed = home.token(&["list", "--json"]);
        if listed.status.success() {
            assert_eq!(states(&listed.stdout), expected, "page {page}");
            continue;
        }
        told += 1;
        assert_refused(&listed, "is corrupt; restore it from a backup");
        assert_refused(&home.token(&["block", &home.guids[0]]), "is corrupt; restore");
        assert_eq!(home.store(), damaged, "nobody mends it in passing");
    }
    assert!(5 < told, "{told} pages");
    for (octets, why) in [
        (&whole[..4096 * 3], "is corrupt"),
        (&whole[..5000], "is corrupt"),
        (&whole[..50], "is corrupt"),
        (b"", "is corrupt"),
        (b"nothing but text, of which there is enough for a header, though not for a page\n", ""),
    ] {
        home.put(octets);
        for args in [&["list"][..], &["block", &home.guids[0]], &["signers"], &["new"]] {
            assert_refused(&home.token(args), why);
        }
        assert_eq!(home.store(), octets);
    }
    home.put(&whole);
    assert_eq!(home.listed(), expected);
}

#[test]
fn a_key_that_was_stolen_is_distrusted_for_good_and_signs_no_more() {
    let home = Home::new(1);
    let signers = || -> Vec<Value> {
        let shown = home.token(&["signers", "--json"]);
        assert!(shown.status.success(), "{}", said(&shown));
        let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
        shown["signers"].as_array().unwrap().clone()
    };
    let first = signers()[0].clone();
    assert_eq!((&first["state"], &first["own"]), (&"signs".into(), &true.into()));
    let sha256 = first["sha256"].as_str().unwrap();
    for wrong in ["", "00", &sha256[1..], &format!("{sha256}0"), &sha256.replace(['a', '1'], "x")] {
        assert_eq!(home.token(&["distrust", wrong]).status.code(), Some(2), "{wrong}");
    }
    let nobody = home.token(&["distrust", &"0".repeat(64)]);
    assert_refused(&nobody, "no signing certificate of this site has the thumbprint 0000");
    let colons: Vec<_> =
        sha256.as_bytes().chunks(2).map(|it| str::from_utf8(it).unwrap()).collect();
    let distrusted = home.token(&["distrust", &colons.join(":").to_uppercase()]);
    assert!(distrusted.status.success(), "{}", said(&distrusted));
    assert_refused(&home.token(&["new"]), "is distrusted, so no token is signed with it");
    assert!(home.token(&["rotate"]).status.success());
    home.new_token();
    let states: Vec<_> = signers().into_iter().map(|it| it["state"].clone()).collect();
    assert_eq!(states, ["distrusted", "signs"]);
    let again = home.token(&["distrust", sha256, "--json"]);
    let again: Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!(again["changed"], false);
    let text = home.token(&["signers"]);
    assert!(String::from_utf8_lossy(&text.stdout).contains("distrusted since 20"));
}

#[test]
fn a_program_that_knows_no_postgresql_says_so_and_one_that_does_says_what_is_not_there() {
    let home = Home::new(0);
    let config = home.folder.path().join(CONFIG);
    let text = fs::read_to_string(&config).unwrap();
    let store = "folder = \"tokens\"\nstore = \"postgres://relay@%2Fnowhere/site\"\n";
    fs::write(&config, text.replace("folder = \"tokens\"\n", store)).unwrap();
    let is_built_with_it = cfg!(feature = "postgres");
    let why = if is_built_with_it { "cannot be reached" } else { "was built without" };
    for args in [&["list"][..], &["new"], &["signers"]] {
        assert_refused(&home.token(args), why);
    }
    assert_private(&home.path(""));
}

/// No other account may look into it.
fn assert_private(folder: &Path) {
    let mode = fs::metadata(folder).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0, "{mode:o}");
}
