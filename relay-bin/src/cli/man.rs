//! `relay man`: a manual page for each command.
//!
//! A page is made of the command's own help, so that the two say the same. What clap knows of a
//! command is laid out by `clap_mangen`; what stands below its help is text, and is laid out here:
//! [`below_help`] says how it has to be written.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::builder::Resettable;
use clap::{Command, CommandFactory as _};
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, roman};

use super::Cli;
use crate::console::say;
use crate::exit::Failure;

/// Shown below the help.
pub(crate) const EXAMPLES: &str = "\
Examples:
  For everybody on this machine:
    sudo relay man --out /usr/local/share/man/man1
  Read one without that:
    relay man --out pages
    man ./pages/relay-token-new.1

A page of the same name is replaced; whatever else is in the folder stays as it is.";

/// Arguments of `relay man`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The folder for the pages. It is made if it is not there.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

/// `relay man`.
///
/// # Errors
///
/// If the folder cannot be made or a page not written. Pages before that one are there.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let count = write(&args.out).map_err(Failure::Runtime)?;
    say(&format!("{count} pages written to {}", args.out.display()));
    Ok(())
}

/// Writes all pages, and says how many these are.
fn write(folder: &Path) -> anyhow::Result<usize> {
    fs::create_dir_all(folder)
        .with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let pages = pages();
    for page in &pages {
        let path = folder.join(format!("{}.1", page.name));
        fs::write(&path, &page.text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(pages.len())
}

/// A manual page of section 1.
struct Page {
    /// The words of the command with hyphens between, as `man` takes it.
    name: String,
    text: Vec<u8>,
}

/// The pages of all commands, the program's own first.
fn pages() -> Vec<Page> {
    // `relay help` has nothing to say beyond the pages.
    let mut program = Cli::command().disable_help_subcommand(true);
    program.build();
    let mut pages = Vec::new();
    add_pages(&program, &[], &mut pages);
    pages
}

/// Adds the page of a command and of all below it. `above` are the names of the pages above it,
/// the nearest first.
fn add_pages(command: &Command, above: &[&str], pages: &mut Vec<Page>) {
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    pages.push(Page { name: name.to_owned(), text: text(command, name, above) });
    let above: Vec<_> = [name].into_iter().chain(above.iter().copied()).collect();
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        add_pages(below, &above, pages);
    }
}

/// The page of a command.
fn text(command: &Command, name: &str, above: &[&str]) -> Vec<u8> {
    let version = command.get_version().unwrap_or_default();
    // What is below the help would be one paragraph of running text, and the version is in the
    // page's foot.
    let bare = command.clone().after_help(Resettable::Reset).version(Resettable::Reset);
    let man = Man::new(bare).title(name.to_uppercase());
    // No date is written as two quotes: what is empty would have the source be taken for it.
    let man = man.date("\"\"").source(format!("relay {version}"));
    let mut rest = Roff::new();
    let below = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    below_help(&mut rest, &below);
    if !below.contains(EXIT_STATUS) {
        rest.control("SH", ["EXIT STATUS"]).text([roman("As of "), bold("relay"), roman("(1).")]);
    }
    if !above.is_empty() {
        let pages: Vec<_> = above.iter().map(|page| format!("{page}(1)")).collect();
        rest.control("SH", ["SEE ALSO"]).text([roman(pages.join(", "))]);
    }
    let mut text = Vec::new();
    man.render(&mut text)
        .and_then(|()| rest.to_writer(&mut text))
        .expect("a Vec takes whatever is written to it");
    text
}

/// The heading of what a command ends with.
const EXIT_STATUS: &str = "Exit status:\n";

/// Lays out what stands below a help. Paragraphs are set apart by blank lines, and a heading is the
/// first line of one. In examples two spaces stand before what a command is for, and elsewhere
/// before an item: a word, two spaces or more, and what it means. Four or more stand before a
/// command, or a further line of an item.
fn below_help(roff: &mut Roff, text: &str) {
    let mut has_notes = false;
    for paragraph in text.split("\n\n").filter(|paragraph| !paragraph.is_empty()) {
        if let Some(examples) = paragraph.strip_prefix("Examples:\n") {
            roff.control("SH", ["EXAMPLES"]);
            lines(roff, examples, Part::Examples);
        } else if let Some(statuses) = paragraph.strip_prefix(EXIT_STATUS) {
            roff.control("SH", ["EXIT STATUS"]);
            lines(roff, statuses, Part::Other);
        } else {
            let (macro_name, heading) =
                if has_notes { ("PP", None) } else { ("SH", Some("NOTES")) };
            roff.control(macro_name, heading);
            lines(roff, paragraph, Part::Other);
            has_notes = true;
        }
    }
}

/// Where a line stands.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    Examples,
    Other,
}

/// What a line is.
#[derive(Clone, Copy, PartialEq)]
enum Shape {
    /// Running text.
    Prose,
    /// The first line of an item, or a further one.
    Item,
    /// Typed as it stands.
    Typed,
}

/// Lays out the lines of a paragraph.
fn lines(roff: &mut Roff, paragraph: &str, part: Part) {
    let mut before = None;
    for line in paragraph.lines() {
        let words = line.trim_start();
        let indent = line.len() - words.len();
        let shape = match (indent, part, before) {
            (4.., _, Some(Shape::Item)) | (1..4, Part::Other, _) => Shape::Item,
            (4.., _, _) => Shape::Typed,
            _ => Shape::Prose,
        };
        turn(roff, before, shape);
        match (shape, words.split_once("  ")) {
            (Shape::Item, Some((word, meaning))) if indent < 4 => {
                roff.control("TP", []).text([bold(word)]);
                roff.text(inline(meaning.trim_start()));
            }
            // What is indented further goes on with the line before.
            (Shape::Typed, _) => drop(roff.text([roman(&line[4..])])),
            _ => drop(roff.text(inline(words))),
        }
        before = Some(shape);
    }
    if before == Some(Shape::Typed) {
        roff.control("fi", []).control("RE", []);
    }
}

