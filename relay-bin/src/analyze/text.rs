//! An analysis for people.

use std::fmt::Write as _;

use super::verdict::{Analysis, Check, Verdict};

/// Whether the text may carry terminal colours.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Colour {
    On,
    Off,
}

const GREEN: &str = "\x1b[32m";
const RED: &str = "\x1b[1;31m";
const YELLOW: &str = "\x1b[33m";
const PLAIN: &str = "\x1b[0m";

/// What every line below a check's own begins with.
const INDENT: &str = "            ";

const PROOF: &str = "writing to a String cannot fail";

/// The whole analysis with its verdict in the last line.
pub(super) fn text(analysis: &Analysis, colour: Colour) -> String {
    let mut text = String::new();
    for check in &analysis.checks {
        push(&mut text, check, colour);
    }
    text.push('\n');
    text.push_str(&line(analysis));
    text
}

/// The verdict in one line.
pub(super) fn line(analysis: &Analysis) -> String {
    let [passed, failed, skipped] =
        [Verdict::Pass, Verdict::Fail, Verdict::Skipped].map(|verdict| analysis.count(verdict));
    let warned = match analysis.warnings() {
        0 => String::new(),
        count => format!(", {count} to be warned of"),
    };
    format!("{}: {passed} passed, {failed} failed, {skipped} skipped{warned}", analysis.url)
}

fn push(text: &mut String, check: &Check, colour: Colour) {
    let (word, tone) = match check.verdict {
        Verdict::Pass => ("pass", GREEN),
        Verdict::Fail => ("FAIL", RED),
        Verdict::Skipped => ("skipped", YELLOW),
    };
    let (tone, plain) = match colour {
        Colour::On => (tone, PLAIN),
        Colour::Off => ("", ""),
    };
    writeln!(text, "{tone}{word:<7}{plain}  {}  {}", check.number, check.title).expect(PROOF);
    if let Some(skipped) = &check.skipped {
        let on = skipped.depends_on.map(|step| format!(" (check {step})")).unwrap_or_default();
        writeln!(text, "{INDENT}because      {}{on}", skipped.because).expect(PROOF);
    }
    for item in &check.evidence {
        let took = item.milliseconds.map(|it| format!(" ({it} ms)")).unwrap_or_default();
        let line = visible(&format!("{}: {}{took}", item.asked, item.came));
        writeln!(text, "{INDENT}{line}").expect(PROOF);
    }
    let causes = check.causes.iter().map(|it| ("likely cause", it));
    for (word, cause) in causes.chain(check.warnings.iter().map(|it| ("warning", it))) {
        let (means, next) = (visible(&cause.means), visible(&cause.next));
        writeln!(text, "{INDENT}{word:<12} {means} [{}]", cause.id).expect(PROOF);
        writeln!(text, "{INDENT}next         {next}").expect(PROOF);
    }
}

/// As a terminal can show it: gateways and roles have said parts of it.
fn visible(text: &str) -> String {
    let safe = |c: char| if c == ' ' || c.is_ascii_graphic() { c } else { '?' };
    text.chars().map(safe).collect()
}

#[cfg(test)]
mod tests {
    use super::super::verdict::{Cause, Item, Judging, Step};
    use super::*;

    fn analysis() -> Analysis {
        let mut good = Judging::of(Step::Service);
        good.saw(Item::new("TCP to 192.0.2.1:443", "taken").took(std::time::Duration::ZERO));
        good.warn(Cause::new("certificate_ends_soon", "it ends", "renew it"));
        let mut bad = Judging::of(Step::Name);
        bad.blame(Cause::new("tls_untrusted", "it is nobody's", "ask somebody"));
        let waits = Judging::of(Step::Version).waits_for(Step::Name, "nobody has told");
        let checks = vec![good.judged(), bad.judged(), waits];
        Analysis::new("https://relay.example".to_owned(), checks)
    }

    #[test]
    fn each_check_says_what_was_seen_why_it_failed_and_what_to_do() {
        let expected = "\
pass     1  the service runs and takes connections
            TCP to 192.0.2.1:443: taken (0 ms)
            warning      it ends [certificate_ends_soon]
            next         renew it
FAIL     2  the name leads to a gateway with the right certificate
            likely cause it is nobody's [tls_untrusted]
            next         ask somebody
skipped  3  every instance has the expected configuration
            because      nobody has told (check 2)

https://relay.example: 1 passed, 1 failed, 1 skipped, \
1 to be warned of";
        assert_eq!(text(&analysis(), Colour::Off), expected);
    }

    #[test]
    fn what_gateways_say_cannot_steer_a_terminal() {
        let mut judging = Judging::of(Step::Name);
        judging.saw(Item::new("ServiceMetadata", "\x1b[2J\u{202e}x\r\n"));
        judging.blame(Cause::new("x", "\x1b[31m", "\u{9b}1m"));
        let analysis = Analysis::new("https://relay.example".to_owned(), vec![judging.judged()]);
        let shown = text(&analysis, Colour::Off);
        assert!(shown.chars().all(|c| c == '\n' || c == ' ' || c.is_ascii_graphic()), "{shown:?}");
        assert!(shown.contains("ServiceMetadata: ?[2J?x??\n"), "{shown:?}");
    }

    #[test]
    fn colour_is_around_the_verdicts_and_nothing_else() {
        let coloured = text(&analysis(), Colour::On);
        assert_eq!(coloured.matches('\x1b').count(), 6);
        let bare = [GREEN, RED, YELLOW, PLAIN];
        let bare = bare.iter().fold(coloured, |text, tone| text.replace(tone, ""));
        assert_eq!(bare, text(&analysis(), Colour::Off));
    }
}
