//! `relay completions`: what has a shell complete the command line.
//!
//! It is made of the command line itself, so that it knows the commands, options and fixed values
//! of the program that prints it, and no others. It asks no role anything: the names of links,
//! tokens and packages are not completed.

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::Cli;
use crate::console::say;

/// Shown below the help.
pub(crate) const EXAMPLES: &str = "\
Examples:
  In this bash, or in each one by a line in ~/.bashrc:
    source <(relay completions bash)
  For everybody on this machine, where the package bash-completion is installed:
    relay completions bash |
        sudo install -D -m 0644 /dev/stdin /usr/local/share/bash-completion/completions/relay
  For zsh and fish:
    relay completions zsh |
        sudo install -D -m 0644 /dev/stdin /usr/local/share/zsh/site-functions/_relay
    relay completions fish > ~/.config/fish/completions/relay.fish
  In each PowerShell, by a line in the file that $PROFILE names:
    relay completions powershell | Out-String | Invoke-Expression

Print it anew after each upgrade: it knows the program that has printed it.";

/// Arguments of `relay completions`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// For which shell.
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// `relay completions`.
pub(crate) fn run(args: &Args) {
    say(script(args.shell).trim_end());
}

/// What the shell is to read.
fn script(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "relay", &mut script);
    String::from_utf8(script).expect("it is put together of strings")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::with_all_below;

    /// How the script of a shell offers a command.
    fn offer(shell: Shell, command: &str) -> String {
        match shell {
            Shell::Bash => format!(",{command})\n"),
            Shell::Elvish => format!("cand {command} '"),
            Shell::Fish => format!(" -a \"{command}\" "),
            Shell::PowerShell => format!("CompletionResult]::new('{command}', "),
            Shell::Zsh => format!("\n'{command}:"),
            other => panic!("{other} is new: how does it offer a command?"),
        }
    }

    #[test]
    fn each_shell_is_offered_every_command_and_no_other() {
        let [_program, commands @ ..] = &with_all_below(Cli::command())[..] else {
            panic!("the program has commands");
        };
        assert!(commands.len() > 30, "those below others are among them: {}", commands.len());
        let shells =
            [Shell::Bash, Shell::Elvish, Shell::Fish, Shell::PowerShell, Shell::Zsh].into_iter();
        for (shell, script) in shells.map(|shell| (shell, script(shell))) {
            for command in commands {
                let offered = offer(shell, command.get_name());
                assert!(script.contains(&offered), "{shell}: {}", command.get_name());
            }
            assert!(!script.contains(&offer(shell, "statsu")), "{shell}");
        }
    }
}
