//! What `relay completions` prints, as bash reads it. No package of completions takes part.

use std::fs;
use std::path::Path;
use std::process::Command;

use assert_cmd::Command as Relay;

use crate::support::{missing, tools_are_required};

/// Completes the last of the words behind the script's path, and prints what there is for it.
// Source: bash(1), "Programmable Completion": what a function is given and where it answers.
const COMPLETE: &str = "\
source \"$1\"; shift
COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1))
function=$(complete -p relay); function=${function##*-F }; function=${function%% *}
\"$function\" relay \"${COMP_WORDS[COMP_CWORD]}\" \"${COMP_WORDS[COMP_CWORD - 1]}\"
printf '%s\\n' \"${COMPREPLY[@]}\"
";

/// A bash that reads no file of its own accord.
fn bash(folder: &Path) -> Command {
    let mut bash = Command::new("bash");
    bash.args(["--noprofile", "--norc"]).current_dir(folder).env_remove("BASH_ENV");
    bash
}

/// What bash has for the last of `words`.
fn completed(folder: &Path, words: &[&str]) -> Vec<String> {
    let mut bash = bash(folder);
    let done = bash.args(["-c", COMPLETE, "bash", "relay.bash"]).args(words).output().unwrap();
    let said = String::from_utf8(done.stderr).unwrap();
    assert!(done.status.success() && said.is_empty(), "{words:?}: {said}");
    let out = String::from_utf8(done.stdout).unwrap();
    out.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[test]
fn bash_completes_commands_options_fixed_values_and_files() {
    let missing = missing(&[("bash", "--version")]);
    if !missing.is_empty() {
        assert!(!tools_are_required(), "not installed: {missing:?}");
        eprintln!("skipped: {missing:?} cannot be started");
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let folder = home.path();
    let mut relay = Relay::new(env!("CARGO_BIN_EXE_relay"));
    let printed = relay.args(["completions", "bash"]).assert().success().get_output().clone();
    assert!(printed.stderr.is_empty());
    fs::write(folder.join("relay.bash"), printed.stdout).unwrap();
    fs::write(folder.join("gateway.toml"), "").unwrap();
    let judged = bash(folder).args(["-n", "relay.bash"]).output().unwrap();
    assert!(judged.status.success() && judged.stderr.is_empty(), "{judged:?}");

    let completed = |words: &[&str]| completed(folder, words);
    assert_eq!(completed(&["relay", "gate"]), ["gateway"]);
    assert_eq!(completed(&["relay", "gateway", "--con"]), ["--config"]);
    assert_eq!(completed(&["relay", "connection-point", "--con"]), ["--config"]);
    assert_eq!(completed(&["relay", "token", "ne"]), ["new"]);
    assert_eq!(completed(&["relay", "token", "new", "--lif"]), ["--lifetime"]);
    assert_eq!(completed(&["relay", "completions", "z"]), ["zsh"]);
    assert_eq!(completed(&["relay", "gateway", "--config", "gate"]), ["gateway.toml"]);
    assert_eq!(completed(&["relay", "statsu"]), [""; 0]);
    assert_eq!(completed(&["relay", "gateway", "--lifetime"]), [""; 0]);
}

#[test]
fn a_shell_that_is_not_known_is_a_wrong_command_line_and_the_known_are_named() {
    let mut relay = Relay::new(env!("CARGO_BIN_EXE_relay"));
    let refused = relay.args(["completions", "csh"]).assert().code(2).get_output().clone();
    assert!(refused.stdout.is_empty());
    let said = String::from_utf8(refused.stderr).unwrap();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        assert!(said.contains(shell), "{said}");
    }
}
