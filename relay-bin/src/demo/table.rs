//! A report as a table for people or as JSON for machines. Pure: values in, text out.

use std::fmt::Write as _;

use super::session::{Report, Row};

/// Whether the text may carry terminal colours.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Colour {
    /// For a terminal.
    On,
    /// For files, pipes, and those who set `NO_COLOR`.
    Off,
}

const GREEN: &str = "\x1b[32m";
const RED: &str = "\x1b[1;31m";
const BOLD: &str = "\x1b[1m";
const PLAIN: &str = "\x1b[0m";

/// Widest cell, in characters; what is longer is cut and ends in `…`. The evidence is never cut.
const CELL_CHARS_MAX: usize = 46;

const HEADINGS: [&str; 8] = ["", "step", "asked", "instance", "HTTP", "answer", "ms", "evidence"];

/// Which column is numbers, and so aligned to the right.
const NUMERIC: usize = 6;

/// The whole report with its verdict in the last line, ready to print.
pub(crate) fn table(report: &Report, colour: Colour) -> String {
    let rows: Vec<_> = report.steps.iter().map(cells).collect();
    let widths: [usize; HEADINGS.len()] = std::array::from_fn(|column| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([HEADINGS[column].chars().count()]).max().unwrap_or(0)
    });
    let mut text = String::new();
    push_line(&mut text, &HEADINGS.map(str::to_owned), &widths, paint(BOLD, colour));
    for (row, step) in rows.iter().zip(&report.steps) {
        let tone = if step.passed { "" } else { paint(RED, colour) };
        push_line(&mut text, row, &widths, tone);
    }
    text.push('\n');
    text.push_str(&verdict(report, colour));
    text
}

/// The verdict alone, with a line end.
pub(crate) fn verdict(report: &Report, colour: Colour) -> String {
    let steps = report.steps.len();
    let (tone, verdict) = match (report.passed, report.failed) {
        (true, _) => (GREEN, format!("PASSED: all {steps} steps")),
        (false, 0) => (RED, "FAILED: no step was run".to_owned()),
        (false, failed) => (RED, format!("FAILED: {failed} of {steps} steps")),
    };
    match colour {
        Colour::On => format!("{tone}{verdict}{PLAIN}\n"),
        Colour::Off => format!("{verdict}\n"),
    }
}

/// The report as one JSON document, with a line end.
///
/// # Errors
///
/// Never in practice: a report is strings, numbers and truth values.
pub(crate) fn json(report: &Report) -> serde_json::Result<String> {
    let mut text = serde_json::to_string_pretty(report)?;
    text.push('\n');
    Ok(text)
}

fn cells(row: &Row) -> [String; HEADINGS.len()] {
    [
        if row.passed { "ok" } else { "FAIL" }.to_owned(),
        row.step.to_owned(),
        cut(&row.asked),
        row.instance.clone(),
        row.http.clone(),
        cut(&row.answer),
        row.elapsed_ms.to_string(),
        row.evidence.replace(char::is_control, " "),
    ]
}

/// `text` in one line of at most [`CELL_CHARS_MAX`] characters.
fn cut(text: &str) -> String {
    let text = text.replace(char::is_control, " ");
    if text.chars().count() <= CELL_CHARS_MAX {
        return text;
    }
    let kept: String = text.chars().take(CELL_CHARS_MAX - 1).collect();
    kept + "…"
}

fn paint(tone: &'static str, colour: Colour) -> &'static str {
    match colour {
        Colour::On => tone,
        Colour::Off => "",
    }
}

fn push_line(text: &mut String, cells: &[String], widths: &[usize], tone: &str) {
    let mut line = String::new();
    for (column, (cell, &width)) in cells.iter().zip(widths).enumerate() {
        let written = match column {
            NUMERIC => write!(line, "{cell:>width$}  "),
            _ => write!(line, "{cell:<width$}  "),
        };
        written.expect("writing to a String cannot fail");
    }
    let end = if tone.is_empty() { "" } else { PLAIN };
    text.push_str(tone);
    text.push_str(line.trim_end());
    text.push_str(end);
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(asked: &str, passed: bool) -> Row {
        Row {
            step: "policy",
            asked: asked.into(),
            instance: "1".into(),
            http: "1.1".into(),
            answer: "200 OK".into(),
            evidence: "as sent\nand more".into(),
            elapsed_ms: 7,
            passed,
        }
    }

    fn report(steps: Vec<Row>) -> Report {
        let failed = steps.iter().filter(|row| !row.passed).count();
        Report { passed: failed == 0 && !steps.is_empty(), failed, steps }
    }

    #[test]
    fn columns_line_up_and_the_verdict_comes_last() {
        let report = report(vec![row("GET /a", true), row("PROPFIND /longer", false)]);
        assert_eq!(
            table(&report, Colour::Off),
            "      step    asked             instance  HTTP  answer  ms  evidence\n\
             ok    policy  GET /a            1         1.1   200 OK   7  as sent and more\n\
             FAIL  policy  PROPFIND /longer  1         1.1   200 OK   7  as sent and more\n\
             \n\
             FAILED: 1 of 2 steps\n"
        );
    }

    #[test]
    fn colours_appear_only_when_asked_for() {
        let report = report(vec![row("GET /a", true), row("GET /b", false)]);
        assert!(!table(&report, Colour::Off).contains('\x1b'));
        assert!(table(&report, Colour::On).contains(RED));
    }

    #[test]
    fn a_report_without_steps_has_not_passed() {
        assert_eq!(verdict(&report(Vec::new()), Colour::Off), "FAILED: no step was run\n");
        assert_eq!(
            verdict(&report(vec![row("GET /", true)]), Colour::Off),
            "PASSED: all 1 steps\n"
        );
    }

    #[test]
    fn long_cells_are_cut_by_characters_and_not_within_one() {
        assert_eq!(cut(&"é".repeat(CELL_CHARS_MAX)), "é".repeat(CELL_CHARS_MAX));
        let long = cut(&"é".repeat(CELL_CHARS_MAX + 1));
        assert_eq!((long.chars().count(), long.ends_with('…')), (CELL_CHARS_MAX, true));
    }

    #[test]
    fn json_has_the_verdict_and_every_step() {
        let text = json(&report(vec![row("GET /a", true)])).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["passed"], true);
        assert_eq!(value["steps"][0]["answer"], "200 OK");
        assert_eq!(value["steps"][0]["elapsed_ms"], 7);
    }
}