/// Ends what the line before was, and begins what this one is, where they differ.
fn turn(roff: &mut Roff, before: Option<Shape>, now: Shape) {
    if before == Some(now) {
        return;
    }
    if before == Some(Shape::Typed) {
        roff.control("fi", []).control("RE", []);
    }
    match (before, now) {
        (_, Shape::Typed) => drop(roff.control("RS", ["4"]).control("nf", [])),
        (Some(_), Shape::Prose) => drop(roff.control("PP", [])),
        _ => {}
    }
}

/// A line with what stands between backquotes in bold: terminals would show these as two different
/// quotes. One whose other end is on another line stays.
fn inline(line: &str) -> Vec<Inline> {
    let parts: Vec<_> = line.split('`').collect();
    if parts.len().is_multiple_of(2) {
        return vec![roman(line)];
    }
    let parts = parts.into_iter().enumerate().filter(|(_, part)| !part.is_empty());
    parts.map(|(at, part)| if at.is_multiple_of(2) { roman(part) } else { bold(part) }).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::cli::with_all_below;
    use crate::exit::STATUSES;

    /// The pages by name, without what is said to whoever sets the type.
    fn plain() -> BTreeMap<String, String> {
        let plain = |page: Page| {
            let text = String::from_utf8(page.text).expect("UTF-8");
            let text = text.replace("\\fB", "").replace("\\fI", "").replace("\\fR", "");
            let text = text.replace("\\*(Aq", "'").replace("\\&", "").replace("\\-", "-");
            (page.name, text.replace("\\\\", "\\"))
        };
        pages().into_iter().map(plain).collect()
    }

    /// All commands, each with the name of its page.
    fn commands() -> Vec<(String, Command)> {
        let mut program = Cli::command().disable_help_subcommand(true);
        program.build();
        let named = |command: Command| {
            let words = command.get_bin_name().unwrap_or("relay").replace(' ', "-");
            (words, command)
        };
        with_all_below(program).into_iter().map(named).collect()
    }

    /// The lines of a page's section.
    fn section<'a>(page: &'a str, heading: &str) -> Vec<&'a str> {
        let lines = page.lines().skip_while(|line| *line != format!(".SH {heading}")).skip(1);
        lines.take_while(|line| !line.starts_with(".SH ")).collect()
    }

    #[test]
    fn each_command_has_a_page_with_its_options_and_the_names_of_those_below() {
        let pages = plain();
        let commands = commands();
        assert_eq!(pages.len(), commands.len(), "{:?}", pages.keys());
        assert!(pages.len() > 30 && pages.contains_key("relay-token-new"), "{:?}", pages.keys());
        for (name, command) in commands {
            let page = &pages[&name];
            let options = section(page, "OPTIONS").join("\n");
            for option in command.get_arguments().filter_map(clap::Arg::get_long) {
                assert!(options.contains(&format!("--{option}")), "{name}: --{option}");
            }
            let below = section(page, "SUBCOMMANDS");
            for command in command.get_subcommands() {
                let line = format!("{name}-{}(1)", command.get_name());
                assert!(below.contains(&&*line), "{name}: {line}");
            }
        }
    }

    #[test]
    fn the_page_of_the_program_has_each_status_and_what_it_means() {
        let pages = plain();
        let rows = STATUSES.map(|(status, means)| format!(".TP\n{status}\n{means}\n"));
        assert_eq!(section(&pages["relay"], "\"EXIT STATUS\"").join("\n") + "\n", rows.concat());
        for (name, page) in &pages {
            assert!(!section(page, "\"EXIT STATUS\"").is_empty(), "{name}");
        }
    }

    #[test]
    fn nothing_that_stands_below_a_help_is_lost() {
        let pages = plain();
        let mut count = 0;
        for (name, command) in commands() {
            let below = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let headings = ["Examples:", "Exit status:"];
            for line in below.lines().filter(|line| !headings.contains(line)) {
                let line = line.replace('`', "");
                let (indent, parts) = (line.len() - line.trim_start().len(), line.trim_start());
                let parts = if indent == 2 { parts.split("  ").collect() } else { vec![parts] };
                for part in parts.into_iter().map(str::trim) {
                    assert!(pages[&name].replace('`', "").contains(part), "{name}: {part}");
                }
                count += 1;
            }
        }
        assert!(count > 200, "helps are read: {count}");
    }

    #[test]
    fn examples_items_and_prose_are_laid_out_each_in_its_way() {
        let mut roff = Roff::new();
        let text = "\
Examples:
  For `this`,
  and that:
    relay a \\
      --b 'c'
  More:
    relay d

Prose of `x`
in two lines:
    #:typed
.And on.

Checks:
  1  the first,
     and more of it
  2  the second
End.

Exit status:
  78  it is wrong";
        below_help(&mut roff, text);
        let page = "\
.SH EXAMPLES
For \\fBthis\\fR,
and that:
.RS 4
.nf
relay a \\\\
  \\-\\-b 'c'
.fi
.RE
.PP
More:
.RS 4
.nf
relay d
.fi
.RE
.SH NOTES
Prose of \\fBx\\fR
in two lines:
.RS 4
.nf
#:typed
.fi
.RE
.PP
\\&.And on.
.PP
Checks:
.TP
\\fB1\\fR
the first,
and more of it
.TP
\\fB2\\fR
the second
.PP
End.
.SH \"EXIT STATUS\"
.TP
\\fB78\\fR
it is wrong
";
        assert_eq!(roff.to_roff(), page);
    }
}
