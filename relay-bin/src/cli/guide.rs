//! Every command of the operator's guide, and of what is shipped to run the program, is one that it
//! takes.

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser as _};

use super::{Cli, with_all_below};
use crate::exit::STATUSES;

const GUIDE: &str = include_str!("../../GUIDE.md");

/// The units of systemd.
const UNITS: [&str; 2] = [
    include_str!("../../dist/relay-gateway.service"),
    include_str!("../../dist/relay-connection-point.service"),
];

const CONTAINERFILE: &str = include_str!("../../dist/Containerfile");

/// The guide's lines, each with whether it stands in a block of shell commands; `None` for those of
/// other blocks.
fn lines() -> impl Iterator<Item = (&'static str, bool)> {
    let mut block = None;
    GUIDE.lines().filter_map(move |line| {
        if let Some(language) = line.strip_prefix("```") {
            block = block.is_none().then_some(language);
            return None;
        }
        match block {
            None => Some((line, false)),
            Some("sh") => Some((line, true)),
            Some(_) => None,
        }
    })
}

/// The commands of all blocks, each in one line.
fn commands() -> Vec<String> {
    let mut commands = Vec::new();
    let mut begun = String::new();
    for (line, _) in lines().filter(|(_, is_shell)| *is_shell) {
        match line.strip_suffix('\\') {
            Some(part) => begun.push_str(part),
            None => commands.push(std::mem::take(&mut begun) + line),
        }
    }
    assert!(begun.is_empty(), "a command goes on behind its block: {begun}");
    commands
}

/// The words of a command up to a comment or a pipe. Quotes and spaces are all that the guide uses
/// of a shell.
fn words(command: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in command.chars() {
        match quote {
            Some(open) if c == open => quote = None,
            None if c == '\'' || c == '"' => {
                quote = Some(c);
                word = Some(word.unwrap_or_default());
            }
            None if word.is_none() && matches!(c, '#' | '|') => break,
            None if c == ' ' => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// A command of this program, whoever runs it.
fn of_relay(command: &str) -> Option<&str> {
    let command = command.strip_prefix("sudo ").unwrap_or(command);
    let command = command.strip_prefix("-u relay ").unwrap_or(command);
    command.starts_with("relay ").then_some(command)
}

/// Why the program does not take a command; it is not run.
fn refused(command: &str) -> Option<String> {
    let error = Cli::try_parse_from(words(command)).err()?;
    let is_asked_for = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    (!is_asked_for).then(|| error.to_string())
}

/// The first of the words behind a command's name that it does not know: a command below it, or a
/// long option. What an argument is to be is left out in a sentence, so it is not judged.
fn unknown<'a>(command: &clap::Command, words: &[&'a str]) -> Option<&'a str> {
    let first = words.first().copied()?;
    if command.has_subcommands() {
        return match command.find_subcommand(first) {
            Some(below) => unknown(below, &words[1..]),
            None => Some(first),
        };
    }
    let is_known = |long: &str| command.get_arguments().any(|it| it.get_long() == Some(long));
    let mut words = words.iter().copied();
    words.find(|it| it.strip_prefix("--").is_some_and(|long| !is_known(long)))
}

#[test]
fn every_command_of_the_guide_is_one_that_the_program_takes() {
    let commands = commands();
    let ours: Vec<_> = commands.iter().filter_map(|command| of_relay(command)).collect();
    assert!(ours.len() > 40, "the guide is read: {}", ours.len());
    let refused: Vec<_> = ours
        .into_iter()
        .filter_map(|command| refused(command).map(|why| format!("{command}\n{why}")))
        .collect();
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}

#[test]
fn every_command_that_the_guide_names_in_a_sentence_is_there_with_its_options() {
    let program = Cli::command();
    let sentences = lines().filter(|(_, is_shell)| !is_shell);
    let spans = sentences.flat_map(|(line, _)| line.split('`').skip(1).step_by(2));
    let mut count = 0;
    for span in spans {
        let Some(rest) = span.strip_prefix("relay ") else { continue };
        let words: Vec<_> = rest.split_whitespace().collect();
        assert_eq!(unknown(&program, &words), None, "`{span}`");
        count += 1;
    }
    assert!(count > 20, "the guide is read: {count}");
}

#[test]
fn every_command_of_the_units_is_one_that_the_program_takes() {
    for unit in UNITS {
        let lines = unit.lines().filter(|line| line.starts_with("Exec"));
        let commands = lines.filter_map(|line| of_relay(line.split_once('=')?.1));
        let commands: Vec<_> = commands.collect();
        assert_eq!(commands.len(), 2, "what it starts, and what judges the file at a reload");
        for command in commands {
            assert_eq!(refused(command), None, "{command}");
        }
    }
}

#[test]
fn every_command_of_the_images_is_one_that_the_program_takes() {
    let arrays = CONTAINERFILE.lines().filter_map(|line| line.find('[').map(|at| &line[at..]));
    let arrays = arrays.filter(|array| array.starts_with("[\"relay\""));
    let commands: Vec<Vec<String>> =
        arrays.map(|array| serde_json::from_str(array).expect("an array of words")).collect();
    assert_eq!(commands.len(), 4, "each role is started, and asked how it is");
    for command in commands {
        assert_eq!(refused(&command.join(" ")), None, "{command:?}");
    }
}

/// The statuses of a command's help, behind its heading.
fn statuses_of_help(command: &clap::Command) -> Vec<u8> {
    let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let Some((_, section)) = help.split_once("Exit status:\n") else { return Vec::new() };
    let first_words = section.lines().map(|line| line.split_whitespace().next());
    first_words.map_while(|word| word?.parse().ok()).collect()
}

#[test]
fn the_guide_and_each_help_tell_of_the_statuses_that_there_are_and_of_no_other() {
    let known = STATUSES.map(|(status, _)| status);
    for (status, means) in STATUSES {
        assert!(GUIDE.contains(&format!("\n| {status} | {means}")), "{status} in the guide");
    }
    let (_, section) = GUIDE.split_once("\n## Exit statuses\n").expect("the guide has it");
    let (section, _) = section.split_once("\n## ").expect("it is not the last one");
    let rows = section.lines().filter_map(|line| line.strip_prefix("| ")?.split(' ').next());
    let told: Vec<u8> = rows.filter_map(|word| word.parse().ok()).collect();
    assert_eq!(told, known, "of the guide");

    let mut program = Cli::command();
    program.build();
    assert_eq!(statuses_of_help(&program), known, "of the program's own help");
    let commands = with_all_below(program);
    let told: Vec<_> = commands.iter().map(|it| (it.get_name(), statuses_of_help(it))).collect();
    assert!(told.iter().filter(|(_, statuses)| !statuses.is_empty()).count() > 3, "{told:?}");
    for (name, statuses) in told {
        assert!(statuses.iter().all(|it| known.contains(it)), "{name}: {statuses:?}");
    }
}

#[test]
fn a_command_that_the_program_does_not_take_is_found() {
    assert!(refused("relay statsu").is_some());
    assert!(refused("relay status --config a --admin 127.0.0.1:1").is_some());
    assert!(refused("relay status").is_some(), "it is not said whom to ask");
    assert_eq!(refused("relay status --config 'a b' # | c"), None);
    assert_eq!(unknown(&Cli::command(), &["token", "lst"]), Some("lst"));
    assert_eq!(unknown(&Cli::command(), &["token", "new", "--life"]), Some("--life"));
    assert_eq!(unknown(&Cli::command(), &["token", "new", "--lifetime"]), None);
}
